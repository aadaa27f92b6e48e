//! What a PSBT still lacks (`node/psbt.cpp`).

use bitcoin::hashes::{Hash, hash160, sha256};
use bitcoin::psbt::{Input, Psbt};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{Amount, PublicKey, Script, ScriptBuf, TxOut, Witness};
use ironpeer_consensus::{ScriptFlags, sigops};
use ironpeer_script::{MAX_SCRIPT_SIZE, Solution, solve};
use serde_json::Value;

use super::psbt::{is_verified, spent_output, wrong_hash_type};
use crate::json::{self, Object};

/// Bytes of a signature that is not there yet, its hash type included: one of 71 is the largest
/// that signers make.
const SIGNATURE_BYTES: usize = 71;
/// Bytes of a taproot signature with the default hash type.
const SCHNORR_BYTES: usize = 64;
/// Virtual bytes that one signature operation counts for at least (`-bytespersigop`).
const BYTES_PER_SIGOP: u64 = 20;

/// Who is to act next, in the order of BIP174.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Updater,
    Signer,
    Finalizer,
    Extractor,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Updater => "updater",
            Self::Signer => "signer",
            Self::Finalizer => "finalizer",
            Self::Extractor => "extractor",
        }
    }
}

/// What goes onto the stack.
type Items = Vec<Vec<u8>>;

/// What an input lacks, and the stack it will have.
#[derive(Default)]
struct Needs {
    keys: Vec<Value>,
    signatures: Vec<Value>,
    redeem_script: Option<String>,
    witness_script: Option<String>,
    /// With all signatures that are there, it can be finished.
    complete: bool,
    /// Final script and witness, with blanks for signatures that are not there.
    blank: Option<(ScriptBuf, Witness)>,
}

/// Walks through an input's scripts.
struct Walk<'a> {
    input: &'a Input,
    needs: Needs,
}

impl Walk<'_> {
    /// The signature of a key, or a blank one. A key counts once.
    fn signature(&mut self, key: &[u8]) -> (Vec<u8>, bool) {
        let known = PublicKey::from_slice(key).ok().and_then(|key| self.input.partial_sigs.get(&key));
        match known {
            Some(signature) => (signature.to_vec(), true),
            None => {
                let id = hex::encode(hash160::Hash::hash(key).as_byte_array());
                self.needs.signatures.push(id.into());
                (vec![0; SIGNATURE_BYTES], false)
            }
        }
    }

    /// The key of a hash, if the PSBT names it.
    fn key(&mut self, hash: &[u8]) -> Option<Vec<u8>> {
        let signed = self.input.partial_sigs.keys().map(|key| key.to_bytes());
        let derived = self.input.bip32_derivation.keys().map(|key| key.serialize().to_vec());
        let found =
            signed.chain(derived).find(|key| hash160::Hash::hash(key).as_byte_array().as_slice() == hash);
        if found.is_none() {
            self.needs.keys.push(hex::encode(hash).into());
        }
        found
    }

    /// The stack for a script without hashes of others, and whether all of it is there. `None` if
    /// it cannot be told.
    fn plain(&mut self, script: &Script) -> Option<(Items, bool)> {
        match solve(script) {
            Solution::PubKey(key) => {
                let (signature, there) = self.signature(key);
                Some((vec![signature], there))
            }
            Solution::PubKeyHash(hash) => self.key_hash(hash),
            Solution::MultiSig { required, keys } => {
                let signatures: Vec<_> = keys.iter().map(|key| self.signature(key)).collect();
                let there = signatures.iter().filter(|(_, there)| *there).count();
                let required = usize::from(required);
                // What is there goes before what is blank.
                let (mut stack, mut blanks) = (vec![Vec::new()], Vec::new());
                for (signature, there) in signatures {
                    if there { stack.push(signature) } else { blanks.push(signature) }
                }
                stack.extend(blanks);
                stack.truncate(required + 1);
                Some((stack, there >= required))
            }
            Solution::Anchor => Some((Vec::new(), true)),
            _ => None,
        }
    }

    fn key_hash(&mut self, hash: &[u8]) -> Option<(Items, bool)> {
        let key = self.key(hash)?;
        let (signature, there) = self.signature(&key);
        Some((vec![signature, key], there))
    }

    /// Script pushes and witness for an output's script, or for what stands behind its hash.
    fn spend(&mut self, script: &Script, in_hash: bool) -> Option<(Items, Items, bool)> {
        match solve(script) {
            Solution::ScriptHash(hash) if !in_hash => {
                let matching = |script: &&ScriptBuf| script.script_hash().as_byte_array().as_slice() == hash;
                let Some(redeem) = self.input.redeem_script.as_ref().filter(matching).cloned() else {
                    self.needs.redeem_script = Some(hex::encode(hash));
                    return None;
                };
                let (mut pushed, witness, there) = self.spend(&redeem, true)?;
                pushed.push(redeem.into_bytes());
                Some((pushed, witness, there))
            }
            Solution::WitnessV0KeyHash(hash) => {
                let (witness, there) = self.key_hash(hash)?;
                Some((Vec::new(), witness, there))
            }
            Solution::WitnessV0ScriptHash(hash) => {
                let matching = |script: &&ScriptBuf| {
                    sha256::Hash::hash(script.as_bytes()).as_byte_array().as_slice() == hash
                };
                let Some(inner) = self.input.witness_script.as_ref().filter(matching).cloned() else {
                    self.needs.witness_script = Some(hex::encode(hash));
                    return None;
                };
                let (mut witness, there) = self.plain(&inner)?;
                witness.push(inner.into_bytes());
                Some((Vec::new(), witness, there))
            }
            Solution::WitnessV1Taproot(_) if !in_hash => {
                let there = self.input.tap_key_sig.is_some();
                Some((Vec::new(), vec![vec![0; SCHNORR_BYTES]], there))
            }
            _ => {
                let (pushed, there) = self.plain(script)?;
                Some((pushed, Vec::new(), there))
            }
        }
    }
}

