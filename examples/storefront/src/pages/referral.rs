//! The card on every page: who referred the visitor, and what this very request had to do with it;
//! and the consent banner.

use maud::{Markup, html};
use time::{Duration, OffsetDateTime};
use tower_referral::{Consent, Reason, Referral};

use super::hidden;
use crate::consent::Banner;
use crate::shop::{Visitor, key_of};

/// A click that hasn't been answered by now won't be.
const CLICK_PATIENCE: Duration = Duration::seconds(5);

/// Who referred the visitor, and what this very request had to do with it.
pub(super) fn referral_card(visitor: &Visitor) -> Markup {
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
        h2 {
            "You were referred by "
            strong { (key_of(referral).unwrap_or("a link with a click ID only")) }
        }
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
            } @else if visitor.shop.has_clicks() {
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

/// Says why there is no click ID yet. The platform is told without holding the page up, so the page
/// can't know how that goes; but it knows when nothing can have been told, and when an answer should
/// have come.
fn why_no_click_id(visitor: &Visitor, age: Duration) -> &'static str {
    if !is_kept(visitor) {
        "none: the platform is told nothing until you agree"
    } else if visitor.is_crawler {
        "none yet: the platform isn't told of visits by tools and crawlers, and this looks like one"
    } else if visitor.is_ahead {
        "none yet: your browser fetched this page ahead of time or through a service worker, and the \
         platform is told once you look at another"
    } else if age < CLICK_PATIENCE {
        "on its way: the platform was told of this visit, and a later page shows its answer"
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
        Reason::KeptOwnLink => "a link within the shop takes nobody's credit",
        Reason::KeptPrefetch => "a page that was fetched ahead of time takes nobody's credit",
        Reason::KeptReload => "a page that is loaded again takes nobody's credit",
        Reason::KeptPossibleFrame => "what may be a hidden frame takes nobody's credit",
        Reason::KeptHigherRank => "a link from outside counts for more than this",
        Reason::KeptStandDown => "a link to this page takes nobody's credit",
        Reason::InvalidKey => "the link has the parameter, but what it says can't be a key",
        Reason::NotAPageVisit => "the request wasn't a visit to a page",
        Reason::NoConsent => "without your consent nothing is kept",
        Reason::GlobalPrivacyControl => "your browser asks not to be tracked, so nothing is kept",
        Reason::Expired => "you were referred too long ago for it to count",
        Reason::Malformed => "the cookie isn't one of the shop's, so it is ignored",
        Reason::BadSignature => {
            "the cookie was altered, or another key of that name signed it, so it is ignored"
        }
        Reason::UnknownSigningKey => {
            "the shop doesn't have the key that signed the cookie, so it is ignored"
        }
        Reason::FromTheFuture => "the cookie is from the future, so it is ignored",
        Reason::StoreUnavailable => {
            "the shop's memory can't be reached just now, so your browser keeps what is new"
        }
        // A newer version of the crate may know more.
        _ => "see the documentation of `Reason`",
    }
}

pub(super) fn consent_banner(banner: &Banner) -> Markup {
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
