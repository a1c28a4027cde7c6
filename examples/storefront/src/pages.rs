//! The pages: HTML for people, with everything escaped by the templates. No scripts, nothing from
//! elsewhere, one inline stylesheet.

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use time::{Duration, OffsetDateTime};
use tower_referral::{Consent, Reason, Referral};
use tower_referral_platforms::{Delivery, DeliveryState, Setback};

use crate::account::Account;
use crate::consent::Banner;
use crate::reports::{Answer, Outcome};
use crate::shop::{Payment, Visitor};

pub(crate) const STYLE: &str = include_str!("style.css");

/// Nothing but what the page itself brings. `connect-src` is for calls typed into the browser's
/// console.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// A click that hasn't been answered by now won't be.
const CLICK_PATIENCE: Duration = Duration::seconds(5);

/// A finished page.
#[derive(Debug)]
pub(crate) struct Page(Markup);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            // Every page shows who referred the visitor.
            (header::CACHE_CONTROL, "private, no-cache"),
        ];
        (headers, Html(self.0.into_string())).into_response()
    }
}

pub(crate) fn home(visitor: &Visitor) -> Page {
    page(
        visitor,
        "A lamp that remembers who sent you",
        html! {
            p.lead {
                "Lantern is a reading lamp, and this is the shop that sells it. It knows who "
                "referred its visitors, and it keeps its word to them: whoever sends a customer "
                "gets the credit."
            }
            p { a.button href="/signup" { "Sign up" } " " a.button.quiet href="/checkout" { "Buy one" } }
        },
    )
}

pub(crate) fn features(visitor: &Visitor) -> Page {
    page(
        visitor,
        "Features",
        html! {
            ul {
                li { "Warm light that dims by itself at bedtime." }
                li { "A switch. It switches the lamp on, and it switches the lamp off." }
                li { "No app, no account for the lamp, no updates." }
            }
            p { a.button href="/pricing" { "See the price" } }
        },
    )
}

pub(crate) fn pricing(visitor: &Visitor) -> Page {
    page(
        visitor,
        "Pricing",
        html! {
            p.price { "49.90 EUR" }
            p { "One lamp, one price, shipping included. Send it back within 60 days if it isn't yours." }
            p { a.button href="/checkout" { "Buy one" } " " a.button.quiet href="/signup" { "Sign up first" } }
        },
    )
}

pub(crate) fn about(visitor: &Visitor) -> Page {
    page(
        visitor,
        "About",
        html! {
            p {
                "There is no lamp. This shop is the example of the Rust crate "
                code { "tower-referral" }
                ": one Tower layer that captures a referral key from the URL a visitor lands on, "
                "keeps it in a signed cookie, and hands it to sign-up, checkout and the payment's "
                "webhook."
            }
            p { "Whatever a page says about your referral, a program gets from " a href="/api/referral" { code { "/api/referral" } } "." }
            p {
                "Where a page comes from a cache and never reaches the server, a line of script "
                "tells of the landing. Try it in this page's console, and reload:"
            }
            pre { code {
                "fetch(\"/api/track-landing\", {method: \"POST\", body: new URLSearchParams(\""
                (visitor.shop.params[0]) "=PARTNER_9\")})"
            } }
        },
    )
}

pub(crate) fn sign_up(visitor: &Visitor) -> Page {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    page(
        visitor,
        "Sign up",
        html! {
            form method="post" action="/signup" {
                (field("Customer ID", "customer", "text", &format!("cus-{now}"), true))
                (field("E-mail", "email", "email", "ada@example.com", false))
                (field("Name", "name", "text", "Ada", false))
                button { "Sign up" }
            }
        },
    )
}

pub(crate) fn checkout(visitor: &Visitor) -> Page {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    page(
        visitor,
        "Checkout",
        html! {
            form method="post" action="/checkout" {
                (field("Customer ID", "customer", "text", &format!("cus-{now}"), true))
                (field("Order", "order", "text", &format!("order-{now}"), true))
                (field("Amount", "amount", "text", "49.90", true))
                (field("Currency", "currency", "text", "EUR", true))
                (field("Coupon", "coupon", "text", "", false))
                button { "Pay" }
            }
        },
    )
}

