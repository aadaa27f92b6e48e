//! ZeroMQ notifications (`-zmqpub...`), as Bitcoin Core publishes them: five topics, each message
//! of three frames (topic, body, the topic's own count), in the order things happened.
//!
//! The publisher speaks ZMTP 3 itself: it needs one socket type, and a bound on what a slow
//! subscriber may leave unread. Such a subscriber loses messages and delays nobody.

mod frame;
mod notify;
mod socket;

use std::sync::Arc;

use ironpeer_chain::{ChainFollower, ChainView};
use ironpeer_mempool::MempoolEvent;
use ironpeer_primitives::{LogCategory, LogLine, LogSink};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use notify::{Active, Notifiers, Publisher};
use socket::Sockets;

/// What a notifier tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The hash of a new tip.
    HashBlock,
    /// The hash of a transaction that came into the mempool, a block, or out of one.
    HashTx,
    /// A new tip in full.
    RawBlock,
    /// Such a transaction in full.
    RawTx,
    /// Every block and mempool change by hash and kind.
    Sequence,
}

impl Topic {
    /// All, in the order Core lists them.
    pub const ALL: [Self; 5] = [Self::HashBlock, Self::HashTx, Self::RawBlock, Self::RawTx, Self::Sequence];

    /// The first frame of its messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HashBlock => "hashblock",
            Self::HashTx => "hashtx",
            Self::RawBlock => "rawblock",
            Self::RawTx => "rawtx",
            Self::Sequence => "sequence",
        }
    }
}

/// One `-zmqpub<topic>=<address>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZmqNotifier {
    /// What is published.
    pub topic: Topic,
    /// Where: `tcp://host:port` or `ipc://path`.
    pub address: String,
    /// Messages a subscriber may leave unread (`-zmqpub<topic>hwm`); 0 for as many as its bytes
    /// allow. At an address that several notifiers share, the first one's counts.
    pub high_water_mark: usize,
}

/// Open sockets that publish nothing yet.
pub struct ZmqSockets {
    sockets: Sockets,
    active: Vec<Active>,
    log: Arc<dyn LogSink>,
}

impl std::fmt::Debug for ZmqSockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZmqSockets").field("active", &self.active).finish_non_exhaustive()
    }
}

/// The running publisher; [`ZmqServer::stop`] ends it.
#[derive(Debug)]
pub struct ZmqServer {
    closing: CancellationToken,
    done: tokio::sync::oneshot::Receiver<()>,
    sockets: Sockets,
}

impl ZmqSockets {
    /// Opens every notifier's address. `None` if there are none, or if one cannot be had: then
    /// nothing is published and the node goes on, as with Core; the log says why.
    pub async fn open(notifiers: &[ZmqNotifier], log: Arc<dyn LogSink>) -> Option<Self> {
        if notifiers.is_empty() {
            return None;
        }
        let debug = |text: String| log.log(LogLine::debug(LogCategory::Zmq, text));
        let mut sockets = Sockets::default();
        let mut active = Vec::new();
        for notifier in notifiers {
            let ZmqNotifier { topic, address, high_water_mark } = notifier;
            let name = topic.name();
            debug(format!(
                "Outbound message high water mark for pub{name} at {address} is {high_water_mark}"
            ));
            let endpoint = match sockets.open(address, *high_water_mark).await {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    debug(format!("Notifier pub{name} failed (address = {address})"));
                    log.log(LogLine::warning(format!(
                        "No ZMQ notifications are published: unable to bind {address}: {error}"
                    )));
                    sockets.close().await;
                    return None;
                }
            };
            debug(format!("Notifier pub{name} ready (address = {address})"));
            active.push(Active::new(*topic, address.clone(), endpoint));
        }
        Some(Self { sockets, active, log })
    }

    /// Publishes what chain and mempool tell from here on, on a thread of its own: hashing the
    /// transactions of a block takes a while.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn publish(
        self,
        chain: ChainFollower,
        mempool: broadcast::Receiver<MempoolEvent>,
        view: ChainView,
    ) -> std::io::Result<ZmqServer> {
        let closing = CancellationToken::new();
        let (ended, done) = tokio::sync::oneshot::channel();
        let notifiers = Notifiers::new(self.active, Arc::clone(&self.log));
        let publisher = Publisher::new(notifiers, chain, mempool, view, self.log);
        let (token, runtime) = (closing.clone(), tokio::runtime::Handle::current());
        std::thread::Builder::new().name("zmq".into()).spawn(move || {
            runtime.block_on(publisher.run(token));
            // Whoever stops the node may have given up waiting.
            let _ = ended.send(());
        })?;
        Ok(ZmqServer { closing, done, sockets: self.sockets })
    }
}

impl ZmqServer {
    /// Publishes what has happened so far, then closes the sockets.
    pub async fn stop(self) {
        self.closing.cancel();
        // An error means that the thread is gone already.
        let _ = self.done.await;
        self.sockets.close().await;
    }
}
