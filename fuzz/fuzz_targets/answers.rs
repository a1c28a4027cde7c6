//! Platforms' answers: what each of them means for a click, a report, a list, a webhook; what is
//! asked next; and what must not come back in an error's words.
//!
//! The first byte chooses what is asked of which platform. The rest are the answers, one behind the
//! other, each ended by a byte 0xFF: a status, a `Retry-After`, and a body in which control
//! characters stand for words that platforms use.
#![no_main]

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::sync::{LazyLock, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::Sha256;
use tower_referral::ClickId;
use tower_referral_platforms::partnac::Filter;
use tower_referral_platforms::partnero::{InvalidWebhook, Webhooks};
use tower_referral_platforms::{
    Answer as CrateAnswer, Client, CreateClicks, Credit, Error, Message, Money, Outcome, Partnac,
    Partnero, PartneroFriends, Refund, Report, ReportError, Sale, SignUp, Tapfiliate, Unsupported,
};
use tower_referral_fuzz::answer::{Answer, Failure, Listed, Meaning, billionths, text_of, wait};
use tower_referral_fuzz::script::{self, Words};

const API_KEY: &str = "sk-SECRET/KEY";
const KEY: &str = "PARTNER_123";
const CLICK_ID: &str = "click-4711";
const COUPON: &str = "SUMMER";
const CUSTOMER: &str = "CUST 1";
const ORDER: &str = "ORDER-1";
const EMAIL: &str = "jane@shop.example";
const WEBHOOK_SECRET: &[u8] = b"webhook secret";
const NOW: &str = "Sat, 21 Nov 2026 12:00:00 GMT";
const STATUSES: [u16; 16] = [
    200, 201, 204, 301, 400, 401, 403, 404, 408, 409, 410, 422, 429, 500, 503, 202,
];
const WAITS: [&str; 14] = [
    "0",
    "5",
    "3600",
    "3601",
    "00007",
    "99999999999999999999999999",
    " 7 ",
    "-1",
    "1.5",
    "Sat, 21 Nov 2026 12:00:30 GMT",
    "Saturday, 21-Nov-26 12:59:59 GMT",
    "Sat Nov 21 13:00:01 2026",
    "Sat, 21 Nov 2026 11:59:59 GMT",
    "soon",
];

/// The answers to come, and what was asked.
#[derive(Default)]
struct Wire {
    answers: Vec<Response<Full<Bytes>>>,
    asked: Vec<String>,
}

static WIRE: Mutex<Wire> = Mutex::new(Wire {
    answers: Vec::new(),
    asked: Vec::new(),
});

/// A transport that gives the answers in order, and has no more once it has run out of them.
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
        let path = request.uri().path_and_query().expect("a path");
        assert_eq!(
            request.uri().host(),
            Some("127.0.0.1"),
            "the key goes nowhere else"
        );
        wire.asked.push(format!("{} {path}", request.method()));
        ready(Ok(wire.answers.pop().unwrap_or_else(none_left)))
    }
}

fn none_left() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

