//! The copy in the application's own session: there for code that reads it, put back when it was
//! lost, and never the reason for a session, an error or a visitor who is signed out.

mod common;
mod scripted_store;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use common::keyring;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use scripted_store::{Mood, Scripted};
use tokio::time::Instant;
use tower::ServiceExt as _;
use tower_referral::{AppSession, Forget, ReferralKey, ReferralLayer};
use tower_sessions::{Expiry, Session, SessionManagerLayer};

/// An application that signs visitors in by a session, as most do.
fn app(store: &Scripted) -> Router {
    with_layers(store, |keep| keep, |sessions| sessions)
}

fn with_layers(
    store: &Scripted,
    keep: impl FnOnce(AppSession) -> AppSession,
    sessions: impl FnOnce(SessionManagerLayer<Scripted>) -> SessionManagerLayer<Scripted>,
) -> Router {
    let keep = keep(AppSession::new(store.clone(), keyring()));
    let referrals = ReferralLayer::builder(keep).build().unwrap();
    routes()
        .layer(referrals)
        .layer(sessions(SessionManagerLayer::new(store.clone())))
}

fn routes() -> Router {
    Router::new()
        .route("/", get(async || "page"))
        .route(
            "/key",
            get(async |key: Option<ReferralKey>| {
                key.map(|key| key.to_string()).unwrap_or_default()
            }),
        )
        .route("/image", get(async || "image"))
        .route("/slow", get(async || pass(300).await))
        .route("/error", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/forget", post(async || (Forget, "forgotten")))
        .route("/session", get(show))
        .route(
            "/login",
            post(async |session: Session| {
                session.cycle_id().await.unwrap();
                session.insert("user", "ada").await.unwrap();
            }),
        )
        .route(
            "/logout",
            post(async |session: Session| session.flush().await.unwrap()),
        )
        .route(
            "/cart",
            post(async |session: Session| {
                let cart: u32 = session.get("cart").await.unwrap().unwrap_or_default();
                session.insert("cart", cart + 1).await.unwrap();
            }),
        )
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// What code that reads the session finds there: the user and the referral's key.
async fn show(session: Session) -> String {
    let user: Option<String> = session.get("user").await.unwrap();
    let copy: Option<serde_json::Value> = session.get(AppSession::KEY).await.unwrap();
    let key = copy
        .as_ref()
        .and_then(|copy| copy["default"]["key"].as_str());
    format!("{} {}", user.unwrap_or_default(), key.unwrap_or("none"))
}

/// A browser with two cookies, one of them `Strict`.
#[derive(Clone, Default)]
struct Browser {
    referral: Option<String>,
    session: Option<String>,
}

impl Browser {
    async fn send(&mut self, app: &Router, method: &str, uri: &str) -> (StatusCode, String) {
        self.ask(app, method, uri, true, "document").await
    }

    /// From another site, whose requests come without `Strict` cookies.
    async fn lands(&mut self, app: &Router, uri: &str) -> (StatusCode, String) {
        self.ask(app, "GET", uri, false, "document").await
    }

    async fn ask(
        &mut self,
        app: &Router,
        method: &str,
        uri: &str,
        same_site: bool,
        dest: &str,
    ) -> (StatusCode, String) {
        let site = if same_site {
            "same-origin"
        } else {
            "cross-site"
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header("sec-fetch-site", site)
            .header(
                "sec-fetch-mode",
                if dest == "document" {
                    "navigate"
                } else {
                    "no-cors"
                },
            )
            .header("sec-fetch-dest", dest);
        let session = self.session.iter().filter(|_| same_site);
        for pair in self.referral.iter().chain(session) {
            request = request.header(COOKIE, pair);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        for line in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie::Cookie::parse(line.to_str().unwrap()).unwrap();
            let held = if cookie.name() == "id" {
                &mut self.session
            } else {
                &mut self.referral
            };
            let is_kept = cookie.max_age() != Some(time::Duration::ZERO);
            *held = is_kept.then(|| format!("{}={}", cookie.name(), cookie.value()));
        }
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn session(&mut self, app: &Router) -> String {
        self.send(app, "GET", "/session").await.1
    }
}

#[tokio::test]
async fn a_landing_of_a_visitor_who_is_signed_in_keeps_both() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    let session = browser.session.clone();
    // The browser holds the `Strict` cookie back.
    browser.lands(&app, "/?aff=KEY").await;
    assert_eq!(browser.session, session, "nobody was signed out");
    assert_eq!(browser.send(&app, "GET", "/key").await.1, "KEY");
    assert_eq!(browser.session(&app).await, "ada KEY");
    assert_eq!(browser.session, session);
}

#[tokio::test]
async fn no_landing_makes_a_session() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.lands(&app, "/?aff=KEY").await;
    browser.send(&app, "GET", "/key").await;
    assert_eq!(browser.session, None);
    assert_eq!(store.records(), []);
    assert_eq!(store.calls(), [""; 0]);

    // Nor does one that comes with a session which isn't there any more.
    browser.send(&app, "POST", "/login").await;
    store.forget_everything();
    browser.send(&app, "GET", "/?aff=OTHER").await;
    assert_eq!(store.records(), []);
    assert_eq!(
        browser.send(&app, "GET", "/key").await.1,
        "KEY",
        "from within the site"
    );
}

#[tokio::test]
async fn the_copy_comes_with_the_session_and_comes_back_when_it_was_lost() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.lands(&app, "/?aff=KEY").await;
    // With the application's own save, in the very request that makes the session.
    browser.send(&app, "POST", "/login").await;
    assert_eq!(browser.session(&app).await, "ada KEY");
    // Through a rotation.
    browser.send(&app, "POST", "/login").await;
    assert_eq!(browser.session(&app).await, "ada KEY");
    // Through the end of the session: the next one has it again.
    browser.send(&app, "POST", "/logout").await;
    assert_eq!(browser.session, None);
    assert_eq!(store.records(), [], "no session for a referral's sake");
    browser.send(&app, "POST", "/login").await;
    assert_eq!(browser.session(&app).await, "ada KEY");
    // Lost by whatever else.
    let mut record = store.records().remove(0);
    record.data.remove(AppSession::KEY);
    store.put(record);
    browser.send(&app, "GET", "/").await;
    assert_eq!(browser.session(&app).await, "ada KEY");
    // A later touch replaces it, and another visitor's value doesn't stay.
    browser.lands(&app, "/?aff=LATER").await;
    browser.send(&app, "GET", "/").await;
    assert_eq!(browser.session(&app).await, "ada LATER");
}

#[tokio::test]
async fn the_application_loses_nothing_of_its_own() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    for visit in 0..5 {
        browser.send(&app, "POST", "/cart").await;
        browser.lands(&app, &format!("/?aff=KEY{visit}")).await;
        browser.send(&app, "GET", "/").await;
    }
    let record = store.records().remove(0);
    assert_eq!(record.data["cart"], 5);
    assert_eq!(record.data["user"], "ada");
    assert_eq!(browser.session(&app).await, "ada KEY4");
}

