//! The connection itself: connect, Hello, Welcome, then messages both ways until it breaks; wait, and again.
//!
//! One task on the executor. Reading, writing and the clock are three futures of it that share [`Line`]; the first that ends
//! ends the connection. Bounds: the read buffer holds one message (`MESSAGE_BYTES_MAX`) and one chunk; a write batch is about
//! [`BATCH_BYTES`]; a write that does not move for [`SILENCE_MAX`] breaks the link.

use crate::error::Broken;
use crate::memory::{Memory, Outgoing};
use crate::outbox::Inlet;
use crate::{SIGN_IN_WAIT_MAX, Shared};
use futures_lite::future;
use futures_lite::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use glommio::net::UnixStream;
use glommio::timer::sleep;
use headgate_plane::envelope::{decode, encode};
use headgate_plane::{LINK_VERSION, ToControl, ToData};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Another release does not go away in a second.
const WAIT_VERSION: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = SIGN_IN_WAIT_MAX;
const CLOCK: Duration = Duration::from_millis(250);
/// How many clocks a stop leaves the writer.
const STOP_CLOCKS: u32 = 4;
/// While there is no Welcome yet, the outbox is looked at so often.
const AWAY_CLOCK: Duration = Duration::from_millis(25);
const CHUNK_BYTES: usize = 64 << 10;
const BATCH_BYTES: usize = 64 << 10;

pub(crate) struct Identity {
    pub socket: PathBuf,
    pub appliance: String,
    pub boot: u128,
}

/// What a loop returns that only ends with an error.
enum Never {}