struct Bench {
    partnac: Client<Partnac, StandIn>,
    partnero: Client<Partnero, StandIn>,
    friends: Client<PartneroFriends, StandIn>,
    tapfiliate: Client<Tapfiliate, StandIn>,
    plain_partnac: Partnac,
    plain_tapfiliate: Tapfiliate,
    reports: Vec<Report>,
    webhooks: Webhooks,
    words: Words,
    /// A wait for a timer has to know of one.
    runtime: tokio::runtime::Runtime,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let url = "http://127.0.0.1:9";
    let partnac = Partnac::new(API_KEY)
        .and_then(|p| p.base_url(url))
        .expect("partnac");
    let partnero = Partnero::new(API_KEY)
        .and_then(|p| p.base_url(url))
        .expect("partnero");
    let friends = PartneroFriends::new(API_KEY)
        .and_then(|p| p.base_url(url))
        .expect("friends");
    let tapfiliate = Tapfiliate::new(API_KEY)
        .and_then(|p| p.base_url(url))
        .expect("tapfiliate");
    let money = |amount| Money::new(amount, "EUR").expect("money");
    let click_id = || CLICK_ID.parse::<ClickId>().expect("a click ID");
    let credit = || Credit::new(KEY.parse().expect("a key")).with_click_id(click_id());
    let sign_up = || SignUp::new(CUSTOMER).expect("an ID").email(EMAIL);
    let sale = || Sale::new(ORDER, CUSTOMER, money("99.90")).expect("IDs");
    let guest = |sign_up| Sale::guest(ORDER, sign_up, money("99.90")).expect("an ID");
    let keyed = || Credit::new(KEY.parse().expect("a key"));
    let reports = vec![
        sign_up().credit(credit()).coupon(COUPON).into(),
        sign_up().credit(keyed()).into(),
        sign_up().into(),
        sale().credit(credit()).coupon(COUPON).into(),
        sale().coupon(COUPON).into(),
        sale().into(),
        guest(sign_up().credit(credit())).into(),
        guest(sign_up()).into(),
        Refund::whole(ORDER).expect("an ID").into(),
        Refund::part(ORDER, money("5")).expect("an ID").into(),
    ];
    Bench {
        plain_partnac: partnac.clone(),
        plain_tapfiliate: tapfiliate.clone(),
        partnac: Client::new(partnac, StandIn),
        partnero: Client::new(partnero, StandIn),
        friends: Client::new(friends, StandIn),
        tapfiliate: Client::new(tapfiliate, StandIn),
        reports,
        webhooks: Webhooks::new(WEBHOOK_SECRET).expect("a secret"),
        words: words(),
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime"),
    }
});

fn words() -> Words {
    let mut words = Words::default();
    let texts: [&str; 29] = [
        "{\"message\":\"",
        "{\"error\":\"",
        "{\"errors\":{\"",
        "\":[\"",
        "\"]}}",
        "\"}",
        " not found",
        " already exists",
        "", // A tab.
        "", // A line feed.
        "partner",
        "customer",
        "conversion",
        "click",
        "coupon",
        "referral_code",
        "{\"data\":{\"id\":",
        "{\"id\":\"",
        "\"conversions\":[",
        "{\"external_id\":\"ORDER-1\",\"id\":7,\"amount\":",
        ",\"currency\":\"EUR\"}",
        "\"links\":{\"next\":\"",
        "http://127.0.0.1:9/customers?page=",
        "sk-secret/key",
        "sk-SECRET%2FKEY",
        EMAIL,
        CUSTOMER,
        "{\"success\":false,\"status\":\"",
        ORDER,
    ];
    for (word, text) in words[1..].iter_mut().zip(texts) {
        *word = text.into();
    }
    words[0] = b"does not exist, invalid key duplicate ".to_vec();
    words[30] = [&b"\""[..], &b"x".repeat(66_000), b"\""].concat();
    words[31] = b"{\"event\":\"transaction.created\",\"created_at\":\"now\",\"data\":".to_vec();
    words
}

/// The answers as the oracle is given them.
struct Script<'a> {
    answers: Vec<Answer<'a>>,
    /// Those that are left.
    next: usize,
    /// What has been asked.
    asked: Vec<String>,
}

impl<'a> Script<'a> {
    /// The answer to a request; the `500` of none, once they have run out.
    fn ask(&mut self, request: impl Into<String>) -> Result<Answer<'a>, Failure> {
        self.asked.push(request.into());
        self.next += 1;
        let none = Answer {
            status: 500,
            wait: None,
            body: b"",
        };
        let answer = self.answers.get(self.next - 1).copied().unwrap_or(none);
        answer.bounded()
    }
}

/// What an oracle says of a report: what comes of it, and whether another try would do no harm.
type Told = (Result<Meaning, Failure>, bool);

