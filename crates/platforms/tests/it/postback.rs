//! The generic postback: what is refused when it is built, what the tracker is told, and what is made
//! of its answers.

use time::macros::datetime;
use tower_referral_platforms::affiliate::postback::{Body, Builder, DeduplicatedBy, Problem};
use tower_referral_platforms::{
    Advice, Cancellation, Client, ConfigError, Credit, Error, Money, Outcome, PlatformId,
    PlatformIds, Postback, Refund, Report, ReportApi as _, ReportRequest, Sale, SignUp,
    Unsupported,
};

use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

const SALE: &str = "https://tracker.example/s3cret-path/pb?cid={click_id}&tx={order}&token=S3CRET";
const REFUND: &str = "https://tracker.example/back?cid={click_id}&tx={order}&amount={amount}";

fn builder() -> Builder {
    Postback::builder(SALE).without_refunds()
}

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn sale() -> Sale {
    let sale = Sale::new("ORDER-1", "CUSTOMER-1", euros("99.90")).unwrap();
    sale.with_credit(clicked("PARTNER_1", "clk_1"))
}

fn client(builder: Builder, platform: &StandIn) -> Client<Postback, StandIn> {
    platform.client(builder.build().unwrap())
}

fn problem(builder: Builder) -> Problem {
    let error = builder.build().unwrap_err();
    let shown = format!("{error} {error:?}");
    for secret in ["tracker.example", "s3cret", "S3CRET"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    match error {
        ConfigError::InvalidPostback { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_wrong_with_a_template_is_said_when_it_is_built() {
    let of = |rest: &str| Postback::builder(format!("{SALE}{rest}")).without_refunds();
    let name = |name: &str| name.to_owned();
    let whole = |text: &str| Postback::builder(text).without_refunds();
    let missing = |name| Problem::MissingMacro { name };
    for (builder, expected) in [
        (
            of("&a={clickid}"),
            Problem::UnknownMacro {
                name: name("clickid"),
            },
        ),
        (
            of("&a={sub1}"),
            Problem::UnknownMacro { name: name("sub1") },
        ),
        (
            of("&a={S3CRET and more}"),
            Problem::UnknownMacro { name: name("") },
        ),
        (
            of("&a={refund}"),
            Problem::NotInReport {
                name: name("refund"),
            },
        ),
        (of("&a={order"), Problem::UnbalancedBrace),
        (of("&a=order}"), Problem::UnbalancedBrace),
        (of("&a={{order}}"), Problem::UnbalancedBrace),
        (of("&{key}=1"), Problem::MisplacedMacro),
        (of("&a=1&{key}"), Problem::MisplacedMacro),
        (of("&a=b c"), Problem::InvalidUrl),
        (of("&a=ü"), Problem::InvalidUrl),
        (of("#fragment"), Problem::InvalidUrl),
        (
            whole("https://tracker.example/?tx={order}"),
            missing("click_id"),
        ),
        (
            whole("https://tracker.example/?cid={click_id}"),
            missing("order"),
        ),
        (whole("https://tracker.example/"), missing("click_id")),
        (
            whole("https://{key}.example/?a={order}"),
            Problem::MisplacedMacro,
        ),
        (
            whole("https://tracker.example/{click_id}?a={order}"),
            Problem::MisplacedMacro,
        ),
        (
            whole("http://tracker.example/?c={click_id}&o={order}"),
            Problem::InvalidUrl,
        ),
        (
            whole("https://u:S3CRET@tracker.example/?c={click_id}&o={order}"),
            Problem::InvalidUrl,
        ),
        (
            whole("tracker.example?c={click_id}&o={order}"),
            Problem::InvalidUrl,
        ),
        (whole(""), Problem::InvalidUrl),
        (Postback::builder(SALE), Problem::RefundsUndecided),
        (
            builder().refunds("https://tracker.example/?a={amount}"),
            missing("order"),
        ),
        (
            builder().refunds("https://tracker.example/?o={order}&k={key}"),
            Problem::NotInReport { name: name("key") },
        ),
        (
            builder().sign_ups("https://tracker.example/?c={click_id}"),
            missing("customer"),
        ),
        (
            builder().sign_ups("https://tracker.example/?c={click_id}&u={customer}&a={amount}"),
            Problem::NotInReport {
                name: name("amount"),
            },
        ),
        (
            builder().extra_params(["order"]),
            Problem::InvalidExtra {
                name: name("order"),
            },
        ),
        (
            builder().extra_params(["a b"]),
            Problem::InvalidExtra { name: name("") },
        ),
        (
            builder().success_if(Body::contains("")),
            Problem::InvalidRule,
        ),
        (
            builder().success_if(Body::json("status", 1)),
            Problem::InvalidRule,
        ),
        (
            builder().deduplicated_by(DeduplicatedBy::Refund),
            Problem::UnsentField,
        ),
        (
            builder().deduplicated_by(DeduplicatedBy::Customer),
            Problem::UnsentField,
        ),
        // Refunds of two orders may have one ID.
        (
            Postback::builder(SALE)
                .refunds(format!("{REFUND}&id={{refund}}"))
                .deduplicated_by(DeduplicatedBy::Refund),
            Problem::UnsentField,
        ),
    ] {
        assert_eq!(problem(builder), expected);
    }
    // A stand-in on this machine.
    let local = whole("http://127.0.0.1:8080/?c={click_id}&o={order}");
    assert!(local.build().is_ok());
}

#[tokio::test]
async fn every_macro_is_filled_and_encoded() {
    let names = [
        "click_id",
        "key",
        "partner_id",
        "source",
        "order",
        "customer",
        "amount",
        "amount_minor",
        "currency",
        "event",
        "coupon",
        "email",
        "name",
        "surname",
        "ip",
        "user_agent",
        "referral_url",
        "campaign",
        "product",
        "product_type",
        "commission_type",
        "interval",
        "time",
        "sub1",
        "plan",
        "absent",
    ];
    let pairs: Vec<_> = names
        .iter()
        .map(|name| format!("{name}={{{name}}}"))
        .collect();
    let template = format!("https://tracker.example/pb?{}&end", pairs.join("&"));
    let builder = || {
        Postback::builder(&*template)
            .without_refunds()
            .extra_params(["sub1", "plan", "absent"])
    };
    let credit = clicked("P=1", "clk/1?=")
        .with_partner_id(PlatformId::new("part_1"))
        .with_source("parameter")
        .with_extra("sub1", "a b+c");
    let report = || {
        Sale::new("ORDER 1&x=y", "Zoë", euros("99.90"))
            .unwrap()
            .with_credit(credit.clone())
            .with_coupon("50%")
            .with_email("ada@example.com")
            .with_name("Ada")
            .with_surname("Lovelace")
            .with_ip("2001:db8::1".parse::<std::net::IpAddr>().unwrap())
            .with_user_agent("Mozilla/5.0 (x)")
            .with_referral_url("https://shop.example/?aff=P")
            .with_campaign("spring")
            .with_product("prod_1")
            .with_product_type("t~")
            .with_commission_type("c")
            .with_subscription("month")
            .with_paid_at(datetime!(2026-11-20 12:00 UTC))
            .with_metadata("plan", "pro#1")
    };
    let expected = "click_id=clk%2F1%3F%3D&key=P%3D1&partner_id=part_1&source=parameter\
        &order=ORDER%201%26x%3Dy&customer=Zo%C3%AB&amount=99.9&amount_minor=9990&currency=EUR\
        &event=sale&coupon=50%25&email=ada%40example.com&name=Ada&surname=Lovelace\
        &ip=2001%3Adb8%3A%3A1&user_agent=Mozilla%2F5.0%20%28x%29\
        &referral_url=https%3A%2F%2Fshop.example%2F%3Faff%3DP&campaign=spring&product=prod_1\
        &product_type=t~&commission_type=c&interval=month&time=1795176000&sub1=a%20b%2Bc\
        &plan=pro%231&absent=&end";
    let platform = StandIn::new([(200, "OK")]);
    let outcome = client(builder(), &platform).outcome(report()).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(platform.only().line, format!("GET /pb?{expected}"));
    assert_eq!(platform.only().text, "");

    let platform = StandIn::new([(200, "")]);
    let outcome = client(builder().post_form(), &platform)
        .outcome(report())
        .await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    let asked = platform.only();
    assert_eq!((&*asked.line, &*asked.text), ("POST /pb", expected));
    assert_eq!(
        asked.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
}

#[tokio::test]
async fn sign_ups_and_refunds_go_by_templates_of_their_own() {
    let builder = || {
        Postback::builder(SALE)
            .sign_ups("https://tracker.example/lead?cid={click_id}&u={customer}&e={event}")
            .refunds(
                "https://tracker.example/back?cid={click_id}&tx={order}&amount={amount}\
                 &minor={amount_minor}&cur={currency}&id={refund}&r={report}&e={event}&why={reason}",
            )
    };
    let platform = StandIn::new([(200, ""), (204, ""), (200, ""), (200, "")]);
    let tracker = client(builder(), &platform);
    let sign_up = SignUp::new("CUSTOMER-1").unwrap();
    let sign_up = sign_up
        .with_credit(clicked("P", "clk_1"))
        .with_action("trial");
    let lead = tracker.report(sign_up).await.unwrap();
    assert_eq!(lead.ids().click, PlatformId::new("clk_1"));

    // A renewal, by the click of its customer's sign-up; then what is taken back of it.
    let renewal = Sale::new("ORDER-2", "CUSTOMER-1", euros("9.90")).unwrap();
    let renewal = ReportRequest::new(renewal).with_ids(lead.ids().clone());
    let receipt = tracker.send_report(&renewal).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
    let part = Refund::part("ORDER-2", euros("5")).unwrap();
    let part = part.with_id("re_1").unwrap().with_reason("late");
    let whole = Refund::whole("ORDER-2").unwrap();
    for refund in [part, whole.clone().with_sale_amount(euros("9.90"))] {
        let refund = ReportRequest::new(refund).with_ids(receipt.ids().clone());
        assert!(tracker.send_report(&refund).await.unwrap().is_credited());
    }
    assert_eq!(
        platform.lines(),
        [
            "GET /lead?cid=clk_1&u=CUSTOMER-1&e=trial",
            "GET /s3cret-path/pb?cid=clk_1&tx=ORDER-2&token=S3CRET",
            "GET /back?cid=clk_1&tx=ORDER-2&amount=5&minor=500&cur=EUR&id=re_1\
             &r=refund%3AORDER-2%3Are_1&e=refund&why=late",
            "GET /back?cid=clk_1&tx=ORDER-2&amount=9.9&minor=990&cur=EUR\
             &id=refund%3AORDER-2&r=refund%3AORDER-2&e=refund&why=",
        ]
    );
    // What it was worth isn't known.
    let request = ReportRequest::new(whole.clone()).with_ids(receipt.ids().clone());
    let error = tracker.send_report(&request).await.unwrap_err();
    let missing = Unsupported::MissingField("sale_amount");
    assert_eq!(*error.error(), Error::Unsupported(missing));
    // Its sale was credited to nobody, or nobody knows.
    let request = ReportRequest::new(whole);
    let unrecorded = request.clone().sale_is_unrecorded(true);
    let receipt = tracker.send_report(&unrecorded).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::NotAttributed);
    let error = tracker.send_report(&request).await.unwrap_err();
    assert_eq!(*error.error(), Error::MissingId("click"));
}

#[tokio::test]
async fn what_has_no_click_or_no_template_is_not_sent() {
    let platform = StandIn::new([]);
    let tracker = client(builder(), &platform);
    let nobody = sale().with_credit(None::<Credit>);
    let keyed = sale().with_credit(credit("PARTNER_1"));
    let sign_up = SignUp::new("C").unwrap().with_credit(clicked("P", "c"));
    for report in [Report::from(nobody), keyed.into(), sign_up.into()] {
        assert_eq!(tracker.outcome(report).await, Ok(Outcome::NotAttributed));
    }
    let kinds = [
        (Report::from(Refund::whole("O").unwrap()), "refund"),
        (Cancellation::new("C").unwrap().into(), "cancellation"),
    ];
    for (report, kind) in kinds {
        let error = tracker.outcome(report).await.unwrap_err();
        assert_eq!(*error.error(), Error::Unsupported(Unsupported::Kind(kind)));
    }
    // The tracker would take all of it back.
    let refunds = "https://tracker.example/back?tx={order}&status=rejected";
    let tracker = client(Postback::builder(SALE).refunds(refunds), &platform);
    let part = Refund::part("O", euros("1")).unwrap();
    let error = tracker.outcome(part).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::PartialRefund)
    );
    // A fraction of a cent.
    let minor = format!("{SALE}&m={{amount_minor}}");
    let tracker = client(Postback::builder(minor).without_refunds(), &platform);
    let fraction = Sale::new("O", "C", euros("1.005"))
        .unwrap()
        .with_credit(clicked("P", "c"));
    let error = tracker.outcome(fraction).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::Value("amount"))
    );
}

