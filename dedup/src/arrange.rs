//! Puts the documents in the order of their priority and settles what needs no text: equal ids, equal exact hashes, and
//! which pairs the records themselves propose.
//!
//! The priority is a total order, so the result depends on the documents as a set. Only between records of one id and one
//! version does their number count: the one that was given first stays. It compares no texts.

use std::io;
use std::path::Path;

use crate::bits::Bits;
use crate::entry::{Profile, Removal, Rule};
use crate::links::{Link, LinkKind, Links};
use crate::sorter::{Sorter, field, record_of};

/// The ordinal of a document that a rule has removed.
pub const NO_ORDINAL: u32 = u32::MAX;

const KEY: usize = 16;
/// key · !version · not of an earlier release · number · exact.
const ID_RECORD: usize = KEY + 4 + 1 + 4 + 16;
/// release · rank · abridged · !version · !words · !characters · !quality · key · number · exact.
const PRIORITY_RECORD: usize = 2 + 2 + 1 + 4 + 4 + 8 + 2 + KEY + 4 + 16;
/// exact · ordinal · number.
const EXACT_RECORD: usize = 16 + 4 + 4;
/// name · role · abridged · number.
const NAME_RECORD: usize = 8 + 1 + 1 + 4;

/// What a record is to a name, as the byte in a name record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Is = 0,
    PreprintOf = 1,
    PublishedFrom = 2,
}

/// Takes the documents one by one and puts them in order.
#[derive(Debug)]
pub struct Arranger {
    ids: Sorter<ID_RECORD>,
    priorities: Sorter<PRIORITY_RECORD>,
    names: Sorter<NAME_RECORD>,
    /// Documents of earlier releases.
    released: Bits,
    exact_only: Bits,
    count: u32,
    memory_bytes: u64,
    scratch: std::path::PathBuf,
}

/// The documents in order.
#[derive(Debug)]
pub struct Arranged {
    /// By document number: its place in the order of priority, 0 the most preferred; [`NO_ORDINAL`] if it was removed.
    pub ordinals: Vec<u32>,
    /// Removed by id or as exact copies, rising by `dropped`.
    pub removals: Vec<Removal>,
    /// Pairs that the records propose, at most one a dependent, rising.
    pub links: Vec<Link>,
}

impl Arranger {
    /// Records take about `memory_bytes`, and 59 + 41 bytes a document in `scratch` beyond that.
    pub fn new(memory_bytes: u64, scratch: &Path) -> Self {
        Self {
            ids: Sorter::new(memory_bytes / 8 * 3, scratch),
            priorities: Sorter::new(memory_bytes / 2, scratch),
            names: Sorter::new(memory_bytes / 8, scratch),
            released: Bits::default(),
            exact_only: Bits::default(),
            count: 0,
            memory_bytes,
            scratch: scratch.to_path_buf(),
        }
    }

    /// Takes the next document; its number is how many came before it. The caller sees to it that there are fewer than
    /// 2³² − 1.
    ///
    /// # Errors
    /// The scratch folder cannot be written.
    pub fn push(&mut self, profile: &Profile, links: &Links) -> io::Result<u32> {
        let number = self.count;
        self.count += 1;
        if profile.release.is_some() {
            self.released.insert(number);
        }
        if profile.exact_only {
            self.exact_only.insert(number);
        }
        self.ids.push(id_record(profile, number))?;
        self.priorities.push(priority_record(profile, number))?;
        let roles =
            [(Role::Is, &links.names), (Role::PreprintOf, &links.preprint_of), (Role::PublishedFrom, &links.published_from)];
        for (role, names) in roles {
            for name in names {
                self.names.push(name_record(*name, role, profile.abridged, number))?;
            }
        }
        Ok(number)
    }

    /// Passes over the next document: it has a number and takes part in nothing.
    pub fn skip(&mut self) -> u32 {
        self.count += 1;
        self.count - 1
    }

