//! MDX: Markdown with JavaScript in it, of which the words remain.

/// Most bytes that are looked through for the ends of what has none.
const MAX_VAIN_BYTES: usize = 1 << 20;

/// A text without its imports, exports and expressions, and with its components as the blocks they are.
pub(super) fn without_code(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut lines = Lines::default();
    let mut ends = Ends::default();
    let mut depth = 0;
    for line in text.split_inclusive('\n') {
        let kind = lines.kind_of(line);
        if let Kind::Prose = kind {
            lines.prose.push_str(line);
            continue;
        }
        prose(&std::mem::take(&mut lines.prose), &mut depth, &mut ends, &mut kept);
        if let Kind::Verbatim = kind {
            kept.push_str(line);
        }
    }
    prose(&lines.prose, &mut depth, &mut ends, &mut kept);
    kept
}

enum Kind {
    /// JavaScript.
    Code,
    /// A block of code, which is content.
    Verbatim,
    Prose,
}

#[derive(Default)]
struct Lines {
    fence: Option<String>,
    in_code: bool,
    /// What came since the last line of code.
    prose: String,
}

impl Lines {
    fn kind_of(&mut self, line: &str) -> Kind {
        let start = line.trim_start();
        if let Some(fence) = &self.fence {
            if start.starts_with(fence.as_str()) {
                self.fence = None;
            }
            return Kind::Verbatim;
        }
        if self.in_code {
            // An import or export goes on to the next blank line.
            self.in_code = !line.trim().is_empty();
            return Kind::Code;
        }
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark)) {
            let length = start.chars().take_while(|c| mark.starts_with(*c)).count();
            self.fence = Some(mark[..1].repeat(length));
            return Kind::Verbatim;
        }
        let module = ["import ", "import{", "import\"", "import'", "export "];
        let is_begun = self.prose.lines().next_back().is_some_and(|line| !line.trim().is_empty());
        if !is_begun && module.iter().any(|word| line.starts_with(word)) {
            self.in_code = true;
            return Kind::Code;
        }
        Kind::Prose
    }
}

/// Adds prose without tags and expressions. Where components are open, indentation is theirs and marks no code.
fn prose(text: &str, depth: &mut usize, ends: &mut Ends, kept: &mut String) {
    let mut rest = text;
    let mut in_code = 0_usize;
    let mut at_line_start = true;
    while let Some(c) = rest.chars().next() {
        if at_line_start && *depth > 0 {
            let line = rest.trim_start_matches([' ', '\t']);
            if line.len() < rest.len() {
                rest = line;
                continue;
            }
        }
        if c == '`' {
            let ticks = rest.len() - rest.trim_start_matches('`').len();
            in_code = if in_code == 0 {
                ticks
            } else if in_code == ticks {
                0
            } else {
                in_code
            };
            kept.push_str(&rest[..ticks]);
            rest = &rest[ticks..];
            at_line_start = false;
            continue;
        }
        if in_code == 0 && c == '\\' {
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            kept.push_str(&rest[..length]);
            rest = &rest[length..];
            at_line_start = false;
            continue;
        }
        if in_code == 0
            && c == '{'
            && let Some(length) = ends.of_braces(rest)
        {
            rest = &rest[length..];
            continue;
        }
        if in_code == 0
            && c == '<'
            && let Some(tag) = Tag::at(rest, ends)
        {
            tag.write(depth, kept);
            rest = &rest[tag.length..];
            continue;
        }
        kept.push(c);
        at_line_start = c == '\n';
        rest = &rest[c.len_utf8()..];
    }
}

/// Where things end; what has no end is looked for only so often.
#[derive(Default)]
struct Ends {
    vain: usize,
}

impl Ends {
    /// The bytes of an expression in braces, with the strings in it.
    fn of_braces(&mut self, text: &str) -> Option<usize> {
        let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
        self.look(text, |c| {
            match quote {
                Some(_) if std::mem::take(&mut escaped) => {}
                Some(_) if c == '\\' => escaped = true,
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None => match c {
                    '"' | '`' => quote = Some(c),
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                },
            }
            depth == 0
        })
        .map(|at| at + 1)
    }

    /// Where a string ends.
    fn of_quote(&mut self, text: &str, quote: char) -> Option<usize> {
        self.look(text, |c| c == quote)
    }

    fn look(&mut self, text: &str, mut ends: impl FnMut(char) -> bool) -> Option<usize> {
        if self.vain > MAX_VAIN_BYTES {
            return None;
        }
        let end = text.char_indices().find(|(_, c)| ends(*c)).map(|(at, _)| at);
        if end.is_none() {
            self.vain += text.len();
        }
        end
    }
}

/// A tag of JSX.
struct Tag<'a> {
    name: &'a str,
    /// Attributes whose values are strings.
    attributes: Vec<(&'a str, &'a str)>,
    closes: bool,
    empty: bool,
    length: usize,
}

