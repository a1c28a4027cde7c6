//! What can be wrong with a postback, which is refused when it is built.

use std::fmt;

/// What is wrong with a postback. It doesn't show the template, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The URL is neither `https` nor plain `http` to this machine, nor
    /// [allowed to be plain](super::Builder::plain_http), or isn't a URL at all.
    InvalidUrl,
    /// There is no macro of this name.
    UnknownMacro {
        /// The name; empty where it isn't a name at all.
        name: String,
    },
    /// A report of this kind doesn't have it.
    NotInReport {
        /// The macro's name.
        name: String,
    },
    /// A macro stands somewhere else than in the value of a query's parameter.
    MisplacedMacro,
    /// A `{` has no `}`, or a `}` no `{`.
    UnbalancedBrace,
    /// A macro that tells the report from others is missing.
    MissingMacro {
        /// The macro's name.
        name: &'static str,
    },
    /// An extra parameter has the name of a macro, or isn't a name.
    InvalidExtra {
        /// The name; empty where it isn't a name at all.
        name: String,
    },
    /// It wasn't said what is to be done about refunds.
    RefundsUndecided,
    /// Duplicates are to be recognised by a field that no template sends.
    UnsentField,
    /// A rule about the answer looks for an empty text, or its JSON pointer isn't one.
    InvalidRule,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl => f.write_str(
                "its URL isn't one, or isn't https: use https, or http on this machine \
                 (127.0.0.1), without a user's name and a fragment; for a stand-in elsewhere, \
                 `plain_http`",
            ),
            Self::UnknownMacro { name } => write!(
                f,
                "there is no macro `{{{name}}}`: use one of the documentation's table, or name an \
                 extra parameter with `extra_params`"
            ),
            Self::NotInReport { name } => write!(
                f,
                "such a report doesn't have `{{{name}}}`: leave the macro out of this template"
            ),
            Self::MisplacedMacro => f.write_str(
                "a macro stands outside of a parameter's value: write it behind a `=` in the query",
            ),
            Self::UnbalancedBrace => f.write_str(
                "a brace is alone: write macros as `{order}`, and a brace itself as `%7B` or `%7D`",
            ),
            Self::MissingMacro { name } => write!(
                f,
                "it lacks `{{{name}}}`, without which the tracker can't tell whom or what it is \
                 about: add it under the parameter that the tracker wants"
            ),
            Self::InvalidExtra { name } => write!(
                f,
                "`{name}` can't be an extra parameter: a name has 1 to 64 characters of `A-Z a-z \
                 0-9 . _ -`, and isn't that of a macro"
            ),
            Self::RefundsUndecided => f.write_str(
                "nothing is said about refunds: give their template with `refunds`, or call \
                 `without_refunds` if the tracker has none",
            ),
            Self::UnsentField => f.write_str(
                "duplicates are to be recognised by a field that no template sends: add its macro",
            ),
            Self::InvalidRule => f.write_str(
                "a rule about the answer looks for nothing, or its JSON pointer doesn't begin with \
                 `/`",
            ),
        }
    }
}

impl std::error::Error for Problem {}
