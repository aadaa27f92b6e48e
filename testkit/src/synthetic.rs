use std::collections::VecDeque;
use std::io::{self, Write};

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

/// What the outputs of a synthetic chain are locked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// The mix of the year 2024 on the main network.
    Mixed,
    /// Bare `OP_TRUE` everywhere: the cost of coins alone.
    OpTrue,
}

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
/// Returns the number of blocks and of transactions.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_synthetic_chain(settings: Synthetic, out: &mut impl Write) -> io::Result<(u32, u64)> {
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
    let mut txs = 0;
    let blocks = MATURITY + settings.blocks + settings.empty_tail;
    for _ in 0..blocks {
        let block = maker.next_block();
        txs += block.txdata.len() as u64;
        let bytes = serialize(&block);
        out.write_all(&Network::Regtest.magic().to_bytes())?;
        out.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
        out.write_all(&bytes)?;
    }
    Ok((blocks, txs))
}

impl Maker {
    fn next_block(&mut self) -> Block {
        self.height += 1;
        if self.young.len() >= MATURITY as usize
            && let Some(ripe) = self.young.pop_front()
        {
            self.live.extend(ripe);
        }
        let mut txs = Vec::new();
        let mut fresh: Vec<Live> = Vec::new();
        if (MATURITY + 1..=MATURITY + self.settings.blocks).contains(&self.height) {
            // Block sizes vary as on the main network: few small ones, most near the mean.
            let count = self.settings.txs_per_block * self.rng.gen_range(40..=130) / 100;
            for _ in 0..count {
                if let Some(tx) = self.payment(&mut fresh) {
                    txs.push(tx);
                }
            }
        }
        let block = self.assemble(txs);
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
        let kind = match self.rng.gen_range(0..100) {
            0..=39 => ScriptKind::P2wpkh,
            40..=60 => ScriptKind::P2trKey,
            61..=75 => ScriptKind::P2trScript,
            76..=83 => ScriptKind::P2shP2wpkh,
            84..=86 => ScriptKind::P2shMultisig,
            87..=88 => ScriptKind::P2shP2wsh,
            89..=96 => ScriptKind::P2pkh,
            97..=98 => ScriptKind::P2wsh,
            _ => ScriptKind::BareMultisig,
        };
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
            91..=93 => 4,
            _ => self.rng.gen_range(5..20),
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
            _ => self.rng.gen_range(4..30),
        };
        // A chain this young has few coins; big ones are split so that there are enough to draw.
        if total > Amount::from_sat(10_000_000) {
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

    fn assemble(&mut self, txs: Vec<Transaction>) -> Block {
        let mut height = self.height.to_le_bytes().to_vec();
        while height.last() == Some(&0) {
            height.pop();
        }
        if height.last().is_some_and(|byte| *byte >= 0x80) {
            height.push(0);
        }
        let script_sig = if self.height <= 16 {
            Builder::new().push_int(i64::from(self.height)).push_int(0).into_script()
        } else {
            let push = PushBytesBuf::try_from(height).unwrap_or_default();
            Builder::new().push_slice(push).push_int(0).into_script()
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
                value: Amount::from_sat(5_000_000_000 >> (self.height / 150)),
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
                prev_blockhash: self.tip,
                merkle_root: TxMerkleNode::all_zeros(),
                time: GENESIS_TIME + self.height * SPACING,
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
        self.tip = block.block_hash();
        block
    }
}

#[cfg(test)]
#[path = "synthetic_tests.rs"]
mod tests;
