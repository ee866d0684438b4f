//! How matrices are multiplied: which of the library's algorithms does a product, chosen once and kept. Algorithms differ in the
//! last bits of their results, so a run that goes on takes the ones it began with: the table of choices can be written down.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Formatter};
use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream, DriverError};
use serde::{Deserialize, Serialize};

use super::super::device::{DeviceError, DeviceMatrix, DeviceProduct};
use super::cache::Cache;
use super::driver::Memory;
use super::known::Known;
use super::libraries::{Library, guarded};
use super::lost;
use super::lt::{self, Algorithm, Description, Handle, Operands, Workspace};
use super::version::LEVEL;
use crate::backend::Dtype;

/// Bytes of the card's memory for sums that are made in parts.
pub const WORKSPACE_BYTES: usize = 64 << 20;
/// Algorithms that are timed for a product.
const MAX_CANDIDATES: usize = 16;
/// Timed runs of each, of which the best counts: what disturbs a run only makes it longer.
const TIMED_RUNS: usize = 5;
/// How much faster than the library's own first another has to be. Below this it is noise, and a choice that the noise makes is
/// another one at every start.
const FASTER: f32 = 1.02;
/// What of an address's alignment makes a difference: the widest access is of 16 bytes.
const MAX_ALIGNMENT_BYTES: u32 = 16;

/// A matrix of a product, without its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Operand {
    pub(super) dtype: Dtype,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) is_transposed: bool,
    pub(super) alignment_bytes: u32,
}

impl Operand {
    fn of(matrix: &DeviceMatrix) -> Self {
        let alignment_bytes = 1 << matrix.address.0.trailing_zeros().min(MAX_ALIGNMENT_BYTES.trailing_zeros());
        let DeviceMatrix { dtype, rows, columns, row_stride, transposed, .. } = *matrix;
        Self { dtype, rows, columns, row_stride, is_transposed: transposed, alignment_bytes }
    }

    /// Rows and columns as the product takes them.
    fn extents(&self) -> (usize, usize) {
        if self.is_transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }
}

impl Display for Operand {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let dtype = match self.dtype {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::Remainder => "remainder",
        };
        let turned = if self.is_transposed { "t" } else { "n" };
        write!(formatter, "{dtype}/{turned}/{}/{}", self.row_stride, self.alignment_bytes)
    }
}

/// All that the choice of an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProductKey {
    pub(super) a: Operand,
    pub(super) b: Operand,
    pub(super) c: Operand,
    accumulates: bool,
}

/// `4096x11008x4096 a=bf16/n/4096/16 b=bf16/t/4096/16 c=f32/n/11008/16 +=`: rows, columns and terms, then each matrix with its
/// type, whether it is transposed, its stride and its alignment.
impl Display for ProductKey {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let ((rows, terms), (_, columns)) = (self.a.extents(), self.b.extents());
        let assigns = if self.accumulates { "+=" } else { "=" };
        write!(formatter, "{rows}x{columns}x{terms} a={} b={} c={} {assigns}", self.a, self.b, self.c)
    }
}

impl ProductKey {
    /// The key of a product that can be done.
    ///
    /// # Errors
    /// [`DeviceError::Product`] when extents, strides or types do not go together.
    pub(super) fn of(product: &DeviceProduct) -> Result<Self, DeviceError> {
        let [a, b, c] = [product.a, product.b, product.c].map(|matrix| Operand::of(&matrix));
        let key = Self { a, b, c, accumulates: product.accumulate };
        let refused = |reason: &str| Err(DeviceError::Product { shape: key.to_string(), reason: reason.to_owned() });
        let ((rows, terms), (terms_of_b, columns)) = (a.extents(), b.extents());
        if terms != terms_of_b || (c.rows, c.columns) != (rows, columns) || c.is_transposed {
            return refused("its extents do not go together; this is a fault of the program");
        }
        if [a, b, c].iter().any(|operand| operand.row_stride < operand.columns) {
            return refused("rows overlap; this is a fault of the program");
        }
        match (a.dtype, b.dtype, c.dtype) {
            (Dtype::Bf16, Dtype::Bf16, _) | (Dtype::F32, Dtype::F32, Dtype::F32) => Ok(key),
            _ => refused("types do not go together; this is a fault of the program"),
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.c.rows == 0 || self.c.columns == 0
    }

    /// Whether every sum is of no terms.
    pub(super) fn has_no_terms(&self) -> bool {
        self.a.extents().1 == 0
    }
}

/// The algorithms that were chosen, to be kept with a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductTable {
    /// The library that they belong to, such as 120804.
    pub library_version: u64,
    /// The card that they belong to, as the driver names it.
    pub device_name: String,
    /// For each product the algorithm: 64 bytes in hexadecimal digits, as they lie.
    pub entries: BTreeMap<String, String>,
}

