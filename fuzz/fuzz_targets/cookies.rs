//! `Cookie` headers: which cookies are found in them, which of these count, what the page sees and
//! what the response sets.
//!
//! The first two bytes choose the shop, the clock and the request. The rest are the header's lines,
//! split at line feeds, in which control characters stand for names and sealed values, valid and
//! otherwise.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{COOKIE, HeaderValue};
use http::{Method, Request, Uri};
use libfuzzer_sys::fuzz_target;
use tower_referral::{Attribution, Program, Reason, ReferralLayer, SignedCookie};
use tower_referral_fuzz::cookie_header::{self, Credit, values};
use tower_referral_fuzz::envelope::Envelopes;
use tower_referral_fuzz::message::{self, Keys, Plain};
use tower_referral_fuzz::query;
use tower_referral_fuzz::script::{self, Words};
use tower_referral_fuzz::shop::{self, Expected, KEYS, KNOWN_KEYS, NOON, Shop};

const NAMES: [&str; 2] = ["__Host-referral", "__Host-referral-friends"];
const PROGRAMS: [&str; 2] = ["default", "friends"];
/// Another script's cookie, from which the shop with fallback cookies reads keys.
const SCRIPTS: &str = "pp";
const DAY: u32 = 86_400;

struct Bench {
    /// One program; two; two of which one reads another script's cookie.
    shops: [Shop; 3],
    asks_twice: [Shop; 3],
    programs: [cookie_header::Program; 2],
    words: Words,
    landing: Uri,
    page: Uri,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let default = || {
        Program::new(PROGRAMS[0])
            .params(["aff"])
            .attribution(Attribution::FirstTouch)
    };
    let friends = || {
        Program::new(PROGRAMS[1])
            .params(["via"])
            .window(Duration::from_secs(14 * 86_400))
    };
    let builder = || ReferralLayer::builder(SignedCookie::new(shop::keyring())).clock(shop::clock);
    let layers = [
        builder().program(default()),
        builder().program(default()).program(friends()),
        builder()
            .program(default())
            .program(friends().fallback_cookies([SCRIPTS])),
    ]
    .map(|builder| builder.build().expect("a layer"));
    let program = |at: usize, window: u32, credit| cookie_header::Program {
        cookie: NAMES[at].to_owned(),
        envelopes: Envelopes::of_cookie(&KEYS[..KNOWN_KEYS], NAMES[at], PROGRAMS[at]),
        keys: Keys::Ascii,
        window,
        credit,
    };
    Bench {
        shops: [0, 1, 2].map(|at| Shop::new(&layers[at], false)),
        asks_twice: [0, 1, 2].map(|at| Shop::new(&layers[at], true)),
        programs: [
            program(0, 30 * DAY, Credit::First),
            program(1, 14 * DAY, Credit::Last),
        ],
        words: words(),
        landing: Uri::from_static("/pricing?aff=NEW"),
        page: Uri::from_static("/pricing"),
    }
});

fn words() -> Words {
    let referral = Plain {
        captured_at: NOON - 3_600_000,
        window: 30 * DAY,
        path: "/pricing",
        ..Plain::landing("PARTNER_123", "aff")
    };
    let kept = |change: fn(&mut Plain<'static>)| {
        let mut plain = referral.clone();
        change(&mut plain);
        plain
    };
    let plain = kept(|_| {});
    let new = kept(|plain| plain.key = "NEW");
    let later = kept(|plain| {
        (plain.key, plain.click_id, plain.touch) = ("K", "click-1", b"touchtou");
        plain.captured_at += 1000;
    });
    let due = kept(|plain| {
        (plain.key, plain.is_own_link) = ("due", true);
        (plain.click, plain.touch) = (1, b"touchtou");
        plain.captured_at = NOON + 300_000;
    });
    let script = kept(|plain| {
        (plain.key, plain.source, plain.path, plain.parameter) = ("S", 3, "", "pp");
        plain.window = 7 * DAY;
    });
    let expired = kept(|plain| plain.captured_at = NOON - 30 * 86_400_000);
    let future = kept(|plain| plain.captured_at = NOON + 300_001);
    let rich = kept(|plain| {
        (plain.key, plain.source) = ("a=b+c:d@e~f", 2);
        plain.extra = vec![("utm_source", "news letter"), ("sub", "7")];
    });
    let unruly = kept(|plain| plain.window = 0);
    let keys =
        |known: usize, at: usize| Envelopes::of_cookie(&KEYS[..known], NAMES[at], PROGRAMS[at]);
    let [first, second] = [0, 1].map(|at| keys(KNOWN_KEYS, at));
    let gone = keys(KEYS.len(), 0);
    let seal = |under: &Envelopes, id: usize, plain: &Plain<'_>| {
        under.seal(KEYS[id].0, &plain.written()).into_bytes()
    };
    let mut forged = seal(&first, 0, &plain);
    let last = forged.len() - 1;
    forged[last] = if forged[last] == b'A' { b'E' } else { b'A' };
    let cookie = |name: &str, value: Vec<u8>| [name.as_bytes(), b"=", &value].concat();
    let mut words = Words::default();
    let valid = [
        cookie(NAMES[0], seal(&first, 0, &plain)),
        cookie(NAMES[1], seal(&second, 0, &plain)),
        NAMES[0].into(),
        NAMES[1].into(),
        seal(&first, 1, &later),
        seal(&first, 0, &new),
        seal(&second, 1, &later),
        cookie(NAMES[0], seal(&first, 0, &due)),
    ];
    words[1..9].clone_from_slice(&valid);
    // Half as many as are verified in one request.
    words[0] = [valid[7].as_slice(), b"; "].concat().repeat(4);
    // 9 is a tab, 10 a line feed: they stay.
    let others = [
        cookie(NAMES[0], seal(&first, 0, &expired)),
        cookie(NAMES[0], seal(&first, 0, &future)),
        cookie(NAMES[1], seal(&second, 0, &script)),
        seal(&first, 1, &rich),
        seal(&first, 0, &unruly),
        seal(&gone, 2, &plain),
        forged,
        cookie(SCRIPTS, b"SCRIPT-1".to_vec()),
        b"; ".to_vec(),
        b"=".to_vec(),
        b"__Host-".to_vec(),
        b"referral".to_vec(),
        b"-friends".to_vec(),
        b"; pp=%4".to_vec(),
        cookie("; __Host-referral", seal(&first, 0, &later)),
        b"; $Version=1; theme=\"a, b\"; ".to_vec(),
        cookie("__Secure-referral", seal(&first, 0, &plain)),
        cookie("referral", seal(&first, 0, &plain)),
        cookie("__host-referral", seal(&first, 0, &plain)),
        b"\xc3\xa4\xff".to_vec(),
        cookie("; __Host-referral-friends", seal(&second, 1, &rich)),
    ];
    words[11..32].clone_from_slice(&others);
    words
}