/// What is sent with a report and may be echoed.
fn sent(report: &Report) -> Vec<&str> {
    let mut sent = vec![API_KEY];
    let (credit, coupon, contact) = match report {
        Report::SignUp(it) => (it.credited_to(), it.coupon_code(), Some(it.contact())),
        Report::Sale(it) => (it.credited_to(), it.coupon_code(), it.guest_contact()),
        _ => (None, None, None),
    };
    sent.extend(credit.map(|credit| credit.key().as_str()));
    sent.extend(credit.and_then(Credit::click_id).map(ClickId::as_str));
    sent.extend(coupon);
    sent.extend(contact.and_then(|contact| contact.email.as_deref()));
    sent.extend(report.customer());
    sent.extend(report.order());
    sent
}

/// Partnac: by the key, then by the coupon.
fn partnac(report: &Report, script: &mut Script<'_>) -> Told {
    let sent = sent(report);
    let (credit, coupon) = match report {
        Report::SignUp(it) => (it.credited_to(), it.coupon_code()),
        Report::Sale(it) => (it.credited_to(), it.coupon_code()),
        _ => {
            let refunded = script
                .ask("POST /conversions/ORDER-1/refund")
                .and_then(|answer| {
                    if answer.says_duplicate(&sent, &["refund"]) {
                        Ok(Meaning::Duplicate)
                    } else if answer.is_not_found()
                        || answer.says_unknown(&sent, &["conversion", "unique_id"])
                    {
                        Ok(Meaning::NotAttributed)
                    } else {
                        let json = answer.acknowledged()?;
                        Ok(Meaning::Recorded(text_of(&json, &["refund_id", "id"])))
                    }
                });
            return (refunded, false);
        }
    };
    for _ in [credit.is_some(), coupon.is_some()]
        .iter()
        .filter(|has| **has)
    {
        let answer = match script.ask("POST /conversions") {
            Ok(answer) => answer,
            Err(failure) => return (Err(failure), true),
        };
        let subjects = ["unique_id", "unique id", "conversion"];
        if answer.status == 409 || answer.says_duplicate(&sent, &subjects) {
            return (Ok(Meaning::Duplicate), true);
        }
        let subjects = ["partnership", "partner", "affiliate", "coupon"];
        if !answer.says_unknown(&sent, &subjects) {
            let json = answer.success();
            let id = |json: Value| text_of(&json, &["conversion_id", "id"]);
            return (json.map(|json| Meaning::Recorded(id(json))), true);
        }
    }
    (Ok(Meaning::NotAttributed), true)
}

/// Tapfiliate: by the click, the key, the coupon, and a sale by its customer.
fn tapfiliate(report: &Report, script: &mut Script<'_>) -> Told {
    let sent = sent(report);
    let (credit, coupon, is_sale) = match report {
        Report::SignUp(it) => (it.credited_to(), it.coupon_code(), false),
        Report::Sale(it) => (it.credited_to(), it.coupon_code(), true),
        Report::Refund(refund) => return tapfiliate_refund(refund, script),
        _ => unreachable!("no other reports"),
    };
    let by: [(bool, &[&str]); 4] = [
        (credit.and_then(Credit::click_id).is_some(), &["click"]),
        (credit.is_some(), &["referral", "affiliate"]),
        (coupon.is_some(), &["coupon"]),
        (is_sale, &["customer"]),
    ];
    let (path, own_id) = if is_sale {
        ("POST /conversions/", "external")
    } else {
        ("POST /customers/", "customer")
    };
    for (at, (_, subjects)) in by.iter().enumerate().filter(|(_, (has, _))| *has) {
        let answer = match script.ask(path) {
            Ok(answer) => answer,
            Err(failure) => return (Err(failure), true),
        };
        if answer.says_duplicate(&sent, &[own_id]) {
            return (Ok(Meaning::Duplicate), true);
        }
        let is_refused = match at {
            0 => [400, 404, 409, 422].contains(&answer.status),
            _ => answer.says_unknown(&sent, subjects),
        };
        if !is_refused {
            let json = answer.success();
            return (
                json.map(|json| Meaning::Recorded(text_of(&json, &["id"]))),
                true,
            );
        }
    }
    (Ok(Meaning::NotAttributed), true)
}

