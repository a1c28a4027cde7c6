//! One server on a real socket that misbehaves, byte by byte: what a server library would never let
//! through. It does so in two ways. By a script, it plays a platform by itself; it counts what it
//! sees and goes on when it is told to, so that tests put events in order by telling it, not by
//! sleeping. Or it stands before a platform or a store that is well, hands everything on, and from
//! one moment to another does to the answers what a [`Fault`] says. The faults are the same in both.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

// --- What can go wrong with an answer ------------------------------------------------------------

/// What can go wrong on the way from any server to those who ask it, whatever they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody listens.
    Refused,
    /// The connection is closed in the place of an answer, and the request got nowhere.
    Closed,
    /// The request got there, and no answer comes.
    Silent,
    /// Half an answer, and then no more.
    SilentMidway,
    /// The answer is late, and not too late.
    Late,
    /// It comes when nobody can be waiting for it any more.
    TooLate,
    /// One byte at a time.
    Dribbling,
    /// The request got there, and its connection is reset in the place of an answer.
    Reset,
    /// The same after half an answer.
    ResetMidway,
    /// A close after half an answer.
    ClosedMidway,
    /// The answer ends where the connection does, and that doesn't end.
    SlowlyClosed,
    /// Bytes of no protocol.
    Garbage,
    /// What a server that speaks TLS says to those who don't.
    TlsAlert,
    /// A length that goes beyond the answer.
    TooLong,
    /// A length that ends before the answer does.
    TooShort,
    /// Headers, or what stands for them, without end.
    EndlessHead,
    /// An answer without end.
    EndlessBody,
}

/// Within every budget.
const LATE: Duration = Duration::from_millis(100);
/// Beyond every budget.
const TOO_LATE: Duration = Duration::from_secs(8);
const DRIBBLE: Duration = Duration::from_millis(5);
/// Between two parts of what has no end, before a store that reads for as long as it is told.
const PACE: Duration = Duration::from_millis(5);

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::Refused,
        Self::Closed,
        Self::Silent,
        Self::SilentMidway,
        Self::Late,
        Self::TooLate,
        Self::Dribbling,
        Self::Reset,
        Self::ResetMidway,
        Self::ClosedMidway,
        Self::SlowlyClosed,
        Self::Garbage,
        Self::TlsAlert,
        Self::TooLong,
        Self::TooShort,
        Self::EndlessHead,
        Self::EndlessBody,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Closed => "closed, unread",
            Self::Silent => "silence",
            Self::SilentMidway => "half an answer, then silence",
            Self::Late => "latency of 100 ms",
            Self::TooLate => "latency of 8 s",
            Self::Dribbling => "a byte every 5 ms",
            Self::Reset => "reset before the answer",
            Self::ResetMidway => "reset within the answer",
            Self::ClosedMidway => "closed within the answer",
            Self::SlowlyClosed => "slow close",
            Self::Garbage => "garbage",
            Self::TlsAlert => "a TLS alert",
            Self::TooLong => "length too long",
            Self::TooShort => "length too short",
            Self::EndlessHead => "endless headers",
            Self::EndlessBody => "endless body",
        }
    }

    /// What becomes of an answer.
    pub(crate) fn steps(self, protocol: Protocol, answer: &[u8]) -> Vec<Step> {
        let send = |bytes: &[u8]| Step::Send(bytes.to_vec());
        let (half, rest) = answer.split_at(answer.len() / 2);
        match self {
            Self::Refused => vec![Step::Refuse],
            Self::Closed => vec![Step::Close],
            Self::Silent => vec![Step::Hang, send(answer)],
            Self::SilentMidway => vec![send(half), Step::Hang, send(rest)],
            Self::Late => vec![Step::Pause(LATE), send(answer)],
            Self::TooLate => vec![Step::Pause(TOO_LATE), send(answer)],
            Self::Dribbling => vec![Step::Dribble(answer.to_vec(), DRIBBLE)],
            Self::Reset => vec![Step::Reset],
            Self::ResetMidway => vec![send(half), Step::Reset],
            Self::ClosedMidway => vec![send(half), Step::Close],
            Self::SlowlyClosed => vec![
                Step::Send(protocol.without_length(answer)),
                Step::Hang,
                Step::Close,
            ],
            Self::Garbage => vec![Step::Send(
                (0..64_u8).map(|at| at.wrapping_mul(37) ^ 11).collect(),
            )],
            // Fatal: the first message was none.
            Self::TlsAlert => vec![send(&[21, 3, 1, 0, 2, 2, 10]), Step::Close],
            Self::TooLong => vec![Step::Send(protocol.with_length(answer, |len| len + 7))],
            Self::TooShort => vec![Step::Send(protocol.with_length(answer, |len| len / 2))],
            Self::EndlessHead => {
                let (start, more) = protocol.endless_head();
                vec![Step::Send(start), Step::Forever(more)]
            }
            Self::EndlessBody => {
                let start = protocol.endless_body();
                vec![Step::Send(start), Step::Forever(vec![b' '; 1000])]
            }
        }
    }

    /// Does a request come to whoever is behind this server?
    pub(crate) fn lets_arrive(self) -> bool {
        !matches!(self, Self::Refused | Self::Closed)
    }

    /// Is every byte of the answer there in the end, where it belongs?
    fn is_only_slow(self) -> bool {
        matches!(
            self,
            Self::Silent | Self::SilentMidway | Self::Late | Self::TooLate | Self::Dribbling
        )
    }
}

