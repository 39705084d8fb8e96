//! Mails and mailboxes.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Address, DateTime, Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::properties::{DATE, Properties, SUBJECT, seconds};
use super::worker::MAX_TEXT_BYTES;
use super::{Builder, broken, decode, html, kind, tell, too_large, warning};
use trove_core::domain::{Extracted, MetadataValue, Warning};
use trove_core::error::{Error, Result};

/// Most mails within each other, and files within those.
const MAX_NESTED: usize = 4;
/// Most parts of a mail that may hold others; the parser takes some stack for each.
const MAX_CONTAINERS: usize = 500;
/// How much longer the text of the HTML part is than the plain one where the plain one only says that there is another.
const MUCH_LONGER: usize = 4;

/// Reads one mail.
pub(super) fn extract(bytes: &[u8], depth: usize) -> Result<Extracted> {
    let bytes = readable(bytes);
    let message = parse(&bytes)?;
    let mut reader = Reader { depth, ..Reader::default() };
    reader.message(&message, 1)?;
    let mut properties = Properties::default();
    describe(&message, &mut properties);
    reader.finish(message.subject().map(str::to_owned), properties)
}

/// Reads a mailbox, each mail as a section.
pub(super) fn extract_mailbox(bytes: &[u8], depth: usize) -> Result<Extracted> {
    let mut reader = Reader { depth, ..Reader::default() };
    for (number, bytes) in (1..).zip(messages(bytes)) {
        match parse(&readable(&bytes)) {
            Ok(message) => reader.message(&message, 1)?,
            Err(e) => reader.warn("MAIL_UNREADABLE", format!("mail {number} is not read: {}", e.message)),
        }
    }
    reader.finish(None, Properties::default())
}

fn parse(bytes: &[u8]) -> Result<Message<'_>> {
    let containers = containers(bytes);
    if containers > MAX_CONTAINERS {
        let message =
            format!("expected a mail of at most {MAX_CONTAINERS} mails within it, got {containers}");
        return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
    }
    // The parser panics on some malformed mails.
    let parsed = catch_unwind(AssertUnwindSafe(|| MessageParser::default().parse(bytes))).unwrap_or_default();
    let parsed = parsed.filter(|message| !message.headers().is_empty());
    parsed.ok_or_else(|| broken("the mail has no header, or cannot be parsed"))
}

/// A mail whose header is UTF-8. What programs wrote there as it is, is in the encoding that it looks like.
fn readable(bytes: &[u8]) -> Cow<'_, [u8]> {
    let ends = [b"\n\n".as_slice(), b"\n\r\n"];
    let end = ends.iter().filter_map(|end| memchr::memmem::find(bytes, end)).min().unwrap_or(bytes.len());
    let (header, rest) = bytes.split_at(end);
    match (std::str::from_utf8(header), decode::decode(header)) {
        (Err(_), Ok(text)) => Cow::Owned([text.as_bytes(), rest].concat()),
        _ => Cow::Borrowed(bytes),
    }
}

/// How many parts may hold a mail, by the words that say so.
fn containers(bytes: &[u8]) -> usize {
    let lower = bytes.to_ascii_lowercase();
    [b"rfc822".as_slice(), b"global", b"digest"]
        .iter()
        .map(|word| memchr::memmem::find_iter(&lower, word).count())
        .sum()
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    warnings: Vec<Warning>,
    /// Files that this one is within.
    depth: usize,
}

impl Reader {
    fn finish(self, title: Option<String>, properties: Properties) -> Result<Extracted> {
        let found = self.builder.finish(title)?;
        Ok(Extracted { metadata: properties.metadata, warnings: self.warnings, ..found })
    }

    fn warn(&mut self, reason: &str, message: String) {
        tell(&mut self.warnings, warning(None, reason, message));
    }

