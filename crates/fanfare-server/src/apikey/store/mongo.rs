//! Keys in MongoDB: a document for each, whose `_id` is the key itself, as the original bridge has them, or its hash.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use tokio::sync::Mutex;

use super::{Answer, KeyStore, New, Unavailable};
use crate::apikey::{Key, Record, now};
use crate::config::keys::Keys as Settings;

/// Where the original bridge looks.
pub(crate) const URL_DEFAULT: &str = "mongodb://127.0.0.1:27017";

/// Taken to find the server, and for one query.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a user and password that were refused are not tried again. The driver's client is thrown away with them: it
/// goes on trying by itself, and whoever asks it meanwhile waits in vain.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// What stands before a hash, so that it is not taken for a key.
const HASHED: &str = "sha256:";

/// A client, made when it is first wanted: its address may be a name that cannot be resolved now.
pub(super) struct Mongo {
    url: String,
    database: String,
    collection: String,
    pool_size: u32,
    opened: Mutex<Opened>,
}

enum Opened {
    No,
    Yes(Collection<Document>),
    /// The user and password were refused then.
    Refused(Instant, Unavailable),
}

impl Mongo {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Mongo {
            url: settings.url.as_ref().map_or(URL_DEFAULT, |url| url.expose()).to_owned(),
            database: settings.database.clone(),
            collection: settings.collection.clone(),
            pool_size: settings.pool_size.0 as u32,
            opened: Mutex::new(Opened::No),
        })
    }

    async fn collection(&self) -> Result<Collection<Document>, Unavailable> {
        let mut opened = self.opened.lock().await;
        match &*opened {
            Opened::Yes(collection) => return Ok(collection.clone()),
            Opened::Refused(at, why) if at.elapsed() < REFUSED_FOR => return Err(why.clone()),
            Opened::Refused(..) | Opened::No => {}
        }
        let open = async || {
            let mut options = ClientOptions::parse(&self.url).await?;
            options.app_name = Some("fanfare".into());
            options.max_pool_size = Some(self.pool_size);
            options.server_selection_timeout = Some(TIMEOUT);
            options.connect_timeout = Some(TIMEOUT);
            Ok(Client::with_options(options)?.database(&self.database).collection(&self.collection))
        };
        let collection: Collection<Document> = open().await.map_err(|error: mongodb::error::Error| failed(&error))?;
        *opened = Opened::Yes(collection.clone());
        Ok(collection)
    }

    async fn ask<T>(
        &self,
        run: impl AsyncFnOnce(&Collection<Document>) -> mongodb::error::Result<T>,
    ) -> Result<T, Unavailable> {
        let collection = self.collection().await?;
        match tokio::time::timeout(2 * TIMEOUT, run(&collection)).await {
            Ok(Err(error)) => {
                if matches!(&*error.kind, ErrorKind::Authentication { .. }) {
                    *self.opened.lock().await = Opened::Refused(Instant::now(), failed(&error));
                }
                Err(failed(&error))
            }
            Ok(Ok(answer)) => Ok(answer),
            Err(_) => Err(Unavailable(format!("MongoDB did not answer within {:?}", 2 * TIMEOUT))),
        }
    }

    /// The documents that match, as records.
    async fn records(&self, filter: Document) -> Result<Vec<Record>, Unavailable> {
        self.ask(async |keys| {
            let mut cursor = keys.find(filter).await?;
            let mut records = Vec::new();
            while cursor.advance().await? {
                let document: Document = cursor.deserialize_current()?;
                records.extend(record(&document));
            }
            Ok(records)
        })
        .await
    }

    async fn update(&self, handle: &str, update: Document) -> Result<bool, Unavailable> {
        let result = self.ask(async |keys| keys.update_one(doc! { "_id": handle }, update).await).await?;
        Ok(result.matched_count > 0)
    }
}

