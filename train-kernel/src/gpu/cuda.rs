//! An NVIDIA card as a [`Device`]: opens it, makes kernels ready, and asks the driver for one operation after the other.
//!
//! [`Card`] is what the rest of the crate uses. Each file of `cuda/` has one part: what the libraries are and whether they open
//! (`libraries`), versions and targets (`version`), compilation (`compile`, `ptxas_log`, `cubin`), where compiled code is kept
//! (`cache`, `embedded`, `images`), matrix products (`products`), copies (`staging`, `returns`), and what kernels may take of a
//! card (`budget`). Only `driver`, `lt`, `compile` and `libraries` call into shared libraries. Nothing here knows of models, and
//! building it needs neither CUDA nor a card.

#[cfg(all(feature = "cuda-12080", feature = "cuda-13000"))]
compile_error!("features cuda-12080 and cuda-13000 are both on, one is expected; add --no-default-features");
#[cfg(not(any(feature = "cuda-12080", feature = "cuda-13000")))]
compile_error!("neither feature cuda-12080 nor cuda-13000 is on, one is expected");

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::{CudaStream, DriverError};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use serde_json::Value;

use super::backend::SumOrder;
use super::device::{Address, Device, DeviceError, DeviceProduct, Launch, Properties};
use super::kernels::{Kernel, Module};
use super::recording::{self, Begin, Passes};
use crate::backend::{Backend, Machine};
use crate::gpu::Gpu;
use crate::shape::Shape;

pub mod budget;
mod cache;
pub mod compile;
pub mod cubin;
mod driver;
mod embedded;
mod images;
mod known;
mod libraries;
mod lt;
mod products;
mod ptxas_log;
mod returns;
mod staging;
mod version;

pub use cache::Cache;
pub use libraries::{Library, open_from};
pub use products::{ProductTable, WORKSPACE_BYTES};
pub use version::{LEVEL, Target, Version};

use compile::CompileOptions;
use driver::{Code, Extents, Function, Memory, Recording};
use images::{Image, Images};
use libraries::guarded;
use products::{ProductKey, Products};
use returns::Returns;
use staging::Staging;

/// What kernels need at least.
const OLDEST_CAPABILITY: &str = "8.0";
/// Bytes of the card's memory that stay free beside the arena. The driver takes memory later, where nothing can be refused any
/// more: for recorded passes (some kilobytes an operation, up to 64 passes), for the code of cuBLASLt, which it loads at the first
/// use of each algorithm, and for the stacks and lists of its own. None of it is known beforehand; estimated, not measured.
pub const RESERVE_BYTES: u64 = 768 << 20;
/// Bytes that the driver's context and the code of the kernels take before an arena is measured; estimated, not measured.
const CONTEXT_BYTES: u64 = 700 << 20;
/// Shared memory that a block has without being asked for, in bytes.
const PLAIN_SHARED_BYTES: u32 = 48 * 1024;

/// How a card is used.
#[derive(Clone, Debug)]
pub struct CardOptions {
    /// Where compiled kernels are kept, and the algorithms of matrix products that were timed; without one they are compiled and
    /// timed at every start.
    pub cache: Option<Cache>,
    /// How they are compiled.
    pub compile: CompileOptions,
    /// The algorithms of matrix products that an earlier part of the run chose.
    pub products: Option<ProductTable>,
    /// Whether the algorithms of a product that is not among these are timed, at its first call. Without it the library's first
    /// proposal is taken: for products of many extents, each of which is done a few times.
    pub times_products: bool,
    /// Waits after every operation and records no pass, so that an error names the operation that made it. Slow.
    pub waits: bool,
}

impl Default for CardOptions {
    /// The user's cache, algorithms timed and chosen anew, no waiting.
    fn default() -> Self {
        let compile = CompileOptions::default();
        Self { cache: Cache::of_user(), compile, products: None, times_products: true, waits: false }
    }
}

/// The cards that the driver shows, in its order.
///
/// # Errors
/// [`DeviceError::NoDriver`], [`DeviceError::OldDriver`], [`DeviceError::NoCard`], or what the driver says.
pub fn cards() -> Result<Vec<Properties>, DeviceError> {
    Library::Driver.require()?;
    guarded(Library::Driver, || {
        let (count, _) = probe()?;
        (0..count).map(|index| driver::properties(index).map_err(refused)).collect()
    })
}

