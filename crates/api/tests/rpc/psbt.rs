//! A PSBT's way from creation to the mempool, and what each method says on the way.

use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use serde_json::{Value, json};

use crate::support::TestNode;

type Runs = Result<(), Box<dyn std::error::Error>>;

/// The same descriptor with private and with public keys.
fn descriptors(form: &str) -> (String, String) {
    let secp = Secp256k1::new();
    let master = Xpriv::new_master(bitcoin::Network::Regtest, &[9; 32]).unwrap();
    let (mut private, mut public) = (form.to_owned(), form.to_owned());
    for branch in 0..2u32 {
        let path: DerivationPath = format!("84h/{branch}h").parse().unwrap();
        let xprv = master.derive_priv(&secp, &path).unwrap();
        let origin = format!("[{}/{}]", master.fingerprint(&secp), format!("{path}").replace('\'', "h"));
        let name = format!("KEY{branch}");
        private = private.replace(&name, &format!("{origin}{xprv}"));
        public = public.replace(&name, &format!("{origin}{}", Xpub::from_priv(&secp, &xprv)));
    }
    (private, public)
}

/// Mines a coin to a descriptor's first script and makes it spendable.
async fn funded(node: &TestNode, public: &str) -> (Value, u64) {
    let info = node.call("getdescriptorinfo", json!([public])).await.unwrap();
    let address = node.call("deriveaddresses", json!([info["descriptor"], [0, 0]])).await.unwrap()[0].clone();
    node.clock.advance(std::time::Duration::from_secs(600));
    let hash = node.call("generatetoaddress", json!([1, address])).await.unwrap()[0].clone();
    let block = node.call("getblock", json!([hash, 2])).await.unwrap();
    let sats = (block["tx"][0]["vout"][0]["value"].as_f64().unwrap() * 1e8).round() as u64;
    node.mine(100).await;
    (json!([{"txid": block["tx"][0]["txid"], "vout": 0}]), sats)
}

