use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, BlockHash, ScriptBuf, Transaction, TxOut, Txid, Witness};
use bitcoin_hashes::sha256d;
use ironpeer_primitives::{BlockClass, BlockReject, UnixTime};

use crate::header::check_header_hash;
use crate::limits::{
    MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT, MINIMUM_WITNESS_COMMITMENT, WITNESS_SCALE_FACTOR,
};
use crate::merkle::merkle_root;
use crate::sigops::legacy_sigops;
use crate::{
    Ancestry, BuriedDeployment, Params, check_signet_solution, check_transaction, is_final_tx,
    median_time_past,
};

/// First bytes of an output script that commits to the witnesses (BIP141).
const COMMITMENT_HEADER: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// A transaction of this size can pass for an inner node of the merkle tree.
const MERKLE_NODE_SIZE: usize = 64;

/// The hashes of a block and its transactions, worked out once and used by every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockIds {
    /// The header's hash.
    pub hash: BlockHash,
    /// The transactions' hashes without witness, in order.
    pub txids: Vec<Txid>,
}

impl BlockIds {
    /// Hashes `block`.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        Self { hash: block.block_hash(), txids: block.txdata.iter().map(Transaction::compute_txid).collect() }
    }
}

/// Which context-free checks to make beyond the transactions'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckBlock {
    /// Proof of work and, on signet, the block's solution.
    pub pow: bool,
    /// The merkle root.
    pub merkle: bool,
}

impl CheckBlock {
    /// Everything, as for a block from outside.
    pub const ALL: Self = Self { pow: true, merkle: true };
    /// Neither, as for a template.
    pub const TEMPLATE: Self = Self { pow: false, merkle: false };
}

fn consensus(reason: &'static str, debug: impl Into<String>) -> BlockReject {
    BlockReject::new(BlockClass::Consensus, reason).with_debug(debug)
}

fn mutated(reason: &'static str, debug: &'static str) -> BlockReject {
    BlockReject::new(BlockClass::Mutated, reason).with_debug(debug)
}

/// What can be said about a block alone (Core's `CheckBlock`).
///
/// # Errors
/// The first check that fails. Nothing that a changed witness could cause is among them.
pub fn check_block(block: &Block, params: &Params, checks: CheckBlock) -> Result<(), BlockReject> {
    check_block_with(block, &BlockIds::of(block), params, checks)
}

/// As [`check_block`], with the hashes worked out before.
///
/// # Errors
/// As [`check_block`].
pub fn check_block_with(
    block: &Block,
    ids: &BlockIds,
    params: &Params,
    checks: CheckBlock,
) -> Result<(), BlockReject> {
    if checks.pow {
        check_header_hash(&block.header, ids.hash, params)?;
        if let Some(challenge) = &params.signet_challenge
            && ids.hash != params.genesis_hash
            && !check_signet_solution(block, &ids.txids, challenge)
        {
            return Err(consensus("bad-signet-blksig", "signet block signature validation failure"));
        }
    }
    if checks.merkle {
        check_merkle_root(block, &ids.txids)?;
    }

    let txs = &block.txdata;
    let stripped = stripped_size(block);
    if txs.is_empty() || scaled(txs.len() as u64) > MAX_BLOCK_WEIGHT || scaled(stripped) > MAX_BLOCK_WEIGHT {
        return Err(consensus("bad-blk-length", "size limits failed"));
    }
    if !txs.first().is_some_and(Transaction::is_coinbase) {
        return Err(consensus("bad-cb-missing", "first tx is not coinbase"));
    }
    if txs.iter().skip(1).any(Transaction::is_coinbase) {
        return Err(consensus("bad-cb-multiple", "more than one coinbase"));
    }
    for (tx, txid) in txs.iter().zip(&ids.txids) {
        check_transaction(tx).map_err(|reject| {
            BlockReject::new(BlockClass::Consensus, reject.reason)
                .with_debug(format!("Transaction check failed (tx hash {txid}) {}", reject.debug))
        })?;
    }
    let sigops: u64 = txs.iter().map(legacy_sigops).sum();
    if scaled(sigops) > MAX_BLOCK_SIGOPS_COST {
        return Err(consensus("bad-blk-sigops", "out-of-bounds SigOpCount"));
    }
    Ok(())
}

/// In the units of weight and sigop cost.
fn scaled(n: u64) -> u64 {
    n.saturating_mul(WITNESS_SCALE_FACTOR)
}

/// Bytes of the block without witnesses.
fn stripped_size(block: &Block) -> u64 {
    let count = bitcoin::VarInt::from(block.txdata.len()).size();
    let txs: usize = block.txdata.iter().map(Transaction::base_size).sum();
    Header::SIZE.saturating_add(count).saturating_add(txs) as u64
}

fn check_merkle_root(block: &Block, txids: &[Txid]) -> Result<(), BlockReject> {
    let (root, repeated) = merkle_root(txids.iter().map(|txid| txid.to_byte_array()).collect());
    if block.header.merkle_root.to_byte_array() != root {
        return Err(mutated("bad-txnmrklroot", "hashMerkleRoot mismatch"));
    }
    if repeated {
        return Err(mutated("bad-txns-duplicate", "duplicate transaction"));
    }
    Ok(())
}

