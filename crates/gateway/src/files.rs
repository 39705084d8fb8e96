//! Files of a form (`multipart/form-data`) as documents.

use bytes::Bytes;
use futures::stream;
use multer::{Constraints, Multipart, SizeLimit};
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use serde_json::json;

use crate::failure::Failure;
use crate::json;

/// Most files of one form.
const MAX_FILES: usize = 1000;

/// The documents of a form: each part with a file name is one, whose id is that name. The media type is that of the name
/// where it tells more than the part does.
///
/// # Errors
/// `BAD_FORM` where the body is no form or holds no file.
pub(crate) async fn documents(
    request: &MessageDescriptor,
    body: Bytes,
    boundary: String,
    media_type_of: fn(&str, &[u8]) -> Option<&'static str>,
) -> Result<DynamicMessage, Failure> {
    let bad = |what: &dyn std::fmt::Display| {
        Failure::bad("BAD_FORM", format!("expected a form with files: {what}"))
    };
    let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(body.len() as u64));
    let body = stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(body)));
    let mut form = Multipart::with_constraints(body, boundary, limits);
    let mut message = DynamicMessage::new(request.clone());
    let list = request.get_field_by_name("documents").ok_or_else(|| bad(&"the API has none"))?;
    let prost_reflect::Kind::Message(document) = list.kind() else { return Err(bad(&"the API has none")) };
    let mut documents = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|error| bad(&error))? {
        let Some(name) = field.file_name().map(clean) else { continue };
        if documents.len() == MAX_FILES {
            return Err(bad(&format!("got more than {MAX_FILES}")));
        }
        let told =
            field.content_type().map(ToString::to_string).filter(|told| told != "application/octet-stream");
        let bytes = field.bytes().await.map_err(|error| bad(&error))?;
        let media_type = media_type_of(&name, &bytes).map(str::to_owned).or(told);
        let media_type = media_type.unwrap_or_else(|| "text/plain".to_owned());
        let mut file = json::message_of(&document, described(&name, &media_type))?;
        file.set_field_by_name("data", Value::Bytes(bytes));
        documents.push(Value::Message(file));
    }
    if documents.is_empty() {
        return Err(bad(&"got no part with a file name"));
    }
    message.set_field(&list, Value::List(documents));
    Ok(message)
}

/// A file as a document without its bytes, with the metadata that `trove index` gives files.
fn described(name: &str, media_type: &str) -> serde_json::Value {
    let string = |text: &str| json!({"string_value": text});
    let mut metadata = json!({"path": string(name)});
    let last = name.rsplit('/').next().unwrap_or(name);
    if let Some((_, extension)) = last.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        metadata["extension"] = string(&extension.to_lowercase());
    }
    json!({"id": name, "mime_type": media_type, "metadata": metadata})
}

/// A file name as an id: forward slashes, and no steps up. Browsers write three signs of it as codes.
fn clean(name: &str) -> String {
    let name = name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
    let parts = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | "." | ".."));
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_steps_up() {
        assert_eq!(clean("../../etc/passwd"), "etc/passwd");
        assert_eq!(clean("C:\\notes\\a.md"), "C:/notes/a.md");
        assert_eq!(clean("notes/./a b.md"), "notes/a b.md");
        assert_eq!(clean("a %22b%22%20.md"), "a \"b\"%20.md");
    }
}
