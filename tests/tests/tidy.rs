//! Rules of the code that no compiler knows: file sizes, opening lines, names, arrows between crates, what must not be left in.
//! Each rule is a row of a table; this file says nothing about style that rustfmt or clippy can hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file without its tests.
const MAX_CODE_LINES: usize = 600;
/// Lines of a file of tests, and of a source file with its tests.
const MAX_LINES: usize = 1000;
/// Bytes of a file in the tree: samples are made small, and data sets are not copied in.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Who may use whom: the arrows of docs/ARCHITECTURE.md §2. Another arrow is a line `CRATE → CRATE` in docs/decisions.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("mellama-storage", &[]),
    ("mellama-sources", &[]),
    ("mellama-dedup", &[]),
    ("mellama-shards", &["mellama-storage"]),
    ("mellama-pipeline", &["mellama-storage", "mellama-sources", "mellama-dedup", "mellama-shards"]),
    ("mellama-train", &["mellama-shards", "mellama-storage"]),
    ("mellama-evaluation", &["mellama-train", "mellama-shards", "mellama-storage"]),
    ("mellama", &["*"]),
    ("mellama-tests", &["*"]),
];

/// What a crate never touches: packages (by the beginning of their names) and the only crates that may depend on them.
const RESERVED_PACKAGES: &[(&str, &[&str])] = &[
    ("tokio", &["mellama-storage", "mellama-tests"]),
    ("aws-", &["mellama-storage"]),
    ("cudarc", &["mellama-train"]),
    ("toml", &["mellama-pipeline", "mellama-tests"]),
    ("clap", &["mellama"]),
    ("anyhow", &["mellama"]),
    ("arrow2", &[]),
    ("parquet2", &[]),
    ("serde_yaml", &[]),
    ("serde_yml", &[]),
    ("bincode", &[]),
];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "misc", "helpers", "helper"];

/// Text that must not stand in a file. The pieces are put together when the test runs, so that this file may hold them.
const FORBIDDEN_TEXT: &[(&[&str], &[&str], &str)] = &[
    // (pieces, endings of the files that are searched, what to do)
    (&["TO", "DO"], SOURCES, "do it, or describe it in docs/ with its reason"),
    (&["FIX", "ME"], SOURCES, "fix it, or describe it in docs/ with its reason"),
    (&["XX", "X:"], SOURCES, "say what it is"),
    (&["#[ig", "nore"], &["rs"], "a test runs, or says \"not run\" with its reason"),
    (&["thread::sl", "eep"], &["rs"], "wait for the event and not for the time"),
    (&["process::ex", "it("], &["rs"], "return an exit code from main"),
    (&["/wo", "rk/"], EVERY, "use a path relative to the project"),
    (&["/ro", "ot/"], EVERY, "use a path relative to the project"),
    (&["/fa", "rm/"], EVERY, "use a path relative to the project"),
    (&["/ho", "me/"], EVERY, "use a path relative to the project"),
    (&["/Us", "ers/"], EVERY, "use a path relative to the project"),
    (&["/tm", "p/"], EVERY, "use a temporary folder of the test's own"),
    (&["AK", "IA"], EVERY, "no access keys in the tree"),
    (&["BEGIN PRI", "VATE KEY"], EVERY, "no keys in the tree"),
];

const SOURCES: &[&str] = &["rs", "py", "sh", "cu", "cuh", "toml", "md"];
const EVERY: &[&str] = &["*"];

/// Folders that are not part of the tree.
const SKIPPED_FOLDERS: &[&str] = &["target", "out", "node_modules", "__pycache__"];
/// Hidden folders that are.
const HIDDEN_FOLDERS: &[&str] = &[".ci", ".cargo", ".github"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the project's folder").to_owned()
}

/// A file of the tree and its path from the root, with forward slashes.
struct Listed {
    path: PathBuf,
    name: String,
}

