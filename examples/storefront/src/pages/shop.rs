//! The shop's own pages: what it sells, and the forms of sign-up, checkout and account.

use maud::html;
use time::OffsetDateTime;

use super::{Page, field, hidden, page};
use crate::account::Account;
use crate::orders::Payment;
use crate::shop::Visitor;

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
                None => p { "The referral is too long for a token, so the payment takes none along." },
            }
            form method="post" action="/webhooks/payment" {
                (hidden("customer", payment.customer))
                (hidden("order", payment.order))
                (hidden("amount", &payment.amount.to_string()))
                (hidden("currency", &payment.currency))
                @if let Some(coupon) = payment.coupon { (hidden("coupon", coupon)) }
                @if let Some(token) = token { (hidden("client_reference_id", token)) }
                button { "Send the provider's webhook" }
            }
        },
    )
}
