//! The API's two doors: the admin socket for the operator of this machine, and TCP (with TLS) for everybody else.
//!
//! The accept loop never waits for a peer. Bounds: [`CONNECTIONS_MAX`], [`HANDSHAKE_WAIT`], [`HEAD_WAIT`].

use crate::error::ServerError;
use crate::run::stopped;
use crate::sockets;
use headgate_api::{Control, Peer, router};
use headgate_config::TlsFiles;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Of both doors together.
const CONNECTIONS_MAX: usize = 4_096;
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// For the head of a request.
const HEAD_WAIT: Duration = Duration::from_secs(15);
const HEAD_BYTES_MAX: usize = 64 << 10;

#[derive(Clone)]
pub struct Web {
    control: Arc<Control>,
    room: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Web {
    pub fn new(control: Arc<Control>, stop: watch::Receiver<bool>) -> Web {
        Web { control, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)), stop }
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
                tracing::error!(?uid, "a process of another user opened the admin socket and was turned away");
                continue;
            };
            let peer = Peer::Local { uid, user: sockets::user_name(uid) };
            let Ok(permit) = self.room.clone().try_acquire_owned() else { continue };
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
            let Ok(permit) = self.room.clone().try_acquire_owned() else { continue };
            let _ = stream.set_nodelay(true);
            let peer = Peer::Network { address: from.ip() };
            let (web, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                let _permit = permit;
                match tls {
                    None => web.speak(stream, peer).await,
                    Some(tls) => match tokio::time::timeout(HANDSHAKE_WAIT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => web.speak(stream, peer).await,
                        Ok(Err(error)) => tracing::debug!(%error, address = %from.ip(), "TLS handshake of the API failed"),
                        Err(_) => tracing::debug!(address = %from.ip(), "TLS handshake of the API took too long"),
                    },
                }
            });
        }
    }

    async fn speak(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        // The peer is laid beside each request here and nowhere else: no header can say it.
        let service = router(self.control.clone()).layer(axum::Extension(peer));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD_BYTES_MAX);
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
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServerError> {
    let wrong = |why: String| ServerError::Tls { why };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&files.certificate).map_err(|e| wrong(format!("{}: {e}", files.certificate.display())))?.collect();
    let chain = chain.map_err(|e| wrong(format!("{}: {e}", files.certificate.display())))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| wrong(format!("{}: {e}", files.key.display())))?;
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
