//! Numbers with their nouns, for people.

/// `1 document`, `3 documents`. The plural is the noun and an s.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_has_no_s() {
        let check = |number, expected: &str| assert_eq!(counted(number, "shard"), expected);
        check(0, "0 shards");
        check(1, "1 shard");
        check(21, "21 shards");
    }
}
