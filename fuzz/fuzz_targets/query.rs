//! Queries: which keys and parameters are read from them, what becomes of these, the cookies that
//! are set and the URL without our parameters.
//!
//! The first two bytes choose method, headers, path and what is kept already. The rest are the
//! query, in which control characters stand for parameters, escapes and lengths.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{COOKIE, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use libfuzzer_sys::fuzz_target;
use tower_referral::{Attribution, KeyRule, Program, Reason, ReferralLayer, SignedCookie};
use tower_referral_fuzz::cookie_header::{self, Credit};
use tower_referral_fuzz::envelope::Envelopes;
use tower_referral_fuzz::message::{self, Keys, Plain};
use tower_referral_fuzz::query;
use tower_referral_fuzz::script::{self, Words};
use tower_referral_fuzz::shop::{self, Expected, KEYS, KNOWN_KEYS, NOON, Shop};

const DAY: u32 = 86_400;
const NAMES: [&str; 2] = ["default", "friends"];
const COOKIES: [&str; 2] = ["__Host-referral", "__Host-referral-friends"];
const QUERIES: [query::Program; 2] = [
    query::Program {
        params: &["aff", "ref"],
        click_params: &["cid", "dub_id"],
        keep: &["utm_source", "sub"],
        keys: Keys::Ascii,
    },
    query::Program {
        params: &["via", "a[b]"],
        click_params: &[],
        keep: &["sub", "long"],
        keys: Keys::Unicode,
    },
];
const PATHS: [&str; 8] = [
    "/",
    "/pricing",
    "/checkout",
    "/checkout/2",
    "/checkouts",
    "//evil.example/a",
    "/%5c/%63heckout",
    "/%63heckout//x",
];
/// Those of [`PATHS`] that are at the till.
const TILL: [bool; 8] = [false, false, true, true, false, false, true, true];

struct Bench {
    /// Without redirects, and with.
    shops: [Shop; 2],
    programs: [cookie_header::Program; 2],
    /// A cookie line that holds a referral of both programs, by the key `KEPT`.
    kept: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
    words: Words,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let builder = || {
        ReferralLayer::builder(SignedCookie::new(shop::keyring()))
            .program(
                Program::new(NAMES[0])
                    .params(QUERIES[0].params.iter().copied())
                    .click_params(QUERIES[0].click_params.iter().copied())
                    .extra_params(QUERIES[0].keep.iter().copied()),
            )
            .program(
                Program::new(NAMES[1])
                    .params(QUERIES[1].params.iter().copied())
                    .extra_params(QUERIES[1].keep.iter().copied())
                    .attribution(Attribution::FirstTouch)
                    .key_rule(KeyRule::printable_unicode())
                    .window(Duration::from_secs(14 * 86_400)),
            )
            .stand_down("/checkout")
            .clock(shop::clock)
    };
    let layer = builder().build().expect("a layer");
    let program = |at: usize, days: u32, credit| cookie_header::Program {
        cookie: COOKIES[at].to_owned(),
        envelopes: Envelopes::of_cookie(&KEYS[..KNOWN_KEYS], COOKIES[at], NAMES[at]),
        keys: QUERIES[at].keys,
        window: days * DAY,
        credit,
    };
    let programs = [program(0, 30, Credit::Last), program(1, 14, Credit::First)];
    let line = programs.iter().map(|program| {
        let value = program.envelopes.seal(KEYS[1].0, &kept(program).written());
        format!("{}={value}", program.cookie)
    });
    let line = line.collect::<Vec<_>>().join("; ");
    Bench {
        shops: [Shop::new(&layer, false), Shop::with_clean_url(&layer)],
        programs,
        kept: HeaderValue::try_from(line).expect("a cookie line"),
        headers: [
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-dest", "image"),
        ]
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .to_vec(),
        words: words(),
    }
});

fn kept(program: &cookie_header::Program) -> Plain<'static> {
    Plain {
        captured_at: NOON - 3_600_000,
        window: program.window,
        path: "/",
        ..Plain::landing("KEPT", "aff")
    }
}

fn words() -> Words {
    let mut words = Words::default();
    let texts = [
        "aff=",
        "ref=",
        "via=",
        "a[b]=",
        "a%5Bb%5d=",
        "%61ff=",
        "r%65f=",
        "sub=",
        "utm_source=",
        "long=",
        "&aff=",
        "&",
        "%26amp%3B",
        "%3F",
        "%2B",
        "%c3%a4",
        "%C3",
        "%00",
        "%20",
        "%E2%80%8B",
        "KEPT",
        "%4b%45PT",
        "ä",
        "%25",
        "aff",
        "%",
        "PARTNER_123",
        "&amp;cid=",
        "",
        "",
        "",
        "",
    ];
    for (word, text) in words.iter_mut().zip(texts) {
        *word = text.into();
    }
    words[28] = b"x".repeat(127);
    words[29] = b"a&".repeat(62);
    words[30] = b"v".repeat(8180);
    words[31] = "%C3%BC".repeat(63).into();
    words
}

