//! Tensors in the files of a checkpoint: written by each rank in files of bounded size, read from those of any number of ranks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use mellama_storage::{Key, RangeReader, Workdir};

use super::CheckpointError;
use super::files::{cut, file_name, is_of, rank_folder};
use super::manifest::CheckpointManifest;
use super::pieces::{Partition, Piece, values_of};
use super::tensor_file::{Dtype, TensorFile, TensorFileError, write_header, write_values};
use super::write::CheckpointWriter;
use crate::parameters::{Layout, Parameters, TensorSpec};

/// Values of the tensors of a layout, one tensor at a time.
pub trait TensorValues {
    /// The tensors.
    fn layout(&self) -> &Layout;

    /// The values of the tensor at `index`.
    fn values(&self, index: usize) -> Cow<'_, [f32]>;
}

impl TensorValues for Parameters<f32> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn values(&self, index: usize) -> Cow<'_, [f32]> {
        Cow::Borrowed(self.slice(index))
    }
}

/// What a rank writes, and how large its files may become.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// How ranks share the tensors.
    pub partition: Partition,
    /// Which of them writes.
    pub rank: usize,
    /// Size above which a new file begins.
    pub limit_bytes: u64,
}

/// What files of tensors are called, say of themselves, and hold.
#[derive(Debug, Clone, Copy)]
pub struct FileKind<'a> {
    /// What their names begin with.
    pub stem: &'a str,
    /// Goes into their headers.
    pub format: &'a str,
    /// What values are stored as.
    pub dtype: Dtype,
}

/// A file that was written and the names of the tensors in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its name, from the checkpoint's folder.
    pub file: String,
    /// Names, in order.
    pub tensors: Vec<String>,
}

/// Writes a rank's share of the sets, each under its prefix, to files `STEM.safetensors` or `STEM-00001-of-00002.safetensors`.
///
/// # Errors
/// [`CheckpointError`] of the store.
pub fn put_tensors(
    writer: &mut CheckpointWriter<'_>,
    FileKind { stem, format, dtype }: FileKind<'_>,
    sets: &[(&str, &dyn TensorValues)],
    share: Share,
) -> Result<Vec<Written>, CheckpointError> {
    let mut parts = Vec::new();
    for &(prefix, values) in sets {
        let pieces = share.partition.pieces(values.layout(), share.rank);
        parts.extend(pieces.into_iter().map(|(index, piece)| Part { prefix, values, index, piece }));
    }
    let files = cut(parts.iter().map(|part| dtype.size_bytes() * part.piece.length() as u64), share.limit_bytes);
    let folder = rank_folder(share.rank, share.partition.ranks());
    let mut written = Vec::with_capacity(files.len());
    for (at, range) in files.iter().enumerate() {
        let file = format!("{folder}{}", file_name(stem, at, files.len()));
        let parts = &parts[range.clone()];
        let tensors: Vec<String> = parts.iter().map(Part::name).collect();
        writer.put(&file, parts.len() as u64, &|out| {
            let shapes: Vec<Vec<usize>> = parts.iter().map(|part| part.piece.shape(part.tensor())).collect();
            let header: Vec<(&str, &[usize])> =
                tensors.iter().map(String::as_str).zip(shapes.iter().map(Vec::as_slice)).collect();
            write_header(&file, out, (&header, dtype), &[("format", format)])?;
            for part in parts {
                let whole = part.values.values(part.index);
                let mut runs = values_of(part.tensor(), &whole, &part.piece);
                runs.try_for_each(|values| write_values(&file, out, dtype, values))?;
            }
            Ok(())
        })?;
        written.push(Written { file, tensors });
    }
    Ok(written)
}

/// One part of one tensor, to be written.
struct Part<'a> {
    prefix: &'a str,
    values: &'a dyn TensorValues,
    index: usize,
    piece: Piece,
}

impl Part<'_> {
    fn tensor(&self) -> &TensorSpec {
        &self.values.layout().tensors()[self.index]
    }

    fn name(&self) -> String {
        format!("{}{}", self.prefix, self.piece.name(self.tensor()))
    }
}

/// The tensor files of one stem of a checkpoint, opened.
pub struct TensorSet {
    folder: String,
    stem: String,
    files: Vec<TensorFile<RangeReader>>,
    /// Where the parts of each tensor are.
    stored: BTreeMap<String, Vec<Stored>>,
}

/// A tensor, or a part of one, in a file.
#[derive(Debug, Clone)]
struct Stored {
    file: usize,
    name: String,
    piece: Option<Piece>,
}

