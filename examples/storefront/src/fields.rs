//! What comes in: the fields of a form or of a JSON object, whichever the `Content-Type` says,
//! each checked by the one who asks for it. An error names the field and what to fix.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Form, Json};
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use tower_referral::ReferralKey;

use crate::answer::{Accept, Format, Problem};

/// No form is longer, in bytes.
pub(crate) const MAX_BODY_LEN: usize = 16 * 1024;
/// More digits behind the point than any currency has.
const MAX_SCALE: u32 = 4;
const MAX_AMOUNT: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);

/// The fields of a request's body, unchecked.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) accept: Accept,
    /// What the body was written in.
    pub(crate) format: Format,
    fields: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let accept = Accept::of(request.headers());
        let refuse = |status, message: String| Problem::new(accept, status, message);
        let unreadable = |status, what| {
            let message = match status {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    format!("the body is too long: send at most {MAX_BODY_LEN} bytes")
                }
                _ => format!("the body can't be read: send one complete {what}"),
            };
            refuse(status, message)
        };
        let format = body_format(request.headers()).ok_or_else(|| {
            refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send application/json or application/x-www-form-urlencoded, and say so in \
                 Content-Type"
                    .into(),
            )
        })?;
        let fields = match format {
            Format::Html => {
                let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
                form.map_err(|error| unreadable(error.status(), "form"))?.0
            }
            Format::Json => {
                let json = Json::<Map<String, Value>>::from_request(request, state).await;
                let Json(object) =
                    json.map_err(|error| unreadable(error.status(), "JSON object"))?;
                texts_of(object).map_err(|error| refuse(StatusCode::UNPROCESSABLE_ENTITY, error))?
            }
        };
        Ok(Self {
            accept,
            format,
            fields,
        })
    }
}

impl Fields {
    /// The parameters of a URL.
    pub(crate) fn of_query(accept: Accept, fields: Vec<(String, String)>) -> Self {
        Self {
            accept,
            format: Format::Html,
            fields,
        }
    }

    /// A field that must be there: 1 to `max_chars` characters, without blanks around it.
    pub(crate) fn text(&self, name: &str, max_chars: usize) -> Result<&str, Problem> {
        self.optional_text(name, max_chars)?
            .ok_or_else(|| self.refuse(format!("`{name}` is missing: send it, and not empty")))
    }

    /// A field that may be missing or empty.
    pub(crate) fn optional_text(
        &self,
        name: &str,
        max_chars: usize,
    ) -> Result<Option<&str>, Problem> {
        let Some(text) = self.raw(name)? else {
            return Ok(None);
        };
        let length = text.chars().count();
        if length > max_chars {
            Err(self.refuse(format!(
                "`{name}` has {length} characters, and at most {max_chars} are taken"
            )))
        } else if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
            Err(self.refuse(format!(
                "`{name}` has a control character or isn't UTF-8: send plain text"
            )))
        } else {
            Ok(Some(text))
        }
    }

    /// An e-mail address, as far as anyone can tell without writing to it.
    pub(crate) fn optional_email(&self, name: &str) -> Result<Option<&str>, Problem> {
        let email = self.optional_text(name, 254)?;
        match email.map(|email| email.split_once('@')) {
            None => Ok(None),
            Some(Some((user, host))) if !user.is_empty() && !host.is_empty() => Ok(email),
            Some(_) => Err(self.refuse(format!(
                "`{name}` is no e-mail address: write it as ada@example.com"
            ))),
        }
    }

    /// A referral key that may be missing or empty.
    pub(crate) fn optional_key(&self, name: &str) -> Result<Option<ReferralKey>, Problem> {
        let Some(text) = self.raw(name)? else {
            return Ok(None);
        };
        // It isn't shown: what isn't a key may be anything.
        text.parse().map(Some).map_err(|_| {
            self.refuse(format!(
                "`{name}` is no referral key: send 1 to 128 characters of A-Z a-z 0-9 . _ ~ - @ + : ="
            ))
        })
    }

    /// `true` or `false`; missing is `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.raw(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.refuse(format!("`{name}` must be true or false"))),
        }
    }

    /// An amount that may be missing or empty.
    pub(crate) fn optional_amount(&self, name: &str) -> Result<Option<Decimal>, Problem> {
        match self.raw(name)? {
            None => Ok(None),
            Some(_) => self.amount(name).map(Some),
        }
    }

    /// An amount of money in the currency's major unit, above zero.
    pub(crate) fn amount(&self, name: &str) -> Result<Decimal, Problem> {
        let text = self.text(name, 32)?;
        let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let amount = Decimal::from_str_exact(text).ok().filter(|_| is_plain);
        let is_sane = |amount: &Decimal| {
            *amount > Decimal::ZERO
                && *amount <= MAX_AMOUNT
                && amount.normalize().scale() <= MAX_SCALE
        };
        amount.filter(is_sane).ok_or_else(|| {
            self.refuse(format!(
                "`{name}` is no amount: write it as 49.90, above zero and at most {MAX_AMOUNT}, \
                 with at most {MAX_SCALE} digits behind the point"
            ))
        })
    }

    /// A currency by its ISO 4217 code, as far as its form goes.
    pub(crate) fn currency(&self, name: &str) -> Result<String, Problem> {
        let text = self.text(name, 32)?;
        if text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic()) {
            Ok(text.to_ascii_uppercase())
        } else {
            Err(self.refuse(format!(
                "`{name}` is no currency: send its code of three letters, for instance EUR"
            )))
        }
    }

    /// A field as it came, without blanks around it; `None` if it is missing or empty.
    pub(crate) fn raw(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.trim());
        match values.next() {
            None => Ok(value.filter(|value| !value.is_empty())),
            Some(_) => Err(self.refuse(format!("`{name}` was sent twice: send it once"))),
        }
    }

    pub(crate) fn refuse(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.accept, StatusCode::UNPROCESSABLE_ENTITY, message)
    }
}

/// A form is what browsers send, so it is answered in HTML unless the request says otherwise.
fn body_format(headers: &HeaderMap) -> Option<Format> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match content_type.split(';').next()?.trim() {
        essence if essence.eq_ignore_ascii_case("application/json") => Some(Format::Json),
        essence if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") => {
            Some(Format::Html)
        }
        _ => None,
    }
}

/// A JSON object's fields as a form would have them. Numbers are taken for amounts' sake, and `all` is
/// a flag.
fn texts_of(object: Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::with_capacity(object.len());
    for (name, value) in object {
        match value {
            Value::Null => {}
            Value::String(text) => fields.push((name, text)),
            Value::Number(number) => fields.push((name, number.to_string())),
            Value::Bool(flag) if name == "all" => fields.push((name, flag.to_string())),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(format!("`{name}` must be a string"));
            }
        }
    }
    Ok(fields)
}