impl ProductTable {
    /// Whether its algorithms mean the same there.
    pub(super) fn is_of(&self, library_version: u64, device_name: &str) -> bool {
        self.library_version == library_version && self.device_name == device_name
    }

    fn get(&self, product: &str) -> Option<Algorithm> {
        let digits = self.entries.get(product)?;
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if digits.len() != 128 || !is_hexadecimal {
            return None;
        }
        let mut numbers = [0; 8];
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = u64::from_str_radix(&digits[16 * index..16 * (index + 1)], 16).ok()?.swap_bytes();
        }
        Some(Algorithm(numbers))
    }

    fn put(&mut self, product: String, algorithm: Algorithm) {
        let digits = algorithm.0.map(|number| format!("{:016x}", number.swap_bytes()));
        self.entries.insert(product, digits.concat());
    }
}

/// How a product is done.
#[derive(Debug)]
struct Plan {
    description: Description,
    algorithm: Algorithm,
}

/// A product whose algorithm is still to be chosen.
#[derive(Debug)]
pub(super) struct Unplanned {
    description: Description,
    /// One or more, the most promising first.
    candidates: Vec<Algorithm>,
    origin: Origin,
}

/// Where an algorithm comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The run's own table: it is the only candidate.
    Table,
    /// An earlier choice on this machine: likewise.
    Known,
    /// The library.
    Proposed,
}

impl Unplanned {
    /// Whether they have to be timed.
    pub(super) fn has_choice(&self) -> bool {
        self.candidates.len() > 1
    }
}

/// The products of a card.
#[derive(Debug)]
pub(super) struct Products {
    handle: Handle,
    workspace: Memory,
    plans: HashMap<ProductKey, Plan>,
    /// What was taken over and what was chosen.
    table: ProductTable,
    /// What earlier runs on this machine chose.
    known: Known,
    /// Whether a table was given that says nothing here.
    is_table_strange: bool,
    chosen_again: bool,
    start: CudaEvent,
    end: CudaEvent,
}

impl Products {
    /// Takes over the choices of a table when it is of this card and this library.
    pub(super) fn new(
        stream: &Arc<CudaStream>,
        device_name: &str,
        given: Option<ProductTable>,
        cache: Option<Cache>,
    ) -> Result<Self, DeviceError> {
        Library::Products.require()?;
        let (handle, library_version) = guarded(Library::Products, || {
            let refused = |reason| DeviceError::BadLibrary { library: Library::Products.file_name().to_owned(), reason };
            let version = Handle::version();
            check_version(version)?;
            Ok((Handle::new().map_err(refused)?, version))
        })?;
        let context = stream.context();
        let free = || context.mem_get_info().map_or(0, |(free, _)| free as u64);
        let no_memory = |_| DeviceError::Workspace { needed_bytes: WORKSPACE_BYTES as u64, free_bytes: free() };
        let workspace = Memory::new(context, WORKSPACE_BYTES).map_err(no_memory)?;
        let timing = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let event = || context.new_event(timing).map_err(|error| lost("event", error));
        let own = ProductTable { library_version, device_name: device_name.to_owned(), entries: BTreeMap::new() };
        let is_table_strange = given.as_ref().is_some_and(|table| !table.is_of(library_version, device_name));
        let known = Known::of(&own, cache);
        let table = given.filter(|_| !is_table_strange).unwrap_or(own);
        let (start, end) = (event()?, event()?);
        let plans = HashMap::new();
        Ok(Self { handle, workspace, plans, table, known, is_table_strange, chosen_again: false, start, end })
    }

