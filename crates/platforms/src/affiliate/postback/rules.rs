//! How a tracker's answer is read: by its status, and by what its user says of the body.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use http::StatusCode;
use serde_json::Value;

use crate::json;
use crate::redact::without_secrets;
use crate::{Answer, Error, Mark, Receipt, Report};

/// Something that an answer's body says.
///
/// ```
/// use tower_referral_platforms::affiliate::postback::Body;
///
/// let tune = Body::contains("success=true;");
/// let everflow_duplicate = Body::json("/error_code", 8);
/// ```
#[derive(Clone, PartialEq)]
pub struct Body(Rule);

#[derive(Clone, PartialEq)]
enum Rule {
    Contains(String),
    Lacks(String),
    Json(String, Value),
}

impl Body {
    /// Holds where the body has this text in it. What was sent with the report, and comes back, doesn't
    /// count.
    #[must_use]
    pub fn contains(text: impl Into<String>) -> Self {
        Self(Rule::Contains(text.into()))
    }

    /// Holds where the body doesn't have this text in it.
    #[must_use]
    pub fn lacks(text: impl Into<String>) -> Self {
        Self(Rule::Lacks(text.into()))
    }

    /// Holds where the body is JSON whose value at this pointer (RFC 6901) equals `value`: text, number or
    /// truth value.
    #[must_use]
    pub fn json(pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        Self(Rule::Json(pointer.into(), value.into()))
    }

    fn is_valid(&self) -> bool {
        match &self.0 {
            Rule::Contains(text) | Rule::Lacks(text) => !text.is_empty(),
            Rule::Json(pointer, _) => pointer.is_empty() || pointer.starts_with('/'),
        }
    }

    fn is_lack(&self) -> bool {
        matches!(self.0, Rule::Lacks(_))
    }

    fn is_json(&self) -> bool {
        matches!(self.0, Rule::Json(..))
    }

    fn holds(&self, text: &Text<'_>, body: &[u8]) -> bool {
        match &self.0 {
            Rule::Contains(wanted) => text.has(wanted),
            Rule::Lacks(unwanted) => !text.has(unwanted),
            Rule::Json(pointer, value) => json::at(body, pointer)
                .filter(|found| found.starts_with(['{', '[']) == is_structure(value))
                .and_then(|found| serde_json::from_str(found).ok())
                .is_some_and(|found: Value| found == *value),
        }
    }
}

/// A body as a text.
struct Text<'a> {
    body: &'a [u8],
    report: &'a Report,
    /// Without what was sent.
    own: OnceCell<String>,
}

impl Text<'_> {
    /// Returns `true` if this is in it, and not only in what was sent.
    fn has(&self, wanted: &str) -> bool {
        let body = String::from_utf8_lossy(self.body);
        // Most bodies don't have it, and to look for what was sent takes longer.
        if !body.contains(wanted) {
            return false;
        }
        let own = self.own.get_or_init(|| {
            let secrets: Vec<_> = self.report.secrets().map(Cow::into_owned).collect();
            without_secrets(&body, &secrets, usize::MAX)
        });
        own.contains(wanted)
    }
}

fn is_structure(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Contains(text) => f.debug_tuple("Contains").field(text).finish(),
            Rule::Lacks(text) => f.debug_tuple("Lacks").field(text).finish(),
            Rule::Json(pointer, value) => {
                f.debug_tuple("Json").field(pointer).field(value).finish()
            }
        }
    }
}

/// All that is known of a tracker's answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// All of them hold.
    pub(super) success: Vec<Body>,
    /// One of them holds.
    pub(super) duplicate: Vec<Body>,
    /// One of them holds.
    pub(super) not_attributed: Vec<Body>,
}

impl Rules {
    pub(super) fn are_valid(&self) -> bool {
        let lists = [&self.success, &self.duplicate, &self.not_attributed];
        lists.into_iter().flatten().all(Body::is_valid)
    }

    pub(super) fn receipt(&self, report: &Report, answer: &Answer) -> Result<Receipt, Error> {
        // Trackers answer `OK` as `text/html`. A page is told from it by what it is, unless
        // something is said that only the right answer has.
        let says_something = self.success.iter().any(|rule| !rule.is_lack());
        let is_page = answer.body().trim_ascii_start().starts_with(b"<");
        let mut answer = answer.clone();
        answer.is_html = is_page && !(says_something && answer.status().is_success());

        let accepted = answer.accepted();
        if let Err(
            error @ (Error::RateLimited { .. }
            | Error::Unauthorized { .. }
            | Error::Account { .. }
            | Error::HtmlPage { .. }),
        ) = accepted
        {
            return Err(error);
        }
        let text = Text {
            body: answer.body(),
            report,
            own: OnceCell::new(),
        };
        let holds = |rule: &Body| rule.holds(&text, answer.body());

        let status = answer.status();
        if status.is_success() || status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT
        {
            if self.duplicate.iter().any(holds) {
                return Ok(Receipt::duplicate());
            }
            if self.not_attributed.iter().any(holds) {
                return Ok(Receipt::not_attributed());
            }
        }
        // Where the user says which value is a success, it may be one that is none elsewhere, for
        // instance `"status": 0`.
        let is_accepted = match &accepted {
            // What begins as an object and is none says nothing as JSON, and may do so as a text.
            Err(Error::Unreadable { .. }) => says_something,
            accepted => accepted.is_ok() || self.success.iter().any(Body::is_json),
        };
        if status.is_success() && is_accepted && self.success.iter().all(holds) {
            return Ok(Receipt::recorded(Mark::by_users_word()));
        }
        Err(accepted.err().unwrap_or_else(|| answer.rejected()))
    }
}
