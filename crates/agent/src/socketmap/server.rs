//! Server of the socketmap: its sockets, bounds and deadlines.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::netstring::Decoder;
use super::responder::Responder;
use crate::mta::MailOwner;
use crate::shield::ReplyLines;

/// Limit of open connections.
// Each process of Postfix has one connection at most, and there are some hundred of them on a busy host.
const CONNECTIONS: usize = 2_048;
/// Time after which an idle connection is closed.
// It is longer than Postfix keeps a connection that it does not use (10 s), so that Postfix is the one to close it.
const IDLE_DEADLINE: Duration = Duration::from_mins(1);
/// Limit for the rest of a request once it has begun, and for taking an answer.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after the kernel could not give out a connection: too many open files, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Limit for a process that listens on our socket to accept. A slower one counts as dead.
const NEIGHBOUR_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes that are read at a time: many requests of the usual size.
const PIECE: usize = 4_096;
/// Number of bytes from which answers are written together.
const BATCH: usize = 16_384;

/// Longest path of a socket, in bytes.
// unix(7) has 108 bytes with the one that ends the path, and the socket is made under a name that is four longer.
const LONGEST_PATH: usize = 108 - 1 - NEW.len();
/// Suffix of the socket's name until it is complete.
const NEW: &str = ".new";

/// Addresses of the server.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Permissions of the socket.
    pub mode: u32,
    /// User to whom the socket is given, as far as this process may. The socket stays ours if `None`.
    pub owner: Option<MailOwner>,
    /// Loopback address to listen on as well.
    pub address: Option<SocketAddr>,
}

/// Error of a server that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path has something that is no socket.
    #[error("{} exists and is no socket; remove it or choose another with --socket", .0.display())]
    NoSocket(PathBuf),
    /// Another process listens there.
    #[error("another process answers at {}; stop it or choose another path with --socket", .0.display())]
    InUse(PathBuf),
    /// The operating system knows no such long names of sockets.
    #[error("the path of the socket, {}, is longer than the {LONGEST_PATH} bytes that a socket's may have; choose another with --socket", .0.display())]
    TooLong(PathBuf),
    /// The operating system refused it.
    #[error("cannot listen at {}: {source}; give --queue-directory or --socket a folder that this user may write to", path.display())]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The operating system refused it.
    #[error("cannot listen at {address}: {source}; choose another with --socketmap-address")]
    Address {
        /// Address that was to be used.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The address is no loopback address. Everybody who reaches it may ask for passwords.
    #[error("{0} is no loopback address; answers hold passwords and are not encrypted")]
    NotLoopback(SocketAddr),
}

/// A server that listens already and answers nothing yet.
#[derive(Debug)]
pub struct SocketmapServer {
    unix: UnixListener,
    socket: PathBuf,
    /// Inode of the socket, so that a successor's is not removed.
    inode: u64,
    tcp: Option<TcpListener>,
}

impl SocketmapServer {
    /// Listens. A socket that a process without an orderly end has left is replaced in one step, so that there is
    /// always one.
    pub async fn bind(settings: &ListenSettings) -> Result<Self, BindError> {
        let tcp = match settings.address {
            None => None,
            Some(address) if !address.ip().is_loopback() => return Err(BindError::NotLoopback(address)),
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|source| BindError::Address { address, source })?)
            }
        };
        let socket = settings.socket.clone();
        if socket.as_os_str().len() > LONGEST_PATH {
            return Err(BindError::TooLong(socket));
        }
        match fs::symlink_metadata(&socket) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NoSocket(socket)),
            Ok(_) if is_answered(&socket).await => return Err(BindError::InUse(socket)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BindError::Socket { path: socket, source }),
        }
        match listen(settings) {
            Ok((unix, inode)) => Ok(Self { unix, socket, inode, tcp }),
            Err(source) => Err(BindError::Socket { path: socket, source }),
        }
    }

    /// Returns the loopback address on which it listens, if it does. The port is the real one where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Answers until `shutdown`. Then the socket is removed, and the answers under way are given.
    pub async fn serve(self, responder: Responder, shutdown: CancellationToken) {
        let Self { unix, socket, inode, tcp } = self;
        let connections = Acceptor {
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            tasks: TaskTracker::new(),
            responder,
            shutdown: shutdown.clone(),
        };
        let over_unix = async {
            loop {
                connections.accepted(unix.accept().await.map(|(stream, _)| stream)).await;
            }
        };
        let over_tcp = async {
            let Some(listener) = tcp else { return std::future::pending().await };
            loop {
                let stream = listener.accept().await.map(|(stream, _)| {
                    // Requests and answers are short and alternate.
                    let _ = stream.set_nodelay(true);
                    stream
                });
                connections.accepted(stream).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = over_unix => {}
            () = over_tcp => {}
        }
        if fs::symlink_metadata(&socket).is_ok_and(|metadata| metadata.ino() == inode) {
            let _ = fs::remove_file(&socket);
        }
        connections.tasks.close();
        connections.tasks.wait().await;
    }
}

