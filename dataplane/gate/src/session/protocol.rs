//! What a protocol brings to a [`super::Session`]: its way from the first byte to a target that is ready, its traffic, and
//! its words. Static dispatch: a session of one protocol is compiled for it.
//!
//! A protocol is sans-IO as the session is: it is handed bytes and a leg to write into, and says what comes next.

use super::leg::Leg;
use super::side::SideCancel;
use crate::clearance::doors::Doors;
use crate::clearance::room::NoRoom;
use crate::clearance::{Clearance, Close, Lane, Refused};
use crate::core::{Core, ListenerSettings};
use headgate_plane::question::Asked;
use headgate_plane::{Answer, Credential, Grant, QuestionKey, SessionId};

/// A protocol that clients and targets speak.
pub trait Protocol: Sized + 'static {
    /// Which.
    const PROTOCOL: headgate_plane::Protocol;
    /// From the client's first byte to its credential.
    type Greeting;
    /// What the client asked for beside its credential.
    type Opening;
    /// What will be asked of the target, once it is connected.
    type Admitted;
    /// From the connection to a target that is ready.
    type Login;
    /// What traffic begins with.
    type Begin;
    /// A session that is signed in.
    type Traffic: Traffic<Begin = Self::Begin>;

    /// Before the client's first byte.
    fn greeting(listener: &ListenerSettings) -> Self::Greeting;

    /// The client's next bytes. Words of ours go into `client`.
    fn greet(greeting: &mut Self::Greeting, client: &mut Leg, bytes: &[u8]) -> Greeted<Self::Opening>;

    /// Whether the client has said enough to be told anything at all.
    fn may_be_told(greeting: &Self::Greeting) -> bool;

    /// The control plane granted the session, and some rule opens the target: what is asked of the target now.
    fn admit(core: &Core, opening: Self::Opening, grant: &Grant) -> Result<Self::Admitted, Box<Parting>>;

    /// The target is connected: the first words to it.
    fn begin_login(
        core: &Core,
        admitted: Self::Admitted,
        grant: &Grant,
        target: &mut Leg,
    ) -> Result<Self::Login, Box<Parting>>;

    /// The target's next bytes.
    fn log_in(
        core: &Core,
        login: &mut Self::Login,
        grant: &Grant,
        target: &mut Leg,
        bytes: &[u8],
    ) -> Result<LoggedIn<Self::Begin>, Box<Parting>>;

    /// A refusal in the protocol's own words; `fatal`: the session ends with it.
    fn refuse(refused: &Refused, fatal: bool, out: &mut Vec<u8>);
}

/// A session that is signed in at its target.
pub trait Traffic: Sized {
    /// What it begins with.
    type Begin;
    /// What an analyst says of a text.
    type Analysis;

    /// Records the session's first words, and tells the client that it is in. What it was given comes back where there is no
    /// room for them yet.
    fn begin(
        core: &mut Core,
        session: SessionId,
        grant: Box<Grant>,
        begin: Self::Begin,
        client: &mut Vec<u8>,
    ) -> Result<Self, (Box<Grant>, Self::Begin)>;

    /// Who, which rules, and the recording.
    fn clearance(&self) -> &Clearance;
    /// The same, to go on with.
    fn clearance_mut(&mut self) -> &mut Clearance;
    /// Where the client's statements stand.
    fn lane(&self) -> &Lane;
    /// The same, to go on with.
    fn lane_mut(&mut self) -> &mut Lane;

