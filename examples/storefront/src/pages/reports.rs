//! The pages about reports: what became of one, what the outbox holds, and a customer's friends.

use maud::{Markup, html};
use serde_json::Value;

use super::{Page, hidden, page};
use crate::customers::Friends;
use crate::outbox::Overview;
use crate::reports::{Answer, Outcome};
use crate::shop::Visitor;

/// What became of a sign-up, a sale or a refund.
pub(crate) fn report(visitor: &Visitor, what: &str, report: &Answer) -> Page {
    let class = match report.outcome {
        Outcome::Recorded => "good",
        Outcome::Failed => "bad",
        Outcome::Queued | Outcome::Duplicate | Outcome::NotAttributed => "",
    };
    page(
        visitor,
        &format!("{what}: {}", report.outcome),
        html! {
            p class=(format!("note {class}")) { (report.detail) }
            p { a.button href="/" { "Back to the shop" } }
        },
    )
}

/// What waits in the outbox, what came of the rest, and what a person has to look at.
pub(crate) fn outbox(visitor: &Visitor, outbox: &Overview) -> Page {
    page(
        visitor,
        "Outbox",
        html! {
            dl {
                dt { "Waiting" }
                dd { (outbox.waiting) }
                dt { "Recorded" }
                dd { (outbox.outcomes.recorded) }
                dt { "Duplicates" }
                dd { (outbox.outcomes.duplicate) }
                dt { "Not attributed" }
                dd { (outbox.outcomes.not_attributed) }
            }
            @if let Some(reason) = &outbox.paused {
                p.note.bad { "Sending is paused: " (reason) }
            }
            @if outbox.problems.is_empty() {
                p { "There is no report that somebody has to look at." }
            } @else {
                form method="post" action="/outbox" {
                    (hidden("all", "true"))
                    button { "Send all again" }
                }
            }
            @for problem in &outbox.problems { (problem_card(problem)) }
        },
    )
}

fn problem_card(problem: &crate::outbox::Problem) -> Markup {
    let what = match problem.state {
        "ambiguous" => "It may have arrived",
        "unreadable" => "It can't be read",
        _ => "It has not arrived",
    };
    html! {
        section.card {
            h2 { code { (problem.id) } }
            p { (what) ": " (problem.reason) "." }
            form method="post" action="/outbox" {
                (hidden("id", &problem.id))
                button { "Send it again" }
            }
        }
    }
}

/// A customer's link to share and what it has earned, as the platform has it.
pub(crate) fn friends(visitor: &Visitor, customer: &str, friends: &Friends) -> Page {
    page(
        visitor,
        "Your friends",
        html! {
            @match &friends.link {
                Some(link) => p { "Share this link, " (customer) ": " a href=(link) { code { (link) } } }
                None => p { "There is no link yet." }
            }
            h2 { "So far" }
            (facts(&friends.stats))
            h2 { "Balance" }
            (facts(&friends.balance))
            h2 { "Friends: " (friends.friends.len()) }
            ul { @for friend in &friends.friends { li { (name_of(friend)) } } }
        },
    )
}

/// What the platform gave, each part under its name. Names and parts are the platform's own, and a
/// newer version of its interface may have others.
fn facts(value: &Value) -> Markup {
    let facts: Vec<_> = value.as_object().into_iter().flatten().collect();
    let facts: Vec<_> = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, in_words(value)?)))
        .collect();
    html! {
        @if facts.is_empty() { p { "Nothing yet." } }
        dl {
            @for (name, value) in facts {
                dt { (capitalised(name)) }
                dd { (value) }
            }
        }
    }
}

/// `None` if there is nothing in it.
fn in_words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(flag) => Some(if *flag { "yes" } else { "no" }.to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(list) => join(list.iter().filter_map(in_words)),
        // An amount of money or of points.
        Value::Object(object) if object.contains_key("amount") => {
            let units = object.get("amount_units").and_then(Value::as_str);
            let amount = in_words(&object["amount"])?;
            Some(
                format!("{amount} {}", units.unwrap_or_default())
                    .trim_end()
                    .to_owned(),
            )
        }
        Value::Object(object) => join(
            object
                .iter()
                .filter_map(|(name, value)| Some(format!("{name} {}", in_words(value)?))),
        ),
    }
}

fn join(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `social_links` as a heading: `Social links`.
fn capitalised(name: &str) -> String {
    let mut name = name.replace('_', " ");
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

/// A friend's name, or else the customer's ID; their e-mail address is nobody else's business.
fn name_of(friend: &Value) -> &str {
    let text = |name: &str| friend[name].as_str().filter(|text| !text.is_empty());
    text("name").or_else(|| text("id")).unwrap_or("a friend")
}
