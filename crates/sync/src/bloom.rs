use std::collections::VecDeque;
use std::hash::Hasher;

use rand::RngCore;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Generations kept: the newest is filled, so the last `capacity` entries lie in the two before
/// it and in itself.
const GENERATIONS: usize = 3;

/// Remembers at least the last `capacity` keys inserted, in fixed memory: a key that is in is
/// always found, one that is not is found with the given probability. Memory is taken as it is
/// needed, so that an idle peer costs none.
#[derive(Debug)]
pub struct RollingBloom {
    keys: (u64, u64),
    generations: VecDeque<Vec<u64>>,
    /// Keys in the newest generation.
    filled: usize,
    generation_capacity: usize,
    words: usize,
    hashes: u32,
}

impl RollingBloom {
    /// An empty filter for `capacity` keys.
    pub fn new(capacity: usize, false_positive: f64, rng: &mut impl RngCore) -> Self {
        let generation_capacity = capacity.div_ceil(GENERATIONS - 1).max(1);
        // Each generation may err on its own.
        let bits_per_key = -(false_positive / GENERATIONS as f64).log2();
        let bits = generation_capacity as f64 * bits_per_key * std::f64::consts::LOG2_E;
        Self {
            keys: (rng.next_u64(), rng.next_u64()),
            generations: VecDeque::new(),
            filled: 0,
            generation_capacity,
            words: (bits / 64.0).ceil().max(1.0) as usize,
            hashes: (bits_per_key.round() as u32).max(1),
        }
    }

    /// Bit positions of a key, by double hashing.
    fn positions(&self, key: &[u8]) -> impl Iterator<Item = (usize, u64)> + use<> {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(key);
        let hash = hasher.finish128();
        let bits = self.words as u64 * 64;
        let step = hash.h2 | 1;
        (0..u64::from(self.hashes)).map(move |i| {
            let bit = hash.h1.wrapping_add(i.wrapping_mul(step)) % bits;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    /// Remembers a key.
    pub fn insert(&mut self, key: &[u8]) {
        if self.generations.is_empty() || self.filled >= self.generation_capacity {
            let mut fresh = if self.generations.len() == GENERATIONS {
                self.generations.pop_back().unwrap_or_default()
            } else {
                Vec::new()
            };
            fresh.clear();
            fresh.resize(self.words, 0);
            self.generations.push_front(fresh);
            self.filled = 0;
        }
        let positions = self.positions(key);
        if let Some(newest) = self.generations.front_mut() {
            for (word, mask) in positions {
                if let Some(word) = newest.get_mut(word) {
                    *word |= mask;
                }
            }
        }
        self.filled += 1;
    }

    /// Whether the key was inserted lately, or looks as if.
    pub fn contains(&self, key: &[u8]) -> bool {
        !self.generations.is_empty()
            && self.generations.iter().any(|generation| {
                self.positions(key)
                    .all(|(word, mask)| generation.get(word).is_some_and(|word| word & mask != 0))
            })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.generations.clear();
        self.filled = 0;
    }
}

#[cfg(test)]
#[path = "bloom_tests.rs"]
mod tests;
