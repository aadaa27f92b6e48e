//! The transactions themselves, who spends what, and the clusters they form.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Wtxid};
use ironpeer_primitives::{Height, PoolTx, UnixTime};

use crate::feerate::FeeFrac;
use crate::limits;
use crate::linearise::{Node, linearise};

/// A transaction in the mempool.
#[derive(Clone, Debug)]
pub struct Entry {
    pub tx: Arc<Transaction>,
    pub txid: Txid,
    pub wtxid: Wtxid,
    pub fee: Amount,
    /// What an operator added to the fee, in satoshi.
    pub delta: i64,
    /// As in a block.
    pub weight: u64,
    /// The same adjusted for sigops: what feerates are reckoned with.
    pub adjusted_weight: u64,
    pub vsize: u64,
    pub sigop_cost: u64,
    pub time: UnixTime,
    pub height: Height,
    pub sequence: u64,
    /// To be looked at again when coinbases may have become immature.
    pub spends_coinbase: bool,
    /// Bytes of memory.
    pub usage: usize,
    pub parents: BTreeSet<Txid>,
    pub children: BTreeSet<Txid>,
    cluster: u64,
}

/// What admission knows of a transaction that is about to become an [`Entry`].
#[derive(Clone, Debug)]
pub struct NewEntry {
    pub tx: Arc<Transaction>,
    pub txid: Txid,
    pub wtxid: Wtxid,
    pub fee: Amount,
    pub delta: i64,
    pub weight: u64,
    pub adjusted_weight: u64,
    pub vsize: u64,
    pub sigop_cost: u64,
    pub time: UnixTime,
    pub height: Height,
    pub sequence: u64,
    pub spends_coinbase: bool,
}

/// A transaction about to come in, with its parents in the mempool or among those that come with
/// it.
#[derive(Clone, Copy, Debug)]
pub struct NewLink<'a> {
    pub entry: &'a NewEntry,
    pub parents: &'a BTreeSet<Txid>,
}

fn modified(fee: Amount, delta: i64) -> i64 {
    i64::try_from(fee.to_sat()).unwrap_or(i64::MAX).saturating_add(delta)
}

impl NewEntry {
    /// Fee with the operator's delta.
    pub fn modified_fee(&self) -> i64 {
        modified(self.fee, self.delta)
    }

    pub fn frac(&self) -> FeeFrac {
        FeeFrac { fee: self.modified_fee(), weight: self.adjusted_weight }
    }
}

impl Entry {
    /// Fee with the operator's delta.
    pub fn modified_fee(&self) -> i64 {
        modified(self.fee, self.delta)
    }

    pub fn frac(&self) -> FeeFrac {
        FeeFrac { fee: self.modified_fee(), weight: self.adjusted_weight }
    }

    pub fn pool_tx(&self) -> PoolTx {
        PoolTx {
            tx: Arc::clone(&self.tx),
            txid: self.txid,
            wtxid: self.wtxid,
            fee: self.fee,
            vsize: self.vsize,
            time: self.time,
            sequence: self.sequence,
        }
    }
}

/// Transactions that hang together, in mining order.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub order: Vec<Txid>,
    /// Sum and number of transactions of each chunk.
    pub chunks: Vec<(FeeFrac, usize)>,
    pub weight: u64,
}

impl Cluster {
    /// The chunks with their transactions.
    pub fn chunks(&self) -> impl Iterator<Item = (FeeFrac, &[Txid])> {
        let mut at = 0;
        self.chunks.iter().map(move |(frac, count)| {
            let txids = &self.order[at..at + count];
            at += count;
            (*frac, txids)
        })
    }
}

/// Where a chunk stands among all chunks: best feerate first, then as Core breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChunkKey {
    frac: FeeFrac,
    /// Weight of this cluster's chunks of the same feerate up to and with this one.
    prefix: u64,
    /// The greatest hash in it.
    fallback: Txid,
    cluster: u64,
    index: usize,
}

