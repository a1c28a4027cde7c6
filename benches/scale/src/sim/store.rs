//! One store of records for each region, written to the others after a lag, which fails, hangs, takes no
//! writes, and loses in a failover what the others don't have yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use time::OffsetDateTime;
use tower_sessions_core::SessionStore;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Error, Result};

use super::clock::{Clock, SECOND};
use super::peaks::PerSecond;

/// What a region's store does at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Up,
    ReadOnly,
    Failing,
    Hanging,
}

impl Mode {
    pub(crate) fn can_read(self) -> bool {
        matches!(self, Self::Up | Self::ReadOnly)
    }
}

/// What a region has under an ID; `None` is a deletion, which has to win over older writes.
#[derive(Clone, Debug)]
struct Version {
    written_at: (i64, u64),
    record: Option<Arc<Record>>,
}

#[derive(Debug)]
struct OnItsWay {
    due: i64,
    from: usize,
    id: i128,
    version: Version,
}

#[derive(Debug)]
struct Regions {
    clock: Clock,
    lag: i64,
    modes: Vec<Mode>,
    records: Vec<HashMap<i128, Version>>,
    /// In the order of their writes.
    on_their_way: VecDeque<OnItsWay>,
    writes: u64,
    operations: PerSecond,
    total: u64,
}

/// The stores of all regions.
#[derive(Clone, Debug)]
pub(crate) struct Stores(Arc<Mutex<Regions>>);

/// One region's.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    all: Stores,
    region: usize,
}

impl Stores {
    pub(crate) fn new(clock: Clock, regions: usize, lag: i64) -> Self {
        Self(Arc::new(Mutex::new(Regions {
            clock,
            lag,
            modes: vec![Mode::Up; regions],
            records: vec![HashMap::new(); regions],
            on_their_way: VecDeque::new(),
            writes: 0,
            operations: PerSecond::default(),
            total: 0,
        })))
    }

    pub(crate) fn of(&self, region: usize) -> Store {
        Store {
            all: self.clone(),
            region,
        }
    }

    fn open(&self) -> MutexGuard<'_, Regions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mode(&self, region: usize) -> Mode {
        self.open().modes[region]
    }

    pub(crate) fn set_mode(&self, region: usize, mode: Mode) {
        self.open().modes[region] = mode;
    }

    /// Makes another region's copy the one of this region, as when a replica is promoted: what was
    /// written here and didn't get there yet is lost.
    pub(crate) fn fail_over(&self, region: usize) {
        let mut regions = self.open();
        regions.replicate();
        let other = (region + 1) % regions.records.len();
        let (lost, kept) = std::mem::take(&mut regions.on_their_way)
            .into_iter()
            .partition::<VecDeque<_>, _>(|one| one.from == region);
        regions.on_their_way = kept;
        for one in lost {
            let version = regions.records[other].get(&one.id).cloned();
            match version {
                Some(version) => regions.records[region].insert(one.id, version),
                None => regions.records[region].remove(&one.id),
            };
        }
    }

    /// Drops what has expired, and deletions that nothing can overtake any more.
    pub(crate) fn purge(&self) {
        let mut regions = self.open();
        regions.replicate();
        let now = regions.clock.now();
        let (today, oldest) = (regions.clock.skewed(0), now - 3600 * SECOND);
        for records in &mut regions.records {
            records.retain(|_, version| match &version.record {
                Some(record) => record.expiry_date > today,
                None => version.written_at.0 > oldest,
            });
        }
    }

    /// Returns the records in the fullest region, the most operations in a second, and all operations.
    pub(crate) fn counts(&self) -> (usize, u64, u64) {
        let regions = self.open();
        let records = regions.records.iter().map(HashMap::len).max();
        (
            records.unwrap_or_default(),
            regions.operations.most(),
            regions.total,
        )
    }
}

impl Regions {
    /// Brings what is due to the other regions; the later write wins.
    fn replicate(&mut self) {
        let now = self.clock.now();
        while self.on_their_way.front().is_some_and(|one| one.due <= now)
            && let Some(one) = self.on_their_way.pop_front()
        {
            for (region, records) in self.records.iter_mut().enumerate() {
                let is_newer = records
                    .get(&one.id)
                    .is_none_or(|kept| kept.written_at < one.version.written_at);
                if region != one.from && is_newer {
                    records.insert(one.id, one.version.clone());
                }
            }
        }
    }

    fn write(&mut self, region: usize, id: i128, record: Option<Arc<Record>>) {
        self.replicate();
        self.writes += 1;
        let written_at = (self.clock.now(), self.writes);
        let version = Version { written_at, record };
        self.records[region].insert(id, version.clone());
        self.on_their_way.push_back(OnItsWay {
            due: written_at.0 + self.lag,
            from: region,
            id,
            version,
        });
    }
}

impl Store {
    /// Answers as the region's store does now, after having counted the call.
    async fn ask(&self, is_write: bool) -> Result<MutexGuard<'_, Regions>> {
        let mode = {
            let mut regions = self.all.open();
            let now = regions.clock.now();
            regions.operations.count(now);
            regions.total += 1;
            regions.modes[self.region]
        };
        match mode {
            Mode::Hanging => std::future::pending().await,
            Mode::Failing => return Err(Error::Backend("the store is away".to_owned())),
            Mode::ReadOnly if is_write => {
                return Err(Error::Backend("the store takes no writes".to_owned()));
            }
            Mode::ReadOnly | Mode::Up => {}
        }
        Ok(self.all.open())
    }

    async fn write(&self, id: Id, record: Option<&Record>) -> Result<()> {
        let mut regions = self.ask(true).await?;
        let mut record = record.cloned();
        if let Some(record) = &mut record {
            // The layer dates a record's end by the real time, for stores that go by it; this one goes by
            // the simulated time.
            let left = record.expiry_date - OffsetDateTime::now_utc();
            let left = time::Duration::seconds(left.as_seconds_f64().round() as i64);
            record.expiry_date = regions.clock.skewed(0) + left;
        }
        regions.write(self.region, id.0, record.map(Arc::new));
        Ok(())
    }
}

#[async_trait]
impl SessionStore for Store {
    async fn create(&self, record: &mut Record) -> Result<()> {
        let taken = {
            let regions = self.all.open();
            let version = regions.records[self.region].get(&record.id.0);
            version.is_some_and(|version| version.record.is_some())
        };
        if taken {
            record.id = Id(record.id.0.wrapping_add(1));
        }
        self.write(record.id, Some(record)).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.write(record.id, Some(record)).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let mut regions = self.ask(false).await?;
        regions.replicate();
        let now = regions.clock.skewed(0);
        let record = regions.records[self.region].get(&id.0);
        let record = record.and_then(|version| version.record.as_deref());
        Ok(record.filter(|record| record.expiry_date > now).cloned())
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.write(*id, None).await
    }
}
