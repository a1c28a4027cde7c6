//! Platforms' answers: whatever they are, a report is a success only where one said so, nothing that
//! was sent comes back in an error, no request goes elsewhere, and every exchange and every list ends.
//!
//! The first byte chooses what is asked of which platform. The rest are the answers, one behind the
//! other, each ended by a byte 0xFF: a status, a byte that lets long words in, and a body in which
//! control characters stand for words that platforms use, or for the shapes that hurt readers.
#![no_main]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::sync::{LazyLock, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower_referral::ClickId;
use tower_referral_fuzz::answer::Answer;
use tower_referral_fuzz::script::{self, Words};
use tower_referral_platforms::affiliate::partnac::Filter;
use tower_referral_platforms::affiliate::partnero::Webhooks;
use tower_referral_platforms::{
    Advice, Answer as CrateAnswer, ClickApi, Client, Credit, Error, Money, Outcome, Partnac,
    Partnero, PartneroFriends, Receipt, Refund, RefundReversal, Report, ReportApi, ReportError,
    Sale, SaleUpdate, SignUp, Tapfiliate,
};

const API_KEY: &str = "sk-SECRET/KEY";
const KEY: &str = "PARTNER_123";
const CLICK_ID: &str = "click-4711";
const COUPON: &str = "SUMMER";
const CUSTOMER: &str = "CUST 1";
const ORDER: &str = "ORDER-1";
const EMAIL: &str = "jane@shop.example";
const WEBHOOK_SECRET: &[u8] = b"webhook secret";
const STATUSES: [u16; 16] = [
    200, 201, 204, 301, 400, 401, 403, 404, 408, 409, 410, 422, 429, 500, 503, 202,
];

/// The answers to come, and what was asked: the method, and the answer to it.
struct Wire {
    answers: Vec<(u16, Vec<u8>)>,
    asked: Vec<(Method, u16, Vec<u8>)>,
}

static WIRE: Mutex<Wire> = Mutex::new(Wire {
    answers: Vec::new(),
    asked: Vec::new(),
});

/// A transport that gives the answers in order, and 500 once it has run out of them.
#[derive(Clone)]
struct StandIn;

impl tower_service::Service<Request<Bytes>> for StandIn {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut wire = WIRE.lock().expect("one thread");
        assert_eq!(
            request.uri().host(),
            Some("127.0.0.1"),
            "the key goes nowhere else"
        );
        let (status, body) = wire.answers.pop().unwrap_or((500, Vec::new()));
        wire.asked
            .push((request.method().clone(), status, body.clone()));
        assert!(wire.asked.len() < 64, "an exchange that doesn't end");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        ready(Ok(response))
    }
}

struct Bench {
    partnac: Client<Partnac, StandIn>,
    partnero: Client<Partnero, StandIn>,
    friends: Client<PartneroFriends, StandIn>,
    tapfiliate: Client<Tapfiliate, StandIn>,
    reports: Vec<Report>,
    webhooks: Webhooks,
    words: Words,
    /// A wait for a timer has to know of one.
    runtime: tokio::runtime::Runtime,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let url = "http://127.0.0.1:9";
    let partnac = Partnac::new(API_KEY).and_then(|it| it.base_url(url));
    let partnero = Partnero::new(API_KEY).and_then(|it| it.base_url(url));
    let friends = PartneroFriends::new(API_KEY).and_then(|it| it.base_url(url));
    let tapfiliate = Tapfiliate::new(API_KEY).and_then(|it| it.base_url(url));
    let partnero = partnero.expect("partnero").leave_out_coupons();
    let friends = friends.expect("friends").leave_out_coupons();
    let money = |amount| Money::new(amount, "EUR").expect("money");
    let keyed = || Credit::new(KEY.parse().expect("a key"));
    let credit = || keyed().with_click_id(CLICK_ID.parse::<ClickId>().expect("a click ID"));
    let sign_up = || SignUp::new(CUSTOMER).expect("an ID").with_email(EMAIL);
    let sale = || Sale::new(ORDER, CUSTOMER, money("99.90")).expect("IDs");
    let guest = |sign_up| Sale::guest(ORDER, sign_up, money("99.90")).expect("an ID");
    let part = || Refund::part(ORDER, money("5")).expect("an ID");
    let left = part()
        .with_sale_amount(money("99.90"))
        .with_total_refunded(money("5"))
        .with_customer(CUSTOMER)
        .expect("an ID");
    let update = SaleUpdate::new(ORDER, "u1").expect("IDs");
    let reports = vec![
        sign_up().with_credit(credit()).with_coupon(COUPON).into(),
        sign_up().with_credit(keyed()).into(),
        sign_up().into(),
        sale().with_credit(credit()).with_coupon(COUPON).into(),
        sale().with_coupon(COUPON).into(),
        sale().into(),
        guest(sign_up().with_credit(credit())).into(),
        guest(sign_up()).into(),
        Refund::whole(ORDER).expect("an ID").into(),
        part().into(),
        left.into(),
        RefundReversal::part(ORDER, money("5"))
            .expect("an ID")
            .into(),
        update.with_amount(money("5")).into(),
    ];
    Bench {
        partnac: Client::new(partnac.expect("partnac"), StandIn),
        partnero: Client::new(partnero.replace_partly_refunded(), StandIn),
        friends: Client::new(friends, StandIn),
        tapfiliate: Client::new(tapfiliate.expect("tapfiliate"), StandIn),
        reports,
        webhooks: Webhooks::new(WEBHOOK_SECRET).expect("a secret"),
        words: words(),
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime"),
    }
});

