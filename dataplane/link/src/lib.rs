//! The data plane's housekeeping side: one glommio executor beside the shards. It holds the Unix-socket link to the control
//! plane, runs periodic closures and what else stands beside the packet path; nothing of it is on that path.
//!
//! Shards hand over messages without blocking ([`LinkHandle::send`]) and are answered through `deliver`, on this executor's
//! thread. The link comes back by itself; what it owes over a break is in `memory.rs`. A sign-in is always answered: by the
//! control plane, or with `Unavailable` when the link is away, breaks, or is silent for [`SIGN_IN_WAIT_MAX`].
//! Bounds: `outbox.rs` and `memory.rs` say theirs; a message is at most `MESSAGE_BYTES_MAX`.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]

mod error;
mod line;
mod memory;
mod outbox;

pub use error::LinkError;

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use headgate_plane::{ToControl, ToData};
use outbox::Outbox;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A sign-in that nobody answered for so long is refused as `Unavailable`.
pub const SIGN_IN_WAIT_MAX: Duration = Duration::from_secs(10);

/// A question whose client does not wait has its number so long after it was sent, or is given up.
pub const ASK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Called on the executor's thread; must not block.
pub type Deliver = Arc<dyn Fn(ToData) + Send + Sync>;
/// How often, and what. Called on the executor's thread; must not block for longer than a few milliseconds.
pub type Periodic = (Duration, Box<dyn FnMut() + Send>);

/// Makes a task of this executor, on its thread. It may spawn others into its own queue (`glommio::spawn_local`), must not
/// block, and ends with the executor.
pub type Beside = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

pub struct LinkSettings {
    pub socket: PathBuf,
    /// The appliance's name, as Hello says it.
    pub appliance: String,
    /// Random, new with each start of the data plane.
    pub boot: u128,
    /// Pins the executor's thread to a core.
    pub pin: Option<usize>,
    pub periodic: Vec<Periodic>,
    /// Cancels, health of targets.
    pub beside: Vec<Beside>,
}

pub(crate) struct Shared {
    pub outbox: Outbox,
    pub connected: AtomicBool,
    pub stopping: AtomicBool,
    pub deliver: Deliver,
}

pub struct Link;

impl Link {
    /// Starts the executor's thread. Returns when it runs; whether the control plane is there is another question.
    pub fn start(config: LinkSettings, deliver: Deliver) -> Result<LinkHandle, LinkError> {
        let (outbox, inlet) = Outbox::new();
        let shared = Arc::new(Shared {
            outbox,
            connected: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            deliver,
        });
        let placement = config.pin.map_or(Placement::Unbound, Placement::Fixed);
        let (started, is_started) = mpsc::channel::<()>();
        let theirs = shared.clone();
        let thread = LocalExecutorBuilder::new(placement)
            .name("link")
            // Foreign wakes and timers of a busy executor wait for this: its default would be 100 ms.
            .preempt_timer(Duration::from_millis(1))
            .ring_depth(64)
            .io_memory(64 << 10)
            .spawn(move || async move {
                let _ = started.send(());
                run(config, theirs, inlet).await;
            })
            .map_err(|e| LinkError::Executor {
                detail: e.to_string(),
            })?;
        // glommio starts its rings on the new thread and tells of a failure (a low RLIMIT_MEMLOCK) only at the join: then
        // `started` is dropped unsent.
        if is_started.recv().is_err() {
            let detail = match thread.join() {
                Ok(()) => "it ended before it began".to_owned(),
                Err(e) => e.to_string(),
            };
            return Err(LinkError::Executor { detail });
        }
        Ok(LinkHandle {
            shared,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }
}

async fn run(config: LinkSettings, shared: Arc<Shared>, inlet: outbox::Inlet) {
    let queue =
        |shares, latency, name| glommio::executor().create_task_queue(Shares::Static(shares), latency, name);
    let line_queue = queue(800, Latency::Matters(Duration::from_millis(1)), "link");
    let periodic_queue = queue(200, Latency::NotImportant, "periodic");
    for (every, mut closure) in config.periodic {
        let task = glommio::spawn_local_into(
            async move {
                loop {
                    glommio::timer::sleep(every).await;
                    closure();
                }
            },
            periodic_queue,
        );
        match task {
            Ok(task) => drop(task.detach()),
            Err(e) => tracing::error!(error = %e, "a periodic task cannot run"),
        }
    }
    // A cancel is waited for by a person: it comes before what is periodic, and after the link.
    let beside_queue = queue(400, Latency::Matters(Duration::from_millis(2)), "beside");
    for make in config.beside {
        match glommio::spawn_local_into(async move { make().await }, beside_queue) {
            Ok(task) => drop(task.detach()),
            Err(e) => tracing::error!(error = %e, "a task beside the link cannot run"),
        }
    }
    let hello = line::Identity {
        socket: config.socket,
        appliance: config.appliance,
        boot: config.boot,
    };
    match glommio::spawn_local_into(line::keep(hello, shared, inlet), line_queue) {
        Ok(line) => line.await,
        Err(e) => tracing::error!(error = %e, "the link cannot run"),
    }
}

/// Cheap to clone; every shard has one.
#[derive(Clone)]
pub struct LinkHandle {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<glommio::ExecutorJoinHandle<()>>>>,
}

impl LinkHandle {
    /// Hands over a message; never blocks. After `stop` messages go nowhere, and sign-ins are refused.
    pub fn send(&self, message: ToControl) {
        if self.shared.stopping.load(Ordering::Acquire) {
            if let ToControl::SignIn(sign_in) = message {
                (self.shared.deliver)(memory::unavailable(sign_in.session, "the data plane is stopping"));
            }
            return;
        }
        if let Err(ToControl::SignIn(sign_in)) = self.shared.outbox.put(message) {
            (self.shared.deliver)(memory::unavailable(
                sign_in.session,
                "too many messages wait for the control plane",
            ));
        }
    }

    /// Whether the control plane has welcomed us on the present connection.
    pub fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Acquire)
    }

    /// Ends the link and its thread; waits for it. Pending sign-ins are refused.
    pub fn stop(&self) -> Result<(), LinkError> {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.outbox.wake();
        let thread = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take();
        match thread.map(|t| t.join()) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(e)) => Err(LinkError::Executor {
                detail: e.to_string(),
            }),
        }
    }
}
