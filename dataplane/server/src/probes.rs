//! Health of targets: is somebody listening there? Runs on the housekeeping executor.
//!
//! Invariant: each target has a task of its own, so at most one probe of it is under way, and it waits for nobody else's.

use crate::cancels::{connect, within};
use crate::names::{Age, Names};
use glommio::timer::sleep;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The time between two probes of one target, and the patience of one.
#[derive(Clone, Copy)]
pub struct Pace {
    pub every: Duration,
    pub connect_wait_max: Duration,
}

pub const PACE: Pace = Pace {
    every: Duration::from_secs(10),
    connect_wait_max: Duration::from_secs(5),
};
/// A name service that is slow says nothing about the target, but a target whose name is not known cannot be reached.
const NAME_WAIT_MAX: Duration = Duration::from_secs(15);

/// A target's name, its address, and whether it was reached when last tried.
#[derive(Clone)]
pub struct Health {
    pub name: String,
    pub address: String,
    pub up: Arc<AtomicBool>,
}

/// Probes all of them for as long as the executor lives, spread over the time between two probes.
pub fn watch(targets: Vec<Health>, names: Names, pace: Pace) -> headgate_link::Beside {
    Box::new(move || {
        Box::pin(async move {
            let count = u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1);
            for (health, n) in targets.into_iter().zip(0..) {
                let names = names.clone();
                glommio::spawn_local(async move {
                    sleep(pace.every / count * n).await;
                    loop {
                        note(
                            &health,
                            probe(&health.address, &names, pace.connect_wait_max).await,
                        );
                        sleep(pace.every).await;
                    }
                })
                .detach();
            }
        })
    })
}

fn note(health: &Health, reached: Result<(), String>) {
    let is_up = reached.is_ok();
    if health.up.swap(is_up, Ordering::Relaxed) == is_up {
        return;
    }
    match reached {
        Ok(()) => tracing::info!(
            target_name = health.name,
            address = health.address,
            "target: can be reached"
        ),
        Err(why) => tracing::warn!(
            target_name = health.name,
            address = health.address,
            why,
            "target: cannot be reached"
        ),
    }
}

/// One of its addresses takes a connection.
async fn probe(address: &str, names: &Names, connect_wait_max: Duration) -> Result<(), String> {
    let (sender, receiver) = async_channel::bounded(1);
    // Nobody listens any more when it took too long.
    names.ask(
        address,
        Age::Any,
        Box::new(move |answer| drop(sender.try_send(answer))),
    );
    let addresses = within(NAME_WAIT_MAX, async {
        receiver
            .recv()
            .await
            .unwrap_or_else(|_| Err("the look-up of its name was given up".to_owned()))
    })
    .await
    .map_err(|why| format!("its name: {why}"))?;
    let mut failed = String::new();
    for address in addresses.iter() {
        match connect(*address, connect_wait_max).await {
            Ok(_) => return Ok(()),
            Err(why) => failed = format!("{address}: {why}"),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    /// Accepts nothing, and its queue is full: the kernel drops the SYNs of all who come.
    fn sick() -> (Socket, SocketAddr, Vec<TcpStream>) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
            assert!(queue.len() < 16, "the queue has no end");
        }
        (socket, address, queue)
    }

    /// Connections of this machine to `address` that wait for an answer to their SYN.
    fn asking(address: SocketAddr) -> usize {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let port = format!(":{:04X}", address.port());
        let fields = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields
            .filter(|f| f.get(2).is_some_and(|to| to.ends_with(&port)) && f.get(3) == Some(&"02"))
            .count()
    }

    fn health(name: &str, address: String, up: bool) -> Health {
        Health {
            name: name.to_owned(),
            address,
            up: Arc::new(AtomicBool::new(up)),
        }
    }

    #[test]
    fn targets_that_drop_syns_and_a_slow_name_service_keep_no_probe_of_another_and_do_not_pile_up() {
        let sick: Vec<_> = (0..6).map(|_| sick()).collect();
        let well = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = well.local_addr().unwrap();
        // Its answer never comes while the test runs.
        let (_silence, answer) = std::sync::mpsc::channel::<()>();
        let answer = std::sync::Mutex::new(answer);
        let names = Names::with(Box::new(move |address| match address {
            "well.test:5432" => Ok(vec![at]),
            _ => answer
                .lock()
                .unwrap()
                .recv()
                .map(|()| Vec::new())
                .map_err(|e| e.to_string()),
        }));
        let mut targets: Vec<Health> = sick
            .iter()
            .map(|(_, address, _)| health("sick", address.to_string(), true))
            .collect();
        targets.push(health("nowhere", "slow.test:5432".to_owned(), true));
        targets.push(health("well", "well.test:5432".to_owned(), false));
        let pace = Pace {
            every: Duration::from_millis(10),
            connect_wait_max: Duration::from_secs(600),
        };
        let config = headgate_link::LinkSettings {
            socket: "/nonexistent".into(),
            appliance: String::new(),
            boot: 0,
            pin: None,
            periodic: Vec::new(),
            beside: vec![watch(targets.clone(), names, pace)],
        };
        let link = headgate_link::Link::start(config, Arc::new(|_| {})).unwrap();
        for _ in 0..20 {
            well.accept().unwrap();
        }
        // The first probe of each of the others is still under way, and there is no second.
        assert!(
            targets[..7]
                .iter()
                .all(|target| target.up.load(Ordering::Relaxed))
        );
        assert!(targets[7].up.load(Ordering::Relaxed), "the well one was reached");
        for (_, address, _) in &sick {
            assert_eq!(asking(*address), 1);
        }
        link.stop().unwrap();
    }

    #[test]
    fn a_target_is_up_when_any_of_its_addresses_is() {
        let (gone, well) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let addresses = [gone.local_addr().unwrap(), well.local_addr().unwrap()];
        drop(gone);
        let names = Names::with(Box::new(move |_| Ok(addresses.to_vec())));
        let target = health("two", "two.test:5432".to_owned(), false);
        let config = headgate_link::LinkSettings {
            socket: "/nonexistent".into(),
            appliance: String::new(),
            boot: 0,
            pin: None,
            periodic: Vec::new(),
            beside: vec![watch(
                vec![target.clone()],
                names,
                Pace {
                    every: Duration::from_millis(10),
                    ..PACE
                },
            )],
        };
        let link = headgate_link::Link::start(config, Arc::new(|_| {})).unwrap();
        for _ in 0..2 {
            well.accept().unwrap();
        }
        // The second probe begins after the first is noted.
        assert!(target.up.load(Ordering::Relaxed));
        link.stop().unwrap();
    }
}
