//! Log lines that tools compare, word for word.

use std::sync::Arc;
use std::time::Duration;

use ironpeer_mempool::Config;
use ironpeer_primitives::{LogCategory, LogLine, LogSink};
use parking_lot::Mutex;

use crate::support::{Node, Tx};

const COIN: u64 = 1_000_000;

#[derive(Default)]
pub struct Lines(pub Mutex<Vec<String>>);

impl LogSink for Lines {
    fn log(&self, line: LogLine) {
        self.0.lock().push(line.text.into_owned());
    }

    fn enabled(&self, _: LogCategory) -> bool {
        true
    }
}

#[tokio::test]
async fn changes_are_logged_as_core_does() {
    let lines = Arc::new(Lines::default());
    let mut node = Node::with_log(Config::default(), Arc::clone(&lines) as Arc<dyn LogSink>);
    let coins = node.fund(1, COIN).await;
    lines.0.lock().clear();
    let first = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let second = Tx::spending([coins[0]]).pay(COIN - 3_000);
    let (a, b) = (first.txid(), second.txid());
    let size = first.vsize();
    node.accept(&first).await;
    node.mempool.add_unbroadcast(a);
    node.mempool.prioritise(a, 500);
    node.mempool.prioritise(a, -500);
    node.accept(&second).await;
    node.mempool.prioritise(b, -1);
    node.clock.advance(Duration::from_secs(337 * 3_600));
    let late = Tx::spending([coins[0]]).pay(COIN - 9_000);
    node.accept(&late).await;
    node.mempool.save(Node::path()).await.unwrap();
    let (aw, bw, c, cw) =
        (first.0.compute_wtxid(), second.0.compute_wtxid(), late.txid(), late.0.compute_wtxid());
    let expected = [
        format!("PrioritiseTransaction: {a} (in mempool) fee += 0.000005, new delta=0.000005"),
        format!("PrioritiseTransaction: {a} (in mempool) delta cleared"),
        format!(
            "replacing mempool tx {a} (wtxid={aw}, fees=1000, vsize={size}). New tx {b} (wtxid={bw}, fees=3000, vsize={size})"
        ),
        format!("Removed {a} from set of unbroadcast txns before confirmation that txn was sent out"),
        "replaced 1 mempool transactions with 1 new transaction for 2000 additional fees, 0 delta bytes"
            .to_owned(),
        format!("PrioritiseTransaction: {b} (in mempool) fee += -0.00000001, new delta=-0.00000001"),
        format!(
            "replacing mempool tx {b} (wtxid={bw}, fees=3000, vsize={size}). New tx {c} (wtxid={cw}, fees=9000, vsize={size})"
        ),
        "replaced 1 mempool transactions with 1 new transaction for 6001 additional fees, 0 delta bytes"
            .to_owned(),
        "Writing 1 mempool transactions to file...".to_owned(),
        "Writing 0 unbroadcast transactions to file.".to_owned(),
    ];
    let lines = lines.0.lock();
    assert_eq!(lines[..expected.len()], expected);
    assert!(lines[expected.len()].starts_with("Dumped mempool: 0.000s to copy, 0.000s to dump, "));
}
