//! Carry tokens: a referral sealed into a short string, for where no cookie goes.

use std::{fmt, sync::Arc, time::Duration};

use smol_str::SmolStr;
use time::OffsetDateTime;

use crate::clock::{HAS_SYSTEM_CLOCK, UnixMillis, system_now, to_unix_millis};
use crate::error::ConfigError;
use crate::names::MAX_WINDOW_SECONDS;
use crate::referral::Referral;
use crate::runtime::Now;
use crate::seal::keyring::Keyring;
use crate::seal::{MAX_SEALED_LEN, Purpose, Seal, SealError, message};

/// A token begins with the moment it expires at, as the seal's other times are written.
const EXPIRY_LEN: usize = 8;
const MAX_PURPOSE_LEN: usize = 64;
const MAX_AUDIENCE_LEN: usize = 253;

/// Seals referrals into carry tokens and opens them: for payment metadata, an OAuth `state`, a
/// native app or another domain.
///
/// A token is bound to a purpose and an audience of your choice, and opens only by the same: a
/// token for one shop's payments is worth nothing in another's sign-up. It has a `ttl` of its own,
/// because the payment that it travels with counts by the day of the checkout, not of the webhook.
///
/// A token is signed, not encrypted, and whoever holds it can hand it back: give it to those who
/// may know the referral.
///
/// ```
/// use tower_referral::{Keyring, Referral, SigningKey, carry::Carry};
///
/// # fn checkout(referral: Referral) -> Result<(), Box<dyn std::error::Error>> {
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let carry = Carry::builder(keyring).purpose("payment").audience("shop.example").build()?;
///
/// // The checkout's handler:
/// let client_reference_id = referral.carry_token(&carry)?.to_string();
/// // The payment's webhook:
/// let referral = carry.open(&client_reference_id)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Carry {
    seal: Seal,
    ttl: UnixMillis,
    max_len: usize,
    clock: Option<Now>,
}

impl Carry {
    /// The longest token unless [`CarryBuilder::max_len`] says otherwise: what Stripe takes as a
    /// [`client_reference_id`](https://docs.stripe.com/api/checkout/sessions/create), 200
    /// characters.
    pub const DEFAULT_MAX_LEN: usize = 200;

    /// Creates a builder: purpose `carry`, no audience, a `ttl` of 30 days, at most 200
    /// characters.
    pub fn builder(keyring: Keyring) -> CarryBuilder {
        CarryBuilder {
            keyring,
            purpose: "carry".into(),
            audience: SmolStr::default(),
            ttl: Duration::from_secs(30 * 24 * 60 * 60),
            max_len: Self::DEFAULT_MAX_LEN,
            clock: None,
        }
    }

    /// Opens a token.
    ///
    /// What comes out was sealed by this service for this purpose and audience, and the token's
    /// `ttl` hasn't ended. Whether the referral's own window has is for the caller to judge, by
    /// [`Referral::expires_at`].
    ///
    /// # Errors
    ///
    /// Anything else. An invalid token is best treated as no referral: the payment goes on.
    pub fn open(&self, token: impl AsRef<str>) -> Result<Referral, CarryError> {
        let token = token.as_ref();
        let open = |message: &[u8]| {
            let (expiry, message) = message
                .split_first_chunk::<EXPIRY_LEN>()
                .ok_or(CarryError::Malformed)?;
            if UnixMillis::from_be_bytes(*expiry) <= self.now() {
                return Err(CarryError::Expired);
            }
            message::decode_named(message).ok_or(CarryError::Malformed)
        };
        self.seal.open(token.as_bytes(), open)?
    }

    fn seal(&self, referral: &Referral) -> Result<CarryToken, CarryError> {
        let expiry = self.now() + self.ttl;
        let mut message = expiry.to_be_bytes().to_vec();
        let max_len = self.seal.max_message_len(self.max_len);
        let max_len = max_len.saturating_sub(EXPIRY_LEN);
        message.extend_from_slice(&message::encode_named(referral, max_len));
        let len = self.seal.sealed_len(message.len());
        if len > self.max_len {
            return Err(CarryError::TooLong {
                len,
                max_len: self.max_len,
            });
        }
        let mut token = Vec::with_capacity(len);
        self.seal.seal(&message, &mut token);
        // Base64url is ASCII.
        Ok(CarryToken(String::from_utf8(token).unwrap_or_default()))
    }

    fn now(&self) -> UnixMillis {
        self.clock.as_ref().map_or_else(system_now, |now| now())
    }
}

impl fmt::Debug for Carry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carry")
            .field("ttl", &self.ttl)
            .field("max_len", &self.max_len)
            .finish_non_exhaustive()
    }
}

impl Referral {
    /// Seals the referral into a carry token.
    ///
    /// If it doesn't fit, the extra parameters are left out first, then the landing page, then the
    /// parameter's name; the key, the click ID and the platform's partner ID never.
    ///
    /// # Errors
    ///
    /// The key, the click ID and the partner ID are too long for [`CarryBuilder::max_len`]. With the default
    /// of 200 characters a token fits if they, the program's name and the signing key's ID have 76 bytes
    /// together.
    pub fn carry_token(&self, carry: &Carry) -> Result<CarryToken, CarryError> {
        carry.seal(self)
    }
}

