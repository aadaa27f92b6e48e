//! The HTTP server under the JSON-RPC door: sockets, limits, authentication before bodies, and an
//! orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ironpeer_primitives::{LogCategory, LogLine};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Subnet;
use crate::body::ReplyBody;
use crate::dialect::{Answer, Caller, Door};
use crate::health::is_our_name;
use crate::limits::{
    self, BODY_BYTES, DRAIN, HEADER_BYTES, REQUEST_DEADLINE, REST_BODY_BYTES, SOCKETS, WRITE_STALL,
};
use crate::rest;
use crate::seats::{Seat, Seats};

/// What of the server can be chosen.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Who may connect beside loopback (`-rpcallowip`).
    pub allow: Vec<Subnet>,
    /// Requests Core would run at once (`-rpcthreads`).
    pub threads: usize,
    /// Requests beyond that which may be under way before 503 (`-rpcworkqueue`). Unless told, as
    /// many as there are sockets: a caller that has one waits for its answer and is never refused.
    pub work_queue: Option<usize>,
    /// How long an idle connection is kept (`-rpcservertimeout`).
    pub idle: Duration,
    /// Whether chain and mempool may be read without a password (`-rest`).
    pub rest: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            threads: limits::DEFAULT_THREADS,
            work_queue: None,
            idle: Duration::from_secs(30),
            rest: false,
        }
    }
}

/// The running server. Dropping it leaves it running; [`RpcServer::stop`] ends it.
#[derive(Debug)]
pub struct RpcServer {
    closing: CancellationToken,
    tasks: TaskTracker,
}