    /// Adds a mail under its subject as a heading of a level, its attachments below.
    fn message(&mut self, message: &Message<'_>, level: u8) -> Result<()> {
        self.builder.end_headings(level);
        self.builder.heading(level, message.subject().unwrap_or_default());
        self.builder.block(&header(message));
        self.body(message);
        for part in message.attachments() {
            self.attachment(message, part, level + 1)?;
            if self.builder.bytes() > MAX_TEXT_BYTES {
                return Err(too_large());
            }
        }
        Ok(())
    }

    fn body(&mut self, message: &Message<'_>) {
        let parts = |ids: &[u32]| -> Vec<Option<&MessagePart<'_>>> {
            ids.iter().map(|id| message.part(*id)).collect()
        };
        let shown = |part: Option<&MessagePart<'_>>| match part.map(|part| (part, &part.body)) {
            Some((part, PartType::Text(text))) => Some(plain(message, part, text)),
            Some((_, PartType::Html(source))) => html::extract(source).ok(),
            _ => None,
        };
        let read = |ids: &[u32]| -> Vec<Extracted> { parts(ids).into_iter().filter_map(shown).collect() };
        let length = |found: &[Extracted]| found.iter().map(|part| part.text.len()).sum::<usize>();
        let mut body = read(&message.text_body);
        if message.html_body != message.text_body {
            let other = read(&message.html_body);
            if length(&other) > length(&body).saturating_mul(MUCH_LONGER) {
                body = other;
            }
        }
        body.iter().for_each(|part| self.builder.append(part));
    }

    fn attachment(&mut self, message: &Message<'_>, part: &MessagePart<'_>, level: u8) -> Result<()> {
        let name = part.attachment_name().unwrap_or_default().to_owned();
        let media_type = part.content_type().map(|kind| match kind.subtype() {
            Some(subtype) => format!("{}/{subtype}", kind.ctype()),
            None => kind.ctype().to_owned(),
        });
        let media_type = kind::essence(&media_type.unwrap_or_default());
        let raw;
        let bytes: &[u8] = match &part.body {
            PartType::Message(message) if self.depth + 1 < MAX_NESTED => {
                self.depth += 1;
                let done = self.message(message, level);
                self.depth -= 1;
                return done;
            }
            // A file of a binary format that the mail calls text, or nothing.
            PartType::Text(text) | PartType::Html(text) => {
                raw = raw_bytes(message, part);
                match kind::media_type_of(Path::new(&name), &raw) {
                    Some(found) if !kind::is_text(found) => &raw,
                    _ => text.as_bytes(),
                }
            }
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes,
            PartType::Message(_) | PartType::Multipart(_) => {
                let message = format!("the mails within each other beyond {MAX_NESTED} are not read");
                self.warn("NESTED_TOO_DEEP", message);
                return Ok(());
            }
        };
        if is_silent(&media_type, part) {
            return Ok(());
        }
        self.builder.end_headings(level);
        let shown = if name.is_empty() { media_type.clone() } else { name.clone() };
        match self.read(&name, &media_type, bytes) {
            Ok(found) => {
                self.builder.heading(level, &name);
                self.builder.append(&found);
                for told in found.warnings {
                    let message = format!("attachment {shown:?}: {}", told.message);
                    tell(&mut self.warnings, Warning { message, ..told });
                }
                return Ok(());
            }
            Err(e) if e.reason == "EMPTY_DOCUMENT" => {}
            Err(e) => {
                let message = match e.reason {
                    "UNSUPPORTED_FORMAT" => format!("attachment {shown:?} is of a format that is not read"),
                    _ => format!("attachment {shown:?} is not read: {}", e.message),
                };
                self.warn("ATTACHMENT_UNREADABLE", message);
            }
        }
        // Its name can be searched for all the same.
        if !name.is_empty() {
            self.builder.block(&format!("Attachment: {name}"));
        }
        Ok(())
    }

    /// Reads an attachment as the kind of file that it is by its name, else by what the mail says of it.
    fn read(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<Extracted> {
        if self.depth + 1 >= MAX_NESTED {
            let message = format!("expected files within each other {MAX_NESTED} deep at most");
            return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
        }
        let by_name = kind::media_type_of(Path::new(name), bytes);
        super::extract_nested(bytes, by_name.unwrap_or(media_type), self.depth + 1)
    }
}

