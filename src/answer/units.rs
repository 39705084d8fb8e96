//! What can be quoted of a passage: its sentences with what they need to be understood.

use std::ops::RangeInclusive;

use crate::domain::{CELL, Span};

/// Fewest words of a sentence that tells something by itself: less is a label.
const FEWEST_WORDS: usize = 3;
/// Most words of a block that is a heading.
const HEADING_WORDS: usize = 12;
/// Bytes up to which what a colon announces is taken along.
const ANNOUNCED_BYTES: usize = 600;
/// Words at the start of a sentence that speak of the one before.
const REFERRING: &[&str] = &[
    "she", "he", "it", "they", "her", "his", "its", "their", "this", "these", "those", "such", "both", "sie",
    "er", "es", "ihr", "ihre", "sein", "seine", "dies", "diese", "dieser", "dieses",
];

/// What a sentence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A statement.
    Plain,
    /// A row of a table below a row with the names of its columns, by the index of that.
    Row {
        /// Index of the header among the sentences.
        header: usize,
    },
    /// A row with the names of columns.
    Header,
    /// A heading, or the title.
    Heading,
    /// A question, or the sentence that leads to one.
    Question,
    /// Too short to tell something.
    Fragment,
}

impl Kind {
    /// Whether it may be quoted as an answer.
    pub fn tells(self) -> bool {
        matches!(self, Self::Plain | Self::Row { .. })
    }
}

/// The sentences of a passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Units {
    text: String,
    spans: Vec<Span>,
    kinds: Vec<Kind>,
    /// Whether each begins a block: a paragraph, an item, a row.
    opens: Vec<bool>,
}