/// What tells one loaded kernel from another: all but the text of its source, which goes with the source's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct KernelKey {
    name: &'static str,
    source: &'static str,
    threads: u32,
    blocks_per_multiprocessor: u32,
    constants: &'static [(&'static str, u32)],
}

impl KernelKey {
    fn of(kernel: &Kernel) -> Self {
        let Module { source, threads, blocks_per_multiprocessor, constants, .. } = kernel.module;
        Self { name: kernel.name, source: source.name, threads, blocks_per_multiprocessor, constants }
    }
}

/// A card of this machine. One thread at a time uses it; several cards are several values.
#[derive(Debug)]
pub struct Card {
    properties: Properties,
    images: Images,
    /// The first thing that failed; nothing is asked of the card after it.
    failed: Option<DeviceError>,
    warnings: Vec<String>,
    told_chosen_again: bool,
    waits: bool,
    times_products: bool,
    passes: Passes<Recording>,
    functions: BTreeMap<KernelKey, Function>,
    codes: Vec<Code>,
    products: Products,
    staging: Staging,
    returns: Returns,
    arena: Option<Memory>,
    stream: Arc<CudaStream>,
}

impl Card {
    /// Opens a card: the `index`-th of those that the driver shows.
    ///
    /// # Errors
    /// Whatever is missing, each with its remedy: no driver, an old one, no card or not this one, a card that is too old, a
    /// library that does not open, memory that others hold.
    pub fn open(index: usize, options: CardOptions) -> Result<Self, DeviceError> {
        Library::Driver.require()?;
        guarded(Library::Driver, || Self::open_probed(index, options))
    }

    fn open_probed(index: usize, options: CardOptions) -> Result<Self, DeviceError> {
        let (count, driver) = probe()?;
        if index >= count {
            return Err(DeviceError::NoSuchCard { index, count });
        }
        let properties = driver::properties(index).map_err(refused)?;
        let target = target_of(&properties)?;
        Library::Products.require()?;
        let stream = driver::open(index).map_err(refused)?;
        let products = Products::new(&stream, &properties.name, options.products, options.cache.clone())?;
        let staging = Staging::new(&stream).map_err(refused)?;
        let warnings = Vec::from_iter((target == Target::Ptx80).then(|| unforeseen(&properties)));
        Ok(Self {
            images: Images::new(target, driver, options.cache, options.compile),
            properties,
            failed: None,
            warnings,
            told_chosen_again: false,
            waits: options.waits,
            times_products: options.times_products,
            passes: Passes::new(if options.waits { 0 } else { recording::MAX_RECORDINGS }),
            functions: BTreeMap::new(),
            codes: Vec::new(),
            products,
            staging,
            returns: Returns::default(),
            arena: None,
            stream,
        })
    }

    /// What its kernels are compiled for.
    pub fn target(&self) -> Target {
        self.images.target
    }

    /// The CUDA that its driver knows.
    pub fn driver_version(&self) -> Version {
        self.images.driver
    }

    /// The algorithms of its matrix products, to be kept with the run: those that were given and those chosen since.
    pub fn products(&self) -> &ProductTable {
        self.products.table()
    }

    /// Whether algorithms were given that are of no use here, so that others were chosen: from then on results differ in their
    /// last bits from those of the card or the library before.
    pub fn chosen_again(&self) -> bool {
        self.products.chosen_again()
    }

    /// Does something with the card, unless something failed before.
    fn attempt(&mut self, operation: &'static str, work: impl FnOnce(&mut Self) -> Result<(), DeviceError>) {
        if self.failed.is_some() {
            return;
        }
        let mut done = guarded(Library::Driver, || work(self));
        if self.waits {
            done = done.and_then(|()| self.stream.synchronize().map_err(|error| lost(operation, error)));
        }
        self.failed = done.err();
    }

    /// The same with the driver alone.
    fn drive(&mut self, operation: &'static str, work: impl FnOnce(&mut Self) -> Result<(), DriverError>) {
        self.attempt(operation, |card| work(card).map_err(|error| lost(operation, error)));
    }

