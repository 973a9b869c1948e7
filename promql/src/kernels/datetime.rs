//! Calendar functions of seconds since the epoch, in UTC.

use crate::functions::FunctionId;

const DAY: i64 = 86_400;

/// The calendar function `id` of a time in seconds, if `id` is one.
pub(crate) fn function(id: FunctionId) -> Option<fn(f64) -> f64> {
    Some(match id {
        FunctionId::Minute => |v| on_seconds(v, |s| s.rem_euclid(3600) / 60),
        FunctionId::Hour => |v| on_seconds(v, |s| s.rem_euclid(DAY) / 3600),
        // The epoch was a Thursday, and Sunday is 0.
        FunctionId::DayOfWeek => |v| on_seconds(v, |s| (s.div_euclid(DAY) + 4).rem_euclid(7)),
        FunctionId::DayOfMonth => |v| on_seconds(v, |s| civil(s.div_euclid(DAY)).2),
        FunctionId::Month => |v| on_seconds(v, |s| civil(s.div_euclid(DAY)).1),
        FunctionId::Year => |v| on_seconds(v, |s| civil(s.div_euclid(DAY)).0),
        FunctionId::DayOfYear => |v| {
            on_seconds(v, |s| {
                let days = s.div_euclid(DAY);
                days - days_before(civil(days).0) + 1
            })
        },
        FunctionId::DaysInMonth => |v| {
            on_seconds(v, |s| {
                let (year, month, _) = civil(s.div_euclid(DAY));
                days_in_month(year, month)
            })
        },
        _ => return None,
    })
}

/// A time that is not a number, or beyond what a date can be, has no date.
fn on_seconds(v: f64, f: impl Fn(i64) -> i64) -> f64 {
    if v.is_nan() || v.abs() > 1e17 { f64::NAN } else { f(v as i64) as f64 }
}

/// Days from the epoch to the first of January of `year`.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month (from 1) and day (from 1) of a day counted from the epoch.
///
/// # Source
/// Howard Hinnant, "chrono-compatible low-level date algorithms": years start in March, so that the leap day is last.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A time in ms as `2006-01-02T15:04:05.999Z`, without a fraction of zero.
pub(crate) fn rfc3339(ms: i64) -> String {
    let (secs, fraction) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    let (year, month, day) = civil(secs.div_euclid(DAY));
    let of_day = secs.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction = match fraction {
        0 => String::new(),
        f => format!(".{f:03}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(id: FunctionId, secs: f64, want: f64) {
        assert_eq!(function(id).unwrap()(secs), want, "{id:?} of {secs}");
    }

    #[test]
    fn calendar_is_utc() {
        check(FunctionId::Year, 1_230_767_999.0, 2008.0);
        check(FunctionId::Year, 1_230_768_000.0, 2009.0);
        check(FunctionId::Month, 1_456_790_399.0, 2.0);
        check(FunctionId::DayOfMonth, 1_456_790_399.0, 29.0);
        check(FunctionId::DayOfMonth, 1_456_790_400.0, 1.0);
        check(FunctionId::DayOfYear, 1_483_191_420.0, 366.0);
        check(FunctionId::DayOfYear, 1_672_530_219.0, 365.0);
        check(FunctionId::DaysInMonth, 1_454_284_800.0, 29.0);
        check(FunctionId::DayOfWeek, 0.0, 4.0);
        check(FunctionId::Hour, 1_136_239_445.0, 22.0);
        check(FunctionId::Minute, 1_136_239_445.0, 4.0);
        check(FunctionId::Year, -1.0, 1969.0);
    }

    #[test]
    fn times_are_written_with_the_fraction_they_have() {
        assert_eq!(rfc3339(1_136_239_445_000), "2006-01-02T22:04:05Z");
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn days_agree_with_counting() {
        let mut days = 0;
        for year in 1970..2110 {
            assert_eq!(days_before(year), days);
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(civil(days), (year, month, day));
                    days += 1;
                }
            }
        }
    }
}