fuzz_target!(|input: &[u8]| {
    let [choice, more, rest @ ..] = input else {
        return;
    };
    let bench = &*BENCH;
    let at_path = usize::from(more % 8);
    let mut text = Vec::with_capacity(256);
    script::written_out(&bench.words, rest, choice & 224 == 224, &mut text);
    let path = PATHS[at_path];
    let Ok(uri) = Uri::try_from([path.as_bytes(), b"?", &text].concat()) else {
        return;
    };
    let Some(asked) = uri.query().map(str::to_owned) else {
        return;
    };
    let path = uri.path().to_owned();

    let mut request = Request::new(());
    *request.uri_mut() = uri;
    let headers: &[usize] = match choice % 8 {
        0..=2 => &[],
        3 => &[0, 1],
        4 | 5 => &[0, 1, 2],
        6 => &[3],
        _ => {
            *request.method_mut() = Method::POST;
            &[]
        }
    };
    for at in headers {
        let (name, value) = &bench.headers[*at];
        request.headers_mut().append(name, value.clone());
    }
    let is_page_visit = choice % 8 < 6;
    let is_same_origin = matches!(choice % 8, 4 | 5);
    let (has_kept, cleans) = (choice & 8 != 0, choice & 16 != 0);
    // Links are cleaned for browsers only.
    let browser = HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0");
    request.headers_mut().insert(USER_AGENT, browser);
    if has_kept {
        request.headers_mut().insert(COOKIE, bench.kept.clone());
    }

    // By the rules.
    let pairs = query::pairs(&asked);
    let found = QUERIES.each_ref().map(|program| program.read(&pairs));
    let mut shown: [Option<Plain<'_>>; 2] = bench
        .programs
        .each_ref()
        .map(|program| has_kept.then(|| kept(program)));
    let has_parameter = found.iter().any(Option::is_some);
    let (mut decisions, mut written, mut landed) = (Vec::new(), Vec::new(), false);
    for (at, found) in found.iter().enumerate() {
        let program = &bench.programs[at];
        let reason = match found {
            None => continue,
            Some(_) if !is_page_visit => Reason::NotAPageVisit,
            Some(None) => Reason::InvalidKey,
            Some(Some(found)) => {
                landed = true;
                let new = Plain {
                    window: program.window,
                    is_own_link: is_same_origin,
                    click_id: &found.click_id,
                    path: if message::is_path(&path) { &path } else { "" },
                    extra: found.extra.iter().map(|(n, v)| (*n, v.as_str())).collect(),
                    ..Plain::landing(&found.key, found.parameter)
                };
                match &shown[at] {
                    Some(kept) if kept.key == new.key => Reason::SameKey,
                    Some(_) if TILL[at_path] => Reason::KeptStandDown,
                    Some(kept) if is_same_origin => {
                        // Remembered, in case the page leads to itself.
                        let refused = new.as_refused();
                        let kept = Plain {
                            refused: &refused,
                            ..kept.clone()
                        };
                        written.push(program.set_cookie(kept, NOON));
                        Reason::KeptOwnLink
                    }
                    Some(kept) if !program.replaces(kept, &new) => Reason::KeptFirstTouch,
                    _ => {
                        written.push(program.set_cookie(new.clone(), NOON));
                        shown[at] = Some(new);
                        Reason::Captured
                    }
                }
            }
        };
        decisions.push((NAMES[at], reason));
    }
    let location = (cleans && landed && asked.len() <= 8 * 1024)
        .then(|| query::without(&QUERIES.each_ref(), &asked))
        .flatten()
        .map(|others| {
            let (_, last) = path.rsplit_once('/').expect("a path");
            if others.is_empty() {
                format!("./{last}")
            } else {
                format!("?{others}")
            }
        });

    // By the crate.
    let response = bench.shops[usize::from(cleans)].send(request);

    if location.is_some() {
        // The page isn't asked.
        shown = [None, None];
    }
    let expected = Expected {
        programs: &NAMES,
        shown: &shown,
        decisions: &decisions,
        written: &written,
        has_parameter,
    };
    shop::assert_expected(&response, &expected);
    let is_redirect = response.status() == StatusCode::SEE_OTHER;
    assert_eq!(is_redirect, location.is_some());
    let said = response.headers().get(LOCATION).map(HeaderValue::as_bytes);
    assert_eq!(said, location.as_deref().map(str::as_bytes));
});
