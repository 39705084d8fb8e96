//! Readers for JSON Lines and CSV: one document a record.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use serde_json::Value;

use crate::cli::output::string_value;
use crate::proto::document::Content;
use crate::proto::metadata_value::Kind;
use crate::proto::{Document, MetadataValue, StringList};

/// One record with the bytes that it took in the file.
pub struct Record {
    /// Where in the file it is.
    pub place: String,
    /// The document, or why the record cannot be used.
    pub document: Result<Document, String>,
    /// Bytes of the file.
    pub size: u64,
}

/// Reads JSON Lines of `{id, title, text, …}`; other fields become metadata. Stops when `sink` says false.
///
/// Where there is no `text`, the text is made of the other fields that are texts. A record whose id is missing,
/// null or blank takes the number of its line.
pub fn read_jsonl(reader: impl BufRead, sink: &mut dyn FnMut(Record) -> bool) {
    for (number, line) in reader.split(b'\n').enumerate() {
        let place = format!("line {}", number + 1);
        let record = match line {
            Ok(bytes) if bytes.trim_ascii().is_empty() => continue,
            Ok(bytes) => {
                Record { place, document: parse_json(&bytes, number + 1), size: bytes.len() as u64 + 1 }
            }
            Err(error) => {
                sink(Record { place, document: Err(error.to_string()), size: 0 });
                return;
            }
        };
        if !sink(record) {
            return;
        }
    }
}

fn parse_json(bytes: &[u8], number: usize) -> Result<Document, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Value::Object(fields) = value else { return Err("expected a JSON object".to_owned()) };
    let mut document =
        Document { id: number.to_string(), mime_type: "text/plain".to_owned(), ..Default::default() };
    let mut text = None;
    let mut others = Vec::new();
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("id" | "_id", value) => take_id(&mut document, plain(value)),
            ("title", value) => document.title = plain(value),
            ("text", value) => text = Some(plain(value)),
            (_, value) => {
                if let Value::String(value) = &value {
                    others.push(format!("{key}: {value}"));
                }
                document.metadata.insert(key, metadata(value));
            }
        }
    }
    let text = match text {
        Some(text) => text,
        None if others.is_empty() => return Err("expected a field \"text\", or others with text".to_owned()),
        None => others.join("\n"),
    };
    document.content = Some(Content::Text(text));
    Ok(document)
}

