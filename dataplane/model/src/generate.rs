//! Random conversations from a seed.
//!
//! Invariant: a case is a function of its seed and its profile. Every text has a number of its own, so that what was judged
//! and what ran can be told apart.

use crate::lab;
use crate::message::Message;
use crate::server::INT4PL;

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() % n.max(1) as u64) as usize
    }

    pub fn percent(&mut self, n: u64) -> bool {
        self.draw() % 100 < n
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// An index, by weight.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (n, weight) in weights.iter().enumerate() {
            if at < *weight {
                return n;
            }
            at -= weight;
        }
        0
    }
}

#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    Send(Message),
    /// Until nothing moves any more.
    Settle,
    /// Other rules, by number.
    Rules(usize),
    /// The client asks on another connection for what runs to be cancelled.
    Cancel,
    /// The client goes without a word, perhaps in the middle of what it was sending.
    Gone,
    /// The target's catalog has changed, as another session says.
    CatalogChanged,
    /// What a target may say at any moment.
    Unasked(Unasked),
    /// A reply that is not owed, when nothing is owed.
    Unowed(u8),
    /// Of the next message, the first reply is of this kind.
    Wrong(u8),
    /// A setting that was taken for granted is another one.
    Contradicts(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    Notice,
    Status,
    Notification,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Send(message) => write!(f, "{message:?}"),
            Step::Settle => write!(f, "-- settle"),
            Step::Rules(n) => write!(f, "-- rules {n}"),
            Step::Cancel => write!(f, "-- cancel"),
            Step::Gone => write!(f, "-- the client goes"),
            Step::CatalogChanged => write!(f, "-- catalog changed"),
            Step::Unasked(what) => write!(f, "-- target: {what:?}"),
            Step::Unowed(tag) => write!(f, "-- target: unowed {:?}", char::from(*tag)),
            Step::Wrong(tag) => write!(f, "-- target: {:?} for the next message", char::from(*tag)),
            Step::Contradicts(name, value) => write!(f, "-- target: {name} = {value}"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub rules: usize,
    pub masked: bool,
    /// Of the simulated server: see `Manual::pipeline_is_block`.
    pub newest: bool,
    pub steps: Vec<Step>,
}

/// What a batch of cases is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Things that only a simulated server can be told.
    pub simulated: bool,
    /// Settings turned through a view, Terminate in the middle: what ends a session.
    pub ends: bool,
}

impl Profile {
    pub const SIMULATED: Profile = Profile {
        simulated: true,
        ends: true,
    };
    pub const REAL: Profile = Profile {
        simulated: false,
        ends: true,
    };
}

struct Generator {
    random: Random,
    profile: Profile,
    number: u64,
    /// The client does what drivers do; or whatever.
    tame: bool,
    /// All names are such as a server cuts to the same.
    long: bool,
    steps: Vec<Step>,
}

/// Where a text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Query,
    Parse,
    /// What PREPARE takes, and what a name that EXECUTE uses stands for.
    Plain,
}

pub fn case(seed: u64, profile: Profile) -> Case {
    let mut random = Random(seed);
    random.draw();
    let rules = random.weighted(&[50, 20, 30]);
    let masked = random.percent(30);
    let newest = random.percent(50);
    let tame = random.percent(35);
    let long = !tame && random.percent(8);
    let mut generator = Generator {
        random,
        profile,
        number: (seed % 2_000_000) * 1000,
        tame,
        long,
        steps: Vec::new(),
    };
    let rounds = 1 + generator.random.below(if tame { 6 } else { 9 });
    for _ in 0..rounds {
        generator.round();
    }
    if generator.random.percent(3) {
        generator.steps.push(Step::Gone);
    }
    // However it stands, a client that wants to go on says this, and has an end to everything.
    generator.steps.push(Step::Settle);
    Case {
        seed,
        rules,
        masked,
        newest,
        steps: generator.steps,
    }
}

