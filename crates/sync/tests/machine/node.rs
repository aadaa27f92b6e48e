//! One node: the machine with the model behind it, its requests to chain and mempool answered at
//! once. Tests speak to it as its peers.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, Transaction};
use ironpeer_primitives::{ChainEvent, ChainRead, PeerId};
use ironpeer_sync::{
    Action, Config, Connection, ConnectionKind, Event, Now, PeerStats, Permissions, Sync, TxAccepted,
};
use ironpeer_wire::{Message, NetAddress, PeerAddress, SendCmpct, Service, Version};

use crate::model::{Pool, Tree};

pub struct Node {
    pub sync: Sync,
    pub tree: Tree,
    pub pool: Pool,
    pub micros: i64,
    pub log: Vec<String>,
    /// Messages to peers, in order.
    pub sent: VecDeque<(PeerId, Message)>,
    pub disconnected: Vec<PeerId>,
    pub discouraged: Vec<PeerId>,
    /// Everything else it wanted done.
    pub other: Vec<Action>,
    /// Blocks it could serve only unread: as after pruning.
    pub unreadable: bool,
    /// The initial download is over once the tip is less than a day old.
    pub latches: bool,
    /// Peers that answer pings at once.
    answering: BTreeSet<PeerId>,
    next_peer: u64,
}

pub fn full_node() -> ServiceFlags {
    let mut services = ServiceFlags::NETWORK;
    services.add(ServiceFlags::WITNESS);
    services
}

pub fn version(services: ServiceFlags) -> Version {
    Version {
        version: 70_016,
        services,
        timestamp: 0,
        receiver_services: ServiceFlags::NONE,
        receiver: Service::INVALID,
        nonce: 77,
        user_agent: b"/model:1/".to_vec(),
        start_height: 0,
        relay: true,
    }
}

pub fn service(n: u8) -> Service {
    Service::from(SocketAddr::from(([8, 8, 4, n], 8333)))
}

impl Node {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    pub fn with(seed: u64, set_up: impl FnOnce(&mut Config)) -> Self {
        let tree = Tree::new();
        let mut config = Config::new(Arc::clone(&tree.params));
        set_up(&mut config);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let micros = (i64::from(tree.tip().header.time) + 600) * 1_000_000;
        Self {
            sync: Sync::new(config, bytes),
            tree,
            pool: Pool::new(),
            micros,
            log: Vec::new(),
            sent: VecDeque::new(),
            disconnected: Vec::new(),
            discouraged: Vec::new(),
            other: Vec::new(),
            unreadable: false,
            latches: false,
            answering: BTreeSet::new(),
            next_peer: 0,
        }
    }

    /// A node past the initial download, with `blocks` blocks, the last just mined.
    pub fn synced(seed: u64, blocks: u32) -> Self {
        let mut node = Self::new(seed);
        node.tree.initial_download = false;
        node.mine(blocks);
        node
    }

    /// The same, with no timeouts on idle peers, for tests that take days.
    pub fn patient(seed: u64) -> Self {
        let mut node = Self::with(seed, |config| config.peer_timeout = Duration::from_secs(1 << 40));
        node.tree.initial_download = false;
        node.mine(1);
        node
    }

    pub fn now(&self) -> Now {
        Now { unix_micros: self.micros }
    }

