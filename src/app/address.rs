//! What `--web.external-url` and `--web.route-prefix` may say: everything is served at the root.

use axum::http::Uri;

use super::AppError;
use crate::cli::ServeArgs;

/// Refuses addresses under which nothing would be found, and warns of one that only programs can use.
pub(super) fn check(args: &ServeArgs) -> Result<(), AppError> {
    let is_root = |path: &str| path.trim_matches('/').is_empty();
    let path = match &args.external_url {
        None => String::new(),
        Some(text) => path_of(text).ok_or_else(|| AppError::Flag {
            flag: "web.external-url",
            reason: format!("{text:?} is no address like https://metrics.example.com"),
        })?,
    };
    let prefix = args.route_prefix.as_deref().unwrap_or(&path);
    if !is_root(prefix) {
        let reason = format!(
            "everything is served at /, not below {prefix}; give --web.route-prefix=/ and let the proxy in front take \
             the prefix away"
        );
        let flag = if args.route_prefix.is_some() { "web.route-prefix" } else { "web.external-url" };
        return Err(AppError::Flag { flag, reason });
    }
    if !is_root(&path) {
        tracing::warn!(path, "--web.external-url: the API can be used below this path, pages lead to addresses at /");
    }
    Ok(())
}

/// The path of an address, which must have a scheme and a host.
fn path_of(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    (uri.scheme().is_some() && uri.host().is_some()).then(|| uri.path().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[track_caller]
    fn verdict(flags: &str, expected: Result<(), &str>) {
        let line = std::iter::once("promontory").chain(flags.split_whitespace());
        let args = crate::cli::Cli::try_parse_from(line).unwrap().serve;
        match (check(&args).map_err(|e| e.to_string()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(start)) => assert!(got.starts_with(start), "{got}"),
            (got, expected) => panic!("{flags}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn all_is_served_at_the_root() {
        verdict("", Ok(()));
        verdict("--web.external-url=http://prometheus.example:9090/", Ok(()));
        verdict("--web.external-url=https://a.example/prom --web.route-prefix=/", Ok(()));
        verdict(
            "--web.external-url=https://a.example/prom",
            Err("--web.external-url: everything is served at /, not below /prom;"),
        );
        verdict("--web.route-prefix=/prom", Err("--web.route-prefix: everything is served at /, not below /prom;"));
        verdict(
            "--web.external-url=prometheus.example",
            Err("--web.external-url: \"prometheus.example\" is no address"),
        );
    }
}
