//! `bowshock help`: commands by clap, keys and tables of the configuration by their descriptions.

use std::process::ExitCode;

use super::REFUSED;
use crate::config;

/// Tells about a command or a key; without a word about the program.
pub fn help(mut program: clap::Command, word: Option<&str>, markdown: bool) -> ExitCode {
    if markdown {
        print!("{}", config::reference());
        return ExitCode::SUCCESS;
    }
    // Fills in what clap derives from the whole program, such as the name in the usage line.
    program.build();
    let Some(word) = word else {
        print!("{}", program.render_long_help());
        return ExitCode::SUCCESS;
    };
    if let Some(command) = program.find_subcommand_mut(word) {
        print!("{}", command.render_long_help());
        return ExitCode::SUCCESS;
    }
    match config::help(word) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bowshock: {error}");
            ExitCode::from(REFUSED)
        }
    }
}
