//! `ReferralLayer` and its builder: how the layer is configured.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use http::Uri;
use time::OffsetDateTime;
use tower_layer::{Layer, Stack};

use crate::clean_url::CleanUrlLayer;
use crate::click::dispatcher::ClickDispatcher;
use crate::click::{ClickCounts, Clicks};
use crate::clock::{HAS_SYSTEM_CLOCK, system_now, to_unix_millis};
use crate::config::{Config, OriginalUri, Skip};
use crate::consent::{Consent, ConsentRules};
use crate::error::ConfigError;
use crate::program::Program;
use crate::query::FirstBytes;
use crate::request::RequestRef;
use crate::runtime::{FillRandom, Now, Runtime, Spawner, Timer};
use crate::service::ReferralService;
use crate::stand_down::PathPrefix;
use crate::storage::Storage;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
use crate::{referral::Referral, store::backend::StoreUnavailable, visitor::VisitorId};

/// The layer that captures, keeps and hands over referrals.
///
/// Put it around the whole application, outside the handlers that extract
/// [`ReferralKey`](crate::ReferralKey) and inside anything that changes cookies or the URL. One
/// layer per application: where two are stacked, the outer one does the work and the inner one passes
/// everything on.
#[derive(Clone)]
pub struct ReferralLayer {
    pub(crate) config: Arc<Config>,
}

impl ReferralLayer {
    /// Creates a builder. By default the layer reads `?aff=` and `?ref=`, the last touch counts, for 30
    /// days.
    pub fn builder(storage: impl Into<Storage>) -> ReferralLayerBuilder {
        ReferralLayerBuilder {
            storage: storage.into(),
            programs: Vec::new(),
            consent: ConsentRules::default(),
            clicks: None,
            skip: None,
            stand_down: Vec::new(),
            original_uri: None,
            clock: None,
            random: None,
            spawner: None,
            timer: None,
        }
    }

    /// Returns this layer with a redirect of every captured landing to the same URL without our
    /// parameters, so that visitors don't bookmark and share a partner's link: see [`CleanUrlLayer`],
    /// which can also stand in another position. It isn't for clicks at the capture endpoint, which need the
    /// parameter.
    ///
    /// ```
    /// # use tower_referral::{Keyring, ReferralLayer, SigningKey};
    /// # let keyring = Keyring::new(SigningKey::generate("local")?);
    /// let referrals = ReferralLayer::builder(keyring).build()?.with_clean_url();
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_clean_url(self) -> Stack<CleanUrlLayer, Self> {
        Stack::new(CleanUrlLayer::new(), self)
    }

    /// Returns how many clicks were started, created, failed and dropped since the layer was built.
    #[must_use]
    pub fn click_counts(&self) -> ClickCounts {
        self.config
            .clicks
            .as_ref()
            .map(ClickDispatcher::counts)
            .unwrap_or_default()
    }

    /// Waits for the clicks in flight and for what is done with late ones, at most for `limit`: for a graceful
    /// shutdown, after the server has stopped taking requests. Returns `true` if all of it was over by then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_referral::ReferralLayer;
    ///
    /// # async fn shut_down(referrals: ReferralLayer) {
    /// // axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    /// if !referrals.drain_clicks(Duration::from_secs(5)).await {
    ///     let counts = referrals.click_counts();
    ///     eprintln!("of {} clicks, {} were created in time", counts.started, counts.created);
    /// }
    /// # }
    /// ```
    pub async fn drain_clicks(&self, limit: Duration) -> bool {
        match &self.config.clicks {
            None => true,
            Some(clicks) => {
                let drained = self.config.runtime.timeout(limit, clicks.drain());
                drained.await.is_some()
            }
        }
    }
}

