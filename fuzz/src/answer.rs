//! What an answer says, read from the rules and into whole values: is it a success, is it a refusal,
//! does a text equal a documented one?

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The longest answer that is read.
const MAX_LEN: usize = 64 * 1024;

/// An answer as it came.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// The body as one JSON value, if it is one.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body).ok()
    }

    /// Is it a page?
    #[must_use]
    pub fn is_html(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }

    /// Is the body one JSON value, however deep?
    #[must_use]
    pub fn is_json(&self) -> bool {
        serde_json::from_slice::<IgnoredAny>(self.body).is_ok()
    }

    /// Is there more of it than is read, is it deeper than a whole value is read, or are there two values
    /// of one name or numbers beyond 64 bits? Then nothing is said here of what is in it.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        let is_plain = || serde_json::from_slice::<Plain>(self.body).is_ok();
        self.body.len() > MAX_LEN || self.is_json() && (self.json().is_none() || !is_plain())
    }

    /// Does what it says of itself, in three places, agree with a success?
    #[must_use]
    pub fn may_say_yes(&self) -> bool {
        const NO: [&str; 8] = [
            "error", "fail", "failed", "failure", "rejected", "refused", "denied", "invalid",
        ];
        let json = self.json().unwrap_or_default();
        let is_yes = |name: &str| match json.get(name) {
            None => true,
            Some(said) => said == true || said == 1 || said == "true",
        };
        let is_state = match json.get("status") {
            None | Some(Value::Null | Value::Bool(true)) => true,
            Some(Value::String(text)) => !NO.contains(&&*text.trim().to_ascii_lowercase()),
            Some(code) => matches!(code.as_u64(), Some(1 | 200..=299)),
        };
        is_yes("success") && is_yes("ok") && is_state
    }

    /// Is it a success, with something that was made at one of these pointers: a text, a number, an object?
    #[must_use]
    pub fn shows(&self, pointers: &[&str]) -> bool {
        let json = self.json().unwrap_or_default();
        let is_made = |value: &Value| match value {
            Value::String(text) => !text.trim().is_empty(),
            Value::Number(number) => number.as_u64().is_some_and(|number| number != 0),
            Value::Object(_) => true,
            _ => false,
        };
        let mut values = pointers.iter().filter_map(|pointer| json.pointer(pointer));
        self.is_json_success() && values.any(is_made)
    }

    /// Is it the success that is no more than its status, or does it show what was made?
    #[must_use]
    pub fn is_silent_or_shows(&self, pointers: &[&str]) -> bool {
        match self.status {
            204 => self.is_empty_204(),
            _ => self.shows(pointers),
        }
    }

    /// Is it the success that is no more than its status?
    #[must_use]
    pub fn is_empty_204(&self) -> bool {
        self.status == 204 && self.body.trim_ascii().is_empty()
    }

    /// The value of this name, at the top.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        self.json()?.get_mut(name).map(Value::take)
    }

    /// Does the body say no?
    #[must_use]
    pub fn says_no(&self) -> bool {
        let Some(json) = self.json() else {
            return false;
        };
        let is =
            |name: &str, values: &[Value]| json.get(name).is_some_and(|it| values.contains(it));
        let no = Value::Bool(false);
        is("success", std::slice::from_ref(&no))
            || is("ok", std::slice::from_ref(&no))
            || is(
                "status",
                &[no, 0.into(), "error".into(), "fail".into(), "failed".into()],
            )
            || is_something(json.get("error"))
            || is_something(json.get("errors"))
    }

    /// Is its status 2xx?
    #[must_use]
    pub fn is_2xx(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Is it a success as far as its status and its body say? What begins as an object must be one.
    #[must_use]
    pub fn is_success(&self) -> bool {
        let is_broken = self.body.trim_ascii_start().starts_with(b"{") && !self.is_json();
        let is_yes = !self.says_no() && self.may_say_yes();
        self.is_2xx() && !self.is_html() && !is_broken && is_yes
    }

    /// Is it a success in JSON?
    #[must_use]
    pub fn is_json_success(&self) -> bool {
        self.is_success() && self.is_json()
    }

    /// Is it a refusal of the request in JSON: a 2xx that says no, or a 4xx that isn't about the account,
    /// the pace or the time that it took?
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let is_object = self.json().is_some_and(|json| json.is_object());
        let is_4xx =
            (400..500).contains(&self.status) && self.status != 408 && !self.is_of_account();
        is_object && (is_4xx || self.is_2xx() && self.says_no())
    }

    /// Is it about the account (401, 402, 403, a redirect) or the pace (429)?
    #[must_use]
    pub fn is_of_account(&self) -> bool {
        matches!(self.status, 401..=403 | 429 | 300..=399)
    }

    /// May what was asked have been done, as far as the status says? A 301, a 307 and a 308 say that it is to be
    /// asked for elsewhere, and a 4xx other than 408 refuses it; anything else says nothing of the kind.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match self.status {
            301 | 307 | 308 => false,
            400..=499 => self.status == 408,
            _ => true,
        }
    }

    /// Is it a refusal with this code, at the top or under `error`?
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        let is = |value: Option<&Value>| value.and_then(Value::as_str) == Some(code);
        let json = self.json().unwrap_or_default();
        let within = json.get("error").and_then(|error| error.get("code"));
        self.is_refusal() && (is(json.get("code")) || is(within))
    }

    /// Does `errors` name fields, each with one of these words before its first point?
    #[must_use]
    pub fn is_about(&self, fields: &[&str]) -> bool {
        let Some(Value::Object(errors)) = self.get("errors") else {
            return false;
        };
        let is_field = |name: &String| fields.contains(&name.split('.').next().unwrap_or(name));
        self.is_refusal() && !errors.is_empty() && errors.keys().all(is_field)
    }

    /// Is this text, or a number of these digits, anywhere in the JSON of a success?
    #[must_use]
    pub fn lists(&self, text: &str) -> bool {
        self.is_success() && self.json().is_some_and(|json| mentions(&json, text))
    }

    /// Is it a success with a list, there or somewhere within?
    #[must_use]
    pub fn has_list(&self) -> bool {
        self.is_success() && self.json().is_some_and(|json| holds_list(&json))
    }

    /// Is it a JSON object of this status?
    #[must_use]
    pub fn is_object(&self, status: u16) -> bool {
        self.status == status && self.json().is_some_and(|json| json.is_object())
    }

    /// Does one of the documented places hold this text, whole?
    #[must_use]
    pub fn names(&self, text: &str) -> bool {
        let Some(json) = self.json() else {
            return false;
        };
        let is = |value: Option<&Value>| value.and_then(Value::as_str) == Some(text);
        let field = json.get("errors").and_then(|errors| errors.get("key"));
        let only = field
            .and_then(Value::as_array)
            .filter(|list| list.len() == 1)
            .and_then(|list| list.first());
        is(json.get("message"))
            || is(json.get("error"))
            || is(json.get("error").and_then(|error| error.get("message")))
            || is(field)
            || is(only)
    }
}

