//! Text out of bytes of any encoding.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use trove_core::domain::Warning;
use trove_core::error::{Error, Result};

/// One in so many characters may be none of text, such as a NUL: more of them are a binary file.
const TEXT_PER_CONTROL: usize = 20;
/// Bytes at the beginning that tell whether a file is UTF-16 or UTF-32 without a mark.
const SAMPLE_BYTES: usize = 64 << 10;
/// So many characters beyond ASCII that are UTF-8 are in no other encoding.
const SURE_CHARS: usize = 8;
/// Fewer bytes do not tell whether they are UTF-16.
const MIN_UTF16_BYTES: usize = 8;
/// Bytes at the beginning in which a page declares its encoding; browsers look at the first 1024.
const DECLARATION_BYTES: usize = 4 << 10;

/// Text, and how much of it could not be decoded.
pub(super) struct Decoded {
    pub(super) text: String,
    /// Places at which bytes stand for no character of the encoding.
    pub(super) bad: usize,
}

impl Decoded {
    /// What to say about bytes that could not be decoded.
    pub(super) fn warning(&self) -> Option<Warning> {
        (self.bad > 0).then(|| Warning {
            page: None,
            reason: "UNDECODABLE_BYTES".to_owned(),
            message: format!(
                "{} places hold bytes that are no text of the file's encoding; save the file as UTF-8",
                self.bad
            ),
        })
    }
}

/// Decodes by byte order mark, else as UTF-8, UTF-16 or UTF-32 where it is that, else in the encoding it looks like. NULs
/// are left out.
///
/// # Errors
/// `NOT_TEXT` where too much of it is NULs and other controls that text has none of.
pub(super) fn decode(bytes: &[u8]) -> Result<String> {
    decode_as(bytes, None).map(|decoded| decoded.text)
}

/// As [`decode`], in the encoding that the sender declares, unless a byte order mark tells better.
pub(super) fn decode_as(bytes: &[u8], declared: Option<&'static Encoding>) -> Result<Decoded> {
    text_of(decode_any(bytes, declared))
}

/// Decodes a page of HTML or an XML file, which may declare its encoding itself.
pub(super) fn decode_markup(bytes: &[u8], declared: Option<&'static Encoding>) -> Result<Decoded> {
    decode_as(bytes, declared.or_else(|| declared_in(bytes)))
}

fn decode_any(bytes: &[u8], declared: Option<&'static Encoding>) -> Decoded {
    if let Some(decoded) = utf32(bytes) {
        return decoded;
    }
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return with(encoding, &bytes[mark..]);
    }
    let utf8 = std::str::from_utf8(bytes);
    if let Some(encoding) = declared {
        // Pages that were saved as UTF-8 may still claim what they were. A few bytes of another encoding may look like
        // UTF-8; of Latin-1 hardly any do.
        let enough = if encoding == WINDOWS_1252 { 1 } else { SURE_CHARS };
        let is_utf8 =
            utf8.is_ok_and(|text| text.chars().filter(|c| !c.is_ascii()).take(enough).count() == enough);
        if encoding != UTF_8 && !is_utf8 {
            return with(encoding, bytes);
        }
    }
    if let Some(encoding) = unmarked_utf16(bytes) {
        return with(encoding, bytes);
    }
    match utf8 {
        Ok(text) if has_japanese_escapes(bytes) => {
            let (decoded, bad) = ISO_2022_JP.decode_without_bom_handling(bytes);
            Decoded { text: if bad { text.to_owned() } else { decoded.into_owned() }, bad: 0 }
        }
        Ok(text) => Decoded { text: text.to_owned(), bad: 0 },
        Err(_) => damaged_utf8(bytes).unwrap_or_else(|| with(guess(bytes), bytes)),
    }
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Allow)
}

fn with(encoding: &'static Encoding, bytes: &[u8]) -> Decoded {
    if encoding == UTF_8
        && let Some(decoded) = damaged_utf8(bytes)
    {
        return decoded;
    }
    let (text, has_bad) = encoding.decode_without_bom_handling(bytes);
    let bad = if has_bad { text.matches(char::REPLACEMENT_CHARACTER).count() } else { 0 };
    Decoded { text: text.into_owned(), bad }
}

/// UTF-8 of which a few bytes are damaged: `None` where more places are bad than are good. A lone bad byte is most
/// often a letter that was written in Windows-1252.
fn damaged_utf8(bytes: &[u8]) -> Option<Decoded> {
    let mut text = String::with_capacity(bytes.len());
    let (mut good, mut bad) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        good += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        match chunk.invalid() {
            [] => continue,
            [byte] if *byte >= 0xa0 => text.push(char::from(*byte)),
            _ => text.push(char::REPLACEMENT_CHARACTER),
        }
        bad += 1;
    }
    (good > bad || bad == 0).then_some(Decoded { text, bad })
}

