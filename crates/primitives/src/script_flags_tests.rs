use super::ScriptFlags;

#[test]
fn names_are_in_cores_order_and_of_one_bit_each() {
    assert!(ScriptFlags::NAMES.is_sorted_by_key(|(name, _)| *name));
    let all = ScriptFlags::NAMES.iter().fold(ScriptFlags::NONE, |all, (_, flag)| {
        assert!(flag.bits().is_power_of_two() && !all.intersects(*flag));
        all | *flag
    });
    assert_eq!(all.bits(), (1 << 21) - 1);
}

#[test]
fn names_read_back() {
    assert_eq!("".parse(), Ok(ScriptFlags::NONE));
    assert_eq!("NONE".parse(), Ok(ScriptFlags::NONE));
    assert!("P2SH,OTHER".parse::<ScriptFlags>().is_err());
    let names: Vec<_> = ScriptFlags::MANDATORY.names().collect();
    assert_eq!(names.join(",").parse(), Ok(ScriptFlags::MANDATORY));
}

#[test]
fn rules_are_taken_away_one_by_one() {
    let left = ScriptFlags::MANDATORY.without(ScriptFlags::TAPROOT);
    assert!(!left.contains(ScriptFlags::TAPROOT) && left.contains(ScriptFlags::WITNESS));
    assert!(!left.contains(ScriptFlags::MANDATORY) && left.intersects(ScriptFlags::MANDATORY));
}
