//! Files whose text is extracted, and what is made of the text.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use trove::domain::{Extracted, Language, Span};
use trove::extract::{Extractor, extract, load_pdfium};
use trove::keywords::{KeywordDocument, KeywordIndex, KeywordPassage, KeywordQuery, KeywordReader};
use trove::text::{SplitOptions, split_passages};

const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

pub const MARKDOWN_WORDS: &[&str] = &[
    "# ",
    "\n\n",
    "```\n",
    "> ",
    "- ",
    "[a](b)",
    "| a |\n|---|\n",
    "<div>",
    "&amp;",
    "\\",
    "***",
    "![",
    "[^1]",
];
pub const HTML_WORDS: &[&str] = &[
    "<h1>",
    "</h1>",
    "<p>",
    "<table><tr><td>",
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "<title>",
    "&nbsp;",
    "<svg>",
    "<template>",
    "<pre>",
    "<li>",
    "<![CDATA[",
];
pub const PDF_WORDS: &[&str] = &[
    "/Type /Page",
    "/Kids [",
    "/Count ",
    "/Length ",
    "/Filter /FlateDecode",
    "/Filter /LZWDecode",
    "/Filter /ASCII85Decode",
    "/DecodeParms << /Predictor 12 /Columns 9999 >>",
    " 0 R",
    "stream\n",
    "\nendstream",
    "endobj",
    "xref\n",
    "trailer",
    "/Encrypt ",
    "/Font ",
    "/ToUnicode ",
    "BT /F1 9 Tf (x) Tj ET",
    "/Parent 2 0 R",
    "/Contents 3 0 R",
    "q Q cm Do",
];
pub const DOCX_WORDS: &[&str] = &[
    "<w:p>",
    "</w:p>",
    "<w:t>",
    "</w:t>",
    "<w:pStyle w:val=\"Heading1\"/>",
    "<w:outlineLvl w:val=\"0\"/>",
    "<mc:Fallback>",
    "</mc:Fallback>",
    "<!DOCTYPE x [<!ENTITY a \"b\">]>",
    "&a;",
    "&#1;",
    "<![CDATA[",
    "<w:tab/>",
];

/// What extraction promises of its result.
fn promise(extracted: &Extracted) {
    assert!(!extracted.text.trim().is_empty() && !extracted.text.contains('\0'), "text without text");
    let mut end = 0;
    for section in &extracted.sections {
        assert!(section.span.start >= end && section.span.slice(&extracted.text).is_some(), "a bad section");
        end = section.span.end;
    }
}

fn run(bytes: &[u8], media_type: &str) {
    if let Ok(extracted) = extract(bytes, media_type) {
        promise(&extracted);
    }
}

pub fn text(bytes: &[u8]) {
    run(bytes, "text/plain");
}

pub fn text_seeds() -> Vec<Vec<u8>> {
    let utf16 = "\u{feff}Größe 1.\n\nZwei.".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let letter = "Dear Sir,\r\n\r\nHe said \"Stop.\" Then... nothing! See p. 5, e.g. this.\n\n\
        * one\n* two\n\n今日は。明日は？ The end\u{2028}of it.";
    vec![letter.as_bytes().to_vec(), utf16, b"caf\xe9 cr\xe8me\n\nA\n=\nb".to_vec()]
}

pub fn markdown(bytes: &[u8]) {
    run(bytes, "text/markdown");
}

pub fn markdown_seeds() -> Vec<Vec<u8>> {
    vec![b"# Top\n\ntext *a* `b` [c](d)\n\n## Sub\n\n- x\n  - y\n\n```\ncode\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n".to_vec()]
}

pub fn html(bytes: &[u8]) {
    run(bytes, "text/html");
}

pub fn html_seeds() -> Vec<Vec<u8>> {
    vec![
        b"<!doctype html><title>T</title><nav>no</nav><h1>Top</h1><p>a &amp; b<br>c</p><table><tr><td>1</td></tr></table><pre> x\n y</pre><script>1</script>"
            .to_vec(),
    ]
}

