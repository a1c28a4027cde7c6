//! A platform's answer: whether it is a yes, what it says, and what must not be repeated of that.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

#[cfg(any(feature = "partnac", feature = "partnero", feature = "tapfiliate"))]
use super::json;
use super::{Error, percent_encoded};

/// A platform's answer: everything of a response that matters.
///
/// ```
/// use http::StatusCode;
/// use tower_referral_platforms::{Answer, Error};
///
/// // As the test of a platform of your own may make one: a 200 that says no is none.
/// let answer = Answer::new(StatusCode::OK, r#"{"success": false, "message": "closed"}"#.into());
/// let Err(Error::Rejected { message, .. }) = answer.accepted() else {
///     panic!("it says no");
/// };
/// assert_eq!(message.as_str(), "closed");
/// ```
#[derive(Clone)]
pub struct Answer {
    status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    body: Bytes,
    /// What was sent and must not come back in an error's words.
    secrets: Vec<String>,
}

impl Answer {
    /// An answer, for instance in the test of a platform of your own.
    #[must_use]
    pub fn new(status: StatusCode, body: Bytes) -> Self {
        Self {
            status,
            retry_after: None,
            body,
            secrets: Vec::new(),
        }
    }

    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer's body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The JSON of a success; the typed error of anything else.
    ///
    /// # Errors
    ///
    /// As [`accepted`](Self::accepted); or the body isn't JSON.
    pub fn success(&self) -> Result<Value, Error> {
        self.accepted()?;
        serde_json::from_slice(&self.body).map_err(|_| Error::Unreadable {
            status: self.status,
        })
    }

    /// Is it a success? The body may be anything, but if it is JSON it must not say no: some
    /// platforms answer 200 with `"success": false`, `"status": "error"` or an `error`.
    ///
    /// # Errors
    ///
    /// The typed error of anything else.
    pub fn accepted(&self) -> Result<(), Error> {
        match self.status {
            status if status.is_success() && !self.says_no() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err(Error::RateLimited {
                retry_after: self.retry_after,
            }),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Error::Unauthorized { status })
            }
            status => Err(Error::Rejected {
                status,
                message: self.message(),
                retry_after: self.retry_after,
            }),
        }
    }

    /// The same answer, whose words never hold these texts.
    pub(crate) fn without<'s>(mut self, secrets: impl Iterator<Item = &'s str>) -> Self {
        self.secrets.extend(secrets.map(str::to_owned));
        self
    }

    /// The JSON of a success that may come without a body, which is as `null`.
    #[cfg(any(feature = "partnac", feature = "partnero"))]
    pub(crate) fn acknowledged(&self) -> Result<Value, Error> {
        self.accepted()?;
        if self.body.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        self.success()
    }

    /// Is there no such thing? A 404 with a JSON object says so; the page of a proxy says nothing.
    #[cfg(any(feature = "partnac", feature = "partnero"))]
    pub(crate) fn is_not_found(&self) -> bool {
        let json = serde_json::from_slice::<Value>(&self.body);
        self.status == StatusCode::NOT_FOUND && json.is_ok_and(|json| json.is_object())
    }

    fn says_no(&self) -> bool {
        let Ok(json) = serde_json::from_slice::<Value>(&self.body) else {
            return false;
        };
        let is_false = |name| json.get(name) == Some(&Value::Bool(false));
        let is_error = |name| match json.get(name) {
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(object)) => !object.is_empty(),
            _ => false,
        };
        let status = json.get("status");
        is_false("success")
            || is_false("ok")
            || is_false("status")
            || status.is_some_and(|status| *status == 0 || *status == "error" || *status == "fail")
            || is_error("error")
            || is_error("errors")
    }

    /// What the platform says in `message`, `error` or `errors`, or the body's text.
    fn message(&self) -> Message {
        let mut text = match serde_json::from_slice::<Value>(&self.body) {
            Ok(json) => ["message", "error", "errors"]
                .iter()
                .filter_map(|name| json.get(name))
                .map(|value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                })
                .collect::<Vec<_>>()
                .join("; "),
            Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        for secret in &self.secrets {
            text = redacted(&text, secret);
            text = redacted(&text, &percent_encoded(secret));
        }
        let text = without_addresses(&text);
        Message(text.chars().take(MAX_MESSAGE_CHARS).collect())
    }
}

#[cfg(any(feature = "partnac", feature = "partnero", feature = "tapfiliate"))]
impl Answer {
    /// Does a refusal say, in JSON, that one of the subjects isn't known? The platforms document
    /// neither status nor wording, so the words are taken together.
    pub(crate) fn says_unknown(&self, subjects: &[&str]) -> bool {
        const WORDS: &[&str] = &[
            "unknown",
            "not found",
            "not_found",
            "invalid",
            "not valid",
            "not exist",
            "n't exist",
            "no such",
            "could not find",
            "couldn't find",
            "unrecogni",
        ];
        self.refuses(subjects, WORDS)
    }

    /// Does a refusal say, in JSON, that one of the subjects is there already?
    pub(crate) fn says_duplicate(&self, subjects: &[&str]) -> bool {
        const WORDS: &[&str] = &["already", "duplicate", "exist", "unique", "taken", "in use"];
        self.refuses(subjects, WORDS)
    }

    fn refuses(&self, subjects: &[&str], words: &[&str]) -> bool {
        let is_candidate = matches!(self.status.as_u16(), 400 | 404 | 409 | 410 | 422)
            || self.status.is_success() && self.says_no();
        if !is_candidate {
            return false;
        }
        serde_json::from_slice::<Value>(&self.body).is_ok_and(|json| {
            json::says(&json, &|above, text| {
                // An echo of what was sent says nothing, whatever it looks like.
                if self.secrets.iter().any(|sent| sent == text) {
                    return false;
                }
                // The platform's own name is no word about a partner.
                let text = format!("{above} {text}").to_ascii_lowercase();
                let text = text.replace("partnero", "");
                let has_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
                // What isn't there doesn't exist already, and is no duplicate.
                let is_absent = has_any(&["not exist", "n't exist"]);
                let mut words = words.iter().filter(|word| !is_absent || **word != "exist");
                has_any(subjects)
                    && words.any(|word| text.contains(word))
                    && !has_any(&["api key", "api_key", "api-key"])
            })
        })
    }
}

/// In the place of what must not be repeated.
const HIDDEN: &str = "[hidden]";

/// `text` without `secret`, in whatever case it stands there. One character is no secret.
fn redacted(text: &str, secret: &str) -> String {
    if secret.len() < 2 {
        return text.to_owned();
    }
    // Lower case in ASCII keeps every byte in its place.
    let (lower, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut redacted = String::with_capacity(text.len());
    let mut rest = 0;
    for (at, _) in lower.match_indices(&secret) {
        redacted.push_str(&text[rest..at]);
        redacted.push_str(HIDDEN);
        rest = at + secret.len();
    }
    redacted.push_str(&text[rest..]);
    redacted
}

/// A platform may name a person whom the report didn't: what looks like an e-mail address goes.
fn without_addresses(text: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || "@.+-_%'".contains(c);
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        cleaned.push_str(before);
        cleaned.push_str(if word.contains('@') { HIDDEN } else { word });
        rest = after;
    }
    cleaned.push_str(rest);
    cleaned
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

const MAX_MESSAGE_CHARS: usize = 500;

/// A platform's own words. Platforms like to repeat what was sent: API key, referral key, click ID
/// and all that came from the customer are taken out of it where the client knows them, and `Debug`
/// hides the rest.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    /// The words, at most 500 characters: for people, rather than for logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.0.len())
    }
}
