use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use ironpeer_script::{ScriptFlags, SpendContext, verify_input};

use super::*;

const TXID: &str = "897c6a919c8fbc8b4f1b6b6a8b3ffbfd7ecb9dbd3c4f9d7a4b3d3f5f1a2b3c4d";
/// The generator, and twice it.
const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const KEY2: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
const LONG_KEY: &str = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
/// The private keys of both, for the test networks.
const WIF: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
const WIF2: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87K7XCyj5v";

fn on(network: Network, words: &[&str]) -> Result<Transaction, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Tool { network, registers: HashMap::new() }.transaction(&words, true)
}

fn made(words: &[&str]) -> Result<Transaction, String> {
    on(Network::Bitcoin, words)
}

/// The only output's script, in hex.
fn script(word: &str) -> String {
    let tx = made(&[word]).unwrap();
    hex::encode(tx.output[0].script_pubkey.as_bytes())
}

#[test]
fn a_transaction_is_built_command_by_command() {
    let input = format!("in={TXID}:2:9");
    let tx = made(&[
        "nversion=1",
        "locktime=317000",
        &format!("in={TXID}:0"),
        &input,
        "replaceable=0",
        "outaddr=0.5:1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
        "outdata=00ff",
        "delout=0",
    ])
    .unwrap();
    assert_eq!((tx.version, tx.lock_time.to_consensus_u32()), (Version::ONE, 317_000));
    let inputs: Vec<_> =
        tx.input.iter().map(|input| (input.previous_output.vout, input.sequence.0)).collect();
    assert_eq!(inputs, [(0, 0xffff_fffd), (2, 9)]);
    assert_eq!(tx.input[0].previous_output.txid.to_string(), TXID);
    assert_eq!(
        tx.output,
        [TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_hex("6a0200ff").unwrap() }]
    );
    assert_eq!(made(&[]).map(|tx| offline::transaction_hex(&tx)).unwrap(), "02000000000000000000");
}