#[tokio::test]
async fn what_no_url_holds_is_refused_and_a_form_takes_it() {
    let long = sale().with_metadata("note", "x".repeat(70_000));
    let template = format!("{SALE}&note={{note}}");
    let builder = || {
        Postback::builder(&*template)
            .without_refunds()
            .extra_params(["note"])
    };
    let platform = StandIn::new([]);
    let error = client(builder(), &platform).outcome(long.clone()).await;
    assert_eq!(error.unwrap_err().advice(), Advice::Permanent);
    let platform = StandIn::new([(200, "")]);
    let outcome = client(builder().post_form(), &platform).outcome(long).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
}

/// The result for an answer: an outcome, or an advice.
async fn made_of(builder: Builder, status: u16, body: &str) -> Result<Outcome, Advice> {
    let platform = StandIn::new([(status, body)]);
    let result = client(builder, &platform).outcome(sale()).await;
    result.map_err(|error| error.advice())
}

const RECORDED: Result<Outcome, Advice> = Ok(Outcome::Recorded);
const PERMANENT: Result<Outcome, Advice> = Err(Advice::Permanent);
const RETRY: Result<Outcome, Advice> = Err(Advice::Retry { after: None });
const AMBIGUOUS: Result<Outcome, Advice> = Err(Advice::Ambiguous);

