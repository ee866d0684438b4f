//! Columns of a Parquet row group as cells of text, a few rows at a time.
//!
//! Values are taken from the pages without being copied, so that a dictionary value repeated a million times costs nothing
//! until its rows are read. Lists, maps and fixed-length binaries are not read.

use parquet::basic::{ConvertedType, Encoding, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::RowGroupReader;
use parquet::schema::types::ColumnDescriptor;

use crate::row::Cell;

/// Rows decoded at a time. One where values are built from the value before: there a page can hold far more than its size.
const BATCH_ROWS: usize = 128;

/// What the integers or bytes of a column mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Plain,
    Unsigned,
    /// Days since 1970.
    Date,
    /// Since 1970, this many in a second.
    Timestamp(i64),
    /// Digits behind the point.
    Decimal(u32),
}

/// A column that can be read: flat, and of a type with a spelling.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// Place among the leaves of the schema.
    pub(crate) index: usize,
    /// Name, with dots between the levels of a struct.
    pub(crate) name: String,
    /// Whether the values are texts.
    pub(crate) is_text: bool,
    meaning: Meaning,
    defined: i16,
}

impl Column {
    /// The column, unless it is a list or of a type that has no spelling here.
    pub(crate) fn of(index: usize, descriptor: &ColumnDescriptor) -> Option<Self> {
        if descriptor.max_rep_level() > 0 {
            return None;
        }
        let physical = descriptor.physical_type();
        let meaning = meaning_of(descriptor);
        let is_text = physical == Physical::BYTE_ARRAY;
        let readable = match physical {
            Physical::BYTE_ARRAY => !matches!(meaning, Meaning::Decimal(_)),
            Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY => false,
            _ => true,
        };
        let name = descriptor.path().string();
        readable.then_some(Self { index, name, is_text, meaning, defined: descriptor.max_def_level() })
    }

    /// Starts reading the column in one row group.
    pub(crate) fn cursor(&self, group: &dyn RowGroupReader) -> Result<Cursor> {
        let built = group.metadata().column(self.index).encodings().any(|e| e == Encoding::DELTA_BYTE_ARRAY);
        let reader = group.get_column_reader(self.index)?;
        Ok(Cursor {
            reader,
            batch_rows: if built { 1 } else { BATCH_ROWS },
            meaning: self.meaning,
            defined: self.defined,
            batch: Batch::Texts(Vec::new()),
            at: 0,
        })
    }
}

fn meaning_of(descriptor: &ColumnDescriptor) -> Meaning {
    if let Some(LogicalType::Timestamp(time)) = descriptor.logical_type_ref() {
        return Meaning::Timestamp(match time.unit {
            TimeUnit::MILLIS => 1_000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        });
    }
    match descriptor.converted_type() {
        ConvertedType::DATE => Meaning::Date,
        ConvertedType::TIMESTAMP_MILLIS => Meaning::Timestamp(1_000),
        ConvertedType::TIMESTAMP_MICROS => Meaning::Timestamp(1_000_000),
        ConvertedType::DECIMAL => Meaning::Decimal(descriptor.type_scale().clamp(0, 38) as u32),
        ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => Meaning::Unsigned,
        _ => Meaning::Plain,
    }
}

enum Batch {
    Texts(Vec<Option<ByteArray>>),
    Spelled(Vec<Option<String>>),
}

/// One column of one row group, read row by row.
pub(crate) struct Cursor {
    reader: ColumnReader,
    batch_rows: usize,
    meaning: Meaning,
    defined: i16,
    batch: Batch,
    at: usize,
}

impl Cursor {
    /// Goes to the next row.
    ///
    /// # Errors
    /// Those of the decoder, and when the column ends before its row group.
    pub(crate) fn advance(&mut self) -> Result<()> {
        let length = match &self.batch {
            Batch::Texts(values) => values.len(),
            Batch::Spelled(values) => values.len(),
        };
        self.at += 1;
        if self.at < length {
            return Ok(());
        }
        self.at = 0;
        self.batch = self.read_batch()?;
        Ok(())
    }

    /// The value of the row that [`Cursor::advance`] went to; `limit` bounds its bytes.
    pub(crate) fn cell(&self, limit: u64) -> std::result::Result<Cell, u64> {
        match &self.batch {
            Batch::Texts(values) => match values.get(self.at) {
                Some(Some(value)) if value.len() as u64 > limit => Err(value.len() as u64),
                Some(Some(value)) => {
                    Ok(std::str::from_utf8(value.data()).map_or(Cell::NotUtf8, |text| Cell::Scalar(text.to_owned())))
                }
                Some(None) | None => Ok(Cell::Absent),
            },
            Batch::Spelled(values) => Ok(values.get(self.at).cloned().flatten().map_or(Cell::Absent, Cell::Scalar)),
        }
    }

