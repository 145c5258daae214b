//! A Git repository that pods fetch over HTTP: `git http-backend` behind a small server in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use mail_failover_e2e::command::output;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);
/// The limit of a client's request, which is a list of commits.
const LARGEST_QUESTION: usize = 1024 * 1024;
const BRANCH: &str = "main";

/// A repository with a working tree of ours.
#[derive(Debug)]
pub struct Repository {
    tree: PathBuf,
    url: String,
}

impl Repository {
    /// Creates an empty repository in a folder and serves it at this address as long as the process
    /// lives.
    pub async fn serve(folder: &Path, address: SocketAddr) -> Result<Self> {
        let (served, tree) = (folder.join("served"), folder.join("tree"));
        let bare = served.join("fleet.git");
        std::fs::create_dir_all(&served)?;
        git(folder, &["init", "--quiet", "--bare", &format!("--initial-branch={BRANCH}"), &text(&bare)]).await?;
        git(folder, &["clone", "--quiet", &text(&bare), &text(&tree)]).await?;
        git(&tree, &["checkout", "--quiet", "-B", BRANCH]).await?;
        let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
        let router = Router::new().fallback(answer).with_state(served);
        tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { tree, url: format!("http://{address}/fleet.git") })
    }

    /// The URL that a client clones.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of this name in the working tree.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }

    /// Commits the working tree, and pushes. Returns the revision as Flux names it: `main@sha1:…`.
    pub async fn commit(&self, message: &str) -> Result<String> {
        git(&self.tree, &["add", "--all"]).await?;
        git(&self.tree, &["commit", "--quiet", "--message", message]).await?;
        git(&self.tree, &["push", "--quiet", "origin", BRANCH]).await?;
        let commit = git(&self.tree, &["rev-parse", "HEAD"]).await?;
        Ok(format!("{BRANCH}@sha1:{}", commit.trim()))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Git without the settings of the person who runs it.
fn git_command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("HOME", folder).env("GIT_TERMINAL_PROMPT", "0");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Trial").env(format!("GIT_{who}_EMAIL"), "trial@shop.example");
    }
    command
}

async fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let what = format!("git {}", arguments.join(" "));
    output(git_command(folder).args(arguments), &what, "", DEADLINE).await
}

async fn answer(State(served): State<PathBuf>, request: Request) -> Response {
    match serve(&served, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

/// Serves one request by the Common Gateway Interface (RFC 3875), as described in `git help
/// http-backend`.
async fn serve(served: &Path, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let question = to_bytes(body, LARGEST_QUESTION).await?;
    let mut command = git_command(served);
    command.arg("http-backend").env("GIT_PROJECT_ROOT", served).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("REQUEST_METHOD", parts.method.as_str()).env("PATH_INFO", parts.uri.path());
    command.env("QUERY_STRING", parts.uri.query().unwrap_or_default());
    command.env("CONTENT_LENGTH", question.len().to_string());
    let headers = [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ];
    for (header, variable) in headers {
        command.env(variable, header_text(&parts.headers, header));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start git")?;
    let mut pipe = child.stdin.take().context("a standard input")?;
    let run = async {
        let _ = pipe.write_all(&question).await;
        drop(pipe);
        child.wait_with_output().await
    };
    let output = timeout(DEADLINE, run).await.context("git http-backend took too long")??;
    response(&output.stdout)
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn response(output: &[u8]) -> Result<Response> {
    let Some(end) = output.windows(4).position(|window| window == b"\r\n\r\n") else {
        bail!("git http-backend answers {:?}", String::from_utf8_lossy(output))
    };
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end])?.lines() {
        let (name, value) = line.split_once(": ").with_context(|| line.to_owned())?;
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap_or_default()),
            _ => response.header(name, value),
        };
    }
    Ok(response.body(Body::from(output[end + 4..].to_vec()))?)
}
