//! The outbox: reports that must not be lost wait here until the platform has them, across a kill
//! of the process. apalis is the queue, on the database that `store.rs` has opened: it keeps each
//! report once, hands it to one worker at a time, and to another one seconds after a worker was
//! killed. What may be done with a report that was handed out is `tower_referral`'s word:
//! `platform::deliver`, whose journal is in the same database.
//!
//! The queue's own retries aren't used. As of apalis 1.0 a failed job comes back at once (and
//! `RetryAfterError` makes it wait for ever on SQLite, and not at all on PostgreSQL), and it is marked
//! as running by a task of its own, beside the worker that may already be sending.
//!
//! Nothing is deleted here: what is done is what a repeated webhook is recognised by. A service clears
//! it away once none can come any more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use apalis::prelude::{
    AbortError, BackendExt, BoxDynError, Data, TaskBuilder, TaskSink, TaskSinkError, WorkerBuilder,
};
use apalis_postgres::PostgresStorage;
use apalis_redis::RedisStorage;
use apalis_sqlite::SqliteStorage;
use futures_util::{Stream, stream};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, Semaphore, broadcast};
use tokio::task::JoinHandle;
use tower::Service;
use tower::util::BoxCloneSyncService;
use tower_referral_platforms::{
    Delivery, DeliveryState, Journal, Outcome, Report, ReportError, ReportService, Retries,
    TakeReports, Transport, Verdict, deliver,
};

use crate::store::{Redis, Store, StoreError};

/// The queue's name, and the space of the journal.
const REPORTS: &str = "reports";
/// The space of what a person has to look at.
const PROBLEMS: &str = "problems";

/// How long a page may wait for the platform's answer before the visitor is told `queued`.
const BUDGET: Duration = Duration::from_secs(2);
/// How often the queue is asked for reports that another process has put there.
const POLL: Duration = Duration::from_millis(500);
/// A worker that has been silent for three of these is taken for dead.
const HEARTBEAT: Duration = Duration::from_secs(1);
const MISSED_HEARTBEATS: usize = 3;
/// How many reports are sent at a time.
const SENDING: u32 = 8;
/// Between two tries when the database fails, or when an earlier report isn't through yet.
const MOMENT: Duration = Duration::from_secs(1);
/// How long Redis knows a report that it was given once: as good as ever. Without it, apalis-redis
/// 1.0 forgets at once.
const EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Whom to report to.
#[derive(Clone)]
pub(crate) struct PlatformService {
    service: BoxCloneSyncService<Report, Outcome, ReportError>,
    deduplicates: Arc<dyn Fn(&Report) -> bool + Send + Sync>,
}

impl PlatformService {
    pub(crate) fn new<P, T>(reports: ReportService<P, T>) -> Self
    where
        P: TakeReports + Send + Sync + 'static,
        T: Transport,
        ReportService<P, T>: Service<Report, Response = Outcome, Error = ReportError>,
        <ReportService<P, T> as Service<Report>>::Future: Send + 'static,
    {
        let knows = reports.clone();
        Self {
            service: BoxCloneSyncService::new(reports),
            deduplicates: Arc::new(move |report| knows.deduplicates(report)),
        }
    }

    fn delivery(&self, report: Report) -> Delivery {
        let is_deduplicated = (self.deduplicates)(&report);
        Delivery::new(report).deduplicated(is_deduplicated)
    }
}

/// What the outbox says of a report.
#[derive(Debug)]
pub(crate) enum Told {
    /// The delivery as it is now, at the end of the page's patience at the latest.
    Now(Delivery),
    /// The report had been told before, and this is what became of it.
    Before(Delivery),
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Desk>);

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

