//! The generic postback, which every tracker and network takes: a URL of the user's with macros,
//! called once for each sale, sign-up or refund.

mod macros;
mod problem;
mod rules;
mod template;

use std::fmt;

use self::macros::{Kind, Macro, click_id};
pub use self::problem::Problem;
pub use self::rules::Body;
use self::rules::Rules;
use self::template::{Template, is_name, shown};
use crate::base_url::is_this_machine;
use crate::{
    Answer, ConfigError, Error, PlatformId, PlatformIds, Receipt, Report, ReportApi, Step,
    Unsupported,
};

/// A tracker that takes postbacks: TUNE, Everflow, Voluum, Binom, Keitaro and the like.
///
/// ```
/// use tower_referral_platforms::Postback;
/// use tower_referral_platforms::affiliate::postback::{Body, DeduplicatedBy};
///
/// # fn main() -> Result<(), tower_referral_platforms::ConfigError> {
/// let tracker = Postback::builder(
///     "https://tracker.example/postback?cid={click_id}&txid={order}&payout={amount}&cur={currency}\
///      &sub1={sub1}&token=SECRET",
/// )
/// .extra_params(["sub1"]) // kept by the layer, as `Program::extra_params` says
/// .refunds("https://tracker.example/refund?cid={click_id}&txid={order}&amount={amount}&token=SECRET")
/// .success_if(Body::contains("success=true;"))
/// .deduplicated_by(DeduplicatedBy::Order) // only where the tracker's documentation says so
/// .build()?;
/// # Ok(())
/// # }
/// ```
///
/// | macro | what is put in its place |
/// |---|---|
/// | `{click_id}`, `{key}`, `{partner_id}`, `{source}` | who is credited; sales and sign-ups, the click ID in refunds too |
/// | `{order}`, `{customer}`, `{coupon}`, `{campaign}` | the shop's IDs |
/// | `{amount}`, `{amount_minor}`, `{currency}` | `99.9`, `9990`, `EUR`; of a refund what went back |
/// | `{event}` | the report's action where it has one, or else `sale`, `sign_up`, `refund` |
/// | `{refund}`, `{reason}` | of a refund: its own ID, which that of another order may have too (that of the report where it has none), and why |
/// | `{report}` | the report's ID, which no other has: [`Report::id`] |
/// | `{product}`, `{product_type}`, `{commission_type}`, `{interval}` | of a sale |
/// | `{email}`, `{name}`, `{surname}`, `{ip}`, `{user_agent}`, `{referral_url}` | of the customer: only what the template names is sent |
/// | `{time}` | when it happened, in seconds of Unix time, where the report says it |
/// | `{NAME}` | an [extra parameter](Builder::extra_params) that the layer kept, or metadata of this name |
///
/// Macros stand in the values of the query. What is put in is percent-encoded down to the unreserved
/// characters; where a report has none, it is empty. A sale or a sign-up without a click ID is
/// [`Outcome::NotAttributed`](crate::Outcome::NotAttributed), and nothing is sent. A refund whose template
/// has `{click_id}` is [`Error::MissingId`] without one, unless
/// [nobody was credited](crate::ReportRequest::sale_is_unrecorded) with the sale.
///
/// A receipt has the click ID among its [`PlatformIds`], by which a queue that hands them on gives it
/// to renewals and refunds, which have none of their own.
///
/// The answer is a success if its status is 2xx, its body isn't an HTML page and doesn't say no as
/// JSON, and all that [`success_if`](Builder::success_if) says holds. Without such a rule the status
/// alone shows a success: where a tracker refuses with a 200, say what it answers to what it takes.
/// Nothing is taken to be
/// deduplicated unless [`deduplicated_by`](Builder::deduplicated_by) says so: a request whose outcome
/// is unknown, a `GET` too, is for a person to look at and isn't repeated.
///
/// The URL appears in no log, no `Debug` and no error.
#[derive(Clone)]
pub struct Postback {
    sale: Template,
    sign_up: Option<Template>,
    refund: Option<Template>,
    rules: Rules,
    deduplicated_by: Vec<DeduplicatedBy>,
}

/// The field by which a tracker recognises a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeduplicatedBy {
    /// Sales by `{order}`.
    Order,
    /// Sign-ups by `{customer}`.
    Customer,
    /// Refunds by `{report}`, an ID that no refund of another order has.
    Refund,
    /// Sales and sign-ups by `{click_id}`: the tracker keeps one of each for a click, and drops
    /// renewals.
    ClickId,
}

