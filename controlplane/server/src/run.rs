//! Puts the parts together, opens the doors, and closes them again.

use crate::error::ControlPlaneError;
use crate::web::{self, Web};
use crate::{link, sockets, watch};
use headgate_api::control::now_unix_ms;
use headgate_api::journal::Journal;
use headgate_api::{Control, EVENT_STREAMS_MAX, Registry, Roles, RulesBoard};
use headgate_audit::Audit;
use headgate_config::Config;
use headgate_identity::Identity;
use headgate_questions::Desk;
use headgate_secrets::Secrets;
use headgate_store::{RocksStore, Store};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::watch::{Receiver, channel};

/// Audit queries at the same time: each reads and unpacks much.
const QUERIES_MAX: usize = 8;
/// What may still be under way when the doors are closed.
const DRAIN_WAIT: Duration = Duration::from_secs(3);

/// Told once, when both doors are open.
#[derive(Clone, Debug)]
pub struct Ready {
    pub api: std::net::SocketAddr,
    pub admin_socket: std::path::PathBuf,
    pub link_socket: std::path::PathBuf,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config_path: &Path, ready: impl FnOnce(&Ready)) -> Result<(), ControlPlaneError> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(ControlPlaneError::Signal)?;
    let mut int = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(ControlPlaneError::Signal)?;
    let stop = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    run_until(config_path, ready, stop).await
}

/// As [`run`], until `stop` is done: for tests, and for whoever has signals of their own.
pub async fn run_until(
    config_path: &Path,
    ready: impl FnOnce(&Ready),
    stop: impl Future<Output = ()>,
) -> Result<(), ControlPlaneError> {
    let config = Arc::new(Config::load(config_path)?);
    let control = Arc::new(open(config.clone())?);

    let runtime = &config.appliance.runtime;
    let link_socket = config.link_socket();
    let admin_socket = runtime.join("admin.sock");
    let link_listener = link::bind(&link_socket)?;
    let admin_listener = sockets::bind_private(&admin_socket)?;
    let tls = config.api.tls.as_ref().map(web::acceptor).transpose()?;
    let address = config.api.address;
    let wrong = |why: std::io::Error| ControlPlaneError::Address {
        address,
        why: why.to_string(),
    };
    let api_listener = TcpListener::bind(address).await.map_err(wrong)?;
    let api = api_listener.local_addr().map_err(wrong)?;

    let (stopping, stopped) = channel(false);
    let web = Web::new(control.clone(), stopped.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(link::serve(link_listener, control.clone(), stopped.clone()));
    tasks.spawn(web.clone().serve_admin(admin_listener));
    tasks.spawn(web.serve_tcp(api_listener, tls));
    watch::start(&mut tasks, &control, &stopped);

    let ready_now = Ready {
        api,
        admin_socket,
        link_socket,
    };
    tracing::info!(%api, admin = %ready_now.admin_socket.display(), link = %ready_now.link_socket.display(), "the control plane is ready");
    ready(&ready_now);
    stop.await;
    tracing::info!("the control plane stops");
    stopping.send_replace(true);
    let drained =
        tokio::time::timeout(DRAIN_WAIT, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("some work of the control plane did not end in time");
    }
    for socket in [&ready_now.link_socket, &ready_now.admin_socket] {
        let _ = std::fs::remove_file(socket);
    }
    Ok(())
}

fn open(config: Arc<Config>) -> Result<Control, ControlPlaneError> {
    // Whoever links this crate may have another provider in its tree as well; the first one in stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    sockets::runtime_dir(&config.appliance.runtime)?;
    let data = config.appliance.data.join("controlplane");
    let wrong = |e: std::io::Error| ControlPlaneError::Data {
        dir: data.clone(),
        why: e.to_string(),
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data)
        .map_err(wrong)?;
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).map_err(wrong)?;

    let store: Arc<dyn Store> = Arc::new(RocksStore::open(data.join("store"))?);
    let secrets = Arc::new(Secrets::open(store.clone(), data.join("secrets.key"))?);
    let identity = Identity::start(&config.issuers, config.local.as_ref(), store.clone())?;
    let address_base = format!("{}/questions/", config.api.public_url());
    let desk = Arc::new(Desk::new(store.clone(), Arc::new(now_unix_ms), address_base)?);
    let rules = Arc::new(RulesBoard::open(config.appliance.rules.clone(), store.clone())?);
    let audit = Arc::new(Audit::open(
        &config.appliance.data.join("audit"),
        &data.join("audit-reader"),
    )?);
    let recent = Mutex::new(identity.revocation_list()?.into());
    Ok(Control {
        registry: Registry::default(),
        journal: Journal::open(store)?,
        metrics: headgate_api::metrics::Metrics::default(),
        roles: Roles {
            admin_groups: config.api.admin_groups.clone(),
            auditor_groups: config.api.auditor_groups.clone(),
        },
        links: AtomicUsize::new(0),
        streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
        queries: Arc::new(Semaphore::new(QUERIES_MAX)),
        recent,
        config,
        identity,
        secrets,
        desk,
        rules,
        audit,
    })
}

/// For a task that works in steps: waits for the next one, `false` when it is time to stop.
pub(crate) async fn step(timer: &mut tokio::time::Interval, stopped: &mut Receiver<bool>) -> bool {
    tokio::select! {
        _ = timer.tick() => true,
        () = self::stopped(stopped) => false,
    }
}

/// Done when it is time to stop, or when nobody could say so any more.
pub(crate) async fn stopped(stop: &mut Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await;
}
