//! Writes the fixtures: `cargo run -p mellama-tests --bin make-fixtures [FOLDER]`, by default into `tests/fixtures`.

use std::path::PathBuf;

use mellama_tests::fixtures;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures"));
    let files = fixtures::make();
    fixtures::write(&files, &folder)?;
    let bytes: usize = files.values().map(Vec::len).sum();
    println!("{}: {} files, {bytes} bytes", folder.display(), files.len());
    Ok(())
}
