//! Line charts as SVG. Colours come from the page's style, so that both of its themes fit.
//!
//! Bounds: at most [`SERIES_MAX`] lines, [`POINTS_MAX`] points a line; longer ones are thinned out, the highest of each stretch stays.

use std::fmt::Write;

pub const SERIES_MAX: usize = 8;
const POINTS_MAX: usize = 600;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// Up to so many points a line has dots.
const DOTS_MAX: usize = 40;

pub struct Series {
    pub name: String,
    /// Its colour: the place of its kind, the same in every chart.
    pub place: usize,
    /// Ascending x.
    pub points: Vec<(f64, f64)>,
}

pub struct Chart<'a> {
    /// For who does not see it.
    pub says: &'a str,
    pub x_title: &'a str,
    pub series: Vec<Series>,
    /// Marks of the x axis; none: made from the data.
    pub x_marks: Vec<(f64, String)>,
    pub log_y: bool,
    pub y_text: fn(f64) -> String,
    pub x_text: fn(f64) -> String,
}

/// Text as HTML.
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}

/// Round marks from 0, about `count` of them, the last at or above `most`.
fn linear_marks(most: f64, count: f64) -> Vec<f64> {
    if most <= 0.0 || !most.is_finite() {
        return vec![0.0, 1.0];
    }
    let rough = most / count;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let last = (most / step).ceil() as usize;
    (0..=last).map(|n| n as f64 * step).collect()
}

/// Marks of 1, 2, 5 from at or below the least to at or above the most; of 1 alone where these are too many.
fn log_marks(least: f64, most: f64) -> Vec<f64> {
    let (low, high) = (
        least.max(1e-3).log10().floor() as i32,
        most.max(1e-3).log10().ceil() as i32,
    );
    let all = |steps: &[f64]| -> Vec<f64> {
        (low..=high)
            .flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)).collect::<Vec<_>>())
            .collect()
    };
    let cut = |marks: Vec<f64>| -> Vec<f64> {
        let from = marks.iter().rposition(|m| *m <= least).unwrap_or(0);
        let to = marks
            .iter()
            .position(|m| *m >= most)
            .unwrap_or(marks.len().saturating_sub(1));
        marks
            .get(from..=to.max(from + 1).min(marks.len().saturating_sub(1)))
            .unwrap_or_default()
            .to_vec()
    };
    let fine = cut(all(&[1.0, 2.0, 5.0]));
    if fine.len() <= 8 { fine } else { cut(all(&[1.0])) }
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let highest = |stretch: &[(f64, f64)]| stretch.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points
        .chunks(points.len().div_ceil(POINTS_MAX))
        .filter_map(highest)
        .collect()
}

impl Chart<'_> {
    pub fn svg(&self) -> String {
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(self.says)
        );
        let values = || self.series.iter().flat_map(|s| s.points.iter().copied());
        let (x_least, x_most) = values().fold((f64::MAX, f64::MIN), |(a, b), (x, _)| (a.min(x), b.max(x)));
        if x_most < x_least {
            return format!(
                "{out}<text x=\"{}\" y=\"{}\" class=\"axis\" text-anchor=\"middle\">nothing to show</text></svg>",
                WIDTH / 2.0,
                HEIGHT / 2.0
            );
        }
        let most = values().map(|(_, y)| y).fold(0.0, f64::max);
        let least = values()
            .map(|(_, y)| y)
            .filter(|y| *y > 0.0)
            .fold(f64::MAX, f64::min)
            .min(most);
        let y_marks = if self.log_y {
            log_marks(least, most)
        } else {
            linear_marks(most, 5.0)
        };
        let (bottom, top) = (
            y_marks.first().copied().unwrap_or(0.0),
            y_marks.last().copied().unwrap_or(1.0),
        );
        let x_marks: Vec<(f64, String)> = if self.x_marks.is_empty() {
            linear_marks(x_most, 8.0)
                .into_iter()
                .filter(|x| *x <= x_most * 1.001)
                .map(|x| (x, (self.x_text)(x)))
                .collect()
        } else {
            self.x_marks.clone()
        };
        let (from, to) = if self.x_marks.is_empty() {
            (0.0, x_most)
        } else {
            (x_least, x_most)
        };
        let x_at = |x: f64| LEFT + (x - from) / (to - from).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT);
        let y_at = |y: f64| {
            let share = if self.log_y {
                (y.max(bottom) / bottom).ln() / (top / bottom).ln().max(f64::MIN_POSITIVE)
            } else {
                (y - bottom) / (top - bottom).max(f64::MIN_POSITIVE)
            };
            HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
        };
        for mark in &y_marks {
            let y = y_at(*mark);
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/>",
                WIDTH - RIGHT
            );
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" class=\"axis\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                (self.y_text)(*mark)
            );
        }
        for (mark, text) in &x_marks {
            let x = x_at(*mark);
            let y = HEIGHT - BOTTOM;
            let _ = write!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{}\" class=\"tick\"/>",
                y + 4.0
            );
            let _ = write!(
                out,
                "<text x=\"{x:.1}\" y=\"{}\" class=\"axis\" text-anchor=\"middle\">{}</text>",
                y + 17.0,
                escaped(text)
            );
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        let _ = write!(
            out,
            "<text x=\"{middle}\" y=\"{}\" class=\"axis\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 6.0,
            escaped(self.x_title)
        );
        for series in self.series.iter().take(SERIES_MAX) {
            let points = thinned(&series.points);
            let place = series.place % SERIES_MAX;
            let line: Vec<String> = points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y)))
                .collect();
            let _ = write!(
                out,
                "<polyline points=\"{}\" class=\"line c{place}\"/>",
                line.join(" ")
            );
            if points.len() > DOTS_MAX {
                continue;
            }
            for (x, y) in &points {
                let says = format!("{} · {}: {}", series.name, (self.x_text)(*x), (self.y_text)(*y));
                let _ = write!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" class=\"dot c{place}\"><title>{}</title></circle>",
                    x_at(*x),
                    y_at(*y),
                    escaped(&says)
                );
            }
        }
        out.push_str("</svg>");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_cover_the_data() {
        assert_eq!(linear_marks(9.3, 5.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_marks(0.0, 5.0), [0.0, 1.0]);
        let marks = log_marks(160.0, 4_400.0);
        assert!(
            marks[0] <= 160.0 && *marks.last().expect("marks") >= 4_400.0,
            "{marks:?}"
        );
        let wide = log_marks(1.0, 3e6);
        assert!(wide.len() <= 9 && *wide.last().expect("marks") >= 3e6, "{wide:?}");
        assert!(log_marks(5.0, 5.0).len() >= 2);
    }

    #[test]
    fn a_name_from_a_scenario_is_no_markup() {
        let series = Series {
            name: "<script>".to_owned(),
            place: 0,
            points: vec![(0.0, 1.0), (1.0, f64::INFINITY)],
        };
        let text = |v: f64| v.to_string();
        let chart = Chart {
            says: "\"",
            x_title: "&",
            series: vec![series],
            x_marks: Vec::new(),
            log_y: false,
            y_text: text,
            x_text: text,
        };
        let svg = chart.svg();
        assert!(
            !svg.contains("<script>") && svg.contains("&lt;script&gt;"),
            "{svg}"
        );
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_peak() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), 1.0)).collect();
        points[7_777].1 = 99.0;
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX && thin.iter().any(|(x, y)| *x == 7_777.0 && *y == 99.0));
    }
}
