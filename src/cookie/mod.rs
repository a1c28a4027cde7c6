//! The signed cookie: its settings, and what is prepared of them.

pub(crate) mod scan;
pub(crate) mod write;

use memchr::memmem::Finder;
use smol_str::{SmolStr, format_smolstr};

pub(crate) use self::scan::FoundCookies;
use crate::error::ConfigError;
use crate::program::Program;
use crate::seal::keyring::Keyring;
use crate::seal::message::MAX_RECORD_LEN;
use crate::seal::{MAX_SEALED_LEN, Purpose, Seal};

/// Every `Set-Cookie` of the layer is shorter than this, name and attributes included.
pub(crate) const MAX_SET_COOKIE_LEN: usize = 1024;
/// The names and values of all programs together are at most this long: what browsers send in one
/// header without trouble.
pub(crate) const MAX_TOTAL_LEN: usize = 4096;
const MAX_NAME_LEN: usize = 24;
const MAX_DOMAIN_LEN: usize = 253;

/// Keeps referrals in a signed cookie: no server, no set-up, scales with the web tier.
///
/// The cookie is `__Host-referral` (and `__Host-referral-NAME` for a program that isn't called
/// `default`), `HttpOnly`, `Secure`, `SameSite=Lax`, `Path=/`, and lives for what is left of the
/// window. `HttpOnly` can't be switched off, and `SameSite=Strict` isn't offered: landings come
/// from other sites, and browsers don't send a `Strict` cookie with them.
///
/// The value is signed, not encrypted: the visitor can read it and can't change it. A signature
/// proves that this service stored the value, then, unaltered; it doesn't prove that the visitor
/// was really referred.
///
/// ```
/// use tower_referral::{Keyring, ReferralLayer, SignedCookie, SigningKey};
///
/// let keyring = Keyring::new(SigningKey::generate("local")?);
/// let referrals = ReferralLayer::builder(SignedCookie::new(keyring).domain("example.com")).build()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a cookie does nothing until it is given to `ReferralLayer::builder`"]
pub struct SignedCookie {
    keyring: Keyring,
    name: SmolStr,
    domain: Option<SmolStr>,
    plain_http: bool,
}

impl SignedCookie {
    /// The cookie's name without its prefix, unless [`name`](Self::name) says otherwise.
    pub const DEFAULT_NAME: &'static str = "referral";

    /// Creates a cookie that is signed by the keys of `keyring`.
    pub fn new(keyring: Keyring) -> Self {
        Self {
            keyring,
            name: Self::DEFAULT_NAME.into(),
            domain: None,
            plain_http: false,
        }
    }

