//! `run`: the mixes that are built in.

use super::show::Show;
use super::{Beside, Synthetic};
use crate::LoadFailed;
use crate::client::OnError;
use crate::drive;
use crate::outcome::{Outcome, now};
use crate::plan::{Arrivals, Crew, Endpoint, Load, Pace, Plan};
use crate::reviewer::{Api, ReviewerPlan};
use crate::scenario::passwords_of;
use crate::script::{Login, Protocol, Work};
use crate::target::HELD_SQL;
use crate::tls::{Start, Tls, Trust};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Point reads, one Query message a statement.
    Simple,
    /// Point reads: Parse, Bind, Describe, Execute, Sync a statement.
    Extended,
    /// Point reads: Parse once; Bind, Execute, Sync a statement.
    Prepared,
    /// As prepared, with --pipeline statements on their way in each session.
    Pipelined,
    /// Large results by simple Query.
    Bulk,
    /// Prepared point reads, and beside them --bulk-sessions of the sessions with large results.
    Mixed,
    /// Sign in, leave, again. --sessions are in flight at once.
    Logins,
    /// Prepared point reads, and beside them --held-sessions whose statements a robot reviewer approves (see --api), and
    /// --revoke-sessions that it ends. The report has approve_to_forward and revoke_to_cut.
    Held,
    /// Sign in and do nothing for --hold-ms; prints {"ready":N} once all are signed in.
    Idle,
}

#[derive(clap::Args)]
pub(super) struct Secure {
    #[arg(long, value_enum, default_value_t = Start::Off)]
    tls: Start,
    /// Certificate authorities to believe, as PEM. Default: those of the system.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Believe any certificate.
    #[arg(long, conflicts_with = "ca")]
    tls_insecure: bool,
    /// Name that the certificate must have. Default: the host of --connect.
    #[arg(long)]
    server_name: Option<String>,
    /// Sign in again with the session tickets of earlier handshakes.
    #[arg(long)]
    tls_resumption: bool,
}

impl Secure {
    fn tls(&self, connect: &Endpoint) -> Result<Option<Tls>, LoadFailed> {
        let trust = match (&self.ca, self.tls_insecure) {
            (_, true) => Trust::DangerAnybody,
            (Some(file), false) => Trust::File(file.clone()),
            (None, false) => Trust::System,
        };
        Tls::new(
            self.tls,
            &trust,
            self.server_name.as_deref().unwrap_or(&connect.host),
            self.tls_resumption,
        )
    }
}

#[derive(clap::Args)]
pub(super) struct Robot {
    /// held: so many of the sessions send statements that the engine's rules hold.
    #[arg(long, default_value_t = 0)]
    held_sessions: usize,
    /// held: so many of the sessions are there to be ended; each is opened again.
    #[arg(long, default_value_t = 0)]
    revoke_sessions: usize,
    /// held: what is held. A number is put behind it. Default: what the synthetic target knows.
    #[arg(long, default_value = HELD_SQL)]
    held_sql: String,
    /// held: Headgate's admin API, as unix:/path/to/admin.sock (no token needed: the operator) or http://host:port.
    #[arg(long)]
    api: Option<Api>,
    /// held: token of a reviewer, who must not be the one who asks. Better in the environment.
    #[arg(long, env = "HEADGATE_LOADTEST_REVIEWER_TOKEN", hide_env_values = true)]
    reviewer_token: Option<String>,
    /// held: token of an administrator, for ending sessions. Default: the reviewer's.
    #[arg(long, env = "HEADGATE_LOADTEST_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// held: how long the robot thinks about a question.
    #[arg(long, default_value_t = 10)]
    answer_after_ms: u64,
    /// held: sessions ended in a second.
    #[arg(long, default_value_t = 10.0)]
    revokes_per_s: f64,
}

impl Robot {
    fn plan(&self) -> Result<ReviewerPlan, LoadFailed> {
        let Some(api) = &self.api else {
            return Err(LoadFailed::Usage(
                "held: where is the reviewer to answer? --api unix:/path/to/admin.sock or http://host:port"
                    .to_owned(),
            ));
        };
        if !(self.revokes_per_s >= 0.0 && self.revokes_per_s <= 10_000.0) {
            return Err(LoadFailed::Usage("--revokes-per-s: from 0 to 10,000".to_owned()));
        }
        Ok(ReviewerPlan {
            api: api.clone(),
            token: self.reviewer_token.clone(),
            admin_token: self.admin_token.clone(),
            answer_after: Duration::from_millis(self.answer_after_ms),
            revokes_per_s: if self.revoke_sessions > 0 {
                self.revokes_per_s
            } else {
                0.0
            },
            held_sql: vec![self.held_sql.clone()],
        })
    }
}

