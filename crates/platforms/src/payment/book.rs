//! The two ways into the books: an event is booked, and a customer is erased.

use super::books::{Booked, Books};
use super::event::{Event, Link, MoneyBack, Payment, PaymentKind, PaymentLink};
use super::unit_of_work::UnitOfWork;

/// Books an event: stores what is new of it, and returns what platforms are to be told.
///
/// Events may come twice and in any order. In the end the same sales are reported with the same
/// credit, and the same amounts have gone back. Where two credits compete for one sale, the one that
/// is known when the sale is first credited stays.
///
/// - A payment of a subscription is credited to whom the customer is credited
///   ([`PaymentLink::of_customer`] or [`Books::credit`]), and otherwise to the referral that came with
///   the subscription. A one-time payment goes to the referral that came with it, and otherwise to
///   whom the customer is credited.
/// - A sale without credit is reported, and once more when the credit becomes known.
/// - A payment of a subscription of which nobody said whose it is waits for an event that does. A
///   one-time payment without a customer is a guest's.
/// - Each invoice is a sale of its own. Where one payment intent paid several, what goes back of it is
///   [for a person](super::Reason::SharedPayment).
/// - A refund or a dispute waits for its sale. What goes back is the same share of the net as of the
///   gross, and all that is left once all of the gross has gone back.
///
/// # Errors
///
/// The books failed. Roll back, and answer with a 5xx status: the provider sends the event again.
pub async fn book<B: Books + ?Sized>(books: &mut B, event: &Event) -> Result<Booked, B::Error> {
    match event {
        Event::Ignored(reason) => Ok(Booked::nothing(*reason)),
        Event::Payment(payment) => book_payment(books, payment).await,
        Event::PaymentLink(link) => book_link(books, link).await,
        Event::Refunded(back)
        | Event::RefundFailed(back)
        | Event::Disputed(back)
        | Event::DisputeWon(back)
        | Event::DisputeLost(back) => book_money_back(books, event, back).await,
    }
}

async fn book_payment<B: Books + ?Sized>(
    books: &mut B,
    payment: &Payment,
) -> Result<Booked, B::Error> {
    let mut work = UnitOfWork::new(books);
    work.find(&payment.links, payment_links(payment)).await?;
    // Not by the payer: an erased customer may buy again.
    let is_same = work.is_erased(payment.links.iter().chain(&payment.subscription));
    let is_erased = is_same || work.is_order_erased(payment);
    if is_same {
        work.erase_accounts([&payment.subscription, &payment.payer]);
    } else if !is_erased {
        work.teach_by_payment(payment);
    }
    let name = payment.links.first().filter(|_| !payment.is_weak);
    let records = work.records_of(&payment.links, name).await?;
    // Known already, as a part of several.
    let is_known = records.ids.is_empty() && work.has_payment(payment.links.first());
    if records.is_shared && (payment.is_weak || is_known) {
        return work.finish(None, records.reason()).await;
    }
    let is_second = work.is_order_taken(payment, &records);
    let mut open = work.open(&payment.links, &records, is_erased);
    let reason = open.facts.add_sale(payment, is_second);
    let reason = reason.or_else(|| records.reason());
    if let Some(sale) = open.facts.sale.as_ref().filter(|sale| !sale.is_second) {
        open.links.insert(Link::order(&sale.order));
    }
    work.finish(Some(open), reason).await
}

async fn book_link<B: Books + ?Sized>(
    books: &mut B,
    link: &PaymentLink,
) -> Result<Booked, B::Error> {
    let mut work = UnitOfWork::new(books);
    work.find(&link.links, account_links(link)).await?;
    let subject = link.subscription.as_ref().or(link.payer.as_ref());
    let is_erased = work.is_erased(link.links.iter().chain(subject));
    if is_erased {
        work.erase_accounts([&link.subscription, &link.payer]);
    } else {
        work.teach_by_link(link);
    }
    let records = work.records_of(&link.links, None).await?;
    let has_payment = !link.links.is_empty();
    let open = has_payment.then(|| work.open(&link.links, &records, is_erased));
    work.finish(open, records.reason()).await
}

async fn book_money_back<B: Books + ?Sized>(
    books: &mut B,
    event: &Event,
    back: &MoneyBack,
) -> Result<Booked, B::Error> {
    let mut work = UnitOfWork::new(books);
    work.find(&back.links, Vec::new()).await?;
    let is_erased = work.is_erased(&back.links);
    let records = work.records_of(&back.links, None).await?;
    if records.is_shared && !back.links.iter().any(Link::is_invoice) {
        // Nor is it kept: what joins one of the sales later isn't to bring it along.
        return work.finish(None, records.reason()).await;
    }
    let mut open = work.open(&back.links, &records, is_erased);
    open.facts.add_back(event, back);
    work.finish(Some(open), records.reason()).await
}

/// Erases a customer of the shop: removes customer and referral from every record that has them. What
/// is left of a payment finds the order of a later refund.
///
/// What stays is a mark on each order, payment and subscription, and on the customer at the provider,
/// under its ID there. An event about a marked order, payment or subscription teaches nothing any
/// more, however often and late it comes, and a renewal is [not reported](super::Reason::Erased). No event
/// tells again whom the shop knows by a marked customer at the provider.
///
/// Whoever signs up or buys again after that, with a new order or a new subscription, is new, also
/// under the same ID; a payment is credited if it names the customer, or if there is a new customer at
/// the provider. So end what the customer still pays for first, and erase the customer once more if
/// the first event of an earlier purchase may have come after.
///
/// A payment that said nothing of its customer was reported as a guest's, under the provider's ID of the
/// customer (`cus_…`), or under the order's ID where there is none. Neither need be the customer's alone
/// among the shop's own IDs, so erase the customer by these, too.
///
/// # Errors
///
/// The books failed: roll back.
pub async fn erase<B: Books + ?Sized>(books: &mut B, customer: &str) -> Result<(), B::Error> {
    UnitOfWork::new(books).erase(customer).await
}

fn payment_links(payment: &Payment) -> Vec<Link> {
    let mut links = vec![Link::order(&payment.order)];
    links.extend(payment.subscription.clone());
    links.extend(payment.payer.clone());
    let payer = payment.payer.as_ref().and_then(Link::id);
    links.extend(payment.customer.as_deref().or(payer).map(Link::customer));
    // A renewal tells nothing that the first payment didn't, and there may be years of them.
    if payment.kind == PaymentKind::First || payment.credit.is_some() {
        links.extend(payment.subscription.as_ref().map(Link::waiting));
        links.extend(payment.payer.as_ref().map(Link::waiting));
    }
    links
}

fn account_links(link: &PaymentLink) -> Vec<Link> {
    let customer = link.customer.as_deref().map(Link::customer);
    let accounts = [link.subscription.clone(), link.payer.clone(), customer];
    let accounts: Vec<Link> = accounts.into_iter().flatten().collect();
    let waiting: Vec<Link> = accounts.iter().map(Link::waiting).collect();
    [accounts, waiting].concat()
}
