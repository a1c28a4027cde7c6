//! A platform's own words, for people.

use std::fmt;

/// A platform's own words: at most 500 printable characters, without what was sent (API key,
/// referral key, click ID, all that came from the customer) and without e-mail addresses. For
/// people rather than for logs: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    pub(crate) fn new(words: String) -> Self {
        Self(words)
    }

    /// Returns the words.
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