/// Escape sequences by which ISO-2022-JP begins two-byte text, in a file of seven-bit bytes.
fn has_japanese_escapes(bytes: &[u8]) -> bool {
    bytes.is_ascii() && bytes.windows(3).any(|w| matches!(w, b"\x1b$B" | b"\x1b$@"))
}

/// The byte order of UTF-16 that begins without its mark: NULs stand almost only in the high bytes, and what comes out is
/// text.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES) & !1];
    let nul = |parity: usize| sample.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (nul(0), nul(1));
    let (encoding, high, low) = if even > odd { (UTF_16BE, even, odd) } else { (UTF_16LE, odd, even) };
    // In text of other scripts than Latin, the spaces and line ends alone have a NUL.
    if sample.len() < MIN_UTF16_BYTES || high == 0 || low * 20 > high || high * 50 < sample.len() / 2 {
        return None;
    }
    let (text, has_bad) = encoding.decode_without_bom_handling(sample);
    (!has_bad && controls(&text) == 0).then_some(encoding)
}

/// Reads the four bytes of a sign of UTF-32.
type ReadUnit = fn([u8; 4]) -> u32;

/// UTF-32, which always has NULs: with its mark, or by them.
fn utf32(bytes: &[u8]) -> Option<Decoded> {
    let from = |bytes: &[u8], read: fn([u8; 4]) -> u32| {
        let (units, rest) = bytes.as_chunks::<4>();
        let mut bad = usize::from(!rest.is_empty());
        let mut decode = |unit: &[u8; 4]| {
            char::from_u32(read(*unit)).unwrap_or_else(|| {
                bad += 1;
                char::REPLACEMENT_CHARACTER
            })
        };
        let text: String = units.iter().map(&mut decode).collect();
        Decoded { text, bad }
    };
    let (little, big): (ReadUnit, ReadUnit) = (u32::from_le_bytes, u32::from_be_bytes);
    if let Some(rest) = bytes.strip_prefix(b"\xff\xfe\0\0") {
        return Some(from(rest, little));
    }
    if let Some(rest) = bytes.strip_prefix(b"\0\0\xfe\xff") {
        return Some(from(rest, big));
    }
    let (sample, _) = bytes[..bytes.len().min(SAMPLE_BYTES)].as_chunks::<4>();
    let is_text = |read: fn([u8; 4]) -> u32| {
        let mut chars = sample.iter().map(|unit| char::from_u32(read(*unit)));
        sample.len() > 1 && chars.all(|c| c.is_some_and(|c| c != '\0' && !is_control(c)))
    };
    let read = [little, big].into_iter().find(|read| is_text(*read))?;
    Some(from(bytes, read))
}

/// What is text of the decoded, without NULs.
fn text_of(mut decoded: Decoded) -> Result<Decoded> {
    let controls = controls(&decoded.text);
    let nul = decoded.text.contains('\0');
    // A lone control in a line or two is no binary file, unless it is a NUL.
    let is_text = controls == 0
        || decoded.text.chars().filter(|c| *c != '\0').count() >= controls * TEXT_PER_CONTROL
        || (!nul && controls < 3);
    if !is_text {
        return Err(Error::invalid("NOT_TEXT", "expected text, got bytes of which many are none"));
    }
    if nul {
        decoded.text.retain(|c| c != '\0');
    }
    Ok(decoded)
}

/// Controls that text has no use for. NULs in a row, as a file has where a system broke down, count as one.
fn controls(text: &str) -> usize {
    let mut before = ' ';
    let counts = |c: char| {
        let again = c == '\0' && before == '\0';
        before = c;
        is_control(c) && !again
    };
    text.chars()
        .filter({
            let mut counts = counts;
            move |c| counts(*c)
        })
        .count()
}

fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{6}' | '\u{e}'..='\u{1a}' | '\u{1c}'..='\u{1f}')
}

/// The encoding that a page names in a `meta` element or an XML declaration.
fn declared_in(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(DECLARATION_BYTES)]).to_ascii_lowercase();
    let head = without_comments(&head);
    let in_xml = || {
        let (declaration, _) = head.trim_start().strip_prefix("<?xml")?.split_once("?>")?;
        label_after(declaration, "encoding")
    };
    let in_meta = || {
        let metas = head.split("<meta").skip(1).filter_map(|rest| rest.split('>').next());
        metas
            .filter(|meta| meta.starts_with([' ', '\t', '\n', '\r', '/']))
            .find_map(|meta| label_after(meta, "charset"))
    };
    let encoding = in_xml().or_else(in_meta).and_then(|label| Encoding::for_label(label.as_bytes()))?;
    // A declaration that can be read is in no encoding of two bytes a character.
    Some(if encoding == UTF_16LE || encoding == UTF_16BE { UTF_8 } else { encoding })
}

fn without_comments(page: &str) -> Cow<'_, str> {
    if !page.contains("<!--") {
        return page.into();
    }
    let mut parts = page.split("<!--");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + part.split_once("-->").map_or("", |(_, after)| after)).into()
}

