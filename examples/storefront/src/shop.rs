//! The shop: how the layer is set up, which routes there are, and where the handlers use a
//! referral. This is the file to copy from.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rust_decimal::Decimal;
use serde_json::json;
use time::Duration;
use tower_referral::{
    Attribution, Carry, Clicks, ConfigError, Forget, Keep, Keyring, MissingLayer, Program,
    Referral, ReferralLayer, Referrals, is_crawler,
};
use tower_referral_platforms::{
    Client, Credit, Delivery, DeliveryState, Https, InvalidId, Money, Partnac, Partnero,
    PartneroFriends, Sale, SignUp, Tapfiliate,
};

use crate::account;
use crate::answer::{Accept, Format, Problem};
use crate::books::{Books, RefundError};
use crate::consent::{self, Banner};
use crate::fields::Fields;
use crate::keep::Kept;
use crate::options::{AskConsent, Options, Platform, Touch};
use crate::outbox::{Outbox, PlatformService};
use crate::pages;
use crate::reports::{Answer, Outcome, Reports};
use crate::store::{Store, StoreError};

/// No form of ours is longer, in bytes.
const MAX_BODY_LEN: usize = 16 * 1024;
/// How long a report may take while the visitor waits for the page. The outbox has more time.
const REPORT_LIMIT: StdDuration = StdDuration::from_secs(5);

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Shop {
    books: Books,
    /// Where sign-ups, sales and refunds are reported.
    reports: Reports,
    /// Carries a referral through the payment provider.
    payments: Carry,
    /// Carries a landing's referral through the consent banner.
    pub(crate) landings: Carry,
    /// The URL parameters that carry a key.
    pub(crate) params: Vec<String>,
    pub(crate) plain_http: bool,
    /// A platform hears of landings.
    pub(crate) has_clicks: bool,
    asks_for_consent: bool,
    /// Visitors can sign in.
    pub(crate) has_accounts: bool,
    /// Nearly always; see `--without-layer`.
    has_layer: bool,
}

/// Makes the shop's service, and gives the layer and the outbox as well: at the end, whoever runs the
/// service waits for the layer's clicks ([`ReferralLayer::drain_clicks`]) and closes the outbox.
pub(crate) async fn open(
    options: &Options,
    kept: Kept,
    keyring: Keyring,
    platform_url: Option<&str>,
    store: Store,
) -> Result<(Router, ReferralLayer, Option<Outbox>), StoreError> {
    let (clicks, service) = match platform_url {
        Some(url) => connect(options, url)?,
        None => (None, None),
    };
    let reports = match (service, options.platform.name()) {
        (Some(service), Some(platform)) => {
            let outbox = if true {
                Outbox::open(store.clone(), service).await?
            } else {
                Outbox::without_queue(store.clone(), service)
            };
            Reports::To { platform, outbox }
        }
        _ => Reports::OwnBooks,
    };
    let outbox = reports.outbox().cloned();
    let has_clicks = clicks.is_some();
    let referrals = referral_layer(options, kept.keep, clicks)?;
    let shop = Arc::new(Shop {
        books: Books::new(store),
        reports,
        payments: Carry::builder(keyring.clone())
            .purpose("payment")
            .audience("storefront")
            // A bank transfer takes its days.
            .life(Duration::days(7))
            .build()?,
        landings: Carry::builder(keyring)
            .purpose("consent")
            .audience("storefront")
            .life(Duration::hours(12))
            .build()?,
        params: options.params.clone(),
        plain_http: options.plain_http,
        has_clicks,
        asks_for_consent: options.consent == AskConsent::Cookie,
        has_accounts: kept.sessions.is_some(),
        has_layer: !options.without_layer,
    });

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
            get(async |visitor: Visitor| pages::sign_up(&visitor)).post(sign_up),
        )
        .route(
            "/checkout",
            get(async |visitor: Visitor| pages::checkout(&visitor)).post(checkout),
        )
        .route("/webhooks/payment", post(payment_webhook))
        .route("/refund", post(refund))
        .route("/outbox", get(outbox_page).post(send_again))
        .route("/forget", post(forget_and_go_home))
        .route("/api/referral", get(show_referral).delete(forget))
        .route_service("/api/track-landing", referrals.capture_endpoint());
    if shop.asks_for_consent {
        routes = routes.route("/consent", post(consent::answer));
    }
    if shop.has_accounts {
        routes = routes
            .route("/account", get(account::show))
            .route("/login", post(account::sign_in))
            .route("/logout", post(account::sign_out));
    }
    let app = routes
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_LEN))
        .layer(middleware::from_fn(refuse_other_sites))
        .with_state(shop);
    // Last, because a layer covers only the routes that were added before it; but for the sessions,
    // which have to be there when a request comes to ours.
    let app = if options.without_layer {
        app
    } else {
        app.layer(referrals.clone())
    };
    let app = match kept.sessions {
        None => app,
        Some(with_sessions) => with_sessions(app),
    };
    Ok((app, referrals, outbox))
}

