//! The affiliate platform: one client for each, and in one type what the shop does with all of them.
//! A shop has one platform, and of this file one line.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tower::Service;
use tower::util::BoxCloneSyncService;
use tower_referral::click::Clicks;
use tower_referral_outbox::Deduplicates;
use tower_referral_platforms::affiliate::postback::Body;
use tower_referral_platforms::{
    Affonso, Awin, Batch, ClickApi, Client, ConfigError, Dub, Error, FirstPromoter, Https, Outcome,
    Partnac, Partnero, PartneroFriends, PlatformId, PlatformIds, Postback, Receipt, Report,
    ReportApi, ReportError, ReportRequest, Step, Tapfiliate, Tolt,
};

use crate::options::{self, Options};
use crate::sandbox::Sandbox;

/// The platform that the shop reports to.
#[derive(Clone)]
pub(crate) struct Platform {
    kind: options::Platform,
    /// Takes the reports.
    pub(crate) reports: Reports,
    /// Takes landings from the shop's server, too.
    pub(crate) has_clicks: bool,
    /// Shows customers what their friends have earned them.
    pub(crate) friends: Option<Friends>,
    forecast: Arc<dyn Fn(&Report) -> Forecast + Send + Sync>,
    check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), Error>> + Send + Sync>,
}

/// A platform, and what sends it the landings where it takes these from a server.
pub(crate) type Connection = (Platform, Option<Clicks>);

pub(crate) type Friends = Client<PartneroFriends, Https>;

/// What is known of a report before the platform has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forecast {
    /// Nothing: it depends on the platform.
    Open,
    /// Nobody will be credited, and nothing is sent.
    NotAttributed,
    /// The platform's interface can't take it, for this reason.
    Refused(String),
}

impl Platform {
    /// Connects to the platform that the options name, or to the sandbox that stands in for it;
    /// `None` if they name none. Where the platform takes landings from a server, the second part
    /// sends them.
    pub(crate) fn connect(
        options: &Options,
        sandbox: Option<&Sandbox>,
    ) -> Result<Option<Connection>, ConfigError> {
        let url = sandbox.map(|sandbox| &sandbox.platform_url);
        let Some(url) = options.platform_url.as_ref().or(url) else {
            return Ok(None);
        };
        let (kind, api_key) = (options.platform, &options.api_key);
        let (platform, clicks) = match kind {
            options::Platform::None => return Ok(None),
            options::Platform::Partnac => {
                Self::with_clicks(kind, Partnac::new(api_key)?.base_url(url)?)
            }
            options::Platform::Tapfiliate => {
                Self::with_clicks(kind, Tapfiliate::new(api_key)?.base_url(url)?)
            }
            options::Platform::Affonso => Self::with_clicks(
                kind,
                Affonso::new(api_key, &options.program_id)?.base_url(url)?,
            ),
            options::Platform::Tolt => {
                let tolt = Tolt::new(api_key)?.base_url(url)?;
                // Partners' links have the parameter that the shop reads first.
                let param = options.params.first().cloned();
                let tolt = param.into_iter().fold(tolt, Tolt::param);
                Self::with_clicks(kind, tolt)
            }
            options::Platform::Partnero => {
                Self::without_clicks(kind, Partnero::new(api_key)?.base_url(url)?)
            }
            options::Platform::PartneroFriends => {
                let friends = PartneroFriends::new(api_key)?.base_url(url)?;
                let platform = Self {
                    friends: Some(Client::new(friends.clone(), Https::new())),
                    ..Self::new(kind, friends)
                };
                (platform, None)
            }
            options::Platform::Dub => Self::without_clicks(kind, Dub::new(api_key)?.base_url(url)?),
            options::Platform::Firstpromoter => Self::without_clicks(
                kind,
                FirstPromoter::new(api_key, &options.account_id)?.base_url(url)?,
            ),
            options::Platform::Awin => Self::without_clicks(
                kind,
                Awin::new(api_key, &options.account_id)?.base_url(url)?,
            ),
            options::Platform::Postback => {
                Self::without_clicks(kind, postback(options, url, sandbox)?)
            }
        };
        let wait = Duration::from_millis(options.click_wait);
        Ok(Some((platform, clicks.map(|clicks| clicks.wait(wait)))))
    }

    fn new<P>(kind: options::Platform, api: P) -> Self
    where
        P: ReportApi + Clone + Send + Sync + 'static,
        P::Stage: Send + 'static,
    {
        let client = Arc::new(Client::new(api.clone(), Https::new()));
        Self {
            kind,
            reports: Reports::new(&client),
            has_clicks: false,
            friends: None,
            forecast: Arc::new(move |report| match api.begin(report, &every_id()) {
                Ok(Step::Done(receipt)) if receipt.outcome() == Outcome::NotAttributed => {
                    Forecast::NotAttributed
                }
                Err(Error::Unsupported(reason)) => Forecast::Refused(reason.to_string()),
                _ => Forecast::Open,
            }),
            check: Arc::new(move || {
                let client = Arc::clone(&client);
                Box::pin(async move { client.check().await })
            }),
        }
    }

    fn without_clicks<P>(kind: options::Platform, api: P) -> (Self, Option<Clicks>)
    where
        P: ReportApi + Clone + Send + Sync + 'static,
        P::Stage: Send + 'static,
    {
        (Self::new(kind, api), None)
    }

