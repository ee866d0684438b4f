//! The patterns: one row of the table is a kind, a regular expression and the check of what it found.
//!
//! Word borders are ASCII borders, so that every pattern runs on the automaton that is linear and fast on any text.
//! Group `v` is the identifier; without it the whole match is.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::dates::{
    Found, MONTH, is_age, is_iso_date, is_month_and_day, is_month_and_year, is_named_date, is_numeric_date, stands_alone,
};
use super::{PhiHit, PhiKind};

/// Bytes of the text that one pattern looks at.
const WINDOW_BYTES: usize = 1_024;
/// Longest run of digits that begins a pattern, and longest first word of one.
const LONGEST_RUN: usize = 4;
const LONGEST_WORD: usize = 16;
const MAX_LOCAL_PART: usize = 64;
/// Between a word that announces a number and the number.
const LINK: &str = r"(?:[ \t]{0,2}(?:is|was|no\.?|number|num\.?|id|#))?[ \t]{0,2}[:#=]{0,2}[ \t]{0,3}\n?[ \t]{0,3}";
/// A number that may hold letters; its digits are counted by the check.
const CODE: &str = r"(?P<v>[A-Za-z]{0,4}-?[0-9][0-9A-Za-z-]{3,24})(?-u:\b)";
/// A North American telephone number, whole or local, or an extension, after a word that announces it.
const ANNOUNCED: &str = r"(?:[ :.#-]{1,3}(?:(?:number|num|no|at|is|me|her|him|them|us)[ :.#]{1,3}){0,2})(?P<v>(?:\+?1[-. ])?\(?[0-9]{3}\)?[-. ]?[0-9]{3}[-. ]?[0-9]{4}|[0-9]{3}[-. ][0-9]{4}|x?[0-9]{4,6})(?-u:\b)";
/// What may stand between a title and the capital of a name.
const PARTICLES: &str = "(?:(?:d[aeiou]|de[lnr]|el|l[ae]|los|van|von|ter|ten) ){0,3}";
/// A capitalized name, an initial, or a name in capitals.
const NAME: &str = r"(?:\p{Lu}\.|\p{Lu}[\p{L}'’-]*\p{L})";
const STATES: &str = "al ak az ar ca co ct de dc fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh nj nm ny nc nd oh \
     ok or pa pr ri sc sd tn tx ut vt va wa wv wi wy";
/// First words of [`STATE_NAMES`].
const STATE_WORDS: &str = "alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho \
     illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri \
     montana nebraska nevada new north ohio oklahoma oregon pennsylvania rhode south tennessee texas utah vermont virginia \
     washington west wisconsin wyoming";
/// First words of [`MONTH`].
const MONTH_WORDS: &str = "jan january feb february mar march apr april may jun june jul july aug august sep sept september oct \
     october nov november dec december";
const STATE_NAMES: &str = "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|\
     Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|\
     Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|\
     Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|\
     Wisconsin|Wyoming";

/// Words that follow a title or a label without being a name.
const NOT_NAMES: [&str; 38] = [
    "a", "and", "as", "at", "after", "all", "by", "date", "deferred", "follow", "for", "he", "her", "his", "if", "in", "is",
    "it", "n", "name", "no", "none", "not", "of", "on", "or", "patient", "please", "pending", "said", "she", "the", "there",
    "they", "this", "unknown", "we", "yes",
];

/// Words of bodies that approve and review, as persons do.
const BODIES: [&str; 16] = [
    "Agency",
    "Association",
    "Authority",
    "Board",
    "Committee",
    "Council",
    "Ethics",
    "EU",
    "FDA",
    "Institute",
    "Institutional",
    "Ministry",
    "Sciences",
    "Society",
    "University",
    "WHO",
];

