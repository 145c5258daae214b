use std::time::Duration;

use futures::future::join_all;
use prometheus_client::registry::Registry;
use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn places(concurrency: usize) -> DialoguePlaces {
    DialoguePlaces::new(concurrency, Metrics::new(&mut Registry::default()))
}

fn request(namespace: &str, port: u16) -> PlaceRequest {
    PlaceRequest {
        namespaces: [namespace.into()].into(),
        probe: 1,
        is_used: false,
        address: ([192, 0, 2, 1], port).into(),
        logs_in: false,
    }
}

async fn enter_and_leave(places: &DialoguePlaces, request: &PlaceRequest, until: Instant) -> bool {
    places.enter(request, until).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn dialogues_with_one_address_begin_at_a_pace_over_all_namespaces() {
    for (logs_in, at_least, at_most) in [(false, 17, 19), (true, 47, 49)] {
        let places = places(100_000);
        let began = Instant::now();
        let until = began + 600 * SECOND;
        let mut requests = vec![];
        for number in 0..1000 {
            requests.push(PlaceRequest { logs_in, ..request(&format!("tenant-{}", number % 7), 25) });
        }
        let entered = join_all(requests.iter().map(|request| enter_and_leave(&places, request, until))).await;
        assert!(entered.into_iter().all(|is_entered| is_entered));
        // A thousand less the burst, by fifty or twenty a second.
        let took = began.elapsed().as_secs();
        assert!((at_least..=at_most).contains(&took), "{took} s");
        // Another address has a pace of its own.
        let elsewhere = places.enter(&request("tenant-1", 26), Instant::now()).await;
        assert!(matches!(elsewhere, Ok((_, None))));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_in_vain_is_told_for_what_and_leaves_nothing_behind() {
    let places = places(4);
    let held = places.enter(&request("shop", 25), Instant::now()).await.ok().unwrap();
    let other = places.enter(&request("shop", 26), Instant::now()).await.ok().unwrap();
    let in_vain = places.enter(&request("shop", 27), Instant::now() + SECOND).await;
    assert!(matches!(in_vain, Err(DelayCause::Dialogues)));
    // One that is given up while it waits takes no place either.
    let request = request("shop", 28);
    tokio::select! {
        _ = places.enter(&request, Instant::now() + 60 * SECOND) => unreachable!(),
        () = sleep(SECOND) => {}
    }
    drop((held, other));
    places.wait_until_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_becomes_free_goes_to_who_waits() {
    let places = places(4);
    let held = places.enter(&request("shop", 25), Instant::now()).await.ok().unwrap();
    let _other = places.enter(&request("shop", 26), Instant::now()).await.ok().unwrap();
    let third = request("shop", 27);
    let waiting = places.enter(&third, Instant::now() + 60 * SECOND);
    let freed = async {
        sleep(SECOND).await;
        drop(held);
    };
    let (entered, ()) = tokio::join!(waiting, freed);
    assert!(matches!(entered, Ok((_, Some(DelayCause::Dialogues)))));
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_are_shared_out_by_namespace_and_nobody_waits_for_one() {
    let places = places(4);
    let mut kept = vec![];
    for probe in 0..2000 {
        kept.extend(places.keep_idle(&PlaceRequest { probe, ..request("evil", 25) }));
    }
    // As many as it leaves free.
    assert_eq!(kept.len(), 384);
    let other = places.keep_idle(&request("shop", 25));
    assert!(other.is_some());
    // They take nothing from dialogues.
    assert!(places.enter(&request("evil", 25), Instant::now()).await.is_ok());
    drop(kept);
    assert!(places.keep_idle(&request("evil", 25)).is_some());
}
