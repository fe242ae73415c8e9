//! What hooks do, tried again each second until it ends well or its time is over.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::HookError;
use crate::control::resource::hooks::{Eureka, Hook, HttpHook, Method, Offline};
use crate::net::fetch::{Credentials, Fetched, Fetcher};
use crate::render::run_command;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// One thing to do.
#[derive(Clone, Copy)]
enum Deed<'a> {
    Http(&'a HttpHook),
    Command(&'a [String]),
    Eureka(&'a Eureka),
}

/// A hook, to its end.
pub(super) async fn hook(what: &'static str, hook: &Hook) -> Result<(), HookError> {
    let deed = hook.http.as_ref().map(Deed::Http).or(hook.command.as_deref().map(Deed::Command));
    // The API server lets no hook through that does nothing.
    let Some(deed) = deed else { return Ok(()) };
    until_done(what, deed, hook.timeout()).await
}

/// What takes a pod from those who know it, and then two periods in which they look again, whatever became of it.
pub(super) async fn offline(offline: &Offline) {
    let Offline { eureka, http, command, .. } = offline;
    let deed = eureka.as_ref().map(Deed::Eureka).or(http.as_ref().map(Deed::Http));
    if let Some(deed) = deed.or(command.as_deref().map(Deed::Command))
        && let Err(error) = until_done("beforeOffline", deed, offline.timeout()).await
    {
        tracing::warn!(%error, "the pod goes all the same");
    }
    tracing::info!("waiting {} s, for who has looked just now to look again", offline.wait().as_secs());
    sleep(offline.wait()).await;
}

async fn until_done(what: &'static str, deed: Deed<'_>, time: Duration) -> Result<(), HookError> {
    let (began, mut last) = (Instant::now(), String::new());
    loop {
        let left = time.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(HookError::Failed { what, timeout: time, why: last });
        }
        match once(deed, left).await {
            Ok(said) => {
                tracing::info!("{what}: {said}, after {:.1} s", began.elapsed().as_secs_f64());
                return Ok(());
            }
            Err(why) if why != last => {
                tracing::warn!("{what}: {why}");
                last = why;
            }
            Err(_) => {}
        }
        sleep(PAUSE.min(time.saturating_sub(began.elapsed()))).await;
    }
}

/// One try within what is left: what was done, or why not.
async fn once(deed: Deed<'_>, left: Duration) -> Result<String, String> {
    match deed {
        Deed::Http(http) => {
            let said = request(http.method, &http.url, ANSWER.min(left)).await?;
            let told = format!("{} answered {}", http.url, said.status.as_u16());
            if said.status.is_success() { Ok(told) } else { Err(told) }
        }
        // With what is left, so that it is killed with its children when that is over.
        Deed::Command(words) => {
            run_command(words, left).await.map_err(|error| error.to_string())?;
            Ok(format!("{} ended well", words.join(" ")))
        }
        Deed::Eureka(eureka) => leave(eureka, left).await,
    }
}

/// The first server of the ring that answers takes the instance out of service, and tells the others.
async fn leave(eureka: &Eureka, left: Duration) -> Result<String, String> {
    let Eureka { urls, app, instance } = eureka;
    let each = u32::try_from(urls.len()).unwrap_or(u32::MAX).max(1);
    let mut why = String::new();
    for url in urls {
        let url = format!("{}/apps/{app}/{instance}/status?value=OUT_OF_SERVICE", url.trim_end_matches('/'));
        match request(Method::Put, &url, ANSWER.min(left / each)).await {
            Ok(said) if said.status.is_success() => return Ok(format!("{app}/{instance} is out of service in Eureka")),
            Ok(said) if said.status.as_u16() == 404 => return Ok(format!("Eureka knows no {app}/{instance}")),
            Ok(said) => why = format!("{url} answered {}", said.status.as_u16()),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// A URL as it is asked: the kubelet writes an address of IPv6 in the place of `$(POD_IP)` as it is, and a URL has it in brackets.
pub(super) fn bracketed(url: &str, pod: Option<IpAddr>) -> Cow<'_, str> {
    let Some(IpAddr::V6(pod)) = pod else { return url.into() };
    let rest = url.strip_prefix("http://").and_then(|it| it.strip_prefix(&pod.to_string()));
    // Another address may begin as this one does.
    match rest.filter(|it| it.is_empty() || it.starts_with([':', '/'])) {
        Some(rest) => format!("http://[{pod}]{rest}").into(),
        None => url.into(),
    }
}

async fn request(method: Method, url: &str, patience: Duration) -> Result<Fetched, String> {
    let url = &*bracketed(url, super::pod_address().ok());
    // What follows the authority.
    let (base, path) = url.match_indices('/').nth(2).map_or((url, "/"), |(at, _)| url.split_at(at));
    let fetcher = Fetcher::new(base, &Credentials::default()).map_err(|error| error.to_string())?;
    let answer = match method {
        Method::Get => fetcher.get(path, &[], patience).await,
        Method::Post => fetcher.post(path, Vec::new(), patience).await,
        Method::Put => fetcher.put(path, patience).await,
        Method::Delete => fetcher.delete(path, patience).await,
    };
    answer.map_err(|error| error.to_string())
}
