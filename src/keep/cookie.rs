//! The signed cookie, read and written. Reading takes cookies as bytes and never parses what isn't
//! ours; one function writes, for keeping and for forgetting alike.

use http::header::{COOKIE, HeaderMap, HeaderValue};
use memchr::memmem::Finder;
use memchr::{memchr, memmem};
use smallvec::SmallVec;
use smol_str::{SmolStr, format_smolstr};

use super::{check_window, seconds_left};
use crate::error::ConfigError;
use crate::keyring::Keyring;
use crate::program::Program;
use crate::reason::Reason;
use crate::referral::{Click, Referral, UnixMillis};
use crate::seal::{self, Envelope, Fields, MAX_SEALED_LEN, Pass, Purpose, Seal, SealError, Sealed};
use crate::visitor::VisitorId;

/// Every `Set-Cookie` of ours is shorter than this, name and attributes included.
const MAX_SET_COOKIE_LEN: usize = 1024;
/// The most cookies of one name that are verified in one request.
const MAX_VERIFIED: usize = 8;
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

    /// A cookie under the keys of `keyring`.
    pub fn new(keyring: Keyring) -> Self {
        Self {
            keyring,
            name: Self::DEFAULT_NAME.into(),
            domain: None,
            plain_http: false,
        }
    }

    /// The cookie's name: 1 to 24 characters of `A-Z a-z 0-9 - _ .`. The prefix `__Host-` or
    /// `__Secure-` ([RFC 6265bis section 4.1.3]) is added where it fits.
    ///
    /// [RFC 6265bis section 4.1.3]: https://www.ietf.org/archive/id/draft-ietf-httpbis-rfc6265bis-20.html#section-4.1.3
    pub fn name(mut self, name: impl Into<SmolStr>) -> Self {
        self.name = name.into();
        self
    }

    /// Shares the cookie with all sub-domains of `domain`, for instance `example.com` where
    /// visitors land on `www.example.com` and pay on `app.example.com`.
    ///
    /// The cookie's prefix is then `__Secure-`, because `__Host-` promises that there is no
    /// domain. Every host below `domain` can then delete and replay such a cookie, though none can
    /// forge one.
    pub fn domain(mut self, domain: impl Into<SmolStr>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Leaves out `Secure` and the prefix, for work over plain HTTP.
    ///
    /// Not for production: anyone on the way can then read and replay the cookie. Browsers take
    /// the secure cookie from `http://localhost` too, Safari apart, so try without this first.
    pub fn plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// The name with the prefix of the cookie's mode.
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
        // The prefix that is added anyway may be written out.
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

    /// Checks the configuration and prepares everything that doesn't depend on a request.
    pub(crate) fn prepare(&self, programs: &[Program]) -> Result<Cookies, ConfigError> {
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
            let seal = Seal::new(&self.keyring, Purpose::Cookie { name: &name });
            let longest_max_age = "34560000".len();
            let max_sealed_len =
                MAX_SET_COOKIE_LEN - 1 - name.len() - 1 - attributes.len() - longest_max_age;
            let max_message_len = (0..max_sealed_len)
                .rfind(|len| seal.sealed_len(*len) <= max_sealed_len.min(MAX_SEALED_LEN))
                .unwrap_or(0);
            ProgramCookie {
                suffix,
                name,
                seal,
                max_message_len,
            }
        });
        Ok(Cookies {
            finder: Finder::new(base.as_bytes()).into_owned(),
            programs: cookies.collect(),
            attributes,
        })
    }
}

/// A cookie as it comes.
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

/// Our cookies, ready to be found, verified and written. Programs go by their index.
pub(crate) struct Cookies {
    /// Finds the part of the name that the cookies of all programs have in common.
    finder: Finder<'static>,
    programs: Vec<ProgramCookie>,
    /// Everything between the value and the number of `Max-Age`.
    attributes: String,
}

struct ProgramCookie {
    name: SmolStr,
    suffix: SmolStr,
    seal: Seal,
    /// The longest message whose `Set-Cookie` stays within its bound.
    max_message_len: usize,
}

/// The cookies of ours in one request, put aside unverified. Cloning a line shares its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) enum Jar {
    #[default]
    Empty,
    /// The only line that has any, as with nearly every visitor who has some, and the first in it.
    Line { line: HeaderValue, first: Place },
    /// The lines that have any.
    Lines(Vec<HeaderValue>),
}

/// Where a cookie of ours is in its line, and of which program. Small, because a request moves it about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    program: u16,
    /// Where its value begins.
    start: u32,
    /// The value's length. One that is longer than this can say is none of ours anyway.
    len: u16,
}

