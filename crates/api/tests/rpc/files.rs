//! Proofs, snapshots, and what happened to scripts.

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::merkle_tree::{MerkleBlock, PartialMerkleTree};
use serde_json::{Value, json};

use crate::support::{TestNode, some_address};

#[tokio::test]
async fn a_proof_holds_for_what_a_block_has() {
    let node = TestNode::start().await;
    let hashes = node.mine(3).await;
    let block = node.call("getblock", json!([hashes[1], 1])).await.unwrap();
    let txid = block["tx"][0].clone();
    let proof = node.call("gettxoutproof", json!([[txid]])).await.unwrap();
    assert_eq!(node.call("gettxoutproof", json!([[txid], hashes[1]])).await, Ok(proof.clone()));
    assert_eq!(node.call("verifytxoutproof", json!([proof])).await, Ok(json!([txid])));
    // Bytes after it are not looked at; a root that does not fit proves nothing.
    let longer = format!("{}00", proof.as_str().unwrap());
    assert_eq!(node.call("verifytxoutproof", json!([longer])).await, Ok(json!([txid])));
    let mut merkle: MerkleBlock = deserialize(&hex::decode(proof.as_str().unwrap()).unwrap()).unwrap();
    // CVE-2017-12842: a tree that claims to have one level more passes an inner node off as a
    // transaction. Here the one transaction is shown as the right-hand child of itself.
    let id = bitcoin::Txid::from_byte_array(merkle.header.merkle_root.to_byte_array());
    let deeper = PartialMerkleTree::from_txids(&[id], &[true]);
    merkle.txn = deeper;
    let same = serialize_hex(&merkle);
    assert_eq!(node.call("verifytxoutproof", json!([same])).await, Ok(json!([txid])));
    let lie = same.replacen("0100000001", "0200000001", 1);
    assert_ne!(same, lie);
    assert!(node.call("verifytxoutproof", json!([lie])).await.is_ok_and(|ids| ids == json!([])));
    let unknown = "11".repeat(32);
    for (method, params, code, text) in [
        ("gettxoutproof", json!([[]]), -8, "Parameter 'txids' cannot be empty".to_owned()),
        ("gettxoutproof", json!([[unknown]]), -5, "Transaction not yet in block".into()),
        ("gettxoutproof", json!([[unknown], unknown]), -5, "Block not found".into()),
        (
            "gettxoutproof",
            json!([[txid, unknown]]),
            -5,
            "Not all transactions found in specified or retrieved block".into(),
        ),
        (
            "gettxoutproof",
            json!([[unknown, unknown]]),
            -8,
            format!("Invalid parameter, duplicated txid: {unknown}"),
        ),
        ("verifytxoutproof", json!(["00"]), -1, "SpanReader::read(): end of data: iostream error".into()),
    ] {
        assert_eq!(node.call(method, params).await, Err((code, text)), "{method}");
    }
    node.call("invalidateblock", json!([hashes[1]])).await.unwrap();
    let gone = node.call("verifytxoutproof", json!([proof])).await;
    assert_eq!(gone, Err((-5, "Block not found in chain".into())));
    node.stop().await;
}

