//! The shop: how the layer is set up, which routes there are, and what every page knows of its
//! visitor. The handlers that use a referral are in `customers.rs` (sign-up) and `orders.rs`
//! (checkout, payment, refund). These are the files to copy from.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tower_referral::carry::Carry;
use tower_referral::click::{Clicks, LateClick, is_crawler};
use tower_referral::{
    Attribution, ClickId, ConfigError, Forget, Keyring, MissingLayer, Program, Referral,
    ReferralKey, ReferralLayer, Referrals, Storage,
};
use tower_referral_outbox::Error;
use tower_referral_platforms::{Credit, Report};

use crate::answer::{Accept, Format, Problem};
use crate::consent::{self, Banner};
use crate::database::{Database, Transaction};
use crate::fields::MAX_BODY_LEN;
use crate::keep::Kept;
use crate::options::{AskConsent, Options, Touch};
use crate::payments::Webhook;
use crate::platform::{Connection, Platform};
use crate::reports::Booked;
use crate::{account, customers, orders, outbox, pages, payments};

/// How long a click ID that came late waits for a report: as long as a referral counts at most.
const LATE_CLICK_TTL: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) database: Database,
    /// Where sign-ups, sales and refunds are reported, if anywhere.
    pub(crate) platform: Option<Platform>,
    /// Carries a referral through the payment provider.
    pub(crate) payments: PaymentTokens,
    /// Carries a landing's referral through the consent banner.
    pub(crate) landings: Carry,
    /// Reads the payment provider's webhooks, if there is one.
    pub(crate) webhook: Option<Webhook>,
    /// The URL parameters that carry a key.
    pub(crate) params: Vec<String>,
    pub(crate) plain_http: bool,
    pub(crate) asks_for_consent: bool,
    honours_gpc: bool,
    /// Visitors can sign in.
    pub(crate) has_accounts: bool,
    /// Always but for measurements: see `--without-layer`.
    has_layer: bool,
}

/// Makes the shop's service, and returns the layer as well: at the end, whoever runs the service
/// waits for the layer's clicks ([`ReferralLayer::drain_clicks`]).
pub(crate) fn open(
    options: &Options,
    kept: Kept,
    keyring: Keyring,
    platform: Option<Connection>,
    database: Database,
    webhook: Option<Webhook>,
) -> Result<(Router, ReferralLayer), ConfigError> {
    let (platform, clicks) = platform.unzip();
    let clicks = clicks.flatten().map(|clicks| keep_late(clicks, &database));
    let referrals = referral_layer(options, kept.storage, clicks)?;
    let shop = Arc::new(Shop {
        database,
        platform,
        payments: PaymentTokens::new(&keyring)?,
        landings: Carry::builder(keyring)
            .purpose("consent")
            .audience("storefront")
            .ttl(Duration::from_secs(12 * 60 * 60))
            .build()?,
        webhook,
        params: options.params.clone(),
        plain_http: options.plain_http,
        asks_for_consent: options.consent == AskConsent::Cookie,
        honours_gpc: options.gpc,
        has_accounts: kept.sessions.is_some(),
        has_layer: !options.without_layer,
    });

    let app = routes(&shop, &referrals)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_LEN))
        .layer(CsrfLayer::new().with_rejection_response(refuse_other_site))
        .with_state(shop);
    // Last, because a layer covers only the routes that were added before it; but for the sessions,
    // which have to be there when a request comes to this layer.
    let app = if options.without_layer {
        app
    } else if options.clean_url {
        app.layer(referrals.clone().with_clean_url())
    } else {
        app.layer(referrals.clone())
    };
    let app = match kept.sessions {
        None => app,
        Some(with_sessions) => with_sessions(app),
    };
    Ok((app, referrals))
}

