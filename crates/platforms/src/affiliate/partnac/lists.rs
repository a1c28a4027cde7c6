//! What Partnac lists: conversions and clicks, a page at a time.

use std::fmt;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Partnac;
use crate::endpoint::encoded;
use crate::json::{id, list_in, pick, text};
use crate::{Answer, Client, Error, ListedConversion, Pages, Transport};

/// The most that a page of a list may hold.
const PAGE_LEN: usize = 100;

/// Which clicks or conversions to list; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a filter does nothing until it is given to a `Client`"]
pub struct Filter {
    campaign: Option<String>,
    partnership: Option<String>,
}

impl Filter {
    /// Creates a filter that lets all through.
    pub fn all() -> Self {
        Self::default()
    }

    /// Lets those of one campaign through, by Partnac's ID of it.
    pub fn campaign(mut self, id: impl Into<String>) -> Self {
        self.campaign = Some(id.into());
        self
    }

    /// Lets those of one partnership through, by Partnac's ID of it.
    pub fn partnership(mut self, id: impl Into<String>) -> Self {
        self.partnership = Some(id.into());
        self
    }

    fn query(&self, offset: usize) -> String {
        let mut query = format!("limit={PAGE_LEN}&offset={offset}");
        let filters = [
            ("campaign_id", &self.campaign),
            ("partnership_id", &self.partnership),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        query
    }
}

/// A click as Partnac lists it. `Debug` hides everything but its ID.
#[derive(Clone, PartialEq, Eq)]
pub struct ListedClick {
    id: Option<String>,
    json: String,
}

impl ListedClick {
    fn read(raw: &RawValue) -> Option<Self> {
        let ids = pick(raw.get().as_bytes(), ["click_id", "id", "session_id"])?;
        Some(Self {
            id: ids.into_iter().flatten().find_map(id).map(String::from),
            json: raw.get().to_owned(),
        })
    }

    /// Returns the click ID.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns all that Partnac says of it.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

impl fmt::Debug for ListedClick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedClick")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> Client<Partnac, T> {
    /// Lists the conversions that a filter lets through, a hundred at a time. *Documented nowhere:*
    /// where a list ends; it is read until a page is empty or the same as the one before.
    ///
    /// ```no_run
    /// # #[cfg(feature = "https")] {
    /// use futures_util::TryStreamExt;
    /// use tower_referral_platforms::affiliate::partnac::Filter;
    /// use tower_referral_platforms::{Client, Error, Https, Partnac};
    ///
    /// # async fn count(client: Client<Partnac, Https>) -> Result<(), Error> {
    /// let filter = Filter::all().campaign("CAMPAIGN-1");
    /// let conversions: Vec<_> = client.list_conversions(filter).try_collect().await?;
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    pub fn list_conversions(&self, filter: Filter) -> Pages<ListedConversion> {
        self.list("conversions", filter, ListedConversion::read)
    }

    /// Lists the clicks that a filter lets through, as
    /// [`list_conversions`](Self::list_conversions).
    pub fn list_clicks(&self, filter: Filter) -> Pages<ListedClick> {
        self.list("clicks", filter, ListedClick::read)
    }

    fn list<I: Send + 'static>(
        &self,
        what: &'static str,
        filter: Filter,
        item: fn(&RawValue) -> Option<I>,
    ) -> Pages<I> {
        let partnac = self.platform().clone();
        let ask = move |_, offset| partnac.list_request(what, &filter, offset);
        Pages::counted(self, ask, NAMES, item)
    }
}

/// Where a list may be in an answer.
const NAMES: [&str; 2] = ["conversions", "clicks"];

impl Partnac {
    pub(super) fn list_request(
        &self,
        what: &str,
        filter: &Filter,
        offset: usize,
    ) -> Request<Bytes> {
        let path = format!("/{what}?{}", filter.query(offset));
        self.endpoint.get_list(&path, NAMES)
    }
}

/// Whether a page shows what is looked for.
pub(super) enum Found {
    Yes,
    /// No, among so many.
    Not {
        len: usize,
    },
}

/// Looks on a page for the conversion of this unique ID, if it is as wanted.
pub(super) fn find(
    answer: &Answer,
    unique_id: &str,
    is_wanted: impl Fn(&RawValue) -> bool,
) -> Result<Found, Error> {
    answer.accepted()?;
    let list = answer.list(NAMES).ok_or_else(|| answer.unreadable())?;
    let is_found = list
        .iter()
        .any(|raw| ListedConversion::read_if(raw, unique_id).is_some() && is_wanted(raw));
    Ok(if is_found {
        Found::Yes
    } else {
        Found::Not { len: list.len() }
    })
}

/// Returns `true` if the conversion names a refund by this ID: in `external_refund_id`, or in that of
/// one of its `refunds`. *Documented nowhere:* whether a list shows refunds; the field's name is that
/// of the request.
pub(super) fn has_refund(conversion: &RawValue, refund: &str) -> bool {
    let Some([own, refunds]) = pick(
        conversion.get().as_bytes(),
        ["external_refund_id", "refunds"],
    ) else {
        return false;
    };
    let is_it = |raw: &RawValue| text(raw).is_some_and(|id| id == refund);
    let listed = refunds.and_then(|refunds| list_in(refunds.get().as_bytes(), ["refunds", "data"]));
    let mut ids = listed.into_iter().flatten().filter_map(|raw| {
        let [id] = pick(raw.get().as_bytes(), ["external_refund_id"])?;
        id
    });
    own.is_some_and(is_it) || ids.any(is_it)
}
