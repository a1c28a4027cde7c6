//! What an answer says, read from the rules and into whole values: is it a success, is it a refusal,
//! does a text equal a documented one?

use serde_json::Value;

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

    /// Does the body say no?
    #[must_use]
    pub fn says_no(&self) -> bool {
        let Some(json) = self.json() else {
            return false;
        };
        let is =
            |name: &str, values: &[Value]| json.get(name).is_some_and(|it| values.contains(it));
        let is_something = |name: &str| match json.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            Some(Value::Bool(true) | Value::Number(_)) => true,
        };
        let no = Value::Bool(false);
        is("success", std::slice::from_ref(&no))
            || is("ok", std::slice::from_ref(&no))
            || is(
                "status",
                &[no, 0.into(), "error".into(), "fail".into(), "failed".into()],
            )
            || is_something("error")
            || is_something("errors")
    }

    /// Is it a success as far as its status and its body say?
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status) && !self.is_html() && !self.says_no()
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
