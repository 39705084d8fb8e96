//! LaTeX: what a reader of the set document sees, as far as it can be told without setting it.

use std::collections::HashSet;

use super::properties::{AUTHOR, KEYWORDS, Properties};
use super::slides::push_words;
use super::{Builder, CELL};
use trove_core::domain::Extracted;
use trove_core::error::Result;

/// Most bytes of an argument that is read by itself; a longer one is part of the text.
const MAX_ARGUMENT: usize = 4 << 10;
/// Most arguments within each other that are read by themselves.
const MAX_DEPTH: usize = 16;

/// Commands of headings with their levels.
const HEADINGS: [(&str, u8); 8] = [
    ("part", 1),
    ("chapter", 2),
    ("section", 3),
    ("subsection", 4),
    ("subsubsection", 5),
    ("paragraph", 6),
    ("subparagraph", 7),
    ("frametitle", 5),
];
/// Commands whose arguments are no text, with how many of them.
const SILENT: [(&str, usize); 58] = [
    ("documentclass", 1),
    ("usepackage", 1),
    ("RequirePackage", 1),
    ("input", 1),
    ("include", 1),
    ("label", 1),
    ("index", 1),
    ("glossary", 1),
    ("vspace", 1),
    ("hspace", 1),
    ("setlength", 2),
    ("addtolength", 2),
    ("setcounter", 2),
    ("addtocounter", 2),
    ("newcounter", 1),
    ("newlength", 1),
    ("stepcounter", 1),
    ("refstepcounter", 1),
    ("newcommand", 2),
    ("renewcommand", 2),
    ("providecommand", 2),
    ("DeclareMathOperator", 2),
    ("newenvironment", 3),
    ("renewenvironment", 3),
    ("newtheorem", 2),
    ("theoremstyle", 1),
    ("pagestyle", 1),
    ("thispagestyle", 1),
    ("pagenumbering", 1),
    ("includegraphics", 1),
    ("graphicspath", 1),
    ("bibliography", 1),
    ("bibliographystyle", 1),
    ("addbibresource", 1),
    ("definecolor", 3),
    ("color", 1),
    ("textcolor", 1),
    ("colorbox", 1),
    ("fcolorbox", 2),
    ("hypersetup", 1),
    ("geometry", 1),
    ("lstset", 1),
    ("href", 1),
    ("multicolumn", 2),
    ("multirow", 2),
    ("cmidrule", 1),
    ("cline", 1),
    ("parbox", 1),
    ("raisebox", 1),
    ("resizebox", 2),
    ("scalebox", 1),
    ("rotatebox", 1),
    ("hypertarget", 1),
    ("hyperlink", 1),
    ("thanks", 1),
    ("fontsize", 2),
    ("addcontentsline", 3),
    ("selectlanguage", 1),
];
/// Commands whose argument is shown as it is written.
const LITERAL: [&str; 12] = [
    "url",
    "path",
    "nolinkurl",
    "ref",
    "eqref",
    "autoref",
    "cref",
    "Cref",
    "pageref",
    "nameref",
    "vref",
    "texttt",
];
/// Environments of formulas, which are kept as they are written.
const FORMULAS: [&str; 12] = [
    "equation",
    "equation*",
    "align",
    "align*",
    "gather",
    "gather*",
    "multline",
    "multline*",
    "eqnarray",
    "eqnarray*",
    "displaymath",
    "math",
];
/// Environments whose text is shown as it is written.
const CODE: [&str; 7] = ["verbatim", "verbatim*", "Verbatim", "lstlisting", "minted", "alltt", "BVerbatim"];
/// Environments that a reader sees no words of.
const UNSEEN: [&str; 6] =
    ["comment", "tikzpicture", "pgfpicture", "picture", "filecontents", "filecontents*"];
