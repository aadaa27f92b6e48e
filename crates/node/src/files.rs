//! The small files of a running node: process id and login cookie, which are taken away at stop, and
//! disk space set aside for a stop in need.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngCore;

/// User name of the cookie (Core's `COOKIEAUTH_USER`).
const COOKIE_USER: &str = "__cookie__";
/// Bytes of randomness in the cookie.
const COOKIE_BYTES: usize = 32;

/// Bytes set aside. Smaller: `mempool.dat` and `peers.dat` may not fit when the disk is full.
/// Larger: space that nobody can use.
const BALLAST_BYTES: u64 = 16 << 20;

/// Disk space set aside, to be given back when the disk is full: a node that must stop then can
/// still save its mempool and its peers. The file stays over a restart.
#[derive(Debug)]
pub struct Ballast(PathBuf);

impl Ballast {
    /// Takes the space, if the file does not hold it already.
    ///
    /// # Errors
    /// What the file system says, that the disk is full above all.
    pub fn reserve(path: &Path) -> std::io::Result<Self> {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() != BALLAST_BYTES {
            file.set_len(0)?;
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, flags, 0, BALLAST_BYTES) {
                Ok(()) => {}
                // Some file systems can only be written to.
                Err(rustix::io::Errno::OPNOTSUPP) => {
                    std::io::copy(&mut std::io::repeat(0).take(BALLAST_BYTES), &mut &file)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// Gives the space back.
    pub fn release(self) {
        // If it cannot be removed there is nothing more to be gained.
        let _ = fs::remove_file(self.0);
    }
}

/// How long ago a file was last written to; nothing if it is not there or of the future. By the
/// machine's clock, as the file system's times are.
#[must_use]
pub fn age(path: &Path) -> Duration {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.ok().and_then(|written| written.elapsed().ok()).unwrap_or_default()
}

/// A file that is removed when dropped.
#[derive(Debug)]
pub struct OwnFile(PathBuf);

impl Drop for OwnFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes the process id.
///
/// # Errors
/// What the file system says.
pub fn write_pid(path: &Path) -> std::io::Result<OwnFile> {
    fs::write(path, format!("{}\n", std::process::id()))?;
    Ok(OwnFile(path.to_owned()))
}

/// Who may read the cookie (`-rpccookieperms`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieReaders {
    /// The node's own user.
    #[default]
    Owner,
    /// Its group as well.
    Group,
    /// Everybody.
    All,
}

impl CookieReaders {
    /// By the option's value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "owner" => Self::Owner,
            "group" => Self::Group,
            "all" => Self::All,
            _ => return None,
        })
    }

    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
            Self::All => 0o644,
        }
    }
}

/// A fresh login: the file, the user and the password.
#[derive(Debug)]
pub struct Cookie {
    /// The file.
    pub file: OwnFile,
    /// The user name in it.
    pub user: &'static str,
    /// The password in it.
    pub password: String,
}

/// Makes a cookie. It appears whole or not at all, since clients poll for it.
///
/// # Errors
/// What the file system says.
pub fn write_cookie(path: &Path, readers: CookieReaders) -> std::io::Result<Cookie> {
    let mut bytes = [0u8; COOKIE_BYTES];
    rand::rngs::OsRng.fill_bytes(&mut bytes);
    let password = hex::encode(bytes);
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".tmp");
    // What lies there, a link to somewhere else included, goes and is not written through.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(format!("{COOKIE_USER}:{password}").as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(readers.mode()))?;
    drop(file);
    fs::rename(&temporary, path)?;
    Ok(Cookie { file: OwnFile(path.to_owned()), user: COOKIE_USER, password })
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
