//! Input patterns of a recipe to a frozen, sorted list of objects: paths, folders, globs and file lists.
//!
//! It lists; it does not read. Objects are read later through the same store, pinned to the version listed here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use globset::GlobBuilder;
use mellama_sources::{Part, RangeRead};
use mellama_storage::{ETag, Key, ObjectMeta, RangeReader, Store, StoreError, list_all};
use serde::Serialize;

use crate::file_list;
use crate::location::Location;
use crate::recipe::{RecipeError, RecipeFile};

/// One input object, frozen at planning time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputObject {
    /// The name that documents carry as their origin: the pattern's folder as the recipe writes it (a leading `${NAME}/`
    /// left out, so that it does not depend on the machine) and the path below it.
    pub name: String,
    /// Where the store lies that holds it.
    #[serde(skip)]
    pub base: Location,
    /// The store.
    #[serde(skip)]
    pub store: InputStore,
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

    /// What tells it from every other object: its store's address and its key. Two stores may have objects of one name.
    pub(crate) fn place(&self) -> (&str, &str) {
        (self.store.0.uri(), &self.key)
    }

    /// Opens the object for reading, pinned to the planned version.
    ///
    /// # Errors
    /// `StoreError::Changed` when it is another version now, and the store's own failures.
    pub fn open(&self) -> Result<RangeReader, StoreError> {
        let key = Key::new(self.key.clone())?;
        let meta = ObjectMeta { key, size_bytes: self.size_bytes, etag: ETag::new(self.etag.clone()) };
        Ok(RangeReader::pinned(Arc::clone(&self.store.0), meta))
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
        self.store.0.read(&Key::new(self.key.clone())?, None, Some(&ETag::new(self.etag.clone())))
    }
}

/// The store of an input; two are equal when they lie in one place.
#[derive(Clone, Debug)]
pub struct InputStore(pub(crate) Arc<dyn Store>);

impl PartialEq for InputStore {
    fn eq(&self, other: &Self) -> bool {
        self.0.uri() == other.0.uri()
    }
}

impl Eq for InputStore {}

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

/// The inputs of something that a recipe describes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patterns<'a> {
    /// What they are of, as messages name it.
    pub subject: &'a str,
    /// Paths, globs, addresses and lists.
    pub inputs: &'a [String],
    /// Buckets are read without credentials.
    pub anonymous: bool,
}

