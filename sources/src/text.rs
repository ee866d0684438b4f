//! Plain text: one object, one document, named by the object. It has no title.

use std::io::{self, Read};

use crate::compression::StreamFault;
use crate::input::{ByteStream, Input};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::RejectReason;
use crate::row::is_usable_id;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads plain text.
#[derive(Debug)]
pub struct TextReader {
    context: SourceContext,
    limit: u64,
    /// Taken by the first call.
    stream: Option<ByteStream>,
}

impl TextReader {
    /// Opens an object; nothing is read yet.
    ///
    /// # Errors
    /// None today; the signature is that of every reader.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let stream = Some(ByteStream::new(input, limits));
        Ok(Self { context, limit: limits.record_bytes, stream })
    }

    fn item(&self, read: Result<Vec<u8>, RejectReason>) -> Item {
        let length = read.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match read.and_then(|bytes| self.text(bytes)) {
            Ok(text) => Item::Document(self.context.document(self.context.object.clone(), text, 0)),
            Err(reason) => Item::Reject(self.context.reject(0, length, reason)),
        }
    }

    fn text(&self, mut bytes: Vec<u8>) -> Result<String, RejectReason> {
        if bytes.is_empty() {
            return Err(RejectReason::EmptyObject);
        }
        if bytes.len() as u64 > self.limit {
            return Err(RejectReason::over_limit("record_bytes", self.limit));
        }
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        let text = String::from_utf8(bytes).map_err(|_| RejectReason::InvalidUtf8)?;
        if text.trim().is_empty() {
            return Err(RejectReason::EmptyRecord);
        }
        if !is_usable_id(&self.context.object) {
            return Err(RejectReason::InvalidValue { field: "object".to_owned() });
        }
        Ok(text)
    }
}

impl Reader for TextReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        let mut stream = self.stream.take()?;
        match read_bounded(&mut stream, self.limit) {
            Ok(read) => Some(Ok(self.item(read))),
            Err(error) => Some(Err(self.context.read_error(stream.offset(), error))),
        }
    }
}

/// All bytes, or one more than the limit.
fn read_bounded(stream: &mut ByteStream, limit: u64) -> io::Result<Result<Vec<u8>, RejectReason>> {
    let mut bytes = Vec::new();
    match stream.take(limit.saturating_add(1)).read_to_end(&mut bytes) {
        Ok(_) => Ok(Ok(bytes)),
        Err(error) => match StreamFault::of(&error) {
            Some(fault) => Ok(Err(fault.0.clone())),
            None => Err(error),
        },
    }
}