impl Generator {
    fn send(&mut self, message: Message) {
        self.steps.push(Step::Send(message));
        if self.profile.simulated && !self.tame && self.random.percent(1) {
            self.steps.push(Step::Cancel);
        }
    }

    fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn settle(&mut self, percent: u64) {
        if self.random.percent(percent) {
            self.steps.push(Step::Settle);
        }
    }

    // ---- names

    /// Of a pool: short ones mostly; now and then those that a server cuts.
    fn name(&mut self, pool: char) -> Vec<u8> {
        let one = pool.to_string();
        if self.long {
            return (one.repeat(63) + *self.random.pick(&["", "1", "2", "34"])).into_bytes();
        }
        match self.random.below(if self.tame { 22 } else { 30 }) {
            0..=12 => format!("{one}1"),
            13..=19 => format!("{one}2"),
            20..=21 => one.repeat(63),
            22 => one.repeat(62),
            23 => one.repeat(63) + "1",
            24 => one.repeat(63) + "2",
            25 => one.repeat(63) + "34",
            26 => one.clone() + &"é".repeat(31),
            27 => one.clone() + &"é".repeat(32),
            28 => one.repeat(2) + &"é".repeat(31),
            _ => one.repeat(2) + &"é".repeat(30),
        }
        .into_bytes()
    }

    fn statement_name(&mut self) -> Vec<u8> {
        match self.random.below(10) {
            0..=3 => Vec::new(),
            4..=6 => self.name('s'),
            _ => self.name('w'),
        }
    }

    fn portal_name(&mut self) -> Vec<u8> {
        match self.random.below(10) {
            0..=5 => Vec::new(),
            6..=7 => self.name('q'),
            _ => self.name('c'),
        }
    }

    fn sql_name(&mut self, pool: char) -> String {
        let name = String::from_utf8_lossy(&self.name(pool)).into_owned();
        if self.random.percent(30) {
            format!("\"{name}\"")
        } else {
            name
        }
    }

    // ---- texts

    fn rows(&mut self) -> String {
        match self.random.weighted(&[10, 6, 3, 3]) {
            0 => format!("select {}", self.number()),
            1 => format!("select n from generate_series(1,{}) n", 1 + self.random.below(5)),
            2 => format!(
                "select 10/(n-{}) from generate_series(1,5) n",
                1 + self.random.below(6)
            ),
            _ => (*self.random.pick(&[
                "select email from customers",
                "select id, email from customers",
                "select email || '' from customers",
            ]))
            .to_owned(),
        }
    }

    fn plain(&mut self) -> String {
        let n = self.number();
        match self
            .random
            .weighted(&[24, 12, 4, 5, 5, 5, 8, 6, 2, if self.profile.ends { 1 } else { 0 }])
        {
            0 => self.rows(),
            1 => format!("insert into log values ({n})"),
            2 => format!("insert into log values ({n}) returning n"),
            3 => "insert into log values ($1)".to_owned(),
            4 => "select $1::int".to_owned(),
            5 => format!("insert into late values ({n}), ({n})"),
            6 => format!("update log set n = n where n = {n}"),
            7 => format!("delete from log where n = {n}"),
            8 => (*self
                .random
                .pick(&["select no_such_column", "select n from no_such_table"]))
            .to_owned(),
            _ => "update settings set setting = 'off' where name = 'standard_conforming_strings'".to_owned(),
        }
    }

