//! `peers.dat` and `banlist.json`, where Core has them.

use std::path::{Path, PathBuf};

use bitcoin::p2p::Magic;
use ironpeer_primitives::{Clock, LogCategory, LogLine, LogSink, UnixTime};
use ironpeer_store::{Disk, OpenMode, write_atomic};

use crate::addrman::{AddrMan, PeersFileError};
use crate::bans::BanList;
use crate::info::StartError;
use crate::shell::Shell;

/// Longest `peers.dat` or `banlist.json` read, in bytes. A full address manager is 6 MB.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

pub(crate) fn read(disk: &dyn Disk, path: &Path) -> std::io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let size = file.size()?;
    if size > MAX_FILE_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn peers_path(dir: &Path) -> PathBuf {
    dir.join("peers.dat")
}

fn bans_path(dir: &Path) -> PathBuf {
    dir.join("banlist.json")
}

/// Reads `peers.dat`, or makes it. One that is too new is set aside; a damaged one is an error,
/// since the addresses in it may be the only honest ones.
pub(crate) fn load_addrman(
    dir: &Path,
    disk: &dyn Disk,
    magic: Magic,
    fresh: impl Fn() -> AddrMan,
    seed: [u8; 32],
    log: &dyn LogSink,
    clock: &dyn Clock,
) -> Result<AddrMan, StartError> {
    let path = peers_path(dir);
    let started = clock.steady();
    let damaged = |error: String| StartError::PeersFile { error, path: path.display().to_string() };
    if !disk.exists(&path) {
        log.log(LogLine::info(format!(
            "Creating peers.dat because the file was not found (\"{}\")",
            path.display()
        )));
        let addrman = fresh();
        write_atomic(disk, &path, &addrman.to_file(magic)).map_err(|error| damaged(error.to_string()))?;
        return Ok(addrman);
    }
    let bytes = read(disk, &path).map_err(|error| damaged(error.to_string()))?;
    match AddrMan::from_file(&bytes, magic, seed) {
        Ok(addrman) => {
            let millis = clock.steady().saturating_sub(started).as_millis();
            log.log(LogLine::info(format!("Loaded {} addresses from peers.dat {millis}ms", addrman.len())));
            Ok(addrman)
        }
        Err(PeersFileError::Unsupported { .. }) => {
            disk.rename(&path, &path.with_extension("dat.bak")).map_err(|_| StartError::SetAside)?;
            log.log(LogLine::warning(format!(
                "Creating new peers.dat because the file version was not compatible (\"{}\"). Original backed up to \
                 peers.dat.bak",
                path.display()
            )));
            let addrman = fresh();
            write_atomic(disk, &path, &addrman.to_file(magic)).map_err(|error| damaged(error.to_string()))?;
            Ok(addrman)
        }
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// Reads `banlist.json`; one that cannot be read is made anew.
pub(crate) fn load_bans(dir: &Path, disk: &dyn Disk, log: &dyn LogSink, now: UnixTime) -> BanList {
    let path = bans_path(dir);
    if disk.exists(&path) {
        let parsed =
            read(disk, &path).map_err(|error| error.to_string()).and_then(|bytes| BanList::from_json(&bytes));
        match parsed {
            Ok((mut bans, dropped)) => {
                dropped.into_iter().for_each(|text| log.log(LogLine::info(text)));
                bans.sweep(now);
                let count = bans.len();
                log.log(LogLine::debug(
                    LogCategory::Net,
                    format!("Loaded {count} banned node addresses/subnets"),
                ));
                return bans;
            }
            Err(error) => {
                log.log(LogLine::warning(format!("Cannot load banlist {}: {error}", path.display())));
            }
        }
    }
    log.log(LogLine::info("Recreating the banlist database"));
    let bans = BanList::default();
    if let Err(error) = write_atomic(disk, &path, &bans.to_json()) {
        log.log(LogLine::error(error.to_string()));
    }
    bans
}

impl Shell {
    /// Writes `peers.dat`. Takes time: not for a runtime's worker.
    pub(crate) fn dump_addresses(&self) {
        let Some(dir) = &self.config.data_dir else { return };
        let started = self.clock.steady();
        let (bytes, count) = self.with_addrman(|addrman| (addrman.to_file(self.magic), addrman.len()));
        match write_atomic(self.disk.as_ref(), &peers_path(dir), &bytes) {
            Ok(()) => self.debug(LogCategory::Net, || {
                let millis = self.clock.steady().saturating_sub(started).as_millis();
                format!("Flushed {count} addresses to peers.dat {millis}ms")
            }),
            Err(error) => self.log.log(LogLine::error(error.to_string())),
        }
    }

    /// Writes `banlist.json`. Takes time: not for a runtime's worker.
    pub(crate) fn dump_bans(&self) {
        let Some(dir) = &self.config.data_dir else { return };
        let bytes = {
            let mut bans = self.bans.lock();
            let ended = bans.list.sweep(self.now());
            for subnet in ended {
                self.debug(LogCategory::Net, || format!("Removed banned node address/subnet: {subnet}"));
            }
            bans.list.to_json()
        };
        if let Err(error) = write_atomic(self.disk.as_ref(), &bans_path(dir), &bytes) {
            self.log.log(LogLine::error(error.to_string()));
        }
    }
}
