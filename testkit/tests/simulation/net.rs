//! The network between the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, BlockHash, Txid, Work, Wtxid};
use ironpeer_chain::{ChainTipStatus, InlineChain, SubmitOptions, UtxoHashKind};
use ironpeer_consensus::{InlineChecker, Params, RegtestOptions, ScriptCache, decode_block};
use ironpeer_primitives::{ChainRead, Clock, FixedClock, NullLog, PeerId};
use ironpeer_sync::{Connection, ConnectionKind, Event, Permissions};
use ironpeer_testkit::consensus::solve;
use ironpeer_wire::{Inventory, Message, Service};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::faults::{Lie, break_block, low_work_headers, mutate};
use crate::node::{Node, World};
use crate::wallet::{FEE, Purse, outputs, spend};

pub const SECOND: i64 = 1_000_000;
/// Microseconds between ticks, unless a test needs it finer or no finer.
const TICK: i64 = SECOND / 2;
/// Blocks a node must hold before its coins are spent, and one with coins for everybody.
const FUNDING_BLOCKS: u32 = 101;
/// Coins made for payments.
const COINS: u64 = 160;

/// What a node does to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Honest,
    /// Announces and promises, and never delivers a block or transaction.
    Stalls,
    /// Delivers other blocks, headers and announcements than it has, and makes invalid ones.
    Lies,
}

/// A connection wanted between two nodes; the first opens it.
struct Link {
    ends: [usize; 2],
    /// Its number at either end while it is up.
    peers: Option<[PeerId; 2]>,
    /// A message was lost without which it cannot go on.
    broken: bool,
    /// Not opened again before.
    retry_at: i64,
    /// One end wants no more of the other.
    given_up: bool,
    /// The last message under way in each direction arrives then.
    busy_until: [i64; 2],
}

/// A message under way: its connection, that connection's opening, and who sent it.
type Delivery = (usize, [PeerId; 2], usize, Message);

/// Whether a message is said once on a connection, so that without it all that follows means
/// something else. TCP never loses one in the middle of others: the connection breaks.
fn is_said_once(message: &Message) -> bool {
    matches!(
        message,
        Message::Version(_)
            | Message::Verack
            | Message::WtxidRelay
            | Message::SendAddrV2
            | Message::SendHeaders
            | Message::SendCmpct(_)
            | Message::FeeFilter(_)
    )
}

pub struct Net {
    world: World,
    pub nodes: Vec<Node>,
    roles: Vec<Role>,
    links: Vec<Link>,
    /// Messages under way by time of arrival.
    under_way: BTreeMap<(i64, u64), Delivery>,
    /// Messages sent so far.
    pub sequence: u64,
    rng: ChaCha12Rng,
    /// Microseconds between ticks.
    pub tick: i64,
    /// Microseconds a message takes.
    pub delays: Range<i64>,
    /// What nodes may do at the nodes that connect to them, and they at these.
    pub permissions: Permissions,
    /// Number of the one message that is lost.
    pub lose: Option<u64>,
    /// Share of messages lost.
    pub loss: f64,
    /// Chance a second that a connection breaks.
    pub resets: f64,
    /// Nodes on one side of a cut.
    pub cut: BTreeSet<usize>,
    /// Confirmed coins nobody has spent.
    coins: Vec<Purse>,
    /// What payments were made of and made, with the node they were made at.
    payments: Vec<(usize, Purse, Purse)>,
    blocks: u64,
    /// Invalid blocks of liars, and headers nobody should keep.
    forged: BTreeMap<BlockHash, Arc<Block>>,
    unworthy: Vec<BlockHash>,
    lies: usize,
    /// Connections between honest nodes that ended.
    breaks: u64,
    spoken: sha256::HashEngine,
}

