//! MIMIC-CXR reports as `PhysioNet` publishes them: one text file a study, `files/p10/p10000032/s50414267.txt`.
//!
//! An object is one report, a tar of such a tree in any compression, or the published zip; its first bytes tell which. Study
//! and patient are taken from the path, and text verbatim, marks of de-identification included. What `PhysioNet` puts beside
//! the reports (lists, licence, read-me, index) is passed over and is no record; any other text file is a reject.

use std::io::{self, Cursor, Read};

use crate::compression::{StreamFault, without_compression};
use crate::input::{ByteStream, Input, RangeRead};
use crate::member::{Entry, Member};
use crate::mimic::RELEASE;
use crate::parquet_reader::MAX_STREAMED_BYTES;
use crate::part::{Part, tail_of};
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::RejectReason;
use crate::tar::{Tar, is_empty_tar, is_tar};
use crate::tar_header::BLOCK_BYTES;
use crate::zip::{Zip, is_zip};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes that tell a zip.
const ZIP_MAGIC_BYTES: usize = 4;
const REPORT: &str = ".txt";
/// Beginnings of the names of text files that are published beside reports.
const BESIDE_REPORTS: [&str; 3] = ["license", "readme", "sha256sums"];
/// Most digits of a study or patient.
const MAX_DIGITS: usize = 20;

/// Reads MIMIC-CXR reports.
///
/// `native_id` is the study as `s50414267`. Meta: `release` (`mimic-cxr`, whose patients are those of MIMIC-IV), `subject_id`
/// and `study_id` in digits, and `member` for those of an archive.
/// Offsets are those of the content in the decompressed tar, and in a zip those of the member as it is stored.
#[derive(Debug)]
pub struct MimicCxrReader {
    context: SourceContext,
    record_bytes: u64,
    shape: Shape,
    /// Reports that end before this offset are not wanted.
    wanted_from: u64,
}

#[derive(Debug)]
enum Shape {
    Report(ByteStream),
    Tar(Tar),
    Zip(Box<Zip>),
    Refused(RejectReason),
    Ended,
}

/// A report, or why there is none, and its place.
struct Report {
    offset: u64,
    bytes: u64,
    content: Result<Vec<u8>, RejectReason>,
}

