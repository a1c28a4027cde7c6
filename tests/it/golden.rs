//! The wire format, pinned: referrals that are out there in cookies and tokens must open for as
//! long as their windows last, whatever becomes of this crate. The vectors are recomputed by an
//! independent implementation, `golden/vectors.py`, which reads them back as well.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Shop, page_visit, with_cookie_line};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use serde::Deserialize;
use std::time::Duration;
use time::OffsetDateTime;
#[cfg(feature = "tower-sessions-0_15")]
use tower::{Layer as _, Service as _};
use tower_referral::carry::{Carry, CarryError};
use tower_referral::{Capture, KeyRule, Keyring, Program, Referral, SignedCookie, SigningKey};

#[derive(Deserialize)]
struct Vectors {
    valid: Vec<Vector>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    kind: String,
    signing_key: Key,
    cookie_name: String,
    domain: String,
    max_len: usize,
    purpose: String,
    audience: String,
    sealed_at_ms: i64,
    ttl_s: u64,
    /// What was to be sealed.
    referral: Plain,
    /// What is in it, once something had to go.
    kept: Plain,
    sealed: String,
    /// What a cookie holds where referrals are kept on the server.
    #[cfg(feature = "tower-sessions-0_15")]
    record: Option<Record>,
    /// The record's ID at the server, as a number, and its text.
    #[cfg(feature = "tower-sessions-0_15")]
    record_id: Option<String>,
    #[cfg(feature = "tower-sessions-0_15")]
    record_text: Option<String>,
    /// All of `referral` as a token for the purpose `whole`.
    whole: String,
}

#[derive(Deserialize)]
struct Invalid {
    name: String,
    group: String,
    signing_key: Key,
    cookie_name: String,
    sealed: String,
}

#[cfg(feature = "tower-sessions-0_15")]
#[derive(Deserialize)]
struct Record {
    visitor_hex: String,
    carries: bool,
}

#[derive(Deserialize)]
struct Key {
    id: String,
    secret_hex: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Plain {
    program: String,
    key: Option<String>,
    click_id: Option<String>,
    partner_id: Option<String>,
    source: String,
    /// The name of the touch, in hexadecimal.
    touch: Option<String>,
    captured_at_ms: i64,
    window_s: u64,
    parameter: Option<String>,
    landing_path: Option<String>,
    extra: Vec<(String, String)>,
}

impl Plain {
    /// What the public API tells of a referral. The landing page is told only together with its
    /// parameter.
    fn of(referral: &Referral) -> Self {
        let captured_at = referral.captured_at() - OffsetDateTime::UNIX_EPOCH;
        let page = referral.landing_page();
        Self {
            program: referral.program().to_owned(),
            key: referral.key().map(ToString::to_string),
            click_id: referral.click_id().map(ToString::to_string),
            partner_id: referral.partner_id().map(ToString::to_string),
            source: referral.source().as_str().to_owned(),
            touch: referral.click_reference().map(|text| {
                let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
                bytes.iter().map(|byte| format!("{byte:02x}")).collect()
            }),
            captured_at_ms: captured_at.whole_milliseconds().try_into().unwrap(),
            window_s: referral.window().as_secs(),
            parameter: referral.parameter().map(str::to_owned),
            landing_path: page.map(|page| page.split('?').next().unwrap().to_owned()),
            extra: referral
                .extra()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..][..2], 16).unwrap())
        .collect()
}

impl Key {
    fn signing(&self) -> SigningKey {
        SigningKey::new(&self.id, unhex(&self.secret_hex)).unwrap()
    }

    fn keyring(&self) -> Keyring {
        Keyring::new(self.signing())
    }

    /// A keyring that signs with another key by now.
    fn rotated(&self) -> Keyring {
        let newer = SigningKey::new("newer", crate::common::secret(200)).unwrap();
        Keyring::new(newer).verify_with(self.signing()).unwrap()
    }
}

