//! Opening connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bitcoin::p2p::ServiceFlags;
use ironpeer_primitives::LogCategory;
use ironpeer_sync::{ConnectionKind, Permissions};
use ironpeer_wire::{NetAddress, PeerAddress, Service};
use rand::seq::SliceRandom;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::network::Classify;
use crate::shell::{NewPeer, Shell};

/// Addresses tried of one name.
const MAX_RESOLVED: usize = 256;

/// Whom to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// An address from the address manager.
    Address(PeerAddress),
    /// What a user wrote: host or address, with or without a port.
    Name(String),
}

/// Splits `host:port`, `[v6]:port`, `host` or a bare IPv6 address (Core's `SplitHostPort`).
pub(crate) fn split_host_port(text: &str, default_port: u16) -> (&str, u16) {
    let bracketed = text.starts_with('[');
    let colons = text.matches(':').count();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if (bracketed && host.ends_with(']')) || (!bracketed && colons == 1) => {
            match port.parse::<u16>() {
                Ok(port) if port != 0 => (host, port),
                _ => (text, default_port),
            }
        }
        _ => (text, default_port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, port)
}

/// Reads an address without asking a resolver (Core's `LookupNumeric`).
pub(crate) fn numeric(text: &str, default_port: u16) -> Option<Service> {
    let (host, port) = split_host_port(text, default_port);
    let ip: IpAddr = host.parse().ok()?;
    Some(Service { address: NetAddress::from_ip(ip), port })
}

impl Shell {
    pub(crate) fn default_port(&self) -> u16 {
        self.config.sync.params.default_port
    }

    fn is_connected_to_service(&self, service: &Service) -> bool {
        self.peers.read().values().any(|peer| peer.service == *service)
    }

    /// Whether there is a connection to this host, on any port.
    pub(crate) fn is_connected_to_address(&self, address: &NetAddress) -> bool {
        self.peers.read().values().any(|peer| peer.service.address == *address)
    }

    fn is_connected_to_name(&self, name: &str) -> bool {
        self.peers.read().values().any(|peer| peer.name == name)
    }

    pub(crate) fn is_own_address(&self, service: &Service) -> bool {
        self.local_addresses.lock().contains_key(service)
    }

    /// Opens a connection, unless there is one or it is unwanted. Returns whether it was made
    /// (Core's `OpenNetworkConnection`).
    pub(crate) async fn open(
        self: &Arc<Self>,
        target: &Target,
        kind: ConnectionKind,
        count_failure: bool,
        permit: Option<OwnedSemaphorePermit>,
    ) -> bool {
        if self.stop.is_cancelled() || !self.is_active() {
            return false;
        }
        match target {
            Target::Address(address) => {
                let service = &address.service;
                let (banned, discouraged) = self.is_unwanted(&service.address);
                if banned
                    || discouraged
                    || self.is_own_address(service)
                    || self.is_connected_to_address(&service.address)
                {
                    return false;
                }
            }
            Target::Name(name) => {
                if self.is_connected_to_name(name) {
                    return false;
                }
            }
        }
        let Some((stream, service)) = self.dial(target, kind, count_failure).await else { return false };
        if self.stop.is_cancelled() {
            return false;
        }
        let (name, services) = match target {
            Target::Address(address) => (None, address.services),
            Target::Name(name) => (Some(name.clone()), ServiceFlags::NONE),
        };
        // Fails only on sockets that are gone already, which the first read finds out.
        let _ = stream.set_nodelay(true);
        let permissions = match kind {
            ConnectionKind::Manual => {
                self.config.permissions_of(&service.address, false, Permissions::default())
            }
            _ => Permissions::default(),
        };
        let bind = stream.local_addr().ok().map(Service::from);
        self.add_peer(
            stream,
            NewPeer {
                kind,
                service,
                name,
                bind,
                network: service.address.network_class(),
                permissions,
                services,
                permits: permit.into_iter().collect(),
            },
        );
        true
    }

    async fn dial(
        &self,
        target: &Target,
        kind: ConnectionKind,
        count_failure: bool,
    ) -> Option<(TcpStream, Service)> {
        let (name, hours) = match target {
            Target::Address(address) => {
                let age = self.now().saturating_sub(i64::from(address.time));
                (address.service.to_string(), age as f64 / 3600.0)
            }
            Target::Name(name) => (name.clone(), 0.0),
        };
        self.debug(LogCategory::Net, || {
            format!("trying v1 connection ({}) to {name}, lastseen={hours:.1}hrs", kind.name())
        });
        for service in self.candidates(target).await? {
            let now = self.now();
            let Some(address) = service.socket_addr() else { continue };
            let connected = tokio::select! {
                () = self.stop.cancelled() => return None,
                connected = tokio::time::timeout(self.config.connect_timeout, TcpStream::connect(address)) => connected,
            };
            self.with_addrman(|addrman| addrman.attempt(&service, count_failure, now));
            match connected {
                Ok(Ok(stream)) => return Some((stream, service)),
                Ok(Err(error)) => {
                    self.debug(LogCategory::Net, || format!("connect() to {service} failed: {error}"));
                }
                Err(_) => {
                    self.debug(LogCategory::Net, || format!("connection attempt to {service} timed out"))
                }
            }
        }
        None
    }

    /// The addresses behind a target; `None` if one of them is connected already.
    async fn candidates(&self, target: &Target) -> Option<Vec<Service>> {
        let name = match target {
            Target::Address(address) => return Some(vec![address.service]),
            Target::Name(name) => name,
        };
        let mut found = match numeric(name, self.default_port()) {
            Some(service) => vec![service],
            None => self.resolve(name).await,
        };
        found.truncate(MAX_RESOLVED);
        found.shuffle(&mut *self.rng.lock());
        for service in &found {
            if !service.address.is_valid() {
                self.debug(LogCategory::Net, || {
                    format!("Resolver returned invalid address {service} for {name}")
                });
                return None;
            }
            if self.is_connected_to_service(service) {
                self.info(format!("Not opening a connection to {name}, already connected to {service}"));
                return None;
            }
        }
        Some(found)
    }

    pub(crate) async fn resolve(&self, name: &str) -> Vec<Service> {
        if !self.config.name_lookup {
            return Vec::new();
        }
        let (host, port) = split_host_port(name, self.default_port());
        let found: Vec<SocketAddr> = tokio::select! {
            () = self.stop.cancelled() => Vec::new(),
            found = self.resolver.lookup(host, port) => found.unwrap_or_default(),
        };
        found.into_iter().map(Service::from).collect()
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
