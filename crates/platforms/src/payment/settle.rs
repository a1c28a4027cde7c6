//! From what is known of one payment to what platforms are to be told: pure functions. All that is
//! known is joined so that the order of the events makes no difference; a report is the difference
//! between what follows from it and what was reported.

use super::amounts::Ratio;
use super::entry::{self, EntryKind, Told};
use super::event::{Event, MoneyBack, Payment, Progress};
use super::reason::Reason;
use super::record::{BackFacts, PaymentFacts, Reported, SaleFacts, TotalFacts};
use crate::{Credit, InvalidId, Money, Refund, RefundReversal, Report, Sale, SignUp};

/// Whose sale it is.
#[derive(Clone)]
pub(super) struct Buyer {
    pub(super) customer: String,
    /// Not known to have signed up.
    pub(super) is_guest: bool,
    pub(super) credit: Option<Credit>,
}

impl PaymentFacts {
    /// Takes in that it was paid.
    pub(super) fn add_sale(&mut self, payment: &Payment, is_second: bool) -> Option<Reason> {
        let new = SaleFacts {
            order: payment.order.clone(),
            gross: payment.gross,
            net: payment.net,
            decimals: payment.decimals,
            payment_kind: payment.kind,
            is_own_order: payment.is_own_order,
            is_weak: payment.is_weak,
            is_second,
            customer: payment.customer.clone(),
            subscription: payment.subscription.clone(),
            payer: payment.payer.clone(),
            credit: payment.credit.clone(),
            coupon: payment.coupon.clone(),
            paid_at: payment.paid_at,
        };
        let Some(known) = self.sale.take() else {
            self.sale = Some(new);
            return None;
        };
        // Two events about a payment may differ in the net. The better one counts, unless it is too late.
        let is_too_late = self.reported.is_some() && known.is_weak >= new.is_weak;
        let is_other = known.gross != new.gross || (is_too_late && known.net != new.net);
        let reason = is_other.then_some(Reason::OtherAmount);
        self.sale = Some(match &self.reported {
            // Nothing more is needed.
            Some(reported) if reported.is_credited => known,
            Some(_) => known.completed_by(new),
            None => known.joined(new),
        });
        reason
    }

    /// Takes in that money goes back, or doesn't after all.
    pub(super) fn add_back(&mut self, event: &Event, back: &MoneyBack) {
        let (is_active, is_dispute, rank) = match event {
            Event::Refunded(_) => (true, false, 1),
            Event::RefundFailed(_) => (false, false, 3),
            Event::Disputed(_) => (true, true, 1),
            Event::DisputeLost(_) => (true, true, 2),
            _ => (false, true, 3),
        };
        let at = back.at.map_or(0, time::OffsetDateTime::unix_timestamp);
        let state = match back.progress {
            Progress::Stage(stage) => (0, stage),
            Progress::Latest => (at, rank),
            Progress::Contra => (0, 1),
            Progress::Total => return self.add_total(back, at),
        };
        let is_contra = back.progress == Progress::Contra;
        let kind = match (is_contra, is_dispute) {
            (true, _) => EntryKind::Opposite,
            (false, true) => EntryKind::Dispute,
            (false, false) => EntryKind::Refund,
        };
        let failed_at = (!is_active && !is_dispute).then_some(at);
        let new = BackFacts {
            gross: back.gross,
            net: back.net,
            is_contra,
            is_dispute,
            state,
            is_active: is_active || is_contra,
            total: back.total.as_deref().map(|id| EntryKind::Total.name(id)),
            failed_at,
            is_applied: false,
            told: Told::default(),
        };
        self.join_back(kind.name(&back.id), new);
    }

    fn join_back(&mut self, name: String, new: BackFacts) {
        match self.back.get_mut(&name) {
            Some(known) => known.join(&new),
            None => {
                self.back.insert(name, new);
            }
        }
    }

    fn add_total(&mut self, back: &MoneyBack, at: i64) {
        let new = TotalFacts {
            gross: back.gross,
            at,
            is_applied: false,
            told: Told::default(),
        };
        self.join_total(EntryKind::Total.name(&back.id), new);
    }

    fn join_total(&mut self, name: String, new: TotalFacts) {
        let new = match self.totals.remove(&name) {
            Some(known) => known.join(new),
            None => new,
        };
        self.totals.insert(name, new);
    }