/// Who is signed in, and the copy of the referral in the session.
pub(crate) fn account(visitor: &Visitor, account: &Account) -> Page {
    page(
        visitor,
        "Account",
        html! {
            @match &account.customer {
                Some(customer) => {
                    p { "You are signed in as " strong { (customer) } "." }
                    @match &account.referrals {
                        Some(referrals) => {
                            p { "Your session has a copy of who referred you:" }
                            pre { code { (format!("{referrals:#}")) } }
                        }
                        None => p { "Your session has no referral." },
                    }
                    form method="post" action="/logout" { button.quiet { "Sign out" } }
                }
                None => {
                    form method="post" action="/login" {
                        (field("Customer ID", "customer", "text", "ada", true))
                        button { "Sign in" }
                    }
                }
            }
        },
    )
}

/// The checkout's answer: the payment is on its way, with or without a token.
pub(crate) fn payment(visitor: &Visitor, payment: &Payment<'_>, token: Option<&str>) -> Page {
    page(
        visitor,
        "Your payment is on its way",
        html! {
            p { "Order " strong { (payment.order) } ", " (payment.amount) " " (payment.currency) "." }
            @match token {
                Some(token) => {
                    p {
                        "The payment provider takes this along as " code { "client_reference_id" }
                        " and hands it back with its webhook, which has no cookie:"
                    }
                    pre { code { (token) } }
                }
                None if visitor.referrals.first().is_none() => {
                    p { "Nobody referred you, so the payment takes no token along." }
                }
                None => p {
                    "The token would be too long for the payment, so the shop has noted who sent you "
                    "itself."
                },
            }
            form method="post" action="/webhooks/payment" {
                (hidden("customer", payment.customer))
                (hidden("order", payment.order))
                (hidden("amount", &payment.amount.to_string()))
                (hidden("currency", &payment.currency))
                @if let Some(coupon) = payment.coupon { (hidden("coupon", coupon)) }
                @if let Some(token) = token { (hidden("client_reference_id", token)) }
                button { "Play the provider's webhook" }
            }
        },
    )
}

/// What became of a sign-up, a sale or a refund.
pub(crate) fn report(visitor: &Visitor, what: &str, report: &Answer) -> Page {
    let class = match report.outcome {
        Outcome::Recorded => "good",
        Outcome::Failed => "bad",
        Outcome::Queued | Outcome::Duplicate | Outcome::NotAttributed => "",
    };
    page(
        visitor,
        &format!("{what}: {}", report.outcome),
        html! {
            p class=(format!("note {class}")) { (report.detail) }
            p { a.button href="/" { "Back to the shop" } }
        },
    )
}

/// The reports that a person has to look at.
pub(crate) fn outbox(visitor: &Visitor, problems: &[Delivery]) -> Page {
    page(
        visitor,
        "Reports to look at",
        html! {
            @if problems.is_empty() {
                p { "There are none: whatever the shop had to report is through or still being tried." }
            }
            @for delivery in problems {
                section.card {
                    h2 { code { (delivery.report().id()) } }
                    @match delivery.state() {
                        DeliveryState::Undecided { reason } => { (setback("It may have arrived", reason)) }
                        DeliveryState::Dead { reason } => { (setback("It has not arrived", reason)) }
                        _ => {}
                    }
                    form method="post" action="/outbox" {
                        (hidden("id", &delivery.report().id()))
                        button { "Send it again" }
                    }
                }
            }
        },
    )
}

fn setback(what: &str, reason: &Setback) -> Markup {
    html! {
        p { (what) ": " (reason) "." }
        @if let Some(words) = reason.words() { p.small { "The platform says: " (words) } }
    }
}

pub(crate) fn not_found(visitor: &Visitor) -> Page {
    page(
        visitor,
        "There is no such page",
        html! {
            p { "The address may be mistyped, or the page is gone." }
            p { a.button href="/" { "Back to the shop" } }
        },
    )
}