/// How the platform hears of landings, beside the pages, and of sign-ups, sales and refunds.
///
/// Keys that the platform doesn't know stay kept (`undo_unknown_keys` is off): no platform
/// documents how it says so, and a referral that was taken back by mistake would cost a partner
/// money, whereas a kept typo is credited to nobody.
fn connect(
    options: &Options,
    url: &str,
) -> Result<(Option<Clicks>, Option<PlatformService>), StoreError> {
    let (api_key, mut https) = (&options.api_key, Https::new());
    if !true {
        https = https.time_limit(REPORT_LIMIT);
    }
    // Partnero takes clicks from its own script only.
    let (clicks, service) = match options.platform {
        Platform::Partnac => {
            let client = Client::new(Partnac::new(api_key)?.base_url(url)?, https);
            let clicks = Clicks::new(client.clicks());
            (Some(clicks), PlatformService::new(client.reports()))
        }
        Platform::Tapfiliate => {
            let client = Client::new(Tapfiliate::new(api_key)?.base_url(url)?, https);
            let clicks = Clicks::new(client.clicks());
            (Some(clicks), PlatformService::new(client.reports()))
        }
        Platform::Partnero => {
            let client = Client::new(Partnero::new(api_key)?.base_url(url)?, https);
            (None, PlatformService::new(client.reports()))
        }
        Platform::PartneroFriends => {
            let client = Client::new(PartneroFriends::new(api_key)?.base_url(url)?, https);
            (None, PlatformService::new(client.reports()))
        }
        _ => return Ok((None, None)),
    };
    let wait = StdDuration::from_millis(options.click_wait);
    Ok((clicks.map(|clicks| clicks.wait(wait)), Some(service)))
}

fn referral_layer(
    options: &Options,
    keep: Keep,
    clicks: Option<Clicks>,
) -> Result<ReferralLayer, ConfigError> {
    let program = Program::default()
        .params(&options.params)
        .window(Duration::seconds(options.window.into()))
        .attribution(match options.attribution {
            Touch::First => Attribution::FirstTouch,
            Touch::Last => Attribution::LastTouch,
        });

    let mut layer = ReferralLayer::builder(keep).program(program);
    if let Some(clicks) = clicks {
        layer = layer.clicks(clicks);
    }
    if options.consent == AskConsent::Cookie {
        layer = layer.consent(|request| consent::choice(request.headers()));
    }
    if options.gpc {
        layer = layer.global_privacy_control();
    }
    if options.clean_url {
        layer = layer.clean_url();
    }
    for path in &options.stand_down {
        layer = layer.stand_down(path);
    }
    layer.build()
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
    /// The browser fetches the page ahead of time: its click waits until another is looked at.
    pub(crate) is_ahead: bool,
}

