//! A platform's answer: whether it is a success, what a refusal says in documented places, and a
//! text for people without anything that was sent. Nothing is decided by words within a text.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tower_referral::click::Click;

use crate::json::{self, Span, pick};
use crate::{Error, Message, PlatformId, redact};

/// A platform's answer: everything of a response that matters.
///
/// ```
/// use http::StatusCode;
/// use tower_referral_platforms::{Answer, Error};
///
/// // For the test of a platform of your own: a 200 whose body says no is no success.
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
    pub(crate) is_html: bool,
    body: Bytes,
    /// Where the properties are that most calls ask for: read once, when the first one asks.
    top: OnceLock<Option<[Option<Span>; NAMES.len()]>>,
    /// What was sent and must not come back in an error's text.
    secrets: Vec<String>,
}

/// The properties of an answer that are read together, in one pass.
const NAMES: [&str; 29] = [
    "success",
    "ok",
    "status",
    "error",
    "errors",
    "message",
    "code",
    "data",
    "links",
    "id",
    "key",
    "click_id",
    "conversion_id",
    "session_id",
    "refund_id",
    "conversions",
    "transactions",
    "customers",
    "referrals",
    "clicks",
    "items",
    "results",
    "partner_id",
    "unique_id",
    "customer",
    "click",
    "sale",
    "referral",
    "lead",
];

impl Answer {
    /// Creates an answer, for instance in the test of a platform of your own.
    #[must_use]
    pub fn new(status: StatusCode, body: Bytes) -> Self {
        Self {
            status,
            retry_after: None,
            is_html: body.trim_ascii_start().first() == Some(&b'<'),
            body,
            top: OnceLock::new(),
            secrets: Vec::new(),
        }
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns `true` if it is an HTML page, which no platform's interface answers: a proxy, a
    /// login page or a wrong URL does.
    #[must_use]
    pub fn is_html(&self) -> bool {
        self.is_html
    }

    /// Checks that it is no refusal: a 2xx that isn't an HTML page, and whose body, if it is a JSON
    /// object, doesn't say no. Some platforms answer 200 with `"success": false`, `"status": 0` or
    /// `errors`. Where it says something else than yes in these places, or two things, it is unreadable.
    ///
    /// That doesn't make it a success yet: see [`shows`](Self::shows).
    ///
    /// # Errors
    ///
    /// The typed error of anything else.
    pub fn accepted(&self) -> Result<(), Error> {
        let status = self.status;
        match status.as_u16() {
            429 => Err(Error::RateLimited {
                retry_after: self.retry_after,
            }),
            401 | 403 => Err(Error::Unauthorized { status }),
            402 | 300..=399 => Err(Error::Account { status }),
            _ if self.is_html => Err(Error::HtmlPage { status }),
            200..=299 => match self.envelope() {
                Some(envelope) if envelope.says_no() => Err(self.rejected()),
                Some(envelope) if !envelope.may_say_yes() => Err(self.unreadable()),
                None if self.is_object() => Err(Error::Unreadable { status }),
                _ => Ok(()),
            },
            _ => Err(self.rejected()),
        }
    }

    /// Reads the JSON of a success.
    ///
    /// # Errors
    ///
    /// As [`accepted`](Self::accepted); or the body isn't such JSON.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.accepted()?;
        serde_json::from_slice(&self.body).map_err(|_| self.unreadable())
    }

    /// Checks that it is a success with a JSON body.
    ///
    /// # Errors
    ///
    /// As [`accepted`](Self::accepted); or the body isn't JSON.
    pub fn accepted_json(&self) -> Result<(), Error> {
        self.accepted()?;
        if self.top().is_some() {
            return Ok(());
        }
        self.read::<serde::de::IgnoredAny>().map(|_| ())
    }

    /// Returns the ID under the first of these names that has one, at the top of the JSON or under
    /// `data`: a text of visible ASCII, or a whole number.
    #[must_use]
    pub fn id<const N: usize>(&self, names: [&str; N]) -> Option<PlatformId> {
        let here = self.properties(names)?.into_iter().flatten();
        here.filter_map(json::id_of).next().or_else(|| {
            let [data] = self.properties(["data"])?;
            let within = pick(data?.as_bytes(), names)?.into_iter().flatten();
            within.filter_map(json::id).next()
        })
    }

    /// Reads the click whose ID is under the first of these names that has one, where [`id`](Self::id)
    /// looks.
    ///
    /// # Errors
    ///
    /// There is none, or it can't be a [`ClickId`](tower_referral::ClickId).
    pub fn click<const N: usize>(&self, names: [&str; N]) -> Result<Click, Error> {
        let id = self.id(names).and_then(|id| id.as_str().parse().ok());
        id.map(Click::new).ok_or_else(|| self.unreadable())
    }

