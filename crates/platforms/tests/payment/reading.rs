//! Lenient reading: fields of other types than documented, too many and too long ones.

use serde_json::{Value, json};
use tower_referral_platforms::payment::{Event, Fields, Reason};

use crate::stripe_events::{Shape, session};
use crate::support::{paddle, polar, stripe, stripe_event};

fn completed(object: Value) -> Value {
    Shape::New.event("checkout.session.completed", object)
}

#[test]
fn no_value_of_any_field_is_an_error() {
    let values = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("text"),
        json!([]),
        json!([[1], { "id": 2 }]),
        json!({}),
        json!({ "id": { "id": "x" }, "data": 3, "amount": "1" }),
    ];
    let mut invoice = Shape::New.invoice("in_1", 11_900, 10_000);
    invoice["subscription_details"] = json!({});
    let names: Vec<String> = invoice
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    for name in &names {
        for value in &values {
            let mut object = invoice.clone();
            object[name] = value.clone();
            for kind in [
                "invoice.paid",
                "refund.created",
                "charge.refunded",
                "charge.dispute.closed",
                "invoice_payment.paid",
                "checkout.session.completed",
            ] {
                let json = Shape::New.event(kind, object.clone());
                let event = stripe().parse(json.to_string().as_bytes());
                assert!(event.is_ok(), "{kind} {name} {value}: {event:?}");
            }
        }
    }
    for value in values {
        for object in [
            json!({ "type": "order.paid", "event_type": "transaction.completed", "data": value }),
            json!({ "type": "refund.created", "event_type": "adjustment.created", "data": { "id": value, "status": value, "totals": value, "details": value, "customer": value } }),
            json!({ "type": "invoice.paid", "event_type": "adjustment.updated", "livemode": value, "created": value, "account": Value::Null, "occurred_at": value, "timestamp": value, "data": {} }),
        ] {
            let body = object.to_string();
            assert!(stripe().parse(body.as_bytes()).is_ok(), "{body}");
            assert!(paddle().parse(body.as_bytes()).is_ok(), "{body}");
            assert!(polar().parse(body.as_bytes()).is_ok(), "{body}");
        }
    }
}

#[test]
fn unknown_types_and_thin_events_pass() {
    for name in ["customer.created", "invoice.upcoming", "v2.core.event", ""] {
        let json = json!({ "id": "evt_1", "object": "v2.core.event", "type": format!("{name}x"), "livemode": true });
        assert_eq!(stripe_event(&json), Event::Ignored(Reason::OtherType));
    }
}

#[test]
fn ids_that_cannot_be_ones_are_named() {
    for id in [" O1", "..", "a\u{0}b", &"x".repeat(129), &"x".repeat(4000)] {
        for name in ["order", "customer"] {
            let mut object = session("cs_1", 11_900, 1_900);
            object["metadata"][name] = id.into();
            assert_eq!(
                stripe_event(&completed(object)),
                Event::Ignored(Reason::InvalidId)
            );
        }
    }
    // A number is taken as its digits; emptiness counts as absent, and so does what can be no token.
    let mut object = session("cs_1", 11_900, 1_900);
    object["metadata"] = json!({ "order": 17, "customer": "", "referral": "a\u{0}b" });
    object["client_reference_id"] = Value::Null;
    match stripe_event(&completed(object)) {
        Event::Payment(payment) => {
            assert_eq!((&*payment.order, &payment.customer), ("17", &None));
            assert_eq!(payment.credit(), None);
        }
        event => panic!("{event:?}"),
    }
}

#[test]
fn a_shop_may_have_names_of_its_own() {
    let fields = Fields::default()
        .with_customer("userId")
        .with_order("orderId")
        .with_referral("ref")
        .with_coupon("code");
    let mut object = session("cs_1", 11_900, 1_900);
    object["client_reference_id"] = Value::Null;
    object["metadata"] = json!({ "userId": "U1", "orderId": "O9", "ref": "token-P1", "code": "SUMMER", "customer": "no" });
    let body = completed(object).to_string();
    match stripe().with_fields(fields).parse(body.as_bytes()) {
        Ok(Event::Payment(payment)) => {
            assert_eq!(payment.order, "O9");
            assert_eq!(payment.customer.as_deref(), Some("U1"));
            assert_eq!(payment.referral_token.as_deref(), Some("token-P1"));
            assert_eq!(payment.coupon.as_deref(), Some("SUMMER"));
        }
        event => panic!("{event:?}"),
    }
}

#[test]
fn states_that_are_documented_nowhere_are_shown_to_a_person() {
    let refund = Shape::New.refund("re_1", "in_1", 100, "teleported");
    let event = stripe_event(&Shape::New.event("refund.created", refund));
    assert_eq!(event, Event::Ignored(Reason::UnknownState));
    assert!(Reason::UnknownState.needs_attention());
    assert!(!Reason::OtherType.needs_attention());
    let action = Shape::New.refund("re_1", "in_1", 100, "requires_action");
    let event = stripe_event(&Shape::New.event("refund.created", action));
    assert_eq!(event, Event::Ignored(Reason::NotApproved));
}
