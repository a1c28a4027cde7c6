//! Mutants of valid cookies: the cookies, everything that is done to them, and the shop that must
//! open none of them. Used by `mutants.rs` and, for any number of them, by `benches/mutants.rs`.
//!
//! Nothing here knows the inside of a value. Eight mutants go into one request, which is as many
//! cookies of one name as the layer verifies; if anything at all is accepted, each of the eight is
//! tried again by itself.
#![allow(dead_code, reason = "the test and the runner each use a part of it")]

#[path = "../random/mod.rs"]
mod random;

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use time::{Duration, OffsetDateTime};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_referral::click::Clicks;
use tower_referral::{
    ClickId, Keyring, Program, ReferralLayer, Referrals, SignedCookie, SigningKey,
};

pub(crate) use random::Random;

/// The cookies' names: of the first program and of the second.
pub(crate) const NAMES: [&str; 2] = ["__Host-referral", "__Host-referral-friends"];
const PARAMETERS: [&str; 2] = ["aff", "via"];
/// As many cookies of one name as the layer verifies in one request.
const PER_REQUEST: usize = 8;

/// A valid cookie: which of [`NAMES`] it has, and its value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Specimen {
    pub(crate) name: usize,
    pub(crate) value: Vec<u8>,
}

fn signing_key(id: &str, first: u8) -> SigningKey {
    SigningKey::new(id, (first..first + 32).collect::<Vec<_>>()).unwrap()
}

/// A layer whose keyring signs with one of two keys and verifies with both.
fn layer(signs: usize, click_id: Option<&'static str>) -> ReferralLayer {
    let mut keys = [signing_key("2026-11", 1), signing_key("k", 2)];
    keys.rotate_left(signs);
    let [signing, old] = keys;
    let keyring = Keyring::new(signing).verify_with(old).unwrap();
    let program = |name, parameter| {
        Program::new(name)
            .params([parameter])
            .extra_params(["utm_source", "sub"])
    };
    let mut builder = ReferralLayer::builder(SignedCookie::new(keyring))
        .program(program(Program::DEFAULT_NAME, PARAMETERS[0]))
        .program(program("friends", PARAMETERS[1]))
        .clock(|| OffsetDateTime::UNIX_EPOCH + Duration::seconds(4_000_000_000));
    if let Some(id) = click_id {
        let create = move |_| ready(Ok::<ClickId, Infallible>(id.parse().unwrap()));
        let clicks = Clicks::from_fn(create).wait(std::time::Duration::from_secs(10));
        builder = builder.clicks(clicks.exclude(|_| false));
    }
    builder.build().unwrap()
}

/// The valid cookies to begin with: short and long keys, with and without extra parameters and a
/// click ID, of both programs, under both signing keys.
pub(crate) fn specimens() -> Vec<Specimen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let long = "Long-key.".repeat(14);
    // The first five have all lengths that base64 treats differently.
    let keys = [
        "K",
        "KE",
        "KEY",
        "KEYS",
        "PARTNER_123",
        "a=b+c:d@e~f",
        &long,
    ];
    let mut specimens = Vec::new();
    for name in [0, 1] {
        for signs in [0, 1] {
            for (at, key) in keys.iter().enumerate() {
                let extra = if at % 2 == 1 {
                    "&utm_source=news&sub=7"
                } else {
                    ""
                };
                let click_id = [None, Some("click-4711")][usize::from(at > 3)];
                let uri = format!("/pricing?{}={key}{extra}", PARAMETERS[name]);
                let service = layer(signs, click_id).layer(service_fn(|_: Request<()>| {
                    ready(Ok::<_, Infallible>(Response::new(())))
                }));
                let request = Request::get(uri).body(()).unwrap();
                let Ok(response) = runtime.block_on(service.oneshot(request));
                let line = response.headers()[SET_COOKIE].to_str().unwrap();
                let (pair, _) = line.split_once(';').unwrap();
                let (is_called, value) = pair.split_once('=').unwrap();
                assert_eq!(is_called, NAMES[name]);
                let value = value.as_bytes().to_vec();
                specimens.push(Specimen { name, value });
            }
        }
    }
    specimens
}

type Page = Response<Vec<(String, String)>>;

/// The shop that must open no mutant, and what came of those that it was sent.
pub(crate) struct Prober {
    layer: ReferralLayer,
    valid: HashSet<Specimen>,
    /// The mutants of the next request, one behind the other, with their ends.
    batch: Vec<u8>,
    ends: Vec<usize>,
    name: usize,
    line: Vec<u8>,
    /// How many were sent.
    pub(crate) tried: u64,
    /// How many came out as a valid cookie again, and were opened as such.
    pub(crate) unaltered: u64,
    /// Those that were accepted and must not be.
    pub(crate) accepted: Vec<Specimen>,
}

impl Prober {
    pub(crate) fn new(specimens: &[Specimen]) -> Self {
        Self {
            layer: layer(0, None),
            valid: specimens.iter().cloned().collect(),
            batch: Vec::new(),
            ends: Vec::new(),
            name: 0,
            line: Vec::new(),
            tried: 0,
            unaltered: 0,
            accepted: Vec::new(),
        }
    }

