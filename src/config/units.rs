//! Durations (`"1h30m"`) and sizes (`"512k"`): strings with units, never bare numbers.

use std::time::Duration;

use super::diagnostic::{Problem, show};

/// Units of durations in milliseconds, largest first.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of sizes in bytes, largest first.
const SIZES: [(&str, u64); 5] = [("t", 1 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10), ("b", 1)];

/// Longest duration: ten years, which can safely be added to any clock.
const LONGEST: u64 = 3650 * 86_400_000;

/// Reads `"10m"`, `"500ms"`, `"1h30m"`.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    match sum(text, &DURATIONS) {
        Some(total) if total <= LONGEST => Ok(Duration::from_millis(total)),
        Some(_) => Err(Problem::new(format!("{} is too long", show(text)), "at most ten years (`3650d`)")),
        None => {
            let example = match guess(text, &DURATIONS, long_duration) {
                Some(meant) => format!("write `{:?}`", milliseconds(meant)),
                None => "write for example `\"500ms\"`, `\"30s\"`, `\"10m\"` or `\"1h30m\"`".into(),
            };
            let problem =
                Problem::new(format!("{} is not a duration", show(text)), "numbers with units, no spaces");
            Err(problem.help(format!("{example}; the units are `ms`, `s`, `m`, `h` and `d`")))
        }
    }
}

/// Reads `"512k"`, `"1g"`: bytes, with a k of 1024; `"none"` is no limit.
pub fn size(text: &str) -> Result<Option<u64>, Problem> {
    if text == "none" {
        return Ok(None);
    }
    let example = match sum(&text.to_ascii_lowercase(), &SIZES) {
        Some(0) => return Err(no_limit(text)),
        Some(bytes) => return Ok(Some(bytes)),
        None => match guess(text, &SIZES, long_size) {
            Some(0) => return Err(no_limit(text)),
            Some(meant) => format!("write `{:?}`", show_size(Some(meant))),
            None => "write for example `\"512k\"` or `\"1g\"`, or `\"none\"` for no limit".into(),
        },
    };
    let problem = Problem::new(format!("{} is not a size", show(text)), "a number with a unit, no spaces");
    Err(problem.help(format!("{example}; the units are `b`, `k`, `m`, `g` and `t`")))
}

/// Reads `"20%"`: a share in whole percent, from 0 to 100.
pub fn share(text: &str) -> Result<u32, Problem> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok());
    if let Some(percent @ 0..=100) = number {
        return Ok(percent);
    }
    let problem = Problem::new(format!("{} is not a share", show(text)), "from `0%` to `100%`, no spaces");
    let meant = text.trim().trim_end_matches('%').trim_end().parse::<f64>().ok().map(|meant| {
        match text.contains('%') {
            true => meant,
            false if meant <= 1.0 => meant * 100.0,
            false => meant,
        }
    });
    Err(match meant.map(f64::round) {
        // A small whole number: the cast loses nothing.
        Some(meant @ 0.0..=100.0) => problem.help(format!("write `\"{}%\"`", meant as u32)),
        _ => problem.help("write for example `\"20%\"`"),
    })
}

/// Periods of rates in nanoseconds.
const PERIODS: [(&str, u64); 3] =
    [("r/s", 1_000_000_000), ("r/m", 60_000_000_000), ("r/h", 3_600_000_000_000)];

/// Reads `"8r/s"`, `"100r/m"`, `"500r/h"`.
pub fn rate(text: &str) -> Result<Rate, Problem> {
    let parsed = PERIODS.iter().find_map(|(unit, _)| Some((text.strip_suffix(unit)?, *unit)));
    let count = parsed.and_then(|(number, unit)| {
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        Some((number.parse::<u32>().ok().filter(|_| digits)?, unit))
    });
    let problem = |label: &str| Problem::new(format!("{} is not a rate", show(text)), label);
    match count {
        Some((0, _)) => Err(problem("every request would be refused")
            .help("to refuse all requests write `answer = 403` in a route")),
        Some((requests, unit)) if requests <= 1_000_000 => Ok(Rate { requests, unit }),
        Some(_) => Err(problem("at most a million")),
        None => {
            let number = text.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            let number = if number.is_empty() || number.len() > 6 { "8" } else { number };
            let unit = if text.contains('h') {
                "r/h"
            } else if text.contains('m') {
                "r/m"
            } else {
                "r/s"
            };
            Err(problem("a whole number of requests with a unit, no spaces").help(format!(
                "write for example `\"{number}{unit}\"`; the units are `r/s`, `r/m` and `r/h`"
            )))
        }
    }
}

/// Rate: requests in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of requests, at least one.
    requests: u32,
    /// Period, a word of [`PERIODS`].
    unit: &'static str,
}

