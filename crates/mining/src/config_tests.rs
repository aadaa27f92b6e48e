use super::*;

#[test]
fn weights_are_checked_with_cores_texts() {
    let check = |reserved, max| {
        Config { reserved_weight: reserved, max_weight: max, ..Config::default() }.check().err()
    };
    assert_eq!(check(8_000, 4_000_000), None);
    assert_eq!(check(2_000, 2_000), None);
    for (reserved, max, text) in [
        (1_999, 4_000_000, "-blockreservedweight (1999) is lower than minimum safety value of (2000)"),
        (4_000_001, 0, "-blockreservedweight (4000001) exceeds consensus maximum block weight (4000000)"),
        (8_000, 4_000_001, "-blockmaxweight (4000001) exceeds consensus maximum block weight (4000000)"),
        (8_000, 7_999, "-blockreservedweight (8000) exceeds -blockmaxweight (7999)"),
    ] {
        assert_eq!(check(reserved, max).as_deref(), Some(text));
    }
}

#[test]
fn automine_values() {
    assert_eq!("every-tx".parse(), Ok(AutoMine::TxCount(1)));
    assert_eq!("tx-count:12".parse(), Ok(AutoMine::TxCount(12)));
    assert_eq!("interval:600".parse(), Ok(AutoMine::Interval(Duration::from_secs(600))));
    for bad in ["", "1", "tx-count", "tx-count:0", "tx-count:-1", "interval:", "interval:1.5", "every-tx:1"] {
        assert!(bad.parse::<AutoMine>().is_err(), "{bad}");
    }
}
