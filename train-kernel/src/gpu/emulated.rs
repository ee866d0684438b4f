//! A card on the processor, for tests: runs the kernels' own sources, compiled by the system's C++ compiler with
//! `emulation/emulate.h` in front, with the grids, arguments and shared memory of the real launches.
//!
//! What a kernel may not do is a panic that names kernel, block and thread: see `emulation/emulate.h` for what is found. Matrix
//! products are those of the processor. Nothing here is fast, and nothing here belongs in a run.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use libloading::Library;

use super::device::{Access, Address, Device, DeviceError, DeviceMatrix, DeviceProduct, Launch, Properties, Region};
use super::kernels::{HEADERS, Kernel, Module};
use crate::backend::Dtype;
use crate::ops::gemm::{self, Terms};
use crate::ops::rounding::Rounding;

const EMULATE: &str = include_str!("../../emulation/emulate.h");
const PTX: &str = include_str!("../../emulation/ptx.cuh");
/// How kernels are compiled. Without the last but one, casts between packs and elements are wrong silently.
const FLAGS: [&str; 9] = [
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-Wno-unknown-pragmas",
    "-w",
];
/// Bytes of a fault's text.
const MESSAGE_BYTES: usize = 1024;
/// Blocks that are to run at once, for grids that are made for the card.
const MULTIPROCESSORS: u32 = 3;
/// Where the arena begins: at a multiple of what a card's allocation begins at.
const ALIGNMENT: usize = 1024;

/// What launches did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Products of fragments on tensor cores.
    pub matrix_products: u64,
    /// Extra passes of `ldmatrix` because rows share banks.
    pub bank_conflicts: u64,
    /// Kernels called.
    pub launches: u64,
}

/// The twin of `emulate.h`, Region.
#[repr(C)]
struct RawRegion {
    address: u64,
    bytes: u64,
    access: u32,
    unused: u32,
}

/// The twin of `emulate.h`, Request.
#[repr(C)]
struct Request {
    kernel: *mut c_void,
    arguments: *const u8,
    regions: *const RawRegion,
    region_count: u64,
    shadow_base: u64,
    shadow_bytes: u64,
    written: *mut u8,
    writer: *mut u64,
    reader: *mut u64,
    grid: [u32; 3],
    threads: u32,
    shared_bytes: u32,
    launch: u32,
    seed: u64,
    message: *mut c_char,
    message_bytes: u64,
    matrix_products: u64,
    bank_conflicts: u64,
}

/// The card.
#[derive(Debug)]
pub struct Emulated {
    properties: Properties,
    /// The arena, of 8-byte words.
    memory: Vec<u64>,
    /// Words of `memory` before the arena begins.
    skipped: usize,
    bytes: usize,
    /// For every two bytes: whether anything was written there, and who wrote and read last.
    written: Vec<u8>,
    writer: Vec<u64>,
    reader: Vec<u64>,
    launches: u32,
    seed: u64,
    statistics: Arc<Mutex<Statistics>>,
    fetched: BTreeMap<u64, Vec<u8>>,
    next_ticket: u64,
}

/// Whether there is a C++ compiler: without one nothing can be emulated, and tests say "not run".
pub fn is_available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| Command::new(compiler()).arg("--version").output().is_ok_and(|output| output.status.success()))
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

