//! Snapshots by schedule. The clock may be wrong for a while, forward or back, also while the server is started. So the
//! time between two snapshots of one process is counted by what nobody can set, and a snapshot that looks old by the
//! clock goes only if it is old by the count of snapshots too.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::catalog::Catalog;
use crate::config::SnapshotsConfig;
use crate::error::{Error, Result};
use crate::grpc::Stop;
use crate::store::SnapshotName;

/// How often it is looked whether a snapshot is due: clocks may be set, and machines may sleep.
const LOOK: Duration = Duration::from_secs(60);
/// What the names of scheduled snapshots begin with.
const BEGINNING: &str = "scheduled-";
/// More intervals than this between two snapshots are no sign that all is as usual: the server was away, or the clock
/// was set.
const REGULAR: u128 = 3;

/// Makes snapshots until the server stops. Returns at once where none are wanted.
pub async fn run(catalog: Arc<Catalog>, config: SnapshotsConfig, stop: Stop) {
    if config.interval_hours == 0 {
        return;
    }
    let mut last = None;
    loop {
        let (catalog, config, asked) = (catalog.clone(), config.clone(), stop.clone());
        let looked =
            tokio::task::spawn_blocking(move || look(&catalog, &config, last, &|| asked.has_begun())).await;
        let looked =
            looked.unwrap_or_else(|e| Err(Error::internal("TASK_FAILED", "the task failed").with_source(e)));
        match looked {
            Ok(made) => last = made.or(last),
            Err(error) => {
                tracing::error!(%error, "a scheduled snapshot failed; it is tried again in a minute")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.begun() => return,
        }
    }
}

/// Makes a snapshot if one is due, and deletes those that are too many. `last` is when this process made one. Gives when
/// it began one now.
fn look(
    catalog: &Catalog,
    config: &SnapshotsConfig,
    last: Option<Moment>,
    is_cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Moment>> {
    let store = catalog.store();
    let interval = Duration::from_secs(config.interval_hours.saturating_mul(3600));
    if !is_due(&scheduled(catalog)?, clock(), last.map(|last| last.age()), interval)
        || store.list_collections()?.is_empty()
    {
        return Ok(None);
    }
    let begun = Moment::now();
    let name = store.free_snapshot_name(BEGINNING)?;
    let info = store.create_snapshot(&name, &[], true, is_cancelled)?;
    tracing::info!(
        snapshot = name.as_str(),
        bytes = info.size_bytes,
        documents = info.documents,
        "scheduled snapshot made"
    );
    if let Err(error) = prune(catalog, config.keep, interval) {
        tracing::error!(%error, "old scheduled snapshots stay until the next one is made");
    }
    Ok(Some(begun))
}

fn prune(catalog: &Catalog, keep: usize, interval: Duration) -> Result<()> {
    let (all, now) = (scheduled(catalog)?, clock());
    let future = all.iter().filter(|snapshot| snapshot.time > now).count();
    if future > 0 {
        tracing::warn!(future, "scheduled snapshots are dated in the future: this clock was or is wrong");
    }
    for old in surplus(&all, now, keep, interval) {
        catalog.store().delete_snapshot(&old.name)?;
        tracing::info!(snapshot = old.name.as_str(), "old scheduled snapshot deleted");
    }
    Ok(())
}

/// The scheduled snapshots that can be read.
fn scheduled(catalog: &Catalog) -> Result<Vec<Scheduled>> {
    let all = catalog.store().snapshots()?.into_iter().filter(|s| s.is_scheduled && s.problem.is_none());
    Ok(all.map(|s| Scheduled { name: s.name, number: s.number, time: s.create_time_ns }).collect())
}

/// A snapshot that the schedule made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scheduled {
    name: SnapshotName,
    /// Its place in the order of their making; zero where an older program made it.
    number: u64,
    /// When, by the clock of then: nanoseconds since 1970.
    time: i64,
}

/// Whether it is time for a snapshot. The process's own last one decides by its `age`, which no clock can change. Before
/// there is one, the date of the last one by number does: a whole interval from now, back or ahead, one is due. Where it is
/// ahead, the clock of then or this one is wrong, and nobody knows its age.
fn is_due(scheduled: &[Scheduled], now: i64, age: Option<Duration>, interval: Duration) -> bool {
    match age {
        Some(age) => age >= interval,
        None => {
            let newest = scheduled.iter().max_by_key(|s| (s.number, s.time));
            newest.is_none_or(|newest| u128::from(now.abs_diff(newest.time)) >= interval.as_nanos())
        }
    }
}

/// Which snapshots go, so that about `keep` are left. One goes only if it is not among the last `keep` that were made,
/// and not among the last `keep` by their dates up to now either: those that were made by a wrong clock do not drive out
/// the good ones of before. Where the newest is not dated as the schedule goes, after the one before, twice as many
/// stay.
fn surplus(scheduled: &[Scheduled], now: i64, keep: usize, interval: Duration) -> Vec<Scheduled> {
    let mut by_number: Vec<&Scheduled> = scheduled.iter().collect();
    by_number.sort_by_key(|s| Reverse((s.number, s.time)));
    let is_regular = match by_number.as_slice() {
        [newest, before, ..] => newest.time.checked_sub(before.time).is_some_and(|between| {
            let (least, most) = (interval.as_nanos() / 2, interval.as_nanos().saturating_mul(REGULAR));
            u128::try_from(between).is_ok_and(|between| (least..=most).contains(&between))
        }),
        _ => true,
    };
    let keep = if is_regular { keep } else { keep.saturating_mul(2) };
    let mut by_time: Vec<&Scheduled> = by_number.iter().copied().filter(|s| s.time <= now).collect();
    by_time.sort_by_key(|s| Reverse((s.time, s.number)));
    let stay: BTreeSet<&SnapshotName> =
        by_number.iter().take(keep).chain(by_time.iter().take(keep)).map(|s| &s.name).collect();
    scheduled.iter().filter(|s| !stay.contains(&s.name)).cloned().collect()
}

/// The time by the clock, in nanoseconds since 1970.
fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A point in time of which the age can be told, whatever happens to the clock.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// By the time since the machine was started, which goes on while it sleeps; where that is told.
    uptime: Option<Duration>,
    process: Instant,
}

