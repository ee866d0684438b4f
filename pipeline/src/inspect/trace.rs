//! `inspect --id`: from an id to the document, to what became of it, and to every place that it has in the shards.
//!
//! It shows ids, numbers and names of objects, never a text.

use std::collections::{BTreeMap, BTreeSet};

use mellama_shards::lineage::Placement;
use mellama_shards::{key_of_text, key_text};
use mellama_sources::{CONVERSATION_VERSION, Sensitivity};
use mellama_storage::{ObjectEntry, Stores};
use serde_json::Value;

use super::traced::{Placed, Removal, Runs, Spoken, Trace, Traced, Unwritten};
use crate::conversations::{self, Listed, State};
use crate::decisions;
use crate::failure::{Failure, chain};
use crate::lookup::{self, Folder, Record, RemovedRow, Wanted, removed};
use crate::placements;
use crate::recipe::SourceRecipe;
use crate::retract::{self, facts_of};
use crate::stage::Stage;
use crate::token_runs;

/// Finds a document of a run, whatever became of it.
///
/// # Errors
/// `Failure::Policy` when nothing was run there or nothing has that id; `Failure::Verification` for damaged objects.
pub fn trace(stores: &Stores, uri: &str, id: &str) -> Result<Trace, Failure> {
    let folder = Folder::open_with_keys(stores, uri)?;
    let wanted = Wanted::of([id])?;
    let mut documents = if folder.sources().is_empty() { Vec::new() } else { of_corpus(&folder, &wanted)? };
    documents.extend(of_conversations(&folder, &wanted)?);
    add_placements(&folder, &mut documents)?;
    add_retractions(&folder, &mut documents)?;
    let unwritten = unwritten(&folder, &wanted)?;
    if documents.is_empty() && unwritten.is_empty() {
        let searched = retract::searched(&folder);
        return Err(Failure::Policy(format!(
            "{uri}: id {id:?}: in no document, drop or withdrawal of {searched}; rejected records have no id, they are in rejects/"
        )));
    }
    Ok(Trace { workdir: folder.uri().to_owned(), asked: id.to_owned(), documents, unwritten })
}

/// Documents that `ingest` wrote, with what `dedup` and `tokenize` made of them.
fn of_corpus(folder: &Folder, wanted: &Wanted) -> Result<Vec<Traced>, Failure> {
    let records: Vec<Record> = lookup::find(folder, wanted)?.into_iter().map(|(record, _)| record).collect();
    let ids: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let stands = stands(folder, &ids)?;
    let leaks = leaks(folder, &ids)?;
    let is_mixed = folder.manifest(Stage::Publish)?.is_some();
    let mut documents = Vec::new();
    for record in &records {
        let removed = removed(folder, record.place.task)?;
        let row = removed.binary_search_by_key(&record.place.row, |removed| removed.row).ok();
        let removal = row.map(|row| removed[row].clone()).map(|RemovedRow { reason, is_whole, .. }| Removal {
            stands: stands.get(&(record.id.clone(), reason.clone())).cloned(),
            contaminated_by: leaks.get(&record.id).cloned().filter(|_| reason == "contaminated"),
            reason,
            is_whole,
        });
        // A record of the same id and text, and so of the same key, may stand in its place: the run is that one's.
        let runs = if is_gone(removal.as_ref()) { None } else { runs(folder, record, &removed)? };
        documents.push(Traced {
            id: record.id.clone(),
            version: record.version,
            key: key_text(record.key),
            source: folder.sources()[record.source].name.clone(),
            sensitivity: record.sensitivity.to_string(),
            // Names of notes are numbers of patients and stays.
            names: if record.sensitivity == Sensitivity::Open { record.names.clone() } else { Vec::new() },
            object: Some(record.object.clone()),
            row: Some(u64::from(record.place.row)),
            origin: Some((record.origin.object.clone(), record.origin.byte_offset)),
            removal,
            runs,
            spoken: None,
            retracted: None,
            is_published: is_mixed,
            placements: Vec::new(),
        });
    }
    Ok(documents)
}

