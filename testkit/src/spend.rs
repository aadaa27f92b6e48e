use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak, UntweakedPublicKey};
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TaprootBuilder, TaprootSpendInfo};
use bitcoin::{CompressedPublicKey, PublicKey, Script, ScriptBuf, Transaction, TxOut, Witness};

/// A way to lock an output that relays as standard.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScriptKind {
    P2pk,
    P2pkh,
    BareMultisig,
    P2shMultisig,
    P2wpkh,
    P2shP2wpkh,
    P2wsh,
    P2shP2wsh,
    P2trKey,
    P2trScript,
}

impl ScriptKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::P2pk,
        Self::P2pkh,
        Self::BareMultisig,
        Self::P2shMultisig,
        Self::P2wpkh,
        Self::P2shP2wpkh,
        Self::P2wsh,
        Self::P2shP2wsh,
        Self::P2trKey,
        Self::P2trScript,
    ];
}

/// An output of ours that a transaction spends.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The output.
    pub output: TxOut,
    /// How it is locked.
    pub kind: ScriptKind,
    /// Which of the signer's keys locks it.
    pub key: u32,
}

/// Keys counted from 1, and every standard way to lock and spend with them. Deterministic: the
/// same key number always gives the same script, and signatures need no randomness.
#[derive(Debug)]
pub struct Signer {
    secp: Secp256k1<All>,
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}

impl Signer {
    /// A signer; building one costs some milliseconds, so share it.
    #[must_use]
    pub fn new() -> Self {
        Self { secp: Secp256k1::new() }
    }

    fn keypair(&self, key: u32) -> Keypair {
        let mut bytes = [1u8; 32];
        bytes[28..].copy_from_slice(&key.to_be_bytes());
        Keypair::from_secret_key(
            &self.secp,
            &SecretKey::from_slice(&bytes).expect("far below the curve order"),
        )
    }

    /// A key, for clients that sign by themselves.
    #[must_use]
    pub fn secret(&self, key: u32) -> SecretKey {
        self.keypair(key).secret_key()
    }

    /// The public half of a key.
    #[must_use]
    pub fn public(&self, key: u32) -> PublicKey {
        PublicKey::new(self.keypair(key).public_key())
    }

    fn multisig(&self, key: u32) -> ScriptBuf {
        Builder::new()
            .push_int(1)
            .push_key(&self.public(key))
            .push_key(&self.public(key.wrapping_add(1)))
            .push_int(2)
            .push_opcode(OP_CHECKMULTISIG)
            .into_script()
    }

