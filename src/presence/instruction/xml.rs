//! The tree of a document, within bounds that hold before a tree is built.
//!
//! The parser neither recurses nor reads a document type, but it compares each attribute of an element with those before it and
//! carries each namespace down to every child: what could make that slow is found by one pass over the bytes. Never keeps more
//! than the document is long.

use roxmltree::{Document, Node, ParsingOptions};

use super::DOCUMENT_MAX;
use super::read::DocumentFault;

/// Elements inside each other; a verb's noun's parameter is the fourth.
const DEPTH_MAX: u32 = 10;
/// Elements, texts and comments: ten nouns with fifty parameters, each on a line of its own, are half of it.
const NODES_MAX: u32 = 2_000;
/// Attributes of one element; the vendor's longest list has about thirty.
const ATTRIBUTES_MAX: u32 = 100;

/// Reads the tree of a document.
pub(super) fn tree(body: &[u8]) -> Result<Document<'_>, DocumentFault> {
    if body.len() > DOCUMENT_MAX {
        return Err(DocumentFault::new("the document is longer than 64 KiB"));
    }
    let text = str::from_utf8(body).map_err(|_| DocumentFault::new("the document is not UTF-8"))?;
    bounded(body)?;
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES_MAX,
        ..ParsingOptions::default()
    };
    let tree = Document::parse_with_options(text, options).map_err(|fault| {
        DocumentFault::new(match fault {
            roxmltree::Error::DtdDetected => "the document has a document type",
            roxmltree::Error::NodesLimitReached => "the document has more than 2,000 nodes",
            roxmltree::Error::UnexpectedDeclaration(_) => "something stands before the XML header",
            _ => "the document is not well-formed XML",
        })
    })?;
    if tree.root_element().tag_name().name() == "Response" {
        Ok(tree)
    } else {
        Err(DocumentFault::new("the document is no `<Response>`"))
    }
}

/// The text directly inside an element, comments left out, without blanks around it.
pub(super) fn text(node: Node<'_, '_>) -> String {
    let texts = node.children().filter(Node::is_text);
    let text: String = texts.filter_map(|text| text.text()).collect();
    text.trim().to_owned()
}

/// Whether elements are few enough inside each other and have few enough attributes. Of what is no XML it says nothing.
fn bounded(body: &[u8]) -> Result<(), DocumentFault> {
    let (mut rest, mut depth) = (body, 0_u32);
    while let Some(at) = rest.iter().position(|&byte| byte == b'<') {
        rest = &rest[at..];
        let skipped = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")]
            .into_iter()
            .find(|(opening, _)| rest.starts_with(opening.as_bytes()));
        if let Some((opening, closing)) = skipped {
            let inside = &rest[opening.len()..];
            let mut windows = inside.windows(closing.len());
            let Some(end) = windows.position(|window| window == closing.as_bytes()) else {
                return Ok(());
            };
            rest = &inside[end..];
        } else if rest.starts_with(b"</") {
            depth = depth.saturating_sub(1);
            rest = &rest[2..];
        } else {
            let (attributes, length) = tag(rest);
            if attributes > ATTRIBUTES_MAX {
                return Err(DocumentFault::new(
                    "an element has more than 100 attributes",
                ));
            }
            depth += u32::from(!rest[..length].ends_with(b"/"));
            if depth > DEPTH_MAX {
                return Err(DocumentFault::new("elements nest deeper than 10"));
            }
            rest = &rest[length..];
        }
    }
    Ok(())
}

/// How many attributes a tag has, namespaces included, and how long it is up to its `>`.
fn tag(from: &[u8]) -> (u32, usize) {
    let (mut quote, mut attributes) = (None, 0);
    for (at, &byte) in from.iter().enumerate() {
        match quote {
            Some(open) if open == byte => quote = None,
            Some(_) => {}
            None if byte == b'>' => return (attributes, at),
            None if byte == b'"' || byte == b'\'' => {
                attributes += 1;
                quote = Some(byte);
            }
            None => {}
        }
    }
    (attributes, from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &str) -> Option<&'static str> {
        tree(body.as_bytes()).err().map(|fault| fault.detail)
    }

    fn nested(depth: usize) -> String {
        format!(
            "<Response>{}{}</Response>",
            "<a b='>'>".repeat(depth - 1),
            "</a>".repeat(depth - 1)
        )
    }

    #[test]
    fn depth_nodes_and_attributes_have_bounds() {
        assert_eq!(fault(&nested(10)), None);
        assert_eq!(fault(&nested(11)), Some("elements nest deeper than 10"));
        let wide = |count| format!("<Response>{}</Response>", "<a/>".repeat(count));
        assert_eq!(fault(&wide(1_998)), None);
        let many = Some("the document has more than 2,000 nodes");
        assert_eq!(fault(&wide(1_999)), many);
        let attributes = |count| {
            let all: String = (0..count).map(|n| format!(" a{n}='=\"'")).collect();
            format!("<Response{all}/>")
        };
        assert_eq!(fault(&attributes(100)), None);
        let many = Some("an element has more than 100 attributes");
        assert_eq!(fault(&attributes(101)), many);
        assert_eq!(fault(&attributes(3_000)), many);
    }

    #[test]
    fn what_is_no_tag_counts_for_nothing() {
        let commented = format!("<!-- {} ' \" -->", "<a b='c' ".repeat(200));
        let literal = format!("<![CDATA[{}]]>", "<a>".repeat(20));
        let body = format!("<Response>{commented}{literal}<?x <a> ?></Response>{commented}");
        assert_eq!(fault(&body), None);
    }

    #[test]
    fn a_document_type_and_other_encodings_are_refused() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"b\">]><Response>&a;</Response>";
        assert_eq!(fault(bomb), Some("the document has a document type"));
        let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><Response>\xe9</Response>";
        assert!(tree(latin).is_err());
        let utf16: Vec<u8> = "<Response/>"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(tree(&utf16).is_err());
        assert_eq!(fault("\u{feff}<?xml version='1.0'?><Response/>"), None);
    }
}
