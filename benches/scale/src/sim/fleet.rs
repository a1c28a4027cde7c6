//! The servers: each with a wrong clock, its region's store, and the keyring of the deployment that it
//! has reached.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::task::JoinSet;
use tower_layer::Layer as _;
use tower_referral::click::{Clicks, LateClick};
use tower_referral::{
    Attribution, ClickId, Keyring, KeyringError, Program, ReferralLayer, ReferralService,
    Referrals, ServerSide, SigningKey, Storage,
};
use tower_referral_platforms::{Client, Partnac};
use tower_service::Service;

use super::clock::Clock;
use super::platform::Platform;
use super::random::Random;
use super::store::Stores;

/// The programs, in the order of [`super::truth::Rule`].
pub(crate) const PROGRAMS: [&str; 2] = ["first", "last"];
/// Each program's parameter.
pub(crate) const PARAMS: [&str; 2] = ["aff", "ref"];

/// Where referrals are kept: each server has a layer of both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Cookie,
    Server,
}

/// What all servers share.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) clock: Clock,
    pub(crate) window: Duration,
    pub(crate) stores: Stores,
    pub(crate) clicks: Client<Partnac, Platform>,
    pub(crate) late: LateIds,
    pub(crate) random: Arc<Mutex<Random>>,
}

/// Click IDs that came after their landing's response, under the landing's reference: the table of the
/// outbox's database.
#[derive(Clone, Debug, Default)]
pub(crate) struct LateIds(Arc<Mutex<HashMap<String, ClickId>>>);

impl LateIds {
    pub(crate) fn get(&self, reference: &str) -> Option<ClickId> {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(reference).cloned()
    }

    fn put(&self, late: &LateClick) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(late.reference.clone(), late.click.id().clone());
    }

    pub(crate) fn len(&self) -> usize {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.len()
    }
}

/// A server process.
pub(crate) struct Server {
    pub(crate) region: usize,
    skew: i64,
    cookie: Shop,
    server: Shop,
    /// The calls that are under way.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

struct Shop {
    layer: ReferralLayer,
    service: ReferralService<Handler>,
}

impl Server {
    /// Starts a server.
    pub(crate) fn start(
        common: &Common,
        region: usize,
        skew: i64,
        stage: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let tasks = Arc::default();
        let keyring = keyring(stage)?;
        let records = ServerSide::new(common.stores.of(region), keyring.clone());
        let shop = |storage: Storage| -> Result<Shop, Box<dyn Error>> {
            let layer = layer(common, skew, storage, &tasks)?;
            let service = layer.layer(Handler);
            Ok(Shop { layer, service })
        };
        Ok(Self {
            region,
            skew,
            cookie: shop(keyring.into())?,
            server: shop(records.store_expires_records().into())?,
            tasks,
        })
    }

    /// Starts it again, after all its calls have ended or, if it `crashes`, in their middle. Returns the
    /// clicks that it has dropped in its life, and the calls that were interrupted.
    pub(crate) fn restart(
        &mut self,
        common: &Common,
        stage: usize,
        crashes: bool,
    ) -> Result<(u64, u64), Box<dyn Error>> {
        let dropped = self.dropped();
        let mut interrupted = 0;
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            if crashes {
                while tasks.try_join_next().is_some() {}
                interrupted = tasks.len() as u64;
                tasks.abort_all();
            } else {
                tasks.detach_all();
            }
        }
        *self = Self::start(common, self.region, self.skew, stage)?;
        Ok((dropped, interrupted))
    }

    /// Returns how many clicks the bounds have turned away.
    pub(crate) fn dropped(&self) -> u64 {
        let shops = [&self.cookie, &self.server];
        shops
            .map(|shop| shop.layer.click_counts().dropped)
            .iter()
            .sum()
    }

    pub(crate) fn layer(&self, keep: Keep) -> &ReferralLayer {
        match keep {
            Keep::Cookie => &self.cookie.layer,
            Keep::Server => &self.server.layer,
        }
    }

    /// Answers a request.
    pub(crate) async fn answer(&mut self, keep: Keep, request: Request<()>) -> Response<Seen> {
        let service = match keep {
            Keep::Cookie => &mut self.cookie.service,
            Keep::Server => &mut self.server.service,
        };
        let Ok(()) = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
        let Ok(response) = service.call(request).await;
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
        }
        response
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("region", &self.region)
            .field("skew", &self.skew)
            .finish_non_exhaustive()
    }
}

fn layer(
    common: &Common,
    skew: i64,
    storage: Storage,
    tasks: &Arc<Mutex<JoinSet<()>>>,
) -> Result<ReferralLayer, Box<dyn Error>> {
    let (clock, random, late) = (
        common.clock,
        Arc::clone(&common.random),
        common.late.clone(),
    );
    let tasks = Arc::clone(tasks);
    let clicks = Clicks::new(common.clicks.clicks())
        .base_url("https://shop.example")
        .on_late_result(move |click| {
            late.put(&click);
            std::future::ready(())
        });
    let rules = [Attribution::FirstTouch, Attribution::LastTouch];
    let mut builder = ReferralLayer::builder(storage);
    for ((name, param), rule) in PROGRAMS.into_iter().zip(PARAMS).zip(rules) {
        let program = Program::new(name).params([param]).attribution(rule);
        builder = builder.program(program.window(common.window));
    }
    let layer = builder
        .clicks(clicks)
        .clock(move || clock.skewed(skew))
        .spawner(move |task| {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.spawn(task);
        })
        .random_source(move |bytes| {
            let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
            for chunk in bytes.chunks_mut(8) {
                let drawn = random.next().to_le_bytes();
                chunk.copy_from_slice(&drawn[..chunk.len()]);
            }
            true
        })
        .build()?;
    Ok(layer)
}

/// The keyring of a deployment: of each three, the first signs with one key, the second knows the next
/// one as well, the third signs with that and still knows the former.
fn keyring(stage: usize) -> Result<Keyring, KeyringError> {
    let (turn, step) = (stage / 3, stage % 3);
    let (former, next) = (key(turn)?, key(turn + 1)?);
    match step {
        0 => Ok(Keyring::new(former)),
        1 => Keyring::new(former).verify_with(next),
        _ => Keyring::new(next).verify_with(former),
    }
}

fn key(number: usize) -> Result<SigningKey, KeyringError> {
    let mut random = Random(number as u64);
    let secret: Vec<u8> = (0..4).flat_map(|_| random.next().to_le_bytes()).collect();
    SigningKey::new(format!("key-{number}"), secret)
}

/// What a handler sees.
pub(crate) type Seen = Option<Referrals>;

/// The shop: it looks at who referred the visitor, in every request.
#[derive(Clone, Debug)]
pub(crate) struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<Seen>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        Box::pin(async move {
            let seen = Referrals::from_extensions(request.extensions()).await;
            Ok(Response::new(seen.ok()))
        })
    }
}
