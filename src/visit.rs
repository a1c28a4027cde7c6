//! What the layer knows about one request, in the request's extensions: the way from the layer to
//! the handlers, whatever framework they are written for.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use http::Extensions;
use smallvec::SmallVec;

use crate::config::Config;
use crate::keep::cookie::Jar;
use crate::ledger::Ledger;
use crate::reading::Reading;
use crate::reason::Decisions;
use crate::referral::Referral;
use crate::visitor::VisitorId;

/// A request that passed through the layer and has something of ours.
#[derive(Clone)]
pub(crate) enum Visit {
    /// What was decided on the way in.
    Decided(Arc<Ledger>),
    /// The browser sent a cookie, which is verified when a handler asks.
    Unopened(Unopened),
    /// What the browser sent stands for something on the server.
    OnServer(Arc<Reading>),
    /// The application's session is to have a copy, and there is none in the request.
    NoSession,
}

#[derive(Clone)]
pub(crate) struct Unopened {
    config: Arc<Config>,
    jar: Jar,
    opened: OnceLock<Ledger>,
}

/// The mark on a request that passed through the layer and has nothing of ours, where its extensions
/// have something of others' already. It has no size, and the map is there, so it allocates nothing.
#[derive(Clone, Copy)]
struct NothingOfOurs;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// While one of these lives, this thread works on a request that passed through the layer: it calls
/// the inner service or polls its future.
///
/// It stands for the mark where the extensions are empty: their first entry takes longer than all
/// the rest that the layer does to nearly every request. Behind axum's `Router` they never are.
pub(crate) struct Inside {
    was_inside: bool,
}

impl Inside {
    #[inline]
    pub(crate) fn enter() -> Self {
        Self {
            was_inside: IS_INSIDE.replace(true),
        }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        IS_INSIDE.set(self.was_inside);
    }
}

/// The request didn't come through a layer that it should have come through:
/// [`ReferralLayer`](crate::ReferralLayer), or, for `AppSession`, tower-sessions'
/// `SessionManagerLayer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLayer(Missing);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Referrals,
    Sessions,
}

impl std::fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Missing::Referrals => {
                "this request did not pass through `tower_referral::ReferralLayer`: add \
                 `.layer(referrals)` to the router behind all routes that use a referral (in \
                 axum, a layer covers only the routes that were added before it)"
            }
            Missing::Sessions => {
                "`tower_referral::AppSession` found no `tower_sessions::Session` in this request: \
                 put `SessionManagerLayer` outside `ReferralLayer` (in axum, \
                 `.layer(referrals).layer(session_manager)`), both of the same tower-sessions \
                 version: 0.15 is tower-referral's feature `tower-sessions-0_15`, 0.14 is \
                 `tower-sessions-0_14`"
            }
        })
    }
}

impl std::error::Error for MissingLayer {}

impl Visit {
    pub(crate) fn unopened(config: Arc<Config>, jar: Jar) -> Self {
        Self::Unopened(Unopened {
            config,
            jar,
            opened: OnceLock::new(),
        })
    }

    /// Did the request pass through a layer already? Where that one found nothing of ours, and
    /// nothing of others' either, nobody knows, and this layer looks too, to find as much.
    #[inline]
    pub(crate) fn is_marked(extensions: &Extensions) -> bool {
        !extensions.is_empty()
            && (extensions.get::<NothingOfOurs>().is_some() || extensions.get::<Self>().is_some())
    }

    /// Leaves in the extensions what handlers get to see, if there is anything of ours.
    #[inline]
    pub(crate) fn mark(visit: Option<Self>, extensions: &mut Extensions) {
        match visit {
            Some(visit) => drop(extensions.insert(visit)),
            None if extensions.is_empty() => {}
            None => drop(extensions.insert(NothingOfOurs)),
        }
    }

    /// What the layer left in the extensions. `Ok(None)` if there is nothing of ours.
    pub(crate) fn of(extensions: &Extensions) -> Result<Option<&Self>, MissingLayer> {
        match extensions.get::<Self>() {
            Some(Self::NoSession) => Err(MissingLayer(Missing::Sessions)),
            Some(visit) => Ok(Some(visit)),
            None if IS_INSIDE.get() || extensions.get::<NothingOfOurs>().is_some() => Ok(None),
            None => Err(MissingLayer(Missing::Referrals)),
        }
    }

    /// What is known of the visitor, if anything.
    pub(crate) async fn ledger(&self) -> Option<&Ledger> {
        match self {
            Self::Decided(ledger) => Some(ledger),
            Self::Unopened(Unopened {
                config,
                jar,
                opened,
            }) => Some(opened.get_or_init(|| Ledger::open(config, jar))),
            Self::OnServer(reading) => Some(reading.ledger().await),
            Self::NoSession => None,
        }
    }
}

/// What is known of the visitor behind a request, if anything.
pub(crate) async fn ledger_of(extensions: &Extensions) -> Result<Option<&Ledger>, MissingLayer> {
    match Visit::of(extensions)? {
        Some(visit) => Ok(visit.ledger().await),
        None => Ok(None),
    }
}

/// The referrals of one visitor, of each program that holds one.
///
/// An axum extractor that never fails behind the layer. Without axum, read it from the request's
/// extensions with [`from_extensions`](Self::from_extensions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrals {
    referrals: SmallVec<[Referral; 1]>,
    visitors: Vec<VisitorId>,
    decisions: Decisions,
}

impl Referrals {
    /// Reads what the layer left in the extensions of a request.
    ///
    /// Outside axum's `Router`, read it in the service's own future and not in a task that it
    /// spawns: to a request that has no extensions and nothing of ours the layer adds none, which
    /// would take longer than all the rest that it does, and is known by working on the request
    /// instead. Behind a `Router` it can be read anywhere.
    ///
    /// # Errors
    ///
    /// The request didn't come through a [`ReferralLayer`](crate::ReferralLayer).
    pub async fn from_extensions(extensions: &Extensions) -> Result<Self, MissingLayer> {
        let ledger = ledger_of(extensions).await?;
        Ok(ledger.map_or_else(Self::default, |ledger| Self {
            referrals: ledger.all_shown().cloned().collect(),
            visitors: ledger.visitors().collect(),
            decisions: ledger.decisions().clone(),
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

    /// Under which they are on the server, in the configured order of the programs; none where they
    /// are kept in a cookie. Each program's referral has an ID of its own. They are known even while
    /// the store fails.
    #[must_use]
    pub fn visitor_ids(&self) -> &[VisitorId] {
        &self.visitors
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
