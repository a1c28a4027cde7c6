//! Platforms' answers: whatever they are, a report is a success only where one said so, nothing that
//! was sent comes back in an error, no request goes elsewhere, and every exchange and every list ends.
//!
//! The first byte chooses the platform or another call, the second the report and what is known of
//! it. The rest are the answers, one behind the other, each ended by a byte 0xFF: a status, a byte
//! that lets long words in, and a body in which control characters stand for words that platforms
//! use, or for the shapes that hurt readers.
#![no_main]

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tower_referral::click::Click;
use tower_referral_fuzz::platform::{self, Rules};
use tower_referral_fuzz::promises;
use tower_referral_fuzz::reports::{self, API_KEY, CUSTOMER, EMAIL, KEY, ORDER, Told};
use tower_referral_fuzz::script::{self, Words};
use tower_referral_fuzz::wire::{self, StandIn, URL};
use tower_referral_platforms::affiliate::dub::LeadMode;
use tower_referral_platforms::affiliate::partnac::Filter;
use tower_referral_platforms::affiliate::partnero::Webhook;
use tower_referral_platforms::affiliate::postback::{Body, DeduplicatedBy};
use tower_referral_platforms::{
    Affonso, Awin, ClickApi, Client, Dub, Error, FirstPromoter, Partnac, Partnero, PartneroFriends,
    PlatformIds, Postback, Receipt, ReportApi, ReportError, ReportRequest, Tapfiliate, Tolt,
};

const STATUSES: [u16; 23] = [
    200, 201, 204, 301, 400, 401, 403, 404, 408, 409, 410, 422, 429, 500, 503, 202, 206, 402, 303,
    307, 304, 101, 600,
];

type Asks<A, R> = Box<dyn Fn(&Bench, A) -> R + Send + Sync>;

/// A platform under test, beside what is known of it.
struct Subject {
    rules: Rules,
    /// The words of its answers.
    words: Words,
    report: Asks<ReportRequest, Result<Receipt, ReportError>>,
    check: Asks<(), Result<(), Error>>,
}

/// A platform that makes clicks, and where its answer has their IDs.
struct Clicks {
    ids: &'static [&'static str],
    create: Asks<(), Result<Click, Error>>,
}

struct Bench {
    subjects: Vec<Subject>,
    clicks: Vec<Clicks>,
    partnac: Client<Partnac, StandIn>,
    friends: Client<PartneroFriends, StandIn>,
    tapfiliate: Client<Tapfiliate, StandIn>,
    awin: Client<Awin, StandIn>,
    reports: Vec<Told>,
    webhook: Webhook,
    /// A wait for a timer has to know of one.
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// Runs a future that waits for nothing but the time.
    fn at_once<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

fn subject<P>(platform: P, rules: Rules, words: &Words) -> Subject
where
    P: ReportApi + Send + Sync + 'static,
{
    let client = Client::new(platform, StandIn);
    let checked = client.clone();
    Subject {
        rules,
        words: words.clone(),
        report: Box::new(move |bench, asked| bench.at_once(client.send_report(&asked))),
        check: Box::new(move |bench, ()| bench.at_once(checked.check())),
    }
}

fn clicks<P>(platform: P, ids: &'static [&'static str]) -> Clicks
where
    P: ClickApi + Send + Sync + 'static,
{
    let client = Client::new(platform, StandIn);
    let create = move |bench: &Bench, ()| bench.at_once(client.create_click(&reports::click().0));
    Clicks {
        ids,
        create: Box::new(create),
    }
}

