//! Sizes as people write them: 512MiB, 4GiB, 1.5GB, 1000000.

/// Bytes of a size with an optional unit (KiB, MiB, GiB, TiB, KB, MB, GB, TB, or their first letter for powers of 1024).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| format!("\"{text}\" is not a size; write 512MiB or 4GiB"))?;
    let factor = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "t" | "tib" => 1_099_511_627_776.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        unit => return Err(format!("\"{unit}\" is not a unit; use KiB, MiB, GiB or TiB")),
    };
    let bytes = number * factor;
    // Below one MiB not even a read buffer fits.
    if !(1_048_576.0..1e18).contains(&bytes) {
        return Err(format!("\"{text}\" is not usable; give at least 1MiB"));
    }
    Ok(bytes as u64)
}

/// A size for people, with one decimal and a binary unit.
pub(crate) fn show(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (0..units.len() - 1).take_while(|i| bytes >> (10 * (i + 1)) > 0).count();
    if step == 0 { format!("{bytes} B") } else { format!("{:.1} {}", bytes as f64 / f64::powi(1024.0, step as i32), units[step]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let check = |text: &str, expected: u64| assert_eq!(parse(text), Ok(expected), "{text}");
        check("512MiB", 512 << 20);
        check("4GiB", 4 << 30);
        check("4g", 4 << 30);
        check("1.5 GB", 1_500_000_000);
        check("2097152", 2 << 20);
        for wrong in ["", "GiB", "4 lines", "0", "12KiB", "-1GiB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(show(17), "17 B");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(4 << 30), "4.0 GiB");
    }
}
