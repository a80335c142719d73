//! From the shards to the executor: a lock-free queue, and a wake that is sent once until the executor has looked.
//!
//! Bounds: beyond [`WAITING_MAX`] messages, sign-ins and metrics are turned away by `put`. The others are few by nature (each
//! belongs to an open session or question) and never turned away.

use crossbeam::queue::SegQueue;
use headgate_plane::ToControl;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const WAITING_MAX: usize = 64 << 10;

pub(crate) struct Outbox {
    queue: Arc<SegQueue<ToControl>>,
    /// A wake is on its way, or was and the executor has not looked yet.
    woken: Arc<AtomicBool>,
    bell: async_channel::Sender<()>,
}

/// The executor's end.
pub(crate) struct Inlet {
    queue: Arc<SegQueue<ToControl>>,
    woken: Arc<AtomicBool>,
    bell: async_channel::Receiver<()>,
}

impl Outbox {
    pub(crate) fn new() -> (Outbox, Inlet) {
        let queue = Arc::new(SegQueue::new());
        let woken = Arc::new(AtomicBool::new(false));
        let (bell, ear) = async_channel::bounded(1);
        (
            Outbox {
                queue: queue.clone(),
                woken: woken.clone(),
                bell,
            },
            Inlet {
                queue,
                woken,
                bell: ear,
            },
        )
    }

    #[allow(clippy::result_large_err)]
    pub(crate) fn put(&self, message: ToControl) -> Result<(), ToControl> {
        let may_wait = !matches!(message, ToControl::SignIn(_) | ToControl::Metrics { .. });
        if !may_wait && self.queue.len() >= WAITING_MAX {
            return Err(message);
        }
        self.queue.push(message);
        self.wake();
        Ok(())
    }

    pub(crate) fn wake(&self) {
        // Pushed before the swap, and the inlet clears before it pops: no message is left behind without a wake.
        if !self.woken.swap(true, Ordering::SeqCst) {
            // Full means that it rings already.
            let _ = self.bell.try_send(());
        }
    }
}

impl Inlet {
    pub(crate) async fn ring(&self) {
        // An error means that all shards are gone; then nothing will ring again, and timers go on.
        if self.bell.recv().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn take(&self) -> impl Iterator<Item = ToControl> + '_ {
        self.woken.store(false, Ordering::SeqCst);
        std::iter::from_fn(|| self.queue.pop())
    }
}
