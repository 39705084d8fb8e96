#!/usr/bin/env python3
"""Makes the small files of tests/data/formats by the libraries that write such files in the world.

    python3 -m venv venv
    venv/bin/pip install python-docx==1.2.0 python-pptx==1.0.2 openpyxl==3.1.5 XlsxWriter==3.3.1 xlwt==1.3.0 \\
        odfpy==1.4.1 EbookLib==0.20 nbformat==5.11.1 msoffcrypto-tool==6.1.0
    venv/bin/python scripts/make_format_samples.py tests/data/formats

All texts are made up for this project. The tests of crates/text/src/extract/samples.rs say what must come out.
"""
import datetime
import email.message
import email.utils
import io
import mailbox
import pathlib
import sys

DATE = datetime.datetime(2024, 3, 5, 14, 22, 1)
ROWS = [("Model", "Price", "Share", "Since"), ("EM-940", 1250.5, 0.25, datetime.date(2023, 11, 4)),
        ("EM-941", 19.9, 0.125, datetime.date(2024, 1, 31))]


def pptx(out):
    import pptx
    from pptx.util import Inches

    show = pptx.Presentation()
    show.core_properties.title = "Harbour plan"
    show.core_properties.author = "Anna Berg"
    show.core_properties.created = DATE
    first = show.slides.add_slide(show.slide_layouts[0])
    first.shapes.title.text = "The new dock"
    first.placeholders[1].text = "Plans for 2024"
    second = show.slides.add_slide(show.slide_layouts[1])
    second.shapes.title.text = "Costs"
    second.placeholders[1].text_frame.text = "Piles are the largest part"
    second.placeholders[1].text_frame.add_paragraph().text = "Cranes come second"
    second.notes_slide.notes_text_frame.text = "Mention the grant of the region"
    table = second.shapes.add_table(3, 2, Inches(1), Inches(4), Inches(6), Inches(1)).table
    for at, (name, price) in enumerate([("Part", "Euros"), ("Piles", "410,000"), ("Cranes", "220,000")]):
        table.cell(at, 0).text, table.cell(at, 1).text = name, price
    third = show.slides.add_slide(show.slide_layouts[6])
    third.shapes.add_textbox(Inches(1), Inches(1), Inches(4), Inches(1)).text_frame.text = "Questions go to the pilot house"
    show.save(out / "python-pptx.pptx")


def xlsx(out):
    import openpyxl
    import xlsxwriter

    book = openpyxl.Workbook()
    book.properties.title, book.properties.creator, book.properties.created = "Price list", "Anna Berg", DATE
    sheet = book.active
    sheet.title = "Prices"
    sheet.append(["Pumps of 2024"])
    for row in ROWS:
        sheet.append(row)
    for row in (3, 4):
        sheet.cell(row, 2).number_format = '#,##0.00 "€"'
        sheet.cell(row, 3).number_format = "0.0%"
        sheet.cell(row, 4).number_format = "dd.mm.yyyy"
    sheet.cell(7, 1, "Stock"), sheet.cell(7, 2, "Count")
    sheet.cell(8, 1, "EM-940"), sheet.cell(8, 2, 12)
    hidden = book.create_sheet("Secret")
    hidden.append(["hidden words"])
    hidden.sheet_state = "hidden"
    book.create_sheet("Empty")
    far = book.create_sheet("Far")
    far["A1"], far["XFD1048576"] = "first corner", "last corner"
    book.save(out / "openpyxl.xlsx")

    book = xlsxwriter.Workbook(str(out / "xlsxwriter.xlsx"))
    book.set_properties({"title": "Tide table", "author": "Ben Carlson", "created": DATE})
    sheet = book.add_worksheet("Tides")
    bold = book.add_format({"bold": True})
    sheet.write_row(0, 0, ["Port", "High water", "Level"], bold)
    time = book.add_format({"num_format": "hh:mm"})
    sheet.write_row(1, 0, ["Ostend"])
    sheet.write_datetime(1, 1, datetime.datetime(2024, 3, 5, 14, 22), time)
    sheet.write_number(1, 2, 4.25)
    sheet.write_rich_string(2, 0, "Zee", bold, "brugge")
    sheet.write_formula(2, 2, "=C2+1", None, 5.25)
    book.close()


def xls(out):
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("Prices")
    date = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for at, row in enumerate(ROWS):
        for column, value in enumerate(row):
            if isinstance(value, datetime.date):
                sheet.write(at, column, value, date)
            else:
                sheet.write(at, column, value)
    book.add_sheet("Tief").write(0, 0, "Größe über Café")
    hidden = book.add_sheet("Secret")
    hidden.visibility = 1
    hidden.write(0, 0, "hidden words")
    book.save(str(out / "xlwt.xls"))


