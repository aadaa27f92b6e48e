//! REST on a real socket, over a real chain and mempool.

use serde_json::{Value, json};

use ironpeer_api::ServerConfig;

use crate::support::{HttpReply, TestNode, receive, send};

pub async fn ask(node: &TestNode, method: &str, target: &str, body: &str) -> HttpReply {
    let mut stream = node.connect().await;
    send(&mut stream, method, &format!("/rest/{target}"), None, body).await;
    receive(&mut stream).await
}

pub async fn get(node: &TestNode, target: &str) -> HttpReply {
    ask(node, "GET", target, "").await
}

async fn with_rest() -> TestNode {
    TestNode::start_with(ServerConfig { rest: true, ..ServerConfig::default() }, |_| ()).await
}

pub async fn json_of(node: &TestNode, target: &str) -> Value {
    let reply = get(node, target).await;
    assert_eq!(reply.status, 200, "{target}: {}", reply.body);
    assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
    reply.json()
}

#[tokio::test]
async fn rest_is_off_unless_asked_for_and_waits_for_the_node() {
    let closed = TestNode::start().await;
    assert_eq!(get(&closed, "chaininfo.json").await.status, 404);
    closed.stop().await;
    let config = ServerConfig { rest: true, ..ServerConfig::default() };
    let cold = TestNode::start_cold(config, |_| ()).await;
    let reply = get(&cold, "chaininfo.json").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.body, "Service temporarily unavailable: RPC server started\r\n");
    cold.stop().await;
}

#[tokio::test]
async fn rest_answers_what_the_methods_answer() {
    let node = with_rest().await;
    let hashes = node.mine(12).await;
    let (third, tip) = (&hashes[2], &hashes[11]);
    let method = async |name: &str, params: Value| node.call(name, params).await.unwrap();
    for (target, name, params) in [
        ("chaininfo.json".to_owned(), "getblockchaininfo", json!([])),
        ("mempool/info.json".to_owned(), "getmempoolinfo", json!([])),
        (
            "mempool/contents.json?verbose=false&mempool_sequence=true".into(),
            "getrawmempool",
            json!([false, true]),
        ),
        ("mempool/contents.json?%".to_owned(), "getrawmempool", json!([true])),
        ("deploymentinfo.json".to_owned(), "getdeploymentinfo", json!([])),
        (format!("deploymentinfo/{third}.json"), "getdeploymentinfo", json!([third])),
        (format!("block/{tip}.json"), "getblock", json!([tip, 3])),
        (format!("block/notxdetails/{tip}.json"), "getblock", json!([tip, 1])),
    ] {
        assert_eq!(json_of(&node, &target).await, method(name, params).await, "{target}");
    }
    let hex = method("getblock", json!([third, 0])).await;
    let hex = hex.as_str().unwrap();
    assert_eq!(get(&node, &format!("block/{third}.hex")).await.body, format!("{hex}\n"));
    let part = get(&node, &format!("blockpart/{third}.hex?offset=4&size=32")).await;
    assert_eq!(part.body, format!("{}\n", &hex[8..72]));
    assert_eq!(get(&node, "blockhashbyheight/3.hex").await.body, format!("{third}\n"));
    assert_eq!(json_of(&node, "blockhashbyheight/3.json").await, json!({"blockhash": third}));
    let headers = json_of(&node, &format!("headers/{third}.json")).await;
    let headers = headers.as_array().unwrap();
    assert_eq!(headers.len(), 5);
    assert_eq!(headers[0], method("getblockheader", json!([third])).await);
    assert_eq!(json_of(&node, &format!("headers/2/{tip}.json")).await.as_array().unwrap().len(), 1);
    let raw = get(&node, &format!("headers/{third}.hex?count=2")).await.body;
    assert_eq!((&raw[..160], raw.len()), (&hex[..160], 321));
    assert_eq!(json_of(&node, &format!("headers/{}.json", "00".repeat(32))).await, json!([]));
    assert_eq!(json_of(&node, &format!("spenttxouts/{third}.json")).await, json!([[]]));
    assert_eq!(get(&node, &format!("spenttxouts/{third}.hex")).await.body, "0100\n");
    // A branch has no headers here, but its blocks are still there.
    node.call("invalidateblock", json!([tip])).await.unwrap();
    assert_eq!(json_of(&node, &format!("headers/{tip}.json")).await, json!([]));
    assert_eq!(json_of(&node, &format!("block/{tip}.json")).await["confirmations"], json!(-1));
    node.stop().await;
}

