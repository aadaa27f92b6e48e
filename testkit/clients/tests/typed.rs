//! Every reply as `corepc-client` reads it: by a type of its own for each method, which refuses a
//! field that it does not know. Its newest module describes the release that we answer as.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, thread};

use bitcoin::sign_message::MessageSignature;
use bitcoin::{Amount, Block, BlockHash, OutPoint, Psbt, SignedAmount, Transaction, TxOut};
use corepc_client::client_sync::v31::{
    AddNodeCommand, Client, FeeEstimateMode, Input, Output, SetBanCommand, TemplateRequest, TemplateRules,
};
use corepc_client::client_sync::{Auth, Error};
use corepc_types::v31 as types;
use ironpeer_testkit::{ScriptKind, Signer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::node::{Coin, FEE, Node, address, pass_on, private_key, spend, unsigned};
use crate::plain::Plain;

/// Methods of ours that the crate has no type for.
const UNTYPED: [&str; 8] = [
    "echo",
    "echoipc",
    "echojson",
    "exportasmap",
    "generate",
    "rpc.discover",
    "sendmsgtopeer",
    "setmocktime",
];

/// Methods that only a node with a wallet has, though the crate lists them elsewhere.
const OF_THE_WALLET: [&str; 1] = ["fundrawtransaction"];

/// JSON-RPC names that differ from the crate's own name of the call.
const NAMED_OTHERWISE: [(&str, &str); 3] = [
    ("getnetworkhashespersecond", "getnetworkhashps"),
    ("getorphantxsverbosity1", "getorphantxs"),
    ("getorphantxsverbosity2", "getorphantxs"),
];

/// Collects what went wrong, so that one run tells all of it.
struct Replies {
    client: Client,
    asked: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

impl Replies {
    fn reply<T>(&mut self, method: &'static str, reply: Result<T, Error>) -> Option<T> {
        self.asked.insert(method);
        reply.map_err(|error| self.wrong.push(format!("{method}: {error:?}"))).ok()
    }

    fn model<T, E: Display>(&mut self, method: &str, model: Option<Result<T, E>>) -> Option<T> {
        model?.map_err(|error| self.wrong.push(format!("{method}, as a model: {error}"))).ok()
    }

    /// Reads a reply that has numbers in places where only a plain reader takes them.
    fn plain<T: DeserializeOwned>(&mut self, method: &'static str, arguments: &[Value]) -> Option<T> {
        let reply = self.client.call::<Value>(method, arguments);
        let reply = T::deserialize(Plain(self.reply(method, reply)?));
        reply.map_err(|error| self.wrong.push(format!("{method}: {error}"))).ok()
    }

    fn refused<T>(&mut self, method: &'static str, code: i32, reply: Result<T, Error>) {
        self.asked.insert(method);
        match reply {
            Err(Error::JsonRpc(jsonrpc_error)) if jsonrpc_error.to_string().contains(&code.to_string()) => {}
            Err(error) => self.wrong.push(format!("{method}: {error:?} instead of code {code}")),
            Ok(_) => self.wrong.push(format!("{method}: a result instead of code {code}")),
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("wrong until then:\n{}", self.wrong.join("\n"));
        }
    }
}

/// Calls a function of the client that calls `$method`.
macro_rules! ask {
    ($replies:ident, $method:literal, $function:ident($($argument:expr),*)) => {{
        let reply = $replies.client.$function($($argument),*);
        $replies.reply($method, reply)
    }};
}

/// The same, and turns the reply into the crate's model of it, with rust-bitcoin's types.
macro_rules! ask_model {
    ($replies:ident, $method:literal, $function:ident($($argument:expr),*)) => {{
        let reply = ask!($replies, $method, $function($($argument),*));
        $replies.model($method, reply.map(|reply| reply.into_model()))
    }};
}

/// Calls a function that must be answered with an error.
macro_rules! refused {
    ($replies:ident, $method:literal, $code:literal, $function:ident($($argument:expr),*)) => {{
        let reply = $replies.client.$function($($argument),*);
        $replies.refused($method, $code, reply)
    }};
}

/// What the calls are about.
struct Scene {
    signer: Signer,
    node: Node,
    peer: Node,
    /// Blocks 1 to 300.
    blocks: Vec<BlockHash>,
    /// Pays to every kind of script; in block 301.
    mined: Transaction,
    mined_in: BlockHash,
    /// In the mempool, the second spends the first.
    parent: Transaction,
    child: Transaction,
}

const KEY: u32 = 1;

impl Scene {
    fn script(&self) -> bitcoin::ScriptBuf {
        self.signer.script(ScriptKind::P2wpkh, KEY)
    }

    fn descriptor(&self) -> String {
        format!("wpkh({})", self.signer.public(KEY))
    }

    /// The reward of block `height`.
    fn reward(&self, client: &Client, height: usize) -> Coin {
        let block = client.get_block(self.blocks[height - 1]).unwrap();
        Coin::of(&block.txdata[0], 0, ScriptKind::P2wpkh, KEY)
    }
}

fn client(node: &Node) -> Client {
    Client::new_with_auth(&node.url(), Auth::CookieFile(node.cookie_file())).unwrap()
}

fn start() -> (Scene, Replies) {
    let signer = Signer::new();
    let notify = |topic: &str| format!("-zmqpub{topic}=tcp://127.0.0.1:{}", ironpeer_testkit::port(40));
    let node = Node::start(
        0,
        &["-txindex", "-blockfilterindex", "-coinstatsindex", "-permitbaremultisig"]
            .map(str::to_owned)
            .into_iter()
            .chain([notify("rawtx"), notify("hashblock")])
            .collect::<Vec<_>>(),
    );
    let peer = Node::start(
        1,
        &["-prune=1".to_owned(), "-fastprune".to_owned(), format!("-connect={}", node.address())],
    );
    let mut replies = Replies { client: client(&node), asked: BTreeSet::new(), wrong: Vec::new() };
    let home = address(&signer.script(ScriptKind::P2wpkh, KEY));
    let blocks = ask_model!(replies, "generatetoaddress", generate_to_address(300, &home)).unwrap().0;

    let first = replies.client.get_block(blocks[0]).unwrap();
    let reward = Coin::of(&first.txdata[0], 0, ScriptKind::P2wpkh, KEY);
    // One transaction that pays to every kind of script goes into a block, one stays outside.
    let pay_all = |coin: Coin| {
        let mut outputs: Vec<TxOut> = (10..)
            .zip(ScriptKind::ALL)
            .map(|(key, kind)| TxOut { value: Amount::ONE_BTC, script_pubkey: signer.script(kind, key) })
            .collect();
        let note = bitcoin::ScriptBuf::new_op_return(b"ironpeer");
        outputs.push(TxOut { value: Amount::ZERO, script_pubkey: note });
        let paid = Amount::ONE_BTC * ScriptKind::ALL.len() as u64 + FEE;
        let rest = coin.owned.output.value - paid;
        outputs.push(TxOut { value: rest, script_pubkey: home.script_pubkey() });
        spend(&signer, &[coin], outputs)
    };
    let mined = pay_all(reward);
    let change =
        |tx: &Transaction| Coin::of(tx, u32::try_from(tx.output.len() - 1).unwrap(), ScriptKind::P2wpkh, KEY);
    let sent = ask_model!(replies, "sendrawtransaction", send_raw_transaction(&mined)).unwrap();
    assert_eq!(sent.0, mined.compute_txid());
    let mined_in = ask_model!(
        replies,
        "generateblock",
        generate_block(&home.to_string(), &[mined.compute_txid().to_string()], true)
    )
    .unwrap()
    .hash;
    let parent = pay_all(change(&mined));
    let child = pass_on(&signer, &change(&parent), FEE);
    let mut scene = Scene { signer, node, peer, blocks, mined, mined_in, parent, child };
    scene.peer.process.wait_until("getbestblockhash", &[], |best| *best == json!(mined_in)).unwrap();
    (scene, replies)
}

fn transactions(scene: &Scene, r: &mut Replies) -> Option<()> {
    let (parent, child) = (&scene.parent, &scene.child);
    ask_model!(r, "testmempoolaccept", test_mempool_accept(&[parent.clone(), child.clone()]));
    ask_model!(r, "submitpackage", submit_package(&[parent.clone(), child.clone()], None, None));
    let conflict = pass_on(&scene.signer, &scene.reward(&r.client, 250), FEE);
    let refused = ask_model!(r, "testmempoolaccept", test_mempool_accept(&[conflict]));
    assert_eq!(refused?.results[0].reject_reason.as_deref(), Some("bad-txns-premature-spend-of-coinbase"));

    let (first, last) = (parent.compute_txid(), child.compute_txid());
    ask_model!(r, "getrawmempool", get_raw_mempool());
    ask_model!(r, "getrawmempool", get_raw_mempool_verbose());
    ask_model!(r, "getrawmempool", get_raw_mempool_sequence());
    let entry = ask_model!(r, "getmempoolentry", get_mempool_entry(last))?;
    assert_eq!(entry.0.ancestor_count, 2);
    ask_model!(r, "getmempoolancestors", get_mempool_ancestors(last));
    ask_model!(r, "getmempoolancestors", get_mempool_ancestors_verbose(last));
    ask_model!(r, "getmempooldescendants", get_mempool_descendants(first));
    ask_model!(r, "getmempooldescendants", get_mempool_descendants_verbose(first));
    ask_model!(r, "getmempoolcluster", get_mempool_cluster(first));
    ask_model!(r, "getmempoolfeeratediagram", get_mempool_feerate_diagram());
    ask_model!(r, "getmempoolinfo", get_mempool_info());
    ask_model!(r, "gettxspendingprevout", get_tx_spending_prevout(&[parent.input[0].previous_output]));
    ask_model!(r, "gettxspendingprevout", get_tx_spending_prevout(&[OutPoint::new(last, 0)]));
    ask!(r, "prioritisetransaction", prioritise_transaction(&first, SignedAmount::from_sat(500)));
    let prioritised = ask_model!(r, "getprioritisedtransactions", get_prioritised_transactions());
    assert_eq!(prioritised?.0.len(), 1);
    let saved = ask!(r, "savemempool", save_mempool())?;
    ask!(r, "importmempool", import_mempool(&saved.filename));

    let mined = &scene.mined;
    let txid = mined.compute_txid();
    ask_model!(r, "getrawtransaction", get_raw_transaction(last));
    ask_model!(r, "getrawtransaction", get_raw_transaction_verbose(last));
    let place = [json!(txid), json!(1), json!(scene.mined_in)];
    let detailed = r.client.call::<types::GetRawTransactionVerbose>("getrawtransaction", &place);
    let detailed = r.reply("getrawtransaction", detailed);
    r.model("getrawtransaction", detailed.map(|reply| reply.into_model()));
    ask_model!(r, "getrawtransaction", get_raw_transaction(txid));
    ask_model!(r, "getrawtransaction", get_raw_transaction_verbose(txid));
    ask_model!(r, "decoderawtransaction", decode_raw_transaction(mined));
    for output in &mined.output {
        ask_model!(r, "decodescript", decode_script(&output.script_pubkey.to_hex_string()));
    }
    ask_model!(r, "gettxout", get_tx_out(txid, 0));
    let proof = ask!(r, "gettxoutproof", get_tx_out_proof(&[txid]))?;
    let proved = ask_model!(r, "verifytxoutproof", verify_tx_out_proof(&proof));
    assert_eq!(proved?.0, [txid]);

    let coin = Coin::of(mined, 4, ScriptKind::P2wpkh, 14);
    let mut output = coin.owned.output.clone();
    output.value -= FEE;
    let bare = unsigned(&[coin], vec![output]);
    let key = private_key(&scene.signer, 14);
    let signed = ask_model!(r, "signrawtransactionwithkey", sign_raw_transaction_with_key(&bare, &[key]))?;
    assert!(signed.complete);
    ask_model!(r, "combinerawtransaction", combine_raw_transaction(&[bare.clone(), signed.tx]));
    let home = address(&scene.script());
    let input = Input { txid, vout: 4, sequence: None };
    ask_model!(
        r,
        "createrawtransaction",
        create_raw_transaction(&[input], &[Output::new(home, Amount::from_sat(99_990_000))])
    );
    ask_model!(r, "converttopsbt", convert_to_psbt(&bare));
    // Removed from Core long ago.
    refused!(r, "signrawtransaction", -32601, sign_raw_transaction(&bare));
    // What Core answers while -privatebroadcast is off.
    refused!(r, "getprivatebroadcastinfo", -32601, get_private_broadcast_info());
    refused!(r, "abortprivatebroadcast", -32601, abort_private_broadcast(&txid.to_string()));
    Some(())
}

fn partially_signed(scene: &Scene, r: &mut Replies) -> Option<()> {
    // Not in a block: without -txindex only the mempool has the whole of what is spent.
    let txid = scene.parent.compute_txid();
    let home = address(&scene.script());
    let create = |r: &mut Replies, vouts: std::ops::Range<u32>| {
        let inputs: Vec<Input> =
            vouts.map(|vout| Input { txid, vout: vout.into(), sequence: None }).collect();
        let value = Amount::ONE_BTC * inputs.len() as u64 - FEE;
        let psbt = ask_model!(r, "createpsbt", create_psbt(&inputs, &[Output::new(home.clone(), value)]));
        psbt.map(|psbt| psbt.0)
    };
    let every = create(r, 0..u32::try_from(ScriptKind::ALL.len()).unwrap())?;
    ask_model!(r, "analyzepsbt", analyze_psbt(&every));
    ask_model!(r, "utxoupdatepsbt", utxo_update_psbt(&every));
    ask_model!(r, "decodepsbt", decode_psbt(&every.to_string()));

    // The ways of `Signer`, as descriptors with its keys.
    let descriptors: Vec<String> = (10..)
        .zip(ScriptKind::ALL)
        .map(|(key, kind)| {
            let own = private_key(&scene.signer, key);
            let other = scene.signer.public(key + 1);
            match kind {
                ScriptKind::P2pk => format!("pk({own})"),
                ScriptKind::P2pkh => format!("pkh({own})"),
                ScriptKind::BareMultisig => format!("multi(1,{own},{other})"),
                ScriptKind::P2shMultisig => format!("sh(multi(1,{own},{other}))"),
                ScriptKind::P2wpkh => format!("wpkh({own})"),
                ScriptKind::P2shP2wpkh => format!("sh(wpkh({own}))"),
                ScriptKind::P2wsh => format!("wsh(multi(1,{own},{other}))"),
                ScriptKind::P2shP2wsh => format!("sh(wsh(multi(1,{own},{other})))"),
                ScriptKind::P2trKey => format!("tr({own})"),
                ScriptKind::P2trScript => format!("tr({other},pk({own}))"),
            }
        })
        .collect();
    let process = |r: &mut Replies, psbt: &Psbt, finalize: bool| {
        let arguments =
            [json!(psbt.to_string()), json!(descriptors), json!("DEFAULT"), json!(true), json!(finalize)];
        let processed = r.client.call::<types::DescriptorProcessPsbt>("descriptorprocesspsbt", &arguments);
        let processed = r.reply("descriptorprocesspsbt", processed);
        r.model("descriptorprocesspsbt", processed.map(|reply| reply.into_model()))
    };
    let signed = process(r, &every, false)?;
    ask_model!(r, "analyzepsbt", analyze_psbt(&signed.psbt));
    // The crate's model takes no taproot signature of the default kind, which has 64 bytes.
    ask!(r, "decodepsbt", decode_psbt(&signed.psbt.to_string()));
    ask_model!(r, "combinepsbt", combine_psbt(&[every.clone(), signed.psbt.clone()]));
    // Of a finished input that has a `final_scriptSig`, the crate knows another spelling.
    let native = create(r, 4..5)?;
    let whole: Psbt = process(r, &native, true)?.psbt;
    ask_model!(r, "decodepsbt", decode_psbt(&whole.to_string()));
    let last = ask_model!(r, "finalizepsbt", finalize_psbt(&signed.psbt))?;
    assert!(last.complete);
    // The client asks for it not extracted.
    let last = last.psbt.unwrap().extract_tx_unchecked_fee_rate();
    let accepted = ask_model!(r, "testmempoolaccept", test_mempool_accept(&[last]));
    assert!(accepted?.results[0].allowed);

    let (one, another) = (create(r, 0..2)?, create(r, 2..4)?);
    ask_model!(r, "joinpsbts", join_psbts(&[one, another]));
    Some(())
}

fn chain(scene: &mut Scene, r: &mut Replies) -> Option<()> {
    scene.node.wait_for_indexes();
    let tip = scene.mined_in;
    assert_eq!(ask_model!(r, "getbestblockhash", get_best_block_hash())?.0, tip);
    assert_eq!(ask!(r, "getblockcount", get_block_count())?.0, 301);
    assert_eq!(ask_model!(r, "getblockhash", get_block_hash(301))?.0, tip);
    ask_model!(r, "getblockchaininfo", get_blockchain_info());
    for hash in [scene.blocks[0], tip] {
        ask_model!(r, "getblock", get_block_verbose_zero(hash));
        ask_model!(r, "getblock", get_block_verbose_one(hash));
        let two = r.plain::<types::GetBlockVerboseTwo>("getblock", &[json!(hash), json!(2)]);
        r.model("getblock", two.map(|reply| reply.into_model()));
        let three = r.plain::<types::GetBlockVerboseThree>("getblock", &[json!(hash), json!(3)]);
        r.model("getblock", three.map(|reply| reply.into_model()));
        ask_model!(r, "getblockheader", get_block_header(&hash));
        ask_model!(r, "getblockheader", get_block_header_verbose(&hash));
        ask_model!(r, "getblockstats", get_block_stats_by_block_hash(&hash, None));
        ask_model!(r, "getblockfilter", get_block_filter(hash));
        ask_model!(r, "getdeploymentinfo", get_deployment_info(&hash));
    }
    ask_model!(r, "getblockstats", get_block_stats_by_height(1, None));
    ask_model!(r, "getdeploymentinfo", get_deployment_info_tip());
    ask_model!(r, "getchainstates", get_chain_states());
    ask_model!(r, "getchaintips", get_chain_tips());
    ask_model!(r, "getchaintxstats", get_chain_tx_stats());
    ask!(r, "getdifficulty", get_difficulty());
    ask!(r, "getindexinfo", get_index_info());
    ask_model!(r, "gettxoutsetinfo", get_tx_out_set_info());
    for kind in ["muhash", "hash_serialized_3"] {
        let info = r.client.call::<types::GetTxOutSetInfo>("gettxoutsetinfo", &[json!(kind)]);
        let info = r.reply("gettxoutsetinfo", info);
        r.model("gettxoutsetinfo", info.map(|reply| reply.into_model()));
    }
    let at = [json!("muhash"), json!(scene.blocks[9])];
    let at = r.client.call::<types::GetTxOutSetInfo>("gettxoutsetinfo", &at);
    r.reply("gettxoutsetinfo", at);
    assert!(ask!(r, "verifychain", verify_chain())?.0);

    let descriptor = scene.descriptor();
    let objects = [descriptor.as_str()];
    ask_model!(r, "scantxoutset", scan_tx_out_set_start(&objects));
    ask!(r, "scantxoutset", scan_tx_out_set_status());
    ask!(r, "scantxoutset", scan_tx_out_set_abort());
    ask_model!(r, "scanblocks", scan_blocks_start(&objects));
    ask!(r, "scanblocks", scan_blocks_status());
    ask!(r, "scanblocks", scan_blocks_abort());
    // Blocks without a spend, and not the mempool: the crate knows `spend_vin` by another name.
    let arguments = [json!([scene.blocks[0], scene.blocks[1]]), json!(objects), json!(false)];
    let activity = r.plain::<types::GetDescriptorActivity>("getdescriptoractivity", &arguments);
    let activity = r.model("getdescriptoractivity", activity.map(|reply| reply.into_model()));
    assert_eq!(activity?.activity.len(), 2);

    let snapshot = scene.node.folder.path().join("coins.dat");
    let snapshot = snapshot.to_str().unwrap();
    ask_model!(r, "dumptxoutset", dump_tx_out_set(snapshot, "latest"));
    // No such snapshot is known to the chain parameters.
    refused!(r, "loadtxoutset", -32603, load_tx_out_set(snapshot));
    ask_model!(r, "waitforblock", wait_for_block(&tip));
    ask_model!(r, "waitforblockheight", wait_for_block_height(300));

    let pruned = client(&scene.peer);
    let reply = pruned.prune_blockchain(10);
    r.reply("pruneblockchain", reply);
    let reply = pruned.get_blockchain_info();
    let reply = r.reply("getblockchaininfo", reply);
    r.model("getblockchaininfo", reply.map(|reply| reply.into_model()));
    Some(())
}

fn mining(scene: &mut Scene, r: &mut Replies) -> Option<()> {
    let home = address(&scene.script());
    let descriptor = scene.descriptor();
    ask_model!(r, "getmininginfo", get_mining_info());
    ask!(r, "getnetworkhashps", get_network_hash_ps());
    let request = TemplateRequest { rules: vec![TemplateRules::Segwit], ..Default::default() };
    let template = ask_model!(r, "getblocktemplate", get_block_template(&request))?;
    assert_eq!(template.transactions.len(), 2);

    // Known by its header only, the block can be asked of the peer, which does not have it.
    let made = ask_model!(r, "generateblock", generate_block(&home.to_string(), &[], false))?;
    let block: Block = made.hex.unwrap();
    ask!(r, "submitheader", submit_header(&block.header));
    let peers = ask!(r, "getpeerinfo", get_peer_info())?;
    ask!(r, "getblockfrompeer", get_block_from_peer(block.block_hash(), peers.0[0].id));
    ask!(r, "submitblock", submit_block(&block));
    assert_eq!(r.client.best_block_hash().unwrap(), block.block_hash());
    ask!(r, "invalidateblock", invalidate_block(block.block_hash()));
    ask_model!(r, "getchaintips", get_chain_tips());
    ask!(r, "reconsiderblock", reconsider_block(block.block_hash()));
    ask!(r, "preciousblock", precious_block(block.block_hash()));
    ask_model!(r, "generatetodescriptor", generate_to_descriptor(1, &descriptor));
    ask!(r, "syncwithvalidationinterfacequeue", sync_with_validation_interface_queue());

    // It waits for the block after its arrival, so blocks come until it has one.
    let waited = AtomicBool::new(false);
    thread::scope(|scope| {
        let miner = client(&scene.node);
        scope.spawn(|| {
            let miner = miner;
            while !waited.load(Ordering::Relaxed) {
                miner.generate_to_address(1, &home).unwrap();
            }
        });
        let reply = r.client.wait_for_new_block();
        waited.store(true, Ordering::Relaxed);
        let reply = r.reply("waitfornewblock", reply);
        r.model("waitfornewblock", reply.map(|reply| reply.into_model()));
    });
    Some(())
}

fn network(scene: &mut Scene, r: &mut Replies) -> Option<()> {
    ask_model!(r, "getnetworkinfo", get_network_info());
    let version = r.client.check_expected_server_version();
    r.reply("getnetworkinfo", version);
    ask!(r, "getnettotals", get_net_totals());
    assert_eq!(ask!(r, "getconnectioncount", get_connection_count())?.0, 1);
    ask!(r, "getpeerinfo", get_peer_info());
    ask!(r, "ping", ping());
    let connected =
        ask!(r, "addconnection", add_connection(&scene.peer.address(), "outbound-full-relay", false));
    assert_eq!(connected?.address, scene.peer.address());
    scene.node.process.wait_until("getconnectioncount", &[], |count| *count == json!(2)).unwrap();
    let both = |peers: &Value| {
        peers.as_array().unwrap().iter().all(|peer| !peer["bytesrecv_per_msg"]["pong"].is_null())
    };
    scene.node.process.wait_until("getpeerinfo", &[], both).unwrap();
    ask!(r, "getpeerinfo", get_peer_info());
    ask!(r, "addnode", add_node(&scene.peer.address(), AddNodeCommand::Add));
    ask!(r, "getaddednodeinfo", get_added_node_info());
    ask!(r, "addnode", add_node(&scene.peer.address(), AddNodeCommand::Remove));
    ask!(r, "disconnectnode", disconnect_node(&scene.peer.address()));

    // A transaction that spends one which nobody has.
    let lost = pass_on(&scene.signer, &Coin::of(&scene.child, 0, ScriptKind::P2wpkh, KEY), FEE * 2);
    let orphan = pass_on(&scene.signer, &Coin::of(&lost, 0, ScriptKind::P2wpkh, KEY), FEE);
    let bytes = bitcoin::consensus::encode::serialize_hex(&orphan);
    scene.peer.process.rpc.call("sendmsgtopeer", &[json!(0), json!("tx"), json!(bytes)]).unwrap();
    scene.node.process.wait_until("getorphantxs", &[], |orphans| *orphans != json!([])).unwrap();
    ask_model!(r, "getorphantxs", get_orphan_txs());
    ask_model!(r, "getorphantxs", get_orphan_txs_verbosity_1());
    ask_model!(r, "getorphantxs", get_orphan_txs_verbosity_2());

    assert!(ask!(r, "addpeeraddress", add_peer_address("1.2.3.4", 8333))?.success);
    ask!(r, "getnodeaddresses", get_node_addresses());
    ask!(r, "getrawaddrman", get_raw_addrman());
    ask!(r, "getaddrmaninfo", get_addr_man_info());
    ask!(r, "setban", set_ban("10.9.8.0/24", SetBanCommand::Add));
    assert_eq!(ask!(r, "listbanned", list_banned())?.0.len(), 1);
    ask!(r, "setban", set_ban("10.9.8.0/24", SetBanCommand::Remove));
    ask!(r, "clearbanned", clear_banned());
    ask!(r, "setnetworkactive", set_network_active(true));
    assert_eq!(ask!(r, "getzmqnotifications", get_zmq_notifications())?.len(), 2);
    Some(())
}

fn util(scene: &Scene, r: &mut Replies) -> Option<()> {
    ask!(r, "getmemoryinfo", get_memory_info());
    ask!(r, "getrpcinfo", get_rpc_info());
    ask!(r, "help", help());
    ask!(r, "logging", logging());
    ask!(r, "uptime", uptime());
    ask_model!(r, "estimatesmartfee", estimate_smart_fee(6));
    ask_model!(r, "estimatesmartfee", estimate_smart_fee_with_mode(6, FeeEstimateMode::Conservative));
    ask_model!(r, "estimaterawfee", estimate_raw_fee(6));
    // What Core answers without -signer.
    refused!(r, "enumeratesigners", -1, enumerate_signers());
    ask!(r, "mockscheduler", mock_scheduler(1));

    let (key, other) = (scene.signer.public(KEY), scene.signer.public(KEY + 1));
    ask_model!(r, "createmultisig", create_multisig(1, vec![key, other]));
    for kind in ScriptKind::ALL {
        let script = scene.signer.script(kind, KEY);
        if let Ok(address) = bitcoin::Address::from_script(&script, bitcoin::Network::Regtest) {
            ask_model!(r, "validateaddress", validate_address(&address));
        }
    }
    let info = ask!(r, "getdescriptorinfo", get_descriptor_info(&scene.descriptor()))?;
    ask_model!(r, "deriveaddresses", derive_addresses(&info.descriptor));
    let extended = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    let both = format!("wpkh({extended}/<0;1>/*)");
    let info = ask!(r, "getdescriptorinfo", get_descriptor_info(&both))?;
    let both = format!("{both}#{}", info.checksum);
    ask_model!(r, "deriveaddresses", derive_addresses_multipath(&both, (0, 1)));

    let signing = private_key(&scene.signer, KEY);
    let signature = ask!(r, "signmessagewithprivkey", sign_message_with_privkey(&signing, "so it is"))?;
    let signature = MessageSignature::from_base64(&signature.0).unwrap();
    let owner = address(&scene.signer.script(ScriptKind::P2pkh, KEY));
    assert!(ask!(r, "verifymessage", verify_message(&owner, &signature, "so it is"))?.0);
    Some(())
}

/// Where cargo keeps the source of a dependency.
pub fn source_of(package: &str) -> PathBuf {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let found = packages.iter().find(|found| found["name"] == json!(package)).unwrap();
    PathBuf::from(found["manifest_path"].as_str().unwrap()).parent().unwrap().join("src")
}

/// The methods that the client calls or the types describe, but for the wallet's.
fn of_the_crates() -> BTreeSet<String> {
    let calls = fs::read_to_string(source_of("corepc-client").join("client_sync/v31/mod.rs")).unwrap();
    let calls = sections(&calls, "// == ", " ==")
        .filter_map(|line| line.strip_prefix("crate::impl_client_v")?.strip_suffix("!();")?.split_once("__"))
        .map(|(_, name)| name.replace('_', ""));
    let types = fs::read_to_string(source_of("corepc-types").join("v31/mod.rs")).unwrap();
    let types = sections(&types, "//! <summary> Methods from the == ", " == section </summary>")
        .filter_map(|line| line.strip_prefix("//! | ")?.split(' ').next())
        .filter(|name| name.chars().all(|char| char.is_ascii_lowercase()))
        .map(str::to_owned);
    let found: BTreeSet<String> = calls
        .chain(types)
        .map(|name| {
            NAMED_OTHERWISE
                .iter()
                .find(|(crates, _)| *crates == name)
                .map_or(name, |(_, ours)| (*ours).to_owned())
        })
        .filter(|name| !OF_THE_WALLET.contains(&name.as_str()))
        .collect();
    assert!(found.len() > 100, "the crates' lists are not where they were: {found:?}");
    found
}

/// The lines below the headings, but for those below the wallet's.
fn sections<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    let mut of_wallet = true;
    text.lines().filter(move |line| {
        if let Some(title) = line.strip_prefix(before).and_then(|line| line.strip_suffix(after)) {
            of_wallet = title == "Wallet";
        }
        !of_wallet
    })
}

#[test]
fn corepc_reads_every_reply() {
    let (mut scene, mut replies) = start();
    let r = &mut replies;
    transactions(&scene, r);
    partially_signed(&scene, r);
    chain(&mut scene, r);
    network(&mut scene, r);
    mining(&mut scene, r);
    util(&scene, r);
    let discovered: Value = r.client.call("rpc.discover", &[]).unwrap();
    ask!(r, "stop", stop());
    assert!(scene.node.process.wait().unwrap().success());

    assert!(r.wrong.is_empty(), "{} replies are not as described:\n{}", r.wrong.len(), r.wrong.join("\n"));
    let of_crates = of_the_crates();
    let unasked: Vec<_> = of_crates.iter().filter(|name| !r.asked.contains(name.as_str())).collect();
    assert!(unasked.is_empty(), "the crates know more methods than were called: {unasked:?}");
    let ours: BTreeSet<&str> = discovered["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method["name"].as_str().unwrap())
        .collect();
    let unlisted: Vec<_> =
        ours.iter().filter(|name| !r.asked.contains(**name) && !UNTYPED.contains(name)).collect();
    assert!(unlisted.is_empty(), "neither called nor listed as without a type: {unlisted:?}");
    let stale: Vec<_> =
        UNTYPED.iter().filter(|name| of_crates.contains(**name) || !ours.contains(**name)).collect();
    assert!(stale.is_empty(), "listed as without a type, wrongly: {stale:?}");
}

/// Without this the test above would show little.
#[test]
fn a_field_that_the_types_do_not_know_is_refused() {
    let known = json!({"filename": "mempool.dat"});
    serde_json::from_value::<types::SaveMempool>(known).unwrap();
    let unknown = json!({"filename": "mempool.dat", "bytes": 1});
    assert!(serde_json::from_value::<types::SaveMempool>(unknown).is_err());
}