    /// Settles ids and exact copies.
    ///
    /// # Errors
    /// The scratch folder cannot be written or read.
    pub fn finish(self) -> io::Result<Arranged> {
        let Self { ids, priorities, names, released, exact_only, count, memory_bytes, scratch } = self;
        let mut removals = same_ids(ids, &released)?;
        let mut gone = Bits::default();
        for removal in &removals {
            gone.insert(removal.dropped);
        }

        let mut ordinals = vec![NO_ORDINAL; count as usize];
        let mut copies = Sorter::<EXACT_RECORD>::new(memory_bytes / 8 * 3, &scratch);
        let mut next = 0u32;
        for record in priorities.finish()? {
            let record = record?;
            let (exact, number) =
                (field::<16>(&record, PRIORITY_RECORD - 16), u32::from_be_bytes(field(&record, PRIORITY_RECORD - 20)));
            if !gone.contains(number) {
                ordinals[number as usize] = next;
                copies.push(exact_record(exact, next, number))?;
                next += 1;
            }
        }
        exact_copies(copies, &released, |removal| {
            ordinals[removal.dropped as usize] = NO_ORDINAL;
            removals.push(removal);
        })?;
        removals.sort_unstable_by_key(|removal| removal.dropped);
        let standing = Standing { ordinals: &ordinals, removals: &removals, released: &released, exact_only: &exact_only };
        let links = standing.links(names)?;
        Ok(Arranged { ordinals, removals, links })
    }
}

/// Of the records with one id all but the newest: an older version, or a copy of the same text (`exact`: two records
/// without an id of their own have one id when their texts are one). Records of one id and version with other texts are all
/// kept: nothing proves that one stands for the other. Those of earlier releases are kept whatever comes.
fn same_ids(ids: Sorter<ID_RECORD>, released: &Bits) -> io::Result<Vec<Removal>> {
    let mut removals = Vec::new();
    let mut newest: Option<[u8; ID_RECORD]> = None;
    for record in ids.finish()? {
        let record = record?;
        let Some(kept) = newest.filter(|kept| kept[..KEY] == record[..KEY]) else {
            newest = Some(record);
            continue;
        };
        let number = |record: &[u8]| u32::from_be_bytes(field(record, KEY + 5));
        let is_copy = kept[ID_RECORD - 16..] == record[ID_RECORD - 16..];
        // Versions stand there as their complements.
        let is_older = kept[KEY..KEY + 4] < record[KEY..KEY + 4];
        if !released.contains(number(&record)) && (is_copy || is_older) {
            removals.push(proved(number(&record), number(&kept), if is_copy { Rule::Exact } else { Rule::SameId }));
        }
    }
    Ok(removals)
}

/// Of the documents with one exact hash all but the preferred.
fn exact_copies(copies: Sorter<EXACT_RECORD>, released: &Bits, mut remove: impl FnMut(Removal)) -> io::Result<()> {
    let mut preferred: Option<[u8; EXACT_RECORD]> = None;
    for record in copies.finish()? {
        let record = record?;
        let Some(kept) = preferred.filter(|kept| kept[..16] == record[..16]) else {
            preferred = Some(record);
            continue;
        };
        let number = |record: &[u8]| u32::from_be_bytes(field(record, 20));
        if !released.contains(number(&record)) {
            remove(proved(number(&record), number(&kept), Rule::Exact));
        }
    }
    Ok(())
}

fn proved(dropped: u32, kept: u32, rule: Rule) -> Removal {
    Removal { dropped, kept, rule, similarity: 1.0, containment: 1.0 }
}

/// What is known of the documents once copies are gone.
struct Standing<'a> {
    ordinals: &'a [u32],
    removals: &'a [Removal],
    released: &'a Bits,
    exact_only: &'a Bits,
}

/// One record of a name.
#[derive(Clone, Copy)]
struct Named {
    role: u8,
    abridged: bool,
    number: u32,
}

