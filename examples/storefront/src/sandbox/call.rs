//! A call as the sandbox sees it, read strictly: what the real platforms ignore, an unknown field
//! for one, is refused here, because a client that sends it is mistaken.

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::Answer;

/// The answer to a call, or to one that is refused.
pub(super) type Verdict = Result<Answer, Answer>;
pub(super) type Fields = Map<String, Value>;

/// Keys and coupons that begin like this are nobody's, so that one can see what comes of a mistyped
/// link.
pub(super) const UNKNOWN: &str = "UNKNOWN";

/// One call.
pub(super) struct Call<'c> {
    pub(super) method: &'c Method,
    pub(super) uri: &'c Uri,
    pub(super) headers: &'c HeaderMap,
    pub(super) body: &'c [u8],
    /// How many calls there were, with this one.
    pub(super) number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    RequiredText,
    Text,
    Integer,
    /// Zero or more.
    RequiredAmount,
    Amount,
    Flag,
    RequiredObject,
    Object,
    List,
}

impl Call<'_> {
    /// Method and path below the platform's base, without the segments' escapes undone.
    pub(super) fn route(&self, base: &str) -> Option<(&str, Vec<&str>)> {
        let path = self.uri.path().strip_prefix(base)?.strip_prefix('/')?;
        Some((self.method.as_str(), path.split('/').collect()))
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self
            .uri
            .query()?
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .find(|pair| pair.0 == name)
            .map(|pair| unescaped(pair.1))
    }

    /// The call has this header, with this value.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.headers.get(name).is_some_and(|given| *given == *value)
    }

    /// The JSON object of a call, with fields of these kinds and no others.
    pub(super) fn fields(&self, known: &[(&str, Kind)]) -> Result<Fields, Answer> {
        if !self.has(header::CONTENT_TYPE.as_str(), "application/json") {
            let message = "send application/json";
            return Err(Answer::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let Ok(fields) = serde_json::from_slice::<Fields>(self.body) else {
            let message = "the body is not a JSON object";
            return Err(Answer::refusal(StatusCode::BAD_REQUEST, message));
        };
        check(&fields, "", known)?;
        Ok(fields)
    }
}

/// Refuses fields that aren't known, are of the wrong kind, or are missing.
pub(super) fn check(fields: &Fields, above: &str, known: &[(&str, Kind)]) -> Result<(), Answer> {
    for (name, value) in fields {
        let is_right = match known.iter().find(|(known, _)| known == name) {
            Some((_, Kind::RequiredText | Kind::Text)) => value.is_string() && value != "",
            Some((_, Kind::Integer)) => value.is_u64(),
            Some((_, Kind::RequiredAmount | Kind::Amount)) => decimal(value).is_some(),
            Some((_, Kind::Flag)) => value.is_boolean(),
            Some((_, Kind::RequiredObject | Kind::Object)) => value.is_object(),
            Some((_, Kind::List)) => value.is_array(),
            None => {
                return Err(Answer::invalid(
                    &format!("{above}{name}"),
                    "is not expected",
                ));
            }
        };
        if !is_right {
            return Err(Answer::invalid(
                &format!("{above}{name}"),
                "is of the wrong type",
            ));
        }
    }
    for (name, kind) in known {
        let is_required = matches!(
            kind,
            Kind::RequiredText | Kind::RequiredAmount | Kind::RequiredObject
        );
        if is_required && !fields.contains_key(*name) {
            return Err(Answer::invalid(&format!("{above}{name}"), "is required"));
        }
    }
    Ok(())
}

pub(super) fn text<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    fields.get(name).and_then(Value::as_str)
}

/// A JSON number of zero or more; a text of digits is none.
pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    let number = value.as_number()?.to_string();
    Decimal::from_str_exact(&number)
        .ok()
        .filter(|amount| !amount.is_sign_negative())
}

pub(super) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()), hex(rest.next()));
                bytes.push((high.unwrap_or(0) * 16 + low.unwrap_or(0)) as u8);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