fn tapfiliate_refund(refund: &Refund, script: &mut Script<'_>) -> Told {
    // What only asks does no harm twice.
    let (id, left) = match tapfiliate_conversion(refund, script) {
        Ok(Some(found)) => found,
        Ok(None) => return (Ok(Meaning::NotAttributed), true),
        Err(failure) => return (Err(failure), true),
    };
    let method = if left.is_some_and(|left| left > 0) {
        "PATCH"
    } else {
        "DELETE"
    };
    let mut path = String::new();
    for byte in id.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    let answer = script.ask(format!("{method} /conversions/{path}/"));
    let result = answer.and_then(|answer| match answer.status {
        404 => Ok(Meaning::Duplicate),
        _ => answer.accepted().map(|()| Meaning::Recorded(None)),
    });
    (result, refund.amount().is_none())
}

/// The ID of the order's conversion, and what a part leaves of it in billionths.
fn tapfiliate_conversion(
    refund: &Refund,
    script: &mut Script<'_>,
) -> Result<Option<(String, Option<u128>)>, Failure> {
    let answer = script.ask("GET /conversions/?external_id=ORDER-1")?;
    answer.success()?;
    let unreadable = Failure::Unreadable(answer.status);
    let list = answer.list(&["conversions"]).ok_or(unreadable)?;
    let mut conversions = list.iter().filter_map(|item| Listed::read(item));
    let ours = |conversion: &Listed| conversion.external_id.as_deref() == Some(ORDER);
    let Some(conversion) = conversions.find(ours) else {
        return Ok(None);
    };
    let id = conversion.id.ok_or(unreadable)?;
    let Some(amount) = refund.amount() else {
        return Ok(Some((id, None)));
    };
    if conversion
        .currency
        .is_some_and(|currency| !currency.eq_ignore_ascii_case("EUR"))
    {
        return Err(Failure::RefundInOtherCurrency);
    }
    let paid = conversion
        .amount
        .as_deref()
        .and_then(billionths)
        .ok_or(unreadable)?;
    let back = billionths(&amount.amount()).expect("an amount of ours");
    let left = paid.checked_sub(back).ok_or(Failure::RefundOverSale)?;
    Ok(Some((id, Some(left))))
}

