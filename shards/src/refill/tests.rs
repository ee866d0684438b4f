//! The continuation is the order's own, holes are filled exactly, and pieces tile their documents.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::{prelude::prop_assert, prelude::prop_assert_eq, proptest};

use super::{Continuation, Filling, Held, Hole, Patch, fill, rebuild};
use crate::RunPlace;
use crate::mixture::SourceShare;
use crate::order::{Run, order_domain};
use crate::sequence::{PADDING_TOKEN, Segment, Sequence};
use crate::testing::Random;

const SEED: u64 = 9;

/// Made-up documents of one source.
fn runs(count: u32, source: u16, longest: u64, seed: u64) -> Vec<Run> {
    let mut random = Random(seed);
    let mut run = |row| {
        let key = u128::from(random.next()) << 8 | u128::from(source);
        Run { object: source.into(), row, tokens: random.below(longest) as u32, key, source, place: RunPlace::default() }
    };
    (0..count).map(&mut run).collect()
}

fn supply(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.tokens)).sum()
}

/// Everything that the order holds of a source for a quota.
fn placed(runs: &[Run], quota: u64) -> Vec<Filling> {
    let supply = supply(runs);
    let (full_epochs, remainder) = (quota / supply, quota % supply);
    let share = SourceShare { source: "s".into(), domain: 0, supply, quota, full_epochs, remainder };
    let placed = order_domain(SEED, vec![runs.to_vec()], &[share]).unwrap();
    placed.into_iter().map(|p| Filling { run: p.run, epoch: p.epoch, offset: 0, length: p.take }).collect()
}

fn held(pieces: &[Filling]) -> Held {
    let mut held = Held::default();
    for piece in pieces {
        held.add(piece.epoch, piece.run.key, piece.offset..piece.offset + piece.length);
    }
    held
}

/// Pieces of one document that follow each other made one.
fn joined(pieces: &[Filling]) -> Vec<Filling> {
    let mut all: Vec<Filling> = Vec::new();
    for piece in pieces {
        match all.last_mut().filter(|last| (last.run, last.epoch) == (piece.run, piece.epoch)) {
            Some(last) if last.offset + last.length == piece.offset => last.length += piece.length,
            _ => all.push(*piece),
        }
    }
    all
}

#[test]
fn determinism_the_continuation_is_what_the_order_would_have_gone_on_with() {
    let runs = runs(300, 0, 90, 5);
    let supply = supply(&runs);
    for (quota, more) in [(0, 700), (1, 1), (supply / 3, 2000), (supply - 5, 9000), (supply, 10), (supply * 2 + 77, 4321)] {
        let before = placed(&runs, quota);
        let longer = placed(&runs, quota + more);
        let mut scrambled = runs.clone();
        scrambled.reverse();
        let first = (quota / supply) as u32;
        for first_epoch in [0, first] {
            let mut continuation = Continuation::new(SEED, scrambled.clone(), held(&before), first_epoch, 9);
            let mut all = before.clone();
            // In two takes, the second of which goes on inside a document.
            all.extend(continuation.take((more / 3) as u32));
            all.extend(continuation.take((more - more / 3) as u32));
            assert_eq!(joined(&all), longer, "quota {quota}, {more} more from pass {first_epoch}");
        }
    }
}

#[test]
fn a_source_ends_with_its_last_pass() {
    let runs = runs(40, 0, 50, 6);
    let supply = supply(&runs);
    let mut continuation = Continuation::new(SEED, runs.clone(), held(&placed(&runs, supply + 9)), 1, 2);
    let pieces = continuation.take(u32::MAX);
    assert_eq!(pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>(), supply - 9);
    assert_eq!(continuation.take(1), []);
    assert_eq!(Continuation::new(SEED, Vec::new(), Held::default(), 0, u32::MAX).take(5), [], "no document is no endless search");
    let mut used_up = Continuation::new(SEED, runs, Held::default(), 3, 3);
    assert_eq!(used_up.take(5), []);
}

