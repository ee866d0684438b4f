//! Dates finer than a year and ages over 89: the two kinds whose shape alone says too little.
//!
//! A blood pressure, a score, a ratio, a dose or a range must not be a date, so numbers are checked as calendar days and
//! the characters around them are looked at.

use std::ops::Range;

use regex::Captures;

/// A match in its text.
pub(super) struct Found<'a> {
    pub(super) text: &'a str,
    /// Where the match begins.
    pub(super) start: usize,
    /// Places in it count from `start`.
    pub(super) captures: &'a Captures<'a>,
}

impl Found<'_> {
    fn number(&self, group: usize) -> Option<u32> {
        self.captures.get(group)?.as_str().parse().ok()
    }

    /// What the group stands at in the text.
    fn range(&self, group: usize) -> Option<Range<usize>> {
        self.captures.get(group).map(|found| self.start + found.start()..self.start + found.end())
    }

    fn whole(&self) -> Range<usize> {
        self.range(0).expect("group 0 always takes part")
    }
}

/// Years that count as years in a date. De-identified records are shifted far into the future, hence the upper end.
const YEARS: std::ops::RangeInclusive<u32> = 1880..=2299;

/// Month names and the abbreviations in use, as a pattern; the first letter is upper case, or all letters are.
pub(super) const MONTH: &str = "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|\
     Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|JAN(?:UARY)?|FEB(?:RUARY)?|MAR(?:CH)?|APR(?:IL)?|MAY|JUNE?|JULY?|AUG(?:UST)?|\
     SEPT?(?:EMBER)?|OCT(?:OBER)?|NOV(?:EMBER)?|DEC(?:EMBER)?)";

/// Words after `m/d` that make it a fraction, a score or a count.
const NOT_AFTER_DAY: [&str; 25] = [
    "tab",
    "pill",
    "dose",
    "cup",
    "strength",
    "ppd",
    "pack",
    "of",
    "pain",
    "ns",
    "normal",
    "strong",
    "in all",
    "systolic",
    "diastolic",
    "murmur",
    "sem",
    "motor",
    "bilateral",
    "throughout",
    "scale",
    "blood",
    "bottles",
    "cultures",
    "mg",
];

/// Digits, or a separator followed or preceded by digits, touching the match make it part of something longer.
pub(super) fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let bytes = text.as_bytes();
    let before = range.start.checked_sub(1).map(|i| bytes[i]);
    let joined = |b: u8| matches!(b, b'/' | b'-' | b'.' | b':' | b',' | b'%' | b'_');
    if before.is_some_and(|b| b.is_ascii_alphanumeric() || b >= 0x80) {
        return false;
    }
    let before_two = range.start.checked_sub(2).map(|i| bytes[i]);
    if before.is_some_and(joined) && before_two.is_some_and(|b| b.is_ascii_digit()) {
        return false;
    }
    let after = bytes.get(range.end).copied();
    if after.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'%') {
        return false;
    }
    let after_two = bytes.get(range.end + 1).copied();
    !(after.is_some_and(joined) && after_two.is_some_and(|b| b.is_ascii_digit()))
}

/// A range of two whole dates, "1/2/2012-1/9/2012", is two hits: only the inner separators bind.
fn date_stands_alone(text: &str, range: &Range<usize>) -> bool {
    let bytes = text.as_bytes();
    let before = range.start.checked_sub(1).map(|i| bytes[i]);
    if before.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.')) {
        return false;
    }
    let after = bytes.get(range.end).copied();
    let after_two = bytes.get(range.end + 1).copied();
    if after.is_some_and(|b| b.is_ascii_digit() || b == b'%') {
        return false;
    }
    !(matches!(after, Some(b'/' | b'.')) && after_two.is_some_and(|b| b.is_ascii_digit()))
}

fn is_day(month: u32, day: u32) -> bool {
    let days = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Groups: month or day, day or month, year of two or four digits.
pub(super) fn is_numeric_date(found: &Found<'_>, _: &Range<usize>) -> bool {
    let whole = found.whole();
    let (Some(first), Some(second), Some(year)) = (found.number(1), found.number(2), found.number(3)) else {
        return false;
    };
    let short_year = found.range(3).is_some_and(|year| year.len() == 2);
    (short_year || YEARS.contains(&year))
        && (is_day(first, second) || is_day(second, first))
        && date_stands_alone(found.text, &whole)
}

/// Groups: year, month, day.
pub(super) fn is_iso_date(found: &Found<'_>, _: &Range<usize>) -> bool {
    let whole = found.whole();
    let (Some(year), Some(month), Some(day)) = (found.number(1), found.number(2), found.number(3)) else {
        return false;
    };
    YEARS.contains(&year) && is_day(month, day) && date_stands_alone(found.text, &whole)
}

/// Groups: month, year of four digits.
pub(super) fn is_month_and_year(found: &Found<'_>, _: &Range<usize>) -> bool {
    let whole = found.whole();
    let (Some(month), Some(year)) = (found.number(1), found.number(2)) else {
        return false;
    };
    (1..=12).contains(&month) && YEARS.contains(&year) && stands_alone(found.text, &whole)
}

/// Group 1 is `m/d`, after a word such as "on"; groups 2 and 3 its parts.
pub(super) fn is_month_and_day(found: &Found<'_>, _: &Range<usize>) -> bool {
    let (Some(whole), Some(month), Some(day)) = (found.range(1), found.number(2), found.number(3)) else {
        return false;
    };
    let rest = found.text[whole.end..].trim_start_matches([' ', '\n', '-']);
    let followed = NOT_AFTER_DAY.iter().any(|word| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)));
    is_day(month, day) && !followed && stands_alone(found.text, &whole)
}

/// A month's name with a day or a year, the groups named so, whichever are there.
pub(super) fn is_named_date(found: &Found<'_>, _: &Range<usize>) -> bool {
    let whole = found.whole();
    let named = |name: &str| found.captures.name(name).and_then(|m| m.as_str().parse::<u32>().ok());
    let (day, year) = (named("day"), named("year"));
    let plain = day.is_none_or(|d| (1..=31).contains(&d)) && year.is_none_or(|y| YEARS.contains(&y));
    // "May 5 mg", "Mar 2.5": a number that goes on, or carries a unit, is no day.
    let rest = &found.text[whole.end..];
    let goes_on = rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '%')
        || (rest.starts_with(['.', '/', ':']) && rest[1..].starts_with(|c: char| c.is_ascii_digit()));
    let unit = ["mg", "ml", "mcg", "g ", "kg", "%", "cm", "mm", "units", "patients", "percent"]
        .iter()
        .any(|u| rest.trim_start_matches(' ').starts_with(u));
    (day.is_some() || year.is_some()) && plain && !goes_on && !(year.is_none() && unit)
}

/// Group 1 is a number of 90 to 149 with a unit of years or the word "age" before it.
pub(super) fn is_age(found: &Found<'_>, _: &Range<usize>) -> bool {
    let (whole, Some(age)) = (found.whole(), found.range(1)) else {
        return false;
    };
    let before = found.text[..age.start].trim_end();
    let bound = before.ends_with(['/', '.', '<', '>', '±', '≥', '≤', '-', '–'])
        || ["over", "than", "above", "least", "for", "past", "last", "next"].iter().any(|w| before.ends_with(w));
    let rest = found.text[whole.end..].trim_start_matches([' ', '-']);
    let span = ["ago", "of follow", "later", "before", "earlier", "or older", "or more", "and older", "and over", "+"]
        .iter()
        .any(|w| rest.starts_with(w));
    !bound && !span
}
