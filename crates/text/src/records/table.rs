//! Tables of text, of any delimiter and encoding.

use std::io::{self, Read};

use super::Record;
use super::columns::{Column, ColumnType, is_value};
use super::dialect::{Dialect, Quotes, quotes};
use super::encoding;
use super::fields::{Field, Options, is_known, tell_apart};

/// Bytes of the last record that are looked at.
const MOST_RECORD: u64 = 64 << 20;
/// Records among which the header is.
const MOST_ABOVE: usize = 20;
/// Bytes that are looked at to find out how a table is written.
const SAMPLE: usize = 256 << 10;

/// Reads a table.
///
/// # Errors
/// Why it cannot be read at all.
pub(super) fn read<R: Read>(
    open: &dyn Fn() -> io::Result<R>,
    expected: u8,
    options: &Options,
    sink: &mut dyn FnMut(Record) -> bool,
) -> Result<(), String> {
    let opened = || open().map_err(|error| error.to_string());
    let encoding = encoding::detect(opened()?)?;
    let mut sample = Vec::new();
    let text = encoding::open(opened()?, encoding).take(SAMPLE as u64 + 1);
    { text }.read_to_end(&mut sample).map_err(|error| error.to_string())?;
    let is_whole = sample.len() <= SAMPLE;
    let dialect = Dialect::of(&String::from_utf8_lossy(&sample), expected, is_whole);
    let text = || -> Result<_, String> {
        let mut text = encoding::open(opened()?, encoding);
        pass_over(&mut text, dialect.skipped as u64)?;
        Ok(text)
    };
    let reader = || Ok::<_, String>(dialect.reader(text()?));

    let Some((header, above)) = header(&mut reader()?)? else { return Ok(()) };
    let mut rows = reader()?;
    let mut row = csv::StringRecord::new();
    skip(&mut rows, above);
    let mut width = header.len();
    let name = |at: usize| header.get(at).map(str::trim).filter(|name| !name.is_empty());
    let mut columns: Vec<Column> = Vec::new();
    let mut last = 0;
    loop {
        let start = rows.position().byte();
        match rows.read_record(&mut row) {
            Ok(false) => break,
            Ok(true) => last = start,
            // It is told when the record is read again.
            Err(error) if error.is_io_error() => break,
            Err(_) => continue,
        }
        width = width.max(row.len());
        while columns.len() < row.len() {
            columns.push(Column::new(name(columns.len()).unwrap_or_default(), dialect.delimiter));
        }
        row.iter().zip(&mut columns).for_each(|(cell, column)| column.see(cell));
    }
    let mut names: Vec<String> =
        (0..width).map(|at| name(at).map_or_else(|| format!("column_{}", at + 1), str::to_owned)).collect();
    tell_apart(&mut names);
    let unknown = options.unknown(&names);
    if !unknown.is_empty() {
        return Err(format!("expected the columns {}, got {}", unknown.join(", "), names.join(", ")));
    }
    let kinds: Vec<ColumnType> = columns.iter().map(Column::kind).collect();

    let is_open = dialect.quotes && is_open(text()?, last, dialect.delimiter)?;
    let mut rows = reader()?;
    skip(&mut rows, above);
    let (mut start, mut number) = (rows.position().byte(), 0);
    loop {
        let is_broken = is_open && rows.position().byte() == last;
        let read = rows.read_record(&mut row);
        if matches!(read, Ok(true)) && row.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        number += 1;
        let end = rows.position().byte();
        let bytes = end.saturating_sub(std::mem::replace(&mut start, end));
        let place = format!("record {number}");
        let (document, is_last) = match read {
            Ok(false) => return Ok(()),
            Ok(true) if is_broken => {
                let reason =
                    "expected a quote after the one that a cell of it starts with, got the end of the file";
                (Err(reason.to_owned()), true)
            }
            Ok(true) => (options.document(fields(&names, &kinds, &row)), false),
            Err(error) => (Err(error.to_string()), error.is_io_error()),
        };
        if !sink(Record { place, number, bytes, document }) || is_last {
            return Ok(());
        }
    }
}

