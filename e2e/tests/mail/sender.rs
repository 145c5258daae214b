//! Tests of the sender's account: compared with what servers have stored, nothing is left over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mail_failover_e2e::mail::sender::{Outcome, Sender, SenderOptions, Step, fixed};
use mail_failover_e2e::mail::server::{Action, Ending, Fault, SessionStage};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::server;

const WITHIN: Duration = Duration::from_secs(20);

fn options(endpoints: watch::Receiver<Vec<SocketAddr>>) -> SenderOptions {
    let options = SenderOptions::new(Duration::from_millis(5), endpoints);
    SenderOptions { attempt_timeout: Duration::from_millis(200), ..options }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn a_working_server_gets_every_message_once_with_a_recipient_of_its_own() {
    let server = server("a").await;
    let sender = Sender::start(options(fixed(vec![server.address()])));
    sender.wait_for("50 accepted", WITHIN, |totals| totals.accepted >= 50).await.expect("50 accepted");
    let journal = sender.stop(WITHIN).await;

    let totals = journal.totals();
    assert_eq!((totals.accepted, totals.lost, totals.failed_attempts, totals.outstanding()), (totals.sent, 0, 0, 0));
    assert_eq!(journal.accepted_by()[&server.address()], totals.sent);
    let mut recipients: Vec<_> = server.received().into_iter().map(|message| message.recipients).collect();
    recipients.sort();
    recipients.dedup();
    assert_eq!(recipients.len(), totals.sent);
    let delivery = journal.delivery(&[&server]);
    assert_eq!((delivery.delivered, delivery.duplicated, delivery.lost), (totals.sent, 0, 0));
    assert_eq!(delivery.messages["a"], totals.sent);
    let accepted = journal.attempts().next().expect("an attempt");
    assert!(matches!(&accepted.outcome, Outcome::Accepted { reply } if reply.contains("queued by a as")));
    // A connection per message, each ended with QUIT.
    let counters = server.counters();
    assert_eq!((counters.connections, counters.commands["QUIT"]), (totals.sent as u64, totals.sent as u64));
}

#[tokio::test]
async fn messages_accepted_without_reply_are_sent_again_and_counted_as_duplicates() {
    let server = server("a").await;
    server.set_fault(Fault::AcceptWithoutReply(Ending::Close)).await.expect("a fault");
    // With ample time: an attempt given up before the server had stored the message would fail without a copy.
    let options = SenderOptions {
        connect_timeout: WITHIN,
        attempt_timeout: WITHIN,
        retry_after: Duration::from_secs(1),
        interval: millis(1),
        max_concurrent: 600,
        ..options(fixed(vec![server.address()]))
    };
    let sender = Sender::start(options);
    sender.wait_for("500 sent", WITHIN, |totals| totals.sent >= 500).await.expect("500 sent");
    server.repair().await.expect("a repair");
    let journal = sender.stop(WITHIN).await;

    let totals = journal.totals();
    let delivery = journal.delivery(&[&server]);
    assert!(totals.sent >= 500);
    assert_eq!((totals.accepted, totals.lost), (totals.sent, 0));
    assert_eq!((delivery.delivered, delivery.lost), (totals.sent, 0));
    // Each attempt left a copy, each failed one a copy too many.
    assert_eq!(delivery.extra_copies, totals.failed_attempts);
    assert_eq!(delivery.extra_copies, server.received_count() - totals.sent);
    let copied = server.received_by_id().into_values().filter(|copies| *copies > 1).count();
    assert_eq!(delivery.duplicated, copied);
    assert!(delivery.duplicated > 0 && delivery.vanished.is_empty(), "{delivery:?}");
}

#[tokio::test]
async fn a_failover_is_seen_from_the_first_failed_to_the_first_accepted_send() {
    let [a, b] = [server("a").await, server("b").await];
    let (lead, endpoints) = watch::channel(vec![a.address()]);
    let sender = Sender::start(options(endpoints));
    let faults = [
        // A crash may hit a session that has just begun.
        (None, &[Step::Connect, Step::Banner, Step::Ehlo, Step::Mail, Step::Rcpt, Step::Data, Step::EndOfData][..], 0),
        (Some(Fault::At(SessionStage::Banner, Action::Reset)), &[Step::Banner], 0),
        (Some(Fault::reply(SessionStage::Banner, 421, "4.3.2 No service")), &[Step::Banner], 0),
        (Some(Fault::At(SessionStage::Ehlo, Action::Hang)), &[Step::Ehlo], 200),
        (Some(Fault::At(SessionStage::EndOfData, Action::Reset)), &[Step::EndOfData], 0),
        // One connection fits into the queue of a black hole, and it may be the sender's.
        (Some(Fault::Blackhole), &[Step::Connect, Step::Banner], 200),
    ];
    for (fault, steps, limit) in faults {
        let before = a.received_count();
        a.wait_for_received(before + 5, WITHIN).await.expect("mail through a");
        let broken = Instant::now();
        match fault.clone() {
            None => a.crash().await.expect("a crash"),
            Some(fault) => a.set_fault(fault).await.expect("a fault"),
        }
        sleep(millis(150)).await;
        assert!(sender.failover_after(broken).is_none(), "{fault:?}");
        let moved = Instant::now();
        lead.send_replace(vec![b.address()]);
        let failover = sender.wait_for_failover(broken, WITHIN).await.expect("a failover");

        let failed = &failover.first_failed;
        assert_eq!((failed.endpoint, failover.first_accepted.endpoint), (Some(a.address()), Some(b.address())));
        match &failed.outcome {
            Outcome::Refused { step: seen, .. }
            | Outcome::Unanswered { step: seen }
            | Outcome::Broken { step: seen, .. } => {
                assert!(steps.contains(seen), "{fault:?}: {failed:?}");
            }
            outcome @ (Outcome::Accepted { .. } | Outcome::NoEndpoint) => panic!("{outcome}"),
        }
        assert!(failed.finished - failed.started >= millis(limit), "{fault:?}: {failed:?}");
        assert_eq!(failover.took(), failover.first_accepted.finished - failed.started);
        assert!(failover.first_accepted.finished >= moved && failover.took() < Duration::from_secs(2), "{failover:?}");

        a.repair().await.expect("a repair");
        lead.send_replace(vec![a.address()]);
    }
    let journal = sender.stop(WITHIN).await;
    let delivery = journal.delivery(&[&a, &b]);
    let totals = journal.totals();
    assert_eq!((totals.lost, totals.outstanding(), delivery.delivered), (0, 0, totals.sent));
    assert!(totals.failed_attempts > 0 && delivery.vanished.is_empty());
    assert!(delivery.messages["a"] > 0 && delivery.messages["b"] > 0, "{delivery:?}");
}

#[tokio::test]
async fn without_any_server_every_message_is_lost() {
    let server = server("a").await;
    server.crash().await.expect("a crash");
    for endpoints in [vec![server.address()], vec![]] {
        let started = Instant::now();
        let sender = Sender::start(options(fixed(endpoints.clone())));
        sender.wait_for("20 sent", WITHIN, |totals| totals.sent >= 20).await.expect("20 sent");
        let stopped = Instant::now();
        let journal = sender.stop(millis(100)).await;
        assert!(stopped.elapsed() >= millis(100) && stopped.elapsed() < WITHIN);

        let totals = journal.totals();
        assert_eq!((totals.accepted, totals.lost, totals.outstanding()), (0, totals.sent, 0));
        assert_eq!((journal.lost().len(), journal.delivery(&[&server]).lost), (totals.sent, totals.sent));
        assert!(totals.attempts > totals.sent, "none is given up after one attempt: {totals:?}");
        assert!(journal.attempts().all(|attempt| match &attempt.outcome {
            Outcome::Broken { step: Step::Connect, error } => error.contains("refused") && !endpoints.is_empty(),
            Outcome::NoEndpoint => endpoints.is_empty(),
            Outcome::Accepted { .. }
            | Outcome::Refused { .. }
            | Outcome::Unanswered { .. }
            | Outcome::Broken { .. } => false,
        }));
        assert!(journal.failover_after(started).is_none());
    }
}

#[tokio::test]
async fn a_message_is_given_up_after_as_long_as_the_application_waits() {
    let server = server("a").await;
    server.set_fault(Fault::reply(SessionStage::Rcpt, 451, "4.3.0 Later")).await.expect("a fault");
    let options = options(fixed(vec![server.address()]));
    let sender = Sender::start(SenderOptions { give_up_after: Some(millis(100)), ..options });
    let totals = sender.wait_for("5 lost", WITHIN, |totals| totals.lost >= 5).await.expect("5 lost");
    assert!(totals.attempts >= 5 && totals.accepted == 0);
    server.repair().await.expect("a repair");
    let journal = sender.stop(WITHIN).await;
    let refusal = journal.attempts().next().expect("an attempt").outcome.to_string();
    assert_eq!(refusal, "refused at RCPT: 451 4.3.0 Later");
    let totals = journal.totals();
    assert_eq!(totals.sent, totals.accepted + totals.lost);
}

#[tokio::test]
async fn messages_on_their_way_are_bounded_and_what_is_held_back_is_counted() {
    let server = server("a").await;
    server.set_fault(Fault::Silent).await.expect("a fault");
    let options = options(fixed(vec![server.address()]));
    let sender = Sender::start(SenderOptions { max_concurrent: 8, attempt_timeout: WITHIN, ..options });
    sender.wait_for("something held back", WITHIN, |totals| totals.held_back >= 5).await.expect("something held back");
    let journal = sender.stop(millis(10)).await;
    assert_eq!((journal.totals().sent, journal.totals().lost), (8, 8));
    assert_eq!(server.counters().most_open, 8);
}

#[tokio::test]
async fn mail_that_was_accepted_but_is_nowhere_has_vanished() {
    let server = server("a").await;
    server.set_fault(Fault::reply(SessionStage::EndOfData, 250, "2.0.0 Ok, and forgotten")).await.expect("a fault");
    let sender = Sender::start(options(fixed(vec![server.address()])));
    sender.wait_for("10 accepted", WITHIN, |totals| totals.accepted >= 10).await.expect("10 accepted");
    let journal = sender.stop(WITHIN).await;
    let delivery = journal.delivery(&[&server]);
    assert_eq!((delivery.delivered, delivery.vanished.len()), (0, journal.totals().sent));
}

#[tokio::test]
async fn mail_that_was_given_up_but_is_somewhere_is_not_lost() {
    let server = server("a").await;
    server.set_fault(Fault::AcceptWithoutReply(Ending::Hang)).await.expect("a fault");
    let options = options(fixed(vec![server.address()]));
    let sender = Sender::start(SenderOptions { attempt_timeout: WITHIN, ..options });
    server.wait_for_received(10, WITHIN).await.expect("10 received");
    let journal = sender.stop(millis(100)).await;
    let delivery = journal.delivery(&[&server]);
    assert_eq!((delivery.lost, delivery.lost_but_delivered), (0, journal.totals().lost));
    assert_eq!((journal.totals().lost, delivery.delivered), (journal.totals().sent, journal.totals().sent));
}

#[tokio::test]
async fn two_senders_do_not_count_each_others_messages() {
    let server = server("a").await;
    let senders = [(); 2].map(|()| Sender::start(options(fixed(vec![server.address()]))));
    server.wait_for_received(20, WITHIN).await.expect("20 received");
    let mut delivered = 0;
    for sender in senders {
        let journal = sender.stop(WITHIN).await;
        delivered += journal.delivery(&[&server]).delivered;
        assert_eq!(journal.delivery(&[&server]).delivered, journal.totals().sent);
    }
    assert_eq!(delivered, server.received_count());
}

#[tokio::test]
async fn what_is_no_smtp_is_a_failure_and_no_hang() {
    let server = server("a").await;
    let faults = [
        (Fault::At(SessionStage::Banner, Action::Garbage), "banner: not an SMTP reply"),
        (Fault::At(SessionStage::Ehlo, Action::EndlessLine), "EHLO: reply too long"),
        (Fault::At(SessionStage::Banner, Action::Huge(1_000_000)), "banner: reply too long"),
        (Fault::At(SessionStage::Mail, Action::Close), "MAIL: connection closed"),
        (Fault::At(SessionStage::Banner, Action::Slow(millis(100))), "no answer at banner"),
    ];
    for (fault, expected) in faults {
        server.set_fault(fault.clone()).await.expect("a fault");
        let sender = Sender::start(options(fixed(vec![server.address()])));
        sender.wait_for("a failure", WITHIN, |totals| totals.failed_attempts > 0).await.expect("a failure");
        let journal = sender.stop(Duration::ZERO).await;
        assert_eq!(journal.attempts().next().expect("an attempt").outcome.to_string(), expected, "{fault}");
    }
}

#[tokio::test]
async fn waiting_tells_what_there_was_instead() {
    let sender = Sender::start(options(fixed(vec![])));
    let error = sender.wait_for("a miracle", millis(1000), |totals| totals.accepted > 0).await.expect_err("no miracle");
    let error = error.to_string();
    assert!(error.starts_with("a miracle did not happen within 1s:"), "{error}");
    assert!(error.ends_with("the last attempt: no endpoint"), "{error}");
}
