//! What one call of the machine sees and does.

use std::time::Duration;

use ironpeer_primitives::{ChainRead, LogCategory, LogLine, MempoolRead, UnixTime};

use crate::event::Action;
use crate::peer::Micros;

/// A period in microseconds.
pub const fn micros(duration: Duration) -> Micros {
    duration.as_micros() as Micros
}

/// One call's surroundings: the time, what can be read, and what is to be done.
pub struct Cx<'a> {
    pub now: Micros,
    pub chain: &'a dyn ChainRead,
    pub pool: &'a dyn MempoolRead,
    pub actions: Vec<Action>,
    pub debug: Debug,
}

impl Cx<'_> {
    /// Seconds since the Unix epoch.
    pub fn unix(&self) -> UnixTime {
        self.now.div_euclid(1_000_000)
    }

    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Adds a debug line, built only if its category is on.
    pub fn debug(&mut self, category: LogCategory, text: impl FnOnce() -> String) {
        if self.debug.enabled(category) {
            self.actions.push(Action::Log(LogLine::debug(category, text())));
        }
    }

    pub fn info(&mut self, text: String) {
        self.actions.push(Action::Log(LogLine::info(text)));
    }

    pub fn warning(&mut self, text: String) {
        self.actions.push(Action::Log(LogLine::warning(text)));
    }

    pub fn error(&mut self, text: String) {
        self.actions.push(Action::Log(LogLine::error(text)));
    }
}

/// Which categories of debug lines are written at all.
#[derive(Clone, Copy, Debug)]
pub struct Debug {
    net: bool,
    mempool: bool,
    mempool_rej: bool,
    tx_packages: bool,
    cmpct_block: bool,
    validation: bool,
}

impl Debug {
    pub const ALL: Self = Self {
        net: true,
        mempool: true,
        mempool_rej: true,
        tx_packages: true,
        cmpct_block: true,
        validation: true,
    };

    pub fn of(enabled: impl Fn(LogCategory) -> bool) -> Self {
        Self {
            net: enabled(LogCategory::Net),
            mempool: enabled(LogCategory::Mempool),
            mempool_rej: enabled(LogCategory::MempoolRej),
            tx_packages: enabled(LogCategory::TxPackages),
            cmpct_block: enabled(LogCategory::CmpctBlock),
            validation: enabled(LogCategory::Validation),
        }
    }

    pub const fn enabled(self, category: LogCategory) -> bool {
        match category {
            LogCategory::Net => self.net,
            LogCategory::Mempool => self.mempool,
            LogCategory::MempoolRej => self.mempool_rej,
            LogCategory::TxPackages => self.tx_packages,
            LogCategory::CmpctBlock => self.cmpct_block,
            LogCategory::Validation => self.validation,
            _ => true,
        }
    }
}
