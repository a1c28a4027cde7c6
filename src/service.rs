//! What happens to one request, top to bottom. The way back is in `future`.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response};
use tower_service::Service;

use crate::attribution::Touch;
use crate::click::{Clicker, Pending};
use crate::config::Config;
use crate::consent::Permission;
use crate::future::{ResponseFuture, WayBack};
use crate::keep::cookie::Jar;
use crate::landing::{self, Found, PageVisit};
use crate::ledger::{Ledger, Win};
use crate::reason::Reason;
use crate::referral::{Source, UnixMillis};
use crate::request::RequestRef;
use crate::visit::{NothingOfOurs, Visit};

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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if Visit::is_marked(request.extensions()) {
            // Two layers, one inside the other: the outer one does the work.
            return ResponseFuture::new(self.inner.call(request), None);
        }
        let way_back = arrive(&self.config, RequestRef::from(&request));
        match way_back.visit() {
            None => drop(request.extensions_mut().insert(NothingOfOurs)),
            Some(visit) => drop(request.extensions_mut().insert(visit)),
        }
        ResponseFuture::new(self.inner.call(request), Some(way_back))
    }
}

/// Looks for what is ours in a request, and decides over it as far as it must be decided now.
fn arrive(config: &Arc<Config>, request: RequestRef<'_>) -> WayBack {
    let permission = config.consent.permission(request);
    let ours = Ours::find(config, request);
    let mut way_back = WayBack::new(Arc::clone(config), permission);
    way_back.has_parameter = ours.query.is_some();
    if ours.must_be_decided(config, permission) {
        let mut ledger = Ledger::open(config, &ours.jar);
        let decided = decide(config, request, permission, &ours, &mut ledger);
        way_back.clean_url = decided.clean_url;
        way_back.clicks = decided.clicks;
        way_back.ledger = Some(ledger);
    }
    way_back.jar = ours.jar;
    way_back
}

/// What in a request is ours.
struct Ours<'r> {
    /// Our cookies, unverified.
    jar: Jar,
    /// The query, if it has a parameter of ours.
    query: Option<&'r str>,
    /// Keys that other scripts keep for us, with the program's index.
    scripts: Vec<(usize, Found)>,
}

impl<'r> Ours<'r> {
    fn find(config: &Config, request: RequestRef<'r>) -> Self {
        Self {
            jar: config.cookies.put_aside(request.headers()),
            query: request
                .uri()
                .query()
                .filter(|query| landing::has_parameter(&config.programs, query)),
            scripts: if config.has_fallback {
                landing::read_scripts(&config.programs, request.headers())
            } else {
                Vec::new()
            },
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

/// What a decision leads to, beside what is in the ledger.
#[derive(Default)]
struct Decided {
    /// The URL to redirect to.
    clean_url: Option<HeaderValue>,
    /// The clicks that were started, with the program's index.
    clicks: Vec<(usize, Pending)>,
}

/// Decides over a request that has something of ours.
fn decide(
    config: &Config,
    request: RequestRef<'_>,
    permission: Permission,
    ours: &Ours<'_>,
    ledger: &mut Ledger,
) -> Decided {
    let mut decided = Decided::default();
    let visit = if config.is_skipped(request) {
        Err(Reason::Skipped)
    } else {
        if let Permission::Denied(reason) = permission {
            forget_all(config, &ours.jar, reason, ledger);
        }
        PageVisit::of(request).ok_or(Reason::NotAPageVisit)
    };
    if let Some(clicker) = &config.clicks {
        ledger.join_late_answers(config, clicker);
    }
    let mut wins = Vec::new();
    let mut is_kept = false;
    for (index, program) in config.programs.iter().enumerate() {
        let read = ours
            .query
            .and_then(|query| landing::read(program, query.as_bytes()));
        match (read, visit) {
            (None, _) => {}
            (Some(_), Err(reason)) | (Some(Err(reason)), Ok(_)) => {
                ledger.note(config, index, reason);
            }
            (Some(Ok(found)), Ok(visit)) => {
                let touch = landing_touch(config, request, visit, index, found, ledger.now());
                wins.extend(ledger.touch(config, index, touch, permission));
                is_kept |= ledger.is_kept(index);
            }
        }
    }
    if matches!(permission, Permission::Granted | Permission::NotYet) {
        for (index, found) in &ours.scripts {
            let referral = found.clone().into_referral(
                &config.programs[*index],
                Source::Script,
                None,
                ledger.now(),
            );
            if visit.is_err() {
                ledger.show(*index, referral);
            } else if ledger.yields_to_script(*index, &referral) {
                // The script tells its platform itself: there is no click to create.
                ledger.touch(config, *index, Touch::new(referral), permission);
            }
        }
    }
    if let (Some(clicker), Ok(visit), Permission::Granted) = (&config.clicks, visit, permission) {
        decided.clicks = start_clicks(clicker, request, visit, wins, ledger);
    }
    // Without consent the page has to be shown: it holds the referral until the visitor agrees.
    if config.clean_url && is_kept && permission == Permission::Granted {
        decided.clean_url = landing::clean_location(&config.programs, config.page_uri(request));
    }
    decided
}

/// Starts the clicks of the touches that won, and of those that waited for a real page view.
fn start_clicks(
    clicker: &Clicker,
    request: RequestRef<'_>,
    visit: PageVisit,
    mut wins: Vec<Win>,
    ledger: &mut Ledger,
) -> Vec<(usize, Pending)> {
    if visit.speculative {
        wins.iter().for_each(|win| ledger.defer_click(win));
        return Vec::new();
    }
    wins.extend(ledger.take_due());
    if wins.is_empty() {
        return Vec::new();
    }
    let Some(facts) = clicker.facts(request) else {
        return Vec::new();
    };
    wins.into_iter()
        .filter_map(|win| ledger.start_click(clicker, facts.clone(), win))
        .collect()
}

fn landing_touch(
    config: &Config,
    request: RequestRef<'_>,
    visit: PageVisit,
    index: usize,
    found: Found,
    now: UnixMillis,
) -> Touch {
    let path = config.page_uri(request).path();
    let program = &config.programs[index];
    let mut touch = Touch::new(found.into_referral(program, Source::Landing, Some(path), now));
    touch.fills_only = if config.stands_down(path) {
        Some(Reason::KeptStandDown)
    } else if visit.same_origin {
        Some(Reason::KeptSameOrigin)
    } else {
        None
    };
    touch
}

/// The visitor refuses: what the browser sent of ours is to go, valid or not.
fn forget_all(config: &Config, jar: &Jar, reason: Reason, ledger: &mut Ledger) {
    for index in 0..config.programs.len() {
        if config.cookies.has(jar, index) {
            ledger.forget(config, index, reason);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for ReferralService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferralService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
