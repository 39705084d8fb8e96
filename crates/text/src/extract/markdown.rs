//! Markdown: it is HTML written another way, and what it makes is read as such.

use std::ops::Range;

use pulldown_cmark::{CowStr, Event, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use super::front_matter::{self, Field};
use super::{Builder, html, mdx};
use trove_core::domain::{Extracted, Warning};
use trove_core::error::Result;

/// Elements that take what follows them, up to where they end, for something else than the text of a page.
const SWALLOWING: [&str; 20] = [
    "body",
    "dialog",
    "frameset",
    "head",
    "html",
    "iframe",
    "math",
    "noembed",
    "noframes",
    "noscript",
    "object",
    "plaintext",
    "script",
    "select",
    "style",
    "svg",
    "template",
    "textarea",
    "title",
    "xmp",
];

/// Reads Markdown, with the HTML in it. A page of HTML that goes by its name is read as such.
pub(super) fn extract(text: &str) -> Result<Extracted> {
    let start = text.trim_start();
    if ["<!doctype html", "<html"].iter().any(|mark| starts_with(start, mark)) {
        return html::extract(text);
    }
    read(text)
}

/// Reads Markdown that has JSX in it.
pub(super) fn extract_mdx(text: &str) -> Result<Extracted> {
    let end = front_matter_of(text).map_or(0, |(_, range)| range.end);
    let (head, body) = text.split_at(end);
    read(&format!("{head}{}", mdx::without_code(body)))
}

fn starts_with(text: &str, mark: &str) -> bool {
    text.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark))
}

fn options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS
}

fn read(text: &str) -> Result<Extracted> {
    let mut builder = Builder::default();
    let (fields, text) = match front_matter::json(text) {
        Some((fields, bytes)) if !fields.is_empty() => (fields, &text[bytes..]),
        _ => (fields_of(text, &mut builder), text),
    };
    let title = fields.iter().find_map(|field| field.title());
    for text in fields.iter().filter_map(Field::text) {
        builder.block(&text);
    }
    for field in fields.into_iter().filter(|field| field.title().is_none()) {
        builder.tell(&field.name, field.value);
    }
    html::extract_into(&page_of(text), &mut builder);
    let title = title.or_else(|| builder.first_heading());
    builder.finish(title)
}

/// The front matter of a document, and the bytes it takes.
fn front_matter_of(text: &str) -> Option<(MetadataBlockKind, Range<usize>)> {
    match Parser::new_ext(text, options()).into_offset_iter().next()? {
        (Event::Start(Tag::MetadataBlock(kind)), range) => Some((kind, range)),
        _ => None,
    }
}

fn fields_of(text: &str, builder: &mut Builder) -> Vec<Field> {
    let Some((kind, range)) = front_matter_of(text) else { return Vec::new() };
    let lines = text.get(range).unwrap_or_default().lines();
    let lines: Vec<_> =
        lines.map(str::trim_end).filter(|line| !matches!(*line, "---" | "+++" | "...")).collect();
    match kind {
        MetadataBlockKind::YamlStyle => front_matter::yaml(&lines),
        MetadataBlockKind::PlusesStyle => front_matter::toml(&lines.join("\n")).unwrap_or_else(|message| {
            builder.warn(Warning {
                page: None,
                reason: "FRONT_MATTER_UNREADABLE".to_owned(),
                message: format!("the front matter is no TOML ({message}); its fields are left out"),
            });
            Vec::new()
        }),
    }
}

/// The page of HTML that a text of Markdown makes.
fn page_of(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 2);
    let mut in_front_matter = false;
    let events = Parser::new_ext(text, options()).filter_map(|event| match event {
        Event::Start(Tag::MetadataBlock(_)) => {
            in_front_matter = true;
            None
        }
        Event::End(TagEnd::MetadataBlock(_)) => {
            in_front_matter = false;
            None
        }
        _ if in_front_matter => None,
        Event::FootnoteReference(_) => None,
        Event::Start(Tag::FootnoteDefinition(_)) => Some(Event::Html(CowStr::Borrowed("<div>"))),
        Event::End(TagEnd::FootnoteDefinition) => Some(Event::Html(CowStr::Borrowed("</div>"))),
        // Its title says what a renderer would show beside it.
        Event::InlineHtml(tag) if swallows(&tag) => Some(Event::Text(tag)),
        other => Some(other),
    });
    pulldown_cmark::html::push_html(&mut html, whole_blocks(events).into_iter());
    html
}

