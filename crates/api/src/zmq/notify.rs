//! From chain and mempool to messages, in Core's order (`zmq/zmqnotificationinterface.cpp`).

use std::sync::Arc;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction, Txid};
use bytes::Bytes;
use ironpeer_chain::{ChainFollower, ChainView, Followed};
use ironpeer_mempool::{MempoolEvent, RemovalReason};
use ironpeer_primitives::{ChainEvent, ChainRead, ConnectedBlock, LogCategory, LogLine, LogSink};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::Topic;
use super::frame;
use super::socket::Endpoint;

/// One notifier at work.
#[derive(Debug)]
pub(super) struct Active {
    topic: Topic,
    address: String,
    endpoint: Arc<Endpoint>,
    /// Number of its next message.
    sequence: u32,
}

impl Active {
    pub(super) fn new(topic: Topic, address: String, endpoint: Arc<Endpoint>) -> Self {
        Self { topic, address, endpoint, sequence: 0 }
    }

    fn send(&mut self, body: &[u8]) {
        let topic = self.topic.name();
        let message = frame::message(&[topic.as_bytes(), body, &self.sequence.to_le_bytes()]);
        self.endpoint.send(topic, &message);
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// All notifiers.
pub(super) struct Notifiers {
    active: Vec<Active>,
    log: Arc<dyn LogSink>,
}

/// A change told on the `sequence` topic.
#[derive(Clone, Copy)]
enum Change {
    Connected,
    Disconnected,
    Accepted(u64),
    Removed(u64),
}

/// A hash's bytes as it is printed.
fn printed(hash: [u8; 32]) -> [u8; 32] {
    let mut bytes = hash;
    bytes.reverse();
    bytes
}

impl Notifiers {
    pub(super) fn new(active: Vec<Active>, log: Arc<dyn LogSink>) -> Self {
        Self { active, log }
    }

    fn send(&mut self, topic: Topic, what: &str, hash: &dyn std::fmt::Display, body: impl Fn() -> Bytes) {
        let mut built: Option<Bytes> = None;
        for notifier in self.active.iter_mut().filter(|notifier| notifier.topic == topic) {
            if self.log.enabled(LogCategory::Zmq) {
                let text = format!("Publish {what} {hash} to {}", notifier.address);
                self.log.log(LogLine::debug(LogCategory::Zmq, text));
            }
            notifier.send(built.get_or_insert_with(&body));
        }
    }

    fn wants(&self, topics: &[Topic]) -> bool {
        self.active.iter().any(|notifier| topics.contains(&notifier.topic))
    }

    /// A transaction, wherever it turned up.
    fn transaction(&mut self, tx: &Transaction, txid: Option<Txid>) {
        if !self.wants(&[Topic::HashTx, Topic::RawTx]) {
            return;
        }
        let txid = txid.unwrap_or_else(|| tx.compute_txid());
        let hash = printed(txid.to_byte_array());
        self.send(Topic::HashTx, "hashtx", &txid, || Bytes::copy_from_slice(&hash));
        self.send(Topic::RawTx, "rawtx", &txid, || serialize(tx).into());
    }

    fn change(&mut self, hash: [u8; 32], change: Change) {
        let (label, sequence, what) = match change {
            Change::Connected => (b'C', None, "sequence block connect"),
            Change::Disconnected => (b'D', None, "sequence block disconnect"),
            Change::Accepted(sequence) => (b'A', Some(sequence), "hashtx mempool acceptance"),
            Change::Removed(sequence) => (b'R', Some(sequence), "hashtx mempool removal"),
        };
        let body = || {
            let mut body = printed(hash).to_vec();
            body.push(label);
            body.extend(sequence.iter().flat_map(|sequence| sequence.to_le_bytes()));
            body.into()
        };
        self.send(Topic::Sequence, what, &BlockHash::from_byte_array(hash), body);
    }

    /// A block put on or taken off.
    fn block(&mut self, block: &ConnectedBlock, change: Change) {
        for tx in &block.block.txdata {
            self.transaction(tx, None);
        }
        self.change(block.hash.to_byte_array(), change);
    }

    /// A new tip.
    fn tip(&mut self, block: &ConnectedBlock) {
        let hash = printed(block.hash.to_byte_array());
        self.send(Topic::HashBlock, "hashblock", &block.hash, || Bytes::copy_from_slice(&hash));
        self.send(Topic::RawBlock, "rawblock", &block.hash, || serialize(&*block.block).into());
    }
}

/// Follows the mempool, which tells where among its own changes the chain's belong.
pub(super) struct Publisher {
    notifiers: Notifiers,
    chain: ChainFollower,
    mempool: broadcast::Receiver<MempoolEvent>,
    view: ChainView,
    log: Arc<dyn LogSink>,
    /// Number of the last chain event taken from the follower.
    taken: u64,
    /// That event, if only what it takes off has been told.
    half: Option<Arc<ChainEvent>>,
}

impl Publisher {
    pub(super) fn new(
        notifiers: Notifiers,
        chain: ChainFollower,
        mempool: broadcast::Receiver<MempoolEvent>,
        view: ChainView,
        log: Arc<dyn LogSink>,
    ) -> Self {
        Self { notifiers, chain, mempool, view, log, taken: 0, half: None }
    }

    /// Publishes until `closing`, then what has happened by then.
    pub(super) async fn run(mut self, closing: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                event = self.mempool.recv() => event,
                () = closing.cancelled() => return,
            };
            match event {
                Ok(event) => self.publish(event),
                Err(RecvError::Lagged(lost)) => {
                    let text = format!("{lost} mempool changes came too fast and were not published");
                    self.log.log(LogLine::warning(text));
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn publish(&mut self, event: MempoolEvent) {
        match event {
            MempoolEvent::Added { tx, sequence } => {
                self.notifiers.transaction(&tx.tx, Some(tx.txid));
                self.notifiers.change(tx.txid.to_byte_array(), Change::Accepted(sequence));
            }
            // The block tells of it.
            MempoolEvent::Removed { reason: RemovalReason::Block, .. } => {}
            MempoolEvent::Removed { tx, sequence, .. } => {
                self.notifiers.change(tx.txid.to_byte_array(), Change::Removed(sequence));
            }
            MempoolEvent::TipLeft { seq } => self.leave(seq),
            MempoolEvent::TipReached { seq } => {
                self.leave(seq);
                self.reach();
            }
        }
    }

    /// Tells of everything up to what chain event `seq` takes off.
    fn leave(&mut self, seq: u64) {
        while self.taken < seq {
            let event = match self.chain.try_next() {
                Some(Followed::Event(event)) => event,
                Some(Followed::Lagged { seq, tip }) => {
                    self.taken = seq;
                    let text = format!("Blocks up to {} came too fast and were not published", tip.hash);
                    self.log.log(LogLine::warning(text));
                    continue;
                }
                Some(Followed::Closed) | None => return,
            };
            self.reach();
            self.taken = event.seq;
            for block in &event.disconnected {
                self.notifiers.block(block, Change::Disconnected);
            }
            self.half = Some(event);
        }
    }

    /// Tells of what the last event puts on.
    fn reach(&mut self) {
        let Some(event) = self.half.take() else { return };
        let downloading = self.view.is_initial_block_download();
        for (block, is_tip) in event.connected_with_tips() {
            self.notifiers.block(block, Change::Connected);
            if is_tip && !downloading {
                self.notifiers.tip(block);
            }
        }
    }
}
