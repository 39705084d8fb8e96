//! What a text file says of itself before its text: in YAML, TOML or JSON.

use trove_core::domain::MetadataValue;

use super::metadata::scalar;

/// Fields that tell in sentences what a document is about.
const ABOUT: [&str; 6] = ["description", "summary", "abstract", "subtitle", "excerpt", "lead"];
/// Fields that name what a document is about. Where their value is one string, commas divide it.
const NAMES: [&str; 10] =
    ["aliases", "alias", "author", "authors", "categories", "category", "keywords", "tags", "tag", "topics"];

/// A field of front matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: MetadataValue,
}

impl Field {
    fn new(name: &str, value: MetadataValue) -> Self {
        let name = name.trim().trim_matches(['"', '\'']).to_owned();
        let lower = name.to_lowercase();
        let value = match value {
            MetadataValue::String(text) if lower != "author" && NAMES.contains(&lower.as_str()) => {
                MetadataValue::StringList(names(text.split(',')))
            }
            MetadataValue::StringList(list) if NAMES.contains(&lower.as_str()) => {
                MetadataValue::StringList(names(list.iter().map(String::as_str)))
            }
            other => other,
        };
        Self { name, value }
    }

    /// The title of the document, where the field is that.
    pub(super) fn title(&self) -> Option<String> {
        if !self.name.eq_ignore_ascii_case("title") {
            return None;
        }
        match &self.value {
            MetadataValue::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
            MetadataValue::Int(number) => Some(number.to_string()),
            MetadataValue::Double(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// What the field says in words that people look for.
    pub(super) fn text(&self) -> Option<String> {
        let name = self.name.to_lowercase();
        let value = match &self.value {
            MetadataValue::String(text) => text.clone(),
            MetadataValue::StringList(list) => list.join(", "),
            _ => return None,
        };
        if value.trim().is_empty() {
            return None;
        }
        if ABOUT.contains(&name.as_str()) {
            return Some(value);
        }
        let mut letters = name.chars();
        let first: String = letters.next()?.to_uppercase().collect();
        NAMES.contains(&name.as_str()).then(|| format!("{first}{}: {value}", letters.as_str()))
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names = names.map(|name| name.trim().trim_start_matches('#').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// The fields of front matter in YAML, as people write it: scalars, lists and block scalars. What is nested deeper is
/// left out, and a line that is no YAML costs that line.
pub(super) fn yaml(lines: &[&str]) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let Some((name, value)) = line.split_once(':').filter(|(name, value)| {
            let starts = name.starts_with(|c: char| !c.is_whitespace() && !"#-[{".contains(c));
            starts && (value.is_empty() || value.starts_with(char::is_whitespace))
        }) else {
            continue;
        };
        // What belongs to the field is indented, or a list that need not be.
        let below = lines[at..].iter().take_while(|line| {
            line.trim().is_empty() || line.starts_with([' ', '\t']) || line.starts_with("- ") || **line == "-"
        });
        let below = &lines[at..at + below.count()];
        at += below.len();
        if let Some(value) = yaml_value(without_comment(value.trim()), below) {
            fields.push(Field::new(name, value));
        }
    }
    fields
}

fn yaml_value(value: &str, below: &[&str]) -> Option<MetadataValue> {
    if value.starts_with(['|', '>']) && value.len() <= 3 {
        let join = if value.starts_with('|') { "\n" } else { " " };
        let lines: Vec<_> = below.iter().map(|line| line.trim()).collect();
        return Some(MetadataValue::String(lines.join(join).trim().to_owned()));
    }
    let mut lines =
        below.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if value.is_empty() {
        let items: Vec<_> = lines.clone().filter_map(|line| line.strip_prefix('-')).collect();
        if items.is_empty() {
            // Nothing, or fields of their own.
            return (lines.next().is_none()).then_some(MetadataValue::Null);
        }
        let items = items.into_iter().map(|item| plain(without_comment(item.trim())));
        return Some(MetadataValue::StringList(items.filter(|item| !item.is_empty()).collect()));
    }
    // A list in brackets, or a string, may go on on further lines.
    let mut whole = value.to_owned();
    for line in lines {
        whole.push(' ');
        whole.push_str(without_comment(line));
    }
    if let Some(items) = whole.strip_prefix('[') {
        let items = items.trim_end().strip_suffix(']').unwrap_or(items);
        return Some(MetadataValue::StringList(flow_items(items)));
    }
    if whole.starts_with('{') {
        return None;
    }
    let is_quoted = whole.starts_with(['"', '\'']);
    Some(if is_quoted { MetadataValue::String(plain(&whole)) } else { scalar(&whole) })
}

/// A comment begins with a mark behind a space.
fn without_comment(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let end = value[1..].rfind(quote).map_or(value.len(), |at| at + 2);
        return &value[..end];
    }
    value.find(" #").map_or(value, |at| value[..at].trim_end())
}

/// A scalar without its quotes.
fn plain(text: &str) -> String {
    let text = text.trim();
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(inner) = inner('"') {
        return serde_json::from_str(text).unwrap_or_else(|_| inner.to_owned());
    }
    inner('\'').map_or_else(|| text.to_owned(), |inner| inner.replace("''", "'"))
}

/// The items of a list in brackets, commas in quotes left alone.
fn flow_items(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') && items.last().is_some_and(|item| item.trim().is_empty()) => {
                quote = Some(c);
            }
            None if c == ',' => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items.iter().map(|item| plain(item)).filter(|item| !item.is_empty()).collect()
}

/// The fields of front matter in TOML. What is in tables is left out.
///
/// # Errors
/// What is wrong with it.
pub(super) fn toml(text: &str) -> Result<Vec<Field>, String> {
    let table: toml::Table = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    let fields = table.into_iter().filter_map(|(name, value)| {
        let value = match value {
            toml::Value::String(text) => MetadataValue::String(text),
            toml::Value::Array(items) => {
                let strings = items.into_iter().filter_map(|item| match item {
                    toml::Value::String(text) => Some(text),
                    toml::Value::Table(_) | toml::Value::Array(_) => None,
                    other => Some(other.to_string()),
                });
                MetadataValue::StringList(strings.collect())
            }
            toml::Value::Table(_) => return None,
            other => scalar(&other.to_string()),
        };
        Some(Field::new(&name, value))
    });
    Ok(fields.collect())
}

/// The fields of a JSON object that a text begins with, and the bytes it takes.
pub(super) fn json(text: &str) -> Option<(Vec<Field>, usize)> {
    if !text.starts_with('{') {
        return None;
    }
    let mut stream =
        serde_json::Deserializer::from_str(text).into_iter::<serde_json::Map<String, serde_json::Value>>();
    let object = stream.next()?.ok()?;
    let fields = object.into_iter().filter_map(|(name, value)| {
        use serde_json::Value;
        let value = match value {
            Value::String(text) => match scalar(&text) {
                MetadataValue::Timestamp(seconds, nanos) => MetadataValue::Timestamp(seconds, nanos),
                _ => MetadataValue::String(text),
            },
            Value::Array(items) => {
                let strings = items.into_iter().filter_map(|item| item.as_str().map(str::to_owned));
                MetadataValue::StringList(strings.collect())
            }
            Value::Object(_) => return None,
            other => scalar(&other.to_string()),
        };
        Some(Field::new(&name, value))
    });
    Some((fields.collect(), stream.byte_offset()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[Field], name: &str) -> MetadataValue {
        let field = fields.iter().find(|field| field.name == name);
        field.unwrap_or_else(|| panic!("no {name} in {fields:?}")).value.clone()
    }

    fn string(text: &str) -> MetadataValue {
        MetadataValue::String(text.to_owned())
    }

    fn list(items: &[&str]) -> MetadataValue {
        MetadataValue::StringList(items.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn yaml_as_people_write_it() {
        let text = "title: \"Rigging: a \\\"check\\\"\" # not this\nother: 'it''s'\ndate: 2024-05-06\nweight: 3\nratio: 1.5\ndraft: false\n\
            tags: [rigging, \"a, b\", '#yearly']\naliases:\n  - Mast inspection\n  - \"Second\"\nkeywords: one, two\ncategories:\n- a\n- b\n\
            description: >-\n  What to look at\n  before.\nabstract: |\n  One\n  two\nnested:\n  a: 1\nempty:\nurl: http://e.org:80/#x\nbad line\n\
            long: goes\n  on\n# comment: x\nflow: [a,\n  b]\n";
        let fields = yaml(&text.lines().collect::<Vec<_>>());
        assert_eq!(of(&fields, "title"), string("Rigging: a \"check\""));
        assert_eq!(of(&fields, "other"), string("it's"));
        assert_eq!(of(&fields, "date"), MetadataValue::Timestamp(1_714_953_600, 0));
        assert_eq!(
            (of(&fields, "weight"), of(&fields, "draft")),
            (MetadataValue::Int(3), MetadataValue::Bool(false))
        );
        assert_eq!(of(&fields, "ratio"), MetadataValue::Double(1.5));
        assert_eq!(of(&fields, "tags"), list(&["rigging", "a, b", "yearly"]));
        assert_eq!(of(&fields, "aliases"), list(&["Mast inspection", "Second"]));
        assert_eq!(of(&fields, "keywords"), list(&["one", "two"]));
        assert_eq!(of(&fields, "categories"), list(&["a", "b"]));
        assert_eq!(of(&fields, "description"), string("What to look at before."));
        assert_eq!(of(&fields, "abstract"), string("One\ntwo"));
        assert_eq!(of(&fields, "empty"), MetadataValue::Null);
        assert_eq!(of(&fields, "url"), string("http://e.org:80/#x"));
        assert_eq!((of(&fields, "long"), of(&fields, "flow")), (string("goes on"), list(&["a", "b"])));
        assert!(
            !fields
                .iter()
                .any(|field| ["nested", "a", "bad line", "# comment"].contains(&field.name.as_str()))
        );
    }

    #[test]
    fn toml_as_people_write_it() {
        let fields = toml(
            "title = \"Painting\" # not this\ndate = 2024-04-02T10:00:00Z\ndraft = false\nweight = 10\n# x = 1\n\
             tags = [\"paint\",\n  \"hull\", # why\n]\ndescription = '''\nOne\ntwo'''\n[params]\nauthor = 'x'\n",
        )
        .unwrap();
        assert_eq!(of(&fields, "title"), string("Painting"));
        assert_eq!(
            (of(&fields, "draft"), of(&fields, "weight")),
            (MetadataValue::Bool(false), MetadataValue::Int(10))
        );
        assert_eq!(of(&fields, "date"), MetadataValue::Timestamp(1_712_052_000, 0));
        assert_eq!(of(&fields, "tags"), list(&["paint", "hull"]));
        assert_eq!(of(&fields, "description"), string("One\ntwo"));
        assert_eq!(fields.len(), 6);
        assert!(toml("a = ").is_err());
    }

    #[test]
    fn json_at_the_beginning() {
        let text = "{\n \"title\": \"T\", \"tags\": [\"a\"], \"n\": 2, \"o\": {}\n}\ntext";
        let (fields, bytes) = json(text).unwrap();
        assert_eq!(
            (of(&fields, "title"), of(&fields, "tags"), of(&fields, "n")),
            (string("T"), list(&["a"]), MetadataValue::Int(2))
        );
        assert_eq!((fields.len(), &text[bytes..]), (3, "\ntext"));
        assert!(json("{not json}").is_none() && json("text").is_none());
    }

    #[test]
    fn words_of_fields() {
        let field = |name: &str, value| Field::new(name, value).text();
        assert_eq!(field("Description", string("About.")).as_deref(), Some("About."));
        assert_eq!(field("aliases", list(&["A", "B"])).as_deref(), Some("Aliases: A, B"));
        assert_eq!((field("layout", string("post")), field("tags", list(&[]))), (None, None));
    }
}
