//! The work of one event on the books: finds what is stored, lets the pure functions decide, and stores
//! what is new.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::books::{Booked, Books, Changes};
use super::event::{Link, Payment, PaymentLink};
use super::reason::Reason;
use super::record::{AccountFacts, Facts, PaymentFacts, Record, SaleFacts};
use super::settle::Buyer;
use crate::{Credit, Report};

/// The records of one payment, among those that have a link of it.
pub(super) struct PaymentRecords {
    pub(super) ids: BTreeSet<String>,
    /// Others have such a link, too, that are of another invoice.
    pub(super) is_shared: bool,
}

impl PaymentRecords {
    pub(super) fn reason(&self) -> Option<Reason> {
        self.is_shared.then_some(Reason::SharedPayment)
    }
}

/// A payment in hand.
pub(super) struct OpenPayment {
    id: Option<String>,
    pub(super) links: BTreeSet<Link>,
    pub(super) facts: PaymentFacts,
}

/// What one event found, and what is to be stored because of it, all at once at the end.
pub(super) struct UnitOfWork<'b, B: ?Sized> {
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

impl<'b, B: Books + ?Sized> UnitOfWork<'b, B> {
    pub(super) fn new(books: &'b mut B) -> Self {
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

    pub(super) async fn find(&mut self, links: &[Link], more: Vec<Link>) -> Result<(), B::Error> {
        let links: BTreeSet<Link> = links.iter().cloned().chain(more).collect();
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
    pub(super) fn erase_accounts(&mut self, links: [&Option<Link>; 2]) {
        for link in links.into_iter().flatten() {
            self.erase_account(link, &[]);
        }
    }

    pub(super) fn teach_by_payment(&mut self, payment: &Payment) {
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

    pub(super) fn teach_by_link(&mut self, link: &PaymentLink) {
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
    pub(super) fn is_erased<'l>(&self, links: impl IntoIterator<Item = &'l Link>) -> bool {
        let mut erased = self.found.values().filter(|record| record.is_erased());
        let links: Vec<&Link> = links.into_iter().collect();
        erased.any(|record| links.iter().any(|link| record.links.contains(link)))
    }

    /// Returns `true` if it is a payment that is news, of an order whose customer was erased. Where two
    /// customers paid one order before, the erasure of one is none of the other.
    pub(super) fn is_order_erased(&self, payment: &Payment) -> bool {
        let is_known = self.found.values().any(|record| {
            record.payment().is_some() && payment.links.iter().any(|it| record.links.contains(it))
        });
        !is_known && self.is_erased([&Link::order(&payment.order)])
    }

    /// Returns `true` if there is another payment under the same order.
    pub(super) fn is_order_taken(&self, payment: &Payment, records: &PaymentRecords) -> bool {
        let order = Link::order(&payment.order);
        self.found.values().any(|record| {
            let is_other = !records.ids.contains(&record.id);
            is_other && record.payment().is_some() && record.links.contains(&order)
        })
    }

    /// Returns `true` if there is a payment with this link.
    pub(super) fn has_payment(&self, link: Option<&Link>) -> bool {
        !self.payments_with(link).is_empty()
    }

    /// Finds the records of the payment that has these links. Records of different invoices are never
    /// one payment's: then the event's invoice or `name` decides, or it is of none of the sales. A record
    /// without an invoice is judged by all of its links, so that whichever event comes again, or last, finds
    /// the same.
    pub(super) async fn records_of(
        &mut self,
        links: &[Link],
        name: Option<&Link>,
    ) -> Result<PaymentRecords, B::Error> {
        let invoice = links.iter().find(|link| link.is_invoice());
        let name = invoice.or(name);
        // The links that its record has already were looked at when they came.
        let known = self.payments_with(name);
        let is_new = |link: &&Link| {
            Some(*link) == name || known.iter().all(|record| !record.links.contains(*link))
        };
        let links: Vec<Link> = links.iter().filter(is_new).cloned().collect();
        let found = self.payments_with(&links);
        if found.len() > 1 {
            let without = found.iter().filter(|it| !it.has_invoice());
            let more = without.flat_map(|it| it.links.clone()).collect();
            self.find(&[], more).await?;
        }
        Ok(self.judge(&links, name))
    }

    /// `name` is the event's invoice, or its own name where it has none.
    fn judge(&self, links: &[Link], name: Option<&Link>) -> PaymentRecords {
        let invoice = name.filter(|name| name.is_invoice());
        let all = self.payments_with(links);
        let links_of_all = all.iter().flat_map(|it| &it.links);
        let is_clear = |record: &Record| {
            let near = self.payments_with(&record.links).into_iter();
            !are_several_invoices(near.flat_map(|it| &it.links).chain(invoice))
        };
        let is_shared = are_several_invoices(links_of_all.chain(links))
            || all.iter().any(|it| !it.has_invoice() && !is_clear(it));
        let is_own = |record: &&Record| match name {
            _ if !is_shared => true,
            Some(name) => record.links.contains(name) || !record.has_invoice() && is_clear(record),
            None => record.is_without_sale() && !record.has_invoice(),
        };
        let mut own: Vec<&Record> = all.into_iter().filter(is_own).collect();
        if are_several_invoices(own.iter().flat_map(|it| &it.links)) {
            own.clear();
        }
        PaymentRecords {
            ids: own.into_iter().map(|record| record.id.clone()).collect(),
            is_shared,
        }
    }

    fn payments_with<'l>(&self, links: impl IntoIterator<Item = &'l Link>) -> Vec<&Record> {
        let links: Vec<&Link> = links.into_iter().collect();
        let is_of = |record: &&Record| {
            record.payment().is_some() && links.iter().any(|link| record.links.contains(link))
        };
        self.found.values().filter(is_of).collect()
    }

    /// Takes what is stored of one payment: its records, joined.
    pub(super) fn open(
        &mut self,
        links: &[Link],
        records: &PaymentRecords,
        is_erased: bool,
    ) -> OpenPayment {
        let invoice = links.iter().find(|link| link.is_invoice());
        let links = links
            .iter()
            .filter(|it| !it.is_invoice() || Some(*it) == invoice);
        let mut open = OpenPayment {
            id: None,
            links: links.cloned().collect(),
            facts: PaymentFacts::default(),
        };
        for record in self.found.values() {
            let Facts::Payment(facts) = &record.facts else {
                continue;
            };
            if !records.ids.contains(&record.id) {
                continue;
            }
            open.links.extend(record.links.iter().cloned());
            let mut facts = (**facts).clone();
            if is_erased {
                facts.erase();
            }
            open.facts = match open.id.take() {
                None => facts,
                Some(id) => {
                    self.changes.removed.push(id);
                    open.facts.merged(facts, &mut self.reports)
                }
            };
            open.id = Some(record.id.clone());
        }
        open.facts.is_erased = is_erased;
        open
    }

    /// Removes a customer from every record: see [`erase`](super::erase).
    pub(super) async fn erase(mut self, customer: &str) -> Result<(), B::Error> {
        // To find is to lock: what is read after that, nobody changes meanwhile.
        let records = loop {
            let records = self.books.of_customer(customer).await?;
            let mut links = vec![Link::customer(customer)];
            for record in &records {
                links.extend(record.links().chain(record.accounts()).cloned());
            }
            if links.iter().all(|link| self.asked.contains(link)) {
                break records;
            }
            self.find(&[], links).await?;
        };
        for record in records {
            let names: Vec<&str> = record.customers().collect();
            record
                .accounts()
                .for_each(|link| self.erase_account(link, &names));
            if let Some(mut open) = OpenPayment::of(&record) {
                open.facts.erase();
                self.keep_payment(open, None);
            } else if record.links().all(Link::is_customer) {
                self.changes.removed.push(record.id);
            }
        }
        self.save().await.map(|_| ())
    }

    /// Settles the payment of the event and what waited for the event, saves what is new, and returns what
    /// came of it.
    pub(super) async fn finish(
        mut self,
        open: Option<OpenPayment>,
        reason: Option<Reason>,
    ) -> Result<Booked, B::Error> {
        let mut settled = None;
        let id = open.as_ref().and_then(|open| open.id.clone());
        if let Some(open) = open {
            settled = self.settle(open).await?;
        }
        self.settle_waiting(id.as_deref()).await?;
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

    /// Settles what was waiting for what is known now, but for the payment that is settled already.
    async fn settle_waiting(&mut self, but: Option<&str>) -> Result<(), B::Error> {
        let waiting: Vec<Link> = self.taught.iter().map(Link::waiting).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        self.find(&[], waiting.clone()).await?;
        let is_waiting = |record: &Record| {
            let has_link = waiting.iter().any(|link| record.links.contains(link));
            has_link && Some(record.id()) != but && !self.changes.removed.contains(&record.id)
        };
        let records = self.found.values().filter(|record| is_waiting(record));
        let others: Vec<OpenPayment> = records.filter_map(OpenPayment::of).collect();
        for other in others {
            self.settle(other).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, mut open: OpenPayment) -> Result<Option<Reason>, B::Error> {
        let mut buyer = match &open.facts.sale {
            Some(sale) if open.facts.is_open() => self.buyer(&sale.clone()).await?,
            _ => None,
        };
        let subscription = open.facts.sale.as_ref();
        let subscription = subscription.and_then(|sale| sale.subscription.as_ref());
        let account = subscription.and_then(|link| self.accounts.get(link));
        if open.facts.is_erased || account.is_some_and(|account| account.is_erased) {
            open.facts.erase();
            buyer = None;
        }
        let reason = open.facts.settle(buyer.as_ref(), &mut self.reports);
        self.keep_payment(open, buyer.as_ref());
        Ok(reason)
    }

    fn keep_payment(&mut self, mut open: OpenPayment, buyer: Option<&Buyer>) {
        open.wait_for(buyer);
        let facts = Facts::Payment(Box::new(open.facts));
        let is_taken = |id: &str| open.id.is_none() && self.found.contains_key(id);
        let record = Record::new(open.links, facts, is_taken);
        self.keep(record.map(|record| Record {
            id: open.id.unwrap_or(record.id),
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
    async fn buyer(&mut self, sale: &SaleFacts) -> Result<Option<Buyer>, B::Error> {
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
            return Ok(Some(Buyer {
                customer,
                is_guest: false,
                credit,
            }));
        }
        // The shop may know its customers by the provider's IDs.
        if let Some(payer) = payer {
            let known = self.credited(payer).await?;
            if known.credit.is_some() {
                return Ok(Some(Buyer {
                    customer: payer.to_owned(),
                    is_guest: false,
                    credit: own.or_else(|| known.credit_of(sale.paid_at).cloned()),
                }));
            }
        }
        let is_guest = own.is_some() || !sale.payment_kind.is_subscription();
        Ok(is_guest.then(|| Buyer {
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

fn are_several_invoices<'l>(links: impl IntoIterator<Item = &'l Link>) -> bool {
    let invoices = links.into_iter().filter(|link| link.is_invoice());
    invoices.collect::<BTreeSet<&Link>>().len() > 1
}

impl OpenPayment {
    fn of(record: &Record) -> Option<Self> {
        Some(Self {
            id: Some(record.id.clone()),
            links: record.links.clone(),
            facts: record.payment()?.clone(),
        })
    }

    /// Sets the links by which what is missing finds the payment.
    fn wait_for(&mut self, buyer: Option<&Buyer>) {
        self.links.retain(|link| !link.is_waiting());
        if !self.facts.is_open() {
            return;
        }
        let Some(sale) = &self.facts.sale else {
            return;
        };
        self.links
            .extend(sale.subscription.as_ref().map(Link::waiting));
        let is_named = buyer.is_some_and(|buyer| !buyer.is_guest);
        if !is_named {
            self.links.extend(sale.payer.as_ref().map(Link::waiting));
        }
        let payer = sale.payer.as_ref().and_then(Link::id);
        let customer = buyer.map(|buyer| &*buyer.customer).or(payer);
        self.links
            .extend(customer.map(|id| Link::customer(id).waiting()));
    }
}