/// Only what kind of error it is: its text may quote the query, or the address.
fn failed(error: &mongodb::error::Error) -> Unavailable {
    let what = match &*error.kind {
        ErrorKind::Authentication { .. } => "it does not accept the user and password of the address",
        ErrorKind::ServerSelection { .. } => "it cannot be reached",
        ErrorKind::InvalidArgument { .. } | ErrorKind::DnsResolve { .. } => "its address cannot be used",
        ErrorKind::Io(_) => "the connection broke",
        _ => "it refused the query",
    };
    Unavailable(format!("MongoDB: {what}"))
}

/// `None` where the `_id` is no text: that is no key.
fn record(document: &Document) -> Option<Record> {
    let id = document.get_str("_id").ok()?;
    let text = |name| document.get_str(name).ok().map(str::to_owned);
    let name = text("name").or_else(|| Some(Key::presented(id)?.name()))?;
    let is_active = !matches!(document.get("active"), Some(Bson::Boolean(false)));
    let until = document.get_i64("until").ok();
    Some(Record { handle: id.to_owned(), name, domain: text("domain"), username: text("username"), is_active, until })
}

fn hashed(key: &Key) -> String {
    format!("{HASHED}{}", key.hash())
}

impl KeyStore for Mongo {
    fn find<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            // A text in a document of our own making: nothing of a key can become an operator. A hash is no key.
            let mut ids = vec![hashed(key)];
            if !key.expose().starts_with(HASHED) {
                ids.push(key.expose().to_owned());
            }
            Ok(self.records(doc! { "_id": { "$in": ids } }).await?.pop())
        })
    }

    fn active<'a>(&'a self, handles: &'a [String]) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let records = self.records(doc! { "_id": { "$in": handles.to_vec() } }).await?;
            Ok(records.into_iter().filter(Record::works).map(|record| record.handle).collect())
        })
    }

    fn list(&self) -> Answer<'_, Vec<Record>> {
        Box::pin(self.records(doc! {}))
    }

    fn add<'a>(&'a self, new: &'a New) -> Answer<'a, Result<(), String>> {
        Box::pin(async move {
            let mut document = doc! { "_id": hashed(&new.key), "name": new.key.name(), "active": new.is_active };
            for (name, value) in [("domain", &new.domain), ("username", &new.username)] {
                if let Some(value) = value {
                    document.insert(name, value);
                }
            }
            self.ask(async |keys| keys.insert_one(document).await).await?;
            Ok(Ok(()))
        })
    }

    fn set_active<'a>(&'a self, handle: &'a str, is_active: bool) -> Answer<'a, bool> {
        Box::pin(self.update(handle, doc! { "$set": { "active": is_active } }))
    }

    /// An `_id` cannot be changed: the new document comes before the old one goes.
    fn rotate<'a>(&'a self, handle: &'a str, key: &'a Key, until: Option<i64>) -> Answer<'a, bool> {
        Box::pin(async move {
            self.ask(async |keys| keys.delete_many(doc! { "until": { "$lte": now() } }).await).await?;
            let found = self.ask(async |keys| keys.find_one(doc! { "_id": handle }).await).await?;
            let Some(mut document) = found else { return Ok(false) };
            document.insert("_id", hashed(key));
            document.insert("name", key.name());
            self.ask(async |keys| keys.insert_one(document).await).await?;
            match until {
                Some(until) => self.update(handle, doc! { "$set": { "until": until } }).await,
                None => self.ask(async |keys| keys.delete_one(doc! { "_id": handle }).await).await.map(|_| true),
            }
        })
    }

    fn server(&self) -> Answer<'_, String> {
        Box::pin(async {
            let info = self
                .ask(async |keys| keys.client().database(&self.database).run_command(doc! { "buildInfo": 1 }).await);
            Ok(format!("MongoDB {}", info.await?.get_str("version").unwrap_or_default()))
        })
    }

    fn migrate(&self) -> Answer<'_, String> {
        Box::pin(async {
            self.ask(async |keys| keys.find_one(doc! {}).await).await?;
            Ok(format!(
                "{}.{} needs nothing: MongoDB makes a collection with its first key",
                self.database, self.collection
            ))
        })
    }
}
