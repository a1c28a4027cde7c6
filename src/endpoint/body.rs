//! Reading what a page's script posts.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Map, Value};

use super::refusal::{MAX_BODY_LEN, Refusal};
use crate::config::Config;
use crate::page_visit::Origin;
use crate::query::{behind_field, decode, pair_value};

/// No key and no extra parameter is longer, in bytes.
const MAX_VALUE_LEN: usize = 255;
/// No path and no referrer is longer, in bytes.
const MAX_URL_LEN: usize = 4096;

/// The fields that the ready-made script writes in front of the page's query, in its order.
const FIELDS: [&str; 3] = ["_path", "_referrer", "_navigation"];

/// What a page's script posted.
pub(super) struct Posted {
    /// The landing's parameters, as a query.
    pub(super) query: Bytes,
    /// The page's path.
    pub(super) path: Option<String>,
    /// The page's `document.referrer`; `None` where the script doesn't say.
    pub(super) referrer: Option<Referrer>,
    /// The visitor had the page already: reloaded it, or went back or forward to it.
    pub(super) is_again: bool,
}

/// What a page's script says of the page before.
pub(super) enum Referrer {
    /// The page had none: it was typed, mailed, or the other page doesn't tell.
    Nothing,
    Url(String),
    /// It says something that isn't a URL, or is too long: it counts as a link of the own site.
    Unreadable,
}

impl Posted {
    /// Reads a request's body, within the timeout where something measures it.
    pub(super) async fn read<B>(
        config: &Config,
        request: Request<B>,
        timeout: Duration,
    ) -> Result<Self, Refusal>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let format = Format::of(request.headers()).ok_or(Refusal::MediaType)?;
        let body = Limited::new(request.into_body(), MAX_BODY_LEN).collect();
        let body = match config.runtime.sleep(timeout) {
            Some(sleep) => sleep.limit(body).await.ok_or(Refusal::TooSlow)?,
            None => body.await,
        };
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Refusal::TooLarge
            } else {
                Refusal::Unreadable
            }
        })?;
        match format {
            Format::Form => Ok(Self::of_form(&body.to_bytes())),
            Format::Json => Self::of_json(config, &body.to_bytes()),
        }
    }

    /// `said` reads a field of the script's. A referrer and a navigation that can't be read count as the worst
    /// that they could be; a path that can't be read isn't known.
    fn new(query: Bytes, said: impl Fn(&str) -> Option<Result<String, Unreadable>>) -> Self {
        let path = said("_path").and_then(Result::ok);
        let referrer = said("_referrer").map(|text| match text {
            Ok(url) if url.is_empty() => Referrer::Nothing,
            Ok(url) if Origin::of_url(url.as_bytes()).is_some() => Referrer::Url(url),
            Ok(_) | Err(Unreadable) => Referrer::Unreadable,
        });
        // https://www.w3.org/TR/navigation-timing-2/#sec-performance-navigation-types
        let is_first = |kind: Result<String, Unreadable>| {
            kind.is_ok_and(|kind| matches!(&*kind, "" | "navigate" | "prerender"))
        };
        Self {
            query,
            path: path.filter(|path| path.starts_with('/')),
            referrer,
            is_again: said("_navigation").is_some_and(|kind| !is_first(kind)),
        }
    }

    /// Reads a form, in which the first field of a name counts.
    fn of_form(form: &Bytes) -> Self {
        let said = |name: &str| {
            let value = pair_value(form, name)?;
            // A form writes a blank as `+`.
            let value = value
                .iter()
                .map(|byte| if *byte == b'+' { b' ' } else { *byte });
            let value: Vec<_> = value.collect();
            Some(readable(decode(&value).as_deref()))
        };
        // What the ready-made script says takes nothing of the bounds within which the page's query is read.
        let query = FIELDS.into_iter().fold(&form[..], behind_field);
        Self::new(form.slice_ref(query), said)
    }

    /// Reads the members of a JSON object that mean something to us.
    fn of_json(config: &Config, body: &[u8]) -> Result<Self, Refusal> {
        let object: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| Refusal::Unreadable)?;
        let mut query = Vec::new();
        for program in &config.programs {
            for name in program.landing_params().chain(&program.extra_params) {
                let Some(value) = object.get(name.as_str()) else {
                    continue;
                };
                // What can't be anything, being no string or too long, is empty: it neither stands in
                // the way of the other parameters nor pushes them out of bounds.
                let value = value.as_str().filter(|value| value.len() <= MAX_VALUE_LEN);
                query.extend_from_slice(name.as_bytes());
                query.push(b'=');
                let value = percent_encode(value.unwrap_or_default().as_bytes(), NON_ALPHANUMERIC);
                for part in value {
                    query.extend_from_slice(part.as_bytes());
                }
                query.push(b'&');
            }
        }
        let said = |name: &str| Some(readable(object.get(name)?.as_str()));
        Ok(Self::new(query.into(), said))
    }
}

/// Something is there that isn't text, or is too long.
struct Unreadable;

fn readable(text: Option<&str>) -> Result<String, Unreadable> {
    let text = text.filter(|text| text.len() <= MAX_URL_LEN);
    text.map(str::to_owned).ok_or(Unreadable)
}

enum Format {
    Form,
    Json,
}

impl Format {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or(value).trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else {
            None
        }
    }
}
