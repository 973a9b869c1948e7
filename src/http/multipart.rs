//! Forms of several parts (`multipart/form-data`), as `curl -F` and some libraries send them.
//!
//! Files that are sent along are left out, and so is what cannot be understood.
//!
//! # Source
//! RFC 7578.

use memchr::memmem;

/// Bytes of what separates parts.
const BOUNDARY_BYTES_MAX: usize = 70;

/// What separates the parts of a body of this type; `None` if it is another type.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()).then_some(boundary)
}

/// Names and values of a body.
pub(super) fn pairs(body: &[u8], boundary: &str) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let delimiter = format!("\r\n--{boundary}");
    let mut out = Vec::new();
    // The first delimiter has no line before it.
    let Some(mut rest) = body.strip_prefix(&delimiter.as_bytes()[2..]) else { return out };
    while let Some(part) = rest.strip_prefix(b"\r\n")
        && let Some(end) = memmem::find(part, delimiter.as_bytes())
    {
        rest = &part[end + delimiter.len()..];
        let Some(head) = memmem::find(&part[..end], b"\r\n\r\n") else { continue };
        let value = &part[head + 4..end];
        let lines = text(&part[..head]);
        let is_wanted = |line: &&str| line.get(..20).is_some_and(|n| n.eq_ignore_ascii_case("content-disposition:"));
        let Some(disposition) = lines.split("\r\n").find(is_wanted) else { continue };
        if let Some(name) = parameter(disposition, "name")
            && parameter(disposition, "filename").is_none()
        {
            out.push((name.to_owned(), text(value)));
        }
    }
    out
}

/// The value of a parameter in `a; name="value"; other=x`.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let values = text.split(';').filter_map(|part| part.trim().split_once('='));
    let (_, value) = values.into_iter().find(|(n, _)| n.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_type_names_what_separates_parts() {
        assert_eq!(boundary("multipart/form-data; boundary=X"), Some("X"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), Some("a b"));
        for other in ["", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=X"] {
            assert_eq!(boundary(other), None, "{other}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))), None);
    }

    #[track_caller]
    fn check(body: &str, expected: &[(&str, &str)]) {
        let got = pairs(body.as_bytes(), "X");
        let got: Vec<_> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(got, expected, "{body:?}");
    }

    #[test]
    fn parts_are_pairs_of_name_and_value() {
        const HEAD: &str = "Content-Disposition: form-data; name=";
        check(
            &format!(
                "--X\r\n{HEAD}\"query\"\r\n\r\nup{{a=\"1\"}}\r\n\r\n--X\r\ncontent-type: a/b\r\n{HEAD}b\r\n\r\n\r\n--X--\r\n"
            ),
            &[("query", "up{a=\"1\"}\r\n"), ("b", "")],
        );
        check(
            &format!("--X\r\n{HEAD}\"f\"; filename=\"g\"\r\n\r\nx\r\n--X\r\n{HEAD}\"a\"\r\n\r\n1\r\n--X--"),
            &[("a", "1")],
        );
        for damaged in ["", "--X--", "--X\r\n", "--X\r\nx", &format!("--X\r\n{HEAD}a\r\n\r\n1"), "--X\r\n\r\n\r\n--X--"]
        {
            check(damaged, &[]);
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in "(--X|\r\n|name=|;|\"|Content-Disposition: |a){0,20}") {
            pairs(body.as_bytes(), "X");
        }
    }
}