/// A cookie of ours, unverified: the program's index and the value.
pub(crate) type Unverified<'j> = (usize, &'j [u8]);

/// All of them in a request.
pub(crate) type Found<'j> = SmallVec<[Unverified<'j>; 2]>;

impl Place {
    #[inline]
    fn end(self) -> usize {
        self.start as usize + usize::from(self.len)
    }

    #[inline]
    fn cookie(self, line: &HeaderValue) -> Unverified<'_> {
        let value = line.as_bytes().get(self.start as usize..self.end());
        (self.program.into(), value.unwrap_or_default())
    }
}

impl Jar {
    pub(crate) const EMPTY: &'static Self = &Self::Empty;

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Takes in a line whose first cookie of ours is there.
    #[inline]
    fn put(&mut self, line: HeaderValue, first: Place) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::Line { line, first },
            Self::Line { line: other, .. } => Self::Lines(vec![other, line]),
            Self::Lines(mut lines) => {
                lines.push(line);
                Self::Lines(lines)
            }
        };
    }
}

impl Cookies {
    /// Puts aside the cookies of ours.
    #[inline]
    pub(crate) fn put_aside(&self, headers: &HeaderMap) -> Jar {
        let mut jar = Jar::Empty;
        // Nearly always no name is there twice, and one line takes less to look up than all.
        if headers.keys_len() == headers.len() {
            if let Some(line) = headers.get(COOKIE) {
                self.put_line_aside(line, &mut jar);
            }
        } else {
            for line in headers.get_all(COOKIE) {
                self.put_line_aside(line, &mut jar);
            }
        }
        jar
    }

    fn put_line_aside(&self, line: &HeaderValue, jar: &mut Jar) {
        if let Some(first) = self.first(line.as_bytes(), 0) {
            jar.put(line.clone(), first);
        }
    }

    /// Is there a cookie of this program, valid or not?
    pub(crate) fn has(&self, jar: &Jar, program: usize) -> bool {
        self.all(jar).iter().any(|(index, _)| *index == program)
    }

