//! What a run is to do, as the loop takes it.

use crate::client::OnError;
use crate::cpu::Group;
use crate::reviewer::ReviewerPlan;
use crate::script::{Login, Work};
use crate::tls::Tls;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// Sessions of one run, all crews together.
pub const SESSIONS_MAX: usize = 20_000;

/// Where sessions go. The name is for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub host: String,
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let (host, _) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("{text}: write host:port"))?;
        let mut found = text.to_socket_addrs().map_err(|e| format!("{text}: {e}"))?;
        let address = found
            .next()
            .ok_or_else(|| format!("{text}: this name has no address"))?;
        Ok(Endpoint {
            address,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        })
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint {
            address,
            host: address.ip().to_string(),
        }
    }
}

/// The synthetic target in this process.
#[derive(Clone, Debug)]
pub struct TargetPlan {
    pub listen: SocketAddr,
    /// Wanted by SCRAM-SHA-256.
    pub password: Option<String>,
    /// From a signed-in client's message to its answer.
    pub latency: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    #[default]
    Constant,
    Poisson,
}

/// When the next statement of a crew starts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// When the one before it was answered.
    #[default]
    Closed,
    /// When its time has come: so many a second, over all sessions of the crew.
    Open { per_s: f64, arrivals: Arrivals },
}

/// Sessions that do the same.
#[derive(Clone, Debug)]
pub struct Crew {
    pub name: String,
    pub sessions: usize,
    pub login: Login,
    pub work: Vec<Work>,
    /// Statements on their way in one session.
    pub pipeline: usize,
    pub pace: Pace,
    /// Sign in, ask once what `work` says, leave, and again.
    pub logins: bool,
    /// Reads no faster than this.
    pub read_bytes_per_s: Option<u64>,
    /// The robot reviewer ends its sessions; each is opened again.
    pub victims: bool,
    /// Its statements are what the head of the report is about.
    pub headline: bool,
}

impl Crew {
    pub fn new(name: &str, sessions: usize, login: Login, work: Vec<Work>) -> Crew {
        Crew {
            name: name.to_owned(),
            sessions,
            login,
            work,
            pipeline: 1,
            pace: Pace::Closed,
            logins: false,
            read_bytes_per_s: None,
            victims: false,
            headline: true,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Load {
    /// What the report calls it.
    pub name: String,
    pub connect: Endpoint,
    pub tls: Option<Tls>,
    pub crews: Vec<Crew>,
    pub warm_up: Duration,
    pub window: Duration,
    pub watch: Vec<Group>,
    pub on_error: OnError,
    pub reviewer: Option<ReviewerPlan>,
    /// Tell on standard error how it goes, once a second.
    pub shows_progress: bool,
    /// Print `{"ready":N}` as soon as all sessions are signed in.
    pub says_ready: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Option<TargetPlan>,
    /// One after the other. None: serve the target alone, for ever.
    pub loads: Vec<Load>,
}
