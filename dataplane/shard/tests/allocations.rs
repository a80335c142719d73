//! A statement in steady state allocates nothing on the shard's thread: ring, shard and gate together, over real sockets.

mod world;

use headgate_ring::{ListenSettings, Ring, RingSettings};
use headgate_shard::{Inbox, Message};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use world::{POINT, hello, parts, query, talk, target};

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}
static COUNT: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn count() {
    if IS_SHARD.with(Cell::get) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local flag and an atomic only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_statement_allocates_nothing_between_its_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = ListenSettings {
        address: "127.0.0.1:0".parse().unwrap(),
        backlog: 16,
    };
    let ring = Ring::new(RingSettings {
        listeners: vec![config],
        ..RingSettings::default()
    })
    .unwrap();
    let gate = ring.local_addresses()[0];
    let inbox = Inbox::new();
    inbox.connect(ring.wake_fd());
    let theirs = inbox.clone();
    let shard = std::thread::spawn(move || {
        let mut parts = parts(address, theirs);
        IS_SHARD.with(|is| is.set(true));
        let ended = ring.run(&mut parts.shard);
        IS_SHARD.with(|is| is.set(false));
        ended
    });
    let target = std::thread::spawn(move || target(&listener));
    let mut client = TcpStream::connect(gate).unwrap();
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    client.set_nodelay(true).unwrap();
    talk(&mut client, &hello());
    let statement = query(POINT);
    (0..200).for_each(|_| talk(&mut client, &statement));
    assert!(
        COUNT.load(Ordering::Relaxed) > 0,
        "signing in allocates, and the counter sees it"
    );
    // A buffer that the kernel still holds when the next is needed is replaced once: what is claimed is that statements in steady
    // state need none, so one round of several without any shows it, and a statement that allocates shows in all.
    let mut round = || {
        let before = COUNT.load(Ordering::Relaxed);
        (0..1000).for_each(|_| talk(&mut client, &statement));
        COUNT.load(Ordering::Relaxed) - before
    };
    let rounds: Vec<u64> = std::iter::repeat_with(&mut round).take(5).collect();
    assert!(rounds.contains(&0), "in 1000 statements each: {rounds:?}");
    drop(client);
    inbox.send(Message::Stop);
    shard.join().unwrap().unwrap();
    target.join().unwrap();
}