impl MimicCxrReader {
    /// Opens an object and reads its first block; a zip that comes as a stream is read into memory, up to 256 MiB.
    ///
    /// # Errors
    /// [`ReadError`] when the first bytes cannot be had.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        let (input, part) = tail_of(input);
        let begin = part.map_or(0, |part| part.first);
        let shape = Shape::of(input, part, limits).map_err(|error| context.read_error(begin, error))?;
        Ok(Self { context, record_bytes: limits.record_bytes, shape, wanted_from: 0 })
    }

    /// The only report of an object. A text file beside the reports gives nothing.
    fn single(&self, mut stream: ByteStream) -> Option<Result<Item, ReadError>> {
        let name = without_compression(&self.context.object);
        if is_beside_reports(name) {
            return None;
        }
        match read_up_to_limit(&mut stream, self.record_bytes) {
            Ok(content) => {
                let bytes = content.as_ref().map_or(0, |content| content.len() as u64);
                let empty = content.as_ref().is_ok_and(Vec::is_empty);
                let content = if empty { Err(RejectReason::EmptyObject) } else { content };
                Some(Ok(self.item(name, None, Report { offset: 0, bytes, content })))
            }
            Err(error) => Some(Err(self.context.read_error(stream.offset(), error))),
        }
    }

    fn next_of_tar(&self, tar: &mut Tar) -> Step {
        let entry = match tar.next() {
            Ok(entry) => entry,
            Err(error) => return Step::Failed(self.context.read_error(tar.offset(), error)),
        };
        let member = match self.report_of(entry) {
            Ok(member) => member,
            Err(step) => return step,
        };
        if member.ends_before(self.wanted_from) {
            return Step::Passed;
        }
        let Member { offset, size, .. } = member;
        match member_content(tar, size, self.record_bytes) {
            Ok(content) => Step::item(self.item(&member.name, Some(&member.name), Report { offset, bytes: size, content })),
            Err(error) => Step::Failed(self.context.read_error(tar.offset(), error)),
        }
    }

    fn next_of_zip(&self, zip: &mut Zip) -> Step {
        let entry = match zip.next() {
            Ok(entry) => entry,
            Err(error) => return Step::Failed(self.context.read_error(zip.offset(), error)),
        };
        let member = match self.report_of(entry) {
            Ok(member) => member,
            Err(step) => return step,
        };
        let Member { offset, size, .. } = member;
        match zip.content(self.record_bytes) {
            Ok(content) => Step::item(self.item(&member.name, Some(&member.name), Report { offset, bytes: size, content })),
            Err(error) => Step::Failed(self.context.read_error(offset, error)),
        }
    }

    /// The member, if it is a text file that should be a report.
    fn report_of(&self, entry: Entry) -> Result<Member, Step> {
        match entry {
            Entry::Member(member) if !member.is_directory && is_text(&member.name) && !is_beside_reports(&member.name) => {
                Ok(member)
            }
            Entry::Member(_) => Err(Step::Passed),
            Entry::Refused { offset, bytes, reason } => Err(self.rejected(offset, bytes, reason)),
            Entry::Fault { offset, reason } => Err(self.rejected(offset, 0, reason)),
            Entry::End => Err(Step::End),
        }
    }

    fn rejected(&self, offset: u64, bytes: u64, reason: RejectReason) -> Step {
        Step::item(Item::Reject(self.context.reject(offset, bytes, reason)))
    }

    fn item(&self, path: &str, member: Option<&str>, report: Report) -> Item {
        let Report { offset, bytes, content } = report;
        // What is wrong with the stream comes before what is wrong with the name.
        let read = content.and_then(|content| {
            let study = Study::of_path(path).ok_or_else(unknown_layout)?;
            Ok((study, text_of(content)?))
        });
        let (study, text) = match read {
            Ok(read) => read,
            Err(reason) => return Item::Reject(self.context.reject(offset, bytes, reason)),
        };
        let mut document = self.context.document(format!("s{}", study.study), text, offset);
        let facts = [(RELEASE, "mimic-cxr"), ("subject_id", study.subject), ("study_id", study.study)];
        for (name, value) in facts.into_iter().chain(member.map(|member| ("member", member))) {
            document.meta.insert(name.to_owned(), value.to_owned());
        }
        Item::Document(document)
    }
}

impl Reader for MimicCxrReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        loop {
            let mut shape = std::mem::replace(&mut self.shape, Shape::Ended);
            let step = match &mut shape {
                Shape::Ended => return None,
                Shape::Refused(reason) => return Some(Ok(Item::Reject(self.context.reject(0, 0, reason.clone())))),
                Shape::Report(_) => {
                    let Shape::Report(stream) = shape else { return None };
                    return self.single(stream);
                }
                Shape::Tar(tar) => self.next_of_tar(tar),
                Shape::Zip(zip) => self.next_of_zip(zip),
            };
            match step {
                Step::End => return None,
                Step::Failed(error) => return Some(Err(error)),
                Step::Passed => self.shape = shape,
                Step::Item(item) => {
                    self.shape = shape;
                    return Some(Ok(*item));
                }
            }
        }
    }

    fn pass_to(&mut self, offset: u64) {
        self.wanted_from = offset;
    }
}

/// What one entry of an archive gave.
enum Step {
    Item(Box<Item>),
    Passed,
    Failed(ReadError),
    End,
}

impl Step {
    fn item(item: Item) -> Self {
        Self::Item(Box::new(item))
    }
}

impl Shape {
    fn of(input: Input, part: Option<Part>, limits: &Limits) -> io::Result<Self> {
        let input = match input {
            Input::Random(object) => {
                let head = object.read_at(0, object.len().min(ZIP_MAGIC_BYTES as u64) as usize)?;
                if is_zip(&head) {
                    return Self::of_zip(object, limits);
                }
                Input::Random(object)
            }
            Input::Stream(mut stream) => {
                let mut head = Vec::new();
                (&mut stream).take(ZIP_MAGIC_BYTES as u64).read_to_end(&mut head)?;
                let zip = is_zip(&head);
                let whole = Cursor::new(head).chain(stream);
                if zip {
                    return Self::of_streamed_zip(whole, limits);
                }
                Input::Stream(Box::new(whole))
            }
            decoded @ Input::Decoded(_) => decoded,
        };
        let mut stream = ByteStream::new(input, limits);
        match stream.peek(BLOCK_BYTES) {
            Ok(head) if is_tar(head) || is_empty_tar(head) => Ok(Self::Tar(Tar::new(stream, part, limits))),
            Ok(_) => Ok(Self::Report(stream)),
            Err(error) => match StreamFault::of(&error) {
                Some(StreamFault(reason)) => Ok(Self::Refused(reason.clone())),
                None => Err(error),
            },
        }
    }

