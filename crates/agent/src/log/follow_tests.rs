use std::io::Write;

use proptest::prelude::*;

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mail-failover-follow-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn record(port: u16) -> String {
    format!(
        "Nov 25 15:43:37 mx postfix/smtp[1]: 6C6EA9842B1: to=<u@x.test>, relay=a.example[192.0.2.1]:{port}, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)\n"
    )
}

fn append(path: &Path, text: &str) {
    std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

async fn next(receiver: &mut mpsc::Receiver<LogEvent>) -> u16 {
    let seen =
        tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.expect("nothing within 5 s").unwrap();
    let LogEvent::Delivery(delivery) = seen else { panic!("{seen:?}") };
    delivery.place.port.unwrap()
}

#[tokio::test]
async fn a_file_is_followed_through_absence_rename_and_truncation_and_its_past_is_not_told() {
    let folder = folder("file");
    let path = folder.join("mail.log");
    append(&path, &record(1));
    let (sink, mut receiver) = Sink::new(LogMetrics::default(), Clock::system());
    let metrics = sink.metrics.clone();
    let follower = tokio::spawn(file(path.clone(), sink));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (begin, end) = (&record(2)[..40], &record(2)[40..]);
    append(&path, begin);
    tokio::time::sleep(Duration::from_millis(120)).await;
    append(&path, end);
    assert_eq!(next(&mut receiver).await, 2);
    // logrotate: what was written to the old file before the new one is there is read first.
    std::fs::rename(&path, folder.join("mail.log.1")).unwrap();
    append(&folder.join("mail.log.1"), &record(3));
    append(&path, &record(4));
    assert_eq!((next(&mut receiver).await, next(&mut receiver).await), (3, 4));
    // copytruncate
    std::fs::File::create(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    append(&path, &record(5));
    assert_eq!(next(&mut receiver).await, 5);
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    append(&path, &record(6));
    assert_eq!(next(&mut receiver).await, 6);
    assert!(metrics.reopened.get() >= 3);
    follower.abort();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_socket_takes_datagrams_and_replaces_the_one_of_an_agent_that_was_killed() {
    let folder = folder("socket");
    let path = folder.join("log");
    drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
    let (sink, mut receiver) = Sink::new(LogMetrics::default(), Clock::system());
    let listener = {
        let path = path.clone();
        tokio::spawn(async move { syslog_socket(&path, &sink).await })
    };
    let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while client.send_to(format!("<22>{}", record(7).trim_end()).as_bytes(), &path).is_err() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(next(&mut receiver).await, 7);
    listener.abort();
    std::fs::write(folder.join("other"), "x").unwrap();
    let (sink, _receiver) = Sink::new(LogMetrics::default(), Clock::system());
    assert!(syslog_socket(&folder.join("other"), &sink).await.is_err(), "a file must not be removed for a socket");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn who_is_too_slow_loses_log_events_and_the_mta_does_not_wait() {
    let (sink, _receiver) = Sink::new(LogMetrics::default(), Clock::system());
    let text = record(1).repeat(QUEUE + 10);
    stream(text.as_bytes(), &sink).await.unwrap();
    assert_eq!((sink.metrics.lost.get(), sink.metrics.lines.get()), (10, QUEUE as u64 + 10));
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_how_they_are_cut_and_are_bounded(
        text in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..2000), long in 0..18_000_usize, size in 1..500_usize,
    ) {
        let mut text = text;
        text.extend(vec![b'x'; long]);
        text.push(b'\n');
        let metrics = LogMetrics::default();
        let mut lines = LineBuffer::default();
        let cut: Vec<Vec<u8>> = text.chunks(size).flat_map(|chunk| lines.add(chunk, &metrics)).collect();
        let whole: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n')
            .map(|line| line[..(line.len() - 1).min(MAX_LINE)].to_vec()).collect();
        prop_assert_eq!(cut, whole);
        prop_assert!(lines.partial.capacity() <= 4 * MAX_LINE);
    }
}
