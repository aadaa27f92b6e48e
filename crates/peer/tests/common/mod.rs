//! Whole nodes without a door: real chain, real mempool, real sockets.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::p2p::{Magic, ServiceFlags};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness, absolute, transaction,
};
use ironpeer_chain::{Chain, ChainFollower, ChainHandle, Config as ChainConfig, Followed, SubmitOptions};
use ironpeer_consensus::{Params, RegtestOptions, ScriptCache};
use ironpeer_index::{FilterIndex, Indexes};
use ironpeer_mempool::{Config as MempoolConfig, MempoolHandle, Parts as MempoolParts};
use ironpeer_peer::{Config, Listener, Parts, PeerHandle, Resolver, Rooms, SystemResolver};
use ironpeer_primitives::{ChainRead, Clock, LogCategory, LogLine, LogSink, NullLog, SystemClock};
use ironpeer_store::MemDisk;
use ironpeer_wire::{Message, Received, Service, V1Decoder, Version, encode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// After this long a test that waits for something has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, but not forever.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

/// Keeps log lines, and lets a test wait for one.
pub struct MemoryLog {
    lines: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
    /// Panics at a line with this text.
    trap: Option<&'static str>,
}

impl MemoryLog {
    pub fn new(trap: Option<&'static str>) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::default(), count: watch::Sender::new(0), trap })
    }

    pub async fn wait_for(&self, text: &str) {
        let mut count = self.count.subscribe();
        let there = || self.lines.lock().iter().any(|line| line.contains(text));
        patiently(text, count.wait_for(|_| there())).await.unwrap();
    }
}

impl LogSink for MemoryLog {
    fn log(&self, line: LogLine) {
        assert!(!self.trap.is_some_and(|trap| line.text.contains(trap)), "the trap in the log");
        self.lines.lock().push(line.text.into_owned());
        self.count.send_modify(|count| *count += 1);
    }

    fn enabled(&self, category: LogCategory) -> bool {
        matches!(category, LogCategory::Net | LogCategory::Any)
    }
}

/// What the nodes of a test share.
pub struct World {
    pub params: Arc<Params>,
    pub clock: Arc<dyn Clock>,
    pool: Arc<rayon::ThreadPool>,
}

impl World {
    pub fn new() -> Self {
        Self {
            params: Arc::new(Params::regtest(RegtestOptions::default())),
            clock: Arc::new(SystemClock::new()),
            pool: Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap()),
        }
    }

    pub fn magic(&self) -> Magic {
        Magic::from_bytes(self.params.magic)
    }

    /// Keeps every thread of the CPU pool busy until the result is dropped.
    pub fn hold_pool(&self) -> mpsc::Sender<()> {
        let (held, let_go) = mpsc::channel::<()>();
        let let_go = Arc::new(Mutex::new(let_go));
        for _ in 0..self.pool.current_num_threads() {
            let let_go = Arc::clone(&let_go);
            self.pool.spawn(move || {
                // Fails when the sender is gone, which is what it waits for.
                let _ = let_go.lock().recv();
            });
        }
        held
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new(ironpeer_sync::Config::new(Arc::clone(&self.params)));
        config.connect = Some(Vec::new());
        config.dns_seed = false;
        config
    }

    pub fn node(&self, number: u8) -> Node {
        self.node_with(number, self.config(), Arc::new(NullLog))
    }

    pub fn node_with(&self, number: u8, config: Config, log: Arc<dyn LogSink>) -> Node {
        self.node_of(number, config, log, Arc::new(SystemResolver), Arc::new(MemDisk::new()))
    }

    pub fn node_resolving(
        &self,
        number: u8,
        config: Config,
        log: Arc<dyn LogSink>,
        resolver: Arc<dyn Resolver>,
    ) -> Node {
        self.node_of(number, config, log, resolver, Arc::new(MemDisk::new()))
    }

    pub fn node_on_disk(
        &self,
        number: u8,
        config: Config,
        log: Arc<dyn LogSink>,
        disk: Arc<MemDisk>,
    ) -> Node {
        self.node_of(number, config, log, Arc::new(SystemResolver), disk)
    }

    fn node_of(
        &self,
        number: u8,
        config: Config,
        log: Arc<dyn LogSink>,
        resolver: Arc<dyn Resolver>,
        disk: Arc<MemDisk>,
    ) -> Node {
        let cache = Arc::new(ScriptCache::new(1 << 16, [number; 32]));
        let mut chain_config = ChainConfig::in_memory(Arc::clone(&self.params));
        chain_config.cache_bytes = 1 << 20;
        let (chain, _thread) = Chain::open(
            chain_config,
            Arc::clone(&self.clock),
            Arc::new(NullLog),
            Arc::clone(&self.pool),
            Arc::clone(&cache),
        )
        .unwrap();
        let parts = MempoolParts {
            config: MempoolConfig::default(),
            params: Arc::clone(&self.params),
            chain: Arc::new(chain.view()),
            clock: Arc::clone(&self.clock),
            log: Arc::new(NullLog),
            pool: Arc::clone(&self.pool),
            checker: cache,
            disk: Arc::new(MemDisk::new()),
        };
        let (mempool, follower) = MempoolHandle::on_chain(parts, &chain);
        let following = mempool.clone();
        tokio::spawn(async move { following.follow(follower).await });
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.address();
        let rooms = Rooms::new(chain.clone(), mempool.clone());
        let (rooms, filters) = if config.sync.services.has(ServiceFlags::COMPACT_FILTERS) {
            let parts = ironpeer_index::Parts {
                chain: chain.clone(),
                clock: Arc::clone(&self.clock),
                log: Arc::new(NullLog),
            };
            let only = ironpeer_index::Config { filters: true, ..ironpeer_index::Config::none() };
            // Its thread ends with the chain.
            let (indexes, _threads) = Indexes::open(&only, &parts).unwrap();
            let filters = indexes.filters.unwrap();
            (rooms.with_filters(Arc::new(filters.clone())), Some(filters))
        } else {
            (rooms, None)
        };
        let peers = PeerHandle::start(
            config,
            Parts {
                rooms,
                clock: Arc::clone(&self.clock),
                log,
                disk,
                resolver,
                listeners: vec![listener],
                seed: [number; 32],
            },
        )
        .unwrap();
        Node { chain, mempool, peers, address, filters }
    }
}

