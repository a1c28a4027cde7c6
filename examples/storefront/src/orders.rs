//! Orders: checkout, where the visitor's referral goes along with the payment; the payment's webhook,
//! which has no cookie and brings it back; and refunds.

use axum::Json;
use axum::response::{IntoResponse, Response};
use rust_decimal::Decimal;
use serde_json::json;
use tower_referral::Referral;
use tower_referral_outbox::Error;
use tower_referral_platforms::{self as platforms, Credit, Money, Report, Sale, SignUp};

use crate::answer::{Format, Problem, as_asked};
use crate::books::{Order, Refund};
use crate::database::Transaction;
use crate::fields::Fields;
use crate::pages;
use crate::platform::Platform;
use crate::reports::{self, Answer, Booked, Outcome};
use crate::shop::{Shop, Visitor, unavailable};

/// What checkout and webhook are told about a payment.
#[derive(Debug)]
pub(crate) struct Payment<'f> {
    pub(crate) customer: &'f str,
    pub(crate) order: &'f str,
    pub(crate) amount: Decimal,
    pub(crate) currency: String,
    pub(crate) coupon: Option<&'f str>,
}

impl<'f> Payment<'f> {
    fn read(fields: &'f Fields) -> Result<Self, Problem> {
        Ok(Self {
            customer: fields.text("customer", 128)?,
            order: fields.text("order", 128)?,
            amount: fields.amount("amount")?,
            currency: fields.currency("currency")?,
            coupon: fields.optional_text("coupon", 64)?,
        })
    }
}

/// `POST /checkout`: starts a payment. Here the visitor's cookie is at hand for the last time, so
/// the referral goes along with the payment, as a carry token. Nothing is stored under the order:
/// its ID proves nothing, and whoever knows it could claim somebody else's payment.
pub(crate) async fn checkout(
    referral: Option<Referral>,
    visitor: Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let payment = Payment::read(&fields)?;
    // Here a real shop opens a session with its payment provider, and puts `customer`, `order` and
    // the token (`referral`) into its metadata.
    let token = referral.and_then(|referral| visitor.shop.payments.seal(&referral));
    let token = token.as_deref();
    Ok(match fields.accept.or(Format::Json) {
        Format::Html => pages::payment(&visitor, &payment, token).into_response(),
        Format::Json => {
            let mut started = json!({ "order": payment.order });
            if let Some(token) = token {
                started["client_reference_id"] = token.into();
            }
            Json(started).into_response()
        }
    })
}

/// `POST /webhooks/payment`: the payment provider says that the money is there. Who is credited is in
/// the token that the payment was given at checkout, or in the customer's row.
///
/// A real shop verifies the provider's signature first: `payments.rs` does.
pub(crate) async fn payment_webhook(visitor: Visitor, fields: Fields) -> Result<Response, Problem> {
    let payment = Payment::read(&fields)?;
    let shop = &visitor.shop;
    let credit = match fields.raw("client_reference_id")? {
        Some(token) => shop.payments.open(token),
        None => Err("the payment carries no referral".to_owned()),
    };
    let amount = Money::new(payment.amount.to_string(), &payment.currency)
        .map_err(|error| fields.refuse(format!("`amount` is {error}")))?;
    // The IDs are checked before anything is written.
    let _ = Sale::new(payment.order, payment.customer, amount)
        .map_err(|error| fields.refuse(format!("`order` or `customer` is {error}")))?;

    let book = async {
        let mut transaction = shop.database.begin().await?;
        let by_token = credit.as_ref().ok();
        let order = pay(&mut transaction, &payment, amount, by_token).await?;
        let is_new = order.deliveries == 1;
        let Some(report) = sale(&order, shop.platform.as_ref()) else {
            return Ok(Answer::duplicate());
        };
        let booked = shop.report(&mut transaction, &report, is_new).await?;
        if is_new {
            report_waiting_refunds(shop, &mut transaction, &order).await?;
        }
        transaction.commit().await?;
        shop.database.wake().await?;
        let platform = shop.platform.as_ref();
        let credit = order.credit();
        reports::answer(&shop.database, platform, &report, credit.as_ref(), booked).await
    };
    let answer = book
        .await
        .map_err(|error| unavailable(fields.accept, &error));
    let mut answer = answer?;
    if let (Outcome::NotAttributed, Err(why)) = (answer.outcome, &credit) {
        answer.detail = format!("Nobody is credited with the sale: {why}.");
    }
    Ok(as_asked(&fields, &answer, || {
        pages::report(&visitor, "Payment", &answer)
    }))
}