    /// The only cookie of ours, if there is one and no other.
    pub(crate) fn only<'j>(&self, jar: &'j Jar) -> Option<Unverified<'j>> {
        match jar {
            Jar::Line { line, first } => {
                let next = self.first(line.as_bytes(), first.end());
                next.is_none().then(|| first.cookie(line))
            }
            Jar::Empty | Jar::Lines(_) => None,
        }
    }

    /// All cookies of ours.
    pub(crate) fn all<'j>(&self, jar: &'j Jar) -> Found<'j> {
        let mut found = Found::new();
        let mut take = |line: &'j HeaderValue, mut next: Option<Place>| {
            while let Some(place) = next {
                found.push(place.cookie(line));
                next = self.first(line.as_bytes(), place.end());
            }
        };
        match jar {
            Jar::Empty => {}
            Jar::Line { line, first } => take(line, Some(*first)),
            Jar::Lines(lines) => {
                for line in lines {
                    take(line, self.first(line.as_bytes(), 0));
                }
            }
        }
        found
    }

    /// Verifies the only cookie and its age. Without a time, both were verified before.
    #[inline(always)] // as `Fields::read`
    pub(crate) fn open_only<'e>(
        &self,
        (index, value): Unverified<'_>,
        program: &Program,
        now: Option<UnixMillis>,
        envelope: &'e mut Envelope,
    ) -> Result<Fields<'e>, Reason> {
        let cookie = &self.programs[index];
        let message = match now {
            Some(_) => cookie.open(value, envelope)?,
            None => cookie
                .seal
                .reread(value, envelope)
                .ok_or(Reason::Malformed)?,
        };
        fields(message, program, now)
    }

    /// Verifies the cookies of a program, and gives the referral that counts. `Err` says why none
    /// of those that are there does.
    pub(crate) fn open(
        &self,
        found: &Found<'_>,
        index: usize,
        program: &Program,
        now: UnixMillis,
    ) -> Result<Option<Referral>, Reason> {
        let (valid, more) = self.verify(found, index, |message| {
            let fields = fields(message, program, Some(now))?;
            Ok(fields.to_referral(program.name.clone()))
        })?;
        match valid {
            Some(first) if !more.is_empty() => {
                let all = std::iter::once(first).chain(more).collect();
                Ok(program.attribution.pick(all, |referral| referral))
            }
            only => Ok(only),
        }
    }

    /// The same where referrals are kept on the server: all passes that are valid.
    pub(crate) fn open_passes(
        &self,
        found: &Found<'_>,
        index: usize,
        program: &Program,
    ) -> Result<Vec<Pass>, Reason> {
        let (valid, more) = self.verify(found, index, |message| {
            let mut pass =
                seal::decode_pass(message, &program.key_rule).ok_or(Reason::Malformed)?;
            pass.carried = pass.carried.map(|referral| named(referral, program));
            Ok(pass)
        })?;
        Ok(valid.into_iter().chain(more).collect())
    }

    /// Verifies the cookies of a program, and reads those that are ours. There is nearly always one
    /// at most.
    fn verify<T>(
        &self,
        found: &Found<'_>,
        index: usize,
        read: impl Fn(&[u8]) -> Result<T, Reason>,
    ) -> Result<(Option<T>, Vec<T>), Reason> {
        let cookie = &self.programs[index];
        let mut fault = None;
        let mut verified = 0;
        let mut valid = None;
        let mut more = Vec::new();
        for (_, value) in found.iter().filter(|(program, _)| *program == index) {
            let mut envelope = Envelope::new();
            let opened = cookie.open(value, &mut envelope).and_then(&read);
            // What isn't even of the format costs no signature, and doesn't count.
            verified += usize::from(!matches!(opened, Err(Reason::Malformed)));
            match opened {
                Ok(one) if valid.is_none() => valid = Some(one),
                Ok(one) => more.push(one),
                Err(reason) => fault = fault.or(Some(reason)),
            }
            if verified == MAX_VERIFIED {
                break;
            }
        }
        match (&valid, fault) {
            (None, Some(fault)) => Err(fault),
            _ => Ok((valid, more)),
        }
    }

    /// Writes the cookie that holds `held`, or the one that forgets whatever is held.
    pub(crate) fn write(
        &self,
        index: usize,
        held: Option<Held<'_>>,
        now: UnixMillis,
    ) -> HeaderValue {
        let cookie = &self.programs[index];
        let mut envelope = Envelope::new();
        let sealed = held.map(|held| {
            let encode = |out: &mut _| held.encode(cookie.max_message_len, out);
            cookie.seal.seal(encode, &mut envelope)
        });
        let mut digits = itoa::Buffer::new();
        let max_age = digits.format(held.map_or(0, |held| seconds_left(held.referral, now)));
        // To the byte, because a header value takes over a buffer only if it is full.
        let mut line = Vec::with_capacity(
            cookie.name.len()
                + 1
                + sealed.as_ref().map_or(0, Sealed::text_len)
                + self.attributes.len()
                + max_age.len(),
        );
        line.extend_from_slice(cookie.name.as_bytes());
        line.push(b'=');
        if let Some(sealed) = sealed {
            sealed.write(&mut line);
        }
        line.extend_from_slice(self.attributes.as_bytes());
        line.extend_from_slice(max_age.as_bytes());
        // Nothing but ASCII goes in; an empty value is what a page can best live with if that
        // ever changed.
        HeaderValue::try_from(line).unwrap_or(HeaderValue::from_static(""))
    }

    /// The first cookie of ours in a line, from a place on.
    ///
    /// Looks for the name first and only then at its surroundings.
    fn first(&self, line: &[u8], mut from: usize) -> Option<Place> {
        // Not by `find_iter`, which copies the whole finder.
        while let Some(at) = self.finder.find(&line[from..]) {
            let place = self.place(line, from + at);
            if place.is_some() {
                return place;
            }
            from += at + self.finder.needle().len();
        }
        None
    }

    /// What begins at `at` with the part of the name that all our cookies have in common. It is one
    /// of them if it is at the start of a pair, which begins behind a `;` and any blanks and tabs,
    /// and if the rest of a name and the first `=` follow.
    fn place(&self, line: &[u8], at: usize) -> Option<Place> {
        if !starts_pair(line, at) {
            return None;
        }
        let rest = &line[at + self.finder.needle().len()..];
        let mut programs = self.programs.iter().enumerate();
        programs.find_map(|(index, program)| {
            let value = rest
                .strip_prefix(program.suffix.as_bytes())?
                .strip_prefix(b"=")?;
            let start = line.len() - value.len();
            Some(Place {
                program: u16::try_from(index).ok()?,
                start: u32::try_from(start).ok()?,
                len: u16::try_from(trimmed_value(value).len()).unwrap_or(u16::MAX),
            })
        })
    }
}

