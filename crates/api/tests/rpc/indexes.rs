//! Methods and REST over the indexes, on a real chain and mempool.

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use ironpeer_index::ScriptHash;
use serde_json::{Value, json};

use crate::rest::{get, json_of};
use crate::support::TestNode;

/// Spends the first output of a block's coinbase, which anyone can, to `script`.
async fn spend_coinbase(node: &TestNode, block: &str, script: ScriptBuf) -> Transaction {
    let block = node.call("getblock", json!([block, 2])).await.unwrap();
    let txid = block["tx"][0]["txid"].as_str().unwrap().parse().unwrap();
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid, vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(4_999_990_000), script_pubkey: script }],
    }
}

#[tokio::test]
async fn transactions_and_their_spenders_are_found_by_id() {
    let node = TestNode::start_with_indexes().await;
    let hashes = node.mine(101).await;
    let tx = spend_coinbase(&node, &hashes[0], ScriptBuf::from_bytes(vec![0x51; 40])).await;
    let txid = tx.compute_txid().to_string();
    let spent = json!([{"txid": tx.input[0].previous_output.txid.to_string(), "vout": 0}]);
    let unspent = node.call("gettxspendingprevout", json!([spent])).await.unwrap();
    assert_eq!(unspent, spent);
    node.call("sendrawtransaction", json!([serialize_hex(&tx)])).await.unwrap();
    let pooled = node.call("gettxspendingprevout", json!([spent])).await.unwrap();
    assert_eq!((&pooled[0]["spendingtxid"], pooled[0].get("blockhash")), (&json!(txid), None));
    let mined = node.mine(1).await.remove(0);

    assert_eq!(node.call("getrawtransaction", json!([txid])).await, Ok(json!(serialize_hex(&tx))));
    let found = node.call("getrawtransaction", json!([txid, 2])).await.unwrap();
    assert_eq!((&found["blockhash"], &found["confirmations"]), (&json!(mined), &json!(1)));
    assert_eq!(found["fee"].to_string(), "0.00010000");
    assert_eq!(found.get("in_active_chain"), None);
    let rest = json_of(&node, &format!("tx/{txid}.json")).await;
    assert_eq!(rest["blockhash"], json!(mined));
    let options = json!({"return_spending_tx": true});
    let confirmed = node.call("gettxspendingprevout", json!([spent, options])).await.unwrap();
    assert_eq!(confirmed[0]["spendingtxid"], json!(txid));
    assert_eq!(confirmed[0]["spendingtx"], json!(serialize_hex(&tx)));
    assert_eq!(confirmed[0]["blockhash"], json!(mined));
    let only = json!({"mempool_only": true});
    assert_eq!(node.call("gettxspendingprevout", json!([spent, only])).await, Ok(spent.clone()));
    // Its outputs are spent, so that only the index knows the block of the first coinbase.
    let proof = node.call("gettxoutproof", json!([[spent[0]["txid"]]])).await.unwrap();
    assert_eq!(node.call("verifytxoutproof", json!([proof])).await.unwrap()[0], spent[0]["txid"]);

    let unknown = node.call("getrawtransaction", json!(["11".repeat(32)])).await.unwrap_err();
    let text = "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.";
    assert_eq!(unknown, (-5, text.to_owned()));
    node.call("invalidateblock", json!([mined])).await.unwrap();
    let unspent = node.call("gettxspendingprevout", json!([spent])).await.unwrap();
    assert_eq!(unspent[0].get("blockhash"), None);
    node.stop().await;
}

#[tokio::test]
async fn getindexinfo_tells_how_far_each_index_is() {
    let node = TestNode::start_with_indexes().await;
    node.mine(3).await;
    node.call("getrawtransaction", json!(["11".repeat(32)])).await.unwrap_err();
    let all = node.call("getindexinfo", json!([])).await.unwrap();
    let names: Vec<&String> = all.as_object().unwrap().keys().collect();
    let expected =
        ["txindex", "coinstatsindex", "txospenderindex", "basic block filter index", "addressindex"];
    assert_eq!(names, expected);
    let one = node.call("getindexinfo", json!(["txindex"])).await.unwrap();
    assert_eq!(one, json!({"txindex": {"synced": true, "best_block_height": 3}}));
    assert_eq!(node.call("getindexinfo", json!(["foo"])).await, Ok(json!({})));
    let metrics = ironpeer_api::metrics(&node.context, None);
    assert!(metrics.contains("\nironpeer_index_height_blocks{index=\"txindex\"} 3\n"), "{metrics}");
    assert!(metrics.contains("\nironpeer_index_synced{index=\"basic block filter index\"} 1\n"), "{metrics}");
    node.stop().await;
}

