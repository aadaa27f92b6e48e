use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const SOURCE: &str = include_str!("shim.c");

/// What a [`DiskShim`] does at its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// The disk is full from this step on.
    Full,
    /// This write stops half way, and the disk is full from then on.
    Torn,
    /// This one step fails as on a broken disk.
    Broken,
    /// The process is killed at this step; at every second one in the middle of a write.
    Kill,
}

impl DiskFault {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "enospc",
            Self::Torn => "short",
            Self::Broken => "eio",
            Self::Kill => "kill",
        }
    }
}

/// A library that is preloaded into a process, counts what it does to the disk, and lets a chosen
/// step fail. It is built from C by the machine's own compiler, for only there can system calls
/// be stood between.
#[derive(Debug)]
pub struct DiskShim {
    folder: TempDir,
}

impl DiskShim {
    /// Compiles it.
    ///
    /// # Errors
    /// If there is no `cc`, or it fails.
    pub fn build() -> io::Result<Self> {
        let folder = TempDir::new()?;
        let source = folder.path().join("shim.c");
        std::fs::write(&source, SOURCE)?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("shim.so"))
            .arg(&source)
            .arg("-ldl")
            .output()?;
        if !built.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        Ok(Self { folder })
    }

    fn counter(&self) -> PathBuf {
        self.folder.path().join("counter")
    }

    /// The environment of a process that meets `fault` at its `step`-th write, sync, rename,
    /// removal or making of a file below one of `dirs`; step 0 never comes. The count starts anew.
    ///
    /// # Errors
    /// If the counter cannot be written.
    pub fn environment(
        &self,
        dirs: &[&Path],
        step: u64,
        fault: DiskFault,
    ) -> io::Result<Vec<(&'static str, OsString)>> {
        std::fs::write(self.counter(), [0; 8])?;
        let dirs: Vec<OsString> = dirs.iter().map(|dir| dir.as_os_str().to_owned()).collect();
        Ok(vec![
            ("LD_PRELOAD", self.folder.path().join("shim.so").into()),
            ("SHIM_DIRS", dirs.join(std::ffi::OsStr::new(":"))),
            ("SHIM_STEP", step.to_string().into()),
            ("SHIM_FAULT", fault.name().into()),
            ("SHIM_COUNTER", self.counter().into()),
        ])
    }

    /// Steps since the environment was made, also of a process that is gone.
    ///
    /// # Errors
    /// If the counter cannot be read.
    pub fn steps(&self) -> io::Result<u64> {
        let bytes = std::fs::read(self.counter())?;
        let bytes = bytes.first_chunk::<8>().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(u64::from_ne_bytes(*bytes))
    }
}
