//! `ReferralLayer` and its builder: how the crate is configured. Cheap to clone.

use std::{fmt, sync::Arc, time::Duration};

use http::Uri;
use time::OffsetDateTime;
use tower_layer::Layer;

use crate::click::{ClickCounts, Clicker, Clicks};
use crate::config::{Clock, Config, OriginalUri, Skip};
use crate::consent::{Consent, ConsentRules};
use crate::error::ConfigError;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
use crate::error::StoreUnavailable;
use crate::keep::Keep;
use crate::landing::FirstBytes;
use crate::program::Program;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
use crate::referral::Referral;
use crate::request::RequestRef;
use crate::service::ReferralService;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
use crate::visitor::VisitorId;

/// The layer that captures, keeps and hands over referrals.
///
/// Put it around the whole application, outside the handlers that extract
/// [`ReferralKey`](crate::ReferralKey) and inside anything that changes cookies or the URL. One
/// layer per application: where two are stacked, the outer one does the work and the inner one
/// steps aside.
#[derive(Clone)]
pub struct ReferralLayer {
    pub(crate) config: Arc<Config>,
}

impl ReferralLayer {
    /// Starts a configuration. Without any further word the layer reads `?aff=` and `?ref=`, the
    /// last touch counts, for 30 days.
    pub fn builder(keep: impl Into<Keep>) -> Builder {
        Builder {
            keep: keep.into(),
            programs: Vec::new(),
            consent: ConsentRules::default(),
            clicks: None,
            skip: None,
            stand_down: Vec::new(),
            clean_url: false,
            original_uri: None,
            clock: None,
        }
    }

    /// How many clicks were started, created, failed and dropped since the layer was built.
    #[must_use]
    pub fn click_counts(&self) -> ClickCounts {
        self.config
            .clicks
            .as_ref()
            .map(Clicker::counts)
            .unwrap_or_default()
    }

    /// Waits for the clicks in flight, at most for `limit`: for a graceful shutdown, after the
    /// server has stopped taking requests. Says whether all of them were over by then.
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
            Some(clicker) => clicker.drain(limit).await,
        }
    }
}

