//! The step from an event to reports: finds what is stored, lets the pure functions decide, and stores
//! what is new.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

use time::OffsetDateTime;

use super::event::{Event, Link, Payment, PaymentKind, PaymentLink, shown};
use super::reason::Reason;
use super::record::{AccountFacts, Facts, PaymentFacts, Record, SaleFacts};
use super::settle::Who;
use crate::{Credit, Report};

/// What an application stores of payments, in the transaction in which it enqueues the reports.
///
/// An implementation is a table of records, each under its [`id`](Record::id), and an index of their
/// [`links`](Record::links). Two transactions whose [`find`](Self::find) has a link in common must run
/// one after the other, also where nothing is stored under that link yet: with PostgreSQL lock every
/// link (`pg_advisory_xact_lock`) in a statement, or in a `VOLATILE` function, *before* the one that
/// reads; with SQLite begin the transaction with `BEGIN IMMEDIATE`. Without that an invoice and the
/// event that says whose it is can miss each other. Two events may have no link in common and one record
/// all the same, so lock the records that are found, too (`FOR UPDATE`), and read again until the same
/// ones are found: after the wait another record may have their links. Links come sorted; where two
/// transactions lock each other out after all, one fails, and the provider sends its event again.
///
/// Booking a payment takes one `find` and one `save`, and one `credit` where no record has it. Only an
/// event that brings what earlier payments may have been waiting for takes a second `find`.
///
/// `Outbox::book` of `tower-referral-outbox` has an implementation on PostgreSQL and SQLite;
/// [`MemoryBooks`](super::MemoryBooks) is one for tests.
pub trait Books {
    /// Why records could neither be read nor written.
    type Error;

    /// Returns every record that has one of these links.
    fn find(
        &mut self,
        links: &[Link],
    ) -> impl Future<Output = Result<Vec<Record>, Self::Error>> + Send;

    /// Returns every record that has this one among its [`customers`](Record::customers), as it is now:
    /// for [`erase`].
    fn of_customer(
        &mut self,
        customer: &str,
    ) -> impl Future<Output = Result<Vec<Record>, Self::Error>> + Send;

    /// Stores and removes records.
    fn save(&mut self, changes: &Changes) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns the credit in the application's own row of this customer. It counts for every payment that
    /// has none yet, however old. By default there is none: the credit is what
    /// [`PaymentLink::of_customer`] booked at sign-up.
    fn credit(
        &mut self,
        customer: &str,
    ) -> impl Future<Output = Result<Option<Credit>, Self::Error>> + Send {
        let _ = customer;
        async { Ok(None) }
    }
}

/// What is to be stored. `Debug` shows neither referral nor customer.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Changes {
    /// Records to insert, or to put in the place of those with the same ID, links included.
    pub saved: Vec<Record>,
    /// The IDs of records to remove: another one has all that they had, or their customer was erased.
    pub removed: Vec<String>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed: Vec<&str> = self.removed.iter().map(|id| shown(id)).collect();
        f.debug_struct("Changes")
            .field("saved", &self.saved)
            .field("removed", &removed)
            .finish()
    }
}

/// What an event led to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use = "the reports are to be enqueued in the transaction in which the event was booked"]
pub struct Booked {
    /// What platforms are to be told, in this order.
    pub reports: Vec<Report>,
    /// Why there is nothing to report, or why something is still missing.
    pub reason: Option<Reason>,
}

