//! A shop on a free port of this machine, on one thread: `shop bare`, or with `empty` (a layer that does
//! nothing), `layer`, `hand`, `cookies` or `sessions` around it. Prints its address. `loopback.py` runs it.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let variant = std::env::args().nth(1).unwrap_or_default();
    let shop =
        peers::whole_shop(&variant).ok_or("bare, empty, layer, hand, cookies or sessions")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            axum::serve(listener, shop).await?;
            Ok(())
        })
}
