//! A PSBT as it lies on the wire, versions 0 and 2 (BIP174, BIP370, BIP371, BIP373): what Core
//! reads is read, with its texts for what it refuses, and written in its order (`psbt.h`).
//!
//! The pairs are kept as they came, so that nothing is lost that only others understand.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{encode, serialize};
use bitcoin::hashes::{Hash, hash160};
use bitcoin::psbt::Psbt;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

use super::psbt_fields::{
    COMPRESSED, Heads, PROPRIETARY, Pairs, Reader, Refusal, global, global_value, input, input_value, number,
    of_type, output, output_value, read_unsigned, refuse, u32_of, value,
};
use super::rawtx::no_witness_bytes;

const MAGIC: &[u8] = b"psbt\xff";
/// The order in which Core writes an input's types; what is not here is unknown and comes last.
const INPUT_ORDER: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x0b, 0x0c, 0x0d, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
    0x1a, 0x1b, 0x1c, 0x07, 0x08, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0xfc,
];
const OUTPUT_ORDER: &[u8] = &[0x00, 0x01, 0x02, 0x03, 0x04, 0xfc, 0x05, 0x06, 0x07, 0x08];
const GLOBAL_ORDER: &[u8] = &[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0xfb, 0xfc];

/// What a finished input has no more use for.
const UNFINISHED: &[u8] = &[
    0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x0b, 0x0c, 0x0d, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x1a, 0x1b,
    0x1c,
];

fn write_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(serialize(&bitcoin::VarInt::from(bytes.len())));
    out.extend(bytes);
}

fn one(kind: u8) -> Vec<u8> {
    vec![kind]
}

/// Which of the three kinds of maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Global,
    Input,
    Output,
}

impl Order {
    const fn types(self) -> &'static [u8] {
        match self {
            Self::Global => GLOBAL_ORDER,
            Self::Input => INPUT_ORDER,
            Self::Output => OUTPUT_ORDER,
        }
    }

    /// Neither a type that Core knows nor one for private use.
    pub(super) fn is_unknown(self, key: &[u8]) -> bool {
        key.first().is_none_or(|kind| !self.types().contains(kind))
    }

    /// Key data and value of every pair of one type, in Core's order.
    pub(super) fn sorted(self, pairs: &Pairs, kind: u8) -> Vec<(&[u8], &[u8])> {
        let mut found: Vec<_> = of_type(pairs, kind).collect();
        found.sort_by_cached_key(|(data, value)| {
            let key: Vec<u8> = [&[kind], *data].concat();
            self.sort_key(&key, value)
        });
        found
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Input => "input",
            Self::Output => "output",
        }
    }

    const fn end(self) -> &'static str {
        match self {
            Self::Global => "Separator is missing at the end of the global map",
            Self::Input => "Separator is missing at the end of an input map",
            Self::Output => "Separator is missing at the end of an output map",
        }
    }

    /// Within a type most pairs stand in the order of their keys.
    fn sort_key(self, key: &[u8], value: &[u8]) -> (usize, Vec<u8>) {
        let kind = key.first().copied().unwrap_or_default();
        let types = self.types();
        let rank = types.iter().position(|known| *known == kind).unwrap_or(types.len());
        let data = key.get(1..).unwrap_or_default();
        let within = match (self, kind) {
            (Self::Input, input::PARTIAL_SIG) => hash160::Hash::hash(data).to_byte_array().to_vec(),
            (Self::Global, global::XPUB) => origin_order(value, data),
            (Self::Input, input::TAP_LEAF_SCRIPT) => {
                // The script and its version, then the shortest control block.
                let mut order = Vec::new();
                let (version, script) = value.split_last().map_or((0, value), |(last, rest)| (*last, rest));
                for byte in script {
                    order.extend([1, *byte]);
                }
                order.extend([0, version]);
                order.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
                order.extend(data);
                order
            }
            (Self::Input, input::MUSIG2_PUB_NONCE | input::MUSIG2_PARTIAL_SIG) => {
                let (participant, rest) = data.split_at_checked(COMPRESSED).unwrap_or((data, &[]));
                let mut order = rest.to_vec();
                order.resize(COMPRESSED + 32, 0);
                order.extend(participant);
                order
            }
            _ => key.to_vec(),
        };
        (rank, within)
    }

    /// Whether Core would keep the pair: some values are as good as none.
    fn keeps(self, key: &[u8], value: &[u8], finished: bool) -> bool {
        let Some(kind) = key.first() else { return false };
        match self {
            Self::Global => true,
            Self::Input => {
                let empty = match *kind {
                    input::REDEEM_SCRIPT | input::WITNESS_SCRIPT | input::SCRIPT_SIG => value.is_empty(),
                    input::SCRIPT_WITNESS => value == [0],
                    input::TAP_INTERNAL_KEY | input::TAP_MERKLE_ROOT => value.iter().all(|byte| *byte == 0),
                    _ => false,
                };
                !(empty || finished && UNFINISHED.contains(kind))
            }
            Self::Output => {
                let empty = match *kind {
                    output::REDEEM_SCRIPT | output::WITNESS_SCRIPT => value.is_empty(),
                    output::TAP_INTERNAL_KEY => value.iter().all(|byte| *byte == 0),
                    _ => false,
                };
                !empty
            }
        }
    }

    fn write(self, pairs: &Pairs, out: &mut Vec<u8>) {
        let finished = self == Self::Input && is_finished(pairs);
        let mut kept: Vec<_> = pairs.iter().filter(|(key, value)| self.keeps(key, value, finished)).collect();
        kept.sort_by_cached_key(|(key, value)| self.sort_key(key, value));
        for (key, value) in kept {
            write_sized(out, key);
            let coin = self == Self::Input && key.as_slice() == [input::NON_WITNESS_UTXO];
            match coin.then(|| encode::deserialize::<Transaction>(value).ok()).flatten() {
                // The witness says nothing of what is spent.
                Some(tx) => write_sized(out, &no_witness_bytes(&tx)),
                None => write_sized(out, value),
            }
        }
        out.push(0);
    }
}

