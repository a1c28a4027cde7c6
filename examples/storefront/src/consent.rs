//! The consent banner: what the visitor said is in the cookie `consent`. Until the visitor says
//! something, nothing is kept, and the page itself holds the landing's referral, sealed, to hand
//! it back with the answer.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use tower_referral::{Capture, Consent, Forget, Referral};

use crate::answer::Problem;
use crate::fields::Fields;
use crate::shop::Shop;

/// What the banner shows and holds.
#[derive(Debug)]
pub(crate) struct Banner {
    pub(crate) choice: Consent,
    /// The referral that would be lost otherwise, as a carry token.
    pub(crate) landing: Option<String>,
}

impl Banner {
    pub(crate) fn new(shop: &Shop, headers: &HeaderMap, referral: Option<&Referral>) -> Self {
        let choice = choice(headers);
        let landing = referral
            .filter(|_| choice == Consent::Unknown)
            .and_then(|referral| referral.carry_token(&shop.landings).ok())
            .map(|token| token.to_string());
        Self { choice, landing }
    }

    /// Returns `true` if the visitor has agreed.
    pub(crate) fn is_granted(&self) -> bool {
        self.choice == Consent::Granted
    }
}

/// What the visitor said, by the cookie `consent`. The layer asks this on every request.
pub(crate) fn choice(headers: &HeaderMap) -> Consent {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii);
    let mut choice = Consent::Unknown;
    for cookie in cookies {
        match cookie {
            // Of two cookies that disagree, the refusal counts.
            b"consent=denied" => return Consent::Denied,
            b"consent=granted" => choice = Consent::Granted,
            _ => {}
        }
    }
    choice
}

/// `POST /consent`: takes the banner's answer.
///
/// This request's own headers can't say yet what it is about to set, so the handler tells the
/// layer.
pub(crate) async fn answer(
    State(shop): State<Arc<Shop>>,
    fields: Fields,
) -> Result<Response, Problem> {
    let back = Redirect::to("/");
    match fields.text("answer", 16)? {
        "granted" => {
            let landing = fields.raw("landing")?;
            // A token that doesn't open is no referral.
            let referral = landing.and_then(|token| shop.landings.open(token).ok());
            let capture =
                referral.map(|referral| Capture::referral(referral).consent(Consent::Granted));
            Ok((remember(&shop, "granted"), capture, back).into_response())
        }
        "denied" => Ok((remember(&shop, "denied"), Forget, back).into_response()),
        _ => Err(fields.refuse("`answer` must be granted or denied")),
    }
}

/// The cookie for half a year.
fn remember(shop: &Shop, answer: &str) -> [(header::HeaderName, String); 1] {
    let secure = if shop.plain_http { "" } else { "; Secure" };
    let cookie =
        format!("consent={answer}; Path=/; Max-Age=15552000; SameSite=Lax; HttpOnly{secure}");
    [(header::SET_COOKIE, cookie)]
}
