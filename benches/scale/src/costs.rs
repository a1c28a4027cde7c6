//! What was measured: one figure for each cost, with the bench that measured it.

use serde::Deserialize;

/// A figure and where it comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cost {
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) what: String,
    pub(crate) source: String,
}

/// All figures, as `costs.json` has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Costs {
    pub(crate) plain_request: Cost,
    pub(crate) returning_request: Cost,
    pub(crate) landing_request: Cost,
    pub(crate) plain_layer: Cost,
    pub(crate) returning_layer: Cost,
    pub(crate) landing_layer: Cost,
    pub(crate) click: Cost,
    pub(crate) record_read: Cost,
    pub(crate) record_write: Cost,
    pub(crate) record_bytes: Cost,
    pub(crate) click_row_bytes: Cost,
    pub(crate) enqueue: Cost,
    pub(crate) worker_rate: Cost,
    pub(crate) database_rate: Cost,
}

impl Costs {
    /// Returns the checked-in figures.
    pub(crate) fn checked_in() -> Result<Self, serde_json::Error> {
        serde_json::from_str(include_str!("../costs.json"))
    }

    /// Returns them under the names by which the formulas call them.
    pub(crate) fn named(&self) -> [(&'static str, &Cost); 14] {
        [
            ("plain_request", &self.plain_request),
            ("returning_request", &self.returning_request),
            ("landing_request", &self.landing_request),
            ("plain_layer", &self.plain_layer),
            ("returning_layer", &self.returning_layer),
            ("landing_layer", &self.landing_layer),
            ("click", &self.click),
            ("record_read", &self.record_read),
            ("record_write", &self.record_write),
            ("record_bytes", &self.record_bytes),
            ("click_row_bytes", &self.click_row_bytes),
            ("enqueue", &self.enqueue),
            ("worker_rate", &self.worker_rate),
            ("database_rate", &self.database_rate),
        ]
    }

    /// Returns how many rows one `PostgreSQL` changes in a second.
    pub(crate) fn database_rows(&self) -> f64 {
        2.0 * self.database_rate.value
    }
}