/// Events of which each block of HTML is one, with what it would leave open made text.
fn whole_blocks<'a>(events: impl Iterator<Item = Event<'a>>) -> Vec<Event<'a>> {
    let mut all = Vec::new();
    let mut block: Option<String> = None;
    for event in events {
        match (event, &mut block) {
            (Event::Start(Tag::HtmlBlock), _) => block = Some(String::new()),
            (Event::End(TagEnd::HtmlBlock), Some(html)) => {
                all.push(Event::Html(without_open_ends(std::mem::take(html)).into()));
                block = None;
            }
            (Event::Html(html), Some(block)) => block.push_str(&html),
            (event, _) => all.push(event),
        }
    }
    all
}

/// The name of the element that a tag opens, in lower case.
fn opened(tag: &str) -> Option<String> {
    let name: String = tag.strip_prefix('<')?.chars().take_while(char::is_ascii_alphanumeric).collect();
    Some(name.to_ascii_lowercase())
}

fn swallows(tag: &str) -> bool {
    opened(tag.strip_prefix("</").map_or(tag, |_| "")).is_some_and(|name| SWALLOWING.contains(&name.as_str()))
}

/// A block of HTML in which an element that swallows text ends, or else is text itself.
fn without_open_ends(html: String) -> String {
    let lower = html.to_ascii_lowercase();
    let mut safe = String::with_capacity(html.len());
    let mut at = 0;
    // Where each name is closed last, looked up once.
    let closes: Vec<_> = SWALLOWING.iter().map(|name| (*name, lower.rfind(&format!("</{name}")))).collect();
    for (start, _) in lower.match_indices('<') {
        let name = opened(&lower[start..(start + 12).min(lower.len())].chars().collect::<String>());
        let Some((_, close)) = name.and_then(|name| closes.iter().find(|(known, _)| *known == name)) else {
            continue;
        };
        if close.is_none_or(|close| close < start) {
            safe.push_str(&html[at..start]);
            safe.push_str("&lt;");
            at = start + 1;
        }
    }
    safe.push_str(&html[at..]);
    safe
}

#[cfg(test)]
mod tests {
    use trove_core::domain::MetadataValue;

    use super::*;

