//! Everything that one request says to the layer, parsed once and owned: it lives on while a store is
//! asked.

use http::Uri;
use smallvec::SmallVec;

use crate::attribution::{ClickDue, Touch};
use crate::click::context::ClickContext;
use crate::clock::UnixMillis;
use crate::config::Config;
use crate::consent::Permissions;
use crate::page_visit::{Link, PageVisit, is_own_fetch};
use crate::program::Program;
use crate::query::{Found, Query, read_scripts};
use crate::reason::Reason;
use crate::referral::{ClickState, Rank, Referral, Source, is_landing_path};
use crate::request::RequestRef;

/// What one request says.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    /// The landing of each program whose parameter is there, or why it is none.
    pub(crate) landings: SmallVec<[(usize, Result<Touch, Reason>); 1]>,
    /// What the landings would be of a page that one of the own site fetched to show it in its place: if that
    /// page leads to itself later, it was a link of the own site.
    pub(crate) own_fetches: Vec<(usize, Referral)>,
    /// The keys that other scripts keep.
    pub(crate) scripts: Vec<Touch>,
    /// Script's keys are kept by page visits only, and shown on any other request.
    pub(crate) is_page_visit: bool,
    /// With our cookie it proves that the visitor sees a page.
    pub(crate) is_page_view: bool,
    /// What the platform would be told of a click; `None` where it isn't told of this request.
    pub(crate) click_context: Option<ClickContext>,
}

impl Inbound {
    /// Reads a request. `has_due_clicks`: the visitor's cookie has a click that waits for a page view.
    pub(crate) fn read(
        config: &Config,
        request: RequestRef<'_>,
        query: Option<Query<'_>>,
        permissions: &Permissions,
        has_due_clicks: bool,
        now: UnixMillis,
    ) -> Self {
        let page = config.page_uri(request);
        let visit = PageVisit::of(request, page, config.domain.as_deref());
        let is_page_visit = visit.is_some();
        let is_page_view = visit.is_some_and(|visit| visit.is_page_view);
        let may_click = query.is_some() || (has_due_clicks && is_page_view);
        let click_context = config
            .clicks
            .as_ref()
            .filter(|_| may_click && is_page_visit)
            .and_then(|clicks| clicks.context(request));
        let landings = query.map_or_else(SmallVec::new, |query| {
            let can_click = click_context.is_some();
            read_landings(config, query, page, visit, can_click, now)
        });
        let domain = config.domain.as_deref();
        let is_fetched = visit.is_none() && is_own_fetch(request, page, domain);
        let own_fetches = query
            .filter(|_| is_fetched)
            .map_or_else(Vec::new, |query| read_fetches(config, query, now));
        let scripts = if config.has_fallback {
            read_script_touches(config, request, page, permissions, now)
        } else {
            Vec::new()
        };
        Self {
            landings,
            own_fetches,
            scripts,
            is_page_visit,
            is_page_view,
            click_context,
        }
    }

    /// Returns `true` if the request says something that must be known before the response is out. Where
    /// clicks are configured and nothing is due, a late click ID is in the record already.
    pub(crate) fn must_decide(&self, permissions: &Permissions) -> bool {
        !self.landings.is_empty() || !self.scripts.is_empty() || permissions.denies_any()
    }
}

/// Reads what the query of a fetched page would credit, program by program.
fn read_fetches(config: &Config, query: Query<'_>, now: UnixMillis) -> Vec<(usize, Referral)> {
    let programs = config.programs.iter().enumerate();
    let fetches = programs.filter_map(|(index, program)| {
        let found = query.read(program)?.ok()?;
        let referral = referral_of(program, found, Source::Landing, None, now);
        Some((index, referral))
    });
    fetches.collect()
}

/// Reads the landings in the query, program by program.
#[inline]
fn read_landings(
    config: &Config,
    query: Query<'_>,
    page: &Uri,
    visit: Option<PageVisit>,
    can_click: bool,
    now: UnixMillis,
) -> SmallVec<[(usize, Result<Touch, Reason>); 1]> {
    let mut landings = SmallVec::new();
    for (index, program) in config.programs.iter().enumerate() {
        let landing = match (query.read(program), visit) {
            (None, _) => continue,
            (Some(_), None) => Err(Reason::NotAPageVisit),
            (Some(Err(_)), Some(_)) => Err(Reason::InvalidKey),
            (Some(Ok(found)), Some(visit)) => {
                let path = Some(page.path());
                let (link, fills_only) = (visit.link, visit.fills_only);
                let mut touch = landing_touch(config, index, found, path, link, fills_only, now);
                touch.click = match (can_click, visit.is_seen) {
                    (false, _) => ClickDue::Never,
                    (true, false) => ClickDue::AtNextPageView,
                    (true, true) => ClickDue::Now,
                };
                Ok(touch)
            }
        };
        landings.push((index, landing));
    }
    landings
}

/// Creates the touch of a landing: by its path, where that is known, by the kind of link that led to it, and
/// by why it only fills an empty slot whatever its link.
pub(crate) fn landing_touch(
    config: &Config,
    index: usize,
    found: Found,
    path: Option<&str>,
    link: Link,
    fills_only: Option<Reason>,
    now: UnixMillis,
) -> Touch {
    let program = &config.programs[index];
    let mut referral = referral_of(program, found, Source::Landing, path, now);
    // A click is named even if it is created later or never: a sale may ask for it by this name.
    if config.clicks.is_some() && referral.click_id.is_none() {
        referral.touch = config.draw_touch();
    }
    if link == Link::OwnSite {
        referral.rank = Rank::Own;
    }
    let fills_only = if config.stands_down(path) {
        Some(Reason::KeptStandDown)
    } else if link == Link::OwnSite {
        Some(Reason::KeptOwnLink)
    } else {
        fills_only
    };
    Touch {
        fills_only,
        inherits: link == Link::ThisPage,
        ..Touch::new(index, referral)
    }
}

/// Reads the keys that other scripts keep. Their script tells its platform itself, so there is no click
/// to create.
fn read_script_touches(
    config: &Config,
    request: RequestRef<'_>,
    page: &Uri,
    permissions: &Permissions,
    now: UnixMillis,
) -> Vec<Touch> {
    let stands_down = config.stands_down(Some(page.path()));
    let found = read_scripts(&config.programs, request.headers()).into_iter();
    let allowed = found.filter(|(index, _)| !permissions.denies(*index));
    allowed
        .map(|(index, found)| {
            let program = &config.programs[index];
            let mut referral = referral_of(program, found, Source::Script, None, now);
            referral.rank = Rank::Script;
            Touch {
                fills_only: stands_down.then_some(Reason::KeptStandDown),
                ..Touch::new(index, referral)
            }
        })
        .collect()
}

fn referral_of(
    program: &Program,
    found: Found,
    source: Source,
    path: Option<&str>,
    now: UnixMillis,
) -> Referral {
    Referral {
        key: found.key,
        click_id: found.click_id,
        partner_id: None,
        program: program.name.clone(),
        source,
        rank: Rank::Outside,
        touch: None,
        click: ClickState::Settled,
        captured_at: now,
        window: program.window_seconds(),
        parameter: Some(found.parameter),
        landing_path: path
            .filter(|path| is_landing_path(path.as_bytes()))
            .map(Into::into),
        refused: None,
        extra: found.extra,
    }
}
