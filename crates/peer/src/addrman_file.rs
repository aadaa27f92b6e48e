//! `peers.dat`, in Core's format 4 (`AddrManImpl::Serialize`, `src/addrdb.cpp`).

use std::collections::HashMap;

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::Magic;
use ironpeer_primitives::{LogCategory, LogLine};
use ironpeer_wire::{DecodeError, NetAddress, PeerAddress, Reader};

use super::{AddrMan, AddressInfo};
use crate::limits::{BUCKET_SIZE, NEW_BUCKETS, NEW_BUCKETS_PER_ADDRESS, TRIED_BUCKETS};

/// The format written, and the newest read (`V4_MULTIPORT`).
const FORMAT: u8 = 4;
/// The oldest read: addresses in BIP155 form (`V3_BIP155`).
const OLDEST_FORMAT: u8 = 3;
/// Added to the oldest format that a reader must know.
const COMPATIBILITY_BASE: u8 = 32;
/// Combined with the number of buckets, so that the oldest readers refuse the file.
const BUCKETS_MASK: i32 = 1 << 30;
/// In front of each address: a version of Core that nobody reads, and the mark of BIP155 form.
const ADDRESS_VERSION: u32 = 220_000 | ADDRESS_V2;
const ADDRESS_V2: u32 = 1 << 29;
/// Bits of the above that are ignored.
const ADDRESS_VERSION_IGNORED: u32 = 0x0007_ffff;

/// Why a `peers.dat` cannot be used. The texts are Core's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeersFileError {
    /// It belongs to another network.
    #[error("Invalid network magic number")]
    WrongMagic,
    /// It was written by a newer program; it is to be set aside, not overwritten.
    #[error(
        "Unsupported format of addrman database: {format}. It is compatible with formats >={lowest}, but the \
         maximum supported by this version of Bitcoin Core is 4."
    )]
    Unsupported {
        /// The format.
        format: u8,
        /// The oldest format whose readers can read it.
        lowest: u8,
    },
    /// The format's second byte makes no sense.
    #[error(
        "Corrupted addrman database: The compat value ({0}) is lower than the expected minimum value 32."
    )]
    BadCompatibility(u8),
    /// There are more new addresses than fit.
    #[error("Corrupt AddrMan serialization: nNew={0}, should be in [0, 65536]")]
    TooManyNew(i32),
    /// There are more tried addresses than fit.
    #[error("Corrupt AddrMan serialization: nTried={0}, should be in [0, 16384]")]
    TooManyTried(i32),
    /// An address is in an unknown form.
    #[error("Unsupported CAddress disk format version: iostream error")]
    BadAddressVersion,
    /// The hash at the end differs.
    #[error("Checksum mismatch, data corrupted")]
    Checksum,
    /// The contents contradict themselves.
    #[error("Corrupt data. Consistency check failed with code {0}: iostream error")]
    Inconsistent(i32),
    /// The file ends too early, or a field is malformed.
    #[error("{0}")]
    Decode(#[from] DecodeError),
}

impl AddrMan {
    /// The contents of `peers.dat`.
    #[must_use]
    pub fn to_file(&self, magic: Magic) -> Vec<u8> {
        let mut out = magic.to_bytes().to_vec();
        out.push(FORMAT);
        out.push(COMPATIBILITY_BASE + FORMAT);
        out.extend(self.key);
        let of_table = |tried: bool| self.order.iter().filter(move |id| self.is_in(**id, tried)).copied();
        let (new, tried): (Vec<u64>, Vec<u64>) = (of_table(false).collect(), of_table(true).collect());
        for count in [new.len(), tried.len()] {
            out.extend(i32::try_from(count).unwrap_or(0).to_le_bytes());
        }
        out.extend((NEW_BUCKETS as i32 ^ BUCKETS_MASK).to_le_bytes());
        let mut index_of = HashMap::new();
        for (id, index) in new.iter().zip(0i32..) {
            index_of.insert(*id, index);
        }
        for info in new.iter().chain(&tried).filter_map(|id| self.entries.get(id)) {
            put_info(&mut out, info);
        }
        let mut buckets: Vec<Vec<i32>> = vec![Vec::new(); NEW_BUCKETS as usize];
        for (slot, id) in self.new.entries() {
            if let (Some(bucket), Some(index)) = (buckets.get_mut(slot.bucket as usize), index_of.get(&id)) {
                bucket.push(*index);
            }
        }
        for bucket in buckets {
            out.extend(i32::try_from(bucket.len()).unwrap_or(0).to_le_bytes());
            for index in bucket {
                out.extend(index.to_le_bytes());
            }
        }
        // No map of autonomous systems.
        out.extend([0; 32]);
        let hash = sha256d::Hash::hash(&out);
        out.extend(hash.to_byte_array());
        out
    }

    fn is_in(&self, id: u64, tried: bool) -> bool {
        self.entries.get(&id).is_some_and(|info| info.tried == tried)
    }

    /// Reads `peers.dat`. `seed` feeds later random choices.
    ///
    /// # Errors
    /// If the file is of another network, too new, or damaged.
    pub fn from_file(bytes: &[u8], magic: Magic, seed: [u8; 32]) -> Result<Self, PeersFileError> {
        let r = &mut Reader::new(bytes);
        if r.array::<4>()? != magic.to_bytes() {
            return Err(PeersFileError::WrongMagic);
        }
        let mut addrman = Self::new(seed);
        addrman.read(r)?;
        let read = bytes.len() - r.rest().len();
        let expected = sha256d::Hash::hash(bytes.get(..read).unwrap_or_default());
        if r.array::<32>()? != expected.to_byte_array() {
            return Err(PeersFileError::Checksum);
        }
        Ok(addrman)
    }

