//! The relay-policy interpreter against libbitcoinkernel: under the rules of consensus they must
//! agree on every script. The kernel's word counts; a difference would be a bug of ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::key::{Keypair, TapTweak, UntweakedPublicKey};
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_CODESEPARATOR, OP_DROP};
use bitcoin::script::PushBytesBuf;
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use ironpeer_consensus::{ScriptCache, ScriptFailure, TxScriptCheck};
use ironpeer_primitives::ScriptFlags;
use ironpeer_script::{ScriptError, SpendContext, verify_input};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Counts how often both sides said yes and no, so that a test which never sees one of them fails.
struct Agreement {
    cache: ScriptCache,
    yes: usize,
    no: usize,
}

impl Agreement {
    fn new() -> Self {
        Self { cache: ScriptCache::new(0, [0; 32]), yes: 0, no: 0 }
    }

    /// Judges all inputs on both sides. The kernel stops at the first that fails.
    fn check(&mut self, tx: &Transaction, spent: &[TxOut], flags: ScriptFlags) -> Result<(), usize> {
        let check = TxScriptCheck::new(Arc::new(tx.clone()), spent.to_vec(), flags);
        let kernel = match check.verify(&self.cache) {
            Ok(()) => Ok(()),
            Err(ScriptFailure::Invalid { input }) => Err(input),
            Err(failure) => panic!("{failure}"),
        };
        let mut context = SpendContext::new(tx, spent).unwrap();
        let mut failure: Option<ScriptError> = None;
        let ours = (0..spent.len()).try_for_each(|input| {
            verify_input(&mut context, input, flags).map_err(|error| {
                failure = Some(error);
                input
            })
        });
        let names = || flags.names().collect::<Vec<_>>();
        assert_eq!(ours, kernel, "{failure:?} under {:?}: {tx:?} spending {spent:?}", names());
        if kernel.is_ok() {
            self.yes += 1
        } else {
            self.no += 1
        }
        kernel
    }
}

fn output(script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(5_000), script_pubkey }
}

/// A transaction with so many inputs and outputs; what it spends is told to the check alone.
fn transaction(inputs: usize, outputs: usize) -> Transaction {
    let input = |n: usize| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout: n as u32 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence(n as u32),
        witness: Witness::new(),
    };
    let pays = |n: usize| TxOut { value: Amount::from_sat(n as u64), script_pubkey: op_true() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(100),
        input: (0..inputs).map(input).collect(),
        output: (0..outputs).map(pays).collect(),
    }
}

fn op_true() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

fn push(bytes: &[u8]) -> ScriptBuf {
    ScriptBuf::builder().push_slice(PushBytesBuf::try_from(bytes.to_vec()).unwrap()).into_script()
}

fn concat(scripts: &[&Script]) -> ScriptBuf {
    ScriptBuf::from_bytes(scripts.iter().flat_map(|script| script.to_bytes()).collect())
}

struct Key {
    curve: Secp256k1<All>,
    secret: SecretKey,
}

impl Key {
    fn new() -> Self {
        Self { curve: Secp256k1::new(), secret: SecretKey::from_slice(&[0x42; 32]).unwrap() }
    }

    fn public(&self) -> [u8; 33] {
        self.secret.public_key(&self.curve).serialize()
    }

    fn ecdsa(&self, hash: [u8; 32], hash_type: u8) -> Vec<u8> {
        let mut signature =
            self.curve.sign_ecdsa(&Message::from_digest(hash), &self.secret).serialize_der().to_vec();
        signature.push(hash_type);
        signature
    }

    fn pair(&self) -> Keypair {
        Keypair::from_secret_key(&self.curve, &self.secret)
    }
}

/// What an opcode may find on the stack.
fn operands() -> Vec<Vec<Vec<u8>>> {
    let items: [&[u8]; 12] = [
        &[],
        &[0x00],
        &[0x80],
        &[0x01],
        &[0x81],
        &[0x02],
        &[0x10],
        &[0xff, 0xff, 0xff, 0x7f],
        &[0x00, 0x00, 0x00, 0x80],
        &[0x00, 0x00, 0x00, 0x00, 0x01],
        &[0x05; 520],
        &[0x05; 521],
    ];
    let mut stacks: Vec<Vec<Vec<u8>>> = vec![vec![]];
    for item in items {
        stacks.push(vec![item.to_vec()]);
        stacks.push(vec![vec![0x01], item.to_vec()]);
        stacks.push(vec![item.to_vec(); 3]);
    }
    stacks
}

