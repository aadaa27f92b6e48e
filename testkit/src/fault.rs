//! The ways in which the differential run breaks blocks.

use bitcoin::absolute::LockTime;
use bitcoin::block::Version as BlockVersion;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness,
};
use ironpeer_consensus::{check_proof_of_work, decode_tx, witness_commitment_index};
use rand::Rng;
use rand::distributions::{Distribution, WeightedIndex};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::forge::{Draft, Forge, Lock};

const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

/// One way to break a block. Some can leave it sound, such as a flipped bit.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    // Which block.
    Again,
    OnFailed,
    UnknownParent,
    // The header.
    HighHash,
    BitsAboveLimit,
    WrongBits,
    TimeTooOld,
    TimeTooNew,
    OldVersion,
    // The merkle tree.
    WrongRoot,
    RepeatedTail,
    // The list of transactions.
    Empty,
    NoCoinbase,
    TwoCoinbases,
    TooLong,
    // A transaction by itself.
    NoInputs,
    NoOutputs,
    NegativeValue,
    HugeValue,
    HugeSum,
    SameInputTwice,
    CoinbaseScript,
    NullPrevout,
    LegacySigops,
    // In the light of its ancestors.
    NotFinal,
    WrongHeight,
    ReservedValue,
    WrongCommitment,
    TwoCommitments,
    WitnessUncommitted,
    TooHeavy,
    // In the light of the coins.
    UnknownCoin,
    SpentBefore,
    SpentInBlock,
    Unripe,
    OwnCoinbase,
    TooMuchOut,
    RelativeHeight,
    RelativeTime,
    HiddenSigops,
    GreedyCoinbase,
    ChildFirst,
    // Scripts.
    NeverTrue,
    BrokenWitness,
    BrokenScriptSig,
    // Anything.
    FlippedBit,
    RawFlip,
}

impl Fault {
    /// Every fault and how often it is chosen, against the others.
    const WEIGHTS: [(Self, u32); 47] = [
        (Self::Again, 40),
        (Self::OnFailed, 40),
        (Self::UnknownParent, 20),
        (Self::HighHash, 20),
        (Self::BitsAboveLimit, 10),
        (Self::WrongBits, 20),
        (Self::TimeTooOld, 30),
        (Self::TimeTooNew, 20),
        (Self::OldVersion, 30),
        (Self::WrongRoot, 20),
        (Self::RepeatedTail, 40),
        (Self::Empty, 10),
        (Self::NoCoinbase, 20),
        (Self::TwoCoinbases, 20),
        (Self::TooLong, 1),
        (Self::NoInputs, 20),
        (Self::NoOutputs, 20),
        (Self::NegativeValue, 20),
        (Self::HugeValue, 20),
        (Self::HugeSum, 20),
        (Self::SameInputTwice, 20),
        (Self::CoinbaseScript, 20),
        (Self::NullPrevout, 20),
        (Self::LegacySigops, 10),
        (Self::NotFinal, 40),
        (Self::WrongHeight, 30),
        (Self::ReservedValue, 20),
        (Self::WrongCommitment, 20),
        (Self::TwoCommitments, 20),
        (Self::WitnessUncommitted, 20),
        (Self::TooHeavy, 1),
        (Self::UnknownCoin, 30),
        (Self::SpentBefore, 40),
        (Self::SpentInBlock, 40),
        (Self::Unripe, 40),
        (Self::OwnCoinbase, 20),
        (Self::TooMuchOut, 40),
        (Self::RelativeHeight, 40),
        (Self::RelativeTime, 40),
        (Self::HiddenSigops, 40),
        (Self::GreedyCoinbase, 40),
        (Self::ChildFirst, 40),
        (Self::NeverTrue, 40),
        (Self::BrokenWitness, 60),
        (Self::BrokenScriptSig, 60),
        (Self::FlippedBit, 120),
        (Self::RawFlip, 20),
    ];