/// The header of a table and how many records are no rows: those above it, which are a title and blank lines, and itself.
/// The names of a table that begins with its rows are empty. `None` where there is no record.
fn header<R: Read>(rows: &mut csv::Reader<R>) -> Result<Option<(csv::StringRecord, usize)>, String> {
    let mut first = Vec::new();
    let mut row = csv::StringRecord::new();
    while first.len() < MOST_ABOVE && rows.read_record(&mut row).map_err(|error| error.to_string())? {
        first.push(row.clone());
    }
    let is_wide = |row: &csv::StringRecord| row.iter().filter(|cell| !cell.trim().is_empty()).count() > 1;
    // A table of one column has no wide record; one whose first record is one cell has its name there.
    let at = first
        .iter()
        .position(is_wide)
        .filter(|_| first.first().is_some_and(|row| row.len() > 1))
        .unwrap_or(0);
    let Some(header) = first.into_iter().nth(at) else { return Ok(None) };
    if header.iter().any(is_value) && !header.iter().any(is_known) {
        return Ok(Some((csv::StringRecord::from(vec![""; header.len()]), at)));
    }
    Ok(Some((header, at + 1)))
}

fn pass_over(text: &mut impl Read, bytes: u64) -> Result<(), String> {
    io::copy(&mut text.take(bytes), &mut io::sink()).map(drop).map_err(|error| error.to_string())
}

/// Whether a quote of the last record, which starts there, is never closed, so that it holds the rest of the file.
fn is_open(mut text: impl Read, start: u64, delimiter: u8) -> Result<bool, String> {
    pass_over(&mut text, start)?;
    let mut rest = Vec::new();
    text.take(MOST_RECORD).read_to_end(&mut rest).map_err(|error| error.to_string())?;
    Ok(quotes(&String::from_utf8_lossy(&rest), delimiter) == Quotes::Open)
}

fn skip<R: Read>(rows: &mut csv::Reader<R>, records: usize) {
    let mut row = csv::StringRecord::new();
    for _ in 0..records {
        // It was read before.
        let _ = rows.read_record(&mut row);
    }
}