    /// The choices so far, with those that were taken over.
    pub(super) fn table(&self) -> &ProductTable {
        &self.table
    }

    /// Whether a product was chosen again that a given table may have had otherwise.
    pub(super) fn chosen_again(&self) -> bool {
        self.chosen_again
    }

    pub(super) fn is_planned(&self, key: &ProductKey) -> bool {
        self.plans.contains_key(key)
    }

    /// What there is to choose from: the table's algorithm, that of earlier runs on this machine, or what the library proposes.
    pub(super) fn candidates(&self, key: &ProductKey) -> Result<Unplanned, DeviceError> {
        let refused = |reason| DeviceError::Product { shape: key.to_string(), reason };
        let description = Description::new(key).map_err(refused)?;
        let product = key.to_string();
        for (origin, table) in [(Origin::Table, &self.table), (Origin::Known, self.known.table())] {
            if let Some(algorithm) = table.get(&product)
                && self.handle.takes(&description, &algorithm, WORKSPACE_BYTES)
            {
                return Ok(Unplanned { description, candidates: vec![algorithm], origin });
            }
        }
        let proposed = self.handle.candidates(&description, WORKSPACE_BYTES, MAX_CANDIDATES).map_err(refused)?;
        let is_exact = |algorithm: &Algorithm| lt::summation(algorithm).is_ok_and(lt::Summation::is_exact);
        let candidates: Vec<Algorithm> = proposed.into_iter().filter(is_exact).collect();
        if candidates.is_empty() {
            return Err(refused("the library has no algorithm whose result is the same in every run".to_owned()));
        }
        Ok(Unplanned { description, candidates, origin: Origin::Proposed })
    }

    /// Does the product with every candidate, and leaves one only. `c` is written by each: what it held is lost.
    pub(super) fn time(
        &self,
        unplanned: &mut Unplanned,
        product: &DeviceProduct,
        stream: &CudaStream,
    ) -> Result<(), DeviceError> {
        let mut milliseconds = Vec::with_capacity(unplanned.candidates.len());
        for algorithm in &unplanned.candidates {
            let run = || self.multiply(&unplanned.description, algorithm, product, stream).is_ok();
            milliseconds.push(self.best_of_runs(&run, stream).map_err(|error| lost("timing of a matrix product", error))?);
        }
        let none = || "every algorithm that the library proposes fails".to_owned();
        let shape = || ProductKey::of(product).map(|key| key.to_string()).unwrap_or_default();
        let chosen = chosen(&milliseconds).ok_or_else(|| DeviceError::Product { shape: shape(), reason: none() })?;
        unplanned.candidates = vec![unplanned.candidates[chosen]];
        Ok(())
    }

    /// The shortest of some runs in milliseconds; none when one of them fails.
    fn best_of_runs(&self, run: &dyn Fn() -> bool, stream: &CudaStream) -> Result<Option<f32>, DriverError> {
        // Its code is loaded the first time.
        if !run() {
            return Ok(None);
        }
        let mut best = f32::INFINITY;
        for _ in 0..TIMED_RUNS {
            self.start.record(stream)?;
            if !run() {
                return Ok(None);
            }
            self.end.record(stream)?;
            best = best.min(self.start.elapsed_ms(&self.end)?);
        }
        Ok(Some(best))
    }

    /// Keeps the choice: the first candidate that is left; for later runs as well when it is one of a timing.
    pub(super) fn keep(&mut self, key: ProductKey, unplanned: Unplanned, was_timed: bool) {
        let Unplanned { description, candidates, origin } = unplanned;
        let Some(algorithm) = candidates.first().copied() else { return };
        let product = key.to_string();
        if origin != Origin::Table {
            self.chosen_again |= self.is_table_strange || self.table.entries.contains_key(&product);
            self.table.put(product.clone(), algorithm);
        }
        if was_timed {
            // Compiled kernels lie in the same folder: that it cannot be written is told for them.
            let _ = self.known.add(&self.table, &product);
        }
        self.plans.insert(key, Plan { description, algorithm });
    }