impl Vector {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(self.sealed_at_ms)
    }

    fn program(&self) -> Program {
        let parameter = self.referral.parameter.clone().unwrap_or("aff".into());
        let program = Program::new(self.referral.program.as_str())
            .window(Duration::from_secs(self.referral.window_s))
            .key_rule(KeyRule::printable_unicode())
            .extra_params(self.referral.extra.iter().map(|(name, _)| name.as_str()));
        if self.referral.source == "script" {
            program.params(["aff"]).fallback_cookies([parameter])
        } else if self.referral.key.is_none() {
            program.click_params([parameter])
        } else {
            program.params([parameter])
        }
    }

    fn cookie(&self, keyring: Keyring) -> SignedCookie {
        let cookie = SignedCookie::new(keyring);
        match (self.domain.as_str(), self.cookie_name.starts_with("__")) {
            ("", true) => cookie,
            ("", false) => cookie.plain_http(),
            (domain, _) => cookie.domain(domain),
        }
    }

    fn shop(&self, keyring: Keyring) -> Shop {
        let now = self.now();
        Shop::keeping(self.cookie(keyring), |builder| {
            builder.program(self.program()).clock(move || now)
        })
    }

    fn carry(&self, keyring: Keyring) -> Carry {
        let now = self.now();
        Carry::builder(keyring)
            .purpose(self.purpose.as_str())
            .audience(self.audience.as_str())
            .ttl(Duration::from_secs(self.ttl_s))
            .max_len(self.max_len)
            .clock(move || now)
            .build()
            .unwrap()
    }

    /// The referral that is to be sealed, click ID and all.
    fn whole(&self) -> Referral {
        let now = self.now();
        let carry = Carry::builder(self.signing_key.keyring())
            .purpose("whole")
            .clock(move || now)
            .build()
            .unwrap();
        carry
            .open(&self.whole)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../golden/vectors.json")).unwrap()
}

#[test]
fn the_whole_referral_is_read_with_its_click_id() {
    for vector in vectors().valid {
        let whole = vector.whole();
        assert_eq!(Plain::of(&whole), vector.referral, "{}", vector.name);
        let debug = format!("{whole:?} {:?}", whole.click_id());
        for hidden in [
            &vector.referral.key,
            &vector.referral.click_id,
            &vector.referral.partner_id,
        ] {
            if let Some(text) = hidden.as_ref().filter(|text| text.len() > 8) {
                assert!(!debug.contains(text.as_str()), "{}: {debug}", vector.name);
            }
        }
    }
}

