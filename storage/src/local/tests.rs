//! What only a folder can get wrong: links, strange files, permissions, dead writers, changes under the reader's feet.
//! What every store promises is in the contract suite, which runs here too.

use super::*;
use crate::contract;
use crate::store::list_all;
use std::cell::RefCell;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Environment variable that tells a child process where its store is.
const CHILD_ROOT: &str = "MELLAMA_STORAGE_TEST_CHILD";

/// One test of this binary as a process of its own, on a store that it shares with this one.
fn child(test: &str, store: &LocalStore) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("local::tests::{test}"), "--nocapture"]).env(CHILD_ROOT, store.root());
    command
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn fresh() -> (TempDir, LocalStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path().join("store")).unwrap();
    (folder, store)
}

fn put(store: &LocalStore, name: &str, body: &[u8]) {
    assert_eq!(store.put_new(&key(name), body, &AttemptId::generate()).unwrap(), PutOutcome::Created);
}

fn temporary_files(store: &LocalStore) -> usize {
    fs::read_dir(store.root.temporary()).map_or(0, Iterator::count)
}

/// Every file below a folder, for comparisons that do not go through the store.
fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                files.push(entry.path().display().to_string());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn contract_local() {
    let folders = RefCell::new(Vec::new());
    contract::run_all(&|| {
        let (folder, store) = fresh();
        folders.borrow_mut().push(folder);
        Arc::new(store) as Arc<dyn Store>
    });
}

#[test]
fn case_12_links_out_of_the_root_are_refused_everywhere() {
    let (folder, store) = fresh();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    symlink(&outside, store.root().join("folder")).unwrap();
    symlink("../outside", store.root().join("relative")).unwrap();
    symlink(outside.join("secret"), store.root().join("file")).unwrap();
    let refused = |result: Result<(), StoreError>, what: &str| {
        assert!(matches!(result, Err(StoreError::OutsideRoot { .. })), "{what}: {result:?}");
    };
    for name in ["folder/secret", "relative/secret", "file"] {
        refused(store.head(&key(name)).map(drop), name);
        refused(store.read(&key(name), None, None).map(drop), name);
        refused(store.open(&key(name), None).map(drop), name);
        refused(store.modified(&key(name)).map(drop), name);
    }
    for name in ["folder/new", "relative/new/er"] {
        refused(store.put_new(&key(name), b"x", &AttemptId::generate()).map(drop), name);
        refused(store.upload().unwrap().finish(&key(name)).map(drop), name);
    }
    refused(store.delete(&key("folder/secret")), "deleting through a link");
    refused(store.list("", None, 10).map(drop), "listing");
    assert_eq!(files_below(&outside), [outside.join("secret").display().to_string()]);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    // The link itself is inside and can be removed; what it points to stays.
    store.delete(&key("file")).unwrap();
    assert!(outside.join("secret").exists());
}

#[test]
fn case_12_a_temporary_folder_that_is_a_link_is_refused() {
    let (folder, store) = fresh();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), b"x").unwrap();
    symlink(&outside, store.root.temporary()).unwrap();
    assert!(matches!(store.upload().map(drop), Err(StoreError::OutsideRoot { .. })));
    assert!(matches!(sweep(&store), Err(StoreError::OutsideRoot { .. })));
    assert!(outside.join("kept").exists());
}

#[test]
fn links_inside_the_root_are_followed_and_listed_once() {
    let (_folder, store) = fresh();
    put(&store, "data/object", b"body");
    symlink("data/object", store.root().join("alias")).unwrap();
    symlink("data", store.root().join("folder")).unwrap();
    symlink("..", store.root().join("data/circle")).unwrap();
    symlink("nowhere", store.root().join("dangling")).unwrap();
    for name in ["alias", "folder/object", "data/circle/data/object"] {
        assert_eq!(store.read(&key(name), None, None).unwrap(), b"body", "{name}");
    }
    assert!(store.head(&key("dangling")).unwrap_err().is_not_found());
    let list = |prefix: &str| list_all(&store, prefix).map(|o| o.unwrap().key.to_string()).collect::<Vec<_>>();
    assert_eq!(list(""), ["alias", "data/object"]);
    assert_eq!(list("folder/"), Vec::<String>::new());
}

