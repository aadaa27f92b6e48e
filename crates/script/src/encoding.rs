use bitcoin::secp256k1::ecdsa::Signature;

use crate::{ScriptError, ScriptFlags};

/// Whether a signature with its hash type byte is strict DER (BIP66).
#[must_use]
pub fn is_strict_der_signature(sig: &[u8]) -> bool {
    // 0x30 total 0x02 len(R) R 0x02 len(S) S hashtype
    let integer = |bytes: &[u8]| match bytes {
        [] => false,
        [first, ..] if first & 0x80 != 0 => false,
        // A leading zero is there only to keep the number positive.
        [0, second, ..] => second & 0x80 != 0,
        _ => true,
    };
    if !(9..=73).contains(&sig.len()) {
        return false;
    }
    let [0x30, total, 0x02, r_len, rest @ ..] = sig else { return false };
    if usize::from(*total) != sig.len() - 3 {
        return false;
    }
    let Some((r, [0x02, s_len, s @ ..])) = rest.split_at_checked(usize::from(*r_len)) else { return false };
    let Some((s, [_hashtype])) = s.split_at_checked(usize::from(*s_len)) else { return false };
    integer(r) && integer(s)
}

/// Whether S is at most half the curve's order. Takes the signature without its hash type.
fn is_low_s(der: &[u8]) -> bool {
    Signature::from_der_lax(der).is_ok_and(|signature| {
        let mut low = signature;
        low.normalize_s();
        low == signature
    })
}

fn is_defined_hashtype(hashtype: u8) -> bool {
    (1..=3).contains(&(hashtype & !0x80))
}

/// Holds an ECDSA signature to the encoding rules that `flags` name (Core's
/// `CheckSignatureEncoding`). An empty one always passes: it is the compact way to say "none".
///
/// # Errors
/// The first rule that is broken.
pub fn signature_encoding(sig: &[u8], flags: ScriptFlags) -> Result<(), ScriptError> {
    let Some((hashtype, der)) = sig.split_last() else { return Ok(()) };
    let strict = ScriptFlags::DERSIG | ScriptFlags::LOW_S | ScriptFlags::STRICTENC;
    if flags.intersects(strict) && !is_strict_der_signature(sig) {
        return Err(ScriptError::SigDer);
    }
    if flags.contains(ScriptFlags::LOW_S) && !is_low_s(der) {
        return Err(ScriptError::SigHighS);
    }
    if flags.contains(ScriptFlags::STRICTENC) && !is_defined_hashtype(*hashtype) {
        return Err(ScriptError::SigHashtype);
    }
    Ok(())
}

/// Whether the bytes have a compressed key's length and prefix.
fn is_compressed_key(key: &[u8]) -> bool {
    key.len() == 33 && matches!(key.first(), Some(2 | 3))
}

/// Holds a public key to the encoding rules that `flags` name.
pub fn key_encoding(key: &[u8], flags: ScriptFlags, segwit: bool) -> Result<(), ScriptError> {
    let uncompressed = key.len() == 65 && key.first() == Some(&4);
    if flags.contains(ScriptFlags::STRICTENC) && !uncompressed && !is_compressed_key(key) {
        return Err(ScriptError::PubkeyType);
    }
    if flags.contains(ScriptFlags::WITNESS_PUBKEYTYPE) && segwit && !is_compressed_key(key) {
        return Err(ScriptError::WitnessPubkeyType);
    }
    Ok(())
}
