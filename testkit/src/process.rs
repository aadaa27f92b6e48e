use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long a process may take over anything before it counts as hung. Far above what is
/// normal: it only turns a hang into a failure.
pub const HANG: Duration = Duration::from_secs(120);

/// How often a condition outside this process is looked at.
const POLL: Duration = Duration::from_millis(5);

/// First of the ports process tests use; all lie below the ephemeral range, so that no outgoing
/// connection can hold one.
const FIRST_PORT: u16 = 10_000;

/// Ports of each slot.
const PORTS_PER_SLOT: u16 = 50;

/// Slots below the ephemeral range, which begins at 32,768.
const SLOTS: u16 = 450;

/// A run of ports that nobody else who asks here has, on this machine, while the lock lasts.
struct PortSlot {
    first: u16,
    _lock: File,
}

impl PortSlot {
    fn take() -> Self {
        let folder = std::env::temp_dir();
        let free = (0..SLOTS).find_map(|slot| {
            let path = folder.join(format!("ironpeer-test-ports-{slot}.lock"));
            // Another user's file counts as taken.
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).ok()?;
            file.try_lock().ok()?;
            Some(Self { first: FIRST_PORT + PORTS_PER_SLOT * slot, _lock: file })
        });
        free.expect("a free run of ports")
    }
}

thread_local! {
    // Each test runs on a thread of its own, in a process of its own or not.
    static PORTS: PortSlot = PortSlot::take();
}

/// A port of this test's own: `index` below 50. Two tests that run at once get different ones,
/// whoever runs them. A test asks on one thread only.
///
/// # Panics
/// If `index` is 50 or more, or hundreds of tests run at once.
#[must_use]
pub fn port(index: u16) -> u16 {
    assert!(index < PORTS_PER_SLOT, "a test has {PORTS_PER_SLOT} ports");
    PORTS.with(|ports| ports.first) + index
}

/// An error object of a JSON-RPC reply, or why no reply came.
#[derive(Debug)]
pub enum RpcError {
    /// The method answered with an error.
    Method {
        /// The JSON-RPC error code.
        code: i64,
        /// Its message.
        message: String,
    },
    /// No usable reply came.
    Transport(io::Error),
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method { code, message } => write!(f, "{message} (code {code})"),
            Self::Transport(error) => write!(f, "no reply: {error}"),
        }
    }
}

impl std::error::Error for RpcError {}

impl From<io::Error> for RpcError {
    fn from(error: io::Error) -> Self {
        Self::Transport(error)
    }
}

