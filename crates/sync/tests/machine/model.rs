//! A header tree that keeps Core's header rules, with block bodies checked but without coins, and
//! a mempool that knows parents, conflicts and fees: as much as the machine can see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, Work,
    Wtxid,
};
use ironpeer_consensus::{
    Ancestry, CheckBlock, Params, RegtestOptions, add_witness_commitment, check_block, check_header,
    contextual_check_header,
};
use ironpeer_primitives::{
    BlockClass, BlockReject, BlockUndo, ChainEvent, ChainRead, ConnectedBlock, HeaderInfo, Height,
    MempoolRead, PoolTx, TxClass, TxReject, UnixTime,
};
use ironpeer_sync::BlockOutcome;

pub fn params() -> Params {
    Params::regtest(RegtestOptions::default())
}

fn height_script(height: u32) -> ScriptBuf {
    bitcoin::script::Builder::new()
        .push_int(i64::from(height))
        .push_opcode(bitcoin::opcodes::OP_0)
        .into_script()
}

/// A child block of `parent` at `height`, with proof of work. `tag` tells rival blocks apart.
pub fn mine(params: &Params, parent: &Header, height: u32, tag: u64, txs: &[Arc<Transaction>]) -> Block {
    mine_at(params, parent, height, tag, txs, parent.time + 600)
}

/// The same at a time in Unix seconds.
pub fn mine_at(
    params: &Params,
    parent: &Header,
    height: u32,
    tag: u64,
    txs: &[Arc<Transaction>],
    time: u32,
) -> Block {
    let coinbase = Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: height_script(height),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(50 * 100_000_000),
            script_pubkey: ScriptBuf::from_bytes(tag.to_le_bytes().to_vec()),
        }],
    };
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: parent.block_hash(),
            merkle_root: bitcoin::TxMerkleNode::all_zeros(),
            time,
            bits: parent.bits,
            nonce: 0,
        },
        txdata: std::iter::once(coinbase).chain(txs.iter().map(|tx| (**tx).clone())).collect(),
    };
    if !txs.is_empty() {
        add_witness_commitment(&mut block);
    }
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while check_header(&block.header, params).is_err() {
        block.header.nonce += 1;
    }
    block
}

/// `length` blocks on top of `parent`.
pub fn mine_chain(params: &Params, parent: &Header, height: u32, length: u32, tag: u64) -> Vec<Arc<Block>> {
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    for n in 0..length {
        let parent = blocks.last().map_or(*parent, |block| block.header);
        blocks.push(Arc::new(mine(params, &parent, height + 1 + n, tag, &[])));
    }
    blocks
}

pub struct Tree {
    pub params: Arc<Params>,
    infos: Vec<HeaderInfo>,
    parents: Vec<usize>,
    by_hash: BTreeMap<BlockHash, usize>,
    active: Vec<usize>,
    /// The header with the most work that did not fail.
    best: usize,
    blocks: BTreeMap<BlockHash, Arc<Block>>,
    /// Blocks that fail when they are connected.
    pub bad: BTreeSet<BlockHash>,
    pub initial_download: bool,
    pub minimum_chainwork: Work,
    seq: u64,
}

struct Branch<'a>(&'a Tree, usize);

impl Ancestry for Branch<'_> {
    fn height(&self) -> Height {
        self.0.infos[self.1].height
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)> {
        let info = self.0.ancestor(&self.0.infos[self.1].hash, height)?;
        Some((info.hash, info.header))
    }
}

impl Tree {
    pub fn new() -> Self {
        let params = Arc::new(params());
        let header = params.genesis.header;
        let info = HeaderInfo {
            hash: params.genesis_hash,
            header,
            height: Height::GENESIS,
            chainwork: header.work(),
            median_time_past: i64::from(header.time),
            tx_count: 1,
            has_data: true,
            failed: false,
            fully_valid: true,
            active: true,
        };
        Self {
            infos: vec![info],
            parents: vec![0],
            by_hash: BTreeMap::from([(info.hash, 0)]),
            active: vec![0],
            best: 0,
            blocks: BTreeMap::from([(info.hash, Arc::new(params.genesis.clone()))]),
            bad: BTreeSet::new(),
            initial_download: true,
            minimum_chainwork: Work::from_be_bytes([0; 32]),
            seq: 0,
            params,
        }
    }