impl Ord for ChunkKey {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .frac
            .cmp_rate(self.frac)
            .then_with(|| self.prefix.cmp(&other.prefix))
            .then_with(|| self.fallback.cmp(&other.fallback))
            .then_with(|| (self.cluster, self.index).cmp(&(other.cluster, other.index)))
    }
}

impl PartialOrd for ChunkKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How a set of clusters would look after a change.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Chunks as they are.
    pub before: Vec<FeeFrac>,
    /// Chunks as they would be.
    pub after: Vec<FeeFrac>,
}

/// The mempool's data.
#[derive(Debug, Default)]
pub struct Pool {
    entries: HashMap<Txid, Entry>,
    by_wtxid: HashMap<Wtxid, Txid>,
    spends: HashMap<OutPoint, Txid>,
    by_time: BTreeSet<(UnixTime, Txid)>,
    clusters: HashMap<u64, Cluster>,
    next_cluster: u64,
    chunk_index: BTreeSet<ChunkKey>,
    /// Fee deltas by operators, also of transactions that are not here.
    pub deltas: BTreeMap<Txid, i64>,
    /// Transactions made here that no peer has asked for.
    pub unbroadcast: BTreeSet<Txid>,
    vbytes: u64,
    total_fee: u64,
    usage: usize,
}

/// What an allocation of `bytes` takes with a 64-bit allocator (Core's `MallocUsage`).
const fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 31) >> 4 << 4 }
}

/// Memory of a transaction and of everything the mempool keeps beside it.
fn memory_usage(tx: &Transaction) -> usize {
    /// The tables' share of one transaction: entry, three hash tables, time and chunk index.
    const ENTRY: usize = 640;
    /// The share of one input in the table of spends.
    const SPEND: usize = 112;
    let scripts: usize = tx.input.iter().map(|input| allocated(input.script_sig.len())).sum::<usize>()
        + tx.output.iter().map(|output| allocated(output.script_pubkey.len())).sum::<usize>();
    let witnesses: usize = tx.input.iter().map(|input| allocated(input.witness.size())).sum();
    ENTRY
        + allocated(size_of::<Transaction>())
        + allocated(size_of_val(tx.input.as_slice()))
        + allocated(size_of_val(tx.output.as_slice()))
        + scripts
        + witnesses
        + SPEND * tx.input.len()
}

impl Pool {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn vbytes(&self) -> u64 {
        self.vbytes
    }

    pub fn total_fee(&self) -> Amount {
        Amount::from_sat(self.total_fee)
    }

    pub fn usage(&self) -> usize {
        self.usage
    }

    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    pub fn contains(&self, txid: &Txid) -> bool {
        self.entries.contains_key(txid)
    }

    pub fn by_wtxid(&self, wtxid: &Wtxid) -> Option<&Entry> {
        self.entries.get(self.by_wtxid.get(wtxid)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Who spends an output.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<&Entry> {
        self.entries.get(self.spends.get(outpoint)?)
    }

    /// Those that entered before `time`.
    pub fn older_than(&self, time: UnixTime) -> Vec<Txid> {
        self.by_time.iter().take_while(|(entered, _)| *entered < time).map(|(_, txid)| *txid).collect()
    }

    /// The transactions here whose outputs a transaction spends.
    pub fn parents_of(&self, tx: &Transaction) -> BTreeSet<Txid> {
        tx.input
            .iter()
            .map(|input| input.previous_output.txid)
            .filter(|txid| self.entries.contains_key(txid))
            .collect()
    }

    fn closure<'a>(
        &'a self,
        start: impl IntoIterator<Item = Txid>,
        next: impl Fn(&'a Entry) -> &'a BTreeSet<Txid>,
    ) -> BTreeSet<Txid> {
        let mut found: BTreeSet<Txid> = BTreeSet::new();
        let mut queue: Vec<Txid> = start.into_iter().collect();
        while let Some(txid) = queue.pop() {
            if let Some(entry) = self.entries.get(&txid)
                && found.insert(txid)
            {
                queue.extend(next(entry));
            }
        }
        found
    }

    /// These and everything that spends them, directly or not.
    pub fn with_descendants(&self, start: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        self.closure(start, |entry| &entry.children)
    }

    /// These and everything they spend here, directly or not.
    pub fn with_ancestors(&self, start: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        self.closure(start, |entry| &entry.parents)
    }

    /// The cluster a transaction is in.
    pub fn cluster_of(&self, txid: &Txid) -> Option<&Cluster> {
        self.clusters.get(&self.entries.get(txid)?.cluster)
    }

    /// The sum of the chunk a transaction is in.
    pub fn chunk_of(&self, txid: &Txid) -> Option<FeeFrac> {
        self.cluster_of(txid)?.chunks().find(|(_, txids)| txids.contains(txid)).map(|(frac, _)| frac)
    }

    fn cluster_ids<'a>(&self, txids: impl IntoIterator<Item = &'a Txid>) -> BTreeSet<u64> {
        txids.into_iter().filter_map(|txid| self.entries.get(txid)).map(|entry| entry.cluster).collect()
    }

    /// How many clusters these transactions are in.
    pub fn cluster_count<'a>(&self, txids: impl IntoIterator<Item = &'a Txid>) -> usize {
        self.cluster_ids(txids).len()
    }

