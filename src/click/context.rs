//! What the platform is told of a landing besides the key: as little as it needs, and of the visitor
//! nothing unless the user asks for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{HOST, REFERER, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::request::ClickRequest;
use crate::referral::Referral;
use crate::request::RequestRef;
use crate::runtime::Spawner;

/// The longest user agent and the longest referrer that are passed on, in bytes.
const MAX_TEXT_LEN: usize = 512;

pub(crate) type ReadIp = Box<dyn Fn(RequestRef<'_>) -> Option<IpAddr> + Send + Sync>;
pub(crate) type Exclude = Box<dyn Fn(RequestRef<'_>) -> bool + Send + Sync>;
pub(crate) type ShortenPath = Box<dyn Fn(&str) -> String + Send + Sync>;

/// Which requests a platform is told of, and what.
pub(crate) struct ClickContextConfig {
    pub(crate) base_url: Option<String>,
    pub(crate) ip: Option<ReadIp>,
    pub(crate) unmasked_ip: bool,
    pub(crate) user_agent: bool,
    pub(crate) exclude: Exclude,
    pub(crate) shorten_path: Option<ShortenPath>,
}

/// What a click has to know of its request besides the referral.
#[derive(Clone, Debug)]
pub(crate) struct ClickContext {
    base_url: String,
    referrer: Option<String>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
    /// What the request brought to run the call.
    pub(super) spawner: Option<Spawner>,
}

impl ClickContextConfig {
    /// Reads a request; `None` where the platform isn't told of it.
    pub(crate) fn read(&self, request: RequestRef<'_>) -> Option<ClickContext> {
        if (self.exclude)(request) {
            return None;
        }
        let headers = request.headers();
        let ip = self.ip.as_ref().and_then(|source| source(request));
        let own_url = own_base_url(request.uri(), headers);
        // The capture endpoint is called by a page of the own site, whose address says nothing about
        // where the visitor came from.
        let referrer =
            referrer_origin(headers).filter(|origin| host_of(origin) != host_of(&own_url));
        Some(ClickContext {
            base_url: self.base_url.clone().unwrap_or(own_url),
            referrer,
            ip: if self.unmasked_ip { ip } else { ip.map(masked) },
            user_agent: self.user_agent.then(|| text_of(headers)).flatten(),
            spawner: request.extensions().get().cloned(),
        })
    }

    /// Creates the click's request; `None` for a referral without a key.
    pub(crate) fn request(
        &self,
        context: ClickContext,
        referral: &Referral,
    ) -> Option<ClickRequest> {
        let path = referral.landing_path.as_deref().unwrap_or("/");
        let shortened = self.shorten_path.as_ref().map(|shorten| shorten(path));
        let path = shortened.as_deref().unwrap_or(path);
        let page = referral.page_at(path).unwrap_or_else(|| path.to_owned());
        let landing_url = format!("{}{page}", context.base_url);
        let mut request = ClickRequest::new(referral.key.clone()?, landing_url)
            .with_program(referral.program.as_str());
        if let Some(referrer) = context.referrer {
            request = request.with_referrer(referrer);
        }
        if let Some(ip) = context.ip {
            request = request.with_ip(ip);
        }
        if let Some(user_agent) = context.user_agent {
            request = request.with_user_agent(user_agent);
        }
        Some(request)
    }
}

impl ClickContext {
    /// Sets where the link was, as the page's own script tells it.
    #[cfg(feature = "endpoint")]
    pub(crate) fn set_referrer(&mut self, referrer: &str) {
        let referrer = referrer.parse().ok();
        self.referrer = referrer.and_then(|url: Uri| origin_of(&url));
    }
}

/// Returns scheme and host as the request gives them. Most servers don't see the scheme: it is taken to
/// be HTTPS, but for this machine.
fn own_base_url(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = uri
        .authority()
        .cloned()
        .or_else(|| host?.parse::<Authority>().ok())
        .filter(|authority| !authority.as_str().contains('@'));
    let Some(authority) = authority else {
        return "http://localhost".to_owned();
    };
    let scheme = uri.scheme_str().unwrap_or({
        if is_this_machine(authority.host()) {
            "http"
        } else {
            "https"
        }
    });
    format!("{scheme}://{authority}")
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

fn referrer_origin(headers: &HeaderMap) -> Option<String> {
    let referrer: Uri = headers.get(REFERER)?.to_str().ok()?.parse().ok()?;
    origin_of(&referrer)
}

fn origin_of(url: &Uri) -> Option<String> {
    let host = url.host()?;
    let port = url.port().map(|port| format!(":{port}"));
    let origin = format!("{}://{host}{}", url.scheme_str()?, port.unwrap_or_default());
    (origin.len() <= MAX_TEXT_LEN).then_some(origin)
}

fn host_of(url: &str) -> Option<&str> {
    url.split_once("://").map(|(_, host)| host)
}

fn text_of(headers: &HeaderMap) -> Option<String> {
    let user_agent = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(user_agent.chars().take(MAX_TEXT_LEN).collect())
}

fn masked(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}
