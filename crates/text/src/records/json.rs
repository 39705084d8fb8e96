//! JSON: objects line by line, in an array, or one after the other.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use encoding_rs::{Encoding, UTF_8};
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::{Deserializer, Value};

use super::Record;
use super::encoding;
use super::fields::{Field, Options, is_text, tell_apart};
use trove_core::domain::MetadataValue;

/// Levels of objects whose fields have names of their own.
const MAX_DEPTH: usize = 16;

/// What a file of JSON holds, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonShape {
    /// Records: an array of objects, or an object a line.
    Records,
    /// One object, or its beginning.
    Object,
    /// Something else.
    Other,
}

/// What a file of JSON holds, by its first bytes.
pub fn shape_of_json(start: &[u8]) -> JsonShape {
    let bytes = Encoding::for_bom(start).map_or(start, |(_, mark)| start.get(mark..).unwrap_or_default());
    let text = String::from_utf8_lossy(bytes).replace('\0', "");
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('[') {
        return if rest.trim_start().starts_with('{') { JsonShape::Records } else { JsonShape::Other };
    }
    if !text.starts_with('{') {
        return JsonShape::Other;
    }
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let first = values.next();
    let rest = text.get(values.byte_offset()..).unwrap_or_default().trim_start();
    if matches!(first, Some(Ok(_))) && rest.starts_with('{') { JsonShape::Records } else { JsonShape::Object }
}

/// Reads records. An array is told by its bracket; else there is an object in each line, or with `by_line` unset or a
/// first line that is no whole object, one after the other.
///
/// # Errors
/// Why the file cannot be read at all.
pub(super) fn read<R: Read>(
    open: &dyn Fn() -> io::Result<R>,
    by_line: bool,
    options: &Options,
    sink: &mut dyn FnMut(Record) -> bool,
) -> Result<(), String> {
    let opened = || open().map_err(|error| error.to_string());
    let mut start = Vec::new();
    opened()?.take(4).read_to_end(&mut start).map_err(|error| error.to_string())?;
    // JSON is UTF-8 unless a mark says otherwise; what is not is told line by line.
    let mark = Encoding::for_bom(&start);
    let reader = || -> Result<Box<dyn BufRead + '_>, String> {
        Ok(match mark {
            Some((encoding, _)) if encoding != UTF_8 => Box::new(encoding::open(opened()?, encoding)),
            _ => {
                let mut file = io::BufReader::new(opened()?);
                let skipped = mark.map_or(0, |(_, length)| length) as u64;
                io::copy(&mut file.by_ref().take(skipped), &mut io::sink())
                    .map_err(|error| error.to_string())?;
                Box::new(file)
            }
        })
    };
    let first = first_line(reader()?).map_err(|error| error.to_string())?;
    if first.starts_with(b"[") {
        return array(reader()?, options, sink);
    }
    let is_cut = || serde_json::from_slice::<Value>(&first).is_err_and(|error| error.is_eof());
    if !by_line || is_cut() {
        return values(reader()?, options, sink);
    }
    lines(reader()?, options, sink);
    Ok(())
}

/// The first line that is not blank, without the blanks before it.
fn first_line(mut file: impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        if !line.trim_ascii().is_empty() {
            return Ok(line.trim_ascii().to_vec());
        }
        line.clear();
    }
    Ok(line)
}

fn lines(file: impl BufRead, options: &Options, sink: &mut dyn FnMut(Record) -> bool) {
    for (number, line) in (1..).zip(file.split(b'\n')) {
        let place = format!("line {number}");
        let (bytes, document, is_last) = match line {
            Ok(line) if line.trim_ascii().is_empty() => continue,
            Ok(line) => {
                let value = serde_json::from_slice(&line).map_err(|error| error.to_string());
                (line.len() as u64 + 1, value.and_then(|value| document(value, options)), false)
            }
            Err(error) => (0, Err(error.to_string()), true),
        };
        if !sink(Record { place, number, bytes, document }) || is_last {
            return;
        }
    }
}