impl Net {
    /// A chain must have the work of `worthy` blocks to be worth following.
    pub fn new(seed: u64, roles: Vec<Role>, edges: Vec<[usize; 2]>, worthy: u32) -> Self {
        let params = Arc::new(Params::regtest(RegtestOptions::default()));
        let work = params.genesis.header.work();
        let world = World {
            clock: Arc::new(FixedClock::at(i64::from(params.genesis.header.time) + 30 * 24 * 60 * 60)),
            pool: Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap()),
            minimum_chainwork: (1..worthy).fold(work, |sum: Work, _| sum + work),
            params,
        };
        let nodes = (0..roles.len() as u64).map(|n| Node::new(seed.wrapping_mul(1_000) + n, &world));
        let link = |ends| Link {
            ends,
            peers: None,
            broken: false,
            retry_at: 0,
            given_up: false,
            busy_until: [0; 2],
        };
        Self {
            nodes: nodes.collect(),
            world,
            roles,
            links: edges.into_iter().map(link).collect(),
            under_way: BTreeMap::new(),
            sequence: 0,
            rng: ChaCha12Rng::seed_from_u64(seed),
            tick: TICK,
            delays: 5_000..400_000,
            permissions: Permissions::default(),
            lose: None,
            loss: 0.0,
            resets: 0.0,
            cut: BTreeSet::new(),
            coins: Vec::new(),
            payments: Vec::new(),
            blocks: 0,
            forged: BTreeMap::new(),
            unworthy: Vec::new(),
            lies: 0,
            breaks: 0,
            spoken: sha256::Hash::engine(),
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.world.clock.unix_micros()
    }

    /// Lets time pass with nothing happening.
    pub fn pass(&self, micros: i64) {
        self.world.clock.advance(Duration::from_micros(micros.unsigned_abs()));
    }

    fn pass_until(&self, micros: i64) {
        self.pass((micros - self.now()).max(0));
    }

