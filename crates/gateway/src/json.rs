//! Messages of the proto as JSON, and parameters of a path or a query as fields of a message.

use bytes::Bytes;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage,
    SerializeOptions, Value,
};
use serde_json::Value as Json;

use crate::failure::Failure;

/// Room that an element of JSON takes as it is read, beside its text: a value and its part of a list.
const ELEMENT_BYTES: usize = 128;

/// Room that JSON takes as it is read, by its length and its elements, which are counted without reading it.
pub(crate) fn room(text: &[u8]) -> usize {
    let (mut elements, mut in_string, mut escaped) = (1_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'{' | b'[' if !in_string => elements += 1,
            _ => {}
        }
    }
    text.len().saturating_add(elements.saturating_mul(ELEMENT_BYTES))
}

/// A message from JSON; nothing is the empty message.
///
/// # Errors
/// `BAD_JSON`, with the place or the field.
pub(crate) fn message(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, Failure> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let read = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options)
        .and_then(|message| deserializer.end().map(|()| message));
    read.map_err(|error| {
        Failure::bad("BAD_JSON", format!("expected the JSON of a {}: {error}", descriptor.name()))
    })
}

/// A message from JSON that was read already.
///
/// # Errors
/// `BAD_JSON`.
pub(crate) fn message_of(descriptor: &MessageDescriptor, value: Json) -> Result<DynamicMessage, Failure> {
    DynamicMessage::deserialize(descriptor.clone(), value).map_err(|error| {
        Failure::bad("BAD_JSON", format!("expected the JSON of a {}: {error}", descriptor.name()))
    })
}

fn options() -> SerializeOptions {
    SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false)
}

/// The JSON of a message: names as the proto has them, numbers as numbers, all fields.
pub(crate) fn value(message: &DynamicMessage) -> Json {
    message.serialize_with_options(serde_json::value::Serializer, &options()).unwrap_or(Json::Null)
}

/// The same as text.
pub(crate) fn text(message: &DynamicMessage) -> Bytes {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut out);
    if message.serialize_with_options(&mut serializer, &options()).is_err() {
        return Bytes::from_static(b"{}");
    }
    out.into()
}

/// Sets a field by its path, such as `search.query.text`, from text. A list gets one more element.
///
/// # Errors
/// `UNKNOWN_PARAMETER`; `BAD_PARAMETER` where the text is not of the field's type.
pub(crate) fn set(message: &mut DynamicMessage, path: &str, text: &str) -> Result<(), Failure> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let unknown = || {
        let known: Vec<String> = message.descriptor().fields().map(|field| field.name().to_owned()).collect();
        Failure::bad("UNKNOWN_PARAMETER", format!("expected one of {}, got {name:?}", known.join(", ")))
            .about(path)
    };
    let field = message.descriptor().get_field_by_name(name).ok_or_else(unknown)?;
    if let Some(rest) = rest {
        let Value::Message(inner) = message.get_field_mut(&field) else { return Err(unknown_inside(path)) };
        return set(inner, rest, text);
    }
    let value = scalar(&field, text).ok_or_else(|| {
        let message = format!("{path}: expected {}, got {text:?}", expected(&field.kind()));
        Failure::bad("BAD_PARAMETER", message).about(path)
    })?;
    if field.is_list()
        && let Value::List(list) = message.get_field_mut(&field)
    {
        list.push(value);
    } else {
        message.set_field(&field, value);
    }
    Ok(())
}

fn unknown_inside(path: &str) -> Failure {
    Failure::bad("UNKNOWN_PARAMETER", format!("{path}: expected a field that has fields")).about(path)
}

fn scalar(field: &FieldDescriptor, text: &str) -> Option<Value> {
    Some(match field.kind() {
        Kind::String => Value::String(text.to_owned()),
        Kind::Bool => Value::Bool(text.parse().ok()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(text.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(text.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(text.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(text.parse().ok()?),
        Kind::Float => Value::F32(text.parse().ok()?),
        Kind::Double => Value::F64(text.parse().ok()?),
        Kind::Enum(values) => {
            let by_name = |name: &str| values.get_value_by_name(name).map(|value| value.number());
            // `hybrid` stands for `SEARCH_MODE_HYBRID`.
            let prefix = values.default_value().name().trim_end_matches("UNSPECIFIED").to_owned();
            let short = format!("{prefix}{}", text.to_uppercase().replace('-', "_"));
            Value::EnumNumber(by_name(text).or_else(|| by_name(&short))?)
        }
        Kind::Message(_) | Kind::Bytes => return None,
    })
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Enum(values) => {
            let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
            format!("one of {}", names.join(", "))
        }
        Kind::Message(_) | Kind::Bytes => "a field of the JSON body".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}