/// For referrals that are kept on the server, by `ServerSide`. With any other storage there is nothing
/// under a visitor's ID.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl ReferralLayer {
    /// Deletes what is kept under a visitor's ID, for requests for erasure that come without the
    /// visitor's browser. An unknown ID is not an error.
    ///
    /// A late click ID that this process is writing doesn't bring the record back. A request of the visitor's
    /// that is being answered at the same moment can, and so can another server's late click ID, in a store
    /// that creates what it is to save. They are over within the click's and the store's timeouts: erasing once
    /// more after that is certain.
    ///
    /// Store the ID with the sign-up:
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use tower_referral::Referrals;
    ///
    /// async fn sign_up(referrals: Referrals) {
    ///     for visitor in referrals.visitor_ids() {
    ///         let column: String = visitor.to_string(); // in the new customer's row
    ///         // … and later: referrals.erase(column.parse()?).await?
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The store didn't answer, or not within its timeout. It may have deleted the record all
    /// the same; deleting it again does no harm.
    pub async fn erase(&self, visitor: VisitorId) -> Result<(), StoreUnavailable> {
        match &self.config.records {
            None => Ok(()),
            Some(records) => records.erase(visitor).await.map_err(StoreUnavailable),
        }
    }

    /// Returns the referral that is kept under a visitor's ID: for a job that runs later, or for a sign-up
    /// whose referral couldn't be read because the store was down.
    ///
    /// ```
    /// use tower_referral::{ReferralLayer, StoreUnavailable, VisitorId};
    ///
    /// /// Later, with the ID of the customer's row.
    /// async fn credit(layer: &ReferralLayer, visitor: VisitorId) -> Result<(), StoreUnavailable> {
    ///     if let Some(referral) = layer.look_up(visitor).await? {
    ///         println!("{:?} is to be credited", referral.key().map(|key| key.as_str()));
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The store didn't answer, or not within its timeout.
    pub async fn look_up(&self, visitor: VisitorId) -> Result<Option<Referral>, StoreUnavailable> {
        match &self.config.records {
            None => Ok(None),
            Some(records) => records
                .look_up(visitor, &self.config.programs, self.config.now())
                .await
                .map(|found| found.map(Arc::unwrap_or_clone))
                .map_err(StoreUnavailable),
        }
    }
}

impl<S> Layer<S> for ReferralLayer {
    type Service = ReferralService<S>;

    fn layer(&self, inner: S) -> ReferralService<S> {
        ReferralService::new(inner, Arc::clone(&self.config))
    }
}

impl fmt::Debug for ReferralLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferralLayer")
            .field("programs", &self.config.programs)
            .finish_non_exhaustive()
    }
}

/// The configuration of a [`ReferralLayer`]; every method sets one thing.
///
/// ```
/// use std::time::Duration;
/// use tower_referral::{Attribution, Consent, Keyring, Program, ReferralLayer, SignedCookie, SigningKey};
///
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let referrals = ReferralLayer::builder(SignedCookie::new(keyring).domain("example.com"))
///     .program(Program::new("partners").params(["aff", "via"]).attribution(Attribution::FirstTouch))
///     .program(Program::new("friends").params(["ref"]).window(Duration::from_secs(14 * 86_400)))
///     .consent(|request| match request.headers().get("x-consent") {
///         Some(value) if value == "yes" => Consent::Granted,
///         Some(_) => Consent::Denied,
///         None => Consent::Unknown,
///     })
///     .skip(|request| request.uri().path().starts_with("/admin"))
///     .stand_down("/checkout")
///     .build()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a configuration does nothing until `build` makes a layer of it"]
pub struct ReferralLayerBuilder {
    storage: Storage,
    programs: Vec<Program>,
    consent: ConsentRules,
    clicks: Option<Clicks>,
    skip: Option<Skip>,
    stand_down: Vec<String>,
    original_uri: Option<OriginalUri>,
    clock: Option<Now>,
    random: Option<FillRandom>,
    spawner: Option<Spawner>,
    timer: Option<Timer>,
}

impl ReferralLayerBuilder {
    /// Adds a program. With several, their order decides which one the extractors
    /// [`ReferralKey`](crate::ReferralKey) and [`Referral`](crate::Referral) look at first.
    ///
    /// Without any, there is [`Program::default`]: `aff`, then `ref`, last touch, 30 days.
    pub fn program(mut self, program: Program) -> Self {
        self.programs.push(program);
        self
    }

