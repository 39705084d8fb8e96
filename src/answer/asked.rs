//! What a question asks for, and whether a sentence has such a thing.

use super::figures::{figures, tells_time};
use crate::keywords::STOP_WORDS;

/// What an answer must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A person or a body: a name, or a word for one.
    Who,
    /// A time.
    When,
    /// A place.
    Where,
    /// A number.
    HowMany,
    /// A reason.
    Why,
    /// Anything else.
    Other,
}

/// First words of questions that ask how much of something: a number answers them.
const MEASURES: &[&str] = &[
    "many", "much", "long", "old", "far", "big", "large", "tall", "high", "deep", "wide", "fast", "often",
    "heavy", "powerful", "late", "early",
];
const TIMES: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "spring",
    "summer",
    "autumn",
    "winter",
    "day",
    "days",
    "week",
    "month",
    "year",
    "years",
    "century",
    "noon",
    "midnight",
    "morning",
    "evening",
    "night",
    "today",
    "tomorrow",
    "yesterday",
    "before",
    "after",
    "during",
    "until",
    "daily",
    "weekly",
    "monthly",
    "hour",
    "hours",
    "uhr",
    "when",
    "while",
    "once",
    "januar",
    "februar",
    "märz",
    "juni",
    "juli",
    "oktober",
    "dezember",
    "montag",
    "dienstag",
    "mittwoch",
    "donnerstag",
    "freitag",
    "samstag",
    "sonntag",
];
const REASONS: &[&str] = &[
    "because",
    "since",
    "so",
    "due",
    "therefore",
    "reason",
    "cause",
    "caused",
    "causes",
    "to",
    "for",
    "weil",
    "denn",
];
const PLACES: &[&str] = &[
    "in", "at", "on", "near", "from", "to", "under", "above", "behind", "between", "within", "inside",
    "beside", "into", "im", "am", "auf", "unter", "bei", "nach",
];

impl Asked {
    /// What a question asks for, by its words.
    pub fn of(question: &str) -> Self {
        let lower = question.to_lowercase();
        let words: Vec<&str> =
            lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let follows = |first: &str, then: &[&str]| {
            words.windows(2).any(|pair| pair[0] == first && then.contains(&pair[1]))
        };
        let has = |names: &[&str]| words.iter().any(|word| names.contains(word));
        if follows("how", MEASURES)
            || has(&["wieviel", "wieviele"])
            || follows("wie", &["viel", "viele", "lange", "hoch", "tief", "breit"])
        {
            return Self::HowMany;
        }
        if has(&["when", "wann"])
            || follows("what", &["year", "time", "day", "date", "month", "century"])
            || follows("which", &["year", "day", "month", "century"])
        {
            return Self::When;
        }
        if has(&["who", "whom", "whose", "wer", "wen", "wem"]) {
            return Self::Who;
        }
        if has(&["where", "wo", "wohin", "woher"]) {
            return Self::Where;
        }
        if has(&["why", "warum", "wieso", "weshalb"]) {
            return Self::Why;
        }
        if has(&["cost", "costs", "price", "fare", "percentage", "pay"]) && has(&["what", "was"]) {
            return Self::HowMany;
        }
        Self::Other
    }

    /// Whether a sentence has what is asked for, beside what the question says itself: one where it has, minus one where
    /// it has not, zero where that cannot be told.
    pub fn met(self, question: &str, sentence: &str) -> f32 {
        let lower = sentence.to_lowercase();
        let has =
            |names: &[&str]| lower.split(|c: char| !c.is_alphanumeric()).any(|word| names.contains(&word));
        let met = match self {
            Self::Who => names(sentence).any(|name| !question.contains(name)),
            Self::When => has(TIMES) || tells_time(sentence),
            Self::Where => names(sentence).any(|name| !question.contains(name)) || has(PLACES),
            Self::HowMany => {
                let told = figures(question);
                figures(sentence).iter().any(|figure| !told.contains(figure))
                    || has(&["free", "half", "double", "kostenlos"])
            }
            Self::Why => has(REASONS),
            Self::Other => return 0.0,
        };
        if met { 1.0 } else { -1.0 }
    }
}

/// Words with a capital that do not begin the text, and its first word where the next has one too.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-')
        .filter(|word| !word.is_empty())
        .collect();
    let is_name = |word: &str| {
        word.starts_with(char::is_uppercase) && !STOP_WORDS.contains(&word.to_lowercase().as_str())
    };
    let first = words.len() > 1 && words.iter().take(2).all(|word| is_name(word));
    let skipped = usize::from(!first);
    words.into_iter().skip(skipped).filter(move |word| is_name(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_ask_for_kinds_of_things() {
        for (question, asked) in [
            ("Who is the harbour master?", Asked::Who),
            ("And who is her deputy?", Asked::Who),
            ("When did she take office?", Asked::When),
            ("In what year was it launched?", Asked::When),
            ("Wann öffnet die Schleuse?", Asked::When),
            ("Where is the station?", Asked::Where),
            ("How many cars does it carry?", Asked::HowMany),
            ("What does a berth cost?", Asked::HowMany),
            ("Why was it closed?", Asked::Why),
            ("Which crane lifts 25 t?", Asked::Other),
            ("How do I undo the last commit?", Asked::Other),
            ("", Asked::Other),
        ] {
            assert_eq!(Asked::of(question), asked, "{question}");
        }
    }

    #[test]
    fn sentences_have_them_or_not() {
        let met = |question: &str, sentence: &str| Asked::of(question).met(question, sentence);
        assert_eq!(met("Who leads Debian?", "Ian Murdock led it."), 1.0);
        assert_eq!(met("Who leads Debian?", "It has a leader of Debian."), -1.0);
        assert_eq!(met("How long is it in 1990?", "It was long in 1990."), -1.0);
        assert_eq!(met("How long is it?", "It is 99 metres long."), 1.0);
        assert_eq!(met("When is payment due?", "Payment is due before noon."), 1.0);
        assert_eq!(met("When was the dock built?", "The dock is 120 metres long."), -1.0);
        assert_eq!(met("What is it?", "It is red."), 0.0);
        assert_eq!(
            names("The South crane of Greta Solheim").collect::<Vec<_>>(),
            ["South", "Greta", "Solheim"]
        );
        assert_eq!(names("Greta Solheim").collect::<Vec<_>>(), ["Greta", "Solheim"]);
    }
}
