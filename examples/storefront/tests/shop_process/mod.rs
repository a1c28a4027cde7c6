//! The storefront as a process, and its visitors: the built example on a free port, driven over
//! sockets with every byte of a request in the test's own hand.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const KEY_A: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const KEY_B: &str = "b:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

/// What a shop has to say beside its work, and shows if its test fails.
const STDERR: &str = "stderr";

/// A storefront of its own for each test; gone when dropped.
pub(crate) struct Shop {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// Where it has its outbox: it is killed, and leaves what is there.
    files: tempfile::TempDir,
}

impl Shop {
    /// A shop without a platform.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    pub(crate) fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_as_told(&[&["--platform", "none"], args].concat(), variables)
    }

    /// A shop with the platform that the arguments name, or the default one.
    pub(crate) fn start_as_told(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut child = command(args, variables)
            .args(["--listen", "127.0.0.1:0"])
            .env("TMPDIR", files.path())
            .stdout(Stdio::piped())
            .stderr(File::create(files.path().join(STDERR)).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("listening on http://")
            .and_then(|rest| rest.strip_suffix('\n'))
            .unwrap_or_else(|| panic!("the first line is {line:?}"));
        Self {
            address: address.parse().unwrap(),
            child,
            stdout,
            files,
        }
    }

    /// Where the sandbox is that stands in for the platform, by what the shop says at its start.
    pub(crate) fn sandbox(&mut self) -> Sandbox {
        let mut line = String::new();
        while !line.contains("A sandbox in this process stands in for") {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "no sandbox");
        }
        line.clear();
        self.stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap();
        Sandbox(address.trim_end_matches('/').parse().unwrap())
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.files.path().join(STDERR)).unwrap()
    }

    /// Asks it to stop, as a service manager does.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status();
        assert!(kill.unwrap().success());
    }

    /// Ends the process and gives what it had to say after the first line.
    pub(crate) fn stop(&mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }

    pub(crate) fn visitor(&self) -> Visitor<'_> {
        Visitor {
            shop: self,
            user_agent: None,
            cookies: BTreeMap::new(),
        }
    }

    /// A visitor whom the platform is told of.
    pub(crate) fn browser(&self) -> Visitor<'_> {
        Visitor {
            user_agent: Some(
                "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
            ),
            ..self.visitor()
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        self.raw(method, path, &headers, body)
    }

    pub(crate) fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Answer {
        send(self.address, method, path, headers, body)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.files.path().join(STDERR));
            eprint!("{}", said.unwrap_or_default());
        }
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Answer {
    try_send(address, method, path, headers, body).unwrap()
}

/// The same where an answer may fail to come; a part of one is none.
pub(crate) fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> io::Result<Answer> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
        address,
        body.len()
    )
    .into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);

    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = Answer::parse(&answer).filter(|answer| method == "HEAD" || answer.is_whole());
    answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The stand-in for the platform in a shop's process.
#[derive(Clone, Copy)]
pub(crate) struct Sandbox(pub(crate) SocketAddr);

impl Sandbox {
    /// What it received, the newest first.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let accept = [("Accept", &b"application/json"[..])];
        let answer = send(self.0, "GET", "/", &accept, b"");
        answer.json().as_array().unwrap().clone()
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.call("POST", path, headers, body)
    }

    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        send(self.0, method, path, &headers, body.as_bytes())
    }
}

pub(crate) fn command(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storefront"));
    command
        .args(args)
        .env_remove("REFERRAL_KEY")
        .env_remove("REFERRAL_OLD_KEYS")
        .env_remove("PLATFORM_API_KEY")
        .env_remove("PAYMENT_SECRET")
        .env("RUST_LOG", "off")
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}

