//! Partnero, affiliate and refer-a-friend: what it is told, and what is made of its answers.

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tower_referral_platforms::affiliate::partnero::PartnerBy;
use tower_referral_platforms::{
    Advice, Client, Error, Failure, Money, Outcome, Partnero, PartneroFriends, Refund,
    ReportRequest, Sale, SignUp, Unsupported,
};

use crate::stand_in::{ReportOutcome as _, StandIn, clicked, credit};

const RECORDED: Outcome = Outcome::Recorded;
const DONE: (u16, &str) = (
    200,
    r#"{"data":{"key":"k","partner":{"key":"P"},"referring_customer":{"key":"F"}},"status":1}"#,
);
const BAD_PARTNER: (u16, &str) = (400, r#"{"message":"Invalid partner key"}"#);
const BAD_CUSTOMER: (u16, &str) = (422, r#"{"errors":{"customer.key":["is invalid"]}}"#);
const TAKEN: (u16, &str) = (422, r#"{"message":"Duplicate key"}"#);

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn sign_up() -> SignUp {
    SignUp::new("CUSTOMER-1")
        .unwrap()
        .with_email("ada@example.com")
        .with_name("Ada")
        .with_surname("L")
}

fn sale() -> Sale {
    Sale::new("ORDER-1", "CUSTOMER-1", euros("99.99")).unwrap()
}

fn affiliates(platform: &StandIn) -> Client<Partnero, StandIn> {
    platform.client(Partnero::new("s3cret").unwrap())
}

fn friends(platform: &StandIn) -> Client<PartneroFriends, StandIn> {
    platform.client(PartneroFriends::new("s3cret").unwrap())
}

// --- Affiliates --------------------------------------------------------------------------------

#[tokio::test]
async fn a_sign_up_is_a_customer_of_the_partner() {
    let platform = StandIn::new([DONE]);
    let report = sign_up().with_credit(clicked("PARTNER_1", "clk_1"));
    assert_eq!(affiliates(&platform).outcome(report).await, Ok(RECORDED));
    let asked = platform.only();
    assert_eq!(asked.line, "POST /v1/customers");
    assert_eq!(asked.host, "api.partnero.com");
    assert_eq!(asked.headers["authorization"], "Bearer s3cret");
    assert_eq!(asked.headers["content-type"], "application/json");
    assert_eq!(asked.headers["accept"], "application/json");
    assert_eq!(
        asked.json(),
        json!({
            "partner": {"key": "PARTNER_1"},
            "key": "CUSTOMER-1",
            "email": "ada@example.com",
            "name": "Ada",
            "surname": "L",
        })
    );
}

#[tokio::test]
async fn without_a_referral_an_affiliate_sign_up_sends_nothing() {
    let platform = StandIn::new([]);
    let outcome = affiliates(&platform)
        .outcome(sign_up().with_coupon("SUMMER"))
        .await;
    assert_eq!(outcome, Ok(Outcome::NotAttributed));
    let guest = Sale::guest("ORDER-1", sign_up(), euros("1")).unwrap();
    assert_eq!(
        affiliates(&platform).outcome(guest).await,
        Ok(Outcome::NotAttributed)
    );
}

#[tokio::test]
async fn answers_to_a_sign_up() {
    for (answer, expected) in [
        (BAD_PARTNER, Outcome::NotAttributed),
        (
            (
                422,
                r#"{"errors":{"partner.key":["The selected partner.key is invalid."]}}"#,
            ),
            Outcome::NotAttributed,
        ),
        (TAKEN, Outcome::Duplicate),
        ((409, r#"{"message":"x"}"#), Outcome::Duplicate),
        (
            (422, r#"{"errors":{"key":["Duplicate key"]}}"#),
            Outcome::Duplicate,
        ),
        // "Ignored" as a 2xx.
        (
            (200, r#"{"data":{"key":"k","partner":null},"status":1}"#),
            Outcome::NotAttributed,
        ),
        ((200, r#"{"data":{"key":"k"}}"#), Outcome::NotAttributed),
        (DONE, RECORDED),
    ] {
        let platform = StandIn::new([answer]);
        let outcome = affiliates(&platform)
            .outcome(sign_up().with_credit(credit("P")))
            .await;
        assert_eq!(outcome, Ok(expected), "{answer:?}");
    }
    for answer in [
        (
            422,
            r#"{"message":"Partnero: the given data was invalid.","errors":{"email":["is no address"]}}"#,
        ),
        (200, r#"{"status":0}"#),
        (
            422,
            r#"{"errors":{"key":["The key has already been taken."]}}"#,
        ),
        (400, r#"{"message":"The key is no Duplicate key"}"#),
    ] {
        let platform = StandIn::new([answer]);
        let error = affiliates(&platform)
            .outcome(sign_up().with_credit(credit("P")))
            .await
            .unwrap_err();
        assert_eq!(error.advice(), Advice::Permanent, "{answer:?}");
    }
}

#[tokio::test]
async fn a_sale_names_its_customer() {
    let platform = StandIn::new([DONE]);
    let report = sale().with_product("prod_1").with_product_type("monthly");
    assert_eq!(affiliates(&platform).outcome(report).await, Ok(RECORDED));
    let asked = platform.only();
    assert_eq!(asked.line, "POST /v1/transactions");
    assert!(asked.text.contains(r#""amount":99.99,"#), "{}", asked.text);
    assert_eq!(
        asked.json(),
        json!({
            "customer": {"key": "CUSTOMER-1"},
            "key": "ORDER-1",
            "amount": 99.99,
            "amount_units": "EUR",
            "action": "sale",
            "product_id": "prod_1",
            "product_type": "monthly",
        })
    );
}

#[tokio::test]
async fn a_guest_and_the_sale_are_made_in_one_call() {
    let platform = StandIn::new([DONE]);
    let guest = Sale::guest(
        "ORDER-1",
        sign_up().with_credit(credit("PARTNER_1")),
        euros("5"),
    )
    .unwrap();
    assert_eq!(affiliates(&platform).outcome(guest).await, Ok(RECORDED));
    let asked = platform.only();
    assert_eq!(asked.line, "POST /v1/transactions");
    assert_eq!(
        asked.json(),
        json!({
            "customer": {
                "key": "CUSTOMER-1",
                "email": "ada@example.com",
                "name": "Ada",
                "surname": "L",
                "partner": {"key": "PARTNER_1"},
            },
            "key": "ORDER-1",
            "amount": 5,
            "amount_units": "EUR",
            "action": "sale",
            "options": {"create_customer": true},
        })
    );
}

#[tokio::test]
async fn a_customer_whom_nobody_knows_is_made_if_there_is_a_referral() {
    let referred = || sale().with_credit(credit("PARTNER_1"));
    for (report, answers, expected) in [
        (sale(), vec![BAD_CUSTOMER], Outcome::NotAttributed),
        (referred(), vec![BAD_CUSTOMER, DONE], RECORDED),
        (
            referred(),
            vec![BAD_CUSTOMER, BAD_PARTNER],
            Outcome::NotAttributed,
        ),
        // The customer came to be in the meantime.
        (referred(), vec![BAD_CUSTOMER, TAKEN, DONE], RECORDED),
        (
            referred(),
            vec![BAD_CUSTOMER, TAKEN, TAKEN],
            Outcome::Duplicate,
        ),
        (
            referred(),
            vec![BAD_CUSTOMER, TAKEN, BAD_CUSTOMER],
            Outcome::NotAttributed,
        ),
        (referred(), vec![TAKEN], Outcome::Duplicate),
        (referred(), vec![(409, "{}")], Outcome::Duplicate),
    ] {
        let platform = StandIn::new(answers.clone());
        let outcome = affiliates(&platform).outcome(report).await;
        assert_eq!(outcome, Ok(expected), "{answers:?}");
        assert_eq!(platform.asked().len(), answers.len());
    }
    // A guest who bought before.
    let platform = StandIn::new([TAKEN, DONE]);
    let guest = Sale::guest("ORDER-2", sign_up().with_credit(credit("P")), euros("5")).unwrap();
    assert_eq!(affiliates(&platform).outcome(guest).await, Ok(RECORDED));
    assert_eq!(
        platform.asked()[1].json()["customer"],
        json!({"key": "CUSTOMER-1"})
    );
}

#[tokio::test]
async fn several_sales_go_at_once() {
    let platform = StandIn::new([DONE, (500, "")]);
    let sales = [
        sale(),
        Sale::new("ORDER-2", "CUSTOMER-1", euros("0.1")).unwrap(),
    ];
    let receipt = affiliates(&platform).report_sales(&sales).await.unwrap();
    assert_eq!(receipt.outcome(), RECORDED);
    assert_eq!(
        platform.only().json(),
        json!({
            "customer": {"key": "CUSTOMER-1"},
            "transactions": [
                {"key": "ORDER-1", "amount": 99.99, "amount_units": "EUR", "action": "sale"},
                {"key": "ORDER-2", "amount": 0.1, "amount_units": "EUR", "action": "sale"},
            ],
        })
    );
    let error = friends(&platform).report_sales(&sales).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Ambiguous);
    let receipt = affiliates(&platform).report_sales(&[]).await.unwrap();
    assert_eq!(receipt.outcome(), Outcome::NotAttributed);
    let other = Sale::new("ORDER-3", "CUSTOMER-2", euros("1")).unwrap();
    let error = affiliates(&platform)
        .report_sales(&[sale(), other])
        .await
        .unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::Value("customer"))
    );
}

#[tokio::test]
async fn whole_sales_are_taken_back_and_parts_are_not() {
    for (answer, expected) in [
        ((200, r#"{"status":1}"#), RECORDED),
        ((204, ""), RECORDED),
        ((404, r#"{"message":"Not found"}"#), Outcome::NotAttributed),
    ] {
        let platform = StandIn::new([answer]);
        let refund = Refund::whole("ORDER/1").unwrap();
        assert_eq!(affiliates(&platform).outcome(refund).await, Ok(expected));
        assert_eq!(platform.only().line, "DELETE /v1/transactions/ORDER%2F1");
    }
    for (page, advice) in [
        ("<h1>Not Found</h1>", Advice::Retry { after: None }),
        ("[999]", Advice::Permanent),
    ] {
        let platform = StandIn::new([(404, page)]);
        let refund = Refund::whole("ORDER-1").unwrap();
        let error = affiliates(&platform).outcome(refund).await.unwrap_err();
        assert_eq!(error.advice(), advice, "{page}");
    }
    let platform = StandIn::new([]);
    let part = || Refund::part("ORDER-1", euros("1")).unwrap();
    for error in [
        affiliates(&platform).outcome(part()).await.unwrap_err(),
        friends(&platform).outcome(part()).await.unwrap_err(),
    ] {
        assert_eq!(
            *error.error(),
            Error::Unsupported(Unsupported::PartialRefund)
        );
        assert!(error.to_string().contains("whole sales only"));
        assert_eq!(error.advice(), Advice::Permanent);
    }
}

#[tokio::test]
async fn a_sale_whose_fate_is_unknown_is_never_sent_again() {
    let server_error = (502, "<h1>Bad Gateway</h1>");
    for (answers, report) in [
        (vec![server_error], sale()),
        (vec![(200, "{\"data\":")], sale()),
        (
            vec![BAD_CUSTOMER, server_error],
            sale().with_credit(credit("P")),
        ),
    ] {
        let platform = StandIn::new(answers);
        let error = affiliates(&platform).outcome(report).await.unwrap_err();
        assert_eq!(error.advice(), Advice::Ambiguous);
    }
    let platform = StandIn::new([server_error, server_error, (429, "")]);
    let client = affiliates(&platform);
    let error = client
        .outcome(sign_up().with_credit(credit("P")))
        .await
        .unwrap_err();
    let retry = Advice::Retry { after: None };
    assert_eq!(error.advice(), retry, "customers are unique");
    let error = client
        .outcome(Refund::whole("o").unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.advice(), retry, "gone is gone");
    let error = client.outcome(sale()).await.unwrap_err();
    assert_eq!(error.advice(), retry, "it was put off");
}

// --- Friends -----------------------------------------------------------------------------------

#[tokio::test]
async fn every_friends_sign_up_is_sent() {
    let platform = StandIn::new([DONE, DONE]);
    assert_eq!(friends(&platform).outcome(sign_up()).await, Ok(RECORDED));
    let referred = SignUp::new("CUSTOMER-2")
        .unwrap()
        .with_credit(credit("FRIEND_1"));
    assert_eq!(friends(&platform).outcome(referred).await, Ok(RECORDED));
    let asked = platform.asked();
    assert_eq!(asked[0].line, "POST /v1/customers");
    assert_eq!(
        asked[0].json(),
        json!({
            "key": "CUSTOMER-1",
            "id": "CUSTOMER-1",
            "email": "ada@example.com",
            "name": "Ada",
            "surname": "L",
        })
    );
    assert_eq!(
        asked[1].json(),
        json!({
            "referring_customer": {"key": "FRIEND_1"},
            "key": "CUSTOMER-2",
            "id": "CUSTOMER-2",
        })
    );
}

#[tokio::test]
async fn a_friend_whom_nobody_knows_referred_nobody_but_the_customer_is_there() {
    let unknown = (
        422,
        r#"{"errors":{"referring_customer.key":["is invalid"]}}"#,
    );
    let platform = StandIn::new([unknown, DONE]);
    let outcome = friends(&platform)
        .outcome(sign_up().with_credit(credit("TYPO")))
        .await;
    assert_eq!(outcome, Ok(Outcome::NotAttributed));
    let asked = platform.asked();
    assert_eq!(asked[0].json()["referring_customer"]["key"], "TYPO");
    assert_eq!(asked[1].json().get("referring_customer"), None);
    assert_eq!(asked[1].json()["email"], "ada@example.com");

    for taken in [TAKEN, (409, "{}")] {
        let platform = StandIn::new([taken]);
        let outcome = friends(&platform).outcome(sign_up()).await;
        assert_eq!(outcome, Ok(Outcome::Duplicate));
    }
}

#[tokio::test]
async fn a_friends_guest_signs_up_before_the_sale() {
    let guest = Sale::guest(
        "ORDER-1",
        sign_up().with_credit(credit("FRIEND_1")),
        euros("5"),
    )
    .unwrap();
    for first in [DONE, TAKEN] {
        let platform = StandIn::new([first, DONE]);
        assert_eq!(
            friends(&platform).outcome(guest.clone()).await,
            Ok(RECORDED)
        );
        let asked = platform.asked();
        assert_eq!(
            platform.lines(),
            ["POST /v1/customers", "POST /v1/transactions"]
        );
        assert_eq!(asked[0].json()["referring_customer"]["key"], "FRIEND_1");
        assert_eq!(asked[0].json()["name"], "Ada");
        assert_eq!(asked[1].json()["customer"], json!({"key": "CUSTOMER-1"}));
        assert_eq!(asked[1].json().get("options"), None);
    }
    // And so does a customer whom nobody knows, if there is a referral.
    let platform = StandIn::new([BAD_CUSTOMER, DONE, DONE]);
    let outcome = friends(&platform)
        .outcome(sale().with_credit(credit("FRIEND_1")))
        .await;
    assert_eq!(outcome, Ok(RECORDED));
    let platform = StandIn::new([BAD_CUSTOMER]);
    assert_eq!(
        friends(&platform).outcome(sale()).await,
        Ok(Outcome::NotAttributed)
    );
}

#[tokio::test]
async fn a_friends_page() {
    let platform = StandIn::new([
        (
            200,
            r#"{"data":{"id":"CUSTOMER/1","referrals_count":3,"referral_link":"https://shop.example/?ref=x"},"status":1}"#,
        ),
        (
            200,
            r#"{"data":{"id":"c","referral_links":[{"url":"https://shop.example/?ref=y"}]}}"#,
        ),
        (404, r#"{"message":"Not found"}"#),
        (200, r#"{"data":{"clicks":5}}"#),
        (200, r#"{"data":{"balance":"5.00"}}"#),
        (200, r#"{"status":1}"#),
        (200, r#"{"status":1}"#),
        (401, r#"{"message":"Unauthenticated."}"#),
    ]);
    let client = friends(&platform);
    let friend = client.friend("CUSTOMER/1").await.unwrap().unwrap();
    assert_eq!(friend.id(), Some("CUSTOMER/1"));
    assert_eq!(friend.referral_link(), Some("https://shop.example/?ref=x"));
    assert_eq!(friend.referrals_count(), Some(3));
    assert_eq!(format!("{friend:?}"), "Friend { .. }");
    let friend = client.friend("c").await.unwrap().unwrap();
    assert_eq!(friend.referral_link(), Some("https://shop.example/?ref=y"));
    assert_eq!(client.friend("c").await, Ok(None));
    assert_eq!(
        client.friend_stats("c").await.unwrap().unwrap()["data"]["clicks"],
        5
    );
    assert!(client.friend_balance("c").await.unwrap().is_some());
    assert_eq!(client.credit_friend("c", euros("5.5")).await, Ok(()));
    assert_eq!(client.check().await, Ok(()));
    assert!(matches!(
        client.check().await,
        Err(Error::Unauthorized { .. })
    ));
    let asked = platform.asked();
    assert_eq!(
        platform.lines(),
        [
            "GET /v1/customers/CUSTOMER%2F1",
            "GET /v1/customers/c",
            "GET /v1/customers/c",
            "GET /v1/customers/c/stats",
            "GET /v1/customers/c/balance",
            "POST /v1/customers/c/balance/credit",
            "GET /v1/test",
            "GET /v1/test",
        ]
    );
    assert_eq!(
        asked[5].json(),
        json!({"amount": 5.5, "amount_units": "EUR", "is_currency": true})
    );
    for not_an_id in ["", ".."] {
        let refused = Error::Unsupported(Unsupported::NotAnId);
        assert_eq!(client.friend(not_an_id).await, Err(refused.clone()));
        assert_eq!(client.friend_referrals(not_an_id).unwrap_err(), refused);
    }
}

fn page(ids: &str, next: &str) -> http::Response<String> {
    http::Response::new(format!(
        r#"{{"data":[{ids}],"links":{{"next":{next}}},"meta":{{}}}}"#
    ))
}

#[tokio::test]
async fn referrals_are_read_page_by_page() {
    let platform = StandIn::new([]);
    platform.then(page(
        r#"{"id":"a"},{"id":"b"}"#,
        r#""https://api.partnero.com/v1/customers/c/referrals?page=2""#,
    ));
    // It takes itself for an http one, behind its proxy.
    platform.then(page(
        r#"{"id":"d"}"#,
        r#""http://api.partnero.com/v1/customers/c/referrals?page=3""#,
    ));
    platform.then(page(
        r#"{"id":"e"}"#,
        r#""/v1/customers/c/referrals?page=4""#,
    ));
    platform.then(page("", "null"));
    let list = friends(&platform).friend_referrals("c").unwrap();
    let ids: Vec<_> = list
        .map_ok(|friend| friend.id().unwrap().to_owned())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(ids, ["a", "b", "d", "e"]);
    let asked = platform.asked();
    assert_eq!(asked[1].line, "GET /v1/customers/c/referrals?page=2");
    assert_eq!(asked[3].line, "GET /v1/customers/c/referrals?page=4");
    assert!(asked.iter().all(|asked| asked.host == "api.partnero.com"));
    assert!(
        asked
            .iter()
            .all(|asked| asked.headers["authorization"] == "Bearer s3cret")
    );
}

#[tokio::test]
async fn the_api_key_goes_nowhere_else() {
    for foreign in [
        "https://evil.example/v1/customers/c/referrals?page=2",
        "https://api.partnero.com.evil.example/v1",
        "https://api.partnero.com@evil.example/v1",
        "https://user@api.partnero.com/v1",
        "https://api.partnero.com:444/v1",
        "//evil.example/v1",
        "ftp://api.partnero.com/v1",
        "page=2",
        "",
        "https:",
    ] {
        let platform = StandIn::new([]);
        platform.then(page(r#"{"id":"a"}"#, &format!("{foreign:?}")));
        let list = friends(&platform).friend_referrals("c").unwrap();
        let list: Vec<_> = list.collect().await;
        assert_eq!(list, [Err(Error::ForeignLink)], "{foreign}");
        assert_eq!(platform.asked().len(), 1, "{foreign}");
    }
}

#[tokio::test]
async fn a_list_that_names_an_earlier_page_ends_with_an_error() {
    let platform = StandIn::new([]);
    let (one, two) = (
        r#""/v1/customers/c/referrals""#,
        r#""/v1/customers/c/referrals?page=2""#,
    );
    platform.then(page(r#"{"id":"a"}"#, two));
    platform.then(page(r#"{"id":"b"}"#, one));
    let list = friends(&platform).friend_referrals("c").unwrap();
    let list: Vec<_> = list.collect().await;
    assert_eq!(list.len(), 2);
    assert_eq!(list[1], Err(Error::EndlessList));
}

#[tokio::test]
async fn a_sale_of_unknown_outcome_is_looked_for() {
    let listed = r#"{"data":[{"key":"ORDER-0"},{"key":"ORDER-1","amount":99.99}]}"#;
    for (answer, expected) in [
        ((200, listed), Ok(Outcome::Duplicate)),
        ((200, r#"{"data":[]}"#), Err(Advice::Ambiguous)),
        ((404, r#"{"message":"Not found"}"#), Err(Advice::Ambiguous)),
        ((503, ""), Err(Advice::Retry { after: None })),
    ] {
        let platform = StandIn::new([(502, "oops"), answer]);
        let client = affiliates(&platform);
        let error = client.report(sale()).await.unwrap_err();
        assert_eq!(error.advice(), Advice::Ambiguous);
        assert!(error.can_be_settled());
        let again = ReportRequest::new(sale()).may_have_arrived(true);
        let result = client.send_report(&again).await;
        let result = result.map(|receipt| receipt.outcome());
        assert_eq!(result.map_err(|error| error.advice()), expected);
        assert_eq!(
            platform.asked()[1].line,
            "GET /v1/customers/CUSTOMER-1/transactions"
        );
    }
}

/// The sale was booked and the connection broke; the list that should tell says something odd. Nobody
/// knows more than before.
#[tokio::test]
async fn an_odd_list_makes_no_refusal_of_a_sale_that_was_booked() {
    let foreign = r#"{"data":[{"key":"OTHER"}],"links":{"next":"https://evil.example/x"}}"#;
    let refusal = r#"{"message":"no such page"}"#;
    let asked_again = Advice::Retry { after: None };
    for (status, list, expected) in [
        (200, foreign, Advice::Ambiguous),
        (200, r#"{"success":false}"#, Advice::Ambiguous),
        (400, refusal, Advice::Ambiguous),
        (404, "404 page not found", Advice::Ambiguous),
        (405, "", Advice::Ambiguous),
        (409, "{}", Advice::Ambiguous),
        (413, "", Advice::Ambiguous),
        (
            422,
            r#"{"errors":{"page":["is invalid"]}}"#,
            Advice::Ambiguous,
        ),
        (101, "", asked_again),
        (302, "", asked_again),
        (600, "", asked_again),
        (200, "oops", asked_again),
    ] {
        let again = ReportRequest::new(sale()).may_have_arrived(true);
        let platform = StandIn::new([(status, list), (status, list)]);
        let errors = [
            affiliates(&platform).send_report(&again).await.unwrap_err(),
            friends(&platform).send_report(&again).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.advice(), expected, "{status} {list}");
            assert!(!error.can_be_settled(), "{status} {list}");
            let is_unsettled = matches!(error.error(), Error::NotSettled(_));
            assert_eq!(is_unsettled, expected == Advice::Ambiguous, "{error}");
            assert!(!is_unsettled || error.to_string().contains("look at the platform"));
        }
    }
    // With the list's own words.
    let platform = StandIn::new([(400, refusal)]);
    let again = ReportRequest::new(sale()).may_have_arrived(true);
    let error = affiliates(&platform).send_report(&again).await.unwrap_err();
    let failure = Failure::of(error.error());
    assert_eq!(failure.code(), "not_settled");
    assert_eq!(failure.message(), Some("no such page"));
    let text = failure.to_string();
    assert_eq!(text, error.to_string());
    assert!(
        text.contains("(the platform refused the request (400 Bad Request))"),
        "{text}"
    );
}

/// Whoever referred a customer who is there already was said before.
#[tokio::test]
async fn a_friend_who_is_there_already_buys_whatever_is_said_of_the_referrer() {
    let platform = StandIn::new([(409, BAD_PARTNER.1), DONE]);
    let buyer = sign_up().with_credit(credit("F"));
    let guest = Sale::guest("ORDER-1", buyer, euros("99.99")).unwrap();
    assert_eq!(friends(&platform).outcome(guest).await, Ok(RECORDED));
    assert_eq!(
        platform.lines(),
        ["POST /v1/customers", "POST /v1/transactions"]
    );
}

/// Nobody knows what became of the first sale, whatever the body of a 408 says.
#[tokio::test]
async fn a_timeout_that_names_the_customer_sends_no_second_sale() {
    let platform = StandIn::new([(408, BAD_CUSTOMER.1), (408, BAD_CUSTOMER.1)]);
    let report = || sale().with_credit(credit("P"));
    for result in [
        affiliates(&platform).report(report()).await,
        friends(&platform).report(report()).await,
    ] {
        assert_eq!(result.unwrap_err().advice(), Advice::Ambiguous);
    }
    assert_eq!(platform.lines(), ["POST /v1/transactions"; 2]);
}

/// The body of a 401, 403, 408 or 429 says neither that nobody is credited nor that it is a duplicate.
#[tokio::test]
async fn what_refuses_no_report_credits_nobody_and_finds_no_duplicate() {
    let field = r#"{"errors":{"partner.key":["x"]}}"#;
    let again = Advice::Retry { after: None };
    for (status, sale_advice) in [
        (408, Advice::Ambiguous),
        (401, again),
        (403, again),
        (429, again),
    ] {
        for body in [
            BAD_PARTNER.1,
            field,
            TAKEN.1,
            r#"{"errors":{"key":"Duplicate key"}}"#,
        ] {
            let platform = StandIn::new([(status, body); 6]);
            let guest = || Sale::guest("ORDER-1", sign_up(), euros("1")).unwrap();
            let (affiliates, friends) = (affiliates(&platform), friends(&platform));
            for (result, advice) in [
                (
                    affiliates.report(sign_up().with_credit(credit("P"))).await,
                    again,
                ),
                (
                    friends.report(sign_up().with_credit(credit("P"))).await,
                    again,
                ),
                (
                    affiliates.report(sale().with_credit(credit("P"))).await,
                    sale_advice,
                ),
                (
                    friends.report(sale().with_credit(credit("P"))).await,
                    sale_advice,
                ),
                (
                    affiliates.report(guest().with_credit(credit("P"))).await,
                    sale_advice,
                ),
                // The customer alone is sent before the sale, and is unique.
                (
                    friends.report(guest().with_credit(credit("P"))).await,
                    again,
                ),
            ] {
                let error = result.expect_err(body);
                assert_eq!(error.advice(), advice, "{status} {body}");
            }
            assert_eq!(platform.lines().len(), 6, "one request for each report");
        }
    }
}

/// A smaller sale that the list doesn't have is sent again, and may be refused then.
#[tokio::test]
async fn a_refund_that_did_not_arrive_may_be_refused() {
    let part = Refund::part("ORDER-1", euros("30"))
        .unwrap()
        .with_customer("CUSTOMER-1")
        .unwrap()
        .with_sale_amount(euros("99.99"))
        .with_total_refunded(euros("30"));
    let again = ReportRequest::new(part).may_have_arrived(true);
    let listed = r#"{"data":[{"key":"ORDER-1","amount":99.99}]}"#;
    let platform = StandIn::new([(200, listed), (422, r#"{"message":"it is paid out"}"#)]);
    let partnero = Partnero::new("s3cret").unwrap().replace_partly_refunded();
    let client = platform.client(partnero);
    let error = client.send_report(&again).await.unwrap_err();
    assert_eq!(error.advice(), Advice::Permanent);
    assert!(matches!(error.error(), Error::Rejected { .. }), "{error}");
}

#[tokio::test]
async fn a_partner_has_three_names_and_a_customer_tags_and_a_link() {
    for (by, partner) in [
        (PartnerBy::Key, json!({"key": "P"})),
        (PartnerBy::Email, json!({"email": "P"})),
        (PartnerBy::Id, json!({"id": "P"})),
    ] {
        let platform = StandIn::new([DONE]);
        let partnero = Partnero::new("s3cret").unwrap().partner_by(by);
        let report = SignUp::new("c")
            .unwrap()
            .with_tag("vip")
            .with_referral_url("https://shop.example/?aff=P")
            .with_credit(credit("P"));
        let receipt = platform.client(partnero).report(report).await.unwrap();
        assert_eq!(receipt.outcome(), RECORDED);
        assert_eq!(
            platform.only().json(),
            json!({
                "partner": partner,
                "key": "c",
                "tags": ["vip"],
                "options": {"referral_url": "https://shop.example/?aff=P"},
            })
        );
    }
    let platform = StandIn::new([]);
    let report = sign_up()
        .with_metadata("plan", "pro")
        .with_credit(credit("P"));
    let error = affiliates(&platform).report(report).await.unwrap_err();
    assert_eq!(
        *error.error(),
        Error::Unsupported(Unsupported::Field("metadata"))
    );
}

#[tokio::test]
async fn a_friends_link_is_handed_over_with_the_sign_up() {
    let answer = r#"{"data":{"id":"c","referral_link":"https://shop.example/?ref=x"}}"#;
    let platform = StandIn::new([(200, answer)]);
    let report = SignUp::by_email("ada@example.com")
        .unwrap()
        .with_date_of_birth("1815-12-10");
    let receipt = friends(&platform).report(report).await.unwrap();
    assert_eq!(
        receipt.data()["data"]["referral_link"],
        "https://shop.example/?ref=x"
    );
    assert_eq!(
        platform.only().json(),
        json!({"email": "ada@example.com", "metadata": {"date_of_birth": "1815-12-10"}})
    );
}

#[tokio::test]
async fn a_link_that_is_no_web_page_is_not_passed_on() {
    for link in ["javascript:alert(1)", "data:text/html,x", "//x", "x y"] {
        let body = format!(r#"{{"data":{{"id":"c","referral_link":{link:?}}}}}"#);
        let platform = StandIn::new([(200, &*body)]);
        let friend = friends(&platform).friend("c").await.unwrap().unwrap();
        assert_eq!(friend.referral_link(), None, "{link}");
    }
}
