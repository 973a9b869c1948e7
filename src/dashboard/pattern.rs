//! Regular expressions of dashboards, which are JavaScript's.
//!
//! Ours have no look-around, which keeps them linear. What dashboards use of it most, "all but", is a second
//! expression: `^(?!x)…` takes what does not begin with `x`, and `^((?!x).)*$` what has no `x` in it.

use std::borrow::Cow;

use regex::{Captures, Regex, RegexBuilder, Replacer};

/// Bytes of one compiled expression.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A compiled expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    /// What this takes, the pattern does not.
    unless: Option<Regex>,
}

impl Pattern {
    /// Compiles `/…/flags` as it is and anything else anchored, as Grafana reads patterns.
    ///
    /// # Errors
    /// What of the pattern cannot be read.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let (body, flags, is_bare) = match pattern.strip_prefix('/').and_then(|p| p.rsplit_once('/')) {
            Some((body, flags)) => (body, flags, false),
            None => (pattern, "", true),
        };
        let (unless, body) = match refused(body, is_bare) {
            Some((unless, rest)) => (Some(unless), rest),
            None => (None, body.to_owned()),
        };
        let body = if is_bare { format!("^(?:{body})$") } else { body };
        let compiled = |body: &str| {
            RegexBuilder::new(&plain(body))
                .case_insensitive(flags.contains('i'))
                .dot_matches_new_line(flags.contains('s'))
                .multi_line(flags.contains('m'))
                .size_limit(COMPILED_BYTES_MAX)
                .build()
                .map_err(|e| e.to_string().lines().last().unwrap_or("").trim().to_owned())
        };
        Ok(Self { regex: compiled(&body)?, unless: unless.as_deref().map(compiled).transpose()? })
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text) && self.unless.as_ref().is_none_or(|u| !u.is_match(text))
    }

    pub(crate) fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        if self.unless.as_ref().is_some_and(|u| u.is_match(text)) {
            return None;
        }
        self.regex.captures(text)
    }

    /// Groups, the whole counted as one.
    pub(crate) fn captures_len(&self) -> usize {
        self.regex.captures_len()
    }

    /// The text with its first match replaced.
    pub(crate) fn replace<'t>(&self, text: &'t str, replacer: impl Replacer) -> Cow<'t, str> {
        match self.is_match(text) {
            true => self.regex.replace(text, replacer),
            false => Cow::Borrowed(text),
        }
    }
}

/// What a pattern refuses, as an expression of its own, and the pattern without that.
fn refused(body: &str, is_bare: bool) -> Option<(String, String)> {
    let after = body.strip_prefix('^').or(is_bare.then_some(body))?;
    if let Some(inner) = after.strip_prefix("((?!") {
        let end = closing(inner)?;
        let rest = inner[end + 1..].strip_prefix(".)")?;
        let rest = rest.strip_prefix(['*', '+'])?;
        return matches!(rest, "" | "$").then(|| (inner[..end].to_owned(), "^.*$".to_owned()));
    }
    let inner = after.strip_prefix("(?!")?;
    let end = closing(inner)?;
    Some((format!("^(?:{})", &inner[..end]), format!("^(?:{})", &inner[end + 1..])))
}

/// Where the group ends whose inside `text` begins with.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut is_class, mut escaped) = (0, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => is_class = true,
            ']' => is_class = false,
            '(' if !is_class => depth += 1,
            ')' if !is_class && depth == 0 => return Some(i),
            ')' if !is_class => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What JavaScript reads as it stands and our expressions do not: `\/`, and braces that count nothing.
fn plain(body: &str) -> String {
    let body = body.replace("\\/", "/");
    let mut out = String::with_capacity(body.len());
    let mut escaped = false;
    for (i, c) in body.char_indices() {
        let counts = || {
            let inside = body[i + 1..].split_once('}').map_or("", |(inside, _)| inside);
            let is_number = |n: &str| n.bytes().all(|b| b.is_ascii_digit());
            let (from, to) = inside.split_once(',').unwrap_or((inside, ""));
            !from.is_empty() && is_number(from) && is_number(to)
        };
        if c == '{' && !escaped && !counts() {
            out.push('\\');
        }
        out.push(c);
        // The braces of `\p{…}` belong to it.
        escaped = c == '\\' && !escaped || escaped && matches!(c, 'p' | 'P' | 'u' | 'x');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, takes: &[&str], refuses: &[&str]) {
        let p = Pattern::new(pattern).unwrap();
        for text in takes {
            assert!(p.is_match(text) && p.captures(text).is_some(), "{pattern} takes {text}");
        }
        for text in refuses {
            assert!(!p.is_match(text) && p.captures(text).is_none(), "{pattern} refuses {text}");
        }
    }

    #[test]
    fn patterns_are_read_as_in_javascript() {
        check("/a.c/i", &["xABCx"], &["ac"]);
        check("a|b", &["a", "b"], &["ab", "xa"]);
        check(r"/\/dev\/sd[a-z]{1,2}$/", &["/dev/sda"], &["/dev/nvme"]);
        check(r#"/{instance="(.*)"}/"#, &[r#"up{instance="a"}"#], &["up"]);
        assert!(Pattern::new("/(/").is_err());
    }

    #[test]
    fn all_but_is_a_second_expression() {
        check("/^(?!lo|veth).*$/", &["eth0", "xlo"], &["lo", "veth1"]);
        check("^(?!.*test).+", &["prod"], &["my-test", ""]);
        check("(?!grafanacloud-usage|b).+", &["promontory"], &["grafanacloud-usage-x", "b"]);
        check("/^((?!tmp(fs)?).)*$/", &["ext4"], &["a tmpfs"]);
        let p = Pattern::new("/^(?!no)(.*)-(.*)$/").unwrap();
        assert_eq!(p.captures("a-b").unwrap().get(2).unwrap().as_str(), "b");
        assert_eq!((p.replace("a-b", "$2"), p.replace("no-b", "$2")), ("b".into(), "no-b".into()));
        assert_eq!(p.captures_len(), 3);
    }
}