    fn utility(&mut self) -> String {
        let hold = if self.random.percent(30) { "with hold " } else { "" };
        match self
            .random
            .weighted(&[8, 8, 5, 5, 3, 5, 7, 3, 5, 6, 3, 1, 1, 1, 1, 3, 4, 1, 1])
        {
            0 => "begin".to_owned(),
            1 => "commit".to_owned(),
            2 => "rollback".to_owned(),
            3 => (*self.random.pick(&["copy t from stdin", "copy log from stdin"])).to_owned(),
            4 => format!("copy ({}) to stdout", self.rows()),
            5 => {
                // What has parameters could not be run without types that PREPARE would have to name.
                let inner = loop {
                    let inner = self.plain();
                    if !inner.contains('$') {
                        break inner;
                    }
                };
                format!("prepare {} as {inner}", self.sql_name('w'))
            }
            6 => format!(
                "execute {}{}",
                self.sql_name('w'),
                if self.random.percent(20) { "(7)" } else { "" }
            ),
            7 => format!("deallocate {}", self.sql_name('w')),
            8 => {
                // A cursor with hold is read to its end at commit: no row of it may fail.
                let rows = loop {
                    let rows = self.rows();
                    if hold.is_empty() || !rows.contains('/') {
                        break rows;
                    }
                };
                format!("declare {} cursor {hold}for {rows}", self.sql_name('c'))
            }
            9 => match self.random.below(3) {
                0 => format!("fetch all from {}", self.sql_name('c')),
                n => format!("fetch {n} from {}", self.sql_name('c')),
            },
            10 => format!("close {}", self.sql_name('c')),
            11 => "close all".to_owned(),
            12 => "deallocate all".to_owned(),
            13 => "discard all".to_owned(),
            14 => format!("deallocate {}", self.sql_name('s')),
            15 => format!("savepoint {}", self.random.pick(&["a", "b"])),
            16 => format!("rollback to {}", self.random.pick(&["a", "b"])),
            17 => format!("release {}", self.random.pick(&["a", "b"])),
            _ => (*self
                .random
                .pick(&["set application_name = 'a'", "reset application_name"]))
            .to_owned(),
        }
    }

