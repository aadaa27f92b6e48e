use super::*;
use crate::limits::DEFAULT_SCRIPT_CACHE_BYTES;

fn wtxid(n: u32) -> Wtxid {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Wtxid::from_byte_array(bytes)
}

#[test]
fn an_entry_answers_for_its_exact_rules_only() {
    let cache = ScriptCache::new(1 << 16, [7; 32]);
    assert!(cache.is_unused() && !cache.contains(&wtxid(1), ScriptFlags::P2SH));
    cache.insert(&wtxid(1), ScriptFlags::P2SH);
    assert!(!cache.is_unused());
    assert!(cache.contains(&wtxid(1), ScriptFlags::P2SH));
    assert!(!cache.contains(&wtxid(1), ScriptFlags::NONE));
    assert!(!cache.contains(&wtxid(1), ScriptFlags::P2SH | ScriptFlags::DERSIG));
    assert!(!cache.contains(&wtxid(2), ScriptFlags::P2SH));
}

#[test]
fn it_stays_within_its_bytes_and_forgets_the_oldest() {
    let cache = ScriptCache::new(1 << 16, [7; 32]);
    let capacity = cache.capacity();
    assert!(capacity * 32 <= 1 << 16);
    let count = u32::try_from(capacity).unwrap() * 20;
    for n in 0..count {
        cache.insert(&wtxid(n), ScriptFlags::MANDATORY);
    }
    assert!(cache.contains(&wtxid(count - 1), ScriptFlags::MANDATORY));
    let kept = (0..count).filter(|n| cache.contains(&wtxid(*n), ScriptFlags::MANDATORY)).count();
    assert!(kept <= capacity && kept > capacity / 2, "{kept} of {capacity}");
    assert!(ScriptCache::new(DEFAULT_SCRIPT_CACHE_BYTES, [0; 32]).capacity() > 400_000);
}

#[test]
fn without_room_it_remembers_nothing() {
    let cache = ScriptCache::new(0, [7; 32]);
    cache.insert(&wtxid(1), ScriptFlags::MANDATORY);
    assert!(!cache.contains(&wtxid(1), ScriptFlags::MANDATORY));
}

#[test]
fn the_salt_moves_entries() {
    let (a, b) = (ScriptCache::new(1 << 16, [1; 32]), ScriptCache::new(1 << 16, [2; 32]));
    assert_ne!(a.key(&wtxid(1), ScriptFlags::MANDATORY), b.key(&wtxid(1), ScriptFlags::MANDATORY));
}
