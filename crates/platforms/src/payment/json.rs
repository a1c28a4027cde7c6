//! Lenient reading of a provider's JSON in one pass: a field of another type than expected counts as
//! absent, an expanded object stands for its ID, and what nobody asks for is skipped without being
//! kept.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// The longest text that is kept, in bytes. Providers allow 500 characters in a metadata value.
const MAX_TEXT: usize = 2048;
/// As many pairs of metadata are kept.
const MAX_PAIRS: usize = 64;
/// As many elements of a list are kept.
#[cfg(any(feature = "stripe", feature = "paddle"))]
const MAX_ITEMS: usize = 128;
/// No number is farther from zero, so that sums of them never overflow.
const MAX_NUMBER: u64 = 10_000_000_000_000_000;
/// What `serde_json` names the only field of a number where some crate of the program switched its
/// feature `arbitrary_precision` on.
const NUMBER: &str = "$serde_json::private::Number";

/// A field that is absent where its value isn't a `T`.
#[derive(Clone, Debug)]
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// What a value can be read from; everything else is absent.
pub(super) trait Read: Sized {
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_integer(_: i64) -> Option<Self> {
        None
    }

    fn from_flag(_: bool) -> Option<Self> {
        None
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        skip_map(map).map(|()| None)
    }

    fn from_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        skip_list(list).map(|()| None)
    }
}

fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de, T: Read> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader(PhantomData)).map(Self)
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: Read> Visitor<'de> for Reader<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(T::from_flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(T::from_integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).ok().and_then(T::from_integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::from_text(text))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::from_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::from_list(list)
    }
}

/// A text, or the `id` of an object that stands in its place. Empty, overlong and unprintable texts
/// are absent.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) String);

impl Read for Text {
    fn from_text(text: &str) -> Option<Self> {
        let is_kept =
            !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control);
        is_kept.then(|| Self(text.to_owned()))
    }

    fn from_integer(number: i64) -> Option<Self> {
        Some(Self(number.to_string()))
    }

    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut id = Lenient::<Id>::default();
        while let Some(Name(name)) = map.next_key()? {
            if name == "id" || name == NUMBER {
                id = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(id.0.map(|Id(text)| text))
    }
}

/// A text that no object stands for, so that nothing nests.
struct Id(Text);

impl Read for Id {
    fn from_text(text: &str) -> Option<Self> {
        Text::from_text(text).map(Self)
    }
}

/// The name of a property: borrowed where it can be, and cut where it is no name of interest.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name(if text.len() <= 128 { text } else { "" }.to_owned()))
            }
        }
        from.deserialize_str(Names)
    }
}

/// A whole number, or a text of one.
impl Read for i64 {
    fn from_text(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        Self::from_integer(text.parse().ok().filter(|_| is_number)?)
    }

    fn from_integer(number: i64) -> Option<Self> {
        (number.unsigned_abs() <= MAX_NUMBER).then_some(number)
    }

    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut number = Lenient::<Id>::default();
        while let Some(Name(name)) = map.next_key()? {
            if name == NUMBER {
                number = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(number.0.and_then(|Id(Text(text))| Self::from_text(&text)))
    }
}

impl Read for bool {
    fn from_flag(flag: bool) -> Option<Self> {
        Some(flag)
    }
}

/// An object that derives its reading.
#[derive(Clone, Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<T: DeserializeOwned> Read for Object<T> {
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|object| Some(Self(object)))
    }
}

/// The first elements of a list.
#[cfg(any(feature = "stripe", feature = "paddle"))]
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

#[cfg(any(feature = "stripe", feature = "paddle"))]
impl<T: Read> Read for List<T> {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX_ITEMS {
            match list.next_element::<Lenient<T>>()? {
                Some(item) => items.extend(item.0),
                None => return Ok(Some(Self(items))),
            }
        }
        skip_list(list)?;
        Ok(Some(Self(items)))
    }
}

/// What the shop put into the payment. A text that isn't kept is there without a value: an ID that can't
/// be one is no ID that the shop left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs(pub(super) BTreeMap<String, Option<String>>);

struct Value(Option<String>);

impl Read for Value {
    fn from_text(text: &str) -> Option<Self> {
        let kept = Text::from_text(text).map(|Text(text)| text);
        (!text.is_empty()).then_some(Self(kept))
    }

    fn from_integer(number: i64) -> Option<Self> {
        Some(Self(Some(number.to_string())))
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        let text = Text::from_map(map)?;
        Ok(text.map(|Text(text)| Self(Some(text))))
    }
}

impl Read for Pairs {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some(Name(name)) = map.next_key()? {
            let value: Lenient<Value> = map.next_value()?;
            if let Some(Value(value)) = value.0
                && pairs.len() < MAX_PAIRS
            {
                pairs.insert(name, value);
            }
        }
        Ok(Some(Self(pairs)))
    }
}

impl Lenient<Text> {
    pub(super) fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|Text(text)| &**text)
    }
}

impl Lenient<i64> {
    pub(super) fn or_zero(&self) -> i64 {
        self.0.unwrap_or_default()
    }
}

impl<T> Lenient<Object<T>> {
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|Object(object)| object)
    }
}

#[cfg(any(feature = "stripe", feature = "paddle"))]
impl<T> Lenient<List<T>> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|List(items)| items)
    }
}

impl Lenient<Pairs> {
    pub(super) fn pairs(&self) -> Option<&BTreeMap<String, Option<String>>> {
        self.0.as_ref().map(|Pairs(pairs)| pairs)
    }
}
