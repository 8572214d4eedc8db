//! The queue beside a model of it that is easy to believe.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Enqueue { id: u8, due: Millis },
    Deliver { ids: Vec<u8>, due: Millis },
    Lease { now: Millis, length: Millis, most: usize },
    Postpone { id: u8, due: Millis, tries: u32 },
    Acknowledge { id: u8 },
    Bury { id: u8, now: Millis },
    ReleaseAll,
}

fn step() -> impl Strategy<Value = Step> {
    let (id, at) = (|| 0..8_u8, || 0..50_u64);
    prop_oneof![
        3 => (id(), at()).prop_map(|(id, due)| Step::Enqueue { id, due }),
        1 => (prop::collection::vec(id(), 0..4), at()).prop_map(|(ids, due)| Step::Deliver { ids, due }),
        4 => (at(), 0..20_u64, 0..5_usize)
            .prop_map(|(now, length, most)| Step::Lease { now, length, most }),
        2 => (id(), at(), 0..3_u32).prop_map(|(id, due, tries)| Step::Postpone { id, due, tries }),
        1 => id().prop_map(|id| Step::Acknowledge { id }),
        1 => (id(), at()).prop_map(|(id, now)| Step::Bury { id, now }),
        1 => Just(Step::ReleaseAll),
    ]
}

/// Messages in the order they came in, each with the end of its lease.
#[derive(Default)]
struct Model {
    messages: Vec<(Message, Millis)>,
    dead: Vec<DeadLetter>,
}

impl Model {
    fn position(&self, id: &str) -> Option<usize> {
        self.messages.iter().position(|(message, _)| message.id == id)
    }

    fn is_dead(&self, id: &str) -> bool {
        self.dead.iter().any(|letter| letter.message.id == id)
    }

    fn lease(&mut self, now: Millis, until: Millis, most: usize) -> Vec<Message> {
        let mut free: Vec<_> = self
            .messages
            .iter_mut()
            .filter(|(message, leased)| message.due <= now && *leased <= now)
            .collect();
        free.sort_by_key(|(message, _)| message.due);
        let lease = |(message, leased): &mut (Message, Millis)| {
            *leased = until;
            message.clone()
        };
        free.into_iter().take(most).map(lease).collect()
    }

    /// Messages that nobody has leased as of `now`, and leases as of then.
    fn next_due(&self) -> Option<Millis> {
        self.messages
            .iter()
            .map(|(message, leased)| if *leased == 0 { message.due } else { *leased })
            .min()
    }
}

/// Does the step with both; what they answer must be the same.
fn both(ledger: &SqliteLedger, model: &mut Model, step: Step) {
    match step {
        Step::Enqueue { id, due } => {
            let message = message(&id.to_string(), due);
            let known = model.position(&message.id).is_some();
            assert_eq!(ledger.enqueue(&message).is_err(), known);
            if !known {
                model.messages.push((message, 0));
            }
        }
        Step::Deliver { ids, due } => {
            let messages: Vec<_> = ids.iter().map(|id| message(&id.to_string(), due)).collect();
            ledger.deliver("s", "p", &messages).unwrap();
            for message in messages {
                if model.position(&message.id).is_none() && !model.is_dead(&message.id) {
                    model.messages.push((message, 0));
                }
            }
        }
        Step::Lease { now, length, most } => {
            // What has run out is free for good, whichever `now` comes next.
            for (_, leased) in &mut model.messages {
                *leased = if *leased <= now { 0 } else { *leased };
            }
            let leased = ledger.lease(now, now + length, most).unwrap();
            assert_eq!(leased, model.lease(now, now + length, most));
        }
        Step::Postpone { id, due, tries } => {
            ledger.postpone(&id.to_string(), due, tries).unwrap();
            if let Some(at) = model.position(&id.to_string()) {
                let (message, leased) = &mut model.messages[at];
                (message.due, message.tries, *leased) = (due, tries, 0);
            }
        }
        Step::Acknowledge { id } => {
            ledger.acknowledge(&id.to_string()).unwrap();
            model.messages.retain(|(message, _)| message.id != id.to_string());
        }
        Step::Bury { id, now } => {
            ledger.bury(&id.to_string(), now, "reason").unwrap();
            if let Some(at) = model.position(&id.to_string()) {
                let (message, _) = model.messages.remove(at);
                model.dead.retain(|letter| letter.message.id != message.id);
                model.dead.push(DeadLetter { message, buried: now, reason: "reason".into() });
            }
        }
        Step::ReleaseAll => {
            ledger.release_all().unwrap();
            model.messages.iter_mut().for_each(|(_, leased)| *leased = 0);
        }
    }
    assert_eq!(ledger.next_due().unwrap(), model.next_due());
    assert_eq!(ledger.backlog("acme", "f").unwrap().0, model.messages.len() as u64);
    let mut dead: Vec<_> = model.dead.iter().rev().cloned().collect();
    dead.sort_by_key(|letter| std::cmp::Reverse(letter.buried));
    assert_eq!(ledger.dead_letters("acme", "f", usize::MAX).unwrap(), dead);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_as_its_model(steps in prop::collection::vec(step(), 0..40)) {
        let (_directory, ledger) = ledger();
        // Nothing is cut short here that a sudden loss of power could show.
        lock(&ledger.writer).pragma_update(None, "synchronous", "OFF").unwrap();
        ledger.put_source(&source("s")).unwrap();
        let mut model = Model::default();
        for step in steps {
            both(&ledger, &mut model, step);
        }
    }
}
