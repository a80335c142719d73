//! The ring on a thread of its own, with blocking sockets as far ends.

use crate::script::{Command, Script, State};
use crate::world::{Limits, PeerId, World};
use headgate_ring::{End, ListenSettings, Ring, RingSettings, WakeFd};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

pub struct Real {
    script: Script,
    wake: WakeFd,
    address: SocketAddr,
    ring: Option<JoinHandle<()>>,
    peers: Vec<TcpStream>,
    writers: Vec<JoinHandle<()>>,
    target: TcpListener,
    /// Keep the silent target's queue full.
    silent: Vec<(Socket, Vec<Socket>)>,
}

impl Real {
    pub fn new(limits: Limits) -> Self {
        let listeners = vec![ListenSettings {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            backlog: 512,
        }];
        let config = RingSettings {
            listeners,
            sockets_max: limits.sockets_max,
            close_linger_ms: limits.close_linger_ms,
            ..RingSettings::default()
        };
        let ring = Ring::new(config).unwrap();
        let (wake, address) = (ring.wake_fd(), ring.local_addresses()[0]);
        let script = Script::default();
        let mut handler = script.clone();
        let ring = std::thread::spawn(move || ring.run(&mut handler).unwrap());
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Real {
            script,
            wake,
            address,
            ring: Some(ring),
            peers: vec![],
            writers: vec![],
            target,
            silent: vec![],
        }
    }

    fn add(&mut self, stream: TcpStream) -> PeerId {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        self.peers.push(stream);
        self.peers.len() - 1
    }
}

impl World for Real {
    fn dial(&mut self) -> PeerId {
        let stream = TcpStream::connect(self.address).unwrap();
        self.add(stream)
    }

    fn say(&mut self, peer: PeerId, bytes: &[u8]) {
        let mut stream = self.peers[peer].try_clone().unwrap();
        if bytes.len() <= 1024 {
            let _ = stream.write_all(bytes);
            return;
        }
        let bytes = bytes.to_vec();
        // A reset by the handler ends it, and that is the handler's right.
        self.writers
            .push(std::thread::spawn(move || drop(stream.write_all(&bytes))));
    }

    fn finish(&mut self, peer: PeerId) {
        let _ = self.peers[peer].shutdown(Shutdown::Write);
    }

    fn reset(&mut self, peer: PeerId) {
        let gone = TcpStream::connect(self.target.local_addr().unwrap()).unwrap();
        self.target.accept().unwrap();
        let stream = std::mem::replace(&mut self.peers[peer], gone);
        Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn deaf(&mut self, _peer: PeerId) {}

    fn hear(&mut self, peer: PeerId, count: usize) -> Vec<u8> {
        let mut heard = vec![0; count];
        let mut len = 0;
        while len < count {
            match self.peers[peer].read(&mut heard[len..]).expect("bytes in time") {
                0 => break,
                n => len += n,
            }
        }
        heard.truncate(len);
        heard
    }

    fn hear_end(&mut self, peer: PeerId) -> (Vec<u8>, End) {
        let mut heard = Vec::new();
        let end = match self.peers[peer].read_to_end(&mut heard) {
            Ok(_) => End::Finished,
            Err(e) => End::Broken(e.raw_os_error().unwrap_or(0)),
        };
        // Clients hang up on FIN.
        let _ = self.peers[peer].shutdown(Shutdown::Both);
        (heard, end)
    }

    fn accepting_target(&mut self) -> SocketAddr {
        self.target.local_addr().unwrap()
    }

    fn refusing_target(&mut self) -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
    }

    /// A listener whose queue is full drops each SYN.
    fn silent_target(&mut self) -> SocketAddr {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let fill = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address);
                socket
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        self.silent.push((listener, fill));
        address.as_socket().unwrap()
    }

    fn arrival(&mut self) -> PeerId {
        let (stream, _) = self.target.accept().unwrap();
        self.add(stream)
    }

    fn tell(&mut self, command: Command) {
        self.script.with(|s| s.commands.push_back(command));
        self.wake.wake();
    }

    fn wait(&mut self, what: &str, until: &mut dyn FnMut(&State) -> bool) {
        let by = Instant::now() + SOON;
        while !self.script.with(|s| until(s)) {
            if Instant::now() > by {
                self.script
                    .with(|s| panic!("no {what} in time; wrongs {:?}, seen {:?}", s.wrongs, s.seen));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn pass(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn look(&mut self, at: &mut dyn FnMut(&State)) {
        self.script.with(|s| at(s));
    }

    fn end(&mut self) {
        self.script.with(|s| s.stop = true);
        self.wake.wake();
        let ring = self.ring.take().expect("ended once");
        ring.join().expect("the ring ends well");
        self.peers.clear();
        for writer in self.writers.drain(..) {
            writer.join().unwrap();
        }
        self.script.with(|s| assert_eq!(s.wrongs, Vec::<String>::new()));
    }
}
