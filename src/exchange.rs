//! One request on its way: shared by the handlers, in the request's extensions, and by the response
//! future. It loads what is kept, decides once, and finishes the response.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::{Extensions, StatusCode};
use smallvec::SmallVec;

use crate::attribution::ClickDue;
use crate::click::context::ClickContext;
use crate::click::dispatcher::ClickDispatcher;
use crate::click::request::BoxFuture;
use crate::clock::UnixMillis;
use crate::commands::HandlerCommands;
use crate::config::Config;
use crate::consent::{Permission, Permissions};
use crate::cookie::FoundCookies;
use crate::inbound::Inbound;
use crate::missing_layer::MissingLayer;
use crate::outgoing::{Outgoing, set_cookies};
use crate::query::Query;
use crate::reason::Reason;
use crate::record::Loaded;
use crate::request::RequestRef;
use crate::request_clicks::{self, StartedClick, StartedClicks};
use crate::runtime::{Sleep, until};
use crate::state::{RequestState, Slot};
use crate::store::{Loading, SessionHandle};

/// One request on its way.
pub(crate) struct Exchange {
    pub(crate) config: Arc<Config>,
    pub(crate) now: UnixMillis,
    cookies: FoundCookies,
    permissions: Permissions,
    /// What the request says, where something must be decided.
    inbound: Option<Inbound>,
    /// What the platform would be told of a click that a carry token brings along to a `POST`, whose page has
    /// no script to create it. Only where clicks are created at the endpoint.
    post_context: Option<Box<ClickContext>>,
    has_parameter: bool,
    is_skipped: bool,
    /// What has to be loaded from the server first.
    loading: Option<Loading>,
    /// The application's session, where it gets a copy.
    session: Option<SessionHandle>,
    /// It should have one, and there is none in the request.
    lacks_session: bool,
    commands: Mutex<HandlerCommands>,
    resolved: OnceLock<Resolved>,
}

/// What was decided, and the clicks that were started for it.
struct Resolved {
    state: RequestState,
    calls: StartedClicks,
}

/// The mark on a request that passed the layer and has neither its cookie nor its parameter. It has no
/// size, so it allocates nothing.
#[derive(Clone, Copy)]
struct NothingFound;

/// Some layer of this process has passed on a request that it didn't mark, for example because it is
/// around an axum `Router` and not inside. From then on a missing mark proves nothing, and reads as "no
/// referral" rather than as an error.
static PASSED_UNMARKED: AtomicBool = AtomicBool::new(false);

impl Exchange {
    /// Returns `true` if the request passed a layer already.
    #[inline]
    pub(crate) fn is_marked(extensions: &Extensions) -> bool {
        !extensions.is_empty()
            && (extensions.get::<NothingFound>().is_some()
                || extensions.get::<Arc<Self>>().is_some())
    }

    /// Marks a request without the layer's cookie or parameter. An empty map of extensions stays empty: its
    /// first entry takes longer than all the rest. Behind axum's `Router` it never is.
    #[inline]
    pub(crate) fn mark_nothing(extensions: &mut Extensions) {
        if !extensions.is_empty() {
            extensions.insert(NothingFound);
        } else if !Self::may_be_unmarked() {
            PASSED_UNMARKED.store(true, Ordering::Relaxed);
        }
    }

    /// Returns `true` if a request without a mark may have passed a layer.
    pub(crate) fn may_be_unmarked() -> bool {
        PASSED_UNMARKED.load(Ordering::Relaxed)
    }

    /// Returns what the layer left in the extensions of a request. `Ok(None)` if there is neither its cookie
    /// nor its parameter, and where it can't be known whether the request passed.
    pub(crate) fn of(extensions: &Extensions) -> Result<Option<&Arc<Self>>, MissingLayer> {
        match extensions.get::<Arc<Self>>() {
            Some(exchange) if exchange.lacks_session => Err(MissingLayer::SESSIONS),
            Some(exchange) => Ok(Some(exchange)),
            None if extensions.is_empty() => Ok(None),
            None if extensions.get::<NothingFound>().is_some() => Ok(None),
            None if Self::may_be_unmarked() => Ok(None),
            None => Err(MissingLayer::REFERRALS),
        }
    }

    /// Creates the exchange of a request without the layer's cookie or parameter.
    pub(crate) fn empty(config: Arc<Config>, permissions: Permissions) -> Self {
        Self {
            now: config.now(),
            config,
            cookies: FoundCookies::None,
            permissions,
            inbound: None,
            post_context: None,
            has_parameter: false,
            is_skipped: false,
            loading: None,
            session: None,
            lacks_session: false,
            commands: Mutex::default(),
            resolved: OnceLock::new(),
        }
    }

