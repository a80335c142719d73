//! The pool: one thread for each worker process; texts wait in a [`Queue`] in which each owner has its turn.
//!
//! Invariant: `done` is called exactly once for each submitted text, whatever becomes of the workers and of the pool.
//! Invariant: `submit` never waits.

use crate::frame::{
    ANSWER_BYTES_MAX, Analysis, DECODE_STACK_BYTES, Language, decode_answer, encode_request, write_frame,
};
use crate::queue::{Queue, QueueBounds};
use headgate_sql::{Caps, Facts, Unreadable};
use headgate_wire::frame;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After so many answers a worker is replaced, so that nothing it was made to keep stays for long.
const ANSWERS_PER_WORKER: u32 = 20_000;

/// A text of this length counts as so many answers: what the parser took for it is not all given back.
const TEXT_BYTES_LARGE: usize = 256 << 10;
const ANSWERS_PER_LARGE_TEXT: u32 = ANSWERS_PER_WORKER / 16;

/// Time besides `answer_ms_max`, for texts that are long: the costliest of 4 MiB takes 0.9 s of CPU (`examples/cost.rs` of
/// `protocols/sqlparse`), and a core may be shared.
const BYTES_PER_EXTRA_MS: usize = 1 << 10;

/// Called once with what is known of the text. Runs on a thread of the pool, or on that of a caller when the queue is full;
/// must not block.
pub type Done = Box<dyn FnOnce(Result<Facts, Unreadable>) + Send>;

#[derive(Clone, Debug)]
pub struct PoolSettings {
    pub workers: usize,
    /// The `headgate-analyst` binary.
    pub program: PathBuf,
    pub args: Vec<String>,
    /// How long a worker may take for a short text, and how long a text may wait for a worker. A long text has a millisecond
    /// more for each KiB.
    pub answer_ms_max: u64,
    /// How many texts may wait.
    pub queue_max: usize,
    /// How many of them may be one owner's.
    pub queue_per_owner_max: usize,
    pub caps: Caps,
}

/// Bytes of texts that wait, in sum; each worker has one more.
const WAITING_BYTES_MAX: usize = 64 << 20;

struct Job {
    language: Language,
    text: Vec<u8>,
    submitted: Instant,
    done: Option<Done>,
}

impl Job {
    fn finish(mut self, answer: Analysis) {
        self.tell(answer);
    }

    /// A caller's panic stays the caller's: the pool's thread goes on.
    fn tell(&mut self, answer: Analysis) {
        if let Some(done) = self.done.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| done(answer)));
        }
    }
}

/// A job dropped on any path (a full queue, a pool that ends, a thread that panics) still answers.
impl Drop for Job {
    fn drop(&mut self) {
        self.tell(Err(Unreadable::AnalystLost));
    }
}

pub struct AnalystPool {
    waiting: Arc<Waiting>,
    threads: Vec<JoinHandle<()>>,
    pids: Arc<Vec<AtomicU32>>,
    refused: AtomicU64,
}

/// The queue, with a bell for the threads that find it empty.
struct Waiting {
    queue: Mutex<Queue<Job>>,
    bell: Condvar,
}