impl Booked {
    fn nothing(reason: Reason) -> Self {
        Self {
            reports: Vec::new(),
            reason: Some(reason),
        }
    }
}

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
///   [for a person](Reason::SharedPayment).
/// - A refund or a dispute waits for its sale. What goes back is the same share of the net as of the
///   gross, and all that is left once all of the gross has gone back.
///
/// # Errors
///
/// The books failed. Roll back, and answer with a 5xx status: the provider sends the event again.
pub async fn book<B: Books + ?Sized>(books: &mut B, event: &Event) -> Result<Booked, B::Error> {
    match event {
        Event::Ignored(reason) => Ok(Booked::nothing(*reason)),
        Event::Payment(payment) => {
            let mut work = Work::new(books);
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
            let own = work.own(&payment.links, name);
            // Known already, as a part of several.
            let is_known = own.ids.is_empty() && work.has_payment(payment.links.first());
            if own.is_shared && (payment.is_weak || is_known) {
                return work.finish(None, own.reason()).await;
            }
            let is_second = work.is_order_taken(payment, &own);
            let mut mine = work.payment(&payment.links, &own, is_erased);
            let reason = mine.facts.add_sale(payment, is_second);
            let reason = reason.or_else(|| own.reason());
            if let Some(sale) = mine.facts.sale.as_ref().filter(|sale| !sale.is_second) {
                mine.links.insert(Link::order(&sale.order));
            }
            work.finish(Some(mine), reason).await
        }
        Event::PaymentLink(link) => {
            let mut work = Work::new(books);
            work.find(&link.links, account_links(link)).await?;
            let subject = link.subscription.as_ref().or(link.payer.as_ref());
            let is_erased = work.is_erased(link.links.iter().chain(subject));
            if is_erased {
                work.erase_accounts([&link.subscription, &link.payer]);
            } else {
                work.teach_by_link(link);
            }
            let own = work.own(&link.links, None);
            let has_payment = !link.links.is_empty();
            let mine = has_payment.then(|| work.payment(&link.links, &own, is_erased));
            work.finish(mine, own.reason()).await
        }
        Event::Refunded(back)
        | Event::RefundFailed(back)
        | Event::Disputed(back)
        | Event::DisputeWon(back)
        | Event::DisputeLost(back) => {
            let mut work = Work::new(books);
            work.find(&back.links, Vec::new()).await?;
            let is_erased = work.is_erased(&back.links);
            let own = work.own(&back.links, None);
            if own.is_shared && !back.links.iter().any(Link::is_invoice) {
                // Nor is it kept: what joins one of the sales later isn't to bring it along.
                return work.finish(None, own.reason()).await;
            }
            let mut mine = work.payment(&back.links, &own, is_erased);
            mine.facts.add_back(event, back);
            work.finish(Some(mine), own.reason()).await
        }
    }
}

/// Erases a customer of the shop: removes customer and referral from every record that has them. What
/// is left of a payment finds the order of a later refund.
///
/// What stays is a mark on each order, payment and subscription, and on the customer at the provider,
/// under its ID there. An event about a marked order, payment or subscription teaches nothing any
/// more, however often and late it comes, and a renewal is [not reported](Reason::Erased). No event
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
    let mut work = Work::new(books);
    // To find is to lock: what is read after that, nobody changes meanwhile.
    let records = loop {
        let records = work.books.of_customer(customer).await?;
        let mut links = vec![Link::customer(customer)];
        for record in &records {
            links.extend(record.links().chain(record.accounts()).cloned());
        }
        if links.iter().all(|link| work.asked.contains(link)) {
            break records;
        }
        work.find(&[], links).await?;
    };
    for record in records {
        let names: Vec<&str> = record.customers().collect();
        record
            .accounts()
            .for_each(|link| work.erase_account(link, &names));
        if let Some(mut mine) = Mine::of(&record) {
            mine.facts.erase();
            work.keep_payment(mine, None);
        } else if record.links().all(Link::is_customer) {
            work.changes.removed.push(record.id);
        }
    }
    work.save().await.map(|_| ())
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

/// The records of one payment, among those that have a link of it.
#[derive(Default)]
struct Own {
    ids: BTreeSet<String>,
    /// Others have such a link, too, that are of another invoice.
    is_shared: bool,
}

impl Own {
    fn reason(&self) -> Option<Reason> {
        self.is_shared.then_some(Reason::SharedPayment)
    }
}

/// A payment in hand.
struct Mine {
    id: Option<String>,
    links: BTreeSet<Link>,
    facts: PaymentFacts,
}

/// One event on its way into the books.
struct Work<'b, B: ?Sized> {
    books: &'b mut B,
    /// All that was asked for.
    asked: BTreeSet<Link>,
    /// Everything that was found, as it is stored, by ID.
    found: BTreeMap<String, Record>,
    accounts: BTreeMap<Link, AccountFacts>,
    /// Accounts of which more is known than before.
    taught: BTreeSet<Link>,
    /// Accounts of which nothing is to be known any more.
    erased: BTreeSet<Link>,
    changes: Changes,
    reports: Vec<Report>,
}

impl<'b, B: Books + ?Sized> Work<'b, B> {
    fn new(books: &'b mut B) -> Self {
        Self {
            books,
            asked: BTreeSet::new(),
            found: BTreeMap::new(),
            accounts: BTreeMap::new(),
            taught: BTreeSet::new(),
            erased: BTreeSet::new(),
            changes: Changes::default(),
            reports: Vec::new(),
        }
    }

