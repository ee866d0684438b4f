//! The shared libraries that a card needs beside the driver: whether they open, which package has them, and how to open them
//! from a folder that the system's loader does not search.
//!
//! cudarc looks for a library at its first use and panics where it finds none, so each is asked for here before.

use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::super::device::DeviceError;
use super::version::LEVEL;

/// A library that is opened while the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The driver's own; comes with the driver and with nothing else.
    Driver,
    /// NVRTC, which compiles kernels that are neither embedded nor in the cache.
    Compiler,
    /// cuBLASLt, which multiplies matrices.
    Products,
}

impl Library {
    /// Its file, as the loader looks for it.
    pub fn file_name(self) -> &'static str {
        match (self, LEVEL.major) {
            (Self::Driver, _) => "libcuda.so.1",
            (Self::Compiler, 12) => "libnvrtc.so.12",
            (Self::Compiler, _) => "libnvrtc.so.13",
            (Self::Products, 12) => "libcublasLt.so.12",
            (Self::Products, _) => "libcublasLt.so.13",
        }
    }

    /// What to install to have it.
    pub fn package(self) -> &'static str {
        match (self, LEVEL.major) {
            (Self::Driver, _) => "NVIDIA's driver",
            (Self::Compiler, 12) => "nvidia-cuda-nvrtc-cu12",
            (Self::Compiler, _) => "nvidia-cuda-nvrtc",
            (Self::Products, 12) => "nvidia-cublas-cu12",
            (Self::Products, _) => "nvidia-cublas",
        }
    }

    /// Whether it opens. That it has what is asked of it is known only when that is asked.
    pub fn opens(self) -> bool {
        calls::opens(self)
    }

    /// Asks for it.
    ///
    /// # Errors
    /// [`DeviceError::NoDriver`] or [`DeviceError::NoLibrary`] when it does not open.
    pub fn require(self) -> Result<(), DeviceError> {
        if self.opens() {
            return Ok(());
        }
        let library = self.file_name();
        Err(match self {
            Self::Driver => DeviceError::NoDriver { library },
            Self::Compiler | Self::Products => DeviceError::NoLibrary { library, package: self.package() },
        })
    }
}

/// Does what calls into this library. A function that the library lacks is a panic in cudarc, without another way to ask for
/// it first; here it becomes an error, and no message of a panic is printed. Other panics go on: they are faults of the program.
///
/// # Errors
/// What `work` returns, and [`DeviceError::BadLibrary`].
pub(super) fn guarded<T>(library: Library, work: impl FnOnce() -> Result<T, DeviceError>) -> Result<T, DeviceError> {
    silence_missing_functions();
    GUARDS.set(GUARDS.get() + 1);
    // What the closure leaves behind when it is cut off is dropped with it: nothing half-made is looked at afterwards.
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDS.set(GUARDS.get() - 1);
    done.unwrap_or_else(|panic| match missing(&*panic) {
        Some(reason) => Err(DeviceError::BadLibrary { library: library.file_name().to_owned(), reason }),
        None => resume_unwind(panic),
    })
}

thread_local! {
    /// Calls of [`guarded`] that this thread is in.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
}

/// Puts a hook before the one that is there, which is not asked about panics that become errors.
fn silence_missing_functions() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if GUARDS.get() == 0 || missing(panic.payload()).is_none() {
                before(panic);
            }
        }));
    });
}

/// What is missing, when a panic of cudarc says that a library or a function is. The words are those of its release 0.19.
fn missing(panic: &(dyn Any + Send)) -> Option<String> {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())?;
    if let Some(rest) = said.strip_prefix("Missing symbol ") {
        let name = rest.split(':').next().unwrap_or(rest);
        return Some(format!("it lacks the function {name}"));
    }
    said.starts_with("Unable to dynamically load ").then(|| "it does not open".to_owned())
}

/// Opens the libraries that lie in a folder, for this program and for all that it opens later: in the folder itself, in `lib`,
/// `lib64`, or in the folders that `PyPI`'s packages make (`nvidia/*/lib`), where it names their `site-packages` or `nvidia`.
/// Called once, before anything else asks for a library; what it opens stays open. Returns the files that it opened.
///
/// # Errors
/// [`DeviceError::NoLibrary`] when there is none in it, [`DeviceError::BadLibrary`] when one does not open.
pub fn open_from(folder: &Path) -> Result<Vec<PathBuf>, DeviceError> {
    let folders = library_folders(folder);
    let mut opened = Vec::new();
    for start in file_starts() {
        // The first folder that has it; several files of one folder are its versions, of which the newest is taken.
        let Some(file) = folders.iter().find_map(|folder| newest(folder, &start)) else { continue };
        calls::open_for_all(&file)?;
        opened.push(file);
    }
    if opened.is_empty() {
        let missing = Library::Compiler;
        return Err(DeviceError::NoLibrary { library: missing.file_name(), package: missing.package() });
    }
    Ok(opened)
}

