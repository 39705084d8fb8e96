//! The figures of a text: numbers in digits or words, with what they count.

use std::fmt;

use super::words::singular;

/// A number and the word behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The number; of a percentage, a time of day or a version its digits as they stand.
    pub value: Value,
    /// What it counts or measures, in lower case and singular, by one name for each unit of measure; `None` where nothing
    /// that counts follows.
    pub unit: Option<String>,
}

/// A number as it is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// Digits with other signs between, such as `2.39.1`, `12:30` or `2024-01-05`.
    Written(String),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Number(number) => write!(f, "{number}")?,
            Value::Written(written) => f.write_str(written)?,
        }
        match &self.unit {
            Some(unit) => write!(f, " {unit}"),
            None => Ok(()),
        }
    }
}

/// Names of units of measure, each row under its first.
const UNITS: &[&[&str]] = &[
    &["percent", "%", "prozent", "pct"],
    &["euro", "€", "eur"],
    &["dollar", "$", "usd", "us$"],
    &["pound", "£", "gbp"],
    &["cent", "ct"],
    &["crown", "kr", "krone", "nok", "sek"],
    &["metre", "m", "meter"],
    &["kilometre", "km", "kilometer"],
    &["centimetre", "cm", "centimeter"],
    &["millimetre", "mm", "millimeter"],
    &["foot", "ft", "feet"],
    &["inch", "in"],
    &["mile", "mi"],
    &["yard", "yd"],
    &["tonne", "t", "ton"],
    &["kilogram", "kg", "kilogramm", "kilo"],
    &["gram", "g", "gramm"],
    &["litre", "l", "liter"],
    &["second", "s", "sec", "sekunde"],
    &["minute", "min"],
    &["hour", "h", "hr", "stunde"],
    &["day", "tag"],
    &["week", "woche"],
    &["month", "monat"],
    &["year", "jahr", "yr"],
    &["kilowatt", "kw"],
    &["megawatt", "mw"],
    &["volt", "v"],
    &["degree", "°", "grad"],
    &["byte", "b"],
    &["kilobyte", "kb", "kib"],
    &["megabyte", "mb", "mib"],
    &["gigabyte", "gb", "gib"],
];

/// Numbers in words: English and German up to twelve by name, tens, and what multiplies.
const SMALL: &[(&str, f64)] = &[
    ("zero", 0.0),
    ("one", 1.0),
    ("two", 2.0),
    ("three", 3.0),
    ("four", 4.0),
    ("five", 5.0),
    ("six", 6.0),
    ("seven", 7.0),
    ("eight", 8.0),
    ("nine", 9.0),
    ("ten", 10.0),
    ("eleven", 11.0),
    ("twelve", 12.0),
    ("thirteen", 13.0),
    ("fourteen", 14.0),
    ("fifteen", 15.0),
    ("sixteen", 16.0),
    ("seventeen", 17.0),
    ("eighteen", 18.0),
    ("nineteen", 19.0),
    ("twenty", 20.0),
    ("thirty", 30.0),
    ("forty", 40.0),
    ("fifty", 50.0),
    ("sixty", 60.0),
    ("seventy", 70.0),
    ("eighty", 80.0),
    ("ninety", 90.0),
    ("null", 0.0),
    ("zwei", 2.0),
    ("drei", 3.0),
    ("vier", 4.0),
    ("fünf", 5.0),
    ("sechs", 6.0),
    ("sieben", 7.0),
    ("acht", 8.0),
    ("neun", 9.0),
    ("zehn", 10.0),
    ("elf", 11.0),
    ("zwölf", 12.0),
    ("zwanzig", 20.0),
    ("dreißig", 30.0),
    ("vierzig", 40.0),
    ("fünfzig", 50.0),
    ("sechzig", 60.0),
    ("siebzig", 70.0),
    ("achtzig", 80.0),
    ("neunzig", 90.0),
];
const SCALES: &[(&str, f64)] = &[
    ("hundred", 1e2),
    ("thousand", 1e3),
    ("million", 1e6),
    ("billion", 1e9),
    ("hundert", 1e2),
    ("tausend", 1e3),
];
/// Ordinals tell an order, which is a figure too.
const ORDINALS: &[(&str, f64)] = &[
    ("first", 1.0),
    ("second", 2.0),
    ("third", 3.0),
    ("fourth", 4.0),
    ("fifth", 5.0),
    ("sixth", 6.0),
    ("seventh", 7.0),
    ("eighth", 8.0),
    ("ninth", 9.0),
    ("tenth", 10.0),
];
/// Words of numbers that mostly mean something else: `one` of a pair, a `second` of time.
const VAGUE: &[&str] = &["one", "second", "first"];

