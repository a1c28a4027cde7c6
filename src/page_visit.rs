//! Whether a request is a page visit, by its method and [Fetch Metadata], and what kind of link led to
//! it. Pure.
//!
//! A header that the browser didn't send says nothing, and one that it sent must say a page visit on
//! every line: hidden images, frames and fetches earn nobody anything.
//!
//! 1. The method is `GET`.
//! 2. `Sec-Fetch-Mode`, where sent, is `navigate`: no page can forge that.
//! 3. `Sec-Fetch-Dest`, where sent, is `document`, or `empty` with the mode `navigate`: a navigation
//!    that a service worker fetched again.
//! 4. Without both the request passes, unless it asks for WebSocket.
//! 5. Through a service worker, `Sec-Fetch-Storage-Access` is a frame in a foreign page, which is no page
//!    visit; `same-site` may be a frame, which only fills an empty slot and proves no view.
//!
//! [Fetch Metadata]: https://www.w3.org/TR/fetch-metadata/

use http::header::{ACCEPT, CACHE_CONTROL, HOST, REFERER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use smol_str::{SmolStr, StrExt as _};

use crate::reason::Reason;
use crate::request::RequestRef;

// As names and not as texts: a name is compared without a look at its text.
static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static SEC_FETCH_STORAGE_ACCESS: HeaderName = HeaderName::from_static("sec-fetch-storage-access");
static SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
static PURPOSE: HeaderName = HeaderName::from_static("purpose");
static X_PURPOSE: HeaderName = HeaderName::from_static("x-purpose");
static X_MOZ: HeaderName = HeaderName::from_static("x-moz");
static SEC_CH_UA: HeaderName = HeaderName::from_static("sec-ch-ua");
static HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");
static TURBO_FRAME: HeaderName = HeaderName::from_static("turbo-frame");

/// What kind of link led to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// From another site, typed, mailed, from an app, or not known.
    Outside,
    /// From a page of the own site.
    OwnSite,
    /// From this very URL: an interstitial was in between, or the page reloaded itself.
    ThisPage,
}

/// A `GET` that can be a top-level page visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageVisit {
    pub(crate) link: Link,
    /// Why a landing only fills an empty slot, whatever its link.
    pub(crate) fills_only: Option<Reason>,
    /// A landing proves that the visitor saw the page.
    pub(crate) is_seen: bool,
    /// With our cookie it proves that the visitor saw a page.
    pub(crate) is_page_view: bool,
}

/// What the headers say, before it is judged.
#[derive(Default)]
struct Metadata<'r> {
    has_mode: bool,
    has_dest: bool,
    is_worker: bool,
    same_origin: bool,
    same_site: bool,
    storage_access: bool,
    prefetch: bool,
    old_prefetch: bool,
    max_age_zero: bool,
    client_hints: bool,
    websocket: bool,
    referer: Option<&'r HeaderValue>,
}

impl PageVisit {
    /// Reads a request. `page` is its URI as the browser sees it, `domain` that of the cookie, if it has
    /// one.
    pub(crate) fn of(request: RequestRef<'_>, page: &Uri, domain: Option<&str>) -> Option<Self> {
        if request.method() != Method::GET {
            return None;
        }
        let metadata = Metadata::of(request.headers())?;
        let (is_worker, has_domain) = (metadata.is_worker, domain.is_some());
        let is_refused = if metadata.has_dest || metadata.has_mode {
            is_worker && (!metadata.has_mode || metadata.storage_access)
        } else {
            metadata.websocket
        };
        if is_refused {
            return None;
        }
        let referer = metadata.referer.map_or(&b""[..], HeaderValue::as_bytes);
        // Before what the browser says of the site: a worker's request is always `same-origin`, and a link of
        // the own site that went through another one, for instance a shortener, always `cross-site`.
        let link = match own_link_of(request, referer, page, domain) {
            Some(link) => link,
            None if is_worker => Link::Outside,
            None if metadata.same_origin && is_same_page(referer, page) => Link::ThisPage,
            None if metadata.same_origin || (metadata.same_site && has_domain) => Link::OwnSite,
            None => Link::Outside,
        };
        let may_be_frame = is_worker && metadata.same_site;
        let is_reload = metadata.max_age_zero && metadata.client_hints && link != Link::ThisPage;
        let fills_only = if metadata.prefetch {
            Some(Reason::KeptPrefetch)
        } else if may_be_frame {
            Some(Reason::KeptPossibleFrame)
        } else if is_reload {
            Some(Reason::KeptReload)
        } else {
            None
        };
        let is_ahead = metadata.prefetch || metadata.old_prefetch;
        Some(Self {
            link,
            fills_only,
            is_seen: !is_ahead && !is_worker,
            is_page_view: !is_ahead && !may_be_frame,
        })
    }
}

