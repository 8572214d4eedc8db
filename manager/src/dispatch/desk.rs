//! The task that owns the scheduler and every machine that nobody is using.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::job::Ticket;
use super::{Change, Counts, Dispatcher};
use crate::engine::{Engine, EngineError, Instance};
use crate::model::Millis;
use crate::schedule::{
    Action, Code, MachineId, Origin, Request, RequestId, Scheduler, Settings, State,
};

/// How often machines that wait are looked after: one that has died is replaced before it is missed.
const LOOK: Duration = Duration::from_secs(1);

/// What the task is told.
pub(super) enum News {
    /// Somebody wants a call made.
    Wanted { id: RequestId, ticket: Box<Ticket> },
    /// Nobody wants it any more.
    Unwanted { id: RequestId },
    /// A call is over. No machine: it could not be started.
    Served { machine: MachineId, instance: Option<Box<dyn Instance>>, usable: bool },
    /// A machine was started ahead, or reset; none, if that failed.
    Prepared { machine: MachineId, instance: Option<Box<dyn Instance>> },
    /// A machine has ended.
    Gone { machine: MachineId },
    /// So many are to be kept ready.
    Provision { code: Arc<Code>, wanted: u32, allowed_mib: u64 },
    /// A snapshot is nobody's any more.
    Retire { snapshot: String },
    /// Somebody wants to know how many there are.
    Count { tenant: Option<String>, answer: oneshot::Sender<Counts> },
    /// No more calls; somebody waits for those that there are.
    Drain { answer: oneshot::Sender<()> },
}

/// The task's state.
pub(super) struct Desk {
    engine: Arc<dyn Engine>,
    scheduler: Scheduler,
    dispatcher: Dispatcher,
    /// Calls that have no machine yet.
    tickets: HashMap<RequestId, Box<Ticket>>,
    /// Machines that nobody is using.
    instances: HashMap<MachineId, Box<dyn Instance>>,
    /// Machines that a thread is starting ahead or resetting.
    preparing: HashSet<MachineId>,
    drained: Vec<oneshot::Sender<()>>,
}

impl Desk {
    pub(super) fn new(engine: Arc<dyn Engine>, settings: Settings, dispatcher: Dispatcher) -> Self {
        let scheduler = Scheduler::new(settings);
        Self {
            engine,
            scheduler,
            dispatcher,
            tickets: HashMap::new(),
            instances: HashMap::new(),
            preparing: HashSet::new(),
            drained: Vec::new(),
        }
    }

    /// Does what is told, and what is due, until nobody is left to tell anything.
    pub(super) async fn run(mut self, mut news: mpsc::UnboundedReceiver<News>) {
        let mut look = Instant::now() + LOOK;
        loop {
            let now = self.dispatcher.now();
            let due = self.scheduler.next_tick().map(|due| due.saturating_sub(now));
            let due = due.map(|ms| Instant::now() + Duration::from_millis(ms));
            let next = due.map_or(look, |due| due.min(look));
            tokio::select! {
                told = news.recv() => match told {
                    Some(told) => self.hear(told),
                    None => return,
                },
                () = sleep_until(next) => {
                    self.scheduler.tick(self.dispatcher.now());
                    if Instant::now() >= look {
                        self.bury_the_dead();
                        look = Instant::now() + LOOK;
                    }
                }
            }
            self.act();
        }
    }

    fn hear(&mut self, news: News) {
        let now = self.dispatcher.now();
        match news {
            News::Wanted { id, ticket } => {
                let job = &ticket.job;
                let patience =
                    now.saturating_add(u64::try_from(job.patience.as_millis()).unwrap_or(u64::MAX));
                let (code, route, allowance) = (job.code.clone(), job.route.clone(), job.allowance);
                self.tickets.insert(id, ticket);
                self.scheduler.request(now, Request { id, code, route, allowance, patience });
            }
            News::Unwanted { id } => {
                if self.scheduler.cancel(now, id) {
                    self.tickets.remove(&id);
                }
            }
            News::Served { machine, instance, usable } => {
                let usable = usable && instance.is_some();
                self.instances.extend(instance.map(|instance| (machine, instance)));
                self.scheduler.finished(now, machine, usable);
            }
            News::Prepared { machine, instance } => {
                self.preparing.remove(&machine);
                self.prepared(now, machine, instance);
            }
            News::Gone { machine } => self.scheduler.gone(now, machine),
            News::Provision { code, wanted, allowed_mib } => {
                self.scheduler.provision(now, &code, wanted, allowed_mib);
            }
            News::Retire { snapshot } => self.scheduler.retire(now, &snapshot),
            News::Count { tenant, answer } => {
                // Whoever has asked may have left.
                let _ = answer.send(self.counts(tenant.as_deref()));
            }
            News::Drain { answer } => {
                self.scheduler.drain(now);
                self.drained.push(answer);
            }
        }
    }

