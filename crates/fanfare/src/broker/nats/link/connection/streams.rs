//! The streams that keep logs are looked for, made where they are missing, and looked after.

use std::time::{Duration, Instant};

use fanfare_proto::nats::{Message, write_message};
use serde_json::{Value, json};

use super::super::super::api;
use super::super::super::stream::Found;
use super::asked::Asked;
use super::{Connection, Stage};

/// How often it is looked whether they are still what they were.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is asked about a stream, by its place among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Which one has its subjects.
    Names(usize),
    /// How it stands. So much of it had been seen.
    Info(usize, u64),
    /// It is made.
    Create(usize),
    /// It is changed.
    Update(usize),
    /// It is thrown away, to be made again.
    Delete(usize),
}

impl Connection<'_> {
    /// Looks for a stream, or goes on if there are no more.
    pub(super) fn prepare(&mut self, place: usize) {
        match self.server.streams.get(place).filter(|_| self.role.is_live()) {
            Some(stream) => {
                let subject = self.server.subjects.kept(stream.class, "x");
                self.ask_own(Question::Names(place), "$JS.API.STREAM.NAMES", &json!({ "subject": subject }));
            }
            None => self.begin_to_attach(),
        }
    }

    /// Looks whether they are still what they were.
    pub(super) fn look_after_streams(&mut self, now: Instant) {
        if now < self.next_look || !self.role.is_live() {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        for (place, stream) in self.server.streams.iter().enumerate() {
            if let Some(known) = stream.known() {
                self.ask_info(place, &known.name, stream.seen());
            }
        }
    }

    fn ask_info(&mut self, place: usize, name: &str, seen: u64) {
        self.ask_own(Question::Info(place, seen), &format!("$JS.API.STREAM.INFO.{name}"), &json!({}));
    }

    fn ask_own(&mut self, question: Question, subject: &str, body: &Value) {
        let number = self.server.number();
        let reply = self.server.subjects.answer(self.letter(), number);
        write_message(subject, Some(&reply), &[], body.to_string().as_bytes(), &mut self.buffered.out);
        self.remember(number, Asked::Own(question));
    }

    /// What was asked about a stream is answered.
    pub(super) fn told(&mut self, question: Question, message: &Message<'_>) -> Result<(), String> {
        let server = self.server;
        let answer = match (api::answer(message), question) {
            (Ok(answer), _) => answer,
            // Another node was faster.
            (Err(refusal), Question::Create(place)) if refusal.code == api::OVERLAP => {
                self.prepare(place);
                return Ok(());
            }
            (Err(refusal), Question::Info(place, _)) if self.was_up() => {
                let class = server.streams[place].class;
                let what = if class == 0 { "of registers" } else { "of topics" };
                return Err(format!("the stream {what} (class {class}) is not there: {}", refusal.text));
            }
            // It is gone already.
            (Err(_), Question::Delete(place)) => {
                self.prepare(place);
                return Ok(());
            }
            (Err(refusal), _) => return Err(refusal.text),
        };
        match question {
            Question::Names(place) => match answer["streams"][0].as_str() {
                Some(name) => self.ask_info(place, name, server.streams[place].seen()),
                None => self.create(place),
            },
            Question::Create(place) | Question::Update(place) => self.is_ready(place, &answer),
            Question::Delete(place) => self.create(place),
            Question::Info(place, seen) => match server.streams[place].look_at(&server.subjects, &answer, seen)? {
                Found::Good => self.is_ready(place, &answer),
                Found::Short(_) | Found::Lost if self.was_up() => {
                    return Err("a stream has lost messages that it had kept: it is made again".to_owned());
                }
                Found::Short(config) => {
                    let name = config["name"].as_str().unwrap_or_default();
                    self.ask_own(Question::Update(place), &format!("$JS.API.STREAM.UPDATE.{name}"), &config);
                }
                Found::Lost => {
                    let name = answer["config"]["name"].as_str().unwrap_or_default();
                    tracing::warn!(stream = name, "the broker has lost messages that it had kept; topics begin again");
                    self.ask_own(Question::Delete(place), &format!("$JS.API.STREAM.DELETE.{name}"), &json!({}));
                }
            },
        }
        Ok(())
    }

    fn create(&mut self, place: usize) {
        let server = self.server;
        let stream = &server.streams[place];
        let name = server.subjects.stream(stream.class, server.draw());
        let config = stream.config(&server.subjects, &name);
        self.ask_own(Question::Create(place), &format!("$JS.API.STREAM.CREATE.{name}"), &config);
    }

    fn is_ready(&mut self, place: usize, answer: &Value) {
        let stream = &self.server.streams[place];
        if let Some(name) = answer["config"]["name"].as_str() {
            stream.set_known(name);
        }
        stream.saw(answer["state"]["last_seq"].as_u64().unwrap_or_default());
        if let Stage::Preparing { .. } = self.stage {
            self.prepare(place + 1);
        }
    }
}
