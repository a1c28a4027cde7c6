//! What happens to one request, top to bottom. The way back is in `future`.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response};
use smallvec::SmallVec;
use tower_service::Service;

use crate::attribution::Touch;
use crate::click::Pending;
use crate::config::Config;
use crate::consent::Permission;
use crate::future::{Decided, Effects, Elsewhere, ResponseFuture, WayBack};
use crate::keep::cookie::Jar;
use crate::keep::server::Records;
use crate::keep::session::is_page;
use crate::landing::{self, Found, PageVisit, Query};
use crate::ledger::{Ledger, Win};
use crate::reading::{Decide, Reading};
use crate::reason::Reason;
use crate::referral::Source;
use crate::request::RequestRef;
use crate::visit::{Inside, Visit};

/// The service that [`ReferralLayer`](crate::ReferralLayer) makes of another.
///
/// It asks nothing of the bodies, and of the inner service nothing but that it takes and gives
/// `http` types.
#[derive(Clone)]
pub struct ReferralService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> ReferralService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// Hands the request on to the inner service.
    #[inline]
    fn hand_on<B>(&mut self, request: Request<B>) -> S::Future
    where
        S: Service<Request<B>>,
    {
        let _inside = Inside::enter();
        self.inner.call(request)
    }
}

impl<S, B, R> Service<Request<B>> for ReferralService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline] // where it is called, a request is moved once less
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if Visit::is_marked(request.extensions()) {
            // Two layers, one inside the other: the outer one does the work.
            return ResponseFuture::handed_on(self.inner.call(request));
        }
        let config = &self.config;
        let view = RequestRef::from(&request);
        let jar = config.cookies.put_aside(view.headers());
        let query = our_query(config, view);
        if query.is_none() && jar.is_empty() && !config.looks_further {
            // Nearly all traffic.
            let config = Arc::clone(config);
            Visit::mark(None, request.extensions_mut());
            return ResponseFuture::listening(self.hand_on(request), config);
        }
        let mut way_back = WayBack::new(Arc::clone(config), jar);
        let visit = arrive(config, view, query, &mut way_back);
        Visit::mark(visit, request.extensions_mut());
        ResponseFuture::away(self.hand_on(request), way_back)
    }
}

/// The way in of the few requests that have something of ours, or of all of them where the configuration
/// asks for more than a look at the query and the cookies: decides over it as far as it must be decided
/// now. Gives what handlers get to see, and leaves what the way back needs to know.
#[inline(never)]
fn arrive(
    config: &Arc<Config>,
    request: RequestRef<'_>,
    query: Option<Query<'_>>,
    way_back: &mut WayBack,
) -> Option<Visit> {
    let permission = config.consent.permission(request);
    way_back.permission = permission;
    way_back.has_parameter = query.is_some();
    let ours = Ours::new(config, request, way_back.jar(), query);
    let (mut decided, mut elsewhere) = (None, None);
    let mut seen = None;
    if let Some(records) = &config.records
        && !ours.jar.is_empty()
    {
        let reading = read_later(config, records, request, permission, &ours);
        elsewhere = Some(Elsewhere::server(Arc::clone(&reading)));
        seen = Some(Visit::OnServer(reading));
    } else if ours.must_be_decided(config, permission) {
        let mut shared = Arc::<Ledger>::default();
        // Nobody else has it yet, so nothing is copied.
        let ledger = Arc::make_mut(&mut shared);
        ledger.begin(config);
        ledger.open(config, ours.jar);
        let effects = Arrival::new(config, request, permission, &ours, ledger).decide();
        seen = Some(Visit::Decided(Arc::clone(&shared)));
        decided = Some(Decided {
            ledger: shared,
            effects,
        });
    } else if !ours.jar.is_empty() {
        seen = Some(Visit::unopened(config, ours.jar));
    }
    if let Some(mirror) = &config.mirror {
        match mirror.visit(request.extensions()) {
            Some(session) => {
                elsewhere = Some(Elsewhere::Session {
                    session,
                    is_looked_after: is_page(request.headers()),
                });
            }
            None => seen = Some(Visit::NoSession),
        }
    }
    way_back.learn(decided, elsewhere);
    seen
}