/// Fingerprint, length of the path, its steps, then the key's own order.
fn origin_order(origin: &[u8], xpub: &[u8]) -> Vec<u8> {
    let (fingerprint, path) = origin.split_at_checked(4).unwrap_or((origin, &[]));
    let mut order = fingerprint.to_vec();
    order.extend(u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes());
    for step in path.chunks(4) {
        order.extend(u32_of(step).to_be_bytes());
    }
    // Public key before chain code.
    order.extend(xpub.get(45..).unwrap_or_default());
    order.extend(xpub.get(13..45).unwrap_or_default());
    order.extend(xpub);
    order
}

/// An input has a final script or witness.
pub(super) fn is_finished(input: &Pairs) -> bool {
    value(input, input::SCRIPT_SIG).is_some_and(|script| !script.is_empty())
        || value(input, input::SCRIPT_WITNESS).is_some_and(|witness| witness != [0])
}

/// A PSBT of version 0 or 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub version: u32,
    pub global: Pairs,
    pub inputs: Vec<Pairs>,
    pub outputs: Vec<Pairs>,
}

impl Packet {
    /// A PSBT without anything but the transaction.
    pub(super) fn new(tx: &Transaction, version: u32) -> Self {
        let mut packet = Self {
            version,
            global: Pairs::new(),
            inputs: vec![Pairs::new(); tx.input.len()],
            outputs: vec![Pairs::new(); tx.output.len()],
        };
        if version == 0 {
            packet.global.insert(one(global::UNSIGNED_TX), no_witness_bytes(tx));
            return packet;
        }
        packet.global.insert(one(global::TX_VERSION), serialize(&tx.version));
        packet.global.insert(one(global::FALLBACK_LOCKTIME), serialize(&tx.lock_time));
        packet.global.insert(one(global::VERSION), version.to_le_bytes().to_vec());
        for (pairs, spending) in packet.inputs.iter_mut().zip(&tx.input) {
            pairs.insert(one(input::PREVIOUS_TXID), serialize(&spending.previous_output.txid));
            pairs.insert(one(input::OUTPUT_INDEX), serialize(&spending.previous_output.vout));
            pairs.insert(one(input::SEQUENCE), serialize(&spending.sequence));
        }
        for (pairs, paying) in packet.outputs.iter_mut().zip(&tx.output) {
            pairs.insert(one(output::AMOUNT), serialize(&paying.value));
            pairs.insert(one(output::SCRIPT), paying.script_pubkey.to_bytes());
        }
        packet
    }

