//! What only the real ring can show: ports, cores, descriptors that run out, and that it sleeps.

use headgate_ring::{End, Handler, Io, ListenSettings, ListenerId, Ring, RingError, RingSettings, SocketId};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

#[derive(Clone, Default)]
struct Counting {
    accepted: Arc<AtomicU32>,
    turns: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
}

impl Handler for Counting {
    fn accepted(&mut self, _io: &mut dyn Io, _listener: ListenerId, _socket: SocketId, _peer: SocketAddr) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }
    fn connected(&mut self, _io: &mut dyn Io, _socket: SocketId, _result: Result<(), i32>) {}
    fn received(&mut self, io: &mut dyn Io, socket: SocketId, bytes: &[u8]) {
        io.send(socket, bytes.to_vec());
    }
    fn ended(&mut self, io: &mut dyn Io, socket: SocketId, _end: End) {
        io.close(socket);
    }
    fn sent(&mut self, _io: &mut dyn Io, _socket: SocketId) {}
    fn recycle(&mut self, _buffer: Vec<u8>) {}
    fn closed(&mut self, _io: &mut dyn Io, _socket: SocketId) {}
    fn woken(&mut self, _io: &mut dyn Io) {}
    fn tick(&mut self, _io: &mut dyn Io) {}
    fn wants_ticks(&self) -> bool {
        false
    }
    fn turn_ended(&mut self, _io: &mut dyn Io) -> bool {
        self.turns.fetch_add(1, Ordering::SeqCst);
        false
    }
    fn wants_stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn config(address: SocketAddr) -> RingSettings {
    RingSettings {
        listeners: vec![ListenSettings {
            address,
            backlog: 256,
        }],
        ..RingSettings::default()
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

struct Running {
    counting: Counting,
    address: SocketAddr,
    wake: headgate_ring::WakeFd,
    thread: std::thread::JoinHandle<Result<(), RingError>>,
}

fn start(config: RingSettings) -> Running {
    let ring = Ring::new(config).unwrap();
    let (address, wake) = (ring.local_addresses()[0], ring.wake_fd());
    let counting = Counting::default();
    let mut handler = counting.clone();
    Running {
        counting,
        address,
        wake,
        thread: std::thread::spawn(move || ring.run(&mut handler)),
    }
}

impl Running {
    fn stop(self) {
        self.counting.stop.store(true, Ordering::SeqCst);
        self.wake.wake();
        self.thread.join().unwrap().unwrap();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let by = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < by, "{what} in time");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_port_is_free_the_moment_a_run_has_ended() {
    let running = start(config(loopback()));
    let address = running.address;
    let clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("fifty accepts", || {
        running.counting.accepted.load(Ordering::SeqCst) == 50
    });
    running.stop();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    drop(clients);
}

#[test]
fn two_rings_share_one_port() {
    let first = start(config(loopback()));
    let second = start(config(first.address));
    let clients: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(first.address).unwrap())
        .collect();
    let counts = || {
        (
            first.counting.accepted.load(Ordering::SeqCst),
            second.counting.accepted.load(Ordering::SeqCst),
        )
    };
    until("all accepts", || counts().0 + counts().1 == 64);
    assert!(counts().0 > 0 && counts().1 > 0, "both get some: {:?}", counts());
    drop(clients);
    first.stop();
    second.stop();
}

#[test]
fn an_idle_ring_sleeps() {
    let running = start(config(loopback()));
    let clients: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(running.address).unwrap())
        .collect();
    until("all accepts", || {
        running.counting.accepted.load(Ordering::SeqCst) == 20
    });
    std::thread::sleep(Duration::from_millis(100));
    let before = running.counting.turns.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        running.counting.turns.load(Ordering::SeqCst),
        before,
        "no turn without a reason"
    );
    drop(clients);
    running.stop();
}

