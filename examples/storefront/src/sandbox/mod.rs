//! Stand-ins for the affiliate platforms, inside the shop's own process and on a port of their own.
//! Each is written from its platform's documentation: it takes what that shows, refuses everything
//! else, and shows at `/` what it received. A shop that has an account with a platform has no such
//! folder.

mod affonso;
mod answer;
mod awin;
mod call;
mod dub;
mod firstpromoter;
mod friends;
mod partnac;
mod partnero;
mod postback;
mod show;
mod tapfiliate;
mod tolt;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::routing::get;
use time::OffsetDateTime;
use tokio::net::TcpListener;

use self::answer::{Answer, Verdict};
use self::call::Call;
use crate::options::Platform;

/// How many calls are shown.
const MAX_CALLS: usize = 100;
/// No call is longer, in bytes. A thousand orders for Awin fit.
const MAX_BODY_LEN: usize = 1024 * 1024;

/// Keys, coupons and click IDs that begin with this are nobody's, so that one can see what a
/// mistyped link leads to.
const UNKNOWN: &str = "UNKNOWN";

/// A running stand-in.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) address: SocketAddr,
    /// The platform's base URL; it ends as the real one's does. For a postback the template of a
    /// sale.
    pub(crate) platform_url: String,
    /// For a postback, how the stand-in's tracker takes the rest and says yes.
    pub(crate) postback: Option<PostbackTerms>,
}

/// What a generic tracker's account page would say.
#[derive(Debug)]
pub(crate) struct PostbackTerms {
    pub(crate) sign_up_url: String,
    pub(crate) refund_url: String,
    pub(crate) success_text: &'static str,
}

/// The account that the stand-in takes calls for.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) api_key: String,
    pub(crate) account_id: String,
    pub(crate) program_id: String,
}

/// One platform.
trait StandIn: Send {
    /// Answers a call, or refuses it.
    fn answer(&mut self, call: &Call<'_>) -> Verdict;

    /// Returns what the platform's own pages would list.
    fn records(&self) -> Records;
}

/// Lists under their headings, the oldest entry first.
type Records = Vec<(&'static str, Vec<String>)>;

impl Sandbox {
    /// Starts a stand-in for `platform` on a free port. It runs for as long as the process does.
    pub(crate) async fn start(platform: Platform, account: Account) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stand_in: Box<dyn StandIn> = match platform {
            Platform::Partnac | Platform::None => Box::new(partnac::Partnac::new(account)),
            Platform::Partnero => Box::new(partnero::Partnero::new(account)),
            Platform::PartneroFriends => Box::new(friends::Friends::new(account)),
            Platform::Tapfiliate => Box::new(tapfiliate::Tapfiliate::new(account)),
            Platform::Postback => Box::new(postback::Postback::default()),
            Platform::Dub => Box::new(dub::Dub::new(account)),
            Platform::Affonso => Box::new(affonso::Affonso::new(account)),
            Platform::Firstpromoter => Box::new(firstpromoter::FirstPromoter::new(account)),
            Platform::Tolt => Box::new(tolt::Tolt::new(account)),
            Platform::Awin => Box::new(awin::Awin::new(account)),
        };
        let state = Arc::new(SandboxState {
            platform,
            origin: format!("http://{address}"),
            log: Mutex::new(Log {
                received: 0,
                calls: VecDeque::new(),
                stand_in,
            }),
        });
        let path = match platform {
            Platform::Partnac | Platform::None => "/v1/tracking",
            Platform::Partnero | Platform::PartneroFriends | Platform::Affonso => "/v1",
            Platform::Tapfiliate => "/1.6",
            Platform::Firstpromoter => "/api/v2/track",
            Platform::Dub | Platform::Tolt | Platform::Awin => "",
            Platform::Postback => postback::SALE,
        };
        let postback = (platform == Platform::Postback).then(|| PostbackTerms {
            sign_up_url: format!("{}{}", state.origin, postback::SIGN_UP),
            refund_url: format!("{}{}", state.origin, postback::REFUND),
            success_text: postback::SUCCESS,
        });
        let sandbox = Self {
            address,
            platform_url: format!("{}{path}", state.origin),
            postback,
        };
        let app = Router::new()
            .route("/", get(show::show))
            .fallback(receive)
            .layer(DefaultBodyLimit::max(MAX_BODY_LEN))
            .with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(sandbox)
    }
}

/// What the handlers share.
struct SandboxState {
    platform: Platform,
    origin: String,
    log: Mutex<Log>,
}

struct Log {
    received: u64,
    /// The newest first.
    calls: VecDeque<Received>,
    stand_in: Box<dyn StandIn>,
}

/// What was received, and what was answered.
struct Received {
    at: OffsetDateTime,
    line: String,
    body: String,
    answer: Answer,
}

impl SandboxState {
    fn open(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes any call of the platform's interface.
async fn receive(
    State(state): State<Arc<SandboxState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let at = OffsetDateTime::now_utc();
    let mut log = state.open();
    log.received += 1;
    let call = Call {
        method: &method,
        uri: &uri,
        headers: &headers,
        body: &body,
        number: log.received,
        origin: &state.origin,
        now: at.unix_timestamp(),
    };
    let answer = log.stand_in.answer(&call).unwrap_or_else(|refusal| refusal);
    log.calls.truncate(MAX_CALLS - 1);
    log.calls.push_front(Received {
        at,
        line: format!("{method} {uri}"),
        body: String::from_utf8_lossy(&body).into_owned(),
        answer: answer.clone(),
    });
    answer
}

/// Nobody has this key, coupon or click ID.
fn is_unknown(text: &str) -> bool {
    text.starts_with(UNKNOWN)
}
