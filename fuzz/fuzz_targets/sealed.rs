//! Sealed values: carry tokens and the values of cookies. Whatever opens must be what a key of ours
//! sealed, to the last character, and say what the oracle reads in it; sealed again it must be the
//! text that the oracle writes.
//!
//! The first byte chooses where the text comes from and who opens it. Texts are raw, envelopes and
//! messages of the input's under a true signature, messages put together field by field, or valid
//! texts with changes.
#![no_main]

use std::sync::LazyLock;

use http::header::{COOKIE, HeaderValue};
use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use tower_referral::carry::{Carry, CarryError};
use tower_referral::{Program, ReferralLayer, SignedCookie};
use tower_referral_fuzz::cookie_header;
use tower_referral_fuzz::envelope::{Envelopes, Fault, MAX_ENVELOPE, TAG_LEN, text_of};
use tower_referral_fuzz::message::{Keys, Plain};
use tower_referral_fuzz::script::{self, Words};
use tower_referral_fuzz::shop::{self, KEYS, KNOWN_KEYS, NOON, Shop};

const COOKIE_NAME: &str = "__Host-referral";
const DAY: u32 = 86_400;
/// When a token that is sealed now expires.
const EXPIRY: i64 = NOON + 30 * 86_400_000;
const LONGEST: usize = 1067;

struct Bench {
    shop: Shop,
    program: cookie_header::Program,
    page: Uri,
    carry: Carry,
    /// The same, for tokens of 200 characters at most.
    short: Carry,
    tokens: Envelopes,
    /// Valid texts, for changes.
    valid_tokens: Vec<String>,
    valid_values: Vec<String>,
    words: Words,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let layer = ReferralLayer::builder(SignedCookie::new(shop::keyring()))
        .program(Program::default())
        .clock(shop::clock)
        .build()
        .expect("a layer");
    let carry = |max_len| {
        Carry::builder(shop::keyring())
            .purpose("payment")
            .audience("shop.example")
            .ttl(Duration::from_secs(30 * 86_400))
            .max_len(max_len)
            .clock(shop::clock)
            .build()
            .expect("a carry")
    };
    let known = &KEYS[..KNOWN_KEYS];
    let tokens = Envelopes::of_carry(known, "payment", "shop.example");
    let program = cookie_header::Program::default();
    let specimens = [
        ("K", "", &b""[..], Vec::new()),
        ("KE", "", b"touchtou", Vec::new()),
        (
            "KEY",
            "click-4711",
            b"",
            vec![("utm_source", "news letter")],
        ),
        (
            "PARTNER_123",
            "c",
            b"touchtou",
            vec![("sub", "7"), ("n", "v")],
        ),
    ];
    let mut valid_tokens = Vec::new();
    let mut valid_values = Vec::new();
    for (at, (key, click_id, touch, extra)) in specimens.into_iter().enumerate() {
        let mut plain = Plain {
            captured_at: NOON - 3_600_000,
            window: 30 * DAY,
            source: 1 + at as u8 % 3,
            is_own_link: false,
            click: 0,
            touch,
            refused: b"",
            program: "",
            key,
            click_id,
            partner_id: "",
            parameter: "aff",
            path: "/pricing",
            extra,
        };
        let id = KEYS[at % 2].0;
        valid_values.push(program.envelopes.seal(id, &plain.written()));
        plain.program = "default";
        let message = [&EXPIRY.to_be_bytes()[..], &plain.written()].concat();
        valid_tokens.push(tokens.seal(id, &message));
    }
    Bench {
        shop: Shop::new(&layer, false),
        program,
        page: Uri::from_static("/pricing"),
        carry: carry(LONGEST),
        short: carry(Carry::DEFAULT_MAX_LEN),
        tokens,
        valid_tokens,
        valid_values,
        words: script::referral_words(),
    }
});

/// A text under a true signature, if the envelope names one of the keys.
fn signed(envelopes: &Envelopes, envelope: &[u8]) -> Vec<u8> {
    let message = |len: usize| envelope.get(2 + len..);
    let tag = match envelope {
        [_, len, ..] => message((*len).into()).and_then(|message| {
            let id = &envelope[2..2 + usize::from(*len)];
            envelopes.tag(id, message)
        }),
        _ => None,
    };
    text_of(envelope, &tag.unwrap_or([0; 32])).into_bytes()
}