struct Desk {
    store: Store,
    /// Without one, every report is tried once, and no more until it is told again.
    queue: Option<Queue>,
    platform: PlatformService,
    retries: Retries,
    /// What has just become of a report, by its ID.
    news: broadcast::Sender<(String, Delivery)>,
    /// There is something in the queue.
    pushed: Arc<Notify>,
    /// Permits to send. Once they are all taken, nothing is sent any more.
    sending: Semaphore,
    /// The reports that this process has in hand.
    hands: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Outbox {
    /// Opens the queue in `store`, and starts to deliver what is in it.
    pub(crate) async fn open(store: Store, platform: PlatformService) -> Result<Self, StoreError> {
        let queue = Queue::open(&store).await?;
        let desk = Arc::new(Desk::new(store, Some(queue), platform, Retries::default()));
        desk.push_what_was_left().await?;
        let worker = tokio::spawn(Arc::clone(&desk).work());
        *lock(&desk.worker) = Some(worker);
        Ok(Self(desk))
    }

    /// No outbox: what fails has failed, and is told again or not at all.
    pub(crate) fn without_queue(store: Store, platform: PlatformService) -> Self {
        let at_any_time = Retries::default().first_wait(Duration::ZERO);
        let at_any_time = at_any_time.longest_wait(Duration::ZERO);
        Self(Arc::new(Desk::new(store, None, platform, at_any_time)))
    }

    pub(crate) fn has_queue(&self) -> bool {
        self.0.queue.is_some()
    }

    /// Takes a report in, and waits a moment for what the platform says.
    pub(crate) async fn report(&self, report: Report) -> Result<Told, StoreError> {
        let desk = &*self.0;
        let id = report.id();
        let mut news = desk.news.subscribe();
        let before = desk.read(&id).await?;
        if let Some((delivery, _)) = before.as_ref()
            && delivery.is_finished()
        {
            return Ok(Told::Before(delivery.clone()));
        }
        let Some(queue) = &desk.queue else {
            // It goes on if whoever asked hangs up.
            let desk = Arc::clone(&self.0);
            let told = tokio::spawn(async move {
                let in_hand = desk.take_in_hand(&id).await;
                let step = desk.next_step(&id, &report).await;
                drop(in_hand);
                desk.let_go(&id);
                step
            });
            return Ok(Told::Now(told.await??.0));
        };
        // To its end, even if whoever asked hangs up.
        let (queue, taking) = (queue.clone(), Arc::clone(&self.0));
        let name = id.clone();
        tokio::spawn(async move {
            // First, so that a sale finds its customer's sign-up, whatever happens in between.
            let _ = taking.insert(&name, report.clone()).await?;
            // Also if it is known: the process that took it in may have ended in between.
            queue.push(report, &name).await?;
            taking.pushed.notify_one();
            Ok::<_, StoreError>(())
        })
        .await??;

        let patience = tokio::time::sleep(BUDGET);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                said = news.recv() => match said {
                    Ok((about, delivery)) if about == id => return Ok(Told::Now(delivery)),
                    Ok(_) => {}
                    Err(_) => break,
                },
                () = &mut patience => break,
            }
        }
        // Another process may have delivered it.
        let (delivery, _) = desk.read(&id).await?.ok_or("the report is gone")?;
        Ok(Told::Now(delivery))
    }

    /// What is dead or undecided: for a person.
    pub(crate) async fn problems(&self) -> Result<Vec<Delivery>, StoreError> {
        let pages = self.0.store.list(PROBLEMS).await?;
        pages
            .iter()
            .map(|page| Ok(serde_json::from_str(page)?))
            .collect()
    }

    /// A person has looked at a problem, and it is to be sent again; `false` if there is none of
    /// that ID.
    pub(crate) async fn send_again(&self, id: &str) -> Result<bool, StoreError> {
        let desk = &*self.0;
        if desk.store.get(PROBLEMS, id).await?.is_none() {
            return Ok(false);
        }
        let Some((mut delivery, page)) = desk.read(id).await? else {
            return Ok(false);
        };
        delivery.send_again();
        let report = delivery.report().clone();
        // To the queue it is a new one: the old one is done with.
        let again = format!("{id} again {}", random_name());
        let waiting = serde_json::to_string(&delivery)?;
        if !desk.store.swap(REPORTS, id, &page, &waiting).await? {
            return Ok(false);
        }
        // It stays on the list until the next verdict, so that a crash at this point loses nothing.
        match &desk.queue {
            Some(queue) => queue.push(report, &again).await?,
            None => drop(desk.next_step(id, &report).await?),
        }
        desk.pushed.notify_one();
        Ok(true)
    }

    /// Lets what is being sent come to its end, and begins nothing more; `false` if the limit was
    /// too short. What waits stays in the queue for the next start.
    pub(crate) async fn close(&self, limit: Duration) -> bool {
        let all = self.0.sending.acquire_many(SENDING);
        let is_quiet = match tokio::time::timeout(limit, all).await {
            Ok(Ok(permits)) => {
                permits.forget();
                true
            }
            _ => false,
        };
        if let Some(worker) = lock(&self.0.worker).take() {
            worker.abort();
        }
        is_quiet
    }
}

