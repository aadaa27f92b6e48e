use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
    Witness, absolute, transaction,
};
use ironpeer_consensus::limits::{MAX_BLOCK_SIGOPS_COST, MAX_TIMEWARP};
use ironpeer_consensus::merkle::merkle_root;
use ironpeer_consensus::{
    Ancestry, BuriedDeployment, Params, add_witness_commitment, block_subsidy, is_final_tx, median_time_past,
    next_work_required,
};
use ironpeer_mempool::{Chunk, ChunkTx};
use ironpeer_primitives::{HeaderInfo, Height, UnixTime};

use crate::Config;
use crate::limits::{COINBASE_SIGOPS, FULL_ENOUGH_WEIGHT, MAX_CONSECUTIVE_FAILURES};

/// A block to be mined, all but its proof of work.
#[derive(Clone, Debug)]
pub struct Template {
    /// The block; its nonce is 0 and its merkle root right.
    pub block: Block,
    /// Its parent.
    pub parent: HeaderInfo,
    /// Its height.
    pub height: Height,
    /// Hashes of all transactions, the coinbase first.
    pub txids: Vec<Txid>,
    /// What each transaction pays, the coinbase left out.
    pub fees: Vec<Amount>,
    /// Cost of each transaction's signature operations, the coinbase left out.
    pub sigop_costs: Vec<u64>,
    /// Weight units of the transactions chosen and of the room reserved.
    pub weight: u64,
    /// The least time it may have, timewarp rule included whether or not it holds here.
    pub min_time: UnixTime,
    /// Length of the coinbase script as it stands, before anything is appended to it.
    pub coinbase_script_prefix: usize,
    /// The mempool's count of changes when it was made.
    pub transactions_updated: u64,
}

/// What a template is made from.
pub struct TemplateSource<'a> {
    /// The network.
    pub params: &'a Params,
    /// The options.
    pub config: &'a Config,
    /// The parent.
    pub parent: HeaderInfo,
    /// The chain ending at the parent.
    pub chain: &'a dyn Ancestry,
    /// Version of the block.
    pub version: i32,
    /// Wall time in Unix seconds.
    pub now: UnixTime,
    /// What the coinbase pays to.
    pub coinbase_script: &'a Script,
    /// The mempool in mining order.
    pub chunks: &'a [Chunk],
    /// The mempool's count of changes.
    pub transactions_updated: u64,
}

/// No template can be made: the parent's headers are not all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("headers before the block are missing")]
pub struct MissingHeaders;

/// The least time of a child of `chain`'s last header (Core's `GetMinimumTime`): above the median
/// of the last eleven and, where a retarget period begins, within the timewarp limit on every
/// network, so that a later activation of that rule finds no offenders.
#[must_use]
pub fn minimum_time(chain: &dyn Ancestry, params: &Params) -> UnixTime {
    let least = median_time_past(chain).saturating_add(1);
    if chain.height().next().0.is_multiple_of(params.difficulty_adjustment_interval())
        && let Some((_, parent)) = chain.header_at(chain.height())
    {
        return least.max(UnixTime::from(parent.time) - MAX_TIMEWARP);
    }
    least
}

/// Moves a header's time up to `now`, and its bits with it where a test network allows easier
/// blocks after a pause (Core's `UpdateTime`).
pub fn update_time(header: &mut Header, chain: &dyn Ancestry, params: &Params, now: UnixTime) {
    let time = minimum_time(chain, params).max(now);
    if let Ok(time) = u32::try_from(time)
        && header.time < time
    {
        header.time = time;
    }
    if params.allow_min_difficulty
        && let Some(bits) = next_work_required(chain, header.time, params)
    {
        header.bits = bits;
    }
}

/// Transactions chosen for a block, best chunks first, while they fit.
struct Selection<'a> {
    txs: Vec<&'a ChunkTx>,
    weight: u64,
    sigops: u64,
}

/// Chooses chunks in falling feerate (Core's `addChunks`).
fn select<'a>(source: &TemplateSource<'a>, height: Height, lock_time_cutoff: UnixTime) -> Selection<'a> {
    let config = source.config;
    let mut chosen = Selection { txs: Vec::new(), weight: config.reserved_weight, sigops: COINBASE_SIGOPS };
    let mut failures = 0;
    for chunk in source.chunks {
        let vsize = chunk.fee.weight.div_ceil(4);
        if i128::from(chunk.fee.fee) * 1_000 < i128::from(config.min_fee_per_kvb) * i128::from(vsize) {
            break;
        }
        let sigops: u64 = chunk.txs.iter().map(|tx| tx.sigop_cost).sum();
        let fits = chosen.weight.saturating_add(chunk.fee.weight) < config.max_weight
            && chosen.sigops.saturating_add(sigops) < MAX_BLOCK_SIGOPS_COST;
        if fits && chunk.txs.iter().all(|tx| is_final_tx(&tx.tx, height, lock_time_cutoff)) {
            failures = 0;
            chosen.sigops += sigops;
            chosen.weight += chunk.txs.iter().map(|tx| tx.weight).sum::<u64>();
            chosen.txs.extend(&chunk.txs);
        } else {
            failures += 1;
            if failures > MAX_CONSECUTIVE_FAILURES && chosen.weight + FULL_ENOUGH_WEIGHT > config.max_weight {
                break;
            }
        }
    }
    chosen
}

