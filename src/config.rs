//! The configuration of a layer, checked and prepared: what every request reads and none changes.

use http::Uri;

use crate::click::dispatcher::ClickDispatcher;
use crate::clock::UnixMillis;
use crate::consent::{ConsentRules, Permissions};
use crate::cookie::{CookieCodec, FoundCookies};
use crate::program::Program;
use crate::query::{FirstBytes, Query};
use crate::reason::Reason;
use crate::referral::TouchId;
use crate::request::RequestRef;
use crate::runtime::Runtime;
use crate::seal::message::StoredCookie;
use crate::stand_down::{PathPrefix, is_below};
use crate::store::{Records, SessionCopies};

pub(crate) type Skip = Box<dyn Fn(RequestRef<'_>) -> bool + Send + Sync>;
pub(crate) type OriginalUri = Box<dyn for<'a> Fn(RequestRef<'a>) -> Option<&'a Uri> + Send + Sync>;

pub(crate) struct Config {
    /// At least one; everything else names a program by its index here.
    pub(crate) programs: Vec<Program>,
    pub(crate) first_bytes: FirstBytes,
    pub(crate) cookies: CookieCodec,
    /// The cookie's domain.
    pub(crate) domain: Option<String>,
    /// Where the cookie holds no more than a visitor's ID.
    pub(crate) records: Option<Records>,
    /// Where the application's session gets a copy.
    pub(crate) session_copies: Option<SessionCopies>,
    pub(crate) consent: ConsentRules,
    pub(crate) clicks: Option<ClickDispatcher>,
    pub(crate) skip: Option<Skip>,
    pub(crate) stand_down: Vec<PathPrefix>,
    pub(crate) original_uri: Option<OriginalUri>,
    pub(crate) runtime: Runtime,
    /// Some program reads another script's cookie.
    pub(crate) has_fallback: bool,
    /// There is something to do about a request without the layer's cookie or parameter.
    pub(crate) looks_at_all: bool,
    /// A request is asked for the visitor's consent.
    pub(crate) asks_consent: bool,
}

impl Config {
    pub(crate) fn now(&self) -> UnixMillis {
        self.runtime.now()
    }

    /// Draws the name of a touch; `None` without randomness.
    pub(crate) fn draw_touch(&self) -> Option<TouchId> {
        self.runtime.draw()
    }

    /// Returns `true` if a landing leaves its click to the script of its page, which asks the capture endpoint.
    pub(crate) fn clicks_at_endpoint(&self) -> bool {
        self.clicks
            .as_ref()
            .is_some_and(ClickDispatcher::is_at_endpoint)
    }

    pub(crate) fn is_skipped(&self, request: RequestRef<'_>) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip(request))
    }

    #[inline]
    pub(crate) fn permissions(&self, request: RequestRef<'_>) -> Permissions {
        if !self.asks_consent {
            return Permissions::GRANTED;
        }
        let own = self.programs.iter().enumerate();
        let own = own.filter_map(|(index, program)| Some((index, program.consent.as_ref()?)));
        Permissions::read(&self.consent, own, request)
    }

    /// Returns the query, if it has a landing parameter.
    #[inline]
    pub(crate) fn query<'r>(&self, request: RequestRef<'r>) -> Option<Query<'r>> {
        let query = request.uri().query()?;
        Query::of(&self.programs, &self.first_bytes, query.as_bytes())
    }

    /// Verifies the cookies of all programs, where referrals are kept on the server.
    pub(crate) fn open_stored(
        &self,
        cookies: &FoundCookies,
    ) -> Vec<Result<Vec<StoredCookie>, Reason>> {
        let programs = self.programs.iter().enumerate();
        programs
            .map(|(index, program)| self.cookies.open_stored(cookies, index, program))
            .collect()
    }

    /// Returns the index of the program of that name.
    pub(crate) fn program_index(&self, name: &str) -> Option<usize> {
        self.programs
            .iter()
            .position(|program| program.name == name)
    }

    /// Returns the URI as the visitor's browser sees it.
    pub(crate) fn page_uri<'a>(&self, request: RequestRef<'a>) -> &'a Uri {
        self.original_uri
            .as_ref()
            .and_then(|original| original(request))
            .unwrap_or(request.uri())
    }

    /// Returns `true` if a landing on this path only fills an empty slot. Without a known path, any
    /// configured stand-down path may be meant.
    pub(crate) fn stands_down(&self, path: Option<&str>) -> bool {
        !self.stand_down.is_empty() && path.is_none_or(|path| is_below(path, &self.stand_down))
    }
}
