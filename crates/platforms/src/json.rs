//! JSON both ways: amounts as numbers with all of their digits, and a reader that picks a few
//! properties out of an answer in one pass, whatever else is in it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::PlatformId;
use crate::money::Money;

/// An amount as a JSON number with all of its digits.
#[derive(Clone, Copy)]
pub(crate) struct Number(pub(crate) Money);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let digits = RawValue::from_string(self.0.amount());
        digits.map_err(serde::ser::Error::custom)?.serialize(to)
    }
}

/// An object's properties of these names, each as it was written. An object that has one of them twice
/// says two things, and so nothing.
pub(crate) fn pick<'j, const N: usize>(
    json: &'j [u8],
    names: [&str; N],
) -> Option<[Option<&'j RawValue>; N]> {
    // An error costs more than to read a short item.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let picked = Pick(names).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(picked)
}

struct Pick<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut picked = [None; N];
        // Most names are none of these by their first letter.
        let letter = |name: &str| 1_u64 << (name.as_bytes().first().map_or(0, |byte| byte % 64));
        let letters = self.0.iter().fold(0, |all, name| all | letter(name));
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if letters & letter(&name.0) == 0 {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            match self.0.iter().position(|wanted| *wanted == name.0) {
                Some(at) if picked[at].is_some() => return Err(A::Error::custom("said twice")),
                Some(at) => picked[at] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(picked)
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'j>(#[serde(borrow)] Cow<'j, str>);

/// Where in an object its properties of these names are, and whether it is one, in one pass.
pub(crate) fn spans<const N: usize>(json: &[u8], names: [&str; N]) -> Option<[Option<Span>; N]> {
    let start = json.as_ptr() as usize;
    let span = |raw: &RawValue| Span {
        start: raw.get().as_ptr() as usize - start,
        len: raw.get().len(),
    };
    Some(pick(json, names)?.map(|raw| raw.map(span)))
}

/// A part of an answer's body.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: usize,
    len: usize,
}

impl Span {
    pub(crate) fn of(self, json: &[u8]) -> Option<&str> {
        std::str::from_utf8(json.get(self.start..self.start + self.len)?).ok()
    }
}

/// Returns `true` if it is an object with properties, whose names are all among these.
pub(crate) fn has_only(json: &str, names: &[&str]) -> bool {
    struct Only<'n>(&'n [&'n str]);

    impl<'de> Visitor<'de> for Only<'_> {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let mut has_any = false;
            while let Some(name) = map.next_key::<Name<'de>>()? {
                if !self.0.contains(&&*name.0) {
                    return Err(A::Error::custom("another name"));
                }
                map.next_value::<IgnoredAny>()?;
                has_any = true;
            }
            Ok(has_any)
        }
    }

    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Only(names)).unwrap_or(false)
}

/// The value at a pointer (RFC 6901), as it was written. Each step reads no more than the one before found.
pub(crate) fn at<'j>(json: &'j [u8], pointer: &str) -> Option<&'j str> {
    let mut found = std::str::from_utf8(json).ok()?.trim_ascii();
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        found = match found.as_bytes().first()? {
            b'{' => pick(found.as_bytes(), [&*token])?[0]?.get(),
            b'[' => {
                let is_index = token == "0" || !token.starts_with(['0', '+']);
                let index = token.parse::<usize>().ok().filter(|_| is_index)?;
                let items: Vec<&RawValue> = serde_json::from_str(found).ok()?;
                items.get(index)?.get()
            }
            _ => return None,
        };
    }
    Some(found)
}

/// The text of a JSON string.
pub(crate) fn text(json: &RawValue) -> Option<Cow<'_, str>> {
    text_of(json.get())
}

/// The text of a JSON string.
pub(crate) fn text_of(json: &str) -> Option<Cow<'_, str>> {
    if !json.starts_with('"') {
        return None;
    }
    serde_json::from_str::<Name<'_>>(json)
        .ok()
        .map(|name| name.0)
}

/// An ID: a text, or a whole number.
pub(crate) fn id(json: &RawValue) -> Option<PlatformId> {
    id_of(json.get())
}

/// An ID: a text, or a whole number.
pub(crate) fn id_of(written: &str) -> Option<PlatformId> {
    if written.starts_with('"') {
        return PlatformId::new(text_of(written)?);
    }
    let is_whole = written.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| PlatformId::new(written)).flatten()
}

