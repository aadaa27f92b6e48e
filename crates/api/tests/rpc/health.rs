use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ironpeer_api::{HealthServer, Probes};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::receive;

type Runs = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn health_and_readiness_are_told_apart() -> Runs {
    let (healthy, ready) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let probe = |flag: &Arc<AtomicBool>| {
        let flag = Arc::clone(flag);
        Box::new(move || flag.load(Ordering::Relaxed))
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let metrics = Box::new(|| "ironpeer_peers 0\n".to_owned());
    let server =
        HealthServer::serve(listener, Probes { healthy: probe(&healthy), ready: probe(&ready), metrics });
    let ask = async |method: &str, path: &str, host: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        receive(&mut stream).await
    };
    let reply = ask("GET", "/metrics", "127.0.0.1").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ironpeer_peers 0\n"));
    assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{}", reply.head);
    let ask = async |method: &str, path: &str, host: &str| ask(method, path, host).await.status;
    assert_eq!(ask("GET", "/metrics", "evil.example").await, 403);
    assert_eq!(ask("GET", "/healthz", "localhost:1").await, 200);
    assert_eq!(ask("GET", "/readyz", "127.0.0.1").await, 503);
    ready.store(true, Ordering::Relaxed);
    assert_eq!(ask("GET", "/readyz", "[::1]:8080").await, 200);
    healthy.store(false, Ordering::Relaxed);
    assert_eq!(ask("GET", "/healthz", "127.0.0.1").await, 503);
    assert_eq!(ask("GET", "/", "127.0.0.1").await, 404);
    assert_eq!(ask("POST", "/readyz", "127.0.0.1").await, 405);
    // DNS rebinding: a name that is not surely ours.
    assert_eq!(ask("GET", "/readyz", "evil.example").await, 403);
    server.stop().await;
    TcpListener::bind(address).await?;
    Ok(())
}
