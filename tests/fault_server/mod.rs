//! A server on a real socket that misbehaves by script: what an HTTP server library would never
//! let through, byte by byte. It counts what it sees and goes on when it is told to, so that tests
//! put events in order by telling it, not by sleeping.

#![allow(dead_code)] // No test needs all of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the server does next on a connection. After the last step it closes the connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Reads one whole request and counts it. If the client closes instead, the script ends.
    Read,
    /// Reads whatever comes first, uncounted: for clients that don't speak HTTP here.
    Sniff,
    /// Waits until the test says [`FaultServer::go_on`]: once for the first of these steps of a
    /// connection, twice for the second.
    Wait,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends what the function makes of the last request's body.
    Answer(fn(&[u8]) -> Vec<u8>),
    /// Sends these bytes one by one, each in a packet of its own, with a pause before each.
    Dribble(Vec<u8>, Duration),
    /// Sends these bytes again and again, until the client goes away.
    Forever(Vec<u8>),
    /// Says no more, until the client goes away.
    Hang,
    /// Ends the connection with a reset instead of a close.
    Reset,
}

/// A server that follows one script on every connection. Gone when dropped.
#[derive(Debug)]
pub(crate) struct FaultServer {
    address: SocketAddr,
    log: Arc<Log>,
    told: watch::Sender<usize>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    connections: AtomicU64,
    requests: Mutex<Vec<Vec<u8>>>,
    open: watch::Sender<usize>,
}

impl FaultServer {
    /// Starts a server on a free port of this machine.
    pub(crate) async fn start(script: impl Into<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let (told, _) = watch::channel(0);
        let script: Arc<[Step]> = script.into().into();
        let task = tokio::spawn(accept(listener, script, Arc::clone(&log), told.clone()));
        Self {
            address,
            log,
            told,
            task,
        }
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> u64 {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// The whole requests that were read, and the bytes that were sniffed, in order.
    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        self.log.requests.lock().unwrap().clone()
    }

    /// Lets every connection go past its next [`Step::Wait`].
    pub(crate) fn go_on(&self) {
        self.told.send_modify(|times| *times += 1);
    }

    /// Waits until a connection has been made and none is open any more.
    pub(crate) async fn all_closed(&self) {
        let mut open = self.log.open.subscribe();
        open.wait_for(|open| *open == 0 && self.connections() > 0)
            .await
            .unwrap();
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    script: Arc<[Step]>,
    log: Arc<Log>,
    told: watch::Sender<usize>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        log.open.send_modify(|open| *open += 1);
        log.connections.fetch_add(1, Ordering::SeqCst);
        let (script, log, told) = (Arc::clone(&script), Arc::clone(&log), told.subscribe());
        tokio::spawn(async move {
            // `None` if the client goes away in the middle of the script: its own affair.
            let _ = follow(stream, &script, &log, told).await;
            log.open.send_modify(|open| *open -= 1);
        });
    }
}

async fn follow(
    mut stream: TcpStream,
    script: &[Step],
    log: &Log,
    mut told: watch::Receiver<usize>,
) -> Option<()> {
    let mut unread = Vec::new();
    let mut last_body = Vec::new();
    let mut waits = 0;
    for step in script {
        match step {
            Step::Read => {
                let request = read_request(&mut stream, &mut unread).await?;
                last_body = request[head_len(&request)?..].to_vec();
                log.requests.lock().unwrap().push(request);
            }
            Step::Sniff => {
                read_some(&mut stream, &mut unread).await?;
                log.requests.lock().unwrap().push(unread.clone());
            }
            Step::Wait => {
                waits += 1;
                told.wait_for(|times| *times >= waits).await.ok()?;
            }
            Step::Send(bytes) => stream.write_all(bytes).await.ok()?,
            Step::Answer(answer) => stream.write_all(&answer(&last_body)).await.ok()?,
            Step::Dribble(bytes, pause) => {
                for byte in bytes {
                    tokio::time::sleep(*pause).await;
                    stream.write_all(&[*byte]).await.ok()?;
                }
            }
            Step::Forever(bytes) => loop {
                stream.write_all(bytes).await.ok()?;
            },
            Step::Hang => while read_some(&mut stream, &mut unread).await.is_some() {},
            Step::Reset => {
                stream.set_zero_linger().ok()?;
                return Some(());
            }
        }
    }
    stream.shutdown().await.ok()
}

/// One request with a `Content-Length`; whatever came after it stays in `unread`.
async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(len) = request_len(unread)
            && unread.len() >= len
        {
            let rest = unread.split_off(len);
            return Some(std::mem::replace(unread, rest));
        }
        read_some(stream, unread).await?;
    }
}

/// `None` if the client is gone.
async fn read_some(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(unread).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}

fn request_len(bytes: &[u8]) -> Option<usize> {
    let head_len = head_len(bytes)?;
    let head = str::from_utf8(&bytes[..head_len]).ok()?;
    let body_len = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().unwrap())
    });
    Some(head_len + body_len.unwrap_or(0))
}

fn head_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}