/// Every opcode on every stack, bare, behind a script hash, a witness script hash and a taproot
/// leaf, as an output's script or followed by what makes it true. Nothing panics, and nothing is
/// spent that the kernel would not let go (CVE-2010-5141: `OP_RETURN` once did).
#[test]
fn cve_2010_5137_every_opcode_on_every_stack_as_the_kernel() {
    let key = Key::new();
    let internal = UntweakedPublicKey::from_keypair(&key.pair()).0;
    let mut agreement = Agreement::new();
    let stacks = operands();
    for opcode in 0..=255u8 {
        for tail in [vec![], vec![0x51]] {
            let script = ScriptBuf::from_bytes([vec![opcode], tail].concat());
            let tree = TaprootBuilder::new().add_leaf(0, script.clone()).unwrap();
            let tree = tree.finalize(&key.curve, internal).unwrap();
            let leaf = ScriptBuf::new_p2tr_tweaked(tree.output_key());
            let control = tree.control_block(&(script.clone(), LeafVersion::TapScript)).unwrap().serialize();
            let mut tx = transaction(1, 1);
            // Pushes, and bytes that are no opcode, look at no operands.
            let looks = (0x4c..0xbb).contains(&opcode);
            for stack in if looks { &stacks[..] } else { &stacks[..5] } {
                let pushes: Vec<ScriptBuf> = stack.iter().map(|item| push(item)).collect();
                let pushes = concat(&pushes.iter().map(ScriptBuf::as_script).collect::<Vec<_>>());
                tx.input[0].witness = Witness::new();
                tx.input[0].script_sig = pushes.clone();
                let _ = agreement.check(&tx, &[output(script.clone())], ScriptFlags::MANDATORY);
                tx.input[0].script_sig = concat(&[&pushes, &push(script.as_bytes())]);
                let hidden = output(ScriptBuf::new_p2sh(&script.script_hash()));
                let _ = agreement.check(&tx, &[hidden], ScriptFlags::MANDATORY);
                tx.input[0].script_sig = ScriptBuf::new();
                tx.input[0].witness = Witness::from_slice(stack);
                tx.input[0].witness.push(script.as_bytes());
                let _ = agreement.check(&tx, &[output(script.to_p2wsh())], ScriptFlags::MANDATORY);
                tx.input[0].witness.push(&control);
                let _ = agreement.check(&tx, &[output(leaf.clone())], ScriptFlags::MANDATORY);
            }
        }
    }
    assert!(agreement.yes > 4_000 && agreement.no > 4_000, "{} {}", agreement.yes, agreement.no);
}