/// Conversations, as the table of them lists them.
fn of_conversations(folder: &Folder, wanted: &Wanted) -> Result<Vec<Traced>, Failure> {
    let sources = folder.recipe.instruct.iter().flat_map(|instruct| &instruct.source);
    let levels: BTreeMap<&str, Sensitivity> =
        sources.map(|source| (source.name.as_str(), source.sensitivity.unwrap_or(Sensitivity::Open))).collect();
    let traced = |(Listed { id, source, key, tokens, state }, _)| Traced {
        id,
        version: CONVERSATION_VERSION,
        key: key_text(key),
        sensitivity: levels.get(source.as_str()).copied().unwrap_or(Sensitivity::Phi).to_string(),
        source,
        names: Vec::new(),
        object: None,
        row: None,
        origin: None,
        removal: None,
        runs: None,
        spoken: Some(Spoken { tokens, left_out: (state != State::Kept).then(|| state.as_str().to_owned()) }),
        retracted: None,
        is_published: true,
        placements: Vec::new(),
    };
    Ok(conversations::find(folder, wanted)?.into_iter().map(traced).collect())
}

/// What stands in the place of those ids that were dropped as duplicates, by id and rule: decisions are of ids, and records of one id
/// may have gone for several reasons.
fn stands(folder: &Folder, ids: &BTreeSet<&str>) -> Result<BTreeMap<(String, String), Value>, Failure> {
    let mut stands = BTreeMap::new();
    decisions::for_each(&folder.workdir, &folder.objects(Stage::Dedup, "decisions/")?, |decision| {
        if ids.contains(decision.dropped_id) {
            stands.insert(
                (decision.dropped_id.to_owned(), decision.rule.to_owned()),
                serde_json::json!({
                    "kept_id": decision.kept_id,
                    "rule": decision.rule,
                    "similarity": decision.similarity,
                    "kept_release": decision.kept_release,
                }),
            );
        }
    })?;
    Ok(stands)
}