/// What can be said about a block from its ancestors (Core's `ContextualCheckBlock`): lock
/// times, the height in the coinbase, the witness commitment, and then the weight.
///
/// # Errors
/// The first check that fails.
pub fn contextual_check_block(
    block: &Block,
    parent: &dyn Ancestry,
    params: &Params,
) -> Result<(), BlockReject> {
    let height = parent.height().next();
    let cutoff = if params.is_active(BuriedDeployment::Csv, height) {
        median_time_past(parent)
    } else {
        UnixTime::from(block.header.time)
    };
    if !block.txdata.iter().all(|tx| is_final_tx(tx, height, cutoff)) {
        return Err(consensus("bad-txns-nonfinal", "non-final transaction"));
    }
    if params.is_active(BuriedDeployment::HeightInCoinbase, height) {
        let expected = ScriptBuf::builder().push_int(i64::from(height.0)).into_script();
        let coinbase = block.txdata.first().and_then(|tx| tx.input.first());
        if !coinbase.is_some_and(|input| input.script_sig.as_bytes().starts_with(expected.as_bytes())) {
            return Err(consensus("bad-cb-height", "block height mismatch in coinbase"));
        }
    }
    check_witness_malleation(block, params.is_active(BuriedDeployment::Segwit, height))?;
    // Only now: a larger coinbase witness would not change the block's hash.
    if block.weight().to_wu() > MAX_BLOCK_WEIGHT {
        return Err(consensus("bad-blk-weight", "ContextualCheckBlock : weight limit failed"));
    }
    Ok(())
}

/// The coinbase output that commits to the witnesses: the last that looks like one (BIP141).
#[must_use]
pub fn witness_commitment_index(block: &Block) -> Option<usize> {
    block.txdata.first()?.output.iter().rposition(|output| {
        let script = output.script_pubkey.as_bytes();
        script.len() >= MINIMUM_WITNESS_COMMITMENT && script.starts_with(&COMMITMENT_HEADER)
    })
}

/// Hash of the witness tree's root and the coinbase's reserved value. The coinbase's own place
/// in the tree is zero.
fn witness_commitment(block: &Block, reserved: &[u8]) -> [u8; 32] {
    let leaves = std::iter::once([0; 32])
        .chain(block.txdata.iter().skip(1).map(|tx| tx.compute_wtxid().to_byte_array()))
        .collect();
    let (root, _) = merkle_root(leaves);
    sha256d::Hash::hash_byte_chunks([root.as_slice(), reserved]).to_byte_array()
}

/// That the block's witnesses are those it commits to, or that it has none (Core's
/// `CheckWitnessMalleation`).
fn check_witness_malleation(block: &Block, expect_commitment: bool) -> Result<(), BlockReject> {
    if expect_commitment
        && let Some(coinbase) = block.txdata.first()
        && let Some(output) = witness_commitment_index(block).and_then(|index| coinbase.output.get(index))
    {
        let witness = coinbase.input.first().map(|input| &input.witness);
        let reserved = match witness.map(|witness| (witness.len(), witness.nth(0))) {
            Some((1, Some(reserved))) if reserved.len() == 32 => reserved,
            _ => {
                return Err(mutated(
                    "bad-witness-nonce-size",
                    "CheckWitnessMalleation : invalid witness reserved value size",
                ));
            }
        };
        let committed =
            output.script_pubkey.as_bytes().get(COMMITMENT_HEADER.len()..MINIMUM_WITNESS_COMMITMENT);
        if committed != Some(&witness_commitment(block, reserved)) {
            return Err(mutated(
                "bad-witness-merkle-match",
                "CheckWitnessMalleation : witness merkle commitment mismatch",
            ));
        }
        return Ok(());
    }
    if block.txdata.iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty())) {
        return Err(mutated("unexpected-witness", "CheckWitnessMalleation : unexpected witness data found"));
    }
    Ok(())
}

/// Whether a block received from a peer may have been changed on the way, its header untouched
/// (Core's `IsBlockMutated`). `check_witness_root` is whether segwit holds at its height.
///
/// # Errors
/// How it was changed; always of the class [`BlockClass::Mutated`].
pub fn check_block_mutation(block: &Block, check_witness_root: bool) -> Result<(), BlockReject> {
    let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
    check_merkle_root(block, &txids)?;
    if !block.txdata.first().is_some_and(Transaction::is_coinbase) {
        // Such a block is invalid anyway; this tells whether its transactions may be inner
        // nodes of the true tree.
        return if block.txdata.iter().any(|tx| tx.base_size() == MERKLE_NODE_SIZE) {
            Err(mutated("bad-txnmrklroot", "transaction as long as a merkle tree's node"))
        } else {
            Ok(())
        };
    }
    check_witness_malleation(block, check_witness_root)
}

/// As [`check_block_mutation`], without saying how.
#[must_use]
pub fn is_block_mutated(block: &Block, check_witness_root: bool) -> bool {
    check_block_mutation(block, check_witness_root).is_err()
}

/// Gives a new block's coinbase a commitment to the witnesses, with a reserved value of zeros
/// (Core's `GenerateCoinbaseCommitment`). Does nothing if it has one. The merkle root is the
/// caller's to update.
pub fn add_witness_commitment(block: &mut Block) {
    if witness_commitment_index(block).is_some() {
        return;
    }
    let reserved = [0; 32];
    let mut script = COMMITMENT_HEADER.to_vec();
    script.extend(witness_commitment(block, &reserved));
    if let Some(coinbase) = block.txdata.first_mut() {
        coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) });
        if let Some(input) = coinbase.input.first_mut() {
            input.witness = Witness::from_slice(&[reserved]);
        }
    }
}