/// Partnero, either program.
fn partnero(report: &Report, script: &mut Script<'_>, among_friends: bool) -> Told {
    let sent = sent(report);
    let is_duplicate = |answer: &Answer<'_>| {
        let subjects = ["key", "customer", "transaction"];
        answer.status == 409 || answer.says_duplicate(&sent, &subjects)
    };
    let is_unknown_referrer = |answer: &Answer<'_>| {
        answer.says_unknown(&sent, &["partner", "referring", "referrer", "referral"])
    };
    let is_unknown_customer = |answer: &Answer<'_>| answer.says_unknown(&sent, &["customer"]);
    let recorded = |answer: &Answer<'_>| answer.success().map(|_| Meaning::Recorded(None));
    let (customers, transactions) = ("POST /customers", "POST /transactions");
    match report {
        Report::Refund(refund) if refund.amount().is_some() => (Err(Failure::PartialRefund), true),
        Report::Refund(_) => {
            let answer = script.ask("DELETE /transactions/ORDER-1");
            let result = answer.and_then(|answer| {
                if answer.is_not_found() {
                    return Ok(Meaning::NotAttributed);
                }
                answer.acknowledged().map(|_| Meaning::Recorded(None))
            });
            (result, true)
        }
        Report::SignUp(sign_up) => {
            let is_referred = sign_up.credited_to().is_some();
            if !is_referred && !among_friends {
                return (Ok(Meaning::NotAttributed), true);
            }
            let result = script.ask(customers).and_then(|answer| {
                if is_duplicate(&answer) {
                    Ok(Meaning::Duplicate)
                } else if is_unknown_referrer(&answer) && !among_friends {
                    Ok(Meaning::NotAttributed)
                } else if is_unknown_referrer(&answer) && is_referred {
                    // The same without the referring customer.
                    let answer = script.ask(customers)?;
                    if is_duplicate(&answer) {
                        return Ok(Meaning::Duplicate);
                    }
                    answer.accepted().map(|()| Meaning::NotAttributed)
                } else {
                    recorded(&answer)
                }
            });
            (result, true)
        }
        Report::Sale(sale) => {
            let is_referred = sale.credited_to().is_some();
            if !sale.is_guest() {
                let answer = match script.ask(transactions) {
                    Ok(answer) => answer,
                    Err(failure) => return (Err(failure), false),
                };
                if is_duplicate(&answer) {
                    return (Ok(Meaning::Duplicate), false);
                }
                if !is_unknown_customer(&answer) {
                    let result = if !among_friends && is_unknown_referrer(&answer) {
                        Ok(Meaning::NotAttributed)
                    } else {
                        recorded(&answer)
                    };
                    return (result, false);
                }
                if !is_referred {
                    return (Ok(Meaning::NotAttributed), false);
                }
            } else if !is_referred && !among_friends {
                return (Ok(Meaning::NotAttributed), true);
            }
            // The customer has to be made: with the sale, or before it.
            let first = script.ask(if among_friends {
                customers
            } else {
                transactions
            });
            let is_harmless = among_friends;
            let first = match first {
                Ok(answer) => answer,
                Err(failure) => return (Err(failure), is_harmless),
            };
            if among_friends {
                if is_unknown_referrer(&first) {
                    return (Ok(Meaning::NotAttributed), is_harmless);
                }
                if !is_duplicate(&first)
                    && let Err(failure) = first.accepted()
                {
                    return (Err(failure), is_harmless);
                }
            } else if !is_duplicate(&first) {
                let result = if is_unknown_referrer(&first) {
                    Ok(Meaning::NotAttributed)
                } else {
                    recorded(&first)
                };
                return (result, is_harmless);
            }
            let last = script.ask(transactions).and_then(|answer| {
                if is_duplicate(&answer) {
                    Ok(Meaning::Duplicate)
                } else if is_unknown_customer(&answer)
                    || (!among_friends && is_unknown_referrer(&answer))
                {
                    Ok(Meaning::NotAttributed)
                } else {
                    recorded(&answer)
                }
            });
            (last, false)
        }
        _ => unreachable!("no other reports"),
    }
}

/// What the crate and the oracle say of a report must be the same.
fn compare(said: Result<Outcome, ReportError>, told: Told, secrets: &[&str]) {
    let (expected, does_no_harm_twice) = told;
    match (said, expected) {
        (Ok(Outcome::Recorded { id }), Ok(Meaning::Recorded(expected))) => assert_eq!(id, expected),
        (Ok(Outcome::Duplicate), Ok(Meaning::Duplicate))
        | (Ok(Outcome::NotAttributed), Ok(Meaning::NotAttributed)) => {}
        (Err(error), Err(failure)) => {
            assert_eq!(error.advice().as_str(), failure.advice(does_no_harm_twice));
            same_error(error.kind(), failure, secrets);
            hides(&error, secrets);
        }
        (said, expected) => panic!("{said:?}, but {expected:?}"),
    }
}