#[test]
fn what_cannot_be_had_is_named_with_its_exit_code() {
    let taken = TcpListener::bind(loopback()).unwrap();
    let refused = |config| Ring::new(config).err().expect("it cannot be had");
    let listen = refused(config(taken.local_addr().unwrap()));
    assert!(
        matches!(
            listen,
            RingError::Listen {
                errno: libc::EADDRINUSE,
                ..
            }
        ),
        "{listen}"
    );
    assert_eq!(listen.exit_code(), 76);
    let too_much = refused(RingSettings {
        buffers_count: 1024,
        ..RingSettings::default()
    });
    assert_eq!(
        (
            too_much.exit_code(),
            too_much.to_string().contains("PAUSE_SLACK_BYTES")
        ),
        (78, true)
    );
    let nowhere = Ring::new(RingSettings {
        core: Some(1_000),
        ..RingSettings::default()
    })
    .unwrap()
    .run(&mut Counting::default());
    assert!(matches!(nowhere, Err(RingError::Pin { core: 1_000, .. })));
}

#[test]
fn a_ring_runs_on_its_core() {
    // Core 0 may be outside of this process's set; then the error is the right answer.
    let ring = Ring::new(RingSettings {
        core: Some(0),
        ..RingSettings::default()
    })
    .unwrap();
    let mut handler = Counting::default();
    handler.stop.store(true, Ordering::SeqCst);
    let thread = std::thread::spawn(move || {
        let result = ring.run(&mut handler);
        let allowed = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        (
            result,
            allowed
                .lines()
                .find_map(|l| l.strip_prefix("Cpus_allowed_list:").map(|l| l.trim().to_owned())),
        )
    });
    match thread.join().unwrap() {
        (Ok(()), allowed) => assert_eq!(allowed.as_deref(), Some("0")),
        (Err(error), _) => assert_eq!(error.exit_code(), 77),
    }
}

fn set_descriptors_max(max: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place and value.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = max.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// Runs itself again alone, because the limit is the process's.
#[test]
fn when_descriptors_run_out_accepting_waits_without_spinning_and_goes_on_later() {
    const INNER: &str = "HEADGATE_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(INNER).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "when_descriptors_run_out_accepting_waits_without_spinning_and_goes_on_later",
            ])
            .env(INNER, "1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let ring = Ring::new(config(loopback())).unwrap();
    let (address, wake) = (ring.local_addresses()[0], ring.wake_fd());
    let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    set_descriptors_max(used + 10);
    let counting = Counting::default();
    let mut handler = counting.clone();
    let thread = std::thread::spawn(move || ring.run(&mut handler));
    std::thread::sleep(Duration::from_millis(600));
    let accepted = counting.accepted.load(Ordering::SeqCst);
    assert!(
        (5..40).contains(&accepted),
        "some were accepted, then descriptors ran out: {accepted}"
    );
    let turns = counting.turns.load(Ordering::SeqCst);
    assert!(turns < 60, "it waits between attempts: {turns} turns");
    set_descriptors_max(1024);
    until("the others are accepted later", || {
        counting.accepted.load(Ordering::SeqCst) == 40
    });
    counting.stop.store(true, Ordering::SeqCst);
    wake.wake();
    thread.join().unwrap().unwrap();
    drop(clients);
}

/// Stands still when it is woken, until it may go on; logs what it received.
struct Standing {
    accepted: Arc<Mutex<Vec<SocketId>>>,
    received: Arc<Mutex<Vec<(SocketId, usize)>>>,
    stands: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
    stop: Arc<AtomicBool>,
}

