//! What the client of a held statement is told while people decide.

use super::traffic::Traffic;
use headgate_plane::question::Asked;
use headgate_policy::Verdict;
use headgate_postgres::Report;

impl Traffic {
    /// People have been asked about the statement at the front.
    pub(super) fn tell_held(&mut self, client: &mut Vec<u8>, verdict: &Verdict) {
        let said = format!("Headgate: {}", verdict.to_client(self.clearance.policy()));
        let mut notice = Vec::new();
        Report::notice(&said)
            .hint("The statement waits; cancel it to take it back.")
            .write_notice(&mut notice);
        self.say(client, &notice);
    }

    /// The control plane gave the question its number: the client is told where to look.
    pub(super) fn asked(&mut self, client: &mut Vec<u8>, asked: &Asked) {
        let Some(held) = self.lane.numbered(asked) else {
            return;
        };
        let message = format!(
            "Headgate: held as {}, waiting for approval at {} (at most {} s)",
            held.number, held.address, held.wait_s_max
        );
        let mut notice = Vec::new();
        Report::notice(&message).write_notice(&mut notice);
        self.say(client, &notice);
    }

    /// A notice of ours, between two whole messages of the target.
    fn say(&mut self, client: &mut Vec<u8>, bytes: &[u8]) {
        if self.pass_target == 0 {
            client.extend_from_slice(bytes);
        } else {
            self.late.extend_from_slice(bytes);
        }
    }
}
