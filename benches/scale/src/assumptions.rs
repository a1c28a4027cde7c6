//! What the formulas assume of traffic, servers, platform, store and database.

use clap::Args;

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

    /// Reports that one worker has under way: the default of `WorkerBuilder::concurrency`
    #[arg(long, default_value_t = 16.0)]
    pub(crate) worker_concurrency: f64,

    /// Calls a second that the platform takes
    #[arg(long, default_value_t = 100.0)]
    pub(crate) platform_calls: f64,

    /// Clicks a second that one process starts: the default of `Clicks::max_per_second`
    #[arg(long, default_value_t = 50.0)]
    pub(crate) clicks_per_process: f64,

    /// Clicks that one process has under way: the default of `Clicks::max_in_flight`
    #[arg(long, default_value_t = 64.0)]
    pub(crate) clicks_under_way: f64,

    /// Operations a second that one store does
    #[arg(long, default_value_t = 50_000.0)]
    pub(crate) store_operations: f64,

    /// Gigabytes of memory that one store has for records
    #[arg(long, default_value_t = 64.0)]
    pub(crate) store_gigabytes: f64,

    /// Gigabytes of disk that one `PostgreSQL` has for late click IDs
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) database_gigabytes: f64,
}

impl Assumptions {
    /// Refuses what the formulas can't be right for.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let returning = self.requests_per_landing * self.returning;
        if self.requests_per_landing - returning < 1.0 {
            return Err(
                "--returning leaves no request for the landing itself, which comes without our cookie: \
                 give at most 1 - 1 / --requests-per-landing",
            );
        }
        Ok(())
    }

    /// Returns each with its option's name, and what it means.
    pub(crate) fn named(&self) -> [(&'static str, f64, &'static str); 18] {
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
                "worker-concurrency",
                self.worker_concurrency,
                "reports that one worker has under way, the default of `WorkerBuilder::concurrency`",
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
                "clicks-under-way",
                self.clicks_under_way,
                "clicks that one process has under way, the default of `Clicks::max_in_flight`",
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
            (
                "database-gigabytes",
                self.database_gigabytes,
                "gigabytes of disk that one PostgreSQL has for late click IDs",
            ),
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        assumed: Assumptions,
    }

    /// Returns what is assumed with these options.
    pub(crate) fn assumed(flags: &[&str]) -> Assumptions {
        Flags::parse_from([&["test"], flags].concat()).assumed
    }

    #[test]
    fn a_landing_has_a_request_of_its_own() {
        let returning = |share| assumed(&["--requests-per-landing", "10", "--returning", share]);
        assert!(returning("0.9").check().is_ok());
        let error = returning("0.91").check().unwrap_err();
        assert!(error.contains("--returning"), "{error}");
    }
}