    /// Mines blocks here, without telling the machine how: it learns of each as a tip change.
    pub fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            let time = i64::from(self.tree.tip().header.time) + 1_200;
            self.micros = self.micros.max(time * 1_000_000);
            let now = self.now().unix();
            for event in self.tree.extend(1, 0, now) {
                self.tip_changed(event);
            }
        }
    }

    pub fn tip_changed(&mut self, event: ChainEvent) {
        let now = self.now().unix();
        self.pool.follow(&event, now);
        self.event(Event::TipChanged { change: Arc::new(event) });
    }

    pub fn event(&mut self, event: Event) {
        let mut queue = VecDeque::from(self.sync.handle(self.now(), event, &self.tree, &self.pool));
        while let Some(action) = queue.pop_front() {
            let answers = self.perform(action);
            for answer in answers.into_iter().rev() {
                let actions = self.sync.handle(self.now(), answer, &self.tree, &self.pool);
                for action in actions.into_iter().rev() {
                    queue.push_front(action);
                }
            }
        }
    }

    fn perform(&mut self, action: Action) -> Vec<Event> {
        let now = self.now().unix();
        match action {
            Action::Send { peer, message: Message::Ping(nonce) } if self.answering.contains(&peer) => {
                return vec![Event::Message { peer, message: Message::Pong(Some(nonce)) }];
            }
            Action::Send { peer, message } => self.sent.push_back((peer, message)),
            Action::SendBlock { peer, hash, .. } => {
                let block = self.tree.block(&hash).unwrap();
                self.sent.push_back((peer, Message::Block(block)));
            }
            Action::LoadBlock { peer, hash } => {
                let block = self.tree.block(&hash).filter(|_| !self.unreadable);
                return vec![Event::BlockLoaded { peer, hash, block }];
            }
            Action::Disconnect { peer } => {
                self.disconnected.push(peer);
                return vec![Event::Disconnected { peer }];
            }
            Action::Discourage { peer } => {
                self.discouraged.push(peer);
                self.disconnected.push(peer);
                return vec![Event::Disconnected { peer }];
            }
            Action::SubmitHeaders { peer, headers, .. } => {
                let result = self.tree.accept_headers(&headers, now);
                return vec![Event::HeadersDone { peer, result }];
            }
            Action::CheckMutation { peer, block, check_witness_root } => {
                let result = ironpeer_sync::check_block_mutation(&block, check_witness_root);
                return vec![Event::MutationChecked { peer, block, result }];
            }
            Action::SubmitBlock { peer, block, force, min_pow_checked, .. } => {
                let hash = block.block_hash();
                let (outcome, change) = self.tree.accept_block(block, force, min_pow_checked, now);
                if self.latches && i64::from(self.tree.tip().header.time) > now - 24 * 60 * 60 {
                    self.tree.initial_download = false;
                }
                let mut events = vec![Event::BlockDone { peer, hash, outcome }];
                if let Some(change) = change {
                    self.pool.follow(&change, now);
                    events.insert(0, Event::TipChanged { change: Arc::new(change) });
                }
                // Handed in last first, see `event`.
                events.reverse();
                return events;
            }
            Action::SubmitTx { peer, tx } => {
                let result = self.pool.accept(&tx, now).map(|()| self.accepted());
                return vec![Event::TxDone { peer, tx, result }];
            }
            Action::SubmitPackage { peer, txs } => {
                let refused: Vec<_> =
                    txs.iter().map(|tx| self.pool.refused.remove(&tx.compute_wtxid())).collect();
                let mut results = Vec::new();
                for tx in &txs {
                    let result = self.pool.accept(tx, now).map(|()| self.accepted());
                    results.push((Arc::clone(tx), result));
                }
                let accepted = results.iter().all(|(_, result)| result.is_ok());
                for (tx, class) in txs.iter().zip(refused) {
                    if let Some(class) = class {
                        self.pool.refused.insert(tx.compute_wtxid(), class);
                    }
                }
                return vec![Event::PackageDone { peer, txs, accepted, results }];
            }
            Action::Continue { peer } => return vec![Event::Continue { peer }],
            Action::AskAddrs { peer, .. } => {
                let addrs = (0..10).map(|n| address(n, self.now().unix())).collect();
                return vec![Event::Addrs { peer, addrs }];
            }
            Action::Log(line) => self.log.push(line.text.into_owned()),
            other => self.other.push(other),
        }
        Vec::new()
    }

    fn accepted(&self) -> TxAccepted {
        TxAccepted { pool_txs: self.pool.len(), pool_bytes: 0 }
    }

    /// Opens a connection; nothing is said on it yet by the peer.
    pub fn open(&mut self, kind: ConnectionKind) -> PeerId {
        self.open_as(kind, Permissions::default())
    }

    pub fn open_as(&mut self, kind: ConnectionKind, permissions: Permissions) -> PeerId {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        let connection = Connection {
            kind,
            addr: service(peer.0 as u8),
            services: ServiceFlags::NONE,
            permissions,
            network_group: peer.0,
        };
        self.event(Event::Connected { peer, connection });
        peer
    }

    /// Opens a connection and shakes hands as a full node does. What was said is forgotten.
    pub fn connect(&mut self, kind: ConnectionKind) -> PeerId {
        self.connect_as(kind, Permissions::default())
    }

    pub fn connect_as(&mut self, kind: ConnectionKind, permissions: Permissions) -> PeerId {
        let peer = self.open_as(kind, permissions);
        self.answering.insert(peer);
        self.say(peer, Message::Version(version(full_node())));
        self.say(peer, Message::WtxidRelay);
        self.say(peer, Message::SendAddrV2);
        self.say(peer, Message::Verack);
        self.say(peer, Message::SendCmpct(SendCmpct { announce: 0, version: 2 }));
        self.sent.clear();
        peer
    }

    /// A peer says something.
    pub fn say(&mut self, peer: PeerId, message: Message) {
        self.event(Event::Message { peer, message });
    }

    /// Time passes, with a tick at its end.
    pub fn wait(&mut self, time: Duration) {
        self.micros += time.as_micros() as i64;
        self.event(Event::Tick);
    }

    pub fn wait_seconds(&mut self, seconds: u64) {
        self.wait(Duration::from_secs(seconds));
    }

    /// What was sent to a peer since this was last asked; what went to others stays.
    pub fn heard(&mut self, peer: PeerId) -> Vec<Message> {
        let (heard, rest): (Vec<_>, Vec<_>) = self.sent.drain(..).partition(|(to, _)| *to == peer);
        self.sent = rest.into();
        heard.into_iter().map(|(_, message)| message).collect()
    }

    pub fn names(&mut self, peer: PeerId) -> Vec<String> {
        self.heard(peer).iter().map(|message| message.command().to_string()).collect()
    }

    pub fn stats(&self, peer: PeerId) -> PeerStats {
        self.sync.peer_stats(self.now(), peer).unwrap()
    }

    pub fn logged(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }

    pub fn is_connected(&self, peer: PeerId) -> bool {
        self.sync.peer_stats(self.now(), peer).is_some()
    }

    /// The blocks asked of a peer in these messages.
    pub fn requested(messages: &[Message]) -> Vec<bitcoin::BlockHash> {
        messages
            .iter()
            .filter_map(|message| match message {
                Message::GetData(items) => Some(items),
                _ => None,
            })
            .flatten()
            .filter(|item| item.is_block())
            .map(|item| item.block_hash())
            .collect()
    }

    pub fn submit_local(&mut self, tx: &Arc<Transaction>) {
        let now = self.now().unix();
        self.pool.accept(tx, now).unwrap();
        self.event(Event::TxAdded { txid: tx.compute_txid(), wtxid: tx.compute_wtxid() });
    }
}

pub fn address(n: u8, time: i64) -> PeerAddress {
    PeerAddress {
        time: u32::try_from(time).unwrap(),
        services: full_node(),
        service: Service { address: NetAddress::Ipv4([9, 9, 9, n].into()), port: 8333 },
    }
}

pub fn headers_of(blocks: &[Arc<Block>]) -> Vec<bitcoin::block::Header> {
    blocks.iter().map(|block| block.header).collect()
}
