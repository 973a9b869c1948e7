//! Serving everything below a path: what `--web.external-url` and `--web.route-prefix` ask for, as Prometheus has them.
//!
//! Pages and handlers know no such path. Requests lose it before they are routed, and what leads anywhere gets it: the
//! addresses in the attributes of pages, and those that redirections name. Where a proxy takes the path away on its way
//! here (`--web.route-prefix=/`), requests come without it and pages have it all the same.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::AppError;
use crate::cli::ServeArgs;

/// Bytes of a page; ours are far smaller.
const PAGE_BYTES_MAX: usize = 1 << 30;
/// Attributes of pages that hold addresses.
const ATTRIBUTES: [&[u8]; 7] = [b"href", b"src", b"action", b"formaction", b"data-base", b"data-path", b"data-live"];

/// The paths below which everything is; each is empty or begins with a slash and does not end with one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Below {
    /// Of requests as they arrive.
    routes: String,
    /// Of addresses that readers follow.
    pages: String,
}

impl Below {
    /// What the flags say.
    ///
    /// # Errors
    /// [`AppError::Flag`] for an address that is none.
    pub(super) fn of(args: &ServeArgs) -> Result<Self, AppError> {
        let outside = match &args.external_url {
            None => None,
            Some(text) => Some(path_of(text).ok_or_else(|| AppError::Flag {
                flag: "web.external-url",
                reason: format!("{text:?} is no address like https://metrics.example.com/prometheus"),
            })?),
        };
        let routes = args.route_prefix.as_deref().or(outside.as_deref()).unwrap_or_default();
        let routes = format!("/{}", routes.trim_matches('/'));
        if routes.parse::<PathAndQuery>().is_err() || routes.contains(['?', '#', '"', '&', '<', '%']) {
            let reason = format!("{routes:?} is no path like /prometheus");
            return Err(AppError::Flag { flag: "web.route-prefix", reason });
        }
        let routes = routes.trim_end_matches('/').to_owned();
        let pages = outside.map_or_else(|| routes.clone(), |path| path.trim_end_matches('/').to_owned());
        Ok(Self { routes, pages })
    }

    /// Where requests for `path` arrive.
    pub(super) fn inner(&self, path: &str) -> String {
        format!("{}{path}", self.routes)
    }

    /// Lets pages lead to where they are seen from outside. What compresses must come after this.
    pub(super) fn lead(&self, pages: Router) -> Router {
        if self.pages.is_empty() {
            return pages;
        }
        pages.layer(from_fn_with_state(Arc::new(self.clone()), rewrite_page))
    }

    /// Serves `router` below the path.
    pub(super) fn serve(&self, router: Router) -> Router {
        if *self == Self::default() {
            return router;
        }
        let below = Arc::new(self.clone());
        Router::new().fallback(move |request: Request| {
            let (below, router) = (below.clone(), router.clone());
            async move { below.answer(request, router).await }
        })
    }

    async fn answer(&self, mut request: Request, router: Router) -> Response {
        match self.inside(request.uri()) {
            Some(uri) => *request.uri_mut() = uri,
            // Whoever asks for nothing in particular is shown the way, as in Prometheus.
            None if matches!(request.uri().path().strip_prefix(&self.routes), Some(""))
                || request.uri().path() == "/" =>
            {
                return to(&format!("{}/", self.pages));
            }
            None => return (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        }
        let answered: Result<Response, Infallible> = TowerToHyperService::new(router).call(request).await;
        let Ok(mut response) = answered;
        self.redirect(response.headers_mut());
        response
    }

    /// The address of a request without the path; `None` if it does not have it.
    fn inside(&self, uri: &Uri) -> Option<Uri> {
        let rest = uri.path().strip_prefix(&self.routes).filter(|rest| rest.starts_with('/'))?;
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(format!("{rest}{query}").parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    fn redirect(&self, headers: &mut HeaderMap) {
        let Some(location) = headers.get(header::LOCATION).and_then(|l| l.to_str().ok()) else { return };
        // Two slashes begin the name of a host.
        if location.starts_with('/')
            && !location.starts_with("//")
            && let Ok(location) = HeaderValue::from_str(&format!("{}{location}", self.pages))
        {
            headers.insert(header::LOCATION, location);
        }
    }
}

fn to(address: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, address.to_owned())]).into_response()
}

