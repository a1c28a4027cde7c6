//! A small shop that does the whole job with `tower-referral`: it captures who referred a visitor,
//! keeps it, and uses it at sign-up, at checkout and in the payment's webhook.
//!
//! ```sh
//! cargo run -p storefront
//! ```
//!
//! Start reading in `shop.rs`, which has the layer, the routes and the handlers. The rest is what
//! any shop has: `keep.rs` (where referrals are kept), `account.rs` (signing in), `options.rs`
//! (command line), `consent.rs` (the banner), `books.rs` (what was sold), `reports.rs` (telling the
//! platform), `outbox.rs` (so that no report gets lost), `store.rs` (the database of both),
//! `fields.rs` and `answer.rs` (forms and JSON, in and out), `pages.rs` (HTML). And `sandbox/` plays
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
mod fields;
mod keep;
mod options;
mod outbox;
mod pages;
mod reports;
mod sandbox;
mod shop;
mod store;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_referral::{Keyring, KeyringError, ReferralLayer, SigningKey};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::options::{KeepIn, Options, Platform};
use crate::outbox::Outbox;
use crate::sandbox::Sandbox;
use crate::store::Store;

/// How long requests under way may take after the shop was told to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// The exit code for options and keys that can't work, the same as clap's own.
const BAD_CONFIGURATION: u8 = 2;
/// How long the end waits for clicks that are under way.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

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
    outbox: Option<Outbox>,
    /// What there is to say about the signing key.
    notice: Option<&'static str>,
    sandbox: Option<Sandbox>,
}

/// The account that the sandbox stands in for.
fn account(options: &Options) -> sandbox::Account {
    sandbox::Account {
        api_key: options.api_key.clone(),
        account_id: options.account_id.clone(),
        program_id: options.program_id.clone(),
    }
}

async fn configure(options: &Options) -> Result<Configured, Box<dyn Error>> {
    options.check()?;
    let (keyring, notice) = read_keyring()?;
    let needs_sandbox = options.platform != Platform::None && options.platform_url.is_none();
    let sandbox = if needs_sandbox {
        Some(Sandbox::start(options.platform, account(options)).await?)
    } else {
        None
    };
    let sandbox_url = sandbox.as_ref().map(|sandbox| &*sandbox.platform_url);
    let platform_url = options.platform_url.as_deref().or(sandbox_url);
    let kept = keep::open(options, keyring.clone()).await?;
    let store = Store::open(&options.database)
        .await
        .map_err(|error| format!("can't open the outbox: {error}"))?;
    let (app, referrals, outbox) = shop::open(options, kept, keyring, platform_url, store)
        .await
        .map_err(|error| error as Box<dyn Error>)?;
    Ok(Configured {
        app,
        referrals,
        outbox,
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
    announce(options, listener.local_addr()?, &configured);
    let (tell, told) = oneshot::channel();
    let server = axum::serve(listener, configured.app).with_graceful_shutdown(async {
        stopped.await;
        let _ = tell.send(());
    });
    // A visitor who sends half a request and no more isn't waited for without end.
    let patience = async {
        match told.await {
            Ok(()) => tokio::time::sleep(SHUTDOWN_LIMIT).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = server.into_future() => result?,
        () = patience => tracing::warn!("requests were still under way at the end"),
    }
    if let Some(outbox) = &configured.outbox
        && !outbox.close(DRAIN_LIMIT).await
    {
        tracing::warn!(
            "reports were still being sent at the end: see /outbox after the next start"
        );
    }
    // The pages are out; what the platform is being told is still worth a moment.
    if !configured.referrals.drain_clicks(DRAIN_LIMIT).await {
        tracing::warn!("clicks were still under way at the end: look at the platform for them");
    }
    Ok(())
}

/// Says where the shop is and what to try. Nobody need be listening.
fn announce(options: &Options, address: SocketAddr, configured: &Configured) {
    let mut text = format!("listening on http://{address}\n\n");
    let partner_link = format!("/pricing?{}=PARTNER_123", options.params[0]);
    for (path, what) in [
        (&*partner_link, "a partner's link"),
        ("/", "the same visitor, later"),
        ("/signup", "a sign-up that the partner gets credit for"),
        ("/checkout", "a sale, by way of a payment's webhook"),
        ("/api/referral", "what is known, as JSON"),
        ("/outbox", "reports that somebody has to look at"),
    ]
    .into_iter()
    .chain((options.keep == KeepIn::Session).then_some(("/account", "a session of the shop's own")))
    {
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
