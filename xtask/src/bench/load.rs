//! A crowd of JSON-RPC callers, and of those who only want to disturb them. Everything here is
//! bounded: in callers, in time, and in what is kept.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A caller that waits longer than this for an answer counts it as failed. Two hundred full blocks
/// as JSON are gigabytes, which the cores of a small machine make one after the other.
const REPLY_DEADLINE: Duration = Duration::from_secs(120);
/// How long a disturber that was turned away waits before it comes again.
const COMES_AGAIN: Duration = Duration::from_secs(1);
/// Pause between two bytes of a slow one.
const TRICKLE: Duration = Duration::from_millis(500);
/// Loopback addresses that disturbers come from, so that ports do not run out.
const SOURCES: u32 = 200;

/// The first call on a connection, which is not counted.
const WARM_UP: &str = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"getblockcount\",\"params\":[]}";
/// How often a connection is tried before the caller goes without.
const MOST_RETRIES: u64 = 100;

/// The door under test.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    authorization: String,
}

/// What callers saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Calls answered well, a second.
    pub rate: f64,
    /// Milliseconds within which 99 of 100 calls were answered.
    pub p99: f64,
    /// Calls that failed: refused, broken off, or answered with an error.
    pub errors: u64,
    /// Connections that were closed before their first call was answered, and tried again.
    pub retries: u64,
}

/// The requests of one measurement.
#[derive(Clone, Debug)]
pub enum Requests {
    /// The same one, for so long.
    Same(Arc<str>, Duration),
    /// Each of these once.
    Each(Arc<[String]>),
}

impl Target {
    /// A door on loopback, and the text of its cookie.
    pub fn new(port: u16, cookie: &str) -> Self {
        let authorization = format!("Basic {}", STANDARD.encode(cookie.trim()));
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), authorization }
    }

    fn request(&self, authorization: &str, body: &str) -> String {
        format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
    }

    /// So many callers, each on a connection it keeps, one call after the other.
    pub async fn callers(&self, count: usize, requests: Requests) -> Outcome {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::new(AtomicU64::new(0));
        let next = Arc::new(AtomicU64::new(0));
        let mut connected = Vec::with_capacity(count);
        let mut retries = 0;
        for _ in 0..count {
            let (connection, tries) = self.known_connection().await;
            connected.push(connection);
            retries += tries;
        }
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for connection in connected {
            let (target, requests, next) = (self.clone(), requests.clone(), Arc::clone(&next));
            let (seen, errors) = (Arc::clone(&seen), Arc::clone(&errors));
            callers.spawn(async move {
                let (times, failed) = target.caller(connection, &requests, &next, start).await;
                seen.lock().extend(times);
                errors.fetch_add(failed, Ordering::Relaxed);
            });
        }
        while callers.join_next().await.is_some() {}
        let took = start.elapsed().as_secs_f64();
        let mut times = std::mem::take(&mut *seen.lock());
        times.sort_unstable();
        let p99 = times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(0);
        Outcome {
            rate: times.len() as f64 / took,
            p99: f64::from(p99) / 1e3,
            errors: errors.load(Ordering::Relaxed),
            retries,
        }
    }

    /// A connection on which one call was answered, and how often it took more than one try.
    async fn known_connection(&self) -> (Option<Connection>, u64) {
        let request = self.request(&self.authorization, WARM_UP);
        for retries in 0..MOST_RETRIES {
            if let Ok(mut connection) = Connection::open(self.address).await
                && let Ok(Ok(200)) = timeout(REPLY_DEADLINE, connection.call(request.as_bytes())).await
            {
                return (Some(connection), retries);
            }
        }
        (None, MOST_RETRIES)
    }

    /// One caller; microseconds of each good call, and how many failed.
    async fn caller(
        &self,
        mut connection: Option<Connection>,
        requests: &Requests,
        next: &AtomicU64,
        start: Instant,
    ) -> (Vec<u32>, u64) {
        let mut times = Vec::new();
        let mut failed = 0;
        let same = match requests {
            Requests::Same(body, _) => self.request(&self.authorization, body),
            Requests::Each(_) => String::new(),
        };
        loop {
            let one;
            let request = match requests {
                Requests::Same(_, until) if start.elapsed() >= *until => break,
                Requests::Same(..) => same.as_str(),
                Requests::Each(bodies) => {
                    let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                    let Some(body) = bodies.get(number) else { break };
                    one = self.request(&self.authorization, body);
                    one.as_str()
                }
            };
            let begun = Instant::now();
            let answered = timeout(REPLY_DEADLINE, async {
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => Connection::open(self.address).await?,
                };
                let status = open.call(request.as_bytes()).await?;
                let good = status == 200 && has_results(&open.body);
                std::io::Result::Ok((open, good))
            })
            .await;
            match answered {
                Ok(Ok((open, good))) => {
                    connection = Some(open);
                    if good {
                        times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                    } else {
                        failed += 1;
                    }
                }
                Ok(Err(_)) | Err(_) => failed += 1,
            }
        }
        (times, failed)
    }

    /// Comes with a wrong password until told to stop; how often it was turned away.
    async fn wrong_password(self, number: u32, stop: Arc<AtomicBool>, turned_away: Arc<AtomicU64>) {
        let login = format!("Basic {}", STANDARD.encode(format!("__cookie__:wrong{number}")));
        let request = self.request(&login, "{\"method\":\"getblockcount\",\"params\":[]}");
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut connection) = Connection::open_from(self.address, number).await
                && let Ok(Ok(401)) = timeout(REPLY_DEADLINE, connection.call(request.as_bytes())).await
            {
                turned_away.fetch_add(1, Ordering::Relaxed);
            }
            sleep(COMES_AGAIN).await;
        }
    }

    /// Sends a byte now and then, and comes again when the door has enough of it.
    async fn slow(self, number: u32, stop: Arc<AtomicBool>) {
        let head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ";
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut connection) = Connection::open_from(self.address, number).await {
                let mut begun = connection.stream.write_all(head).await;
                while begun.is_ok() && !stop.load(Ordering::Relaxed) {
                    begun = tokio::select! {
                        // The door says no more than that it is closed.
                        _ = connection.stream.readable() => Err(std::io::ErrorKind::ConnectionReset.into()),
                        () = sleep(TRICKLE) => connection.stream.write_all(b"x").await,
                    };
                }
            }
            sleep(COMES_AGAIN).await;
        }
    }
}

