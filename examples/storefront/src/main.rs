//! A small shop that does the whole job with `tower-referral`: it captures who referred a visitor,
//! keeps it, and uses it at sign-up, at checkout and in the payment's webhook.
//!
//! ```sh
//! cargo run -p storefront
//! ```
//!
//! Start reading in `shop.rs`, which has the layer and the routes; then `customers.rs` (sign-up) and
//! `orders.rs` (checkout, payment, refund), where referrals are used, and `payments.rs` (webhooks of
//! Stripe, Paddle and Polar). Below them are `platform.rs` (which platform), `database.rs` and
//! `books.rs` (the shop's rows and the outbox), and what any shop has: `options.rs` (command line),
//! `keep.rs` (where referrals are kept), `account.rs` (signing in), `consent.rs` (the banner),
//! `fields.rs` and `answer.rs` (forms and JSON, in and out), `pages/` (HTML). `sandbox/` stands in for
//! the affiliate platform until there is an account with a real one:
//!
//! ```sh
//! PLATFORM_API_KEY=… cargo run -p storefront -- \
//!     --platform tapfiliate --platform-url https://api.tapfiliate.com/1.6
//! ```

mod account;
mod answer;
mod books;
mod consent;
mod customers;
mod database;
mod fields;
mod keep;
mod options;
mod orders;
mod outbox;
mod pages;
mod payments;
mod platform;
mod reports;
mod sandbox;
mod shop;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_referral::{Keyring, KeyringError, ReferralLayer, SigningKey};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::database::Database;
use crate::options::{BadOption, KeepIn, Options};
use crate::payments::Webhook;
use crate::platform::Platform;
use crate::sandbox::{Account, Sandbox};

/// How long requests under way may take after the shop was told to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// How long the end waits for clicks and reports that are under way.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// Between two starts of a worker whose database couldn't be reached.
const WORKER_PAUSE: Duration = Duration::from_millis(500);
/// The exit code for options and keys that can't work, the same as clap's own.
const BAD_CONFIGURATION: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    log_to_stderr();
    let configured = match configure(&options).await {
        Ok(configured) => configured,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match serve(&options, configured).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: can't serve on {}: {error}", options.listen);
            ExitCode::FAILURE
        }
    }
}

/// A shop that is ready to open.
struct Configured {
    app: axum::Router,
    referrals: ReferralLayer,
    database: Database,
    platform: Option<Platform>,
    /// What there is to say about the signing key.
    notice: Option<&'static str>,
    sandbox: Option<Sandbox>,
}

async fn configure(options: &Options) -> Result<Configured, Box<dyn Error>> {
    options.check()?;
    let (keyring, notice) = read_keyring()?;
    let sandbox = if options.needs_sandbox() {
        let account = Account {
            api_key: options.api_key.clone(),
            account_id: options.account_id.clone(),
            program_id: options.program_id.clone(),
        };
        Some(Sandbox::start(options.platform, account).await?)
    } else {
        None
    };
    let refused = |error| BadOption::of_client(options.platform, &error);
    let platform = Platform::connect(options, sandbox.as_ref()).map_err(refused)?;
    let webhook = match (options.payment, options.payment_secret()) {
        (Some(provider), Some(secret)) => {
            Some(Webhook::new(provider, &secret, options.payment_test).map_err(refused)?)
        }
        _ => None,
    };
    let kept = keep::open(options, keyring.clone()).await?;
    let database = Database::open(&options.database)
        .await
        .map_err(|error| format!("can't open --database: {error}"))?;
    let worker = platform.as_ref().map(|(platform, _)| platform.clone());
    let (app, referrals) = shop::open(options, kept, keyring, platform, database.clone(), webhook)
        .map_err(|error| BadOption::of_layer(options, &error))?;
    Ok(Configured {
        app,
        referrals,
        database,
        platform: worker,
        notice,
        sandbox,
    })
}

/// Reads the signing keys from the environment. Without any, a random one is good for a first
/// look; a real service would rather not start, because what it signs is lost at every restart.
fn read_keyring() -> Result<(Keyring, Option<&'static str>), KeyringError> {
    match Keyring::from_env() {
        Ok(keyring) => Ok((keyring, None)),
        Err(KeyringError::Missing) => Ok((
            Keyring::new(SigningKey::generate("local")?),
            Some(
                "REFERRAL_KEY is not set: signing with a random key, so referrals are lost when \
                 this process ends. REFERRAL_OLD_KEYS is not read either.",
            ),
        )),
        Err(error) => Err(error),
    }
}

