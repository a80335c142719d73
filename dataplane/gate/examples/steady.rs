//! What a statement costs the gate, without sockets: run it under `valgrind --tool=callgrind`, with two counts of rounds, and
//! divide the difference.
//!
//! `steady prepared|simple|extended masked|plain RULES SESSIONS ROUNDS`

#![allow(clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/common/steady.rs"]
mod steady;

use steady::{Mode, Steady};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, masked, rules, sessions, rounds] = &args[..] else {
        eprintln!("usage: steady prepared|simple|extended masked|plain RULES SESSIONS ROUNDS");
        std::process::exit(2);
    };
    let mode = match mode.as_str() {
        "simple" => Mode::Simple,
        "extended" => Mode::Extended,
        _ => Mode::Prepared,
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (sessions, rounds) = (number(sessions), number(rounds));
    let mut steady = Steady::new(mode, masked == "masked", number(rules), sessions);
    let started = std::time::Instant::now();
    let mut events = 0;
    for round in 0..rounds {
        steady.round();
        if round % 16 == 15 {
            events += steady.drain();
        }
    }
    let ns = started.elapsed().as_nanos() as f64 / (rounds * sessions).max(1) as f64;
    println!(
        "{events} events, {ns:.0} ns a statement, the client got {} bytes",
        steady.expected.len()
    );
}
