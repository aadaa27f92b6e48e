use std::sync::Arc;

use bitcoin::{Network, Target, Work};
use ironpeer_consensus::{CheckBlock, RegtestOptions, check_block, contextual_check_block};
use ironpeer_mempool::FeeFrac;

use super::*;
use crate::anyone_can_spend;

/// Headers in a row, five minutes apart.
pub(crate) struct Headers(Vec<Header>);

impl Headers {
    pub(crate) fn regtest(count: u32, params: &Params) -> Self {
        let mut headers = vec![params.genesis.header];
        for height in 1..count {
            let parent = headers[height as usize - 1];
            headers.push(Header { prev_blockhash: parent.block_hash(), time: parent.time + 300, ..parent });
        }
        Self(headers)
    }

    fn tip(&self) -> HeaderInfo {
        let header = *self.0.last().unwrap();
        HeaderInfo {
            hash: header.block_hash(),
            header,
            height: self.height(),
            chainwork: Work::from_be_bytes([0; 32]),
            median_time_past: median_time_past(self),
            tx_count: 1,
            has_data: true,
            failed: false,
            fully_valid: true,
            active: true,
        }
    }
}

impl Ancestry for Headers {
    fn height(&self) -> Height {
        Height(self.0.len() as u32 - 1)
    }

    fn header_at(&self, height: Height) -> Option<(bitcoin::BlockHash, Header)> {
        self.0.get(height.index()).map(|header| (header.block_hash(), *header))
    }
}

fn chunk_tx(n: u32, lock_time: u32, weight: u64, fee: u64, sigop_cost: u64) -> ChunkTx {
    let tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(lock_time),
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout: n },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ZERO,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: anyone_can_spend() }],
    };
    let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
    ChunkTx { tx: Arc::new(tx), txid, wtxid, fee: Amount::from_sat(fee), weight, sigop_cost }
}

fn chunk(txs: Vec<ChunkTx>) -> Chunk {
    let fee = FeeFrac {
        fee: txs.iter().map(|tx| tx.fee.to_sat() as i64).sum(),
        weight: txs.iter().map(|tx| tx.weight).sum(),
    };
    Chunk { fee, txs }
}

fn assemble(
    headers: &Headers,
    params: &Params,
    config: &Config,
    chunks: &[Chunk],
    now: UnixTime,
) -> Template {
    Template::assemble(&TemplateSource {
        params,
        config,
        parent: headers.tip(),
        chain: headers,
        version: 0x2000_0000,
        now,
        coinbase_script: &anyone_can_spend(),
        chunks,
        transactions_updated: 5,
    })
    .unwrap()
}

pub(crate) fn template(chunks: &[Chunk]) -> Template {
    let params = Params::regtest(RegtestOptions::default());
    let headers = Headers::regtest(120, &params);
    assemble(&headers, &params, &Config::default(), chunks, 0)
}

fn picked(chunks: &[Chunk], config: &Config) -> Vec<u32> {
    let params = Params::regtest(RegtestOptions::default());
    let headers = Headers::regtest(120, &params);
    let template = assemble(&headers, &params, config, chunks, 0);
    template.block.txdata[1..].iter().map(|tx| tx.input[0].previous_output.vout).collect()
}

#[test]
fn the_coinbase_is_cores_at_every_kind_of_height() {
    let params = Params::regtest(RegtestOptions::default());
    for (height, script) in
        [(1, "5100"), (16, "6000"), (17, "0111"), (128, "028000"), (255, "02ff00"), (256, "020001")]
    {
        let headers = Headers::regtest(height, &params);
        let template = assemble(&headers, &params, &Config::default(), &[], 0);
        let coinbase = &template.block.txdata[0];
        assert_eq!(coinbase.input[0].script_sig.to_hex_string(), script, "height {height}");
        assert_eq!(coinbase.input[0].sequence.0, 0xffff_fffe);
        assert_eq!(coinbase.lock_time.to_consensus_u32(), height - 1);
        assert_eq!(coinbase.output[0].value, block_subsidy(Height(height), &params));
        assert_eq!(template.reward(), coinbase.output[0].value);
        assert!(template.block.check_merkle_root() && template.block.check_witness_commitment());
        let rules = CheckBlock { pow: false, merkle: true };
        check_block(&template.block, &params, rules).unwrap();
        contextual_check_block(&template.block, &headers, &params).unwrap();
    }
}

#[test]
fn before_segwit_the_coinbase_has_no_witness() {
    let options = RegtestOptions {
        activation_heights: vec![(BuriedDeployment::Segwit, Height(500))],
        ..RegtestOptions::default()
    };
    let params = Params::regtest(options);
    let headers = Headers::regtest(10, &params);
    let template = assemble(&headers, &params, &Config::default(), &[], 0);
    assert!(template.block.txdata[0].input[0].witness.is_empty());
    contextual_check_block(&template.block, &headers, &params).unwrap();
}

#[test]
fn time_is_the_clocks_but_above_the_median_of_the_past() {
    let params = Params::regtest(RegtestOptions::default());
    let headers = Headers::regtest(120, &params);
    let median = median_time_past(&headers);
    let tip = i64::from(headers.tip().header.time);
    for (now, time) in [(0, median + 1), (median, median + 1), (median + 2, median + 2), (tip + 9, tip + 9)] {
        let template = assemble(&headers, &params, &Config::default(), &[], now);
        assert_eq!(i64::from(template.block.header.time), time);
        assert_eq!(template.min_time, median + 1);
        assert_eq!(template.transactions_updated, 5);
    }
}

