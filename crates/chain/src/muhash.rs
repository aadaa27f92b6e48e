//! MuHash3072: a hash of a set that does not depend on the order of its elements (Core's
//! `src/crypto/muhash.h`).

use bitcoin::hashes::{Hash, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use num_bigint::BigUint;

/// Bytes of a group element.
const ELEMENT_BYTES: usize = 384;
/// The modulus is 2^3072 less this.
const MODULUS_GAP: u32 = 1_103_717;

/// A running hash of a set of byte strings. Elements can be put in and taken out in any order.
#[derive(Clone, Debug)]
pub struct MuHash {
    numerator: BigUint,
    denominator: BigUint,
}

impl Default for MuHash {
    fn default() -> Self {
        Self { numerator: BigUint::from(1u8), denominator: BigUint::from(1u8) }
    }
}

fn modulus() -> BigUint {
    (BigUint::from(1u8) << (ELEMENT_BYTES * 8)) - MODULUS_GAP
}

/// Folds the part beyond 3,072 bits back: 2^3072 is congruent to the gap.
fn reduce(mut n: BigUint) -> BigUint {
    const BITS: u64 = ELEMENT_BYTES as u64 * 8;
    while n.bits() > BITS {
        let high = &n >> BITS;
        let low = n - (&high << BITS);
        n = low + high * MODULUS_GAP;
    }
    n
}

fn element(data: &[u8]) -> BigUint {
    let key = sha256::Hash::hash(data).to_byte_array();
    let mut bytes = [0u8; ELEMENT_BYTES];
    ChaCha20::new(&key.into(), &[0u8; 12].into()).apply_keystream(&mut bytes);
    BigUint::from_bytes_le(&bytes)
}

/// A factor without inverse would be a multiple of the prime modulus, which no one can find.
fn inverse(n: &BigUint, modulus: &BigUint) -> BigUint {
    n.modinv(modulus).unwrap_or_else(|| BigUint::from(1u8))
}

impl MuHash {
    /// Puts an element in.
    pub fn insert(&mut self, data: &[u8]) {
        self.numerator = reduce(&self.numerator * element(data));
    }

    /// Takes an element out.
    pub fn remove(&mut self, data: &[u8]) {
        self.denominator = reduce(&self.denominator * element(data));
    }

    /// Adds all elements of another set.
    pub fn combine(&mut self, other: &Self) {
        self.numerator = reduce(&self.numerator * &other.numerator);
        self.denominator = reduce(&self.denominator * &other.denominator);
    }

    /// Bytes of [`state`](Self::state).
    pub const STATE_BYTES: usize = 2 * ELEMENT_BYTES;

    /// All it knows, for an owner that goes on later.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(Self::STATE_BYTES);
        for half in [&self.numerator, &self.denominator] {
            let mut bytes = half.to_bytes_le();
            // Both are reduced to less than 2^3072.
            bytes.resize(ELEMENT_BYTES, 0);
            state.extend(bytes);
        }
        state
    }

    /// Goes on from a [`state`](Self::state); `None` if it has another length.
    #[must_use]
    pub fn from_state(state: &[u8]) -> Option<Self> {
        let (numerator, denominator) =
            state.split_at_checked(ELEMENT_BYTES).filter(|_| state.len() == Self::STATE_BYTES)?;
        Some(Self {
            numerator: BigUint::from_bytes_le(numerator),
            denominator: BigUint::from_bytes_le(denominator),
        })
    }

    /// The hash, in the byte order of [`sha256::Hash`]; Core displays it reversed.
    #[must_use]
    pub fn finalize(&self) -> [u8; 32] {
        let modulus = modulus();
        self.digest(&inverse(&self.denominator, &modulus), &modulus)
    }

    /// The hashes of several sets, for little more than the price of one: the inverse, which costs
    /// the most, is taken of the product of all denominators.
    #[must_use]
    pub fn finalize_all(sets: &[Self]) -> Vec<[u8; 32]> {
        let modulus = modulus();
        let mut product = BigUint::from(1u8);
        let mut before = Vec::with_capacity(sets.len());
        for set in sets {
            let next = reduce(&product * &set.denominator);
            before.push(std::mem::replace(&mut product, next));
        }
        let mut rest = inverse(&product, &modulus);
        let mut hashes: Vec<_> = sets
            .iter()
            .zip(before)
            .rev()
            .map(|(set, before)| {
                let own = reduce(&rest * before);
                rest = reduce(&rest * &set.denominator);
                set.digest(&own, &modulus)
            })
            .collect();
        hashes.reverse();
        hashes
    }

    fn digest(&self, inverse: &BigUint, modulus: &BigUint) -> [u8; 32] {
        let mut bytes = (&self.numerator * inverse % modulus).to_bytes_le();
        bytes.resize(ELEMENT_BYTES, 0);
        sha256::Hash::hash(&bytes).to_byte_array()
    }
}

#[cfg(test)]
#[path = "muhash_tests.rs"]
mod tests;
