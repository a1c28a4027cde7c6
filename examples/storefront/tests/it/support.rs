//! What the tests of the storefront share: a platform of the test's own, payments, and waiting until the
//! outbox is empty.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::shop_process::{Json, Sandbox, Shop, Visitor, command};

pub(crate) const ACCEPT_HTML: (&str, &str) =
    ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
pub(crate) const ACCEPT_JSON: (&str, &str) = ("Accept", "application/json");

/// Far longer than a click to the sandbox takes, so a landing has its answer when it is out.
pub(crate) const LONG_WAIT: [&str; 2] = ["--click-wait", "60000"];

/// How long anything may take that is waited for. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is there.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Shop {
    /// `GET /outbox`, as JSON.
    pub(crate) fn outbox(&self) -> Value {
        self.request("GET", "/outbox", &[ACCEPT_JSON], b"").json()
    }

    /// Waits until nothing waits, and returns the outbox as it is then.
    pub(crate) fn settles(&self) -> Value {
        eventually("the outbox isn't empty", || {
            let outbox = self.outbox();
            (outbox["waiting"] == 0).then_some(outbox)
        })
    }

    /// Waits until so many reports need a person, and returns them.
    pub(crate) fn awaits_problems(&self, count: usize) -> Vec<Value> {
        eventually("the problems aren't there", || {
            let problems = self.outbox()["problems"].as_array().unwrap().clone();
            (problems.len() == count).then_some(problems)
        })
    }
}

/// What a sandbox was told, the oldest first, but for clicks: method and path, and body.
pub(crate) fn reported(sandbox: &Sandbox) -> Vec<(String, Value)> {
    let told = |call: &Value| {
        let line = call["call"].as_str().unwrap().to_owned();
        let body = call["body"].as_str().unwrap();
        let status = call["status"].as_u64().unwrap();
        assert!(status < 300, "{line} {body}: {}", call["answer"]);
        (line, serde_json::from_str(body).unwrap_or_default())
    };
    let calls = sandbox.calls();
    let calls = calls.iter().rev().map(told);
    calls
        .filter(|(line, _)| !line.contains("/clicks"))
        .collect()
}

/// Takes one call and answers it.
pub(crate) fn answer_one(platform: &TcpListener, json: &str) -> String {
    let mut call = accept(platform);
    let text = read_call(&mut call);
    let length = json.len();
    let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\n{json}");
    call.write_all(answer.as_bytes()).unwrap();
    text
}

pub(crate) fn accept(platform: &TcpListener) -> TcpStream {
    platform.set_nonblocking(true).unwrap();
    let started = Instant::now();
    loop {
        if let Ok((call, _)) = platform.accept() {
            call.set_nonblocking(false).unwrap();
            return call;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "no call came");
        std::thread::yield_now();
    }
}

/// Reads a call up to the end of its body, a JSON object without others in it.
pub(crate) fn read_call(call: &mut TcpStream) -> String {
    call.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut bytes = Vec::new();
    while bytes.last() != Some(&b'}') {
        let mut some = [0; 4096];
        let count = call.read(&mut some).unwrap();
        assert_ne!(count, 0, "the call ended early");
        bytes.extend_from_slice(&some[..count]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Runs the storefront with a configuration that it doesn't start with.
pub(crate) fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut child = command(args, variables)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{args:?} {variables:?} should have been refused");
        }
        std::thread::yield_now();
    }
    child.wait_with_output().unwrap()
}

/// The error with which the storefront refuses a configuration.
pub(crate) fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(args, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?}");
    error
}

pub(crate) fn payment(order: &str, amount: &str) -> Value {
    json!({"customer": "cus_1", "order": order, "amount": amount, "currency": "EUR"})
}

/// Checks out, and plays the payment provider's webhook.
pub(crate) fn pay(visitor: &mut Visitor<'_>, order: &str, amount: &str) {
    let mut webhook = payment(order, amount);
    let started = visitor.post("/checkout", &[], Json(&webhook)).json();
    webhook["client_reference_id"] = started["client_reference_id"].clone();
    let answer = visitor.post("/webhooks/payment", &[], Json(&webhook));
    assert_eq!(answer.status, 200, "{}", answer.body);
}
