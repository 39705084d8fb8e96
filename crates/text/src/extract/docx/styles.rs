//! Paragraph and character styles.

use std::collections::HashMap;

use quick_xml::events::Event;

use super::xml::{self, attribute, value};

/// Most styles that are looked at for what a style has from those it is based on.
const MAX_BASES: usize = 16;
/// Outline level of body text; those of headings are less.
const BODY: u8 = 9;

/// Styles by their ids in lower case, which Word writes in the language of its user.
#[derive(Default)]
pub(super) struct Styles(HashMap<String, Style>);

#[derive(Default, Clone)]
struct Style {
    outline: Option<u8>,
    is_title: bool,
    based_on: String,
    numbering: Option<String>,
    level: Option<usize>,
    script: Option<Script>,
}

/// Text above or below the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Raised,
    Lowered,
}

impl Script {
    pub(super) fn of(value: &str) -> Option<Self> {
        match value {
            "superscript" => Some(Self::Raised),
            "subscript" => Some(Self::Lowered),
            _ => None,
        }
    }
}

impl Styles {
    /// The styles of a part. Where it is broken there are fewer: they are worth less than the text.
    pub(super) fn parse(part: &[u8]) -> Self {
        let mut styles = Self::default();
        let (mut id, mut style) = (String::new(), Style::default());
        let _ = xml::each(part, |event| match event {
            Event::Start(e) | Event::Empty(e) => match e.local_name().as_ref() {
                "style" => {
                    id = attribute(e, "styleId").to_lowercase();
                    style = Style { outline: outline_of(&id), ..Style::default() };
                }
                // The names of built-in styles are English in all languages.
                "name" => {
                    let name = value(e).to_lowercase();
                    style.is_title = name == "title";
                    style.outline = outline_of(&name).or(style.outline);
                }
                "basedOn" => style.based_on = value(e).to_lowercase(),
                "outlineLvl" => style.outline = style.outline.or(value(e).parse().ok()),
                "numId" => style.numbering = Some(value(e)),
                "ilvl" => style.level = value(e).parse().ok(),
                "vertAlign" => style.script = Script::of(&value(e)),
                _ => {}
            },
            Event::End(e) if e.local_name().as_ref() == "style" => {
                styles.0.insert(std::mem::take(&mut id), std::mem::take(&mut style));
            }
            _ => {}
        });
        styles
    }

    /// The first thing that a style has, by itself or from a style it is based on.
    fn find<T>(&self, id: &str, get: impl Fn(&Style) -> Option<T>) -> Option<T> {
        let mut style = self.0.get(id)?;
        for _ in 0..MAX_BASES {
            if let Some(found) = get(style) {
                return Some(found);
            }
            style = self.0.get(&style.based_on)?;
        }
        None
    }

    /// The heading level that a style has.
    pub(super) fn level(&self, id: &str) -> Option<u8> {
        let mut id = id;
        let mut outline = None;
        for _ in 0..MAX_BASES {
            let Some(style) = self.0.get(id) else {
                outline = outline_of(id);
                break;
            };
            outline = style.outline;
            if outline.is_some() {
                break;
            }
            id = &style.based_on;
        }
        heading_level(outline)
    }

    pub(super) fn is_title(&self, id: &str) -> bool {
        id == "title" || self.0.get(id).is_some_and(|style| style.is_title)
    }

    /// The list that paragraphs of a style belong to, and their level in it.
    pub(super) fn numbering(&self, id: &str) -> Option<(String, Option<usize>)> {
        let list = self.find(id, |style| style.numbering.clone())?;
        Some((list, self.find(id, |style| style.level)))
    }

    pub(super) fn script(&self, id: &str) -> Option<Script> {
        self.find(id, |style| style.script)
    }
}

/// The heading level of an outline level.
pub(super) fn heading_level(outline: Option<u8>) -> Option<u8> {
    outline.filter(|outline| *outline < BODY).map(|outline| outline + 1)
}

/// The outline level of a style of headings.
fn outline_of(name: &str) -> Option<u8> {
    let level: u8 = name.strip_prefix("heading")?.trim().parse().ok()?;
    level.checked_sub(1).filter(|outline| *outline < BODY)
}
