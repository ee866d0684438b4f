//! The decoded sequences of one row group, checked once so that taking one out cannot fail on its shape.
//!
//! It reads no file: [`crate::reader`] decodes the columns and hands them over.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, RecordBatch, UInt16Array, UInt32Array};

use crate::error::ShardError;
use crate::format::{COLUMNS, Segment, Sequence, ShardHeader, Width};
use crate::verify::check_sequence;

/// The sequences of one row group.
#[derive(Debug)]
pub struct RowGroup {
    name: String,
    header: Arc<ShardHeader>,
    first_row: u64,
    tokens: Tokens,
    segments: SegmentColumns,
    masks: ListArray,
}

#[derive(Debug)]
enum Tokens {
    U16(UInt16Array),
    U32(UInt32Array),
}

impl RowGroup {
    pub(crate) fn new(name: &str, header: Arc<ShardHeader>, first_row: u64, batch: &RecordBatch) -> Result<Self, ShardError> {
        let width = header.sequence_length as usize;
        let list = list_column(name, batch, "tokens")?;
        // Every row has T tokens, so row i begins at i·T of the values that the list covers.
        let (start, end) = covered(list);
        if list.value_offsets().windows(2).any(|pair| (pair[1] - pair[0]) as usize != width) {
            return Err(ShardError::corrupt(name, format!("column tokens: a row that has not {width} tokens")));
        }
        let values = list.values().slice(start, end - start);
        let tokens = match header.width {
            Width::U16 => Tokens::U16(values_of::<UInt16Array>(name, "tokens", &values)?.clone()),
            Width::U32 => Tokens::U32(values_of::<UInt32Array>(name, "tokens", &values)?.clone()),
        };
        let segments = SegmentColumns::new(name, batch)?;
        let masks = list_column(name, batch, "loss_mask")?.clone();
        values_of::<BooleanArray>(name, "loss_mask", masks.values())?;
        Ok(Self { name: name.to_owned(), header, first_row, tokens, segments, masks })
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.segments.rows()
    }

    /// True when there are none; a row group of a valid shard has at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row of the first one in its shard.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Sequence `row` of this row group, checked by the rules of [`crate::verify::verify_sequence`].
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`], or [`ShardError::Sequence`] when it breaks a rule.
    pub fn sequence(&self, row: usize) -> Result<Sequence, ShardError> {
        if row >= self.len() {
            let (index, length) = (row as u64, self.len() as u64);
            return Err(ShardError::OutOfRange { subject: self.name.clone(), index, length });
        }
        let width = self.header.sequence_length as usize;
        let range = row * width..(row + 1) * width;
        let tokens = match &self.tokens {
            Tokens::U16(values) => values.values()[range].iter().map(|&token| u32::from(token)).collect(),
            Tokens::U32(values) => values.values()[range].to_vec(),
        };
        let sequence = Sequence { tokens, segments: self.segments.row(row), loss_mask: self.mask(row) };
        check_sequence(&sequence, &self.header).map_err(|problem| ShardError::Sequence {
            subject: format!("{}: sequence {}", self.name, self.first_row + row as u64),
            problem,
        })?;
        Ok(sequence)
    }

    fn mask(&self, row: usize) -> Option<Vec<bool>> {
        if self.masks.is_null(row) {
            return None;
        }
        let values = self.masks.value(row);
        let values = values.as_any().downcast_ref::<BooleanArray>().expect("the column's type was checked");
        Some(values.values().iter().collect())
    }
}

/// The five segment columns of some rows; all have the same list lengths and no nulls.
#[derive(Debug)]
pub(crate) struct SegmentColumns {
    /// Row `i` has the segments `starts[i]..starts[i + 1]`.
    starts: Vec<usize>,
    ends: UInt32Array,
    documents: Vec<u128>,
    sources: UInt16Array,
    offsets: UInt32Array,
    epochs: UInt32Array,
}

impl SegmentColumns {
    pub(crate) fn new(name: &str, batch: &RecordBatch) -> Result<Self, ShardError> {
        let lists: Vec<&ListArray> =
            COLUMNS[1..6].iter().map(|column| list_column(name, batch, column)).collect::<Result<_, _>>()?;
        let starts = relative_offsets(lists[0]);
        if lists.iter().any(|list| relative_offsets(list) != starts) {
            return Err(ShardError::corrupt(name, "segment columns: their lists differ in length, expected equal"));
        }
        let values = |index: usize| {
            let (start, end) = covered(lists[index]);
            lists[index].values().slice(start, end - start)
        };
        Ok(Self {
            ends: values_of::<UInt32Array>(name, COLUMNS[1], &values(0))?.clone(),
            documents: keys_of(name, &values(1))?,
            sources: values_of::<UInt16Array>(name, COLUMNS[3], &values(2))?.clone(),
            offsets: values_of::<UInt32Array>(name, COLUMNS[4], &values(3))?.clone(),
            epochs: values_of::<UInt32Array>(name, COLUMNS[5], &values(4))?.clone(),
            starts,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn row(&self, row: usize) -> Vec<Segment> {
        let range: Range<usize> = self.starts[row]..self.starts[row + 1];
        range.map(|index| self.segment(index)).collect()
    }

    fn segment(&self, index: usize) -> Segment {
        Segment {
            end: self.ends.value(index),
            document: self.documents[index],
            source: self.sources.value(index),
            offset: self.offsets.value(index),
            epoch: self.epochs.value(index),
        }
    }
}

fn list_column<'a>(name: &str, batch: &'a RecordBatch, column: &str) -> Result<&'a ListArray, ShardError> {
    let array = batch.column_by_name(column).ok_or_else(|| ShardError::corrupt(name, format!("column {column}: missing")))?;
    let list = array.as_any().downcast_ref::<ListArray>();
    let list =
        list.ok_or_else(|| ShardError::corrupt(name, format!("column {column}: {}, expected a list", array.data_type())))?;
    if column != "loss_mask" && list.null_count() > 0 {
        return Err(ShardError::corrupt(name, format!("column {column}: nulls, expected none")));
    }
    Ok(list)
}

fn values_of<'a, A: Array + 'static>(name: &str, column: &str, values: &'a Arc<dyn Array>) -> Result<&'a A, ShardError> {
    let typed = values.as_any().downcast_ref::<A>().filter(|typed| typed.null_count() == 0);
    typed.ok_or_else(|| ShardError::corrupt(name, format!("column {column}: {} or nulls inside", values.data_type())))
}

/// Document keys, as byte strings or as values of 16 bytes: the schema was compared with the header's version.
fn keys_of(name: &str, values: &Arc<dyn Array>) -> Result<Vec<u128>, ShardError> {
    let key = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok()).map(u128::from_le_bytes);
    let keys: Option<Vec<u128>> = match values.as_any().downcast_ref::<FixedSizeBinaryArray>() {
        Some(fixed) => fixed.iter().map(key).collect(),
        None => values_of::<BinaryArray>(name, COLUMNS[2], values)?.iter().map(key).collect(),
    };
    keys.ok_or_else(|| ShardError::corrupt(name, format!("column {}: a document key that has not 16 bytes", COLUMNS[2])))
}

/// First and last value index that the list's rows cover.
fn covered(list: &ListArray) -> (usize, usize) {
    let offsets = list.value_offsets();
    (offsets[0] as usize, offsets[offsets.len() - 1] as usize)
}

fn relative_offsets(list: &ListArray) -> Vec<usize> {
    let offsets = list.value_offsets();
    offsets.iter().map(|&offset| (offset - offsets[0]) as usize).collect()
}
