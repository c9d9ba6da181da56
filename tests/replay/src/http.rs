//! As much of HTTP/1.1 as a client of the transcripts needs: one request a connection, and its response.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The most that is read of one response body, in bytes.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// How long a read or a write may take before the server counts as stuck. Long-polls last 10 s.
const IO_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that refuses a long body may stop reading it: then what matters is its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The values of a header, joined with `, ` where it came several times.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let same = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let values: Vec<&str> = same.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to the server on this machine that gives up on one that is stuck.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

/// Sends a request on a fresh connection to `port` and reads the response.
pub(crate) fn exchange(stream: &TcpStream, port: u16, request: &Request) -> io::Result<Response> {
    let mut reader = BufReader::new(stream.try_clone()?);
    // The server may have refused while we were still sending; whether it did, its answer tells.
    let mut writer = stream;
    let sent = writer.write_all(&encode(port, request));
    let response = read_response(&mut reader, request.method == "HEAD");
    match (sent, response) {
        (_, Ok(response)) => Ok(response),
        (Err(e), _) | (Ok(()), Err(e)) => Err(e),
    }
}

/// A request as bytes, with the headers that it must have.
pub(crate) fn encode(port: u16, request: &Request) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    let has = |name: &str| request.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    if !has("host") {
        bytes += &format!("host: 127.0.0.1:{port}\r\n");
    }
    for (name, value) in &request.headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    if !has("content-length") && (request.body.is_some() || matches!(request.method.as_str(), "POST" | "PUT")) {
        bytes += &format!("content-length: {}\r\n", request.body.as_ref().map_or(0, Vec::len));
    }
    bytes += "\r\n";
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(request.body.as_deref().unwrap_or_default());
    bytes
}

/// Reads a response. After a 101, and to a HEAD, there is no body.
pub(crate) fn read_response(reader: &mut impl BufRead, head_only: bool) -> io::Result<Response> {
    let mut response = read_head(reader)?;
    while (100..200).contains(&response.status) && response.status != 101 {
        response = read_head(reader)?;
    }
    if head_only || matches!(response.status, 101 | 204 | 304) {
        return Ok(response);
    }
    let chunked = response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    if chunked {
        response.body = read_chunks(reader)?;
    } else if let Some(length) = response.header("content-length") {
        let length = length.trim().parse().map_err(|_| malformed(&format!("content-length {length:?}")))?;
        response.body = read_exactly(reader, length)?;
    } else {
        reader.take(BODY_BYTES_MAX).read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Response> {
    let status_line = read_line(reader)?;
    let mut words = status_line.splitn(3, ' ');
    let status = match (words.next(), words.next().map(str::parse)) {
        (Some(version), Some(Ok(status))) if version.starts_with("HTTP/1.") => status,
        _ => return Err(malformed(&format!("status line {status_line:?}"))),
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(Response { status, headers, body: Vec::new() });
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&format!("header {line:?}")))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    const LINE_BYTES_MAX: u64 = 64 << 10;
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.as_slice() {
        [] => Err(ErrorKind::UnexpectedEof.into()),
        [line @ .., b'\r', b'\n'] => Ok(String::from_utf8_lossy(line).into_owned()),
        _ => Err(malformed("line without an end")),
    }
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = read_line(reader)?;
        let length = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let length = length.map_err(|_| malformed(&format!("chunk size {size:?}")))?;
        if length == 0 {
            while !read_line(reader)?.is_empty() {}
            return Ok(body);
        }
        body.extend(read_exactly(reader, length)?);
        if !read_line(reader)?.is_empty() || body.len() as u64 > BODY_BYTES_MAX {
            return Err(malformed("chunk longer than it said, or than anything expected"));
        }
    }
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(length.min(BODY_BYTES_MAX)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(malformed("body shorter than it said")) }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("malformed response: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(u16, String)> {
        let mut reader = text.as_bytes();
        let response = read_response(&mut reader, false).ok()?;
        Some((response.status, response.text()))
    }

    #[test]
    fn bodies_of_all_kinds() {
        let body = |status, body: &str| Some((status, body.to_owned()));
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", body(200, "ok")),
            ("HTTP/1.1 404 Not Found\r\n\r\nto the end", body(404, "to the end")),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\na;x=1\r\n0123456789\r\n0\r\n\r\n",
                body(200, "ab0123456789"),
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", body(204, "")),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\nframes", body(101, "")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", None),
            ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", None),
            ("nonsense\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn headers_are_found_in_any_case_and_joined() {
        let mut reader = "HTTP/1.1 200 OK\r\nVary: a\r\nX-B:  b \r\nvary: c\r\ncontent-length: 0\r\n\r\n".as_bytes();
        let response = read_response(&mut reader, false).unwrap();
        assert_eq!(response.header("VARY").as_deref(), Some("a, c"));
        assert_eq!(response.header("x-b").as_deref(), Some("b"));
        assert_eq!(response.header("x-c"), None);
    }

    #[test]
    fn requests_get_what_they_need() {
        let request = |method: &str, headers: &[(&str, &str)], body: Option<&str>| {
            let headers = headers.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let body = body.map(|body| body.as_bytes().to_vec());
            String::from_utf8(encode(7, &Request { method: method.into(), path: "/p".into(), headers, body })).unwrap()
        };
        assert_eq!(request("GET", &[], None), "GET /p HTTP/1.1\r\nhost: 127.0.0.1:7\r\n\r\n");
        assert_eq!(request("POST", &[("Host", "h")], None), "POST /p HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n");
        assert!(request("POST", &[], Some("xyz")).ends_with("content-length: 3\r\n\r\nxyz"));
    }
}
