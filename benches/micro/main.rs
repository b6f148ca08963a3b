//! How many instructions, and how much time, do single steps of a request take, and a reload?
//!
//! Time is that of this machine at this moment: the least of many batches tells the most, the median what is usual.
//! Instructions are those of the program alone, counted by valgrind (see [`instructions`]); they are the same everywhere
//! to about one percent, so they show what a change of the program has changed.
//!
//! `make bench-micro` runs it (about two minutes), `make bench-micro BENCH_ARGS="--only route"` what has `route` in its
//! name. The exit code is 0 whatever the figures are, 1 when something could not be run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report, and how far it is")]

mod inputs;
mod instructions;
mod steps;
mod time;

use std::{error::Error, process::ExitCode};

use steps::{STEPS, Step};

/// The allocator of the program (`src/main.rs`), which is a part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the arguments ask for.
enum Wanted {
    /// Figures of the steps with this in their name.
    Figures(String),
    /// Only to do a step so many times, for whoever counts.
    Count(&'static Step, u64),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; who does not, looks for tests, and there are none.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let outcome = wanted(&arguments).and_then(|wanted| match wanted {
        Wanted::Figures(only) => print_figures(&only),
        Wanted::Count(step, times) => {
            (step.prepare)()(times);
            Ok(())
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wanted(arguments: &[String]) -> Result<Wanted, Box<dyn Error>> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    match words[..] {
        [] => Ok(Wanted::Figures(String::new())),
        ["--only", name] => Ok(Wanted::Figures(name.into())),
        [instructions::COUNT, name, times] => {
            let step = STEPS.iter().find(|step| step.name == name).ok_or("no such step")?;
            Ok(Wanted::Count(step, times.parse()?))
        }
        _ => Err(format!("what is {}? There is only --only NAME.", words.join(" ")).into()),
    }
}

fn print_figures(only: &str) -> Result<(), Box<dyn Error>> {
    let chosen: Vec<&Step> = STEPS.iter().filter(|step| step.name.contains(only)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(format!("no step has {only} in its name; there are {}", names.join(", ")).into());
    }
    println!("| step | instructions | ns, least | ns, median |");
    println!("|---|---:|---:|---:|");
    for Step { name, prepare } in chosen {
        eprintln!("{name}");
        let time = time::measure(&mut *prepare());
        let instructions = instructions::count(name, time.least)?;
        println!("| {name} | {} | {} | {} |", short(instructions), short(time.least), short(time.median));
    }
    Ok(())
}

/// Tenths only where they are no noise.
fn short(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}