/// What the server and those who ask it speak, as far as a fault needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Redis,
    Postgres,
}

impl Protocol {
    /// The first length in an answer, changed; an answer without any stays as it is.
    fn with_length(self, answer: &[u8], change: impl Fn(usize) -> usize) -> Vec<u8> {
        let mut changed = answer.to_vec();
        match self {
            Self::Http => {
                if let Some(range) = number_behind(answer, b"content-length: ") {
                    replace_number(&mut changed, range, change);
                }
            }
            Self::Redis => {
                if let Some(range) = number_behind(answer, b"$") {
                    replace_number(&mut changed, range, change);
                }
            }
            // A letter, then the length of all but that.
            Self::Postgres => {
                if let Some(four) = changed.get_mut(1..5) {
                    let len = u32::from_be_bytes(four.try_into().unwrap());
                    let len = change(len as usize) as u32;
                    four.copy_from_slice(&len.to_be_bytes());
                }
            }
        }
        changed
    }

    /// Where an answer may end with its connection, that is how it ends.
    fn without_length(self, answer: &[u8]) -> Vec<u8> {
        match self {
            Self::Http => {
                let lower = answer.to_ascii_lowercase();
                let name = b"content-length:";
                let at = lower.windows(name.len()).position(|some| some == name);
                let mut changed = answer.to_vec();
                if let Some(at) = at {
                    changed[at..at + name.len()].copy_from_slice(b"x-not-a-length:");
                }
                changed
            }
            Self::Redis | Self::Postgres => answer.to_vec(),
        }
    }

    /// How headers without end begin, and how they go on.
    fn endless_head(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Http => (
                b"HTTP/1.1 200 OK\r\n".to_vec(),
                b"X-Filler: 0123456789\r\n".to_vec(),
            ),
            // A line that has no end.
            Self::Redis => (b"+".to_vec(), vec![b'x'; 1000]),
            // Notices, of which any number may come before an answer.
            Self::Postgres => (Vec::new(), b"N\0\0\0\x0fSNOTICE\0MX\0\0".to_vec()),
        }
    }

    /// How an answer begins of which there is no end.
    fn endless_body(self) -> Vec<u8> {
        match self {
            Self::Http => b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n".to_vec(),
            Self::Redis => b"$10000000000\r\n".to_vec(),
            // A row of 16 MiB.
            Self::Postgres => b"D\x01\0\0\0".to_vec(),
        }
    }
}

