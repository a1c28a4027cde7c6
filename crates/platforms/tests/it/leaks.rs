//! Nothing that came from the visitor, and no API key, is in any error, `Debug` or log, even where a
//! platform repeats all that it was told.

use std::error::Error as _;

use crate::log::Log;
use crate::stand_in::{StandIn, clicked};
use tower::ServiceExt as _;
use tower_referral::click::ClickRequest;
#[cfg(feature = "awin")]
use tower_referral_platforms::Awin;
#[cfg(feature = "firstpromoter")]
use tower_referral_platforms::FirstPromoter;
#[cfg(feature = "tolt")]
use tower_referral_platforms::Tolt;
use tower_referral_platforms::affiliate::partnac::Landing;
use tower_referral_platforms::{
    Affonso, ClickApi, Dub, Error, Money, Partnac, Partnero, PartneroFriends, PlatformIds,
    Postback, Report, ReportApi, Sale, SignUp, Tapfiliate,
};

const SECRETS: [&str; 9] = [
    "k3y-of-the-api",
    "CUSTOMER-9",
    "ada@example.com",
    "Adalina",
    "Lovelace",
    "PARTNER_77",
    "clk_4711",
    "SUMMER25",
    "my-metadata",
];

fn reports() -> [Report; 3] {
    let sign_up = || {
        SignUp::new("CUSTOMER-9")
            .unwrap()
            .with_email("ada@example.com")
            .with_name("Adalina")
            .with_surname("Lovelace")
            .with_credit(clicked("PARTNER_77", "clk_4711"))
            .with_coupon("SUMMER25")
            .with_metadata("fact", "my-metadata")
    };
    let amount = Money::new("99.99", "EUR").unwrap();
    let sale = Sale::new("ORDER-1", "CUSTOMER-9", amount).unwrap();
    let sale = sale
        .with_credit(clicked("PARTNER_77", "clk_4711"))
        .with_coupon("SUMMER25");
    // What isn't sent can't come back.
    let sale = [
        ("fact", "my-metadata"),
        ("e", "ada@example.com"),
        ("n", "Adalina"),
        ("s", "Lovelace"),
    ]
    .into_iter()
    .fold(sale, |sale, (name, value)| sale.with_metadata(name, value));
    let guest = Sale::guest("ORDER-2", sign_up(), amount).unwrap();
    [sign_up().into(), sale.into(), guest.into()]
}