/// The figures of a text, in order.
pub fn figures(text: &str) -> Vec<Figure> {
    let words = pieces(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let Some((value, next)) = number(&words, at) else {
            at += 1;
            continue;
        };
        let before = at.checked_sub(1).and_then(|at| words.get(at)).and_then(|word| measure(word));
        let unit =
            before.filter(|_| is_sign(words[at - 1])).map(str::to_owned).or_else(|| unit(&words, next));
        found.push(Figure { value, unit });
        at = next;
    }
    found
}

/// Whether some figures hold one: the same value, and of the same unit where both are measured. What is only counted may
/// be named by another word.
pub fn holds(figures: &[Figure], wanted: &Figure) -> bool {
    figures.iter().any(|figure| {
        let measured = |figure: &Figure| figure.unit.as_deref().is_some_and(is_measure);
        let same_unit = !measured(wanted) || !measured(figure) || figure.unit == wanted.unit;
        figure.value == wanted.value && same_unit
    })
}

/// The figures of an answer that its sources do not hold, as they are told to people.
pub fn unheld_figures(answer: &str, sources: &str) -> Vec<String> {
    let told = figures(sources);
    figures(answer).iter().filter(|figure| !holds(&told, figure)).map(Figure::to_string).collect()
}

/// The unit of measure that a question wants its answer in, such as feet in "How deep is it in feet?".
pub fn asked_unit(question: &str) -> Option<&'static str> {
    let words = pieces(question);
    let asks = |pair: &[&str]| match pair[0].to_lowercase().as_str() {
        "in" | "many" | "much" | "viele" => measure(pair[1]),
        _ => None,
    };
    words
        .windows(2)
        .filter(|pair| pair[1].chars().count() > 2 || !pair[0].eq_ignore_ascii_case("in"))
        .find_map(asks)
}

/// Whether figures are measured, and none of them in a unit.
pub fn lack_unit(figures: &[Figure], unit: &str) -> bool {
    let mut measured =
        figures.iter().filter_map(|figure| figure.unit.as_deref()).filter(|unit| is_measure(unit)).peekable();
    measured.peek().is_some() && measured.all(|other| other != unit)
}

/// Units of time, and what else a figure of a time may have behind it.
const TIMES: &[&str] = &[
    "second", "minute", "hour", "day", "week", "month", "year", "uhr", "century", "am", "pm", "o'clock",
    "bc", "ad",
];

/// Whether a text tells a figure that may be a time: a bare one, such as a year, or one of a unit of time.
pub fn tells_time(text: &str) -> bool {
    figures(text).iter().any(|figure| figure.unit.as_deref().is_none_or(|unit| TIMES.contains(&unit)))
}

/// What a question asks the number of, such as dogs in "How many dogs may come?".
pub fn counted(question: &str) -> Option<String> {
    let words = pieces(question);
    let counts = |pair: &&[&str]| matches!(pair[0].to_lowercase().as_str(), "many" | "viele");
    let noun = singular(&words.windows(2).find(counts)?[1].to_lowercase());
    let vague =
        ["time", "people", "person", "kind", "type", "way", "different", "mal"].contains(&noun.as_str());
    (noun.len() > 2 && !vague && measure(&noun).is_none()).then_some(noun)
}