    /// Every fault.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::WEIGHTS.into_iter().map(|(fault, _)| fault)
    }

    pub(crate) fn choose(rng: &mut ChaCha8Rng) -> Self {
        let weights = WeightedIndex::new(Self::WEIGHTS.iter().map(|(_, weight)| *weight)).expect("weights");
        Self::WEIGHTS[weights.sample(rng)].0
    }

    /// Faults made before the block commits to its witnesses. Says whether it was made.
    pub(crate) fn before_commitment(self, forge: &mut Forge, draft: &mut Draft) -> bool {
        match self {
            Self::Empty => {
                draft.block.txdata.clear();
                true
            }
            Self::NoCoinbase if !draft.block.txdata.is_empty() => {
                draft.block.txdata.remove(0);
                true
            }
            Self::TwoCoinbases => {
                let Some(mut second) = draft.block.txdata.first().cloned() else { return false };
                second.output.truncate(1);
                draft.block.txdata.push(second);
                true
            }
            Self::TooLong => {
                let size = 1_000_000 - forge.rng.gen_range(0..2) * 2_000;
                some_tx(forge, draft).output[0].script_pubkey = ScriptBuf::from_bytes(vec![0; size]);
                true
            }
            Self::NoInputs => {
                let tx = some_tx(forge, draft);
                (tx.input, tx.output) = (Vec::new(), Vec::new());
                true
            }
            Self::NoOutputs => {
                some_tx(forge, draft).output.clear();
                true
            }
            Self::NegativeValue => {
                let value = *[u64::MAX, 1 << 63].choose(&mut forge.rng).expect("not empty");
                some_tx(forge, draft).output[0].value = Amount::from_sat(value);
                true
            }
            Self::HugeValue => {
                let value =
                    *[MAX_MONEY, MAX_MONEY + 1, i64::MAX as u64].choose(&mut forge.rng).expect("not empty");
                some_tx(forge, draft).output[0].value = Amount::from_sat(value);
                true
            }
            Self::HugeSum => {
                let tx = some_tx(forge, draft);
                let output = TxOut { value: Amount::from_sat(MAX_MONEY), script_pubkey: ScriptBuf::new() };
                tx.output.extend([output.clone(), output]);
                true
            }
            Self::SameInputTwice => {
                let tx = some_tx(forge, draft);
                let first = tx.input[0].clone();
                tx.input.push(first);
                true
            }
            Self::CoinbaseScript => {
                let len = *[0, 1, 101].choose(&mut forge.rng).expect("not empty");
                with_coinbase(draft, |coinbase| {
                    let mut script = coinbase.input[0].script_sig.to_bytes();
                    script.resize(len, 0);
                    coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
                })
            }
            Self::NullPrevout => {
                let tx = some_tx(forge, draft);
                tx.input.push(plain_input(OutPoint::null()));
                true
            }
            Self::LegacySigops => {
                let count = 20_000 - 40 + forge.rng.gen_range(0..80);
                some_tx(forge, draft).output[0].script_pubkey = ScriptBuf::from_bytes(vec![0xac; count]);
                true
            }
            Self::NotFinal => not_final(forge, draft),
            Self::WrongHeight => {
                let wrong =
                    i64::from(draft.height) + *[-1, 1, 100].choose(&mut forge.rng).expect("not empty");
                with_coinbase(draft, |coinbase| {
                    coinbase.input[0].script_sig =
                        ScriptBuf::builder().push_int(wrong).push_slice([9; 4]).into_script();
                })
            }
            Self::TooHeavy => {
                let tx = some_tx(forge, draft);
                tx.input[0].witness = Witness::from_slice(&[vec![0; 3_999_000]]);
                true
            }
            _ => self.with_coins(forge, draft),
        }
    }

    fn with_coins(self, forge: &mut Forge, draft: &mut Draft) -> bool {
        let height = draft.height;
        let spends = |forge: &mut Forge, draft: &mut Draft, place: Option<usize>| {
            let Some(place) = place else { return false };
            let coin = draft.coins.swap_remove(place);
            let (tx, _) = forge.spend(&[coin], draft);
            draft.block.txdata.push(tx);
            true
        };
        match self {
            Self::UnknownCoin => {
                let txid = Txid::from_byte_array(forge.rng.r#gen());
                let tx = plain_tx(OutPoint { txid, vout: 0 });
                draft.block.txdata.push(tx);
                true
            }
            Self::SpentBefore | Self::SpentInBlock => {
                let earlier: Vec<_> = draft
                    .spent
                    .iter()
                    .filter(|coin| coin.is_ripe(height))
                    .filter(|coin| spends_in_block(draft, coin.outpoint) == (self == Self::SpentInBlock))
                    .cloned()
                    .collect();
                let Some(coin) = earlier.choose(&mut forge.rng).cloned() else { return false };
                let (tx, _) = forge.spend(&[coin], draft);
                draft.block.txdata.push(tx);
                true
            }
            Self::Unripe => {
                let place = draft.coins.iter().rposition(|coin| {
                    coin.is_coinbase
                        && height - coin.height < 100
                        && !matches!(coin.lock, Lock::Csv(_) | Lock::Cltv(_))
                });
                spends(forge, draft, place)
            }
            Self::OwnCoinbase => {
                if !draft.block.txdata.first().is_some_and(Transaction::is_coinbase) {
                    return false;
                }
                // A commitment added later would change the coinbase's hash.
                ironpeer_consensus::add_witness_commitment(&mut draft.block);
                let txid = draft.block.txdata[0].compute_txid();
                draft.block.txdata.push(plain_tx(OutPoint { txid, vout: 0 }));
                true
            }
            Self::TooMuchOut => {
                let place = draft.block.txdata.len().checked_sub(1).filter(|place| *place > 0);
                let Some(tx) = place.and_then(|place| draft.block.txdata.get_mut(place)) else {
                    return false;
                };
                let Some(output) = tx.output.first_mut() else { return false };
                let more = output.value.to_sat().saturating_add(1_000_000);
                output.value = Amount::from_sat(more.min(MAX_MONEY));
                true
            }
            Self::RelativeHeight | Self::RelativeTime => relative(self, forge, draft),
            Self::HiddenSigops => hidden_sigops(forge, draft),
            Self::GreedyCoinbase => {
                let more = *[1, 1_000, 100_000_000].choose(&mut forge.rng).expect("not empty");
                with_coinbase(draft, |coinbase| {
                    coinbase.output[0].value += Amount::from_sat(more);
                })
            }
            Self::ChildFirst => {
                let len = draft.block.txdata.len();
                if len < 3 {
                    return false;
                }
                draft.block.txdata[1..].reverse();
                true
            }
            Self::NeverTrue => {
                let place = draft.coins.iter().position(|coin| {
                    coin.lock == Lock::Never && !(coin.is_coinbase && height - coin.height < 100)
                });
                spends(forge, draft, place)
            }
            Self::BrokenWitness => break_input(forge, draft, true),
            Self::BrokenScriptSig => break_input(forge, draft, false),
            Self::FlippedBit => flip_bit(forge, draft),
            _ => false,
        }
    }

    /// Faults of the commitment itself.
    pub(crate) fn after_commitment(self, forge: &mut Forge, draft: &mut Draft) -> bool {
        let index = witness_commitment_index(&draft.block);
        let Some(coinbase) = draft.block.txdata.first_mut().filter(|tx| tx.is_coinbase()) else {
            return false;
        };
        match (self, index) {
            (Self::ReservedValue, Some(_)) => {
                let items = [vec![], vec![vec![0; 31]], vec![vec![0; 33]], vec![vec![0; 32], vec![1]]];
                let items = items.choose(&mut forge.rng).expect("not empty");
                coinbase.input[0].witness = Witness::from_slice(items);
                true
            }
            (Self::WrongCommitment, Some(index)) => {
                let mut script = coinbase.output[index].script_pubkey.to_bytes();
                let place = forge.rng.gen_range(0..script.len());
                script[place] ^= 1;
                coinbase.output[index].script_pubkey = ScriptBuf::from_bytes(script);
                true
            }
            (Self::TwoCommitments, Some(index)) => {
                let mut other = coinbase.output[index].clone();
                let mut script = other.script_pubkey.to_bytes();
                script[20] ^= 1;
                // Perhaps too short to be one, perhaps longer than needed.
                script.resize(*[37, 38, 45].choose(&mut forge.rng).expect("not empty"), 0);
                other.script_pubkey = ScriptBuf::from_bytes(script);
                let place = forge.rng.gen_range(0..=coinbase.output.len());
                coinbase.output.insert(place, other);
                true
            }
            (Self::WitnessUncommitted, Some(index)) => {
                coinbase.output.remove(index);
                if coinbase.output.is_empty() {
                    coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() });
                }
                true
            }
            (Self::WitnessUncommitted, None) => {
                coinbase.input[0].witness = Witness::from_slice(&[[0; 32]]);
                true
            }
            _ => false,
        }
    }

    /// Faults of header fields, and of the list under a root that hides them.
    pub(crate) fn after_merkle_root(self, forge: &mut Forge, draft: &mut Draft) -> bool {
        let header = &mut draft.block.header;
        match self {
            Self::WrongRoot => header.merkle_root = TxMerkleNode::from_byte_array(forge.rng.r#gen()),
            Self::RepeatedTail => {
                let txs = &mut draft.block.txdata;
                if txs.len() < 3 || txs.len().is_multiple_of(2) {
                    return false;
                }
                let last = txs[txs.len() - 1].clone();
                txs.push(last);
            }
            Self::UnknownParent => header.prev_blockhash = BlockHash::from_byte_array(forge.rng.r#gen()),
            Self::WrongBits => header.bits = CompactTarget::from_consensus(0x207f_fffe),
            Self::BitsAboveLimit => {
                let bad = [0x2100_8000, 0x207f_ffff | 0x0080_0000, 0, 0xff12_3456];
                header.bits = CompactTarget::from_consensus(*bad.choose(&mut forge.rng).expect("not empty"));
            }
            Self::TimeTooOld => header.time = draft.median_time - forge.rng.gen_range(0..2),
            Self::TimeTooNew => header.time = 4_000_000_000,
            Self::OldVersion => {
                let old = *[-1, 0, 1, 2, 3, i32::MIN].choose(&mut forge.rng).expect("not empty");
                header.version = BlockVersion::from_consensus(old);
            }
            _ => return false,
        }
        true
    }

    /// Undoes the proof of work.
    pub(crate) fn after_solution(self, forge: &mut Forge, draft: &mut Draft) -> bool {
        if self != Self::HighHash {
            return false;
        }
        let header = &mut draft.block.header;
        while check_proof_of_work(header.block_hash(), header.bits, forge.params()) {
            header.nonce = header.nonce.wrapping_add(1);
        }
        true
    }
}

fn plain_input(previous_output: OutPoint) -> TxIn {
    TxIn { previous_output, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness: Witness::new() }
}

/// A transaction that spends an output as if anyone could.
fn plain_tx(from: OutPoint) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![plain_input(from)],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }],
    }
}

