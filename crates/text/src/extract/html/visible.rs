//! What a reader of a page does not see.

use std::collections::HashSet;

use ego_tree::NodeId;
use scraper::node::Element;
use scraper::{Html, Selector};

/// Most rules of a page's own style sheets that are looked at.
const MAX_RULES: usize = 200;
/// From so far to the left or above on, a place is off the screen.
const OFF_SCREEN: f64 = -900.0;

/// Elements that are hidden by the page's own style sheets.
pub(super) fn hidden_by_sheets(page: &Html) -> HashSet<NodeId> {
    let mut hidden = HashSet::new();
    let Ok(sheets) = Selector::parse("style") else { return hidden };
    let mut rules = 0;
    for sheet in page.select(&sheets).filter(|sheet| sheet.attr("media").is_none()) {
        for selector in hiding_rules(&sheet.text().collect::<String>()) {
            rules += 1;
            let Ok(selector) = Selector::parse(&selector) else { continue };
            if rules > MAX_RULES {
                return hidden;
            }
            hidden.extend(page.select(&selector).map(|element| element.id()));
        }
    }
    hidden
}

/// Selectors of one class or id whose rule says `display: none`, outside of `@media` and the like: what a page hides
/// only until its script runs, such as its whole body, is named otherwise.
fn hiding_rules(sheet: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = sheet;
    while let Some((selectors, after)) = rest.split_once('{') {
        let selectors = selectors.rsplit_once("*/").map_or(selectors, |(_, after)| after).trim();
        if selectors.starts_with('@') {
            rest = after_block(after);
            continue;
        }
        let (declarations, after) = after.split_once('}').unwrap_or((after, ""));
        rest = after;
        let is_hiding = |(name, value): (String, String)| name == "display" && value == "none";
        if self::declarations(declarations).any(is_hiding) {
            let simple = selectors.split(',').map(str::trim).filter(|s| {
                let name = s.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).strip_prefix(['.', '#']);
                name.is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || "-_".contains(c)))
            });
            found.extend(simple.map(str::to_owned));
        }
    }
    found
}

/// What follows a block whose opening brace is before the text.
fn after_block(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    ""
}

/// Whether an element is hidden by itself, with all that is in it.
pub(super) fn is_hidden(element: &Element) -> bool {
    let by_attribute = element.attr("hidden").is_some_and(|value| value != "until-found")
        || element.attr("aria-hidden").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || element.attr("aria-modal").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    by_attribute
        || (element.name() == "dialog" && element.attr("open").is_none())
        || element.attr("style").is_some_and(hides)
        || element.classes().any(|class| {
            matches!(class, "sr-only" | "visually-hidden" | "visuallyhidden" | "screen-reader-text")
        })
}

fn declarations(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(';').filter_map(|declaration| {
        let (name, value) = declaration.split_once(':')?;
        let value = value.to_ascii_lowercase().replace("!important", "");
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    })
}

/// Whether an inline style leaves nothing to see.
fn hides(style: &str) -> bool {
    let number = |value: &str| {
        let end = value.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(value.len());
        value[..end].parse::<f64>().ok()
    };
    let (mut is_placed, mut is_off, mut is_clipped, mut is_flat) = (false, false, false, false);
    for (name, value) in declarations(style) {
        match (name.as_str(), value.as_str()) {
            ("display", "none")
            | ("visibility", "hidden" | "collapse")
            | ("content-visibility", "hidden") => return true,
            ("opacity" | "font-size", _) if number(&value) == Some(0.0) => return true,
            ("text-indent", _) if number(&value).is_some_and(|n| n <= OFF_SCREEN) => return true,
            ("position", "absolute" | "fixed") => is_placed = true,
            ("left" | "top" | "right" | "bottom" | "margin-left" | "margin-top", _) => {
                is_off |= number(&value).is_some_and(|n| n <= OFF_SCREEN);
            }
            ("clip", _) => is_off |= value.replace(' ', "").starts_with("rect(0"),
            ("overflow", "hidden" | "clip") => is_clipped = true,
            ("width" | "height" | "max-height" | "max-width", _) => is_flat |= number(&value) == Some(0.0),
            _ => {}
        }
    }
    (is_placed && is_off) || (is_clipped && is_flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_styles() {
        for style in [
            "display:none",
            "color: red; Display : NONE !important",
            "visibility:hidden",
            "opacity:0",
            "font-size:0px",
            "text-indent:-9999px",
            "position:absolute;left:-9999px",
            "position: absolute; clip: rect(0, 0, 0, 0)",
            "height:0;overflow:hidden",
        ] {
            assert!(hides(style), "{style}");
        }
        for style in ["display:block", "opacity:0.5", "font-size:0.9em", "left:-9999px", "height:0", "", "x"]
        {
            assert!(!hides(style), "{style}");
        }
    }

    #[test]
    fn rules_of_sheets() {
        let sheet = "/* a */ .x, p.y , .a .b{ color:red; display : none } @media print { .z { display:none } } \
            body{display:none} #w{display:none}.v{display:block} .u{display:none";
        assert_eq!(hiding_rules(sheet), [".x", "p.y", "#w", ".u"]);
    }
}
