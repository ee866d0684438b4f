//! Input patterns of a recipe to a frozen, sorted list of objects: paths, folders and globs.
//!
//! It lists; it does not read. Objects are read later through the same store, pinned to the version listed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;
use mellama_storage::{ETag, Key, ObjectMeta, RangeReader, Store, StoreError, list_all};
use serde::Serialize;

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
}

/// What a list of patterns came to.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// Sorted by name, each object once.
    pub objects: Vec<InputObject>,
    /// Patterns without a match.
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
    /// The store failed, or the object is not the one that was planned.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InputObject {
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

    /// Reads the whole object, for small files such as a tokenizer or a benchmark.
    ///
    /// # Errors
    /// As `open`.
    pub fn read(&self) -> Result<Vec<u8>, StoreError> {
        input_store(&self.base)?.read(&Key::new(self.key.clone())?, None, Some(&ETag::new(self.etag.clone())))
    }
}

/// Lists what the patterns of one source (`subject`) match.
///
/// # Errors
/// `InputError::Missing` for a literal path, `NothingMatched` when nothing matched at all.
pub(crate) fn resolve(file: &RecipeFile, subject: &str, patterns: &[String]) -> Result<Resolved, InputError> {
    let mut found: BTreeMap<PathBuf, InputObject> = BTreeMap::new();
    let mut warnings = Vec::new();
    for pattern in patterns {
        let objects = resolve_one(file, pattern)?;
        if objects.is_empty() {
            warnings.push(format!("{}: {subject}: {pattern} matches nothing", file.path.display()));
        }
        for object in objects {
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
    let mut objects = literal(file, path)?;
    if objects.len() != 1 || file.resolve(path)?.is_dir() {
        return Err(missing(file, path)?);
    }
    Ok(objects.remove(0))
}

fn resolve_one(file: &RecipeFile, pattern: &str) -> Result<Vec<InputObject>, InputError> {
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
        return Ok(Vec::new());
    }
    tree(&base, &portable(&folder), |key| matcher.is_match(key))
}

fn literal(file: &RecipeFile, pattern: &str) -> Result<Vec<InputObject>, InputError> {
    let path = file.resolve(pattern)?;
    if path.is_dir() {
        return tree(&path, &portable(pattern), |_| true);
    }
    let real = path.canonicalize().ok().filter(|real| real.is_file());
    let Some(real) = real else { return Err(missing(file, pattern)?) };
    let (Some(base), Some(name)) = (real.parent(), real.file_name().and_then(|n| n.to_str())) else {
        return Err(missing(file, pattern)?);
    };
    let meta = input_store(base)?.head(&Key::new(name)?)?;
    Ok(vec![object(portable(pattern), base, &meta)])
}

fn tree(base: &Path, shown: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<InputObject>, InputError> {
    let store = input_store(base)?;
    let mut objects = Vec::new();
    for meta in list_all(&*store, "") {
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

    fn names(patterns: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["a/1.xml", "a/2.xml.gz", "a/deep/er/3.xml", "b/4.xml"] {
            let path = folder.path().join("data").join(name);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("created");
            std::fs::write(path, b"x").expect("written");
        }
        let text = "name = \"t\"\nworkdir = \"out\"\n";
        let file = RecipeFile::parse(&folder.path().join("r.toml"), text).expect("valid");
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let resolved = resolve(&file, "source \"t\"", &patterns).map_err(|e| e.to_string())?;
        Ok(resolved.objects.into_iter().map(|o| o.name).collect())
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