    /// Reads a request, and decides at once where nothing has to be loaded first.
    #[inline(never)]
    pub(crate) fn begin(
        config: &Arc<Config>,
        request: RequestRef<'_>,
        cookies: FoundCookies,
        query: Option<Query<'_>>,
    ) -> Arc<Self> {
        let now = config.now();
        let permissions = config.permissions(request);
        let session = config
            .session_copies
            .as_ref()
            .and_then(|copies| copies.handle(request.extensions()));
        let has_cookies = !cookies.is_empty();
        let loading = config
            .records
            .as_ref()
            .filter(|_| has_cookies)
            .map(|records| records.begin(config.open_stored(&cookies)));
        let is_skipped = config.is_skipped(request);
        let must_load = loading.as_ref().is_some_and(Loading::must_load);
        let must_open = permissions.denies_any() || config.clicks.is_some();
        let must_read = query.is_some() || config.has_fallback || must_load;
        let (mut inbound, mut opened) = (None, None);
        if !is_skipped && (must_read || (must_open && has_cookies)) {
            // Where the referral is in the cookie, everything is known by now, and handlers see the result.
            opened = loading.is_none().then(|| open(config, &cookies, now));
            // A click may be due in whatever has to be loaded.
            let has_due_clicks = opened
                .as_ref()
                .map_or(must_load, RequestState::has_due_clicks);
            let read = Inbound::read(config, request, query, &permissions, has_due_clicks, now);
            // Where it must be loaded and nothing is to be decided, a handler's extractor asks the store, if
            // it asks at all.
            let is_left = loading.is_some() && !must_load && !read.must_decide(&permissions);
            inbound = (!is_left).then_some(read);
        }
        let may_post = !is_skipped && config.clicks_at_endpoint() && !request.method().is_safe();
        let clicks = config.clicks.as_ref().filter(|_| may_post);
        let post_context = clicks.and_then(|clicks| clicks.context(request));
        let post_context = post_context.map(Box::new);
        // Made where it stays: it is too large to be moved about.
        let exchange = Arc::new(Self {
            config: Arc::clone(config),
            now,
            cookies,
            permissions,
            inbound,
            post_context,
            has_parameter: query.is_some() && !is_skipped,
            is_skipped,
            lacks_session: config.session_copies.is_some() && session.is_none(),
            loading,
            session,
            commands: Mutex::default(),
            resolved: OnceLock::new(),
        });
        if let Some(state) = opened {
            exchange.resolved.get_or_init(|| exchange.decide(state));
        }
        exchange
    }

    /// Returns what is known of the visitor, asking the store if it must be asked.
    pub(crate) async fn resolve(&self) -> &RequestState {
        &self.resolved().await.state
    }

    async fn resolved(&self) -> &Resolved {
        if let Some(resolved) = self.resolved.get() {
            return resolved;
        }
        let Some((records, loading)) = self.config.records.as_ref().zip(self.loading.as_ref())
        else {
            return self.resolved_at_once();
        };
        let programs = &self.config.programs;
        let loaded = records
            .load(loading, programs, &self.permissions, self.now)
            .await;
        let resolve = || {
            self.decide(RequestState::load(
                &self.config,
                &self.cookies,
                loaded.to_vec(),
                self.now,
            ))
        };
        self.resolved.get_or_init(resolve)
    }

    /// Returns what is known of the visitor without the store.
    fn resolved_at_once(&self) -> &Resolved {
        self.resolved
            .get_or_init(|| self.decide(open(&self.config, &self.cookies, self.now)))
    }

    /// Loads and decides in the background of the handler, where the layer itself must know.
    pub(crate) fn resolving(self: &Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        if self.inbound.is_none() || self.resolved.get().is_some() {
            return None;
        }
        let exchange = Arc::clone(self);
        Some(Box::pin(async move {
            exchange.resolve().await;
        }))
    }