/// Words, signs of currency and numbers, as they stand, without the punctuation around them.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    for word in
        text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '[' | ']' | '/' | '"' | '“' | '”'))
    {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && !is_unit_sign(c));
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            // A sign, digits with what joins them, or letters.
            let end = if is_unit_sign(first) {
                first.len_utf8()
            } else if first.is_ascii_digit() {
                rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | ':' | '-' | '\u{2013}'))
                    .unwrap_or(rest.len())
            } else {
                rest.find(is_unit_sign).unwrap_or(rest.len())
            };
            let (piece, after) = rest.split_at(end);
            let piece = piece.trim_end_matches(|c: char| !c.is_alphanumeric() && !is_unit_sign(c));
            if !piece.is_empty() {
                pieces.push(piece);
            }
            rest = after;
        }
    }
    pieces
}

fn is_unit_sign(c: char) -> bool {
    matches!(c, '%' | '€' | '$' | '£' | '°')
}

fn is_sign(word: &str) -> bool {
    word.chars().all(is_unit_sign)
}

/// The number that begins at a word, and the first word behind it.
fn number(words: &[&str], at: usize) -> Option<(Value, usize)> {
    let word = words.get(at)?;
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        let ordinal = words.get(at + 1).is_some_and(|next| matches!(*next, "st" | "nd" | "rd" | "th"));
        let next = at + 1 + usize::from(ordinal);
        let scale = words.get(next).and_then(|word| look_up(SCALES, &word.to_lowercase()));
        let value = digits(word);
        return Some(match (value, scale) {
            (Value::Number(value), Some(scale)) => (Value::Number(value * scale), next + 1),
            (value, _) => (value, next),
        });
    }
    let lower = word.to_lowercase();
    if let Some(value) = look_up(ORDINALS, &lower).filter(|_| !VAGUE.contains(&lower.as_str())) {
        return Some((Value::Number(value), at + 1));
    }
    let mut total = small(&lower)?;
    let mut next = at + 1;
    while let Some(word) = words.get(next).map(|word| word.to_lowercase()) {
        if let Some(scale) = look_up(SCALES, &word) {
            total *= scale;
        } else if let Some(unit) =
            small(&word).filter(|&unit| unit < 10.0 && total >= 20.0 && total % 10.0 == 0.0)
        {
            total += unit;
        } else {
            break;
        }
        next += 1;
    }
    let vague = VAGUE.contains(&lower.as_str()) && next == at + 1;
    (!vague).then_some((Value::Number(total), next))
}

/// A number in one word, such as `forty-two`.
fn small(word: &str) -> Option<f64> {
    if let Some((tens, unit)) = word.split_once('-') {
        return Some(look_up(SMALL, tens).filter(|&tens| tens >= 20.0)? + look_up(SMALL, unit)?);
    }
    look_up(SMALL, word)
}

fn look_up(table: &[(&str, f64)], word: &str) -> Option<f64> {
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

/// Digits as a number: a comma before three digits groups, any other is a decimal one; a point is a decimal one unless
/// there are several.
fn digits(word: &str) -> Value {
    let written = || Value::Written(word.to_owned());
    let signs: Vec<char> = word.chars().filter(|c| !c.is_ascii_digit()).collect();
    let parsed = match signs.as_slice() {
        [] | ['.'] => word.parse(),
        [','] if word.split(',').nth(1).is_none_or(|tail| tail.len() != 3) => word.replace(',', ".").parse(),
        signs if signs.iter().all(|&c| c == ',') => word.replace(',', "").parse(),
        [groups @ .., '.'] if !groups.is_empty() && groups.iter().all(|&c| c == ',') => {
            word.replace(',', "").parse()
        }
        [groups @ .., ','] if !groups.is_empty() && groups.iter().all(|&c| c == '.') => {
            word.replace('.', "").replace(',', ".").parse()
        }
        _ => return written(),
    };
    parsed.map_or_else(|_| written(), Value::Number)
}

/// What is counted: the next word, unless it is a small one of grammar.
fn unit(words: &[&str], at: usize) -> Option<String> {
    let word = words.get(at)?.to_lowercase();
    if let Some(name) = measure(&word) {
        return Some(name.to_owned());
    }
    let counts =
        word.chars().all(char::is_alphabetic) && !crate::keywords::STOP_WORDS.contains(&word.as_str());
    counts.then(|| singular(&word))
}

/// The one name of a unit of measure.
fn measure(word: &str) -> Option<&'static str> {
    let lower = word.to_lowercase();
    let one = singular(&lower);
    let row = UNITS.iter().find(|names| names.iter().any(|name| *name == lower || *name == one))?;
    row.first().copied()
}

