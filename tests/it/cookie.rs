//! The signed cookie: what is written, and what is read back from whatever a browser, another
//! application or an attacker puts into the `Cookie` header.

use crate::common::{
    Browser, COOKIE_NAME, Clock, DAY, MILLISECOND, SECOND, Shop, keyring, page_visit, signing_key,
    with_cookie_line,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HeaderValue};
use std::time::Duration;
use tower_referral::{Attribution, Keyring, Program, SignedCookie};

/// The key that a shop finds in a `Cookie` line, and the reason if it says one.
fn found(shop: &Shop, line: impl AsRef<[u8]>) -> (Option<String>, Option<&'static str>) {
    let page = shop.send(with_cookie_line("/", line));
    assert!(!page.changed(), "reading never writes");
    let reason = page.seen.decisions().last_of(Program::DEFAULT_NAME);
    (
        page.key().map(str::to_owned),
        reason.map(tower_referral::Reason::as_str),
    )
}

#[test]
fn the_cookie_has_exactly_the_attributes_of_its_mode() {
    let cookie = || SignedCookie::new(keyring());
    // (mode, name, attributes)
    let cases = [
        (
            cookie(),
            "__Host-referral",
            "; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=2592000",
        ),
        (
            cookie().domain("example.com"),
            "__Secure-referral",
            "; Path=/; HttpOnly; SameSite=Lax; Secure; Domain=example.com; Max-Age=2592000",
        ),
        (
            cookie().plain_http(),
            "referral",
            "; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000",
        ),
        (
            cookie().plain_http().domain("example.test"),
            "referral",
            "; Path=/; HttpOnly; SameSite=Lax; Domain=example.test; Max-Age=2592000",
        ),
        (
            cookie().name("partner.1_x-Y"),
            "__Host-partner.1_x-Y",
            "; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=2592000",
        ),
        (
            cookie().name("__Host-shop"),
            "__Host-shop",
            "; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=2592000",
        ),
        (
            cookie().name("__Secure-shop").domain("example.com"),
            "__Secure-shop",
            "; Path=/; HttpOnly; SameSite=Lax; Secure; Domain=example.com; Max-Age=2592000",
        ),
    ];
    for (cookie, name, attributes) in cases {
        let shop = Shop::keeping(cookie, |builder| builder);
        let page = shop.send(page_visit("/?aff=K"));
        let value = page.kept_value();
        assert!(
            value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
            "{value}"
        );
        let line = page.set_cookies()[0];
        assert_eq!(line, format!("{name}={value}{attributes}"));

        // Forgetting uses the same name and attributes, or the browser wouldn't delete it.
        let shop = shop.answering(|_| {
            let mut response = http::Response::new(String::new());
            response.extensions_mut().insert(tower_referral::Forget);
            response
        });
        let page = shop.send(page_visit("/"));
        let attributes = attributes.replace("Max-Age=2592000", "Max-Age=0");
        assert_eq!(page.set_cookies(), [format!("{name}={attributes}")]);
        let mut visitor = shop.visitor();
        visitor.hold(name, &value);
        visitor.visit("/");
        assert!(visitor.holds_nothing(), "{name}");
    }
}