    /// Decides over what is known of the visitor, once in a request.
    fn decide(&self, state: RequestState) -> Resolved {
        let config = &*self.config;
        let mut resolved = Resolved {
            state,
            calls: SmallVec::new(),
        };
        let Resolved { state, calls } = &mut resolved;
        if let Some(inbound) = &self.inbound {
            for index in 0..config.programs.len() {
                if let Permission::Denied(refusal) = self.permissions.of(index)
                    && config.cookies.has(&self.cookies, index)
                {
                    state.forget(config, index, refusal.reason());
                }
            }
            request_clicks::join_late(config, &self.permissions, state);
            let may_start =
                |slot: &Slot| request_clicks::may_start_due(config, inbound, slot, self.now);
            let may_start: SmallVec<[bool; 1]> = state.slots.iter().map(may_start).collect();
            let wins = state.decide(config, &self.permissions, inbound);
            for (index, may_start) in may_start.into_iter().enumerate() {
                if may_start
                    && self.permissions.of(index) == Permission::Granted
                    && let Some(context) = inbound.click_context.clone()
                {
                    calls.extend(request_clicks::start_due(config, state, index, context));
                }
            }
            for win in wins {
                let context = inbound.click_context.clone();
                let context = context.filter(|_| !config.clicks_at_endpoint());
                calls.extend(request_clicks::start(config, state, win, context));
            }
        } else {
            for index in 0..config.programs.len() {
                if self.permissions.denies(index) {
                    state.slots[index].kept = None;
                }
            }
            if !self.is_skipped {
                request_clicks::join_late(config, &self.permissions, state);
            }
        }
        if let Some(records) = &config.records {
            // Now, so that handlers see the IDs of new visitors; and only where it will be stored.
            let is_stored = |slot: &&mut Slot| slot.kept.is_some() && slot.changed;
            for slot in state.slots.iter_mut().filter(is_stored) {
                if let (Some(record), false) = (&mut slot.record, self.is_skipped) {
                    record.current = record
                        .current
                        .take()
                        .or_else(|| records.draw_record(record));
                }
            }
        }
        resolved
    }