/// The generic postback, to a tracker that says all in a text, and to one that answers with a code.
fn trackers() -> [Postback; 2] {
    let url = |query| format!("{URL}/postback?token=sk-SECRET%2FKEY&{query}");
    let text = Postback::builder(url("c={click_id}&o={order}&a={amount}&m={email}"))
        .sign_ups(url("c={click_id}&u={customer}&ip={ip}&ua={user_agent}"))
        .refunds(url("o={order}"))
        .success_if(Body::contains(platform::SUCCESS))
        .success_if(Body::lacks(platform::FAILED))
        .duplicate_if(Body::contains(platform::KNOWN))
        .not_attributed_if(Body::contains(platform::UNKNOWN))
        .deduplicated_by(DeduplicatedBy::Order);
    let code = Postback::builder(url("c={click_id}&o={order}&a={amount_minor}&k={coupon}"))
        .sign_ups(url("c={click_id}&u={customer}"))
        .refunds(url("c={click_id}&o={order}&a={amount}&r={refund}"))
        .post_form()
        .success_if(Body::json("/status", 0))
        .duplicate_if(Body::json("/status", 8))
        .not_attributed_if(Body::json("/status", 13));
    [text, code].map(|it| it.build().expect("templates"))
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    macro_rules! at_the_stand_in {
        ($platform:expr) => {
            $platform.and_then(|it| it.base_url(URL)).expect("a key")
        };
    }
    let partnac = at_the_stand_in!(Partnac::new(API_KEY));
    let partnero = at_the_stand_in!(Partnero::new(API_KEY)).leave_out_coupons();
    let friends = at_the_stand_in!(PartneroFriends::new(API_KEY)).leave_out_coupons();
    let tapfiliate = at_the_stand_in!(Tapfiliate::new(API_KEY));
    let affonso = at_the_stand_in!(Affonso::new(API_KEY, "prg_1")).leave_out_coupons();
    let awin = at_the_stand_in!(Awin::new(API_KEY, 1234));
    let dub = at_the_stand_in!(Dub::new(API_KEY)).leave_out_coupons();
    let first_promoter = at_the_stand_in!(FirstPromoter::new(API_KEY, "acc_1"));
    let tolt = at_the_stand_in!(Tolt::new(API_KEY)).leave_out_coupons();
    let [text, code] = trackers();
    let [old, new] = [&words(WORDS), &words(MORE_WORDS)];
    let disapproves = tapfiliate.clone().disapprove_refunds();
    let deferred = dub.clone().lead_mode(LeadMode::Deferred);
    Bench {
        clicks: vec![
            clicks(partnac.clone(), &["click_id", "id", "session_id"]),
            clicks(tapfiliate.clone(), &["id"]),
            clicks(affonso.clone(), &["id"]),
            clicks(tolt.clone(), &["id"]),
        ],
        subjects: vec![
            subject(partnac.clone(), platform::PARTNAC, old),
            subject(partnero.replace_partly_refunded(), platform::PARTNERO, old),
            subject(friends.clone(), platform::FRIENDS, old),
            subject(tapfiliate.clone(), platform::TAPFILIATE, old),
            subject(disapproves, platform::TAPFILIATE, old),
            subject(affonso, platform::AFFONSO, new),
            subject(awin.clone(), platform::AWIN, new),
            subject(dub, platform::DUB, new),
            subject(deferred, platform::DUB_DEFERRED, new),
            subject(first_promoter, platform::FIRST_PROMOTER, new),
            subject(tolt, platform::TOLT, new),
            subject(text, platform::TEXT_TRACKER, new),
            subject(code, platform::CODE_TRACKER, new),
        ],
        partnac: Client::new(partnac, StandIn),
        friends: Client::new(friends, StandIn),
        tapfiliate: Client::new(tapfiliate, StandIn),
        awin: Client::new(awin, StandIn),
        reports: reports::reports(),
        webhook: Webhook::new("webhook secret").expect("a secret"),
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime"),
    }
});

