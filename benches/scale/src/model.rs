//! From costs and traffic to what a shop needs: arithmetic alone.

use clap::Args;

use crate::costs::Costs;

const MICROS: f64 = 1e6;
const DAY: f64 = 86_400.0;

/// What is assumed, each of it to be set.
#[derive(Args, Clone, Debug)]
pub(crate) struct Assumptions {
    /// Requests for one landing, itself included
    #[arg(long, default_value_t = 100.0)]
    pub(crate) requests_per_landing: f64,

    /// The share of all requests that carry our cookie and whose handler asks for the referral
    #[arg(long, default_value_t = 0.2)]
    pub(crate) returning: f64,

    /// Landings for one sign-up
    #[arg(long, default_value_t = 50.0)]
    pub(crate) landings_per_sign_up: f64,

    /// Sign-ups for one sale
    #[arg(long, default_value_t = 5.0)]
    pub(crate) sign_ups_per_sale: f64,

    /// How many days a referral counts
    #[arg(long, default_value_t = 30.0)]
    pub(crate) window: f64,

    /// Cores of one server, which runs one process
    #[arg(long, default_value_t = 8.0)]
    pub(crate) cores: f64,

    /// The share of its cores that a server is to use in the busiest second
    #[arg(long, default_value_t = 0.5)]
    pub(crate) utilisation: f64,

    /// The least number of servers, so that one may fail
    #[arg(long, default_value_t = 3.0)]
    pub(crate) least_servers: f64,

    /// Requests that come over one connection of a visitor
    #[arg(long, default_value_t = 10.0)]
    pub(crate) requests_per_connection: f64,

    /// Seconds that such a connection stays open
    #[arg(long, default_value_t = 30.0)]
    pub(crate) connection_seconds: f64,

    /// Seconds that the platform takes for a call
    #[arg(long, default_value_t = 0.2)]
    pub(crate) platform_seconds: f64,

    /// Calls a second that the platform takes
    #[arg(long, default_value_t = 100.0)]
    pub(crate) platform_calls: f64,

    /// Clicks a second that one process starts: the default of `Clicks::max_per_second`
    #[arg(long, default_value_t = 50.0)]
    pub(crate) clicks_per_process: f64,

    /// Operations a second that one store does
    #[arg(long, default_value_t = 50_000.0)]
    pub(crate) store_operations: f64,

    /// Gigabytes of memory that one store has for records
    #[arg(long, default_value_t = 64.0)]
    pub(crate) store_gigabytes: f64,
}

impl Assumptions {
    /// Returns each with its option's name, and what it means.
    pub(crate) fn named(&self) -> [(&'static str, f64, &'static str); 15] {
        [
            (
                "requests-per-landing",
                self.requests_per_landing,
                "requests for one landing, itself included",
            ),
            (
                "returning",
                self.returning,
                "the share of all requests that carry our cookie and whose handler asks",
            ),
            (
                "landings-per-sign-up",
                self.landings_per_sign_up,
                "landings for one sign-up",
            ),
            (
                "sign-ups-per-sale",
                self.sign_ups_per_sale,
                "sign-ups for one sale",
            ),
            ("window", self.window, "days that a referral counts"),
            (
                "cores",
                self.cores,
                "cores of a server, which runs one process",
            ),
            (
                "utilisation",
                self.utilisation,
                "the share of its cores that a server is to use in the busiest second",
            ),
            (
                "least-servers",
                self.least_servers,
                "the least number of servers, so that one may fail",
            ),
            (
                "requests-per-connection",
                self.requests_per_connection,
                "requests that come over one connection of a visitor",
            ),
            (
                "connection-seconds",
                self.connection_seconds,
                "seconds that such a connection stays open",
            ),
            (
                "platform-seconds",
                self.platform_seconds,
                "seconds that the platform takes for a call",
            ),
            (
                "platform-calls",
                self.platform_calls,
                "calls a second that the platform takes: ask yours",
            ),
            (
                "clicks-per-process",
                self.clicks_per_process,
                "clicks a second that one process starts, the default of `Clicks::max_per_second`",
            ),
            (
                "store-operations",
                self.store_operations,
                "operations a second that one store does: measure yours, for instance by `redis-benchmark`",
            ),
            (
                "store-gigabytes",
                self.store_gigabytes,
                "gigabytes of memory that one store has for records",
            ),
        ]
    }
}

