use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use bitcoin::Network;
use bitcoin::p2p::{Magic, ServiceFlags};
use ironpeer_wire::{Message, PROTOCOL_VERSION, Received, Service, V1Decoder, Version, encode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Bench, Failure, Row};
use crate::demo::{DemoNode, Stage};

/// How many idle peers: as many as Bitcoin Core takes in by default, and a crowd.
const CROWDS: [u32; 2] = [114, 1_000];

/// The node is left alone for this long, so that what connecting took is given back.
const SETTLE: Duration = Duration::from_secs(3);

/// Connects, shakes hands, and waits until the node has seen all of it.
fn idle_peer(port: u16, nonce: u64) -> Result<TcpStream, Failure> {
    let magic = Magic::from(Network::Regtest);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let version = Message::Version(Version {
        version: PROTOCOL_VERSION,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        timestamp: 0,
        receiver_services: ServiceFlags::NONE,
        receiver: Service::INVALID,
        nonce,
        user_agent: b"/bench:1/".to_vec(),
        start_height: 0,
        relay: true,
    });
    for message in [version, Message::Verack, Message::Ping(nonce)] {
        stream.write_all(&encode(&message, magic))?;
    }
    let mut decoder = V1Decoder::new(magic);
    decoder.handshake_done();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
        }
        let mut input = bytes.get(..count).unwrap_or_default();
        while !input.is_empty() {
            if let Some(Received::Frame(frame)) = decoder.push(&mut input)?
                && frame.into_message() == Message::Pong(Some(nonce))
            {
                return Ok(stream);
            }
        }
    }
}

pub fn rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    // The node inherits the limit.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut stage = Stage::with_program(bench.program.clone())?;
    let mut rows = Vec::new();
    for crowd in CROWDS {
        let name = format!("peers-{crowd}");
        let connections = format!("-maxconnections={}", crowd + 20);
        let mut node = DemoNode::start(&mut stage, &name, "regtest", &["-regtest", &connections])?;
        // One that comes and goes, so that what the first costs is not counted.
        drop(idle_peer(node.p2p_port(), 1)?);
        sleep(SETTLE);
        let before = node.resident_kib()?;
        let peers: Vec<TcpStream> =
            (0..crowd).map(|n| idle_peer(node.p2p_port(), 1_000 + u64::from(n))).collect::<Result<_, _>>()?;
        sleep(SETTLE);
        let grown = node.resident_kib()?.saturating_sub(before);
        rows.push(Row::alone(
            format!("memory of each of {crowd} idle peers"),
            "KiB",
            grown as f64 / f64::from(crowd),
        ));
        drop(peers);
        node.stop()?;
    }
    Ok(rows)
}
