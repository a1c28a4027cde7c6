//! A generic tracker.

use super::{CURL, StandIn};

#[test]
fn a_tracker_takes_postbacks_and_answers_200_in_any_case() {
    let tracker = StandIn::start("postback", &[]);
    let get = |path: &str| {
        let answer = tracker.sandbox.call("GET", path, &[CURL], "");
        assert_eq!(answer.status, 200, "{path}");
        answer.body
    };
    let sale = "/postback?click_id=c%2F1&key=P1&event=sale&order=O1&customer=C1&amount=99.90\
        &currency=EUR&coupon=";
    for _ in 0..2 {
        // Nothing is recognised.
        assert_eq!(get(sale), "success=true;");
    }
    let sign_up = "/postback?click_id=&key=P1&event=signup&order=&customer=C1&amount=&currency=\
        &coupon=";
    assert_eq!(get(sign_up), "success=true;");
    let refund = "/refund?order=O1&refund=re_1&amount=9.90&amount_minor=990&currency=EUR\
        &click_id=&key=P1";
    assert_eq!(get(refund), "success=true;");
    let form = [CURL, ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = tracker.sandbox.post("/postback", &form, &sale[10..]);
    assert_eq!(answer.body, "success=true;");

    for wrong in [
        "/postback?click_id=&key=&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?click_id=UNKNOWN1&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?key=P1&event=sale&order=O1&amount=&currency=EUR",
        "/postback?key=P1&event=sale&order=O1&amount=1,5&currency=EUR",
        "/postback?key=P1&event=sale&order=&amount=1&currency=EUR",
        "/postback?key=P1&event=sale&order=O1&amount=1&currency=EUR&affiliate=P1",
        "/postback?key=P1&key=P2&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?key=P+1&event=sale&order=O1&amount=1&currency=EUR",
        "/postback?key=%zz&event=sale&order=O1&amount=1&currency=EUR",
        "/refund?order=O9&refund=&amount=1&currency=EUR",
    ] {
        let body = get(wrong);
        assert!(
            body.starts_with("success=false; err_msg="),
            "{wrong}: {body}"
        );
    }
}
