//! The application's own session: a copy of what the cookie keeps, for code that reads it there.
//! The cookie stays the source of truth, and no session is ever made for a referral's sake.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Extensions, HeaderMap};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::cookie::SignedCookie;
use super::store::{AppSessionHandle, Budget, Store, StoreFault};
use crate::ledger::Ledger;
use crate::referral::Referral;

/// Keeps referrals in a signed cookie, and puts a copy into the application's own
/// `tower_sessions::Session`, for code that reads it there.
///
/// The copy is under [`AppSession::KEY`], an object with each program's referral under the
/// program's name, as `serde` writes a [`Referral`]:
/// `{"default": {"key": "PARTNER_123", "click_id": null, …}}`. It is there from the request after
/// the landing on, and goes with [`Forget`](crate::Forget). The extractors read the cookie.
///
/// - A landing never makes a session. Where the browser held the session's `SameSite=Strict` cookie
///   back, as it does on a landing from another site, the session stays as it is and the visitor
///   stays logged in; the copy follows with the next request that has the session.
/// - The copy is looked after on every page (going by `Sec-Fetch-Dest`, where there is one) that has
///   the visitor's session and referral: put back when a concurrent request, a rotation or a logout
///   has lost it. That is one read of the session's record, and one write if the copy is missing.
///   Where the handler changed the session itself, the copy goes along with that.
/// - A session store writes whole records, and the last one who writes has it all. So no copy is put
///   back while another request of this process is at work on the same session; and a session that the
///   application ends is deleted once more, a moment later, in case a copy was on its way to it. What
///   remains is a request that comes, changes the session and saves it within the very moment in
///   which a missing copy is written; stores know no way to write only what hasn't changed.
/// - While the store fails, a request waits for 250 ms at most ([`time_limit`](Self::time_limit));
///   nothing of ours makes the application save its session.
///
/// `SessionManagerLayer` goes outside, so that its session is there when a request reaches us; in
/// axum, `.layer(referrals).layer(session_manager)`. Where no session is found in the request at
/// all, the extractors answer `500` with a text that says so.
///
/// ```
/// # #[cfg(feature = "tower-sessions-0_15")] {
/// use tower_referral::{AppSession, Keyring, ReferralLayer, SigningKey};
/// use tower_sessions::{MemoryStore, SessionManagerLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let store = MemoryStore::default();
/// let referrals = ReferralLayer::builder(AppSession::new(store.clone(), keyring)).build()?;
/// let sessions = SessionManagerLayer::new(store);
/// let app: axum::Router = axum::Router::new()
///     // … routes …
///     .layer(referrals)
///     .layer(sessions);
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a store does nothing until it is given to `ReferralLayer::builder`"]
#[cfg_attr(not(feature = "_store"), allow(dead_code, unreachable_pub))]
pub struct AppSession {
    pub(super) cookie: SignedCookie,
    store: Arc<dyn Store>,
    time_limit: Duration,
    always_save: bool,
}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
impl AppSession {
    /// Where the copy is in the session.
    pub const KEY: &'static str = super::store::KEY;

    /// Puts the copies into the sessions of `store`, which is the one that `SessionManagerLayer`
    /// has. For the cookie, give a [`Keyring`](crate::Keyring), or a [`SignedCookie`] if it has a
    /// domain or another name.
    ///
    /// `Version` is inferred; see [`AnySessionStore`](super::store::AnySessionStore).
    pub fn new<Version>(
        store: impl super::store::AnySessionStore<Version>,
        cookie: impl Into<SignedCookie>,
    ) -> Self {
        Self {
            cookie: cookie.into(),
            store: store.into_store().0,
            time_limit: super::server::DEFAULT_TIME_LIMIT,
            always_save: false,
        }
    }

    /// How long one request may wait for the store; 250 ms without this.
    ///
    /// It needs a Tokio runtime with its timer. Without one, nothing is copied.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Say so if the `SessionManagerLayer` is one `with_always_save(true)`: it writes every
    /// session at the end of every request, so the copy has to go along with that.
    pub fn always_save(mut self) -> Self {
        self.always_save = true;
        self
    }
}