#[tokio::test]
async fn the_copy_goes_with_forget() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.lands(&app, "/?aff=KEY").await;
    browser.send(&app, "POST", "/login").await;
    browser.send(&app, "POST", "/forget").await;
    assert_eq!(browser.referral, None);
    assert_eq!(browser.session(&app).await, "ada none");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_changes_no_page_and_delays_it_by_250_milliseconds_at_most() {
    for mood in [Mood::Down, Mood::Hanging, Mood::Panicking, Mood::ReadOnly] {
        let store = Scripted::default();
        let app = app(&store);
        let mut browser = Browser::default();
        browser.send(&app, "POST", "/login").await;
        store.is(mood);
        let start = Instant::now();
        let landing = browser.send(&app, "GET", "/?aff=WITHIN").await;
        assert_eq!(landing, (StatusCode::OK, "page".to_owned()), "{mood:?}");
        let landing = browser.lands(&app, "/?aff=KEY").await;
        assert_eq!(landing, (StatusCode::OK, "page".to_owned()), "{mood:?}");
        let key = browser.send(&app, "GET", "/key").await;
        assert_eq!(key, (StatusCode::OK, "KEY".to_owned()), "{mood:?}");
        let took = start.elapsed();
        assert!(took <= Duration::from_millis(2 * 252), "{mood:?} {took:?}");
        store.is(Mood::Well);
        browser.send(&app, "GET", "/").await;
        assert_eq!(browser.session(&app).await, "ada KEY", "{mood:?}");
    }
}

