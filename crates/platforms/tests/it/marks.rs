//! A 2xx is a success only where something in it shows so: a refusal in words that nobody thought of is
//! none at any platform, and neither is an answer that says two things.

use serde_json::json;
use tower::ServiceExt;
use tower_referral_platforms::{
    Affonso, Awin, Client, Dub, FirstPromoter, Money, Outcome, Partnac, Partnero, PartneroFriends,
    PlatformIds, Refund, Report, ReportApi, ReportRequest, Sale, SaleUpdate, SignUp, Tapfiliate,
    Tolt,
};

use crate::stand_in::clicked;

const UNCLEAR: [&str; 27] = [
    "",
    "OK",
    "Access denied",
    "\u{feff}<html>log in</html>",
    "[]",
    "{}",
    "null",
    r#"{"message":"closed"}"#,
    r#"{"success":0,"message":"closed"}"#,
    r#"{"success":null,"id":"x1","data":{"id":"x1","key":"x1"}}"#,
    r#"{"success":"false","id":"x1","data":{"id":"x1","key":"x1"}}"#,
    r#"{"succ\u0065ss":false,"id":"x1","data":{"id":"x1","key":"x1"}}"#,
    r#"{"success":false,"success":true,"id":"x1"}"#,
    r#"{"success":true,"success":false,"id":"x1"}"#,
    r#"{"ok":"no","id":"x1"}"#,
    r#"{"success":true}"#,
    r#"{"status":"rejected","message":"closed"}"#,
    r#"{"status":"FAILED","id":"x1","data":{"id":"x1","key":"x1"}}"#,
    r#"{"status":400,"title":"Bad Request","detail":"closed","id":"x1"}"#,
    r#"{"type":"about:blank","title":"Bad Request","status":422}"#,
    r#"{"status":2}"#,
    r#"{"error":{"message":"x"},"id":"x1"}"#,
    r#"{"id":"","data":{"id":null,"key":""}}"#,
    r#"{"id":0,"data":{"id":false,"key":[]}}"#,
    r#"{"id":"x1","id":"x2"}"#,
    r#"{"data":{"id":"x1","id":"x2","key":"x1","key":"x2"}}"#,
    r#"{"result":{"id":"x1"},"meta":{"key":"x1"}}"#,
];

fn euros(amount: &str) -> Money {
    Money::new(amount, "EUR").unwrap()
}

fn reports() -> [Report; 4] {
    let sign_up = SignUp::new("CUSTOMER-1").unwrap();
    let sale = Sale::new("ORDER-1", "CUSTOMER-1", euros("100")).unwrap();
    let refund = Refund::whole("ORDER-1")
        .unwrap()
        .with_sale_amount(euros("100"));
    let update = SaleUpdate::new("ORDER-1", "u1").unwrap();
    [
        sign_up.with_credit(clicked("P", "clk_1")).into(),
        sale.with_credit(clicked("P", "clk_1")).into(),
        refund.with_customer("CUSTOMER-1").unwrap().into(),
        update.with_amount(euros("50")).into(),
    ]
}

/// Tells a platform that answers everything with a 200 and this body.
async fn is_never_a_success<P>(name: &str, platform: P)
where
    P: ReportApi + Clone + Send + Sync + 'static,
{
    for body in UNCLEAR {
        for status in [200, 201, 202] {
            let transport = tower::service_fn(move |_: http::Request<bytes::Bytes>| async move {
                let answer = http::Response::builder().status(status);
                Ok::<_, std::convert::Infallible>(answer.body(body.to_owned()).unwrap())
            });
            let client = Client::new(platform.clone(), transport);
            let ids: PlatformIds =
                serde_json::from_value(json!({"sale": "s1", "customer": "c1"})).unwrap();
            for report in reports() {
                let kind = report.kind();
                let request = ReportRequest::new(report).with_ids(ids.clone());
                let sends = matches!(
                    platform.begin(request.report(), &ids),
                    Ok(tower_referral_platforms::Step::Send { .. })
                );
                let result = client.reports().oneshot(request).await;
                // Of an empty list, which is asked for what there is to take back.
                let is_nothing = |receipt| body == "[]" && receipt == Outcome::NotAttributed;
                assert!(
                    !sends || result.clone().map_or(true, is_nothing),
                    "{name}, {kind}: {status} {body}: {result:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_success_by_name_is_none_at_any_platform() {
    is_never_a_success("Affonso", Affonso::new("k", "prog_1").unwrap()).await;
    is_never_a_success("Awin", Awin::new("k", 1001).unwrap()).await;
    is_never_a_success("Dub", Dub::new("k").unwrap()).await;
    is_never_a_success("FirstPromoter", FirstPromoter::new("k", "a").unwrap()).await;
    is_never_a_success("Partnac", Partnac::new("k").unwrap()).await;
    is_never_a_success("Partnero", Partnero::new("k").unwrap()).await;
    is_never_a_success("PartneroFriends", PartneroFriends::new("k").unwrap()).await;
    is_never_a_success("Tapfiliate", Tapfiliate::new("k").unwrap()).await;
    is_never_a_success("Tolt", Tolt::new("k").unwrap()).await;
}