impl Waiting {
    fn queue(&self) -> MutexGuard<'_, Queue<Job>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: the pool ends, and nothing waits any more.
    fn next(&self) -> Option<Job> {
        let queue = self
            .bell
            .wait_while(self.queue(), |queue| queue.is_empty() && !queue.is_closed());
        queue.unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl AnalystPool {
    /// Starts the workers. An error: no process, thread or socket could be made.
    pub fn start(config: PoolSettings) -> io::Result<AnalystPool> {
        let (waiting_max, per_owner_max) = (config.queue_max.max(1), config.queue_per_owner_max.max(1));
        let queue = Queue::new(QueueBounds {
            waiting_max,
            per_owner_max,
            bytes_max: WAITING_BYTES_MAX,
        });
        let waiting = Arc::new(Waiting {
            queue: Mutex::new(queue),
            bell: Condvar::new(),
        });
        let workers = config.workers.max(1);
        let pids: Arc<Vec<AtomicU32>> = Arc::new((0..workers).map(|_| AtomicU32::new(0)).collect());
        let config = Arc::new(config);
        let mut pool = AnalystPool {
            waiting,
            threads: Vec::with_capacity(workers),
            pids,
            refused: AtomicU64::new(0),
        };
        for at in 0..workers {
            let mut slot = Slot {
                at,
                config: Arc::clone(&config),
                pids: Arc::clone(&pool.pids),
                worker: None,
                buffer: Vec::new(),
            };
            slot.spawn()?;
            let waiting = Arc::clone(&pool.waiting);
            let thread = std::thread::Builder::new()
                .name(format!("analyst-{at}"))
                .stack_size(DECODE_STACK_BYTES)
                .spawn(move || slot.serve(&waiting))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Hands a text to the next free worker, when its owner's turn comes. Never waits: where too many of this owner wait
    /// already, or too many or too long ones in all and nobody has more than this owner, `done` is called at once with
    /// `AnalystLost`.
    pub fn submit(&self, owner: u64, language: Language, text: Vec<u8>, done: Done) {
        let bytes = text.len();
        let job = Job {
            language,
            text,
            submitted: Instant::now(),
            done: Some(done),
        };
        let turned_away = self.waiting.queue().put(owner, bytes, job);
        self.waiting.bell.notify_one();
        // Answered after the lock is given back: what it calls is the caller's.
        for job in turned_away {
            self.refused.fetch_add(1, Ordering::Relaxed);
            job.finish(Err(Unreadable::AnalystLost));
        }
    }

    /// How many texts were turned away because too many waited.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many texts wait for a worker now.
    pub fn waiting(&self) -> usize {
        self.waiting.queue().len()
    }

    /// The process of each worker; 0 while it has none.
    pub fn worker_pids(&self) -> Vec<u32> {
        self.pids.iter().map(|pid| pid.load(Ordering::Relaxed)).collect()
    }
}

/// Waits for the texts in the queue, each in its own bounded time.
impl Drop for AnalystPool {
    fn drop(&mut self) {
        self.waiting.queue().close();
        self.waiting.bell.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has answered its job on the way.
            let _ = thread.join();
        }
    }
}

struct Worker {
    child: Child,
    socket: UnixStream,
    answers: u32,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One thread's place for a worker.
struct Slot {
    at: usize,
    config: Arc<PoolSettings>,
    pids: Arc<Vec<AtomicU32>>,
    worker: Option<Worker>,
    buffer: Vec<u8>,
}

impl Slot {
    fn serve(mut self, waiting: &Waiting) {
        while let Some(job) = waiting.next() {
            let patience = self.patience(job.text.len());
            if job.submitted.elapsed() > Duration::from_millis(self.config.answer_ms_max) {
                job.finish(Err(Unreadable::AnalystLost));
                continue;
            }
            // The same check runs in the worker; here it keeps what is refused anyway off the socket.
            let answer = match job.language.precheck(&job.text, &self.config.caps) {
                Ok(()) => self.ask(job.language, &job.text, Instant::now() + patience),
                Err(unreadable) => Err(unreadable),
            };
            job.finish(answer);
            // After the answer, so that nobody waits for it.
            if self
                .worker
                .as_ref()
                .is_none_or(|worker| worker.answers >= ANSWERS_PER_WORKER)
            {
                let _ = self.spawn();
            }
        }
    }

    fn patience(&self, bytes: usize) -> Duration {
        let extra = u64::try_from(bytes / BYTES_PER_EXTRA_MS).unwrap_or(u64::MAX);
        Duration::from_millis(self.config.answer_ms_max.saturating_add(extra))
    }

    fn ask(&mut self, language: Language, text: &[u8], deadline: Instant) -> Analysis {
        if self.worker.is_none() && self.spawn().is_err() {
            return Err(Unreadable::AnalystLost);
        }
        let answer = encode_request(language, text, &self.config.caps).and_then(|frame| {
            let worker = self.worker.as_mut()?;
            exchange(&mut worker.socket, &frame, &mut self.buffer, deadline).ok()?;
            worker.answers += if text.len() < TEXT_BYTES_LARGE {
                1
            } else {
                ANSWERS_PER_LARGE_TEXT
            };
            decode_answer(&self.buffer)
        });
        answer.unwrap_or_else(|| {
            self.lose();
            Err(Unreadable::AnalystLost)
        })
    }

    fn lose(&mut self) {
        self.worker = None;
        if let Some(pid) = self.pids.get(self.at) {
            pid.store(0, Ordering::Relaxed);
        }
    }

    fn spawn(&mut self) -> io::Result<()> {
        self.lose();
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(&self.config.program)
            .args(&self.config.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(pid) = self.pids.get(self.at) {
            pid.store(child.id(), Ordering::Relaxed);
        }
        self.worker = Some(Worker {
            child,
            socket: ours,
            answers: 0,
        });
        Ok(())
    }
}

/// Sends a frame and reads one into `buffer`, all before `deadline`, however slowly the worker drips.
fn exchange(
    socket: &mut UnixStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
    deadline: Instant,
) -> io::Result<()> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::Error::from(io::ErrorKind::TimedOut))
        } else {
            Ok(left)
        }
    };
    socket.set_write_timeout(Some(left()?))?;
    write_frame(socket, request)?;
    let fill = |socket: &mut UnixStream, mut into: &mut [u8]| {
        while !into.is_empty() {
            socket.set_read_timeout(Some(left()?))?;
            match socket.read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => into = into.get_mut(got..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let mut head = [0; frame::HEAD_BYTES];
    fill(socket, &mut head)?;
    let length = frame::body_bytes(head, ANSWER_BYTES_MAX)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    buffer.clear();
    buffer.resize(length, 0);
    fill(socket, buffer)
}
