//! Peers of Postfix: a server for its mail, a client that hands mail in, and an agent's socketmap of two maps.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mail_failover_agent::supervise::Intake;

/// Behaviour of a server.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// Takes messages, with this delay after their end.
    Takes(Duration),
    /// Greets with a refusal.
    TurnsAway,
    /// Refuses each recipient for now.
    TriesLater,
    /// Refuses each message after its data, in words that no rule knows.
    Refuses,
    /// Accepts connections and says nothing.
    Hangs,
    /// Refuses each message, with this delay after its end, because the account may not send.
    Paused(Duration),
}

/// A server for mail. It knows no recipient whose name begins with `unknown`, and takes no message to one whose name
/// begins with `odd`: after its data, in words that no rule knows.
pub struct Sink {
    pub host: String,
    pub port: u16,
    received: Arc<Mutex<Vec<String>>>,
    /// Messages that were sent whole, taken or not.
    offered: Arc<AtomicUsize>,
}

impl Sink {
    /// Starts a server that takes messages, with this delay after their end.
    pub fn start(delay: Duration) -> Self {
        Self::that(Behaviour::Takes(delay))
    }

    pub fn that(behaves: Behaviour) -> Self {
        Self::at("127.0.0.1", behaves)
    }

    /// Starts a server at this address. Postfix's log names the host of a failed hop, and its port seldom.
    pub fn at(host: &str, behaves: Behaviour) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let sink = Self { host: host.to_owned(), port, received: Arc::default(), offered: Arc::default() };
        let (received, offered) = (sink.received.clone(), sink.offered.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (received, offered) = (received.clone(), offered.clone());
                thread::spawn(move || drop(converse(&stream, behaves, &received, &offered)));
            }
        });
        sink
    }

    /// A server that is not there: its port refuses connections.
    pub fn absent(host: &str) -> Self {
        let port = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port();
        Self { host: host.to_owned(), port, received: Arc::default(), offered: Arc::default() }
    }

    /// Returns the recipients, one for each message that was acknowledged.
    pub fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    /// Number of messages that were sent whole, taken or not.
    pub fn offered(&self) -> usize {
        self.offered.load(Ordering::Relaxed)
    }
}

fn converse(
    mut stream: &TcpStream,
    behaves: Behaviour,
    received: &Mutex<Vec<String>>,
    offered: &AtomicUsize,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let mut recipient = String::new();
    match behaves {
        Behaviour::TurnsAway => return stream.write_all(b"421 4.3.2 closed for today\r\n"),
        Behaviour::Hangs => {
            while lines.next().transpose()?.is_some() {}
            return Ok(());
        }
        Behaviour::Takes(_) | Behaviour::TriesLater | Behaviour::Refuses | Behaviour::Paused(_) => {}
    }
    stream.write_all(b"220 sink\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let reply: &[u8] = match line.get(..4) {
            Some("RCPT") => {
                line.trim_start_matches("RCPT TO:<").trim_end_matches('>').clone_into(&mut recipient);
                if matches!(behaves, Behaviour::TriesLater) {
                    b"451 4.3.0 try again later\r\n"
                } else if recipient.starts_with("unknown") {
                    b"550 5.1.1 no such user\r\n"
                } else {
                    b"250 ok\r\n"
                }
            }
            Some("DATA") => {
                stream.write_all(b"354 go\r\n")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                offered.fetch_add(1, Ordering::Relaxed);
                match behaves {
                    Behaviour::Takes(_) if recipient.starts_with("odd") => b"554 5.7.1 gobbledygook\r\n",
                    Behaviour::Paused(delay) => {
                        thread::sleep(delay);
                        b"554 Message rejected: Sending paused for this account.\r\n"
                    }
                    Behaviour::Refuses => b"554-5.7.1 gobbledygook\r\n554 5.7.1 and balderdash\r\n",
                    Behaviour::Takes(delay) => {
                        thread::sleep(delay);
                        received.lock().unwrap().push(recipient.clone());
                        b"250 2.0.0 ok\r\n"
                    }
                    Behaviour::TurnsAway | Behaviour::TriesLater | Behaviour::Hangs => b"421 4.3.2 closed\r\n",
                }
            }
            Some("QUIT") => return stream.write_all(b"221 bye\r\n"),
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply)?;
    }
    Ok(())
}

/// Hands a message in. Returns the reply after its data, or the reply that ended it before.
pub fn send(at: SocketAddr, to: &str) -> String {
    let stream = TcpStream::connect(at).unwrap();
    let mut lines = BufReader::new(&stream).lines();
    let mut reply = || lines.next().unwrap().unwrap();
    let data = "Subject: test\r\n\r\ntest\r\n.\r\n";
    let mut last = reply();
    for command in
        ["HELO client\r\n", "MAIL FROM:<a@example.com>\r\n", &format!("RCPT TO:<{to}>\r\n"), "DATA\r\n", data]
    {
        if !last.starts_with(['2', '3']) {
            return last;
        }
        (&stream).write_all(command.as_bytes()).unwrap();
        last = reply();
    }
    last
}

/// Answers `transport` with one next hop and `intake` as the agent does.
pub fn serve_socketmap(at: &Path, port: u16, intake: Intake) {
    let listener = UnixListener::bind(at).unwrap();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o666)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let intake = intake.clone();
            thread::spawn(move || drop(answer(stream, port, &intake)));
        }
    });
}

fn answer(mut stream: UnixStream, port: u16, intake: &Intake) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut length = vec![];
        if reader.read_until(b':', &mut length)? == 0 {
            return Ok(());
        }
        let length: usize = String::from_utf8_lossy(&length).trim_end_matches(':').parse().unwrap();
        let mut request = vec![0; length + 1];
        reader.read_exact(&mut request)?;
        let request = String::from_utf8_lossy(&request).into_owned();
        let answer = match request.trim_end_matches(',').split_once(' ') {
            Some(("transport", key)) if key != "*" => format!("OK smtp:[127.0.0.1]:{port}"),
            Some(("intake", _)) => format!("OK {}", intake.action()),
            _ => "NOTFOUND ".to_owned(),
        };
        stream.write_all(format!("{}:{answer},", answer.len()).as_bytes())?;
    }
}