/// What the browser sent stands for something on the server. If that must be known, the request is
/// decided over once it is: by the same rules, on a copy of the request without its body.
fn read_later(
    config: &Arc<Config>,
    records: &Records,
    request: RequestRef<'_>,
    permission: Permission,
    ours: &Ours<'_>,
) -> Arc<Reading> {
    let mut ledger = Ledger::new(config);
    ledger.open(config, ours.jar);
    let is_denied = matches!(permission, Permission::Denied(_));
    let must_be_decided =
        ours.query.is_some() || !ours.scripts.is_empty() || is_denied || ledger.is_due();
    let decide = must_be_decided.then(|| -> Decide {
        let (config, copy) = (Arc::clone(config), request.to_owned());
        Box::new(move |mut ledger| {
            let request = RequestRef::from(&copy);
            let jar = config.cookies.put_aside(request.headers());
            let ours = Ours::new(&config, request, &jar, our_query(&config, request));
            let arrival = Arrival::new(&config, request, permission, &ours, &mut ledger);
            let effects = arrival.decide();
            let ledger = Arc::new(ledger);
            Decided { ledger, effects }
        })
    });
    Arc::new(Reading::new(
        Arc::clone(config),
        records,
        permission,
        ledger,
        decide,
    ))
}

/// The query, if it has a parameter of ours.
#[inline]
fn our_query<'r>(config: &Config, request: RequestRef<'r>) -> Option<Query<'r>> {
    let query = request.uri().query()?;
    Query::of(&config.programs, &config.first_bytes, query.as_bytes())
}

/// What in a request is ours.
struct Ours<'r> {
    /// Our cookies, unverified.
    jar: &'r Jar,
    /// The query, if it has a parameter of ours.
    query: Option<Query<'r>>,
    /// Keys that other scripts keep for us, with the program's index.
    scripts: Vec<(usize, Found<'r>)>,
}

impl<'r> Ours<'r> {
    fn new(
        config: &'r Config,
        request: RequestRef<'r>,
        jar: &'r Jar,
        query: Option<Query<'r>>,
    ) -> Self {
        let scripts = if config.has_fallback {
            landing::read_scripts(&config.programs, request.headers())
        } else {
            Vec::new()
        };
        Self {
            jar,
            query,
            scripts,
        }
    }

    /// What a returning visitor has kept is verified only if a handler asks, unless it has to be
    /// forgotten or a click ID may have come for it. Everything else is decided before the inner
    /// service is called, so that its handler sees the result.
    fn must_be_decided(&self, config: &Config, permission: Permission) -> bool {
        let must_open_jar = matches!(permission, Permission::Denied(_)) || config.clicks.is_some();
        self.query.is_some() || !self.scripts.is_empty() || (must_open_jar && !self.jar.is_empty())
    }
}

/// The touches that won; at most one in each program.
type Wins = SmallVec<[Win; 1]>;

/// A request that has something of ours, while it is decided over.
struct Arrival<'r> {
    config: &'r Config,
    request: RequestRef<'r>,
    ours: &'r Ours<'r>,
    permission: Permission,
    /// A page visit, or why the request counts as none.
    visit: Result<PageVisit, Reason>,
    ledger: &'r mut Ledger,
    /// The visitor landed, and holds a referral of that program now, new or not.
    landed: bool,
}

impl<'r> Arrival<'r> {
    fn new(
        config: &'r Config,
        request: RequestRef<'r>,
        permission: Permission,
        ours: &'r Ours<'r>,
        ledger: &'r mut Ledger,
    ) -> Self {
        let visit = if config.is_skipped(request) {
            Err(Reason::Skipped)
        } else {
            PageVisit::of(request).ok_or(Reason::NotAPageVisit)
        };
        Self {
            config,
            request,
            ours,
            permission,
            visit,
            ledger,
            landed: false,
        }
    }

    fn decide(mut self) -> Option<Box<Effects>> {
        self.forget_if_denied();
        self.join_late_clicks();
        let wins = self.take_landings();
        self.take_scripts();
        let clicks = self.start_clicks(wins);
        let clean_url = self.clean_url();
        let has_effects = !clicks.is_empty() || clean_url.is_some();
        has_effects.then(|| Box::new(Effects { clicks, clean_url }))
    }

