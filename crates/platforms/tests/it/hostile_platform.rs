//! A hostile platform on real sockets, through the real transport: whatever it does, the page is
//! out, whole and with its cookie, before it has done it; it is asked once for each touch that
//! wins; and nothing that it says gets anywhere but, if it is a click ID, to its own visitor.
//!
//! Everything is counted. The platform waits until the test has the page, so that the order of
//! events is a fact and not a matter of time; time limits are there to end a hang.

use std::convert::Infallible;
use std::future::Ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{COOKIE, SET_COOKIE, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_referral::click::{ClickCounts, Clicks};
use tower_referral::{ClickId, Keyring, ReferralLayer, Referrals, SignedCookie, SigningKey};
use tower_referral_platforms::{Client, Https, Partnac, Tapfiliate};

use crate::fault_server::{FaultServer, Protocol, Step};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The limit for calls that only the limit ends.
const SHORT: Duration = Duration::from_secs(2);
/// For everything that should end by itself: long enough for any machine, and the end of a hang.
const LONG: Duration = Duration::from_secs(30);

/// What is to be read of an answer at most, by the client's documentation.
const MAX_ANSWER_LEN: usize = 64 * 1024;

const BODY: &str = "<!DOCTYPE html><title>Lamps</title><p>Nothing of ours in here.\n";

// --- What the platform may do ------------------------------------------------------------------

/// What should come of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Created(&'static str),
    Failed,
    /// The time limit ends it, and nothing else.
    TimedOut,
}

use Expected::{Created, Failed, TimedOut};

struct Fault {
    name: &'static str,
    script: Vec<Step>,
    /// Does the script read the request?
    reads: bool,
    expected: Expected,
}

/// A fault that shows after the request was read and the test has the page.
fn fault(name: &'static str, steps: impl Into<Vec<Step>>, expected: Expected) -> Fault {
    let mut script = vec![Step::Read, Step::Wait];
    script.extend(steps.into());
    Fault {
        name,
        script,
        reads: true,
        expected,
    }
}

/// A fault of a server that doesn't even read the request.
fn deaf(name: &'static str, steps: impl Into<Vec<Step>>, expected: Expected) -> Fault {
    let mut script = vec![Step::Wait];
    script.extend(steps.into());
    Fault {
        name,
        script,
        reads: false,
        expected,
    }
}

fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// A well-formed answer.
fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Step {
    let body = body.as_ref();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
    send([head.as_bytes(), body].concat())
}

