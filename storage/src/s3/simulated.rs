//! A bucket in memory that answers as S3 does, and fails as a script says: before or after a request takes effect, with any
//! trouble, or with half of a body. For tests; time stands still in it.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::remote::{From, Got, Head, OpenUpload, Page, PartTag, Remote, UploadsMarker, UploadsPage};
use super::trouble::Trouble;
use crate::key::ETag;
use crate::usage::Request;

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Strike {
    /// It fails and does nothing.
    Before(Trouble),
    /// It takes effect and its answer is lost.
    After(Trouble),
    /// A read gives half of its bytes; other requests go through.
    Cut,
}

/// Decides for the n-th request of all (from 1), and of what kind it is.
type Script = Box<dyn FnMut(u64, Request) -> Option<Strike> + Send>;

/// A bucket. Clones share it.
#[derive(Clone)]
pub(crate) struct Simulated {
    state: Arc<Mutex<State>>,
}

struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    script: Script,
    requests: u64,
    versions: u64,
    renewals: u64,
    /// Whether reads take no notice of If-Match, as those of some servers do.
    ignores_conditions: bool,
    page: usize,
}

struct Object {
    bytes: Bytes,
    etag: ETag,
}

struct Upload {
    name: String,
    parts: BTreeMap<u32, Bytes>,
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Simulated")
    }
}

