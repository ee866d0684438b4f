//! Reads machine code: which instructions a kernel has. Parses any bytes without a panic.
//!
//! A cubin is an ELF file of 64 bits, little-endian; each kernel is a section `.text.NAME`. From compute capability 7.0 on an
//! instruction takes 16 bytes, with the operation in the low 12 bits of the first 8.

/// Bytes of an instruction.
const INSTRUCTION_BYTES: usize = 16;
/// HMMA, a product of fragments on the tensor cores.
const HMMA: u64 = 0x23c;
/// Bytes of an entry of the table of sections.
const SECTION_BYTES: usize = 64;

/// A section: its name's place in the table of names, and its content.
struct Section<'a> {
    name_at: usize,
    content: &'a [u8],
}

/// The products of fragments in a kernel's code; nothing when the bytes hold no such kernel.
pub fn count_tensor_products(cubin: &[u8], kernel: &str) -> Option<usize> {
    let code = text_of(cubin, kernel)?;
    let operations = code.chunks_exact(INSTRUCTION_BYTES).filter_map(|instruction| read(instruction, 0, 8));
    Some(operations.filter(|word| word & 0xfff == HMMA).count())
}

fn text_of<'a>(cubin: &'a [u8], kernel: &str) -> Option<&'a [u8]> {
    let wanted = format!(".text.{kernel}");
    let sections = sections(cubin)?;
    let names = sections.get(read(cubin, 0x3e, 2)? as usize)?.content;
    let is_wanted = |section: &&Section<'_>| name(names, section.name_at) == Some(wanted.as_bytes());
    Some(sections.iter().find(is_wanted)?.content)
}

fn sections(cubin: &[u8]) -> Option<Vec<Section<'_>>> {
    // A 64-bit, little-endian ELF file.
    if cubin.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let table = usize::try_from(read(cubin, 0x28, 8)?).ok()?;
    let count = read(cubin, 0x3c, 2)? as usize;
    (0..count).map(|index| section(cubin, table.checked_add(index * SECTION_BYTES)?)).collect()
}

fn section(cubin: &[u8], at: usize) -> Option<Section<'_>> {
    let entry = cubin.get(at..at.checked_add(SECTION_BYTES)?)?;
    let name_at = read(entry, 0, 4)? as usize;
    let start = usize::try_from(read(entry, 24, 8)?).ok()?;
    let bytes = usize::try_from(read(entry, 32, 8)?).ok()?;
    // Sections without content in the file (type 8) have a size all the same.
    let content = if read(entry, 4, 4)? == 8 { &[] } else { cubin.get(start..start.checked_add(bytes)?)? };
    Some(Section { name_at, content })
}

fn name(names: &[u8], at: usize) -> Option<&[u8]> {
    names.get(at..)?.split(|byte| *byte == 0).next()
}

/// A little-endian number of up to 8 bytes.
fn read(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let read = bytes.get(at..at.checked_add(length)?)?;
    Some(read.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one kernel of these operations.
    fn cubin(kernel: &str, operations: &[u64]) -> Vec<u8> {
        let names = format!("\0.shstrtab\0.text.{kernel}\0");
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1];
        bytes.resize(64, 0);
        let names_at = bytes.len();
        bytes.extend(names.as_bytes());
        let code_at = bytes.len();
        for operation in operations {
            bytes.extend((0xabcd_0000_0000_1000 | operation).to_le_bytes());
            bytes.extend([0x3c; 8]);
        }
        let code_bytes = bytes.len() - code_at;
        let table = bytes.len();
        for (name_at, start, length) in [(0, 0, 0), (1, names_at, names.len()), (11, code_at, code_bytes)] {
            let mut entry = [0; SECTION_BYTES];
            entry[..4].copy_from_slice(&(name_at as u32).to_le_bytes());
            entry[24..32].copy_from_slice(&(start as u64).to_le_bytes());
            entry[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            bytes.extend(entry);
        }
        bytes[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        bytes[0x3c..0x3e].copy_from_slice(&3u16.to_le_bytes());
        bytes[0x3e..0x40].copy_from_slice(&1u16.to_le_bytes());
        bytes
    }

    #[test]
    fn tensor_products_are_counted() {
        let file = cubin("attention", &[0x981, HMMA, 0x7918, HMMA, HMMA, 0x94d]);
        assert_eq!(count_tensor_products(&file, "attention"), Some(3));
        assert_eq!(count_tensor_products(&file, "attend"), None);
        assert_eq!(count_tensor_products(&cubin("norm", &[0x981]), "norm"), Some(0));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let file = cubin("norm", &[HMMA]);
        for length in 0..file.len() {
            count_tensor_products(&file[..length], "norm");
        }
        for at in 0..file.len() {
            let mut broken = file.clone();
            broken[at] = 0xff;
            count_tensor_products(&broken, "norm");
        }
    }
}
