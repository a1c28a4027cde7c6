//! Do the shop and the platform agree? Compares the shop's orders, from a CSV, with the conversions
//! that the platform lists: what matches, what is missing there, what is there and shouldn't be, and
//! what has another amount. For the days in which a browser's pixel and server-side reporting run
//! side by side, and for the end of a month.
//!
//! ```sh
//! cargo run -p tower-referral-platforms --all-features --example reconcile
//! PLATFORM_API_KEY=… reconcile orders.csv
//! PLATFORM_API_KEY=… reconcile orders.csv --platform tapfiliate --json
//! PLATFORM_API_KEY=… reconcile orders.csv --platform partnero --from 2026-11-01 --to 2026-11-30
//! ```
//!
//! The CSV's first line names its columns, in any order, with any others among them:
//!
//! | column | |
//! |---|---|
//! | `order`, `amount`, `currency` | always |
//! | `customer` | for Partnero, which lists what a customer bought: each customer is asked for |
//! | `date` | for `--from` and `--to`: begins with `YYYY-MM-DD` |
//! | `credit` | optional: the referral key; an order without one isn't expected at the platform |
//!
//! A platform that doesn't say a currency is taken to mean the order's. Of the platform's conversions
//! those outside the period are left out, unless they are of an order of the CSV.
//!
//! **The 48 hours' procedure**, before a browser's pixel is switched off:
//!
//! 1. Report from the server, and leave the pixel on, for 48 hours at the least. Where the platform
//!    recognises duplicates by the order's ID, both give it the same ID.
//! 2. Buy 10 to 20 times by a test partner's link: with and without an ad blocker, days after the
//!    landing, by coupon, as a guest. Send one of the orders twice, and refund one.
//! 3. Compare, with the orders of these 48 hours and their `credit`. Every order with credit has to be
//!    `matched`. What is `missing` was lost on the way from the landing to the payment: look at the
//!    layer's events, and at what waits in the queue. What is `extra` came twice (pixel and server under
//!    two IDs, or a connected billing integration), or isn't in the CSV.
//! 4. Switch the pixel off once a whole period agrees, and compare again at the end of the month.
//!
//! Ends with 0 if all agree, with 1 if not, and with 2 if it couldn't find out. Without a CSV it shows
//! itself, on a sample of orders and a stand-in for the platform, and ends with 0.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http::{Request, Response};
use serde_json::{Value, json};
use tower::service_fn;
use tower_referral_platforms::affiliate::partnac::Filter;
use tower_referral_platforms::{
    Client, Error as PlatformError, Https, ListedConversion, Money, Partnac, Partnero, Tapfiliate,
};

/// Compares the shop's orders with the conversions that the platform lists.
#[derive(Parser)]
#[command(name = "reconcile")]
struct Options {
    /// The shop's orders: a CSV with the columns order, amount and currency; without it, a sample
    #[arg(requires = "api_key")]
    orders: Option<PathBuf>,

    /// Whom to ask
    #[arg(long, value_enum, default_value_t = Platform::Partnac, requires = "orders")]
    platform: Platform,

    /// The platform's base URL, if it isn't its own
    #[arg(long, value_name = "URL", requires = "orders")]
    platform_url: Option<String>,

    /// The platform's API key
    #[arg(
        long,
        value_name = "KEY",
        env = "PLATFORM_API_KEY",
        hide_env_values = true,
        requires = "orders"
    )]
    api_key: Option<String>,

    /// The first day that counts, as YYYY-MM-DD
    #[arg(long, value_name = "DAY", value_parser = day, requires = "orders")]
    from: Option<String>,

    /// The last day that counts, as YYYY-MM-DD
    #[arg(long, value_name = "DAY", value_parser = day, requires = "orders")]
    to: Option<String>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Platform {
    Partnac,
    Partnero,
    Tapfiliate,
}

/// Days as text, both included: they compare as they are written.
#[derive(Default)]
struct Period {
    from: Option<String>,
    to: Option<String>,
}

