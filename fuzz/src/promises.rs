//! What is promised of every report, batch and click, whatever a platform answers: checked against
//! what its answers say by the rules of [`platform`](crate::platform).

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower_referral::click::Click;
use tower_referral_platforms::{
    Advice, Error, Outcome, PlatformIds, Receipt, Report, ReportError, ReportRequest,
};

use crate::answer::is_id;
use crate::platform::{self, Rules};
use crate::reports::{self, API_KEY, CUSTOMER, EMAIL, ORDER, Told};
use crate::wire::{self, Asked};

/// What a value in a query is encoded by. Nobody encodes the rest.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Has the error nothing in it that was sent?
pub fn assert_clean(error: &Error, texts: &[&str]) {
    let mut shown = format!("{error} {error:?}").to_ascii_lowercase();
    if let Error::Rejected { message, .. } | Error::BatchRefused { message, .. } = error {
        let message = message.as_str();
        assert!(message.chars().count() <= 500);
        assert!(!message.contains(char::is_control), "{message:?}");
        shown.push_str(&message.to_ascii_lowercase());
    }
    for secret in texts.iter().chain(&[API_KEY, EMAIL]) {
        let encoded = utf8_percent_encode(secret, RESERVED).to_string();
        for secret in [secret, &*encoded] {
            assert!(
                !shown.contains(&secret.to_ascii_lowercase()),
                "{secret}: {shown}"
            );
        }
    }
}

fn assert_ids(ids: &PlatformIds) {
    let ids = [
        &ids.customer,
        &ids.sale,
        &ids.refund,
        &ids.click,
        &ids.partner,
    ];
    let mut ids = ids.into_iter().flatten();
    assert!(ids.all(|id| is_id(id.as_str())));
}

/// Does the request change something that earns somebody something? A click earns nobody anything, and
/// a customer before a sale is unique.
fn changes(report: &Report, asked: &Asked) -> bool {
    let end = platform::end(asked);
    let is_customer = end == "customers" && matches!(report, Report::Sale(_));
    // A postback changes something whatever its method.
    (asked.method != Method::GET || end == "postback") && end != "clicks" && !is_customer
}

fn check_error(rules: &Rules, told: (&Report, &[&str]), asked: &[Asked], error: &ReportError) {
    let (report, texts) = told;
    assert_clean(error.error(), texts);
    assert_ids(error.ids());
    assert_eq!(format!("{error}"), format!("{}", error.error()));
    let Some(last) = asked.last() else { return };
    let deduplicates = (rules.deduplicates)(report);
    let advice = error.advice();
    let may_repeat = matches!(advice, Advice::Retry { .. });
    // What may have arrived isn't sent again.
    if changes(report, last) && last.answer().may_have_arrived() && !deduplicates {
        assert!(!may_repeat, "{}: {advice:?}", last.status);
    }
    if let Error::Rejected { status, .. } = error.error() {
        let status = status.as_u16();
        if (400..500).contains(&status) && status != 408 {
            assert_eq!(advice, Advice::Permanent);
        }
        // What is recognised when it comes twice isn't given up.
        if !(200..500).contains(&status) && deduplicates {
            assert!(may_repeat, "{advice:?}");
        }
    }
}

