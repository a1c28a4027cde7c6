//! The layer as a citizen of Tower: any body, any inner service, backpressure, errors, routers,
//! and a real server.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, Ready, poll_fn, ready};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::common::{COOKIE_NAME, Clock, at_once, keyring};
use http::{Request, Response, Uri};
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_referral::{
    CleanUrlFuture, CleanUrlLayer, Decisions, Program, Referral, ReferralLayer,
    ReferralLayerBuilder, ReferralService, Referrals, ResponseFuture, SignedCookie,
};

fn layer_with(
    configure: impl FnOnce(ReferralLayerBuilder) -> ReferralLayerBuilder,
) -> ReferralLayer {
    let builder = ReferralLayer::builder(SignedCookie::new(keyring())).clock(Clock::new().reader());
    configure(builder).build().unwrap()
}

fn layer() -> ReferralLayer {
    layer_with(|builder| builder)
}

fn landing<B>(body: B) -> Request<B> {
    Request::get("/p?aff=K").body(body).unwrap()
}

fn has_cookie<B>(response: &Response<B>) -> bool {
    response.headers().get_all("set-cookie").iter().count() == 1
}

/// Neither `Clone` nor `Default` nor `Send` nor `'static`.
struct Odd<'a>(&'a Cell<u32>, PhantomData<Rc<()>>);

/// An inner service that can do nothing but what it must.
struct Inner<'a>(&'a Cell<u32>);

impl<'a> Service<Request<Odd<'a>>> for Inner<'a> {
    type Response = Response<Odd<'a>>;
    type Error = Odd<'a>;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Odd<'a>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Odd<'a>>) -> Self::Future {
        self.0.set(self.0.get() + 1);
        ready(Ok(Response::new(request.into_body())))
    }
}

#[test]
fn nothing_is_asked_of_bodies_errors_and_the_inner_service() {
    let calls = Cell::new(0);
    let body = Cell::new(7);
    let mut service = layer().layer(Inner(&calls));
    let response = at_once(service.call(landing(Odd(&body, PhantomData))));
    let response = response.unwrap_or_else(|_| panic!("the inner service never fails"));
    assert!(has_cookie(&response));
    assert_eq!(response.body().0.get(), 7);
    assert_eq!(calls.get(), 1);
}

#[test]
fn what_can_be_sent_and_shared_still_can() {
    fn check<T: Send + Sync + Clone + std::fmt::Debug + 'static>(_: &T) {}
    fn check_future<T: Send + std::fmt::Debug>(_: &T) {}
    let layer = layer();
    check(&layer);
    let service: ReferralService<&str> = layer.layer("inner");
    check(&service);
    let future = layer
        .layer(service_fn(|_: Request<()>| {
            ready(Ok::<_, Infallible>(Response::new(())))
        }))
        .call(landing(()));
    check_future::<ResponseFuture<Ready<Result<Response<()>, Infallible>>>>(&future);
    let future = CleanUrlLayer::new()
        .layer(service_fn(|_: Request<()>| {
            ready(Ok::<_, Infallible>(Response::new(())))
        }))
        .call(landing(()));
    check_future::<CleanUrlFuture<Ready<Result<Response<()>, Infallible>>, ()>>(&future);
}

/// Must be polled ready before every call; the first time it isn't. Counts on one very instance.
struct Gate {
    polls: u32,
    open: bool,
    refuses: bool,
}

impl Service<Request<()>> for Gate {
    type Response = Response<u32>;
    type Error = &'static str;
    type Future = Ready<Result<Response<u32>, &'static str>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.polls += 1;
        if self.refuses {
            return Poll::Ready(Err("overloaded"));
        }
        if self.polls == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.open = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.open),
            "called without having been ready"
        );
        ready(Ok(Response::new(self.polls)))
    }
}