impl Period {
    fn is_whole(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Is this moment, which begins with its day, within the period?
    fn has(&self, moment: &str) -> bool {
        let day = moment.get(..10).unwrap_or(moment);
        self.from.as_deref().is_none_or(|from| day >= from)
            && self.to.as_deref().is_none_or(|to| day <= to)
    }
}

fn day(text: &str) -> Result<String, String> {
    let is_day = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    is_day
        .then(|| text.to_owned())
        .ok_or_else(|| "write it as YYYY-MM-DD".to_owned())
}

/// The shop's orders of the period.
#[derive(Default)]
struct Orders {
    amounts: BTreeMap<String, Money>,
    uncredited: BTreeSet<String>,
    /// All that the CSV has, whenever they were.
    known: HashSet<String>,
    customers: BTreeSet<String>,
}

type Listed = BoxStream<'static, Result<ListedConversion, PlatformError>>;

/// Where shop and platform agree and where they don't, by order.
#[derive(Default)]
struct Comparison {
    matched: Vec<String>,
    missing: Vec<(String, Money)>,
    extra: Vec<(String, String)>,
    different: Vec<(String, Money, String)>,
    /// Without credit, and not at the platform, as it should be.
    uncredited: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match reconcile(&options).await {
        Ok(comparison) => {
            if options.json {
                println!("{:#}", comparison.json());
            } else {
                print!("{}", comparison.table());
            }
            let is_sample = options.orders.is_none();
            ExitCode::from(u8::from(!comparison.agrees() && !is_sample))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn reconcile(options: &Options) -> Result<Comparison, Box<dyn Error>> {
    let (Some(path), Some(api_key)) = (&options.orders, &options.api_key) else {
        return sample().await;
    };
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| format!("can't read {name}: {error}"))?;
    let period = Period {
        from: options.from.clone(),
        to: options.to.clone(),
    };
    let by_customer = options.platform == Platform::Partnero;
    let orders = read_orders(&name, file, &period, by_customer)?;
    let listed: Listed = match options.platform {
        Platform::Partnac => {
            let mut platform = Partnac::new(api_key)?;
            if let Some(url) = &options.platform_url {
                platform = platform.base_url(url)?;
            }
            Client::new(platform, Https::new())
                .list_conversions(Filter::all())
                .boxed()
        }
        Platform::Partnero => {
            let mut platform = Partnero::new(api_key)?;
            if let Some(url) = &options.platform_url {
                platform = platform.base_url(url)?;
            }
            of_customers(
                Client::new(platform, Https::new()),
                orders.customers.clone(),
            )
        }
        Platform::Tapfiliate => {
            let mut platform = Tapfiliate::new(api_key)?;
            if let Some(url) = &options.platform_url {
                platform = platform.base_url(url)?;
            }
            Client::new(platform, Https::new())
                .list_conversions()
                .boxed()
        }
    };
    compare(orders, &period, listed).await
}

/// What each customer has bought, one customer after the other. One whom Partnero doesn't know was
/// credited to nobody.
fn of_customers(client: Client<Partnero, Https>, customers: BTreeSet<String>) -> Listed {
    let lists = stream::iter(customers).flat_map(move |customer| {
        match client.list_transactions(&customer) {
            Ok(pages) => pages.boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    });
    let known = lists.filter(|item| {
        let is_unknown =
            matches!(item, Err(PlatformError::Rejected { status, .. }) if status.as_u16() == 404);
        std::future::ready(!is_unknown)
    });
    known.boxed()
}

/// A few orders, and a platform that doesn't quite agree with them.
async fn sample() -> Result<Comparison, Box<dyn Error>> {
    const ORDERS: &str = "\
order,amount,currency
ORDER-1,99.99,EUR
ORDER-2,20.00,EUR
ORDER-3,5000,JPY
";
    const CONVERSIONS: &str = r#"[
        {"unique_id": "ORDER-1", "conversion_type": "sale", "amount": 99.99},
        {"unique_id": "ORDER-2", "conversion_type": "sale", "amount": 25},
        {"unique_id": "ORDER-9", "conversion_type": "sale", "amount": 7.5}
    ]"#;

    /// In the place of HTTPS: the first page of a list, and nothing behind it.
    async fn platform(request: Request<Bytes>) -> Result<Response<String>, Infallible> {
        let query = request.uri().query().unwrap_or_default();
        let is_first = query.split('&').any(|pair| pair == "offset=0");
        let page = if is_first { CONVERSIONS } else { "[]" };
        Ok(Response::new(page.to_owned()))
    }

    eprint!("No CSV was given, so this is a sample. The shop's orders:\n\n{ORDERS}\n");
    let period = Period::default();
    let orders = read_orders("the sample", ORDERS.as_bytes(), &period, false)?;
    let client = Client::new(Partnac::new("sample")?, service_fn(platform));
    let listed = client.list_conversions(Filter::all()).boxed();
    compare(orders, &period, listed).await
}

fn read_orders(
    file: &str,
    csv: impl Read,
    period: &Period,
    by_customer: bool,
) -> Result<Orders, Box<dyn Error>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(csv);
    let headers = reader.headers()?.clone();
    let column = |name: &str| {
        let mut names = headers
            .iter()
            .map(|header| header.trim_start_matches('\u{feff}'));
        let at = names.position(|header| header.eq_ignore_ascii_case(name));
        at.ok_or_else(|| format!("{file} has no column `{name}`: name it in the first line"))
    };
    let (order, amount, currency) = (column("order")?, column("amount")?, column("currency")?);
    let date = match (column("date"), period.is_whole()) {
        (Err(error), false) => return Err(error.into()),
        (date, _) => date.ok(),
    };
    let customer = match (column("customer"), by_customer) {
        (Err(error), true) => return Err(error.into()),
        (customer, _) => customer.ok(),
    };
    let credit = column("credit").ok();
    let mut orders = Orders::default();
    // The first line is the columns' names.
    for (record, line) in reader.records().zip(2..) {
        let record = record?;
        let field = |column| record.get(column).unwrap_or_default();
        let money = Money::new(field(amount), field(currency))
            .map_err(|error| format!("{file}, line {line}: {error}"))?;
        let id = field(order).to_owned();
        if id.is_empty() {
            return Err(format!("{file}, line {line}: the order has no ID").into());
        }
        if !orders.known.insert(id.clone()) {
            return Err(format!("{file}, line {line}: order {id} is there twice").into());
        }
        if let Some(date) = date
            && !period.has(field(date))
        {
            continue;
        }
        if credit.is_some_and(|credit| field(credit).is_empty()) {
            orders.uncredited.insert(id.clone());
        }
        if let Some(customer) = customer.map(field).filter(|customer| !customer.is_empty()) {
            orders.customers.insert(customer.to_owned());
        }
        orders.amounts.insert(id, money);
    }
    Ok(orders)
}

async fn compare(
    orders: Orders,
    period: &Period,
    mut listed: Listed,
) -> Result<Comparison, Box<dyn Error>> {
    let mut comparison = Comparison::default();
    let mut missing = orders.amounts.clone();
    let mut seen = HashSet::new();
    let (mut read, mut said) = (0_u64, Instant::now());
    while let Some(conversion) = listed.try_next().await? {
        read += 1;
        if said.elapsed() >= Duration::from_secs(1) {
            eprintln!("{read} conversions read …");
            said = Instant::now();
        }
        // Sign-ups are no orders.
        if conversion
            .kind()
            .is_some_and(|kind| matches!(kind, "lead" | "referral"))
        {
            continue;
        }
        let nameless = || format!("(no order; there {})", conversion.id().unwrap_or("?"));
        let id = conversion
            .external_id()
            .map_or_else(nameless, str::to_owned);
        let is_of_another_day = conversion.created_at().is_some_and(|at| !period.has(at));
        if !orders.amounts.contains_key(&id) && (is_of_another_day || orders.known.contains(&id)) {
            continue;
        }
        missing.remove(&id);
        let theirs = shown(&conversion);
        match orders.amounts.get(&id) {
            // A second conversion of one order is one too many.
            _ if !seen.insert(id.clone()) => comparison.extra.push((id, theirs)),
            None => comparison.extra.push((id, theirs)),
            Some(ours) if is_same(*ours, &conversion) => comparison.matched.push(id),
            Some(ours) => comparison.different.push((id, *ours, theirs)),
        }
    }
    eprintln!(
        "{read} conversions read, {} orders compared",
        orders.amounts.len()
    );
    for (order, amount) in missing {
        if orders.uncredited.contains(&order) {
            comparison.uncredited.push(order);
        } else {
            comparison.missing.push((order, amount));
        }
    }
    comparison.matched.sort();
    comparison.extra.sort();
    comparison
        .different
        .sort_by(|one, other| one.0.cmp(&other.0));
    Ok(comparison)
}

fn is_same(ours: Money, conversion: &ListedConversion) -> bool {
    let currency = conversion.currency().unwrap_or(ours.currency());
    let amount = conversion.amount().unwrap_or_default();
    Money::new(amount, currency) == Ok(ours)
}

/// What the platform says of the amount, as it says it.
fn shown(conversion: &ListedConversion) -> String {
    match (conversion.money(), conversion.amount()) {
        (Some(money), _) => money.to_string(),
        (None, Some(amount)) => amount.to_owned(),
        (None, None) => "no amount".to_owned(),
    }
}

impl Comparison {
    fn agrees(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.different.is_empty()
    }

