//! Every way in which telling a platform can fail, on real sockets through the real transport: each
//! has its typed error and its advice, for a platform that recognises duplicates and for
//! one that doesn't, and nothing is sent twice by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tower_referral::click::ClickRequest;
use tower_referral_platforms::{
    Advice, Client, Error, Https, Money, Outcome, Partnac, Partnero, PlatformId, Receipt,
    ReportError, Sale,
};

use crate::fault_server::{FaultServer, Protocol, Step};

/// The limit for calls that only the limit ends.
const SHORT: Duration = Duration::from_secs(1);
/// For everything that should end by itself: long enough for any machine, and the end of a hang.
const LONG: Duration = Duration::from_secs(30);

/// Each of the two platforms finds in it what was made.
const GOOD: &str = r#"{"id":5,"data":{"key":"ORDER-1"}}"#;

const LATER: Advice = Advice::Retry { after: None };

/// A report that each of the two platforms sends in one request.
fn sale() -> Sale {
    let amount = Money::new("99.99", "EUR").unwrap();
    let key = "PARTNER_1".parse().unwrap();
    let credit = tower_referral_platforms::Credit::new(key);
    Sale::new("ORDER-1", "CUSTOMER-1", amount)
        .unwrap()
        .with_credit(credit)
}

/// What came of a report to Partnac, which recognises a sale by its ID, and to Partnero, of which
/// nobody knows. Each has connections of its own: one that the server is about to close would be a
/// fault of its own.
async fn report_to(url: &str, https: impl Fn() -> Https) -> [Result<Receipt, ReportError>; 2] {
    let partnac = Partnac::new("s3cret").unwrap().base_url(url).unwrap();
    let partnero = Partnero::new("s3cret").unwrap().base_url(url).unwrap();
    let partnac = Client::new(partnac, https());
    let partnero = Client::new(partnero, https());
    [partnac.report(sale()).await, partnero.report(sale()).await]
}

fn send(text: impl AsRef<[u8]>) -> Step {
    Step::Send(text.as_ref().to_vec())
}

