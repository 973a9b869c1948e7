//! kubeconfig files: how an API server of Kubernetes is reached.
//!
//! What is read is the current context: server, authority, client certificate, token, user and password. Commands that
//! give credentials are not run.

use std::path::Path;

use crate::decode::{Field, Fields};
use crate::error::ConfigErrors;
use crate::http_client::{Auth, Secret, Source, TlsConfig};

/// A way to an API server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KubeAccess {
    /// URL of the API server.
    pub server: String,
    /// How requests are authorised.
    pub auth: Auth,
    /// TLS.
    pub tls: TlsConfig,
    /// Namespace of the context.
    pub namespace: Option<String>,
}

/// Reads the kubeconfig `text`; `file` names it in errors and gives the folder of relative paths.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file: &Path) -> Result<KubeAccess, ConfigErrors> {
    let mut access = KubeAccess::default();
    crate::read_document(text, file, &|_| None, |decoder, node| {
        if let Some(fields) = decoder.root(node).fields() {
            read(&fields, &mut access);
        }
    })?;
    Ok(access)
}

fn read(fields: &Fields<'_>, access: &mut KubeAccess) {
    let Some(current) = fields.text("current-context") else { return fields.missing("current-context") };
    let Some(context) = named(fields, "contexts", "context", &current) else { return };
    access.namespace = context.text("namespace");
    let Some(cluster) = context.text("cluster").and_then(|name| named(fields, "clusters", "cluster", &name)) else {
        return context.missing("cluster");
    };
    match cluster.text("server") {
        Some(server) => access.server = server,
        None => cluster.missing("server"),
    }
    access.tls.ca = source(&cluster, "certificate-authority", "certificate-authority-data", |text| text);
    access.tls.server_name = cluster.text("tls-server-name");
    access.tls.insecure_skip_verify = cluster.bool_or("insecure-skip-tls-verify", false);
    let Some(name) = context.text("user") else { return };
    let Some(user) = named(fields, "users", "user", &name) else { return };
    for unrun in ["exec", "auth-provider"] {
        if let Some(field) = user.get(unrun) {
            field.rule(format!("{unrun} is not supported: no command is run for credentials; use a token"));
        }
    }
    access.tls.cert = source(&user, "client-certificate", "client-certificate-data", |text| text);
    access.tls.key = source(&user, "client-key", "client-key-data", Secret::new);
    access.auth = auth(&user);
}

fn auth(user: &Fields<'_>) -> Auth {
    if let Some(file) = user.path_buf("tokenFile") {
        return Auth::Authorization { kind: "Bearer".to_owned(), credentials: Some(Source::File(file)) };
    }
    if let Some(token) = user.text("token") {
        let credentials = Some(Source::Inline(Secret::new(token)));
        return Auth::Authorization { kind: "Bearer".to_owned(), credentials };
    }
    match user.text("username") {
        Some(username) => Auth::Basic {
            username: Some(Source::Inline(username)),
            password: user.text("password").map(Secret::new).map(Source::Inline),
        },
        None => Auth::None,
    }
}

/// The entry `name` of a list whose items have a name and something under `key`.
fn named<'a>(fields: &Fields<'a>, list: &'static str, key: &'static str, name: &str) -> Option<Fields<'a>> {
    let items: Vec<Field<'a>> = fields.list(list);
    for item in &items {
        let entry = item.fields()?;
        if entry.text("name").as_deref() == Some(name) {
            return entry.get(key)?.fields();
        }
    }
    fields.get(list).as_ref().unwrap_or(fields.map()).rule(format!("no entry is named {name:?}"));
    None
}

/// What stands in the file that `file` names, or, in base64, in the field `data`, which goes first.
fn source<T>(fields: &Fields<'_>, file: &'static str, data: &'static str, wrap: fn(String) -> T) -> Option<Source<T>> {
    let Some(field) = fields.get(data).filter(|f| f.text().is_some_and(|t| !t.is_empty())) else {
        return fields.path_buf(file).map(Source::File);
    };
    let decoded = field.text().and_then(decode_base64).and_then(|bytes| String::from_utf8(bytes).ok());
    if decoded.is_none() {
        field.rule("is not text in base64");
    }
    decoded.map(wrap).map(Source::Inline)
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=');
    let (mut out, mut bits, mut n_bits) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push(((bits >> n_bits) & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Config\ncurrent-context: prod\ncontexts:\n- {name: other, context: {}}\n\
        - name: prod\n  context: {cluster: c, user: u, namespace: ml}\nclusters:\n- name: c\n  cluster:\n    server: \
        https://k8s:6443\n    certificate-authority-data: Q0E=\nusers:\n- name: u\n  user:\n    token: t\n    \
        client-certificate: pki/c.pem\n    client-key-data: S0VZ\n";

    #[test]
    fn the_current_context_says_how_to_connect() {
        let access = parse(TEXT, Path::new("/home/x/config")).unwrap();
        assert_eq!((access.server.as_str(), access.namespace.as_deref()), ("https://k8s:6443", Some("ml")));
        assert_eq!(access.tls.ca, Some(Source::Inline("CA".to_owned())));
        assert_eq!(access.tls.cert, Some(Source::File("/home/x/pki/c.pem".into())));
        assert_eq!(access.tls.key, Some(Source::Inline(Secret::new("KEY".to_owned()))));
        let credentials = Some(Source::Inline(Secret::new("t".to_owned())));
        assert_eq!(access.auth, Auth::Authorization { kind: "Bearer".to_owned(), credentials });
    }

    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        assert_eq!(parse(&TEXT.replace(from, to), Path::new("k")).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        check("current-context: prod", "", "k:1:1: required field \"current-context\" is missing or empty");
        check("current-context: prod", "current-context: none", "k:5:1: contexts: no entry is named \"none\"");
        check("token: t", "exec: {command: aws}", {
            "k:16:11: users[0].user.exec: exec is not supported: no command is run for credentials; use a token"
        });
        check("Q0E=", "'?'", "k:12:33: clusters[0].cluster.certificate-authority-data: is not text in base64");
    }
}
