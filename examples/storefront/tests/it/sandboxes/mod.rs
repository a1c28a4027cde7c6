//! The sandboxes take what their platforms' own documentation prints, as curl sends it, and refuse
//! what that doesn't show.

mod affonso;
mod awin;
mod dub;
mod firstpromoter;
mod partnac;
mod partnero;
mod postback;
mod tapfiliate;
mod tolt;

use serde_json::Value;

use crate::shop_process::{Answer, Sandbox, Shop};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const CURL: (&str, &str) = ("Accept", "*/*");
const BEARER: (&str, &str) = ("Authorization", "Bearer sandbox");

/// A stand-in and the headers that its platform wants.
struct StandIn {
    _shop: Shop,
    sandbox: Sandbox,
    headers: Vec<(&'static str, &'static str)>,
}

impl StandIn {
    fn start(platform: &str, headers: &[(&'static str, &'static str)]) -> Self {
        let mut shop = Shop::start_as_told(&["--platform", platform], &[]);
        let sandbox = shop.sandbox();
        Self {
            _shop: shop,
            sandbox,
            headers: [&[CURL, JSON], headers].concat(),
        }
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.sandbox.post(path, &self.headers, body)
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.sandbox.call(method, path, &self.headers, body)
    }

    /// Posts what is taken and gives the answer.
    fn takes(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, &body.to_string());
        assert!((200..300).contains(&answer.status), "{}", answer.body);
        answer.json()
    }

    /// Posts what isn't, and says by which status it was refused.
    fn refuses(&self, path: &str, body: &Value) -> u16 {
        let answer = self.post(path, &body.to_string());
        assert!(answer.status >= 400, "{body}: {}", answer.body);
        answer.status
    }

    /// Posts the body without each of its fields, which must be refused each time.
    fn requires(&self, path: &str, body: &Value, fields: &[&str]) {
        for field in fields {
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(*field).unwrap();
            self.refuses(path, &without);
        }
    }

    /// Posts the body with another value in a field, which must be refused each time.
    fn refuses_values(&self, path: &str, body: &Value, values: &[(&str, Value)]) {
        for (field, value) in values {
            let mut with = body.clone();
            with[*field] = value.clone();
            self.refuses(path, &with);
        }
    }

    /// Posts the body without each header.
    fn requires_headers(&self, path: &str, body: &Value, names: &[&str]) {
        for name in names {
            let headers = self.headers.iter().copied();
            let without: Vec<_> = headers.filter(|(header, _)| header != name).collect();
            let answer = self.sandbox.post(path, &without, &body.to_string());
            assert!(answer.status >= 400, "{name}: {}", answer.body);
        }
    }
}

#[test]
fn every_sandbox_shows_what_it_received() {
    for platform in [
        "partnero",
        "partnero-friends",
        "partnac",
        "tapfiliate",
        "postback",
        "dub",
        "affonso",
        "firstpromoter",
        "tolt",
        "awin",
    ] {
        let stand_in = StandIn::start(platform, &[]);
        stand_in.post("/nowhere", r#"{"seen": true}"#);
        let calls = stand_in.sandbox.calls();
        assert_eq!(calls[0]["call"], "POST /nowhere", "{platform}");
        assert_eq!(calls[0]["body"], r#"{"seen": true}"#);
        assert!(calls[0]["status"].as_u64() >= Some(200));
        let page = stand_in
            .sandbox
            .call("GET", "/", &[("Accept", "text/html")], "");
        assert!(page.body.contains("1 call received"), "{platform}");
    }
}
