//! Damage that digests cannot show, because the manifest was made to fit: every layout's own checks find it.

use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use mellama_storage::{Key, MemoryStore, Store, list_all};

use super::verify_export;
use crate::export::tests::{export, read, request, shards};
use crate::export::{ExportManifest, Format};
use crate::key::key_of_text;
use crate::testing::header;

/// A copy of the store with one object replaced and the manifest's entry made to fit it.
fn replaced(store: &Arc<dyn Store>, manifest: &ExportManifest, key: &str, bytes: &[u8]) -> (Arc<dyn Store>, ExportManifest) {
    let copy = MemoryStore::new("copy");
    for meta in list_all(&**store, "") {
        let name = meta.unwrap().key;
        copy.overwrite(&name, &read(store, name.as_str()));
    }
    copy.overwrite(&Key::new(key).unwrap(), bytes);
    let mut fitted = manifest.clone();
    let entry = fitted.objects.iter_mut().find(|entry| entry.key == key).unwrap();
    entry.bytes = bytes.len() as u64;
    entry.blake3 = blake3::hash(bytes).to_hex().to_string();
    (Arc::new(copy), fitted)
}

fn findings(store: &Arc<dyn Store>, manifest: &ExportManifest) -> Vec<String> {
    verify_export(store, manifest, &mut |_| true).unwrap()
}

/// Bytes whose value no reader looks at: time, flags and system of a gzip header, the count for people in `.metadata`.
fn is_free(key: &str, at: usize, bytes: &[u8]) -> bool {
    let last_line = || bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    (key.ends_with(".csv.gz") && (3..10).contains(&at))
        || (key.ends_with(".metadata") && at > last_line() && at + 1 < bytes.len())
}

#[test]
fn every_changed_byte_of_every_layout_is_found_without_its_digest() {
    let shards = shards(&header(16, 100));
    for format in Format::ALL {
        let (store, manifest) = export(&shards, &request(&shards.set, format)).unwrap();
        for entry in manifest.objects.iter().filter(|entry| !entry.key.starts_with("lineage/")) {
            let sound = read(&store, &entry.key);
            let step = (sound.len() / 150).max(1);
            for at in (0..sound.len()).step_by(step).filter(|&at| !is_free(&entry.key, at, &sound)) {
                let mut damaged = sound.clone();
                damaged[at] ^= 1 << (at % 8);
                let (copy, fitted) = replaced(&store, &manifest, &entry.key, &damaged);
                assert!(!findings(&copy, &fitted).is_empty(), "{format} {} byte {at} of {}", entry.key, sound.len());
            }
        }
    }
}

#[test]
fn every_cut_and_lengthened_object_is_found_without_its_digest() {
    let shards = shards(&header(16, 70_000));
    for format in Format::ALL {
        let (store, manifest) = export(&shards, &request(&shards.set, format)).unwrap();
        for entry in &manifest.objects {
            let sound = read(&store, &entry.key);
            let longer = [sound.as_slice(), &[0; 4]].concat();
            for changed in [&sound[..sound.len() - 4], &sound[..1], &[], longer.as_slice()] {
                // gzip readers take zeros after the last member for padding.
                if entry.key.ends_with(".csv.gz") && changed.len() > sound.len() {
                    continue;
                }
                let (copy, fitted) = replaced(&store, &manifest, &entry.key, changed);
                assert!(!findings(&copy, &fitted).is_empty(), "{format} {} of {} bytes", entry.key, changed.len());
            }
        }
    }
}

