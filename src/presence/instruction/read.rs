//! Reads a document of verbs (TwiML).
//!
//! What cannot be a document is a fault; what is merely odd in one is a warning, and the rest is read on, because a call waits
//! for it. Names are compared with their case. Never panics, and never copies a document's text into a fault.

use std::time::Duration;

use roxmltree::Node;

use super::attribute::{self, Notes, SCHEMA};
use super::{Document, Instruction, Link, RejectReason, Sms, dial, xml};

/// Characters of a text that is told to the caller.
const SAY_MAX: usize = 4_096;
/// Characters of a message.
const SMS_MAX: usize = 1_600;

/// Why a document cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DocumentFault {
    /// The number under which the vendor's documentation knows it.
    pub code: u32,
    /// What is wrong, without anything of the document's text.
    pub detail: &'static str,
}

impl DocumentFault {
    /// What cannot be parsed.
    pub(super) const fn new(detail: &'static str) -> Self {
        Self {
            code: 12_100,
            detail,
        }
    }
}

/// Verbs of one document that are followed.
const VERBS_MAX: usize = 100;

/// Reads a document.
pub fn read(body: &[u8]) -> Result<Document, DocumentFault> {
    let tree = xml::tree(body)?;
    let mut notes = Notes::default();
    let mut verbs = Vec::new();
    for child in tree.root_element().children() {
        if child.is_element() && verbs.len() == VERBS_MAX {
            notes.warn(SCHEMA, "Response: more verbs than are followed");
            break;
        } else if child.is_element() {
            verbs.extend(verb(child, &mut notes));
        } else if child.is_text() && child.text().is_some_and(|text| !text.trim().is_empty()) {
            notes.warn(SCHEMA, "Response: text between verbs");
        }
    }
    Ok(Document {
        verbs,
        warnings: notes.into_warnings(),
    })
}

fn verb(node: Node<'_, '_>, notes: &mut Notes) -> Option<Instruction> {
    Some(match node.tag_name().name() {
        "Dial" => Instruction::Dial(dial::dial(node, notes)),
        "Redirect" => {
            leaf(node, &["method"], notes);
            Instruction::Redirect(Link {
                url: xml::text(node),
                method: attribute::method(node, "method", 13_710, notes),
            })
        }
        "Reject" => {
            notes.unheard(node, &["reason"]);
            notes.unheard_children(node, &["Parameter"]);
            let words = [
                ("rejected", RejectReason::Rejected),
                ("busy", RejectReason::Busy),
            ];
            Instruction::Reject(attribute::word(node, "reason", words, notes))
        }
        "Pause" => {
            leaf(node, &["length"], notes);
            Instruction::Pause(pause(node, notes))
        }
        "Hangup" => {
            notes.unheard(node, &[]);
            notes.unheard_children(node, &["Parameter"]);
            Instruction::Hangup
        }
        "Say" => {
            notes.unheard(node, &["voice", "language", "loop"]);
            Instruction::Say(say(node))
        }
        "Play" => {
            leaf(node, &["loop", "digits"], notes);
            Instruction::Play
        }
        "Sms" | "Message" => Instruction::Sms(sms(node, notes)),
        name @ ("Gather" | "Record" | "Enqueue" | "Leave" | "Conference" | "Pay" | "Start"
        | "Stop" | "Connect" | "Stream" | "Siprec" | "Refer" | "Prompt" | "Echo"
        | "Queue") => Instruction::Media(name.to_owned()),
        name => {
            notes.warn(SCHEMA, name);
            return None;
        }
    })
}

/// A verb with nothing inside but perhaps text.
fn leaf(node: Node<'_, '_>, understood: &[&str], notes: &mut Notes) {
    notes.unheard(node, understood);
    notes.unheard_children(node, &[]);
}

/// Ten minutes are longer than anybody waits without being answered.
fn pause(node: Node<'_, '_>, notes: &mut Notes) -> Duration {
    attribute::seconds(node, "length", (0..=600, 1, 13_910), notes)
}

/// What is said, whatever marks how it is spoken.
fn say(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text);
    let text: String = texts.filter_map(|text| text.text()).collect();
    text.trim().chars().take(SAY_MAX).collect()
}

