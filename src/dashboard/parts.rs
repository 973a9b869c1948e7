//! What the parts of one page share: its variables and its events.
//!
//! A refresh asks for every panel by itself, and each needs the variables of the whole page. A page that is asked for
//! as a whole finds them anew; its parts take what was found a moment ago for the same dashboard, window and choices.
//! Where nothing was found yet one asks and the others wait, without a thread of their own; when that one leaves
//! before it has an answer, the next asks. An answer that was cut short stays with who asked.

use std::sync::{Arc, Mutex, PoisonError};

use promontory_model::Cancel;
use tokio::sync::OnceCell;

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

/// The events of a page.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) all: Vec<Event>,
    /// What failed, in words.
    pub(crate) failed: Vec<String>,
}

/// How much of a page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// One panel of a page that was asked for before; what it takes may be a moment old.
    Part,
}

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
    /// The events, once a panel has asked for them.
    events: Arc<OnceCell<Arc<Events>>>,
    at_ns: u64,
}

impl Found {
    fn is_fresh(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.at_ns) < FRESH_NS
    }

    /// The events that `ask` gives, or has given to another part of the page.
    ///
    /// # Errors
    /// That of `ask`.
    pub(crate) async fn events<E>(
        &self,
        cancel: &Cancel,
        ask: impl Future<Output = Result<Events, E>>,
    ) -> Result<Arc<Events>, E> {
        shared(&self.events, async {
            let events = Arc::new(ask.await?);
            Ok((events, cancel.check().is_ok()))
        })
        .await
    }

    /// What of the events failed, as far as they were asked for.
    pub(crate) fn failed_events(&self) -> Vec<String> {
        self.events.get().map(|e| e.failed.clone()).unwrap_or_default()
    }
}

/// What the cell holds, or what `ask` gives; with it `ask` says whether it is for all.
async fn shared<T: Clone, E>(cell: &OnceCell<T>, ask: impl Future<Output = Result<(T, bool), E>>) -> Result<T, E> {
    let answer = cell.get_or_try_init(|| async {
        match ask.await {
            Ok((value, true)) => Ok(value),
            Ok((value, false)) => Err(Ok(value)),
            Err(e) => Err(Err(e)),
        }
    });
    match answer.await {
        Ok(value) => Ok(value.clone()),
        Err(own) => own,
    }
}

#[derive(Debug)]
struct Page {
    dashboard: Arc<Dashboard>,
    key: Key,
    found: Arc<OnceCell<Found>>,
}

/// The pages that were asked for last; the newest at the end.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<Vec<Page>>);

impl Pages {
    /// What `resolve` finds now, or for a part of a page what was found a moment ago.
    ///
    /// # Errors
    /// That of `resolve`.
    pub(crate) async fn found<E>(
        &self,
        extent: Extent,
        (dashboard, key): (&Arc<Dashboard>, Key),
        now_ns: u64,
        cancel: &Cancel,
        resolve: impl Future<Output = Result<Variables, E>>,
    ) -> Result<Found, E> {
        let place = self.place(extent, dashboard, key, now_ns);
        shared(&place, async {
            let variables = resolve.await?;
            let n_options: usize = variables.all.iter().map(|v| v.options.len()).sum();
            let found = Found { variables: Arc::new(variables), events: Arc::default(), at_ns: now_ns };
            Ok((found, n_options <= OPTIONS_MAX && cancel.check().is_ok()))
        })
        .await
    }