/// Tables, with how many arguments stand before that of the columns.
const TABLES: [(&str, usize); 7] = [
    ("tabular", 0),
    ("longtable", 0),
    ("tabu", 0),
    ("array", 0),
    ("tabular*", 1),
    ("tabularx", 1),
    ("tabulary", 1),
];
/// Commands that stand for characters.
const CHARACTERS: [(&str, &str); 38] = [
    ("LaTeX", "LaTeX"),
    ("TeX", "TeX"),
    ("ldots", "…"),
    ("dots", "…"),
    ("textellipsis", "…"),
    ("ss", "ß"),
    ("ae", "æ"),
    ("AE", "Æ"),
    ("oe", "œ"),
    ("OE", "Œ"),
    ("o", "ø"),
    ("O", "Ø"),
    ("aa", "å"),
    ("AA", "Å"),
    ("l", "ł"),
    ("L", "Ł"),
    ("i", "ı"),
    ("j", "ȷ"),
    ("S", "§"),
    ("P", "¶"),
    ("copyright", "©"),
    ("pounds", "£"),
    ("euro", "€"),
    ("texteuro", "€"),
    ("textdegree", "°"),
    ("degree", "°"),
    ("textbackslash", "\\"),
    ("textasciitilde", "~"),
    ("textasciicircum", "^"),
    ("textbar", "|"),
    ("textless", "<"),
    ("textgreater", ">"),
    ("textendash", "–"),
    ("textemdash", "—"),
    ("textquoteright", "’"),
    ("textquotedblleft", "“"),
    ("textquotedblright", "”"),
    ("quad", " "),
];
/// Accents: their commands, the letters below them, and what both are.
const ACCENTS: [(char, &str, &str); 14] = [
    ('\'', "aeiouyAEIOUYcnszCNSZ", "áéíóúýÁÉÍÓÚÝćńśźĆŃŚŹ"),
    ('`', "aeiouAEIOU", "àèìòùÀÈÌÒÙ"),
    ('^', "aeiouAEIOUcghjswyCGHJSWY", "âêîôûÂÊÎÔÛĉĝĥĵŝŵŷĈĜĤĴŜŴŶ"),
    ('"', "aeiouyAEIOUY", "äëïöüÿÄËÏÖÜŸ"),
    ('~', "anoiuANOIU", "ãñõĩũÃÑÕĨŨ"),
    ('=', "aeiouAEIOU", "āēīōūĀĒĪŌŪ"),
    ('.', "cegzCEGIZ", "ċėġżĊĖĠİŻ"),
    ('c', "cstCST", "çşţÇŞŢ"),
    ('v', "cdenrstzCDENRSTZ", "čďěňřšťžČĎĚŇŘŠŤŽ"),
    ('u', "agAGu", "ăğĂĞŭ"),
    ('H', "ouOU", "őűŐŰ"),
    ('k', "aeAE", "ąęĄĘ"),
    ('r', "auAU", "åůÅŮ"),
    ('d', "stST", "ṣṭṢṬ"),
];

pub(super) fn extract(text: &str) -> Result<Extracted> {
    let mut reader = Reader::default();
    reader.read(text);
    reader.flush();
    let title = reader.properties.title.or_else(|| reader.builder.first_heading());
    let found = reader.builder.finish(title)?;
    Ok(Extracted { metadata: reader.properties.metadata, ..found })
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    properties: Properties,
    paragraph: String,
    notes: Vec<String>,
    /// Rows of the tables that the text is within, innermost last.
    rows: Vec<String>,
    /// Ends that stand nowhere, so that they are not looked for again.
    endless: HashSet<String>,
    depth: usize,
    ended: bool,
}

