//! Every index against a naive walk over the chain, through reorganisations, late starts, kills and
//! lost blocks.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bitcoin::bip158::{BlockFilter, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint};
use ironpeer_chain::{Backends, UtxoHashKind};
use ironpeer_index::{Config, IndexError, Indexes, Location, Order, ScriptHash, TxPosition};
use ironpeer_primitives::{ChainRead, Height};
use ironpeer_store::{DiskOp, FailHook};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Node, Running, is_unspendable, run};

/// What a walk over all blocks finds of one script.
#[derive(Default)]
struct Script {
    /// Height, place in the block, txid; received and spent.
    history: Vec<(TxPosition, bitcoin::Txid, [u64; 4])>,
    unspent: BTreeMap<OutPoint, (u32, u64)>,
}

/// Compares all indexes with what the blocks themselves say.
fn compare(node: &Node, indexes: &Indexes) {
    let view = node.view();
    let tip = view.tip();
    let mut scripts: BTreeMap<ScriptHash, Script> = BTreeMap::new();
    let mut outputs = BTreeMap::new();
    let mut previous = FilterHeader::all_zeros();
    let (tx_index, spenders) = (indexes.tx.as_ref().unwrap(), indexes.spenders.as_ref().unwrap());
    let (filters, stats) = (indexes.filters.as_ref().unwrap(), indexes.coin_stats.as_ref().unwrap());
    for height in (0..=tip.height.0).map(Height) {
        let info = view.active_at(height).unwrap();
        let block = view.block(&info.hash).unwrap();
        for (index, tx) in (0u32..).zip(&block.txdata) {
            let (txid, position) = (tx.compute_txid(), TxPosition { height, index });
            let mut moved: BTreeMap<ScriptHash, [u64; 4]> = BTreeMap::new();
            if height.0 > 0 {
                let found = tx_index.find(&txid).unwrap().unwrap();
                assert_eq!((found.0, &found.1), (info.hash, tx));
            } else {
                assert_eq!(tx_index.find(&txid).unwrap(), None);
            }
            for input in tx.input.iter().filter(|_| !tx.is_coinbase()) {
                let outpoint = input.previous_output;
                let (script, sats): (ScriptHash, u64) = outputs.remove(&outpoint).unwrap();
                scripts.get_mut(&script).unwrap().unspent.remove(&outpoint).unwrap();
                let moved = moved.entry(script).or_default();
                moved[2] += 1;
                moved[3] += sats;
                let spender = spenders.spender(&outpoint).unwrap().unwrap();
                assert_eq!(
                    (spender.tx.compute_txid(), spender.block, spender.height),
                    (txid, info.hash, height)
                );
            }
            for (output, vout) in tx.output.iter().zip(0u32..) {
                if is_unspendable(&output.script_pubkey) {
                    continue;
                }
                let (script, sats) = (ScriptHash::of(&output.script_pubkey), output.value.to_sat());
                let all = moved.entry(script).or_default();
                all[0] += 1;
                all[1] += sats;
                if height.0 > 0 {
                    outputs.insert(OutPoint { txid, vout }, (script, sats));
                    let of_script = scripts.entry(script).or_default();
                    of_script.unspent.insert(OutPoint { txid, vout }, (height.0, sats));
                }
            }
            for (script, moved) in moved {
                scripts.entry(script).or_default().history.push((position, txid, moved));
            }
        }
        let undo = view.undo(&info.hash).unwrap();
        let inputs = block.txdata.iter().skip(1).flat_map(|tx| &tx.input).map(|input| input.previous_output);
        let spent: BTreeMap<_, _> = inputs.zip(undo.txs.iter().flatten()).collect();
        let filter = BlockFilter::new_script_filter(&block, |outpoint| {
            Ok(spent[outpoint].output.script_pubkey.clone())
        })
        .unwrap();
        previous = filter.filter_header(&previous);
        assert_eq!(filters.filter(height, &info.hash).unwrap().unwrap(), filter);
        assert_eq!(filters.header(height, &info.hash).unwrap().unwrap().header, previous);
    }
    let set = run(node.handle.utxo_set_info(UtxoHashKind::Muhash)).unwrap();
    let row = stats.stats(tip.height, &tip.hash).unwrap().unwrap();
    assert_eq!(Some(row.muhash), set.hash);
    let totals = row.totals;
    assert_eq!(
        (totals.txouts, totals.bogosize, totals.amount),
        (set.txouts, set.bogosize, set.total_amount.to_sat())
    );
    assert_eq!(totals.subsidy, totals.amount + totals.unspendable());
    let unspent = u128::from(totals.amount);
    assert_eq!(totals.new_outputs_ex_coinbase + totals.coinbase - totals.prevout_spent, unspent);

    let addresses = indexes.addresses.as_ref().unwrap().snapshot();
    assert_eq!(addresses.tip().unwrap().unwrap().hash, tip.hash);
    for (script, naive) in &scripts {
        let history = addresses.history(script, Order::OldestFirst, None, usize::MAX).unwrap();
        let entry = |entry: &ironpeer_index::HistoryEntry| {
            let moved = entry.moved;
            let numbers = [moved.received, moved.received_sats, moved.spent, moved.spent_sats];
            (entry.position, entry.txid, numbers)
        };
        assert_eq!(history.iter().map(entry).collect::<Vec<_>>(), naive.history);
        let unspent = addresses.unspent(script, None, usize::MAX).unwrap();
        let unspent: BTreeMap<_, _> =
            unspent.iter().map(|coin| (coin.outpoint, (coin.height.0, coin.amount.to_sat()))).collect();
        assert_eq!(unspent, naive.unspent);
        // Page by page from both ends, too.
        let mut pages = Vec::new();
        let mut cursor = None;
        loop {
            let page = addresses.history(script, Order::NewestFirst, cursor, 7).unwrap();
            let Some(last) = page.last() else { break };
            cursor = Some(last.position);
            pages.extend(page);
        }
        pages.reverse();
        assert_eq!(pages, history);
        let totals = addresses.totals(script).unwrap();
        assert_eq!(totals.txs, history.len() as u64);
        let held: u64 = unspent.values().map(|(_, sats)| sats).sum();
        let genesis = node.view().params().genesis.txdata[0].output[0].clone();
        let lost = if *script == ScriptHash::of(&genesis.script_pubkey) { genesis.value.to_sat() } else { 0 };
        assert_eq!(totals.balance(), held + lost);
    }
    for handle in indexes.handles() {
        assert_eq!(handle.status().tip.unwrap().hash, tip.hash, "{}", handle.name());
    }
}

