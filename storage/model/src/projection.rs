//! Which labels of series are asked for, and the different sets that remain, numbered.

use std::collections::HashMap;

use crate::Labels;

/// Some labels of each series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// Sorted.
    names: Vec<String>,
    is_without: bool,
}

impl Projection {
    /// The labels with these names.
    #[must_use]
    pub fn only(names: impl IntoIterator<Item = String>) -> Self {
        Self::new(names, false)
    }

    /// The labels with other names.
    #[must_use]
    pub fn without(names: impl IntoIterator<Item = String>) -> Self {
        Self::new(names, true)
    }

    fn new(names: impl IntoIterator<Item = String>, is_without: bool) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        Self { names, is_without }
    }

    /// Whether no label remains of any series.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.is_without && self.names.is_empty()
    }

    /// Whether a label with this name remains.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        self.names.binary_search_by(|n| n.as_str().cmp(name)).is_ok() != self.is_without
    }

    /// What remains of `labels`.
    #[must_use]
    pub fn of(&self, labels: &Labels) -> Labels {
        labels.filtered(|name| self.keeps(name))
    }
}

/// Different label sets, numbered from 0 in the order in which they were met.
#[derive(Debug, Default)]
pub struct LabelGroups {
    numbers: HashMap<Labels, u32>,
    sets: Vec<Labels>,
}

impl LabelGroups {
    /// The number of a set, new or old.
    pub fn number(&mut self, labels: Labels) -> u32 {
        if let Some(number) = self.numbers.get(&labels) {
            return *number;
        }
        let number = self.sets.len() as u32;
        self.sets.push(labels.clone());
        self.numbers.insert(labels, number);
        number
    }

    /// All sets by number.
    #[must_use]
    pub fn sets(&self) -> &[Labels] {
        &self.sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projections_keep_or_leave_out_names() {
        let labels = Labels::from_pairs([("a", "1"), ("b", "2"), ("c", "3")]);
        let names = || ["c".to_owned(), "a".to_owned(), "x".to_owned()];
        assert_eq!(Projection::only(names()).of(&labels).to_string(), r#"{a="1", c="3"}"#);
        assert_eq!(Projection::without(names()).of(&labels).to_string(), r#"{b="2"}"#);
        assert!(Projection::only([]).is_nothing() && !Projection::without([]).is_nothing());
    }

    #[test]
    fn equal_sets_have_one_number() {
        let mut groups = LabelGroups::default();
        let set = |v: &str| Labels::from_pairs([("a", v)]);
        let numbers: Vec<u32> = ["x", "y", "x"].into_iter().map(|v| groups.number(set(v))).collect();
        assert_eq!(numbers, [0, 1, 0]);
        assert_eq!(groups.sets(), [set("x"), set("y")]);
    }
}
