//! Makes the table of kernels that are embedded: the files of the folder that `MELLAMA_CUBINS` names, as the example
//! `compile-kernels --to FOLDER` writes them; an empty table without it. Compiles nothing.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MELLAMA_CUBINS");
    if env::var_os("CARGO_FEATURE_CUDA_12080").is_some() && env::var_os("CARGO_FEATURE_CUDA_13000").is_some() {
        // cudarc does not compile with two levels, and says nothing of why.
        let both = "features cuda-12080 and cuda-13000 are both on, one is expected; add --no-default-features";
        println!("cargo::error={both}");
    }
    let mut table = "&[\n".to_owned();
    for file in env::var_os("MELLAMA_CUBINS").map(PathBuf::from).map(|folder| files(&folder)).unwrap_or_default() {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = file.to_str().expect("the paths of the folder are text");
        writeln!(table, "    ({name:?}, include_bytes!({path:?})),").expect("a string takes any text");
    }
    table.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the folder of outputs"));
    fs::write(out.join("embedded_cubins.rs"), table).expect("cargo's folder of outputs can be written");
}

/// The files of a folder, sorted; hidden ones are not of them.
fn files(folder: &Path) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let folder = folder.canonicalize().unwrap_or_else(|error| panic!("MELLAMA_CUBINS: {}: {error}", folder.display()));
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("MELLAMA_CUBINS: {}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry of the folder can be read").path());
    let is_shown = |path: &PathBuf| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'));
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file() && is_shown(path)).collect();
    files.sort();
    files
}