    /// Reads one; the whole of `bytes` must be it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        // Core names the stream's failures in this way.
        let failure = |text: Refusal| format!("{text}: iostream error");
        let mut reader = Reader::new(bytes);
        let packet = Self::read_from(&mut reader).map_err(failure)?;
        if reader.is_empty() { Ok(packet) } else { refuse("extra data after PSBT") }
    }

    fn read_from(reader: &mut Reader<'_>) -> Result<Self, Refusal> {
        if reader.take(MAGIC.len())? != MAGIC {
            return refuse("Invalid PSBT magic bytes");
        }
        let mut heads = Heads::default();
        let global =
            read_map(reader, Order::Global, |kind, key, reader| global_value(kind, key, reader, &mut heads))?;
        let version = number(&global, global::VERSION).unwrap_or(0);
        heads.check(version, &global)?;
        let unsigned = heads.tx.take();
        let (wanted_inputs, wanted_outputs) = match &unsigned {
            Some(tx) => (tx.input.len(), tx.output.len()),
            None => (heads.inputs, heads.outputs),
        };
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        while !reader.is_empty() && inputs.len() < wanted_inputs {
            let pairs =
                read_map(reader, Order::Input, |kind, key, reader| input_value(kind, key, reader, version))?;
            if version >= 2 {
                for (kind, text) in [
                    (input::PREVIOUS_TXID, "Previous TXID is required in PSBTv2"),
                    (input::OUTPUT_INDEX, "Previous output's index is required in PSBTv2"),
                ] {
                    if value(&pairs, kind).is_none() {
                        return refuse(text);
                    }
                }
            }
            let outpoint = match unsigned.as_ref().and_then(|tx| tx.input.get(inputs.len())) {
                Some(spending) => spending.previous_output,
                None => outpoint(&pairs),
            };
            if let Some(tx) = coin_tx(&pairs) {
                if tx.compute_txid() != outpoint.txid {
                    return refuse("Non-witness UTXO does not match outpoint hash");
                }
                if usize::try_from(outpoint.vout).ok().and_then(|vout| tx.output.get(vout)).is_none() {
                    return refuse("Input specifies output index that does not exist");
                }
            }
            inputs.push(pairs);
        }
        if inputs.len() != wanted_inputs {
            return refuse("Inputs provided does not match the number of inputs in transaction.");
        }
        while !reader.is_empty() && outputs.len() < wanted_outputs {
            let pairs = read_map(reader, Order::Output, |kind, key, reader| {
                output_value(kind, key, reader, version)
            })?;
            if version >= 2 {
                for (kind, text) in [
                    (output::AMOUNT, "Output amount is required in PSBTv2"),
                    (output::SCRIPT, "Output script is required in PSBTv2"),
                ] {
                    if value(&pairs, kind).is_none() {
                        return refuse(text);
                    }
                }
            }
            outputs.push(pairs);
        }
        if outputs.len() != wanted_outputs {
            return refuse("Outputs provided does not match the number of outputs in transaction.");
        }
        Ok(Self { version, global, inputs, outputs })
    }

    /// The bytes as Core writes them.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut global = self.global.clone();
        if self.version == 0 {
            global.remove([global::VERSION].as_slice());
        } else {
            let count = |maps: &[Pairs]| serialize(&bitcoin::VarInt::from(maps.len()));
            global.insert(one(global::INPUT_COUNT), count(&self.inputs));
            global.insert(one(global::OUTPUT_COUNT), count(&self.outputs));
        }
        let mut out = MAGIC.to_vec();
        Order::Global.write(&global, &mut out);
        self.inputs.iter().for_each(|pairs| Order::Input.write(pairs, &mut out));
        self.outputs.iter().for_each(|pairs| Order::Output.write(pairs, &mut out));
        out
    }

    /// The lock time, unless the inputs' wishes cannot be met together.
    fn lock_time(&self) -> Option<u32> {
        let (mut time, mut height) = (Some(0), Some(0));
        for pairs in &self.inputs {
            let by_time = number(pairs, input::TIME_LOCKTIME);
            let by_height = number(pairs, input::HEIGHT_LOCKTIME);
            match (by_time, by_height) {
                (Some(_), None) => height = None,
                (None, Some(_)) => time = None,
                _ => {}
            }
            if time.is_none() && height.is_none() {
                return None;
            }
            time = time.map(|time| by_time.map_or(time, |wanted| time.max(wanted)));
            height = height.map(|height| by_height.map_or(height, |wanted| height.max(wanted)));
        }
        let fallback = || number(&self.global, global::FALLBACK_LOCKTIME).unwrap_or(0);
        Some(height.filter(|height| *height > 0).or(time.filter(|time| *time > 0)).unwrap_or_else(fallback))
    }

    /// The transaction without signatures, if it can be told.
    pub(super) fn unsigned_tx(&self) -> Option<Transaction> {
        if self.version == 0 {
            return read_unsigned(&mut Reader::new(value(&self.global, global::UNSIGNED_TX)?)).ok();
        }
        let lock_time = self.lock_time()?;
        Some(Transaction {
            version: Version(number(&self.global, global::TX_VERSION)?.cast_signed()),
            lock_time: LockTime::from_consensus(lock_time),
            input: self
                .inputs
                .iter()
                .map(|pairs| TxIn {
                    previous_output: outpoint(pairs),
                    script_sig: ScriptBuf::new(),
                    sequence: number(pairs, input::SEQUENCE).map_or(Sequence::MAX, Sequence),
                    witness: Witness::new(),
                })
                .collect(),
            output: self
                .outputs
                .iter()
                .map(|pairs| TxOut {
                    value: Amount::from_sat(amount(pairs).cast_unsigned()),
                    script_pubkey: ScriptBuf::from(value(pairs, output::SCRIPT).unwrap_or_default().to_vec()),
                })
                .collect(),
        })
    }

    /// What tells whether two PSBTs are of one transaction.
    fn unique_id(&self) -> Option<Txid> {
        let mut tx = self.unsigned_tx()?;
        if self.version >= 2 {
            tx.input.iter_mut().for_each(|input| input.sequence = Sequence::ZERO);
        }
        Some(tx.compute_txid())
    }

    /// Adds what another PSBT of the same transaction knows. False if it is of another one.
    pub(super) fn merge(&mut self, other: Self) -> bool {
        let same = self.unique_id().is_some_and(|id| other.unique_id() == Some(id));
        if !same || self.version != other.version {
            return false;
        }
        let flags = |pairs: &Pairs| value(pairs, global::TX_MODIFIABLE)?.first().copied();
        if let (ours, theirs @ Some(_)) | (ours @ Some(_), theirs) =
            (flags(&self.global), flags(&other.global))
        {
            // What both allow; but a signature of one output that either knows of stays known.
            const SINGLE: u8 = 4;
            let (ours, theirs) = (ours.unwrap_or(0), theirs.unwrap_or(0));
            let merged = ours & theirs & !SINGLE | (ours | theirs) & SINGLE;
            self.global.insert(one(global::TX_MODIFIABLE), one(merged));
        }
        let maps = self.inputs.iter_mut().zip(other.inputs).chain(self.outputs.iter_mut().zip(other.outputs));
        for (ours, theirs) in maps.chain([(&mut self.global, other.global)]) {
            for (key, value) in theirs {
                ours.entry(key).or_insert(value);
            }
        }
        true
    }

    /// The same as the `bitcoin` crate holds it, without the transaction's place in version 2, and
    /// without pairs that make no sense to that crate. `None` if there is no transaction.
    pub(super) fn to_psbt(&self) -> Option<Psbt> {
        let tx = self.unsigned_tx()?;
        let whole = self.old_form(&tx, |_, _, _| true);
        if let Ok(psbt) = Psbt::deserialize(&whole) {
            return Some(psbt);
        }
        Psbt::deserialize(&self.old_form(&tx, makes_sense)).ok()
    }

    /// Version 0 of it, with those pairs that `wanted` picks.
    fn old_form(&self, tx: &Transaction, wanted: impl Fn(Order, &[u8], &[u8]) -> bool) -> Vec<u8> {
        let mut old = Self::new(tx, 0);
        let global_pairs = self.global.iter().filter(|(key, _)| match key.first() {
            Some(kind) => *kind == global::XPUB || *kind == PROPRIETARY || Order::Global.is_unknown(key),
            None => false,
        });
        let take = |order, pairs: &Pairs| {
            let taken = pairs.iter().filter(|(key, value)| !is_new(order, key) && wanted(order, key, value));
            taken.map(|(key, value)| (key.clone(), value.clone())).collect::<Pairs>()
        };
        old.global.extend(
            global_pairs.filter(|(k, v)| wanted(Order::Global, k, v)).map(|(k, v)| (k.clone(), v.clone())),
        );
        old.inputs = self.inputs.iter().map(|pairs| take(Order::Input, pairs)).collect();
        old.outputs = self.outputs.iter().map(|pairs| take(Order::Output, pairs)).collect();
        let mut out = MAGIC.to_vec();
        for pairs in [&old.global].into_iter().chain(&old.inputs).chain(&old.outputs) {
            for (key, value) in pairs {
                write_sized(&mut out, key);
                write_sized(&mut out, value);
            }
            out.push(0);
        }
        out
    }

    /// Takes over what was changed in inputs and outputs of [`Packet::to_psbt`]'s.
    pub(super) fn update(&mut self, psbt: &Psbt) {
        let bytes = psbt.serialize();
        let mut reader = Reader::new(bytes.get(MAGIC.len()..).unwrap_or_default());
        let mut next = || {
            read_map(&mut reader, Order::Global, |_, _, reader| Ok(reader.sized()?.to_vec()))
                .unwrap_or_default()
        };
        next();
        let maps = self.inputs.iter_mut().map(|pairs| (Order::Input, pairs));
        for (order, pairs) in maps.chain(self.outputs.iter_mut().map(|pairs| (Order::Output, pairs))) {
            pairs.retain(|key, value| is_new(order, key) || !makes_sense(order, key, value));
            for (key, value) in next() {
                pairs.entry(key).or_insert(value);
            }
        }
    }
}

