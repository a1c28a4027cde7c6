//! The layer around a plain hyper service, without axum: what the layer knows is read from the
//! request's extensions, and what the handler has to say goes into the response's.
//!
//! ```sh
//! cargo run --no-default-features --example hyper
//! ```
//!
//! Open <http://127.0.0.1:3000/?aff=PARTNER_123>, then <http://127.0.0.1:3000/>, then
//! <http://127.0.0.1:3000/forget>.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_referral::{Forget, Keyring, MissingLayer, ReferralKey, ReferralLayer, SigningKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a local run. A service reads a lasting key with `Keyring::from_env()`.
    let keyring = Keyring::new(SigningKey::generate("local")?);
    let referrals = ReferralLayer::builder(keyring).build()?;
    let service = TowerToHyperService::new(referrals.layer(service_fn(handle)));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://127.0.0.1:3000/?aff=PARTNER_123");
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(connection) => connection,
            // The visitor was gone before the connection was taken; others are waiting.
            Err(error) => {
                eprintln!("no connection: {error}");
                continue;
            }
        };
        let service = service.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("connection lost: {error}");
            }
        });
    }
}

async fn handle(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, MissingLayer> {
    match request.uri().path() {
        "/" => {
            let key = ReferralKey::from_extensions(request.extensions()).await?;
            Ok(text(match key {
                Some(key) => format!("Welcome! {key} sent you.\n"),
                None => "Welcome!\n".to_owned(),
            }))
        }
        "/forget" => {
            let mut response = text("Forgotten.\n".to_owned());
            response.extensions_mut().insert(Forget);
            Ok(response)
        }
        _ => {
            let mut response = text("There is no such page.\n".to_owned());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}

fn text(body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
