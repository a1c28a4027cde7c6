//! Makes a signing key, in the form that `Keyring::from_env` reads.
//!
//! ```sh
//! cargo run --example generate_key             # named after this month
//! cargo run --example generate_key -- 2026-11  # named by you
//! ```
//!
//! It prints `REFERRAL_KEY=ID:BASE64`: put that line where your service's other secrets are, and
//! nowhere else.

use std::process::ExitCode;

use time::OffsetDateTime;
use tower_referral::SigningKey;

fn main() -> ExitCode {
    let now = OffsetDateTime::now_utc();
    let month = format!("{}-{:02}", now.year(), u8::from(now.month()));
    let id = std::env::args().nth(1).unwrap_or(month);
    match SigningKey::generate(id) {
        Ok(key) => {
            println!("REFERRAL_KEY={}", key.reveal());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
