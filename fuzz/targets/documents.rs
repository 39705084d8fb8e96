//! Files whose text is extracted, and what is made of the text.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use trove::domain::{Extracted, Language, Span};
use trove::extract::{Extractor, extract};
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
    run(bytes, "application/pdf");
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
    docx_xml_seeds().iter().map(|xml| zip(xml)).collect()
}

/// The main part of a document, which is its list of styles too, in a whole archive.
pub fn docx_xml(xml: &[u8]) {
    run(&zip(xml), DOCX);
}

pub fn docx_xml_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"<?xml version="1.0"?><w:document xmlns:w="w"><w:style w:styleId="a"><w:name w:val="heading 1"/><w:basedOn w:val="b"/></w:style><w:body><w:p><w:pPr><w:pStyle w:val="Title"/></w:pPr><w:r><w:t>Top</w:t></w:r></w:p><w:p><w:pPr><w:outlineLvl w:val="1"/></w:pPr><w:r><w:t>Sub &amp; &#233;</w:t><w:tab/><w:br/></w:r></w:p><mc:Fallback><w:t>no</w:t></mc:Fallback><w:p><w:t><![CDATA[x]]></w:t></w:p></w:body></w:document>"#
            .to_vec(),
    ]
}

/// An archive of the two files that are read, stored as they are.
fn zip(xml: &[u8]) -> Vec<u8> {
    let (mut files, mut directory) = (Vec::new(), Vec::new());
    for name in ["word/document.xml", "word/styles.xml"] {
        let about = about(name, xml);
        let offset = (files.len() as u32).to_le_bytes();
        let local = [b"PK\x03\x04".as_slice(), &about, name.as_bytes(), xml];
        local.iter().for_each(|part| files.extend_from_slice(part));
        let central = [b"PK\x01\x02\x14\0".as_slice(), &about, &[0; 10], &offset, name.as_bytes()];
        central.iter().for_each(|part| directory.extend_from_slice(part));
    }
    let end = [(directory.len() as u32).to_le_bytes(), (files.len() as u32).to_le_bytes()].concat();
    [&files, &directory, b"PK\x05\x06\0\0\0\0\x02\0\x02\0".as_slice(), &end, &[0, 0]].concat()
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

/// A file in the child: whatever becomes of it, the caller gets an answer in time.
pub fn child(bytes: &[u8]) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        built.unwrap_or_else(|error| panic!("no runtime: {error}"))
    });
    let worker = std::env::current_exe().unwrap_or_else(|error| panic!("no program: {error}"));
    let Some((first, rest)) = bytes.split_first() else { return };
    let media_type = ["application/pdf", DOCX, "text/html"][usize::from(*first) % 3];
    // Half a gigabyte and some seconds, as a careful operator would set it.
    let extractor = Extractor::new(worker, Duration::from_secs(20), 512 << 20, 1);
    match runtime.block_on(extractor.extract(rest.to_vec(), media_type)) {
        Ok(extracted) => promise(&extracted),
        Err(error) => assert_ne!(error.reason, "EXTRACTION_TIMEOUT", "{error}"),
    }
}

pub fn child_seeds() -> Vec<Vec<u8>> {
    let all = [pdf_seeds(), docx_seeds(), html_seeds()];
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
    let options =
        SplitOptions { max_tokens: usize::from(first % 32), overlap_tokens: usize::from(first / 32) };
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
        .search(KeywordQuery { text: &text, is_last_word_prefix: text.len() % 2 == 0 }, 3, None)
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
