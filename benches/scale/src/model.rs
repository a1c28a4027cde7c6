//! From costs and traffic to what a shop needs: arithmetic alone.

use crate::assumptions::Assumptions;
use crate::costs::Costs;
use crate::resource::{Load, Resource};

const MICROS: f64 = 1e6;
const DAY: f64 = 86_400.0;

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
    pub(crate) connections_of_server: f64,
    pub(crate) sign_ups: f64,
    pub(crate) sales: f64,
    pub(crate) reports: f64,
    pub(crate) workers: f64,
    pub(crate) platform_calls: f64,
    /// Calls to the platform that are under way at a time.
    pub(crate) calls_under_way: f64,
    pub(crate) clicks_of_server: f64,
    /// Clicks of one server that are under way at a time.
    pub(crate) clicks_under_way: f64,
    /// Rows that PostgreSQL changes, with and without late click IDs.
    pub(crate) database_rows: f64,
    pub(crate) report_rows: f64,
    /// Late click IDs that PostgreSQL keeps.
    pub(crate) late_ids: f64,
    pub(crate) late_bytes: f64,
    pub(crate) store_reads: f64,
    pub(crate) store_writes: f64,
    pub(crate) store_connections: f64,
    pub(crate) records: f64,
    pub(crate) store_bytes: f64,
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
    let calls_of_worker = assumed.worker_concurrency / assumed.platform_seconds;
    // A customer or an order, its report, the two changes of that by its worker, and the removal of its
    // content.
    let report_rows = reports * 5.0;
    // A late click ID is written once and deleted once.
    let database_rows = report_rows + landings * 2.0;
    // A late click ID reads its record before it is written.
    let store_reads = returning + landings;
    // The record, and its click ID.
    let store_writes = landings * 2.0;
    let connections = requests / assumed.requests_per_connection * assumed.connection_seconds;
    let clicks_of_server = landings / servers;
    // A record or a late click ID for each landing, for as long as it counts.
    let kept = landings * DAY * assumed.window;
    Needs {
        landings,
        requests,
        busy_cores,
        layer_cores,
        servers,
        connections,
        connections_of_server: connections / servers,
        sign_ups,
        sales,
        reports,
        workers: (reports / costs.worker_rate.value.min(calls_of_worker)).ceil(),
        platform_calls,
        calls_under_way: platform_calls * assumed.platform_seconds,
        clicks_of_server,
        clicks_under_way: clicks_of_server * assumed.platform_seconds,
        database_rows,
        report_rows,
        late_ids: kept,
        late_bytes: kept * costs.click_row_bytes.value,
        store_reads,
        store_writes,
        store_connections: (store_reads * costs.record_read.value
            + store_writes * costs.record_write.value)
            / MICROS,
        records: kept,
        store_bytes: kept * costs.record_bytes.value,
    }
}

impl Needs {
    /// Returns what is used, the fullest first. Where referrals are kept `on_server`, there is a store, and
    /// late click IDs are in its records; otherwise `PostgreSQL` has them.
    pub(crate) fn loads(&self, costs: &Costs, assumed: &Assumptions, on_server: bool) -> Vec<Load> {
        const GIGABYTE: f64 = 1e9;
        let load = |resource, need, capacity| Load {
            resource,
            need,
            capacity,
        };
        let rows = if on_server {
            self.report_rows
        } else {
            self.database_rows
        };
        let mut loads = vec![
            load(
                Resource::ClicksOfServer,
                self.clicks_of_server,
                assumed.clicks_per_process,
            ),
            load(
                Resource::ClicksUnderWay,
                self.clicks_under_way,
                assumed.clicks_under_way,
            ),
            load(
                Resource::PlatformCalls,
                self.platform_calls,
                assumed.platform_calls,
            ),
            load(Resource::DatabaseRows, rows, costs.database_rows()),
        ];
        if on_server {
            let operations = self.store_reads + self.store_writes;
            let capacity = assumed.store_gigabytes * GIGABYTE;
            loads.extend([
                load(
                    Resource::StoreOperations,
                    operations,
                    assumed.store_operations,
                ),
                load(Resource::StoreMemory, self.store_bytes, capacity),
            ]);
        } else {
            let capacity = assumed.database_gigabytes * GIGABYTE;
            loads.push(load(Resource::DatabaseDisk, self.late_bytes, capacity));
        }
        loads.sort_by(|one, other| other.share().total_cmp(&one.share()));
        loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assumptions::tests::assumed;

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
        costs.click_row_bytes.value = 100.0;
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
        assert_near(needs.connections_of_server, 100_000.0);
        assert_near(needs.sign_ups, 20.0);
        assert_near(needs.sales, 4.0);
        assert_near(needs.platform_calls, 1024.0);
        assert_near(needs.calls_under_way, 204.8);
        assert_near(needs.clicks_under_way, 200.0 / 3.0);
        assert_near(needs.report_rows, 120.0);
        assert_near(needs.database_rows, 120.0 + 2000.0);
        assert_near(needs.late_ids, 2.592e9);
        assert_near(needs.late_bytes, 2.592e11);
        assert_near(needs.store_writes, 2000.0);
        assert_near(needs.store_reads, 21_000.0);
        assert_near(needs.store_connections, 2.1 + 0.4);
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
        // 24,000 reports, 16 at a time of 0.2 s each: 80 a second by one worker.
        assert_near(large.workers, 300.0);
    }

    #[test]
    fn a_worker_is_no_faster_than_its_database_lets_it() {
        // 16 calls at a time of 0.01 s each would be 1,600 a second.
        let assumed = assumed(&["--platform-seconds", "0.01"]);
        assert_near(needs(&costs(), &assumed, 1e6).workers, 24.0);
    }

    #[test]
    fn the_fullest_comes_first_and_a_landing_is_kept_in_one_place() {
        let (costs, assumed) = (costs(), assumed(&[]));
        let needs = needs(&costs, &assumed, 1000.0);
        let in_cookie = needs.loads(&costs, &assumed, false);
        assert_eq!(in_cookie[0].resource, Resource::PlatformCalls);
        assert_near(in_cookie[0].share(), 10.24);
        let share = |loads: &[Load], resource| {
            let load = loads.iter().find(|load| load.resource == resource);
            load.map(|load| load.share())
        };
        assert_eq!(share(&in_cookie, Resource::StoreMemory), None);
        assert_near(share(&in_cookie, Resource::DatabaseRows).unwrap(), 1.06);
        assert_near(share(&in_cookie, Resource::DatabaseDisk).unwrap(), 0.2592);
        let on_server = needs.loads(&costs, &assumed, true);
        assert_eq!(on_server[0].resource, Resource::StoreMemory);
        assert_near(on_server[0].share(), 20.25);
        assert_near(share(&on_server, Resource::DatabaseRows).unwrap(), 0.06);
        assert_eq!(share(&on_server, Resource::DatabaseDisk), None);
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
