//! `-webbind`: what a supervisor asks, and nothing else.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use crate::seats::Seats;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{DRAIN, HEADER_BYTES, REQUEST_DEADLINE, SOCKETS};
use crate::metrics;

/// The answers, asked for with every request.
pub struct Probes {
    /// `/healthz`: the node can go on; if not, restart it.
    pub healthy: Box<dyn Fn() -> bool + Send + Sync>,
    /// `/readyz`: the node has caught up and serves; if not, send callers elsewhere.
    pub ready: Box<dyn Fn() -> bool + Send + Sync>,
    /// `/metrics`: see [`metrics`](fn@crate::metrics).
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// The running server; [`HealthServer::stop`] ends it.
#[derive(Debug)]
pub struct HealthServer {
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl HealthServer {
    /// Serves on a socket that is bound already.
    #[must_use]
    pub fn serve(listener: TcpListener, probes: Probes) -> Self {
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, Arc::new(probes), closing.clone(), tasks.clone()));
        Self { closing, tasks }
    }

    /// Closes the socket and all connections. The port is free when it returns.
    pub async fn stop(self) {
        self.closing.cancel();
        self.tasks.close();
        // Past the deadline the runtime's own end drops what is left.
        let _ = timeout(DRAIN, self.tasks.wait()).await;
    }
}

async fn accept(listener: TcpListener, probes: Arc<Probes>, closing: CancellationToken, tasks: TaskTracker) {
    let local_only = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let seats = Seats::new(SOCKETS);
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: wait for some to come back.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let Some(seat) = seats.take() else { continue };
        let (probes, closing) = (Arc::clone(&probes), closing.clone());
        tasks.spawn(async move {
            let service = hyper::service::service_fn(|request| {
                let reply = answer(&request, &probes, local_only);
                async move { Ok::<_, Infallible>(reply) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_DEADLINE)
                .max_buf_size(HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A caller that broke off bears it alone.
                _ = connection => {}
                () = seat.given_away() => {}
                () = closing.cancelled() => {}
            }
        });
    }
}

/// A page in a browser may reach a loopback door under a name of its own choosing; only names that
/// are surely ours pass.
pub(crate) fn is_our_name(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn answer(request: &Request<Incoming>, probes: &Probes, local_only: bool) -> Response<Full<Bytes>> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let mut metrics = None;
    let (status, text) = if local_only && !is_our_name(host) {
        (StatusCode::FORBIDDEN, "unknown host\n")
    } else if ![Method::GET, Method::HEAD].contains(request.method()) {
        (StatusCode::METHOD_NOT_ALLOWED, "")
    } else {
        match request.uri().path() {
            "/healthz" if (probes.healthy)() => (StatusCode::OK, "ok\n"),
            "/healthz" => (StatusCode::SERVICE_UNAVAILABLE, "failed\n"),
            "/readyz" if (probes.ready)() => (StatusCode::OK, "ready\n"),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/metrics" => {
                metrics = Some((probes.metrics)());
                (StatusCode::OK, "")
            }
            _ => (StatusCode::NOT_FOUND, ""),
        }
    };
    let (kind, body) = match metrics {
        Some(metrics) => (metrics::CONTENT_TYPE, Bytes::from(metrics)),
        None => ("text/plain; charset=utf-8", Bytes::from_static(text.as_bytes())),
    };
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
