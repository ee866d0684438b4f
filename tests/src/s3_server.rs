//! An S3 server on loopback over a folder, as other people wrote it (`s3s-fs`): what our client is tested against. Each folder
//! under its root is a bucket. It is no server for data: no TLS, one pair of keys that everybody knows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The access key that the server knows.
pub const KEY_ID: &str = "test-key-id";
/// Its secret.
pub const SECRET: &str = "test-secret";

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    root: PathBuf,
    _runtime: Runtime,
}

impl S3Server {
    /// Serves the buckets under `root` on a free port of this machine.
    ///
    /// # Errors
    /// Whatever the folder or the port meet.
    pub fn start(root: &Path) -> std::io::Result<Self> {
        Self::start_on(root, 0, false)
    }

    /// As [`start`](Self::start), with other keys.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_for(root: &Path, key_id: &str, secret: &str) -> std::io::Result<Self> {
        Self::serve(root, 0, SimpleAuth::from_single(key_id, secret), false)
    }

    /// As [`start`](Self::start), on one port; prints a line for each request where that is wanted.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(root: &Path, port: u16, is_loud: bool) -> std::io::Result<Self> {
        Self::serve(root, port, SimpleAuth::from_single(KEY_ID, SECRET), is_loud)
    }

    fn serve(root: &Path, port: u16, keys: SimpleAuth, is_loud: bool) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let files = s3s_fs::FileSystem::new(root).map_err(|e| std::io::Error::other(format!("{e:?}")))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(keys);
        let service = service.build();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port)))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                let told = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    if is_loud {
                        let range = request.headers().get("range").and_then(|range| range.to_str().ok());
                        println!("{} {} {}", request.method(), request.uri(), range.unwrap_or("-"));
                    }
                    Service::call(&service, request)
                });
                let _ = socket.set_nodelay(true);
                tokio::spawn(async move {
                    // A client that goes away is no matter.
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), told).await;
                });
            }
        });
        Ok(Self { address, root: root.to_owned(), _runtime: runtime })
    }

    /// Makes an empty bucket where there is none.
    ///
    /// # Errors
    /// Whatever the folder meets.
    pub fn bucket(&self, name: &str) -> std::io::Result<PathBuf> {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a client takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}
