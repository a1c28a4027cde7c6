//! The configuration of a layer, checked and prepared: what every request reads and none changes.

use std::sync::Arc;
use std::time::SystemTime;

use http::Uri;
use time::OffsetDateTime;

use crate::click::Clicker;
use crate::consent::ConsentRules;
use crate::keep::cookie::Cookies;
use crate::keep::server::Records;
use crate::keep::session::Mirror;
use crate::landing::{self, FirstBytes};
use crate::program::Program;
use crate::referral::{UnixMillis, to_unix_millis, unix_millis_of};
use crate::request::RequestRef;

pub(crate) type Skip = Box<dyn Fn(RequestRef<'_>) -> bool + Send + Sync>;
pub(crate) type OriginalUri = Box<dyn for<'a> Fn(RequestRef<'a>) -> Option<&'a Uri> + Send + Sync>;
pub(crate) type Clock = Box<dyn Fn() -> OffsetDateTime + Send + Sync>;

pub(crate) struct Config {
    /// At least one; everything else names a program by its index here.
    pub(crate) programs: Vec<Program>,
    pub(crate) first_bytes: FirstBytes,
    pub(crate) cookies: Cookies,
    /// Where the cookie holds no more than a visitor's ID.
    pub(crate) records: Option<Records>,
    /// Where the application's session has a copy.
    pub(crate) mirror: Option<Arc<Mirror>>,
    pub(crate) consent: ConsentRules,
    pub(crate) clicks: Option<Clicker>,
    pub(crate) skip: Option<Skip>,
    pub(crate) stand_down: Vec<String>,
    pub(crate) clean_url: bool,
    pub(crate) original_uri: Option<OriginalUri>,
    pub(crate) clock: Option<Clock>,
    /// Does any program read another script's cookie?
    pub(crate) has_fallback: bool,
    /// Is there something to do about a request without a parameter or a cookie of ours?
    pub(crate) looks_further: bool,
}

impl Config {
    pub(crate) fn now(&self) -> UnixMillis {
        match &self.clock {
            None => unix_millis_of(SystemTime::now()),
            Some(clock) => to_unix_millis(clock()),
        }
    }

    pub(crate) fn is_skipped(&self, request: RequestRef<'_>) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip(request))
    }

    pub(crate) fn stands_down(&self, path: &str) -> bool {
        self.stand_down
            .iter()
            .any(|prefix| landing::is_below(path, prefix))
    }

    /// The URI as the visitor's browser sees it.
    pub(crate) fn page_uri<'a>(&self, request: RequestRef<'a>) -> &'a Uri {
        self.original_uri
            .as_ref()
            .and_then(|original| original(request))
            .unwrap_or(request.uri())
    }
}