struct Line {
    identity: Identity,
    shared: Arc<Shared>,
    inlet: Inlet,
    started: Instant,
    memory: RefCell<Memory>,
    /// Taken from the outbox, not yet written.
    ready: RefCell<VecDeque<ToControl>>,
    /// Rings the writer for what `ready` got from elsewhere than the outbox.
    bell: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

/// Keeps the link until the handle stops it.
pub(crate) async fn keep(identity: Identity, shared: Arc<Shared>, inlet: Inlet) {
    let line = Line {
        identity,
        shared,
        inlet,
        started: Instant::now(),
        memory: RefCell::default(),
        ready: RefCell::default(),
        bell: async_channel::bounded(1),
    };
    let mut wait = WAIT_MIN;
    loop {
        let broken = line.connection().await;
        let was_welcomed = line.shared.connected.swap(false, Ordering::AcqRel);
        let unwritten: Vec<_> = line.ready.borrow_mut().drain(..).collect();
        let refusals = line.memory.borrow_mut().broke(unwritten.into_iter());
        line.deliver_all(refusals);
        line.take_in();
        match &broken {
            Broken::Stopping => return,
            Broken::Version { .. } => {
                tracing::error!(reason = %broken, "no link to the control plane");
                wait = WAIT_VERSION;
            }
            _ if was_welcomed => {
                tracing::warn!(reason = %broken, "the link to the control plane broke");
                wait = WAIT_MIN;
            }
            _ => {
                tracing::debug!(reason = %broken, wait_ms = wait.as_millis(), "no link to the control plane")
            }
        }
        if line.wait_away(wait).await {
            return;
        }
        wait = (wait * 2).min(WAIT_MAX);
    }
}

impl Line {
    async fn connection(&self) -> Broken {
        let connect = async {
            UnixStream::connect(&self.identity.socket)
                .await
                .map_err(|e| Broken::Connect(e.to_string()))
        };
        let stream = match self.unless_stopped(within(SILENCE_MAX, connect)).await {
            Ok(stream) => stream,
            Err(broken) => return broken,
        };
        let (mut reader, mut writer) = split(stream);
        let mut bytes = Vec::new();
        if let Err(broken) = self
            .unless_stopped(within(
                SILENCE_MAX,
                self.greet(&mut reader, &mut writer, &mut bytes),
            ))
            .await
        {
            return broken;
        }
        self.shared.connected.store(true, Ordering::Release);
        tracing::info!("the link to the control plane is up");
        let clock = async {
            let mut left = STOP_CLOCKS;
            loop {
                sleep(CLOCK).await;
                self.pass_time();
                if self.is_stopping() {
                    // The writer ends by itself once it has written the rest; a stuck one is not waited for.
                    left -= 1;
                    if left == 0 {
                        return Err(Broken::Stopping);
                    }
                }
            }
        };
        let io = future::or(self.read(&mut reader, bytes), self.write(&mut writer));
        match future::or(io, clock).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    /// Hello out, Welcome in; then all that is to be said again goes first.
    async fn greet(
        &self,
        reader: &mut ReadHalf<UnixStream>,
        writer: &mut WriteHalf<UnixStream>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let hello = ToControl::Hello {
            version: LINK_VERSION,
            appliance: self.identity.appliance.clone(),
            boot: self.identity.boot,
            epoch: self.memory.borrow().epoch(),
        };
        let mut out = Vec::new();
        encode(&hello, &mut out).map_err(Broken::Envelope)?;
        writer
            .write_all(&out)
            .await
            .map_err(|e| Broken::Write(e.to_string()))?;
        loop {
            self.take_in();
            if let Some(message) = next_message(bytes)? {
                let ToData::Welcome { version } = message else {
                    return Err(Broken::Version { theirs: 0 });
                };
                if version != LINK_VERSION {
                    return Err(Broken::Version { theirs: version });
                }
                break;
            }
            read_chunk(reader, bytes).await?;
        }
        let again = self.memory.borrow_mut().welcome();
        self.ready.borrow_mut().extend(again);
        let _ = self.bell.0.try_send(());
        Ok(())
    }

    async fn read(&self, reader: &mut ReadHalf<UnixStream>, mut bytes: Vec<u8>) -> Result<Never, Broken> {
        loop {
            while let Some(message) = next_message(&mut bytes)? {
                let passes = self.memory.borrow_mut().incoming(&message);
                if passes {
                    (self.shared.deliver)(message);
                }
            }
            read_chunk(reader, &mut bytes).await?;
        }
    }

    async fn write(&self, writer: &mut WriteHalf<UnixStream>) -> Result<Never, Broken> {
        let mut out = Vec::new();
        loop {
            self.take_in();
            out.clear();
            while out.len() < BATCH_BYTES {
                let Some(message) = self.ready.borrow_mut().pop_front() else {
                    break;
                };
                if let Err(e) = encode(&message, &mut out) {
                    tracing::error!(error = %e, "a message to the control plane cannot be sent");
                    let refusal = self.memory.borrow_mut().unsendable(&message);
                    self.deliver_all(refusal);
                }
            }
            if out.is_empty() {
                if self.is_stopping() {
                    return Err(Broken::Stopping);
                }
                let other = async {
                    let _ = self.bell.1.recv().await;
                };
                future::or(self.inlet.ring(), other).await;
                continue;
            }
            let written = async {
                writer
                    .write_all(&out)
                    .await
                    .map_err(|e| Broken::Write(e.to_string()))?;
                writer.flush().await.map_err(|e| Broken::Write(e.to_string()))
            };
            within(SILENCE_MAX, written).await?;
            if out.capacity() > 16 * BATCH_BYTES {
                out = Vec::new();
            }
        }
    }

    /// Takes what the shards handed over.
    fn take_in(&self) {
        let now = self.started.elapsed();
        for message in self.inlet.take() {
            let outgoing = self.memory.borrow_mut().outgoing(message, now);
            match outgoing {
                Outgoing::Write(message) => self.ready.borrow_mut().push_back(message),
                Outgoing::Deliver(message) => (self.shared.deliver)(message),
                Outgoing::Kept => {}
            }
        }
    }

    fn pass_time(&self) {
        // Also while the writer is stuck: a sign-in's time runs from here.
        self.take_in();
        if !self.ready.borrow().is_empty() {
            let _ = self.bell.0.try_send(());
        }
        let overdue = self.memory.borrow_mut().overdue(self.started.elapsed());
        self.deliver_all(overdue);
    }

    fn deliver_all(&self, messages: impl IntoIterator<Item = ToData>) {
        for message in messages {
            (self.shared.deliver)(message);
        }
    }

    /// Waits for the next attempt; answers sign-ins meanwhile. `true`: stop.
    async fn wait_away(&self, wait: Duration) -> bool {
        let until = self.started.elapsed() + wait;
        loop {
            self.take_in();
            if self.is_stopping() {
                return true;
            }
            let rest = until.saturating_sub(self.started.elapsed());
            if rest.is_zero() {
                return false;
            }
            future::or(self.inlet.ring(), async { sleep(rest).await }).await;
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// Connects or greets, and meanwhile answers sign-ins and looks whether the handle wants to stop.
    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
        let watch = async {
            loop {
                sleep(AWAY_CLOCK).await;
                if self.is_stopping() {
                    return Err(Broken::Stopping);
                }
                self.take_in();
            }
        };
        future::or(work, watch).await
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    let late = async {
        sleep(limit).await;
        Err(Broken::Silent)
    };
    future::or(work, late).await
}

async fn read_chunk(reader: &mut ReadHalf<UnixStream>, bytes: &mut Vec<u8>) -> Result<(), Broken> {
    let len = bytes.len();
    bytes.resize(len + CHUNK_BYTES, 0);
    let count = reader
        .read(bytes.get_mut(len..).unwrap_or_default())
        .await
        .map_err(|e| Broken::Read(e.to_string()))?;
    bytes.truncate(len + count);
    if count == 0 { Err(Broken::Ended) } else { Ok(()) }
}

fn next_message(bytes: &mut Vec<u8>) -> Result<Option<ToData>, Broken> {
    let Some((message, used)) = decode::<ToData>(bytes).map_err(Broken::Envelope)? else {
        return Ok(None);
    };
    bytes.drain(..used);
    if bytes.is_empty() && bytes.capacity() > 16 * CHUNK_BYTES {
        *bytes = Vec::new();
    }
    Ok(Some(message))
}
