//! Some relations, asked for in one session: what it alone can see, or what is newer than the catalog.
//!
//! The query names everything with its schema, carries no backslash, and reads system catalogs by their indexes, so no
//! `search_path`, `standard_conforming_strings`, `role`, isolation level or read-only transaction changes its answer. It is
//! one SELECT and leaves nothing behind. What can still make it fail, or answer nothing:
//! - `statement_timeout` and `transaction_timeout` (they may be a millisecond), `lock_timeout` while somebody holds a system
//!   catalog exclusively, a cancel that was meant for the client's own statement;
//! - a transaction that has failed (25P02) or is over its `temp_file_limit`;
//! - a `client_encoding` that cannot say a name, or says it otherwise than in UTF-8;
//! - a role from which SELECT on system catalogs was taken away;
//! - a snapshot that is older than the relation (REPEATABLE READ, SERIALIZABLE): the server finds a new relation by name,
//!   but the system catalogs that a query reads do not show it yet.
//!
//! So no answer, an answer without its last row ([`super::Catalog::is_whole`]) and an answer that lacks the relation
//! ([`super::Catalog::knows`]) are one and the same: nothing is known of it, and the client gets an error, never NULLs.
//!
//! Bounds: [`LOOKUP_MAX`] names and oids in one question; a session that needs more needs the whole catalog again.

use super::query;

/// Oids and names of one question.
pub const LOOKUP_MAX: usize = 256;

/// What is asked for. Of a name, relations in all schemas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    pub(super) oids: Vec<u32>,
    pub(super) names: Vec<String>,
}

impl Lookup {
    /// Relations by oid, as RowDescription tells them, and by bare name as the catalog stores it. `None`: too many.
    pub fn new(
        oids: impl IntoIterator<Item = u32>,
        names: impl IntoIterator<Item = String>,
    ) -> Option<Lookup> {
        let mut lookup = Lookup::default();
        for oid in oids {
            if !lookup.oids.contains(&oid) {
                lookup.oids.push(oid);
            }
            if lookup.oids.len() > LOOKUP_MAX {
                return None;
            }
        }
        for name in names {
            if !lookup.names.contains(&name) {
                lookup.names.push(name);
            }
            if lookup.names.len() > LOOKUP_MAX {
                return None;
            }
        }
        Some(lookup)
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.oids.is_empty() && self.names.is_empty()
    }

    /// One simple-protocol SQL text whose rows feed [`super::CatalogBuilder::row`]. With nothing asked for it still tells
    /// the session's path.
    pub fn query(&self) -> String {
        query::lookup_query(self)
    }
}
