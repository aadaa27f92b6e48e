use std::sync::Arc;

use tokio::sync::Barrier;

use super::*;

/// Three calls of which none ends before all have begun, answered in their order.
#[tokio::test]
async fn calls_of_a_batch_run_side_by_side() {
    let together = Arc::new(Barrier::new(3));
    let mut batch = Batch::default();
    for name in ["a", "b", "c"] {
        let together = Arc::clone(&together);
        batch.running.push_back(tokio::spawn(async move {
            together.wait().await;
            let mut reply = Pieces::default();
            reply.text(name);
            Some(reply)
        }));
    }
    batch.leave_running(1).await;
    assert_eq!((batch.replies, batch.running.len()), (2, 1));
    batch.add(None);
    batch.leave_running(0).await;
    assert_eq!(batch.replies, 3);
    let mut whole = Pieces::default();
    whole.text("a,b,c");
    assert_eq!(format!("{:?}", batch.body), format!("{whole:?}"));
}
