//! `<Dial>`: whom to reach, for how long, and who is told.
//!
//! A noun without a way from here stays in the list, because it fails where the others may succeed. Never judges names: whether
//! one can be called is for who knows the registry.

use roxmltree::Node;

use super::attribute::{self, Notes, SCHEMA};
use super::{Client, Dial, Events, NOUNS_MAX, Noun, StatusCallback, xml};

/// A wrong method of a callback.
const METHOD: u32 = 13_210;
/// Parameters of one client.
const PARAMETERS_MAX: usize = 50;
/// Names and values of one client's parameters, in bytes.
const PARAMETER_BYTES_MAX: usize = 4 * 1024;
/// Characters of a name.
const CALLER_ID_MAX: usize = 121;

/// What is understood of a `<Dial>`, and what means nothing without media and costs nothing to pass over: a caller here is
/// always answered only when somebody is there.
const OF_DIAL: [&str; 10] = [
    "action",
    "method",
    "timeout",
    "timeLimit",
    "callerId",
    "sequential",
    "answerOnBridge",
    "callReason",
    "referUrl",
    "referMethod",
];
const OF_CLIENT: [&str; 3] = [
    "statusCallback",
    "statusCallbackEvent",
    "statusCallbackMethod",
];

/// Reads a `<Dial>`.
pub(super) fn dial(node: Node<'_, '_>, notes: &mut Notes) -> Dial {
    notes.unheard(node, &OF_DIAL);
    let caller_id = attribute::said(node, "callerId").map(str::to_owned);
    let is_long = caller_id
        .as_ref()
        .is_some_and(|id| id.chars().count() > CALLER_ID_MAX);
    if is_long {
        notes.warn(13_248, "Dial callerId");
    }
    Dial {
        nouns: nouns(node, notes),
        action: attribute::link(node, ("action", "method"), METHOD, notes),
        timeout: attribute::seconds(node, "timeout", (5..=600, 30, 13_212), notes),
        time_limit: attribute::seconds(node, "timeLimit", (1..=86_400, 14_400, 13_216), notes),
        caller_id: caller_id.filter(|_| !is_long),
        sequential: attribute::flag(node, "sequential", notes),
    }
}

fn nouns(dial: Node<'_, '_>, notes: &mut Notes) -> Vec<Noun> {
    let mut nouns = Vec::new();
    // A comment may part the text, which is one number all the same.
    let mut has_text = false;
    for child in dial.children() {
        let noun = if child.is_text() {
            let is_blank = child.text().is_none_or(|text| text.trim().is_empty());
            if is_blank || std::mem::replace(&mut has_text, true) {
                continue;
            }
            Noun::Other("Number".to_owned())
        } else if child.is_element() {
            match child.tag_name().name() {
                "Client" => Noun::Client(client(child, notes)),
                name @ ("Number" | "Sip" | "Conference" | "Queue" | "Application" | "Sim"
                | "WhatsApp" | "AiSession") => Noun::Other(name.to_owned()),
                name => {
                    notes.warn(SCHEMA, format_args!("Dial {name}"));
                    continue;
                }
            }
        } else {
            continue;
        };
        if nouns.len() == NOUNS_MAX {
            notes.warn(SCHEMA, format_args!("Dial: more than {NOUNS_MAX} nouns"));
            break;
        }
        nouns.push(noun);
    }
    nouns
}

fn client(node: Node<'_, '_>, notes: &mut Notes) -> Client {
    notes.unheard(node, &OF_CLIENT);
    notes.unheard_children(node, &["Identity", "Parameter"]);
    Client {
        identity: identity(node),
        parameters: parameters(node, notes),
        status_callback: status_callback(node, notes),
    }
}

/// Whom a `<Client>` names: its `<Identity>`, or else its own text.
pub(super) fn identity(client: Node<'_, '_>) -> String {
    xml::text(child(client, "Identity").unwrap_or(client))
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    let mut children = node.children();
    children.find(|child| child.is_element() && child.tag_name().name() == name)
}

