//! The link server: data planes connect to `<runtime>/link.sock`, ask, and are told.
//!
//! Only this user (and root) can open the socket: what comes over it may speak for any session. Bounds:
//! [`LINKS_MAX`] connections, [`SIGN_INS_MAX`] sign-ins at once per connection, [`UNSENT_MAX`] messages unread.

mod connection;
mod sign_in;
pub(crate) mod wire;

use crate::error::ControlPlaneError;
use crate::run::stopped;
use crate::sockets;
use headgate_api::Control;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};

/// Data planes that may be connected at the same time.
pub const LINKS_MAX: usize = 64;
/// Sign-ins of one data plane that are looked at at the same time; more are refused as unavailable.
pub const SIGN_INS_MAX: usize = 512;
/// Messages that a data plane may leave unread before its link is ended.
pub const UNSENT_MAX: usize = 8_192;

/// Binds the socket, mode 0600.
pub fn bind(path: &Path) -> Result<UnixListener, ControlPlaneError> {
    sockets::bind_private(path)
}

/// Accepts data planes until `stop`.
pub async fn serve(listener: UnixListener, control: Arc<Control>, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(LINKS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors: pause, or this loop would burn a core.
                tracing::error!(%error, "a data plane could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if !sockets::peer_is_us(&stream) {
            tracing::error!("a process of another user opened the link's socket and was turned away");
            continue;
        }
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::error!(max = LINKS_MAX, "too many data planes are connected");
            continue;
        };
        let control = control.clone();
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let ended = tokio::select! {
                ended = connection::serve(stream, control) => ended,
                () = stopped(&mut stop) => return,
            };
            match ended {
                Ok(()) => tracing::info!("a data plane closed its link"),
                Err(error) => tracing::warn!(%error, "a link to a data plane ended"),
            }
        });
    }
}