fn is_measure(unit: &str) -> bool {
    UNITS.iter().any(|names| names.first() == Some(&unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(Value, Option<String>)> {
        figures(text).into_iter().map(|figure| (figure.value, figure.unit)).collect()
    }

    fn number(value: f64, unit: &str) -> (Value, Option<String>) {
        (Value::Number(value), (!unit.is_empty()).then(|| unit.to_owned()))
    }

    #[test]
    fn numbers_in_digits_and_words_are_the_same() {
        assert_eq!(of("sixteen cars"), of("16 cars"));
        assert_eq!(of("forty-two crowns"), [number(42.0, "crown")]);
        assert_eq!(of("forty two kr"), [number(42.0, "crown")]);
        assert_eq!(of("It costs €1,900 a day."), [number(1900.0, "euro")]);
        assert_eq!(
            of("15,000 kW and 15.000,5 kW"),
            [number(15000.0, "kilowatt"), number(15000.5, "kilowatt")]
        );
        assert_eq!(of("three million people"), [number(3e6, "people")]);
        assert_eq!(of("2.5 million (1986)"), [number(2.5e6, ""), number(1986.0, "")]);
        assert_eq!(of("15% or 15 percent"), [number(15.0, "percent"), number(15.0, "percent")]);
        assert_eq!(of("25t, 6.5 metres"), [number(25.0, "tonne"), number(6.5, "metre")]);
        assert_eq!(of("one of them, the first, a second"), []);
        assert_eq!(of("from the fourth day on"), [number(4.0, "day")]);
        assert_eq!(of("the 10th century"), [number(10.0, "century")]);
        assert_eq!(of("um sieben Uhr"), [number(7.0, "uhr")]);
        assert_eq!(of("at 12:30, version 2.39.1")[0].0, Value::Written("12:30".to_owned()));
        assert_eq!(of(""), []);
    }

    #[test]
    fn a_figure_is_held_with_its_unit() {
        let source = figures("The dock is 120 metres long and 6.5 metres deep, for 1,900 euros.");
        let holds = |text: &str| figures(text).iter().all(|figure| holds(&source, figure));
        assert!(holds("It is 6.5 m deep."));
        assert!(holds("It is 120 long."));
        assert!(!holds("It is 6.5 feet deep."));
        assert!(!holds("It costs 19 euros."));
        assert!(holds("one hundred metres") == holds("100 metres"));
    }

    #[test]
    fn a_question_may_name_the_unit() {
        assert_eq!(asked_unit("How deep is the dock in feet?"), Some("foot"));
        assert_eq!(asked_unit("How many kilometres is it?"), Some("kilometre"));
        assert_eq!(asked_unit("How much does a day in winter cost?"), None);
        assert_eq!(asked_unit("Who is in?"), None);
        assert!(lack_unit(&figures("It is 6.5 metres deep."), "foot"));
        assert!(!lack_unit(&figures("It is 6.5 metres or 21 feet deep."), "foot"));
        assert!(!lack_unit(&figures("There are 6 docks."), "foot"));
        assert_eq!(counted("How many dogs may come?").as_deref(), Some("dog"));
        assert_eq!(counted("How many kilometres is it?"), None);
        assert!(tells_time("It was launched in 1986 and is 99 metres long.") && tells_time("um sieben Uhr"));
        assert!(!tells_time("It is 120 metres long and carries sixteen cars."));
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_figures_or_none(text in "\\PC{0,40}|([0-9]{1,4}[.,:%€ -]{0,2}){0,6}|((forty|two|million|one)[ -]){0,8}") {
            let found = figures(&text);
            for figure in &found {
                proptest::prop_assert!(holds(&found, figure));
            }
        }
    }
}