    async fn find(&mut self, own: &[Link], more: Vec<Link>) -> Result<(), B::Error> {
        let links: BTreeSet<Link> = own.iter().cloned().chain(more).collect();
        let links: Vec<Link> = links.difference(&self.asked).cloned().collect();
        if links.is_empty() {
            return Ok(());
        }
        for record in self.books.find(&links).await? {
            if let Facts::Account(account) = &record.facts
                && let Some(link) = record.links.first()
            {
                let known = self.accounts.entry(link.clone());
                known.or_insert_with(|| account.clone());
            }
            self.found.entry(record.id.clone()).or_insert(record);
        }
        self.asked.extend(links);
        Ok(())
    }

    fn teach(
        &mut self,
        link: Link,
        customer: Option<&str>,
        credit: Option<&Credit>,
        since: Option<OffsetDateTime>,
    ) {
        let account = self.accounts.entry(link.clone()).or_default();
        if account.is_erased {
            return;
        }
        let mut is_new = false;
        if let Some(customer) = customer
            && account.customer.is_none()
        {
            account.customer = Some(customer.to_owned());
            is_new = true;
        }
        if let Some(credit) = credit
            && account.credit.is_none()
        {
            account.credit = Some(credit.clone());
            account.credit_since = since;
            is_new = true;
        }
        if is_new {
            self.taught.insert(link);
        }
    }

    /// Removes for good what is known of an account, unless it is another customer's.
    fn erase_account(&mut self, link: &Link, names: &[&str]) {
        let account = self.accounts.entry(link.clone()).or_default();
        let customer = account.customer.as_deref();
        let is_others = customer.is_some_and(|it| !names.contains(&it));
        if !account.is_erased && !is_others && !link.is_customer() {
            *account = AccountFacts::erased();
            self.erased.insert(link.clone());
        }
    }

    /// An event about what was erased names accounts that may be news: they are of the same customer.
    fn erase_accounts(&mut self, links: [&Option<Link>; 2]) {
        for link in links.into_iter().flatten() {
            self.erase_account(link, &[]);
        }
    }

    fn teach_by_payment(&mut self, payment: &Payment) {
        if !payment.kind.is_subscription() {
            return;
        }
        let customer = payment.customer.as_deref();
        if let Some(link) = &payment.subscription {
            self.teach(link.clone(), customer, payment.credit.as_ref(), None);
        }
        if let Some(link) = &payment.payer {
            self.teach(link.clone(), customer, None, None);
        }
    }

    fn teach_by_link(&mut self, link: &PaymentLink) {
        let customer = link.customer.as_deref();
        let (credit, since) = (link.credit.as_ref(), link.credit_since);
        let (of_subscription, of_customer) = match &link.subscription {
            Some(_) => (credit, None),
            None => (None, credit),
        };
        if let Some(link) = &link.subscription {
            self.teach(link.clone(), customer, of_subscription, since);
        }
        if let Some(link) = &link.payer {
            self.teach(link.clone(), customer, None, None);
        }
        if let (Some(customer), Some(credit)) = (customer, of_customer) {
            let link = Link::customer(customer);
            // What the shop says of its customer counts, whatever was known.
            if let Some(account) = self.accounts.get_mut(&link)
                && (account.credit.as_ref(), account.credit_since) != (Some(credit), since)
            {
                account.credit = None;
            }
            self.teach(link, Some(customer), Some(credit), since);
        }
    }

