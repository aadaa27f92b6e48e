//! `anchors.dat`: the block-relay-only peers of the last run, tried first by the next. Whoever
//! makes a node restart cannot make it choose all its peers anew (Heilman et al. 2015). The
//! format is Core's (`DumpAnchors`, `src/addrdb.cpp`).

use std::path::{Path, PathBuf};

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::Magic;
use ironpeer_primitives::{LogCategory, LogLine};
use ironpeer_store::write_atomic;
use ironpeer_sync::ConnectionKind;
use ironpeer_wire::{PeerAddress, Reader};

use crate::addrman::{PeersFileError, put_address, read_address};
use crate::limits::MAX_ANCHORS;
use crate::network::Classify;
use crate::shell::Shell;

/// The time written with an address, which nobody reads (Core's `TIME_INIT`).
const NO_TIME: u32 = 100_000_000;

fn path(dir: &Path) -> PathBuf {
    dir.join("anchors.dat")
}

fn to_file(anchors: &[PeerAddress], magic: Magic) -> Vec<u8> {
    let mut out = magic.to_bytes().to_vec();
    // A length below 253 is one byte.
    out.push(u8::try_from(anchors.len().min(MAX_ANCHORS)).unwrap_or(0));
    for anchor in anchors.iter().take(MAX_ANCHORS) {
        put_address(&mut out, anchor);
    }
    let hash = sha256d::Hash::hash(&out);
    out.extend(hash.to_byte_array());
    out
}

fn from_file(bytes: &[u8], magic: Magic) -> Result<Vec<PeerAddress>, PeersFileError> {
    let r = &mut Reader::new(bytes);
    if r.array::<4>()? != magic.to_bytes() {
        return Err(PeersFileError::WrongMagic);
    }
    let count = r.compact_size()?;
    let mut anchors = Vec::new();
    for _ in 0..count {
        anchors.push(read_address(r)?);
    }
    let read = bytes.len() - r.rest().len();
    let expected = sha256d::Hash::hash(bytes.get(..read).unwrap_or_default());
    if r.array::<32>()? != expected.to_byte_array() {
        return Err(PeersFileError::Checksum);
    }
    Ok(anchors)
}

impl Shell {
    /// Reads the anchors and removes the file: after a crash nothing tells which of them are
    /// still good, or whether they were the reason.
    pub(crate) fn load_anchors(&self) {
        let Some(dir) = &self.config.data_dir else { return };
        let path = path(dir);
        let read = crate::files::read(self.disk.as_ref(), &path).ok();
        let mut anchors = match read.map(|bytes| from_file(&bytes, self.magic)) {
            Some(Ok(anchors)) => {
                self.info(format!("Loaded {} addresses from \"anchors.dat\"", anchors.len()));
                anchors
            }
            // A missing or damaged file costs no more than its anchors.
            Some(Err(_)) | None => Vec::new(),
        };
        // Missing, most often.
        let _ = self.disk.remove(&path);
        anchors.truncate(MAX_ANCHORS);
        self.info(format!("{} block-relay-only anchors will be tried for connections.", anchors.len()));
        *self.anchors.lock() = anchors;
    }

    /// The block-relay-only peers there are now.
    pub(crate) fn current_anchors(&self) -> Vec<PeerAddress> {
        let peers = self.all();
        let anchors = peers.iter().filter(|peer| peer.kind == ConnectionKind::BlockRelayOnly);
        anchors
            .map(|peer| PeerAddress { time: NO_TIME, services: peer.services, service: peer.service })
            .take(MAX_ANCHORS)
            .collect()
    }

    /// Writes the anchors, at an orderly end only. Takes time: not for a runtime's worker.
    pub(crate) fn dump_anchors(&self, anchors: &[PeerAddress]) {
        let Some(dir) = &self.config.data_dir else { return };
        let started = self.clock.steady();
        let what = format!(
            "DumpAnchors: Flush {} outbound block-relay-only peer addresses to anchors.dat",
            anchors.len()
        );
        self.info(format!("{what} started"));
        match write_atomic(self.disk.as_ref(), &path(dir), &to_file(anchors, self.magic)) {
            Ok(()) => {
                let took = self.clock.steady().saturating_sub(started).as_secs_f64();
                self.info(format!("{what} completed ({took:.2}s)"));
            }
            Err(error) => self.log.log(LogLine::error(error.to_string())),
        }
    }

    /// The next anchor that may be connected to, if a block-relay-only peer is missing.
    pub(crate) fn next_anchor(&self) -> Option<PeerAddress> {
        if self.count_of(ConnectionKind::BlockRelayOnly) >= self.config.max_block_outbound() {
            return None;
        }
        let groups = self.outbound_groups();
        loop {
            let anchor = self.anchors.lock().pop()?;
            let address = &anchor.service.address;
            let fits = address.is_valid()
                && !self.is_own_address(&anchor.service)
                && address.ip().is_some()
                && self.serves_blocks(anchor.services)
                && !groups.contains(&address.group());
            if fits {
                self.debug(LogCategory::Net, || {
                    format!("Trying to make an anchor connection to {}", anchor.service)
                });
                return Some(anchor);
            }
        }
    }
}

#[cfg(test)]
#[path = "anchors_tests.rs"]
mod tests;
