//! What the layer knows about one request, in the request's extensions: the way from the layer to
//! the handlers, whatever framework they are written for.

use std::sync::{Arc, OnceLock};

use http::Extensions;

use crate::config::Config;
use crate::keep::cookie::Jar;
use crate::ledger::Ledger;
use crate::reason::Decisions;
use crate::referral::Referral;

/// A request that passed through the layer and has something of ours.
#[derive(Clone)]
pub(crate) struct Visit {
    config: Arc<Config>,
    jar: Jar,
    /// What was decided on the way in, if anything.
    decided: Option<Arc<Ledger>>,
    /// What a handler that asked has found otherwise.
    opened: OnceLock<Ledger>,
}

/// The mark on a request that passed through the layer and has nothing of ours. It has no size,
/// so that marking a request allocates nothing of ours.
#[derive(Clone, Copy)]
pub(crate) struct NothingOfOurs;

/// The request didn't come through a [`ReferralLayer`](crate::ReferralLayer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingLayer;

impl std::fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "this request did not pass through `tower_referral::ReferralLayer`: add \
             `.layer(referrals)` to the router behind all routes that use a referral (in axum, a \
             layer covers only the routes that were added before it)",
        )
    }
}

impl std::error::Error for MissingLayer {}

impl Visit {
    pub(crate) fn new(config: Arc<Config>, jar: Jar, decided: Option<Arc<Ledger>>) -> Self {
        Self {
            config,
            jar,
            decided,
            opened: OnceLock::new(),
        }
    }

    /// Did the request pass through a layer already?
    pub(crate) fn is_marked(extensions: &Extensions) -> bool {
        extensions.get::<NothingOfOurs>().is_some() || extensions.get::<Self>().is_some()
    }

    /// What the layer left in the extensions. `Ok(None)` if there is nothing of ours.
    pub(crate) fn of(extensions: &Extensions) -> Result<Option<&Self>, MissingLayer> {
        match extensions.get::<Self>() {
            Some(visit) => Ok(Some(visit)),
            None if extensions.get::<NothingOfOurs>().is_some() => Ok(None),
            None => Err(MissingLayer),
        }
    }

    /// The referral of the first configured program that holds one.
    #[cfg(feature = "axum")]
    pub(crate) fn first(&self) -> Option<&Referral> {
        self.ledger().all_shown().next()
    }

    fn ledger(&self) -> &Ledger {
        self.decided.as_deref().unwrap_or_else(|| {
            self.opened
                .get_or_init(|| Ledger::open(&self.config, &self.jar))
        })
    }
}

/// The referrals of one visitor, of each program that holds one.
///
/// An axum extractor that never fails behind the layer. Without axum, read it from the request's
/// extensions with [`from_extensions`](Self::from_extensions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrals {
    referrals: Vec<Referral>,
    decisions: Decisions,
}

impl Referrals {
    /// Reads what the layer left in the extensions of a request.
    ///
    /// # Errors
    ///
    /// The request didn't come through a [`ReferralLayer`](crate::ReferralLayer).
    pub async fn from_extensions(extensions: &Extensions) -> Result<Self, MissingLayer> {
        let visit = Visit::of(extensions)?;
        Ok(visit.map_or_else(Self::default, |visit| Self {
            referrals: visit.ledger().all_shown().cloned().collect(),
            decisions: visit.ledger().decisions().clone(),
        }))
    }

    /// The referral of the first configured program that holds one.
    #[must_use]
    pub fn first(&self) -> Option<&Referral> {
        self.referrals.first()
    }

    /// The referral of one program.
    #[must_use]
    pub fn get(&self, program: &str) -> Option<&Referral> {
        self.iter().find(|referral| referral.program() == program)
    }

    /// All of them, in the configured order of the programs.
    pub fn iter(&self) -> std::slice::Iter<'_, Referral> {
        self.referrals.iter()
    }

    /// What was decided on this request's way in, and why.
    #[must_use]
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }
}

impl<'a> IntoIterator for &'a Referrals {
    type Item = &'a Referral;
    type IntoIter = std::slice::Iter<'a, Referral>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
