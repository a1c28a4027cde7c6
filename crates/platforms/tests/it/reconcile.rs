//! The example `reconcile` as people run it: the built binary, a CSV, and a platform that lists what
//! it has, a page at a time.

use std::env::consts::EXE_SUFFIX;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

/// The conversions at Partnac, two on a page whatever is asked for.
const PARTNAC: [&str; 7] = [
    r#"{"unique_id":"o-1","conversion_type":"sale","amount":99.99,"metadata":{"currency":"EUR"}}"#,
    r#"{"unique_id":"signup:c-1","conversion_type":"lead","amount":0}"#,
    r#"{"unique_id":"o-2","conversion_type":"sale","amount":5,"metadata":{"currency":"EUR"}}"#,
    r#"{"unique_id":"o-3","conversion_type":"sale","amount":"20.0","metadata":{"currency":"USD"}}"#,
    r#"{"unique_id":"o-4","conversion_type":"sale","amount":9007199254740993.01}"#,
    r#"{"unique_id":"o-1","conversion_type":"sale","amount":99.99,"metadata":{"currency":"EUR"}}"#,
    r#"{"id":"conv_7","conversion_type":"sale","amount":1}"#,
];

async fn platform() -> String {
    async fn partnac(RawQuery(query): RawQuery) -> String {
        let query = query.unwrap();
        let (_, offset) = query.split_once("offset=").unwrap();
        let offset: usize = offset.split('&').next().unwrap().parse().unwrap();
        let page: Vec<_> = PARTNAC.into_iter().skip(offset).take(2).collect();
        format!(r#"{{"data":[{}]}}"#, page.join(","))
    }
    async fn tapfiliate(RawQuery(query): RawQuery) -> &'static str {
        match query.unwrap().as_str() {
            "page=1" => r#"[{"id":1,"external_id":"o-1","amount":99.99}]"#,
            _ => "[]",
        }
    }
    async fn partnero(Path(customer): Path<String>, uri: Uri) -> (StatusCode, String) {
        let page = match (&*customer, uri.query()) {
            ("c-1", None) => {
                r#"{"data":[{"key":"o-1","amount":10,"amount_units":"eur","created_at":"2026-11-05T10:00:00Z"}],
                    "links":{"next":"/v1/customers/c-1/transactions?page=2"}}"#
            }
            ("c-1", Some("page=2")) => {
                r#"{"data":[{"key":"o-0","amount":1,"created_at":"2026-10-31T23:00:00Z"},
                    {"key":"x-9","amount":1,"created_at":"2026-12-01T00:00:00Z"},
                    {"key":"x-8","amount":1,"created_at":"2026-11-30T23:59:59Z"}],"links":{"next":null}}"#
            }
            _ => {
                return (
                    StatusCode::NOT_FOUND,
                    r#"{"message":"Not found"}"#.to_owned(),
                );
            }
        };
        (StatusCode::OK, page.to_owned())
    }
    let app = Router::new()
        .route("/v1/customers/{customer}/transactions", get(partnero))
        .route("/v1/conversions", get(partnac))
        .route("/1.6/conversions/", get(tapfiliate));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn binary() -> Command {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(|deps| deps.parent()).unwrap();
    let binary: PathBuf = target.join(format!("examples/reconcile{EXE_SUFFIX}"));
    assert!(
        binary.exists(),
        "build it first: cargo build --all-features --example reconcile"
    );
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).env_remove("PLATFORM_API_KEY");
    command
}