/// Something that there is only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    ClicksOfServer,
    ClicksOfKey,
    PlatformCalls,
    StoreOperations,
    StoreMemory,
    DatabaseRows,
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClicksOfServer => "clicks a second of one server",
            Self::ClicksOfKey => "clicks a second of one key and server",
            Self::PlatformCalls => "calls a second at the platform",
            Self::StoreOperations => "operations a second of the store",
            Self::StoreMemory => "memory of the store",
            Self::DatabaseRows => "rows a second of PostgreSQL",
        }
    }

    /// Says what to do when it is used up.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::ClicksOfServer => {
                "raise `Clicks::max_per_second` and `max_in_flight` as far as the platform agrees; what is \
                 turned away is tried at the visitor's next page view, and the key is credited all the same"
            }
            Self::ClicksOfKey => {
                "half of `Clicks::max_per_second` is for one key: raise it for a campaign of one partner"
            }
            Self::PlatformCalls => {
                "agree on a higher limit, or do without clicks where the platform credits by the key; \
                 reports wait in the outbox and go out later"
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
                "keep late click IDs elsewhere (`Clicks::on_late_result` may write to any store that the \
                 worker can read) or in batches; then one outbox for each shard of customers, with its own \
                 workers"
            }
        }
    }
}

/// What one scale needs. Rates are a second.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    pub(crate) landings: f64,
    pub(crate) requests: f64,
    /// Cores that are busy with the whole shop, and those of them that are with the layer.
    pub(crate) busy_cores: f64,
    pub(crate) layer_cores: f64,
    pub(crate) servers: f64,
    pub(crate) connections: f64,
    pub(crate) sign_ups: f64,
    pub(crate) sales: f64,
    pub(crate) reports: f64,
    pub(crate) workers: f64,
    pub(crate) platform_calls: f64,
    /// Calls to the platform that are under way at a time.
    pub(crate) calls_under_way: f64,
    pub(crate) clicks_of_server: f64,
    /// Rows that PostgreSQL changes, with and without late click IDs.
    pub(crate) database_rows: f64,
    pub(crate) report_rows: f64,
    pub(crate) store_reads: f64,
    pub(crate) store_writes: f64,
    pub(crate) store_connections: f64,
    pub(crate) records: f64,
    pub(crate) store_bytes: f64,
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

/// Works out what so many landings a second need.
pub(crate) fn needs(costs: &Costs, assumed: &Assumptions, landings: f64) -> Needs {
    let requests = landings * assumed.requests_per_landing;
    let returning = requests * assumed.returning;
    let plain = requests - returning - landings;
    let cores = |of_plain: f64, of_returning: f64, of_landing: f64| {
        let of_landing = of_landing + costs.click.value;
        (plain * of_plain + returning * of_returning + landings * of_landing) / MICROS
    };
    let busy_cores = cores(
        costs.plain_request.value,
        costs.returning_request.value,
        costs.landing_request.value,
    );
    let layer_cores = cores(
        costs.plain_layer.value,
        costs.returning_layer.value,
        costs.landing_layer.value,
    );
    let servers = (busy_cores / assumed.utilisation / assumed.cores).ceil();
    let servers = servers.max(assumed.least_servers);
    let sign_ups = landings / assumed.landings_per_sign_up;
    let sales = sign_ups / assumed.sign_ups_per_sale;
    let reports = sign_ups + sales;
    let platform_calls = landings + reports;
    // A customer or an order, its report, and the two changes of that by its worker.
    let report_rows = reports * 4.0;
    // A late click ID is written once and deleted once.
    let database_rows = report_rows + landings * 2.0;
    let store_reads = returning;
    // The record, and its click ID.
    let store_writes = landings * 2.0;
    let records = landings * DAY * assumed.window;
    Needs {
        landings,
        requests,
        busy_cores,
        layer_cores,
        servers,
        connections: requests / assumed.requests_per_connection * assumed.connection_seconds,
        sign_ups,
        sales,
        reports,
        workers: (reports / costs.worker_rate.value).ceil(),
        platform_calls,
        calls_under_way: platform_calls * assumed.platform_seconds,
        clicks_of_server: landings / servers,
        database_rows,
        report_rows,
        store_reads,
        store_writes,
        store_connections: (store_reads * costs.record_read.value
            + store_writes * costs.record_write.value)
            / MICROS,
        records,
        store_bytes: records * costs.record_bytes.value,
    }
}