#[tokio::test]
async fn a_success_is_a_2xx_that_does_not_say_no() {
    for (status, body, expected) in [
        (200, "OK", RECORDED),
        (200, "", RECORDED),
        (204, "", RECORDED),
        (200, r#"{"success":true}"#, RECORDED),
        (200, r#"{"success":false}"#, PERMANENT),
        (200, r#"{"status":"error"}"#, PERMANENT),
        (200, r#"{"success":"#, AMBIGUOUS),
        (200, "<html>log in</html>", AMBIGUOUS),
        (102, "", AMBIGUOUS),
        (302, "", AMBIGUOUS),
        (303, "OK", AMBIGUOUS),
        (307, "", RETRY),
        (400, "bad", PERMANENT),
        (401, "", RETRY),
        (403, "", RETRY),
        (404, "", PERMANENT),
        // Nobody said that this tracker recognises duplicates.
        (409, r#"{"message":"duplicate"}"#, PERMANENT),
        (429, "", RETRY),
        (500, "", AMBIGUOUS),
        (600, "OK", AMBIGUOUS),
    ] {
        assert_eq!(
            made_of(builder(), status, body).await,
            expected,
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn a_page_that_is_none_is_told_by_what_it_is() {
    // PHP says so of every text.
    let platform = StandIn::default();
    let answer = http::Response::builder().header("content-type", "text/html; charset=utf-8");
    platform.then(answer.body("OK".to_owned()).unwrap());
    let outcome = client(builder(), &platform).outcome(sale()).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
}

#[tokio::test]
async fn a_trackers_own_words_count_as_its_user_says() {
    let tune = || {
        builder()
            .success_if(Body::contains("success=true;"))
            .success_if(Body::lacks("warning"))
    };
    for (body, expected) in [
        ("success=true;", RECORDED),
        ("<p>success=true;</p>", RECORDED),
        ("{success=true;}", RECORDED),
        ("success=true; warning=cap;", PERMANENT),
        ("success=false; err_msg=no click;", PERMANENT),
        ("", PERMANENT),
    ] {
        assert_eq!(made_of(tune(), 200, body).await, expected, "{body}");
        let failed = made_of(tune(), 500, body).await;
        assert!(matches!(failed, AMBIGUOUS), "{body}: {failed:?}");
    }
    let everflow = || {
        builder()
            .success_if(Body::json("/code", 0))
            .duplicate_if(Body::json("/code", 8))
            .not_attributed_if(Body::json("/code", 13))
    };
    for (status, body, expected) in [
        (200, r#"{"code":0}"#, RECORDED),
        // Here, the user says that it is a success.
        (200, r#"{"code":0,"status":0}"#, RECORDED),
        (200, r#"{"code":8,"error":"dup"}"#, Ok(Outcome::Duplicate)),
        (400, r#"{"code":8}"#, Ok(Outcome::Duplicate)),
        (200, r#"{"code":13}"#, Ok(Outcome::NotAttributed)),
        (200, r#"{"code":"8"}"#, PERMANENT),
        (200, r#"{"code":80}"#, PERMANENT),
        (200, r#"[{"code":0}]"#, PERMANENT),
        (200, "{", AMBIGUOUS),
        (403, r#"{"code":8}"#, RETRY),
        (500, r#"{"code":8}"#, AMBIGUOUS),
    ] {
        assert_eq!(
            made_of(everflow(), status, body).await,
            expected,
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn a_long_answer_is_looked_through_to_its_end() {
    let rules = || {
        builder()
            .success_if(Body::contains("success=true;"))
            .success_if(Body::lacks("warning"))
            .duplicate_if(Body::contains("seen before"))
    };
    let after = |words: &str| format!("{}{words}", "some words more; ".repeat(3000));
    for (words, expected) in [
        ("success=true;", RECORDED),
        ("success=true; warning", PERMANENT),
        ("seen before", Ok(Outcome::Duplicate)),
        ("", PERMANENT),
    ] {
        assert_eq!(
            made_of(rules(), 200, &after(words)).await,
            expected,
            "{words}"
        );
    }
}

#[tokio::test]
async fn what_was_sent_and_comes_back_is_no_success() {
    let builder = builder().success_if(Body::contains("success=true;"));
    let report = sale().with_coupon("success=true;");
    let platform = StandIn::new([(200, "success=false; err_msg=coupon success=true; unknown")]);
    let error = client(builder, &platform)
        .outcome(report)
        .await
        .unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);
}

#[tokio::test]
async fn nothing_is_repeated_unless_the_user_says_by_what_it_is_recognised() {
    let refunds = format!("{REFUND}&id={{report}}");
    let all = || {
        Postback::builder(SALE)
            .sign_ups("https://tracker.example/lead?cid={click_id}&u={customer}")
            .refunds(&*refunds)
    };
    let reports = || {
        [
            Report::from(sale()),
            SignUp::new("C").unwrap().into(),
            Refund::whole("O").unwrap().into(),
        ]
    };
    for (by, expected) in [
        (None, [false; 3]),
        (Some(DeduplicatedBy::Order), [true, false, false]),
        (Some(DeduplicatedBy::Customer), [false, true, false]),
        (Some(DeduplicatedBy::Refund), [false, false, true]),
        (Some(DeduplicatedBy::ClickId), [true, true, false]),
    ] {
        let tracker = by
            .into_iter()
            .fold(all(), Builder::deduplicated_by)
            .build()
            .unwrap();
        assert_eq!(
            reports().map(|report| tracker.deduplicates(&report)),
            expected,
            "{by:?}"
        );
    }
    // A GET changes something, too.
    assert_eq!(made_of(all(), 500, "").await, AMBIGUOUS);
    assert_eq!(made_of(all().post_form(), 500, "").await, AMBIGUOUS);
    let by_order = || all().deduplicated_by(DeduplicatedBy::Order);
    assert_eq!(made_of(by_order(), 500, "").await, RETRY);

    let platform = StandIn::new([]);
    let again = ReportRequest::new(sale()).may_have_arrived(true);
    let error = client(all(), &platform)
        .send_report(&again)
        .await
        .unwrap_err();
    assert_eq!(error.advice(), Advice::Ambiguous);
    let platform = StandIn::new([(200, "")]);
    assert!(
        client(by_order(), &platform)
            .send_report(&again)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_url_is_shown_nowhere() {
    let secrets = ["S3CRET", "s3cret-path", "tracker.example"];
    let built = builder().build().unwrap();
    let step = built
        .begin(&sale().into(), &PlatformIds::default())
        .unwrap();
    let mut shown = format!("{:?} {built:?} {step:?}", builder());
    // The tracker sends all of it back.
    let echo = format!("odd: {SALE} S3CRET token=S3CRET /s3cret-path/pb s3cret-path clk_1 ORDER-1");
    for status in [200, 400, 500] {
        let rules = builder().success_if(Body::contains("success"));
        let platform = StandIn::new([(status, &*echo)]);
        let error = client(rules, &platform).outcome(sale()).await.unwrap_err();
        shown.push_str(&format!("{error} {error:?}"));
        let Error::Rejected { message, .. } = error.error() else {
            panic!("{error}");
        };
        assert!(message.as_str().starts_with("odd: "));
        shown.push_str(message.as_str());
    }
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn what_the_layer_kept_of_a_landing_is_stored_with_the_credit() {
    let report = Report::from(sale().with_credit(clicked("P", "c").with_extra("sub1", "a")));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["credit"]["extra"]["sub1"], "a");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}
