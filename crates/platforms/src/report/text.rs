//! Text that may be absent: what a setter takes, and how blanks are read.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

/// What a setter of an optional text takes: a text or an `Option` of one, borrowed or owned. Blanks
/// around it are trimmed, and an empty text counts as absent.
pub trait OptionalText: sealed::Sealed {
    #[doc(hidden)]
    fn filled(self) -> Option<String>;
}

mod sealed {
    pub trait Sealed {}
}

fn trimmed(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

macro_rules! optional_text {
    ($($text:ty),*) => {$(
        impl sealed::Sealed for $text {}
        impl OptionalText for $text {
            fn filled(self) -> Option<String> {
                trimmed(self.as_ref())
            }
        }
        impl sealed::Sealed for Option<$text> {}
        impl OptionalText for Option<$text> {
            fn filled(self) -> Option<String> {
                trimmed(self?.as_ref())
            }
        }
    )*};
}

optional_text!(&str, &String, String, Cow<'_, str>, Box<str>);

/// Reads a text of JSON in the same way.
pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(from)?;
    Ok(text.and_then(|text| trimmed(&text)))
}
