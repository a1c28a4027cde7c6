//! Platforms' answers, read a second time: what each means for a report by the words of the
//! platform's type, and what has to be asked next. JSON is parsed by the same library, which isn't
//! ours; everything that is concluded from it is concluded here anew.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

/// The longest answer that is read.
const MAX_LEN: usize = 64 * 1024;

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// How long the platform wants to be left alone.
    pub wait: Option<Duration>,
    /// Its body.
    pub body: &'a [u8],
}

/// Why nothing came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 429.
    RateLimited(Option<Duration>),
    /// 401 and 403.
    Unauthorized(u16),
    /// The key of a click isn't known.
    UnknownKey,
    /// Any other refusal.
    Rejected(u16, Option<Duration>),
    /// The answer can't be read.
    Unreadable(u16),
    /// More goes back than was paid.
    RefundOverSale,
    /// The refund is in another currency than the sale.
    RefundInOtherCurrency,
    /// A part can't be taken back.
    PartialRefund,
    /// The list goes on elsewhere.
    ForeignLink,
}

impl Failure {
    /// What is to be done about it: `later`, `dead` or `undecided`.
    pub fn advice(self, does_no_harm_twice: bool) -> &'static str {
        match self {
            Self::RateLimited(_) => "later",
            Self::Unreadable(_) | Self::Rejected(408 | 500..=599, _) => {
                if does_no_harm_twice {
                    "later"
                } else {
                    "undecided"
                }
            }
            _ => "dead",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Recorded, under this ID.
    Recorded(Option<String>),
    /// It was there before.
    Duplicate,
    /// Nobody is credited.
    NotAttributed,
}

impl<'a> Answer<'a> {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What is left of an answer that is too long.
    pub fn bounded(self) -> Result<Self, Failure> {
        if self.body.len() <= MAX_LEN {
            Ok(self)
        } else if self.is_success() {
            Err(Failure::Unreadable(self.status))
        } else {
            Ok(Self { body: b"", ..self })
        }
    }

    /// Its JSON, if it is any.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body).ok()
    }

    /// There is no such thing, by the platform's own word.
    pub fn is_not_found(&self) -> bool {
        self.status == 404 && self.json().is_some_and(|json| json.is_object())
    }

    fn says_no(&self) -> bool {
        let Some(Value::Object(json)) = self.json() else {
            return false;
        };
        json.iter()
            .any(|(name, value)| match (name.as_str(), value) {
                ("success" | "ok" | "status", Value::Bool(false)) => true,
                ("status", Value::Number(number)) => number.as_i64() == Some(0),
                ("status", Value::String(text)) => text == "error" || text == "fail",
                ("error" | "errors", Value::String(text)) => !text.is_empty(),
                ("error" | "errors", Value::Array(list)) => !list.is_empty(),
                ("error" | "errors", Value::Object(object)) => !object.is_empty(),
                _ => false,
            })
    }

    /// Is it a success that doesn't say no?
    pub fn accepted(&self) -> Result<(), Failure> {
        match self.status {
            200..=299 if !self.says_no() => Ok(()),
            429 => Err(Failure::RateLimited(self.wait)),
            401 | 403 => Err(Failure::Unauthorized(self.status)),
            status => Err(Failure::Rejected(status, self.wait)),
        }
    }

    /// The JSON of a success.
    pub fn success(&self) -> Result<Value, Failure> {
        self.accepted()?;
        self.json().ok_or(Failure::Unreadable(self.status))
    }

    /// The same, where nothing at all is a success too.
    pub fn acknowledged(&self) -> Result<Value, Failure> {
        self.accepted()?;
        if self.body.iter().all(|byte| b" \t\n\r\x0c".contains(byte)) {
            return Ok(Value::Null);
        }
        self.success()
    }

    fn refuses(&self, sent: &[&str], is_said: impl Fn(&str) -> bool) -> bool {
        let may = match self.status {
            400 | 404 | 409 | 410 | 422 => true,
            _ => self.is_success() && self.says_no(),
        };
        let Some(json) = self.json().filter(|_| may) else {
            return false;
        };
        let mut texts = Vec::new();
        collect(&json, "", &mut texts);
        texts.iter().any(|(above, text)| {
            if sent.contains(&text.as_str()) {
                return false;
            }
            let all = format!("{above} {text}").to_ascii_lowercase();
            let all = all.replace("partnero", "");
            let is_about_us = ["api key", "api_key", "api-key"];
            !is_about_us.iter().any(|word| all.contains(word)) && is_said(&all)
        })
    }

    /// Does it say that one of these isn't known?
    pub fn says_unknown(&self, sent: &[&str], subjects: &[&str]) -> bool {
        const WORDS: [&str; 11] = [
            "unknown",
            "not found",
            "not_found",
            "invalid",
            "not valid",
            "not exist",
            "n't exist",
            "no such",
            "could not find",
            "couldn't find",
            "unrecogni",
        ];
        self.refuses(sent, |text| {
            subjects.iter().any(|word| text.contains(word))
                && WORDS.iter().any(|word| text.contains(word))
        })
    }

