use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, TxOut, WPubkeyHash, WScriptHash};

use super::{adjusted_weight, dust_threshold, is_dust, vsize};
use crate::feerate::FeeRate;

fn output(script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::ZERO, script_pubkey }
}

/// The thresholds Core's documentation names for 3,000 satoshi per 1,000 vbytes.
#[test]
fn dust_depends_on_what_spending_costs() {
    let rate = FeeRate::from_sat_per_kvb(3_000);
    let p2pkh = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::all_zeros());
    let p2sh = ScriptBuf::new_p2sh(&bitcoin::ScriptHash::all_zeros());
    let p2wpkh = ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros());
    let p2wsh = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
    let anchor = ScriptBuf::from_bytes(vec![0x51, 2, 0x4e, 0x73]);
    for (script, threshold) in [(p2pkh, 546), (p2sh, 540), (p2wpkh, 294), (p2wsh, 330), (anchor, 240)] {
        let mut output = output(script);
        assert_eq!(dust_threshold(&output, rate), threshold);
        output.value = Amount::from_sat(threshold);
        assert!(!is_dust(&output, rate));
        output.value = Amount::from_sat(threshold - 1);
        assert!(is_dust(&output, rate));
    }
    // Never to be spent, so never dust.
    assert!(!is_dust(&output(ScriptBuf::from_bytes(vec![0x6a])), rate));
}

#[test]
fn sigops_weigh_at_least_their_share() {
    assert_eq!(adjusted_weight(1_000, 4, 20), 1_000);
    assert_eq!(adjusted_weight(1_000, 400, 20), 8_000);
    assert_eq!((vsize(0), vsize(1), vsize(4), vsize(5)), (0, 1, 1, 2));
}
