//! A browser at random: landings, pages, tabs that answer out of order or with a jar of yesterday,
//! consent, expiry, carry tokens, key rotation and restarts, against a plain model of the rules.
//!
//! The model (`answer`, below) is written from the rules, as slow and as obvious as can be, and
//! shares nothing with the implementation. Everything goes through requests and responses; what is
//! inside a cookie the model only knows because it was there when the cookie was set.
//!
//! ```text
//! MODEL_RUNS=1000000 cargo test --release --all-features --test it model_browser -- --nocapture
//! MODEL_SEED=4711 cargo test --all-features --test it model_browser  # one run again, made as short as it gets
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::common::{Clock, Page, START, Shop, bare_get, signing_key, with_headers};
use crate::mutator::Random;
use http::header::{CACHE_CONTROL, COOKIE, HeaderValue};
use http::{Method, Request, Response};
use std::time::Duration;
use time::OffsetDateTime;
use tower_referral::carry::Carry;
use tower_referral::{
    Attribution, Capture, Consent, Forget, ForgetProgram, Keyring, Program, Referral, RequestRef,
    SignedCookie, Source,
};

const RUNS: u64 = 1500;
const MINUTE: i64 = 60_000;
const DAY: i64 = 1440 * MINUTE;
const PAGE: &str = "public, max-age=600";
const TOKEN_TTL: i64 = 10 * DAY;
/// The cookie in which another script keeps a key of the default program.
const SCRIPTS: &str = "shop_script";

// ===== What can happen =====

#[derive(Clone, Debug)]
enum Step {
    /// A request; its response arrives at once, or is held back in its tab.
    Send(Visit),
    /// The response that some tab waits for arrives.
    Arrive(usize),
    /// A tab falls asleep with the jar as it is.
    Remember,
    /// The clock moves, seldom backwards.
    Wait(i64),
    /// The service restarts with another configuration.
    Restart(Setup),
}

#[derive(Clone, Debug)]
struct Visit {
    path: &'static str,
    query: Vec<(&'static str, &'static str)>,
    how: How,
    consent: Consent,
    signal: bool,
    jar: Jar,
    /// The key that another script's cookie has.
    script: Option<&'static str>,
    held_back: bool,
    says: Says,
    /// The page makes a carry token of what it sees.
    mints: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    CrossSite,
    SameOrigin,
    Typed,
    Prefetch,
    OldBrowser,
    OldPrefetch,
    Image,
    Frame,
    Post,
    Head,
}

/// Which cookies a tab sends: those of now, those that it fell asleep with, or both.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Jar {
    Now,
    Stale,
    Both,
}

/// What the handler says.
#[derive(Clone, Debug, Default)]
struct Says {
    forget: bool,
    forget_program: Option<&'static str>,
    /// Each with the consent that it has of its own.
    captures: Vec<(Captures, Option<Consent>)>,
}

#[derive(Clone, Debug)]
enum Captures {
    Key(Option<&'static str>, &'static str),
    Token(usize),
}

