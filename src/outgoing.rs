//! What is to be said in a response, and the cookies that say it.

use http::HeaderValue;
use http::Response;
use http::header::SET_COOKIE;
use smallvec::SmallVec;

use crate::cache;
use crate::config::Config;
use crate::cookie::CookieCodec;
use crate::cookie::write::RecordCookie;
use crate::reason::{Decisions, Reason};
use crate::state::RequestState;

/// What is to be said in the response.
pub(crate) struct Outgoing {
    pub(crate) set_cookies: SmallVec<[HeaderValue; 1]>,
    /// Shared caches must not keep it.
    pub(crate) is_private: bool,
    pub(crate) decisions: Decisions,
}

impl Outgoing {
    /// Writes into a response what is kept, and keeps shared caches away from it.
    pub(crate) fn write<R>(self, response: &mut Response<R>) {
        for line in self.set_cookies {
            response.headers_mut().append(SET_COOKIE, line);
        }
        if self.is_private {
            cache::make_private(response.headers_mut());
        }
        if !self.decisions.is_empty() {
            response.extensions_mut().insert(self.decisions);
        }
    }
}

/// Writes one `Set-Cookie` for each program that changed, within the bound of all cookies together.
pub(crate) fn set_cookies(config: &Config, state: &mut RequestState) -> SmallVec<[HeaderValue; 1]> {
    let mut set_cookies = SmallVec::new();
    // Of a single program there are no others to leave room for.
    let programs = state.slots.len();
    let measured = if programs > 1 { programs } else { 0 };
    let mut lengths: SmallVec<[usize; 1]> = (0..measured)
        .map(|index| state.cookie_len(config, index))
        .collect();
    for index in 0..state.slots.len() {
        let slot = &state.slots[index];
        if !slot.changed {
            continue;
        }
        let Some(kept) = &slot.kept else {
            set_cookies.push(config.cookies.forget(index));
            continue;
        };
        let own = lengths.get(index).unwrap_or(&0);
        let others = lengths.iter().sum::<usize>() - own;
        let record = slot.record.as_ref().and_then(|record| {
            Some(RecordCookie {
                record: record.current.as_ref()?,
                carries: !record.holds(kept),
                fills_only: record.fills_only,
            })
        });
        match config.cookies.keep(index, kept, record, others, state.now) {
            Some(line) => {
                if let Some(len) = lengths.get_mut(index) {
                    *len = CookieCodec::pair_len(&line);
                }
                set_cookies.push(line);
            }
            None => state.note(config, index, Reason::NoRoom),
        }
    }
    set_cookies
}