    /// Does a product that is planned.
    pub(super) fn run(&self, key: &ProductKey, product: &DeviceProduct, stream: &CudaStream) -> Result<(), DeviceError> {
        let unplanned = || DeviceError::Product {
            shape: key.to_string(),
            reason: "it is asked for in a recorded pass and was not in the first one; this is a fault of the program".to_owned(),
        };
        let plan = self.plans.get(key).ok_or_else(unplanned)?;
        let multiplied = self.multiply(&plan.description, &plan.algorithm, product, stream);
        multiplied.map_err(|reason| DeviceError::Lost { operation: "matrix product", reason })
    }

    fn multiply(
        &self,
        description: &Description,
        algorithm: &Algorithm,
        product: &DeviceProduct,
        stream: &CudaStream,
    ) -> Result<(), String> {
        let operands = Operands {
            a: product.a.address,
            b: product.b.address,
            c: product.c.address,
            alpha: product.alpha,
            beta: if product.accumulate { 1.0 } else { 0.0 },
        };
        let workspace = Workspace { address: self.workspace.address(), bytes: WORKSPACE_BYTES };
        self.handle.multiply(description, algorithm, operands, workspace, stream.cu_stream())
    }
}

/// Which of the candidates, in the library's order with their milliseconds, is taken: the first that works, unless another is
/// clearly faster.
fn chosen(milliseconds: &[Option<f32>]) -> Option<usize> {
    let works = |(index, time): (usize, &Option<f32>)| time.map(|time| (index, time));
    let (first, of_first) = milliseconds.iter().enumerate().find_map(works)?;
    // Of equal times the library's order decides.
    let fastest = milliseconds.iter().enumerate().filter_map(works).min_by(|(_, a), (_, b)| a.total_cmp(b));
    Some(fastest.filter(|(_, time)| *time * FASTER < of_first).map_or(first, |(index, _)| index))
}

