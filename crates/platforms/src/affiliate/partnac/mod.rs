//! Partnac. Paths and request fields are documented; statuses, error bodies and the shape of
//! answers are not. An ID is taken for a success, at the top or under `data`; where a change has none,
//! a 204 is; and a conversion that is answered otherwise is looked for in the list.

mod clicks;
mod lists;
mod settings;
mod wire;

use http::Request;
use tower_referral::{ClickId, ReferralKey};

pub use self::clicks::{Landing, click_id_cookie};
pub use self::lists::{Filter, ListedClick};
use self::lists::{Found, find};
pub use self::settings::Partnac;
use self::wire::{Credited, unique_id};
use crate::report::Details;
use crate::{Answer, Error, PlatformIds, Receipt, Report, ReportApi, Step, Unsupported};

/// Where an exchange with Partnac is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage(At);

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// A conversion was sent, credited by the try of this number.
    Told(usize),
    /// It was refused with this error, and the list is looked through for it.
    Refused(Error, Position),
    Refund,
    /// The list is looked through for a refund.
    RefundLookUp(Position),
    Update,
}

/// How far the list was looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    pages: u8,
    offset: usize,
}

/// Where an answer may have the ID of a conversion.
const CONVERSION: [&str; 6] = [
    "/conversion_id",
    "/id",
    "/unique_id",
    "/data/conversion_id",
    "/data/id",
    "/data/unique_id",
];
/// Where an answer may have the ID of a refund.
const REFUND: [&str; 4] = ["/refund_id", "/id", "/data/refund_id", "/data/id"];

/// The most pages of a hundred conversions that are looked through.
const MAX_PAGES: u8 = 10;

impl Partnac {
    /// Returns what a report can be credited by, in the order in which it is tried.
    fn tries<'a>(&self, details: &'a Details) -> Vec<Credited<'a>> {
        let credit = details.credit();
        let key = credit
            .and_then(|credit| credit.key())
            .map(ReferralKey::as_str);
        let click_id = credit.and_then(|credit| credit.click_id());
        let click_id = click_id.map(ClickId::as_str);
        // A click ID is of its key and of no other code.
        let by_click = key.filter(|_| click_id.is_some()).map(|code| Credited {
            code,
            session_id: click_id,
        });
        let by = |code| Credited {
            code,
            session_id: None,
        };
        let by_key = key.map(by);
        let by_coupon = details.coupon.as_deref().map(by);
        let order = if self.coupon_wins {
            [by_coupon, by_click, by_key]
        } else {
            [by_click, by_key, by_coupon]
        };
        order.into_iter().flatten().collect()
    }

    /// Returns the conversion, credited by the try of this number; `None` if there is none.
    fn convert(&self, report: &Report, at: usize) -> Result<Option<Step<Stage>>, Error> {
        let Some(details) = report.details() else {
            return Err(Error::Unsupported(Unsupported::Kind(report.kind())));
        };
        let Some(by) = self.tries(details).get(at).copied() else {
            return Ok(None);
        };
        let request = match report {
            Report::SignUp(sign_up) => self.lead(sign_up, by)?,
            Report::Sale(sale) => self.sale(sale, by)?,
            _ => return Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        };
        Ok(Some(Step::send(request, Stage(At::Told(at)))))
    }

    fn told(&self, report: &Report, at: usize, answer: &Answer) -> Result<Step<Stage>, Error> {
        if answer.is_conflict() {
            return Ok(Receipt::duplicate().into());
        }
        let error = match answer.shows(CONVERSION) {
            Ok(mark) => {
                let ids = PlatformIds {
                    sale: answer.id(["conversion_id", "id"]),
                    ..PlatformIds::default()
                };
                return Ok(Receipt::recorded(mark).with_ids(ids).into());
            }
            Err(error) => error,
        };
        // Where the ID is in an answer is documented nowhere; the list has it.
        let is_unclear = answer.accepted_json().is_ok();
        if !answer.is_refused() && !is_unclear {
            return Err(error);
        }
        let next = if is_unclear {
            None
        } else {
            self.convert(report, at + 1)?
        };
        match next {
            Some(next) => Ok(next),
            None => {
                let from = Position::default();
                let request = self.page(report, from);
                Ok(Step::send(request, Stage(At::Refused(error, from))))
            }
        }
    }

    fn page(&self, report: &Report, position: Position) -> Request<bytes::Bytes> {
        let campaign = report.details().and_then(|it| it.campaign.as_deref());
        let filter = match campaign {
            Some(campaign) => Filter::all().campaign(campaign),
            None => Filter::all(),
        };
        self.list_request("conversions", &filter, position.offset)
    }

    /// Returns the next page's position, if one is to be looked through.
    fn after(position: Position, len: usize) -> Option<Position> {
        (len > 0 && position.pages + 1 < MAX_PAGES).then(|| Position {
            pages: position.pages + 1,
            offset: position.offset + len,
        })
    }

    fn looked_for_refused(
        &self,
        report: &Report,
        refusal: Error,
        position: Position,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let id = unique_id(report).unwrap_or_default();
        match find(answer, &id, |_| true) {
            Ok(Found::Yes) => Ok(Receipt::duplicate().into()),
            Ok(Found::Not { len }) => match Self::after(position, len) {
                Some(next) => {
                    let request = self.page(report, next);
                    Ok(Step::send(request, Stage(At::Refused(refusal, next))))
                }
                None => Err(refusal),
            },
            // The list is down: the same report may be sent again, and asked for again.
            Err(error) if error.advice(true) != crate::Advice::Permanent => match error {
                Error::Unreadable { .. } => Err(refusal),
                error => Err(error),
            },
            Err(_) => Err(refusal),
        }
    }

    fn looked_for_refund(
        &self,
        report: &Report,
        position: Position,
        answer: &Answer,
    ) -> Result<Step<Stage>, Error> {
        let Report::Refund(refund) = report else {
            return Err(Error::NotListed);
        };
        let (order, id) = (refund.order(), refund.id().unwrap_or_default());
        match find(answer, order, |listed| lists::has_refund(listed, id))? {
            Found::Yes => Ok(Receipt::duplicate().into()),
            Found::Not { len } => match Self::after(position, len) {
                Some(next) => {
                    let request = self.page(report, next);
                    Ok(Step::send(request, Stage(At::RefundLookUp(next))))
                }
                None => Err(Error::NotListed),
            },
        }
    }
}

