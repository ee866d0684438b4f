//! Where a kernel's machine code comes from: the program itself, the cache, or the compiler. Loads nothing.

use std::sync::OnceLock;

use super::super::device::DeviceError;
use super::super::kernels::Module;
use super::cache::{self, Cache};
use super::compile::{CompileOptions, compile, compiler_version};
use super::embedded::CUBINS;
use super::version::{Target, Version};

/// A module as a card loads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Machine code, or text that ends in a zero.
    pub(super) code: Vec<u8>,
    /// Whether it was compiled just now: what was stored may be of no use to this driver, and is compiled then.
    pub(super) is_new: bool,
    /// Why it could not be kept for the next time, when it was compiled.
    pub(super) not_kept: Option<String>,
}

/// The sources of machine code for one card.
#[derive(Debug)]
pub(super) struct Images {
    /// What the card runs.
    pub(super) target: Target,
    /// The version of its driver.
    pub(super) driver: Version,
    /// Where code is kept.
    pub(super) cache: Option<Cache>,
    /// How it is compiled.
    pub(super) options: CompileOptions,
    /// What the program was built with.
    pub(super) embedded: &'static [(&'static str, &'static [u8])],
    compiler: OnceLock<Result<Version, DeviceError>>,
}

impl Images {
    pub(super) fn new(target: Target, driver: Version, cache: Option<Cache>, options: CompileOptions) -> Self {
        Self { target, driver, cache, options, embedded: CUBINS, compiler: OnceLock::new() }
    }

    /// The code of a module from the program, else from the cache, else compiled and kept.
    pub(super) fn get(&self, module: &Module) -> Result<Image, DeviceError> {
        let content = cache::content_name(module, self.target, self.options);
        let stored = embedded(self.embedded, &content, |compiler| self.fits(compiler)).or_else(|| self.cached(&content));
        match stored {
            Some(code) => Ok(Image { code, is_new: false, not_kept: None }),
            None => self.compile(module),
        }
    }

    /// Compiles a module and keeps the code.
    pub(super) fn compile(&self, module: &Module) -> Result<Image, DeviceError> {
        let compiler = self.compiler.get_or_init(compiler_version).clone()?;
        if !self.fits(compiler) {
            return Err(DeviceError::OldDriver { found: self.driver.to_string(), needed: compiler.to_string() });
        }
        let code = compile(module, self.target, self.options)?.cubin;
        let not_kept = self.cache.as_ref().and_then(|cache| {
            let kept = cache.keep(module, self.target, self.options, compiler, &code);
            kept.err().map(|error| format!("{}: {error}", cache.folder().display()))
        });
        Ok(Image { code, is_new: true, not_kept })
    }

    /// What the compiler that opens here made earlier; where none opens, what any other made.
    fn cached(&self, content: &str) -> Option<Vec<u8>> {
        let cache = self.cache.as_ref()?;
        let compilers = match self.compiler.get_or_init(compiler_version) {
            Ok(compiler) => vec![*compiler],
            Err(_) => cache.compilers_of(content),
        };
        let fitting = compilers.into_iter().filter(|compiler| self.fits(*compiler));
        fitting.into_iter().find_map(|compiler| cache.read(&cache::name(content, compiler)))
    }

    fn fits(&self, compiler: Version) -> bool {
        self.target.fits(compiler, self.driver)
    }
}

/// The code of a content in a table of sealed files.
fn embedded(table: &[(&str, &[u8])], content: &str, fits: impl Fn(Version) -> bool) -> Option<Vec<u8>> {
    let is_usable = |name: &str| cache::compiler_of(name, content).is_some_and(&fits);
    let (name, sealed) = table.iter().find(|(name, _)| is_usable(name))?;
    cache::unseal(name, sealed).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels;

    #[test]
    fn embedded_code_is_found_for_drivers_that_run_it() {
        let content = "sm_80-0123";
        let (old, new) = ("12.8-sm_80-0123", "13.0-sm_80-0123");
        let (of_old, of_new) = (cache::seal(old, b"old"), cache::seal(new, b"new"));
        let table: [(&str, &[u8]); 3] = [("notes", b"text"), (new, &of_new), (old, &of_old)];
        let check = |driver: u32, expected: Option<&[u8]>| {
            let found = embedded(&table, content, |compiler| compiler.major <= driver);
            assert_eq!(found.as_deref(), expected, "driver {driver}");
        };
        check(11, None);
        check(12, Some(b"old"));
        check(13, Some(b"new"));
        let broken: [(&str, &[u8]); 1] = [(old, b"old")];
        assert_eq!(embedded(&broken, content, |_| true), None);
    }

    #[test]
    fn the_cache_serves_what_another_compiler_made_where_none_opens() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let module = kernels::NARROW.module;
        let content = cache::content_name(&module, Target::Sm80, CompileOptions::default());
        for (major, minor) in [(12, 4), (12, 8), (13, 0)] {
            let compiler = Version { major, minor };
            cache.write(&cache::name(&content, compiler), compiler.to_string().as_bytes()).unwrap();
        }
        let images = |driver: Version, compiler: Result<Version, DeviceError>| {
            let mut images = Images::new(Target::Sm80, driver, Some(cache.clone()), CompileOptions::default());
            images.embedded = &[];
            images.compiler.set(compiler).unwrap();
            images
        };
        let found = |images: Images| String::from_utf8(images.get(&module).unwrap().code).unwrap();
        let none = || Err(DeviceError::NoLibrary { library: "none", package: "none" });
        assert_eq!(found(images(Version { major: 12, minor: 0 }, none())), "12.8");
        assert_eq!(found(images(Version { major: 13, minor: 0 }, none())), "13.0");
        let old = Version { major: 12, minor: 4 };
        assert_eq!(found(images(old, Ok(old))), "12.4");
        let error = images(Version { major: 11, minor: 4 }, none()).get(&module).unwrap_err();
        assert_eq!(error, none().unwrap_err());
        let error = images(old, Ok(Version { major: 13, minor: 0 })).get(&module).unwrap_err();
        assert_eq!(error, DeviceError::OldDriver { found: "12.4".to_owned(), needed: "13.0".to_owned() });
    }
}