/// Checks what came of a report. `ids` are those that were handed in; `is_again` says that it may have
/// arrived before.
pub fn check_report(
    rules: &Rules,
    told: &Told,
    ids: &PlatformIds,
    is_again: bool,
    result: &Result<Receipt, ReportError>,
) {
    let asked = wire::take_asked();
    if is_again && !(rules.deduplicates)(&told.report) {
        // Whatever is sent after all was begun by a list that doesn't have it.
        let first = asked.first();
        assert!(first.is_none_or(|it| it.method == Method::GET && !changes(&told.report, it)));
    }
    let last = asked.last();
    let said = last.map(|last| (rules.read)(&told.report, &asked, last));
    let is_clear = last.is_some_and(|last| !last.answer().is_beyond());
    match result {
        Ok(receipt) => {
            assert_ids(receipt.ids());
            let outcome = receipt.outcome();
            assert!(outcome == Outcome::NotAttributed || last.is_some_and(|it| it.status < 500));
            match said {
                Some(said) => assert!(
                    !is_clear || said.outcomes.contains(&outcome),
                    "{outcome:?}, and not {said:?}"
                ),
                None => {
                    assert_eq!(outcome, Outcome::NotAttributed, "nothing was sent");
                    assert!((rules.is_nobodys)(&told.report, ids), "{:?}", told.report);
                }
            }
        }
        Err(error) => {
            if let Some(said) = said {
                assert!(!is_clear || said.is_failure, "{error}, and not {said:?}");
            }
            if is_again && error.advice() == Advice::Permanent {
                // A report that may have arrived is refused by an answer to the report alone.
                assert!(asked.iter().any(|it| changes(&told.report, it)), "{error}");
                // Whether a refusal is that of a duplicate, only a list that can be read says.
                let list =
                    last.filter(|last| last.method == Method::GET && !changes(&told.report, last));
                let answer = list.map(Asked::answer);
                assert!(
                    answer.is_none_or(|answer| answer.is_beyond() || answer.has_list()),
                    "{error}"
                );
            }
            check_error(rules, (&told.report, &told.texts), &asked, error);
        }
    }
}

/// Orders in one request: each is as the answer says of it.
pub fn check_batch(batch: &[ReportRequest], results: &[Result<Receipt, ReportError>]) {
    assert_eq!(results.len(), batch.len());
    let asked = wire::take_asked();
    let [asked] = &asked[..] else {
        panic!("one request");
    };
    let texts: &[&str] = &[CUSTOMER, ORDER, "ORDER-2", "ORDER-3"];
    for (request, result) in batch.iter().zip(results) {
        let report = request.report();
        let is_sent = matches!(report, Report::Sale(_)) && report.credit().is_some();
        let order = report.order().expect("an order");
        match result {
            Ok(receipt) if is_sent => {
                assert_eq!(receipt.outcome(), Outcome::Recorded);
                assert!(asked.answer().is_beyond() || platform::takes_order(asked, order));
            }
            Ok(receipt) => assert_eq!(receipt.outcome(), Outcome::NotAttributed),
            Err(error) if is_sent => {
                assert!(asked.answer().is_beyond() || !platform::takes_order(asked, order));
                // As a whole it was refused only where no list says more of each.
                if let Error::BatchRefused { .. } = error.error() {
                    let answer = asked.answer();
                    let is_no = answer.is_beyond() || answer.says_no();
                    assert!(!answer.may_have_arrived() || is_no);
                    assert!(!platform::has_order_lists(asked));
                    assert_clean(error.error(), texts);
                } else {
                    let told = (report, texts);
                    check_error(&platform::AWIN, told, std::slice::from_ref(asked), error);
                }
            }
            Err(error) => assert_eq!(error.advice(), Advice::Permanent),
        }
    }
}

/// A click has the ID that the answer has, at the top or under `data`.
pub fn check_click(names: &[&str], result: Result<Click, Error>) {
    let asked = wire::take_asked();
    let [asked] = &asked[..] else {
        panic!("one request");
    };
    match result {
        Ok(click) => {
            let answer = asked.answer();
            assert!(answer.is_success());
            let id = click.id().as_str();
            assert!(is_id(id) && id.len() <= 128);
            assert!(click.partner_id().is_none_or(|id| is_id(id.as_str())));
            let json = answer.json().unwrap_or_default();
            let data = json.get("data").unwrap_or(&json);
            let places = [&json, data, data.get(0).unwrap_or(data)];
            let mut found = names.iter().flat_map(|name| {
                let values = places.iter().filter_map(move |place| place.get(name));
                values.map(|value| value.as_str().map_or(value.to_string(), str::to_owned))
            });
            assert!(answer.is_beyond() || found.any(|it| it == id), "{id}");
        }
        Err(error) => assert_clean(&error, &reports::click().1),
    }
}