#[test]
fn what_is_missing_inside_a_document_is_filled_too() {
    let run = Run { object: 0, row: 0, tokens: 10, key: 7, source: 0, place: RunPlace::default() };
    let check = |pieces: &[(u32, u32)], expected: &[(u32, u32)]| {
        let mut held = Held::default();
        for (start, end) in pieces {
            held.add(0, 7, *start..*end);
        }
        let mut continuation = Continuation::new(SEED, vec![run], held, 0, 1);
        let mut found = Vec::new();
        // One token at a time gives the same as all at once.
        while let [piece] = continuation.take(1)[..] {
            found.push(piece);
        }
        let found: Vec<(u32, u32)> = joined(&found).iter().map(|piece| (piece.offset, piece.offset + piece.length)).collect();
        assert_eq!(found, expected, "{pieces:?}");
    };
    check(&[], &[(0, 10)]);
    check(&[(0, 4)], &[(4, 10)]);
    check(&[(6, 10)], &[(0, 6)]);
    check(&[(8, 10), (2, 4)], &[(0, 2), (4, 8)]);
    check(&[(4, 6), (0, 2), (2, 4), (8, 9)], &[(6, 8), (9, 10)]);
    check(&[(0, 6), (2, 10)], &[]);
    check(&[(0, 10), (3, 3)], &[]);
}

#[test]
fn of_equal_records_each_gives_its_tokens() {
    let run = |row: u32| Run { object: 0, row, tokens: 10, key: 7, source: 0, place: RunPlace::default() };
    let check = |records: u32, pieces: &[(u32, u32)], expected: &[(u32, u32)]| {
        let mut held = Held::default();
        for (start, end) in pieces {
            held.add(0, 7, *start..*end);
        }
        let mut continuation = Continuation::new(SEED, (0..records).map(run).collect(), held, 0, 1);
        let found: Vec<(u32, u32)> =
            continuation.take(u32::MAX).iter().map(|piece| (piece.offset, piece.offset + piece.length)).collect();
        assert_eq!(found, expected, "{records} records, {pieces:?}");
    };
    check(2, &[], &[(0, 10), (0, 10)]);
    check(2, &[(0, 10)], &[(0, 10)]);
    check(2, &[(0, 4), (4, 10)], &[(0, 10)]);
    check(2, &[(0, 10), (0, 6)], &[(6, 10)]);
    check(2, &[(0, 6), (2, 10)], &[(0, 2), (6, 10)]);
    check(2, &[(0, 10), (0, 4), (4, 10)], &[]);
    check(3, &[(0, 5), (0, 5)], &[(0, 10), (5, 10), (5, 10)]);
}

#[test]
fn ranges_that_meet_are_one_however_they_come() {
    let mut random = Random(3);
    let mut pieces: Vec<(u128, u32)> = (0..300_u128).flat_map(|key| (0..40).map(move |at| (key, at * 5))).collect();
    for at in (1..pieces.len()).rev() {
        pieces.swap(at, random.below(at as u64 + 1) as usize);
    }
    let (mut one, mut other) = (Held::default(), Held::default());
    for (at, (key, start)) in pieces.iter().enumerate() {
        if at % 3 == 0 { &mut one } else { &mut other }.add(1, *key, *start..*start + 5);
    }
    let mut both = one.with(other);
    both.settle();
    assert_eq!(both.ranges.len(), 300);
}

/// Holes as numbers: source and tokens, then the tokens filled of each source.
fn check_fill(holes: &[(u16, u32)], supplies: &[(u16, u32)], expected: &[&[(u16, u32)]]) {
    let mut made: Vec<Hole> = holes.iter().map(|(source, tokens)| Hole::new(*source, *tokens)).collect();
    let order: Vec<u16> = supplies.iter().map(|(source, _)| *source).collect();
    let mut asked = Vec::new();
    let open = |source: u16| {
        asked.push(source);
        let tokens = supplies.iter().find(|(found, _)| *found == source).unwrap().1;
        let run = Run { object: 0, row: 0, tokens, key: source.into(), source, place: RunPlace::default() };
        Ok::<_, Infallible>(Continuation::new(SEED, vec![run], Held::default(), 0, 1))
    };
    fill(&mut made.iter_mut().collect::<Vec<_>>(), &order, open).unwrap();
    let found: Vec<Vec<(u16, u32)>> =
        made.iter().map(|hole| hole.filling.iter().map(|piece| (piece.run.source, piece.length)).collect()).collect();
    assert_eq!(found, expected);
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "a source is opened once");
}

