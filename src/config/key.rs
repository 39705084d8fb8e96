//! One key of the configuration: its name, its documentation and what values it takes.

use std::path::Path;

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// An IP address and a port.
    Address,
    /// An address, or nothing.
    OptionalAddress,
    /// An `http` or `https` URL, or nothing.
    OptionalUrl,
    /// A path.
    Path,
    /// A path, or nothing.
    OptionalPath,
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// A whole number of at least this.
    AtLeast(u64),
    /// A whole number from the first to the second.
    Between(u64, u64),
    /// `true` or `false`.
    Switch,
    /// A number from 0 to 1.
    Fraction,
    /// A list of at least one directory name.
    DirectoryNames,
    /// A list of origins of web pages, which may be empty.
    Origins,
    /// One plain name.
    Name,
    /// A tracing filter.
    LogFilter,
}

impl Rule {
    /// What is expected, as messages say it.
    pub fn expected(self) -> String {
        match self {
            Rule::Address | Rule::OptionalAddress => {
                "an IP address and a port, such as 127.0.0.1:7700".to_owned()
            }
            Rule::OptionalUrl => "an http or https URL, such as http://127.0.0.1:4317".to_owned(),
            Rule::Path | Rule::OptionalPath => "a path".to_owned(),
            Rule::OneOf(words) => format!("one of {}", words.join(", ")),
            Rule::AtLeast(least) => format!("a whole number of at least {least}"),
            Rule::Between(least, most) => format!("a whole number from {least} to {most}"),
            Rule::Switch => "true or false".to_owned(),
            Rule::Fraction => "a number from 0 to 1".to_owned(),
            Rule::DirectoryNames => "one or more directory names, separated by commas".to_owned(),
            Rule::Origins => "origins such as https://search.example.org, separated by commas".to_owned(),
            Rule::Name => "a name".to_owned(),
            Rule::LogFilter => "a tracing filter, such as info or trove=debug".to_owned(),
        }
    }

    /// The value of a text from the environment or a flag, or none if it does not fit.
    pub(super) fn value_of_text(self, text: &str) -> Option<Value> {
        let value = match self {
            Rule::AtLeast(_) | Rule::Between(..) => json!(text.trim().parse::<u64>().ok()?),
            Rule::Switch => json!(text.trim().parse::<bool>().ok()?),
            Rule::Fraction => json!(text.trim().parse::<f64>().ok()?),
            Rule::Origins if matches!(text.trim(), "" | "[]") => json!([]),
            Rule::DirectoryNames | Rule::Origins => names_of(text)?.into_iter().map(Value::from).collect(),
            _ => json!(text),
        };
        self.value(value)
    }

    /// The value as the settings hold it, or none if it does not fit.
    pub(super) fn value(self, value: Value) -> Option<Value> {
        let fits = match self {
            Rule::OptionalPath | Rule::OptionalAddress | Rule::OptionalUrl if value.as_str() == Some("") => {
                return Some(Value::Null);
            }
            Rule::OptionalAddress | Rule::OptionalUrl if value.is_null() => true,
            Rule::Address | Rule::OptionalAddress => {
                value.as_str().is_some_and(|text| text.parse::<std::net::SocketAddr>().is_ok())
            }
            Rule::OptionalUrl => value.as_str().is_some_and(is_url),
            Rule::Path => value.as_str().is_some_and(|text| !text.is_empty()),
            Rule::OptionalPath => value.is_string() || value.is_null(),
            Rule::OneOf(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Rule::AtLeast(least) => value.as_u64().is_some_and(|number| number >= least),
            Rule::Between(least, most) => {
                value.as_u64().is_some_and(|number| (least..=most).contains(&number))
            }
            Rule::Switch => value.is_boolean(),
            Rule::Fraction => value.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number)),
            Rule::DirectoryNames => value.as_array().is_some_and(|names| {
                !names.is_empty() && names.iter().all(|name| name.as_str().is_some_and(is_directory_name))
            }),
            Rule::Origins => value
                .as_array()
                .is_some_and(|all| all.iter().all(|origin| origin.as_str().is_some_and(is_origin))),
            Rule::Name => value.as_str().is_some_and(is_directory_name),
            Rule::LogFilter => value.as_str().is_some_and(|text| EnvFilter::try_new(text).is_ok()),
        };
        fits.then_some(value)
    }
}

/// The names of a list that is separated by commas, or written as in the file: `a,b` or `["a", "b"]`.
fn names_of(text: &str) -> Option<Vec<&str>> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.split(',').map(one_name).collect()
}

/// A name, without its quotes; none where what is left of a list's signs shows that it was meant otherwise.
fn one_name(text: &str) -> Option<&str> {
    let text = text.trim();
    let within = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    let name = within('"').or_else(|| within('\'')).unwrap_or(text);
    (!name.contains(['[', ']', '"', '\''])).then_some(name)
}

/// Whether a text is an address that a client can connect to.
fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty()) && text.parse::<tonic::codegen::http::Uri>().is_ok()
}

/// Whether a text is an origin as browsers send it: a scheme and a host, without a path.
fn is_origin(text: &str) -> bool {
    is_url(text) && text.matches('/').count() == 2
}

/// Whether a name is one plain component of a path.
fn is_directory_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Full name, such as `encoder.device`.
    pub name: &'static str,
    /// What it means: the lines of the field's doc comment, each with a space in front.
    pub doc: &'static str,
    /// What values it takes.
    pub rule: Rule,
}

impl Key {
    /// The documentation as one paragraph.
    pub fn paragraph(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Defines a section of the settings: the struct, its defaults and its keys, from one list.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident in $prefix:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $rule:expr; )+
        }
        $( sections { $( $(#[doc = $section_doc:literal])+ $section:ident: $section_kind:ty; )+ } )?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $kind, )+
            $($( $(#[doc = $section_doc])+ pub $section: $section_kind, )+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $default, )+
                    $($( $section: <$section_kind>::default(), )+)?
                }
            }
        }

        impl $name {
            /// The keys of this section, in order, those of its own sections last.
            pub(crate) fn keys() -> Vec<$crate::config::Key> {
                #[allow(unused_mut)]
                let mut keys = vec![ $( $crate::config::Key {
                    name: concat!($prefix, stringify!($field)),
                    doc: concat!($($doc, "\n"),+),
                    rule: $rule,
                } ),+ ];
                $($( keys.extend(<$section_kind>::keys()); )+)?
                keys
            }
        }
    };
}
pub(super) use section;