pub fn pdf(bytes: &[u8]) {
    static LOADED: OnceLock<bool> = OnceLock::new();
    // Without the library every file is refused, and nothing is found.
    if !LOADED.get_or_init(|| load_pdfium(&pdfium()).is_ok()) {
        return;
    }
    run(bytes, "application/pdf");
}

/// Where `make models` puts the PDFium library.
fn pdfium() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("TROVE_DATA_DIR").map_or_else(|| root.join(".trove"), PathBuf::from);
    data.join("runtime/pdfium")
}

/// Two pages, one of them compressed.
pub fn pdf_seeds() -> Vec<Vec<u8>> {
    let plain = b"BT /F1 12 Tf 72 700 Td (Hello one) Tj 0 -14 Td [(W) 20 (orld)] TJ ET".to_vec();
    let packed = deflate(b"BT /F1 12 Tf 72 700 Td <48656C6C6F> Tj ET");
    let mut objects: Vec<Vec<u8>> = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>".to_vec(),
    ];
    for contents in [5, 6] {
        let page = format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {contents} 0 R /Resources << /Font << /F1 7 0 R >> >> >>"
        );
        objects.push(page.into_bytes());
    }
    for (stream, filter) in [(plain, ""), (packed, " /Filter /FlateDecode")] {
        let head = format!("<< /Length {}{filter} >>\nstream\n", stream.len());
        objects.push([head.as_bytes(), &stream, b"\nendstream"].concat());
    }
    objects
        .push(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec());
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        offsets.push(file.len());
        file.extend(format!("{number} 0 obj\n").bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let table = file.len();
    file.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    offsets.iter().for_each(|offset| file.extend(format!("{offset:010} 00000 n \n").bytes()));
    let end = format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n", objects.len() + 1);
    file.extend(end.bytes());
    vec![file]
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

pub fn docx(bytes: &[u8]) {
    run(bytes, DOCX);
}

pub fn docx_seeds() -> Vec<Vec<u8>> {
    docx_xml_seeds().iter().map(|xml| zipped_docx(xml)).collect()
}

/// The main part of a document, which is its list of styles too, in a whole archive.
pub fn docx_xml(xml: &[u8]) {
    run(&zipped_docx(xml), DOCX);
}

fn zipped_docx(xml: &[u8]) -> Vec<u8> {
    zip(&[("word/document.xml", xml), ("word/styles.xml", xml)])
}

pub fn docx_xml_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"<?xml version="1.0"?><w:document xmlns:w="w"><w:style w:styleId="a"><w:name w:val="heading 1"/><w:basedOn w:val="b"/></w:style><w:body><w:p><w:pPr><w:pStyle w:val="Title"/></w:pPr><w:r><w:t>Top</w:t></w:r></w:p><w:p><w:pPr><w:outlineLvl w:val="1"/></w:pPr><w:r><w:t>Sub &amp; &#233;</w:t><w:tab/><w:br/></w:r></w:p><mc:Fallback><w:t>no</w:t></mc:Fallback><w:p><w:t><![CDATA[x]]></w:t></w:p></w:body></w:document>"#
            .to_vec(),
    ]
}

/// An archive of files, stored as they are.
fn zip(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut files, mut directory) = (Vec::new(), Vec::new());
    for (name, xml) in parts {
        let about = about(name, xml);
        let offset = (files.len() as u32).to_le_bytes();
        let local = [b"PK\x03\x04".as_slice(), &about, name.as_bytes(), xml];
        local.iter().for_each(|part| files.extend_from_slice(part));
        let central = [b"PK\x01\x02\x14\0".as_slice(), &about, &[0; 10], &offset, name.as_bytes()];
        central.iter().for_each(|part| directory.extend_from_slice(part));
    }
    let count = (parts.len() as u16).to_le_bytes();
    let end = [(directory.len() as u32).to_le_bytes(), (files.len() as u32).to_le_bytes()].concat();
    [&files, &directory, b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &end, &[0, 0]].concat()
}

