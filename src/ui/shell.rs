//! The frame of a page: head, navigation, headers, theme.

use askama::Template;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::assets::{self, AssetUrls};

/// Pages of the navigation: key, address, text.
const NAVIGATION: [(&str, &str, &str); 4] = [
    ("dashboards", "/dashboards", "Dashboards"),
    ("explore", "/explore", "Explore"),
    ("targets", "/targets", "Targets"),
    ("status", "/status", "Status"),
];

/// Scripts and styles from this server only, nothing inline; only own pages may frame a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'";
/// The same for single panels, which are made to be framed elsewhere.
const POLICY_EMBED: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors *";

/// Dark or light, or whatever the browser prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ThemeChoice {
    #[default]
    Auto,
    Dark,
    Light,
}

impl ThemeChoice {
    fn of(name: &str) -> Option<Self> {
        match name {
            "dark" => Some(Self::Dark),
            "light" => Some(Self::Light),
            "auto" | "system" => Some(Self::Auto),
            _ => None,
        }
    }

    /// What the address, else the cookie says.
    pub(crate) fn choose(from_address: Option<&str>, headers: &HeaderMap) -> Self {
        from_address.and_then(Self::of).or_else(|| cookie(headers, "theme").and_then(Self::of)).unwrap_or_default()
    }

    /// The theme to draw colours for; `headers` tell what the browser preferred on its last visit.
    pub(crate) fn is_light(self, headers: &HeaderMap) -> bool {
        match self {
            Self::Dark => false,
            Self::Light => true,
            Self::Auto => {
                let hint = headers.get("sec-ch-prefers-color-scheme").and_then(|v| v.to_str().ok());
                hint.map(|h| h.trim_matches('"')).or_else(|| cookie(headers, "scheme")) == Some("light")
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dark => "dark",
            Self::Light => "light",
        }
    }
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Whether a request that changes something comes from a page of this server, or from no page at all. Browsers say
/// where a request comes from; those that do not say it of the site say it of the origin.
pub(crate) fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text("host")
        }
        (None, None) => true,
    }
}

/// What the frame needs to know.
pub(crate) struct Shell {
    pub(crate) title: String,
    pub(crate) active: &'static str,
    pub(crate) theme: ThemeChoice,
    /// Without navigation.
    pub(crate) is_kiosk: bool,
    /// Reload interval for browsers without script, seconds.
    pub(crate) reload_seconds: Option<i64>,
}

impl Shell {
    pub(crate) fn new(title: &str, active: &'static str, theme: ThemeChoice) -> Self {
        Self { title: title.to_owned(), active, theme, is_kiosk: false, reload_seconds: None }
    }

    /// For a page whose address alone says which theme is wanted.
    pub(crate) fn of_page(title: &str, active: &'static str, query: &[(String, String)], headers: &HeaderMap) -> Self {
        let theme = query.iter().find(|(n, _)| n == "theme").map(|(_, v)| v.as_str());
        Self::new(title, active, ThemeChoice::choose(theme, headers))
    }

    pub(crate) fn theme_name(&self) -> &'static str {
        self.theme.name()
    }

    /// Address, text and whether the page belongs there.
    pub(crate) fn navigation(&self) -> [(&'static str, &'static str, bool); 4] {
        NAVIGATION.map(|(key, url, text)| (url, text, key == self.active))
    }

    pub(crate) fn assets(&self) -> &'static AssetUrls {
        assets::urls()
    }
}

/// A rendered template with the headers of a page.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    send(status, template, POLICY)
}

/// As [`page`], for pages that others may frame.
pub(crate) fn embeddable(status: StatusCode, template: &impl Template) -> Response {
    send(status, template, POLICY_EMBED)
}

fn send(status: StatusCode, template: &impl Template, policy: &'static str) -> Response {
    match template.render() {
        Ok(body) => {
            let mut response = (status, body).into_response();
            secure(response.headers_mut(), policy);
            response
        }
        Err(e) => {
            tracing::error!(error = %e, "render page");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered\n").into_response()
        }
    }
}

/// HTML of a part of a page.
pub(crate) fn fragment(body: String) -> Response {
    let mut response = body.into_response();
    secure(response.headers_mut(), POLICY);
    response
}

fn secure(headers: &mut HeaderMap, policy: &'static str) {
    let all = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("accept-ch", "Sec-CH-Prefers-Color-Scheme"),
        // A browser that did not say it asks again at once, so that the first page has its colours too.
        ("critical-ch", "Sec-CH-Prefers-Color-Scheme"),
        ("vary", "Sec-CH-Prefers-Color-Scheme, Cookie"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
