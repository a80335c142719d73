//! The command line, as clap reads it. What `--help` says is here and has to be true.
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "what stands at an argument is read at a terminal"
)]

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Parser, Debug)]
#[command(
    name = "headgate",
    version,
    about = "Headgate: the only way in to your databases",
    max_term_width = 110
)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed (the message says what to do), 2 the command line was wrong."
)]
pub struct Cli {
    #[command(flatten)]
    pub reach: Reach,
    /// How lists are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    #[command(subcommand)]
    pub command: Command,
}

/// How the control plane is reached. By default through the admin socket of the appliance that this machine is.
#[derive(Args, Debug, Clone, Default)]
pub struct Reach {
    /// headgate.toml of this appliance.
    #[arg(
        long,
        short = 'c',
        global = true,
        env = "HEADGATE_CONFIG",
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
    /// Runtime directory, where admin.sock is; read from headgate.toml if not given.
    #[arg(long, global = true, env = "HEADGATE_RUNTIME", value_name = "DIR")]
    pub runtime: Option<PathBuf>,
    /// Admin API of an appliance elsewhere, as in https://gate.example.com:8443. Uses your token.
    #[arg(long, global = true, env = "HEADGATE_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// File with the token to speak with, instead of ~/.config/headgate/token. With it, the admin socket, too, asks as
    /// the token's identity and not as the local operator.
    #[arg(long, global = true, env = "HEADGATE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the roots that vouch for --server, beside the system's.
    #[arg(long, global = true, env = "HEADGATE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start data plane, recorder and control plane, and keep them running.
    Run(RunArgs),
    /// Run the control plane alone, in the foreground (`run` starts it for you).
    Controlplane,
    /// Say what is wrong with headgate.toml and rules.toml, without starting anything.
    Check,
    /// Say what the kernel, the limits and the disks of this machine lack. Ends with the data plane's own exit code (71 to
    /// 79) where its check fails.
    Doctor,
    /// Get a token for yourself: with a local user's password, or at your identity provider.
    Login(LoginArgs),
    /// Tokens: passwords for jobs and agents, and your own.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Local users, of the file that [local] users names.
    #[command(subcommand)]
    User(UserCommand),
    /// Credentials that Headgate presents to targets. Written, never read back.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Statements that wait for a person.
    Questions(QuestionsArgs),
    /// Say yes to a held statement. You see it before, with `headgate questions NUMBER`.
    Approve {
        /// HG-17, or 17.
        number: String,
    },
    /// Say no to a held statement.
    Deny {
        /// HG-17, or 17.
        number: String,
        /// Told to whoever asked.
        #[arg(long)]
        reason: String,
    },
    /// Sessions that are open now (and, with --past, recorded ones).
    Sessions {
        /// Recorded sessions, newest first, instead of open ones.
        #[arg(long)]
        past: bool,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Print a recorded session, event by event.
    Replay {
        /// Session id, as `headgate sessions` and `headgate audit query` show it.
        session: String,
    },
    /// What was done: queries over the recording, and its verification.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Rules: check, explain, test, reload.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// End access at once: of a token, of everybody who is or acts for a principal, of a session, or take back an approval.
    Revoke(RevokeArgs),
    /// Targets that the configuration names.
    Targets,
    /// Counters and gauges, in Prometheus' text format.
    Metrics,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// Directory with headgate-dataplane and headgate-recorder; by default where this program is.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct LoginArgs {
    /// Local user. Without it, login goes through your identity provider in the browser.
    #[arg(long, short = 'u')]
    pub user: Option<String>,
    /// Read the password from standard input instead of asking at the terminal.
    #[arg(long, requires = "user")]
    pub password_stdin: bool,
    /// Issuer to sign in at, where more than one is configured.
    #[arg(long, conflicts_with = "user")]
    pub issuer: Option<String>,
    /// Do not save the token: print it, alone, on standard output.
    #[arg(long)]
    pub print: bool,
}

#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Make a token and print it once, alone, on standard output.
    Mint {
        /// Who will be answerable for what it does.
        #[arg(long)]
        principal: String,
        /// A group of the token's identity; may be repeated.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// Who acts for the principal, outermost first; may be repeated.
        #[arg(long = "actor")]
        chain: Vec<String>,
        /// A target that it is for; may be repeated. None: every target that the rules open.
        #[arg(long = "target")]
        targets: Vec<String>,
        /// How long it lives, as in 30m, 8h or 7d.
        #[arg(long, default_value = "8h", value_parser = parse_duration)]
        ttl: u64,
        /// What it is for, for the list.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Make a narrower token from your own, for an agent that you start, and print it.
    Child {
        /// The agent's name: it becomes the outermost actor. Without it, the token only narrows.
        #[arg(long = "actor")]
        act_as: Option<String>,
        /// How long it lives at most; never longer than yours.
        #[arg(long, default_value = "1h", value_parser = parse_duration)]
        ttl: u64,
        /// A target that it is for; may be repeated. None: those of your token.
        #[arg(long = "target")]
        targets: Vec<String>,
        /// A group that it keeps; may be repeated. None: all of yours.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// What it is for, for the list.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Tokens that exist (never their text).
    List,
    /// End a token and the sessions that it opened.
    Revoke {
        /// Id, as `headgate token list` shows it.
        id: String,
    },
    /// Print the token that `headgate login` saved: PGPASSWORD=$(headgate token show) psql …
    Show,
}

#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// Print the hash of a password, for `password = "…"` of a [[user]] in the users file. Asked for at the terminal, or
    /// read from standard input.
    Hash {
        /// Read the password from standard input instead of asking at the terminal.
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Subcommand, Debug)]
pub enum SecretCommand {
    /// Store a target's password. It is asked for at the terminal, or read from standard input; never an argument.
    Put {
        /// The name that `secret = "…"` of a target says.
        name: String,
    },
    /// Names of stored secrets.
    List,
    /// Forget a secret. Targets that need it refuse new sessions.
    Delete { name: String },
}

#[derive(Args, Debug)]
pub struct QuestionsArgs {
    /// Show this one in full, with its statement and parameters.
    pub number: Option<String>,
    /// Ended ones, too, newest first.
    #[arg(long)]
    pub all: bool,
    /// At most so many ended ones.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Statements that were judged, the newest last.
    Query(Box<AuditQueryArgs>),
    /// Check seals and chain of the whole recording with the public key alone. Needs no running Headgate.
    Verify(AuditVerifyArgs),
}

#[derive(Args, Debug, Default)]
pub struct AuditQueryArgs {
    /// From when: RFC 3339 (2026-11-21T07:00:00Z), or back from now (15m, 8h, 7d).
    #[arg(long)]
    pub since: Option<String>,
    /// Until when; the same forms.
    #[arg(long)]
    pub until: Option<String>,
    #[arg(long)]
    pub session: Option<String>,
    #[arg(long)]
    pub principal: Option<String>,
    #[arg(long)]
    pub actor: Option<String>,
    #[arg(long)]
    pub target: Option<String>,
    /// Full name of what the statement touched: schema.name of a relation.
    #[arg(long, alias = "relation")]
    pub resource: Option<String>,
    /// allow, hold or deny.
    #[arg(long)]
    pub verdict: Option<String>,
    /// Principal, or anybody of the actor chain.
    #[arg(long)]
    pub anyone: Option<String>,
    /// Name of the rule that decided.
    #[arg(long)]
    pub rule: Option<String>,
    /// Code of the error that it ended with: an SQLSTATE of PostgreSQL.
    #[arg(long, alias = "sqlstate")]
    pub code: Option<String>,
    /// Part of the statement's text, of what it runs without saying it, or of the data that went in with it.
    #[arg(long)]
    pub text: Option<String>,
    /// At most so many: the newest that fit.
    #[arg(long, default_value_t = 100, value_parser = parse_limit)]
    pub limit: usize,
}

#[derive(Args, Debug)]
pub struct AuditVerifyArgs {
    /// Directory of the recording; read from headgate.toml if not given.
    #[arg(long, value_name = "DIR")]
    pub audit_dir: Option<PathBuf>,
    /// Public key of the recorder; keep a copy outside the appliance, or a tamperer brings their own.
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
    /// A checkpoint (a signed note) that was kept elsewhere: the history must go on from it. May be repeated.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub checkpoints: Vec<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum RulesCommand {
    /// Check a rules file, without a running Headgate.
    Check {
        /// By default the one that headgate.toml names.
        file: Option<PathBuf>,
    },
    /// Which rule decides about a statement, and why.
    Explain {
        /// The statement.
        sql: String,
        /// Principal.
        #[arg(long = "as", value_name = "PRINCIPAL")]
        principal: String,
        /// A group of the principal; may be repeated.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// Who acts for the principal, outermost first; may be repeated.
        #[arg(long = "actor")]
        chain: Vec<String>,
        #[arg(long)]
        target: String,
        /// Ask this file instead of the rules that run; needs no running Headgate, only --config.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
    },
    /// Run the cases of a TOML file against a rules file, without a running Headgate.
    Test {
        /// File with [[case]] entries.
        cases: PathBuf,
        /// By default the one that headgate.toml names.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
    },
    /// Which rules run, since when, and what is wrong with the file on disk.
    Status,
    /// Read the rules file again now (it is also watched).
    Reload,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct RevokeArgs {
    /// Token id.
    #[arg(long)]
    pub token: Option<String>,
    /// Principal: all tokens, JWTs and sessions in which it is principal or actor.
    #[arg(long)]
    pub principal: Option<String>,
    /// Session id.
    #[arg(long)]
    pub session: Option<String>,
    /// Question number: takes back an approval that is not spent yet.
    #[arg(long)]
    pub question: Option<String>,
}

fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit @ 1..=1_000_000) => Ok(limit),
        _ => Err("a number between 1 and 1000000".to_owned()),
    }
}

