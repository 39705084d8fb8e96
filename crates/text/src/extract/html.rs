use scraper::node::Element;
use scraper::{ElementRef, Html, Node, Selector};

use super::{Builder, CELL};
use trove_core::domain::Extracted;
use trove_core::error::Result;

pub(super) fn extract(source: &str) -> Result<Extracted> {
    let page = Html::parse_document(source);
    let title = select(&page, "title").map(|t| t.text().collect::<String>());
    let root = select(&page, "main, [role=main]").unwrap_or_else(|| page.root_element());
    let mut reader = Reader::default();
    reader.read(root);
    reader.flush();
    let title = title.filter(|t| !t.trim().is_empty()).or_else(|| reader.builder.first_heading());
    reader.builder.finish(title)
}

fn select<'a>(page: &'a Html, selector: &str) -> Option<ElementRef<'a>> {
    page.select(&Selector::parse(selector).ok()?).next()
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    block: String,
    /// How many `pre` elements are open.
    preformatted: usize,
}

impl Reader {
    /// Walks without recursion, since a page may nest as deep as it likes.
    fn read(&mut self, root: ElementRef<'_>) {
        let mut node = *root;
        loop {
            let entered = match node.value() {
                Node::Text(text) => {
                    self.text(text);
                    false
                }
                Node::Element(element) if is_skipped(element) => false,
                Node::Element(element) => {
                    self.open(element.name());
                    true
                }
                _ => false,
            };
            if entered {
                if let Some(child) = node.first_child() {
                    node = child;
                    continue;
                }
                self.close_node(node.value());
            }
            loop {
                if node == *root {
                    return;
                }
                if let Some(next) = node.next_sibling() {
                    node = next;
                    break;
                }
                let Some(parent) = node.parent() else {
                    return;
                };
                node = parent;
                self.close_node(node.value());
            }
        }
    }

    fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            self.block.push_str(text);
            return;
        }
        if text.starts_with(char::is_whitespace) {
            self.space();
        }
        for (i, word) in text.split_whitespace().enumerate() {
            if i > 0 {
                self.block.push(' ');
            }
            self.block.push_str(word);
        }
        if text.ends_with(char::is_whitespace) {
            self.space();
        }
    }

    fn space(&mut self) {
        if !self.block.is_empty() && !self.block.ends_with([' ', '\n', CELL]) {
            self.block.push(' ');
        }
    }

    /// What separates a cell from the one before.
    fn cell(&mut self) {
        if !self.block.trim_end().is_empty() {
            self.block.truncate(self.block.trim_end_matches(' ').len());
            self.block.push(CELL);
        }
    }

    fn open(&mut self, name: &str) {
        match name {
            "br" => self.block.push('\n'),
            "td" | "th" => self.cell(),
            "pre" => {
                self.flush();
                self.preformatted += 1;
            }
            _ if is_block(name) => self.flush(),
            _ => {}
        }
    }

    fn close_node(&mut self, node: &Node) {
        let Node::Element(element) = node else {
            return;
        };
        let name = element.name();
        if let Some(level) = heading_level(name) {
            self.builder.heading(level, &std::mem::take(&mut self.block));
        } else if is_block(name) {
            self.flush();
        }
        if name == "pre" {
            self.preformatted = self.preformatted.saturating_sub(1);
        }
    }

    fn flush(&mut self) {
        self.builder.block(&std::mem::take(&mut self.block));
    }
}

fn heading_level(name: &str) -> Option<u8> {
    let level = name.strip_prefix('h')?.parse().ok()?;
    (1..=6).contains(&level).then_some(level)
}

fn is_skipped(element: &Element) -> bool {
    let hidden = matches!(
        element.name(),
        "head"
            | "script"
            | "style"
            | "nav"
            | "header"
            | "footer"
            | "noscript"
            | "template"
            | "svg"
            | "iframe"
    );
    // Documentation generators put a pilcrow link after each heading.
    hidden || element.attr("role") == Some("navigation") || element.attr("class") == Some("headerlink")
}

fn is_block(name: &str) -> bool {
    heading_level(name).is_some()
        || matches!(
            name,
            "address"
                | "article"
                | "aside"
                | "blockquote"
                | "body"
                | "caption"
                | "dd"
                | "details"
                | "div"
                | "dl"
                | "dt"
                | "fieldset"
                | "figcaption"
                | "figure"
                | "form"
                | "hr"
                | "li"
                | "main"
                | "ol"
                | "p"
                | "pre"
                | "section"
                | "summary"
                | "table"
                | "tbody"
                | "thead"
                | "tr"
                | "ul"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_headings() {
        let found = extract(
            "<title> T </title><nav>no</nav><h1>A</h1><p>x <b>y</b>z\n w<br>v</p><script>no</script>\
             <h2>B</h2><pre>a\n  b</pre><table><tr><td>1<td>2</table>",
        )
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("T"));
        assert_eq!(found.text, "A\n\nx yz w\nv\n\nB\n\na\n  b\n\n1\t2");
        assert_eq!(found.sections[1].headings, ["A", "B"]);
    }

    #[test]
    fn deep_nesting_is_read() {
        let source = format!("{}deep", "<div>".repeat(20_000));
        assert_eq!(extract(&source).unwrap().text, "deep");
    }
}