#[tokio::test]
async fn filters_are_told_and_searched() {
    let node = TestNode::start_with_indexes().await;
    let hashes = node.mine(101).await;
    let script = ScriptBuf::from_bytes(vec![0x51; 40]);
    let tx = spend_coinbase(&node, &hashes[4], script.clone()).await;
    node.call("sendrawtransaction", json!([serialize_hex(&tx)])).await.unwrap_err();
    node.mine(4).await;
    node.call("sendrawtransaction", json!([serialize_hex(&tx)])).await.unwrap();
    let mined = node.mine(1).await.remove(0);
    let filter = node.call("getblockfilter", json!([mined])).await.unwrap();
    let rest = json_of(&node, &format!("blockfilter/basic/{mined}.json")).await;
    assert_eq!(rest["filter"], filter["filter"]);
    let hex = get(&node, &format!("blockfilter/basic/{mined}.hex")).await.body;
    let bytes = hex::decode(hex.trim()).unwrap();
    assert_eq!(bytes[0], 0);
    let content: Vec<u8> = deserialize(&bytes[33..]).unwrap();
    assert_eq!(json!(hex::encode(content)), filter["filter"]);
    let headers = json_of(&node, &format!("blockfilterheaders/basic/{mined}.json?count=5")).await;
    assert_eq!(headers, json!([filter["header"]]));
    let five = json_of(&node, &format!("blockfilterheaders/basic/{}.json", hashes[0])).await;
    assert_eq!(five.as_array().unwrap().len(), 5);
    let unknown = format!("blockfilter/basic/{}.json", "11".repeat(32));
    assert_eq!(get(&node, &unknown).await.status, 404);
    assert_eq!(
        node.call("getblockfilter", json!(["11".repeat(32)])).await,
        Err((-5, "Block not found".into()))
    );

    let wanted = json!([format!("raw({})", hex::encode(script.as_bytes()))]);
    let scan = node.call("scanblocks", json!(["start", wanted])).await.unwrap();
    assert!(scan["relevant_blocks"].as_array().unwrap().contains(&json!(mined)), "{scan}");
    assert_eq!((&scan["from_height"], &scan["to_height"]), (&json!(0), &json!(106)));
    let options = json!({"filter_false_positives": true});
    let exact =
        node.call("scanblocks", json!(["start", wanted, 50, Value::Null, "basic", options])).await.unwrap();
    assert_eq!(exact["relevant_blocks"], json!([mined]));
    assert_eq!(exact["completed"], json!(true));
    for (from, to, text) in
        [(json!(500), Value::Null, "Invalid start_height"), (json!(6), json!(5), "Invalid stop_height")]
    {
        let refused = node.call("scanblocks", json!(["start", wanted, from, to])).await;
        assert_eq!(refused, Err((-1, text.into())));
    }
    assert_eq!(node.call("scanblocks", json!(["status"])).await, Ok(Value::Null));
    assert_eq!(node.call("scanblocks", json!(["abort"])).await, Ok(json!(false)));
    node.stop().await;
}

#[tokio::test]
async fn the_coin_set_is_told_as_of_any_block() {
    let node = TestNode::start_with_indexes().await;
    let hashes = node.mine(101).await;
    let tip = node.call("gettxoutsetinfo", json!(["muhash"])).await.unwrap();
    let scanned = node.call("gettxoutsetinfo", json!(["muhash", Value::Null, false])).await.unwrap();
    for name in ["height", "bestblock", "txouts", "bogosize", "muhash", "total_amount"] {
        assert_eq!(tip[name], scanned[name], "{name}");
    }
    assert_eq!(tip["total_unspendable_amount"].to_string(), "50.00000000");
    let burn = ScriptBuf::new_op_return([1]);
    let mut tx = spend_coinbase(&node, &hashes[0], burn).await;
    tx.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) });
    node.call("sendrawtransaction", json!([serialize_hex(&tx), 0, 50])).await.unwrap();
    node.mine(1).await;
    let after = node.call("gettxoutsetinfo", json!(["none", 102])).await.unwrap();
    let block = &after["block_info"];
    assert_eq!(block["prevout_spent"].to_string(), "50.00000000");
    assert_eq!(block["coinbase"].to_string(), "50.00010000");
    assert_eq!(block["new_outputs_ex_coinbase"].to_string(), "0.00000000");
    assert_eq!(block["unspendable"].to_string(), "49.99990000");
    assert_eq!(block["unspendables"]["scripts"].to_string(), "49.99990000");
    assert_eq!(after.get("muhash"), None);
    let before = node.call("gettxoutsetinfo", json!(["muhash", hashes[100]])).await.unwrap();
    assert_eq!(before["muhash"], tip["muhash"]);
    let zero = node.call("gettxoutsetinfo", json!(["muhash", 0])).await.unwrap();
    assert_eq!(zero["block_info"]["unspendables"]["genesis_block"].to_string(), "50.00000000");
    for (params, text) in [
        (
            json!(["hash_serialized_3", 3]),
            "hash_serialized_3 hash type cannot be queried for a specific block",
        ),
        (json!(["muhash", 3, false]), "Cannot set use_index to false when querying for a specific block"),
        (json!(["muhash", 1_000]), "Target block height 1000 after current tip 102"),
    ] {
        assert_eq!(node.call("gettxoutsetinfo", params).await, Err((-8, text.into())));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_script_sees_its_mempool_transactions() {
    let node = TestNode::start_with_indexes().await;
    let hashes = node.mine(101).await;
    let script = ScriptBuf::from_bytes(vec![0x51; 40]);
    let hash = ScriptHash::of(&script);
    let tx = spend_coinbase(&node, &hashes[0], script).await;
    let indexes = &node.context.indexes;
    let pool = indexes.mempool_scripts.clone().unwrap();
    // The overlay follows on a task of its own: each look gives it a turn.
    let wait_for = async |count: usize| {
        let waiting = async {
            while pool.history(&hash).len() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::support::HANG, waiting).await.unwrap();
    };
    assert!(pool.unspent(&hash).is_empty());
    node.call("sendrawtransaction", json!([serialize_hex(&tx)])).await.unwrap();
    wait_for(1).await;
    let seen = pool.history(&hash)[0];
    assert_eq!((seen.txid, seen.fee.to_sat(), seen.unconfirmed_parents), (tx.compute_txid(), 10_000, false));
    assert_eq!(pool.unspent(&hash), [(OutPoint { txid: tx.compute_txid(), vout: 0 }, tx.output[0].value)]);
    node.mine(1).await;
    wait_for(0).await;
    let addresses = indexes.addresses.clone().unwrap();
    assert!(addresses.handle().wait_synced().await);
    let totals = addresses.snapshot().totals(&hash).unwrap();
    assert_eq!((totals.txs, totals.balance()), (1, tx.output[0].value.to_sat()));
    node.stop().await;
}
