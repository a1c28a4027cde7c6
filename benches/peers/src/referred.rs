//! What the peers have in common: which key a request carries.

use std::collections::HashMap;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

pub(crate) const COOKIE: &str = "__Host-referral";
pub(crate) const DAYS: time::Duration = time::Duration::days(30);

/// The key that a handler gets.
#[derive(Clone)]
pub(crate) struct ReferredBy(pub(crate) String);

/// The query as axum gives it.
pub(crate) type Parameters = Result<Query<HashMap<String, String>>, QueryRejection>;

/// The key of a landing. A query that can't be read has none.
pub(crate) fn landing_key(parameters: Parameters) -> Option<String> {
    let Query(mut parameters) = parameters.ok()?;
    ["aff", "ref"]
        .into_iter()
        .filter_map(|name| parameters.remove(name))
        .find(|key| is_key(key))
}

fn is_key(key: &str) -> bool {
    let is_key_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-@+:=".contains(&byte);
    (1..=128).contains(&key.len()) && key.bytes().all(is_key_byte)
}
