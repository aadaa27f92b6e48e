//! Recorded blocks with everything they spend.

use std::io::Read;
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::serialize;
use bitcoin::hex::FromHex;
use bitcoin::{Amount, Block, BlockHash, ScriptBuf, TxIn, TxOut, Witness};
use ironpeer_consensus::{
    Ancestry, BlockIds, CheckBlock, Checker, Connected, InlineChecker, Params, ScriptCache, ScriptFailure,
    ScriptMode, check_block, check_block_with, connect_block, decode_block, disconnect_block,
    is_block_mutated, sigops, witness_commitment_index,
};
use ironpeer_primitives::{BlockUndo, Coin, Height, decode_block_undo, encode_block_undo};
use ironpeer_testkit::consensus::Coins;
use ironpeer_testkit::testdata;

/// What is needed of ancestors whose headers were not recorded: times before the block, so that
/// its lock times hold, and no known block at the BIP34 height, so that BIP30 is checked.
struct Below {
    height: Height,
    header: Header,
}

impl Ancestry for Below {
    fn height(&self) -> Height {
        self.height
    }

    fn header_at(&self, height: Height) -> Option<(BlockHash, Header)> {
        // Ten minutes apart.
        let age = self.height.0.checked_sub(height.0)? * 600;
        Some((
            self.header.prev_blockhash,
            Header { time: self.header.time.saturating_sub(age), ..self.header },
        ))
    }
}

fn block(name: &str) -> Block {
    let bytes = std::fs::read(testdata(name)).unwrap();
    let block = decode_block(&bytes).unwrap();
    assert_eq!(serialize(&block), bytes);
    block
}

/// The coins a block spends that it does not make itself.
fn coins_before(block: &Block, ids: &BlockIds, undo: &BlockUndo) -> Coins {
    let mut coins = Coins::default();
    for (tx, spent) in block.txdata[1..].iter().zip(&undo.txs) {
        for (input, coin) in tx.input.iter().zip(spent) {
            if !ids.txids.contains(&input.previous_output.txid) {
                coins.0.insert(input.previous_output, coin.clone());
            }
        }
    }
    coins
}

fn connect(block: &Block, height: u32, undo: &BlockUndo, params: &Params) -> (Connected, Coins) {
    let ids = BlockIds::of(block);
    check_block_with(block, &ids, params, CheckBlock::ALL).unwrap();
    assert!(!is_block_mutated(block, witness_commitment_index(block).is_some()));
    let parent = Below { height: Height(height - 1), header: block.header };
    let before = coins_before(block, &ids, undo);
    let connected =
        connect_block(&Arc::new(block.clone()), &ids, &parent, params, &before, ScriptMode::Check).unwrap();
    assert_eq!(*connected.undo, *undo);

    let mut after = before.clone();
    after.apply(connected.changes.clone());
    let disconnected = disconnect_block(block, &ids, undo, Height(height), &after).unwrap();
    assert!(disconnected.clean);
    let mut back = after.clone();
    back.apply(disconnected.changes);
    assert_eq!(back, before, "taking the block off restores the coins");
    (connected, after)
}

fn run(checks: Vec<ironpeer_consensus::TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
    InlineChecker::new(Arc::new(ScriptCache::new(0, [0; 32]))).check(checks)
}

/// What a block's inputs spend, from outputs recorded in input order. Their heights were not: a
/// coin not of the block itself counts as old.
fn recorded_spends(block: &Block, height: u32, mut bytes: &[u8]) -> BlockUndo {
    let ids = BlockIds::of(block);
    let spends = block.txdata[1..].iter().map(|tx| {
        let coin = |input: &TxIn| Coin {
            output: TxOut::consensus_decode(&mut bytes).unwrap(),
            height: Height(if ids.txids.contains(&input.previous_output.txid) { height } else { 1 }),
            is_coinbase: false,
        };
        tx.input.iter().map(coin).collect()
    });
    let undo = BlockUndo { txs: spends.collect() };
    assert!(bytes.is_empty(), "every recorded output is spent");
    undo
}

#[test]
fn blocks_connect_and_their_scripts_pass() {
    for (name, height, params, txs) in [
        ("mainnet-300025", 300_025, Params::main(), 461),
        ("testnet3-928816", 928_816, Params::testnet3(), 889),
        ("testnet3-928831", 928_831, Params::testnet3(), 915),
        ("testnet3-1087400", 1_087_400, Params::testnet3(), 97),
    ] {
        let block = block(&format!("blocks-with-spent-outputs/{name}.raw"));
        let bytes = std::fs::read(testdata(&format!("blocks-with-spent-outputs/{name}.undo.raw"))).unwrap();
        let undo = recorded_spends(&block, height, &bytes);
        assert_eq!(decode_block_undo(&encode_block_undo(&undo)).as_ref(), Ok(&undo));
        assert_eq!(block.txdata.len(), txs);
        let (connected, _) = connect(&block, height, &undo, &params);
        assert_eq!(connected.checks.len() + 1, block.txdata.len());
        assert!(connected.sigop_cost > 0 && connected.sigop_cost <= 80_000);
        run(connected.checks).unwrap();
    }
}

