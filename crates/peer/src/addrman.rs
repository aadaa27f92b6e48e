//! The address manager: which nodes there are, as far as strangers can be believed.
//!
//! Core's design (`src/addrman.cpp`): addresses only heard of lie in "new" buckets, those that
//! worked in "tried" ones. Which bucket and place an address gets is a keyed hash of it, of its
//! network group and of its source's, so that one attacker can displace only few of the others.
//! This is the synchronous core: time comes in as an argument, randomness at construction.

use std::collections::{BTreeSet, HashMap};

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::p2p::ServiceFlags;
use ironpeer_primitives::{LogCategory, LogLine, UnixTime};
use ironpeer_wire::{NetAddress, PeerAddress, Service};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::limits::{
    ADDRESS_HORIZON, ADDRESS_MAX_FAILURES, ADDRESS_MIN_FAIL, ADDRESS_REPLACEMENT, ADDRESS_RETRIES,
    ADDRESS_TEST_WINDOW, BUCKET_SIZE, MAX_TRIED_COLLISIONS, NEW_BUCKETS, NEW_BUCKETS_PER_ADDRESS,
    NEW_BUCKETS_PER_SOURCE_GROUP, TRIED_BUCKETS, TRIED_BUCKETS_PER_GROUP,
};
use crate::network::{Classify, Network, service_key};

#[path = "addrman_file.rs"]
mod file;
pub use file::PeersFileError;
pub(crate) use file::{put_address, read_address};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What is known of one address.
#[derive(Clone, Debug)]
pub struct AddressInfo {
    /// The address, when it was last seen, and its services.
    pub address: PeerAddress,
    /// Who told us first.
    pub source: NetAddress,
    /// When it was last tried, in Unix seconds; not kept on disk.
    pub last_try: UnixTime,
    /// When a failed attempt last counted; not kept on disk.
    last_counted_try: UnixTime,
    /// When a connection last succeeded.
    pub last_success: UnixTime,
    /// Failed attempts since.
    pub attempts: i32,
    /// In how many new buckets it lies.
    references: u32,
    tried: bool,
    /// Its place in the list that random choices are made from.
    position: usize,
}

impl AddressInfo {
    const fn new(address: PeerAddress, source: NetAddress) -> Self {
        Self {
            address,
            source,
            last_try: 0,
            last_counted_try: 0,
            last_success: 0,
            attempts: 0,
            references: 0,
            tried: false,
            position: 0,
        }
    }

    /// Whether it is not worth its place (`IsTerrible`).
    fn is_terrible(&self, now: UnixTime) -> bool {
        let seen = i64::from(self.address.time);
        if now - self.last_try <= MINUTE {
            return false;
        }
        seen > now + 10 * MINUTE
            || now - seen > seconds(ADDRESS_HORIZON)
            || (self.last_success == 0 && self.attempts >= ADDRESS_RETRIES)
            || (now - self.last_success > seconds(ADDRESS_MIN_FAIL) && self.attempts >= ADDRESS_MAX_FAILURES)
    }

    /// Relative chance of being chosen (`GetChance`).
    fn chance(&self, now: UnixTime) -> f64 {
        let recent = if now - self.last_try < 10 * MINUTE { 0.01 } else { 1.0 };
        recent * 0.66f64.powi(self.attempts.clamp(0, 8))
    }
}

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPosition {
    /// In the tried table.
    pub tried: bool,
    /// In how many buckets.
    pub multiplicity: u32,
    /// The bucket.
    pub bucket: u32,
    /// The place in the bucket.
    pub position: u32,
}

/// Numbers of new and tried addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressCounts {
    /// Only heard of.
    pub new: usize,
    /// Worked once.
    pub tried: usize,
}

/// A bucket's place in its table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    bucket: u32,
    place: u32,
}

impl Slot {
    const fn index(self) -> usize {
        (self.bucket as usize) * (BUCKET_SIZE as usize) + self.place as usize
    }
}

