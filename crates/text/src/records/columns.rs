//! The types of a table's columns. A column has one type, which all its cells fit; where they fit none, or more than one
//! and nothing tells which, they stay strings. So do the numbers that nobody counts with, such as telephone numbers.

use super::moment::Moment;
use trove_core::domain::MetadataValue;

/// Words in the names of columns whose values are strings, though they may look like numbers.
const NAMES_OF_CODES: [&str; 32] = [
    "account",
    "bic",
    "code",
    "ean",
    "fax",
    "gtin",
    "handy",
    "hash",
    "iban",
    "id",
    "imei",
    "ip",
    "isbn",
    "issn",
    "key",
    "mobil",
    "mobile",
    "phone",
    "plz",
    "postal",
    "postcode",
    "postleitzahl",
    "rev",
    "revision",
    "sku",
    "ssn",
    "tel",
    "telefon",
    "telephone",
    "upc",
    "version",
    "zip",
];
/// What stands for no value among values of another type.
const BLANKS: [&str; 10] = ["", "-", "--", "#n/a", "\\n", "n/a", "na", "nan", "none", "null"];

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// `true` and `false`.
    Bool,
    Int,
    /// `12.5`.
    Point,
    /// `1.234,50`.
    Comma,
    /// `1,234.50`.
    Grouped,
    /// `2024-01-31`, with a time if wanted, or `2024/01/31`.
    Iso,
    /// `31.1.2024`.
    Dotted,
    /// `31/1/2024`.
    DayFirst,
    /// `1/31/2024`.
    MonthFirst,
}

use Notation::{Bool, Comma, DayFirst, Dotted, Grouped, Int, Iso, MonthFirst, Point};

/// What is known of a column while its cells are seen.
#[derive(Debug, Clone)]
pub(super) struct Column {
    delimiter: u8,
    is_filled: bool,
    /// Those that all cells so far fit.
    fitting: Vec<Notation>,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColumnType(Option<Notation>);

impl Column {
    /// A column of a name, in a table with this between its cells.
    pub(super) fn new(name: &str, delimiter: u8) -> Self {
        let fitting = match (is_code(name), delimiter) {
            (true, _) => Vec::new(),
            (false, b',') => vec![Bool, Int, Point, Grouped, Iso, Dotted, DayFirst, MonthFirst],
            (false, _) => vec![Bool, Int, Point, Comma, Grouped, Iso, Dotted, DayFirst, MonthFirst],
        };
        Self { delimiter, is_filled: false, fitting }
    }

    /// One more cell.
    pub(super) fn see(&mut self, cell: &str) {
        let cell = cell.trim();
        if self.fitting.is_empty() || is_blank(cell) {
            return;
        }
        self.is_filled = true;
        self.fitting.retain(|notation| notation.read(cell).is_some());
    }

