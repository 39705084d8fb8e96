use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{Builder, CELL};
use trove_core::domain::Extracted;
use trove_core::error::Result;

pub(super) fn extract(text: &str) -> Result<Extracted> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut builder = Builder::default();
    let mut block = String::new();
    let mut front_matter = String::new();
    let mut in_front_matter = false;
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::MetadataBlock(_)) => in_front_matter = true,
            Event::End(TagEnd::MetadataBlock(_)) => in_front_matter = false,
            // One event, or with CRLF several.
            Event::Text(t) if in_front_matter => front_matter.push_str(&t),
            Event::Text(t) | Event::Code(t) => block.push_str(&t),
            Event::SoftBreak | Event::HardBreak => block.push('\n'),
            Event::End(TagEnd::TableCell) => block.push(CELL),
            Event::End(TagEnd::Heading(level)) => builder.heading(level as u8, &std::mem::take(&mut block)),
            // An item of a tight list has no paragraph, so it ends where a nested block starts.
            Event::Start(tag) if starts_block(&tag) => builder.block(&std::mem::take(&mut block)),
            Event::End(tag) if ends_block(tag) => builder.block(&std::mem::take(&mut block)),
            _ => {}
        }
    }
    builder.block(&block);
    let title = title_of(&front_matter).or_else(|| builder.first_heading());
    builder.finish(title)
}

fn title_of(front_matter: &str) -> Option<String> {
    let title = front_matter.lines().find_map(|line| line.strip_prefix("title:"))?;
    let title = title.trim().trim_matches(['"', '\'']);
    (!title.is_empty()).then(|| title.to_owned())
}

fn starts_block(tag: &Tag<'_>) -> bool {
    matches!(
        tag,
        Tag::Paragraph
            | Tag::Heading { .. }
            | Tag::List(_)
            | Tag::Item
            | Tag::CodeBlock(_)
            | Tag::BlockQuote(_)
    )
}

fn ends_block(tag: TagEnd) -> bool {
    matches!(
        tag,
        TagEnd::Paragraph
            | TagEnd::Item
            | TagEnd::CodeBlock
            | TagEnd::TableHead
            | TagEnd::TableRow
            | TagEnd::FootnoteDefinition
    )
}

#[cfg(test)]
mod tests {
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
            extract("| Crane | Lift |\n|---|---|\n| North | 11 t |\n| South west | 25 t |\n").unwrap();
        assert_eq!(found.text, "Crane\tLift\n\nNorth\t11 t\n\nSouth west\t25 t");
    }

    #[test]
    fn front_matter_names_the_title() {
        let found = extract("---\ntitle: \"T\"\n---\n\ntext").unwrap();
        assert_eq!((found.title.as_deref(), found.text.as_str()), (Some("T"), "text"));
        let found = extract("---\r\ntitle: T\r\ndate: 2020-01-01\r\n---\r\n\r\n# Heading\r\n").unwrap();
        assert_eq!((found.title.as_deref(), found.text.as_str()), (Some("T"), "Heading"));
    }

    #[test]
    fn a_long_heading_above_many_sections_takes_little_room() {
        let found = extract(&format!("# {}\n{}", "x".repeat(500_000), "## a\n".repeat(1000))).unwrap();
        assert_eq!(found.sections.len(), 1001);
        let bytes: usize = found.sections.iter().flat_map(|s| &s.headings).map(String::len).sum();
        assert!(bytes < 300_000, "{bytes}");
    }
}