fn fields(names: &[String], kinds: &[ColumnType], row: &csv::StringRecord) -> Vec<Field> {
    let cells = names.iter().zip(kinds).zip(row);
    let field = |((name, kind), cell): ((&String, &ColumnType), &str)| Field {
        name: name.clone(),
        text: cell.trim().to_owned(),
        value: kind.value(cell),
    };
    cells.map(field).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trove_core::domain::MetadataValue;

    use super::*;
    use crate::records::{Format, RecordDocument, read};

    fn documents(bytes: &[u8], options: &Options) -> Vec<Result<RecordDocument, String>> {
        let mut found = Vec::new();
        read(&|| Ok(bytes), Format::Table(b','), options, &mut |record| {
            found.push(record.document);
            true
        });
        found
    }

    fn all(bytes: &[u8]) -> Vec<RecordDocument> {
        documents(bytes, &Options::default()).into_iter().collect::<Result<_, _>>().unwrap()
    }

    fn string(text: &str) -> MetadataValue {
        MetadataValue::String(text.to_owned())
    }

    #[test]
    fn tables_of_any_dialect_and_encoding() {
        let found = all(b"id;title;text;port\n1;Crane;It broke, badly;Bergen\n2;Lock;Open;Molde\n");
        assert_eq!((found[0].id.as_deref(), found[0].title.as_str()), (Some("1"), "Crane"));
        assert_eq!((found[1].text.as_str(), &found[1].metadata["port"]), ("Open", &string("Molde")));
        let latin = all(b"id,text,ort\n1,Die F\xe4hre f\xe4hrt nicht,Kappeln\n2,ok,K\xf6ln\n");
        assert_eq!(
            (latin[0].text.as_str(), &latin[1].metadata["ort"]),
            ("Die Fähre fährt nicht", &string("Köln"))
        );
        let wide: Vec<u8> =
            "\u{feff}id\ttext\r\n5\tDie Brücke\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let wide = all(&wide);
        assert_eq!((wide[0].id.as_deref(), wide[0].text.as_str()), (Some("5"), "Die Brücke"));
        let mac = all(b"sep=|\rid|text\ra|b\r");
        assert_eq!((mac.len(), mac[0].text.as_str()), (1, "b"));
        assert!(all(b"").is_empty() && all(b"id,text\n").is_empty());
        assert!(documents(b"id,text\n1,a\0b\n", &Options::default())[0].is_err());
    }

    #[test]
    fn names_are_matched_without_case_and_spaces() {
        let found = all(b"ID, Title, Text\nA1, Fog signal, The horn is broken\n");
        assert_eq!((found[0].id.as_deref(), found[0].title.as_str()), (Some("A1"), "Fog signal"));
    }

    #[test]
    fn rows_of_other_lengths_are_read() {
        let found = all(b"id,text,remark,port\n1,a,urgent,Hull\n2,b\n3,c,,Oslo,extra\n");
        assert_eq!(found[1].metadata.len(), 0);
        let last: Vec<_> =
            found[2].metadata.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(last, [("column_5", string("extra")), ("port", string("Oslo"))]);
        let same = all(b"a,a,\n1,2,3\n");
        assert_eq!(same[0].metadata.keys().collect::<Vec<_>>(), ["a", "a_2", "column_3"]);
    }

    #[test]
    fn a_table_may_begin_with_a_title_or_with_its_rows() {
        let found = all(b"Prices of 2024;;\n;;\nname;price;unit\nRope;12,50;m\n;;\nHook;3,20;pc\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].text, "name: Hook; price: 3,20; unit: pc.");
        let bare = all(b"1,Anna,Berlin\n2,Bob,Paris\n");
        assert_eq!(
            (bare.len(), bare[0].text.as_str()),
            (2, "column_1: 1; column_2: Anna; column_3: Berlin.")
        );
        assert_eq!(all(b"2024-01-01;12,50\n2024-01-02;3,00\n").len(), 2);
        // Years are names of columns too.
        assert_eq!(all(b"country,2023,2024\nNorway,5,6\n")[0].metadata["2024"], MetadataValue::Int(6));
        assert_eq!(all(b"id,1\na,b\n")[0].id.as_deref(), Some("a"));
        assert_eq!(all(b"remark\none\n\ntwo\n").len(), 2);
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_hold_the_rest() {
        let mut table = "id,text\n".to_owned();
        // More than what is looked at to find out how the table is written.
        (0..20_000).for_each(|n| table.push_str(&format!("{n},\"Some text, of {n}\"\n")));
        let whole = documents(table.as_bytes(), &Options::default());
        assert!(table.len() > SAMPLE && whole.len() == 20_000 && whole.iter().all(Result::is_ok));
        table.push_str("x,\"not closed\ny,z\n");
        let found = documents(table.as_bytes(), &Options::default());
        assert_eq!(found.len(), 20_001);
        assert!(
            found[20_000].as_ref().unwrap_err().contains("quote")
                && found[..20_000].iter().all(Result::is_ok)
        );
        let loose = all(b"id,text,x\n1,\"a\",b\n2,\"c\" d,e\n");
        assert_eq!(loose[1].text, "\"c\" d");
    }

    #[test]
    fn columns_have_types() {
        let found = all(
            b"id,text,year,plz,since,open\n1,a,1998,01067,2024-01-01,true\n2,b,2024,24103,2024-01-02,false\n",
        );
        let metadata = &found[0].metadata;
        assert_eq!(metadata["year"], MetadataValue::Int(1998));
        assert_eq!(metadata["plz"], string("01067"));
        assert_eq!(metadata["since"], MetadataValue::Timestamp(1_704_067_200, 0));
        assert_eq!(metadata["open"], MetadataValue::Bool(true));
    }

    #[test]
    fn options_are_checked_against_the_header() {
        let options =
            Options { text_template: Some("{name} costs {price}".parse().unwrap()), ..Options::default() };
        let found = documents(b"Name;Price\nRope;1,50\n", &options);
        assert_eq!(found[0].as_ref().unwrap().text, "Rope costs 1,50");
        assert_eq!(found[0].as_ref().unwrap().metadata["Price"], MetadataValue::Double(1.5));
        let failed = documents(b"name,cost\nRope,1\nHook,2\n", &options);
        assert_eq!(failed, [Err("expected the columns price, got name, cost".to_owned())]);
    }

    proptest! {
        #[test]
        fn what_is_written_in_any_dialect_is_read(
            delimiter in prop::sample::select(&[b',', b';', b'\t', b'|'][..]),
            crlf in any::<bool>(),
            rows in prop::collection::vec(("[a-z]{1,8}", "\\PC{0,20}|[,;|\t\"\n a-z]{0,12}", "\\PC{0,9}"), 1..12),
        ) {
            let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut writer =
                csv::WriterBuilder::new().delimiter(delimiter).terminator(terminator).from_writer(Vec::new());
            writer.write_record(["id", "text", "x-code"]).unwrap();
            for (id, text, more) in &rows {
                writer.write_record([id, text, more]).unwrap();
            }
            let found = all(&writer.into_inner().unwrap());
            prop_assert_eq!(found.len(), rows.len());
            for ((id, text, more), document) in rows.iter().zip(found) {
                prop_assert_eq!(document.id.as_deref(), Some(id.trim()));
                prop_assert_eq!(document.text, text.trim());
                let expected = Some(more.trim()).filter(|more| !more.is_empty()).map(string);
                prop_assert_eq!(document.metadata.get("x-code").cloned(), expected);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            documents(&bytes, &Options::default());
        }
    }
}