    pub fn block(&self, hash: &BlockHash) -> Option<Arc<Block>> {
        self.blocks.get(hash).cloned()
    }

    /// Mines on the tip and connects.
    pub fn extend(&mut self, count: u32, tag: u64, now: UnixTime) -> Vec<ChainEvent> {
        let tip = self.tip();
        let blocks = mine_chain(&self.params, &tip.header, tip.height.0, count, tag);
        blocks.into_iter().filter_map(|block| self.accept_block(block, true, true, now).1).collect()
    }

    fn accept_header(
        &mut self,
        header: &Header,
        min_pow_checked: bool,
        now: UnixTime,
    ) -> Result<usize, BlockReject> {
        let hash = header.block_hash();
        if let Some(&known) = self.by_hash.get(&hash) {
            if self.infos[known].failed {
                return Err(BlockReject::new(BlockClass::CachedInvalid, "duplicate-invalid")
                    .with_debug(format!("block {hash} was previously marked invalid")));
            }
            return Ok(known);
        }
        check_header(header, &self.params)?;
        let Some(&parent) = self.by_hash.get(&header.prev_blockhash) else {
            return Err(BlockReject::new(BlockClass::MissingPrev, "prev-blk-not-found"));
        };
        if self.infos[parent].failed {
            return Err(BlockReject::new(BlockClass::InvalidPrev, "bad-prevblk"));
        }
        contextual_check_header(header, &Branch(self, parent), &self.params, now)?;
        if !min_pow_checked {
            return Err(BlockReject::new(BlockClass::HeaderLowWork, "too-little-chainwork"));
        }
        let index = self.infos.len();
        self.infos.push(HeaderInfo {
            hash,
            header: *header,
            height: self.infos[parent].height.next(),
            chainwork: self.infos[parent].chainwork + header.work(),
            median_time_past: i64::from(header.time),
            tx_count: 0,
            has_data: false,
            failed: false,
            fully_valid: false,
            active: false,
        });
        self.parents.push(parent);
        self.by_hash.insert(hash, index);
        if self.infos[index].chainwork > self.infos[self.best].chainwork {
            self.best = index;
        }
        Ok(index)
    }

    pub fn accept_headers(&mut self, headers: &[Header], now: UnixTime) -> Result<HeaderInfo, BlockReject> {
        let mut last = 0;
        for header in headers {
            last = self.accept_header(header, true, now)?;
        }
        Ok(self.infos[last])
    }

    pub fn accept_block(
        &mut self,
        block: Arc<Block>,
        force: bool,
        min_pow_checked: bool,
        now: UnixTime,
    ) -> (BlockOutcome, Option<ChainEvent>) {
        let refuse = |reject| (BlockOutcome { new: false, result: Err(reject) }, None);
        let hash = block.block_hash();
        if let Err(reject) = check_block(&block, &self.params, CheckBlock { pow: true, merkle: true }) {
            return refuse(reject);
        }
        let index = match self.accept_header(&block.header, min_pow_checked, now) {
            Ok(index) => index,
            Err(reject) => return refuse(reject),
        };
        let unwanted = !force && self.infos[index].chainwork < self.tip().chainwork;
        if self.infos[index].has_data || unwanted {
            return (BlockOutcome { new: false, result: Ok(()) }, None);
        }
        self.infos[index].has_data = true;
        self.infos[index].tx_count = block.txdata.len() as u32;
        self.blocks.insert(hash, block);
        let mut result = Ok(());
        let event = self.activate(&mut |failed| {
            if failed == hash {
                result = Err(BlockReject::new(BlockClass::Consensus, "bad-txns-inputs-missingorspent"));
            }
        });
        (BlockOutcome { new: true, result }, event)
    }