/// Mines at random: mostly on the tip, sometimes a branch that takes over; now and then a block is
/// called invalid and taken back.
fn step(node: &Node, rng: &mut ChaCha8Rng) {
    let view = node.view();
    let tip = view.tip();
    match rng.gen_range(0..10) {
        0..=5 => drop(node.grow(&tip.hash, rng.gen_range(1..4), rng)),
        6 | 7 => {
            let depth = rng.gen_range(1..6);
            let fork = view.active_at(Height(tip.height.0 - depth)).unwrap();
            node.grow(&fork.hash, depth + rng.gen_range(0..2), rng);
        }
        _ => {
            let depth = rng.gen_range(0..3);
            let block = view.active_at(Height(tip.height.0 - depth)).unwrap();
            // A chain that an index has stopped answers no more.
            let _ = run(node.handle.invalidate(block.hash));
            if rng.gen_bool(0.5) {
                node.grow(&view.tip().hash, rng.gen_range(1..3), rng);
            }
            let _ = run(node.handle.reconsider(block.hash));
        }
    }
}

#[test]
fn every_index_equals_a_naive_scan_through_reorganisations() {
    for seed in 0..3 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let node = Node::in_memory();
        let running = Running::open(&node, &Config::all(Location::Memory));
        node.grow(&node.tip(), 105, &mut rng);
        for _ in 0..12 {
            step(&node, &mut rng);
            running.catch_up();
            compare(&node, &running.indexes);
        }
        running.stop(node);
    }
}

#[test]
fn an_index_switched_on_later_catches_up_with_the_chain() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let node = Node::in_memory();
    node.grow(&node.tip(), 120, &mut rng);
    step(&node, &mut rng);
    let running = Running::open(&node, &Config::all(Location::Memory));
    // Blocks come while it catches up.
    node.grow(&node.tip(), 3, &mut rng);
    running.catch_up();
    compare(&node, &running.indexes);
    running.stop(node);
}

