//! Opens the connection that a probe asks over.
//!
//! It must never send a byte: what is said on the connection is the caller's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::{Trouble, Verdict};
use crate::spec::types::Target;

/// An open connection to who is asked.
pub(super) enum Link {
    /// Over IP.
    Tcp(TcpStream),
    /// On this node.
    Unix(UnixStream),
}

/// The question of a tcp probe: does the connection open?
pub(super) async fn knock(target: &Target, own: Option<IpAddr>) -> Verdict {
    open(target, own).await?;
    Ok(("connected".to_owned(), Instant::now()))
}

/// Opens a connection. `own` is the container's own address.
pub(super) async fn open(target: &Target, own: Option<IpAddr>) -> Result<Link, Trouble> {
    let addresses: Vec<SocketAddr> = match target {
        Target::Own(port) => {
            let Some(address) = own else {
                return Err(Trouble::Unasked(
                    "the container has no address of its own".to_owned(),
                ));
            };
            vec![(address, *port).into()]
        }
        Target::Host(host, port) => resolve(host, *port).await?,
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            return stream.map(Link::Unix).map_err(|e| Trouble::io(&e));
        }
    };
    let mut last = Trouble::Unasked("the name has no address".to_owned());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(Link::Tcp(stream)),
            Err(error) => last = Trouble::io(&error),
        }
    }
    Err(last)
}

/// A host's addresses. Only a name other than `localhost` costs a thread.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Trouble> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(Trouble::Unasked(format!("cannot resolve {host}: {error}"))),
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