/// Looks at what stands around a match.
type Check = fn(&Found<'_>, &Range<usize>) -> bool;
type Row = (PhiKind, Trigger, String, Check);

/// Where a pattern is tried, so that the text is walked once and not once for each pattern.
#[derive(Debug, Clone, Copy)]
enum Trigger {
    /// At the first digit of a run with one of these bytes behind it.
    Digits(&'static [u8]),
    /// At this byte with a digit behind it.
    Sign(u8),
    /// At the start of what stands before an `@`.
    At,
    /// At a word, in any case.
    Word(&'static str),
    /// At a word that begins with a capital.
    Capital(&'static str),
}

struct Rule {
    kind: PhiKind,
    regex: Regex,
    check: Check,
}

/// The compiled table, by trigger.
pub(super) struct Patterns {
    rules: Vec<Rule>,
    digits: Vec<(&'static [u8], usize)>,
    signs: Vec<(u8, usize)>,
    at: Vec<usize>,
    /// Lower-case first words; with each rule whether the word must begin with a capital.
    words: HashMap<&'static str, Vec<(usize, bool)>>,
}

impl Patterns {
    /// Compiled once in a process.
    pub(super) fn shared() -> &'static Self {
        static SHARED: LazyLock<Patterns> = LazyLock::new(|| {
            Patterns::compile(
                numbers()
                    .into_iter()
                    .chain(announced_contacts())
                    .chain(announced_codes())
                    .chain(hospital_codes())
                    .chain(dates())
                    .chain(dates_in_words())
                    .chain(addresses())
                    .chain(names()),
            )
        });
        &SHARED
    }

    fn compile(rows: impl Iterator<Item = Row>) -> Self {
        let mut patterns =
            Self { rules: Vec::new(), digits: Vec::new(), signs: Vec::new(), at: Vec::new(), words: HashMap::new() };
        for (kind, trigger, pattern, check) in rows {
            let index = patterns.rules.len();
            let regex = Regex::new(&format!("^(?:{pattern})")).expect("the table is constant and a test compiles it");
            patterns.rules.push(Rule { kind, regex, check });
            match trigger {
                Trigger::Digits(after) => patterns.digits.push((after, index)),
                Trigger::Sign(sign) => patterns.signs.push((sign, index)),
                Trigger::At => patterns.at.push(index),
                Trigger::Word(list) => patterns.add_words(list, index, false),
                Trigger::Capital(list) => patterns.add_words(list, index, true),
            }
        }
        patterns
    }

    fn add_words(&mut self, list: &'static str, index: usize, capital: bool) {
        for word in list.split_ascii_whitespace() {
            self.words.entry(word).or_default().push((index, capital));
        }
    }

    /// Every hit of every row; rows may overlap.
    pub(super) fn find(&self, text: &str) -> Vec<PhiHit> {
        let bytes = text.as_bytes();
        let mut hits = Vec::new();
        let mut place = 0;
        while place < bytes.len() {
            let byte = bytes[place];
            if byte.is_ascii_alphanumeric() {
                let end = place + bytes[place..].iter().take_while(|b| b.is_ascii_alphanumeric()).count();
                if byte.is_ascii_digit() {
                    self.at_digits(text, place, &mut hits);
                } else {
                    self.at_word(text, place, &mut hits);
                }
                place = end;
                continue;
            }
            if byte == b'@' {
                let start = local_part_start(bytes, place);
                self.at.iter().for_each(|rule| self.try_rule(*rule, text, start, &mut hits));
            } else if bytes.get(place + 1).is_some_and(u8::is_ascii_digit) {
                let signs = self.signs.iter().filter(|sign| sign.0 == byte);
                signs.for_each(|sign| self.try_rule(sign.1, text, place, &mut hits));
            }
            place += 1;
        }
        hits
    }

    fn at_digits(&self, text: &str, start: usize, hits: &mut Vec<PhiHit>) {
        let bytes = text.as_bytes();
        let run = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        let Some(after) = bytes.get(start + run) else {
            return;
        };
        for (allowed, rule) in &self.digits {
            if run <= LONGEST_RUN && allowed.contains(after) {
                self.try_rule(*rule, text, start, hits);
            }
        }
    }

    fn at_word(&self, text: &str, start: usize, hits: &mut Vec<PhiHit>) {
        let bytes = &text.as_bytes()[start..];
        let mut word = [0; LONGEST_WORD];
        let length = bytes.iter().take(LONGEST_WORD + 1).take_while(|b| b.is_ascii_alphabetic()).count();
        if length > LONGEST_WORD {
            return;
        }
        for (lower, byte) in word.iter_mut().zip(&bytes[..length]) {
            *lower = byte.to_ascii_lowercase();
        }
        let rules = std::str::from_utf8(&word[..length]).ok().and_then(|word| self.words.get(word));
        for (rule, capital) in rules.into_iter().flatten() {
            if !capital || bytes[0].is_ascii_uppercase() {
                self.try_rule(*rule, text, start, hits);
            }
        }
    }

    fn try_rule(&self, rule: usize, text: &str, start: usize, hits: &mut Vec<PhiHit>) {
        let rule = &self.rules[rule];
        let window = &text[start..text.floor_char_boundary(start.saturating_add(WINDOW_BYTES))];
        let Some(captures) = rule.regex.captures(window) else {
            return;
        };
        let value = captures.name("v").or_else(|| captures.get(0)).expect("group 0 always takes part");
        let range = start + value.start()..start + value.end();
        // Checks look at the text around the match, so they get all of it and where the window begins.
        if (rule.check)(&Found { text, start, captures: &captures }, &range) {
            hits.push(PhiHit { kind: rule.kind, range });
        }
    }
}

/// Where the local part of an address with its `@` at `at` begins.
fn local_part_start(bytes: &[u8], at: usize) -> usize {
    let is_local = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-');
    at - bytes[..at].iter().rev().take(MAX_LOCAL_PART).take_while(|b| is_local(b)).count()
}

/// Identifiers with a shape of their own.
fn numbers() -> Vec<Row> {
    let area = r"(?:\([2-9][0-9]{2}\)[ -]?|[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-. ][0-9]{4}";
    let code = r"\.? {1,3}(?P<v>[0-9]{5}(?:-[0-9]{4})?)";
    vec![
        (
            PhiKind::Email,
            Trigger::At,
            r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}".into(),
            always,
        ),
        (PhiKind::Url, Trigger::Word("http https ftp"), r#"(?i-u:https?|ftp)://[^\s<>"\[\]]*[A-Za-z0-9/]"#.into(), always),
        (PhiKind::Url, Trigger::Word("www"), r"(?i-u:www)\.[A-Za-z0-9-]+\.[A-Za-z0-9./?=&_%#~-]*[A-Za-z0-9/]".into(), always),
        (PhiKind::IpAddress, Trigger::Digits(b"."), r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}".into(), is_ip4),
        (
            PhiKind::IpAddress,
            Trigger::Digits(b":abcdefABCDEF"),
            r"[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){3,7}".into(),
            is_ip6,
        ),
        (
            PhiKind::IpAddress,
            Trigger::Word("fe fd fc fec fed ff"),
            r"[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){3,7}".into(),
            is_ip6,
        ),
        (PhiKind::SocialSecurity, Trigger::Digits(b"-"), r"[0-9]{3}-[0-9]{2}-[0-9]{4}".into(), is_social_security),
        (PhiKind::Phone, Trigger::Digits(b"-. "), format!("(?:1[-. ]?)?{area}"), alone),
        (PhiKind::Phone, Trigger::Sign(b'('), area.into(), alone),
        (PhiKind::Phone, Trigger::Sign(b'+'), format!(r"\+1[-. ]?{area}"), alone),
        (PhiKind::Phone, Trigger::Sign(b'+'), r"\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}".into(), is_international),
        (PhiKind::PostalCode, Trigger::Capital(STATES), format!("[A-Z]{{2}}{code}"), is_behind_city),
        (PhiKind::PostalCode, Trigger::Capital(STATE_WORDS), format!("(?:{STATE_NAMES}),?{code}"), alone),
    ]
}

/// Telephone and social security numbers after a word that announces them.
fn announced_contacts() -> Vec<Row> {
    let phone = |words: &str| format!("(?i-u:(?:{words})){ANNOUNCED}");
    vec![
        (
            PhiKind::SocialSecurity,
            Trigger::Word("ssn social"),
            format!(r"(?i-u:ssn|social security){LINK}(?P<v>[0-9]{{3}}[- ]?[0-9]{{2}}[- ]?[0-9]{{4}})(?-u:\b)"),
            alone,
        ),
        (PhiKind::Fax, Trigger::Word("fax facsimile"), phone("fax|facsimile"), alone),
        (
            PhiKind::Phone,
            Trigger::Word("phone telephone pager beeper ext extension"),
            phone("phone|telephone|pager|beeper|ext|extension"),
            is_announced_phone,
        ),
        (PhiKind::Phone, Trigger::Word("tel call cell mobile contact"), phone("tel|call|cell|mobile|contact"), is_long_phone),
    ]
}

/// Numbers of records, plans, accounts, licences, vehicles and devices after a word that announces them.
fn announced_codes() -> Vec<Row> {
    let code = |words: &str| format!(r"(?i-u:(?:{words})){LINK}{CODE}");
    let number = r"(?: (?:number|no\.?|num\.?|id|identifier|#)|#)";
    vec![
        (
            PhiKind::RecordNumber,
            Trigger::Word("m mrn med medical"),
            code(r"m\.?r\.?n\.?|med(?:ical)?\.? rec(?:ord)?\.?"),
            four_digits,
        ),
        (
            PhiKind::RecordNumber,
            Trigger::Word("record unit chart hospital patient encounter visit"),
            code(&format!("(?:record|unit|chart|hospital|patient|encounter|visit){number}")),
            four_digits,
        ),
        (
            PhiKind::HealthPlan,
            Trigger::Word("insurance plan policy member subscriber beneficiary medicare medicaid hmo"),
            code(&format!(r"(?:insurance|plan|policy|member|subscriber|beneficiary|medicare|medicaid|hmo){number}")),
            four_digits,
        ),
        (
            PhiKind::Account,
            Trigger::Word("account acct billing invoice"),
            code(&format!(r"(?:account|acct\.?|billing|invoice){number}?")),
            four_digits,
        ),
        (
            PhiKind::Licence,
            Trigger::Word("licence license certificate registration permit passport dea npi"),
            code(&format!(r"(?:licen[cs]e|certificate|registration|permit|passport){number}|dea{number}?|npi{number}?")),
            four_digits,
        ),
        (
            PhiKind::Vehicle,
            Trigger::Word("vin vehicle licence license plate"),
            code(&format!(r"vin|vehicle{number}|vehicle identification{number}|(?:licen[cs]e )?plate{number}?")),
            three_digits,
        ),
        (
            PhiKind::Device,
            Trigger::Word("serial device implant pacemaker lead generator lot udi s"),
            code(&format!(r"(?:serial|device|implant|pacemaker|lead|generator|lot|udi){number}|s/n")),
            three_digits,
        ),
    ]
}

/// Numbers in shapes that only hospitals and offices write.
fn hospital_codes() -> Vec<Row> {
    vec![
        (PhiKind::SocialSecurity, Trigger::Word("xxx"), r"(?i-u:xxx-xx)-(?P<v>[0-9]{4})(?-u:\b)".into(), alone),
        (
            PhiKind::SocialSecurity,
            Trigger::Word("last"),
            r"(?i-u:last (?:four|4)(?: digits)?(?: of)?(?: the| his| her)? (?:ssn|social))(?: is| was)?[ :]{1,3}(?P<v>[0-9]{4})(?-u:\b)"
                .into(),
            alone,
        ),
        (
            PhiKind::RecordNumber,
            Trigger::Word("accession csn fin har"),
            r"(?i-u:accession ?#|csn ?[:#]|fin ?[:#]|har ?[:#])[ :#]{0,3}(?P<v>[A-Za-z]{0,4}-?[0-9][0-9-]{5,20})(?-u:\b)".into(),
            four_digits,
        ),
        (
            PhiKind::Vehicle,
            Trigger::Word("licence license"),
            r"(?i-u:licen[cs]e plates?(?: number| no\.?)?)[ :#]{1,3}(?P<v>[A-Z]{1,3}[ -][0-9]{2,4}[A-Z]?|[0-9]{1,3}[ -][A-Z]{2,3}(?:[ -]?[0-9]{1,3})?)(?-u:\b)"
                .into(),
            always,
        ),
    ]
}

fn dates() -> Vec<Row> {
    let day = r"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?";
    let months = Trigger::Capital(MONTH_WORDS);
    vec![
        (PhiKind::Date, Trigger::Digits(b"/"), r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})".into(), is_numeric_date),
        (PhiKind::Date, Trigger::Digits(b"-."), r"([0-9]{1,2})[-.]([0-9]{1,2})[-.]([0-9]{4})".into(), is_numeric_date),
        (PhiKind::Date, Trigger::Digits(b"-/."), r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})".into(), is_iso_date),
        (PhiKind::Date, Trigger::Digits(b"/"), r"([0-9]{1,2})/([0-9]{4})".into(), is_month_and_year),
        (
            PhiKind::Date,
            Trigger::Word("on since until till thru through dated as"),
            r"(?i-u:on|since|until|till|thru|through|dated|as of) (?P<v>([01]?[0-9])/([0-3]?[0-9]))".into(),
            is_month_and_day,
        ),
        (PhiKind::Date, months, format!(r"{MONTH}\.?[ \n]{day}(?:,?[ \n](?P<year>[0-9]{{4}}))?"), is_named_date),
        (
            PhiKind::Date,
            Trigger::Digits(b" \n-snrt"),
            format!(r"{day}[ \n-](?:of )?{MONTH}(?-u:\b)\.?(?:,?[ \n-](?P<year>[0-9]{{4}}))?"),
            is_named_date,
        ),
        (PhiKind::Date, months, format!(r"{MONTH}\.?,?[ \n-](?:of )?(?P<year>[0-9]{{4}})"), is_named_date),
        (
            PhiKind::Age,
            Trigger::Digits(b"- yY"),
            r"(?P<v>9[0-9]|1[0-4][0-9])(?:-| )?(?i-u:years?|yrs?|y\.?/?o)(?-u:\b)".into(),
            is_age,
        ),
        (PhiKind::Age, Trigger::Word("age aged"), r"(?i-u:age[d]?)[ :]{1,3}(?P<v>9[0-9]|1[0-4][0-9])(?-u:\b)".into(), is_age),
    ]
}

/// Dates of birth in any spelling, months without a day, ages in words.
fn dates_in_words() -> Vec<Row> {
    let digit = "one|two|three|four|five|six|seven|eight|nine";
    vec![
        (
            PhiKind::Date,
            Trigger::Word("dob d date birth birthdate born"),
            r"(?i-u:dob|d\.o\.b\.?|date of birth|birth ?date|born)(?: on)?[ \t:#]{1,4}(?P<v>[0-9]{1,2}[-./][0-9]{1,2}[-./][0-9]{2})(?-u:\b)"
                .into(),
            alone,
        ),
        (
            PhiKind::Date,
            Trigger::Word("in last since until during early late mid next"),
            format!(r"(?i-u:in|last|since|until|during|early|late|mid|next)[ -](?P<v>{MONTH})(?-u:\b)"),
            always,
        ),
        (
            PhiKind::Age,
            Trigger::Word("ninety one hundred"),
            format!(
                r"(?P<v>(?i-u:ninety(?:[- ](?:{digit}))?|(?:one )?hundred(?: and)?(?:[- ](?:{digit}|ten))?))[- ](?i-u:years?[- ](?:old|of age))(?-u:\b)"
            ),
            always,
        ),
        (PhiKind::Age, Trigger::Word("nonagenarian centenarian"), r"(?i-u:nonagenarian|centenarian)(?-u:\b)".into(), always),
    ]
}

/// Streets with a house number, and boxes. Types of street that are other words too (court, place) are not looked for.
fn addresses() -> Vec<Row> {
    let name = r"(?:[NSEW]\.? )?(?:\p{Lu}[\p{Ll}'’]+ ){1,3}";
    vec![
        (
            PhiKind::Address,
            Trigger::Digits(b" "),
            format!(
                r"[0-9]{{1,4}} {name}(?:(?:Street|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Parkway|Pkwy|Highway|Hwy|Terrace)(?-u:\b)|St(?:\.?[,\n]|\.?$))"
            ),
            is_house,
        ),
        (PhiKind::Address, Trigger::Word("p po"), r"(?i-u:p\.? ?o\.? ?box)[ #]{0,2}(?P<v>[0-9]{1,6})(?-u:\b)".into(), always),
    ]
}

fn names() -> Vec<Row> {
    let after_title = Trigger::Capital("dr mr mrs ms miss prof");
    let labels = Trigger::Word("patient pt full first last family maiden middle name");
    let signed = Trigger::Word("signed dictated reviewed approved transcribed authenticated attending pcp next name");
    vec![
        (
            PhiKind::Name,
            after_title,
            format!(r"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.?|Miss|(?:DR|MRS)\.)[ \t]{{0,2}}\n?(?P<v>{PARTICLES}{NAME}(?: {NAME}){{0,3}})"),
            is_name,
        ),
        (
            PhiKind::Name,
            labels,
            format!(
                r"(?i-u:(?:(?:patient|pt|full|first|last|family|maiden|middle)(?:'s)? name|name of (?:the )?patient))[ \t]{{0,2}}[:=][ \t]{{0,4}}(?P<v>{NAME}(?:(?:,? |,){NAME}){{0,3}})"
            ),
            is_name,
        ),
        (
            PhiKind::Name,
            signed,
            format!(
                r"(?i-u:(?:(?:signed|dictated|reviewed|approved|transcribed|authenticated) by|attending(?: physician)?:|pcp:|next of kin:|name:))[ \t]{{0,2}}:?[ \t]{{0,4}}(?P<v>{NAME}(?:(?:,? |,){NAME}){{1,3}})"
            ),
            is_name,
        ),
    ]
}

fn always(_: &Found<'_>, _: &Range<usize>) -> bool {
    true
}

fn alone(found: &Found<'_>, value: &Range<usize>) -> bool {
    stands_alone(found.text, value)
}

/// A number that is no part of another one.
fn is_house(found: &Found<'_>, value: &Range<usize>) -> bool {
    let before = &found.text.as_bytes()[..value.start];
    !before.last().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b',' | b'/' | b'-' | b'%'))
}

