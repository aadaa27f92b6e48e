use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Target, Transaction,
    TxIn, TxMerkleNode, TxOut, Witness, WitnessMerkleNode,
};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{Owned, ScriptKind, Signer};

/// Keys the generator signs with; a pool, since deriving one costs as much as a signature.
const KEYS: u32 = 64;

/// Blocks before the first coin can be spent.
const MATURITY: u32 = 100;

/// Seconds between blocks.
const SPACING: u32 = 600;

/// Time of the regtest genesis block.
const GENESIS_TIME: u32 = 1_296_688_602;

/// Weight at which a block takes no further transaction: what is left holds the coinbase.
const FULL_WEIGHT: u64 = 3_900_000;

/// Blocks between two reorganisations of depth six.
const DEEP_REORG_EVERY: u32 = 50_000;

/// What the outputs of a synthetic chain are locked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// The mixes of the years 2016, 2021 and 2024 on the main network, a third of the chain each.
    Mixed,
    /// Bare `OP_TRUE` everywhere: the cost of coins alone.
    OpTrue,
}

/// What was measured in blocks of one year.
struct Era {
    /// Transactions a block, in percent of the setting.
    txs_percent: u32,
    /// Inputs of the one transaction in twenty that has five or more.
    many_inputs: RangeInclusive<u32>,
    /// Outputs of the one in eleven that has four or more.
    many_outputs: RangeInclusive<u64>,
    /// Outputs of each kind, in percent.
    locks: &'static [(u32, ScriptKind)],
}

const ERAS: [Era; 3] = [
    Era {
        txs_percent: 67,
        many_inputs: 5..=73,
        many_outputs: 4..=20,
        locks: &[(79, ScriptKind::P2pkh), (21, ScriptKind::P2shMultisig)],
    },
    Era {
        txs_percent: 108,
        many_inputs: 5..=51,
        many_outputs: 4..=24,
        locks: &[
            (40, ScriptKind::P2wpkh),
            (17, ScriptKind::P2shP2wpkh),
            (11, ScriptKind::P2shMultisig),
            (2, ScriptKind::P2shP2wsh),
            (28, ScriptKind::P2pkh),
            (2, ScriptKind::P2wsh),
        ],
    },
    Era {
        txs_percent: 124,
        many_inputs: 5..=29,
        many_outputs: 4..=60,
        locks: &[
            (40, ScriptKind::P2wpkh),
            (21, ScriptKind::P2trKey),
            (16, ScriptKind::P2trScript),
            (10, ScriptKind::P2shP2wpkh),
            (2, ScriptKind::P2shP2wsh),
            (9, ScriptKind::P2pkh),
            (2, ScriptKind::P2wsh),
        ],
    },
];

/// What chain to make.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    /// Everything follows from it.
    pub seed: u64,
    /// Blocks after the first 100, which only make coins.
    pub blocks: u32,
    /// Mean transactions a block.
    pub txs_per_block: u32,
    /// How outputs are locked.
    pub locks: Locks,
    /// Blocks after these with nothing but a coinbase.
    pub empty_tail: u32,
    /// Blocks from one reorganisation of depth 1 to the next; 0 for none.
    pub reorg_every: u32,
    /// Blocks from one invalid sibling of a block to the next; 0 for none.
    pub invalid_every: u32,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticChain {
    /// Blocks of the longest valid chain after genesis.
    pub height: u32,
    /// Its last block.
    pub tip: BlockHash,
    /// Transactions of its blocks.
    pub txs: u64,
    /// Valid blocks beside it that are connected first and left again.
    pub stale: u32,
    /// Invalid blocks beside it.
    pub invalid: u32,
}

#[derive(Clone)]
struct Live {
    outpoint: OutPoint,
    value: Amount,
    /// `None` is bare `OP_TRUE`.
    lock: Option<(ScriptKind, u32)>,
}

struct Maker {
    settings: Synthetic,
    rng: ChaCha8Rng,
    signer: Signer,
    scripts: Vec<Vec<ScriptBuf>>,
    live: Vec<Live>,
    /// Outputs of the last blocks, newest at the back, by index of block.
    recent: VecDeque<Vec<Live>>,
    /// Coinbases that are not ripe yet.
    young: VecDeque<Vec<Live>>,
    tip: BlockHash,
    height: u32,
}

