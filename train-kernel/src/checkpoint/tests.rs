//! Writing and finding checkpoints without a trainer.

use std::sync::Arc;

use mellama_storage::{Key, MemoryStore, Workdir, sealed};

use super::{
    CheckpointError, CheckpointManifest, CheckpointWriter, Cursor, Digests, FORMAT_VERSION, Partition, discard_after, list_steps,
    newest, prune, read_file, sweep,
};
use crate::guard::Guard;
use crate::shape::Shape;
use crate::trainer::Kind;

fn manifest(step: u64) -> CheckpointManifest {
    let digest = |letter: &str| letter.repeat(64);
    CheckpointManifest {
        format: FORMAT_VERSION,
        kind: Kind::Cpt,
        step,
        total_steps: 9,
        updates: step,
        cursor: Cursor { position: 4 * step, epoch: 0, index: 4 * step },
        seed: 1,
        sensitivity: "open".to_owned(),
        digests: Digests { settings: digest("a"), data: digest("b"), base: digest("c") },
        shape: Shape::named("tiny", 10).unwrap(),
        partition: Partition::default(),
        lora: None,
        choices: None,
        guard: Guard::default(),
        objects: Vec::new(),
    }
}

fn write(workdir: &Workdir, step: u64, body: &[u8]) -> Result<CheckpointManifest, CheckpointError> {
    let mut writer = CheckpointWriter::new(workdir, Kind::Cpt, step);
    writer.put_bytes("notes.json", 1, body)?;
    Ok(writer.finish(manifest(step))?.0)
}

fn workdir() -> (MemoryStore, Workdir) {
    let store = MemoryStore::new("checkpoints");
    (store.clone(), Workdir::new(Arc::new(store)))
}

#[test]
fn the_newest_complete_checkpoint_is_found() {
    let (_, workdir) = workdir();
    assert_eq!(newest(&workdir, Kind::Cpt).unwrap(), None);
    for step in [2, 10, 4] {
        write(&workdir, step, b"{}").unwrap();
    }
    CheckpointWriter::new(&workdir, Kind::Cpt, 12).put_bytes("notes.json", 1, b"{}").unwrap();
    assert_eq!(list_steps(&workdir, Kind::Cpt).unwrap(), [2, 4, 10]);
    let found = newest(&workdir, Kind::Cpt).unwrap().unwrap();
    assert_eq!(found.manifest.step, 10);
    assert_eq!(read_file(&workdir, &found.manifest, "notes.json").unwrap(), b"{}");
    assert!(matches!(read_file(&workdir, &found.manifest, "absent"), Err(CheckpointError::NotListed { .. })));
    assert_eq!(newest(&workdir, Kind::Instruct).unwrap(), None);
}

#[test]
fn writing_the_same_again_is_success_and_other_bytes_are_a_conflict() {
    let (store, workdir) = workdir();
    write(&workdir, 2, b"{}").unwrap();
    let before = store.snapshot();
    write(&workdir, 2, b"{}").unwrap();
    assert!(write(&workdir, 2, b"[]").is_err(), "a complete checkpoint is never replaced");
    assert_eq!(store.snapshot(), before);
}

#[test]
fn a_torn_manifest_is_passed_over_and_one_of_another_version_is_not() {
    let (store, workdir) = workdir();
    write(&workdir, 2, b"{}").unwrap();
    write(&workdir, 4, b"{}").unwrap();
    let key = Key::new("checkpoints/cpt/step-00000004/manifest.json").unwrap();
    let whole = store.snapshot()[&key].clone();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        store.overwrite(&key, &whole[..cut]);
        assert_eq!(newest(&workdir, Kind::Cpt).unwrap().unwrap().manifest.step, 2, "cut at {cut}");
    }
    let later = CheckpointManifest { format: FORMAT_VERSION + 1, ..manifest(4) };
    store.overwrite(&key, &sealed::encode(&later).unwrap());
    assert!(matches!(newest(&workdir, Kind::Cpt), Err(CheckpointError::Format { .. })));
    store.overwrite(&key, &sealed::encode(&serde_json::json!({"format": 3, "new": true})).unwrap());
    assert!(newest(&workdir, Kind::Cpt).is_err(), "members of another version are not a torn manifest");
}

#[test]
fn pruning_keeps_the_newest() {
    let (store, workdir) = workdir();
    for step in [2, 4, 6, 8] {
        write(&workdir, step, b"{}").unwrap();
    }
    assert_eq!(prune(&workdir, Kind::Cpt, (6, 2), &|_| true).unwrap(), [2]);
    assert_eq!(list_steps(&workdir, Kind::Cpt).unwrap(), [4, 6, 8]);
    // What a rewind would go back to stays.
    assert_eq!(prune(&workdir, Kind::Cpt, (8, 1), &|step| step == 4).unwrap(), [6]);
    assert_eq!(list_steps(&workdir, Kind::Cpt).unwrap(), [4, 8]);
    // What a failed save left goes; what a later one writes stays.
    for step in [7, 9] {
        CheckpointWriter::new(&workdir, Kind::Cpt, step).put_bytes("notes.json", 1, b"{}").unwrap();
    }
    sweep(&workdir, Kind::Cpt, 8).unwrap();
    let has = |step: u64| store.snapshot().keys().any(|key| key.as_str().contains(&format!("step-{step:08}/")));
    assert_eq!([4, 7, 8, 9].map(has), [true, false, true, true]);
    discard_after(&workdir, Kind::Cpt, 4).unwrap();
    assert_eq!([4, 7, 8, 9].map(has), [true, false, false, false]);
}