    fn of_zip(object: Box<dyn RangeRead>, limits: &Limits) -> io::Result<Self> {
        let opened = Zip::open(object, limits)?;
        Ok(opened.map_or_else(Self::Refused, |zip| Self::Zip(Box::new(zip))))
    }

    fn of_streamed_zip(stream: impl Read, limits: &Limits) -> io::Result<Self> {
        let mut bytes = Vec::new();
        stream.take(MAX_STREAMED_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_STREAMED_BYTES {
            return Ok(Self::Refused(RejectReason::over_limit("streamed_bytes", MAX_STREAMED_BYTES)));
        }
        Self::of_zip(Box::new(bytes), limits)
    }
}

/// Study and patient of a report, in digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Study<'a> {
    subject: &'a str,
    study: &'a str,
}

impl<'a> Study<'a> {
    /// From the end of a path: `p10000032/s50414267.txt`.
    fn of_path(path: &'a str) -> Option<Self> {
        let mut parts = path.rsplit('/');
        let file = parts.next().filter(|file| is_text(file))?;
        let study = digits_behind('s', &file[..file.len() - REPORT.len()])?;
        let subject = digits_behind('p', parts.next()?)?;
        Some(Self { subject, study })
    }
}

fn digits_behind(letter: char, name: &str) -> Option<&str> {
    let digits = name.strip_prefix(letter)?;
    let valid = (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then_some(digits)
}

fn is_text(name: &str) -> bool {
    let begin = name.len().checked_sub(REPORT.len());
    begin.and_then(|begin| name.get(begin..)).is_some_and(|end| end.eq_ignore_ascii_case(REPORT))
}

fn is_beside_reports(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    is_text(&file) && BESIDE_REPORTS.iter().any(|begin| file.starts_with(begin))
}

fn unknown_layout() -> RejectReason {
    RejectReason::UnknownLayout { expected: "a path that ends as pSUBJECT/sSTUDY.txt".to_owned() }
}

fn text_of(mut content: Vec<u8>) -> Result<String, RejectReason> {
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    let text = String::from_utf8(content).map_err(|_| RejectReason::InvalidUtf8)?;
    if text.trim().is_empty() { Err(RejectReason::EmptyRecord) } else { Ok(text) }
}

/// The content of a tar's current member. Over the limit it is not read at all.
fn member_content(tar: &mut Tar, size: u64, limit: u64) -> io::Result<Result<Vec<u8>, RejectReason>> {
    if size > limit {
        return Ok(Err(RejectReason::over_limit("record_bytes", limit)));
    }
    let mut content = Vec::new();
    while (content.len() as u64) < size {
        match tar.content() {
            Ok(bytes) => content.extend_from_slice(&bytes),
            // It ends the tar too, and is reported with this report.
            Err(error) => return reason_of(error).map(Err),
        }
    }
    Ok(Ok(content))
}

/// All bytes; those over the limit are not held.
fn read_up_to_limit(stream: &mut ByteStream, limit: u64) -> io::Result<Result<Vec<u8>, RejectReason>> {
    let mut content = Vec::new();
    loop {
        match stream.take_block(u64::MAX) {
            Ok(bytes) if bytes.is_empty() => return Ok(Ok(content)),
            Ok(bytes) if content.len() as u64 + bytes.len() as u64 > limit => {
                return Ok(Err(RejectReason::over_limit("record_bytes", limit)));
            }
            Ok(bytes) => content.extend_from_slice(&bytes),
            Err(error) => return reason_of(error).map(Err),
        }
    }
}

fn reason_of(error: io::Error) -> io::Result<RejectReason> {
    match StreamFault::of(&error) {
        Some(StreamFault(reason)) => Ok(reason.clone()),
        None => Err(error),
    }
}
