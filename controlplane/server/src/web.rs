//! The API's two doors: the admin socket for the operator of this machine, and TCP (with TLS) for everybody else.
//!
//! The accept loop never waits for a peer. Each door has room of its own, so that nobody on the network keeps the operator out.
//! Bounds: [`ADMIN_CONNECTIONS_MAX`], [`TCP_CONNECTIONS_MAX`], of which one address has [`PER_ADDRESS_MAX`]; [`HANDSHAKE_WAIT`],
//! [`HEAD_WAIT`].

use crate::error::ControlPlaneError;
use crate::run::stopped;
use crate::sockets;
use headgate_api::{Control, Peer, router};
use headgate_config::TlsFiles;
use headgate_plane::network_of;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

const ADMIN_CONNECTIONS_MAX: usize = 256;
const TCP_CONNECTIONS_MAX: usize = 4_096;
/// Of one IPv4 address or one /64 of IPv6.
const PER_ADDRESS_MAX: usize = 256;
/// Descriptors that TCP connections leave for everything else: the admin socket, the link, the stores.
const DESCRIPTORS_KEPT: u64 = 512;
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// For the head of a request.
const HEAD_WAIT: Duration = Duration::from_secs(15);
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How many connections are open over TCP, by address.
struct Room {
    connections_max: usize,
    per_address_max: usize,
    open: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One connection's place; given back when it is dropped.
struct Place {
    room: Arc<Room>,
    network: IpAddr,
}

impl Room {
    fn new(connections_max: usize, per_address_max: usize) -> Arc<Room> {
        Arc::new(Room {
            connections_max,
            per_address_max,
            open: Mutex::default(),
        })
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_network) = &mut *open;
        let own = by_network.get(&network).copied().unwrap_or_default();
        if *all >= self.connections_max || own >= self.per_address_max {
            return None;
        }
        *all += 1;
        by_network.insert(network, own + 1);
        Some(Place {
            room: Arc::clone(self),
            network,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.room.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_network) = &mut *open;
        *all = all.saturating_sub(1);
        match by_network.get(&self.network) {
            Some(own) if *own > 1 => by_network.insert(self.network, own - 1),
            _ => by_network.remove(&self.network),
        };
    }
}

/// Takes all the descriptors that the process may have, and says how many of them connections over TCP may use.
fn tcp_connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let free = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(usize::MAX);
    free.clamp(PER_ADDRESS_MAX / 4, TCP_CONNECTIONS_MAX)
}

#[derive(Clone)]
pub struct Web {
    control: Arc<Control>,
    admin_room: Arc<Semaphore>,
    tcp_room: Arc<Room>,
    stop: watch::Receiver<bool>,
}

impl Web {
    pub fn new(control: Arc<Control>, stop: watch::Receiver<bool>) -> Web {
        let tcp_max = tcp_connections_max();
        if tcp_max < TCP_CONNECTIONS_MAX {
            tracing::warn!(
                tcp_max,
                "fewer connections to the API than usual: the limit of open files is low (LimitNOFILE, ulimit -Hn)"
            );
        }
        let admin_room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        Web {
            control,
            admin_room,
            tcp_room: Room::new(tcp_max, PER_ADDRESS_MAX),
            stop,
        }
    }

    pub async fn serve_admin(mut self, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut self.stop) => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let uid = sockets::peer_uid(&stream);
            let Some(uid) = uid.filter(|uid| *uid == sockets::own_uid() || *uid == 0) else {
                tracing::error!(
                    ?uid,
                    "a process of another user opened the admin socket and was turned away"
                );
                continue;
            };
            let peer = Peer::Local {
                uid,
                user: sockets::user_name(uid),
            };
            let Ok(permit) = self.admin_room.clone().try_acquire_owned() else {
                tracing::warn!(
                    connections = ADMIN_CONNECTIONS_MAX,
                    "the admin socket has as many connections as it may; one more was closed"
                );
                continue;
            };
            let web = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                web.speak(stream, peer).await;
            });
        }
    }

    pub async fn serve_tcp(mut self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut self.stop) => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, from)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some(permit) = self.tcp_room.enter(from.ip()) else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            let peer = Peer::Network { address: from.ip() };
            let (web, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                let _permit = permit;
                match tls {
                    None => web.speak(stream, peer).await,
                    Some(tls) => match tokio::time::timeout(HANDSHAKE_WAIT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => web.speak(stream, peer).await,
                        Ok(Err(error)) => {
                            tracing::debug!(%error, address = %from.ip(), "TLS handshake of the API failed")
                        }
                        Err(_) => {
                            tracing::debug!(address = %from.ip(), "TLS handshake of the API took too long")
                        }
                    },
                }
            });
        }
    }

    async fn speak(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        // The peer is laid beside each request here and nowhere else: no header can say it.
        let service = router(self.control.clone()).layer(axum::Extension(peer));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT)
            .max_buf_size(HEAD_BYTES_MAX);
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => if let Err(error) = ended {
                tracing::debug!(%error, "a connection of the API ended");
            },
            () = stopped(&mut self.stop) => {
                connection.as_mut().graceful_shutdown();
                // A stream of events would go on for ever.
                let _ = tokio::time::timeout(Duration::from_secs(2), connection).await;
            }
        }
    }
}

/// TLS 1.2 and 1.3 with the files of `[api] tls`.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ControlPlaneError> {
    let wrong = |why: String| ControlPlaneError::Tls { why };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .map_err(|e| wrong(format!("{}: {e}", files.certificate.display())))?
        .collect();
    let chain = chain.map_err(|e| wrong(format!("{}: {e}", files.certificate.display())))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| wrong(format!("{}: {e}", files.key.display())))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| wrong(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_the_room_and_gives_it_back() {
        let room = Room::new(5, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = [
            room.enter(ip("192.0.2.1")).unwrap(),
            room.enter(ip("::ffff:192.0.2.1")).unwrap(),
        ];
        assert!(room.enter(ip("192.0.2.1")).is_none());
        let six = [
            room.enter(ip("2001:db8::1")).unwrap(),
            room.enter(ip("2001:db8::2")).unwrap(),
        ];
        assert!(room.enter(ip("2001:db8::3")).is_none());
        let _last = room.enter(ip("192.0.2.9")).unwrap();
        assert!(room.enter(ip("192.0.2.8")).is_none(), "all together have a bound");
        drop((one, six));
        assert!(room.enter(ip("192.0.2.1")).is_some());
        let open = room.open.lock().unwrap();
        assert_eq!((open.0, open.1.len()), (1, 1));
    }
}
