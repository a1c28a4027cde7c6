//! The ready-made capture endpoint: for cached pages and single-page apps, whose landings never reach
//! the layer, so that the page's script has to send them.

mod body;
mod refusal;
mod script;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN, REFERER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;

use self::body::{Posted, Referrer};
use self::refusal::Refusal;
use crate::attribution::ClickDue;
use crate::commands::Capture;
use crate::config::Config;
use crate::error::ConfigError;
use crate::exchange::Exchange;
use crate::inbound::landing_touch;
use crate::layer::ReferralLayer;
use crate::missing_layer::MissingLayer;
use crate::page_visit::{Host, Link, Origin, own_link};
use crate::query::Query;
use crate::reason::Reason;
use crate::request::RequestRef;
use crate::telemetry;

/// How long the body of one request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A service that captures a landing which only the page's script saw.
///
/// A page that a CDN answers never reaches the layer, and a single-page app lands without a
/// request. A `GET` on the endpoint is a script that makes up for it:
///
/// ```html
/// <script src="/api/track-landing" async></script>
/// ```
///
/// It works under a strict Content-Security-Policy, does nothing in a frame or without one of the
/// program's parameters in the page's URL, waits while the page is prerendered, and posts the page's path
/// (`_path`), `document.referrer` (`_referrer`), the kind of navigation (`_navigation`), and behind them the
/// page's query as it stands.
///
/// A `POST` takes the landing's parameters, as a form or as a JSON object of strings, from pages of the
/// same origin, and of origins that [`allow_origins`](Self::allow_origins) names. It is answered
/// `204 No Content` if there was a key, whatever the attribution rule decided, and otherwise with a 4xx and
/// `{"error": "…"}`. `_path` tells whether the visitor was at the checkout
/// ([`stand_down`](crate::ReferralLayerBuilder::stand_down)); without it the path of a `Referer` of the own
/// site counts, if it is longer than `/`, and where no path is known a configured stand-down path means
/// that the landing only fills an empty slot. `_referrer` tells a link of the own site, and `_navigation` a page
/// that the visitor reloaded or went back to (`reload`, `back_forward`): that only fills an empty slot, too. A
/// `_referrer` that can't be read counts as one of the own site, and a `_navigation` other than `navigate` and
/// `prerender` as a reload.
///
/// In a form these names stand as they are, without percent-encoding, and of several fields of one name the first
/// counts: put them in front of what comes from the URL. The parameters are read as in a URL, where a `+` is a `+`
/// and a blank is `%20`: post `location.search` as it stands, because `URLSearchParams` would write a blank as `+`.
/// A body has at most 32 KiB.
///
/// A `POST` from a frame in a foreign page is refused where the browser tells, which Chromium does for
/// `fetch` with `credentials: "include"`: a script of your own should ask for that, or do nothing in a frame.
///
/// It belongs behind the layer that made it. Behind several layers, one inside the other, the outermost captures, by
/// its own programs: make the endpoint by that one, whose parameters the script then knows.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// # use tower_referral::{Keyring, ReferralLayer, SigningKey};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let keyring = Keyring::new(SigningKey::generate("local")?);
/// let referrals = ReferralLayer::builder(keyring).build()?;
/// let app: axum::Router = axum::Router::new()
///     .route_service("/api/track-landing", referrals.capture_endpoint())
///     .layer(referrals);
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone)]
pub struct CaptureEndpoint {
    config: Arc<Config>,
    allowed: Arc<[Origin]>,
    script: Bytes,
}

impl ReferralLayer {
    /// Returns the endpoint that captures, by this layer's parameters and rules, landings which only the
    /// page's script saw. It belongs behind this layer.
    #[must_use]
    pub fn capture_endpoint(&self) -> CaptureEndpoint {
        CaptureEndpoint {
            config: Arc::clone(&self.config),
            allowed: Arc::default(),
            script: script::of(&self.config.programs),
        }
    }
}

