//! What is relayed at all: Core's `policy/policy.cpp`, looked at one transaction at a time.

use bitcoin::{Script, ScriptBuf, Transaction, TxOut};
use ironpeer_consensus::{is_unspendable, sigops};
use ironpeer_primitives::{TxClass, TxReject};
use ironpeer_script::{ScriptKind, Solution, is_push_only, push_stack, solve};

use crate::config::Config;
use crate::feerate::FeeRate;
use crate::limits;

/// Weight of a byte without witness.
const WITNESS_SCALE: u64 = 4;
/// First byte of an annex (BIP341).
const ANNEX_TAG: u8 = 0x50;
/// The control byte's bits that hold the leaf version, and tapscript's.
const LEAF_MASK: u8 = 0xfe;
const TAPSCRIPT_LEAF: u8 = 0xc0;

fn not_standard(reason: &'static str) -> TxReject {
    TxReject::new(TxClass::NotStandard, reason)
}

/// Value below which an output costs more to spend than it holds, in satoshi.
#[must_use]
pub fn dust_threshold(output: &TxOut, dust_relay: FeeRate) -> u64 {
    /// An input that spends it, without its script's witness part: outpoint, length, sequence.
    const INPUT: u64 = 32 + 4 + 1 + 4;
    /// A signature and a compressed key.
    const SPEND: u64 = 107;
    if is_unspendable(&output.script_pubkey) {
        return 0;
    }
    let spend = if output.script_pubkey.is_witness_program() { SPEND / WITNESS_SCALE } else { SPEND };
    dust_relay.fee(output.size() as u64 + INPUT + spend)
}

/// Whether an output is below [`dust_threshold`].
#[must_use]
pub fn is_dust(output: &TxOut, dust_relay: FeeRate) -> bool {
    output.value.to_sat() < dust_threshold(output, dust_relay)
}

/// Places of the outputs that are dust.
pub fn dust_outputs(tx: &Transaction, dust_relay: FeeRate) -> impl Iterator<Item = usize> {
    tx.output
        .iter()
        .enumerate()
        .filter(move |(_, output)| is_dust(output, dust_relay))
        .map(|(place, _)| place)
}

/// Weight with every signature operation counted as at least `bytes_per_sigop` vbytes' worth.
#[must_use]
pub fn adjusted_weight(weight: u64, sigop_cost: u64, bytes_per_sigop: u64) -> u64 {
    weight.max(sigop_cost.saturating_mul(bytes_per_sigop))
}

/// Weight in vbytes, rounded up.
#[must_use]
pub const fn vsize(weight: u64) -> u64 {
    weight.div_ceil(WITNESS_SCALE)
}

/// The transaction by itself: version, size, scripts, dust (`IsStandardTx`).
pub fn check_standard(tx: &Transaction, config: &Config) -> Result<(), TxReject> {
    if !(1..=limits::TRUC_VERSION).contains(&tx.version.0) {
        return Err(not_standard("version"));
    }
    if tx.weight().to_wu() > limits::MAX_STANDARD_TX_WEIGHT {
        return Err(not_standard("tx-size"));
    }
    for input in &tx.input {
        if input.script_sig.len() > limits::MAX_STANDARD_SCRIPTSIG_SIZE {
            return Err(not_standard("scriptsig-size"));
        }
        if !is_push_only(&input.script_sig) {
            return Err(not_standard("scriptsig-not-pushonly"));
        }
    }
    let mut data_left = u64::from(config.max_datacarrier_bytes.unwrap_or(0));
    for output in &tx.output {
        match solve(&output.script_pubkey) {
            Solution::NonStandard => return Err(not_standard("scriptpubkey")),
            Solution::MultiSig { keys, .. } if keys.len() > 3 => return Err(not_standard("scriptpubkey")),
            Solution::NullData => {
                let size = output.script_pubkey.len() as u64;
                data_left = data_left.checked_sub(size).ok_or_else(|| not_standard("datacarrier"))?;
            }
            Solution::MultiSig { .. } if !config.permit_bare_multisig => {
                return Err(not_standard("bare-multisig"));
            }
            _ => {}
        }
    }
    if dust_outputs(tx, config.dust_relay).count() > limits::MAX_DUST_OUTPUTS {
        return Err(not_standard("dust"));
    }
    Ok(())
}