/// What both headers of a file in an archive say of it.
fn about(name: &str, xml: &[u8]) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(xml);
    let (sum, size) = (crc.finalize().to_le_bytes(), (xml.len() as u32).to_le_bytes());
    // Version, flags, method, time and date; checksum and sizes; the lengths of the name and of what follows it.
    let version = [20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x5a];
    [version.as_slice(), &sum, &size, &size, &[name.len() as u8, 0, 0, 0]].concat()
}

const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

/// A slide in a presentation, which is its notes and its drawing too.
pub fn pptx(xml: &[u8]) {
    let link = |id: &str, kind: &str, target: &str| {
        format!(r#"<r Id="{id}" Type="{OFFICE}/{kind}" Target="{target}"/>"#)
    };
    let show = format!("<r>{}</r>", link("a", "slide", "slides/a.xml"));
    let slide =
        format!("<r>{}{}</r>", link("n", "notesSlide", "../n.xml"), link("d", "diagramData", "../n.xml"));
    let file = zip(&[
        ("ppt/presentation.xml", br#"<p><sldId r:id="a"/></p>"#),
        ("ppt/_rels/presentation.xml.rels", show.as_bytes()),
        ("ppt/slides/a.xml", xml),
        ("ppt/slides/_rels/a.xml.rels", slide.as_bytes()),
        ("ppt/n.xml", xml),
    ]);
    run(&file, "application/vnd.openxmlformats-officedocument.presentationml.presentation");
}

pub fn pptx_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"<p:sld><p:sp><p:nvPr><p:ph type="title"/></p:nvPr><a:p><a:r><a:t>Top &amp; more</a:t></a:r><a:br/></a:p></p:sp><p:sp><p:nvPr><p:ph type="body"/></p:nvPr><a:p><a:t>Point</a:t></a:p></p:sp><a:tbl><a:tr><a:tc><a:p><a:t>a</a:t></a:p></a:tc><a:tc/></a:tr></a:tbl></p:sld>"#
            .to_vec(),
    ]
}

pub const SLIDE_WORDS: &[&str] = &[
    "<a:p>",
    "</a:p>",
    "<a:t>",
    "</a:t>",
    "<a:tr>",
    "</a:tr>",
    "<p:ph type=\"title\"/>",
    "<mc:Fallback>",
    "&#1;",
];

/// A sheet in a workbook, which is its styles and its strings too.
pub fn xlsx(xml: &[u8]) {
    let relations = |links: &[(&str, &str)]| {
        let link = |(kind, target): &(&str, &str)| {
            format!(r#"<Relationship Id="{kind}" Type="{OFFICE}/{kind}" Target="{target}"/>"#)
        };
        format!("<Relationships>{}</Relationships>", links.iter().map(link).collect::<String>())
    };
    let root = relations(&[("officeDocument", "xl/workbook.xml")]);
    let links =
        [("worksheet", "worksheets/a.xml"), ("styles", "styles.xml"), ("sharedStrings", "sharedStrings.xml")];
    let book = format!(
        r#"<workbook xmlns:r="{OFFICE}"><sheets><sheet name="A" sheetId="1" r:id="worksheet"/></sheets></workbook>"#
    );
    let file = zip(&[
        ("_rels/.rels", root.as_bytes()),
        ("xl/workbook.xml", book.as_bytes()),
        ("xl/_rels/workbook.xml.rels", relations(&links).as_bytes()),
        ("xl/worksheets/a.xml", xml),
        ("xl/styles.xml", xml),
        ("xl/sharedStrings.xml", xml),
    ]);
    run(&file, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet");
}

pub fn xlsx_seeds() -> Vec<Vec<u8>> {
    vec![
        br##"<x><numFmts><numFmt numFmtId="170" formatCode="#,##0.00"/></numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="170"/><xf numFmtId="14"/></cellXfs><si><t>shared</t></si><dimension ref="A1:C3"/><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="B1" t="s"><v>0</v></c></row><row r="3"><c r="B3" s="1"><v>1250.5</v></c><c s="2"><v>45000</v></c><c t="b"><v>1</v></c></row></sheetData></x>"##
            .to_vec(),
    ]
}

pub const SHEET_WORDS: &[&str] = &[
    "<row r=\"1048576\">",
    "</row>",
    "<c r=\"XFD1\">",
    "</c>",
    "<v>1e308</v>",
    " t=\"s\"",
    " s=\"1\"",
    "<sheetData>",
    "<dimension ref=\"A1:XFD1048576\"/>",
    "<f>A1</f>",
];

/// The content of an OpenDocument file, which is its metadata too.
pub fn odf(xml: &[u8]) {
    run(&zip(&[("content.xml", xml), ("meta.xml", xml)]), "application/vnd.oasis.opendocument.text");
}

pub fn odf_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"<d><style:style style:name="T1" style:parent-style-name="Title"/><dc:title>t</dc:title><office:text><text:h text:outline-level="2">Top</text:h><text:p text:style-name="T1">a<text:s text:c="3"/>b<text:note><text:note-body><text:p>n</text:p></text:note-body></text:note></text:p><table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell></table:table-row></table:table></office:text></d>"#
            .to_vec(),
        br#"<d><office:spreadsheet><table:table table:name="A"><table:table-row table:number-rows-repeated="2"><table:table-cell table:number-columns-repeated="3"><text:p>1</text:p></table:table-cell></table:table-row></table:table></office:spreadsheet></d>"#
            .to_vec(),
        br#"<d><draw:page><draw:frame presentation:class="title"><text:p>Top</text:p></draw:frame><presentation:notes><text:p>n</text:p></presentation:notes></draw:page></d>"#
            .to_vec(),
    ]
}