    /// Every chunk in mining order.
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = (FeeFrac, &[Txid])> {
        self.chunk_index.iter().filter_map(|key| {
            let cluster = self.clusters.get(&key.cluster)?;
            let start: usize = cluster.chunks[..key.index].iter().map(|(_, count)| count).sum();
            let (_, count) = cluster.chunks[key.index];
            Some((key.frac, &cluster.order[start..start + count]))
        })
    }

    /// All transactions in mining order.
    pub fn in_order(&self) -> impl Iterator<Item = &Entry> {
        self.chunks().flat_map(|(_, txids)| txids.iter().filter_map(|txid| self.entries.get(txid)))
    }

    /// New transactions in groups that would hang together once `removed` is gone, each with what
    /// of the mempool hangs on it.
    fn groups(&self, new: &[NewLink<'_>], removed: &BTreeSet<Txid>) -> Vec<(Vec<usize>, BTreeSet<Txid>)> {
        let mut groups: Vec<(Vec<usize>, BTreeSet<Txid>)> = Vec::new();
        for (at, link) in new.iter().enumerate() {
            let mut group = (vec![at], self.component(link.parents.iter().copied(), removed));
            groups.retain_mut(|(others, members)| {
                let parent = others.iter().any(|other| link.parents.contains(&new[*other].entry.txid));
                let joined = parent || !members.is_disjoint(&group.1);
                if joined {
                    group.0.append(others);
                    group.1.append(members);
                }
                !joined
            });
            groups.push(group);
        }
        groups
    }

    /// Number and adjusted weight of each cluster that would hold one of `new` once `removed` is
    /// gone.
    pub fn clusters_with(&self, new: &[NewLink<'_>], removed: &BTreeSet<Txid>) -> Vec<(usize, u64)> {
        let size = |(places, members): (Vec<usize>, BTreeSet<Txid>)| {
            let old = members.iter().filter_map(|txid| self.entries.get(txid)).map(|e| e.adjusted_weight);
            let weight = places.iter().map(|place| new[*place].entry.adjusted_weight).chain(old).sum();
            (places.len() + members.len(), weight)
        };
        self.groups(new, removed).into_iter().map(size).collect()
    }

    /// Everything that hangs together with `start` when `without` is gone.
    fn component(&self, start: impl IntoIterator<Item = Txid>, without: &BTreeSet<Txid>) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut queue: Vec<Txid> = start.into_iter().collect();
        while let Some(txid) = queue.pop() {
            if without.contains(&txid) {
                continue;
            }
            if let Some(entry) = self.entries.get(&txid)
                && found.insert(txid)
            {
                queue.extend(entry.parents.iter().chain(&entry.children));
            }
        }
        found
    }

    fn nodes(&self, members: &[Txid]) -> Vec<Node> {
        let place: HashMap<Txid, usize> =
            members.iter().enumerate().map(|(place, txid)| (*txid, place)).collect();
        members
            .iter()
            .filter_map(|txid| self.entries.get(txid))
            .map(|entry| Node {
                frac: entry.frac(),
                parents: entry
                    .parents
                    .iter()
                    .filter_map(|parent| place.get(parent))
                    .fold(0, |set, place| set | 1 << place),
            })
            .collect()
    }

    /// The diagrams of all clusters a replacement touches, before and after it. The clusters of
    /// the new transactions are within the limits.
    pub fn preview(&self, new: &[NewLink<'_>], removed: &BTreeSet<Txid>) -> Preview {
        let ids = self.cluster_ids(new.iter().flat_map(|link| link.parents).chain(removed));
        let touched: Vec<&Cluster> = ids.iter().filter_map(|id| self.clusters.get(id)).collect();
        let before =
            touched.iter().flat_map(|cluster| cluster.chunks.iter().map(|(frac, _)| *frac)).collect();

        let mut after = Vec::new();
        let mut done: HashSet<Txid> = HashSet::new();
        for (places, members) in self.groups(new, removed) {
            let members: Vec<Txid> = members.into_iter().collect();
            let mut nodes = self.nodes(&members);
            for place in &places {
                let parents = new[*place].parents;
                let old =
                    members.iter().enumerate().filter(|(_, txid)| parents.contains(*txid)).map(|(at, _)| at);
                let fresh = places.iter().enumerate().filter(|(_, p)| parents.contains(&new[**p].entry.txid));
                let fresh = fresh.map(|(at, _)| members.len() + at);
                let parents = old.chain(fresh).fold(0, |set, at| set | 1 << at);
                nodes.push(Node { frac: new[*place].entry.frac(), parents });
            }
            after.extend(linearise(&nodes).chunks.into_iter().map(|(frac, _)| frac));
            done.extend(members);
        }
        for txid in touched.iter().flat_map(|cluster| &cluster.order) {
            if removed.contains(txid) || done.contains(txid) {
                continue;
            }
            let members: Vec<Txid> = self.component([*txid], removed).into_iter().collect();
            after.extend(linearise(&self.nodes(&members)).chunks.into_iter().map(|(frac, _)| frac));
            done.extend(members);
        }
        Preview { before, after }
    }

    /// Takes a transaction in. Its children, if any are here already, are linked by
    /// [`link_children`](Self::link_children).
    pub fn insert(&mut self, new: NewEntry) {
        let parents = self.parents_of(&new.tx);
        let usage = memory_usage(&new.tx);
        for input in &new.tx.input {
            self.spends.insert(input.previous_output, new.txid);
        }
        for parent in &parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                parent.children.insert(new.txid);
            }
        }
        self.by_wtxid.insert(new.wtxid, new.txid);
        self.by_time.insert((new.time, new.txid));
        self.vbytes += new.vsize;
        self.total_fee += new.fee.to_sat();
        self.usage += usage;
        let affected = self.cluster_ids(&parents);
        let txid = new.txid;
        let entry = Entry {
            tx: new.tx,
            txid,
            wtxid: new.wtxid,
            fee: new.fee,
            delta: new.delta,
            weight: new.weight,
            adjusted_weight: new.adjusted_weight,
            vsize: new.vsize,
            sigop_cost: new.sigop_cost,
            time: new.time,
            height: new.height,
            sequence: new.sequence,
            spends_coinbase: new.spends_coinbase,
            usage,
            parents,
            children: BTreeSet::new(),
            cluster: u64::MAX,
        };
        self.entries.insert(txid, entry);
        self.rebuild(&affected, [txid]);
    }