fn words() -> Words {
    let mut words = Words::default();
    let texts: [&str; 24] = [
        "{\"message\":\"",
        "{\"error\":\"",
        "{\"errors\":{\"",
        "\":[\"",
        "\"]}}",
        "\"}",
        "Duplicate key",
        "Invalid partner key",
        "", // A tab.
        "", // A line feed.
        "partner",
        "customer",
        "{\"data\":{\"partner\":null}}",
        "referring_customer",
        "\"refunds\":[{\"external_refund_id\":\"",
        "\"commissions\":[{\"id\":",
        "{\"data\":{\"id\":",
        "{\"id\":\"",
        "\"conversions\":[",
        "[{\"external_id\":\"ORDER-1\",\"id\":7,\"amount\":",
        ",\"currency\":\"EUR\"}",
        "\"links\":{\"next\":\"",
        "http://127.0.0.1:9/customers?page=",
        "sk-secret/key",
    ];
    for (word, text) in words[1..].iter_mut().zip(texts) {
        *word = text.into();
    }
    words[0] = format!(" {EMAIL} {CUSTOMER} {ORDER} {KEY} sk-SECRET%2FKEY ").into();
    // The shapes that hurt readers.
    words[25] = "[".repeat(32 * 1024).into();
    words[26] = r#"{"a":"#.repeat(120).into();
    words[27] = "}".repeat(120).into();
    words[28] = (0..4000)
        .map(|n| format!("\"n{n}\":\"\","))
        .collect::<String>()
        .into();
    words[29] = "\"\",".repeat(10 * 1024).into();
    words[30] = [&b"\""[..], &b"x".repeat(32 * 1024), b"\""].concat();
    words[31] = KEY.repeat(5 * 1024).into();
    words
}

/// Runs a future that waits for nothing but the time.
fn at_once<F: Future>(bench: &Bench, future: F) -> F::Output {
    bench.runtime.block_on(future)
}

/// Reads a list to its end, and at most so many waits.
fn drain<S: Stream + Unpin>(bench: &Bench, mut list: S) -> Vec<S::Item> {
    let _guard = bench.runtime.enter();
    let mut context = Context::from_waker(Waker::noop());
    let mut items = Vec::new();
    while let Poll::Ready(Some(item)) = Pin::new(&mut list).poll_next(&mut context) {
        items.push(item);
        assert!(items.len() < 1_000_000, "a list that doesn't end");
    }
    items
}

fn assert_clean(error: &Error) {
    let mut shown = format!("{error} {error:?}").to_ascii_lowercase();
    if let Error::Rejected { message, .. } = error {
        let message = message.as_str();
        assert!(message.chars().count() <= 500);
        assert!(!message.contains(char::is_control), "{message:?}");
        shown.push_str(&message.to_ascii_lowercase());
    }
    for secret in [API_KEY, "sk-secret%2fkey", EMAIL] {
        assert!(!shown.contains(&secret.to_ascii_lowercase()), "{secret}");
    }
}

