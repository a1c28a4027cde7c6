//! Payment providers' events: that no body stops the readers, that what is read is sound, and that the
//! books stay right whatever comes in whatever order.
//!
//! The first byte chooses the provider. The rest are events, one behind the other, each ended by a byte
//! 0xFF; bytes below that stand for parts of such events, and the others for themselves.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tower_referral_platforms::payment::{
    Booked, Event, MemoryBooks, Reason, book, paddle, polar, stripe,
};
use tower_referral_platforms::{Credit, Money, Report, WebhookError};

const SECRET: &str = "webhook secret";
const WORDS: [&str; 64] = [
    r#"{"type":"invoice.paid","livemode":true,"created":1,"data":{"object":{"#,
    r#"{"type":"checkout.session.completed","livemode":true,"data":{"object":{"mode":"payment","payment_status":"paid","#,
    r#"{"type":"checkout.session.completed","data":{"object":{"mode":"subscription","#,
    r#"{"type":"invoice_payment.paid","data":{"object":{"#,
    r#"{"type":"payment_intent.succeeded","data":{"object":{"#,
    r#"{"type":"refund.created","created":2,"data":{"object":{"status":"succeeded","#,
    r#"{"type":"refund.failed","created":3,"data":{"object":{"status":"failed","#,
    r#"{"type":"charge.refunded","created":2,"data":{"object":{"#,
    r#"{"type":"charge.dispute.created","created":4,"data":{"object":{"status":"needs_response","#,
    r#"{"type":"charge.dispute.closed","created":5,"data":{"object":{"status":"won","#,
    r#"{"event_type":"transaction.completed","data":{"#,
    r#"{"event_type":"adjustment.updated","data":{"status":"approved","#,
    r#"{"type":"order.paid","data":{"#,
    r#"{"type":"refund.updated","data":{"status":"succeeded","#,
    "}}}",
    "}}",
    r#""id":"a1","#,
    r#""id":"b2","#,
    r#""id":{"id":"a1"},"#,
    r#""id":null,"#,
    r#""currency":"eur","#,
    r#""currency":"jpy","#,
    r#""currency":"isk","#,
    r#""currency":"kwd","#,
    r#""amount":300,"#,
    r#""amount":100,"#,
    r#""amount":-1,"#,
    r#""amount":9007199254740993,"#,
    r#""amount_refunded":200,"#,
    r#""amount_total":300,"total_details":{"amount_tax":100},"#,
    r#""amount_paid":300,"total":300,"total_excluding_tax":200,"#,
    r#""total":"300","#,
    r#""payment_intent":"p1","#,
    r#""payment_intent":"p2","#,
    r#""charge":"c1","#,
    r#""invoice":"a1","#,
    r#""payment":{"payment_intent":"p1"},"#,
    r#""customer":"cus","#,
    r#""subscription":"sub","#,
    r#""parent":{"subscription_details":{"subscription":"sub","metadata":{"customer":"C"}}},"#,
    r#""metadata":{"customer":"C","order":"O","referral":"P"},"#,
    r#""metadata":{"customer":"C"},"#,
    r#""metadata":{},"#,
    r#""client_reference_id":"P","#,
    r#""billing_reason":"subscription_create","#,
    r#""billing_reason":"subscription_cycle","#,
    r#""currency_code":"EUR","#,
    r#""custom_data":{"customer":"C","order":"O"},"#,
    r#""details":{"totals":{"total":"300","tax":"100","grand_total":"300"}},"#,
    r#""totals":{"total":"150","subtotal":"100","tax":"50"},"#,
    r#""transaction_id":"a1","#,
    r#""action":"refund","#,
    r#""action":"chargeback","#,
    r#""action":"chargeback_reverse","#,
    r#""subscription_id":"sub","#,
    r#""net_amount":200,"tax_amount":100,"total_amount":300,"#,
    r#""order_id":"a1","#,
    r#""customer_id":"cus","#,
    r#""lines":{"data":[{"subscription":"sub","metadata":{"customer":"C"}}]},"#,
    r#""x":[[[[[[[[1]]]]]]]],"#,
    r#""z":0"#,
    r#""payments":{"data":[{"payment":{"payment_intent":"p1"}}]},"#,
    r#""total_taxes":[{"amount":100}],"#,
    r#""account":"acct","#,
];