impl Desk {
    fn new(
        store: Store,
        queue: Option<Queue>,
        platform: PlatformService,
        retries: Retries,
    ) -> Self {
        Self {
            store,
            queue,
            platform,
            retries,
            news: broadcast::channel(256).0,
            pushed: Arc::default(),
            sending: Semaphore::new(SENDING as usize),
            hands: Mutex::default(),
            worker: Mutex::default(),
        }
    }

    /// A process may have ended between noting a report and handing it to the queue, which knows what
    /// it has already.
    async fn push_what_was_left(&self) -> Result<(), StoreError> {
        let Some(queue) = &self.queue else {
            return Ok(());
        };
        for page in self.store.list(REPORTS).await? {
            let delivery: Delivery = serde_json::from_str(&page)?;
            if !delivery.is_finished() {
                let report = delivery.report();
                queue.push(report.clone(), &report.id()).await?;
            }
        }
        Ok(())
    }

    /// Works off the queue for as long as the process lives. A worker of apalis ends when its
    /// database fails; the next one takes over.
    async fn work(self: Arc<Self>) {
        while let Some(queue) = &self.queue {
            if let Err(error) = queue.work(&self).await {
                tracing::warn!(%error, "the queue failed, and is tried again");
            }
            tokio::time::sleep(MOMENT).await;
        }
    }

    /// Sees a report through to its end: delivers it when it is its turn, as often as it takes.
    async fn see_through(&self, report: Report) -> Delivery {
        let id = report.id();
        let in_hand = self.take_in_hand(&id).await;
        let delivery = self.until_its_end(&id, &report).await;
        drop(in_hand);
        self.let_go(&id);
        delivery
    }

    async fn until_its_end(&self, id: &str, report: &Report) -> Delivery {
        loop {
            let moment = match self.next_step(id, report).await {
                Ok((delivery, Verdict::Later(wait))) => {
                    self.tell(id, &delivery);
                    wait
                }
                Ok((delivery, _)) => {
                    self.tell(id, &delivery);
                    return delivery;
                }
                Err(error) => {
                    tracing::warn!(%error, kind = report.kind(), "a report waits for the database");
                    MOMENT
                }
            };
            tokio::time::sleep(moment).await;
        }
    }

    async fn next_step(
        &self,
        id: &str,
        report: &Report,
    ) -> Result<(Delivery, Verdict), StoreError> {
        let (mut delivery, page) = match self.read(id).await? {
            Some(known) => known,
            None => self.insert(id, report.clone()).await?,
        };
        let may_wait = self.queue.is_some() && !delivery.is_finished();
        if may_wait && self.is_before_its_turn(report).await? {
            return Ok((delivery, Verdict::Later(MOMENT)));
        }
        let _permit = self.sending.acquire().await?;
        let mut entry = Entry {
            store: &self.store,
            id,
            page,
        };
        let reports = self.platform.service.clone();
        let before = delivery.attempts();
        let verdict = deliver(&mut delivery, reports, &self.retries, &mut entry).await?;
        if delivery.attempts() > before {
            let (kind, attempts) = (report.kind(), delivery.attempts());
            tracing::info!(kind, attempts, state = ?delivery.state(), "reported");
        }
        Ok((delivery, verdict))
    }