impl Needs {
    /// Returns what is used, the one that is used up first in front; with the store only where referrals
    /// are kept `on_server`.
    pub(crate) fn loads(&self, costs: &Costs, assumed: &Assumptions, on_server: bool) -> Vec<Load> {
        let load = |resource, need, capacity| Load {
            resource,
            need,
            capacity,
        };
        let mut loads = vec![
            load(
                Resource::ClicksOfServer,
                self.clicks_of_server,
                assumed.clicks_per_process,
            ),
            load(
                Resource::PlatformCalls,
                self.platform_calls,
                assumed.platform_calls,
            ),
            load(
                Resource::DatabaseRows,
                self.database_rows,
                costs.database_rows(),
            ),
        ];
        if on_server {
            let operations = self.store_reads + self.store_writes;
            let capacity = assumed.store_gigabytes * 1e9;
            loads.extend([
                load(
                    Resource::StoreOperations,
                    operations,
                    assumed.store_operations,
                ),
                load(Resource::StoreMemory, self.store_bytes, capacity),
            ]);
        }
        loads.sort_by(|one, other| other.share().total_cmp(&one.share()));
        loads
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        assumed: Assumptions,
    }

    fn assumed(flags: &[&str]) -> Assumptions {
        Flags::parse_from([&["test"], flags].concat()).assumed
    }

    /// Round figures, so that the sums can be done in the head.
    fn costs() -> Costs {
        let mut costs = Costs::checked_in().unwrap();
        costs.plain_request.value = 10.0;
        costs.returning_request.value = 20.0;
        costs.landing_request.value = 30.0;
        costs.plain_layer.value = 1.0;
        costs.returning_layer.value = 2.0;
        costs.landing_layer.value = 3.0;
        costs.click.value = 10.0;
        costs.record_read.value = 100.0;
        costs.record_write.value = 200.0;
        costs.record_bytes.value = 500.0;
        costs.worker_rate.value = 1000.0;
        costs.database_rate.value = 1000.0;
        costs
    }

    #[track_caller]
    fn assert_near(one: f64, other: f64) {
        assert!(
            (one - other).abs() < 1e-9 * other.abs().max(1.0),
            "{one} {other}"
        );
    }

    #[test]
    fn a_thousand_landings_a_second_by_hand() {
        let needs = needs(&costs(), &assumed(&[]), 1000.0);
        assert_near(needs.requests, 100_000.0);
        // 79,000 of 10 µs, 20,000 of 20 µs, 1,000 of 40 µs.
        assert_near(needs.busy_cores, 0.79 + 0.4 + 0.04);
        assert_near(needs.layer_cores, 0.079 + 0.04 + 0.013);
        assert_near(needs.servers, 3.0);
        assert_near(needs.connections, 300_000.0);
        assert_near(needs.sign_ups, 20.0);
        assert_near(needs.sales, 4.0);
        assert_near(needs.platform_calls, 1024.0);
        assert_near(needs.calls_under_way, 204.8);
        assert_near(needs.database_rows, 96.0 + 2000.0);
        assert_near(needs.store_writes, 2000.0);
        assert_near(needs.store_reads, 20_000.0);
        assert_near(needs.store_connections, 2.0 + 0.4);
        assert_near(needs.records, 2.592e9);
        assert_near(needs.store_bytes, 1.296e12);
        assert_near(needs.workers, 1.0);
    }

    #[test]
    fn rates_grow_with_the_landings_and_servers_by_whole_ones() {
        let [small, large] = [1e3, 1e6].map(|landings| needs(&costs(), &assumed(&[]), landings));
        assert_near(large.database_rows, small.database_rows * 1000.0);
        assert_near(large.store_bytes, small.store_bytes * 1000.0);
        // 1,230 busy cores, half of them used, 8 in a server: 307.5.
        assert_near(large.servers, 308.0);
        assert_near(large.workers, 24.0);
    }

    #[test]
    fn the_fullest_comes_first_and_the_store_only_where_there_is_one() {
        let (costs, assumed) = (costs(), assumed(&[]));
        let needs = needs(&costs, &assumed, 1000.0);
        let in_cookie = needs.loads(&costs, &assumed, false);
        assert_eq!(in_cookie[0].resource, Resource::PlatformCalls);
        assert_near(in_cookie[0].share(), 10.24);
        assert!(
            in_cookie
                .iter()
                .all(|it| it.resource != Resource::StoreMemory)
        );
        let on_server = needs.loads(&costs, &assumed, true);
        assert_eq!(on_server[0].resource, Resource::StoreMemory);
        assert_near(on_server[0].share(), 20.25);
    }

    #[test]
    fn every_assumption_can_be_set() {
        let flags = [
            "--landings-per-sign-up",
            "10",
            "--requests-per-landing",
            "20",
        ];
        let needs = needs(&costs(), &assumed(&flags), 1000.0);
        assert_near(needs.sign_ups, 100.0);
        assert_near(needs.requests, 20_000.0);
    }
}
