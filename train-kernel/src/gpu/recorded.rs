//! A card that records passes and repeats them, whatever it can do itself: for tests. It does so in the order in which the card
//! over CUDA does (`recording`), so that an operation whose launch depends on more than its pass's key gives other results here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::device::{Address, Device, DeviceError, DeviceProduct, Launch, Properties, Region};
use super::kernels::Kernel;
use super::recording::{Begin, MAX_RECORDINGS, Passes};

/// What was asked of the card in a pass, with everything as it was then.
#[derive(Clone, Debug)]
enum Operation {
    Launch { kernel: Kernel, grid: [u32; 3], arguments: Vec<u8>, regions: Vec<Region> },
    Multiply(DeviceProduct),
    Clear(Address, usize),
    Copy { from: Address, to: Address, bytes: usize },
}

/// A card, with passes recorded in front of it.
#[derive(Debug)]
pub struct Recorded<D: Device> {
    device: D,
    passes: Passes<Vec<Operation>>,
    /// Those of the pass that is being recorded.
    recording: Vec<Operation>,
    is_allocated: bool,
    repeated: Arc<AtomicU64>,
}

impl<D: Device> Recorded<D> {
    /// In front of this card.
    pub fn new(device: D) -> Self {
        Self { device, passes: Passes::new(MAX_RECORDINGS), recording: Vec::new(), is_allocated: false, repeated: Arc::default() }
    }

    /// How many passes were carried out from a recording; shared with the card, so that it can be read after the card is given
    /// away.
    pub fn repeated(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.repeated)
    }

    fn ask(&mut self, operation: Operation) {
        if self.passes.is_recording() {
            self.recording.push(operation);
        } else {
            carry_out(&mut self.device, &operation);
        }
    }

    fn repeat(&mut self, key: u64) {
        let operations = self.passes.recording(key).expect("it was recorded under this key");
        for operation in operations {
            carry_out(&mut self.device, operation);
        }
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    fn check_between(&self, what: &str) {
        assert!(!self.passes.is_open(), "{what} in a pass: it would not be done when the pass is repeated");
    }
}

fn carry_out<D: Device>(device: &mut D, operation: &Operation) {
    match operation {
        Operation::Launch { kernel, grid, arguments, regions } => {
            device.launch(&Launch { kernel: *kernel, grid: *grid, arguments, regions });
        }
        Operation::Multiply(product) => device.multiply(product),
        Operation::Clear(address, bytes) => device.clear(*address, *bytes),
        Operation::Copy { from, to, bytes } => device.copy(*from, *to, *bytes),
    }
}

impl<D: Device> Device for Recorded<D> {
    fn properties(&self) -> &Properties {
        self.device.properties()
    }

    fn choices(&self) -> Option<serde_json::Value> {
        self.device.choices()
    }

    fn take_warnings(&mut self) -> Vec<String> {
        self.device.take_warnings()
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, u64> {
        self.check_between("an allocation");
        self.is_allocated = true;
        self.device.allocate(bytes)
    }

    fn prepare(&mut self, kernels: &[Kernel]) -> Result<(), DeviceError> {
        self.check_between("the loading of kernels");
        assert!(!self.is_allocated, "kernels are loaded after the arena was measured against free memory");
        self.device.prepare(kernels)
    }

    fn launch(&mut self, launch: &Launch<'_>) {
        let Launch { kernel, grid, arguments, regions } = *launch;
        self.ask(Operation::Launch { kernel, grid, arguments: arguments.to_vec(), regions: regions.to_vec() });
    }

    fn multiply(&mut self, product: &DeviceProduct) {
        self.ask(Operation::Multiply(*product));
    }

    fn clear(&mut self, address: Address, bytes: usize) {
        self.ask(Operation::Clear(address, bytes));
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) {
        self.ask(Operation::Copy { from, to, bytes });
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) {
        self.check_between("an upload");
        self.device.upload(to, bytes);
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.check_between("a download");
        self.device.download(from, bytes)
    }

    fn fetch(&mut self, from: Address, bytes: usize) -> u64 {
        self.check_between("a fetch");
        self.device.fetch(from, bytes)
    }

    fn collect(&mut self, ticket: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.check_between("a collection");
        self.device.collect(ticket, bytes)
    }

    fn begin_pass(&mut self, key: u64) -> bool {
        let begin = self.passes.begin(key);
        if begin == Begin::Replay {
            self.repeat(key);
        }
        begin != Begin::Replay
    }

    fn end_pass(&mut self) {
        let Some(key) = self.passes.end() else { return };
        let recording = std::mem::take(&mut self.recording);
        self.passes.keep(key, recording);
        self.repeat(key);
    }
}