/// A browser, as far as cookies go, and the name it gives itself.
pub(crate) struct Visitor<'s> {
    pub(crate) shop: &'s Shop,
    pub(crate) user_agent: Option<&'static str>,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl<'s> Visitor<'s> {
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let (content_type, body) = match body.into() {
            Body::Form(text) => ("application/x-www-form-urlencoded", text),
            Body::Json(value) => ("application/json", value.to_string()),
        };
        let headers = [headers, &[("Content-Type", content_type)]].concat();
        self.request("POST", path, &headers, body.as_bytes())
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.try_request(method, path, headers, body).unwrap()
    }

    pub(crate) fn try_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers = headers.to_vec();
        if !cookies.is_empty() {
            headers.push(("Cookie", &cookies));
        }
        if let Some(user_agent) = self.user_agent {
            headers.push(("User-Agent", user_agent));
        }
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let answer = try_send(self.shop.address, method, path, &headers, body)?;
        self.remember(&answer);
        Ok(answer)
    }

    pub(crate) fn remember(&mut self, answer: &Answer) {
        for line in answer.headers("set-cookie") {
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.split(';').any(|a| a.trim() == "Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
    }

    /// The referral's key, by the API.
    pub(crate) fn key(&mut self) -> Option<String> {
        let answer = self.get("/api/referral").json();
        Some(answer["referral"].get("key")?.as_str().unwrap().to_owned())
    }

    /// The referral's click ID, by the API.
    pub(crate) fn click_id(&mut self) -> Option<String> {
        let answer = self.get("/api/referral").json();
        Some(answer["referral"]["click_id"].as_str()?.to_owned())
    }

    /// Looks again and again until the click ID is there.
    pub(crate) fn awaits_click_id(&mut self) -> String {
        let started = Instant::now();
        loop {
            if let Some(click_id) = self.click_id() {
                return click_id;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "no click ID");
        }
    }

    /// The same browser, where another process answers now.
    pub(crate) fn moves_to(self, shop: &Shop) -> Visitor<'_> {
        Visitor { shop, ..self }
    }
}

pub(crate) enum Body {
    Form(String),
    Json(Value),
}

#[derive(Clone, Copy)]
pub(crate) struct Form<'a>(pub(crate) &'a [(&'a str, &'a str)]);

#[derive(Clone, Copy)]
pub(crate) struct Json<'a>(pub(crate) &'a Value);

impl From<Form<'_>> for Body {
    fn from(form: Form<'_>) -> Self {
        let encode = |text: &str| -> String {
            let bytes = text.bytes();
            bytes.map(|byte| format!("%{byte:02X}")).collect()
        };
        let pairs = form.0.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        Self::Form(pairs.join("&"))
    }
}

impl From<Json<'_>> for Body {
    fn from(json: Json<'_>) -> Self {
        Self::Json(json.0.clone())
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// `None` if there is no whole head.
    fn parse(answer: &[u8]) -> Option<Self> {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = answer.split_at(end + 4);
        let head = std::str::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let answer = Self {
            status: status.parse().unwrap(),
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        assert_eq!(answer.header("transfer-encoding"), None);
        Some(answer)
    }

    fn is_whole(&self) -> bool {
        let length = self.header("content-length");
        length.is_none_or(|length| length == self.body.len().to_string())
    }

    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |header| header.0 == name)
            .map(|header| header.1.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["error"].as_str().unwrap().to_owned()
    }

    /// Outcome and detail.
    pub(crate) fn report(&self) -> (String, String) {
        assert_eq!(self.status, 200, "{}", self.body);
        let json = self.json();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        (text("outcome"), text("detail"))
    }

    pub(crate) fn assert_page(&self) {
        let content_type = self.header("content-type").unwrap_or_default();
        assert!(content_type.starts_with("text/html"), "{content_type}");
        assert!(self.body.starts_with("<!DOCTYPE html>"));
        assert!(self.header("content-security-policy").is_some());
    }

    /// The value of a hidden field of a form.
    pub(crate) fn hidden(&self, name: &str) -> Option<String> {
        let start = format!("<input type=\"hidden\" name=\"{name}\" value=\"");
        let (_, rest) = self.body.split_once(&start)?;
        Some(rest.split_once('"')?.0.to_owned())
    }
}

/// Whose referral the answer shows, if it is one that would show any.
pub(crate) fn shown(answer: &Answer) -> Option<Option<String>> {
    if answer.status == 204 {
        return None;
    }
    if answer.header("content-type") == Some("application/json") {
        let key = &answer.json()["referral"]["key"];
        return Some(key.as_str().map(str::to_owned));
    }
    let before = "You were referred by <strong>";
    let Some((_, rest)) = answer.body.split_once(before) else {
        assert!(answer.body.contains("Nobody referred you"));
        return Some(None);
    };
    Some(rest.split_once('<').map(|(key, _)| key.to_owned()))
}

/// The page without its card about the referral.
pub(crate) fn words(page: &Answer) -> String {
    page.assert_page();
    let (before, rest) = page.body.split_once("<section class=\"card\">").unwrap();
    let (_, after) = rest.split_once("</section>").unwrap();
    format!("{before}{after}")
}
