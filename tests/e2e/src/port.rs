//! Ports of this machine.

use std::net::{SocketAddr, TcpListener};

/// An address of this machine on which nobody listens now.
///
/// # Panics
/// If there is no free port.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}