/// Some transaction after the coinbase, made up if there is none.
fn some_tx<'a>(forge: &mut Forge, draft: &'a mut Draft) -> &'a mut Transaction {
    let txs = &mut draft.block.txdata;
    if txs.len() < 2 || txs.iter().skip(1).all(|tx| tx.input.is_empty() || tx.output.is_empty()) {
        let txid = Txid::from_byte_array(forge.rng.r#gen());
        txs.push(plain_tx(OutPoint { txid, vout: 0 }));
    }
    let whole: Vec<usize> = (0..txs.len())
        .filter(|place| *place > 0 && !txs[*place].input.is_empty() && !txs[*place].output.is_empty())
        .collect();
    let place = whole.choose(&mut forge.rng).copied().unwrap_or(0);
    &mut txs[place]
}

fn with_coinbase(draft: &mut Draft, change: impl FnOnce(&mut Transaction)) -> bool {
    match draft.block.txdata.first_mut() {
        Some(tx) if tx.is_coinbase() && !tx.output.is_empty() => {
            change(tx);
            true
        }
        _ => false,
    }
}

fn spends_in_block(draft: &Draft, outpoint: OutPoint) -> bool {
    draft.block.txdata.iter().any(|tx| tx.input.iter().any(|input| input.previous_output == outpoint))
}