/// A table of buckets. Numbers of entries start at 1; 0 stands for an empty place, so that a
/// fresh table costs no memory before it is written to.
struct Table(Vec<u64>);

impl Table {
    fn new(buckets: u32) -> Self {
        Self(vec![0; buckets as usize * BUCKET_SIZE as usize])
    }

    fn at(&self, slot: Slot) -> Option<u64> {
        self.0.get(slot.index()).copied().filter(|id| *id != 0)
    }

    fn set(&mut self, slot: Slot, id: u64) {
        if let Some(place) = self.0.get_mut(slot.index()) {
            *place = id;
        }
    }

    fn clear(&mut self, slot: Slot) {
        self.set(slot, 0);
    }

    fn entries(&self) -> impl Iterator<Item = (Slot, u64)> + '_ {
        self.0.iter().enumerate().filter(|(_, id)| **id != 0).map(|(index, id)| {
            let index = u32::try_from(index).unwrap_or(0);
            (Slot { bucket: index / BUCKET_SIZE, place: index % BUCKET_SIZE }, *id)
        })
    }
}

/// See the module.
pub struct AddrMan {
    key: [u8; 32],
    rng: StdRng,
    next_id: u64,
    entries: HashMap<u64, AddressInfo>,
    ids: HashMap<Service, u64>,
    /// All numbers, for random choices.
    order: Vec<u64>,
    tried: Table,
    new: Table,
    counts: HashMap<Network, AddressCounts>,
    /// When `good` was last called; "never" must lie before.
    last_good: UnixTime,
    /// Those that worked but would displace another, which is tested first.
    collisions: BTreeSet<u64>,
    log: Vec<LogLine>,
}

