//! Reads never wait for validation.

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bitcoin::OutPoint;
use ironpeer_consensus::{Checker, InlineChecker, ScriptCache, ScriptFailure, TxScriptCheck};
use ironpeer_primitives::{ChainRead, Height};
use support::{Node, regtest, spend};

/// Longest time a read may take before it counts as waiting.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Gate {
    /// Checks that have arrived, and whether they may go on.
    state: Mutex<(usize, bool)>,
    moved: Condvar,
}

/// Holds every script check until told otherwise.
struct Held {
    gate: Arc<Gate>,
    inner: InlineChecker,
}

impl Checker for Held {
    fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
        let mut state = self.gate.state.lock().unwrap();
        state.0 += 1;
        self.gate.moved.notify_all();
        drop(self.gate.moved.wait_while(state, |state| !state.1).unwrap());
        self.inner.check(checks)
    }
}

#[test]
fn reads_never_wait_for_validation() {
    let gate = Arc::new(Gate::default());
    let inner = InlineChecker::new(Arc::new(ScriptCache::new(1 << 16, [1; 32])));
    let node = Node::with_checker(regtest(), Arc::new(Held { gate: Arc::clone(&gate), inner }));
    let base = node.extend(&node.tip(), 0, 101);
    let coin = OutPoint { txid: base[0].txdata[0].compute_txid(), vout: 0 };
    let slow = node.make(&node.tip(), 0, vec![spend(&[(&base[0].txdata[0], 0)], 0)]);

    let handle = node.handle.clone();
    let submitted = Arc::clone(&slow);
    let submit = std::thread::spawn(move || {
        handle.submit_block_blocking(submitted, ironpeer_chain::SubmitOptions::WANTED).unwrap()
    });
    // The block's scripts are being checked now, and will be until the gate opens.
    drop(gate.moved.wait_while(gate.state.lock().unwrap(), |state| state.0 == 0).unwrap());

    let (view, parent) = (node.view(), base[100].block_hash());
    let (done, reads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let tip = view.tip();
        let coin = view.coin(&coin);
        let header = view.active_at(Height(50)).unwrap();
        let together = view.coins(&[OutPoint { txid: header.hash.to_string().parse().unwrap(), vout: 0 }]);
        let block = view.block(&header.hash).unwrap().block_hash();
        let undo = view.undo(&header.hash).unwrap().txs.len();
        let tips = view.chain_tips().len();
        let locator = view.locator(&tip.hash).len();
        done.send((tip.hash, coin.is_some(), together.0, block == header.hash, undo, tips, locator > 10))
            .unwrap();
    });
    let seen = reads.recv_timeout(PATIENCE).expect("a read waited for the script check");
    // The new block is known by its header only; all else is as before it.
    assert_eq!(seen, (parent, true, parent, true, 0, 2, true));

    gate.state.lock().unwrap().1 = true;
    gate.moved.notify_all();
    assert!(submit.join().unwrap().checked);
    assert_eq!(node.tip(), slow.block_hash());
    assert_eq!(node.view().coin(&coin), None);
}

#[test]
fn a_block_whose_scripts_get_no_verdict_stops_the_node_and_is_not_condemned() {
    struct Broken;
    impl Checker for Broken {
        fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
            assert_eq!(checks.len(), 1);
            let error = ironpeer_consensus::SeamError::Kernel("out of order".into());
            Err((0, ScriptFailure::NoVerdict { input: 0, error }))
        }
    }
    let node = Node::with_checker(regtest(), Arc::new(Broken));
    let base = node.extend(&node.tip(), 0, 101);
    let fatal = node.handle.fatal();
    let block = node.make(&node.tip(), 0, vec![spend(&[(&base[0].txdata[0], 0)], 0)]);
    let submitted =
        node.handle.submit_block_blocking(Arc::clone(&block), ironpeer_chain::SubmitOptions::WANTED);
    assert_eq!(submitted, Err(ironpeer_chain::ChainStopped));
    let view = node.view();
    node.wait();
    assert!(fatal.borrow().as_ref().unwrap().contains("out of order"));
    assert!(!view.header(&block.block_hash()).unwrap().failed);
}

#[test]
fn a_panic_in_a_script_check_stops_the_node() {
    struct Panics;
    impl Checker for Panics {
        fn check(&self, _: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
            panic!("on purpose")
        }
    }
    let node = Node::with_checker(regtest(), Arc::new(Panics));
    let base = node.extend(&node.tip(), 0, 101);
    let block = node.make(&node.tip(), 0, vec![spend(&[(&base[0].txdata[0], 0)], 0)]);
    let submitted = node.handle.submit_block_blocking(block, ironpeer_chain::SubmitOptions::WANTED);
    assert_eq!(submitted, Err(ironpeer_chain::ChainStopped));
    let fatal = node.handle.fatal();
    node.wait();
    assert!(fatal.borrow().is_some());
}
