//! Our own errors and notices, as a client reads them.
//!
//! | SQLSTATE | is |
//! | --- | --- |
//! | 42501 | denied by a rule, or by no rule allowing it |
//! | 42601 | the text cannot be read as SQL |
//! | HG001 | a reviewer said no |
//! | HG002 | nobody answered before the deadline |
//! | HG003 | the approval was taken back before it was spent |
//! | HG004 | Headgate cannot judge it now (analyst lost, question refused) |
//! | 57014 | cancelled while it was held |
//! | 57P01 | the session was revoked, expired, or Headgate stops |
//! | 54000 | beyond a bound of Headgate |

use headgate_plane::Answer;
use headgate_policy::{Compiled, Verdict, Why};
use headgate_postgres::Report;
use headgate_sql::Unreadable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub code: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub position: Option<u32>,
}

impl Denial {
    pub fn new(code: &'static str, message: impl Into<String>) -> Denial {
        Denial { code, message: message.into(), detail: None, hint: None, position: None }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Denial {
        self.detail = Some(detail.into());
        self
    }

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

    pub fn write_error(&self, out: &mut Vec<u8>) {
        self.report("ERROR").write_error(out);
    }

    pub fn write_fatal(&self, out: &mut Vec<u8>) {
        self.report("FATAL").write_error(out);
    }

    /// A verdict of deny in words.
    pub fn of_verdict(verdict: &Verdict, policy: &Compiled, unreadable: Option<&Unreadable>) -> Denial {
        if let (Why::Unreadable { .. }, Some(why)) = (&verdict.why, unreadable) {
            return Denial::of_unreadable(why);
        }
        let mut said = verdict.to_client(policy);
        if let Some(message) = verdict.message(policy) {
            // The operator's words come first: they are what the reader can act on.
            said = format!("{message} (denied by rule \"{}\")", verdict.rule_name(policy));
        }
        let denial = Denial::new("42501", format!("Headgate: {said}"));
        match &verdict.why {
            Why::NothingAllows => denial.hint("Ask for a rule that covers every relation, verb and function of the statement."),
            Why::PinnedSetting { .. } => denial.hint("Leave this setting as the gateway has it."),
            Why::NoRules => denial.hint("Headgate has no rules yet: its control plane must have run once."),
            _ => denial,
        }
    }

    fn of_unreadable(why: &Unreadable) -> Denial {
        match why {
            Unreadable::Syntax { message, position } => {
                let mut denial = Denial::new("42601", message.clone())
                    .detail("Headgate reads each statement with PostgreSQL's grammar before it forwards it.");
                denial.position = u32::try_from(*position).ok().filter(|p| *p > 0);
                denial
            }
            Unreadable::TooLong { bytes, max } => {
                Denial::new("54000", format!("Headgate: a statement of {bytes} bytes is longer than {max}"))
                    .hint("Send data as parameters or with COPY.")
            }
            Unreadable::TooManyTokens { max } => Denial::new("54000", format!("Headgate: the statement has more than {max} tokens"))
                .hint("Send data as parameters or with COPY."),
            Unreadable::TooDeep { max } => Denial::new("54001", format!("Headgate: the statement is nested deeper than {max}")),
            Unreadable::NotUtf8 => Denial::new("22021", "Headgate: the statement is not valid UTF-8"),
            Unreadable::Unterminated => Denial::new("42601", "Headgate: unterminated literal, comment or name"),
            Unreadable::AnalystLost => Denial::new("HG004", "Headgate could not judge the statement")
                .hint("Send it again; if it happens again, it is too costly to parse."),
            Unreadable::UnknownNode { tag } => Denial::new("0A000", format!("Headgate does not know this kind of statement ({tag})")),
        }
    }

    /// An answer that is not an approval, in words.
    pub fn of_answer(answer: &Answer, name: &str) -> Denial {
        match answer {
            Answer::Approved { .. } => Denial::new("HG004", format!("Headgate: the approval of {name} is not for this statement")),
            Answer::Denied { reviewer, reason } => {
                let denial = Denial::new("HG001", format!("Headgate: {name} was denied by {reviewer}"));
                if reason.is_empty() { denial } else { denial.detail(reason.clone()) }
            }
            Answer::Expired => Denial::new("HG002", format!("Headgate: nobody answered {name} before its deadline"))
                .hint("Send the statement again to ask again."),
            Answer::Revoked { by } => Denial::new("HG003", format!("Headgate: the approval of {name} was taken back by {by}")),
        }
    }
}