/// A blocking JSON-RPC caller that keeps one connection.
#[derive(Debug)]
pub struct Rpc {
    address: SocketAddr,
    authorization: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Rpc {
    /// A caller that authenticates with the text of a cookie file (`user:password`).
    #[must_use]
    pub fn new(address: SocketAddr, cookie: &str) -> Self {
        Self { address, authorization: format!("Basic {}", STANDARD.encode(cookie)), connection: None }
    }

    /// Calls a method with positional parameters.
    ///
    /// # Errors
    /// If the method answers with an error, or no reply comes.
    pub fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, RpcError> {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).to_string();
        let reply = self.post(&body).inspect_err(|_| self.connection = None)?;
        let mut reply: Value = serde_json::from_slice(&reply)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match reply.get_mut("error").map(Value::take) {
            None | Some(Value::Null) => Ok(reply["result"].take()),
            Some(error) => Err(RpcError::Method {
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    /// Whether the server has closed the kept connection, as it does with idle ones.
    fn was_closed(&self) -> io::Result<bool> {
        let Some(connection) = &self.connection else { return Ok(true) };
        let stream = connection.get_ref();
        stream.set_nonblocking(true)?;
        let closed = matches!(stream.peek(&mut [0]), Ok(0));
        stream.set_nonblocking(false)?;
        Ok(closed)
    }

    fn post(&mut self, body: &str) -> io::Result<Vec<u8>> {
        if self.was_closed()? {
            let stream = TcpStream::connect_timeout(&self.address, HANG)?;
            stream.set_read_timeout(Some(HANG))?;
            stream.set_nodelay(true)?;
            self.connection = Some(BufReader::new(stream));
        }
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.authorization,
            body.len()
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        let mut length = 0;
        let mut close = false;
        let mut status = None;
        loop {
            line.clear();
            if connection.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end().to_ascii_lowercase();
            if status.is_none() {
                status = Some(text.clone());
            } else if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            } else if text == "connection: close" {
                close = true;
            } else if text.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body)?;
        if close {
            self.connection = None;
        }
        let status = status.unwrap_or_default();
        if status.contains(" 401") || status.contains(" 403") || status.contains(" 503") {
            return Err(io::Error::other(status));
        }
        Ok(body)
    }
}

/// A daemon started by a test, demo or bench; killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    /// The `-datadir` it runs on.
    pub datadir: PathBuf,
    chain_dir: PathBuf,
    rpc_address: SocketAddr,
    /// A caller of its JSON-RPC.
    pub rpc: Rpc,
}

impl NodeProcess {
    /// Starts `program` on `datadir` and waits until its JSON-RPC answers past warm-up.
    /// `chain_dir` is the chain's folder below the data directory (`regtest`, `signet`, ...).
    ///
    /// # Errors
    /// If it cannot be started, ends early, or does not answer in time.
    pub fn start(
        program: &Path,
        datadir: &Path,
        chain_dir: &str,
        rpc_port: u16,
        args: &[String],
    ) -> io::Result<Self> {
        let mut node = Self::spawn(program, datadir, chain_dir, rpc_port, args)?;
        node.wait_for_rpc()?;
        Ok(node)
    }

    /// Starts `program` without waiting for it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(
        program: &Path,
        datadir: &Path,
        chain_dir: &str,
        rpc_port: u16,
        args: &[String],
    ) -> io::Result<Self> {
        Self::spawn_in(program, datadir, chain_dir, rpc_port, args, &[])
    }

    /// The same, with more in its environment.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_in(
        program: &Path,
        datadir: &Path,
        chain_dir: &str,
        rpc_port: u16,
        args: &[String],
        environment: &[(&'static str, OsString)],
    ) -> io::Result<Self> {
        fs::create_dir_all(datadir)?;
        let chain_dir = datadir.join(chain_dir);
        // A killed node leaves its cookie; the next start must not be taken for ready by it.
        match fs::remove_file(chain_dir.join(".cookie")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let child = Command::new(program)
            .arg(format!("-datadir={}", datadir.display()))
            .arg(format!("-rpcport={rpc_port}"))
            .args(["-printtoconsole=0", "-server=1"])
            .args(args)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(datadir.join("stderr.txt"))?)
            .spawn()?;
        let rpc_address = SocketAddr::from((Ipv4Addr::LOCALHOST, rpc_port));
        let rpc = Rpc::new(rpc_address, "");
        Ok(Self { child, datadir: datadir.to_owned(), chain_dir, rpc_address, rpc })
    }

    /// Waits until the JSON-RPC answers past warm-up.
    ///
    /// # Errors
    /// If the process ends or does not answer in time.
    pub fn wait_for_rpc(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + HANG;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the node ended with {status}: {}", self.stderr())));
            }
            if let Ok(cookie) = fs::read_to_string(self.chain_dir.join(".cookie")) {
                self.rpc = Rpc::new(self.rpc_address, &cookie);
                if self.rpc.call("getblockcount", &[]).is_ok() {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the node's JSON-RPC does not answer"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// What it wrote on stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.datadir.join("stderr.txt")).unwrap_or_default()
    }

    /// Its `debug.log` so far.
    #[must_use]
    pub fn debug_log(&self) -> String {
        fs::read_to_string(self.chain_dir.join("debug.log")).unwrap_or_default()
    }

    /// The process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Sends SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub fn interrupt(&self) -> io::Result<()> {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("kill -INT failed")) }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + HANG;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the node does not end"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Interrupts it and waits; returns its status and how long that took.
    ///
    /// # Errors
    /// If it cannot be signalled or does not end in time.
    pub fn stop(&mut self) -> io::Result<(ExitStatus, Duration)> {
        let start = Instant::now();
        self.interrupt()?;
        Ok((self.wait()?, start.elapsed()))
    }

    /// Looks again and again until `condition` holds of a reply.
    ///
    /// # Errors
    /// If a call fails or the condition does not come to hold in time.
    pub fn wait_until(
        &mut self,
        method: &str,
        params: &[Value],
        condition: impl Fn(&Value) -> bool,
    ) -> Result<Value, RpcError> {
        let deadline = Instant::now() + HANG;
        loop {
            let reply = self.rpc.call(method, params)?;
            if condition(&reply) {
                return Ok(reply);
            }
            if Instant::now() > deadline {
                return Err(
                    io::Error::new(io::ErrorKind::TimedOut, format!("{method} still says {reply}")).into()
                );
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Already ended is fine; nothing more can be done about anything else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
