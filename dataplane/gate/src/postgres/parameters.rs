//! The parameters of a statement, where its Bind has them.

use headgate_plane::{Parameter, ParameterKind};
use headgate_postgres::frontend::Bind;
use headgate_recording::{ParameterSource, ParameterView};

/// None, those of a Bind message with the types that Parse gave, or a function call's as they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoundParameters<'a> {
    bind: Option<&'a Bind<'a>>,
    types: &'a [u32],
    /// A whole FunctionCall: its arguments are one value, for their types are not known.
    call: Option<&'a [u8]>,
}

impl<'a> BoundParameters<'a> {
    pub(super) fn by(bind: &'a Bind<'a>, types: &'a [u32]) -> BoundParameters<'a> {
        BoundParameters {
            bind: Some(bind),
            types,
            call: None,
        }
    }

    pub(super) fn call(message: &'a [u8]) -> BoundParameters<'a> {
        BoundParameters {
            bind: None,
            types: &[],
            call: Some(message),
        }
    }

    fn iter(&self) -> impl Iterator<Item = ParameterView<'a>> + use<'a> {
        let types = self.types;
        let bound = self.bind.into_iter().flat_map(move |bind| {
            bind.parameters()
                .enumerate()
                .map(move |(i, value)| ParameterView {
                    kind: ParameterKind::Postgres {
                        type_oid: types.get(i).copied().unwrap_or(0),
                        format: bind.parameter_format(i),
                    },
                    value,
                })
        });
        let called = self.call.map(|message| ParameterView {
            kind: ParameterKind::Postgres {
                type_oid: 0,
                format: 1,
            },
            value: Some(message),
        });
        bound.chain(called)
    }

    /// Owned, whole: what an approval is bound to.
    pub(super) fn list(&self) -> Vec<Parameter> {
        let own = |p: ParameterView<'_>| Parameter {
            kind: p.kind,
            value: p.value.map(<[u8]>::to_vec),
        };
        self.iter().map(own).collect()
    }
}

impl ParameterSource for BoundParameters<'_> {
    fn count(&self) -> usize {
        self.bind.map_or(0, |bind| bind.parameters().len()) + usize::from(self.call.is_some())
    }

    fn each(&self, take: &mut dyn FnMut(ParameterView<'_>)) {
        self.iter().for_each(take);
    }

    fn values_bytes_max(&self) -> usize {
        self.bind.map_or(0, |bind| bind.parameters().bytes()) + self.call.map_or(0, <[u8]>::len)
    }
}
