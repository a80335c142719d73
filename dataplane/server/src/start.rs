//! Puts the process together and runs it until SIGTERM or SIGINT. SIGHUP reads the certificates again.

use crate::cancels::Cancels;
use crate::catalog::{Catalogs, Limits};
use crate::names::Names;
use crate::probes::{self, Health};
use crate::services::Process;
use crate::tls::{self, Certificate, TargetConfigs};
use crate::{affinity, deliver};
use headgate_analyst::{AnalystPool, Language, PoolSettings};
use headgate_config::{Config, Durability, ListenerUser, OnHold, Spoken};
use headgate_gate::{CatalogLoaded, Clock, Core, ListenerSettings, Settings};
use headgate_link::{Link, LinkSettings};
use headgate_ring::{ListenSettings, Ring, RingError, RingSettings};
use headgate_shard::{Inbox, Keys, Message, Services, Shard, ShareLimits, Shares};
use headgate_spool::Producer;
use std::fmt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

#[derive(Debug)]
pub enum StartFailed {
    Config(String),
    Ring(RingError),
    Part { what: &'static str, why: String },
}

impl StartFailed {
    /// 64: the configuration; 70: a part could not start; 71..79: the kernel or a limit (see `--doctor`).
    pub fn exit_code(&self) -> u8 {
        match self {
            StartFailed::Config(_) => 64,
            StartFailed::Ring(error) => u8::try_from(error.exit_code()).unwrap_or(79),
            StartFailed::Part { .. } => 70,
        }
    }
}

impl fmt::Display for StartFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFailed::Config(why) => f.write_str(why),
            StartFailed::Ring(error) => error.fmt(f),
            StartFailed::Part { what, why } => write!(f, "{what}: {why}"),
        }
    }
}

fn part<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> StartFailed {
    move |why| StartFailed::Part {
        what,
        why: why.to_string(),
    }
}

pub fn run(path: &Path) -> Result<(), StartFailed> {
    let config = Config::load(path).map_err(|e| StartFailed::Config(e.to_string()))?;
    let probe = headgate_ring::probe().map_err(StartFailed::Ring)?;
    tracing::info!(kernel = %probe.kernel_release, appliance = %config.appliance.name, "headgate-dataplane starts");

    let targets = Arc::new(TargetConfigs::load(&config.target_specs()).map_err(StartFailed::Config)?);
    let (listeners, certificates) = listeners(&config)?;
    let mask_key = mask_key(&config.appliance.data)?;
    let cores = affinity::shards(&config.dataplane.cores);
    if cores.is_empty() {
        return Err(StartFailed::Config("dataplane.cores names no core".to_owned()));
    }
    descriptors(&config, cores.len());

    let inboxes: Vec<Arc<Inbox>> = cores.iter().map(|_| Inbox::new()).collect();
    let health = |t: &headgate_config::Target| Health {
        name: t.name.clone(),
        address: t.address.clone(),
        up: Arc::new(AtomicBool::new(true)),
    };
    let told = inboxes.clone();
    let tell = Box::new(move |loaded: CatalogLoaded| {
        told.iter()
            .for_each(|inbox| inbox.send(Message::CatalogLoaded(loaded.clone())))
    });
    let process = Arc::new(Process {
        catalogs: Catalogs::new(Arc::clone(&targets), Limits::default(), tell),
        analysts: analysts(&config)?,
        names: Names::new(),
        cancels: Cancels::new(),
        keys: Arc::new(Keys::default()),
        shares: Shares::new(share_limits(&config)),
        targets: config.targets.iter().map(health).collect(),
        certificates,
        link: OnceLock::new(),
        metrics: cores.iter().map(|_| Mutex::default()).collect(),
        inboxes: inboxes.clone(),
    });

    let spools = config.appliance.runtime.join("spool");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&spools)
        .map_err(part("spool folder"))?;
    let (mut threads, mut watches) = (Vec::new(), Vec::new());
    for (index, core) in cores.iter().enumerate() {
        let spool_bytes = usize::try_from(config.dataplane.spool_bytes).unwrap_or(usize::MAX);
        let spool = Producer::open_or_create(&spools.join(format!("spool-{index}")), spool_bytes)
            .map_err(part("spool"))?;
        watches.push(spool.watch());
        let ring = Ring::new(ring_config(&config, *core)).map_err(StartFailed::Ring)?;
        for address in ring.local_addresses() {
            if index == 0 {
                tracing::info!(%address, "listening");
            }
        }
        let inbox = Arc::clone(&inboxes[index]);
        inbox.connect(ring.wake_fd());
        let settings = settings(&config);
        let (listeners, targets) = (listeners.clone(), Arc::clone(&targets));
        let services: Arc<dyn Services> = Arc::clone(&process) as Arc<dyn Services>;
        let name = format!("shard-{index}");
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let core = Core::new(
                settings,
                listeners,
                spool,
                Clock::default(),
                Arc::new(move |spec| targets.of(spec)),
                mask_key,
            );
            ring.run(&mut Shard::new(index, core, inbox, services))
        });
        threads.push(thread.map_err(part("thread of a shard"))?);
    }

    let stop_watch = Arc::new(AtomicBool::new(false));
    {
        let (inboxes, stop) = (inboxes.clone(), Arc::clone(&stop_watch));
        let watch = move || headgate_shard::watch_spools(&mut watches, &inboxes, &stop);
        std::thread::Builder::new()
            .name("spools".to_owned())
            .spawn(watch)
            .map_err(part("thread of the spools"))?;
    }

    let link = start_link(&config, &process, &inboxes, &targets)?;
    let _ = process.link.set(link.clone());

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(part("signals"))?;
    // A shard that ends by itself takes the process along: the supervisor starts it whole again.
    let failed: Arc<OnceLock<RingError>> = Arc::default();
    let waiter = {
        let (failed, handle) = (Arc::clone(&failed), signals.handle());
        std::thread::spawn(move || {
            for thread in threads {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        let _ = failed.set(error);
                        handle.close();
                    }
                    Err(_) => {
                        let _ = failed.set(RingError::Config {
                            what: "a shard panicked; its message is above",
                        });
                        handle.close();
                    }
                }
            }
        })
    };
    for signal in signals.forever() {
        if signal == SIGHUP {
            process.reload();
            continue;
        }
        tracing::info!("headgate-dataplane stops");
        process.stop();
        let _ = waiter.join();
        break;
    }
    let _ = link.stop();
    stop_watch.store(true, Ordering::Relaxed);
    match failed.get() {
        Some(error) => Err(StartFailed::Ring(error.clone())),
        None => Ok(()),
    }
}

