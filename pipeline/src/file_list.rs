//! File lists: an entry `@PATH` of a recipe's inputs, a text file with one path or glob a line.
//!
//! It reads the list and says which pattern each line is; what a pattern matches is not its matter.

use std::io::Read;

use mellama_storage::StoreError;

use crate::inputs::InputError;
use crate::location::Location;
use crate::recipe::RecipeFile;

/// What begins an entry that is a list.
const MARK: char = '@';
/// Largest list, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// Most entries of a list.
const MAX_LIST_ENTRIES: usize = 1 << 20;

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From 1.
    pub line: usize,
    /// As a recipe would write it.
    pub pattern: String,
}

/// The path of the list that an input names; `None` for an input that is no list.
pub(crate) fn of(input: &str) -> Option<&str> {
    input.strip_prefix(MARK)
}

/// The entries of a list. Blank lines and lines that begin with `#` are none.
///
/// # Errors
/// `InputError::Missing` and `InputError::List`.
pub(crate) fn read(file: &RecipeFile, list: &str) -> Result<Vec<Entry>, InputError> {
    let place = file.resolve(list)?;
    let is_file = !matches!(&place, Location::Path(path) if !path.is_file());
    let opened = if is_file { place.open(file.stores()) } else { Err(StoreError::NotFound { object: place.to_string() }) };
    let opened = match opened {
        Err(error) if error.is_not_found() => {
            let (path, pattern) = (file.path.display().to_string(), format!("{MARK}{list}"));
            return Err(InputError::Missing { path, pattern, looked_at: place.to_string() });
        }
        opened => opened?,
    };
    let wrong = |line: usize, problem: String| InputError::List { list: list.to_owned(), line, problem };
    let mut bytes = Vec::new();
    opened.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| wrong(0, format!("cannot be read: {}", e.kind())))?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(wrong(0, format!("larger than {MAX_LIST_BYTES} bytes; give several lists, or folders")));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong(0, "not UTF-8; write the paths in UTF-8".into()))?;
    let folder = list.rfind('/').map_or("", |slash| &list[..=slash]);
    let mut entries = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, entry) = (index + 1, line.trim());
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        if entries.len() == MAX_LIST_ENTRIES {
            return Err(wrong(line, format!("more than {MAX_LIST_ENTRIES} entries; give several lists, or globs")));
        }
        let pattern = pattern(folder, entry).map_err(|problem| wrong(line, problem.into()))?;
        entries.push(Entry { line, pattern });
    }
    Ok(entries)
}

/// A line as a recipe would write it: from the list's folder, but for a line that begins with a variable.
fn pattern(folder: &str, entry: &str) -> Result<String, &'static str> {
    if entry.starts_with(MARK) {
        return Err("a list inside a list; put its lines here");
    }
    if entry.starts_with('/') {
        return Err("an absolute path; write it from the folder of the list, or begin it with a variable, ${NAME}/");
    }
    if entry.starts_with("${") {
        return Ok(entry.to_owned());
    }
    Ok(format!("{folder}{}", entry.strip_prefix("./").unwrap_or(entry)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read_text(folder: &Path, text: &[u8]) -> Result<Vec<(usize, String)>, String> {
        std::fs::create_dir_all(folder.join("lists")).unwrap();
        std::fs::write(folder.join("lists/a.txt"), text).unwrap();
        let file = RecipeFile::parse(&folder.join("r.toml"), "name = \"t\"\nworkdir = \"out\"\n").unwrap();
        let entries = read(&file, "lists/a.txt").map_err(|e| e.to_string())?;
        Ok(entries.into_iter().map(|entry| (entry.line, entry.pattern)).collect())
    }

    #[test]
    fn lines_are_patterns_from_the_folder_of_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let found = read_text(folder.path(), b"\xef\xbb\xbf# all\r\n\r\na.xml\r\n  ./b/*.xml \n${ROOT}/c\n../d.xml");
        let expected = [(3, "lists/a.xml"), (4, "lists/b/*.xml"), (5, "${ROOT}/c"), (6, "lists/../d.xml")];
        assert_eq!(found.unwrap(), expected.map(|(line, pattern)| (line, pattern.to_owned())));
        assert_eq!(read_text(folder.path(), b"").unwrap(), []);
    }

    #[test]
    fn what_a_list_may_not_hold_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &[u8], expected: &str| {
            let message = read_text(folder.path(), text).unwrap_err();
            assert!(message.contains(expected), "{message}");
        };
        check(b"a\n@b.txt\n", "lists/a.txt: line 2: a list inside a list");
        check(b"\n/data/a.xml\n", "lists/a.txt: line 2: an absolute path");
        check(b"a\n\xff\n", "lists/a.txt: not UTF-8");
    }
}
