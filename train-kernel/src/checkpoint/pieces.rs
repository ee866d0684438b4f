//! How ranks share the tensors of a checkpoint, and what the parts are called in its files.
//!
//! A part is a rectangle: rows and columns of a matrix, elements of a vector. Its name says which, so that a file explains itself
//! and a tensor can be put together from the files of any number of ranks.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::parameters::{Layout, TensorSpec};

/// Rows and columns of a tensor `[R, C]`; a vector `[R]` has one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Rows, or elements of a vector.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

impl Piece {
    /// All of a tensor.
    pub fn whole(tensor: &TensorSpec) -> Self {
        let (rows, columns) = extents(tensor);
        Self { rows: 0..rows, columns: 0..columns }
    }

    /// Number of elements.
    pub fn length(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// What both have.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let both = |a: &Range<usize>, b: &Range<usize>| a.start.max(b.start)..a.end.min(b.end);
        let found = Self { rows: both(&self.rows, &other.rows), columns: both(&self.columns, &other.columns) };
        (!found.rows.is_empty() && !found.columns.is_empty()).then_some(found)
    }

    /// Its shape in a file: `[rows, columns]` of a matrix, `[elements]` of a vector.
    pub fn shape(&self, tensor: &TensorSpec) -> Vec<usize> {
        if tensor.matrix { vec![self.rows.len(), self.columns.len()] } else { vec![self.rows.len()] }
    }

    /// Its name in a file: the tensor's where it is all of it, else for example `lm_head.weight[0:16,0:4096]`.
    pub fn name(&self, tensor: &TensorSpec) -> String {
        if *self == Self::whole(tensor) { tensor.name.clone() } else { format!("{}{self}", tensor.name) }
    }

    /// Takes a name apart: the tensor's, and the rectangle where it is a part.
    pub fn parse(name: &str) -> (&str, Option<Self>) {
        let split = || {
            let (tensor, rest) = name.strip_suffix(']')?.rsplit_once('[')?;
            let (rows, columns) = rest.split_once(',')?;
            let range = |text: &str| {
                let (start, end) = text.split_once(':')?;
                Some(start.parse().ok()?..end.parse().ok()?)
            };
            let piece = Self { rows: range(rows)?, columns: range(columns)? };
            // One way to write a rectangle, so that no element can be there twice under two names.
            (format!("{tensor}{piece}") == name).then_some((tensor, piece))
        };
        split().map_or((name, None), |(tensor, piece)| (tensor, Some(piece)))
    }

    /// The rows of this part as runs of elements of the flat buffer that holds `within`, a rectangle around it.
    pub(super) fn runs(&self, within: &Self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (width, first) = (within.columns.len(), self.columns.start - within.columns.start);
        let (count, rows) = (self.columns.len(), self.rows.start - within.rows.start..self.rows.end - within.rows.start);
        rows.map(move |row| {
            let start = row * width + first;
            start..start + count
        })
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, columns } = self;
        write!(formatter, "[{}:{},{}:{}]", rows.start, rows.end, columns.start, columns.end)
    }
}

/// Rows and columns of a tensor.
fn extents(tensor: &TensorSpec) -> (usize, usize) {
    match tensor.shape.as_slice() {
        [rows, columns] => (*rows, *columns),
        other => (other.iter().product(), 1),
    }
}

/// How many ranks hold a checkpoint, and how they share it. Rank `d * tensor_parallel + t` is place `t` among those that share a
/// matrix, place `d` among those that share the optimizer's state (`ZeRO`, Rajbhandari and others 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Ranks that share each matrix.
    pub tensor_parallel: usize,
    /// Ranks that share the state of each part of a matrix.
    pub data_parallel: usize,
}

impl Default for Partition {
    /// One rank.
    fn default() -> Self {
        Self { tensor_parallel: 1, data_parallel: 1 }
    }
}

impl Partition {
    /// Number of ranks.
    pub fn ranks(self) -> usize {
        self.tensor_parallel * self.data_parallel
    }

    /// The parts that a rank writes, by the tensor's index. Over all ranks every element occurs exactly once.
    ///
    /// Matrices are cut as tensor parallelism cuts them (Shoeybi and others 2019): `o_proj` and `down_proj` by columns, the others
    /// by rows; then each part by rows over the ranks that share its state. What every rank has whole, norms and adapters, is
    /// cut by rows over all of them.
    pub fn pieces(self, layout: &Layout, rank: usize) -> Vec<(usize, Piece)> {
        let (across, along) = (rank % self.tensor_parallel, rank / self.tensor_parallel);
        let piece = |tensor: &TensorSpec| {
            let Piece { rows, columns } = Piece::whole(tensor);
            match Cut::of(tensor) {
                Cut::Everywhere => Piece { rows: share(rows, rank, self.ranks()), columns },
                Cut::Rows => {
                    let rows = share(rows, across, self.tensor_parallel);
                    Piece { rows: share(rows, along, self.data_parallel), columns }
                }
                Cut::Columns => {
                    let columns = share(columns, across, self.tensor_parallel);
                    Piece { rows: share(rows, along, self.data_parallel), columns }
                }
            }
        };
        let pieces = layout.tensors().iter().map(piece).enumerate();
        pieces.filter(|(_, piece)| piece.length() > 0).collect()
    }
}

