//! The JSON-RPC door's addresses, users and cookie, out of the options.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ironpeer_api::{Credentials, ServerConfig, Subnet};
use ironpeer_primitives::{LogLine, LogSink};
use tokio::net::{TcpListener, TcpSocket};

use crate::args::{Args, ArgsError};
use crate::cli::split_host_port;
use crate::files::{self, CookieReaders, OwnFile};

/// Connections that may wait to be accepted. Smaller: a crowd that comes all at once makes the
/// system drop a caller's first packet, which is sent again after a second. Larger: nothing, the
/// system has a limit of its own.
const BACKLOG: u32 = 1_024;
/// `-rpcservertimeout`, in seconds (Core's `DEFAULT_HTTP_SERVER_TIMEOUT`).
const DEFAULT_IDLE_SECONDS: i64 = 30;
/// Core's text for every failure of this door; the log says more.
pub const START_FAILED: &str = "Unable to start HTTP server. See debug log for details.";

/// How the door is opened. Holds passwords, so it cannot be printed.
#[derive(Clone)]
pub struct RpcConfig {
    /// Where to listen; the first failure of several is only logged.
    pub binds: Vec<SocketAddr>,
    /// The server's own settings.
    pub server: ServerConfig,
    /// `-rpcuser` and `-rpcpassword`, if a password is set.
    pub login: Option<(String, String)>,
    /// `-rpcauth`, as given.
    pub rpcauth: Vec<String>,
    /// `-rpcwhitelist`, as given.
    pub whitelist: Vec<String>,
    /// `-rpcwhitelistdefault`.
    pub whitelist_default: bool,
    /// The cookie file, or none.
    pub cookie: Option<PathBuf>,
    /// Who may read it; `Err` keeps the value that names nobody for the log.
    pub cookie_readers: Result<CookieReaders, String>,
    /// Lines for the log about these settings.
    pub notes: Vec<LogLine>,
}