    /// Takes transactions out. Whoever removes a transaction also removes its descendants, unless
    /// it was confirmed.
    pub fn remove(&mut self, txids: &BTreeSet<Txid>) -> Vec<Entry> {
        let affected = self.cluster_ids(txids);
        let mut removed = Vec::new();
        for txid in txids {
            let Some(entry) = self.entries.remove(txid) else { continue };
            for input in &entry.tx.input {
                self.spends.remove(&input.previous_output);
            }
            for parent in &entry.parents {
                if let Some(parent) = self.entries.get_mut(parent) {
                    parent.children.remove(txid);
                }
            }
            for child in &entry.children {
                if let Some(child) = self.entries.get_mut(child) {
                    child.parents.remove(txid);
                }
            }
            self.by_wtxid.remove(&entry.wtxid);
            self.by_time.remove(&(entry.time, *txid));
            self.vbytes -= entry.vsize;
            self.total_fee -= entry.fee.to_sat();
            self.usage -= entry.usage;
            removed.push(entry);
        }
        self.rebuild(&affected, []);
        removed
    }

    /// Links transactions that came back from blocks with those that spent them meanwhile, and
    /// returns what must go for every cluster to be within the limits again.
    pub fn link_children(&mut self, returned: &[Txid], max_count: usize, max_weight: u64) -> BTreeSet<Txid> {
        let mut affected = BTreeSet::new();
        for txid in returned {
            let Some(entry) = self.entries.get(txid) else { continue };
            let outputs = u32::try_from(entry.tx.output.len()).unwrap_or(u32::MAX);
            let children: BTreeSet<Txid> = (0..outputs)
                .filter_map(|vout| self.spends.get(&OutPoint { txid: *txid, vout }).copied())
                .collect();
            affected.extend(self.cluster_ids(children.iter().chain([txid])));
            for child in &children {
                if let Some(child) = self.entries.get_mut(child) {
                    child.parents.insert(*txid);
                }
            }
            if let Some(entry) = self.entries.get_mut(txid) {
                entry.children.extend(children);
            }
        }
        let members: Vec<Txid> =
            affected.iter().filter_map(|id| self.clusters.get(id)).flat_map(|c| c.order.clone()).collect();
        let excess = self.oversized(members, max_count, max_weight);
        // The excess leaves with its links, so that what is rebuilt now is within the limits.
        let gone = excess.clone();
        for txid in &gone {
            let Some(entry) = self.entries.get_mut(txid) else { continue };
            let parents = std::mem::take(&mut entry.parents);
            let children = std::mem::take(&mut entry.children);
            for parent in parents {
                if let Some(parent) = self.entries.get_mut(&parent) {
                    parent.children.remove(txid);
                }
            }
            for child in children {
                if let Some(child) = self.entries.get_mut(&child) {
                    child.parents.remove(txid);
                }
            }
        }
        self.rebuild(&affected, []);
        excess
    }

