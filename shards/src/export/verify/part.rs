//! The windows of one object against their lineage: ids, padding, masks, boundaries; and what all objects add up to.

use super::boundaries::{Boundaries, Entry};
use super::lineage::{Row, Rows};
use super::object::Object;
use super::{Body, Checked, Mask, Place, wrong};
use crate::export::manifest::{ExportManifest, ExportTotals, MANIFEST_KEY, SourceTokens};
use crate::key::key_text;

/// Document keys gathered before they are sorted into those that are known.
const KEYS_AT_ONCE: usize = 1 << 20;

/// What the objects add up to.
pub(super) struct Sums {
    pub(super) totals: ExportTotals,
    ids: blake3::Hasher,
    documents: Vec<u128>,
    recent: Vec<u128>,
}

impl Sums {
    pub(super) fn new(manifest: &ExportManifest) -> Self {
        let sources = manifest.totals.sources.iter().map(|s| SourceTokens { source: s.source.clone(), tokens: 0 });
        let totals = ExportTotals { sources: sources.collect(), ..ExportTotals::default() };
        Self { totals, ids: blake3::Hasher::new(), documents: Vec::new(), recent: Vec::new() }
    }

    fn settle(&mut self) {
        self.documents.append(&mut self.recent);
        self.documents.sort_unstable();
        self.documents.dedup();
    }

    /// Compares with the manifest and returns the documents, ascending.
    pub(super) fn compare(mut self, manifest: &ExportManifest) -> Checked<Vec<u128>> {
        self.settle();
        self.totals.documents = self.documents.len() as u64;
        self.totals.ids = self.ids.finalize().to_hex().to_string();
        if self.totals == manifest.totals {
            return Ok(self.documents);
        }
        if self.totals.ids != manifest.totals.ids {
            return wrong(MANIFEST_KEY, "the ids of the objects are not those that were exported");
        }
        wrong(MANIFEST_KEY, format!("totals {:?}, the objects add up to {:?}", manifest.totals, self.totals))
    }
}

/// Everything that is read of one window.
struct Window {
    /// Number in the object.
    index: u64,
    ids: Vec<u32>,
    rows: Vec<Row>,
}

/// Checks all windows of one object.
pub(super) fn check(place: &Place<'_>, mut body: Body, sums: &mut Sums) -> Checked<()> {
    let mut object = place.open(&place.part.object)?;
    let mut lineage = Rows::open(place.store, &place.part.lineage, &place.part.object)?;
    let mut waiting = lineage.next()?;
    for index in 0..place.part.windows {
        let ids = ids(place, &mut object, body.first + index * body.stride, sums)?;
        let mut rows = Vec::new();
        while let Some(row) = waiting.take_if(|row| row.window == place.part.first_window + index) {
            rows.push(row);
            waiting = lineage.next()?;
        }
        let window = Window { index, ids, rows };
        let filled = segments(place, &body, &window, sums)?;
        padding(place, &window, filled)?;
        let trained = match &mut body.mask {
            Some(mask) => masked(place, mask, index, filled)?,
            None => filled,
        };
        if let Some(list) = &mut body.boundaries {
            listed(place, &mut **list, &window, filled)?;
        }
        if let Some(first) = body.segment_ids {
            numbered(place, &mut object, first + index * body.stride, &window)?;
        }
        let totals = &mut sums.totals;
        totals.windows += 1;
        totals.tokens += filled;
        totals.padding += place.length() - filled;
        totals.trained += trained;
        totals.segments += window.rows.len() as u64;
    }
    if waiting.is_some() {
        return wrong(&place.part.lineage, "a row of a window that the object does not have");
    }
    match body.boundaries.as_mut().map(|list| list.next()).transpose()?.flatten() {
        None => Ok(()),
        Some(_) => wrong(&place.part.object, "its list of segments goes on after the last token"),
    }
}

fn ids(place: &Place<'_>, object: &mut Object, start: u64, sums: &mut Sums) -> Checked<Vec<u32>> {
    let bytes = object.bytes(start, place.length() * place.width())?;
    let narrow = |pair: &[u8]| u32::from(pair[0]) | u32::from(pair[1]) << 8;
    let ids: Vec<u32> = match place.width() {
        2 => bytes.chunks_exact(2).map(narrow).collect(),
        _ => bytes.chunks_exact(4).map(|four| narrow(four) | narrow(&four[2..]) << 16).collect(),
    };
    if ids.iter().any(|&id| id >= place.manifest.vocabulary_size) {
        return wrong(object.key(), format!("an id after byte {start} is outside the vocabulary"));
    }
    let wide: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    sums.ids.update(&wide);
    Ok(ids)
}