/// Every file of the project, sorted.
fn files() -> Vec<Listed> {
    let root = root();
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the tree can be read") {
            let path = entry.expect("a folder of the tree can be read").path();
            let own = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            let is_hidden = own.starts_with('.') && !HIDDEN_FOLDERS.contains(&own.as_str());
            let is_skipped = is_hidden || SKIPPED_FOLDERS.contains(&own.as_str());
            if path.is_dir() && !path.is_symlink() && !is_skipped {
                folders.push(path);
            } else if path.is_file() && !path.is_symlink() {
                let name = path.strip_prefix(&root).expect("it lies below the root");
                let name = name.to_string_lossy().replace('\\', "/");
                files.push(Listed { path, name });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(files.iter().any(|file| file.name == "Cargo.toml"), "this is the project's folder");
    files
}

/// The text files, each with its content.
fn texts() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|file| file.name != "Cargo.lock")
        .filter_map(|file| Some((file.name, String::from_utf8(fs::read(file.path).ok()?).ok()?)))
        .collect()
}

fn ending(name: &str) -> &str {
    Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

/// Fails with one line for each problem.
fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

// Rules, each from a name and a text to what is wrong.

fn opening_line(name: &str, text: &str) -> Option<String> {
    let first = text.lines().next().unwrap_or_default();
    (!first.starts_with("//! ")).then(|| format!("{name}: line 1: does not say what the file is; begin with \"//! \""))
}

fn is_test_file(name: &str) -> bool {
    let is_tests = |part: &str| part == "tests" || part == "tests.rs" || part.ends_with("_tests");
    name.split('/').any(is_tests)
}

fn size(name: &str, text: &str) -> Option<String> {
    let (all, code) = (text.lines().count(), code_lines(text));
    if !is_test_file(name) && code > MAX_CODE_LINES {
        return Some(format!("{name}: {code} lines without tests, at most {MAX_CODE_LINES} expected; split it by noun"));
    }
    (all > MAX_LINES).then(|| format!("{name}: {all} lines, at most {MAX_LINES} expected; split it by noun"))
}

/// Lines outside inline test modules, which rustfmt closes with a brace in the first column.
fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut count = 0;
    let mut at = 0;
    while at < lines.len() {
        let opens =
            lines[at] == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if opens {
            at += lines[at..].iter().position(|line| *line == "}").unwrap_or(lines.len() - at) + 1;
        } else {
            count += 1;
            at += 1;
        }
    }
    count
}

fn empty_name(name: &str) -> Option<String> {
    let is_empty = |part: &str| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or_default());
    name.split('/').any(is_empty).then(|| format!("{name}: the name says nothing; name the file for its noun"))
}

fn forbidden_text(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (pieces, endings, remedy) in FORBIDDEN_TEXT {
        if *endings != EVERY && !endings.contains(&ending(name)) {
            continue;
        }
        let needle = pieces.concat();
        for (number, line) in text.lines().enumerate() {
            if contains_word(line, &needle) {
                problems.push(format!("{name}:{}: holds \"{needle}\"; {remedy}", number + 1));
            }
        }
    }
    problems
}

/// Whether `needle` stands in `line` with no letter or digit before its first or behind its last letter.
fn contains_word(line: &str, needle: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let is_inside = |edge: Option<char>, neighbour: Option<char>| is_word(edge) && is_word(neighbour);
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let behind = line[at + needle.len()..].chars().next();
        !is_inside(needle.chars().next(), before) && !is_inside(needle.chars().next_back(), behind)
    })
}

// The crates.

struct Manifest {
    name: String,
    file: String,
    table: toml::Table,
}

fn crates() -> Vec<Manifest> {
    let of = |name: &str| -> toml::Table {
        let text = fs::read_to_string(root().join(name)).expect("a manifest can be read");
        text.parse().expect("cargo accepted this manifest")
    };
    let members = of("Cargo.toml")["workspace"]["members"].as_array().expect("a list of members").clone();
    members
        .iter()
        .map(|member| {
            let file = format!("{}/Cargo.toml", member.as_str().expect("a member is a folder"));
            let table = of(&file);
            let name = table["package"]["name"].as_str().expect("a package has a name").to_owned();
            Manifest { name, file, table }
        })
        .collect()
}

impl Manifest {
    /// Packages under a key such as `dependencies`, at the top and for single targets.
    fn packages(&self, kind: &str) -> BTreeMap<String, toml::Value> {
        let own = self.table.get(kind).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let targets = self.table.get("target").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let of_targets = targets.iter().filter_map(|(_, target)| target.get(kind)?.as_table().cloned());
        std::iter::once(own).chain(of_targets).flatten().collect()
    }
}

