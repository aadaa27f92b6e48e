use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{TxMerkleNode, Work};
use ironpeer_consensus::{Params, RegtestOptions, check_header};
use ironpeer_primitives::{HeaderInfo, Height, PeerId};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::{BitQueue, Presync, Step};

fn mine(params: &Params, parent: &Header, tag: u8) -> Header {
    let mut header = Header {
        version: Version::from_consensus(4),
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::from_byte_array([tag; 32]),
        time: parent.time + 600,
        bits: parent.bits,
        nonce: 0,
    };
    while check_header(&header, params).is_err() {
        header.nonce += 1;
    }
    header
}

fn chain(params: &Params, length: usize, tag: u8) -> Vec<Header> {
    let mut headers = vec![params.genesis.header];
    for _ in 0..length {
        let next = mine(params, headers.last().unwrap(), tag);
        headers.push(next);
    }
    headers.split_off(1)
}

fn work(headers: &[Header]) -> Work {
    headers.iter().fold(Work::from_be_bytes([0; 32]), |sum, header| sum + header.work())
}

struct Run {
    params: Params,
    presync: Presync,
    log: Vec<String>,
}

impl Run {
    fn new(required: Work) -> Self {
        let params = Params::regtest(RegtestOptions::default());
        let header = params.genesis.header;
        let start = HeaderInfo {
            hash: params.genesis_hash,
            header,
            height: Height::GENESIS,
            chainwork: header.work(),
            median_time_past: i64::from(header.time),
            tx_count: 1,
            has_data: true,
            failed: false,
            fully_valid: true,
            active: true,
        };
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut log = Vec::new();
        let now = i64::from(header.time) + 600 * 100_000;
        let presync =
            Presync::new(PeerId(3), &params, &start, required, now, &mut rng, &mut |line| log.push(line));
        Self { params, presync, log }
    }

    fn give(&mut self, headers: &[Header], full: bool) -> Step {
        self.presync.process(headers, full, &self.params, &mut |line| self.log.push(line))
    }
}

/// CVE-2019-25220 and CVE-2024-52916: nothing of a chain is kept before it has shown its work,
/// then it is fetched again and kept.
#[test]
fn cve_2024_52916_headers_are_kept_only_after_they_showed_enough_work() {
    let params = Params::regtest(RegtestOptions::default());
    let headers = chain(&params, 9_000, 1);
    let mut run = Run::new(work(&headers));
    for batch in headers.chunks(2_000).take(4) {
        let step = run.give(batch, true);
        assert!(step.success && step.request_more && step.headers.is_empty());
        assert_eq!(run.presync.next_locator(), [batch.last().unwrap().block_hash()]);
    }
    assert!(run.presync.commitments.len <= 8_000 / 275 + 1, "bits, not headers, are kept");
    assert!(run.presync.commitments.words.len() == 1);
    // The last batch brings enough work: all of it is asked for again from the start.
    let step = run.give(&headers[8_000..], false);
    assert!(step.success && step.request_more && step.headers.is_empty());
    assert_eq!(run.presync.next_locator(), [params.genesis_hash]);
    let mut kept = Vec::new();
    for batch in headers.chunks(2_000) {
        let step = run.give(batch, batch.len() == 2_000);
        assert!(step.success);
        kept.extend(step.headers);
        assert_eq!(step.finished, kept.len() == headers.len());
    }
    assert_eq!(kept, headers);
    assert!(run.log.iter().any(|line| line.contains("reached sufficient work at height=9000")));
    assert!(run.log.last().unwrap().contains("releasing all at height=9000 (redownload phase)"));
}

#[test]
fn another_chain_the_second_time_is_found_out_before_much_is_kept() {
    let params = Params::regtest(RegtestOptions::default());
    let (headers, other) = (chain(&params, 9_000, 1), chain(&params, 9_000, 2));
    let mut run = Run::new(work(&headers));
    for batch in headers.chunks(2_000) {
        assert!(run.give(batch, true).success);
    }
    let mut kept = 0;
    let mut caught = false;
    for batch in other.chunks(2_000) {
        let step = run.give(batch, true);
        kept += step.headers.len();
        if !step.success {
            caught = true;
            assert!(step.finished);
            break;
        }
    }
    assert!(caught, "the commitments differ");
    assert_eq!(kept, 0);
    assert!(run.log.last().unwrap().contains("commitment mismatch"), "{:?}", run.log.last());
}

#[test]
fn a_short_message_or_a_gap_ends_the_sync() {
    let params = Params::regtest(RegtestOptions::default());
    let headers = chain(&params, 40, 1);
    let all = work(&headers);
    let mut run = Run::new(all);
    let step = run.give(&headers[..20], false);
    assert!(step.success && step.finished && !step.request_more);
    assert!(run.log.last().unwrap().contains("incomplete headers message at height=20 (presync phase)"));
    let mut run = Run::new(all);
    let step = run.give(&headers[1..], true);
    assert!(!step.success && step.finished);
    assert!(run.log.last().unwrap().contains("non-continuous headers at height=0 (presync phase)"));
}

#[test]
fn bits_come_out_as_they_went_in() {
    let bit = |n: u64| n.is_multiple_of(3) || n % 7 == 1;
    let mut queue = BitQueue::default();
    let (mut pushed, mut popped) = (0, 0);
    for round in 0..200u64 {
        for _ in 0..round % 37 {
            queue.push_back(bit(pushed));
            pushed += 1;
        }
        for _ in 0..round % 31 {
            let expected = (popped < pushed).then(|| bit(popped));
            assert_eq!(queue.pop_front(), expected);
            popped += u64::from(expected.is_some());
        }
        assert_eq!(queue.len, pushed - popped);
        assert!(queue.words.len() as u64 <= queue.len / 64 + 2);
    }
}
