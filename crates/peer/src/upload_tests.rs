use super::*;

const DAY: UnixTime = 24 * 60 * 60;
const NOW: UnixTime = 1_700_000_000;

#[test]
fn without_a_target_nothing_is_limited() {
    let mut upload = Upload::new(0);
    upload.sent(u64::MAX, NOW);
    let state = upload.state(NOW);
    assert!(!state.reached && state.serves_historical_blocks);
    assert_eq!((state.target, state.bytes_left, state.seconds_left), (0, 0, 0));
}

#[test]
fn historical_blocks_leave_room_for_a_block_every_ten_minutes() {
    let reserve = 144 * 4_000_000;
    let mut upload = Upload::new(reserve + 1_000);
    assert_eq!(upload.state(NOW).seconds_left, 86_400);
    upload.sent(999, NOW);
    assert!(upload.state(NOW).serves_historical_blocks);
    upload.sent(1, NOW);
    let state = upload.state(NOW);
    assert!(!state.serves_historical_blocks && !state.reached);
    assert_eq!(state.bytes_left, reserve);
    // The reserve shrinks with the time left.
    assert!(upload.state(NOW + 600).serves_historical_blocks);
    upload.sent(reserve, NOW + 600);
    let state = upload.state(NOW + 600);
    assert!(state.reached && !state.serves_historical_blocks);
    assert_eq!(state.bytes_left, 0);
}

#[test]
fn a_target_below_the_reserve_serves_no_historical_block() {
    assert!(!Upload::new(1 << 20).state(NOW).serves_historical_blocks);
}

#[test]
fn a_new_cycle_begins_after_a_day() {
    let mut upload = Upload::new(600_000_000);
    upload.sent(600_000_000, NOW);
    assert!(upload.state(NOW + DAY).reached);
    upload.sent(1, NOW + DAY + 1);
    let state = upload.state(NOW + DAY + 1);
    assert!(!state.reached);
    assert_eq!((state.bytes_left, state.seconds_left), (599_999_999, 86_400));
}
