//! What the emulation finds: a launch that a card would carry out, and spoil memory or results with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::emulated;
use crate::gpu::device::{Access, Address, Device, Launch, Region, bytes_of};
use crate::gpu::emulated::Emulated;
use crate::gpu::{arguments, kernels};

/// What a launch of `swiglu` on 8 rows of 8 says: its operands as given, on an arena with 128 written gates.
fn fault(change: impl Fn(&mut arguments::Swiglu, &mut [Region; 2]), written: usize) -> String {
    let mut card = Emulated::new(0);
    let base = card.allocate(4096).unwrap();
    card.upload(base, &vec![0; 2 * written]);
    let out = base.plus(1024);
    let mut arguments = arguments::Swiglu { gate_up: base, out, packs: 8, width: 8 };
    let mut regions =
        [Region { address: base, bytes: 256, access: Access::Read }, Region { address: out, bytes: 128, access: Access::Write }];
    change(&mut arguments, &mut regions);
    let kernel = kernels::SWIGLU_FORWARD;
    let launch = || card.launch(&Launch { kernel, grid: [1, 1, 1], arguments: bytes_of(&arguments), regions: &regions });
    match catch_unwind(AssertUnwindSafe(launch)) {
        Ok(()) => String::new(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    }
}

/// What a launch of this kernel of one parameter, a place with a number, says.
fn fault_of(text: &'static str) -> String {
    const STEPS: &[(&str, u32)] = &[("MOST_STEPS", 10_000)];
    let module =
        kernels::Module { source: kernels::Source { name: "endless.cu", text }, constants: STEPS, ..kernels::NARROW.module };
    let kernel = kernels::Kernel { name: "endless", module, shared_bytes: 0 };
    let mut card = Emulated::new(0);
    let at = card.allocate(4096).unwrap();
    card.upload(at, &[0; 16]);
    let regions = [Region { address: at, bytes: 16, access: Access::Read }];
    let launch = || card.launch(&Launch { kernel, grid: [1, 1, 1], arguments: bytes_of(&at), regions: &regions });
    catch_unwind(AssertUnwindSafe(launch)).unwrap_err().downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn emulation_ends_kernels_that_do_not() {
    if !emulated() {
        return;
    }
    let expected = "no end after 10000 accesses and waits";
    let reading = "#include <core.cuh>\nstruct One { Global<u32> at; };\n\
                   KERNEL(endless, One) { while (arguments.at[0] == 0) {} }\n";
    let waiting = "#include <core.cuh>\nstruct One { Global<u32> at; };\nKERNEL(endless, One) { for (;;) __syncthreads(); }\n";
    for text in [reading, waiting] {
        let message = fault_of(text);
        assert!(message.contains(expected) && message.contains("kernel endless of endless.cu"), "{message}");
    }
}

#[test]
fn launches_that_touch_what_they_may_not_are_found() {
    if !emulated() {
        return;
    }
    let check = |change: &dyn Fn(&mut arguments::Swiglu, &mut [Region; 2]), written: usize, expected: &str| {
        let message = fault(change, written);
        assert!(message.contains(expected), "\"{message}\" does not say \"{expected}\"");
    };
    assert_eq!(fault(|_, _| (), 128), "");
    check(&|arguments, _| arguments.packs = 9, 256, "read of 16 bytes outside every operand: 256 bytes from the beginning");
    check(&|arguments, _| arguments.packs = 7, 128, "operand 1 of 128 bytes: byte 112 is not written");
    check(&|_, _| (), 127, "read of memory that nobody has written, 254 bytes into its operand");
    check(&|_, regions| regions[1].access = Access::Read, 128, "write to an operand that is only read");
    check(&|arguments, _| arguments.gate_up = Address(arguments.gate_up.0 + 2), 256, "at no multiple of them");
    check(&|_, regions| regions[0].bytes = 240, 128, "read of 16 bytes outside every operand");
    let message = fault(|_, _| (), 0);
    assert!(message.contains("kernel swiglu of swiglu.cu: block (0, 0, 0), thread 0"), "{message}");
}
