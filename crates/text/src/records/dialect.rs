//! How a table is written: what stands between its cells, and whether quotes hold cells together.

/// What may stand between cells, in the order of preference.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Records that are looked at.
const MOST_RECORDS: usize = 200;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// Between cells.
    pub(super) delimiter: u8,
    /// Whether `"` at the start of a cell holds it together.
    pub(super) quotes: bool,
    /// Bytes before the header: a line such as `sep=;`, which spreadsheets write.
    pub(super) skipped: usize,
}

/// How well a dialect fits.
#[derive(Debug, PartialEq, PartialOrd)]
struct Fit {
    /// Share of the records that have as many cells as the header.
    even: f64,
    quotes_hold: bool,
    cells: usize,
    is_expected: bool,
}

impl Dialect {
    /// The dialect of a table, by its beginning: that in which most records have as many cells as the header. Where
    /// nothing is between the names of the header, it is the expected delimiter.
    ///
    /// `is_whole` tells that the table ends with the sample.
    pub(super) fn of(sample: &str, expected: u8, is_whole: bool) -> Self {
        if let Some((delimiter, skipped)) = named(sample) {
            let quotes = quotes_hold(sample.get(skipped..).unwrap_or_default(), delimiter, is_whole);
            return Self { delimiter, quotes, skipped };
        }
        let mut best: Option<(Fit, Self)> = None;
        for delimiter in DELIMITERS {
            for quotes in [true, false] {
                let dialect = Self { delimiter, quotes, skipped: 0 };
                let Some((even, cells)) = dialect.try_on(sample, is_whole) else { continue };
                let quotes_hold = !quotes || quotes_hold(sample, delimiter, is_whole);
                let fit = Fit { even, quotes_hold, cells, is_expected: delimiter == expected };
                if best.as_ref().is_none_or(|(known, _)| fit > *known) {
                    best = Some((fit, dialect));
                }
            }
        }
        best.map_or(Self { delimiter: expected, quotes: true, skipped: 0 }, |(_, dialect)| dialect)
    }

    /// A reader of a table of this dialect.
    pub(super) fn reader<R: std::io::Read>(self, table: R) -> csv::Reader<R> {
        csv::ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quoting(self.quotes)
            .flexible(true)
            .has_headers(false)
            .from_reader(table)
    }

    /// The share of the records that have as many cells as the header, and that number; `None` where the header is one
    /// cell.
    fn try_on(self, sample: &str, is_whole: bool) -> Option<(f64, usize)> {
        let mut counts = Vec::new();
        for record in self.reader(sample.as_bytes()).records().take(MOST_RECORDS) {
            counts.push(record.ok()?.len());
        }
        // The last one may be cut.
        if !is_whole && counts.len() > 1 && counts.len() < MOST_RECORDS {
            counts.pop();
        }
        let (header, rows) = counts.split_first()?;
        if *header < 2 {
            return None;
        }
        let even = rows.iter().filter(|count| *count == header).count();
        Some((if rows.is_empty() { 1.0 } else { even as f64 / rows.len() as f64 }, *header))
    }
}

/// The delimiter that a first line `sep=;` names, and the length of that line.
fn named(sample: &str) -> Option<(u8, usize)> {
    let line = sample.split_inclusive(['\r', '\n']).next()?;
    let name = line.get(..4)?;
    let rest = line.get(4..)?.trim_end_matches(['\r', '\n']);
    let delimiter = *rest.as_bytes().first().filter(|byte| rest.len() == 1 && byte.is_ascii())?;
    let after = sample.get(line.len()..)?;
    let more = usize::from(line.ends_with('\r') && after.starts_with('\n'));
    name.eq_ignore_ascii_case("sep=").then_some((delimiter, line.len() + more))
}

/// Whether each cell that starts with a quote ends with one.
fn quotes_hold(sample: &str, delimiter: u8, is_whole: bool) -> bool {
    match quotes(sample, delimiter) {
        Quotes::Hold => true,
        Quotes::Open => !is_whole,
        Quotes::Loose => false,
    }
}

