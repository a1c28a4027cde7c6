//! A platform of the test's own that counts: it takes what Partnac or Partnero takes, recognises
//! duplicates exactly where they do, and stops at the points where a test wants to kill the shop.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Recognises a conversion that comes again.
    Partnac,
    /// Recognises a customer that comes again, and records a sale again; but lists what it has.
    Partnero,
}

/// Where the platform stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The call is there, and nothing is recorded.
    Received,
    /// It is recorded, and nobody knows yet.
    Recorded,
    /// The answer is out.
    Answered,
}

pub(crate) struct Platform {
    kind: Kind,
    pub(crate) address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    reached: Mutex<Receiver<Sender<()>>>,
}

pub(crate) struct Ledger {
    /// What came, by the IDs that reports have in the outbox, in order.
    pub(crate) calls: Vec<String>,
    /// What of it was recorded.
    pub(crate) recorded: Vec<String>,
    /// Sales by customer, for the list.
    sales: Vec<(String, String)>,
    /// The call at which the platform stops, and where.
    stop: Option<(String, Point)>,
    /// Reports whose ID begins like this are refused, with this status.
    pub(crate) refuse: Option<(&'static str, u16)>,
    reach: Sender<Sender<()>>,
}

impl Ledger {
    /// How often each was recorded.
    pub(crate) fn count(&self, kind: &str) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for id in self.recorded.iter().filter(|id| id.starts_with(kind)) {
            *count.entry(id.clone()).or_default() += 1;
        }
        count
    }
}

impl Platform {
    pub(crate) fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (reach, reached) = channel();
        let ledger = Arc::new(Mutex::new(Ledger {
            calls: Vec::new(),
            recorded: Vec::new(),
            sales: Vec::new(),
            stop: None,
            refuse: None,
            reach,
        }));
        let shared = Arc::clone(&ledger);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let ledger = Arc::clone(&shared);
                thread::spawn(move || serve(kind, &ledger, stream));
            }
        });
        Self {
            kind,
            address,
            ledger,
            reached: Mutex::new(reached),
        }
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// The shop's options for this platform.
    pub(crate) fn options(&self) -> [String; 4] {
        let (name, path) = match self.kind {
            Kind::Partnac => ("partnac", "v1/tracking"),
            Kind::Partnero => ("partnero", "v1"),
        };
        let url = format!("http://{}/{path}", self.address);
        [
            "--platform".into(),
            name.into(),
            "--platform-url".into(),
            url,
        ]
    }

    /// Has the platform stop at the first call of this ID.
    pub(crate) fn stop_at(&self, id: &str, point: Point) {
        self.open().stop = Some((id.to_owned(), point));
    }

    /// Waits until it has stopped. It goes on once the result is dropped.
    pub(crate) fn awaits_stop(&self) -> Sender<()> {
        let reached = self.reached.lock().unwrap();
        let stopped = reached.recv_timeout(Duration::from_secs(60));
        stopped.expect("the report that stops the platform never came")
    }
}

/// What a call is about.
struct Call {
    id: String,
    /// The platform recognises it when it comes again.
    is_unique: bool,
    customer: String,
}

impl Call {
    fn of(kind: Kind, path: &str, body: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let call = |id: String, is_unique, customer| {
            Some(Self {
                id,
                is_unique,
                customer,
            })
        };
        let none = String::new;
        match (kind, path) {
            (Kind::Partnac, "/v1/tracking/conversions") => {
                let id = text(&body["unique_id"]);
                let is_sign_up = body["conversion_type"] == "lead";
                let customer = text(&body["metadata"]["customer_id"]);
                let id = if is_sign_up {
                    format!("signup:{customer}")
                } else {
                    format!("sale:{id}")
                };
                call(id, true, customer)
            }
            (Kind::Partnac, path) if path.ends_with("/refund") => {
                let order = path.split('/').rev().nth(1)?;
                let id = text(&body["external_refund_id"]);
                call(format!("refund:{order}:{id}"), false, none())
            }
            (Kind::Partnero, "/v1/customers") => {
                let customer = text(&body["key"]);
                call(format!("signup:{customer}"), true, customer)
            }
            (Kind::Partnero, "/v1/transactions") => {
                let id = format!("sale:{}", text(&body["key"]));
                call(id, false, text(&body["customer"]["key"]))
            }
            (Kind::Partnero, path) => {
                let order = path.strip_prefix("/v1/transactions/")?;
                call(format!("refund:{order}"), true, none())
            }
            (Kind::Partnac, _) => None,
        }
    }
}

/// Serves one connection, which may carry several calls.
fn serve(kind: Kind, ledger: &Mutex<Ledger>, stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (line, body) = read_message(&mut reader)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if line.starts_with("GET") {
            answer(&mut writer, 200, &list(ledger, &path))?;
            continue;
        }
        let Some(call) = Call::of(kind, &path, &body) else {
            answer(&mut writer, 404, &json!({ "message": "not found" }))?;
            continue;
        };
        // A call of a click or the like stops nobody.
        let stops = ledger.lock().unwrap().meets(&call.id);
        if stops == Some(Point::Received) {
            wait(ledger);
            return None;
        }
        let status = ledger.lock().unwrap().take(&call);
        if stops == Some(Point::Recorded) {
            wait(ledger);
            return None;
        }
        let body = match status {
            200 => json!({ "data": { "id": "1", "key": "1", "partner": "P", "customer": {} },
                "status": 1 }),
            409 => json!({ "message": "Duplicate key" }),
            _ => json!({ "message": "not now" }),
        };
        answer(&mut writer, status, &body)?;
        if stops == Some(Point::Answered) {
            wait(ledger);
        }
    }
}

/// Says that the platform has stopped, and waits until it may go on.
fn wait(ledger: &Mutex<Ledger>) {
    let reach = ledger.lock().unwrap().reach.clone();
    let (go_on, may_go_on) = channel();
    // The test may be over.
    let _ = reach.send(go_on);
    let _ = may_go_on.recv();
}

impl Ledger {
    fn meets(&mut self, id: &str) -> Option<Point> {
        let (_, point) = self.stop.take_if(|(stop, _)| stop == id)?;
        Some(point)
    }

    fn take(&mut self, call: &Call) -> u16 {
        self.calls.push(call.id.clone());
        let refused = self
            .refuse
            .filter(|(prefix, _)| call.id.starts_with(prefix));
        if let Some((_, status)) = refused {
            return status;
        }
        if call.is_unique && self.recorded.contains(&call.id) {
            return 409;
        }
        self.recorded.push(call.id.clone());
        if let Some(order) = call.id.strip_prefix("sale:") {
            self.sales.push((call.customer.clone(), order.to_owned()));
        }
        200
    }
}

/// `GET /customers/{key}/transactions`
fn list(ledger: &Mutex<Ledger>, path: &str) -> Value {
    let customer = path.split('/').nth(3).unwrap_or_default();
    let ledger = ledger.lock().unwrap();
    let sales = ledger.sales.iter().filter(|(of, _)| of == customer);
    let sales: Vec<_> = sales
        .map(|(_, order)| json!({ "key": order, "amount": 5, "action": "sale" }))
        .collect();
    json!({ "data": sales, "links": { "next": null }, "status": 1 })
}

fn answer(writer: &mut TcpStream, status: u16, body: &Value) -> Option<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    writer.write_all(head.as_bytes()).ok()?;
    writer.write_all(body.as_bytes()).ok()
}

/// The first line and the body of a message; `None` at the end of the connection.
fn read_message(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, body))
}