/// Reads a cookie's message, and checks its age, unless that was done before.
#[inline(always)] // as `Fields::read`
fn fields<'m>(
    message: &'m [u8],
    program: &Program,
    now: Option<UnixMillis>,
) -> Result<Fields<'m>, Reason> {
    let mut fields = Fields::read(message, &program.key_rule, false).ok_or(Reason::Malformed)?;
    fields.cut_to(match now {
        Some(now) => check_window(fields.captured_at, fields.window, program, now)?,
        None => program.window_seconds(),
    });
    Ok(fields)
}

impl ProgramCookie {
    fn open<'e>(&self, value: &[u8], envelope: &'e mut Envelope) -> Result<&'e [u8], Reason> {
        self.seal
            .open(value, envelope)
            .map_err(|error| match error {
                SealError::Malformed => Reason::Malformed,
                SealError::UnknownKey => Reason::UnknownSigningKey,
                SealError::BadSignature => Reason::BadSignature,
            })
    }
}

/// A cookie's message doesn't name the program: the cookie's name does.
fn named(mut referral: Referral, program: &Program) -> Referral {
    referral.program = program.name.clone();
    referral
}

/// What a cookie is to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// Whose window is the cookie's life.
    pub(crate) referral: &'a Referral,
    /// Where referrals are kept on the server.
    pub(crate) pass: Option<HeldPass>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldPass {
    pub(crate) visitor: VisitorId,
    /// The server doesn't have the referral yet.
    pub(crate) carries: bool,
    /// It replaces nothing that the server has.
    pub(crate) fills_only: bool,
}

impl Held<'_> {
    fn encode(self, max_len: usize, out: &mut Envelope) {
        match self.pass {
            None => seal::encode(self.referral, "", max_len, out),
            Some(pass) => {
                let start = out.len();
                seal::encode_visitor(
                    pass.visitor,
                    matches!(self.referral.click, Click::Due(_)),
                    pass.carries.then_some((self.referral, pass.fills_only)),
                    max_len,
                    out,
                );
                // Of what can't both be held, the referral matters and the ID can be drawn anew.
                if out.len() - start > max_len {
                    out.truncate(start);
                    seal::encode(self.referral, "", max_len, out);
                }
            }
        }
    }
}

/// Does a cookie pair begin at `at`?
fn starts_pair(line: &[u8], at: usize) -> bool {
    line[..at]
        .iter()
        .rfind(|byte| !is_blank(**byte))
        .is_none_or(|byte| *byte == b';')
}

