use futures::FutureExt;

use super::*;

fn message(bytes: usize) -> Outgoing {
    Outgoing { command: Command::new("ping"), bytes: vec![0; bytes] }
}

#[tokio::test]
async fn levels_and_room() {
    let outbox = Outbox::new(100, 300);
    assert_eq!(outbox.push(message(100)), Level::Room);
    assert_eq!(outbox.push(message(1)), Level::Full);
    assert_eq!(outbox.push(message(250)), Level::Full);
    assert_eq!(outbox.push(message(1)), Level::Overflow);

    let batch = outbox.take(150).await;
    assert_eq!(batch.len(), 2);
    // What is taken but not written still counts.
    assert_eq!(outbox.push(message(1)), Level::Overflow);
    outbox.written(101);
    assert!(outbox.has_room().now_or_never().is_none());
    let large = outbox.take(10).await;
    assert_eq!(large.len(), 1, "a message larger than the batch goes alone");
    outbox.written(250);
    outbox.has_room().await;
    assert!(outbox.try_take(10).is_empty());
}
