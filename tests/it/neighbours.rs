//! Other people's cookies: whatever stands beside ours in the `Cookie` lines, ours is found, and
//! none of it is taken for ours.
//!
//! The list is our own, after the kinds that the suites of the http-state working group and of
//! web-platform-tests try. What our own cookie's value may look like is in `cookie.rs`.

use crate::common::{COOKIE_NAME, Shop, page_visit};
use http::Request;
use http::header::{COOKIE, HeaderValue};
use tower_referral::{Consent, Program};

/// A piece of a `Cookie` line that isn't ours.
struct Neighbour {
    case: &'static str,
    text: Vec<u8>,
    /// It bears our name without being ours: an attacker's, or one from before a mishap.
    has_our_name: bool,
}

/// `genuine` is a valid value of ours, which makes the look-alikes as tempting as can be.
#[rustfmt::skip]
fn neighbours(genuine: &str) -> Vec<Neighbour> {
    let ours = format!("{COOKIE_NAME}={genuine}");
    let flipped = if genuine.ends_with('A') { "B" } else { "A" };
    let forged = format!("{}{flipped}", &genuine[..genuine.len() - 1]);
    let foreign: Vec<(&'static str, Vec<u8>)> = vec![
        // Plain ones, and what real sites set.
        ("a pair", b"a=1".into()),
        ("analytics", b"_ga=GA1.1.1032458715.1799990000".into()),
        ("a session ID with a signature", b"sid=s%3AqT9.x%2Fy%2B%3D%3D".into()),
        ("a JSON Web Token", b"jwt=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln".into()),
        ("padded base64", b"b64=YWJjZA==".into()),
        ("JSON", br#"j={"a":1,"b":[2,3],"c":"d e"}"#.into()),
        ("percent-encoded JSON", b"j=%7B%22a%22%3A1%3B%7D".into()),
        ("a URL with a query", b"back=https://shop.example/?aff=X&b=2#c".into()),
        ("a date with a comma", b"seen=Fri, 15 Jan 2027 08:00:00 GMT".into()),
        ("PHP's arrays", b"a[b][c]=1".into()),
        // Quotes and backslashes.
        ("a quoted value", b"q=\"a b\"".into()),
        ("an empty quoted value", b"q=\"\"".into()),
        ("an open quote", b"q=\"abc".into()),
        ("a closing quote alone", b"q=abc\"".into()),
        ("a lone quote", b"\"".into()),
        ("single quotes", b"q='a'".into()),
        ("an escaped quote", br#"q="a\"b""#.into()),
        ("a backslash at the end", br"q=a\".into()),
        ("a quoted semicolon", b"q=\"a;b\"".into()),
        ("a quoted name", b"\"q\"=1".into()),
        // Commas.
        ("a comma in the value", b"a=1,2".into()),
        ("a comma and a blank", b"a=1, b=2".into()),
        ("a comma in the name", b"a,b=1".into()),
        ("commas only", b",,,".into()),
        // Equals signs.
        ("two equals signs", b"a==1".into()),
        ("many equals signs", b"a=b=c=d=".into()),
        ("an equals sign alone", b"=".into()),
        ("equals signs only", b"====".into()),
        ("blanks around the equals sign", b"a = 1".into()),
        ("tabs around the equals sign", b"a\t=\t1".into()),
        // Nameless and empty.
        ("nameless, with an equals sign", b"=1".into()),
        ("nameless, without one", b"lonely".into()),
        ("an empty value", b"a=".into()),
        ("nothing", b"".into()),
        ("a blank", b" ".into()),
        ("a tab", b"\t".into()),
        ("blanks and tabs", b" \t \t ".into()),
        // Semicolon runs.
        ("a semicolon", b";".into()),
        ("a run of semicolons", b";;;;;;;;;;".into()),
        ("semicolons and blanks", b" ; ;\t;  ; ".into()),
        ("a pair without a blank between", b"a=1;b=2;c=3".into()),
        // Bytes beyond ASCII.
        ("UTF-8 in the value", "a=Jürgen".into()),
        ("UTF-8 in the name", "größe=1".into()),
        ("an emoji", "🍪=🍪".into()),
        ("Latin-1", b"a=J\xfcrgen".into()),
        ("broken UTF-8", b"a=\xc3\x28\xff\xfe".into()),
        ("every byte of obs-text", (0x80..=0xff).collect()),
        ("every visible character", (0x21..=0x7e).filter(|b| *b != b';').collect()),
        ("a no-break space in front", b"\xa0a=1".into()),
        ("a UTF-8 no-break space behind", "a=1\u{a0}".into()),
        ("an ideographic space", "\u{3000}a=1\u{3000}".into()),
        ("a line separator", "a=1\u{2028}b=2".into()),
        ("a byte order mark", "\u{feff}a=1".into()),
        ("a next-line byte", b"a=1\x85".into()),
        // Repeated names.
        ("a name twice", b"a=1; a=2".into()),
        ("a name a hundred times", b"a=1; ".repeat(100)),
        // Leftovers of RFC 2109 and of Set-Cookie.
        ("$Version", b"$Version=1".into()),
        ("$Version and its kin", b"$Version=\"1\"; a=\"1\"; $Path=\"/\"; $Domain=\"x\"".into()),
        ("attributes of Set-Cookie", b"a=1; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0".into()),
        ("a header's name", b"Cookie: a=1".into()),
        // Long ones.
        ("a value of 4 KiB", [b"a=", &b"x".repeat(4096)[..]].concat()),
        ("a value of 8 KiB", [b"a=", &b"x".repeat(8192)[..]].concat()),
        ("a name of 8 KiB", [&b"n".repeat(8192)[..], b"=1"].concat()),
        ("a value of 8 KiB of equals signs", b"=".repeat(8192)),
        // Look-alikes of ours, each with a value that would open.
        ("no prefix", format!("referral={genuine}").into()),
        ("the other prefix", format!("__Secure-referral={genuine}").into()),
        ("lower case", format!("__host-referral={genuine}").into()),
        ("upper case", format!("__HOST-REFERRAL={genuine}").into()),
        ("another __Host- cookie", format!("__Host-session={genuine}").into()),
        ("the prefix alone", format!("__Host-={genuine}").into()),
        ("the prefix twice", format!("__Host-__Host-referral={genuine}").into()),
        ("our name and an s", format!("{COOKIE_NAME}s={genuine}").into()),
        ("our name and a dot", format!("{COOKIE_NAME}.={genuine}").into()),
        ("a program that isn't", format!("{COOKIE_NAME}-friends={genuine}").into()),
        ("our name less a letter", format!("{}={genuine}", &COOKIE_NAME[..14]).into()),
        ("a letter and our name", format!("x{ours}").into()),
        ("a blank within the name", format!("x {ours}").into()),
        ("a tab within the name", format!("x\t{ours}").into()),
        ("an encoded name of ours", format!("%5F_Host-referral={genuine}").into()),
        ("a quoted name of ours", format!("\"{COOKIE_NAME}\"={genuine}").into()),
        ("our name behind a quote", format!("\"{ours}").into()),
        ("our name without an equals sign", COOKIE_NAME.into()),
        ("our name twice in a name", format!("{COOKIE_NAME}{ours}").into()),
        ("our pair as a value", format!("x={ours}").into()),
        ("our pair as a nameless value", format!("={ours}").into()),
        ("our pair as a value, behind a blank", format!("x= {ours}").into()),
        ("our pair as a value, behind a tab", format!("x=\t{ours}").into()),
        ("our pair behind a comma", format!("a=1,{ours}").into()),
        ("our pair behind a comma and a blank", format!("a=1, {ours}").into()),
        ("our pair behind an ampersand", format!("a=1&{ours}").into()),
        ("our pair behind a colon", format!("a=1:{ours}").into()),
        ("our pair behind a no-break space", [b"a=1;\xa0", ours.as_bytes()].concat()),
        ("our pair behind an obs-text byte", [b"\xff", ours.as_bytes()].concat()),
        ("our pair behind a byte order mark", format!("\u{feff}{ours}").into()),
        ("our value under no name", genuine.into()),
        ("our value behind an equals sign", format!("={genuine}").into()),
        ("our name behind 8 KiB", format!("x={}{ours}", "y".repeat(8192)).into()),
        ("our name a thousand times in a value", format!("x={}", COOKIE_NAME.repeat(1000)).into()),
    ];
    let with_our_name: Vec<(&'static str, Vec<u8>)> = vec![
        ("ours, empty", format!("{COOKIE_NAME}=").into()),
        ("ours, with two equals signs", format!("{COOKIE_NAME}=={genuine}").into()),
        ("ours, nonsense", format!("{COOKIE_NAME}=nonsense").into()),
        ("ours, forged", format!("{COOKIE_NAME}={forged}").into()),
        ("ours, quoted", format!("{COOKIE_NAME}=\"{genuine}\"").into()),
        ("ours, encoded", format!("{COOKIE_NAME}=%{:02X}{}", genuine.as_bytes()[0], &genuine[1..]).into()),
        ("ours, behind a quote", format!("{COOKIE_NAME}=\"{genuine}").into()),
        ("ours, obs-text", [COOKIE_NAME.as_bytes(), b"=\xff\x80"].concat()),
        ("ours, with a no-break space behind it", [ours.as_bytes(), b"\xa0"].concat()),
        ("ours, twice in one value", format!("{COOKIE_NAME}={genuine}{genuine}").into()),
        ("ours, two with a comma", format!("{ours},{ours}").into()),
        ("ours, 4 KiB long", format!("{COOKIE_NAME}={}", "A".repeat(4096)).into()),
        ("ours, 8 KiB long", format!("{ours}{}", "A".repeat(8192)).into()),
        ("ours, nonsense fifty times", format!("{COOKIE_NAME}=x; ").repeat(50).into()),
    ];
    let list = |has_our_name, list: Vec<(&'static str, Vec<u8>)>| {
        list.into_iter().map(move |(case, text)| Neighbour { case, text, has_our_name })
    };
    list(false, foreign).chain(list(true, with_our_name)).collect()
}

fn request(lines: &[Vec<u8>]) -> Request<String> {
    let mut request = page_visit("/");
    for line in lines {
        let line = HeaderValue::from_bytes(line).unwrap();
        request.headers_mut().append(COOKIE, line);
    }
    request
}

fn joined(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.join(&b"; "[..])
}

/// Finds our cookie, and no other: `K` is ours.
fn assert_found(shop: &Shop, lines: &[Vec<u8>], case: &str) {
    let page = shop.send(request(lines));
    assert_eq!(page.key(), Some("K"), "{case}");
    assert!(!page.changed(), "{case}: reading never writes");
}

#[test]
fn there_are_at_least_sixty_kinds_and_none_twice() {
    let list = neighbours("AAAA");
    assert!(list.len() >= 60, "{}", list.len());
    for (at, one) in list.iter().enumerate() {
        let is_new = |other: &Neighbour| other.case != one.case && other.text != one.text;
        assert!(list[..at].iter().all(is_new), "{}", one.case);
    }
}

#[test]
fn ours_is_found_before_between_behind_and_on_a_line_of_its_own() {
    let shop = Shop::new();
    let genuine = shop.sealed("/?aff=K");
    let ours = format!("{COOKIE_NAME}={genuine}").into_bytes();
    for Neighbour { case, text, .. } in neighbours(&genuine) {
        let places = [
            ("before", vec![joined(&[&text, &ours])]),
            ("behind", vec![joined(&[&ours, &text])]),
            ("on both sides", vec![joined(&[&text, &ours, &text])]),
            ("between", vec![joined(&[b"a=1", &ours, &text, b"b=2"])]),
            (
                "without a blank",
                vec![[&text[..], b";", &ours, b";", &text].concat()],
            ),
            (
                "with a tab",
                vec![[&text[..], b";\t", &ours, b"\t;\t", &text].concat()],
            ),
            ("on a line before", vec![text.clone(), ours.clone()]),
            ("on a line behind", vec![ours.clone(), text.clone()]),
            (
                "on lines around",
                vec![text.clone(), ours.clone(), text.clone()],
            ),
        ];
        for (place, lines) in places {
            assert_found(&shop, &lines, &format!("{case}, {place}"));
        }
    }
}

#[test]
fn ours_is_found_among_any_two() {
    let shop = Shop::new();
    let genuine = shop.sealed("/?aff=K");
    let ours = format!("{COOKIE_NAME}={genuine}").into_bytes();
    let list = neighbours(&genuine);
    for one in &list {
        for two in &list {
            let (a, b) = (&one.text, &two.text);
            let case = format!("{} and {}", one.case, two.case);
            assert_found(&shop, &[joined(&[a, &ours, b])], &case);
            assert_found(&shop, &[joined(&[a, b, &ours])], &case);
            assert_found(&shop, &[a.clone(), joined(&[b, &ours])], &case);
        }
    }
}

#[test]
fn none_of_them_alone_or_in_pairs_is_taken_for_ours() {
    let shop = Shop::new();
    // Who denies consent has every cookie of ours deleted, valid or not, and no other.
    let denied = Shop::with(|builder| builder.consent(|_| Consent::Denied));
    let genuine = shop.sealed("/?aff=K");
    let list = neighbours(&genuine);
    let assert_foreign = |lines: &[Vec<u8>], has_our_name: bool, case: &str| {
        let page = shop.send(request(lines));
        assert_eq!(page.key(), None, "{case}");
        let reason = page.seen.decisions().last_of(Program::DEFAULT_NAME);
        assert_eq!(reason.is_some(), has_our_name, "{case}: {reason:?}");
        let page = denied.send(request(lines));
        assert_eq!(page.changed(), has_our_name, "{case}, denied");
    };
    for one in &list {
        let text = &one.text;
        for (place, lines) in [
            ("alone", vec![text.clone()]),
            ("twice", vec![joined(&[text, text])]),
            ("on two lines", vec![text.clone(), text.clone()]),
            ("between", vec![joined(&[b"a=1", text, b"b=2"])]),
        ] {
            assert_foreign(&lines, one.has_our_name, &format!("{}, {place}", one.case));
        }
        for two in &list {
            let has_our_name = one.has_our_name || two.has_our_name;
            let case = format!("{} and {}", one.case, two.case);
            assert_foreign(&[joined(&[text, &two.text])], has_our_name, &case);
            assert_foreign(&[text.clone(), two.text.clone()], has_our_name, &case);
        }
    }
}

#[test]
fn a_landing_is_captured_and_replaced_whatever_stands_beside_it() {
    let shop = Shop::new();
    let genuine = shop.sealed("/?aff=K");
    let ours = format!("{COOKIE_NAME}={genuine}").into_bytes();
    for Neighbour { case, text, .. } in neighbours(&genuine) {
        let land = |uri: &str, line: Vec<u8>| {
            let mut request = request(&[line]);
            *request.uri_mut() = uri.parse().unwrap();
            shop.send(request)
        };
        let page = land("/?aff=NEW", text.clone());
        assert_eq!((page.key(), page.changed()), (Some("NEW"), true), "{case}");
        let page = land("/?aff=NEW", joined(&[&text, &ours]));
        assert_eq!((page.key(), page.changed()), (Some("NEW"), true), "{case}");
        let page = land("/?aff=K", joined(&[&text, &ours]));
        assert_eq!((page.key(), page.changed()), (Some("K"), false), "{case}");
    }
}
