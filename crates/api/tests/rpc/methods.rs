//! Methods on a real chain and mempool.

use serde_json::{Value, json};

use crate::support::{TestNode, some_address};

type Runs = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn chain_methods_agree_with_each_other() -> Runs {
    let node = TestNode::start().await;
    let hashes = node.mine(3).await;
    let info = node.call("getblockchaininfo", json!([])).await.unwrap();
    assert_eq!(info["chain"], json!("regtest"));
    assert_eq!((&info["blocks"], &info["headers"]), (&json!(3), &json!(3)));
    assert_eq!(info["bestblockhash"], json!(hashes[2]));
    assert_eq!(info["difficulty"].to_string(), "4.656542373906925e-10");
    assert_eq!(info["chainwork"], json!(format!("{:064x}", 8)));
    assert_eq!(info["warnings"], json!([]));
    let header = node.call("getblockheader", json!({"blockhash": hashes[1]})).await.unwrap();
    assert_eq!((&header["height"], &header["confirmations"]), (&json!(2), &json!(2)));
    assert_eq!(header["previousblockhash"], json!(hashes[0]));
    assert_eq!(header["nextblockhash"], json!(hashes[2]));
    let hex = node.call("getblockheader", json!([hashes[1], false])).await.unwrap();
    assert_eq!(hex.as_str().unwrap().len(), 160);
    let block = node.call("getblock", json!([hashes[1], 2])).await.unwrap();
    assert_eq!(block["tx"][0]["vout"][0]["value"].to_string(), "50.00000000");
    assert_eq!(block["tx"][0]["vout"][0]["scriptPubKey"]["desc"], json!("raw(51)#8lvh9jxk"));
    let raw = node.call("getblock", json!([hashes[1], 0])).await.unwrap();
    assert_eq!(raw.as_str().unwrap().len() as u64, block["size"].as_u64().unwrap() * 2);
    let stats = node.call("getblockstats", json!([2, ["height", "subsidy", "txs"]])).await.unwrap();
    assert_eq!(stats, json!({"height": 2, "subsidy": 5_000_000_000_u64, "txs": 1}));
    for (method, params, code, text) in [
        ("getblockhash", json!([-1]), -8, "Block height out of range"),
        ("getblock", json!(["00".repeat(32)]), -5, "Block not found"),
        ("getblock", json!(["zz"]), -8, "blockhash must be of length 64 (not 2, for 'zz')"),
        ("getblockstats", json!([9]), -8, "Target block height 9 after current tip 3"),
        ("getblockstats", json!([-1]), -8, "Target block height -1 is negative"),
        ("getblockstats", json!([1, ["x"]]), -8, "Invalid selected statistic 'x'"),
        ("waitfornewblock", json!([-1]), -1, "Negative timeout"),
        ("gettxoutsetinfo", json!(["x"]), -8, "'x' is not a valid hash_type"),
        ("invalidateblock", json!(["00".repeat(32)]), -5, "Block not found"),
        (
            "getchaintxstats",
            json!([3]),
            -8,
            "Invalid block count: should be between 0 and the block's height - 1",
        ),
        ("pruneblockchain", json!([1]), -1, "Cannot prune blocks because node is not in prune mode."),
        ("getpeerinfo", json!([]), -31, "Error: Peer-to-peer functionality missing or disabled"),
    ] {
        assert_eq!(node.call(method, params).await, Err((code, text.into())), "{method}");
    }
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn coins_are_found_and_counted() -> Runs {
    let node = TestNode::start().await;
    let hashes = node.mine(5).await;
    let found = node.call("scantxoutset", json!(["start", ["raw(51)#8lvh9jxk"]])).await.unwrap();
    assert_eq!((&found["success"], &found["height"]), (&json!(true), &json!(5)));
    let unspents = found["unspents"].as_array().unwrap();
    assert_eq!(unspents.len(), 5);
    assert_eq!(found["total_amount"].to_string(), "250.00000000");
    let first = unspents.iter().find(|coin| coin["height"] == json!(1)).unwrap();
    assert_eq!(first["blockhash"], json!(hashes[0]));
    assert_eq!(first["coinbase"], json!(true));
    let coin = node.call("gettxout", json!([first["txid"], first["vout"]])).await.unwrap();
    assert_eq!((&coin["confirmations"], &coin["bestblock"]), (&json!(5), &json!(hashes[4])));
    assert_eq!(node.call("gettxout", json!([first["txid"], 9])).await, Ok(Value::Null));
    let set = node.call("gettxoutsetinfo", json!(["muhash"])).await.unwrap();
    // No table holds them yet, but their rows are known.
    assert!(set["disk_size"].as_u64().is_some_and(|size| (50..10_000).contains(&size)), "{set}");
    assert_eq!((&set["txouts"], set["muhash"].as_str().map(str::len)), (&json!(5), Some(64)));
    assert_eq!(node.call("scantxoutset", json!(["status"])).await, Ok(Value::Null));
    assert_eq!(node.call("scantxoutset", json!(["abort"])).await, Ok(json!(false)));
    assert_eq!(node.call("scantxoutset", json!(["start", ["raw(51)#8lvh9jxx"]])).await.unwrap_err().0, -5);
    node.stop().await;
    Ok(())
}

/// Builds, signs, tries, sends, inspects and mines one transaction.
#[tokio::test]
async fn a_transaction_goes_its_way() -> Runs {
    let node = TestNode::start().await;
    let address = some_address();
    let key = bitcoin::PrivateKey::from_slice(&[7; 32], bitcoin::Network::Regtest)?.to_wif();
    node.clock.advance(std::time::Duration::from_secs(600));
    node.call("generatetoaddress", json!([1, address])).await.unwrap();
    node.mine(100).await;
    let block = node.call("getblockhash", json!([1])).await.unwrap();
    let coinbase = node.call("getblock", json!([block, 2])).await.unwrap()["tx"][0]["txid"].clone();
    let raw = node
        .call(
            "createrawtransaction",
            json!([[{"txid": coinbase, "vout": 0}], [{address.clone(): "49.9999"}, {"data": "00ff"}]]),
        )
        .await
        .unwrap();
    let decoded = node.call("decoderawtransaction", json!([raw])).await.unwrap();
    assert_eq!(decoded["vin"][0]["sequence"], json!(4_294_967_293_u32));
    assert_eq!(decoded["vout"][0]["scriptPubKey"]["address"], json!(address));
    let refused = node.call("sendrawtransaction", json!([raw])).await.unwrap_err();
    assert_eq!(refused.0, -26);
    let signed = node.call("signrawtransactionwithkey", json!([raw, [key]])).await.unwrap();
    assert_eq!(signed["complete"], json!(true), "{signed}");
    let tried = node.call("testmempoolaccept", json!([[signed["hex"]]])).await.unwrap();
    assert_eq!(tried[0]["allowed"], json!(true), "{tried}");
    assert_eq!(tried[0]["fees"]["base"].to_string(), "0.00010000");
    let txid = node.call("sendrawtransaction", json!([signed["hex"]])).await.unwrap();
    assert_eq!(txid, tried[0]["txid"]);
    assert_eq!(node.call("getrawmempool", json!([])).await, Ok(json!([txid])));
    let entry = node.call("getmempoolentry", json!([txid])).await.unwrap();
    assert_eq!(entry["ancestorcount"], json!(1));
    assert_eq!(entry["fees"]["modified"].to_string(), "0.00010000");
    let spender = node.call("gettxspendingprevout", json!([[{"txid": coinbase, "vout": 0}]])).await.unwrap();
    assert_eq!(spender[0]["spendingtxid"], txid);
    assert_eq!(node.call("gettxout", json!([coinbase, 0])).await, Ok(Value::Null));
    let unconfirmed = node.call("gettxout", json!([txid, 0])).await.unwrap();
    assert_eq!(unconfirmed["confirmations"], json!(0));
    let template = node.call("getblocktemplate", json!([{"rules": ["segwit"]}])).await.unwrap();
    assert_eq!(template["transactions"][0]["txid"], txid);
    assert_eq!(template["coinbasevalue"], json!(5_000_010_000_u64));
    let mined = node.mine(1).await;
    assert_eq!(node.call("getrawmempool", json!([])).await, Ok(json!([])));
    let found = node.call("getrawtransaction", json!([txid, 2, mined[0]])).await.unwrap();
    assert_eq!((&found["confirmations"], &found["in_active_chain"]), (&json!(1), &json!(true)));
    assert_eq!(found["fee"].to_string(), "0.00010000");
    assert_eq!(found["vin"][0]["prevout"]["height"], json!(1));
    assert_eq!(
        node.call("sendrawtransaction", json!([signed["hex"]])).await,
        Err((-27, "Transaction outputs already in utxo set".into()))
    );
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn blocks_and_headers_can_be_submitted() -> Runs {
    let node = TestNode::start().await;
    node.mine(1).await;
    let made = node.call("generateblock", json!(["raw(51)", [], false])).await.unwrap();
    let hex = made["hex"].as_str().unwrap();
    assert_eq!(node.call("getblockcount", json!([])).await, Ok(json!(1)));
    assert_eq!(node.call("submitheader", json!([&hex[..160]])).await, Ok(Value::Null));
    let tips = node.call("getchaintips", json!([])).await.unwrap();
    assert_eq!(tips[0]["status"], json!("headers-only"));
    assert_eq!(node.call("submitblock", json!([hex])).await, Ok(Value::Null));
    assert_eq!(node.call("submitblock", json!([hex])).await, Ok(json!("duplicate")));
    assert_eq!(node.call("getbestblockhash", json!([])).await, Ok(made["hash"].clone()));
    for (method, params, code, text) in [
        ("submitblock", json!(["00"]), -22, "Block decode failed"),
        ("submitheader", json!(["xx"]), -22, "Block header decode failed"),
        ("generatetoaddress", json!([1, "x"]), -5, "Error: Invalid address"),
        ("generatetodescriptor", json!([1, "x"]), -5, "'x' is not a valid descriptor function"),
        ("generateblock", json!(["x", []]), -5, "Error: Invalid address or descriptor"),
        ("getblocktemplate", json!([{"mode": "x"}]), -8, "Invalid mode"),
        (
            "getblocktemplate",
            json!([{}]),
            -8,
            "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})",
        ),
        ("getnetworkhashps", json!([0]), -8, "Invalid nblocks. Must be a positive number or -1."),
    ] {
        assert_eq!(node.call(method, params).await, Err((code, text.into())), "{method}");
    }
    let orphan = format!("{}{}{}", &hex[..8], "11".repeat(32), &hex[72..160]);
    let (code, text) = node.call("submitheader", json!([orphan])).await.unwrap_err();
    assert_eq!((code, text.starts_with("Must submit previous header (1111")), (-25, true));
    let proposal = node.call("getblocktemplate", json!([{"mode": "proposal", "data": hex}])).await;
    assert_eq!(proposal, Ok(json!("duplicate")));
    node.stop().await;
    Ok(())
}

/// Core's `rpc_signmessagewithprivkey.py` pair.
#[tokio::test]
async fn messages_are_signed_and_verified() -> Runs {
    let node = TestNode::start().await;
    let message = "This is just a test message";
    let signature = node.call("signmessagewithprivkey", json!([KEY_OF_TEST, message])).await.unwrap();
    let address = address_of(KEY_OF_TEST)?;
    assert_eq!(node.call("verifymessage", json!([address, signature, message])).await, Ok(json!(true)));
    assert_eq!(node.call("verifymessage", json!([address, signature, "other"])).await, Ok(json!(false)));
    for (params, code, text) in [
        (json!(["invalid", signature, message]), -5, "Invalid address"),
        (json!([address, "invalid_sign", message]), -3, "Malformed base64 encoding"),
        (json!(["bcrt1pfeesnyr2tx", signature, message]), -3, "Address does not refer to key"),
    ] {
        assert_eq!(node.call("verifymessage", params).await, Err((code, text.into())));
    }
    assert_eq!(
        node.call("signmessagewithprivkey", json!(["x", message])).await,
        Err((-5, "Invalid private key".into()))
    );
    node.stop().await;
    Ok(())
}

const KEY_OF_TEST: &str = "cUeKHd5orzT3mz8P9pxyREHfsWtVfgsfDjiZZBcjUBAaGk1BTj7N";

fn address_of(wif: &str) -> Result<String, Box<dyn std::error::Error>> {
    let key = bitcoin::PrivateKey::from_wif(wif)?;
    let public = key.public_key(&bitcoin::secp256k1::Secp256k1::new());
    Ok(bitcoin::Address::p2pkh(public, bitcoin::Network::Regtest).to_string())
}

#[tokio::test]
async fn network_info_is_that_of_release_31() -> Runs {
    let node = TestNode::start().await;
    let info = node.call("getnetworkinfo", json!([])).await.unwrap();
    assert_eq!(info["version"], json!(310_000));
    assert_eq!(info["relayfee"].to_string(), "0.00000100");
    assert_eq!(info["networks"].as_array().unwrap().len(), 5);
    let pool = node.call("getmempoolinfo", json!([])).await.unwrap();
    assert_eq!((&pool["fullrbf"], &pool["size"]), (&json!(true), &json!(0)));
    let rules = node.call("getdeploymentinfo", json!([])).await.unwrap();
    assert_eq!(rules["deployments"]["taproot"]["active"], json!(true));
    assert_eq!(rules["deployments"]["segwit"]["type"], json!("buried"));
    assert_eq!(rules["deployments"]["testdummy"]["bip9"]["status"], json!("defined"));
    assert!(rules["script_flags"].as_array().unwrap().contains(&json!("TAPROOT")));
    node.stop().await;
    Ok(())
}

/// Two of three keys sign one after the other, each alone, and then what both made is combined.
#[tokio::test]
async fn multisig_is_signed_by_turns() -> Runs {
    let node = TestNode::start().await;
    let keys: Vec<bitcoin::PrivateKey> = (1..=3u8)
        .map(|n| bitcoin::PrivateKey::from_slice(&[n; 32], bitcoin::Network::Regtest))
        .collect::<Result<_, _>>()?;
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let public: Vec<String> = keys.iter().map(|key| key.public_key(&secp).to_string()).collect();
    for kind in ["legacy", "p2sh-segwit", "bech32"] {
        let made = node.call("createmultisig", json!([2, public, kind])).await.unwrap();
        let script =
            node.call("validateaddress", json!([made["address"]])).await.unwrap()["scriptPubKey"].clone();
        let spent = "11".repeat(32);
        let raw = node
            .call("createrawtransaction", json!([[{"txid": spent, "vout": 0}], [{some_address(): 1}]]))
            .await
            .unwrap();
        let prev = json!([{"txid": spent, "vout": 0, "scriptPubKey": script, "amount": 2,
            "redeemScript": made["redeemScript"]}]);
        let sign = async |raw: &Value, key: usize| {
            let params = json!([raw, [keys[key].to_wif()], prev]);
            node.call("signrawtransactionwithkey", params).await.unwrap()
        };
        let first = sign(&raw, 0).await;
        assert_eq!(first["complete"], json!(false), "{kind}");
        let both = sign(&first["hex"], 2).await;
        assert_eq!(both["complete"], json!(true), "{kind}: {both}");
        let third = sign(&raw, 2).await;
        assert_eq!(third["complete"], json!(false), "{kind}");
        // The order in which they signed leaves no trace.
        assert_eq!(sign(&third["hex"], 0).await["hex"], both["hex"], "{kind}");
    }
    node.stop().await;
    Ok(())
}

/// What a script would be in segwit is told by its descriptor, where Core can tell it too.
#[tokio::test]
async fn decodescript_knows_the_witness_script() -> Runs {
    let node = TestNode::start().await;
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    for (script, wanted) in [
        (format!("5121{key}51ae"), format!("wsh(multi(1,{key}))#")),
        // A key and ten blocks of patience.
        (format!("21{key}ad5ab2"), format!("wsh(and_v(v:pk({key}),older(10)))#")),
        (format!("21{key}ac"), "addr(bcrt1q".into()),
        ("61".into(), "addr(bcrt1q".into()),
    ] {
        let told = node.call("decodescript", json!([script])).await.unwrap();
        let desc = told["segwit"]["desc"].as_str().unwrap_or("");
        assert!(desc.starts_with(&wanted), "{script}: {desc}");
        assert_eq!(
            told["segwit"].as_object().unwrap().keys().collect::<Vec<_>>(),
            ["asm", "desc", "hex", "address", "type", "p2sh-segwit"]
        );
    }
    node.stop().await;
    Ok(())
}

/// Core puts what only the chain knows behind the transaction.
#[tokio::test]
async fn a_transaction_in_a_block_ends_with_the_block() -> Runs {
    let node = TestNode::start().await;
    let hash = node.mine(1).await.remove(0);
    let block = node.call("getblock", json!([hash, 1])).await.unwrap();
    let tx = node.call("getrawtransaction", json!([block["tx"][0], 1, hash])).await.unwrap();
    let keys: Vec<&str> = tx.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.first(), Some(&"in_active_chain"));
    assert_eq!(keys[keys.len() - 5..], ["hex", "blockhash", "confirmations", "time", "blocktime"]);
    node.stop().await;
    Ok(())
}