impl Reader {
    fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next().filter(|_| !self.ended) {
            let after = &rest[c.len_utf8()..];
            rest = match c {
                '\\' => self.command(after),
                '%' => self.comment(after),
                '$' => self.formula(rest),
                '{' | '}' => after,
                '&' if !self.rows.is_empty() => {
                    self.end_cell();
                    after
                }
                '~' => {
                    self.space();
                    after
                }
                '\n' => self.line_end(after),
                c if c.is_whitespace() => {
                    self.space();
                    after
                }
                _ => self.characters(rest),
            };
        }
    }

    /// Signs that are typed as several.
    fn characters<'a>(&mut self, rest: &'a str) -> &'a str {
        for (typed, shown) in [("---", "—"), ("--", "–"), ("``", "“"), ("''", "”")] {
            if let Some(after) = rest.strip_prefix(typed) {
                self.paragraph.push_str(shown);
                return after;
            }
        }
        let plain = rest.find(['\\', '%', '$', '{', '}', '&', '~', '-', '`', '\'']).unwrap_or(rest.len());
        let plain = rest[..plain].find(char::is_whitespace).unwrap_or(plain);
        // One sign at least, since it is none of those that mean something here.
        let plain = plain.max(rest.chars().next().map_or(0, char::len_utf8));
        self.paragraph.push_str(&rest[..plain]);
        &rest[plain..]
    }

    fn space(&mut self) {
        if !self.paragraph.is_empty() && !self.paragraph.ends_with([' ', '\n']) {
            self.paragraph.push(' ');
        }
    }

    /// An empty line ends the paragraph.
    fn line_end<'a>(&mut self, after: &'a str) -> &'a str {
        let blank = after.trim_start_matches([' ', '\t', '\r']);
        if blank.starts_with('\n') {
            self.flush();
            return blank.trim_start();
        }
        while self.paragraph.ends_with(' ') {
            self.paragraph.pop();
        }
        if !self.paragraph.is_empty() && !self.paragraph.ends_with('\n') {
            self.paragraph.push('\n');
        }
        blank
    }

    /// A remark goes with the end of its line and the spaces of the next.
    fn comment<'a>(&mut self, after: &'a str) -> &'a str {
        let next = after.split_once('\n').map_or("", |(_, next)| next);
        let blank = next.trim_start_matches([' ', '\t', '\r']);
        if blank.starts_with('\n') {
            self.flush();
        }
        blank
    }

    fn formula<'a>(&mut self, rest: &'a str) -> &'a str {
        let mark = if rest.starts_with("$$") { "$$" } else { "$" };
        let inside = head(&rest[mark.len()..]);
        let end = inside.match_indices(mark).map(|(at, _)| at).find(|at| !inside[..*at].ends_with('\\'));
        let length = end.map_or(mark.len(), |end| end + 2 * mark.len());
        self.paragraph.push_str(&rest[..length]);
        &rest[length..]
    }

    /// Reads what follows a backslash.
    fn command<'a>(&mut self, rest: &'a str) -> &'a str {
        let length = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        if length == 0 {
            return self.symbol(rest);
        }
        let (name, rest) = rest.split_at(length);
        let rest = rest.strip_prefix('*').unwrap_or(rest);
        if name == "verb" || name == "lstinline" {
            return self.verb(rest);
        }
        let rest = match rest.trim_start_matches([' ', '\t']) {
            rest if rest.starts_with('\n')
                && !rest[1..].trim_start_matches([' ', '\t']).starts_with('\n') =>
            {
                rest[1..].trim_start_matches([' ', '\t'])
            }
            rest => rest,
        };
        self.word(name, rest)
    }

    fn word<'a>(&mut self, name: &str, rest: &'a str) -> &'a str {
        if let Some((_, level)) = HEADINGS.iter().find(|(known, _)| *known == name) {
            return self.heading(*level, rest);
        }
        if let Some((_, shown)) = CHARACTERS.iter().find(|(known, _)| *known == name) {
            self.paragraph.push_str(shown);
            return rest;
        }
        if let Some((_, count)) = SILENT.iter().find(|(known, _)| *known == name) {
            return (0..*count).fold(rest, |rest, _| skip_argument(rest));
        }
        if let Some((accent, ..)) = ACCENTS
            .iter()
            .find(|(known, ..)| known.is_alphabetic() && name.len() == 1 && name.starts_with(*known))
        {
            return self.accent(*accent, rest);
        }
        if LITERAL.contains(&name) {
            let (argument, after) = argument(skip_options(rest));
            self.paragraph.push_str(&argument.replace("\\_", "_"));
            return after;
        }
        match name {
            "begin" => self.begin(rest),
            "end" => self.end(rest),
            "par" | "newpage" | "clearpage" => {
                self.flush();
                rest
            }
            "newline" | "linebreak" | "tabularnewline" | "cr" => self.break_line(rest),
            "item" => self.item(rest),
            "bibitem" => {
                self.flush();
                let (key, after) = argument(skip_options(rest));
                self.paragraph.push_str(&format!("[{key}] "));
                after
            }
            "footnote" | "footnotetext" | "caption" | "captionof" => {
                let rest = if name == "captionof" { skip_argument(rest) } else { rest };
                let (text, after) = argument(skip_options(rest));
                let text = self.inline(text);
                self.notes.push(text);
                after
            }
            _ if name.to_ascii_lowercase().contains("cite") => {
                let (keys, after) = argument(skip_options(skip_options(rest)));
                if !keys.is_empty() {
                    self.paragraph.push_str(&format!("[{keys}]"));
                }
                after
            }
            "title" | "author" | "date" | "keywords" => self.property(name, rest),
            "maketitle" => {
                if let Some(title) = self.properties.title.clone() {
                    self.flush();
                    self.builder.heading(0, &title);
                }
                rest
            }
            "def" => head(rest).find('{').map_or(rest, |at| argument(&rest[at..]).1),
            "iffalse" => self.skip_to("\\fi", rest).map_or(rest, |(_, after)| after),
            // Of others the arguments are text.
            _ => skip_options(rest),
        }
    }

    fn symbol<'a>(&mut self, rest: &'a str) -> &'a str {
        let Some(symbol) = rest.chars().next() else { return rest };
        let after = &rest[symbol.len_utf8()..];
        match symbol {
            '\\' => self.break_line(skip_options(after.strip_prefix('*').unwrap_or(after))),
            '(' | '[' => {
                let close = if symbol == '(' { "\\)" } else { "\\]" };
                let end = head(after).find(close).map_or(0, |end| end + 2);
                self.paragraph.push('\\');
                self.paragraph.push_str(&rest[..1 + end]);
                &after[end..]
            }
            ' ' | ',' | ';' | ':' | '\n' | '\t' => {
                self.space();
                after
            }
            '-' | '/' | '!' | ')' | ']' => after,
            _ if ACCENTS.iter().any(|(accent, ..)| *accent == symbol) => self.accent(symbol, after),
            _ => {
                self.paragraph.push(symbol);
                after
            }
        }
    }

    fn accent<'a>(&mut self, accent: char, rest: &'a str) -> &'a str {
        let rest = rest.trim_start_matches(' ');
        let (letter, after) = match rest.starts_with('{') {
            true => argument(rest),
            false => rest.split_at(rest.chars().next().map_or(0, char::len_utf8)),
        };
        // An i without a dot is made for accents.
        let (letter, after) = match (letter, after.strip_prefix('i')) {
            ("\\", Some(after)) => ("i", after),
            ("\\i", _) => ("i", after),
            _ => (letter, after),
        };
        let mut letters = letter.chars();
        let found = ACCENTS.iter().find(|(known, ..)| *known == accent).and_then(|(_, plain, accented)| {
            let at = plain.chars().position(|c| letter.starts_with(c))?;
            accented.chars().nth(at)
        });
        match found {
            Some(found) => {
                letters.next();
                self.paragraph.push(found);
                self.paragraph.push_str(letters.as_str());
            }
            None => self.paragraph.push_str(letter),
        }
        after
    }

    fn verb<'a>(&mut self, rest: &'a str) -> &'a str {
        let rest = skip_options(rest);
        let Some(mark) = rest.chars().next() else { return rest };
        let close = if mark == '{' { '}' } else { mark };
        let inside = &rest[mark.len_utf8()..];
        match head(inside).split_once(close) {
            Some((code, _)) => {
                self.paragraph.push_str(code);
                &inside[code.len() + close.len_utf8()..]
            }
            None => inside,
        }
    }

    fn heading<'a>(&mut self, level: u8, rest: &'a str) -> &'a str {
        let (title, after) = argument(skip_options(rest));
        let title = self.inline(title);
        if !title.is_empty() {
            self.flush();
            self.builder.heading(level, &title);
        }
        after
    }

    fn property<'a>(&mut self, name: &str, rest: &'a str) -> &'a str {
        let (value, after) = argument(skip_options(rest));
        let authors: Vec<&str> = value.split("\\and").collect();
        match name {
            "title" => self.properties.title = Some(self.inline(value)).filter(|title| !title.is_empty()),
            "author" => {
                let names =
                    authors.iter().map(|author| self.inline(author.split("\\\\").next().unwrap_or_default()));
                let names = names.collect();
                self.properties.text(AUTHOR, names);
            }
            "date" if !value.contains("\\today") => self.properties.date(&self.inline(value)),
            "keywords" => {
                self.properties.list(KEYWORDS, value.split([',', ';']).map(str::to_owned).collect())
            }
            _ => {}
        }
        after
    }

    fn item<'a>(&mut self, rest: &'a str) -> &'a str {
        self.flush();
        let after = skip_options(rest);
        let label = rest[..rest.len() - after.len()].trim().trim_start_matches('[').trim_end_matches(']');
        if !label.is_empty() {
            let label = self.inline(label);
            self.paragraph.push_str(&label);
            self.paragraph.push(' ');
        }
        after
    }

    fn begin<'a>(&mut self, rest: &'a str) -> &'a str {
        let (name, after) = argument(rest);
        if name == "document" {
            // What stands before it is no text.
            (self.builder, self.paragraph, self.notes, self.rows) = Default::default();
            return after;
        }
        let is = |names: &[&str]| names.contains(&name);
        if is(&CODE) || is(&FORMULAS) || is(&UNSEEN) {
            return self.verbatim(name, after);
        }
        if let Some((_, count)) = TABLES.iter().find(|(known, _)| *known == name) {
            self.flush_unless_in_table();
            self.rows.push(String::new());
            return (0..=*count).fold(after, |rest, _| skip_argument(skip_options(rest)));
        }
        self.flush_unless_in_table();
        let after = skip_options(after);
        match name {
            "abstract" => self.builder.heading(3, "Abstract"),
            "minipage" | "multicols" | "wrapfigure" | "thebibliography" | "adjustbox" => {
                return skip_argument(after);
            }
            "frame" if after.starts_with('{') => return self.heading(5, after),
            _ => {}
        }
        after
    }

    /// Keeps an environment as it is written, or leaves it out.
    fn verbatim<'a>(&mut self, name: &str, rest: &'a str) -> &'a str {
        let Some((inside, after)) = self.skip_to(&format!("\\end{{{name}}}"), rest) else {
            return rest;
        };
        if UNSEEN.contains(&name) {
            return after;
        }
        let mut inside = if CODE.contains(&name) { skip_options(inside) } else { inside };
        if name == "minted" {
            inside = skip_argument(inside);
        }
        if self.rows.is_empty() {
            self.flush();
            self.builder.block(inside);
        } else {
            self.paragraph.push_str(inside);
        }
        after
    }

    /// What stands before an end and behind it.
    fn skip_to<'a>(&mut self, end: &str, rest: &'a str) -> Option<(&'a str, &'a str)> {
        if self.endless.contains(end) {
            return None;
        }
        let found = rest.split_once(end);
        if found.is_none() {
            self.endless.insert(end.to_owned());
        }
        found
    }

    fn end<'a>(&mut self, rest: &'a str) -> &'a str {
        let (name, after) = argument(rest);
        if name == "document" {
            self.ended = true;
        }
        if TABLES.iter().any(|(known, _)| *known == name) && !self.rows.is_empty() {
            self.end_row();
            self.rows.pop();
        } else {
            self.flush_unless_in_table();
        }
        after
    }

    fn break_line<'a>(&mut self, after: &'a str) -> &'a str {
        if self.rows.is_empty() {
            self.paragraph.push('\n');
        } else {
            self.end_row();
        }
        after
    }

    fn end_cell(&mut self) {
        let cell = std::mem::take(&mut self.paragraph);
        // A table in a cell is part of the cell.
        let nested = self.rows.len() > 1;
        if let Some(row) = self.rows.first_mut() {
            push_words(row, &cell);
            row.push(if nested { ' ' } else { CELL });
        }
    }

    fn end_row(&mut self) {
        let cell = std::mem::take(&mut self.paragraph);
        let nested = self.rows.len() > 1;
        let Some(row) = self.rows.first_mut() else { return };
        push_words(row, &cell);
        if !nested {
            let row = std::mem::take(row);
            if !row.trim().is_empty() {
                self.builder.block(&row);
            }
            self.end_notes();
        }
    }

    fn flush_unless_in_table(&mut self) {
        if self.rows.is_empty() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.rows.is_empty() {
            return self.space();
        }
        let text = std::mem::take(&mut self.paragraph);
        self.builder.block(&text);
        self.end_notes();
    }

    fn end_notes(&mut self) {
        for note in std::mem::take(&mut self.notes) {
            self.builder.block(&note);
        }
    }

    /// The text of an argument, on one line.
    fn inline(&self, text: &str) -> String {
        if self.depth >= MAX_DEPTH {
            return text.to_owned();
        }
        let mut reader = Reader { depth: self.depth + 1, ..Reader::default() };
        reader.read(text);
        reader.flush();
        let text = reader.builder.finish(None).map(|found| found.text).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// As much of a text as an argument may have.
fn head(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(MAX_ARGUMENT)).0
}

