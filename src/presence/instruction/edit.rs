//! Takes out of a document whom it would be no use to ring, and puts whoever waited longest first.
//!
//! The document is another's, on its way to another, so it is cut by the bytes of its elements and never written anew: quotes,
//! blanks and comments stay as they were. Never judges what cannot be read, and never leaves a `<Dial>` without anybody that had
//! somebody.

use std::ops::Range;

use roxmltree::Node;

use super::{dial, xml};

/// In what order those stand who stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EditOrder {
    /// As the document has them.
    #[default]
    AsWritten,
    /// Who is idle for longest comes first.
    Idle,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edited {
    /// It is right as it is.
    Untouched,
    /// This instead.
    Changed(Vec<u8>),
    /// A `<Dial>` of it has nobody left to reach.
    NobodyLeft,
    /// It is no document of verbs.
    Unreadable,
}

/// Edits a document; `of` tells since when one who can be rung is idle, in milliseconds since the Unix epoch, and of others
/// nothing.
pub fn edit(body: &[u8], order: EditOrder, of: impl Fn(&str) -> Option<u64>) -> Edited {
    let Ok(tree) = xml::tree(body) else {
        return Edited::Unreadable;
    };
    let mut pieces = Vec::new();
    for verb in tree.root_element().children() {
        if !is(&verb, "Dial") {
            continue;
        }
        let Some(of_dial) = dialled(verb, order, &of) else {
            return Edited::NobodyLeft;
        };
        pieces.extend(of_dial);
    }
    put_together(body, &pieces)
}

/// Where a `<Client>` stands, and what stands there afterwards: it, another of its `<Dial>`, or nothing.
type Piece = (Range<usize>, Option<Range<usize>>);

/// The pieces of one `<Dial>`, in its order; `None` if it had somebody and has nobody left.
fn dialled(
    dial: Node<'_, '_>,
    order: EditOrder,
    of: &impl Fn(&str) -> Option<u64>,
) -> Option<Vec<Piece>> {
    let clients: Vec<_> = dial
        .children()
        .filter(|child| is(child, "Client"))
        .map(|client| (client.range(), of(&dial::identity(client))))
        .collect();
    let mut staying: Vec<_> = clients
        .iter()
        .filter_map(|(range, since)| Some(((*since)?, range.clone())))
        .collect();
    if staying.is_empty() && !clients.is_empty() && !dial.children().any(is_other_noun) {
        return None;
    }
    if order == EditOrder::Idle {
        // Stable: among equals the document decides.
        staying.sort_by_key(|&(since, _)| since);
    }
    let mut staying = staying.into_iter().map(|(_, range)| range);
    let pieces = clients.into_iter().map(|(range, since)| {
        let instead = since.and_then(|_| staying.next());
        (range, instead)
    });
    Some(pieces.collect())
}

/// What else a `<Dial>` may reach: a number as its text, or an element that may be a noun.
fn is_other_noun(node: Node<'_, '_>) -> bool {
    if node.is_text() {
        return node.text().is_some_and(|text| !text.trim().is_empty());
    }
    node.is_element() && !is(&node, "Client")
}

fn is(node: &Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name
}

