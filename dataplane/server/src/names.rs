//! Host names to addresses. The system's resolver blocks for as long as it likes, so each look-up has a thread of its own.
//!
//! Invariants: for each name at most one look-up is under way, and whoever asks meanwhile gets its answer; a name that is
//! slow holds one thread and those who asked for it, and nobody else; each asker is answered once.
//! Bounds: [`LOOKUPS_MAX`] threads, [`NAMES_MAX`] names, [`ASKERS_MAX`] askers a name. Beyond them the answer is an error at once.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// More look-ups than that wait for one to end.
const LOOKUPS_MAX: usize = 64;
/// Names come from the configuration of targets: so many are not expected.
const NAMES_MAX: usize = 4096;
const ASKERS_MAX: usize = 1024;
/// A pool that fills up asks the name service once.
const FRESH: Duration = Duration::from_secs(5);

pub type Addresses = Arc<[SocketAddr]>;
/// Called once, on the asker's thread or on a look-up's; must not block.
pub type OnResolved = Box<dyn FnOnce(Result<Addresses, String>) + Send>;

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Fresh,
    /// What was known last is better than nothing; it is looked up anew meanwhile.
    Any,
}

pub type LookUp = dyn Fn(&str) -> Result<Vec<SocketAddr>, String> + Send + Sync;

#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    look_up: Box<LookUp>,
    state: Mutex<State>,
    refused: AtomicU64,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Name>,
    /// Names that wait for a thread.
    queue: VecDeque<String>,
    threads: usize,
}

#[derive(Default)]
struct Name {
    known: Option<(Instant, Addresses)>,
    /// Looked up, or waiting to be.
    under_way: bool,
    askers: Vec<OnResolved>,
}

fn system(address: &str) -> Result<Vec<SocketAddr>, String> {
    let found: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|e| format!("{address}: {e}"))?
        .collect();
    if found.is_empty() {
        Err(format!("{address}: no address"))
    } else {
        Ok(found)
    }
}

impl Names {
    pub fn new() -> Names {
        Names::with(Box::new(system))
    }

    /// With another look-up than the system's.
    pub fn with(look_up: Box<LookUp>) -> Names {
        Names(Arc::new(Inner {
            look_up,
            state: Mutex::default(),
            refused: AtomicU64::new(0),
        }))
    }

    /// Never waits. `address` is `host:port`; an address that needs no name service is answered at once.
    pub fn ask(&self, address: &str, age: Age, asker: OnResolved) {
        if let Ok(address) = address.parse::<SocketAddr>() {
            return asker(Ok(Arc::from([address])));
        }
        let mut state = self.0.state();
        if !state.names.contains_key(address) && state.names.len() >= NAMES_MAX {
            state.names.retain(|_, name| name.under_way || name.is_fresh());
        }
        if !state.names.contains_key(address) && state.names.len() >= NAMES_MAX {
            drop(state);
            return self.refuse(asker, "too many names wait to be resolved");
        }
        let name = state.names.entry(address.to_owned()).or_default();
        let enough = match age {
            Age::Fresh => name.is_fresh(),
            Age::Any => true,
        };
        let known = name
            .known
            .as_ref()
            .filter(|_| enough)
            .map(|(_, addresses)| Arc::clone(addresses));
        let starts = !name.under_way && !name.is_fresh();
        let mut at_once = None;
        match known {
            Some(addresses) => at_once = Some((asker, Ok(addresses))),
            None if name.askers.len() >= ASKERS_MAX => at_once = Some((asker, Err(()))),
            None => name.askers.push(asker),
        }
        name.under_way |= starts;
        if starts {
            state.queue.push_back(address.to_owned());
        }
        let thread = starts && state.threads < LOOKUPS_MAX;
        if thread {
            state.threads += 1;
        }
        drop(state);
        match at_once {
            Some((asker, Ok(addresses))) => asker(Ok(addresses)),
            Some((asker, Err(()))) => {
                self.refuse(asker, "too many sessions wait for this name to be resolved")
            }
            None => {}
        }
        if thread {
            self.start_thread();
        }
    }

