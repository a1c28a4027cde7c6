//! The signing keys: one named key signs, older ones only verify.

use std::{env, fmt, str::FromStr, sync::Arc};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use smol_str::SmolStr;

/// The environment variable that [`Keyring::from_env`] reads the signing key from.
const SIGNING_VARIABLE: &str = "REFERRAL_KEY";
/// The environment variable that [`Keyring::from_env`] reads the older keys from.
const OLD_VARIABLE: &str = "REFERRAL_OLD_KEYS";

/// A secret and the name it goes by, its key ID.
///
/// The written form is `ID:BASE64`, for instance `2026-11:` followed by the output of
/// `openssl rand -base64 32`; [`FromStr`] reads it. The ID is 1 to 16 characters of
/// `A-Z a-z 0-9 - _` and is no secret: every sealed value names the key that sealed it. The
/// secret is at least 32 bytes ([RFC 2104 section 3] discourages HMAC keys shorter than the
/// hash's output), in the standard or the URL-safe base64 alphabet, padded or not.
///
/// `Debug` shows the ID only.
///
/// [RFC 2104 section 3]: https://www.rfc-editor.org/rfc/rfc2104#section-3
#[derive(Clone)]
pub struct SigningKey {
    id: SmolStr,
    secret: Arc<[u8]>,
}

impl SigningKey {
    /// The longest key ID, in characters.
    pub const MAX_ID_LEN: usize = 16;
    /// The shortest secret, in bytes.
    pub const MIN_SECRET_LEN: usize = 32;

    /// Names a secret.
    ///
    /// # Errors
    ///
    /// An ID that isn't 1 to 16 characters of `A-Z a-z 0-9 - _`, a secret under 32 bytes, and a
    /// secret that repeats a pattern of at most half its length.
    pub fn new(id: impl AsRef<str>, secret: impl AsRef<[u8]>) -> Result<Self, KeyringError> {
        let (id, secret) = (id.as_ref(), secret.as_ref());
        if !Self::is_id(id) {
            return Err(KeyringError::InvalidId);
        }
        let id = SmolStr::new(id);
        if secret.len() < Self::MIN_SECRET_LEN {
            return Err(KeyringError::TooShort {
                id: id.into(),
                len: secret.len(),
            });
        }
        if is_repeated(secret) {
            return Err(KeyringError::RepeatedPattern { id: id.into() });
        }
        Ok(Self {
            id,
            secret: secret.into(),
        })
    }

    pub(crate) fn is_id(text: &str) -> bool {
        (1..=Self::MAX_ID_LEN).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    }

    /// Makes a key of 32 random bytes from the operating system.
    ///
    /// What it seals is lost when the process ends (the next one's key of the same ID finds a
    /// `bad_signature`), so this is for tests and local runs; a
    /// service that must keep referrals over a restart reads its key with
    /// [`Keyring::from_env`].
    ///
    /// # Errors
    ///
    /// An invalid ID, as [`new`](Self::new), and an operating system without randomness.
    pub fn generate(id: impl AsRef<str>) -> Result<Self, KeyringError> {
        let mut secret = [0; Self::MIN_SECRET_LEN];
        getrandom::fill(&mut secret).map_err(|_| KeyringError::NoRandomness)?;
        Self::new(id, secret)
    }

    /// Returns the written form, `ID:BASE64`, which holds the secret: for the tool that makes a key and hands
    /// it to where secrets are kept. `cargo run --example generate_key` is such a tool.
    ///
    /// ```
    /// use tower_referral::SigningKey;
    ///
    /// let key = SigningKey::generate("2026-11")?;
    /// let written = key.reveal(); // for REFERRAL_KEY; never for a log
    /// assert_eq!(written.parse::<SigningKey>()?.reveal(), written);
    /// # Ok::<_, tower_referral::KeyringError>(())
    /// ```
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}:{}", self.id, STANDARD.encode(&self.secret))
    }

    /// Returns the key's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

/// Returns `true` if the secret is a shorter pattern again and again, such as `password` four times: a
/// placeholder, not a key.
fn is_repeated(secret: &[u8]) -> bool {
    (1..=secret.len() / 2).any(|period| {
        let rest = secret.iter().zip(&secret[period..]);
        rest.clone().count() > 0 && rest.into_iter().all(|(one, other)| one == other)
    })
}

