//! Tapfiliate. Every path ends in a slash, and the API key goes into a header of its own. It has no
//! refunds: a conversion is found by the order, and deleted, disapproved or given another amount. What it
//! makes or changes it answers with the `id` of; what it deletes, or has no more to say of, with a 204.

mod settings;
mod wire;

use bytes::Bytes;
use http::Request;

pub use self::settings::Tapfiliate;
use self::wire::{CONVERSIONS, conversion_of, has_customer};
use crate::{
    Advice, Answer, Client, Error, ListedConversion, Mark, Money, Pages, PlatformIds, Receipt,
    Refund, RefundReversal, Report, ReportApi, SaleUpdate, Step, Transport, Unsupported,
};

/// The landing parameter with the referral code, unless the program's settings name another.
pub const PARAMS: [&str; 1] = ["ref"];

/// Where an exchange with Tapfiliate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// A customer or a conversion was sent, credited by the try of this number.
    Told(usize),
    /// It was refused with this error, and the list is asked whether it is there.
    Refused(usize, Error),
    /// The order's conversion was asked for.
    LookedUp,
    /// The conversion was deleted, or its amount was set; these commissions are approved next.
    Changed(Vec<String>),
    /// A commission was approved or disapproved; these are left, and this shows that one before was.
    Commission(Vec<String>, Option<Mark>),
}

impl Tapfiliate {
    /// Returns the report, credited by the try of this number; `None` if there is none.
    fn tell(&self, report: &Report, at: usize) -> Result<Option<Step<Stage>>, Error> {
        let Some(by) = self.tries(report).get(at).copied() else {
            return Ok(None);
        };
        let request = self.create(report, by)?;
        Ok(Some(Step::send(request, Stage(At::Told(at)))))
    }

    fn told(&self, report: &Report, at: usize, answer: &Answer) -> Result<Step<Stage>, Error> {
        let error = match answer.shows(["/id"]) {
            Ok(mark) => {
                let mut ids = PlatformIds::default();
                match report {
                    Report::SignUp(_) => ids.customer = mark.id(),
                    _ => ids.sale = mark.id(),
                }
                return Ok(Receipt::recorded(mark).with_ids(ids).into());
            }
            Err(error) => error,
        };
        if !answer.is_refused() {
            return Err(error);
        }
        if matches!(report, Report::SignUp(_)) && answer.is_conflict() {
            return Ok(Receipt::duplicate().into());
        }
        let request = self.look_up(report);
        Ok(Step::send(request, Stage(At::Refused(at, error))))
    }

    /// Says what follows from a list that was asked after a refusal: a duplicate, the next credit, or
    /// the refusal itself.
    fn refused(
        &self,
        report: &Report,
        at: usize,
        refusal: Error,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let is_there = match report {
            Report::SignUp(sign_up) => has_customer(sign_up.customer().unwrap_or_default(), answer),
            report => conversion_of(report.order().unwrap_or_default(), answer)
                .map(|conversion| conversion.is_some()),
        };
        match is_there {
            Ok(true) => return Ok(Receipt::duplicate().into()),
            // A list that says nothing keeps no sale from going on: our IDs are unique.
            Ok(false) => {}
            Err(_) if answer.is_refused() || answer.accepted().is_ok() => {}
            Err(error) if error.advice(true) == Advice::Permanent => return Err(refusal),
            Err(error) => return Err(error),
        }
        self.tell(report, at + 1)?.ok_or(refusal)
    }