struct Shared {
    door: Arc<Door>,
    allow: Vec<Subnet>,
    idle: Duration,
    rest: bool,
    /// Requests that may be under way. `waitfor*` and mining calls hold one for as long as they
    /// take but no thread, so the others go on beside them.
    under_way: Arc<Semaphore>,
    rest_under_way: Arc<Semaphore>,
    seats: Arc<Seats>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl RpcServer {
    /// Serves `door` on sockets that are bound already, so that a bind error is the caller's
    /// before anything serves.
    #[must_use]
    pub fn serve(listeners: Vec<TcpListener>, door: Arc<Door>, config: ServerConfig) -> Self {
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let mut allow = vec![Subnet::LOCAL_V4, Subnet::LOCAL_V6];
        allow.extend(config.allow);
        let under_way = match config.work_queue {
            Some(queue) => config.threads.max(1) + queue.max(1),
            None => SOCKETS,
        };
        let shared = Arc::new(Shared {
            door,
            allow,
            idle: config.idle,
            rest: config.rest,
            under_way: Arc::new(Semaphore::new(under_way)),
            rest_under_way: Arc::new(Semaphore::new(limits::REST_REQUESTS)),
            seats: Seats::new(SOCKETS),
            closing: closing.clone(),
            tasks: tasks.clone(),
        });
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&shared)));
        }
        Self { closing, tasks }
    }

    /// Closes the listening sockets and idle connections, lets requests under way end, and after
    /// [`DRAIN`] drops what is left. The ports are free when it returns.
    pub async fn stop(self) {
        self.closing.cancel();
        self.tasks.close();
        // Past the deadline the runtime's own end drops what is left.
        let _ = timeout(DRAIN, self.tasks.wait()).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                let text = format!("Error accepting connection: {error}");
                shared.door.log.log(LogLine::debug(LogCategory::Http, text));
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without a seat the socket is closed at once by being dropped.
        let Some(seat) = shared.seats.take() else { continue };
        shared.tasks.spawn(serve_connection(stream, peer, Arc::new(seat), Arc::clone(&shared)));
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, seat: Arc<Seat>, shared: Arc<Shared>) {
    // Replies are written whole; waiting for more to send only adds latency.
    let _ = stream.set_nodelay(true);
    let closing = shared.closing.clone();
    let idle = shared.idle;
    let asking = Arc::clone(&seat);
    let service = hyper::service::service_fn(move |request| {
        let (seat, shared) = (Arc::clone(&asking), Arc::clone(&shared));
        async move { Ok::<_, Infallible>(respond(request, peer, &seat, shared).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(Stalling::new(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.given_away() => return,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A caller that broke off bears it alone.
    drop(ended);
}

type Reply = Response<ReplyBody>;

fn plain(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(ReplyBody::whole(text));
    *reply.status_mut() = status;
    reply
}

fn unauthorized() -> Reply {
    let mut reply = plain(StatusCode::UNAUTHORIZED, "");
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"jsonrpc\""));
    reply
}

fn may_connect(allow: &[Subnet], peer: IpAddr) -> bool {
    allow.iter().any(|subnet| subnet.contains(peer))
}

/// From headers to answer: address, method, path and password are checked before a byte of the
/// body is read.
async fn respond(request: Request<Incoming>, peer: SocketAddr, seat: &Seat, shared: Arc<Shared>) -> Reply {
    let log = &shared.door.log;
    let http_log = |text: String| log.log(LogLine::debug(LogCategory::Http, text));
    if !may_connect(&shared.allow, peer.ip()) {
        http_log(format!("HTTP request from {peer} rejected: Client network is not allowed RPC access"));
        return plain(StatusCode::FORBIDDEN, "");
    }
    if ![Method::GET, Method::POST, Method::HEAD, Method::PUT].contains(request.method()) {
        http_log(format!("HTTP request from {peer} rejected: Unknown HTTP request method"));
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    if shared.rest && target.starts_with("/rest/") {
        return respond_rest(request, peer, shared).await;
    }
    if target != "/" && !target.starts_with("/wallet/") {
        return plain(StatusCode::NOT_FOUND, "");
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "JSONRPC server handles only POST requests");
    }
    let Some(header) = request.headers().get(AUTHORIZATION) else { return unauthorized() };
    let login = header.to_str().ok().and_then(|header| shared.door.credentials().check(header));
    let user = match login {
        Some((user, true)) => user,
        _ => {
            let text = format!("ThreadRPCServer incorrect password attempt from {peer}");
            log.log(LogLine::warning(text));
            sleep(limits::WRONG_PASSWORD_DELAY).await;
            return unauthorized();
        }
    };
    let _service = seat.serve();
    let slot = match slot(&shared.under_way, &shared.door) {
        Ok(slot) => slot,
        Err(busy) => return *busy,
    };
    let body = match read_body(request, BODY_BYTES, shared.idle).await {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let caller = Caller { user, address: peer.to_string() };
    let door = Arc::clone(&shared.door);
    // A task of its own: a caller that hangs up does not stop what it started, and a panic in a
    // handler costs this request only.
    let run = shared.tasks.spawn(async move {
        let reply = write_answer(door.answer(&body, &caller).await);
        drop(slot);
        reply
    });
    match run.await {
        Ok(reply) => reply,
        Err(_) => {
            log.log(LogLine::error("RPC request handler failed"));
            closing(plain(StatusCode::INTERNAL_SERVER_ERROR, "unknown error"))
        }
    }
}

/// A place among the requests under way, or 503.
fn slot(under_way: &Arc<Semaphore>, door: &Door) -> Result<OwnedSemaphorePermit, Box<Reply>> {
    Arc::clone(under_way).try_acquire_owned().map_err(|_| Box::new(busy(door)))
}

fn busy(door: &Door) -> Reply {
    door.log.log(LogLine::warning(
        "Request rejected because http work queue depth exceeded, it can be increased with the -rpcworkqueue= setting",
    ));
    plain(StatusCode::SERVICE_UNAVAILABLE, "Work queue depth exceeded")
}

/// The request's body, if it is not larger than `limit` bytes and does not trickle in.
async fn read_body(request: Request<Incoming>, limit: usize, idle: Duration) -> Result<Bytes, Box<Reply>> {
    let too_large = || Box::new(closing(plain(StatusCode::PAYLOAD_TOO_LARGE, "")));
    if request.body().size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let read = Limited::new(request.into_body(), limit).collect();
    match timeout(REQUEST_DEADLINE.max(idle), read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) | Err(_) => Err(Box::new(closing(plain(StatusCode::BAD_REQUEST, "")))),
    }
}

/// REST asks for no password, so a page in a browser on this machine must not reach it under a
/// name of its own choosing.
async fn respond_rest(request: Request<Incoming>, peer: SocketAddr, shared: Arc<Shared>) -> Reply {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    if peer.ip().to_canonical().is_loopback() && !host.is_empty() && !is_our_name(host) {
        return plain(StatusCode::FORBIDDEN, "");
    }
    let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let body = match read_body(request, REST_BODY_BYTES, shared.idle).await {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    // Whoever comes when all places are taken waits for one.
    let waited = timeout(REQUEST_DEADLINE, Arc::clone(&shared.rest_under_way).acquire_owned()).await;
    let Ok(Ok(slot)) = waited else { return busy(&shared.door) };
    let door = Arc::clone(&shared.door);
    // As below: a panic in a handler costs this request only.
    let run = shared.tasks.spawn(async move {
        let answer = rest::answer(&door, &target, &body).await;
        drop(slot);
        answer
    });
    match run.await {
        Ok(None) => plain(StatusCode::NOT_FOUND, ""),
        Ok(Some(answer)) => {
            let mut reply = Response::new(answer.body);
            *reply.status_mut() =
                StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
            reply
        }
        Err(_) => closing(plain(StatusCode::INTERNAL_SERVER_ERROR, "unknown error")),
    }
}

fn closing(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}

fn write_answer(answer: Answer) -> Reply {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let Some(mut body) = answer.body else { return plain(status, "") };
    body.text("\n");
    let mut reply = Response::new(ReplyBody::from(body).holding(answer.place));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A stream that fails a write which makes no progress for [`WRITE_STALL`], so that a caller that
/// stops reading does not keep its reply in memory for ever.
struct Stalling {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stalling {
    const fn new(stream: TcpStream) -> Self {
        Self { stream, stalled: None }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stalling {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