    /// Moves to the chain with the most work whose bodies are all here; the first one stays if
    /// another has as much.
    fn activate(&mut self, on_failure: &mut dyn FnMut(BlockHash)) -> Option<ChainEvent> {
        let mut event = ChainEvent { seq: self.seq, disconnected: Vec::new(), connected: Vec::new() };
        loop {
            let tip = *self.active.last().unwrap();
            let best = (0..self.infos.len())
                .filter(|index| self.infos[*index].chainwork > self.infos[tip].chainwork)
                .filter(|index| self.connectable(*index))
                .max_by(|a, b| self.infos[*a].chainwork.cmp(&self.infos[*b].chainwork).then(b.cmp(a)));
            let Some(best) = best else { break };
            let mut path = Vec::new();
            let mut walk = best;
            while !self.infos[walk].active {
                path.push(walk);
                walk = self.parents[walk];
            }
            if let Some(bad) = path.iter().rev().find(|index| self.bad.contains(&self.infos[**index].hash)) {
                let hash = self.infos[*bad].hash;
                let height = self.infos[*bad].height;
                for index in 0..self.infos.len() {
                    let of = self.infos[index].hash;
                    if self.ancestor(&of, height).is_some_and(|info| info.hash == hash) {
                        self.infos[index].failed = true;
                    }
                }
                // The first of several equal ones.
                let valid = (0..self.infos.len()).rev().filter(|index| !self.infos[*index].failed);
                self.best = valid.max_by_key(|index| self.infos[*index].chainwork).unwrap();
                on_failure(hash);
                continue;
            }
            while *self.active.last().unwrap() != walk {
                let off = self.active.pop().unwrap();
                self.infos[off].active = false;
                event.disconnected.push(self.connected(off));
            }
            for index in path.into_iter().rev() {
                self.infos[index].active = true;
                self.infos[index].fully_valid = true;
                self.active.push(index);
                event.connected.push(self.connected(index));
            }
        }
        if event.connected.is_empty() {
            return None;
        }
        self.seq += 1;
        Some(event)
    }

    fn connectable(&self, index: usize) -> bool {
        let mut walk = index;
        while !self.infos[walk].active {
            if self.infos[walk].failed || !self.infos[walk].has_data {
                return false;
            }
            walk = self.parents[walk];
        }
        true
    }

    fn connected(&self, index: usize) -> Arc<ConnectedBlock> {
        let info = self.infos[index];
        Arc::new(ConnectedBlock {
            hash: info.hash,
            height: info.height,
            block: Arc::clone(&self.blocks[&info.hash]),
            spent: Arc::new(BlockUndo::default()),
        })
    }
}

impl ChainRead for Tree {
    fn tip(&self) -> HeaderInfo {
        self.infos[*self.active.last().unwrap()]
    }

    fn best_header(&self) -> HeaderInfo {
        self.infos[self.best]
    }

    fn header(&self, hash: &BlockHash) -> Option<HeaderInfo> {
        self.by_hash.get(hash).map(|index| self.infos[*index])
    }

    fn active_at(&self, height: Height) -> Option<HeaderInfo> {
        self.active.get(height.index()).map(|index| self.infos[*index])
    }

    fn ancestor(&self, of: &BlockHash, height: Height) -> Option<HeaderInfo> {
        let mut walk = *self.by_hash.get(of)?;
        if self.infos[walk].height < height {
            return None;
        }
        while self.infos[walk].height > height {
            if self.infos[walk].active {
                return self.active_at(height);
            }
            walk = self.parents[walk];
        }
        Some(self.infos[walk])
    }

    fn locator(&self, from: &BlockHash) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        let (mut height, mut step) = (self.header(from).unwrap().height.0, 1);
        loop {
            hashes.push(self.ancestor(from, Height(height)).unwrap().hash);
            if height == 0 {
                return hashes;
            }
            height = height.saturating_sub(step);
            if hashes.len() > 10 {
                step *= 2;
            }
        }
    }

    fn find_fork(&self, locator: &[BlockHash]) -> HeaderInfo {
        let known = locator.iter().filter_map(|hash| self.header(hash));
        let tip = self.tip();
        for info in known {
            if info.active {
                return info;
            }
            if self.ancestor(&info.hash, tip.height).is_some_and(|ancestor| ancestor.hash == tip.hash) {
                return tip;
            }
        }
        self.infos[0]
    }

    fn is_initial_block_download(&self) -> bool {
        self.initial_download
    }

    fn minimum_chainwork(&self) -> Work {
        self.minimum_chainwork
    }
}

/// A transaction that spends `inputs`; `tag` tells equal ones apart.
pub fn tx(inputs: &[OutPoint], tag: u32) -> Arc<Transaction> {
    let input = |previous_output: &OutPoint| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[tag.to_le_bytes()]),
    };
    Arc::new(Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(input).collect(),
        output: vec![
            TxOut { value: Amount::from_sat(u64::from(tag)), script_pubkey: ScriptBuf::new() },
            TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() },
        ],
    })
}

