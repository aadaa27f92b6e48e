use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of a file of recorded real data in the repository's `testdata` folder.
#[must_use]
pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

/// The text of one of Bitcoin Core's test vector files (`src/test/data`), which cargo brings
/// with the `libbitcoinkernel-sys` package.
///
/// # Panics
/// If cargo does not know the package or the file is not in it.
#[must_use]
pub fn core_vectors(name: &str) -> String {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .output()
            .expect("cargo runs");
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
        let packages = metadata["packages"].as_array().expect("metadata lists packages");
        let manifest = packages
            .iter()
            .find(|package| package["name"] == "libbitcoinkernel-sys")
            .and_then(|package| package["manifest_path"].as_str())
            .expect("libbitcoinkernel-sys is a dependency");
        Path::new(manifest).with_file_name("bitcoin/src/test/data")
    });
    std::fs::read_to_string(folder.join(name)).expect("the vector file exists")
}
