use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bitcoin::Network;
use serde_json::Value;

use super::*;
use crate::methods::psbt_text::decode_text;
use crate::results;

/// The vectors of BIP174, BIP370, BIP371 and BIP373, as Core keeps them.
fn vectors(kind: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../tests/vectors/psbt.json")).unwrap();
    all[kind].as_array().unwrap().clone()
}

fn bytes(base64: &Value) -> Vec<u8> {
    BASE64.decode(base64.as_str().unwrap()).unwrap()
}

fn packet(base64: &Value) -> Packet {
    Packet::read(&bytes(base64)).unwrap()
}

#[test]
fn what_is_no_psbt_is_refused() {
    for (i, vector) in vectors("invalid").iter().enumerate() {
        // Some are no base64 in the first place.
        let bytes = BASE64.decode(vector.as_str().unwrap()).unwrap_or_default();
        assert!(Packet::read(&bytes).is_err(), "{i}: {vector}");
    }
    for vector in vectors("invalid_with_msg") {
        let why = Packet::read(&bytes(&vector[0])).unwrap_err();
        let wanted = vector[1].as_str().unwrap();
        assert!(why.starts_with(wanted) && why.ends_with(": iostream error"), "{why}, not {wanted}");
    }
}

#[test]
fn what_is_read_is_written_and_told() {
    let shape = results::result("decodepsbt").unwrap();
    let mut versions = [0; 3];
    for (i, vector) in vectors("valid").iter().enumerate() {
        let first = packet(vector);
        versions[first.version as usize] += 1;
        let told = decode_text(&first, Network::Regtest);
        assert_eq!(shape.fault(&told), None, "{i}");
        let again = Packet::read(&first.write()).unwrap();
        assert_eq!(again.unsigned_tx(), first.unsigned_tx(), "{i}");
        assert_eq!(Packet::read(&again.write()).unwrap(), again, "{i}");
        // Nothing that stands in it is lost on the way through the other form.
        let Some(psbt) = first.to_psbt() else { continue };
        let mut updated = first.clone();
        updated.update(&psbt);
        assert_eq!(updated.write(), first.write(), "{i}");
    }
    assert!(versions[0] > 10 && versions[1] == 0 && versions[2] > 10, "{versions:?}");
}

#[test]
fn combining_joins_what_each_knows() {
    for vector in vectors("combiner") {
        let mut all = vector["combine"].as_array().unwrap().iter().map(packet);
        let mut merged = all.next().unwrap();
        assert!(all.all(|next| merged.merge(next)));
        assert_eq!(BASE64.encode(merged.write()), vector["result"].as_str().unwrap());
    }
}

fn spending(locks: &[(Option<u32>, Option<u32>)], fallback: Option<u32>) -> Packet {
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn::default(); locks.len()],
        output: vec![TxOut { value: Amount::from_sat(7), script_pubkey: ScriptBuf::new() }],
    };
    let mut packet = Packet::new(&tx, 2);
    packet.global.remove([global::FALLBACK_LOCKTIME].as_slice());
    if let Some(fallback) = fallback {
        packet.global.insert(one(global::FALLBACK_LOCKTIME), fallback.to_le_bytes().to_vec());
    }
    for (pairs, (height, time)) in packet.inputs.iter_mut().zip(locks) {
        let mut put = |kind, lock: &Option<u32>| {
            if let Some(lock) = lock {
                pairs.insert(one(kind), lock.to_le_bytes().to_vec());
            }
        };
        put(input::HEIGHT_LOCKTIME, height);
        put(input::TIME_LOCKTIME, time);
    }
    packet
}

