use std::sync::Arc;
use std::time::Duration;

use super::draw::Draw;
use super::expect::{Check, Checked};
use super::fleet::Fleet;
use super::script::{Act, Deed, Refusal, Script};
use super::summary::{self, RouteSummary};
use super::timeline::{Notes, Timeline, What};
use super::world::World;
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Mail of a route that does not say how much it is: a message a second.
const DEFAULT_PER_SECOND: f64 = 1.0;
const TICK: Duration = Duration::from_secs(1);

/// A scenario with its fleet, ready to be run; each run is the same.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) seed: u64,
    pub(super) observers: Vec<Arc<str>>,
    pub(super) fleet: Fleet,
    pub(super) script: Script,
    /// In the order of time.
    pub(super) acts: Vec<Act>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) warnings: Vec<String>,
    pub(super) checks: Vec<Check>,
    /// By event.
    pub(super) event_texts: Vec<String>,
    /// By event: what a person asks is over at once.
    pub(super) is_lasting: Vec<bool>,
}

/// What came of a simulation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that changed.
    pub timeline: Timeline,
    /// By route of the fleet.
    pub summaries: Vec<RouteSummary>,
    /// By expectation.
    pub checked: Vec<Checked>,
    /// So many rounds of probes were made.
    pub rounds: u64,
}

impl Simulation {
    /// Things that a reader should know of, each a sentence.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How long it lasts.
    pub fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    /// Runs it. Whether rounds are skipped where nothing can change makes no difference but to the time that it takes.
    ///
    /// The fleet has been up and undisturbed before the scenario begins, for as long as any hold on a fresh route lasts.
    pub fn run(&self, is_skipping: bool) -> Outcome {
        let mut world =
            World::new(self.fleet.clone(), &self.observers, self.script.clone(), self.seed, self.start - self.lead());
        if is_skipping {
            world = world.skipping();
        }
        let mut notes = Notes::new(self.fleet.routes.len());
        world.run_until(self.start - Duration::from_micros(1), &mut notes);
        (0..self.fleet.routes.len()).for_each(|route| world.look_again(route, &mut notes));
        notes.open(self.start, (0..self.fleet.backends.len()).map(|backend| world.verdict(backend)));
        let mut mail = Mail {
            draw: Draw::new(self.seed).of(u64::from_be_bytes(*b"messages")),
            credits: vec![0.0; self.refusals.len()],
            count: 0,
        };
        for act in &self.acts {
            self.pass(&mut world, &mut notes, act.at, &mut mail);
            match &act.what {
                Deed::Note { event, is_over } => notes.note(act.at, What::Event { event: *event, is_over: *is_over }),
                Deed::Suspend { backend, is_suspended } => world.suspend(*backend, *is_suspended, &mut notes),
                Deed::Limit { backend, quota_left } => world.limit(*backend, *quota_left, &mut notes),
                Deed::Ask { route, request } => world.ask(*route, request.clone(), &mut notes),
            }
        }
        self.pass(&mut world, &mut notes, self.end, &mut mail);
        let timeline = notes.timeline;
        Outcome {
            summaries: summary::of(self, &timeline),
            checked: self.checks.iter().map(|check| check.check(self, &timeline)).collect(),
            rounds: world.rounds(),
            timeline,
        }
    }

    /// So long before the start the fleet came up.
    fn lead(&self) -> Duration {
        let holds = self.fleet.routes.iter().map(|route| route.policy.hold.minimum_stay + route.policy.hold.cooldown);
        let probes = self.fleet.backends.iter().flat_map(|backend| &backend.backend.probes);
        let first_rounds = probes.map(|probe| probe.interval * 2 + probe.timeout).max().unwrap_or_default();
        holds.max().unwrap_or_default() + first_rounds
    }

    /// Lets time pass; while mail tells something, second by second.
    fn pass(&self, world: &mut World<Script>, notes: &mut Notes, until: Timestamp, mail: &mut Mail) {
        while world.now() < until {
            let now = world.now();
            let told = || self.refusals.iter().filter(|refusal| refusal.told.is_some());
            if told().any(|refusal| refusal.from <= now && now < refusal.until) {
                world.run_until(until.min(now + TICK), notes);
                self.tell(world, notes, mail);
            } else {
                let next = told().map(|refusal| refusal.from).filter(|from| *from > now).min();
                world.run_until(next.map_or(until, |next| until.min(next)), notes);
            }
        }
    }

    /// What the mail of one tick tells.
    fn tell(&self, world: &mut World<Script>, notes: &mut Notes, mail: &mut Mail) {
        let now = world.now();
        for (index, refusal) in self.refusals.iter().enumerate() {
            let Some((class, message)) = &refusal.told else { continue };
            if now < refusal.from || now >= refusal.until {
                continue;
            }
            let per_second = self.mail_of(world, refusal.backend) * TICK.as_secs_f64();
            // More than one message in a tick tells no more than one.
            mail.credits[index] = (mail.credits[index] + per_second).min(1.0);
            if mail.credits[index] >= 1.0 {
                mail.credits[index] -= 1.0;
                mail.count += 1;
                if mail.draw.fraction(mail.count) < f64::from(refusal.percent) / 100.0 {
                    world.hear_of_mail(refusal.backend, *class, message, notes);
                } else {
                    world.hear_of_mail(refusal.backend, EvidenceClass::Ok, &Arc::from("250 accepted"), notes);
                }
            }
        }
    }

    /// So many messages a second go through a backend.
    fn mail_of(&self, world: &World<Script>, backend: usize) -> f64 {
        let name = &self.fleet.backends[backend].key.name;
        let users = self.fleet.backends[backend].routes.iter();
        users
            .map(|route| {
                let traffic = self.fleet.routes[*route].route.traffic;
                let per_second = traffic.messages_per_day.map_or(DEFAULT_PER_SECOND, |day| f64::from(day) / 86_400.0);
                let shares = world.memory(*route).shares.iter().filter(|share| share.backend == *name);
                shares.map(|share| f64::from(share.percent) / 100.0 * per_second).sum::<f64>()
            })
            .sum()
    }
}

/// Mail under way, as far as it tells something.
struct Mail {
    draw: Draw,
    /// By refusal: the part of a message that has come together.
    credits: Vec<f64>,
    count: u64,
}