fn same_error(error: &Error, failure: Failure, secrets: &[&str]) {
    let expected = match error {
        Error::RateLimited { retry_after } => Failure::RateLimited(*retry_after),
        Error::Unauthorized { status } => Failure::Unauthorized(status.as_u16()),
        Error::UnknownKey(_) => Failure::UnknownKey,
        Error::Rejected {
            status,
            retry_after,
            message,
        } => {
            keeps_quiet(message, secrets);
            Failure::Rejected(status.as_u16(), *retry_after)
        }
        Error::Unreadable { status } => Failure::Unreadable(status.as_u16()),
        Error::Unsupported(Unsupported::RefundOverSale) => Failure::RefundOverSale,
        Error::Unsupported(Unsupported::RefundInOtherCurrency) => Failure::RefundInOtherCurrency,
        Error::Unsupported(Unsupported::PartialRefund) => Failure::PartialRefund,
        Error::ForeignLink => Failure::ForeignLink,
        error => panic!("{error:?}, but {failure:?}"),
    };
    assert_eq!(expected, failure);
    hides(error, secrets);
}

/// A platform's own words hold nothing of what was sent, and no address.
fn keeps_quiet(message: &Message, secrets: &[&str]) {
    let words = message.as_str();
    assert!(words.chars().count() <= 500);
    assert!(!words.contains('@'), "{words}");
    let words = words.to_ascii_lowercase();
    for secret in secrets {
        let secret = secret.to_ascii_lowercase();
        let encoded = secret
            .replace('/', "%2f")
            .replace(' ', "%20")
            .replace('@', "%40");
        assert!(!words.contains(&secret), "{words}");
        assert!(!words.contains(&encoded), "{words}");
    }
}

/// What goes into logs has not even the platform's own words.
fn hides(error: &(impl Debug + ToString), secrets: &[&str]) {
    let logged = format!("{error:?} {}", error.to_string()).to_ascii_lowercase();
    for secret in secrets {
        assert!(!logged.contains(&secret.to_ascii_lowercase()), "{logged}");
    }
}

/// What comes of a future that has nothing to wait for but a timer.
fn poll<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn at_once<F: Future>(future: F) -> F::Output {
    poll(future).expect("nothing to wait for")
}

/// All that a stream has before it waits or ends; and whether it waits.
fn drain<I, S: Stream<Item = Result<I, Error>> + Unpin>(
    mut stream: S,
) -> (Vec<I>, Option<Error>, bool) {
    let mut items = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut stream).poll_next(&mut context) {
            Poll::Pending => return (items, None, true),
            Poll::Ready(None) => return (items, None, false),
            Poll::Ready(Some(Ok(item))) => items.push(item),
            Poll::Ready(Some(Err(error))) => {
                let next = Pin::new(&mut stream).poll_next(&mut context);
                assert!(
                    matches!(next, Poll::Ready(None)),
                    "an error is the last item"
                );
                return (items, Some(error), false);
            }
        }
    }
}

/// A list whose pages are counted: it ends with an empty page, or one that came before.
fn counted(
    script: &mut Script<'_>,
    name: &str,
    ask: impl Fn(usize, usize) -> String,
) -> (Vec<Listed>, Option<Failure>, bool) {
    let (mut items, mut page, mut offset, mut last) = (Vec::new(), 1, 0, Vec::new());
    loop {
        let read = script.ask(ask(page, offset)).and_then(|answer| {
            answer.success()?;
            let list = answer.list(&[name, "items", "results"]);
            list.ok_or(Failure::Unreadable(answer.status))
        });
        let list = match read {
            Ok(list) => list,
            Err(Failure::RateLimited(_)) => return (items, None, true),
            Err(failure) => return (items, Some(failure), false),
        };
        let texts: Vec<String> = list.iter().map(|raw| raw.get().to_owned()).collect();
        if texts.is_empty() || texts == last {
            return (items, None, false);
        }
        items.extend(list.iter().filter_map(|item| Listed::read(item)));
        (page, offset, last) = (page + 1, offset + texts.len(), texts);
    }
}

