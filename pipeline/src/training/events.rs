//! Event files of `TensorBoard`: records of scalars, as its own writers make them (`TFRecord` framing, `event.proto`,
//! `summary.proto`).
//!
//! A record is the length as u64, a checksum of it, the data, a checksum of them; a checksum is a CRC-32C, rotated and shifted by a
//! constant. Only what a scalar needs of the messages is written.

/// Added to a rotated CRC-32C.
const MASK: u32 = 0xa282_ead8;
/// What the first event says.
const VERSION: &str = "brain.Event:2";
/// Protobuf's wire types.
const VARINT: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const DELIMITED: u8 = 2;
const FOUR_BYTES: u8 = 5;

/// An event file in memory.
#[derive(Debug)]
pub(crate) struct EventFile {
    bytes: Vec<u8>,
}

impl EventFile {
    /// A file that begins at a time, in seconds since 1970.
    pub(crate) fn new(wall_time: f64) -> Self {
        let mut file = Self { bytes: Vec::new() };
        let mut event = wall(wall_time);
        delimited(&mut event, 3, VERSION.as_bytes());
        file.record(&event);
        file
    }

    /// Adds scalars of one step, named in the style of paths.
    pub(crate) fn scalars<'a>(&mut self, (wall_time, step): (f64, u64), scalars: impl IntoIterator<Item = (&'a str, f64)>) {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            delimited(&mut entry, 1, tag.as_bytes());
            entry.push(key(2, FOUR_BYTES));
            entry.extend((value as f32).to_le_bytes());
            delimited(&mut summary, 1, &entry);
        }
        let mut event = wall(wall_time);
        if step > 0 {
            event.push(key(2, VARINT));
            varint(&mut event, step);
        }
        delimited(&mut event, 5, &summary);
        self.record(&event);
    }

    /// The file.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn record(&mut self, data: &[u8]) {
        let length = (data.len() as u64).to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend(checksum(&length));
        self.bytes.extend(data);
        self.bytes.extend(checksum(data));
    }
}

fn checksum(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

/// An event of this time.
fn wall(seconds: f64) -> Vec<u8> {
    let mut event = vec![key(1, EIGHT_BYTES)];
    event.extend(seconds.to_le_bytes());
    event
}

fn key(field: u8, wire: u8) -> u8 {
    field << 3 | wire
}

fn delimited(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(key(field, DELIMITED));
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::EventFile;

    /// What `RecordWriter` and the messages of tensorboard 2.21 make of the same three events.
    const WRITTEN_BY_TENSORBOARD: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c33000000000000000ca7205609000000000000044010ac022a250a110a0a747261696e2f6c6f737315000010400a100a0973706565642f6d6675150000000002ef96011500000000000000d6ab6b2b0900000000000004402a0a0a080a0161150000803f9b9b3a2c";

    #[test]
    fn events_have_the_bytes_that_tensorboard_writes() {
        let mut file = EventFile::new(1.5);
        file.scalars((2.5, 300), [("train/loss", 2.25), ("speed/mfu", 0.0)]);
        file.scalars((2.5, 0), [("a", 1.0)]);
        let digit = |at: usize| u8::from_str_radix(&WRITTEN_BY_TENSORBOARD[2 * at..2 * at + 2], 16).unwrap();
        let expected: Vec<u8> = (0..WRITTEN_BY_TENSORBOARD.len() / 2).map(digit).collect();
        assert_eq!(file.into_bytes(), expected);
    }
}