    #[test]
    fn headings_lists_and_code() {
        let found = extract(
            "Intro\n\n# A *b*\n\n- one\n  - two\n\n## C\n\n```\nx = 1\n```\n\n# D\n\n<!-- no -->\nlast",
        )
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("A b"));
        assert_eq!(found.text, "Intro\n\nA b\n\none\n\ntwo\n\nC\n\nx = 1\n\nD\n\nlast");
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join("/")).collect();
        assert_eq!(paths, ["", "A b", "A b/C", "D"]);
        assert_eq!(found.sections[2].span.slice(&found.text), Some("C\n\nx = 1"));
    }

    #[test]
    fn rows_of_tables_keep_their_cells_apart() {
        let found =
            extract("| Crane | Lift |\n|---|---|\n| North | 11 t<br>or 12 |\n| South west | |\n").unwrap();
        assert_eq!(found.text, "Crane\tLift\n\nNorth\t11 t or 12\n\nSouth west");
        let found = extract("| One |\n|---|\n| a |\n").unwrap();
        assert_eq!(found.text, "One\n\na");
    }

    #[test]
    fn front_matter_names_the_title() {
        let found = extract("---\ntitle: \"T\"\n---\n\ntext").unwrap();
        assert_eq!((found.title.as_deref(), found.text.as_str()), (Some("T"), "text"));
        let found = extract("---\r\ntitle: T\r\ndate: 2020-01-01\r\n---\r\n\r\n# Heading\r\n").unwrap();
        assert_eq!((found.title.as_deref(), found.text.as_str()), (Some("T"), "Heading"));
        assert_eq!(found.metadata["date"], MetadataValue::Timestamp(1_577_836_800, 0));
        let found = extract("+++\ntitle = 'T'\ntags = [\"a\", \"b\"]\n+++\n\ntext").unwrap();
        assert_eq!((found.title.as_deref(), found.text.as_str()), (Some("T"), "Tags: a, b\n\ntext"));
        let tags = MetadataValue::StringList(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(found.metadata["tags"], tags);
    }

    #[test]
    fn html_is_content() {
        let found = extract(
            "<div align=center>\n<h1>Gauge</h1>\n<p>A logger.</p>\n</div>\n\n<details>\n<summary>Which?</summary>\n\n\
             All of **them**.\n\n</details>\n\n<h3 name=x>\nDoes it\nharm?\n</h3>\n\na<br>b <sup>c</sup> <p hidden>no</p>",
        )
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("Gauge"));
        assert_eq!(found.text, "Gauge\n\nA logger.\n\nWhich?\n\nAll of them.\n\nDoes it harm?\n\na\nb c");
        assert_eq!(found.sections.last().unwrap().headings, ["Gauge", "Does it harm?"]);
    }

    #[test]
    fn tags_that_are_mentioned_swallow_nothing() {
        for tag in SWALLOWING {
            let inline = extract(&format!("The <{tag}> element.\n\nNext paragraph.")).unwrap().text;
            assert!(inline.contains("Next paragraph.") && inline.contains("element."), "{tag}: {inline}");
        }
        let block = extract("<div>\n<textarea>\n</div>\n\nNext paragraph.").unwrap().text;
        assert!(block.contains("Next paragraph."), "{block}");
        let closed = extract("<div>\n<style>p{}</style>x\n</div>\n\nNext.").unwrap().text;
        assert_eq!(closed, "x\n\nNext.");
    }

    #[test]
    fn heading_attributes_are_no_text() {
        let found = extract("## Fuel filters {#fuel .wide}\n\nText.").unwrap();
        assert_eq!(found.sections[0].headings, ["Fuel filters"]);
    }

    #[test]
    fn addresses_of_links_stand_behind_what_they_are_in() {
        let found = extract(
            "See [the manual](https://e.org/EM-940) and ![wiring](img/w-940.png), [below](#x), <https://e.org>.\n\nNext.\n\n\
             - [![build](b.svg)](https://ci.org/x)\n- [ref][1]\n\n[1]: /y 'Y'\n",
        )
        .unwrap();
        assert_eq!(
            found.text,
            "See the manual and wiring, below, https://e.org.\n\nhttps://e.org/EM-940\nimg/w-940.png\n\nNext.\n\n\
             build\n\nhttps://ci.org/x\n\nref\n\n/y"
        );
    }

    #[test]
    fn a_page_of_html_is_read_as_one() {
        let found = extract("<!DOCTYPE html><html><body><nav>no</nav><p>Cod quota").unwrap();
        assert_eq!(found.text, "Cod quota");
    }

    #[test]
    fn footnotes_stand_where_they_are_written() {
        let found = extract("Text[^1] on.\n\n[^1]: The note.\n\nEnd.").unwrap();
        assert_eq!(found.text, "Text on.\n\nThe note.\n\nEnd.");
    }

    #[test]
    fn mdx_is_read_without_its_code() {
        let found = extract_mdx(
            "---\ntitle: T\n---\nimport Tabs from \"x\";\n\n# Install\n\n<Note>Disconnect the *battery*.</Note>\n\n\
             <Steps>\n  <Step title=\"Mount\">Fix with four bolts.</Step>\n</Steps>\n\nThen {props.x} on.",
        )
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("T"));
        assert_eq!(
            found.text,
            "Install\n\nDisconnect the battery.\n\nMount\n\nFix with four bolts.\n\nThen on."
        );
    }

    #[test]
    fn a_long_heading_above_many_sections_takes_little_room() {
        let found = extract(&format!("# {}\n{}", "x".repeat(500_000), "## a\n".repeat(1000))).unwrap();
        assert_eq!(found.sections.len(), 1001);
        let bytes: usize = found.sections.iter().flat_map(|s| &s.headings).map(String::len).sum();
        assert!(bytes < 300_000, "{bytes}");
    }
}
