//! Page headers of the Parquet files of this crate: adding the checksum when writing, proving them when reading.
//!
//! A page's CRC covers its data but not its header, and the `parquet` crate trusts headers; so a reader compares every header
//! with the one form that the writer gives them before any page is decoded. It decodes no values.
//!
//! For whoever changes this: a page header is a Thrift compact struct. Its fields 1 to 3 (type and the two sizes) are i32 and
//! stand first; field 4 is the CRC; one struct with id 5, 7 or 8 follows. A compact field header holds the distance from the
//! field before in its high four bits, so adding field 4 shortens the next distance by one.

use bytes::Bytes;

/// Largest page, uncompressed, in bytes. Pages end near 1 MiB, but one row is never split: the longest row is a sequence of
/// 2^20 ids of 4 bytes and its levels.
pub(crate) const MAX_PAGE_BYTES: u32 = 64 << 20;

/// Header byte of an i32 field that directly follows the field before.
const NEXT_I32: u8 = 0x15;
/// Header byte of a struct that directly follows the field before.
const NEXT_STRUCT: u8 = 0x1c;
/// End of a struct.
const STOP: u8 = 0;
/// `DATA_PAGE` and `PLAIN` are enum value 0, `RLE` is 3; zigzag doubles.
const ZIGZAG_DATA_PAGE: u32 = 0;
const ZIGZAG_PLAIN: u32 = 0;
const ZIGZAG_RLE: u32 = 6;

/// Inserts field 4 (crc) into a header that has fields 1 to 3 and then one struct. `None` for any other header.
pub(crate) fn header_with_crc(header: &[u8], crc: u32) -> Option<Bytes> {
    let mut rest = header;
    for _ in 0..3 {
        next_i32(&mut rest)?;
    }
    let at = header.len() - rest.len();
    let next = *rest.first()?;
    // Distance from field 3: 2 for data_page_header, 5 for data_page_header_v2. Low four bits: 12, a struct.
    if next & 0x0f != 12 || next >> 4 < 2 {
        return None;
    }
    let mut out = header[..at].to_vec();
    out.push(NEXT_I32);
    push_varint(&mut out, zigzag(crc as i32));
    out.push(next - 0x10);
    out.extend_from_slice(&header[at + 1..]);
    Some(out.into())
}

/// Proves that a column chunk is pages as this crate writes them, each with its checksum, and nothing else; `values` is what
/// the footer says the pages hold in all.
///
/// # Errors
/// What is wrong with which page.
pub(crate) fn check_pages(chunk: &[u8], values: i64) -> Result<(), String> {
    let mut rest = chunk;
    let mut found = 0_u64;
    let mut page = 0;
    while !rest.is_empty() {
        let header = read_header(&mut rest).ok_or_else(|| format!("page {page}: header damaged"))?;
        let data = rest.split_off(..header.compressed as usize);
        let data = data.ok_or_else(|| format!("page {page}: {} bytes, the column ends before", header.compressed))?;
        if crc32fast::hash(data) != header.crc {
            return Err(format!("page {page}: checksum differs from its bytes"));
        }
        found += u64::from(header.values);
        page += 1;
    }
    if u64::try_from(values) == Ok(found) { Ok(()) } else { Err(format!("{found} values in its pages, footer says {values}")) }
}

struct PageHeader {
    compressed: u32,
    crc: u32,
    values: u32,
}

/// Reads a header that has exactly the fields and constants this crate writes.
fn read_header(rest: &mut &[u8]) -> Option<PageHeader> {
    let expect_i32 = |rest: &mut &[u8], wanted| (next_i32(rest)? == wanted).then_some(());
    let size = |rest: &mut &[u8]| u32::try_from(unzigzag(next_i32(rest)?)).ok();
    expect_i32(rest, ZIGZAG_DATA_PAGE)?;
    let uncompressed = size(rest)?;
    let compressed = size(rest)?;
    let crc = unzigzag(next_i32(rest)?) as u32;
    expect_byte(rest, NEXT_STRUCT)?;
    let values = size(rest)?;
    expect_i32(rest, ZIGZAG_PLAIN)?;
    expect_i32(rest, ZIGZAG_RLE)?;
    expect_i32(rest, ZIGZAG_RLE)?;
    expect_byte(rest, STOP)?;
    expect_byte(rest, STOP)?;
    (uncompressed <= MAX_PAGE_BYTES).then_some(PageHeader { compressed, crc, values })
}