impl Emulated {
    /// A card whose blocks and threads run in an order that the seed decides; in the order of their numbers for 0.
    pub fn new(seed: u64) -> Self {
        let properties = Properties {
            name: "emulated".to_owned(),
            capability: (8, 0),
            multiprocessors: MULTIPROCESSORS,
            memory_bytes: 1 << 32,
            shared_bytes: 166_912,
        };
        Self {
            properties,
            memory: Vec::new(),
            skipped: 0,
            bytes: 0,
            written: Vec::new(),
            writer: Vec::new(),
            reader: Vec::new(),
            launches: 0,
            seed,
            statistics: Arc::default(),
            fetched: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    /// What launches did so far; shared with the card, so that it can be read after the card is given away.
    pub fn statistics(&self) -> Arc<Mutex<Statistics>> {
        Arc::clone(&self.statistics)
    }

    fn base(&self) -> u64 {
        self.memory[self.skipped..].as_ptr() as u64
    }

    fn offset(&self, address: Address, bytes: usize) -> usize {
        let offset = (address.0.wrapping_sub(self.base())) as usize;
        assert!(
            offset <= self.bytes && offset + bytes <= self.bytes,
            "emulation: {bytes} bytes at {offset} are outside the arena"
        );
        offset
    }

    fn bytes_at(&mut self, address: Address, bytes: usize) -> &mut [u8] {
        let offset = self.offset(address, bytes);
        let arena: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory[self.skipped..]);
        &mut arena[offset..offset + bytes]
    }

    fn mark_written(&mut self, address: Address, bytes: usize) {
        let offset = self.offset(address, bytes);
        self.written[offset / 2..(offset + bytes).div_ceil(2)].fill(1);
    }

    fn check_written(&self, what: &str, address: Address, bytes: usize) {
        let offset = self.offset(address, bytes);
        let unwritten = self.written[offset / 2..(offset + bytes).div_ceil(2)].iter().position(|&written| written == 0);
        if let Some(at) = unwritten {
            panic!("emulation: {what}: byte {} of {bytes} at {offset}: nobody has written it", 2 * at);
        }
    }

    /// The elements of a matrix's span, in f32.
    fn read(&mut self, matrix: &DeviceMatrix) -> Vec<f32> {
        for row in 0..matrix.rows {
            let first = matrix.address.plus(row * matrix.row_stride * matrix.dtype.device_bytes());
            self.check_written("operand of a product", first, matrix.columns * matrix.dtype.device_bytes());
        }
        let bytes = self.bytes_at(matrix.address, matrix.span_bytes());
        match matrix.dtype {
            Dtype::F32 => bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect(),
            Dtype::Bf16 => bytes.chunks_exact(2).map(|half| widened(u16::from_le_bytes([half[0], half[1]]))).collect(),
            Dtype::Remainder => unreachable!("remainders are no operands of products"),
        }
    }
}

fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn narrowed(value: f32) -> u16 {
    half::bf16::from_f32(value).to_bits()
}

impl Device for Emulated {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, u64> {
        if bytes as u64 > self.properties.memory_bytes {
            return Err(self.properties.memory_bytes);
        }
        let bytes = bytes.next_multiple_of(16);
        self.memory = vec![0; (bytes + ALIGNMENT) / 8];
        let past = self.memory.as_ptr() as usize % ALIGNMENT;
        self.skipped = (ALIGNMENT - past) % ALIGNMENT / 8;
        self.bytes = bytes;
        self.written = vec![0; bytes / 2];
        self.writer = vec![0; bytes / 2];
        self.reader = vec![0; bytes / 2];
        Ok(Address(self.base()))
    }