#[test]
fn holes_take_from_their_own_source_first_and_then_from_the_others_in_order() {
    check_fill(&[(1, 5), (0, 3)], &[(0, 10), (1, 10)], &[&[(1, 5)], &[(0, 3)]]);
    // Source 1 ends inside the second hole; what is short comes from 0, and not what 0's own hole needs.
    check_fill(&[(1, 5), (1, 5), (0, 8)], &[(0, 10), (1, 7)], &[&[(1, 5)], &[(1, 2), (0, 2)], &[(0, 8)]]);
    check_fill(&[(1, 5), (0, 9)], &[(0, 9), (1, 2), (2, 1)], &[&[(1, 2), (2, 1)], &[(0, 9)]]);
    check_fill(&[(2, 4)], &[(0, 1), (1, 1), (2, 0)], &[&[(0, 1), (1, 1)]]);
    check_fill(&[], &[(0, 1)], &[]);
}

fn sequence(lengths: &[u32], total: usize, masked: bool) -> Sequence {
    let mut tokens = Vec::new();
    let mut segments = Vec::new();
    for (index, length) in (1..).zip(lengths) {
        tokens.extend((0..*length).map(|at| index * 100 + at));
        segments.push(Segment { end: tokens.len() as u32, document: index.into(), source: 0, offset: 7, epoch: 2 });
    }
    let filled = tokens.len();
    tokens.resize(total, PADDING_TOKEN);
    let loss_mask = masked.then(|| (0..total).map(|at| at < filled && at % 2 == 0).collect());
    Sequence { tokens, segments, loss_mask }
}

fn patch(document: u128, offset: u32, tokens: &[u32]) -> Patch {
    Patch { tokens: tokens.to_vec(), document, source: 1, offset, epoch: 3 }
}

#[test]
fn sequences_keep_their_length_close_up_and_join_what_goes_on() {
    let whole = sequence(&[2, 3, 1], 8, false);
    let check = |replaced: &[(u32, &[Patch])], tokens: &[u32], ends: &[(u32, u128, u32)]| {
        let replaced: BTreeMap<u32, Vec<Patch>> = replaced.iter().map(|(at, patches)| (*at, patches.to_vec())).collect();
        let rebuilt = rebuild(&whole, &replaced).unwrap();
        assert_eq!(rebuilt.tokens, tokens);
        let found: Vec<_> = rebuilt.segments.iter().map(|s| (s.end, s.document, s.offset)).collect();
        assert_eq!(found, ends);
        assert_eq!(rebuilt.loss_mask, None);
    };
    check(&[], &[100, 101, 200, 201, 202, 300, 0, 0], &[(2, 1, 7), (5, 2, 7), (6, 3, 7)]);
    check(&[(2, &[])], &[100, 101, 300, 0, 0, 0, 0, 0], &[(2, 1, 7), (3, 3, 7)]);
    let two = [patch(9, 0, &[1, 2]), patch(8, 4, &[3])];
    check(&[(2, &two)], &[100, 101, 1, 2, 3, 300, 0, 0], &[(2, 1, 7), (4, 9, 0), (5, 8, 4), (6, 3, 7)]);
    // Neighbouring holes that one document fills are one segment of it; a kept segment is never joined.
    let neighbours: [(u32, &[Patch]); 2] = [(0, &[patch(9, 0, &[1, 2])]), (2, &[patch(9, 2, &[3, 4, 5])])];
    check(&neighbours, &[1, 2, 3, 4, 5, 300, 0, 0], &[(5, 9, 0), (6, 3, 7)]);
    let apart: [(u32, &[Patch]); 2] = [(0, &[patch(9, 0, &[1, 2])]), (2, &[patch(9, 3, &[3, 4, 5])])];
    check(&apart, &[1, 2, 3, 4, 5, 300, 0, 0], &[(2, 9, 0), (5, 9, 3), (6, 3, 7)]);
    let of_the_kept = [Patch { tokens: vec![1], document: 1, source: 0, offset: 9, epoch: 2 }];
    check(&[(2, &of_the_kept)], &[100, 101, 1, 300, 0, 0, 0, 0], &[(2, 1, 7), (3, 1, 9), (4, 3, 7)]);
    let third: [(u32, &[Patch]); 2] = [(2, &[patch(9, 0, &[1, 2])]), (5, &[patch(9, 2, &[3])])];
    check(&third, &[100, 101, 1, 2, 3, 0, 0, 0], &[(2, 1, 7), (5, 9, 0)]);
}

