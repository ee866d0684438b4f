//! PMC bulk packages: a tar, compressed or not, whose `.xml` and `.nxml` members are JATS articles.
//!
//! Members are read as they stream by, each by a [`JatsReader`] of its own; others (lists, licences, images) are passed over
//! and are no records. Offsets are those of the decompressed tar, also in a part of it. What is wrong
//! inside a member costs that member alone.

use std::io::{self, BufRead};

use crate::compression::StreamFault;
use crate::decoded::DecodedBlocks;
use crate::input::{ByteStream, Input};
use crate::jats::JatsReader;
use crate::member::{Entry, Member};
use crate::part::{Part, part_of, tail_of};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::{Reject, RejectReason};
use crate::tar::{SharedTar, Tar, is_empty_tar, is_tar};
use crate::tar_header::{BLOCK_BYTES, Header};

/// Endings of members that are articles, in any case.
const ARTICLES: [&str; 2] = [".xml", ".nxml"];

/// Reads PMC bulk packages. Documents are those of [`JatsReader`], with the member's name as `member` in the meta data.
#[derive(Debug)]
pub struct PmcTarReader {
    context: SourceContext,
    limits: Limits,
    tar: SharedTar,
    /// Why the object is not read at all.
    refused: Option<RejectReason>,
    article: Option<Article>,
    /// Members that end before this offset are not wanted.
    wanted_from: u64,
    ended: bool,
}

/// A member being read.
#[derive(Debug)]
struct Article {
    reader: JatsReader,
    name: String,
    offset: u64,
    /// The reason of its last item, if that was a reject.
    last_reason: Option<RejectReason>,
}

impl PmcTarReader {
    /// Opens an object and reads its first block.
    ///
    /// # Errors
    /// [`ReadError`] when the first bytes cannot be had.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let (input, part) = tail_of(input);
        let mut stream = ByteStream::new(input, limits);
        let refused = match refusal_of(&mut stream) {
            Ok(refused) => refused,
            Err(error) => match StreamFault::of(&error) {
                Some(StreamFault(reason)) => Some(reason.clone()),
                None => return Err(context.read_error(begin_of(part), error)),
            },
        };
        Ok(Self { refused, ..Self::of_stream(context, stream, part, limits) })
    }

    fn of_stream(context: SourceContext, stream: ByteStream, part: Option<Part>, limits: &Limits) -> Self {
        let tar = SharedTar::new(Tar::new(stream, part, limits));
        Self { context, limits: limits.clone(), tar, refused: None, article: None, wanted_from: 0, ended: false }
    }

    /// The next item of the open article; none behind its last.
    fn next_of_article(&mut self) -> Option<Result<Item, ReadError>> {
        let article = self.article.as_mut()?;
        let item = article.reader.next().map(|item| article.place(item));
        match &item {
            Some(Ok(_)) => item,
            Some(Err(_)) => {
                self.ended = true;
                item
            }
            None => self.end_article(),
        }
    }

    /// A fault of the archive that the article's reader did not report comes last.
    fn end_article(&mut self) -> Option<Result<Item, ReadError>> {
        let article = self.article.take()?;
        let (fault, offset) = {
            let mut tar = self.tar.lock();
            (tar.take_content_fault(), tar.offset())
        };
        let fault = fault.filter(|reason| article.last_reason.as_ref() != Some(reason))?;
        Some(Ok(Item::Reject(self.context.reject(offset, 0, fault))))
    }

    fn next_entry(&mut self) -> Option<Result<Item, ReadError>> {
        let (entry, place) = {
            let mut tar = self.tar.lock();
            (tar.next(), tar.offset())
        };
        let rejected = match entry {
            Ok(Entry::Member(member)) => return self.begin_article(member),
            Ok(Entry::Refused { offset, bytes, reason }) => self.context.reject(offset, bytes, reason),
            Ok(Entry::Fault { offset, reason }) => self.context.reject(offset, 0, reason),
            Ok(Entry::End) => {
                self.ended = true;
                return None;
            }
            Err(error) => {
                self.ended = true;
                return Some(Err(self.context.read_error(place, error)));
            }
        };
        Some(Ok(Item::Reject(rejected)))
    }

    /// Passes over members that are no articles, and those that are not wanted.
    fn begin_article(&mut self, member: Member) -> Option<Result<Item, ReadError>> {
        if member.is_directory || !is_article(&member.name) || member.ends_before(self.wanted_from) {
            return None;
        }
        let content: Box<dyn DecodedBlocks> = Box::new(self.tar.clone());
        match JatsReader::open(self.context.clone(), Input::Decoded(content), &self.limits) {
            Ok(reader) => {
                let Member { name, offset, .. } = member;
                self.article = Some(Article { reader, name, offset, last_reason: None });
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(shifted(error, member.offset)))
            }
        }
    }
}