/// The place of the transaction's parts in version 2.
fn is_new(order: Order, key: &[u8]) -> bool {
    match (order, key.first()) {
        (Order::Input, Some(kind)) => (input::PREVIOUS_TXID..=input::HEIGHT_LOCKTIME).contains(kind),
        (Order::Output, Some(kind)) => [output::AMOUNT, output::SCRIPT].contains(kind),
        _ => false,
    }
}

/// Whether the `bitcoin` crate can hold a pair: it looks into some more closely than Core does, and
/// brings the leaves of a tree into an order of its own.
fn makes_sense(order: Order, key: &[u8], value: &[u8]) -> bool {
    if order == Order::Output && key == [output::TAP_TREE] {
        return false;
    }
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn::default()],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }],
    };
    let mut bytes = MAGIC.to_vec();
    write_sized(&mut bytes, &[global::UNSIGNED_TX]);
    write_sized(&mut bytes, &no_witness_bytes(&tx));
    for place in [Order::Global, Order::Input, Order::Output] {
        if place == order {
            write_sized(&mut bytes, key);
            write_sized(&mut bytes, value);
        }
        bytes.push(0);
    }
    Psbt::deserialize(&bytes).is_ok()
}

/// What an input of version 2 spends.
pub(super) fn outpoint(pairs: &Pairs) -> OutPoint {
    let txid = value(pairs, input::PREVIOUS_TXID).and_then(|txid| Txid::from_slice(txid).ok());
    OutPoint {
        txid: txid.unwrap_or_else(Txid::all_zeros),
        vout: number(pairs, input::OUTPUT_INDEX).unwrap_or(0),
    }
}

