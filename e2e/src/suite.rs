//! A suite: a test program of its own that starts one control plane and runs its trials against it.
//!
//! `cargo test` finds it like any other test: filters, `--exact`, `--skip`, `--list` and `--test-threads` work. Nothing
//! is started for `--list`, nor if the filters leave no trial.
//!
//! | variable | effect |
//! |---|---|
//! | `E2E_KUBECONFIG` | the cluster to use instead of a control plane of our own |
//! | `E2E_LOAD_IMAGE` | the command that brings an archive of an image to that cluster, which is appended: `kind load image-archive` |
//! | `E2E_KEEP=1` | keep the logs also after a success |
//! | `E2E_REQUIRE_ALL=1` | a trial that would be skipped fails: for machines that are meant to run all |

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::FutureExt;
use libtest_mimic::{Arguments, Completion, Failed};
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, RwLock};

use crate::control_plane::namespace::{self, Entered, Isolation};
use crate::control_plane::{self, Binaries, Cluster, ControlPlane, EXISTING, Program, install_crds};
use crate::environment;
use crate::go_module::GoModule;
use crate::haproxy::{HOW_TO_INSTALL, HaProxy};
use crate::moto;
use crate::name_server;
use crate::node::images::{self, Image, Recipe};
use crate::node::{Node, packages};
use crate::operator;
use crate::postfix::Postfix;
use crate::strace;
use crate::test_env::{TestEnv, Turn};
use crate::webhook_receiver;

/// The needs of a suite.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// True if kube-controller-manager runs, too.
    pub controller_manager: bool,
    /// True if an audit log of the requests of service accounts is kept.
    pub audit: bool,
    /// True if Events are kept in an etcd of their own.
    pub events_store: bool,
    /// True if our resource definitions are installed at the start; otherwise the trials install
    /// them.
    pub crds: bool,
    /// True if the trials start operators.
    pub operator: bool,
    /// True if the trials start Postfix, which needs the program and real root.
    pub postfix: bool,
    /// True if the trials run pods. That needs a node of our own, with real root and a few
    /// packages, or a cluster with nodes.
    pub node: bool,
    /// True if trials start receivers of webhooks.
    pub webhooks: bool,
    /// True if trials start moto.
    pub moto: bool,
    /// Programs that the trials start themselves.
    pub programs: &'static [Program],
    /// Sources that the trials read.
    pub modules: &'static [GoModule],
    /// Images of the trials' pods, beside the toolbox.
    pub images: &'static [fn() -> Recipe],
    /// The number of trials that run at a time unless `--test-threads` sets another. They mostly
    /// wait.
    pub parallel: usize,
    /// The time limit of a trial.
    pub deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_manager: false,
            audit: false,
            events_store: false,
            crds: true,
            operator: false,
            postfix: false,
            node: false,
            webhooks: false,
            moto: false,
            programs: &[],
            modules: &[],
            images: &[],
            parallel: 8,
            deadline: Duration::from_mins(2),
        }
    }
}

impl Options {
    fn control_plane(self) -> control_plane::Options {
        control_plane::Options {
            controller_manager: self.controller_manager,
            audit: self.audit,
            events_store: self.events_store,
            node: self.node,
        }
    }
}

/// The least duration in the list of durations after a suite.
const WORTH_TELLING: Duration = Duration::from_secs(10);

type Body = Box<dyn FnOnce(Arc<TestEnv>) -> Pin<Box<dyn Future<Output = Result<()>>>> + Send>;

/// A test of one behaviour.
pub struct Trial {
    name: String,
    body: Body,
    alone: bool,
    needs: Vec<Need>,
}

/// A need of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The power to stop, pause and restart the API server, and to create users.
    Control,
    /// Addresses that are ours and that `EndpointSlices` may contain.
    OwnNetwork,
    /// A node that this program runs inside of, and may break.
    OwnNode,
    Images,
    HaProxy,
    Strace,
    WebhookReceiver,
    NameServers,
    Moto,
}

/// A trial named by a sentence about the behaviour.
pub fn trial<F>(sentence: impl Into<String>, body: F) -> Trial
where
    F: AsyncFnOnce(Arc<TestEnv>) -> Result<()> + Send + 'static,
{
    Trial {
        name: sentence.into(),
        body: Box::new(move |env| Box::pin(async move { body(env).await })),
        alone: false,
        needs: Vec::new(),
    }
}

impl Trial {
    /// Lets no other trial run at the same time.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Declares that the trial needs the control plane's own powers: it is skipped on a cluster
    /// that exists already.
    #[must_use]
    pub fn needs_control(mut self) -> Self {
        self.needs.push(Need::Control);
        self
    }

