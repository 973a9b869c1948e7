//! Calendar fields of points in time, in UTC.

use crate::functions::FunctionId;

/// A day of the Gregorian calendar.
struct Date {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// From 1.
    day: i64,
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The date of a day counted from 1970-01-01.
///
/// Years are taken to begin in March, so that the leap day is their last; 400 of them have 146,097 days.
fn date(days: i64) -> Date {
    let since_march_of_year_0 = days + 719_468;
    let era = since_march_of_year_0.div_euclid(146_097);
    let day_of_era = since_march_of_year_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Date { year, month, day }
}

/// The field of a time in seconds since the epoch that the function asks for.
pub(crate) fn field(function: FunctionId, seconds: f64) -> f64 {
    use FunctionId as F;
    // The cast saturates; NaN becomes 0. Beyond this many seconds the calendar has no meaning anyway.
    let seconds = (seconds as i64).clamp(-(1 << 55), 1 << 55);
    let days = seconds.div_euclid(86_400);
    let second_of_day = seconds.rem_euclid(86_400);
    let d = date(days);
    let value = match function {
        F::DayOfMonth => d.day,
        // 1970-01-01 was a Thursday.
        F::DayOfWeek => (days + 4).rem_euclid(7),
        F::DayOfYear => (1..d.month).map(|m| days_in_month(d.year, m)).sum::<i64>() + d.day,
        F::DaysInMonth => days_in_month(d.year, d.month),
        F::Hour => second_of_day / 3600,
        F::Minute => second_of_day / 60 % 60,
        F::Month => d.month,
        _ => d.year,
    };
    value as f64
}

/// A time in ms since the epoch as RFC 3339 has it, with as many digits of a second as it needs.
pub(crate) fn rfc3339(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let d = date(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let fraction = match ms.rem_euclid(1000) {
        0 => String::new(),
        ms => format!(".{ms:03}").trim_end_matches('0').to_owned(),
    };
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z", d.year, d.month, d.day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: f64, expected: [f64; 8]) {
        use FunctionId as F;
        let functions =
            [F::Year, F::Month, F::DayOfMonth, F::DayOfWeek, F::DayOfYear, F::DaysInMonth, F::Hour, F::Minute];
        assert_eq!(functions.map(|f| field(f, seconds)), expected);
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_136_239_445_120), "2006-01-02T22:04:05.12Z");
    }

    #[test]
    fn fields_follow_the_calendar() {
        check(0.0, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]);
        check(951_782_400.0 + 3661.0, [2000.0, 2.0, 29.0, 2.0, 60.0, 29.0, 1.0, 1.0]);
        check(-1.0, [1969.0, 12.0, 31.0, 3.0, 365.0, 31.0, 23.0, 59.0]);
        check(1_136_239_445.0, [2006.0, 1.0, 2.0, 1.0, 2.0, 31.0, 22.0, 4.0]);
    }
}