fn same_list<I>(
    said: (Vec<I>, Option<Error>, bool),
    expected: (Vec<Listed>, Option<Failure>, bool),
    listed: impl Fn(&I) -> Listed,
) {
    let items: Vec<_> = said.0.iter().map(listed).collect();
    assert_eq!(items, expected.0);
    assert_eq!(said.2, expected.2, "waits");
    match (&said.1, expected.1) {
        (None, None) => {}
        (Some(error), Some(failure)) => same_error(error, failure, &[API_KEY]),
        (said, expected) => panic!("{said:?}, but {expected:?}"),
    }
}

fn webhook(bench: &Bench, signature: u8, body: &[u8]) {
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET).expect("any key");
    mac.update(body);
    let right: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut headers = HeaderMap::new();
    let mut put = |text: &str| {
        headers.append("signature", HeaderValue::from_str(text).expect("a header"));
    };
    let json = serde_json::from_slice::<Value>(body).ok();
    let name = json.as_ref().and_then(|json| json.get("event")?.as_str());
    let mut expected = name.ok_or(InvalidWebhook::Unreadable);
    match signature % 8 {
        0 => expected = Err(InvalidWebhook::Unsigned),
        1 => {
            put(&right);
            put(&right);
            expected = Err(InvalidWebhook::Unsigned);
        }
        2 => {
            put(&right.to_ascii_uppercase());
            if right.bytes().any(|byte| byte.is_ascii_alphabetic()) {
                expected = Err(InvalidWebhook::BadSignature);
            }
        }
        3 => {
            put(&right[1..]);
            expected = Err(InvalidWebhook::BadSignature);
        }
        4 => {
            let other = if right.starts_with('0') { "1" } else { "0" };
            put(&format!("{other}{}", &right[1..]));
            expected = Err(InvalidWebhook::BadSignature);
        }
        _ => put(&right),
    }
    let event = bench.webhooks.read(&headers, body);
    assert_eq!(
        event.as_ref().map(|event| event.name()),
        expected.as_ref().map(|name| *name)
    );
    if let (Ok(event), Some(json)) = (event, json) {
        assert_eq!(
            event.created_at().map(str::to_owned),
            text_of(&json, &["created_at"])
        );
        assert_eq!(*event.data(), json.get("data").cloned().unwrap_or_default());
    }
}