fuzz_target!(|input: &[u8]| {
    let [choice, hour, rest @ ..] = input else {
        return;
    };
    let bench = &*BENCH;
    let now = NOON
        + match hour % 8 {
            0..=2 => 0,
            3 => 1,
            4 => -1,
            5 => -300_001,
            6 => 30 * 86_400_000 - 3_600_000,
            _ => 7 * 86_400_000 - 3_600_000 - 1,
        };
    shop::set_clock(now);
    let with = usize::from(choice % 3);
    let count = [1, 2, 2][with];
    let (asks_twice, lands, posts) = (choice & 64 != 0, choice & 128 != 0, hour & 128 != 0);

    let mut text = Vec::with_capacity(512);
    script::written_out(&bench.words, rest, false, &mut text);
    let mut request = Request::new(());
    *request.uri_mut() = if lands {
        bench.landing.clone()
    } else {
        bench.page.clone()
    };
    if posts {
        *request.method_mut() = Method::POST;
    }
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        // What no server hands on isn't worth a question.
        if let Ok(value) = HeaderValue::from_bytes(line) {
            request.headers_mut().append(COOKIE, value);
            lines.push(line);
        }
    }

    // What is kept, program by program.
    let programs = &bench.programs[..count];
    let opened: Vec<Vec<_>> = programs
        .iter()
        .map(|program| {
            let values = values(&lines, &program.cookie);
            values.iter().map(|value| program.open(value)).collect()
        })
        .collect();
    let (refused, beside_script);
    let mut decisions = Vec::new();
    let mut shown: Vec<Option<Plain<'_>>> = Vec::new();
    for (at, program) in programs.iter().enumerate() {
        shown.push(program.pick(&opened[at], now).unwrap_or_else(|fault| {
            decisions.push((PROGRAMS[at], fault.reason()));
            None
        }));
    }

    // What is new.
    let mut written = Vec::new();
    if lands {
        let program = &programs[0];
        let new = Plain {
            captured_at: now,
            window: program.window,
            path: "/pricing",
            ..Plain::landing("NEW", "aff")
        };
        let reason = match &shown[0] {
            _ if posts => Reason::NotAPageVisit,
            Some(kept) if program.replaces(kept, &new) => {
                // A link of the own site that gives way is refused, and remembered.
                refused = kept.refused_beside(&new);
                let new = Plain {
                    refused: &refused,
                    ..new
                };
                written.push(program.set_cookie(new.clone(), now));
                shown[0] = Some(new);
                Reason::Captured
            }
            Some(kept) if kept.key == new.key => Reason::SameKey,
            Some(_) => Reason::KeptFirstTouch,
            None => {
                written.push(program.set_cookie(new.clone(), now));
                shown[0] = Some(new);
                Reason::Captured
            }
        };
        decisions.push((PROGRAMS[0], reason));
    }
    let scripts = values(if with == 2 { &lines } else { &[] }, SCRIPTS);
    let script_key = scripts
        .iter()
        .find_map(|value| query::repaired(value, |text| message::is_key(text, Keys::Ascii)));
    if let Some(key) = &script_key {
        let mut new = Plain {
            captured_at: now,
            window: programs[1].window,
            source: 3,
            ..Plain::landing(key, SCRIPTS)
        };
        let gives_way = |kept: &Plain<'_>| kept.rank() <= 1 && kept.key != new.key;
        let is_lower = |kept: &Plain<'_>| kept.rank() == 0 && kept.key != new.key;
        if posts {
            // Shown in the place of what ranks lower, and not kept.
            if shown[1].as_ref().is_none_or(is_lower) {
                shown[1] = Some(new);
            }
        } else if shown[1].as_ref().is_none_or(gives_way) {
            if let Some(kept) = &shown[1] {
                beside_script = kept.refused_beside(&new);
                new.refused = &beside_script;
            }
            decisions.push((PROGRAMS[1], Reason::Captured));
            written.push(programs[1].set_cookie(new.clone(), now));
            shown[1] = Some(new);
        }
    }

    let shops = if asks_twice {
        &bench.asks_twice
    } else {
        &bench.shops
    };
    let response = shops[with].send(request);

    let expected = Expected {
        programs: &PROGRAMS,
        shown: &shown,
        decisions: &decisions,
        written: &written,
        has_parameter: lands,
    };
    shop::assert_expected(&response, &expected);
});
