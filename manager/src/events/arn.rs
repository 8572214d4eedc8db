//! ARNs of event sources.
//!
//! ```text
//! arn:calve:file:<region>:<account>:<folder>
//! arn:calve:queue:<region>:<account>:<name>
//! arn:calve:table:<region>:<account>:<database>/<table>
//! arn:calve:schedule:<region>:<account>:<id>       only shown: a schedule has nothing that it could be found by
//! ```
//!
//! Region and account may be left out, as S3's are.

use http::StatusCode;

use super::settings::Kind;
use crate::api::ApiError;

/// ARN of what a source takes events from.
pub(super) fn of(region: &str, account: &str, id: &str, kind: &Kind) -> String {
    match kind {
        Kind::FileDrop { folder, .. } => format!("arn:calve:file:{region}:{account}:{folder}"),
        Kind::Schedule { .. } => format!("arn:calve:schedule:{region}:{account}:{id}"),
        Kind::Queue { name, .. } => format!("arn:calve:queue:{region}:{account}:{name}"),
        Kind::Table { database, table, .. } => {
            format!("arn:calve:table:{region}:{account}:{database}/{table}")
        }
    }
}

/// ARN of a source itself.
pub(super) fn of_mapping(region: &str, account: &str, id: &str) -> String {
    format!("arn:aws:lambda:{region}:{account}:event-source-mapping:{id}")
}

/// What an ARN in a request stands for, set up as if nothing else was said.
pub(super) fn parse(text: &str, region: &str, account: &str) -> Result<Kind, ApiError> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", "calve", service, of_region, of_account, rest] = parts.as_slice() else {
        return Err(unknown(text));
    };
    if !of_region.is_empty() && *of_region != region {
        return Err(ApiError::invalid(format!("EventSourceArn is not of this region, {region}")));
    }
    if !of_account.is_empty() && *of_account != account {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "AccessDeniedException",
            "EventSourceArn belongs to another account",
        ));
    }
    let rest = (*rest).to_owned();
    match *service {
        "file" => Ok(Kind::FileDrop { folder: rest, inline: false, keep: false }),
        "queue" => Ok(Kind::Queue { name: rest, batch_size: 1 }),
        "table" => {
            let (database, table) = rest.split_once('/').ok_or_else(|| unknown(text))?;
            let (database, table) = (database.to_owned(), table.to_owned());
            Ok(Kind::Table { database, table, existing: false })
        }
        _ => Err(unknown(text)),
    }
}

fn unknown(text: &str) -> ApiError {
    let shown: String = text.chars().take(160).collect();
    ApiError::invalid(format!(
        "Unrecognized event source: `{shown}`; there are arn:calve:file:::folder, arn:calve:queue:::name and \
         arn:calve:table:::database/table here, and schedules by /calve/v1/sources"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let kind = Kind::Queue { name: "orders".into(), batch_size: 1 };
        let arn = of("eu-central-1", "123456789012", "id", &kind);
        assert_eq!(arn, "arn:calve:queue:eu-central-1:123456789012:orders");
        assert_eq!(parse(&arn, "eu-central-1", "123456789012").unwrap(), kind);
        assert_eq!(parse("arn:calve:queue:::orders", "x", "y").unwrap(), kind);
        let (database, table) = ("shop.db".into(), "orders".into());
        let kind = Kind::Table { database, table, existing: false };
        let arn = of("eu-central-1", "123456789012", "id", &kind);
        assert_eq!(arn, "arn:calve:table:eu-central-1:123456789012:shop.db/orders");
        assert_eq!(parse(&arn, "eu-central-1", "123456789012").unwrap(), kind);
    }

    #[test]
    fn refuses_what_is_not_the_callers() {
        for (text, name) in [
            ("arn:calve:file::210987654321:inbox", "AccessDeniedException"),
            ("arn:calve:file:us-east-1::inbox", "InvalidParameterValueException"),
            ("arn:aws:sqs:eu-central-1:123456789012:orders", "InvalidParameterValueException"),
            ("arn:calve:schedule:::x", "InvalidParameterValueException"),
            ("arn:calve:table:::shop.db", "InvalidParameterValueException"),
            ("inbox", "InvalidParameterValueException"),
        ] {
            let error = parse(text, "eu-central-1", "123456789012").unwrap_err();
            assert_eq!(error.name, name, "{text}");
        }
    }
}
