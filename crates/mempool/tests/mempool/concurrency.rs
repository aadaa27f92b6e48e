//! Nothing waits for a script check but who asked for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use ironpeer_consensus::{ScriptFailure, TxScriptCheck};
use ironpeer_mempool::{Config, SubmitTx, TxChecker};
use ironpeer_primitives::MempoolRead as _;
use parking_lot::Mutex;

use crate::support::{Node, Tx, cache};

const COIN: u64 = 1_000_000;

/// A kernel that takes as long as the test wants.
struct Gate {
    entered: Sender<()>,
    open: Mutex<Receiver<()>>,
}

impl TxChecker for Gate {
    fn check(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure> {
        self.entered.send(()).unwrap();
        self.open.lock().recv().unwrap();
        cache().check(check)
    }
}

struct Gated {
    node: Node,
    coins: Vec<bitcoin::OutPoint>,
    entered: Receiver<()>,
    open: Sender<()>,
}

async fn gated(coins: usize) -> Gated {
    let ((entered_in, entered), (open, open_out)) = (channel(), channel());
    let gate = Arc::new(Gate { entered: entered_in, open: Mutex::new(open_out) });
    let mut node = Node::with_checker(Config::default(), gate);
    let coins = node.fund(coins, COIN).await;
    Gated { node, coins, entered, open }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_admission_delays_no_reader() {
    let Gated { mut node, coins, entered, open } = gated(2).await;
    let slow = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let (mempool, tx) = (node.mempool.clone(), Arc::new(slow.0.clone()));
    let admission = tokio::spawn(async move { mempool.submit_tx(tx, SubmitTx::default()).await });
    entered.recv().unwrap();
    // The script check is under way and goes on until it is let go; all this happens meanwhile.
    assert!(!node.has(&slow));
    assert_eq!(node.mempool.info().count, 0);
    assert!(node.mempool.all().is_empty());
    assert!(node.mempool.chunks().1.is_empty());
    let refused = node.submit(&Tx::spending([coins[1]]).pay(COIN)).await.unwrap_err();
    assert!(refused.reason.starts_with("min relay fee"));
    node.mine(Vec::new()).await;
    assert!(!admission.is_finished());
    // The tip has changed under it: it is looked at again, and taken.
    open.send(()).unwrap();
    admission.await.unwrap().unwrap();
    assert_eq!(node.mempool.entry(&slow.txid()).unwrap().height, node.mempool.view().tip.height);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rivals_checked_at_once_only_one_stays() {
    let Gated { node, coins, entered, open } = gated(1).await;
    let rivals = [Tx::spending([coins[0]]).pay(COIN - 1_000), Tx::spending([coins[0]]).pay(COIN - 1_001)];
    let admissions: Vec<_> = rivals
        .iter()
        .map(|rival| {
            let (mempool, tx) = (node.mempool.clone(), Arc::new(rival.0.clone()));
            tokio::spawn(async move { mempool.submit_tx(tx, SubmitTx::default()).await })
        })
        .collect();
    // Both have passed the first look; neither is in.
    entered.recv().unwrap();
    entered.recv().unwrap();
    open.send(()).unwrap();
    open.send(()).unwrap();
    let mut results = Vec::new();
    for admission in admissions {
        results.push(admission.await.unwrap());
    }
    let refusals: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(refusals.len(), 1, "{results:?}");
    assert!(refusals[0].reason.starts_with("insufficient fee"));
    assert_eq!(node.mempool.info().count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admission_ends_even_if_nobody_waits_for_it() {
    let Gated { node, coins, entered, open } = gated(1).await;
    let tx = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let mut events = node.mempool.subscribe();
    let (mempool, arc) = (node.mempool.clone(), Arc::new(tx.0.clone()));
    let admission = tokio::spawn(async move { mempool.submit_tx(arc, SubmitTx::default()).await });
    entered.recv().unwrap();
    admission.abort();
    assert!(admission.await.unwrap_err().is_cancelled());
    open.send(()).unwrap();
    events.recv().await.unwrap();
    assert!(node.has(&tx));
}