/// Parts that are no files to a reader: signatures, pictures within the text.
fn is_silent(media_type: &str, part: &MessagePart<'_>) -> bool {
    let is_signature =
        ["application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"]
            .contains(&media_type);
    let is_inline_picture = media_type.starts_with("image/")
        && (matches!(part.body, PartType::InlineBinary(_)) || part.content_id().is_some());
    is_signature || is_inline_picture
}

/// A plain part. One that names no character set and is no UTF-8 is in the one that it looks like.
fn plain(message: &Message<'_>, part: &MessagePart<'_>, text: &str) -> Extracted {
    let has_charset = part.content_type().is_some_and(|kind| kind.has_attribute("charset"));
    let raw = (text.contains('\u{fffd}') && !has_charset).then(|| raw_bytes(message, part));
    let text = match raw.and_then(|raw| decode::decode(&raw).ok()) {
        Some(decoded) => Cow::Owned(decoded),
        None => Cow::Borrowed(text),
    };
    let text = text.replace("\r\n", "\n");
    let flowed = part
        .content_type()
        .and_then(|kind| kind.attribute("format"))
        .is_some_and(|format| format.eq_ignore_ascii_case("flowed"));
    let mut builder = Builder::default();
    builder.block(&if flowed { unflowed(&text) } else { text });
    builder.finish(None).unwrap_or_default()
}

/// The bytes of a part as they were before they were taken for text.
fn raw_bytes<'a>(message: &'a Message<'_>, part: &MessagePart<'_>) -> Cow<'a, [u8]> {
    let raw =
        message.raw_message.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default();
    let decoded = match part.encoding {
        Encoding::Base64 => base64_decode(raw),
        Encoding::QuotedPrintable => quoted_printable_decode(raw),
        Encoding::None => None,
    };
    decoded.map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Joins lines that a mail program broke: those that end in a space go on in the next.
fn unflowed(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        joined.push_str(line.strip_prefix(' ').unwrap_or(line));
        // Two dashes and a space begin the signature.
        if !line.ends_with(' ') || line == "-- " {
            joined.push('\n');
        }
    }
    joined
}

