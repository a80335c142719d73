//! Both lz4 (under RocksDB) and libpg_query carry a copy of xxHash under the same names; whether the linker meets both
//! depends on the order of archives. The first copy serves both: RocksDB uses lz4's block format alone, which hashes
//! nothing, and libpg_query calls the XXH3 family, which only its copy has, and XXH64_canonicalFromHash, which swaps bytes
//! in either.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,--allow-multiple-definition");
    println!("cargo:rerun-if-changed=build.rs");
}
