//! What a store promises of listings: order, pages, prefixes, and names as they were given.
//! Nothing in the protocol is decided by a listing; input files are found by one.

use super::{Make, key, keys, put, read};
use crate::key::{MAX_KEY_BYTES, ObjectMeta};

pub(super) fn listing_is_sorted_and_paginated(make: Make<'_>) {
    let store = make();
    assert!(store.list("", None, 10).expect("an empty store").is_empty());
    let mut names = vec!["a-b", "a/b", "a/b-c", "a/c/d", "a0", "a/b.d/e", "b", "B", "zz/y/x/w", "é", "a/é/1"];
    for name in &names {
        put(&*store, name, name.as_bytes());
    }
    names.sort_unstable();
    for limit in 1..=names.len() + 1 {
        let mut listed: Vec<ObjectMeta> = Vec::new();
        loop {
            let page = store.list("", listed.last().map(|object| &object.key), limit).expect("a page");
            assert!(page.len() <= limit);
            let is_last = page.len() < limit;
            listed.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), names, "limit {limit}");
        assert!(listed.iter().all(|object| object.size_bytes == object.key.as_str().len() as u64));
    }
    assert!(store.list("", None, 0).expect("a page of nothing").is_empty());
    // The start need not exist, and may lie before or behind every match.
    let after = |start: &str, prefix: &str| -> Vec<String> {
        let page = store.list(prefix, Some(&key(start)), 100).expect("a page");
        page.into_iter().map(|object| object.key.into()).collect()
    };
    assert_eq!(after("a/bb", "a/"), ["a/c/d", "a/é/1"]);
    assert_eq!(after("B", "a/c"), ["a/c/d"]);
    assert_eq!(after("a/b.d", "a/b"), ["a/b.d/e"]);
    assert_eq!(after("b", "a/"), Vec::<String>::new());
}

pub(super) fn listing_prefix_is_bytes(make: Make<'_>) {
    let store = make();
    for name in ["ab/c", "ab/cd/e", "abc", "b/a", "b/ab/c"] {
        put(&*store, name, b"x");
    }
    let check = |prefix: &str, expected: &[&str]| assert_eq!(keys(&*store, prefix), expected, "{prefix:?}");
    check("", &["ab/c", "ab/cd/e", "abc", "b/a", "b/ab/c"]);
    check("a", &["ab/c", "ab/cd/e", "abc"]);
    check("ab", &["ab/c", "ab/cd/e", "abc"]);
    check("ab/", &["ab/c", "ab/cd/e"]);
    check("ab/c", &["ab/c", "ab/cd/e"]);
    check("ab/cd/", &["ab/cd/e"]);
    check("b/a", &["b/a", "b/ab/c"]);
    check("c", &[]);
    check("ab/c/", &[]);
    check("ab/x/", &[]);
    check("../", &[]);
    check("/", &[]);
    check("//", &[]);
    check("a\0/", &[]);
}

pub(super) fn listing_holds_many(make: Make<'_>) {
    let store = make();
    let name = |number: usize| format!("many/{:03}/{number:05}", number % 7);
    let mut written = 0;
    for count in [0, 1, 1000, 1001] {
        for number in written..count {
            put(&*store, &name(number), b"x");
        }
        written = count;
        let mut expected: Vec<String> = (0..count).map(name).collect();
        expected.sort();
        assert_eq!(keys(&*store, "many/"), expected, "{count}");
        let page = store.list("", None, 1000).expect("a page");
        assert_eq!(page.len(), count.min(1000));
    }
}

pub(super) fn odd_names_stay_intact(make: Make<'_>) {
    stay_intact(
        make,
        &[
            " leading and trailing ",
            "100%",
            "%2e%2e",
            "..x",
            "x..",
            "...",
            "-rf",
            "~",
            "back\\slash",
            "quote\"'",
            "é",
            "e\u{301}",
            "漢字",
            "🦀",
            "\u{202e}rtl",
            "a:b",
            "a*b?",
            "<x>&amp;",
            "x.tmp",
            "folder/.mellama-tmp/x",
            ".hidden",
            "$HOME",
            "`id`",
        ],
    );
}

pub(super) fn control_names_stay_intact(make: Make<'_>) {
    stay_intact(make, &["new\nline", "tab\t", "a/\u{1}", "return\r", "a/\u{7f}"]);
}

pub(super) fn longest_name_stays_intact(make: Make<'_>) {
    let segment = "é".repeat(127);
    let longest = format!("{segment}/{segment}/{segment}/{segment}/xxxx");
    assert_eq!(longest.len(), MAX_KEY_BYTES);
    stay_intact(make, &[&longest]);
}

fn stay_intact(make: Make<'_>, names: &[&str]) {
    let store = make();
    let mut names = names.to_vec();
    for name in &names {
        put(&*store, name, name.as_bytes());
    }
    for name in &names {
        assert_eq!(read(&*store, name), name.as_bytes(), "{name:?}");
    }
    names.sort_unstable();
    assert_eq!(keys(&*store, ""), names);
}