/// How the files begin, in the order in which they are opened: NVRTC looks for its part by name alone when it first compiles,
/// and finds it only if it is open by then.
fn file_starts() -> [String; 3] {
    let builtins = format!("libnvrtc-builtins.so.{}", LEVEL.major);
    [builtins, Library::Compiler.file_name().to_owned(), Library::Products.file_name().to_owned()]
}

/// The folder and those below it in which libraries may lie, in a fixed order.
fn library_folders(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned(), folder.join("lib"), folder.join("lib64")];
    for packages in [folder.to_owned(), folder.join("nvidia")] {
        let mut below: Vec<PathBuf> = entries(&packages).into_iter().map(|entry| entry.join("lib")).collect();
        below.sort();
        folders.extend(below);
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn newest(folder: &Path, start: &str) -> Option<PathBuf> {
    let is_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    entries(folder).into_iter().filter(is_version).max()
}

#[expect(unsafe_code, reason = "opening a library runs its initializers")]
mod calls {
    use std::path::Path;

    use cudarc::{cublaslt, driver, nvrtc};
    use libloading::os::unix::{Library as Opened, RTLD_GLOBAL, RTLD_NOW};

    use super::{DeviceError, Library};

    pub(super) fn opens(library: Library) -> bool {
        match library {
            // SAFETY: it opens the driver's library, whose initializers ask nothing of the program.
            Library::Driver => unsafe { driver::sys::is_culib_present() },
            // SAFETY: as above, for NVRTC.
            Library::Compiler => unsafe { nvrtc::sys::is_culib_present() },
            // SAFETY: as above, for cuBLASLt.
            Library::Products => unsafe { cublaslt::sys::is_culib_present() },
        }
    }

    pub(super) fn open_for_all(file: &Path) -> Result<(), DeviceError> {
        // SAFETY: only NVIDIA's libraries are opened, by their names; their initializers ask nothing of the program.
        let opened = unsafe { Opened::open(Some(file), RTLD_NOW | RTLD_GLOBAL) };
        let refused =
            |error: libloading::Error| DeviceError::BadLibrary { library: file.display().to_string(), reason: error.to_string() };
        // Closing it would undo what this is for.
        std::mem::forget(opened.map_err(refused)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(library: Library, reason: &str) -> DeviceError {
        DeviceError::BadLibrary { library: library.file_name().to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn what_a_library_lacks_becomes_an_error_that_names_it() {
        let error = guarded::<()>(Library::Products, || panic!("Missing symbol cublasLtNothing: undefined")).unwrap_err();
        assert_eq!(error, bad(Library::Products, "it lacks the function cublasLtNothing"));
        let inner = || guarded::<()>(Library::Products, || panic!("Missing symbol {}: undefined", "cublasLtNothing"));
        assert_eq!(guarded(Library::Driver, inner), Err(bad(Library::Products, "it lacks the function cublasLtNothing")));
        let error = guarded::<()>(Library::Compiler, || panic!("Unable to dynamically load the \"nvrtc\" shared library"));
        assert_eq!(error, Err(bad(Library::Compiler, "it does not open")));
        assert_eq!(guarded(Library::Driver, || Ok(7)), Ok(7));
        assert_eq!(GUARDS.get(), 0);
    }

    #[test]
    fn other_panics_stay_panics() {
        let panicked = catch_unwind(|| guarded::<()>(Library::Driver, || panic!("a fault of the program")));
        assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"a fault of the program"));
        assert_eq!(GUARDS.get(), 0);
    }

    #[test]
    fn files_are_found_in_the_folders_of_packages() {
        let root = tempfile::tempdir().unwrap();
        let touch = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "not a library").unwrap();
        };
        let major = LEVEL.major;
        touch(&format!("nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.{major}.8"));
        touch(&format!("nvidia/cuda_nvrtc/lib/libnvrtc-builtins.alt.so.{major}.8"));
        touch(&format!("nvidia/cuda_nvrtc/lib/libnvrtc.so.{major}"));
        touch(&format!("nvidia/cuda_nvrtc/lib/libnvrtc.so.{major}9"));
        let found = |folder: &Path| -> Vec<String> {
            let folders = library_folders(folder);
            let files = file_starts().into_iter().filter_map(|start| folders.iter().find_map(|folder| newest(folder, &start)));
            files.map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        let expected = [format!("libnvrtc-builtins.so.{major}.8"), format!("libnvrtc.so.{major}")];
        assert_eq!(found(root.path()), expected);
        assert_eq!(found(&root.path().join("nvidia")), expected);
        assert_eq!(found(&root.path().join("nvidia/cuda_nvrtc")), expected);
        assert_eq!(found(&root.path().join("nvidia/cuda_nvrtc/lib")), expected);
        assert!(found(&root.path().join("nowhere")).is_empty());
        let error = open_from(root.path()).unwrap_err();
        assert!(matches!(error, DeviceError::BadLibrary { .. }), "{error}");
        let error = open_from(&root.path().join("nowhere")).unwrap_err();
        assert!(matches!(error, DeviceError::NoLibrary { .. }), "{error}");
    }
}