fn digits(text: &str, value: &Range<usize>) -> usize {
    text[value.clone()].bytes().filter(u8::is_ascii_digit).count()
}

fn three_digits(found: &Found<'_>, value: &Range<usize>) -> bool {
    digits(found.text, value) >= 3
}

fn four_digits(found: &Found<'_>, value: &Range<usize>) -> bool {
    digits(found.text, value) >= 4
}

fn is_announced_phone(found: &Found<'_>, value: &Range<usize>) -> bool {
    digits(found.text, value) >= 4 && stands_alone(found.text, value)
}

fn is_long_phone(found: &Found<'_>, value: &Range<usize>) -> bool {
    digits(found.text, value) >= 7 && stands_alone(found.text, value)
}

fn is_international(found: &Found<'_>, value: &Range<usize>) -> bool {
    (9..=15).contains(&digits(found.text, value)) && stands_alone(found.text, value)
}

fn is_social_security(found: &Found<'_>, value: &Range<usize>) -> bool {
    let number = &found.text[value.clone()];
    let area = &number[..3];
    let issued = area != "000" && area != "666" && !area.starts_with('9');
    issued && &number[4..6] != "00" && &number[7..] != "0000" && stands_alone(found.text, value)
}

fn is_ip4(found: &Found<'_>, value: &Range<usize>) -> bool {
    let octets = found.text[value.clone()].split('.').all(|part| part.parse::<u8>().is_ok());
    let before = found.text[..value.start].trim_end();
    // Enzymes have numbers of four parts too: EC 3.2.1.1.
    let version =
        ["version", "Version", " v", "release", "section", "Section", "EC", "E.C.", "EC:"].iter().any(|w| before.ends_with(w));
    octets && !version && stands_alone(found.text, value)
}

