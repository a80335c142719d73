//! PostgreSQL: what its messages mean, in which order replies are owed, and its words for our refusals.
//!
//! A session's way: [`greeting`] (the client's first byte to its credential), [`login`] (from the connection to a target that
//! is ready), [`traffic`] (all that comes after). It drives [`crate::clearance`] and never judges, holds or records by itself.

mod cancel;
mod columns;
mod copy_in;
pub mod denial;
mod execution;
pub(crate) mod greeting;
mod hold;
mod intake;
mod judge;
mod login;
mod names;
pub mod owed;
mod parameters;
mod pins;
mod replies;
mod traffic;

pub use cancel::{CancelRequest, cancel_token};
pub use denial::Denial;
pub use execution::Executions;

use crate::clearance::Refused;
use crate::core::{Core, ListenerSettings};
use crate::session::leg::Leg;
use crate::session::protocol::{Greeted, LoggedIn, Parting, Protocol};
use headgate_plane::Grant;

/// PostgreSQL's frontend/backend protocol, version 3.
pub struct Postgres;

impl Protocol for Postgres {
    const PROTOCOL: headgate_plane::Protocol = headgate_plane::Protocol::Postgres;
    type Greeting = greeting::Greeting;
    type Opening = greeting::Opening;
    type Admitted = login::Admitted;
    type Login = login::Login;
    type Begin = traffic::Begin;
    type Traffic = traffic::Traffic;

    fn greeting(listener: &ListenerSettings) -> Self::Greeting {
        greeting::Greeting::new(listener)
    }

    fn greet(greeting: &mut Self::Greeting, client: &mut Leg, bytes: &[u8]) -> Greeted<Self::Opening> {
        greeting.greet(client, bytes)
    }

    fn may_be_told(greeting: &Self::Greeting) -> bool {
        greeting.may_be_told()
    }

    fn admit(core: &Core, opening: Self::Opening, grant: &Grant) -> Result<Self::Admitted, Box<Parting>> {
        login::admit(core, opening, grant)
    }

    fn begin_login(
        core: &Core,
        admitted: Self::Admitted,
        grant: &Grant,
        target: &mut Leg,
    ) -> Result<Self::Login, Box<Parting>> {
        login::Login::begin(core, admitted, grant, target)
    }

    fn log_in(
        core: &Core,
        login: &mut Self::Login,
        grant: &Grant,
        target: &mut Leg,
        bytes: &[u8],
    ) -> Result<LoggedIn<Self::Begin>, Box<Parting>> {
        login.advance(core, grant, target, bytes)
    }

    fn refuse(refused: &Refused, fatal: bool, out: &mut Vec<u8>) {
        let denial = Denial::of(refused);
        if fatal {
            denial.write_fatal(out);
        } else {
            denial.write_error(out);
        }
    }
}