/// The label in `name = "label"`, with or without quotes.
fn label_after(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(name) {
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let value = value.trim_start().trim_start_matches(['"', '\'']);
            let end = value.find(['"', '\'', ';', ' ', '\t', '\n', '\r', '/', '?']).unwrap_or(value.len());
            return Some(value[..end].to_owned());
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_utf16(text: &str, to: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to).collect()
    }

    #[test]
    fn encodings() {
        assert_eq!(decode(b"\xef\xbb\xbfna\xc3\xafve").unwrap(), "naïve");
        assert_eq!(decode(b"\xff\xfeh\0i\0").unwrap(), "hi");
        assert_eq!(decode(b"un caf\xe9 tr\xe8s serr\xe9").unwrap(), "un café très serré");
        assert_eq!(decode(b"\xe9\0").unwrap_err().reason, "NOT_TEXT");
        assert_eq!(decode(b"\x1b$B5y9A$NE75$\x1b(B").unwrap(), "漁港の天気");
    }

    #[test]
    fn utf16_and_utf32_need_no_mark() {
        let texts = [
            "The harbour ice broke on the fourth of April.\n",
            "Лёд в гавани тронулся. Четвёртого апреля.\n",
        ];
        for text in texts {
            for mark in ["", "\u{feff}"] {
                let text = format!("{mark}{text}");
                let expected = text.trim_start_matches('\u{feff}');
                for to in [u16::to_le_bytes, u16::to_be_bytes] {
                    assert_eq!(decode(&in_utf16(&text, to)).unwrap(), expected);
                }
                for to in [u32::to_le_bytes, u32::to_be_bytes] {
                    let bytes: Vec<u8> = text.chars().flat_map(|c| to(c as u32)).collect();
                    assert_eq!(decode(&bytes).unwrap(), expected);
                }
            }
        }
    }

    #[test]
    fn a_stray_byte_costs_that_byte() {
        let decoded = decode_as("Jürgen Groß, Núñez. X".replace('X', "\u{1}").as_bytes(), None).unwrap();
        assert_eq!((decoded.bad, decoded.warning().is_none()), (0, true));
        let decoded =
            decode_as(b"J\xc3\xbcrgen Gro\xc3\x9f, N\xc3\xba\xc3\xb1ez, caf\xe9 \xe2\x82 end", None).unwrap();
        assert_eq!(decoded.text, "Jürgen Groß, Núñez, café \u{fffd} end");
        assert_eq!((decoded.bad, decoded.warning().unwrap().reason.as_str()), (2, "UNDECODABLE_BYTES"));
        // One of two: Latin-1, in which it makes sense.
        assert_eq!(decode(b"caf\xe9 Gro\xdf").unwrap(), "café Groß");
    }

    #[test]
    fn few_nuls_are_text_and_many_are_not() {
        let log =
            [b"2024-01-05 pump started\n".as_slice(), &[0; 4096], b"\n2024-01-05 pump stopped\n"].concat();
        assert_eq!(decode(&log).unwrap(), "2024-01-05 pump started\n\n2024-01-05 pump stopped\n");
        let noise: Vec<u8> = (0..2048_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(decode(&noise).unwrap_err().reason, "NOT_TEXT");
        let elf =
            [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".as_slice(), b".text\0.data\0"]
                .concat();
        assert_eq!(decode(&elf).unwrap_err().reason, "NOT_TEXT");
    }

    #[test]
    fn pages_declare_their_encoding() {
        let page = |bytes: &[u8]| decode_markup(bytes, None).unwrap().text;
        assert!(page(b"<meta charset=windows-1254><p>\xdei\xfeli").ends_with("Şişli"));
        assert!(
            page(b"<META http-equiv=Content-Type content='text/html; charset=Shift_JIS'>\x91D\x92\xb7")
                .ends_with("船長")
        );
        assert!(page(b"<?xml version='1.0' encoding='windows-1250'?><p>P\xf8\xed\xef").ends_with("Příď"));
        assert!(
            page(b"<!-- <meta charset=windows-1254> --><meta charset='koi8-r'>\xcc\xcf\xc4").ends_with("лод")
        );
        // A mark tells better, and so do bytes that are UTF-8 beyond doubt.
        assert!(page(b"\xef\xbb\xbf<meta charset=koi8-r>\xc3\xa9").ends_with('é'));
        assert!(page(b"<meta charset=iso-8859-1>\xc3\xa9t\xc3\xa9").ends_with("été"));
        assert!(page("<meta charset=gb2312>港口的天气很好今天".as_bytes()).ends_with("今天"));
        assert!(page(b"<meta charset=gbk>\xc1\xaa\xcd\xa8").ends_with("联通"));
        assert!(page(b"<meta charset=utf-16>\xc3\xa9").ends_with('é'));
        let told = decode_markup(b"<meta charset=utf-8>\xdei\xfeli", Encoding::for_label(b"windows-1254"));
        assert!(told.unwrap().text.ends_with("Şişli"));
    }
}
