//! Lists that platforms give a page at a time, as one stream.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use http::Request;
use serde_json::value::RawValue;

use crate::client::MAX_PAGE_LEN;
use crate::json::list_in;
use crate::{Answer, Client, Error, Transport};

/// How often one page is asked for while the platform wants fewer requests.
const MAX_TRIES: u32 = 6;
/// How long is waited between two of these where the platform doesn't say.
const WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two of these.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A list at a platform, as a stream of its items. Pages are fetched as the stream is read, one at a
/// time.
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
pub struct Pages<I>(BoxStream<'static, Result<I, Error>>);

/// One page of a list.
pub(crate) struct Page<I> {
    pub(crate) items: Vec<I>,
    pub(crate) next: Option<Request<Bytes>>,
}

impl<I: Send + 'static> Pages<I> {
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
        let pages = stream::try_unfold((Some(first), read), move |(next, mut read)| {
            let client = client.clone();
            async move {
                let Some(request) = next else { return Ok(None) };
                let page = read(&ask_patiently(&client, request).await?)?;
                let items = stream::iter(page.items.into_iter().map(Ok));
                Ok::<_, Error>(Some((items, (page.next, read))))
            }
        });
        Self(pages.try_flatten().boxed())
    }

    /// A list whose pages are asked for by number (from 1) and offset. No platform documents where
    /// its lists end: this one does with a page that is empty, or the same as the one before.
    pub(crate) fn counted<P, T>(
        client: &Client<P, T>,
        ask: impl Fn(usize, usize) -> Request<Bytes> + Send + 'static,
        names: [&'static str; 2],
        item: fn(&RawValue) -> Option<I>,
    ) -> Self
    where
        P: Send + Sync + 'static,
        T: Transport,
    {
        let (mut page, mut offset) = (1, 0);
        let (mut last, mut seen) = (None, HashSet::new());
        Self::new(client, ask(page, offset), move |answer| {
            answer.accepted()?;
            let list = list_in(answer.body(), names).ok_or_else(|| answer.unreadable())?;
            let mut hash = DefaultHasher::new();
            list.iter().for_each(|raw| raw.get().hash(&mut hash));
            let hash = hash.finish();
            if list.is_empty() || last == Some(hash) {
                return Ok(Page {
                    items: Vec::new(),
                    next: None,
                });
            }
            if !seen.insert(hash) {
                return Err(Error::EndlessList);
            }
            last = Some(hash);
            page += 1;
            offset += list.len();
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

impl<I> Stream for Pages<I> {
    type Item = Result<I, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<I> fmt::Debug for Pages<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}
