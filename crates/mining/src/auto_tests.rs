use std::time::Duration;

use super::*;

#[test]
fn mining_trigger_on_transaction_count() {
    let mut trigger = Trigger::new(AutoMine::TxCount(3));
    trigger.tick();
    for (count, due) in [(0, false), (2, false), (3, true), (7, true), (1, false)] {
        trigger.pool_changed(count);
        assert_eq!(trigger.is_due(), due, "{count} transactions");
    }
    trigger.pool_changed(7);
    trigger.mined(4);
    assert!(trigger.is_due(), "a full block left enough for another");
    trigger.mined(0);
    assert!(!trigger.is_due());
}

#[test]
fn mining_trigger_on_every_transaction() {
    let mut trigger = Trigger::new(AutoMine::EVERY_TX);
    assert!(!trigger.is_due());
    trigger.pool_changed(1);
    assert!(trigger.is_due());
}

#[test]
fn mining_trigger_on_interval() {
    let mut trigger = Trigger::new(AutoMine::Interval(Duration::from_secs(5)));
    trigger.pool_changed(100);
    assert!(!trigger.is_due());
    trigger.tick();
    trigger.pool_changed(0);
    assert!(trigger.is_due(), "an empty block is due too");
    trigger.mined(0);
    assert!(!trigger.is_due());
}
