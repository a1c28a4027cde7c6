//! A conversion as a platform lists it, read leniently and with every digit of its amount.

use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{digits_in, text_in};
use super::money::Money;

/// A conversion as a platform lists it. What isn't documented is read where it is likely to be, and
/// all of it is in [`json`](Self::json).
///
/// `Debug` hides everything but the platform's ID.
#[derive(Clone, PartialEq)]
pub struct ListedConversion {
    id: Option<String>,
    external_id: Option<String>,
    kind: Option<String>,
    amount: Option<String>,
    currency: Option<String>,
    json: Value,
}

impl ListedConversion {
    pub(crate) fn read(raw: &RawValue) -> Option<Self> {
        let json: Value = serde_json::from_str(raw.get()).ok()?;
        let within = ["metadata", "meta_data"];
        let currency = text_in(&json, &["currency"]).or_else(|| {
            let mut within = within.iter().filter_map(|name| json.get(name));
            within.find_map(|json| text_in(json, &["currency"]))
        });
        json.is_object().then(|| Self {
            id: text_in(&json, &["id", "conversion_id"]),
            external_id: text_in(&json, &["unique_id", "external_id"]),
            kind: text_in(&json, &["conversion_type", "type"]),
            amount: digits_in(raw, "amount"),
            currency,
            json,
        })
    }

    /// The platform's own ID.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The ID that it was reported under: for a sale, the order's.
    #[must_use]
    pub fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    /// What kind of conversion it is, where the platform has several, for instance `sale`.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The amount with every digit as the platform wrote it, in the currency's major unit.
    #[must_use]
    pub fn amount(&self) -> Option<&str> {
        self.amount.as_deref()
    }

    /// The currency, where the platform says it.
    #[must_use]
    pub fn currency(&self) -> Option<&str> {
        self.currency.as_deref()
    }

    /// Amount and currency, where the platform says both.
    #[must_use]
    pub fn money(&self) -> Option<Money> {
        Money::new(self.amount()?, self.currency()?).ok()
    }

    /// All that the platform says of it. Numbers in here may be rounded; [`amount`](Self::amount)
    /// isn't.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl fmt::Debug for ListedConversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedConversion")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
