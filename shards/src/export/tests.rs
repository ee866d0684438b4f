//! Exports of made-up shards in every format: the same bytes twice, several objects, masks, refusals. Golden vectors of the
//! formats stand beside their writers.

use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_storage::{Effect, Fault, FaultStore, Key, MemoryStore, ObjectEntry, Store, Workdir, list_all};
use sha2::{Digest, Sha256};

use super::object::Shape;
use super::window::IdWidth;
use super::{
    EXPORT_VERSION, ExportError, ExportManifest, ExportRequest, Format, OBJECT_TOKENS, shards_digest, verify_export, write_export,
};
use crate::format::{Kind, Sequence, ShardHeader};
use crate::set::ShardSet;
use crate::testing::{header, sequences, workdir, write_shard};

/// Two documents with end token 2.
pub(super) const GOLDEN_DOCUMENTS: [&[u32]; 2] = [&[1, 2, 3, 2], &[5, 2]];
/// SHA-256 of their ids as u16, back to back.
pub(super) const GOLDEN_BIN_SHA256: &str = "c8fab5a1fb6e2def4c373e3bdf2d1406f1c8145d2dccabc1c13f94a812e35a9c";

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(super) fn shape(sequence_length: u32, width: IdWidth) -> Shape {
    Shape { split: "train".into(), sequence_length, width, tokenizer: "tok".into() }
}

/// Shards in memory.
pub(super) struct Shards {
    pub(super) set: Arc<ShardSet>,
    pub(super) workdir: Workdir,
    pub(super) sequences: Vec<Sequence>,
}

/// Three shards of made-up sequences.
pub(super) fn shards(header: &ShardHeader) -> Shards {
    let all = sequences(70, header, 11);
    let cuts = [&all[..30], &all[30..31], &all[31..]];
    let written: Vec<_> = cuts.iter().map(|cut| write_shard(header, cut)).collect();
    let names: Vec<String> = (0..3).map(|index| format!("shards/cpt/train-{index:05}.parquet")).collect();
    let named: Vec<_> =
        names.iter().zip(&written).zip(cuts).map(|((name, bytes), cut)| (name.as_str(), bytes, cut.len() as u64)).collect();
    let (workdir, objects) = workdir(&named);
    let set = Arc::new(ShardSet::open(&workdir, &objects).unwrap());
    Shards { set, workdir, sequences: all }
}

pub(super) fn instruct(sequence_length: u32) -> ShardHeader {
    ShardHeader { kind: Kind::Instruct, ..header(sequence_length, 100) }
}

pub(super) fn request(set: &ShardSet, format: Format) -> ExportRequest {
    ExportRequest {
        export_version: EXPORT_VERSION,
        format: format.name().into(),
        split: "train".into(),
        object_tokens: 16 * 25,
        segments: format == Format::Mds,
        fill_token: 2,
        begin_token: None,
        shards: shards_digest(set.objects()),
    }
}

/// An export in memory with its manifest.
pub(super) fn export(shards: &Shards, request: &ExportRequest) -> Result<(Arc<dyn Store>, ExportManifest), ExportError> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new("export"));
    let folder = Workdir::new(Arc::clone(&store));
    let written = write_export(&shards.set, shards.workdir.store(), &folder, request, &mut |_| true)?;
    let header = shards.set.header();
    let manifest = ExportManifest {
        request: request.clone(),
        sequence_length: header.sequence_length,
        vocabulary_size: header.vocabulary_size,
        width_bytes: header.width.bytes(),
        tokenizer_digest: header.tokenizer_digest.clone(),
        sensitivity: header.sensitivity.clone(),
        reader: String::new(),
        parts: written.parts,
        objects: written.objects,
        totals: written.totals,
    };
    Ok((store, manifest))
}

fn findings(store: &Arc<dyn Store>, manifest: &ExportManifest) -> Vec<String> {
    verify_export(store, manifest, &mut |_| true).unwrap()
}

pub(super) fn read(store: &Arc<dyn Store>, key: &str) -> Vec<u8> {
    store.read(&Key::new(key).unwrap(), None, None).unwrap()
}

fn contents(store: &Arc<dyn Store>) -> BTreeMap<String, Vec<u8>> {
    list_all(&**store, "").map(|meta| meta.unwrap().key.as_str().to_owned()).map(|key| (key.clone(), read(store, &key))).collect()
}

/// What a format's reader has to find: T ids a window, padding filled with 2.
fn expected_ids(sequences: &[Sequence]) -> Vec<u32> {
    let filled = |sequence: &Sequence| {
        let mut ids = sequence.tokens.clone();
        ids[sequence.filled() as usize..].fill(2);
        ids
    };
    sequences.iter().flat_map(filled).collect()
}