/// The value at the start of `rest`: up to the next `;`, without the blanks and tabs at its end.
fn trimmed_value(rest: &[u8]) -> &[u8] {
    let value = &rest[..memchr(b';', rest).unwrap_or(rest.len())];
    let end = value.iter().rposition(|byte| !is_blank(*byte));
    &value[..end.map_or(0, |last| last + 1)]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The values of the cookies called `name`, somebody else's, as bytes.
pub(crate) fn foreign<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .flat_map(move |line| {
            memmem::find_iter(line, name).filter_map(move |at| {
                let value = line[at + name.len()..].strip_prefix(b"=")?;
                starts_pair(line, at).then(|| trimmed_value(value))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use crate::referral::{ReferralKey, Source};

    fn keyring() -> Keyring {
        let id = "k".repeat(SigningKey::MAX_ID_LEN);
        Keyring::new(SigningKey::new(id, (0..32).collect::<Vec<u8>>()).unwrap())
    }

    #[test]
    fn the_largest_referral_stays_under_one_kib_and_keeps_key_and_click_id() {
        let program = program();
        let cookies = cookies(MAX_DOMAIN_LEN, &program);
        let key = format!("x{}", "é".repeat(127));
        let referral = Referral {
            parameter: Some("p".repeat(32).into()),
            extra: vec![("n".repeat(32).into(), "v".repeat(128).into()); 16],
            ..referral(&program, &key, 255)
        };
        let held = Held {
            referral: &referral,
            pass: None,
        };
        let line = cookies.write(0, Some(held), referral.captured_at);
        assert!(line.len() < MAX_SET_COOKIE_LEN, "{} bytes", line.len());

        let value = line.to_str().unwrap().split(';').next().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(value).unwrap());
        let jar = cookies.put_aside(&headers);
        let kept = cookies.open(&cookies.all(&jar), 0, &program, referral.captured_at);
        let kept = kept.unwrap().unwrap();
        assert_eq!(
            (&kept.key, &kept.click_id),
            (&referral.key, &referral.click_id)
        );
    }

    #[test]
    fn a_value_is_not_cut_to_what_its_place_can_say() {
        let program = program();
        let cookies = cookies(1, &program);
        let now = referral(&program, "K", 1).captured_at;
        let held = Held {
            referral: &referral(&program, "K", 1),
            pass: None,
        };
        let line = cookies.write(0, Some(held), now);
        let pair = line.to_str().unwrap().split(';').next().unwrap();
        for (more, counts) in [(0, true), (1, false), (1 << 16, false), (1 << 17, false)] {
            let mut headers = HeaderMap::new();
            let value = format!("{pair}{}", "A".repeat(more));
            headers.insert(COOKIE, HeaderValue::from_str(&value).unwrap());
            let jar = cookies.put_aside(&headers);
            assert_eq!(cookies.all(&jar).len(), 1);
            let kept = cookies.open(&cookies.all(&jar), 0, &program, now);
            assert_eq!(kept.is_ok(), counts, "{more} more");
        }
    }

    /// Nearly all that a referral can have, with a landing path of that length.
    fn referral(program: &Program, key: &str, path_len: usize) -> Referral {
        Referral {
            key: program.key_rule.parse(key).unwrap(),
            click_id: Some("c".repeat(128).parse().unwrap()),
            click: Click::Started([7; 8]),
            program: program.name.clone(),
            source: Source::Landing,
            captured_at: 1_800_000_000_000,
            window: 34_560_000,
            parameter: Some("aff".into()),
            landing_path: Some("/".repeat(path_len).into()),
            extra: Vec::new(),
        }
    }

    fn program() -> Program {
        Program::new("p".repeat(32))
            .window(time::Duration::days(400))
            .key_rule(crate::KeyRule::printable_unicode())
    }

    fn cookies(domain_len: usize, program: &Program) -> Cookies {
        let domain = [&*"d".repeat(63); 4].join(".");
        SignedCookie::new(keyring())
            .name("n".repeat(MAX_NAME_LEN))
            .domain(&domain[..domain_len])
            .prepare(std::slice::from_ref(program))
            .unwrap()
    }

    #[test]
    fn a_cookie_takes_all_the_room_there_is_and_not_a_byte_more() {
        let program = program();
        let key = "é".repeat(127);
        let mut longest = 0;
        // Three of four bounds are the length of some base64url.
        for domain_len in 100..104 {
            let cookies = cookies(domain_len, &program);
            for path_len in 1..=255 {
                let referral = referral(&program, &key, path_len);
                let held = Held {
                    referral: &referral,
                    pass: None,
                };
                let line = cookies.write(0, Some(held), referral.captured_at);
                longest = longest.max(line.len());
            }
        }
        assert_eq!(longest, MAX_SET_COOKIE_LEN - 1);
    }

    #[test]
    fn of_what_cannot_both_be_held_the_referral_stays_and_the_id_goes() {
        let program = program();
        let cookies = cookies(MAX_DOMAIN_LEN, &program);
        let visitor = VisitorId::from_bytes([9; 16]);
        let (mut with_id, mut without) = (0, 0);
        for key_len in 1..=ReferralKey::MAX_BYTES {
            let key = ["", "x"][key_len % 2].to_owned() + &"é".repeat(key_len / 2);
            let referral = referral(&program, &key, 1);
            let held = Held {
                referral: &referral,
                pass: Some(HeldPass {
                    visitor,
                    carries: true,
                    fills_only: false,
                }),
            };
            let line = cookies.write(0, Some(held), referral.captured_at);
            assert!(line.len() < MAX_SET_COOKIE_LEN, "{key_len}");

            let value = line.to_str().unwrap().split(';').next().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(value).unwrap());
            let jar = cookies.put_aside(&headers);
            let passes = cookies.open_passes(&cookies.all(&jar), 0, &program);
            let [pass] = &passes.unwrap()[..] else {
                panic!("one pass");
            };
            let carried = pass.carried.as_ref().unwrap();
            assert_eq!(carried.key, referral.key);
            assert_eq!(carried.click_id, referral.click_id);
            // The ID is there if it fits beside what is never left out.
            let mut least = Vec::new();
            seal::encode(&referral, "", 0, &mut least);
            let fits = 1 + 16 + least.len() <= cookies.programs[0].max_message_len;
            assert_eq!(pass.visitor, fits.then_some(visitor), "{key_len}");
            *(if fits { &mut with_id } else { &mut without }) += 1;
        }
        assert!(with_id > 0 && without > 0, "{with_id}, {without}");
    }
}