/// Refuses a library that is not of the CUDA that this program is built for: its numbers are those of other tables.
fn check_version(library_version: u64) -> Result<(), DeviceError> {
    // 120804 is 12.8.4.
    let (major, minor) = (library_version / 10_000, library_version / 100 % 100);
    if major == u64::from(LEVEL.major) {
        return Ok(());
    }
    let reason = format!("it is of CUDA {major}.{minor}, expected {}", LEVEL.major);
    Err(DeviceError::BadLibrary { library: Library::Products.file_name().to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Address;

    fn matrix(dtype: Dtype, rows: usize, columns: usize) -> DeviceMatrix {
        DeviceMatrix { address: Address(256), dtype, rows, columns, row_stride: columns, transposed: false }
    }

    /// `c (4, 6) = a (4, 8) bᵀ (6, 8)`
    fn product() -> DeviceProduct {
        DeviceProduct {
            alpha: 1.0,
            a: matrix(Dtype::Bf16, 4, 8),
            b: DeviceMatrix { transposed: true, ..matrix(Dtype::Bf16, 6, 8) },
            c: matrix(Dtype::F32, 4, 6),
            accumulate: true,
        }
    }

    #[test]
    fn keys_tell_apart_what_changes_an_algorithm() {
        let one = ProductKey::of(&product()).unwrap();
        assert_eq!(one.to_string(), "4x6x8 a=bf16/n/8/16 b=bf16/t/8/16 c=f32/n/6/16 +=");
        let same = DeviceProduct { alpha: 0.5, ..product() };
        assert_eq!(ProductKey::of(&same).unwrap(), one, "a factor changes nothing");
        let mut elsewhere = product();
        elsewhere.a.address = Address(4096);
        assert_eq!(ProductKey::of(&elsewhere).unwrap(), one, "nor does a place that is aligned as well");
        let mut others = [product(); 5];
        others[0].accumulate = false;
        others[1].a.row_stride = 16;
        others[2].b.address = Address(264);
        others[3].c.dtype = Dtype::Bf16;
        (others[4].a.rows, others[4].c.rows) = (5, 5);
        let mut texts: Vec<String> = others.iter().map(|other| ProductKey::of(other).unwrap().to_string()).collect();
        texts.push(one.to_string());
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 6, "{texts:?}");
        assert!(texts.contains(&"4x6x8 a=bf16/n/8/16 b=bf16/t/8/8 c=f32/n/6/16 +=".to_owned()));
    }

    #[test]
    fn products_that_make_no_sense_are_refused() {
        let check = |change: fn(&mut DeviceProduct), expected: &str| {
            let mut product = product();
            change(&mut product);
            let error = ProductKey::of(&product).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|product| product.b.columns = 7, "extents");
        check(|product| product.c.rows = 5, "extents");
        check(|product| product.c.transposed = true, "extents");
        check(|product| product.a.row_stride = 7, "rows overlap");
        check(|product| product.a.dtype = Dtype::F32, "types");
        check(|product| (product.a.dtype, product.b.dtype, product.c.dtype) = (Dtype::F32, Dtype::F32, Dtype::Bf16), "types");
        let mut wide = product();
        (wide.a.dtype, wide.b.dtype) = (Dtype::F32, Dtype::F32);
        assert!(ProductKey::of(&wide).is_ok());
    }

    #[test]
    fn the_librarys_first_is_kept_unless_another_is_clearly_faster() {
        let check = |times: &[Option<f32>], expected: Option<usize>| assert_eq!(chosen(times), expected, "{times:?}");
        check(&[], None);
        check(&[None, None], None);
        check(&[Some(1.0)], Some(0));
        check(&[Some(1.0), Some(0.99), Some(0.985)], Some(0));
        check(&[Some(1.0), Some(0.99), Some(0.97)], Some(2));
        check(&[Some(1.0), Some(0.5), Some(0.499)], Some(2));
        check(&[Some(1.0), Some(0.5), Some(0.5)], Some(1));
        check(&[None, Some(1.0), Some(0.99)], Some(1));
        check(&[None, Some(1.0), None, Some(0.9)], Some(3));
        check(&[Some(f32::INFINITY), Some(1.0)], Some(1));
        check(&[Some(0.0), Some(0.0)], Some(0));
    }

    #[test]
    fn a_library_of_another_cuda_is_refused() {
        let of = |major: u32| u64::from(major) * 10_000 + 804;
        assert_eq!(check_version(of(LEVEL.major)), Ok(()));
        for major in [LEVEL.major - 1, LEVEL.major + 1] {
            let message = check_version(of(major)).unwrap_err().to_string();
            let parts = [Library::Products.file_name(), &format!("CUDA {major}.8, expected {}", LEVEL.major), "--cuda-libs"];
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn tables_are_written_and_read() {
        let mut table = ProductTable { library_version: 120_804, device_name: "a card".to_owned(), entries: BTreeMap::new() };
        let algorithm = Algorithm([1, 2, 3, u64::MAX, 0x0123_4567_89ab_cdef, 0, 7, 8]);
        let key = ProductKey::of(&product()).unwrap().to_string();
        table.put(key.clone(), algorithm);
        assert!(table.entries[&key].starts_with("01000000000000000200"), "as the bytes lie: {}", table.entries[&key]);
        let text = serde_json::to_string(&table).unwrap();
        let read: ProductTable = serde_json::from_str(&text).unwrap();
        assert_eq!(read, table);
        assert_eq!(read.get(&key), Some(algorithm));
        assert_eq!(read.get("another"), None);
        assert!(read.is_of(120_804, "a card"));
        assert!(!read.is_of(130_000, "a card") && !read.is_of(120_804, "another card"));
    }

    #[test]
    fn entries_that_are_no_algorithm_are_passed_over() {
        let check = |digits: &str| {
            let entries = BTreeMap::from([("product".to_owned(), digits.to_owned())]);
            let table = ProductTable { entries, ..ProductTable::default() };
            assert_eq!(table.get("product"), None, "{digits}");
        };
        check("");
        check("01");
        check(&"g".repeat(128));
        check(&"0".repeat(129));
        check(&"é".repeat(64));
        check(&format!("+{}", "0".repeat(127)));
    }
}