/// Runs it on a CSV of this text, with a name of its own.
async fn reconcile(name: &str, csv: &str, args: &[&str]) -> Output {
    let process = std::process::id();
    let file = std::env::temp_dir().join(format!("reconcile-{process}-{name}.csv"));
    std::fs::write(&file, csv).unwrap();
    let output = binary()
        .arg(&file)
        .args(args)
        .env("PLATFORM_API_KEY", "s3cret-key")
        .output()
        .await
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const ORDERS: &str = "\
customer,order,currency,amount
c-1,o-1,EUR,99.99
c-1,o-2,eur,5.50
c-2,o-3,EUR,20
c-3,o-4,EUR,9007199254740993.01
c-3,\"o-5, the \"\"big\"\" one\",JPY,5000
";

#[tokio::test]
async fn a_program_reads_json() {
    let url = format!("{}/v1", platform().await);
    let output = reconcile("json", ORDERS, &["--platform-url", &url, "--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        json,
        json!({
            "agrees": false,
            "matched": ["o-1", "o-4"],
            "missing": [{"order": "o-5, the \"big\" one", "shop": "5000 JPY"}],
            "extra": [
                {"order": "(no order; there conv_7)", "platform": "1"},
                {"order": "o-1", "platform": "99.99 EUR"},
            ],
            "different": [
                {"order": "o-2", "shop": "5.50 EUR", "platform": "5.00 EUR"},
                {"order": "o-3", "shop": "20.00 EUR", "platform": "20.00 USD"},
            ],
            "uncredited": [],
        })
    );
    // What it says on the way is not in the way.
    assert!(text(&output.stderr).contains("7 conversions read, 5 orders compared"));
}

#[tokio::test]
async fn a_person_reads_a_table() {
    let url = format!("{}/v1", platform().await);
    let output = reconcile("table", ORDERS, &["--platform-url", &url]).await;
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    for line in [
        "different  o-2                        5.50 EUR   5.00 EUR",
        "missing    o-5, the \"big\" one         5000 JPY          -",
        "2 matched, 1 missing, 2 extra, 2 different",
    ] {
        assert!(table.lines().any(|shown| shown == line), "{line}\n{table}");
    }
}

#[tokio::test]
async fn all_is_well_if_it_is() {
    let url = format!("{}/1.6", platform().await);
    let args = ["--platform", "tapfiliate", "--platform-url", &url];
    let bom = "\u{feff}Order,Amount,Currency\no-1,99.990,EUR\n";
    let output = reconcile("well", bom, &args).await;
    assert_eq!(
        text(&output.stdout),
        "1 matched, 0 missing, 0 extra, 0 different\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn a_period_at_partnero_and_orders_without_credit() {
    let url = format!("{}/v1", platform().await);
    let csv = "\
order,amount,currency,customer,date,credit
o-0,1,EUR,c-1,2026-10-31,P
o-1,10,EUR,c-1,2026-11-05 09:59,P
o-2,20,EUR,c-2,2026-11-06,
o-3,30,EUR,c-2,2026-11-07,P
";
    let args = ["--platform", "partnero", "--platform-url", &url, "--json"];
    let period = ["--from", "2026-11-01", "--to", "2026-11-30"];
    let output = reconcile("partnero", csv, &[&args[..], &period].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        json,
        json!({
            "agrees": false,
            "matched": ["o-1"],
            "missing": [{"order": "o-3", "shop": "30.00 EUR"}],
            "extra": [{"order": "x-8", "platform": "1"}],
            "different": [],
            "uncredited": ["o-2"],
        })
    );
    // What it takes is said.
    for (csv, args, why) in [
        ("order,amount,currency\n", &args[..], "no column `customer`"),
        (
            "order,amount,currency,customer\n",
            &period[..],
            "no column `date`",
        ),
        (
            "order,amount,currency\n",
            &["--from", "1.11.2026"],
            "YYYY-MM-DD",
        ),
    ] {
        let output = reconcile("lacks", csv, args).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(
            text(&output.stderr).contains(why),
            "{}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn without_any_set_up_it_shows_itself() {
    let output = binary().output().await.unwrap();
    let table = [
        "           order         shop  platform",
        "missing    ORDER-3   5000 JPY         -",
        "extra      ORDER-9          -       7.5",
        "different  ORDER-2  20.00 EUR        25",
        "",
        "1 matched, 1 missing, 1 extra, 1 different",
    ];
    let shown: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!(shown, table, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn what_is_missing_is_named_and_no_sample_takes_its_place() {
    for (args, key, missing) in [
        (&["orders.csv"][..], "", "--api-key <KEY>"),
        (&[], "s3cret-key", "<ORDERS>"),
        (&["--platform", "tapfiliate"], "", "<ORDERS>"),
    ] {
        let mut command = binary();
        if !key.is_empty() {
            command.env("PLATFORM_API_KEY", key);
        }
        let output = command.args(args).output().await.unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(missing), "{error}");
        assert!(output.stdout.is_empty());
        assert!(!error.contains("s3cret-key"));
    }
}

#[tokio::test]
async fn what_cannot_be_found_out_is_an_error_that_says_why() {
    let url = format!("{}/v1", platform().await);
    let gone = format!("{}/nothing", platform().await);
    for (name, csv, url, why) in [
        ("columns", "id,amount,currency\n", &url, "no column `order`"),
        (
            "amount",
            "order,amount,currency\no-1,1e3,EUR\n",
            &url,
            "line 2: not an amount",
        ),
        (
            "twice",
            "order,amount,currency\no-1,1,EUR\no-1,1,EUR\n",
            &url,
            "line 3: order o-1 is there twice",
        ),
        (
            "empty",
            "order,amount,currency\n,1,EUR\n",
            &url,
            "line 2: the order has no ID",
        ),
        (
            "gone",
            "order,amount,currency\n",
            &gone,
            "refused the request (404",
        ),
    ] {
        let output = reconcile(name, csv, &["--platform-url", url]).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {error}");
        assert!(error.contains(why), "{name}: {error}");
        assert!(output.stdout.is_empty());
        assert!(!error.contains("s3cret-key"));
    }
}
