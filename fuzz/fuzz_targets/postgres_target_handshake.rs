#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| headgate_postgres::fuzz::fuzz_target_handshake(data));
