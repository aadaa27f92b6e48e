use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid, Wtxid};
use ironpeer_primitives::{LogCategory, PeerId, PoolTx, TxClass, TxReject};
use ironpeer_wire::{InvType, Inventory, Message};
use rand::Rng;

use crate::download::Received;
use crate::event::{Action, ConnectionKind, TxAccepted};
use crate::limits::{
    FEEFILTER_INTERVAL, FEEFILTER_VERSION, INBOUND_INVENTORY_INTERVAL, INVENTORY_BROADCAST_MAX,
    INVENTORY_BROADCAST_TARGET, MAX_BLOCKS_IN_TRANSIT_PER_PEER, MAX_FEEFILTER_CHANGE_DELAY, MAX_GETDATA_SIZE,
    MAX_INV_SIZE, MAX_PEER_TX_ANNOUNCEMENTS, OUTBOUND_INVENTORY_INTERVAL,
};
use crate::peer::Micros;
use crate::request::GenTxid;
use crate::{Cx, Sync, micros};

/// Fee filters are rounded to these steps so that they tell little of our mempool: from half the
/// least relay fee up to 0.1 BTC per 1,000 vbytes, each a tenth above the one before.
const FEE_STEP_FIRST: f64 = 50.0;
const FEE_STEP_LAST: f64 = 1e7;
const FEE_STEP_RATIO: f64 = 1.1;
/// Largest step: what a node sends that wants no transactions now.
const NO_TXS_FILTER: u64 = 21_000_000 * 100_000_000;

/// A delay drawn so that events come at random with this mean time between them.
pub fn exponential_delay(rng: &mut impl Rng, mean: Duration) -> Micros {
    let uniform: f64 = rng.gen_range(f64::MIN_POSITIVE..1.0);
    (-uniform.ln() * micros(mean) as f64) as Micros
}

/// Rounds a feerate to a step: mostly down, sometimes up (Core's `FeeFilterRounder`).
fn round_fee(rng: &mut impl Rng, fee: u64) -> u64 {
    let mut below = 0.0;
    let mut step = FEE_STEP_FIRST;
    while step <= FEE_STEP_LAST {
        if step >= fee as f64 {
            let up = fee == 0 || rng.gen_range(0..3) == 0;
            return if fee == 0 {
                0
            } else if up {
                step as u64
            } else {
                below as u64
            };
        }
        below = step;
        step *= FEE_STEP_RATIO;
    }
    below as u64
}

/// Whether a transaction pays at least a feerate in satoshi per 1,000 vbytes.
fn pays(entry: &PoolTx, fee_per_kvb: u64) -> bool {
    // Rounded up, as Core's `CFeeRate::GetFee`.
    let least = (u128::from(fee_per_kvb) * u128::from(entry.vsize)).div_ceil(1_000);
    u128::from(entry.fee.to_sat()) >= least
}

/// The order of announcing: best feerate first, but parents before children.
fn announcement_order(mut entries: Vec<PoolTx>) -> Vec<PoolTx> {
    entries.sort_by(|a, b| {
        let left = u128::from(a.fee.to_sat()) * u128::from(b.vsize);
        let right = u128::from(b.fee.to_sat()) * u128::from(a.vsize);
        right.cmp(&left).then(a.wtxid.cmp(&b.wtxid))
    });
    let places: BTreeMap<Txid, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.txid, place)).collect();
    let mut done = BTreeSet::new();
    let mut order = Vec::with_capacity(entries.len());
    for place in 0..entries.len() {
        // Each entry comes after those of its ancestors that wait, too.
        let mut stack = vec![place];
        while let Some(&top) = stack.last() {
            if done.contains(&top) {
                stack.pop();
                continue;
            }
            let before = stack.len();
            let inputs = entries.get(top).into_iter().flat_map(|entry| &entry.tx.input);
            stack.extend(
                inputs
                    .filter_map(|input| places.get(&input.previous_output.txid))
                    .filter(|parent| !done.contains(*parent))
                    .copied(),
            );
            if stack.len() == before {
                stack.pop();
                done.insert(top);
                order.push(top);
            }
        }
    }
    let mut entries: Vec<Option<PoolTx>> = entries.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| entries.get_mut(place)?.take()).collect()
}

