//! Times in the formats of zip archives.

/// MS-DOS date and time, in UTC: with a resolution of two seconds, from 1980 on. Earlier times become the first one.
pub(super) fn dos(unix: u32) -> u32 {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = date(days);
    match year.checked_sub(1980) {
        None => 1 << 21 | 1 << 16,
        Some(years) => {
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            years << 25 | month << 21 | day << 16 | hour << 11 | minute << 5 | (second / 2)
        }
    }
}

/// Whether a time fits the extra field, which is signed: until January 2038.
pub(super) fn fits_extra(unix: u32) -> bool {
    i32::try_from(unix).is_ok()
}

/// Date this many days after 1970-01-01. Years are counted from March, so that leap days are last.
fn date(days: u32) -> (u32, u32, u32) {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_423), (2025, 12, 1));
        assert_eq!(date(u32::MAX / 86_400), (2106, 2, 7));
    }

    #[test]
    fn dos_times() {
        let packed = |year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32| {
            (year - 1980) << 25 | month << 21 | day << 16 | hour << 11 | minute << 5 | (second / 2)
        };
        assert_eq!(dos(784_111_777), packed(1994, 11, 6, 8, 49, 37));
        assert_eq!(dos(0), packed(1980, 1, 1, 0, 0, 0));
        assert_eq!(dos(u32::MAX), packed(2106, 2, 7, 6, 28, 15));
    }
}
