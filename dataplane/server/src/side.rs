//! Two threads for what blocks and is rare: names to addresses, and cancel requests to targets.

use crate::tls::TargetConfigs;
use crossbeam::channel::{Receiver, Sender, bounded};
use headgate_plane::{SessionId, TargetSpec, TargetTls};
use headgate_shard::{Inbox, Message};
use rustls::pki_types::ServerName;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub enum Job {
    Resolve {
        inbox: Arc<Inbox>,
        session: SessionId,
        address: String,
    },
    /// Is somebody listening there? The answer goes into the gauge.
    Probe {
        address: String,
        up: Arc<AtomicBool>,
    },
    Cancel {
        inbox: Arc<Inbox>,
        asker: SessionId,
        target: Arc<TargetSpec>,
        pid: u32,
        key: Vec<u8>,
    },
}

const JOBS_MAX: usize = 4096;
const STEP_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Side(Sender<Job>);

impl Side {
    pub fn start(tls: &Arc<TargetConfigs>) -> std::io::Result<Side> {
        let (sender, receiver) = bounded(JOBS_MAX);
        for n in 0..2 {
            let (receiver, tls) = (receiver.clone(), Arc::clone(tls));
            std::thread::Builder::new().name(format!("side-{n}")).spawn(move || work(&receiver, &tls))?;
        }
        Ok(Side(sender))
    }

    pub fn put(&self, job: Job) {
        if let Err(full) = self.0.try_send(job)
            && let Job::Resolve { inbox, session, .. } = full.into_inner()
        {
            inbox.send(Message::Resolved { session, address: Err("too many names wait to be resolved".to_owned()) });
        }
    }
}

fn work(jobs: &Receiver<Job>, tls: &TargetConfigs) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Probe { address, up } => {
                let reached = resolve(&address).and_then(|a| TcpStream::connect_timeout(&a, STEP_WAIT_MAX).map_err(|e| e.to_string()));
                let is_up = reached.is_ok();
                if up.swap(is_up, Ordering::Relaxed) != is_up {
                    match reached {
                        Ok(_) => tracing::info!(address, "target: can be reached"),
                        Err(why) => tracing::warn!(address, why, "target: cannot be reached"),
                    }
                }
            }
            Job::Resolve { inbox, session, address } => inbox.send(Message::Resolved { session, address: resolve(&address) }),
            Job::Cancel { inbox, asker, target, pid, key } => {
                if let Err(error) = cancel(tls, &target, pid, &key) {
                    tracing::warn!(target_name = %target.name, %error, "a cancel did not reach the target");
                }
                inbox.send(Message::CancelDone { session: asker });
            }
        }
    }
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = address.to_socket_addrs().map_err(|e| format!("{address}: {e}"))?;
    found.next().ok_or_else(|| format!("{address}: no address"))
}

/// One connection, one cancel request, as libpq does it: with TLS where the session has it.
fn cancel(tls: &TargetConfigs, target: &TargetSpec, pid: u32, key: &[u8]) -> Result<(), String> {
    let says = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect_timeout(&resolve(&target.address)?, STEP_WAIT_MAX).map_err(says)?;
    stream.set_read_timeout(Some(STEP_WAIT_MAX)).map_err(says)?;
    stream.set_write_timeout(Some(STEP_WAIT_MAX)).map_err(says)?;
    let mut request = Vec::new();
    headgate_postgres::write::cancel_request(&mut request, pid, key).map_err(|e| e.to_string())?;
    if target.tls == TargetTls::DangerOff {
        stream.write_all(&request).map_err(says)?;
        return await_close(&mut stream);
    }
    let mut ask = Vec::new();
    headgate_postgres::write::ssl_request(&mut ask);
    stream.write_all(&ask).map_err(says)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).map_err(says)?;
    if answer != *b"S" {
        return Err("the target offers no TLS".to_owned());
    }
    let host = target.address.rsplit_once(':').map_or(target.address.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    let mut connection = rustls::ClientConnection::new(tls.of(target)?, name).map_err(|e| e.to_string())?;
    let mut sealed = rustls::Stream::new(&mut connection, &mut stream);
    sealed.write_all(&request).map_err(says)?;
    sealed.flush().map_err(says)?;
    await_close(&mut sealed)
}

/// The target closes when it has acted.
fn await_close(stream: &mut impl Read) -> Result<(), String> {
    let mut rest = [0; 64];
    while stream.read(&mut rest).is_ok_and(|n| n > 0) {}
    Ok(())
}
