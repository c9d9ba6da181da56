//! What a node asks another about a long-poll session that lives there, and the answer.
//!
//! A question has the number of the mount (varint), the token (with its length before it), and what is asked: 0, a poll; 1, a post, with the
//! content type (with its length) and the body to the end. An answer has a status as in the answers of long-polling (u16, little-endian), and
//! the body for the client to the end.

use bytes::Bytes;

use crate::envelope::{Fields, Unread, write_varint};

/// A question about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQuestion<'a> {
    /// The mount on which the request came.
    pub mount: u16,
    /// The session's token, as the client sent it.
    pub token: &'a str,
    /// What the client posts: a content type, which may be empty, and a body. `None` if it polls.
    pub post: Option<(&'a str, Bytes)>,
}

impl<'a> SessionQuestion<'a> {
    /// The question's bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        write_varint(u64::from(self.mount), &mut out);
        write_text(self.token, &mut out);
        out.push(u8::from(self.post.is_some()));
        if let Some((content_type, body)) = &self.post {
            write_text(content_type, &mut out);
            out.extend_from_slice(body);
        }
        out.into()
    }

    /// Reads a question.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn read(bytes: &'a Bytes) -> Result<Self, Unread> {
        let mut fields = Fields::new(bytes);
        let mount = u16::try_from(fields.varint()?).map_err(|_| Unread::Malformed)?;
        let token = fields.text()?;
        let post = match fields.byte()? {
            0 if fields.is_empty() => None,
            0 => return Err(Unread::Malformed),
            1 => Some((fields.text()?, fields.rest())),
            flags => return Err(Unread::Flags(flags)),
        };
        Ok(SessionQuestion { mount, token, post })
    }
}

/// An answer to a question about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionAnswer {
    /// As in the answers of long-polling.
    pub status: u16,
    /// What the client is to get, if it polls and gets something.
    pub body: Bytes,
}

impl SessionAnswer {
    /// The answer's bytes.
    pub fn to_bytes(&self) -> Bytes {
        [&self.status.to_le_bytes()[..], &self.body].concat().into()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn read(bytes: &Bytes) -> Result<Self, Unread> {
        let mut fields = Fields::new(bytes);
        let status = u16::from_le_bytes([fields.byte()?, fields.byte()?]);
        Ok(SessionAnswer { status, body: fields.rest() })
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let posted = Some(("application/json", Bytes::from_static(b"[1]")));
        for post in [None, posted, Some(("", Bytes::new()))] {
            let question = SessionQuestion { mount: 3, token: "a.b", post };
            assert_eq!(SessionQuestion::read(&question.to_bytes()), Ok(question));
        }
        let answer = SessionAnswer { status: 410, body: Bytes::from_static(b"{}") };
        assert_eq!(SessionAnswer::read(&answer.to_bytes()), Ok(answer));
    }

    #[test]
    fn what_makes_no_sense_is_dropped() {
        for bytes in [&b""[..], b"\xff\xff\x7f", b"\x00\x05ab", b"\x00\x00\x00!", b"\x00\x00\x02", b"\x00\x00\x01\x05a"]
        {
            assert!(SessionQuestion::read(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
        assert!(SessionAnswer::read(&Bytes::from_static(b"\x00")).is_err());
    }
}