/// Everything of an error that can be shown.
fn shown(error: &tower_referral_platforms::ReportError) -> String {
    let mut shown = format!("{error} {error:?} {error:#?} {:?}", error.advice());
    let mut source = error.source();
    while let Some(error) = source {
        shown.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    if let Error::Rejected { message, .. } = error.error() {
        // For people, and clean all the same.
        shown.push_str(message.as_str());
    }
    shown
}

fn assert_clean(what: &str, text: &str) {
    let text = text.to_lowercase();
    for secret in SECRETS {
        assert!(
            !text.contains(&secret.to_lowercase()),
            "{secret} in {what}: {text}"
        );
    }
}

async fn tell_all<P: ReportApi>(platform: impl Fn() -> P) -> usize {
    tell(&reports(), &SECRETS, platform).await
}

/// What platforms take that have no place for coupons and metadata.
#[cfg(any(feature = "awin", feature = "firstpromoter", feature = "tolt"))]
async fn tell_bare<P: ReportApi>(platform: impl Fn() -> P) -> usize {
    let sign_up = || {
        let sign_up = SignUp::new("CUSTOMER-9").unwrap();
        let sign_up = sign_up.with_email("ada@example.com").with_name("Adalina");
        let sign_up = sign_up.with_surname("Lovelace");
        sign_up.with_credit(clicked("PARTNER_77", "clk_4711"))
    };
    let amount = Money::new("99.99", "EUR").unwrap();
    let sale = Sale::new("ORDER-1", "CUSTOMER-9", amount).unwrap();
    let sale = sale.with_credit(clicked("PARTNER_77", "clk_4711"));
    let sale = sale.with_email("ada@example.com").with_name("Adalina");
    let sale = sale.with_surname("Lovelace");
    let guest = Sale::guest("ORDER-2", sign_up(), amount).unwrap();
    let reports = [sign_up().into(), sale.into(), guest.into()];
    tell(&reports, &SECRETS[..7], platform).await
}

async fn tell<P: ReportApi>(
    reports: &[Report],
    secrets: &[&str],
    platform: impl Fn() -> P,
) -> usize {
    let secrets = secrets.join(" ");
    let encoded = "ada%40example.com";
    let mut errors = 0;
    for body in [
        format!(
            r#"{{"message":"odd: {secrets} {encoded}","errors":{{"{secrets}":["{secrets}"]}}}}"#
        ),
        format!(r#"{{"error":{{"nested":"{}"}}}}"#, secrets.to_uppercase()),
        format!("<h1>{secrets}</h1> {encoded}"),
        // Where it is cut off, nothing is left of a secret.
        format!("{}PARTNER_77", "x".repeat(495)),
    ] {
        for status in [400, 401, 402, 404, 422, 429, 500, 200] {
            for report in reports {
                let stand_in = StandIn::new(vec![(status, &*body); 8]);
                let client = stand_in.client(platform());
                if let Err(error) = client.report(report.clone()).await {
                    assert_clean(&format!("the error of {status}"), &shown(&error));
                    assert!(!shown(&error).contains("PARTNER"));
                    errors += 1;
                }
            }
        }
    }
    errors
}

/// A tracker whose secret is in the URL.
fn postback(secret: &str) -> Postback {
    let of = |rest| format!("https://tracker.example/{secret}?c={{click_id}}&t={secret}&{rest}");
    Postback::builder(of(
        "o={order}&k={key}&coupon={coupon}&fact={fact}&u={customer}",
    ))
    .sign_ups(of("u={customer}&e={email}&n={name}&s={surname}"))
    .without_refunds()
    .extra_params(["fact"])
    .build()
    .unwrap()
}

#[tokio::test]
async fn nothing_leaks() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let api_key = SECRETS[0];

    let errors = tell_all(|| Partnac::new(api_key).unwrap()).await
        + tell_all(|| Partnero::new(api_key).unwrap().leave_out_coupons()).await
        + tell_all(|| PartneroFriends::new(api_key).unwrap().leave_out_coupons()).await
        + tell_all(|| Tapfiliate::new(api_key).unwrap()).await
        + tell_all(|| Dub::new(api_key).unwrap().leave_out_coupons()).await
        + tell_all(|| Affonso::new(api_key, "prog_1").unwrap().leave_out_coupons()).await
        + tell_all(|| postback(api_key)).await;
    #[cfg(feature = "awin")]
    let errors = errors + tell_bare(|| Awin::new(api_key, 1).unwrap()).await;
    #[cfg(feature = "firstpromoter")]
    let errors = errors + tell_bare(|| FirstPromoter::new(api_key, "acc").unwrap()).await;
    #[cfg(feature = "tolt")]
    let errors = errors + tell_bare(|| Tolt::new(api_key).unwrap()).await;
    assert!(errors > 200, "{errors}");

    let logged = log.take();
    assert!(
        logged.matches("advice=").count() >= errors,
        "nothing was logged"
    );
    assert!(logged.contains(r#"order="ORDER-1""#), "{logged}");
    assert_clean("the log", &logged);

    for debug in [
        format!("{:?}", Partnac::new(api_key)),
        format!("{:?}", Partnero::new(api_key)),
        format!("{:?}", PartneroFriends::new(api_key)),
        format!("{:?}", Tapfiliate::new(api_key)),
        format!("{:?}", Dub::new(api_key)),
        format!("{:?}", Affonso::new(api_key, "prog_1")),
        format!("{:?}", postback(api_key)),
        format!(
            "{:?}",
            postback(api_key).begin(&reports()[0], &PlatformIds::default())
        ),
        format!("{:?}", reports()),
        format!(
            "{:?}",
            Partnac::new(api_key)
                .unwrap()
                .begin(&reports()[0], &PlatformIds::default())
                .unwrap()
        ),
    ] {
        // A request's body is the caller's own, and `Bytes` shows it.
        let debug = debug.split("body:").next().unwrap();
        assert_clean("Debug", debug);
    }
}

/// What a click tells of the visitor, and what a report may tell beside it.
const OF_THE_VISITOR: [&str; 5] = [
    "PARTNER_77",
    "203.0.113.77",
    "Adas-Browser/7.0",
    "https://blog.example/ada",
    "https://shop.example/for-ada?via=PARTNER_77",
];

fn echo() -> String {
    format!(r#"{{"message":"odd: {}"}}"#, OF_THE_VISITOR.join(" , "))
}

fn assert_hides_the_visitor(error: &Error) {
    let Error::Rejected { message, .. } = error else {
        panic!("{error}");
    };
    let shown = format!("{error} {error:?} {}", message.as_str());
    for secret in OF_THE_VISITOR {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

/// A click of a platform's, by every way that makes one.
async fn make_clicks<P>(platform: P)
where
    P: ClickApi + Send + Sync + 'static,
{
    let click = ClickRequest::new("PARTNER_77".parse().unwrap(), OF_THE_VISITOR[4])
        .with_referrer(OF_THE_VISITOR[3])
        .with_ip(OF_THE_VISITOR[1].parse().unwrap())
        .with_user_agent(OF_THE_VISITOR[2]);
    let stand_in = StandIn::new(vec![(422, &*echo()); 2]);
    let client = stand_in.client(platform);
    assert_hides_the_visitor(&client.create_click(&click).await.unwrap_err());
    let made = client.clicks().oneshot(click).await;
    assert_hides_the_visitor(&made.unwrap_err());
}

#[tokio::test]
async fn nothing_of_the_visitor_comes_back_from_a_click() {
    make_clicks(Partnac::new("key").unwrap()).await;
    make_clicks(Tapfiliate::new("key").unwrap()).await;
    make_clicks(Affonso::new("key", "prog_1").unwrap()).await;
    #[cfg(feature = "tolt")]
    make_clicks(Tolt::new("key").unwrap()).await;

    let landing = Landing::new("PARTNER_77".parse().unwrap(), OF_THE_VISITOR[4])
        .referrer(OF_THE_VISITOR[3])
        .ip(OF_THE_VISITOR[1].parse().unwrap());
    // It has no browser.
    let body = echo().replace(OF_THE_VISITOR[2], "");
    let stand_in = StandIn::new([(422, &*body)]);
    let client = stand_in.client(Partnac::new("key").unwrap());
    let error = client.create_landing_click(&landing).await.unwrap_err();
    assert_hides_the_visitor(&error);
}

#[tokio::test]
async fn the_visitors_address_does_not_come_back_from_a_report() {
    let ip = || OF_THE_VISITOR[1].parse::<std::net::IpAddr>().unwrap();
    let amount = Money::new("99.99", "EUR").unwrap();
    let sale = Sale::new("ORDER-1", "CUSTOMER-9", amount).unwrap();
    let sale = sale.with_credit(clicked("PARTNER_77", "clk_4711"));
    let sale = sale.with_user_agent(OF_THE_VISITOR[2]).with_ip(ip());
    let body = format!(
        r#"{{"message":"{} is blocked"}}"#,
        OF_THE_VISITOR[1..3].join(" ")
    );
    for status in [400, 500] {
        let answers = || StandIn::new(vec![(status, &*body); 8]);
        let partnac = answers().client(Partnac::new("key").unwrap());
        let tapfiliate = answers().client(Tapfiliate::new("key").unwrap());
        let affonso = answers().client(Affonso::new("key", "prog_1").unwrap());
        for result in [
            partnac.report(sale.clone()).await,
            tapfiliate.report(sale.clone()).await,
            affonso.report(sale.clone()).await,
        ] {
            assert_hides_the_visitor(result.unwrap_err().error());
        }
    }
}