fn values(file: impl BufRead, options: &Options, sink: &mut dyn FnMut(Record) -> bool) -> Result<(), String> {
    let mut values = Deserializer::from_reader(file).into_iter::<Value>();
    let mut start = 0;
    for number in 1.. {
        let Some(value) = values.next() else { return Ok(()) };
        let end = values.byte_offset();
        let bytes = (end - std::mem::replace(&mut start, end)) as u64;
        let place = format!("value {number}");
        let is_last = value.is_err();
        let document = value.map_err(|error| error.to_string()).and_then(|value| document(value, options));
        if !sink(Record { place, number, bytes, document }) || is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// Counts what is read through it.
struct Counting<'a, R> {
    file: R,
    count: &'a Cell<u64>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Gives the elements of an array one by one.
struct Elements<'a> {
    options: &'a Options,
    sink: &'a mut dyn FnMut(Record) -> bool,
    count: &'a Cell<u64>,
    /// Elements so far.
    number: u64,
    /// Whether the sink wants no more.
    is_over: bool,
}

impl<'de> Visitor<'de> for &mut Elements<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element::<Value>()? {
            self.number += 1;
            let (place, bytes) = (format!("element {}", self.number), self.count.take());
            let document = document(value, self.options);
            if !(self.sink)(Record { place, number: self.number, bytes, document }) {
                self.is_over = true;
                return Err(A::Error::custom("no more is wanted"));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Elements<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

fn array(file: impl BufRead, options: &Options, sink: &mut dyn FnMut(Record) -> bool) -> Result<(), String> {
    let count = Cell::new(0);
    let mut reader = Deserializer::from_reader(io::BufReader::new(Counting { file, count: &count }));
    let mut elements = Elements { options, sink, count: &count, number: 0, is_over: false };
    let done = reader.deserialize_seq(&mut elements).and_then(|()| reader.end());
    let (number, is_over) = (elements.number + 1, elements.is_over);
    if let Err(error) = done
        && !is_over
    {
        let (place, document) = (format!("element {number}"), Err(error.to_string()));
        sink(Record { place, number, bytes: count.take(), document });
    }
    Ok(())
}

fn document(value: Value, options: &Options) -> Result<super::RecordDocument, String> {
    let Value::Object(object) = value else { return Err("expected a JSON object".to_owned()) };
    let mut fields = Vec::new();
    for (name, value) in object {
        match value {
            value @ (Value::Array(_) | Value::Object(_)) if is_text(&name) => {
                let text = paragraphs(&value).join("\n\n");
                fields.push(Field { name, text, value: Some(metadata(value)) });
            }
            value => flatten(name, value, 0, &mut fields),
        }
    }
    let mut names: Vec<String> = fields.iter_mut().map(|field| std::mem::take(&mut field.name)).collect();
    tell_apart(&mut names);
    fields.iter_mut().zip(names).for_each(|(field, name)| field.name = name);
    options.document(fields)
}

/// All strings of a value, in order.
fn paragraphs(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text.trim()],
        Value::Array(items) => items.iter().flat_map(paragraphs).collect(),
        // A block such as {"type": "paragraph", "text": "…"} says what is its text.
        Value::Object(fields) => match fields.iter().find(|(name, _)| is_text(name)) {
            Some((_, text)) => paragraphs(text),
            None => fields.values().flat_map(paragraphs).collect(),
        },
        _ => Vec::new(),
    }
}

/// The fields of a value: those of objects, and of objects in an array, have paths of names with dots between.
fn flatten(name: String, value: Value, depth: usize, fields: &mut Vec<Field>) {
    match value {
        Value::Object(object) if !object.is_empty() && depth < MAX_DEPTH => {
            for (key, value) in object {
                flatten(format!("{name}.{key}"), value, depth + 1, fields);
            }
        }
        Value::Array(items)
            if depth < MAX_DEPTH && !items.is_empty() && items.iter().all(Value::is_object) =>
        {
            let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
            for (key, value) in items.into_iter().filter_map(into_object).flatten() {
                match columns.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, values)) => values.push(value),
                    None => columns.push((key, vec![value])),
                }
            }
            for (key, values) in columns {
                flatten(format!("{name}.{key}"), Value::Array(values), depth + 1, fields);
            }
        }
        value => fields.push(Field { name, text: plain(&value), value: Some(metadata(value)) }),
    }
}