fn click(bench: &Bench, is_partnac: bool, answer: &Answer<'_>) {
    let status = StatusCode::from_u16(answer.status).expect("a status");
    let given = CrateAnswer::new(status, Bytes::copy_from_slice(answer.body));
    // Read without a client, it has no header.
    let answer = Answer {
        wait: None,
        ..*answer
    };
    let (said, subjects, names): (_, [&str; 3], &[&str]) = if is_partnac {
        (
            bench.plain_partnac.read_click(&given),
            ["partnership", "partner", "code"],
            &["click_id", "id", "session_id"],
        )
    } else {
        (
            bench.plain_tapfiliate.read_click(&given),
            ["referral_code", "referral code", "affiliate"],
            &["id"],
        )
    };
    let expected = if answer.says_unknown(&[], &subjects) {
        Err(Failure::UnknownKey)
    } else {
        answer.success().and_then(|json| {
            let id = text_of(&json, names).filter(|id| {
                (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
            });
            id.ok_or(Failure::Unreadable(answer.status))
        })
    };
    match (said, expected) {
        (Ok(id), Ok(expected)) => assert_eq!(id.as_str(), expected),
        (Err(error), Err(failure)) => same_error(&error, failure, &[]),
        (said, expected) => panic!("{said:?}, but {expected:?}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else {
        return;
    };
    let bench = &*BENCH;

    // The answers, for the oracle and on the wire.
    let mut bodies = Vec::new();
    for part in rest.split(|byte| *byte == 0xFF).take(6) {
        let [status, header, body @ ..] = part else {
            break;
        };
        let mut text = Vec::with_capacity(256);
        script::written_out(&bench.words, body, *header >= 240, &mut text);
        bodies.push((STATUSES[usize::from(*status) % 16], *header, text));
    }
    let mut script = Script {
        answers: Vec::new(),
        next: 0,
        asked: Vec::new(),
    };
    let mut answers = Vec::new();
    for (status, header, body) in &bodies {
        let text = WAITS.get(usize::from(*header));
        script.answers.push(Answer {
            status: *status,
            wait: text.and_then(|text| wait(text, NOW)),
            body,
        });
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(body)));
        *response.status_mut() = StatusCode::from_u16(*status).expect("a status");
        if let Some(text) = text {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            headers.insert(DATE, HeaderValue::from_static(NOW));
        }
        answers.push(response);
    }
    answers.reverse();
    *WIRE.lock().expect("one thread") = Wire {
        answers,
        asked: Vec::new(),
    };

    let (what, which) = (choice % 16, usize::from(choice / 16));
    match what {
        0..=11 => {
            let report = &bench.reports[(which + usize::from(what / 4)) % bench.reports.len()];
            let secrets = sent(report);
            let given = report.clone();
            let (said, told) = match what % 4 {
                0 => (
                    at_once(bench.partnac.report(given)),
                    partnac(report, &mut script),
                ),
                1 => (
                    at_once(bench.partnero.report(given)),
                    partnero(report, &mut script, false),
                ),
                2 => (
                    at_once(bench.friends.report(given)),
                    partnero(report, &mut script, true),
                ),
                _ => (
                    at_once(bench.tapfiliate.report(given)),
                    tapfiliate(report, &mut script),
                ),
            };
            compare(said, told, &secrets);
        }
        12 => {
            if let Some((_, header, body)) = bodies.first() {
                webhook(bench, *header, body);
            }
        }
        13 => {
            if let Some(answer) = script.answers.first() {
                click(bench, which % 2 == 0, answer);
            }
        }
        14 => {
            let _guard = bench.runtime.enter();
            // Only the others' lists are longer than an answer may be.
            if bodies.iter().any(|(_, _, body)| body.len() > 64 * 1024) {
                return;
            }
            if which % 2 == 0 {
                let said = drain(bench.tapfiliate.list_conversions());
                let ask = |page, _| format!("GET /conversions/?page={page}");
                same_list(said, counted(&mut script, "conversions", ask), listed);
            } else {
                let said = drain(bench.partnac.list_conversions(Filter::all()));
                let ask = |_, offset| format!("GET /conversions?limit=100&offset={offset}");
                same_list(said, counted(&mut script, "conversions", ask), listed);
            }
        }
        _ => {
            let said = at_once(bench.friends.friend_stats(CUSTOMER));
            let expected = script
                .ask("GET /customers/CUST%201/stats")
                .and_then(|answer| {
                    if answer.is_not_found() {
                        return Ok(None);
                    }
                    answer.success().map(Some)
                });
            match (said, expected) {
                (Ok(json), Ok(expected)) => assert_eq!(json, expected),
                (Err(error), Err(failure)) => same_error(&error, failure, &[API_KEY, CUSTOMER]),
                (said, expected) => panic!("{said:?}, but {expected:?}"),
            }
        }
    }
    let asked = std::mem::take(&mut WIRE.lock().expect("one thread").asked);
    assert_eq!(asked, script.asked);
});

fn listed(item: &tower_referral_platforms::ListedConversion) -> Listed {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let money = item.amount().zip(item.currency());
    let is_money = money.is_some_and(|(amount, currency)| {
        billionths(amount).is_some()
            && currency.len() == 3
            && currency.bytes().all(|byte| byte.is_ascii_alphabetic())
    });
    assert_eq!(item.money().is_some(), is_money);
    Listed {
        id: text(item.id()),
        external_id: text(item.external_id()),
        kind: text(item.kind()),
        amount: text(item.amount()),
        currency: text(item.currency()),
    }
}
