//! Retractions that are killed, run at once, or damaged afterwards.

use super::*;

/// A copy of a finished folder in which `ids` were retracted at once.
fn expected(ids: &[&str]) -> BTreeMap<String, String> {
    let project = quickstart();
    retracted(&project, ids);
    files(&project)
}

#[test]
fn resume_after_sigkill_gives_the_same_bytes() {
    let project = quickstart();
    let ids = placed(&project, "shards/cpt/train-");
    let chosen: Vec<&str> = ids.values().flat_map(|of_source| of_source.iter().take(4)).flat_map(|id| ["--id", id]).collect();
    let expected = expected(&chosen);
    let mut whole = Duration::MAX;
    let mut killed = 0;
    for kill in 0..=12_u32 {
        let project = quickstart();
        let mut command = mellama();
        command.args(["retract", &project.workdir()]).args(&chosen).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn().expect("the program starts");
        // The first one tells how long it takes; the others end at a share of that, each at another one.
        while kill == 0 || begun.elapsed() < whole / 13 * kill {
            if child.try_wait().expect("a child").is_some() {
                whole = whole.min(begun.elapsed());
                break;
            }
            std::thread::yield_now();
        }
        killed += u32::from(child.try_wait().expect("a child").is_none());
        let _ = child.kill();
        child.wait().expect("waited for");
        // Whatever was reached: what holds is whole, and what is left to do is said.
        let seen = run(&["verify", &project.workdir()]);
        assert!(seen.code == 0 || seen.stdout.contains("run \"mellama retract\" again"), "{}{}", seen.stdout, seen.stderr);
        retracted(&project, &chosen);
        verify(&project);
        assert_eq!(files(&project), expected, "kill {kill}");
    }
    assert!(killed >= 4, "only {killed} kills met a running process");
}

#[test]
fn what_a_killed_retraction_left_is_found_and_removed_by_the_next_run() {
    let project = quickstart();
    let id = first(&project, "pubmed");
    let shard = trace(&project, &id)["documents"][0]["placements"][0]["shard"].as_str().expect("a shard").to_owned();
    let path = Path::new(&project.workdir()).join(&shard);
    let old = std::fs::read(&path).expect("readable");
    retracted(&project, &["--id", &id]);
    let sound = files(&project);
    // The old shard, as if the end came between record and removal.
    std::fs::write(&path, &old).expect("written");
    let ended = run(&["verify", &project.workdir()]);
    assert_eq!(ended.code, 5, "{}", ended.stdout);
    assert!(ended.stdout.contains(&shard) && ended.stdout.contains("mellama retract"), "{}", ended.stdout);
    project.succeed(&["--until", "instruct-data"]);
    assert_eq!(files(&project), sound);
    // A shard that no record names and that holds it, as if the end came before the record of a further retraction.
    let other = Path::new(&project.workdir()).join("shards/cpt/train-00099-0123456789abcdef.parquet");
    std::fs::write(&other, &old).expect("written");
    assert_eq!(run(&["verify", &project.workdir()]).code, 5);
    retracted(&project, &["--id", &id]);
    assert_eq!(files(&project), sound);
    verify(&project);
}

#[test]
fn retractions_at_once_both_take_effect() {
    let project = quickstart();
    let ids: Vec<String> = placed(&project, "shards/cpt/train-")["pubmed"].iter().take(4).cloned().collect();
    let children: Vec<_> = ids
        .iter()
        .map(|id| {
            let mut command = mellama();
            command.args(["retract", &project.workdir(), "--id", id]).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("the program starts")
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().expect("waited for").code(), Some(0));
    }
    for id in &ids {
        assert!(trace(&project, id)["documents"][0]["retracted"].is_string(), "{id}");
    }
    let found = succeed(&["verify", &project.workdir(), "--json"]).json();
    assert_eq!(found["retracted"].as_u64(), Some(4));
    assert!(Path::new(&project.workdir()).join("retractions/00003.json").exists());
}

#[test]
fn every_flipped_byte_in_what_a_retraction_wrote_is_found_and_named() {
    let project = quickstart();
    let id = first(&project, "mimic-iii");
    let before = files(&project);
    retracted(&project, &["--id", &id]);
    let new: Vec<String> = files(&project).into_keys().filter(|key| !before.contains_key(key)).collect();
    for (number, key) in new.iter().enumerate() {
        let path = Path::new(&project.workdir()).join(key);
        let sound = std::fs::read(&path).expect("readable");
        for place in [0, sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[place] ^= 1 << (number % 8);
            std::fs::write(&path, &damaged).expect("written");
            let ended = run(&["verify", &project.workdir()]);
            assert_eq!(ended.code, 5, "{key} byte {place}");
            assert!(ended.stdout.contains(key.as_str()), "{key} byte {place}: {}", ended.stdout);
        }
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(run(&["verify", &project.workdir()]).code, 5, "{key} missing");
        std::fs::write(&path, &sound).expect("written");
    }
    verify(&project);
}