/// A request that the shop can't do anything with.
pub(crate) fn problem(status: StatusCode, message: &str) -> impl IntoResponse + use<> {
    let body = html! {
        h1 { "That didn't work" }
        p.note.bad { (message) }
        p { a.button href="/" { "Back to the shop" } }
    };
    (status, document("That didn't work", &body, false))
}

/// A page of the shop: its own words, and what is known about the visitor's referral.
#[expect(
    clippy::needless_pass_by_value,
    reason = "so that its callers read as templates"
)]
fn page(visitor: &Visitor, title: &str, words: Markup) -> Page {
    document(
        title,
        &html! {
            @if let Some(banner) = &visitor.banner { (consent_banner(banner)) }
            h1 { (title) }
            (words)
            (referral_card(visitor))
        },
        visitor.shop.has_accounts,
    )
}

fn document(title: &str, main: &Markup, has_accounts: bool) -> Page {
    Page(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Lantern" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a.brand href="/" { "Lantern" }
                    nav {
                        a href="/features" { "Features" }
                        a href="/pricing" { "Pricing" }
                        a href="/about" { "About" }
                        a href="/signup" { "Sign up" }
                        a href="/checkout" { "Checkout" }
                        @if has_accounts { a href="/account" { "Account" } }
                    }
                }
                main { (main) }
            }
        }
    })
}

/// Who referred the visitor, and what this very request had to do with it.
fn referral_card(visitor: &Visitor) -> Markup {
    html! {
        section.card {
            @match visitor.referrals.first() {
                Some(referral) => {
                    (referral_facts(visitor, referral))
                    @if is_kept(visitor) {
                        form method="post" action="/forget" { button.quiet { "Forget me" } }
                    }
                }
                None => (how_to_try(&visitor.shop.params)),
            }
            (decisions(visitor))
        }
    }
}

fn referral_facts(visitor: &Visitor, referral: &Referral) -> Markup {
    let now = OffsetDateTime::now_utc();
    let is_kept = is_kept(visitor);
    html! {
        h2 { "You were referred by " strong { (referral.key()) } }
        dl {
            dt { "When" }
            dd { (ago(now - referral.captured_at())) }
            dt { "Where from" }
            dd {
                @match referral.landing_page() {
                    Some(page) => code { (page) },
                    None => "no landing page is known",
                }
            }
            @if let Some(click_id) = referral.click_id() {
                dt { "Click ID" }
                dd { code { (click_id) } }
            } @else if visitor.shop.has_clicks {
                dt { "Click ID" }
                dd { (why_no_click_id(visitor, now - referral.captured_at())) }
            }
            dt { "Kept" }
            dd {
                @if is_kept { "until " (moment(referral.expires_at(), now)) }
                @else { "not yet: it is known to this page only, until you agree" }
            }
        }
    }
}

/// The platform is told beside the page, so the page can't know how it goes; but it knows when
/// nothing can have been told, and when an answer should have come.
fn why_no_click_id(visitor: &Visitor, age: Duration) -> &'static str {
    if !is_kept(visitor) {
        "none: the platform is told nothing until you agree"
    } else if visitor.is_crawler {
        "none yet: the platform isn't told of visits by tools and crawlers, and this looks like one"
    } else if visitor.is_ahead {
        "none yet: your browser fetched this page ahead of time, and the platform is told once you \
         look at another"
    } else if age < CLICK_PATIENCE {
        "on its way: the platform was told beside this page, and a later page shows its answer"
    } else {
        "none has come: the key alone says whose the credit is"
    }
}

/// Without the visitor's consent, a landing's referral is shown and not kept.
fn is_kept(visitor: &Visitor) -> bool {
    let mut decisions = visitor.referrals.decisions().iter();
    decisions.all(|decision| decision.reason() != Reason::NoConsent)
}