    /// Sends a mutant, with the next ones, as the cookie of that name.
    ///
    /// What no header can carry isn't one, and what the rules of reading cookies take for the same
    /// value isn't either: anything behind a `;`, and blanks and tabs at the ends.
    pub(crate) fn attempt(&mut self, name: usize, mutant: &[u8]) {
        let is_sendable = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if !mutant.iter().all(is_sendable) {
            return;
        }
        if self.name != name || self.ends.len() == PER_REQUEST {
            self.send();
            self.name = name;
        }
        self.batch.extend_from_slice(mutant);
        self.ends.push(self.batch.len());
    }

    /// Sends what is still to be sent.
    pub(crate) fn send(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        for mutant in self.mutants() {
            line.extend_from_slice(NAMES[self.name].as_bytes());
            line.push(b'=');
            line.extend_from_slice(mutant);
            line.extend_from_slice(b"; ");
        }
        let opened = self.opens(&line);
        self.line = line;
        if opened {
            self.try_each();
        }
        self.tried += self.ends.len() as u64;
        self.batch.clear();
        self.ends.clear();
    }

    fn mutants(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.batch[start..*end])
    }

    fn try_each(&mut self) {
        let mutants: Vec<_> = self.mutants().map(<[u8]>::to_vec).collect();
        for mutant in mutants {
            let name = self.name;
            let line = [NAMES[name].as_bytes(), b"=", &mutant].concat();
            if self.opens(&line) {
                let value = as_read(&mutant).to_vec();
                let found = Specimen { name, value };
                if self.valid.contains(&found) {
                    self.unaltered += 1;
                } else {
                    self.accepted.push(found);
                }
            }
        }
    }

    /// Does the handler see a referral of any program?
    pub(crate) fn opens(&self, line: &[u8]) -> bool {
        !self.seen(line).body().is_empty()
    }

    /// The program and the key of each referral that the handler sees.
    pub(crate) fn seen(&self, line: &[u8]) -> Page {
        let mut request = Request::new(());
        let line = HeaderValue::from_bytes(line).unwrap();
        request.headers_mut().insert(COOKIE, line);
        let mut service = self.layer.layer(service_fn(|request| handler(&request)));
        let Ok(page) = at_once(service.call(request));
        assert!(page.headers().is_empty(), "reading never writes");
        page
    }
}

fn handler(request: &Request<()>) -> Ready<Result<Page, Infallible>> {
    let referrals = at_once(Referrals::from_extensions(request.extensions())).unwrap();
    let seen = referrals.iter().map(|referral| {
        let key = referral.key().unwrap().as_str();
        (referral.program().to_owned(), key.to_owned())
    });
    ready(Ok(Response::new(seen.collect())))
}

fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the request waited for something"),
    }
}

/// A value as the rules of reading cookies take it.
fn as_read(mutant: &[u8]) -> &[u8] {
    let value = mutant.split(|byte| *byte == b';').next();
    value.unwrap_or_default().trim_ascii()
}

/// Every mutant of one value that a single change makes. Where there are more than a few hundred
/// of a kind, every `stride`th of them, counted through.
pub(crate) fn single(base: &[u8], stride: usize, mut attempt: impl FnMut(&[u8])) {
    let len = base.len();
    let mut mutant = Vec::with_capacity(len * 4);
    let mut attempt = |parts: &[&[u8]]| {
        mutant.clear();
        for part in parts {
            mutant.extend_from_slice(part);
        }
        if as_read(&mutant) != base {
            attempt(&mutant);
        }
    };
    // Substitution and insertion of every byte.
    for at in 0..=len {
        for byte in 0..=u8::MAX {
            attempt(&[&base[..at], &[byte], &base[at..]]);
            if at < len {
                attempt(&[&base[..at], &[byte], &base[at + 1..]]);
            }
        }
    }
    for at in 0..len {
        let (head, tail) = (&base[..at], &base[at + 1..]);
        let byte = base[at];
        // Truncation at either end, deletion and doubling of a byte.
        attempt(&[head]);
        attempt(&[tail]);
        attempt(&[head, tail]);
        attempt(&[head, &[byte, byte], tail]);
        // Neighbours swapped, case changed from here on and up to here.
        if let Some((next, rest)) = tail.split_first() {
            attempt(&[head, &[*next, byte], rest]);
        }
        let (lower, upper) = (base.to_ascii_lowercase(), base.to_ascii_uppercase());
        for changed in [&lower, &upper] {
            attempt(&[&changed[..at], &base[at..]]);
            attempt(&[head, &changed[at..]]);
        }
        // Percent-encoding of a byte, and of everything up to it.
        for text in [format!("%{byte:02x}"), format!("%{byte:02X}")] {
            attempt(&[head, text.as_bytes(), tail]);
        }
        let encoded: String = base[..=at].iter().map(|b| format!("%{b:02X}")).collect();
        attempt(&[encoded.as_bytes(), tail]);
        // Turned round, and put together the other way about.
        attempt(&[tail, &[byte], head]);
        let turned: Vec<u8> = head.iter().rev().copied().collect();
        attempt(&[&turned, &base[at..]]);
        // Padding and separators.
        for pad in [
            "=", "==", "===", ".", "..", "%3D", "\"", "+", "/", " ", "\t", "\\", ",", "A=",
        ] {
            attempt(&[head, pad.as_bytes(), &base[at..]]);
            attempt(&[&base[..=at], pad.as_bytes(), tail, pad.as_bytes()]);
        }
        for bit in 0..8 {
            attempt(&[head, &[byte ^ (1 << bit)], tail]);
        }
    }
    for (before, behind) in [
        ("\"", "\""),
        ("", "="),
        ("", "=="),
        ("", "."),
        ("v1.", ""),
        ("=", ""),
        ("s:", ""),
    ] {
        attempt(&[before.as_bytes(), base, behind.as_bytes()]);
    }
    for between in ["", ".", ",", "=", "&", " ", "\t"] {
        attempt(&[base, between.as_bytes(), base]);
    }
    let alphabet: Vec<u8> = base
        .iter()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    attempt(&[&alphabet]);
    let mut count = 0;
    for from in 0..len {
        for to in from + 1..len {
            count += 1;
            if count % stride != 0 {
                continue;
            }
            let [head, middle, tail] = [&base[..from], &base[from..to], &base[to..]];
            // A segment deleted, doubled, moved to either end, blanked; two bytes swapped.
            attempt(&[head, tail]);
            attempt(&[head, middle, middle, tail]);
            attempt(&[middle, head, tail]);
            attempt(&[head, tail, middle]);
            let blank = vec![b'A'; middle.len()];
            attempt(&[head, &blank, tail]);
            attempt(&[
                head,
                &[base[to]],
                &base[from + 1..to],
                &[base[from]],
                &tail[1..],
            ]);
        }
    }
}