    /// Handles what can be handled at the front of the client's bytes; returns how many are done with.
    #[expect(
        clippy::wrong_self_convention,
        reason = "whose bytes they are, not a conversion"
    )]
    fn from_client(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        bytes: &[u8],
    ) -> Result<usize, Box<Parting>>;

    /// The same of the target's.
    #[expect(
        clippy::wrong_self_convention,
        reason = "whose bytes they are, not a conversion"
    )]
    fn from_target(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        bytes: &[u8],
    ) -> Result<usize, Box<Parting>>;

    /// Something happened beside bytes. True: what is at the front may go on.
    fn note(&mut self, core: &mut Core, client: &mut Vec<u8>, note: Note<'_, Self::Analysis>) -> bool;

    /// Whether client bytes are worth reading beyond what is carried.
    fn wants_client(&self) -> bool;
    /// Whether the target's bytes wait for room in the spool.
    fn target_waits(&self) -> bool;
    /// Room may be there again.
    fn target_goes_on(&mut self);
    /// A message of the target has gone to the client in part: words of ours would be taken for the rest of it.
    fn is_amid_message(&self) -> bool;

    /// A cancel with this token is about. `None`: it is not this session's.
    fn cancel(&mut self, now_us: u64, token: &[u8]) -> Option<Cancelled>;
    /// The client went away: what it had sent whole is still done; nothing is held on its behalf.
    fn client_gone(&mut self);
    /// The client went away, and nothing more of what it had sent can be done: says goodbye to the target. Whether the client
    /// has left and nothing is owed to it.
    fn leave_if_gone(&mut self, target: &mut Vec<u8>) -> bool;
    /// Nothing more of the client is read. Whether something runs that is being cancelled at the target, and whose end is
    /// waited for.
    fn sever(&mut self, core: &mut Core) -> bool;
    /// The target closed; whether it had said why, or had been told to.
    fn target_closed_in_order(&self) -> bool;
    /// The last words to the target.
    fn goodbye(&mut self, target: &mut Vec<u8>);
    /// The last words into the recording, once there is room for them.
    fn close(&mut self, core: &mut Core, close: Close<'_>) -> Result<(), NoRoom>;
}

/// What the client's next bytes came to.
pub enum Greeted<O> {
    /// They are not enough.
    More,
    /// So many are done with; there is more to say.
    Used(usize),
    /// So many are done with, and TLS begins behind them.
    StartTls { used: usize },
    /// The client has said who it is.
    SignIn {
        /// So many bytes are done with.
        used: usize,
        /// What else it asked for.
        opening: O,
        /// As whom, and for which target.
        asked: SignInAs,
        /// What it proves itself by.
        credential: Credential,
    },
    /// The connection is for this cancel alone.
    Cancel { used: usize, token: Vec<u8> },
    /// It ends here. `asked`: as whom, as far as that was said.
    Wrong {
        /// As whom, as far as that was said.
        asked: Option<SignInAs>,
        /// The last words.
        parting: Box<Parting>,
    },
}

/// As whom, and on what, a client signs in.
#[derive(Clone, Debug)]
pub struct SignInAs {
    /// Its name.
    pub target: String,
    /// Who it says it is.
    pub user: String,
    /// What the client calls itself.
    pub application: String,
}

/// What the target's next bytes came to.
pub enum LoggedIn<B> {
    /// They are not enough.
    More,
    /// So many are done with; there is more to say.
    Used(usize),
    /// So many are done with, and TLS begins behind them.
    StartTls {
        /// So many are done with.
        used: usize,
    },
    /// The target is ready. `token`: what a cancel of this session's client will bring.
    Ready {
        /// So many are done with.
        used: usize,
        /// What traffic begins with.
        begin: B,
        /// What the client's cancel will bring.
        token: Vec<u8>,
    },
}

/// Something that happened beside bytes.
pub enum Note<'a, A> {
    /// The control plane gave a question its number.
    Asked(&'a Asked),
    /// A held statement has an answer.
    Answered(QuestionKey, Answer),
    /// An analyst read a text.
    Analysed(&'a [u8], A),
    /// What is known of a target's names is newer, or could not be had.
    CatalogCame {
        /// Its name.
        target: &'a str,
    },
    /// The core has other rules.
    RulesChanged,
}

/// What a cancel comes to.
#[derive(Debug)]
pub enum Cancelled {
    /// A held statement was taken back: nothing is left to do.
    TakenBack,
    /// The target must be told, on a connection of its own.
    AtTarget(SideCancel),
}

/// Who is at fault for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody, or it is not for us to say.
    None,
    /// Who signs in may not.
    Refused,
    /// A peer sent what it must not send.
    Misbehaved,
}

/// Why a session ends, and its last words to the client.
#[derive(Debug)]
pub struct Parting {
    /// For the recording and the log.
    pub reason: String,
    /// A whole message in the protocol's words; empty where silence is right.
    pub words: Vec<u8>,
    /// Whose it was.
    pub fault: Fault,
    /// What was to go to the target does not leave any more.
    pub discards: bool,
}