/// Main block 866342 with the outputs it spends, in input order.
fn modern_block() -> (Block, BlockUndo) {
    let block = block("blocks-with-spent-outputs/mainnet-866342.raw");
    let packed =
        std::fs::File::open(testdata("blocks-with-spent-outputs/mainnet-866342.spent.jsonl.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let mut coins = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let script = Vec::from_hex(line["script"].as_str().unwrap()).unwrap();
        Coin {
            output: TxOut {
                value: Amount::from_sat(line["value"].as_u64().unwrap()),
                script_pubkey: ScriptBuf::from_bytes(script),
            },
            height: Height(u32::try_from(line["height"].as_u64().unwrap()).unwrap()),
            is_coinbase: line["coinbase"].as_bool().unwrap(),
        }
    });
    let txs = block.txdata[1..].iter().map(|tx| coins.by_ref().take(tx.input.len()).collect()).collect();
    assert!(coins.next().is_none());
    (block, BlockUndo { txs })
}

#[test]
fn a_modern_block_connects_and_every_script_passes() {
    let (block, undo) = modern_block();
    assert_eq!(block.txdata.len(), 4_864);
    let (connected, after) = connect(&block, 866_342, &undo, &Params::main());
    assert_eq!(
        connected.fees + Amount::from_sat(312_500_000),
        block.txdata[0].output.iter().map(|o| o.value).sum()
    );
    // No OP_RETURN output became a coin.
    assert!(after.0.values().all(|coin| !coin.output.script_pubkey.is_op_return()));
    run(connected.checks).unwrap();
}

#[test]
fn one_changed_byte_of_a_witness_fails_and_names_its_input() {
    let (mut block, undo) = modern_block();
    let params = Params::main();
    let place =
        block.txdata.iter().rposition(|tx| tx.input.len() > 1 && tx.input[1].witness.len() == 2).unwrap();
    let witness = &mut block.txdata[place].input[1].witness;
    let mut items = witness.to_vec();
    items[0][10] ^= 1;
    *witness = Witness::from_slice(&items);
    // The merkle root does not see it, the commitment does.
    check_block(&block, &params, CheckBlock::ALL).unwrap();
    assert!(is_block_mutated(&block, true));
    let ids = BlockIds::of(&block);
    let parent = Below { height: Height(866_341), header: block.header };
    let coins = coins_before(&block, &ids, &undo);
    let connected =
        connect_block(&Arc::new(block), &ids, &parent, &params, &coins, ScriptMode::Check).unwrap();
    let check = connected.checks[place - 1].clone();
    assert_eq!(run(vec![check]), Err((0, ScriptFailure::Invalid { input: 1 })));
    let others = connected.checks[place..].to_vec();
    run(others).unwrap();
}

#[test]
fn assumed_scripts_are_not_listed_but_all_else_is_judged() {
    let (block, undo) = modern_block();
    let params = Params::main();
    let ids = BlockIds::of(&block);
    let parent = Below { height: Height(866_341), header: block.header };
    let mut coins = coins_before(&block, &ids, &undo);
    let block = Arc::new(block);
    let connected = connect_block(&block, &ids, &parent, &params, &coins, ScriptMode::Assume).unwrap();
    assert!(connected.checks.is_empty());
    let (&spent, _) = coins.0.iter().next().unwrap();
    coins.0.remove(&spent);
    let reject = connect_block(&block, &ids, &parent, &params, &coins, ScriptMode::Assume).unwrap_err();
    assert_eq!(reject.reason, "bad-txns-inputs-missingorspent");
}

#[test]
fn context_free_checks_pass_on_blocks_of_2024() {
    for name in ["0831328.bin", "0831333.bin"] {
        let block = block(&format!("mainnet-blocks-831328-831335/{name}"));
        check_block(&block, &Params::main(), CheckBlock::ALL).unwrap();
        assert!(!is_block_mutated(&block, true));
        assert!(block.weight().to_wu() <= 4_000_000 && block.weight().to_wu() > 3_900_000);
        assert!(block.txdata.iter().map(sigops::legacy_sigops).sum::<u64>() > 0);
        let mut changed = block.clone();
        changed.txdata[5].lock_time = bitcoin::absolute::LockTime::from_consensus(12);
        let reject = check_block(&changed, &Params::main(), CheckBlock::ALL).unwrap_err();
        assert_eq!(reject.reason, "bad-txnmrklroot");
    }
}
