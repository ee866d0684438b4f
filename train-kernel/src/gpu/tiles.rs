//! The tiles of attention, listed by the host: a document's rows in pieces, the longest work first, so that blocks that take one
//! after another end together.

use bytemuck::{NoUninit, Pod, Zeroable};

use crate::batch::Batch;

/// Rows of a document, or padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    first: u32,
    length: u32,
    document: bool,
}

/// One piece of a span; the twin of `AttentionTile` in `kernels/attention.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct Tile {
    /// The span's first row.
    first: u32,
    /// The span's rows.
    length: u32,
    /// The piece, by number.
    piece: u32,
    /// 1 in a document; 0 in padding, where rows attend to nothing.
    keys: u32,
}

const fn assert_no_padding<T: NoUninit>() {}
const _: () = assert_no_padding::<Tile>();

/// The spans of a batch: every row is in exactly one.
pub(super) fn spans(batch: &Batch) -> Vec<Span> {
    let mut spans = Vec::new();
    for sequence in 0..batch.sequences() {
        let first = (sequence * batch.sequence_length()) as u32;
        let mut end = 0;
        for segment in batch.segments(sequence) {
            spans.push(Span { first: first + segment.start, length: segment.end - segment.start, document: true });
            end = segment.end;
        }
        let rest = batch.sequence_length() as u32 - end;
        if rest > 0 {
            spans.push(Span { first: first + end, length: rest, document: false });
        }
    }
    spans
}

/// Tiles of `rows` queries: the work of one is the keys that its last query sees.
pub(super) fn queries(spans: &[Span], rows: u32, window: Option<usize>) -> Vec<Tile> {
    let window = window_of(window);
    pieces(spans, rows, |span, first| {
        let end = span.length.min(first + rows);
        end - first.saturating_sub(window - 1)
    })
}

/// Tiles of `rows` keys: the work of one is the queries that see its first key.
pub(super) fn keys(spans: &[Span], rows: u32, window: Option<usize>) -> Vec<Tile> {
    let window = window_of(window);
    pieces(spans, rows, |span, first| {
        let last = span.length.min(first + rows) - 1;
        span.length.min(last.saturating_add(window)) - first
    })
}

fn window_of(window: Option<usize>) -> u32 {
    window.map_or(u32::MAX, |window| u32::try_from(window).unwrap_or(u32::MAX))
}

fn pieces(spans: &[Span], rows: u32, work: impl Fn(&Span, u32) -> u32) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for span in spans {
        for piece in 0..span.length.div_ceil(rows) {
            let cost = if span.document { work(span, piece * rows) } else { 0 };
            let keys = u32::from(span.document);
            tiles.push((cost, Tile { first: span.first, length: span.length, piece, keys }));
        }
    }
    tiles.sort_by_key(|&(cost, tile)| (std::cmp::Reverse(cost), tile.first, tile.piece));
    tiles.into_iter().map(|(_, tile)| tile).collect()
}

#[cfg(test)]
mod tests {
    use super::{Tile, keys, queries, spans};
    use crate::batch::{Batch, SequenceParts};

    #[test]
    fn every_row_is_in_one_tile_and_the_longest_work_comes_first() {
        let tokens = [1; 10];
        let part = |segments| SequenceParts { tokens: &tokens, segments, loss_mask: None };
        let batch = Batch::from_parts(&[part(&[(1, 0), (8, 0)]), part(&[(10, 0)])]).unwrap();
        let spans = spans(&batch);
        let tile = |first, length, piece, keys| Tile { first, length, piece, keys };
        let expected = [
            tile(10, 10, 2, 1),
            tile(10, 10, 1, 1),
            tile(1, 7, 1, 1),
            tile(1, 7, 0, 1),
            tile(10, 10, 0, 1),
            tile(0, 1, 0, 1),
            tile(8, 2, 0, 0),
        ];
        assert_eq!(queries(&spans, 4, None), expected);
        // Of keys the first tile of a document is the most work: all its queries see it.
        assert_eq!(keys(&spans, 4, None)[0], tile(10, 10, 0, 1));
        for tiles in [queries(&spans, 3, Some(2)), keys(&spans, 3, Some(2))] {
            let mut rows: Vec<u32> = tiles
                .iter()
                .flat_map(|tile| {
                    (tile.first + 3 * tile.piece..tile.first + tile.length.min(3 * tile.piece + 3)).collect::<Vec<_>>()
                })
                .collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..20).collect::<Vec<_>>());
        }
    }
}
