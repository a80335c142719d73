//! The message header of a gathered send: the first buffers of a socket's queue as one `sendmsg`.
//!
//! Invariant: while a send is in flight, the gather is owned by its slot and the buffers it points at stay, unchanged, at the
//! front of that slot's queue (the queue may grow: that moves the `Vec` headers, never their bytes).

use crate::queue::Queue;

pub(crate) const GATHER_MAX: usize = 32;

pub(crate) struct Gather {
    parts: [libc::iovec; GATHER_MAX],
    message: libc::msghdr,
}

// SAFETY: the pointers are only ever followed by the kernel, on behalf of the thread that runs the ring.
unsafe impl Send for Gather {}

impl Gather {
    pub(crate) fn new() -> Box<Self> {
        let empty = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: a msghdr of zeros is a message of nothing.
        let message = unsafe { std::mem::zeroed() };
        Box::new(Gather {
            parts: [empty; GATHER_MAX],
            message,
        })
    }

    /// Points at the queue's first buffers, leaving out the `skip` bytes of the first that are already sent.
    pub(crate) fn point_at(&mut self, queue: &Queue, skip: usize) -> *const libc::msghdr {
        let mut count = 0;
        for (part, buffer) in self.parts.iter_mut().zip(queue.iter()) {
            let rest = if count == 0 { &buffer[skip..] } else { &buffer[..] };
            *part = libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            };
            count += 1;
        }
        self.message.msg_iov = self.parts.as_mut_ptr();
        self.message.msg_iovlen = count;
        &self.message
    }
}