fn sms(node: Node<'_, '_>, notes: &mut Notes) -> Sms {
    notes.unheard(node, &["to", "from"]);
    notes.unheard_children(node, &["Body"]);
    let bodies = node
        .children()
        .filter(|child| child.tag_name().name() == "Body");
    let mut text: String = bodies.map(xml::text).collect();
    if text.is_empty() {
        text = xml::text(node);
    }
    if let Some((cut, _)) = text.char_indices().nth(SMS_MAX) {
        notes.warn(
            14_103,
            format_args!("{}: more than {SMS_MAX} characters", node.tag_name().name()),
        );
        text.truncate(cut);
    }
    Sms {
        to: attribute::said(node, "to").map(str::to_owned),
        from: attribute::said(node, "from").map(str::to_owned),
        body: text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::instruction::{Verb, Warning};

    fn document(verbs: &str) -> Document {
        read(
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{verbs}</Response>")
                .as_bytes(),
        )
        .unwrap()
    }

    fn only(verb: &str) -> Instruction {
        let mut verbs = document(verb).verbs;
        assert_eq!(verbs.len(), 1, "{verb}");
        verbs.remove(0)
    }

    fn codes(verbs: &str) -> Vec<u32> {
        let warnings = document(verbs).warnings;
        warnings.iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn verbs_are_read_in_the_order_written() {
        let document = document(
            "<!-- c --><Pause/><Say voice='x'> one <break/><prosody>two</prosody></Say><Play>a.mp3</Play>\n<Hangup/>",
        );
        assert_eq!(
            document.verbs,
            [
                Instruction::Pause(Duration::from_secs(1)),
                Instruction::Say("one two".to_owned()),
                Instruction::Play,
                Instruction::Hangup,
            ]
        );
        assert_eq!(document.warnings, []);
        assert_eq!(read(b"<Response/>").unwrap(), Document::default());
    }

    #[test]
    fn a_redirect_has_its_url_as_text() {
        let redirect = |url: &str, method| {
            Instruction::Redirect(Link {
                url: url.to_owned(),
                method,
            })
        };
        let written = "<Redirect method='GET'>\n /next?a=1&amp;b=2 </Redirect>";
        assert_eq!(only(written), redirect("/next?a=1&b=2", Verb::Get));
        assert_eq!(only("<Redirect/>"), redirect("", Verb::Post));
        assert_eq!(codes("<Redirect method='DELETE'/>"), [13_710]);
    }

    #[test]
    fn a_refusal_has_one_of_two_reasons() {
        let reject = |verb| match only(verb) {
            Instruction::Reject(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reject("<Reject/>"), RejectReason::Rejected);
        assert_eq!(reject("<Reject reason='busy'/>"), RejectReason::Busy);
        assert_eq!(reject("<Reject reason='Busy'/>"), RejectReason::Rejected);
        assert_eq!(codes("<Reject reason='Busy'/>"), [12_200]);
    }

    #[test]
    fn a_pause_is_bounded() {
        for (length, seconds, warned) in [
            ("0", 0, false),
            ("600", 600, false),
            ("601", 600, true),
            ("x", 1, true),
        ] {
            let verb = format!("<Pause length='{length}'/>");
            assert_eq!(
                only(&verb),
                Instruction::Pause(Duration::from_secs(seconds))
            );
            assert_eq!(codes(&verb) == [13_910], warned, "{length}");
        }
    }

    #[test]
    fn a_message_has_its_text_inside_or_in_a_body() {
        let sms = |to: Option<&str>, from: Option<&str>, body: &str| {
            Instruction::Sms(Sms {
                to: to.map(str::to_owned),
                from: from.map(str::to_owned),
                body: body.to_owned(),
            })
        };
        assert_eq!(
            only("<Sms to='client:a' from='b'>hi</Sms>"),
            sms(Some("client:a"), Some("b"), "hi")
        );
        let with_media = "<Message to=''>\n<Body>hi &lt;you&gt;</Body><Media>x</Media></Message>";
        assert_eq!(only(with_media), sms(None, None, "hi <you>"));
        assert_eq!(codes(with_media), [12_200]);
        let long = format!("<Sms>{}</Sms>", "é".repeat(1_601));
        assert_eq!(only(&long), sms(None, None, &"é".repeat(1_600)));
        assert_eq!(codes(&long), [14_103]);
    }

    #[test]
    fn a_text_to_be_said_is_cut() {
        let long = format!("<Say>{}</Say>", "日".repeat(5_000));
        assert_eq!(only(&long), Instruction::Say("日".repeat(4_096)));
    }

    #[test]
    fn verbs_that_need_media_are_named_and_unknown_ones_passed_over() {
        let gather = only("<Gather input='dtmf'><Say>press</Say></Gather>");
        assert_eq!(gather, Instruction::Media("Gather".to_owned()));
        let odd = document("text<dial>1</dial><Dance/><Hangup now='yes'><x/></Hangup>");
        assert_eq!(odd.verbs, [Instruction::Hangup]);
        let about = |about: &str| Warning {
            code: 12_200,
            about: about.to_owned(),
        };
        assert_eq!(
            odd.warnings,
            [
                "Response: text between verbs",
                "dial",
                "Dance",
                "Hangup now",
                "Hangup x"
            ]
            .map(about)
        );
    }

    #[test]
    fn warnings_are_few_short_and_different() {
        let odd: String = (0..200)
            .map(|n| format!("<v{n}{}/>", "y".repeat(200)))
            .collect();
        let warnings = document(&odd).warnings;
        assert_eq!(warnings.len(), 50);
        assert!(warnings.iter().all(|warning| warning.about.len() == 128));
        assert_eq!(codes(&"<x/>".repeat(100)), [12_200]);
    }

    #[test]
    fn what_cannot_be_a_document_is_refused() {
        for bad in [
            "",
            " ",
            " <?xml version='1.0'?><Response/>",
            "<Reply/>",
            "<response/>",
            "<Response>",
            "<Response><Dial></Response></Dial>",
            "<Response><Dial timeout=5/></Response>",
            "<Response>a & b</Response>",
            "<Response>&nbsp;</Response>",
            "<Response/><Response/>",
            "{\"a\":1}",
        ] {
            assert_eq!(
                read(bad.as_bytes()).map_err(|fault| fault.code),
                Err(12_100),
                "{bad}"
            );
        }
        let long = format!("<Response>{}</Response>", " ".repeat(64 * 1024));
        assert!(read(long.as_bytes()).is_err());
        assert!(read(&long.as_bytes()[..0]).is_err());
    }
}
