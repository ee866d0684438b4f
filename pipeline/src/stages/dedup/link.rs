//! The task between joining and comparing: the forests of all bands and the links of the records made one, and its
//! clusters laid out for the tasks that compare.
//!
//! Clusters that hold no document of this run are left out: what earlier releases keep is not decided again.

use arrow::array::{FixedSizeBinaryArray, RecordBatch, UInt32Array, UInt64Array};
use mellama_dedup::{
    Forest, LARGEST_CLUSTERS, Link, LinkKind, Member, NO_ORDINAL, NormalForm, Profile, Sorter, field, record_of,
};
use mellama_storage::ObjectEntry;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::documents::scratch_failure;
use crate::failure::Failure;
use crate::stage::TaskOutput;
use crate::tables::{self, TableWriter};

use super::corpus::{Corpus, Inputs};
use super::order::OrderFacts;
use super::{Phases, join};

/// Cluster starts that are kept to cut the table between; beyond that many every other one is forgotten.
const MAX_STARTS: usize = 1 << 20;
/// root · ordinal · number · source · group · words · exact · characters · flags · owner.
const RECORD: usize = 4 + 4 + 4 + 2 + 8 + 4 + 16 + 8 + 1 + 4;
const CLINICAL: u8 = 1;
const RELEASED: u8 = 2;
const HAS_OWNER: u8 = 4;
const IS_PREPRINT: u8 = 8;

/// What the task says of the clusters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct LinkFacts {
    /// Pairs that the bands proposed.
    pub candidates: u64,
    pub clusters: u64,
    /// Documents in them.
    pub documents: u64,
    /// The largest: root, number of its first document, documents.
    pub largest: Vec<(u32, u32, u64)>,
    /// For each task that compares its first row and its rows.
    pub tasks: Vec<(u64, u64)>,
}

/// A row of the table of clusters.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterRow {
    pub root: u32,
    pub member: Member,
    pub characters: u64,
}

pub(super) fn run(context: &Context<'_>, phases: &Phases<'_>) -> Result<TaskOutput, Failure> {
    let inputs = Inputs::read(context)?;
    let corpus = Corpus::of(context, &inputs)?;
    let order = phases.order(context)?;
    let OrderFacts { documents, .. } = order.facts()?;
    let links = links(context, order.object("links")?)?;
    let (roots, candidates) = roots(context, phases, documents, &links)?;

    let budget = context.resources.memory_bytes / 2;
    let mut sorter = Sorter::<RECORD>::new(budget, &context.resources.scratch);
    let mut ordinals = join::ordinals(context, order.object("ordinals")?)?;
    // Roots of clusters that hold a document of this run.
    let mut is_new = vec![false; documents as usize];
    for part in &corpus.parts {
        context.check_stop()?;
        part.for_each_profile(|number, profile, _| {
            let (ordinal, _) = ordinals.next().ok_or_else(missing_ordinals)??;
            let root = roots.get(ordinal as usize).copied().unwrap_or(NO_ORDINAL);
            if root != NO_ORDINAL {
                is_new[root as usize] |= profile.release.is_none();
                let owner = links.binary_search_by_key(&number, |link| link.dependent).ok().map(|found| links[found]);
                let record = record(root, ordinal, number, profile, owner);
                sorter.push(record).map_err(|e| scratch_failure(&e))?;
            }
            Ok(())
        })?;
    }
    drop(roots);
    let mut layout = Layout::new(context, phases.verify_tasks, candidates)?;
    for record in sorter.finish().map_err(|e| scratch_failure(&e))? {
        let row = parse(&record.map_err(|e| scratch_failure(&e))?);
        if is_new[row.root as usize] {
            layout.push(row)?;
        }
    }
    layout.finish()
}

fn missing_ordinals() -> Failure {
    Failure::Verification("dedup/ordinals: fewer rows than documents; run \"mellama verify\"".into())
}

fn links(context: &Context<'_>, entry: &ObjectEntry) -> Result<Vec<Link>, Failure> {
    let mut links = Vec::with_capacity(entry.records as usize);
    for batch in tables::stream(context.workdir, entry, &["dependent", "owner", "preprint"])? {
        let batch = batch?;
        let dependent: &UInt32Array = tables::column(&batch, "dependent")?;
        let owner: &UInt32Array = tables::column(&batch, "owner")?;
        let preprint: &UInt32Array = tables::column(&batch, "preprint")?;
        links.extend((0..batch.num_rows()).map(|row| Link {
            dependent: dependent.value(row),
            owner: owner.value(row),
            kind: if preprint.value(row) == 1 { LinkKind::Preprint } else { LinkKind::FullText },
        }));
    }
    Ok(links)
}

