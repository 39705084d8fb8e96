//! XML as a sequence of elements and texts, by their names without prefixes.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::{broken, decode};
use trove_core::error::Result;

/// Most levels of elements; beyond those of any program that writes documents.
const MAX_DEPTH: usize = 4096;

/// A step through a document.
pub(super) enum Node<'a> {
    /// An element begins.
    Open(Element<'a>),
    /// An element ends.
    Close(&'a str),
    /// Text within the innermost element, in pieces.
    Text(&'a str),
}

/// The beginning of an element.
pub(super) struct Element<'a>(&'a BytesStart<'a>);

impl Element<'_> {
    /// Its name without a prefix.
    pub(super) fn name(&self) -> &str {
        self.0.local_name().into_inner()
    }

    /// An attribute by its name without a prefix.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let found =
            self.0.attributes().with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == name)?;
        found.normalized_value(XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
    }

    /// An attribute by its whole name.
    pub(super) fn attribute_named(&self, name: &str) -> Option<String> {
        let found = self.0.attributes().with_checks(false).flatten().find(|a| a.key.as_ref() == name)?;
        found.normalized_value(XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
    }

    /// An attribute that is a number; one that is none is none.
    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.attribute(name)?.trim().parse().ok()
    }
}

/// Walks through a document. Entities that it defines itself stand for nothing, so that none expands.
pub(super) fn walk(bytes: &[u8], mut visit: impl FnMut(Node<'_>) -> Result<()>) -> Result<()> {
    let bad = |e: &dyn std::fmt::Display| broken(format!("the document has bad XML: {e}"));
    let source = decode::decode_markup(bytes, None)?.text;
    let mut reader = Reader::from_str(&source);
    reader.config_mut().expand_empty_elements = true;
    let mut depth = 0usize;
    loop {
        match reader.read_event().map_err(|e| bad(&e))? {
            Event::Eof => return Ok(()),
            Event::Start(element) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(broken(format!("expected XML of at most {MAX_DEPTH} levels, got more")));
                }
                visit(Node::Open(Element(&element)))?;
            }
            Event::End(element) => {
                depth = depth.saturating_sub(1);
                visit(Node::Close(element.local_name().into_inner()))?;
            }
            Event::Text(text) => visit(Node::Text(&text.xml10_content()))?,
            Event::CData(text) => visit(Node::Text(&text.xml10_content()))?,
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) => visit(Node::Text(c.encode_utf8(&mut [0; 4])))?,
                _ => {
                    let name = reference.xml10_content();
                    visit(Node::Text(
                        quick_xml::escape::resolve_predefined_entity(&name).unwrap_or_default(),
                    ))?;
                }
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(xml: &str) -> Result<String> {
        let mut told = String::new();
        walk(xml.as_bytes(), |node| {
            match node {
                Node::Open(element) => {
                    told.push_str(&format!(
                        "<{} {}>",
                        element.name(),
                        element.attribute("a").unwrap_or_default()
                    ));
                }
                Node::Close(name) => told.push_str(&format!("</{name}>")),
                Node::Text(text) => told.push_str(text),
            }
            Ok(())
        })?;
        Ok(told)
    }

    #[test]
    fn elements_texts_and_references() {
        let xml = r#"<x:r><y x:a="1 &amp; 2"/>a &lt; &#233;<![CDATA[<b>]]></x:r>"#;
        assert_eq!(told(xml).unwrap(), "<r ><y 1 & 2></y>a < é<b></r>");
    }

    #[test]
    fn entities_do_not_expand_and_depth_is_limited() {
        let bomb = r#"<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><r>x&b;</r>"#;
        assert_eq!(told(bomb).unwrap(), "<r >x</r>");
        assert_eq!(told(&"<a>".repeat(5000)).unwrap_err().reason, "BROKEN_DOCUMENT");
    }
}