    /// Sets the cookie's name: 1 to 24 characters of `A-Z a-z 0-9 - _ .`. The prefix `__Host-` or
    /// `__Secure-` ([RFC 6265bis section 4.1.3]) is added where it fits.
    ///
    /// [RFC 6265bis section 4.1.3]: https://www.ietf.org/archive/id/draft-ietf-httpbis-rfc6265bis-20.html#section-4.1.3
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = name.as_ref().into();
        self
    }

    /// Shares the cookie with all sub-domains of `domain`, for instance `example.com` where
    /// visitors land on `www.example.com` and pay on `app.example.com`.
    ///
    /// The cookie's prefix is then `__Secure-`, because `__Host-` promises that there is no
    /// domain. Every host below `domain` can then delete and replay such a cookie, though none can
    /// forge one.
    pub fn domain(mut self, domain: impl AsRef<str>) -> Self {
        self.domain = Some(domain.as_ref().into());
        self
    }

    /// Leaves out `Secure` and the prefix, for work over plain HTTP.
    ///
    /// Not for production: anyone on the network can then read and replay the cookie. Most browsers
    /// accept a secure cookie from `http://localhost`; Safari doesn't, and no browser does from another
    /// plain HTTP host.
    pub fn plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Returns the name with the prefix of the cookie's mode.
    fn full_name(&self) -> Result<SmolStr, ConfigError> {
        let prefix = match (self.plain_http, &self.domain) {
            (true, _) => "",
            (false, Some(_)) => "__Secure-",
            (false, None) => "__Host-",
        };
        if let (Some(domain), true) = (&self.domain, has_prefix(&self.name, "__host-")) {
            return Err(ConfigError::HostCookieWithDomain {
                name: self.name.to_string(),
                domain: domain.to_string(),
            });
        }
        // The prefix that would be added may be written out.
        let base = self.name.strip_prefix(prefix).unwrap_or(&self.name);
        let is_name = (1..=MAX_NAME_LEN).contains(&base.len())
            && base
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !is_name || has_prefix(base, "__host-") || has_prefix(base, "__secure-") {
            return Err(ConfigError::InvalidCookieName {
                name: self.name.to_string(),
            });
        }
        Ok(format_smolstr!("{prefix}{base}"))
    }

    pub(crate) fn domain_name(&self) -> Option<&SmolStr> {
        self.domain.as_ref()
    }

    /// Checks the settings and prepares everything that doesn't depend on a request. `has_records`: the
    /// cookie names a record on the server.
    pub(crate) fn prepare(
        &self,
        programs: &[Program],
        has_records: bool,
    ) -> Result<CookieCodec, ConfigError> {
        let base = self.full_name()?;
        let mut attributes = String::from("; Path=/; HttpOnly; SameSite=Lax");
        if !self.plain_http {
            attributes.push_str("; Secure");
        }
        if let Some(domain) = &self.domain {
            check_domain(domain)?;
            attributes.push_str("; Domain=");
            attributes.push_str(domain);
        }
        attributes.push_str("; Max-Age=");
        let cookies = programs.iter().map(|program| {
            let suffix = match program.name.as_str() {
                Program::DEFAULT_NAME => SmolStr::default(),
                name => format_smolstr!("-{name}"),
            };
            let name = format_smolstr!("{base}{suffix}");
            let purpose = Purpose::Cookie {
                name: &name,
                program: &program.name,
                domain: self.domain.as_deref(),
            };
            let longest_max_age = "34560000".len();
            let around = name.len() + 1 + attributes.len() + longest_max_age;
            ProgramCookie {
                seal: Seal::new(&self.keyring, purpose),
                max_sealed_len: (MAX_SET_COOKIE_LEN - 1 - around).min(MAX_SEALED_LEN),
                suffix,
                name,
            }
        });
        Ok(CookieCodec {
            finder: Finder::new(base.as_bytes()).into_owned(),
            programs: cookies.collect(),
            attributes,
            record_len: if has_records { MAX_RECORD_LEN } else { 0 },
        })
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }
}

/// Creates a cookie with the default settings.
impl From<Keyring> for SignedCookie {
    fn from(keyring: Keyring) -> Self {
        Self::new(keyring)
    }
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    // Browsers compare prefixes without regard to case (RFC 6265bis section 5.4).
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn check_domain(domain: &str) -> Result<(), ConfigError> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.len() <= MAX_DOMAIN_LEN && domain.split('.').all(is_label) {
        Ok(())
    } else {
        Err(ConfigError::InvalidDomain {
            domain: domain.to_owned(),
        })
    }
}

/// Finds, verifies and writes our cookies. Programs go by their index.
pub(crate) struct CookieCodec {
    /// Finds the part of the name that the cookies of all programs have in common.
    finder: Finder<'static>,
    programs: Vec<ProgramCookie>,
    /// Everything between the value and the number of `Max-Age`.
    attributes: String,
    /// How much longer a message is that names a record too, at most.
    record_len: usize,
}

struct ProgramCookie {
    name: SmolStr,
    suffix: SmolStr,
    seal: Seal,
    /// The longest value whose `Set-Cookie` stays within its bound.
    max_sealed_len: usize,
}