impl Units {
    /// Sentences of a text, by spans in order, with the headings and the title that stand above it.
    pub fn of(text: &str, spans: Vec<Span>, headings: &[String], title: &str) -> Self {
        let texts: Vec<&str> = spans.iter().map(|span| span.slice(text).unwrap_or_default()).collect();
        let opens: Vec<bool> = (0..spans.len()).map(|at| opens_block(text, &spans, at)).collect();
        let mut kinds: Vec<Kind> = Vec::with_capacity(spans.len());
        for (at, sentence) in texts.iter().enumerate() {
            let alone = opens[at] && opens.get(at + 1).is_none_or(|opens| *opens);
            let named = headings.iter().map(String::as_str).chain([title]).any(|name| same(name, sentence));
            kinds.push(match () {
                () if sentence.contains(CELL) => row(&texts, &kinds, at),
                () if named && alone => Kind::Heading,
                () if asks(sentence) => Kind::Question,
                () if alone && is_heading(sentence, texts.get(at + 1)) => Kind::Heading,
                () if texts.len() == 1 && is_title(sentence) => Kind::Heading,
                () if !tells(sentence) => Kind::Fragment,
                () => Kind::Plain,
            });
        }
        // What leads to a question is part of it, where the two are a block of their own above the answer.
        for at in 0..kinds.len().saturating_sub(2) {
            let leads = kinds[at] == Kind::Plain && kinds[at + 1] == Kind::Question;
            let apart = opens[at] && !opens[at + 1] && (opens[at + 2] || texts[at + 1].ends_with("::"));
            if leads && apart {
                kinds[at] = Kind::Question;
            }
        }
        Self { text: text.to_owned(), spans, kinds, opens }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// What a sentence is.
    pub fn kind(&self, at: usize) -> Kind {
        self.kinds.get(at).copied().unwrap_or(Kind::Fragment)
    }

    /// Where it is in the passage.
    pub fn span(&self, at: usize) -> Span {
        self.spans.get(at).copied().unwrap_or_default()
    }

    /// It as it stands.
    pub fn text(&self, at: usize) -> &str {
        self.span(at).slice(&self.text).unwrap_or_default()
    }

    /// It on one line, a row with the names of its columns, without marks of the format at its start.
    pub fn line(&self, at: usize) -> String {
        let text = self.text(at);
        match self.kind(at) {
            Kind::Row { header } => row_line(self.text(header), text),
            Kind::Header => text.split(CELL).map(one_line).collect::<Vec<_>>().join("; "),
            _ => one_line(strip_marks(text)),
        }
    }

    /// The questions and headings directly above a sentence, which it may answer.
    pub fn above(&self, at: usize) -> impl Iterator<Item = usize> {
        let is_above = |&before: &usize| matches!(self.kind(before), Kind::Question | Kind::Heading);
        (0..at).rev().take_while(is_above)
    }

    /// The sentences that a quotation of one takes along: what it speaks of before, what it announces behind.
    pub fn quoted(&self, at: usize) -> RangeInclusive<usize> {
        let mut first = at;
        while first > 0
            && !self.opens[first]
            && self.kind(first - 1) == Kind::Plain
            && refers(self.text(first))
        {
            first -= 1;
            if at - first >= 2 {
                break;
            }
        }
        let mut last = at;
        while self.text(last).ends_with(':')
            && last + 1 < self.len()
            && !matches!(self.kind(last + 1), Kind::Heading)
        {
            last = self.announced(last + 1);
        }
        first..=last
    }

    /// The last sentence of what begins at one: a list or code goes on over blocks that look alike.
    fn announced(&self, from: usize) -> usize {
        let start = self.span(from).start;
        let item = marked(self.text(from)) || !ends(self.text(from));
        let mut last = from;
        while let Some(next) = Some(last + 1).filter(|&next| next < self.len()) {
            let goes_on = if self.opens[next] {
                item && (marked(self.text(next)) || !ends(self.text(next)))
                    && self.kind(next) != Kind::Heading
            } else {
                true
            };
            if !goes_on || (self.span(next).end - start) as usize > ANNOUNCED_BYTES {
                break;
            }
            last = next;
        }
        last
    }

    /// Sentences as one quotation: those of a block on one line, blocks on lines of their own.
    pub fn quotation(&self, range: RangeInclusive<usize>) -> String {
        let mut quotation = String::new();
        for at in range.clone() {
            let separator = match (at == *range.start(), self.opens[at]) {
                (true, _) => "",
                (false, true) => "\n",
                (false, false) => " ",
            };
            quotation.push_str(separator);
            quotation.push_str(&self.line(at));
        }
        quotation
    }
}

/// Whether a sentence begins a block: only a blank line, a rule or nothing is before it.
fn opens_block(text: &str, spans: &[Span], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).and_then(|before| spans.get(before)) else {
        return true;
    };
    let between = text.get(before.end as usize..spans[at].start as usize).unwrap_or_default();
    between.matches('\n').count() > 1
}

/// A row of a table below another one of as many cells, the first of which names the columns.
fn row(texts: &[&str], kinds: &[Kind], at: usize) -> Kind {
    let cells = |at: usize| texts.get(at).map_or(0, |text| text.matches(CELL).count());
    match at.checked_sub(1).and_then(|before| Some((before, *kinds.get(before)?))) {
        Some((before, Kind::Header)) if cells(before) == cells(at) => Kind::Row { header: before },
        Some((before, Kind::Row { header })) if cells(before) == cells(at) => Kind::Row { header },
        _ if cells(at + 1) == cells(at) => Kind::Header,
        _ => Kind::Plain,
    }
}

/// A row with the name of the column before each cell.
fn row_line(header: &str, row: &str) -> String {
    let cell = |(name, cell): (&str, &str)| match (one_line(name), one_line(cell)) {
        (_, cell) if cell.is_empty() => None,
        (name, cell) if name.is_empty() => Some(cell),
        (name, cell) => Some(format!("{name}: {cell}")),
    };
    header.split(CELL).zip(row.split(CELL)).filter_map(cell).collect::<Vec<_>>().join("; ")
}

/// Whether a sentence is a heading of this name, be it without its number.
fn same(name: &str, sentence: &str) -> bool {
    let plain = |text: &str| -> String {
        let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || !c.is_alphanumeric());
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let name = plain(name);
    !name.is_empty() && name == plain(sentence)
}

