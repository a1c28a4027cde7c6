//! What `tower_referral::testing` gives to an application's own tests.
#![cfg(feature = "testing")]

use crate::common::{DAY, SECOND, START, keyring};
use http::header::SET_COOKIE;
use http::{Request, Response};
use std::time::Duration;
use time::OffsetDateTime;
use tower_referral::click::Clicks;
use tower_referral::testing::{Clock, Visitor};
use tower_referral::{ClickId, Consent, Program, Reason, ReferralLayer, SignedCookie};

fn layer(clock: &Clock) -> ReferralLayer {
    ReferralLayer::builder(SignedCookie::new(keyring()))
        .program(Program::new("partners").params(["aff"]))
        .program(Program::new("friends").params(["ref"]))
        .clock(clock.reader())
        .consent(|request| match request.headers().get("cookie") {
            Some(line) if line.as_bytes().starts_with(b"consent=no") => Consent::Denied,
            _ => Consent::Granted,
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_visitor_keeps_what_was_kept_until_the_clock_says_otherwise() {
    let clock = Clock::at(OffsetDateTime::from_unix_timestamp(START).unwrap());
    let layer = layer(&clock);
    let mut visitor = Visitor::new();
    let decisions = visitor.lands(&layer, "/?aff=A").await;
    assert_eq!(decisions.last_of("partners"), Some(Reason::Captured));
    visitor.lands(&layer, "/?ref=ada").await;

    let referrals = visitor.referrals(&layer).await;
    let first = referrals.first().unwrap();
    assert_eq!(
        (first.key().unwrap().as_str(), first.captured_at()),
        ("A", clock.now())
    );
    assert_eq!(referrals.get("friends").unwrap().key().unwrap(), &"ada");

    clock.advance(DAY * 30 - SECOND);
    assert_eq!(visitor.referrals(&layer).await.iter().count(), 2);
    clock.advance(SECOND);
    assert_eq!(visitor.referrals(&layer).await.iter().count(), 0);
}

#[tokio::test]
#[should_panic(expected = r#"the layer kept nothing of /?aff=A: ["no_consent"]"#)]
async fn a_landing_that_is_not_kept_says_why() {
    let mut visitor = Visitor::new();
    visitor.holds("consent", "no");
    visitor.lands(&layer(&Clock::new()), "/?aff=A").await;
}

#[test]
fn cookies_are_replaced_and_deleted_as_a_browser_does() {
    let mut visitor = Visitor::new();
    visitor.holds("a", "1");
    let set = |line| {
        Response::builder()
            .header(SET_COOKIE, line)
            .body(())
            .unwrap()
    };
    visitor.receives(&set("b=2; Path=/"));
    visitor.receives(&set("a=3; max-age=60"));
    let sent = visitor.sends(Request::new(()));
    assert_eq!(sent.headers()["cookie"], "b=2; a=3");
    visitor.receives(&set("b=; Path=/; Max-Age=0"));
    let sent = visitor.sends(Request::new(()));
    assert_eq!(sent.headers()["cookie"], "a=3");
    assert_eq!(format!("{visitor:?}"), r#"{"a"}"#);
}

#[tokio::test]
async fn a_landing_creates_its_click() {
    let clicks = Clicks::from_fn(async |_| "click-1".parse::<ClickId>());
    let layer = ReferralLayer::builder(SignedCookie::new(keyring()))
        .clicks(clicks.wait(Duration::from_secs(5)))
        .build()
        .unwrap();
    let mut visitor = Visitor::new();
    visitor.lands(&layer, "/?aff=A").await;
    let referrals = visitor.referrals(&layer).await;
    assert_eq!(referrals.first().unwrap().click_id().unwrap(), &"click-1");
}

#[cfg(feature = "tower-sessions-0_15")]
#[tokio::test]
async fn referrals_on_the_server_are_seen_too() {
    use tower_referral::{AppSession, ServerSide};
    let store = tower_sessions::MemoryStore::default();
    let keep = ServerSide::new(store.clone(), keyring()).store_expires_records();
    let layer = ReferralLayer::builder(keep).build().unwrap();
    let mut visitor = Visitor::new();
    visitor.lands(&layer, "/?aff=A").await;
    let referrals = visitor.referrals(&layer).await;
    assert_eq!(referrals.first().unwrap().key().unwrap(), &"A");
    assert_eq!(referrals.visitor_ids().len(), 1);

    let keep = AppSession::new(&store, keyring());
    let layer = ReferralLayer::builder(keep).build().unwrap();
    Visitor::new().lands(&layer, "/?aff=A").await;
}