    fn refuse(&self, asker: OnResolved, why: &str) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        asker(Err(why.to_owned()));
    }

    fn start_thread(&self) {
        let inner = Arc::clone(&self.0);
        let started = std::thread::Builder::new()
            .name("name".to_owned())
            .spawn(move || inner.work());
        if let Err(error) = started {
            self.0.state().threads -= 1;
            // Others take over what is queued; where there is none, nobody may be left waiting.
            if self.0.state().threads == 0 {
                self.0.give_up(&format!("no thread for a look-up: {error}"));
            }
        }
    }

    /// How many askers were turned away.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Name {
    fn is_fresh(&self) -> bool {
        self.known.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One name after another, until none waits.
    fn work(&self) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.queue.pop_front();
                if next.is_none() {
                    state.threads -= 1;
                }
                next
            };
            let Some(address) = next else { return };
            let found = (self.look_up)(&address).map(Addresses::from);
            self.answer(&address, &found);
        }
    }

    fn answer(&self, address: &str, found: &Result<Addresses, String>) {
        let askers = {
            let mut state = self.state();
            let Some(name) = state.names.get_mut(address) else {
                return;
            };
            name.under_way = false;
            if let Ok(addresses) = found {
                name.known = Some((Instant::now(), Arc::clone(addresses)));
            }
            let askers = std::mem::take(&mut name.askers);
            if name.known.is_none() {
                state.names.remove(address);
            }
            askers
        };
        for asker in askers {
            asker(found.clone());
        }
    }

    fn give_up(&self, why: &str) {
        loop {
            let Some(address) = self.state().queue.pop_front() else {
                return;
            };
            self.answer(&address, &Err(why.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A name service that answers `slow…` only when it is let.
    #[derive(Default)]
    struct Service {
        open: Mutex<bool>,
        opened: Condvar,
        asked: AtomicUsize,
    }

    impl Service {
        fn names(self: &Arc<Self>) -> Names {
            let service = Arc::clone(self);
            Names::with(Box::new(move |address| {
                service.asked.fetch_add(1, Ordering::SeqCst);
                if address.starts_with("slow") {
                    let open = service.open.lock().unwrap();
                    drop(service.opened.wait_while(open, |open| !*open).unwrap());
                }
                if address.starts_with("missing") {
                    return Err(format!("{address}: unknown"));
                }
                Ok(vec![([192, 0, 2, 1], 5432).into(), ([192, 0, 2, 2], 5432).into()])
            }))
        }

        fn let_it(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    fn ask(names: &Names, address: &str, age: Age) -> Receiver<Result<Addresses, String>> {
        let (sender, receiver) = channel();
        names.ask(address, age, Box::new(move |answer| drop(sender.send(answer))));
        receiver
    }

    fn answer(asked: &Receiver<Result<Addresses, String>>) -> Result<Addresses, String> {
        asked.recv_timeout(PATIENCE).expect("an answer")
    }

    #[test]
    fn sixty_slow_names_do_not_keep_a_quick_one_waiting() {
        let service = Arc::new(Service::default());
        let names = service.names();
        let slow: Vec<_> = (0..60)
            .map(|n| ask(&names, &format!("slow-{n}:5432"), Age::Fresh))
            .collect();
        // Each of them many times: whoever asks joins the look-up that is under way.
        let again: Vec<_> = (0..60)
            .flat_map(|n| (0..20).map(move |_| n))
            .map(|n| ask(&names, &format!("slow-{n}:5432"), Age::Fresh))
            .collect();
        assert_eq!(answer(&ask(&names, "quick:5432", Age::Fresh)).unwrap().len(), 2);
        assert!(
            slow.iter().chain(&again).all(|asked| asked.try_recv().is_err()),
            "the quick one came first"
        );
        service.let_it();
        assert!(slow.iter().chain(&again).all(|asked| answer(asked).is_ok()));
        assert_eq!(service.asked.load(Ordering::SeqCst), 61, "one look-up a name");
    }

    #[test]
    fn more_names_than_threads_wait_for_their_turn_and_all_are_answered() {
        let service = Arc::new(Service::default());
        let names = service.names();
        let all: Vec<_> = (0..LOOKUPS_MAX * 3)
            .map(|n| ask(&names, &format!("slow-{n}:5432"), Age::Fresh))
            .collect();
        assert_eq!(names.0.state().threads, LOOKUPS_MAX);
        service.let_it();
        assert!(all.iter().all(|asked| answer(asked).is_ok()));
    }

    #[test]
    fn a_crowd_at_one_name_is_bounded_and_takes_no_room_from_another() {
        let service = Arc::new(Service::default());
        let names = service.names();
        let crowd: Vec<_> = (0..ASKERS_MAX)
            .map(|_| ask(&names, "slow:5432", Age::Fresh))
            .collect();
        let refused = answer(&ask(&names, "slow:5432", Age::Fresh)).unwrap_err();
        assert!(
            refused.starts_with("too many sessions wait for this name"),
            "{refused}"
        );
        assert_eq!(names.refused(), 1);
        assert!(answer(&ask(&names, "quick:5432", Age::Fresh)).is_ok());
        service.let_it();
        assert!(crowd.iter().all(|asked| answer(asked).is_ok()));
    }

    #[test]
    fn too_many_names_are_told_so_and_known_ones_that_are_old_make_room() {
        let service = Arc::new(Service::default());
        let names = service.names();
        let all: Vec<_> = (0..NAMES_MAX)
            .map(|n| ask(&names, &format!("slow-{n}:5432"), Age::Fresh))
            .collect();
        assert_eq!(
            answer(&ask(&names, "quick:5432", Age::Fresh)).unwrap_err(),
            "too many names wait to be resolved"
        );
        service.let_it();
        assert!(all.iter().all(|asked| answer(asked).is_ok()));
        // As if FRESH had passed.
        for name in names.0.state().names.values_mut() {
            name.known.as_mut().unwrap().0 = Instant::now()
                .checked_sub(FRESH)
                .expect("the machine runs that long");
        }
        assert!(answer(&ask(&names, "quick:5432", Age::Fresh)).is_ok());
    }

    #[test]
    fn an_answer_is_kept_a_while_an_old_one_serves_who_takes_it_and_an_error_is_not_kept() {
        let service = Arc::new(Service::default());
        let names = service.names();
        for _ in 0..5 {
            assert!(answer(&ask(&names, "db:5432", Age::Fresh)).is_ok());
        }
        assert_eq!(service.asked.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            assert!(answer(&ask(&names, "missing:5432", Age::Fresh)).is_err());
        }
        assert_eq!(service.asked.load(Ordering::SeqCst), 3);
        assert_eq!(names.0.state().names.len(), 1);

        service.let_it();
        assert!(answer(&ask(&names, "slow:5432", Age::Fresh)).is_ok());
        *service.open.lock().unwrap() = false;
        names
            .0
            .state()
            .names
            .get_mut("slow:5432")
            .unwrap()
            .known
            .as_mut()
            .unwrap()
            .0 = Instant::now()
            .checked_sub(FRESH)
            .expect("the machine runs that long");
        // The service has become slow: a probe goes on with what is known, a sign-in waits for the new answer.
        let sign_in = ask(&names, "slow:5432", Age::Fresh);
        assert!(answer(&ask(&names, "slow:5432", Age::Any)).is_ok());
        assert!(sign_in.try_recv().is_err());
        service.let_it();
        assert!(answer(&sign_in).is_ok());
    }

    #[test]
    fn an_address_needs_no_name_service() {
        let service = Arc::new(Service::default());
        let names = service.names();
        assert_eq!(
            *answer(&ask(&names, "[2001:db8::5]:5432", Age::Fresh)).unwrap(),
            ["[2001:db8::5]:5432".parse().unwrap()]
        );
        assert_eq!(service.asked.load(Ordering::SeqCst), 0);
    }
}
