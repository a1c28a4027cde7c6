//! Money goes back at Partnero, which takes back whole sales only: a whole refund, the part that
//! makes the whole, and, where it is switched on, a part by a smaller sale in the place of the first.

use serde_json::value::RawValue;

use super::wire::{self, Customer, MADE, TRANSACTIONS, Transaction, done, is_duplicate};
use super::{At, MAX_PAGES, Stage};
use crate::endpoint::{Endpoint, encoded};
use crate::{
    Answer, Error, ListedConversion, Money, PlatformId, PlatformIds, Receipt, Refund, Step,
    Unsupported,
};

/// Kept as the refund's ID before the sale is deleted, so that a later attempt which finds no sale knows
/// that it may have been deleted for this refund.
const DELETING: &str = "deleting";
/// Kept in its place once the sale is deleted and the smaller one isn't there yet, so that an attempt that
/// goes on after a crash knows it.
const DELETED: &str = "deleted";

/// Returns the first request of a refund. `replaces` says whether a part is done by a smaller sale.
pub(super) fn begin(
    endpoint: &Endpoint,
    refund: &Refund,
    replaces: bool,
    ids: &PlatformIds,
) -> Result<Step<Stage>, Error> {
    if refund.completes_whole() {
        let path = format!("/transactions/{}", encoded(refund.order()));
        return Ok(Step::send(endpoint.delete(&path), Stage(At::Refund)));
    }
    if !replaces {
        return Err(Error::Unsupported(Unsupported::PartialRefund));
    }
    replacement(refund)?;
    if is_marked(ids, DELETED) {
        return smaller_sale(endpoint, refund);
    }
    // Nobody else deletes a sale that was recorded, as far as anybody here knows.
    let was_there = ids.sale.is_some() && is_marked(ids, DELETING);
    Ok(delete(endpoint, refund, was_there))
}

/// Returns the step that deletes the sale, to be replaced by a smaller one. `was_there` says that it was
/// there before this refund, and that it isn't any more if the smaller one has yet to be made.
fn delete(endpoint: &Endpoint, refund: &Refund, was_there: bool) -> Step<Stage> {
    let path = format!("/transactions/{}", encoded(refund.order()));
    let stage = Stage(At::ReplacedSale { was_there });
    Step::send(endpoint.delete(&path), stage).with_ids(marked(DELETING))
}

/// What a smaller sale needs: its customer, and what is left of the order.
fn replacement(refund: &Refund) -> Result<(&str, Money), Error> {
    let missing = |field| Error::Unsupported(Unsupported::MissingField(field));
    let customer = refund.customer().ok_or_else(|| missing("customer"))?;
    if refund.sale_amount().is_none() {
        return Err(missing("sale_amount"));
    }
    let left = refund.left().ok_or_else(|| missing("total_refunded"))?;
    Ok((customer, left))
}

fn is_marked(ids: &PlatformIds, mark: &str) -> bool {
    ids.refund.as_ref().is_some_and(|id| *id == *mark)
}

fn marked(mark: &str) -> PlatformIds {
    PlatformIds {
        refund: PlatformId::new(mark),
        ..PlatformIds::default()
    }
}

fn smaller_sale(endpoint: &Endpoint, refund: &Refund) -> Result<Step<Stage>, Error> {
    let (customer, left) = replacement(refund)?;
    let body = Transaction {
        customer: Some(Customer::known(customer)),
        ..Transaction::new(refund.order(), &left)
    };
    let request = endpoint.post("/transactions", &body);
    Ok(Step::send(request, Stage(At::SmallerSale)).with_ids(marked(DELETED)))
}

/// Says what follows from the answer to one of a refund's requests.
pub(super) fn next(
    endpoint: &Endpoint,
    refund: &Refund,
    at: At,
    answer: &Answer,
) -> Result<Step<Stage>, Error> {
    // It was credited to nobody, or taken back before.
    let is_gone = answer.is_not_found();
    match at {
        At::ReplacedSale { was_there: true } if is_gone => smaller_sale(endpoint, refund),
        At::ReplacedSale { .. } if is_gone => Ok(Receipt::not_attributed().into()),
        At::ReplacedSale { .. } => {
            done(answer)?;
            smaller_sale(endpoint, refund)
        }
        At::SmallerSale if is_duplicate(answer) => Ok(Receipt::duplicate().into()),
        At::SmallerSale => {
            let mark = answer.shows(MADE)?;
            Ok(Receipt::recorded(mark).into())
        }
        At::RefundLookUp(page) => looked_up(endpoint, refund, page, answer),
        _ if is_gone => Ok(Receipt::not_attributed().into()),
        _ => {
            let mark = done(answer)?;
            Ok(Receipt::recorded(mark).into())
        }
    }
}

/// Returns the request that finds out whether the smaller sale is there.
pub(super) fn settle(endpoint: &Endpoint, refund: &Refund) -> Option<Step<Stage>> {
    if refund.completes_whole() {
        return None;
    }
    let (customer, _) = replacement(refund).ok()?;
    let request = endpoint.get_list(&transactions_of(customer), TRANSACTIONS);
    Some(Step::send(request, Stage(At::RefundLookUp(1))))
}

pub(super) fn transactions_of(customer: &str) -> String {
    format!("/customers/{}/transactions", encoded(customer))
}

/// Looks for the order's sale among the customer's transactions: the smaller one is there; or the
/// first one still is, and the refund begins; or neither, which is for a person to look at.
fn looked_up(
    endpoint: &Endpoint,
    refund: &Refund,
    page: u8,
    answer: &Answer,
) -> Result<Step<Stage>, Error> {
    let (_, left) = replacement(refund)?;
    if answer.is_not_found() {
        return Err(Error::NotListed);
    }
    answer.accepted()?;
    let list = answer.list(TRANSACTIONS);
    let list = list.ok_or_else(|| answer.unreadable())?;
    let amount_of = |raw: &&RawValue| {
        let listed = ListedConversion::read_if(raw, refund.order())?;
        let amount = listed.amount()?;
        Money::new(amount, left.currency()).ok()
    };
    let mut amounts: Vec<_> = list.iter().filter_map(amount_of).collect();
    match (amounts.pop(), amounts.is_empty()) {
        (Some(listed), true) if listed == left => Ok(Receipt::duplicate().into()),
        // A list may be older than what was deleted.
        (Some(listed), true) if listed > left => Ok(delete(endpoint, refund, true)),
        // Less than there should be, or twice.
        (Some(_), _) => Err(Error::NotListed),
        (None, _) => match wire::next_page(endpoint, answer, TRANSACTIONS)? {
            Some(request) if page < MAX_PAGES => {
                Ok(Step::send(request, Stage(At::RefundLookUp(page + 1))))
            }
            _ => Err(Error::NotListed),
        },
    }
}
