//! One node: protocol machine, chain and mempool, each without its shell. What the machine wants
//! done is done at once.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bitcoin::consensus::encode::serialize;
use bitcoin::{Block, Transaction, Txid, Work};
use ironpeer_chain::{Backends, ChainFollower, ChainView, Followed, InlineChain, Location, SubmitOptions};
use ironpeer_consensus::{InlineChecker, Params, ScriptCache};
use ironpeer_mempool::{InlineMempool, PackageTx, SubmitTx};
use ironpeer_mining::{Template, TemplateSource};
use ironpeer_primitives::{ChainRead, Clock, FixedClock, HeaderInfo, MempoolRead, NullLog, PeerId, TxReject};
use ironpeer_store::{Disk, MemDisk};
use ironpeer_sync::{Action, BlockOutcome, Config, Event, Now, Sync, TxAccepted};
use ironpeer_wire::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::wallet::anyone;

/// Bytes of a node's script cache.
const SCRIPT_CACHE: usize = 1 << 16;

/// What all nodes of a network have in common.
#[derive(Clone)]
pub struct World {
    pub params: Arc<Params>,
    pub clock: Arc<FixedClock>,
    pub pool: Arc<rayon::ThreadPool>,
    /// Least work of a chain worth following.
    pub minimum_chainwork: Work,
}

pub struct Node {
    world: World,
    sync: Sync,
    /// What outlives the node.
    backends: Backends,
    chain: InlineChain,
    pub view: ChainView,
    follower: ChainFollower,
    mempool: InlineMempool,
    rng: ChaCha12Rng,
    /// Messages to peers, in order.
    pub sent: Vec<(PeerId, Message)>,
    pub disconnected: Vec<PeerId>,
    pub discouraged: BTreeSet<PeerId>,
}

impl Node {
    pub fn new(seed: u64, world: &World) -> Self {
        Self::open(seed, world, Backends::in_memory())
    }