impl Postback {
    /// Begins a postback with the template of a sale. It needs `{click_id}` and `{order}`.
    pub fn builder(sale: impl Into<String>) -> Builder {
        Builder {
            sale: sale.into(),
            sign_up: None,
            refund: Refunds::Undecided,
            is_form: false,
            is_plain_http: false,
            extra: Vec::new(),
            rules: Rules::default(),
            deduplicated_by: Vec::new(),
        }
    }

    fn template(&self, report: &Report) -> Result<Option<&Template>, Error> {
        match report {
            Report::Sale(_) => Ok(Some(&self.sale)),
            Report::SignUp(_) => Ok(self.sign_up.as_ref()),
            Report::Refund(refund) => {
                let none = Error::Unsupported(Unsupported::Kind(report.kind()));
                let template = self.refund.as_ref().ok_or(none)?;
                let has_amount = template.has(&Macro::Amount) || template.has(&Macro::AmountMinor);
                if refund.amount().is_some() && !has_amount {
                    // The tracker would take all of it back.
                    return Err(Error::Unsupported(Unsupported::PartialRefund));
                }
                Ok(Some(template))
            }
            _ => Err(Error::Unsupported(Unsupported::Kind(report.kind()))),
        }
    }
}

/// Builds a [`Postback`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    sale: String,
    sign_up: Option<String>,
    refund: Refunds,
    is_form: bool,
    is_plain_http: bool,
    extra: Vec<String>,
    rules: Rules,
    deduplicated_by: Vec<DeduplicatedBy>,
}

#[derive(Clone)]
enum Refunds {
    Undecided,
    Never,
    By(String),
}

impl Builder {
    /// Sets the template of a sign-up, which needs `{click_id}` and `{customer}`. Without one,
    /// sign-ups aren't sent, and are [`Outcome::NotAttributed`](crate::Outcome::NotAttributed).
    pub fn sign_ups(mut self, template: impl Into<String>) -> Self {
        self.sign_up = Some(template.into());
        self
    }

    /// Sets the template of a refund, which needs `{order}`. Without `{amount}` or `{amount_minor}`
    /// it takes whole refunds only; with one, a whole refund needs
    /// [`with_sale_amount`](crate::Refund::with_sale_amount).
    pub fn refunds(mut self, template: impl Into<String>) -> Self {
        self.refund = Refunds::By(template.into());
        self
    }

    /// Says that the tracker takes no refunds: each is an error, for a person to do by hand there.
    pub fn without_refunds(mut self) -> Self {
        self.refund = Refunds::Never;
        self
    }

    /// Sends the queries of the templates as a form (`POST`) instead of a `GET`.
    pub fn post_form(mut self) -> Self {
        self.is_form = true;
        self
    }

    /// Allows plain `http` to any host, for a stand-in on a network of your own: whoever reads that
    /// network's traffic reads what the templates hold.
    pub fn plain_http(mut self) -> Self {
        self.is_plain_http = true;
        self
    }

    /// Names extra parameters that the templates have as macros: those that the layer keeps
    /// ([`Program::extra_params`](tower_referral::Program::extra_params)), or names of metadata.
    pub fn extra_params<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.extra.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds what the body of a success says. All of it must hold.
    pub fn success_if(mut self, body: Body) -> Self {
        self.rules.success.push(body);
        self
    }

    /// Adds what the body says of a report that the tracker has already, whether its status is 2xx
    /// or 4xx.
    pub fn duplicate_if(mut self, body: Body) -> Self {
        self.rules.duplicate.push(body);
        self
    }

    /// Adds what the body says of a click that the tracker doesn't know, whether its status is 2xx
    /// or 4xx.
    pub fn not_attributed_if(mut self, body: Body) -> Self {
        self.rules.not_attributed.push(body);
        self
    }

    /// Says by which field the tracker recognises a duplicate, so that a report is sent again where
    /// nobody knows whether it arrived.
    pub fn deduplicated_by(mut self, field: DeduplicatedBy) -> Self {
        self.deduplicated_by.push(field);
        self
    }

