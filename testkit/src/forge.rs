//! Blocks for the differential run: a regtest chain with branches, grown from a seed, about half
//! of its blocks broken in one way or another.

use std::collections::HashMap;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CLTV, OP_CSV, OP_DROP, OP_ENDIF, OP_IF};
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
};
use ironpeer_consensus::{
    Params, RegtestOptions, add_witness_commitment, block_subsidy, is_unspendable, merkle,
};
use ironpeer_primitives::Height;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::consensus::solve;
use crate::fault::Fault;
use crate::{Owned, ScriptKind, Signer};

/// Coins remembered for each block of the tree; older ones are left alone.
const PURSE: usize = 300;
/// Blocks below the tip that no branch begins at any more.
const BURIED: usize = 12;
/// Attempts to find a fault that can be made on the block at hand.
const ATTEMPTS: usize = 6;
/// Blocks until a coinbase can be spent.
const MATURITY: u32 = 100;
/// Checks of unknown multisigs that one hidden script counts; 201 operations are the most.
const HIDDEN_CHECKS: usize = 195;
/// Blocks to be broken on purpose, in percent; not every break makes a block invalid.
const FAULT_PERCENT: u32 = 57;
/// Of the broken ones, those broken twice, in percent.
const SECOND_FAULT_PERCENT: u32 = 15;
/// Chance to begin a branch when none is growing, in percent.
const BRANCH_PERCENT: u32 = 45;

/// How an output of the forge's is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// `OP_TRUE`, bare.
    True,
    /// Behind a script hash.
    TrueP2sh,
    /// Behind a witness script hash.
    TrueP2wsh,
    /// Many signature operations behind a script hash, never run.
    HiddenP2sh,
    /// The same behind a witness script hash.
    HiddenP2wsh,
    /// So many blocks after it was made (BIP112).
    Csv(u32),
    /// From a height on (BIP65).
    Cltv(u32),
    /// Nobody can spend it, though it is a coin.
    Never,
    /// With a signature.
    Signed(ScriptKind, u32),
}

/// An output that can be spent on some branch.
#[derive(Clone, Debug)]
pub(crate) struct Coin {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub lock: Lock,
    pub height: u32,
    pub is_coinbase: bool,
}

impl Coin {
    /// Whether a block at `height` may spend it.
    pub fn is_ripe(&self, height: u32) -> bool {
        match self.lock {
            _ if self.is_coinbase && height - self.height < MATURITY => false,
            Lock::Csv(age) => height - self.height >= age,
            Lock::Cltv(from) => from < height,
            Lock::Never => false,
            _ => true,
        }
    }
}

/// A block of the tree whose header may be built on.
#[derive(Clone, Debug)]
struct Node {
    hash: BlockHash,
    parent: Option<usize>,
    height: u32,
    time: u32,
    median_time: u32,
    coins: Vec<Coin>,
    /// Coins spent by this block, to be spent again by mistake.
    spent: Vec<Coin>,
}

/// A block in the making.
pub(crate) struct Draft {
    pub block: Block,
    pub height: u32,
    pub median_time: u32,
    /// Median times past of the last blocks, the parent's first.
    pub median_times: Vec<u32>,
    /// Coins left over.
    pub coins: Vec<Coin>,
    /// Coins spent on this branch before.
    pub spent: Vec<Coin>,
    pub fees: u64,
}

/// What to give both sides.
#[derive(Clone, Debug)]
pub struct Forged {
    /// The block's bytes; perhaps no block at all.
    pub bytes: Vec<u8>,
    /// Its header is to be announced first.
    pub header_first: bool,
    /// What was done to it.
    pub faults: Vec<Fault>,
    block: Block,
    again: bool,
}

impl Forged {
    /// The block's header, to be announced before it.
    #[must_use]
    pub fn header(&self) -> Header {
        self.block.header
    }
}

/// What became of a forged block, by the oracle's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Stored, whether connected or on a branch.
    Stored,
    /// Refused, or found invalid when connected.
    Failed,
}

