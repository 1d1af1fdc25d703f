//! Properties of documents under hostile input: none is too strange to be read or refused within its bounds.
//!
//! The editor is tried with the same documents, beside it. A few hundred cases of each a run; a longer look is
//! `PROPTEST_CASES=1000000 cargo test --lib instruction::`, and a failure prints the smallest document that shows it.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Document, Instruction, NOUNS_MAX, Noun, read};

/// A document with about everything that is understood.
pub(super) const WHOLE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- whole --><Response>
  <Dial action="/next?a=1&amp;b=2" method="GET" timeout="20" timeLimit="60" callerId="alice" sequential="true" record="x">
    <Client statusCallback="https://a.example/s" statusCallbackEvent="initiated ringing" statusCallbackMethod="GET">
      <Identity>bob &#x1F600;</Identity><Parameter name="k" value="&quot;v&quot;"/>
    </Client>
    <Client>caf&#233; <![CDATA[<&>]]></Client><Sip>sip:x@example.com</Sip>+14155550100
  </Dial>
  <Redirect method='POST'>https://a.example/?a=b&amp;c</Redirect><Reject reason="busy"/><Pause length="2"/><Hangup/>
  <Say voice="alice">hello <break strength="x"/> you</Say><Play loop="2">a.mp3</Play>
  <Sms to="client:a" from="b">text</Sms><Message><Body>text</Body></Message><Gather/><Dance xmlns:n="u" n:a="1"/>
</Response>"#;

/// What a document is made of, and what breaks one.
const PIECES: [&str; 30] = [
    "<Response>",
    "</Response>",
    "<Dial>",
    "</Dial>",
    "<Dial ",
    "<Client>",
    "</Client>",
    "<Client/>",
    "<Identity>",
    "</Identity>",
    "<Parameter name='a' value='",
    "timeout=\"",
    "\"",
    "'",
    "/>",
    ">",
    "<",
    "&",
    "&amp;",
    "&#0;",
    "&#x10FFFF;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?xml version='1.0'?>",
    "<!DOCTYPE a [",
    "xmlns:a='b'",
    "\u{feff}",
    "alice",
];

/// Documents that were changed in a few places: a stretch of bytes replaced by a piece, by bytes, or by itself from elsewhere.
pub(super) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let instead = prop_oneof![
        3 => prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        1 => (any::<Index>(), 0_usize..200).prop_map(|(from, length)| {
            let from = from.index(WHOLE.len());
            WHOLE.as_bytes()[from..WHOLE.len().min(from + length)].to_vec()
        }),
    ];
    let change = (any::<Index>(), 0_usize..12, instead);
    prop::collection::vec(change, 0..6).prop_map(|changes| {
        let mut body = WHOLE.as_bytes().to_vec();
        for (at, length, instead) in changes {
            let at = at.index(body.len() + 1);
            let end = body.len().min(at + length);
            body.splice(at..end, instead);
        }
        body
    })
}

/// Documents that nobody wrote.
pub(super) fn heaped() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

fn assert_bounded(document: &Document) {
    assert!(document.warnings.len() <= 50);
    for warning in &document.warnings {
        assert!(warning.about.chars().count() <= 128);
    }
    for verb in &document.verbs {
        match verb {
            Instruction::Dial(dial) => {
                assert!(dial.nouns.len() <= NOUNS_MAX);
                assert!((5..=600).contains(&dial.timeout.as_secs()));
                assert!((1..=86_400).contains(&dial.time_limit.as_secs()));
                for noun in &dial.nouns {
                    let Noun::Client(client) = noun else { continue };
                    assert!(client.parameters.len() <= 50);
                }
            }
            Instruction::Say(text) => assert!(text.chars().count() <= 4_096),
            Instruction::Sms(sms) => assert!(sms.body.chars().count() <= 1_600),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".*") {
        drop(read(&bytes));
        drop(read(format!("<Response>{text}</Response>").as_bytes()));
    }

    #[test]
    fn a_document_that_was_tampered_with_stays_in_bounds(body in mutated()) {
        if let Ok(document) = read(&body) {
            assert_bounded(&document);
        }
    }

    #[test]
    fn a_heap_of_pieces_stays_in_bounds(body in heaped()) {
        if let Ok(document) = read(&body) {
            assert_bounded(&document);
        }
    }

    // B34: text and attributes are read as they were meant, whatever they hold.
    #[test]
    fn what_was_escaped_is_read_back(text in "[ -~\u{a0}-\u{d7ff}\u{10000}-\u{10ffff}]{0,60}") {
        let text = text.trim();
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let body = format!("<Response><Dial callerId=\"{escaped}\"><Client>{escaped}</Client></Dial></Response>");
        let document = read(body.as_bytes()).unwrap();
        let [Instruction::Dial(dial)] = &document.verbs[..] else { panic!("{document:?}") };
        prop_assert_eq!(dial.caller_id.as_deref().unwrap_or_default(), text);
        let [Noun::Client(client)] = &dial.nouns[..] else { panic!("{dial:?}") };
        prop_assert_eq!(&client.identity, text);
    }
}

// The slowest documents that keep every bound are still read at once.
#[test]
fn the_longest_documents_are_read() {
    let attributes: String = (0..100).map(|n| format!(" a{n}=''")).collect();
    let spaces: String = (0..90).map(|n| format!(" xmlns:n{n}=''")).collect();
    for element in [
        format!("<v{attributes}/>"),
        format!("<v{spaces}/>"),
        "<v/> ".to_owned(),
    ] {
        let count = (60_000 / element.len()).min(990);
        let body = format!("<Response>{}</Response>", element.repeat(count));
        assert_bounded(&read(body.as_bytes()).unwrap());
    }
}
