//! What a platform can be told to do in another way: which credit wins, how refunds are done, late
//! conversions; and that what it has no place for is refused by name.

use serde_json::json;
use tower_referral_platforms::affiliate::partnac::click_id_cookie;
use tower_referral_platforms::{
    Advice, Error, Money, Outcome, Partnac, Partnero, PartneroFriends, PlatformIds, Refund,
    RefundReversal, Report, ReportApi, ReportRequest, Sale, SaleUpdate, SignUp, Tapfiliate,
    Unsupported,
};

use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn sale() -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", euros("100")).unwrap()
}

fn partnero() -> Partnero {
    Partnero::new("k").unwrap()
}

fn tapfiliate() -> Tapfiliate {
    Tapfiliate::new("k").unwrap()
}

#[tokio::test]
async fn which_credit_wins_is_one_setting() {
    let both = || {
        sale()
            .with_credit(clicked("P", "clk_1"))
            .with_coupon("SUMMER")
    };
    let refused = (422, "{}");
    let platform = StandIn::new([refused, refused, (200, r#"{"id":1}"#)]);
    let partnac = Partnac::new("k").unwrap().coupon_wins();
    assert_eq!(
        platform.client(partnac).outcome(both()).await,
        Ok(Outcome::Recorded)
    );
    let asked = platform.asked().into_iter().map(|asked| asked.json());
    let codes: Vec<_> = asked
        .map(|json| (json["partnership_code"].clone(), json["session_id"].clone()))
        .collect();
    let none = json!(null);
    assert_eq!(
        codes,
        [
            ("SUMMER".into(), none.clone()),
            ("P".into(), "clk_1".into()),
            ("P".into(), none)
        ]
    );

    let platform = StandIn::new([(200, r#"{"id":1}"#), (200, r#"{"id":1}"#)]);
    platform.client(tapfiliate()).report(both()).await.unwrap();
    platform
        .client(tapfiliate().coupon_wins())
        .report(both())
        .await
        .unwrap();
    assert_eq!(platform.asked()[0].json()["click_id"], "clk_1");
    assert_eq!(platform.asked()[1].json()["coupon"], "SUMMER");
    assert_eq!(platform.asked()[1].json().get("click_id"), None);
}

#[tokio::test]
async fn tapfiliate_can_let_late_conversions_count() {
    let platform = StandIn::new([(200, r#"{"id":1}"#)]);
    let late = tapfiliate().override_max_cookie_time();
    platform.client(late).report(sale()).await.unwrap();
    let line = "POST /1.6/conversions/?override_max_cookie_time=true";
    assert_eq!(platform.only().line, line);
}

const LISTED: &str = r#"[{"id":7,"external_id":"ORDER-1","amount":100,"currency":"EUR",
    "commissions":[{"id":31},{"id":"32"}]}]"#;

#[tokio::test]
async fn tapfiliate_disapproves_where_it_is_told_to() {
    let disapproves = || tapfiliate().disapprove_refunds();
    for (report, method) in [
        (Report::from(Refund::whole("ORDER-1").unwrap()), "DELETE"),
        (RefundReversal::whole("ORDER-1").unwrap().into(), "PUT"),
    ] {
        let platform = StandIn::new([(200, LISTED), (200, r#"{"id":1}"#), (404, "{}")]);
        let outcome = platform.client(disapproves()).outcome(report).await;
        assert_eq!(outcome, Ok(Outcome::Recorded));
        let approvals = [32, 31].map(|id| format!("{method} /1.6/commissions/{id}/approved/"));
        assert_eq!(platform.lines()[1..], approvals);
    }
}

/// What the books report is told in `tests/payment/reversals.rs`; this is what only a shop may say.
#[tokio::test]
async fn tapfiliate_gives_back_what_a_reversal_says_is_left() {
    let whole = || RefundReversal::whole("ORDER-1").unwrap();
    let part = || RefundReversal::part("ORDER-1", euros("10")).unwrap();
    let left = |amount: Option<Money>| {
        part()
            .with_sale_amount(euros("120"))
            .with_total_refunded(amount)
    };
    let kind = Unsupported::Kind("refund_reversal");
    for (reversal, refusal) in [
        // What was deleted can't be given back, and nobody knows the amount of what wasn't.
        (whole(), kind),
        (part(), Unsupported::MissingField("sale_amount")),
        (left(None), Unsupported::MissingField("total_refunded")),
        (
            left(Some(euros("120"))),
            Unsupported::Value("total_refunded"),
        ),
        (
            left(Some(euros("121"))),
            Unsupported::Value("total_refunded"),
        ),
    ] {
        let platform = StandIn::new([]);
        let result = platform.client(tapfiliate()).outcome(reversal).await;
        let error = result.unwrap_err();
        assert_eq!(*error.error(), Error::Unsupported(refusal));
    }
    let made = (200, r#"{"id":1}"#);
    for (reversal, amount) in [
        (whole().with_sale_amount(euros("120")), json!(120)),
        (left(Some(euros("10"))), json!(110)),
        // The refund never arrived, and another one is in the amount.
        (left(Some(euros("25"))), json!(95)),
    ] {
        let platform = StandIn::new([(200, LISTED), made]);
        let outcome = platform.client(tapfiliate()).outcome(reversal).await;
        assert_eq!(outcome, Ok(Outcome::Recorded));
        assert_eq!(platform.asked()[1].json(), json!({ "amount": amount }));
    }
    // It was there before.
    let platform = StandIn::new([(200, LISTED)]);
    let there = left(Some(euros("20")));
    let outcome = platform.client(tapfiliate()).outcome(there).await;
    assert_eq!(outcome, Ok(Outcome::Duplicate));
    // A part of what nobody was credited with.
    let platform = StandIn::new([(200, "[]")]);
    let nobodys = left(Some(euros("20")));
    let outcome = platform.client(tapfiliate()).outcome(nobodys).await;
    assert_eq!(outcome, Ok(Outcome::NotAttributed));
    // Somebody deleted it meanwhile.
    let platform = StandIn::new([(200, LISTED), (404, "{}")]);
    let reversal = left(Some(euros("10")));
    let error = platform.client(tapfiliate()).outcome(reversal).await;
    assert_eq!(error.unwrap_err().advice(), Advice::Permanent);
    // Whatever happens in between, it may be sent again.
    assert!(tapfiliate().deduplicates(&left(Some(euros("10"))).into()));
}

#[tokio::test]
async fn tapfiliate_approves_after_the_amount_is_set() {
    let answers = [(200, LISTED), (200, r#"{"id":1}"#), (204, ""), (204, "")];
    let platform = StandIn::new(answers);
    let reversal = RefundReversal::part("ORDER-1", euros("30")).unwrap();
    let reversal = reversal
        .with_sale_amount(euros("100"))
        .with_total_refunded(euros("70"));
    let outcome = platform
        .client(tapfiliate().disapprove_refunds())
        .outcome(reversal)
        .await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(platform.asked()[1].json(), json!({"amount": 30}));
    assert_eq!(
        platform.lines()[1..],
        [
            "PATCH /1.6/conversions/7/?recalculate_commissions=true",
            "PUT /1.6/commissions/32/approved/",
            "PUT /1.6/commissions/31/approved/",
        ]
    );
}

#[tokio::test]
async fn tapfiliate_takes_a_new_amount() {
    let update = |amount| {
        SaleUpdate::new("ORDER-1", "u1")
            .unwrap()
            .with_amount(amount)
    };
    let platform = StandIn::new([
        (200, LISTED),
        (200, r#"{"id":1}"#),
        (200, LISTED),
        (200, LISTED),
    ]);
    let client = platform.client(tapfiliate());
    client
        .report(update(euros("120")).recalculate_commissions())
        .await
        .unwrap();
    assert_eq!(
        platform.lines()[1],
        "PATCH /1.6/conversions/7/?recalculate_commissions=true"
    );
    assert_eq!(platform.asked()[1].json(), json!({"amount": 120}));
    let dollars = Money::new("1", "USD").unwrap();
    let error = client.report(update(dollars)).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::RefundInOtherCurrency)
    );
    for (update, reason) in [
        (
            update(euros("1")).with_metadata("a", 1),
            Unsupported::Field("metadata"),
        ),
        (
            SaleUpdate::new("ORDER-1", "u2").unwrap(),
            Unsupported::MissingField("amount"),
        ),
    ] {
        let error = client.report(update).await.unwrap_err();
        assert_eq!(*error.error(), Error::Unsupported(reason));
    }
}

fn part(amount: &str, total: &str) -> Refund {
    Refund::part("ORDER-1", euros(amount))
        .unwrap()
        .with_customer("CUSTOMER-1")
        .unwrap()
        .with_sale_amount(euros("100"))
        .with_total_refunded(euros(total))
}

#[tokio::test]
async fn parts_that_make_the_whole_take_the_sale_back_at_partnero() {
    let platform = StandIn::new([(200, r#"{"status":1}"#), (200, r#"{"status":1}"#)]);
    let client = platform.client(partnero());
    let error = client.report(part("30", "30")).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::PartialRefund)
    );
    assert_eq!(
        client.outcome(part("70", "100")).await,
        Ok(Outcome::Recorded)
    );
    // One part that is all of it.
    let all = Refund::part("ORDER-1", euros("100")).unwrap();
    let all = all.with_sale_amount(euros("100"));
    assert_eq!(client.outcome(all).await, Ok(Outcome::Recorded));
    assert_eq!(platform.lines(), ["DELETE /v1/transactions/ORDER-1"; 2]);
}

const DONE: (u16, &str) = (200, r#"{"data":{"key":"ORDER-1"},"status":1}"#);

#[tokio::test]
async fn a_part_is_a_smaller_sale_at_partnero_where_it_is_told_to() {
    let replaces = || partnero().replace_partly_refunded();
    let platform = StandIn::new([(200, r#"{"status":1}"#), DONE]);
    let outcome = platform.client(replaces()).outcome(part("30", "30")).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(
        platform.lines(),
        ["DELETE /v1/transactions/ORDER-1", "POST /v1/transactions"]
    );
    let smaller = json!({
        "customer": {"key": "CUSTOMER-1"},
        "key": "ORDER-1",
        "amount": 70,
        "amount_units": "EUR",
        "action": "sale",
    });
    assert_eq!(platform.asked()[1].json(), smaller);

    // It was nobody's; and what it takes is said by name.
    let platform = StandIn::new([(404, "{}")]);
    let client = platform.client(replaces());
    assert_eq!(
        client.outcome(part("30", "30")).await,
        Ok(Outcome::NotAttributed)
    );
    let bare = Refund::part("ORDER-1", euros("30")).unwrap();
    let error = client.report(bare).await.unwrap_err();
    let missing = Unsupported::MissingField("customer");
    assert_eq!(*error.error(), Error::Unsupported(missing));

    // The second call never left or was put off: the next attempt goes on there.
    let platform = StandIn::new([(200, r#"{"status":1}"#), (429, ""), DONE]);
    let client = platform.client(replaces());
    let error = client.report(part("30", "30")).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Retry { after: None });
    let again = ReportRequest::new(part("30", "30")).with_ids(error.ids().clone());
    client.send_report(&again).await.unwrap();
    assert_eq!(platform.lines()[2], "POST /v1/transactions");

    // Nobody knows whether it arrived: the customer's transactions tell.
    for (list, expected, requests) in [
        (
            r#"{"data":[{"key":"ORDER-1","amount":70}]}"#,
            Ok(Outcome::Duplicate),
            3,
        ),
        (
            r#"{"data":[{"key":"ORDER-1","amount":"100.00"}]}"#,
            Ok(Outcome::Recorded),
            5,
        ),
        (r#"{"data":[]}"#, Err(Advice::Ambiguous), 3),
        (
            r#"{"data":[{"key":"ORDER-1","amount":5}]}"#,
            Err(Advice::Ambiguous),
            3,
        ),
    ] {
        let done = (200, r#"{"status":1}"#);
        let platform = StandIn::new([done, (503, ""), (200, list), done, DONE]);
        let client = platform.client(replaces());
        let error = client.report(part("30", "30")).await.unwrap_err();
        assert_eq!(error.advice(), Advice::Ambiguous);
        assert!(error.can_be_settled());
        let again = ReportRequest::new(part("30", "30"))
            .with_ids(error.ids().clone())
            .may_have_arrived(true);
        let outcome = client.send_report(&again).await;
        let outcome = outcome.map(|receipt| receipt.outcome());
        assert_eq!(outcome.map_err(|error| error.advice()), expected, "{list}");
        assert_eq!(platform.asked().len(), requests, "{list}");
    }
}

/// The sale is deleted, the answer is lost, the list shows nothing, and a person sends the refund again.
#[tokio::test]
async fn a_sale_at_partnero_that_was_deleted_for_a_refund_comes_back_smaller() {
    let done = (200, r#"{"status":1}"#);
    let gone = (404, "{}");
    let platform = StandIn::new([DONE, (503, ""), (200, r#"{"data":[]}"#), gone, DONE, gone]);
    let client = platform.client(partnero().replace_partly_refunded());
    let sold = client.report(sale()).await.unwrap();
    let refund = |ids| ReportRequest::new(part("30", "30")).with_ids(ids);
    let error = client.send_report(&refund(sold.ids().clone())).await;
    let lost = error.unwrap_err();
    let ids = lost.ids().clone().or(sold.ids());
    let again = refund(ids.clone()).may_have_arrived(true);
    let error = client.send_report(&again).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Ambiguous);
    let receipt = client.send_report(&refund(ids)).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::Recorded);
    let smaller = platform.asked()[4].json();
    assert_eq!(
        (&smaller["key"], &smaller["amount"]),
        (&json!("ORDER-1"), &json!(70))
    );
    // What was gone before the refund isn't made again.
    let receipt = client
        .send_report(&refund(sold.ids().clone()))
        .await
        .unwrap();
    assert_eq!(receipt.outcome(), Outcome::NotAttributed);

    // The list may be older than what was deleted.
    let listed = r#"{"data":[{"key":"ORDER-1","amount":100}]}"#;
    for deleted in [done, gone] {
        let platform = StandIn::new([(200, listed), deleted, DONE]);
        let client = platform.client(partnero().replace_partly_refunded());
        let again = refund(PlatformIds::default()).may_have_arrived(true);
        let receipt = client.send_report(&again).await.unwrap();
        assert_eq!(receipt.outcome(), Outcome::Recorded);
    }
}

#[test]
fn what_a_platform_has_no_place_for_is_refused_by_name() {
    let ip = "192.0.2.1".parse::<std::net::IpAddr>().unwrap();
    let at = time::OffsetDateTime::UNIX_EPOCH;
    let signed_up = || SignUp::new("c").unwrap().with_credit(credit("P"));
    let sold = || sale().with_credit(credit("P"));
    let keep = Refund::whole("o")
        .unwrap()
        .with_reverse_paid_earnings(false);
    type Case = (Report, &'static str, [bool; 4]);
    // Taken by Partnac, Partnero, friends, Tapfiliate?
    let cases: [Case; 15] = [
        (
            sold().with_coupon("S").into(),
            "coupon",
            [true, false, false, true],
        ),
        (
            sold().with_campaign("c").into(),
            "campaign",
            [true, false, false, false],
        ),
        (
            sold().with_action("custom").into(),
            "action",
            [true, true, true, false],
        ),
        (sold().with_ip(ip).into(), "ip", [true, false, false, true]),
        (
            sold().with_user_agent("x").into(),
            "user_agent",
            [true, false, false, true],
        ),
        (
            sold().with_metadata("a", 1).into(),
            "metadata",
            [true, false, true, true],
        ),
        (
            sold().with_commission_type("x").into(),
            "commission_type",
            [true, false, false, true],
        ),
        (sold().with_product("x").into(), "product", [true; 4]),
        (
            sold().with_subscription("month").into(),
            "interval",
            [true; 4],
        ),
        (sold().with_paid_at(at).into(), "paid_at", [true; 4]),
        (
            signed_up().with_tag("vip").into(),
            "tags",
            [true, true, false, false],
        ),
        (
            signed_up().with_referral_url("https://a.example").into(),
            "referral_url",
            [true, true, false, false],
        ),
        (
            signed_up().with_date_of_birth("1990-01-01").into(),
            "date_of_birth",
            [false, false, true, false],
        ),
        (
            signed_up().with_signed_up_at(at).into(),
            "signed_up_at",
            [true, false, false, true],
        ),
        (
            keep.into(),
            "reverse_paid_earnings",
            [true, false, false, false],
        ),
    ];
    for (report, field, expected) in cases {
        let none = PlatformIds::default();
        let refusals = [
            Partnac::new("k").unwrap().begin(&report, &none).err(),
            partnero().begin(&report, &none).err(),
            PartneroFriends::new("k")
                .unwrap()
                .begin(&report, &none)
                .err(),
            tapfiliate().begin(&report, &none).err(),
        ];
        for (refusal, is_taken) in refusals.into_iter().zip(expected) {
            let refused = Error::Unsupported(Unsupported::Field(field));
            assert_eq!(refusal, (!is_taken).then_some(refused), "{field}");
        }
    }
    let coupon = Report::from(sold().with_coupon("S"));
    let leaves_out = partnero().leave_out_coupons();
    assert!(leaves_out.begin(&coupon, &PlatformIds::default()).is_ok());
}

#[test]
fn the_scripts_click_id_is_read_from_its_cookie() {
    let mut headers = http::HeaderMap::new();
    let read = |headers: &http::HeaderMap| {
        let id = click_id_cookie(headers, "partnac_click_id");
        id.map(|id| id.as_str().to_owned())
    };
    assert_eq!(read(&headers), None);
    for line in [
        "xpartnac_click_id=no; partnac_click_id=",
        "a=b;partnac_click_id=clk%5F1 ; c",
    ] {
        headers.append("cookie", line.parse().unwrap());
    }
    assert_eq!(read(&headers).as_deref(), Some("clk_1"));
}
