//! Signing in, at both ends: [`client`] plays the server towards a client, [`target`] the client towards the target.
//!
//! Both are states that are consumed. Bytes and a `Vec<u8>` for the answer go in; how much was used and at most one event come
//! out. While something was used and there is no event, call again; used 0 and no event means: more bytes are needed.
//! Deadlines are the caller's, who has the clock.

pub mod client;
pub mod target;