#[test]
fn golden_ids_are_those_of_the_published_layouts() {
    let mut bytes = Vec::new();
    for document in GOLDEN_DOCUMENTS {
        IdWidth::Two.append(document, &mut bytes);
    }
    assert_eq!(hex(&bytes), "010002000300020005000200");
    assert_eq!(sha256(&bytes), GOLDEN_BIN_SHA256);
}

#[test]
fn every_format_holds_every_id_and_verifies() {
    for vocabulary in [100, 65_536, 65_537] {
        let shards = shards(&header(16, vocabulary));
        for format in Format::ALL {
            let (store, manifest) = export(&shards, &request(&shards.set, format)).unwrap();
            assert_eq!(findings(&store, &manifest), Vec::<String>::new(), "{format}");
            assert_eq!(manifest.parts.len(), 3, "{format}: 25 windows an object");
            let width = manifest.width_bytes as usize;
            assert_eq!(width, if vocabulary > 65_536 { 4 } else { 2 });
            let ids: Vec<u32> = raw_ids(&store, &manifest).collect();
            assert_eq!(ids, expected_ids(&shards.sequences), "{format}");
            let totals = &manifest.totals;
            assert_eq!((totals.windows, totals.tokens + totals.padding), (70, 70 * 16), "{format}");
            assert_eq!(totals.sources.iter().map(|source| source.tokens).sum::<u64>(), totals.tokens);
        }
    }
}

/// Ids of all objects as the published layout places them, by a second, plain reading of it.
fn raw_ids<'a>(store: &'a Arc<dyn Store>, manifest: &'a ExportManifest) -> impl Iterator<Item = u32> + 'a {
    let width = manifest.width_bytes as usize;
    let window = 16 * width;
    manifest.parts.iter().flat_map(move |part| {
        let bytes = read(store, &part.object);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let windows: Vec<(usize, usize)> = match manifest.request.format.as_str() {
            "llmc" => (0..part.windows as usize).map(|i| (1024 + i * window, window)).collect(),
            "litdata" => (0..part.windows as usize).map(|i| (word(4 + 4 * i), window)).collect(),
            // tokens is the last column.
            "mds" => (0..part.windows as usize).map(|i| (word(8 + 4 * i) - window, window)).collect(),
            _ => (0..part.windows as usize).map(|i| (i * window, window)).collect(),
        };
        let id = move |bytes: &[u8]| bytes.iter().rev().fold(0, |id, &byte| id << 8 | u32::from(byte));
        windows.into_iter().flat_map(move |(at, length)| bytes[at..at + length].chunks(width).map(id).collect::<Vec<_>>())
    })
}

#[test]
fn determinism_an_export_written_twice_or_over_itself_has_the_same_bytes() {
    let shards = shards(&header(16, 100));
    for format in Format::ALL {
        let request = request(&shards.set, format);
        let (first, manifest) = export(&shards, &request).unwrap();
        let (second, again) = export(&shards, &request).unwrap();
        assert_eq!((contents(&first), &manifest), (contents(&second), &again), "{format}");
        let folder = Workdir::new(Arc::clone(&first));
        write_export(&shards.set, shards.workdir.store(), &folder, &request, &mut |_| true).unwrap();
        assert_eq!(contents(&first), contents(&second), "{format}");
    }
}

#[test]
fn resume_an_export_that_was_stopped_is_finished_by_a_second_run() {
    let shards = shards(&header(16, 100));
    for format in Format::ALL {
        let request = request(&shards.set, format);
        let (whole, _) = export(&shards, &request).unwrap();
        let calls = failing_from(&whole, u64::MAX, |folder| {
            write_export(&shards.set, shards.workdir.store(), folder, &request, &mut |_| true).unwrap();
        });
        assert!(calls > 50, "{format}: {calls}");
        for from in [1, 2, calls / 3, calls / 2, calls - 1] {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new("stopped"));
            failing_from(&store, from, |folder| {
                assert!(write_export(&shards.set, shards.workdir.store(), folder, &request, &mut |_| true).is_err());
            });
            assert!(contents(&store).len() < contents(&whole).len());
            let folder = Workdir::new(Arc::clone(&store));
            write_export(&shards.set, shards.workdir.store(), &folder, &request, &mut |_| true).unwrap();
            assert_eq!(contents(&store), contents(&whole), "{format} {from}");
        }
    }
}

/// Works on a store that fails for good from one call on; returns the number of calls.
fn failing_from(store: &Arc<dyn Store>, call: u64, work: impl FnOnce(&Workdir)) -> u64 {
    let faulty = Arc::new(FaultStore::new(Arc::clone(store), Fault::from(call, Effect::FailBefore)));
    work(&Workdir::new(faulty.clone()));
    faulty.calls()
}

