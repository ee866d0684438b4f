//! From a kernel's source to what a card loads, by NVRTC: needs neither a card nor a driver.
//!
//! Headers come from the program and not from the disk. Rounding is that of the source: no contraction into fused operations,
//! no fast mathematics.

use super::super::device::DeviceError;
use super::super::kernels::{HEADERS, Module};
use super::libraries::{Library, guarded};
use super::ptxas_log;
pub use super::ptxas_log::KernelResources;
use super::version::{Target, Version};

/// Lines of a compiler's log that an error quotes.
const QUOTED_LINES: usize = 3;

/// What may be asked of a compilation beside its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// Keeps the lines of the source, for profilers and for compute-sanitizer.
    pub line_information: bool,
}

/// A module as a card loads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Machine code (an ELF file), or for [`Target::Ptx80`] text that ends in a zero byte.
    pub cubin: Vec<u8>,
    /// What the compiler said.
    pub log: String,
    /// Of every kernel, in the order of the log; empty for [`Target::Ptx80`].
    pub resources: Vec<KernelResources>,
}

/// The version of the compiler that opens here.
///
/// # Errors
/// [`DeviceError::NoLibrary`] without one, [`DeviceError::BadLibrary`] when it does not answer.
pub fn compiler_version() -> Result<Version, DeviceError> {
    Library::Compiler.require()?;
    guarded(Library::Compiler, calls::version)
}

/// Compiles a module.
///
/// # Errors
/// [`DeviceError::NoLibrary`] without a compiler, [`DeviceError::Kernel`] with its words when it refuses the source.
pub fn compile(module: &Module, target: Target, options: CompileOptions) -> Result<Compiled, DeviceError> {
    Library::Compiler.require()?;
    guarded(Library::Compiler, || {
        let refused = |reason: String| DeviceError::Kernel {
            kernel: module.title(),
            target: target.as_str().to_owned(),
            reason: quoted(&reason),
        };
        let program = calls::Program::new(module.source, &HEADERS).map_err(refused)?;
        program.compile(&arguments(module, target, options)).map_err(refused)?;
        let cubin = if target == Target::Ptx80 { program.text() } else { program.machine_code() }.map_err(refused)?;
        let log = program.log();
        Ok(Compiled { resources: ptxas_log::parse(&log), cubin, log })
    })
}

/// What the compiler is told.
pub(super) fn arguments(module: &Module, target: Target, options: CompileOptions) -> Vec<String> {
    let mut arguments: Vec<String> =
        [&format!("--gpu-architecture={}", target.as_str()), "--std=c++17", "--fmad=false"].map(str::to_owned).into();
    if target != Target::Ptx80 {
        arguments.push("--ptxas-options=-v".to_owned());
    }
    if options.line_information {
        arguments.push("--generate-line-info".to_owned());
    }
    arguments.extend(module.definitions().map(|(name, value)| format!("-D{name}={value}")));
    arguments
}

/// The lines of a log that name errors, or its first ones, on one line.
fn quoted(log: &str) -> String {
    let said: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors: Vec<&str> = said.iter().copied().filter(|line| line.contains("error")).collect();
    let chosen = if errors.is_empty() { said } else { errors };
    chosen.into_iter().take(QUOTED_LINES).collect::<Vec<_>>().join("; ")
}

#[expect(unsafe_code, reason = "calls NVRTC")]
mod calls {
    use std::ffi::{CStr, CString, c_char, c_int};
    use std::ptr;

    use cudarc::nvrtc::result::{self, NvrtcError};
    use cudarc::nvrtc::sys;

    use super::super::super::kernels::Source;
    use super::{DeviceError, Library, Version};

    pub(super) fn version() -> Result<Version, DeviceError> {
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: both are places for an int, written before the call returns.
        let answer = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
        let refused = |error: NvrtcError| DeviceError::BadLibrary {
            library: Library::Compiler.file_name().to_owned(),
            reason: error.to_string(),
        };
        answer.result().map_err(refused)?;
        Ok(Version { major: major.unsigned_abs(), minor: minor.unsigned_abs() })
    }

    fn said(error: NvrtcError) -> String {
        error.to_string()
    }

    fn zero_ended(text: &str) -> Result<CString, String> {
        CString::new(text).map_err(|error| error.to_string())
    }

    /// A source on its way through the compiler.
    pub(super) struct Program {
        program: sys::nvrtcProgram,
    }

    impl Drop for Program {
        fn drop(&mut self) {
            // SAFETY: made by nvrtcCreateProgram, and destroyed here only. A failure leaks it, which nobody can mend.
            let _ = unsafe { result::destroy_program(self.program) };
        }
    }

    impl Program {
        pub(super) fn new(source: Source, headers: &[Source]) -> Result<Self, String> {
            let text = zero_ended(source.text)?;
            let name = zero_ended(source.name)?;
            let texts: Vec<CString> = headers.iter().map(|header| zero_ended(header.text)).collect::<Result<_, _>>()?;
            let names: Vec<CString> = headers.iter().map(|header| zero_ended(header.name)).collect::<Result<_, _>>()?;
            let texts: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
            let names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
            let mut program: sys::nvrtcProgram = ptr::null_mut();
            // SAFETY: all texts end in a zero and outlive the call, which copies them; both lists are as long as is said.
            let answer = unsafe {
                sys::nvrtcCreateProgram(
                    &raw mut program,
                    text.as_ptr(),
                    name.as_ptr(),
                    headers.len() as c_int,
                    texts.as_ptr(),
                    names.as_ptr(),
                )
            };
            answer.result().map_err(said)?;
            Ok(Self { program })
        }

        /// Compiles; what it says on failure is the log, or the kind of failure where there is no log.
        pub(super) fn compile(&self, arguments: &[String]) -> Result<(), String> {
            // SAFETY: the program was made by nvrtcCreateProgram and is not destroyed.
            let compiled = unsafe { result::compile_program(self.program, arguments) };
            compiled.map_err(|error| {
                let log = self.log();
                if log.trim().is_empty() { error.to_string() } else { log }
            })
        }

        /// What the compiler said; empty when it says nothing.
        pub(super) fn log(&self) -> String {
            // SAFETY: the program was made by nvrtcCreateProgram and is not destroyed.
            let log = unsafe { result::get_program_log(self.program) };
            let bytes: Vec<u8> = log.unwrap_or_default().into_iter().map(|byte| byte as u8).collect();
            CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
        }

        pub(super) fn machine_code(&self) -> Result<Vec<u8>, String> {
            let mut bytes = 0;
            // SAFETY: the program is alive, and `bytes` a place for a size.
            unsafe { sys::nvrtcGetCUBINSize(self.program, &raw mut bytes) }.result().map_err(said)?;
            let mut cubin = vec![0; bytes];
            // SAFETY: the program is alive, and `cubin` as long as it asked for.
            unsafe { sys::nvrtcGetCUBIN(self.program, cubin.as_mut_ptr().cast()) }.result().map_err(said)?;
            Ok(cubin)
        }

        /// The intermediate language, with the zero at its end.
        pub(super) fn text(&self) -> Result<Vec<u8>, String> {
            // SAFETY: the program was made by nvrtcCreateProgram and is not destroyed.
            let text = unsafe { result::get_ptx(self.program) }.map_err(said)?;
            Ok(text.into_iter().map(|byte| byte as u8).collect())
        }
    }
}