/// Makes blocks. The same seed and the same fates always give the same blocks.
pub struct Forge {
    pub(crate) rng: ChaCha8Rng,
    params: Params,
    signer: Signer,
    /// Scripts in use and what unlocks them.
    locks: HashMap<ScriptBuf, Lock>,
    nodes: Vec<Node>,
    by_hash: HashMap<BlockHash, usize>,
    tip: usize,
    /// The end of a growing branch and the height it aims at.
    branch: Option<(usize, u32)>,
    failed: Vec<Node>,
    /// Blocks given before, some to be given again.
    given: Vec<Block>,
    /// Blocks held back, the child to be given first.
    held: Vec<Forged>,
    /// Blocks given whose parent is not in the tree.
    waiting: Vec<(Block, Fate)>,
    tag: u32,
}

impl Forge {
    /// A forge at the regtest genesis block.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let params = Params::regtest(RegtestOptions::default());
        let genesis = Node {
            hash: params.genesis_hash,
            parent: None,
            height: 0,
            time: params.genesis.header.time,
            median_time: params.genesis.header.time,
            coins: Vec::new(),
            spent: Vec::new(),
        };
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            by_hash: HashMap::from([(params.genesis_hash, 0)]),
            params,
            signer: Signer::new(),
            locks: HashMap::new(),
            nodes: vec![genesis],
            tip: 0,
            branch: None,
            failed: Vec::new(),
            given: Vec::new(),
            held: Vec::new(),
            waiting: Vec::new(),
            tag: 0,
        }
    }

    /// The parameters its blocks are made for.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn percent(&mut self, chance: u32) -> bool {
        self.rng.gen_ratio(chance, 100)
    }

    /// The next block to give to both sides.
    pub fn next_block(&mut self) -> Forged {
        if let Some(held) = self.held.pop() {
            return held;
        }
        let faults = self.choose_faults();
        if faults.contains(&Fault::Again) && !self.given.is_empty() {
            let block = self.given[self.given.len().saturating_sub(60)..]
                .choose(&mut self.rng)
                .expect("not empty")
                .clone();
            let bytes = encode(&block);
            return Forged { bytes, header_first: false, faults: vec![Fault::Again], block, again: true };
        }
        let parent = self.choose_parent();
        if faults.is_empty() && self.branch.is_none() && self.percent(3) {
            return self.forge_pair(parent);
        }
        let mut forged = self.forge_with(parent, &faults);
        for _ in 0..ATTEMPTS {
            if faults.is_empty() || !forged.faults.is_empty() {
                break;
            }
            let other = Fault::choose(&mut self.rng);
            forged = self.forge_with(parent, &[other]);
        }
        forged.header_first = self.percent(6);
        forged
    }

    fn forge_with(&mut self, parent: usize, faults: &[Fault]) -> Forged {
        let recent = self.failed.len().saturating_sub(20);
        if faults.contains(&Fault::OnFailed)
            && let Some(node) = self.failed[recent..].choose(&mut self.rng).cloned()
        {
            let mut forged = self.forge(&node, faults);
            forged.faults.push(Fault::OnFailed);
            return forged;
        }
        self.forge(&self.nodes[parent].clone(), faults)
    }

    /// A parent and its child, to be given with the child's body first.
    fn forge_pair(&mut self, parent: usize) -> Forged {
        let mut first = self.forge(&self.nodes[parent].clone(), &[]);
        first.header_first = true;
        let above = self.node_of(&first.block, parent);
        let mut second = self.forge(&above, &[]);
        second.header_first = true;
        let header_only = Forged { bytes: Vec::new(), ..first.clone() };
        self.held = vec![Forged { header_first: false, ..first }, second];
        header_only
    }

    fn choose_faults(&mut self) -> Vec<Fault> {
        if !self.percent(FAULT_PERCENT) {
            return Vec::new();
        }
        let mut faults = vec![Fault::choose(&mut self.rng)];
        if self.percent(SECOND_FAULT_PERCENT) {
            faults.push(Fault::choose(&mut self.rng));
        }
        faults
    }

    fn choose_parent(&mut self) -> usize {
        let tip_height = self.nodes[self.tip].height;
        if let Some((end, goal)) = self.branch {
            if self.nodes[end].height < goal && goal + 3 > tip_height {
                return end;
            }
            self.branch = None;
        }
        if tip_height > 8 && self.percent(BRANCH_PERCENT) {
            let depth = *[1, 1, 1, 1, 2, 2, 3, 6].choose(&mut self.rng).expect("not empty");
            let mut base = self.tip;
            for _ in 0..depth {
                base = self.nodes[base].parent.expect("deep enough");
            }
            self.branch = Some((base, tip_height + 1));
            return base;
        }
        self.tip
    }

    /// Tells what became of a block and where the active chain now ends.
    pub fn told(&mut self, forged: &Forged, fate: Fate, tip: BlockHash) {
        if !forged.again && !forged.bytes.is_empty() {
            self.given.push(forged.block.clone());
            self.waiting.push((forged.block.clone(), fate));
            // A parent given after its child lets both in.
            while let Some(place) = self
                .waiting
                .iter()
                .position(|(block, _)| self.by_hash.contains_key(&block.header.prev_blockhash))
            {
                let (block, fate) = self.waiting.swap_remove(place);
                self.plant(&block, fate);
            }
        }
        self.tip = self.by_hash.get(&tip).copied().unwrap_or(self.tip);
        self.branch = self.branch.filter(|(end, _)| *end != self.tip);
        let mut below = Some(self.tip);
        for _ in 0..BURIED {
            below = below.and_then(|index| self.nodes[index].parent);
        }
        if let Some(buried) = below {
            self.nodes[buried].coins = Vec::new();
        }
    }

    /// Puts a block whose parent is known into the tree.
    fn plant(&mut self, block: &Block, fate: Fate) {
        let hash = block.block_hash();
        let parent = self.by_hash[&block.header.prev_blockhash];
        if self.by_hash.contains_key(&hash) {
            return;
        }
        let node = self.node_of(block, parent);
        match fate {
            Fate::Stored => {
                let index = self.nodes.len();
                if let Some((end, goal)) = self.branch
                    && end == parent
                {
                    self.branch = Some((index, goal));
                }
                self.by_hash.insert(hash, index);
                self.nodes.push(node);
            }
            Fate::Failed => self.failed.push(node),
        }
    }

    /// A tree node for a block as it stands, sound or not.
    fn node_of(&self, block: &Block, parent: usize) -> Node {
        let above = &self.nodes[parent];
        let height = above.height + 1;
        let mut coins = above.coins.clone();
        let mut spent = Vec::new();
        for (index, tx) in block.txdata.iter().enumerate() {
            for input in &tx.input {
                if let Some(place) = coins.iter().position(|coin| coin.outpoint == input.previous_output) {
                    spent.push(coins.remove(place));
                }
            }
            let txid = tx.compute_txid();
            for (vout, output) in (0..).zip(&tx.output) {
                if let Some(lock) = self.locks.get(&output.script_pubkey)
                    && output.value <= Amount::MAX_MONEY
                    && !is_unspendable(&output.script_pubkey)
                {
                    coins.push(Coin {
                        outpoint: OutPoint { txid, vout },
                        output: output.clone(),
                        lock: *lock,
                        height,
                        is_coinbase: index == 0,
                    });
                }
            }
        }
        let excess = coins.len().saturating_sub(PURSE);
        coins.drain(..excess);
        let mut node = Node {
            hash: block.block_hash(),
            parent: Some(parent),
            height,
            time: block.header.time,
            median_time: 0,
            coins,
            spent,
        };
        node.median_time = self.median_time(&node);
        node
    }

    fn median_time(&self, node: &Node) -> u32 {
        let mut times = vec![node.time];
        let mut above = node.parent;
        while let (Some(index), true) = (above, times.len() < 11) {
            times.push(self.nodes[index].time);
            above = self.nodes[index].parent;
        }
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// A block on top of `node`, with these faults where they can be made.
    fn forge(&mut self, node: &Node, faults: &[Fault]) -> Forged {
        let mut draft = self.draft(node);
        let mut done: Vec<Fault> = Vec::new();
        let mut make = |faults: &[Fault],
                        this: &mut Self,
                        draft: &mut Draft,
                        stage: fn(Fault, &mut Self, &mut Draft) -> bool| {
            for fault in faults {
                if stage(*fault, this, draft) {
                    done.push(*fault);
                }
            }
        };
        make(faults, self, &mut draft, Fault::before_commitment);
        let has_witness =
            draft.block.txdata.iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty()));
        if has_witness || self.percent(70) {
            add_witness_commitment(&mut draft.block);
        }
        make(faults, self, &mut draft, Fault::after_commitment);
        let txids = draft.block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        draft.block.header.merkle_root = TxMerkleNode::from_byte_array(merkle::merkle_root(txids).0);
        make(faults, self, &mut draft, Fault::after_merkle_root);
        if draft.block.header.bits == self.params.genesis.header.bits || faults.contains(&Fault::WrongBits) {
            solve(&mut draft.block.header, &self.params);
        }
        make(faults, self, &mut draft, Fault::after_solution);
        let mut bytes = encode(&draft.block);
        if faults.contains(&Fault::RawFlip) {
            let place = self.rng.gen_range(80..bytes.len());
            bytes[place] ^= 1 << self.rng.gen_range(0..8);
            done.push(Fault::RawFlip);
        }
        let again = faults.contains(&Fault::RawFlip);
        Forged { bytes, header_first: false, faults: done, block: draft.block, again }
    }

    /// A sound block on top of `node`, not sealed yet.
    fn draft(&mut self, node: &Node) -> Draft {
        let height = node.height + 1;
        let mut median_times = vec![node.median_time];
        let mut above = node.parent;
        while let Some(index) = above {
            median_times.push(self.nodes[index].median_time);
            above = self.nodes[index].parent;
        }
        let time = if self.percent(15) {
            node.median_time + 1
        } else {
            node.time.max(node.median_time) + self.rng.gen_range(1..1_200)
        };
        let mut spent = node.spent.clone();
        if let Some(parent) = node.parent {
            spent.extend(self.nodes[parent].spent.iter().cloned());
        }
        let version = *[4, 5, 0x2000_0000, 0x3000_0000, i32::MAX].choose(&mut self.rng).expect("not empty");
        let header = Header {
            version: BlockVersion::from_consensus(version),
            prev_blockhash: node.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: self.params.genesis.header.bits,
            nonce: self.rng.r#gen::<u32>() >> 1,
        };
        let mut draft = Draft {
            block: Block { header, txdata: Vec::new() },
            height,
            median_time: node.median_time,
            median_times,
            coins: node.coins.clone(),
            spent,
            fees: 0,
        };
        let count = *[0, 1, 1, 1, 2, 2, 3, 5].choose(&mut self.rng).expect("not empty");
        let txs: Vec<_> = (0..count).filter_map(|_| self.spend_some(&mut draft)).collect();
        draft.block.txdata.push(self.coinbase(&draft));
        draft.block.txdata.extend(txs);
        draft
    }

    fn coinbase(&mut self, draft: &Draft) -> Transaction {
        self.tag += 1;
        let mut value = block_subsidy(Height(draft.height), &self.params).to_sat() + draft.fees;
        if self.percent(10) {
            value -= value / 10;
        }
        let script_sig = ScriptBuf::builder()
            .push_int(i64::from(draft.height))
            .push_slice(self.tag.to_le_bytes())
            .into_script();
        Transaction {
            version: Version(self.rng.gen_range(-1..4)),
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig,
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: self.outputs(value, draft.height, 2),
        }
    }

    /// Splits a value over a few outputs, at most `most`.
    fn outputs(&mut self, mut value: u64, height: u32, most: u32) -> Vec<TxOut> {
        let count = self.rng.gen_range(1..=most);
        let mut outputs = Vec::new();
        for place in 1..=count {
            let part = if place == count { value } else { self.rng.gen_range(0..=value) };
            value -= part;
            outputs.push(TxOut { value: Amount::from_sat(part), script_pubkey: self.lock_script(height) });
        }
        match self.rng.gen_range(0..40) {
            0 => outputs.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return([7; 9]) }),
            1 => outputs.push(TxOut {
                value: Amount::ZERO,
                script_pubkey: ScriptBuf::from_bytes(vec![0x51; 10_000 + self.rng.gen_range(0..2)]),
            }),
            _ => {}
        }
        outputs
    }

    /// A script to lock a new output with.
    fn lock_script(&mut self, height: u32) -> ScriptBuf {
        let lock = match self.rng.gen_range(0..100) {
            0..55 => Lock::True,
            55..65 => Lock::TrueP2sh,
            65..75 => Lock::TrueP2wsh,
            75..79 => Lock::HiddenP2sh,
            79..83 => Lock::HiddenP2wsh,
            83..87 => Lock::Csv(self.rng.gen_range(0..4)),
            87..90 => Lock::Cltv(height + self.rng.gen_range(0..4)),
            90..91 => Lock::Never,
            _ => {
                let kind = *ScriptKind::ALL.choose(&mut self.rng).expect("not empty");
                Lock::Signed(kind, self.rng.gen_range(1..20))
            }
        };
        let script = match lock {
            Lock::True => ScriptBuf::from_bytes(vec![0x51]),
            Lock::TrueP2sh => ScriptBuf::new_p2sh(&op_true().script_hash()),
            Lock::TrueP2wsh => op_true().to_p2wsh(),
            Lock::HiddenP2sh => ScriptBuf::new_p2sh(&hidden().script_hash()),
            Lock::HiddenP2wsh => hidden().to_p2wsh(),
            Lock::Csv(age) => timed(age, OP_CSV),
            Lock::Cltv(from) => timed(from, OP_CLTV),
            Lock::Never => ScriptBuf::from_bytes(vec![0x00]),
            Lock::Signed(kind, key) => self.signer.script(kind, key),
        };
        self.locks.insert(script.clone(), lock);
        script
    }

    /// A sound transaction spending some of the draft's coins, whose outputs join them.
    pub(crate) fn spend_some(&mut self, draft: &mut Draft) -> Option<Transaction> {
        let count = *[1, 1, 1, 2, 3].choose(&mut self.rng).expect("not empty");
        let mut coins = Vec::new();
        for _ in 0..count {
            let ripe: Vec<usize> =
                (0..draft.coins.len()).filter(|place| draft.coins[*place].is_ripe(draft.height)).collect();
            // Young coins first, mostly: old ones last for long.
            let place = if self.percent(60) { ripe.last() } else { ripe.choose(&mut self.rng) };
            coins.push(draft.coins.swap_remove(*place?));
        }
        let (tx, fee) = self.spend(&coins, draft);
        draft.fees += fee;
        let txid = tx.compute_txid();
        for (vout, output) in (0..).zip(&tx.output) {
            if let Some(lock) = self.locks.get(&output.script_pubkey) {
                draft.coins.push(Coin {
                    outpoint: OutPoint { txid, vout },
                    output: output.clone(),
                    lock: *lock,
                    height: draft.height,
                    is_coinbase: false,
                });
            }
        }
        draft.spent.extend(coins);
        Some(tx)
    }

    /// A signed transaction that spends all of `coins`, and its fee.
    pub(crate) fn spend(&mut self, coins: &[Coin], draft: &Draft) -> (Transaction, u64) {
        let value: u64 = coins.iter().map(|coin| coin.output.value.to_sat()).sum();
        let fee = if self.percent(30) { 0 } else { self.rng.gen_range(0..=value.min(5_000)) };
        let needs_age = coins.iter().any(|coin| matches!(coin.lock, Lock::Csv(_)));
        let version =
            if needs_age { 2 } else { *[1, 2, 2, 2, 3, 0, -1].choose(&mut self.rng).expect("not empty") };
        let mut lock_time = coins
            .iter()
            .filter_map(|coin| match coin.lock {
                Lock::Cltv(from) => Some(from),
                _ => None,
            })
            .max()
            .unwrap_or(0);
        let input = coins
            .iter()
            .map(|coin| TxIn {
                previous_output: coin.outpoint,
                script_sig: ScriptBuf::new(),
                sequence: self.sequence(coin, draft),
                witness: Witness::new(),
            })
            .collect::<Vec<_>>();
        if input.iter().all(|input| input.sequence == Sequence::MAX) && self.percent(20) {
            // Without meaning, since every input is final.
            lock_time = self.rng.r#gen();
        } else if lock_time == 0 && self.percent(20) {
            lock_time = if self.percent(50) { draft.height - 1 } else { draft.median_time - 1 };
        }
        let mut tx = Transaction {
            version: Version(version),
            lock_time: LockTime::from_consensus(lock_time),
            input,
            output: self.outputs(value - fee, draft.height, 3),
        };
        self.unlock(&mut tx, coins);
        (tx, fee)
    }

    /// A sequence number that lets the coin be spent in the draft's block.
    fn sequence(&mut self, coin: &Coin, draft: &Draft) -> Sequence {
        let age = draft.height - coin.height;
        match coin.lock {
            Lock::Csv(least) => return Sequence(self.rng.gen_range(least..=age.min(0xffff))),
            Lock::Cltv(_) => return Sequence(0xffff_fffe),
            _ => {}
        }
        match self.rng.gen_range(0..10) {
            0 => Sequence(self.rng.gen_range(0..=age.min(0xffff))),
            1 => {
                // The block before the coin's is `age` blocks above the parent.
                let made = draft.median_times.get(age as usize).or(draft.median_times.last()).copied();
                let units = draft.median_time.saturating_sub(made.unwrap_or(draft.median_time)) / 512;
                Sequence(1 << 22 | units.min(0xffff))
            }
            2 => Sequence(1 << 31 | self.rng.r#gen::<u32>() >> 1),
            _ => Sequence::MAX,
        }
    }

    /// Gives every input what unlocks its coin.
    pub(crate) fn unlock(&self, tx: &mut Transaction, coins: &[Coin]) {
        if coins.iter().any(|coin| matches!(coin.lock, Lock::Signed(..))) {
            let owned: Vec<Owned> = coins
                .iter()
                .map(|coin| {
                    let (kind, key) = match coin.lock {
                        Lock::Signed(kind, key) => (kind, key),
                        // Overwritten below.
                        _ => (ScriptKind::P2trKey, 1),
                    };
                    Owned { output: coin.output.clone(), kind, key }
                })
                .collect();
            self.signer.sign(tx, &owned);
        }
        for (input, coin) in tx.input.iter_mut().zip(coins) {
            let (script_sig, witness) = match coin.lock {
                Lock::Signed(..) => continue,
                Lock::TrueP2sh => (push(&op_true()), Witness::new()),
                Lock::HiddenP2sh => (push(&hidden()), Witness::new()),
                Lock::TrueP2wsh => (ScriptBuf::new(), Witness::from_slice(&[op_true().as_bytes()])),
                Lock::HiddenP2wsh => (ScriptBuf::new(), Witness::from_slice(&[hidden().as_bytes()])),
                _ => (ScriptBuf::new(), Witness::new()),
            };
            input.script_sig = script_sig;
            input.witness = witness;
        }
    }
}

