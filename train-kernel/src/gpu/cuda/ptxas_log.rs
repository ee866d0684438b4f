//! What the assembler says of each kernel: registers, spills, shared memory and stack. Reads text only.

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelResources {
    /// Its symbol.
    pub name: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that a thread writes out because its registers do not suffice.
    pub spill_stores: u32,
    /// Bytes of these that it reads back.
    pub spill_loads: u32,
    /// Bytes of shared memory of a block, without what a launch adds.
    pub shared_bytes: u32,
    /// Bytes of a thread's stack.
    pub stack_bytes: u32,
}

/// The kernels of a log that `--ptxas-options=-v` made, in its order. Lines of anything else are passed over.
pub(super) fn parse(log: &str) -> Vec<KernelResources> {
    let mut kernels: Vec<KernelResources> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = after(line, "Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            kernels.push(KernelResources { name, ..KernelResources::default() });
        } else if let Some(kernel) = kernels.last_mut() {
            if line.contains("bytes stack frame") {
                kernel.stack_bytes = number_before(line, " bytes stack frame");
                kernel.spill_stores = number_before(line, " bytes spill stores");
                kernel.spill_loads = number_before(line, " bytes spill loads");
            } else if line.contains("Used ") {
                kernel.registers = number_before(line, " registers");
                kernel.shared_bytes = number_before(line, " bytes smem");
            }
        }
    }
    kernels
}

fn after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    line.split_once(words).map(|(_, rest)| rest)
}

/// The number that stands right before these words; 0 where they are not.
fn number_before(line: &str, words: &str) -> u32 {
    let Some((before, _)) = line.split_once(words) else { return 0 };
    let digits = before.len() - before.bytes().rev().take_while(u8::is_ascii_digit).count();
    before[digits..].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of NVRTC 12.8, for `sm_80`.
    const OF_TWO: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'tensor' for 'sm_80'
ptxas info    : Function properties for tensor
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 18 registers, used 1 barriers, 368 bytes cmem[0]
ptxas info    : Compile time = 9.989 ms
ptxas info    : Compiling entry function 'spilling' for 'sm_80'
ptxas info    : Function properties for spilling
ptxas         .     480 bytes stack frame, 380 bytes spill stores, 532 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 480 bytes cumulative stack size, 368 bytes cmem[0]
ptxas info    : Compile time = 84.202 ms
";

    /// Of a kernel with shared memory of its own, behind a remark about the source.
    const WITH_SHARED_MEMORY: &str = "\
fixed.cu(3): warning #177-D: variable \"unused\" was declared but never referenced

ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'fixed' for 'sm_90a'
ptxas info    : Function properties for fixed
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 1024 bytes smem
ptxas info    : Compile time = 2.518 ms
";

    fn kernel(name: &str, registers: u32) -> KernelResources {
        KernelResources { name: name.to_owned(), registers, ..KernelResources::default() }
    }

    #[test]
    fn logs_are_read() {
        let check = |log: &str, expected: &[KernelResources]| assert_eq!(parse(log), expected, "{log}");
        let spilling = KernelResources { spill_stores: 380, spill_loads: 532, stack_bytes: 480, ..kernel("spilling", 32) };
        check(OF_TWO, &[kernel("tensor", 18), spilling]);
        check(WITH_SHARED_MEMORY, &[KernelResources { shared_bytes: 1024, ..kernel("fixed", 10) }]);
        check("", &[]);
        check("nothing of the kind\n0 bytes stack frame", &[]);
        check("ptxas info    : Compiling entry function 'cut", &[kernel("cut", 0)]);
        check("ptxas info : Compiling entry function 'n' for 'x'\nUsed 99999999999 registers", &[kernel("n", 0)]);
    }
}
