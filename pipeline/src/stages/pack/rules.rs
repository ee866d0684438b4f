//! The rules of packing as the manifest states them, in figures and in words: how sequences came about, without the program.

use mellama_shards::packing::{Method, WINDOW_DOCUMENTS};
use mellama_shards::sequence::PADDING_TOKEN;
use serde::Serialize;

use super::{method, sequence_length};
use crate::context::Context;
use crate::failure::Failure;
use crate::separators::Separators;
use crate::stages::mix::WINDOW_TOKENS;

/// What holds for every packed sequence of a run.
#[derive(Debug, Serialize)]
pub(super) struct Rules {
    method: Method,
    /// Tokens of a sequence, T.
    sequence_length: u32,
    /// Documents after which a window of the order is closed.
    window_documents: u64,
    /// Tokens after which it is; a longer document is a window of its own.
    window_tokens: u64,
    /// In which order a window's documents are placed, and where.
    placement: &'static str,
    /// Which documents are cut, and where.
    fragments: &'static str,
    /// In which order a window's sequences follow each other.
    sequence_order: &'static str,
    /// What follows the last segment of a sequence.
    padding: &'static str,
    padding_token: u32,
    /// Ids before and behind every document, counted as its tokens; null: none.
    separators: Separators,
}

pub(super) fn of(context: &Context<'_>) -> Result<Rules, Failure> {
    let method = method(context);
    let (placement, fragments, sequence_order, padding) = match method {
        Method::BestFit => (
            "best-fit decreasing inside a window: by length, longest first, then by place in the order; each into the sequence \
             with the least room that is enough, of equal ones the last touched",
            "a document longer than a sequence is cut every T tokens from its start and its tail is placed like a document; no \
             other is cut, and nothing is left out",
            "by the keyed hash of a sequence's index, purpose pack, epoch the window's number",
            "at the end of a sequence, where no tail and no document had fitted",
        ),
        Method::Concatenate => (
            "documents end to end in the order",
            "a document is cut wherever a sequence ends, and goes on in the next one; nothing is left out",
            "that of the documents",
            "at the end of the last sequence of a domain",
        ),
    };
    Ok(Rules {
        method,
        sequence_length: sequence_length(context),
        window_documents: WINDOW_DOCUMENTS as u64,
        window_tokens: WINDOW_TOKENS,
        placement,
        fragments,
        sequence_order,
        padding,
        padding_token: PADDING_TOKEN,
        separators: context.separators()?,
    })
}