def odf(out):
    from odf.draw import Frame, Page, TextBox
    from odf.opendocument import OpenDocumentPresentation, OpenDocumentSpreadsheet, OpenDocumentText
    from odf.style import MasterPage, PageLayout
    from odf.table import Table, TableCell, TableRow
    from odf.text import H, List, ListItem, Note, NoteBody, NoteCitation, P
    from odf import dc, meta

    def describe(document, title):
        document.meta.addElement(dc.Title(text=title))
        document.meta.addElement(meta.InitialCreator(text="Anna Berg"))
        document.meta.addElement(meta.CreationDate(text="2024-03-05T14:22:01"))

    def table(rows, name):
        made = Table(name=name)
        for row in rows:
            line = TableRow()
            for value in row:
                number = isinstance(value, float)
                cell = TableCell(valuetype="float", value=value) if number else TableCell(valuetype="string")
                cell.addElement(P(text=f"{value:,.2f} €" if number else str(value)))
                line.addElement(cell)
            made.addElement(line)
        return made

    text = OpenDocumentText()
    describe(text, "Harbour rules")
    text.text.addElement(H(outlinelevel=1, text="Mooring"))
    rule = P(text="Boats moor at the north quay.")
    note = Note(noteclass="footnote", id="n1")
    note.addElement(NoteCitation(text="1"))
    body = NoteBody()
    body.addElement(P(text="The south quay is for ferries."))
    note.addElement(body)
    rule.addElement(note)
    text.text.addElement(rule)
    items = List()
    for word in ("bow line", "stern line"):
        item = ListItem()
        item.addElement(P(text=word))
        items.addElement(item)
    text.text.addElement(items)
    text.text.addElement(H(outlinelevel=2, text="Fees"))
    text.text.addElement(table([("Length", "Fee"), ("12 m", 40.0)], "Fees"))
    text.save(str(out / "odfpy.odt"))

    sheet = OpenDocumentSpreadsheet()
    describe(sheet, "Price list")
    sheet.spreadsheet.addElement(table([("Model", "Price"), ("EM-940", 1250.5)], "Prices"))
    sheet.save(str(out / "odfpy.ods"))

    show = OpenDocumentPresentation()
    describe(show, "Harbour plan")
    layout = PageLayout(name="L")
    show.automaticstyles.addElement(layout)
    master = MasterPage(name="M", pagelayoutname=layout)
    show.masterstyles.addElement(master)
    for title, point in (("The new dock", "Plans for 2024"), ("Costs", "Piles are the largest part")):
        page = Page(masterpagename=master)
        for role, words in (("outline", point), ("title", title)):
            frame, box = Frame(width="10cm", height="2cm"), TextBox()
            frame.setAttrNS("urn:oasis:names:tc:opendocument:xmlns:presentation:1.0", "class", role)
            box.addElement(P(text=words))
            frame.addElement(box)
            page.addElement(frame)
        show.presentation.addElement(page)
    show.save(str(out / "odfpy.odp"))


def epub(out):
    from ebooklib import epub as books

    book = books.EpubBook()
    book.set_identifier("trove-test")
    book.set_title("The ferry")
    book.set_language("en")
    book.add_author("Anna Berg")
    book.add_metadata("DC", "date", "2024-03-05")
    first = books.EpubHtml(title="Departure", file_name="first.xhtml")
    first.content = "<h1>Departure</h1><p>The ferry leaves at <b>noon</b>.</p><h2>Fog</h2><p>In fog it waits.</p>"
    second = books.EpubHtml(title="Arrival", file_name="second.xhtml")
    second.content = "<p>It arrives at dusk.</p>"
    for chapter in (first, second):
        book.add_item(chapter)
    book.toc = (first, second)
    book.add_item(books.EpubNcx())
    book.add_item(books.EpubNav())
    book.spine = ["nav", first, second]
    books.write_epub(str(out / "ebooklib.epub"), book)


def mail(out):
    def message(subject, text):
        made = email.message.EmailMessage()
        made["From"] = "Jürgen Läufer <j.laeufer@example.org>"
        made["To"] = "Anna Berg <anna@example.org>, Ben <ben@example.org>"
        made["Date"] = email.utils.format_datetime(DATE.replace(tzinfo=datetime.timezone.utc))
        made["Subject"] = subject
        made.set_content(text)
        return made

    letter = message("Kräne für den Hafen", "Der Kran am Südkai braucht neue Seile.\n\nGrüße, Jürgen\n")
    letter.add_alternative("<p>Der Kran am <b>Südkai</b> braucht neue Seile.</p>", subtype="html")
    book = (out / "openpyxl.xlsx").read_bytes()
    letter.add_attachment(book, maintype="application", subtype="octet-stream", filename="Preise März.xlsx")
    letter.add_attachment("# Notes\n\nThe rope is 40 m long.\n".encode(), maintype="text", subtype="markdown",
                          filename="notes.md")
    letter.add_attachment(b"\x00\x01\x02", maintype="application", subtype="octet-stream", filename="data.bin")
    letter.add_attachment(message("Offer for ropes", "We offer 40 m of rope.\n"))
    (out / "python.eml").write_bytes(letter.as_bytes())

    path = out / "python.mbox"
    path.unlink(missing_ok=True)
    box = mailbox.mbox(str(path))
    for subject, text in (("Lock times", "From here the lock opens at six.\n"), ("Lock fees", "The fee is 4 euros.\n")):
        entry = mailbox.mboxMessage(message(subject, text))
        entry.set_from("keeper@example.org", DATE.timetuple())
        box.add(entry)
    box.flush()
    box.close()


def notebook(out):
    import nbformat
    from nbformat import v4

    book = v4.new_notebook()
    book.cells = [
        v4.new_markdown_cell("# Tide levels\n\nWe fit the *levels* of March."),
        v4.new_code_cell("levels = [3, 4]\nprint(sum(levels))",
                         outputs=[v4.new_output("stream", name="stdout", text="7\n")]),
        v4.new_markdown_cell("## Result\n\nThe mean is 3.5 m."),
    ]
    for at, cell in enumerate(book.cells):
        cell["id"] = f"cell{at}"
    nbformat.write(book, str(out / "nbformat.ipynb"))


def encrypted(out):
    from msoffcrypto.format.ooxml import OOXMLFile

    with open(out / "openpyxl.xlsx", "rb") as plain:
        made = io.BytesIO()
        OOXMLFile(plain).encrypt("secret", made)
    (out / "encrypted.xlsx").write_bytes(made.getvalue())


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for make in (pptx, xlsx, xls, odf, epub, mail, notebook, encrypted):
        make(out)


main()