/// The outputs that are spent, and what the input scripts reveal of them
/// (`ValidateInputsStandardness`).
pub fn check_inputs_standard(tx: &Transaction, spent: &[TxOut]) -> Result<(), TxReject> {
    let refuse = |debug: String| {
        Err(TxReject::new(TxClass::InputsNotStandard, "bad-txns-nonstandard-inputs").with_debug(debug))
    };
    let mut total = 0u64;
    for (input, output) in tx.input.iter().zip(spent) {
        let spk = &output.script_pubkey;
        total += u64::from(ironpeer_script::sigops(&input.script_sig));
        total += if spk.is_p2sh() {
            sigops::p2sh_sigops(&input.script_sig, spk)
        } else {
            u64::from(ironpeer_script::sigops(spk))
        };
        if total > u64::from(limits::MAX_TX_LEGACY_SIGOPS) {
            return refuse("non-witness sigops exceed bip54 limit".to_owned());
        }
    }
    for (place, (input, output)) in tx.input.iter().zip(spent).enumerate() {
        match solve(&output.script_pubkey).kind() {
            ScriptKind::NonStandard => return refuse(format!("input {place} script unknown")),
            ScriptKind::WitnessUnknown => {
                return refuse(format!("input {place} witness program is undefined"));
            }
            ScriptKind::ScriptHash => match push_stack(&input.script_sig) {
                Err(error) => return refuse(format!("p2sh scriptsig malformed (input {place}: {error})")),
                Ok(stack) => {
                    let Some(redeem) = stack.last() else {
                        return refuse(format!("input {place} P2SH redeemscript missing"));
                    };
                    let count = ironpeer_script::sigops(Script::from_bytes(redeem));
                    if count > limits::MAX_P2SH_SIGOPS {
                        return refuse(format!(
                            "p2sh redeemscript sigops exceed limit (input {place}: {count} > {})",
                            limits::MAX_P2SH_SIGOPS
                        ));
                    }
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// The redeem script of a P2SH input, as pushed last.
fn redeem_script(script_sig: &Script) -> Option<ScriptBuf> {
    push_stack(script_sig).ok()?.pop().map(ScriptBuf::from_bytes)
}

fn witness_is_standard(input: &bitcoin::TxIn, spent: &Script) -> bool {
    let witness = &input.witness;
    if witness.is_empty() {
        return true;
    }
    let p2sh = spent.is_p2sh();
    let redeem;
    let program = if p2sh {
        match redeem_script(&input.script_sig) {
            Some(script) => {
                redeem = script;
                redeem.as_script()
            }
            None => return false,
        }
    } else {
        spent
    };
    match solve(program).kind() {
        // An anchor is spent with an empty witness; within P2SH it is a plain unknown program.
        ScriptKind::Anchor => p2sh,
        ScriptKind::WitnessV0ScriptHash => {
            let script = witness.last().map_or(0, <[u8]>::len);
            let items = witness.len() - 1;
            script <= limits::MAX_STANDARD_P2WSH_SCRIPT_SIZE
                && items <= limits::MAX_STANDARD_P2WSH_STACK_ITEMS
                && witness
                    .iter()
                    .take(items)
                    .all(|item| item.len() <= limits::MAX_STANDARD_P2WSH_STACK_ITEM_SIZE)
        }
        ScriptKind::WitnessV1Taproot if !p2sh => {
            if witness.len() >= 2 && witness.last().and_then(<[u8]>::first) == Some(&ANNEX_TAG) {
                return false;
            }
            if witness.len() < 2 {
                return true;
            }
            match witness.last().and_then(<[u8]>::first) {
                None => false,
                Some(control) if control & LEAF_MASK == TAPSCRIPT_LEAF => witness
                    .iter()
                    .take(witness.len() - 2)
                    .all(|item| item.len() <= limits::MAX_STANDARD_TAPSCRIPT_STACK_ITEM_SIZE),
                Some(_) => true,
            }
        }
        _ => program.is_witness_program(),
    }
}

/// Witness sizes and forms (`IsWitnessStandard`).
pub fn check_witness_standard(tx: &Transaction, spent: &[TxOut]) -> Result<(), TxReject> {
    let standard =
        tx.input.iter().zip(spent).all(|(input, output)| witness_is_standard(input, &output.script_pubkey));
    if standard { Ok(()) } else { Err(TxReject::new(TxClass::WitnessMutated, "bad-witness-nonstandard")) }
}

/// Whether an input spends a witness program other than an anchor: if it has no witness then,
/// somebody may have taken it away (`SpendsNonAnchorWitnessProg`).
#[must_use]
pub fn spends_witness_program(tx: &Transaction, spent: &[TxOut]) -> bool {
    tx.input.iter().zip(spent).any(|(input, output)| {
        let spk = &output.script_pubkey;
        if spk.is_p2sh() {
            redeem_script(&input.script_sig).is_some_and(|redeem| redeem.is_witness_program())
        } else {
            spk.is_witness_program() && solve(spk).kind() != ScriptKind::Anchor
        }
    })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