/// The coinbase as Core makes it: BIP34 height, padded to the two bytes consensus asks for, and
/// a lock time that ties it to its height.
fn coinbase(height: Height, script: &Script, reward: Amount) -> Transaction {
    let mut script_sig = Builder::new().push_int(i64::from(height.0));
    if height.0 <= 16 {
        script_sig = script_sig.push_opcode(bitcoin::opcodes::OP_0);
    }
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(height.0.saturating_sub(1)),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script_sig.into_script(),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: reward, script_pubkey: script.to_owned() }],
    }
}

impl Template {
    /// Assembles a block on the parent from the best chunks (Core's `CreateNewBlock`).
    ///
    /// # Errors
    /// If `chain` lacks headers that the next difficulty depends on.
    pub fn assemble(source: &TemplateSource<'_>) -> Result<Self, MissingHeaders> {
        let (params, chain) = (source.params, source.chain);
        let height = source.parent.height.next();
        let chosen = select(source, height, median_time_past(chain));
        let fees: Vec<Amount> = chosen.txs.iter().map(|tx| tx.fee).collect();
        let reward = fees
            .iter()
            .fold(block_subsidy(height, params), |sum, fee| sum.checked_add(*fee).unwrap_or(Amount::MAX));
        let coinbase = coinbase(height, source.coinbase_script, reward);
        let coinbase_script_prefix = coinbase.input.first().map_or(0, |input| input.script_sig.len());
        let header = Header {
            version: Version::from_consensus(source.version),
            prev_blockhash: source.parent.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: 0,
            bits: params.pow_limit_bits(),
            nonce: 0,
        };
        let mut txids = vec![Txid::all_zeros()];
        txids.extend(chosen.txs.iter().map(|tx| tx.txid));
        let txdata = std::iter::once(coinbase).chain(chosen.txs.iter().map(|tx| (*tx.tx).clone())).collect();
        let mut template = Self {
            block: Block { header, txdata },
            parent: source.parent,
            height,
            txids,
            fees,
            sigop_costs: chosen.txs.iter().map(|tx| tx.sigop_cost).collect(),
            weight: chosen.weight,
            min_time: minimum_time(chain, params),
            coinbase_script_prefix,
            transactions_updated: source.transactions_updated,
        };
        template.commit(params);
        update_time(&mut template.block.header, chain, params, source.now);
        template.block.header.bits =
            next_work_required(chain, template.block.header.time, params).ok_or(MissingHeaders)?;
        Ok(template)
    }

    /// Puts other transactions in place of the mempool's, whose fees are then not collected
    /// (`generateblock`).
    pub fn replace_transactions(&mut self, txs: Vec<Transaction>, params: &Params) {
        self.block.txdata.truncate(1);
        if let Some(coinbase) = self.block.txdata.first_mut() {
            coinbase.output.truncate(1);
        }
        self.txids.truncate(1);
        self.txids.extend(txs.iter().map(Transaction::compute_txid));
        self.block.txdata.extend(txs);
        self.fees.clear();
        self.sigop_costs.clear();
        self.commit(params);
    }

    /// Commits to the witnesses, then to the transactions.
    fn commit(&mut self, params: &Params) {
        add_witness_commitment(&mut self.block);
        if !params.is_active(BuriedDeployment::Segwit, self.height)
            && let Some(input) = self.block.txdata.first_mut().and_then(|coinbase| coinbase.input.first_mut())
        {
            // Before segwit the commitment is harmless, a witness is not.
            input.witness = Witness::new();
        }
        self.update_merkle_root();
    }

    fn update_merkle_root(&mut self) {
        let coinbase = self.block.txdata.first().map(Transaction::compute_txid);
        if let (Some(first), Some(coinbase)) = (self.txids.first_mut(), coinbase) {
            *first = coinbase;
        }
        let (root, _) = merkle_root(self.txids.iter().map(|txid| txid.to_byte_array()).collect());
        self.block.header.merkle_root = TxMerkleNode::from_byte_array(root);
    }

    /// Opens a fresh space of nonces by appending a number to the coinbase script; 0 leaves it
    /// as Core makes it.
    pub fn set_extra_nonce(&mut self, extra: u64) {
        if let Some(input) = self.block.txdata.first_mut().and_then(|coinbase| coinbase.input.first_mut()) {
            let mut script = input.script_sig.to_bytes();
            script.truncate(self.coinbase_script_prefix);
            if extra > 0 {
                script.extend(Builder::new().push_slice(extra.to_le_bytes()).as_bytes());
            }
            input.script_sig = ScriptBuf::from_bytes(script);
        }
        self.update_merkle_root();
    }

    /// What the coinbase may collect: subsidy and fees.
    #[must_use]
    pub fn reward(&self) -> Amount {
        self.block.txdata.first().and_then(|tx| tx.output.first()).map_or(Amount::ZERO, |out| out.value)
    }

    /// Sum of the fees.
    #[must_use]
    pub fn total_fees(&self) -> Amount {
        self.fees.iter().fold(Amount::ZERO, |sum, fee| sum.checked_add(*fee).unwrap_or(Amount::MAX))
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
pub(crate) mod tests;
