//! Excel workbooks: XLSX, and XLS of before 2007.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{
    Data, DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xls, XlsError, Xlsx, XlsxError,
};

use super::archive::{Archive, encrypted};
use super::grid::Grid;
use super::number::{self, Moment};
use super::properties::Properties;
use super::{Builder, broken, tell, warning};
use trove_core::domain::{Extracted, Warning};
use trove_core::error::Result;

/// The format code of dates that have none of their own.
const NO_CODE: &str = "General";

pub(super) fn extract_xlsx(bytes: &[u8]) -> Result<Extracted> {
    unpanicked("XLSX", || read_xlsx(bytes))
}

pub(super) fn extract_xls(bytes: &[u8]) -> Result<Extracted> {
    unpanicked("XLS", || read_xls(bytes))
}

/// The reader of workbooks panics on some malformed files.
fn unpanicked(format: &str, read: impl FnOnce() -> Result<Extracted>) -> Result<Extracted> {
    let read = catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(broken(format!("the {format} cannot be parsed"))))
}

fn read_xlsx(bytes: &[u8]) -> Result<Extracted> {
    let mut archive = Archive::open(bytes)?;
    let properties = match archive.part("docProps/core.xml")? {
        Some(part) => Properties::of_xml(&part).unwrap_or_default(),
        None => Properties::default(),
    };
    // The reader of workbooks has no limits of its own.
    archive.measure("xl/")?;
    let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|e| match e {
        XlsxError::Password => encrypted(),
        e => broken(format!("the XLSX cannot be read: {e}")),
    })?;
    let sheets = visible(workbook.sheets_metadata());
    let mut book = Book::default();
    for name in sheets {
        book.sheet(&name, |grid| xlsx_sheet(&mut workbook, &name, grid))?;
    }
    book.finish(properties)
}

fn read_xls(bytes: &[u8]) -> Result<Extracted> {
    let mut workbook: Xls<_> = Xls::new(Cursor::new(bytes)).map_err(|e| match e {
        XlsError::Password => encrypted(),
        e => broken(format!("the XLS cannot be read: {e}")),
    })?;
    let sheets = visible(workbook.sheets_metadata());
    let mut book = Book::default();
    for name in sheets {
        book.sheet(&name, |grid| {
            let range = workbook
                .worksheet_range(&name)
                .map_err(|e| broken(format!("the sheet cannot be read: {e}")))?;
            for (row, column, cell) in range.used_cells() {
                grid.add(row as u64, column as u32, &old_cell(cell))?;
            }
            Ok(())
        })?;
    }
    book.finish(Properties::default())
}

/// Sheets that a reader sees, and whose cells are data.
fn visible(sheets: &[calamine::Sheet]) -> Vec<String> {
    let is_seen = |sheet: &&calamine::Sheet| {
        sheet.visible == SheetVisible::Visible && sheet.typ == SheetType::WorkSheet
    };
    sheets.iter().filter(is_seen).map(|sheet| sheet.name.clone()).collect()
}

/// What is read of a workbook.
#[derive(Default)]
struct Book {
    builder: Builder,
    warnings: Vec<Warning>,
}

impl Book {
    fn sheet(&mut self, name: &str, read: impl FnOnce(&mut Grid) -> Result<()>) -> Result<()> {
        let mut grid = Grid::default();
        match read(&mut grid) {
            Ok(()) => {}
            // What stands before the break counts.
            Err(e) if e.reason == "BROKEN_DOCUMENT" => {
                let message = format!("sheet {name:?} is not read whole: {}", e.message);
                tell(&mut self.warnings, warning(None, "SHEET_UNREADABLE", message));
            }
            Err(e) => return Err(e),
        }
        if grid.is_empty() {
            return Ok(());
        }
        self.builder.heading(1, name);
        grid.write(&mut self.builder)
    }

    fn finish(self, properties: Properties) -> Result<Extracted> {
        let found = self.builder.finish(properties.title)?;
        Ok(Extracted { metadata: properties.metadata, warnings: self.warnings, ..found })
    }
}

