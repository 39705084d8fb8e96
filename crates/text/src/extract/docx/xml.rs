//! Small helpers over quick-xml.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// Calls a function with each event of a part.
///
/// # Errors
/// What is wrong with the XML; what stands before it has been read.
pub(super) fn each(xml: &[u8], mut read: impl FnMut(&Event<'_>)) -> Result<(), quick_xml::Error> {
    let mut reader = Reader::from_reader(xml);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer)? {
            Event::Eof => return Ok(()),
            event => read(&event),
        }
    }
}

/// An attribute by its local name; empty where there is none.
pub(super) fn attribute(element: &BytesStart<'_>, name: &str) -> String {
    let found =
        element.attributes().with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == name);
    let value = found.and_then(|a| a.normalized_value(XmlVersion::Implicit1_0).ok().map(|v| v.into_owned()));
    value.unwrap_or_default()
}

/// The `val` of an element.
pub(super) fn value(element: &BytesStart<'_>) -> String {
    attribute(element, "val")
}

/// Whether an element that stands for a property says so: without a value it does.
pub(super) fn is_on(element: &BytesStart<'_>) -> bool {
    !matches!(value(element).as_str(), "0" | "false" | "off" | "none")
}

/// The text that an event stands for.
pub(super) fn text_of(event: &Event<'_>) -> String {
    match event {
        Event::Text(t) => t.xml10_content().into_owned(),
        Event::CData(t) => t.xml10_content().into_owned(),
        Event::GeneralRef(r) => match r.resolve_char_ref() {
            Ok(Some(c)) => c.to_string(),
            _ => quick_xml::escape::resolve_predefined_entity(&r.xml10_content())
                .unwrap_or_default()
                .to_owned(),
        },
        _ => String::new(),
    }
}
