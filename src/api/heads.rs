//! Line ends of HTTP/1 heads. RFC 9112 (2.2) lets a recipient take a line feed alone as the end of a line, and the parser
//! behind this one does. A proxy in front that does not would see one field where we see two, so what hides behind the
//! line feed passes its rules. Here such a head is refused.
//!
//! The parser has no setting for it, so the bytes are looked at on their way. After a line feed without its carriage return
//! every request of the connection is answered 400, and the connection ends.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a head of a connection had a line feed alone. Set before the parser sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Misread(Arc<AtomicBool>);

impl Misread {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A connection whose heads are looked at.
pub(super) struct StrictHeads<S> {
    stream: S,
    heads: Heads,
    misread: Misread,
}

impl<S> StrictHeads<S> {
    pub(super) fn new(stream: S, misread: Misread) -> Self {
        Self { stream, heads: Heads::default(), misread }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictHeads<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        if this.heads.look(buffer.filled().get(before..).unwrap_or_default()) {
            this.misread.0.store(true, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictHeads<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Where in the connection the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Head,
    /// Bytes of the body that are still to come.
    Body(u64),
    /// No head follows that is read: HTTP/2, or a request that is the last of its connection.
    Rest,
}

/// Follows the heads of one connection.
struct Heads {
    at: At,
    /// How many bytes of the preface of HTTP/2 the connection began with; `None` when it began otherwise.
    preface: Option<usize>,
    /// The line so far. The parser limits a head, and with it this.
    line: Vec<u8>,
    /// The request line is read.
    begun: bool,
    length: Option<u64>,
    /// The body's end cannot be told from the head.
    is_open: bool,
}

impl Default for Heads {
    fn default() -> Self {
        Self { at: At::Head, preface: Some(0), line: Vec::new(), begun: false, length: None, is_open: false }
    }
}

impl Heads {
    /// Whether a head in these bytes, which follow those before, has a line feed alone.
    fn look(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            match self.at {
                At::Rest => return false,
                At::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let rest = left.saturating_sub(here as u64);
                    self.at = if rest == 0 { At::Head } else { At::Body(rest) };
                    bytes = bytes.get(here..).unwrap_or_default();
                    if bytes.is_empty() {
                        return false;
                    }
                }
                At::Head => {
                    let Some((byte, after)) = bytes.split_first() else { return false };
                    if self.head_byte(*byte) {
                        self.at = At::Rest;
                        return true;
                    }
                    bytes = after;
                }
            }
        }
    }

    fn head_byte(&mut self, byte: u8) -> bool {
        if let Some(matched) = self.preface {
            self.preface = (PREFACE.get(matched) == Some(&byte)).then_some(matched + 1);
            if self.preface == Some(PREFACE.len()) {
                self.at = At::Rest;
                return false;
            }
        }
        if byte != b'\n' {
            self.line.push(byte);
        } else if self.line.last() == Some(&b'\r') {
            self.line.pop();
            self.line_ends();
        } else {
            return true;
        }
        false
    }

    fn line_ends(&mut self) {
        let line = std::mem::take(&mut self.line);
        match (line.is_empty(), self.begun) {
            // Empty lines before a request are passed over.
            (true, false) => {}
            (true, true) => {
                let open = std::mem::take(&mut self.is_open);
                let length = self.length.take().unwrap_or(0);
                self.begun = false;
                self.at = match length {
                    _ if open => At::Rest,
                    0 => At::Head,
                    length => At::Body(length),
                };
            }
            (false, false) => self.begun = true,
            (false, true) => self.field(&line),
        }
        if self.begun {
            // Most lines of a head are short; the same memory serves them all.
            self.line = line;
            self.line.clear();
        }
    }

    fn field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_open = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.get(1..).unwrap_or_default().trim_ascii();
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
            match (length, self.length) {
                (Some(length), None) => self.length = Some(length),
                (Some(length), Some(before)) if length == before => {}
                // The parser refuses the head.
                _ => self.is_open = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether a line feed alone is seen in a text that arrives cut at these places.
    fn is_misread(text: &str, cuts: &[usize]) -> bool {
        let bytes = text.as_bytes();
        let mut heads = Heads::default();
        let mut from = 0;
        let mut found = false;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let cut = cut.clamp(from, bytes.len());
            found |= heads.look(&bytes[from..cut]);
            from = cut;
        }
        found
    }

    #[test]
    fn f14_a_line_feed_alone_in_a_head_is_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\nHost: h\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\nGET",
        ] {
            for cut in 0..head.len() {
                assert!(is_misread(head, &[cut]), "{head:?} at {cut}");
            }
        }
    }

    #[test]
    fn f14_bodies_and_http_2_pass_as_they_are() {
        for text in [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0005 \r\n\r\n{\n\n\n}GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 4\r\nCONTENT-LENGTH: 4\r\n\r\n\n\n\n\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\n",
        ] {
            for cut in 0..text.len() {
                assert!(!is_misread(text, &[cut]), "{text:?} at {cut}");
            }
        }
    }

    proptest! {
        /// However the bytes arrive, the same is seen.
        #[test]
        fn f14_cuts_change_nothing(
            parts in prop::collection::vec(
                prop::sample::select(vec!["GET / HTTP/1.1", "a: b", "content-length: 2", "\r\n", "\n", "\r", "x", "transfer-encoding: chunked"]),
                0..20,
            ),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let text = parts.concat();
            let mut cuts = cuts;
            cuts.sort_unstable();
            prop_assert_eq!(is_misread(&text, &cuts), is_misread(&text, &[]));
        }
    }
}
