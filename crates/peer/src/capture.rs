//! Every message exchanged with a peer, written down for debugging (`-capturemessages`; Core's
//! `CaptureMessageToFile`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ironpeer_primitives::LogLine;
use ironpeer_store::{Disk, OpenMode};
use ironpeer_wire::Service;

use crate::outbox::Outgoing;
use crate::shell::{Peer, Shell};

/// Bytes of a message type in a record, padded with zeros.
const COMMAND_BYTES: usize = 12;

/// Where one peer's messages go.
pub(crate) struct Capture {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

impl Capture {
    pub(crate) fn new(disk: Arc<dyn Disk>, data_dir: &Path, peer: &Service) -> Arc<Self> {
        // Some systems allow no colon in a name.
        let name = peer.to_string().replace(':', "_");
        Arc::new(Self { disk, folder: data_dir.join("message_capture").join(name) })
    }

    fn append(&self, name: &str, records: &[u8]) -> io::Result<()> {
        self.disk.create_dir_all(&self.folder)?;
        let file = self.disk.open(&self.folder.join(name), OpenMode::Write)?;
        file.write_at(records, file.size()?)
    }
}

/// Time in microseconds, type, length, payload.
fn record(micros: i64, command: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut record = micros.to_le_bytes().to_vec();
    record.extend(command.iter().copied().chain(std::iter::repeat(0)).take(COMMAND_BYTES));
    record.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend(payload);
    record
}

impl Shell {
    /// Writes down a message that came.
    pub(crate) async fn capture_received(&self, peer: &Peer, command: &[u8], payload: &[u8]) {
        if let Some(capture) = &peer.capture {
            let records = record(self.clock.unix_micros(), command, payload);
            self.write_capture(Arc::clone(capture), "msgs_recv.dat", records).await;
        }
    }

    /// Writes down messages about to be sent.
    pub(crate) async fn capture_sent(&self, peer: &Peer, batch: &[Outgoing]) {
        if let Some(capture) = &peer.capture {
            let now = self.clock.unix_micros();
            let one = |message: &Outgoing| {
                let payload = message.bytes.get(ironpeer_wire::limits::V1_HEADER_BYTES..).unwrap_or_default();
                record(now, message.command.name(), payload)
            };
            let records = batch.iter().flat_map(one).collect();
            self.write_capture(Arc::clone(capture), "msgs_sent.dat", records).await;
        }
    }

    async fn write_capture(&self, capture: Arc<Capture>, name: &'static str, records: Vec<u8>) {
        let written = tokio::task::spawn_blocking(move || capture.append(name, &records)).await;
        if let Ok(Err(error)) = written {
            self.log.log(LogLine::error(format!("Cannot write {name}: {error}")));
        }
    }
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
