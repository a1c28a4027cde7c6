//! What a click service is given and what it gives back.

use std::{
    error::Error,
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use tower_service::Service;

use crate::key::{ClickId, ReferralKey};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// What the platform is told about a landing.
///
/// `Debug` hides everything that came from the visitor.
///
/// ```
/// use tower_referral::click::ClickRequest;
///
/// // For the test of a click service of your own.
/// let request = ClickRequest::new("PARTNER_123".parse()?, "https://shop.example/?aff=PARTNER_123")
///     .with_referrer("https://blog.example");
/// assert_eq!(request.referrer(), Some("https://blog.example"));
/// # Ok::<_, tower_referral::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ClickRequest {
    key: ReferralKey,
    program: String,
    landing_url: String,
    referrer: Option<String>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl ClickRequest {
    /// Creates a request of the program `default`, for the test of a click service.
    #[must_use]
    pub fn new(key: ReferralKey, landing_url: impl Into<String>) -> Self {
        Self {
            key,
            program: "default".to_owned(),
            landing_url: landing_url.into(),
            referrer: None,
            ip: None,
            user_agent: None,
        }
    }

    /// Sets the program's name.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<String>) -> Self {
        self.program = program.into();
        self
    }

    /// Sets the origin of the page that the link was on.
    #[must_use]
    pub fn with_referrer(mut self, referrer: impl Into<String>) -> Self {
        self.referrer = Some(referrer.into());
        self
    }

    /// Sets the visitor's address.
    #[must_use]
    pub fn with_ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// Sets the visitor's `User-Agent`.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Returns who referred the visitor.
    #[must_use]
    pub fn key(&self) -> &ReferralKey {
        &self.key
    }

    /// Returns the name of the [`Program`](crate::Program).
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns the page that the visitor landed on, with our parameter and no other, for instance
    /// `https://shop.example/pricing?aff=PARTNER_123`.
    #[must_use]
    pub fn landing_url(&self) -> &str {
        &self.landing_url
    }

    /// Returns the origin of the page that the link was on, for instance `https://blog.example`.
    #[must_use]
    pub fn referrer(&self) -> Option<&str> {
        self.referrer.as_deref()
    }

    /// Returns the visitor's address, only where [`Clicks::ip`](crate::click::Clicks::ip) says so.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// Returns the visitor's browser, only where
    /// [`Clicks::user_agent`](crate::click::Clicks::user_agent) says so.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }

    /// Returns every text here that came from the visitor, so that none of them is shown in an error: the key,
    /// the landing URL, the referrer, the browser and the address.
    #[must_use]
    pub fn visitor_texts(&self) -> Vec<String> {
        let texts = [Some(&*self.landing_url), self.referrer(), self.user_agent()];
        let texts = texts.into_iter().flatten().map(str::to_owned);
        let ip = self.ip.map(|ip| ip.to_string());
        texts.chain(ip).chain([self.key.to_string()]).collect()
    }
}

impl fmt::Debug for ClickRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickRequest")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// A click that the platform created.
///
/// A click service may return a [`ClickId`] in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    id: ClickId,
    partner_id: Option<ClickId>,
}

impl Click {
    /// Creates a click with the platform's ID of it.
    #[must_use]
    pub fn new(id: ClickId) -> Self {
        Self {
            id,
            partner_id: None,
        }
    }

    /// Sets the second ID that the platform gave, which a sign-up there needs: Tolt's `partner_id`.
    #[must_use]
    pub fn with_partner_id(mut self, partner_id: impl Into<Option<ClickId>>) -> Self {
        self.partner_id = partner_id.into();
        self
    }

    /// Returns the platform's ID of the click.
    #[must_use]
    pub fn id(&self) -> &ClickId {
        &self.id
    }

    /// Returns the second ID, if the platform gave one.
    #[must_use]
    pub fn partner_id(&self) -> Option<&ClickId> {
        self.partner_id.as_ref()
    }
}

impl From<ClickId> for Click {
    fn from(id: ClickId) -> Self {
        Self::new(id)
    }
}

/// A click whose ID came after the landing's response was out, or was put off to a later page view: see
/// [`Clicks::on_late_result`](crate::click::Clicks::on_late_result).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LateClick {
    /// The same as [`Referral::click_reference`](crate::Referral::click_reference).
    pub reference: String,
    /// What the platform created.
    pub click: Click,
}

/// The platform doesn't know the key.
///
/// A click service says so by failing with this error, bare or as the source of another; see
/// [`Clicks::undo_unknown_keys`](crate::click::Clicks::undo_unknown_keys).
///
/// ```
/// use std::error::Error;
/// use tower_referral::ClickId;
/// use tower_referral::click::{ClickRequest, Clicks, UnknownKey};
///
/// # async fn ask(request: ClickRequest) -> Result<(u16, String), std::io::Error> { unimplemented!() }
/// let clicks = Clicks::from_fn(|request: ClickRequest| async move {
///     let (status, id) = ask(request).await?; // an in-house platform
///     match status {
///         404 => Err(UnknownKey.into()),
///         _ => Ok::<ClickId, Box<dyn Error + Send + Sync>>(id.parse()?),
///     }
/// })
/// .undo_unknown_keys();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKey;

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the platform doesn't know this referral key: check the link it came from")
    }
}

impl Error for UnknownKey {}

/// A click service behind a pointer: against a call over the network its boxed future costs nothing,
/// and the layer needs no type parameter for it.
pub(crate) trait CreateClick: Send + Sync {
    fn create(&self, request: ClickRequest) -> BoxFuture<'static, Result<Click, BoxError>>;
}

/// Clones the service for each call, as Tower asks for; the lock is held for the clone.
pub(crate) struct SharedService<S>(Mutex<S>);

impl<S> SharedService<S> {
    pub(crate) fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S> CreateClick for SharedService<S>
where
    S: Service<ClickRequest> + Clone + Send + 'static,
    S::Response: Into<Click>,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn create(&self, request: ClickRequest) -> BoxFuture<'static, Result<Click, BoxError>> {
        let mut service = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx))
                .await
                .map_err(Into::into)?;
            let click = service.call(request).await.map_err(Into::into)?;
            Ok(click.into())
        })
    }
}

/// An async function as a service.
#[derive(Clone)]
pub(crate) struct ServiceFn<F>(pub(crate) F);

impl<F, R, C, E> Service<ClickRequest> for ServiceFn<F>
where
    F: Fn(ClickRequest) -> R,
    R: Future<Output = Result<C, E>>,
{
    type Response = C;
    type Error = E;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ClickRequest) -> R {
        (self.0)(request)
    }
}