impl fmt::Debug for AppSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSession")
            .field("cookie", &self.cookie)
            .field("time_limit", &self.time_limit)
            .field("always_save", &self.always_save)
            .finish_non_exhaustive()
    }
}

impl AppSession {
    pub(super) fn prepare(&self) -> Mirror {
        Mirror {
            store: Arc::clone(&self.store),
            time_limit: self.time_limit,
            always_save: self.always_save,
            sessions: Mutex::default(),
        }
    }
}

/// How long the application's own save takes at most, which comes after the response has left us.
const SAVE_TIME: Duration = Duration::from_millis(100);
/// How long a store may be at a write whose time limit is over.
const MARGIN: Duration = Duration::from_millis(250);

/// What puts the copies into the sessions.
pub(crate) struct Mirror {
    store: Arc<dyn Store>,
    time_limit: Duration,
    always_save: bool,
    sessions: Mutex<Sessions>,
}

/// The sessions that requests of this process are at work on.
#[derive(Default)]
struct Sessions {
    in_use: HashMap<i128, Use>,
    /// Those that the application is about to save, in the order of their ends.
    saving: VecDeque<(Instant, i128)>,
}

#[derive(PartialEq, Eq)]
enum InUse {
    ByOne,
    ByOthers,
    /// The application saves it, and has done so by then.
    Saved {
        until: Instant,
    },
}

#[derive(Default)]
struct Use {
    requests: usize,
    /// About to be saved by the application.
    saves: usize,
}

/// The application's session in the course of one request.
pub(crate) struct SessionVisit {
    handle: Box<dyn AppSessionHandle>,
    /// The session's ID when the request came.
    came_with: Option<i128>,
    mirror: Arc<Mirror>,
}

impl Mirror {
    /// The application's session in a request; `None` if its layer isn't there.
    pub(crate) fn visit(self: &Arc<Self>, extensions: &Extensions) -> Option<SessionVisit> {
        let handle = self.store.session(extensions)?;
        let came_with = handle.id();
        if let Some(id) = came_with {
            let mut sessions = self.sessions();
            sessions.forget_saved();
            sessions.in_use.entry(id).or_default().requests += 1;
        }
        Some(SessionVisit {
            handle,
            came_with,
            mirror: Arc::clone(self),
        })
    }