/// Writes a chain of regtest blocks after genesis in block-file framing (magic, length, block).
/// Sizes, spends and ages imitate real blocks; the same settings always give the same bytes.
/// A stale or invalid block comes before the block of the same height that stays.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_synthetic_chain(settings: Synthetic, out: &mut impl Write) -> io::Result<SyntheticChain> {
    let signer = Signer::new();
    let scripts =
        ScriptKind::ALL.iter().map(|kind| (0..KEYS).map(|key| signer.script(*kind, key)).collect()).collect();
    let mut maker = Maker {
        settings,
        rng: ChaCha8Rng::seed_from_u64(settings.seed),
        signer,
        scripts,
        live: Vec::new(),
        recent: VecDeque::new(),
        young: VecDeque::new(),
        tip: bitcoin::constants::genesis_block(Network::Regtest).block_hash(),
        height: 0,
    };
    let blocks = MATURITY + settings.blocks + settings.empty_tail;
    let mut made = SyntheticChain { height: blocks, tip: maker.tip, txs: 0, stale: 0, invalid: 0 };
    for _ in 0..blocks {
        let before = maker.tip;
        let block = maker.next_block();
        for stale in maker.stale(before, &block) {
            made.stale += 1;
            write_framed(&stale, out)?;
        }
        if let Some(invalid) = maker.invalid(before, &block) {
            made.invalid += 1;
            write_framed(&invalid, out)?;
        }
        made.txs += block.txdata.len() as u64;
        write_framed(&block, out)?;
    }
    made.tip = maker.tip;
    Ok(made)
}

fn write_framed(block: &Block, out: &mut impl Write) -> io::Result<()> {
    let bytes = serialize(block);
    out.write_all(&Network::Regtest.magic().to_bytes())?;
    out.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
    out.write_all(&bytes)
}

impl Maker {
    /// Place among the blocks with transactions, from 1; `None` before and after them.
    fn place(&self) -> Option<u32> {
        self.height.checked_sub(MATURITY).filter(|place| (1..=self.settings.blocks).contains(place))
    }

