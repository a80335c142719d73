//! A worker's life: warm the parser, close the sandbox, answer until the pool hangs up.

use crate::frame::{REQUEST_BYTES_MAX, decode_request, encode_answer, read_frame, write_frame};
use crate::sandbox;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// The tree is walked in a loop, but the grammar's own stack grows with what it reads.
const PARSE_STACK_BYTES: usize = 32 << 20;

/// The worker's main. Speaks over standard input, which the pool makes a socket.
pub fn run_analyst() -> ! {
    sandbox::close_inherited();
    // A panic is an answer (see `headgate_sqlparse::facts`), not a text on somebody's terminal.
    std::panic::set_hook(Box::new(|_| {}));
    let ended = std::thread::Builder::new()
        .name("parse".into())
        .stack_size(PARSE_STACK_BYTES)
        .spawn(serve);
    let code = match ended.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => 0,
        Ok(Ok(Err(_))) => 2,
        _ => 3,
    };
    std::process::exit(code)
}

fn serve() -> io::Result<()> {
    let mut socket = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // What the parser and the tables set up once, they set up now.
    let _ = headgate_sqlparse::facts("select lower($1) from pg_class where a = 1 or b like 'x'");
    let _ = headgate_sqlparse::facts("select from from");
    sandbox::close()?;
    let mut buffer = Vec::new();
    while read_frame(&mut socket, &mut buffer, REQUEST_BYTES_MAX)? {
        let Some((language, text, caps)) = decode_request(&buffer) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let answer = language.read(text, &caps);
        let Some(frame) = encode_answer(&answer) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        write_frame(&mut socket, &frame)?;
    }
    Ok(())
}