/// Books a payment in the shop's own rows. The first delivery decides on customer and amount, and a
/// later one may bring the credit that the first lacked.
async fn pay(
    transaction: &mut Transaction,
    payment: &Payment<'_>,
    amount: Money,
    by_token: Option<&Credit>,
) -> Result<Order, Error> {
    let mut order = transaction
        .order(
            payment.order,
            payment.customer,
            &amount.to_string(),
            payment.coupon,
            by_token,
        )
        .await?;
    let customer = order.customer.clone();
    let customer = customer.as_deref().unwrap_or(payment.customer);
    let customer = transaction.pays(customer, order.credit().as_ref()).await?;
    if order.deliveries == 1 {
        order.is_guest = customer.sign_ups == 0;
    }
    let (is_guest, credit) = (order.is_guest, customer.credit());
    transaction
        .complete_order(&mut order, is_guest, credit.as_ref())
        .await?;
    Ok(order)
}

/// Returns the sale as it is reported; `None` if the row says too little.
fn sale(order: &Order, platform: Option<&Platform>) -> Option<Report> {
    let customer = order.customer.as_deref()?;
    let amount = order.amount()?;
    let sale = if order.is_guest {
        // Who never signed up is made a customer of the platform along with the sale.
        Sale::guest(&order.order_id, SignUp::new(customer).ok()?, amount)
    } else {
        Sale::new(&order.order_id, customer, amount)
    };
    let sale = sale.ok()?.with_credit(order.credit());
    let sale = Report::from(sale.with_coupon(order.coupon.as_deref()));
    Some(match platform {
        Some(platform) => platform.without_unwanted_coupon(sale),
        None => sale,
    })
}

/// `POST /refund`: `refund`, the provider's ID of it, tells two refunds of the same amount apart.
pub(crate) async fn refund(visitor: Visitor, fields: Fields) -> Result<Response, Problem> {
    let order_id = fields.text("order", 128)?;
    let amount = fields.optional_amount("amount")?;
    let id = fields.optional_text("refund", 128)?;
    let whole = platforms::Refund::whole(order_id)
        .map_err(|error| fields.refuse(format!("`order` is {error}")))?;
    if let Some(id) = id {
        let _ = whole
            .with_id(id)
            .map_err(|error| fields.refuse(format!("`refund` is {error}")))?;
    }
    let shop = &visitor.shop;
    let book = async {
        let mut transaction = shop.database.begin().await?;
        let booked = book_refund(shop, &mut transaction, order_id, amount, id).await?;
        transaction.commit().await?;
        shop.database.wake().await?;
        Ok::<_, Error>(match booked {
            RefundBooked::Reported {
                order,
                report,
                booked,
            } => {
                let (platform, credit) = (shop.platform.as_ref(), order.credit());
                let answer =
                    reports::answer(&shop.database, platform, &report, credit.as_ref(), booked);
                Ok(answer.await?)
            }
            RefundBooked::Waits => {
                let detail = "The sale isn't known yet. The refund waits for it.";
                Ok(Answer::new(Outcome::Queued, detail))
            }
            RefundBooked::NothingLeft => Ok(Answer::duplicate()),
            RefundBooked::TooMuch { left } => Err(left),
        })
    };
    let answer = book
        .await
        .map_err(|error| unavailable(fields.accept, &error))?;
    let answer = answer.map_err(|left| {
        fields.refuse(format!(
            "`amount` is more than what is left of the sale, {left}: refund at most that"
        ))
    })?;
    Ok(as_asked(&fields, &answer, || {
        pages::report(&visitor, "Refund", &answer)
    }))
}

/// What became of a refund in the shop's own rows.
enum RefundBooked {
    Reported {
        order: Box<Order>,
        report: Box<Report>,
        booked: Booked,
    },
    /// The sale isn't known yet.
    Waits,
    /// All of it went back before.
    NothingLeft,
    TooMuch {
        left: Decimal,
    },
}