#[test]
fn cookies_are_read_and_written_to_the_byte() {
    let mut count = 0;
    for vector in vectors()
        .valid
        .iter()
        .filter(|vector| vector.kind == "cookie")
    {
        let name = &vector.name;
        let line = format!("{}={}", vector.cookie_name, vector.sealed);
        for keyring in [vector.signing_key.keyring(), vector.signing_key.rotated()] {
            let page = vector.shop(keyring).send(with_cookie_line("/", &line));
            let reasons = crate::common::reasons(page.seen.decisions());
            let referral = page
                .referral()
                .unwrap_or_else(|| panic!("{name}: {reasons:?}"));
            assert_eq!(Plain::of(referral), vector.kept, "{name}");
        }

        let whole = vector.whole();
        let shop = vector
            .shop(vector.signing_key.keyring())
            .answering(move |_| {
                let mut response = Response::new(String::new());
                response
                    .extensions_mut()
                    .insert(Capture::referral(whole.clone()));
                response
            });
        let page = shop.send(page_visit("/"));
        let written = page.set_cookies();
        assert_eq!(written.len(), 1, "{name}: {:?}", page.reasons());
        let pair = written[0].split(';').next().unwrap();
        assert_eq!(pair, line, "{name}");
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[test]
fn what_a_request_captures_is_written_to_the_byte() {
    let mut count = 0;
    for vector in vectors()
        .valid
        .iter()
        .filter(|vector| vector.kind == "cookie")
    {
        let plain = &vector.referral;
        let is_made_elsewhere = ["click", "partner ID", "own"]
            .iter()
            .any(|word| vector.name.contains(word) && !vector.name.contains("program"));
        if is_made_elsewhere || plain.captured_at_ms != vector.sealed_at_ms {
            continue;
        }
        let encode =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let key = encode(plain.key.as_ref().unwrap());
        let (capture, request) = match plain.source.as_str() {
            "landing" => {
                let extra: String = plain
                    .extra
                    .iter()
                    .map(|(name, value)| format!("&{name}={}", encode(value)))
                    .collect();
                let (path, parameter) = (&plain.landing_path, &plain.parameter);
                let (path, parameter) = (path.as_ref().unwrap(), parameter.as_ref().unwrap());
                (
                    None,
                    page_visit(&format!("{path}?{parameter}={key}{extra}")),
                )
            }
            "script" => {
                let line = format!("{}={key}", plain.parameter.as_ref().unwrap());
                (None, with_cookie_line("/", line))
            }
            _ => (
                Some(Capture::key(plain.key.as_ref().unwrap().parse().unwrap())),
                page_visit("/"),
            ),
        };
        let shop = vector
            .shop(vector.signing_key.keyring())
            .answering(move |_| {
                let mut response = Response::new(String::new());
                if let Some(capture) = capture.clone() {
                    response.extensions_mut().insert(capture);
                }
                response
            });
        assert_eq!(
            shop.send(request).kept_value(),
            vector.sealed,
            "{}",
            vector.name
        );
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[test]
fn carry_tokens_are_read_and_written_to_the_byte() {
    let mut count = 0;
    for vector in vectors()
        .valid
        .iter()
        .filter(|vector| vector.kind == "carry")
    {
        let name = &vector.name;
        for keyring in [vector.signing_key.keyring(), vector.signing_key.rotated()] {
            let referral = vector.carry(keyring).open(&vector.sealed);
            let referral = referral.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Plain::of(&referral), vector.kept, "{name}");
        }
        let carry = vector.carry(vector.signing_key.keyring());
        let token = vector.whole().carry_token(&carry);
        let token = token.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(token.as_str(), vector.sealed, "{name}");
        assert!(token.as_str().len() <= vector.max_len, "{name}");
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[test]
fn key_and_click_id_are_never_dropped() {
    for vector in vectors().valid {
        let (whole, kept) = (&vector.referral, &vector.kept);
        assert_eq!(
            (&whole.key, &whole.click_id, &whole.partner_id),
            (&kept.key, &kept.click_id, &kept.partner_id),
            "{}",
            vector.name
        );
        let tight = vector.whole();
        let carry = Carry::builder(vector.signing_key.keyring())
            .max_len(100)
            .build()
            .unwrap();
        if let Err(error) = tight.carry_token(&carry) {
            assert!(
                matches!(error, CarryError::TooLong { .. }),
                "{}: {error}",
                vector.name
            );
        }
    }
}

/// The cookie is read, the record loaded, and both are written again to the byte.
#[cfg(feature = "tower-sessions-0_15")]
#[test]
fn records_on_the_server_are_read_and_written_to_the_byte() {
    use std::collections::HashMap;

    use tower_referral::{ReferralLayer, Referrals, ServerSide};
    use tower_sessions::session::{Id, Record as Stored};
    use tower_sessions::{MemoryStore, SessionStore as _};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut count = 0;
    for vector in vectors().valid {
        let Some(record) = &vector.record else {
            continue;
        };
        let name = &vector.name;
        let id = Id(vector.record_id.as_ref().unwrap().parse().unwrap());
        let text = serde_json::Value::String(vector.record_text.clone().unwrap());
        let line = format!("{}={}", vector.cookie_name, vector.sealed);
        let store = MemoryStore::default();
        let visitor = unhex(&record.visitor_hex);
        let now = vector.now();
        let open = |keyring| {
            let server = ServerSide::new(store.clone(), vector.cookie(keyring))
                .timeout(Duration::from_secs(30))
                .store_expires_records();
            let visitor = visitor.clone();
            let builder = ReferralLayer::builder(server)
                .program(vector.program())
                .clock(move || now)
                .random_source(move |bytes| {
                    bytes.copy_from_slice(&visitor[..bytes.len()]);
                    true
                });
            builder.build().unwrap()
        };
        if !record.carries {
            let stored = Stored {
                id,
                data: HashMap::from([("tower_referral".to_owned(), text.clone())]),
                expiry_date: OffsetDateTime::now_utc() + time::Duration::DAY,
            };
            runtime.block_on(store.save(&stored)).unwrap();
        }
        for keyring in [vector.signing_key.keyring(), vector.signing_key.rotated()] {
            let layer = open(keyring);
            let (send, receive) = std::sync::mpsc::channel();
            let handler = tower::service_fn(move |request: http::Request<String>| {
                let send = send.clone();
                async move {
                    let seen = Referrals::from_extensions(request.extensions()).await;
                    send.send(seen.unwrap()).unwrap();
                    Ok::<_, std::convert::Infallible>(Response::new(()))
                }
            });
            let mut service = layer.layer(handler);
            let request = with_cookie_line("/", &line);
            let Ok(_) = runtime.block_on(service.call(request));
            let seen = receive.recv().unwrap();
            assert_eq!(Plain::of(seen.first().unwrap()), vector.kept, "{name}");
            assert_eq!(seen.visitor_ids().len(), 1, "{name}");
        }
        // What a landing writes, by the same random bytes.
        if name.contains("on the server") {
            runtime.block_on(store.delete(&id)).unwrap();
            let handler = tower::service_fn(async |_: http::Request<String>| {
                Ok::<_, std::convert::Infallible>(Response::new(()))
            });
            let mut service = open(vector.signing_key.keyring()).layer(handler);
            let page = page_visit("/pricing?aff=PARTNER_123");
            let Ok(response) = runtime.block_on(service.call(page));
            let written = response.headers()["set-cookie"].to_str().unwrap();
            assert_eq!(written.split(';').next(), Some(&*line), "{name}");
            let stored = runtime.block_on(store.load(&id)).unwrap().unwrap();
            assert_eq!(stored.data["tower_referral"], text, "{name}");
        }
        count += 1;
    }
    assert_eq!(count, 4);
}

/// What the shop says about an invalid vector: the key that it took, and the reason.
fn taken(vector: &Invalid) -> (Option<String>, Option<&'static str>) {
    let shop = Shop::keeping(SignedCookie::new(vector.signing_key.keyring()), |b| {
        b.clock(|| OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap())
    });
    let line = format!("{}={}", vector.cookie_name, vector.sealed);
    let page = shop.send(with_cookie_line("/", line));
    let reason = page.seen.decisions().last_of(Program::DEFAULT_NAME);
    (
        page.key().map(str::to_owned),
        reason.map(tower_referral::Reason::as_str),
    )
}

#[test]
fn a_true_signature_does_not_make_up_for_broken_rules() {
    let mut count = 0;
    for vector in vectors().invalid {
        let (key, reason) = taken(&vector);
        match vector.group.as_str() {
            "control" => assert_eq!(key.as_deref(), Some("PARTNER_123"), "{reason:?}"),
            "rules" => {
                assert_eq!((key, reason), (None, Some("malformed")), "{}", vector.name);
                count += 1;
            }
            _ => {}
        }
    }
    assert!(count > 20, "{count}");
}

/// "Verify first, parse after, validate what was parsed again": the lesser fields too.
#[test]
fn every_field_is_validated_again() {
    let vectors = vectors().invalid;
    let unruly = vectors
        .iter()
        .filter(|vector| vector.group == "validate again");
    let taken: Vec<_> = unruly
        .filter(|vector| taken(vector).0.is_some())
        .map(|vector| vector.name.as_str())
        .collect();
    assert!(taken.is_empty(), "taken all the same: {taken:#?}");
}

#[test]
fn an_independent_implementation_agrees() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vectors.py");
    let output = Command::new("python3")
        .arg(script)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}{errors}");
            assert!(
                said.ends_with(" vectors, 0 differences\n"),
                "{said}{errors}"
            );
        }
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!(
                "SKIPPED: python3 can't be run, so the golden vectors weren't recomputed: {error}"
            );
        }
        Err(error) => panic!("python3 must recompute the golden vectors in CI: {error}"),
    }
}