    fn read(&mut self, r: &mut Reader<'_>) -> Result<(), PeersFileError> {
        let format = r.u8()?;
        let compatibility = r.u8()?;
        let lowest = compatibility
            .checked_sub(COMPATIBILITY_BASE)
            .ok_or(PeersFileError::BadCompatibility(compatibility))?;
        if lowest > FORMAT || format < OLDEST_FORMAT {
            return Err(PeersFileError::Unsupported { format, lowest });
        }
        self.key = r.array()?;
        let new_count = r.i32()?;
        let tried_count = r.i32()?;
        let buckets = r.i32()? ^ BUCKETS_MASK;
        if !(0..=(NEW_BUCKETS * BUCKET_SIZE) as i32).contains(&new_count) {
            return Err(PeersFileError::TooManyNew(new_count));
        }
        if !(0..=(TRIED_BUCKETS * BUCKET_SIZE) as i32).contains(&tried_count) {
            return Err(PeersFileError::TooManyTried(tried_count));
        }
        for _ in 0..new_count {
            let info = read_info(r)?;
            let id = self.next_id;
            self.next_id += 1;
            self.count(&info.address, false, true);
            if self.ids.contains_key(&info.address.service) {
                return Err(PeersFileError::Inconsistent(-5));
            }
            self.insert(id, info);
        }
        let lost_tried = self.read_tried(r, tried_count)?;
        self.read_buckets(r, buckets, new_count)?;
        let lost_new = self.drop_unreferenced();
        if lost_new + lost_tried > 0 {
            self.log.push(LogLine::debug(
                LogCategory::Addrman,
                format!(
                    "addrman lost {lost_new} new and {lost_tried} tried addresses due to collisions or invalid \
                     addresses"
                ),
            ));
        }
        Ok(())
    }

    /// Their buckets follow from the key. Returns how many have no place.
    fn read_tried(&mut self, r: &mut Reader<'_>, count: i32) -> Result<usize, PeersFileError> {
        let mut lost = 0;
        for _ in 0..count {
            let mut info = read_info(r)?;
            let service = info.address.service;
            let slot = self.tried_slot(&service);
            let free = self.tried.at(slot).is_none() && !self.ids.contains_key(&service);
            if !free || !service.address.is_valid() {
                lost += 1;
                continue;
            }
            if info.last_success == 0 {
                return Err(PeersFileError::Inconsistent(-1));
            }
            let id = self.next_id;
            self.next_id += 1;
            info.tried = true;
            self.count(&info.address, true, true);
            self.insert(id, info);
            self.tried.set(slot, id);
        }
        Ok(lost)
    }

    fn read_buckets(
        &mut self,
        r: &mut Reader<'_>,
        buckets: i32,
        new_count: i32,
    ) -> Result<(), PeersFileError> {
        let mut places = Vec::new();
        for bucket in 0..buckets.max(0) {
            for _ in 0..r.i32()?.max(0) {
                let index = r.i32()?;
                if (0..new_count).contains(&index) {
                    places.push((u32::try_from(bucket).unwrap_or(0), u64::try_from(index).unwrap_or(0)));
                }
            }
        }
        let same_map = r.array::<32>()? == [0; 32];
        let restore = buckets == NEW_BUCKETS as i32 && same_map;
        if !restore {
            self.log.push(LogLine::debug(
                LogCategory::Addrman,
                "Bucketing method was updated, re-bucketing addrman entries from disk",
            ));
        }
        for (bucket, index) in places {
            // Numbers start at 1.
            let id = index + 1;
            let Some(info) = self.entries.get(&id) else { continue };
            let (service, source) = (info.address.service, info.source);
            if !service.address.is_valid() || info.references >= NEW_BUCKETS_PER_ADDRESS {
                continue;
            }
            let mut slot = self.slot(b'N', bucket, &service);
            if !restore || self.new.at(slot).is_some() {
                slot = self.new_slot(&service, &source);
            }
            if self.new.at(slot).is_none() {
                self.new.set(slot, id);
                if let Some(info) = self.entries.get_mut(&id) {
                    info.references += 1;
                }
            }
        }
        Ok(())
    }

    fn drop_unreferenced(&mut self) -> usize {
        let unreferenced =
            |id: &u64| self.entries.get(id).is_some_and(|info| !info.tried && info.references == 0);
        let lost: Vec<u64> = self.order.iter().copied().filter(unreferenced).collect();
        for id in &lost {
            self.remove(*id);
        }
        lost.len()
    }
}

/// Appends an address in the form of Core's files.
pub(crate) fn put_address(out: &mut Vec<u8>, address: &PeerAddress) {
    out.extend(ADDRESS_VERSION.to_le_bytes());
    address.put_v2(out);
}

/// Reads an address in the form of Core's files.
pub(crate) fn read_address(r: &mut Reader<'_>) -> Result<PeerAddress, PeersFileError> {
    if r.u32()? & !ADDRESS_VERSION_IGNORED != ADDRESS_V2 {
        return Err(PeersFileError::BadAddressVersion);
    }
    Ok(PeerAddress::read_v2(r)?)
}

fn put_info(out: &mut Vec<u8>, info: &AddressInfo) {
    put_address(out, &info.address);
    info.source.put_v2(out);
    out.extend(info.last_success.to_le_bytes());
    out.extend(info.attempts.to_le_bytes());
}

fn read_info(r: &mut Reader<'_>) -> Result<AddressInfo, PeersFileError> {
    let address = read_address(r)?;
    let source = NetAddress::read_v2(r)?;
    let mut info = AddressInfo::new(address, source);
    info.last_success = r.i64()?;
    info.attempts = r.i32()?;
    if info.last_success < 0 {
        return Err(PeersFileError::Inconsistent(-8));
    }
    Ok(info)
}
