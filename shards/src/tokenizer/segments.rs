//! Segments to ids: from the cache where it has them, else merged and remembered. It doesn't choose the segments.

use std::sync::Mutex;

use super::merge::{Merger, Scratch};
use super::segment_cache::{SHORT_BYTES, SHORT_IDS, SegmentCache, short_key};

/// Workspaces kept between calls; more than this many concurrent calls each begin with an empty one.
const WORKSPACES_MAX: usize = 256;
/// Ids that are collected before they are moved to the caller's list together.
const COLLECTED: usize = 1 << 10;

/// What one call works with: a cache and buffers.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    cache: SegmentCache,
    scratch: Scratch,
}

/// Workspaces that wait for the next call. Each call owns one while it runs, so calls never wait for each other's work and
/// there are never more caches than calls at the same time.
#[derive(Debug, Default)]
pub(super) struct Workspaces {
    idle: Mutex<Vec<Workspace>>,
}

impl Workspaces {
    fn take(&self) -> Workspace {
        let idle = self.idle.lock().ok();
        idle.and_then(|mut idle| idle.pop()).unwrap_or_default()
    }

    fn give_back(&self, mut workspace: Workspace) {
        workspace.scratch.trim();
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < WORKSPACES_MAX
        {
            idle.push(workspace);
        }
    }

    /// Runs `segments`, which passes the segments of a text on in order, and appends the ids to `ids`.
    pub(super) fn encode(&self, merger: &Merger, ids: &mut Vec<u32>, segments: impl FnOnce(&mut Segments<'_>)) {
        let mut workspace = self.take();
        let fused = merger.fused_unknown();
        let mut run = Segments { merger, workspace: &mut workspace, fused, ids, collected: [0; COLLECTED + SHORT_IDS], count: 0 };
        segments(&mut run);
        run.flush();
        self.give_back(workspace);
    }
}

/// Takes the segments of one text.
pub(super) struct Segments<'a> {
    merger: &'a Merger,
    workspace: &'a mut Workspace,
    /// Unknown characters side by side are one token, so a leading one melts into a trailing one.
    fused: Option<u32>,
    ids: &'a mut Vec<u32>,
    collected: [u32; COLLECTED + SHORT_IDS],
    count: usize,
}

impl Segments<'_> {
    /// Encodes `text[start..end]`, which is not empty.
    #[inline]
    pub(super) fn push(&mut self, text: &[u8], start: usize, end: usize) {
        let length = end - start;
        if length <= SHORT_BYTES
            && let Some(Ok(window)) = text.get(start..start + 16).map(<[u8; 16]>::try_from)
            && let Some((ids, count)) = self.workspace.cache.short(short_key(window, length))
            && self.fused.is_none()
        {
            // All four places are written, which is quicker than writing some; those above the count are written again.
            self.collected[self.count..self.count + SHORT_IDS].copy_from_slice(ids);
            self.count += count;
            if self.count >= COLLECTED {
                self.flush();
            }
        } else {
            self.push_rare(&text[start..end]);
        }
    }

    /// A segment at the end of the text, or one that the short table doesn't have.
    #[inline(never)]
    fn push_rare(&mut self, segment: &[u8]) {
        self.flush();
        let Workspace { cache, scratch } = &mut *self.workspace;
        let found = if let Some(found) = cache.get(segment) {
            found
        } else {
            let found = self.merger.encode(segment, scratch);
            cache.insert(segment, found);
            found
        };
        let joined = self.fused.is_some() && found.first().copied() == self.fused && self.ids.last().copied() == self.fused;
        self.ids.extend_from_slice(if joined { &found[1..] } else { found });
    }

    fn flush(&mut self) {
        self.ids.extend_from_slice(&self.collected[..self.count]);
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment_cache::CACHE_BYTES;
    use super::*;

    #[test]
    fn there_are_never_more_caches_than_calls_at_the_same_time() {
        let workspaces = Workspaces::default();
        for _ in 0..50 {
            let both = [workspaces.take(), workspaces.take()];
            for one in both {
                workspaces.give_back(one);
            }
        }
        assert_eq!(workspaces.idle.lock().map(|idle| idle.len()).ok(), Some(2));
        assert_eq!(CACHE_BYTES, 5 << 20);
    }
}