/// Returns true if a process listens on this socket. A process that is too busy to accept counts, too.
async fn is_answered(socket: &Path) -> bool {
    match timeout(NEIGHBOUR_DEADLINE, tokio::net::UnixStream::connect(socket)).await {
        Ok(Err(error)) => !matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
        Ok(Ok(_)) | Err(_) => true,
    }
}

fn listen(settings: &ListenSettings) -> io::Result<(UnixListener, u64)> {
    let ListenSettings { socket, mode, owner, address: _ } = settings;
    if let Some(folder) = socket.parent().filter(|folder| !folder.exists()) {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let mut new = socket.clone().into_os_string();
    new.push(NEW);
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(*mode))?;
    if let Some(owner) = owner {
        hand_over(&new, *owner, *mode)?;
    }
    let inode = fs::symlink_metadata(&new)?.ino();
    fs::rename(&new, socket)?;
    Ok((listener, inode))
}

/// Gives a socket to Postfix's user. Without the right to do that, gives it to that user's group, if this process is in
/// it.
fn hand_over(socket: &Path, MailOwner { uid, gid }: MailOwner, mode: u32) -> io::Result<()> {
    match chown(socket, Some(uid), gid) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => drop(chown(socket, None, gid)),
        given => given?,
    }
    let given = fs::symlink_metadata(socket)?;
    let by_group = gid == Some(given.gid()) && mode & 0o060 == 0o060;
    if given.uid() != uid && !by_group && mode & 0o006 != 0o006 {
        tracing::warn!(
            "Postfix's processes (uid {uid}) cannot use the socket, which belongs to uid {} and gid {}: run the agent in Postfix's group, or with --socket-mode 0666 in a folder that only Postfix reaches",
            given.uid(),
            given.gid()
        );
    }
    Ok(())
}

struct Acceptor {
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    responder: Responder,
    shutdown: CancellationToken,
}

impl Acceptor {
    async fn accepted<S>(&self, stream: io::Result<S>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the socketmap");
                return tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        };
        let metrics = self.responder.metrics();
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            // Postfix tries once more and then keeps the message, which beats waiting for its 100 s.
            metrics.turned_away.inc();
            return;
        };
        metrics.connections.inc();
        let (responder, shutdown) = (self.responder.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            connection(stream, &responder, &shutdown).await;
            responder.metrics().connections.dec();
            drop(permit);
        });
    }
}

/// Serves one connection until its end.
async fn connection<S>(mut stream: S, responder: &Responder, shutdown: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut decoder = Decoder::default();
    let mut piece = vec![0; PIECE];
    let mut answers = Vec::new();
    let mut begun: Option<Instant> = None;
    let mut lines = ReplyLines::default();
    loop {
        let deadline = begun.map_or_else(|| Instant::now() + IDLE_DEADLINE, |begun| begun + TRANSFER_DEADLINE);
        let read = tokio::select! {
            biased;
            read = timeout_at(deadline, stream.read(&mut piece)) => read,
            () = shutdown.cancelled() => return,
        };
        let count = match read {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(count)) => count,
            Err(_elapsed) => {
                if begun.is_some() {
                    responder.metrics().cut.inc();
                }
                return;
            }
        };
        let mut rest = &piece[..count];
        let mut answered = false;
        while !rest.is_empty() {
            rest = &rest[decoder.push(rest)..];
            loop {
                match decoder.take() {
                    Ok(Some(request)) => {
                        responder.respond(&mut lines, request).await.encode(&mut answers);
                        answered = true;
                    }
                    Ok(None) => break,
                    Err(malformed) => {
                        responder.metrics().malformed(malformed);
                        tracing::debug!(%malformed, "a connection to the socketmap is closed");
                        // Requests before the malformed one are answered.
                        give(&mut stream, &mut answers, responder).await;
                        return;
                    }
                }
                if answers.len() >= BATCH && !give(&mut stream, &mut answers, responder).await {
                    return;
                }
            }
        }
        if !give(&mut stream, &mut answers, responder).await {
            return;
        }
        begun = begun.filter(|_| !answered);
        begun = decoder.is_amid().then(|| begun.unwrap_or_else(Instant::now));
    }
}

/// Writes the answers. Returns true if they were taken.
async fn give<S: AsyncWrite + Unpin>(stream: &mut S, answers: &mut Vec<u8>, responder: &Responder) -> bool {
    if answers.is_empty() {
        return true;
    }
    let written = timeout(TRANSFER_DEADLINE, stream.write_all(answers)).await;
    if written.is_err() {
        responder.metrics().cut.inc();
    }
    answers.clear();
    answers.shrink_to(BATCH);
    matches!(written, Ok(Ok(())))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