#[test]
fn an_index_killed_at_any_commit_goes_on_from_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::all(Location::Disk(dir.path().join("indexes")));
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let backends = Backends::in_memory();
    let mut node = Node::given(&backends);
    node.grow(&node.tip(), 103, &mut rng);
    for round in 0..6 {
        // Some rounds end in the middle of the catching up, some amid events.
        let left = Arc::new(AtomicU32::new(rng.gen_range(0..25)));
        let hook: FailHook = Arc::new(move |point| {
            let spent =
                || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if point.op == DiskOp::KvCommit && spent().is_err() {
                return Err(std::io::Error::other("killed"));
            }
            Ok(())
        });
        config.fail_hook = Some(hook);
        // An index may be killed while it is opened, too.
        if let Ok(running) = Running::try_open(&node, &config) {
            while node.handle.fatal().borrow().is_none() {
                step(&node, &mut rng);
            }
            running.stop(node);
        } else {
            node.stop();
        }
        node = Node::given(&backends);
        if round % 2 == 0 {
            // The chain goes on, and elsewhere, without them.
            step(&node, &mut rng);
            step(&node, &mut rng);
        }
    }
    config.fail_hook = None;
    let running = Running::open(&node, &config);
    running.catch_up();
    compare(&node, &running.indexes);
    running.stop(node);
}

#[test]
fn an_index_ahead_of_the_chain_waits_for_it_or_is_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::all(Location::Disk(dir.path().join("indexes")));
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let node = Node::in_memory();
    let blocks = node.grow(&node.tip(), 110, &mut rng);
    let running = Running::open(&node, &config);
    running.catch_up();
    running.stop(node);

    // Another chain that has lost the last blocks, and gets them again.
    let node = Node::in_memory();
    blocks[..104].iter().for_each(|block| node.submit(block));
    let running = Running::open(&node, &config);
    assert!(running.indexes.handles().iter().all(|handle| !handle.status().synced));
    blocks[104..].iter().for_each(|block| node.submit(block));
    running.catch_up();
    compare(&node, &running.indexes);
    running.stop(node);

    // One that got others instead.
    let node = Node::in_memory();
    blocks[..104].iter().for_each(|block| node.submit(block));
    node.grow(&node.tip(), 8, &mut rng);
    let running = Running::open(&node, &config);
    running.catch_up();
    compare(&node, &running.indexes);
    running.stop(node);
}

#[test]
fn a_chain_that_went_back_takes_the_index_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::all(Location::Disk(dir.path().join("indexes")));
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let backends = Backends::in_memory();
    let node = Node::given(&backends);
    node.grow(&node.tip(), 110, &mut rng);
    let running = Running::open(&node, &config);
    running.catch_up();
    running.stop(node);

    let node = Node::given(&backends);
    let block = node.view().active_at(Height(106)).unwrap();
    run(node.handle.invalidate(block.hash)).unwrap();
    let running = Running::open(&node, &config);
    running.catch_up();
    compare(&node, &running.indexes);
    running.stop(node);
}

#[test]
fn another_programs_index_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("txindex");
    std::fs::create_dir_all(&foreign).unwrap();
    std::fs::write(foreign.join("CURRENT"), "MANIFEST-000001\n").unwrap();
    let config = Config { tx: true, location: Location::Disk(dir.path().into()), ..Config::none() };
    let node = Node::in_memory();
    let error = Running::try_open(&node, &config).err().unwrap();
    assert!(matches!(error, IndexError::Store(ironpeer_store::StoreError::Foreign { .. })), "{error}");
    assert_eq!(std::fs::read(foreign.join("CURRENT")).unwrap(), b"MANIFEST-000001\n");
    node.stop();
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    let node = Node::in_memory();
    let running = Running::open(&node, &Config::all(Location::Memory));
    node.grow(&node.tip(), 101, &mut rng);
    running.catch_up();
    let indexes = &running.indexes;
    let (nothing, block) = (OutPoint::null(), BlockHash::all_zeros());
    assert_eq!(indexes.tx.as_ref().unwrap().find(&nothing.txid).unwrap(), None);
    assert_eq!(indexes.spenders.as_ref().unwrap().spender(&nothing).unwrap(), None);
    assert_eq!(indexes.filters.as_ref().unwrap().filter(Height(3), &block).unwrap(), None);
    assert_eq!(indexes.coin_stats.as_ref().unwrap().stats(Height(3), &block).unwrap(), None);
    let addresses = indexes.addresses.as_ref().unwrap().snapshot();
    let nobody = ScriptHash([9; 32]);
    assert!(addresses.history(&nobody, Order::NewestFirst, None, 10).unwrap().is_empty());
    assert!(addresses.unspent(&nobody, None, 10).unwrap().is_empty());
    assert_eq!(addresses.totals(&nobody).unwrap().txs, 0);
    running.stop(node);
}