/// Is it more than nothing?
#[must_use]
pub fn is_something(json: Option<&Value>) -> bool {
    match json {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Bool(true) | Value::Number(_)) => true,
    }
}

/// Is it an ID: 1 to 255 visible ASCII characters?
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The ID that a JSON value is: a text, or a whole number.
#[must_use]
pub fn id(json: Option<&Value>) -> Option<String> {
    let text = match json? {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        _ => return None,
    };
    is_id(&text).then_some(text)
}

fn mentions(json: &Value, wanted: &str) -> bool {
    match json {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(list) => list.iter().any(|json| mentions(json, wanted)),
        Value::Object(map) => map.values().any(|json| mentions(json, wanted)),
        Value::Null | Value::Bool(_) => false,
    }
}

fn holds_list(json: &Value) -> bool {
    match json {
        Value::Array(_) => true,
        Value::Object(map) => map.values().any(holds_list),
        _ => false,
    }
}

/// JSON in which every name has one value, and every number 64 bits.
struct Plain;

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self, E> {
        let is_small = number.abs() < 1e19;
        is_small.then_some(self).ok_or_else(|| E::custom("large"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some((name, Self)) = map.next_entry::<String, Self>()? {
            if !names.insert(name) {
                return Err(de::Error::custom("a name twice"));
            }
        }
        Ok(self)
    }
}
