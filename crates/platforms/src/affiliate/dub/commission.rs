//! What is changed about a sale at Dub after it was recorded: its commission is found by the order,
//! and marked as refunded or given another amount.

use bytes::Bytes;
use http::Request;
use serde::Serialize;

use super::minor;
use crate::endpoint::{Endpoint, encoded};
use crate::json::{self, list_in, pick};
use crate::{
    Answer, Error, Money, PlatformId, PlatformIds, Receipt, Refund, Report, Step, Unsupported,
};

/// A commission as Dub lists it.
struct Commission {
    id: PlatformId,
    status: Option<String>,
    /// In the units of [`minor`].
    amount: Option<i64>,
    currency: Option<String>,
}

#[derive(Serialize)]
struct ChangeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(rename = "saleAmount", skip_serializing_if = "Option::is_none")]
    sale_amount: Option<u64>,
    /// Dub's own default is `usd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
}

const REFUNDED: ChangeBody<'_> = ChangeBody {
    status: Some("refunded"),
    sale_amount: None,
    currency: None,
};

/// Returns the request for the commissions of an order.
pub(super) fn look_up(endpoint: &Endpoint, order: &str) -> Request<Bytes> {
    endpoint.get(&format!("/commissions?invoiceId={}", encoded(order)))
}

/// Returns what follows from the list: the request that changes the order's commission, or the
/// outcome if there is none to change.
pub(super) fn change<S>(
    endpoint: &Endpoint,
    report: &Report,
    answer: &Answer,
    changed: S,
) -> Result<Step<S>, Error> {
    answer.accepted()?;
    let list = list_in(answer.body(), ["commissions", "data"]);
    let list = list.ok_or_else(|| answer.unreadable())?;
    let order = report.order().unwrap_or_default();
    let mut commissions = list.iter().filter_map(|raw| read(order, raw.get()));
    // It was credited to nobody.
    let Some(commission) = commissions.next() else {
        return Ok(Receipt::not_attributed().into());
    };
    let ids = PlatformIds {
        sale: Some(commission.id.clone()),
        ..PlatformIds::default()
    };
    let status = commission.status.as_deref();
    if status == Some("refunded") && matches!(report, Report::Refund(_)) {
        return Ok(Receipt::duplicate().with_ids(ids).into());
    }
    if status == Some("paid") {
        return Err(Error::Unsupported(Unsupported::PaidOut));
    }
    let left = match report {
        Report::Refund(refund) => left(refund, &commission, answer)?,
        Report::SaleUpdate(update) => update.amount(),
        _ => return Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
    };
    let path = format!("/commissions/{}", encoded(commission.id.as_str()));
    let request = match left.filter(|left| !left.is_zero()) {
        Some(left) => {
            let currency = left.currency().to_ascii_lowercase();
            let body = ChangeBody {
                status: None,
                sale_amount: Some(minor::units(&left)?),
                currency: (currency != "usd").then_some(&*currency),
            };
            endpoint.patch(&path, &body)
        }
        None => endpoint.patch(&path, &REFUNDED),
    };
    Ok(Step::send(request, changed).with_ids(ids))
}

/// Returns what is left of the sale; `None` if nothing.
fn left(refund: &Refund, listed: &Commission, answer: &Answer) -> Result<Option<Money>, Error> {
    let Some(amount) = refund.amount() else {
        return Ok(None);
    };
    // What the shop knows is in the currency of the sale, and the same the second time.
    if let Some(left) = refund.left() {
        return Ok(Some(left));
    }
    let is_other = |currency: &String| !currency.eq_ignore_ascii_case(amount.currency());
    if listed.currency.as_ref().is_some_and(is_other) {
        return Err(Error::Unsupported(Unsupported::RefundInOtherCurrency));
    }
    let unreadable = || answer.unreadable();
    let sale = listed.amount.ok_or_else(unreadable)?;
    let sale = minor::money(sale, amount.currency()).map_err(|_| unreadable())?;
    let over = Error::Unsupported(Unsupported::RefundOverSale);
    sale.checked_sub(&amount).ok_or(over).map(Some)
}

/// Reads a commission of this order. Dub was asked for no other, and may leave the order out.
fn read(order: &str, listed: &str) -> Option<Commission> {
    let names = [
        "id",
        "invoiceId",
        "type",
        "status",
        "amount",
        "saleAmount",
        "currency",
    ];
    let [id, invoice, kind, status, amount, sale_amount, currency] =
        pick(listed.as_bytes(), names)?;
    let text = |raw| json::text(raw).map(std::borrow::Cow::into_owned);
    if invoice.is_some_and(|invoice| json::text(invoice).as_deref() != Some(order))
        || kind.is_some_and(|kind| json::text(kind).as_deref() != Some("sale"))
    {
        return None;
    }
    let amount = [amount, sale_amount].into_iter().flatten().next();
    Some(Commission {
        id: json::id(id?)?,
        status: status.and_then(text),
        amount: amount.and_then(|amount| json::digits(amount)?.parse().ok()),
        currency: currency.and_then(text),
    })
}