#[derive(clap::Args)]
pub(super) struct Run {
    /// Where the sessions go, as host:port.
    #[arg(long)]
    connect: Endpoint,
    /// Serve the synthetic target here, in the same thread.
    #[arg(long)]
    target: Option<SocketAddr>,
    #[command(flatten)]
    synthetic: Synthetic,
    #[arg(long, default_value_t = 16)]
    sessions: usize,
    #[arg(long, value_enum, default_value_t = Mode::Prepared)]
    mode: Mode,
    #[arg(long, default_value = "bench")]
    user: String,
    #[arg(long, default_value = "bench")]
    database: String,
    /// For a password in the clear, or SCRAM-SHA-256, as asked. Better in the environment: HEADGATE_LOADTEST_PASSWORD.
    #[arg(
        long,
        env = "HEADGATE_LOADTEST_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    password: String,
    /// Passwords, one a line, used in turn by the logins of all sessions.
    #[arg(long, value_name = "FILE")]
    distinct_passwords: Option<PathBuf>,
    #[command(flatten)]
    secure: Secure,
    /// Rows of a large result.
    #[arg(long, default_value_t = 20_000)]
    bulk_rows: u32,
    /// mixed: so many of the sessions read large results without pause.
    #[arg(long, default_value_t = 0)]
    bulk_sessions: usize,
    #[command(flatten)]
    robot: Robot,
    /// More sessions, which ask for a large result and read it at --slow-bytes-per-s.
    #[arg(long, default_value_t = 0)]
    slow_sessions: usize,
    /// Of each slow session.
    #[arg(long, default_value_t = 65_536)]
    slow_bytes_per_s: u64,
    /// pipelined: statements on their way in each session.
    #[arg(long, default_value_t = 8)]
    pipeline: usize,
    /// logins: one point read before leaving.
    #[arg(long)]
    login_statement: bool,
    /// Open loop: statements a second over all sessions; latency counts from when each should have started.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, value_enum, default_value_t = Arrivals::Constant, requires = "rate")]
    arrivals: Arrivals,
    /// idle: how long the sessions are held. Default: --window-ms.
    #[arg(long)]
    hold_ms: Option<u64>,
    #[arg(long, default_value_t = 300)]
    warm_up_ms: u64,
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// What a refused statement or a session that was cut does.
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    errors: OnError,
    #[command(flatten)]
    show: Show,
    #[command(flatten)]
    beside: Beside,
}

impl Run {
    pub(super) fn run(&self) -> Result<String, LoadFailed> {
        let plan = self.plan()?;
        self.show.check()?;
        let started = now();
        let before = self.beside.distance()?;
        let mut reports = drive::run(&plan)?;
        let mut report = reports.pop().ok_or(LoadFailed::Nothing)?;
        report.distance_ns = [before, self.beside.distance()?];
        let load = plan.loads.first().ok_or(LoadFailed::Nothing)?;
        let name = format!("{} × {}", load.name, report.sessions);
        self.show
            .outcome(&Outcome::new(&name, started, load, vec![report]), true)
    }

    fn plan(&self) -> Result<Plan, LoadFailed> {
        let window = Duration::from_millis(if self.mode == Mode::Idle {
            self.hold_ms.unwrap_or(self.window_ms)
        } else {
            self.window_ms
        });
        let load = Load {
            name: format!("{:?}", self.mode).to_lowercase(),
            connect: self.connect.clone(),
            tls: self.secure.tls(&self.connect)?,
            crews: self.crews()?,
            warm_up: if self.mode == Mode::Idle {
                Duration::ZERO
            } else {
                Duration::from_millis(self.warm_up_ms)
            },
            window,
            watch: self.beside.groups.clone(),
            on_error: self.errors,
            reviewer: if self.mode == Mode::Held {
                Some(self.robot.plan()?)
            } else {
                None
            },
            shows_progress: std::io::stderr().is_terminal(),
            says_ready: self.mode == Mode::Idle,
        };
        Ok(Plan {
            target: self.target.map(|listen| self.synthetic.plan(listen)),
            loads: vec![load],
        })
    }

