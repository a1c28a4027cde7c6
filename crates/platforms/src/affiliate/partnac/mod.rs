//! Partnac. Paths and request fields are documented; statuses, error bodies and the shape of
//! answers are not.

mod clicks;
mod lists;
mod wire;

use http::Request;
use http::header::AUTHORIZATION;
use tower_referral::{ClickId, ReferralKey};

pub use self::clicks::{Landing, click_id_cookie};
pub use self::lists::{Filter, ListedClick};
use self::lists::{Found, find};
use self::wire::{Credited, unique_id};
use crate::endpoint::Endpoint;
use crate::report::Details;
use crate::{
    Answer, BaseUrl, ConfigError, Error, Outcome, PlatformIds, Receipt, Report, ReportApi, Step,
    Unsupported,
};

/// The Partnac platform: `https://api.partnac.com/v1/tracking`, with the API key as a bearer token.
///
/// A sign-up is a conversion of type `lead` under the unique ID `signup:CUSTOMER`, so that a
/// customer and an order of the same ID are two things; a sale is a conversion of type `sale`, or
/// `subscription` where it is a payment of one, under the order's ID. A report's
/// [action](crate::Sale::with_action) is another type: `sale`, `lead`, `referral`, `subscription` or
/// `custom`. Both are credited by the referral key together with the click ID; without a key, by the
/// coupon ([`coupon_wins`](Self::coupon_wins) turns that round). E-mail addresses and names aren't
/// sent.
///
/// *Documented nowhere:* the statuses and shapes of all answers. A JSON 409 is
/// [`Outcome::Duplicate`]. A conversion that is refused in JSON (a 4xx other than 401, 402, 403, 408
/// and 429, or a 2xx whose body says no) is sent once more without its click ID, and then with the
/// coupon in the key's place, where there is one. If it is refused for good, the last 1000
/// conversions of the list are looked through for its unique ID: there, it is a duplicate; not
/// there, the refusal is a permanent failure, for a person to look at. A refund whose outcome is
/// unknown is looked for in the same way, by its [ID](crate::Refund::with_id).
#[derive(Clone, Debug)]
pub struct Partnac {
    endpoint: Endpoint,
    keep_paid_earnings: bool,
    coupon_wins: bool,
}

impl Partnac {
    /// Creates Partnac, with an API key of your account.
    ///
    /// # Errors
    ///
    /// The API key is empty or can't stand in a header.
    pub fn new(api_key: impl AsRef<str>) -> Result<Self, ConfigError> {
        let base_url = "https://api.partnac.com/v1/tracking";
        let endpoint = Endpoint::new(base_url, AUTHORIZATION, "Bearer ", api_key.as_ref())?;
        Ok(Self {
            endpoint,
            keep_paid_earnings: false,
            coupon_wins: false,
        })
    }

    /// Sets another base URL, for instance that of a stand-in in tests.
    ///
    /// # Errors
    ///
    /// The text isn't a [`BaseUrl`]: neither `https`, nor plain `http` to this machine.
    pub fn base_url<U>(self, url: U) -> Result<Self, ConfigError>
    where
        U: TryInto<BaseUrl>,
        ConfigError: From<U::Error>,
    {
        let endpoint = self.endpoint.with_base_url(url)?;
        Ok(Self { endpoint, ..self })
    }

    /// Leaves partners what was paid out to them already when money goes back
    /// (`reverse_paid_earnings`, on by Partnac's default), unless a refund
    /// [says otherwise](crate::Refund::with_reverse_paid_earnings).
    #[must_use]
    pub fn keep_paid_earnings(mut self) -> Self {
        self.keep_paid_earnings = true;
        self
    }

    /// Credits whom the coupon belongs to where a report has both a coupon and a referral; by
    /// default the referral wins. What loses is tried if the other is refused.
    #[must_use]
    pub fn coupon_wins(mut self) -> Self {
        self.coupon_wins = true;
        self
    }
}

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
            return Ok(Outcome::Duplicate.into());
        }
        let Err(error) = answer.accepted_json() else {
            let ids = PlatformIds {
                sale: answer.id(["conversion_id", "id"]),
                ..PlatformIds::default()
            };
            return Ok(Receipt::new(Outcome::Recorded).with_ids(ids).into());
        };
        if !answer.is_refused() {
            return Err(error);
        }
        match self.convert(report, at + 1)? {
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
            Ok(Found::Yes) => Ok(Outcome::Duplicate.into()),
            Ok(Found::Not { len }) => match Self::after(position, len) {
                Some(next) => {
                    let request = self.page(report, next);
                    Ok(Step::send(request, Stage(At::Refused(refusal, next))))
                }
                None => Err(refusal),
            },
            // The list is away: the same report may be sent again, and asked for again.
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
            Found::Yes => Ok(Outcome::Duplicate.into()),
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
                .unwrap_or_else(|| Outcome::NotAttributed.into())),
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
            At::Refund | At::Update if answer.is_not_found() => Ok(Outcome::NotAttributed.into()),
            At::Refund => {
                // Nothing is said about the answer, so it may be empty; a page is none.
                answer.read_or_default::<Option<serde::de::IgnoredAny>>()?;
                let ids = PlatformIds {
                    refund: answer.id(["refund_id", "id"]),
                    ..PlatformIds::default()
                };
                Ok(Receipt::new(Outcome::Recorded).with_ids(ids).into())
            }
            At::Update => {
                answer.accepted()?;
                Ok(Outcome::Recorded.into())
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
