//! What is published, in Core's order, as a subscriber sees it on the wire.

use std::path::Path;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, ScriptBuf, Transaction};
use ironpeer_api::{Topic, ZmqNotifier, ZmqSockets};
use ironpeer_primitives::NullLog;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::{HANG, TestNode};

/// One message: topic, body, the topic's count.
type Message = (String, Vec<u8>, u32);

struct Subscriber(UnixStream);

impl Subscriber {
    /// Connects and subscribes to everything; returns once the publisher has heard it.
    async fn connect(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
        greeting.extend(b"NULL");
        greeting.resize(64, 0);
        stream.write_all(&greeting).await.unwrap();
        stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB").await.unwrap();
        stream.write_all(b"\0\x01\x01\x04\x07\x04PING\0\0").await.unwrap();
        let mut subscriber = Self(stream);
        assert_eq!(subscriber.bytes(64).await[..10], [0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f]);
        assert!(subscriber.frame().await.1.starts_with(b"\x05READY"));
        assert_eq!(subscriber.frame().await.1, b"\x04PONG");
        subscriber
    }

    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        tokio::time::timeout(HANG, self.0.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let flags = self.bytes(1).await[0];
        let length = match flags & 2 {
            0 => u64::from(self.bytes(1).await[0]),
            _ => u64::from_be_bytes(self.bytes(8).await.try_into().unwrap()),
        };
        (flags, self.bytes(length as usize).await)
    }

    async fn message(&mut self) -> Message {
        let ((first, topic), (second, body), (third, count)) =
            (self.frame().await, self.frame().await, self.frame().await);
        assert_eq!((first & 1, second & 1, third & 1), (1, 1, 0));
        (String::from_utf8(topic).unwrap(), body, u32::from_le_bytes(count.try_into().unwrap()))
    }

    /// The next `count` messages as `topic count body`, bodies in hex.
    async fn expect(&mut self, expected: &[(&str, u32, String)]) {
        for (topic, count, body) in expected {
            let (found, bytes, number) = self.message().await;
            assert_eq!((found.as_str(), number, hex(&bytes)), (*topic, *count, body.clone()));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A transaction that spends an OP_TRUE coinbase to another such output.
fn spend(block: &Block) -> Transaction {
    let coinbase = &block.txdata[0];
    let mut tx = coinbase.clone();
    tx.input[0].previous_output = bitcoin::OutPoint { txid: coinbase.compute_txid(), vout: 0 };
    tx.input[0].script_sig = ScriptBuf::new();
    tx.input[0].witness.clear();
    tx.input[0].sequence = bitcoin::Sequence::MAX;
    tx.lock_time = bitcoin::absolute::LockTime::ZERO;
    tx.output.truncate(1);
    tx.output[0].value -= bitcoin::Amount::from_sat(10_000);
    // Smaller ones are not relayed.
    let padding = ScriptBuf::new_op_return([7; 20]);
    tx.output.push(bitcoin::TxOut { value: bitcoin::Amount::ZERO, script_pubkey: padding });
    tx
}

#[tokio::test]
async fn everything_is_published_in_cores_order_and_counted_by_topic() {
    let node = TestNode::start().await;
    let mined = node.mine(101).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zmq");
    let address = format!("ipc://{}", path.display());
    let notifiers =
        Topic::ALL.map(|topic| ZmqNotifier { topic, address: address.clone(), high_water_mark: 1_000 });
    let sockets = ZmqSockets::open(&notifiers, std::sync::Arc::new(NullLog)).await.unwrap();
    let (chain, _) = node.context.chain.events();
    let server = sockets.publish(chain, node.context.mempool.subscribe(), node.context.chain.view()).unwrap();
    let mut subscriber = Subscriber::connect(&path).await;

    let block = async |hash: &str| -> Block {
        deserialize_hex(node.call("getblock", json!([hash, 0])).await.unwrap().as_str().unwrap()).unwrap()
    };
    let tx = spend(&block(&mined[0]).await);
    let (txid, raw) = (tx.compute_txid().to_string(), serialize_hex(&tx));
    let first = node.call("getrawmempool", json!([false, true])).await.unwrap();
    assert_eq!(first["mempool_sequence"], 1);
    node.call("sendrawtransaction", json!([raw])).await.unwrap();
    let accepted = |sequence: u64| format!("{txid}41{}", hex(&sequence.to_le_bytes()));
    subscriber
        .expect(&[("hashtx", 0, txid.clone()), ("rawtx", 0, raw.clone()), ("sequence", 0, accepted(1))])
        .await;

    let tip = node.mine(1).await[0].clone();
    let found = block(&tip).await;
    let coinbase = (found.txdata[0].compute_txid().to_string(), serialize_hex(&found.txdata[0]));
    assert_eq!(found.txdata[1].compute_txid().to_string(), txid);
    subscriber
        .expect(&[
            ("hashtx", 1, coinbase.0.clone()),
            ("rawtx", 1, coinbase.1.clone()),
            ("hashtx", 2, txid.clone()),
            ("rawtx", 2, raw.clone()),
            ("sequence", 1, format!("{tip}43")),
            ("hashblock", 0, tip.clone()),
            ("rawblock", 0, serialize_hex(&found)),
        ])
        .await;

    // The block took change 2 of the mempool, which nobody is told of.
    node.call("invalidateblock", json!([tip])).await.unwrap();
    subscriber
        .expect(&[
            ("hashtx", 3, coinbase.0),
            ("rawtx", 3, coinbase.1),
            ("hashtx", 4, txid.clone()),
            ("rawtx", 4, raw.clone()),
            ("sequence", 2, format!("{tip}44")),
            ("hashtx", 5, txid.clone()),
            ("rawtx", 5, raw),
            ("sequence", 3, accepted(3)),
        ])
        .await;

    // A rival in the next block puts the transaction out, which is told before the block is.
    let mut rival = spend(&block(&mined[0]).await);
    rival.output[0].value -= bitcoin::Amount::from_sat(1);
    let branch = node.call("generateblock", json!(["raw(51)", [serialize_hex(&rival)]])).await.unwrap();
    let branch = branch["hash"].as_str().unwrap().to_owned();
    let removed = format!("{txid}52{}", hex(&4u64.to_le_bytes()));
    let (topic, body, _) = subscriber.message().await;
    assert_eq!((topic.as_str(), hex(&body)), ("sequence", removed));
    let mut topics = Vec::new();
    loop {
        let (topic, body, count) = subscriber.message().await;
        if topic == "sequence" {
            assert_eq!((count, hex(&body)), (5, format!("{branch}43")));
        }
        let last = topic == "rawblock";
        topics.push(topic);
        if last {
            break;
        }
    }
    assert_eq!(topics, ["hashtx", "rawtx", "hashtx", "rawtx", "sequence", "hashblock", "rawblock"]);

    server.stop().await;
    assert!(!path.exists());
    node.stop().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_had_leaves_everything_unpublished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zmq");
    let notifier = |address: String| ZmqNotifier { topic: Topic::RawTx, address, high_water_mark: 0 };
    let notifiers = [notifier(format!("ipc://{}", path.display())), notifier("foo".into())];
    assert!(ZmqSockets::open(&notifiers, std::sync::Arc::new(NullLog)).await.is_none());
    assert!(!path.exists());
    assert!(ZmqSockets::open(&[], std::sync::Arc::new(NullLog)).await.is_none());
}