#[tokio::test]
async fn images_and_visitors_without_a_referral_touch_no_store() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    store.calls();
    browser.send(&app, "GET", "/").await;
    assert_eq!(store.calls(), [""; 0], "no referral");
    browser.lands(&app, "/?aff=KEY").await;
    store.calls();
    browser.ask(&app, "GET", "/image", true, "image").await;
    assert_eq!(store.calls(), [""; 0], "an image");
    browser.send(&app, "GET", "/").await;
    assert_eq!(store.calls(), ["load", "save"], "the copy was missing");
    browser.send(&app, "GET", "/").await;
    assert_eq!(store.calls(), ["load"]);
}

#[tokio::test]
async fn the_copy_goes_along_where_every_request_saves_the_session() {
    let store = Scripted::default();
    let app = with_layers(&store, AppSession::always_save, |sessions| {
        let a_day = Expiry::OnInactivity(time::Duration::days(1));
        sessions.with_always_save(true).with_expiry(a_day)
    });
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    browser.lands(&app, "/?aff=KEY").await;
    browser.send(&app, "GET", "/session").await;
    assert_eq!(browser.session(&app).await, "ada KEY");
    assert_eq!(browser.session(&app).await, "ada KEY");
    // A session that isn't there any more isn't made again for a referral's sake.
    store.forget_everything();
    browser.send(&app, "GET", "/").await;
    let records = store.records();
    assert!(
        records
            .iter()
            .all(|record| !record.data.contains_key(AppSession::KEY))
    );
}