    /// A sale waits for its customer's sign-up, a refund for its sale, until that is through or
    /// given up.
    async fn is_before_its_turn(&self, report: &Report) -> Result<bool, StoreError> {
        let Some(earlier) = report.waits_for() else {
            return Ok(false);
        };
        let earlier = self.read(&earlier).await?;
        Ok(earlier.is_some_and(|(earlier, _)| !earlier.is_finished()))
    }

    /// What is known of a report, and the page that says so.
    async fn read(&self, id: &str) -> Result<Option<(Delivery, String)>, StoreError> {
        Ok(match self.store.get(REPORTS, id).await? {
            Some(page) => Some((serde_json::from_str(&page)?, page)),
            None => None,
        })
    }

    /// Opens the page of a report, unless another has.
    async fn insert(&self, id: &str, report: Report) -> Result<(Delivery, String), StoreError> {
        let delivery = self.platform.delivery(report);
        let page = serde_json::to_string(&delivery)?;
        if self.store.insert(REPORTS, id, &page).await? {
            return Ok((delivery, page));
        }
        let known = self.read(id).await?;
        known.ok_or_else(|| "the report is gone".into())
    }

    fn tell(&self, id: &str, delivery: &Delivery) {
        // Nobody need be waiting for it.
        let _ = self.news.send((id.to_owned(), delivery.clone()));
    }

    /// One report is in one hand at a time, in this process too: a worker whose queue failed leaves
    /// what it is sending to come to its end, and the next worker is given the same report.
    async fn take_in_hand(&self, id: &str) -> OwnedMutexGuard<()> {
        let hand = {
            let mut hands = lock(&self.hands);
            if let Some(hand) = hands.get(id).and_then(Weak::upgrade) {
                hand
            } else {
                let hand = Arc::default();
                hands.insert(id.to_owned(), Arc::downgrade(&hand));
                hand
            }
        };
        hand.lock_owned().await
    }

    fn let_go(&self, id: &str) {
        let mut hands = lock(&self.hands);
        if hands.get(id).is_some_and(|hand| hand.strong_count() == 0) {
            hands.remove(id);
        }
    }
}

/// The journal's page of one report.
struct Entry<'d> {
    store: &'d Store,
    id: &'d str,
    /// As it was read or written last.
    page: String,
}

impl Journal for Entry<'_> {
    type Error = StoreError;

    async fn keep(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
        let page = serde_json::to_string(delivery)?;
        if *delivery.state() == DeliveryState::Sending {
            if !self.store.swap(REPORTS, self.id, &self.page, &page).await? {
                return Err("another process has the report in hand".into());
            }
        } else {
            // Whatever another process thinks of it meanwhile, this is what happened: it must not
            // get lost, however long the database is away.
            while let Err(error) = self.write(delivery, &page).await {
                tracing::warn!(%error, "what became of a report waits for the database");
                tokio::time::sleep(MOMENT).await;
            }
        }
        self.page = page;
        Ok(())
    }
}

impl Entry<'_> {
    async fn write(&self, delivery: &Delivery, page: &str) -> Result<(), StoreError> {
        let is_problem = matches!(
            delivery.state(),
            DeliveryState::Dead { .. } | DeliveryState::Undecided { .. }
        );
        // In this order, so that what isn't settled is on the list at every moment.
        if is_problem {
            self.store.put(PROBLEMS, self.id, page).await?;
        }
        self.store.put(REPORTS, self.id, page).await?;
        if !is_problem {
            self.store.remove(PROBLEMS, self.id).await?;
        }
        Ok(())
    }
}