/// The file of a block behind the tip is the same as the file made when it was the tip, and no
/// file is ever written over.
#[tokio::test]
async fn a_snapshot_of_the_past_is_that_of_the_past_tip() {
    let node = TestNode::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    // The first coins are spent after the first picture and one is made anew.
    let address = some_address();
    node.call("generatetoaddress", json!([1, address])).await.unwrap();
    node.mine(101).await;
    let then = node.call("dumptxoutset", json!([file("then"), "latest"])).await.unwrap();
    let info = node.call("gettxoutsetinfo", json!([])).await.unwrap();
    assert_eq!(then["txoutset_hash"], info["hash_serialized_3"]);
    assert_eq!((&then["coins_written"], &then["base_hash"]), (&info["txouts"], &info["bestblock"]));
    let block = node.call("getblockhash", json!([1])).await.unwrap();
    let coinbase = node.call("getblock", json!([block, 1])).await.unwrap()["tx"][0].clone();
    let raw = node
        .call("createrawtransaction", json!([[{"txid": coinbase, "vout": 0}], {&address: "49.9999"}]))
        .await
        .unwrap();
    let key = bitcoin::PrivateKey::from_slice(&[7; 32], bitcoin::Network::Regtest).unwrap().to_wif();
    let signed = node.call("signrawtransactionwithkey", json!([raw, [key]])).await.unwrap();
    let txid = node.call("sendrawtransaction", json!([signed["hex"]])).await.unwrap();
    let mined = node.mine(2).await;
    let back = node.call("dumptxoutset", json!({"path": file("back"), "rollback": 102})).await.unwrap();
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("then") == bytes("back"));
    assert_eq!((&back["txoutset_hash"], &back["nchaintx"]), (&then["txoutset_hash"], &json!(103)));
    assert_eq!(&bytes("then")[..11], b"utxo\xff\x02\0\xfa\xbf\xb5\xda");
    for (params, start) in [
        (json!([file("then"), "latest"]), format!("{} already exists.", file("then"))),
        (
            json!([file("no/x"), "latest"]),
            format!("Couldn't open file {}.incomplete for writing.", file("no/x")),
        ),
        (json!([file("x"), "bogus"]), "Invalid snapshot type \"bogus\" specified. Please".into()),
        (
            json!([file("x"), "latest", {"rollback": 1}]),
            "Invalid snapshot type \"latest\" specified with".into(),
        ),
    ] {
        let (code, text) = node.call("dumptxoutset", params).await.unwrap_err();
        assert_eq!((code, text.starts_with(&start)), (-8, true), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    let refused = node.call("loadtxoutset", json!([file("then")])).await.unwrap_err();
    assert_eq!(refused.0, -32603);

    // The same coins, seen as what happened to the script.
    let seen = node
        .call("getdescriptoractivity", json!([[mined[0], block], [format!("addr({address})")]]))
        .await
        .unwrap();
    let kinds: Vec<(&Value, &Value)> =
        seen["activity"].as_array().unwrap().iter().map(|event| (&event["type"], &event["height"])).collect();
    let (receive, spend) = (json!("receive"), json!("spend"));
    assert_eq!(kinds, [(&receive, &json!(1)), (&spend, &json!(103)), (&receive, &json!(103))]);
    assert_eq!(seen["activity"][1]["spend_txid"], txid);
    assert_eq!(seen["activity"][1]["prevout_txid"], coinbase);
    node.stop().await;
}

#[tokio::test]
async fn features_that_are_not_there_answer_as_in_core() {
    let node = TestNode::start().await;
    let zero = "00".repeat(32);
    let private =
        "Private broadcast is not enabled. Ensure you're running Bitcoin Core with -privatebroadcast=1.";
    for (method, params, code, text) in [
        ("getblockfilter", json!([zero]), -1, "Index is not enabled for filtertype basic"),
        ("getblockfilter", json!([zero, "x"]), -5, "Unknown filtertype"),
        ("scanblocks", json!(["start", []]), -1, "Index is not enabled for filtertype basic"),
        ("scanblocks", json!(["x"]), -8, "Invalid action 'x'"),
        ("getprivatebroadcastinfo", json!([]), -32601, private),
        ("abortprivatebroadcast", json!([zero]), -32601, private),
        ("exportasmap", json!(["x"]), -1, "No embedded ASMap data available"),
        ("enumeratesigners", json!([]), -1, "Error: restart bitcoind with -signer=<cmd>"),
        ("estimaterawfee", json!([0]), -8, "Invalid conf_target, must be between 1 and 1008"),
        ("estimaterawfee", json!([1, 2]), -8, "Invalid threshold"),
        (
            "sendmsgtopeer",
            json!([0, "ping", ""]),
            -31,
            "Error: Peer-to-peer functionality missing or disabled",
        ),
    ] {
        assert_eq!(node.call(method, params).await, Err((code, text.into())), "{method}");
    }
    let fees = node.call("estimaterawfee", json!([20])).await.unwrap();
    let horizons: Vec<&String> = fees.as_object().unwrap().keys().collect();
    assert_eq!(horizons, ["medium", "long"]);
    assert_eq!(fees["long"]["fail"]["endrange"].to_string(), "1e+99");
    assert_eq!(node.call("scanblocks", json!(["status"])).await, Ok(Value::Null));
    node.stop().await;
}
