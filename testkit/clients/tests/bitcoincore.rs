//! `bitcoincore-rpc`, which most Rust projects call a node with: each of its calls but the
//! wallet's.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::{Amount, Block, Network};
use bitcoincore_rpc::json::{
    BlockStatsFields, CreateRawTransactionInput, EstimateMode, GetBlockTemplateModes, GetBlockTemplateRules,
    HashOrHeight, ScanTxOutRequest, SignRawTransactionInput, TxOutSetHashType,
};
use bitcoincore_rpc::jsonrpc::Error as JsonRpcError;
use bitcoincore_rpc::{Auth, Client, Error, RpcApi};
use ironpeer_testkit::{ScriptKind, Signer};
use serde_json::{Value, json};

use crate::node::{Coin, FEE, Node, address, pass_on, private_key, unsigned};
use crate::typed::source_of;

/// Calls that need a wallet.
const OF_THE_WALLET: [&str; 43] = [
    "add_multisig_address",
    "backup_wallet",
    "create_wallet",
    "dump_private_key",
    "encrypt_wallet",
    "fund_raw_transaction",
    "get_address_info",
    "get_balance",
    "get_balances",
    "get_new_address",
    "get_raw_change_address",
    "get_received_by_address",
    "get_transaction",
    "get_wallet_info",
    "import_address",
    "import_address_script",
    "import_descriptors",
    "import_multi",
    "import_private_key",
    "import_public_key",
    "key_pool_refill",
    "list_received_by_address",
    "list_since_block",
    "list_transactions",
    "list_unspent",
    "list_wallet_dir",
    "list_wallets",
    "load_wallet",
    "lock_unspent",
    "rescan_blockchain",
    "send_to_address",
    "set_label",
    "sign_raw_transaction_with_wallet",
    "unload_wallet",
    "unlock_unspent",
    "unlock_unspent_all",
    "wallet_create_funded_psbt",
    "wallet_process_psbt",
    // Ways to make a call, not calls.
    "call",
    "get_by_id",
    // Removed from Core long ago; `refused` shows what they get.
    "generate",
    "sign_raw_transaction",
    // Sends a signature in an encoding that no node takes.
    "verify_message",
];

/// Collects what went wrong, so that one run tells all of it.
struct Calls {
    client: Client,
    made: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

impl Calls {
    fn reply<T>(&mut self, call: &'static str, reply: Result<T, Error>) -> Option<T> {
        self.made.insert(call);
        reply.map_err(|error| self.wrong.push(format!("{call}: {error:?}"))).ok()
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("wrong until then:\n{}", self.wrong.join("\n"));
        }
    }
}

macro_rules! ask {
    ($calls:ident, $function:ident($($argument:expr),*)) => {{
        let reply = $calls.client.$function($($argument),*);
        $calls.reply(stringify!($function), reply)
    }};
}

fn code_of<T>(reply: Result<T, Error>) -> Option<i32> {
    match reply {
        Err(Error::JsonRpc(JsonRpcError::Rpc(error))) => Some(error.code),
        _ => None,
    }
}

fn chain(c: &mut Calls, node: &mut Node, signer: &Signer) -> Vec<bitcoin::BlockHash> {
    let home = address(&signer.script(ScriptKind::P2wpkh, 1));
    let blocks = ask!(c, generate_to_address(110, &home)).unwrap();
    let (first, tip) = (blocks[0], blocks[109]);
    assert_eq!(ask!(c, version()), Some(310_000));
    ask!(c, get_network_info());
    assert_eq!(ask!(c, get_blockchain_info()).unwrap().chain, Network::Regtest);
    assert_eq!(ask!(c, get_block_count()), Some(110));
    assert_eq!(ask!(c, get_best_block_hash()), Some(tip));
    assert_eq!(ask!(c, get_block_hash(1)), Some(first));
    let block = ask!(c, get_block(&first)).unwrap();
    assert_eq!(ask!(c, get_block_hex(&first)), Some(serialize_hex(&block)));
    assert_eq!(ask!(c, get_block_info(&first)).unwrap().confirmations, 110);
    assert_eq!(ask!(c, get_block_header(&first)), Some(block.header));
    assert_eq!(ask!(c, get_block_header_info(&first)).unwrap().next_block_hash, Some(blocks[1]));
    ask!(c, get_block_stats(1));
    ask!(c, get_block_stats_fields(1, &[BlockStatsFields::Height, BlockStatsFields::Subsidy]));
    ask!(c, get_difficulty());
    ask!(c, get_chain_tips());
    ask!(c, get_tx_out_set_info(None, None, None));
    node.wait_for_indexes();
    ask!(c, get_index_info());
    let hash = Some(TxOutSetHashType::Muhash);
    let at = ask!(c, get_tx_out_set_info(hash, Some(HashOrHeight::Height(100)), Some(true)));
    assert_eq!(at.unwrap().height, 100);
    ask!(c, get_block_filter(&first));
    let scan = [
        ScanTxOutRequest::Single(format!("wpkh({})", signer.public(1))),
        ScanTxOutRequest::Extended { desc: "raw(51)".to_owned(), range: (0, 5) },
    ];
    assert_eq!(ask!(c, scan_tx_out_set_blocking(&scan)).unwrap().total_amount, Amount::from_int_btc(5500));
    assert_eq!(ask!(c, wait_for_block(&tip, 1)).unwrap().hash, tip);
    // Nothing comes within the millisecond; the reply is the tip all the same.
    assert_eq!(ask!(c, wait_for_new_block(1)).unwrap().hash, tip);
    blocks
}

