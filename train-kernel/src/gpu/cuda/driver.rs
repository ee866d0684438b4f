//! The calls into the driver, each made once and safe to use: addresses of the card are numbers here, and what the driver keeps
//! is given back when it is dropped. Decides nothing.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaGraph, CudaStream, sys};

use super::super::device::{Address, Properties};
use super::version::Version;

/// What an answer of the driver is in its own words: `CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered`.
pub(super) fn words(error: DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    text.map_or_else(|_| format!("{:?}", error.0), |text| format!("{:?}: {text}", error.0))
}

/// The CUDA that the driver knows; asked before anything else of it.
pub(super) fn version() -> Result<Version, DriverError> {
    Ok(Version::from_number(calls::version()?.unsigned_abs()))
}

/// Whether the driver says that there is no card, which is no fault of it.
pub(super) fn means_no_card(error: DriverError) -> bool {
    error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE
}

/// Whether the card's memory, or the driver's of it, is full.
pub(super) fn means_no_memory(error: DriverError) -> bool {
    error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY
}

/// Cards that the driver shows.
pub(super) fn card_count() -> Result<usize, DriverError> {
    result::init()?;
    Ok(result::device::get_count()?.unsigned_abs() as usize)
}

/// A card's properties; `index` is below their count.
pub(super) fn properties(index: usize) -> Result<Properties, DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let card = result::device::get(index as i32)?;
    let attribute = |attribute: Attribute| Ok(calls::attribute(card, attribute)?.unsigned_abs());
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(Properties {
        name: result::device::get_name(card)?,
        capability: (major, minor),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory_bytes: calls::memory_bytes(card)? as u64,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    })
}

/// A card's context with one stream, which no other stream waits for.
pub(super) fn open(index: usize) -> Result<Arc<CudaStream>, DriverError> {
    let context = CudaContext::new(index)?;
    calls::without_events(&context);
    context.new_stream()
}

/// A mark in a stream that the host waits for without spinning, and that measures no time.
#[derive(Debug)]
pub(super) struct Mark {
    context: Arc<CudaContext>,
    event: calls::Event,
}

impl Mark {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        Ok(Self { context: Arc::clone(context), event: calls::Event::new()? })
    }

    /// Puts it behind what was asked of the stream so far.
    pub(super) fn record(&self, stream: &CudaStream) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        self.event.record(stream.cu_stream())
    }

    /// Waits until the stream has passed it.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        self.event.wait()
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        self.context.record_err(self.event.destroy());
    }
}

/// Memory of the card, freed when it is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    context: Arc<CudaContext>,
    address: Address,
}

impl Memory {
    /// `bytes` of memory, at least 1, at a multiple of 256 bytes; with any content.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        Ok(Self { context: Arc::clone(context), address: Address(calls::allocate(bytes)?) })
    }

    pub(super) fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        self.context.record_err(calls::free(self.address.0));
    }
}

/// Memory of the host that the card reads and writes by itself.
#[derive(Debug)]
pub(super) struct Pinned {
    context: Arc<CudaContext>,
    memory: calls::HostMemory,
}

impl Pinned {
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        Ok(Self { context: Arc::clone(context), memory: calls::HostMemory::new(bytes)? })
    }

    /// Puts bytes at a place and sends them to the card, which reads the place until the stream has passed.
    pub(super) fn send(&mut self, at: usize, bytes: &[u8], to: Address, stream: &CudaStream) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        self.memory.write(at, bytes);
        self.memory.copy_to_card(at, bytes.len(), to.0, stream.cu_stream())
    }

    /// Has the card write its bytes at a place; they are there when the stream has passed.
    pub(super) fn fetch(&mut self, at: usize, from: Address, bytes: usize, stream: &CudaStream) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        self.memory.copy_from_card(at, bytes, from.0, stream.cu_stream())
    }

    /// The bytes at a place.
    pub(super) fn read(&self, at: usize, out: &mut [u8]) {
        self.memory.read(at, out);
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        self.context.record_err(self.memory.free());
    }
}