fn json(body: impl AsRef<[u8]>) -> Step {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

fn padded(json: &str, length: usize) -> String {
    json.to_owned() + &" ".repeat(length - json.len())
}

fn faults() -> Vec<Fault> {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ten_gigabytes = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
    let blanks = Step::Forever(vec![b' '; 1000]);
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\xcaLQ\xb2RJV\xaa\x05\x00\xa7\x1e";
    let own = vec![
        // It does as it should, more or less.
        fault("fast", [json(r#"{"id":"fast"}"#)], Created("fast")),
        fault(
            "slow",
            [
                send("HTTP/1.1 201 Created\r\nContent-Le"),
                Step::Wait,
                send("ngth: 13\r\n\r\n{\"id\":\"sl"),
                Step::Wait,
                send("ow\"}"),
            ],
            Created("slow"),
        ),
        fault(
            "HTTP/1.0",
            [send("HTTP/1.0 200 OK\r\n\r\n{\"id\":\"old\"}")],
            Created("old"),
        ),
        fault(
            "several 1xx first",
            [
                send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"),
                json(r#"{"id":"patient"}"#),
            ],
            Created("patient"),
        ),
        fault(
            "well chunked",
            [send(format!(
                "{chunked}6\r\n{{\"id\":\r\n4\r\n\"c\"}}\r\n0\r\n\r\n"
            ))],
            Created("c"),
        ),
        fault(
            "more after the answer",
            [json(r#"{"id":"once"}"#), json(r#"{"id":"twice"}"#)],
            Created("once"),
        ),
        // It says nothing, or not enough.
        deaf("silent after accept", [Step::Hang], TimedOut),
        fault(
            "half a body",
            [
                send("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"id\":"),
                Step::Hang,
            ],
            TimedOut,
        ),
        fault(
            "a head that dribbles without end",
            [Step::Dribble(
                [&b"HTTP/1.1 200 OK\r\nX-Filler: "[..], &[b'x'; 10_000]].concat(),
                Duration::from_millis(10),
            )],
            TimedOut,
        ),
        fault(
            "a body that dribbles without end",
            [
                send(ten_gigabytes),
                Step::Dribble(vec![b' '; 100_000], Duration::from_millis(10)),
            ],
            TimedOut,
        ),
        fault(
            "10 GB announced, none sent",
            [send(ten_gigabytes), Step::Hang],
            TimedOut,
        ),
        fault(
            "1xx without end",
            [Step::Forever(b"HTTP/1.1 102 Processing\r\n\r\n".to_vec())],
            TimedOut,
        ),
        // It hangs up.
        deaf("closes at once", [], Failed),
        deaf("resets at once", [Step::Reset], Failed),
        fault(
            "resets in mid body",
            [
                send("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"id\":"),
                Step::Wait,
                Step::Reset,
            ],
            Failed,
        ),
        // It lies about lengths.
        fault(
            "Content-Length no number",
            [send(
                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{\"id\":\"x\"}",
            )],
            Failed,
        ),
        fault(
            "two Content-Lengths",
            [send(
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 9\r\n\r\n{\"id\":\"x\"}",
            )],
            Failed,
        ),
        fault(
            "chunked garbage",
            [send(format!("{chunked}zz\r\n{{\"id\":\"x\"}}\r\n"))],
            Failed,
        ),
        fault(
            "a chunk beyond all numbers",
            [send(format!(
                "{chunked}fffffffffffffffff\r\n{{\"id\":\"x\"}}\r\n"
            ))],
            Failed,
        ),
        fault(
            "chunks without an end",
            [send(format!("{chunked}a\r\n{{\"id\":\"x\"}}\r\n"))],
            Failed,
        ),
        // It says too much.
        fault(
            "endless body",
            [
                send("HTTP/1.1 200 OK\r\n\r\n{\"id\":\"x\"}"),
                blanks.clone(),
            ],
            Failed,
        ),
        fault(
            "endless chunks",
            [send(chunked), Step::Forever(b"4\r\n    \r\n".to_vec())],
            Failed,
        ),
        fault(
            "64 KiB and one byte",
            [json(padded(r#"{"id":"x"}"#, MAX_ANSWER_LEN + 1))],
            Failed,
        ),
        fault(
            "64 KiB exactly",
            [json(padded(r#"{"id":"whole"}"#, MAX_ANSWER_LEN))],
            Created("whole"),
        ),
        fault("a tower of brackets", [json("[".repeat(60_000))], Failed),
        // It says something else.
        fault(
            "an HTML page",
            [answer(
                "200 OK",
                "Content-Type: text/html\r\n",
                "<h1>Hello</h1>",
            )],
            Failed,
        ),
        fault("nothing in it", [json("")], Failed),
        fault("204", [send("HTTP/1.1 204 No Content\r\n\r\n")], Failed),
        fault(
            "gzip",
            [answer("200 OK", "Content-Encoding: gzip\r\n", gzip)],
            Failed,
        ),
        fault("not UTF-8", [json(b"{\"id\":\"\xff\xfe\"}")], Failed),
        fault(
            "429",
            [answer(
                "429 Too Many Requests",
                "Retry-After: 1\r\n",
                r#"{"id":"x"}"#,
            )],
            Failed,
        ),
        fault(
            "429 for ages",
            [answer(
                "429 Too Many Requests",
                "Retry-After: 99999999999999999999\r\n",
                "",
            )],
            Failed,
        ),
        fault(
            "503 with Retry-After",
            [answer("503 Service Unavailable", "Retry-After: 0\r\n", "")],
            Failed,
        ),
        fault(
            "500",
            [answer("500 Internal Server Error", "", r#"{"id":"x"}"#)],
            Failed,
        ),
        fault(
            "401",
            [answer("401 Unauthorized", "", r#"{"id":"x"}"#)],
            Failed,
        ),
        fault(
            "407",
            [answer("407 Proxy Authentication Required", "", "")],
            Failed,
        ),
        fault(
            "408",
            [answer("408 Request Timeout", "Connection: close\r\n", "")],
            Failed,
        ),
        fault(
            "an unknown key",
            [answer(
                "404 Not Found",
                "",
                r#"{"message":"affiliate or partnership not found"}"#,
            )],
            // Neither platform documents such a text, and a text that isn't documented decides nothing.
            Failed,
        ),
        fault(
            "not HTTP",
            [send("SSH-2.0-OpenSSH_9.6\r\n"), Step::Hang],
            Failed,
        ),
        fault(
            "a status of nonsense",
            [send("HTTP/1.1 9999 What\r\n\r\n")],
            Failed,
        ),
        fault(
            "another protocol from here on",
            [send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            )],
            Failed,
        ),
        // It has a click ID, but what a one.
        fault(
            "ID with a line end",
            [json(r#"{"id":"a\r\nSet-Cookie: x=y"}"#)],
            Failed,
        ),
        fault(
            "ID with a semicolon",
            [json(r#"{"id":"a;Path=/evil"}"#)],
            Created("a;Path=/evil"),
        ),
        fault("ID with a blank", [json(r#"{"id":"a b"}"#)], Failed),
        fault("ID with NUL", [json(r#"{"id":"a\u0000"}"#)], Failed),
        fault("ID beyond ASCII", [json(r#"{"id":"klick-ü"}"#)], Failed),
        fault(
            "ID of 200 characters",
            [json(format!(r#"{{"id":"{}"}}"#, "x".repeat(200)))],
            Failed,
        ),
        fault("ID empty", [json(r#"{"id":""}"#)], Failed),
        fault("ID null", [json(r#"{"id":null}"#)], Failed),
        fault("ID true", [json(r#"{"id":true}"#)], Failed),
        fault("ID a number", [json(r#"{"id":42}"#)], Created("42")),
        fault("ID below zero", [json(r#"{"id":-42}"#)], Failed),
        fault("ID with a fraction", [json(r#"{"id":4.2}"#)], Failed),
        fault("ID nested", [json(r#"{"id":{"id":"x"}}"#)], Failed),
        fault("ID in a list", [json(r#"[{"id":"x"}]"#)], Failed),
        fault("ID alone", [json(r#""x""#)], Failed),
    ];
    common_faults().chain(own).collect()
}

/// What may become of any server's answer, of one here that would have been good.
fn common_faults() -> impl Iterator<Item = Fault> {
    use crate::fault_server::Fault as Common;

    let good = b"HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{\"id\":\"good\"}";
    Common::ALL.into_iter().filter_map(|common| {
        let expected = match common {
            // See `nobody_listens_at_the_port`.
            Common::Refused => return None,
            Common::Late | Common::Dribbling => Created("good"),
            Common::Silent | Common::SilentMidway | Common::TooLate | Common::SlowlyClosed => {
                TimedOut
            }
            Common::Closed
            | Common::Reset
            | Common::ResetMidway
            | Common::ClosedMidway
            | Common::Garbage
            | Common::TlsAlert
            | Common::TooLong
            | Common::TooShort
            | Common::EndlessHead
            | Common::EndlessBody => Failed,
        };
        let steps = common.steps(Protocol::Http, good);
        Some(fault(common.name(), steps, expected))
    })
}

// --- One landing, whatever the platform does ---------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Platform {
    Partnac,
    Tapfiliate,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_reaches_a_page_and_none_is_called_twice() {
    let mut tasks = JoinSet::new();
    for platform in [Platform::Partnac, Platform::Tapfiliate] {
        for fault in faults() {
            tasks.spawn(async move {
                let what = format!("{platform:?}, {}", fault.name);
                tokio::time::timeout(LONG, one_landing(platform, fault))
                    .await
                    .unwrap_or_else(|_| panic!("{what}: hangs"));
            });
        }
    }
    all_well(tasks).await;
}

/// Lets every fault have its turn, whatever became of the others.
async fn all_well(mut faults: JoinSet<()>) {
    let mut failed = 0;
    while let Some(result) = faults.join_next().await {
        failed += usize::from(result.is_err());
    }
    assert_eq!(failed, 0, "faults that got through: see above");
}

async fn one_landing(platform: Platform, fault: Fault) {
    let Fault { name, expected, .. } = fault;
    let what = format!("{platform:?}, {name}");
    let waits = fault
        .script
        .iter()
        .filter(|step| matches!(step, Step::Wait));
    let waits = waits.count();
    let server = FaultServer::start(fault.script).await;
    let url = format!("http://{}", server.address());
    let layer = layer(clicks(platform, &url).timeout(limit_for(expected)));
    let mut visitor = Browser::new(&layer);

    // The platform is told to go on only when the page is here.
    visitor.land("/pricing?aff=K1", &what);
    assert_eq!(visitor.seen, "K1/?", "{what}");
    assert_eq!(visitor.set_cookies, 1, "{what}");
    if expected != TimedOut {
        // Nothing can have ended the call yet but the short limit of those that have one.
        assert_eq!(over(layer.click_counts()), 0, "{what}: before its time");
    }

    for _ in 0..waits {
        server.go_on();
    }
    assert!(layer.drain_clicks(LONG).await, "{what}: doesn't drain");
    assert_eq!(layer.click_counts(), counts_of(expected), "{what}");

    // The answer is for its visitor and for nobody else.
    let mut stranger = Browser::new(&layer);
    stranger.open("/");
    assert_eq!(
        (stranger.seen.as_str(), stranger.set_cookies),
        ("-", 0),
        "{what}"
    );
    let mut other = Browser::new(&layer_without_clicks());
    other.open("/?aff=K1");
    let mut other = other.moves_to(&layer);
    other.open("/");
    assert_eq!(
        (other.seen.as_str(), other.set_cookies),
        ("K1/?", 0),
        "{what}"
    );

    visitor.open("/");
    match expected {
        Created(click_id) => {
            assert_eq!(visitor.seen, format!("K1/{click_id}"), "{what}");
            assert_eq!(visitor.set_cookies, 1, "{what}");
        }
        _ => assert_eq!(
            (visitor.seen.as_str(), visitor.set_cookies),
            ("K1/?", 0),
            "{what}"
        ),
    }
    // Nothing but a new touch would be a reason to ask again.
    let seen = visitor.seen.clone();
    visitor.open("/pricing?aff=K1");
    visitor.open("/");
    assert_eq!((&visitor.seen, visitor.set_cookies), (&seen, 0), "{what}");

    assert!(layer.drain_clicks(Duration::ZERO).await, "{what}");
    assert_eq!(layer.click_counts(), counts_of(expected), "{what}");
    assert_eq!(server.connections(), 1, "{what}: repeated");
    assert_eq!(
        server.requests().len(),
        usize::from(fault.reads),
        "{what}: repeated"
    );
    // Whatever became of the call, its connection is let go of.
    server.all_closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_waits_for_its_click_goes_out_when_the_call_is_over() {
    let mut tasks = JoinSet::new();
    for fault in faults() {
        tasks.spawn(async move {
            let what = fault.name;
            let waits = fault.script.len();
            let server = FaultServer::start(fault.script).await;
            for _ in 0..waits {
                server.go_on();
            }
            // Only the call's end can end this wait.
            let clicks = clicks(Platform::Partnac, &format!("http://{}", server.address()))
                .wait(Duration::from_secs(3600))
                .timeout(limit_for(fault.expected));
            let layer = layer(clicks);
            let mut visitor = Browser::new(&layer);
            tokio::time::timeout(LONG, visitor.open_slowly("/?aff=K1"))
                .await
                .unwrap_or_else(|_| panic!("{what}: the page hangs"));
            assert_eq!(visitor.set_cookies, 1, "{what}");
            assert_eq!(layer.click_counts(), counts_of(fault.expected), "{what}");
            visitor.open("/");
            let click_id = match fault.expected {
                Created(click_id) => click_id,
                _ => "?",
            };
            assert_eq!(visitor.seen, format!("K1/{click_id}"), "{what}");
            assert_eq!(
                visitor.set_cookies, 0,
                "{what}: it was in the landing's cookie"
            );
            assert_eq!(server.connections(), 1, "{what}: repeated");
        });
    }
    all_well(tasks).await;
}

// --- Faults that need more than a script -------------------------------------------------------

#[tokio::test]
async fn nobody_listens_at_the_port() {
    let nobody = FaultServer::start([Step::Refuse]).await;
    let url = format!("http://{}", nobody.address());
    let layer = layer(clicks(Platform::Partnac, &url).timeout(LONG));
    let mut visitor = Browser::new(&layer);
    visitor.land("/?aff=K1", "refused");
    assert!(layer.drain_clicks(LONG).await);
    assert_eq!(layer.click_counts(), counts_of(Failed));
    visitor.open("/");
    assert_eq!((visitor.seen.as_str(), visitor.set_cookies), ("K1/?", 0));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let elsewhere = FaultServer::start([Step::Read, json(r#"{"id":"stolen"}"#)]).await;
        let location = format!("Location: http://{}/clicks\r\n", elsewhere.address());
        let script = [
            Step::Read,
            Step::Wait,
            answer(status, &location, r#"{"id":"x"}"#),
        ];
        let server = FaultServer::start(script).await;
        let url = format!("http://{}", server.address());
        let layer = layer(clicks(Platform::Partnac, &url).timeout(LONG));
        let mut visitor = Browser::new(&layer);
        visitor.land("/?aff=K1", status);
        server.go_on();
        assert!(layer.drain_clicks(LONG).await);
        assert_eq!(layer.click_counts(), counts_of(Failed), "{status}");
        visitor.open("/");
        assert_eq!(visitor.seen, "K1/?", "{status}");
        assert_eq!(
            (server.requests().len(), elsewhere.connections()),
            (1, 0),
            "{status}"
        );
    }
}

#[tokio::test]
async fn tls_on_a_port_without_it_sends_nothing_in_the_clear() {
    for reply in [
        answer("400 Bad Request", "", "plain HTTP here"),
        send([0; 64]),
        Step::Reset,
        Step::Hang,
    ] {
        let expected = if matches!(reply, Step::Hang) {
            TimedOut
        } else {
            Failed
        };
        let what = format!("{reply:?}");
        let server = FaultServer::start([Step::Sniff, Step::Wait, reply]).await;
        let url = format!("https://{}", server.address());
        let layer = layer(clicks(Platform::Partnac, &url).timeout(limit_for(expected)));
        let mut visitor = Browser::new(&layer);
        visitor.land("/?aff=K1", &what);
        server.go_on();
        assert!(layer.drain_clicks(LONG).await, "{what}");
        assert_eq!(layer.click_counts(), counts_of(expected), "{what}");
        assert_eq!(server.connections(), 1, "{what}");
        let sniffed = server.requests().concat();
        assert_eq!(sniffed[0], 0x16, "{what}: a TLS handshake");
        for secret in [&b"sandbox-key"[..], b"K1", b"clicks"] {
            let has_it = sniffed.windows(secret.len()).any(|some| some == secret);
            assert!(!has_it, "{what}");
        }
    }
}

#[tokio::test]
async fn of_an_endless_answer_64_kib_are_read_and_a_little() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
    let server = FaultServer::start([Step::Read, send(head), Step::Forever(vec![b' '; 512])]).await;
    let partnac = Partnac::new("sandbox-key").unwrap();
    let partnac = partnac
        .base_url(format!("http://{}", server.address()))
        .unwrap();
    let transport = Counting::default();
    let client = Client::new(partnac, transport.clone());
    let layer = layer(Clicks::new(client.clicks()).timeout(LONG));
    Browser::new(&layer).land("/?aff=K1", "endless");
    assert!(layer.drain_clicks(LONG).await);
    assert_eq!(layer.click_counts(), counts_of(Failed));
    server.all_closed().await;

    let read = transport.read.load(Ordering::SeqCst);
    let last = transport.last.load(Ordering::SeqCst);
    assert!(read > MAX_ANSWER_LEN, "{read}");
    assert!(
        read - last <= MAX_ANSWER_LEN,
        "read on after {} bytes",
        read - last
    );
    assert!(last <= 512 * 1024, "a frame of {last} bytes");
}

#[tokio::test]
async fn a_kept_connection_that_breaks_costs_one_click_and_repeats_none() {
    // The second request arrives on the first one's connection, and finds it dead.
    for end in [
        &[][..],
        &[Step::Reset],
        &[send("HTTP/1.1 200 OK\r\n"), Step::Reset],
    ] {
        let script = [&[Step::Read, json(r#"{"id":"first"}"#), Step::Read], end].concat();
        let server = FaultServer::start(script).await;
        let url = format!("http://{}", server.address());
        let layer = layer(clicks(Platform::Partnac, &url).timeout(LONG));
        let mut visitor = Browser::new(&layer);
        visitor.land("/?aff=K1", "first");
        assert!(layer.drain_clicks(LONG).await);
        visitor.open("/");
        assert_eq!(visitor.seen, "K1/first");

        visitor.land("/?aff=K2", "second");
        assert_eq!(visitor.seen, "K2/?");
        assert!(layer.drain_clicks(LONG).await);
        visitor.open("/");
        assert_eq!(visitor.seen, "K2/?", "{end:?}");
        let counts = layer.click_counts();
        assert_eq!(
            (counts.started, counts.created, counts.failed),
            (2, 1, 1),
            "{end:?}"
        );
        assert_eq!(server.requests().len(), 2, "{end:?}: repeated");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_crowd_everyone_gets_their_own_click_id_and_nobody_anothers() {
    const VISITORS: usize = 60;
    /// The click ID is the partner's key with a letter before it, or there is none.
    fn echo_or_fail(body: &[u8]) -> Vec<u8> {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        let key = body["partnership_code"].as_str().unwrap();
        let status = if key.starts_with("GOOD") { 200 } else { 500 };
        let json = format!(r#"{{"id":"c{key}"}}"#);
        let length = json.len();
        format!("HTTP/1.1 {status} So\r\nContent-Length: {length}\r\n\r\n{json}").into_bytes()
    }
    let server = FaultServer::start([Step::Read, Step::Wait, Step::Answer(echo_or_fail)]).await;
    let url = format!("http://{}", server.address());
    let clicks = clicks(Platform::Partnac, &url).timeout(LONG);
    let layer = layer(clicks.max_per_second(1000));
    let mut crowd: Vec<_> = (0..VISITORS)
        .map(|number| {
            let luck = if number % 2 == 0 { "GOOD" } else { "BAD" };
            (Browser::new(&layer), format!("{luck}{number}"))
        })
        .collect();
    for (visitor, key) in &mut crowd {
        visitor.land(&format!("/?aff={key}"), key);
    }
    assert_eq!(over(layer.click_counts()), 0, "nobody was answered yet");
    // A call that was still to come might be given a connection that is about to end.
    server.has_read(VISITORS).await;
    server.go_on();
    assert!(layer.drain_clicks(LONG).await);
    for (visitor, key) in crowd.iter_mut().rev() {
        visitor.open("/");
        let click_id = if key.starts_with("GOOD") {
            format!("c{key}")
        } else {
            "?".to_owned()
        };
        assert_eq!(visitor.seen, format!("{key}/{click_id}"));
    }
    assert_eq!(server.requests().len(), VISITORS);
    let counts = layer.click_counts();
    assert_eq!(counts.started, VISITORS as u64);
    assert_eq!((counts.created, counts.failed), (30, 30));
}

// --- The site and its visitors -----------------------------------------------------------------

/// Clicks at a platform, through the real transport.
fn clicks(platform: Platform, url: &str) -> Clicks {
    match platform {
        Platform::Partnac => {
            let partnac = Partnac::new("sandbox-key").unwrap().base_url(url).unwrap();
            Clicks::new(Client::new(partnac, Https::new()).clicks())
        }
        Platform::Tapfiliate => {
            let tapfiliate = Tapfiliate::new("sandbox-key")
                .unwrap()
                .base_url(url)
                .unwrap();
            Clicks::new(Client::new(tapfiliate, Https::new()).clicks())
        }
    }
}

fn limit_for(expected: Expected) -> Duration {
    if expected == TimedOut { SHORT } else { LONG }
}

/// How many calls are over, whatever came of them.
fn over(counts: ClickCounts) -> u64 {
    counts.created + counts.unknown_key + counts.failed + counts.timed_out
}

/// The counts after one call.
fn counts_of(expected: Expected) -> ClickCounts {
    let mut counts = ClickCounts::default();
    counts.started = 1;
    match expected {
        Created(_) => counts.created = 1,
        Failed => counts.failed = 1,
        TimedOut => counts.timed_out = 1,
    }
    counts
}

fn cookie() -> SignedCookie {
    let key = SigningKey::new("test", (0..32).collect::<Vec<u8>>()).unwrap();
    SignedCookie::new(Keyring::new(key))
}

fn layer(clicks: Clicks) -> ReferralLayer {
    ReferralLayer::builder(cookie())
        .clicks(clicks)
        .build()
        .unwrap()
}

fn layer_without_clicks() -> ReferralLayer {
    ReferralLayer::builder(cookie()).build().unwrap()
}

/// The page, with what its handler saw beside it.
#[expect(clippy::needless_pass_by_value, reason = "a service takes its request")]
fn page(request: Request<()>) -> Ready<Result<Response<String>, Infallible>> {
    let referrals = Referrals::from_extensions(request.extensions()).now_or_never();
    let referrals = referrals.unwrap().unwrap();
    let seen = referrals.first().map_or("-".to_owned(), |referral| {
        let click_id = referral.click_id().map_or("?", ClickId::as_str);
        format!("{}/{click_id}", referral.key().unwrap())
    });
    let mut response = Response::new(BODY.to_owned());
    response
        .headers_mut()
        .insert("x-seen", seen.parse().unwrap());
    std::future::ready(Ok(response))
}

/// A browser with one cookie jar for one site.
struct Browser {
    layer: ReferralLayer,
    cookie: Option<String>,
    /// What the last page's handler saw: key and click ID.
    seen: String,
    /// How many cookies the last page set.
    set_cookies: usize,
}

impl Browser {
    fn new(layer: &ReferralLayer) -> Self {
        Self {
            layer: layer.clone(),
            cookie: None,
            seen: String::new(),
            set_cookies: 0,
        }
    }

    fn moves_to(self, layer: &ReferralLayer) -> Self {
        Self {
            layer: layer.clone(),
            ..self
        }
    }

    /// Opens a page that leads to a new touch.
    fn land(&mut self, uri: &str, what: &str) {
        let before = self.layer.click_counts().started;
        self.open(uri);
        let started = self.layer.click_counts().started - before;
        assert_eq!((started, self.set_cookies), (1, 1), "{what}");
    }

    /// Opens a page, which has to be there at the first poll: the handler waits for nothing, so
    /// neither may the layer.
    fn open(&mut self, uri: &str) {
        let opening = self.open_slowly(uri).now_or_never();
        opening.expect("the page waits for something");
    }

    async fn open_slowly(&mut self, uri: &str) {
        let mut request = Request::get(uri)
            .header("host", "shop.example")
            .header(USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0")
            .body(())
            .unwrap();
        if let Some(cookie) = &self.cookie {
            request
                .headers_mut()
                .insert(COOKIE, cookie.parse().unwrap());
        }
        let site = self.layer.layer(service_fn(page));
        let response = site.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body(), BODY);
        let known = ["x-seen", "set-cookie", "cache-control"];
        assert!(
            response
                .headers()
                .keys()
                .all(|name| known.contains(&name.as_str()))
        );
        self.seen = response.headers()["x-seen"].to_str().unwrap().to_owned();
        self.set_cookies = 0;
        for line in response.headers().get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            assert!(line.starts_with("__Host-referral="), "{line}");
            assert!(!line.contains("evil"), "{line}");
            self.cookie = line.split(';').next().map(str::to_owned);
            self.set_cookies += 1;
        }
    }
}

/// The real transport, with a count of what is read through it.
#[derive(Clone, Default)]
struct Counting {
    inner: Https,
    read: Arc<AtomicUsize>,
    /// How much of it came last.
    last: Arc<AtomicUsize>,
}

impl Service<Request<Bytes>> for Counting {
    type Response = Response<BoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let response = self.inner.call(request);
        let (read, last) = (Arc::clone(&self.read), Arc::clone(&self.last));
        Box::pin(async move {
            let count = move |frame: http_body::Frame<Bytes>| {
                let length = frame.data_ref().map_or(0, Bytes::len);
                read.fetch_add(length, Ordering::SeqCst);
                last.store(length, Ordering::SeqCst);
                frame
            };
            Ok(response.await?.map(|body| body.map_frame(count).boxed()))
        })
    }
}