pub struct Node {
    pub chain: ChainHandle,
    pub mempool: MempoolHandle,
    pub peers: PeerHandle,
    pub address: SocketAddr,
    /// Its index of block filters, if it serves them.
    pub filters: Option<FilterIndex>,
}

impl Node {
    /// A block on the tip with nothing but a coinbase.
    pub fn next_block(&self) -> Block {
        let tip = self.chain.view().tip();
        block_on(tip.hash, tip.height.0 + 1, tip.header.time, self.clock_time())
    }

    fn clock_time(&self) -> u32 {
        u32::try_from(SystemClock::new().unix()).unwrap()
    }

    /// Mines one block and waits until peers have been told.
    pub async fn mine(&self) -> BlockHash {
        let block = self.next_block();
        let hash = block.block_hash();
        let outcome = self.chain.submit_block(Arc::new(block), SubmitOptions::WANTED).await.unwrap();
        assert_eq!(outcome.result, Ok(()));
        hash
    }

    /// Waits until the tip is this block.
    pub async fn reach(&self, follower: &mut ChainFollower, hash: BlockHash) {
        patiently("the block", async {
            while self.chain.view().tip().hash != hash {
                assert!(!matches!(follower.next().await, Followed::Closed));
            }
        })
        .await;
    }

    pub async fn stop(self) {
        self.peers.shutdown().await;
        self.chain.shutdown().await.unwrap();
    }
}

