//! HTTP/1.1 requests as the RFC's grammar has them and no other: what a recording back end's bytes must be.

/// A request as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

// === impl Request ===

impl Request {
    /// The values of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }
}

/// The first request of the bytes and its length; nothing while it is not whole. The error says what could be read in two ways.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    for (at, byte) in head.iter().enumerate() {
        let next = head.get(at + 1);
        match byte {
            b'\r' if next != Some(&b'\n') => return Err("a bare CR".to_owned()),
            b'\n' if at == 0 || head[at - 1] != b'\r' => return Err("a bare LF".to_owned()),
            0..=8 | 11 | 12 | 14..=31 | 127 => return Err(format!("the control character {byte}")),
            _ => {}
        }
    }
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("the request line {line:?}"));
    };
    if !is_token(method) || version != "HTTP/1.1" || !target.starts_with('/') && target != "*" {
        return Err(format!("the request line {line:?}"));
    }
    let fields = fields(lines)?;
    let values = |name: &str| {
        fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect::<Vec<_>>()
    };
    if values("host").len() != 1 {
        return Err(format!("{} Host fields", values("host").len()));
    }
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let start = end + 4;
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        fields: fields.clone(),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let used = match (&lengths[..], &codings[..]) {
        ([], []) => start,
        ([length], []) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("Content-Length: {length}"));
            }
            let length: usize = length.parse().map_err(|_| format!("Content-Length: {length}"))?;
            let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
            request.body = body.to_vec();
            start + length
        }
        ([], [coding]) if coding.as_str() == "chunked" => {
            let Some(used) = chunked(&bytes[start..], &mut request)? else { return Ok(None) };
            start + used
        }
        _ => return Err(format!("Content-Length {lengths:?} with Transfer-Encoding {codings:?}")),
    };
    Ok(Some((request, used)))
}

/// All requests of a connection. The error says what could be read in two ways, or is not whole.
pub(crate) fn parse_all(mut bytes: &[u8]) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let Some((request, used)) = parse(bytes)? else {
            return Err(format!("half a request: {:?}", String::from_utf8_lossy(bytes)));
        };
        requests.push(request);
        bytes = &bytes[used..];
    }
    Ok(requests)
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String)>, String> {
    lines
        .map(|line| match line.split_once(':') {
            Some((name, value)) if is_token(name) => Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned())),
            _ => Err(format!("the field line {line:?}")),
        })
        .collect()
}

fn chunked(bytes: &[u8], request: &mut Request) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(length) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes[at..at + length]).into_owned();
        if line.is_empty() || line.len() > 8 || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("the chunk size {line:?}"));
        }
        let size = usize::from_str_radix(&line, 16).map_err(|e| e.to_string())?;
        at += length + 2;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at + size) else { return Ok(None) };
        request.body.extend_from_slice(data);
        match bytes.get(at + size..at + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += size + 2,
            Some(other) => return Err(format!("{other:?} after a chunk")),
        }
    }
    if bytes[at..].starts_with(b"\r\n") {
        return Ok(Some(at + 2));
    }
    let Some(length) = find(&bytes[at..], b"\r\n\r\n") else { return Ok(None) };
    request.trailers = fields(String::from_utf8_lossy(&bytes[at..at + length]).split("\r\n"))?;
    Ok(Some(at + length + 4))
}

fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
