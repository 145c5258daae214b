//! The claim to the leadership, for everyone who writes under it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::lease;

/// This replica is not the leader, or not in the same term any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leader's claim is lost")]
pub struct ClaimLost;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeldTerm {
    term: u64,
    transitions: i32,
    deadline: Instant,
}

/// View of this replica's leadership. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    held: watch::Receiver<Option<HeldTerm>>,
    term: watch::Receiver<Option<u64>>,
}

impl Leadership {
    /// Returns a claim for the rest of the present term; `None` if this replica does not lead.
    pub fn claim(&self) -> Option<Claim> {
        let held = (*self.held.borrow())?;
        let claim = Claim { held: self.held.clone(), term: held.term, transitions: held.transitions };
        claim.check().is_ok().then_some(claim)
    }

    /// Returns a receiver of the present term; its value is `None` while this replica does not lead.
    ///
    /// Two changes in quick succession may be seen as one, but never as none: another term has another number. A
    /// reader must still [`Claim::check`] before it writes.
    // A frozen process is told of its loss only after it has been thawed.
    pub fn subscribe(&self) -> watch::Receiver<Option<u64>> {
        self.term.clone()
    }

    /// Creates a leadership that lasts this long, without an election.
    #[cfg(test)]
    pub(crate) fn for_test(lasts: Duration) -> (Self, ClaimPublisher) {
        let (publisher, leadership) = channel();
        let held = lease::HeldLease { term: 1, transitions: 0, deadline: lasts };
        publisher.publish(Instant::now(), Some(held));
        (leadership, publisher)
    }
}

/// Claim to one term. It is lost at its deadline at the latest, even if nothing in this process runs at that moment. A
/// lost claim never becomes valid again.
#[derive(Clone, Debug)]
pub struct Claim {
    held: watch::Receiver<Option<HeldTerm>>,
    term: u64,
    transitions: i32,
}