    /// Checks the templates, and builds the postback.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidPostback`]: a URL isn't `https`, a macro is unknown or missing, it
    /// wasn't said what is to be done about refunds, or something else of [`Problem`].
    pub fn build(self) -> Result<Postback, ConfigError> {
        let refused = |kind: Kind| {
            move |problem| ConfigError::InvalidPostback {
                template: kind.name(),
                problem,
            }
        };
        let is_usable = |name: &String| is_name(name) && Macro::named(name).is_none();
        if let Some(name) = self.extra.iter().find(|name| !is_usable(name)) {
            let name = shown(name);
            return Err(refused(Kind::Sale)(Problem::InvalidExtra { name }));
        }
        let may_be_plain: fn(&str) -> bool = if self.is_plain_http {
            |host| !host.is_empty()
        } else {
            is_this_machine
        };
        let read = |text: &str, kind| {
            Template::new(text, kind, &self.extra, self.is_form, may_be_plain)
                .map_err(refused(kind))
        };
        let sale = read(&self.sale, Kind::Sale)?;
        let sign_up = self.sign_up.as_deref();
        let sign_up = sign_up.map(|text| read(text, Kind::SignUp)).transpose()?;
        let refund = match &self.refund {
            Refunds::Undecided => return Err(refused(Kind::Refund)(Problem::RefundsUndecided)),
            Refunds::Never => None,
            Refunds::By(text) => Some(read(text, Kind::Refund)?),
        };
        if !self.rules.are_valid() {
            return Err(refused(Kind::Sale)(Problem::InvalidRule));
        }
        for field in &self.deduplicated_by {
            let (kind, is_sent) = match field {
                // Every sale has both, and every sign-up its customer.
                DeduplicatedBy::Order | DeduplicatedBy::ClickId => (Kind::Sale, true),
                DeduplicatedBy::Customer => (Kind::SignUp, sign_up.is_some()),
                DeduplicatedBy::Refund => {
                    let is_sent = |template: &Template| template.has(&Macro::Report);
                    (Kind::Refund, refund.as_ref().is_some_and(is_sent))
                }
            };
            if !is_sent {
                return Err(refused(kind)(Problem::UnsentField));
            }
        }
        Ok(Postback {
            sale,
            sign_up,
            refund,
            rules: self.rules,
            deduplicated_by: self.deduplicated_by,
        })
    }
}

impl ReportApi for Postback {
    type Stage = ();

    fn begin(&self, report: &Report, ids: &PlatformIds) -> Result<Step<()>, Error> {
        let Some(template) = self.template(report)? else {
            return Ok(Receipt::not_attributed().into());
        };
        if template.has(&Macro::ClickId) && click_id(report, ids).is_none() {
            return match report {
                // The tracker may have its sale.
                Report::Refund(_) => Err(Error::MissingId("click")),
                _ => Ok(Receipt::not_attributed().into()),
            };
        }
        if let Report::SignUp(sign_up) = report
            && sign_up.customer().is_none()
        {
            return Err(Error::Unsupported(Unsupported::MissingField("customer")));
        }
        Ok(Step::send(template.request(report, ids)?, ()))
    }

    fn next(
        &self,
        report: &Report,
        ids: &PlatformIds,
        (): (),
        answer: &Answer,
    ) -> Result<Step<()>, Error> {
        let receipt = self.rules.receipt(report, answer)?;
        let mut given = PlatformIds::default();
        if receipt.is_credited() {
            given.click = click_id(report, ids).and_then(PlatformId::new);
        }
        Ok(receipt.with_ids(given).into())
    }

    /// By the fields that the user named, and no others.
    fn deduplicates(&self, report: &Report) -> bool {
        let has = |field| self.deduplicated_by.contains(&field);
        match report {
            Report::Sale(_) => has(DeduplicatedBy::Order) || has(DeduplicatedBy::ClickId),
            Report::SignUp(_) => has(DeduplicatedBy::Customer) || has(DeduplicatedBy::ClickId),
            Report::Refund(_) => has(DeduplicatedBy::Refund),
            _ => false,
        }
    }
}

/// Shows nothing of the templates: they hold a secret.
impl fmt::Debug for Postback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postback")
            .field("takes_sign_ups", &self.sign_up.is_some())
            .field("takes_refunds", &self.refund.is_some())
            .field("rules", &self.rules)
            .field("deduplicated_by", &self.deduplicated_by)
            .finish_non_exhaustive()
    }
}

/// Shows nothing of the templates: they hold a secret.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}
