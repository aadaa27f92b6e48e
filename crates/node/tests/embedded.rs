//! The library as an embedder uses it: whole nodes in one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use ironpeer::config::Config;
use ironpeer::log::{Log, LogConfig};
use ironpeer::node::Node;
use ironpeer::p2p::Bind;
use ironpeer_api::Forward;
use ironpeer_chain::Followed;
use ironpeer_consensus::{Params, RegtestOptions};
use ironpeer_mempool::SubmitTx;
use ironpeer_primitives::{ChainRead, Clock, SystemClock};
use ironpeer_sync::Permissions;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

fn config(listen: bool) -> Config {
    let mut config = Config::in_memory(Arc::new(Params::regtest(RegtestOptions::default())));
    if listen {
        config.p2p.binds.push(Bind {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            onion: false,
            permissions: Permissions::default(),
            required: true,
        });
    }
    config
}

async fn start(config: Config) -> Node {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let log = Arc::new(Log::new(LogConfig::silent(), Arc::clone(&clock)));
    Node::start(config, clock, log, CancellationToken::new()).await.unwrap()
}

/// A `pong` with its frame.
const PONG_BYTES: u64 = 32;
/// Lets time pass for the node's scheduler, and returns when what became due has run.
async fn forward(node: &Node, seconds: u64) {
    let (done, ran) = oneshot::channel();
    let by = Duration::from_secs(seconds);
    node.context().scheduler.send(Forward { by, done }).await.unwrap();
    ran.await.unwrap();
}

fn anyone() -> ScriptBuf {
    ironpeer_mining::anyone_can_spend()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_nodes_in_one_process() {
    let mut nodes = Vec::new();
    for _ in 0..100 {
        nodes.push(start(config(false)).await);
    }
    // Each has a chain of its own.
    for (index, node) in nodes.iter().enumerate() {
        let blocks = u32::try_from(index % 3).unwrap();
        node.context().mining.generate(blocks, anyone(), u64::MAX).await.unwrap();
        assert_eq!(node.context().chain.view().tip().height.0, blocks);
    }
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_found_block_is_announced_although_shutdown_began() {
    let miner = start(config(true)).await;
    let address = miner.context().p2p_addresses[0].to_string();
    let mut other = config(false);
    other.p2p.peer.connect = Some(vec![address]);
    let other = start(other).await;
    // The second block is announced to a peer that has the first.
    miner.context().mining.generate(1, anyone(), u64::MAX).await.unwrap();
    let (mut changes, mut tip) = other.context().chain.events();
    while tip.height.0 < 1 {
        match changes.next().await {
            Followed::Event(event) => tip.height.0 = event.connected.last().unwrap().height.0,
            Followed::Lagged { tip: new, .. } => tip = new,
            Followed::Closed => panic!("the other node stopped"),
        }
    }
    // And that has said how it wants to hear of it: a pong follows all that was said before.
    let pongs = || {
        let peer = other.context().peers.peers().pop()?;
        let bytes = peer.bytes_recv_per_msg.iter().find(|(name, _)| *name == "pong")?.1;
        Some(bytes / PONG_BYTES)
    };
    for count in 1..=2 {
        while pongs() < Some(count) {
            tokio::task::yield_now().await;
        }
        other.context().peers.ping_all();
    }
    let (mut found, _) = miner.context().chain.events();
    let mining = miner.context().mining.clone();
    let search = tokio::spawn(async move { mining.generate(1, anyone(), u64::MAX).await });
    // As soon as the block is in the miner's chain, the miner is told to stop.
    let Followed::Event(event) = found.next().await else { panic!("no block") };
    let hash = event.connected.last().unwrap().hash;
    miner.shutdown().await;
    // Whether the call had its answer before the stop is not the point.
    let _ = search.await.unwrap();
    let heard = async {
        while other.context().chain.view().header(&hash).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(ironpeer_testkit::HANG, heard).await.expect("the block was not announced");
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fee_estimates_are_written_every_hour_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fee_estimates.dat");
    let mut config = config(false);
    config.fee_file = Some(path.clone());
    let node = start(config).await;
    forward(&node, 3_000).await;
    assert!(!path.exists());
    forward(&node, 601).await;
    let first = std::fs::read(&path).unwrap();
    forward(&node, 3_000).await;
    node.context().mining.generate(3, anyone(), u64::MAX).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    node.shutdown().await;
    let last = std::fs::read(&path).unwrap();
    // The height of the last block seen.
    assert_eq!((first[4], last[4]), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_peer_has_asked_for_is_announced_again() {
    let mut served = config(true);
    served.p2p.binds[0].permissions.no_ban = true;
    served.mempool.require_standard = false;
    let node = start(served).await;
    let address = node.context().p2p_addresses[0].to_string();
    let mining = &node.context().mining;
    let blocks = mining.generate(101, anyone(), u64::MAX).await.unwrap();
    let block = node.context().chain.view().block(&blocks[0]).unwrap();
    let coinbase = &block.txdata[0];
    let tx = Arc::new(Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: coinbase.compute_txid(), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: coinbase.output[0].value - Amount::from_sat(10_000),
            script_pubkey: anyone().to_p2wsh(),
        }],
    });
    // It is taken, but its announcement is lost.
    let how = SubmitTx { local: true, ..SubmitTx::default() };
    node.context().mempool.submit_tx(Arc::clone(&tx), how).await.unwrap();
    let mut other = config(false);
    other.mempool.require_standard = false;
    other.p2p.peer.connect = Some(vec![address]);
    let other = start(other).await;
    let (mut changes, mut tip) = other.context().chain.events();
    while tip.height.0 < 101 {
        match changes.next().await {
            Followed::Event(event) => tip.height.0 = event.connected.last().unwrap().height.0,
            Followed::Lagged { tip: new, .. } => tip = new,
            Followed::Closed => panic!("the other node stopped"),
        }
    }
    let mut events = other.context().mempool.subscribe();
    forward(&node, 900).await;
    let heard = async {
        while other.context().mempool.tx(&tx.compute_txid()).is_none() {
            events.recv().await.unwrap();
        }
        while !node.context().mempool.unbroadcast().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(ironpeer_testkit::HANG, heard).await.expect("the transaction was not announced");
    node.shutdown().await;
    other.shutdown().await;
}
