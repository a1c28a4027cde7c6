//! Carry tokens: a referral where no cookie goes.

use crate::common::{
    COOKIE_NAME, Clock, DAY, MILLISECOND, SECOND, Shop, keyring, page_visit, signing_key,
    with_cookie_line,
};
use tower_referral::carry::{Carry, CarryBuilder, CarryError};
use tower_referral::{KeyRule, Keyring, Program, Referral};

fn builder(clock: &Clock) -> CarryBuilder {
    Carry::builder(keyring()).clock(clock.reader())
}

fn carry(clock: &Clock) -> Carry {
    builder(clock).build().unwrap()
}

fn landed(shop: &Shop, uri: &str) -> Referral {
    shop.send(page_visit(uri)).referral().unwrap().clone()
}

#[test]
fn a_token_brings_back_everything_that_fits() {
    let program = Program::new("partners")
        .params(["via"])
        .extra_params(["sub"]);
    let shop = Shop::program(program.window(DAY * 7));
    let referral = landed(&shop, "/p?via=K&sub=7");
    let carry = carry(&shop.clock);
    let token = referral.carry_token(&carry).unwrap();
    let back = carry.open(token.as_str()).unwrap();
    assert_eq!(back, referral);
    assert_eq!(back.program(), "partners", "a token names its program");
    assert_eq!(
        referral.carry_token(&carry).unwrap(),
        token,
        "the same again"
    );
    assert_eq!(token.to_string(), token.as_str());
    assert!(!format!("{token:?}").contains(token.as_str()));
}

#[test]
fn a_token_is_one_run_of_letters_digits_hyphen_and_underscore_in_200_characters() {
    let shop = Shop::program(
        Program::new("p".repeat(32))
            .params(["parameter_of_thirty_two_letters_"])
            .extra_params(["a", "b"])
            .key_rule(KeyRule::printable_unicode()),
    );
    let carry = carry(&shop.clock);
    for key_len in 1..=60 {
        let uri = format!(
            "/{}?parameter_of_thirty_two_letters_={}&a={}&b=2",
            "p".repeat(250),
            "K".repeat(key_len),
            "v".repeat(128)
        );
        let referral = landed(&shop, &uri);
        let token = match referral.carry_token(&carry) {
            Ok(token) => token,
            Err(error) => {
                assert!(key_len > 30, "{key_len}: {error}");
                continue;
            }
        };
        assert!(
            token.as_str().len() <= 200,
            "{key_len}: {}",
            token.as_str().len()
        );
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        assert!(token.as_str().bytes().all(is_plain), "{key_len}");
        assert_eq!(carry.open(token.as_str()).unwrap().key(), referral.key());
    }
}

#[test]
fn names_of_90_bytes_together_fit_and_91_do_not() {
    for (key_id, program) in [
        ("k", "p"),
        ("2026-11", "default"),
        ("sixteen-letters-", "partners"),
    ] {
        let shop = Shop::program(Program::new(program).params(["aff"]));
        let carry = Carry::builder(Keyring::new(signing_key(key_id, 0)))
            .clock(shop.clock.reader())
            .build()
            .unwrap();
        let room = 90 - key_id.len() - program.len();
        for (len, fits) in [(room, true), (room + 1, false)] {
            let referral = landed(&shop, &format!("/p?aff={}", "K".repeat(len)));
            let token = referral.carry_token(&carry);
            assert_eq!(token.is_ok(), fits, "{key_id}, {program}, {len}");
        }
    }
}