fn asks(text: &str) -> bool {
    text.trim_end_matches(['"', '\'', ')', '”', '*', '_', ':']).ends_with('?')
}

/// Whether a sentence ends as one.
fn ends(text: &str) -> bool {
    text.trim_end_matches(['"', '\'', ')', '”', '»', '*', '_', '`'])
        .ends_with(['.', '!', '?', '。', '！', '？', '…', ';'])
}

/// A short block that does not end as a sentence does, above one that does.
fn is_heading(text: &str, next: Option<&&str>) -> bool {
    let words = text.split_whitespace().count();
    let code = text.contains(['=', '{', '(', '`', '$', '<', '/', '|']);
    let label =
        !ends(text) && !text.ends_with([':', ',']) && !marked(text) && !code && words <= HEADING_WORDS;
    label
        && text.starts_with(|c: char| c.is_uppercase() || c.is_numeric())
        && next.is_some_and(|next| ends(next))
}

/// A few words, all but the small ones with capitals, that end as no sentence does: what stands alone on a title page.
fn is_title(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut long =
        words.iter().filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() >= 4).peekable();
    let named = long.peek().is_some() && long.all(|word| word.starts_with(char::is_uppercase));
    named
        && words.len() <= HEADING_WORDS
        && !ends(text)
        && !text.contains(|c: char| c.is_numeric() || c == ':')
}

fn tells(text: &str) -> bool {
    let unspaced = text.chars().any(super::words::is_written_without_spaces);
    text.chars().any(char::is_alphabetic) && (unspaced || text.split_whitespace().count() >= FEWEST_WORDS)
}

/// Whether a sentence speaks of what the one before named.
fn refers(text: &str) -> bool {
    let first = strip_marks(text).split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty());
    first.is_some_and(|word| REFERRING.contains(&word.to_lowercase().as_str()))
}

/// Whether a block is an item of a list.
fn marked(text: &str) -> bool {
    strip_marks(text).len() < text.len()
}

