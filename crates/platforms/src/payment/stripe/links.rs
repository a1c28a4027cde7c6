//! The links by which Stripe's objects are known.

use crate::payment::event::Link;

const STRIPE: &str = "stripe";

pub(super) fn session(id: &str) -> Link {
    Link::new(STRIPE, "session", id)
}

pub(super) fn invoice(id: &str) -> Link {
    Link::new(STRIPE, "invoice", id)
}

pub(super) fn payment_intent(id: &str) -> Link {
    Link::new(STRIPE, "payment_intent", id)
}

pub(super) fn charge_link(id: &str) -> Link {
    Link::new(STRIPE, "charge", id)
}

pub(super) fn subscription(id: &str) -> Link {
    Link::new(STRIPE, "subscription", id)
}

pub(super) fn customer(id: &str) -> Link {
    Link::new(STRIPE, "customer", id)
}