#[derive(Clone, Debug)]
struct Setup {
    programs: Vec<Rules>,
    stands_down: bool,
    honours_signal: bool,
    reads_scripts: bool,
    /// The first one signs.
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Rules {
    name: &'static str,
    params: Vec<&'static str>,
    first_touch: bool,
    window: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Key {
    id: &'static str,
    secret: u8,
}

fn setup(random: &mut Random) -> Setup {
    let rules = |random: &mut Random, name, params: &[&'static str]| Rules {
        name,
        params: params.to_vec(),
        first_touch: random.once_in(2),
        window: random.one_of(&[DAY, 7 * DAY, 30 * DAY]),
    };
    let default = rules(random, "default", &["aff", "ref"]);
    let friends = rules(random, "friends", &["via"]);
    let programs = match random.below(6) {
        0 => vec![default],
        1 => vec![friends, default],
        2 => {
            let mut turned = default;
            turned.params.reverse();
            vec![turned, friends]
        }
        _ => vec![default, friends],
    };
    let [k1, k2, k3] = [("k1", 1), ("k2", 2), ("k3", 3)].map(|(id, secret)| Key { id, secret });
    let namesake = Key {
        id: "k1",
        secret: 9,
    };
    let keys = random.one_of(&[
        vec![k1],
        vec![k1, k2],
        vec![k1, k2],
        vec![k2, k1],
        vec![k2, k1],
        vec![k2],
        vec![k3, k2, k1],
        vec![namesake, k2],
    ]);
    Setup {
        programs,
        stands_down: random.once_in(2),
        honours_signal: random.once_in(2),
        reads_scripts: random.once_in(2),
        keys,
    }
}

fn visit(random: &mut Random) -> Visit {
    let pairs = random.one_of(&[0, 0, 0, 1, 1, 1, 1, 2, 3]);
    let query = (0..pairs).map(|_| {
        let name = random.one_of(&["aff", "aff", "ref", "via", "q", "%61ff"]);
        (
            name,
            random.one_of(&["A", "B", "B", "C", "%41", "", "%zz", "a%20b"]),
        )
    });
    let query = query.collect();
    let program = |random: &mut Random| {
        random.one_of(&[None, Some("default"), Some("friends"), Some("nobody")])
    };
    let mut says = Says::default();
    if random.once_in(4) {
        says.forget = random.once_in(4);
        says.forget_program = if random.once_in(4) {
            program(random)
        } else {
            None
        };
        for _ in 0..random.below(3) {
            let captured = match random.below(2) {
                0 => Captures::Key(program(random), random.one_of(&["A", "B", "D"])),
                _ => Captures::Token(random.below(8)),
            };
            let consents = [Consent::Granted, Consent::Denied, Consent::Unknown];
            let consent = random.once_in(3).then(|| random.one_of(&consents));
            says.captures.push((captured, consent));
        }
    }
    use How::{CrossSite, SameOrigin};
    Visit {
        path: random.one_of(&[
            "/",
            "/",
            "/pricing",
            "/checkout",
            "/checkout/pay",
            "/checkouts",
        ]),
        query,
        how: random.one_of(&[
            CrossSite,
            CrossSite,
            CrossSite,
            CrossSite,
            CrossSite,
            CrossSite,
            SameOrigin,
            SameOrigin,
            How::Typed,
            How::Prefetch,
            How::OldBrowser,
            How::OldPrefetch,
            How::Image,
            How::Frame,
            How::Post,
            How::Head,
        ]),
        consent: match random.below(16) {
            0 => Consent::Denied,
            1 | 2 => Consent::Unknown,
            _ => Consent::Granted,
        },
        signal: random.once_in(24),
        jar: random.one_of(&[
            Jar::Now,
            Jar::Now,
            Jar::Now,
            Jar::Now,
            Jar::Stale,
            Jar::Both,
        ]),
        script: random.one_of(&[None, None, None, Some("A"), Some("B"), Some("S")]),
        held_back: random.once_in(6),
        says,
        mints: random.once_in(4),
    }
}

fn steps(seed: u64) -> Vec<Step> {
    let mut random = Random(seed);
    let first = Step::Restart(setup(&mut random));
    let more = (0..8 + random.below(40)).map(|_| match random.below(20) {
        0 => Step::Restart(setup(&mut random)),
        1 | 2 => Step::Arrive(random.below(4)),
        3 => Step::Remember,
        4..=6 => Step::Wait(random.one_of(&[
            1,
            999,
            MINUTE,
            DAY / 2,
            DAY - 1,
            DAY,
            DAY,
            3 * DAY,
            7 * DAY - 1,
            7 * DAY,
            30 * DAY,
            -299_999,
            -300_001,
        ])),
        _ => Step::Send(visit(&mut random)),
    });
    std::iter::once(first).chain(more).collect()
}

// ===== The model =====

/// A referral, as the rules speak of it. Times and windows in milliseconds.
#[derive(Clone, Debug)]
struct Plain {
    program: &'static str,
    key: &'static str,
    captured_at: i64,
    window: i64,
    source: Source,
    parameter: Option<&'static str>,
    /// No public method shows this.
    rank: Rank,
    /// The keys that were refused as links of the own site. No public method shows this either, but the
    /// cookie changes with it.
    refused: BTreeSet<&'static str>,
}

/// From the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    OwnLink,
    Script,
    Outside,
}

/// By what the public methods show.
impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        (self.program, self.key) == (other.program, other.key)
            && (self.captured_at, self.window) == (other.captured_at, other.window)
            && (self.source, self.parameter) == (other.source, other.parameter)
    }
}