impl Moment {
    fn now() -> Self {
        Self { uptime: uptime(), process: Instant::now() }
    }

    fn age(&self) -> Duration {
        match (self.uptime, uptime()) {
            (Some(then), Some(now)) => now.saturating_sub(then),
            _ => self.process.elapsed(),
        }
    }
}

#[cfg(target_os = "linux")]
fn uptime() -> Option<Duration> {
    use procfs::Current;
    procfs::Uptime::current().ok().map(|uptime| uptime.uptime_duration())
}

#[cfg(not(target_os = "linux"))]
fn uptime() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    const INTERVAL: Duration = Duration::from_secs(24 * 3600);
    const KEEP: usize = 7;
    /// A day of 2026.
    const START: i64 = 56 * YEAR;

    fn at(number: u64, time: i64) -> Scheduled {
        Scheduled { name: SnapshotName::new(number.to_string()).unwrap(), number, time }
    }

    fn numbers(snapshots: &[Scheduled]) -> Vec<u64> {
        snapshots.iter().map(|s| s.number).collect()
    }

    #[test]
    fn a_snapshot_is_due_when_the_hours_are_over() {
        let due = |times: &[i64], age| {
            let made: Vec<_> = (1..).zip(times).map(|(number, time)| at(number, *time)).collect();
            is_due(&made, START, age, INTERVAL)
        };
        assert!(due(&[], None));
        assert!(!due(&[START - DAY + 1], None) && due(&[START - DAY], None));
        assert!(
            due(&[i64::MAX], None) && due(&[0], None),
            "a clock that was wrong does not end the schedule"
        );
        assert!(!due(&[0, START + HOUR], None), "a clock that was set back a little makes no more of them");
        assert!(due(&[START + HOUR, START + 2 * DAY], None), "the last one by number tells");
        let age = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert!(!due(&[0], age(23)) && due(&[START], age(24)), "its own last one counts by its age alone");
        assert!(!is_due(&[at(1, 0)], i64::MAX, None, Duration::MAX));
    }

    #[test]
    fn the_oldest_go_by_number_and_by_date() {
        let days: Vec<_> = (1..=9).map(|n| at(n, START + n as i64 * DAY)).collect();
        assert_eq!(numbers(&surplus(&days, START + 9 * DAY, KEEP, INTERVAL)), [1, 2]);
        assert!(surplus(&days[..7], START + 7 * DAY, KEEP, INTERVAL).is_empty());
        // Those of an older program have no numbers.
        let old: Vec<_> = (1..=9).map(|n| Scheduled { number: 0, ..at(n, START + n as i64 * DAY) }).collect();
        let gone = surplus(&old, START + 9 * DAY, 3, INTERVAL);
        assert_eq!(gone.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6"]);
        // One of the future takes the place of no good one, and goes when it is old by number.
        for (future, gone) in [(6, &[1][..]), (2, &[1, 2])] {
            let mut mixed = days.clone();
            mixed[future - 1].time += 10 * YEAR;
            assert_eq!(numbers(&surplus(&mixed, START + 9 * DAY, KEEP, INTERVAL)), gone);
        }
        // While the newest has such a date, twice as many stay.
        let mut mixed = days.clone();
        mixed[8].time += 10 * YEAR;
        assert!(surplus(&mixed, START + 9 * DAY + 10 * YEAR, KEEP, INTERVAL).is_empty());
        // A clock at 1970: whoever is dated later is no less good for that.
        let mut mixed = days.clone();
        mixed.push(at(10, HOUR));
        assert!(surplus(&mixed, HOUR, KEEP, INTERVAL).is_empty());
        // Fewer are wanted.
        assert_eq!(surplus(&days, START + 9 * DAY, 2, INTERVAL).len(), 7);
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Looks once a minute for so many minutes.
        Run(u16),
        Restart,
        /// The clock is off by so much from now on.
        Clock(i64),
    }

    /// A server with its schedule. Times are true ones.
    #[derive(Default)]
    struct World {
        now: i64,
        off: i64,
        own: Option<i64>,
        there: Vec<Scheduled>,
        /// Number and time of each that was made.
        made: Vec<(u64, i64)>,
        /// Number of each that went, and how many were newer.
        gone: Vec<(u64, usize)>,
    }

    impl World {
        fn new() -> Self {
            Self { now: START, ..Self::default() }
        }

        fn look(&mut self) {
            let clock = (self.now + self.off).max(0);
            let age = self.own.map(|own| Duration::from_nanos((self.now - own) as u64));
            if !is_due(&self.there, clock, age, INTERVAL) {
                return;
            }
            let number = self.made.len() as u64 + 1;
            self.own = Some(self.now);
            self.there.push(at(number, clock));
            self.made.push((number, self.now));
            for old in surplus(&self.there, clock, KEEP, INTERVAL) {
                self.there.retain(|s| s.number != old.number);
                self.gone.push((old.number, (number - old.number) as usize));
            }
        }

        fn step(&mut self, step: &Step) {
            match step {
                Step::Run(minutes) => {
                    for _ in 0..*minutes {
                        self.look();
                        self.now += HOUR / 60;
                    }
                }
                Step::Restart => self.own = None,
                Step::Clock(off) => self.off = *off,
            }
        }
    }

    fn offset() -> impl Strategy<Value = i64> {
        prop_oneof![-60 * YEAR..60 * YEAR, -10 * DAY..10 * DAY, Just(10 * YEAR), Just(-START), Just(0),]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => (1u16..3000).prop_map(Step::Run), 1 => Just(Step::Restart), 1 => offset().prop_map(Step::Clock)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the clock does, there are no more snapshots than the true time and the restarts account for, and
        /// none goes before as many newer ones are there as are kept.
        #[test]
        fn a_clock_makes_no_flood_and_drives_nothing_out(steps in prop::collection::vec(step(), 1..40)) {
            let mut world = World::new();
            steps.iter().for_each(|step| world.step(step));
            let starts = 1 + steps.iter().filter(|step| matches!(step, Step::Restart)).count();
            let regular = ((world.now - START) / DAY) as usize;
            prop_assert!(world.made.len() <= regular + starts, "{} made", world.made.len());
            prop_assert!(world.gone.iter().all(|(_, newer)| *newer >= KEEP), "{:?}", world.gone);
            prop_assert!(world.there.len() <= 4 * KEEP + 1, "{} are there", world.there.len());
        }

        /// A clock that was wrong for up to two days, with restarts in the middle, costs at most two days of before, and the
        /// schedule goes on within two intervals.
        #[test]
        fn what_was_before_a_wrong_clock_stays(
            off in offset(),
            wrong in 1u16..2880,
            before in prop::bool::ANY,
            middle in prop::collection::vec(1u16..1000, 0..4),
            after in prop::bool::ANY,
        ) {
            let mut world = World::new();
            let restart = |world: &mut World, yes: bool| if yes { world.step(&Step::Restart) };
            world.step(&Step::Run(14 * 24 * 60));
            let good = world.there.clone();
            prop_assert_eq!(good.len(), KEEP);
            restart(&mut world, before);
            world.step(&Step::Clock(off));
            for minutes in middle {
                world.step(&Step::Run(minutes));
                world.step(&Step::Restart);
            }
            world.step(&Step::Run(wrong));
            world.step(&Step::Clock(0));
            restart(&mut world, after);
            let (begin, had) = (world.now, world.made.len());
            world.step(&Step::Run(2 * 24 * 60 + 1));
            prop_assert!(world.made.len() > had, "no snapshot since the clock is right");
            // The rule of the time that has passed, and two days more.
            let days = ((begin - START) / DAY) as usize + 2 - 14;
            let left = good.iter().filter(|g| world.there.contains(g)).count();
            prop_assert!(left + days + 2 >= KEEP, "{} of {} are left after {} days", left, KEEP, days);
        }
    }
}
