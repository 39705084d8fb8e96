//! Files of any encoding, read as UTF-8 without being held in memory.

use std::io::{self, BufReader, Read};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder, Encoding, UTF_8};

/// Bytes of one piece.
const PIECE: usize = 64 << 10;
/// A file with so many times more characters of UTF-8 than bytes that are none is UTF-8 with damage.
const MOSTLY: u64 = 10;

/// The encoding of a file: by its byte order mark, else UTF-8 where all or nearly all of it is that, else what it looks
/// like.
pub(super) fn detect(mut file: impl Read) -> Result<&'static Encoding, String> {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    let mut piece = vec![0; PIECE];
    let (mut kept, mut is_first) = (0, true);
    let (mut valid, mut invalid, mut has_nul) = (0u64, 0u64, false);
    loop {
        let end = kept + fill(&mut file, &mut piece[kept..]).map_err(|error| error.to_string())?;
        let is_last = end < piece.len();
        let bytes = &piece[..end];
        if std::mem::take(&mut is_first)
            && let Some((encoding, _)) = Encoding::for_bom(bytes)
        {
            return Ok(encoding);
        }
        kept = 0;
        for chunk in bytes.utf8_chunks() {
            valid += chunk.valid().bytes().filter(|byte| *byte >= 0xc0).count() as u64;
            has_nul |= chunk.valid().contains('\0');
            let is_at_end = chunk.invalid().as_ptr_range().end == bytes.as_ptr_range().end;
            if chunk.invalid().is_empty() {
                continue;
            }
            // The rest of the character comes with the next piece.
            if is_at_end && !is_last && is_beginning(chunk.invalid()) {
                kept = chunk.invalid().len();
            } else {
                invalid += 1;
            }
        }
        let done = end - kept;
        detector.feed(&bytes[..done], is_last);
        piece.copy_within(done..end, 0);
        if is_last {
            break;
        }
    }
    if has_nul {
        return Err("expected text, got bytes with NUL among them".to_owned());
    }
    let is_utf8 = invalid == 0 || valid > MOSTLY * invalid;
    Ok(if is_utf8 { UTF_8 } else { detector.guess(None, Utf8Detection::Deny) })
}

/// Reads until a buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Whether bytes may be the beginning of a character in UTF-8.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// A file as UTF-8, without its byte order mark. What does not decode becomes U+FFFD.
pub(super) struct Utf8<R> {
    file: R,
    decoder: Decoder,
    input: Vec<u8>,
    /// Decoded and not yet given.
    output: Vec<u8>,
    at: usize,
    is_over: bool,
}

impl<R: Read> Utf8<R> {
    pub(super) fn new(file: R, encoding: &'static Encoding) -> Self {
        let (input, output) = (vec![0; PIECE], Vec::with_capacity(PIECE * 3));
        Self { file, decoder: encoding.new_decoder(), input, output, at: 0, is_over: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        let read = self.file.read(&mut self.input)?;
        self.is_over = read == 0;
        let mut text = String::from_utf8(std::mem::take(&mut self.output)).unwrap_or_default();
        text.clear();
        let most = self.decoder.max_utf8_buffer_length(read).unwrap_or(read.saturating_mul(3) + 16);
        text.reserve(most);
        // There is room for all of it.
        let _ = self.decoder.decode_to_string(&self.input[..read], &mut text, self.is_over);
        self.output = text.into_bytes();
        self.at = 0;
        Ok(())
    }
}

impl<R: Read> Read for Utf8<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.output.len() && !self.is_over {
            self.fill()?;
        }
        let left = &self.output[self.at..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.at += count;
        Ok(count)
    }
}

/// A file as UTF-8 for reading by lines.
pub(super) fn open<R: Read>(file: R, encoding: &'static Encoding) -> BufReader<Utf8<R>> {
    BufReader::with_capacity(PIECE, Utf8::new(file, encoding))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn text(bytes: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        open(bytes, detect(bytes)?).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn encodings_are_found() {
        assert_eq!(text(b"\xef\xbb\xbfid;n\xc3\xa4me").unwrap(), "id;näme");
        assert_eq!(text(b"\xff\xfei\0d\0").unwrap(), "id");
        assert_eq!(text(b"\xfe\xff\0i\0d").unwrap(), "id");
        assert_eq!(
            text(b"id;ort\n1;Die F\xe4hre f\xe4hrt nach K\xf6ln\n").unwrap(),
            "id;ort\n1;Die Fähre fährt nach Köln\n"
        );
        assert_eq!(text(b"\x80 12,50 f\xfcr Gr\xfc\xdfe").unwrap(), "€ 12,50 für Grüße");
        assert!(text(b"a\0b").is_err());
        assert_eq!(text(b"").unwrap(), "");
        // One broken byte does not make a long text of UTF-8 something else.
        let damaged = ["é".repeat(40).as_bytes(), b"\xff"].concat();
        assert_eq!(text(&damaged).unwrap(), "é".repeat(40) + "\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_text_comes_through_in_any_pieces(input in "\\PC{0,200}", piece in 1usize..7) {
            let bytes = input.as_bytes();
            prop_assert_eq!(detect(Slow(bytes, piece)).unwrap(), UTF_8);
            let mut read = String::new();
            open(Slow(bytes, piece), UTF_8).read_to_string(&mut read).unwrap();
            prop_assert_eq!(read, input.strip_prefix('\u{feff}').unwrap_or(&input));
        }
    }
}
