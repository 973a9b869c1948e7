//! Files that a configuration names and that are read when they are needed: whether they are there, and whether those
//! with targets can be understood.
//!
//! A certificate, a key or credentials that are missing let every scrape of their job fail, so they are errors, and so is
//! a file with targets that is not understood; whatever else is missing may still come.

use std::path::Path;

use promontory_config::http_client::{Auth, HeaderValue, HttpClientConfig, Source};
use promontory_config::{Config, Discovery, FileSdConfig};

use crate::discovery::{matching_files, read_targets};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Report {
    /// Looks at the files that `config` names.
    pub(super) fn of(config: &Config) -> Self {
        let mut report = Self::default();
        for job in &config.scrape_configs {
            let who = format!("job {:?}", job.job_name);
            report.client(&who, &job.http);
            for discovery in &job.discovery {
                if let Discovery::File(files) = discovery {
                    report.targets(&who, files);
                }
            }
        }
        for (i, destination) in config.remote_write.iter().enumerate() {
            report.client(&format!("remote_write[{i}]"), &destination.http);
        }
        for (i, source) in config.remote_read.iter().enumerate() {
            report.client(&format!("remote_read[{i}]"), &source.http);
        }
        report
    }

    fn client(&mut self, who: &str, http: &HttpClientConfig) {
        self.needed(who, "cert_file", http.tls.cert.as_ref());
        self.needed(who, "key_file", http.tls.key.as_ref());
        self.wanted(who, "ca_file", http.tls.ca.as_ref());
        match &http.auth {
            Auth::None | Auth::OAuth2(_) => {}
            Auth::Basic { username, password } => {
                self.wanted(who, "username_file", username.as_ref());
                self.wanted(who, "password_file", password.as_ref());
            }
            Auth::Authorization { credentials, .. } => self.needed(who, "credentials_file", credentials.as_ref()),
        }
        for value in http.headers.iter().flat_map(|header| &header.values) {
            if let HeaderValue::File(path) = value {
                self.warnings.extend(missing(who, "http_headers file", path));
            }
        }
    }

    fn needed<T>(&mut self, who: &str, field: &str, source: Option<&Source<T>>) {
        if let Some(Source::File(path)) = source {
            self.errors.extend(missing(who, field, path));
        }
    }

    fn wanted<T>(&mut self, who: &str, field: &str, source: Option<&Source<T>>) {
        if let Some(Source::File(path)) = source {
            self.warnings.extend(missing(who, field, path));
        }
    }

    fn targets(&mut self, who: &str, config: &FileSdConfig) {
        for pattern in &config.files {
            let files = matching_files(pattern);
            if files.is_empty() {
                self.warnings.push(format!("{who}: there is no file {} yet", pattern.display()));
            }
            self.errors.extend(files.iter().filter_map(|file| read_targets(file).err()));
        }
    }
}

fn missing(who: &str, field: &str, path: &Path) -> Option<String> {
    let error = std::fs::File::open(path).err()?;
    Some(format!("{who}: read {field} {}: {error}", path.display()))
}