impl Simulated {
    pub(crate) fn new() -> Self {
        let state = State {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            script: Box::new(|_, _| None),
            requests: 0,
            versions: 0,
            renewals: 0,
            ignores_conditions: false,
            page: 1000,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// From now on requests go as the script says; their numbers begin anew.
    pub(crate) fn follow(&self, script: impl FnMut(u64, Request) -> Option<Strike> + Send + 'static) {
        let mut state = self.lock();
        state.script = Box::new(script);
        state.requests = 0;
    }

    pub(crate) fn ignore_conditions(&self) {
        self.lock().ignores_conditions = true;
    }

    pub(crate) fn with_pages_of(self, page: usize) -> Self {
        self.lock().page = page;
        self
    }

    pub(crate) fn requests(&self) -> u64 {
        self.lock().requests
    }

    pub(crate) fn renewals(&self) -> u64 {
        self.lock().renewals
    }

    pub(crate) fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    pub(crate) fn objects(&self) -> BTreeMap<String, Bytes> {
        self.lock().objects.iter().map(|(name, object)| (name.clone(), object.bytes.clone())).collect()
    }

    /// Puts an object whatever is there, as another client may.
    pub(crate) fn overwrite(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        state.put(name, Bytes::copy_from_slice(bytes));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// One request under the script.
    fn request<T>(&self, kind: Request, act: impl FnOnce(&mut State) -> Result<T, Trouble>) -> Result<(T, bool), Trouble> {
        let mut state = self.lock();
        state.requests += 1;
        let number = state.requests;
        match (state.script)(number, kind) {
            Some(Strike::Before(trouble)) => Err(trouble),
            Some(Strike::After(trouble)) => act(&mut state).and(Err(trouble)),
            Some(Strike::Cut) => act(&mut state).map(|answer| (answer, true)),
            None => act(&mut state).map(|answer| (answer, false)),
        }
    }
}

impl State {
    fn put(&mut self, name: &str, bytes: Bytes) -> ETag {
        self.versions += 1;
        let etag = ETag::new(format!("\"{}\"", self.versions));
        self.objects.insert(name.to_owned(), Object { bytes, etag: etag.clone() });
        etag
    }

    fn find(&self, name: &str) -> Result<&Object, Trouble> {
        self.objects.get(name).ok_or_else(|| Trouble::answer(404, "NoSuchKey"))
    }
}

impl Remote for Simulated {
    fn head(&self, name: &str) -> Result<Head, Trouble> {
        let head = self.request(Request::Head, |state| {
            let object = state.find(name)?;
            let size_bytes = object.bytes.len() as u64;
            Ok(Head { size_bytes, etag: object.etag.clone(), modified: SystemTime::UNIX_EPOCH })
        });
        head.map(|(head, _)| head)
    }

    fn get(&self, name: &str, range: Range<u64>, if_match: Option<&ETag>) -> Result<Got, Trouble> {
        let got = self.request(Request::Get, |state| {
            let object = state.find(name)?;
            if !state.ignores_conditions && if_match.is_some_and(|etag| *etag != object.etag) {
                return Err(Trouble::answer(412, "PreconditionFailed"));
            }
            let size_bytes = object.bytes.len() as u64;
            if range.start >= size_bytes {
                return Err(Trouble::answer(416, "InvalidRange"));
            }
            let bytes = object.bytes[range.start as usize..range.end.min(size_bytes) as usize].to_vec();
            Ok(Got { bytes, etag: object.etag.clone(), size_bytes })
        });
        let (mut got, is_cut) = got?;
        if is_cut {
            got.bytes.truncate(got.bytes.len().div_ceil(2));
        }
        Ok(got)
    }

    fn put_new(&self, name: &str, body: Bytes) -> Result<ETag, Trouble> {
        let put = self.request(Request::Put, |state| {
            if state.objects.contains_key(name) {
                return Err(Trouble::answer(412, "PreconditionFailed"));
            }
            Ok(state.put(name, body))
        });
        put.map(|(etag, _)| etag)
    }

    fn begin(&self, name: &str) -> Result<String, Trouble> {
        let begun = self.request(Request::Begin, |state| {
            state.versions += 1;
            let id = format!("upload-{}", state.versions);
            state.uploads.insert(id.clone(), Upload { name: name.to_owned(), parts: BTreeMap::new() });
            Ok(id)
        });
        begun.map(|(id, _)| id)
    }

    fn part(&self, _name: &str, upload: &str, number: u32, body: Bytes) -> Result<PartTag, Trouble> {
        let part = self.request(Request::Part, |state| {
            let upload = state.uploads.get_mut(upload).ok_or_else(|| Trouble::answer(404, "NoSuchUpload"))?;
            upload.parts.insert(number, body);
            Ok(PartTag { number, etag: number.to_string(), crc32: None })
        });
        part.map(|(tag, _)| tag)
    }

    fn complete(&self, name: &str, upload: &str, parts: &[PartTag]) -> Result<ETag, Trouble> {
        let completed = self.request(Request::Complete, |state| {
            let found = state.uploads.get(upload).ok_or_else(|| Trouble::answer(404, "NoSuchUpload"))?;
            if state.objects.contains_key(name) {
                return Err(Trouble::answer(412, "PreconditionFailed"));
            }
            let missing = || Trouble::answer(400, "InvalidPart");
            let bodies = parts.iter().map(|part| found.parts.get(&part.number).ok_or_else(missing));
            let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
            let bytes: Vec<u8> = bodies.into_iter().flat_map(|body| body.iter().copied()).collect();
            state.uploads.remove(upload);
            Ok(state.put(name, Bytes::from(bytes)))
        });
        completed.map(|(etag, _)| etag)
    }

    fn abort(&self, _name: &str, upload: &str) -> Result<(), Trouble> {
        let aborted = self.request(Request::Abort, |state| {
            state.uploads.remove(upload);
            Ok(())
        });
        aborted.map(|_| ())
    }

    fn list(&self, prefix: &str, from: &From, most: usize) -> Result<Page, Trouble> {
        let page = self.request(Request::List, |state| {
            let after = match from {
                From::Start => Bound::Unbounded,
                From::After(name) | From::Token(name) => Bound::Excluded(name.clone()),
            };
            let mut found = state.objects.range((after, Bound::Unbounded)).filter(|(name, _)| name.starts_with(prefix));
            let objects: Vec<(String, u64, Option<ETag>)> = (&mut found)
                .take(state.page.min(most))
                .map(|(name, object)| (name.clone(), object.bytes.len() as u64, Some(object.etag.clone())))
                .collect();
            let next = found.next().and_then(|_| objects.last()).map(|(name, _, _)| name.clone());
            Ok(Page { objects, next })
        });
        page.map(|(page, _)| page)
    }

    fn delete(&self, name: &str) -> Result<(), Trouble> {
        let deleted = self.request(Request::Delete, |state| {
            state.objects.remove(name);
            Ok(())
        });
        deleted.map(|_| ())
    }

    fn uploads(&self, prefix: &str, _from: Option<&UploadsMarker>) -> Result<UploadsPage, Trouble> {
        let page = self.request(Request::List, |state| {
            let open = state.uploads.iter().filter(|(_, upload)| upload.name.starts_with(prefix));
            let began = SystemTime::now() - Duration::from_hours(1);
            let uploads = open.map(|(id, upload)| OpenUpload { name: upload.name.clone(), id: id.clone(), began }).collect();
            Ok(UploadsPage { uploads, next: None })
        });
        page.map(|(page, _)| page)
    }

    fn renew(&self) {
        self.lock().renewals += 1;
    }

    fn server(&self) -> String {
        "the simulated server".to_owned()
    }

    fn remedy(&self, trouble: &Trouble) -> String {
        super::credentials::remedy(trouble, &self.server(), false)
    }
}