/// Words of the platforms whose answers look alike.
const WORDS: [&str; 24] = [
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

/// Words of the others, who have each their own.
const MORE_WORDS: [&str; 24] = [
    "{\"message\":\"",
    "{\"success\":false,\"error\":\"",
    "{\"error\":{\"code\":\"",
    "not_found",
    "invalid_reference",
    "\"}",
    "bad_request\",\"message\":\"",
    "}}",
    "", // A tab.
    "", // A line feed.
    "{\"data\":{\"id\":\"",
    "\",\"partner_id\":\"",
    "{\"customer\":{\"id\":\"",
    "\"},\"sale\":",
    "null,\"link\":",
    "{\"customer\":null,\"sale\":null}",
    "[{\"id\":\"cm_1\",\"invoiceId\":\"ORDER-1\",\"type\":\"sale\",\"status\":\"",
    "\",\"saleAmount\":9990,\"currency\":\"eur\"}]",
    "{\"successfulOrders\":[{\"orderReference\":\"ORDER-1\"}",
    "],\"failedOrders\":[{\"order\":{\"orderReference\":\"ORDER-2\"}}]}",
    "success=true;",
    " warning=",
    "{\"status\":",
    "duplicate",
];

fn words(texts: [&str; 24]) -> Words {
    let mut words = Words::default();
    for (word, text) in words[1..].iter_mut().zip(texts) {
        *word = text.into();
    }
    words[0] = format!(" {EMAIL} {CUSTOMER} {ORDER} {KEY} sk-SECRET%2FKEY 203.0.113.77 ").into();
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

/// Reads a list to its end, and at most so many waits.
fn drain<S: Stream + Unpin>(bench: &Bench, mut list: S) {
    let _guard = bench.runtime.enter();
    let mut context = Context::from_waker(Waker::noop());
    let mut items = 0;
    while let Poll::Ready(Some(_)) = Pin::new(&mut list).poll_next(&mut context) {
        items += 1;
        assert!(items < 1_000_000, "a list that doesn't end");
    }
}

/// What isn't a report: pages, lists and webhooks.
fn check_others(bench: &Bench, which: u8, body: &[u8]) {
    match which % 5 {
        0 => drain(bench, bench.tapfiliate.list_conversions()),
        1 => drain(bench, bench.partnac.list_conversions(Filter::all())),
        2 => {
            let list = bench.friends.friend_referrals(CUSTOMER).expect("an ID");
            drain(bench, list);
        }
        3 => {
            let mut headers = HeaderMap::new();
            headers.insert("signature", HeaderValue::from_static("00"));
            assert!(bench.webhook.read(&headers, body).is_err(), "unsigned");
        }
        _ => {
            let page = bench.at_once(bench.friends.friend_stats(CUSTOMER));
            if let Ok(Some(json)) = page {
                // No text of a page runs as a script.
                let text = json.to_string().to_ascii_lowercase();
                assert!(!text.contains(":\"javascript:"), "{text}");
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [what, which, rest @ ..] = input else {
        return;
    };
    let bench = &*BENCH;
    let (what, which) = (usize::from(*what), *which);
    let all = bench.subjects.len();
    let subject = bench.subjects.get(what % (all + 4));
    let words = subject.map_or_else(
        || &bench.subjects[usize::from(which) % all].words,
        |subject| &subject.words,
    );
    let mut answers = Vec::new();
    for part in rest.split(|byte| *byte == 0xFF).take(6) {
        let [status, header, body @ ..] = part else {
            break;
        };
        let mut text = Vec::with_capacity(256);
        script::written_out(words, body, *header >= 128, &mut text);
        let status = STATUSES[usize::from(*status) % STATUSES.len()];
        answers.push((status, Bytes::from(text)));
    }
    let first = answers.first().map(|(_, body)| body.clone());
    wire::set_answers(answers);
    if let Some(subject) = subject {
        let told = &bench.reports[usize::from(which & 31) % bench.reports.len()];
        let (has_ids, is_again) = (which & 32 != 0, which & 192 == 192);
        let ids = if has_ids {
            reports::ids()
        } else {
            PlatformIds::default()
        };
        let asked = ReportRequest::new(told.report.clone()).with_ids(ids.clone());
        let asked = asked.may_have_arrived(is_again);
        let result = (subject.report)(bench, asked);
        promises::check_report(&subject.rules, told, &ids, is_again, &result);
        return;
    }
    match what % (all + 4) - all {
        0 => {
            let batch = reports::batch();
            let results = bench.at_once(bench.awin.report_batch(&batch));
            promises::check_batch(&batch, &results);
        }
        1 => {
            let clicks = &bench.clicks[usize::from(which / 16) % bench.clicks.len()];
            promises::check_click(clicks.ids, (clicks.create)(bench, ()));
        }
        2 => {
            let subject = &bench.subjects[usize::from(which) % all];
            let result = (subject.check)(bench, ());
            let asked = wire::take_asked();
            match (result, asked.last()) {
                (Ok(()), last) => assert!(last.is_some_and(|it| it.answer().is_success())),
                (Err(error), _) => promises::assert_clean(&error, &[]),
            }
        }
        _ => check_others(bench, which, &first.unwrap_or_default()),
    }
});