/// A sentence without anchors, bullets, numbers of items and signs of quotation at its start.
fn strip_marks(text: &str) -> &str {
    let mut text = text.trim_start();
    loop {
        let mut rest = text;
        if let Some(anchor) = rest.strip_prefix("[[") {
            rest = anchor.split_once("]]").map_or(rest, |(_, rest)| rest);
        }
        if let Some(item) = rest.strip_prefix(['*', '-', '+', '•', '◦', '▪', '>', '#']) {
            rest = if item.starts_with(char::is_whitespace) || rest.starts_with(['•', '◦', '▪']) {
                item
            } else {
                rest
            };
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if (1..=3).contains(&digits)
            && let Some(item) = rest.get(digits..).and_then(|rest| rest.strip_prefix(['.', ')']))
            && item.starts_with(char::is_whitespace)
        {
            rest = item;
        }
        let rest = rest.trim_start();
        if rest.len() == text.len() || rest.is_empty() {
            return text;
        }
        text = rest;
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::sentences;

    fn units(text: &str, headings: &[&str]) -> Units {
        let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
        Units::of(text, sentences(text, Span::new(0, text.len() as u32)), &headings, "The title")
    }

    fn quoted(units: &Units, at: usize) -> String {
        units.quotation(units.quoted(at))
    }

    fn kinds(units: &Units) -> Vec<Kind> {
        (0..units.len()).map(|at| units.kind(at)).collect()
    }

    #[test]
    fn headings_questions_and_fragments_are_not_quoted() {
        let units = units(
            "Harbour tariff\n\nA berth costs nine euros.\n\nOpening hours of the office\n\nIt opens at eight.\n\n\
             What about dogs?\n\nDogs must be led.\n\nSee below.",
            &["Harbour tariff"],
        );
        use Kind::{Fragment, Heading, Plain, Question};
        assert_eq!(kinds(&units), [Heading, Plain, Heading, Plain, Question, Plain, Fragment]);
        assert!(same("12. Virtual environments", "Virtual Environments") && !same("12.", "13."));
        assert_eq!(units.above(5).collect::<Vec<_>>(), [4]);
        let alone = |text: &str| kinds(&self::units(text, &[]))[0];
        assert_eq!(alone("A Brief History of Debian"), Heading);
        assert_eq!(alone("Anna Berg leads the yard"), Plain);
        assert_eq!(alone("Berth for Yachts: 40 euros"), Plain);
        assert_eq!(units.above(3).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_leads_to_a_question_is_part_of_it() {
        let units = units(
            "[[amend]]\nI've made a mistake in the last commit.  How do I change it?::\n\tYou can stage the change, and \
             then run `git commit --amend`.  Your change will be included.",
            &[],
        );
        use Kind::{Plain, Question};
        assert_eq!(kinds(&units), [Question, Question, Plain, Plain]);
        assert_eq!(quoted(&units, 2), "You can stage the change, and then run `git commit --amend`.");
        assert_eq!(units.line(0), "I've made a mistake in the last commit.");
    }

    #[test]
    fn a_question_at_the_end_of_a_paragraph_takes_nothing_from_it() {
        let units = units(
            "Cats sleep a lot. They hunt mice at dusk. Why do cats purr?\n\nNobody knows for sure.",
            &[],
        );
        use Kind::{Plain, Question};
        assert_eq!(kinds(&units), [Plain, Plain, Question, Plain]);
    }

    #[test]
    fn rows_bring_the_names_of_their_columns() {
        let units = units(
            "Cranes\n\nCrane\tLift\tYear\n\nNorth\t11 t\t1998\n\nSouth\t25 t\t2012\n\nThey are old.",
            &["Cranes"],
        );
        assert_eq!(units.kind(1), Kind::Header);
        assert_eq!(units.kind(3), Kind::Row { header: 1 });
        assert_eq!(quoted(&units, 3), "Crane: South; Lift: 25 t; Year: 2012");
        assert_eq!(units.kind(4), Kind::Plain);
    }

    #[test]
    fn a_pronoun_brings_what_it_stands_for() {
        let units = units(
            "The harbour master is Greta Solheim. She took office in 2016. Her deputy is Milan Petrov.",
            &[],
        );
        assert_eq!(quoted(&units, 1), "The harbour master is Greta Solheim. She took office in 2016.");
        assert_eq!(quoted(&units, 0), "The harbour master is Greta Solheim.");
        assert!(quoted(&units, 2).starts_with("The harbour master"));
    }

    #[test]
    fn a_colon_brings_what_it_announces() {
        let units = units(
            "To undo it, run:\n\ngit reset --soft HEAD~1\n\ngit stash\n\nThis keeps your work. Another thing is that it ends.",
            &[],
        );
        assert_eq!(quoted(&units, 0), "To undo it, run:\ngit reset --soft HEAD~1\ngit stash");
        let list = self::units(
            "It needs:\n\n- a file of its own\n\n- a name to go by\n\nThat is all there is.",
            &[],
        );
        assert_eq!(quoted(&list, 0), "It needs:\na file of its own\na name to go by");
    }

    #[test]
    fn marks_at_the_start_are_left_out() {
        for (text, expected) in [
            ("[[a-b]] Text here", "Text here"),
            ("- 1. Text", "Text"),
            ("1986. Text", "1986. Text"),
            ("-x is an option", "-x is an option"),
            ("• Text", "Text"),
            ("[[open", "[[open"),
            ("-", "-"),
        ] {
            assert_eq!(strip_marks(text), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_quoted(text in "([A-Za-z]{1,6}[ .:?\\n\\t-]{0,3}){0,30}|\\PC{0,60}") {
            let units = units(&text, &["Aa"]);
            for at in 0..units.len() {
                let range = units.quoted(at);
                proptest::prop_assert!(range.contains(&at) && *range.end() < units.len());
                units.quotation(range);
                units.above(at).for_each(drop);
            }
        }
    }
}