#[tokio::test]
async fn rest_finds_coins() {
    let node = with_rest().await;
    let hashes = node.mine(2).await;
    let block = node.call("getblock", json!([hashes[0], 1])).await.unwrap();
    let txid = block["tx"][0].as_str().unwrap().to_owned();
    let missing = "11".repeat(32);
    let found = json_of(&node, &format!("getutxos/{missing}-0/{txid}-0.json")).await;
    assert_eq!((&found["chainHeight"], &found["bitmap"]), (&json!(2), &json!("01")));
    assert_eq!(found["chaintipHash"], json!(hashes[1]));
    assert_eq!(found["utxos"].as_array().unwrap().len(), 1);
    assert_eq!(found["utxos"][0]["height"], json!(1));
    assert_eq!(found["utxos"][0]["value"].to_string(), "50.00000000");
    // The same in hex, asked for in the body: flag, count, then outpoints as their bytes lie.
    let mut bytes = hex::decode(&txid).unwrap();
    bytes.reverse();
    let asked = format!("0102{}00000000{}00000000", "11".repeat(32), hex::encode(bytes));
    let reply = ask(&node, "POST", "getutxos.hex", &asked).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let mut tip = hex::decode(&hashes[1]).unwrap();
    tip.reverse();
    // Height, tip, a byte of bits, then one coin: version, height, value, script.
    let coin = "0000000001000000 00f2052a01000000 0151".replace(' ', "");
    assert_eq!(reply.body, format!("02000000{}010201{coin}\n", hex::encode(tip)));
    let both = ask(&node, "POST", &format!("getutxos/{txid}-0.hex"), &asked).await;
    assert_eq!(
        (both.status, both.body.trim_end()),
        (400, "Combination of URI scheme inputs and raw post data is not allowed")
    );
    node.stop().await;
}

#[tokio::test]
async fn rest_refuses_with_core_texts() {
    let node = with_rest().await;
    let hash = node.mine(1).await.remove(0);
    let zero = "00".repeat(32);
    let many = vec![format!("{zero}-0"); 16].join("/");
    for (target, status, text) in [
        ("tx/abc.json".to_owned(), 400, "Invalid hash: abc".to_owned()),
        (format!("tx/{zero}.json"), 404, format!("{zero} not found")),
        (format!("block/{zero}.json"), 404, format!("{zero} not found")),
        (format!("block/{hash}.xml"), 400, format!("Invalid hash: {hash}.xml")),
        (format!("block/{hash}"), 404, "output format not found (available: .bin, .hex, .json)".into()),
        (format!("headers/{hash}%.json"), 400, format!("Invalid hash: {hash}%")),
        (
            format!("headers/{hash}.json?count=2001"),
            400,
            "Header count is invalid or out of acceptable range (1-2000): 2001".into(),
        ),
        (
            format!("headers/1/2/{hash}.json"),
            400,
            "Invalid URI format. Expected /rest/headers/<hash>.<ext>?count=<count>".into(),
        ),
        (format!("blockpart/{hash}.bin"), 400, "Block part offset missing or invalid".into()),
        (format!("blockpart/{hash}.bin?offset=0"), 400, "Block part size missing or invalid".into()),
        (
            format!("blockpart/{hash}.bin?offset=0&size=0"),
            400,
            format!("Bad block part offset/size 0/0 for {hash}"),
        ),
        (
            format!("blockpart/{hash}.json?offset=0&size=1"),
            400,
            "JSON output is not supported for this request type".into(),
        ),
        (format!("blockfilter/basic/{hash}.json"), 400, "Index is not enabled for filtertype basic".into()),
        (format!("blockfilterheaders/abc/{hash}.json"), 400, "Unknown filtertype abc".into()),
        ("blockfilterheaders/basic/abc.json".into(), 400, "Invalid hash: abc".into()),
        ("chaininfo.hex".into(), 404, "output format not found (available: json)".into()),
        (
            "mempool/x.json".into(),
            400,
            "Invalid URI format. Expected /rest/mempool/<info|contents>.json".into(),
        ),
        (
            "mempool/contents.json?verbose=TRUE".into(),
            400,
            "The \"verbose\" query parameter must be either \"true\" or \"false\".".into(),
        ),
        (
            "mempool/contents.json?mempool_sequence=true".into(),
            400,
            "Verbose results cannot contain mempool sequence values. (hint: set \"verbose=false\")".into(),
        ),
        ("getutxos.json".into(), 400, "Error: empty request".into()),
        ("getutxos/checkmempool.json".into(), 400, "Error: empty request".into()),
        (format!("getutxos/{zero}-+1.json"), 400, "Parse error".into()),
        (format!("getutxos/{zero}--1.json"), 400, "Parse error".into()),
        (format!("getutxos/{many}.json"), 400, "Error: max outpoints exceeded (max: 15, tried: 16)".into()),
        ("blockhashbyheight/+1.json".into(), 400, "Invalid height: +1".into()),
        ("blockhashbyheight/2.json".into(), 404, "Block height out of range".into()),
        (format!("deploymentinfo/{zero}.json"), 400, "Block not found".into()),
        (
            "spenttxouts/a/b.json".into(),
            400,
            "Invalid URI format. Expected /rest/spenttxouts/<hash>.<ext>".into(),
        ),
    ] {
        let reply = get(&node, &target).await;
        assert_eq!((reply.status, reply.body), (status, text + "\r\n"), "{target}");
    }
    assert_eq!(get(&node, "nothing").await.status, 404);
    let large = "00".repeat(40_000);
    assert_eq!(ask(&node, "POST", "getutxos.hex", &large).await.status, 413);
    node.stop().await;
}

/// A page in a browser can reach a loopback port under a name that it made point there.
#[tokio::test]
async fn rest_on_this_machine_has_no_other_name() {
    use tokio::io::AsyncWriteExt;
    let node = with_rest().await;
    for (host, status) in [("localhost", 200), ("127.0.0.1:8332", 200), ("evil.example", 403)] {
        let mut stream = node.connect().await;
        let request = format!("GET /rest/chaininfo.json HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(receive(&mut stream).await.status, status, "{host}");
    }
    node.stop().await;
}