fn parameters(client: Node<'_, '_>, notes: &mut Notes) -> Vec<(String, String)> {
    let (mut parameters, mut bytes) = (Vec::new(), 0);
    for node in client.children().filter(Node::is_element) {
        if node.tag_name().name() != "Parameter" {
            continue;
        }
        notes.unheard(node, &["name", "value"]);
        let Some(name) = attribute::said(node, "name") else {
            notes.warn(SCHEMA, "Parameter without a name");
            continue;
        };
        let value = node.attribute("value").unwrap_or_default();
        bytes += name.len() + value.len();
        if parameters.len() == PARAMETERS_MAX || bytes > PARAMETER_BYTES_MAX {
            notes.warn(
                SCHEMA,
                "Client: more than 50 parameters, or than 4 KiB of them",
            );
            break;
        }
        parameters.push((name.to_owned(), value.to_owned()));
    }
    parameters
}

fn status_callback(client: Node<'_, '_>, notes: &mut Notes) -> Option<StatusCallback> {
    attribute::said(client, "statusCallback")?;
    let names = ("statusCallback", "statusCallbackMethod");
    let link = attribute::link(client, names, METHOD, notes)?;
    let mut events = Events {
        initiated: false,
        ringing: false,
        answered: false,
        completed: false,
    };
    let words = client
        .attribute("statusCallbackEvent")
        .unwrap_or("completed");
    for word in words.split_ascii_whitespace() {
        match word {
            "initiated" => events.initiated = true,
            "ringing" => events.ringing = true,
            "answered" => events.answered = true,
            "completed" => events.completed = true,
            _ => notes.warn(
                SCHEMA,
                format_args!("Client statusCallbackEvent \"{word}\""),
            ),
        }
    }
    let is_any = events.initiated || events.ringing || events.answered;
    events.completed |= !is_any;
    Some(StatusCallback { link, events })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::presence::instruction::{Document, Instruction, Link, Verb, read};

    fn document(dial: &str) -> Document {
        read(format!("<Response>{dial}</Response>").as_bytes()).unwrap()
    }

    fn only(dial: &str) -> Dial {
        let mut document = document(dial);
        match (document.verbs.pop(), document.verbs.pop()) {
            (Some(Instruction::Dial(dial)), None) => dial,
            other => panic!("{other:?}"),
        }
    }

    fn codes(dial: &str) -> Vec<u32> {
        let warnings = document(dial).warnings;
        warnings.iter().map(|warning| warning.code).collect()
    }

    fn client_of(dial: &str) -> Client {
        match only(dial).nouns.pop() {
            Some(Noun::Client(client)) => client,
            other => panic!("{other:?}"),
        }
    }

    // B34: what a server says of a dial is what is dialled.
    #[test]
    fn each_attribute_of_a_dial_is_read() {
        let dial = only(
            "<Dial action='/next?a=1&amp;b' method='get' timeout=' 20 ' timeLimit='60' callerId='alice' sequential='true'/>",
        );
        let link = |url: &str, method| Link {
            url: url.to_owned(),
            method,
        };
        assert_eq!(dial.action, Some(link("/next?a=1&b", Verb::Get)));
        assert_eq!(dial.timeout, Duration::from_secs(20));
        assert_eq!(dial.time_limit, Duration::from_secs(60));
        assert_eq!(dial.caller_id.as_deref(), Some("alice"));
        assert!(dial.sequential);
        let silent = only("<Dial action=''/>");
        assert_eq!(silent.action, Some(link("", Verb::Post)));
        assert_eq!(silent.timeout, Duration::from_secs(30));
        assert_eq!(silent.time_limit, Duration::from_secs(14_400));
        assert_eq!((silent.caller_id, silent.sequential), (None, false));
    }

    #[test]
    fn wrong_values_are_warned_of_and_replaced() {
        for (attribute, code, seconds) in [
            ("timeout='3'", 13_212, 5),
            ("timeout='601'", 13_212, 600),
            ("timeout='0'", 13_212, 30),
            ("timeout='-1'", 13_212, 30),
            ("timeout='soon'", 13_212, 30),
            ("timeout=''", 13_212, 30),
            ("method='PUT' action='/'", 13_210, 30),
            ("timeLimit='90000'", 13_216, 30),
            ("sequential='yes'", 12_200, 30),
            ("record='record-from-answer'", 12_200, 30),
            ("hangupOnStar='true'", 12_200, 30),
            ("callerID='alice'", 12_200, 30),
        ] {
            let dial = format!("<Dial {attribute}>1</Dial>");
            assert_eq!(codes(&dial), [code], "{attribute}");
            assert_eq!(only(&dial).timeout.as_secs(), seconds, "{attribute}");
        }
        let long = format!("<Dial callerId='{}'/>", "é".repeat(122));
        assert_eq!(codes(&long), [13_248]);
        assert_eq!(only(&long).caller_id, None);
        let silent = "<Dial answerOnBridge='true' callReason='x' referUrl='/r' xml:lang='de'/>";
        assert_eq!(codes(silent), [0_u32; 0]);
    }

    #[test]
    fn a_client_is_named_by_its_identity_or_its_text() {
        for (client, identity) in [
            ("<Client> al<!-- x -->ice\n</Client>", "alice"),
            (
                "<Client>no<Identity> bob &amp; co </Identity></Client>",
                "bob & co",
            ),
            ("<Client><![CDATA[<a>]]></Client>", "<a>"),
            ("<Client/>", ""),
        ] {
            assert_eq!(
                client_of(&format!("<Dial>{client}</Dial>")).identity,
                identity
            );
        }
    }

    #[test]
    fn parameters_are_told_up_to_their_bounds() {
        let client = client_of(
            "<Dial><Client><Parameter name='a' value=' 1 '/><Parameter value='x'/><Parameter name='b'/></Client></Dial>",
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(client.parameters, [pair("a", " 1 "), pair("b", "")]);
        let many = |value: &str, count| {
            let one = format!("<Parameter name='n' value='{value}'/>");
            format!("<Dial><Client>{}</Client></Dial>", one.repeat(count))
        };
        assert_eq!(client_of(&many("", 60)).parameters.len(), 50);
        assert_eq!(codes(&many("", 60)), [12_200]);
        assert_eq!(client_of(&many(&"x".repeat(1_023), 5)).parameters.len(), 4);
    }

    #[test]
    fn a_status_callback_is_of_the_events_that_are_named() {
        let events = |attributes: &str| {
            let dial = format!("<Dial><Client statusCallback='/s' {attributes}/></Dial>");
            let events = client_of(&dial).status_callback.unwrap().events;
            let all = [
                events.initiated,
                events.ringing,
                events.answered,
                events.completed,
            ];
            (all, codes(&dial))
        };
        let completed = [false, false, false, true];
        assert_eq!(events(""), (completed, vec![]));
        assert_eq!(events("statusCallbackEvent='x'"), (completed, vec![12_200]));
        let two = events("statusCallbackEvent='ringing  answered'");
        assert_eq!(two, ([false, true, true, false], vec![]));
        let none = client_of("<Dial><Client statusCallbackEvent='ringing'/></Dial>");
        assert_eq!(none.status_callback, None);
    }

    #[test]
    fn what_has_no_way_from_here_stays_a_noun() {
        let dial = "<Dial> +1<!-- --> 415 <Client>a</Client><Sip>sip:b</Sip><Nobody/></Dial>";
        let other = |name: &str| Noun::Other(name.to_owned());
        let nouns = only(dial).nouns;
        assert_eq!((&nouns[0], &nouns[2]), (&other("Number"), &other("Sip")));
        assert_eq!((nouns.len(), codes(dial)), (3, vec![12_200]));
        let many = format!("<Dial>{}</Dial>", "<Client>a</Client>".repeat(11));
        assert_eq!((only(&many).nouns.len(), codes(&many)), (10, vec![12_200]));
    }
}
