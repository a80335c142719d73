//! Medians, and an interval that holds the median: the sign test's.

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (
        values.get(values.len() / 2),
        values.get(values.len().saturating_sub(1) / 2),
    ) {
        (Some(a), Some(b)) => (a + b) / 2.0,
        _ => 0.0,
    }
}

/// Median, lower and upper end of its interval, number of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub n: usize,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let cut = interval_cut(n);
        Some(Spread {
            low: *values.get(cut)?,
            high: *values.get(n.checked_sub(1 + cut)?)?,
            n,
            median: median(values),
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.2} [{:.2}–{:.2}] ({})",
            self.median, self.low, self.high, self.n
        )
    }
}

/// How many values may be cut off at each end, so that the median is between the rest in at least nine of ten cases (sign test).
fn interval_cut(n: usize) -> usize {
    let mut cut = 0;
    let mut tail = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut term = tail;
    for k in 1..n / 2 {
        term *= (n - k + 1) as f64 / k as f64;
        tail += term;
        if 2.0 * tail > 0.1 {
            break;
        }
        cut = k;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Of 8 pairs, the second smallest and second largest hold the median in 93 %.
        assert_eq!(interval_cut(8), 1);
        assert_eq!(interval_cut(5), 0);
        assert_eq!(interval_cut(12), 2);
        assert_eq!(interval_cut(1), 0);
    }

    #[test]
    fn a_spread_of_nothing_is_none() {
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(
            Spread::of(vec![3.0, 1.0]),
            Some(Spread {
                median: 2.0,
                low: 1.0,
                high: 3.0,
                n: 2
            })
        );
    }
}