#[test]
fn what_does_not_fit_is_left_out_least_important_first_and_never_the_key() {
    let shop = Shop::program(Program::default().extra_params(["a", "b"]));
    let referral = landed(&shop, "/landing/page?aff=PARTNER&a=11111111&b=22222222");
    let describe = |referral: &Referral| {
        let extra: Vec<_> = referral.extra().map(|(name, _)| name).collect();
        format!(
            "{}{}{}",
            extra.concat(),
            if referral.landing_page().is_some() {
                " page"
            } else {
                ""
            },
            if referral.parameter().is_some() {
                " parameter"
            } else {
                ""
            }
        )
    };
    let mut seen = Vec::new();
    for max_len in (1..=200).rev() {
        let carry = builder(&shop.clock).max_len(max_len).build().unwrap();
        match referral.carry_token(&carry) {
            Ok(token) => {
                assert!(token.as_str().len() <= max_len, "{max_len}");
                let back = carry.open(token.as_str()).unwrap();
                assert_eq!(
                    (back.key(), back.captured_at()),
                    (referral.key(), referral.captured_at())
                );
                let left = describe(&back);
                if seen.last() != Some(&left) {
                    seen.push(left);
                }
            }
            Err(CarryError::TooLong { len, max_len: max }) => {
                assert!(len > max && max == max_len, "{max_len}: {len} > {max}");
                if seen.last().map(String::as_str) != Some("error") {
                    seen.push("error".to_owned());
                }
            }
            Err(error) => panic!("{max_len}: {error}"),
        }
    }
    assert_eq!(
        seen,
        [
            "ab page parameter",
            "a page parameter",
            " page parameter",
            " parameter",
            "",
            "error"
        ]
    );

    let long = landed(&shop, &format!("/?aff={}", "K".repeat(128)));
    let error = long.carry_token(&carry(&shop.clock)).unwrap_err();
    assert!(error.to_string().contains("max_len"), "{error}");
    let roomy = builder(&shop.clock).max_len(500).build().unwrap();
    assert!(long.carry_token(&roomy).is_ok());
    let roomier = builder(&shop.clock).max_len(usize::MAX).build().unwrap();
    let token = long.carry_token(&roomier).unwrap();
    assert!(token.as_str().len() <= 1067);
}

#[test]
fn without_a_bound_of_ones_own_a_token_has_768_bytes_and_opens() {
    let names = ["a", "b", "c", "d"];
    let shop = Shop::program(Program::default().extra_params(names));
    let carry = builder(&shop.clock).max_len(usize::MAX).build().unwrap();
    let path = "p".repeat(254);
    let extra = names.map(|name| format!("&{name}={}", "v".repeat(100)));
    let mut longest = 0;
    for key_len in 1..=128 {
        let key = "K".repeat(key_len);
        let referral = landed(&shop, &format!("/{path}?aff={key}{}", extra.concat()));
        let token = referral.carry_token(&carry).unwrap();
        let back = carry.open(token.as_str()).unwrap();
        assert_eq!(back.key(), referral.key(), "{key_len}");
        assert_eq!(back.landing_page(), referral.landing_page(), "{key_len}");
        longest = longest.max(token.as_str().len());
    }
    // 768 bytes and the tag in base64url.
    assert_eq!(longest, (768 + 32) * 4 / 3 + 1);
}

#[test]
fn a_token_opens_for_its_own_purpose_and_audience_only() {
    let clock = Clock::new();
    let shop = Shop::new();
    let referral = landed(&shop, "/?aff=K");
    let of = |purpose: &str, audience: &str| {
        builder(&clock)
            .purpose(purpose)
            .audience(audience)
            .build()
            .unwrap()
    };
    let ends = [
        ("payment", "shop.example"),
        ("payment", "other.example"),
        ("payment", ""),
        ("oauth", "shop.example"),
        ("payments", "hop.example"),
        ("paymen", "tshop.example"),
        ("payment\0shop", ".example"),
        ("carry", ""),
        ("cookie", COOKIE_NAME),
        ("carry:payment", "shop.example"),
    ];
    for (purpose, audience) in ends {
        let token = referral.carry_token(&of(purpose, audience)).unwrap();
        for (other_purpose, other_audience) in ends {
            let opened = of(other_purpose, other_audience).open(token.as_str());
            let expected = if (purpose, audience) == (other_purpose, other_audience) {
                Ok(referral.clone())
            } else {
                Err(CarryError::BadSignature)
            };
            assert_eq!(
                opened, expected,
                "{purpose} {audience}, {other_purpose} {other_audience}"
            );
        }
    }
}

#[test]
fn tokens_are_no_cookies_and_cookies_no_tokens() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K");
    for (purpose, audience) in [
        ("carry", ""),
        ("cookie", COOKIE_NAME),
        ("carry", COOKIE_NAME),
    ] {
        let carry = builder(&shop.clock)
            .purpose(purpose)
            .audience(audience)
            .build()
            .unwrap();
        assert_eq!(
            carry.open(&value),
            Err(CarryError::BadSignature),
            "{purpose} {audience}"
        );
        let token = landed(&shop, "/?aff=K").carry_token(&carry).unwrap();
        let page = shop.send(with_cookie_line("/", format!("{COOKIE_NAME}={token}")));
        assert_eq!(page.key(), None, "{purpose} {audience}");
    }
}