#[test]
fn a_stop_is_asked_for_between_windows() {
    let header = header(8, 100);
    let all = sequences(600, &header, 5);
    let bytes = write_shard(&header, &all);
    let (shards, objects) = workdir(&[("shards/cpt/train-0.parquet", &bytes, 600)]);
    let set = Arc::new(ShardSet::open(&shards, &objects).unwrap());
    let folder = Workdir::new(Arc::new(MemoryStore::new("export")));
    let mut asked = 0;
    let stopped = write_export(&set, shards.store(), &folder, &request(&set, Format::Llmc), &mut |_| {
        asked += 1;
        false
    });
    assert!(matches!(stopped, Err(ExportError::Stopped)) && asked == 1);
}

#[test]
fn mask_windows_go_only_to_formats_that_can_say_a_mask() {
    let shards = shards(&instruct(16));
    for format in Format::ALL {
        let mut request = request(&shards.set, format);
        request.split = "instruct".into();
        let outcome = export(&shards, &request);
        if format.holds_masks() {
            let (store, manifest) = outcome.unwrap();
            assert_eq!(findings(&store, &manifest), Vec::<String>::new(), "{format}");
            let trained = shards.sequences.iter().map(|s| (0..16).filter(|&at| s.is_trained(at)).count() as u64).sum::<u64>();
            assert_eq!(manifest.totals.trained, trained, "{format}");
            assert!(trained < manifest.totals.tokens);
        } else {
            let message = outcome.err().unwrap().to_string();
            assert!(message.contains("loss mask") && message.contains("ds, olmo"), "{message}");
        }
    }
    let mut plain = request(&shards.set, Format::Mds);
    plain.segments = false;
    assert!(export(&shards, &plain).err().unwrap().to_string().contains("--segments"));
}

#[test]
fn a_changed_shard_stops_the_export_before_anything_is_written() {
    let header = header(16, 100);
    let good = write_shard(&header, &sequences(20, &header, 1));
    let (shards, mut objects) = workdir(&[("shards/a.parquet", &good, 20), ("shards/b.parquet", &good, 20)]);
    let check = |objects: &[ObjectEntry], expected: &str| {
        let set = Arc::new(ShardSet::open(&shards, objects).unwrap());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new("export"));
        let folder = Workdir::new(Arc::clone(&store));
        let error = write_export(&set, shards.store(), &folder, &request(&set, Format::Ds), &mut |_| true).unwrap_err();
        assert!(matches!(error, ExportError::Shard(_)) && error.to_string().contains(expected), "{error}");
        assert!(contents(&store).is_empty());
    };
    objects[1].blake3 = "00".repeat(32);
    check(&objects, "shards/b.parquet: BLAKE3");
    objects[1].bytes += 1;
    check(&objects, "shards/b.parquet");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let shards = shards(&header(16, 100));
    let check = |change: fn(&mut ExportRequest), expected: &str| {
        let mut request = request(&shards.set, Format::Ds);
        change(&mut request);
        let message = export(&shards, &request).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(|r| r.fill_token = 100, "fill token 100, the vocabulary has 100 ids");
    check(|r| r.segments = true, "ds has no columns");
    check(|r| r.export_version = 3, "version 3, expected 2");
    check(|r| r.export_version = 1, "version 1, expected 2");
    check(
        |r| r.format = "arrow".into(),
        "export format \"arrow\": not known; give one of megatron, mds, ds, llmc, olmo, litdata",
    );
}

#[test]
fn objects_hold_whole_windows() {
    let shards = shards(&header(16, 100));
    let check = |object_tokens: u64, expected: &[u64]| {
        let mut request = request(&shards.set, Format::Llmc);
        request.object_tokens = object_tokens;
        let (_, manifest) = export(&shards, &request).unwrap();
        let windows: Vec<u64> = manifest.parts.iter().map(|part| part.windows).collect();
        assert_eq!(windows, expected, "{object_tokens}");
    };
    check(OBJECT_TOKENS, &[70]);
    check(16 * 70, &[70]);
    check(16 * 70 - 1, &[69, 1]);
    check(16 * 23, &[23, 23, 23, 1]);
    check(16, &[1; 70]);
    let mut request = request(&shards.set, Format::Llmc);
    request.object_tokens = 15;
    let refused = export(&shards, &request).unwrap_err().to_string();
    assert!(refused.contains("objects of at most 15 tokens, one window has 16"), "{refused}");
}

#[test]
fn the_page_of_formats_has_every_column_of_the_lineage() {
    let page = include_str!("../../../docs/formats.md");
    let start = page.find("## Exports").unwrap();
    let section = &page[start..start + page[start..].find("## Manifests").unwrap()];
    for column in super::lineage::lineage_schema().fields() {
        assert!(section.contains(&format!("`{}`", column.name())), "{}", column.name());
    }
    for column in super::lineage::documents_schema().fields() {
        assert!(section.contains(&format!("`{}`", column.name())), "{}", column.name());
    }
    for format in Format::ALL {
        assert!(section.contains(&format!("| `{format}` | ")), "{format}");
    }
}
