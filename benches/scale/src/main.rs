//! What a large shop needs of everything around the layer: tables worked out from measured costs, and a
//! simulation in virtual time.
//!
//! ```sh
//! cargo run --release -p scale -- tables --write docs/scale.md
//! cargo run --release -p scale -- simulate --seed 7
//! ```

mod assumptions;
mod costs;
mod document;
mod model;
mod resource;
mod sim;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use crate::assumptions::Assumptions;
use crate::costs::Costs;
use crate::sim::Settings;

/// Works out, and tries, what a large shop needs.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints docs/scale.md, from the figures in benches/scale/costs.json
    Tables {
        /// Where the document goes, in place of the screen
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        #[command(flatten)]
        assumed: Box<Assumptions>,
    },
    /// Simulates a shop of many servers in virtual time; fails if a referral, a click or a report is
    /// lost or doubled
    Simulate(Box<Settings>),
}

fn main() -> ExitCode {
    match run(Options::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool, Box<dyn Error>> {
    match command {
        Command::Tables { write, assumed } => {
            assumed.check()?;
            let document = document::document(&Costs::checked_in()?, &assumed);
            match write {
                Some(file) => std::fs::write(file, document)?,
                None => print!("{document}"),
            }
            Ok(true)
        }
        Command::Simulate(settings) => {
            let start = Instant::now();
            let outcome = sim::run(&settings)?;
            println!("seed {}\n\n{outcome}", settings.seed);
            println!("It took {:.1} s.", start.elapsed().as_secs_f64());
            Ok(outcome.holds())
        }
    }
}
