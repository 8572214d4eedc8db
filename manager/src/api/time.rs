//! Times as AWS Lambda writes them.

use crate::model::Millis;

/// `2026-11-28T16:00:00.000+0000`.
pub(crate) fn timestamp(millis: Millis) -> String {
    let time = i64::try_from(millis).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_look_like_lambdas() {
        assert_eq!(timestamp(1_795_881_600_000), "2026-11-28T16:00:00.000+0000");
        assert_eq!(timestamp(1_795_881_600_042), "2026-11-28T16:00:00.042+0000");
    }
}
