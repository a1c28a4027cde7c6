//! What can go wrong between the outbox and its database.

use std::fmt;

/// Why the outbox couldn't do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The database failed. Within a transaction, roll it back: an order without its report isn't
    /// committed.
    Database(sqlx::Error),
    /// The outbox's tables aren't there: call [`Outbox::migrate`](crate::Outbox::migrate) once at
    /// start-up.
    NotMigrated,
    /// The report can't be written as JSON.
    Report(serde_json::Error),
    /// The row's own JSON can't be read, so its history can't be shown.
    Row {
        /// The row's number, the column `seq`.
        row: i64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "the outbox's database failed: {error}"),
            Self::NotMigrated => f.write_str(
                "the outbox's tables aren't in this database: call `Outbox::migrate` at start-up, \
                 or run the statements of `sql::POSTGRES_SCHEMA` or `sql::SQLITE_SCHEMA`",
            ),
            Self::Report(error) => write!(f, "the report can't be written as JSON: {error}"),
            Self::Row { row } => write!(
                f,
                "row {row} of referral_outbox can't be read: repair its JSON, or delete it"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            Self::Report(error) => Some(error),
            Self::NotMigrated | Self::Row { .. } => None,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // PostgreSQL's undefined_table; SQLite has one code for every error of a statement.
        let is_missing = matches!(&error, sqlx::Error::Database(database)
            if database.code().as_deref() == Some("42P01"));
        if is_missing {
            Self::NotMigrated
        } else {
            Self::Database(error)
        }
    }
}