/// Books a refund, of `amount` or of all that is left.
///
/// Two refunds of one order under the same ID, or without one of the same amount, are one refund
/// that was announced twice: rather that than taking a partner's commission back twice.
async fn book_refund(
    shop: &Shop,
    transaction: &mut Transaction,
    order_id: &str,
    amount: Option<Decimal>,
    id: Option<&str>,
) -> Result<RefundBooked, Error> {
    let order = transaction.lock_order(order_id).await?;
    let refunds = transaction.refunds_of(order_id).await?;
    let name = refund_name(amount, id);
    let known = refunds.iter().find(|refund| refund.refund == name);
    let Some(paid) = order.amount() else {
        if known.is_none() {
            transaction
                .note_refund(order_id, &name, id, amount, false)
                .await?;
        }
        return Ok(RefundBooked::Waits);
    };
    let others: Vec<Refund> = refunds
        .iter()
        .filter(|other| other.refund != name)
        .cloned()
        .collect();
    let left = left_of(paid, &others);
    let amount = match known {
        Some(known) => known.amount().unwrap_or(left),
        None => amount.unwrap_or(left),
    };
    let is_beyond = match known {
        Some(_) => amount.is_zero(),
        None => left.is_zero(),
    };
    if is_beyond {
        return Ok(RefundBooked::NothingLeft);
    }
    if known.is_none() && amount > left {
        return Ok(RefundBooked::TooMuch { left });
    }
    let is_new = known.is_none();
    if is_new {
        transaction
            .note_refund(order_id, &name, id, Some(amount), true)
            .await?;
    }
    let Some(report) = refund_report(&order, paid, amount, &others, id) else {
        return Ok(RefundBooked::NothingLeft);
    };
    let booked = shop.report(transaction, &report, is_new).await?;
    Ok(RefundBooked::Reported {
        order: Box::new(order),
        report: Box::new(report),
        booked,
    })
}

/// What tells a refund of an order from every other: its ID, or its amount.
fn refund_name(amount: Option<Decimal>, id: Option<&str>) -> String {
    match (id, amount) {
        (Some(id), _) => format!("id:{id}"),
        (None, Some(amount)) => format!("amount:{}", amount.normalize()),
        (None, None) => "rest".to_owned(),
    }
}

fn left_of(paid: Money, refunds: &[Refund]) -> Decimal {
    let paid: Decimal = paid.amount().parse().unwrap_or_default();
    let back: Decimal = refunds.iter().filter_map(Refund::amount).sum();
    (paid - back).max(Decimal::ZERO)
}

/// Returns the refund as it is reported, with what is needed where a platform takes back whole sales
/// only or lowers the sale's amount: what the order was worth, and what went back of it in all.
fn refund_report(
    order: &Order,
    paid: Money,
    amount: Decimal,
    others: &[Refund],
    id: Option<&str>,
) -> Option<Report> {
    let before: Decimal = others.iter().filter_map(Refund::amount).sum();
    let total = Money::new((before + amount).to_string(), paid.currency()).ok()?;
    let amount = Money::new(amount.to_string(), paid.currency()).ok()?;
    let refund = if amount == paid {
        platforms::Refund::whole(&order.order_id)
    } else {
        platforms::Refund::part(&order.order_id, amount)
    };
    let refund = refund
        .ok()?
        .with_sale_amount(paid)
        .with_total_refunded(total);
    let refund = match order.customer.as_deref() {
        Some(customer) => refund.with_customer(customer).ok()?,
        None => refund,
    };
    match id {
        Some(id) => refund.with_id(id).ok().map(Report::from),
        None => Some(refund.into()),
    }
}

/// Reports the refunds that came before their sale.
pub(crate) async fn report_waiting_refunds(
    shop: &Shop,
    transaction: &mut Transaction,
    order: &Order,
) -> Result<(), Error> {
    let refunds = transaction.refunds_of(&order.order_id).await?;
    let Some(paid) = order.amount() else {
        return Ok(());
    };
    let mut reported: Vec<Refund> = Vec::new();
    for refund in refunds {
        let left = left_of(paid, &reported);
        let amount = refund.amount().unwrap_or(left).min(left);
        let id = refund.refund_id.as_deref();
        let name = &refund.refund;
        transaction
            .note_refund(&order.order_id, name, id, Some(amount), true)
            .await?;
        if amount.is_zero() {
            let order = &order.order_id;
            tracing::warn!(order, "a refund that came before its sale is beyond it");
            continue;
        }
        if let Some(report) = refund_report(order, paid, amount, &reported, id) {
            shop.report(transaction, &report, true).await?;
        }
        reported.push(refund.with_amount(amount));
    }
    Ok(())
}
