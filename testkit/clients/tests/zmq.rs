//! `pyzmq` on every topic, by `tests/clients/zmq_topics.py`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use ironpeer_testkit::{ScriptKind, Signer, port};
use serde_json::json;

use crate::node::{Coin, FEE, Node, address, pass_on};

/// Where `./run setup` puts the Python that has what the scripts import; else the system's.
fn python() -> PathBuf {
    let folder = |name| env::var_os(name).map(PathBuf::from);
    let cache = folder("IRONPEER_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("ironpeer")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/ironpeer")));
    let own = cache.map(|cache| cache.join("clients/python/bin/python"));
    own.filter(|python| python.exists()).unwrap_or_else(|| "python3".into())
}

#[test]
fn pyzmq_hears_every_topic_in_order() {
    let signer = Signer::new();
    let at = format!("tcp://127.0.0.1:{}", port(40));
    let topics = ["hashblock", "hashtx", "rawblock", "rawtx", "sequence"];
    let publish: Vec<String> = topics.iter().map(|topic| format!("-zmqpub{topic}={at}")).collect();
    let mut node = Node::start(0, &publish);
    let home = address(&signer.script(ScriptKind::P2wpkh, 1)).to_string();
    let blocks = node.process.rpc.call("generatetoaddress", &[json!(101), json!(home)]).unwrap();
    let block = node.process.rpc.call("getblock", &[blocks[0].clone(), json!(0)]).unwrap();
    let block: bitcoin::Block = deserialize_hex(block.as_str().unwrap()).unwrap();
    let coin = Coin::of(&block.txdata[0], 0, ScriptKind::P2wpkh, 1);
    let output = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/zmq_topics.py"))
        .arg(node.rpc_port().to_string())
        .arg(node.cookie_file())
        .arg(at)
        .args([FEE, FEE * 5].map(|fee| serialize_hex(&pass_on(&signer, &coin, fee))))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    node.process.stop().unwrap();
}