impl Claim {
    /// Returns the time left of a valid claim. Must be called right before every side effect.
    ///
    /// # Errors
    /// [`ClaimLost`] from the deadline on, and in another term.
    pub fn check(&self) -> Result<Duration, ClaimLost> {
        self.valid_until().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Runs a write for as long as the claim is valid.
    ///
    /// # Errors
    /// [`ClaimLost`] if the claim ends first; the write may have been sent.
    // Checked before each step of the write, so that a process that is frozen in the middle of it goes no further when
    // it is thawed.
    pub async fn guard<F: Future>(&self, write: F) -> Result<F::Output, ClaimLost> {
        let mut write = std::pin::pin!(write);
        loop {
            let deadline = self.valid_until()?;
            let checked = std::future::poll_fn(|context| match self.valid_until() {
                Ok(_) => write.as_mut().poll(context).map(Ok),
                Err(lost) => std::task::Poll::Ready(Err(lost)),
            });
            tokio::select! {
                biased;
                output = checked => return output,
                // The deadline may have been extended meanwhile: check again.
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// `spec.leaseTransitions` of the claim's term.
    pub fn transitions(&self) -> i32 {
        self.transitions
    }

    fn valid_until(&self) -> Result<Instant, ClaimLost> {
        let held = (*self.held.borrow()).filter(|held| held.term == self.term).ok_or(ClaimLost)?;
        if Instant::now() < held.deadline { Ok(held.deadline) } else { Err(ClaimLost) }
    }
}

/// Sender of the [`Leadership`]. A claim still ends at its deadline if this is dropped.
#[derive(Debug)]
pub(crate) struct ClaimPublisher {
    held: watch::Sender<Option<HeldTerm>>,
    term: watch::Sender<Option<u64>>,
}

/// Creates both ends. Nobody leads at first.
pub(super) fn channel() -> (ClaimPublisher, Leadership) {
    let (held, held_receiver) = watch::channel(None);
    let (term, term_receiver) = watch::channel(None);
    (ClaimPublisher { held, term }, Leadership { held: held_receiver, term: term_receiver })
}

impl ClaimPublisher {
    /// Publishes a claim. Returns false if the deadline had passed just before a renewal is published: readers may
    /// have seen the loss, so it stands and the election must forfeit.
    pub(super) fn publish(&self, origin: Instant, held: Option<lease::HeldLease>) -> bool {
        let new = held.map(|lease::HeldLease { term, transitions, deadline }| HeldTerm {
            term,
            transitions,
            deadline: origin + deadline,
        });
        let mut accepted = true;
        self.held.send_modify(|old| {
            let lapsed = match (&old, new) {
                (Some(old), Some(new)) => old.term == new.term && Instant::now() >= old.deadline,
                (Some(_) | None, _) => false,
            };
            accepted = !lapsed;
            *old = if lapsed { None } else { new };
        });
        let term = self.held.borrow().map(|held| held.term);
        self.term.send_if_modified(|old| std::mem::replace(old, term) != term);
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held(term: u64, deadline: Duration) -> lease::HeldLease {
        lease::HeldLease { term, transitions: 0, deadline }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_ends_at_its_deadline_though_nobody_says_so() {
        let (leadership, _publisher) = Leadership::for_test(10 * SECOND);
        let claim = leadership.claim().expect("it leads");
        assert_eq!(claim.check(), Ok(10 * SECOND));
        tokio::time::advance(9 * SECOND).await;
        assert_eq!(claim.check(), Ok(SECOND));
        tokio::time::advance(SECOND).await;
        assert_eq!(claim.check(), Err(ClaimLost));
        assert!(leadership.claim().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_of_an_earlier_term_is_never_valid_again() {
        let origin = Instant::now();
        let (publisher, leadership) = channel();
        publisher.publish(origin, Some(held(1, SECOND)));
        let first = leadership.claim().expect("it leads");
        publisher.publish(origin, None);
        assert_eq!(first.check(), Err(ClaimLost));
        publisher.publish(origin, Some(held(2, 10 * SECOND)));
        assert_eq!(first.check(), Err(ClaimLost));
        assert!(leadership.claim().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_is_published_after_the_deadline_comes_too_late() {
        let origin = Instant::now();
        let (publisher, leadership) = channel();
        assert!(publisher.publish(origin, Some(held(1, SECOND))));
        let claim = leadership.claim().expect("it leads");
        assert!(publisher.publish(origin, Some(held(1, 2 * SECOND))));
        tokio::time::advance(2 * SECOND).await;
        assert!(!publisher.publish(origin, Some(held(1, 9 * SECOND))));
        assert_eq!(claim.check(), Err(ClaimLost));
        assert_eq!(*leadership.subscribe().borrow(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guarded_write_goes_on_while_the_claim_is_renewed_and_no_longer() {
        let origin = Instant::now();
        let (publisher, leadership) = channel();
        publisher.publish(origin, Some(held(1, SECOND)));
        let claim = leadership.claim().expect("it leads");
        let renewal = async {
            tokio::time::sleep(SECOND / 2).await;
            publisher.publish(origin, Some(held(1, 3 * SECOND)));
        };
        let (written, ()) = tokio::join!(claim.guard(tokio::time::sleep(2 * SECOND)), renewal);
        assert_eq!(written, Ok(()));
        let begun = Instant::now();
        assert_eq!(claim.guard(std::future::pending::<()>()).await, Err(ClaimLost));
        assert_eq!(begun.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guarded_write_takes_no_further_step_after_a_freeze() {
        let (leadership, _publisher) = Leadership::for_test(SECOND);
        let claim = leadership.claim().expect("it leads");
        let mut steps = 0;
        let write = std::future::poll_fn(|context| {
            steps += 1;
            context.waker().wake_by_ref();
            std::task::Poll::<()>::Pending
        });
        let mut guarded = Box::pin(claim.guard(write));
        assert!(futures::poll!(&mut guarded).is_pending());
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(guarded.await, Err(ClaimLost));
        assert_eq!(steps, 1);
    }
}
