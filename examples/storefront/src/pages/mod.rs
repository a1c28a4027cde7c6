//! The pages: HTML for people, with everything escaped by the templates. No scripts, nothing from
//! elsewhere, one inline stylesheet.

mod referral;
mod reports;
mod shop;

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::referral::{consent_banner, referral_card};
pub(crate) use self::reports::{friends, outbox, report};
pub(crate) use self::shop::{about, account, checkout, features, home, payment, pricing, sign_up};
use crate::shop::Visitor;

pub(crate) const STYLE: &str = include_str!("../style.css");

/// Nothing but what the page itself brings. `connect-src` is for calls typed into the browser's
/// console.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

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
