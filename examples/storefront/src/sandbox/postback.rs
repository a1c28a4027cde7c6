//! A stand-in for a tracker that takes postbacks: it answers 200 whatever it makes of a call and says
//! in the text what that was, as TUNE does, and recognises nothing that it gets twice.

use axum::http::{StatusCode, header};
use rust_decimal::Decimal;

use super::answer::{Answer, Verdict};
use super::call::{Call, is_currency, unescaped};
use super::{Records, StandIn, is_unknown};

/// The template of a sale, from the stand-in's origin on.
pub(super) const SALE: &str = "/postback?click_id={click_id}&key={key}&event={event}&order={order}\
    &customer={customer}&amount={amount}&currency={currency}&coupon={coupon}";
/// The template of a sign-up.
pub(super) const SIGN_UP: &str =
    "/postback?click_id={click_id}&key={key}&event={event}&customer={customer}";
/// The template of a refund.
pub(super) const REFUND: &str = "/refund?order={order}&refund={refund}&amount={amount}\
    &amount_minor={amount_minor}&currency={currency}";
/// What an answer says where the call was taken.
pub(super) const SUCCESS: &str = "success=true;";

const SALE_PARAMETERS: [&str; 8] = [
    "click_id", "key", "event", "order", "customer", "amount", "currency", "coupon",
];
const REFUND_PARAMETERS: [&str; 7] = [
    "order",
    "refund",
    "amount",
    "amount_minor",
    "currency",
    "click_id",
    "key",
];

/// Everything that the tracker remembers.
#[derive(Default)]
pub(super) struct Postback {
    conversions: Vec<String>,
    refunds: Vec<String>,
}

/// The parameters of a call, in their order.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query or a form whose values have every byte but the unreserved ones escaped.
    fn read(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut all = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(format!("{name} is no parameter of this account"));
            }
            if all.iter().any(|(found, _)| found == name) {
                return Err(format!("{name} came twice"));
            }
            if !is_escaped(value) {
                return Err(format!("{name} is not percent-encoded"));
            }
            all.push((name.to_owned(), unescaped(value)));
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let value = pairs.find(|(found, _)| found == name)?.1.as_str();
        (!value.is_empty()).then_some(value)
    }

    fn required(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("{name} is missing"))
    }

    fn currency(&self) -> Result<&str, String> {
        let currency = self.required("currency")?;
        is_currency(currency)
            .then_some(currency)
            .ok_or_else(|| "currency is none".to_owned())
    }
}

impl Postback {
    fn sale(&mut self, parameters: &Parameters) -> Result<(), String> {
        let by = parameters
            .get("click_id")
            .or_else(|| parameters.get("key"))
            .ok_or("click_id and key are missing")?;
        if is_unknown(by) {
            return Err("nobody has this click".to_owned());
        }
        let event = parameters.required("event")?;
        let amount = match parameters.get("amount") {
            Some(amount) => amount_of(amount)?,
            // A sign-up is worth nothing yet.
            None if event != "sale" => Decimal::ZERO,
            None => return Err("amount is missing".to_owned()),
        };
        if event == "sale" {
            parameters.required("order")?;
            parameters.currency()?;
        }
        let id = parameters
            .get("order")
            .or_else(|| parameters.get("customer"))
            .ok_or("order and customer are missing")?;
        let currency = parameters.get("currency").unwrap_or_default();
        let conversion = format!("{event} {id}: {amount} {currency} by {by}");
        self.conversions.push(conversion);
        Ok(())
    }

    fn refund(&mut self, parameters: &Parameters) -> Result<(), String> {
        let order = parameters.required("order")?;
        // A whole refund may come without an amount.
        let amount = match parameters.get("amount") {
            Some(amount) => format!("{} {}", amount_of(amount)?, parameters.currency()?),
            None => "all".to_owned(),
        };
        if let Some(minor) = parameters.get("amount_minor")
            && !minor.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err("amount_minor is no integer".to_owned());
        }
        let known = format!(" {order}: ");
        if !self.conversions.iter().any(|sale| sale.contains(&known)) {
            return Err("there is no such order".to_owned());
        }
        self.refunds.push(format!("{order}: {amount}"));
        Ok(())
    }
}

impl StandIn for Postback {
    fn answer(&mut self, call: &Call<'_>) -> Verdict {
        let body;
        let text = match call.method.as_str() {
            "GET" => call.uri.query().unwrap_or_default(),
            "POST" => {
                let form = "application/x-www-form-urlencoded";
                if call.header(header::CONTENT_TYPE.as_str()) != Some(form) {
                    return Err(refused("send a form"));
                }
                body = String::from_utf8_lossy(call.body);
                &body
            }
            _ => return Err(refused("send GET or POST")),
        };
        let taken = match call.uri.path() {
            "/postback" => Parameters::read(text, &SALE_PARAMETERS)
                .and_then(|parameters| self.sale(&parameters)),
            "/refund" => Parameters::read(text, &REFUND_PARAMETERS)
                .and_then(|parameters| self.refund(&parameters)),
            _ => return Err(Answer::text(StatusCode::NOT_FOUND, "no such postback")),
        };
        match taken {
            Ok(()) => Ok(Answer::text(StatusCode::OK, SUCCESS)),
            Err(problem) => Err(refused(&problem)),
        }
    }

    fn records(&self) -> Records {
        vec![
            ("Conversions", self.conversions.clone()),
            ("Refunds", self.refunds.clone()),
        ]
    }
}

fn refused(problem: &str) -> Answer {
    let text = format!("success=false; err_msg={problem};");
    Answer::text(StatusCode::OK, text)
}

/// Only unreserved characters stand for themselves (RFC 3986 section 2.3).
fn is_escaped(value: &str) -> bool {
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let is_right = match byte {
            b'%' => {
                let mut is_hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                is_hex() && is_hex()
            }
            b'-' | b'.' | b'_' | b'~' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !is_right {
            return false;
        }
    }
    true
}

/// An amount in major units.
fn amount_of(text: &str) -> Result<Decimal, String> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let amount = Decimal::from_str_exact(text).ok().filter(|_| is_plain);
    amount.ok_or_else(|| "amount is none".to_owned())
}
