//! The function under an emulated Lambda: the runtime API on a port of this machine, and a sandbox that is
//! stopped (`SIGSTOP`) as soon as its response is received.
#![cfg(unix)]

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

/// The platform was called: for a key, and where its answer goes.
type Call = (String, oneshot::Sender<String>);

/// Lambda, and the affiliate platform.
struct World {
    at: SocketAddr,
    shared: Arc<Shared>,
    invocations: mpsc::UnboundedSender<Value>,
    responses: mpsc::UnboundedReceiver<Value>,
    calls: mpsc::UnboundedReceiver<Call>,
}

struct Shared {
    sandbox: Mutex<Option<Sandbox>>,
    pending: AsyncMutex<mpsc::UnboundedReceiver<Value>>,
    responses: mpsc::UnboundedSender<Value>,
    calls: mpsc::UnboundedSender<Call>,
}

impl World {
    async fn new() -> Self {
        let (invocations, pending) = mpsc::unbounded_channel();
        let (respond, responses) = mpsc::unbounded_channel();
        let (call, calls) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            sandbox: Mutex::default(),
            pending: AsyncMutex::new(pending),
            responses: respond,
            calls: call,
        });
        let app = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{id}/response",
                post(responded),
            )
            .route("/click", post(click))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            at,
            shared,
            invocations,
            responses,
            calls,
        }
    }

    /// Starts a new sandbox. What ran before is gone.
    fn starts(&self, timing: &str) {
        let sandbox = Command::new(env!("CARGO_BIN_EXE_lambda"))
            .env("AWS_LAMBDA_RUNTIME_API", self.at.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "shop")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "shop")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "shop")
            .env(
                "REFERRAL_KEY",
                "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            )
            .env("PLATFORM", format!("http://{}/click", self.at))
            .env("CLICK_TIMING", timing)
            // A slow machine is not what this is about.
            .env("CLICK_TIMEOUT", "120")
            .spawn()
            .unwrap();
        *self.shared.sandbox.lock().unwrap() = Some(Sandbox(sandbox));
    }

    fn ends(&self) {
        *self.shared.sandbox.lock().unwrap() = None;
    }

    fn invoke(&self, method: &str, path: &str, query: &str, cookies: &[&str]) {
        let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "cookies": cookies,
            "headers": { "host": "shop.example", "user-agent": browser },
            "requestContext": {
                "accountId": "1",
                "apiId": "shop",
                "domainName": "shop.example",
                "domainPrefix": "shop",
                "http": {
                    "method": method,
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.1",
                    "userAgent": browser,
                },
                "requestId": "1",
                "routeKey": "$default",
                "stage": "$default",
                "time": "15/Jan/2027:08:00:00 +0000",
                "timeEpoch": 1_800_000_000_000_u64,
            },
            "isBase64Encoded": false,
        });
        self.invocations.send(event).unwrap();
    }

    /// The response, whose sandbox is stopped by now.
    async fn response(&mut self) -> Value {
        let response = self.responses.recv().await.unwrap();
        assert_eq!(response["statusCode"], 200, "{response}");
        response
    }

    async fn signs_up(&mut self, landing: &Value) -> String {
        let cookie = landing["cookies"][0].as_str().unwrap();
        let pair = cookie.split(';').next().unwrap();
        self.invoke("POST", "/signup", "", &[pair]);
        let response = self.response().await;
        response["body"].as_str().unwrap().to_owned()
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let event = shared.pending.lock().await.recv().await.unwrap();
    let headers = [
        ("lambda-runtime-aws-request-id", "1"),
        ("lambda-runtime-deadline-ms", "9000000000000"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:1:function:shop",
        ),
    ];
    (headers, axum::Json(event))
}

/// Takes in a response, and stops the sandbox before anything else.
async fn responded(State(shared): State<Arc<Shared>>, body: String) -> StatusCode {
    if let Some(sandbox) = &*shared.sandbox.lock().unwrap() {
        sandbox.stop();
    }
    let response = serde_json::from_str(&body).unwrap();
    shared.responses.send(response).unwrap();
    StatusCode::ACCEPTED
}

/// Holds the answer back until the test gives it.
async fn click(State(shared): State<Arc<Shared>>, key: String) -> String {
    let (answer, answered) = oneshot::channel();
    shared.calls.send((key, answer)).unwrap();
    answered.await.unwrap_or_default()
}

struct Sandbox(Child);

impl Sandbox {
    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.0.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    fn stop(&self) {
        self.signal("STOP");
    }

    fn goes_on(&self) {
        self.signal("CONT");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_sandbox_is_frozen_after_the_response() {
    let mut world = World::new().await;
    world.starts("before");
    world.invoke("GET", "/", "aff=PARTNER_123", &[]);
    let (key, answer) = world.calls.recv().await.unwrap();
    assert_eq!(key, "PARTNER_123");
    assert!(
        world.responses.try_recv().is_err(),
        "the response waits for its click"
    );
    answer.send("clk_1".to_owned()).unwrap();
    let landing = world.response().await;

    // The sandbox is never used again.
    world.ends();
    world.starts("before");
    assert_eq!(
        world.signs_up(&landing).await,
        "PARTNER_123 sent you, click clk_1."
    );

    // Nor does one that goes on make up for anything.
    world
        .shared
        .sandbox
        .lock()
        .unwrap()
        .as_ref()
        .unwrap()
        .goes_on();
    assert_eq!(
        world.signs_up(&landing).await,
        "PARTNER_123 sent you, click clk_1."
    );
    assert!(world.calls.try_recv().is_err(), "one click");
}

/// What the setting is for: without it, the answer comes to a process that stands still.
#[tokio::test(flavor = "multi_thread")]
async fn beside_the_response_the_click_id_would_be_lost() {
    let mut world = World::new().await;
    world.starts("beside");
    world.invoke("GET", "/", "aff=PARTNER_123", &[]);
    let landing = world.response().await;
    world.ends();
    world.starts("beside");
    assert_eq!(
        world.signs_up(&landing).await,
        "PARTNER_123 sent you, click none yet."
    );
}