/// Where the number behind the first occurrence of `name` is.
fn number_behind(bytes: &[u8], name: &[u8]) -> Option<std::ops::Range<usize>> {
    let is_here = |some: &[u8]| some.eq_ignore_ascii_case(name);
    let start = bytes.windows(name.len()).position(is_here)? + name.len();
    let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit());
    let len = digits.count();
    (len > 0).then_some(start..start + len)
}

fn replace_number(
    bytes: &mut Vec<u8>,
    range: std::ops::Range<usize>,
    change: impl Fn(usize) -> usize,
) {
    let number = str::from_utf8(&bytes[range.clone()]).unwrap();
    let number = change(number.parse().unwrap()).to_string();
    bytes.splice(range, number.into_bytes());
}

/// What the server does next on a connection. After a script's last step it closes the connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Nobody listens: a script that begins like this has no other step.
    Refuse,
    /// Reads one whole request and counts it. If the client closes instead, the script ends.
    Read,
    /// Reads whatever comes first, uncounted: for clients that don't speak HTTP here.
    Sniff,
    /// Waits until the test says [`FaultServer::go_on`]: once for the first of these steps of a
    /// connection, twice for the second.
    Wait,
    /// Waits that long, unless the client goes away or the fault is lifted.
    Pause(Duration),
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends what the function makes of the last request's body.
    Answer(fn(&[u8]) -> Vec<u8>),
    /// Sends these bytes one by one, each in a packet of its own, with a pause before each.
    Dribble(Vec<u8>, Duration),
    /// Sends these bytes again and again, until the client goes away or the fault is lifted.
    Forever(Vec<u8>),
    /// Says no more, until the client goes away or the fault is lifted.
    Hang,
    /// Ends the connection.
    Close,
    /// Ends it with a reset instead of a close.
    Reset,
}

// --- The server ----------------------------------------------------------------------------------

/// A server that follows one script on every connection, or one that stands before another server
/// and is well until a fault is inflicted on it. Gone when dropped.
#[derive(Debug)]
pub(crate) struct FaultServer {
    address: SocketAddr,
    log: Arc<Log>,
    told: watch::Sender<usize>,
    fault: watch::Sender<Option<Fault>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    connections: AtomicU64,
    requests: Mutex<Vec<Vec<u8>>>,
    /// How many they are.
    read: watch::Sender<usize>,
    /// Answers that are being held back.
    held: AtomicU64,
    open: watch::Sender<usize>,
}

impl Log {
    fn note(&self, request: Vec<u8>) {
        self.requests.lock().unwrap().push(request);
        self.read.send_modify(|read| *read += 1);
    }
}

/// What becomes of a connection.
#[derive(Clone)]
enum Conduct {
    Script(Arc<[Step]>),
    Relay(SocketAddr, Protocol),
}

impl FaultServer {
    /// Starts a server on a free port of this machine that follows a script.
    pub(crate) async fn start(script: impl Into<Vec<Step>>) -> Self {
        Self::run(Conduct::Script(script.into().into())).await
    }

    /// Starts a server on a free port of this machine that stands before another one.
    pub(crate) async fn before(server: SocketAddr, protocol: Protocol) -> Self {
        Self::run(Conduct::Relay(server, protocol)).await
    }