#[test]
fn changed_missing_and_unnamed_objects_are_named() {
    let shards = shards(&header(16, 100));
    for format in Format::ALL {
        let (store, manifest) = export(&shards, &request(&shards.set, format)).unwrap();
        for entry in &manifest.objects {
            let mut damaged = read(&store, &entry.key);
            damaged[0] ^= 1;
            let (copy, _) = replaced(&store, &manifest, &entry.key, &damaged);
            let found = findings(&copy, &manifest);
            assert!(found.len() == 1 && found[0].starts_with(&format!("{}: BLAKE3", entry.key)), "{format}: {found:?}");
            copy.delete(&Key::new(entry.key.as_str()).unwrap()).unwrap();
            let found = findings(&copy, &manifest);
            assert!(found.len() == 1 && found[0].starts_with(&format!("{}: missing", entry.key)), "{format}: {found:?}");
        }
        let key = Key::new("train-00099.npy").unwrap();
        store.put_new(&key, b"x", &mellama_storage::AttemptId::generate()).unwrap();
        let found = findings(&store, &manifest);
        assert!(found.len() == 1 && found[0].starts_with("train-00099.npy: the manifest does not name it"), "{found:?}");
    }
}

/// The rows of an `OLMo` object with keys spelt as numbers, as version 1 did.
fn of_version_1(packed: &[u8]) -> Vec<u8> {
    let mut rows = String::new();
    GzDecoder::new(packed).read_to_string(&mut rows).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    for row in rows.split_terminator("\r\n") {
        let field = |field| key_of_text(field).map_or_else(|| field.to_owned(), |key| format!("{key:032x}"));
        let fields: Vec<String> = row.split(',').map(field).collect();
        write!(gzip, "{}\r\n", fields.join(",")).unwrap();
    }
    gzip.finish().unwrap()
}

#[test]
fn rows_of_version_1_spell_keys_as_numbers() {
    let shards = shards(&header(16, 100));
    let (store, manifest) = export(&shards, &request(&shards.set, Format::Olmo)).unwrap();
    let rows: Vec<String> =
        manifest.objects.iter().map(|entry| entry.key.clone()).filter(|key| key.ends_with(".csv.gz")).collect();
    assert!(!rows.is_empty());
    let respelled = rows.iter().fold((store, manifest), |(store, manifest), key| {
        let bytes = of_version_1(&read(&store, key));
        replaced(&store, &manifest, key, &bytes)
    });
    let (store, mut manifest) = respelled;
    assert_eq!(findings(&store, &manifest).len(), 1, "in version 2 they are bytes");
    manifest.request.export_version = 1;
    assert_eq!(findings(&store, &manifest), Vec::<String>::new());
}

#[test]
fn a_manifest_that_promises_something_else_is_found() {
    let shards = shards(&header(16, 100));
    let (store, manifest) = export(&shards, &request(&shards.set, Format::Ds)).unwrap();
    let check = |change: &dyn Fn(&mut ExportManifest), expected: &str| {
        let mut changed = manifest.clone();
        change(&mut changed);
        let found = findings(&store, &changed);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    };
    check(&|m| m.totals.tokens += 1, "manifest.json: totals");
    check(&|m| m.totals.padding += 1, "manifest.json: totals");
    check(&|m| m.totals.trained -= 1, "manifest.json: totals");
    check(&|m| m.totals.documents += 1, "manifest.json: totals");
    check(&|m| m.totals.sources[1].tokens += 1, "manifest.json: totals");
    check(&|m| m.totals.sources[1].source = "other".into(), "a source that the manifest does not list");
    check(&|m| m.totals.ids = "00".repeat(32), "not those that were exported");
    check(&|m| m.vocabulary_size = 50, "outside the vocabulary");
    check(&|m| m.request.fill_token = 3, "is padding, expected id 3");
    check(&|m| m.request.begin_token = Some(1), "does not begin with the begin token");
    check(&|m| m.parts[1].first_window += 1, "begins at window 26, expected 25");
    check(&|m| m.parts.swap(0, 1), "begins at window 25, expected 0");
    check(&|m| m.parts[0].windows -= 1, "bytes, expected");
    check(&|m| m.parts[0].lineage = m.parts[1].lineage.clone(), "a row of another object or type");
    check(&|m| m.tokenizer_digest = "other".into(), "not tokenizer, width and number of tokens");
    check(&|m| m.width_bytes = 4, "bytes, expected");
    check(&|m| m.request.format = "arrow".into(), "not known");
}
