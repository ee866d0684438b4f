//! Compiles every kernel for every card that is shipped for, and tells what each takes; needs NVRTC, and neither card nor driver.
//!
//!     cargo run --release -p mellama-train --example compile-kernels -- [--cuda-libs DIR] [--ptx] [--to DIR] \
//!         [--budget FILE [--write-budget]]
//!
//! Prints a table in Markdown. Exit code 1 when a kernel spills registers, has a stack or takes more shared memory than a block
//! may have, a file that is meant for tensor cores has no instruction for them, or a kernel takes more than the budget allows; 2
//! when it could not be done. `--ptx` compiles for later cards too, `--to` writes the code as a cache has it, to be embedded by a
//! build with `MELLAMA_CUBINS=DIR`; `--write-budget` makes what was found the budget.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mellama_train::gpu::cuda::budget::Budget;
use mellama_train::gpu::cuda::compile::{CompileOptions, Compiled, KernelResources, compile, compiler_version};
use mellama_train::gpu::cuda::cubin::count_tensor_products;
use mellama_train::gpu::cuda::{Cache, Target, Version, open_from};
use mellama_train::gpu::kernels::{self, Kernel, Module};

const USAGE: &str = "usage: compile-kernels [--cuda-libs DIR] [--ptx] [--to DIR] [--budget FILE [--write-budget]]";

#[derive(Default)]
struct Options {
    libraries: Option<PathBuf>,
    to: Option<PathBuf>,
    is_ptx_wanted: bool,
    budget: Option<PathBuf>,
    is_budget_written: bool,
}

fn main() -> ExitCode {
    let done = options().and_then(|options| run(&options));
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(faults) => {
            eprintln!("compile-kernels: {faults} faults");
            ExitCode::from(1)
        }
        Err(message) => {
            eprintln!("compile-kernels: {message}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut path = || arguments.next().map(PathBuf::from).ok_or(USAGE);
        match argument.to_str() {
            Some("--ptx") => options.is_ptx_wanted = true,
            Some("--to") => options.to = Some(path()?),
            Some("--budget") => options.budget = Some(path()?),
            Some("--write-budget") => options.is_budget_written = true,
            Some("--cuda-libs") => options.libraries = Some(path()?),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

/// Does it, and counts the faults.
fn run(options: &Options) -> Result<usize, String> {
    if let Some(folder) = &options.libraries {
        for file in open_from(folder).map_err(|error| error.to_string())? {
            eprintln!("opened {}", file.display());
        }
    }
    let compiler = compiler_version().map_err(|error| error.to_string())?;
    println!("NVRTC {compiler}\n");
    println!("| kernel | module | target | registers | spilled | shared | stack | HMMA |");
    println!("|---|---|---|---:|---:|---:|---:|---:|");
    let mut targets = Target::SHIPPED.to_vec();
    if options.is_ptx_wanted {
        targets.push(Target::Ptx80);
    }
    let mut modules: Vec<Module> = kernels::all().iter().map(|kernel| kernel.module).collect();
    modules.sort();
    modules.dedup();
    let (mut faults, mut found) = (0, Budget::new(compiler));
    for target in targets {
        for module in &modules {
            let compiled = compile(module, target, CompileOptions::default()).map_err(|error| error.to_string())?;
            faults += tell(module, target, &compiled, &mut found);
            if let Some(folder) = &options.to {
                write(folder, module, target, compiler, &compiled)?;
            }
        }
    }
    match &options.budget {
        None => Ok(faults),
        Some(file) if options.is_budget_written => {
            std::fs::write(file, found.to_text()).map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(faults)
        }
        Some(file) => Ok(faults + compare(file, &found)?),
    }
}

/// Compares with the budget, and counts what is not as it says.
fn compare(file: &Path, found: &Budget) -> Result<usize, String> {
    let of_file = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| of_file(error.to_string()))?;
    let budget = Budget::parse(&text).map_err(of_file)?;
    if budget.compiler() != found.compiler() {
        println!("\nnot compared with {}, which is of NVRTC {}", file.display(), budget.compiler());
        return Ok(0);
    }
    let complaints = budget.complaints(found);
    for complaint in &complaints {
        eprintln!("compile-kernels: {complaint}; if that is meant, run with --write-budget");
    }
    Ok(complaints.len())
}

fn write(folder: &Path, module: &Module, target: Target, compiler: Version, compiled: &Compiled) -> Result<(), String> {
    let cache = Cache::at(folder.to_owned());
    let written = cache.keep(module, target, CompileOptions::default(), compiler, &compiled.cubin);
    written.map_err(|error| format!("{}: {error}", folder.display()))
}

/// Prints the lines of a module's kernels, and counts their faults.
fn tell(module: &Module, target: Target, compiled: &Compiled, found: &mut Budget) -> usize {
    let kernels: Vec<Kernel> = kernels::all().into_iter().filter(|kernel| kernel.module == *module).collect();
    let faults = kernels.iter().map(|kernel| tell_kernel(kernel, target, compiled, found)).sum();
    let has_products = |kernel: &Kernel| count_tensor_products(&compiled.cubin, kernel.name).is_some_and(|count| count > 0);
    if target == Target::Ptx80 || !module.tensor_cores || kernels.iter().any(has_products) {
        return faults;
    }
    eprintln!("compile-kernels: {} for {}: no tensor-core instruction", module.title(), target.as_str());
    faults + 1
}

fn tell_kernel(kernel: &Kernel, target: Target, compiled: &Compiled, found: &mut Budget) -> usize {
    let title = kernel.module.title();
    if target == Target::Ptx80 {
        println!("| {} | {title} | {} | | | {} | | |", kernel.name, target.as_str(), kernel.shared_bytes);
        return 0;
    }
    let unknown = KernelResources::default();
    let resources = compiled.resources.iter().find(|resources| resources.name == kernel.name).unwrap_or(&unknown);
    let products = count_tensor_products(&compiled.cubin, kernel.name);
    let shared_bytes = resources.shared_bytes + kernel.shared_bytes;
    found.add(kernel, target, (resources.registers, shared_bytes));
    let faults = [
        (resources.registers == 0, "the compiler's log does not name it"),
        (resources.spill_stores + resources.spill_loads > 0, "registers are spilled"),
        (resources.stack_bytes > 0, "there is a stack"),
        (shared_bytes > target.max_shared_bytes(), "more shared memory than a block may have"),
    ];
    let products = products.map_or_else(|| "?".to_owned(), |count| if count == 0 { "no".to_owned() } else { count.to_string() });
    println!(
        "| {} | {title} | {} | {} | {} + {} | {} + {} | {} | {products} |",
        kernel.name,
        target.as_str(),
        resources.registers,
        resources.spill_stores,
        resources.spill_loads,
        resources.shared_bytes,
        kernel.shared_bytes,
        resources.stack_bytes,
    );
    let faults: Vec<&str> = faults.into_iter().filter(|(is_found, _)| *is_found).map(|(_, fault)| fault).collect();
    for fault in &faults {
        eprintln!("compile-kernels: {} of {title} for {}: {fault}", kernel.name, target.as_str());
    }
    faults.len()
}
