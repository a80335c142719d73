//! PostgreSQL's cancel request, on a connection of its own as libpq does it.

use crate::session::side::{Progress, SideDialogue};
use headgate_postgres::write;

/// A cancel request's process id and key, as the neutral parts hand it about.
pub fn cancel_token(pid: u32, key: &[u8]) -> Vec<u8> {
    [&pid.to_be_bytes()[..], key].concat()
}

/// Process id and key of a token.
pub(super) fn of_token(token: &[u8]) -> Option<(u32, &[u8])> {
    let (pid, key) = token.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*pid), key))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    AskForTls,
    ExpectTls,
    Request,
    Said,
}

/// Delivers one cancel request to a target.
pub struct CancelRequest {
    token: Vec<u8>,
    step: Step,
}

impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelRequest({:?})", self.step)
    }
}

impl CancelRequest {
    /// `tls`: where the session has it.
    pub fn new(token: Vec<u8>, tls: bool) -> CancelRequest {
        CancelRequest {
            token,
            step: if tls { Step::AskForTls } else { Step::Request },
        }
    }
}

impl SideDialogue for CancelRequest {
    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Progress {
        match self.step {
            Step::AskForTls => {
                write::ssl_request(out);
                self.step = Step::ExpectTls;
                Progress::More
            }
            Step::ExpectTls => match bytes {
                [] => Progress::More,
                b"S" => {
                    self.step = Step::Request;
                    Progress::StartTls
                }
                [b'S', ..] => {
                    Progress::Failed("the target sent clear bytes behind its yes to TLS".to_owned())
                }
                _ => Progress::Failed("the target offers no TLS".to_owned()),
            },
            Step::Request => {
                self.step = Step::Said;
                let written = of_token(&self.token)
                    .ok_or_else(|| "a token that is none".to_owned())
                    .and_then(|(pid, key)| write::cancel_request(out, pid, key).map_err(|e| e.to_string()));
                written.map_or_else(Progress::Failed, |()| Progress::Said)
            }
            Step::Said => Progress::Said,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(dialogue: &mut CancelRequest, bytes: &[u8]) -> (Progress, Vec<u8>) {
        let mut out = Vec::new();
        (dialogue.advance(bytes, &mut out), out)
    }

    #[test]
    fn the_key_goes_only_when_tls_was_begun() {
        let token = cancel_token(7, &[1, 2, 3, 4]);
        let request = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4];
        let mut plain = CancelRequest::new(token.clone(), false);
        assert_eq!(say(&mut plain, b""), (Progress::Said, request.to_vec()));
        let mut tls = CancelRequest::new(token.clone(), true);
        assert_eq!(say(&mut tls, b"").0, Progress::More);
        assert_eq!(say(&mut tls, b"S"), (Progress::StartTls, vec![]));
        assert_eq!(say(&mut tls, b""), (Progress::Said, request.to_vec()));
        for answer in [&b"N"[..], b"SN", b"E"] {
            let mut refused = CancelRequest::new(token.clone(), true);
            say(&mut refused, b"");
            let (progress, out) = say(&mut refused, answer);
            assert!(matches!(progress, Progress::Failed(_)), "{answer:?}");
            assert!(out.is_empty());
        }
    }
}
