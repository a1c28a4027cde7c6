//! The error of a handler that isn't behind the layer.

use std::fmt;

/// The request didn't pass a layer that it should have passed:
/// [`ReferralLayer`](crate::ReferralLayer), or, for `AppSession`, tower-sessions' `SessionManagerLayer`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MissingLayer(Missing);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Referrals,
    Sessions,
}

impl MissingLayer {
    /// The request didn't pass `ReferralLayer`.
    pub(crate) const REFERRALS: Self = Self(Missing::Referrals);
    /// The request has no session of tower-sessions.
    pub(crate) const SESSIONS: Self = Self(Missing::Sessions);
}

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Missing::Referrals => {
                "this request did not pass through `tower_referral::ReferralLayer`: add \
                 `.layer(referrals)` to the router after all routes that use a referral (in axum, a \
                 layer covers only the routes that were added before it), and let no middleware \
                 inside it build a new request without the extensions of the old one"
            }
            Missing::Sessions => {
                "`tower_referral::AppSession` found no `tower_sessions::Session` in this request: \
                 put `SessionManagerLayer`, or axum-login's `AuthManagerLayer`, which has it inside, \
                 outside `ReferralLayer` (in axum, `.layer(referrals).layer(session_manager)`), both \
                 of the same tower-sessions version: 0.15 is tower-referral's feature \
                 `tower-sessions-0_15`, 0.14 is `tower-sessions-0_14`"
            }
        })
    }
}

/// Shows the same text as `Display`: some frameworks print only this.
impl fmt::Debug for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for MissingLayer {}
