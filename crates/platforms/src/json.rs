//! JSON both ways: objects written digit by digit, so that no amount becomes a float, and answers
//! read leniently where no platform documents them.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::money::Money;

/// A JSON object under construction. What is absent is left out, never `null`.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Self("{".to_owned())
    }

    pub(crate) fn text<'t>(self, name: &str, text: impl Into<Option<&'t str>>) -> Self {
        match text.into() {
            Some(text) => self.raw(name, &quoted(text)),
            None => self,
        }
    }

    /// A property for each pair of name and value.
    #[cfg(any(feature = "partnac", feature = "tapfiliate"))]
    pub(crate) fn texts<'t>(pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Self {
        pairs.fold(Self::new(), |object, (name, text)| object.text(name, text))
    }

    /// A number with all of its digits.
    pub(crate) fn amount(self, name: &str, amount: Option<Money>) -> Self {
        match amount {
            Some(amount) => self.raw(name, &amount.amount()),
            None => self,
        }
    }

    #[cfg(feature = "partnac")]
    pub(crate) fn zero(self, name: &str) -> Self {
        self.raw(name, "0")
    }

    #[cfg(any(feature = "partnac", feature = "partnero"))]
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.raw(name, if value { "true" } else { "false" })
    }

    /// Another object; an empty one is as absent.
    pub(crate) fn object(self, name: &str, object: Self) -> Self {
        if object.0 == "{" {
            self
        } else {
            self.raw(name, &object.finish())
        }
    }

    #[cfg(feature = "partnero")]
    pub(crate) fn list(self, name: &str, objects: impl Iterator<Item = Self>) -> Self {
        let objects: Vec<_> = objects.map(Self::finish).collect();
        self.raw(name, &format!("[{}]", objects.join(",")))
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.finish().into()
    }

    fn raw(mut self, name: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The text or whole number in the first of these properties that has one, at the top or under
/// `data`.
pub(crate) fn text_in(json: &Value, properties: &[&str]) -> Option<String> {
    let here = |json: &Value| {
        properties.iter().find_map(|name| match json.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) if number.is_u64() => Some(number.to_string()),
            _ => None,
        })
    };
    here(json).or_else(|| here(json.get("data")?))
}

/// The objects of a list, each as it was written: an answer that is a list, or that has one under
/// `data` or under one of these names, there or at the top.
pub(crate) fn list_in(body: &[u8], names: &[&str]) -> Option<Vec<Box<RawValue>>> {
    fn find(json: &RawValue, names: &[&str], depth: u8) -> Option<Vec<Box<RawValue>>> {
        if let Ok(list) = serde_json::from_str(json.get()) {
            return Some(list);
        }
        let object: HashMap<String, &RawValue> = serde_json::from_str(json.get()).ok()?;
        let within = std::iter::once(&"data").chain(names);
        let mut found = within.filter_map(|name| object.get(*name));
        found.find_map(|json| find(json, names, depth.checked_sub(1)?))
    }
    find(serde_json::from_slice(body).ok()?, names, 2)
}

/// A number or a text of digits in a property, with all of its digits.
#[cfg(any(feature = "partnac", feature = "tapfiliate"))]
pub(crate) fn digits_in(json: &RawValue, property: &str) -> Option<String> {
    let object: HashMap<String, &RawValue> = serde_json::from_str(json.get()).ok()?;
    let value = object.get(property)?.get();
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok(),
        b'-' | b'0'..=b'9' => Some(value.to_owned()),
        _ => None,
    }
}

/// Is there a text in this JSON of which this is true? It is given with the names of the properties
/// above it, so that what is said of one property isn't taken for a word about another.
pub(crate) fn says(json: &Value, is_said: &dyn Fn(&str, &str) -> bool) -> bool {
    fn walk(json: &Value, above: &str, is_said: &dyn Fn(&str, &str) -> bool) -> bool {
        match json {
            Value::String(text) => is_said(above, text),
            Value::Array(list) => list.iter().any(|item| walk(item, above, is_said)),
            Value::Object(object) => object
                .iter()
                .any(|(name, value)| walk(value, &format!("{above} {name}"), is_said)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    walk(json, "", is_said)
}