/// How tensor parallelism cuts a tensor.
enum Cut {
    Rows,
    Columns,
    /// Not at all: every rank has it.
    Everywhere,
}

impl Cut {
    fn of(tensor: &TensorSpec) -> Self {
        let adapter = tensor.name.contains(".lora_");
        match tensor.name.as_str() {
            _ if adapter || !tensor.matrix => Self::Everywhere,
            name if name.ends_with(".o_proj.weight") || name.ends_with(".down_proj.weight") => Self::Columns,
            _ => Self::Rows,
        }
    }
}

/// The `index`-th of `count` parts of a range, as equal as they can be.
fn share(range: Range<usize>, index: usize, count: usize) -> Range<usize> {
    let at = |index: usize| range.start + range.len() * index / count;
    at(index)..at(index + 1)
}

/// The values of a part, row by row, from those of the whole tensor.
pub(super) fn values_of<'v>(tensor: &TensorSpec, values: &'v [f32], piece: &Piece) -> impl Iterator<Item = &'v [f32]> + use<'v> {
    let whole = Piece::whole(tensor);
    // Whole rows are one run.
    let runs: Box<dyn Iterator<Item = Range<usize>>> = if piece.columns == whole.columns {
        let width = whole.columns.len();
        Box::new(std::iter::once(piece.rows.start * width..piece.rows.end * width))
    } else {
        Box::new(piece.runs(&whole))
    };
    runs.map(move |run| &values[run])
}

#[cfg(test)]
mod tests {
    use super::{Partition, Piece, values_of};
    use crate::lora::LoraSpec;
    use crate::parameters::{Layout, Parameters};
    use crate::shape::Shape;
    use std::sync::Arc;

    #[test]
    fn names_of_parts_read_back_and_nothing_else_is_a_part() {
        let layout = Layout::of(&Shape::named("tiny", 50).unwrap());
        let tensor = &layout.tensors()[0];
        let part = Piece { rows: 3..7, columns: 0..2 };
        assert_eq!(part.name(tensor), "model.embed_tokens.weight[3:7,0:2]");
        assert_eq!(Piece::parse(&part.name(tensor)), (tensor.name.as_str(), Some(part)));
        assert_eq!(Piece::whole(tensor).name(tensor), tensor.name);
        for name in ["a", "a[1:2]", "a[01:2,0:1]", "a[1:2,0:1] ", "a[-1:2,0:1]", "a[1:2,0:1", "[", "]"] {
            assert_eq!(Piece::parse(name), (name, None));
        }
    }

    #[test]
    fn every_element_belongs_to_exactly_one_rank() {
        let shape = Shape::named("tiny", 51).unwrap();
        let layouts = [Layout::of(&shape), LoraSpec { rank: 3, ..LoraSpec::default() }.layout(&shape)];
        for (tensor_parallel, data_parallel) in [(1, 1), (2, 1), (1, 3), (2, 3), (4, 5)] {
            let partition = Partition { tensor_parallel, data_parallel };
            for layout in &layouts {
                let layout = Arc::new(layout.clone());
                let mut seen = Parameters::<f32>::zeros(Arc::clone(&layout));
                for rank in 0..partition.ranks() {
                    for (index, piece) in partition.pieces(&layout, rank) {
                        let whole = Piece::whole(&layout.tensors()[index]);
                        let values = seen.slice_mut(index);
                        piece.runs(&whole).for_each(|run| values[run].iter_mut().for_each(|value| *value += 1.0));
                    }
                }
                assert!(seen.data.iter().all(|&count| count.to_bits() == 1.0_f32.to_bits()), "{partition:?}");
            }
        }
    }

    #[test]
    fn values_come_row_by_row() {
        let layout = Layout::from_tensors([("t".to_owned(), vec![3, 4])]);
        let all: Vec<f32> = (0..12_u8).map(f32::from).collect();
        let values = |rows, columns| {
            let runs = values_of(&layout.tensors()[0], &all, &Piece { rows, columns });
            runs.flatten().copied().collect::<Vec<f32>>()
        };
        assert_eq!(values(1..3, 0..4), (4..12_u8).map(f32::from).collect::<Vec<_>>());
        assert_eq!(values(0..2, 1..3), [1.0, 2.0, 5.0, 6.0]);
    }
}