/// `is_short`: sealed again, it must be short.
fn token(bench: &Bench, text: &[u8], is_short: bool) {
    // A token is a `str` to begin with.
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).expect("UTF-8 so far"),
    };
    let message = bench.tokens.open(text.as_bytes());
    let expected = match &message {
        Err(Fault::UnknownKey) => Err(CarryError::UnknownSigningKey),
        Err(Fault::BadSignature) => Err(CarryError::BadSignature),
        Err(_) => Err(CarryError::Malformed),
        Ok(message) => match message.split_first_chunk() {
            None => Err(CarryError::Malformed),
            Some((expiry, _)) if i64::from_be_bytes(*expiry) <= NOON => Err(CarryError::Expired),
            Some((_, rest)) => Plain::read(rest, Keys::Unicode, true).ok_or(CarryError::Malformed),
        },
    };
    let (referral, mut plain) = match (bench.carry.open(text), expected) {
        (Ok(referral), Ok(plain)) => (referral, plain),
        (Ok(_), Err(error)) => panic!("opens, and should not: {error:?}"),
        (Err(error), Ok(plain)) => panic!("should open, but {error:?}: {plain:?}"),
        (Err(said), Err(expected)) => return assert_eq!(said, expected),
    };
    shop::assert_same(&referral, &plain, plain.program);
    // And back again.
    let (carry, max_len) = if is_short {
        (&bench.short, Carry::DEFAULT_MAX_LEN)
    } else {
        (&bench.carry, LONGEST)
    };
    let (written, envelope_len) = loop {
        let message = [&EXPIRY.to_be_bytes()[..], &plain.written()].concat();
        let envelope_len = 2 + KEYS[0].0.len() + message.len();
        let fits = envelope_len <= MAX_ENVELOPE && text_len(envelope_len) <= max_len;
        if fits || !plain.drop_one() {
            break (message, envelope_len);
        }
    };
    let len = text_len(envelope_len);
    match referral.carry_token(carry) {
        Ok(token) => {
            assert!(len <= max_len, "{len} are too long");
            assert_eq!(token.as_str(), bench.tokens.seal(KEYS[0].0, &written));
        }
        Err(error) => {
            assert_eq!(error, CarryError::TooLong { len, max_len });
            assert!(len > max_len, "{len} aren't too long");
        }
    }
}

/// Characters of a sealed text.
fn text_len(envelope_len: usize) -> usize {
    ((envelope_len + TAG_LEN) * 8).div_ceil(6)
}

fn value(bench: &Bench, text: &[u8]) {
    let line = [COOKIE_NAME.as_bytes(), b"=", text].concat();
    let Ok(header) = HeaderValue::from_bytes(&line) else {
        return;
    };
    let mut request = Request::new(());
    *request.uri_mut() = bench.page.clone();
    request.headers_mut().insert(COOKIE, header);
    let response = bench.shop.send(request);
    let seen = response.body();
    let values = cookie_header::values(&[&line], COOKIE_NAME);
    let opened: Vec<_> = values
        .iter()
        .map(|value| bench.program.open(value))
        .collect();
    match bench.program.pick(&opened, NOON) {
        Ok(None) => panic!("there is a cookie"),
        Ok(Some(plain)) => {
            let referral = seen.first().expect("a referral that counts");
            shop::assert_same(referral, &plain, "default");
        }
        Err(fault) => {
            assert_eq!(seen.first(), None, "a referral that doesn't count");
            assert_eq!(seen.decisions().last_of("default"), Some(fault.reason()));
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else {
        return;
    };
    let bench = &*BENCH;
    let is_token = choice & 1 == 0;
    let envelopes = if is_token {
        &bench.tokens
    } else {
        &bench.program.envelopes
    };
    let id = KEYS[usize::from(choice & 2 != 0)].0;
    let with_expiry = |message: &[u8]| {
        if is_token {
            [&EXPIRY.to_be_bytes()[..], message].concat()
        } else {
            message.to_vec()
        }
    };
    let text = match choice / 4 % 8 {
        0 => rest.to_vec(),
        1 => signed(envelopes, rest),
        2 => envelopes.seal(id, rest).into_bytes(),
        3 => envelopes.seal(id, &with_expiry(rest)).into_bytes(),
        4 => {
            let valid = if is_token {
                &bench.valid_tokens
            } else {
                &bench.valid_values
            };
            let valid = &valid[usize::from(choice / 32) % valid.len()];
            let text = script::changed(valid, rest);
            // Not by any oracle's word alone.
            let is_ours = |text: &[u8]| {
                let values = bench.valid_tokens.iter().chain(&bench.valid_values);
                values.into_iter().any(|value| value.as_bytes() == text)
            };
            assert!(envelopes.open(&text).is_err() || is_ours(&text));
            text
        }
        _ => {
            let [first, second, rest @ ..] = rest else {
                return;
            };
            let mut fields = Vec::with_capacity(256);
            script::written_out(&bench.words, rest, false, &mut fields);
            let message = script::assembled(is_token, [*first, *second], &fields);
            envelopes.seal(id, &with_expiry(&message)).into_bytes()
        }
    };
    if is_token {
        token(bench, &text, choice & 128 != 0);
    } else {
        value(bench, &text);
    }
});
