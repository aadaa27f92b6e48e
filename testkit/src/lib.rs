//! Chain builder, fake clock and simulated parts for tests and benches.

pub mod consensus;
mod data;
mod process;
mod spend;
mod synthetic;
mod vectors;

pub use data::{core_vectors, testdata};
pub use process::{HANG, NodeProcess, Rpc, RpcError, port};
pub use spend::{Owned, ScriptKind, Signer};
pub use synthetic::{Locks, Synthetic, write_synthetic_chain};
pub use vectors::vector_script;
