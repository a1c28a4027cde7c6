//! Several programs side by side, each in a cookie of its own.

use crate::common::{COOKIE_NAME, DAY, Shop, page_visit, with_cookie_line};
use http::Response;
use tower_referral::{Attribution, Capture, Forget, ForgetProgram, KeyRule, Program};

in_every_way! {
    each_program_has_its_own_cookie_rule_and_window,
    one_landing_can_serve_several_programs_with_one_cookie_each,
    the_configured_order_decides_which_one_is_first,
    one_programs_broken_key_or_cookie_leaves_the_others_alone,
    a_cookie_counts_for_no_other_program,
    names_that_begin_alike_are_told_apart,
    key_rules_are_each_programs_own,
    a_handler_speaks_of_one_program_or_of_all,
}

const PARTNERS: &str = "__Host-referral-partners";
const FRIENDS: &str = "__Host-referral-friends";

fn shop() -> Shop {
    Shop::with(|builder| {
        builder
            .program(
                Program::new("partners")
                    .params(["aff", "via"])
                    .attribution(Attribution::FirstTouch),
            )
            .program(Program::new("friends").params(["ref"]).window(DAY * 14))
    })
}

fn each_program_has_its_own_cookie_rule_and_window() {
    let shop = shop();
    let mut visitor = shop.visitor();
    let page = visitor.visit("/?aff=P1");
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (Some("P1"), None)
    );
    assert!(page.set_cookies()[0].starts_with(PARTNERS));
    let page = visitor.visit("/?ref=F1");
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (Some("P1"), Some("F1"))
    );
    assert!(page.set_cookies()[0].starts_with(FRIENDS));
    assert_eq!(page.reasons(), ["friends: captured"]);

    let page = visitor.visit("/?via=P2&ref=F2");
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (Some("P1"), Some("F2"))
    );
    assert_eq!(
        page.reasons(),
        ["partners: kept_first_touch", "friends: captured"]
    );
    assert_eq!(page.set_cookies().len(), 1);

    shop.clock.pass(DAY * 14);
    let page = visitor.visit("/");
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (Some("P1"), None)
    );
}

fn one_landing_can_serve_several_programs_with_one_cookie_each() {
    let mut visitor = shop().visitor();
    let page = visitor.visit("/?ref=F&aff=P");
    let names: Vec<_> = page
        .set_cookies()
        .iter()
        .map(|line| line.split('=').next().unwrap())
        .collect();
    assert_eq!(names, [PARTNERS, FRIENDS]);
    let page = visitor.visit("/");
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (Some("P"), Some("F"))
    );
}

fn the_configured_order_decides_which_one_is_first() {
    let mut visitor = shop().visitor();
    visitor.visit("/?ref=F");
    assert_eq!(visitor.visit("/").key(), Some("F"), "the only one");
    visitor.visit("/?aff=P");
    let page = visitor.visit("/");
    assert_eq!(page.key(), Some("P"), "the first configured one");
    let programs: Vec<_> = page
        .seen
        .iter()
        .map(tower_referral::Referral::program)
        .collect();
    assert_eq!(programs, ["partners", "friends"]);
    assert!(page.seen.get("nobody").is_none());
}

fn one_programs_broken_key_or_cookie_leaves_the_others_alone() {
    let shop = shop();
    let page = shop.send(page_visit("/?aff=%zz&ref=F"));
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (None, Some("F"))
    );
    assert_eq!(
        page.reasons(),
        ["partners: invalid_key", "friends: captured"]
    );

    let friend = page.kept_value();
    let line = format!("{PARTNERS}=forged; {FRIENDS}={friend}");
    let page = shop.send(with_cookie_line("/", line));
    assert_eq!(
        (page.key_of("partners"), page.key_of("friends")),
        (None, Some("F"))
    );
}

fn a_cookie_counts_for_no_other_program() {
    let shop = shop();
    let friend = shop.sealed("/?ref=F");
    // The visitor moves a friend's cookie into the slot of the better paid program.
    for (case, line) in [
        ("another program's name", format!("{PARTNERS}={friend}")),
        ("the plain name", format!("{COOKIE_NAME}={friend}")),
    ] {
        let page = shop.send(with_cookie_line("/", line));
        assert_eq!(page.seen.iter().count(), 0, "{case}");
    }
    let default = Shop::new().send(with_cookie_line("/", format!("{COOKIE_NAME}={friend}")));
    assert_eq!(default.key(), None);
}

fn names_that_begin_alike_are_told_apart() {
    let shop = Shop::with(|builder| {
        builder
            .program(Program::new("a").params(["p1"]))
            .program(Program::new("a-b").params(["p2"]))
            .program(Program::new("default").params(["p3"]))
            .program(Program::new("A").params(["p4"]))
    });
    let mut visitor = shop.visitor();
    let page = visitor.visit("/?p1=K1&p2=K2&p3=K3&p4=K4");
    assert_eq!(page.set_cookies().len(), 4);
    let page = visitor.visit("/");
    for (program, key) in [("a", "K1"), ("a-b", "K2"), ("default", "K3"), ("A", "K4")] {
        assert_eq!(page.key_of(program), Some(key), "{program}");
    }
}

fn key_rules_are_each_programs_own() {
    let shop = Shop::with(|builder| {
        builder
            .program(Program::new("ascii").params(["a"]))
            .program(
                Program::new("wide")
                    .params(["w"])
                    .key_rule(KeyRule::printable_unicode()),
            )
    });
    let page = shop.send(page_visit("/?a=%C3%A9&w=%C3%A9"));
    assert_eq!(
        (page.key_of("ascii"), page.key_of("wide")),
        (None, Some("é"))
    );
}

fn a_handler_speaks_of_one_program_or_of_all() {
    let shop = shop().answering(|request| {
        let mut response = Response::new(String::new());
        let extensions = response.extensions_mut();
        match request.uri().path() {
            "/forget" => drop(extensions.insert(Forget)),
            "/forget-friend" => drop(extensions.insert(ForgetProgram::new("friends"))),
            "/forget-nobody" => drop(extensions.insert(ForgetProgram::new("nobody"))),
            "/code" => drop(extensions.insert(Capture::key_for("friends", "F9".parse().unwrap()))),
            "/first" => drop(extensions.insert(Capture::key("P9".parse().unwrap()))),
            "/both" => {
                let capture = Capture::key_for("partners", "P8".parse().unwrap());
                let other = Capture::key_for("friends", "F8".parse().unwrap());
                extensions.insert(capture.and(other));
            }
            _ => {}
        }
        response
    });
    let mut visitor = shop.visitor();
    let mut keys = |path: &str| {
        let said = visitor.visit(path);
        let page = visitor.visit("/");
        let key = |program| page.key_of(program).unwrap_or("-").to_owned();
        (
            key("partners") + key("friends").as_str(),
            said.set_cookies().len(),
        )
    };
    assert_eq!(keys("/both"), ("P8F8".to_owned(), 2));
    assert_eq!(keys("/code"), ("P8F9".to_owned(), 1));
    assert_eq!(keys("/first"), ("P8F9".to_owned(), 0), "first touch");
    assert_eq!(keys("/forget-nobody"), ("P8F9".to_owned(), 0));
    assert_eq!(keys("/forget-friend"), ("P8-".to_owned(), 1));
    assert_eq!(keys("/forget"), ("--".to_owned(), 2));
    assert_eq!(keys("/first"), ("P9-".to_owned(), 1));
}
