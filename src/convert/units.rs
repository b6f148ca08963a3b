//! Times and sizes of nginx, as those of bowshock.

/// A time such as `60`, `10m`, `1h 30m` or `500ms`, as a duration. `None` if it cannot be read.
pub fn duration(text: &str) -> Option<String> {
    let mut rest = text.trim();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let behind = &rest[digits..];
        let end = behind.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let (number, unit) = match unit {
            "" | "s" => (number, "s"),
            "ms" | "m" | "h" | "d" => (number, unit),
            "w" => (number.saturating_mul(7), "d"),
            "M" => (number.saturating_mul(30), "d"),
            "y" => (number.saturating_mul(365), "d"),
            _ => return None,
        };
        parts.push((number, unit));
        rest = next.trim_start();
    }
    match parts.as_slice() {
        [] => None,
        [(number, "s")] => Some(shortest(*number)),
        [(0, _)] => Some("0s".into()),
        many => Some(many.iter().map(|(number, unit)| format!("{number}{unit}")).collect()),
    }
}

/// Whole seconds in the largest unit that fits.
fn shortest(seconds: u64) -> String {
    match seconds {
        0 => "0s".into(),
        _ if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// A size such as `64M`, `1g` or `8192`, in bowshock's spelling. `None` if it cannot be read.
pub fn size(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) = match text.strip_suffix(['k', 'm', 'g']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text.as_str(), ""),
    };
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "" if number > 0 && number.is_multiple_of(1024) => format!("{}k", number / 1024),
        "" => format!("{number}b"),
        unit => format!("{number}{unit}"),
    })
}

/// Bytes of a size.
pub fn bytes(text: &str) -> Option<u64> {
    let text = size(text)?;
    let factor = match text.chars().last()? {
        'k' => 1 << 10,
        'm' => 1 << 20,
        'g' => 1 << 30,
        _ => 1,
    };
    text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic())
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        for (text, time) in [
            ("60", "1m"),
            ("65", "65s"),
            ("600s", "10m"),
            ("10m", "10m"),
            ("1h 30m", "1h30m"),
            ("500ms", "500ms"),
            ("24h", "24h"),
            ("1w", "7d"),
            ("0", "0s"),
        ] {
            assert_eq!(duration(text).as_deref(), Some(time), "{text}");
        }
        assert_eq!(duration("epoch"), None);
        for (text, written, count) in
            [("1G", "1g", 1 << 30), ("64M", "64m", 64 << 20), ("8192", "8k", 8192), ("128", "128b", 128)]
        {
            assert_eq!((size(text).as_deref(), bytes(text)), (Some(written), Some(count)), "{text}");
        }
        assert_eq!(size("x"), None);
    }
}
