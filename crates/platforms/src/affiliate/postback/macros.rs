//! The macros of a postback: their names, which report has which, and their values.

use std::borrow::Cow;

use tower_referral::{ClickId, ReferralKey};

use crate::{Error, Money, PlatformId, PlatformIds, Report, Unsupported};

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sale,
    SignUp,
    Refund,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::SignUp => "sign_up",
            Self::Refund => "refund",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Macro {
    ClickId,
    Key,
    PartnerId,
    Source,
    Order,
    Customer,
    Amount,
    AmountMinor,
    Currency,
    Event,
    Coupon,
    Refund,
    Report,
    Reason,
    Email,
    Name,
    Surname,
    Ip,
    UserAgent,
    ReferralUrl,
    Campaign,
    Product,
    ProductType,
    CommissionType,
    Interval,
    Time,
    /// An extra parameter that the layer kept, or a fact of the report's metadata.
    Extra(String),
}

const MACROS: [(&str, Macro); 26] = [
    ("click_id", Macro::ClickId),
    ("key", Macro::Key),
    ("partner_id", Macro::PartnerId),
    ("source", Macro::Source),
    ("order", Macro::Order),
    ("customer", Macro::Customer),
    ("amount", Macro::Amount),
    ("amount_minor", Macro::AmountMinor),
    ("currency", Macro::Currency),
    ("event", Macro::Event),
    ("coupon", Macro::Coupon),
    ("refund", Macro::Refund),
    ("report", Macro::Report),
    ("reason", Macro::Reason),
    ("email", Macro::Email),
    ("name", Macro::Name),
    ("surname", Macro::Surname),
    ("ip", Macro::Ip),
    ("user_agent", Macro::UserAgent),
    ("referral_url", Macro::ReferralUrl),
    ("campaign", Macro::Campaign),
    ("product", Macro::Product),
    ("product_type", Macro::ProductType),
    ("commission_type", Macro::CommissionType),
    ("interval", Macro::Interval),
    ("time", Macro::Time),
];

impl Macro {
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut macros = MACROS.into_iter();
        macros.find_map(|(known, of)| (known == name).then_some(of))
    }

    /// Returns `true` if a report of this kind has it.
    pub(super) fn is_in(&self, kind: Kind) -> bool {
        match self {
            Self::ClickId | Self::Customer | Self::Event | Self::Report | Self::Time => true,
            Self::Order | Self::Amount | Self::AmountMinor | Self::Currency => kind != Kind::SignUp,
            Self::Refund | Self::Reason => kind == Kind::Refund,
            Self::Product | Self::ProductType | Self::CommissionType | Self::Interval => {
                kind == Kind::Sale
            }
            _ => kind != Kind::Refund,
        }
    }

    /// Returns the value in this report; empty where the report has none and needs none.
    pub(super) fn value<'a>(
        &self,
        report: &'a Report,
        ids: &'a PlatformIds,
    ) -> Result<Cow<'a, str>, Error> {
        let (credit, details) = (report.credit(), report.details());
        let contact = details.map(|details| &details.contact);
        let sale = match report {
            Report::Sale(sale) => Some(sale),
            _ => None,
        };
        let text: Option<&str> = match self {
            Self::ClickId => return Ok(click_id(report, ids).unwrap_or_default().into()),
            Self::Key => credit.and_then(|of| of.key()).map(ReferralKey::as_str),
            Self::PartnerId => credit
                .and_then(|of| of.partner_id())
                .map(PlatformId::as_str),
            Self::Source => credit.and_then(|of| of.source()),
            Self::Order => report.order(),
            Self::Customer => report.customer(),
            Self::Amount => return Ok(money(report)?.amount().into()),
            Self::AmountMinor => {
                let value = Error::Unsupported(Unsupported::Value("amount"));
                return Ok(money(report)?.to_minor().ok_or(value)?.to_string().into());
            }
            Self::Currency => return Ok(money(report)?.currency().to_owned().into()),
            Self::Event => details
                .and_then(|of| of.action.as_deref())
                .or_else(|| Some(report.kind())),
            Self::Coupon => report.coupon(),
            Self::Refund => match report {
                Report::Refund(refund) => match refund.id() {
                    Some(id) => Some(id),
                    None => return Ok(report.id().into()),
                },
                _ => None,
            },
            Self::Report => return Ok(report.id().into()),
            Self::Reason => match report {
                Report::Refund(refund) => refund.reason(),
                _ => None,
            },
            Self::Email => contact.and_then(|of| of.email.as_deref()),
            Self::Name => contact.and_then(|of| of.name.as_deref()),
            Self::Surname => contact.and_then(|of| of.surname.as_deref()),
            Self::Ip => {
                let ip = details.and_then(|of| of.ip);
                return Ok(ip.map(|ip| ip.to_string()).unwrap_or_default().into());
            }
            Self::UserAgent => details.and_then(|of| of.user_agent.as_deref()),
            Self::ReferralUrl => details.and_then(|of| of.referral_url.as_deref()),
            Self::Campaign => details.and_then(|of| of.campaign.as_deref()),
            Self::Product => sale.and_then(|sale| sale.product()),
            Self::ProductType => sale.and_then(|sale| sale.product_type()),
            Self::CommissionType => sale.and_then(|sale| sale.commission_type()),
            Self::Interval => sale.and_then(|sale| sale.interval()),
            Self::Time => {
                let time = match report {
                    Report::Sale(sale) => sale.paid_at(),
                    Report::SignUp(sign_up) => sign_up.signed_up_at(),
                    Report::Refund(refund) => refund.refunded_at(),
                    _ => None,
                };
                let time = time.map(|time| time.unix_timestamp().to_string());
                return Ok(time.unwrap_or_default().into());
            }
            Self::Extra(name) => {
                let fact = || match details?.metadata.get(name)? {
                    serde_json::Value::String(text) => Some(Cow::from(text)),
                    serde_json::Value::Null => None,
                    other => Some(other.to_string().into()),
                };
                let extra = credit.and_then(|of| of.extra(name)).map(Cow::from);
                return Ok(extra.or_else(fact).unwrap_or_default());
            }
        };
        Ok(text.unwrap_or_default().into())
    }
}

/// Returns the click ID: the report's own, or the one that was sent with what it belongs to.
pub(super) fn click_id<'a>(report: &'a Report, ids: &'a PlatformIds) -> Option<&'a str> {
    let own = report.credit().and_then(|credit| credit.click_id());
    let own = own.map(ClickId::as_str);
    own.or_else(|| ids.click.as_ref().map(PlatformId::as_str))
}

/// Returns the amount, which a whole refund doesn't always have.
fn money(report: &Report) -> Result<Money, Error> {
    match report {
        Report::Sale(sale) => Ok(sale.amount()),
        Report::Refund(refund) => {
            let missing = Error::Unsupported(Unsupported::MissingField("sale_amount"));
            refund.known_amount().ok_or(missing)
        }
        _ => Err(Error::Unsupported(Unsupported::MissingField("amount"))),
    }
}

/// Returns the name of a macro that isn't an extra parameter's.
pub(super) fn name_of(wanted: &Macro) -> &'static str {
    let mut macros = MACROS.iter();
    let found = macros.find_map(|(name, of)| (of == wanted).then_some(*name));
    found.unwrap_or_default()
}