    /// A node on what an earlier one left.
    fn open(seed: u64, world: &World, backends: Backends) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let cache = Arc::new(ScriptCache::new(SCRIPT_CACHE, rng.r#gen()));
        let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as _;
        let mut config = ironpeer_chain::Config::in_memory(Arc::clone(&world.params));
        config.minimum_chainwork = world.minimum_chainwork;
        config.location = Location::Given(backends.clone());
        let chain = InlineChain::open(
            config,
            Arc::clone(&clock),
            Arc::new(NullLog),
            Arc::clone(&world.pool),
            Arc::new(InlineChecker::new(Arc::clone(&cache))),
        )
        .unwrap();
        let disk = Arc::new(MemDisk::new());
        disk.create_dir_all(Path::new("/")).unwrap();
        let view = chain.view();
        let parts = ironpeer_mempool::Parts {
            config: ironpeer_mempool::Config::default(),
            params: Arc::clone(&world.params),
            chain: Arc::new(view.clone()),
            clock,
            log: Arc::new(NullLog),
            pool: Arc::clone(&world.pool),
            checker: cache,
            disk,
        };
        let (follower, tip) = chain.events();
        Self {
            mempool: InlineMempool::new(parts, tip, view.tip_and_seq().1),
            sync: Sync::new(Config::new(Arc::clone(&world.params)), rng.r#gen()),
            world: world.clone(),
            backends,
            chain,
            view,
            follower,
            rng,
            sent: Vec::new(),
            disconnected: Vec::new(),
            discouraged: BTreeSet::new(),
        }
    }

    /// The node is killed and starts again on what it had written; its mempool is lost.
    pub fn restarted(mut self) -> Self {
        let (before, seed) = (self.tip(), self.rng.r#gen());
        let (world, backends) = (self.world.clone(), self.backends.clone());
        drop(self);
        let node = Self::open(seed, &world, backends);
        assert_eq!(node.tip().hash, before.hash, "a block that was acknowledged is lost");
        node
    }

    pub fn tip(&self) -> HeaderInfo {
        self.view.tip()
    }

    pub fn txids(&self) -> BTreeSet<Txid> {
        self.mempool.reader().all().into_iter().map(|entry| entry.txid).collect()
    }

    pub fn chain(&mut self) -> &mut InlineChain {
        &mut self.chain
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let now = Now::of(self.world.clock.as_ref());
        self.sync.handle(now, event, &self.view, self.mempool.reader())
    }

    /// Hands an event to the machine and does what comes of it, answers before what was left.
    pub fn event(&mut self, event: Event) {
        let mut queue = VecDeque::from(self.handle(event));
        while let Some(action) = queue.pop_front() {
            for answer in self.perform(action).into_iter().rev() {
                for action in self.handle(answer).into_iter().rev() {
                    queue.push_front(action);
                }
            }
        }
    }

    /// The tip changes since this was last asked, the mempool having applied them.
    fn tip_changes(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.follower.try_next() {
                Some(Followed::Event(change)) => {
                    self.mempool.apply(&change);
                    events.push(Event::TipChanged { change });
                }
                Some(other) => panic!("{other:?}"),
                None => return events,
            }
        }
    }

    fn accepted(&self) -> TxAccepted {
        let info = self.mempool.reader().info();
        TxAccepted { pool_txs: info.count, pool_bytes: info.usage as u64 }
    }

    fn perform(&mut self, action: Action) -> Vec<Event> {
        match action {
            Action::Send { peer, message } => self.sent.push((peer, message)),
            Action::SendBlock { peer, hash, witness } => {
                assert!(witness, "all of these peers know witnesses");
                self.sent.push((peer, Message::Block(self.view.block(&hash).unwrap())));
            }
            Action::LoadBlock { peer, hash } => {
                return vec![Event::BlockLoaded { peer, hash, block: self.view.block(&hash).ok() }];
            }
            Action::Disconnect { peer } => {
                self.disconnected.push(peer);
                return vec![Event::Disconnected { peer }];
            }
            Action::Discourage { peer } => {
                self.discouraged.insert(peer);
                self.disconnected.push(peer);
                return vec![Event::Disconnected { peer }];
            }
            Action::SubmitHeaders { peer, headers, min_pow_checked } => {
                let outcome = self.chain.submit_headers(&headers, min_pow_checked).unwrap();
                let result = match outcome.refused {
                    Some(refused) => Err(refused.reject),
                    None => Ok(outcome.last.unwrap()),
                };
                return vec![Event::HeadersDone { peer, result }];
            }
            Action::CheckMutation { peer, block, check_witness_root } => {
                let result = ironpeer_sync::check_block_mutation(&block, check_witness_root);
                return vec![Event::MutationChecked { peer, block, result }];
            }
            Action::SubmitBlock { peer, block, force, min_pow_checked, .. } => {
                let hash = block.block_hash();
                let options = SubmitOptions { force_processing: force, min_pow_checked };
                let outcome = self.chain.submit_block(block, options).unwrap();
                let done = BlockOutcome { new: outcome.new, result: outcome.result };
                let invalid = outcome.others_refused.into_iter();
                let mut events = vec![Event::BlockDone { peer, hash, outcome: done }];
                events.extend(invalid.map(|(hash, reject)| Event::BlockInvalid { hash, reject }));
                // Two tasks tell of these; either may be first.
                let changes = self.tip_changes();
                let at = if self.rng.r#gen() { 0 } else { events.len() };
                events.splice(at..at, changes);
                return events;
            }
            Action::SubmitTx { peer, tx } => {
                let result = self.submit(&tx);
                return vec![Event::TxDone { peer, tx, result }];
            }
            Action::SubmitPackage { peer, txs } => {
                let result = self.mempool.submit_package(&txs);
                let accepted = self.accepted();
                let verdicts = result.txs.into_iter().filter_map(|(wtxid, tx)| {
                    let verdict = match tx {
                        PackageTx::Accepted { .. } => Ok(accepted.clone()),
                        PackageTx::Refused(reject) => Err(reject),
                        PackageTx::AlreadyThere { .. } | PackageTx::OtherWitness(_) => return None,
                    };
                    let tx = txs.iter().find(|tx| tx.compute_wtxid() == wtxid)?;
                    Some((Arc::clone(tx), verdict))
                });
                let results = verdicts.collect();
                return vec![Event::PackageDone { peer, txs, accepted: result.error.is_none(), results }];
            }
            Action::Continue { peer } => return vec![Event::Continue { peer }],
            Action::AskAddrs { peer, .. } => return vec![Event::Addrs { peer, addrs: Vec::new() }],
            Action::Broadcast { txid } => self.mempool.reader().remove_unbroadcast(&txid),
            // What only an address manager, a log or a connection manager would do.
            Action::AddAddrs { .. }
            | Action::MarkGood { .. }
            | Action::MarkConnected { .. }
            | Action::SetServices { .. }
            | Action::SeenLocal { .. }
            | Action::TryExtraOutbound(_)
            | Action::StartExtraBlockRelay
            | Action::SendFilters { .. }
            | Action::Log(_) => {}
        }
        Vec::new()
    }

    fn submit(&self, tx: &Arc<Transaction>) -> Result<TxAccepted, TxReject> {
        self.mempool.submit_tx(tx, SubmitTx::default()).map(|_| self.accepted())
    }

    /// A transaction made here.
    pub fn submit_local(&mut self, tx: &Arc<Transaction>) -> Result<(), TxReject> {
        self.submit(tx)?;
        self.event(Event::TxAdded { txid: tx.compute_txid(), wtxid: tx.compute_wtxid() });
        Ok(())
    }

    /// A block on the tip with all of the mempool, not yet solved. `tag` tells rivals apart.
    pub fn template(&self, tag: u64) -> Template {
        let (view, chunks) = self.mempool.reader().chunks();
        let chain = self.view.ancestry(&view.tip.hash).unwrap();
        let mut template = Template::assemble(&TemplateSource {
            params: &self.world.params,
            config: &ironpeer_mining::Config::default(),
            parent: view.tip,
            chain: &chain,
            version: 0x2000_0000,
            now: self.world.clock.unix(),
            coinbase_script: &anyone(),
            chunks: &chunks,
            transactions_updated: view.transactions_updated,
        })
        .unwrap();
        template.set_extra_nonce(tag);
        template
    }

    /// Takes a block that was found here.
    pub fn found(&mut self, block: Block) {
        let outcome = self.chain.submit_block(Arc::new(block), SubmitOptions::WANTED).unwrap();
        outcome.result.unwrap();
        assert!(outcome.new);
        for change in self.tip_changes() {
            self.event(change);
        }
    }

    /// The bytes of the active chain's blocks above genesis.
    pub fn active_chain(&self) -> Vec<Vec<u8>> {
        let heights = 1..=self.tip().height.0;
        heights
            .map(|height| {
                let at = self.view.active_at(ironpeer_primitives::Height(height)).unwrap();
                serialize(self.view.block(&at.hash).unwrap().as_ref())
            })
            .collect()
    }
}