/// An arrow that is neither in the table nor written down as a decision.
fn arrow(from: &str, to: &str, decisions: &str) -> Option<String> {
    let allowed = ARROWS.iter().find(|(name, _)| *name == from).map(|(_, allowed)| *allowed);
    let Some(allowed) = allowed else {
        return Some(format!("{from}: a crate that docs/ARCHITECTURE.md does not list; add it there and in this test"));
    };
    let decided = decisions.lines().any(|line| line.contains(&format!("{from} → {to}")));
    let is_allowed = allowed.contains(&"*") || allowed.contains(&to) || decided;
    (!is_allowed).then(|| {
        format!("{from} → {to}: not an arrow of docs/ARCHITECTURE.md; remove it, or give its reason in docs/decisions.md")
    })
}

fn reserved(from: &str, package: &str) -> Option<String> {
    let (_, users) = RESERVED_PACKAGES
        .iter()
        .find(|(start, _)| if start.ends_with('-') { package.starts_with(start) } else { package == *start })?;
    (!users.contains(&from)).then(|| format!("{from}: depends on {package}, which only {users:?} may"))
}

#[test]
fn tidy_every_source_file_says_what_it_is_and_is_one_noun() {
    let sources = texts().into_iter().filter(|(name, _)| ending(name) == "rs");
    let problems: Vec<String> =
        sources.flat_map(|(name, text)| [opening_line(&name, &text), size(&name, &text)]).flatten().collect();
    report(&problems);
}

#[test]
fn tidy_file_names_say_something_and_files_are_small() {
    let mut problems = Vec::new();
    for file in files() {
        problems.extend(empty_name(&file.name));
        let size_bytes = fs::metadata(&file.path).expect("a file of the tree").len();
        if size_bytes > MAX_FILE_BYTES {
            problems.push(format!("{}: {size_bytes} bytes, at most {MAX_FILE_BYTES} expected", file.name));
        }
    }
    report(&problems);
}

#[test]
fn tidy_nothing_is_left_in_the_tree() {
    let exempt = ["LICENSE"];
    let texts = texts().into_iter().filter(|(name, _)| !exempt.contains(&name.as_str()));
    report(&texts.flat_map(|(name, text)| forbidden_text(&name, &text)).collect::<Vec<_>>());
}

#[test]
fn tidy_crates_use_only_those_they_may() {
    let decisions = fs::read_to_string(root().join("docs/decisions.md")).unwrap_or_default();
    let mut problems = Vec::new();
    for krate in crates() {
        for package in krate.packages("dependencies").keys().chain(krate.packages("build-dependencies").keys()) {
            problems.extend(reserved(&krate.name, package));
            if package.starts_with("mellama") {
                problems.extend(arrow(&krate.name, package, &decisions));
            }
        }
        for package in krate.packages("dev-dependencies").keys().filter(|package| package.starts_with("mellama")) {
            problems.extend(arrow(&krate.name, package, &decisions));
        }
    }
    report(&problems);
}