impl RpcConfig {
    /// Reads the `-rpc...` options. `port` is the network's.
    ///
    /// # Errors
    /// A `-rpcallowip` that is no address or network.
    pub fn from_args(args: &Args, port: u16) -> Result<Self, ArgsError> {
        let mut notes = Vec::new();
        let port = args.text("rpcport").and_then(|port| port.parse().ok()).unwrap_or(port);
        let allow = args
            .list("rpcallowip")
            .iter()
            .map(|text| {
                Subnet::parse(text).ok_or_else(|| {
                    ArgsError(format!(
                        "Invalid -rpcallowip subnet specification: {text}. Valid values are a single IP (e.g. 1.2.3.4), a network/netmask (e.g. 1.2.3.4/255.255.255.0), a network/CIDR (e.g. 1.2.3.4/24), all ipv4 (0.0.0.0/0), or all ipv6 (::/0). RFC4193 is allowed only if -cjdnsreachable=0.\nError: {START_FAILED}"
                    ))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let binds = bind_addresses(args, port, allow.is_empty(), &mut notes);
        let password = args.text("rpcpassword").filter(|password| !password.is_empty());
        let seconds = args.int("rpcservertimeout").unwrap_or(DEFAULT_IDLE_SECONDS).max(1).unsigned_abs();
        let server = ServerConfig {
            allow,
            threads: count(args, "rpcthreads", ServerConfig::default().threads),
            work_queue: args.is_set("rpcworkqueue").then(|| count(args, "rpcworkqueue", 1)),
            idle: Duration::from_secs(seconds),
            rest: args.bool("rest").unwrap_or(false),
        };
        let whitelist = args.list("rpcwhitelist");
        Ok(Self {
            binds,
            server,
            login: password.map(|password| (args.text("rpcuser").unwrap_or_default(), password)),
            rpcauth: args.list("rpcauth"),
            whitelist_default: args.bool("rpcwhitelistdefault").unwrap_or(!whitelist.is_empty()),
            whitelist,
            cookie: crate::cli::cookie_path(args),
            cookie_readers: match args.text("rpccookieperms") {
                None => Ok(CookieReaders::default()),
                Some(text) => CookieReaders::parse(&text).ok_or(text),
            },
            notes,
        })
    }

    /// Who may call. Makes the cookie if no password is set.
    ///
    /// # Errors
    /// [`START_FAILED`]; the reason is in the log.
    pub fn credentials(&self, log: &dyn LogSink) -> Result<(Credentials, Option<OwnFile>), ArgsError> {
        let failed = || ArgsError(START_FAILED.to_owned());
        for note in &self.notes {
            log.log(note.clone());
        }
        let mut credentials = Credentials::new();
        let mut cookie_file = None;
        if let Some((user, password)) = &self.login {
            log.log(LogLine::info("Using rpcuser/rpcpassword authentication."));
            log.log(LogLine::warning(
                "The use of rpcuser/rpcpassword is less secure, because credentials are configured in plain text. It is recommended that locally-run instances switch to cookie-based auth, or otherwise to use hashed rpcauth credentials. See share/rpcauth in the source directory for more information.",
            ));
            credentials.add_password(user, password);
        } else {
            let readers = self.cookie_readers.as_ref().map_err(|text| {
                log.log(LogLine::error(format!(
                    "Invalid -rpccookieperms={text}; must be one of 'owner', 'group', or 'all'."
                )));
                failed()
            })?;
            if let Some(path) = &self.cookie {
                let cookie = files::write_cookie(path, *readers).map_err(|error| {
                    log.log(LogLine::warning(format!(
                        "Unable to open cookie authentication file {}.tmp for writing: {error}",
                        path.display()
                    )));
                    failed()
                })?;
                log.log(LogLine::info(format!("Generated RPC authentication cookie {}", path.display())));
                log.log(LogLine::info("Using random cookie authentication."));
                credentials.add_password(cookie.user, &cookie.password);
                cookie_file = Some(cookie.file);
            } else {
                log.log(LogLine::info("RPC authentication cookie file generation is disabled."));
            }
        }
        if !self.rpcauth.is_empty() {
            log.log(LogLine::info("Using rpcauth authentication."));
        }
        for value in &self.rpcauth {
            credentials.add_rpcauth(value).map_err(|error| {
                log.log(LogLine::warning(error.to_string()));
                failed()
            })?;
        }
        for value in &self.whitelist {
            credentials.add_whitelist(value);
        }
        credentials.set_whitelist_default(self.whitelist_default);
        Ok((credentials, cookie_file))
    }

    /// Binds every address. One is enough where the machine lacks an address family, as in Core;
    /// but an address that another program already listens on is never passed over: it could
    /// answer our callers, and learn their passwords, on the other of two loopback addresses
    /// (CVE-2018-20587).
    ///
    /// # Errors
    /// [`START_FAILED`] if an address is in use or none can be bound; the reasons are in the log.
    pub fn bind(&self, log: &dyn LogSink) -> Result<Vec<TcpListener>, ArgsError> {
        let mut listeners = Vec::new();
        for address in &self.binds {
            log.log(LogLine::info(format!(
                "Binding RPC on address {} port {}",
                address.ip(),
                address.port()
            )));
            if address.ip().is_unspecified() {
                log.log(LogLine::warning(
                    "The RPC server is not safe to expose to untrusted networks such as the public internet",
                ));
            }
            match listen(*address, BACKLOG) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    log.log(LogLine::warning(format!("Binding RPC on address {address} failed: {error}")));
                    if error.kind() == std::io::ErrorKind::AddrInUse {
                        return Err(ArgsError(START_FAILED.to_owned()));
                    }
                }
            }
        }
        if listeners.is_empty() {
            log.log(LogLine::error("Unable to bind any endpoint for RPC server"));
            return Err(ArgsError(START_FAILED.to_owned()));
        }
        Ok(listeners)
    }
}

/// A listening socket that may take over an address whose last connections still linger. One for
/// IPv6 takes no IPv4 connections, which have a socket of their own.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

fn count(args: &Args, name: &str, default: usize) -> usize {
    args.int(name).map_or(default, |value| usize::try_from(value.max(1)).unwrap_or(default))
}

fn bind_addresses(args: &Args, port: u16, nobody_allowed: bool, notes: &mut Vec<LogLine>) -> Vec<SocketAddr> {
    let given = args.list("rpcbind");
    if nobody_allowed || given.is_empty() {
        if !nobody_allowed {
            notes.push(LogLine::warning(
                "Option -rpcallowip was specified without -rpcbind; this doesn't usually make sense",
            ));
        }
        if !given.is_empty() {
            notes.push(LogLine::warning(
                "Option -rpcbind was ignored because -rpcallowip was not specified, refusing to allow everyone to connect",
            ));
        }
        return [IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]), IpAddr::from([127, 0, 0, 1])]
            .map(|ip| SocketAddr::new(ip, port))
            .to_vec();
    }
    let mut binds = Vec::new();
    for text in given {
        let address = split_host_port(&text)
            .and_then(|(host, own)| Some(SocketAddr::new(host.parse().ok()?, own.unwrap_or(port))));
        match address {
            Some(address) => binds.push(address),
            None => notes.push(LogLine::warning(format!(
                "Could not bind RPC on address {text} port {port}: Address lookup failed."
            ))),
        }
    }
    binds
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
