//! Moments as people and programs read them.

use std::time::SystemTime;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// In UTC, to the millisecond: `2026-11-29T12:01:07.113Z`.
pub(crate) fn rfc3339(moment: SystemTime) -> String {
    let moment = OffsetDateTime::from(moment);
    let ms = moment.replace_nanosecond(moment.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(moment);
    ms.format(&Rfc3339).unwrap_or_default()
}

/// The time of the day at this place, of a moment as `rfc3339` writes it: `12:01:07`. With its date where that is another one than now.
pub(crate) fn time_of_day(text: &str, offset: UtcOffset, now: SystemTime) -> String {
    let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) else { return text.to_owned() };
    let (moment, today) = (moment.to_offset(offset), OffsetDateTime::from(now).to_offset(offset).date());
    let (hour, minute, second) = moment.to_hms();
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    if moment.date() == today { time } else { format!("{} {time}", moment.date()) }
}

/// How far this place is from UTC. To be asked for while the process has one thread: then only can the system be asked.
pub(crate) fn local_offset() -> UtcOffset {
    UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_written_and_read() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_796_040_067_113);
        assert_eq!(rfc3339(moment), "2026-11-30T12:01:07.113Z");
        let west = UtcOffset::from_hms(-8, -30, 0).unwrap();
        assert_eq!(time_of_day("2026-11-30T12:01:07.113Z", UtcOffset::UTC, moment), "12:01:07");
        assert_eq!(time_of_day("2026-11-30T12:01:07.113Z", west, moment), "03:31:07");
        assert_eq!(time_of_day("2026-11-30T01:00:00Z", west, moment), "2026-11-29 16:30:00");
    }
}
