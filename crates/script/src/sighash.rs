use std::sync::OnceLock;

use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, VerifyOnly, XOnlyPublicKey, ecdsa, schnorr};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{Script, ScriptBuf, TapLeafHash, Transaction, TxOut};

use crate::{Ops, ScriptError};

/// The curve's precomputed context, which never changes once made.
pub fn curve() -> &'static Secp256k1<VerifyOnly> {
    static CURVE: OnceLock<Secp256k1<VerifyOnly>> = OnceLock::new();
    CURVE.get_or_init(Secp256k1::verification_only)
}

/// What a legacy signature hash was made of, and the hash: a script with thousands of checks of
/// the same kind hashes the transaction once.
struct Legacy {
    input: usize,
    hashtype: u8,
    code: Vec<u8>,
    hash: [u8; 32],
}

/// A transaction with the outputs it spends: all that its signatures may commit to.
pub struct SpendContext<'a> {
    tx: &'a Transaction,
    spent: &'a [TxOut],
    cache: SighashCache<&'a Transaction>,
    legacy: Vec<Legacy>,
}

/// Legacy hashes kept a transaction; Core keeps one for each of six hash types.
const LEGACY_HASHES: usize = 6;

impl<'a> SpendContext<'a> {
    /// Pairs a transaction with the outputs its inputs spend, in input order; `None` if the
    /// counts differ.
    #[must_use]
    pub fn new(tx: &'a Transaction, spent: &'a [TxOut]) -> Option<Self> {
        (tx.input.len() == spent.len()).then(|| Self {
            tx,
            spent,
            cache: SighashCache::new(tx),
            legacy: Vec::new(),
        })
    }

    /// The spending transaction.
    #[must_use]
    pub const fn tx(&self) -> &'a Transaction {
        self.tx
    }

    /// The output that input `index` spends.
    #[must_use]
    pub fn spent(&self, index: usize) -> Option<&'a TxOut> {
        self.spent.get(index)
    }

    fn legacy_hash(&mut self, input: usize, code: &[u8], hashtype: u8) -> Option<[u8; 32]> {
        let known =
            |known: &&Legacy| known.input == input && known.hashtype == hashtype && known.code == code;
        if let Some(known) = self.legacy.iter().find(known) {
            return Some(known.hash);
        }
        let stripped = without_code_separators(code);
        let hash =
            self.cache.legacy_signature_hash(input, &stripped, u32::from(hashtype)).ok()?.to_byte_array();
        if self.legacy.len() == LEGACY_HASHES {
            self.legacy.remove(0);
        }
        self.legacy.push(Legacy { input, hashtype, code: code.to_vec(), hash });
        Some(hash)
    }

    fn segwit_hash(&mut self, input: usize, code: &[u8], hashtype: u8) -> Option<[u8; 32]> {
        let value = self.spent.get(input)?.value;
        let kind = EcdsaSighashType::from_consensus(u32::from(hashtype));
        let mut bytes = Vec::with_capacity(code.len() + 200);
        self.cache
            .segwit_v0_encode_signing_data_to(&mut bytes, input, Script::from_bytes(code), value, kind)
            .ok()?;
        // The message ends in the hash type as signed, which may be none of the defined ones.
        bytes.truncate(bytes.len().checked_sub(4)?);
        bytes.extend(u32::from(hashtype).to_le_bytes());
        Some(sha256d::Hash::hash(&bytes).to_byte_array())
    }

    /// Whether an ECDSA signature with its hash type byte is right for input `input` and the
    /// script `code` (BIP143 with `segwit`, else the original form).
    pub fn check_ecdsa(&mut self, input: usize, sig: &[u8], key: &[u8], code: &[u8], segwit: bool) -> bool {
        let Some((hashtype, der)) = sig.split_last() else { return false };
        let Ok(key) = PublicKey::from_slice(key) else { return false };
        let hash = if segwit {
            self.segwit_hash(input, code, *hashtype)
        } else {
            self.legacy_hash(input, code, *hashtype)
        };
        let (Some(hash), Ok(mut signature)) = (hash, ecdsa::Signature::from_der_lax(der)) else {
            return false;
        };
        // High S is policy's matter; the curve library verifies only the low form.
        signature.normalize_s();
        curve().verify_ecdsa(&Message::from_digest(hash), &signature, &key).is_ok()
    }

    /// Checks a BIP340 signature with its optional hash type byte; `leaf` is the tapscript's hash
    /// and the position of its last executed `OP_CODESEPARATOR`.
    pub fn check_schnorr(
        &mut self,
        input: usize,
        sig: &[u8],
        key: &[u8],
        annex: Option<&[u8]>,
        leaf: Option<(TapLeafHash, u32)>,
    ) -> Result<(), ScriptError> {
        let (sig, hashtype) = match sig.len() {
            64 => (sig, 0),
            65 => match sig.split_last() {
                Some((hashtype, sig)) if *hashtype != 0 => (sig, *hashtype),
                _ => return Err(ScriptError::SchnorrSigHashtype),
            },
            _ => return Err(ScriptError::SchnorrSigSize),
        };
        let kind =
            TapSighashType::from_consensus_u8(hashtype).map_err(|_| ScriptError::SchnorrSigHashtype)?;
        let annex = annex.map(Annex::new).transpose().map_err(|_| ScriptError::SchnorrSigHashtype)?;
        let hash = self
            .cache
            .taproot_signature_hash(input, &Prevouts::All(self.spent), annex, leaf, kind)
            .map_err(|_| ScriptError::SchnorrSigHashtype)?;
        let verified = XOnlyPublicKey::from_slice(key)
            .ok()
            .zip(schnorr::Signature::from_slice(sig).ok())
            .is_some_and(|(key, sig)| {
                curve().verify_schnorr(&sig, &Message::from_digest(hash.to_byte_array()), &key).is_ok()
            });
        verified.then_some(()).ok_or(ScriptError::SchnorrSig)
    }
}

/// The script as legacy signatures commit to it.
fn without_code_separators(code: &[u8]) -> ScriptBuf {
    const CODE_SEPARATOR: u8 = 0xab;
    let mut out = Vec::with_capacity(code.len());
    let mut ops = Ops::new(Script::from_bytes(code));
    let mut kept = 0;
    loop {
        let at = ops.position();
        match ops.next() {
            Some(Ok(op)) if op.code == CODE_SEPARATOR => {
                out.extend(code.get(kept..at).unwrap_or_default());
                kept = op.end;
            }
            Some(Ok(_)) => {}
            // What cannot be read stays as it is.
            Some(Err(_)) | None => break,
        }
    }
    out.extend(code.get(kept..).unwrap_or_default());
    ScriptBuf::from_bytes(out)
}