    /// Declares that the trial stops or pauses the API server: it runs alone, and is skipped on a
    /// cluster that exists already.
    #[must_use]
    pub fn stops_api_server(self) -> Self {
        self.needs_control().alone()
    }

    /// Declares that servers of the trial listen on addresses of the environment: it is skipped on
    /// a cluster that exists already, whose network is not ours.
    #[must_use]
    pub fn listens(mut self) -> Self {
        self.needs.push(Need::OwnNetwork);
        self
    }

    /// Declares that the trial breaks the node, or reaches pods from it: it is skipped on a cluster
    /// that exists already.
    #[must_use]
    pub fn needs_own_node(mut self) -> Self {
        self.needs.extend([Need::OwnNode, Need::Images]);
        self
    }

    /// Declares that the trial's pods use the suite's images: on a cluster that exists already it
    /// runs only if `E2E_LOAD_IMAGE` is set.
    #[must_use]
    pub fn needs_images(mut self) -> Self {
        self.needs.push(Need::Images);
        self
    }

    /// Declares that the trial runs HAProxy.
    #[must_use]
    pub fn needs_haproxy(mut self) -> Self {
        self.needs.push(Need::HaProxy);
        self
    }

    /// Declares that the trial starts a receiver of webhooks.
    #[must_use]
    pub fn needs_webhook_receiver(mut self) -> Self {
        self.needs.push(Need::WebhookReceiver);
        self
    }

    /// Declares that the trial starts DNS servers.
    #[must_use]
    pub fn needs_name_servers(mut self) -> Self {
        self.needs.push(Need::NameServers);
        self
    }

    /// Declares that the trial starts moto.
    #[must_use]
    pub fn needs_moto(mut self) -> Self {
        self.needs.push(Need::Moto);
        self
    }

    /// Declares that the trial kills a process at an exact step.
    #[must_use]
    pub fn needs_strace(mut self) -> Self {
        self.needs.push(Need::Strace);
        self
    }
}

/// Runs a suite by the arguments of this program. Call it first in `main`.
pub fn run(suite: &str, options: Options, trials: Vec<Trial>) -> ExitCode {
    match try_run(suite, options, trials) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the suite {suite} cannot run: {error:#}");
            ExitCode::from(101)
        }
    }
}

