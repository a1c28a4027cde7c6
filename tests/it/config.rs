//! A configuration that can't work is refused when it is built, with a text that names the cause
//! and the fix; and nothing else panics.

use std::process::Command;

use crate::common::{DAY, Shop, keyring, page_visit, secret, signing_key};
use std::time::Duration;
use time::OffsetDateTime;
use tower_referral::carry::{Carry, CarryBuilder};
use tower_referral::{
    Attribution, ConfigError, Keyring, KeyringError, Program, ReferralLayer, ReferralLayerBuilder,
    SignedCookie, SigningKey, Verdict,
};

fn build(
    configure: impl FnOnce(ReferralLayerBuilder) -> ReferralLayerBuilder,
) -> Result<ReferralLayer, ConfigError> {
    configure(ReferralLayer::builder(SignedCookie::new(keyring()))).build()
}

fn refused(result: Result<ReferralLayer, ConfigError>) -> String {
    let error = result.err().map(|error| {
        let _: &dyn std::error::Error = &error;
        // What `unwrap` shows, and a `main` that returns the error.
        assert_eq!(format!("{error:?}"), error.to_string());
        error.to_string()
    });
    error.unwrap_or_else(|| "taken".to_owned())
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` isn't in: {text}");
    }
}

fn program(name: &str) -> Program {
    Program::new(name).params(["aff"])
}

#[test]
fn program_names() {
    let longest = "n".repeat(32);
    for name in ["a", "A-b_9", "default", &longest] {
        assert!(build(|b| b.program(program(name))).is_ok(), "{name}");
    }
    let too_long = "n".repeat(33);
    for name in ["", "a b", "a.b", "é", "a;b", "a=b", "a\n", &too_long] {
        let text = refused(build(|b| b.program(program(name))));
        assert_says(&text, &["program name", "cookie's name", "1 to 32"]);
    }
    let text = refused(build(|b| {
        b.program(program("same"))
            .program(Program::new("same").params(["ref"]))
    }));
    assert_says(&text, &["`same`", "rename"]);
}

#[test]
fn parameters_and_fallback_cookies() {
    let longest = "p".repeat(32);
    for name in ["a", "_aff.id~x-", "aff[id]", "$aff", "a:b@c!*", &longest] {
        assert!(
            build(|b| b.program(Program::new("p").params([name]))).is_ok(),
            "{name}"
        );
    }
    assert_says(
        &refused(build(|b| b.program(Program::new("p")))),
        &["`p`", ".params("],
    );

    type Set = fn(Program, Vec<String>) -> Program;
    let sets: [(&str, Set); 3] = [
        ("params", |p, names| p.params(names)),
        ("extra_params", |p, names| p.extra_params(names)),
        ("fallback_cookies", |p, names| p.fallback_cookies(names)),
    ];
    let too_long = "p".repeat(33);
    for (set, apply) in sets {
        let with = |names: Vec<String>| build(|b| b.program(apply(program("p"), names)));
        for bad in [
            "", "a b", "a=b", "a&b", "a;b", "a%62", "a+b", "a/b", "é", "a\"", &too_long,
        ] {
            let text = refused(with(vec![bad.to_owned()]));
            assert_says(&text, &["`p`", "can't be the name", "1 to 32"]);
        }
        let text = refused(with(vec!["x".to_owned(), "y".to_owned(), "x".to_owned()]));
        assert_eq!(text, "`x` is named twice: remove one of them", "{set}");
        let names = |count| (0..count).map(|n| format!("n{n}")).collect();
        assert!(with(names(16)).is_ok(), "{set}");
        assert_says(&refused(with(names(17))), &["`p`", "16", "remove"]);
    }
    let text = refused(build(|b| {
        b.program(Program::new("one").params(["aff", "ref"]))
            .program(Program::new("two").params(["via", "ref"]))
    }));
    assert_says(&text, &["`ref`", "twice"]);
}

#[test]
fn windows() {
    for (window, taken) in [
        (Duration::ZERO, false),
        (Duration::MAX, false),
        (Duration::from_millis(999), false),
        (Duration::from_millis(1500), false),
        (Duration::from_nanos(1), false),
        (Duration::from_secs(1), true),
        (DAY * 400, true),
        (DAY * 400 + Duration::from_secs(1), false),
        (DAY * 400 + Duration::from_nanos(1), false),
    ] {
        let result = build(|b| b.program(program("p").window(window)));
        assert_eq!(result.is_ok(), taken, "{window:?}");
        if !taken {
            assert_says(&refused(result), &["`p`", "400 days"]);
        }
    }
}

#[test]
fn cookie_names_and_domains() {
    let keep = |cookie: SignedCookie| ReferralLayer::builder(cookie).build();
    let cookie = || SignedCookie::new(keyring());
    let longest = "n".repeat(24);
    for name in [
        "a",
        "a-b_c.D9",
        "__Host-a",
        &longest,
        &format!("__Host-{longest}"),
    ] {
        assert!(keep(cookie().name(name)).is_ok(), "{name}");
    }
    let too_long = "n".repeat(25);
    for name in [
        "",
        "__Host-",
        "__host-a",
        "__Secure-a",
        "__SECURE-a",
        "__Host-__Host-a",
        "a b",
        "a=b",
        "a;b",
        "é",
        "\"a\"",
        "a\0",
        &too_long,
    ] {
        let text = refused(keep(cookie().name(name)));
        assert_says(&text, &["cookie's name", "1 to 24", "prefix"]);
    }
    for name in ["__Host-a", "__Secure-a"] {
        let text = refused(keep(cookie().plain_http().name(name)));
        assert_says(&text, &["cookie's name"]);
    }
    for name in ["__Host-a", "__HOST-a"] {
        let text = refused(keep(cookie().name(name).domain("example.com")));
        assert_says(&text, &[name, "example.com", "__Secure-"]);
    }
    let long_label = format!("{}.example", "d".repeat(64));
    let long = format!("{}example", "d.".repeat(124));
    for domain in [
        "",
        ".example.com",
        "example.com.",
        "example..com",
        "-a.com",
        "a-.com",
        "https://example.com",
        "example.com:443",
        "example.com/",
        "a b.com",
        "a;b",
        "exämple.com",
        "a_b.com",
        "a\n.com",
        &long_label,
        &long,
    ] {
        let text = refused(keep(cookie().domain(domain)));
        assert_says(&text, &["cookie's domain", "example.com"]);
    }
    for domain in ["example.com", "a-1.b.example", "localhost", "EXAMPLE.com"] {
        assert!(keep(cookie().domain(domain)).is_ok(), "{domain}");
    }
}

#[test]
fn stand_down_paths() {
    for path in [
        "",
        "checkout",
        "https://shop.example/checkout",
        " /checkout",
    ] {
        let text = refused(build(|b| b.stand_down("/ok").stand_down(path)));
        assert_says(&text, &["stand-down", "slash"]);
    }
    assert!(build(|b| b.stand_down("/").stand_down("/a/b/")).is_ok());
}

#[test]
fn carry_tokens() {
    type Configure = fn(CarryBuilder) -> CarryBuilder;
    let bad: [(&str, Configure); 6] = [
        ("no purpose", |b| b.purpose("")),
        ("a long purpose", |b| b.purpose("p".repeat(65))),
        ("a long audience", |b| b.audience("a".repeat(254))),
        ("no ttl", |b| b.ttl(Duration::ZERO)),
        ("a long ttl", |b| b.ttl(DAY * 401)),
        ("half a second", |b| b.ttl(Duration::from_millis(1500))),
    ];
    for (case, configure) in bad {
        let error = configure(Carry::builder(keyring())).build().unwrap_err();
        assert_eq!(error, ConfigError::InvalidCarry, "{case}");
        assert_says(
            &error.to_string(),
            &["purpose", "audience", "`ttl`", "400 days"],
        );
    }
    let good = Carry::builder(keyring())
        .purpose("p".repeat(64))
        .audience("a".repeat(253))
        .ttl(DAY * 400)
        .max_len(0);
    assert!(good.build().is_ok());
}

/// Standard base64 with padding, as `openssl rand -base64 32` prints it.
fn base64_of(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0))
        });
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= chunk.len() {
                char::from(ALPHABET[six])
            } else {
                '='
            });
        }
    }
    text
}

#[test]
fn signing_keys() {
    let long_id = "i".repeat(17);
    for id in ["", "a b", "a.b", "é", "a:b", &long_id] {
        let error = SigningKey::new(id, secret(0)).unwrap_err();
        assert_eq!(error, KeyringError::InvalidId, "{id}");
        assert_says(&error.to_string(), &["1 to 16", "name the key"]);
    }
    for len in [0, 1, 31] {
        let error = SigningKey::new("k", &secret(0)[..len]).unwrap_err();
        assert_says(
            &error.to_string(),
            &["`k`", &format!("{len} bytes"), "openssl"],
        );
    }
    for byte in [0, b'x', 255] {
        let error = SigningKey::new("k", [byte; 64]).unwrap_err();
        assert_says(&error.to_string(), &["`k`", "repeats", "openssl"]);
    }
    assert_eq!(
        SigningKey::new("i".repeat(16), secret(0))
            .unwrap()
            .id()
            .len(),
        16
    );
    assert!(SigningKey::new("k", vec![7; 99].into_iter().chain([8]).collect::<Vec<_>>()).is_ok());
    let generated = SigningKey::generate("local").unwrap();
    assert_eq!(generated.id(), "local");
    assert!(SigningKey::generate("no good").is_err());
}

#[test]
fn written_signing_keys() {
    let secret: Vec<u8> = (0..32).map(|n| 255 - n * 3).collect();
    let standard = base64_of(&secret);
    let url_safe = standard.replace('+', "-").replace('/', "_");
    assert_ne!(standard, url_safe);
    let line = Keyring::new(SigningKey::new("k", &secret).unwrap());
    let value = Shop::keeping(SignedCookie::new(line), |b| b).sealed("/?aff=K");
    for text in [
        format!("k:{standard}"),
        format!("k:{url_safe}"),
        format!("k:{}", standard.trim_end_matches('=')),
        format!(" k:{standard}\n"),
    ] {
        let key: SigningKey = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let shop = Shop::keeping(SignedCookie::new(Keyring::new(key)), |b| b);
        assert_eq!(shop.sealed("/?aff=K"), value, "{text}: the same secret");
    }
    for (text, words) in [
        (standard.clone(), ["ID:BASE64", "colon"]),
        (String::new(), ["ID:BASE64", "colon"]),
        (format!("k:{standard}!"), ["not base64", "openssl"]),
        (format!("k:{}", &standard[..41]), ["not base64", "openssl"]),
        ("k:".to_owned(), ["0 bytes", "openssl"]),
        (format!("k:{}", &standard[..40]), ["30 bytes", "openssl"]),
        (format!(":{standard}"), ["1 to 16", "name the key"]),
        (format!("k x:{standard}"), ["1 to 16", "name the key"]),
        (
            format!("k:{}", base64_of(&[b'x'; 32])),
            ["repeats", "openssl"],
        ),
    ] {
        let error = text.parse::<SigningKey>().unwrap_err();
        assert_says(&error.to_string(), &words);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(
                !shown.contains(&standard[..20]),
                "no message shows a secret: {shown}"
            );
        }
    }
}

#[test]
fn keyrings() {
    let ring = || {
        Keyring::new(signing_key("a", 1))
            .verify_with(signing_key("b", 2))
            .unwrap()
    };
    for id in ["a", "b"] {
        let error = ring().verify_with(signing_key(id, 9)).unwrap_err();
        assert_says(&error.to_string(), &[&format!("`{id}`"), "rename"]);
    }
    for (first, id) in [(1, "a"), (2, "b")] {
        let error = ring().verify_with(signing_key("c", first)).unwrap_err();
        assert_says(
            &error.to_string(),
            &[&format!("`{id}`"), "`c`", "sign alike", "openssl"],
        );
    }
    assert_eq!(ring().signing_key().id(), "a");
    assert_says(
        &KeyringError::NoRandomness.to_string(),
        &["random", "REFERRAL_KEY"],
    );
    let debug = format!("{:?} {:?}", ring(), ring().signing_key());
    assert_says(&debug, &["\"a\"", "\"b\""]);
    assert!(!debug.contains(", 2, 3"), "no secret: {debug}");
    assert!(!debug.contains("secret"), "no secret: {debug}");
}

/// Says what the environment gives; run by the test below in a process of its own, because only
/// there can it have an environment of its own.
#[test]
fn keyring_of_this_environment() {
    if std::env::var_os("SAY_KEYRING").is_some() {
        match Keyring::from_env() {
            Ok(keyring) => println!("<{keyring:?}>"),
            // As a `main` that returns it does.
            Err(error) => println!("<{error:?}>"),
        }
    }
}

#[test]
fn a_keyring_from_the_environment() {
    let [a, b, c] = [1, 2, 3].map(|first| base64_of(&secret(first)));
    let key = |id: &str, secret: &str| format!("{id}:{secret}");
    let (a, b, c) = (key("a", &a), key("b", &b), key("c", &c));
    let ask = |signing: Option<&str>, old: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "config::keyring_of_this_environment",
            "--nocapture",
        ]);
        command.env("SAY_KEYRING", "1");
        for (name, value) in [("REFERRAL_KEY", signing), ("REFERRAL_OLD_KEYS", old)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let said = output
            .split_once('<')
            .unwrap()
            .1
            .rsplit_once('>')
            .unwrap()
            .0;
        said.to_owned()
    };
    let two = format!("{b},{c}");
    let spaced = format!(" {b} , ,{c},");
    let twice = format!("{b},{b}");
    let short = "b:AAAA".to_owned();
    // (signing, old, what is said)
    let cases: &[(Option<&str>, Option<&str>, &[&str])] = &[
        (Some(&a), None, &["signing: \"a\"", "old: []"]),
        (Some(&a), Some(""), &["old: []"]),
        (
            Some(&a),
            Some(&two),
            &["signing: \"a\"", "old: [\"b\", \"c\"]"],
        ),
        (Some(&a), Some(&spaced), &["old: [\"b\", \"c\"]"]),
        (
            None,
            None,
            &["REFERRAL_KEY is not set", "openssl rand -base64 32"],
        ),
        (None, Some(&b), &["REFERRAL_KEY is not set"]),
        (Some(""), None, &["REFERRAL_KEY: ", "ID:BASE64"]),
        (Some("a:AAAA"), None, &["REFERRAL_KEY: ", "3 bytes"]),
        (Some(&a), Some(&short), &["REFERRAL_OLD_KEYS: ", "3 bytes"]),
        (
            Some(&a),
            Some(&a),
            &["REFERRAL_OLD_KEYS: ", "`a`", "rename"],
        ),
        (
            Some(&a),
            Some(&twice),
            &["REFERRAL_OLD_KEYS: ", "`b`", "rename"],
        ),
        (Some(&a), Some("nocolon"), &["REFERRAL_OLD_KEYS: ", "colon"]),
    ];
    for (signing, old, words) in cases {
        let said = ask(*signing, *old);
        assert_says(&said, words);
        for key in [&a, &b, &c] {
            assert!(!said.contains(&key[2..]), "no secret: {said}");
        }
    }
}

#[test]
fn debug_says_what_was_chosen() {
    assert_eq!(format!("{:?}", Attribution::FirstTouch), "FirstTouch");
    assert_eq!(format!("{:?}", Attribution::LastTouch), "LastTouch");
    let own = Attribution::rule(|_, _| Verdict::Keep("mine"));
    assert_eq!(format!("{own:?}"), "Rule(..)");
    let Attribution::Rule(rule) = own else {
        panic!("a rule of one's own");
    };
    assert_eq!(format!("{rule:?}"), "Rule(..)");
}

#[test]
fn a_clock_out_of_its_mind_breaks_nothing() {
    for now in [
        OffsetDateTime::UNIX_EPOCH,
        OffsetDateTime::UNIX_EPOCH - DAY,
        time::PrimitiveDateTime::MIN.assume_utc(),
        time::PrimitiveDateTime::MAX.assume_utc(),
    ] {
        let longest = program("default").window(DAY * 400);
        let shop = Shop::with(|b| b.program(longest).clock(move || now));
        let mut visitor = shop.visitor();
        let page = visitor.visit("/?aff=K");
        assert_eq!(page.key(), Some("K"), "{now}");
        let referral = page.referral().unwrap();
        assert_eq!(
            referral.expires_at() - referral.captured_at(),
            time::Duration::days(400),
            "{now}"
        );
        let carry = Carry::builder(keyring())
            .ttl(DAY * 400)
            .clock(move || now)
            .build()
            .unwrap();
        let token = referral.carry_token(&carry).unwrap();
        assert_eq!(carry.open(token.as_str()).as_ref(), Ok(referral), "{now}");
        assert_eq!(visitor.visit("/").key(), Some("K"), "{now}");
    }
    // Without a clock of its own the layer goes by the system's.
    let layer = build(|b| b).unwrap();
    let mut shop = Shop::new();
    shop.layer = layer;
    let page = shop.send(page_visit("/?aff=K"));
    let age = OffsetDateTime::now_utc() - page.referral().unwrap().captured_at();
    assert!(age < time::Duration::minutes(1), "{age}");
}

#[test]
fn the_worst_configuration_that_is_taken_works() {
    let many: Vec<_> = (0..60)
        .map(|n| Program::new(format!("{n:-<32}")).params([format!("{n:p<32}")]))
        .collect();
    let cookie = SignedCookie::new(Keyring::new(signing_key("sixteen-letters-", 0)))
        .name("n".repeat(24))
        .domain(
            [&*"d".repeat(63); 4]
                .join(".")
                .chars()
                .take(253)
                .collect::<String>(),
        );
    let shop = Shop::keeping(cookie, |builder| {
        many.into_iter()
            .fold(builder, ReferralLayerBuilder::program)
    });
    let query: Vec<_> = (0..60)
        .map(|n| format!("{n:p<32}={}", "K".repeat(128)))
        .collect();
    // 60 names and keys are over 8 KiB, and their cookies over 4 KiB: what fits is captured.
    let mut visitor = shop.visitor();
    let page = visitor.visit(&format!("/?{}", query.join("&")));
    let pairs = page.set_cookies().into_iter();
    let pairs = pairs.map(|line| line.split(';').next().unwrap().len());
    let (count, len) = pairs.fold((0, 0), |(count, len), pair| (count + 1, len + pair));
    assert!(count >= 10 && len <= 4096, "{count} cookies, {len} bytes");
    assert_eq!(visitor.visit("/").seen.iter().count(), count);
}
