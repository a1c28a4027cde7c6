//! What each platform's last answer to a report means, from what is documented of its answers and
//! what the clients' own documentation says of the rest; and which reports each recognises when they
//! come twice.

use http::Method;
use serde_json::Value;
use tower_referral_platforms::Outcome::{self, Duplicate, NotAttributed, Recorded};
use tower_referral_platforms::{PlatformIds, Report};

use crate::answer::{Answer, id, is_something};
use crate::reports::{CUSTOMER, ORDER};
use crate::wire::Asked;

/// What an answer says of the report: one of these outcomes, or that it failed.
#[derive(Debug)]
pub struct Said {
    /// The outcomes that it can be.
    pub outcomes: &'static [Outcome],
    /// Can it be a failure?
    pub is_failure: bool,
}

const fn only(outcomes: &'static [Outcome]) -> Said {
    Said {
        outcomes,
        is_failure: false,
    }
}

const fn maybe(outcomes: &'static [Outcome]) -> Said {
    Said {
        outcomes,
        is_failure: true,
    }
}

const RECORDED: Said = only(&[Recorded]);
const DUPLICATE: Said = only(&[Duplicate]);
const NOBODY: Said = only(&[NotAttributed]);
const FAILURE: Said = maybe(&[]);

/// The first that holds, or a failure.
fn first(cases: &[(bool, &'static [Outcome])]) -> Said {
    let mut cases = cases.iter();
    let outcomes = cases
        .find(|(holds, _)| *holds)
        .map_or(&[][..], |case| case.1);
    Said {
        outcomes,
        is_failure: outcomes.is_empty(),
    }
}

/// A platform, as its documentation has it.
pub struct Rules {
    /// Does it recognise a second one of this report?
    pub deduplicates: fn(&Report) -> bool,
    /// Need nothing be asked to know that nobody is credited?
    pub is_nobodys: fn(&Report, &PlatformIds) -> bool,
    /// What the last of these answers says.
    pub read: fn(&Report, &[Asked], &Asked) -> Said,
}

/// Where Partnac's answers have the ID of a conversion,
const CONVERSION: [&str; 6] = [
    "/conversion_id",
    "/id",
    "/unique_id",
    "/data/conversion_id",
    "/data/id",
    "/data/unique_id",
];
/// and of a refund.
const REFUND: [&str; 4] = ["/refund_id", "/id", "/data/refund_id", "/data/id"];

/// Partnac.
pub const PARTNAC: Rules = Rules {
    deduplicates: |report| !matches!(report, Report::Refund(_)),
    is_nobodys: |report, _| !has_key(report) && report.coupon().is_none(),
    read: |_, _, last| {
        let answer = last.answer();
        match (&last.method, end(last)) {
            (&Method::GET, _) if answer.lists(ORDER) || answer.lists(CUSTOMER) => {
                maybe(&[Duplicate])
            }
            (&Method::POST, "conversions") => first(&[
                (answer.is_object(409), &[Duplicate]),
                (answer.shows(&CONVERSION), &[Recorded]),
            ]),
            (&Method::POST, "refund") => first(&[
                (answer.is_object(404), &[NotAttributed]),
                (answer.is_silent_or_shows(&REFUND), &[Recorded]),
            ]),
            (&Method::PATCH, _) => first(&[
                (answer.is_object(404), &[NotAttributed]),
                (answer.is_silent_or_shows(&CONVERSION), &[Recorded]),
            ]),
            // A sign-up's own ID has the customer in it.
            (&Method::GET, _) if answer.is_success() => maybe(&[Duplicate]),
            _ => FAILURE,
        }
    },
};

/// Partnero, an affiliate program.
pub const PARTNERO: Rules = Rules {
    deduplicates: |report| match report {
        Report::Refund(refund) => refund.completes_whole(),
        report => !matches!(report, Report::Sale(_)),
    },
    is_nobodys: |report, _| !has_key(report) && (is_sign_up(report) || is_guests(report)),
    read: |report, asked, last| partnero(report, asked, last, "partner"),
};

/// Partnero, refer-a-friend: every sign-up is sent.
pub const FRIENDS: Rules = Rules {
    is_nobodys: |_, _| false,
    read: |report, asked, last| partnero(report, asked, last, "referring_customer"),
    ..PARTNERO
};

fn partnero(report: &Report, asked: &[Asked], last: &Asked, referrer: &str) -> Said {
    let answer = last.answer();
    let is_known = answer.is_refusal() && (answer.status == 409 || answer.names("Duplicate key"));
    let is_unknown = answer.is_refusal()
        && (answer.names("Invalid partner key")
            || answer.is_about(&["partner", "referring_customer", "customer"]));
    let data = answer.get("data");
    let is_made = answer.shows(&["/data/key", "/data/id"]);
    let is_done =
        answer.is_empty_204() || answer.is_success() && answer.get("status") == Some(1.into());
    match (&last.method, end(last)) {
        (&Method::GET, _) if answer.lists(ORDER) => maybe(&[Duplicate]),
        (&Method::DELETE, _) => first(&[
            (answer.is_object(404), &[NotAttributed]),
            (is_done, &[Recorded]),
        ]),
        (&Method::POST, "customers" | "transactions") if is_unknown && !is_known => {
            maybe(&[NotAttributed])
        }
        (&Method::POST, "customers") if is_sign_up(report) => {
            let named = answer.shows(&[&format!("/data/{referrer}")]);
            let is_alone = asked.len() > 1;
            // Friends are told of every customer, who may refer others.
            let is_any = referrer == "referring_customer" && !has_key(report);
            first(&[
                (is_known, &[Duplicate]),
                (is_alone && is_made, &[NotAttributed]),
                (
                    is_any && is_made || !is_alone && !is_any && named,
                    &[Recorded],
                ),
                (
                    !is_alone && !is_any && (is_made || is_done && answer.is_json()),
                    &[NotAttributed],
                ),
            ])
        }
        (&Method::POST, "transactions") => first(&[
            (is_known, &[Duplicate]),
            (is_made, &[Recorded]),
            (
                is_done
                    && data.is_some()
                    && !is_something(data.as_ref())
                    && data != Some("".into()),
                &[NotAttributed],
            ),
        ]),
        _ => FAILURE,
    }
}

/// Tapfiliate.
pub const TAPFILIATE: Rules = Rules {
    deduplicates: |report| !is_open_part(report),
    is_nobodys: |report, _| is_sign_up(report) && report.credit().is_none(),
    read: |report, _, last| {
        let answer = last.answer();
        let is_gone = answer.status == 404 && !answer.is_html();
        let is_changed = answer.is_silent_or_shows(&["/id"]);
        match (&last.method, end(last)) {
            (&Method::POST, _) => first(&[
                (is_sign_up(report) && answer.is_object(409), &[Duplicate]),
                (answer.shows(&["/id"]), &[Recorded]),
            ]),
            (&Method::GET, "conversions") if answer.is_success() && is_change(report) => {
                // No commissions, nothing to disapprove.
                maybe(&[Recorded, Duplicate, NotAttributed])
            }
            (&Method::GET, _) if answer.lists(ORDER) || answer.lists(CUSTOMER) => {
                maybe(&[Duplicate])
            }
            // What is gone needs no disapproval, and if all are, nobody is credited.
            (_, "approved") if is_gone => maybe(&[Recorded, NotAttributed]),
            (_, "approved") => first(&[(is_changed, &[Recorded])]),
            (&Method::DELETE | &Method::PATCH, _) => {
                // What is gone can't be given back.
                let is_reversal = matches!(report, Report::RefundReversal(_));
                first(&[
                    (is_gone && !is_reversal, &[Duplicate]),
                    (is_changed, &[Recorded]),
                ])
            }
            _ => FAILURE,
        }
    },
};

/// Affonso: a repeated sign-up answers 200 and a new one 201; `success: false` is a failure.
pub const AFFONSO: Rules = Rules {
    deduplicates: |_| true,
    is_nobodys: |report, _| match report {
        // A refund whose sale nobody knows may be one of a sale that is there.
        Report::Refund(_) => false,
        report => report.credit().is_none() && (is_sign_up(report) || is_guests(report)),
    },
    read: |report, _, last| {
        let answer = last.answer();
        let id = match end(last) {
            "refund" => "/data/refund_id",
            _ => "/data/conversion_id",
        };
        let is_made = answer.shows(&[id, "/data/id"]);
        let is_known = end(last) == "signups" && answer.status == 200;
        match end(last) {
            "signups" | "conversions" | "refund" => first(&[
                (answer.is_object(409), &[Duplicate]),
                (is_made && is_known, &[Duplicate]),
                (is_made, &[Recorded]),
                (
                    // Nothing but its customer could credit it.
                    end(last) == "conversions"
                        && answer.is_object(404)
                        && report.credit().is_none(),
                    &[NotAttributed],
                ),
            ]),
            _ => FAILURE,
        }
    },
};

/// Awin, one order at a time.
pub const AWIN: Rules = Rules {
    deduplicates: |_| false,
    is_nobodys: |report, _| {
        let credit = report.credit();
        let is_clicked = credit.is_some_and(|credit| credit.click_id().is_some());
        is_sign_up(report) || !is_clicked && report.coupon().is_none()
    },
    read: |_, _, last| first(&[(takes_order(last, ORDER), &[Recorded])]),
};

/// Has Awin taken this order: is it in a list of a success, and in none of what failed?
#[must_use]
pub fn takes_order(asked: &Asked, order: &str) -> bool {
    const REFERENCE: [&str; 2] = ["/orderReference", "/order/orderReference"];
    let answer = asked.answer();
    let find = |name: &str| {
        let list = answer.get(name)?;
        let mut items = list.as_array()?.iter();
        let is_this = |item: &&Value| {
            let reference = REFERENCE.iter().find_map(|pointer| item.pointer(pointer));
            reference.and_then(Value::as_str) == Some(order)
        };
        items.find(is_this).cloned()
    };
    let taken = find("successfulOrders").or_else(|| find("pendingOrders"));
    let is_taken = taken.is_some_and(|item| {
        // It may say no of itself.
        let body = item.to_string();
        let (status, body) = (answer.status, body.as_bytes());
        Answer { status, body }.shows(&REFERENCE)
    });
    answer.is_json_success() && is_taken && find("failedOrders").is_none()
}

/// Has the answer one of Awin's lists?
#[must_use]
pub fn has_order_lists(asked: &Asked) -> bool {
    let names = ["successfulOrders", "pendingOrders", "failedOrders"];
    names.iter().any(|name| asked.answer().get(name).is_some())
}

/// Dub: `null` in the place of the link is a lead that is there, and in that of the customer or the
/// sale is nobody.
pub const DUB: Rules = Rules {
    deduplicates: |report| !is_open_part(report),
    is_nobodys: |report, _| is_sign_up(report) && !has_click(report),
    read: |report, _, last| dub(report, last, false),
};

/// Dub that keeps clicks: a lead with an action may make use of one.
pub const DUB_DEFERRED: Rules = Rules {
    read: |report, _, last| dub(report, last, !has_click(report)),
    ..DUB
};

fn dub(report: &Report, last: &Asked, is_kept: bool) -> Said {
    let answer = last.answer();
    let get = |name| answer.get(name);
    let is_success = answer.is_json_success();
    let is_made = answer.shows(&["/customer", "/click"]);
    match (&last.method, end(last)) {
        (&Method::POST, "lead") if is_sign_up(report) => first(&[
            (
                answer.status == 404 && answer.has_code("not_found")
                    || is_kept && answer.status == 400 && answer.has_code("bad_request"),
                &[NotAttributed],
            ),
            (is_made && get("link") == Some(Value::Null), &[Duplicate]),
            (is_made, &[Recorded]),
        ]),
        (&Method::POST, "sale") => match (get("customer"), get("sale")) {
            (Some(customer), Some(sale)) if is_success => {
                if customer.is_null() || sale.is_null() {
                    NOBODY
                } else if answer.shows(&["/customer"]) && answer.shows(&["/sale"]) {
                    RECORDED
                } else {
                    FAILURE
                }
            }
            _ => FAILURE,
        },
        (&Method::GET, _) if answer.is_success() => {
            let list = answer.json().unwrap_or_default();
            let is_ours = |item: &Value| {
                item.get("invoiceId").and_then(Value::as_str) == Some(ORDER)
                    && item.get("type").is_none_or(|it| it == "sale")
                    && id(item.get("id")).is_some()
            };
            match list.as_array().map(|list| list.iter().any(is_ours)) {
                _ if answer.lists("refunded") => maybe(&[Duplicate, NotAttributed]),
                Some(true) => FAILURE,
                Some(false) | None => maybe(&[NotAttributed]),
            }
        }
        (&Method::PATCH, _) => first(&[(answer.shows(&["/id"]), &[Recorded])]),
        _ => FAILURE,
    }
}

/// FirstPromoter: a 404 is a customer whom nobody referred.
pub const FIRST_PROMOTER: Rules = Rules {
    deduplicates: |_| true,
    is_nobodys: |report, _| is_sign_up(report) && report.credit().is_none(),
    read: |_, _, last| {
        let answer = last.answer();
        if answer.is_object(404) {
            return NOBODY;
        }
        match end(last) {
            "signup" => first(&[
                (
                    answer.is_object(422) && !is_something(answer.get("errors").as_ref()),
                    &[Duplicate],
                ),
                (
                    answer.shows(&["/id", "/referral/id", "/lead/id"]),
                    &[Recorded],
                ),
            ]),
            "refund" if answer.status == 204 => NOBODY,
            "sale" | "refund" => first(&[
                (answer.is_object(409), &[Duplicate]),
                (answer.shows(&["/id"]), &[Recorded]),
            ]),
            "cancellation" => first(&[(answer.shows(&["/id"]), &[Recorded])]),
            _ => FAILURE,
        }
    },
};

/// Tolt.
pub const TOLT: Rules = Rules {
    deduplicates: |_| true,
    is_nobodys: |report, ids| match report {
        Report::Refund(_) => false,
        Report::Sale(_) => ids.customer.is_none() && report.credit().is_none(),
        _ => report.credit().is_none(),
    },
    read: |report, _, last| {
        let answer = last.answer();
        let is_made = answer.shows(&["/data/id", "/data/0/id"]);
        let is_reference = answer.has_code("invalid_reference");
        match (&last.method, end(last)) {
            (&Method::POST, "clicks") => first(&[(
                is_reference || answer.has_code("not_found"),
                &[NotAttributed],
            )]),
            (&Method::POST, "customers") if is_reference => NOBODY,
            (&Method::POST, "customers") if is_sign_up(report) => first(&[
                (answer.is_object(409), &[Duplicate]),
                (is_made, &[Recorded]),
            ]),
            (&Method::POST, "transactions") => first(&[
                (answer.is_object(409), &[Duplicate]),
                (is_made, &[Recorded]),
            ]),
            (&Method::PUT, _) => first(&[
                (answer.is_object(404), &[NotAttributed]),
                (is_made, &[Recorded]),
            ]),
            _ => FAILURE,
        }
    },
};

/// A tracker that says all in a text, and is said to keep one sale of an order.
pub const TEXT_TRACKER: Rules = Rules {
    deduplicates: |report| matches!(report, Report::Sale(_)),
    is_nobodys: |report, _| !matches!(report, Report::Refund(_)) && !has_click(report),
    read: |_, _, last| {
        let answer = last.answer();
        let body = String::from_utf8_lossy(answer.body);
        let is_yes = body.contains(SUCCESS) && !body.contains(FAILED);
        tracker(
            last,
            body.contains(KNOWN),
            body.contains(UNKNOWN),
            is_yes && !answer.says_no() && answer.may_say_yes(),
        )
    },
};

// What was sent doesn't count where it comes back, so that none of these texts may begin or end in
// the middle of one that was.

/// The tracker's text of a success,
pub const SUCCESS: &str = "success=true;";
/// what no success has,
pub const FAILED: &str = "warning=";
/// what it says of a duplicate,
pub const KNOWN: &str = "duplicate";
/// and of a click that it doesn't know.
pub const UNKNOWN: &str = "unknown visit";

/// A tracker that answers with a code: 0 is a success, 8 a duplicate, 13 an unknown click.
pub const CODE_TRACKER: Rules = Rules {
    deduplicates: |_| false,
    is_nobodys: |report, _| !matches!(report, Report::Refund(_)) && !has_click(report),
    read: |_, _, last| {
        let json = last.answer().json().unwrap_or_default();
        let is = |code: u8| json.pointer("/status") == Some(&code.into());
        tracker(last, is(8), is(13), is(0))
    },
};

fn tracker(last: &Asked, is_known: bool, is_unknown: bool, is_success: bool) -> Said {
    let answer = last.answer();
    let is_4xx = (400..500).contains(&answer.status) && answer.status != 408;
    if answer.is_of_account() || !(answer.is_2xx() || is_4xx) {
        return FAILURE;
    }
    // A page is one only where nothing else was said to be a success.
    if answer.is_html() && !answer.is_2xx() {
        return FAILURE;
    }
    if is_known {
        DUPLICATE
    } else if is_unknown {
        NOBODY
    } else if is_success && answer.is_2xx() {
        RECORDED
    } else {
        FAILURE
    }
}

/// The last word of the path.
#[must_use]
pub fn end(asked: &Asked) -> &str {
    let path = asked.path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or_default()
}

fn is_sign_up(report: &Report) -> bool {
    matches!(report, Report::SignUp(_))
}

fn is_guests(report: &Report) -> bool {
    matches!(report, Report::Sale(sale) if sale.is_guest())
}

fn is_change(report: &Report) -> bool {
    !matches!(report, Report::SignUp(_) | Report::Sale(_))
}

/// Is it a part of which isn't said what is left?
fn is_open_part(report: &Report) -> bool {
    matches!(report, Report::Refund(part) if part.amount().is_some() && part.left().is_none())
}

fn has_key(report: &Report) -> bool {
    report.credit().is_some_and(|credit| credit.key().is_some())
}

fn has_click(report: &Report) -> bool {
    let credit = report.credit();
    credit.is_some_and(|credit| credit.click_id().is_some())
}
