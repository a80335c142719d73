//! Cancel requests to targets, each on a connection of its own, whatever the protocol says there. Runs on the housekeeping executor.
//!
//! Invariants: a target that does not answer holds up its own cancels alone; what is not delivered in [`WAIT_MAX`] is given up, for
//! whoever asked has gone on by then, and it would hit another statement; a session has at most one cancel that waits (who
//! asks again meanwhile is told when that one is delivered); each asker is told once, whatever became of it.
//! Bounds: [`RUNNING_MAX`] connections, of which one target has [`RUNNING_PER_TARGET_MAX`] at most, and each target may have one
//! however many others there are; [`WAITING_PER_TARGET_MAX`] sessions of a target wait, with [`ASKERS_MAX`] askers each.

use crate::tls::TargetConfigs;
use futures_lite::future;
use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use headgate_gate::{Progress, SideCancel};
use rustls::pki_types::ServerName;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// That the executor has not taken up yet.
const HANDED_OVER_MAX: usize = 4096;
const RUNNING_MAX: usize = 256;
const RUNNING_PER_TARGET_MAX: usize = 64;
const WAITING_PER_TARGET_MAX: usize = 256;
const ASKERS_MAX: usize = 64;
/// From the request to the target's acting on it.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Tells the connection that brought the request. Called once.
pub type Told = Box<dyn FnOnce() + Send>;

pub struct Cancel {
    pub cancel: SideCancel,
    /// Where the session is: a name may have several addresses.
    pub address: SocketAddr,
    pub done: Told,
}

#[derive(Default)]
pub struct Counters {
    pub delivered: AtomicU64,
    pub failed: AtomicU64,
    pub refused: AtomicU64,
}

/// The shards' end.
pub struct Cancels {
    sender: async_channel::Sender<Cancel>,
    receiver: async_channel::Receiver<Cancel>,
    pub counters: Arc<Counters>,
    wait_max: Duration,
}

impl Cancels {
    pub fn new() -> Cancels {
        Cancels::with(WAIT_MAX)
    }

    fn with(wait_max: Duration) -> Cancels {
        let (sender, receiver) = async_channel::bounded(HANDED_OVER_MAX);
        Cancels {
            sender,
            receiver,
            counters: Arc::default(),
            wait_max,
        }
    }

    /// Never waits.
    pub fn put(&self, cancel: Cancel) {
        if let Err(refused) = self.sender.try_send(cancel) {
            refuse(&self.counters, refused.into_inner());
        }
    }

    /// Serves them until the executor ends.
    pub fn serve(&self, tls: Arc<TargetConfigs>) -> headgate_link::Beside {
        let (receiver, counters, wait_max) =
            (self.receiver.clone(), Arc::clone(&self.counters), self.wait_max);
        Box::new(move || {
            let desk = Rc::new(Desk {
                line: RefCell::default(),
                tls,
                counters,
                wait_max,
            });
            Box::pin(async move {
                while let Ok(cancel) = receiver.recv().await {
                    if let Err(cancel) = desk.line.borrow_mut().put(cancel) {
                        refuse(&desk.counters, cancel);
                    }
                    start_all(&desk);
                }
            })
        })
    }
}

/// Its connection is closed, so the client knows as much as it ever does; the operator reads it here and in the metrics.
fn refuse(counters: &Counters, cancel: Cancel) {
    let refused = counters.refused.fetch_add(1, Ordering::Relaxed) + 1;
    // A storm fills a queue thousands of times, and need not fill the log as well.
    if refused.is_power_of_two() || refused.is_multiple_of(1000) {
        tracing::warn!(target_name = %cancel.cancel.target.name, refused, "a cancel could not be taken: too many wait for this target");
    }
    (cancel.done)();
}

struct Desk {
    line: RefCell<Line>,
    tls: Arc<TargetConfigs>,
    counters: Arc<Counters>,
    wait_max: Duration,
}

