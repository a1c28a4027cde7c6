//! How the shop starts, what it refuses to start with, and how it ends.

use crate::shop_process::{KEY_A, Shop};
use crate::support::{eventually, refusal, run};

#[test]
fn the_first_line_says_where_it_listens_and_the_rest_what_to_open() {
    let mut shop = Shop::start(&[]);
    assert_eq!(shop.get("/").status, 200);
    let rest = shop.stop();
    assert!(rest.contains("/pricing?aff=PARTNER_123"), "{rest}");
    assert!(rest.contains("REFERRAL_KEY is not set"), "{rest}");

    let mut shop = Shop::start_with(&[], &[("REFERRAL_KEY", KEY_A)]);
    assert!(!shop.stop().contains("REFERRAL_KEY"));
}

#[cfg(unix)]
#[test]
fn sigterm_ends_it_in_good_order() {
    let mut shop = Shop::start(&[]);
    shop.terminate();
    assert!(shop.child.wait().unwrap().success());
}

/// A template by which a tracker is told of a sale.
const SALE: &str = "https://tracker.example/?c={click_id}&o={order}";

fn postback<'a>(sale: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let options = ["--platform", "postback", "--platform-url", sale];
    [&options, more].concat()
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_fix() {
    for (args, fix) in [
        (&["--window", "0"][..], "from 1 second to 400 days"),
        (&["--store", "sqlite://shop.db"], "add `--keep server`"),
        (
            &["--keep", "server", "--store", "mysql://shop"],
            "use memory:, sqlite://FILE",
        ),
        (&["--keep", "session", "--store", "shop.db"], "use memory:"),
        (&["--window", "34560001"], "from 1 second to 400 days"),
        (&["--window", "-1"], "--window"),
        (&["--window", "soon"], "--window"),
        (&["--param", "a/b"], "`a/b`"),
        (&["--param", ""], "can't be the name of a parameter"),
        (&["--param", "aff", "--param", "aff"], "named twice"),
        (
            &["--domain", "https://shop.example"],
            "use a host name such as",
        ),
        (&["--stand-down", "checkout"], "begin it with a slash"),
        (&["--attribution", "both"], "--attribution"),
        (&["--consent", "maybe"], "--consent"),
        (&["--platform", "nobody"], "--platform"),
        (
            &["--platform", "none", "--platform-url", "http://127.0.0.1:9"],
            "leave out the URL",
        ),
        (
            &["--keep", "server", "--store", "mysql://127.0.0.1"],
            "none that the shop knows",
        ),
        (
            &["--keep", "session", "--store", "redis"],
            "none that the shop knows",
        ),
        (&["--platform-url", "nonsense"], "base URL: use https"),
        (
            &["--platform-url", "http://127.0.0.1:99999/v1"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "https://127.0.0.1:-1/v1"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "http://u:p@127.0.0.1/v1"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "https://127.0.0.1/v1#f"],
            "base URL: use https",
        ),
        (
            &["--platform-url", "http://api.partnac.com/v1/tracking"],
            "never crosses a network in the clear",
        ),
        (
            &["--platform", "tapfiliate", "--platform-url", ""],
            "base URL: use https",
        ),
        (&["--click-wait", "soon"], "--click-wait"),
        (&["--database", "nonsense"], "use sqlite://FILE or postgres"),
        (&["--database", "memory:"], "use sqlite://FILE or postgres"),
        (
            &["--database", "sqlite:///no/such/folder/x.db"],
            "can't open --database",
        ),
        (
            &["--postback-refund-url", "https://tracker.example/"],
            "--postback-refund-url",
        ),
        (&["--postback-success", "ok"], "--postback-success"),
        (&["--payment-secret", "whsec_1"], "--payment-secret"),
        (&["--payment-test"], "--payment-test"),
        (&["--payment", "stripe"], "PAYMENT_SECRET"),
        (&["--payment", "cash"], "--payment"),
        (&["--click-param", "aff"], "--click-param"),
        (
            &["--click-param", "dub_id", "--click-param", "dub_id"],
            "named twice",
        ),
        (&["--without-layer", "--clean-url"], "--clean-url"),
        (
            &["--platform", "awin", "--account-id", "a/b"],
            "--account-id: the advertiser ID",
        ),
        (
            &["--platform", "firstpromoter", "--account-id", ""],
            "--account-id: the account ID",
        ),
        (
            &["--platform", "affonso", "--program-id", ""],
            "--program-id: the program's ID",
        ),
        (
            &["--platform", "dub", "--platform-url", "http://dub.example"],
            "--platform-url: ",
        ),
        (
            &postback("https://tracker.example/?c={click_id}", &[]),
            "--platform-url: ",
        ),
        (
            &postback(SALE, &["--postback-refund-url", "https://t.example/?c={x}"]),
            "--postback-refund-url: ",
        ),
        (
            &postback(SALE, &["--postback-success", ""]),
            "--postback-success: ",
        ),
        (
            &["--keep", "server", "--store", "redis://"],
            "can't open --store: ",
        ),
        (
            &[
                "--keep",
                "server",
                "--store",
                "sqlite:///no/such/folder/x.db",
            ],
            "can't open --store: ",
        ),
        (&["--click-param", "a/b"], "--click-param: "),
        (&["--listen", "here"], "--listen"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let error = refusal(args, &[]);
        assert!(error.starts_with("error: "), "{args:?}: {error}");
        assert!(error.contains(fix), "{args:?}: {error}");
    }
}

#[test]
fn a_bad_key_is_refused_and_never_shown() {
    for (variables, fix) in [
        (&[("REFERRAL_KEY", "")][..], "no colon"),
        (&[("REFERRAL_KEY", "a:c2VjcmV0")], "at least 32 are needed"),
        (
            &[("REFERRAL_KEY", KEY_A), ("REFERRAL_OLD_KEYS", "old")],
            "REFERRAL_OLD_KEYS",
        ),
        (
            &[("REFERRAL_KEY", KEY_A), ("REFERRAL_OLD_KEYS", KEY_A)],
            "rename one",
        ),
    ] {
        let error = refusal(&[], variables);
        assert!(error.starts_with("error: "), "{variables:?}: {error}");
        assert!(error.contains(fix), "{variables:?}: {error}");
        assert!(!error.contains("c2VjcmV0") && !error.contains("AAECAw"));
    }
}

#[test]
fn a_bad_api_key_is_refused_and_never_shown() {
    for platform in ["partnac", "tapfiliate"] {
        for key in ["", "two words", "line\nend", "gr\u{fc}n"] {
            for (args, variables) in [
                (&["--platform", platform, "--api-key", key][..], &[][..]),
                (&["--platform", platform], &[("PLATFORM_API_KEY", key)]),
            ] {
                let error = refusal(args, variables);
                assert!(error.starts_with("error: --api-key (or PLATFORM_API_KEY): "));
                assert!(key.is_empty() || !error.contains(key), "{error}");
            }
        }
    }
}

#[test]
fn a_platform_that_cannot_be_used_is_said_at_the_start() {
    // Nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let options = ["--platform", "dub", "--platform-url", &url];
    let shop = Shop::start_as_told(&options, &[("RUST_LOG", "warn")]);
    eventually("it isn't said", || {
        shop.said()
            .contains("--platform-url: Dub can't be used")
            .then_some(())
    });
    assert_eq!(shop.get("/").status, 200);
}

#[test]
fn a_port_in_use_is_an_error_and_no_panic() {
    let shop = Shop::start(&[]);
    let output = run(&["--listen", &shop.address.to_string()], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: can't serve on"), "{error}");
}
