//! The pages about reports: what became of one, what the outbox holds, and a customer's friends.

use maud::{Markup, html};

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
            p { (what) ": " (problem.reason) }
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
            h2 { "Stats" }
            pre { code { (format!("{:#}", friends.stats)) } }
            h2 { "Balance" }
            pre { code { (format!("{:#}", friends.balance)) } }
            h2 { "Friends: " (friends.friends.len()) }
            pre { code { (format!("{:#}", serde_json::Value::from(friends.friends.clone()))) } }
        },
    )
}
