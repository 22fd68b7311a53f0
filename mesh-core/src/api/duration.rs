//! Durations as users write them: `1.5s`, `100ms`, `1h30m`. Istio reads them by protojson (seconds with a fraction and an
//! `s`) from the API server and by Go's `time.ParseDuration` from files; both forms are accepted here.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A length of time. Negative ones are refused by the parser: no field of the API has a use for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    pub fn get(self) -> std::time::Duration {
        self.0
    }

    /// None: not a duration.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::default());
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        let mut nanos: u128 = 0;
        let mut parts = 0;
        while !rest.is_empty() {
            let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let (number, tail) = rest.split_at_checked(number_len)?;
            let unit_len = tail.bytes().take_while(|b| !(b.is_ascii_digit() || *b == b'.')).count();
            let (unit, tail) = tail.split_at_checked(unit_len)?;
            nanos = nanos.checked_add(part(number, unit_nanos(unit)?)?)?;
            parts += 1;
            rest = tail;
        }
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        let below = u32::try_from(nanos % 1_000_000_000).ok()?;
        // Protobuf's Duration ends at 315,576,000,000 s.
        (parts > 0 && seconds <= 315_576_000_000).then(|| Self(std::time::Duration::new(seconds, below)))
    }
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `1.5` of a unit, in nanoseconds; digits below a nanosecond are cut.
fn part(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 20 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(scale.checked_mul(u128::from(digit - b'0'))?)?;
    }
    Some(nanos)
}

fn without_unit<E: de::Error>(number: impl fmt::Display) -> E {
    E::custom(format_args!("`{number}` is not a duration, it has no unit: did you mean `{number}s`?"))
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;
        impl Visitor<'_> for DurationVisitor {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as `1.5s`, `100ms` or `1h30m`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                Duration::parse(text).ok_or_else(|| match text.parse::<f64>() {
                    Ok(number) if number.is_finite() && number >= 0.0 => without_unit(text),
                    _ => E::invalid_value(de::Unexpected::Str(text), &self),
                })
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
                Err(without_unit(number))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Duration, E> {
                Err(without_unit(number))
            }
        }
        deserializer.deserialize_any(DurationVisitor)
    }
}