/// A block with nothing but a coinbase, its proof of work done.
pub fn block_on(parent: BlockHash, height: u32, parent_time: u32, now: u32) -> Block {
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: bitcoin::script::Builder::new().push_int(i64::from(height)).push_int(0).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat((50 * 100_000_000) >> (height / 150)),
            script_pubkey: ScriptBuf::from(vec![0x51]),
        }],
    };
    let mut block = Block {
        header: Header {
            version: BlockVersion::from_consensus(0x2000_0000),
            prev_blockhash: parent,
            merkle_root: TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash()),
            time: now.max(parent_time + 1),
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        },
        txdata: vec![coinbase],
    };
    let target = block.header.target();
    while !target.is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

/// A peer made of nothing but a socket.
pub struct Client {
    pub stream: TcpStream,
    decoder: V1Decoder,
    buffer: Vec<u8>,
    magic: Magic,
}

impl Client {
    /// Connects and shakes hands.
    pub async fn join(world: &World, node: &Node) -> Self {
        let mut client = Self::over(world, TcpStream::connect(node.address).await.unwrap());
        client.send(&version()).await;
        client.receive("verack", |message| matches!(message, Message::Verack)).await;
        client.send(&Message::Verack).await;
        // Answered only after the handshake was seen to its end.
        client.ping(77).await;
        client
    }

    /// A peer on a socket that is connected already.
    pub fn over(world: &World, stream: TcpStream) -> Self {
        let mut decoder = V1Decoder::new(world.magic());
        decoder.handshake_done();
        Self { stream, decoder, buffer: Vec::new(), magic: world.magic() }
    }

    pub async fn send(&mut self, message: &Message) {
        self.stream.write_all(&encode(message, self.magic)).await.unwrap();
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let mut input = self.buffer.as_slice();
            let received = self.decoder.push(&mut input).unwrap();
            let used = self.buffer.len() - input.len();
            self.buffer.drain(..used);
            match received {
                Some(Received::Frame(frame)) => return Some(frame.into_message()),
                Some(Received::Rejected(reject, _)) => panic!("{reject}"),
                None => {
                    let read = self.stream.read_buf(&mut self.buffer).await;
                    if !matches!(read, Ok(n) if n > 0) {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for a message, answering pings meanwhile.
    pub async fn receive(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        patiently(what, async {
            loop {
                let message = self.next().await.unwrap_or_else(|| panic!("closed before {what}"));
                if let Message::Ping(nonce) = message {
                    self.send(&Message::Pong(Some(nonce))).await;
                }
                if wanted(&message) {
                    return message;
                }
            }
        })
        .await
    }

    /// Waits for a `getdata` and says how many blocks it asks for.
    pub async fn blocks_asked(&mut self) -> usize {
        let message = self.receive("getdata", |message| matches!(message, Message::GetData(_))).await;
        let Message::GetData(items) = message else { return 0 };
        items.iter().filter(|item| item.is_block()).count()
    }

    pub async fn ping(&mut self, nonce: u64) {
        self.send(&Message::Ping(nonce)).await;
        self.receive("pong", |message| *message == Message::Pong(Some(nonce))).await;
    }

    /// Waits until the other end has closed the connection.
    pub async fn closed(&mut self) {
        patiently("the end of the connection", async { while self.next().await.is_some() {} }).await;
    }
}

pub fn version() -> Message {
    Message::Version(Version {
        version: ironpeer_wire::PROTOCOL_VERSION,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        timestamp: 1_700_000_000,
        receiver_services: ServiceFlags::NONE,
        receiver: Service::INVALID,
        nonce: 4711,
        user_agent: b"/client:0.0.1/".to_vec(),
        start_height: 0,
        relay: true,
    })
}

/// Whether a message announces this block, in any form.
pub fn announces(message: &Message, hash: BlockHash) -> bool {
    match message {
        Message::Inv(entries) => entries.iter().any(|entry| entry.is_block() && entry.block_hash() == hash),
        Message::Headers(headers) => headers.iter().any(|header| header.block_hash() == hash),
        Message::CmpctBlock(block) => block.header.block_hash() == hash,
        _ => false,
    }
}