    /// What [`excess`](Self::excess) says of every cluster among `members` that is too large.
    fn oversized(&self, members: Vec<Txid>, max_count: usize, max_weight: u64) -> BTreeSet<Txid> {
        let none = BTreeSet::new();
        let mut done: HashSet<Txid> = HashSet::new();
        let mut out = BTreeSet::new();
        for txid in members {
            if done.contains(&txid) {
                continue;
            }
            let part: Vec<Txid> = self.component([txid], &none).into_iter().collect();
            done.extend(&part);
            let weight: u64 =
                part.iter().filter_map(|txid| self.entries.get(txid)).map(|e| e.adjusted_weight).sum();
            if part.len() > max_count || weight > max_weight {
                out.extend(self.excess(&part, max_count, max_weight));
            }
        }
        out
    }

    /// Goes through transactions best chunk first, parents first, and keeps each whose cluster
    /// stays within the limits with it; returns the others and what descends from them.
    fn excess(&self, members: &[Txid], max_count: usize, max_weight: u64) -> BTreeSet<Txid> {
        let mut rates: Vec<(FeeFrac, Txid)> =
            members.iter().filter_map(|txid| Some((self.chunk_of(txid)?, *txid))).collect();
        rates.sort_by(|a, b| b.0.cmp_rate(a.0).then_with(|| a.1.cmp(&b.1)));
        // Union of sets: each kept transaction's cluster so far, by representative.
        let mut root: HashMap<Txid, Txid> = HashMap::new();
        let mut size: HashMap<Txid, (usize, u64)> = HashMap::new();
        let find = |root: &HashMap<Txid, Txid>, mut txid: Txid| {
            while let Some(up) = root.get(&txid).filter(|up| **up != txid) {
                txid = *up;
            }
            txid
        };
        let mut out: BTreeSet<Txid> = BTreeSet::new();
        let mut waiting: Vec<Txid> = rates.into_iter().map(|(_, txid)| txid).collect();
        loop {
            let ready = waiting.iter().position(|txid| {
                self.entries.get(txid).is_some_and(|entry| {
                    entry.parents.iter().all(|parent| root.contains_key(parent) || out.contains(parent))
                })
            });
            let Some(ready) = ready else { break };
            let txid = waiting.remove(ready);
            let Some(entry) = self.entries.get(&txid) else { continue };
            let joined: BTreeSet<Txid> = entry.parents.iter().map(|parent| find(&root, *parent)).collect();
            let (count, weight) = joined
                .iter()
                .filter_map(|set| size.get(set))
                .fold((1, entry.adjusted_weight), |sum, part| (sum.0 + part.0, sum.1 + part.1));
            let orphaned = entry.parents.iter().any(|parent| out.contains(parent));
            if orphaned || count > max_count || weight > max_weight {
                out.insert(txid);
                continue;
            }
            for set in joined {
                root.insert(set, txid);
            }
            root.insert(txid, txid);
            size.insert(txid, (count, weight));
        }
        out
    }

