//! The sockets: one endpoint an address, a queue and a task a subscriber.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::{self, GREETING_BYTES, Received};
use crate::limits::{
    DRAIN, ZMQ_HANDSHAKE, ZMQ_QUEUE_BYTES, ZMQ_SUBSCRIBERS, ZMQ_SUBSCRIPTION_BYTES, ZMQ_SUBSCRIPTIONS,
};

/// Every address that is published at.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    endpoints: Vec<(String, Arc<Endpoint>)>,
    closing: CancellationToken,
    tasks: TaskTracker,
    files: Vec<PathBuf>,
}

/// One address and who listens to it.
#[derive(Debug)]
pub(super) struct Endpoint {
    high_water_mark: usize,
    subscribers: Mutex<Vec<Arc<Subscriber>>>,
}

#[derive(Debug, Default)]
struct Subscriber {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    wanted: Vec<Bytes>,
    waiting: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// Adds what still fits; a subscriber that does not read loses the rest.
    fn push(&mut self, message: Bytes, high_water_mark: usize) -> bool {
        let full = high_water_mark > 0 && self.waiting.len() >= high_water_mark;
        // One message larger than the bound is still delivered.
        let fits = self.waiting.is_empty() || self.bytes.saturating_add(message.len()) <= ZMQ_QUEUE_BYTES;
        if full || !fits {
            return false;
        }
        self.bytes += message.len();
        self.waiting.push_back(message);
        true
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

impl Endpoint {
    /// Hands a message of `topic` to everybody who wants it. Waits for nobody.
    pub(super) fn send(&self, topic: &str, message: &Bytes) {
        for subscriber in self.subscribers.lock().iter() {
            let mut queue = subscriber.queue.lock();
            let wanted = queue.wanted.iter().any(|prefix| topic.as_bytes().starts_with(prefix));
            if wanted && queue.push(message.clone(), self.high_water_mark) {
                subscriber.filled.notify_one();
            }
        }
    }

    fn join(&self) -> Option<Arc<Subscriber>> {
        let mut subscribers = self.subscribers.lock();
        if subscribers.len() >= ZMQ_SUBSCRIBERS {
            return None;
        }
        let new = Arc::new(Subscriber::default());
        subscribers.push(Arc::clone(&new));
        Some(new)
    }

    fn leave(&self, gone: &Arc<Subscriber>) {
        self.subscribers.lock().retain(|subscriber| !Arc::ptr_eq(subscriber, gone));
    }
}

impl Sockets {
    /// The endpoint of an address, opened if nobody has yet.
    pub(super) async fn open(&mut self, address: &str, high_water_mark: usize) -> io::Result<Arc<Endpoint>> {
        if let Some((_, endpoint)) = self.endpoints.iter().find(|(known, _)| known == address) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(Endpoint { high_water_mark, subscribers: Mutex::default() });
        let listener = match address.strip_prefix("ipc://") {
            Some(path) => {
                let path = PathBuf::from(path);
                remove_socket(&path);
                let listener = UnixListener::bind(&path)?;
                self.files.push(path);
                Listener::Unix(listener)
            }
            None => Listener::Tcp(listen(address).await?),
        };
        let (door, closing, tasks) = (Arc::clone(&endpoint), self.closing.clone(), self.tasks.clone());
        self.tasks.spawn(serve(listener, door, closing, tasks));
        self.endpoints.push((address.to_owned(), Arc::clone(&endpoint)));
        Ok(endpoint)
    }

    /// Closes all sockets and connections. The addresses are free when it returns.
    pub(super) async fn close(self) {
        self.closing.cancel();
        self.tasks.close();
        // Past the deadline the runtime's own end drops what is left.
        let _ = timeout(DRAIN, self.tasks.wait()).await;
        for path in &self.files {
            remove_socket(path);
        }
    }
}

/// Takes away a socket file, and only a socket.
fn remove_socket(path: &Path) {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        // If it cannot be removed, binding says so.
        let _ = std::fs::remove_file(path);
    }
}

/// `tcp://host:port`; `*` stands for any address, or any port.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not tcp://host:port or ipc://path");
    let (host, port) =
        address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
    let port: u16 = if port == "*" { 0 } else { port.parse().map_err(|_| wrong())? };
    if host == "*" {
        return TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await;
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    TcpListener::bind((host, port)).await
}

/// A socket that waits for subscribers.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A subscriber's connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // As Core: a peer that vanished is found out. A failure costs only that.
                let _ = socket2::SockRef::from(&stream).set_keepalive(true);
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

async fn serve(listener: Listener, endpoint: Arc<Endpoint>, closing: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok(stream) = accepted else {
            // Out of descriptors, most likely: wait for some to come back.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        // A socket beyond the cap is closed at once by being dropped.
        let Some(subscriber) = endpoint.join() else { continue };
        let (endpoint, closing) = (Arc::clone(&endpoint), closing.clone());
        tasks.spawn(async move {
            tokio::select! {
                // Whoever breaks off or speaks otherwise bears it alone.
                _ = attend(stream, &subscriber) => {}
                () = closing.cancelled() => {}
            }
            endpoint.leave(&subscriber);
        });
    }
}

/// One subscriber, from greeting to end.
async fn attend(stream: Box<dyn Stream>, subscriber: &Subscriber) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::new();
    let handshake = async {
        writer.write_all(&frame::greeting()).await?;
        let mut theirs = [0; GREETING_BYTES];
        reader.read_exact(&mut theirs).await?;
        frame::check_greeting(&theirs).map_err(io::Error::other)?;
        writer.write_all(&frame::ready()).await?;
        match next(&mut reader, &mut buffer).await? {
            Received::Ready => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    };
    timeout(ZMQ_HANDSHAKE, handshake).await??;
    let reading = async {
        loop {
            subscriber.hear(next(&mut reader, &mut buffer).await?)?;
        }
    };
    let writing = async {
        loop {
            let message = subscriber.queue.lock().pop();
            match message {
                Some(message) => writer.write_all(&message).await?,
                None => subscriber.filled.notified().await,
            }
        }
    };
    // Neither ends but with an error, and both go on at once until then.
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

/// The next frame.
async fn next(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<Received> {
    loop {
        if let Some(received) = frame::take(buffer).map_err(io::Error::other)? {
            return Ok(received);
        }
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl Subscriber {
    fn hear(&self, received: Received) -> io::Result<()> {
        let mut queue = self.queue.lock();
        match received {
            Received::Subscribe(prefix) => {
                let fits = queue.wanted.len() < ZMQ_SUBSCRIPTIONS && prefix.len() <= ZMQ_SUBSCRIPTION_BYTES;
                if !fits {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                // A copy, so that it does not hold the buffer it came in.
                queue.wanted.push(Bytes::copy_from_slice(&prefix));
            }
            Received::Cancel(prefix) => {
                if let Some(at) = queue.wanted.iter().position(|wanted| *wanted == prefix) {
                    queue.wanted.swap_remove(at);
                }
            }
            Received::Ping(context) => {
                // Where much waits to be sent already, that is the sign of life.
                if queue.push(frame::pong(&context), ZMQ_SUBSCRIPTIONS) {
                    self.filled.notify_one();
                }
            }
            Received::Ready => return Err(io::ErrorKind::InvalidData.into()),
            Received::Other => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