pub const ODF_WORDS: &[&str] = &[
    "<text:p>",
    "</text:p>",
    "<table:table-row>",
    "</table:table-row>",
    "<table:table-cell>",
    " table:number-columns-repeated=\"16384\"",
    "<draw:page>",
    "<text:note>",
    "<office:spreadsheet>",
];

/// A package of an EPUB, which is its container, its table of contents and its only chapter too.
pub fn epub(xml: &[u8]) {
    let file = zip(&[("META-INF/container.xml", xml), ("a.opf", xml), ("a.xhtml", xml)]);
    run(&file, "application/epub+zip");
}

pub fn epub_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"<html><rootfile full-path="a.opf"/><dc:title>t</dc:title><item id="a" href="a.xhtml" properties="x"/><itemref idref="a"/><nav><a href="a%2Exhtml#b">label</a></nav><body><title/><h1>Top</h1><p>text</p></body></html>"#
            .to_vec(),
    ]
}

pub fn mail(bytes: &[u8]) {
    run(bytes, "message/rfc822");
}

pub fn mail_seeds() -> Vec<Vec<u8>> {
    vec![
        b"From: a@b.c\r\nTo: \"D\" <d@e.f>\r\nDate: Tue, 5 Mar 2024 15:22:01 +0100\r\nSubject: =?utf-8?Q?K=C3=A4se?=\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>a=C3=A4</p>\r\n--x\r\nContent-Disposition: attachment; filename=a.md\r\nContent-Transfer-Encoding: base64\r\n\r\nIyBB\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ntext\r\n--x--\r\n"
            .to_vec(),
    ]
}

pub const MAIL_WORDS: &[&str] = &[
    "\r\n--x\r\n",
    "\r\n--x--\r\n",
    "Content-Type: message/rfc822\r\n\r\n",
    "Content-Type: multipart/digest; boundary=x\r\n\r\n",
    "; charset=utf-16",
    "=?iso-2022-jp?B?",
    "\nFrom a@b Tue Mar  5 14:22:01 2024\n",
];

pub fn mailbox(bytes: &[u8]) {
    run(bytes, "application/mbox");
}

pub fn mailbox_seeds() -> Vec<Vec<u8>> {
    vec![b"From a@b Tue Mar  5 14:22:01 2024\nSubject: one\n\n>From x\n\nFrom a@b Tue Mar  5 14:22:01 2024\nSubject: two\n\ntext\n".to_vec()]
}

pub fn rtf(bytes: &[u8]) {
    run(bytes, "application/rtf");
}

