//! What the parts of one page share: its variables and its events.
//!
//! A refresh asks for every panel by itself, and each needs the variables of the whole page. A page that is asked for
//! as a whole finds them anew; its parts take what was found a moment ago for the same dashboard, window and choices.
//! What failed is never kept.

use std::sync::{Arc, Mutex, PoisonError};

use super::annotations::Event;
use super::model::Dashboard;
use super::params::Params;
use super::variables::Variables;

/// How long parts take what was found, ns: as long as all panels of a large page take to be fetched.
const FRESH_NS: u64 = 5_000_000_000;
/// Pages that are remembered.
const PAGES_MAX: usize = 32;
/// Options of all variables of a page that is remembered.
const OPTIONS_MAX: usize = 20_000;

/// The events of a page, and what of them failed.
pub(crate) type Events = (Vec<Event>, Vec<String>);

/// What tells one page from another, as its parts tell it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// From, to, and the zone in which they are read.
    window: [String; 3],
    /// Choices of variables and annotations.
    params: Vec<(String, String)>,
}

impl Key {
    pub(crate) fn new(from: &str, to: &str, zone: &str, params: &Params) -> Self {
        let is_choice = |name: &str| name.starts_with("var-") || name.starts_with("annotation.");
        let params = params.pairs().iter().filter(|(n, _)| is_choice(n)).cloned().collect();
        Self { window: [from, to, zone].map(str::to_owned), params }
    }
}

/// What was found for a page.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) variables: Arc<Variables>,
    /// The events, once a panel has asked for them. Held while they are asked for, so that one does and others wait.
    events: Arc<Mutex<Option<Arc<Events>>>>,
    at_ns: u64,
}

impl Found {
    fn new(variables: Variables, at_ns: u64) -> Self {
        Self { variables: Arc::new(variables), events: Arc::default(), at_ns }
    }

    fn is_fresh(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.at_ns) < FRESH_NS
    }

    /// The events that `ask` gives, or has given to another part of the page.
    pub(crate) fn events(&self, ask: impl FnOnce() -> Events) -> Arc<Events> {
        let mut kept = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = &*kept {
            return events.clone();
        }
        let events = Arc::new(ask());
        *kept = events.1.is_empty().then(|| events.clone());
        events
    }
}

/// One page. The lock is held while its variables are asked for, so that one part does and the others wait.
#[derive(Debug)]
struct Page {
    dashboard: Arc<Dashboard>,
    key: Key,
    found: Mutex<Option<Found>>,
}

/// The pages that were asked for last; the newest at the end.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<Vec<Arc<Page>>>);

impl Pages {
    fn page(&self, dashboard: &Arc<Dashboard>, key: Key) -> Arc<Page> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|p| p.key == key && Arc::ptr_eq(&p.dashboard, dashboard));
        let page = match known {
            Some(i) => all.remove(i),
            None => Arc::new(Page { dashboard: dashboard.clone(), key, found: Mutex::new(None) }),
        };
        all.push(page.clone());
        if all.len() > PAGES_MAX {
            all.remove(0);
        }
        page
    }

    /// What `resolve` finds now, for a whole page.
    pub(crate) fn whole(
        &self,
        dashboard: &Arc<Dashboard>,
        key: Key,
        now_ns: u64,
        resolve: impl FnOnce() -> Variables,
    ) -> Found {
        let found = Found::new(resolve(), now_ns);
        let kept = may_be_kept(&found.variables).then(|| found.clone());
        *self.page(dashboard, key).found.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        found
    }

    /// What was found a moment ago, or what `resolve` finds, for a part of a page.
    pub(crate) fn part(
        &self,
        dashboard: &Arc<Dashboard>,
        key: Key,
        now_ns: u64,
        resolve: impl FnOnce() -> Variables,
    ) -> Found {
        let page = self.page(dashboard, key);
        let mut kept = page.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.as_ref().filter(|f| f.is_fresh(now_ns)) {
            return found.clone();
        }
        let found = Found::new(resolve(), now_ns);
        *kept = may_be_kept(&found.variables).then(|| found.clone());
        found
    }
}

fn may_be_kept(variables: &Variables) -> bool {
    let options: usize = variables.all.iter().map(|v| v.options.len()).sum();
    options <= OPTIONS_MAX && variables.all.iter().all(|v| v.error.is_none())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::dashboard::load::load;
    use crate::dashboard::variables::Variable;

    fn dashboard() -> Arc<Dashboard> {
        Arc::new(load(r#"{"title": "T"}"#, "t").unwrap())
    }

    fn key(choice: &str) -> Key {
        Key::new("now-1h", "now", "UTC", &Params::new(vec![("var-a".to_owned(), choice.to_owned())]))
    }

    #[test]
    fn parts_take_what_their_page_found_a_moment_ago() {
        let (pages, d, asked) = (Pages::default(), dashboard(), Cell::new(0));
        let resolve = || {
            asked.set(asked.get() + 1);
            Variables::default()
        };
        pages.whole(&d, key("x"), 0, resolve);
        pages.part(&d, key("x"), FRESH_NS - 1, resolve);
        assert_eq!(asked.get(), 1);
        // Another choice, another dashboard, a later time, and a whole page are asked for.
        pages.part(&d, key("y"), 0, resolve);
        pages.part(&dashboard(), key("x"), 0, resolve);
        pages.part(&d, key("x"), FRESH_NS, resolve);
        pages.whole(&d, key("x"), FRESH_NS, resolve);
        assert_eq!(asked.get(), 5);
    }

    #[test]
    fn what_failed_is_asked_for_again() {
        let (pages, d) = (Pages::default(), dashboard());
        let failed = || Variables { all: vec![Variable { error: Some("no".to_owned()), ..Variable::default() }] };
        pages.part(&d, key("x"), 0, failed);
        let found = pages.part(&d, key("x"), 0, Variables::default);
        assert!(found.variables.all.is_empty());
        found.events(|| (Vec::new(), vec!["no".to_owned()]));
        let asked = Cell::new(0);
        for _ in 0..2 {
            found.events(|| {
                asked.set(asked.get() + 1);
                (Vec::new(), Vec::new())
            });
        }
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn the_oldest_page_is_forgotten_first() {
        let (pages, d) = (Pages::default(), dashboard());
        for i in 0..=PAGES_MAX {
            pages.whole(&d, key(&i.to_string()), 0, Variables::default);
        }
        let asked = Cell::new(0);
        for i in [PAGES_MAX, 0] {
            pages.part(&d, key(&i.to_string()), 0, || {
                asked.set(asked.get() + 1);
                Variables::default()
            });
        }
        assert_eq!(asked.get(), 1);
    }
}
