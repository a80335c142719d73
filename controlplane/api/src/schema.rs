//! What a route takes and gives, as the OpenAPI document needs it. The types themselves stand beside their handlers.

use std::fmt;
use utoipa::ToSchema;
use utoipa::openapi::{Ref, RefOr, Schema};

/// A schema with its name and those that it refers to.
#[derive(Clone, Copy)]
pub struct Named {
    /// Where the schema stands among the document's components.
    pub name: fn() -> String,
    collect: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Named {
    /// Of a type.
    pub const fn of<T: ToSchema>() -> Named {
        Named {
            name: || T::name().into_owned(),
            collect: |all| {
                all.push((T::name().into_owned(), T::schema()));
                T::schemas(all);
            },
        }
    }

    /// A pointer to the schema.
    pub fn reference(&self) -> RefOr<Schema> {
        Ref::from_schema_name((self.name)()).into()
    }

    /// Appends the schema and those that it refers to.
    pub fn collect(&self, all: &mut Vec<(String, RefOr<Schema>)>) {
        (self.collect)(all);
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&(self.name)())
    }
}

/// What a call that worked is answered with.
#[derive(Clone, Copy, Debug)]
pub enum Gives {
    /// One JSON value.
    Json(Named),
    /// JSON lines, each of this.
    Lines(Named),
    /// Text of this media type.
    Text(&'static str),
    /// Nothing but the status.
    Nothing,
}
