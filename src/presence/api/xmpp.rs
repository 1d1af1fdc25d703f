//! Presence as XMPP says it (RFC 6121 §4): one stanza, put to the API, gives the same resource as our own words.
//!
//! Only what says something about presence is read: the `type`, `show`, `status` and `from` of one `presence` element. Never a
//! document type, an entity, or more than a few elements.

use std::sync::Arc;

use crate::presence::fault::Fault;
use crate::presence::registry::session::{Report, TEXT_MAX};
use crate::presence::status::{Reason, Status};

/// Longest stanza, in bytes.
pub(in crate::presence) const STANZA_MAX: usize = 16 * 1024;
/// Elements of a stanza.
const NODES_MAX: u32 = 64;

/// What a stanza says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) struct Stanza {
    /// The local part of its sender, if it names one.
    pub(in crate::presence) from: Option<String>,
    /// What it reports; `None` for one who goes.
    pub(in crate::presence) report: Option<Report>,
}

/// Reads a stanza.
pub(in crate::presence) fn read(text: &str) -> Result<Stanza, Fault> {
    let options = roxmltree::ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES_MAX,
        ..Default::default()
    };
    let document = roxmltree::Document::parse_with_options(text, options);
    let document =
        document.map_err(|_| Fault::bad("this is no XML, or more than one stanza holds"))?;
    let root = document.root_element();
    if root.tag_name().name() != "presence" {
        return Err(Fault::bad(
            "the stanza is a `presence` element (RFC 6121 §4)",
        ));
    }
    let child = |name: &str| {
        let found = root
            .children()
            .find(|child| child.tag_name().name() == name);
        found.and_then(|child| child.text()).map(str::trim)
    };
    let from = root
        .attribute("from")
        .map(|from| from.split(['@', '/']).next().unwrap_or(from));
    let from = from.map(unescape);
    let report = match root.attribute("type") {
        Some("unavailable") => None,
        None => Some(report(child("show"), child("status"))?),
        Some(_) => return Err(Fault::bad("the stanza's `type` is absent or `unavailable`")),
    };
    Ok(Stanza { from, report })
}

fn report(show: Option<&str>, text: Option<&str>) -> Result<Report, Fault> {
    let (status, reason) = match show {
        None | Some("chat") => (Status::Available, None),
        Some("away") => (Status::Away, Some(Reason::AwayShort)),
        Some("xa") => (Status::Away, Some(Reason::AwayLong)),
        Some("dnd") => (Status::DoNotDisturb, None),
        Some(_) => {
            return Err(Fault::bad(
                "`show` is chat, away, xa or dnd (RFC 6121 §4.7.2.1)",
            ));
        }
    };
    let text = text.filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().count() > TEXT_MAX) {
        return Err(Fault::bad(format!(
            "`status` has up to {TEXT_MAX} characters"
        )));
    }
    Ok(Report {
        status,
        reason,
        text: text.map(Arc::from),
    })
}

/// A local part escapes what it may not hold (XEP-0106).
fn unescape(local: &str) -> String {
    const ESCAPES: [(&str, char); 10] = [
        ("\\20", ' '),
        ("\\22", '"'),
        ("\\26", '&'),
        ("\\27", '\''),
        ("\\2f", '/'),
        ("\\3a", ':'),
        ("\\3c", '<'),
        ("\\3e", '>'),
        ("\\40", '@'),
        ("\\5c", '\\'),
    ];
    let (mut text, mut rest) = (String::with_capacity(local.len()), local);
    while let Some(next) = rest.chars().next() {
        let found = ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape));
        let (length, plain) = found.map_or((next.len_utf8(), next), |&(escape, plain)| {
            (escape.len(), plain)
        });
        text.push(plain);
        rest = &rest[length..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(stanza: &str) -> Option<(Status, Option<Reason>)> {
        read(stanza)
            .unwrap()
            .report
            .map(|report| (report.status, report.reason))
    }

    // B36: each stanza of RFC 6121 has one status here.
    #[test]
    fn a_stanza_says_what_our_own_words_say() {
        assert_eq!(says("<presence/>"), Some((Status::Available, None)));
        let show = |show| {
            says(&format!(
                "<presence xmlns='jabber:client'><show>{show}</show></presence>"
            ))
        };
        assert_eq!(show("chat"), Some((Status::Available, None)));
        assert_eq!(show("away"), Some((Status::Away, Some(Reason::AwayShort))));
        assert_eq!(show("xa"), Some((Status::Away, Some(Reason::AwayLong))));
        assert_eq!(show("dnd"), Some((Status::DoNotDisturb, None)));
        assert_eq!(says("<presence type='unavailable'/>"), None);
        let full =
            "<presence from='al\\40ice@example.com/mobile'><status>at lunch</status></presence>";
        let full = read(full).unwrap();
        assert_eq!(full.from.as_deref(), Some("al@ice"));
        assert_eq!(full.report.unwrap().text.as_deref(), Some("at lunch"));
    }

    #[test]
    fn what_is_no_presence_is_refused() {
        let many = format!("<presence>{}</presence>", "<a/>".repeat(100));
        let bomb = "<!DOCTYPE p [<!ENTITY a \"aaaa\">]><presence><status>&a;</status></presence>";
        let long = format!("<presence><status>{}</status></presence>", "x".repeat(257));
        for bad in [
            "",
            "<presence>",
            "<message/>",
            "<presence type='probe'/>",
            "<presence><show>gone</show></presence>",
            "<presence/><presence/>",
            many.as_str(),
            bomb,
            &long,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[<>/a-z'= &;\\\\0-9]{0,60}") {
            drop(read(&text));
            drop(read(&format!("<presence from='{text}'/>")));
        }
    }
}