#[test]
fn what_is_no_regular_file_is_no_object() {
    let (_folder, store) = fresh();
    fs::create_dir(store.root().join("folder")).unwrap();
    // Opening a pipe would wait for a writer for ever.
    let made = Command::new("mkfifo").arg(store.root().join("pipe")).status().unwrap();
    assert!(made.success());
    for name in ["folder", "pipe"] {
        assert!(store.head(&key(name)).unwrap_err().is_not_found(), "{name}");
        assert!(store.open(&key(name), None).err().unwrap().is_not_found(), "{name}");
    }
    assert_eq!(list_all(&store, "").count(), 0);
}

#[test]
fn one_name_is_not_both_an_object_and_a_prefix() {
    let (_folder, store) = fresh();
    put(&store, "a", b"x");
    put(&store, "b/c", b"x");
    for name in ["a/below", "b"] {
        let error = store.put_new(&key(name), b"y", &AttemptId::generate()).unwrap_err();
        assert!(matches!(error, StoreError::InvalidKey { .. }), "{name}: {error:?}");
        let error = store.upload().unwrap().finish(&key(name)).unwrap_err();
        assert!(matches!(error, StoreError::InvalidKey { .. }), "{name}: {error:?}");
    }
    assert_eq!(temporary_files(&store), 0);
}

#[test]
fn names_that_the_file_system_cannot_hold_are_invalid_keys() {
    let (_folder, store) = fresh();
    let error = store.put_new(&key(&"x".repeat(300)), b"y", &AttemptId::generate()).unwrap_err();
    assert!(matches!(error, StoreError::InvalidKey { .. }), "{error:?}");
    assert_eq!(temporary_files(&store), 0);
}

#[test]
fn a_file_name_that_is_not_utf8_stops_a_listing_instead_of_being_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    let (_folder, store) = fresh();
    fs::write(store.root().join(std::ffi::OsStr::from_bytes(b"caf\xe9.xml")), b"x").unwrap();
    let error = store.list("", None, 10).unwrap_err();
    assert!(matches!(error, StoreError::InvalidKey { .. }), "{error:?}");
}

#[test]
fn files_are_private_until_published_and_then_as_readable_as_the_root() {
    let check = |root_mode: u32, expected: u32| {
        let (_folder, store) = fresh();
        fs::set_permissions(store.root(), fs::Permissions::from_mode(root_mode)).unwrap();
        let store = LocalStore::open(store.root()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let mut upload = store.upload().unwrap();
        upload.write_all(b"x").unwrap();
        assert_eq!(mode(&store.root.temporary()), 0o700);
        let staged = fs::read_dir(store.root.temporary()).unwrap().next().unwrap().unwrap();
        assert_eq!(mode(&staged.path()), 0o600);
        upload.finish(&key("folder/k")).unwrap();
        assert_eq!(mode(&store.root().join("folder/k")), expected, "{root_mode:o}");
    };
    check(0o700, 0o600);
    check(0o750, 0o640);
    check(0o755, 0o644);
}

#[test]
fn opening_an_existing_folder_creates_nothing() {
    let (folder, _store) = fresh();
    let absent = folder.path().join("absent");
    assert!(LocalStore::open_existing(&absent).unwrap_err().is_not_found());
    fs::create_dir(&absent).unwrap();
    LocalStore::open_existing(&absent).unwrap();
    assert_eq!(fs::read_dir(&absent).unwrap().count(), 0);
    fs::write(folder.path().join("file"), b"x").unwrap();
    assert!(matches!(LocalStore::open(folder.path().join("file")), Err(StoreError::Io { .. })));
    assert!(matches!(LocalStore::open_existing(folder.path().join("file")), Err(StoreError::Unsupported { .. })));
}

#[test]
fn case_09_an_object_that_changes_while_it_is_read_is_an_error() {
    let check = |name: &str, change: fn(&Path), expected: fn(&StoreError) -> bool| {
        let (_folder, store) = fresh();
        put(&store, "k", &vec![7; 1 << 20]);
        let mut stream = store.open(&key("k"), None).unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        change(&store.root().join("k"));
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        let error = StoreError::from_io("k".into(), "reading", error);
        assert!(expected(&error), "{name}: {error:?}");
    };
    let is_changed = |error: &StoreError| matches!(error, StoreError::Changed { .. });
    check(
        "appended",
        |path| {
            File::options().append(true).open(path).unwrap().write_all(b"x").unwrap();
        },
        is_changed,
    );
    check(
        "cut",
        |path| {
            File::options().write(true).open(path).unwrap().set_len(100).unwrap();
        },
        is_changed,
    );
    check(
        "rewritten",
        |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[8], 500_000).unwrap();
            // Two writes within one tick of the clock have the same time stamp; this test is not about that.
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        },
        is_changed,
    );
}

