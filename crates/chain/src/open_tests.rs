use ironpeer_consensus::{Params, RegtestOptions};

use super::*;

/// Whatever it is, the databases' memory and the cached coins' come to no more than `-dbcache`.
#[test]
fn databases_take_their_memory_from_the_cache() {
    for mebibytes in [4, 100, 450, 16_384] {
        let mut config = Config::in_memory(Arc::new(Params::main()));
        config.cache_bytes = mebibytes << 20;
        let memory = Memory::of(&config);
        let of_database = |settings: &FjallConfig| settings.cache_bytes + settings.memtable_bytes;
        let databases = of_database(&memory.coins) + of_database(&memory.index);
        assert_eq!(databases + memory.cached_coins as u64, config.cache_bytes as u64, "{mebibytes}");
        assert!(memory.cached_coins > config.cache_bytes / 2, "{mebibytes}");
    }
    // Where a hundred nodes share a process they are small, and beside the cache.
    let config = Config::in_memory(Arc::new(Params::regtest(RegtestOptions::default())));
    assert_eq!(Memory::of(&config).cached_coins, config.cache_bytes);
}
