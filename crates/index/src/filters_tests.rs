use std::sync::Arc;

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, ScriptBuf, TxOut};
use ironpeer_primitives::{BlockUndo, Coin};
use ironpeer_testkit::core_vectors;
use serde_json::Value;

use super::*;

/// Core's `blockfilters.json`: blocks of testnet with what they spent, their filters and headers.
#[test]
fn filters_and_headers_are_those_of_the_published_vectors() {
    let rows: Vec<Vec<Value>> = serde_json::from_str(&core_vectors("blockfilters.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut checked = 0;
    for row in rows.iter().filter(|row| row.len() > 1) {
        let block: bitcoin::Block = deserialize(&hex::decode(text(&row[2])).unwrap()).unwrap();
        let mut scripts = row[3].as_array().unwrap().iter();
        let mut coin = || Coin {
            output: TxOut {
                value: Amount::ZERO,
                script_pubkey: ScriptBuf::from_hex(scripts.next().unwrap().as_str().unwrap()).unwrap(),
            },
            height: Height(0),
            is_coinbase: false,
        };
        let txs = block.txdata.iter().skip(1).map(|tx| tx.input.iter().map(|_| coin()).collect()).collect();
        let (height, hash) = (Height(row[0].as_u64().unwrap().try_into().unwrap()), block.block_hash());
        assert_eq!(hash.to_string(), text(&row[1]));
        let connected =
            ConnectedBlock { hash, height, block: Arc::new(block), spent: Arc::new(BlockUndo { txs }) };
        let mut rows = FilterRows::new(Arc::new(ironpeer_store::MemKv::new()));
        rows.header = text(&row[4]).parse().unwrap();
        let mut batch = Batch::new();
        rows.apply(&connected, &mut batch).unwrap();
        assert_eq!(hex::encode(filter_of(&connected).unwrap().content), text(&row[5]), "height {height}");
        assert_eq!(rows.header.to_string(), text(&row[6]), "height {height}");
        checked += 1;
    }
    assert!(checked >= 10);
}