impl CaptureEndpoint {
    /// Allows pages of these origins to post landings, for instance `https://www.shop.example` where the
    /// endpoint is on `api.shop.example` and the cookie has a domain.
    ///
    /// # Errors
    ///
    /// One of them isn't an origin: a scheme and a host, and nothing else.
    pub fn allow_origins<O: AsRef<str>>(
        mut self,
        origins: impl IntoIterator<Item = O>,
    ) -> Result<Self, ConfigError> {
        let parse = |text: O| {
            let text = text.as_ref();
            Origin::parse(text.as_bytes()).ok_or_else(|| ConfigError::InvalidOrigin {
                origin: text.to_owned(),
            })
        };
        self.allowed = origins.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Returns the origin of the page that is asking, if it is allowed and not the endpoint's own.
    fn allowed_origin<'r>(&self, headers: &'r HeaderMap) -> Option<&'r HeaderValue> {
        let value = headers.get(ORIGIN)?;
        let origin = Origin::parse(value.as_bytes())?;
        self.allowed.contains(&origin).then_some(value)
    }

    /// Returns `true` if the request comes from a page that may post. Browsers say so in
    /// `Sec-Fetch-Site`, older ones in `Origin`; where there is neither, no browser's page sent it.
    fn is_allowed(&self, headers: &HeaderMap, host: Option<&Host>) -> bool {
        if self.allowed_origin(headers).is_some() {
            return true;
        }
        if headers.contains_key("sec-fetch-site") {
            let mut sites = headers.get_all("sec-fetch-site").iter();
            return sites.all(|site| site == "same-origin");
        }
        let is_own = |origin: &HeaderValue| {
            let origin = Origin::parse(origin.as_bytes());
            host.zip(origin)
                .is_some_and(|(host, origin)| host.is_of(&origin))
        };
        headers.get_all(ORIGIN).iter().all(is_own)
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let allowed = self.allowed_origin(request.headers()).cloned();
        let result = match *request.method() {
            Method::GET | Method::HEAD => Ok(script::response(&self.script)),
            Method::OPTIONS if allowed.is_some() => Ok(preflight()),
            Method::POST => self.capture(request).await.map(|capture| {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.extensions_mut().insert(capture);
                response
            }),
            _ => Err(Refusal::Method),
        };
        let mut response = result.unwrap_or_else(Refusal::into_response);
        let headers = response.headers_mut();
        if !self.allowed.is_empty() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        response
    }

    /// Logs a mistake: the script tells other parameters than those of the layer that captures.
    fn check_script(&self, config: &Config) {
        let is_same = |one: &Config| script::of(&one.programs) == self.script;
        if !std::ptr::eq(config, &*self.config) && !is_same(config) {
            telemetry::misplaced(
                "a `CaptureEndpoint` of one `ReferralLayer` is behind another one, whose parameters its \
                 script doesn't know: make it by `capture_endpoint` of the outermost layer",
            );
        }
    }

    async fn capture<B>(&self, request: Request<B>) -> Result<Capture, Refusal>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let exchange = Exchange::of(request.extensions()).map_err(Refusal::MissingLayer)?;
        let missing = Refusal::MissingLayer(MissingLayer::REFERRALS);
        let exchange = exchange.ok_or(missing)?;
        // Not by the endpoint's own layer: of several, one inside the other, the outermost does the work.
        let (config, now) = (Arc::clone(&exchange.config), exchange.now);
        let config = &*config;
        self.check_script(config);
        let (view, headers) = (RequestRef::from(&request), request.headers());
        if headers.contains_key("sec-fetch-storage-access") {
            return Err(Refusal::ForeignFrame);
        }
        let host = Host::of(view, config.page_uri(view));
        if !self.is_allowed(headers, host.as_ref()) {
            return Err(Refusal::CrossOrigin);
        }
        let page = Page::of(headers, host);
        let clicks = config.clicks.as_ref();
        let mut context = clicks.and_then(|clicks| clicks.context(view));
        let posted = Posted::read(config, request, BODY_TIMEOUT).await?;
        if let (Some(context), Some(referrer)) = (&mut context, &posted.referrer) {
            context.set_referrer(match referrer {
                Referrer::Url(url) => url,
                Referrer::Nothing | Referrer::Unreadable => "",
            });
        }
        let path = posted.path.clone().or_else(|| page.path.clone());
        let link = page.link(config, &posted, path.as_deref());
        let is_again = posted.is_again && link != Link::ThisPage;
        let fills_only = is_again.then_some(Reason::KeptReload);
        let mut captures = Vec::new();
        let mut is_invalid = false;
        let query = Query::of(&config.programs, &config.first_bytes, &posted.query);
        for (index, program) in config.programs.iter().enumerate() {
            match query.and_then(|query| query.read(program)) {
                None => {}
                Some(Err(_)) => is_invalid = true,
                Some(Ok(found)) => {
                    let path = path.as_deref();
                    let mut touch =
                        landing_touch(config, index, found, path, link, fills_only, now);
                    if context.is_some() {
                        touch.click = ClickDue::Now;
                    }
                    captures.push(Capture::landing(touch, context.clone()));
                }
            }
        }
        match captures.into_iter().reduce(Capture::and) {
            Some(captures) => Ok(captures),
            None if is_invalid => Err(Refusal::InvalidKey),
            None => Err(Refusal::no_parameter(&config.programs)),
        }
    }
}

