//! What is measured, and how long.

use std::time::Duration;

use crate::load;

/// The arguments.
#[derive(Debug)]
pub struct Options {
    pub quick: bool,
    /// Names of loads; all when there are none.
    only: Vec<String>,
}

impl Options {
    /// Reads the arguments behind the program's name; tells what is wrong with them.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { quick: false, only: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--quick" => options.quick = true,
                "--only" => {
                    let names = arguments.next().ok_or("--only needs names of loads")?;
                    options.only.extend(names.split(',').map(Into::into));
                }
                unknown => return Err(format!("what is {unknown}? There are --quick and --only NAME,NAME.")),
            }
        }
        let known = load::names();
        match options.only.iter().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(format!("there is no load {unknown}. There are: {}", known.join(", "))),
            None => Ok(options),
        }
    }

    /// Is the load of this name wanted?
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// How often everything is measured. Many short rounds tell more than a few long ones: what disturbs the machine comes
    /// and goes within seconds.
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { 7 }
    }

    /// The same for the loads that start servers of their own, which takes longer.
    pub fn long_rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }

    /// How many connections are idle.
    pub fn connections(&self) -> usize {
        if self.quick { 2_000 } else { 8_000 }
    }

    /// How long the requests of a run with reloads come.
    pub fn reload_time(&self) -> Duration {
        Duration::from_secs(if self.quick { 4 } else { 10 })
    }

    /// The command that runs the same again.
    pub fn command(&self) -> String {
        let quick = self.quick.then(|| "--quick".to_owned());
        let only = (!self.only.is_empty()).then(|| format!("--only {}", self.only.join(",")));
        let arguments: Vec<String> = quick.into_iter().chain(only).collect();
        match arguments.join(" ") {
            none if none.is_empty() => "make bench".into(),
            one if !one.contains(' ') => format!("make bench BENCH_ARGS={one}"),
            several => format!("make bench BENCH_ARGS='{several}'"),
        }
    }
}
