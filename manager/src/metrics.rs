//! What the host counts and measures, for Prometheus and for people.
//!
//! Labels are enums ([`Outcome`], [`Start`], …), never names that clients choose: the number of series is fixed, all are
//! there from the start with zero, and recording takes no memory. Times of single functions are in [`Percentiles`].

use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

mod labels;
mod percentiles;
#[cfg(test)]
mod tests;

pub use labels::{
    AsyncOutcome, BuildOutcome, CodeClass, FailureKind, MachineState, Outcome, Start,
};
pub use percentiles::{Percentiles, Summary, Tally, Window};

/// What [`Metrics::render`] is, for the header of that name.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The host's metrics. All methods are safe and cheap to call from every thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    invocations: Family<Invocation, Counter>,
    first_output: Histogram,
    invocation: Histogram,
    queue_wait: Histogram,
    thaw: Histogram,
    machines: Family<Machine, Gauge>,
    queue_messages: Gauge,
    queue_oldest_age: Gauge<f64, AtomicU64>,
    functions: Gauge,
    builds: Family<Build, Counter>,
    machine_failures: Family<Failure, Counter>,
    asynchronous: Family<Async, Counter>,
    http_requests: Family<Http, Counter>,
    private_memory: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Invocation {
    outcome: Outcome,
    start: Start,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Machine {
    state: MachineState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    outcome: BuildOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: FailureKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Async {
    outcome: AsyncOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Http {
    code: CodeClass,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every series at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("calve"),
            invocations: Family::default(),
            first_output: times(),
            invocation: times(),
            queue_wait: times(),
            thaw: times(),
            machines: Family::default(),
            queue_messages: Gauge::default(),
            queue_oldest_age: Gauge::default(),
            functions: Gauge::default(),
            builds: Family::default(),
            machine_failures: Family::default(),
            asynchronous: Family::default(),
            http_requests: Family::default(),
            private_memory: Gauge::default(),
        };
        metrics.register_calls();
        metrics.register_host();
        metrics.make_series();
        metrics
    }

    fn register_calls(&mut self) {
        let (r, seconds) = (&mut self.registry, || Unit::Seconds);
        r.register("invocations", "Calls that were answered or refused", self.invocations.clone());
        let help = "From the request for a machine to the function's first output";
        r.register_with_unit("first_output", help, seconds(), self.first_output.clone());
        let help = "From the request to its answer";
        r.register_with_unit("invocation", help, seconds(), self.invocation.clone());
        let help = "What asynchronous calls waited after they were due";
        r.register_with_unit("queue_wait", help, seconds(), self.queue_wait.clone());
        let help = "From a snapshot to a machine that can be called";
        r.register_with_unit("thaw", help, seconds(), self.thaw.clone());
        r.register("async", "Tries of asynchronous calls", self.asynchronous.clone());
        r.register("http_requests", "Requests by class of status", self.http_requests.clone());
    }

    fn register_host(&mut self) {
        let r = &mut self.registry;
        r.register("machines", "Machines by state", self.machines.clone());
        let help = "Messages that wait or are being delivered";
        r.register("queue_messages", help, self.queue_messages.clone());
        let (help, age) = ("Age of the oldest message that waits", self.queue_oldest_age.clone());
        r.register_with_unit("queue_oldest_age", help, Unit::Seconds, age);
        r.register("functions", "Functions of all tenants", self.functions.clone());
        r.register("builds", "Snapshots that were built, or not", self.builds.clone());
        let help = "Machines that failed or could not be had";
        r.register("machine_failures", help, self.machine_failures.clone());
        let help = "Private memory of a machine after a call, mean of those last seen";
        r.register("private_memory_kib", help, self.private_memory.clone());
    }

    fn make_series(&self) {
        // What is throttled does not start, and everything else does.
        let starts = |outcome| {
            let none = outcome == Outcome::Throttled;
            Start::ALL.iter().filter(move |start| (**start == Start::None) == none)
        };
        make(&self.invocations, Outcome::ALL, |&outcome| {
            starts(outcome).map(move |&start| Invocation { outcome, start })
        });
        make(&self.machines, MachineState::ALL, |&state| [Machine { state }]);
        make(&self.builds, BuildOutcome::ALL, |&outcome| [Build { outcome }]);
        make(&self.machine_failures, FailureKind::ALL, |&kind| [Failure { kind }]);
        make(&self.asynchronous, AsyncOutcome::ALL, |&outcome| [Async { outcome }]);
        make(&self.http_requests, CodeClass::ALL, |&code| [Http { code }]);
    }

    /// All series as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        // A string takes all that is written to it.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// A call was answered `took` after its request, or refused.
    pub fn record_invocation(&self, outcome: Outcome, start: Start, took: Duration) {
        self.invocations.get_or_create(&Invocation { outcome, start }).inc();
        self.invocation.observe(took.as_secs_f64());
    }

    /// A function put its first output out `took` after a machine was asked for.
    pub fn record_first_output(&self, took: Duration) {
        self.first_output.observe(took.as_secs_f64());
    }

    /// An asynchronous call was tried `waited` after it was due.
    pub fn record_queue_wait(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// A machine could be called `took` after its start.
    pub fn record_thaw(&self, took: Duration) {
        self.thaw.observe(took.as_secs_f64());
    }

    /// A snapshot was built, or not.
    pub fn record_build(&self, outcome: BuildOutcome) {
        self.builds.get_or_create(&Build { outcome }).inc();
    }

    /// A machine failed or could not be had.
    pub fn record_machine_failure(&self, kind: FailureKind) {
        self.machine_failures.get_or_create(&Failure { kind }).inc();
    }

    /// An asynchronous call was tried.
    pub fn record_async(&self, outcome: AsyncOutcome) {
        self.asynchronous.get_or_create(&Async { outcome }).inc();
    }

    /// A request was answered with `status`.
    pub fn record_http(&self, status: StatusCode) {
        self.http_requests.get_or_create(&Http { code: status.into() }).inc();
    }

    /// So many machines are in `state`.
    pub fn set_machines(&self, state: MachineState, machines: u64) {
        self.machines.get_or_create(&Machine { state }).set(whole(machines));
    }

    /// So many messages wait or are being delivered, the oldest for so long.
    pub fn set_queue(&self, messages: u64, oldest_age: Duration) {
        self.queue_messages.set(whole(messages));
        self.queue_oldest_age.set(oldest_age.as_secs_f64());
    }

    /// There are so many functions.
    pub fn set_functions(&self, functions: u64) {
        self.functions.set(whole(functions));
    }

    /// Machines have so much private memory after a call, KiB, on average.
    pub fn set_private_memory(&self, kib: u64) {
        self.private_memory.set(whole(kib));
    }
}

/// Makes a family's series: one that is not there until its first event hides that event from `rate()`.
fn make<V, L: Clone + Hash + Eq, M: Default, I: IntoIterator<Item = L>>(
    family: &Family<L, M>,
    values: &[V],
    labels: impl Fn(&V) -> I,
) {
    for labels in values.iter().flat_map(labels) {
        drop(family.get_or_create(&labels));
    }
}

/// Doubling from 100 µs to 105 s.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(100e-6, 2.0, 21))
}

/// A gauge's number.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
