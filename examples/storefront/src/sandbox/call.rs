//! A call as a stand-in sees it, and the strict reading of its body: a field that the platform's
//! documentation doesn't show, a missing one and one of another type are refused, because a client
//! that sends them is mistaken, whatever the real platform does with them.

use axum::http::{HeaderMap, Method, Uri, header};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

/// One call.
pub(super) struct Call<'c> {
    pub(super) method: &'c Method,
    pub(super) uri: &'c Uri,
    pub(super) headers: &'c HeaderMap,
    pub(super) body: &'c [u8],
    /// How many calls there were, with this one: part of the IDs that a stand-in makes.
    pub(super) number: u64,
    /// Where the stand-in listens, for links in its answers.
    pub(super) origin: &'c str,
    /// Seconds since the Unix epoch.
    pub(super) now: i64,
}

/// What a field must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A text that isn't empty.
    Text,
    /// A text of at most so many characters that may be empty.
    TextUpTo(usize),
    /// An integer of zero or more: an amount in minor units, a number of pixels.
    Integer,
    /// A JSON number of zero or more with at most three digits behind the point: an amount in major
    /// units.
    Amount,
    Flag,
    Object,
    /// A list of texts.
    Texts,
    /// A list of objects.
    Objects,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A currency's code of three letters.
    Currency,
}

/// A field that a body may or must have.
#[derive(Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    is_required: bool,
}

pub(super) const fn required(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        is_required: true,
    }
}

pub(super) const fn optional(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        is_required: false,
    }
}

/// Why a body was refused; each platform says it in its own form.
pub(super) enum Invalid {
    /// The `Content-Type` isn't JSON's.
    MediaType,
    /// The body isn't a JSON object.
    Json,
    Field {
        /// With the names of the objects around it: `customer.key`.
        name: String,
        problem: String,
    },
}

impl Invalid {
    pub(super) fn field(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field {
            name: name.into(),
            problem: problem.into(),
        }
    }

    /// The field's name, or `body`.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::MediaType | Self::Json => "body",
            Self::Field { name, .. } => name,
        }
    }

    pub(super) fn problem(&self) -> &str {
        match self {
            Self::MediaType => "send it as application/json and say so in Content-Type",
            Self::Json => "is no JSON object",
            Self::Field { problem, .. } => problem,
        }
    }
}

/// The fields of an object that were checked.
#[derive(Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A text that was required.
    pub(super) fn required_text(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    pub(super) fn amount(&self, name: &str) -> Option<Decimal> {
        self.0.get(name).and_then(amount)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name).and_then(Value::as_bool)
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Checks an object in a field; `None` if there is none.
    pub(super) fn object(&self, name: &str, known: &[Field]) -> Result<Option<Self>, Invalid> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => checked(object.clone(), name, known).map(Some),
            Some(_) => Err(Invalid::field(name, "must be an object")),
        }
    }

    /// Checks each object of a list in a field.
    pub(super) fn objects(&self, name: &str, known: &[Field]) -> Result<Vec<Self>, Invalid> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .map(|item| match item {
                Value::Object(object) => checked(object.clone(), name, known),
                _ => Err(Invalid::field(name, "must be a list of objects")),
            })
            .collect()
    }

    /// Which of these are there.
    pub(super) fn which<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let names = names.iter().copied();
        names.filter(|name| self.has(name)).collect()
    }
}