impl Reader for PmcTarReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        if let Some(reason) = self.refused.take() {
            self.ended = true;
            return Some(Ok(Item::Reject(self.context.reject(0, 0, reason))));
        }
        while !self.ended {
            let item = if self.article.is_some() { self.next_of_article() } else { self.next_entry() };
            if item.is_some() {
                return item;
            }
        }
        None
    }

    fn pass_to(&mut self, offset: u64) {
        self.wanted_from = offset;
    }
}

impl Article {
    /// The item with its place in the archive instead of that in the member.
    fn place(&mut self, item: Result<Item, ReadError>) -> Result<Item, ReadError> {
        let mut item = item.map_err(|error| shifted(error, self.offset))?;
        self.last_reason = None;
        match &mut item {
            Item::Document(document) => {
                document.origin.byte_offset += self.offset;
                document.meta.insert("member".to_owned(), self.name.clone());
            }
            Item::Reject(reject) => {
                reject.byte_offset += self.offset;
                self.last_reason = Some(reject.reason.clone());
            }
            Item::Withdrawal(notice) => notice.byte_offset += self.offset,
        }
        Ok(item)
    }
}

/// Why a stream is no tar, if so. A stream that is cut too early to tell gives its fault.
fn refusal_of(stream: &mut ByteStream) -> io::Result<Option<RejectReason>> {
    let head = stream.peek(BLOCK_BYTES)?;
    if is_tar(head) || is_empty_tar(head) {
        return Ok(None);
    }
    let length = head.len();
    if length == 0 {
        return Ok(Some(RejectReason::EmptyObject));
    }
    if length < BLOCK_BYTES {
        stream.consume(length);
        stream.fill_buf()?;
    }
    Ok(Some(RejectReason::NotTar))
}

fn begin_of(part: Option<Part>) -> u64 {
    part.map_or(0, |part| part.first)
}

fn shifted(error: ReadError, by: u64) -> ReadError {
    let ReadError::Io { object, byte_offset, source } = error;
    ReadError::Io { object, byte_offset: byte_offset + by, source }
}

fn is_article(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ARTICLES.iter().any(|ending| name.ends_with(ending))
}

/// An object that is not read at all.
pub(crate) struct Refused(Option<Reject>);

impl Reader for Refused {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        self.0.take().map(|reject| Ok(Item::Reject(reject)))
    }
}

/// The input of a format that reads no archives, unless it is a tar: its headers would be taken for text.
pub(crate) fn without_tar(context: &SourceContext, input: Input, limits: &Limits) -> Result<Result<Input, Refused>, ReadError> {
    if part_of(&input).is_some() {
        return Ok(Ok(input));
    }
    let mut stream = ByteStream::new(input, limits);
    let packed = match stream.peek(BLOCK_BYTES) {
        Ok(head) => head.first_chunk().is_some_and(|block| Header::parse(block).is_ok()),
        // It comes again, and is the reader's to report.
        Err(error) if StreamFault::of(&error).is_some() => false,
        Err(error) => return Err(context.read_error(0, error)),
    };
    if packed {
        let reason = RejectReason::UnsupportedCompression { compression: "tar".to_owned() };
        return Ok(Err(Refused(Some(context.reject(0, 0, reason)))));
    }
    Ok(Ok(Input::Decoded(Box::new(stream))))
}

/// Opens JATS: articles in XML, or a package of them told by its first block.
pub(crate) fn open_jats(context: SourceContext, input: Input, limits: &Limits) -> Result<Box<dyn Reader>, ReadError> {
    let (input, part) = tail_of(input);
    let mut stream = ByteStream::new(input, limits);
    let packed = match stream.peek(BLOCK_BYTES) {
        Ok(head) => is_tar(head),
        // It comes again, and is the reader's to report.
        Err(error) if StreamFault::of(&error).is_some() => false,
        Err(error) => return Err(context.read_error(begin_of(part), error)),
    };
    if packed {
        return Ok(Box::new(PmcTarReader::of_stream(context, stream, part, limits)));
    }
    Ok(Box::new(JatsReader::open(context, Input::Decoded(Box::new(stream)), limits)?))
}