    /// Where what is found for this page is or will be.
    fn place(&self, extent: Extent, dashboard: &Arc<Dashboard>, key: Key, now_ns: u64) -> Arc<OnceCell<Found>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|p| p.key == key && Arc::ptr_eq(&p.dashboard, dashboard));
        let known = known.map(|i| all.remove(i).found);
        let is_wanted = |p: &Arc<OnceCell<Found>>| p.get().is_none_or(|found| found.is_fresh(now_ns));
        let found = known.filter(|p| extent == Extent::Part && is_wanted(p)).unwrap_or_default();
        all.push(Page { dashboard: dashboard.clone(), key, found: found.clone() });
        if all.len() > PAGES_MAX {
            all.remove(0);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use promontory_model::Cancelled;

    use super::*;
    use crate::dashboard::load::load;
    use Extent::{Part, Whole};

    fn dashboard() -> Arc<Dashboard> {
        Arc::new(load(r#"{"title": "T"}"#, "t").unwrap())
    }

    fn key(choice: &str) -> Key {
        Key::new("now-1h", "now", "UTC", &Params::new(vec![("var-a".to_owned(), choice.to_owned())]))
    }

    /// Asks, and counts in `asked` when there was need to.
    async fn ask(pages: &Pages, extent: Extent, page: (&Arc<Dashboard>, Key), now_ns: u64, asked: &Cell<u32>) -> Found {
        let resolve = async {
            asked.set(asked.get() + 1);
            Ok::<_, Infallible>(Variables::default())
        };
        pages.found(extent, page, now_ns, &Cancel::new(), resolve).await.unwrap()
    }

    #[tokio::test]
    async fn parts_take_what_their_page_found_a_moment_ago() {
        let (pages, d, asked) = (Pages::default(), dashboard(), Cell::new(0));
        ask(&pages, Whole, (&d, key("x")), 0, &asked).await;
        ask(&pages, Part, (&d, key("x")), FRESH_NS - 1, &asked).await;
        assert_eq!(asked.get(), 1);
        // Another choice, another dashboard, a later time, and a whole page are asked for.
        ask(&pages, Part, (&d, key("y")), 0, &asked).await;
        ask(&pages, Part, (&dashboard(), key("x")), 0, &asked).await;
        ask(&pages, Part, (&d, key("x")), FRESH_NS, &asked).await;
        ask(&pages, Whole, (&d, key("x")), FRESH_NS, &asked).await;
        assert_eq!(asked.get(), 5);
    }

    #[tokio::test]
    async fn when_who_asks_leaves_the_next_asks() {
        let (pages, d, asked) = (Pages::default(), dashboard(), Cell::new(0));
        let (never, cancel) = (std::future::pending::<Result<Variables, Infallible>>(), Cancel::new());
        let first = pages.found(Part, (&d, key("x")), 0, &cancel, never);
        let second = ask(&pages, Part, (&d, key("x")), 0, &asked);
        let leaves = async {
            tokio::select! {
                biased;
                _ = first => {}
                () = tokio::task::yield_now() => {}
            }
        };
        tokio::join!(leaves, second);
        assert_eq!(asked.get(), 1);
    }

    #[tokio::test]
    async fn what_was_cut_short_is_asked_for_again() {
        let (pages, d, asked) = (Pages::default(), dashboard(), Cell::new(0));
        let late = Cancel::new();
        late.cancel(Cancelled::Timeout);
        let cut = async { Ok::<_, Infallible>(Variables::default()) };
        let Ok(found) = pages.found(Part, (&d, key("x")), 0, &late, cut).await;
        let cut = async { Ok::<_, Infallible>(Events { failed: vec!["timed out".to_owned()], ..Events::default() }) };
        let Ok(_) = found.events(&late, cut).await;
        assert_eq!(found.failed_events(), Vec::<String>::new());
        ask(&pages, Part, (&d, key("x")), 0, &asked).await;
        assert_eq!(asked.get(), 1);
        // What failed for another reason would fail for the others, too.
        for reason in ["no metric", "never asked"] {
            let events = async { Ok::<_, Infallible>(Events { failed: vec![reason.to_owned()], ..Events::default() }) };
            let Ok(_) = found.events(&Cancel::new(), events).await;
        }
        assert_eq!(found.failed_events(), ["no metric"]);
    }

    #[tokio::test]
    async fn the_oldest_page_is_forgotten_first() {
        let (pages, d, asked) = (Pages::default(), dashboard(), Cell::new(0));
        for i in 0..=PAGES_MAX {
            ask(&pages, Whole, (&d, key(&i.to_string())), 0, &asked).await;
        }
        asked.set(0);
        for i in [PAGES_MAX, 0] {
            ask(&pages, Part, (&d, key(&i.to_string())), 0, &asked).await;
        }
        assert_eq!(asked.get(), 1);
    }
}
