//! What to look up for the words of a query: for each word one clause with alternatives, of which the best counts.

use std::collections::HashMap;

use crate::analyzer::{Analyzer, LEAST_TAIL, TAIL, is_capitals};
use crate::names;
use crate::normalize::{folded, lower_into, normalized};
use crate::scan::{self, Kind, Run};
use trove_core::domain::Language;

/// Weight of a form against the word itself: what is written as asked for comes first.
const FORM_WEIGHT: f32 = 0.8;
/// Weight of a compound that holds the word.
const COMPOUND_WEIGHT: f32 = 0.5;
/// Weight of all parts of a word together.
const PARTS_WEIGHT: f32 = 0.6;
/// Weight of the accents of a word, beside the word without them.
const ACCENTS_WEIGHT: f32 = 0.2;
/// Weight of a hyphenated word as one, beside its parts.
const HYPHENATED_WEIGHT: f32 = 0.2;
/// Weight of a word that begins as the last one does.
const PREFIX_WEIGHT: f32 = 0.9;
/// Weight of a word whose stem the last one begins with.
const STEM_OF_PREFIX_WEIGHT: f32 = 0.6;
/// Weight of each stop word beside that of their pairs.
const STOP_WORD_WEIGHT: f32 = 0.4;

/// Words of a query whose compounds are looked for.
const MOST_TAKEN_APART: usize = 64;

/// What a search looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeywordQuery<'a> {
    /// The text. No sign in it is an operator.
    pub text: &'a str,
    /// Whether its last word may be the beginning of one.
    pub is_last_word_prefix: bool,
}

impl<'a> From<&'a str> for KeywordQuery<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, is_last_word_prefix: false }
    }
}

/// One place to look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Look {
    /// A word of the text, the headings or the title.
    Word(String),
    /// Another form of one.
    Form(String),
    /// A sign of a script without spaces.
    Sign(String),
    /// Two of them, one after the other.
    Signs(String, String),
    /// Words that begin with it.
    WordPrefix(String),
    /// Forms that begin with it.
    FormPrefix(String),
    /// The longest word that it begins with, where nothing else is found: it may be a word whose ending the index leaves out.
    StemOf(String),
    /// All of these, as words or forms, as many as there are.
    Parts(Vec<String>),
    /// The words of the index that a compound of a language is made of.
    Compound(Language, String),
}

/// What a word of the query is found by: the best of its alternatives counts.
#[derive(Debug, Clone)]
pub struct Clause {
    pub alternatives: Vec<(Look, f32)>,
    /// How often it stands in the query, or what else it weighs.
    pub weight: f32,
    /// The name that it is a part of, or the whole of.
    pub name: Option<(usize, Role)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Part,
    Whole,
}

/// Whether a text has words that can be looked up.
pub fn has_words(text: &str) -> bool {
    !scan::runs(&normalized(text)).is_empty()
}

/// The clauses of a query, in the order of their first places. The first analyzer decides which words have no
/// content; the others are those of more languages that the collection has.
pub fn clauses(analyzers: &mut [Analyzer], query: KeywordQuery<'_>) -> Vec<Clause> {
    let text = normalized(query.text);
    let runs = scan::runs(&text);
    let prefix = runs.last().filter(|run| query.is_last_word_prefix && text.len() == run.end).copied();
    let is_short = runs.len() <= MOST_TAKEN_APART;
    let mut builder = Builder { analyzers, list: Vec::new(), places: HashMap::new(), is_short };
    let (mut group, mut number_end, mut names) = (0..0, 0, 0);
    let mut stop_words = Vec::new();
    for (place, &run) in runs.iter().enumerate() {
        if run.kind == Kind::Signs {
            builder.signs(run.of(&text));
            continue;
        }
        if place >= group.end {
            group = place..names::group_end(&text, &runs, place);
            names += 1;
        }
        let part_of = (group.len() > 1).then_some((names, Role::Part));
        if !builder.word(&text, run, prefix == Some(run), part_of) {
            stop_words.push(run);
        }
        if place + 1 == group.end {
            builder.names(&text, runs.get(group.clone()).unwrap_or_default(), names);
        }
        if place >= number_end
            && let Some(number) = names::number(&text, &runs, place)
        {
            number_end = place + number.runs;
            if let Some(joined) = number.joined.into_iter().next() {
                builder.push(vec![(Look::Word(joined.clone()), 1.0), (Look::Form(joined), 1.0)], 1.0, None);
            }
        }
    }
    if builder.list.is_empty() {
        builder.stop_words(&text, &runs, &stop_words);
    }
    builder.list
}

struct Builder<'a> {
    analyzers: &'a mut [Analyzer],
    list: Vec<Clause>,
    /// Clauses by what they look for first.
    places: HashMap<Look, usize>,
    /// Whether compounds are looked for, which takes many looks into the index for each word.
    is_short: bool,
}