    /// Returns `true` if one of these is a link of something whose customer was erased.
    fn is_erased<'l>(&self, links: impl IntoIterator<Item = &'l Link>) -> bool {
        let mut erased = self.found.values().filter(|record| record.is_erased());
        let links: Vec<&Link> = links.into_iter().collect();
        erased.any(|record| links.iter().any(|link| record.links.contains(link)))
    }

    /// Returns `true` if it is a payment that is news, of an order whose customer was erased. Where two
    /// customers paid one order before, the erasure of one is none of the other.
    fn is_order_erased(&self, payment: &Payment) -> bool {
        let is_known = self.found.values().any(|record| {
            record.payment().is_some() && payment.links.iter().any(|it| record.links.contains(it))
        });
        !is_known && self.is_erased([&Link::order(&payment.order)])
    }

    /// Returns `true` if there is another payment under the same order.
    fn is_order_taken(&self, payment: &Payment, own: &Own) -> bool {
        let order = Link::order(&payment.order);
        self.found.values().any(|record| {
            let is_other = !own.ids.contains(&record.id);
            is_other && record.payment().is_some() && record.links.contains(&order)
        })
    }

    /// Returns `true` if there is a payment with this link.
    fn has_payment(&self, link: Option<&Link>) -> bool {
        let mut payments = self.found.values().filter(|it| it.payment().is_some());
        payments.any(|record| link.is_some_and(|link| record.links.contains(link)))
    }

    /// Finds the records of the payment that has these links. Records of different invoices are never
    /// one payment's: then the event's invoice or `name` decides, or it is of none of the sales.
    fn own(&self, links: &[Link], name: Option<&Link>) -> Own {
        let is_of = |record: &&Record| {
            record.payment().is_some() && links.iter().any(|link| record.links.contains(link))
        };
        let all: Vec<&Record> = self.found.values().filter(is_of).collect();
        let are_several = |links: &mut dyn Iterator<Item = &Link>| {
            let invoices: BTreeSet<&Link> = links.filter(|link| link.is_invoice()).collect();
            invoices.len() > 1
        };
        let is_shared = are_several(&mut all.iter().flat_map(|it| &it.links).chain(links));
        let name = links.iter().find(|link| link.is_invoice()).or(name);
        let is_own = |record: &&Record| match name {
            _ if !is_shared => true,
            Some(name) => record.links.contains(name),
            None => {
                let has_sale = record.payment().is_some_and(|it| it.sale.is_some());
                !has_sale && !record.links.iter().any(Link::is_invoice)
            }
        };
        let mut own: Vec<&Record> = all.into_iter().filter(is_own).collect();
        if are_several(&mut own.iter().flat_map(|it| &it.links)) {
            own.clear();
        }
        Own {
            ids: own.into_iter().map(|record| record.id.clone()).collect(),
            is_shared,
        }
    }

    /// Takes what is stored of one payment: its records, joined.
    fn payment(&mut self, links: &[Link], own: &Own, is_erased: bool) -> Mine {
        let invoice = links.iter().find(|link| link.is_invoice());
        let links = links
            .iter()
            .filter(|it| !it.is_invoice() || Some(*it) == invoice);
        let mut mine = Mine {
            id: None,
            links: links.cloned().collect(),
            facts: PaymentFacts::default(),
        };
        for record in self.found.values() {
            let Facts::Payment(facts) = &record.facts else {
                continue;
            };
            if !own.ids.contains(&record.id) {
                continue;
            }
            mine.links.extend(record.links.iter().cloned());
            let mut facts = (**facts).clone();
            if is_erased {
                facts.erase();
            }
            mine.facts = match mine.id.take() {
                None => facts,
                Some(id) => {
                    self.changes.removed.push(id);
                    mine.facts.merged(facts, &mut self.reports)
                }
            };
            mine.id = Some(record.id.clone());
        }
        mine.facts.is_erased = is_erased;
        mine
    }

    async fn finish(
        mut self,
        mine: Option<Mine>,
        reason: Option<Reason>,
    ) -> Result<Booked, B::Error> {
        let mut settled = None;
        let own = mine.as_ref().and_then(|mine| mine.id.clone());
        if let Some(mine) = mine {
            settled = self.settle(mine).await?;
        }
        self.settle_waiting(own.as_deref()).await?;
        let is_changed = self.save().await?;
        let unchanged = if is_changed {
            Reason::NoChange
        } else {
            Reason::AlreadyBooked
        };
        Ok(Booked {
            reason: reason
                .or(settled)
                .or_else(|| self.reports.is_empty().then_some(unchanged)),
            reports: self.reports,
        })
    }

    /// Saves what is new, and returns whether anything is.
    async fn save(&mut self) -> Result<bool, B::Error> {
        let mut changed = std::mem::take(&mut self.taught);
        changed.append(&mut self.erased);
        for link in changed {
            let account = self.accounts.get(&link).cloned().unwrap_or_default();
            self.keep(Record::new([link].into(), Facts::Account(account), |_| {
                false
            }));
        }
        let is_changed = self.changes != Changes::default();
        if is_changed {
            self.books.save(&self.changes).await?;
        }
        Ok(is_changed)
    }

    /// Settles what was waiting for what is known now.
    async fn settle_waiting(&mut self, own: Option<&str>) -> Result<(), B::Error> {
        let waiting: Vec<Link> = self.taught.iter().map(Link::waiting).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        self.find(&[], waiting.clone()).await?;
        let is_waiting = |record: &Record| {
            let has_link = waiting.iter().any(|link| record.links.contains(link));
            has_link && Some(record.id()) != own && !self.changes.removed.contains(&record.id)
        };
        let records = self.found.values().filter(|record| is_waiting(record));
        let others: Vec<Mine> = records.filter_map(Mine::of).collect();
        for other in others {
            self.settle(other).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, mut mine: Mine) -> Result<Option<Reason>, B::Error> {
        let mut who = match &mine.facts.sale {
            Some(sale) if mine.facts.is_open() => self.who(&sale.clone()).await?,
            _ => None,
        };
        let subscription = mine.facts.sale.as_ref();
        let subscription = subscription.and_then(|sale| sale.subscription.as_ref());
        let account = subscription.and_then(|link| self.accounts.get(link));
        if mine.facts.is_erased || account.is_some_and(|account| account.is_erased) {
            mine.facts.erase();
            who = None;
        }
        let reason = mine.facts.settle(who.as_ref(), &mut self.reports);
        self.keep_payment(mine, who.as_ref());
        Ok(reason)
    }

    fn keep_payment(&mut self, mut mine: Mine, who: Option<&Who>) {
        mine.wait_for(who);
        let facts = Facts::Payment(Box::new(mine.facts));
        let is_taken = |id: &str| mine.id.is_none() && self.found.contains_key(id);
        let record = Record::new(mine.links, facts, is_taken);
        self.keep(record.map(|record| Record {
            id: mine.id.unwrap_or(record.id),
            ..record
        }));
    }

    /// Stores a record unless it is stored as it is.
    fn keep(&mut self, record: Option<Record>) {
        if let Some(record) = record
            && self.found.get(&record.id) != Some(&record)
        {
            self.changes.saved.push(record);
        }
    }

    /// Says whose sale it is, as far as that is known.
    async fn who(&mut self, sale: &SaleFacts) -> Result<Option<Who>, B::Error> {
        let accounts = [sale.subscription.clone(), sale.payer.clone()];
        let accounts = accounts.into_iter().flatten().collect();
        self.find(&[], accounts).await?;
        let account = |link: &Option<Link>| self.accounts.get(link.as_ref()?);
        let subscription = account(&sale.subscription).cloned().unwrap_or_default();
        let payer = account(&sale.payer).cloned().unwrap_or_default();
        let of_subscription = subscription.credit_of(sale.paid_at).cloned();
        let own = sale.credit.clone().or(of_subscription);
        let named = sale.customer.clone();
        let named = named.or(subscription.customer).or(payer.customer);
        let payer = sale.payer.as_ref().and_then(Link::id);
        if let Some(customer) = named {
            let is_one_time = !sale.payment_kind.is_subscription();
            let credit = match own {
                Some(own) if is_one_time => Some(own),
                own => {
                    let known = self.credited(&customer).await?;
                    known.credit_of(sale.paid_at).cloned().or(own)
                }
            };
            return Ok(Some(Who {
                customer,
                is_guest: false,
                credit,
            }));
        }
        // The shop may know its customers by the provider's IDs.
        if let Some(payer) = payer {
            let known = self.credited(payer).await?;
            if known.credit.is_some() {
                return Ok(Some(Who {
                    customer: payer.to_owned(),
                    is_guest: false,
                    credit: own.or_else(|| known.credit_of(sale.paid_at).cloned()),
                }));
            }
        }
        let is_guest = own.is_some() || !sale.payment_kind.is_subscription();
        Ok(is_guest.then(|| Who {
            customer: payer.unwrap_or(&sale.order).to_owned(),
            is_guest: true,
            credit: own,
        }))
    }

    /// Returns who is credited with a customer, and since when.
    async fn credited(&mut self, customer: &str) -> Result<AccountFacts, B::Error> {
        let link = Link::customer(customer);
        self.find(&[], vec![link.clone()]).await?;
        if let Some(account) = self.accounts.get(&link)
            && account.credit.is_some()
        {
            return Ok(account.clone());
        }
        let credit = self.books.credit(customer).await?;
        Ok(AccountFacts {
            credit,
            ..AccountFacts::default()
        })
    }
}

impl Mine {
    fn of(record: &Record) -> Option<Self> {
        Some(Self {
            id: Some(record.id.clone()),
            links: record.links.clone(),
            facts: record.payment()?.clone(),
        })
    }

    /// Sets the links by which what is missing finds the payment.
    fn wait_for(&mut self, who: Option<&Who>) {
        self.links.retain(|link| !link.is_waiting());
        if !self.facts.is_open() {
            return;
        }
        let Some(sale) = &self.facts.sale else {
            return;
        };
        self.links
            .extend(sale.subscription.as_ref().map(Link::waiting));
        let is_named = who.is_some_and(|who| !who.is_guest);
        if !is_named {
            self.links.extend(sale.payer.as_ref().map(Link::waiting));
        }
        let payer = sale.payer.as_ref().and_then(Link::id);
        let customer = who.map(|who| &*who.customer).or(payer);
        self.links
            .extend(customer.map(|id| Link::customer(id).waiting()));
    }
}