#[test]
fn tidy_versions_and_lints_are_said_once() {
    let mut problems = Vec::new();
    for krate in crates() {
        let file = &krate.file;
        let lints = krate.table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if lints != Some(true) {
            problems.push(format!("{file}: does not take the workspace's lints; add \"[lints] workspace = true\""));
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (package, value) in krate.packages(kind) {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    problems.push(format!("{file}: {package}: has a version of its own; write \"{package}.workspace = true\""));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn tidy_the_workspace_lists_its_packages_in_order() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let section = text.split("[workspace.dependencies]").nth(1).expect("versions stand in the workspace");
    let section = section.split("\n[").next().expect("a split has a first part");
    // A blank line begins a new group: packages of others, then our own.
    for group in section.split("\n\n") {
        let names: Vec<&str> = group.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
        let names: Vec<&str> = names.into_iter().filter(|name| !name.starts_with('#')).collect();
        assert!(names.is_sorted(), "Cargo.toml: workspace.dependencies: not in alphabetical order: {names:?}");
    }
}

/// Words in a row that are enough to know a note again.
const NOTE_WORDS: usize = 12;

/// No text of the sample notes stands in the tree, neither in a test nor in a page.
#[test]
fn tidy_no_note_text_is_copied_into_the_tree() {
    let notes = root().join("../shared/data/notes");
    if !notes.is_dir() {
        println!("not run: no sample notes beside the project");
        return;
    }
    let mut known = BTreeSet::new();
    let mut folders = vec![notes];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("sample data can be read") {
            let path = entry.expect("sample data can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                known.extend(word_runs(&String::from_utf8_lossy(&fs::read(&path).expect("sample data can be read"))));
            }
        }
    }
    assert!(known.len() > 1000, "the sample notes have text");
    let copied = |(name, text): &(String, String)| {
        word_runs(text)
            .any(|run| known.contains(&run))
            .then(|| format!("{name}: holds text of a sample note; make the sample up"))
    };
    report(&texts().iter().filter_map(copied).collect::<Vec<_>>());
}

/// BLAKE3 (its first 8 bytes) of every run of [`NOTE_WORDS`] words, letters only and in lower case.
fn word_runs(text: &str) -> impl Iterator<Item = [u8; 8]> {
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let runs: Vec<[u8; 8]> = words
        .windows(NOTE_WORDS)
        .map(|run| blake3::hash(run.join(" ").as_bytes()).as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
        .collect();
    runs.into_iter()
}

// The rules themselves.

#[test]
fn tidy_rules_tell_good_from_bad() {
    let opening = |text: &str, good: bool| assert_eq!(opening_line("a.rs", text).is_none(), good, "{text:?}");
    opening("//! What it is.\n", true);
    opening("// What it is.\n", false);
    opening("\n//! What it is.\n", false);
    opening("", false);

    let named = |name: &str, good: bool| assert_eq!(empty_name(name).is_none(), good, "{name}");
    named("shards/src/packing.rs", true);
    named("shards/src/utils.rs", false);
    named("shards/src/common/mod.rs", false);
    named("shards/src/uncommon.rs", true);

    let sized = |name: &str, text: &str, good: bool| assert_eq!(size(name, text).is_none(), good, "{name}");
    sized("a/src/b.rs", &"x\n".repeat(MAX_CODE_LINES), true);
    sized("a/src/b.rs", &"x\n".repeat(MAX_CODE_LINES + 1), false);
    sized("a/tests/b.rs", &"x\n".repeat(MAX_LINES), true);
    sized("a/tests/b.rs", &"x\n".repeat(MAX_LINES + 1), false);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    x\n".repeat(300));
    sized("a/src/b.rs", &format!("{}{tests}", "x\n".repeat(MAX_CODE_LINES)), true);
    sized("a/src/b.rs", &format!("{tests}{}", "x\n".repeat(MAX_CODE_LINES + 1)), false);
}

#[test]
fn tidy_rules_find_what_is_left_in() {
    let check = |name: &str, pieces: [&str; 3], expected: usize| {
        let line = pieces.concat();
        assert_eq!(forbidden_text(name, &line).len(), expected, "{name}: {line}");
    };
    check("a.rs", ["// TO", "DO", ": later"], 1);
    check("a.md", ["FIX", "ME", ""], 1);
    check("a.rs", ["MASTO", "DO", "N"], 0);
    check("a.csv", ["TO", "DO", ""], 0);
    check("a.csv", ["see /wo", "rk/main", ""], 1);
    check("a.toml", ["path = \"/ho", "me/somebody\"", ""], 1);
    check("a.rs", ["    #[ig", "nore = \"slow\"]", ""], 1);
    check("a.rs", ["std::thread::sl", "eep(long)", ""], 1);
    check("a.rs", ["nothing of the kind", "", ""], 0);
}

#[test]
fn tidy_rules_know_the_arrows() {
    let check = |from: &str, to: &str, decisions: &str, good: bool| {
        assert_eq!(arrow(from, to, decisions).is_none(), good, "{from} → {to}");
    };
    check("mellama-shards", "mellama-storage", "", true);
    check("mellama-storage", "mellama-shards", "", false);
    check("mellama-sources", "mellama-storage", "", false);
    check("mellama-train", "mellama-pipeline", "", false);
    check("mellama-train", "mellama-pipeline", "## mellama-train → mellama-pipeline, because …", true);
    check("mellama", "mellama-train", "", true);
    check("mellama-new", "mellama-storage", "", false);

    let check = |from: &str, package: &str, good: bool| {
        assert_eq!(reserved(from, package).is_none(), good, "{from}: {package}");
    };
    check("mellama-storage", "aws-sdk-s3", true);
    check("mellama-pipeline", "aws-config", false);
    check("mellama-pipeline", "toml", true);
    check("mellama-dedup", "arrow2", false);
    check("mellama-shards", "arrow", true);
}