impl<'r> Metadata<'r> {
    /// Goes once through all headers: looking up ten names that no table knows takes longer. `None` if
    /// any line says that it isn't a page visit.
    fn of(headers: &'r HeaderMap) -> Option<Self> {
        let mut found = Self::default();
        for (name, value) in headers {
            let text = value.as_bytes();
            if *name == SEC_FETCH_DEST {
                match text {
                    b"document" => {}
                    b"empty" => found.is_worker = true,
                    _ => return None,
                }
                found.has_dest = true;
            } else if *name == SEC_FETCH_MODE {
                if text != b"navigate" {
                    return None;
                }
                found.has_mode = true;
            } else if *name == SEC_FETCH_SITE {
                found.same_origin |= text == b"same-origin";
                found.same_site |= text == b"same-site";
            } else if *name == SEC_FETCH_STORAGE_ACCESS {
                found.storage_access = true;
            } else if *name == SEC_PURPOSE {
                found.prefetch = true;
            } else if *name == PURPOSE || *name == X_PURPOSE || *name == X_MOZ {
                found.old_prefetch |= [&b"prefetch"[..], b"preview"]
                    .iter()
                    .any(|purpose| text.trim_ascii().eq_ignore_ascii_case(purpose));
            } else if *name == CACHE_CONTROL {
                found.max_age_zero |= text
                    .split(|byte| *byte == b',')
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"max-age=0"));
            } else if *name == SEC_CH_UA {
                found.client_hints = true;
            } else if *name == UPGRADE {
                found.websocket |= text
                    .split(|byte| *byte == b',')
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"websocket"));
            } else if *name == REFERER {
                found.referer = Some(value);
            }
        }
        Some(found)
    }
}

/// Returns `true` if a page of the own site fetches this one to show it in the place of its own, as scripts
/// like htmx and Turbo do. A call of an API isn't one: `fetch` asks for `*/*` where it isn't told otherwise.
pub(crate) fn is_own_fetch(request: RequestRef<'_>, page: &Uri, domain: Option<&str>) -> bool {
    let headers = request.headers();
    let says = |name: &HeaderName, texts: &[&[u8]]| {
        let mut lines = headers.get_all(name).iter().peekable();
        lines.peek().is_some() && lines.all(|line| texts.contains(&line.as_bytes()))
    };
    let is_fetch = says(&SEC_FETCH_DEST, &[b"empty"])
        && says(&SEC_FETCH_MODE, &[b"cors", b"same-origin"])
        && says(&SEC_FETCH_SITE, &[b"same-origin"]);
    let asks_for_html = |accept: &HeaderValue| {
        let types = accept.as_bytes().split(|byte| matches!(byte, b',' | b';'));
        let mut types = types.map(<[u8]>::trim_ascii);
        types.any(|text| text.eq_ignore_ascii_case(b"text/html"))
    };
    let is_shown = headers.contains_key(&HX_REQUEST)
        || headers.contains_key(&TURBO_FRAME)
        || headers.get_all(ACCEPT).iter().any(asks_for_html);
    let referer = headers.get(REFERER).map(HeaderValue::as_bytes);
    let link = referer.and_then(|referer| own_link_of(request, referer, page, domain));
    // An interstitial may fetch the page that it stands in front of.
    request.method() == Method::GET && is_fetch && is_shown && link == Some(Link::OwnSite)
}

/// Returns what kind of link of the own site the referrer of a request tells of.
fn own_link_of(
    request: RequestRef<'_>,
    referer: &[u8],
    page: &Uri,
    domain: Option<&str>,
) -> Option<Link> {
    let is_own = |origin: &Origin| {
        let host = Host::of(request, page);
        host.is_some_and(|host| host.is_of(origin))
    };
    own_link(referer, is_own, domain, || is_same_page(referer, page))
}

/// Returns what kind of link of the own site a referrer tells of: of an own origin, or of the cookie's
/// domain. `None` if it is of neither. `is_page`: it is the very page that it led to.
pub(crate) fn own_link(
    referrer: &[u8],
    is_own: impl FnOnce(&Origin) -> bool,
    domain: Option<&str>,
    is_page: impl FnOnce() -> bool,
) -> Option<Link> {
    let origin = Origin::of_url(referrer)?;
    if is_own(&origin) {
        return Some(if is_page() {
            Link::ThisPage
        } else {
            Link::OwnSite
        });
    }
    let is_below = domain.is_some_and(|domain| origin.is_below(domain));
    is_below.then_some(Link::OwnSite)
}