/// A lock time that is just not reached; or, one time in four, just reached.
fn not_final(forge: &mut Forge, draft: &mut Draft) -> bool {
    let (height, time) = (draft.height, draft.median_time);
    let lock_time = *[height, time, time + 1, height - 1].choose(&mut forge.rng).expect("not empty");
    let tx = some_tx(forge, draft);
    tx.lock_time = LockTime::from_consensus(lock_time);
    if let Some(input) = tx.input.first_mut() {
        input.sequence = Sequence(0xffff_fffe);
    }
    true
}

/// A relative lock time around the one just reached.
fn relative(fault: Fault, forge: &mut Forge, draft: &mut Draft) -> bool {
    let height = draft.height;
    let place = draft.coins.iter().rposition(|coin| coin.is_ripe(height) && coin.lock == Lock::True);
    let Some(place) = place else { return false };
    let coin = draft.coins.swap_remove(place);
    let age = height - coin.height;
    let more = forge.rng.gen_range(0..3);
    let sequence = if fault == Fault::RelativeHeight {
        age + more
    } else {
        let made = draft.median_times.get(age as usize).or(draft.median_times.last()).copied();
        let units = draft.median_time.saturating_sub(made.unwrap_or(0)) / 512;
        1 << 22 | (units + more).min(0xffff)
    };
    let mut tx = plain_tx(coin.outpoint);
    tx.input[0].sequence = Sequence(sequence);
    tx.version = Version(*[2, 2, -1, i32::MIN, 1].choose(&mut forge.rng).expect("not empty"));
    draft.block.txdata.push(tx);
    true
}

