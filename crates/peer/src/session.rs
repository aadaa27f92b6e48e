//! The two tasks of a connection: one reads messages and sees each through to its last effect,
//! one writes what is queued.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use ironpeer_primitives::LogCategory;
use ironpeer_sync::{Action, ConnectionKind, Event};
use ironpeer_wire::{Command, Frame, Message, Received, V1Decoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::budget::{Decoded, Partial};
use crate::limits;
use crate::outbox::Outgoing;
use crate::shell::{Peer, Shell};

/// Room for bytes of a peer that has nothing to say, or says it in small messages.
const IDLE_READ_BYTES: usize = 4 * 1024;
/// Messages written with one call, in bytes together.
const WRITE_BATCH_BYTES: usize = 256 * 1024;
/// How long a connection that is being closed may take the messages that were queued before.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why reading ended.
enum End {
    /// We close the connection; who decided so has logged why.
    Stopped,
    /// The peer closed it.
    Closed,
    /// What came is no message.
    BadHeader,
    /// A large message took too long.
    Overdue,
    /// The system says so.
    Failed(std::io::Error),
}

impl End {
    /// Core's log line.
    fn text(&self, disconnecting: &str) -> Option<String> {
        match self {
            Self::Stopped => None,
            Self::Closed => Some(format!("socket closed, {disconnecting}")),
            Self::BadHeader => Some(format!("receiving message bytes failed, {disconnecting}")),
            Self::Overdue => Some(format!("message receive timeout, {disconnecting}")),
            Self::Failed(error) => Some(format!("socket recv error, {disconnecting}: {error}")),
        }
    }
}

impl Shell {
    /// Starts both tasks. `first` are the actions that answer the connection itself.
    pub(crate) fn start_peer(self: &Arc<Self>, stream: TcpStream, peer: Arc<Peer>, first: Vec<Action>) {
        let (reading, writing) = stream.into_split();
        let (shell, writer) = (Arc::clone(self), Arc::clone(&peer));
        self.tracker.spawn(async move {
            if AssertUnwindSafe(shell.write_loop(&writer, writing)).catch_unwind().await.is_err() {
                shell.note_panic("a peer's writer");
            }
            writer.stop.cancel();
        });
        let shell = Arc::clone(self);
        self.tracker.spawn(async move {
            let session = async {
                shell.carry_out(first).await;
                shell.read_loop(&peer, reading).await
            };
            match AssertUnwindSafe(session).catch_unwind().await {
                Ok(end) => {
                    if let Some(text) = end.text(&shell.disconnecting(&peer)) {
                        shell.debug(LogCategory::Net, || text);
                    }
                }
                // The peer's state may be half-changed: it ends here, the others go on.
                Err(_) => shell.note_panic(&format!("the task of peer={}", peer.id)),
            }
            peer.stop.cancel();
            shell.peers.write().remove(&peer.id);
            let actions = shell.feed_guarded(Event::Disconnected { peer: peer.id });
            shell.dispatch(actions);
        });
    }

    /// Reads messages and handles each to its end before the next; of blocks that were asked for,
    /// the end is not waited for while more of them come.
    async fn read_loop(self: &Arc<Self>, peer: &Arc<Peer>, mut stream: OwnedReadHalf) -> End {
        let mut decoder = V1Decoder::new(self.magic);
        let mut partial: Option<Partial> = None;
        loop {
            if peer.stop.is_cancelled() {
                return End::Stopped;
            }
            let room = if decoder.announced() > IDLE_READ_BYTES {
                limits::READ_CHUNK_BYTES
            } else {
                IDLE_READ_BYTES
            };
            let mut bytes = Vec::with_capacity(room);
            let read = tokio::select! {
                biased;
                () = peer.stop.cancelled() => return End::Stopped,
                () = overdue(partial.as_ref()) => return End::Overdue,
                read = stream.read_buf(&mut bytes) => read,
            };
            match read {
                Ok(0) => return End::Closed,
                Ok(n) => {
                    self.bytes_received.fetch_add(n as u64, Ordering::Relaxed);
                    peer.received.passed(n, self.now());
                }
                Err(error) => return End::Failed(error),
            }
            let mut input = bytes.as_slice();
            while !input.is_empty() {
                match decoder.push(&mut input) {
                    Ok(Some(received)) => {
                        if !self.handle_received(peer, received, &mut decoder, &mut partial).await {
                            return End::Stopped;
                        }
                    }
                    Ok(None) => {
                        if partial.is_none() && decoder.announced() > limits::RECEIVE_SHARE_BYTES {
                            let inbound = peer.kind == ConnectionKind::Inbound;
                            tokio::select! {
                                biased;
                                () = peer.stop.cancelled() => return End::Stopped,
                                part = self.receive_budget.begin(inbound, decoder.announced()) => partial = part,
                            }
                        }
                    }
                    Err(error) => {
                        self.debug(LogCategory::Net, || format!("{error}, peer={}", peer.id));
                        return End::BadHeader;
                    }
                }
            }
        }
    }

    /// Returns whether to go on.
    async fn handle_received(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        received: Received,
        decoder: &mut V1Decoder,
        partial: &mut Option<Partial>,
    ) -> bool {
        match received {
            Received::Frame(frame) => {
                peer.received.message(Some(frame.command), frame.wire_bytes());
                // Its part of the common budget is not for waiting, either.
                let answered = tokio::select! {
                    biased;
                    answered = self.answer_all(peer) => answered,
                    () = overdue(partial.as_ref()) => {
                        self.debug(LogCategory::Net, || {
                            format!("message receive timeout, {}", self.disconnecting(peer))
                        });
                        false
                    }
                };
                if !answered {
                    return false;
                }
                let command = frame.command;
                self.debug(LogCategory::Net, || {
                    format!("received: {command} ({} bytes) peer={}", frame.payload.len(), peer.id)
                });
                self.capture_received(peer, command.name(), &frame.payload).await;
                let Some((message, held)) = self.decode(peer, frame).await else { return false };
                *partial = None;
                // All but blocks find everything before them done.
                if !matches!(message, Message::Block(_)) {
                    tokio::select! {
                        () = peer.stop.cancelled() => return false,
                        () = peer.downloads.idle() => {}
                    }
                }
                let actions = self.feed(Event::Message { peer: peer.id, message });
                self.carry_out(actions).await;
                // The peer may let us wait for as long as it likes from here on.
                drop(held);
                if command == Command::new("verack") {
                    decoder.handshake_done();
                }
                if !self.answer_all(peer).await {
                    return false;
                }
            }
            Received::Rejected(reject, bytes) => {
                *partial = None;
                peer.received.message(None, bytes);
                self.debug(LogCategory::Net, || format!("{reject}, peer={}", peer.id));
            }
        }
        !peer.stop.is_cancelled()
    }

    /// Waits until the peer has taken our answers, and goes on with what it asked for, until all
    /// is answered. Only then its next message is looked at: answers keep their order, and what
    /// waits to be answered never grows. Returns whether to go on.
    async fn answer_all(self: &Arc<Self>, peer: &Arc<Peer>) -> bool {
        loop {
            tokio::select! {
                biased;
                () = peer.stop.cancelled() => return false,
                () = peer.outbox.has_room() => {}
            }
            if !self.sync.lock().waits_for_room(peer.id) {
                return true;
            }
            let actions = self.feed(Event::SendQueue { peer: peer.id, paused: false });
            self.carry_out(actions).await;
        }
    }

    /// Gives a payload its meaning; a large one within the common budget, off the runtime's
    /// workers. `None` if the connection or the runtime ends.
    async fn decode(&self, peer: &Peer, frame: Frame) -> Option<(Message, Option<Decoded>)> {
        let size = frame.payload.len();
        if size <= limits::RECEIVE_SHARE_BYTES {
            return Some((frame.into_message(), None));
        }
        let mut held = tokio::select! {
            biased;
            () = peer.stop.cancelled() => return None,
            held = self.receive_budget.decode(size) => held?,
        };
        let message = if size <= limits::DECODE_INLINE_BYTES {
            frame.into_message()
        } else {
            tokio::task::spawn_blocking(move || frame.into_message()).await.ok()?
        };
        held.shrink_to(message.heap_bytes());
        Some((message, Some(held)))
    }

    async fn write_loop(self: &Arc<Self>, peer: &Arc<Peer>, mut stream: OwnedWriteHalf) {
        loop {
            let batch = tokio::select! {
                biased;
                batch = peer.outbox.take(WRITE_BATCH_BYTES) => batch,
                () = peer.stop.cancelled() => break,
            };
            let written = tokio::select! {
                biased;
                () = stalled_after(&peer.stop) => return,
                written = self.write_batch(peer, &mut stream, batch) => written,
            };
            if let Err(error) = written {
                self.debug(LogCategory::Net, || {
                    format!("socket send error, {}: {error}", self.disconnecting(peer))
                });
                return;
            }
        }
        // What was said before the connection was closed is still sent, as Core's eager writes do.
        let rest = async {
            loop {
                let batch = peer.outbox.try_take(WRITE_BATCH_BYTES);
                if batch.is_empty() || self.write_batch(peer, &mut stream, batch).await.is_err() {
                    return;
                }
            }
        };
        // A peer that does not take it in time goes without.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, rest).await;
    }

    async fn write_batch(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        stream: &mut OwnedWriteHalf,
        batch: Vec<Outgoing>,
    ) -> std::io::Result<()> {
        let sizes: Vec<(Command, usize)> = batch.iter().map(|out| (out.command, out.bytes.len())).collect();
        let total: usize = sizes.iter().map(|(_, bytes)| bytes).sum();
        self.capture_sent(peer, &batch).await;
        let mut parts = batch.into_iter().map(|out| out.bytes);
        let mut joined = parts.next().unwrap_or_default();
        joined.reserve(total.saturating_sub(joined.len()));
        parts.for_each(|bytes| joined.extend(bytes));
        stream.write_all(&joined).await?;
        self.bytes_sent.fetch_add(total as u64, Ordering::Relaxed);
        let now = self.now();
        self.upload.lock().sent(total as u64, now);
        peer.sent.passed(total, now);
        for (command, bytes) in sizes {
            peer.sent.message(Some(command), bytes);
        }
        peer.outbox.written(total);
        Ok(())
    }
}

/// Completes when a write may no longer take time: a while after the connection was closed.
async fn stalled_after(stop: &tokio_util::sync::CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FLUSH_TIMEOUT).await;
}

/// Completes when the message in progress has taken too long.
async fn overdue(partial: Option<&Partial>) {
    match partial {
        Some(partial) => partial.overdue().await,
        None => std::future::pending().await,
    }
}