/// The argument in braces that a text begins with, and what follows; none where there is none that ends.
fn argument(text: &str) -> (&str, &str) {
    let Some(inside) = text.trim_start().strip_prefix('{') else { return ("", text) };
    match end_of(inside, b'{', b'}') {
        Some(end) => (&inside[..end], &inside[end + 1..]),
        None => ("", text),
    }
}

/// Leaves out an argument, with the options before it; a command may be one without braces.
fn skip_argument(text: &str) -> &str {
    let text = skip_options(text);
    if let Some(command) = text.strip_prefix('\\') {
        return command.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    }
    skip_options(argument(text).1)
}

/// Leaves out options in brackets.
fn skip_options(text: &str) -> &str {
    match text.strip_prefix('[').and_then(|inside| Some((inside, end_of(inside, b'[', b']')?))) {
        Some((inside, end)) => &inside[end + 1..],
        None => text,
    }
}

/// Where a bracket closes that is open.
fn end_of(text: &str, open: u8, close: u8) -> Option<usize> {
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, byte) in head(text).bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == open => depth += 1,
            byte if byte == close && depth == 0 => return Some(at),
            byte if byte == close => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paper() {
        let found = extract(
            r#"\documentclass[11pt]{article}
\usepackage{graphicx} % pictures
\newcommand{\x}[1]{no #1}
\title{On \emph{Docks}\thanks{No}}
\author{Anna Berg\\Harbour \and Ben M\"uller}
\date{2024-03-05}
\begin{document}
\maketitle
\begin{abstract}
We lift.
\end{abstract}
\section[Short]{The Lift \& more}\label{sec:lift}
It is \textbf{very \textit{loud}} at 5\,\%% a remark
 of $E = mc^2$, see Section~\ref{sec:lift} and \cite[p.~3]{berg2020}.
A caf\'e in S\~ao --- ``quoted''.\footnote{Since \emph{1904}.}

\begin{itemize}
  \item one
  \item[two] three \href{https://x.org}{a link}
\end{itemize}
\subsection*{Sub}
\begin{table}[h]\centering
\caption{Prices}
\begin{tabular}{l|r}
\hline
Model & Price \\ \hline
EM-940 & \multicolumn{1}{c}{7} \\
\end{tabular}
\end{table}
\begin{equation}
a_1 = \frac{b}{c}
\end{equation}
\begin{verbatim}
\x % y
  z
\end{verbatim}
Use \verb|a_b| and \url{http://x.org/a_b}.
\begin{comment}
no
\end{comment}
\end{document}
no"#,
        )
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("On Docks"));
        assert_eq!(
            found.text,
            "On Docks\n\nAbstract\n\nWe lift.\n\nThe Lift & more\n\nIt is very loud at 5 %of $E = mc^2$, see Section sec:lift and [berg2020].\nA café in São — “quoted”.\n\nSince 1904.\n\none\n\ntwo three a link\n\nSub\n\nPrices\n\nModel\tPrice\n\nEM-940\t7\n\na_1 = \\frac{b}{c}\n\n\\x % y\n  z\n\nUse a_b and http://x.org/a_b."
        );
        assert_eq!(found.sections.last().unwrap().headings, ["On Docks", "The Lift & more", "Sub"]);
        let author = format!("{:?}", found.metadata["author"]);
        assert!(
            author.contains("Anna Berg") && author.contains("Ben Müller") && !author.contains("Harbour"),
            "{author}"
        );
    }

    #[test]
    fn what_ends_nowhere_is_text() {
        let found = extract("a \\section{open\n\n\\begin{verbatim}\nb $5").unwrap();
        assert_eq!(found.text, "a open\n\nb $5");
        assert!(extract(&"\\section{".repeat(20_000)).is_err());
        assert!(extract(&("\\footnote{".repeat(1000) + "x")).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\\\[a-z'^~]{1,9}|\\\\begin\\{[a-z]{1,8}\\}|\\\\begin\\{tabular\\}|\\\\end\\{tabular\\}|[&%$~{}\\[\\]é -]|[a-z]{1,4}|\n){0,60}") {
            let _ = extract(&text);
        }
    }
}