/// Machine code in the card, unloaded when it is dropped.
#[derive(Debug)]
pub(super) struct Code {
    context: Arc<CudaContext>,
    module: calls::Module,
}

/// A kernel of loaded code; usable while that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function(calls::Kernel);

impl Code {
    /// Loads what the compiler made, whole and unchanged.
    pub(super) fn load(context: &Arc<CudaContext>, image: &[u8]) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        Ok(Self { context: Arc::clone(context), module: calls::Module::load(image)? })
    }

    pub(super) fn function(&self, name: &str) -> Result<Function, DriverError> {
        self.context.bind_to_thread()?;
        Ok(Function(self.module.kernel(name)?))
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        self.context.record_err(self.module.unload());
    }
}

/// The sizes of a launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    /// Blocks.
    pub(super) grid: [u32; 3],
    /// Threads of a block.
    pub(super) threads: u32,
    /// Bytes of shared memory of a block.
    pub(super) shared_bytes: u32,
}

/// The most bytes that a kernel's parameter may have.
pub(super) const MAX_PARAMETER_BYTES: usize = 4096;

impl Function {
    /// Lets blocks have this much shared memory; up to 48 KiB they may anyway.
    pub(super) fn allow_shared_bytes(self, context: &CudaContext, bytes: u32) -> Result<(), DriverError> {
        context.bind_to_thread()?;
        self.0.allow_shared_bytes(bytes)
    }

    /// Bytes of shared memory that a block has whatever the launch says.
    pub(super) fn fixed_shared_bytes(self, context: &CudaContext) -> Result<u32, DriverError> {
        context.bind_to_thread()?;
        self.0.fixed_shared_bytes()
    }

    /// Calls it with one parameter of up to [`MAX_PARAMETER_BYTES`], which is copied.
    pub(super) fn launch(self, extents: Extents, parameter: &[u8], stream: &CudaStream) -> Result<(), DriverError> {
        stream.context().bind_to_thread()?;
        self.0.launch(extents, parameter, stream.cu_stream())
    }
}

/// Zeros.
pub(super) fn clear(address: Address, bytes: usize, stream: &CudaStream) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    calls::clear(address.0, bytes, stream.cu_stream())
}

/// Copies inside the card's memory.
pub(super) fn copy(from: Address, to: Address, bytes: usize, stream: &CudaStream) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    calls::copy(from.0, to.0, bytes, stream.cu_stream())
}

/// Operations that were recorded.
pub(super) struct Recording(calls::Graph);

impl Debug for Recording {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Recording").finish_non_exhaustive()
    }
}

impl Recording {
    /// Records what this thread asks of the stream from now on, in place of doing it. Until the end nothing may be allocated,
    /// waited for or loaded.
    pub(super) fn begin(stream: &CudaStream) -> Result<(), DriverError> {
        stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
    }

    /// What was recorded; nothing when nothing was.
    pub(super) fn end(stream: &Arc<CudaStream>) -> Result<Option<Self>, DriverError> {
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0))?;
        Ok(graph.map(|graph| Self(calls::Graph(graph))))
    }

    /// Does it.
    pub(super) fn replay(&self) -> Result<(), DriverError> {
        let graph: &CudaGraph = &self.0.0;
        graph.launch()
    }
}

/// One operation of the driver a function.
#[expect(unsafe_code, reason = "calls the driver")]
mod calls {
    use std::ffi::{CString, c_int, c_void};

