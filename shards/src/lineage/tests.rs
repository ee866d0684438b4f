//! Placements that tile a shard.

use std::collections::BTreeSet;

use super::{Placement, find_documents, lineage};
use crate::testing::{documents, header, open, sequences_of, write_shard};

#[test]
fn placements_tile_the_shard_and_give_every_token_of_every_document() {
    let header = header(16, 100);
    let made = documents(700, &header, 11);
    let packed = sequences_of(&made, &header);
    let shard = open(&write_shard(&header, &packed));
    let placements: Vec<Placement> = lineage(&shard).map(Result::unwrap).collect();
    let mut at = (0, 0);
    for placement in &placements {
        let expected = if placement.sequence == at.0 { at.1 } else { 0 };
        assert_eq!(placement.tokens.start, expected);
        assert!(placement.sequence == at.0 || placement.sequence == at.0 + 1);
        at = (placement.sequence, placement.tokens.end);
    }
    assert_eq!(at.0 + 1, shard.rows());
    for document in &made {
        let wanted = BTreeSet::from([document.key]);
        let mut pieces = find_documents(&shard, &wanted).unwrap();
        pieces.sort_unstable_by_key(|piece| piece.offset);
        let mut tokens = Vec::new();
        for piece in pieces {
            assert_eq!((piece.offset as usize, piece.source), (tokens.len(), document.source));
            let sequence = &packed[piece.sequence as usize];
            tokens.extend_from_slice(&sequence.tokens[piece.tokens.start as usize..piece.tokens.end as usize]);
        }
        assert_eq!(tokens, document.tokens);
    }
    assert_eq!(find_documents(&shard, &BTreeSet::from([0])).unwrap(), []);
    let all: BTreeSet<u128> = made.iter().map(|document| document.key).collect();
    assert_eq!(find_documents(&shard, &all).unwrap(), placements);
}

#[test]
fn damage_in_the_segment_columns_is_an_error() {
    let header = header(16, 100);
    let bytes = write_shard(&header, &sequences_of(&documents(400, &header, 2), &header));
    let shard = open(&bytes);
    let groups = shard.row_groups();
    assert!(groups > 1);
    // The documents' column: its middle lies in page data.
    let span = {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        let reader = SerializedFileReader::new(bytes.clone()).unwrap();
        reader.metadata().row_group(1).column(2).byte_range()
    };
    let mut damaged = bytes.to_vec();
    damaged[(span.0 + span.1 / 2) as usize] ^= 4;
    let shard = open(&damaged.into());
    let found: Vec<_> = lineage(&shard).collect();
    assert_eq!(found.iter().filter(|placement| placement.is_err()).count(), 1);
    assert!(found.iter().filter(|placement| placement.is_ok()).count() >= 256, "the first row group still reads");
    assert!(find_documents(&shard, &BTreeSet::new()).is_err());
}
