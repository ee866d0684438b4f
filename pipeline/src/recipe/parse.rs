//! Text to `Recipe`: size limit, TOML, unknown keys with line, column and the nearest known key, `${NAME}` expansion.

use std::ops::Range;
use std::path::{Path, PathBuf};

use mellama_storage::{Stores, foreign_scheme};

use super::sections::Recipe;
use super::storage::Access;
use crate::location::Location;

/// Largest recipe file that is read, in bytes.
const MAX_RECIPE_BYTES: u64 = 1 << 20;
/// A suggestion is made when at least this similar (Jaro–Winkler, 0 to 1).
const SUGGESTION_SIMILARITY: f64 = 0.75;

/// What is wrong with a recipe. Every message names the file and, where known, line and column.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {reason}; give the path of a recipe, or write one with \"mellama init\"")]
    Unreadable {
        /// The recipe.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// It is not TOML, or a key is unknown, missing or of the wrong type.
    #[error("{path}:{line}:{column}: {problem}")]
    Syntax {
        /// The recipe.
        path: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What was found and what to do.
        problem: String,
    },
    /// Keys that contradict each other or have impossible values.
    #[error("{path}: {key}: {problem}")]
    Value {
        /// The recipe.
        path: String,
        /// The key, dotted.
        key: String,
        /// What was found and what to do.
        problem: String,
    },
    /// A place of which nothing can be read. The address is not repeated, for it may be signed.
    #[error("{path}: an address of {scheme}:// is given as a place; give a path or s3://BUCKET/NAME")]
    Address {
        /// The recipe.
        path: String,
        /// What it begins with.
        scheme: String,
    },
    /// `${NAME}` of a variable that is not set.
    #[error("{path}: ${{{name}}}: the environment variable {name} is not set; set it, for example: export {name}=/data")]
    Variable {
        /// The recipe.
        path: String,
        /// The variable.
        name: String,
    },
}

/// A parsed and checked recipe with the place it came from.
#[derive(Debug, Clone)]
pub struct RecipeFile {
    /// The file as given.
    pub path: PathBuf,
    /// Its content.
    pub recipe: Recipe,
    /// The work folder of the run, absolute: nothing below it is an input.
    pub(crate) excluded: Option<PathBuf>,
    /// What opens the places that it names.
    pub(crate) stores: Stores,
}

