//! The configuration of a layer, checked and prepared: what every request reads and none changes.

use std::sync::Arc;

use http::Uri;
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;

use crate::click::dispatcher::ClickDispatcher;
use crate::clock::{UnixMillis, to_unix_millis};
use crate::consent::{ConsentRules, Permissions};
use crate::cookie::{CookieCodec, FoundCookies};
use crate::program::Program;
use crate::query::{FirstBytes, Query};
use crate::reason::Reason;
use crate::referral::TouchId;
use crate::request::RequestRef;
use crate::runtime::{Now, Runtime};
use crate::seal::message::StoredCookie;
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
    /// There is something to do about a request without a parameter or a cookie of ours.
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

    /// Returns `true` if a page view creates the click of a landing; otherwise the capture endpoint does.
    pub(crate) fn creates_due_clicks(&self) -> bool {
        self.clicks
            .as_ref()
            .is_none_or(|clicks| !clicks.is_at_endpoint())
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

    /// Returns the query, if it has a parameter of ours.
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
        match path {
            None => !self.stand_down.is_empty(),
            Some(_) if self.stand_down.is_empty() => false,
            Some(path) => is_below(path, &self.stand_down),
        }
    }
}

/// Wraps a clock of the user's.
pub(crate) fn clock_of(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Now {
    Arc::new(move || to_unix_millis(now()))
}

/// A path that is compared with others by whole segments, in lower case and resolved.
pub(crate) struct PathPrefix(Vec<String>);

impl PathPrefix {
    pub(crate) fn new(path: &str) -> Self {
        let path = decoded(path);
        let segments = resolved(&segments(&path)).into_iter();
        Self(segments.map(str::to_owned).collect())
    }

    fn begins(&self, segments: &[&str]) -> bool {
        let start = segments.get(..self.0.len());
        start.is_some_and(|start| start.iter().eq(&self.0))
    }
}

/// Returns `true` if `path` is at or below one of the prefixes. It matches at least as widely as any router:
/// percent-decoded once, whatever else is broken in it, split at `/` and `\`, without empty segments, each
/// cut at `;`, without dots and blanks at its end, in any case, with `..` resolved and not.
fn is_below(path: &str, prefixes: &[PathPrefix]) -> bool {
    let path = decoded(path);
    let all = segments(&path);
    let resolved = resolved(&all);
    let unresolved: Vec<_> = all.into_iter().filter(|it| *it != PARENT).collect();
    let is_below = |prefix: &PathPrefix| prefix.begins(&unresolved) || prefix.begins(&resolved);
    prefixes.iter().any(is_below)
}

/// The segment that leads back.
const PARENT: &str = "..";

/// Whole, because the segments of a hostile path are many.
fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().to_lowercase()
}

fn segments(decoded: &str) -> Vec<&str> {
    decoded
        .split(['/', '\\'])
        .map(|segment| segment.split(';').next().unwrap_or(segment).trim())
        .map(|segment| match segment {
            PARENT => segment,
            _ => segment.trim_end_matches(['.', ' ']),
        })
        .filter(|segment| !segment.is_empty())
        .collect()
}

/// Goes back where a segment leads back.
fn resolved<'p>(segments: &[&'p str]) -> Vec<&'p str> {
    let mut resolved = Vec::new();
    for segment in segments {
        if *segment == PARENT {
            resolved.pop();
        } else {
            resolved.push(*segment);
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_below(path: &str, prefix: &str) -> bool {
        super::is_below(path, &[PathPrefix::new(prefix)])
    }

    #[test]
    fn stand_down_paths_match_as_widely_as_any_router() {
        for path in [
            "/checkout",
            "/checkout/",
            "/checkout/pay",
            "//checkout",
            "/%63heckout",
            "/Checkout",
            "/CHECKOUT/pay",
            "/checkout;",
            "/checkout;jsessionid=1/pay",
            "/checkout%2Fpay",
            "/checkout%5Cpay",
            "/checkout.",
            "/checkout%20",
            "/./checkout",
            "/checkout%3Bx",
            "/%63heckout/%zz",
            "/%63heckout/50%",
            "/checkout%2f%ff",
            "/x/../checkout",
            "/x/..%2Fcheckout/pay",
            "/checkout/../x",
            "/../checkout",
        ] {
            assert!(is_below(path, "/checkout"), "{path}");
        }
        for path in [
            "/",
            "/checkouts",
            "/shop/checkout",
            "/check",
            "/x/.../checkout",
        ] {
            assert!(!is_below(path, "/checkout"), "{path}");
        }
        assert!(is_below("/shop/checkout", "/old/../shop/checkout"));
    }
}
