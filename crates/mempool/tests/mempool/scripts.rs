//! Two engines look at a transaction's scripts: the interpreter under relay policy, and the kernel
//! under the tip's rules. Both must pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ironpeer_consensus::{ScriptFailure, ScriptFlags, SeamError, TxScriptCheck};
use ironpeer_mempool::{Config, TxChecker};
use ironpeer_primitives::{LogCategory, LogLine, LogSink, TxClass};
use parking_lot::Mutex;

use crate::support::{Node, Tx};

const COIN: u64 = 1_000_000;

/// Says the same of every transaction, and counts the questions.
struct Says {
    verdict: Result<(), ScriptFailure>,
    asked: AtomicUsize,
}

impl TxChecker for Says {
    fn check(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure> {
        assert_eq!(check.flags(), ScriptFlags::MANDATORY, "the rules of the next block");
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.verdict.clone()
    }
}

#[derive(Default)]
struct Errors(Mutex<Vec<String>>);

impl LogSink for Errors {
    fn log(&self, line: LogLine) {
        if line.text.contains("BUG!") {
            self.0.lock().push(line.text.into_owned());
        }
    }

    fn enabled(&self, _: LogCategory) -> bool {
        true
    }
}

async fn judged(verdict: Result<(), ScriptFailure>, spoil: bool) -> ((TxClass, String), usize, Vec<String>) {
    let says = Arc::new(Says { verdict, asked: AtomicUsize::new(0) });
    let errors = Arc::new(Errors::default());
    let mut node = Node::build(Config::default(), Arc::clone(&says) as _, Arc::clone(&errors) as _);
    let coins = node.fund(1, COIN).await;
    let mut tx = Tx::spending([coins[0]]).pay(COIN - 1_000);
    if spoil {
        tx.0.input[0].witness = bitcoin::Witness::from_slice(&[[0x52]]);
    }
    let refused = node.refuse(&tx).await;
    assert!(!node.has(&tx));
    let errors = errors.0.lock().clone();
    (refused, says.asked.load(Ordering::Relaxed), errors)
}

#[tokio::test]
async fn the_kernels_refusal_stands_and_is_logged_as_a_bug() {
    let ((class, text), asked, errors) = judged(Err(ScriptFailure::Invalid { input: 0 }), false).await;
    assert_eq!((class, asked), (TxClass::Consensus, 1));
    assert!(text.starts_with("block-script-verify-flag-failed (unknown error)"), "{text}");
    assert_eq!(errors.len(), 1);
}

#[tokio::test]
async fn what_policy_refuses_the_kernel_is_not_asked_about() {
    let ((class, text), asked, errors) = judged(Ok(()), true).await;
    assert_eq!((class, asked), (TxClass::NotStandard, 0));
    assert!(text.starts_with("mempool-script-verify-flag-failed (Witness program hash mismatch)"), "{text}");
    assert!(errors.is_empty());
}

#[tokio::test]
async fn an_engine_that_gives_no_verdict_condemns_nothing() {
    let failure = ScriptFailure::NoVerdict { input: 0, error: SeamError::Kernel("out of order".into()) };
    let ((class, text), asked, _) = judged(Err(failure), false).await;
    assert_eq!((class, asked), (TxClass::Unknown, 1));
    assert!(text.contains("out of order"), "{text}");
}