fn mining(c: &mut Calls) {
    ask!(c, get_mining_info());
    ask!(c, get_network_hash_ps(Some(10), None));
    let template =
        ask!(c, get_block_template(GetBlockTemplateModes::Template, &[GetBlockTemplateRules::SegWit], &[]));
    assert_eq!(template.unwrap().transactions.len(), 2);
    let tip = c.client.get_best_block_hash().unwrap();
    ask!(c, invalidate_block(&tip));
    assert_ne!(c.client.get_best_block_hash().unwrap(), tip);
    ask!(c, reconsider_block(&tip));
    assert_eq!(c.client.get_best_block_hash().unwrap(), tip);
    let next = |c: &Calls| -> Block {
        let made: Value =
            c.client.call("generateblock", &[json!("raw(51)"), json!([]), json!(false)]).unwrap();
        bitcoin::consensus::encode::deserialize_hex(made["hex"].as_str().unwrap()).unwrap()
    };
    let block = next(c);
    ask!(c, submit_block(&block));
    let block = next(c);
    ask!(c, submit_block_bytes(&bitcoin::consensus::serialize(&block)));
    let block = next(c);
    ask!(c, submit_block_hex(&serialize_hex(&block)));
    assert_eq!(c.client.get_best_block_hash().unwrap(), block.block_hash());
}

fn transactions(c: &mut Calls, signer: &Signer, blocks: &[bitcoin::BlockHash]) {
    let home = address(&signer.script(ScriptKind::P2wpkh, 1));
    let block = c.client.get_block(&blocks[0]).unwrap();
    let coin = Coin::of(&block.txdata[0], 0, ScriptKind::P2wpkh, 1);
    let inputs =
        [CreateRawTransactionInput { txid: coin.at.txid, vout: coin.at.vout, sequence: Some(0xffff_fffd) }];
    let value = coin.owned.output.value - FEE;
    let outputs = HashMap::from([(home.to_string(), value)]);
    let bare = ask!(c, create_raw_transaction(&inputs, &outputs, Some(0), Some(true))).unwrap();
    let hex = ask!(c, create_raw_transaction_hex(&inputs, &outputs, Some(0), Some(true))).unwrap();
    assert_eq!(serialize_hex(&bare), hex);
    assert_eq!(bare, unsigned(std::slice::from_ref(&coin), bare.output.clone()));
    ask!(c, decode_raw_transaction(&bare, None));
    let spent = SignRawTransactionInput {
        txid: coin.at.txid,
        vout: coin.at.vout,
        script_pub_key: coin.owned.output.script_pubkey.clone(),
        redeem_script: None,
        amount: Some(coin.owned.output.value),
    };
    let keys = [private_key(signer, 1)];
    let signed = ask!(c, sign_raw_transaction_with_key(&bare, &keys, Some(&[spent]), None)).unwrap();
    assert!(signed.complete);
    let parent = signed.transaction().unwrap();
    ask!(c, combine_raw_transaction(&[hex, serialize_hex(&parent)]));
    assert!(ask!(c, test_mempool_accept(&[&parent])).unwrap()[0].allowed);
    let txid = parent.compute_txid();
    assert_eq!(ask!(c, send_raw_transaction(&parent)), Some(txid));
    let child = pass_on(signer, &Coin::of(&parent, 0, ScriptKind::P2wpkh, 1), FEE);
    ask!(c, send_raw_transaction(&child));

    assert_eq!(ask!(c, get_raw_mempool()).unwrap().len(), 2);
    assert_eq!(ask!(c, get_raw_mempool_verbose()).unwrap()[&txid].descendant_count, 2);
    assert_eq!(ask!(c, get_mempool_entry(&txid)).unwrap().fees.base, FEE);
    assert_eq!(ask!(c, get_mempool_info()).unwrap().size, 2);
    assert_eq!(ask!(c, get_raw_transaction(&txid, None)), Some(parent.clone()));
    ask!(c, get_raw_transaction_hex(&txid, None));
    ask!(c, get_raw_transaction_info(&coin.at.txid, Some(&blocks[0])));
    assert!(ask!(c, get_tx_out(&txid, 0, Some(false))).unwrap().is_none());
    assert!(ask!(c, get_tx_out(&child.compute_txid(), 0, Some(true))).unwrap().is_some());
    ask!(c, get_tx_out_proof(&[coin.at.txid], Some(&blocks[0])));

    let other = c.client.get_block(&blocks[1]).unwrap().txdata[0].compute_txid();
    let others = [CreateRawTransactionInput { txid: other, vout: 0, sequence: None }];
    let one = ask!(c, create_psbt(&inputs, &outputs, None, None)).unwrap();
    let two = ask!(c, create_psbt(&others, &outputs, None, None)).unwrap();
    ask!(c, combine_psbt(&[two.clone(), two.clone()]));
    assert!(!ask!(c, finalize_psbt(&two, Some(true))).unwrap().complete);
    // Two of Core's rules for joining: nothing is joined with itself.
    ask!(c, join_psbt(&[one, two]));
    ask!(c, estimate_smart_fee(6, Some(EstimateMode::Economical)));

    let descriptor = format!("wpkh({})", signer.public(1));
    let info = ask!(c, get_descriptor_info(&descriptor)).unwrap();
    assert_eq!(ask!(c, derive_addresses(&info.descriptor, None)).unwrap(), [home.as_unchecked().clone()]);
    #[expect(deprecated, reason = "what it is answered")]
    let removed = c.client.sign_raw_transaction(&bare, None, None, None);
    assert_eq!(code_of(removed), Some(-32601));
    // With arguments, the answer is the help that names what took its place.
    assert_eq!(code_of(c.client.generate(1, None)), Some(-1));
    let signature = Secp256k1::new().sign_ecdsa(&Message::from_digest([7; 32]), &signer.secret(1));
    let owner = address(&signer.script(ScriptKind::P2pkh, 1));
    assert!(!matches!(c.client.verify_message(&owner, &signature, "so it is"), Ok(true)));
}