    fn unfit(&self, module: &Module, reason: String) -> DeviceError {
        DeviceError::Kernel { kernel: module.title(), target: self.target().as_str().to_owned(), reason }
    }

    /// Tells once that compiled kernels are not kept.
    fn note(&mut self, image: &Image) {
        let Some(reason) = &image.not_kept else { return };
        let warning = format!("GPU: compiled kernels are not kept, every start compiles them: {reason}");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Code in the card: what is stored, compiled anew when the driver does not take that.
    fn load(&mut self, module: &Module, image: &Image) -> Result<Code, DeviceError> {
        self.note(image);
        let context = Arc::clone(self.stream.context());
        let refused = match Code::load(&context, &image.code) {
            Err(error) => self.unfit(module, driver::words(error)),
            Ok(code) => return Ok(code),
        };
        if image.is_new {
            return Err(refused);
        }
        // Without a compiler it is the driver's refusal that has to be told.
        let newer = self.images.compile(module).map_err(|_| refused)?;
        self.note(&newer);
        Code::load(&context, &newer.code).map_err(|error| self.unfit(module, driver::words(error)))
    }

    fn make_ready(&mut self, code: &Code, kernel: &Kernel) -> Result<(), DeviceError> {
        let context = self.stream.context();
        let of_driver = |error| self.unfit(&kernel.module, format!("{}: {}", kernel.name, driver::words(error)));
        let function = code.function(kernel.name).map_err(of_driver)?;
        let shared_bytes = kernel.shared_bytes + function.fixed_shared_bytes(context).map_err(of_driver)?;
        let most = self.properties.shared_bytes;
        if shared_bytes > most {
            let reason = format!("{}: takes {shared_bytes} bytes of shared memory, a block of this card has {most}", kernel.name);
            return Err(self.unfit(&kernel.module, reason));
        }
        if shared_bytes > PLAIN_SHARED_BYTES {
            function.allow_shared_bytes(context, kernel.shared_bytes).map_err(of_driver)?;
        }
        self.functions.insert(KernelKey::of(kernel), function);
        Ok(())
    }

    /// Chooses how a product is done.
    fn plan(&mut self, key: ProductKey, product: &DeviceProduct) -> Result<(), DeviceError> {
        let mut unplanned = self.products.candidates(&key)?;
        let is_timed = unplanned.has_choice() && self.times_products;
        if is_timed {
            // Timing writes the result, again and again. Where the product is to be added to what is there, that is kept on the
            // host meanwhile: the arena may have all of the card's memory.
            let of_copy = |error| lost("timing of a matrix product", error);
            let mut held = vec![0; if product.accumulate { product.c.span_bytes() } else { 0 }];
            self.staging.download(product.c.address, &mut held, &self.stream).map_err(of_copy)?;
            let timed = self.products.time(&mut unplanned, product, &self.stream);
            self.staging.upload(product.c.address, &held, &self.stream).map_err(of_copy)?;
            timed?;
        }
        self.products.keep(key, unplanned, is_timed);
        Ok(())
    }

    fn multiply_any(&mut self, product: &DeviceProduct) -> Result<(), DeviceError> {
        let key = ProductKey::of(product)?;
        if key.is_empty() {
            return Ok(());
        }
        let of_driver = |error| lost("matrix product", error);
        if key.has_no_terms() {
            return if product.accumulate { Ok(()) } else { self.clear_rows(product).map_err(of_driver) };
        }
        self.stream.context().bind_to_thread().map_err(of_driver)?;
        if !self.products.is_planned(&key) && !self.passes.is_recording() {
            guarded(Library::Products, || self.plan(key, product))?;
        }
        guarded(Library::Products, || self.products.run(&key, product, &self.stream))
    }

    fn replay(&mut self, key: u64) {
        self.drive("a recorded pass", |card| card.passes.recording(key).map_or(Ok(()), Recording::replay));
    }

    /// Zeros for a result without terms.
    fn clear_rows(&mut self, product: &DeviceProduct) -> Result<(), DriverError> {
        let element_bytes = product.c.dtype.device_bytes();
        for row in 0..product.c.rows {
            let first = product.c.address.plus(row * product.c.row_stride * element_bytes);
            driver::clear(first, product.c.columns * element_bytes, &self.stream)?;
        }
        Ok(())
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // What the card still reads and writes is freed next. If it answers no more, there is nobody left to tell.
        let _ = self.stream.synchronize();
    }
}

/// The first card that the driver shows, as the machine of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstCard {
    /// The order of its sums.
    pub order: SumOrder,
}

