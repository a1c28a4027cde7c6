//! Nearly all traffic has nothing of ours: it must cost no memory of ours. Alone in its binary,
//! because the profiler counts what the whole process allocates.

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use tower::{Layer as _, Service};
use tower_referral::{Keyring, ReferralKey, ReferralLayer, SignedCookie, SigningKey};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A handler that allocates nothing, and leaves the request's memory to the end.
struct Handler {
    asks: bool,
}

impl Service<Request<()>> for Handler {
    type Response = Response<Request<()>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        if self.asks {
            let asked = pin!(ReferralKey::from_extensions(request.extensions()));
            let Poll::Ready(Ok(key)) = asked.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("behind the layer, and no store to wait for");
            };
            assert!(key.is_some_and(|key| key == "K"));
        }
        ready(Ok(Response::new(request)))
    }
}

const SILENT: Handler = Handler { asks: false };
const ASKING: Handler = Handler { asks: true };

fn blocks<S>(service: &mut S, request: Request<()>) -> u64
where
    S: Service<Request<()>, Response = Response<Request<()>>, Error = Infallible>,
{
    let before = dhat::HeapStats::get();
    let mut future = pin!(service.call(request));
    let poll = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    let after = dhat::HeapStats::get();
    assert!(poll.is_ready());
    after.total_blocks - before.total_blocks
}

#[test]
fn memory_is_taken_only_for_what_is_ours() {
    let profiler = dhat::Profiler::builder().testing().build();
    let secret: Vec<u8> = (0..32).collect();
    let keyring = Keyring::new(SigningKey::new("k1", secret).unwrap());
    let layer = ReferralLayer::builder(SignedCookie::new(keyring.clone()))
        .stand_down("/checkout")
        .global_privacy_control()
        .consent(|_| tower_referral::Consent::Granted)
        .skip(|_| false)
        .build()
        .unwrap();
    let mut ours = layer.layer(SILENT);

    let plain = |uri: &str| Request::get(uri).body(()).unwrap();
    let with = |uri: &str, name: &str, value: &[u8]| {
        Request::get(uri).header(name, value).body(()).unwrap()
    };
    let cookies = "a=1; session=abcdef; __Host-other=x; referral=1; ".repeat(20);
    type Make<'m> = Box<dyn Fn() -> Request<()> + 'm>;
    let requests: Vec<(&str, Make<'_>)> = vec![
        ("a page", Box::new(|| plain("/"))),
        (
            "a query",
            Box::new(|| plain("/search?q=shoes&page=2&sort=price")),
        ),
        (
            "values with percent signs",
            Box::new(|| plain("/search?q=%C3%A9%20%zz")),
        ),
        (
            "names with percent signs",
            Box::new(|| plain("/search?filter%5Bsize%5D=9&%61=1")),
        ),
        (
            "other cookies",
            Box::new(|| with("/", "cookie", cookies.as_bytes())),
        ),
        (
            "our cookie's name as a value",
            Box::new(|| with("/", "cookie", b"x=__Host-referral=1")),
        ),
        ("raw bytes", Box::new(|| with("/", "cookie", b"x=\xff\xfe"))),
        (
            "fetch metadata",
            Box::new(|| with("/", "sec-fetch-dest", b"document")),
        ),
    ];
    for (case, request) in &requests {
        assert_eq!(blocks(&mut ours, request()), 0, "{case}");
    }
    // The mark, where others have made the map already.
    let mut request = plain("/");
    request.extensions_mut().insert(7);
    assert_eq!(blocks(&mut ours, request), 0);
    // Two blocks are the extensions' map, two the exchange and what holds it there, one the referral.
    let keeps = ReferralLayer::builder(SignedCookie::new(keyring))
        .build()
        .unwrap();
    let response = keeps.layer(SILENT).call(plain("/?aff=K"));
    let poll = pin!(response).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(response)) = poll else {
        panic!("the handler is ready")
    };
    let line = response.headers()["set-cookie"].to_str().unwrap();
    let ours_too = with("/", "cookie", line.split(';').next().unwrap().as_bytes());
    drop(response);
    // A value that was cloned before shares its memory already, as one from a server does.
    let _other = ours_too.headers().clone();
    assert_eq!(blocks(&mut keeps.layer(ASKING), ours_too), 2 + 2 + 1);
    // Request and response, two maps; the response's headers, two more blocks; one the referral; the
    // decision's counter has two labels, one with text of its own.
    let counter = if cfg!(feature = "metrics") { 2 } else { 0 };
    assert_eq!(
        blocks(&mut keeps.layer(SILENT), plain("/?aff=K")),
        4 + 2 + 4 + 1 + counter
    );
    // The counter counts: a landing does allocate.
    assert!(blocks(&mut ours, plain("/?aff=K")) > 0);
    drop(profiler);
}
