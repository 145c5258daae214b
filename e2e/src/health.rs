//! The health of objects by the interpreter of Argo CD and the evaluator of Flux
//! (`e2e/tools/gitops/health`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::command::output;
use crate::control_plane::{Binaries, Program};
use crate::helm::repository;

/// The time limit of all answers together.
const DEADLINE: Duration = Duration::from_secs(30);

/// The health scripts and expressions of this repository, and the program that runs them.
#[derive(Debug)]
pub struct Health {
    program: PathBuf,
    /// `spec.healthCheckExprs` of `config/flux/health-checks.yaml`.
    expressions: Vec<Value>,
}

/// The health of an object by one of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Assessment {
    /// One of Argo CD's health codes, or of kstatus' statuses; empty where there is none.
    pub status: String,
    /// The message for people. Flux has none for its expressions.
    pub message: String,
    /// The reason why there is no status.
    #[serde(default)]
    pub error: String,
}

/// The health of an object by all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessments {
    /// The health by our script.
    pub argo_cd: Assessment,
    /// The health by our expressions.
    pub flux: Assessment,
    /// The health by kstatus alone, which Flux uses without our expressions.
    pub kstatus: Assessment,
}

impl Health {
    /// Finds the program, or builds it.
    ///
    /// # Errors
    /// When it is nowhere to be found and cannot be built, or a file of ours cannot be read.
    pub fn locate() -> Result<Self> {
        let binaries = Binaries::locate(&[Program::Health])?;
        let file = repository("config/flux/health-checks.yaml");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let parsed: Value = serde_saphyr::from_str(&text).with_context(|| file.display().to_string())?;
        let expressions = parsed["spec"]["healthCheckExprs"].as_array().context("no healthCheckExprs")?.clone();
        Ok(Self { program: binaries.path(Program::Health)?.to_owned(), expressions })
    }

    /// The health of these objects, each as the API server returns it.
    ///
    /// # Errors
    /// When there is no script or expression for one of them. One that fails is an [`Assessment`] with an error.
    pub async fn of(&self, objects: &[Value]) -> Result<Vec<Assessments>> {
        let mut questions = Vec::new();
        for object in objects {
            let kind = object["kind"].as_str().context("no kind")?;
            let expressions = self.expressions.iter().find(|one| one["kind"] == kind).context("no expressions")?;
            questions.push(json!({ "object": object, "lua": script(kind)? }));
            questions.push(json!({ "object": object, "expressions": expressions }));
            questions.push(json!({ "object": object }));
        }
        let questioned = serde_json::to_string(&questions)?;
        let answers = output(&mut Command::new(&self.program), "health", &questioned, DEADLINE).await?;
        let answers: Vec<Assessment> = serde_json::from_str(&answers)?;
        answers.chunks(3).map(assessments).collect()
    }
}

/// The answers to the three questions about an object.
fn assessments(answers: &[Assessment]) -> Result<Assessments> {
    let [argo_cd, flux, kstatus] = answers else { bail!("{} answers to three questions", answers.len()) };
    Ok(Assessments { argo_cd: argo_cd.clone(), flux: flux.clone(), kstatus: kstatus.clone() })
}

/// Argo CD's health script for one of our kinds.
///
/// # Errors
/// When there is none.
pub fn script(kind: &str) -> Result<String> {
    let file = repository(&format!("config/argocd/mailfailover.io/{kind}/health.lua"));
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}