/// A session takes two descriptors; the rest is listeners, spools, pipes of analysts, cancels and the like.
fn descriptors(config: &Config, cores: usize) {
    let wanted = (u64::from(config.dataplane.sessions_max) * 2)
        .saturating_mul(cores as u64)
        .saturating_add(512);
    match headgate_ring::raise_descriptors_max() {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "so many open files are too few for sessions_max on all cores; more sessions will wait to be accepted (LimitNOFILE, ulimit -Hn)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

fn listeners(config: &Config) -> Result<(Vec<ListenerSettings>, Vec<Arc<Certificate>>), StartFailed> {
    let (mut listeners, mut certificates) = (Vec::new(), Vec::new());
    for listener in &config.listeners {
        // Which of the known ones are spoken, the configuration's check has said.
        let Spoken::Known(protocol) = listener.protocol else {
            return Err(StartFailed::Config(format!(
                "listener {}: protocol \"{}\" is not spoken yet",
                listener.address, listener.protocol
            )));
        };
        let refuses = config
            .targets
            .iter()
            .any(|t| config.on_hold(listener, &t.name) == OnHold::Refuse);
        if refuses || listener.on_hold == OnHold::Refuse {
            return Err(StartFailed::Config(
                "on_hold = \"refuse\" is not there yet: leave it out, statements wait".to_owned(),
            ));
        }
        let certificate = listener
            .tls
            .as_ref()
            .map(Certificate::load)
            .transpose()
            .map_err(StartFailed::Config)?;
        let tls = certificate
            .clone()
            .map(tls::server)
            .transpose()
            .map_err(StartFailed::Config)?;
        certificates.extend(certificate);
        listeners.push(ListenerSettings {
            protocol,
            tls,
            danger_allow_cleartext: listener.danger_allow_cleartext,
            any_user: listener.user == ListenerUser::Any,
        });
    }
    if listeners.is_empty() {
        return Err(StartFailed::Config(
            "no [[listener]]: nobody could connect".to_owned(),
        ));
    }
    Ok((listeners, certificates))
}

fn share_limits(config: &Config) -> ShareLimits {
    ShareLimits {
        half_open_max: config.dataplane.half_open_max as usize,
        half_open_per_address_max: config.dataplane.half_open_per_address_max as usize,
        sessions_per_principal_max: config.dataplane.sessions_per_principal_max as usize,
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        reply_record_bytes: usize::try_from(config.dataplane.reply_record_bytes).unwrap_or(usize::MAX),
        strict: config.dataplane.durability == Durability::Strict,
        statement_bytes_max: usize::try_from(config.dataplane.statement_bytes_max)
            .unwrap_or(usize::MAX)
            .min(headgate_sql::Caps::default().bytes_max),
        session_bytes_max: usize::try_from(config.dataplane.session_bytes_max).unwrap_or(usize::MAX),
        core_bytes_max: usize::try_from(config.dataplane.core_bytes_max).unwrap_or(usize::MAX),
        ..Settings::default()
    }
}

fn ring_config(config: &Config, core: usize) -> RingSettings {
    let listener = |l: &headgate_config::Listener| ListenSettings {
        address: l.address,
        backlog: 4096,
    };
    RingSettings {
        listeners: config.listeners.iter().map(listener).collect(),
        sockets_max: config.dataplane.sessions_max as usize,
        spin_us: config.dataplane.spin_us,
        core: Some(core),
        ..RingSettings::default()
    }
}

fn analysts(config: &Config) -> Result<AnalystPool, StartFailed> {
    let here = std::env::current_exe().map_err(part("analysts"))?;
    let program = here.with_file_name("headgate-analyst");
    if !program.is_file() {
        return Err(StartFailed::Part {
            what: "analysts",
            why: format!(
                "{} is missing: it belongs beside headgate-dataplane",
                program.display()
            ),
        });
    }
    let mut caps = headgate_sql::Caps::default();
    if config.dataplane.statement_bytes_max > caps.bytes_max as u64 {
        tracing::warn!(
            bytes = caps.bytes_max,
            "statement_bytes_max is beyond what the analysts parse in time; this holds instead"
        );
    }
    caps.bytes_max = caps
        .bytes_max
        .min(usize::try_from(config.dataplane.statement_bytes_max).unwrap_or(usize::MAX));
    let workers = (config.dataplane.analysts as usize).max(1);
    let args = Vec::new();
    let pool = AnalystPool::start(PoolSettings {
        workers,
        program,
        args,
        answer_ms_max: 1000,
        queue_max: 1024,
        queue_per_owner_max: 256,
        caps,
    })
    .map_err(part("analysts"))?;
    // A sandbox that does not fit this system shows now, and not as a denial of everything later.
    let (answer, answered) = std::sync::mpsc::channel();
    pool.submit(
        0,
        Language::Postgres,
        b"select 1".to_vec(),
        Box::new(move |result| {
            let _ = answer.send(result.is_ok());
        }),
    );
    match answered.recv_timeout(Duration::from_secs(10)) {
        Ok(true) => Ok(pool),
        _ => Err(StartFailed::Part {
            what: "analysts",
            why: "a sandboxed parser did not answer \"select 1\"; its message is above".to_owned(),
        }),
    }
}

fn start_link(
    config: &Config,
    process: &Arc<Process>,
    inboxes: &[Arc<Inbox>],
    targets: &Arc<TargetConfigs>,
) -> Result<headgate_link::LinkHandle, StartFailed> {
    let (second, ten, inboxes) = (Arc::clone(process), Arc::clone(process), inboxes.to_vec());
    let link = LinkSettings {
        socket: config.link_socket(),
        appliance: config.appliance.name.clone(),
        boot: u128::from_be_bytes(Core::random()),
        pin: None,
        periodic: vec![
            (Duration::from_secs(1), Box::new(move || second.second())),
            (Duration::from_secs(10), Box::new(move || ten.ten_seconds())),
        ],
        beside: vec![
            process.cancels.serve(Arc::clone(targets)),
            probes::watch(process.targets.clone(), process.names.clone(), probes::PACE),
        ],
    };
    Link::start(link, Arc::new(move |message| deliver::deliver(&inboxes, message))).map_err(part("link"))
}

/// Kept in the data folder, so that tokens of masked values stay the same over restarts.
fn mask_key(data: &Path) -> Result<[u8; 32], StartFailed> {
    let path = data.join("mask.key");
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| StartFailed::Part {
            what: "mask.key",
            why: "it does not have 32 bytes".to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(data).map_err(part("data folder"))?;
            let key: [u8; 32] = Core::random();
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(part("mask.key"))?;
            std::io::Write::write_all(&mut file, &key).map_err(part("mask.key"))?;
            Ok(key)
        }
        Err(error) => Err(part("mask.key")(error)),
    }
}
