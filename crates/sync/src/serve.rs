use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::{Block, BlockHash, Transaction};
use ironpeer_consensus::block_proof_equivalent_time;
use ironpeer_primitives::{HeaderInfo, LogCategory, PeerId};
use ironpeer_wire::{BlockTxn, BlockTxnRequest, CompactBlock, InvType, Inventory, Locator, Message};
use rand::RngCore;

use crate::event::Action;
use crate::limits::{
    HISTORICAL_BLOCK_AGE, MAX_BLOCKTXN_DEPTH, MAX_CMPCTBLOCK_DEPTH, MAX_GETBLOCKS_RESULTS,
    MAX_GETDATA_REPLY_BYTES, MAX_HEADERS_RESULTS, MAX_INV_SIZE, MAX_LOCATOR_SIZE,
    NODE_NETWORK_LIMITED_MIN_BLOCKS, STALE_RELAY_AGE_LIMIT,
};
use crate::peer::{KnownBlock, LoadFor};
use crate::{Cx, Sync};

/// A transaction as those see it who do not know of witnesses.
fn without_witness(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.witness.clear();
    }
    tx
}

fn hash_or_end(hash: &BlockHash) -> String {
    if *hash == BlockHash::all_zeros() { "end".to_owned() } else { hash.to_string() }
}

impl Sync {
    /// Stale blocks are served only if they are recent, in time and in work, and valid: which
    /// old ones we have would tell us from other nodes (Core's `BlockRequestAllowed`).
    pub(crate) fn block_request_allowed(&self, cx: &Cx<'_>, block: &HeaderInfo) -> bool {
        if block.active {
            return true;
        }
        let best = cx.chain.best_header();
        let limit = STALE_RELAY_AGE_LIMIT.as_secs() as i64;
        let age = i64::from(best.header.time) - i64::from(block.header.time);
        let work_age = block_proof_equivalent_time(
            best.chainwork,
            block.chainwork,
            best.header.work(),
            &self.config.params,
        );
        block.fully_valid && !block.failed && age < limit && work_age < limit
    }

    pub(crate) fn on_getdata(&mut self, cx: &mut Cx<'_>, id: PeerId, wanted: Vec<Inventory>) {
        if wanted.len() > MAX_INV_SIZE {
            self.misbehaving(cx, id, &format!("getdata message size = {}", wanted.len()));
            return;
        }
        cx.debug(LogCategory::Net, || format!("received getdata ({} invsz) peer={id}", wanted.len()));
        if let Some(first) = wanted.first() {
            cx.debug(LogCategory::Net, || format!("received getdata for: {first} peer={id}"));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.getdata.extend(wanted);
        }
    }

