//! Parts of an object that can only be read from its beginning: one stream of gzip, a CSV file, a tar inside of either.
//!
//! Such a part is a range of the decompressed stream. Its items are those from the first one that begins there to the first one
//! that begins behind it, so that every item of the object is in one part, whichever order they come in. Whoever reads a part
//! reads what lies before, of which as little as possible is parsed; one reader gives one part after the other, and then nothing
//! is read twice.

use std::fmt;
use std::io;

use crate::compression::StreamFault;
use crate::input::{Input, RangeRead};
use crate::part::Part;
use crate::reader::{Format, Item, Limits, ReadError, Reader};
use crate::tar::is_tar;
use crate::tar_header::BLOCK_BYTES;

/// Stored bytes that tell how much comes out of the others.
const SAMPLE_BYTES: u64 = 1 << 20;
/// Parts are laid out for this much more than the sample promises, in percent: what is behind the last begin is one part.
const MARGIN_PERCENT: u64 = 25;
/// Most parts of an object: each of them that is read alone costs a pass over those before it.
const MAX_PARTS: u64 = 64;

/// Parts of an object of about `part_bytes` decompressed bytes each, in order; none where it holds less, where its format has one
/// record or one sequence an object, and where nothing can be decompressed.
///
/// How many there are is told from the first stored bytes, so the last ones may be without items and the last one may be longer.
/// They depend on the object, `part_bytes` and `limits` alone.
///
/// # Errors
/// Failures of the store; a damaged object is not cut.
pub fn parts(format: Format, object: &dyn RangeRead, part_bytes: u64, limits: &Limits) -> io::Result<Vec<Part>> {
    let stored_bytes = object.len();
    let Some(length) = expected_bytes(format, object, limits)? else { return Ok(Vec::new()) };
    let part_bytes = part_bytes.max(length.div_ceil(MAX_PARTS)).max(1);
    let count = length.div_ceil(part_bytes);
    if count < 2 {
        return Ok(Vec::new());
    }
    let share = |number: u64| (u128::from(stored_bytes) * u128::from(number) / u128::from(count)) as u64;
    let part = |number: u64| Part {
        first: number * part_bytes,
        end: if number + 1 == count { u64::MAX } else { (number + 1) * part_bytes },
        frame: None,
        stored_bytes: share(number + 1) - share(number),
        is_sequential: true,
    };
    Ok((0..count).map(part).collect())
}

/// Decompressed bytes that parts are laid out for.
fn expected_bytes(format: Format, object: &dyn RangeRead, limits: &Limits) -> io::Result<Option<u64>> {
    let is_in_tar = match format {
        Format::PmcTar | Format::Jats | Format::MimicCxr => true,
        Format::Redpajama | Format::Pile | Format::S2orc | Format::Jsonl | Format::Csv | Format::MimicNotes => false,
        Format::PubmedXml | Format::Parquet | Format::Text => return Ok(None),
    };
    let sample = object.read_at(0, SAMPLE_BYTES.min(object.len()) as usize)?;
    let sample_bytes = sample.len() as u64;
    let Some(decoded) = decoded_of(sample.clone(), is_in_tar, limits)? else { return Ok(None) };
    if decoded == sample_bytes && crate::part::is_plain(&sample) {
        return Ok(Some(object.len()));
    }
    let promised = u128::from(object.len()) * u128::from(decoded) / u128::from(sample_bytes.max(1));
    let laid_out = promised * u128::from(100 + MARGIN_PERCENT) / 100;
    Ok(Some(u64::try_from(laid_out).unwrap_or(u64::MAX).min(limits.object_bytes)))
}

/// Bytes that come out of the first stored ones; `None` where nothing does, or where it is no tar and has to be one.
fn decoded_of(sample: Vec<u8>, is_in_tar: bool, limits: &Limits) -> io::Result<Option<u64>> {
    let mut blocks = Input::from_bytes(sample).into_decoded(limits);
    let mut bytes = 0;
    loop {
        match blocks.next_block() {
            Ok(block) if block.bytes.is_empty() => break,
            Ok(block) => {
                if bytes == 0 && is_in_tar && !is_tar(&block.bytes[..BLOCK_BYTES.min(block.bytes.len())]) {
                    return Ok(None);
                }
                bytes += block.bytes.len() as u64;
            }
            // Where the sample ends.
            Err(error) if StreamFault::of(&error).is_some() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// Reads an object from its beginning and gives the items of one part after the other.
pub struct SequentialReader {
    reader: Box<dyn Reader>,
    /// An item that was read and not given.
    waiting: Option<Item>,
    /// The first item at this offset or behind has not been given yet, and everything before it is gone.
    place: u64,
}

impl SequentialReader {
    /// At the beginning of the object, of which nothing was read yet.
    pub fn new(reader: Box<dyn Reader>) -> Self {
        Self { reader, waiting: None, place: 0 }
    }

    /// Where the parts begin that can still be read.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// Goes on to where a part begins, which is not before [`Self::place`].
    ///
    /// # Errors
    /// [`ReadError`] when the bytes cannot be had; nothing can be read then.
    pub fn approach(&mut self, part: &Part) -> Result<(), ReadError> {
        if part.first > self.place {
            self.reader.pass_to(part.first);
            self.place = part.first;
            while self.waiting.as_ref().is_none_or(|item| item.byte_offset() < part.first) {
                self.waiting = self.reader.next().transpose()?;
                if self.waiting.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The next item of a part that was reached; `None` behind its last one, and the next part may begin there.
    ///
    /// # Errors
    /// Inner: [`ReadError`] when the bytes cannot be had; nothing can be read then.
    pub fn next_of(&mut self, part: &Part) -> Option<Result<Item, ReadError>> {
        let next = self.waiting.take().map(Ok).or_else(|| self.reader.next());
        match next {
            Some(Ok(item)) if item.byte_offset() >= part.end => {
                self.waiting = Some(item);
                self.place = part.end;
                None
            }
            None => {
                self.place = part.end;
                None
            }
            next => next,
        }
    }
}

impl fmt::Debug for SequentialReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SequentialReader").field("place", &self.place).finish_non_exhaustive()
    }
}