/// Where referrals are kept on the server, by `ServerSide`. Anywhere else there is nothing under a
/// visitor's ID.
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl ReferralLayer {
    /// Deletes what is kept under a visitor's ID, for requests to be forgotten that come without the
    /// visitor's browser. What is not there is as good as deleted.
    ///
    /// Note the ID where you note the sign-up:
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use tower_referral::Referrals;
    ///
    /// async fn sign_up(referrals: Referrals) {
    ///     for visitor in referrals.visitor_ids() {
    ///         let column: String = visitor.to_string(); // beside the new customer's row
    ///         // … and later: referrals.erase(column.parse()?).await?
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The store didn't answer, or not within its time limit. It may have deleted the record all
    /// the same; deleting it again does no harm.
    pub async fn erase(&self, visitor: VisitorId) -> Result<(), StoreUnavailable> {
        match &self.config.records {
            None => Ok(()),
            Some(records) => records.erase(visitor).await.map_err(StoreUnavailable),
        }
    }

    /// The referral that is kept under a visitor's ID: for a job that runs later, or for a sign-up
    /// that couldn't be told of its referral because the store was down.
    ///
    /// ```
    /// use tower_referral::{ReferralLayer, StoreUnavailable, VisitorId};
    ///
    /// /// Later, with the ID that was noted beside the new customer's row.
    /// async fn credit(layer: &ReferralLayer, visitor: VisitorId) -> Result<(), StoreUnavailable> {
    ///     if let Some(referral) = layer.look_up(visitor).await? {
    ///         println!("{} is to be credited", referral.key());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The store didn't answer, or not within its time limit.
    pub async fn look_up(&self, visitor: VisitorId) -> Result<Option<Referral>, StoreUnavailable> {
        match &self.config.records {
            None => Ok(None),
            Some(records) => records
                .look_up(&self.config, visitor)
                .await
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
/// use time::Duration;
/// use tower_referral::{Attribution, Consent, Keyring, Program, ReferralLayer, SignedCookie, SigningKey};
///
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let referrals = ReferralLayer::builder(SignedCookie::new(keyring).domain("example.com"))
///     .program(Program::new("partners").params(["aff", "via"]).attribution(Attribution::FirstTouch))
///     .program(Program::new("friends").params(["ref"]).window(Duration::days(14)))
///     .consent(|request| match request.headers().get("x-consent") {
///         Some(value) if value == "yes" => Consent::Granted,
///         Some(_) => Consent::Denied,
///         None => Consent::Unknown,
///     })
///     .skip(|request| request.uri().path().starts_with("/admin"))
///     .stand_down("/checkout")
///     .clean_url()
///     .build()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a configuration does nothing until `build` makes a layer of it"]
pub struct Builder {
    keep: Keep,
    programs: Vec<Program>,
    consent: ConsentRules,
    clicks: Option<Clicks>,
    skip: Option<Skip>,
    stand_down: Vec<String>,
    clean_url: bool,
    original_uri: Option<OriginalUri>,
    clock: Option<Clock>,
}

impl Builder {
    /// Adds a program. With several, their order decides which one the extractors
    /// [`ReferralKey`](crate::ReferralKey) and [`Referral`](crate::Referral) look at first.
    ///
    /// Without any, there is [`Program::default`]: `aff`, then `ref`, last touch, 30 days.
    pub fn program(mut self, program: Program) -> Self {
        self.programs.push(program);
        self
    }

    /// Requests on which nothing is captured, for instance an admin area.
    ///
    /// What is kept stays readable there, unless the visitor refuses consent, and a handler's own
    /// word ([`Capture`](crate::Capture), [`Forget`](crate::Forget)) still counts.
    pub fn skip(mut self, skip: impl Fn(RequestRef<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.skip = Some(Box::new(skip));
        self
    }

    /// A path where a landing never overwrites what is kept, by whole segments: `/checkout` is
    /// `/checkout` and everything below. It fills an empty slot. Any number of them.
    ///
    /// Name your till here, so that no coupon site takes the credit at the last click.
    pub fn stand_down(mut self, path: impl Into<String>) -> Self {
        self.stand_down.push(path.into());
        self
    }

    /// What the visitor said about being remembered, usually read from the cookie of a consent
    /// banner. Without this, capture goes ahead: mind the law where you are.
    ///
    /// It is asked on every request, so it must be quick and must not block.
    pub fn consent(
        mut self,
        consent: impl Fn(RequestRef<'_>) -> Consent + Send + Sync + 'static,
    ) -> Self {
        self.consent.hook = Some(Box::new(consent));
        self
    }

    /// Creates a click at the affiliate platform for every landing that wins.
    pub fn clicks(mut self, clicks: Clicks) -> Self {
        self.clicks = Some(clicks);
        self
    }

    /// Honours [Global Privacy Control]: with `Sec-GPC: 1`, nothing is captured, and what is kept
    /// is forgotten. It weighs more than any consent.
    ///
    /// [Global Privacy Control]: https://www.w3.org/TR/gpc/
    pub fn global_privacy_control(mut self) -> Self {
        self.consent.global_privacy_control = true;
        self
    }

    /// Honours `DNT: 1` in the same way as
    /// [`global_privacy_control`](Self::global_privacy_control).
    pub fn do_not_track(mut self) -> Self {
        self.consent.do_not_track = true;
        self
    }

    /// After a landing whose referral is kept, redirects the browser to the same URL without our
    /// parameters, so that visitors don't bookmark and share a partner's link unawares.
    ///
    /// The handler runs first. If it answers with a 2xx, the answer's status becomes `303 See
    /// Other`, with a `Location` of the same path and query without our parameters; its body
    /// stays, and browsers ignore it. Where the visitor refuses cookies there is no loop, because
    /// the new URL has no parameter left to capture. A path that a browser could take for another
    /// host (`//host`) isn't redirected.
    pub fn clean_url(mut self) -> Self {
        self.clean_url = true;
        self
    }

    /// Where the URI can be found as the browser sees it, if something outside the layer rewrites
    /// it. Landing pages, stand-down paths and [`clean_url`](Self::clean_url) go by this one.
    ///
    /// Inside an axum router that is nested in another, that is axum's `OriginalUri`:
    ///
    /// ```
    /// # use tower_referral::{Keyring, ReferralLayer, SignedCookie, SigningKey};
    /// # let cookie = SignedCookie::new(Keyring::new(SigningKey::generate("local")?));
    /// use axum::extract::OriginalUri;
    ///
    /// let referrals = ReferralLayer::builder(cookie)
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

    /// The clock to go by, for tests. The system's by default.
    pub fn clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.clock = Some(Box::new(now));
        self
    }

    /// Checks the configuration and makes the layer.
    ///
    /// # Errors
    ///
    /// A configuration that can't work; the error says what to mend.
    pub fn build(self) -> Result<ReferralLayer, ConfigError> {
        let mut programs = self.programs;
        if programs.is_empty() {
            programs.push(Program::default());
        }
        check_programs(&programs)?;
        if let Some(path) = self.stand_down.iter().find(|path| !path.starts_with('/')) {
            return Err(ConfigError::InvalidStandDown { path: path.clone() });
        }
        let keeper = self.keep.prepare(&programs)?;
        let has_fallback = programs.iter().any(|p| !p.fallback_cookies.is_empty());
        Ok(ReferralLayer {
            config: Arc::new(Config {
                cookies: keeper.cookies,
                records: keeper.records,
                clicks: self.clicks.map(Clicks::prepare).transpose()?,
                skip: self.skip,
                stand_down: self.stand_down,
                clean_url: self.clean_url,
                original_uri: self.original_uri,
                clock: self.clock,
                has_fallback,
                looks_further: has_fallback || keeper.mirror.is_some() || self.consent.is_asked(),
                mirror: keeper.mirror,
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
            if let Some(name) = program
                .params
                .iter()
                .find(|name| other.params.contains(name))
            {
                return Err(ConfigError::DuplicateParam {
                    name: name.to_string(),
                });
            }
        }
    }
    Ok(())
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("keep", &self.keep)
            .field("programs", &self.programs)
            .field("stand_down", &self.stand_down)
            .field("clean_url", &self.clean_url)
            .finish_non_exhaustive()
    }
}