    pub fn all_of(&self, role: Role) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.roles[*n] == role).collect()
    }

    pub fn honest(&self) -> Vec<usize> {
        self.all_of(Role::Honest)
    }

    /// The one of these nodes whose chain has the most work.
    pub fn best_of(&self, nodes: &[usize]) -> usize {
        *nodes.iter().max_by_key(|n| self.nodes[**n].tip().chainwork).unwrap()
    }

    fn is_cut(&self, link: usize) -> bool {
        let [a, b] = self.links[link].ends;
        self.cut.contains(&a) != self.cut.contains(&b)
    }

    fn open(&mut self, link: usize) {
        let ends = self.links[link].ends;
        let sequence = self.sequence;
        self.sequence += 1;
        let peers = [PeerId(sequence * 2), PeerId(sequence * 2 + 1)];
        self.links[link].peers = Some(peers);
        self.links[link].busy_until = [self.now(); 2];
        for end in [0, 1] {
            let kind = if end == 0 { ConnectionKind::OutboundFullRelay } else { ConnectionKind::Inbound };
            let other = ends[1 - end];
            let connection = Connection {
                kind,
                addr: Service::from(std::net::SocketAddr::from(([8, 8, 4, other as u8], 8333))),
                services: ServiceFlags::NONE,
                permissions: self.permissions,
                network_group: other as u64,
            };
            self.nodes[ends[end]].event(Event::Connected { peer: peers[end], connection });
        }
        self.collect();
    }

    /// Takes a connection down at both ends.
    fn close(&mut self, link: usize) {
        let Some(peers) = self.links[link].peers.take() else { return };
        self.breaks += u64::from(self.links[link].ends.iter().all(|n| self.roles[*n] == Role::Honest));
        self.links[link].broken = false;
        self.links[link].retry_at = self.now() + self.rng.gen_range(1..6) * SECOND;
        for (end, peer) in peers.into_iter().enumerate() {
            let n = self.links[link].ends[end];
            self.nodes[n].event(Event::Disconnected { peer });
        }
        self.collect();
    }

    /// Puts what the nodes said on its way, and carries out whom they dropped.
    fn collect(&mut self) {
        let mut closed = BTreeSet::new();
        for n in 0..self.nodes.len() {
            for peer in std::mem::take(&mut self.nodes[n].disconnected) {
                let discouraged = self.nodes[n].discouraged.contains(&peer);
                let found = self.links.iter().position(|link| {
                    link.peers.is_some_and(|peers| {
                        link.ends.iter().zip(peers).any(|(end, id)| *end == n && id == peer)
                    })
                });
                if let Some(link) = found {
                    self.links[link].given_up |= discouraged;
                    closed.insert(link);
                }
            }
            for (peer, message) in std::mem::take(&mut self.nodes[n].sent) {
                let found = self.links.iter().enumerate().find_map(|(index, link)| {
                    let peers = link.peers?;
                    let end = (0..2).find(|end| link.ends[*end] == n && peers[*end] == peer)?;
                    Some((index, peers, end))
                });
                let Some((link, peers, from)) = found else { continue };
                for message in self.twist(n, message) {
                    self.put_under_way(link, peers, from, message);
                }
            }
        }
        for link in closed {
            self.close(link);
        }
    }

    fn put_under_way(&mut self, link: usize, peers: [PeerId; 2], from: usize, message: Message) {
        let number = self.sequence;
        self.sequence += 1;
        if self.rng.gen_bool(self.loss) || self.lose == Some(number) {
            self.links[link].broken |= is_said_once(&message);
            return;
        }
        // One after the other on each connection.
        let delay = self.rng.gen_range(self.delays.clone());
        let arrives = (self.now() + delay).max(self.links[link].busy_until[from] + 1);
        self.links[link].busy_until[from] = arrives;
        self.under_way.insert((arrives, number), (link, peers, from, message));
    }

    /// What really leaves a node that stalls or lies.
    fn twist(&mut self, n: usize, message: Message) -> Vec<Message> {
        match (self.roles[n], message) {
            (Role::Stalls, Message::Block(_) | Message::Tx(_)) => vec![],
            (Role::Lies, Message::Block(block)) if self.rng.gen_bool(0.7) => {
                vec![Message::Block(Arc::new(mutate(&block, &mut self.rng)))]
            }
            (Role::Lies, Message::Headers(mut headers)) if headers.len() > 1 && self.rng.gen_bool(0.1) => {
                headers.swap_remove(0);
                vec![Message::Headers(headers)]
            }
            (Role::Lies, Message::Inv(mut items)) => {
                let fake: [u8; 32] = self.rng.r#gen();
                items.push(Inventory::wtx(Wtxid::from_byte_array(fake)));
                items.push(Inventory::block(BlockHash::from_byte_array(fake)));
                vec![Message::Inv(items)]
            }
            (_, message) => vec![message],
        }
    }

    /// A liar tells all its peers something it made up.
    pub fn tell(&mut self, liar: usize, lie: Lie) {
        self.lies += 1;
        let message = if lie == Lie::LowWork {
            let headers = low_work_headers(&self.world.params, 10, &mut self.rng);
            self.unworthy.extend(headers.iter().map(bitcoin::block::Header::block_hash));
            Message::Headers(headers)
        } else {
            self.blocks += 1;
            let mut block = self.nodes[liar].template(self.blocks).block;
            break_block(&mut block, lie, self.coins.first().copied(), &self.world.params);
            let (header, block) = (block.header, Arc::new(block));
            self.forged.insert(header.block_hash(), Arc::clone(&block));
            if self.rng.r#gen() { Message::Headers(vec![header]) } else { Message::Block(block) }
        };
        for link in 0..self.links.len() {
            let Some(peers) = self.links[link].peers else { continue };
            if let Some(from) = (0..2).find(|end| self.links[link].ends[*end] == liar) {
                self.put_under_way(link, peers, from, message.clone());
            }
        }
    }

    /// Lies that cost work, told so far.
    pub fn lies_told(&self) -> usize {
        self.lies
    }

    /// Hands over one message, as bytes.
    fn deliver(&mut self, link: usize, peers: [PeerId; 2], from: usize, message: &Message) {
        let to = 1 - from;
        let n = self.links[link].ends[to];
        let mut payload = Vec::new();
        message.encode_payload(&mut payload);
        self.spoken.input(&self.now().to_le_bytes());
        self.spoken.input(&payload);
        if let (Role::Lies, Message::GetData(items)) = (self.roles[n], message) {
            for item in items {
                if let Some(block) = self.forged.get(&item.block_hash()).filter(|_| item.is_block()) {
                    let block = Message::Block(Arc::clone(block));
                    self.put_under_way(link, peers, to, block);
                }
            }
        }
        let message = Message::decode(message.command(), payload);
        self.nodes[n].event(Event::Message { peer: peers[to], message });
        self.collect();
    }

    pub fn step(&mut self) {
        let until = self.now() + self.tick;
        while let Some((&(time, _), _)) = self.under_way.first_key_value() {
            if time > until {
                break;
            }
            let Some((_, (link, peers, from, message))) = self.under_way.pop_first() else { break };
            self.pass_until(time);
            if self.links[link].peers == Some(peers) {
                self.deliver(link, peers, from, &message);
            }
        }
        self.pass_until(until);
        for link in 0..self.links.len() {
            let state = &self.links[link];
            if state.peers.is_some() {
                let ends = self.is_cut(link) || state.broken;
                if ends || self.rng.gen_bool(self.resets * self.tick as f64 / SECOND as f64) {
                    self.close(link);
                }
            } else if !state.given_up && state.retry_at <= self.now() && !self.is_cut(link) {
                self.open(link);
            }
        }
        for node in &mut self.nodes {
            node.event(Event::Tick);
        }
        self.collect();
    }

    pub fn run(&mut self, seconds: i64) {
        let end = self.now() + seconds * SECOND;
        while self.now() < end {
            self.step();
        }
    }

    /// A node is killed and comes back.
    pub fn restart(&mut self, n: usize) {
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&n) {
                self.close(link);
            }
        }
        let node = self.nodes.remove(n).restarted();
        self.nodes.insert(n, node);
    }

    /// A node finds a block with all of its mempool.
    pub fn mine(&mut self, n: usize) {
        self.blocks += 1;
        let mut block = self.nodes[n].template(self.blocks).block;
        solve(&mut block.header, &self.world.params);
        self.nodes[n].found(block);
        self.collect();
    }

    /// A node mines until it can make coins for everybody, and makes them.
    pub fn fund(&mut self, n: usize) {
        for _ in 0..FUNDING_BLOCKS {
            self.pass(60 * SECOND);
            self.mine(n);
        }
        let first = self.nodes[n].view.active_at(ironpeer_primitives::Height(1)).unwrap();
        let block = self.nodes[n].view.block(&first.hash).unwrap();
        let coinbase = outputs(&block.txdata[0])[0];
        let share = coinbase.1 / COINS - 100;
        let funding = spend(&[coinbase], &vec![share; COINS as usize]);
        self.nodes[n].submit_local(&funding).unwrap();
        self.pass(60 * SECOND);
        self.mine(n);
        assert!(self.nodes[n].txids().is_empty());
        self.coins = outputs(&funding);
    }

    fn submit(&mut self, n: usize, from: Purse, fee: u64) -> Option<Txid> {
        // Two outputs, so that a payment can be spent twice over.
        let half = (from.1 - fee) / 2;
        let payment = spend(&[from], &[half, from.1 - fee - half]);
        let taken = self.nodes[n].submit_local(&payment).is_ok();
        self.collect();
        if !taken {
            return None;
        }
        self.payments.push((n, from, outputs(&payment)[0]));
        Some(payment.compute_txid())
    }

    /// A node pays out of a confirmed coin, or out of the last payment it made. None if it does
    /// not know the coin yet.
    pub fn pay(&mut self, n: usize) -> Option<Txid> {
        let last = self.payments.iter().rposition(|(at, _, _)| *at == n);
        if let Some(last) = last
            && self.rng.gen_bool(0.4)
        {
            let made = self.payments[last].2;
            if self.nodes[n].txids().contains(&made.0.txid) {
                return self.submit(n, made, FEE);
            }
        }
        let coin = self.coins.pop()?;
        let paid = self.submit(n, coin, FEE);
        if paid.is_none() {
            self.coins.insert(0, coin);
        }
        paid
    }

    /// Two nodes spend the same coin at the same moment, one of them perhaps for more.
    pub fn pay_twice(&mut self, a: usize, b: usize) {
        let Some(coin) = self.coins.pop() else { return };
        let more = *[FEE, FEE + 1, 10 * FEE].choose(&mut self.rng).unwrap();
        let first = self.submit(a, coin, FEE);
        let second = self.submit(b, coin, more);
        if first.is_none() && second.is_none() {
            self.coins.insert(0, coin);
        }
    }

    fn tips(&self) -> BTreeSet<BlockHash> {
        self.honest().into_iter().map(|n| self.nodes[n].tip().hash).collect()
    }

    /// Runs until the honest nodes have one tip.
    pub fn settle(&mut self, most_seconds: i64, what: &str) {
        let end = self.now() + most_seconds * SECOND;
        while self.tips().len() > 1 {
            let heights: Vec<u32> = self.honest().iter().map(|n| self.nodes[*n].tip().height.0).collect();
            assert!(self.now() < end, "{what}: no common tip after {most_seconds} s: {heights:?}");
            self.step();
        }
    }

    /// Pays at these nodes, one a second, and runs until every honest node has all of it. A
    /// round in which a connection ended counts for nothing: what was announced before there was
    /// a connection is not announced again on it. What such a round left is mined.
    pub fn pay_everybody(&mut self, payers: &[usize], most_seconds: i64) -> BTreeSet<Txid> {
        loop {
            let breaks = self.breaks;
            let mut paid = BTreeSet::new();
            for n in payers {
                paid.extend(self.pay(*n));
                self.run(1);
            }
            assert!(!paid.is_empty());
            let missing = self.spread(&paid, most_seconds);
            if missing.is_empty() {
                return paid;
            }
            assert!(self.breaks > breaks, "payments do not spread: {missing:?}");
            self.mine_all_mempools();
        }
    }

    /// Mines until no honest node holds a transaction that it could mine.
    pub fn mine_all_mempools(&mut self) {
        for n in self.honest() {
            if !self.nodes[n].txids().is_empty() {
                self.mine(n);
                self.settle(3_600, "after emptying a mempool");
            }
        }
        self.assert_mempools(&BTreeSet::new());
    }

    /// Runs until every honest node has these transactions; at the end, who lacks how many.
    fn spread(&mut self, paid: &BTreeSet<Txid>, most_seconds: i64) -> Vec<(usize, usize)> {
        let end = self.now() + most_seconds * SECOND;
        loop {
            let missing = |n: &usize| paid.difference(&self.nodes[*n].txids()).count();
            let mut missing: Vec<(usize, usize)> = self.honest().iter().map(|n| (*n, missing(n))).collect();
            missing.retain(|(_, count)| *count > 0);
            if missing.is_empty() || self.now() >= end {
                return missing;
            }
            self.step();
        }
    }

    /// Every honest node's mempool holds exactly these.
    pub fn assert_mempools(&self, txids: &BTreeSet<Txid>) {
        for n in self.honest() {
            assert_eq!(self.nodes[n].txids(), *txids, "mempool of node {n}");
        }
    }

    /// Every honest node has the coins that a node would have which saw only the winning chain,
    /// holds no lie on its chain, and kept no header of too little work.
    pub fn assert_one_coin_set(&mut self) {
        let honest = self.honest();
        let mut fresh = InlineChain::open(
            ironpeer_chain::Config::in_memory(Arc::clone(&self.world.params)),
            Arc::clone(&self.world.clock) as Arc<dyn Clock>,
            Arc::new(NullLog),
            Arc::clone(&self.world.pool),
            Arc::new(InlineChecker::new(Arc::new(ScriptCache::new(0, [0; 32])))),
        )
        .unwrap();
        for bytes in self.nodes[honest[0]].active_chain() {
            let block = Arc::new(decode_block(&bytes).unwrap());
            fresh.submit_block(block, SubmitOptions::WANTED).unwrap().result.unwrap();
        }
        let wanted = fresh.utxo_set_info(UtxoHashKind::Muhash).unwrap();
        for n in honest {
            let node = &mut self.nodes[n];
            let mut info = node.chain().utxo_set_info(UtxoHashKind::Muhash).unwrap();
            (info.block, info.disk_size) = (wanted.block, wanted.disk_size);
            assert_eq!(info, wanted, "coins of node {n}");
            for hash in self.forged.keys() {
                assert!(node.view.header(hash).is_none_or(|info| !info.active && !info.fully_valid));
            }
            assert!(self.unworthy.iter().all(|hash| node.view.header(hash).is_none()));
            for tip in node.view.chain_tips() {
                let invalid = tip.status == ChainTipStatus::Invalid;
                assert!(!invalid || self.forged.contains_key(&tip.header.hash), "{tip:?}");
            }
        }
    }

    /// A digest of everything that was said, and when.
    pub fn digest(&self) -> [u8; 32] {
        sha256::Hash::from_engine(self.spoken.clone()).to_byte_array()
    }
}
