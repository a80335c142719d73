//! Values as a person reads them.

use crate::transcript::parameter_shown;
use crate::types::ParameterRow;
use headgate_plane::{Class, ClassSet};
use headgate_recording::ParameterView;

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn parameters(parameters: &[ParameterView<'_>]) -> Vec<ParameterRow> {
    parameters
        .iter()
        .map(|p| ParameterRow {
            kind: p.kind.into(),
            value: p.value.map(|bytes| parameter_shown(p.kind, bytes)),
        })
        .collect()
}

pub(crate) fn classes(bits: u16) -> Vec<String> {
    ClassSet(bits)
        .iter()
        .map(|c: Class| c.name().to_owned())
        .collect()
}

pub(crate) fn texts(list: &[&[u8]]) -> Vec<String> {
    list.iter().map(|t| text(t)).collect()
}

pub(crate) fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}