    /// Answers requests: transactions in batches, blocks one at a time. What does not fit waits
    /// for the send queue.
    pub(crate) fn process_getdata(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let mut not_found = Vec::new();
        let mut bytes = 0;
        loop {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            if peer.paused || peer.loading.is_some() || bytes > MAX_GETDATA_REPLY_BYTES {
                break;
            }
            let Some(item) = peer.take_request(Inventory::is_transaction) else { break };
            match self.find_tx(cx, id, &item) {
                Some(Some(tx)) => {
                    bytes += tx.total_size();
                    let txid = tx.compute_txid();
                    let tx = if item.kind == InvType::TX { Arc::new(without_witness(&tx)) } else { tx };
                    self.send(cx, id, Message::Tx(tx));
                    cx.push(Action::Broadcast { txid });
                }
                Some(None) => not_found.push(item),
                None => {}
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.paused && peer.loading.is_none() && bytes <= MAX_GETDATA_REPLY_BYTES {
            // Unknown types are dropped at once: 50,000 of them cost no more than one
            // (CVE-2024-52920).
            while peer.take_request(|item| !item.is_transaction() && !item.is_block()).is_some() {}
            if let Some(item) = peer.take_request(Inventory::is_block) {
                self.serve_block(cx, id, &item);
            }
        }
        if !not_found.is_empty() {
            self.send(cx, id, Message::NotFound(not_found));
        }
        let Some(peer) = self.peers.get(&id) else { return };
        if !peer.getdata.is_empty() && !peer.paused && peer.loading.is_none() && !peer.disconnecting {
            cx.push(Action::Continue { peer: id });
        }
    }

    /// A transaction the peer may have: one that was in the mempool when it was last told of
    /// transactions, or one of the last block. `None` if it gets no transactions at all.
    fn find_tx(&self, cx: &Cx<'_>, id: PeerId, item: &Inventory) -> Option<Option<Arc<Transaction>>> {
        let relay = self.peers.get(&id)?.tx_relay.as_ref()?;
        let entry = if item.kind == InvType::WTX {
            cx.pool.by_wtxid(&item.wtxid())
        } else {
            cx.pool.by_txid(&item.txid())
        };
        let from_pool = entry.filter(|entry| entry.sequence < relay.last_sequence).map(|entry| entry.tx);
        Some(from_pool.or_else(|| {
            let recent = self.recent_block.as_ref()?;
            let position = *recent.positions.get(&item.hash)?;
            recent.block.txdata.get(position).cloned().map(Arc::new)
        }))
    }

    fn serve_block(&mut self, cx: &mut Cx<'_>, id: PeerId, item: &Inventory) {
        let hash = item.block_hash();
        let Some(block) = cx.chain.header(&hash) else { return };
        if !self.block_request_allowed(cx, &block) {
            cx.debug(LogCategory::Net, || {
                format!("ProcessGetBlockData: ignoring request from peer={id} for old block that isn't in the main chain")
            });
            return;
        }
        let Some(peer) = self.peers.get(&id) else { return };
        let age = i64::from(cx.chain.best_header().header.time) - i64::from(block.header.time);
        let historical = age > HISTORICAL_BLOCK_AGE || item.kind == InvType::FILTERED_BLOCK;
        if self.upload.historical_reached && historical && !peer.connection.permissions.download {
            self.drop_peer(cx, id, "historical block serving limit reached");
            return;
        }
        let tip = cx.chain.tip();
        let pruned = peer.our_services.has(ServiceFlags::NETWORK_LIMITED)
            && !peer.our_services.has(ServiceFlags::NETWORK);
        let depth = i64::from(tip.height.0) - i64::from(block.height.0);
        if pruned
            && !peer.connection.permissions.no_ban
            && depth > i64::from(NODE_NETWORK_LIMITED_MIN_BLOCKS) + 2
        {
            self.drop_peer(cx, id, "Ignore block request below NODE_NETWORK_LIMITED threshold");
            return;
        }
        if !block.has_data {
            return;
        }
        match item.kind {
            InvType::BLOCK => cx.push(Action::SendBlock { peer: id, hash, witness: false }),
            InvType::CMPCT_BLOCK if self.can_direct_fetch(cx) && depth <= i64::from(MAX_CMPCTBLOCK_DEPTH) => {
                self.with_block(cx, id, hash, LoadFor::Compact);
            }
            InvType::WITNESS_BLOCK | InvType::CMPCT_BLOCK => {
                cx.push(Action::SendBlock { peer: id, hash, witness: true });
            }
            // Without a filter there is nothing to answer.
            _ => {
                let relay = peer.tx_relay.as_ref();
                if relay.is_some_and(|relay| relay.filter.is_some()) {
                    self.with_block(cx, id, hash, LoadFor::Filtered);
                }
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.continuation == Some(hash) {
            // Right behind the last block of a batch: makes the peer ask for the next.
            peer.continuation = None;
            self.send(cx, id, Message::Inv(vec![Inventory::block(tip.hash)]));
        }
    }

    /// Goes on with a block at hand, or has it read first.
    pub(crate) fn with_block(&mut self, cx: &mut Cx<'_>, id: PeerId, hash: BlockHash, purpose: LoadFor) {
        let recent = self.recent_block.as_ref().filter(|recent| recent.hash == hash);
        if let Some(block) = recent.map(|recent| Arc::clone(&recent.block)) {
            self.use_block(cx, id, &block, hash, &purpose);
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.loading.is_none() {
            peer.loading = Some((hash, purpose));
            cx.push(Action::LoadBlock { peer: id, hash });
        }
    }

    pub(crate) fn on_block_loaded(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        hash: BlockHash,
        block: Option<Arc<Block>>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some((_, purpose)) = peer.loading.take_if(|(wanted, _)| *wanted == hash) else { return };
        match block {
            Some(block) => self.use_block(cx, id, &block, hash, &purpose),
            None => {
                let text = self.disconnect_msg(id);
                cx.error(format!("Cannot load block from disk, {text}"));
                self.disconnect(cx, id);
            }
        }
    }

    fn use_block(&mut self, cx: &mut Cx<'_>, id: PeerId, block: &Block, hash: BlockHash, purpose: &LoadFor) {
        match purpose {
            LoadFor::Compact | LoadFor::Announce => {
                let compact = CompactBlock::from_block(block, self.rng.next_u64());
                self.send(cx, id, Message::CmpctBlock(compact));
            }
            LoadFor::Filtered => {
                let relay = self.peers.get_mut(&id).and_then(|peer| peer.tx_relay.as_mut());
                let Some(filter) = relay.and_then(|relay| relay.filter.as_mut()) else { return };
                let (reduced, places) = filter.reduce(block);
                self.send(cx, id, Message::MerkleBlock(reduced));
                // The client would have to ask for them anyway.
                for tx in places.into_iter().filter_map(|place| block.txdata.get(place)) {
                    self.send(cx, id, Message::Tx(Arc::new(without_witness(tx))));
                }
            }
            LoadFor::Transactions(indexes) => {
                let txs: Option<Vec<_>> = indexes
                    .iter()
                    .map(|index| block.txdata.get(usize::from(*index)).cloned().map(Arc::new))
                    .collect();
                let Some(txs) = txs else {
                    self.misbehaving(cx, id, "getblocktxn with out-of-bounds tx indices");
                    return;
                };
                let log_peer = self.log_peer(id);
                cx.debug(LogCategory::CmpctBlock, || {
                    format!(
                        "{log_peer} sent us a GETBLOCKTXN for block {hash}, sending a BLOCKTXN with {} txns. ({} bytes)",
                        txs.len(),
                        txs.iter().map(|tx| tx.total_size()).sum::<usize>()
                    )
                });
                self.send(cx, id, Message::BlockTxn(BlockTxn { block_hash: hash, txs }));
            }
        }
    }

    pub(crate) fn on_getblocktxn(&mut self, cx: &mut Cx<'_>, id: PeerId, request: BlockTxnRequest) {
        let hash = request.block_hash;
        let info = cx.chain.header(&hash).filter(|info| info.has_data);
        let Some(info) = info else {
            cx.debug(LogCategory::Net, || {
                format!("Peer {id} sent us a getblocktxn for a block we don't have")
            });
            return;
        };
        if i64::from(cx.chain.tip().height.0) - i64::from(info.height.0) <= i64::from(MAX_BLOCKTXN_DEPTH) {
            self.with_block(cx, id, hash, LoadFor::Transactions(request.indexes));
            return;
        }
        // The whole block: whoever makes us read much shall have to receive as much.
        cx.debug(LogCategory::Net, || {
            format!("Peer {id} sent us a getblocktxn for a block > {MAX_BLOCKTXN_DEPTH} deep")
        });
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.getdata.push_back(Inventory::witness_block(hash));
        }
    }

    /// Whether a locator is too long; the peer is dropped then.
    fn refuse_locator(&mut self, cx: &mut Cx<'_>, id: PeerId, name: &str, locator: &Locator) -> bool {
        let size = locator.hashes.len();
        if size > MAX_LOCATOR_SIZE {
            self.drop_peer(cx, id, &format!("{name} locator size {size} > {MAX_LOCATOR_SIZE}"));
        }
        size > MAX_LOCATOR_SIZE
    }

    pub(crate) fn on_getblocks(&mut self, cx: &mut Cx<'_>, id: PeerId, locator: &Locator) {
        if self.refuse_locator(cx, id, "getblocks", locator) {
            return;
        }
        let mut next = cx.chain.active_at(cx.chain.find_fork(&locator.hashes).height.next());
        cx.debug(LogCategory::Net, || {
            let from = next.map_or(-1, |block| i64::from(block.height.0));
            let stop = hash_or_end(&locator.stop);
            format!("getblocks {from} to {stop} limit {MAX_GETBLOCKS_RESULTS} from peer={id}")
        });
        // A pruned node announces what it will still have when the peer asks, an hour from now.
        let hour = u32::try_from(3_600 / self.config.params.pow_target_spacing.max(1)).unwrap_or(0);
        let likely = NODE_NETWORK_LIMITED_MIN_BLOCKS.saturating_sub(hour);
        let too_old = cx.chain.tip().height.0.checked_sub(likely).filter(|_| self.config.pruned);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mut left = MAX_GETBLOCKS_RESULTS;
        while let Some(block) = next {
            if block.hash == locator.stop {
                cx.debug(LogCategory::Net, || {
                    format!(" getblocks stopping at {} {}", block.height, block.hash)
                });
                break;
            }
            if !block.has_data || too_old.is_some_and(|height| block.height.0 <= height) {
                cx.debug(LogCategory::Net, || {
                    format!(" getblocks stopping, pruned or too old block at {} {}", block.height, block.hash)
                });
                break;
            }
            peer.announce_inv.push(block.hash);
            left -= 1;
            if left == 0 {
                cx.debug(LogCategory::Net, || {
                    format!(" getblocks stopping at limit {} {}", block.height, block.hash)
                });
                peer.continuation = Some(block.hash);
                break;
            }
            next = cx.chain.active_at(block.height.next());
        }
    }

    pub(crate) fn on_getheaders(&mut self, cx: &mut Cx<'_>, id: PeerId, locator: &Locator) {
        if self.refuse_locator(cx, id, "getheaders", locator) {
            return;
        }
        if self.importing {
            cx.debug(LogCategory::Net, || {
                format!("Ignoring getheaders from peer={id} while importing/reindexing")
            });
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.unanswered_getheaders = Some(locator.clone());
            }
            return;
        }
        let tip = cx.chain.tip();
        let download = self.peers.get(&id).is_some_and(|peer| peer.connection.permissions.download);
        if tip.chainwork < cx.chain.minimum_chainwork() && !download {
            cx.debug(LogCategory::Net, || {
                format!(
                    "Ignoring getheaders from peer={id} because active chain has too little work; sending empty response"
                )
            });
            // An answer, so that we do not look unresponsive.
            self.send(cx, id, Message::Headers(Vec::new()));
            return;
        }
        let mut next = if locator.hashes.is_empty() {
            let Some(block) = cx.chain.header(&locator.stop) else { return };
            if !self.block_request_allowed(cx, &block) {
                cx.debug(LogCategory::Net, || {
                    format!("ProcessMessage: ignoring request from peer={id} for old block header that isn't in the main chain")
                });
                return;
            }
            Some(block)
        } else {
            cx.chain.active_at(cx.chain.find_fork(&locator.hashes).height.next())
        };
        cx.debug(LogCategory::Net, || {
            let from = next.map_or(-1, |block| i64::from(block.height.0));
            format!("getheaders {from} to {} from peer={id}", hash_or_end(&locator.stop))
        });
        let mut headers = Vec::new();
        let mut last = None;
        while let Some(block) = next {
            headers.push(block.header);
            last = Some(block);
            if headers.len() == MAX_HEADERS_RESULTS || block.hash == locator.stop {
                break;
            }
            // The child on the active chain; a stale block has none.
            next = block.active.then(|| cx.chain.active_at(block.height.next())).flatten();
            if next.is_none() {
                last = None;
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            // Set back, too, so that a block announced early is announced again.
            peer.best_sent = Some(last.map_or_else(|| KnownBlock::from(tip), KnownBlock::from));
        }
        self.send(cx, id, Message::Headers(headers));
    }

    /// Answers what was asked while blocks were being imported. Core leaves it unanswered, and
    /// the peer asks nothing more for two minutes.
    pub(crate) fn answer_late(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        if self.importing {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(locator) = peer.unanswered_getheaders.take() {
            self.on_getheaders(cx, id, &locator);
        }
    }

    pub(crate) fn on_mempool(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let permissions = peer.connection.permissions;
        if !peer.our_services.has(ServiceFlags::BLOOM) && !permissions.mempool {
            if !permissions.no_ban {
                self.drop_peer(cx, id, "mempool request with bloom filters disabled");
            }
        } else if self.upload.reached && !permissions.mempool {
            if !permissions.no_ban {
                self.drop_peer(cx, id, "mempool request with bandwidth limit reached");
            }
        } else if let Some(relay) = &mut peer.tx_relay {
            relay.send_mempool = true;
        }
    }
}
