//! Writes the pages of one Parquet column chunk with a CRC-32 in every page header, which readers check and the `parquet`
//! crate itself leaves out when writing.
//!
//! Page headers are Thrift compact structs (`PageHeader` in parquet-format's `parquet.thrift`); only those of the first data
//! page version and of dictionaries are written.

use std::sync::{Arc, Mutex, PoisonError};

use flate2::Crc;
use parquet::basic::{Encoding, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::errors::{ParquetError, Result};

/// Thrift compact type codes.
const BOOLEAN_TRUE: u8 = 1;
const BOOLEAN_FALSE: u8 = 2;
const I32: u8 = 5;
const STRUCT: u8 = 12;

/// The pages of one chunk end to end, to be taken when its writer is closed.
pub(crate) type PageBytes = Arc<Mutex<Vec<u8>>>;

/// Appends pages, headers first, to a buffer that holds nothing else.
pub(crate) struct CheckedPages {
    out: PageBytes,
}

impl CheckedPages {
    pub(crate) fn new(out: PageBytes) -> Self {
        Self { out }
    }
}

impl PageWriter for CheckedPages {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec> {
        let header = header_of(&page)?;
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = out.len() as u64;
        out.extend_from_slice(&header);
        out.extend_from_slice(page.data());
        let mut spec = PageWriteSpec::new();
        spec.page_type = page.page_type();
        spec.uncompressed_size = page.uncompressed_size() + header.len();
        spec.compressed_size = page.compressed_size() + header.len();
        spec.num_values = page.num_values();
        spec.offset = offset;
        spec.bytes_written = out.len() as u64 - offset;
        Ok(spec)
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn header_of(page: &CompressedPage) -> Result<Vec<u8>> {
    let mut crc = Crc::new();
    crc.update(page.data());
    let mut header = Fields::default();
    header.integer(1, page.page_type() as i32);
    header.integer(2, size(page.uncompressed_size())?);
    header.integer(3, size(page.compressed_size())?);
    header.integer(4, crc.sum() as i32);
    let values = size(page.num_values() as usize)?;
    match page.compressed_page() {
        Page::DataPage { encoding, def_level_encoding, rep_level_encoding, .. } => {
            header.structure(5);
            let mut inner = Fields::default();
            inner.integer(1, values);
            inner.integer(2, code(*encoding));
            inner.integer(3, code(*def_level_encoding));
            inner.integer(4, code(*rep_level_encoding));
            header.bytes.extend(inner.end());
        }
        Page::DictionaryPage { encoding, is_sorted, .. } => {
            header.structure(7);
            let mut inner = Fields::default();
            inner.integer(1, values);
            inner.integer(2, code(*encoding));
            inner.boolean(3, *is_sorted);
            header.bytes.extend(inner.end());
        }
        Page::DataPageV2 { .. } => {
            let kind = PageType::DATA_PAGE_V2;
            return Err(ParquetError::General(format!("page: {kind}: expected a first-version data page")));
        }
    }
    Ok(header.end())
}

fn size(bytes: usize) -> Result<i32> {
    i32::try_from(bytes).map_err(|_| ParquetError::General(format!("page: {bytes} bytes: expected less than 2 GiB")))
}

fn code(encoding: Encoding) -> i32 {
    encoding as i32
}

/// The fields of one Thrift compact struct, written in rising order of their ids.
#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    last: u8,
}

impl Fields {
    /// A field header in its short form: the distance to the field before and the type.
    fn header(&mut self, id: u8, kind: u8) {
        self.bytes.push(((id - self.last) << 4) | kind);
        self.last = id;
    }

    fn integer(&mut self, id: u8, value: i32) {
        self.header(id, I32);
        let mut zigzag = ((value << 1) ^ (value >> 31)) as u32;
        while zigzag >= 0x80 {
            self.bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        self.bytes.push(zigzag as u8);
    }

    fn boolean(&mut self, id: u8, value: bool) {
        self.header(id, if value { BOOLEAN_TRUE } else { BOOLEAN_FALSE });
    }

    fn structure(&mut self, id: u8) {
        self.header(id, STRUCT);
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_thrift_compact() {
        let buf = bytes::Bytes::from_static(b"123456789");
        let page = Page::DataPage {
            buf,
            num_values: 3,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        // CRC-32 of "123456789" is 0xcbf43926, the published check value; as an i32 -873187034, zigzag 1746374067.
        let header = header_of(&CompressedPage::new(page, 200)).unwrap();
        let expected = [
            0x15, 0x00, 0x15, 0x90, 0x03, 0x15, 0x12, 0x15, 0xb3, 0x9b, 0xde, 0xc0, 0x06, 0x1c, 0x15, 0x06, 0x15, 0x00, 0x15,
            0x06, 0x15, 0x06, 0x00, 0x00,
        ];
        assert_eq!(header, expected);
    }
}
