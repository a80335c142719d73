//! The sockets of a core by slot and generation.
//!
//! Invariant: a slot is free only when nothing of it is in flight, its queue is empty and its descriptor is closed; its
//! generation grows when it is freed, so an old [`SocketId`] finds nothing. Bounds: slots are at most twice `sockets_max`.

use crate::gather::Gather;
use crate::queue::Queue;
use crate::seam::SocketId;
use socket2::{SockAddr, Socket};

/// More than this in a queue is bulk.
const BULK_SEND_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// Waits for the completion of its connect.
    Connecting,
    Open,
    /// `close` was called: the queue goes out, then FIN, then the peer's end or a bound.
    Closing,
    /// Waits for its last completion.
    Ending,
}

#[derive(Default)]
pub(crate) struct Recv {
    /// A multishot recv is in flight.
    pub armed: bool,
    /// Its cancel is in flight.
    pub cancelling: bool,
    /// It draws from the large buffers.
    pub large: bool,
    /// It should.
    pub wants_large: bool,
    /// Full small buffers, or poorly filled large ones, in a row.
    pub streak: u8,
}

/// What each small request touches comes first, in two cache lines: with thousands of sockets that take turns, lines that
/// are touched are what a request costs here.
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub generation: u32,
    pub state: State,
    pub dirty: bool,
    pub send_in_flight: bool,
    pub paused: bool,
    /// FIN was seen (and reported).
    pub finished: bool,
    /// Somebody waits for the queue to be empty.
    pub tell_sent: bool,
    pub recv: Recv,
    /// Operations whose last completion has not come.
    pub in_flight: u16,
    pub socket: Option<Socket>,
    /// The socket is beyond use; reported once through `ended`.
    pub broken: Option<i32>,
    /// A send failed and the recv in flight will say the same after its last bytes.
    pub send_failed: Option<i32>,
    pub queue_bytes: usize,
    /// Bytes of the queue's first buffer that are already with the kernel.
    pub front_sent: usize,
    pub queue: Queue,
    /// How many buffers of the queue the send in flight points at.
    pub send_buffers: usize,
    // From here on: what is rare.
    pub gather: Option<Box<Gather>>,
    pub accepted: bool,
    pub shut: bool,
    pub cancel_all: bool,
    pub timed_out: bool,
    /// A look at a paused socket is planned.
    pub look_planned: bool,
    /// `closed` is owed.
    pub report: bool,
    pub address: Option<Box<SockAddr>>,
    /// Bytes thrown away while closing.
    pub discarded: usize,
}

const _: () = assert!(std::mem::offset_of!(Slot, queue) <= 64 && std::mem::offset_of!(Slot, gather) <= 128);

impl Slot {
    pub(crate) fn wants_recv(&self) -> bool {
        !self.paused && !self.finished && self.broken.is_none()
    }

    fn new() -> Self {
        Slot {
            generation: 1,
            state: State::Free,
            accepted: false,
            paused: false,
            finished: false,
            broken: None,
            send_failed: None,
            dirty: false,
            send_in_flight: false,
            tell_sent: false,
            shut: false,
            cancel_all: false,
            timed_out: false,
            look_planned: false,
            report: false,
            in_flight: 0,
            recv: Recv::default(),
            socket: None,
            queue: Queue::default(),
            queue_bytes: 0,
            front_sent: 0,
            send_buffers: 0,
            gather: None,
            address: None,
            discarded: 0,
        }
    }
}

pub(crate) struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
    slots_max: usize,
    pub accepted: usize,
}

impl Slots {
    pub(crate) fn new(slots_max: usize) -> Self {
        // Reserved, not touched: pages come with use.
        Slots {
            all: Vec::with_capacity(slots_max),
            free: Vec::new(),
            slots_max,
            accepted: 0,
        }
    }

    pub(crate) fn insert(&mut self, socket: Socket, state: State, accepted: bool) -> Option<SocketId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.all.len() < self.slots_max => {
                self.all.push(Slot::new());
                u32::try_from(self.all.len() - 1).ok()?
            }
            None => return None,
        };
        let s = &mut self.all[slot as usize];
        s.state = state;
        s.socket = Some(socket);
        s.accepted = accepted;
        self.accepted += usize::from(accepted);
        Some(SocketId {
            slot,
            generation: s.generation,
        })
    }

    /// Closes the descriptor and makes the old id void. Returns whether `closed` is owed.
    pub(crate) fn release(&mut self, slot: u32) -> bool {
        let s = &mut self.all[slot as usize];
        assert!(
            s.in_flight == 0 && s.queue.is_empty(),
            "a slot is free only when nothing of it is in flight"
        );
        self.accepted -= usize::from(s.accepted);
        let report = s.report;
        let generation = s.generation.wrapping_add(1);
        let (queue, dirty) = (std::mem::take(&mut s.queue), s.dirty);
        *s = Slot {
            generation,
            queue,
            dirty,
            ..Slot::new()
        };
        s.queue.shrink();
        self.free.push(slot);
        report
    }

    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Slot> {
        self.all.get_mut(slot as usize).filter(|s| s.state != State::Free)
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&Slot> {
        self.all
            .get(id.slot as usize)
            .filter(|s| s.state != State::Free && s.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Slot> {
        self.at(id.slot).filter(|s| s.generation == id.generation)
    }

    /// A slot that was freed while it stood in the list of dirty ones has left it.
    pub(crate) fn forget_dirty(&mut self, slot: u32) {
        if let Some(s) = self.all.get_mut(slot as usize) {
            s.dirty = false;
        }
    }

    /// Whether a socket moves bulk, in either direction.
    pub(crate) fn is_bulk(&self, slot: u32) -> bool {
        self.all
            .get(slot as usize)
            .is_some_and(|s| s.recv.large || s.queue_bytes > BULK_SEND_BYTES)
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len() - self.free.len()
    }
}