fn op_true() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

/// True, after a branch not taken that counts 20 signature operations for each of its checks.
fn hidden() -> ScriptBuf {
    let mut script = ScriptBuf::builder().push_int(1).push_int(0).push_opcode(OP_IF).into_script();
    for _ in 0..HIDDEN_CHECKS {
        script.push_opcode(OP_CHECKMULTISIG);
    }
    script.push_opcode(OP_ENDIF);
    script
}

fn timed(n: u32, opcode: bitcoin::opcodes::Opcode) -> ScriptBuf {
    ScriptBuf::builder()
        .push_int(i64::from(n))
        .push_opcode(opcode)
        .push_opcode(OP_DROP)
        .push_int(1)
        .into_script()
}

fn push(script: &ScriptBuf) -> ScriptBuf {
    ScriptBuf::builder()
        .push_slice(PushBytesBuf::try_from(script.to_bytes()).expect("short enough to push"))
        .into_script()
}

/// A block's bytes as Core writes them. A transaction without inputs and outputs is written
/// without the witness marker that the `bitcoin` crate would give it.
fn encode(block: &Block) -> Vec<u8> {
    let mut bytes = serialize(&block.header);
    bytes.extend(serialize(&bitcoin::VarInt::from(block.txdata.len())));
    for tx in &block.txdata {
        if tx.input.is_empty() && tx.output.is_empty() {
            bytes.extend(tx.version.0.to_le_bytes());
            bytes.extend([0, 0]);
            bytes.extend(tx.lock_time.to_consensus_u32().to_le_bytes());
        } else {
            bytes.extend(serialize(tx));
        }
    }
    bytes
}
