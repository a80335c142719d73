//! Our own errors and notices, as a PostgreSQL client reads them.
//!
//! | SQLSTATE | is |
//! | --- | --- |
//! | 42501 | denied by a rule, or by no rule allowing it |
//! | 42601 | the text cannot be read as SQL |
//! | HG001 | a reviewer said no |
//! | HG002 | nobody answered before the deadline |
//! | HG003 | the approval was taken back before it was spent |
//! | HG005 | it needs an approval, and its rule does not let it wait: the number is in the message |
//! | HG004 | Headgate cannot judge it now (analyst lost, catalog not there, question refused) |
//! | 57014 | cancelled while it was held |
//! | 57P01 | the session was revoked, expired, or Headgate stops; the target contradicts what the session was judged by |
//! | 53200 | the session's, or the core's, share of memory is used up |
//! | 54000 | beyond a bound of Headgate |
//! | 0A000 | what Headgate does not do |

use crate::clearance::Refused;
use crate::sql::known::Known;
use headgate_plane::RefusalKind;
use headgate_postgres::Report;
use headgate_sql::Unreadable;

/// Of a message of ours: what is quoted in it is cut to this.
const QUOTED_BYTES_MAX: usize = 1024;

/// An error of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Its SQLSTATE.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// The place in the text, in characters from 1.
    pub position: Option<u32>,
}