/// Does the new referral take the place of the one that is kept?
fn wins_over(rules: &Rules, kept: &Plain, new: &Plain) -> bool {
    let is_higher = new.rank > kept.rank;
    if kept.key == new.key {
        return is_higher && new.rank == Rank::Outside;
    }
    is_higher || (kept.rank == new.rank && !rules.first_touch)
}

/// The new referral, once it has taken the place of the other.
fn in_place_of(kept: Option<&Plain>, mut new: Plain) -> Plain {
    if let Some(kept) = kept {
        new.refused.extend(&kept.refused);
        if kept.rank == Rank::OwnLink && new.rank > kept.rank && kept.key != new.key {
            new.refused.insert(kept.key);
        }
    }
    new
}

/// What a cookie or a token holds, and under which key.
#[derive(Clone, Debug)]
struct Sealed {
    referral: Plain,
    by: Key,
}

/// What should come of a request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    /// What the handler sees, in the order of the programs.
    seen: Vec<Plain>,
    /// By program: what the browser is to keep from now on, or that it is to keep nothing.
    set: BTreeMap<&'static str, Option<Plain>>,
    private: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum May {
    Keep,
    Show,
    Nothing,
}

fn may(consent: Consent) -> May {
    match consent {
        Consent::Granted => May::Keep,
        Consent::Unknown => May::Show,
        Consent::Denied => May::Nothing,
    }
}

/// What happened, so that a test can tell that it did.
type Counts = BTreeMap<&'static str, u64>;

fn is_alive(referral: &Plain, now: i64) -> bool {
    referral.captured_at <= now + 300_000 && now < referral.captured_at + referral.window
}