fn try_run(suite: &str, options: Options, trials: Vec<Trial>) -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(options.parallel);
    // Cargo gives `--bench` to a bench that runs as a suite. It would leave every trial out.
    arguments.bench = false;
    let chosen = trials.iter().any(|trial| !arguments.is_filtered_out(&named(trial)));
    if arguments.list || !chosen {
        let listed = trials.iter().map(named).collect();
        return Ok(libtest_mimic::run(&arguments, listed).exit_code());
    }

    let isolation = match (Cluster::existing(), options.node, options.postfix) {
        (Some(_), _, _) => Isolation::Processes,
        (None, true, _) => Isolation::Node,
        (None, false, true) => Isolation::NetworkAsRoot,
        (None, false, false) => Isolation::Network,
    };
    let missing = match isolation {
        Isolation::Node => packages::missing(),
        Isolation::NetworkAsRoot => Postfix::missing(),
        Isolation::Network | Isolation::Processes => None,
    };
    let entered = match missing {
        Some(why) => Entered::Forbidden(why),
        // Parts that need a network run before the namespace without one.
        None => namespace::enter(isolation, || prepare(options).map(drop))?,
    };
    let (binaries, skip_all) = match (entered, isolation) {
        (Entered::Finished(code), _) => return Ok(code),
        (Entered::Inside, _) => (Binaries::locate(&programs(options))?, None),
        // Without a namespace, processes may outlive a killed suite. Everything else works.
        (Entered::Forbidden(_), Isolation::Processes) => (prepare(options)?, None),
        // The whole reason is printed once, and each trial names only its summary.
        (Entered::Forbidden(why), Isolation::Node) => {
            eprintln!("the suite {suite} is skipped: {why}. Or set {EXISTING} to use a cluster you have");
            (Binaries::default(), Some("no node can be started here; see above".to_owned()))
        }
        (Entered::Forbidden(why), Isolation::Network) => {
            eprintln!("the suite {suite} is skipped: {why}. Or set {EXISTING} to use a cluster you have");
            (Binaries::default(), Some("this machine allows no namespace of one's own; see above".to_owned()))
        }
        (Entered::Forbidden(why), Isolation::NetworkAsRoot) => {
            eprintln!("the suite {suite} is skipped: {why}");
            (Binaries::default(), Some("Postfix cannot be started here; see above".to_owned()))
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let suite = Arc::new(Suite {
        runtime,
        options,
        binaries,
        cluster: OnceCell::new(),
        turn: Arc::default(),
        took: Mutex::default(),
        skip_all,
    });
    let runnable = trials.into_iter().map(|trial| suite.runnable(trial)).collect();
    let conclusion = libtest_mimic::run(&arguments, runnable);
    suite.print_durations();
    Ok(suite.finish(conclusion.has_failed(), conclusion.exit_code()))
}

/// A trial for the list only.
fn named(trial: &Trial) -> libtest_mimic::Trial {
    libtest_mimic::Trial::test(trial.name.clone(), || Ok(()))
}

fn prepare(options: Options) -> Result<Binaries> {
    let binaries = Binaries::locate(&programs(options))?;
    for module in options.modules {
        module.source()?;
    }
    if options.operator {
        operator::build()?;
    }
    if options.webhooks
        && let Err(error) = webhook_receiver::prepare()
    {
        // Its trials are skipped, or fail where nothing may be.
        eprintln!("{error:#}");
    }
    if options.moto
        && let Err(error) = moto::prepare()
    {
        eprintln!("{error:#}");
    }
    if options.node {
        images(options)?;
    }
    Ok(binaries)
}

fn programs(options: Options) -> Vec<Program> {
    let mut programs = match (Cluster::existing(), options.node) {
        (Some(_), false) => vec![Program::Kubectl],
        (Some(_), true) => vec![Program::Kubectl, Program::Helm],
        (None, true) => Node::programs(),
        (None, false) => options.control_plane().programs(),
    };
    programs.extend(options.programs);
    programs
}

/// The images of a suite that runs pods, built if necessary. None for a cluster that they cannot be
/// loaded into.
fn images(options: Options) -> Result<Vec<Image>> {
    match (Cluster::existing(), images::loader()) {
        (Some(_), None) => return Ok(Vec::new()),
        (None, _) => Node::prepare()?,
        (Some(_), Some(_)) => {}
    }
    let toolbox: fn() -> Recipe = images::toolbox;
    std::iter::once(&toolbox).chain(options.images).map(|recipe| images::build(&recipe())).collect()
}

/// The state that the trials of a suite share.
struct Suite {
    runtime: Runtime,
    options: Options,
    binaries: Binaries,
    /// The cluster, started by the first trial. A failure is kept for every trial to report.
    cluster: OnceCell<Result<Arc<Cluster>, String>>,
    /// A lock that trials share; a trial that must be alone takes it exclusively.
    turn: Arc<RwLock<()>>,
    /// The durations of the parts: the start, and every trial from the beginning of its turn.
    took: Mutex<Vec<(Duration, String)>>,
    skip_all: Option<String>,
}

impl Suite {
    fn runnable(self: &Arc<Self>, trial: Trial) -> libtest_mimic::Trial {
        let suite = Arc::clone(self);
        libtest_mimic::Trial::ignorable_test(trial.name.clone(), move || {
            if let Some(reason) = suite.skip_reason(&trial.needs) {
                return skipped(&reason);
            }
            // On this thread and not on the runtime's, so that a trial may hold what is not `Send`.
            suite.runtime.block_on(suite.perform(trial)).map(|()| Completion::Completed).map_err(Failed::from)
        })
    }

    fn skip_reason(&self, needs: &[Need]) -> Option<String> {
        if self.skip_all.is_some() {
            return self.skip_all.clone();
        }
        // Checked before the cluster is started: a suite whose trials are all skipped starts nothing.
        let is_own = Cluster::existing().is_none();
        needs.iter().find_map(|need| match need {
            Need::HaProxy if HaProxy::program().is_none() => Some(HOW_TO_INSTALL.to_owned()),
            Need::Strace if !strace::is_installed() => Some(strace::HOW_TO_INSTALL.to_owned()),
            Need::WebhookReceiver if webhook_receiver::library().is_none() => {
                Some(webhook_receiver::HOW_TO_INSTALL.to_owned())
            }
            Need::Moto if moto::library().is_none() => Some(moto::HOW_TO_INSTALL.to_owned()),
            Need::NameServers if !name_server::is_installed() => Some(name_server::HOW_TO_INSTALL.to_owned()),
            Need::Control if !is_own => {
                Some(format!("{EXISTING} names a cluster that is not ours to stop or to make users of"))
            }
            Need::OwnNetwork if !is_own => {
                Some(format!("{EXISTING} names a cluster whose network does not lead to this machine's servers"))
            }
            Need::OwnNode if !is_own => Some(format!("{EXISTING} names a cluster whose nodes are not ours to break")),
            Need::Images if !is_own && images::loader().is_none() => Some(format!(
                "{EXISTING} names a cluster without our images: set {} to the command that loads an archive, such as `kind load \
                 image-archive` or `k3d image import`",
                images::LOADER
            )),
            Need::HaProxy
            | Need::Strace
            | Need::WebhookReceiver
            | Need::Moto
            | Need::NameServers
            | Need::Control
            | Need::OwnNetwork
            | Need::OwnNode
            | Need::Images => None,
        })
    }

    async fn perform(&self, trial: Trial) -> Result<(), String> {
        let lock = Arc::clone(&self.turn);
        let (shared, _alone) =
            if trial.alone { (None, Some(lock.write_owned().await)) } else { (Some(lock.read_owned().await), None) };
        let turn = Turn { lock: Arc::clone(&self.turn), shared: Mutex::new(shared) };
        let cluster = self.cluster.get_or_init(|| async { self.start().await.map_err(|error| format!("{error:#}")) });
        let cluster = Arc::clone(cluster.await.as_ref().map_err(Clone::clone)?);
        let begun = Instant::now();
        let env =
            TestEnv::create(cluster, &self.binaries, &trial.name, turn).await.map_err(|error| format!("{error:#}"))?;
        let env = Arc::new(env);

        let deadline = self.options.deadline;
        let body = tokio::time::timeout(deadline, (trial.body)(Arc::clone(&env)));
        let result = match AssertUnwindSafe(body).catch_unwind().await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(anyhow!("the trial took longer than {deadline:?}")),
            Err(panic) => Err(anyhow!("the trial panicked: {}", panic_text(&*panic))),
        };
        if result.is_err()
            && let Some(folder) = env.collect_evidence().await
        {
            eprintln!("{}: the state of the cluster is in {}", trial.name, folder.display());
        }
        env.teardown(result.is_err()).await;
        self.note_duration(begun, &trial.name);
        result.map_err(|error| match Arc::into_inner(env) {
            Some(mut env) => format!("{error:#}\n{}", env.describe_failure()),
            None => format!("{error:#}\n(a task of the trial still holds its environment)"),
        })
    }

    fn note_duration(&self, begun: Instant, what: &str) {
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        took.push((begun.elapsed(), what.to_owned()));
    }

    /// Prints the durations, longest first, without short ones.
    fn print_durations(&self) {
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        took.retain(|(duration, _)| *duration >= WORTH_TELLING);
        took.sort_by(|(a, _), (b, _)| b.cmp(a));
        for (duration, what) in took.iter() {
            eprintln!("{:6.1} s  {what}", duration.as_secs_f64());
        }
    }

    async fn start(&self) -> Result<Arc<Cluster>> {
        let begun = Instant::now();
        let cluster = Cluster::obtain(&self.binaries, self.options.control_plane()).await?;
        let version = cluster.client().apiserver_version().await.context("the API server's version")?.git_version;
        let how = match cluster.node().map(Node::took).or_else(|| cluster.control().map(ControlPlane::took)) {
            Some(took) => format!("{}, ready after {:.1} s", self.binaries.origin(), took.as_secs_f64()),
            None => format!("of {EXISTING}"),
        };
        eprintln!("Kubernetes {version} ({how})");
        if self.options.node {
            let images = images(self.options)?;
            match (cluster.node(), images::loader()) {
                // The toolbox is there.
                (Some(node), _) => node.load_images(images.get(1..).unwrap_or_default()).await?,
                (None, Some(loader)) => images.iter().try_for_each(|image| images::load_with(&loader, image))?,
                (None, None) => {}
            }
        }
        if self.options.crds {
            install_crds(&cluster.client()).await?;
        }
        self.note_duration(begun, "(the cluster and its images)");
        Ok(Arc::new(cluster))
    }

    /// Ends the control plane.
    fn finish(self: Arc<Self>, failed: bool, code: ExitCode) -> ExitCode {
        let Some(suite) = Arc::into_inner(self) else { return code };
        let Self { runtime, cluster, .. } = suite;
        // Within the runtime: the client's connections belong to it.
        let inside = runtime.enter();
        match cluster.into_inner().map(|started| started.map(Arc::into_inner)) {
            Some(Ok(Some(Cluster::Own(mut own)))) if failed => own.keep_folder(),
            Some(Ok(Some(Cluster::Node(mut node)))) if failed => node.keep_folder(),
            // The drop ends the control plane.
            _ => {}
        }
        drop(inside);
        runtime.shutdown_timeout(Duration::from_secs(1));
        code
    }
}

fn skipped(reason: &str) -> Result<Completion, Failed> {
    if environment::is_set("E2E_REQUIRE_ALL") {
        return Err(format!("may not be skipped (E2E_REQUIRE_ALL), but: {reason}").into());
    }
    Ok(Completion::ignored_with(reason))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
