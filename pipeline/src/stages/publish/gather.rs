//! From pieces to sequences: the tokens of many sequences read object by object, each document proved, few large reads.

use std::collections::BTreeMap;

use mellama_shards::sequence::PADDING_TOKEN;
use mellama_shards::{RunPart, Segment, Sequence};

use crate::context::Context;
use crate::failure::Failure;
use crate::stage::Stage;
use crate::stages::pack::PlacedPiece;
use crate::stages::tokenize;

/// Where a piece goes.
struct Wanted {
    part: RunPart,
    sequence: usize,
    /// First position in the sequence.
    start: usize,
}

/// The sequences that `pieces` describe, `length` tokens each.
///
/// # Errors
/// `Failure::Verification` for tokens or tables that are not what was written.
pub(super) fn gather(context: &Context<'_>, pieces: &[Vec<PlacedPiece>], length: u32) -> Result<Vec<Sequence>, Failure> {
    let mut by_object: BTreeMap<u32, Vec<Wanted>> = BTreeMap::new();
    let mut sequences = Vec::with_capacity(pieces.len());
    for (index, pieces) in pieces.iter().enumerate() {
        let mut segments = Vec::with_capacity(pieces.len());
        let mut end = 0_u32;
        for piece in pieces {
            let PlacedPiece { object, part, key, source, epoch } = *piece;
            by_object.entry(object).or_default().push(Wanted { part, sequence: index, start: end as usize });
            end = end.checked_add(part.length).filter(|end| *end <= length).ok_or_else(|| overfull(length))?;
            segments.push(Segment { end, document: key, source, offset: part.offset, epoch });
        }
        sequences.push(Sequence { tokens: vec![PADDING_TOKEN; length as usize], segments, loss_mask: None });
    }
    for (object, wanted) in by_object {
        context.check_stop()?;
        fill(context, object, &wanted, &mut sequences)?;
    }
    Ok(sequences)
}

fn overfull(length: u32) -> Failure {
    Failure::Verification(format!("packed: pieces of more than {length} tokens in a sequence; run \"mellama verify\""))
}

/// Reads what lies in one object.
fn fill(context: &Context<'_>, object: u32, wanted: &[Wanted], sequences: &mut [Sequence]) -> Result<(), Failure> {
    let commit = context.commit(Stage::Tokenize, u64::from(object))?;
    let no_object = || Failure::Verification(format!("packed: tokenize task {object} wrote no tokens; run \"mellama verify\""));
    let tokens = tokenize::open_tokens(context, &commit)?.ok_or_else(no_object)?;
    let parts: Vec<RunPart> = wanted.iter().map(|wanted| wanted.part).collect();
    let read = tokens.read_parts(&parts, &mut |at, tokens| {
        let Wanted { part, sequence, start } = &wanted[at];
        tokens.copy_to(&mut sequences[*sequence].tokens[*start..*start + part.length as usize]);
    });
    read.map_err(|e| Failure::reading("", &e))
}
