//! Redis and `PostgreSQL` of the tests' own: started on free ports, with data of their own, and gone
//! when the test process is.
//!
//! Where such a server isn't installed, what needs it is skipped, aloud; under `CI=true` that is a
//! failure.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to start. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the watcher does in the end. The children of a process that is killed go by themselves,
/// unless they are stopped.
const END: &str = "cat >/dev/null; kill -9 $0 $(cat /proc/$0/task/$0/children); rm -rf \"$1\"";

/// A server process that a test may stop, pause, kill and start again.
pub(crate) struct Server {
    kind: Kind,
    pub(crate) port: u16,
    directory: PathBuf,
    process: Option<Child>,
    /// Whoever waits at its other end kills the server when this is closed, however we end.
    watch: Option<Child>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Redis,
    Postgres,
}

impl Server {
    /// A Redis without persistence; `None` where there is none installed.
    pub(crate) fn redis() -> Option<Self> {
        installed("redis-server", &["/usr/bin", "/usr/local/bin"])?;
        Some(Self::start(Kind::Redis))
    }

    /// A `PostgreSQL` that trusts everyone on this machine; `None` where there is none installed.
    pub(crate) fn postgres() -> Option<Self> {
        postgres_binary("initdb")?;
        Some(Self::start(Kind::Postgres))
    }

    fn start(kind: Kind) -> Self {
        // Never a name again: what clears up behind the last one may be at it still.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let directory = std::env::temp_dir().join(format!(
            "tower-referral-{kind:?}-{}-{}",
            std::process::id(),
            STARTED.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&directory).unwrap();
        let mut server = Self {
            kind,
            port: free_port(),
            directory,
            process: None,
            watch: None,
        };
        if kind == Kind::Postgres {
            server.init_postgres();
        }
        server.run();
        server
    }

    pub(crate) fn url(&self) -> String {
        match self.kind {
            Kind::Redis => format!("redis://127.0.0.1:{}", self.port),
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{}/postgres", self.port),
        }
    }

    /// The URL of a database that nobody has used: of those that a Redis has, it has 64.
    pub(crate) fn empty_database(&self) -> String {
        static USED: AtomicUsize = AtomicUsize::new(0);
        let number = USED.fetch_add(1, Ordering::Relaxed);
        match self.kind {
            Kind::Redis => format!("redis://127.0.0.1:{}/{number}", self.port),
            Kind::Postgres => {
                let name = format!("database_{number}");
                let mut createdb = Command::new(postgres_binary("createdb").unwrap());
                createdb.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
                let output = createdb.args(["-U", "postgres", &name]).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
            }
        }
    }

    /// Starts the process, at first or after it was killed, on the same port.
    pub(crate) fn run(&mut self) {
        let mut command = match self.kind {
            Kind::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--port", &self.port.to_string()]);
                command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                command.args(["--databases", "64"]);
                command.arg("--dir").arg(&self.directory);
                command
            }
            Kind::Postgres => {
                let mut command = as_postgres(&postgres_binary("postgres").unwrap());
                command.arg("-D").arg(self.directory.join("data"));
                command.args(["-p", &self.port.to_string(), "-c", "fsync=off"]);
                command.args(["-c", "listen_addresses=127.0.0.1"]);
                command.args(["-c", "max_connections=200"]);
                command.arg("-k").arg(&self.directory);
                command
            }
        };
        let log = std::fs::File::create(self.directory.join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command.stdin(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        self.wait_until_it_answers();
        let watch = Command::new("sh")
            .args(["-c", END])
            .arg(self.pid().to_string())
            .arg(&self.directory)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.watch = Some(watch);
    }

    fn wait_until_it_answers(&self) {
        let start = Instant::now();
        while !self.answers() {
            if start.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.directory.join("log"));
                panic!("{:?} doesn't answer:\n{}", self.kind, log.unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
            return false;
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        match self.kind {
            Kind::Redis => {
                let mut answer = [0; 5];
                stream.write_all(b"PING\r\n").is_ok()
                    && stream.read_exact(&mut answer).is_ok()
                    && answer == *b"+PONG"
            }
            // One that is still starting closes the connection behind an error.
            Kind::Postgres => {
                let startup = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";
                let mut answer = [0];
                stream.write_all(startup).is_ok()
                    && stream.read_exact(&mut answer).is_ok()
                    && answer == *b"R"
            }
        }
    }

    fn init_postgres(&self) {
        if is_root() {
            let mut chown = Command::new("chown");
            chown.arg("postgres").arg(&self.directory);
            assert!(chown.status().unwrap().success());
        }
        let mut initdb = as_postgres(&postgres_binary("initdb").unwrap());
        initdb.arg("-D").arg(self.directory.join("data"));
        initdb.args(["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]);
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn pid(&self) -> u32 {
        match self.kind {
            Kind::Redis => self.process.as_ref().unwrap().id(),
            // The process that we started may be the one that changed the user.
            Kind::Postgres => {
                let file = self.directory.join("data/postmaster.pid");
                let text = std::fs::read_to_string(file).unwrap();
                text.lines().next().unwrap().trim().parse().unwrap()
            }
        }
    }

    /// Kills it; whatever Redis had is gone.
    pub(crate) fn kill(&mut self) {
        let mut watch = self.watch.take().unwrap();
        watch.kill().unwrap();
        let _ = watch.wait();
        // A PostgreSQL that is killed the hard way leaves its children behind for a while.
        self.signal(if self.kind == Kind::Redis {
            "KILL"
        } else {
            "QUIT"
        });
        let _ = self.process.take().unwrap().wait();
    }

    /// `STOP`, `CONT` and the like.
    pub(crate) fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &self.pid().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    /// The same for every process that `PostgreSQL` consists of, the newest of them included.
    pub(crate) fn signal_all(&self, signal: &str) {
        self.signal(signal);
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap().split_ascii_whitespace() {
            // It may have ended by now.
            let _ = Command::new("kill").args(["-s", signal, child]).status();
        }
    }

    /// Sends one command to Redis and gives its answer: one line, or the text that is announced
    /// by it.
    pub(crate) fn command(&self, command: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        let mut byte = [0];
        while !answer.ends_with("\r\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(char::from(byte[0]));
        }
        let length = answer.strip_prefix('$').map(|length| length.trim().parse());
        if let Some(Ok(length)) = length {
            let mut text = vec![0; length];
            stream.read_exact(&mut text).unwrap();
            return String::from_utf8(text).unwrap();
        }
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            drop(watch.stdin.take());
            let _ = watch.wait();
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// `PostgreSQL` doesn't run as root.
fn as_postgres(binary: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(binary);
        command
    } else {
        Command::new(binary)
    }
}

fn postgres_binary(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok();
    let debian = versions.into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path().join("bin");
        path.to_str().map(str::to_owned)
    });
    let mut folders: Vec<String> = debian.collect();
    folders.sort();
    folders.reverse();
    folders.extend(["/usr/local/bin".to_owned(), "/usr/bin".to_owned()]);
    installed(
        name,
        &folders.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

fn installed(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    let found = paths.find(|path| path.exists());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Says aloud that something is not tested here; where it must be, fails.
pub(crate) fn skipped(why: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "must not be skipped: {why}"
    );
    // Past libtest's capture, so that it is seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
