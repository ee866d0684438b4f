//! Where a big object is cut into parts that can be read apart: row groups, plain lines, frames of a zstd stream of lines,
//! entries of a plain tar.
//!
//! It reads no record: footers, first bytes and headers of frames and entries only. What cannot be cut surely is not cut.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::input::RangeRead;
use crate::parquet_chunks::Chunks;
use crate::part::{HEAD_BYTES, Part, is_plain};
use crate::reader::{Format, Limits};
use crate::tar::is_tar;
use crate::tar_header::BLOCK_BYTES;
use crate::{tar_parts, zstd_frames};

/// The parts of an object, of about `part_bytes` stored bytes each, in order; none where it is to be read as one.
///
/// They depend on the object, `part_bytes` and `limits` alone. The documents of all parts in their order are those of the
/// whole object, read under the same limits, as long as no stream is damaged: a fault ends the part that it lies in.
///
/// # Errors
/// Failures of the store; a damaged object is not cut.
pub fn split(format: Format, object: Box<dyn RangeRead>, part_bytes: u64, limits: &Limits) -> io::Result<Vec<Part>> {
    let part_bytes = part_bytes.max(1);
    let parts = match format {
        Format::Parquet => rows(object, part_bytes)?,
        Format::Jsonl | Format::Redpajama | Format::Pile | Format::S2orc => lines(&*object, part_bytes)?,
        Format::Jats | Format::PmcTar | Format::MimicCxr => tar_parts::parts(&*object, part_bytes, limits)?,
        _ => Vec::new(),
    };
    Ok(if parts.len() > 1 { parts } else { Vec::new() })
}

/// Parts of whole row groups.
fn rows(object: Box<dyn RangeRead>, part_bytes: u64) -> io::Result<Vec<Part>> {
    let chunks = Chunks::new(object);
    // The decoder may panic on a damaged footer, and quotes data in its errors.
    let opened = catch_unwind(AssertUnwindSafe(|| SerializedFileReader::new(chunks.clone())));
    if let Some(failure) = chunks.take_failure() {
        return Err(failure);
    }
    Ok(match opened {
        Ok(Ok(file)) => row_parts(file.metadata(), part_bytes),
        Ok(Err(_)) | Err(_) => Vec::new(),
    })
}

fn row_parts(metadata: &ParquetMetaData, part_bytes: u64) -> Vec<Part> {
    let mut parts = Parts::new(part_bytes);
    let mut row = 0_u64;
    for group in metadata.row_groups() {
        let sizes = (u64::try_from(group.num_rows()), u64::try_from(group.compressed_size()));
        let (Ok(rows), Ok(bytes)) = sizes else { return Vec::new() };
        let Some(end) = row.checked_add(rows) else { return Vec::new() };
        parts.push(row, end, None, bytes);
        row = end;
    }
    parts.parts
}

/// Parts of lines, plain or in frames.
fn lines(object: &dyn RangeRead, part_bytes: u64) -> io::Result<Vec<Part>> {
    let head = object.read_at(0, HEAD_BYTES.min(object.len() as usize))?;
    if zstd_frames::is_frame(&head) {
        let mut parts = Parts::new(part_bytes);
        for frame in zstd_frames::frames(object)?.unwrap_or_default() {
            parts.push(frame.first, frame.end, Some(frame.stored), frame.stored_bytes);
        }
        return Ok(parts.parts);
    }
    if !is_plain(&head) || is_tar(&object.read_at(0, BLOCK_BYTES.min(object.len() as usize))?) {
        return Ok(Vec::new());
    }
    let length = object.len();
    let starts = (0..length).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX));
    Ok(starts
        .map(|first| {
            let end = first.saturating_add(part_bytes).min(length);
            Part { first, end, frame: None, stored_bytes: end - first, is_sequential: false }
        })
        .collect())
}

/// Gathers consecutive pieces to parts.
struct Parts {
    parts: Vec<Part>,
    part_bytes: u64,
}

impl Parts {
    fn new(part_bytes: u64) -> Self {
        Self { parts: Vec::new(), part_bytes }
    }

    /// Adds a piece; one without content joins the part before it.
    fn push(&mut self, first: u64, end: u64, frame: Option<u64>, stored_bytes: u64) {
        match self.parts.last_mut() {
            Some(part) if part.stored_bytes < self.part_bytes || first == end || part.first == part.end => {
                part.end = end;
                part.stored_bytes += stored_bytes;
            }
            _ => self.parts.push(Part { first, end, frame, stored_bytes, is_sequential: false }),
        }
    }
}
