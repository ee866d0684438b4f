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
        assert_eq!(temporary(&project), 0, "kill {kill}: drafts hold tokens");
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

/// Temporary files in the work folder.
fn temporary(project: &Project) -> usize {
    std::fs::read_dir(Path::new(&project.workdir()).join(".mellama-tmp")).map_or(0, Iterator::count)
}

#[test]
fn shards_that_nobody_needs_are_found_and_go_with_the_next_run_or_retraction() {
    let project = quickstart();
    let id = first(&project, "pubmed");
    let sound = files(&project);
    let shard = sound.keys().find(|key| key.starts_with("shards/cpt/train-")).expect("a shard").clone();
    let workdir = PathBuf::from(project.workdir());
    let copy_as = |name: &str| std::fs::copy(workdir.join(&shard), workdir.join(name)).expect("copied");
    let found = |name: &str, said: &str| {
        let ended = run(&["verify", &project.workdir()]);
        assert_eq!(ended.code, 5, "{name}: {}", ended.stdout);
        let told = ended.stdout.lines().any(|line| line.contains(name) && line.contains(said));
        assert!(told, "{name}: {}", ended.stdout);
    };
    // Of an attempt of the stage: a reader of the folder would take it for a part of the corpus.
    let of_stage = "shards/cpt/train-00000-0123456789abcdef.parquet";
    let of_instruct = "shards/instruct/train-00007-0123456789abcdef.parquet";
    for name in [of_stage, of_instruct] {
        copy_as(name);
        found(name, "mellama run");
        project.succeed(&["--until", "instruct-data"]);
        assert_eq!(files(&project), sound, "{name}");
    }
    // Of a retraction that has no record yet, which may run: it goes once the record of its number is there.
    let of_retraction = "shards/cpt/train-00000-r00000-0123456789abcdef.parquet";
    copy_as(of_retraction);
    found(of_retraction, "run \"mellama retract\" again");
    project.succeed(&["--until", "instruct-data"]);
    assert!(workdir.join(of_retraction).exists(), "a run does not take it from a retraction that may be running");
    retracted(&project, &["--id", &id]);
    assert!(!workdir.join(of_retraction).exists());
    verify(&project);
    // Left by one that was overtaken; nothing is new for this retraction.
    copy_as_any(&workdir, of_retraction);
    found(of_retraction, "mellama retract");
    assert!(retracted(&project, &["--id", &id])["record"].is_null());
    verify(&project);
    // Not of this program: it stays, and is told.
    let foreign = "shards/cpt/copy.parquet";
    copy_as_any(&workdir, foreign);
    found(foreign, "not written by this run");
    project.succeed(&["--until", "instruct-data"]);
    found(foreign, "move it");
    std::fs::remove_file(workdir.join(foreign)).expect("removed");
    // What is unnamed elsewhere is a note.
    project.write("out/notes.txt", b"mine");
    let noted = succeed(&["verify", &project.workdir(), "--json"]).json();
    assert_eq!(noted["unnamed"], serde_json::json!(["notes.txt"]));
}

fn copy_as_any(workdir: &Path, name: &str) {
    let folder = std::fs::read_dir(workdir.join("shards/cpt")).expect("readable");
    let mut shards: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    shards.sort();
    std::fs::copy(&shards[0], workdir.join(name)).expect("copied");
}

#[test]
fn drafts_of_a_killed_retraction_are_told_and_go_with_the_next_one() {
    let project = quickstart();
    let folder = Path::new(&project.workdir()).join(".mellama-tmp");
    std::fs::create_dir_all(&folder).expect("created");
    std::fs::write(folder.join("0-0.draft"), b"tokens").expect("written");
    let seen = succeed(&["verify", &project.workdir()]).stdout;
    assert!(seen.contains("1 temporary files") && seen.contains("tokens"), "{seen}");
    assert_eq!(temporary(&project), 1, "verify changes nothing");
    retracted(&project, &["--id", &first(&project, "pubmed")]);
    assert_eq!(temporary(&project), 0);
}

#[test]
fn retractions_at_once_all_take_effect_and_leave_nothing() {
    const PROCESSES: usize = 8;
    const EACH: usize = 3;
    let project = quickstart();
    let ids: Vec<String> = placed(&project, "shards/cpt/train-")["pubmed"].iter().take(PROCESSES * EACH).cloned().collect();
    assert_eq!(ids.len(), PROCESSES * EACH);
    std::thread::scope(|scope| {
        for ids in ids.chunks(EACH) {
            let workdir = project.workdir();
            scope.spawn(move || {
                for id in ids {
                    let ended = run(&["retract", &workdir, "--id", id]);
                    assert_eq!(ended.code, 0, "{id}: {}{}", ended.stdout, ended.stderr);
                }
            });
        }
    });
    for id in &ids {
        assert!(trace(&project, id)["documents"][0]["retracted"].is_string(), "{id}");
    }
    verify(&project);
    let found = succeed(&["verify", &project.workdir(), "--json"]).json();
    assert_eq!(found["retracted"].as_u64(), Some(24));
    assert!(Path::new(&project.workdir()).join("retractions/00023.json").exists());
    let card = std::fs::read_to_string(Path::new(&project.workdir()).join("README.md")).expect("there");
    assert!(card.contains("they were published: 24 documents") && card.contains("retractions/00023.json"), "{card}");
    // What readers of the folder see is what was published, less what was taken out, and nothing twice.
    let named = project.json("manifests/publish.json")["facts"]["parts"]["train"]["sequences"].as_u64();
    assert_eq!(totals(&project, "shards/cpt/train-").get("sequences").copied(), named);
}

#[test]
fn a_card_that_was_not_rewritten_is_told_and_written_by_whatever_comes_next() {
    let project = quickstart();
    let card = Path::new(&project.workdir()).join("README.md");
    let old = std::fs::read(&card).expect("readable");
    let id = first(&project, "pubmed");
    retracted(&project, &["--id", &id]);
    let sound = files(&project);
    // As if the end had come right after the record, or between removing the old text and writing the new one.
    for again in [true, false] {
        for left in [Some(&old), None] {
            match left {
                Some(old) => std::fs::write(&card, old),
                None => std::fs::remove_file(&card),
            }
            .expect("as after a kill");
            let ended = run(&["verify", &project.workdir()]);
            assert_eq!(ended.code, 5, "{}", ended.stdout);
            assert!(
                ended.stdout.contains("README.md") && ended.stdout.contains("run \"mellama retract\" again"),
                "{}",
                ended.stdout
            );
            if again {
                retracted(&project, &["--id", &id]);
            } else {
                project.succeed(&["--until", "instruct-data"]);
            }
            assert_eq!(files(&project), sound);
        }
    }
    verify(&project);
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
