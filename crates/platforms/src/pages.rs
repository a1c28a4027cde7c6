//! Lists that platforms give a page at a time, as one stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::Request;
#[cfg(any(feature = "partnac", feature = "tapfiliate"))]
use serde_json::value::RawValue;

use super::client::{Client, Transport};
#[cfg(any(feature = "partnac", feature = "tapfiliate"))]
use super::json::list_in;
use super::{Answer, Error};
use crate::boxed::BoxFuture;

/// The longest page that is read, in bytes: a hundred conversions with their metadata are longer
/// than any other answer.
const MAX_PAGE_LEN: usize = 1024 * 1024;
/// How often one page is asked for while the platform wants fewer requests.
const MAX_TRIES: u32 = 6;
/// How long is waited between two of these where the platform doesn't say.
const WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two of these.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A list at a platform, a [`Stream`]. The pages are fetched as the stream is read, one at a time.
///
/// A platform that wants fewer requests (429) is asked again, up to five times for a page, after
/// the wait that it names: one second if it names none, one minute at most. Any other error is the
/// stream's last item.
///
/// ```
/// use futures_util::TryStreamExt;
/// use tower_referral_platforms::{Error, ListedConversion, Pages};
///
/// async fn print(mut conversions: Pages<ListedConversion>) -> Result<(), Error> {
///     while let Some(conversion) = conversions.try_next().await? {
///         println!("{:?}: {:?}", conversion.external_id(), conversion.amount());
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct Pages<I> {
    fetch: Box<dyn Fetch>,
    read: Box<dyn ReadPage<I>>,
    items: VecDeque<I>,
    next: Next,
}

trait Fetch: Fn(Request<Bytes>) -> BoxFuture<'static, Result<Answer, Error>> + Send {}
impl<F: Fn(Request<Bytes>) -> BoxFuture<'static, Result<Answer, Error>> + Send> Fetch for F {}

trait ReadPage<I>: FnMut(&Answer) -> Result<Page<I>, Error> + Send {}
impl<I, F: FnMut(&Answer) -> Result<Page<I>, Error> + Send> ReadPage<I> for F {}

/// One page of a list.
pub(crate) struct Page<I> {
    pub(crate) items: Vec<I>,
    pub(crate) next: Option<Request<Bytes>>,
}

enum Next {
    Ask(Box<Request<Bytes>>),
    Wait(BoxFuture<'static, Result<Answer, Error>>),
    Nothing,
}

impl<I> Pages<I> {
    /// `read` says what is on a page, and which comes after it.
    pub(crate) fn new<P, T>(
        client: &Client<P, T>,
        first: Request<Bytes>,
        read: impl FnMut(&Answer) -> Result<Page<I>, Error> + Send + 'static,
    ) -> Self
    where
        P: Send + Sync + 'static,
        T: Transport,
    {
        let client = client.clone();
        Self {
            fetch: Box::new(move |request| {
                let client = client.clone();
                Box::pin(async move { ask_patiently(&client, request).await })
            }),
            read: Box::new(read),
            items: VecDeque::new(),
            next: Next::Ask(Box::new(first)),
        }
    }
}

impl<I> Pages<I> {
    /// A list whose pages are asked for by number (from 1) and offset. No platform documents where
    /// its lists end: this one does with a page that is empty, or the same as the one before.
    #[cfg(any(feature = "partnac", feature = "tapfiliate"))]
    pub(crate) fn counted<P, T>(
        client: &Client<P, T>,
        ask: impl Fn(usize, usize) -> Request<Bytes> + Send + 'static,
        name: &'static str,
        item: fn(&RawValue) -> Option<I>,
    ) -> Self
    where
        I: 'static,
        P: Send + Sync + 'static,
        T: Transport,
    {
        let (mut page, mut offset, mut last) = (1, 0, Vec::new());
        Self::new(client, ask(page, offset), move |answer| {
            answer.success()?;
            let list = list_in(answer.body(), &[name, "items", "results"]);
            let list = list.ok_or(Error::Unreadable {
                status: answer.status(),
            })?;
            let texts: Vec<_> = list.iter().map(|raw| raw.get().to_owned()).collect();
            if texts.is_empty() || texts == last {
                return Ok(Page {
                    items: Vec::new(),
                    next: None,
                });
            }
            page += 1;
            offset += texts.len();
            last = texts;
            Ok(Page {
                items: list.iter().filter_map(|raw| item(raw)).collect(),
                next: Some(ask(page, offset)),
            })
        })
    }
}

async fn ask_patiently<P, T>(
    client: &Client<P, T>,
    request: Request<Bytes>,
) -> Result<Answer, Error>
where
    T: Transport,
{
    for _ in 1..MAX_TRIES {
        let answer = client.send(request.clone(), MAX_PAGE_LEN).await?;
        let Err(Error::RateLimited { retry_after }) = answer.accepted() else {
            return Ok(answer);
        };
        tokio::time::sleep(retry_after.unwrap_or(WAIT).min(MAX_WAIT)).await;
    }
    client.send(request, MAX_PAGE_LEN).await
}

impl<I: Unpin> Stream for Pages<I> {
    type Item = Result<I, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Nothing => return Poll::Ready(None),
                Next::Ask(request) => self.next = Next::Wait((self.fetch)(*request)),
                Next::Wait(mut answer) => match answer.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.next = Next::Wait(answer);
                        return Poll::Pending;
                    }
                    Poll::Ready(answer) => match answer.and_then(|answer| (self.read)(&answer)) {
                        Ok(page) => {
                            self.items = page.items.into();
                            self.next = page
                                .next
                                .map_or(Next::Nothing, |next| Next::Ask(Box::new(next)));
                        }
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    },
                },
            }
        }
    }
}

impl<I> fmt::Debug for Pages<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("fetched", &self.items.len())
            .finish_non_exhaustive()
    }
}