impl RecipeFile {
    /// Reads, parses and checks a recipe.
    ///
    /// # Errors
    /// Any `RecipeError`; nothing but the recipe file itself is touched.
    pub fn read(path: &Path) -> Result<RecipeFile, RecipeError> {
        let shown = path.display().to_string();
        let unreadable = |reason: String| RecipeError::Unreadable { path: shown.clone(), reason };
        let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > MAX_RECIPE_BYTES {
            return Err(unreadable(format!("{size} bytes, the limit is {MAX_RECIPE_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Self::parse(path, &text)
    }

    /// Parses and checks recipe text; `path` is for messages and for relative inputs.
    ///
    /// # Errors
    /// `RecipeError::Syntax` and `RecipeError::Value`.
    pub fn parse(path: &Path, text: &str) -> Result<RecipeFile, RecipeError> {
        let recipe: Recipe = toml::from_str(text).map_err(|e| syntax(path, text, &e))?;
        let file = RecipeFile { path: path.to_owned(), recipe, excluded: None, stores: Stores::default() };
        super::check::check(&file)?;
        Ok(file)
    }

    /// The folder that relative inputs start from.
    pub fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// `text` with every `${NAME}` replaced by the environment variable NAME.
    ///
    /// # Errors
    /// `RecipeError::Variable` when one is not set.
    pub fn expand(&self, text: &str) -> Result<String, RecipeError> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else { break };
            let name = &rest[start + 2..start + length];
            let value = std::env::var(name)
                .map_err(|_| RecipeError::Variable { path: self.path.display().to_string(), name: name.to_owned() })?;
            expanded.push_str(&rest[..start]);
            expanded.push_str(&value);
            rest = &rest[start + length + 1..];
        }
        expanded.push_str(rest);
        match foreign_scheme(&expanded) {
            Some(scheme) => {
                Err(RecipeError::Address { path: self.path.display().to_string(), scheme: scheme.to_ascii_lowercase() })
            }
            None => Ok(expanded),
        }
    }

    /// A place of the recipe, expanded and, if it is a relative path, taken from the recipe's folder.
    ///
    /// # Errors
    /// As `expand`.
    pub fn resolve(&self, text: &str) -> Result<Location, RecipeError> {
        let text = self.expand(text)?;
        match Location::of(text) {
            Location::Path(path) => Ok(Location::Path(self.folder().join(path))),
            bucket @ Location::Bucket(_) => Ok(bucket),
        }
    }

    /// Buckets are reached as `[storage]` says, and as the machine allows.
    #[must_use]
    pub fn connected(mut self, access: &Access) -> RecipeFile {
        self.stores = Stores::new(access.options(self.recipe.storage.as_ref()));
        self
    }

    /// What opens the places that the recipe names.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> RecipeError {
    let (line, column) = error.span().map_or((1, 1), |span| place(text, &span));
    RecipeError::Syntax { path: path.display().to_string(), line, column, problem: explain(error.message()) }
}

fn place(text: &str, span: &Range<usize>) -> (usize, usize) {
    let before = &text[..span.start.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// serde's sentence about an unknown key, with the nearest known key added.
/// `invalid type: string "…", expected …` without the string, which may be an address with a signature.
fn without_value(message: &str) -> String {
    match (message.find(" \""), message.rfind("\", ")) {
        (Some(start), Some(end)) if message.starts_with("invalid ") && start < end => {
            format!("{}{}", &message[..start], &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}

fn explain(message: &str) -> String {
    if message.contains("TotalRecipe") {
        return "tokens: expected a number of tokens, at least 1, or \"all\"".to_owned();
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown_key = message.starts_with("unknown field");
    if !unknown_key && !message.starts_with("unknown variant") {
        return without_value(&message.replace('\n', " "));
    }
    let what = if unknown_key { "unknown key" } else { "unknown value" };
    let Some((found, known)) = quoted.split_first() else { return message.to_owned() };
    let similarity = |name: &&&str| strsim::jaro_winkler(found, name);
    let nearest = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    match nearest.filter(|name| similarity(name) >= SUGGESTION_SIMILARITY) {
        Some(name) => format!("{what} \"{found}\"; did you mean \"{name}\"? (known: {})", known.join(", ")),
        None => format!("{what} \"{found}\"; known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        RecipeFile::parse(Path::new("r.toml"), text).expect_err("the recipe is wrong").to_string()
    }

    fn check(text: &str, expected: &str) {
        let message = error_of(text);
        assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated() {
        let error = error_of("name = \"t\"\nworkdir = \"o\"\n[corpus]\nsource = \"https://h/?X-Amz-Signature=canary\"\n");
        assert!(error.contains("invalid type: string, expected") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn unknown_keys_name_place_and_suggestion() {
        check("name = \"a\"\nworkdir = \"out\"\nsede = 3\n", "r.toml:3:1: unknown key \"sede\"; did you mean \"seed\"?");
        let dedup = "name = \"a\"\nworkdir = \"out\"\n[corpus]\nsource = []\n[corpus.dedup]\nbnads = 3\n";
        check(dedup, "r.toml:6:1: unknown key \"bnads\"; did you mean \"bands\"?");
        check("name = \"a\"\nworkdir = \"out\"\n[corpus.zzz]\n", "known: source, clean, dedup");
    }

    #[test]
    fn limits_are_checked() {
        let recipe = |limits: &str| {
            format!(
                "name = \"a\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"jsonl\"\ninputs = [\"x\"]\n\
                 domain = \"general\"\n[corpus.limits]\n{limits}\n"
            )
        };
        check(&recipe("depth = 0"), "corpus.limits.depth: 0: expected at least 1");
        check(&recipe("zstd_window_log = 32"), "corpus.limits.zstd_window_log: 32: expected 10 to 31");
        check(&recipe("record_byte = 1"), "unknown key \"record_byte\"; did you mean \"record_bytes\"?");
        let file = RecipeFile::parse(Path::new("r.toml"), &recipe("record_bytes = 7")).expect("valid");
        let limits = file.recipe.corpus.expect("it has a corpus").limits.expect("it has limits");
        let expected = mellama_sources::Limits { record_bytes: 7, ..mellama_sources::Limits::default() };
        assert_eq!(limits, expected);
    }

    #[test]
    fn wrong_types_and_broken_toml_name_the_place() {
        check("name = 3\nworkdir = \"out\"\n", "r.toml:1:8:");
        check("name = \"a\nworkdir = \"out\"\n", "r.toml:1:");
        check("name = \"a\"\n", "missing field `workdir`");
    }

    #[test]
    fn variables_are_expanded_or_named() {
        let file = RecipeFile::parse(Path::new("r.toml"), "name = \"a\"\nworkdir = \"out\"\n").expect("valid");
        let cargo = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        assert_eq!(file.expand("${CARGO_MANIFEST_DIR}/x").expect("set"), format!("{cargo}/x"));
        assert_eq!(file.expand("plain $x {y}").expect("no variable"), "plain $x {y}");
        let missing = file.expand("a/${MELLAMA_NO_SUCH_VARIABLE}/b").expect_err("not set").to_string();
        assert!(missing.contains("MELLAMA_NO_SUCH_VARIABLE is not set"), "{missing}");
    }
}
