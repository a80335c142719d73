//! Snapshot × who × statement → verdict. Pure: no IO, no clock of its own.
#![forbid(unsafe_code)]
