//! What a file says of itself, as typed values.

use trove_core::domain::MetadataValue;

/// A value as it is written: a boolean, a number, a time, or else a string.
pub(super) fn scalar(text: &str) -> MetadataValue {
    let text = text.trim();
    match text {
        "true" | "True" | "TRUE" => return MetadataValue::Bool(true),
        "false" | "False" | "FALSE" => return MetadataValue::Bool(false),
        "" | "~" | "null" | "Null" | "NULL" => return MetadataValue::Null,
        _ => {}
    }
    if let Some(number) = number(text) {
        return number;
    }
    timestamp(text).unwrap_or_else(|| MetadataValue::String(text.to_owned()))
}

/// A number in plain decimal notation. One with leading zeros is a mark, such as a postcode.
fn number(text: &str) -> Option<MetadataValue> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number =
        [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if !is_number || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    if !digits.contains('.') {
        return text.parse().ok().map(MetadataValue::Int);
    }
    text.parse().ok().map(MetadataValue::Double)
}

/// A date, or a date and a time of day, as in RFC 3339; without an offset it is in UTC.
pub(super) fn timestamp(text: &str) -> Option<MetadataValue> {
    let (date, rest) = text.split_at_checked(10)?;
    let digits = |text: &str, at: std::ops::Range<usize>| {
        let part = text.get(at)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
    };
    let separators = (date.as_bytes()[4], date.as_bytes()[7]);
    let (year, month, day) = (digits(date, 0..4)?, digits(date, 5..7)?, digits(date, 8..10)?);
    if separators != (b'-', b'-') || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day)
    {
        return None;
    }
    let mut seconds = days_from_1970(year, month, day) * 86_400;
    let mut nanos = 0;
    if !rest.is_empty() {
        let time = rest.strip_prefix(['T', 't', ' '])?;
        let (hour, minute) = (digits(time, 0..2)?, digits(time, 3..5)?);
        let mut rest = time.get(5..)?;
        let mut second = 0;
        if let Some(after) = rest.strip_prefix(':') {
            second = digits(after, 0..2)?;
            rest = after.get(2..)?;
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                let fraction = format!("{:0<9.9}", &after[..end]);
                nanos = fraction.parse().ok()?;
                rest = &after[end..];
            }
        }
        if time.as_bytes().get(2) != Some(&b':') || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        seconds += hour * 3600 + minute * 60 + second - offset(rest.trim())?;
    }
    Some(MetadataValue::Timestamp(seconds, nanos))
}

/// Seconds that a place is ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.strip_prefix(['+', '-'])?.replace(':', "");
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { minutes.parse::<u32>().ok()? };
    let hours = hours.parse::<u32>().ok()?;
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar, counted in years that begin in March.
fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_types() {
        assert_eq!(scalar("true"), MetadataValue::Bool(true));
        assert_eq!(scalar("-12"), MetadataValue::Int(-12));
        assert_eq!(scalar("1.5"), MetadataValue::Double(1.5));
        assert_eq!(scalar("~"), MetadataValue::Null);
        for text in ["007", "1.2.3", "1e5", "v1", "2024-13-01", "2023-02-29", "12:30", "inf", "0x10", "1_000"]
        {
            assert_eq!(scalar(text), MetadataValue::String(text.to_owned()));
        }
    }

    #[test]
    fn times() {
        let at = |text: &str| match timestamp(text) {
            Some(MetadataValue::Timestamp(seconds, nanos)) => Some((seconds, nanos)),
            _ => None,
        };
        assert_eq!(at("1970-01-01"), Some((0, 0)));
        assert_eq!(at("2024-04-02"), Some((1_712_016_000, 0)));
        assert_eq!(at("2000-02-29T12:00:30.25+02:00"), Some((951_818_430, 250_000_000)));
        assert_eq!(at("1969-12-31 23:59:59Z"), Some((-1, 0)));
        assert_eq!(at("2024-04-02T10:00"), at("2024-04-02T10:00:00Z"));
        assert_eq!((at("2024-04-02Tx"), at("2024-04-0é"), at("ß24-04-02x")), (None, None, None));
    }
}
