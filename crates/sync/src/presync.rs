use std::collections::VecDeque;
use std::hash::Hasher;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode, Work};
use ironpeer_consensus::{Params, permitted_difficulty_transition};
use ironpeer_primitives::{HeaderInfo, Height, PeerId, UnixTime};
use rand::{Rng, RngCore};
use siphasher::sip::SipHasher24;

/// How far ahead of the clock a block may be, in seconds.
const MAX_FUTURE_BLOCK_TIME: i64 = 2 * 60 * 60;
/// Most blocks a second that the rules on time allow over a long chain.
const MAX_BLOCKS_PER_SECOND: i64 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Headers are counted and one bit of every so many is kept.
    Presync,
    /// Headers come again and are compared with those bits.
    Redownload,
}

/// A header without its parent's hash, which the header before tells.
#[derive(Clone, Copy, Debug)]
struct ShortHeader {
    version: Version,
    merkle_root: TxMerkleNode,
    time: u32,
    bits: CompactTarget,
    nonce: u32,
}

impl ShortHeader {
    const fn full(self, prev_blockhash: BlockHash) -> Header {
        Header {
            version: self.version,
            prev_blockhash,
            merkle_root: self.merkle_root,
            time: self.time,
            bits: self.bits,
            nonce: self.nonce,
        }
    }
}

impl From<&Header> for ShortHeader {
    fn from(header: &Header) -> Self {
        Self {
            version: header.version,
            merkle_root: header.merkle_root,
            time: header.time,
            bits: header.bits,
            nonce: header.nonce,
        }
    }
}

/// A queue of bits. A peer may make us keep millions of them, so each takes no more than one.
#[derive(Debug, Default)]
struct BitQueue {
    words: VecDeque<u64>,
    /// Bits taken off the first word.
    taken: u64,
    /// Bits in the queue.
    len: u64,
}

impl BitQueue {
    fn push_back(&mut self, bit: bool) {
        let place = (self.taken + self.len) % 64;
        if place == 0 {
            self.words.push_back(0);
        }
        if let Some(word) = self.words.back_mut() {
            *word |= u64::from(bit) << place;
        }
        self.len += 1;
    }

    fn pop_front(&mut self) -> Option<bool> {
        self.len = self.len.checked_sub(1)?;
        let bit = self.words.front()? >> self.taken & 1 == 1;
        self.taken += 1;
        if self.taken == 64 || self.len == 0 {
            self.words.pop_front();
            self.taken = 0;
        }
        Some(bit)
    }
}

/// What one batch of headers led to.
#[derive(Debug, Default)]
pub struct Step {
    /// The headers fit.
    pub success: bool,
    /// Ask for more, after [`Presync::next_locator`].
    pub request_more: bool,
    /// The sync is over, one way or another.
    pub finished: bool,
    /// Headers that are worth keeping now.
    pub headers: Vec<Header>,
}

/// Downloads the headers of a chain whose work is too low so far without storing them (Core's
/// `HeadersSyncState`, CVE-2019-25220). First all headers are looked at once, and a salted bit of
/// every few hundredth is kept; when they have enough work they are fetched again, checked
/// against those bits, and released behind a buffer long enough that a peer that sends other
/// headers the second time is found out with near certainty before much is stored.
#[derive(Debug)]
pub struct Presync {
    peer: PeerId,
    phase: Phase,
    /// Which heights (modulo the period) leave a bit.
    offset: u32,
    salt: (u64, u64),
    start: HeaderInfo,
    required: Work,
    commitments: BitQueue,
    max_commitments: u64,
    last: Header,
    work: Work,
    height: Height,
    buffer: VecDeque<ShortHeader>,
    buffer_height: Height,
    buffer_last: BlockHash,
    /// Parent of the first header in the buffer.
    buffer_first_prev: BlockHash,
    buffer_work: Work,
    release_all: bool,
}

impl Presync {
    /// Begins at a known header. `now` is in Unix seconds.
    pub fn new(
        peer: PeerId,
        params: &Params,
        start: &HeaderInfo,
        required: Work,
        now: UnixTime,
        rng: &mut impl RngCore,
        log: &mut dyn FnMut(String),
    ) -> Self {
        let period = params.headers_sync.commitment_period.max(1);
        let seconds = (now - start.median_time_past + MAX_FUTURE_BLOCK_TIME).max(0);
        let max_commitments = (MAX_BLOCKS_PER_SECOND * seconds / i64::from(period)).unsigned_abs();
        log(format!(
            "Initial headers sync started with peer={peer}: height={}, max_commitments={max_commitments}, min_work={required:x}",
            start.height
        ));
        Self {
            peer,
            phase: Phase::Presync,
            offset: rng.gen_range(0..period),
            salt: (rng.next_u64(), rng.next_u64()),
            start: *start,
            required,
            commitments: BitQueue::default(),
            max_commitments,
            last: start.header,
            work: start.chainwork,
            height: start.height,
            buffer: VecDeque::new(),
            buffer_height: start.height,
            buffer_last: start.hash,
            buffer_first_prev: start.hash,
            buffer_work: start.chainwork,
            release_all: false,
        }
    }

    /// Height reached in the first phase; -1 in the second, as `getpeerinfo` shows it.
    pub fn height(&self) -> i64 {
        match self.phase {
            Phase::Presync => i64::from(self.height.0),
            Phase::Redownload => -1,
        }
    }