impl Standing<'_> {
    /// At most one link a dependent: of several owners the preferred.
    fn links(&self, names: Sorter<NAME_RECORD>) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        let mut group: Vec<Named> = Vec::new();
        let mut name = [0; 8];
        for record in names.finish()? {
            let record = record?;
            if record[..8] != name {
                self.propose(&group, &mut links);
                group.clear();
                name = field(&record, 0);
            }
            group.push(Named { role: record[8], abridged: record[9] == 1, number: u32::from_be_bytes(field(&record, 10)) });
        }
        self.propose(&group, &mut links);
        links.sort_unstable_by_key(|link: &Link| (link.dependent, self.ordinals[link.owner as usize], link.kind));
        links.dedup_by_key(|link| link.dependent);
        Ok(links)
    }

    /// The pairs that the records of one name propose.
    fn propose(&self, group: &[Named], links: &mut Vec<Link>) {
        let of = |role: Role| group.iter().filter(move |named| named.role == role as u8);
        let preferred = |named: &mut dyn Iterator<Item = &Named>| {
            named.map(|named| self.keeper(named.number)).min_by_key(|&number| self.ordinals[number as usize])
        };
        let full_text = preferred(&mut of(Role::Is).filter(|named| !named.abridged));
        let article = full_text.or_else(|| preferred(&mut of(Role::Is)));
        for named in of(Role::Is).filter(|named| named.abridged) {
            self.link(named.number, full_text, LinkKind::FullText, links);
        }
        for named in of(Role::PreprintOf) {
            let owner = if named.abridged { article } else { full_text };
            self.link(named.number, owner, LinkKind::Preprint, links);
        }
        let published = [false, true].map(|any| preferred(&mut of(Role::PublishedFrom).filter(|named| any || !named.abridged)));
        for named in of(Role::Is) {
            self.link(named.number, published[usize::from(named.abridged)], LinkKind::Preprint, links);
        }
    }

    fn link(&self, dependent: u32, owner: Option<u32>, kind: LinkKind, links: &mut Vec<Link>) {
        let is_free = self.ordinals[dependent as usize] != NO_ORDINAL
            && !self.released.contains(dependent)
            && !self.exact_only.contains(dependent);
        // Templated text takes no part on either side, or a cluster would hold it.
        if let Some(owner) = owner.filter(|&owner| is_free && owner != dependent && !self.exact_only.contains(owner)) {
            links.push(Link { dependent, owner, kind });
        }
    }

    /// The document that stands for one after ids and exact copies.
    fn keeper(&self, number: u32) -> u32 {
        let mut at = number;
        // Each removal keeps a document of higher priority, so no chain closes.
        while let Ok(found) = self.removals.binary_search_by_key(&at, |removal| removal.dropped) {
            at = self.removals[found].kept;
        }
        at
    }
}

fn id_record(profile: &Profile, number: u32) -> [u8; ID_RECORD] {
    let is_new = [u8::from(profile.release.is_none())];
    let version = (!profile.version).to_be_bytes();
    record_of(&[&profile.key, &version, &is_new, &number.to_be_bytes(), &profile.exact])
}

fn priority_record(profile: &Profile, number: u32) -> [u8; PRIORITY_RECORD] {
    record_of(&[
        &profile.release.unwrap_or(u16::MAX).to_be_bytes(),
        &profile.rank.to_be_bytes(),
        &[u8::from(profile.abridged)],
        &(!profile.version).to_be_bytes(),
        &(!profile.words).to_be_bytes(),
        &(!profile.characters).to_be_bytes(),
        &(!profile.quality).to_be_bytes(),
        &profile.key,
        &number.to_be_bytes(),
        &profile.exact,
    ])
}

fn exact_record(exact: [u8; 16], ordinal: u32, number: u32) -> [u8; EXACT_RECORD] {
    record_of(&[&exact, &ordinal.to_be_bytes(), &number.to_be_bytes()])
}

