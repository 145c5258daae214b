//! Trials of the harness itself: of the parts that other suites rely on.

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mail_failover_e2e::control_plane::namespace::NAME_SERVER;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::suite::{Options, run, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

fn main() -> ExitCode {
    let options = Options { controller_manager: true, operator: true, ..Options::default() };
    let trials = vec![
        trial("a stopped API server refuses connections, and comes back with its data", async |env| {
            write(&env, "before").await?;
            let control = env.control()?;
            control.stop_api_server();
            if TcpStream::connect(("127.0.0.1", control.port())).await.is_ok() {
                bail!("something still listens");
            }
            if read(&env, "before").await.is_ok() {
                bail!("something still answers");
            }
            control.start_api_server().await?;
            read(&env, "before").await
        })
        .stops_api_server(),
        trial("a paused API server takes connections and stays silent until it is resumed", async |env| {
            write(&env, "before").await?;
            let control = env.control()?;
            control.pause_api_server()?;
            TcpStream::connect(("127.0.0.1", control.port())).await.context("the kernel accepts in its place")?;
            let answer = timeout(Duration::from_millis(500), read(&env, "before")).await;
            control.resume_api_server()?;
            if let Ok(answer) = answer {
                bail!("it answered: {answer:?}");
            }
            eventually(Duration::from_secs(10), "an answer", async || {
                timeout(Duration::from_secs(2), read(&env, "before")).await??;
                Ok(Some(()))
            })
            .await
        })
        .stops_api_server(),
        trial("a paused API server can be stopped and started", async |env| {
            let control = env.control()?;
            control.pause_api_server()?;
            control.stop_api_server();
            control.start_api_server().await?;
            write(&env, "after").await
        })
        .stops_api_server(),
        trial("an operator that does not know its arguments is reported, not waited for", async |env| {
            let operator = env.start_operator("a", &["--no-such-argument"])?;
            let begun = Instant::now();
            match operator.wait_ready(Duration::from_mins(1)).await {
                Err(error)
                    if error.to_string().contains("operator a ended") && begun.elapsed() < Duration::from_secs(30) =>
                {
                    Ok(())
                }
                other => bail!("{other:?} after {:?}", begun.elapsed()),
            }
        }),
        trial("two trials never get the same address", async |env| {
            if env.ipv4() == env.ipv4() || env.ipv6() == env.ipv6() {
                bail!("twice the same");
            }
            Ok(())
        }),
        trial("any port of an environment's IPv4 address can be listened on and connected to", async |env| {
            echo((env.ipv4(), 25).into()).await
        })
        .listens(),
        trial("any port of an environment's IPv6 address can be listened on and connected to", async |env| {
            echo((env.ipv6(), 25).into()).await
        })
        .listens(),
        trial("a port that nobody listens on refuses at once", async |env| {
            let begun = Instant::now();
            match timeout(Duration::from_secs(5), TcpStream::connect((env.ipv4(), 25))).await {
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                other => bail!("{other:?} after {:?}", begun.elapsed()),
            }
        })
        .listens(),
        trial("nothing leaves the machine", async |_| {
            // Connecting a UDP socket sends nothing; it only looks up a route.
            for outside in ["192.88.99.1:53", "[2001:4860::1]:53"] {
                let outside: SocketAddr = outside.parse()?;
                let local = if outside.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                if UdpSocket::bind(local)?.connect(outside).is_ok() {
                    bail!("there is a way to {outside}");
                }
            }
            Ok(())
        })
        .listens(),
        trial("names are looked up at a name server that a trial may be", async |_| {
            let resolv_conf = std::fs::read_to_string("/etc/resolv.conf")?;
            if !resolv_conf.lines().any(|line| line == format!("nameserver {NAME_SERVER}")) {
                bail!("{resolv_conf}");
            }
            UdpSocket::bind((NAME_SERVER, 53)).context("the address is in use")?;
            Ok(())
        })
        .listens()
        .alone(),
        trial("an EndpointSlice may hold an environment's addresses", async |env| {
            for (family, address) in [("IPv4", env.ipv4()), ("IPv6", env.ipv6())] {
                let slice = json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                    "metadata": { "name": family.to_lowercase() },
                    "addressType": family, "ports": [{ "name": "smtp", "port": 25 }],
                    "endpoints": [{ "addresses": [address] }],
                });
                env.apply(&slice.to_string()).await?;
            }
            Ok(())
        })
        .listens(),
        trial("a Service has addresses of both families", async |env| {
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "mail" },
                "spec": { "ipFamilyPolicy": "RequireDualStack", "ports": [{ "port": 25 }] },
            });
            env.apply(&service.to_string()).await?;
            let families = env.kubectl(&["get", "service", "mail", "-o", "jsonpath={.spec.ipFamilies}"]).await?;
            if families != r#"["IPv4","IPv6"]"# {
                bail!("{families}");
            }
            Ok(())
        })
        .needs_control(),
        trial("what an owner leaves behind is collected", async |env| {
            write(&env, "owner").await?;
            let owner = configs(&env).get("owner").await?.metadata.uid.context("a uid")?;
            let owned = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": "owned", "ownerReferences": [
                    { "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner }] },
            });
            env.apply(&owned.to_string()).await?;
            env.kubectl(&["delete", "configmap", "owner"]).await?;
            eventually(Duration::from_mins(1), "the owned ConfigMap to go", async || {
                Ok(configs(&env).get_opt("owned").await?.is_none().then_some(()))
            })
            .await
        }),
        trial("a user without rights may say who they are and read nothing", async |env| {
            let user = format!("system:serviceaccount:{}:nobody", env.namespace());
            let kubeconfig = Kubeconfig::read_from(env.control()?.kubeconfig_for(&user, &["system:authenticated"])?)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            let client = Client::try_from(config)?;
            let review = Api::all(client.clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await?;
            let name = review.status.and_then(|status| status.user_info).and_then(|info| info.username);
            if name.as_deref() != Some(user.as_str()) {
                bail!("taken for {name:?}");
            }
            match Api::<ConfigMap>::namespaced(client, env.namespace()).get("any").await {
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
                other => bail!("{other:?}"),
            }
        })
        .needs_control(),
    ];
    run("control_plane", options, trials)
}

fn configs(env: &TestEnv) -> Api<ConfigMap> {
    Api::namespaced(env.client(), env.namespace())
}

async fn write(env: &TestEnv, name: &str) -> Result<()> {
    let config: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    configs(env).create(&PostParams::default(), &config).await?;
    Ok(())
}

async fn read(env: &TestEnv, name: &str) -> Result<()> {
    configs(env).get(name).await?;
    Ok(())
}

async fn echo(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let server = async {
        let (mut connection, _) = listener.accept().await?;
        connection.write_all(b"220 here\r\n").await
    };
    let client = async {
        let mut text = String::new();
        TcpStream::connect(address).await?.read_to_string(&mut text).await?;
        Ok(text)
    };
    let ((), text) = timeout(Duration::from_secs(5), async { tokio::try_join!(server, client) }).await??;
    if text != "220 here\r\n" {
        bail!("{text:?}");
    }
    Ok(())
}
