//! The handle of one gateway, and its connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    net::TcpListener,
    task::AbortHandle,
};

use crate::{
    Profile, connection,
    gateway::Gateway,
    world::{ProcessState, origin::Origin},
};

/// The capacity of an in-process connection in each direction, in bytes.
const STREAM_BUFFER_BYTES: usize = 256 * 1024;

/// One gateway: configuration, roster, workspaces, sessions, devices, and pending faults.
///
/// Clones are handles of the same gateway. The simulator needs a tokio runtime and uses only that runtime's clock, so a
/// test with a paused clock needs no real time.
#[derive(Clone, Debug)]
pub struct Simulator {
    pub(crate) gateway: Arc<Gateway>,
}

/// A listener on a real port. The listener stops when this value is dropped.
#[derive(Debug)]
pub struct ListenGuard {
    addr: SocketAddr,
    task: AbortHandle,
}

impl ListenGuard {
    /// The address of the listener.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for ListenGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Simulator {
    /// A running gateway whose only agent is `main`.
    pub fn new(profile: Profile) -> Self {
        Self { gateway: Arc::new(Gateway::new(profile)) }
    }

    /// Serves a client on a byte stream.
    pub fn accept(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, origin: Origin) {
        if self.gateway.process_state() != ProcessState::Stopped {
            tokio::spawn(connection::serve(self.gateway.clone(), stream, origin));
        }
    }

    /// The client's end of a new in-process connection from loopback. A stopped process refuses the connection.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        self.connect_from(Origin::Loopback)
    }

    /// The client's end of a new in-process connection. A stopped process refuses the connection.
    pub fn connect_from(&self, origin: Origin) -> io::Result<DuplexStream> {
        if self.gateway.process_state() == ProcessState::Stopped {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = duplex(STREAM_BUFFER_BYTES);
        self.accept(ours, origin);
        Ok(theirs)
    }

    /// Serves clients on a TCP port. The system chooses the port for port 0.
    pub async fn listen(&self, addr: SocketAddr) -> io::Result<ListenGuard> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let simulator = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                simulator.accept(stream, origin_of(peer.ip()));
            }
        });
        Ok(ListenGuard { addr, task: task.abort_handle() })
    }
}

fn origin_of(ip: IpAddr) -> Origin {
    if ip.is_loopback() { Origin::Loopback } else { Origin::Remote }
}