/// The most values of an answer that is handed on as a whole: no platform's has a tenth of it.
const MAX_VALUES: usize = 4096;

/// Reads a whole answer, if it isn't too much of one.
pub(crate) fn value(json: &[u8]) -> Option<serde_json::Value> {
    let begins = |byte: &&u8| matches!(**byte, b',' | b'[' | b'{');
    if json.iter().filter(begins).count() > MAX_VALUES {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The most items of a page; no platform gives over a hundred.
const MAX_ITEMS: usize = 1000;

/// The items of a list, each as it was written: an answer that is a list, or that has one under
/// `data` or under one of these names, there or at the top.
pub(crate) fn list_in<'j>(json: &'j [u8], [one, two]: [&str; 2]) -> Option<Vec<&'j RawValue>> {
    let names = ["data", one, two, "items", "results"];
    let mut json = json;
    for _ in 0..3 {
        if json.trim_ascii_start().first() == Some(&b'[') {
            let items: Vec<&RawValue> = serde_json::from_slice(json).ok()?;
            return (items.len() <= MAX_ITEMS).then_some(items);
        }
        let within = pick(json, names)?.into_iter().flatten();
        let is_inside = |raw: &&RawValue| raw.get().starts_with(['[', '{']);
        json = within.into_iter().find(is_inside)?.get().as_bytes();
    }
    None
}

/// A number or a text of digits, with all of them.
pub(crate) fn digits(json: &RawValue) -> Option<String> {
    match json.get().as_bytes().first()? {
        b'"' => text(json).map(Cow::into_owned),
        b'-' | b'0'..=b'9' => Some(json.get().to_owned()),
        _ => None,
    }
}

/// So much text is more than anybody is shown.
const MAX_TEXTS: usize = 8 * 1024;

/// Appends the texts of a JSON value, with the names above them, in one pass, until there are enough.
pub(crate) fn push_texts(json: &str, texts: &mut String) {
    let mut reader = serde_json::Deserializer::from_str(json);
    // Beyond the depth that is read, there is nothing for a person.
    let _ = Texts(texts).deserialize(&mut reader);
}

struct Texts<'t>(&'t mut String);

impl Texts<'_> {
    fn push<E: serde::de::Error>(&mut self, text: impl fmt::Display) -> Result<(), E> {
        use fmt::Write;

        if self.0.len() > MAX_TEXTS {
            return Err(E::custom("enough"));
        }
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        write!(self.0, "{text}").map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        self.push(text)
    }

    fn visit_u64<E: serde::de::Error>(mut self, number: u64) -> Result<(), E> {
        self.push(number)
    }

    fn visit_i64<E: serde::de::Error>(mut self, number: i64) -> Result<(), E> {
        self.push(number)
    }

    fn visit_f64<E: serde::de::Error>(mut self, number: f64) -> Result<(), E> {
        self.push(number)
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Texts(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name<'de>>()? {
            self.push(format_args!("{}:", name.0))?;
            map.next_value_seed(Texts(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pointer_finds_what_serde_json_finds() {
        let json = r#" {"a": {"b/c": [1, {"~": "x"}], "": null}, "n": 8.50, "a~1": true, "d": 1, "d": 2} "#;
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        for pointer in [
            "",
            "/a",
            "/a/b~1c",
            "/a/b~1c/0",
            "/a/b~1c/1/~0",
            "/a/b~1c/01",
            "/a/b~1c/+1",
            "/a/b~1c/2",
            "/a/",
            "/n",
            "/n/0",
            "/a~01",
            "/none",
            "/a/b",
            "/",
        ] {
            let found = super::at(json.as_bytes(), pointer);
            let found =
                found.map(|found| serde_json::from_str::<serde_json::Value>(found).unwrap());
            assert_eq!(found.as_ref(), value.pointer(pointer), "{pointer}");
        }
        // What is said twice is not said.
        assert_eq!(super::at(json.as_bytes(), "/d"), None);
        for json in ["", "no", "{", r#"{"a": 1} and more"#] {
            assert_eq!(super::at(json.as_bytes(), "/a"), None, "{json}");
        }
    }
}
