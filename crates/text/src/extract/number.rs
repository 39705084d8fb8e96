//! Numbers of spreadsheets as their formats show them.

/// A time by its parts, as spreadsheets have them.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) year: u32,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Most digits behind the point.
const MAX_DECIMALS: usize = 15;

/// A number as a format code such as `#,##0.00 "kg"` shows it.
pub(super) fn shown(value: f64, code: &str) -> String {
    let sections = sections(code);
    let negative = value < 0.0;
    let (section, has_own_sign) = match (sections.as_slice(), negative, value == 0.0) {
        ([_, _, zero, ..], _, true) => (zero, false),
        ([_, below, ..], true, _) => (below, true),
        ([first, ..], ..) => (first, false),
        ([], ..) => return general(value),
    };
    let format = Format::parse(section).filter(|_| !code.trim().is_empty());
    let Some(format) = format else {
        return general(value);
    };
    let number = format.number(value.abs());
    let sign = if negative && !has_own_sign { "-" } else { "" };
    format!("{sign}{}{number}{}", format.before, format.after).trim().to_owned()
}

/// A number without a format.
pub(super) fn general(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    if !(1e-9..1e15).contains(&value.abs()) {
        return format!("{value:e}");
    }
    let whole = value.abs().log10().floor().max(0.0) as usize + 1;
    let text = format!("{value:.*}", 15usize.saturating_sub(whole).min(10));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The sections of a code, which `;` divides.
fn sections(code: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in code.chars() {
        match c {
            ';' if !quoted && !escaped => sections.push(String::new()),
            _ => sections.iter_mut().last().into_iter().for_each(|section| section.push(c)),
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    sections
}

/// What a section shows around a number, and how it shows it.
#[derive(Default)]
struct Format {
    before: String,
    after: String,
    decimals: usize,
    /// How many of the decimals are shown though they are zero.
    kept: usize,
    groups: bool,
    /// Least digits before the point.
    digits: usize,
    scale: i32,
    exponent: bool,
    /// As a number without a format.
    general: bool,
    /// Nothing but what is around it.
    blank: bool,
}

impl Format {
    /// `None` for a section that is no format of a number, such as that of a fraction.
    fn parse(section: &str) -> Option<Self> {
        let mut format = Self::default();
        let mut chars = section.chars().peekable();
        let (mut seen, mut point) = (false, false);
        while let Some(c) = chars.next() {
            let mut literal = String::new();
            match c {
                // More digits behind a text, as in a phone number.
                '0' | '#' | '?' if !format.after.is_empty() => return None,
                '0' | '#' | '?' => {
                    seen = true;
                    format.decimals += usize::from(point);
                    format.digits += usize::from(!point && c == '0');
                    if point && c == '0' {
                        format.kept = format.decimals;
                    }
                }
                '.' if seen || matches!(chars.peek(), Some('0' | '#' | '?')) => {
                    (seen, point) = (true, true);
                }
                // Between digits it groups them, behind them it divides by a thousand.
                ',' if seen => match chars.peek() {
                    Some('0' | '#' | '?') => format.groups = true,
                    _ => format.scale -= 3,
                },
                '%' => {
                    format.scale += 2;
                    literal.push('%');
                }
                'E' if seen => {
                    format.exponent = true;
                    chars.next();
                    while matches!(chars.peek(), Some('0' | '#')) {
                        chars.next();
                    }
                }
                '"' => literal.extend(chars.by_ref().take_while(|c| *c != '"')),
                '\\' => literal.extend(chars.next()),
                // Room of the width of a sign, and what fills the rest of a cell.
                '_' | '*' => {
                    chars.next();
                }
                '[' => {
                    let inside: String = chars.by_ref().take_while(|c| *c != ']').collect();
                    if let Some(currency) = inside.strip_prefix('$') {
                        literal.push_str(currency.split('-').next().unwrap_or_default());
                    }
                }
                'G' | 'g' if starts(&chars.clone().take(6).collect::<Vec<_>>(), "eneral") => {
                    chars.by_ref().take(6).for_each(|_| {});
                    (seen, format.general) = (true, true);
                }
                '/' if seen => return None,
                '@' => return None,
                c => literal.push(c),
            }
            if seen { &mut format.after } else { &mut format.before }.push_str(&literal);
        }
        format.blank = !seen;
        (format.decimals <= MAX_DECIMALS && format.digits <= MAX_DECIMALS).then_some(format)
    }

    fn number(&self, value: f64) -> String {
        if self.blank {
            return String::new();
        }
        if self.general {
            return general(value);
        }
        let value = value * 10f64.powi(self.scale);
        if self.exponent {
            return format!("{value:.*E}", self.decimals);
        }
        let text = format!("{value:.*}", self.decimals);
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        let mut whole = format!("{whole:0>width$}", width = self.digits);
        if self.groups {
            whole = grouped(&whole);
        }
        let spare = decimals.len() - decimals.trim_end_matches('0').len();
        let shown = decimals.len() - spare.min(self.decimals - self.kept);
        match decimals.get(..shown) {
            Some(decimals) if !decimals.is_empty() => format!("{whole}.{decimals}"),
            _ => whole,
        }
    }
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time as a format code such as `dd.mm.yyyy` shows it. Codes that are shown as the reader's country does are as in
/// ISO 8601.
pub(super) fn shown_time(moment: Moment, code: &str) -> String {
    let Moment { year, month, day, hour, minute, second } = moment;
    let code = sections(code).swap_remove(0);
    let lower = code.to_ascii_lowercase();
    if matches!(lower.as_str(), "" | "general" | "mm-dd-yy" | "m/d/yyyy" | "m/d/yy h:mm" | "m/d/yyyy h:mm")
        || code.contains("[$-F")
    {
        let date = format!("{year:04}-{month:02}-{day:02}");
        return match (hour, minute, second) {
            (0, 0, 0) => date,
            (_, _, 0) => format!("{date} {hour:02}:{minute:02}"),
            _ => format!("{date} {hour:02}:{minute:02}:{second:02}"),
        };
    }
    let halves = lower.contains("am/pm") || lower.contains("a/p");
    let mut text = String::new();
    let chars: Vec<char> = code.chars().collect();
    let mut at = 0;
    let mut last = ' ';
    while let Some(c) = chars.get(at).copied() {
        let run = chars[at..].iter().take_while(|next| next.eq_ignore_ascii_case(&c)).count();
        let wide = |value: u32| if run >= 2 { format!("{value:02}") } else { value.to_string() };
        let token = c.to_ascii_lowercase();
        match token {
            'y' if run > 2 => text.push_str(&format!("{year:04}")),
            'y' => text.push_str(&format!("{:02}", year % 100)),
            'm' if run < 3 && (last == 'h' || next_token(&chars[at + run..]) == Some('s')) => {
                text.push_str(&wide(minute));
            }
            'm' if run < 3 => text.push_str(&wide(month)),
            'm' => {
                let name = MONTHS.get(month.saturating_sub(1) as usize).copied().unwrap_or_default();
                text.push_str(if run == 3 { &name[..name.len().min(3)] } else { name });
            }
            'd' if run < 3 => text.push_str(&wide(day)),
            'd' => {
                let name = DAYS[weekday(year, month, day)];
                text.push_str(if run == 3 { &name[..3] } else { name });
            }
            'h' if halves => text.push_str(&wide(if hour.is_multiple_of(12) { 12 } else { hour % 12 })),
            'h' => text.push_str(&wide(hour)),
            's' => text.push_str(&wide(second)),
            'a' if lower[..].contains("am/pm") && starts(&chars[at..], "am/pm") => {
                text.push_str(if hour < 12 { "AM" } else { "PM" });
                at += 5;
                continue;
            }
            'a' if starts(&chars[at..], "a/p") => {
                text.push_str(if hour < 12 { "A" } else { "P" });
                at += 3;
                continue;
            }
            '"' => {
                let quoted: String = chars[at + 1..].iter().take_while(|c| **c != '"').collect();
                at += quoted.chars().count() + 2;
                text.push_str(&quoted);
                continue;
            }
            '\\' => {
                text.extend(chars.get(at + 1));
                at += 2;
                continue;
            }
            '_' | '*' => {
                at += 2;
                continue;
            }
            '[' => {
                let skipped = chars[at..].iter().take_while(|c| **c != ']').count() + 1;
                at += skipped;
                continue;
            }
            '@' | '0' | '#' | '?' => {}
            _ => text.extend(std::iter::repeat_n(c, run)),
        }
        if token.is_ascii_alphabetic() {
            last = token;
        }
        at += run;
    }
    text.trim().trim_end_matches('.').to_owned()
}

fn starts(chars: &[char], word: &str) -> bool {
    word.chars()
        .zip(chars.iter().map(Some).chain(std::iter::repeat(None)))
        .all(|(w, c)| c.is_some_and(|c| c.eq_ignore_ascii_case(&w)))
}

/// The next letter of a code.
fn next_token(chars: &[char]) -> Option<char> {
    chars.iter().find(|c| c.is_ascii_alphabetic()).map(char::to_ascii_lowercase)
}

/// The day of the week, from Sunday.
fn weekday(year: u32, month: u32, day: u32) -> usize {
    let days =
        super::properties::seconds(year.into(), month.into(), day.into(), 0, 0, 0).unwrap_or(0) / 86_400;
    (days + 4).rem_euclid(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_their_formats_show_them() {
        let cases = [
            (0.25, "0%", "25%"),
            (0.12345, "0.00%", "12.35%"),
            (1250.0, "#,##0", "1,250"),
            (1_234_567.891, "#,##0.00", "1,234,567.89"),
            (-1250.5, "#,##0.00;(#,##0.00)", "(1,250.50)"),
            (-3.0, "0.0", "-3.0"),
            (0.0, "0;-0;\"none\"", "none"),
            (19.9, "[$€-407] #,##0.00", "€ 19.90"),
            (19.9, "#,##0.00\\ \"€\"", "19.90 €"),
            (7.0, "\"No. \"000", "No. 007"),
            (1500.0, "0.0,\" k\"", "1.5 k"),
            (12.5, "0.###", "12.5"),
            (12.0, "0.##", "12"),
            (12345.0, "0.00E+00", "1.23E4"),
            (0.5, "# ?/?", "0.5"),
            (3.25, "General", "3.25"),
            (3.25, "General\" kg\"", "3.25 kg"),
            (5.0, "@", "5"),
            (1234.5, "_-* #,##0.00_-;-* #,##0.00_-", "1,234.50"),
            (0.1 + 0.2, "General", "0.3"),
            (1e20, "General", "1e20"),
            (42.0, "", "42"),
        ];
        for (value, code, expected) in cases {
            assert_eq!(shown(value, code), expected, "{value} {code:?}");
        }
    }

    #[test]
    fn times_are_as_their_formats_show_them() {
        let moment = Moment { year: 2024, month: 3, day: 5, hour: 14, minute: 7, second: 9 };
        let cases = [
            ("yyyy-mm-dd", "2024-03-05"),
            ("dd.mm.yyyy", "05.03.2024"),
            ("d-mmm-yy", "5-Mar-24"),
            ("dddd, d mmmm yyyy", "Tuesday, 5 March 2024"),
            ("h:mm AM/PM", "2:07 PM"),
            ("hh:mm:ss", "14:07:09"),
            ("mm:ss", "07:09"),
            ("mm-dd-yy", "2024-03-05 14:07:09"),
            ("[$-407]d. mmmm yyyy;@", "5. March 2024"),
            ("yyyy\\-mm\\-dd\"T\"hh:mm", "2024-03-05T14:07"),
        ];
        for (code, expected) in cases {
            assert_eq!(shown_time(moment, code), expected, "{code:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_code_panics(value: f64, code in "[0#?.,%E+;\"\\\\_*\\[\\]$ymdhsaAPG/é -]{0,20}") {
            shown(value, &code);
            shown_time(Moment { year: 2024, month: 13, day: 0, hour: 25, minute: 61, second: 61 }, &code);
        }
    }
}