    fn prepare(&mut self, kernels: &[Kernel]) -> Result<(), DeviceError> {
        for kernel in kernels {
            library(kernel.module);
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch<'_>) {
        let regions: Vec<RawRegion> = launch.regions.iter().map(raw).collect();
        for region in launch.regions {
            self.offset(region.address, region.bytes);
        }
        self.launches += 1;
        let mut message = [0_u8; MESSAGE_BYTES];
        let mut request = Request {
            kernel: std::ptr::null_mut(),
            arguments: launch.arguments.as_ptr(),
            regions: regions.as_ptr(),
            region_count: regions.len() as u64,
            shadow_base: self.base(),
            shadow_bytes: self.bytes as u64,
            written: self.written.as_mut_ptr(),
            writer: self.writer.as_mut_ptr(),
            reader: self.reader.as_mut_ptr(),
            grid: launch.grid,
            threads: launch.kernel.module.threads,
            shared_bytes: launch.kernel.shared_bytes,
            launch: self.launches,
            seed: self.seed,
            message: message.as_mut_ptr().cast(),
            message_bytes: MESSAGE_BYTES as u64,
            matrix_products: 0,
            bank_conflicts: 0,
        };
        run(launch, &mut request);
        let text = CStr::from_bytes_until_nul(&message).map(CStr::to_string_lossy).unwrap_or_default();
        assert!(text.is_empty(), "emulation: kernel {} of {}: {text}", launch.kernel.name, launch.kernel.module.title());
        let conflicts = request.bank_conflicts;
        assert!(conflicts == 0, "emulation: kernel {}: rows of matrices share banks, {conflicts} times", launch.kernel.name);
        let mut statistics = self.statistics.lock().expect("nobody panics while counting");
        statistics.launches += 1;
        statistics.matrix_products += request.matrix_products;
        statistics.bank_conflicts += request.bank_conflicts;
    }

    fn multiply(&mut self, product: &DeviceProduct) {
        let [a, b] = [product.a, product.b].map(|matrix| self.read(&matrix));
        let c = product.c;
        let mut out = if product.accumulate { self.read(&c) } else { vec![0.0; c.span_bytes() / c.dtype.device_bytes()] };
        let view = |matrix: DeviceMatrix, data| {
            let view = gemm::matrix(data, matrix.rows, matrix.columns, matrix.row_stride);
            if matrix.transposed { view.transpose() } else { view }
        };
        let terms = Terms { alpha: product.alpha, accumulate: product.accumulate, rounding: Rounding::of(c.dtype) };
        gemm::multiply(
            terms,
            view(product.a, &a),
            view(product.b, &b),
            gemm::matrix_mut(&mut out, c.rows, c.columns, c.row_stride),
        );
        for (row, values) in out.chunks(c.row_stride).take(c.rows).enumerate() {
            let to = c.address.plus(row * c.row_stride * c.dtype.device_bytes());
            let values = &values[..c.columns];
            match c.dtype {
                Dtype::F32 => self.upload(to, bytemuck::cast_slice(values)),
                Dtype::Bf16 => {
                    let narrow: Vec<u16> = values.iter().copied().map(narrowed).collect();
                    self.upload(to, bytemuck::cast_slice(&narrow));
                }
                Dtype::Remainder => unreachable!("remainders are no operands of products"),
            }
        }
    }

    fn clear(&mut self, address: Address, bytes: usize) {
        self.bytes_at(address, bytes).fill(0);
        self.mark_written(address, bytes);
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) {
        self.check_written("copy", from, bytes);
        let values = self.bytes_at(from, bytes).to_vec();
        self.upload(to, &values);
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) {
        self.bytes_at(to, bytes.len()).copy_from_slice(bytes);
        self.mark_written(to, bytes.len());
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.check_written("download", from, bytes.len());
        let values = self.bytes_at(from, bytes.len());
        bytes.copy_from_slice(values);
        Ok(())
    }

    fn fetch(&mut self, from: Address, bytes: usize) -> u64 {
        self.check_written("fetch", from, bytes);
        let values = self.bytes_at(from, bytes).to_vec();
        self.next_ticket += 1;
        self.fetched.insert(self.next_ticket, values);
        self.next_ticket
    }

    fn collect(&mut self, ticket: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        bytes.copy_from_slice(&self.fetched.remove(&ticket).expect("a ticket is collected once"));
        Ok(())
    }

    fn begin_pass(&mut self, _key: u64) -> bool {
        true
    }

    fn end_pass(&mut self) {}
}

fn raw(region: &Region) -> RawRegion {
    let access = match region.access {
        Access::Read => 0,
        Access::Write => 1,
        Access::Update => 2,
    };
    RawRegion { address: region.address.0, bytes: region.bytes as u64, access, unused: 0 }
}

/// Calls the kernel on the fibers of `emulate.h`.
#[expect(unsafe_code, reason = "calls compiled kernels")]
fn run(launch: &Launch<'_>, request: &mut Request) {
    let library = library(launch.kernel.module);
    let symbol = |prefix: &str| format!("{prefix}{}\0", launch.kernel.name);
    // SAFETY: the library was compiled from this crate's sources, in which KERNEL defines the three symbols with these types.
    let (kernel, argument_bytes, threads) = unsafe {
        (
            library.get::<unsafe extern "C" fn(*const c_void)>(symbol("emulated_")).expect("KERNEL exports it"),
            **library.get::<*const u64>(symbol("argument_bytes_of_")).expect("KERNEL exports it"),
            **library.get::<*const u32>(symbol("threads_of_")).expect("KERNEL exports it"),
        )
    };
    let name = launch.kernel.name;
    assert_eq!(
        launch.arguments.len() as u64,
        argument_bytes,
        "kernel {name}: its parameter has another size in CUDA and in Rust"
    );
    assert_eq!(threads, launch.kernel.module.threads, "kernel {name}: threads");
    request.kernel = *kernel as *mut c_void;
    // SAFETY: `emulate` is exported by emulate.h with this type; the request's pointers are those of live, large enough memory:
    // arguments of the size checked above, and the shadow of the arena, in which the caller has found every region.
    unsafe {
        let emulate = library.get::<unsafe extern "C" fn(*mut Request)>(b"emulate\0").expect("emulate.h exports it");
        emulate(request);
    }
}

type Slot = Arc<OnceLock<Arc<Library>>>;

/// The compiled module: from this process, from an earlier one, or made now.
fn library(module: Module) -> Arc<Library> {
    static LOADED: Mutex<BTreeMap<Module, Slot>> = Mutex::new(BTreeMap::new());
    let slot = Arc::clone(LOADED.lock().expect("nobody panics while looking up").entry(module).or_default());
    Arc::clone(slot.get_or_init(|| Arc::new(load(&built(module)))))
}

#[expect(unsafe_code, reason = "opens a compiled module")]
fn load(file: &Path) -> Library {
    // SAFETY: compiled from this crate's sources, which run nothing when they are loaded.
    unsafe { Library::new(file) }.unwrap_or_else(|error| panic!("emulation: {}: does not open: {error}", file.display()))
}

/// The file of the compiled module, in a folder named by everything that decides its contents.
fn built(module: Module) -> PathBuf {
    let definitions: Vec<String> = module.definitions().map(|(name, value)| format!("-D{name}={value}")).collect();
    let mut hasher = blake3::Hasher::new();
    let texts = HEADERS.iter().map(|header| header.text).chain([module.source.text, EMULATE, PTX]);
    texts.chain(FLAGS).chain(definitions.iter().map(String::as_str)).for_each(|text| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    });
    let digest = hasher.finalize().to_hex();
    let folder = std::env::temp_dir().join(format!("mellama-emulation-{}", &digest[..16]));
    let file = folder.join("module.so");
    if !file.exists() {
        build(module, &definitions, &folder, &file);
    }
    file
}

fn build(module: Module, definitions: &[String], folder: &Path, file: &Path) {
    // A folder of this process's own: another may be at the same module.
    let own = folder.join(std::process::id().to_string());
    std::fs::create_dir_all(&own).unwrap_or_else(|error| panic!("emulation: {}: {error}", own.display()));
    let write = |name: &str, text: &str| {
        std::fs::write(own.join(name), text).unwrap_or_else(|error| panic!("emulation: {name}: {error}"));
    };
    HEADERS.iter().filter(|header| header.name != "ptx.cuh").for_each(|header| write(header.name, header.text));
    write("ptx.cuh", PTX);
    write("emulate.h", EMULATE);
    write("module.cpp", module.source.text);
    let made = own.join("module.so");
    let mut command = Command::new(compiler());
    command.args(FLAGS).args(definitions).arg("-include").arg(own.join("emulate.h")).arg("-I").arg(&own);
    let output = command.arg(own.join("module.cpp")).arg("-o").arg(&made).output();
    let output = output.unwrap_or_else(|error| panic!("emulation: the C++ compiler does not start: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "emulation: {} does not compile:\n{errors}", module.title());
    std::fs::rename(&made, file).unwrap_or_else(|error| panic!("emulation: {}: {error}", made.display()));
}