fn name_record(name: u64, role: Role, abridged: bool, number: u32) -> [u8; NAME_RECORD] {
    record_of(&[&name.to_be_bytes(), &[role as u8], &[u8::from(abridged)], &number.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::id_key;
    use crate::normal::NormalForm;

    /// Id, exact hash and what differs from an empty document.
    struct Row(&'static str, u8, fn(&mut Profile), Links);

    fn row(id: &'static str, exact: u8, change: fn(&mut Profile)) -> Row {
        Row(id, exact, change, Links::default())
    }

    fn profile(row: &Row) -> Profile {
        let mut profile = Profile {
            key: id_key(row.0),
            release: None,
            source: 0,
            rank: 0,
            abridged: false,
            version: 1,
            words: 5,
            characters: 9,
            quality: 0,
            exact: [row.1; 16],
            group: 0,
            form: NormalForm::Plain,
            exact_only: false,
        };
        (row.2)(&mut profile);
        profile
    }

    fn arranged(rows: &[Row]) -> Arranged {
        let scratch = tempfile::tempdir().unwrap();
        let mut arranger = Arranger::new(1 << 20, scratch.path());
        for row in rows {
            arranger.push(&profile(row), &row.3).unwrap();
        }
        arranger.finish().unwrap()
    }

    /// The first row is preferred to the second, in whatever order they come.
    fn check_preferred(better: fn(&mut Profile), worse: fn(&mut Profile)) {
        assert_eq!(arranged(&[row("a", 1, better), row("b", 2, worse)]).ordinals, [0, 1]);
        assert_eq!(arranged(&[row("a", 2, worse), row("b", 1, better)]).ordinals, [1, 0]);
    }

    #[test]
    fn each_part_of_the_priority_decides_before_the_next() {
        check_preferred(|p| p.release = Some(1), |p| p.rank = 0);
        check_preferred(|p| p.release = Some(0), |p| p.release = Some(1));
        check_preferred(|p| p.abridged = true, |p| p.rank = 1);
        check_preferred(|_| {}, |p| (p.abridged, p.version) = (true, 9));
        check_preferred(|p| p.version = 2, |p| p.words = 99);
        check_preferred(|p| p.words = 6, |p| p.characters = 99);
        check_preferred(|p| p.characters = 10, |p| p.quality = 9);
        check_preferred(|p| p.quality = 1, |_| {});
    }

    #[test]
    fn the_id_key_ends_ties() {
        let ids = ["a", "b", "c", "d"];
        let mut by_key = ids;
        by_key.sort_by_key(|id| id_key(id));
        let rows: Vec<Row> = (0u8..).zip(ids).map(|(i, id)| row(id, i, |_| {})).collect();
        let expected: Vec<u32> = ids.iter().map(|id| by_key.iter().position(|k| k == id).unwrap() as u32).collect();
        assert_eq!(arranged(&rows).ordinals, expected);
    }

    fn check_removals(rows: &[Row], expected: &[(u32, u32, Rule)]) {
        let found: Vec<(u32, u32, Rule)> = arranged(rows).removals.iter().map(|r| (r.dropped, r.kept, r.rule)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_newest_version_of_an_id_stays() {
        check_removals(&[row("a", 1, |_| {}), row("b", 2, |_| {})], &[]);
        check_removals(&[row("a", 1, |_| {}), row("a", 2, |p| p.version = 2)], &[(0, 1, Rule::SameId)]);
        // A newer version wins over a better rank.
        check_removals(&[row("a", 1, |p| (p.version, p.rank) = (2, 7)), row("a", 2, |_| {})], &[(1, 0, Rule::SameId)]);
        // Equal versions with other texts stay both; a copy of the newest goes as one.
        let same = |exact| row("a", exact, |p| p.version = 2);
        check_removals(&[same(1), row("a", 3, |_| {}), same(2), same(1)], &[(1, 0, Rule::SameId), (3, 0, Rule::Exact)]);
    }

    #[test]
    fn the_preferred_exact_copy_stays() {
        check_removals(
            &[row("a", 1, |p| p.rank = 1), row("b", 1, |_| {}), row("c", 1, |p| p.rank = 2)],
            &[(0, 1, Rule::Exact), (2, 1, Rule::Exact)],
        );
    }

    #[test]
    fn an_earlier_release_is_never_removed() {
        let old = |id, exact| row(id, exact, |p| p.release = Some(0));
        // A newer version of a released record does not take its place; an older one goes.
        check_removals(&[old("a", 1), row("a", 2, |p| p.version = 2)], &[]);
        check_removals(&[old("a", 1), row("a", 2, |p| p.version = 0)], &[(1, 0, Rule::SameId)]);
        let longer = row("c", 1, |p| (p.release, p.words) = (Some(0), 6));
        check_removals(&[row("b", 1, |p| p.words = 99), old("a", 1), longer], &[(0, 2, Rule::Exact)]);
    }

    fn check_links(rows: &[Row], expected: &[(u32, u32, LinkKind)]) {
        let found: Vec<_> = arranged(rows).links.iter().map(|link| (link.dependent, link.owner, link.kind)).collect();
        assert_eq!(found, expected);
    }

    fn named(id: &'static str, exact: u8, change: fn(&mut Profile), names: &[u64]) -> Row {
        Row(id, exact, change, Links { names: names.to_vec(), ..Links::default() })
    }

    #[test]
    fn an_abstract_is_linked_to_the_preferred_full_text_of_its_name() {
        let short = |exact, names| named("s", exact, |p| p.abridged = true, names);
        check_links(&[short(1, &[7]), named("f", 2, |_| {}, &[8])], &[]);
        check_links(&[short(1, &[7]), named("f", 2, |_| {}, &[8, 7])], &[(0, 1, LinkKind::FullText)]);
        let longer = named("g", 3, |p| p.words = 99, &[7]);
        check_links(&[short(1, &[7]), named("f", 2, |_| {}, &[7]), longer], &[(0, 2, LinkKind::FullText)]);
        // Two full texts of one name, and two abstracts, propose nothing among themselves.
        check_links(&[named("f", 2, |_| {}, &[7]), named("g", 3, |_| {}, &[7])], &[]);
        check_links(&[short(1, &[7]), named("t", 2, |p| p.abridged = true, &[7])], &[]);
        // Templated and released ones stay.
        check_links(&[named("s", 1, |p| (p.abridged, p.exact_only) = (true, true), &[7]), named("f", 2, |_| {}, &[7])], &[]);
        check_links(&[named("s", 1, |p| (p.abridged, p.release) = (true, Some(0)), &[7]), named("f", 2, |_| {}, &[7])], &[]);
        check_links(&[short(1, &[7]), named("f", 2, |p| p.exact_only = true, &[7])], &[]);
    }

    #[test]
    fn an_owner_that_is_a_copy_gives_way_to_its_keeper() {
        let full = |id, rank: fn(&mut Profile), names| named(id, 2, rank, names);
        let rows = [named("s", 1, |p| p.abridged = true, &[7]), full("f", |p| p.rank = 1, &[7]), full("g", |_| {}, &[9])];
        check_links(&rows, &[(0, 2, LinkKind::FullText)]);
    }

    #[test]
    fn a_preprint_is_linked_to_its_article_from_either_side() {
        let preprint = Row("p", 1, |_| {}, Links { names: vec![5], preprint_of: vec![7], ..Links::default() });
        check_links(&[preprint, named("f", 2, |_| {}, &[7])], &[(0, 1, LinkKind::Preprint)]);
        let article = Row("f", 2, |_| {}, Links { names: vec![7], published_from: vec![5], ..Links::default() });
        check_links(&[article, named("p", 1, |_| {}, &[5])], &[(1, 0, LinkKind::Preprint)]);
        // A full text does not go for an abstract, an abstract may.
        let whole = |change| Row("p", 1, change, Links { names: vec![5], preprint_of: vec![7], ..Links::default() });
        let short = |id| named(id, 2, |p| p.abridged = true, &[7]);
        check_links(&[whole(|_| {}), short("a")], &[]);
        check_links(&[whole(|p| p.abridged = true), short("a")], &[(0, 1, LinkKind::Preprint)]);
    }

    #[test]
    fn determinism_any_budget_gives_the_same_order() {
        let scratch = tempfile::tempdir().unwrap();
        let arrange = |memory_bytes| {
            let mut arranger = Arranger::new(memory_bytes, scratch.path());
            for i in 0u64..5000 {
                let id = format!("d{}", i % 4000);
                let exact = [(i % 250) as u8; 16];
                let mut profile = profile(&row("x", 0, |_| {}));
                (profile.key, profile.exact, profile.words) = (id_key(&id), exact, (i % 7) as u32);
                profile.version = (i % 3) as u32;
                profile.abridged = i % 2 == 0;
                let links = Links { names: vec![i % 600], preprint_of: vec![i % 900], published_from: Vec::new() };
                arranger.push(&profile, &links).unwrap();
            }
            let arranged = arranger.finish().unwrap();
            (arranged.ordinals, arranged.removals, arranged.links)
        };
        let whole = arrange(u64::MAX);
        assert!(whole.1.len() > 4000 && !whole.2.is_empty());
        assert_eq!(arrange(0), whole);
    }
}