/// The key that a value in a query stands for.
fn key_of(raw: &'static str) -> Option<&'static str> {
    match raw {
        "A" | "%41" => Some("A"),
        "B" | "C" => Some(raw),
        _ => None,
    }
}

fn param_of(raw: &'static str) -> &'static str {
    if raw == "%61ff" { "aff" } else { raw }
}

/// The rules, from top to bottom.
fn answer(
    setup: &Setup,
    now: i64,
    sent: &[Sealed],
    visit: &Visit,
    tokens: &[Option<Plain>],
    counts: &mut Counts,
) -> Answer {
    let mut count = |what| *counts.entry(what).or_default() += 1;
    let signals = visit.signal && setup.honours_signal;
    let mut answer = Answer::default();
    let mut may_in = may(visit.consent);
    if signals {
        may_in = May::Nothing;
    }
    let is_page_visit = !matches!(visit.how, How::Image | How::Frame | How::Post | How::Head);
    let is_checkout = visit.path == "/checkout" || visit.path == "/checkout/pay";
    let stands_down = setup.stands_down && is_checkout;
    let is_own = visit.how == How::SameOrigin;
    let fills_only = stands_down || is_own || visit.how == How::Prefetch;

    // The way in, program by program; none of them knows of another.
    let mut kept: BTreeMap<&'static str, Plain> = BTreeMap::new();
    for rules in &setup.programs {
        let mut valid = Vec::new();
        let mut is_there = false;
        for cookie in sent
            .iter()
            .filter(|cookie| cookie.referral.program == rules.name)
        {
            is_there = true;
            let mut referral = cookie.referral.clone();
            referral.window = referral.window.min(rules.window);
            if !setup.keys.contains(&cookie.by) {
                count("a cookie whose key is gone");
            } else if !is_alive(&referral, now) {
                count("a cookie whose time isn't now");
            } else {
                valid.push(referral);
            }
        }
        if valid.len() > 1 {
            count("two valid cookies");
        }
        // As if they had come in the order of their capture.
        valid.sort_by_key(|referral| referral.captured_at);
        let mut holds: Option<Plain> = None;
        for referral in valid {
            match &holds {
                Some(first) if !wins_over(rules, first, &referral) => {}
                _ => holds = Some(referral),
            }
        }
        let mut shows = holds.clone();
        if may_in == May::Nothing {
            if is_there {
                count("denied: forgotten");
                answer.set.insert(rules.name, None);
            }
            (holds, shows) = (None, None);
        } else if is_page_visit {
            // The configured order decides between names, the first valid one within a name.
            let named = |param| {
                visit
                    .query
                    .iter()
                    .filter(move |pair| param_of(pair.0) == param)
            };
            let landing = rules.params.iter().find_map(|param| {
                let key = named(*param).find_map(|pair| key_of(pair.1))?;
                Some((*param, key))
            });
            if let Some((param, key)) = landing {
                let new = Plain {
                    program: rules.name,
                    key,
                    captured_at: now,
                    window: rules.window,
                    source: Source::Landing,
                    parameter: Some(param),
                    rank: if is_own { Rank::OwnLink } else { Rank::Outside },
                    refused: BTreeSet::new(),
                };
                let wins = match &mut holds {
                    None => true,
                    Some(old) if old.key == new.key => !fills_only && wins_over(rules, old, &new),
                    Some(old) if fills_only => {
                        count("stood down");
                        let is_refused = is_own && !stands_down && may_in == May::Keep;
                        if is_refused && old.refused.insert(key) {
                            count("refused as a link of the own site");
                            shows = Some(old.clone());
                            answer.set.insert(rules.name, Some(old.clone()));
                        }
                        false
                    }
                    Some(old) if wins_over(rules, old, &new) => true,
                    Some(_) => {
                        count("kept the first touch");
                        false
                    }
                };
                if wins && may_in == May::Keep {
                    count("captured from a landing");
                    let new = in_place_of(holds.as_ref(), new);
                    holds = Some(new.clone());
                    shows = Some(new.clone());
                    answer.set.insert(rules.name, Some(new));
                } else if wins {
                    count("shown and not kept");
                    // A carry token may keep it later, and what it then knows as refused.
                    shows = Some(in_place_of(holds.as_ref(), new));
                }
            }
        }
        let reads_script = setup.reads_scripts && rules.name == "default";
        let script = visit
            .script
            .filter(|_| reads_script && may_in != May::Nothing);
        if let Some(key) = script
            && shows.as_ref().is_none_or(|shown| shown.key != key)
        {
            let new = Plain {
                program: rules.name,
                key,
                captured_at: now,
                window: rules.window,
                source: Source::Script,
                parameter: Some(SCRIPTS),
                rank: Rank::Script,
                refused: BTreeSet::new(),
            };
            let shown = shows.as_ref().map(|shown| shown.rank);
            let wins = match &holds {
                None => true,
                Some(_) if stands_down => false,
                Some(old) => wins_over(rules, old, &new),
            };
            if !is_page_visit {
                if shown.is_none_or(|rank| rank < Rank::Script) {
                    count("a script's key shown beside no page visit");
                    shows = Some(new);
                }
            } else if shown.is_none_or(|rank| rank <= Rank::Script) && wins {
                if holds.as_ref().is_some_and(|old| old.rank == Rank::OwnLink) {
                    count("a script's key in the place of an own link");
                }
                let new = in_place_of(holds.as_ref(), new);
                shows = Some(new.clone());
                if may_in == May::Keep {
                    holds = Some(new.clone());
                    answer.set.insert(rules.name, Some(new));
                }
            }
        }
        answer.seen.extend(shows);
        if let Some(holds) = holds {
            kept.insert(rules.name, holds);
        }
    }

    // What the handler said.
    let says = &visit.says;
    let configured: Vec<_> = setup.programs.iter().map(|rules| rules.name).collect();
    for name in &configured {
        if says.forget || says.forget_program == Some(name) {
            count("forgotten by a handler");
            kept.remove(name);
            answer.set.insert(name, None);
        }
    }
    // A token that doesn't open is nothing to capture.
    let mut captures = Vec::new();
    for (capture, consent) in &says.captures {
        match capture {
            Captures::Key(name, key) => {
                captures.push((name.unwrap_or(configured[0]), Err(*key), *consent));
            }
            Captures::Token(at) => {
                if let Some(referral) = token_at(tokens, *at) {
                    captures.push((referral.program, Ok(referral), *consent));
                }
            }
        }
    }
    for (name, captured, consent) in captures {
        let Some(rules) = setup.programs.iter().find(|rules| rules.name == name) else {
            count("an unknown program");
            continue;
        };
        let may_out = match consent {
            Some(consent) if !signals => may(consent),
            _ => may_in,
        };
        if consent == Some(Consent::Denied) && kept.remove(name).is_some() {
            count("denied by a handler");
            answer.set.insert(rules.name, None);
        }
        let carried = captured.is_ok();
        let new = match captured {
            Ok(mut referral) => {
                referral.window = referral.window.min(rules.window);
                referral
            }
            Err(key) => Plain {
                program: rules.name,
                key,
                captured_at: now,
                window: rules.window,
                source: Source::Handler,
                parameter: None,
                rank: Rank::Outside,
                refused: BTreeSet::new(),
            },
        };
        if !is_alive(&new, now) || may_out != May::Keep {
            count("a capture that came to nothing");
            continue;
        }
        let wins = match kept.get(name) {
            None => true,
            Some(old) if old.key == new.key => wins_over(rules, old, &new),
            Some(old) if carried && new.captured_at < old.captured_at => {
                count("an older one carried");
                false
            }
            Some(old) => wins_over(rules, old, &new),
        };
        if wins {
            let new = in_place_of(kept.get(name), new);
            count(if carried {
                "captured from a token"
            } else {
                "captured by a handler"
            });
            kept.insert(rules.name, new.clone());
            answer.set.insert(rules.name, Some(new));
        }
    }

    let is_ours = |name: &str| {
        let mut programs = setup.programs.iter();
        programs.any(|rules| rules.params.contains(&name))
    };
    answer.private =
        !answer.set.is_empty() || visit.query.iter().any(|pair| is_ours(param_of(pair.0)));
    answer
}

fn token_at<T: Clone>(tokens: &[Option<T>], at: usize) -> Option<T> {
    tokens.get(at % tokens.len().max(1))?.clone()
}

// ===== The browser and the shop =====

#[derive(Clone)]
struct Held {
    value: String,
    sealed: Sealed,
    expires: i64,
}

/// What a response does to the jar: for a program a cookie and its life, or none.
type Arriving = Vec<(&'static str, Option<(Held, i64)>)>;

struct Token {
    text: String,
    sealed: Sealed,
    expires: i64,
}

struct World {
    clock: Clock,
    setup: Setup,
    shop: Shop,
    carry: Carry,
    jar: BTreeMap<&'static str, Held>,
    stale: BTreeMap<&'static str, Held>,
    tabs: Vec<Arriving>,
    tokens: Vec<Token>,
    counts: Counts,
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

fn cookie_name(program: &str) -> &'static str {
    match program {
        "default" => "__Host-referral",
        _ => "__Host-referral-friends",
    }
}

fn banner(request: RequestRef<'_>) -> Consent {
    *request.extensions().get::<Consent>().unwrap()
}

/// The handler says what the request's extensions hold for it to say.
fn handler(request: &Request<String>) -> Response<String> {
    let mut response = Response::new("page".to_owned());
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(PAGE));
    let extensions = response.extensions_mut();
    let says = request.extensions();
    says.get::<Forget>()
        .map(|forget| extensions.insert(*forget));
    says.get::<ForgetProgram>()
        .map(|forget| extensions.insert(forget.clone()));
    says.get::<Capture>()
        .map(|capture| extensions.insert(capture.clone()));
    response
}

fn open(setup: &Setup, clock: &Clock) -> (Shop, Carry) {
    let keys = setup.keys.iter().map(|key| signing_key(key.id, key.secret));
    let keyring = keys.fold(None::<Keyring>, |ring, key| {
        Some(match ring {
            None => Keyring::new(key),
            Some(ring) => ring.verify_with(key).unwrap(),
        })
    });
    let keyring = keyring.unwrap();
    let shop = Shop::at(
        clock.clone(),
        SignedCookie::new(keyring.clone()),
        |mut builder| {
            for rules in &setup.programs {
                let mut program = Program::new(rules.name)
                    .params(rules.params.clone())
                    .window(millis(rules.window))
                    .attribution(if rules.first_touch {
                        Attribution::FirstTouch
                    } else {
                        Attribution::LastTouch
                    });
                if setup.reads_scripts && rules.name == "default" {
                    program = program.fallback_cookies([SCRIPTS]);
                }
                builder = builder.program(program);
            }
            if setup.stands_down {
                builder = builder.stand_down("/checkout");
            }
            if setup.honours_signal {
                builder = builder.global_privacy_control();
            }
            builder.consent(banner)
        },
    );
    let carry = Carry::builder(keyring)
        .ttl(millis(TOKEN_TTL))
        .clock(clock.reader())
        .build()
        .unwrap();
    (shop.answering(handler), carry)
}

fn request(visit: &Visit) -> Request<String> {
    let query = visit
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let query = query.collect::<Vec<_>>().join("&");
    let uri = format!(
        "{}{}{query}",
        visit.path,
        if query.is_empty() { "" } else { "?" }
    );
    let metadata = |site, mode, dest| {
        vec![
            ("sec-fetch-site", site),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", dest),
        ]
    };
    let mut headers = match visit.how {
        How::CrossSite => metadata("cross-site", "navigate", "document"),
        How::SameOrigin => metadata("same-origin", "navigate", "document"),
        How::Typed => metadata("none", "navigate", "document"),
        How::Prefetch => {
            let mut headers = metadata("cross-site", "navigate", "document");
            headers.push(("sec-purpose", "prefetch;prerender"));
            headers
        }
        How::Image => metadata("cross-site", "no-cors", "image"),
        How::Frame => metadata("cross-site", "navigate", "iframe"),
        How::OldPrefetch => vec![("purpose", "prefetch")],
        How::OldBrowser | How::Post | How::Head => Vec::new(),
    };
    if visit.signal {
        headers.push(("sec-gpc", "1"));
    }
    let mut request = with_headers(bare_get(&uri), &headers);
    match visit.how {
        How::Post => *request.method_mut() = Method::POST,
        How::Head => *request.method_mut() = Method::HEAD,
        _ => {}
    }
    request.extensions_mut().insert(visit.consent);
    request
}

/// A referral of the crate's as the model has it, or what is wrong with it.
fn plain(referral: &Referral) -> Result<Plain, String> {
    let known = |text: &str| {
        let known = [
            "A", "B", "C", "D", "S", "aff", "ref", "via", SCRIPTS, "default", "friends",
        ];
        known
            .into_iter()
            .find(|one| *one == text)
            .ok_or(format!("{text} from nowhere"))
    };
    let captured_at = referral.captured_at() - OffsetDateTime::UNIX_EPOCH;
    Ok(Plain {
        program: known(referral.program())?,
        key: known(referral.key().unwrap().as_str())?,
        captured_at: captured_at.whole_milliseconds() as i64,
        window: referral.window().as_millis() as i64,
        source: referral.source(),
        parameter: referral.parameter().map(known).transpose()?,
        rank: Rank::Outside,
        refused: BTreeSet::new(),
    })
}

impl World {
    fn new(first: Setup) -> Self {
        let clock = Clock::new();
        let (shop, carry) = open(&first, &clock);
        Self {
            clock,
            setup: first,
            shop,
            carry,
            jar: BTreeMap::new(),
            stale: BTreeMap::new(),
            tabs: Vec::new(),
            tokens: Vec::new(),
            counts: Counts::new(),
        }
    }

    fn now(&self) -> i64 {
        (self.clock.now() - OffsetDateTime::UNIX_EPOCH).whole_milliseconds() as i64
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Wait(millis) => {
                let moved = time::Duration::milliseconds(*millis);
                self.clock.set(self.clock.now() + moved);
            }
            Step::Remember => self.stale = self.jar.clone(),
            Step::Restart(setup) => {
                (self.shop, self.carry) = open(setup, &self.clock);
                self.setup = setup.clone();
            }
            Step::Arrive(tab) => {
                if !self.tabs.is_empty() {
                    let tab = tab % self.tabs.len();
                    if tab > 0 {
                        self.count("a response out of order");
                    }
                    let arriving = self.tabs.remove(tab);
                    self.arrive(arriving);
                }
            }
            Step::Send(visit) => self.send(visit)?,
        }
        Ok(())
    }

    fn arrive(&mut self, arriving: Arriving) {
        let now = self.now();
        for (program, cookie) in arriving {
            self.jar.remove(program);
            if let Some((mut held, life)) = cookie {
                held.expires = now + life;
                self.jar.insert(program, held);
            }
        }
    }

    fn send(&mut self, visit: &Visit) -> Result<(), String> {
        let now = self.now();
        self.jar.retain(|_, held| held.expires > now);
        let mut sent = Vec::new();
        if visit.jar != Jar::Stale {
            sent.extend(self.jar.values().cloned());
        }
        if visit.jar != Jar::Now {
            sent.extend(self.stale.values().cloned());
        }
        if visit.jar == Jar::Stale && !self.stale.is_empty() {
            self.count("a jar of yesterday");
        }

        let mut request = request(visit);
        let mut pairs: Vec<_> = sent
            .iter()
            .map(|held| {
                let name = cookie_name(held.sealed.referral.program);
                format!("{name}={}", held.value)
            })
            .collect();
        pairs.extend(visit.script.map(|key| format!("{SCRIPTS}={key}")));
        if !pairs.is_empty() {
            let line = pairs.join("; ");
            request.headers_mut().insert(COOKIE, line.parse().unwrap());
        }
        let tokens = self.open_tokens()?;
        speak(&visit.says, &tokens, &mut request);

        let known: Vec<_> = tokens
            .iter()
            .map(|token| token.as_ref().map(|t| t.1.clone()))
            .collect();
        let sealed: Vec<_> = sent.iter().map(|held| held.sealed.clone()).collect();
        let expected = answer(&self.setup, now, &sealed, visit, &known, &mut self.counts);

        let page = self.shop.send(request);
        let seen = page.seen.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        if seen != expected.seen {
            return Err(format!(
                "the handler sees {seen:?}, by the rules {:?}",
                expected.seen
            ));
        }
        let cache_control = page.header("cache-control").unwrap_or("none");
        let should_be = if expected.private {
            "private, no-cache"
        } else {
            PAGE
        };
        if cache_control != should_be {
            return Err(format!(
                "cache-control is {cache_control}, by the rules {should_be}"
            ));
        }
        let arriving = self.read_set_cookie(&page, &expected)?;
        if visit.held_back {
            self.tabs.push(arriving);
        } else {
            self.arrive(arriving);
        }
        if let (true, Some(referral)) = (visit.mints, page.referral()) {
            self.tokens.push(Token {
                text: referral.carry_token(&self.carry).unwrap().to_string(),
                sealed: Sealed {
                    referral: expected.seen[0].clone(),
                    by: self.setup.keys[0],
                },
                expires: now + TOKEN_TTL,
            });
        }
        Ok(())
    }

    /// Opens all tokens, those that should open and those that shouldn't.
    fn open_tokens(&mut self) -> Result<Vec<Option<(Referral, Plain)>>, String> {
        let now = self.now();
        let mut opened = Vec::new();
        for token in &self.tokens {
            let should_open = self.setup.keys.contains(&token.sealed.by) && now < token.expires;
            let what = if should_open {
                "a token that opens"
            } else {
                "a token that doesn't"
            };
            *self.counts.entry(what).or_default() += 1;
            opened.push(match (self.carry.open(&token.text), should_open) {
                (Ok(referral), true) => {
                    let is = plain(&referral)?;
                    if is != token.sealed.referral {
                        return Err(format!("a token holds {is:?}, not {:?}", token.sealed));
                    }
                    Some((referral, token.sealed.referral.clone()))
                }
                (Err(_), false) => None,
                (result, _) => {
                    return Err(format!(
                        "a token of {:?}: {:?}",
                        token.sealed,
                        result.is_ok()
                    ));
                }
            });
        }
        Ok(opened)
    }

    fn read_set_cookie(&self, page: &Page, expected: &Answer) -> Result<Arriving, String> {
        let now = self.now();
        let mut lines = page.set_cookies();
        if lines.len() != expected.set.len() {
            return Err(format!(
                "set are {lines:?}, by the rules {:?}",
                expected.set
            ));
        }
        let mut arriving = Vec::new();
        for (program, referral) in &expected.set {
            let start = format!("{}=", cookie_name(program));
            let Some(at) = lines.iter().position(|line| line.starts_with(&start)) else {
                return Err(format!("{start} isn't set, and {lines:?} are"));
            };
            let cookie = cookie::Cookie::parse(lines.remove(at)).unwrap();
            let max_age = cookie.max_age().map(|age| age.whole_milliseconds() as i64);
            let left = referral.as_ref().map_or(0, |referral| {
                let left = (referral.captured_at + referral.window - now).min(referral.window);
                (left + 999) / 1000 * 1000
            });
            if max_age != Some(left) {
                return Err(format!("{start} lives {max_age:?} ms, by the rules {left}"));
            }
            let held = referral.clone().map(|referral| Held {
                value: cookie.value().to_owned(),
                sealed: Sealed {
                    referral,
                    by: self.setup.keys[0],
                },
                expires: 0,
            });
            arriving.push((*program, held.map(|held| (held, left))));
        }
        Ok(arriving)
    }
}

/// Puts what the handler is to say into the request.
fn speak(says: &Says, tokens: &[Option<(Referral, Plain)>], request: &mut Request<String>) {
    let captures = says.captures.iter().filter_map(|(capture, consent)| {
        let capture = match capture {
            Captures::Key(None, key) => Capture::key(key.parse().unwrap()),
            Captures::Key(Some(name), key) => Capture::key_for(*name, key.parse().unwrap()),
            Captures::Token(at) => Capture::referral(token_at(tokens, *at)?.0),
        };
        Some(match consent {
            None => capture,
            Some(consent) => capture.consent(*consent),
        })
    });
    let all = captures.reduce(Capture::and);
    let extensions = request.extensions_mut();
    all.map(|all| extensions.insert(all));
    says.forget.then(|| extensions.insert(Forget));
    says.forget_program
        .map(|name| extensions.insert(ForgetProgram::new(name)));
}

/// Takes the steps, and says what went against the rules, if anything did.
fn play(steps: &[Step]) -> Result<Counts, String> {
    let Some(first) = steps.iter().find_map(|step| match step {
        Step::Restart(setup) => Some(setup.clone()),
        _ => None,
    }) else {
        return Ok(Counts::new());
    };
    let taken = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(first);
        for (at, step) in steps.iter().enumerate() {
            world
                .take(step)
                .map_err(|fault| format!("step {at}: {fault}"))?;
        }
        Ok(world.counts)
    }));
    taken.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// Leaves out steps for as long as it still fails.