#[test]
fn backpressure_is_the_inner_services_own_and_the_ready_one_is_called() {
    let gate = |refuses| Gate {
        polls: 0,
        open: false,
        refuses,
    };
    let mut service = layer().layer(gate(false));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_pending());
    assert!(service.poll_ready(&mut cx).is_ready());
    assert_eq!(*at_once(service.call(landing(()))).unwrap().body(), 2);
    assert!(service.poll_ready(&mut cx).is_ready());
    assert_eq!(*at_once(service.call(landing(()))).unwrap().body(), 3);

    let mut service = layer().layer(gate(true));
    assert_eq!(service.poll_ready(&mut cx), Poll::Ready(Err("overloaded")));
}

#[test]
fn an_inner_error_passes_through() {
    for uri in ["/", "/?aff=K"] {
        let inner = service_fn(|_: Request<()>| ready(Err::<Response<()>, _>("broken")));
        let request = Request::get(uri).body(()).unwrap();
        let result = at_once(layer().layer(inner).oneshot(request));
        assert_eq!(result.map(|_| ()), Err("broken"), "{uri}");
    }
}

#[test]
fn a_response_that_takes_its_time_is_waited_for() {
    struct Slow(u32);
    impl Future for Slow {
        type Output = Result<Response<()>, Infallible>;
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            self.0 += 1;
            if self.0 < 3 {
                Poll::Pending
            } else {
                Poll::Ready(Ok(Response::new(())))
            }
        }
    }
    let mut service = layer().layer(service_fn(|_: Request<()>| Slow(0)));
    let mut future = pin!(service.call(landing(())));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
        panic!("ready by now");
    };
    assert!(has_cookie(&response));
}

#[test]
fn the_inner_service_is_called_at_once() {
    let called = Rc::new(Cell::new(false));
    let note = Rc::clone(&called);
    let mut service = layer().layer(service_fn(move |_: Request<()>| {
        note.set(true);
        std::future::pending::<Result<Response<()>, Infallible>>()
    }));
    let future = service.call(landing(()));
    assert!(called.get(), "before anybody polls");
    drop(future);
}

/// A handler that answers with the key that it saw.
async fn echo<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
    let referrals = Referrals::from_extensions(request.extensions()).await;
    let referrals = referrals.expect("behind the layer");
    let key = referrals
        .first()
        .map(|referral| referral.key().unwrap().to_string());
    Ok(Response::new(key.unwrap_or_default()))
}

#[test]
fn in_a_service_builder_with_cloned_services() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .map_request(|request: Request<()>| request)
        .service_fn(echo);
    for _ in 0..2 {
        let response = at_once(service.clone().oneshot(landing(()))).unwrap();
        assert_eq!(response.body(), "K");
        assert!(has_cookie(&response));
    }
}

#[test]
fn of_two_layers_the_outer_one_does_the_work() {
    // (request target, cookies of other visits, key that the handler sees)
    let value = {
        let response = at_once(layer().layer(service_fn(echo)).oneshot(landing(()))).unwrap();
        let line = response.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .to_owned();
        line.split(';').next().unwrap().to_owned()
    };
    for (uri, cookie, key, changed) in [
        ("/?aff=L", None, "L", true),
        ("/?aff=L", Some(&value), "L", true),
        ("/", Some(&value), "K", false),
        ("/", None, "", false),
    ] {
        let inner = layer_with(|b| b.program(Program::default().params(["other"])));
        let service = ServiceBuilder::new()
            .layer(layer())
            .layer(inner)
            .service_fn(echo);
        let mut request = Request::get(uri).body(()).unwrap();
        if let Some(cookie) = cookie {
            request
                .headers_mut()
                .insert("cookie", cookie.parse().unwrap());
        }
        let response = at_once(service.oneshot(request)).unwrap();
        assert_eq!(response.body(), key, "{uri} {cookie:?}");
        assert_eq!(has_cookie(&response), changed, "{uri} {cookie:?}");
        let decisions = response.extensions().get::<Decisions>();
        assert_eq!(
            decisions.map_or(0, |d| d.iter().count()),
            usize::from(changed)
        );
    }
}

