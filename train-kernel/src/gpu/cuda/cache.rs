//! Compiled kernels on disk: their names, and files that are whole or are not used. Compiles and loads nothing.
//!
//! A file's name is `COMPILER-TARGET-DIGEST`, with the digest of all that the compiler was given; its content is the machine
//! code and 32 bytes more, the BLAKE3 digest of the name and the code. A driver is given a place and no length, so that bytes
//! that were cut short must not reach it.

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use super::super::kernels::{HEADERS, Module};
use super::compile::{self, CompileOptions};
use super::version::{Target, Version};

/// Bytes of the digest at a file's end.
const SEAL_BYTES: usize = blake3::OUT_LEN;
/// Files that are longer are none of ours.
const MAX_FILE_BYTES: u64 = 1 << 26;
/// Names of a folder that are looked at.
const MAX_FILES: usize = 1 << 16;
/// Hexadecimal digits of a digest in a name.
const DIGEST_DIGITS: usize = 40;

/// What a compilation depends on but for the compiler: the second part of a name.
pub(super) fn content_name(module: &Module, target: Target, options: CompileOptions) -> String {
    let mut hasher = blake3::Hasher::new();
    // Each part with its length, so that no two lists of parts are one sequence of bytes.
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    for argument in compile::arguments(module, target, options) {
        add(&argument);
    }
    add("sources");
    for source in [module.source].iter().chain(&HEADERS) {
        add(source.name);
        add(source.text);
    }
    format!("{}-{}", target.as_str(), &hasher.finalize().to_hex()[..DIGEST_DIGITS])
}

/// The name of what this compiler makes of a content.
pub(super) fn name(content: &str, compiler: Version) -> String {
    format!("{compiler}-{content}")
}

/// Which compiler made what has this name, when it is of this content.
pub(super) fn compiler_of(name: &str, content: &str) -> Option<Version> {
    name.strip_suffix(content)?.strip_suffix('-')?.parse().ok()
}

/// The code with the digest at its end.
pub(super) fn seal(name: &str, code: &[u8]) -> Vec<u8> {
    let mut sealed = code.to_vec();
    sealed.extend(digest(name, code).as_bytes());
    sealed
}

/// The code of a file of this name; nothing when a byte of it is not what was written.
pub(super) fn unseal<'a>(name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (code, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL_BYTES)?)?;
    (digest(name, code).as_bytes() == seal && !code.is_empty()).then_some(code)
}

fn digest(name: &str, code: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(name.as_bytes()).update(&[0]).update(code).finalize()
}

/// A folder of compiled kernels. Several programs may use it at once.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In this folder, which is made when something is first written.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// In the user's folder for such things: `$XDG_CACHE_HOME/mellama/kernels`, or below `$HOME/.cache`; none without either.
    pub fn of_user() -> Option<Self> {
        let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(Self::at(caches.join("mellama").join("kernels")))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was written under this name; nothing when it is not there or not whole.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        if fs::metadata(&path).ok()?.len() > MAX_FILE_BYTES {
            return None;
        }
        let mut bytes = fs::read(&path).ok()?;
        let code_bytes = unseal(name, &bytes)?.len();
        bytes.truncate(code_bytes);
        Some(bytes)
    }

    /// Keeps what a compiler made of a module. Another program sees all of it or none.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn keep(
        &self,
        module: &Module,
        target: Target,
        options: CompileOptions,
        compiler: Version,
        code: &[u8],
    ) -> io::Result<()> {
        self.write(&name(&content_name(module, target, options), compiler), code)
    }

    /// Keeps code under a name.
    pub(super) fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let temporary = self.folder.join(format!(".{name}.{}", process::id()));
        let written = fs::write(&temporary, seal(name, code)).and_then(|()| fs::rename(&temporary, self.folder.join(name)));
        if written.is_err() {
            // What is left of it is not in anyone's way.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// The compilers whose work on this content is there, the newest first.
    pub(super) fn compilers_of(&self, content: &str) -> Vec<Version> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.take(MAX_FILES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut compilers: Vec<Version> = names.filter_map(|name| compiler_of(&name, content)).collect();
        compilers.sort_by(|a, b| b.cmp(a));
        compilers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels;

    const COMPILER: Version = Version { major: 12, minor: 8 };

    fn content(kernel: kernels::Kernel, target: Target) -> String {
        content_name(&kernel.module, target, CompileOptions::default())
    }

    #[test]
    fn names_differ_with_what_the_compiler_is_given() {
        let one = content(kernels::NARROW, Target::Sm80);
        assert_eq!(one, content(kernels::WIDEN, Target::Sm80), "kernels of one module are compiled at once");
        assert_ne!(one, content(kernels::NARROW, Target::Sm90a));
        assert_ne!(content(kernels::rotate(64), Target::Sm80), content(kernels::rotate(128), Target::Sm80));
        let lines = CompileOptions { line_information: true };
        assert_ne!(one, content_name(&kernels::NARROW.module, Target::Sm80, lines));
        let mut changed = kernels::NARROW.module;
        changed.source.text = "";
        assert_ne!(one, content_name(&changed, Target::Sm80, CompileOptions::default()));
        let named = name(&one, COMPILER);
        assert!(named.starts_with("12.8-sm_80-"), "{named}");
        assert_eq!(compiler_of(&named, &one), Some(COMPILER));
        assert_eq!(compiler_of(&named, "sm_80-0"), None);
        assert_eq!(compiler_of(&format!(".{named}"), &one), None, "what is being written is not there yet");
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("not").join("there"));
        let content = content(kernels::NARROW, Target::Sm80);
        let name = name(&content, COMPILER);
        assert_eq!(cache.read(&name), None);
        assert!(cache.compilers_of(&content).is_empty());
        cache.write(&name, b"code").unwrap();
        assert_eq!(cache.read(&name).unwrap(), b"code");
        cache.write(&name, b"another code").unwrap();
        assert_eq!(cache.read(&name).unwrap(), b"another code");
        let newer = Version { major: 13, minor: 0 };
        cache.write(&super::name(&content, newer), b"newer").unwrap();
        assert_eq!(cache.compilers_of(&content), [newer, COMPILER]);
        let files: Vec<_> = fs::read_dir(cache.folder()).unwrap().collect();
        assert_eq!(files.len(), 2, "nothing temporary is left: {files:?}");
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        cache.write("name", b"some code").unwrap();
        let path = folder.path().join("name");
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.read("name"), None, "{length} of {} bytes", whole.len());
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(&path, broken).unwrap();
            assert_eq!(cache.read("name"), None, "byte {at} is another");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(cache.read("name").unwrap(), b"some code");
        fs::rename(&path, folder.path().join("other")).unwrap();
        assert_eq!(cache.read("other"), None, "it is another kernel's");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Cache::at(file).write("name", b"code").is_err());
    }
}