    fn with_clicks<P>(kind: options::Platform, api: P) -> (Self, Option<Clicks>)
    where
        P: ReportApi + ClickApi + Clone + Send + Sync + 'static,
        P::Stage: Send + 'static,
    {
        let client = Client::new(api.clone(), Https::new());
        let platform = Self {
            has_clicks: true,
            ..Self::new(kind, api)
        };
        (platform, Some(Clicks::new(client.clicks())))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind.name().unwrap_or_default()
    }

    /// Asks the platform whether it takes the key, by a request that changes nothing, and returns what
    /// is wrong.
    pub(crate) async fn check(&self) -> Option<String> {
        complaint(self.name(), &(self.check)().await.err()?)
    }

    /// Returns what is known of a report before the platform has it.
    pub(crate) fn forecast(&self, report: &Report) -> Forecast {
        (self.forecast)(report)
    }

    /// Returns the report without its coupon where the platform has no place for one: a sale isn't to
    /// be lost for it.
    pub(crate) fn without_unwanted_coupon(&self, report: Report) -> Report {
        match (&report, self.forecast(&report)) {
            (Report::Sale(sale), Forecast::Refused(_)) if sale.coupon().is_some() => {
                let without = Report::from(sale.clone().with_coupon(None::<&str>));
                match self.forecast(&without) {
                    Forecast::Refused(_) => report,
                    _ => without,
                }
            }
            _ => report,
        }
    }

    /// Returns `true` if the platform records such a report whoever is credited: in a refer-a-friend
    /// program every customer has a link to share.
    pub(crate) fn takes_all(&self, report: &Report) -> bool {
        self.kind == options::Platform::PartneroFriends && matches!(report, Report::SignUp(_))
    }

    /// Returns `true` if the platform tells several links of one partner apart by the landing's URL.
    pub(crate) fn wants_landing_url(&self) -> bool {
        self.kind == options::Platform::Partnero
    }
}

/// Returns in whose option to look for an error of [`Client::check`]; `None` if the platform has no
/// request by which to find out.
fn complaint(platform: &str, error: &Error) -> Option<String> {
    let option = match error {
        Error::Unsupported(_) => return None,
        Error::Unauthorized { .. } => "--api-key (or PLATFORM_API_KEY)",
        _ => "--platform-url",
    };
    Some(format!("{option}: {platform} can't be used: {error}"))
}

/// Stands for whatever the outbox may know by the time it sends a report: a sale may wait for the
/// sign-up, and a refund for the sale, whose IDs at the platform they need. What nobody is credited
/// with whatever the IDs are, is known beforehand.
fn every_id() -> PlatformIds {
    let mut ids = PlatformIds::default();
    for id in [
        &mut ids.customer,
        &mut ids.sale,
        &mut ids.refund,
        &mut ids.click,
        &mut ids.partner,
    ] {
        *id = PlatformId::new("any");
    }
    ids
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Sets up the tracker's postbacks: by the templates of the command line, or by those of the sandbox.
fn postback(
    options: &Options,
    sale: &str,
    sandbox: Option<&Sandbox>,
) -> Result<Postback, ConfigError> {
    let mut postback = Postback::builder(sale);
    let mut refund = options.postback_refund_url.as_deref();
    let mut success = options.postback_success.as_deref();
    if let Some(terms) = sandbox.and_then(|sandbox| sandbox.postback.as_ref()) {
        postback = postback.sign_ups(&terms.sign_up_url);
        refund = Some(&terms.refund_url);
        success = Some(terms.success_text);
    }
    postback = match refund {
        Some(url) => postback.refunds(url),
        None => postback.without_refunds(),
    };
    if let Some(text) = success {
        postback = postback.success_if(Body::contains(text));
    }
    postback.build()
}

/// The platform as the outbox's worker sees it, whichever it is.
#[derive(Clone)]
pub(crate) struct Reports {
    service: BoxCloneSyncService<ReportRequest, Receipt, ReportError>,
    deduplicates: Arc<dyn Fn(&Report) -> bool + Send + Sync>,
    batch: Option<Batch>,
}

impl Reports {
    fn new<P>(client: &Client<P, Https>) -> Self
    where
        P: ReportApi + Send + Sync + 'static,
        P::Stage: Send + 'static,
    {
        let reports = client.reports();
        let of = reports.clone();
        Self {
            batch: reports.batch(),
            service: BoxCloneSyncService::new(reports),
            deduplicates: Arc::new(move |report| of.deduplicates(report)),
        }
    }
}

impl Service<ReportRequest> for Reports {
    type Response = Receipt;
    type Error = ReportError;
    type Future = <BoxCloneSyncService<ReportRequest, Receipt, ReportError> as Service<
        ReportRequest,
    >>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReportError>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: ReportRequest) -> Self::Future {
        self.service.call(request)
    }
}

impl Deduplicates for Reports {
    fn deduplicates(&self, report: &Report) -> bool {
        (self.deduplicates)(report)
    }

    fn batch(&self) -> Option<Batch> {
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use tower_referral_platforms::{Error, Unsupported};

    use super::complaint;

    #[test]
    fn what_a_check_finds_is_about_an_option() {
        let status = StatusCode::UNAUTHORIZED;
        for (error, option) in [
            (Error::Unauthorized { status }, "--api-key"),
            (Error::Account { status }, "--platform-url"),
            (Error::NotSent, "--platform-url"),
        ] {
            let text = complaint("Dub", &error).unwrap();
            assert!(text.starts_with(option), "{text}");
        }
        assert_eq!(
            complaint("Awin", &Error::Unsupported(Unsupported::Check)),
            None
        );
    }
}
