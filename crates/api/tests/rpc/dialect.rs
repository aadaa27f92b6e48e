//! JSON-RPC and HTTP as Core speaks them.

use ironpeer_api::ServerConfig;
use serde_json::{Value, json};

use crate::support::{TestNode, receive, send};

type Runs = Result<(), Box<dyn std::error::Error>>;

/// Body, HTTP status, and the whole reply.
#[tokio::test]
async fn versions_and_errors_have_their_shapes() -> Runs {
    let node = TestNode::start().await;
    for (body, status, reply) in [
        // 1.x: both members, and an HTTP status that tells.
        (r#"{"method":"getblockcount","id":1}"#, 200, r#"{"result":0,"error":null,"id":1}"#),
        (
            r#"{"jsonrpc":"1.0","method":"getblockcount","id":"x"}"#,
            200,
            r#"{"result":0,"error":null,"id":"x"}"#,
        ),
        (r#"{"version":"1.1","method":"getblockcount"}"#, 200, r#"{"result":0,"error":null}"#),
        (
            r#"{"method":"nosuch","id":1}"#,
            404,
            r#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1}"#,
        ),
        (
            r#"{"method":"getblockhash","params":[42],"id":1}"#,
            500,
            r#"{"result":null,"error":{"code":-8,"message":"Block height out of range"},"id":1}"#,
        ),
        // 2.0: 200 whatever comes, and one of the two members.
        (
            r#"{"jsonrpc":"2.0","method":"getblockcount","id":1}"#,
            200,
            r#"{"jsonrpc":"2.0","result":0,"id":1}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"getblockcount","id":null}"#,
            200,
            r#"{"jsonrpc":"2.0","result":0,"id":null}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"nosuch","id":1}"#,
            200,
            r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1}"#,
        ),
        // Requests that are none.
        ("", 500, r#"{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}"#),
        ("this is bad", 500, r#"{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}"#),
        (
            "7",
            500,
            r#"{"result":null,"error":{"code":-32700,"message":"Top-level object parse error"},"id":null}"#,
        ),
        (
            r#"{"jsonrpc":2,"method":"getblockcount"}"#,
            400,
            r#"{"result":null,"error":{"code":-32600,"message":"jsonrpc field must be a string"}}"#,
        ),
        (
            r#"{"jsonrpc":"3.0","method":"getblockcount"}"#,
            400,
            r#"{"result":null,"error":{"code":-32600,"message":"JSON-RPC version not supported"}}"#,
        ),
        (r#"{"id":1}"#, 400, r#"{"result":null,"error":{"code":-32600,"message":"Missing method"},"id":1}"#),
        (
            r#"{"method":1,"id":1}"#,
            400,
            r#"{"result":null,"error":{"code":-32600,"message":"Method must be a string"},"id":1}"#,
        ),
        (
            r#"{"method":"help","params":3,"id":1}"#,
            400,
            r#"{"result":null,"error":{"code":-32600,"message":"Params must be an array or object"},"id":1}"#,
        ),
    ] {
        let got = node.post(body).await;
        assert_eq!((got.status, got.body.as_str()), (status, format!("{reply}\n").as_str()), "{body}");
        assert!(got.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", got.head);
    }
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn notifications_run_and_answer_nothing() -> Runs {
    let node = TestNode::start().await;
    let mine = r#"{"jsonrpc":"2.0","method":"generatetodescriptor","params":[1,"raw(51)"]}"#;
    let reply = node.post(mine).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(1)));
    let bad = r#"{"jsonrpc":"2.0","method":"generatetoaddress","params":[1,"invalid"]}"#;
    assert_eq!(node.post(bad).await.status, 204);
    let all = format!("[{mine},{mine}]");
    let reply = node.post(&all).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(3)));
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn batches_answer_each_in_order() -> Runs {
    let node = TestNode::start().await;
    let reply = node.post("[]").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "[]\n"));
    let reply = node
        .post(r#"[{"jsonrpc":"2.0","method":"getblockcount","id":1},{"method":"nosuch","id":2},{"pizza":1,"id":3},7]"#)
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!([
            {"jsonrpc": "2.0", "result": 0, "id": 1},
            {"result": null, "error": {"code": -32601, "message": "Method not found"}, "id": 2},
            {"result": null, "error": {"code": -32600, "message": "Missing method"}, "id": 3},
            {"result": null, "error": {"code": -32600, "message": "Invalid Request object"}, "id": 3},
        ])
    );
    node.stop().await;
    Ok(())
}

/// Calls that only read run side by side; one that changes something runs alone, after those before
/// it and before those after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_as_if_one_call_followed_the_other() -> Runs {
    let node = TestNode::start().await;
    let mut calls = Vec::new();
    for round in 0..5 {
        for read in 0..20 {
            calls.push(json!({"id": format!("{round}.{read}"), "method": "getblockcount"}));
        }
        calls.push(json!({"id": "mine", "method": "generatetodescriptor", "params": [1, "raw(51)"]}));
        calls.push(json!({"jsonrpc": "2.0", "method": "getblockcount"}));
    }
    calls.push(json!({"id": "alone", "method": "getrpcinfo"}));
    let reply = node.post(&serde_json::to_string(&calls)?).await.json();
    let replies = reply.as_array().unwrap();
    // Notifications are not answered.
    assert_eq!(replies.len(), 5 * 21 + 1);
    for (place, reply) in replies.iter().take(5 * 21).enumerate() {
        let (round, read) = (place / 21, place % 21);
        if read == 20 {
            assert_eq!(reply["id"], "mine");
        } else {
            assert_eq!((&reply["id"], &reply["result"]), (&json!(format!("{round}.{read}")), &json!(round)));
        }
    }
    let running = replies.last().unwrap()["result"]["active_commands"].as_array().unwrap().clone();
    assert_eq!(running.len(), 1, "{running:?}");
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn http_codes_are_cores() -> Runs {
    let node = TestNode::start().await;
    for (method, path, login, status) in [
        ("POST", "/", None, 401),
        ("POST", "/nosuch", Some("user:pass"), 404),
        ("POST", "/wallet/w", Some("user:pass"), 200),
        ("GET", "/", Some("user:pass"), 405),
        ("DELETE", "/", Some("user:pass"), 405),
    ] {
        let mut stream = node.connect().await;
        send(&mut stream, method, path, login, r#"{"method":"uptime"}"#).await;
        let reply = receive(&mut stream).await;
        assert_eq!(reply.status, status, "{method} {path}");
        if status == 401 {
            assert!(reply.head.to_ascii_lowercase().contains("www-authenticate: basic realm=\"jsonrpc\""));
        }
        if method == "GET" {
            assert_eq!(reply.body, "JSONRPC server handles only POST requests");
        }
    }
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_connection_is_kept_for_many_calls() -> Runs {
    let node = TestNode::start().await;
    let mut stream = node.connect().await;
    for id in 0..20 {
        send(&mut stream, "POST", "/", Some("user:pass"), &json!({"method": "uptime", "id": id}).to_string())
            .await;
        assert_eq!(receive(&mut stream).await.json()["id"], json!(id));
    }
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn everything_is_told_to_wait_until_the_node_is_ready() -> Runs {
    let node = TestNode::start_cold(ServerConfig::default(), |_| ()).await;
    node.door.set_warmup_status("Loading block index…");
    let reply = node.post(r#"{"method":"nosuch","id":1}"#).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.json()["error"], json!({"code": -28, "message": "Loading block index…"}));
    node.door.ready(std::sync::Arc::clone(&node.context));
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(0)));
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn whitelists_are_403() -> Runs {
    let node = TestNode::start_with(ServerConfig::default(), |credentials| {
        credentials.add_password("few", "pass");
        credentials.add_password("none", "pass");
        credentials.add_whitelist("few:getblockcount");
        credentials.set_whitelist_default(true);
    })
    .await;
    let count = r#"{"method":"getblockcount"}"#;
    assert_eq!(node.post_as("few:pass", count).await.status, 200);
    assert_eq!(node.post_as("few:pass", r#"{"method":"uptime"}"#).await.status, 403);
    assert_eq!(node.post_as("few:pass", &format!("[{count},{{\"method\":\"uptime\"}}]")).await.status, 403);
    assert_eq!(node.post_as("none:pass", count).await.status, 403);
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn calls_are_logged_without_odd_characters() -> Runs {
    let node = TestNode::start().await;
    node.post(r#"{"method":"get<\nblock>count","id":"a\u001bb"}"#).await;
    let lines = node.log.0.lock().clone();
    assert!(lines.contains(&"ThreadRPCServer method=getblockcount user=user id=ab".to_owned()), "{lines:?}");
    node.stop().await;
    Ok(())
}

/// `waitfor*` holds its place among the requests under way, but no thread: others go on beside it
/// until the queue is full, and then are told so.
#[tokio::test]
async fn waiting_calls_do_not_stop_others_and_the_queue_has_an_end() -> Runs {
    let config = ServerConfig { threads: 1, work_queue: Some(1), ..ServerConfig::default() };
    let node = TestNode::start_with(config, |_| ()).await;
    let mut waiting = node.connect().await;
    send(&mut waiting, "POST", "/", Some("user:pass"), r#"{"method":"waitforblockheight","params":[1]}"#)
        .await;
    // The one beside it sees it under way.
    loop {
        let info = node.call("getrpcinfo", json!([])).await.unwrap();
        if info["active_commands"].as_array().unwrap().len() == 2 {
            assert_eq!(info["active_commands"][0]["method"], json!("waitforblockheight"));
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut second = node.connect().await;
    send(&mut second, "POST", "/", Some("user:pass"), r#"{"method":"waitforblockheight","params":[1]}"#)
        .await;
    let refused = loop {
        let reply = node.post(r#"{"method":"uptime"}"#).await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((refused.status, refused.body.as_str()), (503, "Work queue depth exceeded"));
    node.context.mining.generate(1, ironpeer_mining::anyone_can_spend(), 1000).await?;
    assert_eq!(receive(&mut waiting).await.json()["result"]["height"], json!(1));
    assert_eq!(receive(&mut second).await.json()["result"]["height"], json!(1));
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn stop_answers_before_it_closes() -> Runs {
    let node = TestNode::start().await;
    assert_eq!(node.call("stop", json!([])).await, Ok(Value::from("Bitcoin Core stopping")));
    assert!(node.context.shutdown.is_cancelled());
    let port = node.port;
    node.stop().await;
    tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    Ok(())
}
