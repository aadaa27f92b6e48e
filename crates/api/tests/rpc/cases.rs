//! Known failures of other nodes' doors, by their numbers.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{TestNode, basic, receive, send};

type Runs = Result<(), Box<dyn std::error::Error>>;

/// Core PR 36200: the penalty for a wrong password must not hold up anybody else.
#[tokio::test]
async fn core_pr_36200_wrong_passwords_delay_only_themselves() -> Runs {
    let node = TestNode::start().await;
    let mut wrong = Vec::new();
    for _ in 0..50 {
        let mut stream = node.connect().await;
        send(&mut stream, "POST", "/", Some("user:wrong"), r#"{"method":"uptime"}"#).await;
        wrong.push(stream);
    }
    let started = tokio::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    }
    // Twenty right callers one after the other, behind fifty penalties of 250 ms each.
    assert!(started.elapsed() < Duration::from_secs(10));
    for mut stream in wrong {
        assert_eq!(receive(&mut stream).await.status, 401);
    }
    let lines = node.log.0.lock().clone();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("ThreadRPCServer incorrect password attempt from 127.0.0.1:"))
    );
    node.stop().await;
    Ok(())
}

/// Nothing of a body is read before its sender is known.
#[tokio::test]
async fn unauthenticated_bodies_are_not_waited_for() -> Runs {
    let node = TestNode::start().await;
    let mut stream = node.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 33000000\r\n\r\n").await?;
    assert_eq!(receive(&mut stream).await.status, 401);
    // Nor is a body that is too long, whoever sends it.
    let mut stream = node.connect().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: 33554433\r\n\r\n",
        basic("user:pass")
    );
    stream.write_all(head.as_bytes()).await?;
    assert_eq!(receive(&mut stream).await.status, 413);
    node.stop().await;
    Ok(())
}

/// Core issue 15850 at the door: a million brackets cost an error and no more.
#[tokio::test]
async fn issue_15850_deep_json_is_an_error() -> Runs {
    let node = TestNode::start().await;
    let reply = node.post(&"[".repeat(1_000_000)).await;
    assert_eq!(reply.json()["error"], json!({"code": -32700, "message": "Parse error"}));
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    node.stop().await;
    Ok(())
}

/// Headers beyond 8 KiB end the connection with an error; the door goes on.
#[tokio::test]
async fn long_headers_are_refused() -> Runs {
    let node = TestNode::start().await;
    let mut stream = node.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    // The server may hang up while this is still being written.
    let _ = stream.write_all(head.as_bytes()).await;
    let status = receive(&mut stream).await.status;
    assert!(status == 0 || (400..500).contains(&status), "{status}");
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    node.stop().await;
    Ok(())
}

/// Zebra GHSA-29x4: a caller that hangs up in the middle of anything bears it alone.
#[tokio::test]
async fn ghsa_29x4_resets_at_any_byte_hurt_nobody() -> Runs {
    let node = TestNode::start().await;
    let body = r#"{"method":"getblockcount","id":1}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n{body}",
        basic("user:pass"),
        body.len()
    );
    for cut in 0..request.len() {
        let mut stream = node.connect().await;
        stream.write_all(&request.as_bytes()[..cut]).await?;
        stream.set_zero_linger()?;
        drop(stream);
    }
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    node.stop().await;
    Ok(())
}

/// Zebra GHSA-qv2r: a `longpollid` that is cut inside a character is an error, not a panic; and
/// GHSA-x6v8: a block off the active chain has -1 confirmations.
#[tokio::test]
async fn ghsa_x6v8_qv2r_odd_ids_and_side_blocks() -> Runs {
    let node = TestNode::start().await;
    for id in ["ä".repeat(40), "é".into(), "0".repeat(63) + "ß", String::new()] {
        let request = json!([{"rules": ["segwit"], "longpollid": id}]);
        let (code, text) = node.call("getblocktemplate", request).await.unwrap_err();
        assert_eq!(code, -8, "{text}");
    }
    let hashes = node.mine(2).await;
    node.call("invalidateblock", json!([hashes[1]])).await.unwrap();
    for verbosity in [1, 2, 3] {
        let block = node.call("getblock", json!([hashes[1], verbosity])).await.unwrap();
        assert_eq!(block["confirmations"], json!(-1));
    }
    node.stop().await;
    Ok(())
}

/// CSRF: what a page in a browser can send carries no credentials, and no answer invites it.
#[tokio::test]
async fn cross_site_posts_get_401_and_no_cors() -> Runs {
    let node = TestNode::start().await;
    let mut stream = node.connect().await;
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 17\r\n\r\n{\"method\":\"stop\"}",
        )
        .await?;
    let reply = receive(&mut stream).await;
    assert_eq!(reply.status, 401);
    assert!(!reply.head.to_ascii_lowercase().contains("access-control"));
    assert!(!node.context.shutdown.is_cancelled());
    node.stop().await;
    Ok(())
}