    /// Deletes a session that the application has just ended or renewed once more, as soon as nobody
    /// can be between reading and writing it any more: a store's `save` may bring back what was
    /// deleted, and a copy on its way there must not undo a logout.
    fn end_again(self: &Arc<Self>, ended: i128) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mirror = Arc::clone(self);
        runtime.spawn(async move {
            tokio::time::sleep(mirror.time_limit + MARGIN).await;
            let deleted = mirror.store.delete(ended);
            if let Err(fault) = Budget::new(mirror.time_limit).run(deleted).await {
                fault.tell("end a session in");
            }
        });
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionVisit {
    /// Makes the session's copy what the ledger keeps.
    pub(crate) async fn reflect(&self, ledger: &Ledger) {
        let referrals: Vec<Referral> = ledger.all_kept().cloned().collect();
        let budget = Budget::new(self.mirror.time_limit);
        let result = if self.is_saved() {
            budget.run(self.handle.put(referrals)).await
        } else if let Some(id) = self.came_with {
            self.put(id, referrals, &budget).await
        } else {
            return;
        };
        if let Err(fault) = result {
            fault.tell("put the copy into");
        }
    }

    /// Puts the copy into a session that the application doesn't save in this request. Where it is
    /// about to save it for another one, that is waited for.
    async fn put(
        &self,
        id: i128,
        referrals: Vec<Referral>,
        budget: &Budget,
    ) -> Result<(), StoreFault> {
        let mirror = &*self.mirror;
        let is_alone = || mirror.sessions().use_of(id) == InUse::ByOne;
        loop {
            let put = mirror.store.put(id, referrals.clone(), &is_alone);
            if budget.run(put).await? {
                return Ok(());
            }
            let InUse::Saved { until } = mirror.sessions().use_of(id) else {
                return Ok(());
            };
            let saved = async {
                tokio::time::sleep_until(until).await;
                Ok(())
            };
            budget.run(Box::pin(saved)).await?;
        }
    }

    /// Does the application save the session at the end of this request?
    fn is_saved(&self) -> bool {
        self.handle.is_modified() || (self.mirror.always_save && self.handle.id().is_some())
    }
}

impl Drop for SessionVisit {
    /// The application saves its session after the response has left us.
    fn drop(&mut self) {
        let Some(id) = self.came_with else { return };
        if self.handle.id() != Some(id) {
            self.mirror.end_again(id);
        }
        let is_saved = self.is_saved();
        let mut sessions = self.mirror.sessions();
        let Some(used) = sessions.in_use.get_mut(&id) else {
            return;
        };
        used.requests -= 1;
        if is_saved {
            used.saves += 1;
            sessions.saving.push_back((Instant::now() + SAVE_TIME, id));
        } else if used.saves == 0 && used.requests == 0 {
            sessions.in_use.remove(&id);
        }
    }
}

impl Sessions {
    /// Who is at work on a session, beside the one who asks?
    fn use_of(&mut self, id: i128) -> InUse {
        self.forget_saved();
        match self.in_use.get(&id) {
            Some(used) if used.requests > 1 => InUse::ByOthers,
            Some(used) if used.saves > 0 => {
                let mut saving = self.saving.iter().rev();
                let last = saving.find(|(_, saved)| *saved == id);
                last.map_or(InUse::ByOne, |(until, _)| InUse::Saved { until: *until })
            }
            _ => InUse::ByOne,
        }
    }

    fn forget_saved(&mut self) {
        let now = Instant::now();
        while let Some((until, id)) = self.saving.front().copied()
            && until <= now
        {
            self.saving.pop_front();
            if let Some(used) = self.in_use.get_mut(&id) {
                used.saves -= 1;
                if used.saves == 0 && used.requests == 0 {
                    self.in_use.remove(&id);
                }
            }
        }
    }
}

/// Is it a page that answers this request, as far as the request says? A page's own scripts aren't
/// at work on the session yet while it is made.
pub(crate) fn is_page(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-dest")
        .is_none_or(|dest| dest == "document")
}

#[cfg(all(test, feature = "tower-sessions-0_15"))]
mod tests {
    use tower_sessions::{MemoryStore, Session};

    use super::*;
    use crate::{Keyring, SigningKey};

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_a_session_goes_when_nobody_is_at_work_on_it() {
        let key = SigningKey::new("k1", (0..32).collect::<Vec<u8>>()).unwrap();
        let store = MemoryStore::default();
        let mirror = AppSession::new(store.clone(), Keyring::new(key)).prepare();
        let mirror = Arc::new(mirror);
        let session = Session::new(None, Arc::new(store.clone()), None);
        session.insert("user", "ada").await.unwrap();
        session.save().await.unwrap();
        let visit = || {
            let session = Session::new(session.id(), Arc::new(store.clone()), None);
            let mut extensions = Extensions::new();
            extensions.insert(session.clone());
            (mirror.visit(&extensions).unwrap(), session)
        };
        let known = || mirror.sessions().in_use.len();
        let (one, another) = (visit(), visit());
        assert_eq!(known(), 1);
        drop(one);
        assert_eq!(known(), 1, "another is at work on it");
        drop(another);
        assert_eq!(known(), 0);

        for requests in 1..=3 {
            for _ in 0..requests {
                let (one, session) = visit();
                session.insert("cart", requests).await.unwrap();
                drop(one);
            }
            assert_eq!(known(), 1, "the application is about to save it");
            tokio::time::sleep(SAVE_TIME).await;
            mirror.sessions().forget_saved();
            assert_eq!(known(), 0);
            assert!(mirror.sessions().saving.is_empty());
        }
    }
}
