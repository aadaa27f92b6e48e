//! Merkle roots of blocks, with the check against repeated transactions (CVE-2012-2459).

use bitcoin_hashes::sha256d;

/// A block's merkle root, and whether the tree's leaves could have been repeated without
/// changing it.
///
/// A level of odd length pairs its last hash with itself, so a list whose end is repeated can
/// have the same root as the list without. Two equal hashes side by side give that away.
#[must_use]
pub fn merkle_root(mut hashes: Vec<[u8; 32]>) -> ([u8; 32], bool) {
    let mut mutated = false;
    let mut pairs: Vec<[u8; 64]> = Vec::with_capacity(hashes.len().div_ceil(2));
    while hashes.len() > 1 {
        pairs.clear();
        for pair in hashes.chunks(2) {
            let (left, right) = match pair {
                [left, right] => {
                    mutated |= left == right;
                    (left, right)
                }
                [last, ..] => (last, last),
                [] => break,
            };
            let mut joined = [0; 64];
            let (head, tail) = joined.split_at_mut(32);
            head.copy_from_slice(left);
            tail.copy_from_slice(right);
            pairs.push(joined);
        }
        hashes.truncate(pairs.len());
        sha256d::Hash::hash_64_many(&mut hashes, &pairs);
    }
    (hashes.first().copied().unwrap_or_default(), mutated)
}
