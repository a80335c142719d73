//! Wall-clock parts of a Unix time, in UTC. Pure arithmetic: the time comes in.

use headgate_plane::{TimeWindow, Weekday};
use time::{OffsetDateTime, PrimitiveDateTime};

const MINUTES_A_DAY: u16 = 1440;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub unix: i64,
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub minute_of_day: u16,
    pub weekday: Weekday,
}

const DAYS: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

pub(crate) fn weekday_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "mon",
        Weekday::Tue => "tue",
        Weekday::Wed => "wed",
        Weekday::Thu => "thu",
        Weekday::Fri => "fri",
        Weekday::Sat => "sat",
        Weekday::Sun => "sun",
    }
}

impl Moment {
    pub(crate) fn of(unix_ms: u64) -> Moment {
        let unix = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
        // Beyond the year 9999 it stays the last moment of it.
        let moment =
            OffsetDateTime::from_unix_timestamp(unix).unwrap_or_else(|_| PrimitiveDateTime::MAX.assume_utc());
        let weekday = usize::from(moment.weekday().number_days_from_monday());
        Moment {
            unix,
            year: moment.year().into(),
            month: u8::from(moment.month()).into(),
            day: moment.day().into(),
            minute_of_day: u16::from(moment.hour()) * 60 + u16::from(moment.minute()),
            weekday: DAYS.get(weekday).copied().unwrap_or(Weekday::Mon),
        }
    }

    /// Whether the window is open. A window that goes over midnight belongs to the day on which it opens.
    pub(crate) fn inside(&self, window: &TimeWindow) -> bool {
        let named = |day: Weekday| window.days.is_empty() || window.days.contains(&day);
        let (from, to, now) = (window.from_minute, window.to_minute, self.minute_of_day);
        if from < to {
            return named(self.weekday) && from <= now && now < to;
        }
        (now >= from && named(self.weekday)) || (now < to && named(before(self.weekday)))
    }
}

fn before(day: Weekday) -> Weekday {
    let index = DAYS.iter().position(|d| *d == day).unwrap_or(0);
    DAYS.get((index + 6) % 7).copied().unwrap_or(day)
}

/// Why a window cannot be used.
pub(crate) fn window_problem(window: &TimeWindow) -> Option<&'static str> {
    if window.from_minute >= MINUTES_A_DAY || window.to_minute > MINUTES_A_DAY {
        Some("time: a day has 24 hours")
    } else if window.from_minute == window.to_minute {
        Some("time: `from` and `to` are the same, so the window is never open")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Saturday 2026-11-21 07:00:00 UTC.
    const SATURDAY_SEVEN: u64 = 1_795_244_400_000;
    const MINUTE: u64 = 60_000;

    fn window(days: &[Weekday], from: u16, to: u16) -> TimeWindow {
        TimeWindow {
            days: days.to_vec(),
            from_minute: from,
            to_minute: to,
        }
    }

    #[test]
    fn a_moment_has_the_parts_that_a_calendar_shows() {
        let m = Moment::of(SATURDAY_SEVEN);
        assert_eq!(
            (m.year, m.month, m.day, m.minute_of_day, m.weekday),
            (2026, 11, 21, 420, Weekday::Sat)
        );
        let leap = Moment::of(1_709_164_800_000);
        assert_eq!(
            (leap.year, leap.month, leap.day, leap.weekday),
            (2024, 2, 29, Weekday::Thu)
        );
        assert_eq!(Moment::of(0).weekday, Weekday::Thu);
        let _ = Moment::of(u64::MAX);
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_and_shut_at_its_last() {
        let w = window(&[Weekday::Sat], 420, 421);
        assert!(!Moment::of(SATURDAY_SEVEN - 1).inside(&w));
        assert!(Moment::of(SATURDAY_SEVEN).inside(&w));
        assert!(!Moment::of(SATURDAY_SEVEN + MINUTE).inside(&w));
        assert!(!Moment::of(SATURDAY_SEVEN).inside(&window(&[Weekday::Fri], 420, 421)));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let friday_night = window(&[Weekday::Fri], 22 * 60, 8 * 60);
        assert!(
            Moment::of(SATURDAY_SEVEN).inside(&friday_night),
            "Saturday 07:00 is still Friday night"
        );
        assert!(!Moment::of(SATURDAY_SEVEN + 60 * MINUTE).inside(&friday_night));
        assert!(
            !Moment::of(SATURDAY_SEVEN + 16 * 60 * MINUTE).inside(&friday_night),
            "Saturday 23:00"
        );
        assert!(
            Moment::of(SATURDAY_SEVEN - 8 * 60 * MINUTE).inside(&friday_night),
            "Friday 23:00"
        );
    }
}
