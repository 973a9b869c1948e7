//! Notes of readers: moments and stretches of time with a text, for one dashboard or for all.

use std::path::PathBuf;

use promontory_storage::vfs::{read, replace};
use serde_json::{Value, json};

use crate::dashboard::json::{integer, list, string, strings};

use super::{SaveError, Store};

/// Notes that are kept.
const NOTES_MAX: usize = 10_000;
/// Characters of one text.
const TEXT_CHARS_MAX: usize = 4_000;
const TAGS_MAX: usize = 50;

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Note {
    pub(crate) id: i64,
    /// Empty for a note that belongs to no dashboard.
    pub(crate) dashboard: String,
    /// 0 for the whole dashboard.
    pub(crate) panel: i64,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) text: String,
    pub(crate) tags: Vec<String>,
}

/// Which notes are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct NoteFilter {
    pub(crate) dashboard: Option<String>,
    pub(crate) panel: Option<i64>,
    pub(crate) window: Option<(i64, i64)>,
    pub(crate) tags: Vec<String>,
}

impl NoteFilter {
    fn takes(&self, note: &Note) -> bool {
        self.dashboard.as_ref().is_none_or(|d| note.dashboard == *d)
            && self.panel.is_none_or(|p| note.panel == p)
            && self.window.is_none_or(|(from, to)| note.to_ms >= from && note.from_ms <= to)
            && self.tags.iter().all(|t| note.tags.contains(t))
    }
}

impl Note {
    fn of(value: &Value) -> Self {
        let from_ms = integer(value, "time").unwrap_or(0);
        Self {
            id: integer(value, "id").unwrap_or(0),
            dashboard: string(value, "dashboardUID"),
            panel: integer(value, "panelId").unwrap_or(0),
            from_ms,
            to_ms: integer(value, "timeEnd").unwrap_or(from_ms).max(from_ms),
            text: string(value, "text"),
            tags: strings(value, "tags"),
        }
    }

    /// As Grafana's API writes it.
    pub(crate) fn json(&self) -> Value {
        json!({
            "id": self.id, "dashboardUID": self.dashboard, "panelId": self.panel, "time": self.from_ms,
            "timeEnd": self.to_ms, "text": self.text, "tags": self.tags,
        })
    }

    /// Takes over the members that `value` has.
    fn change(&mut self, value: &Value) {
        let has = |name: &str| value.get(name).is_some_and(|v| !v.is_null());
        let new = Self::of(value);
        if has("time") {
            self.from_ms = new.from_ms;
        }
        if has("timeEnd") {
            self.to_ms = new.to_ms;
        }
        self.to_ms = self.to_ms.max(self.from_ms);
        if has("text") {
            self.text = new.text;
        }
        if has("tags") {
            self.tags = new.tags;
        }
    }
}

impl Store {
    fn notes_file(&self) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(".annotations.json"))
    }

    /// The notes that `filter` takes, the oldest first.
    pub(crate) fn notes(&self, filter: &NoteFilter) -> Vec<Note> {
        let Some(file) = self.notes_file() else { return Vec::new() };
        let Ok(bytes) = read(&*self.vfs, &file) else { return Vec::new() };
        let root: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let mut out: Vec<Note> = list(&root, "notes").iter().map(Note::of).filter(|n| filter.takes(n)).collect();
        out.sort_by_key(|n| (n.from_ms, n.id));
        out
    }

    fn write_notes(&self, notes: &[Note], last_id: i64) -> Result<(), SaveError> {
        self.root()?;
        let Some(file) = self.notes_file() else { return Err(SaveError::NoFolder) };
        let all: Vec<Value> = notes.iter().map(Note::json).collect();
        let text = json!({"last_id": last_id, "notes": all}).to_string();
        Ok(replace(&*self.vfs, &file, text.as_bytes())?)
    }

    fn last_id(&self, notes: &[Note]) -> i64 {
        let root = self.notes_file().and_then(|f| read(&*self.vfs, &f).ok());
        let root: Value = root.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or(Value::Null);
        integer(&root, "last_id").unwrap_or(0).max(notes.iter().map(|n| n.id).max().unwrap_or(0))
    }

    /// Adds a note as Grafana's API gives it; without a time it is one of `now_ms`.
    ///
    /// # Errors
    /// [`SaveError`].
    pub(crate) fn add_note(&self, value: &Value, now_ms: i64) -> Result<Note, SaveError> {
        self.root()?;
        let _one = self.lock();
        let mut notes = self.notes(&NoteFilter::default());
        if notes.len() >= NOTES_MAX {
            return Err(SaveError::Refused(format!("there are {NOTES_MAX} annotations, as many as are kept")));
        }
        let mut note = Note::of(value);
        if note.from_ms == 0 {
            note.from_ms = now_ms;
            note.to_ms = note.to_ms.max(now_ms);
        }
        check(&note)?;
        note.id = self.last_id(&notes) + 1;
        notes.push(note.clone());
        self.write_notes(&notes, note.id)?;
        Ok(note)
    }

    /// Changes a note.
    ///
    /// # Errors
    /// [`SaveError`].
    pub(crate) fn change_note(&self, id: i64, value: &Value) -> Result<(), SaveError> {
        self.root()?;
        let _one = self.lock();
        let mut notes = self.notes(&NoteFilter::default());
        let note = notes.iter_mut().find(|n| n.id == id).ok_or(SaveError::Missing("Annotation"))?;
        note.change(value);
        check(note)?;
        let last = self.last_id(&notes);
        self.write_notes(&notes, last)
    }

    /// Removes a note.
    ///
    /// # Errors
    /// [`SaveError`].
    pub(crate) fn delete_note(&self, id: i64) -> Result<(), SaveError> {
        self.root()?;
        let _one = self.lock();
        let mut notes = self.notes(&NoteFilter::default());
        let (n, last) = (notes.len(), self.last_id(&notes));
        notes.retain(|note| note.id != id);
        if notes.len() == n {
            return Err(SaveError::Missing("Annotation"));
        }
        self.write_notes(&notes, last)
    }
}

fn check(note: &Note) -> Result<(), SaveError> {
    if note.text.trim().is_empty() {
        return Err(SaveError::Refused("an annotation needs a text".to_owned()));
    }
    if note.text.chars().count() > TEXT_CHARS_MAX || note.tags.len() > TAGS_MAX {
        return Err(SaveError::Refused(format!(
            "an annotation has at most {TEXT_CHARS_MAX} characters and {TAGS_MAX} tags"
        )));
    }
    Ok(())
}