/// What a reader sees above a mail.
fn header(message: &Message<'_>) -> String {
    let people = [("From", message.from()), ("To", message.to()), ("Cc", message.cc())];
    let mut lines: Vec<String> = people
        .into_iter()
        .map(|(name, people)| (name, addresses(people).join(", ")))
        .filter(|(_, people)| !people.is_empty())
        .map(|(name, people)| format!("{name}: {people}"))
        .collect();
    lines.extend(message.date().map(|date| {
        let DateTime { year, month, day, hour, minute, .. } = date;
        format!("Date: {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }));
    lines.join("\n")
}

fn addresses(people: Option<&Address<'_>>) -> Vec<String> {
    let one = |name: Option<&str>, address: Option<&str>| match (name.map(str::trim), address) {
        (Some(name), Some(address)) if !name.is_empty() => format!("{name} <{address}>"),
        (_, Some(address)) => address.to_owned(),
        (name, None) => name.unwrap_or_default().to_owned(),
    };
    let all = people.into_iter().flat_map(|people| people.iter());
    all.map(|person| one(person.name(), person.address())).filter(|person| !person.is_empty()).collect()
}

fn describe(message: &Message<'_>, properties: &mut Properties) {
    properties.text("from", addresses(message.from()));
    properties.list("to", addresses(message.to()));
    properties.list("cc", addresses(message.cc()));
    properties.text(SUBJECT, message.subject().map(str::to_owned).into_iter().collect());
    if let Some(seconds) = message.date().and_then(time) {
        properties.metadata.insert(DATE.to_owned(), MetadataValue::Timestamp(seconds, 0));
    }
}

fn time(date: &DateTime) -> Option<i64> {
    let offset = i64::from(date.tz_hour) * 60 + i64::from(date.tz_minute);
    let offset = if date.tz_before_gmt { -offset } else { offset };
    let (year, month, day) = (date.year.into(), date.month.into(), date.day.into());
    seconds(year, month, day, date.hour.into(), i64::from(date.minute) - offset, date.second.into())
}

/// The mails of a mailbox. A line that begins one says from whom and when, below an empty line; one of the text that
/// looks like it has `>` before it.
fn messages(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut lines = bytes.split_inclusive(|b| *b == b'\n').peekable();
    let mut started = false;
    std::iter::from_fn(move || {
        // What stands before the first mail is none.
        while !started {
            started = lines.next()?.starts_with(b"From ");
        }
        let mut message: Option<Vec<u8>> = Some(Vec::new());
        let mut blank = false;
        started = false;
        for line in lines.by_ref() {
            if blank && is_separator(line) {
                started = true;
                break;
            }
            blank = line.trim_ascii_end().is_empty();
            let marks = line.iter().take_while(|b| **b == b'>').count();
            let quoted = marks > 0 && line[marks..].starts_with(b"From ");
            message.iter_mut().for_each(|message| message.extend(&line[usize::from(quoted)..]));
        }
        message.take()
    })
}

/// `From address date`; the date has a time.
fn is_separator(line: &[u8]) -> bool {
    line.strip_prefix(b"From ").is_some_and(|rest| {
        let times = rest.windows(3).any(|w| w[0].is_ascii_digit() && w[1] == b':' && w[2].is_ascii_digit());
        times && rest.contains(&b' ')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "From: =?UTF-8?Q?J=C3=BCrgen?= <j@example.org>\r\nTo: Anna <a@example.org>, b@example.org\r\n\
        Date: Tue, 5 Mar 2024 15:22:01 +0100\r\nSubject: =?iso-8859-1?Q?K=E4se?=\r\nMIME-Version: 1.0\r\n";

    fn mail(rest: &str) -> Extracted {
        extract(format!("{PLAIN}{rest}").as_bytes(), 0).unwrap()
    }

    #[test]
    fn a_mail_is_its_subject_people_and_text() {
        let found = mail(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nEin caf=C3=A9.\r\nZw=\r\nei.\r\n",
        );
        assert_eq!(found.title.as_deref(), Some("Käse"));
        assert_eq!(
            found.text,
            "Käse\n\nFrom: Jürgen <j@example.org>\nTo: Anna <a@example.org>, b@example.org\nDate: 2024-03-05 15:22\n\nEin café.\nZwei."
        );
        assert_eq!(found.metadata["from"], MetadataValue::String("Jürgen <j@example.org>".to_owned()));
        assert_eq!(found.metadata["date"], MetadataValue::Timestamp(1_709_648_521, 0));
        assert!(matches!(&found.metadata["to"], MetadataValue::StringList(to) if to.len() == 2));
    }

    #[test]
    fn html_attachments_and_nested_mails_are_read() {
        let found = mail(
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n\
             --y\r\nContent-Type: text/plain\r\n\r\nSee HTML\r\n--y\r\nContent-Type: text/html\r\n\r\n<p>The <b>dock</b> is wet, and the lift needs a new chain.</p><h2>More</h2><p>x</p>\r\n--y--\r\n\
             --x\r\nContent-Type: text/markdown; name=notes.md\r\nContent-Disposition: attachment; filename=notes.md\r\n\r\n# Note\n\nbody\r\n\
             --x\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"data.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n\
             --x\r\nContent-Type: message/rfc822\r\n\r\nSubject: Inner\r\nFrom: c@example.org\r\n\r\nforwarded\r\n--x--\r\n",
        );
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join("/")).collect();
        assert!(found.text.contains("The dock is wet") && !found.text.contains("See HTML"), "{}", found.text);
        assert!(paths.contains(&"Käse/notes.md/Note".to_owned()), "{paths:?}");
        assert!(paths.contains(&"Käse/Inner".to_owned()), "{paths:?}");
        assert!(found.text.ends_with("Inner\n\nFrom: c@example.org\n\nforwarded"), "{}", found.text);
        assert_eq!(found.warnings.len(), 1);
        assert!(found.warnings[0].message.contains("data.bin"));
        assert!(found.text.contains("Attachment: data.bin"));
    }

    #[test]
    fn text_without_a_character_set_is_in_the_one_it_looks_like() {
        let bytes = [PLAIN.as_bytes(), b"\r\nun caf\xe9 tr\xe8s serr\xe9 pour la gar\xe7onne\r\n"].concat();
        let found = extract(&bytes, 0).unwrap();
        assert!(found.text.ends_with("un café très serré pour la garçonne"), "{}", found.text);
    }

    #[test]
    fn headers_that_are_not_encoded_are_in_the_encoding_they_look_like() {
        let bytes = b"From: J\xfcrgen Schm\xfcrgen <j@example.org>\nSubject: Die Hasen und die Fr\xf6sche\nDate: x\n\ntext";
        let found = extract(bytes, 0).unwrap();
        assert_eq!(found.title.as_deref(), Some("Die Hasen und die Frösche"));
        assert!(found.text.contains("From: Jürgen Schmürgen <j@example.org>"), "{}", found.text);
    }

    #[test]
    fn files_that_a_mail_gives_no_type_are_what_they_are() {
        let odt = "UEsDBBQAAAAAAAAAIQAAAAAAAAAAAAAAAAAAAAAA";
        let part = |content: &str| {
            format!(
                "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Disposition: attachment; filename=a.rtf\r\nContent-Transfer-Encoding: base64\r\n\r\n{content}\r\n--x--\r\n"
            )
        };
        // {\rtf1 caf\xe9} in Windows-1252.
        assert!(mail(&part("e1xydGYxIGNhZul9")).text.ends_with("a.rtf\n\ncafé"));
        let broken = mail(&part(odt));
        assert_eq!(broken.warnings[0].reason, "ATTACHMENT_UNREADABLE");
    }

    #[test]
    fn flowed_lines_are_joined() {
        let found = mail(
            "Content-Type: text/plain; format=flowed\r\n\r\nOne line \r\ngoes on.\r\nTwo.\r\n-- \r\nMe\r\n",
        );
        assert!(found.text.ends_with("One line goes on.\nTwo.\n-- \nMe"), "{}", found.text);
    }

    #[test]
    fn mailboxes_are_sections() {
        let mailbox = "From a@b Tue Mar  5 14:22:01 2024\nSubject: One\nFrom: a@b\n\nFrom here on it rains.\n>From there too.\n\n\
            From c@d Wed Mar  6 08:00:00 2024\nSubject: Two\nFrom: c@d\n\nsecond\n";
        let found = extract_mailbox(mailbox.as_bytes(), 0).unwrap();
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join("/")).collect();
        assert_eq!(paths, ["One", "Two"]);
        assert!(found.text.contains("From here on it rains.\nFrom there too."), "{}", found.text);
    }

    #[test]
    fn mails_within_mails_end_somewhere() {
        let nested = |levels: usize| {
            let mut mail = String::new();
            (0..levels).for_each(|_| mail.push_str("Subject: a\nContent-Type: message/rfc822\n\n"));
            mail + "Subject: end\n\ntext"
        };
        let found = extract(nested(20).as_bytes(), 0).unwrap();
        assert_eq!(found.warnings[0].reason, "NESTED_TOO_DEEP");
        assert_eq!(extract(nested(100_000).as_bytes(), 0).unwrap_err().reason, "DOCUMENT_TOO_LARGE");
    }

    #[test]
    fn what_is_no_mail_is_refused() {
        assert_eq!(extract(b"\n\n", 0).unwrap_err().reason, "BROKEN_DOCUMENT");
        assert_eq!(extract_mailbox(b"nothing", 0).unwrap_err().reason, "EMPTY_DOCUMENT");
    }
}
