//! Every bound of the protocol. `calve.proto` states the same numbers for other languages.

/// Version of the protocol: [`wire::Hello::protocol_version`](crate::wire::Hello).
pub const PROTOCOL_VERSION: u32 = 1;

/// Vsock port on which the agent listens for the control stream.
pub const CONTROL_PORT: u32 = 1024;

/// Vsock port on the host to which the agent connects once, when it listens: "I am up".
pub const UP_PORT: u32 = 1025;

/// CID of the host on every vsock (`VMADDR_CID_HOST`, vsock(7)).
pub const HOST_CID: u32 = 2;

/// CID of every Calve guest. Each machine has its own vsock, so one number serves all.
pub const GUEST_CID: u32 = 3;

/// Longest `data` of a chunk or a log frame, in bytes.
pub const MAX_CHUNK: usize = 64 << 10;

/// Longest frame without its length prefix, in bytes: a chunk and 8 KiB for everything around it.
pub const MAX_FRAME: usize = MAX_CHUNK + (8 << 10);

/// Longest event and longest result, in bytes: the 6 MB of AWS Lambda's synchronous invocations.
pub const MAX_BODY: usize = 6 << 20;

/// Longest result that a runtime streams, in bytes: the 200 MB of AWS Lambda's response streaming. Nobody keeps it whole.
pub const MAX_STREAM: usize = 200 << 20;

/// Longest content type of a streamed result, in bytes.
pub const MAX_CONTENT_TYPE: usize = 256;

/// Log bytes of one call after which the agent reads on but passes nothing more on, and says how much that was. Enough
/// for any log that a person reads; a function that prints without end must not fill its host's disk.
pub const DEFAULT_LOG_LIMIT: u64 = 64 << 20;

/// Log bytes of one call after which the host takes the guest for broken: the agent keeps to the limit above.
pub const MAX_LOG: u64 = 2 * DEFAULT_LOG_LIMIT;

/// Longest request id and machine id, in bytes.
pub const MAX_ID: usize = 64;

/// Longest handler name, in bytes.
pub const MAX_HANDLER: usize = 256;

/// Longest function name, in bytes.
pub const MAX_FUNCTION_NAME: usize = 140;

/// Longest function version, function ARN and trace header, in bytes.
pub const MAX_LABEL: usize = 512;

/// Longest environment: names and values together, in bytes. AWS Lambda allows 4 KiB.
pub const MAX_ENV: usize = 32 << 10;

/// Shortest and longest seed of a thaw, in bytes. 32 bytes fill the kernel's ChaCha20 key.
pub const SEED_LEN: std::ops::RangeInclusive<usize> = 32..=256;

/// Longest host name, in bytes: a DNS label (RFC 1035, section 2.3.4).
pub const MAX_HOSTNAME: usize = 63;

/// Longest `error_type`, in bytes.
pub const MAX_ERROR_TYPE: usize = 256;

/// Longest `error_message`, in bytes.
pub const MAX_ERROR_MESSAGE: usize = 16 << 10;

/// Most lines of a stack trace.
pub const MAX_STACK_LINES: usize = 64;

/// Longest line of a stack trace, in bytes.
pub const MAX_STACK_LINE: usize = 512;

/// Longest agent version and longest text of a protocol error, in bytes.
pub const MAX_TEXT: usize = 1 << 10;

/// Deadline of an invocation that brings none, in milliseconds: AWS Lambda's default.
pub const DEFAULT_TIMEOUT_MS: u32 = 3_000;

/// Time for the start of a runtime where none is configured, in milliseconds: AWS Lambda's init phase.
pub const DEFAULT_INIT_TIMEOUT_MS: u32 = 10_000;

/// Time for hooks and reclaim before a freeze where none is given, in milliseconds.
pub const DEFAULT_FREEZE_TIMEOUT_MS: u32 = 10_000;

// An error at all its bounds and a whole stack trace fit into one frame.
const _: () = assert!(
    MAX_ERROR_TYPE + MAX_ERROR_MESSAGE + MAX_STACK_LINES * (MAX_STACK_LINE + 3) < MAX_FRAME - 4096
);

/// Whether `id` may name a request or a machine: 1 to [`MAX_ID`] letters, digits, `-`, `_` or `.`.
#[must_use]
pub fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