/// The rows of a window follow each other from its start; returns how far they reach, counted in the window.
fn segments(place: &Place<'_>, body: &Body, window: &Window, sums: &mut Sums) -> Checked<u64> {
    let lineage = place.part.lineage.as_str();
    let before = window.index * place.length();
    let mut at = before;
    for row in &window.rows {
        let byte = |token: u64| body.first + window.index * body.stride + (token - before) * place.width();
        let (start, end) = row.tokens;
        if start != at || end <= start || end > before + place.length() {
            return wrong(lineage, format!("window {}: tokens {start}..{end} do not follow {at}", row.window));
        }
        if row.bytes != (byte(start), byte(end)) {
            return wrong(lineage, format!("window {}: bytes are not those of its tokens", row.window));
        }
        let first = window.ids[(start - before) as usize];
        if row.offset == 0 && place.manifest.request.begin_token.is_some_and(|begin| begin != first) {
            return wrong(lineage, format!("window {}: a document that does not begin with the begin token", row.window));
        }
        let Some(source) = sums.totals.sources.iter_mut().find(|source| source.source == row.source) else {
            return wrong(lineage, format!("window {}: a source that the manifest does not list", row.window));
        };
        source.tokens += end - start;
        sums.recent.push(row.document);
        at = end;
    }
    if sums.recent.len() >= KEYS_AT_ONCE {
        sums.settle();
    }
    if window.rows.is_empty() {
        return wrong(lineage, format!("window {}: no row", place.part.first_window + window.index));
    }
    Ok(at - before)
}

fn padding(place: &Place<'_>, window: &Window, filled: u64) -> Checked<()> {
    let fill = place.manifest.request.fill_token;
    match window.ids[filled as usize..].iter().position(|&id| id != fill) {
        None => Ok(()),
        Some(after) => {
            let position = window.index * place.length() + filled + after as u64;
            wrong(&place.part.object, format!("token {position} is padding, expected id {fill}"))
        }
    }
}

/// Positions that are learned from.
fn masked(place: &Place<'_>, mask: &mut Mask, index: u64, filled: u64) -> Checked<u64> {
    let bytes = mask.object.bytes(mask.first + index * mask.stride, place.length())?;
    let is_off = bytes[filled as usize..].iter().all(|&on| on == 0);
    if !is_off || bytes.iter().any(|&on| on > 1) {
        return wrong(mask.object.key(), format!("window {index}: a mask that is on in padding, or neither 0 nor 1"));
    }
    Ok(bytes.iter().map(|&on| u64::from(on)).sum())
}

/// The format's own list of segments says what the lineage says.
fn listed(place: &Place<'_>, list: &mut dyn Boundaries, window: &Window, filled: u64) -> Checked<()> {
    let before = window.index * place.length();
    let end = before + place.length();
    let id = |document: u128| match place.manifest.request.export_version {
        1 => format!("{document:032x}"),
        _ => key_text(document),
    };
    let mut expected: Vec<(u64, u64, String)> =
        window.rows.iter().map(|row| (row.tokens.0, row.tokens.1, id(row.document))).collect();
    if filled < place.length() {
        expected.push((before + filled, end, "padding".to_owned()));
    }
    for (start, end, id) in expected {
        let found = list.next()?;
        let same = matches!(&found, Some(Entry { start: s, end: e, id: i })
            if (*s, *e) == (start, end) && i.as_ref().is_none_or(|found| *found == id));
        if !same {
            return wrong(list.key(), format!("no segment of tokens {start}..{end} where the lineage has one"));
        }
    }
    Ok(())
}

/// The column of segment numbers says what the lineage says.
fn numbered(place: &Place<'_>, object: &mut Object, start: u64, window: &Window) -> Checked<()> {
    let found = object.u32s(start, place.length())?;
    let before = window.index * place.length();
    let mut expected = vec![u32::MAX; found.len()];
    for (number, row) in (0..).zip(&window.rows) {
        expected[(row.tokens.0 - before) as usize..(row.tokens.1 - before) as usize].fill(number);
    }
    if found == expected {
        Ok(())
    } else {
        wrong(object.key(), format!("window {}: segment_ids differ from the lineage", window.index))
    }
}