/// Every mutant that takes its head from one valid value and its tail or middle from another, or
/// every `stride`th of them.
pub(crate) fn spliced(base: &[u8], other: &[u8], stride: usize, mut attempt: impl FnMut(&[u8])) {
    let mut mutant = Vec::with_capacity(base.len() + other.len());
    let mut attempt = |parts: &[&[u8]]| {
        mutant.clear();
        for part in parts {
            mutant.extend_from_slice(part);
        }
        if ![base, other].contains(&as_read(&mutant)) {
            attempt(&mutant);
        }
    };
    let mut count = 0;
    for at in 0..=base.len() {
        for cut in 0..=other.len() {
            count += 1;
            if count % stride != 0 {
                continue;
            }
            attempt(&[&base[..at], &other[cut..]]);
            if let (Some(middle), Some(tail)) = (other.get(at..cut), base.get(cut..)) {
                attempt(&[&base[..at], middle, tail]);
            }
        }
    }
    // Both tails are equally long in every version of the format so far; so may others be.
    for len in 1..=base.len().min(other.len()) {
        attempt(&[&base[..base.len() - len], &other[other.len() - len..]]);
    }
}

/// Mostly of the alphabet that valid values have, so that it isn't the decoder alone which is tried.
fn byte(random: &mut Random) -> u8 {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    match random.below(16) {
        0 => random.next() as u8,
        _ => ALPHABET[random.below(64)],
    }
}

/// Makes a mutant of one to four changes, one after the other, and gives the name to send it as.
pub(crate) fn stacked(specimens: &[Specimen], random: &mut Random, mutant: &mut Vec<u8>) -> usize {
    let base = &specimens[random.below(specimens.len())];
    mutant.clone_from(&base.value);
    while as_read(mutant) == base.value {
        change(specimens, random, mutant);
    }
    base.name
}

fn change(specimens: &[Specimen], random: &mut Random, mutant: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let len = mutant.len();
        let at = random.below(len + 1);
        let segment = at..(at + 1 + random.below(24)).min(len).max(at);
        match random.below(12) {
            0..=3 if at < len => mutant[at] = byte(random),
            4 if at < len => mutant[at] ^= 1 << random.below(8),
            5 => mutant.insert(at, byte(random)),
            6 if at < len => drop(mutant.remove(at)),
            7 => drop(mutant.drain(segment)),
            8 => {
                let segment = mutant[segment].to_vec();
                let to = random.below(len + 1);
                mutant.splice(to..to, segment);
            }
            9 if len > 1 => {
                let other = random.below(len);
                mutant.swap(at.min(len - 1), other);
            }
            // A segment, or all that follows, from another valid one: at its own place, or the
            // same distance from the end.
            10 => {
                let other = &specimens[random.below(specimens.len())].value;
                if let Some(theirs) = other.get(segment.clone()) {
                    mutant[segment].copy_from_slice(theirs);
                }
            }
            11 => {
                let other = &specimens[random.below(specimens.len())].value;
                if let Some(from) = other.len().checked_sub(len - at) {
                    mutant.truncate(at);
                    mutant.extend_from_slice(&other[from..]);
                }
            }
            _ => {}
        }
    }
}