pub fn rtf_seeds() -> Vec<Vec<u8>> {
    vec![
        br"{\rtf1\ansi\ansicpg1252{\fonttbl{\f1\fcharset204 A;}}{\stylesheet{\s1 heading 1;}}{\info{\title T}{\creatim\yr2024\mo3\dy5}}\pard\s1 Top\par\pard a\'e9\u8364?{\f1\'cf}{\footnote n\par}\par\trowd\intbl x\cell y\cell\row{\pict\bin2 ab}{\*\x no}}"
            .to_vec(),
    ]
}

pub const RTF_WORDS: &[&str] = &[
    "{",
    "}",
    "\\par ",
    "\\cell ",
    "\\row ",
    "\\u-10179?",
    "\\'e9",
    "\\bin9 ",
    "\\uc2 ",
    "{\\footnote ",
    "{\\*\\",
    "\\v ",
];

pub fn notebook(bytes: &[u8]) {
    run(bytes, "application/x-ipynb+json");
}

pub fn notebook_seeds() -> Vec<Vec<u8>> {
    vec![
        br##"{"nbformat":4,"metadata":{"authors":[{"name":"A"}]},"cells":[{"cell_type":"markdown","source":["# T\n","x"]},{"cell_type":"code","source":"y","outputs":[{"text":["z"]},{"data":{"text/plain":"w"}},{"ename":"E","evalue":"v"}]}]}"##
            .to_vec(),
    ]
}

pub fn asciidoc(bytes: &[u8]) {
    run(bytes, "text/asciidoc");
}

pub fn asciidoc_seeds() -> Vec<Vec<u8>> {
    vec![b"= Top\nAnna <a@b>\n:x: y\n\n== Sub\n\n* a *b* {x} https://c[d]\n\n[cols=2]\n|===\n|a |b\n|===\n\n----\ncode\n----\n".to_vec()]
}

pub fn rst(bytes: &[u8]) {
    run(bytes, "text/x-rst");
}

pub fn rst_seeds() -> Vec<Vec<u8>> {
    vec![b"Top\n===\n\n:Author: A\n\n.. |x| replace:: y\n.. note::\n   a |x| `b <c>`_ :r:`d`\n\n   .. code::\n\n      z\n\n== ==\na  b\n== ==\nc  d\n== ==\n\n+-+\n|a|\n+-+\n\ne::\n\n  f\n".to_vec()]
}

pub fn org(bytes: &[u8]) {
    run(bytes, "text/org");
}

pub fn org_seeds() -> Vec<Vec<u8>> {
    vec![b"#+TITLE: T\n* TODO A :x:\n:PROPERTIES:\n:END:\n- [ ] *b* [[c][d]] [fn:1]\n| e | f |\n#+BEGIN_SRC\ng\n#+END_SRC\n** COMMENT h\n".to_vec()]
}

pub fn latex(bytes: &[u8]) {
    run(bytes, "application/x-latex");
}

pub fn latex_seeds() -> Vec<Vec<u8>> {
    vec![br#"\title{T}\author{A \and B}\begin{document}\maketitle\section[x]{Top}a \textbf{b} \'e \"{o} $c$ % d
\begin{tabular}{l|r}e & f \\ \end{tabular}\footnote{g}\begin{verbatim}h\end{verbatim}\verb|i| \cite[p]{k}\end{document}"#.to_vec()]
}

pub const MARKUP_WORDS: &[&str] = &[
    "\n\n",
    "\n   ",
    "====\n",
    "----\n",
    "|===\n",
    "*",
    "_",
    "``",
    "`",
    "{x}",
    "|x|",
    ".. a::\n",
    "[[",
    "]]",
    "\\begin{tabular}{l}",
    "\\end{tabular}",
    "\\section{",
    "\\footnote{",
    "}",
    "&",
    "\\\\",
    "$",
    "+---+\n",
    "#+BEGIN_SRC\n",
    "* ",
];

/// A file in the child: whatever becomes of it, the caller gets an answer in time.
pub fn child(bytes: &[u8]) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        built.unwrap_or_else(|error| panic!("no runtime: {error}"))
    });
    let worker = std::env::current_exe().unwrap_or_else(|error| panic!("no program: {error}"));
    let Some((first, rest)) = bytes.split_first() else { return };
    let media_type = CHILD_FORMATS[usize::from(*first) % CHILD_FORMATS.len()];
    // Half a gigabyte and some seconds, as a careful operator would set it.
    let extractor = Extractor::new(worker, Duration::from_secs(20), 512 << 20, 1).with_pdfium(pdfium());
    match runtime.block_on(extractor.extract(rest.to_vec(), media_type)) {
        Ok(extracted) => promise(&extracted),
        Err(error) => assert_ne!(error.reason, "EXTRACTION_TIMEOUT", "{error}"),
    }
}

