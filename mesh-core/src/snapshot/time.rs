//! Dates in templates, UTC. The time is passed in; nothing here reads a clock.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `%START_TIME%` means without a format.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

struct Civil {
    year: i64,
    month: u32,
    day: u32,
    year_day: u32,
    week_day: u32,
    hour: u64,
    minute: u64,
    second: u64,
}

/// Appends the time in the manner of strftime, with Envoy's `%3f` (digits of the fraction) and `%E3S` (seconds with
/// fraction). What it does not know stays as it is.
pub(crate) fn append(out: &mut Vec<u8>, format: &str, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let civil = civil(since.as_secs());
    let format = if format.is_empty() { DEFAULT } else { format };
    let mut text = String::with_capacity(format.len() + 16);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        let taken = directive(&mut text, rest, &civil, since);
        if taken == 0 {
            text.push('%');
        }
        rest = rest.get(taken..).unwrap_or("");
    }
    text.push_str(rest);
    out.extend_from_slice(text.as_bytes());
}

/// Writes one directive and returns its length without the `%`; 0 if it is none.
fn directive(out: &mut String, rest: &str, civil: &Civil, since: Duration) -> usize {
    let mut chars = rest.chars();
    let Some(first) = chars.next() else { return 0 };
    let second = chars.next();
    let hour12 = if civil.hour.is_multiple_of(12) { 12 } else { civil.hour % 12 };
    let written = match first {
        'Y' => write!(out, "{}", civil.year),
        'C' => write!(out, "{:02}", civil.year / 100),
        'y' => write!(out, "{:02}", civil.year % 100),
        'm' => write!(out, "{:02}", civil.month),
        'd' => write!(out, "{:02}", civil.day),
        'e' => write!(out, "{:2}", civil.day),
        'j' => write!(out, "{:03}", civil.year_day),
        'H' => write!(out, "{:02}", civil.hour),
        'I' => write!(out, "{hour12:02}"),
        'M' => write!(out, "{:02}", civil.minute),
        'S' => write!(out, "{:02}", civil.second),
        'p' => write!(out, "{}", if civil.hour < 12 { "AM" } else { "PM" }),
        's' => write!(out, "{}", since.as_secs()),
        'F' => write!(out, "{}-{:02}-{:02}", civil.year, civil.month, civil.day),
        'T' => write!(out, "{:02}:{:02}:{:02}", civil.hour, civil.minute, civil.second),
        'R' => write!(out, "{:02}:{:02}", civil.hour, civil.minute),
        'D' => write!(out, "{:02}/{:02}/{:02}", civil.month, civil.day, civil.year % 100),
        'u' => write!(out, "{}", if civil.week_day == 0 { 7 } else { civil.week_day }),
        'w' => write!(out, "{}", civil.week_day),
        'B' => write!(out, "{}", month(civil.month)),
        'b' | 'h' => write!(out, "{}", month(civil.month).get(..3).unwrap_or("")),
        'A' => write!(out, "{}", week_day(civil.week_day)),
        'a' => write!(out, "{}", week_day(civil.week_day).get(..3).unwrap_or("")),
        'Z' => write!(out, "UTC"),
        'z' => write!(out, "+0000"),
        '%' => write!(out, "%"),
        'f' => {
            fraction(out, since, 9);
            return 1;
        }
        '1'..='9' if second == Some('f') => {
            fraction(out, since, first.to_digit(10).unwrap_or(9) as usize);
            return 2;
        }
        'E' => return extended(out, rest, civil, since),
        _ => return 0,
    };
    if written.is_ok() { first.len_utf8() } else { 0 }
}

/// `E3S`, `E*S`
fn extended(out: &mut String, rest: &str, civil: &Civil, since: Duration) -> usize {
    let mut chars = rest.chars().skip(1);
    let digits = match chars.next() {
        Some(digit @ '0'..='9') => digit.to_digit(10).unwrap_or(0) as usize,
        Some('*') => 9,
        _ => return 0,
    };
    if chars.next() != Some('S') {
        return 0;
    }
    let _ = write!(out, "{:02}", civil.second);
    if digits > 0 {
        out.push('.');
        fraction(out, since, digits);
    }
    3
}

fn fraction(out: &mut String, since: Duration, digits: usize) {
    let nanos = format!("{:09}", since.subsec_nanos());
    out.push_str(nanos.get(..digits).unwrap_or(&nanos));
}

fn month(number: u32) -> &'static str {
    MONTHS.get(number as usize - 1).copied().unwrap_or("")
}

fn week_day(number: u32) -> &'static str {
    DAYS.get(number as usize).copied().unwrap_or("")
}

/// Gregorian date of a count of seconds since 1970, by counting days from 1 March 0000 in cycles of 400 years.
fn civil(seconds: u64) -> Civil {
    let days = seconds / 86_400;
    let of_day = seconds % 86_400;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = (year_of_era + era * 400 + u64::from(month <= 2)) as i64;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    // From 1 March to 1 January.
    let year_day = if month <= 2 { day_of_year - 306 + 1 } else { day_of_year + 59 + u64::from(leap) + 1 };
    Civil {
        year,
        month: month as u32,
        day: day as u32,
        year_day: year_day as u32,
        week_day: ((days + 4) % 7) as u32,
        hour: of_day / 3_600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
    }
}