impl Machine for FirstCard {
    fn backend(&self, shape: &Shape, choices: Option<&Value>) -> Result<Box<dyn Backend<f32>>, DeviceError> {
        let card = Card::open(0, CardOptions { products: given_products(choices), ..CardOptions::default() })?;
        Ok(Box::new(Gpu::new(card, shape)?.with_order(self.order)))
    }
}

/// The choices that a run goes on with. Those that cannot be read are another program's: they are a table of no card, so that they
/// are made again, and that is told.
fn given_products(choices: Option<&Value>) -> Option<ProductTable> {
    choices.map(|choices| serde_json::from_value(choices.clone()).unwrap_or_default())
}

impl Device for Card {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn choices(&self) -> Option<Value> {
        Some(serde_json::to_value(self.products()).expect("names and digits are JSON"))
    }

    fn take_warnings(&mut self) -> Vec<String> {
        if self.chosen_again() && !self.told_chosen_again {
            self.told_chosen_again = true;
            let line = "GPU: another card or library than the run began with: algorithms of matrix products are chosen again, and \
                        results are no longer those of an uninterrupted run, bit for bit";
            self.warnings.push(line.to_owned());
        }
        self.warnings.drain(..).collect()
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, u64> {
        debug_assert!(self.arena.is_none(), "there is one allocation");
        let context = self.stream.context();
        // A driver that does not answer here refuses the allocation, too.
        let available = || beside_reserve(context.mem_get_info().map_or(0, |(free, _)| free as u64));
        let before = available();
        if bytes as u64 > before {
            return Err(before);
        }
        // Others took it meanwhile: what is told is less than what was asked for, whatever the driver says now.
        let taken = |_| available().min((bytes as u64).saturating_sub(1));
        let arena = Memory::new(context, bytes.max(1)).map_err(taken)?;
        let address = arena.address();
        self.arena = Some(arena);
        // Nobody counts on zeros; but where somebody does by mistake, every run goes the same way.
        self.clear(address, bytes);
        Ok(address)
    }

    fn prepare(&mut self, kernels: &[Kernel]) -> Result<(), DeviceError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let mut missing: BTreeMap<Module, Vec<Kernel>> = BTreeMap::new();
        for kernel in kernels.iter().filter(|kernel| !self.functions.contains_key(&KernelKey::of(kernel))) {
            missing.entry(kernel.module).or_default().push(*kernel);
        }
        let modules: Vec<Module> = missing.keys().copied().collect();
        let sources = &self.images;
        let images: Vec<Image> = modules.par_iter().map(|module| sources.get(module)).collect::<Result<_, _>>()?;
        guarded(Library::Driver, || {
            for ((module, kernels), image) in missing.into_iter().zip(&images) {
                let code = self.load(&module, image)?;
                for kernel in &kernels {
                    self.make_ready(&code, kernel)?;
                }
                self.codes.push(code);
            }
            Ok(())
        })
    }

    fn launch(&mut self, launch: &Launch<'_>) {
        let Launch { kernel, grid, arguments, .. } = *launch;
        debug_assert!(grid.iter().all(|blocks| *blocks > 0), "{}: a grid of {grid:?}", kernel.name);
        debug_assert!(arguments.len() <= driver::MAX_PARAMETER_BYTES, "{}: {} bytes", kernel.name, arguments.len());
        let extents = Extents { grid, threads: kernel.module.threads, shared_bytes: kernel.shared_bytes };
        let function = self.functions.get(&KernelKey::of(&kernel)).copied();
        self.attempt(kernel.name, |card| {
            let unready = || format!("{} was not made ready; this is a fault of the program", kernel.name);
            let function = function.ok_or_else(|| card.unfit(&kernel.module, unready()))?;
            function.launch(extents, arguments, &card.stream).map_err(|error| lost(kernel.name, error))
        });
    }

    fn multiply(&mut self, product: &DeviceProduct) {
        self.attempt("matrix product", |card| card.multiply_any(product));
    }