impl Rate {
    /// The time between two requests, in nanoseconds; never 0.
    pub fn interval(self) -> u64 {
        let period = PERIODS.iter().find(|(unit, _)| *unit == self.unit).map_or(1, |(_, period)| *period);
        (period / u64::from(self.requests)).max(1)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.requests, self.unit)
    }
}

/// The shortest form of a duration in whole milliseconds, as every duration of a file is.
pub fn show_duration(duration: Duration) -> String {
    milliseconds(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The shortest form of a size.
pub fn show_size(size: Option<u64>) -> String {
    let Some(bytes) = size else { return "none".into() };
    let (unit, factor) =
        SIZES.into_iter().find(|(_, factor)| bytes >= *factor && bytes % factor == 0).unwrap_or(("b", 1));
    format!("{}{unit}", bytes / factor)
}

fn no_limit(text: &str) -> Problem {
    Problem::new(format!("{} would refuse every body", show(text)), "nothing fits in this")
        .help("write `\"none\"` for no limit")
}

fn milliseconds(mut left: u64) -> String {
    if left == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, factor) in DURATIONS {
        if left >= factor {
            text.push_str(&format!("{}{unit}", left / factor));
            left %= factor;
        }
    }
    text
}

/// Adds up `1h30m`; units must decrease, so that a slip such as `1m30m` is found.
fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (mut rest, mut units, mut total) = (text, units, 0_u64);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, next) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let place = units.iter().position(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(units[place].1)?)?;
        (rest, units) = (next, &units[place + 1..]);
    }
    (!text.is_empty()).then_some(total)
}

/// Guesses the meaning of a number with spaces, a fraction, a long unit or no unit.
fn guess(text: &str, units: &[(&str, u64)], word: fn(&str) -> Option<&'static str>) -> Option<u64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let unit = word(unit)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    // Exact enough for a suggestion: no factor here needs more than the 52 bits of a float.
    let total = number * *factor as f64;
    (total < 1e15).then_some(total.round() as u64)
}

fn long_duration(word: &str) -> Option<&'static str> {
    Some(match word {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => "ms",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    })
}

fn long_size(word: &str) -> Option<&'static str> {
    Some(match word {
        "" | "b" | "byte" | "bytes" => "b",
        "k" | "kb" | "kib" => "k",
        "m" | "mb" | "mib" => "m",
        "g" | "gb" | "gib" => "g",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        let ms = |text| duration(text).map(|d| d.as_millis()).ok();
        assert_eq!(ms("0s"), Some(0));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("10m"), Some(600_000));
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("1d2h3m4s5ms"), Some(93_784_005));
        for bad in
            ["", "10", "m", "10 m", "1m1h", "1m1m", "-1s", "1.5h", "10M", "3651d", "99999999999999999999d"]
        {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let bytes = |text| size(text).ok();
        assert_eq!(bytes("none"), Some(None));
        assert_eq!(bytes("512k"), Some(Some(524_288)));
        assert_eq!(bytes("1G"), Some(Some(1 << 30)));
        assert_eq!(bytes("100b"), Some(Some(100)));
        for bad in ["", "0b", "100", "1gb", "1 g", "k", "-1k", "99999999999t"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rates_are_intervals() {
        let interval = |text| rate(text).map(Rate::interval).ok();
        assert_eq!(interval("8r/s"), Some(125_000_000));
        assert_eq!(interval("30r/m"), Some(2_000_000_000));
        assert_eq!(interval("1r/h"), Some(3_600_000_000_000));
        assert_eq!(rate("30r/m").map(|rate| rate.to_string()).ok().as_deref(), Some("30r/m"));
        for bad in ["", "8", "8/s", "r/s", "0r/s", "+8r/s", "-1r/s", "1.5r/s", "8 r/s", "8r/d", "1000001r/s"]
        {
            assert_eq!(interval(bad), None, "{bad:?}");
        }
        assert!(rate("30 per minute").unwrap_err().help.unwrap().contains("\"30r/m\""));
    }

    #[test]
    fn what_was_meant_is_suggested() {
        let help = |problem: Problem| problem.help.unwrap_or_default();
        for (text, suggestion) in
            [("5 minutes", "5m"), ("10", "10s"), ("1.5h", "1h30m"), ("90 sec", "90s"), ("10M", "10m")]
        {
            let suggestion = format!("{:?}", show_duration(duration(suggestion).unwrap()));
            assert!(help(duration(text).unwrap_err()).contains(&suggestion), "{text} {suggestion}");
        }
        for (text, suggestion) in
            [("1 GB", "\"1g\""), ("1.5g", "\"1536m\""), ("2048", "\"2k\""), ("0", "none")]
        {
            assert!(help(size(text).unwrap_err()).contains(suggestion), "{text} {suggestion}");
        }
    }

    #[test]
    fn what_is_shown_reads_the_same() {
        for text in ["0s", "1ms", "1m30s", "1d12h", "3650d", "1s500ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["none", "1b", "1536m", "1g", "3t", "1025b"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