    use cudarc::driver::result::{self, DriverError};
    use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute};
    use cudarc::driver::{CudaContext, CudaGraph};

    use super::{Extents, MAX_PARAMETER_BYTES};

    type Driven<T> = Result<T, DriverError>;

    pub(super) fn version() -> Driven<c_int> {
        let mut version = 0;
        // SAFETY: `version` is a place for an int; the call needs no initialization before it.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
        Ok(version)
    }

    pub(super) fn attribute(card: sys::CUdevice, attribute: sys::CUdevice_attribute) -> Driven<c_int> {
        // SAFETY: a wrong card is an error of the driver; the card is a number and no pointer.
        unsafe { result::device::get_attribute(card, attribute) }
    }

    pub(super) fn memory_bytes(card: sys::CUdevice) -> Driven<usize> {
        // SAFETY: as for an attribute.
        unsafe { result::device::total_mem(card) }
    }

    /// Keeps cudarc from recording events around each use of its own slices.
    pub(super) fn without_events(context: &CudaContext) {
        // SAFETY: no slice of cudarc is ever made in this context, so none is used in two streams.
        unsafe { context.disable_event_tracking() };
    }

    pub(super) fn allocate(bytes: usize) -> Driven<u64> {
        // SAFETY: what it returns is a number; no Rust value lies there.
        unsafe { result::malloc_sync(bytes) }
    }

    pub(super) fn free(address: u64) -> Driven<()> {
        // SAFETY: the address comes from `allocate`, and its one owner is being dropped.
        unsafe { result::free_sync(address) }
    }

    pub(super) fn clear(address: u64, bytes: usize, stream: sys::CUstream) -> Driven<()> {
        // SAFETY: the address is one of the card, where no Rust value lies; a wrong one is an error of the driver.
        unsafe { result::memset_d8_async(address, 0, bytes, stream) }
    }

    pub(super) fn copy(from: u64, to: u64, bytes: usize, stream: sys::CUstream) -> Driven<()> {
        // SAFETY: both addresses are of the card, where no Rust value lies; wrong ones are an error of the driver.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }
    }

    /// Page-locked bytes. Only this type points to them, so that no reference is alive while the card writes them.
    #[derive(Debug)]
    pub(super) struct HostMemory {
        start: *mut u8,
        bytes: usize,
    }

    // SAFETY: the driver takes the pointer from any thread, and there is one owner.
    unsafe impl Send for HostMemory {}

    impl HostMemory {
        pub(super) fn new(bytes: usize) -> Driven<Self> {
            // SAFETY: what it returns is used through this type only.
            let start = unsafe { result::malloc_host(bytes, 0) }?.cast::<u8>();
            // SAFETY: the driver gave `bytes` bytes there, and nobody else has them.
            unsafe { start.write_bytes(0, bytes) };
            Ok(Self { start, bytes })
        }

        pub(super) fn free(&mut self) -> Driven<()> {
            // SAFETY: it comes from `malloc_host`, and its one owner is being dropped.
            unsafe { result::free_host(self.start.cast()) }
        }

        pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
            assert!(bytes.len() <= self.bytes.saturating_sub(at), "staging holds {} bytes", self.bytes);
            // SAFETY: it was just checked that `bytes` from `at` on lie inside, and no reference to them exists.
            unsafe { self.start.add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }

        pub(super) fn read(&self, at: usize, out: &mut [u8]) {
            assert!(out.len() <= self.bytes.saturating_sub(at), "staging holds {} bytes", self.bytes);
            // SAFETY: they lie inside, were written at least once (zeros), and `out` is another place.
            unsafe { self.start.add(at).copy_to_nonoverlapping(out.as_mut_ptr(), out.len()) };
        }

        pub(super) fn copy_to_card(&self, at: usize, bytes: usize, to: u64, stream: sys::CUstream) -> Driven<()> {
            assert!(bytes <= self.bytes.saturating_sub(at), "staging holds {} bytes", self.bytes);
            // SAFETY: the place lies inside, as was just checked.
            let from = unsafe { self.start.add(at) };
            // SAFETY: the card reads page-locked memory that is freed only after the stream was waited for.
            unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), bytes, stream) }.result()
        }

        pub(super) fn copy_from_card(&mut self, at: usize, bytes: usize, from: u64, stream: sys::CUstream) -> Driven<()> {
            assert!(bytes <= self.bytes.saturating_sub(at), "staging holds {} bytes", self.bytes);
            // SAFETY: the place lies inside, as was just checked.
            let to = unsafe { self.start.add(at) };
            // SAFETY: the card writes page-locked memory that no reference points to, freed only after the stream was waited for.
            unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, bytes, stream) }.result()
        }
    }

    /// An event.
    #[derive(Debug)]
    pub(super) struct Event(sys::CUevent);

    // SAFETY: a handle, which the driver takes from any thread.
    unsafe impl Send for Event {}

    impl Event {
        pub(super) fn new() -> Driven<Self> {
            // cudarc's type of the flags takes one of them; the driver takes their sum.
            let flags = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32 | sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
            let mut event = std::ptr::null_mut();
            // SAFETY: `event` is a place for a handle.
            unsafe { sys::cuEventCreate(&raw mut event, flags) }.result()?;
            Ok(Self(event))
        }

        pub(super) fn record(&self, stream: sys::CUstream) -> Driven<()> {
            // SAFETY: the event lives as long as this value, and the stream as long as its card.
            unsafe { result::event::record(self.0, stream) }
        }

        pub(super) fn wait(&self) -> Driven<()> {
            // SAFETY: the event lives as long as this value.
            unsafe { result::event::synchronize(self.0) }
        }

        pub(super) fn destroy(&mut self) -> Driven<()> {
            // SAFETY: its one owner is being dropped.
            unsafe { result::event::destroy(self.0) }
        }
    }

    /// Loaded code.
    #[derive(Debug)]
    pub(super) struct Module(sys::CUmodule);

    // SAFETY: a handle, which the driver takes from any thread.
    unsafe impl Send for Module {}

    impl Module {
        pub(super) fn load(image: &[u8]) -> Driven<Self> {
            // SAFETY: the image is what the compiler made: an ELF file that says its own length, or text that ends in a zero.
            // What comes from a disk was checked against its digest.
            Ok(Self(unsafe { result::module::load_data(image.as_ptr().cast()) }?))
        }

        pub(super) fn kernel(&self, name: &str) -> Driven<Kernel> {
            let name = CString::new(name).map_err(|_| DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE))?;
            // SAFETY: the module is loaded as long as this value lives.
            Ok(Kernel(unsafe { result::module::get_function(self.0, name) }?))
        }

        pub(super) fn unload(&mut self) -> Driven<()> {
            // SAFETY: its one owner is being dropped.
            unsafe { result::module::unload(self.0) }
        }
    }

    /// A kernel of a module.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Kernel(sys::CUfunction);

    // SAFETY: a handle, which the driver takes from any thread.
    unsafe impl Send for Kernel {}

    impl Kernel {
        pub(super) fn allow_shared_bytes(self, bytes: u32) -> Driven<()> {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function's module is loaded: the card keeps its modules for as long as its functions.
            unsafe { result::function::set_function_attribute(self.0, attribute, bytes as i32) }
        }

        pub(super) fn fixed_shared_bytes(self) -> Driven<u32> {
            // SAFETY: as above.
            let bytes =
                unsafe { result::function::get_function_attribute(self.0, Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) };
            Ok(bytes?.unsigned_abs())
        }

        pub(super) fn launch(self, extents: Extents, parameter: &[u8], stream: sys::CUstream) -> Driven<()> {
            // As large as any parameter, and aligned for one: the driver reads as much as the kernel declares.
            let mut storage = [0_u64; MAX_PARAMETER_BYTES / 8];
            bytemuck::cast_slice_mut(&mut storage)[..parameter.len()].copy_from_slice(parameter);
            let mut parameters: [*mut c_void; 1] = [storage.as_mut_ptr().cast()];
            let [x, y, z] = extents.grid;
            // SAFETY: the function is loaded, has one parameter of at most this storage, and the driver copies it before it
            // returns. What the kernel does to the card's memory touches no Rust value.
            unsafe {
                result::launch_kernel(self.0, (x, y, z), (extents.threads, 1, 1), extents.shared_bytes, stream, &mut parameters)
            }
        }
    }

    /// A recorded graph.
    pub(super) struct Graph(pub(super) CudaGraph);

    // SAFETY: the driver takes graphs from any thread, one at a time; this one is owned by a card, whose operations need it
    // exclusively.
    unsafe impl Send for Graph {}
}