/// Returns the secret as HMAC-SHA256 uses it (RFC 2104 section 2): hashed if it is longer than a block,
/// then padded with zeros. Two secrets that are the same then sign the same.
fn hmac_key(secret: &[u8]) -> [u8; 64] {
    let mut key = [0; 64];
    if secret.len() > key.len() {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret);
    }
    key
}

/// Parses `ID:BASE64`.
impl FromStr for SigningKey {
    type Err = KeyringError;

    fn from_str(text: &str) -> Result<Self, KeyringError> {
        // Either alphabet, padded or not: people paste from openssl, from a password manager
        // or from another language's `urlsafe_b64encode`.
        let text = text.trim();
        // A file of variables may keep the quotes.
        let is_quoted = text.len() >= 2
            && ['"', '\'']
                .iter()
                .any(|quote| text.starts_with(*quote) && text.ends_with(*quote));
        if is_quoted {
            return Err(KeyringError::Quoted);
        }
        let (id, encoded) = text.split_once(':').ok_or(KeyringError::NoId)?;
        let unpadded = encoded.trim_end_matches('=');
        let secret = STANDARD_NO_PAD
            .decode(unpadded)
            .or_else(|_| URL_SAFE_NO_PAD.decode(unpadded))
            .map_err(|_| KeyringError::InvalidBase64)?;
        Self::new(id, secret)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The keys of a service: the one that signs, and older ones that only verify.
///
/// Cheap to clone. There is no default key and no unsigned mode.
///
/// # Rotation
///
/// A referral lives as long as its window, so an old key must verify for that long after it has
/// stopped signing. With several servers, teach all of them to verify before any of them signs:
///
/// 1. add the new key to `REFERRAL_OLD_KEYS` and restart every server;
/// 2. make it `REFERRAL_KEY`, move the former key to `REFERRAL_OLD_KEYS`, and restart them;
/// 3. after the longest window (and the longest carry-token life), drop the former key.
///
/// ```
/// use tower_referral::{Keyring, SigningKey};
///
/// let keyring = Keyring::new(SigningKey::generate("2026-11")?)
///     .verify_with(SigningKey::generate("2026-05")?)?;
/// # Ok::<_, tower_referral::KeyringError>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    signing: SigningKey,
    old: Vec<SigningKey>,
}

impl Keyring {
    /// Creates a keyring whose `signing` key seals and verifies.
    #[must_use]
    pub fn new(signing: SigningKey) -> Self {
        Self {
            signing,
            old: Vec::new(),
        }
    }

    /// Adds a key that verifies and never signs.
    ///
    /// # Errors
    ///
    /// A key ID or a secret that the keyring already has.
    pub fn verify_with(mut self, old: SigningKey) -> Result<Self, KeyringError> {
        for key in self.keys() {
            if key.id == old.id {
                return Err(KeyringError::DuplicateId { id: old.id.into() });
            }
            if hmac_key(&key.secret) == hmac_key(&old.secret) {
                return Err(KeyringError::DuplicateSecret {
                    first: key.id.to_string(),
                    second: old.id.into(),
                });
            }
        }
        self.old.push(old);
        Ok(self)
    }

    /// Reads `REFERRAL_KEY` (`ID:BASE64`, the key that signs) and `REFERRAL_OLD_KEYS`
    /// (comma-separated, verifying only; may be missing or empty).
    ///
    /// # Errors
    ///
    /// A missing `REFERRAL_KEY` and everything that [`SigningKey::new`] and
    /// [`verify_with`](Self::verify_with) refuse, with the variable's name in front.
    pub fn from_env() -> Result<Self, KeyringError> {
        let read = |variable: &'static str| match env::var(variable) {
            Ok(value) => Ok(Some(value)),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => {
                Err(KeyringError::InvalidBase64.in_variable(variable))
            }
        };
        let signing = read(SIGNING_VARIABLE)?.ok_or(KeyringError::Missing)?;
        let old = read(OLD_VARIABLE)?.unwrap_or_default();
        Self::parse(&signing, &old)
    }

    fn parse(signing: &str, old: &str) -> Result<Self, KeyringError> {
        let signing = signing
            .parse()
            .map_err(|error: KeyringError| error.in_variable(SIGNING_VARIABLE))?;
        old.split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .try_fold(Self::new(signing), |keyring, text| {
                keyring.verify_with(text.parse()?)
            })
            .map_err(|error| error.in_variable(OLD_VARIABLE))
    }

