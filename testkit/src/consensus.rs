//! Header chains, coins and blocks for testing rules without a node.

use std::collections::HashMap;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
};
use ironpeer_consensus::{
    Ancestry, CoinChanges, CoinSource, Params, add_witness_commitment, block_subsidy, check_proof_of_work,
    median_time_past, merkle, next_work_required,
};
use ironpeer_primitives::{Coin, Height};

use crate::testdata;

/// Headers in a row, from some height on.
#[derive(Clone, Debug)]
pub struct HeaderChain {
    first: Height,
    headers: Vec<(BlockHash, Header)>,
}

impl HeaderChain {
    /// `headers` in a row, the first at height `first`.
    #[must_use]
    pub fn new(first: Height, headers: impl IntoIterator<Item = Header>) -> Self {
        Self { first, headers: headers.into_iter().map(|header| (header.block_hash(), header)).collect() }
    }

    /// A network's genesis alone.
    #[must_use]
    pub fn genesis(params: &Params) -> Self {
        Self::new(Height::GENESIS, [params.genesis.header])
    }

    /// Recorded headers of a real network.
    ///
    /// # Panics
    /// If the file is not there or no row of headers.
    #[must_use]
    pub fn recorded(name: &str, first: Height) -> Self {
        let bytes = std::fs::read(testdata(name)).expect("the recorded headers exist");
        Self::new(first, bytes.chunks(80).map(|header| deserialize(header).expect("80 bytes are a header")))
    }

    /// Adds a header on top.
    pub fn push(&mut self, header: Header) {
        self.headers.push((header.block_hash(), header));
    }

    /// The same chain as it stood when `height` was its last.
    #[must_use]
    pub fn up_to(&self, height: Height) -> ChainUpTo<'_> {
        ChainUpTo { chain: self, height }
    }

    /// The headers with their heights.
    pub fn iter(&self) -> impl Iterator<Item = (Height, BlockHash, &Header)> {
        (self.first.0..).zip(&self.headers).map(|(height, (hash, header))| (Height(height), *hash, header))
    }
}

impl Ancestry for HeaderChain {
    fn height(&self) -> Height {
        Height(self.first.0 + u32::try_from(self.headers.len()).expect("few headers") - 1)
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)> {
        self.headers.get(height.0.checked_sub(self.first.0)? as usize).copied()
    }
}

/// The lower part of a [`HeaderChain`].
#[derive(Clone, Copy, Debug)]
pub struct ChainUpTo<'a> {
    chain: &'a HeaderChain,
    height: Height,
}

impl Ancestry for ChainUpTo<'_> {
    fn height(&self) -> Height {
        self.height
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)> {
        (height <= self.height).then(|| self.chain.header_at(height)).flatten()
    }
}

/// Unspent outputs in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coins(pub HashMap<OutPoint, Coin>);

impl Coins {
    /// Takes over what a block changes.
    pub fn apply(&mut self, changes: CoinChanges) {
        for (outpoint, coin) in changes {
            match coin {
                Some(coin) => self.0.insert(outpoint, coin),
                None => self.0.remove(&outpoint),
            };
        }
    }
}

impl CoinSource for Coins {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.0.get(outpoint).cloned()
    }
}

/// A coinbase for `height` that pays `value` to `script`; `tag` tells apart blocks that would
/// otherwise be equal.
#[must_use]
pub fn coinbase(height: Height, value: Amount, script: ScriptBuf, tag: u32) -> Transaction {
    let script_sig =
        ScriptBuf::builder().push_int(i64::from(height.0)).push_slice(tag.to_le_bytes()).into_script();
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value, script_pubkey: script }],
    }
}

/// A solved block on top of `parent`: the full subsidy and `fees` to `script`, then `txs`.
#[must_use]
pub fn block_on(
    parent: &dyn Ancestry,
    params: &Params,
    script: ScriptBuf,
    fees: Amount,
    txs: Vec<Transaction>,
    tag: u32,
) -> Block {
    let height = parent.height().next();
    let (prev_blockhash, last) = parent.header_at(parent.height()).expect("a chain has a last header");
    let time = last.time.max(u32::try_from(median_time_past(parent)).expect("a header's time")) + 1;
    let mut txdata = vec![coinbase(height, block_subsidy(height, params) + fees, script, tag)];
    txdata.extend(txs);
    let header = Header {
        version: BlockVersion::from_consensus(0x2000_0000),
        prev_blockhash,
        merkle_root: TxMerkleNode::all_zeros(),
        time,
        bits: next_work_required(parent, time, params).expect("the chain reaches back far enough"),
        nonce: 0,
    };
    let mut block = Block { header, txdata };
    add_witness_commitment(&mut block);
    seal(&mut block, params);
    block
}

/// Gives a block its merkle root and solves it.
pub fn seal(block: &mut Block, params: &Params) {
    let txids = block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
    block.header.merkle_root = TxMerkleNode::from_byte_array(merkle::merkle_root(txids).0);
    solve(&mut block.header, params);
}

/// Searches the nonce that meets the header's target. On regtest every second does.
pub fn solve(header: &mut Header, params: &Params) {
    while !check_proof_of_work(header.block_hash(), header.bits, params) {
        header.nonce = header.nonce.wrapping_add(1);
    }
}
