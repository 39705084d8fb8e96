//! The log: one line for each event, of which a terminal obeys nothing but Trove's own colors.

use std::fmt::Write as _;
use std::io::{self, Write};

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::{FormatFields, MakeWriter, format};
use tracing_subscriber::registry::LookupSpan;

use crate::visible::{VisibleLine, visible_json};

/// Lines for people.
pub(super) fn text<S, W>(ansi: bool, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A reader of the log that has left must not take the server with it.
    tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .with_ansi(ansi)
        .fmt_fields(fields())
        .with_writer(writer)
}

/// JSON for programs.
pub(super) fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .json()
        .with_ansi(false)
        .with_writer(VisibleJson(writer))
}

/// Names and values, the message first.
fn fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    let write =
        |writer: &mut format::Writer<'_>, field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            match field.name() {
                "message" => {}
                name if writer.has_ansi_escapes() => {
                    write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?
                }
                name => write!(writer, "{name}=")?,
            }
            write!(VisibleLine(writer), "{value:?}")
        };
    format::debug_fn(write).delimited(" ")
}

/// Writes lines of JSON, each at once, as the subscriber does; or makes what does so.
struct VisibleJson<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for VisibleJson<W> {
    type Writer = VisibleJson<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        VisibleJson(self.0.make_writer())
    }
}

impl<W: Write> Write for VisibleJson<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(visible_json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::Registry;

    use super::*;

    const HOSTILE: &str = "a\u{1b}]52;c;eA==\u{7}\u{9b}2J\u{202e}\nb";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(layer: impl Layer<Registry> + Send + Sync, kept: &Kept) -> String {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::info_span!("call", path = HOSTILE).entered();
            tracing::info!(shown = %HOSTILE, quoted = HOSTILE, debug = ?HOSTILE, number = 1, "message {HOSTILE}");
        });
        String::from_utf8(std::mem::take(&mut *kept.0.lock())).unwrap()
    }

    #[test]
    fn what_a_caller_sends_is_shown_in_one_line() {
        let kept = Kept::default();
        let writer = kept.clone();
        let text = logged(text(false, move || writer.clone()), &kept);
        assert_eq!(text.matches(r"\u{1b}]52").count(), 5, "{text}");
        assert!(text.contains("number=1") && text.contains("message a"), "{text}");
        let writer = kept.clone();
        let json = logged(json(move || writer.clone()), &kept);
        assert_eq!(json.matches(r"\u009b2J\u202e\nb").count(), 5, "{json}");
        for line in [text, json] {
            assert_eq!(
                line.find(|c: char| c.is_control() || c == '\u{202e}'),
                Some(line.len() - 1),
                "{line:?}"
            );
        }
    }

    #[test]
    fn only_own_colors_reach_a_terminal() {
        let kept = Kept::default();
        let writer = kept.clone();
        let text = logged(text(true, move || writer.clone()), &kept);
        let escapes: Vec<&str> = text.split('\u{1b}').skip(1).collect();
        assert!(
            !escapes.is_empty()
                && escapes.iter().all(|escape| escape.starts_with('[') && !escape.starts_with("[2J"))
        );
        assert!(!text.contains('\u{7}') && !text.contains('\u{9b}'), "{text:?}");
    }
}