    fn change(&self, report: &Report, answer: &Answer) -> Result<Step<Stage>, Error> {
        let order = report.order().unwrap_or_default();
        let Some(conversion) = conversion_of(order, answer)? else {
            return match report {
                // It may have been deleted, and what was deleted can't be given back.
                Report::RefundReversal(reversal) if reversal.reverses_whole() => {
                    Err(Error::Unsupported(Unsupported::Kind(report.kind())))
                }
                // It was credited to nobody, or taken back before.
                _ => Ok(Receipt::not_attributed().into()),
            };
        };
        let id = conversion.id().ok_or_else(|| answer.unreadable())?;
        match report {
            Report::Refund(refund) => self.take_back(refund, &conversion, id, answer),
            Report::RefundReversal(reversal) => self.give_back(reversal, &conversion, id, answer),
            Report::SaleUpdate(update) => {
                let amount = new_amount(update)?;
                listed_amount(&conversion, amount, answer)?;
                let recalculate = update.recalculates_commissions();
                Ok(changed(self.set_amount(id, amount, recalculate)))
            }
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }

    fn take_back(
        &self,
        refund: &Refund,
        conversion: &ListedConversion,
        id: &str,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let left = match refund.amount() {
            None => None,
            Some(amount) => {
                let listed = listed_amount(conversion, amount, answer)?;
                let over = Error::Unsupported(Unsupported::RefundOverSale);
                match refund.left() {
                    // This one or a later one was there before.
                    Some(left) if listed <= left => return Ok(Receipt::duplicate().into()),
                    Some(left) => Some(left),
                    None => Some(listed.checked_sub(&amount).ok_or(over)?),
                }
            }
        };
        match left {
            Some(left) if !left.is_zero() => Ok(changed(self.set_amount(id, left, true))),
            _ if self.disapprove_refunds => {
                let commissions = commissions(conversion).ok_or_else(|| answer.unreadable())?;
                Ok(self.next_commission(commissions, false, None))
            }
            _ => Ok(changed(self.remove(id))),
        }
    }

    fn give_back(
        &self,
        reversal: &RefundReversal,
        conversion: &ListedConversion,
        id: &str,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        // Where all of it went back, its commissions were disapproved.
        let approves = self.disapprove_refunds && reversal.reverses_whole();
        let commissions = if approves {
            commissions(conversion).ok_or_else(|| answer.unreadable())?
        } else {
            Vec::new()
        };
        match left_after(reversal)? {
            Some(left) if listed_amount(conversion, left, answer)? != left => {
                let request = self.set_amount(id, left, true);
                Ok(Step::send(request, Stage(At::Changed(commissions))))
            }
            _ if approves => Ok(self.next_commission(commissions, true, None)),
            // This one was there before, or the refund never was.
            _ => Ok(Receipt::duplicate().into()),
        }
    }

    fn next_commission(
        &self,
        mut left: Vec<String>,
        is_approved: bool,
        done: Option<Mark>,
    ) -> Step<Stage> {
        match (left.pop(), done) {
            (Some(commission), done) => Step::send(
                self.approve(&commission, is_approved),
                Stage(At::Commission(left, done)),
            ),
            (None, Some(mark)) => Receipt::recorded(mark).into(),
            // There was none, or none is there any more.
            (None, None) => Receipt::not_attributed().into(),
        }
    }
}

fn changed(request: Request<Bytes>) -> Step<Stage> {
    Step::send(request, Stage(At::Changed(Vec::new())))
}

/// Returns what is left of the order after a reversal: the amount to be set, because what is listed may
/// be that of before the refund as well as that of after it. `None` after a reversal of the whole that
/// doesn't say it.
fn left_after(reversal: &RefundReversal) -> Result<Option<Money>, Error> {
    let wrong = |unsupported| Err(Error::Unsupported(unsupported));
    match reversal.left() {
        Some(left) if left.is_zero() => wrong(Unsupported::Value("total_refunded")),
        None if reversal.amount().is_none() => Ok(None),
        None if reversal.sale_amount().is_none() => wrong(Unsupported::MissingField("sale_amount")),
        None if reversal.total_refunded().is_none() => {
            wrong(Unsupported::MissingField("total_refunded"))
        }
        None => wrong(Unsupported::Value("total_refunded")),
        left => Ok(left),
    }
}

fn new_amount(update: &SaleUpdate) -> Result<Money, Error> {
    let missing = Error::Unsupported(Unsupported::MissingField("amount"));
    update.amount().ok_or(missing)
}

/// Returns what is listed of the conversion's amount, in the currency of `amount`.
fn listed_amount(
    conversion: &ListedConversion,
    amount: Money,
    answer: &Answer,
) -> Result<Money, Error> {
    let is_other = |currency: &str| !currency.eq_ignore_ascii_case(amount.currency());
    if conversion.currency().is_some_and(is_other) {
        return Err(Error::Unsupported(Unsupported::RefundInOtherCurrency));
    }
    let listed = conversion.amount().ok_or_else(|| answer.unreadable())?;
    Money::new(listed, amount.currency()).map_err(|_| answer.unreadable())
}

/// Returns the IDs of a conversion's commissions, where they are listed.
fn commissions(conversion: &ListedConversion) -> Option<Vec<String>> {
    let json = conversion.json();
    let list = json.get("commissions")?.as_array()?;
    let id = |commission: &serde_json::Value| match commission.get("id")? {
        serde_json::Value::String(id) => Some(id.clone()),
        serde_json::Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    list.iter().map(id).collect()
}

impl ReportApi for Tapfiliate {
    type Stage = Stage;

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<Stage>, Error> {
        let mut taken = vec![
            "coupon",
            "metadata",
            "signed_up_at",
            "product",
            "product_type",
            "interval",
            "commission_type",
            "paid_at",
        ];
        match report {
            Report::Sale(_) => taken.extend(["ip", "user_agent"]),
            // What a conversion's metadata is can't be changed by the same call.
            Report::SaleUpdate(update) => {
                new_amount(update)?;
                taken.clear();
            }
            // What was deleted is gone, and nothing says which amount is right if it wasn't.
            Report::RefundReversal(reversal)
                if left_after(reversal)?.is_none() && !self.disapprove_refunds =>
            {
                return Err(Error::Unsupported(Unsupported::Kind(report.kind())));
            }
            Report::Cancellation(_) => {
                return Err(Error::Unsupported(Unsupported::Kind(report.kind())));
            }
            _ => {}
        }
        report.refuse_fields_except(&taken)?;
        match report {
            Report::SignUp(_) | Report::Sale(_) => Ok(self
                .tell(report, 0)?
                .unwrap_or_else(|| Receipt::not_attributed().into())),
            _ => Ok(Step::send(self.look_up(report), Stage(At::LookedUp))),
        }
    }

    fn next(
        &self,
        report: &Report,
        _: &PlatformIds,
        stage: Stage,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        match stage.0 {
            At::Told(at) => self.told(report, at, answer),
            At::Refused(at, error) => self.refused(report, at, error, answer),
            At::LookedUp => self.change(report, answer),
            // Somebody else was faster. What is gone by now can't be given back.
            At::Changed(_) if answer.is_gone() && !matches!(report, Report::RefundReversal(_)) => {
                Ok(Receipt::duplicate().into())
            }
            At::Changed(commissions) => {
                let mark = answer.shows_or_is_empty(["/id"])?;
                Ok(self.next_commission(commissions, true, Some(mark)))
            }
            At::Commission(left, mut done) => {
                if !answer.is_gone() {
                    done = Some(answer.shows_or_is_empty(["/id"])?);
                }
                let is_approved = matches!(report, Report::RefundReversal(_));
                Ok(self.next_commission(left, is_approved, done))
            }
        }
    }

    /// Customers and conversions are unique by our IDs, a whole refund finds nothing the second time,
    /// and an amount that is set twice is the same. What is taken from an amount would be so twice.
    fn deduplicates(&self, report: &Report) -> bool {
        match report {
            Report::Refund(refund) => refund.amount().is_none() || refund.left().is_some(),
            _ => true,
        }
    }

    fn check_request(&self) -> Option<Request<Bytes>> {
        Some(self.endpoint.get("/conversions/?page=1"))
    }
}

impl<T: Transport> Client<Tapfiliate, T> {
    /// Lists all conversions. *Documented nowhere:* where the list ends; it is read until a page is
    /// empty or the same as the one before.
    pub fn list_conversions(&self) -> Pages<ListedConversion> {
        let endpoint = self.platform().endpoint.clone();
        let ask = move |page, _| {
            let path = format!("/conversions/?page={page}");
            endpoint.get_list(&path, CONVERSIONS)
        };
        Pages::counted(self, ask, CONVERSIONS, ListedConversion::read)
    }
}