/// Returns `true` if the referrer names the same path and query as the page.
fn is_same_page(referer: &[u8], page: &Uri) -> bool {
    let rest = Origin::split_url(referer).map(|(_, rest)| rest);
    let rest = rest.map(|rest| rest.split(|byte| *byte == b'#').next().unwrap_or(rest));
    let page = page.path_and_query().map(|page| page.as_str().as_bytes());
    rest.is_some() && rest == page
}

/// Scheme, host and port of a URL, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: SmolStr,
    host: SmolStr,
    port: Option<u16>,
}

impl Origin {
    /// Reads an origin that stands by itself: a scheme, a host and a port, and nothing else. A host is in ASCII,
    /// as browsers write it.
    #[cfg(feature = "endpoint")]
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (_, rest) = Self::split_url(text)?;
        let origin = Self::of_url(text).filter(|_| rest.is_empty())?;
        let is_in_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let is_in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let address = origin.host.strip_prefix('[');
        let address = address.and_then(|host| host.strip_suffix(']'));
        let is_host = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !origin.host.is_empty() && origin.host.bytes().all(is_in_name),
        };
        let is_scheme = origin.scheme.bytes().all(is_in_scheme) && !origin.scheme.is_empty();
        (is_scheme && is_host).then_some(origin)
    }

    /// Reads the origin of a URL.
    pub(crate) fn of_url(url: &[u8]) -> Option<Self> {
        let (origin, _) = Self::split_url(url)?;
        let text = std::str::from_utf8(origin).ok()?;
        let (scheme, authority) = text.split_once("://")?;
        let host = Host::parse(authority)?;
        let scheme = scheme.to_ascii_lowercase_smolstr();
        let port = host
            .port
            .filter(|port| Some(*port) != default_port(&scheme));
        Some(Self {
            scheme,
            host: host.name,
            port,
        })
    }

    /// Splits a URL into its origin and the rest.
    fn split_url(url: &[u8]) -> Option<(&[u8], &[u8])> {
        let scheme = memchr::memchr(b':', url)?;
        let start = scheme + b"://".len();
        url[scheme..].starts_with(b"://").then_some(())?;
        let end = url[start..]
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
            .map_or(url.len(), |end| start + end);
        Some(url.split_at(end))
    }

    /// Returns the path of a URL.
    #[cfg(feature = "endpoint")]
    pub(crate) fn path_of(url: &[u8]) -> Option<String> {
        let (_, rest) = Self::split_url(url)?;
        let end = rest.iter().position(|byte| matches!(byte, b'?' | b'#'));
        let path = std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).ok()?;
        Some(if path.is_empty() { "/" } else { path }.to_owned())
    }

    /// Returns the query of a URL.
    #[cfg(feature = "endpoint")]
    pub(crate) fn query_of(url: &[u8]) -> Option<&[u8]> {
        let (_, rest) = Self::split_url(url)?;
        let rest = rest.split(|byte| *byte == b'#').next()?;
        let start = rest.iter().position(|byte| *byte == b'?')?;
        Some(&rest[start + 1..])
    }

    /// Returns `true` if the host is the domain or below it.
    pub(crate) fn is_below(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        let above = self.host.strip_suffix(&domain);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }
}

/// The host that a request was made to, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    name: SmolStr,
    port: Option<u16>,
}

impl Host {
    /// Reads the host that the browser asked: that of the page's URI, where it has one, else that of the
    /// request's target, or its `Host` header (RFC 9112 section 3.3).
    pub(crate) fn of(request: RequestRef<'_>, page: &Uri) -> Option<Self> {
        match page.authority().or(request.uri().authority()) {
            Some(authority) => Self::parse(authority.as_str()),
            None => Self::parse(request.headers().get(HOST)?.to_str().ok()?),
        }
    }

    fn parse(authority: &str) -> Option<Self> {
        if authority.is_empty() || authority.contains('@') {
            return None;
        }
        // The colons of an IPv6 address are within brackets.
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().ok()?),
        };
        Some(Self {
            name: name.trim_end_matches('.').to_ascii_lowercase_smolstr(),
            port,
        })
    }

    /// Returns `true` if a page of this origin comes from this host. A server often doesn't know its
    /// own scheme, so a port that is the default of the origin's may be left out.
    pub(crate) fn is_of(&self, origin: &Origin) -> bool {
        let default = default_port(&origin.scheme);
        self.name == origin.host && self.port.or(default) == origin.port.or(default)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