fn routes(shop: &Shop, referrals: &ReferralLayer) -> Router<Arc<Shop>> {
    let endpoint = referrals.capture_endpoint();
    let mut routes = Router::new()
        .route("/", get(async |visitor: Visitor| pages::home(&visitor)))
        .route(
            "/features",
            get(async |visitor: Visitor| pages::features(&visitor)),
        )
        .route(
            "/pricing",
            get(async |visitor: Visitor| pages::pricing(&visitor)),
        )
        .route(
            "/about",
            get(async |visitor: Visitor| pages::about(&visitor)),
        )
        .route(
            "/signup",
            get(async |visitor: Visitor| pages::sign_up(&visitor)).post(customers::sign_up),
        )
        .route(
            "/checkout",
            get(async |visitor: Visitor| pages::checkout(&visitor)).post(orders::checkout),
        )
        // These two stand in for a payment provider and are open to anybody: not for a real shop, which
        // takes a provider's signed webhooks (below).
        .route("/webhooks/payment", post(orders::payment_webhook))
        .route("/refund", post(orders::refund))
        .route(
            "/customers/{customer}",
            get(customers::show).delete(customers::erase),
        )
        .route("/outbox", get(outbox::show).post(outbox::send_again))
        .route("/forget", post(forget_and_go_home))
        .route("/api/referral", get(show_referral).delete(forget))
        .route_service("/api/track-landing", endpoint);
    if let Some(webhook) = &shop.webhook {
        let path = format!("/webhooks/{}", webhook.provider());
        let limit = DefaultBodyLimit::max(payments::MAX_EVENT_LEN);
        routes = routes.route(&path, post(payments::take_event).layer(limit));
    }
    if shop.friends().is_some() {
        routes = routes.route("/friends", get(customers::friends));
    }
    if shop.asks_for_consent {
        routes = routes.route("/consent", post(consent::answer));
    }
    if shop.has_accounts {
        routes = routes
            .route("/account", get(account::show))
            .route("/login", post(account::sign_in))
            .route("/logout", post(account::sign_out));
    }
    routes
}

/// Configures the layer.
///
/// Keys that the platform doesn't know stay kept (`undo_unknown_keys` is off): few platforms
/// document how they say so, and a referral that was taken back by mistake would cost a partner
/// money, whereas a mistyped key that is kept credits nobody.
fn referral_layer(
    options: &Options,
    storage: Storage,
    clicks: Option<Clicks>,
) -> Result<ReferralLayer, ConfigError> {
    let program = Program::default()
        .params(&options.params)
        .click_params(options.click_params())
        .window(Duration::from_secs(options.window.into()))
        .attribution(match options.attribution {
            Touch::First => Attribution::FirstTouch,
            Touch::Last => Attribution::LastTouch,
        });

    let mut layer = ReferralLayer::builder(storage).program(program);
    if let Some(clicks) = clicks {
        layer = layer.clicks(clicks);
    }
    if options.consent == AskConsent::Cookie {
        layer = layer.consent(|request| consent::choice(request.headers()));
    }
    if options.gpc {
        layer = layer.global_privacy_control();
    }
    for path in &options.stand_down {
        layer = layer.stand_down(path);
    }
    layer.build()
}

/// Keeps a click ID that came after the page was out, for the report that needs it: whichever of
/// several shops on one database sends that.
fn keep_late(clicks: Clicks, database: &Database) -> Clicks {
    let database = database.clone();
    clicks.on_late_result(move |late: LateClick| {
        let database = database.clone();
        async move {
            if let Err(error) = database.put_click(&late, LATE_CLICK_TTL).await {
                tracing::warn!(%error, "a click ID that came late is lost");
            }
        }
    })
}

/// Carries a referral through the payment provider, which hands it back with its webhook.
#[derive(Debug)]
pub(crate) struct PaymentTokens {
    /// Fits Stripe's `client_reference_id`, which drops what is longer than 200 characters.
    short: Carry,
    /// Fits a value of a payment's metadata, for unusually long keys and click IDs.
    long: Carry,
}

impl PaymentTokens {
    fn new(keyring: &Keyring) -> Result<Self, ConfigError> {
        let carry = |max_len| {
            Carry::builder(keyring.clone())
                .purpose("payment")
                .audience("storefront")
                // A bank transfer takes its days.
                .ttl(Duration::from_secs(7 * 24 * 60 * 60))
                .max_len(max_len)
                .build()
        };
        Ok(Self {
            short: carry(Carry::DEFAULT_MAX_LEN)?,
            long: carry(500)?,
        })
    }

    /// Seals a referral into the shortest token that takes it.
    pub(crate) fn seal(&self, referral: &Referral) -> Option<String> {
        let token = referral.carry_token(&self.short);
        let token = token.or_else(|_| referral.carry_token(&self.long));
        match token {
            Ok(token) => Some(token.to_string()),
            Err(error) => {
                tracing::warn!(%error, "a payment takes no token along");
                None
            }
        }
    }

    /// Opens a token. One that doesn't open is no referral: the sale itself is real all the same.
    /// One that opens counts even if the referral's window has ended since the checkout.
    pub(crate) fn open(&self, token: &str) -> Result<Credit, String> {
        let referral = self.short.open(token);
        referral
            .map(|referral| Credit::from(&referral))
            .map_err(|error| error.to_string())
    }
}

impl Shop {
    /// Enqueues a report in the transaction in which the shop's own row is written. Without a platform
    /// that row is all there is.
    pub(crate) async fn report(
        &self,
        transaction: &mut Transaction,
        report: &Report,
        is_new: bool,
    ) -> Result<Booked, Error> {
        Ok(match self.platform {
            Some(_) => Booked::InOutbox(transaction.enqueue(report.clone()).await?),
            None => Booked::InBooks { is_new },
        })
    }

