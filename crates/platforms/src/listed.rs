//! A conversion as a platform lists it, read leniently and with every digit of its amount.

use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::{self, pick};
use crate::money::Money;

/// A conversion as a platform lists it. What isn't documented is read where it is likely to be, and
/// all of it is in [`json`](Self::json).
///
/// `Debug` hides everything but the platform's ID.
#[derive(Clone, PartialEq, Eq)]
pub struct ListedConversion {
    id: Option<String>,
    external_id: Option<String>,
    kind: Option<String>,
    amount: Option<String>,
    currency: Option<String>,
    created_at: Option<String>,
    json: String,
}

impl ListedConversion {
    pub(crate) fn read(raw: &RawValue) -> Option<Self> {
        let names = [
            "id",
            "conversion_id",
            "unique_id",
            "external_id",
            "key",
            "conversion_type",
            "type",
            "action",
            "amount",
            "currency",
            "amount_units",
            "metadata",
            "meta_data",
            "created_at",
            "date",
        ];
        let [
            id,
            conversion_id,
            unique_id,
            external_id,
            key,
            conversion_type,
            kind,
            action,
            amount,
            currency,
            units,
            metadata,
            meta_data,
            created_at,
            date,
        ] = pick(raw.get().as_bytes(), names)?;
        let text = |raw: &RawValue| {
            if raw.get().starts_with('\"') {
                json::text(raw).map(std::borrow::Cow::into_owned)
            } else {
                json::id(raw).map(String::from)
            }
        };
        let first = |of: [Option<&RawValue>; 2]| of.into_iter().flatten().find_map(text);
        let within = [metadata, meta_data]
            .into_iter()
            .flatten()
            .find_map(|within| {
                let [currency] = pick(within.get().as_bytes(), ["currency"])?;
                text(currency?)
            });
        Some(Self {
            id: first([id, conversion_id]),
            external_id: first([unique_id, external_id]).or_else(|| text(key?)),
            kind: first([conversion_type, kind]).or_else(|| text(action?)),
            amount: amount.and_then(json::digits),
            currency: first([currency, units]).or(within),
            created_at: first([created_at, date]),
            json: raw.get().to_owned(),
        })
    }

    /// Returns the platform's own ID.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns the ID that it was reported under: for a sale, the order's.
    #[must_use]
    pub fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    /// Returns what kind of conversion it is, where the platform has several, for instance `sale`.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Returns the amount with every digit as the platform wrote it, in the currency's major unit.
    #[must_use]
    pub fn amount(&self) -> Option<&str> {
        self.amount.as_deref()
    }

    /// Returns the currency, where the platform says it.
    #[must_use]
    pub fn currency(&self) -> Option<&str> {
        self.currency.as_deref()
    }

    /// Returns when it was recorded, as the platform writes it: for the three platforms, a text that
    /// begins with `YYYY-MM-DD`.
    #[must_use]
    pub fn created_at(&self) -> Option<&str> {
        self.created_at.as_deref()
    }

    /// Returns amount and currency, where the platform says both.
    #[must_use]
    pub fn money(&self) -> Option<Money> {
        Money::new(self.amount()?, self.currency()?).ok()
    }

    /// Returns all that the platform says of it. Numbers in here may be rounded; [`amount`](Self::amount)
    /// isn't.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

impl fmt::Debug for ListedConversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedConversion")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