fn into_object(value: Value) -> Option<serde_json::Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// A value as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn metadata(value: Value) -> MetadataValue {
    match value {
        Value::Null => MetadataValue::Null,
        Value::Bool(value) => MetadataValue::Bool(value),
        Value::String(text) => MetadataValue::String(text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => MetadataValue::Int(int),
            (None, Some(double)) => MetadataValue::Double(double),
            (None, None) => MetadataValue::String(number.to_string()),
        },
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_number) => {
            let ints: Option<Vec<i64>> = items.iter().map(Value::as_i64).collect();
            let doubles = || items.iter().filter_map(Value::as_f64).collect();
            ints.map_or_else(|| MetadataValue::DoubleList(doubles()), MetadataValue::IntList)
        }
        Value::Array(items) => {
            MetadataValue::StringList(items.iter().filter(|i| !i.is_null()).map(plain).collect())
        }
        other @ Value::Object(_) => MetadataValue::String(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::{Format, RecordDocument, read};

    type Read = (String, u64, Result<RecordDocument, String>);

    fn records(bytes: &[u8], format: Format) -> Vec<Read> {
        let mut found = Vec::new();
        read(&|| Ok(bytes), format, &Options::default(), &mut |record| {
            found.push((record.place, record.number, record.document));
            true
        });
        found
    }

    fn one(line: &str) -> RecordDocument {
        records(line.as_bytes(), Format::JsonLines).remove(0).2.unwrap()
    }

    fn ids(bytes: &[u8], format: Format) -> Vec<String> {
        records(bytes, format).into_iter().map(|(_, _, document)| document.unwrap().id.unwrap()).collect()
    }

    #[test]
    fn reading_goes_on_after_a_bad_line() {
        let input = "{\"id\":\"a\",\"title\":\"T\",\"text\":\"x\",\"year\":3}\n\nnot json\n{\"text\":\"y\"}\n{\"id\":1}\n";
        let found = records(input.as_bytes(), Format::JsonLines);
        let first = found[0].2.as_ref().unwrap();
        assert_eq!((first.id.as_deref(), first.title.as_str(), first.text.as_str()), (Some("a"), "T", "x"));
        assert_eq!(first.metadata["year"], MetadataValue::Int(3));
        assert_eq!((found[1].0.as_str(), found[1].2.is_err()), ("line 3", true));
        assert_eq!((found[2].1, found[2].2.as_ref().unwrap().id.as_ref()), (4, None));
        assert!(found[3].2.is_err());
        assert_eq!(one("{\"id\":null,\"_id\":\"x\",\"text\":\"c\"}").id.as_deref(), Some("x"));
        assert_eq!(one("{\"id\":7,\"text\":\"c\"}").id.as_deref(), Some("7"));
    }

    #[test]
    fn files_of_every_shape() {
        let lines = "{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"b\",\"text\":\"y\"}\n";
        let array = "\n [ {\"id\":\"a\",\"text\":\"x\"},\n{\"id\":\"b\",\"text\":\"y\"} ]\n";
        let pretty = "{\n \"id\": \"a\",\n \"text\": \"x\"\n}\n{\n \"id\": \"b\", \"text\": \"y\"\n}";
        for text in [lines, array, pretty] {
            for format in [Format::JsonLines, Format::Json] {
                assert_eq!(ids(text.as_bytes(), format), ["a", "b"], "{text}");
                let marked = format!("\u{feff}{text}");
                assert_eq!(ids(marked.as_bytes(), format), ["a", "b"], "{text}");
                let wide: Vec<u8> = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
                assert_eq!(ids(&wide, format), ["a", "b"], "{text}");
            }
        }
        let cut = records(b"[{\"id\":\"a\",\"text\":\"x\"},{\"id\":", Format::Json);
        assert_eq!((cut.len(), cut[1].0.as_str(), cut[1].2.is_err()), (2, "element 2", true));
        let others = records(b"[1, {\"text\":\"x\"}]", Format::JsonLines);
        assert!(others[0].2.is_err() && others[1].2.is_ok());
        assert!(records(b"", Format::JsonLines).is_empty() && records(b"[]", Format::Json).is_empty());
        let mut seen = 0;
        super::super::read(&|| Ok(array.as_bytes()), Format::Json, &Options::default(), &mut |_| {
            seen += 1;
            false
        });
        assert_eq!(seen, 1);
    }

    #[test]
    fn shapes_are_told_by_the_beginning() {
        for (start, shape) in [
            ("[{\"a\":1}", JsonShape::Records),
            ("\u{feff} [\n {", JsonShape::Records),
            ("{\"a\":1}\n{\"a\":", JsonShape::Records),
            ("{\"a\":{}}\n", JsonShape::Object),
            ("{\"a\":", JsonShape::Object),
            ("[1,2]", JsonShape::Other),
            ("\"a\"", JsonShape::Other),
            ("", JsonShape::Other),
        ] {
            assert_eq!(shape_of_json(start.as_bytes()), shape, "{start}");
        }
    }

    #[test]
    fn nested_fields_have_paths() {
        let found = one(
            "{\"text\":\"x\",\"meta\":{\"author\":{\"name\":\"Ane\"},\"none\":{}},\"a.b\":1,\"a\":{\"b\":2},\
             \"people\":[{\"name\":\"Bo\",\"age\":3},{\"name\":\"Cy\"}],\"path\":\"/p\"}",
        );
        let value = |name: &str| found.metadata[name].clone();
        assert_eq!(value("meta.author.name"), MetadataValue::String("Ane".to_owned()));
        assert_eq!(value("meta.none"), MetadataValue::String("{}".to_owned()));
        assert_eq!(value("people.name"), MetadataValue::StringList(vec!["Bo".to_owned(), "Cy".to_owned()]));
        assert_eq!(value("people.age"), MetadataValue::IntList(vec![3]));
        assert!(found.metadata.contains_key("a.b") && found.metadata.contains_key("a.b_2"));
        assert_eq!(value("path"), MetadataValue::String("/p".to_owned()));
    }

    #[test]
    fn lists_are_paragraphs_or_values() {
        let list = one(
            "{\"text\":[\"One.\",\" Two.\"],\"years\":[2020,2021],\"mixed\":[1,\"a\"],\"tags\":[\"a\",\"b\"],\
                        \"parts\":[0.5,1],\"none\":[]}",
        );
        assert_eq!(list.text, "One.\n\nTwo.");
        assert_eq!(list.metadata["years"], MetadataValue::IntList(vec![2020, 2021]));
        assert_eq!(list.metadata["parts"], MetadataValue::DoubleList(vec![0.5, 1.0]));
        assert_eq!(list.metadata["mixed"], MetadataValue::StringList(vec!["1".to_owned(), "a".to_owned()]));
        assert_eq!(list.metadata["none"], MetadataValue::StringList(Vec::new()));
        assert!(!list.metadata.contains_key("text"));
        let blocks =
            one("{\"content\":[{\"type\":\"p\",\"text\":\"One.\"},{\"type\":\"p\",\"text\":\"Two.\"}]}");
        assert_eq!(blocks.text, "One.\n\nTwo.");
        assert_eq!(
            one("{\"name\":\"Rope\",\"tags\":[\"a\",\"b\"],\"n\":2}").text,
            "n: 2; name: Rope; tags: a, b."
        );
    }

    proptest! {
        #[test]
        fn any_objects_are_read_in_every_shape(texts in prop::collection::vec("\\PC{1,30}", 1..8)) {
            let objects: Vec<Value> =
                texts.iter().enumerate().map(|(n, text)| serde_json::json!({"id": n, "text": format!("x{text}")})).collect();
            let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
            let pretty: String = objects.iter().map(|object| format!("{object:#}\n")).collect();
            let array = serde_json::to_string_pretty(&objects).unwrap();
            for text in [lines, pretty, array] {
                let found = records(text.as_bytes(), Format::JsonLines);
                let found: Vec<String> = found.into_iter().map(|(_, _, document)| document.unwrap().text).collect();
                let expected: Vec<String> = texts.iter().map(|text| format!("x{text}")).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in "\\PC{0,80}", line in any::<bool>()) {
            records(bytes.as_bytes(), if line { Format::JsonLines } else { Format::Json });
        }
    }
}
