//! A session store that does as it is told: it works, fails, hangs or loses what it had, and notes
//! every call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result};
use tower_sessions::{ExpiredDeletion, SessionStore};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    Down,
    /// Never answers.
    Hanging,
    /// As a client may at an answer that was damaged on the way.
    Panicking,
    /// Reads and doesn't write: full, or a replica.
    ReadOnly,
    /// Writes and doesn't read: its replicas are gone.
    WriteOnly,
    /// Answers in its own time, in milliseconds.
    Slow(u64),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Scripted(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    mood: Mood,
    records: HashMap<Id, Record>,
    calls: Vec<&'static str>,
    deletions: u32,
    upserts: bool,
}

impl Scripted {
    pub(crate) fn is(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    /// From now on, a save creates the record that isn't there, as with SQL stores.
    pub(crate) fn upserts(&self) {
        self.0.lock().unwrap().upserts = true;
    }

    pub(crate) fn forget_everything(&self) {
        self.0.lock().unwrap().records.clear();
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap().records.values().cloned().collect()
    }

    pub(crate) fn put(&self, record: Record) {
        self.0.lock().unwrap().records.insert(record.id, record);
    }

    /// The calls since the last time that somebody asked.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    /// How often expired records were to be deleted.
    pub(crate) fn deletions(&self) -> u32 {
        self.0.lock().unwrap().deletions
    }

    async fn call(&self, name: &'static str, writes: bool) -> Result<()> {
        let mood = {
            let mut state = self.0.lock().unwrap();
            state.calls.push(name);
            state.mood
        };
        match mood {
            Mood::Well => Ok(()),
            Mood::ReadOnly if !writes => Ok(()),
            Mood::WriteOnly if writes => Ok(()),
            Mood::Down | Mood::ReadOnly | Mood::WriteOnly => {
                Err(Error::Backend(format!("no: {:?}", self.records())))
            }
            Mood::Hanging => std::future::pending().await,
            Mood::Panicking => panic!("it is as the script says"),
            Mood::Slow(millis) => {
                tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl SessionStore for Scripted {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.call("create", true).await?;
        let mut state = self.0.lock().unwrap();
        while state.records.contains_key(&record.id) {
            record.id = Id::default();
        }
        state.records.insert(record.id, record.clone());
        Ok(())
    }

    /// As with Redis: nothing happens to a record that isn't there, unless it is to be created.
    async fn save(&self, record: &Record) -> Result<()> {
        self.call("save", true).await?;
        let mut state = self.0.lock().unwrap();
        if state.upserts || state.records.contains_key(&record.id) {
            state.records.insert(record.id, record.clone());
        }
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.call("load", false).await?;
        Ok(self.0.lock().unwrap().records.get(id).cloned())
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.call("delete", true).await?;
        self.0.lock().unwrap().records.remove(id);
        Ok(())
    }
}

#[async_trait]
impl ExpiredDeletion for Scripted {
    async fn delete_expired(&self) -> Result<()> {
        self.call("delete_expired", true).await?;
        self.0.lock().unwrap().deletions += 1;
        Ok(())
    }
}