/// Scripts of random instructions under random rules.
#[test]
fn random_scripts_as_the_kernel() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut agreement = Agreement::new();
    let instruction = |rng: &mut ChaCha8Rng| -> Vec<u8> {
        match rng.gen_range(0..10) {
            // Small numbers, so that much runs to its end.
            0..4 => vec![*[0x00, 0x4f, 0x51, 0x52, 0x53, 0x54].choose(rng).unwrap()],
            4 => {
                let len = *[1, 2, 4, 5, 20, 75].choose(rng).unwrap();
                push(&(0..len).map(|_| rng.r#gen()).collect::<Vec<u8>>()).into_bytes()
            }
            // Conditions, stack, arithmetic, hashes.
            5..9 => vec![rng.gen_range(0x61..0xba)],
            _ => vec![rng.r#gen()],
        }
    };
    for _ in 0..12_000 {
        let script = |rng: &mut ChaCha8Rng, most: usize| {
            let count = rng.gen_range(0..most);
            ScriptBuf::from_bytes((0..count).flat_map(|_| instruction(rng)).collect())
        };
        let (mut tx, code) = (transaction(1, 1), script(&mut rng, 12));
        tx.version = Version(*[1, 2, -1, i32::MIN].choose(&mut rng).unwrap());
        tx.input[0].sequence =
            Sequence(*[0, 5, 1 << 22 | 1, 0xffff_fffe, u32::MAX].choose(&mut rng).unwrap());
        tx.lock_time = LockTime::from_consensus(*[0, 100, 500_000_001].choose(&mut rng).unwrap());
        let spent = match rng.gen_range(0..3) {
            0 => {
                tx.input[0].script_sig = script(&mut rng, 6);
                output(code)
            }
            1 => {
                let stack = script(&mut rng, 6);
                tx.input[0].script_sig = concat(&[&stack, &push(code.as_bytes())]);
                output(ScriptBuf::new_p2sh(&code.script_hash()))
            }
            _ => {
                for _ in 0..rng.gen_range(0..5) {
                    let item: Vec<u8> = (0..rng.gen_range(0..4)).map(|_| rng.gen_range(0..4)).collect();
                    tx.input[0].witness.push(item);
                }
                tx.input[0].witness.push(code.as_bytes());
                output(code.to_p2wsh())
            }
        };
        let mut flags = ScriptFlags::MANDATORY;
        for (_, flag) in ScriptFlags::NAMES {
            if rng.gen_ratio(1, 6) {
                flags = flags.without(flag);
            }
        }
        if !flags.contains(ScriptFlags::P2SH) {
            flags = flags.without(ScriptFlags::WITNESS);
        }
        let _ = agreement.check(&tx, &[spent], flags);
    }
    assert!(agreement.yes > 1_000 && agreement.no > 1_000, "{} {}", agreement.yes, agreement.no);
}

/// All hash types, defined or not, with as many outputs as inputs or fewer or more: what is
/// signed is the same, `SIGHASH_SINGLE` without an output of its own included.
#[test]
fn ghsa_pvmv_8m29_every_hash_type_signs_what_the_kernel_checks() {
    let key = Key::new();
    let public = key.public();
    let checksig = ScriptBuf::builder().push_slice(public).push_opcode(OP_CHECKSIG).into_script();
    let wpkh = ScriptBuf::new_p2wpkh(&CompressedPublicKey::from_slice(&public).unwrap().wpubkey_hash());
    let pair = key.pair();
    let taproot = ScriptBuf::new_p2tr(&key.curve, pair.x_only_public_key().0, None);
    let (mut legacy, mut segwit, mut tap) = (Agreement::new(), Agreement::new(), Agreement::new());
    for (inputs, outputs) in [(1, 1), (3, 1), (2, 3)] {
        let index = inputs - 1;
        for hash_type in 0..=255u8 {
            for flags in [ScriptFlags::MANDATORY, ScriptFlags::P2SH] {
                let mut tx = transaction(inputs, outputs);
                let mut spent = vec![output(op_true()); inputs];
                spent[index] = output(checksig.clone());
                let hash = SighashCache::new(&tx)
                    .legacy_signature_hash(index, &checksig, u32::from(hash_type))
                    .unwrap()
                    .to_byte_array();
                tx.input[index].script_sig = push(&key.ecdsa(hash, hash_type));
                assert_eq!(legacy.check(&tx, &spent, flags), Ok(()), "legacy {hash_type:#x}");
                // Of another type the signature is none.
                tx.input[index].script_sig = push(&key.ecdsa(hash, hash_type ^ 0x82));
                let _ = legacy.check(&tx, &spent, flags);
            }

            let mut tx = transaction(inputs, outputs);
            let mut spent = vec![output(op_true()); inputs];
            spent[index] = output(wpkh.clone());
            let code = wpkh.p2wpkh_script_code().unwrap();
            let mut message = Vec::new();
            SighashCache::new(&tx)
                .segwit_v0_encode_signing_data_to(
                    &mut message,
                    index,
                    &code,
                    spent[index].value,
                    EcdsaSighashType::from_consensus(u32::from(hash_type)),
                )
                .unwrap();
            // The message ends in the type as signed, defined or not.
            let end = message.len() - 4;
            message[end..].copy_from_slice(&u32::from(hash_type).to_le_bytes());
            let signature = key.ecdsa(sha256d::Hash::hash(&message).to_byte_array(), hash_type);
            tx.input[index].witness = Witness::from_slice(&[signature.as_slice(), &public]);
            assert_eq!(segwit.check(&tx, &spent, ScriptFlags::MANDATORY), Ok(()), "segwit {hash_type:#x}");
            spent[index].value += Amount::from_sat(1);
            assert_eq!(segwit.check(&tx, &spent, ScriptFlags::MANDATORY), Err(index));

            spent[index] = output(taproot.clone());
            tx.input[index].witness = Witness::new();
            let defined = TapSighashType::from_consensus_u8(hash_type).unwrap_or(TapSighashType::Default);
            let hash = SighashCache::new(&tx).taproot_key_spend_signature_hash(
                index,
                &Prevouts::All(&spent),
                defined,
            );
            let signable = hash.is_ok();
            let hash = hash.map_or([1; 32], |hash| hash.to_byte_array());
            let tweaked = pair.tap_tweak(&key.curve, None).to_keypair();
            let signature = key.curve.sign_schnorr_no_aux_rand(&Message::from_digest(hash), &tweaked);
            let mut signature = signature.serialize().to_vec();
            if hash_type != 0 {
                signature.push(hash_type);
            }
            tx.input[index].witness = Witness::from_slice(&[signature]);
            let valid = signable && matches!(hash_type, 0..=3 | 0x81..=0x83);
            let verdict = tap.check(&tx, &spent, ScriptFlags::MANDATORY);
            assert_eq!(verdict.is_ok(), valid, "taproot {hash_type:#x}");
            // Without the rules anybody may spend it.
            let before = ScriptFlags::MANDATORY.without(ScriptFlags::TAPROOT);
            assert_eq!(tap.check(&tx, &spent, before), Ok(()));
        }
    }
    assert!(legacy.no > 1_000 && segwit.no > 500 && tap.no > 500, "{} {} {}", legacy.no, segwit.no, tap.no);
}

/// btcd once removed every push that held a signature somewhere from what was signed; only one
/// that is exactly the signature goes.
#[test]
fn cve_2024_38365_find_and_delete_removes_the_signature_alone() {
    let key = Key::new();
    let check = ScriptBuf::builder().push_slice(key.public()).push_opcode(OP_CHECKSIG).into_script();
    let drop = ScriptBuf::builder().push_opcode(OP_DROP).into_script();
    let separator = ScriptBuf::builder().push_opcode(OP_CODESEPARATOR).into_script();
    let hash = |code: &Script| {
        SighashCache::new(&transaction(1, 1)).legacy_signature_hash(0, code, 1).unwrap().to_byte_array()
    };
    let mut agreement = Agreement::new();
    let mut spend = |signature: &[u8], script: &Script| {
        let mut tx = transaction(1, 1);
        tx.input[0].script_sig = push(signature);
        agreement.check(&tx, &[output(script.to_owned())], ScriptFlags::MANDATORY)
    };
    // Signed over what is left once its own push is gone.
    let rest = concat(&[&drop, &check]);
    let signature = key.ecdsa(hash(&rest), 1);
    let exact = push(&signature);
    let with = |pushed: &Script| concat(&[pushed, &rest]);
    assert_eq!(spend(&signature, &with(&exact)), Ok(()));
    assert_eq!(spend(&signature, &concat(&[&exact, &drop, &with(&exact)])), Err(0), "a second OP_DROP stays");
    // Larger pushes around it, the signature as an opcode's data written in another way, and its
    // bytes without a push of their own are no such pushes.
    let wide = ScriptBuf::from_bytes(
        [&[0x4c, u8::try_from(signature.len()).unwrap()], signature.as_slice()].concat(),
    );
    let mut front = signature.clone();
    front.insert(0, 0);
    let mut back = signature.clone();
    back.push(0);
    let mut inside = vec![1, 2, 3];
    inside.extend(exact.as_bytes());
    inside.push(9);
    for pushed in [wide, push(&front), push(&back), push(&inside), push(&signature[1..])] {
        assert_eq!(spend(&signature, &with(&pushed)), Err(0), "{pushed:?} was removed");
        // Signed over all of it, it is good as long as nothing is removed.
        let whole = with(&pushed);
        let signature = key.ecdsa(hash(&whole), 1);
        assert_eq!(spend(&signature, &whole), Ok(()), "{pushed:?}");
    }
    // Separators go whatever stands around them.
    let signature = key.ecdsa(hash(&check), 1);
    assert_eq!(spend(&signature, &concat(&[&separator, &check])), Ok(()));
    assert!(agreement.yes >= 7 && agreement.no >= 6);
}
