//! `s3-server ROOT [PORT [loud]]`: the tests' S3 server as a program, for scripts. Prints its address and serves until it is
//! ended; `loud` prints a line for each request.

use std::path::Path;

use mellama_tests::s3_server::S3Server;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or_else(|| std::io::Error::other("s3-server ROOT [PORT [loud]]: no folder given"))?;
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    let server = S3Server::start_on(Path::new(&root), port, arguments.next().is_some_and(|word| word == "loud"))?;
    println!("{}", server.endpoint());
    loop {
        std::thread::park();
    }
}
