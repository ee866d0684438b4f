//! The little of the protocol buffer wire format that a `SentencePiece` model needs: tags, varints, fixed words and
//! length-delimited fields over a slice. It knows no schema and never allocates.

use super::Refusal;

/// One field: its number and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
}

/// A field's value by wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Fields of one message, in file order. Groups (deprecated since 2008) are malformed here.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of `bytes` in the file, for messages.
    base: u64,
}

impl<'a> Fields<'a> {
    /// Fields of the message `bytes`, which begins at byte `base` of the file.
    pub(super) fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { bytes, at: 0, base }
    }

    /// The next field, or `None` at the end of the message.
    pub(super) fn next_field(&mut self) -> Result<Option<Field<'a>>, Refusal> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint("a field tag")?;
        let number = u32::try_from(tag >> 3).map_err(|_| self.malformed("a field number"))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint("a varint")?),
            1 => {
                self.take(8, "a 64-bit word")?;
                Value::Fixed64
            }
            2 => {
                let length = self.varint("a length")?;
                let length = usize::try_from(length).map_err(|_| self.malformed("a length in the file"))?;
                Value::Bytes(self.take(length, "as many bytes as the length says")?)
            }
            5 => {
                let word = self.take(4, "a 32-bit word")?;
                Value::Fixed32(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            }
            _ => return Err(self.malformed("a known wire type")),
        };
        if number == 0 {
            return Err(self.malformed("a field number above 0"));
        }
        Ok(Some(Field { number, value }))
    }

    /// Offset in the file of the end of the field read last.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    fn varint(&mut self, what: &'static str) -> Result<u64, Refusal> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1, what)?[0];
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a varint of at most 64 bits"))
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Refusal> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.malformed(what))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn malformed(&self, what: &'static str) -> Refusal {
        Refusal::Malformed { offset: self.offset(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<&[Field<'_>], u64>) {
        let mut fields = Fields::new(bytes, 0);
        let mut found = Vec::new();
        let result = loop {
            match fields.next_field() {
                Ok(Some(field)) => found.push(field),
                Ok(None) => break Ok(found.as_slice()),
                Err(Refusal::Malformed { offset, .. }) => break Err(offset),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(result, expected, "{bytes:02x?}");
    }

    #[test]
    fn reads_every_wire_type_and_refuses_the_rest() {
        let field = |number, value| Field { number, value };
        check(b"", Ok(&[]));
        check(b"\x08\x96\x01", Ok(&[field(1, Value::Varint(150))]));
        check(b"\x12\x02ab", Ok(&[field(2, Value::Bytes(b"ab"))]));
        check(b"\x15\x00\x00\x80\x3f", Ok(&[field(2, Value::Fixed32(0x3f80_0000))]));
        check(b"\x09\x00\x00\x00\x00\x00\x00\x00\x00", Ok(&[field(1, Value::Fixed64)]));
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Ok(&[field(1, Value::Varint(u64::MAX))]));
        check(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Err(11));
        check(b"\x08", Err(1));
        check(b"\x0b", Err(1));
        check(b"\x12\x05ab", Err(2));
        check(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab", Err(11));
        check(b"\x15\x00\x00", Err(1));
        check(b"\x00\x00", Err(2));
    }
}