    /// Joins what turned out to be one payment. Where both were reported, one is taken back.
    pub(super) fn merged(self, other: Self, reports: &mut Vec<Report>) -> Self {
        let (mut kept, mut other) = if self.precedes(&other) {
            (self, other)
        } else {
            (other, self)
        };
        let is_twice = match (&kept.reported, &other.reported) {
            (Some(kept), Some(other)) => kept.order != other.order,
            _ => false,
        };
        if is_twice && let Some(reported) = &other.reported {
            reports.extend(reported.taken_back());
            // What was told of them was told of the other order.
            let backs = other.back.values_mut().map(|back| &mut back.told);
            let totals = other.totals.values_mut().map(|total| &mut total.told);
            backs.chain(totals).for_each(|told| *told = Told::default());
        }
        if other.reported.is_some() {
            other.back.values_mut().for_each(|back| {
                back.is_applied = false;
            });
            other.totals.values_mut().for_each(|total| {
                total.is_applied = false;
            });
        }
        kept.sale = match (kept.sale, other.sale) {
            (Some(kept_sale), Some(sale)) => Some(match &kept.reported {
                Some(reported) if reported.is_credited => kept_sale,
                Some(_) => kept_sale.completed_by(sale),
                None => kept_sale.joined(sale),
            }),
            (kept_sale, sale) => kept_sale.or(sale),
        };
        for (name, back) in other.back {
            kept.join_back(name, back);
        }
        for (name, total) in other.totals {
            kept.join_total(name, total);
        }
        kept
    }

    fn precedes(&self, other: &Self) -> bool {
        let rank = |facts: &Self| {
            let sale = facts.sale.as_ref();
            let is_weak = sale.is_none_or(|sale| sale.is_weak);
            let order = sale.map(|sale| sale.order.clone());
            (facts.reported.is_none(), is_weak, order)
        };
        rank(self) <= rank(other)
    }

    /// Returns `true` if the sale could still be reported, or be reported with credit.
    pub(super) fn is_open(&self) -> bool {
        let is_credited = self.reported.as_ref().is_some_and(|sale| sale.is_credited);
        let is_settled = is_credited || self.is_erased;
        self.sale.as_ref().is_some_and(|sale| !sale.is_second) && !is_settled
    }

    /// Reports what isn't reported yet, and says what keeps the rest.
    pub(super) fn settle(
        &mut self,
        who: Option<&Buyer>,
        reports: &mut Vec<Report>,
    ) -> Option<Reason> {
        let Some(sale) = &self.sale else {
            return Some(Reason::WaitsForSale);
        };
        match (&mut self.reported, who) {
            (None, _) if sale.is_second => return Some(Reason::OrderPaidBefore),
            (None, _) if self.is_erased => return Some(Reason::Erased),
            (None, None) => return Some(Reason::UnknownCustomer),
            (None, Some(who)) => match sale.report(who) {
                Ok(report) => {
                    reports.push(report);
                    self.reported = Some(Reported {
                        order: sale.order.clone(),
                        customer: who.customer.clone(),
                        net: sale.net,
                        is_guest: who.is_guest,
                        is_credited: who.credit.is_some(),
                        back: None,
                    });
                }
                Err(InvalidId) => return Some(Reason::InvalidId),
            },
            (Some(reported), Some(who)) if !reported.is_credited && who.credit.is_some() => {
                let Ok(report) = sale.report(who) else {
                    return Some(Reason::InvalidId);
                };
                reports.push(report);
                reported.is_credited = true;
                reported.is_guest = who.is_guest;
                reported.customer.clone_from(&who.customer);
            }
            (Some(_), _) => {}
        }
        self.settle_back(reports)
    }

    /// Applies every refund, dispute and total, and reports what differs then under its name.
    fn settle_back(&mut self, reports: &mut Vec<Report>) -> Option<Reason> {
        let currency = self.sale.as_ref()?.net.currency().to_owned();
        let mut reason = None;
        // What is news first: the difference is by it.
        let (others, news): (Vec<_>, Vec<_>) = self
            .back
            .iter()
            .partition(|(_, back)| back.is_active == back.is_applied);
        let back = |(name, _): (&String, _)| (name.clone(), false);
        let totals = self.totals.keys().map(|name| (name.clone(), true));
        let names = news.into_iter().map(back).chain(totals);
        let names: Vec<_> = names.chain(others.into_iter().map(back)).collect();
        for (name, is_total) in names {
            let mut is_usable = true;
            if let Some(total) = self.totals.get_mut(&name) {
                is_usable = total.gross.currency() == currency;
                total.is_applied = is_usable;
            } else if let Some(back) = self.back.get_mut(&name) {
                is_usable = back.is_in(&currency);
                back.is_applied = back.is_active && is_usable;
            }
            if !is_usable {
                reason = Some(Reason::OtherCurrency);
            }
            match self.difference(&name, is_total) {
                Ok(report) => reports.extend(report),
                Err(InvalidId) => reason = Some(Reason::InvalidId),
            }
        }
        reason
    }

