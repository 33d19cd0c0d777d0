//! HTTP/1.1 with as little work as it takes: what a load generator spends, the measured side lacks.

use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// One kept connection, used for one request at a time.
pub(crate) struct Wire {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Wire {
    /// `url` is `http://host:port`. Connects with the first request.
    pub(crate) fn to(url: &str) -> Self {
        Self { address: url.trim_start_matches("http://").to_owned(), stream: None }
    }

    /// A request as it goes over the wire; `headers` are whole lines, each with its end.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
    }

    pub(crate) async fn call(&mut self, request: &str) -> io::Result<(u16, String)> {
        let (status, length) = self.send(request).await?;
        let stream = self.standing().await?;
        let mut body = Vec::new();
        match length {
            Length::Known(length) => {
                body.resize(length, 0);
                stream.read_exact(&mut body).await?;
            }
            Length::Chunked => while read_chunk(stream, &mut body).await? {},
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Reads an event stream until `word` is in it, and hangs up.
    pub(crate) async fn listen_for(mut self, request: &str, word: &str) -> io::Result<()> {
        self.send(request).await?;
        let stream = self.standing().await?;
        let mut heard = Vec::new();
        while read_chunk(stream, &mut heard).await? {
            if heard.windows(word.len()).any(|part| part == word.as_bytes()) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    async fn send(&mut self, request: &str) -> io::Result<(u16, Length)> {
        let stream = self.standing().await?;
        stream.get_mut().write_all(request.as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut length = Length::Known(0);
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                return Ok((status, length));
            } else if let Some(bytes) = header.strip_prefix("content-length:") {
                length = Length::Known(bytes.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?);
            } else if header.starts_with("transfer-encoding:") {
                length = Length::Chunked;
            }
        }
    }

    async fn standing(&mut self) -> io::Result<&mut BufReader<TcpStream>> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(BufReader::new(stream));
        }
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

enum Length {
    Known(usize),
    Chunked,
}

/// Whether there is more to come.
async fn read_chunk(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<bool> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    let already = body.len();
    body.resize(already + size, 0);
    stream.read_exact(&mut body[already..]).await?;
    stream.read_line(&mut line).await?;
    Ok(size > 0)
}