/// BIP370, "Determining Lock Time".
#[test]
fn the_lock_time_suits_every_input() {
    const T: u32 = 1_657_048_460;
    let (none, h, t, both) =
        ((None, None), |h| (Some(h), None), |t| (None, Some(t)), |h, t| (Some(h), Some(t)));
    for (locks, fallback, wanted) in [
        (vec![none, none], None, Some(0)),
        (vec![none, none], Some(5), Some(5)),
        (vec![h(10_000), none], Some(5), Some(10_000)),
        (vec![h(10_000), h(9_000)], None, Some(10_000)),
        (vec![h(10_000), both(9_000, T)], None, Some(10_000)),
        (vec![both(9_000, T + 1), both(10_000, T)], None, Some(10_000)),
        (vec![t(T), both(9_000, T - 1)], None, Some(T)),
        (vec![none, t(T)], None, Some(T)),
        (vec![none, both(10_000, T)], None, Some(10_000)),
        (vec![h(10_000), t(T)], None, None),
    ] {
        let packet = spending(&locks, fallback);
        let got = packet.unsigned_tx().map(|tx| tx.lock_time.to_consensus_u32());
        assert_eq!(got, wanted, "{locks:?}");
        let again = Packet::read(&packet.write()).unwrap();
        assert_eq!(again.unsigned_tx(), packet.unsigned_tx());
    }
}

#[test]
fn version_2_combines_flags_and_what_is_left_open() {
    let flags = |flags: u8| {
        let mut packet = spending(&[(None, None)], None);
        packet.global.insert(one(global::TX_MODIFIABLE), one(flags));
        packet.inputs[0].remove([input::SEQUENCE].as_slice());
        packet
    };
    let mut merged = flags(0b011);
    let mut other = flags(0b101);
    other.inputs[0].insert(one(input::SEQUENCE), 9_u32.to_le_bytes().to_vec());
    assert!(merged.merge(other));
    assert_eq!(value(&merged.global, global::TX_MODIFIABLE), Some([0b101].as_slice()));
    assert_eq!(merged.unsigned_tx().unwrap().input[0].sequence, Sequence(9));
    // Another version, and a transaction that cannot be, are not combined.
    let tx = merged.unsigned_tx().unwrap();
    assert!(!merged.clone().merge(Packet::new(&tx, 0)));
    let open = spending(&[(Some(1), None), (None, Some(LOCKTIME))], None);
    assert!(!open.clone().merge(open));
}

const LOCKTIME: u32 = 500_000_000;

/// Core does not look whether a preimage belongs to its hash, and no program loses what it holds.
#[test]
fn what_only_core_understands_is_kept() {
    let mut packet = spending(&[(None, None)], None);
    let key = [vec![input::SHA256], vec![1; 32]].concat();
    packet.inputs[0].insert(key.clone(), vec![2]);
    let read = Packet::read(&packet.write()).unwrap();
    let mut psbt = read.to_psbt().unwrap();
    assert!(psbt.inputs[0].sha256_preimages.is_empty());
    psbt.inputs[0].redeem_script = Some(ScriptBuf::from(vec![0x51]));
    let mut updated = read;
    updated.update(&psbt);
    assert_eq!(updated.inputs[0].get(&key), Some(&vec![2]));
    assert_eq!(value(&updated.inputs[0], input::REDEEM_SCRIPT), Some([0x51].as_slice()));
    assert_eq!(updated.unsigned_tx(), packet.unsigned_tx());
}

/// A whole transaction is written without its witness, and a finished input without what led there.
#[test]
fn what_nobody_needs_is_not_written() {
    let mut coin = spending(&[(None, None)], None).unsigned_tx().unwrap();
    coin.input[0].witness.push([1]);
    let mut packet = spending(&[(None, None)], None);
    let outpoint = OutPoint { txid: coin.compute_txid(), vout: 0 };
    packet.inputs[0].insert(one(input::PREVIOUS_TXID), serialize(&outpoint.txid));
    packet.inputs[0].insert(one(input::OUTPUT_INDEX), serialize(&outpoint.vout));
    packet.inputs[0].insert(one(input::NON_WITNESS_UTXO), serialize(&coin));
    packet.inputs[0].insert(one(input::REDEEM_SCRIPT), vec![0x51]);
    let read = Packet::read(&packet.write()).unwrap();
    assert!(value(&read.inputs[0], input::REDEEM_SCRIPT).is_some());
    let kept: Transaction =
        encode::deserialize(value(&read.inputs[0], input::NON_WITNESS_UTXO).unwrap()).unwrap();
    assert!(kept.input[0].witness.is_empty() && kept.compute_txid() == outpoint.txid);
    packet.inputs[0].insert(one(input::SCRIPT_SIG), vec![0x51]);
    let read = Packet::read(&packet.write()).unwrap();
    assert!(value(&read.inputs[0], input::REDEEM_SCRIPT).is_none());
}