/// A coin that every model mempool takes for unspent.
pub fn coin(n: u32) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([0xc0; 32]), vout: n }
}

pub fn child(parent: &Transaction, vout: u32, tag: u32) -> Arc<Transaction> {
    tx(&[OutPoint { txid: parent.compute_txid(), vout }], tag)
}

pub struct Pool {
    entries: BTreeMap<Wtxid, PoolTx>,
    by_txid: BTreeMap<Txid, Wtxid>,
    spent: BTreeMap<OutPoint, Txid>,
    confirmed: BTreeSet<Txid>,
    next_sequence: u64,
    /// Transactions refused, with the class of the refusal.
    pub refused: BTreeMap<Wtxid, TxClass>,
    /// Fee of a transaction, 1,000 unless it stands here.
    pub fees: BTreeMap<Wtxid, u64>,
    pub min_fee: u64,
    /// How often a transaction was checked.
    pub checked: usize,
}

impl Pool {
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_txid: BTreeMap::new(),
            spent: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            next_sequence: 1,
            refused: BTreeMap::new(),
            fees: BTreeMap::new(),
            min_fee: 100,
            checked: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn accept(&mut self, tx: &Arc<Transaction>, now: UnixTime) -> Result<(), TxReject> {
        self.checked += 1;
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        if let Some(class) = self.refused.get(&wtxid) {
            return Err(TxReject::new(*class, "refused"));
        }
        if self.confirmed.contains(&txid) {
            return Err(TxReject::new(TxClass::Conflict, "txn-already-known"));
        }
        if self.by_txid.contains_key(&txid) {
            return Err(TxReject::new(TxClass::Conflict, "txn-already-in-mempool"));
        }
        for input in &tx.input {
            let from = input.previous_output;
            let known = self.by_txid.contains_key(&from.txid) || self.confirmed.contains(&from.txid);
            if from.txid != coin(0).txid && !known {
                return Err(TxReject::new(TxClass::MissingInputs, "bad-txns-inputs-missingorspent"));
            }
            if self.spent.contains_key(&from) {
                return Err(TxReject::new(TxClass::Conflict, "txn-mempool-conflict"));
            }
        }
        for input in &tx.input {
            self.spent.insert(input.previous_output, txid);
        }
        let fee = self.fees.get(&wtxid).copied().unwrap_or(1_000);
        self.by_txid.insert(txid, wtxid);
        self.entries.insert(
            wtxid,
            PoolTx {
                tx: Arc::clone(tx),
                txid,
                wtxid,
                fee: Amount::from_sat(fee),
                vsize: tx.vsize() as u64,
                time: now,
                sequence: self.next_sequence,
            },
        );
        self.next_sequence += 1;
        Ok(())
    }

    /// Takes out what a block contains, and puts back what another one contained.
    pub fn follow(&mut self, event: &ChainEvent, now: UnixTime) {
        let txs = |block: &ConnectedBlock| block.block.txdata.iter().skip(1).cloned().collect::<Vec<_>>();
        for tx in event.disconnected.iter().flat_map(|block| txs(block)) {
            self.confirmed.remove(&tx.compute_txid());
        }
        for tx in event.connected.iter().flat_map(|block| txs(block)) {
            self.confirmed.insert(tx.compute_txid());
            if let Some(wtxid) = self.by_txid.remove(&tx.compute_txid()) {
                self.entries.remove(&wtxid);
            }
            for input in &tx.input {
                self.spent.remove(&input.previous_output);
            }
        }
        for tx in event.disconnected.iter().rev().flat_map(|block| txs(block)) {
            let _ = self.accept(&Arc::new(tx), now);
        }
    }
}

impl MempoolRead for Pool {
    fn by_wtxid(&self, wtxid: &Wtxid) -> Option<PoolTx> {
        self.entries.get(wtxid).cloned()
    }

    fn by_txid(&self, txid: &Txid) -> Option<PoolTx> {
        self.by_wtxid(self.by_txid.get(txid)?)
    }

    fn all(&self) -> Vec<PoolTx> {
        let mut all: Vec<PoolTx> = self.entries.values().cloned().collect();
        all.sort_by_key(|entry| entry.sequence);
        all
    }

    fn sequence(&self) -> u64 {
        self.next_sequence
    }

    fn min_fee_per_kvb(&self) -> u64 {
        self.min_fee
    }
}