    /// Sets the requests that the layer leaves untouched, for instance an admin area or static files:
    /// nothing is captured, nothing is forgotten and no header changes.
    ///
    /// What is kept stays readable there, and a handler's command ([`Capture`](crate::Capture),
    /// [`Forget`](crate::Forget)) still counts.
    pub fn skip(mut self, skip: impl Fn(RequestRef<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.skip = Some(Box::new(skip));
        self
    }

    /// Adds a path where a landing never overwrites what is kept, by whole segments: `/checkout` is
    /// `/checkout` and everything below, in any spelling that a router might accept. A landing there fills
    /// an empty slot. Any number of them.
    ///
    /// List your checkout, so that coupon sites can't claim the sale with a last click.
    #[doc(alias("last click", "coupon"))]
    pub fn stand_down(mut self, path: impl Into<String>) -> Self {
        self.stand_down.push(path.into());
        self
    }

    /// Sets how the visitor's consent is read, usually from the cookie of a consent banner. Without
    /// this, capture goes ahead: mind the law where you are. A program can have a rule of its own
    /// ([`Program::consent`]).
    ///
    /// It is called on every request, so it must be quick and must not block.
    pub fn consent(
        mut self,
        consent: impl Fn(RequestRef<'_>) -> Consent + Send + Sync + 'static,
    ) -> Self {
        self.consent.hook = Some(Arc::new(consent));
        self
    }

    /// Creates a click at the affiliate platform for every landing that wins.
    pub fn clicks(mut self, clicks: Clicks) -> Self {
        self.clicks = Some(clicks);
        self
    }

    /// Honours [Global Privacy Control]: with `Sec-GPC: 1`, nothing is captured, and what is kept
    /// is forgotten. It overrides any consent.
    ///
    /// [Global Privacy Control]: https://www.w3.org/TR/gpc/
    #[doc(alias("gpc"))]
    pub fn global_privacy_control(mut self) -> Self {
        self.consent.global_privacy_control = true;
        self
    }

    /// Honours `DNT: 1` in the same way as
    /// [`global_privacy_control`](Self::global_privacy_control).
    #[doc(alias("dnt"))]
    pub fn do_not_track(mut self) -> Self {
        self.consent.do_not_track = true;
        self
    }

    /// Sets where the URI can be found as the browser sees it, whole and with its query, if something outside
    /// the layer rewrites it. Landing pages, stand-down paths, links of the own site and clean URLs go by this
    /// one. Where it has no host, the request's counts; without a query there is no redirect to a clean URL.
    ///
    /// Inside an axum router that is nested in another, that is axum's `OriginalUri`:
    ///
    /// ```
    /// # use tower_referral::{Keyring, ReferralLayer, SigningKey};
    /// # let keyring = Keyring::new(SigningKey::generate("local")?);
    /// use axum::extract::OriginalUri;
    ///
    /// let referrals = ReferralLayer::builder(keyring)
    ///     .original_uri(|request| request.extensions().get::<OriginalUri>().map(|uri| &uri.0))
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn original_uri(
        mut self,
        original_uri: impl for<'a> Fn(RequestRef<'a>) -> Option<&'a Uri> + Send + Sync + 'static,
    ) -> Self {
        self.original_uri = Some(Box::new(original_uri));
        self
    }

    /// Sets the clock, for tests and for targets without one. The system's by default; on
    /// `wasm32-unknown-unknown` JavaScript's, with the feature `wasm`.
    ///
    /// A record on the server ends by this clock, while a store looks at the system's: with one that is far
    /// behind it, records end early.
    pub fn clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(move || to_unix_millis(now())));
        self
    }

    /// Sets the source of randomness: it fills the bytes and returns `true`, or returns `false` where it
    /// can't. The operating system's by default. It must be a cryptographic one: visitor IDs are drawn by
    /// it.
    pub fn random_source(
        mut self,
        fill: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.random = Some(Arc::new(fill));
        self
    }

    /// Sets what runs the tasks that go on apart from a request: the calls that create clicks, what writes
    /// a late click ID to a record, and the deletion of expired records, which never ends. Without it they
    /// are spawned on the Tokio runtime of the request.
    ///
    /// A [`Spawner`] in a request's extensions comes before it. Where there is neither that nor a runtime,
    /// a click isn't started: that is counted and logged, and the click is tried again at the visitor's
    /// next page view.
    ///
    /// ```
    /// # use tower_referral::{Keyring, ReferralLayer, SigningKey};
    /// # let keyring = Keyring::new(SigningKey::generate("local")?);
    /// # mod smol { pub fn spawn(task: impl Future) {} }
    /// let referrals = ReferralLayer::builder(keyring)
    ///     .spawner(|task| drop(smol::spawn(task)))
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawner(
        mut self,
        spawn: impl Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
    ) -> Self {
        self.spawner = Some(Spawner::new(spawn));
        self
    }

    /// Sets what measures timeouts: a function that returns a future which ends after that time. Tokio's
    /// timer by default, where there is a runtime with one.
    ///
    /// Where there is neither, no response waits for a click, a call that creates one runs without a
    /// timeout, and a store counts as down.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_referral::{Keyring, ReferralLayer, SigningKey};
    /// # let keyring = Keyring::new(SigningKey::generate("local")?);
    /// # async fn sleep(duration: Duration) {}
    /// let referrals = ReferralLayer::builder(keyring)
    ///     .timer(|duration| sleep(duration)) // any async function
    ///     .build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn timer<F>(mut self, sleep: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.timer = Some(Arc::new(move |duration| Box::pin(sleep(duration))));
        self
    }

    /// Checks the configuration and creates the layer.
    ///
    /// # Errors
    ///
    /// The configuration can't work; the error says how to fix it.
    pub fn build(self) -> Result<ReferralLayer, ConfigError> {
        let mut programs = self.programs;
        if programs.is_empty() {
            programs.push(Program::default());
        }
        check_programs(&programs)?;
        if let Some(path) = self.stand_down.iter().find(|path| !path.starts_with('/')) {
            return Err(ConfigError::InvalidStandDown { path: path.clone() });
        }
        let now = match self.clock {
            Some(clock) => clock,
            None if HAS_SYSTEM_CLOCK => Arc::new(system_now),
            None => return Err(ConfigError::NoClock),
        };
        let fill_random = self
            .random
            .unwrap_or_else(|| Arc::new(|bytes| getrandom::fill(bytes).is_ok()));
        let runtime = Runtime {
            now,
            fill_random,
            spawner: self.spawner,
            timer: self.timer,
        };
        let has_fallback = programs.iter().any(|p| !p.fallback_cookies.is_empty());
        let asks_consent =
            self.consent.is_asked() || programs.iter().any(|program| program.consent.is_some());
        let session_copies = self.storage.session_copies();
        let clicks = self.clicks.map(|clicks| clicks.prepare(&runtime));
        let records = self.storage.records(&programs, &runtime)?;
        Ok(ReferralLayer {
            config: Arc::new(Config {
                cookies: self
                    .storage
                    .cookie()
                    .prepare(&programs, records.is_some())?,
                domain: self.storage.cookie().domain_name().map(ToString::to_string),
                records,
                clicks: clicks.transpose()?,
                skip: self.skip,
                stand_down: self
                    .stand_down
                    .iter()
                    .map(|path| PathPrefix::new(path))
                    .collect(),
                original_uri: self.original_uri,
                runtime,
                has_fallback,
                looks_at_all: has_fallback || session_copies.is_some(),
                asks_consent,
                session_copies,
                consent: self.consent,
                first_bytes: FirstBytes::of(&programs),
                programs,
            }),
        })
    }
}

fn check_programs(programs: &[Program]) -> Result<(), ConfigError> {
    for (at, program) in programs.iter().enumerate() {
        program.check()?;
        for other in &programs[..at] {
            if other.name == program.name {
                return Err(ConfigError::DuplicateProgram {
                    name: program.name.to_string(),
                });
            }
            let mut names = program.landing_params();
            if let Some(name) = names.find(|name| other.landing_params().any(|it| it == *name)) {
                return Err(ConfigError::DuplicateParam {
                    name: name.to_string(),
                });
            }
        }
    }
    Ok(())
}

impl fmt::Debug for ReferralLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferralLayerBuilder")
            .field("storage", &self.storage)
            .field("programs", &self.programs)
            .field("stand_down", &self.stand_down)
            .finish_non_exhaustive()
    }
}