    fn p2wpkh(&self, key: u32) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&CompressedPublicKey(self.keypair(key).public_key()).wpubkey_hash())
    }

    fn tap_leaf(&self, key: u32) -> ScriptBuf {
        Builder::new()
            .push_x_only_key(&self.keypair(key).x_only_public_key().0)
            .push_opcode(OP_CHECKSIG)
            .into_script()
    }

    fn tap_tree(&self, key: u32) -> TaprootSpendInfo {
        let internal: UntweakedPublicKey = self.keypair(key.wrapping_add(1)).x_only_public_key().0;
        TaprootBuilder::new()
            .add_leaf(0, self.tap_leaf(key))
            .expect("depth 0 takes one leaf")
            .finalize(&self.secp, internal)
            .expect("one leaf at depth 0 is a whole tree")
    }

    /// The script that locks to a key.
    #[must_use]
    pub fn script(&self, kind: ScriptKind, key: u32) -> ScriptBuf {
        match kind {
            ScriptKind::P2pk => ScriptBuf::new_p2pk(&self.public(key)),
            ScriptKind::P2pkh => ScriptBuf::new_p2pkh(&self.public(key).pubkey_hash()),
            ScriptKind::BareMultisig => self.multisig(key),
            ScriptKind::P2shMultisig => ScriptBuf::new_p2sh(&self.multisig(key).script_hash()),
            ScriptKind::P2wpkh => self.p2wpkh(key),
            ScriptKind::P2shP2wpkh => ScriptBuf::new_p2sh(&self.p2wpkh(key).script_hash()),
            ScriptKind::P2wsh => self.multisig(key).to_p2wsh(),
            ScriptKind::P2shP2wsh => ScriptBuf::new_p2sh(&self.multisig(key).to_p2wsh().script_hash()),
            ScriptKind::P2trKey => {
                ScriptBuf::new_p2tr(&self.secp, self.keypair(key).x_only_public_key().0, None)
            }
            ScriptKind::P2trScript => ScriptBuf::new_p2tr_tweaked(self.tap_tree(key).output_key()),
        }
    }

    fn ecdsa(&self, key: u32, digest: [u8; 32]) -> Vec<u8> {
        let signature = self.secp.sign_ecdsa(&Message::from_digest(digest), &self.keypair(key).secret_key());
        bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All }.to_vec()
    }

    fn sign_legacy(
        &self,
        cache: &SighashCache<&Transaction>,
        input: usize,
        code: &Script,
        key: u32,
    ) -> Vec<u8> {
        let hash = cache
            .legacy_signature_hash(input, code, EcdsaSighashType::All.to_u32())
            .expect("the input exists");
        self.ecdsa(key, hash.to_byte_array())
    }

    /// Signs every input. `spent` names what each input spends, in input order.
    ///
    /// # Panics
    /// If `spent` and the inputs differ in number.
    pub fn sign(&self, tx: &mut Transaction, spent: &[Owned]) {
        assert_eq!(tx.input.len(), spent.len(), "one spent output an input");
        let prevouts: Vec<&TxOut> = spent.iter().map(|owned| &owned.output).collect();
        let unsigned = tx.clone();
        let mut cache = SighashCache::new(&unsigned);
        for (input, owned) in spent.iter().enumerate() {
            let (script_sig, witness) = self.satisfy(&mut cache, input, owned, &prevouts);
            tx.input[input].script_sig = script_sig;
            tx.input[input].witness = witness;
        }
    }

    fn satisfy(
        &self,
        cache: &mut SighashCache<&Transaction>,
        input: usize,
        owned: &Owned,
        prevouts: &[&TxOut],
    ) -> (ScriptBuf, Witness) {
        let Owned { output, kind, key } = owned;
        let key = *key;
        let p2wpkh = |cache: &mut SighashCache<&Transaction>| {
            let program = self.p2wpkh(key);
            let hash = cache
                .p2wpkh_signature_hash(input, &program, output.value, EcdsaSighashType::All)
                .expect("a P2WPKH program");
            Witness::from_slice(&[self.ecdsa(key, hash.to_byte_array()), self.public(key).to_bytes()])
        };
        let p2wsh = |cache: &mut SighashCache<&Transaction>| {
            let code = self.multisig(key);
            let hash = cache
                .p2wsh_signature_hash(input, &code, output.value, EcdsaSighashType::All)
                .expect("the input exists");
            Witness::from_slice(&[vec![], self.ecdsa(key, hash.to_byte_array()), code.into_bytes()])
        };
        match kind {
            ScriptKind::P2pk => {
                let signature = self.sign_legacy(cache, input, &output.script_pubkey, key);
                (pushes(&[signature]), Witness::new())
            }
            ScriptKind::P2pkh => {
                let signature = self.sign_legacy(cache, input, &output.script_pubkey, key);
                (pushes(&[signature, self.public(key).to_bytes()]), Witness::new())
            }
            ScriptKind::BareMultisig => {
                let signature = self.sign_legacy(cache, input, &output.script_pubkey, key);
                (pushes(&[vec![], signature]), Witness::new())
            }
            ScriptKind::P2shMultisig => {
                let code = self.multisig(key);
                let signature = self.sign_legacy(cache, input, &code, key);
                (pushes(&[vec![], signature, code.into_bytes()]), Witness::new())
            }
            ScriptKind::P2wpkh => (ScriptBuf::new(), p2wpkh(cache)),
            ScriptKind::P2shP2wpkh => (pushes(&[self.p2wpkh(key).into_bytes()]), p2wpkh(cache)),
            ScriptKind::P2wsh => (ScriptBuf::new(), p2wsh(cache)),
            ScriptKind::P2shP2wsh => (pushes(&[self.multisig(key).to_p2wsh().into_bytes()]), p2wsh(cache)),
            ScriptKind::P2trKey => {
                let hash = cache
                    .taproot_key_spend_signature_hash(
                        input,
                        &Prevouts::All(prevouts),
                        TapSighashType::Default,
                    )
                    .expect("all prevouts are given");
                let pair = self.keypair(key).tap_tweak(&self.secp, None).to_keypair();
                let signature =
                    self.secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash.to_byte_array()), &pair);
                (ScriptBuf::new(), Witness::from_slice(&[signature.as_ref()]))
            }
            ScriptKind::P2trScript => {
                let leaf = self.tap_leaf(key);
                let leaf_hash = TapLeafHash::from_script(&leaf, LeafVersion::TapScript);
                let hash = cache
                    .taproot_script_spend_signature_hash(
                        input,
                        &Prevouts::All(prevouts),
                        leaf_hash,
                        TapSighashType::Default,
                    )
                    .expect("all prevouts are given");
                let signature = self.secp.sign_schnorr_no_aux_rand(
                    &Message::from_digest(hash.to_byte_array()),
                    &self.keypair(key),
                );
                let control = self
                    .tap_tree(key)
                    .control_block(&(leaf.clone(), LeafVersion::TapScript))
                    .expect("the leaf is in the tree");
                let witness = Witness::from_slice(&[
                    signature.as_ref(),
                    leaf.as_bytes(),
                    control.serialize().as_slice(),
                ]);
                (ScriptBuf::new(), witness)
            }
        }
    }
}

fn pushes(items: &[Vec<u8>]) -> ScriptBuf {
    items
        .iter()
        .fold(Builder::new(), |builder, item| {
            if item.is_empty() {
                builder.push_int(0)
            } else {
                builder.push_slice(PushBytesBuf::try_from(item.clone()).expect("short enough to push"))
            }
        })
        .into_script()
}

#[cfg(test)]
#[path = "spend_tests.rs"]
mod tests;