struct Bench {
    stripe: stripe::Webhook,
    paddle: paddle::Webhook,
    polar: polar::Webhook,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| Bench {
    stripe: stripe::Webhook::new(SECRET)
        .expect("a secret")
        .with_payment_intents(true),
    paddle: paddle::Webhook::new(SECRET).expect("a secret"),
    polar: polar::Webhook::new(SECRET).expect("a secret"),
});

fuzz_target!(|input: &[u8]| {
    let Some((&provider, bodies)) = input.split_first() else {
        return;
    };
    let mut books = MemoryBooks::new();
    if provider & 4 != 0 {
        books.set_credit("C", credit());
    }
    let (mut platform, mut events) = (Platform::default(), Vec::new());
    for body in bodies.split(|&byte| byte == 0xff) {
        let body = written(body);
        let read = match provider & 3 {
            0 | 1 => BENCH.stripe.parse(&body),
            2 => BENCH.paddle.parse(&body),
            _ => BENCH.polar.parse(&body),
        };
        let json = serde_json::from_slice::<Value>(&body);
        match read {
            Ok(event) => {
                let name = if provider & 3 == 2 {
                    "event_type"
                } else {
                    "type"
                };
                assert!(json.is_ok_and(|json| !json[name].is_null()), "{event:?}");
                sound(&event);
                events.push(event.open_referral(|_| Some(credit())));
            }
            Err(error) => assert_eq!(error, WebhookError::Unreadable),
        }
    }
    for event in &events {
        platform.hear(&booked(&mut books, event));
    }
    // All of it once more, and in the other order.
    for event in events.iter().chain(events.iter().rev()) {
        let again = booked(&mut books, event);
        assert_eq!(again.reports, [], "{event:?}");
    }
});

fn written(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in body {
        match WORDS.get(usize::from(byte)) {
            Some(word) => text.extend_from_slice(word.as_bytes()),
            None => text.push(byte),
        }
    }
    text
}

fn credit() -> Credit {
    Credit::new("P".parse().expect("a key"))
}

fn booked(books: &mut MemoryBooks, event: &Event) -> Booked {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(book(books, event)).poll(&mut context) {
        Poll::Ready(Ok(booked)) => booked,
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => panic!("books in memory never wait"),
    }
}

fn sound(event: &Event) {
    match event {
        Event::Payment(payment) => {
            assert_eq!(payment.gross.currency(), payment.net.currency());
            assert!(
                payment.gross.checked_sub(&payment.net).is_some(),
                "{event:?}"
            );
            assert!(!payment.net.is_zero() && !payment.order.is_empty());
        }
        Event::Ignored(reason) => assert!(!matches!(
            reason,
            Reason::AlreadyBooked | Reason::WaitsForSale | Reason::NoChange
        )),
        _ => {}
    }
}

/// A platform that adds up what it is told.
#[derive(Default)]
struct Platform {
    seen: BTreeSet<String>,
    /// What is left of each order.
    left: BTreeMap<String, (Money, Money)>,
}

impl Platform {
    fn hear(&mut self, booked: &Booked) {
        assert!(booked.reason.is_some() || !booked.reports.is_empty());
        for report in &booked.reports {
            let is_new = self.seen.insert(report.id());
            match report {
                Report::Sale(sale) => {
                    let order = sale.order().to_owned();
                    assert!(is_new || sale.credit().is_some(), "{report:?}");
                    let sold = (sale.amount(), sale.amount());
                    let (whole, _) = *self.left.entry(order).or_insert(sold);
                    assert_eq!(whole, sale.amount());
                }
                Report::Refund(refund) => {
                    assert!(is_new, "{report:?}");
                    let (whole, left) = self.left.get_mut(refund.order()).expect("a sale");
                    let amount = refund.amount().unwrap_or(*whole);
                    *left = left.checked_sub(&amount).expect("no more than is left");
                }
                Report::RefundReversal(back) => {
                    assert!(is_new, "{report:?}");
                    let (whole, left) = self.left.get_mut(back.order()).expect("a sale");
                    let amount = back.amount().expect("an amount");
                    let gone = whole.checked_sub(left).expect("the rest");
                    let gone = gone.checked_sub(&amount).expect("no more than went");
                    *left = whole.checked_sub(&gone).expect("the rest");
                    assert_eq!(back.left(), Some(*left), "{report:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