#[test]
fn case_15_a_full_disk_is_named_as_such() {
    let Ok(mut full) = File::options().write(true).open("/dev/full") else {
        println!("not run: no /dev/full");
        return;
    };
    let (_folder, store) = fresh();
    let error = full.write_all(b"x").unwrap_err();
    assert!(matches!(store.error(&key("k"), "writing", error), StoreError::NoSpace { .. }));
}

/// Not a test of its own: the process without permissions that the next test starts. Does nothing without the variable.
#[test]
fn child_that_may_not_write() {
    let Ok(root) = std::env::var(CHILD_ROOT) else {
        return;
    };
    let store = LocalStore::open(root).unwrap();
    let put = store.put_new(&key("k"), b"x", &AttemptId::generate());
    assert!(matches!(put, Err(StoreError::Denied { .. })), "{put:?}");
    let upload = store.upload().map(drop);
    assert!(matches!(upload, Err(StoreError::Denied { .. })), "{upload:?}");
    let preflight = crate::store::preflight(&store);
    assert!(matches!(preflight, Err(StoreError::Denied { .. })), "{preflight:?}");
    assert_eq!(store.read(&key("there"), None, None).unwrap(), b"body");
}

#[test]
fn case_15_a_folder_that_may_not_be_written_is_named_as_such_and_can_still_be_read() {
    const NOBODY: u32 = 65_534;
    let (folder, store) = fresh();
    put(&store, "there", b"body");
    fs::remove_dir(store.root.temporary()).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(store.root(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut child = child("child_that_may_not_write", &store);
    if fs::metadata(store.root()).unwrap().uid() == 0 {
        // The superuser may write everywhere, so somebody else has to try.
        child.uid(NOBODY).gid(NOBODY);
    }
    let Ok(output) = child.output() else {
        println!("not run: another user may not start this program");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::set_permissions(store.root(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(files_below(store.root()), [store.root().join("there").display().to_string()]);
}

/// Not a test of its own: the process that the next test kills. Does nothing without the variable.
#[test]
fn child_that_is_killed_while_it_uploads() {
    let Ok(root) = std::env::var(CHILD_ROOT) else {
        return;
    };
    let store = LocalStore::open(root).unwrap();
    let mut upload = store.upload().unwrap();
    upload.write_all(&vec![1; 2 << 20]).unwrap();
    println!("half written");
    // Waits for the kill: the pipe stays open and silent.
    let _end = io::stdin().read(&mut [0]);
}

#[test]
fn case_13_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not() {
    let (_folder, store) = fresh();
    let mut alive = store.upload().unwrap();
    alive.write_all(b"alive").unwrap();
    let mut child =
        child("child_that_is_killed_while_it_uploads", &store).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    while !String::from_utf8_lossy(&said).contains("half written") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("the child says that it has written");
        said.push(byte[0]);
    }
    assert_eq!(sweep(&store).unwrap(), 0, "both are alive");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(temporary_files(&store), 2);
    assert_eq!((store.stale(Duration::ZERO).unwrap().len(), temporary_files(&store)), (1, 2), "looking removes nothing");
    LocalStore::open(store.root()).unwrap();
    assert_eq!(temporary_files(&store), 1, "the dead one's file is gone");
    alive.finish(&key("k")).unwrap();
    assert_eq!(temporary_files(&store), 0);
    assert_eq!(store.read(&key("k"), None, None).unwrap(), b"alive");
}

#[test]
fn case_11_a_large_folder_is_listed_page_by_page() {
    let (_folder, store) = fresh();
    for number in 0..3000 {
        let folder = store.root().join(format!("{}", number % 3));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number:05}")), b"x").unwrap();
    }
    let mut listed: Vec<Key> = Vec::new();
    loop {
        let page = store.list("", listed.last(), 701).unwrap();
        listed.extend(page.iter().map(|object| object.key.clone()));
        if page.len() < 701 {
            break;
        }
    }
    assert_eq!(listed.len(), 3000);
    assert!(listed.windows(2).all(|pair| pair[0] < pair[1]));
}
