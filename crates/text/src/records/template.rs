//! Texts made of a record's fields, such as `{name} costs {price}`.

use std::str::FromStr;

/// A text with the names of fields in braces. `{{` and `}}` are braces themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Names of its fields, as they are written.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Field(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text with the values that `value` gives; `None` where all fields are empty.
    pub fn fill<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
        let mut text = String::new();
        let mut is_empty = true;
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Field(name) => {
                    let value = value(name).unwrap_or_default();
                    is_empty &= value.trim().is_empty();
                    text.push_str(value);
                }
            }
        }
        (!is_empty).then_some(text)
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.next_if_eq(&c).is_some() => literal.push(c),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some(c) => name.push(c),
                            None => return Err(format!("expected a brace after {{{name}")),
                        }
                    }
                    if name.trim().is_empty() {
                        return Err("expected the name of a field between braces".to_owned());
                    }
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(Part::Field(name));
                }
                '}' => return Err("expected { before }; write }} for a brace".to_owned()),
                c => literal.push(c),
            }
        }
        parts.push(Part::Text(literal));
        let template = Self(parts);
        if template.fields().next().is_none() {
            return Err("expected a field in braces, such as {name}".to_owned());
        }
        Ok(template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in() {
        let template: Template = "{ Name } costs {price} {{net}}".parse().unwrap();
        assert_eq!(template.fields().collect::<Vec<_>>(), [" Name ", "price"]);
        let value = |name: &str| (name.trim() == "Name").then_some("Rope");
        assert_eq!(template.fill(value).as_deref(), Some("Rope costs  {net}"));
        assert_eq!(template.fill(|_| Some(" ")), None);
        for bad in ["", "no field", "{", "{name", "{}", "a } b", "{{x}}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