#[test]
fn our_cookie_is_found_among_any_others() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K");
    let ours = format!("{COOKIE_NAME}={value}");
    // (case, line)
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("alone", ours.clone().into()),
        ("before", format!("{ours}; a=1").into()),
        ("behind", format!("a=1; {ours}").into()),
        ("between", format!("a=1; {ours}; b=2").into()),
        ("no blanks", format!("a=1;{ours};b=2").into()),
        ("many blanks", format!("a=1 ;   {ours}   ;  b=2").into()),
        ("tabs", format!("a=1;\t{ours}\t;\tb=2").into()),
        ("at the end, with a blank", format!("{ours} ").into()),
        ("at the start, with a blank", format!("  {ours}").into()),
        ("empty pairs", format!(";;; ;{ours};;").into()),
        ("behind a name without value", format!("lonely; {ours}").into()),
        ("behind an empty name", format!("=x; {ours}").into()),
        ("behind JSON", format!(r#"j={{"a":1,"b":[2,3]}}; {ours}"#).into()),
        ("behind an open quote", format!("q=\"abc; {ours}").into()),
        ("behind a quoted value", format!("q=\"a b\"; {ours}; r=\"").into()),
        ("behind a comma", format!("a=1,2; {ours}").into()),
        ("behind Latin-1", [b"name=J\xfcrgen; ".as_slice(), ours.as_bytes(), b"; x=\xff\xfe"].concat()),
        ("behind UTF-8", format!("name=Jürgen; {ours}").into()),
        ("behind our name as a value", format!("x={COOKIE_NAME}; {ours}").into()),
        ("behind our pair as a value", format!("x={COOKIE_NAME}=abc; {ours}").into()),
        ("behind a longer name", format!("{COOKIE_NAME}x=1; {ours}").into()),
        ("behind a name that ends with ours", format!("x{COOKIE_NAME}=1; {ours}").into()),
        ("behind our name with a blank in front of it", format!("x y {COOKIE_NAME}=1; {ours}").into()),
        ("behind another program's", format!("{COOKIE_NAME}-friends=1; {ours}").into()),
        ("behind another mode's", format!("referral=1; __Secure-referral=2; {ours}").into()),
        ("behind an encoded name", format!("%5F_Host-referral=1; {ours}").into()),
        ("behind another case", format!("__host-referral=1; {ours}").into()),
        ("behind a big one", format!("big={}; {ours}", "x".repeat(40_000)).into()),
        ("behind a thousand", format!("{}{ours}", "a=1; ".repeat(1000)).into()),
    ];
    for (case, line) in cases {
        let (key, reason) = found(&shop, &line);
        assert_eq!(key.as_deref(), Some("K"), "{case}: {reason:?}");
        assert_eq!(reason, None, "{case}");
    }
}

#[test]
fn what_only_looks_like_our_cookie_is_somebody_elses() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K");
    for (case, line) in [
        ("another case", format!("__host-referral={value}")),
        ("another case", format!("__Host-Referral={value}")),
        ("no prefix", format!("referral={value}")),
        ("the other prefix", format!("__Secure-referral={value}")),
        ("a longer name", format!("__Host-referrals={value}")),
        ("a longer name", format!("x__Host-referral={value}")),
        (
            "a program of ours that isn't",
            format!("__Host-referral-x={value}"),
        ),
        ("a value of another", format!("x=__Host-referral={value}")),
        (
            "a value, with a blank",
            format!("x= __Host-referral={value}"),
        ),
        (
            "a value, with a tab",
            format!("x=\t__Host-referral={value}"),
        ),
        ("a name with a blank", format!("x __Host-referral={value}")),
        ("an encoded name", format!("%5F%5FHost-referral={value}")),
        ("a quoted name", format!("\"__Host-referral\"={value}")),
        ("behind a comma", format!("a=1,__Host-referral={value}")),
        (
            "behind a comma and a blank",
            format!("a=1, __Host-referral={value}"),
        ),
        (
            "behind $Version",
            format!("$Version=1,__Host-referral={value}"),
        ),
        (
            "behind a no-break space",
            format!("a=1;\u{a0}__Host-referral={value}"),
        ),
        ("a name without value", "__Host-referral".to_owned()),
    ] {
        assert_eq!(found(&shop, &line), (None, None), "{case}: {line}");
    }
}