/// `90s`, `15m`, `8h`, `7d` in seconds.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration: write 90s, 15m, 8h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text
        .strip_suffix(unit)
        .unwrap_or_default()
        .parse()
        .map_err(|_| wrong())?;
    let seconds = count.checked_mul(factor).ok_or_else(wrong)?;
    if seconds == 0 { Err(wrong()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("headgate").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_whole() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help_text() {
        fn look(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path}");
                look(sub, &path);
            }
        }
        look(&Cli::command(), "headgate");
    }

    #[test]
    fn commands_of_the_manual_are_read() {
        for line in [
            "run --config f.toml",
            "controlplane -c f.toml",
            "check",
            "doctor",
            "login",
            "login -u alice --password-stdin",
            "token mint --principal nightly --group jobs --actor a1 --target orders --ttl 30m",
            "token child --actor helper",
            "token revoke tok_1",
            "token show",
            "secret put orders",
            "user hash --password-stdin",
            "questions HG-17",
            "questions --all --output jsonl",
            "approve 17 --token-file t",
            "deny HG-17 --reason no",
            "sessions --past",
            "replay 0192",
            "audit query --since 8h --principal alice --verdict deny --limit 10",
            "audit verify --audit-dir d --public-key k --checkpoint c1 --checkpoint c2",
            "rules explain SELECT --as alice --target orders",
            "rules test cases.toml",
            "revoke --principal alice",
            "--output json targets",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_command_lines_end_with_2() {
        for line in [
            "",
            "nonsense",
            "deny 17",
            "revoke",
            "revoke --token a --principal b",
            "token mint",
            "token mint --principal a --ttl 0s",
            "token mint --principal a --ttl 8",
            "secret put orders s3cret",
            "login --password-stdin",
            "audit query --limit 0",
            "sessions --output xml",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