fn answer(status: &str, headers: &str, body: &str) -> Step {
    let length = body.len();
    send(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
}

/// The kind of an error, with what matters of it.
#[derive(Debug, PartialEq)]
enum Kind {
    NotSent,
    UnknownOutcome,
    RateLimited,
    Unauthorized,
    Account(u16),
    HtmlPage(u16),
    Rejected(u16),
    Unreadable,
}

fn kind_of(error: &Error) -> Kind {
    match error {
        Error::NotSent => Kind::NotSent,
        Error::UnknownOutcome => Kind::UnknownOutcome,
        Error::RateLimited { .. } => Kind::RateLimited,
        Error::Unauthorized { .. } => Kind::Unauthorized,
        Error::Account { status } => Kind::Account(status.as_u16()),
        Error::HtmlPage { status } => Kind::HtmlPage(status.as_u16()),
        Error::Rejected { status, .. } => Kind::Rejected(status.as_u16()),
        Error::Unreadable { .. } => Kind::Unreadable,
        other => panic!("{other:?}"),
    }
}

struct Fault {
    name: &'static str,
    script: Vec<Step>,
    kind: Kind,
    /// At Partnac, which recognises duplicates.
    recognised: Advice,
    /// At Partnero.
    unrecognised: Advice,
}

fn fault(
    name: &'static str,
    steps: impl Into<Vec<Step>>,
    kind: Kind,
    recognised: Advice,
    unrecognised: Advice,
) -> Fault {
    let mut script = vec![Step::Read];
    script.extend(steps.into());
    Fault {
        name,
        script,
        kind,
        recognised,
        unrecognised,
    }
}

fn faults() -> Vec<Fault> {
    use Advice::{Ambiguous, Permanent};

    let seconds = |seconds| Advice::Retry {
        after: Some(Duration::from_secs(seconds)),
    };
    // It may have arrived.
    let ambiguous = |name, steps: &[Step], kind| fault(name, steps, kind, LATER, Ambiguous);
    // It was refused, and would be again.
    let dead = |name, step, kind| fault(name, [step], kind, Permanent, Permanent);
    // It wasn't taken: the account or the way is wrong.
    let paused = |name, step, kind| fault(name, [step], kind, LATER, LATER);
    // It was put off.
    let later = |name, step, advice| fault(name, [step], Kind::RateLimited, advice, advice);
    let huge = "Content-Length: 10000000000\r\n\r\n";
    let blanks = Step::Forever(vec![b' '; 1000]);
    let own = vec![
        ambiguous(
            "half a body, then silence",
            &[
                send("HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{\"id\""),
                Step::Hang,
            ],
            Kind::UnknownOutcome,
        ),
        ambiguous(
            "half a body",
            &[send(
                "HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{\"id\"",
            )],
            Kind::UnknownOutcome,
        ),
        ambiguous(
            "not HTTP",
            &[send("SSH-2.0-OpenSSH_9.6\r\n")],
            Kind::UnknownOutcome,
        ),
        ambiguous(
            "truncated JSON",
            &[answer("201 Created", "", "{\"id\":")],
            Kind::Unreadable,
        ),
        ambiguous(
            "HTML",
            &[answer("200 OK", "", "<h1>Hello</h1>")],
            Kind::HtmlPage(200),
        ),
        ambiguous("nothing", &[answer("200 OK", "", "")], Kind::Unreadable),
        ambiguous(
            "500",
            &[answer(
                "500 Internal Server Error",
                "",
                "{\"message\":\"oops\"}",
            )],
            Kind::Rejected(500),
        ),
        ambiguous(
            "502 HTML",
            &[answer("502 Bad Gateway", "", "<h1>")],
            Kind::HtmlPage(502),
        ),
        ambiguous(
            "408",
            &[answer("408 Request Timeout", "", "")],
            Kind::Rejected(408),
        ),
        ambiguous(
            "500 and 10 GB",
            &[send(format!("HTTP/1.1 500 Oops\r\n{huge}")), blanks.clone()],
            Kind::Rejected(500),
        ),
        fault(
            "503 with Retry-After",
            [answer("503 Service Unavailable", "Retry-After: 5\r\n", "")],
            Kind::Rejected(503),
            seconds(5),
            Ambiguous,
        ),
        later("429", answer("429 Too Many Requests", "", ""), LATER),
        later(
            "429 with seconds",
            answer("429 Too Many Requests", "Retry-After: 7\r\n", "<h1>"),
            seconds(7),
        ),
        later(
            "429 with a date",
            answer(
                "429 Too Many Requests",
                "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:51:07 GMT\r\n",
                "",
            ),
            seconds(90),
        ),
        later(
            "429 until yesterday",
            answer(
                "429 Too Many Requests",
                "Date: Mon, 07 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
                "",
            ),
            seconds(0),
        ),
        later(
            "429 until the year 9999",
            answer(
                "429 Too Many Requests",
                "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
                "",
            ),
            seconds(3600),
        ),
        later(
            "429 for ages",
            answer(
                "429 Too Many Requests",
                "Retry-After: 99999999999999999999999\r\n",
                "",
            ),
            seconds(3600),
        ),
        later(
            "429 with nonsense",
            answer(
                "429 Too Many Requests",
                "Retry-After: Xyz, 99 Foo 2026 25:00:00 GMT\r\n",
                "",
            ),
            LATER,
        ),
        later(
            "429 below zero",
            answer("429 Too Many Requests", "Retry-After: -5\r\n", ""),
            LATER,
        ),
        paused(
            "401",
            answer(
                "401 Unauthorized",
                "",
                "{\"message\":\"invalid partner API key\"}",
            ),
            Kind::Unauthorized,
        ),
        paused(
            "403 HTML",
            answer("403 Forbidden", "", "<h1>"),
            Kind::Unauthorized,
        ),
        paused(
            "404 HTML",
            answer("404 Not Found", "", "<h1>partner</h1>"),
            Kind::HtmlPage(404),
        ),
        dead(
            "400",
            answer("400 Bad Request", "", "not JSON"),
            Kind::Rejected(400),
        ),
        dead(
            "413",
            answer("413 Content Too Large", "", ""),
            Kind::Rejected(413),
        ),
        dead(
            "422",
            answer(
                "422 Unprocessable Content",
                "",
                "{\"errors\":{\"amount\":[\"no\"]}}",
            ),
            Kind::Rejected(422),
        ),
        ambiguous(
            "304",
            &[send("HTTP/1.1 304 Not Modified\r\n\r\n")],
            Kind::Account(304),
        ),
    ];
    common_faults()
        .map(|(common, kind)| ambiguous(common.name(), &steps(common), kind))
        .chain(own)
        .collect()
}

/// What may become of any server's answer, of one here that would have been good; and what that is
/// to whoever asked, unless it is good still.
fn common_faults() -> impl Iterator<Item = (crate::fault_server::Fault, Kind)> {
    use crate::fault_server::Fault as Common;

    Common::ALL.into_iter().filter_map(|common| {
        let kind = match common {
            // See `what_never_left_may_always_be_sent_again`, and for what is only slow
            // `a_good_answer_is_read_through_the_real_transport`.
            Common::Refused | Common::Late | Common::Dribbling => return None,
            Common::Closed
            | Common::Silent
            | Common::SilentMidway
            | Common::TooLate
            | Common::Reset
            | Common::ResetMidway
            | Common::ClosedMidway
            | Common::SlowlyClosed
            | Common::Garbage
            | Common::TlsAlert
            | Common::TooLong
            | Common::EndlessHead => Kind::UnknownOutcome,
            Common::TooShort | Common::EndlessBody => Kind::Unreadable,
        };
        Some((common, kind))
    })
}

fn steps(common: crate::fault_server::Fault) -> Vec<Step> {
    let length = GOOD.len();
    let good = format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\n{GOOD}");
    common.steps(Protocol::Http, good.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_error_and_its_advice() {
    let mut tasks = JoinSet::new();
    for fault in faults() {
        tasks.spawn(async move {
            let name = fault.name;
            let mut steps = fault.script.iter();
            let hangs = steps.any(|step| matches!(step, Step::Hang | Step::Pause(_)));
            let server = FaultServer::start(fault.script).await;
            let url = format!("http://{}/v1", server.address());
            let https = || Https::new().timeout(if hangs { SHORT } else { LONG });
            let results = tokio::time::timeout(LONG, report_to(&url, https)).await;
            let results = results.unwrap_or_else(|_| panic!("{name}: hangs"));
            let [partnac, partnero] = results.map(Result::unwrap_err);
            assert_eq!(kind_of(partnac.error()), fault.kind, "{name}");
            assert_eq!(kind_of(partnero.error()), fault.kind, "{name}");
            assert_eq!(partnac.advice(), fault.recognised, "{name} at Partnac");
            assert_eq!(partnero.advice(), fault.unrecognised, "{name} at Partnero");
            // Partnac's list is asked whether a refused sale is there.
            let refused = matches!(fault.kind, Kind::Rejected(422));
            let requests = 2 + usize::from(refused);
            assert_eq!(server.requests().len(), requests, "{name}: once to each");
        });
    }
    let mut failed = 0;
    while let Some(result) = tasks.join_next().await {
        failed += usize::from(result.is_err());
    }
    assert_eq!(failed, 0, "see above");
}

#[tokio::test]
async fn what_never_left_may_always_be_sent_again() {
    let nobody = FaultServer::start([Step::Refuse]).await;
    let plain = FaultServer::start([Step::Sniff, send("HTTP/1.1 400 Bad Request\r\n\r\n")]).await;
    // A TLS alert: handshake failure.
    let alert = FaultServer::start([Step::Sniff, send([21, 3, 3, 0, 2, 2, 40])]).await;
    let hangs = FaultServer::start([Step::Sniff, Step::Hang]).await;
    let closes = FaultServer::start([Step::Sniff]).await;
    for (what, url) in [
        ("nobody there", format!("http://{}/v1", nobody.address())),
        ("no such host", "https://nobody.invalid/v1".to_owned()),
        ("no TLS", format!("https://{}/v1", plain.address())),
        ("TLS failure", format!("https://{}/v1", alert.address())),
        (
            "TLS without an end",
            format!("https://{}/v1", hangs.address()),
        ),
        ("TLS broken off", format!("https://{}/v1", closes.address())),
    ] {
        let limit = if what == "TLS without an end" {
            SHORT
        } else {
            LONG
        };
        let results = report_to(&url, || Https::new().connect_timeout(limit)).await;
        for error in results.map(Result::unwrap_err) {
            assert_eq!(*error.error(), Error::NotSent, "{what}");
            assert_eq!(error.advice(), LATER, "{what}");
            assert_eq!(error.error().advice(false), LATER, "{what}");
        }
    }
    // In none of these bytes is an API key.
    for server in [plain, alert, hangs, closes] {
        for bytes in server.requests() {
            assert!(!String::from_utf8_lossy(&bytes).contains("s3cret"));
        }
    }
}

/// Whoever stands in the platform's place, even with a certificate in its name, has none that anybody
/// vouches for.
#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_no_platform() {
    use tokio::io::AsyncReadExt;

    let name = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let own = rcgen::generate_simple_self_signed(name).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_to_end(&mut heard).await;
            }
        }
        heard
    });
    for error in report_to(&url, Https::new).await.map(Result::unwrap_err) {
        assert_eq!(*error.error(), Error::NotSent);
        assert_eq!(error.advice(), LATER);
    }
    assert_eq!(heard.await.unwrap(), b"", "it was told");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for (status, unrecognised) in [
        ("301 Moved", LATER),
        ("302 Found", Advice::Ambiguous),
        ("303 See Other", Advice::Ambiguous),
        ("307 Temporary", LATER),
        ("308 Permanent", LATER),
    ] {
        let elsewhere = FaultServer::start([Step::Read, answer("200 OK", "", "{}")]).await;
        let to = format!(
            "Location: http://{}/v1/conversions\r\n",
            elsewhere.address()
        );
        let server = FaultServer::start([Step::Read, answer(status, &to, "")]).await;
        let url = format!("http://{}/v1", server.address());
        let errors = report_to(&url, Https::new).await.map(Result::unwrap_err);
        for (error, advice) in errors.iter().zip([LATER, unrecognised]) {
            assert!(
                matches!(kind_of(error.error()), Kind::Account(300..400)),
                "{status}"
            );
            assert_eq!(error.advice(), advice, "{status}");
        }
        assert_eq!(server.requests().len(), 2);
        assert_eq!(elsewhere.connections(), 0, "{status}");
    }
}