/// Whether a reply, or every one of a batch, has a result.
fn has_results(body: &[u8]) -> bool {
    let begins = |with: &[u8]| body.starts_with(with);
    let good = begins(b"{\"jsonrpc\":\"2.0\",\"result\"") || begins(b"[{\"jsonrpc\":\"2.0\",\"result\"");
    good && body.ends_with(b"\n")
}

/// A crowd at the door that has no business there.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    turned_away: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Crowd {
    /// So many with a wrong password, and so many that trickle.
    pub fn gather(target: &Target, wrong: u32, slow: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let turned_away = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..wrong {
            let (stop, turned_away) = (Arc::clone(&stop), Arc::clone(&turned_away));
            tasks.spawn(target.clone().wrong_password(number, stop, turned_away));
        }
        for number in 0..slow {
            tasks.spawn(target.clone().slow(wrong + number, Arc::clone(&stop)));
        }
        Self { stop, turned_away, tasks }
    }

    /// Passwords refused so far.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Sends everybody home.
    pub async fn disperse(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.shutdown().await;
    }
}

/// One HTTP connection, and the last reply on it.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(address).await?)
    }

    /// From one of several loopback addresses.
    async fn open_from(address: SocketAddr, number: u32) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        let [.., last] = (number % SOURCES + 2).to_be_bytes();
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
        Self::over(socket.connect(address).await?)
    }

    fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8_192), body: Vec::new() })
    }

    /// Sends a request and reads the reply; its status.
    async fn call(&mut self, request: &[u8]) -> std::io::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let (Some(status), Some(Ok(length))) = (status, length.map(|text| text.trim().parse::<usize>()))
        else {
            return Err(std::io::ErrorKind::InvalidData.into());
        };
        self.body.clear();
        self.body.reserve(length);
        self.body.extend_from_slice(&self.buffer[head..]);
        while self.body.len() < length {
            if self.stream.read_buf(&mut self.body).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(status)
    }
}