impl FromRequestParts<Arc<Shop>> for Visitor {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<Shop>) -> Result<Self, MissingLayer> {
        let referrals = if shop.has_layer {
            Referrals::from_request_parts(parts, shop).await?
        } else {
            Referrals::default()
        };
        let banner = shop
            .asks_for_consent
            .then(|| Banner::new(shop, &parts.headers, referrals.first()));
        Ok(Self {
            shop: Arc::clone(shop),
            referrals,
            banner,
            is_crawler: is_crawler(user_agent(&parts.headers)),
            is_ahead: parts.headers.contains_key("sec-purpose"),
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
    (never_cached, Json(json!({ "referral": referral })))
}

/// `DELETE /api/referral`
async fn forget() -> impl IntoResponse {
    (Forget, StatusCode::NO_CONTENT)
}

/// `POST /forget`: the same for a button on a page.
async fn forget_and_go_home() -> impl IntoResponse {
    (Forget, Redirect::to("/"))
}

/// `POST /signup`
async fn sign_up(
    State(shop): State<Arc<Shop>>,
    referral: Option<Referral>,
    visitor: Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let sign_up = SignUp::new(fields.text("customer", 128)?)
        .map_err(|error| not_an_id(&fields, "customer", error))?
        .email(fields.optional_email("email")?)
        .name(fields.optional_text("name", 200)?)
        .referral(referral.as_ref());

    let told = async { shop.reports.tell(shop.books.sign_up(sign_up).await?).await };
    let told = told
        .await
        .map_err(|error| unavailable(fields.accept, &error))?;
    Ok(answer(&visitor, &fields, "Sign-up", &told))
}

fn not_an_id(fields: &Fields, name: &str, error: InvalidId) -> Problem {
    fields.refuse(format!("`{name}` is {error}"))
}

/// `POST /checkout`: starts a payment. Here the visitor's cookie is at hand for the last time, so
/// the referral goes along with the payment, as a carry token.
async fn checkout(
    referral: Option<Referral>,
    visitor: Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let payment = Payment::read(&fields)?;
    let shop = &visitor.shop;
    // Here a real shop opens a session with its payment provider. Stripe, for one, silently drops
    // a `client_reference_id` of more than 200 characters; a carry token is never that long. An
    // unusually long key or click ID doesn't fit, and waits in the books instead.
    let token = match referral.map(|referral| (referral.carry_token(&shop.payments), referral)) {
        None => None,
        Some((Ok(token), _)) => Some(token),
        Some((Err(error), referral)) => {
            tracing::warn!(%error, "the payment takes no token along");
            let noted = shop.books.note_credit(payment.order, &referral).await;
            noted.map_err(|error| unavailable(fields.accept, &error))?;
            None
        }
    };
    let token = token.as_ref().map(tower_referral::CarryToken::as_str);

    Ok(match fields.accept.or(Format::Json) {
        Format::Html => pages::payment(&visitor, &payment, token).into_response(),
        Format::Json => {
            let mut started = json!({ "order": payment.order });
            if let Some(token) = token {
                started["client_reference_id"] = token.into();
            }
            Json(started).into_response()
        }
    })
}

/// `POST /webhooks/payment`: the payment provider says that the money is there. It has no cookie
/// of the visitor's; who referred them is in the token that it was given at checkout.
///
/// A real shop verifies the provider's signature first.
async fn payment_webhook(visitor: Visitor, fields: Fields) -> Result<Response, Problem> {
    let payment = Payment::read(&fields)?;
    let shop = &visitor.shop;
    // A token that doesn't open is as no referral: the sale itself is real all the same. One that
    // opens counts even if the referral's window has ended since the checkout.
    let credit = match fields.raw("client_reference_id")? {
        Some(token) => match shop.payments.open(token) {
            Ok(referral) => Ok(Credit::from(&referral)),
            Err(error) => Err(error.to_string()),
        },
        None => {
            let noted = shop.books.noted_credit(payment.order).await;
            let noted = noted.map_err(|error| unavailable(fields.accept, &error))?;
            noted.ok_or_else(|| "the payment carries no referral".to_owned())
        }
    };

    let amount = Money::new(payment.amount.to_string(), &payment.currency)
        .map_err(|error| fields.refuse(format!("`amount` is {error}")))?;
    let sale = Sale::new(payment.order, payment.customer, amount)
        .map_err(|error| not_an_id(&fields, "order", error))?
        .credit(credit.as_ref().ok().cloned())
        .coupon(payment.coupon);

    let booked = shop.books.sale(sale, payment.amount, payment.currency);
    let told = async { shop.reports.tell(booked.await?).await };
    // A payment provider delivers again after this error.
    let mut told = told
        .await
        .map_err(|error| unavailable(fields.accept, &error))?;
    if let (Outcome::NotAttributed, Err(why)) = (told.outcome, credit) {
        told.detail = format!("Nobody is credited with the sale: {why}.");
    }
    Ok(answer(&visitor, &fields, "Payment", &told))
}

/// `POST /refund`: a field `refund`, the provider's ID of it, tells two refunds of the same amount
/// apart.
async fn refund(visitor: Visitor, fields: Fields) -> Result<Response, Problem> {
    let order = fields.text("order", 128)?;
    let amount = fields.amount("amount")?;
    let id = fields.optional_text("refund", 128)?;

    let shop = &visitor.shop;
    let entry = match shop.books.refund(order, amount, id).await {
        Ok(entry) => entry,
        Err(RefundError::UnknownOrder) => {
            return Err(Problem::new(
                fields.accept,
                StatusCode::NOT_FOUND,
                "there is no sale of that `order`: send the order's ID as the payment had it",
            ));
        }
        Err(RefundError::MoreThanLeft { left }) => {
            return Err(fields.refuse(format!(
                "`amount` is more than what is left of the sale, {left}: refund at most that"
            )));
        }
        Err(RefundError::Invalid(why)) => return Err(fields.refuse(why)),
        Err(RefundError::Store(error)) => return Err(unavailable(fields.accept, &error)),
    };
    let told = shop.reports.tell(entry).await;
    let told = told.map_err(|error| unavailable(fields.accept, &error))?;
    if told.is_refused {
        // The platform won't have it, a part where it takes back the whole only, for instance. It
        // mustn't stand in the way of what is tried instead.
        let undone = shop.books.strike_refund(order, amount, id).await;
        undone.map_err(|error| unavailable(fields.accept, &error))?;
    }
    Ok(answer(&visitor, &fields, "Refund", &told))
}

/// `GET /outbox`: the reports that a person has to look at. A real shop shows it to its own people
/// only.
async fn outbox_page(visitor: Visitor, accept: Accept) -> Result<Response, Problem> {
    let problems = match visitor.shop.reports.outbox() {
        Some(outbox) => outbox.problems().await,
        None => Ok(Vec::new()),
    };
    let problems = problems.map_err(|error| unavailable(accept, &error))?;
    Ok(match accept.or(Format::Html) {
        Format::Html => pages::outbox(&visitor, &problems).into_response(),
        Format::Json => {
            let problems: Vec<_> = problems.iter().filter_map(problem).collect();
            Json(json!({ "problems": problems })).into_response()
        }
    })
}

fn problem(delivery: &Delivery) -> Option<serde_json::Value> {
    let (state, reason) = match delivery.state() {
        DeliveryState::Undecided { reason } => ("undecided", reason),
        DeliveryState::Dead { reason } => ("dead", reason),
        _ => return None,
    };
    Some(json!({
        "id": delivery.report().id(),
        "state": state,
        "reason": reason.to_string(),
        "platform_says": reason.words(),
        "attempts": delivery.attempts(),
    }))
}

/// `POST /outbox`: somebody has looked at a report there, and it is to be sent again.
async fn send_again(visitor: Visitor, fields: Fields) -> Result<Response, Problem> {
    let id = fields.text("id", 1024)?;
    let is_sent = match visitor.shop.reports.outbox() {
        Some(outbox) => outbox.send_again(id).await,
        None => Ok(false),
    };
    if !is_sent.map_err(|error| unavailable(fields.accept, &error))? {
        let message = "there is no such report on the list: reload it";
        return Err(Problem::new(fields.accept, StatusCode::NOT_FOUND, message));
    }
    Ok(match fields.accept.or(fields.format) {
        Format::Html => Redirect::to("/outbox").into_response(),
        Format::Json => Json(json!({ "id": id })).into_response(),
    })
}

/// The shop's own database doesn't answer.
fn unavailable(accept: Accept, error: &StoreError) -> Problem {
    tracing::warn!(%error, "the shop's database failed");
    let message = "the shop's database doesn't answer: try again in a moment";
    Problem::new(accept, StatusCode::SERVICE_UNAVAILABLE, message)
}

/// What checkout and webhook are told about a payment.
#[derive(Debug)]
pub(crate) struct Payment<'f> {
    pub(crate) customer: &'f str,
    pub(crate) order: &'f str,
    pub(crate) amount: Decimal,
    pub(crate) currency: String,
    pub(crate) coupon: Option<&'f str>,
}

impl<'f> Payment<'f> {
    fn read(fields: &'f Fields) -> Result<Self, Problem> {
        Ok(Self {
            customer: fields.text("customer", 128)?,
            order: fields.text("order", 128)?,
            amount: fields.amount("amount")?,
            currency: fields.currency("currency")?,
            coupon: fields.optional_text("coupon", 64)?,
        })
    }
}

/// As the request came, so it is answered, unless it asks for something else.
fn answer(visitor: &Visitor, fields: &Fields, what: &str, report: &Answer) -> Response {
    match fields.accept.or(fields.format) {
        Format::Json => Json(report).into_response(),
        Format::Html => pages::report(visitor, what, report).into_response(),
    }
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

/// Forms that other sites send in a visitor's name change nothing here. Without this, another site
/// could give a visitor's consent, together with a referral of its own choice.
///
/// Browsers say where a request comes from; whoever doesn't is no browser.
async fn refuse_other_sites(accept: Accept, request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site");
    let is_foreign = site.is_some_and(|site| site != "same-origin" && site != "none");
    if is_foreign && !request.method().is_safe() {
        let message = "this is for the shop's own pages only: open the shop and try again there";
        return Problem::new(accept, StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}