    /// Reports the difference between what is to have gone back and what was reported to have, under
    /// the next ID of the entry of this name.
    fn difference(&mut self, name: &str, is_total: bool) -> Result<Option<Report>, InvalidId> {
        let Some((ratio, target)) = self.target() else {
            return Ok(None);
        };
        let Some(reported) = &mut self.reported else {
            return Ok(None);
        };
        let told = if is_total {
            self.totals.get_mut(name).map(|total| &mut total.told)
        } else {
            self.back.get_mut(name).map(|back| &mut back.told)
        };
        let before = reported.back.as_ref();
        let before = before.and_then(|back| ratio.units(back)).unwrap_or(0);
        let money = |units: i128| ratio.money(units, reported.net.currency());
        let (Some(told), Some(amount), Some(back)) =
            (told, money((target - before).abs()), money(target))
        else {
            return Ok(None);
        };
        if amount.is_zero() {
            return Ok(None);
        }
        let report = if target > before {
            let refund = if before == 0 && target == ratio.net() {
                Refund::whole(&reported.order)?
            } else {
                Refund::part(&reported.order, amount)?
            };
            let refund = refund
                .with_id(entry::numbered(name, told.refunds + 1))?
                .with_sale_amount(reported.net)
                .with_total_refunded(back);
            let report = Report::from(reported.with_customer(refund)?);
            told.refunds += 1;
            report
        } else {
            let reversal = RefundReversal::part(&reported.order, amount)?;
            let reversal = reversal
                .with_refund(entry::numbered(name, told.reversals + 1))?
                .with_sale_amount(reported.net)
                .with_total_refunded(back);
            told.reversals += 1;
            reversal.into()
        };
        reported.back = Some(back);
        Ok(Some(report))
    }

    /// How much of the net is to have gone back by all that is applied.
    fn target(&self) -> Option<(Ratio, i128)> {
        let sale = self.sale.as_ref()?;
        let ratio = Ratio::new(sale.gross, sale.net, sale.decimals)?;
        // Each a sum of the gross, and of its shares of the net.
        let (mut refunds, mut disputes, mut contras) = ((0, 0), (0, 0), (0, 0));
        let mut returned = (0, 0);
        for back in self.back.values() {
            // Whatever came to nothing by itself needs no opposite, and has one perhaps.
            let is_nothing = back.is_dispute && !back.is_active && !back.is_applied;
            let is_returned = is_nothing && back.is_in(sale.net.currency());
            if !back.is_applied && !is_returned {
                continue;
            }
            let gross = ratio.units(&back.gross)?;
            let net = match &back.net {
                Some(net) => ratio.units(net)?,
                None => ratio.share(gross)?,
            };
            let sum: &mut (i128, i128) = match (back.is_contra, back.is_dispute) {
                (true, _) => &mut contras,
                (false, true) if is_returned => &mut returned,
                (false, true) => &mut disputes,
                (false, false) => &mut refunds,
            };
            *sum = (sum.0.checked_add(gross)?, sum.1.checked_add(net)?);
        }
        let more = self.unaccounted(&ratio)?;
        refunds.0 = refunds.0.checked_add(more)?;
        refunds.1 = refunds.1.checked_add(ratio.share(more)?)?;
        let left = |disputes: i128, contras: i128, returned: i128| {
            let contras = contras.checked_sub(returned)?.max(0);
            Some(disputes.checked_sub(contras)?.max(0))
        };
        let gross = left(disputes.0, contras.0, returned.0)?;
        let gross = refunds.0.checked_add(gross)?;
        let net = left(disputes.1, contras.1, returned.1)?;
        let net = refunds.1.checked_add(net)?;
        let target = if gross >= ratio.gross() {
            ratio.net()
        } else {
            net.clamp(0, ratio.net())
        };
        Some((ratio, target))
    }

    /// How much of the totals the refunds don't account for: each of its own total, and those of which
    /// it isn't known of what is left.
    fn unaccounted(&self, ratio: &Ratio) -> Option<i128> {
        let totals = self.totals.iter().filter(|(_, total)| total.is_applied);
        let totals: Vec<_> = totals.collect();
        let latest = totals.iter().map(|(_, total)| total.at).max();
        let Some(latest) = latest else {
            return Some(0);
        };
        let mut sum = 0_i128;
        for &(name, total) in &totals {
            let refunds = self.refunded(ratio, Some(name), total.at)?;
            let rest = ratio.units(&total.gross)?.checked_sub(refunds)?;
            sum = sum.checked_add(rest.max(0))?;
        }
        let refunds = self.refunded(ratio, None, latest)?;
        Some(sum.checked_sub(refunds)?.max(0))
    }