fn how_to_try(params: &[String]) -> Markup {
    let links = [("/pricing", "PARTNER_123"), ("/", "friend-7")];
    html! {
        h2 { "Nobody referred you" }
        p { "Come in through somebody's link, and the shop will know. For instance:" }
        ul {
            @for ((path, key), param) in links.iter().zip(params.iter().chain(params)) {
                @let link = format!("{path}?{param}={key}");
                li { a href=(link) { code { (link) } } }
            }
        }
        p.small {
            "These links lead from the shop to itself, so they fill an empty slot and never take "
            "another partner's credit. Type them into the address bar to come from outside."
        }
    }
}

fn decisions(visitor: &Visitor) -> Markup {
    let decisions = visitor.referrals.decisions();
    html! {
        @for decision in decisions {
            p.small {
                "On this request: " code { (decision.reason()) } ", " (in_words(decision.reason())) "."
            }
        }
        @if decisions.is_empty() { p.small { "On this request: nothing new." } }
    }
}

/// A reason for people who have never read the documentation.
fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Captured => "the link named who sent you, and the shop keeps that",
        Reason::ClickJoined => "the platform's answer has come, and the shop keeps its click ID",
        Reason::SameKey => "the link names whom the shop has noted already",
        Reason::KeptFirstTouch => "somebody else referred you first, and the first one counts",
        Reason::KeptSameOrigin => "a link within the shop takes nobody's credit",
        Reason::KeptStandDown => "a link to this page takes nobody's credit",
        Reason::InvalidKey => "the link has the parameter, but what it says can't be a key",
        Reason::NotAPageVisit => "the request wasn't a visit to a page",
        Reason::NoConsent => "without your consent nothing is kept",
        Reason::GlobalPrivacyControl => "your browser asks not to be tracked, so nothing is kept",
        Reason::Expired => "you were referred too long ago for it to count",
        Reason::Malformed => "the cookie isn't one of the shop's, so it counts for nothing",
        Reason::BadSignature => {
            "the cookie was altered, or another key of that name signed it, so it counts for \
             nothing"
        }
        Reason::UnknownSigningKey => {
            "the shop doesn't have the key that signed the cookie, so it counts for nothing"
        }
        Reason::FromTheFuture => "the cookie is from the future, so it counts for nothing",
        Reason::StoreUnavailable => {
            "the shop's memory can't be reached just now, so your browser keeps what is new"
        }
        // A newer version of the crate may know more.
        _ => "see the documentation of `Reason`",
    }
}

fn consent_banner(banner: &Banner) -> Markup {
    let said = match banner.choice {
        Consent::Unknown => "May we remember who sent you, in a cookie?",
        Consent::Granted => "We remember who sent you, as you allowed.",
        Consent::Denied => "We don't remember who sent you, as you wished.",
    };
    html! {
        form.banner method="post" action="/consent" {
            p { (said) }
            @if let Some(landing) = &banner.landing { (hidden("landing", landing)) }
            @if banner.choice != Consent::Granted { button name="answer" value="granted" { "Yes" } }
            @if banner.choice != Consent::Denied { button.quiet name="answer" value="denied" { "No" } }
        }
    }
}

fn field(label: &str, name: &str, kind: &str, value: &str, is_required: bool) -> Markup {
    html! {
        label {
            span { (label) @if !is_required { small { " (optional)" } } }
            input name=(name) type=(kind) value=(value) required[is_required];
        }
    }
}

fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// How long ago something was, to the nearest unit that people count in.
fn ago(age: Duration) -> String {
    let (count, unit) = match age.whole_seconds() {
        ..1 => return "just now".to_owned(),
        seconds @ 1..60 => (seconds, "second"),
        seconds @ 60..3_600 => (seconds / 60, "minute"),
        seconds @ 3_600..86_400 => (seconds / 3_600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

/// A date, and the time of day where that is soon.
fn moment(moment: OffsetDateTime, now: OffsetDateTime) -> String {
    let date = format!("{} {} {}", moment.day(), moment.month(), moment.year());
    if moment - now > Duration::days(2) {
        return date;
    }
    let (hour, minute, second) = moment.to_hms();
    format!("{date}, {hour:02}:{minute:02}:{second:02} UTC")
}