    fn json(&self) -> Value {
        let missing = self.missing.iter();
        let missing =
            missing.map(|(order, ours)| json!({"order": order, "shop": ours.to_string()}));
        let extra = self.extra.iter();
        let extra = extra.map(|(order, theirs)| json!({"order": order, "platform": theirs}));
        let different = self.different.iter().map(|(order, ours, theirs)| {
            json!({"order": order, "shop": ours.to_string(), "platform": theirs})
        });
        json!({
            "agrees": self.agrees(),
            "matched": self.matched,
            "missing": missing.collect::<Vec<_>>(),
            "extra": extra.collect::<Vec<_>>(),
            "different": different.collect::<Vec<_>>(),
            "uncredited": self.uncredited,
        })
    }

    /// What doesn't agree, line by line, and the sums of all.
    fn table(&self) -> String {
        let mut rows = vec![["", "order", "shop", "platform"].map(str::to_owned)];
        for (order, ours) in &self.missing {
            rows.push([
                "missing".into(),
                order.clone(),
                ours.to_string(),
                "-".into(),
            ]);
        }
        for (order, theirs) in &self.extra {
            rows.push(["extra".into(), order.clone(), "-".into(), theirs.clone()]);
        }
        for (order, ours, theirs) in &self.different {
            rows.push([
                "different".into(),
                order.clone(),
                ours.to_string(),
                theirs.clone(),
            ]);
        }
        let width = |column: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3)];
        let mut table = String::new();
        if !self.agrees() {
            for row in &rows {
                let [kind, order, ours, theirs] = row;
                let [a, b, c, d] = widths;
                let _ = writeln!(table, "{kind:<a$}  {order:<b$}  {ours:>c$}  {theirs:>d$}");
            }
            table.push('\n');
        }
        let _ = writeln!(
            table,
            "{} matched, {} missing, {} extra, {} different",
            self.matched.len(),
            self.missing.len(),
            self.extra.len(),
            self.different.len()
        );
        if !self.uncredited.is_empty() {
            let count = self.uncredited.len();
            let _ = writeln!(table, "{count} without credit, and not at the platform");
        }
        table
    }
}