    /// What of a total that was taken at this moment is refunds, or was.
    fn refunded(&self, ratio: &Ratio, total: Option<&String>, at: i64) -> Option<i128> {
        let currency = self.sale.as_ref()?.gross.currency();
        let mut sum = 0_i128;
        for back in self
            .back
            .values()
            .filter(|back| back.total.as_ref() == total)
        {
            // What failed after the total was taken is still in it.
            let is_later = back.failed_at.is_some_and(|failed_at| failed_at >= at);
            let has_failed = !back.is_active && is_later && back.gross.currency() == currency;
            if (back.is_applied && !back.is_dispute) || has_failed {
                sum = sum.checked_add(ratio.units(&back.gross)?)?;
            }
        }
        Some(sum)
    }
}

impl SaleFacts {
    /// Fills in what the other event about the same payment says and this one doesn't.
    fn completed_by(mut self, other: Self) -> Self {
        self.is_second &= other.is_second;
        self.customer = self.customer.or(other.customer);
        self.subscription = self.subscription.or(other.subscription);
        self.payer = self.payer.or(other.payer);
        self.credit = self.credit.or(other.credit);
        self.coupon = self.coupon.or(other.coupon);
        self.paid_at = self.paid_at.or(other.paid_at);
        self
    }

    /// The same before anything is reported, when it makes no difference yet which was there first.
    fn joined(self, other: Self) -> Self {
        let rank = |sale: &Self| (sale.is_second, sale.is_weak, !sale.is_own_order);
        if (rank(&self), &self.order) <= (rank(&other), &other.order) {
            self.completed_by(other)
        } else {
            other.completed_by(self)
        }
    }

    fn report(&self, buyer: &Buyer) -> Result<Report, InvalidId> {
        let sale = if buyer.is_guest {
            Sale::guest(&self.order, SignUp::new(&buyer.customer)?, self.net)?
        } else {
            Sale::new(&self.order, &buyer.customer, self.net)?
        };
        let sale = sale
            .with_credit(buyer.credit.clone())
            .with_coupon(self.coupon.as_deref())
            .with_paid_at(self.paid_at);
        Ok(if self.payment_kind.is_subscription() {
            sale.with_subscription(None::<&str>).into()
        } else {
            sale.into()
        })
    }
}

impl BackFacts {
    /// Returns `true` if its amounts are in this currency.
    fn is_in(&self, currency: &str) -> bool {
        let is_own = |money: &Money| money.currency() == currency;
        is_own(&self.gross) && self.net.as_ref().is_none_or(is_own)
    }

    fn join(&mut self, new: &Self) {
        self.failed_at = match (self.failed_at, new.failed_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if new.state > self.state {
            self.state = new.state;
            self.is_active = new.is_active;
            self.gross = new.gross;
            self.net = new.net;
        }
        self.total = self.total.take().or_else(|| new.total.clone());
        self.told = self.told.or(new.told);
    }
}

impl TotalFacts {
    /// The later one; at one moment the larger.
    fn join(self, new: Self) -> Self {
        let is_larger = new.gross.checked_sub(&self.gross).is_some();
        let is_later = (new.at, is_larger) > (self.at, false);
        Self {
            gross: if is_later { new.gross } else { self.gross },
            at: self.at.max(new.at),
            is_applied: self.is_applied,
            told: self.told.or(new.told),
        }
    }
}

impl Reported {
    /// Takes back what is left of a sale that was reported under two orders.
    fn taken_back(&self) -> Option<Report> {
        let refund = match &self.back {
            Some(back) => {
                let left = self.net.checked_sub(back).filter(|left| !left.is_zero())?;
                Refund::part(&self.order, left)
            }
            None => Refund::whole(&self.order),
        };
        let refund = refund.ok()?.with_id(entry::DUPLICATE).ok()?;
        let refund = refund
            .with_sale_amount(self.net)
            .with_total_refunded(self.net);
        self.with_customer(refund).map(Report::from).ok()
    }

    fn with_customer(&self, refund: Refund) -> Result<Refund, InvalidId> {
        if self.customer.is_empty() {
            return Ok(refund); // erased
        }
        refund.with_customer(&self.customer)
    }
}