/// Reads cells one after the other, since a sheet may say that it is far larger than it is.
fn xlsx_sheet(workbook: &mut Xlsx<Cursor<&[u8]>>, name: &str, grid: &mut Grid) -> Result<()> {
    let bad = |e: XlsxError| broken(e.to_string());
    let mut cells = workbook.worksheet_cells_reader(name).map_err(bad)?;
    while let Some((cell, style)) = cells.next_cell_with_style_id().map_err(bad)? {
        let format = cells.styles().get(style).and_then(|style| style.number_format.as_ref());
        let code = format.map_or(NO_CODE, |format| format.format_code.as_str());
        let text = match cell.get_value() {
            DataRef::Empty => continue,
            DataRef::String(text) => text.clone(),
            DataRef::SharedString(text) => (*text).to_owned(),
            DataRef::Float(value) => number::shown(*value, code),
            DataRef::Int(value) => number::shown(*value as f64, code),
            DataRef::Bool(value) => truth(*value).to_owned(),
            DataRef::DateTime(time) => moment(time, code),
            DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
            DataRef::Error(error) => error.to_string(),
        };
        let (row, column) = cell.get_position();
        grid.add(row.into(), column, &text)?;
    }
    Ok(())
}

fn old_cell(cell: &Data) -> String {
    match cell {
        Data::Empty => String::new(),
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => text.clone(),
        Data::Float(value) => number::general(*value),
        Data::Int(value) => value.to_string(),
        Data::Bool(value) => truth(*value).to_owned(),
        Data::DateTime(time) => moment(time, NO_CODE),
        Data::Error(error) => error.to_string(),
    }
}

fn truth(value: bool) -> &'static str {
    if value { "TRUE" } else { "FALSE" }
}

fn moment(time: &ExcelDateTime, code: &str) -> String {
    let seconds = (time.as_f64() * 86_400.0).round();
    if time.is_duration() {
        let (hours, minutes) = ((seconds / 3600.0).trunc(), (seconds / 60.0).trunc().abs() % 60.0);
        return format!("{hours}:{minutes:02}:{:02}", seconds.abs() % 60.0);
    }
    let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
    let moment = Moment {
        year: year.into(),
        month: month.into(),
        day: day.into(),
        hour: hour.into(),
        minute: minute.into(),
        second: second.into(),
    };
    // A time of day has no date.
    if code == NO_CODE && (0.0..86_400.0).contains(&seconds) {
        return number::shown_time(moment, "hh:mm:ss");
    }
    number::shown_time(moment, code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::archive::zip;

    fn workbook(sheet: &str) -> Vec<u8> {
        let rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
        zip(&[
            ("[Content_Types].xml", "<Types/>"),
            (
                "_rels/.rels",
                &format!(
                    "<Relationships><Relationship Id=\"w\" Type=\"{rels}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
                ),
            ),
            (
                "xl/workbook.xml",
                &format!(
                    "<workbook xmlns=\"{main}\" xmlns:r=\"{rels}\"><sheets><sheet name=\"Prices\" sheetId=\"1\" r:id=\"a\"/></sheets></workbook>"
                ),
            ),
            (
                "xl/_rels/workbook.xml.rels",
                &format!(
                    "<Relationships><Relationship Id=\"a\" Type=\"{rels}/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"
                ),
            ),
            ("xl/worksheets/sheet1.xml", &format!("<worksheet xmlns=\"{main}\">{sheet}</worksheet>")),
        ])
    }

    fn cell(place: &str, text: &str) -> String {
        format!("<c r=\"{place}\" t=\"inlineStr\"><is><t>{text}</t></is></c>")
    }

    #[test]
    fn a_sheet_that_says_it_is_huge_costs_what_it_holds() {
        let sheet = format!(
            "<dimension ref=\"A1:XFD1048576\"/><sheetData><row r=\"1\">{}</row><row r=\"1048576\">{}</row></sheetData>",
            cell("A1", "first"),
            cell("XFD1048576", "last")
        );
        let found = extract_xlsx(&workbook(&sheet)).unwrap();
        assert_eq!(found.text, "Prices\n\nfirst\n\nlast");
        assert_eq!(found.sections[0].headings, ["Prices"]);
    }

    #[test]
    fn what_stands_before_a_break_is_read_and_the_break_told() {
        let sheet = format!("<sheetData><row r=\"1\">{}</row><row r=\"2\"><c r=\"", cell("A1", "first"));
        let found = extract_xlsx(&workbook(&sheet)).unwrap();
        assert_eq!(found.text, "Prices\n\nfirst");
        assert_eq!(found.warnings[0].reason, "SHEET_UNREADABLE");
    }
}