#[tokio::test]
async fn a_call_has_its_time_and_no_more() {
    // A byte now and then, and never the last: only a limit on the whole ends that.
    let dribble = Step::Dribble(vec![b' '; 100_000], Duration::from_millis(10));
    let head = send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    let server = FaultServer::start([Step::Read, head, dribble]).await;
    let url = format!("http://{}/v1", server.address());
    let results = report_to(&url, || Https::new().timeout(SHORT));
    let results = tokio::time::timeout(LONG, results).await.expect("no limit");
    for error in results.map(Result::unwrap_err) {
        assert_eq!(*error.error(), Error::UnknownOutcome);
    }
}

#[tokio::test]
async fn a_transport_that_is_not_ready_sent_nothing() {
    use tower::ServiceExt;

    let full = tower::service_fn(|_: http::Request<bytes::Bytes>| async {
        unreachable!("not ready");
        #[allow(unreachable_code)]
        Ok::<_, std::io::Error>(http::Response::new(String::new()))
    });
    #[derive(Clone)]
    struct Full<S>(S);
    impl<S: tower::Service<http::Request<bytes::Bytes>, Error = std::io::Error>>
        tower::Service<http::Request<bytes::Bytes>> for Full<S>
    {
        type Response = S::Response;
        type Error = std::io::Error;
        type Future = S::Future;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), std::io::Error>> {
            std::task::Poll::Ready(Err(std::io::Error::other("full")))
        }

        fn call(&mut self, request: http::Request<bytes::Bytes>) -> S::Future {
            self.0.call(request)
        }
    }
    let partnac = Client::new(Partnac::new("k").unwrap(), Full(full));
    let click = ClickRequest::new("PARTNER_1".parse().unwrap(), "https://shop.example/");
    let created = partnac.clicks().oneshot(click).await;
    assert_eq!(created.unwrap_err(), Error::NotSent);
    let client = Client::new(Partnero::new("k").unwrap(), Full(full));
    assert_eq!(
        *client.report(sale()).await.unwrap_err().error(),
        Error::NotSent
    );
    let error = client
        .reports()
        .oneshot(tower_referral_platforms::ReportRequest::new(sale()))
        .await
        .unwrap_err();
    assert_eq!(error.advice(), LATER);
}

#[tokio::test]
async fn a_good_answer_is_read_through_the_real_transport() {
    let scripts = [
        vec![answer("201 Created", "", GOOD)],
        steps(crate::fault_server::Fault::Late),
        steps(crate::fault_server::Fault::Dribbling),
    ];
    for script in scripts {
        let server = FaultServer::start([vec![Step::Read], script].concat()).await;
        let url = format!("http://{}/v1", server.address());
        let [partnac, partnero] = report_to(&url, Https::new).await;
        let partnac = partnac.unwrap();
        assert_eq!(partnac.outcome(), Outcome::Recorded);
        assert_eq!(partnac.ids().sale, PlatformId::new("5"));
        assert_eq!(partnero.unwrap().outcome(), Outcome::Recorded);
        let request = String::from_utf8(server.requests()[0].clone()).unwrap();
        assert!(
            request.starts_with("POST /v1/conversions HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("\"amount\":99.99"), "{request}");
    }
}