    /// Returns the refusal, if this is one in JSON of this very request: an object with a status of
    /// 4xx, or of 2xx where the body says no. An HTML page is none, nor is what is about the account
    /// (401, 402, 403), the pace (429) or the time it took (408), whatever its body says.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal<'_>> {
        let envelope = self.envelope().filter(|_| !self.is_html)?;
        let is_refused = match self.status.as_u16() {
            401..=403 | 408 | 429 => false,
            400..=499 => true,
            _ => self.status.is_success() && envelope.says_no(),
        };
        is_refused.then_some(Refusal {
            answer: self,
            envelope,
        })
    }

    /// Returns `true` if it is a [refusal](Self::refusal). The same thing said in another way, for
    /// instance without a click ID, may be taken.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refusal().is_some()
    }

    /// Returns `true` if it is a 409 with a JSON object: the platform has it already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT && self.refusal().is_some()
    }

    /// Returns `true` if it is a 404 with a JSON object. An HTML page of that status is no answer
    /// of the platform's.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.refusal().is_some()
    }

    /// Returns a part of this answer as an answer of its own, for platforms that say of each report of
    /// a batch what became of it.
    #[must_use]
    pub fn part(&self, status: StatusCode, json: &str) -> Self {
        Self {
            status,
            retry_after: None,
            is_html: false,
            body: Bytes::copy_from_slice(json.as_bytes()),
            top: OnceLock::new(),
            secrets: self.secrets.clone(),
        }
    }

    /// Returns `true` if it is a 404 that isn't an HTML page, whatever its body: what was to be
    /// removed isn't there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && !self.is_html
    }

    /// Returns the error of an answer that can't be read.
    #[must_use]
    pub fn unreadable(&self) -> Error {
        Error::Unreadable {
            status: self.status,
        }
    }

    /// Adds texts that must not be in an error.
    pub(crate) fn without<S: Into<String>>(mut self, secrets: impl Iterator<Item = S>) -> Self {
        self.secrets.extend(secrets.map(Into::into));
        self
    }

    /// Returns the properties of these names, each as it was written, if the body is a JSON object.
    pub(crate) fn properties<const N: usize>(&self, names: [&str; N]) -> Option<[Option<&str>; N]> {
        let top = self.top()?;
        let mut found = [None; N];
        for (name, found) in names.iter().zip(&mut found) {
            match NAMES.iter().position(|known| known == name) {
                Some(at) => *found = top[at].and_then(|span| span.of(&self.body)),
                // A name that only a platform outside of this crate asks for.
                None => {
                    let [raw] = pick(&self.body, [name])?;
                    *found = raw.map(RawValue::get);
                }
            }
        }
        Some(found)
    }

    /// Reads the JSON of a success as a whole; `null` where that would be too much to hand on.
    pub(crate) fn value(&self) -> Result<serde_json::Value, Error> {
        self.accepted_json()?;
        Ok(json::value(&self.body).unwrap_or_default())
    }

    /// Returns the items of a list: see [`json::list_in`].
    pub(crate) fn list(&self, names: [&str; 2]) -> Option<Vec<&RawValue>> {
        if !self.is_object() {
            return json::list_in(&self.body, names);
        }
        let [one, two] = names;
        let within = self.properties(["data", one, two, "items", "results"])?;
        let mut within = within.into_iter().flatten();
        let inside = within.find(|json| json.starts_with(['[', '{']))?;
        json::list_in(inside.as_bytes(), names)
    }

    fn top(&self) -> Option<&[Option<Span>; NAMES.len()]> {
        let read = || json::spans(&self.body, NAMES);
        self.top.get_or_init(read).as_ref()
    }

    fn is_object(&self) -> bool {
        self.body.trim_ascii_start().first() == Some(&b'{')
    }

    fn envelope(&self) -> Option<Envelope<'_>> {
        if !self.is_object() {
            return None;
        }
        let names = [
            "success", "ok", "status", "error", "errors", "message", "code",
        ];
        let [success, ok, status, error, errors, message, code] = self.properties(names)?;
        Some(Envelope {
            success,
            ok,
            status,
            error,
            errors,
            message,
            code,
        })
    }

    /// The error of a refusal, with what the platform says.
    pub(crate) fn rejected(&self) -> Error {
        Error::Rejected {
            status: self.status,
            message: self.message(),
            retry_after: self.retry_after,
        }
    }

    /// What the platform says in `message`, `error` and `errors`, or the body's text.
    fn message(&self) -> Message {
        let text: Cow<'_, str> = match self.envelope() {
            Some(envelope) => {
                let mut texts = String::new();
                let said = [envelope.message, envelope.error, envelope.errors];
                for json in said.into_iter().flatten() {
                    json::push_texts(json, &mut texts);
                }
                texts.into()
            }
            None => String::from_utf8_lossy(&self.body),
        };
        Message::new(redact::clean(&text, &self.secrets))
    }
}

