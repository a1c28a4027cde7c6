//! What shows that a platform has taken what it was told. Success is never the absence of a "no" that
//! somebody thought of: it is something in the answer that the platform documents.

use http::StatusCode;

use crate::json::{self, id_of, text_of};
use crate::{Answer, Error, PlatformId};

/// What shows that a platform has taken what it was told: something that was read from its answer.
/// [`Receipt::recorded`](crate::Receipt::recorded) needs one, and only an [`Answer`] gives one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    id: Option<PlatformId>,
}

impl Mark {
    /// Returns the ID that is the mark; `None` if it is something else.
    #[must_use]
    pub fn id(&self) -> Option<PlatformId> {
        self.id.clone()
    }

    /// For an answer whose meaning the user has said.
    pub(crate) fn by_users_word() -> Self {
        Self { id: None }
    }
}

/// Each of these says where the platform's documentation puts what shows a success, and gives a
/// [`Mark`] if it is there. Without one a 2xx is [unreadable](Answer::unreadable): nobody knows what
/// became of the report.
impl Answer {
    /// Returns the mark at the first of these JSON pointers that has one: a text, a whole number other
    /// than 0, or an object. Two values under one name are none.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_referral_platforms::{Answer, Error};
    ///
    /// let answer = |body: &'static str| Answer::new(StatusCode::OK, body.into());
    /// let mark = answer(r#"{"data": {"id": "con_1"}}"#).shows(["/data/id"])?;
    /// assert_eq!(mark.id().unwrap().as_str(), "con_1");
    /// for unclear in ["{}", r#"{"status": "closed"}"#, r#"{"data": {"id": ""}}"#] {
    ///     let error = answer(unclear).shows(["/data/id"]).unwrap_err();
    ///     assert!(matches!(error, Error::Unreadable { .. }));
    /// }
    /// # Ok::<_, Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`accepted`](Self::accepted); or it shows nothing.
    pub fn shows<const N: usize>(&self, pointers: [&str; N]) -> Result<Mark, Error> {
        self.accepted()?;
        let mut found = pointers.iter().filter_map(|pointer| self.at(pointer));
        let made = found.find(|json| is_made(json));
        let made = made.ok_or_else(|| self.unreadable())?;
        Ok(Mark { id: id_of(made) })
    }

    /// Returns the mark if the value at this JSON pointer is this one, written as JSON, for instance
    /// `true`.
    ///
    /// # Errors
    ///
    /// As [`shows`](Self::shows).
    pub fn shows_value(&self, pointer: &str, json: &str) -> Result<Mark, Error> {
        self.accepted()?;
        self.mark_if(self.at(pointer) == Some(json))
    }

    /// Returns the mark if the status is exactly this success, and there is no body: for an answer that
    /// is documented to be no more than that.
    ///
    /// # Errors
    ///
    /// As [`shows`](Self::shows).
    pub fn shows_status(&self, status: StatusCode) -> Result<Mark, Error> {
        self.accepted()?;
        self.mark_if(self.status() == status && self.body().trim_ascii().is_empty())
    }

    /// Returns the mark if the body is this text, from its first to its last character.
    ///
    /// # Errors
    ///
    /// As [`shows`](Self::shows).
    pub fn shows_text(&self, text: &str) -> Result<Mark, Error> {
        self.accepted()?;
        self.mark_if(!text.is_empty() && self.body().trim_ascii() == text.as_bytes())
    }

    /// Returns the mark of a 204 without a body, which says that it is done, or as
    /// [`shows`](Self::shows).
    pub(crate) fn shows_or_is_empty<const N: usize>(
        &self,
        pointers: [&str; N],
    ) -> Result<Mark, Error> {
        if self.status() == StatusCode::NO_CONTENT {
            return self.shows_status(StatusCode::NO_CONTENT);
        }
        self.shows(pointers)
    }

    fn mark_if(&self, is_shown: bool) -> Result<Mark, Error> {
        let mark = is_shown.then_some(Mark { id: None });
        mark.ok_or_else(|| self.unreadable())
    }

    /// Returns the value at a JSON pointer, as it was written.
    fn at(&self, pointer: &str) -> Option<&str> {
        let path = pointer.strip_prefix('/')?;
        let (name, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        if name.contains('~') {
            return json::at(self.body(), pointer);
        }
        match self.properties([name]) {
            Some([found]) => json::at(found?.as_bytes(), rest),
            None => json::at(self.body(), pointer), // a list, perhaps
        }
    }
}

/// Returns `true` if it is something that a platform has made: an ID, or an object.
fn is_made(json: &str) -> bool {
    match json.as_bytes().first() {
        Some(b'"') => text_of(json).is_some_and(|text| !text.trim().is_empty()),
        Some(b'{') => true,
        _ => json != "0" && json.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
