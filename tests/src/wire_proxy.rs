//! A proxy on the wire in front of a server: it counts requests and lets chosen ones fail before or after they took effect, cuts
//! answers, or falls silent. One request a connection; it understands as much of HTTP as it needs to find the end of a message.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest head of a message, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long a silent answer lasts, unless the client goes away before.
const SILENCE: Duration = Duration::from_mins(2);

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It goes through.
    Through,
    /// It is answered with this status and error code and does not reach the server.
    Before(u16, &'static str),
    /// It reaches the server, and is answered with 500.
    After500,
    /// It reaches the server, and the connection is dropped.
    AfterDrop,
    /// The body of its answer ends in the middle.
    Cut,
    /// One bit in the middle of the answer's body is flipped.
    Flip,
    /// It is never answered.
    Silent,
}

/// A request as a script sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its number, from 1.
    pub number: u64,
    /// GET, PUT …
    pub method: String,
    /// Path and query.
    pub target: String,
}

type Script = Arc<Mutex<Box<dyn FnMut(&Seen) -> Mode + Send>>>;

/// A running proxy; dropping it ends it.
pub struct WireProxy {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    struck: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    script: Script,
}

impl std::fmt::Debug for WireProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WireProxy({})", self.address)
    }
}

impl WireProxy {
    /// Stands in front of `server` on a free port of this machine.
    ///
    /// # Errors
    /// Whatever the port meets.
    pub fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let proxy = Self {
            address,
            requests: Arc::default(),
            struck: Arc::default(),
            stop: Arc::default(),
            script: Arc::new(Mutex::new(Box::new(|_| Mode::Through))),
        };
        let (requests, struck) = (Arc::clone(&proxy.requests), Arc::clone(&proxy.struck));
        let (stop, script) = (Arc::clone(&proxy.stop), Arc::clone(&proxy.script));
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (requests, struck) = (Arc::clone(&requests), Arc::clone(&struck));
                let script = Arc::clone(&script);
                std::thread::spawn(move || {
                    // A client or a server that goes away is no matter.
                    let _ = serve(client, server, &requests, &struck, &script);
                });
            }
        });
        Ok(proxy)
    }

    /// From now on requests go as the script says; their numbers begin anew.
    ///
    /// # Panics
    /// When an earlier script panicked.
    pub fn follow(&self, script: impl FnMut(&Seen) -> Mode + Send + 'static) {
        let mut held = self.script.lock().expect("no script panics");
        *held = Box::new(script);
        self.requests.store(0, Ordering::SeqCst);
        self.struck.store(0, Ordering::SeqCst);
    }

    /// Its address as a client takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests since the script began.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Requests that did not simply go through.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }
}

impl Drop for WireProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, requests: &AtomicU64, struck: &AtomicU64, script: &Script) -> io::Result<()> {
    let request = Message::read(&mut client, false)?;
    let mut words = request.first_line().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let number = requests.fetch_add(1, Ordering::SeqCst) + 1;
    let is_head = method == "HEAD";
    let mode = (script.lock().expect("no script panics"))(&Seen { number, method, target });
    struck.fetch_add(u64::from(mode != Mode::Through), Ordering::SeqCst);
    if let Mode::Before(status, code) = mode {
        return client.write_all(&error(status, code, is_head));
    }
    if mode == Mode::Silent {
        client.set_read_timeout(Some(SILENCE))?;
        let _gone = client.read(&mut [0]);
        return Ok(());
    }
    let mut upstream = TcpStream::connect(server)?;
    upstream.set_nodelay(true)?;
    upstream.write_all(&request.closing())?;
    let mut answer = Message::read(&mut upstream, is_head)?;
    match mode {
        Mode::AfterDrop => return client.shutdown(Shutdown::Both),
        Mode::After500 => return client.write_all(&error(500, "InternalError", is_head)),
        Mode::Cut => answer.body.truncate(answer.body.len() / 2),
        Mode::Flip => {
            let middle = answer.body.len() / 2;
            if let Some(byte) = answer.body.get_mut(middle) {
                *byte ^= 1;
            }
        }
        _ => {}
    }
    client.write_all(&answer.closing())
}

fn error(status: u16, code: &str, is_head: bool) -> Vec<u8> {
    let body = if is_head { String::new() } else { format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>") };
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// A request or an answer.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    fn read(stream: &mut TcpStream, is_answer_to_head: bool) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece)?;
            if read == 0 || bytes.len() > MAX_HEAD_BYTES {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&piece[..read]);
        };
        let mut body = bytes.split_off(end);
        let mut message = Self { head: String::from_utf8_lossy(&bytes).into_owned(), body: Vec::new() };
        if message.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = message.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let is_chunked = message.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if is_answer_to_head {
            body.clear();
        } else if let Some(length) = length {
            let have = body.len();
            body.resize(length, 0);
            if have < length {
                stream.read_exact(&mut body[have..])?;
            }
        } else if is_chunked {
            while !body.ends_with(b"0\r\n\r\n") {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece)?;
                if read == 0 {
                    break;
                }
                body.extend_from_slice(&piece[..read]);
            }
        }
        message.body = body;
        Ok(message)
    }

    fn first_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The message as one that ends its connection. Headers that a signature covers stay as they are.
    fn closing(&self) -> Vec<u8> {
        let mut head = String::new();
        for line in self.head.lines().filter(|line| !line.is_empty()) {
            let name = line.split(':').next().unwrap_or_default();
            if !["connection", "expect"].iter().any(|dropped| name.eq_ignore_ascii_case(dropped)) {
                head.push_str(line);
                head.push_str("\r\n");
            }
        }
        head.push_str("Connection: close\r\n\r\n");
        [head.into_bytes(), self.body.clone()].concat()
    }
}
