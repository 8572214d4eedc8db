//! The values of labels.

use std::fmt::Write as _;

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::engine::EngineError;

/// An enum with the text of each value in the metrics. (The derive of `prometheus-client` knows only the variants' own
/// names, which begin with capitals.)
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its text in the metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// What came of a call.
    Outcome {
        /// The function's result.
        Ok = "ok",
        /// The function's own error.
        FunctionError = "function_error",
        /// Over a limit: it was not made.
        Throttled = "throttled",
        /// Its machine failed, or there was none to be had.
        MachineError = "machine_error",
        /// It took longer than it may.
        Timeout = "timeout",
    }
}

label! {
    /// Where a call's answer came from.
    Start {
        /// A machine that had answered a call before.
        Reuse = "reuse",
        /// A machine that was kept ready.
        Warm = "warm",
        /// A machine that was started for it.
        Cold = "cold",
        /// The record of an earlier run.
        Record = "record",
        /// Nowhere: it was not made.
        None = "none",
    }
}

label! {
    /// What a machine does.
    MachineState {
        /// It is being started.
        Booting = "booting",
        /// It is ready and has answered no call.
        Warm = "warm",
        /// It waits for another call.
        Idle = "idle",
        /// It is being called.
        Busy = "busy",
        /// It ends after its call.
        Draining = "draining",
    }
}

label! {
    /// What came of a build.
    BuildOutcome {
        /// A snapshot.
        Ok = "ok",
        /// None.
        Failed = "failed",
    }
}

label! {
    /// Why a machine failed or could not be had.
    FailureKind {
        /// Its snapshot cannot be opened.
        Snapshot = "snapshot",
        /// It ended, or there was no room for it.
        Machine = "machine",
        /// It did not answer in time.
        Timeout = "timeout",
    }
}

impl FailureKind {
    /// What kind of failure that is; none if the machine is as it was.
    pub fn of(error: &EngineError) -> Option<Self> {
        match error {
            EngineError::Snapshot { .. } => Some(Self::Snapshot),
            EngineError::Machine(_) => Some(Self::Machine),
            EngineError::TimedOut => Some(Self::Timeout),
            EngineError::Request(_) => None,
        }
    }
}

label! {
    /// What came of a try of an asynchronous call.
    AsyncOutcome {
        /// It is done.
        Ok = "ok",
        /// It will be tried again.
        Retried = "retried",
        /// It was given up.
        Dead = "dead",
    }
}

label! {
    /// The class of an HTTP status.
    CodeClass {
        /// Informational.
        Informational = "1xx",
        /// Success.
        Success = "2xx",
        /// Redirection.
        Redirection = "3xx",
        /// The client's error.
        ClientError = "4xx",
        /// Ours.
        ServerError = "5xx",
    }
}

impl From<StatusCode> for CodeClass {
    /// Statuses above 599, which nobody defines, are errors of ours.
    fn from(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}
