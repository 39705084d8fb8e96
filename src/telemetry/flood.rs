//! Keeps strangers from filling the log: each place in the program writes so many lines in a burst and so many a second.
//! What is beyond that is counted, and the count is logged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines that a place writes at once.
const BURST: f64 = 50.0;
/// Lines that it writes in a second, on average.
const RATE: f64 = 5.0;
/// How often it is said how many were left out.
const INTERVAL: Duration = Duration::from_secs(10);

/// The places that have written lines. Copies share them.
#[derive(Debug, Clone, Default)]
pub struct Flood(Arc<Mutex<HashMap<Identifier, Place>>>);

/// One place: what it may write and what it could not.
#[derive(Debug)]
struct Place {
    name: String,
    left: f64,
    at: Instant,
    left_out: u64,
}

impl Place {
    fn new(metadata: &Metadata<'_>, now: Instant) -> Self {
        let name = match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => metadata.target().to_owned(),
        };
        Self { name, left: BURST, at: now, left_out: 0 }
    }

    /// Whether a line may be written now.
    fn may_write(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * RATE).min(BURST);
        self.at = now;
        if self.left < 1.0 {
            self.left_out += 1;
            return false;
        }
        self.left -= 1.0;
        true
    }
}

impl Flood {
    /// Says every so often how many lines were left out, until it is dropped.
    pub fn follow(&self) -> AbortOnDropHandle<()> {
        let own = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                own.report();
            }
        }))
    }

    /// Says how many lines were left out since it was last said.
    pub fn report(&self) {
        for (place, lines) in self.left_out() {
            tracing::warn!(target: REPORT, place, lines, "log lines were left out: there were too many");
        }
    }

    /// The places that could not write all of their lines, and how many these are.
    fn left_out(&self) -> Vec<(String, u64)> {
        let mut places = self.0.lock();
        let counts = places.values_mut().filter(|place| place.left_out > 0);
        counts.map(|place| (place.name.clone(), std::mem::take(&mut place.left_out))).collect()
    }
}

/// Target of the lines that say how many were left out: they are never left out.
const REPORT: &str = "trove::log";

impl<S> Filter<S> for Flood {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    /// Lines for debugging are not limited: whoever wants them wants all of them.
    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == REPORT {
            return true;
        }
        let now = Instant::now();
        let mut places = self.0.lock();
        places.entry(metadata.callsite()).or_insert_with(|| Place::new(metadata, now)).may_write(now)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_place_writes_a_burst_and_the_rest_is_counted() {
        let (flood, lines) = (Flood::default(), Lines::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let filter = tracing_subscriber::filter::LevelFilter::DEBUG;
        use tracing_subscriber::filter::FilterExt;
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter.and(flood.clone())));
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1000 {
                tracing::info!(number, "refused");
                tracing::debug!(number, "in detail");
            }
            tracing::info!("another place");
            flood.report();
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        let written = count("refused");
        assert!((50..60).contains(&written), "{written}");
        assert_eq!((count("in detail"), count("another place"), count("left out")), (1000, 1, 1));
        assert!(text.contains(&format!("lines={}", 1000 - written)), "{text}");
        assert!(flood.left_out().is_empty(), "it is said once");
    }

    #[test]
    fn a_place_may_write_again_later() {
        let now = Instant::now();
        let mut place = Place { name: String::new(), left: 0.0, at: now, left_out: 0 };
        assert!(!place.may_write(now));
        let later = now + Duration::from_secs(2);
        let written = (0..100).filter(|_| place.may_write(later)).count();
        assert_eq!((written, place.left_out), (10, 91));
    }
}
