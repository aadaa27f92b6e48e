use super::*;

#[test]
fn mining_guard_second_start_fails_at_once_with_a_clear_error() {
    let guard = MiningGuard::default();
    let permit = guard.try_acquire().unwrap();
    let error = guard.clone().try_acquire().unwrap_err();
    assert_eq!(error.to_string(), "a block search is already running");
    drop(permit);
    drop(guard.try_acquire().unwrap());
    assert!(!guard.is_busy());
}

#[test]
fn mining_guard_is_given_back_on_panic() {
    let guard = MiningGuard::default();
    let inner = guard.clone();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _permit = inner.try_acquire().unwrap();
        panic!("a search that goes wrong");
    }));
    assert!(result.is_err());
    assert!(guard.try_acquire().is_ok());
}

#[test]
fn mining_guard_only_one_of_many_threads_gets_it() {
    let guard = MiningGuard::default();
    let barrier = std::sync::Barrier::new(8);
    let won: usize = std::thread::scope(|scope| {
        let contend = || {
            barrier.wait();
            let permit = guard.try_acquire();
            barrier.wait();
            usize::from(permit.is_ok())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(contend)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
}

#[tokio::test]
async fn mining_guard_waiters_get_their_turn_in_order() {
    let guard = MiningGuard::default();
    let permit = guard.try_acquire().unwrap();
    let (sender, mut order) = tokio::sync::mpsc::channel(4);
    for n in 0..2 {
        let (guard, sender) = (guard.clone(), sender.clone());
        tokio::spawn(async move {
            for _ in 0..2 {
                let _permit = guard.acquire().await;
                sender.send(n).await.unwrap();
            }
        });
        // Lets the task reach its place in the queue.
        tokio::task::yield_now().await;
    }
    drop(permit);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(order.recv().await.unwrap());
    }
    assert_eq!(seen, [0, 1, 0, 1]);
}