    fn crews(&self) -> Result<Vec<Crew>, LoadFailed> {
        let usage = |what: &str| Err(LoadFailed::Usage(what.to_owned()));
        let login = Login {
            user: self.user.clone(),
            database: self.database.clone(),
            passwords: self.passwords()?,
        };
        let crew = |name: &str, sessions, work| Crew::new(name, sessions, login.clone(), work);
        let point = |protocol| vec![Work::point(protocol)];
        let bulk = || vec![Work::bulk(self.bulk_rows)];
        if self.sessions == 0 {
            return usage("--sessions: at least one");
        }
        let mut crews = match self.mode {
            Mode::Simple => vec![crew("point reads", self.sessions, point(Protocol::Simple))],
            Mode::Extended => vec![crew("point reads", self.sessions, point(Protocol::Extended))],
            Mode::Prepared => vec![crew("point reads", self.sessions, point(Protocol::Prepared))],
            Mode::Pipelined => {
                vec![Crew {
                    pipeline: self.pipeline,
                    ..crew("point reads", self.sessions, point(Protocol::Prepared))
                }]
            }
            Mode::Bulk => vec![crew("large results", self.sessions, bulk())],
            Mode::Mixed if self.bulk_sessions >= self.sessions => {
                return usage("--bulk-sessions: fewer than --sessions");
            }
            Mode::Mixed => {
                let mut crews = vec![crew(
                    "point reads",
                    self.sessions - self.bulk_sessions,
                    point(Protocol::Prepared),
                )];
                if self.bulk_sessions > 0 {
                    crews.push(Crew {
                        headline: false,
                        ..crew("large results", self.bulk_sessions, bulk())
                    });
                }
                crews
            }
            Mode::Held => {
                let beside = self.robot.held_sessions + self.robot.revoke_sessions;
                if beside == 0 || beside >= self.sessions {
                    return usage(
                        "held: give --held-sessions or --revoke-sessions, together fewer than --sessions",
                    );
                }
                let mut crews = vec![crew(
                    "point reads",
                    self.sessions - beside,
                    point(Protocol::Prepared),
                )];
                if self.robot.held_sessions > 0 {
                    let work = vec![Work::held(&self.robot.held_sql)];
                    crews.push(Crew {
                        headline: false,
                        ..crew("held statements", self.robot.held_sessions, work)
                    });
                }
                if self.robot.revoke_sessions > 0 {
                    crews.push(Crew {
                        headline: false,
                        victims: true,
                        ..crew("to be ended", self.robot.revoke_sessions, Vec::new())
                    });
                }
                crews
            }
            Mode::Logins => {
                let work = if self.login_statement {
                    point(Protocol::Simple)
                } else {
                    Vec::new()
                };
                vec![Crew {
                    logins: true,
                    ..crew("logins", self.sessions, work)
                }]
            }
            Mode::Idle => vec![crew("idle", self.sessions, Vec::new())],
        };
        if let (Some(per_s), Some(first)) = (self.rate, crews.first_mut()) {
            if !(per_s > 0.0 && per_s <= 10_000_000.0) {
                return usage("--rate: more than 0 and at most 10,000,000 statements a second");
            }
            if matches!(self.mode, Mode::Idle | Mode::Logins) {
                return usage("--rate: for modes that send statements");
            }
            first.pace = Pace::Open {
                per_s,
                arrivals: self.arrivals,
            };
        }
        if self.slow_sessions > 0 {
            let slow = crew(
                "slow readers",
                self.slow_sessions,
                vec![Work {
                    kind: "slow".to_owned(),
                    ..Work::bulk(self.bulk_rows)
                }],
            );
            crews.push(Crew {
                headline: false,
                read_bytes_per_s: Some(self.slow_bytes_per_s.max(1)),
                ..slow
            });
        }
        Ok(crews)
    }

    fn passwords(&self) -> Result<Vec<String>, LoadFailed> {
        match &self.distinct_passwords {
            Some(file) => passwords_of(file),
            None => Ok(vec![self.password.clone()]),
        }
    }
}