#[test]
fn a_command_reaches_the_outer_of_two_layers() {
    let handler = service_fn(|_: Request<()>| {
        let mut response = Response::new(());
        response.extensions_mut().insert(tower_referral::Forget);
        ready(Ok::<_, Infallible>(response))
    });
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(layer())
        .service(handler);
    let response = at_once(service.oneshot(landing(()))).unwrap();
    assert!(has_cookie(&response));
    assert!(
        response.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
}

/// Asks as a handler does.
async fn asked<B>(request: Request<B>) -> Option<Referrals> {
    Referrals::from_extensions(request.extensions()).await.ok()
}

#[test]
fn a_command_on_the_request_needs_an_unsafe_method_and_the_error_names_the_safe_ones() {
    let forget = service_fn(|request: Request<()>| {
        let referrals = at_once(asked(request)).unwrap();
        ready(Ok::<_, Infallible>(Response::new(referrals.forget())))
    });
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT"] {
        let request = Request::builder().method(method).uri("/p").body(());
        let response = at_once(layer().layer(forget).call(request.unwrap())).unwrap();
        match response.into_body() {
            Ok(()) => assert!(matches!(method, "POST" | "PUT"), "{method}"),
            Err(error) => assert!(
                error.to_string().contains(&format!("`{method}`")),
                "{error}"
            ),
        }
    }
}

/// A request without the layer's cookie or parameter, and without anything in its extensions.
fn unmarked() -> Request<()> {
    Request::get("/p").body(()).unwrap()
}

#[test]
fn where_nobody_can_know_of_a_layer_there_is_no_referral() {
    // In the call, in the future, and wherever the request goes from there.
    let in_call = service_fn(|request: Request<()>| {
        let found = at_once(asked(request));
        ready(Ok::<_, Infallible>(Response::new(found)))
    });
    let in_task = service_fn(async |request: Request<()>| {
        let found = tokio::spawn(asked(request)).await.unwrap();
        Ok::<_, Infallible>(Response::new(found))
    });
    let response = at_once(layer().layer(in_call).call(unmarked())).unwrap();
    assert_eq!(response.into_body(), Some(Referrals::default()));
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let response = runtime.block_on(layer().layer(in_task).call(unmarked()));
    assert_eq!(response.unwrap().into_body(), Some(Referrals::default()));
    let service = ServiceBuilder::new().layer(layer()).layer(layer());
    let response = at_once(service.service(in_call).call(unmarked())).unwrap();
    assert_eq!(response.into_body(), Some(Referrals::default()));
}

#[test]
fn where_the_extensions_have_something_the_mark_is_there_too() {
    #[derive(Clone)]
    struct Others;

    let keeps =
        service_fn(|request: Request<()>| ready(Ok::<_, Infallible>(Response::new(request))));
    let mut request = unmarked();
    request.extensions_mut().insert(Others);
    let response = at_once(layer().layer(keeps).call(request)).unwrap();
    // Wherever it goes from here.
    let request = response.into_body();
    assert_eq!(request.extensions().len(), 2);
    let found = std::thread::spawn(|| at_once(asked(request))).join();
    assert_eq!(found.unwrap(), Some(Referrals::default()));
}

#[cfg(feature = "axum")]
mod routers {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::OriginalUri;
    use axum::routing::get;
    use tower_referral::ReferralKey;

    use super::*;

    fn ask(app: &Router, uri: &str) -> Response<Body> {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let Ok(response) = at_once(app.clone().oneshot(request));
        response
    }