#[tokio::test]
async fn a_psbt_is_made_filled_signed_and_sent() -> Runs {
    let node = TestNode::start().await;
    for form in [
        "wpkh(KEY0/*)",
        "tr(KEY0/*)",
        "sh(wpkh(KEY0/*))",
        "wsh(multi(2,KEY0/*,KEY1/*))",
        "sh(wsh(sortedmulti(1,KEY0/*,KEY1/*)))",
        "wsh(and_v(v:pk(KEY0/*),older(10)))",
    ] {
        let (private, public) = descriptors(form);
        let (inputs, sats) = funded(&node, &public).await;
        let mut inputs = inputs;
        inputs[0]["sequence"] = json!(10);
        let pay = sats - 10_000;
        let pay = format!("{}.{:08}", pay / 100_000_000, pay % 100_000_000);
        // Both versions go the same way.
        let version = if form.contains("sh") { 2 } else { 0 };
        let outputs = json!({"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080": pay});
        let blank = node.call("createpsbt", json!([inputs, outputs, 0, true, 2, version])).await;
        let blank = blank.unwrap();
        let state = node.call("analyzepsbt", json!([blank])).await.unwrap();
        assert_eq!((&state["next"], &state["inputs"][0]["has_utxo"]), (&json!("updater"), &json!(false)));
        let scan = json!([{"desc": public, "range": 3}]);
        let filled = node.call("utxoupdatepsbt", json!([blank, scan])).await.unwrap();
        let text = node.call("decodepsbt", json!([filled])).await.unwrap();
        assert_eq!(text["fee"].to_string(), "0.00010000", "{form}");
        let input = &text["inputs"][0];
        assert!(input["witness_utxo"]["amount"].is_number(), "{form}");
        let derived = if form.starts_with("tr") { "taproot_bip32_derivs" } else { "bip32_derivs" };
        let origins = input[derived].as_array().unwrap();
        assert!(origins.iter().any(|origin| origin["path"] == "m/84h/0h/0"), "{form}: {text}");
        let state = node.call("analyzepsbt", json!([filled])).await.unwrap();
        assert_eq!(state["inputs"][0]["is_final"], json!(false), "{form}");
        let unfinished = node.call("finalizepsbt", json!([filled])).await.unwrap();
        assert_eq!((&unfinished["complete"], &unfinished["psbt"]), (&json!(false), &filled), "{form}");

        let keys = json!([{"desc": private, "range": 3}]);
        let signed =
            node.call("descriptorprocesspsbt", json!([filled, keys, "DEFAULT", true, false])).await.unwrap();
        assert_eq!(signed["complete"], json!(false), "{form}");
        let both = node.call("combinepsbt", json!([[filled, signed["psbt"]]])).await.unwrap();
        assert_eq!(both, signed["psbt"], "{form}");
        let known_to_analysis = !form.contains("older");
        let state = node.call("analyzepsbt", json!([both])).await.unwrap();
        if known_to_analysis {
            assert_eq!(state["next"], json!("finalizer"), "{form}: {state}");
            assert_eq!(state["fee"].to_string(), "0.00010000");
        }
        let done = node.call("finalizepsbt", json!([both])).await.unwrap();
        assert_eq!(done["complete"], json!(true), "{form}");
        let whole = node.call("descriptorprocesspsbt", json!([filled, keys])).await.unwrap();
        assert_eq!(whole["complete"], json!(true), "{form}");
        // A Schnorr signature has randomness in it.
        assert!(whole["hex"] == done["hex"] || form.starts_with("tr"), "{form}");
        let state = node.call("analyzepsbt", json!([whole["psbt"]])).await.unwrap();
        assert_eq!(state["next"], json!("extractor"), "{form}");
        let tried = node.call("testmempoolaccept", json!([[done["hex"]]])).await.unwrap();
        assert_eq!(tried[0]["allowed"], json!(true), "{form}: {tried}");
        if known_to_analysis && !form.contains("multi") {
            // The estimate knows the input's form; low signatures make it one byte too much at most.
            let vsize = tried[0]["vsize"].as_u64().unwrap();
            let estimated =
                node.call("analyzepsbt", json!([filled])).await.unwrap()["estimated_vsize"].clone();
            let estimated = estimated.as_u64().unwrap();
            assert!((vsize..=vsize + 1).contains(&estimated), "{form}: {estimated} {vsize}");
        }
    }
    node.stop().await;
    Ok(())
}

/// What lacks a script or a key says which.
#[tokio::test]
async fn analysis_names_what_is_missing() -> Runs {
    let node = TestNode::start().await;
    let (private, public) = descriptors("wsh(multi(2,KEY0/*,KEY1/*))");
    let (inputs, _) = funded(&node, &public).await;
    let blank = node.call("createpsbt", json!([inputs, [{"data": "00"}]])).await.unwrap();
    let coin_only = node.call("utxoupdatepsbt", json!([blank])).await.unwrap();
    let state = node.call("analyzepsbt", json!([coin_only])).await.unwrap();
    assert_eq!(state["inputs"][0]["missing"]["witnessscript"].as_str().map(str::len), Some(64), "{state}");
    assert_eq!(state["next"], json!("updater"));
    let filled = node.call("utxoupdatepsbt", json!([blank, [public]])).await.unwrap();
    let state = node.call("analyzepsbt", json!([filled])).await.unwrap();
    assert_eq!(state["inputs"][0]["missing"]["signatures"].as_array().map(Vec::len), Some(2), "{state}");
    assert_eq!(state["next"], json!("signer"));
    let wrong = node.call("descriptorprocesspsbt", json!([filled, [private], "NONE"])).await.unwrap();
    let again = node.call("descriptorprocesspsbt", json!([filled, [private]])).await.unwrap();
    assert_ne!(wrong["hex"], again["hex"]);
    node.stop().await;
    Ok(())
}

