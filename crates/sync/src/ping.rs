use std::time::Duration;

use ironpeer_primitives::{LogCategory, PeerId};
use ironpeer_wire::Message;
use rand::RngCore;

use crate::limits::{BIP0031_VERSION, PING_INTERVAL, TIMEOUT_INTERVAL};
use crate::{Cx, Sync, micros};

/// Round trips with one peer.
#[derive(Debug, Default)]
pub struct Ping {
    /// The nonce a pong must carry; 0 while none is expected.
    pub nonce: u64,
    /// When the last ping went out, in microseconds; 0 for never.
    pub start: i64,
    /// The user asked for one.
    pub queued: bool,
    /// Last round trip.
    pub last: Option<Duration>,
    /// Shortest round trip.
    pub min: Option<Duration>,
}

impl Sync {
    /// Sends a ping when one is due, and gives up on a peer that does not answer
    /// (Core's `MaybeSendPing`).
    pub(crate) fn maybe_send_ping(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let timeout = micros(self.config.peer_timeout);
        let nonce = loop {
            let nonce = self.rng.next_u64();
            if nonce != 0 {
                break nonce;
            }
        };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let waited = cx.now - peer.ping.start;
        if peer.connected_at + timeout < cx.now && peer.ping.nonce != 0 && waited > micros(TIMEOUT_INTERVAL) {
            let seconds = waited as f64 / 1e6;
            cx.debug(LogCategory::Net, || format!("ping timeout: {seconds:.6}s, disconnecting peer={id}"));
            self.disconnect(cx, id);
            return;
        }
        let due = peer.ping.nonce == 0 && cx.now > peer.ping.start + micros(PING_INTERVAL);
        if !peer.ping.queued && !due {
            return;
        }
        peer.ping.queued = false;
        peer.ping.start = cx.now;
        // A peer too old for nonces never answers.
        peer.ping.nonce = if peer.common_version > BIP0031_VERSION { nonce } else { 0 };
        let nonce = peer.ping.nonce;
        self.send(cx, id, Message::Ping(nonce));
    }

    /// Takes the answer to a ping (Core's `ProcessPong`). `nonce` is `None` for a short payload
    /// of `size` bytes.
    pub(crate) fn on_pong(&mut self, cx: &mut Cx<'_>, id: PeerId, nonce: Option<u64>, size: usize) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let expected = peer.ping.nonce;
        let mut finished = false;
        let problem = match nonce {
            None => {
                finished = true;
                "Short payload"
            }
            Some(_) if expected == 0 => "Unsolicited pong without ping",
            Some(nonce) if nonce == expected => {
                finished = true;
                match u64::try_from(cx.now - peer.ping.start) {
                    Ok(took) => {
                        let took = Duration::from_micros(took);
                        peer.ping.last = Some(took);
                        peer.ping.min = Some(peer.ping.min.map_or(took, |min| min.min(took)));
                        ""
                    }
                    Err(_) => "Timing mishap",
                }
            }
            Some(0) => {
                finished = true;
                "Nonce zero"
            }
            Some(_) => "Nonce mismatch",
        };
        if !problem.is_empty() {
            let nonce = nonce.unwrap_or(0);
            cx.debug(LogCategory::Net, || {
                format!("pong peer={id}: {problem}, {expected:x} expected, {nonce:x} received, {size} bytes")
            });
        }
        if finished {
            peer.ping.nonce = 0;
        }
    }
}