/// What an output of version 2 pays, in satoshi.
pub(super) fn amount(pairs: &Pairs) -> i64 {
    let bytes = value(pairs, output::AMOUNT).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, i64::from_le_bytes)
}

/// The whole transaction that made an input's coin.
pub(super) fn coin_tx(pairs: &Pairs) -> Option<Transaction> {
    encode::deserialize(value(pairs, input::NON_WITNESS_UTXO)?).ok()
}

fn read_map<'a>(
    reader: &mut Reader<'a>,
    order: Order,
    mut read: impl FnMut(u64, &'a [u8], &mut Reader<'a>) -> Result<Vec<u8>, Refusal>,
) -> Result<Pairs, Refusal> {
    let mut pairs = Pairs::new();
    while !reader.is_empty() {
        let key = reader.sized()?;
        if key.is_empty() {
            return Ok(pairs);
        }
        if pairs.contains_key(key) {
            let (name, key) = (order.name(), hex::encode(key));
            return refuse(format!("Duplicate Key, {name} key \"{key}\" already provided"));
        }
        let kind = Reader::new(key).compact_size()?;
        let value = read(kind, key, reader)?;
        pairs.insert(key.to_vec(), value);
    }
    refuse(order.end())
}

#[cfg(test)]
#[path = "psbt_packet_tests.rs"]
mod tests;