/// apalis, on one of its databases.
#[derive(Clone)]
enum Queue {
    Sqlite(SqliteStorage<Report>),
    Postgres(PostgresStorage<Report>),
    Redis(RedisStorage<Report>),
}

/// The three have the same settings, of three types.
macro_rules! config {
    ($config:ty) => {
        <$config>::default()
            .queue(REPORTS)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(MISSED_HEARTBEATS)
    };
}

impl Queue {
    async fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(match store {
            Store::Sqlite(pool, _) => {
                // Not `setup`, which would switch off SQLite's care for power cuts. Processes that
                // start together are in each other's way here, and all but one find the work done.
                let mut tries = 1;
                while let Err(error) = SqliteStorage::migrations().run(pool).await {
                    if tries == 20 {
                        return Err(error.into());
                    }
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let queue = SqliteStorage::new(pool);
                Self::Sqlite(queue.with_config(config!(apalis_sqlite::Config)))
            }
            Store::Postgres(pool) => {
                PostgresStorage::setup(pool).await?;
                let queue = PostgresStorage::new(pool);
                Self::Postgres(queue.with_config(config!(apalis_postgres::Config)))
            }
            Store::Redis(Redis(redis)) => {
                let config = config!(apalis_redis::Config).idempotency_ttl(Some(EVER));
                Self::Redis(RedisStorage::new(redis.clone()).with_config(config))
            }
        })
    }

    /// Puts a report into the queue, unless it has one of that ID.
    async fn push(&self, report: Report, id: &str) -> Result<(), StoreError> {
        let task = TaskBuilder::new(report).idempotency_key(id).build();
        match self {
            Self::Sqlite(queue) => queue.clone().push_task(task).await?,
            Self::Redis(queue) => queue.clone().push_task(task).await?,
            // PostgreSQL says so where the others keep silent.
            Self::Postgres(queue) => match queue.clone().push_task(task).await {
                Err(TaskSinkError::PushError(apalis_postgres::Error::Database(
                    sqlx::Error::Database(error),
                ))) if error.is_unique_violation() => {}
                pushed => pushed?,
            },
        }
        Ok(())
    }

    /// Works for as long as the database does.
    async fn work(&self, desk: &Arc<Desk>) -> Result<(), BoxDynError> {
        // A name of its own: a worker that was killed is alive in its database's eyes for a while,
        // and its name is taken.
        macro_rules! work {
            ($queue:expr) => {
                WorkerBuilder::new(format!("storefront-{}", random_name()))
                    .backend($queue.clone().poll_with_stream(wakes(desk)))
                    .data(Arc::clone(desk))
                    .build(take_report)
                    .run()
                    .await?
            };
        }
        match self {
            Self::Sqlite(queue) => work!(queue),
            Self::Postgres(queue) => work!(queue),
            Self::Redis(queue) => work!(queue),
        }
        Ok(())
    }
}

/// What apalis calls with a report from the queue. It is over when the report's fate is known.
async fn take_report(report: Report, desk: Data<Arc<Desk>>) -> Result<(), BoxDynError> {
    // On a task of its own: a worker whose database fails drops what it has begun, and of an attempt
    // that is dropped nobody knows the end.
    let desk = Arc::clone(&desk);
    let delivery = tokio::spawn(async move { desk.see_through(report).await }).await?;
    match delivery.state() {
        // Nothing brings it back but a person.
        DeliveryState::Dead { reason } | DeliveryState::Undecided { reason } => {
            Err(AbortError::new(reason.to_string()).into())
        }
        _ => Ok(()),
    }
}

/// When to look into the queue.
fn wakes(desk: &Desk) -> impl Stream<Item = ()> + Unpin + Send + 'static {
    Box::pin(stream::unfold(Arc::clone(&desk.pushed), async |pushed| {
        tokio::select! {
            () = pushed.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
        Some(((), pushed))
    }))
}

/// Told apart from all others, in other processes too.
fn random_name() -> String {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => std::process::id().to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
