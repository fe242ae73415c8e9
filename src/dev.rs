//! `tidegate dev`: everything on this machine, over a Kafka inside this process, with two back ends as a pool. Nothing is
//! kept.

mod backends;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;

use crate::app::{self, Running, ShutdownSignals};
use crate::base::drain::Drain;
use crate::config::{self, Config, ConfigError};
use crate::intake::config::ListenAddress;
use crate::tail::{Filter, Follower, KafkaAccess, LiveView, Printer, RunningView, Selection, Start, TailError};

/// What is not here, because it needs a cluster.
const DEPLOYS: &str = "to try a deploy against a cluster: config/try/README.md";
/// Nothing here is worth a long wait.
const STOP_DEADLINE: Duration = Duration::from_millis(700);

/// What `dev` is told. Ports are on 127.0.0.1; 0 is any free one.
#[derive(Clone, Copy, Debug, Default)]
pub struct DevOptions {
    /// Port for Redis clients.
    pub redis_port: u16,
    /// Port of the admin page.
    pub admin_port: u16,
    /// Port from which pools are pulled.
    pub pools_port: u16,
    /// Port of the gateway.
    pub gateway_port: u16,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The Kafka inside could not be started.
    #[error("the Kafka inside: {0}")]
    Kafka(#[from] KafkaError),
    /// The configuration made here was refused, which is a fault of this program.
    #[error("dev's own configuration: {0}")]
    Config(#[from] ConfigError),
    /// A plane did not start or end: a port that is taken, say.
    #[error("{0:#}")]
    App(#[from] anyhow::Error),
    /// The live view ended badly.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// Threads or standard output.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs until Ctrl-C or SIGTERM.
pub fn run(options: &DevOptions) -> Result<(), DevError> {
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let drain = Drain::new();
        let backends = backends::start(&drain).await?;
        let outcome = serve(configuration(options, &brokers, &backends)?, &brokers).await;
        drain.request();
        outcome
    });
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, brokers: &str) -> Result<(), DevError> {
    let signals = ShutdownSignals::listen()?;
    let running = app::start(config).await?;
    let mut view = show_records(brokers)?;
    running.gateway_opened().await;
    let printed = print_addresses(&running, brokers);
    // Without a reader it serves on, for whoever runs it in the background.
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error.into());
    }
    signals.received().await;
    // At a deadline of its own: what is still under way is kept nowhere anyway.
    let stopped = tokio::time::timeout(STOP_DEADLINE, async { tokio::join!(running.stop(), view.stop()) }).await;
    match stopped {
        Ok((planes, view)) => {
            planes?;
            Ok(view?)
        }
        Err(_) => Ok(()),
    }
}

fn configuration(options: &DevOptions, brokers: &str, backends: &[SocketAddr]) -> Result<Config, ConfigError> {
    let brokers: Vec<_> = brokers.split(',').map(|broker| format!("{broker:?}")).collect();
    let backends: Vec<_> =
        backends.iter().map(|it| format!("{{ address = \"{}\", port = {} }}", it.ip(), it.port())).collect();
    let text = format!(
        "[admin]\n\
         listen = \"127.0.0.1:{}\"\n\
         [log]\n\
         listen = [\"127.0.0.1:{}\"]\n\
         threads = 1\n\
         shutdown_timeout_seconds = 1\n\
         [log.kafka]\n\
         brokers = [{}]\n\
         [[log.route]]\n\
         key = \"*\"\n\
         [discovery]\n\
         listen = \"127.0.0.1:{}\"\n\
         [[discovery.pool]]\n\
         id = \"demo\"\n\
         endpoints = [{}]\n\
         [gateway]\n\
         threads = 1\n\
         shutdown_timeout_seconds = 1\n\
         access_log = {{ key = \"gateway-access\" }}\n\
         [[gateway.listener]]\n\
         listen = \"127.0.0.1:{}\"\n\
         [[gateway.route]]\n\
         pool = \"demo\"\n",
        options.admin_port,
        options.redis_port,
        brokers.join(", "),
        options.pools_port,
        backends.join(", "),
        options.gateway_port
    );
    Ok(config::parse("dev", &text)?.config)
}

fn show_records(brokers: &str) -> Result<RunningView, DevError> {
    let kafka = KafkaAccess::brokers(&[brokers.to_owned()]);
    let follower = Follower::new(&kafka, Selection::All, Start::Beginning)?;
    let view = LiveView { follower, filter: Filter::default(), printer: Printer::lines(), count: None, quiet: true };
    Ok(view.spawn()?)
}

fn print_addresses(running: &Running, brokers: &str) -> io::Result<()> {
    let mut lines = running.address_lines();
    lines.insert(running.redis_addresses().len(), format!("kafka  {brokers}"));
    let gateway = running.gateway_urls();
    lines.extend(paste_lines(running.redis_addresses(), running.pools_address(), &gateway, running.admin_address()));
    lines.push(DEPLOYS.to_owned());
    lines.push("ready".to_owned());
    let mut output = io::stdout().lock();
    writeln!(output, "{}", lines.join("\n"))?;
    output.flush()
}

/// A line to paste for each plane.
fn paste_lines(
    redis: &[ListenAddress],
    pools: Option<SocketAddr>,
    gateway: &[String],
    admin: Option<SocketAddr>,
) -> Vec<String> {
    let redis = redis.iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => {
            Some(format!("redis-cli -p {} LPUSH app-demo '{{\"msg\":\"hello\"}}'", address.port()))
        }
        ListenAddress::Tls(_) | ListenAddress::Unix(_) => None,
    });
    let admin = admin.map(|address| format!("curl http://{address}/readyz"));
    let pools = pools.map(|address| format!("curl http://{address}/v1/pools/demo"));
    let gateway = gateway.iter().map(|url| format!("curl {url}/"));
    redis.into_iter().chain(pools).chain(gateway).chain(admin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_paste_names_the_port_that_listens() {
        let lines = paste_lines(&[ListenAddress::Tcp("127.0.0.1:4711".parse().unwrap())], None, &[], None);
        assert_eq!(lines, [r#"redis-cli -p 4711 LPUSH app-demo '{"msg":"hello"}'"#]);
    }

    #[test]
    fn the_configuration_made_here_is_good() {
        assert!(
            configuration(&DevOptions::default(), "127.0.0.1:1,127.0.0.1:2", &["127.0.0.1:3".parse().unwrap()]).is_ok()
        );
    }
}