/// What becomes of quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// Each cell that starts with one ends with one.
    Hold,
    /// More stands in a cell after its last one.
    Loose,
    /// The last cell starts with one and has no other: it holds all that follows.
    Open,
}

/// What becomes of the quotes of a text that starts with a record.
pub(super) fn quotes(sample: &str, delimiter: u8) -> Quotes {
    let bytes = sample.as_bytes();
    let mut at = 0;
    let mut is_start = true;
    let mut found = Quotes::Hold;
    while let Some(byte) = bytes.get(at) {
        if !is_start || *byte != b'"' {
            is_start = *byte == delimiter || *byte == b'\n' || *byte == b'\r';
            at += 1;
            continue;
        }
        at += 1;
        loop {
            match (bytes.get(at), bytes.get(at + 1)) {
                (None, _) => return Quotes::Open,
                (Some(b'"'), Some(b'"')) => at += 2,
                (Some(b'"'), _) => break,
                _ => at += 1,
            }
        }
        at += 1;
        is_start = false;
        let ends = bytes.get(at).is_none_or(|after| *after == delimiter || matches!(after, b'\n' | b'\r'));
        if !ends {
            found = Quotes::Loose;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sample: &str) -> (char, bool) {
        let dialect = Dialect::of(sample, b',', true);
        (dialect.delimiter as char, dialect.quotes)
    }

    #[test]
    fn delimiters_are_found() {
        assert_eq!(of("id,text\n1,a\n"), (',', true));
        assert_eq!(of("id;text\n1;a, b, c\n2;d, e\n"), (';', true));
        assert_eq!(of("id\ttext\n1\ta; b\n"), ('\t', true));
        assert_eq!(of("id|text\n1|a\n"), ('|', true));
        // A header and rows with commas in one cell.
        assert_eq!(of("id;title, subtitle;text\n1;a;b\n2;c, d;e\n"), (';', true));
        assert_eq!(of("id,text\n1,\"a;b\nc;d\"\n2,\"e;f\"\n"), (',', true));
        // Decimal commas, evenly.
        assert_eq!(of("name;price\nrope;1,50\nhook;2,25\n"), (';', true));
        // Rows of different lengths.
        assert_eq!(of("id,text,remark,port\n1,a,b,c\n2,d\n3,e,,f,g\n"), (',', true));
        assert_eq!(of("text\na, b\nc, d\n"), (',', true));
        assert_eq!(of("a;b"), (';', true));
        assert_eq!(of(""), (',', true));
    }

    #[test]
    fn quotes_that_hold_nothing_are_text() {
        assert_eq!(of("id\tsize\n1\t\"half an inch\n2\t5\" pipe\n"), ('\t', false));
        assert_eq!(of("id\tsize\n1\t\"big\" pipe\n"), ('\t', false));
        assert_eq!(of("id;size\n1;\"5\"\" pipe\"\n"), (';', true));
        assert_eq!(of("id;size\r\n1;\"a\r\nb\"\r\n"), (';', true));
    }

    #[test]
    fn a_first_line_may_name_the_delimiter() {
        for (sample, skipped) in [("sep=;\r\nid;a,b\r\n", 7), ("SEP=|\nid|a\n", 6), ("sep=^\rid^a\r", 6)] {
            let dialect = Dialect::of(sample, b',', true);
            assert_eq!((dialect.delimiter, dialect.skipped), (sample.as_bytes()[4], skipped), "{sample}");
        }
        assert_eq!(Dialect::of("sep,a\nx,y\n", b',', true).skipped, 0);
    }

    #[test]
    fn a_cut_sample_speaks_by_its_whole_records() {
        let dialect = Dialect::of("id;text\n1;a\n2;\"not yet", b',', false);
        assert_eq!((dialect.delimiter, dialect.quotes), (b';', true));
    }
}
