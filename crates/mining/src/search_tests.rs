use std::time::Duration;

use bitcoin::CompactTarget;

use super::*;
use crate::limits::NONCE_BATCH;
use crate::template::tests::template;

fn job(bits: u32, tries: u64, last_nonce: u32) -> SearchJob {
    let mut template = template(&[]);
    template.block.header.bits = CompactTarget::from_consensus(bits);
    SearchJob {
        template: Arc::new(template),
        tries: Arc::new(Tries::new(tries)),
        cancel: CancellationToken::new(),
        threads: 3,
        last_nonce,
    }
}

async fn end(mut search: RunningSearch) -> Option<Searched> {
    let mut end = None;
    search.ended(&mut end).await;
    end
}

/// No hash in reach meets this target.
const HOPELESS: u32 = 0x0301_0000;
/// One in 4,096 hashes meets this one.
const ONE_IN_4096: u32 = 0x1f0f_ffff;

#[tokio::test]
async fn cancellable_proof_of_work_at_most_one_batch_a_thread_after_cancel() {
    let job = job(HOPELESS, u64::MAX, u32::MAX);
    let (tries, cancel, threads) = (Arc::clone(&job.tries), job.cancel.clone(), job.threads as u64);
    let search = start(job).unwrap();
    while tries.done() == 0 {
        std::thread::yield_now();
    }
    cancel.cancel();
    let at_cancel = tries.done();
    let end = tokio::time::timeout(Duration::from_secs(60), end(search)).await;
    assert_eq!(end, Ok(Some(Searched::Cancelled)));
    let after = tries.done() - at_cancel;
    assert!(after <= threads * u64::from(NONCE_BATCH), "{after} hashes after the cancel");
}

#[tokio::test]
async fn one_threads_find_stops_the_others_and_tries_are_shared() {
    let Some(Searched::Found(block)) = end(start(job(ONE_IN_4096, u64::MAX, u32::MAX)).unwrap()).await else {
        panic!("nothing found")
    };
    assert!(block.header.validate_pow(block.header.target()).is_ok());
    let job = job(HOPELESS, 50_000, u32::MAX);
    let tries = Arc::clone(&job.tries);
    assert_eq!(end(start(job).unwrap()).await, Some(Searched::OutOfTries));
    assert_eq!(tries.done(), 50_000);
}

#[tokio::test]
async fn exhausted_nonces_roll_the_extra_nonce_in_the_coinbase() {
    let job = job(ONE_IN_4096, u64::MAX, 9);
    let untouched = job.template.block.txdata[0].clone();
    let Some(Searched::Found(block)) = end(start(job).unwrap()).await else { panic!("nothing found") };
    assert!(block.header.validate_pow(block.header.target()).is_ok());
    assert!(block.header.nonce <= 9);
    assert!(block.check_merkle_root() && block.check_witness_commitment());
    let script = &block.txdata[0].input[0].script_sig;
    let before = &untouched.input[0].script_sig;
    assert!(script.as_bytes().starts_with(before.as_bytes()));
    assert_eq!(script.len(), before.len() + 9, "an eight-byte push was appended");
}

#[tokio::test]
async fn no_cancel_after_creation_a_found_block_outlives_the_cancel() {
    let job = job(ONE_IN_4096, u64::MAX, u32::MAX);
    let cancel = job.cancel.clone();
    let mut search = start(job).unwrap();
    let first = search.ends.recv().await.unwrap();
    cancel.cancel();
    let mut best = Some(first);
    search.ended(&mut best).await;
    assert!(matches!(best, Some(Searched::Found(_))), "{best:?}");
}