impl Sync {
    pub(crate) fn on_inv(&mut self, cx: &mut Cx<'_>, id: PeerId, items: &[Inventory]) {
        if items.len() > MAX_INV_SIZE {
            self.misbehaving(cx, id, &format!("inv message size = {}", items.len()));
            return;
        }
        let reject_txs = self.rejects_txs_from(id);
        let initial = cx.chain.is_initial_block_download();
        let wtxid_relay = self.peers.get(&id).is_some_and(|peer| peer.wtxid_relay);
        let mut best_block = None;
        for item in items {
            let other_kind = if wtxid_relay { InvType::TX } else { InvType::WTX };
            if item.kind == other_kind {
                continue;
            }
            if item.kind == InvType::BLOCK {
                let hash = item.block_hash();
                let known = cx.chain.header(&hash).is_some();
                log_inv(cx, id, item, known);
                self.update_availability(cx, id, hash);
                if !known && !self.importing && !self.in_flight.contains_key(&hash) {
                    // The last one is the highest: its headers bring the others.
                    best_block = Some(hash);
                }
            } else if item.is_transaction() {
                if reject_txs {
                    let hash = item.txid();
                    self.drop_peer(
                        cx,
                        id,
                        &format!("transaction ({hash}) inv sent in violation of protocol"),
                    );
                    return;
                }
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.add_known_tx(&item.hash);
                }
                if !initial {
                    let announced = if item.kind == InvType::WTX {
                        GenTxid::Wtxid(item.wtxid())
                    } else {
                        GenTxid::Txid(item.txid())
                    };
                    let known = self.tx.announced(cx, id, announced);
                    log_inv(cx, id, item, known);
                }
            } else {
                cx.debug(LogCategory::Net, || format!("Unknown inv type \"{item}\" received from peer={id}"));
            }
        }
        let Some(best_block) = best_block else { return };
        let Some(peer) = self.peers.get(&id) else { return };
        // Until the first headers are in, one more peer is asked with each new block, in case
        // the first one is slow.
        let started = peer.sync_started;
        if !started && (peer.inv_triggered_getheaders || self.last_inv_headers_sync == Some(best_block)) {
            return;
        }
        let best = cx.chain.best_header();
        let locator = cx.chain.locator(&best.hash);
        if self.maybe_send_getheaders(cx, id, locator) {
            cx.debug(LogCategory::Net, || format!("getheaders ({}) {best_block} to peer={id}", best.height));
        }
        if !started && let Some(peer) = self.peers.get_mut(&id) {
            peer.inv_triggered_getheaders = true;
            self.last_inv_headers_sync = Some(best_block);
        }
    }

    pub(crate) fn on_notfound(&mut self, id: PeerId, items: &[Inventory]) {
        if items.len() > MAX_PEER_TX_ANNOUNCEMENTS + MAX_BLOCKS_IN_TRANSIT_PER_PEER {
            return;
        }
        for item in items.iter().filter(|item| item.is_transaction()) {
            self.tx.requests.answered(id, &item.hash);
        }
    }

    /// A compact block is not taken as such yet; its header is an announcement like any other.
    pub(crate) fn on_cmpctblock(&mut self, cx: &mut Cx<'_>, id: PeerId, header: &bitcoin::block::Header) {
        let log_peer = self.log_peer(id);
        if self.importing {
            cx.debug(LogCategory::CmpctBlock, || {
                format!("{log_peer} sent us a compact block even though we are still loading blocks!")
            });
        } else if self.config.ignore_incoming_txs {
            cx.debug(LogCategory::CmpctBlock, || {
                format!("{log_peer} sent us a compact block even though we are blocksonly!")
            });
        } else if !self.peers.get(&id).is_some_and(|peer| peer.provides_cmpct) {
            cx.debug(LogCategory::CmpctBlock, || {
                format!("{log_peer} sent us a compact block despite never having sent us a SENDCMPCT!")
            });
        } else {
            self.on_headers(cx, id, vec![*header]);
        }
    }

    pub(crate) fn on_tx(&mut self, cx: &mut Cx<'_>, id: PeerId, tx: &Arc<Transaction>) {
        if self.rejects_txs_from(id) {
            self.drop_peer(cx, id, "transaction sent in violation of protocol");
            return;
        }
        // Without the chain nothing can be said about it.
        if cx.chain.is_initial_block_download() {
            return;
        }
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let hash = if peer.wtxid_relay { wtxid.to_byte_array() } else { txid.to_byte_array() };
        peer.add_known_tx(&hash);
        let force_relay = peer.connection.permissions.force_relay;
        match self.tx.received(cx, id, tx) {
            Received::Validate => {
                self.tx.submit(id, tx);
                cx.push(Action::SubmitTx { peer: id, tx: Arc::clone(tx) });
            }
            received => {
                if force_relay {
                    self.force_relay(cx, id, txid, wtxid);
                }
                if let Received::Package(child) = received {
                    cx.push(Action::SubmitPackage { peer: id, txs: vec![Arc::clone(tx), child] });
                }
            }
        }
    }

    /// A node hidden behind us may announce its transactions again and again.
    fn force_relay(&mut self, cx: &mut Cx<'_>, id: PeerId, txid: Txid, wtxid: Wtxid) {
        if cx.pool.by_txid(&txid).is_some() {
            cx.info(format!("Force relaying tx {txid} (wtxid={wtxid}) from peer={id}"));
            self.announce_tx(txid, wtxid);
        } else {
            cx.info(format!(
                "Not relaying non-mempool transaction {txid} (wtxid={wtxid}) from forcerelay peer={id}"
            ));
        }
    }

    /// A parent that one peer sent can be what another's orphan waits for.
    pub(crate) fn start_orphans(&mut self, cx: &mut Cx<'_>) {
        for id in self.tx.orphanage.peers_with_work() {
            if self.is_open(id) {
                self.process_orphan(cx, id);
            }
        }
    }

    /// Tries one orphan of the peer's again. One at a time, so that other peers get their turns
    /// in between (CVE-2024-52914).
    pub(crate) fn process_orphan(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.orphan_pending.is_some() || !self.tx.orphanage.has_work(id) {
            return;
        }
        if let Some(tx) = self.tx.orphanage.next_to_reconsider(id) {
            peer.orphan_pending = Some(tx.compute_wtxid());
            cx.push(Action::SubmitTx { peer: id, tx });
        }
    }

    pub(crate) fn on_tx_done(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        tx: &Arc<Transaction>,
        result: Result<TxAccepted, TxReject>,
    ) {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        self.tx.submit_done(&wtxid);
        let orphan = self
            .peers
            .get_mut(&id)
            .is_some_and(|peer| peer.orphan_pending.take_if(|pending| *pending == wtxid).is_some());
        match result {
            Ok(accepted) => {
                if orphan {
                    cx.debug(LogCategory::TxPackages, || {
                        format!("   accepted orphan tx {txid} (wtxid={wtxid})")
                    });
                } else if let Some(peer) = self.peers.get_mut(&id) {
                    peer.last_tx = cx.unix();
                }
                self.on_tx_accepted(cx, id, tx, &accepted);
            }
            Err(reject) if orphan => {
                if reject.class != TxClass::MissingInputs {
                    cx.debug(LogCategory::TxPackages, || {
                        format!("   invalid orphan tx {txid} (wtxid={wtxid}) from peer={id}. {reject}")
                    });
                    self.on_tx_rejected(cx, id, tx, &reject, false);
                }
            }
            Err(reject) => self.on_tx_rejected(cx, id, tx, &reject, true),
        }
    }

    fn on_tx_accepted(&mut self, cx: &mut Cx<'_>, id: PeerId, tx: &Transaction, accepted: &TxAccepted) {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        self.tx.accepted(tx, &mut self.rng);
        self.tx.write_log(cx);
        cx.debug(LogCategory::Mempool, || {
            format!(
                "AcceptToMemoryPool: peer={id}: accepted {txid} (wtxid={wtxid}) (poolsz {} txn, {} kB)",
                accepted.pool_txs,
                accepted.pool_bytes / 1_000
            )
        });
        self.announce_tx(txid, wtxid);
    }

    fn on_tx_rejected(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        tx: &Arc<Transaction>,
        reject: &TxReject,
        first_time: bool,
    ) {
        cx.debug(LogCategory::MempoolRej, || {
            format!(
                "{} (wtxid={}) from peer={id} was not accepted: {reject}",
                tx.compute_txid(),
                tx.compute_wtxid()
            )
        });
        let rejected = self.tx.rejected(cx, id, tx, reject, first_time);
        if let Some(peer) = self.peers.get_mut(&id) {
            for parent in &rejected.parents {
                peer.add_known_tx(&parent.to_byte_array());
            }
        }
        if let Some(child) = rejected.child {
            cx.push(Action::SubmitPackage { peer: id, txs: vec![Arc::clone(tx), child] });
        }
    }

    pub(crate) fn on_package_done(
        &mut self,
        cx: &mut Cx<'_>,
        id: PeerId,
        txs: &[Arc<Transaction>],
        accepted: bool,
        results: Vec<(Arc<Transaction>, Result<TxAccepted, TxReject>)>,
    ) {
        let [parent, child] = txs else { return };
        cx.debug(LogCategory::TxPackages, || {
            format!(
                "package evaluation for parent {} (wtxid={}, sender={id}) + child {} (wtxid={}, sender={id}): {}",
                parent.compute_txid(),
                parent.compute_wtxid(),
                child.compute_txid(),
                child.compute_wtxid(),
                if accepted { "package accepted" } else { "package rejected" }
            )
        });
        if !accepted {
            self.tx.package_rejected(parent, child);
        }
        // The child first, so that it is no orphan any more when its parent's children are sought.
        for (tx, result) in results.into_iter().rev() {
            match result {
                Ok(done) => self.on_tx_accepted(cx, id, &tx, &done),
                Err(reject) => self.on_tx_rejected(cx, id, &tx, &reject, false),
            }
        }
    }

    /// Adds the transactions to ask a peer for to a `getdata`; full ones go out.
    pub(crate) fn request_txs(&mut self, cx: &mut Cx<'_>, id: PeerId, wanted: &mut Vec<Inventory>) {
        let witnesses = self.peers.get(&id).is_some_and(crate::peer::Peer::serves_witnesses);
        for tx in self.tx.take_requests(cx, id) {
            wanted.push(match tx {
                GenTxid::Wtxid(wtxid) => Inventory::wtx(wtxid),
                GenTxid::Txid(txid) if witnesses => Inventory::witness_tx(txid),
                GenTxid::Txid(txid) => Inventory::tx(txid),
            });
            if wanted.len() >= MAX_GETDATA_SIZE {
                self.send(cx, id, Message::GetData(std::mem::take(wanted)));
            }
        }
    }

    /// Sends what is to be announced by `inv`: blocks at once, transactions at random times.
    pub(crate) fn send_inventory(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mut items: Vec<Inventory> = peer.announce_inv.drain(..).map(Inventory::block).collect();
        items.extend(self.due_txs(cx, id));
        for batch in items.chunks(MAX_INV_SIZE) {
            self.send(cx, id, Message::Inv(batch.to_vec()));
        }
    }

    fn due_txs(&mut self, cx: &Cx<'_>, id: PeerId) -> Vec<Inventory> {
        let Some(peer) = self.peers.get_mut(&id) else { return Vec::new() };
        let (inbound, group) = (peer.is_inbound(), peer.connection.network_group);
        let no_ban = peer.connection.permissions.no_ban;
        let wtxid_relay = peer.wtxid_relay;
        let Some(relay) = &mut peer.tx_relay else { return Vec::new() };
        let due = relay.next_send.is_none_or(|time| time < cx.now);
        if due {
            let next = if inbound {
                let time = self.inbound_inv_times.entry(group).or_insert(0);
                if *time < cx.now {
                    *time = cx.now + exponential_delay(&mut self.rng, INBOUND_INVENTORY_INTERVAL);
                }
                *time
            } else {
                cx.now + exponential_delay(&mut self.rng, OUTBOUND_INVENTORY_INTERVAL)
            };
            relay.next_send = Some(next);
        }
        if !due && !no_ban {
            return Vec::new();
        }
        if !relay.relay_txs {
            relay.to_send.clear();
        }
        let inv = |entry: &PoolTx| {
            if wtxid_relay { Inventory::wtx(entry.wtxid) } else { Inventory::tx(entry.txid) }
        };
        let mut items = Vec::new();
        if std::mem::take(&mut relay.send_mempool) {
            for entry in cx.pool.all() {
                relay.to_send.remove(&entry.wtxid);
                if pays(&entry, relay.fee_filter) && relay.wants(&entry.tx) {
                    let item = inv(&entry);
                    relay.known.insert(&item.hash);
                    items.push(item);
                }
            }
        }
        if !relay.to_send.is_empty() {
            // One batch between two ticks, however often a trusted peer has its turn: with more
            // open requests than Core allows, the other end would wait before it asks for the rest.
            let most = INVENTORY_BROADCAST_MAX
                .min(INVENTORY_BROADCAST_TARGET + relay.to_send.len() / 1_000 * 5)
                .saturating_sub(relay.since_tick);
            let entries: Vec<PoolTx> =
                relay.to_send.iter().filter_map(|wtxid| cx.pool.by_wtxid(wtxid)).collect();
            // What left the mempool is not announced.
            if entries.len() < relay.to_send.len() {
                relay.to_send = entries.iter().map(|entry| entry.wtxid).collect();
            }
            let mut sent = 0;
            for entry in announcement_order(entries) {
                if sent == most {
                    break;
                }
                relay.to_send.remove(&entry.wtxid);
                let item = inv(&entry);
                let unwanted = relay.known.contains(&item.hash)
                    || !pays(&entry, relay.fee_filter)
                    || !relay.wants(&entry.tx);
                if unwanted {
                    continue;
                }
                relay.known.insert(&item.hash);
                items.push(item);
                sent += 1;
            }
            relay.since_tick += sent;
        }
        // What was just announced may be fetched.
        relay.last_sequence = cx.pool.sequence();
        items
    }

    pub(crate) fn on_feefilter(&mut self, cx: &mut Cx<'_>, id: PeerId, fee: i64) {
        let Some(fee) = u64::try_from(fee).ok().filter(|fee| *fee <= NO_TXS_FILTER) else { return };
        if let Some(relay) = self.peers.get_mut(&id).and_then(|peer| peer.tx_relay.as_mut()) {
            relay.fee_filter = fee;
        }
        cx.debug(LogCategory::Net, || {
            let (btc, sats) = (fee / 100_000_000, fee % 100_000_000);
            format!("received: feefilter of {btc}.{sats:08} BTC/kvB from peer={id}")
        });
    }

    /// Tells a peer now and then from which feerate on transactions are welcome.
    pub(crate) fn maybe_send_feefilter(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let least = self.config.min_relay_fee_per_kvb;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if self.config.ignore_incoming_txs
            || peer.common_version < FEEFILTER_VERSION
            || peer.connection.permissions.force_relay
            || peer.connection.kind == ConnectionKind::BlockRelayOnly
        {
            return;
        }
        // Rounding is for what tells of our mempool; the relay minimum alone tells nothing.
        let mut current = cx.pool.min_fee_per_kvb();
        if current <= least {
            current = 0;
        }
        if cx.chain.is_initial_block_download() {
            current = NO_TXS_FILTER;
        } else if peer.fee_filter_sent >= highest_step() {
            // Out of the initial download: now they are welcome.
            peer.next_feefilter = 0;
        }
        if cx.now > peer.next_feefilter {
            let filter = round_fee(&mut self.rng, current).max(least);
            peer.next_feefilter = cx.now + exponential_delay(&mut self.rng, FEEFILTER_INTERVAL);
            if filter != peer.fee_filter_sent {
                peer.fee_filter_sent = filter;
                self.send(cx, id, Message::FeeFilter(i64::try_from(filter).unwrap_or(i64::MAX)));
            }
        } else if cx.now + micros(MAX_FEEFILTER_CHANGE_DELAY) < peer.next_feefilter
            && (current < 3 * peer.fee_filter_sent / 4 || current > 4 * peer.fee_filter_sent / 3)
        {
            peer.next_feefilter = cx.now + self.rng.gen_range(0..micros(MAX_FEEFILTER_CHANGE_DELAY));
        }
    }
}

/// What [`round_fee`] makes of a filter that lets nothing through.
fn highest_step() -> u64 {
    let mut step = FEE_STEP_FIRST;
    while step * FEE_STEP_RATIO <= FEE_STEP_LAST {
        step *= FEE_STEP_RATIO;
    }
    step as u64
}

fn log_inv(cx: &mut Cx<'_>, id: PeerId, item: &Inventory, known: bool) {
    cx.debug(LogCategory::Net, || {
        format!("got inv: {item} {} peer={id}", if known { "have" } else { "new" })
    });
}
