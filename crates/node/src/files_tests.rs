use super::*;

#[test]
fn a_cookie_has_no_newline_and_goes_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".cookie");
    for (readers, mode) in [("owner", 0o600), ("group", 0o640), ("all", 0o644)] {
        let cookie = write_cookie(&path, CookieReaders::parse(readers).unwrap()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("__cookie__:{}", cookie.password));
        assert_eq!(cookie.password.len(), 64);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        assert!(!dir.path().join(".cookie.tmp").exists());
        drop(cookie);
        assert!(!path.exists());
    }
    assert_eq!(CookieReaders::parse("world"), None);
}

#[test]
fn a_cookie_that_cannot_be_written_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".cookie.tmp")).unwrap();
    assert!(write_cookie(&dir.path().join(".cookie"), CookieReaders::Owner).is_err());
    assert!(!dir.path().join(".cookie").exists());
}

/// Zebra GHSA-jg86: where the cookie shall stand lies a link to another file.
#[test]
fn ghsa_jg86_a_cookie_is_not_written_through_a_link() {
    for name in [".cookie", ".cookie.tmp"] {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join(".cookie"), dir.path().join("other"));
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join(name)).unwrap();
        let cookie = write_cookie(&path, CookieReaders::All).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{name}");
        drop(cookie);
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious", "{name}");
    }
}

#[test]
fn the_pid_file_names_this_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bitcoind.pid");
    let file = write_pid(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    drop(file);
    assert!(!path.exists());
}

#[test]
fn the_ballast_takes_real_space_and_gives_it_back() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ballast.dat");
    Ballast::reserve(&path).unwrap();
    // The second start finds it.
    let ballast = Ballast::reserve(&path).unwrap();
    let meta = fs::metadata(&path).unwrap();
    assert_eq!(meta.len(), BALLAST_BYTES);
    assert!(meta.blocks() * 512 >= BALLAST_BYTES);
    ballast.release();
    assert!(!path.exists());
}