    /// Takes the commands that handlers gave on the request's side.
    pub(crate) fn take_commands(&self) -> HandlerCommands {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in a command of a handler that doesn't own its response.
    pub(crate) fn command(&self, commands: HandlerCommands) {
        let mut given = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        given.add(commands);
    }

    /// Returns `true` if there is something to do about the response.
    pub(crate) fn must_finish(&self, commands: &HandlerCommands) -> bool {
        // What a handler's extractor found out is said in the response too.
        let has_news = |resolved: &Resolved| {
            let state = &resolved.state;
            !self.is_skipped && (state.is_changed() || !state.decisions.is_empty())
        };
        self.inbound.is_some()
            || !commands.is_empty()
            || self.has_parameter
            || self.resolved.get().is_some_and(has_news)
            || self
                .session
                .as_ref()
                .is_some_and(SessionHandle::is_modified)
    }

    /// Returns `true` if something must be waited for, within its budget, before it is known what to say.
    pub(crate) fn must_wait(&self, commands: &HandlerCommands) -> bool {
        let waits = |clicks: &ClickDispatcher| !clicks.wait().is_zero();
        let may_start = commands.click_context().is_some()
            || (commands.captures() && self.post_context.is_some());
        self.config.records.is_some()
            || (self.config.clicks.as_ref().is_some_and(waits)
                && (may_start || self.resolved.get().is_none_or(|it| !it.calls.is_empty())))
    }

    /// Finishes a response at once.
    pub(crate) fn finish_now(&self, commands: HandlerCommands, status: StatusCode) -> Outgoing {
        let (mut state, _, started) = self.settle(self.resolved_at_once(), commands);
        self.take_in(&mut state, started);
        self.outgoing(state, status)
    }

    /// Finishes a response, with everything that has to be waited for.
    pub(crate) async fn finish(
        self: Arc<Self>,
        commands: HandlerCommands,
        status: StatusCode,
    ) -> Outgoing {
        let must_know = self.inbound.is_some() || commands.captures();
        if !must_know
            && self.resolved.get().is_none()
            && let Some(loading) = &self.loading
        {
            // Only to be forgotten: the store need not be asked what it has.
            let loaded = loading.unread();
            let state = RequestState::load(&self.config, &self.cookies, loaded, self.now);
            let calls = SmallVec::new();
            let resolved = Resolved { state, calls };
            return self
                .finish_resolved(&resolved, commands, status, &mut None)
                .await;
        }
        let resolved = self.resolved().await;
        let mut timer = None;
        self.wait_for(&resolved.calls, &mut timer).await;
        self.finish_resolved(resolved, commands, status, &mut timer)
            .await
    }

    /// Waits for clicks; all of a response go by one timer. What comes after it is late, whatever it is.
    async fn wait_for(&self, calls: &[StartedClick], timer: &mut Option<Pin<Box<Sleep>>>) {
        let Some(clicks) = &self.config.clicks else {
            return;
        };
        if calls.is_empty() || clicks.wait().is_zero() {
            return;
        }
        if timer.is_none() {
            *timer = clicks.wait_timer().map(Box::pin);
        }
        let all_over = async {
            for started in calls {
                started.call.wait().await;
            }
        };
        if let Some(timer) = timer {
            until(timer.as_mut(), all_over).await;
        }
    }

    async fn finish_resolved(
        &self,
        resolved: &Resolved,
        commands: HandlerCommands,
        status: StatusCode,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Outgoing {
        let (mut state, mut late, started) = self.settle(resolved, commands);
        self.wait_for(&started, timer).await;
        late.extend(self.take_in(&mut state, started));
        self.store(&mut state, late).await;
        self.outgoing(state, status)
    }

    /// Takes in the clicks that are there by now, then what the handler said. Returns the clicks that
    /// aren't, and those that were started for what the handler said.
    fn settle(
        &self,
        resolved: &Resolved,
        commands: HandlerCommands,
    ) -> (RequestState, StartedClicks, StartedClicks) {
        let mut state = resolved.state.clone();
        let config = &*self.config;
        let late = self.take_in(&mut state, resolved.calls.clone());
        // The endpoint's script proves that the page was seen.
        let view = commands.click_context().cloned();
        let view = view.filter(|_| config.clicks_at_endpoint());
        let due: SmallVec<[_; 1]> = state.slots.iter().map(Slot::due_click).collect();
        let mut started = StartedClicks::new();
        for (win, context) in commands.apply(config, &self.permissions, &mut state) {
            let (index, is_due) = (win.program, win.click == ClickDue::AtNextPageView);
            started.extend(request_clicks::start(config, &mut state, win, context));
            // By its name, as that of any page view: the visitor may have answered twice.
            if is_due && let Some(context) = self.post_context.as_deref().cloned() {
                started.extend(request_clicks::start_due(
                    config, &mut state, index, context,
                ));
            }
        }
        for (index, touch) in due.into_iter().enumerate() {
            if let Some(view) = &view
                && touch.is_some()
                && touch == state.slots[index].due_click()
                && self.permissions.of(index) == Permission::Granted
            {
                let view = view.clone();
                started.extend(request_clicks::start_due(config, &mut state, index, view));
            }
        }
        (state, late, started)
    }

    /// Takes in the results of clicks that are there by now. Returns those that are late.
    fn take_in(&self, state: &mut RequestState, mut calls: StartedClicks) -> StartedClicks {
        calls.retain(|started| {
            let result = started.call.close();
            let is_late = result.is_none();
            if let Some(result) = result {
                state.apply_click(&self.config, started.program, started.touch, result);
            }
            is_late
        });
        calls
    }

    /// Writes what changed to the server. What the store doesn't take, the cookie will carry.
    async fn store(&self, state: &mut RequestState, late: StartedClicks) {
        let Some(records) = &self.config.records else {
            return;
        };
        records.start_deletion();
        let budget = records.budget(self.loading.as_ref());
        for index in 0..state.slots.len() {
            let slot = &mut state.slots[index];
            if !slot.changed {
                continue;
            }
            let record = slot
                .record
                .take()
                .map_or_else(Default::default, |record| *record);
            let saved = records
                .save(slot.kept.as_ref(), record, self.now, &budget)
                .await;
            slot.record = Some(Box::new(saved.record));
            if saved.failed {
                state.note(&self.config, index, Reason::StoreUnavailable);
            }
        }
        for StartedClick {
            program,
            touch,
            call,
        } in late
        {
            let slot = &state.slots[program];
            if let (Some(kept), Some(record), Some(clicks)) =
                (&slot.kept, &slot.record, &self.config.clicks)
                && record.holds(kept)
                && kept.touch == Some(touch)
                && let Some(current) = record.current.clone()
            {
                let program = self.config.programs[program].clone();
                records.join_later(clicks, call, current, touch, program, self.now);
            }
        }
    }

    /// Says what is kept.
    fn outgoing(&self, mut state: RequestState, status: StatusCode) -> Outgoing {
        if let Some(session) = &self.session
            && !status.is_server_error()
        {
            session.copy(state.all_kept());
        }
        let set_cookies = set_cookies(&self.config, &mut state);
        Outgoing {
            is_private: !set_cookies.is_empty() || self.has_parameter,
            set_cookies,
            decisions: state.decisions,
        }
    }

    /// Returns `true` if the request is a landing that is captured, whatever attribution decides: the
    /// visitor then holds a referral of its program.
    pub(crate) fn is_captured_landing(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| {
            inbound.landings.iter().any(|(index, landing)| {
                landing.is_ok() && self.permissions.of(*index) == Permission::Granted
            })
        })
    }
}

/// Verifies what the browser sent.
fn open(config: &Config, cookies: &FoundCookies, now: UnixMillis) -> RequestState {
    if config.records.is_some() {
        let empty = config.programs.iter().map(|_| Loaded::default());
        return RequestState::load(config, cookies, empty.collect(), now);
    }
    RequestState::open(config, cookies, now)
}