    /// Changes a transaction's fee for policy and mining.
    pub fn set_delta(&mut self, txid: &Txid, delta: i64) {
        let Some(entry) = self.entries.get_mut(txid) else { return };
        entry.delta = delta;
        let affected = BTreeSet::from([entry.cluster]);
        self.rebuild(&affected, []);
    }

    /// Works out anew the clusters of everything that was in `affected`, and of `new`.
    fn rebuild(&mut self, affected: &BTreeSet<u64>, new: impl IntoIterator<Item = Txid>) {
        let mut members: Vec<Txid> = new.into_iter().collect();
        for id in affected {
            if let Some(cluster) = self.clusters.remove(id) {
                for key in chunk_keys(*id, &cluster) {
                    self.chunk_index.remove(&key);
                }
                members.extend(cluster.order);
            }
        }
        let none = BTreeSet::new();
        let mut done: HashSet<Txid> = HashSet::new();
        for txid in members {
            if !self.entries.contains_key(&txid) || done.contains(&txid) {
                continue;
            }
            let part: Vec<Txid> = self.component([txid], &none).into_iter().collect();
            done.extend(&part);
            self.add_cluster(&part);
        }
    }

    fn add_cluster(&mut self, members: &[Txid]) {
        debug_assert!(members.len() <= limits::MAX_CLUSTER_COUNT, "admission keeps clusters small");
        let linearised = linearise(&self.nodes(members));
        let order: Vec<Txid> = linearised.order.iter().map(|place| members[*place]).collect();
        let weight = linearised.chunks.iter().map(|(frac, _)| frac.weight).sum();
        let cluster = Cluster { order, chunks: linearised.chunks, weight };
        let id = self.next_cluster;
        self.next_cluster += 1;
        for txid in members {
            if let Some(entry) = self.entries.get_mut(txid) {
                entry.cluster = id;
            }
        }
        self.chunk_index.extend(chunk_keys(id, &cluster));
        self.clusters.insert(id, cluster);
    }
}

fn chunk_keys(id: u64, cluster: &Cluster) -> Vec<ChunkKey> {
    let mut keys: Vec<ChunkKey> = Vec::with_capacity(cluster.chunks.len());
    for (index, (frac, txids)) in cluster.chunks().enumerate() {
        let equal_before = keys
            .last()
            .filter(|last| last.frac.cmp_rate(frac) == Ordering::Equal)
            .map_or(0, |last| last.prefix);
        let fallback = txids.iter().max().copied().unwrap_or_else(|| cluster.order[0]);
        keys.push(ChunkKey { frac, prefix: equal_before + frac.weight, fallback, cluster: id, index });
    }
    keys
}
