//! Random lives in a database: whatever the order, the books are those in memory, and the platform is
//! told what follows from the life alone.

use std::collections::BTreeSet;

use tower_referral_platforms::payment::{MemoryBooks, book};

use crate::books::{CREDIT, enter, records, sorted, told, user, users};
use crate::common::{Sums, credit, now};
use crate::database::on_both;
use crate::lives::{Life, Random, paddle_life, polar_life, stripe_life};

/// As many lives of each kind are played; each takes some hundred transactions.
const LIVES: u64 = 3;

/// Plays lives into a database, each in the order in which it happened and in another.
macro_rules! plays {
    ($db:expr, $live:expr) => {{
        let live: fn(&mut Random) -> Life = $live;
        users!($db);
        let outbox = $db.outbox.clone().with_credit_query(CREDIT);
        for seed in 1..=LIVES {
            let mut random = Random::new(seed);
            let life = live(&mut random);
            for events in [life.events.clone(), life.shuffled(&mut random)] {
                for table in [
                    "users",
                    "referral_outbox",
                    "referral_payments",
                    "referral_payment_links",
                ] {
                    let clear = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
                    sqlx::query(clear).execute(&$db.pool).await.unwrap();
                }
                let mut memory = MemoryBooks::new();
                for &(customer, key) in &life.credits {
                    user!($db, customer, key);
                    memory.set_credit(customer, credit(key));
                }
                for event in &events {
                    let booked = enter(&$db.pool, &outbox, event).await.unwrap();
                    let expected = now(book(&mut memory, event));
                    let expected = expected.unwrap_or_else(|never| match never {});
                    assert_eq!(booked, expected, "life {seed}: {event:?}");
                }
                let expected = sorted(memory.records().cloned().collect());
                assert_eq!(records!($db), expected, "life {seed}");
                let (mut sums, mut seen) = (Sums::default(), BTreeSet::new());
                for report in told!($db) {
                    sums.add(&mut seen, &report);
                }
                assert_eq!(sums, life.owed(), "life {seed}");
            }
        }
    }};
}

on_both! {
    async fn random_lives_at_stripe(db) {
        plays!(db, stripe_life);
    }

    async fn random_lives_at_paddle(db) {
        plays!(db, paddle_life);
    }

    async fn random_lives_at_polar(db) {
        plays!(db, polar_life);
    }
}
