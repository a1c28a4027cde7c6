//! What can be wrong with a configuration. It is found when something is built, never in a request.

use std::fmt;

/// Why a configuration was refused: by
/// [`ReferralLayerBuilder::build`](crate::ReferralLayerBuilder::build),
/// [`CarryBuilder::build`](crate::carry::CarryBuilder::build) or `CaptureEndpoint::allow_origins`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A program's name isn't 1 to 32 characters of `A-Z a-z 0-9 - _`.
    InvalidProgramName {
        /// The name.
        name: String,
    },
    /// Two programs have the same name.
    DuplicateProgram {
        /// The name given twice.
        name: String,
    },
    /// A program has no landing parameter.
    NoParams {
        /// The program's name.
        program: String,
    },
    /// A parameter's or fallback cookie's name has a character that a query or a cookie can't
    /// carry as it is, or isn't 1 to 32 characters long.
    InvalidParam {
        /// The program's name.
        program: String,
        /// The parameter's name.
        name: String,
    },
    /// A landing parameter is named twice, in one program or in two, or a program names an extra parameter
    /// or a fallback cookie twice.
    DuplicateParam {
        /// The name given twice.
        name: String,
    },
    /// A program names over 16 parameters, extra parameters or fallback cookies.
    TooManyNames {
        /// The program's name.
        program: String,
    },
    /// A window isn't a whole number of seconds from 1 second to 400 days.
    InvalidWindow {
        /// The program's name.
        program: String,
    },
    /// A cookie name isn't 1 to 24 characters of `A-Z a-z 0-9 - _ .`, or begins with a prefix
    /// that doesn't fit the cookie's mode.
    InvalidCookieName {
        /// The name.
        name: String,
    },
    /// A domain isn't a host name.
    InvalidDomain {
        /// The domain.
        domain: String,
    },
    /// A `__Host-` cookie was given a domain.
    HostCookieWithDomain {
        /// The cookie's name.
        name: String,
        /// The domain.
        domain: String,
    },
    /// A stand-down path doesn't begin with `/`.
    InvalidStandDown {
        /// The path.
        path: String,
    },
    /// The base URL of [`Clicks`](crate::click::Clicks) isn't a scheme and a host.
    InvalidBaseUrl {
        /// The URL.
        url: String,
    },
    /// An origin that may post landings isn't a scheme and a host.
    InvalidOrigin {
        /// The origin.
        origin: String,
    },
    /// The purpose or audience of a carry token is too long or empty, or its `ttl` isn't a whole
    /// number of seconds from 1 second to 400 days.
    InvalidCarry,
    /// `ServerSide` wasn't told who deletes the records whose window has ended.
    NobodyDeletesRecords,
    /// There is no clock on this target.
    NoClock,
}

/// Shows the same text as `Display`: a `main` that returns the error, or an `unwrap`, prints this.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidProgramName { name } => write!(
                f,
                "program name `{name}` becomes part of a cookie's name: use 1 to 32 characters of \
                 A-Z a-z 0-9 - _"
            ),
            Self::DuplicateProgram { name } => write!(
                f,
                "two programs are named `{name}` and would share a cookie: rename one of them"
            ),
            Self::NoParams { program } => write!(
                f,
                "program `{program}` has no landing parameter and would never capture anything: \
                 name at least one, as in `.params([\"aff\"])`"
            ),
            Self::InvalidParam { program, name } => write!(
                f,
                "`{name}` in program `{program}` can't be the name of a parameter or cookie: use \
                 1 to 32 characters of A-Z a-z 0-9 - _ . ~ ! * : @ $ [ ]"
            ),
            Self::DuplicateParam { name } => write!(
                f,
                "`{name}` is named twice: remove one of them"
            ),
            Self::TooManyNames { program } => write!(
                f,
                "program `{program}` names over 16 parameters, extra parameters or fallback \
                 cookies: remove those that no link uses"
            ),
            Self::InvalidWindow { program } => write!(
                f,
                "the window of program `{program}` must be a whole number of seconds from \
                 1 second to 400 days, the longest life that browsers grant a cookie"
            ),
            Self::InvalidCookieName { name } => write!(
                f,
                "`{name}` can't be the cookie's name: use 1 to 24 characters of A-Z a-z 0-9 - _ . \
                 without a prefix; `__Host-` or `__Secure-` is added where it fits"
            ),
            Self::InvalidDomain { domain } => write!(
                f,
                "`{domain}` can't be the cookie's domain: use a host name such as example.com, \
                 without a leading dot, a port or a path"
            ),
            Self::HostCookieWithDomain { name, domain } => write!(
                f,
                "cookie `{name}` can't have the domain `{domain}`, because browsers drop a \
                 `__Host-` cookie with one: leave out the prefix, and `__Secure-` is used"
            ),
            Self::InvalidStandDown { path } => write!(
                f,
                "stand-down path `{path}` matches no request: begin it with a slash, as in \
                 `/checkout`"
            ),
            Self::InvalidBaseUrl { url } => write!(
                f,
                "`{url}` is no base URL: use a scheme and a host, as in https://shop.example"
            ),
            Self::InvalidOrigin { origin } => write!(
                f,
                "`{origin}` is no origin: use a scheme and a host, without a path or a wildcard, as in \
                 https://www.shop.example"
            ),
            Self::InvalidCarry => write!(
                f,
                "a carry token needs a purpose of 1 to 64 bytes, an audience of at most 253 bytes \
                 and a `ttl` of a whole number of seconds from 1 second to 400 days"
            ),
            Self::NobodyDeletesRecords => f.write_str(
                "records whose window has ended would stay in the store for ever: call \
                 `ServerSide::delete_expired(store)` for a store that can delete them (SQL), or \
                 `ServerSide::store_expires_records()` for one that does it by itself (Redis, moka, \
                 memory)",
            ),
            Self::NoClock => f.write_str(
                "this target has no clock of its own: turn on the feature `wasm` for JavaScript's, or \
                 give one with `.clock(..)`",
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