impl<'a> Tag<'a> {
    fn at(text: &'a str, ends: &mut Ends) -> Option<Self> {
        let inner = text.strip_prefix('<')?;
        let closes = inner.starts_with('/');
        let named = inner.strip_prefix('/').unwrap_or(inner);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let end = named.find(|c| !is_name(c)).unwrap_or(named.len());
        let (name, mut rest) = named.split_at(end);
        let is_fragment = name.is_empty() && rest.starts_with('>');
        if !is_fragment && !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix("/>") {
                return Some(Self {
                    name,
                    attributes,
                    closes,
                    empty: true,
                    length: text.len() - after.len(),
                });
            }
            if let Some(after) = rest.strip_prefix('>') {
                return Some(Self {
                    name,
                    attributes,
                    closes,
                    empty: false,
                    length: text.len() - after.len(),
                });
            }
            if rest.starts_with('{') {
                rest = &rest[ends.of_braces(rest)?..];
                continue;
            }
            let end = rest.find(|c| !is_name(c) && c != ':').filter(|end| *end > 0)?;
            let (key, after) = rest.split_at(end);
            rest = after.trim_start();
            let Some(value) = rest.strip_prefix('=').map(str::trim_start) else { continue };
            if value.starts_with('{') {
                rest = &value[ends.of_braces(value)?..];
                continue;
            }
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (string, after) = value[1..].split_at(ends.of_quote(&value[1..], quote)?);
            attributes.push((key, string));
            rest = &after[1..];
        }
    }

    fn attribute(&self, names: &[&str]) -> Option<&'a str> {
        let found =
            self.attributes.iter().find(|(key, value)| names.contains(key) && !value.trim().is_empty());
        found.map(|(_, value)| *value)
    }

    /// Writes an element of HTML without what only JSX knows, and a component as a block with its title.
    fn write(&self, depth: &mut usize, kept: &mut String) {
        let is_component = self.name.is_empty()
            || self.name.contains('.')
            || self.name.starts_with(|c: char| c.is_ascii_uppercase());
        if !is_component {
            kept.push_str(if self.closes { "</" } else { "<" });
            kept.push_str(self.name);
            for (key, value) in self
                .attributes
                .iter()
                .filter(|(key, _)| matches!(*key, "href" | "src" | "alt" | "id" | "hidden"))
            {
                kept.push_str(&format!(" {key}=\"{}\"", value.replace('"', "&quot;")));
            }
            kept.push('>');
            let is_void =
                matches!(self.name, "area" | "br" | "col" | "hr" | "img" | "input" | "link" | "meta" | "wbr");
            if self.empty && !is_void {
                kept.push_str(&format!("</{}>", self.name));
            }
            return;
        }
        match (self.closes, self.empty) {
            (true, _) => *depth = depth.saturating_sub(1),
            (_, true) => {}
            _ => *depth += 1,
        }
        // Within a line, an empty one is a picture or a badge.
        let title = self.attribute(&["title", "label", "summary", "alt", "heading", "question"]);
        let is_in_line = self.empty && kept.rsplit('\n').next().is_some_and(|line| !line.trim().is_empty());
        let gap = if is_in_line { " " } else { "\n\n" };
        kept.push_str(gap);
        if let Some(title) = title {
            kept.push_str(title);
            kept.push_str(gap);
        }
        if let Some(description) = self.attribute(&["description", "subtitle", "caption"]) {
            kept.push_str(description);
            kept.push_str(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        without_code(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn modules_and_expressions_go() {
        assert_eq!(
            words("import A from 'a';\nimport {\n  B\n} from 'b';\n\nText {props.x} on {`a}`}.\n"),
            "Text on ."
        );
        assert_eq!(
            words("export const x = {\n  a: 1\n};\n\n{/* a comment\n\n over lines */}\nWe import tea.\n"),
            "We import tea."
        );
        assert_eq!(
            words("```js\nimport A from 'a';\nconst x = {};\n```\n`{a}` \\{b} <c@d.e>"),
            "```js import A from 'a'; const x = {}; ``` `{a}` \\{b} <c@d.e>"
        );
    }

    #[test]
    fn components_leave_their_words() {
        assert_eq!(
            words(
                "<Tabs items={['a', 'b']}>\n  <Tab title=\"npm\" {...x}>\n    Run **it**.\n  </Tab>\n</Tabs>"
            ),
            "npm Run **it**."
        );
        assert_eq!(words("<Card title='Start' description=\"Go on\" href=\"/x\" />"), "Start Go on");
        assert_eq!(words("<div style={{ color: 'red' }} className=\"x\">Red</div>"), "<div>Red</div>");
        assert_eq!(words("a < b and c > d, <>x</>"), "a < b and c > d, x");
        assert!(without_code("<A>\n    indented\n</A>").contains("\nindented"));
    }

    #[test]
    fn unclosed_braces_and_tags_lose_nothing() {
        assert_eq!(words("a { b\n\nc <D x={ e"), "a { b c <D x={ e");
        for mark in ["{", "<a x={", "<a x='", "<A><"] {
            assert!(without_code(&mark.repeat(200_000)).len() >= mark.len());
        }
    }
}
