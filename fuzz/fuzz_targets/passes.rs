//! What browsers hold where referrals are kept on the server: the sealed pass of a visitor, with or
//! without a referral in it, or a bare referral. The store has nothing, or is down. What the page sees
//! and what the browser is given back must be what the oracle says.
//!
//! The first byte chooses the store, the key and where the message comes from: the input itself, fields
//! that it puts together, or a valid text with changes.
#![no_main]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response, Uri};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tower_referral::{Program, Reason, ReferralLayer, Referrals, ServerSide};
use tower_referral_fuzz::cookie_header;
use tower_referral_fuzz::envelope::Fault;
use tower_referral_fuzz::pass::Pass;
use tower_referral_fuzz::script::{self, Words};
use tower_referral_fuzz::shop::{self, KEYS, KNOWN_KEYS, NOON, Shop};
use tower_sessions_core::SessionStore;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Error, Result};

const COOKIE_NAME: &str = "__Host-referral";

static IS_DOWN: AtomicBool = AtomicBool::new(false);

/// It has nothing, whatever it is given; or it is down.
#[derive(Debug)]
struct Store;

impl Store {
    fn answer<T>(answer: T) -> Result<T> {
        if IS_DOWN.load(Ordering::Relaxed) {
            Err(Error::Backend("down".to_owned()))
        } else {
            Ok(answer)
        }
    }
}

#[async_trait]
impl SessionStore for Store {
    async fn create(&self, _: &mut Record) -> Result<()> {
        Self::answer(())
    }

    async fn save(&self, _: &Record) -> Result<()> {
        Self::answer(())
    }

    async fn load(&self, _: &Id) -> Result<Option<Record>> {
        Self::answer(None)
    }

    async fn delete(&self, _: &Id) -> Result<()> {
        Self::answer(())
    }
}

struct Bench {
    shop: Shop,
    program: cookie_header::Program,
    page: Uri,
    words: Words,
    runtime: Runtime,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let layer =
        ReferralLayer::builder(ServerSide::new(Store, shop::keyring()).store_expires_records())
            .program(Program::default())
            .clock(shop::clock)
            .build()
            .expect("a layer");
    Bench {
        shop: Shop::new(&layer, true),
        program: cookie_header::Program::default(),
        page: Uri::from_static("/pricing"),
        words: script::referral_words(),
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime"),
    }
});

/// A message put together from the input: flags, the visitor's ID, and a referral or none.
fn assembled(bench: &Bench, input: &[u8]) -> Vec<u8> {
    let [flags, first, second, rest @ ..] = input else {
        return input.to_vec();
    };
    let mut fields = Vec::with_capacity(256);
    script::written_out(&bench.words, rest, false, &mut fields);
    let referral = script::assembled(false, [*first, *second], &fields);
    // Whether the flags speak the truth about the referral is another bit of theirs.
    let (is_bare, has_referral, flags) = match flags {
        0..=127 => (false, flags & 2 != 0, flags & 7),
        128..=191 => (true, true, 0),
        _ => (false, flags & 8 != 0, *flags),
    };
    if is_bare {
        return referral;
    }
    let id = match second % 8 {
        0..=4 => KEYS[0].0,
        5 => KEYS[1].0,
        6 => KEYS[2].0,
        _ => "not an ID",
    };
    let mut message = vec![2, flags, id.len() as u8];
    message.extend(id.as_bytes());
    message.extend([*first; 16]);
    if has_referral {
        message.extend(&referral[1..]);
    }
    message
}

fn send(bench: &Bench, value: &[u8]) -> Option<Response<Referrals>> {
    let line = [COOKIE_NAME.as_bytes(), b"=", value].concat();
    let header = HeaderValue::from_bytes(&line).ok()?;
    let mut request = Request::new(());
    *request.uri_mut() = bench.page.clone();
    request.headers_mut().insert(COOKIE, header);
    let _inside = bench.runtime.enter();
    Some(bench.shop.send(request))
}

/// What the browser is given back, if anything.
fn written(bench: &Bench, response: &Response<Referrals>) -> Option<Vec<u8>> {
    let mut lines = response.headers().get_all(SET_COOKIE).iter();
    let line = lines.next()?.to_str().expect("ASCII");
    assert_eq!(lines.next(), None, "one cookie");
    assert!(line.len() < 1024, "{line}");
    let (pair, _) = line.split_once(';').expect("attributes");
    let (name, value) = pair.split_once('=').expect("a value");
    assert_eq!(name, COOKIE_NAME);
    Some(bench.program.open(value.as_bytes()).expect("sealed by us"))
}

