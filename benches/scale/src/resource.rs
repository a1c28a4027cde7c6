//! What there is only so much of, and what to do when it is used up.

/// Something that there is only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    ClicksOfServer,
    ClicksUnderWay,
    ClicksOfKey,
    PlatformCalls,
    StoreOperations,
    StoreMemory,
    DatabaseRows,
    DatabaseDisk,
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClicksOfServer => "clicks a second of one server",
            Self::ClicksUnderWay => "clicks under way of one server",
            Self::ClicksOfKey => "clicks a second of one key and server",
            Self::PlatformCalls => "calls a second at the platform",
            Self::StoreOperations => "operations a second of the store",
            Self::StoreMemory => "memory of the store",
            Self::DatabaseRows => "rows a second of PostgreSQL",
            Self::DatabaseDisk => "disk of PostgreSQL",
        }
    }

    /// Says what to do when it is used up.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::ClicksOfServer => {
                "raise `Clicks::max_per_second`, and with it `late_results` (clicks a second × 600), as far \
                 as the platform agrees; what is turned away is tried at the visitor's next page view, and \
                 the key is credited all the same"
            }
            Self::ClicksUnderWay => {
                "raise `Clicks::max_in_flight` to clicks a second × seconds of a call"
            }
            Self::ClicksOfKey => {
                "half of `Clicks::max_per_second` is for one key: raise it for a campaign of one partner"
            }
            Self::PlatformCalls => {
                "agree on a higher limit, or do without clicks where the platform credits by the key; a \
                 burst of reports waits in the outbox and goes out later, but the average has to be under \
                 the limit; batches need fewer calls"
            }
            Self::StoreOperations => {
                "keep referrals in the signed cookie, which needs no store; or shard the store by the \
                 record's ID, which is random"
            }
            Self::StoreMemory => {
                "keep referrals in the signed cookie, which needs no store; or shorten the window, or shard \
                 the store by the record's ID"
            }
            Self::DatabaseRows => {
                "let no click ID be late (`ClickTiming::AtEndpoint`; with records the ID is in the record \
                 anyway), or keep late IDs in a store of your own and put the ID into the credit before the \
                 report is enqueued; then one outbox for each shard of customers, with its own workers"
            }
            Self::DatabaseDisk => {
                "let no click ID be late, or keep late IDs in a store of your own, as for the rows a \
                 second; or keep them for less than the window (the `ttl` of `Outbox::put_click`): a report \
                 whose ID is gone goes by the key"
            }
        }
    }
}

/// A need, as a share of what there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) resource: Resource,
    pub(crate) need: f64,
    pub(crate) capacity: f64,
}

impl Load {
    pub(crate) fn share(self) -> f64 {
        self.need / self.capacity
    }
}
