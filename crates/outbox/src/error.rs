//! What can go wrong between the outbox and its database.

use std::fmt;

/// Why the outbox couldn't do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The database failed. Within a transaction, roll it back: an order without its report isn't
    /// committed.
    Database(sqlx::Error),
    /// The outbox's tables aren't there, or are those of an older version: call
    /// [`Outbox::migrate`](crate::Outbox::migrate) once at start-up.
    NotMigrated,
    /// The report can't be written as JSON, or can't be read back: correct the report. The database
    /// hasn't seen it, so that the transaction can go on without it.
    Report(serde_json::Error),
    /// What is stored of a payment can't be read or written as JSON.
    Payment(serde_json::Error),
    /// The answer of the [credit query](crate::Outbox::with_credit_query) isn't a credit as JSON.
    Credit,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "the outbox's database failed: {error}"),
            Self::NotMigrated => f.write_str(
                "the outbox's tables aren't in this database, or are older than this program: call \
                 `Outbox::migrate` at start-up, or run the statements of `sql::POSTGRES_SCHEMA` or \
                 `sql::SQLITE_SCHEMA` that weren't run yet",
            ),
            Self::Report(error) => write!(
                f,
                "the report can't be enqueued, because its JSON can't be written or read back ({error}): \
                 correct the report; the database hasn't seen it, and the transaction may go on without it"
            ),
            Self::Payment(error) => write!(
                f,
                "what is stored of a payment in referral_payments can't be read or written: {error}"
            ),
            Self::Credit => f.write_str(
                "the credit query's answer isn't a credit as JSON: store what `serde_json` writes of a \
                 `Credit`, or build it in the query, as in `json_build_object('key', referral_key)`",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            Self::Report(error) | Self::Payment(error) => Some(error),
            Self::NotMigrated | Self::Credit => None,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // PostgreSQL's undefined_table and undefined_function; SQLite has one code for every error of a
        // statement.
        let is_missing = matches!(&error, sqlx::Error::Database(database)
        if match database.code().as_deref() {
            Some("42P01") => true,
            Some("42883") => database.message().contains("referral_"),
            _ => database.message().starts_with("no such table: referral_"),
        });
        if is_missing {
            Self::NotMigrated
        } else {
            Self::Database(error)
        }
    }
}
