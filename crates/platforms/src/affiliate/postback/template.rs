//! A postback's template: a URL with macros in its query, checked when it is read, and the request
//! that a report makes of it.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use percent_encoding::percent_decode_str;

use super::macros::{Kind, Macro};
use super::problem::Problem;
use crate::base_url::is_platform_url;
use crate::endpoint::encoded;
use crate::redact::HiddenTexts;
use crate::{Error, PlatformIds, Repeat, Report, Unsupported};

/// A template that was checked.
#[derive(Clone)]
pub(super) struct Template {
    /// Up to the question mark.
    url: String,
    query: Vec<Part>,
    is_form: bool,
    secrets: Arc<[String]>,
}

#[derive(Clone)]
enum Part {
    Text(String),
    Macro(Macro),
}

impl Template {
    /// Reads and checks a template; `may_be_plain` says which hosts may have plain HTTP.
    pub(super) fn new(
        text: &str,
        kind: Kind,
        extra: &[String],
        is_form: bool,
        may_be_plain: fn(&str) -> bool,
    ) -> Result<Self, Problem> {
        let (url, query) = text.split_once('?').unwrap_or((text, ""));
        if url.contains(['{', '}']) {
            return Err(Problem::MisplacedMacro);
        }
        if !is_platform_url(url, may_be_plain) || text.contains('#') {
            return Err(Problem::InvalidUrl);
        }
        let query = parts(query, extra)?;
        let template = Self {
            url: url.to_owned(),
            secrets: secrets(text, url, &query),
            query,
            is_form,
        };
        let needed: &[(&str, Macro)] = match kind {
            Kind::Sale => &[("click_id", Macro::ClickId), ("order", Macro::Order)],
            Kind::SignUp => &[("click_id", Macro::ClickId), ("customer", Macro::Customer)],
            Kind::Refund => &[("order", Macro::Order)],
        };
        for part in &template.query {
            if let Part::Macro(of) = part
                && !of.is_in(kind)
            {
                let name = macro_name(of).to_owned();
                return Err(Problem::NotInReport { name });
            }
        }
        for (name, of) in needed {
            if !template.has(of) {
                return Err(Problem::MissingMacro { name });
            }
        }
        // What is put in for the macros is encoded, so that the rest decides.
        let literal: String = template.query.iter().map(Part::literal).collect();
        let uri = format!("{url}?{literal}").parse::<Uri>();
        if uri.is_err() || !literal.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Problem::InvalidUrl);
        }
        Ok(template)
    }

    pub(super) fn has(&self, wanted: &Macro) -> bool {
        let mut parts = self.query.iter();
        parts.any(|part| matches!(part, Part::Macro(of) if of == wanted))
    }

    /// Returns the request of a report. Whatever its method, it changes something.
    pub(super) fn request(
        &self,
        report: &Report,
        ids: &PlatformIds,
    ) -> Result<Request<Bytes>, Error> {
        let mut query = String::new();
        for part in &self.query {
            match part {
                Part::Text(text) => query.push_str(text),
                Part::Macro(of) => {
                    let value = of.value(report, ids)?;
                    // Writing to a text doesn't fail.
                    let _ = write!(query, "{}", encoded(&value));
                }
            }
        }
        let (uri, body) = if self.is_form {
            (self.url.clone(), query)
        } else {
            (format!("{}?{query}", self.url), String::new())
        };
        // The template was checked; what remains is a text that is too long for a URL.
        let too_long = |_| Error::Unsupported(Unsupported::Value("URL"));
        let uri = uri.parse::<Uri>().map_err(too_long)?;
        let mut request = Request::new(Bytes::from(body));
        *request.uri_mut() = uri;
        if self.is_form {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            *request.method_mut() = Method::POST;
            request.headers_mut().insert(CONTENT_TYPE, form);
        }
        let extensions = request.extensions_mut();
        extensions.insert(Repeat::Unsafe);
        extensions.insert(HiddenTexts(Arc::clone(&self.secrets)));
        Ok(request)
    }
}

impl Part {
    fn literal(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Macro(_) => "",
        }
    }
}

fn parts(query: &str, extra: &[String]) -> Result<Vec<Part>, Problem> {
    let mut parts = Vec::new();
    let mut rest = query;
    // Is the place within a parameter's value?
    let mut in_value = false;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, macro_on) = rest.split_at(at);
        let inner = macro_on.strip_prefix('{').ok_or(Problem::UnbalancedBrace)?;
        let (name, after) = inner.split_once('}').ok_or(Problem::UnbalancedBrace)?;
        if name.contains('{') {
            return Err(Problem::UnbalancedBrace);
        }
        in_value = match text.rsplit_once('&') {
            Some((_, last)) => last.contains('='),
            None => in_value || text.contains('='),
        };
        if !in_value {
            return Err(Problem::MisplacedMacro);
        }
        let is_extra = extra.iter().any(|known| known == name);
        let of = Macro::named(name).or_else(|| is_extra.then(|| Macro::Extra(name.to_owned())));
        parts.push(Part::Text(text.to_owned()));
        parts.push(Part::Macro(of.ok_or_else(|| {
            let name = shown(name);
            Problem::UnknownMacro { name }
        })?));
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

/// Returns everything of the template's own that must not come back in an error's text: the URL, its
/// path, and the values that the query has besides the macros, decoded too.
fn secrets(text: &str, url: &str, query: &[Part]) -> Arc<[String]> {
    let path = url.split_once("://").map_or("", |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let literals = query.iter().flat_map(|part| part.literal().split('&'));
    let values = literals.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let texts = [text, url, path].into_iter().chain(path.split('/'));
    let mut secrets = Vec::new();
    for secret in texts.chain(values) {
        let decoded = percent_decode_str(secret).decode_utf8_lossy().into_owned();
        secrets.extend([secret.to_owned(), decoded]);
    }
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort_unstable();
    secrets.dedup();
    secrets.into()
}

fn macro_name(of: &Macro) -> &str {
    match of {
        Macro::Extra(name) => name,
        of => super::macros::name_of(of),
    }
}

/// Returns a name as it may be shown; anything else may be a part of a secret.
pub(super) fn shown(name: &str) -> String {
    let is_name = is_name(name);
    if is_name {
        name.to_owned()
    } else {
        String::new()
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_part)
}
