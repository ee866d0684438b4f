//! Decompression of an object ahead of its parser, on a thread of its own.
//!
//! It changes no byte: items and faults are those of decompressing where the parser runs.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use mellama_sources::{DecodedBlock, DecodedBlocks, Input, Limits, Part};
use mellama_storage::{Interrupt, StoreError};

/// Blocks of 256 KiB that wait; one more is being made and one is parsed.
const BLOCKS_AHEAD: usize = 4;

/// The input, decompressed by another thread from here on. The thread ends with the object, with a failure, or when the
/// result is dropped, which waits for it.
pub(super) fn ahead(input: Input, limits: &Limits) -> Input {
    let mut blocks = input.into_decoded(limits);
    let part = blocks.part();
    let (sender, receiver) = sync_channel(BLOCKS_AHEAD);
    let thread = std::thread::spawn(move || {
        loop {
            let block = blocks.next_block();
            let is_last = block.as_ref().map_or_else(|error| !is_interruption(error), |block| block.bytes.is_empty());
            // Nobody receives any more where the reader stopped early.
            if sender.send(block).is_err() || is_last {
                return;
            }
        }
    });
    Input::Decoded(Box::new(Ahead { receiver: Some(receiver), thread: Some(thread), part }))
}

/// The input, decompressed where it is not yet, which ends with [`StoreError::Interrupted`] at the next block once the process is
/// asked to stop: a record may be long, and what is passed over longer.
pub(super) fn watched(input: Input, limits: &Limits, interrupt: &Interrupt, object: &str) -> Input {
    let (interrupt, object) = (interrupt.clone(), object.to_owned());
    Input::Decoded(Box::new(Watched { blocks: input.into_decoded(limits), interrupt, object }))
}

struct Watched {
    blocks: Box<dyn DecodedBlocks>,
    interrupt: Interrupt,
    object: String,
}

impl DecodedBlocks for Watched {
    fn next_block(&mut self) -> io::Result<DecodedBlock> {
        if self.interrupt.is_asked() {
            return Err(StoreError::Interrupted { object: self.object.clone() }.into());
        }
        self.blocks.next_block()
    }

    fn part(&self) -> Option<Part> {
        self.blocks.part()
    }
}

/// After an interruption a reader asks again; after any other error it does not.
fn is_interruption(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// The receiving end.
struct Ahead {
    receiver: Option<Receiver<io::Result<DecodedBlock>>>,
    thread: Option<JoinHandle<()>>,
    part: Option<Part>,
}

impl DecodedBlocks for Ahead {
    fn next_block(&mut self) -> io::Result<DecodedBlock> {
        match self.receiver.as_ref().map(Receiver::recv) {
            Some(Ok(block)) => block,
            Some(Err(_)) | None => Err(self.gone()),
        }
    }

    fn part(&self) -> Option<Part> {
        self.part
    }
}

impl Ahead {
    /// The thread ended before the object did, which is no end of the object. A panic of it goes on here.
    fn gone(&mut self) -> io::Error {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            resume_unwind(panic);
        }
        io::Error::other("decompression ended before the object did")
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The thread waits in `send` until there is no receiver.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic that nobody saw concerned bytes that nobody asked for.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use mellama_sources::ByteStream;

    use super::*;

    /// Bytes without end, counted as they are read.
    struct Endless(Arc<AtomicU64>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            self.0.fetch_add(buffer.len() as u64, Ordering::SeqCst);
            Ok(buffer.len())
        }
    }

    fn stream(reader: impl Read + Send + 'static) -> ByteStream {
        let limits = Limits::default();
        ByteStream::new(ahead(Input::Stream(Box::new(BufReader::new(reader))), &limits), &limits)
    }

    #[test]
    fn bytes_are_those_of_the_object() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let stored = [b"x".as_slice(), &bytes].concat();
        let mut read = Vec::new();
        stream(Cursor::new(stored.clone())).read_to_end(&mut read).unwrap();
        assert!(read == stored);
    }

    #[test]
    fn no_more_is_held_than_the_bound_and_the_thread_ends_with_the_reader() {
        let read = Arc::new(AtomicU64::new(0));
        let mut reader = stream(Endless(Arc::clone(&read)));
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        drop(reader);
        // The thread held the only other one, and has ended.
        assert_eq!(Arc::strong_count(&read), 1);
        // Blocks that wait, the one that is parsed, the one that waits to be sent, and what the decoder looked at first.
        let bound = (BLOCKS_AHEAD as u64 + 3) * (256 << 10);
        assert!(read.load(Ordering::SeqCst) <= bound, "{read:?}");
    }

    #[test]
    fn a_watched_input_is_the_same_until_the_process_is_asked_to_stop() {
        let bytes = vec![b'x'; 3 << 20];
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let interrupt = Interrupt::new(move || count.fetch_add(1, Ordering::SeqCst) >= 5);
        let limits = Limits::default();
        let watched = watched(Input::from_bytes(bytes.clone()), &limits, &interrupt, "a.gz");
        let mut read = Vec::new();
        let error = ByteStream::new(watched, &limits).read_to_end(&mut read).unwrap_err();
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
        assert!(matches!(cause, Some(StoreError::Interrupted { object }) if object == "a.gz"), "{error:?}");
        assert_eq!(read, bytes[..5 * (256 << 10)]);
        let watched = super::watched(Input::from_bytes(bytes.clone()), &limits, &Interrupt::default(), "a.gz");
        read.clear();
        ByteStream::new(watched, &limits).read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn failures_of_the_store_come_as_they_are() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the store's own words"))
            }
        }
        let text = vec![b'x'; 3 << 20];
        let mut read = Vec::new();
        let error = stream(Cursor::new(text.clone()).chain(Fails)).read_to_end(&mut read).unwrap_err();
        assert_eq!(
            (read == text, error.kind(), error.to_string().as_str()),
            (true, io::ErrorKind::UnexpectedEof, "the store's own words")
        );
    }

    #[test]
    fn a_sender_that_is_gone_is_an_error_and_no_end() {
        let (sender, receiver) = sync_channel(1);
        sender.send(Ok(DecodedBlock { bytes: b"half".as_slice().into(), stored_bytes: 4 })).unwrap();
        drop(sender);
        let half = Input::Decoded(Box::new(Ahead { receiver: Some(receiver), thread: None, part: None }));
        let mut read = Vec::new();
        let error = ByteStream::new(half, &Limits::default()).read_to_end(&mut read).unwrap_err();
        assert_eq!((read.as_slice(), error.kind()), (&b"half"[..], io::ErrorKind::Other));
    }

    #[test]
    #[should_panic(expected = "a fault in the decoder")]
    fn a_panic_of_the_thread_is_one_of_the_reader() {
        struct Panics;
        impl Read for Panics {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("a fault in the decoder")
            }
        }
        let _ = stream(Panics).read_to_end(&mut Vec::new());
    }
}