#[tokio::test]
async fn wrong_psbts_are_refused() -> Runs {
    let node = TestNode::start().await;
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let outpoint = |byte: &str| json!([{"txid": byte.repeat(32), "vout": 1}]);
    let one = node.call("createpsbt", json!([outpoint("11"), {address: 1}])).await.unwrap();
    let two = node.call("createpsbt", json!([outpoint("22"), {address: 2}])).await.unwrap();
    let joined = node.call("joinpsbts", json!([[one, two]])).await.unwrap();
    let text = node.call("decodepsbt", json!([joined])).await.unwrap();
    assert_eq!(
        (text["inputs"].as_array().unwrap().len(), text["tx"]["vout"].as_array().unwrap().len()),
        (2, 2)
    );
    assert_eq!(text["psbt_version"], json!(0));
    let raw = node.call("createrawtransaction", json!([outpoint("11"), {address: 1}])).await.unwrap();
    assert_eq!(node.call("converttopsbt", json!([raw])).await, Ok(one.clone()));
    let newer = node.call("converttopsbt", json!([raw, false, null, 2])).await.unwrap();
    let told = node.call("decodepsbt", json!([newer])).await.unwrap();
    assert_eq!((&told["psbt_version"], &told["tx"]), (&json!(2), &Value::Null));
    // Nothing spent and nothing paid is a PSBT too.
    let empty = node.call("createpsbt", json!([[], []])).await.unwrap();
    assert_eq!(node.call("decodepsbt", json!([empty])).await.unwrap()["inputs"], json!([]));
    for (method, params, code, text) in [
        ("decodepsbt", json!(["!"]), -22, "TX decode failed invalid base64"),
        ("decodepsbt", json!(["AAAAAAAA"]), -22, "TX decode failed Invalid PSBT magic bytes: iostream error"),
        ("joinpsbts", json!([[one, newer]]), -8, "joinpsbts only operates on version 0 PSBTs"),
        ("combinepsbt", json!([[one, newer]]), -8, "PSBTs not compatible (different transactions)"),
        ("combinepsbt", json!([[]]), -8, "Parameter 'txs' cannot be empty"),
        ("combinepsbt", json!([[one, two]]), -8, "PSBTs not compatible (different transactions)"),
        ("joinpsbts", json!([[one]]), -8, "At least two PSBTs are required to join PSBTs."),
        ("createpsbt", json!([[], [], 0, true, 2, 1]), -8, "The PSBT version can only be 2 or 0"),
        ("descriptorprocesspsbt", json!([one, [], "X"]), -8, "'X' is not a valid sighash parameter."),
    ] {
        assert_eq!(node.call(method, params).await, Err((code, text.into())), "{method}");
    }
    let twice = node.call("joinpsbts", json!([[one, one]])).await;
    assert_eq!(twice, Err((-8, format!("Input {}:1 exists in multiple PSBTs", "11".repeat(32)))));
    node.stop().await;
    Ok(())
}

/// The vectors of BIP174 and BIP370 for those who create, sign, finish and extract.
#[tokio::test]
async fn the_roles_do_as_the_vectors_say() -> Runs {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/psbt.json"))?;
    let node = TestNode::start().await;
    let list = |kind: &str| vectors[kind].as_array().unwrap().clone();
    for vector in list("creator") {
        let params = json!([vector["inputs"], vector["outputs"], 0, false, 2, vector["version"]]);
        assert_eq!(node.call("createpsbt", params).await, Ok(vector["result"].clone()));
    }
    for vector in list("finalizer") {
        let finished = node.call("finalizepsbt", json!([vector["finalize"], false])).await.unwrap();
        assert_eq!(finished["psbt"], vector["result"]);
    }
    for vector in list("extractor") {
        let extracted = node.call("finalizepsbt", json!([vector["extract"], true])).await.unwrap();
        assert_eq!(extracted["hex"], vector["result"]);
    }
    for vector in list("signer") {
        let keys: Vec<Value> = vector["privkeys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| format!("pk({})", key.as_str().unwrap()).into())
            .collect();
        let params = json!([vector["psbt"], keys, "ALL", false, true]);
        let signed = node.call("descriptorprocesspsbt", params).await.unwrap();
        assert_eq!(signed["psbt"], vector["result"]);
    }
    node.stop().await;
    Ok(())
}
