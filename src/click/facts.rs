//! What the platform is told of a landing beside the key: as little as it needs, and of the visitor
//! nothing unless the user asks for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{HOST, REFERER, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::{ClickRequest, NotFor, ReadIp};
use crate::referral::Referral;
use crate::request::RequestRef;

/// The longest user agent and the longest referrer that are passed on, in bytes.
const MAX_FACT_LEN: usize = 512;

/// Which requests a platform is told of, and what.
pub(super) struct FactsRule {
    pub(super) base_url: Option<String>,
    pub(super) ip: Option<ReadIp>,
    pub(super) whole_ip: bool,
    pub(super) user_agent: bool,
    pub(super) not_for: NotFor,
}

impl FactsRule {
    pub(super) fn read(&self, request: RequestRef<'_>) -> Option<Facts> {
        if (self.not_for)(request) {
            return None;
        }
        let headers = request.headers();
        let ip = self.ip.as_ref().and_then(|source| source(request));
        let own_url = own_base_url(request.uri(), headers);
        // The capture endpoint is called by our own page, which says nothing about where the
        // visitor came from.
        let referrer =
            referrer_origin(headers).filter(|origin| host_of(origin) != host_of(&own_url));
        Some(Facts {
            base_url: self.base_url.clone().unwrap_or(own_url),
            referrer,
            ip: if self.whole_ip { ip } else { ip.map(masked) },
            user_agent: self.user_agent.then(|| text_of(headers)).flatten(),
        })
    }
}

/// What a click has to know of the request beside the referral.
#[derive(Clone)]
pub(crate) struct Facts {
    base_url: String,
    referrer: Option<String>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl Facts {
    pub(super) fn into_request(self, referral: &Referral) -> ClickRequest {
        let page = referral.landing_page().unwrap_or_else(|| "/".to_owned());
        ClickRequest {
            key: referral.key.clone(),
            program: referral.program.clone(),
            landing_url: format!("{}{page}", self.base_url),
            referrer: self.referrer,
            ip: self.ip,
            user_agent: self.user_agent,
        }
    }
}

/// Scheme and host as the request gives them. Most servers don't see the scheme, and nearly all
/// sites are on HTTPS, those on this very machine apart.
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

pub(crate) fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

fn referrer_origin(headers: &HeaderMap) -> Option<String> {
    let referrer: Uri = headers.get(REFERER)?.to_str().ok()?.parse().ok()?;
    let host = referrer.host()?;
    let port = referrer.port().map(|port| format!(":{port}"));
    let origin = format!(
        "{}://{host}{}",
        referrer.scheme_str()?,
        port.unwrap_or_default()
    );
    (origin.len() <= MAX_FACT_LEN).then_some(origin)
}

fn host_of(url: &str) -> Option<&str> {
    url.split_once("://").map(|(_, host)| host)
}

fn text_of(headers: &HeaderMap) -> Option<String> {
    let user_agent = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(user_agent.chars().take(MAX_FACT_LEN).collect())
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