/// The configuration of a [`Carry`].
#[must_use = "a configuration does nothing until `build` makes a `Carry` of it"]
pub struct CarryBuilder {
    keyring: Keyring,
    purpose: SmolStr,
    audience: SmolStr,
    ttl: Duration,
    max_len: usize,
    clock: Option<Now>,
}

impl CarryBuilder {
    /// Sets what the token is for: 1 to 64 bytes, for instance `payment`.
    pub fn purpose(mut self, purpose: impl AsRef<str>) -> Self {
        self.purpose = purpose.as_ref().into();
        self
    }

    /// Sets who is to open it: at most 253 bytes, for instance a host name.
    pub fn audience(mut self, audience: impl AsRef<str>) -> Self {
        self.audience = audience.as_ref().into();
        self
    }

    /// Sets how long a token opens: 1 second to 400 days, in whole seconds.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the longest token, in characters: 200 for Stripe's `client_reference_id`, 500 for its
    /// metadata values. At most 1067.
    pub fn max_len(mut self, max_len: usize) -> Self {
        self.max_len = max_len;
        self
    }

    /// Sets the clock, for tests and for targets without one. The system's by default.
    pub fn clock(mut self, now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(move || to_unix_millis(now())));
        self
    }

    /// Checks the configuration and derives the keys.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidCarry`]: the purpose, the audience or the `ttl` is out of bounds.
    /// [`ConfigError::NoClock`]: this target has no clock, and none was given.
    pub fn build(self) -> Result<Carry, ConfigError> {
        let seconds = self.ttl.as_secs();
        let is_valid = (1..=MAX_PURPOSE_LEN).contains(&self.purpose.len())
            && self.audience.len() <= MAX_AUDIENCE_LEN
            && (1..=u64::from(MAX_WINDOW_SECONDS)).contains(&seconds)
            && self.ttl.subsec_nanos() == 0;
        if !is_valid {
            return Err(ConfigError::InvalidCarry);
        }
        if self.clock.is_none() && !HAS_SYSTEM_CLOCK {
            return Err(ConfigError::NoClock);
        }
        let purpose = Purpose::Carry {
            purpose: &self.purpose,
            audience: &self.audience,
        };
        Ok(Carry {
            seal: Seal::new(&self.keyring, purpose),
            ttl: UnixMillis::try_from(seconds * 1000).unwrap_or(UnixMillis::MAX),
            max_len: self.max_len.min(MAX_SEALED_LEN),
            clock: self.clock,
        })
    }
}

impl fmt::Debug for CarryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarryBuilder")
            .field("keyring", &self.keyring)
            .field("purpose", &self.purpose)
            .field("audience", &self.audience)
            .field("ttl", &self.ttl)
            .field("max_len", &self.max_len)
            .finish_non_exhaustive()
    }
}

/// A referral sealed into one run of `A-Z a-z 0-9 - _`.
///
/// `Display` and [`as_str`](Self::as_str) show it; `Debug` doesn't, because whoever holds a token
/// can hand it back.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CarryToken(String);

impl CarryToken {
    /// Returns the token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for CarryToken {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for CarryToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CarryToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CarryToken(hidden)")
    }
}

/// Why a carry token couldn't be made or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CarryError {
    /// The referral's key, click ID and partner ID don't fit the longest token.
    TooLong {
        /// The length that the token would have, in characters.
        len: usize,
        /// The longest that is allowed.
        max_len: usize,
    },
    /// The text isn't a carry token.
    Malformed,
    /// The token was signed by a key that isn't on the keyring.
    UnknownSigningKey,
    /// The token wasn't signed by this service, or for another purpose or audience.
    BadSignature,
    /// The token's `ttl` has ended.
    Expired,
}

impl fmt::Display for CarryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max_len } => write!(
                f,
                "the carry token would have {len} characters, and {max_len} are allowed: put it \
                 where there is more room, and raise `max_len`"
            ),
            Self::Malformed => {
                f.write_str("not a carry token: hand it back unaltered, one run of A-Z a-z 0-9 - _")
            }
            Self::UnknownSigningKey => f.write_str(
                "the carry token was signed by a key that is not on the keyring: keep old keys \
                 as verifying ones for as long as tokens live",
            ),
            Self::BadSignature => f.write_str(
                "the carry token was altered, or made for another purpose or audience: open it \
                 with the same as it was sealed with",
            ),
            Self::Expired => {
                f.write_str("the carry token has expired: make `ttl` as long as payments may take")
            }
        }
    }
}

impl std::error::Error for CarryError {}

impl From<SealError> for CarryError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Malformed => Self::Malformed,
            SealError::UnknownKey => Self::UnknownSigningKey,
            SealError::BadSignature => Self::BadSignature,
        }
    }
}