// ===== Beside other requests with the same session =====

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_ended_once_more_and_a_living_one_is_not() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    browser.lands(&app, "/?aff=KEY").await;
    browser.send(&app, "GET", "/").await;
    pass(1000).await;
    let [record] = &store.records()[..] else {
        panic!("nobody has ended it");
    };
    browser.send(&app, "POST", "/logout").await;
    assert_eq!(store.records(), []);
    // A save that was on its way brings it back.
    store.put(record.clone());
    pass(490).await;
    assert_eq!(store.records().len(), 1, "another may be on its way still");
    pass(20).await;
    assert_eq!(store.records(), []);
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_written_while_another_request_is_at_work_on_the_session() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    browser.lands(&app, "/?aff=KEY").await;
    let mut script = browser.clone();
    let mut elsewhere = Browser {
        referral: None,
        ..browser.clone()
    };
    let slow = async {
        script.ask(&app, "GET", "/slow", true, "empty").await;
    };
    let pages = async {
        for millis in [10, 10, 10] {
            pass(millis).await;
            store.calls();
            browser.send(&app, "GET", "/").await;
            assert_eq!(store.calls(), ["load"], "the slow one isn't done");
        }
        // Nor is it when the application has saved the session for a third one.
        elsewhere.send(&app, "POST", "/cart").await;
        pass(150).await;
        for _ in 0..2 {
            store.calls();
            browser.send(&app, "GET", "/").await;
            assert_eq!(store.calls(), ["load"], "the slow one still isn't done");
        }
    };
    tokio::join!(slow, pages);
    store.calls();
    browser.send(&app, "GET", "/").await;
    assert_eq!(store.calls(), ["load", "save"], "nobody else is");
    assert_eq!(browser.session(&app).await, "ada KEY");
    assert_eq!(store.records()[0].data["cart"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_waits_until_the_application_has_saved_that_session() {
    let store = Scripted::default();
    let app = app(&store);
    let (mut ada, mut other) = (Browser::default(), Browser::default());
    ada.send(&app, "POST", "/login").await;
    other.send(&app, "POST", "/login").await;
    // (when each saves something in its session, how long the page waits that comes then)
    for (at, ada_saves, other_saves, waits) in [
        (0, true, false, 100),
        (60, true, false, 40),
        (0, false, true, 0),
        (50, true, true, 50),
        (100, true, false, 0),
        (300, true, true, 0),
    ] {
        pass(500).await;
        for mut record in store.records() {
            record.data.remove(AppSession::KEY);
            store.put(record);
        }
        let mut without = Browser {
            referral: None,
            ..ada.clone()
        };
        if ada_saves {
            without.send(&app, "POST", "/cart").await;
        }
        pass(at).await;
        if other_saves {
            other.send(&app, "POST", "/cart").await;
        }
        let start = Instant::now();
        ada.send(&app, "GET", "/?aff=KEY").await;
        let waited = start.elapsed().as_millis();
        assert!((waits..waits + 5).contains(&waited), "{at}: {waited}");
        assert_eq!(ada.session(&app).await, "ada KEY", "{at}");
    }
    // Of several saves the last one counts.
    pass(500).await;
    let mut without = Browser {
        referral: None,
        ..ada.clone()
    };
    ada.send(&app, "POST", "/forget").await;
    pass(500).await;
    without.send(&app, "POST", "/cart").await;
    pass(50).await;
    without.send(&app, "POST", "/cart").await;
    pass(10).await;
    let start = Instant::now();
    ada.send(&app, "GET", "/?aff=KEY").await;
    let waited = start.elapsed().as_millis();
    assert!((90..95).contains(&waited), "{waited}");
    assert_eq!(ada.session(&app).await, "ada KEY");
}

#[tokio::test]
async fn an_error_page_keeps_the_referral_and_the_session() {
    let store = Scripted::default();
    let app = app(&store);
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    let (status, _) = browser.lands(&app, "/error?aff=KEY").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    browser.send(&app, "GET", "/").await;
    assert_eq!(browser.session(&app).await, "ada KEY");
}

#[tokio::test]
async fn a_layer_in_the_wrong_place_is_named_at_the_first_request() {
    let store = Scripted::default();
    let referrals = ReferralLayer::builder(AppSession::new(store.clone(), keyring()))
        .build()
        .unwrap();
    let app = routes()
        .layer(SessionManagerLayer::new(store))
        .layer(referrals.clone());
    let (status, body) = Browser::default().send(&app, "GET", "/key").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("put `SessionManagerLayer` outside"), "{body}");

    // And so is another version of tower-sessions than the store's.
    let other = tower_sessions_0_14::MemoryStore::default();
    let app = Router::new()
        .route("/key", get(async |_: Option<ReferralKey>| "key"))
        .layer(referrals)
        .layer(tower_sessions_0_14::SessionManagerLayer::new(other));
    let (status, body) = Browser::default().send(&app, "GET", "/key").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("tower-sessions-0_15"), "{body}");
}

#[tokio::test]
async fn tower_sessions_0_14_does_as_well() {
    use tower_sessions_0_14::{MemoryStore, Session, SessionManagerLayer};

    let store = MemoryStore::default();
    let referrals = ReferralLayer::builder(AppSession::new(store.clone(), keyring()))
        .build()
        .unwrap();
    let show = async |session: Session| {
        let copy: Option<serde_json::Value> = session.get(AppSession::KEY).await.unwrap();
        copy.unwrap_or_default()["default"]["key"].to_string()
    };
    let app = Router::new()
        .route("/session", get(show))
        .route(
            "/login",
            post(async |session: Session| session.insert("user", "ada").await.unwrap()),
        )
        .layer(referrals)
        .layer(SessionManagerLayer::new(store));
    let mut browser = Browser::default();
    browser.send(&app, "POST", "/login").await;
    browser.lands(&app, "/session?aff=KEY").await;
    browser.session(&app).await;
    assert_eq!(browser.session(&app).await, "\"KEY\"");
}

#[test]
fn debug_says_what_was_chosen_and_shows_no_secret() {
    let session = AppSession::new(Scripted::default(), keyring());
    let shown = format!("{:?}", session.always_save());
    assert!(
        shown.starts_with("AppSession { cookie: SignedCookie"),
        "{shown}"
    );
    assert!(
        shown.contains("time_limit: 250ms, always_save: true"),
        "{shown}"
    );
    assert!(!shown.contains("0, 1, 2, 3"), "{shown}");
}
