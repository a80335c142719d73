//! A tiny protocol that nobody uses: the proof that a protocol is a folder beside what all share.
//!
//! ```text
//! client                               target
//! hello USER TARGET TOKEN              hello ROLE SECRET
//!   + welcome                            + SESSION
//! call TOOL ARGUMENT                   call TOOL ARGUMENT
//!   = REPLY                              = REPLY
//!   ! CODE WORDS                         ! WORDS
//! bye
//! ```
//!
//! One line a message, at most [`LINE_BYTES_MAX`]; one call at a time. It brings its bytes ([`mod@line`]), its flow ([`traffic`])
//! and its facts ([`call`]); who calls, what the rules say, holding, permitting, recording, deadlines and ends are
//! [`headgate_gate::clearance`]'s and [`headgate_gate::session`]'s, which know nothing of it.
#![forbid(unsafe_code)]

pub mod call;
pub mod greeting;
pub mod line;
pub mod traffic;

use headgate_gate::clearance::Refused;
use headgate_gate::session::leg::Leg;
use headgate_gate::session::protocol::{Greeted, LoggedIn, Parting, Protocol};
use headgate_gate::{Core, ListenerSettings};
use headgate_plane::Grant;

/// The longest line, with its end.
pub const LINE_BYTES_MAX: usize = 4096;

/// The protocol. Its sessions are recorded as MCP's, whose statements are calls as well: what is on disk for ever has no arm for tests.
pub struct Line;

impl Protocol for Line {
    const PROTOCOL: headgate_plane::Protocol = headgate_plane::Protocol::Mcp;
    type Greeting = greeting::Greeting;
    type Opening = ();
    type Admitted = ();
    type Login = ();
    type Begin = String;
    type Traffic = traffic::Traffic;

    fn greeting(listener: &ListenerSettings) -> greeting::Greeting {
        greeting::Greeting::new(listener)
    }

    fn greet(greeting: &mut greeting::Greeting, _client: &mut Leg, bytes: &[u8]) -> Greeted<()> {
        greeting.greet(bytes)
    }

    fn may_be_told(_greeting: &greeting::Greeting) -> bool {
        true
    }

    fn admit(_core: &Core, _opening: (), _grant: &Grant) -> Result<(), Box<Parting>> {
        Ok(())
    }

    fn begin_login(_core: &Core, _admitted: (), grant: &Grant, target: &mut Leg) -> Result<(), Box<Parting>> {
        greeting::hello_to_target(grant, target.out());
        Ok(())
    }

    fn log_in(
        _core: &Core,
        _login: &mut (),
        _grant: &Grant,
        _target: &mut Leg,
        bytes: &[u8],
    ) -> Result<LoggedIn<String>, Box<Parting>> {
        greeting::answer_of_target(bytes)
    }

    fn refuse(refused: &Refused, _fatal: bool, out: &mut Vec<u8>) {
        line::refusal(refused, out);
    }
}