/// Lists what patterns match.
///
/// # Errors
/// `InputError::Missing` for a literal path, `NothingMatched` when nothing matched at all.
pub(crate) fn resolve(file: &RecipeFile, wanted: Patterns<'_>) -> Result<Resolved, InputError> {
    let Patterns { subject, inputs: patterns, anonymous } = wanted;
    let mut found: BTreeMap<PathBuf, InputObject> = BTreeMap::new();
    let mut warnings = Vec::new();
    for Listed { shown, found: objects } in (Finder { file, anonymous }).listed(patterns)? {
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
            let place = object.base.join(&object.key).canonical();
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
    objects.sort_by(|a, b| (&a.name, a.store.0.uri(), &a.key).cmp(&(&b.name, b.store.0.uri(), &b.key)));
    Ok(Resolved { objects, warnings })
}

/// Lists the one object of a literal path, such as a tokenizer.
///
/// # Errors
/// `InputError::Missing` when it is absent or a folder.
pub(crate) fn resolve_file(file: &RecipeFile, path: &str) -> Result<InputObject, InputError> {
    let finder = Finder { file, anonymous: false };
    let found = finder.object(path, &file.resolve(path)?)?;
    found.map_or_else(|| Err(missing(file, path)?), Ok)
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

/// What finds inputs: the recipe, and how its buckets are read.
struct Finder<'a> {
    file: &'a RecipeFile,
    anonymous: bool,
}

impl Finder<'_> {
    /// Every pattern of the recipe, those of file lists in the place of their list.
    fn listed(&self, patterns: &[String]) -> Result<Vec<Listed>, InputError> {
        let mut all = Vec::new();
        for pattern in patterns {
            let Some(list) = file_list::of(pattern) else {
                all.push(Listed { shown: pattern.clone(), found: self.resolve_one(pattern)? });
                continue;
            };
            for entry in file_list::read(self.file, list)? {
                let found = self.resolve_one(&entry.pattern).map_err(|error| match error {
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

    fn resolve_one(&self, pattern: &str) -> Result<Found, InputError> {
        let is_glob = |segment: &str| segment.contains(['*', '?', '[']);
        let segments: Vec<&str> = pattern.split('/').collect();
        let first = segments.iter().position(|segment| is_glob(segment));
        // A name may hold glob characters: what exists under it is meant.
        let (Some(first), None) = (first, self.existing(pattern)?) else { return self.literal(pattern) };
        let (folder, tail) = (segments[..first].join("/"), segments[first..].join("/"));
        let folder = if folder.is_empty() && pattern.starts_with('/') { "/".into() } else { folder };
        let glob = GlobBuilder::new(&tail).literal_separator(true).build();
        let glob = glob.map_err(|e| InputError::BadPattern {
            path: self.file.path.display().to_string(),
            pattern: pattern.into(),
            reason: e.kind().to_string(),
        })?;
        let matcher = glob.compile_matcher();
        let base = self.file.resolve(&folder)?;
        if matches!(&base, Location::Path(path) if !path.is_dir()) {
            return Ok(Found::default());
        }
        // Nothing that does not begin as the pattern does is listed.
        let prefix = tail.split(['*', '?', '[', '{', '\\']).next().unwrap_or_default();
        let objects = self.tree(&base, &portable(&folder), prefix, |key| matcher.is_match(key))?;
        Ok(Found { objects, ..Found::default() })
    }

    /// Files and folders of this machine that have exactly this name. Of a bucket nobody is asked: names with glob characters are
    /// patterns there.
    fn existing(&self, pattern: &str) -> Result<Option<PathBuf>, InputError> {
        match self.file.resolve(pattern)? {
            Location::Path(path) => Ok(Some(path).filter(|path| path.exists())),
            Location::Bucket(_) => Ok(None),
        }
    }

    fn literal(&self, pattern: &str) -> Result<Found, InputError> {
        let place = self.file.resolve(pattern)?;
        if let Some(object) = self.object(pattern, &place)? {
            return Ok(Found { objects: vec![object], ..Found::default() });
        }
        if matches!(&place, Location::Path(path) if !path.is_dir()) {
            return Err(missing(self.file, pattern)?);
        }
        let mut found = Found { objects: self.tree(&place, &portable(pattern), "", |_| true)?, ..Found::default() };
        // A bucket has no empty folders.
        if found.objects.is_empty() && matches!(place, Location::Bucket(_)) {
            return Err(missing(self.file, pattern)?);
        }
        let companions: Vec<InputObject> = found.objects.extract_if(.., |object| is_companion(&object.key)).collect();
        found.companions = companions.len() as u64;
        found.first_companion = companions.into_iter().next().map(|object| object.key);
        Ok(found)
    }

    /// The object of exactly this name, where there is one.
    fn object(&self, pattern: &str, place: &Location) -> Result<Option<InputObject>, InputError> {
        let (base, name) = match place {
            Location::Path(path) => {
                let real = path.canonicalize().ok().filter(|real| real.is_file());
                let Some((folder, name)) = real.as_ref().and_then(|real| Some((real.parent()?, real.file_name()?.to_str()?)))
                else {
                    return Ok(None);
                };
                (Location::Path(folder.to_owned()), name.to_owned())
            }
            Location::Bucket(_) if pattern.ends_with('/') => return Ok(None),
            Location::Bucket(_) => {
                let Some(folder) = place.ancestor(1) else { return Ok(None) };
                (folder, place.name().to_owned())
            }
        };
        let store = self.store(&base)?;
        let meta = match &base {
            Location::Path(_) => Some(store.0.head(&Key::new(name)?)?),
            // A name comes before all names that begin with it.
            Location::Bucket(_) => store.0.list(&name, None, 1)?.pop().filter(|meta| meta.key.as_str() == name),
        };
        Ok(meta.map(|meta| object(portable(pattern), &base, &store, &meta)))
    }

    fn tree(
        &self,
        base: &Location,
        shown: &str,
        prefix: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<InputObject>, InputError> {
        let store = self.store(base)?;
        let mut objects = Vec::new();
        for meta in list_all(&*store.0, prefix) {
            let meta = meta?;
            if wanted(meta.key.as_str()) {
                let shown = shown.trim_end_matches('/');
                let name = if shown.is_empty() { meta.key.to_string() } else { format!("{shown}/{}", meta.key) };
                objects.push(object(name, base, &store, &meta));
            }
        }
        Ok(objects)
    }

    fn store(&self, base: &Location) -> Result<InputStore, StoreError> {
        match base {
            Location::Bucket(uri) if self.anonymous => Ok(InputStore(self.file.stores.open_anonymous(uri)?)),
            base => Ok(InputStore(base.store(&self.file.stores)?)),
        }
    }
}

fn object(name: String, base: &Location, store: &InputStore, meta: &ObjectMeta) -> InputObject {
    InputObject {
        name,
        base: base.clone(),
        store: store.clone(),
        key: meta.key.as_str().to_owned(),
        size_bytes: meta.size_bytes,
        etag: meta.etag.to_string(),
        part: None,
    }
}

fn missing(file: &RecipeFile, pattern: &str) -> Result<InputError, RecipeError> {
    let looked_at = file.resolve(pattern)?.to_string();
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
        resolve(&file, Patterns { subject: "source \"t\"", inputs: &patterns, anonymous: false }).map_err(|e| e.to_string())
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
