use ironpeer_store::MemDisk;

use super::*;

/// The layout that Core's `contrib/message-capture` reads.
#[test]
fn records_are_appended_as_core_writes_them() {
    let disk = Arc::new(MemDisk::new());
    let peer: std::net::SocketAddr = "1.2.3.4:8333".parse().unwrap();
    let capture = Capture::new(disk.clone(), Path::new("/data"), &Service::from(peer));
    let ping = record(0x0102, b"ping", &[7; 8]);
    let verack = record(3, b"verack", &[]);
    capture.append("msgs_recv.dat", &ping).unwrap();
    capture.append("msgs_recv.dat", &verack).unwrap();

    let file =
        disk.open(Path::new("/data/message_capture/1.2.3.4_8333/msgs_recv.dat"), OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut expected = vec![2, 1, 0, 0, 0, 0, 0, 0];
    expected.extend(b"ping\0\0\0\0\0\0\0\0");
    expected.extend([8, 0, 0, 0]);
    expected.extend([7; 8]);
    expected.extend([3, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(b"verack\0\0\0\0\0\0");
    expected.extend([0; 4]);
    assert_eq!(bytes, expected);
}
