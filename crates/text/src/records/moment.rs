//! Dates and times as people write them.

/// A day or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970 at its start, in UTC.
    pub seconds: i64,
    /// Nanoseconds after that.
    pub nanos: i32,
    /// Seconds until it is over: those of a day or a month, zero for an instant.
    pub length: i64,
}

const DAY: i64 = 86_400;

impl Moment {
    /// An ISO 8601 date or time: `2024-01`, `2024-01-31`, `2024-01-31T12:30`, with seconds, a fraction and a zone if
    /// wanted; a space may stand for the T. Without a zone it is UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() == 7 {
            let (year, month) = (number(text, 0, 4)?, number(text, 5, 2)?);
            let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            let start = (bytes[4] == b'-').then(|| day_number(year, month, 1))??;
            let end = day_number(next_year, next, 1)?;
            return Some(Self { seconds: start * DAY, nanos: 0, length: (end - start) * DAY });
        }
        if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        let day = day_number(number(text, 0, 4)?, number(text, 5, 2)?, number(text, 8, 2)?)? * DAY;
        let rest = text.get(10..)?;
        if rest.is_empty() {
            return Some(Self { seconds: day, nanos: 0, length: DAY });
        }
        let time = rest.strip_prefix(['T', 't', ' '])?;
        let (seconds, nanos) = time_of_day(time)?;
        Some(Self { seconds: day + seconds, nanos, length: 0 })
    }

    /// A day of a calendar.
    pub fn day(year: i64, month: i64, day: i64) -> Option<Self> {
        Some(Self { seconds: day_number(year, month, day)? * DAY, nanos: 0, length: DAY })
    }
}

/// Seconds and nanoseconds since midnight in UTC.
fn time_of_day(text: &str) -> Option<(i64, i32)> {
    let zone_at = text.find(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at_checked(zone_at)?;
    let clock = clock.trim_end();
    let (hour, minute) = (number(clock, 0, 2)?, number(clock, 3, 2)?);
    if clock.as_bytes().get(2) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let (mut second, mut nanos) = (0, 0);
    if let Some(rest) = clock.get(5..).filter(|rest| !rest.is_empty()) {
        second = number(rest.strip_prefix(':')?, 0, 2)?;
        let fraction = rest.get(3..)?;
        if !fraction.is_empty() {
            let digits = fraction.strip_prefix(['.', ','])?;
            let is_number = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            nanos = is_number.then(|| format!("{digits:0<9}").parse().ok())??;
        }
    }
    // 60 is a leap second.
    if second > 60 {
        return None;
    }
    Some((hour * 3600 + minute * 60 + second - offset(zone)?, nanos))
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None => return Some(0),
        Some('Z' | 'z') => return (zone.len() == 1).then_some(0),
        Some('+') => 1,
        _ => -1,
    };
    let digits: String = zone.get(1..)?.split(':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits, 0, 2)?, 0),
        4 => (number(&digits, 0, 2)?, number(&digits, 2, 2)?),
        _ => return None,
    };
    (hours <= 18 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// So many digits from a place on.
fn number(text: &str, start: usize, length: usize) -> Option<i64> {
    let digits = text.get(start..start + length)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        Moment::parse(text).map(|moment| moment.seconds)
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(
            Moment::parse("2024-01-01"),
            Some(Moment { seconds: 1_704_067_200, nanos: 0, length: DAY })
        );
        assert_eq!(Moment::parse("2024-02").map(|m| m.length), Some(29 * DAY));
        assert_eq!(Moment::parse("2023-12").map(|m| m.length), Some(31 * DAY));
        assert_eq!(seconds("1970-01-01T00:00:01Z"), Some(1));
        assert_eq!(seconds("1970-01-01 02:00+02:00"), Some(0));
        assert_eq!(seconds("1969-12-31T19:00:00-0500"), Some(0));
        assert_eq!(seconds("0001-01-01"), Some(-62_135_596_800));
        assert_eq!(Moment::parse("1970-01-01T00:00:00.25Z").map(|m| m.nanos), Some(250_000_000));
        assert_eq!(Moment::day(2000, 3, 1).map(|m| m.seconds), Some(951_868_800));
        for bad in [
            "",
            "2024",
            "2024-13",
            "2024-02-30",
            "2023-02-29",
            "2024-1-1",
            "2024-01-01T25:00",
            "2024-01-01T1:00",
            "2024-01-01T10:00:00.",
            "2024-01-01T10:00+9",
            "2024-01-01x",
            "20é4-01-01",
            "0000-01-01",
            "12-34-5678",
            "2024-01-01T10:00 and more",
        ] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }
}