impl ReportApi for Partnac {
    type Stage = Stage;

    fn begin(&self, report: &Report, _: &PlatformIds) -> Result<Step<Stage>, Error> {
        report.refuse_fields_except(&[
            "coupon",
            "tags",
            "referral_url",
            "campaign",
            "action",
            "ip",
            "user_agent",
            "metadata",
            "signed_up_at",
            "product",
            "product_type",
            "interval",
            "commission_type",
            "paid_at",
            "reverse_paid_earnings",
            "new_order",
        ])?;
        match report {
            Report::Refund(refund) => Ok(Step::send(self.refund(refund)?, Stage(At::Refund))),
            Report::SaleUpdate(update) => Ok(Step::send(self.update(update), Stage(At::Update))),
            _ => Ok(self
                .convert(report, 0)?
                .unwrap_or_else(|| Receipt::not_attributed().into())),
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
            At::Refused(error, position) => {
                self.looked_for_refused(report, error, position, answer)
            }
            At::RefundLookUp(position) => self.looked_for_refund(report, position, answer),
            // No such conversion: it was credited to nobody, or isn't there yet.
            At::Refund | At::Update if answer.is_not_found() => {
                Ok(Receipt::not_attributed().into())
            }
            At::Refund => {
                let mark = answer.shows_or_is_empty(REFUND)?;
                let ids = PlatformIds {
                    refund: mark.id(),
                    ..PlatformIds::default()
                };
                Ok(Receipt::recorded(mark).with_ids(ids).into())
            }
            At::Update => {
                let mark = answer.shows_or_is_empty(CONVERSION)?;
                Ok(Receipt::recorded(mark).into())
            }
        }
    }

    /// Conversions are unique by `unique_id`, and the same change twice is one change; nothing is
    /// said about refunds.
    fn deduplicates(&self, report: &Report) -> bool {
        !matches!(report, Report::Refund(_))
    }

    fn settle(&self, report: &Report, _: &PlatformIds) -> Option<Step<Stage>> {
        match report {
            // A refund without an ID is told from no other.
            Report::Refund(refund) => refund.id()?,
            _ => return None,
        };
        let from = Position::default();
        let request = self.page(report, from);
        Some(Step::send(request, Stage(At::RefundLookUp(from))))
    }

    fn check_request(&self) -> Option<Request<bytes::Bytes>> {
        Some(self.endpoint.get("/conversions?limit=1&offset=0"))
    }
}