fn shrink(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        let mut is_shorter = false;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if fails(&fewer) {
                steps = fewer;
                is_shorter = true;
            } else {
                at += size;
            }
        }
        if !is_shorter || size > 1 {
            size /= 2;
        }
    }
    steps
}

fn report(seed: u64, fault: &str) -> String {
    let shortest = shrink(steps(seed), |steps| play(steps).is_err());
    let last = play(&shortest).err();
    format!(
        "MODEL_SEED={seed}: {fault}\nthe shortest that fails, {} steps: {}\n{shortest:#?}",
        shortest.len(),
        last.unwrap_or_default(),
    )
}

#[test]
fn the_layer_does_what_the_model_does() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text: String| text.parse::<u64>().unwrap())
    };
    if let Some(seed) = number("MODEL_SEED") {
        let played = play(&steps(seed));
        assert!(played.is_ok(), "{}", report(seed, &played.unwrap_err()));
        return;
    }
    let runs = number("MODEL_RUNS").unwrap_or(RUNS);
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Counts::new());
    let failed = Mutex::new(None::<(u64, String)>);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut counts = Counts::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= runs || failed.lock().unwrap().is_some() {
                        break;
                    }
                    match play(&steps(seed)) {
                        Ok(played) => add(&mut counts, played),
                        Err(fault) => *failed.lock().unwrap() = Some((seed, fault)),
                    }
                }
                add(&mut totals.lock().unwrap(), counts);
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_none(),
        "{}",
        failed
            .map(|(seed, fault)| report(seed, &fault))
            .unwrap_or_default()
    );
    let counts = totals.into_inner().unwrap();
    println!("{runs} runs from {START}: {counts:#?}");
    // A model that nothing happens in proves nothing.
    assert_eq!(counts.len(), 22, "something never happened: {counts:#?}");
    for (what, count) in &counts {
        assert!(*count >= runs / 100, "{what}: only {count} times");
    }
}

fn add(counts: &mut Counts, more: Counts) {
    for (what, count) in more {
        *counts.entry(what).or_default() += count;
    }
}

#[test]
fn a_failure_is_made_as_short_as_it_gets() {
    let is_stale = |step: &Step| matches!(step, Step::Send(visit) if visit.jar == Jar::Stale);
    let fails = |steps: &[Step]| {
        let remembered = steps.iter().position(|step| matches!(step, Step::Remember));
        remembered.is_some_and(|at| steps[at..].iter().filter(|step| is_stale(step)).count() >= 2)
    };
    let mut failing = (0..).map(steps).filter(|steps| fails(steps));
    for _ in 0..20 {
        let shortest = shrink(failing.next().unwrap(), fails);
        assert_eq!(shortest.len(), 3, "{shortest:?}");
    }
}
