//! Callers that mean harm, or that cannot keep up.

use std::time::Duration;

use ironpeer_api::ServerConfig;
use ironpeer_api::limits::SOCKETS;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{HANG, TestNode, basic, receive, send};

type Runs = Result<(), Box<dyn std::error::Error>>;

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(timeout(HANG, stream.read(&mut byte)).await.expect("the end of it"), Ok(0) | Err(_))
}

/// Core PR 36204, PR 35730: callers that send their request byte by byte fill all sockets. Who
/// comes next is answered all the same, and who was known before keeps its connection.
#[tokio::test]
async fn core_pr_36204_slow_callers_make_room() -> Runs {
    let node = TestNode::start().await;
    let mut kept = node.connect().await;
    let request = r#"{"method":"getblockcount","id":1}"#;
    send(&mut kept, "POST", "/", Some("user:pass"), request).await;
    assert_eq!(receive(&mut kept).await.status, 200);
    let mut slow = Vec::new();
    for _ in 0..400 {
        let mut stream = node.connect().await;
        // Fails if it had to make room already.
        let _ = stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nX: ").await;
        slow.push(stream);
    }
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    for stream in &mut slow[..400 - SOCKETS] {
        assert!(is_closed(stream).await);
    }
    send(&mut kept, "POST", "/", Some("user:pass"), request).await;
    assert_eq!(receive(&mut kept).await.status, 200);
    node.stop().await;
    Ok(())
}

/// The same: a request has an end in time, however often a byte of it comes.
#[tokio::test(start_paused = true)]
async fn core_pr_36204_a_request_must_arrive_in_time() -> Runs {
    let node = TestNode::start_cold(ServerConfig::default(), |_| ()).await;
    let body_to_come = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: 1000\r\n\r\n",
        basic("user:pass")
    );
    for start in ["POST / HTTP/1.1\r\nHost: x\r\nX: ", &body_to_come] {
        let mut stream = node.connect().await;
        stream.write_all(start.as_bytes()).await?;
        let began = Instant::now();
        let mut byte = [0];
        loop {
            tokio::select! {
                // An answer, or the end.
                _ = stream.read(&mut byte) => break,
                () = sleep(Duration::from_secs(1)) => stream.write_all(b"a").await?,
            }
        }
        let took = began.elapsed().as_secs();
        assert!((29..=31).contains(&took), "{took} s");
    }
    node.stop().await;
    Ok(())
}

/// Requests that two readers could take for different ones are refused, as Core refuses them.
#[tokio::test]
async fn request_smuggling_ambiguous_requests_are_refused() -> Runs {
    let node = TestNode::start().await;
    let body = r#"{"method":"getblockcount"}"#;
    let auth = format!("Authorization: {}", basic("user:pass"));
    let length = format!("Content-Length: {}", body.len());
    let good = format!("POST / HTTP/1.1\r\nHost: x\r\n{auth}\r\n{length}\r\n{length}\r\n\r\n{body}");
    let mut stream = node.connect().await;
    stream.write_all(good.as_bytes()).await?;
    assert_eq!(receive(&mut stream).await.status, 200, "the same length twice is one length");
    for (what, request) in [
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\nHost: x\r\n{auth}\r\n{length}\r\nContent-Length: 5\r\n\r\n{body}"),
        ),
        ("no length", format!("POST / HTTP/1.1\r\nHost: x\r\n{auth}\r\nContent-Length: x\r\n\r\n{body}")),
        (
            "a negative length",
            format!("POST / HTTP/1.1\r\nHost: x\r\n{auth}\r\nContent-Length: -1\r\n\r\n{body}"),
        ),
        ("NUL in the path", format!("POST /\0 HTTP/1.1\r\nHost: x\r\n{auth}\r\n{length}\r\n\r\n{body}")),
        ("version 2.0", format!("POST / HTTP/2.0\r\nHost: x\r\n{auth}\r\n{length}\r\n\r\n{body}")),
        ("version 1.10", format!("POST / HTTP/1.10\r\nHost: x\r\n{auth}\r\n{length}\r\n\r\n{body}")),
        ("a bare name", format!("POST / HTTP/1.1\r\nHost\r\n{auth}\r\n{length}\r\n\r\n{body}")),
        ("a blank in a name", format!("POST / HTTP/1.1\r\nHost : x\r\n{auth}\r\n{length}\r\n\r\n{body}")),
        ("NUL in a value", format!("POST / HTTP/1.1\r\nHost: \0\r\n{auth}\r\n{length}\r\n\r\n{body}")),
        (
            "a carriage return alone",
            format!("POST / HTTP/1.1\r\nHost: a\rb\r\n{auth}\r\n{length}\r\n\r\n{body}"),
        ),
    ] {
        let mut stream = node.connect().await;
        stream.write_all(request.as_bytes()).await?;
        assert_eq!(receive(&mut stream).await.status, 400, "{what}");
        assert!(is_closed(&mut stream).await, "{what}");
    }
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    node.stop().await;
    Ok(())
}

/// Who sends one request behind the other and reads no reply is not read either.
#[tokio::test]
async fn requests_are_not_read_while_replies_are_not() -> Runs {
    let node = TestNode::start().await;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut greedy = socket.connect(([127, 0, 0, 1], node.port).into()).await?;
    let requests = "POST / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_500_000);
    let flood = tokio::spawn(async move {
        // Ends with the connection.
        let _ = greedy.write_all(requests.as_bytes()).await;
        greedy
    });
    for _ in 0..3 {
        assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    }
    assert!(!flood.is_finished());
    node.stop().await;
    timeout(HANG, flood).await??;
    Ok(())
}
