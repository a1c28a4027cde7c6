//! What carries requests, and how far an answer is read.

use std::{
    fmt,
    future::Future,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tower_service::Service;

use crate::boxed::{BoxError, BoxFuture};
use crate::redact::HiddenTexts;
use crate::{Answer, Error};

/// The longest wait that a `Retry-After` is taken for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The request never left. A transport says so by failing with this error, bare or as the source
/// of another; of any other failure it isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSent;

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not sent: no connection could be made")
    }
}

impl std::error::Error for NotSent {}

/// What carries requests to a platform: any Tower service from `http::Request<Bytes>` to an
/// `http::Response`, cheap to clone. There is nothing to implement but [`Service`].
///
/// ```
/// use std::convert::Infallible;
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use tower::service_fn;
/// use tower_referral_platforms::{Client, Partnac};
///
/// /// A stand-in for tests, without a network.
/// async fn says_yes(request: Request<Bytes>) -> Result<Response<String>, Infallible> {
///     assert_eq!(request.uri().path(), "/v1/tracking/conversions");
///     Ok(Response::new(r#"{"conversion_id": "conv_1"}"#.to_owned()))
/// }
///
/// # fn main() -> Result<(), tower_referral_platforms::ConfigError> {
/// let platform = Client::new(Partnac::new("test")?, service_fn(says_yes));
/// # Ok(())
/// # }
/// ```
pub trait Transport: Clone + Send + Sync + 'static {
    /// Sends one request once the transport is ready, and reads at most so many bytes of the
    /// answer.
    #[doc(hidden)]
    fn carry(
        &self,
        request: Request<Bytes>,
        max_len: usize,
    ) -> BoxFuture<'static, Result<Answer, Error>>;
}

impl<T, B> Transport for T
where
    T: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + Sync + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Boxed here, where the types are still names: in a handler's future, the compiler would have
    // to show anew that each of them may go to another thread, and can't.
    fn carry(
        &self,
        request: Request<Bytes>,
        max_len: usize,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        let mut transport = self.clone();
        Box::pin(async move {
            // A transport that isn't ready hasn't sent anything.
            std::future::poll_fn(|cx| transport.poll_ready(cx))
                .await
                .map_err(|_| Error::NotSent)?;
            read(transport.call(request), max_len).await
        })
    }
}

/// Returns what must not come back in an error's text: the sensitive headers, without their scheme,
/// and the request's own [`HiddenTexts`].
pub(crate) fn credentials(request: &Request<Bytes>) -> Vec<String> {
    let values = request.headers().values();
    let values = values.filter(|value| value.is_sensitive());
    let keys = values.filter_map(|value| value.to_str().ok()?.rsplit(' ').next());
    let hidden = request.extensions().get::<HiddenTexts>();
    let hidden = hidden.into_iter().flat_map(|texts| texts.0.iter());
    keys.map(str::to_owned).chain(hidden.cloned()).collect()
}

/// Waits for the response and reads it, as far as it goes. Of a refusal the status is enough.
async fn read<B, E>(
    response: impl Future<Output = Result<Response<B>, E>>,
    max_len: usize,
) -> Result<Answer, Error>
where
    B: Body,
    B::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    let response = response.await.map_err(|error| outcome_of(&*error.into()))?;
    let (parts, body) = response.into_parts();
    let body = match Limited::new(body, max_len).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) if !parts.status.is_success() => Bytes::new(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Error::Unreadable {
                status: parts.status,
            });
        }
        Err(_) => return Err(Error::UnknownOutcome),
    };
    let mut answer = Answer::new(parts.status, body);
    answer.retry_after = retry_after(&parts.headers);
    if answer.retry_after.is_none() && parts.status == StatusCode::TOO_MANY_REQUESTS {
        answer.retry_after = until_reset(&parts.headers);
    }
    answer.is_html |= is_html(&parts.headers);
    Ok(answer)
}

fn outcome_of(error: &(dyn std::error::Error + 'static)) -> Error {
    let never_left = std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error + 'static>::is::<NotSent>);
    if never_left {
        Error::NotSent
    } else {
        Error::UnknownOutcome
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
}

/// Returns the wait of a `Retry-After` in either form (RFC 9110 section 10.2.3), capped.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let wait = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !wait.is_empty() && wait.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a long wait all the same.
        Duration::from_secs(wait.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(wait).ok()?;
        date.duration_since(now(headers)).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Returns the wait of an `X-RateLimit-Reset` that is a Unix time, capped. A number that is too
/// small for one means something else at each platform.
fn until_reset(headers: &HeaderMap) -> Option<Duration> {
    let reset = headers.get("x-ratelimit-reset")?.to_str().ok()?.trim();
    let reset: u64 = reset.parse().ok()?;
    if !(1_000_000_000..=9_999_999_999).contains(&reset) {
        return None;
    }
    let reset = SystemTime::UNIX_EPOCH + Duration::from_secs(reset);
    let wait = reset.duration_since(now(headers)).unwrap_or_default();
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Returns the answer's own time, so that it takes no two clocks to agree.
fn now(headers: &HeaderMap) -> SystemTime {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    date.unwrap_or_else(SystemTime::now)
}