    #[test]
    fn a_task_that_a_handler_spawns_finds_the_layer() {
        let spawning = async |request: Request<Body>| {
            let found = tokio::spawn(asked(request)).await.unwrap();
            format!("{:?}", found.map(|found| found.iter().count()))
        };
        let app = Router::new()
            .route("/p", get(spawning))
            .fallback(spawning)
            .layer(layer());
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        for (uri, expected) in [
            ("/p", "Some(0)"),
            ("/p?aff=K", "Some(1)"),
            ("/elsewhere", "Some(0)"),
        ] {
            let request = Request::get(uri).body(Body::empty()).unwrap();
            let Ok(response) = runtime.block_on(app.clone().oneshot(request));
            let body = runtime.block_on(axum::body::to_bytes(response.into_body(), 64));
            assert_eq!(body.unwrap(), expected, "{uri}");
        }
    }

    #[test]
    fn a_route_layer_covers_the_routes_and_not_the_fallback() {
        let app = Router::new()
            .route("/p", get(async |key: ReferralKey| key.to_string()))
            .route_layer(layer());
        assert!(has_cookie(&ask(&app, "/p?aff=K")));
        let missing = ask(&app, "/missing?aff=K");
        assert_eq!(missing.status(), 404);
        assert!(!has_cookie(&missing));

        let whole = Router::new().route("/p", get(async || "")).layer(layer());
        let missing = ask(&whole, "/missing?aff=K");
        assert_eq!(missing.status(), 404);
        assert!(
            has_cookie(&missing),
            "a landing on a page that is gone counts"
        );
        let wrong_method = Router::new()
            .route("/p", axum::routing::post(async || ""))
            .layer(layer());
        let response = ask(&wrong_method, "/p?aff=K");
        assert_eq!(response.status(), 405);
        assert!(has_cookie(&response));
    }

    async fn page(referral: Referral) -> String {
        referral.landing_page().unwrap_or_default()
    }

    /// `/shop/...` with the layer inside the nested router, where axum has stripped `/shop`.
    fn nested(layer: ReferralLayer) -> Router {
        let shop = Router::new()
            .route("/checkout", get(page))
            .route("/p", get(page))
            .layer(layer);
        Router::new().nest("/shop", shop)
    }

