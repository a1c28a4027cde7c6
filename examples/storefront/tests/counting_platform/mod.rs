//! A platform that counts: it takes what Partnac or Partnero takes, remembers by its ID what came and
//! what it recorded of that, and recognises what it was told twice exactly where they do.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Recognises a conversion that it was told twice.
    Partnac,
    /// Recognises a customer that it was told twice, and records a sale again.
    Partnero,
}

/// Plays the platform and counts.
pub(crate) struct Platform {
    kind: Kind,
    pub(crate) address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// What came, by the IDs that reports have here, in order.
    pub(crate) calls: Vec<String>,
    /// What of it was recorded.
    pub(crate) recorded: Vec<String>,
    /// The longest time from recording to answering, in milliseconds.
    pub(crate) most_delay: u64,
    /// Nothing is answered for now.
    pub(crate) is_held: bool,
    /// Reports whose ID begins like this are refused, with this status.
    pub(crate) refuse: Option<(&'static str, u16)>,
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
        let ledger = Arc::new(Mutex::new(Ledger::default()));
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
        }
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// The shop's options for this platform, at that address: its own, or that of whoever stands
    /// before it.
    pub(crate) fn options(&self, address: SocketAddr) -> [String; 4] {
        let (name, path) = match self.kind {
            Kind::Partnac => ("partnac", "v1/tracking"),
            Kind::Partnero => ("partnero", "v1"),
        };
        let url = format!("http://{address}/{path}");
        [
            "--platform".into(),
            name.into(),
            "--platform-url".into(),
            url,
        ]
    }
}

/// One connection, which may carry several calls.
fn serve(kind: Kind, ledger: &Mutex<Ledger>, stream: TcpStream) -> Option<()> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (line, body) = read_message(&mut reader)?;
        let path = line.split(' ').nth(1)?;
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let (id, is_unique) = match (kind, path) {
            (Kind::Partnac, "/v1/tracking/conversions") => {
                let id = text("unique_id");
                let is_sign_up = id.starts_with("signup:");
                (if is_sign_up { id } else { format!("sale:{id}") }, true)
            }
            (Kind::Partnac, path) if path.ends_with("/refund") => {
                (format!("refund:{}", text("external_refund_id")), false)
            }
            (Kind::Partnero, "/v1/customers") => (format!("signup:{}", text("key")), true),
            (Kind::Partnero, "/v1/transactions") => (format!("sale:{}", text("key")), false),
            _ => (String::new(), false),
        };
        let (status, most_delay) = {
            let mut ledger = ledger.lock().unwrap();
            ledger.calls.push(id.clone());
            let refused = ledger.refuse.filter(|(prefix, _)| id.starts_with(prefix));
            let status = if let Some((_, status)) = refused {
                status
            } else if is_unique && ledger.recorded.contains(&id) {
                409
            } else {
                ledger.recorded.push(id);
                201
            };
            (status, ledger.most_delay)
        };
        // What a kill may fall into: it is recorded, and nobody has been told.
        let mut random = Random(CALLS.fetch_add(1, Ordering::Relaxed));
        let delay = random.below(most_delay as usize + 1);
        thread::sleep(Duration::from_millis(delay as u64));
        while ledger.lock().unwrap().is_held {
            thread::sleep(Duration::from_millis(5));
        }
        let body = match status {
            201 => json!({"data": {"id": "1", "key": "1"}, "status": 1}),
            409 => json!({"message": "Duplicate key"}),
            _ => json!({"message": "not now"}),
        };
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        writer.write_all(answer.as_bytes()).ok()?;
    }
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
