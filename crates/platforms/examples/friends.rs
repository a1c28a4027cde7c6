//! A refer-a-friend dashboard: the customer's own link to share, what it has brought, the balance, and
//! the friends who came by it.
//!
//! ```sh
//! cargo run -p tower-referral-platforms --all-features --example friends
//! PARTNERO_API_KEY=… cargo run -p tower-referral-platforms --all-features --example friends
//! ```
//!
//! Open <http://127.0.0.1:3000/friends>. Without an API key a stand-in in this process answers for
//! Partnero.
//!
//! The link comes with the answer to the sign-up and is stored in the customer's row, so the page shows
//! it whether Partnero is there or not; the rest is asked for, together, with one timeout. What
//! doesn't come in time is left out of the page and the page is shown.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{Method, Request, Response};
use serde_json::Value;
use tower::service_fn;
use tower_referral_platforms::affiliate::partnero::Friend;
use tower_referral_platforms::{Client, Error, Https, PartneroFriends, SignUp, Transport};

/// How long the page waits for Partnero.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many friends the page shows.
const SHOWN: usize = 20;

/// What the shop's database would have of the customer who is logged in.
struct Customer {
    id: String,
    referral_link: Option<String>,
}

struct Shop<T> {
    friends: Client<PartneroFriends, T>,
    customer: Customer,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://127.0.0.1:3000/friends");
    match std::env::var("PARTNERO_API_KEY") {
        Ok(key) => {
            let transport = Https::new().timeout(PATIENCE);
            let friends = Client::new(PartneroFriends::new(key)?, transport);
            friends.check().await?;
            axum::serve(listener, app(friends).await?).await?;
        }
        Err(_) => {
            let friends = Client::new(PartneroFriends::new("stand-in")?, service_fn(stand_in));
            axum::serve(listener, app(friends).await?).await?;
        }
    }
    Ok(())
}

async fn app<T: Transport>(
    friends: Client<PartneroFriends, T>,
) -> Result<Router, Box<dyn std::error::Error>> {
    // The sign-up of the one customer of this example. In a shop it is in the sign-up's handler, by
    // the outbox, and the link is stored once the report is delivered.
    let sign_up = SignUp::new("customer_123")?.with_email("alice@example.com");
    let receipt = friends.report(sign_up).await?;
    let link = Friend::of_sign_up(&receipt).and_then(|it| it.referral_link().map(str::to_owned));
    let customer = Customer {
        id: "customer_123".to_owned(),
        referral_link: link,
    };
    let shop = Arc::new(Shop { friends, customer });
    Ok(Router::new()
        .route("/friends", get(dashboard::<T>))
        .with_state(shop))
}

async fn dashboard<T: Transport>(State(shop): State<Arc<Shop<T>>>) -> Html<String> {
    let (client, id) = (&shop.friends, &*shop.customer.id);
    let ask = async {
        tokio::join!(
            client.friend_stats(id),
            client.friend_balance(id),
            referrals(client, id)
        )
    };
    let asked = tokio::time::timeout(PATIENCE, ask).await;
    let (stats, balance, referrals) = match asked {
        Ok((stats, balance, referrals)) => (shown(stats), shown(balance), referrals.ok()),
        Err(_) => (None, None, None),
    };
    let mut page = String::from("<!doctype html><title>Your friends</title><h1>Your friends</h1>");
    match &shop.customer.referral_link {
        // Partnero's text, so it is escaped like any other; a link that isn't a web page's is none.
        Some(link) => {
            let link = escaped(link);
            let _ = write!(page, "<p>Share your link: <a href=\"{link}\">{link}</a>");
        }
        None => page.push_str("<p>Your link comes in a moment."),
    }
    for (title, json) in [("Stats", stats), ("Balance", balance)] {
        let _ = write!(page, "<h2>{title}</h2>");
        match json {
            Some(json) => table(&mut page, &json),
            None => page.push_str("<p>Not to be had right now."),
        }
    }
    page.push_str("<h2>Who came</h2>");
    match referrals {
        Some(names) if names.is_empty() => page.push_str("<p>Nobody yet."),
        Some(names) => names
            .iter()
            .for_each(|name| page.push_str(&format!("<li>{}", escaped(name)))),
        None => page.push_str("<p>Not to be had right now."),
    }
    Html(page)
}

/// The first names of the first friends: no addresses, which are theirs.
async fn referrals<T: Transport>(
    client: &Client<PartneroFriends, T>,
    id: &str,
) -> Result<Vec<String>, Error> {
    let list = client.friend_referrals(id)?.take(SHOWN);
    let name = |friend: Friend| {
        let name = friend.json().get("name").and_then(Value::as_str);
        name.unwrap_or("a friend").to_owned()
    };
    list.map_ok(name).try_collect().await
}

/// What is under `data`; a failure was logged with its cause, by the feature `tracing`.
fn shown(answer: Result<Option<Value>, Error>) -> Option<Value> {
    let mut json = answer.ok()??;
    Some(json.get_mut("data").map(Value::take).unwrap_or(json))
}

/// Numbers and texts by their names. What Partnero calls them is documented nowhere.
fn table(page: &mut String, json: &Value) {
    page.push_str("<table>");
    for (name, value) in json.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => escaped(text),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        let _ = write!(page, "<tr><th>{}<td>{value}", escaped(name));
    }
    page.push_str("</table>");
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// In the place of Partnero.
async fn stand_in(request: Request<Bytes>) -> Result<Response<String>, Infallible> {
    let path = request.uri().path();
    let body = match path.rsplit('/').next() {
        _ if *request.method() == Method::POST => {
            r#"{"data":{"id":"customer_123","referral_link":"https://shop.example/?ref=x1y2","referral_links":[]},"status":1}"#
        }
        Some("stats") => r#"{"data":{"clicks":17,"signups":2,"sales":1},"status":1}"#,
        Some("balance") => r#"{"data":{"credit":10,"currency":"usd"},"status":1}"#,
        Some("referrals") => {
            r#"{"data":[{"id":"customer_456","name":"Bob"}],"links":{"next":null}}"#
        }
        _ => r#"{"status":1}"#,
    };
    Ok(Response::new(body.to_owned()))
}