    fn clear(&mut self, address: Address, bytes: usize) {
        if bytes > 0 {
            self.drive("clearing", |card| driver::clear(address, bytes, &card.stream));
        }
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) {
        if bytes > 0 {
            self.drive("a copy", |card| driver::copy(from, to, bytes, &card.stream));
        }
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) {
        debug_assert!(!self.passes.is_open(), "nothing is uploaded in a pass");
        self.drive("a copy to the card", |card| card.staging.upload(to, bytes, &card.stream));
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        debug_assert!(!self.passes.is_open(), "nothing is downloaded in a pass");
        self.drive("a copy from the card", |card| card.staging.download(from, bytes, &card.stream));
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fetch(&mut self, from: Address, bytes: usize) -> u64 {
        debug_assert!(!self.passes.is_open(), "nothing is sent for in a pass");
        let ticket = self.returns.ticket();
        self.drive("a copy from the card", |card| {
            if card.returns.send(ticket, from, bytes, &card.stream)? {
                return Ok(());
            }
            let mut fetched = vec![0; bytes];
            card.staging.download(from, &mut fetched, &card.stream)?;
            card.returns.keep(ticket, fetched);
            Ok(())
        });
        ticket
    }

    fn collect(&mut self, ticket: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.drive("a copy from the card", |card| card.returns.collect(ticket, bytes));
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn begin_pass(&mut self, key: u64) -> bool {
        if self.failed.is_some() {
            return false;
        }
        match self.passes.begin(key) {
            Begin::Do => true,
            Begin::Record => {
                self.drive("recording", |card| Recording::begin(&card.stream));
                true
            }
            Begin::Replay => {
                self.replay(key);
                false
            }
        }
    }

    fn end_pass(&mut self) {
        let Some(key) = self.passes.end() else { return };
        // A recording that began has to end, whatever failed in it.
        let recorded = guarded(Library::Driver, || Recording::end(&self.stream).map_err(|error| lost("recording", error)));
        self.attempt("recording", |card| {
            if let Some(recording) = recorded? {
                card.passes.keep(key, recording);
            }
            Ok(())
        });
        self.replay(key);
    }
}

/// What of so many free bytes an arena may take.
fn beside_reserve(free_bytes: u64) -> u64 {
    free_bytes.saturating_sub(RESERVE_BYTES)
}

/// The most bytes that an arena can have on a card that nobody else uses.
pub fn most_arena_bytes(card: &Properties) -> u64 {
    beside_reserve(card.memory_bytes).saturating_sub(WORKSPACE_BYTES as u64 + CONTEXT_BYTES)
}

/// How many cards there are, and the CUDA that the driver knows.
fn probe() -> Result<(usize, Version), DeviceError> {
    let driver = driver::version().map_err(refused)?;
    let needed = Version::OLDEST_DRIVER;
    if driver < needed {
        return Err(DeviceError::OldDriver { found: driver.to_string(), needed: needed.to_string() });
    }
    match driver::card_count() {
        Ok(0) => Err(DeviceError::NoCard),
        Err(error) if driver::means_no_card(error) => Err(DeviceError::NoCard),
        counted => Ok((counted.map_err(refused)?, driver)),
    }
}

fn target_of(properties: &Properties) -> Result<Target, DeviceError> {
    let (major, minor) = properties.capability;
    Target::of(properties.capability).ok_or_else(|| DeviceError::Architecture {
        name: properties.name.clone(),
        found: format!("{major}.{minor}"),
        needed: OLDEST_CAPABILITY.to_owned(),
    })
}

fn unforeseen(properties: &Properties) -> String {
    let (major, minor) = properties.capability;
    format!(
        "GPU: {}: compute capability {major}.{minor} is none that kernels are made for (8.0 to 8.9, 9.0): the driver translates \
         them, and a run that goes on under another driver may differ in its last bits",
        properties.name
    )
}

fn refused(error: DriverError) -> DeviceError {
    DeviceError::Driver { reason: driver::words(error) }
}

fn lost(operation: &'static str, error: DriverError) -> DeviceError {
    if driver::means_no_memory(error) {
        return DeviceError::Full { operation };
    }
    DeviceError::Lost { operation, reason: driver::words(error) }
}

#[cfg(test)]
mod tests;