async fn rewrite_page(State(below): State<Arc<Below>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let is_page = |value: &HeaderValue| value.as_bytes().starts_with(b"text/html");
    if !response.headers().get(header::CONTENT_TYPE).is_some_and(is_page) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    match to_bytes(body, PAGE_BYTES_MAX).await {
        Ok(page) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(rewritten(&page, below.pages.as_bytes())))
        }
        Err(error) => {
            tracing::error!(%error, "a page could not be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The page with `path` before all addresses in attributes that begin with one slash. Texts and scripts stay as they
/// are, whatever they look like.
fn rewritten(page: &[u8], path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 16);
    let mut at = 0;
    // Between tags there is no such sign but at the start of one: texts have it escaped.
    while let Some(tag) = memchr::memchr(b'<', &page[at..]).map(|i| at + i) {
        let end = tag_end(page, tag);
        out.extend_from_slice(&page[at..tag]);
        rewrite_tag(&page[tag..end], path, &mut out);
        at = end;
        if page[tag..end].starts_with(b"<script") {
            // Its content is no markup, and ends where the first end of a script is.
            let close = memchr::memmem::find(&page[at..], b"</script").map_or(page.len(), |i| at + i);
            out.extend_from_slice(&page[at..close]);
            at = close;
        }
    }
    out.extend_from_slice(&page[at..]);
    out
}

/// Where the tag that begins at `start` ends; values in quotes may hold anything.
fn tag_end(page: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(i) = memchr::memchr2(b'>', b'"', &page[at..]) {
        at += i + 1;
        if page[at - 1] == b'>' {
            return at;
        }
        at = memchr::memchr(b'"', &page[at..]).map_or(page.len(), |i| at + i + 1);
    }
    page.len()
}

fn rewrite_tag(tag: &[u8], path: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    // A value in quotes, whose name stands before it.
    while let Some(quote) = memchr::memchr(b'"', &tag[at..]).map(|i| at + i) {
        let end = memchr::memchr(b'"', &tag[quote + 1..]).map_or(tag.len(), |i| quote + i + 2);
        let name = tag[at..quote].strip_suffix(b"=").unwrap_or_default();
        let name = name.rsplit(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
        out.extend_from_slice(&tag[at..=quote]);
        let value = &tag[quote + 1..end];
        if ATTRIBUTES.contains(&name) && value.starts_with(b"/") && !value.starts_with(b"//") {
            out.extend_from_slice(path);
        }
        out.extend_from_slice(value);
        at = end;
    }
    out.extend_from_slice(&tag[at..]);
}

/// The path of an address, which must have a scheme and a host, and a path that needs no escaping.
fn path_of(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let is_plain = !uri.path().contains(['"', '&', '<', '%']);
    (uri.scheme().is_some() && uri.host().is_some() && is_plain).then(|| uri.path().to_owned())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use clap::Parser as _;

    use super::*;

    fn below(flags: &str) -> Result<Below, String> {
        let line = std::iter::once("promontory").chain(flags.split_whitespace());
        let args = crate::cli::Cli::try_parse_from(line).unwrap().serve;
        Below::of(&args).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_name_the_paths() {
        for (flags, routes, pages) in [
            ("", "", ""),
            ("--web.external-url=http://prometheus.example:9090/", "", ""),
            ("--web.external-url=https://a.example/prom/", "/prom", "/prom"),
            ("--web.external-url=https://a.example/prom --web.route-prefix=/", "", "/prom"),
            ("--web.external-url=https://a.example --web.route-prefix=/x", "/x", ""),
            ("--web.route-prefix=a/b/", "/a/b", "/a/b"),
        ] {
            let expected = Below { routes: routes.to_owned(), pages: pages.to_owned() };
            assert_eq!(below(flags), Ok(expected), "{flags}");
        }
        for (flags, start) in [
            ("--web.external-url=prometheus.example", "--web.external-url: \"prometheus.example\" is no address"),
            ("--web.external-url=http://a/%22", "--web.external-url: \"http://a/%22\" is no address"),
            ("--web.route-prefix=/a?b", "--web.route-prefix: \"/a?b\" is no path"),
        ] {
            let got = below(flags).unwrap_err();
            assert!(got.starts_with(start), "{got}");
        }
    }

    #[test]
    fn addresses_in_tags_get_the_path_and_nothing_else() {
        for (page, expected) in [
            (r#"<a href="/d/x?a=/b">/d/x</a>"#, r#"<a href="/prom/d/x?a=/b">/d/x</a>"#),
            (r#"<a title="a > b" href="/">x</a>"#, r#"<a title="a > b" href="/prom/">x</a>"#),
            (r#"<a href="//host/x" data-href="/x" title="/x">"#, r#"<a href="//host/x" data-href="/x" title="/x">"#),
            (r#"<a title=" href=" href="https://x/">"#, r#"<a title=" href=" href="https://x/">"#),
            (r#"<b>{path="/metrics", href="/x"}</b>"#, r#"<b>{path="/metrics", href="/x"}</b>"#),
            (
                r#"<script src="/s.js" defer></script><script type="x">{"a":"<a href=\"/x\">"}</script><form action="/t">"#,
                r#"<script src="/prom/s.js" defer></script><script type="x">{"a":"<a href=\"/x\">"}</script><form action="/prom/t">"#,
            ),
            (r#"<a href="/x"#, r#"<a href="/prom/x"#),
            ("<", "<"),
        ] {
            let got = rewritten(page.as_bytes(), b"/prom");
            assert_eq!(String::from_utf8(got).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn requests_come_below_the_path_and_answers_lead_there() {
        let page = |text: &'static str| get(async move || ([(header::CONTENT_TYPE, "text/html")], text));
        let ask = async |flags: &str, path: &str| {
            let below = below(flags).unwrap();
            let pages = Router::new()
                .route("/", get(async || to("/dashboards")))
                .route("/page", page(r#"<a href="/x">"#))
                .route("/text", get(async |uri: Uri| format!("href=\"/x\" {uri}")));
            let router = below.serve(below.lead(pages));
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = TowerToHyperService::new(router).call(request).await.unwrap();
            let status = response.status().as_u16();
            let location = response.headers().get(header::LOCATION).map(|l| l.to_str().unwrap().to_owned());
            let body = to_bytes(response.into_body(), 1_000).await.unwrap();
            location.unwrap_or_else(|| format!("{status} {}", String::from_utf8_lossy(&body)))
        };
        let both = "--web.external-url=https://a.example/prom";
        let proxied = "--web.external-url=https://a.example/prom --web.route-prefix=/";
        for (flags, path, expected) in [
            ("", "/page", r#"200 <a href="/x">"#),
            (both, "/prom/page", r#"200 <a href="/prom/x">"#),
            (both, "/prom/text?a=b", r#"200 href="/x" /text?a=b"#),
            (both, "/prom/", "/prom/dashboards"),
            (both, "/prom", "/prom/"),
            (both, "/", "/prom/"),
            (both, "/page", "404 404 page not found\n"),
            (both, "/prompage", "404 404 page not found\n"),
            (proxied, "/page", r#"200 <a href="/prom/x">"#),
            (proxied, "/", "/prom/dashboards"),
        ] {
            assert_eq!(ask(flags, path).await, expected, "{flags} {path}");
        }
    }
}
