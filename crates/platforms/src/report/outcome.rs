//! What a platform made of a report.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PlatformIds;
use crate::Mark;

/// What a platform made of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is recorded.
    Recorded,
    /// The platform knew it already: a success.
    Duplicate,
    /// Nobody is credited, so nothing is recorded: there is no referral, or none that the platform
    /// knows. That is as it should be for most customers, and no error.
    NotAttributed,
}

impl Outcome {
    /// Returns the outcome in snake case: `recorded`, `duplicate` or `not_attributed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Duplicate => "duplicate",
            Self::NotAttributed => "not_attributed",
        }
    }

    /// Returns `true` if the platform has it now. If so, the visitor's referral has done its work,
    /// and may be forgotten.
    #[must_use]
    pub fn is_credited(self) -> bool {
        matches!(self, Self::Recorded | Self::Duplicate)
    }
}

/// A platform's answer to a report: the outcome, the IDs that it gave, and what it said.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt {
    outcome: Outcome,
    ids: PlatformIds,
    data: Value,
}

impl Receipt {
    /// Creates the receipt of a report that the platform has now, as its answer shows by this mark.
    #[must_use]
    pub fn recorded(_: Mark) -> Self {
        Self::stored(Outcome::Recorded)
    }

    /// Creates the receipt of a report that the platform had already.
    #[must_use]
    pub fn duplicate() -> Self {
        Self::stored(Outcome::Duplicate)
    }

    /// Creates the receipt of a report that credits nobody.
    #[must_use]
    pub fn not_attributed() -> Self {
        Self::stored(Outcome::NotAttributed)
    }

    /// Creates the receipt of an outcome that is known already, for instance from a store. A platform
    /// doesn't need it: what it makes of an answer is one of the above.
    #[must_use]
    pub fn stored(outcome: Outcome) -> Self {
        Self {
            outcome,
            ids: PlatformIds::default(),
            data: Value::Null,
        }
    }

    /// Adds the IDs that the platform gave, in the place of any.
    #[must_use]
    pub fn with_ids(mut self, ids: PlatformIds) -> Self {
        self.ids = ids;
        self
    }

    /// Adds what else the platform said that a caller may want, for instance a customer's referral
    /// link.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }

    /// Returns the outcome.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Returns the IDs that the platform gave.
    #[must_use]
    pub fn ids(&self) -> &PlatformIds {
        &self.ids
    }

    /// Returns what else the platform said; `null` where it said nothing of use.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// Returns `true` if the platform has it now: see [`Outcome::is_credited`].
    #[must_use]
    pub fn is_credited(&self) -> bool {
        self.outcome.is_credited()
    }
}

impl PartialEq<Outcome> for Receipt {
    fn eq(&self, other: &Outcome) -> bool {
        self.outcome == *other
    }
}

/// Hides what else the platform said.
impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt")
            .field("outcome", &self.outcome)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