impl AddrMan {
    /// An empty one with a random key.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self::with_key(key, rng)
    }

    /// An empty one whose buckets can be predicted (`-test=addrman`).
    #[must_use]
    pub fn deterministic() -> Self {
        let mut key = [0; 32];
        if let Some(first) = key.first_mut() {
            *first = 1;
        }
        Self::with_key(key, StdRng::from_seed([0; 32]))
    }

    fn with_key(key: [u8; 32], rng: StdRng) -> Self {
        Self {
            key,
            rng,
            next_id: 1,
            entries: HashMap::new(),
            ids: HashMap::new(),
            order: Vec::new(),
            tried: Table::new(TRIED_BUCKETS),
            new: Table::new(NEW_BUCKETS),
            counts: HashMap::new(),
            last_good: 1,
            collisions: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    /// What happened since the last call, for the log.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.log)
    }

    fn note(&mut self, text: String) {
        self.log.push(LogLine::debug(LogCategory::Addrman, text));
    }

    /// How many addresses there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many there are, of one network or of all.
    #[must_use]
    pub fn counts(&self, network: Option<Network>) -> AddressCounts {
        let wanted = |(of, _): &(&Network, &AddressCounts)| network.is_none_or(|network| network == **of);
        self.counts.iter().filter(wanted).fold(AddressCounts::default(), |sum, (_, counts)| AddressCounts {
            new: sum.new + counts.new,
            tried: sum.tried + counts.tried,
        })
    }

    fn count(&mut self, address: &PeerAddress, tried: bool, up: bool) {
        let counts = self.counts.entry(address.service.address.network()).or_default();
        let count = if tried { &mut counts.tried } else { &mut counts.new };
        *count = if up { *count + 1 } else { count.saturating_sub(1) };
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut engine = sha256d::Hash::engine();
        engine.input(&self.key);
        for part in parts {
            engine.input(part);
        }
        let hash = sha256d::Hash::from_engine(engine).to_byte_array();
        hash.first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first))
    }

    fn tried_slot(&self, service: &Service) -> Slot {
        let key = prefixed(&service_key(service));
        let group = prefixed(&service.address.group());
        let spread = self.hash(&[&key]) % TRIED_BUCKETS_PER_GROUP;
        let bucket = self.hash(&[&group, &spread.to_le_bytes()]) % u64::from(TRIED_BUCKETS);
        self.slot(b'K', u32::try_from(bucket).unwrap_or(0), service)
    }

    fn new_bucket(&self, service: &Service, source: &NetAddress) -> u32 {
        let group = prefixed(&service.address.group());
        let source = prefixed(&source.group());
        let spread = self.hash(&[&group, &source]) % NEW_BUCKETS_PER_SOURCE_GROUP;
        let bucket = self.hash(&[&source, &spread.to_le_bytes()]) % u64::from(NEW_BUCKETS);
        u32::try_from(bucket).unwrap_or(0)
    }

    fn new_slot(&self, service: &Service, source: &NetAddress) -> Slot {
        self.slot(b'N', self.new_bucket(service, source), service)
    }

    fn slot(&self, table: u8, bucket: u32, service: &Service) -> Slot {
        let key = prefixed(&service_key(service));
        let place = self.hash(&[&[table], &bucket.to_le_bytes(), &key]) % u64::from(BUCKET_SIZE);
        Slot { bucket, place: u32::try_from(place).unwrap_or(0) }
    }

    fn find(&self, service: &Service) -> Option<u64> {
        self.ids.get(service).copied()
    }

    /// What is known of an address.
    #[must_use]
    pub fn info(&self, service: &Service) -> Option<&AddressInfo> {
        self.entries.get(&self.find(service)?)
    }

    fn create(&mut self, address: PeerAddress, source: NetAddress) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.insert(id, AddressInfo::new(address, source));
        self.count(&address, false, true);
        id
    }

    fn insert(&mut self, id: u64, mut info: AddressInfo) {
        info.position = self.order.len();
        self.order.push(id);
        self.ids.insert(info.address.service, id);
        self.entries.insert(id, info);
    }

    /// Forgets an address that lies in no bucket.
    fn remove(&mut self, id: u64) {
        let Some(info) = self.entries.remove(&id) else { return };
        self.count(&info.address, false, false);
        self.ids.remove(&info.address.service);
        if info.position < self.order.len() {
            self.order.swap_remove(info.position);
            let moved = self.order.get(info.position).copied();
            if let Some(moved) = moved.and_then(|id| self.entries.get_mut(&id)) {
                moved.position = info.position;
            }
        }
    }

    fn clear_new(&mut self, slot: Slot) {
        let Some(id) = self.new.at(slot) else { return };
        self.new.clear(slot);
        let Some(info) = self.entries.get_mut(&id) else { return };
        info.references = info.references.saturating_sub(1);
        let (left, service) = (info.references, info.address.service);
        self.note(format!("Removed {service} from new[{}][{}]", slot.bucket, slot.place));
        if left == 0 {
            self.remove(id);
        }
    }

    /// Adds addresses that `source` told of, each `penalty` seconds older than said. Returns
    /// whether any was new or got another bucket.
    pub fn add(
        &mut self,
        addresses: &[PeerAddress],
        source: &NetAddress,
        penalty: i64,
        now: UnixTime,
    ) -> bool {
        let added = addresses.iter().filter(|address| self.add_one(address, source, penalty, now)).count();
        if added > 0 {
            let AddressCounts { new, tried } = self.counts(None);
            self.note(format!(
                "Added {added} addresses (of {}) from {source}: {tried} tried, {new} new",
                addresses.len()
            ));
        }
        added > 0
    }

    fn add_one(&mut self, address: &PeerAddress, source: &NetAddress, penalty: i64, now: UnixTime) -> bool {
        if !address.service.address.is_routable() {
            return false;
        }
        let penalty = if address.service.address == *source { 0 } else { penalty };
        let seen = i64::from(address.time);
        let id = match self.find(&address.service) {
            Some(id) => {
                if !self.may_gain_reference(id, address, penalty, now) {
                    return false;
                }
                id
            }
            None => {
                let time = u32::try_from((seen - penalty).max(0)).unwrap_or(u32::MAX);
                self.create(PeerAddress { time, ..*address }, *source)
            }
        };
        let slot = self.new_slot(&address.service, source);
        let references = self.entries.get(&id).map_or(0, |info| info.references);
        let occupant = self.new.at(slot);
        if occupant == Some(id) {
            return false;
        }
        let displace = match occupant.and_then(|id| self.entries.get(&id)) {
            None => true,
            Some(other) => other.is_terrible(now) || (other.references > 1 && references == 0),
        };
        if displace {
            self.clear_new(slot);
            self.new.set(slot, id);
            if let Some(info) = self.entries.get_mut(&id) {
                info.references += 1;
            }
            self.note(format!("Added {} to new[{}][{}]", address.service, slot.bucket, slot.place));
        } else if references == 0 {
            self.remove(id);
        }
        displace
    }

    /// Takes over what is new about a known address, and decides whether it may lie in one more
    /// bucket: ever less likely, the more it lies in.
    fn may_gain_reference(&mut self, id: u64, address: &PeerAddress, penalty: i64, now: UnixTime) -> bool {
        let Some(info) = self.entries.get_mut(&id) else { return false };
        let seen = i64::from(address.time);
        let online = now - seen < DAY;
        let interval = if online { HOUR } else { DAY };
        if i64::from(info.address.time) < seen - interval - penalty {
            info.address.time = u32::try_from((seen - penalty).max(0)).unwrap_or(u32::MAX);
        }
        info.address.services |= address.services;
        if address.time <= info.address.time || info.tried || info.references >= NEW_BUCKETS_PER_ADDRESS {
            return false;
        }
        info.references == 0 || self.rng.gen_range(0..1u32 << info.references) == 0
    }

    /// A connection to this address succeeded (`Good`). Returns whether it moved to the tried
    /// table; if that would displace another, the other is to be tested first.
    pub fn good(&mut self, service: &Service, now: UnixTime) -> bool {
        self.make_good(service, true, now)
    }

    fn make_good(&mut self, service: &Service, test_first: bool, now: UnixTime) -> bool {
        self.last_good = now;
        let Some(id) = self.find(service) else { return false };
        let Some(info) = self.entries.get_mut(&id) else { return false };
        info.last_success = now;
        info.last_try = now;
        info.attempts = 0;
        if info.tried || info.references == 0 {
            return false;
        }
        let slot = self.tried_slot(service);
        let occupant = self.tried.at(slot).and_then(|id| self.entries.get(&id));
        if let Some(occupant) = occupant.filter(|_| test_first) {
            let occupant = occupant.address.service;
            if self.collisions.len() < MAX_TRIED_COLLISIONS {
                self.collisions.insert(id);
            }
            self.note(format!(
                "Collision with {occupant} while attempting to move {service} to tried table. Collisions={}",
                self.collisions.len()
            ));
            return false;
        }
        self.make_tried(id, service, slot);
        self.note(format!("Moved {service} to tried[{}][{}]", slot.bucket, slot.place));
        true
    }

    fn make_tried(&mut self, id: u64, service: &Service, slot: Slot) {
        let Some(info) = self.entries.get(&id) else { return };
        let address = info.address;
        let start = self.new_bucket(service, &info.source);
        let mut references = info.references;
        for step in 0..NEW_BUCKETS {
            if references == 0 {
                break;
            }
            let place = self.slot(b'N', (start + step) % NEW_BUCKETS, service);
            if self.new.at(place) == Some(id) {
                self.new.clear(place);
                references -= 1;
            }
        }
        self.count(&address, false, false);
        if let Some(old) = self.tried.at(slot) {
            self.return_to_new(old, slot);
        }
        self.tried.set(slot, id);
        self.count(&address, true, true);
        if let Some(info) = self.entries.get_mut(&id) {
            info.references = 0;
            info.tried = true;
        }
    }

    /// Makes space in the tried table: what lies there goes to the new one.
    fn return_to_new(&mut self, id: u64, from: Slot) {
        let Some(info) = self.entries.get_mut(&id) else { return };
        info.tried = false;
        let (address, source) = (info.address, info.source);
        self.tried.clear(from);
        self.count(&address, true, false);
        let slot = self.new_slot(&address.service, &source);
        self.clear_new(slot);
        self.new.set(slot, id);
        self.count(&address, false, true);
        if let Some(info) = self.entries.get_mut(&id) {
            info.references = 1;
        }
        self.note(format!(
            "Moved {} from tried[{}][{}] to new[{}][{}] to make space",
            address.service, from.bucket, from.place, slot.bucket, slot.place
        ));
    }

    /// An attempt to connect is made; it counts as failed unless [`AddrMan::good`] follows.
    pub fn attempt(&mut self, service: &Service, count_failure: bool, now: UnixTime) {
        let last_good = self.last_good;
        let Some(info) = self.find(service).and_then(|id| self.entries.get_mut(&id)) else { return };
        info.last_try = now;
        if count_failure && info.last_counted_try < last_good {
            info.last_counted_try = now;
            info.attempts = info.attempts.saturating_add(1);
        }
    }

    /// A peer that had been in use is gone: it was there until now.
    pub fn connected(&mut self, service: &Service, now: UnixTime) {
        let Some(info) = self.find(service).and_then(|id| self.entries.get_mut(&id)) else { return };
        if now - i64::from(info.address.time) > 20 * MINUTE {
            info.address.time = u32::try_from(now).unwrap_or(u32::MAX);
        }
    }

    /// The node itself said what it offers.
    pub fn set_services(&mut self, service: &Service, services: ServiceFlags) {
        if let Some(info) = self.find(service).and_then(|id| self.entries.get_mut(&id)) {
            info.address.services = services;
        }
    }

    /// Draws an address to connect to, and when it was last tried; tried and new ones with equal
    /// chance. An empty list of networks means any.
    pub fn select(
        &mut self,
        new_only: bool,
        networks: &[Network],
        now: UnixTime,
    ) -> Option<(PeerAddress, UnixTime)> {
        let counts = if networks.is_empty() {
            self.counts(None)
        } else {
            networks.iter().fold(AddressCounts::default(), |sum, network| {
                let counts = self.counts(Some(*network));
                AddressCounts { new: sum.new + counts.new, tried: sum.tried + counts.tried }
            })
        };
        let from_tried = match (counts.new, counts.tried) {
            (0, 0) => return None,
            (0, _) if new_only => return None,
            (_, 0) => false,
            _ if new_only => false,
            (0, _) => true,
            _ => self.rng.r#gen(),
        };
        let (table, buckets) =
            if from_tried { (&self.tried, TRIED_BUCKETS) } else { (&self.new, NEW_BUCKETS) };
        let suits = |info: &AddressInfo| {
            networks.is_empty() || networks.contains(&info.address.service.address.network())
        };
        let mut factor = 1.0;
        loop {
            let bucket = self.rng.gen_range(0..buckets);
            let first = self.rng.gen_range(0..BUCKET_SIZE);
            let found = (0..BUCKET_SIZE)
                .map(|step| Slot { bucket, place: (first + step) % BUCKET_SIZE })
                .filter_map(|slot| self.entries.get(&table.at(slot)?))
                .find(|info| suits(info));
            let Some(info) = found else { continue };
            if self.rng.r#gen::<f64>() < factor * info.chance(now) {
                let (address, last_try) = (info.address, info.last_try);
                let from = if from_tried { "tried" } else { "new" };
                self.note(format!("Selected {} from {from}", address.service));
                return Some((address, last_try));
            }
            factor *= 1.2;
        }
    }

    /// Random addresses: at most `max` (0: no limit) and `max_percent` (0: no limit) of all, of
    /// one network if given; those not worth keeping only if `unfiltered`.
    pub fn addresses(
        &mut self,
        max: usize,
        max_percent: usize,
        network: Option<Network>,
        unfiltered: bool,
        now: UnixTime,
    ) -> Vec<PeerAddress> {
        let mut wanted = self.order.len();
        if max_percent != 0 {
            wanted = wanted * max_percent.min(100) / 100;
        }
        if max != 0 {
            wanted = wanted.min(max);
        }
        let mut chosen = Vec::with_capacity(wanted);
        for n in 0..self.order.len() {
            if chosen.len() >= wanted {
                break;
            }
            let other = self.rng.gen_range(n..self.order.len());
            self.swap_order(n, other);
            let Some(info) = self.order.get(n).and_then(|id| self.entries.get(id)) else { continue };
            let of = info.address.service.address.network_class();
            if network.is_some_and(|network| network != of) || (info.is_terrible(now) && !unfiltered) {
                continue;
            }
            chosen.push(info.address);
        }
        self.note(format!("GetAddr returned {} random addresses", chosen.len()));
        chosen
    }

    fn swap_order(&mut self, a: usize, b: usize) {
        if a == b || a.max(b) >= self.order.len() {
            return;
        }
        self.order.swap(a, b);
        for position in [a, b] {
            let id = self.order.get(position).copied();
            if let Some(info) = id.and_then(|id| self.entries.get_mut(&id)) {
                info.position = position;
            }
        }
    }

    /// Decides on the addresses that wait to displace a tried one.
    pub fn resolve_collisions(&mut self, now: UnixTime) {
        for id in self.collisions.clone() {
            if self.collision_resolved(id, now) {
                self.collisions.remove(&id);
            }
        }
    }

    fn collision_resolved(&mut self, id: u64, now: UnixTime) -> bool {
        let Some(info) = self.entries.get(&id) else { return true };
        let (service, success) = (info.address.service, info.last_success);
        let occupant = self.tried.at(self.tried_slot(&service)).and_then(|id| self.entries.get(&id));
        let Some(old) = occupant else {
            self.make_good(&service, false, now);
            return true;
        };
        let replacement = seconds(ADDRESS_REPLACEMENT);
        if now - old.last_success < replacement {
            return true;
        }
        let old_service = old.address.service;
        if now - old.last_try < replacement {
            if now - old.last_try <= MINUTE {
                return false;
            }
            self.note(format!("Replacing {old_service} with {service} in tried table"));
        } else if now - success > seconds(ADDRESS_TEST_WINDOW) {
            self.note(format!(
                "Unable to test; replacing {old_service} with {service} in tried table anyway"
            ));
        } else {
            return false;
        }
        self.make_good(&service, false, now);
        true
    }

    /// A tried address that another waits to displace, and when it was last tried.
    pub fn select_collision(&mut self) -> Option<(PeerAddress, UnixTime)> {
        if self.collisions.is_empty() {
            return None;
        }
        let pick = self.rng.gen_range(0..self.collisions.len());
        let id = self.collisions.iter().nth(pick).copied()?;
        let Some(info) = self.entries.get(&id) else {
            self.collisions.remove(&id);
            return None;
        };
        let slot = self.tried_slot(&info.address.service);
        let old = self.entries.get(&self.tried.at(slot)?)?;
        Some((old.address, old.last_try))
    }

    /// All addresses of a table with their places (`getrawaddrman`).
    #[must_use]
    pub fn table(&self, tried: bool) -> Vec<(AddressInfo, AddressPosition)> {
        let table = if tried { &self.tried } else { &self.new };
        let entry = |(slot, id): (Slot, u64)| {
            let info = self.entries.get(&id)?.clone();
            let multiplicity = if tried { 1 } else { info.references };
            let position = AddressPosition { tried, multiplicity, bucket: slot.bucket, position: slot.place };
            Some((info, position))
        };
        table.entries().filter_map(entry).collect()
    }
}

/// Bytes behind their length, as Core hashes a vector. All are shorter than 253.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::try_from(bytes.len()).unwrap_or(u8::MAX)];
    out.extend(bytes);
    out
}

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "addrman_tests.rs"]
mod tests;