fn needs_of(input: &Input, output: &TxOut) -> Needs {
    // With a hash type of its own choosing it is nobody's to sign without being told so.
    if wrong_hash_type(input, &output.script_pubkey, None) {
        return Needs::default();
    }
    let mut walk = Walk { input, needs: Needs::default() };
    let spend = walk.spend(&output.script_pubkey, false);
    let mut needs = walk.needs;
    // Without the whole transaction only a witness commits to the amount.
    let unsafe_amount =
        input.non_witness_utxo.is_none() && matches!(&spend, Some((_, witness, _)) if witness.is_empty());
    needs.complete = matches!(spend, Some((_, _, true))) && !unsafe_amount;
    needs.blank = spend.filter(|_| !unsafe_amount).and_then(|(pushed, witness, _)| {
        let mut script = Builder::new();
        for item in pushed {
            script = script.push_slice(PushBytesBuf::try_from(item).ok()?);
        }
        Some((script.into_script(), Witness::from_slice(&witness)))
    });
    needs
}

struct InputAnalysis {
    has_utxo: bool,
    is_final: bool,
    next: Role,
    needs: Needs,
}

impl InputAnalysis {
    fn print(self) -> Value {
        let mut out = Object::new();
        out.push("has_utxo", self.has_utxo);
        out.push("is_final", self.is_final);
        out.push("next", self.next.name());
        if !self.needs.complete && self.has_utxo && !self.is_final {
            let mut missing = Object::new();
            let Needs { keys, signatures, redeem_script, witness_script, .. } = self.needs;
            let some = |list: Vec<Value>| (!list.is_empty()).then_some(list);
            let any = !keys.is_empty()
                || !signatures.is_empty()
                || redeem_script.is_some()
                || witness_script.is_some();
            missing.push_some("pubkeys", some(keys));
            missing.push_some("redeemscript", redeem_script);
            missing.push_some("witnessscript", witness_script);
            missing.push_some("signatures", some(signatures));
            if any {
                out.push("missing", Value::from(missing));
            }
        }
        out.into()
    }
}