impl Handler for Standing {
    fn accepted(&mut self, _io: &mut dyn Io, _listener: ListenerId, socket: SocketId, _peer: SocketAddr) {
        self.accepted.lock().unwrap().push(socket);
    }
    fn connected(&mut self, _io: &mut dyn Io, _socket: SocketId, _result: Result<(), i32>) {}
    fn received(&mut self, _io: &mut dyn Io, socket: SocketId, bytes: &[u8]) {
        self.received.lock().unwrap().push((socket, bytes.len()));
    }
    fn ended(&mut self, io: &mut dyn Io, socket: SocketId, _end: End) {
        io.close(socket);
    }
    fn sent(&mut self, _io: &mut dyn Io, _socket: SocketId) {}
    fn recycle(&mut self, _buffer: Vec<u8>) {}
    fn closed(&mut self, _io: &mut dyn Io, _socket: SocketId) {}
    fn woken(&mut self, _io: &mut dyn Io) {
        if !self.stop.load(Ordering::SeqCst) {
            self.stands.send(()).unwrap();
            self.go_on.recv().unwrap();
        }
    }
    fn tick(&mut self, _io: &mut dyn Io) {}
    fn wants_ticks(&self) -> bool {
        false
    }
    fn turn_ended(&mut self, _io: &mut dyn Io) -> bool {
        false
    }
    fn wants_stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

#[test]
fn a_small_word_does_not_wait_for_the_bulk_that_came_before_it() {
    const PIECE: usize = 256 << 10;
    let ring = Ring::new(config(loopback())).unwrap();
    let (address, wake) = (ring.local_addresses()[0], ring.wake_fd());
    let (accepted, received) = (
        Arc::<Mutex<Vec<SocketId>>>::default(),
        Arc::<Mutex<Vec<(SocketId, usize)>>>::default(),
    );
    let ((stands, is_standing), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    let stop = Arc::<AtomicBool>::default();
    let mut handler = Standing {
        accepted: accepted.clone(),
        received: received.clone(),
        stands,
        go_on: may_go_on,
        stop: stop.clone(),
    };
    let thread = std::thread::spawn(move || ring.run(&mut handler));
    let clients: Vec<TcpStream> = (1..=5)
        .map(|n| {
            let client = TcpStream::connect(address).unwrap();
            until("an accept", || accepted.lock().unwrap().len() == n);
            client
        })
        .collect();
    let ids = accepted.lock().unwrap().clone();
    let (bulk, small) = (&clients[..4], &clients[4]);
    let all_of = |id: SocketId| {
        received
            .lock()
            .unwrap()
            .iter()
            .filter(|(of, _)| *of == id)
            .map(|(_, bytes)| *bytes)
            .sum::<usize>()
    };
    // Now they are known to move bulk.
    for (mut client, id) in bulk.iter().zip(&ids) {
        client.write_all(&vec![1; 2 * PIECE]).unwrap();
        until("the first bulk", || all_of(*id) == 2 * PIECE);
    }
    wake.wake();
    is_standing.recv().unwrap();
    let before = received.lock().unwrap().len();
    std::thread::scope(|scope| {
        for mut client in bulk {
            scope.spawn(move || client.write_all(&vec![2; PIECE]).unwrap());
        }
        std::thread::sleep(Duration::from_millis(100));
        (&mut { small }).write_all(b"small").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        go_on.send(()).unwrap();
        until("everything", || {
            ids.iter().take(4).all(|id| all_of(*id) == 3 * PIECE) && all_of(ids[4]) == 5
        });
    });
    let log = received.lock().unwrap()[before..].to_vec();
    let bulk_before: usize = log
        .iter()
        .take_while(|(id, _)| *id != ids[4])
        .map(|(_, bytes)| *bytes)
        .sum();
    assert_eq!(bulk_before, 0, "bytes of bulk served before it: {log:?}");
    stop.store(true, Ordering::SeqCst);
    wake.wake();
    thread.join().unwrap().unwrap();
}

#[test]
fn the_limit_of_descriptors_rises_to_what_is_allowed() {
    const INNER: &str = "HEADGATE_TEST_RAISE_DESCRIPTORS";
    if std::env::var_os(INNER).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_limit_of_descriptors_rises_to_what_is_allowed"])
            .env(INNER, "1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    set_descriptors_max(64);
    let raised = headgate_ring::raise_descriptors_max().unwrap();
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<&str> = line
        .split_whitespace()
        .filter(|word| word.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    assert_eq!(
        numbers,
        [raised.to_string(), raised.to_string()],
        "soft and hard are one"
    );
}