    pub(crate) fn friends(&self) -> Option<&crate::platform::Friends> {
        self.platform.as_ref()?.friends.as_ref()
    }

    /// Returns `true` if a platform is told of landings.
    pub(crate) fn has_clicks(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_some_and(|platform| platform.has_clicks)
    }
}

/// What a page knows about whom it is shown to.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) shop: Arc<Shop>,
    pub(crate) referrals: Referrals,
    /// The consent banner, if the shop has one.
    pub(crate) banner: Option<Banner>,
    /// Crawlers and tools create no click.
    pub(crate) is_crawler: bool,
    /// The browser fetches the page ahead of time, or through a service worker: its click waits
    /// until another is looked at.
    pub(crate) is_ahead: bool,
    /// The visitor lets the shop remember who referred them.
    pub(crate) may_be_remembered: bool,
    /// Where the visitor reached the shop: `http://shop.example`.
    pub(crate) origin: Option<String>,
}

impl FromRequestParts<Arc<Shop>> for Visitor {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<Shop>) -> Result<Self, MissingLayer> {
        let referrals = if shop.has_layer {
            Referrals::from_request_parts(parts, shop).await?
        } else {
            Referrals::default()
        };
        let headers = &parts.headers;
        let banner = shop
            .asks_for_consent
            .then(|| Banner::new(shop, headers, referrals.first()));
        let is_granted = banner.as_ref().is_none_or(Banner::is_granted);
        let wants_privacy = shop.honours_gpc && headers.get("sec-gpc").is_some_and(|v| v == "1");
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        Ok(Self {
            shop: Arc::clone(shop),
            referrals,
            is_crawler: is_crawler(user_agent(headers)),
            is_ahead: headers.contains_key("sec-purpose")
                || headers
                    .get("sec-fetch-dest")
                    .is_some_and(|dest| dest == "empty"),
            may_be_remembered: is_granted && !wants_privacy,
            origin: host.map(|host| format!("http://{host}")),
            banner,
        })
    }
}

fn user_agent(headers: &HeaderMap) -> &[u8] {
    headers
        .get(header::USER_AGENT)
        .map_or(&[], |value| value.as_bytes())
}

/// `GET /api/referral`
async fn show_referral(referral: Option<Referral>) -> impl IntoResponse {
    let never_cached = [(header::CACHE_CONTROL, "no-store")];
    let referral = referral.as_ref().map(referral_json);
    (never_cached, Json(json!({ "referral": referral })))
}

fn referral_json(referral: &Referral) -> Value {
    let extra = referral.extra();
    let extra: Map<_, _> = extra
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    json!({
        "key": key_of(referral),
        "click_id": referral.click_id().map(ClickId::as_str),
        "program": referral.program(),
        "parameter": referral.parameter(),
        "captured_at": referral.captured_at().format(&Rfc3339).ok(),
        "landing_page": referral.landing_page(),
        "extra": extra,
    })
}

/// Returns the key; a landing may have brought the platform's click ID only.
pub(crate) fn key_of(referral: &Referral) -> Option<&str> {
    referral.key().map(ReferralKey::as_str)
}

/// `DELETE /api/referral`
async fn forget() -> impl IntoResponse {
    (Forget, StatusCode::NO_CONTENT)
}

/// `POST /forget`: the same for a button on a page.
async fn forget_and_go_home() -> impl IntoResponse {
    (Forget, Redirect::to("/"))
}

/// Answers that the shop's own database failed. A payment provider sends its webhook again then.
pub(crate) fn unavailable(accept: Accept, error: &Error) -> Problem {
    tracing::warn!(%error, "the shop's database failed");
    let message = "the shop's database doesn't answer: try again in a moment";
    Problem::new(accept, StatusCode::SERVICE_UNAVAILABLE, message)
}

async fn not_found(accept: Accept, visitor: Visitor) -> Response {
    match accept.or(Format::Html) {
        Format::Json => {
            Problem::new(accept, StatusCode::NOT_FOUND, "there is no such page").into_response()
        }
        Format::Html => (StatusCode::NOT_FOUND, pages::not_found(&visitor)).into_response(),
    }
}

async fn wrong_method(accept: Accept) -> Problem {
    let message = "wrong method: use one that the header Allow names";
    Problem::new(accept, StatusCode::METHOD_NOT_ALLOWED, message)
}

/// What other sites' forms are answered. Without that, another site could give a visitor's consent,
/// together with a referral of its own choice.
fn refuse_other_site(_: ProtectionError) -> Response {
    let message = "this is for the shop's own pages only: open the shop and try again there";
    Problem::json(StatusCode::FORBIDDEN, message).into_response()
}