#[test]
fn the_timewarp_limit_holds_where_a_period_begins() {
    let params = Params::regtest(RegtestOptions::default());
    let interval = params.difficulty_adjustment_interval();
    let mut headers = Headers::regtest(interval, &params);
    headers.0.last_mut().unwrap().time += 50_000;
    let tip = i64::from(headers.tip().header.time);
    assert_eq!(minimum_time(&headers, &params), tip - 600);
    headers.0.pop();
    assert_eq!(minimum_time(&headers, &params), median_time_past(&headers) + 1);
}

#[test]
fn a_pause_eases_the_bits_on_testnet() {
    let params = Params::for_network(Network::Testnet);
    let mut headers = Headers::regtest(3, &params);
    let hard = Target::from_compact(params.pow_limit_bits());
    let hard = Target::from_be_bytes({
        let mut bytes = hard.to_be_bytes();
        bytes.rotate_right(2);
        bytes
    });
    for header in &mut headers.0[1..] {
        header.bits = hard.to_compact_lossy();
    }
    let tip = headers.tip();
    let time = i64::from(tip.header.time);
    let soon = assemble(&headers, &params, &Config::default(), &[], time + 1200);
    assert_eq!(soon.block.header.bits, tip.header.bits);
    let later = assemble(&headers, &params, &Config::default(), &[], time + 1201);
    assert_eq!(later.block.header.bits, params.pow_limit_bits());
    let mut header = soon.block.header;
    update_time(&mut header, &headers, &params, time + 1201);
    assert_eq!((header.time, header.bits), (later.block.header.time, later.block.header.bits));
}

#[test]
fn the_best_chunks_are_taken_while_they_fit() {
    let config = Config { max_weight: 20_000, ..Config::default() };
    // 8,000 are reserved; the limit itself may not be reached.
    let chunks = [
        chunk(vec![chunk_tx(1, 0, 4_000, 9_000, 0), chunk_tx(2, 0, 4_000, 9_000, 0)]),
        chunk(vec![chunk_tx(3, 0, 4_000, 8_000, 0)]),
        chunk(vec![chunk_tx(4, 0, 3_999, 7_000, 0)]),
        chunk(vec![chunk_tx(5, 0, 400, 500, 0)]),
    ];
    assert_eq!(picked(&chunks, &config), [1, 2, 4]);
    let params = Params::regtest(RegtestOptions::default());
    let template = assemble(&Headers::regtest(120, &params), &params, &config, &chunks, 0);
    assert_eq!(template.weight, 8_000 + 8_000 + 3_999);
    assert_eq!(template.total_fees(), Amount::from_sat(25_000));
    assert_eq!(template.reward(), block_subsidy(Height(120), &params) + Amount::from_sat(25_000));
    assert_eq!(template.txids.len(), 4);
    for (tx, txid) in template.block.txdata.iter().zip(&template.txids) {
        assert_eq!(tx.compute_txid(), *txid);
    }
}

#[test]
fn sigops_locktimes_and_feerates_keep_chunks_out() {
    let chunks = [
        chunk(vec![chunk_tx(1, 0, 400, 900, 79_600)]),
        chunk(vec![chunk_tx(2, 0, 400, 900, 79_500)]),
        chunk(vec![chunk_tx(3, 0, 400, 900, 100)]),
        chunk(vec![chunk_tx(4, 0, 400, 900, 99)]),
        chunk(vec![chunk_tx(5, 120, 400, 900, 0)]),
        chunk(vec![chunk_tx(6, 119, 400, 900, 0)]),
        chunk(vec![chunk_tx(7, 0, 400, 0, 0)]),
        chunk(vec![chunk_tx(8, 0, 400, 900, 0)]),
    ];
    assert_eq!(picked(&chunks, &Config::default()), [2, 4, 6], "and nothing after one that pays too little");
    let free = Config { min_fee_per_kvb: 0, ..Config::default() };
    assert_eq!(picked(&chunks, &free), [2, 4, 6, 7, 8]);
    // 400 weight units are 100 vbytes.
    let rate = |min_fee_per_kvb| Config { min_fee_per_kvb, ..Config::default() };
    assert_eq!(picked(&chunks[7..], &rate(9_000)), [8]);
    assert_eq!(picked(&chunks[7..], &rate(9_001)), [0; 0]);
}

#[test]
fn a_nearly_full_block_gives_up_after_a_thousand_failures() {
    let config = Config { max_weight: 20_000, ..Config::default() };
    let big = |n| chunk(vec![chunk_tx(n, 0, 9_000, 90_000, 0)]);
    let mut chunks: Vec<Chunk> = (0..1_003).map(big).collect();
    chunks.push(chunk(vec![chunk_tx(9_999, 0, 100, 100, 0)]));
    assert_eq!(picked(&chunks, &config), [0]);
    chunks.remove(500);
    chunks.remove(501);
    assert_eq!(picked(&chunks, &config), [0, 9_999]);
}

#[test]
fn other_transactions_can_take_the_mempools_place() {
    let params = Params::regtest(RegtestOptions::default());
    let mut template = template(&[chunk(vec![chunk_tx(1, 0, 400, 900, 4)])]);
    let mut with_witness = (*chunk_tx(2, 0, 0, 0, 0).tx).clone();
    with_witness.input[0].witness = Witness::from_slice(&[[1; 3]]);
    template.replace_transactions(vec![with_witness.clone()], &params);
    assert_eq!(template.block.txdata[1..], [with_witness]);
    assert_eq!(template.block.txdata[0].output.len(), 2);
    assert!(template.block.check_merkle_root() && template.block.check_witness_commitment());
    assert!(template.fees.is_empty() && template.sigop_costs.is_empty());
}
