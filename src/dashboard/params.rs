//! The state of a page as it stands in the address.

use super::interpolate::percent_encode;

/// Parameters that one address may hold.
const PARAMS_MAX: usize = 2_000;

/// Names and values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.truncate(PARAMS_MAX);
        Self(pairs)
    }

    /// The last value of `name`; Grafana reads a repeated parameter so, too.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether `name` is there, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }

    /// The values of a variable, when the address sets it.
    pub(crate) fn variable(&self, name: &str) -> Option<Vec<String>> {
        let values = self.all(&format!("var-{name}"));
        (!values.is_empty()).then_some(values)
    }

    /// These parameters with others in the place of those of the same name.
    pub(crate) fn with(&self, new: &[(&str, &str)]) -> Self {
        let mut out: Vec<_> = self.0.iter().filter(|(n, _)| !new.iter().any(|(m, _)| m == n)).cloned().collect();
        out.extend(new.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        Self(out)
    }

    pub(crate) fn without(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(n, _)| !names.contains(&n.as_str())).cloned().collect())
    }

    /// As the query of an address, with its question mark; empty when there is nothing.
    pub(crate) fn query(&self) -> String {
        let parts: Vec<String> =
            self.0
                .iter()
                .map(|(n, v)| {
                    if v.is_empty() {
                        percent_encode(n)
                    } else {
                        format!("{}={}", percent_encode(n), percent_encode(v))
                    }
                })
                .collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_what_they_do_not_change() {
        let pairs = [("from", "now-1h"), ("var-a", "x y"), ("var-a", "z"), ("kiosk", "")];
        let p = Params::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
        assert_eq!(p.with(&[("from", "now-6h")]).query(), "?var-a=x%20y&var-a=z&kiosk&from=now-6h");
        assert_eq!(p.variable("a").unwrap(), ["x y", "z"]);
        assert_eq!(p.without(&["var-a"]).query(), "?from=now-1h&kiosk");
        assert!(p.has("kiosk") && p.variable("b").is_none());
        assert_eq!(Params::default().query(), "");
    }
}