/// The benchmark items that documents hold, by id.
fn leaks(folder: &Folder, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, Value>, Failure> {
    let mut leaks = BTreeMap::new();
    for entry in folder.objects(Stage::Dedup, "contamination/")? {
        for line in lines(folder, &entry)? {
            if let Some(id) = line["id"].as_str().filter(|id| ids.contains(id)) {
                leaks.insert(id.to_owned(), line["items"].clone());
            }
        }
    }
    Ok(leaks)
}

/// The token run of a document that is there: documents that are wholly removed have none, so it is in the row of the index that
/// its place among the others says.
fn runs(folder: &Folder, record: &Record, removed: &[RemovedRow]) -> Result<Option<Runs>, Failure> {
    if folder.manifest(Stage::Tokenize)?.is_none() {
        return Ok(None);
    }
    let commit = folder.workdir.read_commit(&folder.plan, Stage::Tokenize.name(), u64::from(record.place.task))?;
    let Some(commit) = commit else { return Ok(None) };
    let Some(index) = token_runs::index(&folder.workdir, &commit)? else { return Ok(None) };
    let before = removed.iter().filter(|removed| removed.is_whole && removed.row < record.place.row).count();
    let row = record.place.row as usize - before;
    let object = commit.objects.iter().find(|object| object.key.ends_with(".tokens"));
    let object = object.map_or_else(String::new, |object| object.key.clone());
    let Some(entry) = index.entries().get(row).filter(|entry| entry.key == record.key) else {
        let key = key_text(record.key);
        return Err(Failure::Verification(format!("{object}: row {row}: not document {key}; run \"mellama verify\"")));
    };
    Ok(Some(Runs { object, row: row as u64, tokens: entry.length, is_heldout: entry.heldout }))
}

/// Whether `dedup` removed the whole document.
fn is_gone(removal: Option<&Removal>) -> bool {
    removal.is_some_and(|removal| removal.is_whole)
}

fn add_placements(folder: &Folder, documents: &mut [Traced]) -> Result<(), Failure> {
    let keys: BTreeSet<u128> = documents.iter().filter_map(|document| key_of_text(&document.key)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let shards = placements::shards(folder)?;
    let found = placements::find(&folder.workdir, &shards, &keys)?;
    for (shard, of_shard) in shards.iter().zip(found) {
        for Placement { document, epoch, offset, sequence, tokens, .. } in of_shard {
            let key = key_text(document);
            let placed = Placed {
                part: shard.part.name(),
                shard: shard.entry.key.clone(),
                sequence,
                positions: (tokens.start, tokens.end),
                tokens: (offset, offset + (tokens.end - tokens.start)),
                epoch,
            };
            let of_key = documents.iter_mut().filter(|traced| traced.key == key && !is_gone(traced.removal.as_ref()));
            of_key.for_each(|traced| traced.placements.push(placed.clone()));
        }
    }
    Ok(())
}

fn add_retractions(folder: &Folder, documents: &mut [Traced]) -> Result<(), Failure> {
    for record in folder.workdir.read_retractions(&folder.plan)? {
        for gone in facts_of(&record)?.documents {
            let of_key = documents.iter_mut().filter(|document| document.key == gone.key);
            of_key.for_each(|document| document.retracted = Some(record.key()));
        }
    }
    Ok(())
}

/// Records of that id that became no document: dropped by a cleaning rule, or taken back by a notice.
fn unwritten(folder: &Folder, wanted: &Wanted) -> Result<Vec<Unwritten>, Failure> {
    let mut found = Vec::new();
    for source in folder.sources() {
        let natives: BTreeSet<&str> = wanted.asked().iter().filter_map(|id| native_id(id, source)).collect();
        for entry in folder.objects(Stage::Ingest, &format!("drops/{}/", source.name))? {
            for line in lines(folder, &entry)? {
                let native = line["id"].as_str().and_then(|id| id.strip_prefix(&source.name)?.strip_prefix(':'));
                found.extend(native.filter(|id| natives.contains(id)).map(|_| Unwritten::of(&source.name, &line, "rule")));
            }
        }
        for entry in folder.objects(Stage::Ingest, &format!("withdrawals/{}/", source.name))? {
            for line in lines(folder, &entry)? {
                let native = line["native_id"].as_str().filter(|id| natives.contains(id));
                found.extend(native.map(|_| Unwritten::of(&source.name, &line, "reason")));
            }
        }
    }
    Ok(found)
}

/// What an id is in a source: its native id, or the number of a name that its records go by.
fn native_id<'i>(id: &'i str, source: &SourceRecipe) -> Option<&'i str> {
    let (kind, value) = id.split_once(':')?;
    let is_named = match kind {
        "pmid" => source.format == "pubmed-xml",
        "pmcid" => ["jats", "pmc-tar"].contains(&source.format.as_str()),
        "note" => ["mimic-notes", "mimic-cxr"].contains(&source.format.as_str()),
        _ => false,
    };
    (is_named || kind == source.name).then_some(value)
}

fn lines(folder: &Folder, entry: &ObjectEntry) -> Result<Vec<Value>, Failure> {
    let bytes = folder.workdir.read_object(entry)?;
    let wrong = |e: serde_json::Error| Failure::Verification(format!("{}: not JSON lines: {}", entry.key, chain(&e)));
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_formats_that_have_them() {
        let source = |format: &str| -> SourceRecipe {
            toml::from_str(&format!("name = \"a\"\nformat = \"{format}\"\ninputs = [\"x\"]\ndomain = \"general\"")).unwrap()
        };
        let check = |id: &str, format: &str, expected: Option<&str>| {
            assert_eq!(native_id(id, &source(format)), expected, "{id} {format}");
        };
        check("pmid:7", "pubmed-xml", Some("7"));
        check("pmid:7", "csv", None);
        check("pmid:7", "jats", None);
        check("pmcid:PMC7", "pmc-tar", Some("PMC7"));
        check("note:7", "mimic-notes", Some("7"));
        check("note:7", "jsonl", None);
        check("a:7", "jsonl", Some("7"));
        check("b:7", "jsonl", None);
        check("a:b:7", "text", Some("b:7"));
    }
}
