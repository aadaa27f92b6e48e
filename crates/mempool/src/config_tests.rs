use super::Config;

#[test]
fn the_mempool_holds_at_least_one_cluster() {
    let with = |max_bytes| Config { max_bytes, ..Config::default() };
    assert_eq!(with(4_040_000).check(), Ok(()));
    assert_eq!(with(0).check(), Ok(()));
    let error = with(4_000_000).check().unwrap_err();
    assert_eq!(error.to_string(), "-maxmempool must be at least 5 MB");
}
