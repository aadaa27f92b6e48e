use futures::FutureExt;

use super::*;

#[test]
fn blocks_are_answered_for_in_the_order_they_came() {
    let downloads = Arc::new(Downloads::new());
    assert_eq!(downloads.idle().now_or_never(), Some(()));
    let (first, second) = (downloads.join(), downloads.join());
    assert_eq!(first.turn().now_or_never(), Some(()));
    assert_eq!(second.turn().now_or_never(), None);
    drop(first);
    assert_eq!(second.turn().now_or_never(), Some(()));
    assert_eq!(downloads.idle().now_or_never(), None);
    drop(second);
    assert_eq!(downloads.idle().now_or_never(), Some(()));
}

/// One million one-byte blocks and one of the largest cost what the queue can count.
#[test]
fn a_block_costs_its_size_within_bounds() {
    assert_eq!(queue_cost(1), 64);
    assert_eq!(queue_cost(1_000_000), 976);
    assert_eq!(queue_cost(usize::MAX), 32 * 1024);
}
