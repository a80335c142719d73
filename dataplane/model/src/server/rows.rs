//! Rows as the texts of the little language make them.

use super::*;

impl Rows {
    pub(super) fn columns(&self) -> Columns {
        match self {
            Rows::Constant(_) | Rows::Divide { .. } => Columns::Unnamed,
            Rows::Derived => Columns::Derived,
            Rows::Series { .. } => Columns::N,
            Rows::Parameter => Columns::Int4,
            Rows::Sleep => Columns::Sleep,
            Rows::Customers { id } => Columns::Email { id: *id },
        }
    }

    /// Row `at`, from 0.
    pub(super) fn row(&self, at: usize, argument: Option<i64>) -> Option<Done<Row>> {
        let n = at as u64 + 1;
        let one = |text: String| Some(Ok(vec![Some(text.into_bytes())]));
        match self {
            Rows::Constant(text) if at == 0 => one(text.clone()),
            Rows::Series { to } if n <= *to => one(n.to_string()),
            Rows::Divide { at: bad, to } if n <= *to => {
                if n == *bad {
                    return Some(Err(Error::new("22012", "division by zero")));
                }
                one((10 / (i64::try_from(n).ok()? - i64::try_from(*bad).ok()?)).to_string())
            }
            Rows::Parameter if at == 0 => Some(Ok(vec![argument.map(|n| n.to_string().into_bytes())])),
            Rows::Sleep if at == 0 => one(String::new()),
            Rows::Customers { id } if at < 2 => {
                let email = Some(format!("{CANARY}{n}@example.org").into_bytes());
                Some(Ok(if *id {
                    vec![Some(n.to_string().into_bytes()), email]
                } else {
                    vec![email]
                }))
            }
            Rows::Derived if at < 2 => one(format!("{CANARY}{n}@example.org")),
            _ => None,
        }
    }
}