    fn read_batch(&mut self) -> Result<Batch> {
        let (rows, defined, meaning) = (self.batch_rows, self.defined, self.meaning);
        Ok(match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => spell(reader, rows, defined, ToString::to_string)?,
            ColumnReader::Int32ColumnReader(reader) => spell(reader, rows, defined, |value| match meaning {
                Meaning::Unsigned => value.cast_unsigned().to_string(),
                _ => spell_integer(i64::from(*value), meaning),
            })?,
            ColumnReader::Int64ColumnReader(reader) => spell(reader, rows, defined, |value| spell_integer(*value, meaning))?,
            ColumnReader::FloatColumnReader(reader) => spell(reader, rows, defined, ToString::to_string)?,
            ColumnReader::DoubleColumnReader(reader) => spell(reader, rows, defined, ToString::to_string)?,
            ColumnReader::ByteArrayColumnReader(reader) => Batch::Texts(read_values(reader, rows, defined, ByteArray::clone)?),
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                return Err(ParquetError::NYI("a column of this type".to_owned()));
            }
        })
    }
}

fn spell<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    defined: i16,
    spelling: impl Fn(&T::T) -> String,
) -> Result<Batch> {
    Ok(Batch::Spelled(read_values(reader, rows, defined, spelling)?))
}

/// At most `rows` values, at least one; null where the definition level says so.
fn read_values<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    defined: i16,
    convert: impl Fn(&T::T) -> V,
) -> Result<Vec<Option<V>>> {
    let mut levels = Vec::new();
    let mut values = Vec::new();
    let (records, found, _) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    if records == 0 {
        return Err(ParquetError::EOF("a column ends before its row group".to_owned()));
    }
    let mut values = values.iter().take(found);
    if defined == 0 {
        return Ok(values.map(|value| Some(convert(value))).collect());
    }
    Ok(levels.iter().take(records).map(|level| if *level == defined { values.next().map(&convert) } else { None }).collect())
}

fn spell_integer(value: i64, meaning: Meaning) -> String {
    match meaning {
        Meaning::Plain => value.to_string(),
        Meaning::Unsigned => value.cast_unsigned().to_string(),
        Meaning::Date => spell_date(value),
        Meaning::Timestamp(unit) => spell_time(value, unit),
        Meaning::Decimal(scale) => spell_decimal(value, scale),
    }
}

/// `YYYY-MM-DD` of a day since 1970 in the proleptic Gregorian calendar: the year begins in March, so that the leap day is its
/// last, and 400 years are one era of 146,097 days.
fn spell_date(days: i64) -> String {
    let shifted = i128::from(days) + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day_of_month:02}", year + era * 400 + carry)
}

fn spell_time(value: i64, unit: i64) -> String {
    let (seconds, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let clock = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    let width = unit.ilog10() as usize;
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:0width$}") };
    format!("{}T{clock}{fraction}", spell_date(days))
}

fn spell_decimal(value: i64, scale: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let width = scale as usize + 1;
    let digits = format!("{:0width$}", value.unsigned_abs());
    let point = digits.len() - scale as usize;
    if scale == 0 { format!("{sign}{digits}") } else { format!("{sign}{}.{}", &digits[..point], &digits[point..]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_spelled_in_iso_form() {
        for (days, expected) in
            [(0, "1970-01-01"), (19_782, "2024-02-29"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (47_482, "2100-01-01")]
        {
            assert_eq!(spell_date(days), expected);
        }
        assert_eq!(spell_time(1_700_000_000_123, 1_000), "2023-11-14T22:13:20.123");
        assert_eq!(spell_time(-1_000_000, 1_000_000), "1969-12-31T23:59:59");
        assert!(spell_date(i64::MAX).len() > 10 && spell_time(i64::MIN, 1_000).ends_with(".192"));
    }

    #[test]
    fn decimals_keep_their_digits() {
        assert_eq!(spell_decimal(12_345, 2), "123.45");
        assert_eq!(spell_decimal(-5, 3), "-0.005");
        assert_eq!(spell_decimal(7, 0), "7");
        assert_eq!(spell_integer(-1, Meaning::Unsigned), "18446744073709551615");
    }
}