fn start_all(desk: &Rc<Desk>) {
    loop {
        let next = desk.line.borrow_mut().next();
        let Some(mut waiting) = next else { return };
        let desk = Rc::clone(desk);
        glommio::spawn_local(async move {
            let address = waiting.address;
            match deliver(&desk, &mut waiting).await {
                Ok(()) => desk.counters.delivered.fetch_add(1, Ordering::Relaxed),
                Err(why) => {
                    tracing::warn!(target_name = %waiting.cancel.target.name, %address, why, "a cancel did not reach the target");
                    desk.counters.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
            waiting.askers.into_iter().for_each(|told| told());
            desk.line.borrow_mut().ended(address);
            start_all(&desk);
        })
        .detach();
    }
}

struct Waiting {
    cancel: SideCancel,
    address: SocketAddr,
    since: Instant,
    askers: Vec<Told>,
}

#[derive(Default)]
struct Place {
    waiting: VecDeque<Waiting>,
    running: usize,
}

/// Who waits, and whose turn it is. Knows no socket.
#[derive(Default)]
struct Line {
    places: HashMap<SocketAddr, Place>,
    /// Targets for which somebody waits, each once.
    turns: VecDeque<SocketAddr>,
    running: usize,
}

impl Line {
    /// Given back when there is no room.
    fn put(&mut self, cancel: Cancel) -> Result<(), Cancel> {
        let place = self.places.entry(cancel.address).or_default();
        if let Some(same) = place
            .waiting
            .iter_mut()
            .find(|w| w.cancel.token == cancel.cancel.token)
        {
            if same.askers.len() >= ASKERS_MAX {
                return Err(cancel);
            }
            same.askers.push(cancel.done);
            return Ok(());
        }
        if place.waiting.len() >= WAITING_PER_TARGET_MAX {
            return Err(cancel);
        }
        if place.waiting.is_empty() {
            self.turns.push_back(cancel.address);
        }
        let Cancel {
            cancel,
            address,
            done,
        } = cancel;
        place.waiting.push_back(Waiting {
            cancel,
            address,
            since: Instant::now(),
            askers: vec![done],
        });
        Ok(())
    }

    /// Who may begin now. The caller says when it has ended.
    fn next(&mut self) -> Option<Waiting> {
        for _ in 0..self.turns.len() {
            let address = self.turns.pop_front()?;
            let Some(place) = self.places.get_mut(&address) else {
                continue;
            };
            let may =
                place.running == 0 || (self.running < RUNNING_MAX && place.running < RUNNING_PER_TARGET_MAX);
            let next = if may { place.waiting.pop_front() } else { None };
            if !place.waiting.is_empty() {
                self.turns.push_back(address);
            }
            if next.is_some() {
                place.running += 1;
                self.running += 1;
                return next;
            }
        }
        None
    }

    fn ended(&mut self, address: SocketAddr) {
        self.running = self.running.saturating_sub(1);
        if let Some(place) = self.places.get_mut(&address) {
            place.running = place.running.saturating_sub(1);
            if place.running == 0 && place.waiting.is_empty() {
                self.places.remove(&address);
            }
        }
    }
}

pub async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    future::or(work, async move {
        glommio::timer::sleep(limit).await;
        Err("no answer in time".to_owned())
    })
    .await
}

pub async fn connect(address: SocketAddr, wait_max: Duration) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(address, wait_max)
        .await
        .map_err(|e| e.to_string())?;
    // What is said here is short and waits for an answer each time: held back for an acknowledgement it would cost 40 ms.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

async fn deliver(desk: &Desk, waiting: &mut Waiting) -> Result<(), String> {
    let left = desk.wait_max.saturating_sub(waiting.since.elapsed());
    if left.is_zero() {
        return Err("it waited too long for its turn".to_owned());
    }
    let work = async {
        let mut stream = connect(waiting.address, left).await?;
        say(&desk.tls, &mut waiting.cancel, &mut stream).await
    };
    within(left, work).await
}

/// Says what the dialogue says, with TLS where it begins that.
async fn say(tls: &TargetConfigs, cancel: &mut SideCancel, stream: &mut TcpStream) -> Result<(), String> {
    let says = |e: std::io::Error| e.to_string();
    let (mut out, mut chunk) = (Vec::new(), [0; 4096]);
    let mut got = 0;
    loop {
        out.clear();
        let progress = cancel.dialogue.advance(chunk.get(..got).unwrap_or(&[]), &mut out);
        if !out.is_empty() {
            stream.write_all(&out).await.map_err(says)?;
        }
        match progress {
            Progress::More => got = stream.read(&mut chunk).await.map_err(says)?,
            Progress::StartTls => break,
            Progress::Said => return await_close(stream).await,
            Progress::Failed(why) => return Err(why),
        }
        if got == 0 {
            return Err("the target closed before all was said".to_owned());
        }
    }
    say_inside(tls, cancel, stream).await
}

/// The rest of a dialogue that has begun TLS, which says one thing more.
async fn say_inside(
    tls: &TargetConfigs,
    cancel: &mut SideCancel,
    stream: &mut TcpStream,
) -> Result<(), String> {
    let says = |e: std::io::Error| e.to_string();
    let target = &cancel.target;
    let host = target
        .address
        .rsplit_once(':')
        .map_or(target.address.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    let mut connection = rustls::ClientConnection::new(tls.of(target)?, name).map_err(|e| e.to_string())?;
    let (mut out, mut chunk) = (Vec::new(), [0; 4096]);
    // Kept inside until the target has proved itself, and then sent in one write with the end of the handshake.
    match cancel.dialogue.advance(&[], &mut out) {
        Progress::Said => connection.writer().write_all(&out).map_err(says)?,
        other => {
            return Err(format!(
                "a side dialogue inside TLS that is not done at once: {other:?}"
            ));
        }
    }
    loop {
        out.clear();
        while connection.wants_write() {
            connection.write_tls(&mut out).map_err(says)?;
        }
        if !out.is_empty() {
            stream.write_all(&out).await.map_err(says)?;
        }
        if !connection.is_handshaking() {
            return await_close(stream).await;
        }
        let got = stream.read(&mut chunk).await.map_err(says)?;
        let mut bytes = chunk
            .get(..got)
            .filter(|bytes| !bytes.is_empty())
            .ok_or("the target closed during the TLS handshake")?;
        while !bytes.is_empty() {
            connection.read_tls(&mut bytes).map_err(says)?;
            connection.process_new_packets().map_err(|e| e.to_string())?;
        }
    }
}

/// The target closes when it has acted.
async fn await_close(stream: &mut TcpStream) -> Result<(), String> {
    let mut rest = [0; 256];
    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_gate::postgres::CancelRequest;
    use headgate_plane::{TargetAuth, TargetSpec, TargetTls};
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    fn spec(tls: TargetTls) -> Arc<TargetSpec> {
        Arc::new(TargetSpec {
            name: "shop".to_owned(),
            protocol: headgate_plane::Protocol::Postgres,
            environment: String::new(),
            address: "localhost:5432".to_owned(),
            database: "shop".to_owned(),
            user: "shop".to_owned(),
            tls,
            ca: None,
            auth: TargetAuth::Scram,
            labels: Vec::new(),
        })
    }

    fn cancel(address: SocketAddr, pid: u32) -> (Cancel, Receiver<()>) {
        let (sender, receiver) = channel();
        let done: Told = Box::new(move || {
            let _ = sender.send(());
        });
        let token = [&pid.to_be_bytes()[..], &[1, 2, 3, 4]].concat();
        (
            Cancel {
                cancel: SideCancel {
                    target: spec(TargetTls::DangerOff),
                    token: token.clone(),
                    dialogue: Box::new(CancelRequest::new(token, false)),
                },
                address,
                done,
            },
            receiver,
        )
    }

    fn pid_of(waiting: &Waiting) -> u32 {
        let (pid, _) = waiting.cancel.token.split_first_chunk::<4>().unwrap();
        u32::from_be_bytes(*pid)
    }

    fn place(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 5432).into()
    }

    fn put(line: &mut Line, address: SocketAddr, pid: u32) -> bool {
        line.put(cancel(address, pid).0).is_ok()
    }

    #[test]
    fn a_target_with_nothing_under_way_begins_at_once_however_many_others_there_are() {
        let mut line = Line::default();
        for sick in 0..6 {
            for pid in 0..200 {
                assert!(put(&mut line, place(sick), pid));
            }
        }
        let mut begun: HashMap<SocketAddr, usize> = HashMap::new();
        while let Some(waiting) = line.next() {
            *begun.entry(waiting.address).or_default() += 1;
        }
        assert_eq!(begun.values().sum::<usize>(), RUNNING_MAX);
        assert!(
            begun
                .values()
                .all(|n| (RUNNING_MAX / 6..=RUNNING_PER_TARGET_MAX).contains(n)),
            "{begun:?}"
        );
        // None of the sick ones ever ends.
        for pid in 0..10 {
            assert!(put(&mut line, place(100), pid));
            assert_eq!(
                line.next().map(|w| (w.address, pid_of(&w))),
                Some((place(100), pid))
            );
            assert!(line.next().is_none());
            line.ended(place(100));
        }
    }

    #[test]
    fn one_target_leaves_connections_for_the_others_and_its_queue_has_an_end() {
        let mut line = Line::default();
        for pid in 0..RUNNING_PER_TARGET_MAX as u32 {
            assert!(put(&mut line, place(1), pid));
            assert!(line.next().is_some());
        }
        for pid in 0..WAITING_PER_TARGET_MAX as u32 {
            assert!(put(&mut line, place(1), 1000 + pid));
            assert!(line.next().is_none());
        }
        assert!(!put(&mut line, place(1), 5000));
        assert!(put(&mut line, place(2), 1));
        assert_eq!(line.next().map(|w| w.address), Some(place(2)));
        line.ended(place(1));
        assert_eq!(line.next().map(|w| pid_of(&w)), Some(1000));
    }

    #[test]
    fn the_same_cancel_again_joins_the_one_that_waits_and_all_of_its_askers_are_told() {
        let mut line = Line::default();
        let told: Vec<_> = (0..3)
            .map(|_| {
                let (cancel, told) = cancel(place(1), 7);
                assert!(line.put(cancel).is_ok());
                told
            })
            .collect();
        let first = line.next().expect("one");
        assert!(line.next().is_none(), "and no other");
        // One that is under way may be too early for a statement that began since: the next one goes by itself.
        assert!(put(&mut line, place(1), 7));
        assert!(line.next().is_some());
        first.askers.into_iter().for_each(|told| told());
        assert!(told.iter().all(|told| told.try_recv().is_ok()));
        line.ended(place(1));
        line.ended(place(1));
        assert!(line.places.is_empty() && line.turns.is_empty() && line.running == 0);
        for n in 0..=ASKERS_MAX {
            assert_eq!(put(&mut line, place(1), 7), n < ASKERS_MAX);
        }
    }

    /// A real executor with real sockets: one target accepts and says nothing, the other acts.
    #[test]
    fn forty_cancels_go_side_by_side_and_past_a_target_that_is_silent() {
        let (silent, healthy) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        // Patience beyond any slow machine: order is shown here, and no time.
        let cancels = Cancels::with(Duration::from_secs(600));
        let beside = vec![cancels.serve(Arc::new(TargetConfigs::load(&[]).unwrap()))];
        let config = headgate_link::LinkSettings {
            socket: "/nonexistent".into(),
            appliance: String::new(),
            boot: 0,
            pin: None,
            periodic: Vec::new(),
            beside,
        };
        let link = headgate_link::Link::start(config, Arc::new(|_| {})).unwrap();
        let (_kept, stuck): (Vec<_>, Vec<_>) = (0..RUNNING_PER_TARGET_MAX as u32)
            .map(|pid| {
                let (cancel, told) = cancel(silent.local_addr().unwrap(), pid);
                cancels.put(cancel);
                (silent.accept().unwrap().0, told)
            })
            .unzip();
        let told: Vec<_> = (0..40)
            .map(|pid| {
                let (cancel, told) = cancel(healthy.local_addr().unwrap(), pid);
                cancels.put(cancel);
                told
            })
            .collect();
        // All forty are there before the first is answered.
        let mut streams: Vec<_> = (0..40).map(|_| healthy.accept().unwrap().0).collect();
        let mut pids: Vec<u32> = streams
            .iter_mut()
            .map(|stream| {
                let mut request = [0; 16];
                stream.read_exact(&mut request).unwrap();
                assert_eq!(request[..8], [0, 0, 0, 16, 4, 210, 22, 46]);
                u32::from_be_bytes(request[8..12].try_into().unwrap())
            })
            .collect();
        pids.sort_unstable();
        assert_eq!(pids, (0..40).collect::<Vec<u32>>());
        assert!(
            told.iter().all(|told| told.try_recv().is_err()),
            "not delivered before the target has closed"
        );
        drop(streams);
        for told in told {
            told.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        assert!(
            stuck.iter().all(|told| told.try_recv().is_err()),
            "the silent target holds up its own alone"
        );
        link.stop().unwrap();
    }
}
