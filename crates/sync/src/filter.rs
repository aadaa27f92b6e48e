use std::collections::BTreeSet;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::Instruction;
use bitcoin::{Block, MerkleBlock, OutPoint, Script, Transaction, Txid};
use ironpeer_primitives::PeerId;
use ironpeer_wire::{BloomFilter, Message};

use crate::limits::{MAX_BLOOM_FILTER_BYTES, MAX_BLOOM_HASH_FUNCS, MAX_SCRIPT_ELEMENT_BYTES};
use crate::{Cx, Sync};

/// Bits of a filter's flags that say what a match adds (BIP37).
const UPDATE_MASK: u8 = 3;
/// Every matched output is added.
const UPDATE_ALL: u8 = 1;
/// A matched output is added if it pays to bare keys, whose spending shows nothing else to match.
const UPDATE_P2PUBKEY_ONLY: u8 = 2;
/// Between the seeds of two hash functions (BIP37).
const SEED_STEP: u32 = 0xfba4_c795;

/// What a light client wants to hear of (BIP37; Core's `CBloomFilter`).
#[derive(Debug)]
pub struct PeerFilter(BloomFilter);

impl PeerFilter {
    /// Takes a filter as it came; `None` if it is larger than allowed.
    pub fn new(filter: BloomFilter) -> Option<Self> {
        let fits = filter.data.len() <= MAX_BLOOM_FILTER_BYTES && filter.hash_funcs <= MAX_BLOOM_HASH_FUNCS;
        fits.then_some(Self(filter))
    }

    /// Byte and bit of each hash of a key. Not for an empty filter (CVE-2013-5700).
    fn positions(&self, key: &[u8]) -> impl Iterator<Item = (usize, u8)> + use<'_> {
        let bits = (self.0.data.len() as u32).wrapping_mul(8).max(1);
        let key = key.to_vec();
        (0..self.0.hash_funcs).map(move |n| {
            let seed = n.wrapping_mul(SEED_STEP).wrapping_add(self.0.tweak);
            let bit = murmur3(seed, &key) % bits;
            ((bit / 8) as usize, 1 << (bit % 8))
        })
    }

    /// Adds an element.
    pub fn insert(&mut self, key: &[u8]) {
        if self.0.data.is_empty() {
            return;
        }
        let positions: Vec<_> = self.positions(key).collect();
        for (byte, mask) in positions {
            if let Some(byte) = self.0.data.get_mut(byte) {
                *byte |= mask;
            }
        }
    }

    /// Whether the element was added, or looks as if. An empty filter lets everything through.
    fn contains(&self, key: &[u8]) -> bool {
        self.0.data.is_empty()
            || self
                .positions(key)
                .all(|(byte, mask)| self.0.data.get(byte).is_some_and(|byte| byte & mask != 0))
    }

    fn contains_outpoint(&self, outpoint: &OutPoint) -> bool {
        self.contains(&serialize(outpoint))
    }

    /// Whether a script pushes an element that matches; what cannot be read ends it.
    fn matches_script(&self, script: &Script) -> bool {
        script.instructions().map_while(Result::ok).any(|instruction| match instruction {
            Instruction::PushBytes(data) => !data.is_empty() && self.contains(data.as_bytes()),
            Instruction::Op(_) => false,
        })
    }

    /// Whether the client wants a transaction. Outputs that match may be added, so that what
    /// spends them matches, too (Core's `IsRelevantAndUpdate`).
    pub fn matches(&mut self, tx: &Transaction) -> bool {
        if self.0.data.is_empty() {
            return true;
        }
        let txid = tx.compute_txid();
        let mut found = self.contains(txid.as_byte_array());
        for (vout, output) in (0..).zip(&tx.output) {
            let script = &output.script_pubkey;
            if !self.matches_script(script) {
                continue;
            }
            found = true;
            let add = match self.0.flags & UPDATE_MASK {
                UPDATE_ALL => true,
                UPDATE_P2PUBKEY_ONLY => script.is_p2pk() || script.is_multisig(),
                _ => false,
            };
            if add {
                self.insert(&serialize(&OutPoint { txid, vout }));
            }
        }
        found
            || tx.input.iter().any(|input| {
                self.contains_outpoint(&input.previous_output) || self.matches_script(&input.script_sig)
            })
    }

    /// A block reduced to what the client wants, and the places of these transactions in it.
    pub fn reduce(&mut self, block: &Block) -> (MerkleBlock, Vec<usize>) {
        let mut ids: BTreeSet<Txid> = BTreeSet::new();
        let mut places = Vec::new();
        for (place, tx) in block.txdata.iter().enumerate() {
            if self.matches(tx) {
                ids.insert(tx.compute_txid());
                places.push(place);
            }
        }
        (MerkleBlock::from_block_with_predicate(block, |txid| ids.contains(txid)), places)
    }
}

/// MurmurHash3 of 32 bits, which BIP37 is built on.
fn murmur3(seed: u32, data: &[u8]) -> u32 {
    let scramble = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, tail) = data.as_chunks::<4>();
    let mut hash = seed;
    for word in words {
        hash ^= scramble(u32::from_le_bytes(*word));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = tail.iter().rev().fold(0u32, |rest, byte| rest << 8 | u32::from(*byte));
    hash ^= scramble(rest);
    hash ^= data.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

impl Sync {
    /// Whether the peer may set filters; else it is dropped.
    fn serves_filters(&mut self, cx: &mut Cx<'_>, id: PeerId, name: &str) -> bool {
        let serves =
            self.peers.get(&id).is_some_and(|peer| peer.our_services.has(bitcoin::p2p::ServiceFlags::BLOOM));
        if !serves {
            self.drop_peer(cx, id, &format!("{name} received despite not offering bloom services"));
        }
        serves
    }

    /// Sets, fills or removes the peer's filter.
    pub(crate) fn on_filter(&mut self, cx: &mut Cx<'_>, id: PeerId, message: Message) {
        if !self.serves_filters(cx, id, &message.command().to_string()) {
            return;
        }
        let relay = self.peers.get_mut(&id).and_then(|peer| peer.tx_relay.as_mut());
        let wrong = match message {
            Message::FilterLoad(filter) => match PeerFilter::new(filter) {
                Some(filter) => {
                    if let Some(relay) = relay {
                        relay.filter = Some(filter);
                        relay.relay_txs = true;
                    }
                    None
                }
                None => Some("too-large bloom filter"),
            },
            Message::FilterAdd(element) => {
                let too_large = element.len() > MAX_SCRIPT_ELEMENT_BYTES;
                match relay {
                    _ if too_large => Some("bad filteradd message"),
                    Some(relay) => match &mut relay.filter {
                        Some(filter) => {
                            filter.insert(&element);
                            None
                        }
                        None => Some("bad filteradd message"),
                    },
                    None => None,
                }
            }
            _ => {
                if let Some(relay) = relay {
                    relay.filter = None;
                    relay.relay_txs = true;
                }
                None
            }
        };
        if let Some(wrong) = wrong {
            self.misbehaving(cx, id, wrong);
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
