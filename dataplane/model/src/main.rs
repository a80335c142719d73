//! `headgate-model`: what `cargo xtask model` runs.
//!
//! ```text
//! headgate-model [--cases N] [--seed S] [--real N] [--server BIN]… [--corpus DIR] [--show SEED] [--each FILE]
//! ```

use headgate_model::real::{self, Postgres};
use headgate_model::search::{self, Found};
use headgate_model::{Lab, Profile, fuzz, generate, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Default)]
struct Args {
    cases: u64,
    seed: u64,
    real: u64,
    servers: Vec<PathBuf>,
    corpus: Option<PathBuf>,
    show: Option<u64>,
    /// Every violation is written there, not the first of each kind alone.
    each: Option<PathBuf>,
}

fn args() -> Result<Args, String> {
    let mut args = Args {
        seed: 1,
        ..Args::default()
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{word} {value}: {e}"));
        match word.as_str() {
            "--cases" => args.cases = number()?,
            "--seed" => args.seed = number()?,
            "--real" => args.real = number()?,
            "--server" => args.servers.push(PathBuf::from(value)),
            "--corpus" => args.corpus = Some(PathBuf::from(value)),
            "--show" => args.show = Some(number()?),
            "--each" => args.each = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown: {word}")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    match args().and_then(|args| all(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("headgate-model: {why}");
            ExitCode::FAILURE
        }
    }
}

fn all(args: &Args) -> Result<bool, String> {
    let mut good = true;
    if let Some(folder) = &args.corpus {
        for seed in args.seed..args.seed + 48 {
            let case = generate::case(seed, Profile::SIMULATED);
            std::fs::write(folder.join(format!("case_{seed}")), fuzz::encode(&case))
                .map_err(|e| format!("{}: {e}", folder.display()))?;
        }
    }
    let mut lab = Lab::new();
    if let Some(seed) = args.show {
        // With a server: as a real one would be told it.
        let profile = if args.servers.is_empty() {
            Profile::SIMULATED
        } else {
            Profile::REAL
        };
        let case = generate::case(seed, profile);
        let result = run(&mut lab, &case);
        let none = run::Violation {
            kind: "nothing",
            detail: format!("{result:?}"),
        };
        print!("{}", search::told(&case, &result.err().unwrap_or(none)));
    }
    // A panic of the gate is one finding among others, told with its case.
    std::panic::set_hook(Box::new(|_| {}));
    if args.cases > 0 {
        let started = Instant::now();
        let found = search::search(&mut lab, args.seed, args.cases, Profile::SIMULATED);
        write_each(args, &found)?;
        good &= report("simulated", &found, started, &mut lab);
    }
    for bin in &args.servers {
        good &= against(bin, args, &mut lab)?;
    }
    Ok(good)
}

/// A real server, first without the gate and then behind it.
fn against(bin: &std::path::Path, args: &Args, lab: &mut Lab) -> Result<bool, String> {
    let mut postgres = Postgres::start(bin).map_err(|e| format!("{}: {e}", bin.display()))?;
    let name = format!("PostgreSQL {}", postgres.version);
    let (mut committed, mut differ, started) = (Vec::new(), 0, Instant::now());
    // A fifth without a gate is enough to know the simulated server for what it is.
    let direct = args.real.div_ceil(5);
    for seed in args.seed..args.seed + direct {
        let case = generate::case(seed, Profile::REAL);
        if let Err(why) = real::compare(&mut postgres, &case, &mut committed) {
            differ += 1;
            if differ <= 3 {
                let (small, again) = search::shrink_difference(&mut postgres, &case);
                println!(
                    "{name}, simulated and real, seed {seed}: {}\n  {:#?}",
                    if again.is_empty() { &why } else { &again },
                    small.steps
                );
            }
        }
    }
    let same = same(&mut postgres, &mut committed)?;
    println!(
        "{name} without a gate: {direct} cases, {differ} differ from the simulated one, committed rows the same: {same}, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let started = Instant::now();
    let found = search::search_real(lab, args.seed + direct, args.real, &mut postgres, &mut committed);
    write_each(args, &found)?;
    let rows = self::same(&mut postgres, &mut committed)?;
    println!("{name} behind the gate: committed rows the same: {rows}");
    Ok(report(&format!("{name} behind the gate"), &found, started, lab) && differ == 0 && same && rows)
}

fn write_each(args: &Args, found: &Found) -> Result<(), String> {
    let Some(file) = &args.each else { return Ok(()) };
    let mut text = String::new();
    for (seed, kind, detail) in &found.each {
        text += &format!("{seed}\t{kind}\t{}\n", detail.replace('\n', " | "));
    }
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}

fn same(postgres: &mut Postgres, committed: &mut Vec<i64>) -> Result<bool, String> {
    committed.sort_unstable();
    let real = postgres.committed().map_err(|e| e.to_string())?;
    let same = real == *committed;
    committed.clear();
    Ok(same)
}

fn report(name: &str, found: &Found, started: Instant, lab: &mut Lab) -> bool {
    println!(
        "{name}: {} cases, {} steps, {} statements executed, {} held, {} compared to the end, {:.1} s",
        found.cases,
        found.messages,
        found.executed,
        found.held,
        found.compared,
        started.elapsed().as_secs_f64()
    );
    for (reason, count) in &found.ended {
        println!("  ended {count:>7}: {reason}");
    }
    for (kind, (count, nth, case, violation)) in &found.violations {
        println!("\n{count} × {kind}; first in case {nth}, seed {}", case.seed);
        let (small, again) = search::shrink(lab, case, kind);
        print!(
            "{}",
            search::told(
                &small,
                if again.detail.is_empty() {
                    violation
                } else {
                    &again
                }
            )
        );
    }
    found.violations.keys().all(|kind| search::is_noted(kind))
}