/// The properties by which answers say whether they are a success, and why not.
#[derive(Clone, Copy)]
struct Envelope<'j> {
    success: Option<&'j str>,
    ok: Option<&'j str>,
    status: Option<&'j str>,
    error: Option<&'j str>,
    errors: Option<&'j str>,
    message: Option<&'j str>,
    code: Option<&'j str>,
}

impl Envelope<'_> {
    fn says_no(&self) -> bool {
        let is =
            |json: Option<&str>, values: &[&str]| json.is_some_and(|json| values.contains(&json));
        is(self.success, &["false"])
            || is(self.ok, &["false"])
            || is(
                self.status,
                &["false", "0", "\"error\"", "\"fail\"", "\"failed\""],
            )
            || self.error.is_some_and(is_something)
            || self.errors.is_some_and(is_something)
    }

    /// What is there of `success`, `ok` and `status` agrees with a success. A text under `status` may be
    /// the state of what was made.
    fn may_say_yes(&self) -> bool {
        const NO: [&str; 8] = [
            "error", "fail", "failed", "failure", "rejected", "refused", "denied", "invalid",
        ];
        let said = [self.success, self.ok].into_iter().flatten();
        let is_yes = |json: &str| matches!(json, "true" | "1" | "\"true\"");
        let is_status = |json: &str| match json.as_bytes().first() {
            Some(b'"') => json::text_of(json)
                .is_some_and(|text| !NO.iter().any(|no| no.eq_ignore_ascii_case(text.trim()))),
            Some(b't' | b'n') => true,
            _ => {
                let is_2xx = json.len() == 3 && json.starts_with('2');
                json == "1" || is_2xx && json.bytes().all(|byte| byte.is_ascii_digit())
            }
        };
        said.into_iter().all(is_yes) && self.status.is_none_or(is_status)
    }
}

/// Returns `true` if it is more than `null`, `false`, or an empty text, list or object.
pub(crate) fn is_something(json: &str) -> bool {
    match json {
        "null" | "false" | "\"\"" => false,
        text if text.starts_with(['[', '{']) => !text[1..text.len() - 1].trim().is_empty(),
        _ => true,
    }
}

/// What a refusal says in the places that platforms document. Texts are compared whole, from the
/// first to the last character; a text that was sent with the request says nothing.
#[derive(Clone, Copy)]
pub struct Refusal<'a> {
    answer: &'a Answer,
    envelope: Envelope<'a>,
}

impl Refusal<'_> {
    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.answer.status
    }

    /// Returns `true` if `message`, or the text or the `message` under `error`, equals this text.
    #[must_use]
    pub fn message_is(&self, text: &str) -> bool {
        let said = [
            self.envelope.message,
            self.envelope.error,
            self.in_error("message"),
        ];
        said.into_iter().flatten().any(|json| self.says(json, text))
    }

    /// Returns `true` if `code`, or the `code` under `error`, equals this text, or is this number.
    #[must_use]
    pub fn code_is(&self, code: &str) -> bool {
        let said = [self.envelope.code, self.in_error("code")];
        said.into_iter()
            .flatten()
            .any(|json| json == code || self.says(json, code))
    }

    /// Returns `true` if the text under `errors` of this name equals this text, or is the only one
    /// of a list.
    #[must_use]
    pub fn field_is(&self, field: &str, text: &str) -> bool {
        let fields = self.envelope.errors.and_then(|errors| {
            let [said] = pick(errors.as_bytes(), [field])?;
            said
        });
        fields.is_some_and(
            |said| match serde_json::from_str::<[&RawValue; 1]>(said.get()) {
                Ok([only]) => self.says(only.get(), text),
                Err(_) => self.says(said.get(), text),
            },
        )
    }

    /// Returns `true` if `errors` is an object whose names are all among these: the refusal is about
    /// these fields of the request and no others.
    #[must_use]
    pub fn is_only_about(&self, fields: &[&str]) -> bool {
        let errors = self.envelope.errors;
        errors.is_some_and(|errors| json::has_only(errors, fields))
    }

    fn in_error(&self, name: &str) -> Option<&str> {
        let [said] = pick(self.envelope.error?.as_bytes(), [name])?;
        said.map(RawValue::get)
    }

    fn says(&self, json: &str, text: &str) -> bool {
        let is_echo = || {
            let mut secrets = self.answer.secrets.iter();
            secrets.any(|secret| secret.eq_ignore_ascii_case(text))
        };
        json::text_of(json).is_some_and(|said| said == text) && !is_echo()
    }
}

impl fmt::Debug for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("status", &self.answer.status)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}
