//! Its sign-ins: the client's with us, ours with the target.

use crate::line;
use headgate_gate::ListenerSettings;
use headgate_gate::session::protocol::{Fault, Greeted, LoggedIn, Parting, SignInAs};
use headgate_plane::{Credential, Grant, Secret};

/// Expects one line.
pub struct Greeting {
    cleartext: bool,
}

impl Greeting {
    pub fn new(listener: &ListenerSettings) -> Greeting {
        Greeting {
            cleartext: listener.danger_allow_cleartext,
        }
    }

    pub fn greet(&mut self, bytes: &[u8]) -> Greeted<()> {
        let wrong = |what: &str| Greeted::Wrong {
            asked: None,
            parting: line::misbehaved("client", what),
        };
        let line = match line::first(bytes) {
            Ok(Some(line)) => line,
            Ok(None) => return Greeted::More,
            Err(line::TooLong) => return wrong("a line without end"),
        };
        let words = line::words(line);
        let [hello, user, target, token] = &words[..] else {
            return wrong("expected: hello USER TARGET TOKEN");
        };
        if hello != "hello" || !self.cleartext {
            return wrong("expected: hello USER TARGET TOKEN");
        }
        Greeted::SignIn {
            used: line.len(),
            opening: (),
            asked: SignInAs {
                target: target.clone(),
                user: user.clone(),
                application: String::new(),
            },
            credential: Credential::Password(Secret::new(token.clone())),
        }
    }
}

/// Our first words to the target.
pub fn hello_to_target(grant: &Grant, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("hello {} ", grant.target.user).as_bytes());
    out.extend_from_slice(grant.target_secret.danger_reveal().as_bytes());
    out.push(b'\n');
}

/// What the target says to them: `+ SESSION`.
pub fn answer_of_target(bytes: &[u8]) -> Result<LoggedIn<String>, Box<Parting>> {
    let line = match line::first(bytes) {
        Ok(Some(line)) => line,
        Ok(None) => return Ok(LoggedIn::More),
        Err(line::TooLong) => return Err(line::misbehaved("target", "a line without end")),
    };
    match &line::words(line)[..] {
        [plus, session] if plus == "+" => Ok(LoggedIn::Ready {
            used: line.len(),
            begin: session.clone(),
            token: Vec::new(),
        }),
        _ => Err(Box::new(Parting {
            reason: "target: sign-in failed".to_owned(),
            words: b"! target it does not let Headgate in\n".to_vec(),
            fault: Fault::None,
            discards: true,
        })),
    }
}
