use futures::FutureExt;

use super::*;

const MESSAGE: usize = 4_000_000;

/// Strangers that begin large messages and do not go on take nothing from peers we chose, and
/// from each other only for a while.
#[tokio::test(start_paused = true)]
async fn cve_2015_3641_half_messages_of_strangers_hold_only_their_own_part() {
    let budget = ReceiveBudget::new();
    let mut stalled = Vec::new();
    while let Some(Some(part)) = budget.begin(true, MESSAGE).now_or_never() {
        stalled.push(part);
    }
    assert_eq!(stalled.len(), limits::INBOUND_RECEIVE_BYTES / UNIT_BYTES / MESSAGE.div_ceil(UNIT_BYTES));
    assert!(budget.begin(false, MESSAGE).now_or_never().flatten().is_some());

    // Nobody waits: a slow line has its ten minutes.
    let first = stalled.swap_remove(0);
    let began = Instant::now();
    first.overdue().await;
    assert_eq!(began.elapsed(), limits::LARGE_MESSAGE_TIMEOUT);
    drop(first);

    // Somebody waits: it is over at once for those that had their time.
    let again = budget.begin(true, MESSAGE).await.unwrap();
    let waits = budget.begin(true, MESSAGE);
    tokio::pin!(waits);
    assert!(waits.as_mut().now_or_never().is_none());
    stalled[0].overdue().now_or_never().unwrap();
    let began = Instant::now();
    again.overdue().await;
    assert_eq!(began.elapsed(), limits::LARGE_MESSAGE_UNDER_PRESSURE);
    drop(again);
    assert!(waits.await.is_some());
    // Whoever waited, or gave up waiting, is not counted any more.
    assert_eq!(budget.inbound.waiting.load(Ordering::Relaxed), 0);
}

/// What is decoded counts by what it holds, and all of it comes back.
#[tokio::test]
async fn decoded_messages_hold_what_they_take() {
    let budget = ReceiveBudget::new();
    let all = budget.decoded.units.available_permits();
    let mut one = budget.decode(MESSAGE).await.unwrap();
    assert!(budget.decode(limits::DECODED_BYTES).now_or_never().is_none());
    one.shrink_to(1_000_000);
    assert_eq!(all - budget.decoded.units.available_permits(), 1_000_000usize.div_ceil(UNIT_BYTES));
    drop(one);
    assert_eq!(budget.decoded.units.available_permits(), all);
}
