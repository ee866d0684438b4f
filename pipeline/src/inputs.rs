//! Input patterns of a recipe to a frozen, sorted list of objects: paths, folders, globs and file lists.
//!
//! It lists; it does not read. Objects are read later through the same store, pinned to the version listed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;
use mellama_sources::{Part, RangeRead};
use mellama_storage::{ETag, Key, ObjectMeta, RangeReader, Store, StoreError, list_all};
use serde::Serialize;

use crate::file_list;
use crate::recipe::{RecipeError, RecipeFile};

/// One input object, frozen at planning time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputObject {
    /// The name that documents carry as their origin: the pattern's folder as the recipe writes it (a leading `${NAME}/`
    /// left out, so that it does not depend on the machine) and the path below it.
    pub name: String,
    /// Store that holds it.
    #[serde(skip)]
    pub base: PathBuf,
    /// Key in that store.
    #[serde(skip)]
    pub key: String,
    /// Size when planned.
    pub size_bytes: u64,
    /// Version when planned.
    pub etag: String,
    /// The part of it that is meant; absent: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// What a list of patterns came to.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// Sorted by name, each object once.
    pub objects: Vec<InputObject>,
    /// Patterns without a match, and what was passed over in folders.
    pub warnings: Vec<String>,
}

/// Why inputs could not be listed or opened.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// From the recipe: a variable that is not set.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A path without glob characters that does not exist.
    #[error("{path}: {pattern}: no such file or folder (looked at {looked_at}); correct the path in the recipe")]
    Missing {
        /// The recipe.
        path: String,
        /// As the recipe writes it.
        pattern: String,
        /// After expansion.
        looked_at: String,
    },
    /// Not one object behind all patterns of a source.
    #[error("{path}: {subject}: no input matched {patterns}; correct the patterns in the recipe")]
    NothingMatched {
        /// The recipe.
        path: String,
        /// Which source or part.
        subject: String,
        /// The patterns.
        patterns: String,
    },
    /// A pattern that is not a valid glob.
    #[error("{path}: {pattern}: not a valid pattern: {reason}")]
    BadPattern {
        /// The recipe.
        path: String,
        /// As the recipe writes it.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A work folder of an earlier run that cannot be deduplicated against.
    #[error("corpus.dedup.against: {name}: {problem}")]
    Release {
        /// As the recipe writes it.
        name: String,
        /// What is wrong with it, and what would do.
        problem: String,
    },
    /// A file list that cannot be used, or a line of one.
    #[error("{list}: {}{problem}", place(*.line))]
    List {
        /// The list as the recipe writes it.
        list: String,
        /// From 1; 0 for the list as a whole.
        line: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The store failed, or the object is not the one that was planned.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InputObject {
    /// Stored bytes that are read of it.
    pub fn input_bytes(&self) -> u64 {
        self.part.map_or(self.size_bytes, |part| part.stored_bytes)
    }

    /// Opens the object for reading, pinned to the planned version.
    ///
    /// # Errors
    /// `StoreError::Changed` when it is another version now, and the store's own failures.
    pub fn open(&self) -> Result<RangeReader, StoreError> {
        let store = input_store(&self.base)?;
        let key = Key::new(self.key.clone())?;
        let meta = ObjectMeta { key, size_bytes: self.size_bytes, etag: ETag::new(self.etag.clone()) };
        Ok(RangeReader::pinned(store, meta))
    }

    /// As `open`, for reading in any order.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_random(&self) -> Result<Box<dyn RangeRead>, StoreError> {
        Ok(Box::new(Ranges(self.open()?)))
    }

    /// Reads the whole object, for small files such as a tokenizer or a benchmark.
    ///
    /// # Errors
    /// As `open`.
    pub fn read(&self) -> Result<Vec<u8>, StoreError> {
        input_store(&self.base)?.read(&Key::new(self.key.clone())?, None, Some(&ETag::new(self.etag.clone())))
    }
}

/// Random access to a pinned input object.
struct Ranges(RangeReader);

impl RangeRead for Ranges {
    fn len(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        self.0.read_at(offset, length).map_err(std::io::Error::other)
    }
}

/// Lists what the patterns of one source (`subject`) match.
///
/// # Errors
/// `InputError::Missing` for a literal path, `NothingMatched` when nothing matched at all.
pub(crate) fn resolve(file: &RecipeFile, subject: &str, patterns: &[String]) -> Result<Resolved, InputError> {
    let mut found: BTreeMap<PathBuf, InputObject> = BTreeMap::new();
    let mut warnings = Vec::new();
    for Listed { shown, found: objects } in listed(file, patterns)? {
        let warn = |what: String| format!("{}: {subject}: {shown}{what}", file.path.display());
        if objects.objects.is_empty() {
            warnings.push(warn(" matches nothing".into()));
        }
        if let Some(first) = &objects.first_companion {
            let count = objects.companions;
            warnings
                .push(warn(format!(": {count} files that are no data were passed over, first {first}; a glob takes them too")));
        }
        for object in objects.objects {
            // One file is one input, however many patterns and spellings lead to it; what the run itself writes is none.
            let place = object.base.join(&object.key);
            let place = place.canonicalize().unwrap_or(place);
            if file.excluded.as_ref().is_some_and(|folder| place.starts_with(folder)) {
                continue;
            }
            let known = found.entry(place).or_insert_with(|| object.clone());
            if object.name < known.name {
                *known = object;
            }
        }
    }
    if found.is_empty() {
        let path = file.path.display().to_string();
        return Err(InputError::NothingMatched { path, subject: subject.into(), patterns: patterns.join(", ") });
    }
    let mut objects: Vec<InputObject> = found.into_values().collect();
    objects.sort_by(|a, b| (&a.name, &a.base, &a.key).cmp(&(&b.name, &b.base, &b.key)));
    Ok(Resolved { objects, warnings })
}

/// Lists the one object of a literal path, such as a tokenizer.
///
/// # Errors
/// `InputError::Missing` when it is absent or a folder.
pub(crate) fn resolve_file(file: &RecipeFile, path: &str) -> Result<InputObject, InputError> {
    let mut objects = literal(file, path)?.objects;
    if objects.len() != 1 || file.resolve(path)?.is_dir() {
        return Err(missing(file, path)?);
    }
    Ok(objects.remove(0))
}

/// What one pattern came to.
#[derive(Debug, Default)]
struct Found {
    objects: Vec<InputObject>,
    /// Files of a folder that are no data, and the first of them.
    companions: u64,
    first_companion: Option<String>,
}

/// A pattern as messages show it, with what it came to.
struct Listed {
    shown: String,
    found: Found,
}

/// Every pattern of the recipe, those of file lists in the place of their list.
fn listed(file: &RecipeFile, patterns: &[String]) -> Result<Vec<Listed>, InputError> {
    let mut all = Vec::new();
    for pattern in patterns {
        let Some(list) = file_list::of(pattern) else {
            all.push(Listed { shown: pattern.clone(), found: resolve_one(file, pattern)? });
            continue;
        };
        for entry in file_list::read(file, list)? {
            let found = resolve_one(file, &entry.pattern).map_err(|error| match error {
                InputError::Missing { looked_at, .. } => InputError::List {
                    list: list.to_owned(),
                    line: entry.line,
                    problem: format!("no such file or folder (looked at {looked_at}); correct the line"),
                },
                other => other,
            })?;
            all.push(Listed { shown: format!("{pattern} line {}", entry.line), found });
        }
    }
    Ok(all)
}

/// Where in a list.
fn place(line: usize) -> String {
    if line == 0 { String::new() } else { format!("line {line}: ") }
}

/// Whether a file of a folder comes with the data and is none: checksums, licences, descriptions, lists of PMC and MIMIC-CXR, what
/// is hidden.
fn is_companion(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    let ends = [".md5", ".sha256", ".filelist.csv", ".filelist.txt"].iter().any(|end| name.ends_with(end))
        || ["cxr-record-list.csv", "cxr-study-list.csv", "cxr-provider-list.csv"].iter().any(|list| name.starts_with(list));
    let begins = ["README", "LICENSE"].iter().any(|begin| name.starts_with(begin));
    ends || begins || ["SHA256SUMS.txt", "index.html"].contains(&name) || key.split('/').any(|part| part.starts_with('.'))
}

fn resolve_one(file: &RecipeFile, pattern: &str) -> Result<Found, InputError> {
    let is_glob = |segment: &str| segment.contains(['*', '?', '[']);
    if file.expand(pattern)?.starts_with("s3://") {
        mellama_storage::open_store(&file.expand(pattern)?)?;
    }
    // A name may hold glob characters: what exists under it is meant.
    if file.resolve(pattern)?.exists() {
        return literal(file, pattern);
    }
    let segments: Vec<&str> = pattern.split('/').collect();
    let Some(first) = segments.iter().position(|segment| is_glob(segment)) else {
        return literal(file, pattern);
    };
    let (folder, tail) = (segments[..first].join("/"), segments[first..].join("/"));
    let folder = if folder.is_empty() && pattern.starts_with('/') { "/".into() } else { folder };
    let glob = GlobBuilder::new(&tail).literal_separator(true).build();
    let glob = glob.map_err(|e| InputError::BadPattern {
        path: file.path.display().to_string(),
        pattern: pattern.into(),
        reason: e.kind().to_string(),
    })?;
    let matcher = glob.compile_matcher();
    let base = file.resolve(&folder)?;
    if !base.is_dir() {
        return Ok(Found::default());
    }
    // Nothing that does not begin as the pattern does is listed.
    let prefix = tail.split(['*', '?', '[', '{', '\\']).next().unwrap_or_default();
    let objects = tree(&base, &portable(&folder), prefix, |key| matcher.is_match(key))?;
    Ok(Found { objects, ..Found::default() })
}

fn literal(file: &RecipeFile, pattern: &str) -> Result<Found, InputError> {
    let path = file.resolve(pattern)?;
    if path.is_dir() {
        let mut found = Found { objects: tree(&path, &portable(pattern), "", |_| true)?, ..Found::default() };
        let companions: Vec<InputObject> = found.objects.extract_if(.., |object| is_companion(&object.key)).collect();
        found.companions = companions.len() as u64;
        found.first_companion = companions.into_iter().next().map(|object| object.key);
        return Ok(found);
    }
    let real = path.canonicalize().ok().filter(|real| real.is_file());
    let Some(real) = real else { return Err(missing(file, pattern)?) };
    let (Some(base), Some(name)) = (real.parent(), real.file_name().and_then(|n| n.to_str())) else {
        return Err(missing(file, pattern)?);
    };
    let meta = input_store(base)?.head(&Key::new(name)?)?;
    Ok(Found { objects: vec![object(portable(pattern), base, &meta)], ..Found::default() })
}

fn tree(base: &Path, shown: &str, prefix: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<InputObject>, InputError> {
    let store = input_store(base)?;
    let mut objects = Vec::new();
    for meta in list_all(&*store, prefix) {
        let meta = meta?;
        if wanted(meta.key.as_str()) {
            let shown = shown.trim_end_matches('/');
            let name = if shown.is_empty() { meta.key.to_string() } else { format!("{shown}/{}", meta.key) };
            objects.push(object(name, base, &meta));
        }
    }
    Ok(objects)
}

fn object(name: String, base: &Path, meta: &ObjectMeta) -> InputObject {
    InputObject {
        name,
        base: base.to_owned(),
        key: meta.key.as_str().to_owned(),
        size_bytes: meta.size_bytes,
        etag: meta.etag.to_string(),
        part: None,
    }
}

fn input_store(base: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(mellama_storage::LocalStore::open_existing(base)?))
}

fn missing(file: &RecipeFile, pattern: &str) -> Result<InputError, RecipeError> {
    let looked_at = file.resolve(pattern)?.display().to_string();
    Ok(InputError::Missing { path: file.path.display().to_string(), pattern: pattern.into(), looked_at })
}

/// The pattern's folder without a leading `${NAME}/`.
fn portable(folder: &str) -> String {
    match folder.strip_prefix("${").and_then(|rest| rest.split_once('}')) {
        Some((_, rest)) => rest.trim_start_matches('/').to_owned(),
        None => folder.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPANIONS: [&str; 8] = [
        "mixed/5.xml",
        "mixed/5.xml.md5",
        "mixed/5.xml.sha256",
        "mixed/.cache/x.xml",
        "mixed/README.txt",
        "mixed/LICENSE",
        "mixed/SHA256SUMS.txt",
        "mixed/sub/index.html",
    ];

    fn names(patterns: &[&str]) -> Result<Vec<String>, String> {
        resolved(patterns).map(|resolved| resolved.objects.into_iter().map(|o| o.name).collect())
    }

    fn resolved(patterns: &[&str]) -> Result<Resolved, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in COMPANIONS.into_iter().chain(["data/a/1.xml", "data/a/2.xml.gz", "data/a/deep/er/3.xml", "data/b/4.xml"]) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("created");
            std::fs::write(path, b"x").expect("written");
        }
        for (name, text) in
            [("lists/all.txt", "# all\r\n../data/a/*.xml\r\n\n../data/b\n"), ("lists/bad.txt", "\n../data/b/5.xml\n")]
        {
            std::fs::create_dir_all(folder.path().join("lists")).expect("created");
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let text = "name = \"t\"\nworkdir = \"out\"\n";
        let file = RecipeFile::parse(&folder.path().join("r.toml"), text).expect("valid");
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        resolve(&file, "source \"t\"", &patterns).map_err(|e| e.to_string())
    }

    fn check(patterns: &[&str], expected: &[&str]) {
        assert_eq!(names(patterns).expect("something matches"), expected, "{patterns:?}");
    }

    #[test]
    fn patterns_match_as_documented() {
        check(&["data/a/*.xml"], &["data/a/1.xml"]);
        check(&["data/a/*"], &["data/a/1.xml", "data/a/2.xml.gz"]);
        check(&["data/**/*.xml"], &["data/a/1.xml", "data/a/deep/er/3.xml", "data/b/4.xml"]);
        check(&["data/b/4.xml"], &["data/b/4.xml"]);
        check(&["data/a"], &["data/a/1.xml", "data/a/2.xml.gz", "data/a/deep/er/3.xml"]);
        check(&["data/b/*", "data/b/4.xml", "data/none/*"], &["data/b/4.xml"]);
    }

    #[test]
    fn lists_are_taken_line_by_line() {
        check(&["@lists/all.txt"], &["lists/../data/a/1.xml", "lists/../data/b/4.xml"]);
        check(&["@lists/all.txt", "data/b/*.xml"], &["data/b/4.xml", "lists/../data/a/1.xml"]);
        let message = names(&["@lists/bad.txt"]).expect_err("a line is missing");
        assert!(message.starts_with("lists/bad.txt: line 2: no such file or folder"), "{message}");
        let message = names(&["@lists/none.txt"]).expect_err("the list is missing");
        assert!(message.contains("@lists/none.txt: no such file or folder"), "{message}");
    }

    #[test]
    fn companions_are_passed_over_in_folders_and_taken_by_globs() {
        let found = resolved(&["mixed"]).expect("something matches");
        assert_eq!(found.objects.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["mixed/5.xml"]);
        let warning = &found.warnings[0];
        assert!(warning.contains("mixed: 7 files that are no data were passed over, first .cache/x.xml"), "{warning}");
        check(&["mixed/5.xml*"], &["mixed/5.xml", "mixed/5.xml.md5", "mixed/5.xml.sha256"]);
        check(&["mixed/README.txt"], &["mixed/README.txt"]);
    }

    #[test]
    fn one_file_is_one_input_whatever_leads_to_it() {
        check(
            &["data/**/*.xml", "data/b/*.xml", "data/b/4.xml", "./data/b/4.xml"],
            &["./data/b/4.xml", "data/a/1.xml", "data/a/deep/er/3.xml"],
        );
    }

    #[test]
    fn nothing_and_missing_are_told_apart() {
        let message = names(&["data/none/*.xml"]).expect_err("no match");
        assert!(message.contains("no input matched data/none/*.xml"), "{message}");
        let message = names(&["data/a/*.xml", "data/b/5.xml"]).expect_err("a literal path is missing");
        assert!(message.contains("data/b/5.xml: no such file or folder"), "{message}");
    }

    #[test]
    fn names_do_not_hold_the_variable() {
        assert_eq!(portable("${ROOT}/pubmed"), "pubmed");
        assert_eq!(portable("data/pubmed"), "data/pubmed");
    }
}