    fn text(response: Response<Body>) -> String {
        use http_body_util::BodyExt as _;
        let body = at_once(response.into_body().collect()).unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn in_a_nested_router_the_original_uri_is_the_visitors() {
        let configure = |builder: ReferralLayerBuilder| builder.stand_down("/shop/checkout");
        let original = nested(layer_with(|builder| {
            configure(builder).original_uri(|request| {
                let uri = request.extensions().get::<OriginalUri>();
                uri.map(|uri| &uri.0)
            })
        }));
        let response = ask(&original, "/shop/p?aff=K&a=1");
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        assert_eq!(text(response), "/shop/p?aff=K");

        let hijack = |app: &Router| {
            let request = Request::get("/shop/checkout?aff=COUPON")
                .header("cookie", &cookie)
                .body(Body::empty())
                .unwrap();
            let Ok(response) = at_once(app.clone().oneshot(request));
            has_cookie(&response)
        };
        assert!(
            !hijack(&original),
            "the checkout is where the visitor sees it"
        );
        let stripped = nested(layer_with(configure));
        assert!(
            hijack(&stripped),
            "without the hook the layer sees /checkout"
        );

        let outside = Router::new()
            .nest("/shop", Router::new().route("/p", get(page)))
            .layer(layer());
        assert_eq!(text(ask(&outside, "/shop/p?aff=K")), "/shop/p?aff=K");
    }

    #[test]
    fn merged_and_nested_routers_share_one_layer() {
        let nested = Router::new().route("/key", get(async |key: ReferralKey| key.to_string()));
        let merged = Router::new().route("/merged", get(async |key: ReferralKey| key.to_string()));
        let app = Router::new()
            .nest("/deep/er", nested)
            .merge(merged)
            .layer(layer());
        for uri in ["/deep/er/key?aff=K", "/merged?aff=K"] {
            let response = ask(&app, uri);
            assert!(has_cookie(&response), "{uri}");
            assert_eq!(text(response), "K", "{uri}");
        }
    }
}

#[test]
fn a_missing_original_uri_falls_back_to_the_requests_own() {
    let layer = layer_with(|b| b.original_uri(|_| None::<&Uri>));
    let page = service_fn(async |request: Request<()>| {
        let referral = Referral::from_extensions(request.extensions())
            .await
            .unwrap();
        Ok::<_, Infallible>(Response::new(referral.unwrap().landing_page()))
    });
    let response = at_once(layer.layer(page).oneshot(landing(()))).unwrap();
    assert_eq!(response.body().as_deref(), Some("/p?aff=K"));
}

mod on_a_server {
    use bytes::Bytes;
    use http::Version;
    use http_body_util::{BodyExt as _, Empty, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::{http1, http2};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::service::TowerToHyperService;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Serves one connection.
    async fn serve(version: Version) -> TokioIo<TcpStream> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = TokioIo::new(stream);
            let service = layer_with(|builder| builder.stand_down("/checkout"));
            let service = service.layer(service_fn(move |request: Request<Incoming>| async move {
                assert_eq!(request.version(), version);
                let response = echo(request).await?;
                Ok::<_, Infallible>(response.map(|body| Full::new(Bytes::from(body))))
            }));
            let service = TowerToHyperService::new(service);
            // The client hangs up when the test is over.
            let _ = if version == Version::HTTP_2 {
                let server = http2::Builder::new(TokioExecutor::new());
                server.serve_connection(stream, service).await
            } else {
                http1::Builder::new()
                    .serve_connection(stream, service)
                    .await
            };
        });
        TokioIo::new(TcpStream::connect(address).await.unwrap())
    }

    fn get(uri: &str, cookies: &[&str]) -> Request<Empty<Bytes>> {
        let mut request = Request::get(uri)
            .header("host", "shop.example")
            .body(Empty::new())
            .unwrap();
        for cookie in cookies {
            request
                .headers_mut()
                .append("cookie", cookie.parse().unwrap());
        }
        request
    }

    struct Got {
        cookie: Option<String>,
        cache_control: Option<String>,
        body: String,
    }

    async fn read(response: Response<Incoming>) -> Got {
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let pair = |line: String| line.split(';').next().unwrap().to_owned();
        let (cookie, cache_control) = (header("set-cookie").map(pair), header("cache-control"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Got {
            cookie,
            cache_control,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Lands, returns, and returns with the cookie in a crumb among others.
    macro_rules! visit_with {
        ($sender:ident, $base:literal) => {
            let mut send = async |path: &str, cookies: &[&str]| {
                let uri = format!("{}{path}", $base);
                poll_fn(|cx| $sender.poll_ready(cx)).await.unwrap();
                read($sender.send_request(get(&uri, cookies)).await.unwrap()).await
            };
            let first = send("/p?aff=K", &[]).await;
            assert_eq!(first.body, "K");
            assert_eq!(first.cache_control.as_deref(), Some("private, no-cache"));
            let cookie = first.cookie.unwrap();
            assert!(cookie.starts_with(COOKIE_NAME));

            let again = send("/", &[&cookie]).await;
            assert_eq!(again.body, "K");
            assert_eq!((again.cookie, again.cache_control), (None, None));

            let crumbs = send("/", &["a=1", &cookie, "b=2"]).await;
            assert_eq!(crumbs.body, "K", "cookies in several lines");
            let hijack = send("/checkout?aff=THIEF", &["a=1", &cookie]).await;
            assert_eq!((hijack.body.as_str(), hijack.cookie), ("K", None));
            let stranger = send("/", &["a=1", "b=2"]).await;
            assert_eq!((stranger.body.as_str(), stranger.cookie), ("", None));
        };
    }

    #[tokio::test]
    async fn over_http_1() {
        let stream = serve(Version::HTTP_11).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        visit_with!(sender, "");
    }

    #[tokio::test]
    async fn over_http_2_with_cookie_crumbs() {
        let stream = serve(Version::HTTP_2).await;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
        tokio::spawn(connection);
        visit_with!(sender, "http://shop.example");
    }
}