/// The answer for a PSBT that can become no valid transaction.
pub(super) fn invalid(error: String) -> Value {
    let mut out = Object::new();
    // Core begins anew here, with the creator.
    out.push("next", "creator");
    out.push("error", error);
    out.into()
}

/// Virtual size of the finished transaction, if every input's form is known.
fn estimated_size(psbt: &Psbt, inputs: &[InputAnalysis], spent: &[TxOut]) -> Option<u64> {
    let mut tx = psbt.unsigned_tx.clone();
    for ((spending, input), analysis) in tx.input.iter_mut().zip(&psbt.inputs).zip(inputs) {
        (spending.script_sig, spending.witness) = if analysis.is_final {
            (
                input.final_script_sig.clone().unwrap_or_default(),
                input.final_script_witness.clone().unwrap_or_default(),
            )
        } else {
            analysis.needs.blank.clone()?
        };
    }
    let sigops = sigops::tx_sigop_cost(&tx, spent, ScriptFlags::MANDATORY);
    Some(tx.weight().to_wu().max(sigops * BYTES_PER_SIGOP).div_ceil(4))
}

/// State and needs of every input, and what can be said of the whole.
pub(super) fn analyze(psbt: &Psbt) -> Value {
    let mut paid = Some(Amount::ZERO);
    let mut inputs = Vec::with_capacity(psbt.inputs.len());
    let mut spent = Vec::new();
    for (index, input) in psbt.inputs.iter().enumerate() {
        let Some(output) = spent_output(psbt, index) else {
            paid = None;
            let needs = Needs::default();
            inputs.push(InputAnalysis { has_utxo: false, is_final: false, next: Role::Updater, needs });
            continue;
        };
        let sum =
            spent.iter().try_fold(output.value, |sum: Amount, other: &TxOut| sum.checked_add(other.value));
        if sum.is_none_or(|sum| sum > Amount::MAX_MONEY) {
            return invalid(format!("PSBT is not valid. Input {index} has invalid value"));
        }
        let script = &output.script_pubkey;
        if script.is_op_return() || script.len() > MAX_SCRIPT_SIZE {
            return invalid(format!("PSBT is not valid. Input {index} spends unspendable output"));
        }
        spent.push(output.clone());
        let is_final = is_verified(psbt, index);
        let needs = if is_final { Needs::default() } else { needs_of(input, output) };
        let next = if is_final {
            Role::Extractor
        } else if needs.complete {
            Role::Finalizer
        } else if needs.keys.is_empty()
            && needs.redeem_script.is_none()
            && needs.witness_script.is_none()
            && !needs.signatures.is_empty()
        {
            Role::Signer
        } else {
            Role::Updater
        };
        inputs.push(InputAnalysis { has_utxo: true, is_final, next, needs });
    }
    let next = inputs.iter().map(|input| input.next).min().unwrap_or(Role::Extractor);
    let mut figures = Object::new();
    if paid.is_some() {
        let total = |outputs: &[TxOut]| {
            outputs.iter().try_fold(Amount::ZERO, |sum, output| {
                sum.checked_add(output.value).filter(|sum| *sum <= Amount::MAX_MONEY)
            })
        };
        let Some(got) = total(&psbt.unsigned_tx.output) else {
            return invalid("PSBT is not valid. Output amount invalid".into());
        };
        let sats = |amount: Amount| i64::try_from(amount.to_sat()).unwrap_or(i64::MAX);
        let fee = sats(total(&spent).unwrap_or(Amount::ZERO)) - sats(got);
        if let Some(vsize) = estimated_size(psbt, &inputs, &spent) {
            figures.push("estimated_vsize", vsize);
            let size = i64::try_from(vsize.max(1)).unwrap_or(i64::MAX);
            figures.push("estimated_feerate", json::sats(fee.saturating_mul(1_000).div_euclid(size)));
        }
        figures.push("fee", json::sats(fee));
    }
    let mut out = Object::new();
    if !inputs.is_empty() {
        out.push("inputs", inputs.into_iter().map(InputAnalysis::print).collect::<Vec<_>>());
    }
    out.extend(figures);
    out.push("next", next.name());
    out.into()
}
