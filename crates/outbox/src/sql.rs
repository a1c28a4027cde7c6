//! The outbox's contract in SQL, for every other driver, ORM and language: the tables, and the one
//! statement that enqueues a report within a transaction.
//!
//! The statement takes one parameter, the report's JSON as text, and writes one row in one round
//! trip. Everything else in the row is computed by the database: kind, ID, sequence key, what it
//! depends on, whether it has credit. The natural fields are enough:
//!
//! ```json
//! {"kind": "sale", "order": "ORDER-1", "customer": "CUSTOMER-1", "amount": "99.99 EUR",
//!  "credit": {"key": "PARTNER_123"}}
//! ```
//!
//! A report of an ID that is there already changes nothing, unless it brings credit and the one that
//! is there had none: then it takes that one's place and is sent, after the call that may be under
//! way, and only if the platform hasn't recorded it. It returns one row with `revision`: 1 if the
//! report is new, more if it was changed, and no row if it was known.
//!
//! In PostgreSQL the statement holds an advisory lock on the report's sequence key until the
//! transaction ends, so that two reports about one order are in the order of their commits. A
//! transaction that enqueues for several orders one by one does so in the order of their IDs, or
//! takes [`POSTGRES_ENQUEUE_ALL`], so that no two transactions wait for each other.
//!
//! With sqlx 0.8, on any executor:
//!
//! ```ignore
//! sqlx::query(sql::POSTGRES_ENQUEUE).bind(sql::json(sale)?).execute(&mut *tx).await?;
//! ```
//!
//! With psycopg: `cursor.execute(ENQUEUE.replace("$1", "%s"), [json.dumps(report)])`.
//!
//! A report that workers can't read is taken all the same, and set aside as `unreadable`, with the place
//! in its JSON in `details`: a field is missing, a number is beyond a 64-bit float (`1e999`), JSON is
//! nested in more than 127 levels, or, in SQLite, a text has half a surrogate pair (`"\ud800"`) or isn't
//! UTF-8. An ID has at most 128 characters. One that is much longer PostgreSQL can't hold in an index, and the
//! statement fails, so check what the shop takes for an order's or a customer's ID.
//!
//! Within the order's own statement the report costs no round trip. In PostgreSQL the statement that
//! enqueues begins with `WITH input`, and takes others in front:
//!
//! ```
//! use tower_referral_outbox::sql;
//!
//! // $1 is the report, $2 the order.
//! let order = "WITH new_order AS (INSERT INTO orders (id) VALUES ($2)), input";
//! let statement = sql::POSTGRES_ENQUEUE.replacen("WITH input", order, 1);
//! # assert!(statement.starts_with(order));
//! ```
//!
//! # What a person may do in SQL
//!
//! ```sql
//! -- What needs a person, and why.
//! SELECT id, state, reason, details FROM referral_outbox
//! WHERE state IN ('failed', 'ambiguous', 'unreadable') ORDER BY seq;
//!
//! -- Send one again (or all, without the ID).
//! UPDATE referral_outbox SET state = 'waiting', finished_at = NULL, claimed_by = NULL,
//!     attempts = 0, may_have_arrived = false,
//!     report = coalesce(next_report, report), next_report = NULL
//! WHERE id = 'sale:ORDER-1' AND state IN ('failed', 'ambiguous', 'unreadable')
//!     AND reduced_at IS NULL; -- what it would send is still there
//!
//! -- Have the workers that pause try at once.
//! UPDATE referral_workers SET probe = true;
//! ```
//!
//! Times are in milliseconds of Unix time: `to_timestamp(created_at / 1000.0)` in PostgreSQL,
//! `datetime(created_at / 1000, 'unixepoch')` in SQLite.

use serde_json::Value;
use tower_referral_platforms::Report;

use crate::Error;

/// The outbox's tables in PostgreSQL, for those who run migrations by a tool of their own. Each text
/// is run once, in order, in one transaction with the row that [`SCHEMA_VERSION`] describes.
pub const POSTGRES_SCHEMA: &[&str] = &[
    include_str!("backend/postgres/schema_1.sql"),
    include_str!("backend/postgres/schema_2.sql"),
];

/// The outbox's tables in SQLite, as [`POSTGRES_SCHEMA`].
pub const SQLITE_SCHEMA: &[&str] = &[
    include_str!("backend/sqlite/schema_1.sql"),
    include_str!("backend/sqlite/schema_2.sql"),
];

/// How far the tables are: a table with one row, the number of texts that were run. The parameter is
/// that number.
pub const SCHEMA_VERSION: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS referral_outbox_schema (only_row int PRIMARY KEY CHECK (only_row = 1), version int NOT NULL)",
    "INSERT INTO referral_outbox_schema (only_row, version) VALUES (1, $1) ON CONFLICT (only_row) DO UPDATE SET version = excluded.version",
];

/// A statement that enqueues. A report that is there already gives way to one that brings the credit which
/// it lacks, in both databases alike.
macro_rules! enqueue {
    ($insert:literal) => {
        concat!(
            include_str!($insert),
            include_str!("backend/on_conflict.sql")
        )
    };
}

/// Enqueues one report in PostgreSQL. Its parameter is the report's JSON, as text.
pub const POSTGRES_ENQUEUE: &str = enqueue!("backend/postgres/enqueue.sql");

/// Enqueues several reports in PostgreSQL. Its parameter is a JSON array of reports with different
/// IDs, as text.
pub const POSTGRES_ENQUEUE_ALL: &str = enqueue!("backend/postgres/enqueue_all.sql");

/// Enqueues one report in SQLite. Its parameter is the report's JSON, as text.
pub const SQLITE_ENQUEUE: &str = enqueue!("backend/sqlite/enqueue.sql");

/// Enqueues several reports in SQLite. Its parameter is a JSON array of reports, as text.
pub const SQLITE_ENQUEUE_ALL: &str = enqueue!("backend/sqlite/enqueue_all.sql");

/// In how many levels JSON may be nested for `serde_json` to read it.
const MAX_DEPTH: usize = 127;

/// Writes a report as the JSON that the statements take, and that workers can read.
///
/// An order isn't lost for facts about it that can't be stored: NUL characters, which PostgreSQL's JSON
/// doesn't take, are removed, and what metadata has below 125 levels, which can't be read back, is
/// replaced by `null`.
///
/// # Errors
///
/// The report can't be written as JSON, or can't be read back: a sign-up by e-mail address whose address
/// was set to an empty one, say.
pub fn json(report: impl Into<Report>) -> Result<String, Error> {
    let report = report.into();
    let text = serde_json::to_string(&report).map_err(Error::Report)?;
    if !text.contains("\\u0000") && serde_json::from_str::<Report>(&text).is_ok() {
        return Ok(text);
    }
    let mut value = serde_json::to_value(&report).map_err(Error::Report)?;
    cut(&mut value, MAX_DEPTH);
    let text = value.to_string();
    serde_json::from_str::<Report>(&text).map_err(Error::Report)?;
    Ok(text)
}

/// Removes what can't be stored, or can't be read back: NUL characters, and what is nested in more
/// levels.
fn cut(value: &mut Value, levels: usize) {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => *value = Value::Null,
        Value::Array(list) => list.iter_mut().for_each(|value| cut(value, levels - 1)),
        Value::Object(map) => {
            for (mut name, mut value) in std::mem::take(map) {
                name.retain(|c| c != '\0');
                cut(&mut value, levels - 1);
                map.insert(name, value);
            }
        }
        Value::String(text) => text.retain(|c| c != '\0'),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