#[test]
fn masks_move_with_their_tokens_and_an_empty_sequence_is_none() {
    let masked = sequence(&[2, 3, 1], 8, true);
    let rebuilt = rebuild(&masked, &BTreeMap::from([(0, Vec::new())])).unwrap();
    assert_eq!(rebuilt.tokens, [200, 201, 202, 300, 0, 0, 0, 0]);
    assert_eq!(rebuilt.loss_mask.as_deref(), Some(&[true, false, true, false, false, false, false, false][..]));
    let gone: BTreeMap<u32, Vec<Patch>> = [0, 2, 5].into_iter().map(|start| (start, Vec::new())).collect();
    assert_eq!(rebuild(&masked, &gone), None);
}

proptest! {
    /// Holes of any number and size, some documents retracted: filled to the token while there is supply, every document tiled.
    #[test]
    fn holes_are_filled_exactly_and_documents_stay_tiled(
        seed: u64, quota_of in 0_u64..3000, sizes in proptest::collection::vec(1_u32..400, 0..30), epochs in 1_u32..4,
    ) {
        let runs = runs(60, 0, 120, seed);
        let supply = supply(&runs);
        let quota = (supply * quota_of / 1000).min(supply * u64::from(epochs));
        let before = placed(&runs, quota);
        let retracted: BTreeSet<u128> = runs.iter().step_by(7).map(|run| run.key).collect();
        let left: Vec<Run> = runs.iter().filter(|run| !retracted.contains(&run.key)).copied().collect();
        let kept: Vec<Filling> = before.into_iter().filter(|piece| !retracted.contains(&piece.run.key)).collect();
        // Of some documents of the last pass a piece is missing, as where whole sequences are published.
        let mut broken = BTreeSet::new();
        let kept: Vec<Filling> = kept.iter().enumerate().flat_map(|(at, piece)| match piece.length {
            length if at % 5 == 0 && length > 9 && u64::from(piece.epoch) >= quota / supply => {
                broken.insert((piece.run.key, piece.epoch));
                let tail = Filling { offset: piece.offset + 6, length: length - 6, ..*piece };
                vec![Filling { length: 3, ..*piece }, tail]
            }
            _ => vec![*piece],
        }).collect();
        let first = (quota / supply) as u32;
        let mut holes: Vec<Hole> = sizes.iter().map(|tokens| Hole::new(0, *tokens)).collect();
        fill(&mut holes.iter_mut().collect::<Vec<_>>(), &[0], |_| {
            let of_pass: Vec<Filling> = kept.iter().filter(|piece| piece.epoch >= first).copied().collect();
            Ok::<_, Infallible>(Continuation::new(SEED, left.clone(), held(&of_pass), first, epochs))
        }).unwrap();
        let new: Vec<Filling> = holes.iter().flat_map(|hole| hole.filling.clone()).collect();
        prop_assert!(new.iter().all(|piece| piece.length > 0 && piece.epoch < epochs && !retracted.contains(&piece.run.key)));
        let all: Vec<Filling> = kept.iter().chain(&new).copied().collect();
        let room = left.iter().map(|run| u64::from(run.tokens)).sum::<u64>() * u64::from(epochs);
        let of_kept: u64 = kept.iter().map(|piece| u64::from(piece.length)).sum();
        let wanted: u64 = sizes.iter().map(|tokens| u64::from(*tokens)).sum();
        let short: u64 = holes.iter().map(|hole| u64::from(hole.short())).sum();
        prop_assert_eq!(short, wanted.saturating_sub(room - of_kept));
        let mut by_document: BTreeMap<(u128, u32), Vec<(u32, u32)>> = BTreeMap::new();
        for piece in &all {
            by_document.entry((piece.run.key, piece.epoch)).or_default().push((piece.offset, piece.length));
        }
        for (document, pieces) in &mut by_document {
            pieces.sort_unstable();
            let follows = |offset: u32, end: u32| offset == end || (broken.contains(document) && offset > end);
            let end = pieces.iter().try_fold(0, |end, (offset, length)| follows(*offset, end).then_some(offset + length));
            prop_assert!(end.is_some(), "{:?}", pieces);
        }
    }
}