    fn era(&self) -> &'static Era {
        let place = self.place().unwrap_or(1) - 1;
        let index = place as usize * ERAS.len() / self.settings.blocks.max(1) as usize;
        &ERAS[index.min(ERAS.len() - 1)]
    }

    fn next_block(&mut self) -> Block {
        self.height += 1;
        if self.young.len() >= MATURITY as usize
            && let Some(ripe) = self.young.pop_front()
        {
            self.live.extend(ripe);
        }
        let mut txs = Vec::new();
        let mut fresh: Vec<Live> = Vec::new();
        if self.place().is_some() {
            // Block sizes vary as on the main network: few small ones, most near the mean.
            let mean = self.settings.txs_per_block * self.era().txs_percent / 100;
            let count = mean * self.rng.gen_range(40..=130) / 85;
            let mut weight = 0;
            for _ in 0..count {
                if weight > FULL_WEIGHT {
                    break;
                }
                if let Some(tx) = self.payment(&mut fresh) {
                    weight += tx.weight().to_wu();
                    txs.push(tx);
                }
            }
        }
        let block = self.assemble(self.tip, self.height, 0, txs);
        self.tip = block.block_hash();
        let coinbase = self.own_outputs(&block.txdata[0], &[(0, self.coinbase_lock())]);
        self.young.push_back(coinbase);
        self.recent.push_back(fresh);
        if self.recent.len() > 7
            && let Some(old) = self.recent.pop_front()
        {
            self.live.extend(old);
        }
        block
    }

    /// Blocks on `before` that a node connects before `block` and its children outgrow them: the
    /// first half of its transactions, then, rarely, five empty ones.
    fn stale(&self, before: BlockHash, block: &Block) -> Vec<Block> {
        let due = |every: u32, depth: u32| {
            self.place().is_some_and(|place| {
                every > 0 && place % every == every / 5 && place + depth <= self.settings.blocks
            })
        };
        let depth = match (due(DEEP_REORG_EVERY, 6), due(self.settings.reorg_every, 1)) {
            (true, _) => 6,
            (false, true) => 1,
            (false, false) => return Vec::new(),
        };
        let half = 1 + (block.txdata.len() - 1) / 2;
        let mut stale = vec![self.assemble(before, self.height, 1, block.txdata[1..half].to_vec())];
        for above in 1..depth {
            let parent = stale.last().map_or(before, Block::block_hash);
            stale.push(self.assemble(parent, self.height + above, 1, Vec::new()));
        }
        stale
    }

    /// A sibling of `block` with one flaw that shows only when it is connected.
    fn invalid(&self, before: BlockHash, block: &Block) -> Option<Block> {
        let every = self.settings.invalid_every;
        let place = self.place().filter(|place| every > 0 && place % every == every - 1)?;
        let mut txs = block.txdata[1..].to_vec();
        let last = txs.last_mut()?;
        match (place / every) % 3 {
            // It spends a coin that never was.
            0 => last.input[0].previous_output.vout ^= 1 << 20,
            // It pays more than it has.
            1 => last.output[0].value += Amount::ONE_BTC * 1_000,
            // Its signatures are for another lock time, or, where there are none, its coins are
            // spent twice.
            _ => {
                let mut other = last.clone();
                other.lock_time = LockTime::from_consensus(1);
                match self.settings.locks {
                    Locks::Mixed => *last = other,
                    Locks::OpTrue => txs.push(other),
                }
            }
        }
        Some(self.assemble(before, self.height, 2, txs))
    }

    fn coinbase_lock(&self) -> Option<(ScriptKind, u32)> {
        match self.settings.locks {
            Locks::Mixed => Some((ScriptKind::P2wpkh, self.height % KEYS)),
            Locks::OpTrue => None,
        }
    }

    fn script(&self, lock: Option<(ScriptKind, u32)>) -> ScriptBuf {
        match lock {
            None => ScriptBuf::from_bytes(vec![0x51]),
            Some((kind, key)) => {
                let row = ScriptKind::ALL.iter().position(|known| *known == kind).unwrap_or_default();
                self.scripts[row][key as usize].clone()
            }
        }
    }

    fn own_outputs(&self, tx: &Transaction, locks: &[(u32, Option<(ScriptKind, u32)>)]) -> Vec<Live> {
        let txid = tx.compute_txid();
        locks
            .iter()
            .map(|(vout, lock)| Live {
                outpoint: OutPoint::new(txid, *vout),
                value: tx.output[*vout as usize].value,
                lock: *lock,
            })
            .collect()
    }

    fn random_lock(&mut self) -> Option<(ScriptKind, u32)> {
        if self.settings.locks == Locks::OpTrue {
            return None;
        }
        let mut left = self.rng.gen_range(0..100);
        let kinds = self.era().locks;
        let kind = kinds.iter().find(|(percent, _)| {
            let hit = left < *percent;
            left = left.saturating_sub(*percent);
            hit
        });
        let kind = kind.map_or(ScriptKind::P2wpkh, |(_, kind)| *kind);
        Some((kind, self.rng.gen_range(0..KEYS)))
    }

    /// A coin to spend, by the ages seen on the main network: same block 17 %, previous 18,
    /// two to seven back 10, older 55, drawn evenly over all of them.
    fn draw(&mut self, fresh: &mut Vec<Live>) -> Option<Live> {
        let age = self.rng.gen_range(0..100);
        let take = |list: &mut Vec<Live>, rng: &mut ChaCha8Rng| {
            if list.is_empty() { None } else { Some(list.swap_remove(rng.gen_range(0..list.len()))) }
        };
        let preferred = match age {
            0..=16 => take(fresh, &mut self.rng),
            17..=34 => self.recent.back_mut().and_then(|list| take(list, &mut self.rng)),
            35..=44 => {
                let older = self.recent.len().saturating_sub(1);
                if older == 0 {
                    None
                } else {
                    let index = self.rng.gen_range(0..older);
                    take(&mut self.recent[index], &mut self.rng)
                }
            }
            _ => None,
        };
        preferred.or_else(|| take(&mut self.live, &mut self.rng))
    }

    fn payment(&mut self, fresh: &mut Vec<Live>) -> Option<Transaction> {
        let inputs = match self.rng.gen_range(0..100) {
            0..=76 => 1,
            77..=88 => 2,
            89..=90 => 3,
            91..=94 => 4,
            _ => self.rng.gen_range(self.era().many_inputs.clone()),
        };
        let coins: Vec<Live> = (0..inputs).map_while(|_| self.draw(fresh)).collect();
        let total: Amount = coins.iter().map(|coin| coin.value).sum();
        if coins.is_empty() {
            return None;
        }
        let mut outputs = match self.rng.gen_range(0..100) {
            0..=42 => 1,
            43..=85 => 2,
            86..=90 => 3,
            _ => self.rng.gen_range(self.era().many_outputs.clone()),
        };
        // A chain this young has few coins; big ones are split so that there are enough to draw.
        // A long one is to end with millions of them.
        let big = if self.settings.blocks > 5_000 { 1_000_000 } else { 10_000_000 };
        if total > Amount::from_sat(big) {
            outputs = outputs.max(8);
        }
        let fee = Amount::from_sat(1_000).min(total / 2);
        let share = (total - fee) / outputs;
        let locks: Vec<_> =
            (0..u32::try_from(outputs).ok()?).map(|vout| (vout, self.random_lock())).collect();
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins
                .iter()
                .map(|coin| TxIn {
                    previous_output: coin.outpoint,
                    sequence: Sequence::MAX,
                    ..TxIn::default()
                })
                .collect(),
            output: locks
                .iter()
                .map(|(_, lock)| TxOut { value: share, script_pubkey: self.script(*lock) })
                .collect(),
        };
        if self.settings.locks == Locks::Mixed {
            let spent: Vec<Owned> = coins
                .iter()
                .filter_map(|coin| {
                    let (kind, key) = coin.lock?;
                    let output = TxOut { value: coin.value, script_pubkey: self.script(coin.lock) };
                    Some(Owned { output, kind, key })
                })
                .collect();
            self.signer.sign(&mut tx, &spent);
        }
        fresh.extend(self.own_outputs(&tx, &locks));
        Some(tx)
    }

    /// A block on `parent`; `variant` makes its coinbase differ from others of its height.
    fn assemble(&self, parent: BlockHash, at: u32, variant: i64, txs: Vec<Transaction>) -> Block {
        let mut height = at.to_le_bytes().to_vec();
        while height.last() == Some(&0) {
            height.pop();
        }
        if height.last().is_some_and(|byte| *byte >= 0x80) {
            height.push(0);
        }
        let script_sig = if at <= 16 {
            Builder::new().push_int(i64::from(at)).push_int(variant).into_script()
        } else {
            let push = PushBytesBuf::try_from(height).unwrap_or_default();
            Builder::new().push_slice(push).push_int(variant).into_script()
        };
        let mut coinbase = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig,
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0u8; 32]]),
            }],
            output: vec![TxOut {
                value: Amount::from_sat(5_000_000_000u64.checked_shr(at / 150).unwrap_or(0)),
                script_pubkey: self.script(self.coinbase_lock()),
            }],
        };
        let root =
            bitcoin::merkle_tree::calculate_root(std::iter::once(WitnessMerkleNode::all_zeros()).chain(
                txs.iter().map(|tx| WitnessMerkleNode::from_byte_array(tx.compute_wtxid().to_byte_array())),
            ))
            .unwrap_or_else(WitnessMerkleNode::all_zeros);
        let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
        let mut commitment_script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        commitment_script.extend(commitment.to_byte_array());
        coinbase
            .output
            .push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(commitment_script) });
        let mut txdata = vec![coinbase];
        txdata.extend(txs);
        let bits = CompactTarget::from_consensus(0x207f_ffff);
        let mut block = Block {
            header: Header {
                version: BlockVersion::from_consensus(0x2000_0000),
                prev_blockhash: parent,
                merkle_root: TxMerkleNode::all_zeros(),
                time: GENESIS_TIME + at * SPACING,
                bits,
                nonce: 0,
            },
            txdata,
        };
        block.header.merkle_root = block.compute_merkle_root().unwrap_or_else(TxMerkleNode::all_zeros);
        let target = Target::from_compact(bits);
        while !target.is_met_by(block.block_hash()) {
            block.header.nonce += 1;
        }
        block
    }
}

#[cfg(test)]
#[path = "synthetic_tests.rs"]
mod tests;
