//! The calls of the client matrix through redis-rs and fred: calls LIBRARY MODE HOST PORT KEY

use std::io::BufRead as _;
use std::time::Duration;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn value(call: &str, number: usize) -> String {
    format!("{call}-{number} é \"q\" \\ \r\n\0.")
}

fn report(call: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => println!("{call} ok"),
        Err(error) => println!("{call} error: {}", error.to_string().replace(['\r', '\n'], " ")),
    }
}

fn check<T: PartialEq + std::fmt::Debug>(reply: T, wanted: T) -> Outcome {
    if reply == wanted { Ok(()) } else { Err(format!("{reply:?} instead of {wanted:?}").into()) }
}

fn wait_for_restart() {
    println!("restart");
    let _ = std::io::stdin().lock().lines().next();
}

fn patiently(mut act: impl FnMut() -> Outcome) -> Outcome {
    let mut tried = 0;
    loop {
        match act() {
            Err(_) if tried < 59 => tried += 1,
            outcome => return outcome,
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

mod through_redis_rs {
    use super::*;
    use redis::cluster::ClusterClient;
    use redis::sentinel::Sentinel;
    use redis::{Client, ConnectionLike};

    fn connect(mode: &str, url: &str) -> Result<Box<dyn ConnectionLike>, Box<dyn std::error::Error>> {
        Ok(match mode {
            "cluster" => Box::new(ClusterClient::new(vec![url])?.get_connection()?),
            "sentinel" => Box::new(Sentinel::build(vec![url])?.master_for("mymaster", None)?.get_connection()?),
            _ => Box::new(Client::open(url)?.get_connection()?),
        })
    }

    pub fn run(mode: &str, url: &str, key: &str) -> Outcome {
        println!("version {}", env!("REDIS_VERSION"));
        let mut connection = connect(mode, url)?;
        let push = |connection: &mut dyn ConnectionLike, call: &str| -> Outcome {
            check(redis::cmd("RPUSH").arg(key).arg(value(call, 0)).query::<i64>(connection)?, 1)
        };
        report("ordinary", push(&mut *connection, "ordinary"));
        report("health", (|| {
            check(redis::cmd("PING").query::<String>(&mut *connection)?, "PONG".into())?;
            // Of a cluster, it is a map of all nodes'.
            let info = redis::cmd("INFO").query::<redis::Value>(&mut *connection)?;
            check(format!("{info:?}").contains("redis_version"), true)
        })());
        if mode == "cluster" {
            let mut cluster = ClusterClient::new(vec![url])?.get_connection()?;
            report("pipeline", (|| {
                let mut pipe = redis::cluster::cluster_pipe();
                (0..10).for_each(|number| _ = pipe.rpush(key, value("pipeline", number)));
                check(pipe.query::<Vec<i64>>(&mut cluster)?, vec![1; 10])
            })());
            println!("transaction absent");
        } else {
            let mut batch = |call: &str, count: usize, atomic: bool| -> Outcome {
                let mut pipe = redis::pipe();
                if atomic {
                    pipe.atomic();
                }
                (0..count).for_each(|number| _ = pipe.rpush(key, value(call, number)));
                check(pipe.query::<Vec<i64>>(&mut *connection)?, vec![1; count])
            };
            report("pipeline", batch("pipeline", 10, false));
            report("transaction", batch("transaction", 5, true));
        }
        wait_for_restart();
        report("reconnect", patiently(|| {
            // It leaves it to its user to connect anew.
            if let Err(error) = push(&mut *connection, "reconnect") {
                connection = connect(mode, url)?;
                return Err(error);
            }
            Ok(())
        }));
        Ok(())
    }
}

mod through_fred {
    use super::*;
    use fred::prelude::*;

    pub async fn run(mode: &str, host: &str, port: u16, key: &str) -> Outcome {
        println!("version {}", env!("FRED_VERSION"));
        let server = match mode {
            "cluster" => ServerConfig::new_clustered(vec![(host, port)]),
            "sentinel" => ServerConfig::new_sentinel(vec![(host, port)], "mymaster"),
            _ => ServerConfig::new_centralized(host, port),
        };
        let mut builder = Builder::from_config(Config { server, ..Config::default() });
        builder.set_policy(ReconnectPolicy::new_constant(100, 200));
        let client = builder.build()?;
        client.init().await?;
        report("ordinary", one(client.rpush(key, value("ordinary", 0)).await));
        let pong: Result<String, Error> = client.ping(None).await;
        let info: Result<String, Error> = client.info(None).await;
        report("health", match (pong, info) {
            (Ok(pong), Ok(info)) => check((pong.as_str(), info.contains("redis_version")), ("PONG", true)),
            (Err(error), _) | (_, Err(error)) => Err(error.into()),
        });
        let pipe = client.pipeline();
        for number in 0..10 {
            let _: () = pipe.rpush(key, value("pipeline", number)).await?;
        }
        report("pipeline", pipe.all::<Vec<i64>>().await.map_err(Into::into).and_then(|replies| check(replies, vec![1; 10])));
        let transaction = client.multi();
        for number in 0..5 {
            let _: () = transaction.rpush(key, value("transaction", number)).await?;
        }
        let replies = transaction.exec::<Vec<i64>>(true).await;
        report("transaction", replies.map_err(Into::into).and_then(|replies| check(replies, vec![1; 5])));
        wait_for_restart();
        let mut outcome = one(client.rpush(key, value("reconnect", 0)).await);
        for _ in 0..59 {
            if outcome.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            outcome = one(client.rpush(key, value("reconnect", 0)).await);
        }
        report("reconnect", outcome);
        Ok(())
    }

    fn one(reply: Result<i64, Error>) -> Outcome {
        check(reply?, 1)
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, library, mode, host, port, key] = arguments.as_slice() else { std::process::exit(2) };
    let outcome = if library == "fred" {
        through_fred::run(mode, host, port.parse().expect("a port"), key).await
    } else {
        let (mode, url, key) = (mode.clone(), format!("redis://{host}:{port}"), key.clone());
        tokio::task::block_in_place(move || through_redis_rs::run(&mode, &url, &key))
    };
    if let Err(error) = outcome {
        println!("start error: {error}");
        std::process::exit(1);
    }
}
