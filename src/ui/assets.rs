//! Static files, embedded, under addresses that change with their content, so that browsers may keep them forever.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

struct Asset {
    name: String,
    mime: &'static str,
    content: String,
}

impl Asset {
    fn new(stem: &str, extension: &str, mime: &'static str, content: String) -> Self {
        Self { name: format!("{stem}-{:016x}.{extension}", fingerprint(&content)), mime, content }
    }
}

/// Rows that the dashboard grid can name; panels below flow after the others.
const GRID_ROWS: usize = 400;

/// The style with one class per place and size in the dashboard grid. Pages hold no inline style, so the places are
/// spelled out here.
fn whole_style() -> String {
    let mut out = include_str!("static/style.css").to_owned();
    out.push_str("@media (min-width: 701px) {\n");
    for x in 0..24 {
        out.push_str(&format!(".x{x}{{grid-column-start:{0}}}.w{0}{{grid-column-end:span {0}}}\n", x + 1));
    }
    for y in 0..GRID_ROWS {
        out.push_str(&format!(".y{y}{{grid-row-start:{}}}", y + 1));
    }
    for h in 1..=100 {
        out.push_str(&format!(".h{h}{{grid-row-end:span {h}}}"));
    }
    // The width of legends beside plots.
    for share in (15..=55).step_by(5) {
        out.push_str(&format!(".legend.lw{share}{{width:{share}%}}"));
    }
    out.push_str("}\n");
    // Sizes of text that panels name.
    for px in 6..=120 {
        out.push_str(&format!(".px{px}.px{px}{{font-size:{px}px;height:auto;line-height:1.3}}"));
    }
    // Boxes side by side.
    for n in 1..=25 {
        out.push_str(&format!(".stats.c{n}{{grid-template-columns:repeat({n},minmax(0,1fr))}}"));
    }
    out
}

/// FNV-1a; names a version, protects nothing.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", whole_style()));
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("app", "js", "text/javascript; charset=utf-8", include_str!("static/app.js").to_owned())
});
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("static/icon.svg").to_owned()));

/// Addresses of the files that every page links.
pub(crate) struct AssetUrls {
    pub(crate) style: String,
    pub(crate) script: String,
    pub(crate) icon: String,
}

pub(crate) fn urls() -> &'static AssetUrls {
    static URLS: LazyLock<AssetUrls> = LazyLock::new(|| AssetUrls {
        style: format!("/static/{}", STYLE.name),
        script: format!("/static/{}", SCRIPT.name),
        icon: format!("/static/{}", ICON.name),
    });
    &URLS
}

/// The text of the style, for a file that must hold everything.
pub(crate) fn style() -> &'static str {
    &STYLE.content
}

/// The text of the script.
pub(crate) fn script() -> &'static str {
    &SCRIPT.content
}

/// Serves the static files.
pub fn router() -> Router {
    Router::new().route("/static/{name}", get(serve)).route("/favicon.ico", get(icon))
}

async fn icon() -> Response {
    send(&ICON)
}

async fn serve(Path(name): Path<String>) -> Response {
    let assets: [&'static Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    match assets.into_iter().find(|a| a.name == name) {
        Some(asset) => send(asset),
        None => (StatusCode::NOT_FOUND, "no such file\n").into_response(),
    }
}

fn send(asset: &'static Asset) -> Response {
    let headers = [
        (header::CONTENT_TYPE, asset.mime),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, asset.content.as_str()).into_response()
}