    fn mark(&mut self) -> &'static str {
        if self.profile.simulated && self.random.percent(6) {
            return self.random.pick::<&str>(&[
                " /*!parse*/",
                " /*!bind*/",
                " /*!describe*/",
                " /*!execute*/",
                " /*!commit*/",
                " /*!notice*/",
                " /*!status*/",
            ]);
        }
        ""
    }

    fn text(&mut self, place: Place) -> Vec<u8> {
        let one = |this: &mut Generator, place: Place| loop {
            let text = match (place, this.random.below(100)) {
                (Place::Query | Place::Parse, 0..=1) => "selec 1".to_owned(),
                (Place::Query | Place::Parse, 2..=3) => String::new(),
                (Place::Query, 4) if this.profile.simulated => "select pg_sleep(1)".to_owned(),
                (Place::Query | Place::Parse, 5..=50) => this.utility(),
                _ => this.plain(),
            };
            if place != Place::Query || !text.contains('$') {
                break text + this.mark();
            }
        };
        let mut text = one(self, place);
        if place == Place::Query {
            while self.random.percent(18) {
                text = format!("{text}; {}", one(self, place));
            }
        } else if place == Place::Parse && self.random.percent(1) {
            text = format!("{text}; {}", one(self, place));
        }
        if !text.is_empty() {
            text = format!("{text} /* #{} */", self.number());
            if place == Place::Query && self.random.percent(1) {
                text += &format!("/* {} */", "long ".repeat(lab::STATEMENT_BYTES_MAX / 4));
            }
        }
        text.into_bytes()
    }

    // ---- messages

    fn parse(&mut self, name: Vec<u8>) -> Message {
        let place = if name.first() == Some(&b'w') {
            Place::Plain
        } else {
            Place::Parse
        };
        let text = self.text(place);
        Message::Parse { name, text }
    }

    /// A portal that FETCH can read holds rows, and nothing else is bound to such a name.
    fn bind(&mut self, portal: Vec<u8>, statement: Vec<u8>, takes: bool) -> Message {
        let parameters = match (takes, self.random.below(20)) {
            (true, 0) => vec![Some(b"x".to_vec())],
            (true, 1) => vec![None],
            (true, 2) => Vec::new(),
            (true, _) => vec![Some(self.number().to_string().into_bytes())],
            (false, 0) => vec![Some(b"1".to_vec())],
            (false, _) => Vec::new(),
        };
        let formats = match self.random.below(40) {
            0..=4 => vec![1],
            5 => vec![0],
            6 => vec![0, 1],
            _ => Vec::new(),
        };
        Message::Bind {
            portal,
            statement,
            parameters,
            formats,
        }
    }

    /// Parse, Bind, Describe, Execute as drivers send them; which of them, by chance.
    fn steps_of_a_statement(&mut self) {
        let mut portal = self.portal_name();
        let statement = if portal.first() == Some(&b'c') {
            self.name('r')
        } else {
            self.statement_name()
        };
        let mut takes = self.random.percent(10);
        if portal.first() == Some(&b'c') {
            let n = self.number();
            let text = match self.random.below(4) {
                0 => format!("insert into log values ({n}) returning n /* #{n} */"),
                _ => format!("{} /* #{n} */", self.rows()),
            };
            takes = false;
            if self.random.percent(70) {
                self.send(Message::Parse {
                    name: statement.clone(),
                    text: text.into_bytes(),
                });
            }
        } else if statement.is_empty() && self.random.percent(85) || self.random.percent(60) {
            let message = self.parse(statement.clone());
            if let Message::Parse { text, .. } = &message {
                takes = text.contains(&b'$');
            }
            self.send(message);
            if self.random.percent(20) {
                self.send(Message::Describe(b'S', statement.clone()));
            }
        }
        if self.tame && !portal.is_empty() {
            portal.push(b'0' + u8::try_from(self.random.below(10)).unwrap_or(0));
        }
        let bind = self.bind(portal.clone(), statement.clone(), takes);
        self.send(bind);
        if self.random.percent(40) {
            self.send(Message::Describe(b'P', portal.clone()));
        }
        let max = if self.random.percent(15) {
            1 + self.random.below(3) as u32
        } else {
            0
        };
        if self.random.percent(92) {
            self.send(Message::Execute(portal.clone(), max));
        }
        if max > 0 && self.random.percent(60) {
            self.send(Message::Execute(portal.clone(), 0));
        }
        if self.random.percent(10) {
            self.send(Message::Close(b'P', portal));
        }
        if self.random.percent(10) {
            self.send(Message::Close(b'S', statement));
        }
    }

    fn copy_data(&mut self) {
        let n = self.number();
        let data = match self.random.below(14) {
            0 | 1 => b"x\n".to_vec(),
            2 => b"x".to_vec(),
            3 => b"\n".to_vec(),
            4 => format!("{n}\n\\.\n").into_bytes(),
            5 => Vec::new(),
            6 => format!("{n}").into_bytes(),
            _ => format!("{n}\n").into_bytes(),
        };
        self.send(Message::CopyData(data));
    }

    fn copy(&mut self) {
        let table = *self.random.pick(&["t", "log"]);
        let extended = self.random.percent(50);
        let n = self.number();
        let mut text = format!("copy {table} from stdin /* #{n} */");
        if !extended && self.random.percent(20) {
            text = format!("select {n}; {text}; select {n}");
        }
        if extended {
            self.send(Message::Parse {
                name: Vec::new(),
                text: text.into_bytes(),
            });
            self.send(Message::Bind {
                portal: Vec::new(),
                statement: Vec::new(),
                parameters: Vec::new(),
                formats: Vec::new(),
            });
            self.send(Message::Execute(Vec::new(), 0));
            // As pgjdbc does it: a Sync that the server reads inside COPY and drops.
            if self.random.percent(30) {
                self.send(Message::Sync);
            }
        } else {
            self.send(Message::Query(text.into_bytes()));
        }
        self.settle(40);
        for _ in 0..self.random.below(5) {
            self.copy_data();
            if !self.tame && self.random.percent(15) {
                match self.random.below(6) {
                    0 | 1 => self.send(Message::Sync),
                    2 => self.send(Message::Flush),
                    3 => self.anything(),
                    4 => self.send(Message::CopyDone),
                    _ => self.send(Message::CopyFail),
                }
            }
            self.settle(10);
        }
        if self.tame || self.random.percent(90) {
            let end = if self.random.percent(80) {
                Message::CopyDone
            } else {
                Message::CopyFail
            };
            self.send(end);
        }
        if extended {
            self.send(Message::Sync);
        }
    }

    /// A portal that is read over several Syncs, and what ends it between them.
    fn portal_over_syncs(&mut self) {
        self.send(Message::Query(b"begin".to_vec()));
        if self.random.percent(30) {
            self.send(Message::Query(b"savepoint a".to_vec()));
        }
        let statement = self.name('r');
        let portal = match self.random.below(3) {
            0 => Vec::new(),
            1 => self.name('q'),
            _ => self.name('c'),
        };
        let text = format!("{} /* #{} */", self.rows(), self.number());
        self.send(Message::Parse {
            name: statement.clone(),
            text: text.into_bytes(),
        });
        let bind = self.bind(portal.clone(), statement.clone(), false);
        self.send(bind);
        for _ in 0..2 + self.random.below(5) {
            let max = self.random.below(3) as u32;
            match self.random.below(16) {
                0..=5 => self.send(Message::Execute(portal.clone(), max)),
                6..=8 => self.send(Message::Sync),
                9 => {
                    let text = *self.random.pick(&[
                        "rollback to a",
                        "release a",
                        "savepoint a",
                        "commit",
                        "rollback",
                        "close all",
                        "discard all",
                        "deallocate all",
                    ]);
                    self.send(Message::Query(text.as_bytes().to_vec()));
                }
                10 => {
                    let again = self.bind(portal.clone(), statement.clone(), false);
                    self.send(again);
                }
                11 => self.send(Message::Describe(b'P', portal.clone())),
                12 => self.send(Message::Close(b'S', statement.clone())),
                13 => {
                    let name = String::from_utf8_lossy(&portal).into_owned();
                    let text = match (name.is_empty(), self.random.below(3)) {
                        (true, _) => "select 1".to_owned(),
                        (false, 0) => format!("close \"{name}\""),
                        (false, n) => format!("fetch {n} from \"{name}\""),
                    };
                    self.send(Message::Query(text.into_bytes()));
                }
                14 => self.settle(100),
                _ => {
                    let text = self.text(Place::Query);
                    self.send(Message::Query(text));
                }
            }
        }
        if self.random.percent(40) {
            self.send(Message::Close(b'P', portal));
        }
        self.send(Message::Sync);
        let end = *self.random.pick(&["commit", "rollback", "rollback to a"]);
        self.send(Message::Query(end.as_bytes().to_vec()));
    }

    /// A name that stands for something else by the time that it is used, in the ways of SQL and of the wire.
    fn name_changes(&mut self) {
        let (name, user) = (self.name('w'), self.name('u'));
        let quoted = format!("\"{}\"", String::from_utf8_lossy(&name));
        let make = |this: &mut Generator| {
            let text = loop {
                let text = this.plain();
                if !text.contains('$') {
                    break text;
                }
            };
            let n = this.number();
            if this.random.percent(50) {
                this.send(Message::Query(
                    format!("prepare {quoted} as {text} /* #{n} */").into_bytes(),
                ));
            } else {
                this.send(Message::Parse {
                    name: name.clone(),
                    text: format!("{text} /* #{n} */").into_bytes(),
                });
                this.send(Message::Sync);
            }
        };
        if self.random.percent(70) {
            make(self);
        }
        let n = self.number();
        self.send(Message::Parse {
            name: user.clone(),
            text: format!("execute {quoted} /* #{n} */").into_bytes(),
        });
        self.settle(20);
        for _ in 0..1 + self.random.below(3) {
            match self.random.below(5) {
                0 => self.send(Message::Close(b'S', name.clone())),
                1 => self.send(Message::Query(format!("deallocate {quoted}").into_bytes())),
                2 => self.send(Message::Sync),
                _ => make(self),
            }
        }
        let portal = if self.random.percent(60) {
            Vec::new()
        } else {
            self.name('q')
        };
        let bind = self.bind(portal.clone(), user, false);
        self.send(bind);
        if self.random.percent(30) {
            self.send(Message::Describe(b'P', portal.clone()));
        }
        if self.random.percent(20) {
            make(self);
        }
        self.send(Message::Execute(portal, 0));
        self.send(Message::Sync);
    }

    /// One message, without regard to what it means now.
    fn anything(&mut self) {
        let message = match self
            .random
            .weighted(&[10, 8, 8, 5, 9, 4, 12, 3, 3, 2, 2, 2, 1, 2])
        {
            0 => Message::Query(self.text(Place::Query)),
            1 => {
                let name = self.statement_name();
                self.parse(name)
            }
            2 => {
                let (portal, statement) = match self.portal_name() {
                    portal if portal.first() == Some(&b'c') => (portal, self.name('r')),
                    portal => (portal, self.statement_name()),
                };
                self.bind(portal, statement, false)
            }
            3 => {
                let kind = *self.random.pick(b"SP");
                let name = if kind == b'S' {
                    self.statement_name()
                } else {
                    self.portal_name()
                };
                Message::Describe(kind, name)
            }
            4 => Message::Execute(
                self.portal_name(),
                if self.random.percent(20) {
                    1 + self.random.below(2) as u32
                } else {
                    0
                },
            ),
            5 => {
                let kind = *self.random.pick(b"SP");
                let name = if kind == b'S' {
                    self.statement_name()
                } else {
                    self.portal_name()
                };
                Message::Close(kind, name)
            }
            6 => Message::Sync,
            7 => Message::Flush,
            8 => return self.copy_data(),
            9 => Message::CopyDone,
            10 => Message::CopyFail,
            11 => Message::Call(
                *self.random.pick(&[INT4PL, 99_999]),
                vec![b"1".to_vec(), b"2".to_vec()],
            ),
            12 if self.profile.ends => match self.random.below(4) {
                0 => Message::Terminate,
                1 => Message::Raw(*self.random.pick(b"PBDEC"), vec![b'x'; self.random.below(3)]),
                2 => Message::Raw(*self.random.pick(b"SH"), b"x".to_vec()),
                _ => Message::Raw(*self.random.pick(b"yWR"), b"x".to_vec()),
            },
            _ => Message::Sync,
        };
        self.send(message);
    }

    /// COPY that fails under a Sync, and behind it what would be answered wrongly by whoever counts wrongly.
    fn shifted(&mut self) {
        let name = self.name('w');
        if self.random.percent(70) {
            let text = self.plain();
            self.send(Message::Close(b'S', name.clone()));
            self.send(Message::Parse {
                name: name.clone(),
                text: format!("{text} /* #{} */", self.number).into_bytes(),
            });
            self.send(Message::Sync);
        }
        let n = self.number();
        if self.random.percent(50) {
            self.send(Message::Query(
                format!("copy t from stdin /* #{n} */").into_bytes(),
            ));
        } else {
            self.send(Message::Parse {
                name: Vec::new(),
                text: format!("copy t from stdin /* #{n} */").into_bytes(),
            });
            self.send(Message::Bind {
                portal: Vec::new(),
                statement: Vec::new(),
                parameters: Vec::new(),
                formats: Vec::new(),
            });
            self.send(Message::Execute(Vec::new(), 0));
        }
        self.settle(50);
        self.send(Message::CopyData(b"x\n".to_vec()));
        self.send(Message::Sync);
        if self.random.percent(50) {
            self.send(Message::CopyDone);
        }
        for _ in 0..3 + self.random.below(6) {
            match self.random.below(9) {
                0 => self.send(Message::Close(b'S', name.clone())),
                1 | 2 => {
                    let message = self.parse(name.clone());
                    self.send(message);
                }
                3 | 4 => self.send(Message::Sync),
                5 => {
                    self.send(Message::Bind {
                        portal: Vec::new(),
                        statement: name.clone(),
                        parameters: Vec::new(),
                        formats: Vec::new(),
                    });
                    self.send(Message::Execute(Vec::new(), 0));
                }
                6 => {
                    let text = self.rows();
                    self.send(Message::Query(text.into_bytes()));
                }
                _ => {
                    let text = self.text(Place::Query);
                    self.send(Message::Query(text));
                }
            }
        }
        self.settle(50);
        self.send(Message::Bind {
            portal: Vec::new(),
            statement: name,
            parameters: Vec::new(),
            formats: Vec::new(),
        });
        self.send(Message::Execute(Vec::new(), 0));
        self.send(Message::Sync);
    }

    fn round(&mut self) {
        let weights: &[usize] = if self.tame {
            &[35, 45, 14, 0, 2, 0, 2, 0, 4, 2]
        } else {
            &[20, 30, 16, 26, 3, 2, 3, 5, 5, 5]
        };
        match self.random.weighted(weights) {
            0 => {
                let text = self.text(Place::Query);
                let copies = text.windows(10).any(|w| w == b"from stdin");
                self.send(Message::Query(text));
                if copies && (self.tame || self.random.percent(60)) {
                    // Once for each COPY that there may be, and harmless where there is none.
                    for _ in 0..3 {
                        self.send(Message::CopyDone);
                    }
                }
            }
            1 => {
                for _ in 0..=self.random.weighted(&[50, 25, 15, 10]) {
                    self.steps_of_a_statement();
                    if self.tame && self.copies_last() {
                        self.send(Message::CopyDone);
                    }
                }
                if self.tame || self.random.percent(80) {
                    self.send(Message::Sync);
                }
            }
            2 => self.copy(),
            3 => {
                for _ in 0..=self.random.below(6) {
                    self.anything();
                }
            }
            4 => {
                let rules = self.random.below(3);
                // Otherwise they change under what waits and what is on its way.
                self.settle(50);
                self.steps.push(Step::Rules(rules));
            }
            5 if self.profile.simulated => {
                // A target that misbehaves, and a client that goes on.
                self.misbehave();
                for _ in 0..3 {
                    let text = self.text(Place::Query);
                    self.send(Message::Query(text));
                }
            }
            6 => match self.random.below(3) {
                0 if self.profile.simulated => self.steps.push(Step::Cancel),
                1 if self.profile.simulated => {
                    let what = *self
                        .random
                        .pick(&[Unasked::Notice, Unasked::Status, Unasked::Notification]);
                    self.steps.push(Step::Unasked(what));
                }
                _ => self.steps.push(Step::CatalogChanged),
            },
            7 => self.shifted(),
            8 => self.portal_over_syncs(),
            9 => self.name_changes(),
            _ => self.send(Message::Sync),
        }
        self.settle(if self.tame { 70 } else { 40 });
    }

    /// Whether the statement sent last begins COPY from the client, if it gets so far.
    fn copies_last(&self) -> bool {
        self.steps
            .iter()
            .rev()
            .take(8)
            .any(|step| matches!(step, Step::Send(Message::Parse { text, .. }) if text.windows(10).any(|w| w == b"from stdin")))
    }

    fn misbehave(&mut self) {
        match self.random.below(3) {
            0 => {
                self.steps.push(Step::Settle);
                let tag = *self.random.pick(b"CZ123DTstnIGHVdcK");
                self.steps.push(Step::Unowed(tag));
            }
            1 => {
                let tag = *self.random.pick(b"123stnVWK");
                self.steps.push(Step::Wrong(tag));
            }
            _ => {
                let (name, value) = *self.random.pick(&[
                    ("standard_conforming_strings", "off"),
                    ("client_encoding", "SJIS"),
                    ("client_encoding", "LATIN1"),
                ]);
                self.steps.push(Step::Contradicts(name, value));
            }
        }
    }
}
