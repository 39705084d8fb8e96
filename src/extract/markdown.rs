use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::Builder;
use crate::domain::Extracted;
use crate::error::Result;

pub(super) fn extract(text: &str) -> Result<Extracted> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut builder = Builder::default();
    let mut block = String::new();
    let mut front_matter_title = None;
    let mut in_front_matter = false;
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::MetadataBlock(_)) => in_front_matter = true,
            Event::End(TagEnd::MetadataBlock(_)) => in_front_matter = false,
            Event::Text(t) if in_front_matter => {
                let title = t.lines().find_map(|l| l.strip_prefix("title:"));
                front_matter_title = title.map(|t| t.trim().trim_matches(['"', '\'']).to_owned());
            }
            Event::Text(t) | Event::Code(t) => block.push_str(&t),
            Event::SoftBreak | Event::HardBreak => block.push('\n'),
            Event::End(TagEnd::TableCell) => block.push(' '),
            Event::End(TagEnd::Heading(level)) => builder.heading(level as u8, &std::mem::take(&mut block)),
            // An item of a tight list has no paragraph, so it ends where a nested block starts.
            Event::Start(tag) if starts_block(&tag) => builder.block(&std::mem::take(&mut block)),
            Event::End(tag) if ends_block(tag) => builder.block(&std::mem::take(&mut block)),
            _ => {}
        }
    }
    builder.block(&block);
    let title = front_matter_title.filter(|t| !t.is_empty()).or_else(|| builder.first_heading());
    builder.finish(title)
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
    fn front_matter_names_the_title() {
        let found = extract("---\ntitle: \"T\"\n---\n\ntext").unwrap();
        assert_eq!((found.title.as_deref(), found.text.as_str()), (Some("T"), "text"));
    }
}
