//! `bowshock help`: commands by clap, keys and tables of the configuration by their descriptions.

use std::process::ExitCode;

use super::{REFUSED, output};
use crate::config;

/// Prints the help of a command or a key; without a word that of the program.
pub fn help(program: clap::Command, word: Option<&str>, markdown: bool) -> ExitCode {
    if markdown {
        return output(&config::reference());
    }
    let Some(word) = word else { return command_help(program, &["--help"]) };
    if program.find_subcommand(word).is_some() {
        return command_help(program, &[word, "--help"]);
    }
    match config::help(word) {
        Ok(text) => output(&text),
        Err(error) => {
            eprintln!("bowshock: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

/// Prints clap's help for these arguments.
fn command_help(program: clap::Command, words: &[&str]) -> ExitCode {
    let name = [program.get_name().to_owned()];
    let words = words.iter().map(|word| (*word).to_owned());
    match program.try_get_matches_from(name.into_iter().chain(words)) {
        Err(help) if help.print().is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::from(REFUSED),
    }
}