/// The document with other pieces in some places, which stand in its order and apart from each other.
fn put_together(body: &[u8], pieces: &[Piece]) -> Edited {
    let is_kept = |(range, instead): &Piece| instead.as_ref() == Some(range);
    if pieces.iter().all(is_kept) {
        return Edited::Untouched;
    }
    let (mut whole, mut at) = (Vec::with_capacity(body.len()), 0);
    for (range, instead) in pieces {
        whole.extend_from_slice(&body[at..range.start]);
        if let Some(instead) = instead {
            whole.extend_from_slice(&body[instead.clone()]);
        }
        at = range.end;
    }
    whole.extend_from_slice(&body[at..]);
    Edited::Changed(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::presence::instruction::hostile::{WHOLE, heaped, mutated};
    use crate::presence::instruction::{Instruction, Noun, read};

    /// Those named can be rung, the first of them longest.
    fn edited(body: &str, order: EditOrder, idle: &[&str]) -> Edited {
        edit(body.as_bytes(), order, |identity| {
            idle.iter()
                .position(|name| *name == identity)
                .map(|at| at as u64)
        })
    }

    fn changed(body: &str) -> Edited {
        Edited::Changed(body.as_bytes().to_vec())
    }

    // B6: who cannot take the call is not rung, and nothing else of the document changes.
    #[test]
    fn who_cannot_be_rung_is_cut_and_the_rest_stays_as_written() {
        let body = "\u{feff}<?xml version='1.0'?>\n<Response ><!-- é --><Dial\ttimeout='5' >\n  <Client url = \"a>b\">alice</Client> <Client ><Identity>bob</Identity><Parameter name='a' value='1'/></Client >\n</Dial><Say>&lt;Client></Say></Response>\n";
        let without_alice = body.replace("<Client url = \"a>b\">alice</Client>", "");
        assert_eq!(
            edited(body, EditOrder::AsWritten, &["bob"]),
            changed(&without_alice)
        );
        let both = &["bob", "alice"];
        assert_eq!(edited(body, EditOrder::AsWritten, both), Edited::Untouched);
        assert_eq!(
            edited(body, EditOrder::AsWritten, &["eve"]),
            Edited::NobodyLeft
        );
    }

    #[test]
    fn who_is_idle_for_longest_comes_first() {
        let body = |names: [&str; 3]| {
            let [a, b, c] = names.map(|name| format!("<Client>{name}</Client>"));
            format!("<Response><Dial>{a} {b}\n{c}</Dial><Dial>1</Dial></Response>")
        };
        let idle = &["carol", "alice", "bob"];
        let written = body(["alice", "bob", "carol"]);
        assert_eq!(
            edited(&written, EditOrder::Idle, idle),
            changed(&body(["carol", "alice", "bob"]))
        );
        let cut = "<Response><Dial><Client>carol</Client> \n<Client>alice</Client></Dial><Dial>1</Dial></Response>";
        assert_eq!(edited(&written, EditOrder::Idle, &idle[..2]), changed(cut));
        let same = body(["bob", "bob", "bob"]);
        assert_eq!(edited(&same, EditOrder::Idle, idle), Edited::Untouched);
    }

    #[test]
    fn a_dial_with_another_way_is_kept() {
        for (body, left) in [
            ("<Dial>+1<Client>a</Client></Dial>", "<Dial>+1</Dial>"),
            (
                "<Dial><Client/><Sip>b</Sip></Dial>",
                "<Dial><Sip>b</Sip></Dial>",
            ),
            (
                "<Dial><Client>a</Client><New/></Dial>",
                "<Dial><New/></Dial>",
            ),
        ] {
            let [body, left] = [body, left].map(|dial| format!("<Response>{dial}</Response>"));
            assert_eq!(edited(&body, EditOrder::Idle, &[]), changed(&left));
        }
        for body in [
            "<Response><Dial/></Response>",
            "<Response/>",
            "<Response><Dial>1</Dial></Response>",
        ] {
            assert_eq!(edited(body, EditOrder::Idle, &[]), Edited::Untouched);
        }
    }

    #[test]
    fn a_client_counts_only_where_it_would_be_rung() {
        let body = "<Response><Client>a</Client><Gather><Client>a</Client></Gather><!-- <Dial><Client>a</Client></Dial> --></Response>";
        assert_eq!(edited(body, EditOrder::AsWritten, &[]), Edited::Untouched);
        for bad in ["", "<Reply/>", "<Response><Dial>", "{}"] {
            assert_eq!(edited(bad, EditOrder::AsWritten, &[]), Edited::Unreadable);
        }
    }

    /// Whom a document dials, in order.
    fn clients(body: &[u8]) -> Vec<String> {
        let verbs = read(body).unwrap().verbs.into_iter();
        let nouns = verbs.flat_map(|verb| match verb {
            Instruction::Dial(dial) => dial.nouns,
            _ => Vec::new(),
        });
        let named = nouns.filter_map(|noun| match noun {
            Noun::Client(client) => Some(client.identity),
            Noun::Other(_) => None,
        });
        named.collect()
    }

    /// What holds of every document and everybody's presence: it depends on the name's length and bits alone.
    fn assert_sound(body: &[u8], bits: u64, order: EditOrder) {
        let of = |identity: &str| {
            (bits >> (identity.len() % 64) & 1 == 1).then_some(identity.len() as u64)
        };
        match edit(body, order, of) {
            Edited::Unreadable => assert!(read(body).is_err()),
            Edited::NobodyLeft | Edited::Untouched => assert!(read(body).is_ok()),
            Edited::Changed(after) => {
                assert!(clients(&after).iter().all(|name| of(name).is_some()));
                assert_eq!(edit(&after, order, of), Edited::Untouched);
            }
        }
        if read(body).is_ok() {
            assert_eq!(
                edit(body, EditOrder::AsWritten, |_| Some(1)),
                Edited::Untouched
            );
            assert_eq!(edit(body, EditOrder::Idle, |_| Some(1)), Edited::Untouched);
        }
    }

    proptest! {
        #[test]
        fn a_cut_document_is_a_document_without_those_who_were_cut(body in mutated(), bits: u64, is_idle: bool) {
            let order = if is_idle { EditOrder::Idle } else { EditOrder::AsWritten };
            assert_sound(&body, bits, order);
        }

        #[test]
        fn a_heap_of_pieces_is_cut_or_left_alone(body in heaped(), bits: u64) {
            assert_sound(&body, bits, EditOrder::Idle);
        }

        #[test]
        fn those_who_stay_stand_in_order(bits: u64) {
            let body = WHOLE.replace("</Dial>", "<Client>a</Client><Client>abc</Client><Client>ab</Client></Dial>");
            let of = |identity: &str| (bits >> (identity.len() % 64) & 1 == 1).then_some(identity.len() as u64);
            if let Edited::Changed(after) = edit(body.as_bytes(), EditOrder::Idle, of) {
                let mut expected: Vec<_> = clients(body.as_bytes()).into_iter().filter(|name| of(name).is_some()).collect();
                expected.sort_by_key(String::len);
                prop_assert_eq!(clients(&after), expected);
            }
        }
    }
}
