//! The accept loop.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use ironpeer_primitives::{LogCategory, LogLine};
use ironpeer_sync::{ConnectionKind, Permissions};
use ironpeer_wire::Service;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use crate::info::BindError;
use crate::network::Classify;
use crate::shell::{NewPeer, Shell};

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    address: SocketAddr,
    onion: bool,
    permissions: Permissions,
}

impl Listener {
    /// Binds and listens. Port 0 lets the system choose.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let refused = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Refused(address, error),
        };
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(refused)?;
        // A restarted node finds its port in TIME_WAIT.
        socket.set_reuse_address(true).map_err(refused)?;
        if address.is_ipv6() {
            // IPv4 has a socket of its own.
            socket.set_only_v6(true).map_err(refused)?;
        }
        socket.set_nonblocking(true).map_err(refused)?;
        socket.bind(&address.into()).map_err(refused)?;
        socket.listen(BACKLOG).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Listen(error),
        })?;
        let socket = StdListener::from(socket);
        let address = socket.local_addr().map_err(BindError::Listen)?;
        Ok(Self { socket, address, onion: false, permissions: Permissions::default() })
    }

    /// What comes in here came through Tor (`-bind=...=onion`).
    #[must_use]
    pub const fn onion(mut self) -> Self {
        self.onion = true;
        self
    }

    /// What peers that come in here may do (`-whitebind`).
    #[must_use]
    pub const fn with_permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = permissions;
        self
    }

    /// The address, with the port the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Shell {
    /// Accepts connections until the node stops. A permit for a socket is taken before accept,
    /// so that a flood waits in the kernel and costs no descriptors.
    pub(crate) async fn accept_loop(
        self: Arc<Self>,
        listener: TcpListener,
        onion: bool,
        permissions: Permissions,
    ) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = self.accept_one(&listener) => accepted,
            };
            match accepted {
                Ok((stream, from, permit)) => self.admit(stream, from, permit, onion, permissions),
                Err(error) => {
                    self.log.log(LogLine::info(format!("socket error accept failed: {error}")));
                    // Out of descriptors, most likely; some may be free after a while.
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(crate::limits::TICK_INTERVAL) => {}
                    }
                }
            }
        }
    }

    /// Cancel-safe: a permit not used goes back, and a connection not taken stays in the kernel.
    async fn accept_one(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit =
            Arc::clone(&self.inbound_sockets).acquire_owned().await.map_err(std::io::Error::other)?;
        let (stream, from) = listener.accept().await?;
        Ok((stream, from, permit))
    }

    fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        permit: OwnedSemaphorePermit,
        onion: bool,
        permissions: Permissions,
    ) {
        let service = Service::from(from);
        // Tor hides who it is.
        let permissions = match onion {
            true => permissions,
            false => self.config.permissions_of(&service.address, true, permissions),
        };
        let drop_it =
            |why: &str| self.debug(LogCategory::Net, || format!("connection from {service} dropped{why}"));
        if !self.is_active() {
            return drop_it(": not accepting new connections");
        }
        // Fails only on sockets that are gone already, which the first read finds out.
        let _ = stream.set_nodelay(true);
        let (banned, discouraged) = self.is_unwanted(&service.address);
        if banned && !permissions.no_ban {
            return drop_it(" (banned)");
        }
        let inbound = self.counts().inbound;
        if !permissions.no_ban && discouraged && inbound + 1 >= self.config.max_inbound() {
            return drop_it(" (discouraged)");
        }
        if inbound >= self.config.max_inbound() && !self.evict_inbound() {
            return self.debug(LogCategory::Net, || {
                "failed to find an eviction candidate - connection dropped (full)".to_owned()
            });
        }
        let bind = stream.local_addr().ok().map(Service::from);
        let network = if onion { crate::Network::Onion } else { service.address.network_class() };
        self.add_peer(
            stream,
            NewPeer {
                kind: ConnectionKind::Inbound,
                service,
                name: None,
                bind,
                network,
                permissions,
                services: bitcoin::p2p::ServiceFlags::NONE,
                permits: vec![permit],
            },
        );
        self.debug(LogCategory::Net, || format!("connection from {service} accepted"));
    }
}

impl Listener {
    /// Hands the socket to the runtime.
    pub(crate) fn into_parts(self) -> std::io::Result<(TcpListener, SocketAddr, bool, Permissions)> {
        Ok((TcpListener::from_std(self.socket)?, self.address, self.onion, self.permissions))
    }
}