    /// Where the chain leaves the known headers.
    pub const fn start(&self) -> BlockHash {
        self.start.hash
    }

    /// The first entry of the next locator; a locator of [`Self::start`] follows it.
    pub fn next_locator(&self) -> Vec<BlockHash> {
        vec![match self.phase {
            Phase::Presync => self.last.block_hash(),
            Phase::Redownload => self.buffer_last,
        }]
    }

    fn bit(&self, hash: &BlockHash) -> bool {
        let mut hasher = SipHasher24::new_with_keys(self.salt.0, self.salt.1);
        hasher.write(&hash.to_byte_array());
        hasher.finish() & 1 == 1
    }

    fn leaves_bit(&self, height: Height, params: &Params) -> bool {
        height.0 % params.headers_sync.commitment_period.max(1) == self.offset
    }

    /// Takes the next headers, whose proof of work and continuity were checked. `full` says that
    /// the message held as many as it can.
    pub fn process(
        &mut self,
        headers: &[Header],
        full: bool,
        params: &Params,
        log: &mut dyn FnMut(String),
    ) -> Step {
        let mut step = Step::default();
        let aborted = match self.phase {
            Phase::Presync => {
                let problem = self.count(headers, params, log);
                step.success = problem.is_none();
                step.request_more = step.success && (full || self.phase == Phase::Redownload);
                problem.or_else(|| {
                    (!step.request_more).then(|| {
                        format!("incomplete headers message at height={} (presync phase)", self.height)
                    })
                })
            }
            Phase::Redownload => {
                let problem = headers.iter().find_map(|header| self.compare(header, params));
                step.success = problem.is_none();
                if step.success {
                    step.headers = self.release(params);
                    if self.buffer.is_empty() && self.release_all {
                        log(format!(
                            "Initial headers sync complete with peer={}: releasing all at height={} (redownload phase)",
                            self.peer, self.buffer_height
                        ));
                    } else {
                        step.request_more = full;
                    }
                }
                let complete = self.buffer.is_empty() && self.release_all;
                problem.or_else(|| {
                    (!step.request_more && !complete).then(|| {
                        format!(
                            "incomplete headers message at height={} (redownload phase)",
                            self.buffer_height
                        )
                    })
                })
            }
        };
        if let Some(problem) = aborted {
            log(format!("Initial headers sync aborted with peer={}: {problem}", self.peer));
        }
        step.finished = !(step.success && step.request_more);
        step
    }

    /// First phase. Returns what is wrong.
    fn count(&mut self, headers: &[Header], params: &Params, log: &mut dyn FnMut(String)) -> Option<String> {
        let first = headers.first()?;
        if first.prev_blockhash != self.last.block_hash() {
            return Some(format!("non-continuous headers at height={} (presync phase)", self.height));
        }
        for header in headers {
            let height = self.height.next();
            if !permitted_difficulty_transition(params, height, self.last.bits, header.bits) {
                return Some(format!("invalid difficulty transition at height={height} (presync phase)"));
            }
            if self.leaves_bit(height, params) {
                self.commitments.push_back(self.bit(&header.block_hash()));
                // More than the clock allows: no honest chain.
                if self.commitments.len > self.max_commitments {
                    return Some(format!("exceeded max commitments at height={height} (presync phase)"));
                }
            }
            self.work = self.work + header.work();
            self.last = *header;
            self.height = height;
        }
        if self.work >= self.required {
            self.phase = Phase::Redownload;
            log(format!(
                "Initial headers sync transition with peer={}: reached sufficient work at height={}, redownloading from height={}",
                self.peer, self.height, self.buffer_height
            ));
        }
        None
    }

    /// Second phase, one header. Returns what is wrong.
    fn compare(&mut self, header: &Header, params: &Params) -> Option<String> {
        let height = self.buffer_height.next();
        if header.prev_blockhash != self.buffer_last {
            return Some(format!("non-continuous headers at height={height} (redownload phase)"));
        }
        let previous = self.buffer.back().map_or(self.start.header.bits, |short| short.bits);
        if !permitted_difficulty_transition(params, height, previous, header.bits) {
            return Some(format!("invalid difficulty transition at height={height} (redownload phase)"));
        }
        self.buffer_work = self.buffer_work + header.work();
        // What comes after the point of enough work was not committed to; it need not be.
        if self.buffer_work >= self.required {
            self.release_all = true;
        }
        let hash = header.block_hash();
        if !self.release_all && self.leaves_bit(height, params) {
            let Some(expected) = self.commitments.pop_front() else {
                return Some(format!("commitment overrun at height={height} (redownload phase)"));
            };
            if expected != self.bit(&hash) {
                return Some(format!("commitment mismatch at height={height} (redownload phase)"));
            }
        }
        self.buffer.push_back(ShortHeader::from(header));
        self.buffer_height = height;
        self.buffer_last = hash;
        None
    }

    fn release(&mut self, params: &Params) -> Vec<Header> {
        let keep = if self.release_all { 0 } else { params.headers_sync.redownload_buffer_size as usize };
        let ready = self.buffer.len().saturating_sub(keep);
        let mut released = Vec::with_capacity(ready);
        for short in self.buffer.drain(..ready) {
            let header = short.full(self.buffer_first_prev);
            self.buffer_first_prev = header.block_hash();
            released.push(header);
        }
        released
    }
}

#[cfg(test)]
#[path = "presync_tests.rs"]
mod tests;