/// Formats that the child is tried with. XLS is here alone, since its reader takes the memory that a sheet says it needs.
const CHILD_FORMATS: [&str; 4] = ["application/pdf", DOCX, "text/html", "application/vnd.ms-excel"];

pub fn child_seeds() -> Vec<Vec<u8>> {
    let xls = include_bytes!("../../tests/data/formats/xlwt.xls");
    let all = [pdf_seeds(), docx_seeds(), html_seeds(), vec![xls.to_vec()]];
    (0_u8..)
        .zip(all)
        .flat_map(|(kind, files)| files.into_iter().map(move |f| [&[kind], f.as_slice()].concat()))
        .collect()
}

/// Splits a text into passages, whose spans must be whole characters of it and within the limit of tokens.
pub fn passages(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    // A token is a character that is no white space, as far as this test is concerned.
    let tokenize = |piece: &str| {
        let tokens = piece.char_indices().filter(|(_, c)| !c.is_whitespace());
        Ok(tokens.map(|(at, c)| Span::new(at as u32, (at + c.len_utf8()) as u32)).collect())
    };
    let max_tokens = usize::from(first % 32);
    let options = SplitOptions {
        max_tokens,
        first_max_tokens: max_tokens.div_ceil(2),
        overlap_tokens: usize::from(first / 32),
    };
    let Ok(passages) = split_passages(&text, &[], &options, &tokenize) else { return };
    for passage in passages {
        let slice = passage.span.slice(&text).unwrap_or_else(|| panic!("a passage cuts a character"));
        let tokens = slice.chars().filter(|c| !c.is_whitespace()).count();
        assert!(tokens <= options.max_tokens.max(1), "a passage of {tokens} tokens");
        assert!(!passage.sentences.is_empty() && passage.sentences.iter().all(|s| s.slice(&text).is_some()));
    }
}

/// Looks a text's words up.
pub fn query(bytes: &[u8]) {
    let (reader, _) = index();
    let text = String::from_utf8_lossy(bytes);
    let _ = KeywordReader::has_words(&text);
    let found = reader
        .search(KeywordQuery { text: &text, is_last_word_prefix: text.len().is_multiple_of(2) }, 3, None)
        .unwrap_or_else(|error| panic!("a search failed: {error}"));
    let ceiling = found.ceiling * 1.001;
    assert!(found.matches.iter().all(|found| (0.0..=ceiling).contains(&found.score)), "a score out of range");
}

/// Makes the index on the way, whose memory no input is to blame for.
pub fn query_seeds() -> Vec<Vec<u8>> {
    index();
    text_seeds()
}

fn index() -> &'static (KeywordReader, tempfile::TempDir) {
    static INDEX: OnceLock<(KeywordReader, tempfile::TempDir)> = OnceLock::new();
    INDEX.get_or_init(|| make_index().unwrap_or_else(|error| panic!("no index: {error}")))
}

fn make_index() -> trove::error::Result<(KeywordReader, tempfile::TempDir)> {
    let dir = tempfile::tempdir_in(super::temporary()).unwrap_or_else(|error| panic!("no folder: {error}"));
    let mut index = KeywordIndex::create(dir.path(), Language::default())?;
    let text = String::from_utf8_lossy(&text_seeds()[0]).into_owned();
    let passage = KeywordPassage { point: 1, text, headings: vec!["snake_case camelCase".to_owned()] };
    index
        .add(1, &KeywordDocument { title: "He said".to_owned(), language: None, passages: vec![passage] })?;
    index.commit()?;
    Ok((index.reader(), dir))
}
