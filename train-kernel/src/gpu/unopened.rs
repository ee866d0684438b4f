//! A card that is known and not opened, on which an arena can be planned. It carries out nothing.

use super::device::{Address, Device, DeviceError, DeviceProduct, Launch, Properties};
use super::kernels::Kernel;

/// A card by its properties. Nothing is ever allocated on it; what it is asked to do is a mistake of the caller.
#[derive(Clone, Debug)]
pub struct Unopened(pub Properties);

fn mistake(what: &str) -> ! {
    panic!("a card that is not opened is asked for {what}")
}

impl Device for Unopened {
    fn properties(&self) -> &Properties {
        &self.0
    }

    fn allocate(&mut self, _bytes: usize) -> Result<Address, u64> {
        Err(self.0.memory_bytes)
    }

    fn prepare(&mut self, _kernels: &[Kernel]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn launch(&mut self, launch: &Launch<'_>) {
        mistake(launch.kernel.name)
    }

    fn multiply(&mut self, _product: &DeviceProduct) {
        mistake("a product")
    }

    fn clear(&mut self, _address: Address, _bytes: usize) {
        mistake("zeros")
    }

    fn copy(&mut self, _from: Address, _to: Address, _bytes: usize) {
        mistake("a copy")
    }

    fn upload(&mut self, _to: Address, _bytes: &[u8]) {
        mistake("an upload")
    }

    fn download(&mut self, _from: Address, _bytes: &mut [u8]) -> Result<(), DeviceError> {
        mistake("a download")
    }

    fn fetch(&mut self, _from: Address, _bytes: usize) -> u64 {
        mistake("bytes")
    }

    fn collect(&mut self, _ticket: u64, _bytes: &mut [u8]) -> Result<(), DeviceError> {
        mistake("bytes")
    }

    fn begin_pass(&mut self, _key: u64) -> bool {
        mistake("a pass")
    }

    fn end_pass(&mut self) {
        mistake("a pass")
    }
}
