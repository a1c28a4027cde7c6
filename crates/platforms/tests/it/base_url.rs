//! Where an API key may be sent.

use tower_referral_platforms::affiliate::postback::Problem;
use tower_referral_platforms::{BaseUrl, ConfigError, Partnac, Postback};

const SAFE: [&str; 6] = [
    "https://api.example.com/v1/",
    "https://stand-in:18101",
    "http://127.0.0.1:18101",
    "http://127.9.9.9",
    "http://[::1]:18101/v1",
    "http://localhost:18101",
];
const PLAIN: [&str; 4] = [
    "http://stand-in:18101",
    "http://192.168.1.7:18101/v1",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
];
const NEVER: [&str; 11] = [
    "",
    "stand-in",
    "//stand-in",
    "http://",
    "https://",
    "ftp://stand-in",
    "http://user@stand-in",
    "https://user:secret@api.example.com",
    "http://127.0.0.1:99999",
    "https://api.example.com?key=1",
    "https://api.example.com#part",
];

#[test]
fn plain_http_leaves_this_machine_only_by_name() {
    for url in SAFE {
        assert!(BaseUrl::new(url).is_ok(), "{url}");
        assert!(BaseUrl::plain_http(url).is_ok(), "{url}");
    }
    for url in PLAIN {
        let url_text = url.to_owned();
        let refused = ConfigError::InvalidPlatformUrl { url: url_text };
        assert_eq!(BaseUrl::new(url), Err(refused), "{url}");
        assert!(BaseUrl::plain_http(url).is_ok(), "{url}");
    }
    for url in NEVER {
        assert!(BaseUrl::new(url).is_err(), "{url}");
        assert!(BaseUrl::plain_http(url).is_err(), "{url}");
    }
}

#[test]
fn a_refused_base_url_names_the_way_out() {
    let refused = Partnac::new("k").unwrap().base_url("http://stand-in:18101");
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("BaseUrl::plain_http"), "{text}");
    let stand_in = BaseUrl::plain_http("http://stand-in:18101/v1/").unwrap();
    assert_eq!(stand_in.as_str(), "http://stand-in:18101/v1");
    assert!(Partnac::new("k").unwrap().base_url(stand_in).is_ok());
    // Text of every kind.
    let text = String::from("https://api.example.com");
    assert!(Partnac::new("k").unwrap().base_url(&text).is_ok());
    assert!(Partnac::new("k").unwrap().base_url(text).is_ok());
}

#[test]
fn so_it_is_for_a_postback() {
    let to = |host: &str| {
        Postback::builder(format!("{host}/sale?c={{click_id}}&o={{order}}")).without_refunds()
    };
    for host in PLAIN {
        let refused = ConfigError::InvalidPostback {
            template: "sale",
            problem: Problem::InvalidUrl,
        };
        assert_eq!(to(host).build().unwrap_err(), refused, "{host}");
        assert!(to(host).plain_http().build().is_ok(), "{host}");
    }
    for host in ["", "http://", "ftp://stand-in", "http://user@stand-in"] {
        assert!(to(host).plain_http().build().is_err(), "{host}");
    }
}