    /// The type that all its cells have.
    pub(super) fn kind(&self) -> ColumnType {
        if !self.is_filled {
            return ColumnType(None);
        }
        let fits = |notation| self.fitting.contains(&notation);
        let one_of = |first, second| match (fits(first), fits(second)) {
            (true, false) => Some(first),
            (false, true) => Some(second),
            _ => None,
        };
        let plain = [Bool, Int, Iso, Dotted].into_iter().find(|notation| fits(*notation));
        // In most of Europe, where tables have semicolons, 1.234 may be a thousand and more.
        let number = || match fits(Point) {
            true if self.delimiter == b';' && fits(Comma) => None,
            true => Some(Point),
            false => one_of(Comma, Grouped),
        };
        ColumnType(plain.or_else(number).or_else(|| one_of(DayFirst, MonthFirst)))
    }
}

impl ColumnType {
    /// The value of a cell; `None` where it has none.
    pub(super) fn value(self, cell: &str) -> Option<MetadataValue> {
        let cell = cell.trim();
        match self.0 {
            None if cell.is_empty() => None,
            None => Some(MetadataValue::String(cell.to_owned())),
            Some(_) if is_blank(cell) => None,
            // All cells fit when the file was read before.
            Some(notation) => {
                Some(notation.read(cell).unwrap_or_else(|| MetadataValue::String(cell.to_owned())))
            }
        }
    }
}

impl Notation {
    fn read(self, cell: &str) -> Option<MetadataValue> {
        match self {
            Bool if cell.eq_ignore_ascii_case("true") => Some(MetadataValue::Bool(true)),
            Bool => cell.eq_ignore_ascii_case("false").then_some(MetadataValue::Bool(false)),
            Int => is_number(cell, '.').then(|| cell.parse().ok().map(MetadataValue::Int))?,
            Point => is_number(cell, '.').then(|| double(cell))?,
            Comma => number_of(cell, '.', ','),
            Grouped => number_of(cell, ',', '.'),
            Iso => {
                let text = if is_slashed(cell) { &cell.replace('/', "-") } else { cell };
                moment(Moment::parse(text).filter(|moment| moment.length <= 86_400)?)
            }
            Dotted => calendar(cell, '.', [2, 1, 0]),
            DayFirst => calendar(cell, '/', [2, 1, 0]),
            MonthFirst => calendar(cell, '/', [2, 0, 1]),
        }
    }
}

fn moment(moment: Moment) -> Option<MetadataValue> {
    Some(MetadataValue::Timestamp(moment.seconds, moment.nanos))
}

/// Whether a date is written `2024/01/31`.
fn is_slashed(cell: &str) -> bool {
    let bytes = cell.as_bytes();
    bytes.len() >= 10 && bytes[4] == b'/' && bytes[7] == b'/'
}

/// A date of three numbers; `order` tells where year, month and day are.
fn calendar(cell: &str, between: char, order: [usize; 3]) -> Option<MetadataValue> {
    let parts: Vec<&str> = cell.split(between).collect();
    let read = |at: usize| -> Option<i64> {
        let part = parts.get(at)?;
        let fits = if at == 2 { part.len() == 4 } else { (1..=2).contains(&part.len()) };
        (fits && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let [year, month, day] = order;
    let found = Moment::day(read(year)?, read(month)?, read(day)?)?;
    (parts.len() == 3).then(|| moment(found))?
}

fn double(text: &str) -> Option<MetadataValue> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(MetadataValue::Double)
}

/// Whether a text is a number as people write it: without zeros before it, and with no more digits than a number keeps.
fn is_number(text: &str, point: char) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once(point) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_exponent = |exponent: &str| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        // 1E5 may be the number of a part.
        is_digits(digits) && digits.len() <= 3 && (fraction.is_some() || digits.len() < exponent.len())
    };
    is_digits(whole)
        && whole.len() <= 15
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(is_exponent)
}

/// A number with groups of thousands, or none, before a decimal mark.
fn number_of(text: &str, group: char, point: char) -> Option<MetadataValue> {
    let (whole, fraction) = match text.split_once(point) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut groups = whole.split(group);
    let first = groups.next()?;
    let mut digits = first.to_owned();
    for next in groups {
        let is_group = next.len() == 3 && first.strip_prefix('-').unwrap_or(first).len() <= 3 && first != "0";
        if !is_group {
            return None;
        }
        digits.push_str(next);
    }
    if let Some(fraction) = fraction {
        digits.push('.');
        digits.push_str(fraction);
    }
    (is_number(&digits, '.') && !digits.contains(['e', 'E'])).then(|| double(&digits))?
}

/// Whether a cell is a number, a date or a boolean, and no year, and so hardly the name of a column.
pub(super) fn is_value(cell: &str) -> bool {
    let cell = cell.trim();
    let is_year = cell.len() == 4 && cell.starts_with(['1', '2']);
    let all = [Bool, Int, Point, Comma, Grouped, Iso, Dotted, DayFirst, MonthFirst];
    !is_year && all.iter().any(|notation| notation.read(cell).is_some())
}

fn is_blank(cell: &str) -> bool {
    BLANKS.iter().any(|blank| cell.eq_ignore_ascii_case(blank))
}