    async fn run(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let (told, _) = watch::channel(0);
        let refuses =
            matches!(&conduct, Conduct::Script(steps) if matches!(steps[..], [Step::Refuse]));
        let (fault, faults) = watch::channel(refuses.then_some(Fault::Refused));
        let mut door = Door::Open(listener);
        if refuses {
            door = door.shut(address);
        }
        let accepting = accept(
            door,
            address,
            conduct,
            Arc::clone(&log),
            told.clone(),
            faults,
        );
        Self {
            address,
            log,
            told,
            fault,
            task: tokio::spawn(accepting),
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

    /// Waits until that many requests have been read.
    pub(crate) async fn has_read(&self, count: usize) {
        let mut read = self.log.read.subscribe();
        read.wait_for(|read| *read >= count).await.unwrap();
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

    /// From now on, this happens to every answer, on connections old and new.
    pub(crate) fn inflict(&self, fault: Fault) {
        self.fault.send_replace(Some(fault));
    }

    /// All is well again: what was held back goes out, and connections on which something else than
    /// the truth was told are closed.
    pub(crate) fn lift(&self) {
        self.fault.send_replace(None);
    }

    /// Has an answer been held back, ever?
    pub(crate) fn has_held_something(&self) -> bool {
        self.log.held.load(Ordering::SeqCst) > 0
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The port, which is ours while nobody listens on it, too.
enum Door {
    Open(TcpListener),
    Shut(TcpSocket),
}

impl Door {
    fn shut(self, address: SocketAddr) -> Self {
        drop(self);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        Self::Shut(socket)
    }

    fn open(self) -> Self {
        match self {
            Self::Shut(socket) => Self::Open(socket.listen(1024).unwrap()),
            open @ Self::Open(_) => open,
        }
    }

    async fn accept(&self) -> TcpStream {
        match self {
            Self::Open(listener) => listener.accept().await.unwrap().0,
            Self::Shut(_) => std::future::pending().await,
        }
    }
}

async fn accept(
    mut door: Door,
    address: SocketAddr,
    conduct: Conduct,
    log: Arc<Log>,
    told: watch::Sender<usize>,
    mut faults: watch::Receiver<Option<Fault>>,
) {
    loop {
        let stream = tokio::select! {
            stream = door.accept() => stream,
            changed = faults.changed() => {
                if changed.is_err() {
                    return;
                }
                let is_refused = *faults.borrow_and_update() == Some(Fault::Refused);
                door = match door {
                    Door::Open(_) if is_refused => door.shut(address),
                    Door::Shut(_) if !is_refused => door.open(),
                    as_it_is => as_it_is,
                };
                continue;
            }
        };
        stream.set_nodelay(true).unwrap();
        log.open.send_modify(|open| *open += 1);
        log.connections.fetch_add(1, Ordering::SeqCst);
        let (conduct, log) = (conduct.clone(), Arc::clone(&log));
        let (told, faults) = (told.subscribe(), faults.clone());
        tokio::spawn(async move {
            // `None` if either end goes away in the middle of it: its own affair.
            let _ = match conduct {
                Conduct::Script(script) => follow(stream, &script, &log, told).await,
                Conduct::Relay(server, protocol) => {
                    relay(stream, server, protocol, &log, faults).await
                }
            };
            log.open.send_modify(|open| *open -= 1);
        });
    }
}

// --- By a script ---------------------------------------------------------------------------------

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
            Step::Refuse => unreachable!("nobody listens"),
            Step::Read => {
                let request = read_request(&mut stream, &mut unread).await?;
                last_body = request[head_len(&request)?..].to_vec();
                log.note(request);
            }
            Step::Sniff => {
                read_some(&mut stream, &mut unread).await?;
                log.note(unread.clone());
            }
            Step::Wait => {
                waits += 1;
                told.wait_for(|times| *times >= waits).await.ok()?;
            }
            Step::Pause(pause) => {
                let gone = async { while read_some(&mut stream, &mut unread).await.is_some() {} };
                if tokio::time::timeout(*pause, gone).await.is_ok() {
                    return None;
                }
            }
            Step::Send(bytes) => stream.write_all(bytes).await.ok()?,
            Step::Answer(answer) => stream.write_all(&answer(&last_body)).await.ok()?,
            Step::Dribble(bytes, pause) => {
                dribble(&mut stream, bytes, *pause, &mut 0).await?;
            }
            Step::Forever(bytes) => loop {
                stream.write_all(bytes).await.ok()?;
            },
            Step::Hang => while read_some(&mut stream, &mut unread).await.is_some() {},
            Step::Close => break,
            Step::Reset => {
                stream.set_zero_linger().ok()?;
                return Some(());
            }
        }
    }
    stream.shutdown().await.ok()
}

/// Sends byte after byte, and counts them for whoever breaks it off.
async fn dribble(
    stream: &mut (impl AsyncWriteExt + Unpin),
    bytes: &[u8],
    pause: Duration,
    sent: &mut usize,
) -> Option<()> {
    for byte in bytes {
        tokio::time::sleep(pause).await;
        stream.write_all(&[*byte]).await.ok()?;
        *sent += 1;
    }
    Some(())
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

// --- Before another server -----------------------------------------------------------------------

/// Hands on what comes from either side, until one of them is gone or a fault ends it.
async fn relay(
    mut near: TcpStream,
    server: SocketAddr,
    protocol: Protocol,
    log: &Log,
    faults: watch::Receiver<Option<Fault>>,
) -> Option<()> {
    let mut far = TcpStream::connect(server).await.ok()?;
    far.set_nodelay(true).ok()?;
    let (mut near_in, mut near_out) = near.split();
    let (mut far_in, mut far_out) = far.split();
    let asking = async {
        let mut some = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = near_in.read(&mut some).await {
            let fault = *faults.borrow();
            if fault.is_some_and(|fault| !fault.lets_arrive()) {
                return;
            }
            if far_out.write_all(&some[..count]).await.is_err() {
                return;
            }
        }
    };
    let answering = async {
        let mut faults = faults.clone();
        let mut some = vec![0; 16 * 1024];
        let mut told_lies = false;
        loop {
            let count = tokio::select! {
                read = far_in.read(&mut some) => read.ok().filter(|count| *count > 0)?,
                changed = faults.changed() => {
                    changed.ok()?;
                    match *faults.borrow_and_update() {
                        Some(Fault::Refused) => return near_out.as_ref().set_zero_linger().ok(),
                        None if told_lies => return Some(()),
                        _ => continue,
                    }
                }
            };
            let fault = *faults.borrow();
            let Some(fault) = fault else {
                near_out.write_all(&some[..count]).await.ok()?;
                continue;
            };
            told_lies |= !fault.is_only_slow();
            let lifted = || lifted(faults.clone(), fault);
            for step in fault.steps(protocol, &some[..count]) {
                match step {
                    Step::Pause(pause) => {
                        let _ = tokio::time::timeout(pause, lifted()).await;
                    }
                    Step::Send(bytes) => near_out.write_all(&bytes).await.ok()?,
                    Step::Dribble(bytes, pause) => {
                        let mut sent = 0;
                        let dribbling = dribble(&mut near_out, &bytes, pause, &mut sent);
                        tokio::select! {
                            dribbled = dribbling => dribbled?,
                            () = lifted() => {}
                        }
                        near_out.write_all(&bytes[sent..]).await.ok()?;
                    }
                    Step::Forever(bytes) => {
                        let sending = async {
                            while near_out.write_all(&bytes).await.is_ok() {
                                tokio::time::sleep(PACE).await;
                            }
                        };
                        tokio::select! {
                            () = sending => return None,
                            () = lifted() => return Some(()),
                        }
                    }
                    Step::Hang => {
                        log.held.fetch_add(1, Ordering::SeqCst);
                        lifted().await;
                    }
                    Step::Close => return Some(()),
                    Step::Reset => return near_out.as_ref().set_zero_linger().ok(),
                    Step::Refuse | Step::Read | Step::Sniff | Step::Wait | Step::Answer(_) => {
                        unreachable!("no fault consists of it")
                    }
                }
            }
        }
    };
    tokio::select! {
        () = asking => Some(()),
        ended = answering => ended,
    }
}

/// Returns when another fault is there, or none.
async fn lifted(mut faults: watch::Receiver<Option<Fault>>, fault: Fault) {
    // An error says that the server is gone, and all faults with it.
    let _ = faults.wait_for(|now| *now != Some(fault)).await;
}
