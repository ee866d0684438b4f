//! One flipped byte in any published object is found, named, and exits 5.

use std::path::{Path, PathBuf};

use crate::project::{Project, run, succeed};

#[test]
fn every_flipped_byte_is_found_and_named() {
    let project = Project::quick();
    project.succeed(&[]);
    let workdir = project.workdir();
    let sound = succeed(&["verify", &workdir, "--json"]).json();
    assert_eq!(sound["findings"].as_array().map(Vec::len), Some(0));
    assert_eq!(sound["unnamed"].as_array().map(Vec::len), Some(0), "nothing lies about: {}", sound["unnamed"]);
    let mut all = Vec::new();
    files(Path::new(&workdir), &mut all);
    all.sort();
    assert!(all.len() > 50, "a run publishes many objects");
    for (number, path) in all.iter().enumerate() {
        let key = path.strip_prefix(&workdir).expect("below the folder").display().to_string();
        let sound = std::fs::read(path).expect("readable");
        let mut damaged = sound.clone();
        // Another place and another bit in each object, the first and the last byte among them.
        let place = (number * 7_919) % damaged.len();
        damaged[place] ^= 1 << (number % 8);
        std::fs::write(path, &damaged).expect("written");
        let ended = run(&["verify", &workdir]);
        std::fs::write(path, &sound).expect("written");
        assert_eq!(ended.code, 5, "{key} byte {place}: {}{}", ended.stdout, ended.stderr);
        assert!(
            ended.stdout.contains(&key) || ended.stderr.contains(&key),
            "{key} is not named: {}{}",
            ended.stdout,
            ended.stderr
        );
    }
    succeed(&["verify", &workdir]);
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            if name != ".mellama-tmp" {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}