/// Whether a name is that of codes: `customer_id`, `ZipCode`.
fn is_code(name: &str) -> bool {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.iter().any(|word| NAMES_OF_CODES.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, delimiter: u8, cells: &[&str]) -> Vec<Option<MetadataValue>> {
        let mut column = Column::new(name, delimiter);
        cells.iter().for_each(|cell| column.see(cell));
        cells.iter().map(|cell| column.kind().value(cell)).collect()
    }

    fn is_strings(name: &str, delimiter: u8, cells: &[&str]) -> bool {
        values(name, delimiter, cells).iter().all(|value| matches!(value, Some(MetadataValue::String(_))))
    }

    fn numbers(delimiter: u8, cells: &[&str]) -> Vec<f64> {
        let number = |value: Option<MetadataValue>| match value {
            Some(MetadataValue::Int(int)) => int as f64,
            Some(MetadataValue::Double(double)) => double,
            other => panic!("{cells:?}: {other:?}"),
        };
        values("price", delimiter, cells).into_iter().map(number).collect()
    }

    #[test]
    fn numbers_of_any_notation() {
        assert_eq!(values("year", b',', &["1998", "", "2024"])[..2], [Some(MetadataValue::Int(1998)), None]);
        assert_eq!(numbers(b',', &["12.5", "20", "-3", "1.5e-3"]), [12.5, 20.0, -3.0, 0.0015]);
        assert_eq!(numbers(b';', &["12,50", "1.234,00", "20"]), [12.5, 1234.0, 20.0]);
        assert_eq!(numbers(b',', &["1,234.50", "999"]), [1234.5, 999.0]);
        assert_eq!(numbers(b',', &["1,234"]), [1234.0]);
        assert_eq!(numbers(b';', &["0,125", "1,250"]), [0.125, 1.25]);
        assert_eq!(numbers(b';', &["12.5", "1.25"]), [12.5, 1.25]);
        assert_eq!(values("n", b',', &["1", "n/a", "NULL"])[1..], [None, None]);
    }

    #[test]
    fn what_only_looks_like_numbers_stays_text() {
        for cells in [
            &["007", "123"][..],
            &["+49 431 12345", "0431"],
            &["1.2.3", "1.3.0"],
            &["24105", "01067"],
            &["1", "two"],
            &["12345678901234567890", "1"],
            &["1E5", "2E7"],
            &["0x10"],
            &["inf", "1"],
            &["1-2", "3"],
        ] {
            assert!(is_strings("x", b',', cells), "{cells:?}");
        }
        for name in ["Version", "ZipCode", "customer_id", "Phone (home)", "PLZ", " ISBN "] {
            assert!(is_strings(name, b',', &["12", "34"]), "{name}");
        }
        // Nobody can tell whether it is a thousand.
        assert!(is_strings("x", b';', &["1,234", "2,345"]) && is_strings("x", b';', &["1.234"]));
        assert!(!is_strings("width", b',', &["12", "34"]));
    }

    #[test]
    fn dates_and_booleans() {
        let day = |seconds| Some(MetadataValue::Timestamp(seconds, 0));
        assert_eq!(
            values("d", b',', &["2024-01-01", "2024/01/02"]),
            [day(1_704_067_200), day(1_704_153_600)]
        );
        assert_eq!(values("d", b';', &["1.1.2024", "02.01.2024"]), [day(1_704_067_200), day(1_704_153_600)]);
        assert_eq!(values("d", b',', &["1/2/2024", "31/1/2024"])[0], day(1_706_745_600));
        assert_eq!(values("d", b',', &["1/2/2024", "1/31/2024"])[0], day(1_704_153_600));
        assert!(is_strings("d", b',', &["1/2/2024", "3/4/2024"]));
        assert!(is_strings("d", b',', &["2024-01-01", "soon"]) && is_strings("d", b',', &["30.2.2024"]));
        assert_eq!(values("new", b',', &["TRUE", "false"])[0], Some(MetadataValue::Bool(true)));
        assert!(is_strings("new", b',', &["yes", "no"]));
    }
}