/// Checks what was made of the answers that were given.
fn check(report: &Report, deduplicates: bool, result: &Result<Receipt, ReportError>) {
    let asked = std::mem::take(&mut WIRE.lock().expect("one thread").asked);
    let answers: Vec<_> = asked
        .iter()
        .map(|(_, status, body)| Answer {
            status: *status,
            body,
        })
        .collect();
    match result {
        Ok(receipt) => {
            let ids = receipt.ids();
            for id in [
                &ids.customer,
                &ids.sale,
                &ids.refund,
                &ids.click,
                &ids.partner,
            ] {
                let is_id = |id: &str| {
                    (1..=255).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
                };
                assert!(id.as_ref().is_none_or(|id| is_id(id.as_str())));
            }
            let last = answers.last();
            match receipt.outcome() {
                Outcome::Recorded => {
                    // A commission that is gone needs no disapproval; an empty list of them neither.
                    let last = last.expect("it was told");
                    assert!(last.is_success() || last.status == 404, "{}", last.status);
                    assert!(answers.iter().any(Answer::is_success));
                }
                Outcome::Duplicate => {
                    let last = last.expect("it was told");
                    let is_said = last.is_object(409)
                        || last.names("Duplicate key")
                        || last.status == 404
                        || last.is_success();
                    assert!(is_said, "a duplicate that nobody said");
                }
                _ => {}
            }
        }
        Err(error) => {
            assert_clean(error.error());
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(KEY) && !shown.contains(CUSTOMER), "{shown}");
            // What may have arrived isn't sent again.
            if let (Some((method, status @ 500.., _)), false) = (asked.last(), deduplicates)
                && *method == Method::POST
                && matches!(report, Report::Sale(_) | Report::Refund(_))
                && error.may_repeat()
            {
                // Unless that was the customer before the sale, who is unique.
                let is_customer = matches!(report, Report::Sale(sale) if sale.credit().is_some() || sale.is_guest());
                assert!(is_customer, "{status}: {:?}", error.advice());
            }
            if let Error::Rejected { status, .. } = error.error()
                && status.is_client_error()
                && status.as_u16() != 408
            {
                assert_eq!(error.advice(), Advice::Permanent);
            }
        }
    }
}

fn report<P: ReportApi>(bench: &Bench, client: &Client<P, StandIn>, platform: &P, report: &Report) {
    let result = at_once(bench, client.report(report.clone()));
    check(report, platform.deduplicates(report), &result);
}

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else {
        return;
    };
    let bench = &*BENCH;
    let mut answers = Vec::new();
    for part in rest.split(|byte| *byte == 0xFF).take(6) {
        let [status, header, body @ ..] = part else {
            break;
        };
        let mut text = Vec::with_capacity(256);
        script::written_out(&bench.words, body, *header >= 128, &mut text);
        answers.push((STATUSES[usize::from(*status) % 16], text));
    }
    let first = answers.first().cloned();
    answers.reverse();
    *WIRE.lock().expect("one thread") = Wire {
        answers,
        asked: Vec::new(),
    };
    let (what, which) = (choice % 16, usize::from(choice / 16));
    let given = &bench.reports[which % bench.reports.len()];
    let url = "http://127.0.0.1:9";
    match what {
        0..=2 => {
            let platform = Partnac::new(API_KEY).expect("a key");
            report(bench, &bench.partnac, &platform, given);
        }
        3..=5 => {
            let platform = Partnero::new(API_KEY).expect("a key");
            report(bench, &bench.partnero, &platform, given);
        }
        6..=8 => {
            let platform = PartneroFriends::new(API_KEY).expect("a key");
            report(bench, &bench.friends, &platform, given);
        }
        9..=11 => {
            let platform = Tapfiliate::new(API_KEY).expect("a key");
            report(bench, &bench.tapfiliate, &platform, given);
        }
        12 => {
            let mut headers = HeaderMap::new();
            let wrong = HeaderValue::from_static("00");
            headers.insert("signature", wrong);
            let body = first.map(|(_, body)| body).unwrap_or_default();
            assert!(bench.webhooks.read(&headers, &body).is_err(), "unsigned");
        }
        13 => {
            let Some((status, body)) = first else { return };
            let status = StatusCode::from_u16(status).expect("a status");
            let answer = CrateAnswer::new(status, Bytes::from(body.clone()));
            let partnac = Partnac::new(API_KEY).and_then(|it| it.base_url(url));
            let given = Answer {
                status: status.as_u16(),
                body: &body,
            };
            match partnac.expect("partnac").read_click(&answer) {
                Ok(click) => {
                    assert!(given.is_success());
                    let id = click.id.as_str();
                    assert!((1..=128).contains(&id.len()));
                    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()));
                }
                // Read without a client, it isn't known what was sent.
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        14 => {
            if which % 2 == 0 {
                drain(bench, bench.tapfiliate.list_conversions());
            } else if which % 3 == 0 {
                let list = bench.friends.friend_referrals(CUSTOMER).expect("an ID");
                drain(bench, list);
            } else {
                drain(bench, bench.partnac.list_conversions(Filter::all()));
            }
        }
        _ => {
            let page = pin!(bench.friends.friend_stats(CUSTOMER));
            if let Ok(Some(json)) = at_once(bench, page) {
                // No text of a page runs as a script.
                let text = json.to_string().to_ascii_lowercase();
                assert!(!text.contains(":\"javascript:"), "{text}");
            }
        }
    }
});