fn is_ip6(found: &Found<'_>, value: &Range<usize>) -> bool {
    let address = &found.text[value.clone()];
    address.parse::<Ipv6Addr>().is_ok() && address.bytes().any(|b| b.is_ascii_digit()) && stands_alone(found.text, value)
}

fn is_name(found: &Found<'_>, value: &Range<usize>) -> bool {
    let name = &found.text[value.clone()];
    let first = name.split([' ', ',']).next().unwrap_or(name).to_lowercase();
    let initials_only = name.split(' ').all(|part| part.ends_with('.'));
    let body = name.split([' ', ',']).any(|word| BODIES.contains(&word));
    !NOT_NAMES.contains(&first.as_str()) && !initials_only && !body
}

/// Behind "City, " or "City ": without a comma the word before must be no word in capitals, as "GIVEN IN 10000 UNITS" has.
fn is_behind_city(found: &Found<'_>, value: &Range<usize>) -> bool {
    let before = &found.text[..found.start];
    let city = before.trim_end_matches([' ', '\n']);
    let (city, comma) = city.strip_suffix(',').map_or((city, false), |city| (city, true));
    let word = city.rsplit(|c: char| !c.is_alphabetic() && c != '.').next().unwrap_or_default();
    let mut letters = word.chars();
    let capital = letters.next().is_some_and(char::is_uppercase);
    let spelled = comma || letters.clone().any(char::is_lowercase);
    capital
        && letters.next().is_some()
        && spelled
        && before.len() - city.len() <= 3
        && before.len() > city.len()
        && stands_alone(found.text, value)
}
