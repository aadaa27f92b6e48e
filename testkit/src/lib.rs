//! Chain builder, fake clock and simulated parts for tests and benches.

pub mod consensus;
mod data;
mod fault;
mod forge;
mod oracle;
mod process;
mod shim;
mod spend;
mod synthetic;
mod vectors;

pub use data::{core_vectors, testdata};
pub use fault::Fault;
pub use forge::{Fate, Forge, Forged};
pub use oracle::{Answer, Oracle, OracleLog, OracleReasons, Verdict};
pub use process::{HANG, NodeProcess, Rpc, RpcError, port};
pub use shim::{DiskFault, DiskShim};
pub use spend::{Owned, ScriptKind, Signer};
pub use synthetic::{Locks, Synthetic, SyntheticChain, write_synthetic_chain};
pub use vectors::vector_script;