#[test]
fn a_value_is_taken_as_it_stands_or_not_at_all() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K");
    let bytes = URL_SAFE_NO_PAD.decode(&value).unwrap();
    let (envelope, tag) = bytes.split_at(bytes.len() - 32);
    let [only_envelope, only_tag] = [envelope, tag].map(|part| URL_SAFE_NO_PAD.encode(part));
    let emptied = URL_SAFE_NO_PAD.encode([envelope, &[0; 32]].concat());
    // Where the tag begins, or a character before.
    let (front, back) = value.split_at(envelope.len() * 4 / 3);
    let changed = |at: usize| {
        let mut bytes = value.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let swapped_case: String = value
        .chars()
        .map(|c| {
            if c.is_lowercase() {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", "".into(), "malformed"),
        ("quoted", format!("\"{value}\"").into(), "malformed"),
        ("encoded", format!("%{:02x}{}", value.as_bytes()[0], &value[1..]).into(), "malformed"),
        ("a blank inside", format!("{} {}", &value[..9], &value[9..]).into(), "malformed"),
        ("padded", format!("{value}=").into(), "malformed"),
        ("padding inside", format!("{front}={back}").into(), "malformed"),
        ("a dot between", format!("{front}.{back}").into(), "malformed"),
        ("another alphabet", format!("{}+/{}", &value[..9], &value[11..]).into(), "malformed"),
        ("a byte too many", format!("{value}A").into(), "malformed"),
        ("raw bytes", [value.as_bytes(), b"\xff"].concat(), "malformed"),
        ("only a tag", only_tag.into(), "malformed"),
        ("only an envelope", only_envelope.into(), "malformed"),
        ("truncated", value[..value.len() - 4].into(), "bad_signature"),
        ("another case", swapped_case.into(), "malformed"),
        ("zeros", "A".repeat(value.len()).into(), "malformed"),
        ("version 1", format!("AQ{}", &value[2..]).into(), "malformed"),
        ("version 3", format!("Aw{}", &value[2..]).into(), "malformed"),
        ("an altered tag", changed(value.len() - 10).into(), "bad_signature"),
        ("an altered message", changed(front.len() - 9).into(), "bad_signature"),
        ("an emptied tag", emptied.into(), "bad_signature"),
        ("far too long", "A".repeat(5000).into(), "malformed"),
        ("long and truncated", value.repeat(3).into(), "malformed"),
    ];
    for (case, forged, reason) in cases {
        let line = [format!("{COOKIE_NAME}=").as_bytes(), &forged].concat();
        let (key, found) = found(&shop, &line);
        assert_eq!(key, None, "{case}");
        // A swapped alphabet may by chance decode; what matters is that nothing opens.
        if matches!(
            case,
            "truncated"
                | "another case"
                | "long and truncated"
                | "only an envelope"
                | "only a tag"
                | "a byte too many"
        ) {
            assert!(found.is_some(), "{case}");
        } else {
            assert_eq!(found, Some(reason), "{case}");
        }

        // As if absent: the next landing is captured, even under first touch.
        let mut page = with_cookie_line("/?aff=NEXT", &line);
        page.headers_mut()
            .append(COOKIE, HeaderValue::from_static("other=1"));
        let page = shop.send(page);
        assert_eq!(
            (page.key(), page.reason()),
            (Some("NEXT"), "captured"),
            "{case}"
        );
        assert!(page.changed(), "{case}: it is replaced");
    }
}

#[test]
fn no_single_character_can_be_altered() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K").into_bytes();
    for at in 0..value.len() {
        for byte in [b'A', b'B', b'x', b'7', b'-', b'_', b'.', b'='] {
            let mut forged = value.clone();
            if forged[at] != byte {
                forged[at] = byte;
                let line = [format!("{COOKIE_NAME}=").as_bytes(), &forged].concat();
                let (key, _) = found(&shop, line);
                assert_eq!(key, None, "{at}: {}", char::from(byte));
            }
        }
    }
}

#[test]
fn a_name_with_a_blank_or_tab_around_the_equals_sign_opens_nothing_else() {
    // RFC 6265 trims pairs, and browsers send none of these; whatever we make of them, they must
    // not disturb the cookie that follows.
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K");
    for odd in [
        format!("{COOKIE_NAME} =x"),
        format!("{COOKIE_NAME}= x"),
        format!("{COOKIE_NAME}\t=\tx"),
        format!("{COOKIE_NAME}=="),
    ] {
        let (key, _) = found(&shop, format!("{odd}; {COOKIE_NAME}={value}"));
        assert_eq!(key.as_deref(), Some("K"), "{odd}");
    }
}

#[test]
fn cookie_lines_are_read_each_for_itself() {
    let shop = Shop::new();
    let value = shop.sealed("/?aff=K");
    let ours = format!("{COOKIE_NAME}={value}");
    // (case, lines)
    let cases: &[(&str, &[&[u8]])] = &[
        ("a crumb of HTTP/2", &[b"a=1", ours.as_bytes(), b"b=2"]),
        ("last", &[b"a=1", b"b=2", ours.as_bytes()]),
        ("behind an open quote", &[b"a=\"1", ours.as_bytes()]),
        ("behind raw bytes", &[b"\xff\xfe=\xfd", ours.as_bytes()]),
        ("behind an empty line", &[b"", ours.as_bytes()]),
        (
            "behind a broken one of ours",
            &[b"__Host-referral=x", ours.as_bytes()],
        ),
        (
            "ahead of a broken one of ours",
            &[ours.as_bytes(), b"__Host-referral=x"],
        ),
    ];
    for (case, lines) in cases {
        let mut request = page_visit("/");
        for line in *lines {
            let line = HeaderValue::from_bytes(line).unwrap();
            request.headers_mut().append(COOKIE, line);
        }
        assert_eq!(shop.send(request).key(), Some("K"), "{case}");
    }
    let (start, end) = ours.split_at(30);
    let mut request = page_visit("/");
    for part in [start, end] {
        request.headers_mut().append(COOKIE, part.parse().unwrap());
    }
    assert_eq!(
        shop.send(request).key(),
        None,
        "lines aren't glued together"
    );
}

#[test]
fn attribution_picks_among_several_valid_cookies_whatever_their_order() {
    let clock = Clock::new();
    let shop = |attribution| {
        Shop::at(clock.clone(), SignedCookie::new(keyring()), |builder| {
            builder.program(Program::default().attribution(attribution))
        })
    };
    let (first, last) = (shop(Attribution::FirstTouch), shop(Attribution::LastTouch));
    let longest = shop(Attribution::rule(|kept, new| {
        if new.key().unwrap().as_str().len() > kept.key().unwrap().as_str().len() {
            tower_referral::Verdict::Replace("longer")
        } else {
            tower_referral::Verdict::Keep("shorter")
        }
    }));
    let mut cookies = Vec::new();
    for key in ["OLD", "MIDDLE", "NEW"] {
        cookies.push(format!(
            "{COOKIE_NAME}={}",
            last.sealed(&format!("/?aff={key}"))
        ));
        clock.pass(DAY);
    }
    let broken = format!("{COOKIE_NAME}=AAAA");
    let orders: &[&[usize]] = &[
        &[0, 1, 2],
        &[0, 2, 1],
        &[1, 0, 2],
        &[1, 2, 0],
        &[2, 0, 1],
        &[2, 1, 0],
    ];
    for order in orders {
        let mut line = broken.clone();
        for at in *order {
            line = format!("{line}; {}", cookies[*at]);
        }
        assert_eq!(found(&first, &line).0.as_deref(), Some("OLD"), "{order:?}");
        assert_eq!(found(&last, &line).0.as_deref(), Some("NEW"), "{order:?}");
        assert_eq!(
            found(&longest, &line).0.as_deref(),
            Some("MIDDLE"),
            "{order:?}"
        );
    }

    // Of those that were captured at once, the first in the line came first.
    let three = ["X", "Y", "Z"].map(|key| {
        let sealed = last.sealed(&format!("/?aff={key}"));
        format!("{COOKIE_NAME}={sealed}")
    });
    let line = three.join("; ");
    assert_eq!(found(&first, &line).0.as_deref(), Some("X"));
    assert_eq!(found(&last, &line).0.as_deref(), Some("Z"));

    // The same key twice: the clock stays at the first.
    let early = last.clock.now();
    let one = last.sealed("/?aff=SAME");
    clock.pass(DAY);
    let two = last.sealed("/?aff=SAME");
    for line in [
        format!("{COOKIE_NAME}={one}; {COOKIE_NAME}={two}"),
        format!("{COOKIE_NAME}={two}; {COOKIE_NAME}={one}"),
    ] {
        let page = last.send(with_cookie_line("/", line));
        assert_eq!(page.referral().unwrap().captured_at(), early);
    }
}

#[test]
fn at_most_eight_cookies_of_one_name_are_verified() {
    let shop = Shop::new();
    let good = format!("{COOKIE_NAME}={}", shop.sealed("/?aff=K"));
    let mut forged = good.clone();
    forged.replace_range(forged.len() - 5.., "AAAAA");
    // (how many forged ones are ahead, the key)
    for (ahead, key) in [(0, Some("K")), (7, Some("K")), (8, None), (500, None)] {
        let line = format!("{}{good}", format!("{forged}; ").repeat(ahead));
        assert_eq!(found(&shop, line).0.as_deref(), key, "{ahead} forged ones");
    }
    // What isn't even well-formed costs no verification, and doesn't count.
    let line = format!("{}{good}", format!("{COOKIE_NAME}=\"x y\"; ").repeat(100));
    assert_eq!(found(&shop, line).0.as_deref(), Some("K"));
    // Cookies of other programs have their own eight.
    let line = format!(
        "{}{good}",
        format!("{COOKIE_NAME}-friends=AAAA; ").repeat(100)
    );
    assert_eq!(found(&shop, line).0.as_deref(), Some("K"));
}

#[test]
fn a_cookie_is_bound_to_its_name_mode_and_key() {
    let clock = Clock::new();
    let shop = |cookie| Shop::at(clock.clone(), cookie, |builder| builder);
    let plain = || SignedCookie::new(keyring());
    let home = shop(plain());
    let value = home.sealed("/?aff=K");
    let other_secret = Keyring::new(signing_key("k1", 50));
    let other_id = Keyring::new(signing_key("k2", 0));
    // (case, shop, the name it reads, reason)
    let cases = [
        (
            "renamed",
            shop(plain().name("other")),
            "__Host-other",
            "bad_signature",
        ),
        (
            "another mode",
            shop(plain().domain("example.com")),
            "__Secure-referral",
            "bad_signature",
        ),
        (
            "plain HTTP",
            shop(plain().plain_http()),
            "referral",
            "bad_signature",
        ),
        (
            "another secret",
            shop(SignedCookie::new(other_secret)),
            COOKIE_NAME,
            "bad_signature",
        ),
        (
            "another key ID",
            shop(SignedCookie::new(other_id)),
            COOKIE_NAME,
            "unknown_signing_key",
        ),
    ];
    for (case, shop, name, reason) in cases {
        let (key, found) = found(&shop, format!("{name}={value}"));
        assert_eq!((key, found), (None, Some(reason)), "{case}");
        let page = shop.send(with_cookie_line("/?aff=NEW", format!("{name}={value}")));
        assert_eq!(page.key(), Some("NEW"), "{case}");
        assert_eq!(
            page.reasons(),
            [format!("default: {reason}"), "default: captured".to_owned()],
            "{case}"
        );
    }
}

#[test]
fn one_mode_never_reads_the_cookie_of_another() {
    let modes = [
        ("__Host-referral", SignedCookie::new(keyring())),
        (
            "__Secure-referral",
            SignedCookie::new(keyring()).domain("example.com"),
        ),
        ("referral", SignedCookie::new(keyring()).plain_http()),
    ];
    let clock = Clock::new();
    for (writes, writer) in &modes {
        let value = Shop::at(clock.clone(), writer.clone(), |b| b).sealed("/?aff=K");
        for (reads, reader) in &modes {
            let reader = Shop::at(clock.clone(), reader.clone(), |b| b);
            let (key, reason) = found(&reader, format!("{writes}={value}"));
            assert_eq!(key.is_some(), writes == reads, "{writes} read by {reads}");
            assert_eq!(reason, None, "{writes} read by {reads}: not even looked at");
        }
    }
}

#[test]
fn a_referral_is_gone_at_the_end_of_its_window_on_the_server_too() {
    let shop = Shop::program(Program::default().window(Duration::from_secs(100)));
    let line = format!("{COOKIE_NAME}={}", shop.sealed("/?aff=K"));
    let key = || found(&shop, &line);
    assert_eq!(key().0.as_deref(), Some("K"));
    shop.clock.pass(Duration::from_secs(100) - MILLISECOND);
    assert_eq!(key().0.as_deref(), Some("K"), "the last millisecond");
    shop.clock.pass(MILLISECOND);
    assert_eq!(key(), (None, Some("expired")), "gone at age = window");
    shop.clock.pass(DAY * 4000);
    assert_eq!(key(), (None, Some("expired")));
    let page = shop.send(with_cookie_line("/?aff=NEXT", &line));
    assert_eq!(page.reasons(), ["default: expired", "default: captured"]);
}

#[test]
fn the_shorter_of_the_sealed_and_the_configured_window_counts() {
    let clock = Clock::new();
    let shop = |days| {
        Shop::at(clock.clone(), SignedCookie::new(keyring()), |builder| {
            builder.program(Program::default().window(DAY * days))
        })
    };
    let [short, long] = [7, 60].map(shop);
    let of_short = format!("{COOKIE_NAME}={}", short.sealed("/?aff=K"));
    let of_long = format!("{COOKIE_NAME}={}", long.sealed("/?aff=K"));
    clock.pass(DAY * 7 - MILLISECOND);
    for (line, shop) in [(&of_short, &long), (&of_long, &short)] {
        let page = shop.send(with_cookie_line("/", line));
        assert_eq!(page.referral().unwrap().window(), DAY * 7);
    }
    let page = long.send(with_cookie_line("/", &of_long));
    assert_eq!(page.referral().unwrap().window(), DAY * 60);
    clock.pass(MILLISECOND);
    assert_eq!(
        found(&long, &of_short).1,
        Some("expired"),
        "a window never grows"
    );
    assert_eq!(
        found(&short, &of_long).1,
        Some("expired"),
        "a shortened one counts now"
    );
    assert_eq!(found(&long, &of_long).0.as_deref(), Some("K"));
}

#[test]
fn a_capture_may_lie_300_seconds_in_the_future_and_no_more() {
    let shop = Shop::new();
    for (millis, expected) in [
        (0, (Some("K"), None)),
        (300_000, (Some("K"), None)),
        (300_001, (None, Some("from_the_future"))),
        (86_400_000, (None, Some("from_the_future"))),
    ] {
        let ahead = Shop::new();
        ahead.clock.pass(Duration::from_millis(millis));
        let line = format!("{COOKIE_NAME}={}", ahead.sealed("/?aff=K"));
        let (key, reason) = found(&shop, line);
        assert_eq!((key.as_deref(), reason), expected, "{millis} ms");
    }
}

#[test]
fn the_window_is_fixed_from_the_capture_and_never_slides() {
    let shop = Shop::program(Program::default().window(DAY * 3));
    let mut visitor = shop.visitor();
    let captured_at = shop.clock.now();
    visitor.visit("/?aff=K");
    for day in 1..3 {
        shop.clock.pass(DAY);
        let page = visitor.visit("/?aff=K");
        assert_eq!(page.reason(), "same_key", "day {day}");
        assert!(!page.changed(), "day {day}");
        assert_eq!(
            page.referral().unwrap().captured_at(),
            captured_at,
            "day {day}"
        );
        assert_eq!(
            page.referral().unwrap().expires_at(),
            captured_at + DAY * 3,
            "day {day}"
        );
    }
    shop.clock.pass(DAY - MILLISECOND);
    assert_eq!(visitor.visit("/").key(), Some("K"));
    shop.clock.pass(MILLISECOND);
    assert_eq!(visitor.visit("/").key(), None);
}

#[test]
fn max_age_is_what_is_left_of_the_window() {
    for (window, expected) in [
        (SECOND, "1"),
        (DAY, "86400"),
        (DAY * 30, "2592000"),
        (DAY * 400, "34560000"),
    ] {
        let page = Shop::program(Program::default().window(window)).send(page_visit("/?aff=K"));
        let max_age = page.set_cookies()[0].split("Max-Age=").nth(1);
        assert_eq!(max_age, Some(expected), "{window:?}");
    }
}

#[test]
fn a_keyring_rotates_without_losing_a_referral_and_never_signs_anew_on_reads() {
    let clock = Clock::new();
    let shop = |keyring| Shop::at(clock.clone(), SignedCookie::new(keyring), |b| b);
    let (old, new) = (signing_key("2026-05", 1), signing_key("2026-11", 2));
    let before = shop(Keyring::new(old.clone()));
    let taught = shop(Keyring::new(old.clone()).verify_with(new.clone()).unwrap());
    let switched = shop(Keyring::new(new.clone()).verify_with(old).unwrap());
    let after = shop(Keyring::new(new));

    let mut early = before.visitor();
    early.visit("/?aff=EARLY");
    let value = early.held(COOKIE_NAME).unwrap().to_owned();
    for (step, shop) in [("taught", &taught), ("switched", &switched)] {
        clock.pass(DAY);
        early.moves_to(shop);
        let page = early.visit("/?aff=EARLY");
        assert_eq!(page.key(), Some("EARLY"), "{step}");
        assert!(!page.changed(), "{step}: no re-signing on reads");
        assert_eq!(early.held(COOKIE_NAME), Some(&*value), "{step}");
    }
    // While some servers still wait for their restart, each reads what the other signs.
    for (signs, reads) in [(&taught, &switched), (&switched, &taught)] {
        let mut visitor = signs.visitor();
        visitor.visit("/?aff=K");
        visitor.moves_to(reads);
        assert_eq!(visitor.visit("/").key(), Some("K"));
    }
    early.moves_to(&after);
    assert_eq!(early.visit("/").key(), None);
    let mut late = switched.visitor();
    late.visit("/?aff=LATE");
    late.moves_to(&after);
    assert_eq!(late.visit("/").key(), Some("LATE"));
}

#[test]
fn keys_with_swapped_ids_open_nothing() {
    let clock = Clock::new();
    let shop = |keyring| Shop::at(clock.clone(), SignedCookie::new(keyring), |b| b);
    let writer = shop(
        Keyring::new(signing_key("a", 1))
            .verify_with(signing_key("b", 2))
            .unwrap(),
    );
    let swapped = shop(
        Keyring::new(signing_key("a", 2))
            .verify_with(signing_key("b", 1))
            .unwrap(),
    );
    let line = format!("{COOKIE_NAME}={}", writer.sealed("/?aff=K"));
    assert_eq!(found(&writer, &line).0.as_deref(), Some("K"));
    assert_eq!(
        found(&swapped, &line),
        (None, Some("bad_signature")),
        "an ID picks one key"
    );
    // One ID that begins as the other one does.
    let short = shop(
        Keyring::new(signing_key("k", 1))
            .verify_with(signing_key("k1", 2))
            .unwrap(),
    );
    let long = shop(
        Keyring::new(signing_key("k1", 2))
            .verify_with(signing_key("k", 1))
            .unwrap(),
    );
    for (writer, reader) in [(&short, &long), (&long, &short)] {
        let line = format!("{COOKIE_NAME}={}", writer.sealed("/?aff=K"));
        assert_eq!(found(reader, &line).0.as_deref(), Some("K"));
    }
}

#[test]
fn set_cookie_stays_under_one_kib_and_the_least_important_goes_first() {
    let names = ["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"];
    let program = || Program::default().extra_params(names);
    let domain = [&*"d".repeat(63); 3].join(".");
    let wide = Shop::keeping(SignedCookie::new(keyring()).domain(domain), |builder| {
        builder.program(program())
    });
    let path = format!("/{}", "p".repeat(254));
    let key = "K".repeat(128);
    for shop in [Shop::program(program()), wide] {
        for count in 0..=names.len() {
            let extra: String = names[..count]
                .iter()
                .map(|name| format!("&{name}={}", "v".repeat(128)))
                .collect();
            let mut visitor = shop.visitor();
            let page = visitor.visit(&format!("{path}?aff={key}{extra}"));
            assert!(
                page.set_cookies()[0].len() < 1024,
                "{count} extra parameters"
            );
            assert_eq!(
                page.referral().unwrap().extra().count(),
                count,
                "seen at once"
            );

            let page = visitor.visit("/");
            let kept = page.referral().expect("the key is never dropped");
            assert_eq!(
                kept.key().unwrap().as_str(),
                key,
                "{count} extra parameters"
            );
            let kept_names: Vec<_> = kept.extra().map(|(name, _)| name).collect();
            assert_eq!(
                kept_names,
                names[..kept_names.len()],
                "the last ones go first"
            );
            assert!(
                kept.landing_page().is_some() || kept_names.is_empty(),
                "{count}: extra parameters go before the landing page"
            );
            assert!(
                kept.parameter().is_some() || kept.landing_page().is_none(),
                "{count}: the landing page goes before the parameter"
            );
            if count == names.len() {
                assert!(kept_names.len() < count, "something had to go");
            }
        }
    }
}

#[test]
fn a_referral_survives_log_in_log_out_session_rotation_and_errors() {
    let shop = Shop::new().answering(|request| {
        let mut response = http::Response::new(String::new());
        match request.uri().path() {
            "/login" => {
                response
                    .headers_mut()
                    .append("set-cookie", "sid=2; Path=/; Max-Age=99".parse().unwrap());
            }
            "/logout" => {
                response
                    .headers_mut()
                    .append("set-cookie", "sid=; Path=/; Max-Age=0".parse().unwrap());
            }
            "/crash" => *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR,
            _ => {}
        }
        response
    });
    let mut visitor: Browser = shop.visitor();
    let page = visitor.visit("/crash?aff=K");
    assert_eq!(page.response.status(), 500);
    for path in ["/login", "/", "/crash", "/login", "/logout", "/"] {
        assert_eq!(visitor.visit(path).key(), Some("K"), "{path}");
    }
}