fn expect_byte(rest: &mut &[u8], wanted: u8) -> Option<()> {
    (*rest.split_off_first()? == wanted).then_some(())
}

/// The zigzag value of an i32 field that directly follows.
fn next_i32(rest: &mut &[u8]) -> Option<u32> {
    expect_byte(rest, NEXT_I32)?;
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).ok();
        }
    }
    None
}

fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

fn push_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::{check_pages, header_with_crc, unzigzag, zigzag};

    #[test]
    fn zigzag_is_thrifts() {
        let check = |value, expected| {
            assert_eq!(zigzag(value), expected, "{value}");
            assert_eq!(unzigzag(expected), value, "{expected}");
        };
        check(0, 0);
        check(-1, 1);
        check(1, 2);
        check(i32::MAX, u32::MAX - 1);
        check(i32::MIN, u32::MAX);
    }

    #[test]
    fn the_checksum_goes_between_the_sizes_and_the_page_struct() {
        let check = |header: &[u8], crc, expected: &[u8]| {
            assert_eq!(&header_with_crc(header, crc).unwrap()[..], expected);
        };
        check(&[0x15, 0, 0x15, 8, 0x15, 8, 0x2c, 9, 0], 1, &[0x15, 0, 0x15, 8, 0x15, 8, 0x15, 2, 0x1c, 9, 0]);
        check(&[0x15, 6, 0x15, 0x80, 1, 0x15, 8, 0x5c, 0], u32::MAX, &[0x15, 6, 0x15, 0x80, 1, 0x15, 8, 0x15, 1, 0x4c, 0]);
        for malformed in [&[][..], &[0x15], &[0x15, 0x80], &[0x15, 0, 0x15, 8, 0x15, 8], &[0x15, 0, 0x15, 8, 0x15, 8, 0x1c, 0]] {
            assert_eq!(header_with_crc(malformed, 1), None, "{malformed:?}");
        }
    }

    /// A page of `values` values with the data given.
    fn page(values: u8, data: &[u8]) -> Vec<u8> {
        let length = 2 * data.len() as u8;
        let plain = [0x15, 0, 0x15, length, 0x15, length, 0x2c, 0x15, 2 * values, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0];
        [&header_with_crc(&plain, crc32fast::hash(data)).unwrap(), data].concat()
    }

    #[test]
    fn whole_chunks_are_accepted_and_every_change_is_found() {
        let chunk = [page(3, b"abc"), page(1, b""), page(2, b"xyz!")].concat();
        assert_eq!(check_pages(&chunk, 6), Ok(()));
        assert_eq!(check_pages(&[], 0), Ok(()));
        assert_eq!(check_pages(&chunk, 5).unwrap_err(), "6 values in its pages, footer says 5");
        assert_eq!(check_pages(&chunk, -1).unwrap_err(), "6 values in its pages, footer says -1");
        for length in 1..chunk.len() {
            assert!(check_pages(&chunk[..length], 6).is_err(), "{length} bytes");
        }
        let mut uncompressed_size = Vec::new();
        for at in 0..chunk.len() {
            for bit in 0..8 {
                let mut damaged = chunk.clone();
                damaged[at] ^= 1 << bit;
                if check_pages(&damaged, 6).is_ok() {
                    uncompressed_size.push(at);
                }
            }
        }
        // Only the uncompressed size is not proved here: decompressing proves it.
        uncompressed_size.dedup();
        let starts = [0, page(3, b"abc").len(), page(3, b"abc").len() + page(1, b"").len()];
        assert_eq!(uncompressed_size, starts.map(|start| start + 3));
    }

    #[test]
    fn sizes_over_the_limit_are_refused() {
        let huge = [0x15, 0, 0x15, 0x82, 0x80, 0x80, 0x40, 0x15, 0, 0x15, 0, 0x1c, 0x15, 0, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0];
        assert_eq!(check_pages(&huge, 0).unwrap_err(), "page 0: header damaged");
        let endless = [0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0];
        assert_eq!(check_pages(&endless, 0).unwrap_err(), "page 0: header damaged");
    }
}