impl TensorSet {
    /// Opens every file of `stem` that the manifest lists.
    ///
    /// # Errors
    /// [`CheckpointError`] when there is none, or one is absent or not a sound tensor file.
    pub fn open(workdir: &Workdir, manifest: &CheckpointManifest, stem: &str) -> Result<Self, CheckpointError> {
        let folder = manifest.folder();
        let mut set = Self { folder: folder.clone(), stem: stem.to_owned(), files: Vec::new(), stored: BTreeMap::new() };
        for entry in &manifest.objects {
            let Some(file) = entry.key.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/')) else { continue };
            if !is_of(file, stem) {
                continue;
            }
            let reader = RangeReader::open(Arc::clone(workdir.store()), &Key::new(entry.key.as_str())?)?;
            let open = TensorFile::open(file, reader).map_err(|source| set.refused(source))?;
            for name in open.tensors().keys() {
                let (tensor, piece) = Piece::parse(name);
                let stored = Stored { file: set.files.len(), name: name.clone(), piece };
                set.stored.entry(tensor.to_owned()).or_default().push(stored);
            }
            set.files.push(open);
        }
        if set.files.is_empty() {
            return Err(CheckpointError::NotListed { folder, file: file_name(stem, 0, 1) });
        }
        Ok(set)
    }

    /// Refuses tensors that no set of `prefixes` and layout names.
    ///
    /// # Errors
    /// [`CheckpointError::Tensors`] for the first one.
    pub fn check_names(&self, prefixes: &[&str], layout: &Layout) -> Result<(), CheckpointError> {
        let known =
            |name: &String| prefixes.iter().any(|p| name.strip_prefix(p).is_some_and(|name| layout.index(name).is_some()));
        match self.stored.keys().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(self.of_parts(name, "not part of the model".to_owned())),
        }
    }

    /// Reads a part of a tensor into `out`, row by row, from whatever parts the files hold.
    ///
    /// # Errors
    /// [`CheckpointError::Tensors`] when it is not there, or there with gaps, twice, or in another shape.
    ///
    /// # Panics
    /// When `out` has not as many elements as `wanted`: a mistake of the caller.
    pub fn read(
        &mut self,
        (prefix, tensor): (&str, &TensorSpec),
        wanted: &Piece,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        assert_eq!(wanted.length(), out.len(), "the output has the part's size");
        let name = format!("{prefix}{}", tensor.name);
        let Some(stored) = self.stored.get(&name).cloned() else {
            return Err(self.refused(TensorFileError::Missing { file: file_name(&self.stem, 0, 1), tensor: name }));
        };
        let whole = Piece::whole(tensor);
        let parts: Vec<(&Stored, Piece)> =
            stored.iter().map(|at| (at, at.piece.clone().unwrap_or_else(|| whole.clone()))).collect();
        check_cover(&parts, &whole).map_err(|problem| self.of_parts(&name, problem))?;
        for (at, piece) in &parts {
            let Some(common) = piece.intersection(wanted) else { continue };
            let shape = piece.shape(tensor);
            if piece == wanted {
                self.files[at.file].read(&at.name, &shape, out).map_err(|source| self.refused(source))?;
                continue;
            }
            let mut values = vec![0.0; piece.length()];
            self.files[at.file].read(&at.name, &shape, &mut values).map_err(|source| self.refused(source))?;
            for (from, to) in common.runs(piece).zip(common.runs(wanted)) {
                out[to].copy_from_slice(&values[from]);
            }
        }
        Ok(())
    }

    fn refused(&self, source: TensorFileError) -> CheckpointError {
        CheckpointError::Tensors { folder: self.folder.clone(), source }
    }

    fn of_parts(&self, name: &str, problem: String) -> CheckpointError {
        self.refused(TensorFileError::Parts { file: file_name(&self.stem, 0, 1), tensor: name.to_owned(), problem })
    }
}

/// Checks that parts lie inside the tensor and cover it, each element once.
fn check_cover(parts: &[(&Stored, Piece)], whole: &Piece) -> Result<(), String> {
    let mut covered = 0;
    for (at, (_, piece)) in parts.iter().enumerate() {
        if piece.intersection(whole).as_ref() != Some(piece) {
            return Err(format!("part {piece} lies outside of {whole}"));
        }
        if let Some((_, other)) = parts[..at].iter().find(|(_, other)| other.intersection(piece).is_some()) {
            return Err(format!("parts {other} and {piece} overlap"));
        }
        covered += piece.length();
    }
    if covered == whole.length() { Ok(()) } else { Err(format!("its parts have {covered} of {} elements", whole.length())) }
}
