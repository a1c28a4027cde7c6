//! Stripe's events as Stripe sends them, in the shapes before (`Old`) and since (`New`) `basil`.

use serde_json::{Value, json};

use crate::common::NOW;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    Old,
    New,
}

pub(crate) const SHAPES: [Shape; 2] = [Shape::Old, Shape::New];

impl Shape {
    fn version(self) -> &'static str {
        match self {
            Self::Old => "2022-11-15",
            Self::New => "2025-03-31.basil",
        }
    }

    pub(crate) fn event(self, name: &str, object: Value) -> Value {
        self.event_at(name, NOW, object)
    }

    pub(crate) fn event_at(self, name: &str, at: i64, object: Value) -> Value {
        json!({
            "id": format!("evt_{}_{}", object["id"].as_str().unwrap_or_default(), name),
            "object": "event",
            "api_version": self.version(),
            "created": at,
            "data": { "object": object },
            "livemode": true,
            "pending_webhooks": 1,
            "request": { "id": null, "idempotency_key": null },
            "type": name,
        })
    }

    /// A payment of a subscription.
    pub(crate) fn invoice(self, id: &str, gross: i64, net: i64) -> Value {
        let mut invoice = json!({
            "id": id,
            "object": "invoice",
            "amount_due": gross,
            "amount_paid": gross,
            "amount_remaining": 0,
            "billing_reason": "subscription_cycle",
            "created": NOW - 100,
            "currency": "eur",
            "customer": "cus_1",
            "customer_email": "ann@example.com",
            "lines": { "object": "list", "data": [{
                "id": "il_1", "object": "line_item", "amount": net, "currency": "eur",
                "metadata": { "customer": "C1" },
            }], "has_more": false },
            "livemode": true,
            "metadata": {},
            "status": "paid",
            "status_transitions": { "finalized_at": NOW - 60, "paid_at": NOW - 50 },
            "subtotal": net,
            "subtotal_excluding_tax": net,
            "total": gross,
            "total_excluding_tax": net,
        });
        let details = json!({ "metadata": { "customer": "C1" } });
        match self {
            Self::Old => {
                invoice["subscription"] = "sub_1".into();
                invoice["subscription_details"] = details;
                invoice["payment_intent"] = intent_of(id).into();
                invoice["charge"] = charge_of(id).into();
                invoice["paid"] = true.into();
                invoice["tax"] = (gross - net).into();
                invoice["total_tax_amounts"] =
                    json!([{ "amount": gross - net, "inclusive": false }]);
                invoice["lines"]["data"][0]["subscription"] = "sub_1".into();
                invoice["lines"]["data"][0]["type"] = "subscription".into();
            }
            Self::New => {
                let mut details = details;
                details["subscription"] = "sub_1".into();
                invoice["parent"] = json!({
                    "quote_details": null,
                    "subscription_details": details,
                    "type": "subscription_details",
                });
                invoice["total_taxes"] =
                    json!([{ "amount": gross - net, "tax_behavior": "exclusive" }]);
                invoice["lines"]["data"][0]["parent"] = json!({
                    "subscription_item_details": { "subscription": "sub_1" },
                    "type": "subscription_item_details",
                });
            }
        }
        invoice
    }

    /// An invoice without a subscription, as `invoice_creation` makes it.
    pub(crate) fn manual_invoice(self, id: &str, gross: i64, net: i64, metadata: Value) -> Value {
        let mut invoice = self.invoice(id, gross, net);
        invoice["billing_reason"] = "manual".into();
        invoice["metadata"] = metadata;
        invoice["lines"]["data"][0]["metadata"] = json!({});
        match self {
            Self::Old => {
                invoice["subscription"] = Value::Null;
                invoice["subscription_details"] = Value::Null;
                invoice["lines"]["data"][0]["subscription"] = Value::Null;
            }
            Self::New => {
                invoice["parent"] = Value::Null;
                invoice["lines"]["data"][0]["parent"] = Value::Null;
            }
        }
        invoice
    }

    /// Which payment intent paid an invoice: sent since `basil` only.
    pub(crate) fn invoice_payment(self, invoice: &str) -> Option<Value> {
        let object = json!({
            "id": format!("inpay_{invoice}"),
            "object": "invoice_payment",
            "amount_paid": 11900,
            "invoice": invoice,
            "is_default": true,
            "payment": { "payment_intent": intent_of(invoice), "type": "payment_intent" },
            "status": "paid",
        });
        (self == Self::New).then(|| self.event("invoice_payment.paid", object))
    }

    pub(crate) fn refund(self, id: &str, of: &str, amount: i64, status: &str) -> Value {
        json!({
            "id": id,
            "object": "refund",
            "amount": amount,
            "charge": charge_of(of),
            "created": NOW - 10,
            "currency": "eur",
            "payment_intent": intent_of(of),
            "reason": "requested_by_customer",
            "status": status,
        })
    }

    pub(crate) fn charge(self, of: &str, gross: i64, refunded: i64) -> Value {
        let mut charge = json!({
            "id": charge_of(of),
            "object": "charge",
            "amount": gross,
            "amount_captured": gross,
            "amount_refunded": refunded,
            "currency": "eur",
            "payment_intent": intent_of(of),
            "refunded": gross == refunded,
            "status": "succeeded",
        });
        if self == Self::Old {
            charge["invoice"] = of.into();
            charge["refunds"] = json!({ "object": "list", "data": [] });
        }
        charge
    }

    pub(crate) fn dispute(self, id: &str, of: &str, amount: i64, status: &str) -> Value {
        json!({
            "id": id,
            "object": "dispute",
            "amount": amount,
            "charge": charge_of(of),
            "currency": "eur",
            "payment_intent": intent_of(of),
            "reason": "fraudulent",
            "status": status,
        })
    }
}

/// A one-time payment by Checkout.
pub(crate) fn session(id: &str, gross: i64, tax: i64) -> Value {
    json!({
        "id": id,
        "object": "checkout.session",
        "amount_subtotal": gross - tax,
        "amount_total": gross,
        "client_reference_id": "token-P1",
        "currency": "eur",
        "customer": null,
        "customer_details": { "email": "ann@example.com" },
        "invoice": null,
        "livemode": true,
        "metadata": { "customer": "C1", "order": "O1" },
        "mode": "payment",
        "payment_intent": intent_of(id),
        "payment_status": "paid",
        "status": "complete",
        "subscription": null,
        "total_details": { "amount_discount": 0, "amount_shipping": 0, "amount_tax": tax },
    })
}

/// The Checkout of a subscription.
pub(crate) fn subscription_session(id: &str, invoice: &str) -> Value {
    let mut session = session(id, 11_900, 1_900);
    session["metadata"] = json!({ "customer": "C1" });
    session["mode"] = "subscription".into();
    session["subscription"] = "sub_1".into();
    session["customer"] = "cus_1".into();
    session["invoice"] = invoice.into();
    session["payment_intent"] = Value::Null;
    session
}

pub(crate) fn intent_of(id: &str) -> String {
    format!("pi_{id}")
}

pub(crate) fn charge_of(id: &str) -> String {
    format!("ch_{id}")
}