impl Denial {
    /// Without more than that.
    pub fn new(code: &'static str, message: impl Into<String>) -> Denial {
        Denial {
            code,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// With more of it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Denial {
        self.detail = Some(detail.into());
        self
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Denial {
        self.hint = Some(hint.into());
        self
    }

    fn report(&self, severity: &'static str) -> Report<'_> {
        let mut report = Report::new(severity, self.code, &self.message);
        report.detail = self.detail.as_deref();
        report.hint = self.hint.as_deref();
        report.position = self.position;
        report
    }

    /// As an ERROR: the session lives.
    pub fn write_error(&self, out: &mut Vec<u8>) {
        self.report("ERROR").write_error(out);
    }

    /// As a FATAL: the session ends.
    pub fn write_fatal(&self, out: &mut Vec<u8>) {
        self.report("FATAL").write_error(out);
    }

    fn of_unreadable(why: &Unreadable) -> Denial {
        match why {
            // The server's own words and place.
            Unreadable::Syntax { message, position } => {
                let mut denial = Denial::new(why.sqlstate(), message.clone());
                denial.position = u32::try_from(*position).ok().filter(|p| *p > 0);
                denial
            }
            Unreadable::TooLong { bytes, max } => Denial::of(&Refused::TooLong {
                bytes: *bytes,
                max: *max,
            }),
            Unreadable::TooManyTokens { max } => Denial::new(
                "54000",
                format!("Headgate: the statement has more than {max} tokens"),
            )
            .hint("Send it in several statements, or its data with COPY."),
            Unreadable::TooDeep { max } => Denial::new(
                "54001",
                format!("Headgate: the statement is nested deeper than {max}"),
            ),
            Unreadable::NotUtf8 => Denial::new("22021", "Headgate: the statement is not valid UTF-8"),
            Unreadable::Unterminated => {
                Denial::new("42601", "Headgate: unterminated literal, comment or name")
            }
            Unreadable::AnalystLost => Denial::new("HG004", "Headgate could not judge the statement")
                .hint("Send it again; if it happens again, it is too costly to parse."),
            Unreadable::UnknownNode { tag } => Denial::new(
                "0A000",
                format!("Headgate does not know this kind of statement ({tag})"),
            ),
        }
    }

    /// A refusal in words.
    pub fn of(refused: &Refused) -> Denial {
        match refused {
            // The operator's words come first: they are what the reader can act on.
            Refused::Rule { name, message: Some(message) } => {
                Denial::new("42501", format!("Headgate: {message} (denied by rule \"{name}\")"))
            }
            Refused::Rule { name, message: None } => Denial::new("42501", format!("Headgate: denied by rule \"{name}\"")),
            Refused::NothingAllows => Denial::new("42501", "Headgate: denied: no rule allows the whole statement")
                .hint("Ask for a rule that covers every relation, verb and function of the statement."),
            Refused::NoRules => Denial::new("42501", "Headgate: denied: the gateway has no rules yet")
                .hint("Headgate has no rules yet: its control plane must have execution once."),
            Refused::Setting { said } => Denial::new("42501", format!("Headgate: {said}"))
                .hint("Leave this setting as the gateway has it, or ask for a rule that names it in `settings`."),
            Refused::Verdict { said } => Denial::new("42501", format!("Headgate: {said}")),
            Refused::Unreadable { reason } => Denial::new("42601", format!("Headgate: the statement cannot be read: {reason}")),
            Refused::Reviewer { question, reviewer, reason } => {
                let denial = Denial::new("HG001", format!("Headgate: {question} was denied by {reviewer}"));
                if reason.is_empty() { denial } else { denial.detail(reason.clone()) }
            }
            Refused::Expired { question } => Denial::new("HG002", format!("Headgate: nobody answered {question} before its deadline"))
                .hint("Send the statement again to ask again."),
            Refused::TakenBack { question, by } => {
                Denial::new("HG003", format!("Headgate: the approval of {question} was taken back by {by}"))
            }
            Refused::Held { question, said, address, left_s } => {
                Denial::new("HG005", format!("Headgate: the statement was not run: it needs an approval, asked for as {question}"))
                    .detail(format!("It is {said}. A reviewer answers at {address}"))
                    .hint(format!(
                        "Once it is approved, send the identical statement again, from any session of the same identity: it runs, once, \
                         within the next {left_s} s."
                    ))
            }
            Refused::NotAsked { why } => {
                Denial::new("HG004", "Headgate: the statement was not run: it needs an approval, and nobody can be asked at the moment")
                    .detail(cut(why).to_owned())
                    .hint("Send it again in a moment.")
            }
            Refused::OtherApproval { question } => {
                Denial::new("HG004", format!("Headgate: the approval of {question} is not for what would run now"))
                    .hint("Send the statement again to ask again.")
            }
            Refused::Cancelled { question } => Denial::new("57014", "canceling statement due to user request")
                .detail(format!("It was held as {question} and has been taken back.")),
            Refused::CarriesMasked => Denial::new("42501", "Headgate: the statement can carry masked values to where they are not covered")
                .hint("Leave out the masked columns, or have somebody run it who may read them."),
            Refused::DataUnseen => {
                Denial::new("0A000", "Headgate: COPY FROM STDIN would be held for approval, and its data cannot be shown to a reviewer")
                    .hint("Send the rows with INSERT, or ask for a rule with data = \"open\".")
            }
            Refused::RulesChanged { said } => {
                Denial::new("42501", format!("Headgate: {said}")).detail("The rules changed after the statement was bound.")
            }
            Refused::CatalogUnknown { why } => {
                Denial::new("HG004", "Headgate cannot tell what the statement reads: the target's catalog could not be read")
                    .detail(cut(why).to_owned())
                    .hint("Send it again in a moment; its operators see more in Headgate's log.")
            }
            Refused::NameInDoubt => Denial::new(
                "HG004",
                "Headgate: what the target has under this name cannot be told, for a transaction that changed it did not commit",
            )
            .hint("Prepare the statement again under another name."),
            Refused::TooLong { bytes, max } => {
                Denial::new("54000", format!("Headgate: a statement of {bytes} bytes is longer than the {max} that are read"))
                    .hint("Send it in several statements, or its data with COPY or as parameters; operators raise statement_bytes_max.")
            }
            Refused::NoRoomEver { bytes, max } => Denial::new(
                "54000",
                format!("Headgate: the record of this message takes {bytes} bytes, more than the {max} that can be recorded"),
            )
            .hint("Send it in smaller pieces; operators raise spool_bytes."),
            Refused::SessionFull { bytes, max } => Denial::new(
                "53200",
                format!("Headgate: this session's prepared statements would take {bytes} bytes, more than the {max} it may have"),
            )
            .hint("Close or deallocate some; operators raise session_bytes."),
            Refused::CoreFull { max } => {
                Denial::new("53200", format!("Headgate: long messages of all sessions take up the {max} bytes that this core has for them"))
                    .hint("Send it again in a moment, or in smaller pieces.")
            }
            Refused::SignIn(kind) => {
                let code = match kind {
                    RefusalKind::BadCredential => "28P01",
                    RefusalKind::NoSuchTarget => "3D000",
                    RefusalKind::Unavailable | RefusalKind::Misconfigured => "57P03",
                };
                let denial = Denial::new(code, kind.to_client());
                match kind {
                    RefusalKind::BadCredential => denial.hint("The password is a token of `headgate login` or `headgate token mint`, or a JWT of a trusted issuer."),
                    _ => denial,
                }
            }
            Refused::NotThePrincipal { user, principal } => {
                Denial::new("28000", format!("user \"{user}\" is not who this credential is for")).hint(format!(
                    "It is for \"{principal}\": connect with user={principal}. A listener with user = \"any\" does not look at the name."
                ))
            }
            Refused::TooManySessions { sessions } => {
                Denial::new("53300", format!("Headgate: too many sessions of this principal ({sessions} are open)"))
                    .hint("End sessions that are no longer used; the bound is sessions_per_principal_max.")
            }
            Refused::SignInSlow => Denial::new("57014", "canceling authentication due to timeout"),
            Refused::SignInLate => Denial::new("57P03", "Headgate could not sign in in time"),
            Refused::TargetUnreachable => Denial::new("08001", "Headgate cannot reach this target")
                .hint("Its operators see the reason in Headgate's log."),
            Refused::TargetUnsafe => Denial::new("08006", "Headgate cannot reach this target safely"),
            Refused::TargetSignIn => Denial::new("08004", "Headgate could not sign in to this target")
                .hint("Its operators see the reason in Headgate's log."),
            Refused::TargetMisbehaved => {
                Denial::new("08P01", "Headgate ended the session: the target sent what it must not send")
            }
            Refused::Unrecorded => {
                Denial::new("58000", "Headgate ended the session: it could not record what the session does")
            }
            Refused::Revoked { reason } => {
                Denial::new("57P01", "terminating connection: access was revoked").detail(reason.clone())
            }
            Refused::CredentialExpired => {
                Denial::new("57P01", "terminating connection: the credential has expired").hint("Sign in again.")
            }
            Refused::Stopping => Denial::new("57P01", "terminating connection: Headgate stops"),
        }
    }

    /// A refusal of a statement of which these facts are known: the parser's own words where it cannot be read.
    pub fn of_statement(refused: &Refused, known: &Known) -> Denial {
        match (refused, &known.facts) {
            (Refused::Unreadable { .. }, Err(why)) => Denial::of_unreadable(why),
            _ => Denial::of(refused),
        }
    }

    /// A function call of the wire protocol: its result has no description, so it cannot be covered.
    pub fn call_uncovered() -> Denial {
        Denial::new(
            "0A000",
            "Headgate: the result of a function call message cannot be covered, and masks bind this session",
        )
        .hint("Call the function with SELECT.")
    }

    /// A cursor of DECLARE that is read by Execute, where its rule holds it.
    pub fn cursor_held(said: &str) -> Denial {
        Denial::new("42501", format!("Headgate: {said}"))
            .hint("Read this cursor with FETCH: that can be held and approved.")
    }

    /// No such prepared statement, in the server's words.
    pub fn unknown_statement(name: &[u8]) -> Denial {
        if name.is_empty() {
            return Denial::new("26000", "unnamed prepared statement does not exist");
        }
        let name = String::from_utf8_lossy(name);
        Denial::new(
            "26000",
            format!("prepared statement \"{}\" does not exist", cut(&name)),
        )
    }

    /// EXECUTE or FETCH whose name means something else than when it was bound.
    pub fn meaning_changed() -> Denial {
        Denial::new(
            "HG004",
            "Headgate: what this statement stands for has changed since it was bound",
        )
        .hint("Bind it again.")
    }

    /// No such portal, in the server's words.
    pub fn unknown_portal(name: &[u8]) -> Denial {
        let name = String::from_utf8_lossy(name);
        Denial::new("34000", format!("portal \"{}\" does not exist", cut(&name)))
    }
}

/// At most [`QUOTED_BYTES_MAX`] of it, whole characters.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(QUOTED_BYTES_MAX))
        .unwrap_or(text)
}