impl Call<'_> {
    /// Method and segments below the platform's base path, the segments' escapes undone.
    pub(super) fn route(&self, base: &str) -> Option<(&str, Vec<String>)> {
        let path = self.uri.path().strip_prefix(base)?.strip_prefix('/')?;
        let segments = path.split('/').map(unescaped).collect();
        Some((self.method.as_str(), segments))
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.uri.query()?.split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| unescaped(value))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The API key in `Authorization: Bearer KEY`.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.header(header::AUTHORIZATION.as_str())?
            .strip_prefix("Bearer ")
    }

    /// Accepts JSON: by name, as curl does (`*/*`), or because it doesn't say.
    pub(super) fn accepts_json(&self) -> bool {
        let Some(accept) = self.header(header::ACCEPT.as_str()) else {
            return true;
        };
        accept.split(',').any(|range| {
            let range = range.split(';').next().unwrap_or_default().trim();
            ["application/json", "application/*", "*/*"].contains(&range)
        })
    }

    pub(super) fn is_json(&self) -> bool {
        let media_type = self.header(header::CONTENT_TYPE.as_str());
        let essence = media_type.and_then(|media_type| media_type.split(';').next());
        essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    }

    /// The body's object as it came.
    pub(super) fn unchecked(&self) -> Result<Map<String, Value>, Invalid> {
        if !self.is_json() {
            return Err(Invalid::MediaType);
        }
        serde_json::from_slice(self.body).map_err(|_| Invalid::Json)
    }

    /// The body's object, with these fields and no others.
    pub(super) fn object(&self, known: &[Field]) -> Result<Fields, Invalid> {
        checked(self.unchecked()?, "", known)
    }
}

/// Refuses fields that aren't known, are of the wrong kind or are missing.
pub(super) fn checked(
    object: Map<String, Value>,
    above: &str,
    known: &[Field],
) -> Result<Fields, Invalid> {
    let path = |name: &str| {
        if above.is_empty() {
            name.to_owned()
        } else {
            format!("{above}.{name}")
        }
    };
    for (name, value) in &object {
        let Some(field) = known.iter().find(|field| field.name == name) else {
            return Err(Invalid::field(path(name), "is not documented"));
        };
        if let Err(problem) = field.kind.check(value) {
            return Err(Invalid::field(path(name), problem));
        }
    }
    let missing = |field: &&Field| field.is_required && !object.contains_key(field.name);
    if let Some(field) = known.iter().find(missing) {
        return Err(Invalid::field(path(field.name), "is required"));
    }
    Ok(Fields(object))
}

impl Kind {
    fn check(self, value: &Value) -> Result<(), String> {
        let is_text = |text: &str| !text.is_empty();
        let (is_right, wanted) = match self {
            Self::Text => (value.as_str().is_some_and(is_text), "must be a text"),
            Self::TextUpTo(most) => {
                let fits = |text: &str| text.chars().count() <= most;
                let is_right = value.as_str().is_some_and(fits);
                return is_right
                    .then_some(())
                    .ok_or_else(|| format!("must be a text of at most {most} characters"));
            }
            Self::Integer => (value.is_u64(), "must be an integer"),
            Self::Amount => (amount(value).is_some(), "must be a number in major units"),
            Self::Flag => (value.is_boolean(), "must be true or false"),
            Self::Object => (value.is_object(), "must be an object"),
            Self::Texts => (
                value
                    .as_array()
                    .is_some_and(|list| list.iter().all(Value::is_string)),
                "must be a list of texts",
            ),
            Self::Objects => (
                value
                    .as_array()
                    .is_some_and(|list| list.iter().all(Value::is_object)),
                "must be a list of objects",
            ),
            Self::OneOf(these) => {
                let is_right = value.as_str().is_some_and(|text| these.contains(&text));
                return is_right
                    .then_some(())
                    .ok_or_else(|| format!("must be one of {}", these.join(", ")));
            }
            Self::Currency => (
                value.as_str().is_some_and(is_currency),
                "must be a currency's code of three letters",
            ),
        };
        is_right.then_some(()).ok_or_else(|| wanted.to_owned())
    }
}

pub(super) fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// A JSON number of zero or more; a text of digits is none.
fn amount(value: &Value) -> Option<Decimal> {
    let number = value.as_number()?.to_string();
    let amount = Decimal::from_str_exact(&number).ok()?;
    let is_sane = !amount.is_sign_negative() && amount.normalize().scale() <= 3;
    is_sane.then_some(amount)
}

pub(super) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()), hex(rest.next()));
                bytes.push((high.unwrap_or(0) * 16 + low.unwrap_or(0)) as u8);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
