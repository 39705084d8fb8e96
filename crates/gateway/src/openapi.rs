//! `/openapi.json`: the routes and the messages of the proto, with the comments of the proto as descriptions.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::routes::{Form, ROUTES, Reply, Route, method};

/// The document as text.
pub(crate) fn document(pool: &DescriptorPool, version: &str) -> String {
    let comments = Comments::of(pool);
    let mut schemas = Schemas { comments: &comments, done: BTreeMap::new() };
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let Some(found) = method(pool, route.method) else { continue };
        let operation = operation(route, &found.input(), &found.output(), &mut schemas);
        paths.entry(route.path).or_default().insert(route.verb.as_str().to_lowercase(), operation);
    }
    let mut components = schemas.done;
    components.insert("Error".to_owned(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trove",
            "version": version,
            "description": "Embedding and semantic search: index documents, search them by meaning, ask them questions.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": components,
        },
    })
    .to_string()
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "message", "type"],
            "properties": {
                "code": {"type": "string", "description": "Stable reason, such as UNKNOWN_COLLECTION."},
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                "request_id": {"type": ["string", "null"]},
            },
        }},
    })
}

fn operation(
    route: &Route,
    input: &MessageDescriptor,
    output: &MessageDescriptor,
    schemas: &mut Schemas,
) -> Value {
    let parts = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let mut parameters: Vec<Value> = parts.map(in_path).collect();
    if route.form == Form::Nothing {
        let taken = |name: &str| route.fields.iter().any(|(_, to)| to.split('.').next() == Some(name));
        let short = route.fields.iter().filter(|(from, _)| !route.path.contains(from));
        parameters.extend(
            short.map(|(from, _)| json!({"name": from, "in": "query", "schema": {"type": "string"}})),
        );
        for field in input.fields().filter(|field| !taken(field.name()) && !field.is_list()) {
            if matches!(field.kind(), Kind::Message(_) | Kind::Bytes) {
                continue;
            }
            let schema = schemas.kind(&field.kind());
            let description = schemas.comments.get(field.full_name());
            let parameter = json!({"name": field.name(), "in": "query", "schema": schema});
            parameters.push(described(parameter, description));
        }
    }
    let media_type = match route.reply {
        Reply::Json | Reply::Events => "application/json",
        Reply::Lines => "application/x-ndjson",
    };
    let answer = match route.reply {
        Reply::Events => json!({"type": "object"}),
        Reply::Json | Reply::Lines => schemas.message(output),
    };
    let mut content = Map::from_iter([(media_type.to_owned(), json!({"schema": answer}))]);
    if route.reply == Reply::Events {
        content.insert("text/event-stream".to_owned(), json!({"schema": {"type": "string"}}));
    }
    let failed = json!({"description": "What went wrong.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}});
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": {"200": {"description": "The answer.", "content": content}, "4XX": failed, "5XX": failed},
    });
    let body = match route.form {
        Form::Nothing => return operation,
        Form::Json => ("application/json", schemas.message(input)),
        Form::Lines => ("application/x-ndjson", json!({"type": "string"})),
        Form::Files => (
            "multipart/form-data",
            json!({"type": "object", "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}}}),
        ),
    };
    let is_required = route.form != Form::Json;
    operation["requestBody"] = json!({"required": is_required, "content": {body.0: {"schema": body.1}}});
    operation
}

/// Unique for each route: the method's name, with what tells apart those that share a method.
fn operation_id(route: &Route) -> String {
    let name = route.method.rsplit('/').next().unwrap_or_default();
    let same = ROUTES.iter().filter(|other| other.method == route.method).count();
    if same == 1 {
        return name.to_owned();
    }
    let last = route.path.rsplit('/').next().unwrap_or_default().trim_matches(['{', '}']);
    let last = last
        .chars()
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(last.chars().skip(1)).collect());
    let verb = route.verb.as_str();
    format!(
        "{name}_{}{}{last}",
        verb.get(..1).unwrap_or_default(),
        verb.get(1..).unwrap_or_default().to_lowercase()
    )
}

struct Schemas<'a> {
    comments: &'a Comments,
    done: BTreeMap<String, Value>,
}

impl Schemas<'_> {
    fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            "google.protobuf.Timestamp" => return json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" | "google.protobuf.FieldMask" => return json!({"type": "string"}),
            _ => {}
        }
        let name = message.name().to_owned();
        if !self.done.contains_key(&name) {
            // Before its fields, which may hold it again.
            self.done.insert(name.clone(), Value::Null);
            let fields: Map<String, Value> =
                message.fields().map(|field| (field.name().to_owned(), self.field(&field))).collect();
            let description = self.comments.get(message.full_name());
            let schema = json!({"type": "object", "properties": fields, "additionalProperties": false});
            self.done.insert(name.clone(), described(schema, description));
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let schema = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return json!({}) };
            let value = self.kind(&entry.map_entry_value_field().kind());
            json!({"type": "object", "additionalProperties": value})
        } else {
            let one = self.kind(&field.kind());
            match field.cardinality() {
                Cardinality::Repeated => json!({"type": "array", "items": one}),
                _ => one,
            }
        };
        described(schema, self.comments.get(field.full_name()))
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(message) => self.message(message),
            Kind::Enum(values) => self.values(values),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Float | Kind::Double => json!({"type": "number"}),
            Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": "integer", "minimum": 0})
            }
            _ => json!({"type": "integer"}),
        }
    }

    fn values(&mut self, values: &EnumDescriptor) -> Value {
        let name = values.name().to_owned();
        let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
        let description = self.comments.get(values.full_name());
        self.done.insert(name.clone(), described(json!({"type": "string", "enum": names}), description));
        json!({"$ref": format!("#/components/schemas/{name}")})
    }
}

fn described(mut schema: Value, description: Option<String>) -> Value {
    if let (Some(description), Some(schema)) = (description, schema.as_object_mut()) {
        schema.insert("description".to_owned(), description.into());
    }
    schema
}

/// Comments of the proto by the full names of what they stand before.
struct Comments(HashMap<String, String>);

impl Comments {
    fn of(pool: &DescriptorPool) -> Self {
        let mut comments = HashMap::new();
        let mut note = |name: &str, file: &prost_reflect::FileDescriptor, path: &[i32]| {
            let source = file.file_descriptor_proto().source_code_info.as_ref();
            let location =
                source.and_then(|source| source.location.iter().find(|location| location.path == path));
            if let Some(comment) = location.and_then(|location| location.leading_comments.as_ref()) {
                let text = comment.lines().map(str::trim).collect::<Vec<_>>().join(" ");
                comments.insert(name.to_owned(), text.trim().to_owned());
            }
        };
        for message in pool.all_messages() {
            note(message.full_name(), &message.parent_file(), message.path());
            for field in message.fields() {
                note(field.full_name(), &message.parent_file(), field.path());
            }
        }
        for values in pool.all_enums() {
            note(values.full_name(), &values.parent_file(), values.path());
        }
        Self(comments)
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}