/// The root of each ordinal in a cluster, and the number of pairs that the bands proposed.
fn roots(context: &Context<'_>, phases: &Phases<'_>, documents: u32, links: &[Link]) -> Result<(Vec<u32>, u64), Failure> {
    let mut forest = Forest::new(documents);
    let mut candidates = 0;
    for task in phases.join() {
        let joined = phases.commit(context, task)?;
        candidates += joined.commit.facts["candidates"].as_u64().unwrap_or(0);
        join::read(context, &joined.commit.objects[0], &mut forest)?;
    }
    if !links.is_empty() {
        // Links name documents; the ordinals of all are 4 bytes each, for as long as this takes.
        let order = phases.order(context)?;
        let ordinals: Vec<u32> = join::ordinals(context, order.object("ordinals")?)?
            .map(|row| row.map(|(ordinal, _)| ordinal))
            .collect::<Result<_, _>>()?;
        for link in links {
            forest.join(ordinals[link.dependent as usize], ordinals[link.owner as usize]);
        }
    }
    Ok((forest.into_roots(), candidates))
}

/// Writes the rows of the clusters and says which task compares which of them.
struct Layout {
    writer: TableWriter,
    waiting: Vec<ClusterRow>,
    facts: LinkFacts,
    /// First rows of clusters, at most [`MAX_STARTS`].
    starts: Vec<u64>,
    rows: u64,
    cluster: Option<(u32, u32, u64)>,
    tasks: u64,
}

impl Layout {
    fn new(context: &Context<'_>, tasks: u64, candidates: u64) -> Result<Layout, Failure> {
        Ok(Layout {
            writer: TableWriter::new(context.workdir, "dedup", &batch(&[]))?,
            waiting: Vec::new(),
            facts: LinkFacts { candidates, ..LinkFacts::default() },
            starts: Vec::new(),
            rows: 0,
            cluster: None,
            tasks,
        })
    }

    fn push(&mut self, row: ClusterRow) -> Result<(), Failure> {
        match &mut self.cluster {
            Some((root, _, documents)) if *root == row.root => *documents += 1,
            _ => {
                self.close();
                self.starts.push(self.rows);
                self.cluster = Some((row.root, row.member.number, 1));
            }
        }
        self.rows += 1;
        self.waiting.push(row);
        if self.waiting.len() == tables::ROW_GROUP_ROWS {
            self.writer.push(&batch(&self.waiting))?;
            self.waiting.clear();
        }
        Ok(())
    }