/// Signature operations that only the coins reveal, around the limit.
fn hidden_sigops(forge: &mut Forge, draft: &mut Draft) -> bool {
    let height = draft.height;
    let (hidden, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut draft.coins)
        .into_iter()
        .partition(|coin| matches!(coin.lock, Lock::HiddenP2sh | Lock::HiddenP2wsh) && coin.is_ripe(height));
    draft.coins = rest;
    if hidden.is_empty() {
        return false;
    }
    let behind_hash = hidden.iter().filter(|coin| coin.lock == Lock::HiddenP2sh).count() as u64;
    let cost = behind_hash * 15_600 + (hidden.len() as u64 - behind_hash) * 3_900;
    let (mut tx, _) = forge.spend(&hidden, draft);
    if cost < 80_000 {
        // The rest in outputs, twenty a byte.
        let room = (80_000 - cost) / 80;
        let count = room.saturating_sub(forge.rng.gen_range(0..60)).max(1);
        tx.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0xae; count.min(990) as usize]);
        forge.unlock(&mut tx, &hidden);
    }
    draft.block.txdata.push(tx);
    true
}

/// Breaks what unlocks some input.
fn break_input(forge: &mut Forge, draft: &mut Draft, in_witness: bool) -> bool {
    let mut places = Vec::new();
    for (at, tx) in draft.block.txdata.iter().enumerate().skip(1) {
        for (input, txin) in tx.input.iter().enumerate() {
            if in_witness && !txin.witness.is_empty() || !in_witness && !txin.script_sig.is_empty() {
                places.push((at, input));
            }
        }
    }
    let Some((at, input)) = places.choose(&mut forge.rng).copied() else { return false };
    let txin = &mut draft.block.txdata[at].input[input];
    if in_witness {
        let mut items = txin.witness.to_vec();
        let item = forge.rng.gen_range(0..items.len());
        match forge.rng.gen_range(0..4) {
            0 => items[item].push(0),
            1 => items.insert(item, vec![1]),
            2 if !items[item].is_empty() => {
                let place = forge.rng.gen_range(0..items[item].len());
                items[item][place] ^= 1 << forge.rng.gen_range(0..8);
            }
            _ => {
                items.remove(item);
            }
        }
        txin.witness = Witness::from_slice(&items);
    } else {
        let mut script = txin.script_sig.to_bytes();
        match forge.rng.gen_range(0..4) {
            0 => script.insert(0, 0x51),
            1 => script.push(0x61),
            2 => {
                script.pop();
            }
            _ => {
                let place = forge.rng.gen_range(0..script.len());
                script[place] ^= 1 << forge.rng.gen_range(0..8);
            }
        }
        // Its hash changes, and with it the outpoints of what spends it.
        txin.script_sig = ScriptBuf::from_bytes(script);
    }
    true
}

/// Flips one bit of some transaction that can still be read afterwards.
fn flip_bit(forge: &mut Forge, draft: &mut Draft) -> bool {
    let txs = &mut draft.block.txdata;
    if txs.is_empty() {
        return false;
    }
    let place = forge.rng.gen_range(0..txs.len());
    if txs[place].input.is_empty() {
        return false;
    }
    let mut bytes = serialize(&txs[place]);
    let at = forge.rng.gen_range(0..bytes.len());
    bytes[at] ^= 1 << forge.rng.gen_range(0..8);
    match decode_tx(&bytes) {
        Ok(tx) => {
            txs[place] = tx;
            true
        }
        Err(_) => false,
    }
}