async fn serve(options: &Options, configured: Configured) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let stopped = stop_signal()?;
    let (stop, stopping) = watch::channel(false);
    let worker = configured
        .platform
        .as_ref()
        .map(|platform| start_worker(&configured.database, platform, stopping.clone()));
    announce(options, listener.local_addr()?, &configured);
    if let Some(platform) = configured.platform.clone().filter(|_| options.is_remote()) {
        tokio::spawn(async move {
            if let Some(complaint) = platform.check().await {
                tracing::warn!("{complaint}");
            }
        });
    }
    let server = axum::serve(listener, configured.app).with_graceful_shutdown(async move {
        stopped.await;
        let _ = stop.send(true);
    });
    // A visitor who sends half a request and no more isn't waited for without end.
    let patience = async {
        until(stopping).await;
        tokio::time::sleep(SHUTDOWN_LIMIT).await;
    };
    tokio::select! {
        result = server.into_future() => result?,
        () = patience => tracing::warn!("requests were still under way at the end"),
    }
    // The pages are out; what the platform is being told is still worth a moment.
    if let Some(worker) = worker
        && tokio::time::timeout(DRAIN_LIMIT, worker).await.is_err()
    {
        tracing::warn!(
            "reports were still being sent at the end: see /outbox after the next start"
        );
    }
    if !configured.referrals.drain_clicks(DRAIN_LIMIT).await {
        tracing::warn!("clicks were still under way at the end: look at the platform for them");
    }
    Ok(())
}

/// Starts the worker that gives the outbox's reports to the platform. Any number of shops may run one
/// on one database.
fn start_worker(
    database: &Database,
    platform: &Platform,
    stopping: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let (database, reports) = (database.clone(), platform.reports.clone());
    tokio::spawn(async move {
        while !*stopping.borrow() {
            let shutdown = until(stopping.clone());
            let run = database
                .clone()
                .deliver(reports.clone(), outbox::Worker, shutdown);
            match run.await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the outbox's worker starts again"),
            }
            tokio::time::sleep(WORKER_PAUSE).await;
        }
    })
}

/// Resolves once the shop is to stop.
async fn until(mut stopping: watch::Receiver<bool>) {
    // Whoever could say so is gone: that is an end, too.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

/// Says where the shop is and what to try. Nobody need be listening.
fn announce(options: &Options, address: SocketAddr, configured: &Configured) {
    let mut text = format!("listening on http://{address}\n\n");
    let partner_link = format!("/pricing?{}=PARTNER_123", options.params[0]);
    let platform = configured.platform.as_ref();
    let has_friends = platform.is_some_and(|platform| platform.friends.is_some());
    let webhook = options
        .payment
        .map(|provider| format!("/webhooks/{}", provider.name()));
    for (path, what) in [
        (&*partner_link, "a partner's link"),
        ("/", "the same visitor, later"),
        ("/signup", "a sign-up that the partner gets credit for"),
        ("/checkout", "a sale, reported by a payment's webhook"),
        ("/api/referral", "what is known, as JSON"),
        (
            "/outbox",
            "what waits for the platform, and what needs a person",
        ),
    ]
    .into_iter()
    .chain((options.keep == KeepIn::Session).then_some(("/account", "a session of the shop's own")))
    .chain(has_friends.then_some((
        "/friends?customer=ID",
        "a customer's link to share, and friends",
    )))
    .chain(
        webhook
            .as_deref()
            .map(|path| (path, "where the payment provider sends its webhooks")),
    ) {
        text.push_str(&format!("  http://{address}{path:<28} {what}\n"));
    }
    if let Some(sandbox) = &configured.sandbox {
        let name = options.platform.name().unwrap_or_default();
        text.push_str(&format!(
            "\nA sandbox in this process stands in for {name}; what it receives is shown at\n  \
             http://{}/\n",
            sandbox.address
        ));
    }
    if let Some(notice) = configured.notice {
        text.push_str(&format!("\n{notice}\n"));
    }
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Listens for Ctrl-C and SIGTERM from now on; the future resolves at the first of them.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}

/// Every decision of the layer is an event of level `DEBUG`. `RUST_LOG=tower_referral=off` and the
/// like say otherwise.
fn log_to_stderr() {
    let default = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("tower_referral", LevelFilter::DEBUG);
    let targets = std::env::var("RUST_LOG")
        .ok()
        .and_then(|targets| targets.parse().ok())
        .unwrap_or(default);
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(to_stderr)
        .with(targets)
        .init();
}
