//! `bowshock help`: commands by clap, keys and tables of the configuration by their descriptions.

use std::process::ExitCode;

use super::{REFUSED, output};
use crate::config;

/// Tells about a command or a key; without a word about the program.
pub fn help(program: clap::Command, word: Option<&str>, markdown: bool) -> ExitCode {
    if markdown {
        return output(&config::reference());
    }
    let Some(word) = word else { return of_command(program, &["--help"]) };
    if program.find_subcommand(word).is_some() {
        return of_command(program, &[word, "--help"]);
    }
    match config::help(word) {
        Ok(text) => output(&text),
        Err(error) => {
            eprintln!("bowshock: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

/// Prints the help of clap that these words ask for.
fn of_command(program: clap::Command, words: &[&str]) -> ExitCode {
    let name = [program.get_name().to_owned()];
    let words = words.iter().map(|word| (*word).to_owned());
    match program.try_get_matches_from(name.into_iter().chain(words)) {
        Err(asked) if asked.print().is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::from(REFUSED),
    }
}