/// What the headers of a `POST` say about the page.
struct Page {
    /// Its origin, or the host that is asked.
    origin: Option<Origin>,
    host: Option<Host>,
    path: Option<String>,
}

impl Page {
    fn of(headers: &HeaderMap, host: Option<Host>) -> Self {
        let mut page = Self {
            origin: headers
                .get(ORIGIN)
                .and_then(|origin| Origin::parse(origin.as_bytes())),
            host,
            path: None,
        };
        let referer = headers.get(REFERER).map(HeaderValue::as_bytes);
        page.path = referer
            .filter(|referer| Origin::of_url(referer).is_some_and(|origin| page.is_own(&origin)))
            .and_then(Origin::path_of)
            // A browser cuts a long `Referer` to its origin.
            .filter(|path| path != "/");
        page
    }

    /// Returns `true` if this is the page's own origin.
    fn is_own(&self, origin: &Origin) -> bool {
        self.origin.as_ref() == Some(origin)
            || self.host.as_ref().is_some_and(|host| host.is_of(origin))
    }

    /// Returns the kind of link that led to the page, by what its script says.
    fn link(&self, config: &Config, posted: &Posted, path: Option<&str>) -> Link {
        let referrer = match &posted.referrer {
            None | Some(Referrer::Nothing) => return Link::Outside,
            Some(Referrer::Unreadable) => return Link::OwnSite,
            Some(Referrer::Url(url)) => url.as_bytes(),
        };
        let is_page = || {
            // A script of one's own may have encoded the query anew, so it is compared by what it says.
            let query = Origin::query_of(referrer).unwrap_or_default();
            let says = |query| {
                let query = Query::of(&config.programs, &config.first_bytes, query);
                let found = config.programs.iter().map(|program| query?.read(program));
                found.collect::<Vec<_>>()
            };
            Origin::path_of(referrer).as_deref() == path && says(query) == says(&posted.query)
        };
        let domain = config.domain.as_deref();
        let link = own_link(referrer, |origin| self.is_own(origin), domain, is_page);
        link.unwrap_or(Link::Outside)
    }
}

fn preflight() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let content_type = HeaderValue::from_static("content-type");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, content_type);
    response
}

impl<B> Service<Request<B>> for CaptureEndpoint
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let endpoint = self.clone();
        Box::pin(async move { Ok(endpoint.answer(request).await) })
    }
}

impl fmt::Debug for CaptureEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureEndpoint").finish_non_exhaustive()
    }
}
