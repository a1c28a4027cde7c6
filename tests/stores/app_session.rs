//! The copy in the application's own session: it goes along with the application's saves, and the layer
//! itself never asks the store for anything. The same tests for both versions of tower-sessions.

use axum::Router;
use axum::body::Body;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_referral::{AppSession, Program, ReferralKey, ReferralLayer};

use crate::support::keyring;

/// A browser with a referral and a session.
#[derive(Clone, Default)]
struct Browser {
    referral: Option<String>,
    session: Option<String>,
}

impl Browser {
    async fn send(&mut self, app: &Router, method: &str, uri: &str) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(uri);
        for pair in self.referral.iter().chain(&self.session) {
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

    async fn page(&mut self, app: &Router, uri: &str) -> String {
        self.send(app, "GET", uri).await.1
    }

    async fn posts(&mut self, app: &Router, uri: &str) -> StatusCode {
        self.send(app, "POST", uri).await.0
    }
}

#[test]
fn debug_says_what_was_chosen_and_shows_no_secret() {
    let session = AppSession::new(&tower_sessions::MemoryStore::default(), keyring());
    let shown = format!("{session:?}");
    assert!(
        shown.starts_with("AppSession { cookie: SignedCookie"),
        "{shown}"
    );
    assert!(!shown.contains("0, 1, 2, 3"), "{shown}");
}

#[tokio::test]
async fn a_layer_in_the_wrong_place_is_named_at_the_first_request() {
    let store = tower_sessions::MemoryStore::default();
    let referrals = ReferralLayer::builder(AppSession::new(&store, keyring()))
        .build()
        .unwrap();
    let routes = || {
        let key = async |_: Option<ReferralKey>| "key";
        Router::new().route("/key", axum::routing::get(key))
    };
    let outside = routes()
        .layer(tower_sessions::SessionManagerLayer::new(store))
        .layer(referrals.clone());
    // The session of another version of tower-sessions isn't one.
    let other = tower_sessions_0_14::MemoryStore::default();
    let other = routes()
        .layer(referrals)
        .layer(tower_sessions_0_14::SessionManagerLayer::new(other));
    for app in [outside, other] {
        let (status, body) = Browser::default().send(&app, "GET", "/key").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        for part in [
            "put `SessionManagerLayer`",
            "`AuthManagerLayer`",
            "tower-sessions-0_15",
        ] {
            assert!(body.contains(part), "{body}");
        }
    }
}

macro_rules! with_version {
    ($module:ident, $tower_sessions:ident) => {
        mod $module {
            use std::sync::{Arc, Mutex};

            use async_trait::async_trait;
            use axum::routing::{get, post};
            use tower_referral::{Forget, SignedCookie};
            use $tower_sessions::session::{Id, Record};
            use $tower_sessions::session_store::{Error, Result};
            use $tower_sessions::{
                Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore,
            };

            use super::*;

            /// A store in memory that notes every call, and can fail to find what it has.
            #[derive(Clone, Debug, Default)]
            struct Noting {
                inner: MemoryStore,
                calls: Arc<Mutex<Vec<String>>>,
                misses: Arc<Mutex<u32>>,
                is_down: Arc<Mutex<bool>>,
            }

            impl Noting {
                fn note(&self, call: &str) -> Result<()> {
                    self.calls.lock().unwrap().push(call.to_owned());
                    if *self.is_down.lock().unwrap() {
                        return Err(Error::Backend("down".to_owned()));
                    }
                    Ok(())
                }

                fn calls(&self) -> Vec<String> {
                    std::mem::take(&mut self.calls.lock().unwrap())
                }
            }

            #[async_trait]
            impl SessionStore for Noting {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    self.note("create")?;
                    self.inner.create(record).await
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    self.note("save")?;
                    self.inner.save(record).await
                }

                async fn load(&self, id: &Id) -> Result<Option<Record>> {
                    self.note("load")?;
                    let is_missed = {
                        let mut misses = self.misses.lock().unwrap();
                        let is_missed = *misses > 0;
                        *misses = misses.saturating_sub(1);
                        is_missed
                    };
                    if is_missed {
                        return Ok(None);
                    }
                    self.inner.load(id).await
                }

                async fn delete(&self, id: &Id) -> Result<()> {
                    self.note("delete")?;
                    self.inner.delete(id).await
                }
            }

            /// An application that signs visitors in by a session, as most do.
            fn app(store: &Noting) -> Router {
                let session = AppSession::new(store, keyring());
                with(store, &ReferralLayer::builder(session).build().unwrap())
            }

            fn with(store: &Noting, referrals: &ReferralLayer) -> Router {
                Router::new()
                    .route("/", get(async || "page"))
                    .route("/session", get(show))
                    .route("/touch", post(touch))
                    .route("/login", post(login))
                    .route(
                        "/logout",
                        post(async |session: Session| session.flush().await.unwrap()),
                    )
                    .route(
                        "/empty",
                        post(async |session: Session| session.clear().await),
                    )
                    .route("/cart", post(fill_cart))
                    .route("/error", post(fail))
                    .route("/forget", post(forget))
                    .layer(referrals.clone())
                    .layer(SessionManagerLayer::new(store.clone()))
            }

            async fn login(session: Session) {
                session.cycle_id().await.unwrap();
                session.insert("user", "ada").await.unwrap();
            }

            async fn fill_cart(session: Session) {
                let cart: u32 = session.get("cart").await.unwrap().unwrap_or_default();
                session.insert("cart", cart + 1).await.unwrap();
            }

            async fn fail(session: Session) -> StatusCode {
                session.insert("failed", true).await.unwrap();
                StatusCode::INTERNAL_SERVER_ERROR
            }

            async fn forget(session: Session) -> (Forget, &'static str) {
                session.insert("forgot", true).await.unwrap();
                (Forget, "forgotten")
            }

            /// Changes the session without loading it.
            async fn touch(session: Session) {
                session.set_expiry(Some(Expiry::OnSessionEnd));
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

            #[tokio::test]
            async fn the_copy_goes_along_with_the_applications_saves_and_with_nothing_else() {
                let store = Noting::default();
                let app = app(&store);
                let mut browser = Browser::default();
                browser.posts(&app, "/login").await;
                browser.page(&app, "/?aff=KEY").await;
                assert_eq!(
                    browser.page(&app, "/session").await,
                    "ada none",
                    "not before"
                );
                browser.posts(&app, "/cart").await;
                assert_eq!(browser.page(&app, "/session").await, "ada KEY");
                // Through a rotation, and into the next session.
                browser.posts(&app, "/login").await;
                assert_eq!(browser.page(&app, "/session").await, "ada KEY");
                browser.posts(&app, "/logout").await;
                assert_eq!(browser.page(&app, "/session").await, " none");
                browser.posts(&app, "/login").await;
                assert_eq!(browser.page(&app, "/session").await, "ada KEY");
                // A later touch takes its place with the next save.
                browser.page(&app, "/?aff=LATER").await;
                browser.posts(&app, "/cart").await;
                assert_eq!(browser.page(&app, "/session").await, "ada LATER");
                // It goes with `Forget`.
                browser.posts(&app, "/forget").await;
                assert_eq!(browser.page(&app, "/session").await, "ada none");
            }

            #[tokio::test]
            async fn each_programs_referral_is_under_its_name() {
                let store = Noting::default();
                let referrals = ReferralLayer::builder(AppSession::new(&store, keyring()))
                    .program(Program::new("partners").params(["aff"]))
                    .program(Program::new("friends").params(["via"]))
                    .build()
                    .unwrap();
                let show = async |session: Session| {
                    let copy: Option<serde_json::Value> =
                        session.get(AppSession::KEY).await.unwrap();
                    let copy = copy.unwrap_or_default();
                    format!("{} {}", copy["partners"]["key"], copy["friends"]["key"])
                };
                let app = Router::new()
                    .route("/login", post(login))
                    .route("/session", get(show))
                    .layer(referrals)
                    .layer(SessionManagerLayer::new(store));
                let mut browser = Browser::default();
                browser.send(&app, "POST", "/login").await;
                browser.page(&app, "/session?aff=P").await;
                browser.posts(&app, "/login").await;
                assert_eq!(browser.page(&app, "/session").await, "\"P\" null");
            }

            #[tokio::test]
            async fn k2_the_layer_makes_no_call_of_its_own() {
                let walk = [
                    ("GET", "/?aff=A"),
                    ("POST", "/login"),
                    ("GET", "/?aff=B"),
                    ("GET", "/"),
                    ("GET", "/session"),
                    ("POST", "/cart"),
                    ("GET", "/?aff=C"),
                    ("POST", "/touch"),
                    ("POST", "/login"),
                    ("POST", "/error"),
                    ("POST", "/forget"),
                    ("GET", "/?aff=D"),
                    ("POST", "/empty"),
                    ("POST", "/logout"),
                    ("GET", "/?aff=E"),
                    ("GET", "/session"),
                ];
                let (store, plain) = (Noting::default(), Noting::default());
                let cookie = ReferralLayer::builder(SignedCookie::new(keyring())).build();
                let (app, without) = (app(&store), with(&plain, &cookie.unwrap()));
                let (mut browser, mut other) = (Browser::default(), Browser::default());
                for (method, uri) in walk {
                    browser.send(&app, method, uri).await;
                    other.send(&without, method, uri).await;
                    let calls = plain.calls();
                    if uri == "/touch" {
                        // Nothing is loaded: the insert is polled once, and this store answers at once.
                        let load = store.calls();
                        assert!(load.ends_with(&calls), "{load:?}");
                    } else {
                        assert_eq!(store.calls(), calls, "{method} {uri}");
                    }
                    assert_eq!(browser.session.is_some(), other.session.is_some(), "{uri}");
                }
            }

            #[tokio::test]
            async fn k1_a_store_that_misses_the_session_once_signs_nobody_out() {
                for requests in [
                    [("GET", "/?aff=KEY"), ("GET", "/")],
                    [("GET", "/session"), ("GET", "/?aff=KEY")],
                    [("GET", "/?aff=KEY"), ("GET", "/session")],
                    [("GET", "/?aff=KEY"), ("POST", "/cart")],
                ] {
                    // tower-sessions itself does what it does; with the layer, nothing else.
                    let (store, plain) = (Noting::default(), Noting::default());
                    let cookie = ReferralLayer::builder(SignedCookie::new(keyring())).build();
                    let apps = [app(&store), with(&plain, &cookie.unwrap())];
                    let mut kept = Vec::new();
                    for (app, store) in apps.iter().zip([&store, &plain]) {
                        let mut browser = Browser::default();
                        browser.posts(app, "/login").await;
                        browser.posts(app, "/cart").await;
                        let before = browser.session.clone();
                        *store.misses.lock().unwrap() = 1;
                        for (method, uri) in requests {
                            browser.send(app, method, uri).await;
                        }
                        *store.misses.lock().unwrap() = 0;
                        browser.session = before;
                        let user = browser.page(app, "/session").await;
                        let user = user.split(' ').next().map(str::to_owned);
                        kept.push((store.calls(), user));
                    }
                    assert_eq!(kept[0], kept[1], "{requests:?}");
                }
            }

            #[tokio::test]
            async fn a_referral_makes_no_session_and_holds_none_open() {
                let store = Noting::default();
                let app = app(&store);
                let mut browser = Browser::default();
                browser.page(&app, "/?aff=KEY").await;
                browser.page(&app, "/").await;
                assert_eq!((browser.session.clone(), store.calls().len()), (None, 0));
                // One that is being ended stays ended.
                browser.posts(&app, "/login").await;
                browser.posts(&app, "/logout").await;
                assert_eq!(browser.session, None);
            }

            #[tokio::test]
            async fn an_answer_of_5xx_gets_no_copy_and_keeps_the_referral() {
                let store = Noting::default();
                let app = app(&store);
                let mut browser = Browser::default();
                browser.posts(&app, "/login").await;
                browser.page(&app, "/?aff=KEY").await;
                let status = browser.posts(&app, "/error").await;
                assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
                assert_eq!(browser.page(&app, "/session").await, "ada none");
                browser.posts(&app, "/cart").await;
                assert_eq!(browser.page(&app, "/session").await, "ada KEY");
            }

            #[tokio::test]
            async fn the_application_loses_nothing_of_its_own() {
                let store = Noting::default();
                let app = app(&store);
                let mut browser = Browser::default();
                browser.posts(&app, "/login").await;
                for visit in 0..5 {
                    browser.posts(&app, "/cart").await;
                    browser.page(&app, &format!("/?aff=KEY{visit}")).await;
                }
                let id = browser.session.clone().unwrap();
                let id: Id = id.strip_prefix("id=").unwrap().parse().unwrap();
                let record = store.inner.load(&id).await.unwrap().unwrap();
                assert_eq!(record.data["cart"], 5);
                assert_eq!(record.data["user"], "ada");
                assert_eq!(record.data[AppSession::KEY]["default"]["key"], "KEY3");
            }

            #[tokio::test]
            async fn a_store_that_is_down_changes_no_landing() {
                let store = Noting::default();
                let app = app(&store);
                let mut browser = Browser::default();
                browser.posts(&app, "/login").await;
                *store.is_down.lock().unwrap() = true;
                let landing = browser.send(&app, "GET", "/?aff=KEY").await;
                assert_eq!(landing, (StatusCode::OK, "page".to_owned()));
                *store.is_down.lock().unwrap() = false;
                browser.posts(&app, "/cart").await;
                assert_eq!(browser.page(&app, "/session").await, "ada KEY");
            }
        }
    };
}

with_version!(v0_14, tower_sessions_0_14);
with_version!(v0_15, tower_sessions);