fn check(bench: &Bench, response: &Response<Referrals>, value: &[u8], is_down: bool) {
    let seen = response.body();
    let said: Vec<_> = seen.decisions().iter().map(|it| it.reason()).collect();
    let written = written(bench, response);
    let values = cookie_header::values(
        &[&[COOKIE_NAME.as_bytes(), b"=", value].concat()],
        COOKIE_NAME,
    )
    .into_iter()
    .map(|value| bench.program.open(value))
    .collect::<Vec<_>>();
    let [opened] = &values[..] else {
        return; // a `;` in the input makes it another cookie's business
    };
    let read = opened.as_ref().map_err(|fault| *fault).and_then(|message| {
        let pass = Pass::read(message, bench.program.keys);
        pass.ok_or(Fault::Malformed)
    });
    let pass = match read {
        Ok(pass) => pass,
        Err(fault) => {
            assert_eq!((said, seen.first()), (vec![fault.reason()], None));
            assert!(seen.visitor_ids().is_empty() && written.is_none());
            return;
        }
    };
    let counts = |plain| bench.program.counts(plain, NOON).ok();
    let shown = pass.carried.clone().and_then(counts);
    match (&shown, seen.first()) {
        (Some(plain), Some(referral)) => shop::assert_same(referral, plain, "default"),
        (shown, seen) => assert!(shown.is_none() && seen.is_none(), "{shown:?}, {seen:?}"),
    }
    // Of a record whose key is gone only the visitor's ID is left, for what is carried.
    let is_key = |id| KEYS[..KNOWN_KEYS].iter().any(|key| key.0 == id);
    let known = match pass.record {
        Some((id, visitor)) if is_key(id) => Some((id, visitor)),
        Some((_, visitor)) if pass.carried.is_some() => Some((KEYS[0].0, visitor)),
        _ => None,
    };
    let is_unknown = is_down && known.is_some();
    let expected = [Reason::StoreUnavailable];
    assert_eq!(said, &expected[..usize::from(is_unknown)]);
    let ids: Vec<_> = seen.visitor_ids().iter().map(ToString::to_string).collect();
    match known {
        Some((_, visitor)) if is_unknown || pass.carried.is_some() => {
            assert_eq!(ids, [URL_SAFE_NO_PAD.encode(visitor)]);
        }
        // The server has nothing under that one.
        Some(_) => assert!(ids.is_empty()),
        None => assert_eq!(ids.len(), usize::from(shown.is_some())),
    }
    // What was carried moves in, where it is known that it may.
    let Some(plain) = shown.filter(|_| !is_unknown) else {
        return assert_eq!(written, None);
    };
    let written = written.expect("a cookie");
    let new = Pass::read(&written, bench.program.keys).expect("a pass");
    let (id, visitor) = new.record.expect("a record");
    assert_eq!(Some(&URL_SAFE_NO_PAD.encode(visitor)), ids.first());
    // A new record is under the key that signs, whichever the visitor's ID came under.
    assert_eq!(id, KEYS[0].0);
    assert_eq!(new.click_is_due, plain.click == 1);
    assert!(!new.fills_only || pass.fills_only);
    match new.carried {
        None => assert!(!is_down, "nobody has it now"),
        Some(carried) => {
            assert!(is_down, "the server has it");
            assert_eq!((carried.key, carried.click_id), (plain.key, plain.click_id));
            assert_eq!(
                (carried.captured_at, carried.window),
                (plain.captured_at, plain.window)
            );
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else {
        return;
    };
    let bench = &*BENCH;
    let is_down = choice & 1 != 0;
    IS_DOWN.store(is_down, Ordering::Relaxed);
    let id = KEYS[usize::from(choice & 2 != 0)].0;
    let envelopes = &bench.program.envelopes;
    let value = match choice / 4 % 8 {
        0 => envelopes.seal(id, rest).into_bytes(),
        1 => {
            let (head, changes) = rest.split_at(rest.len().min(12));
            let valid = envelopes.seal(id, &assembled(bench, head));
            let value = script::changed(&valid, changes);
            assert!(envelopes.open(&value).is_err() || value == valid.as_bytes());
            value
        }
        _ => envelopes.seal(id, &assembled(bench, rest)).into_bytes(),
    };
    if let Some(response) = send(bench, &value) {
        check(bench, &response, &value, is_down);
    }
});