#[test]
fn a_token_has_a_ttl_of_its_own() {
    let clock = Clock::new();
    let shop = Shop::program(Program::default().window(SECOND));
    let referral = landed(&shop, "/?aff=K");
    for ttl in [SECOND, DAY * 30, DAY * 400] {
        let clock = Clock::new();
        let carry = builder(&clock).ttl(ttl).build().unwrap();
        let token = referral.carry_token(&carry).unwrap();
        clock.pass(ttl - MILLISECOND);
        let back = carry.open(token.as_str()).expect("the last millisecond");
        assert_eq!(
            back, referral,
            "the referral's own window is another matter"
        );
        clock.pass(MILLISECOND);
        assert_eq!(
            carry.open(token.as_str()),
            Err(CarryError::Expired),
            "{ttl:?}"
        );
    }
    // The ttl is sealed in: a reader with another one doesn't change it.
    let token = referral
        .carry_token(&builder(&clock).ttl(SECOND).build().unwrap())
        .unwrap();
    clock.pass(SECOND);
    let patient = builder(&clock).ttl(DAY * 400).build().unwrap();
    assert_eq!(patient.open(token.as_str()), Err(CarryError::Expired));
    let default = Carry::builder(keyring())
        .clock(clock.reader())
        .build()
        .unwrap();
    let token = referral.carry_token(&default).unwrap();
    clock.pass(DAY * 30);
    assert_eq!(
        default.open(token.as_str()),
        Err(CarryError::Expired),
        "30 days by default"
    );
}

#[test]
fn a_keyring_rotates_without_losing_a_token() {
    let shop = Shop::new();
    let referral = landed(&shop, "/?aff=K");
    let of = |keyring| {
        Carry::builder(keyring)
            .clock(shop.clock.reader())
            .build()
            .unwrap()
    };
    let (old, new) = (signing_key("old", 1), signing_key("new", 2));
    let before = of(Keyring::new(old.clone()));
    let during = of(Keyring::new(new.clone()).verify_with(old).unwrap());
    let after = of(Keyring::new(new));
    let token = referral.carry_token(&before).unwrap();
    assert_eq!(during.open(token.as_str()), Ok(referral.clone()));
    assert_eq!(
        after.open(token.as_str()),
        Err(CarryError::UnknownSigningKey)
    );
    let token = referral.carry_token(&during).unwrap();
    assert_eq!(
        after.open(token.as_str()),
        Ok(referral),
        "the signing key signs"
    );
    let impostor = of(Keyring::new(signing_key("new", 9)));
    assert_eq!(impostor.open(token.as_str()), Err(CarryError::BadSignature));
}

#[test]
fn anything_else_is_no_token() {
    let shop = Shop::new();
    let carry = carry(&shop.clock);
    let token = landed(&shop, "/?aff=K")
        .carry_token(&carry)
        .unwrap()
        .to_string();
    for text in [
        String::new(),
        " ".to_owned(),
        "x".to_owned(),
        "é".to_owned(),
        "A".repeat(43),
        "A".repeat(100),
        "A".repeat(10_000),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}="),
        format!("{token}A"),
        format!("\"{token}\""),
        token[1..].to_owned(),
        token[..token.len() - 1].to_owned(),
        token.to_uppercase(),
        token.to_lowercase(),
        format!("{token}{token}"),
    ] {
        assert!(carry.open(&text).is_err(), "{text:?}");
    }
    for at in 0..token.len() {
        for byte in ['A', 'B', 'z', '-', '_', '+', '=', '.'] {
            let mut forged: Vec<char> = token.chars().collect();
            if forged[at] != byte {
                forged[at] = byte;
                let forged: String = forged.into_iter().collect();
                assert!(carry.open(&forged).is_err(), "{at}: {byte}");
            }
        }
    }
    assert!(carry.open(&token).is_ok());
}

#[test]
fn every_error_says_what_to_do() {
    for (error, word) in [
        (
            CarryError::TooLong {
                len: 300,
                max_len: 200,
            },
            "max_len",
        ),
        (CarryError::Malformed, "unaltered"),
        (CarryError::UnknownSigningKey, "keyring"),
        (CarryError::BadSignature, "purpose"),
        (CarryError::Expired, "ttl"),
    ] {
        assert!(error.to_string().contains(word), "{error}");
        let _: &dyn std::error::Error = &error;
    }
}
