//! The directories the node owns: where they lie and who may read them.

use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::Network;

use crate::args::Args;

/// The user's default: `~/.bitcoin`, where Core keeps it.
#[must_use]
pub fn default_dir() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home).join(".bitcoin"),
        _ => PathBuf::from("/.bitcoin"),
    }
}

/// Whether `-datadir`, if given, is a directory.
#[must_use]
pub fn option_is_directory(args: &Args) -> bool {
    args.path("datadir").is_none_or(|path| path.as_os_str().is_empty() || path.is_dir())
}

/// `-datadir` or the default, absolute.
#[must_use]
pub fn base(args: &Args) -> PathBuf {
    match args.path("datadir") {
        Some(path) if !path.as_os_str().is_empty() => absolute(&path),
        _ => default_dir(),
    }
}

/// The network's own directory under the data directory.
#[must_use]
pub fn net(args: &Args) -> PathBuf {
    let base = base(args);
    match args.chain() {
        Ok(network) => base.join(net_subdir(network)),
        Err(_) => base,
    }
}

/// Where the blocks lie, or `None` if `-blocksdir` is no directory.
#[must_use]
pub fn blocks(args: &Args) -> Option<PathBuf> {
    let root = match args.path("blocksdir") {
        Some(path) if args.is_set("blocksdir") => {
            let path = absolute(&path);
            if !path.is_dir() {
                return None;
            }
            path
        }
        _ => base(args),
    };
    let network = args.chain().ok()?;
    Some(root.join(net_subdir(network)).join("blocks"))
}

/// Name of a network's directory; empty for the main network.
#[must_use]
pub fn net_subdir(network: Network) -> &'static str {
    match network {
        Network::Testnet => "testnet3",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
        Network::Bitcoin => "",
    }
}

/// Makes a directory that is not there yet, with an empty `wallets` in it: clients take its
/// presence as the sign that wallets do not lie about in the directory itself.
///
/// # Errors
/// What the file system says.
pub fn create_with_wallets(dir: &Path) -> std::io::Result<()> {
    if dir.exists() { Ok(()) } else { fs::create_dir_all(dir.join("wallets")) }
}

/// The path seen from the root, without asking whether it exists.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
