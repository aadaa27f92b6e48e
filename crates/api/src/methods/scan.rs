//! What `scantxoutset` and `scanblocks` share: one scan at a time, which can be asked how far it is
//! and told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde_json::Value;

use crate::error::RpcError;
use crate::json::Object;

/// The one scan of its kind that may run.
#[derive(Debug, Default)]
pub struct ScanState {
    running: AtomicBool,
    abort: AtomicBool,
    /// Percent.
    progress: AtomicU32,
    height: AtomicU32,
}

/// Leave to scan, given back however the scan ends.
#[derive(Debug)]
pub(super) struct Reserved(Arc<ScanState>);

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

impl Reserved {
    /// Tells how far the scan is.
    pub(super) fn reached(&self, percent: u32, height: u32) {
        self.0.progress.store(percent, Ordering::Relaxed);
        self.0.height.store(height, Ordering::Relaxed);
    }

    /// Whether somebody wants it to end.
    pub(super) fn is_aborted(&self) -> bool {
        self.0.abort.load(Ordering::Acquire)
    }
}

/// What comes of an action.
#[derive(Debug)]
pub(super) enum Asked {
    /// This is the answer.
    Answer(Value),
    /// The scan is to be made.
    Start(Reserved),
}

impl ScanState {
    /// Does `action`. A scan of blocks shows the height it is at.
    pub(super) fn ask(self: &Arc<Self>, action: &str, with_height: bool) -> Result<Asked, RpcError> {
        match action {
            "status" if !self.running.load(Ordering::Acquire) => Ok(Asked::Answer(Value::Null)),
            "status" => {
                let mut out = Object::new();
                out.push("progress", self.progress.load(Ordering::Relaxed));
                if with_height {
                    out.push("current_height", self.height.load(Ordering::Relaxed));
                }
                Ok(Asked::Answer(out.into()))
            }
            "abort" => {
                let running = self.running.load(Ordering::Acquire);
                if running {
                    self.abort.store(true, Ordering::Release);
                }
                Ok(Asked::Answer(running.into()))
            }
            "start" => {
                if self.running.swap(true, Ordering::AcqRel) {
                    return Err(RpcError::parameter(
                        "Scan already in progress, use action \"abort\" or \"status\"",
                    ));
                }
                let reserved = Reserved(Arc::clone(self));
                self.abort.store(false, Ordering::Release);
                reserved.reached(0, 0);
                Ok(Asked::Start(reserved))
            }
            other => Err(RpcError::parameter(format!("Invalid action '{other}'"))),
        }
    }
}