    /// Ends the open cluster.
    fn close(&mut self) {
        let Some((root, first, documents)) = self.cluster.take() else { return };
        self.facts.clusters += 1;
        self.facts.documents += documents;
        let largest = &mut self.facts.largest;
        // Clusters come by their roots, so of equal ones the first stays before the others.
        let place = largest.partition_point(|other| other.2 >= documents);
        if place < LARGEST_CLUSTERS {
            largest.insert(place, (root, first, documents));
            largest.truncate(LARGEST_CLUSTERS);
        }
        if self.starts.len() >= MAX_STARTS {
            let mut index = 0;
            self.starts.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    fn finish(mut self) -> Result<TaskOutput, Failure> {
        self.close();
        if !self.waiting.is_empty() {
            self.writer.push(&batch(&self.waiting))?;
        }
        let cut = |task: u64| {
            let wanted = self.rows * task / self.tasks;
            let found = self.starts.partition_point(|start| *start < wanted);
            self.starts.get(found).copied().unwrap_or(self.rows)
        };
        let cuts: Vec<u64> = (0..self.tasks).map(cut).chain([self.rows]).collect();
        self.facts.tasks = cuts.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect();
        let object = self.writer.finish("clusters")?;
        let facts = serde_json::to_value(&self.facts).expect("plain data");
        Ok(TaskOutput { objects: vec![object], facts, ..TaskOutput::default() })
    }
}

fn record(root: u32, ordinal: u32, number: u32, profile: &Profile, owner: Option<Link>) -> [u8; RECORD] {
    let member = Member {
        number,
        source: profile.source,
        group: profile.group,
        words: profile.words,
        exact: profile.exact,
        form: profile.form,
        released: profile.release.is_some(),
        owner: owner.map(|link| (link.owner, link.kind)),
    };
    record_of(&[
        &root.to_be_bytes(),
        &ordinal.to_be_bytes(),
        &number.to_be_bytes(),
        &member.source.to_be_bytes(),
        &member.group.to_be_bytes(),
        &member.words.to_be_bytes(),
        &member.exact,
        &profile.characters.to_be_bytes(),
        &[flags(&member) as u8],
        &owner.map_or(0, |link| link.owner).to_be_bytes(),
    ])
}

fn parse(record: &[u8; RECORD]) -> ClusterRow {
    // The ordinal, bytes 4 to 7, has done its work: the order.
    row_of(&Raw {
        root: u32::from_be_bytes(field(record, 0)),
        number: u32::from_be_bytes(field(record, 8)),
        source: u32::from(u16::from_be_bytes(field(record, 12))),
        group: u64::from_be_bytes(field(record, 14)),
        words: u32::from_be_bytes(field(record, 22)),
        exact: field(record, 26),
        characters: u64::from_be_bytes(field(record, 42)),
        flags: u32::from(record[50]),
        owner: u32::from_be_bytes(field(record, 51)),
    })
}

/// A row before its flags are read.
struct Raw {
    root: u32,
    number: u32,
    source: u32,
    group: u64,
    words: u32,
    exact: [u8; 16],
    characters: u64,
    flags: u32,
    owner: u32,
}

fn row_of(raw: &Raw) -> ClusterRow {
    let has = |flag: u8| raw.flags & u32::from(flag) != 0;
    let kind = if has(IS_PREPRINT) { LinkKind::Preprint } else { LinkKind::FullText };
    let member = Member {
        number: raw.number,
        source: raw.source as u16,
        group: raw.group,
        words: raw.words,
        exact: raw.exact,
        form: if has(CLINICAL) { NormalForm::Clinical } else { NormalForm::Plain },
        released: has(RELEASED),
        owner: has(HAS_OWNER).then_some((raw.owner, kind)),
    };
    ClusterRow { root: raw.root, member, characters: raw.characters }
}

fn flags(member: &Member) -> u32 {
    let clinical = member.form == NormalForm::Clinical;
    let preprint = member.owner.is_some_and(|owner| owner.1 == LinkKind::Preprint);
    let set = [(clinical, CLINICAL), (member.released, RELEASED), (member.owner.is_some(), HAS_OWNER), (preprint, IS_PREPRINT)];
    set.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| u32::from(*flag)).sum()
}

fn batch(rows: &[ClusterRow]) -> RecordBatch {
    let exact: Vec<Vec<u8>> = rows.iter().map(|row| row.member.exact.to_vec()).collect();
    tables::batch(vec![
        ("root", tables::u32s(rows.iter().map(|row| row.root))),
        ("number", tables::u32s(rows.iter().map(|row| row.member.number))),
        ("source", tables::u32s(rows.iter().map(|row| u32::from(row.member.source)))),
        ("group", tables::u64s(rows.iter().map(|row| row.member.group))),
        ("words", tables::u32s(rows.iter().map(|row| row.member.words))),
        ("exact", tables::fixed(16, &exact)),
        ("characters", tables::u64s(rows.iter().map(|row| row.characters))),
        ("flags", tables::u32s(rows.iter().map(|row| flags(&row.member)))),
        ("owner", tables::u32s(rows.iter().map(|row| row.member.owner.map_or(0, |owner| owner.0)))),
    ])
}

/// Rows of the table of clusters.
pub(super) fn read_rows(context: &Context<'_>, entry: &ObjectEntry, first: u64, rows: u64) -> Result<Vec<ClusterRow>, Failure> {
    let mut found = Vec::with_capacity(rows as usize);
    for batch in tables::read_rows(context.workdir, entry, first, rows)? {
        let u32s = |name: &str| tables::column::<UInt32Array>(&batch, name);
        let u64s = |name: &str| tables::column::<UInt64Array>(&batch, name);
        let (root, number, source, words) = (u32s("root")?, u32s("number")?, u32s("source")?, u32s("words")?);
        let (group, characters, flags, owner) = (u64s("group")?, u64s("characters")?, u32s("flags")?, u32s("owner")?);
        let exacts: &FixedSizeBinaryArray = tables::column(&batch, "exact")?;
        for row in 0..batch.num_rows() {
            let mut exact = [0; 16];
            exact.copy_from_slice(exacts.value(row));
            found.push(row_of(&Raw {
                root: root.value(row),
                number: number.value(row),
                source: source.value(row),
                group: group.value(row),
                words: words.value(row),
                exact,
                characters: characters.value(row),
                flags: flags.value(row),
                owner: owner.value(row),
            }));
        }
    }
    Ok(found)
}
