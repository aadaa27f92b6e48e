//! Chain builder, fake clock and simulated parts for tests and benches.

mod data;
mod process;
mod spend;
mod synthetic;

pub use data::{core_vectors, testdata};
pub use process::{HANG, NodeProcess, Rpc, RpcError, port};
pub use spend::{Owned, ScriptKind, Signer};
pub use synthetic::{Locks, Synthetic, write_synthetic_chain};
