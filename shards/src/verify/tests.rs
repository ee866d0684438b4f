//! Every rule broken once, and shards and sets that do not add up.

use super::{
    Continuity, DiscontinuityProblem, SequenceProblem, check_sequence, verify_sequence, verify_shard, verify_shard_with,
};
use crate::format::{Kind, Sequence, ShardHeader};
use crate::sequence::Segment;
use crate::testing::{documents, header, open, sequences, sequences_of, write_shard};

fn segment(end: u32, document: u128, offset: u32) -> Segment {
    Segment { end, document, source: 0, offset, epoch: 0 }
}

fn good() -> Sequence {
    Sequence { tokens: vec![5, 6, 7, 8, 0, 0], segments: vec![segment(3, 1, 0), segment(4, 2, 9)], loss_mask: None }
}

fn check(change: impl Fn(&mut Sequence, &mut ShardHeader), expected: SequenceProblem) {
    let (mut sequence, mut header) = (good(), header(6, 100));
    change(&mut sequence, &mut header);
    assert_eq!(check_sequence(&sequence, &header), Err(expected));
}

#[test]
fn each_rule_is_found_broken() {
    assert_eq!(check_sequence(&good(), &header(6, 100)), Ok(()));
    check(|sequence, _| sequence.tokens.push(0), SequenceProblem::Length { found: 7, expected: 6 });
    check(|sequence, _| sequence.tokens.truncate(2), SequenceProblem::Length { found: 2, expected: 6 });
    check(|sequence, _| sequence.segments.clear(), SequenceProblem::Empty);
    check(|sequence, _| sequence.segments[0].end = 0, SequenceProblem::SegmentEnd { segment: 0, start: 0, end: 0 });
    check(|sequence, _| sequence.segments[1].end = 3, SequenceProblem::SegmentEnd { segment: 1, start: 3, end: 3 });
    check(|sequence, _| sequence.segments[1].end = 2, SequenceProblem::SegmentEnd { segment: 1, start: 3, end: 2 });
    check(|sequence, _| sequence.segments[1].end = 7, SequenceProblem::SegmentPastEnd { end: 7, sequence_length: 6 });
    check(
        |sequence, _| sequence.segments[1] = segment(u32::MAX, 2, 0),
        SequenceProblem::SegmentPastEnd { end: u32::MAX, sequence_length: 6 },
    );
}

#[test]
fn sources_offsets_tokens_and_padding_are_checked() {
    check(|sequence, _| sequence.segments[1].source = 3, SequenceProblem::Source { segment: 1, source: 3, sources: 3 });
    check(|sequence, _| sequence.segments[0].offset = u32::MAX - 2, SequenceProblem::Offset { segment: 0 });
    check(|sequence, _| sequence.tokens[2] = 100, SequenceProblem::Token { position: 2, vocabulary_size: 100 });
    check(|_, header| header.vocabulary_size = 8, SequenceProblem::Token { position: 3, vocabulary_size: 8 });
    check(|sequence, _| sequence.tokens[5] = 1, SequenceProblem::Padding { position: 5 });
    check(|sequence, _| sequence.segments.truncate(1), SequenceProblem::Padding { position: 3 });
}

#[test]
fn mask_rules_are_found_broken() {
    let mask = |length: usize, on: &[usize]| Some((0..length).map(|position| on.contains(&position)).collect());
    check(|sequence, _| sequence.loss_mask = mask(5, &[]), SequenceProblem::MaskLength { found: 5, expected: 6 });
    check(|sequence, _| sequence.loss_mask = mask(6, &[0, 5]), SequenceProblem::MaskOnPadding { position: 5 });
    check(|_, header| header.kind = Kind::Instruct, SequenceProblem::MaskMissing);
    let masked = Sequence { loss_mask: mask(6, &[1, 3]), ..good() };
    assert_eq!(check_sequence(&masked, &ShardHeader { kind: Kind::Instruct, ..header(6, 100) }), Ok(()));
}

#[test]
fn messages_name_the_rule_and_no_token() {
    let mut sequence = good();
    sequence.tokens[2] = 7777;
    let message = verify_sequence(&sequence, &header(6, 100)).unwrap_err().to_string();
    assert_eq!(message, "sequence: token at 2 is outside the vocabulary of 100");
}

#[test]
fn a_shard_adds_up_to_its_footer() {
    for kind in [Kind::Cpt, Kind::Instruct] {
        let header = ShardHeader { kind, ..header(32, 70_000) };
        let made = sequences(300, &header, 4);
        let shard = open(&write_shard(&header, &made));
        let mut seen = Vec::new();
        let totals = verify_shard_with(&shard, &mut |row, sequence| {
            seen.push((row, sequence.clone()));
        })
        .unwrap();
        assert_eq!(seen, (0..).zip(made.iter().cloned()).collect::<Vec<_>>());
        assert_eq!(totals, verify_shard(&shard).unwrap());
        let filled: u64 = made.iter().map(|sequence| u64::from(sequence.filled())).sum();
        assert_eq!((totals.sequences, totals.tokens, totals.padding), (300, filled, 300 * 32 - filled));
        let trained: usize = made.iter().map(|sequence| (0..32).filter(|&position| sequence.is_trained(position)).count()).sum();
        assert_eq!(totals.trained, trained as u64);
        assert_eq!(totals.source_tokens.iter().sum::<u64>(), filled);
    }
}

fn continuity(sequences: &[Sequence], parts: u64) -> Vec<super::Discontinuity> {
    let mut found = Vec::new();
    let mut documents = 0;
    for part in 0..parts {
        let mut checker = Continuity::new(part, parts);
        for sequence in sequences {
            checker.add(sequence);
        }
        documents += checker.documents();
        found.extend(checker.finish());
    }
    let mut keys: Vec<(u128, u32)> =
        sequences.iter().flat_map(|sequence| &sequence.segments).map(|segment| (segment.document, segment.epoch)).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(documents, keys.len(), "every document is in exactly one part");
    found.sort_by_key(|found| (found.document, found.epoch));
    found
}

#[test]
fn packed_documents_are_continuous_across_a_set() {
    let header = header(32, 100);
    let packed = sequences_of(&documents(200, &header, 3), &header);
    for parts in [1, 3] {
        assert_eq!(continuity(&packed, parts), []);
    }
}

#[test]
fn gaps_overlaps_and_mixed_sources_are_found() {
    let sequence = |segments: Vec<Segment>| Sequence { tokens: vec![1; 10], segments, loss_mask: None };
    let key = |number: u128| number << 64;
    let set = [
        sequence(vec![segment(4, key(1), 0), segment(10, key(2), 4)]),
        sequence(vec![segment(4, key(2), 0), segment(8, key(3), 2), segment(10, key(4), 0)]),
        sequence(vec![segment(3, key(4), 1), Segment { source: 1, ..segment(6, key(5), 3) }, segment(9, key(5), 0)]),
        sequence(vec![segment(3, key(6), 0), Segment { epoch: 1, ..segment(8, key(6), 0) }, segment(10, key(1), 5)]),
    ];
    let expected = [
        (1, DiscontinuityProblem::Missing(4..5)),
        (3, DiscontinuityProblem::Missing(0..2)),
        (4, DiscontinuityProblem::Repeated(1..2)),
        (5, DiscontinuityProblem::Sources),
    ];
    for parts in [1, 2, 7] {
        let found: Vec<(u128, DiscontinuityProblem)> =
            continuity(&set, parts).into_iter().map(|found| (found.document >> 64, found.problem)).collect();
        assert_eq!(found, expected, "{parts} parts");
    }
}
