//! Sizes and durations as people write them.

use std::time::Duration;

/// Reads `10GiB`, `10G` (= GiB) or plain bytes; a fraction is fine if it comes out whole.
///
/// # Errors
///
/// Not a size, or more than 2⁶³ bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(at).unwrap_or((text, ""));
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        "p" | "pib" => 50,
        other => {
            return Err(format!(
                "unknown unit {other:?}: use KiB, MiB, GiB, TiB or plain bytes"
            ));
        }
    };
    let too_big = || format!("{text} is more than 8 EiB");
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err(format!(
            "{text:?} is no size: write 10GiB or a number of bytes"
        ));
    }
    let whole: u64 = whole.parse().map_err(|_| too_big())?;
    let mut bytes = u128::from(whole) << shift;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
        let scale = 10_u128.checked_pow(digits).ok_or_else(too_big)?;
        let part: u128 = fraction.parse().map_err(|_| too_big())?;
        let scaled = part.checked_mul(1 << shift).ok_or_else(too_big)?;
        if scaled % scale != 0 {
            return Err(format!("{text} is not a whole number of bytes"));
        }
        bytes += scaled / scale;
    }
    u64::try_from(bytes)
        .ok()
        .filter(|b| *b <= 1 << 63)
        .ok_or_else(too_big)
}

/// Bytes for people: `1.5 GiB`, at most one decimal.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = (u64::BITS - bytes.leading_zeros()).saturating_sub(1) / 10;
    let unit = UNITS.get(step as usize).copied().unwrap_or("EiB");
    let shift = step * 10;
    let tenths = (u128::from(bytes) * 10) >> shift;
    if tenths.is_multiple_of(10) {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// Reads `90s`, `1h30m`, `500ms`.
///
/// # Errors
///
/// Not a duration, or a negative one.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 90s, 5m or 1h30m");
    let signed: jiff::SignedDuration = text.trim().parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

/// A duration for people, as [`parse_duration`] reads it: `1m 30s`, `500ms`.
pub fn show_duration(duration: Duration) -> String {
    let (secs, ms) = (duration.as_secs(), duration.subsec_millis());
    let parts = [
        (secs / 3600, "h"),
        (secs / 60 % 60, "m"),
        (secs % 60, "s"),
        (u64::from(ms), "ms"),
    ];
    let said: Vec<String> = (parts.iter())
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if said.is_empty() {
        "0s".to_owned()
    } else {
        said.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_units() {
        for (text, bytes) in [
            ("10GiB", 10 << 30),
            ("10G", 10 << 30),
            ("1.5 MiB", 3 << 19),
            ("4096", 4096),
            ("0", 0),
            ("64TiB", 64 << 40),
            ("8192P", 1 << 63),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "GiB",
            "ten",
            "10GB",
            "-1",
            "1.2.3",
            "1.3",
            "99999999999P",
            "9223372036854775809",
            ".5G",
            "1.00000000000000000000000000000000000000000000000001G",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (3 << 19, "1.5 MiB"),
            (10 << 30, "10 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn durations_are_shown_as_they_are_read() {
        for (ms, text) in [
            (0, "0s"),
            (500, "500ms"),
            (84_000, "1m 24s"),
            (5_400_000, "1h 30m"),
            (90_061_001, "25h 1m 1s 1ms"),
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(show_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }
}