    /// Does it say that one of these is there already?
    pub fn says_duplicate(&self, sent: &[&str], subjects: &[&str]) -> bool {
        const WORDS: [&str; 5] = ["already", "duplicate", "unique", "taken", "in use"];
        self.refuses(sent, |text| {
            let exists = text.contains("exist")
                && !text.contains("not exist")
                && !text.contains("n't exist");
            subjects.iter().any(|word| text.contains(word))
                && (exists || WORDS.iter().any(|word| text.contains(word)))
        })
    }

    /// The list in the answer, each item as it was written.
    pub fn list(&self, names: &[&str]) -> Option<Vec<Box<RawValue>>> {
        let is_list = |json: &RawValue| -> Option<Vec<Box<RawValue>>> {
            serde_json::from_str(json.get()).ok()
        };
        let within = |json: &RawValue| -> Vec<Box<RawValue>> {
            let object: HashMap<String, Box<RawValue>> =
                serde_json::from_str(json.get()).unwrap_or_default();
            let names = ["data"].iter().chain(names);
            names
                .filter_map(|name| object.get(*name).cloned())
                .collect()
        };
        let whole: Box<RawValue> = serde_json::from_slice(self.body).ok()?;
        if let Some(list) = is_list(&whole) {
            return Some(list);
        }
        for json in within(&whole) {
            if let Some(list) = is_list(&json) {
                return Some(list);
            }
            if let Some(list) = within(&json).iter().find_map(|json| is_list(json)) {
                return Some(list);
            }
        }
        None
    }
}

/// All texts, each with the names of the properties above it.
fn collect(json: &Value, above: &str, texts: &mut Vec<(String, String)>) {
    match json {
        Value::String(text) => texts.push((above.to_owned(), text.clone())),
        Value::Array(list) => {
            for item in list {
                collect(item, above, texts);
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                collect(value, &format!("{above} {name}"), texts);
            }
        }
        _ => {}
    }
}

/// The first of these properties that is a text or a whole number, at the top, then under `data`.
pub fn text_of(json: &Value, names: &[&str]) -> Option<String> {
    for json in [Some(json), json.get("data")].into_iter().flatten() {
        for name in names {
            match json.get(name) {
                Some(Value::String(text)) if !text.is_empty() => return Some(text.clone()),
                Some(Value::Number(number)) => {
                    if let Some(number) = number.as_u64() {
                        return Some(number.to_string());
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// A conversion on a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The platform's ID.
    pub id: Option<String>,
    /// Ours.
    pub external_id: Option<String>,
    /// What kind it is.
    pub kind: Option<String>,
    /// Every digit.
    pub amount: Option<String>,
    /// In which money.
    pub currency: Option<String>,
}

impl Listed {
    /// What an item of a list is; `None` if it isn't an object.
    pub fn read(item: &RawValue) -> Option<Self> {
        let json: Value = serde_json::from_str(item.get()).ok()?;
        let Value::Object(_) = json else {
            return None;
        };
        let raw: HashMap<String, Box<RawValue>> = serde_json::from_str(item.get()).ok()?;
        let amount = raw.get("amount").map(|raw| raw.get());
        Some(Self {
            id: text_of(&json, &["id", "conversion_id"]),
            external_id: text_of(&json, &["unique_id", "external_id"]),
            kind: text_of(&json, &["conversion_type", "type"]),
            amount: match json.get("amount") {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(_)) => amount.map(str::to_owned),
                _ => None,
            },
            currency: text_of(&json, &["currency"])
                .or_else(|| text_of(json.get("metadata")?, &["currency"]))
                .or_else(|| text_of(json.get("meta_data")?, &["currency"])),
        })
    }
}

/// An amount in billionths; `None` if it isn't one.
pub fn billionths(amount: &str) -> Option<u128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 || whole.len() + fraction.len() > 18 {
        return None;
    }
    format!("{whole}{fraction:0<9}").parse().ok()
}

/// The wait that a `Retry-After` asks for, given the answer's own `Date`: a number of seconds or a
/// date, an hour at most.
pub fn wait(retry_after: &str, date: &str) -> Option<Duration> {
    let hour = Duration::from_secs(3600);
    let text = retry_after.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let digits = text.trim_start_matches('0');
        // Five digits are over an hour, and so are all the longer ones.
        if digits.len() > 4 {
            return Some(hour);
        }
        let seconds = digits
            .bytes()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        return Some(Duration::from_secs(seconds).min(hour));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let from = httpdate::parse_http_date(date).expect("a date of ours");
    Some(until.duration_since(from).unwrap_or_default().min(hour))
}