#[test]
fn outputs_take_every_form() {
    assert_eq!(
        script("outaddr=1:1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
        "76a91477bff20c60e522dfaa3350c39b030a5d004e839a88ac"
    );
    // The key's hashes are those of BIP173's example.
    assert_eq!(script(&format!("outpubkey=1:{KEY}")), format!("21{KEY}ac"));
    assert_eq!(script(&format!("outpubkey=1:{KEY}:W")), "0014751e76e8199196d454941c45d1b3a323f1433bd6");
    assert_eq!(script(&format!("outpubkey=1:{KEY}:WS")), "a914bcfeb728b584253d5f3f70bcb780e9ef218a68f487");
    assert_eq!(script(&format!("outmultisig=1:1:2:{KEY}:{KEY2}")), format!("5121{KEY}21{KEY2}52ae"));
    assert_eq!(script("outscript=0:1 OP_DROP 0x51 'a'"), "5175510161");
    let witness = made(&["outscript=0:1 DROP:W"]).unwrap().output[0].script_pubkey.clone();
    assert_eq!(witness, ScriptBuf::from_hex("5175").unwrap().to_p2wsh());
    assert_eq!(script("outscript=0:1 DROP:WS"), hex::encode(witness.to_p2sh().as_bytes()));
    assert_eq!(made(&["outdata=0.00000001:ff"]).unwrap().output[0].value, Amount::from_sat(1));
}

#[test]
fn wrong_commands_have_cores_texts() {
    let too_long = "1 ".repeat(MAX_SCRIPT_SIZE + 1);
    let too_long_to_push = "1 ".repeat(MAX_ELEMENT + 1);
    let cases = [
        ("moon=1".to_owned(), "unknown command"),
        ("nversion=0".to_owned(), "Invalid TX version requested: '0'"),
        ("nversion=4".to_owned(), "Invalid TX version requested: '4'"),
        ("locktime=-1".to_owned(), "Invalid TX locktime requested: '-1'"),
        ("replaceable=0".to_owned(), "Invalid TX input index '0'"),
        ("delin=0".to_owned(), "Invalid TX input index '0'"),
        ("delout=x".to_owned(), "Invalid TX output index 'x'"),
        (format!("in={TXID}"), "TX input missing separator"),
        ("in=00:0".to_owned(), "invalid TX input txid"),
        (format!("in={TXID}:111112"), "invalid TX input vout '111112'"),
        (format!("in={TXID}:0:4294967296"), "invalid TX sequence id '4294967296'"),
        ("outaddr=1".to_owned(), "TX output missing or too many separators"),
        ("outaddr=x:1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2".to_owned(), "invalid TX output value"),
        ("outaddr=1:2N3oefVeg6stiTb5Kh3ozCSkaqmx91FDbsm".to_owned(), "invalid TX output address"),
        (format!("outpubkey=1:{KEY}:W:S"), "TX output missing or too many separators"),
        ("outpubkey=1:02".to_owned(), "invalid TX output pubkey"),
        (format!("outpubkey=1:{LONG_KEY}:W"), "Uncompressed pubkeys are not useable for SegWit outputs"),
        ("outmultisig=1:1".to_owned(), "Not enough multisig parameters"),
        (format!("outmultisig=1:x:1:{KEY}"), "invalid multisig required number 'x'"),
        (format!("outmultisig=1:1:y:{KEY}"), "invalid multisig total number 'y'"),
        (format!("outmultisig=1:1:2:{KEY}"), "incorrect number of multisig pubkeys"),
        (format!("outmultisig=1:2:1:{KEY}"), "multisig parameter mismatch. Required 2 of 1signatures."),
        (format!("outmultisig=1:1:1:{KEY}:W:S"), "Too many parameters"),
        (
            format!("outmultisig=1:1:1:{LONG_KEY}:W"),
            "Uncompressed pubkeys are not useable for SegWit outputs",
        ),
        ("outscript=1".to_owned(), "TX output missing separator"),
        ("outscript=1:MOON".to_owned(), "script parse error: unknown opcode"),
        (format!("outscript=1:{too_long}"), "script exceeds size limit: 10001 > 10000"),
        (format!("outscript=1:{too_long_to_push}:S"), "redeemScript exceeds size limit: 521 > 520"),
        ("outdata=:ff".to_owned(), "TX output value not specified"),
        ("outdata=f".to_owned(), "invalid TX output data"),
        ("outdata=".to_owned(), "invalid TX output data"),
        ("sign=MOON".to_owned(), "unknown sighash flag/sign option"),
        ("sign=ALL".to_owned(), "privatekeys register variable must be set."),
        ("set=a".to_owned(), "Register input requires NAME:VALUE"),
        ("set=a:{".to_owned(), "Cannot parse JSON for key a"),
        ("load=a:".to_owned(), "Register load requires NAME:FILENAME"),
        ("load=a:/nowhere/at/all".to_owned(), "Cannot open file /nowhere/at/all"),
    ];
    for (word, error) in cases {
        assert_eq!(made(&[&word]).unwrap_err(), error, "{:.60}", word);
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let not_made = |list: &[&str]| {
        Tool { network: Network::Bitcoin, registers: HashMap::new() }.transaction(&words(list), false)
    };
    assert_eq!(not_made(&[]).unwrap_err(), "too few parameters");
    assert_eq!(not_made(&["00"]).unwrap_err(), "invalid transaction encoding");
    let outputs_only = "02000000000100e1f50500000000015100000000";
    assert_eq!(not_made(&[outputs_only]).unwrap(), deserialize_legacy(outputs_only));
}

/// What looks like a witness form and is none.
fn deserialize_legacy(hex: &str) -> Transaction {
    ironpeer_consensus::decode_tx_no_witness(&hex::decode(hex).unwrap()).unwrap()
}

#[test]
fn registers_that_do_not_fit_have_cores_texts() {
    let keys = format!("set=privatekeys:[\"{WIF}\"]");
    let member = |rest: &str| format!("set=prevtxs:[{{\"txid\":\"{TXID}\",{rest}}}]");
    for (prevtxs, error) in [
        ("set=prevtxs:[1]".to_owned(), "expected prevtxs internal object"),
        ("set=prevtxs:[{}]".to_owned(), "prevtxs internal object typecheck fail"),
        (
            "set=prevtxs:[{\"txid\":\"00\",\"vout\":0,\"scriptPubKey\":\"51\"}]".to_owned(),
            "txid must be hexadecimal string (not '00')",
        ),
        (member("\"vout\":-1,\"scriptPubKey\":\"51\""), "vout cannot be negative"),
        (member("\"vout\":0,\"scriptPubKey\":\"5\""), "scriptPubKey must be hexadecimal string (not '5')"),
        (member("\"vout\":0,\"scriptPubKey\":\"51\",\"amount\":\"x\""), "Invalid amount"),
        (member("\"vout\":0,\"scriptPubKey\":\"51\",\"amount\":-1"), "Amount out of range"),
        (
            format!(
                "set=prevtxs:[{{\"txid\":\"{TXID}\",\"vout\":0,\"scriptPubKey\":\"51\"}},{{\"txid\":\"{TXID}\",\"vout\":0,\"scriptPubKey\":\"52\"}}]"
            ),
            "Previous output scriptPubKey mismatch:\n1\nvs:\n2",
        ),
    ] {
        assert_eq!(on(Network::Regtest, &[&keys, &prevtxs, "sign=ALL"]).unwrap_err(), error, "{prevtxs}");
    }
    assert_eq!(made(&[&keys, "set=prevtxs:[]", "sign=ALL"]).unwrap_err(), "privatekey not valid");
    assert_eq!(
        made(&["set=privatekeys:[1]", "set=prevtxs:[]", "sign=ALL"]).unwrap_err(),
        "privatekey not a std::string"
    );
    let keyhash = "0014751e76e8199196d454941c45d1b3a323f1433bd6";
    let prevtxs = member(&format!("\"vout\":0,\"scriptPubKey\":\"{keyhash}\""));
    let input = format!("in={TXID}:0");
    assert_eq!(
        on(Network::Regtest, &[&input, "outdata=00", &keys, &prevtxs, "sign=ALL"]).unwrap_err(),
        format!("Missing amount for CTxOut with scriptPubKey={keyhash}")
    );
}

/// What is signed satisfies the interpreter, whatever locks the coin and whatever is covered.
#[test]
fn signed_inputs_verify() {
    let multisig = ScriptBuf::from_hex(&format!("5221{KEY}21{KEY2}52ae")).unwrap();
    let keyhash = ScriptBuf::from_hex("0014751e76e8199196d454941c45d1b3a323f1433bd6").unwrap();
    let coins = [
        (ScriptBuf::from_hex(&format!("21{KEY}ac")).unwrap(), None),
        (ScriptBuf::from_hex("76a914751e76e8199196d454941c45d1b3a323f1433bd688ac").unwrap(), None),
        (keyhash.to_p2sh(), None),
        (keyhash, None),
        (multisig.to_p2sh(), Some(&multisig)),
        (multisig.to_p2wsh(), Some(&multisig)),
        (multisig.clone(), None),
    ];
    let mut words = Vec::new();
    let mut prevtxs = Vec::new();
    for (vout, (script, redeem)) in coins.iter().enumerate() {
        words.push(format!("in={TXID}:{vout}"));
        words.push("outdata=00".to_owned());
        let mut entry = serde_json::json!({
            "txid": TXID, "vout": vout, "scriptPubKey": hex::encode(script.as_bytes()), "amount": 0.5,
        });
        if let Some(redeem) = redeem {
            entry["redeemScript"] = hex::encode(redeem.as_bytes()).into();
        }
        prevtxs.push(entry);
    }
    words.push(format!("set=privatekeys:[\"{WIF}\",\"{WIF2}\"]"));
    words.push(format!("set=prevtxs:{}", Value::from(prevtxs)));
    let spent: Vec<TxOut> = coins
        .iter()
        .map(|(script, _)| TxOut { value: Amount::from_sat(50_000_000), script_pubkey: script.clone() })
        .collect();
    for flag in ["", "ALL", "NONE", "SINGLE", "ALL|ANYONECANPAY", "NONE|ANYONECANPAY", "SINGLE|ANYONECANPAY"]
    {
        let signed: Vec<String> = words.iter().cloned().chain([format!("sign={flag}")]).collect();
        let tx =
            Tool { network: Network::Regtest, registers: HashMap::new() }.transaction(&signed, true).unwrap();
        let again: Transaction = deserialize_hex(&serialize_hex(&tx)).unwrap();
        assert_eq!(again, tx);
        let mut context = SpendContext::new(&tx, &spent).unwrap();
        for index in 0..spent.len() {
            assert_eq!(verify_input(&mut context, index, ScriptFlags::STANDARD), Ok(()), "{flag} {index}");
        }
    }
}