impl Builder<'_> {
    fn push(&mut self, alternatives: Vec<(Look, f32)>, weight: f32, name: Option<(usize, Role)>) {
        let Some((first, _)) = alternatives.first() else { return };
        if let Some(known) = self.places.get(first).and_then(|place| self.list.get_mut(*place)) {
            known.weight += weight;
            return;
        }
        self.places.insert(first.clone(), self.list.len());
        self.list.push(Clause { alternatives, weight, name });
    }

    /// Adds a word. Returns whether it has content.
    fn word(&mut self, text: &str, run: Run, is_prefix: bool, name: Option<(usize, Role)>) -> bool {
        let written = run.of(text);
        let signs = scan::with_signs(text, run).and_then(|(start, end)| text.get(start..end));
        if let Some(signs) = signs {
            let lower = lower(signs);
            if names::is_short_with_signs(signs) {
                self.push(vec![(Look::Word(lower), 1.0)], 1.0, None);
                return true;
            }
            self.push(vec![(Look::Form(lower), 1.0)], 1.0, None);
        }
        let lower = lower(written);
        let plain = folded(&lower).into_owned();
        let mut exact = None;
        let mut alternatives: Vec<(Look, f32)> = Vec::new();
        let mut add = |look: Look, weight: f32| {
            if !alternatives.iter().any(|(known, _)| *known == look) {
                alternatives.push((look, weight));
            }
        };
        for (place, analyzer) in self.analyzers.iter_mut().enumerate() {
            let (makes_compounds, language) = (analyzer.makes_compounds(), analyzer.language());
            let known = analyzer.known(&lower);
            if known.is_stop && !is_prefix {
                // What has no content in the language of the query has none at all.
                if place == 0 {
                    return false;
                }
                continue;
            }
            add(Look::Word(known.term.clone()), 1.0);
            add(Look::Form(known.term.clone()), FORM_WEIGHT);
            for other in &known.others {
                add(Look::Word(other.clone()), FORM_WEIGHT);
                add(Look::Form(other.clone()), FORM_WEIGHT);
            }
            if makes_compounds && self.is_short {
                if let Some(part) = start_of_compound(&known.term, &plain) {
                    add(Look::FormPrefix(format!("{TAIL}{part}")), COMPOUND_WEIGHT);
                }
                add(Look::Compound(language, plain.clone()), COMPOUND_WEIGHT);
            }
            exact = exact.or_else(|| known.exact.clone());
        }
        let parts: Vec<String> = scan::parts(written).into_iter().map(|part| self.term(part)).collect();
        let mut add = |look: Look, weight: f32| alternatives.push((look, weight));
        if !parts.is_empty() {
            let weight = PARTS_WEIGHT / parts.len() as f32;
            add(Look::Parts(parts), weight);
        }
        if is_prefix {
            add(Look::WordPrefix(plain.clone()), PREFIX_WEIGHT);
            add(Look::FormPrefix(plain.clone()), PREFIX_WEIGHT * FORM_WEIGHT);
            add(Look::StemOf(plain), STEM_OF_PREFIX_WEIGHT);
        }
        self.push(alternatives, 1.0, name);
        if let Some(exact) = exact {
            self.push(vec![(Look::Form(exact), 1.0)], ACCENTS_WEIGHT, None);
        }
        true
    }

    /// The term of a part of a word.
    fn term(&mut self, part: &str) -> String {
        let lower = lower(part);
        self.analyzers.first_mut().map(|analyzer| analyzer.known(&lower).term.clone()).unwrap_or(lower)
    }

    fn signs(&mut self, run: &str) {
        let mut ends = Vec::new();
        scan::sign_ends(run, &mut ends);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let signs: Vec<&str> = starts.zip(&ends).filter_map(|(start, end)| run.get(start..*end)).collect();
        if let [sign] = signs.as_slice() {
            self.push(vec![(Look::Sign((*sign).to_owned()), 1.0)], 1.0, None);
        }
        for pair in signs.windows(2) {
            let [first, second] = *pair else { continue };
            self.push(vec![(Look::Signs(first.to_owned(), second.to_owned()), 1.0)], 1.0, None);
        }
    }

    fn names(&mut self, text: &str, group: &[Run], number: usize) {
        for name in names::names(text, group) {
            let mut alternatives = Vec::new();
            let is_whole = name.runs == group.len();
            let first = group.get(name.first).map_or(0, |run| run.start);
            let last = group.get(name.first + name.runs - 1).map_or(0, |run| run.end);
            let is_identifier = names::is_identifier(text.get(first..last).unwrap_or_default());
            let joined = name.joined.map(|joined| self.term(&joined));
            for spelled in name.written.into_iter().chain(joined) {
                alternatives.push((Look::Word(spelled.clone()), 1.0));
                alternatives.push((Look::Form(spelled), 1.0));
            }
            let weight = match (is_identifier, is_whole) {
                (true, true) => 1.0,
                (true, false) => 0.5,
                (false, _) => HYPHENATED_WEIGHT,
            };
            let role = (is_identifier && is_whole).then_some((number, Role::Whole));
            self.push(alternatives, weight, role);
        }
    }

    /// A query of words without content is asked by them, above all by those that stand together.
    fn stop_words(&mut self, text: &str, runs: &[Run], stop_words: &[Run]) {
        for (run, next) in runs.iter().zip(runs.iter().skip(1)) {
            if stop_words.contains(run) && stop_words.contains(next) {
                let pair = format!("{} {}", lower(run.of(text)), lower(next.of(text)));
                self.push(vec![(Look::Form(pair), 1.0)], 1.0, None);
            }
        }
        for run in stop_words {
            let word = run.of(text);
            if is_capitals(word) {
                self.push(vec![(Look::Form(word.to_owned()), 1.0)], 1.0, None);
            }
            self.push(vec![(Look::Form(lower(word)), 1.0)], STOP_WORD_WEIGHT, None);
        }
    }
}

/// What compounds that a word is a part of have of it: what its stem leaves as it is. What is left of a short word
/// without its ending is in too many others.
fn start_of_compound<'a>(stem: &str, word: &'a str) -> Option<&'a str> {
    let common = word.char_indices().zip(stem.chars()).take_while(|((_, a), b)| a == b);
    let end = common.last().map_or(0, |((at, c), _)| at + c.len_utf8());
    [word.get(..end)?, word].into_iter().find(|part| part.chars().count() >= LEAST_TAIL)
}

fn lower(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    lower_into(&mut out, word);
    out
}