    /// Where the visitor refuses, what the browser sent of ours is to go, valid or not.
    fn forget_if_denied(&mut self) {
        let Permission::Denied(refusal) = self.permission else {
            return;
        };
        for index in 0..self.config.programs.len() {
            if self.config.cookies.has(self.ours.jar, index) {
                self.ledger.forget(self.config, index, refusal.reason());
            }
        }
    }

    /// What came late is written into the cookie, so it waits while consent is unknown.
    fn join_late_clicks(&mut self) {
        if let (Some(clicker), Permission::Granted) = (&self.config.clicks, self.permission) {
            self.ledger.join_late_answers(self.config, clicker);
        }
    }

    /// The keys in the query, program by program. Gives the touches that won.
    fn take_landings(&mut self) -> Wins {
        let mut wins = Wins::new();
        let Some(query) = self.ours.query else {
            return wins;
        };
        for (index, program) in self.config.programs.iter().enumerate() {
            match (landing::read(program, query), self.visit) {
                (None, _) => {}
                (Some(_), Err(reason)) | (Some(Err(reason)), Ok(_)) => {
                    self.ledger.note(self.config, index, reason);
                }
                (Some(Ok(found)), Ok(visit)) => {
                    let touch = self.landing_touch(visit, index, found);
                    let ledger = &mut *self.ledger;
                    if let Some(win) = ledger.touch(self.config, index, touch, self.permission) {
                        wins.push(win);
                    }
                    self.landed |= self.ledger.is_kept(index);
                }
            }
        }
        wins
    }

    #[inline(always)] // with what it calls, because a referral is large to move
    fn landing_touch(&self, visit: PageVisit, index: usize, found: Found<'_>) -> Touch {
        let path = self.config.page_uri(self.request).path();
        let program = &self.config.programs[index];
        let now = self.ledger.now();
        let mut touch = Touch::new(found.into_referral(program, Source::Landing, Some(path), now));
        if self.config.stands_down(path) {
            touch.fills_only = Some(Reason::KeptStandDown);
        } else if visit.same_origin {
            touch.fills_only = Some(Reason::KeptSameOrigin);
        }
        touch
    }

    /// The keys that other scripts keep: a page visit stores them, any other request shows them.
    /// The script tells its platform itself, so there is no click to create.
    fn take_scripts(&mut self) {
        if let Permission::Denied(_) = self.permission {
            return;
        }
        for (index, found) in self.ours.scripts.iter().cloned() {
            let program = &self.config.programs[index];
            let referral = found.into_referral(program, Source::Script, None, self.ledger.now());
            if self.visit.is_err() {
                self.ledger.show(index, referral);
            } else if self.ledger.yields_to_script(index, &referral) {
                let page = self.config.page_uri(self.request);
                let stands_down = self.config.stands_down(page.path());
                let touch = Touch {
                    fills_only: stands_down.then_some(Reason::KeptStandDown),
                    ..Touch::new(referral)
                };
                self.ledger
                    .touch(self.config, index, touch, self.permission);
            }
        }
    }

    /// Starts the clicks of the touches that won, and of those that waited for a real page view.
    fn start_clicks(&mut self, wins: Wins) -> Vec<(usize, Pending)> {
        let (Some(clicker), Ok(visit), Permission::Granted) =
            (&self.config.clicks, self.visit, self.permission)
        else {
            return Vec::new();
        };
        if visit.speculative {
            for win in &wins {
                self.ledger.defer_click(clicker, win);
            }
            return Vec::new();
        }
        if wins.is_empty() && !self.ledger.has_due_clicks() {
            return Vec::new();
        }
        let Some(facts) = clicker.facts(self.request) else {
            return Vec::new();
        };
        let mut started = self.ledger.start_due_clicks(clicker, &facts);
        for win in wins {
            started.extend(self.ledger.start_click(clicker, facts.clone(), win));
        }
        started
    }

    /// The URL to send the browser to. Without consent the page has to be shown: it holds the
    /// referral until the visitor agrees.
    fn clean_url(&self) -> Option<HeaderValue> {
        let is_wanted =
            self.config.clean_url && self.landed && self.permission == Permission::Granted;
        let uri = self.config.page_uri(self.request);
        is_wanted.then(|| landing::clean_location(&self.config.programs, uri))?
    }
}

impl<S: fmt::Debug> fmt::Debug for ReferralService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferralService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