    /// Returns the key that signs.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// Every key, the signing one first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.signing).chain(&self.old)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("signing", &self.signing.id)
            .field(
                "old",
                &self.old.iter().map(SigningKey::id).collect::<Vec<_>>(),
            )
            .finish()
    }
}

/// Why a key or a keyring was refused. No message shows a secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyringError {
    /// `REFERRAL_KEY` isn't set.
    Missing,
    /// The text isn't of the form `ID:BASE64`.
    NoId,
    /// The part behind the colon isn't base64.
    InvalidBase64,
    /// The key ID isn't 1 to 16 characters of `A-Z a-z 0-9 - _`.
    InvalidId,
    /// The secret has fewer than 32 bytes.
    TooShort {
        /// The key's ID.
        id: String,
        /// The secret's length in bytes.
        len: usize,
    },
    /// The text stands in quotes.
    Quoted,
    /// The secret repeats a short pattern: a placeholder, not a key.
    RepeatedPattern {
        /// The key's ID.
        id: String,
    },
    /// Two keys have the same ID.
    DuplicateId {
        /// The ID given twice.
        id: String,
    },
    /// Two keys have the same secret.
    DuplicateSecret {
        /// The ID the secret was first given under.
        first: String,
        /// The ID it was given under again.
        second: String,
    },
    /// The operating system gave no random bytes.
    NoRandomness,
    /// What an environment variable holds was refused.
    InVariable {
        /// The variable's name.
        variable: &'static str,
        /// Why.
        error: Box<KeyringError>,
    },
}

impl KeyringError {
    fn in_variable(self, variable: &'static str) -> Self {
        Self::InVariable {
            variable,
            error: Box::new(self),
        }
    }
}

/// Shows the same text as `Display`: a `main` that returns the error, or an `unwrap`, prints this.
impl fmt::Debug for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAKE: &str = "make a secret with `openssl rand -base64 32`";
        match self {
            Self::Missing => write!(
                f,
                "{SIGNING_VARIABLE} is not set: set it to ID:BASE64, for instance `2026-11:` and \
                 a secret of 32 bytes; {MAKE}"
            ),
            Self::NoId => write!(
                f,
                "a signing key is written ID:BASE64, and there is no colon: put a name of your \
                 choice and a colon in front of the secret"
            ),
            Self::InvalidBase64 => write!(f, "the secret behind the key ID is not base64; {MAKE}"),
            Self::InvalidId => write!(
                f,
                "a key ID has 1 to {} characters of A-Z a-z 0-9 - _: name the key for instance \
                 2026-11",
                SigningKey::MAX_ID_LEN
            ),
            Self::TooShort { id, len } => write!(
                f,
                "the secret of key `{id}` has {len} bytes, and at least {} are needed; {MAKE}",
                SigningKey::MIN_SECRET_LEN
            ),
            Self::Quoted => f.write_str(
                "the key stands in quotes: remove them, so that it begins with its name, as in \
                 2026-11:BASE64",
            ),
            Self::RepeatedPattern { id } => write!(
                f,
                "the secret of key `{id}` repeats a short pattern, so anyone can guess it; {MAKE}"
            ),
            Self::DuplicateId { id } => write!(
                f,
                "two keys are named `{id}`, and a key ID must pick exactly one key: rename one"
            ),
            Self::DuplicateSecret { first, second } => write!(
                f,
                "keys `{first}` and `{second}` sign alike, so this rotation changes nothing: {MAKE} for the new one"
            ),
            Self::NoRandomness => write!(
                f,
                "the operating system gave no random bytes: set {SIGNING_VARIABLE} instead"
            ),
            Self::InVariable { variable, error } => write!(f, "{variable}: {error}"),
        }
    }
}

impl std::error::Error for KeyringError {}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const B: &str = "b:__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA";

    #[test]
    fn variables_name_the_signing_key_and_any_number_of_old_ones() {
        let keyring = Keyring::parse(A, &format!(" {B} ,")).unwrap();
        assert_eq!(keyring.signing_key().id(), "a");
        assert_eq!(
            keyring.keys().map(SigningKey::id).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(Keyring::parse(A, "").unwrap().keys().count(), 1);
    }

    #[test]
    fn an_error_names_the_variable_it_is_in() {
        let error = Keyring::parse(A, "b:AAAA").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("REFERRAL_OLD_KEYS: the secret of key `b` has 3")
        );
        let error = Keyring::parse("nocolon", "").unwrap_err();
        assert!(error.to_string().starts_with("REFERRAL_KEY: "));
    }
}