fn network(c: &mut Calls, node: &mut Node, peer: &Node) {
    node.process.wait_until("getconnectioncount", &[], |count| *count == json!(1)).unwrap();
    assert_eq!(ask!(c, get_connection_count()), Some(1));
    assert_eq!(ask!(c, get_peer_info()).unwrap().len(), 1);
    ask!(c, ping());
    ask!(c, get_net_totals());
    // Nobody listens there, so that no second connection comes up beside the next one.
    let absent = format!("127.0.0.1:{}", ironpeer_testkit::port(20));
    ask!(c, add_node(&absent));
    ask!(c, get_added_node_info(Some(&absent)));
    ask!(c, get_added_node_info(None));
    ask!(c, remove_node(&absent));
    ask!(c, onetry_node(&peer.address()));
    let peers =
        |count: usize| move |peers: &Value| peers.as_array().is_some_and(|peers| peers.len() == count);
    let known = node.process.wait_until("getpeerinfo", &[], peers(2)).unwrap();
    let inbound = known[0]["id"].as_u64().unwrap();
    ask!(c, disconnect_node(&peer.address()));
    node.process.wait_until("getpeerinfo", &[], peers(1)).unwrap();
    ask!(c, disconnect_node_by_id(u32::try_from(inbound).unwrap()));
    ask!(c, get_node_addresses(Some(5)));
    ask!(c, add_ban("10.9.8.0/24", 600, false));
    assert_eq!(ask!(c, list_banned()).unwrap().len(), 1);
    ask!(c, remove_ban("10.9.8.0/24"));
    ask!(c, clear_banned());
    assert_eq!(ask!(c, set_network_active(false)), Some(false));
    assert_eq!(ask!(c, get_zmq_notifications()).unwrap().len(), 1);
    ask!(c, uptime());
}

#[test]
fn bitcoincore_rpc_makes_every_call() {
    let signer = Signer::new();
    let notify = format!("-zmqpubhashtx=tcp://127.0.0.1:{}", ironpeer_testkit::port(40));
    // Its type of a peer has a field that Core gives only with the last of these.
    let options = ["-blockfilterindex", "-coinstatsindex", &notify, "-deprecatedrpc=startingheight"];
    let mut node = Node::start(0, &options.map(str::to_owned));
    let peer = Node::start(1, &[format!("-connect={}", node.address())]);
    let client = Client::new(&node.url(), Auth::CookieFile(node.cookie_file())).unwrap();
    let mut calls = Calls { client, made: BTreeSet::new(), wrong: Vec::new() };
    let c = &mut calls;
    let blocks = chain(c, &mut node, &signer);
    transactions(c, &signer, &blocks);
    network(c, &mut node, &peer);
    mining(c);
    ask!(c, stop());
    assert!(node.process.wait().unwrap().success());

    assert!(c.wrong.is_empty(), "{} replies were not read:\n{}", c.wrong.len(), c.wrong.join("\n"));
    let source = fs::read_to_string(source_of("bitcoincore-rpc").join("client.rs")).unwrap();
    let interface = source.split_once("pub trait RpcApi").unwrap().1.split_once("\n}\n").unwrap().0;
    let offered: BTreeSet<&str> =
        interface.lines().filter_map(|line| line.strip_prefix("    fn ")?.split(['(', '<']).next()).collect();
    assert!(offered.len() > 100, "the client's calls are not where they were: {offered:?}");
    let missed: Vec<_> =
        offered.iter().filter(|call| !c.made.contains(**call) && !OF_THE_WALLET.contains(call)).collect();
    assert!(missed.is_empty(), "never made: {missed:?}");
    let stale: Vec<_> = OF_THE_WALLET.iter().filter(|call| !offered.contains(**call)).collect();
    assert!(stale.is_empty(), "listed, but not offered: {stale:?}");
}