/// Gives a document the id of its record, where that has one.
fn take_id(document: &mut Document, id: String) {
    if !id.trim().is_empty() {
        document.id = id;
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn metadata(value: Value) -> MetadataValue {
    let kind = match value {
        Value::Null => None,
        Value::Bool(v) => Some(Kind::BoolValue(v)),
        Value::String(v) => Some(Kind::StringValue(v)),
        Value::Number(v) => match (v.as_i64(), v.as_f64()) {
            (Some(int), _) => Some(Kind::IntValue(int)),
            (None, Some(double)) => Some(Kind::DoubleValue(double)),
            (None, None) => Some(Kind::StringValue(v.to_string())),
        },
        Value::Array(items) if items.iter().all(Value::is_string) => {
            Some(Kind::StringList(StringList { values: items.into_iter().map(plain).collect() }))
        }
        other => Some(Kind::StringValue(other.to_string())),
    };
    MetadataValue { kind }
}

/// Reads CSV with a header; columns id, title and text, the rest become metadata. Stops when `sink` says false.
///
/// Where there is no column `text`, the text is made of all columns. A record whose id is missing or blank takes
/// its number.
pub fn read_csv(reader: impl Read, delimiter: u8, sink: &mut dyn FnMut(Record) -> bool) {
    let mut csv = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
    let headers = match csv.headers() {
        Ok(headers) => headers.clone(),
        Err(error) => {
            sink(Record { place: "header".to_owned(), document: Err(error.to_string()), size: 0 });
            return;
        }
    };
    let mut row = csv::StringRecord::new();
    let mut start = 0;
    for number in 1.. {
        let place = format!("record {number}");
        let read = csv.read_record(&mut row);
        let end = csv.position().byte();
        let size = end.saturating_sub(std::mem::replace(&mut start, end));
        let (document, last) = match read {
            Ok(false) => return,
            Ok(true) => (Ok(csv_document(&headers, &row, number)), false),
            Err(error) => {
                let last = error.is_io_error();
                (Err(error.to_string()), last)
            }
        };
        if !sink(Record { place, document, size }) || last {
            return;
        }
    }
}

fn csv_document(headers: &csv::StringRecord, row: &csv::StringRecord, number: usize) -> Document {
    let mut document =
        Document { id: number.to_string(), mime_type: "text/plain".to_owned(), ..Default::default() };
    let mut metadata = HashMap::new();
    let mut lines = Vec::new();
    for (name, value) in headers.iter().zip(row) {
        match name {
            "id" | "_id" => take_id(&mut document, value.to_owned()),
            "title" => document.title = value.to_owned(),
            "text" => document.content = Some(Content::Text(value.to_owned())),
            _ => {
                if !value.trim().is_empty() {
                    lines.push(format!("{name}: {value}"));
                }
                metadata.insert(name.to_owned(), string_value(value));
            }
        }
    }
    document.content.get_or_insert_with(|| Content::Text(lines.join("\n")));
    document.metadata = metadata;
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(document: &Document) -> &str {
        match &document.content {
            Some(Content::Text(text)) => text,
            _ => "",
        }
    }

    #[test]
    fn jsonl_keeps_going_after_a_bad_line() {
        let input = "{\"id\":\"a\",\"title\":\"T\",\"text\":\"x\",\"year\":3}\n\nnot json\n{\"text\":\"y\"}\n{\"id\":1}\n{\"body\":\"z\"}\n";
        let mut seen = Vec::new();
        let mut size = 0;
        read_jsonl(input.as_bytes(), &mut |record| {
            size += record.size;
            seen.push(record.document.map_err(|reason| (record.place, reason)));
            true
        });
        assert_eq!((seen.len(), size), (5, input.len() as u64 - 1));
        assert!(seen[0].as_ref().is_ok_and(|d| d.id == "a"
            && d.title == "T"
            && d.metadata.get("year").is_some_and(|v| v.kind == Some(Kind::IntValue(3)))));
        assert!(seen[1].as_ref().is_err_and(|(place, _)| place == "line 3"));
        assert!(seen[2].as_ref().is_ok_and(|d| d.id == "4"));
        assert!(seen[3].is_err());
        assert!(seen[4].as_ref().is_ok_and(|d| text(d) == "body: z"));
    }

    #[test]
    fn csv_reads_quotes_and_metadata() {
        let input = "id,title,text,lang\n1,T,\"a, \"\"b\"\"\nc\",en\n2,short\n3,U,d,de\n";
        let mut seen = Vec::new();
        read_csv(input.as_bytes(), b',', &mut |record| {
            seen.push(record.document);
            true
        });
        assert_eq!(seen.len(), 3);
        assert!(seen[0].as_ref().is_ok_and(|d| text(d) == "a, \"b\"\nc" && d.metadata.contains_key("lang")));
        assert!(seen[1].is_err());
        assert!(seen[2].as_ref().is_ok_and(|d| d.id == "3"));
    }

    #[test]
    fn csv_without_a_text_column_takes_all_columns() {
        let mut seen = Vec::new();
        read_csv("name\tcity\nAda\tLondon\n".as_bytes(), b'\t', &mut |record| {
            seen.push(record.document);
            true
        });
        assert!(seen[0].as_ref().is_ok_and(|d| text(d) == "name: Ada\ncity: London" && d.id == "1"));
    }

    #[test]
    fn no_id_a_null_and_a_blank_one_are_the_number() {
        let mut seen = Vec::new();
        let mut sink = |record: Record| {
            seen.extend(record.document.map(|document| document.id));
            true
        };
        let lines = "{\"id\":null,\"text\":\"a\"}\n{\"id\":\" \",\"text\":\"b\"}\n{\"_id\":\"x\",\"id\":null,\"text\":\"c\"}\n";
        read_jsonl(lines.as_bytes(), &mut sink);
        read_csv("id,text\n,a\n  ,b\nx,c\n".as_bytes(), b',', &mut sink);
        assert_eq!(seen, ["1", "2", "x", "1", "2", "x"]);
    }
}
