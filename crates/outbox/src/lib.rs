//! An outbox of reports in the database of the application.