    /// A machine that was started ahead or reset is here, or failed.
    fn prepared(&mut self, now: Millis, machine: MachineId, instance: Option<Box<dyn Instance>>) {
        match instance {
            Some(instance) if self.scheduler.ready(now, machine) => {
                self.instances.insert(machine, instance);
            }
            // It was to end while a thread had it.
            Some(instance) => self.end(machine, Some(instance)),
            None => {
                self.scheduler.failed(now, machine);
                self.scheduler.gone(now, machine);
            }
        }
    }

    /// Does what the scheduler says, and what comes of that.
    fn act(&mut self) {
        loop {
            let actions = self.scheduler.actions();
            if actions.is_empty() {
                break;
            }
            actions.into_iter().for_each(|action| self.take(action));
        }
        if self.scheduler.is_quiet() {
            for waits in self.drained.drain(..) {
                // Whoever waited may have lost patience.
                let _ = waits.send(());
            }
        }
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Run { request, machine, origin, state_lost } => {
                self.serve(request, machine, origin, state_lost);
            }
            Action::Start { machine, code } => {
                self.preparing.insert(machine);
                let (engine, lost) = (self.engine.clone(), self.dispatcher.lost.clone());
                self.away(move || {
                    let started = engine.start(&code.snapshot);
                    let told = started.inspect_err(|error| {
                        tracing::warn!(function = %code.function, %error, "cannot start a machine ahead");
                        if let EngineError::Snapshot { snapshot, .. } = error {
                            // Nobody hears it while the host stops: then it is found at the next start.
                            let _ = lost.send(snapshot.clone());
                        }
                    });
                    News::Prepared { machine, instance: told.ok() }
                });
            }
            Action::Reset { machine } => {
                self.preparing.insert(machine);
                let instance = self.instances.remove(&machine);
                self.away(move || {
                    let reset = instance.and_then(|instance| instance.reset().ok());
                    News::Prepared { machine, instance: reset }
                });
            }
            Action::Destroy { machine } => {
                // One that a thread has takes its memory until that is done with it.
                if !self.preparing.contains(&machine) {
                    let instance = self.instances.remove(&machine);
                    self.end(machine, instance);
                }
            }
            Action::Refuse { request, why } => {
                if let Some(ticket) = self.tickets.remove(&request) {
                    ticket.refuse(why);
                }
            }
            Action::Changed { machine, code, state } => {
                self.dispatcher.ready.note(machine, &code, state);
                // Nobody watches, most of the time.
                let _ = self.dispatcher.changes.send(Change { machine, code, state });
            }
        }
    }

    fn serve(&mut self, id: RequestId, machine: MachineId, origin: Origin, state_lost: bool) {
        let instance = self.instances.remove(&machine);
        if origin != Origin::New && instance.as_ref().is_none_or(|it| it.has_ended()) {
            // Nothing of the request has reached it.
            self.instances.extend(instance.map(|instance| (machine, instance)));
            return self.scheduler.died_unused(self.dispatcher.now(), machine);
        }
        let Some(ticket) = self.tickets.remove(&id) else {
            // It was given up in this very moment.
            self.instances.extend(instance.map(|instance| (machine, instance)));
            return self.scheduler.finished(self.dispatcher.now(), machine, origin != Origin::New);
        };
        let engine = self.engine.clone();
        let dispatcher = self.dispatcher.clone();
        spawn_blocking(move || {
            let code = ticket.job.code.clone();
            let start = || instance.map_or_else(|| engine.start(&code.snapshot), Ok);
            let (instance, usable, reply) = ticket.serve(origin, state_lost, start);
            // In this order: the caller's next call comes after this news.
            dispatcher.tell(News::Served { machine, instance, usable });
            reply.send();
        });
    }

    fn end(&self, machine: MachineId, instance: Option<Box<dyn Instance>>) {
        self.away(move || {
            if let Some(instance) = instance {
                instance.end();
            }
            News::Gone { machine }
        });
    }

    /// Does something that blocks on a thread, and hears what came of it.
    fn away(&self, work: impl FnOnce() -> News + Send + 'static) {
        let dispatcher = self.dispatcher.clone();
        spawn_blocking(move || dispatcher.tell(work()));
    }

    /// Machines that have died while nobody was using them.
    fn bury_the_dead(&mut self) {
        let dead = self.instances.iter().filter(|(_, instance)| instance.has_ended());
        let dead: Vec<_> = dead.map(|(machine, _)| *machine).collect();
        for machine in dead {
            self.scheduler.failed(self.dispatcher.now(), machine);
        }
    }

    fn counts(&self, tenant: Option<&str>) -> Counts {
        let scheduler = &self.scheduler;
        let count = |state| match tenant {
            Some(tenant) => scheduler.count_of(tenant, state),
            None => scheduler.count(state),
        };
        Counts {
            booting: count(State::Booting),
            warm: count(State::Warm),
            idle: count(State::Idle),
            busy: count(State::Busy),
            leaving: count(State::Resetting) + count(State::Draining),
            waiting: tenant
                .map_or_else(|| scheduler.waiting(), |tenant| scheduler.waiting_of(tenant)),
        }
    }
}
