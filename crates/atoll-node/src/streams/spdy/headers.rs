//! Header blocks of SPDY/3: names and values, compressed with a dictionary that both sides know, in one zlib stream
//! for the whole life of a connection. (SPDY/3.1 draft, section 2.6.10.)

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;

/// The words that the dictionary begins with, each with its length before it.
const DICTIONARY_WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
     accept-language accept-ranges age allow authorization cache-control connection content-base content-encoding \
     content-language content-length content-location content-md5 content-range content-type date etag expect expires \
     from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location \
     max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer \
     transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 \
     url public set-cookie keep-alive origin";
/// What follows them.
const DICTIONARY_TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
     203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
     404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
     Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
     chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
     text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// A header block may be this large, compressed or not.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
const PIECE_BYTES: usize = 4096;

/// Names and values, in order.
pub(crate) type Headers = Vec<(String, String)>;

/// The first value of a header.
pub(crate) fn header<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in DICTIONARY_WORDS.split_whitespace() {
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.replace('_', " ").as_bytes());
    }
    bytes.extend_from_slice(DICTIONARY_TAIL.as_bytes());
    bytes
}

/// Reads the blocks of one direction, in the order in which they were sent.
pub(super) struct HeaderReader {
    zlib: Decompress,
}

impl HeaderReader {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true) }
    }

    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let plain = self.inflate(block)?;
        parse(&plain).ok_or(SpdyError::Headers)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::with_capacity(PIECE_BYTES);
        let mut taken = 0;
        loop {
            if plain.len() > BLOCK_BYTES_MAX {
                return Err(SpdyError::Headers);
            }
            plain.reserve(PIECE_BYTES);
            let (before_in, before_out) = (self.zlib.total_in(), plain.len());
            let outcome = self.zlib.decompress_vec(&block[taken..], &mut plain, FlushDecompress::Sync);
            taken += usize::try_from(self.zlib.total_in() - before_in).unwrap_or(usize::MAX);
            match outcome {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&dictionary()).map_err(|_| SpdyError::Headers)?;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(SpdyError::Headers),
                Ok(_) if taken == block.len() && plain.len() < plain.capacity() => return Ok(plain),
                Ok(Status::BufError) if plain.len() == before_out && taken == block.len() => return Ok(plain),
                Ok(_) => {}
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Option<Headers> {
    let number = |rest: &mut &[u8]| -> Option<usize> {
        let (first, more) = rest.split_at_checked(4)?;
        *rest = more;
        usize::try_from(u32::from_be_bytes(first.try_into().ok()?)).ok()
    };
    let text = |rest: &mut &[u8]| -> Option<String> {
        let length = number(rest)?;
        let (first, more) = rest.split_at_checked(length)?;
        *rest = more;
        String::from_utf8(first.to_vec()).ok()
    };
    let (count, rest) = plain.split_at_checked(4)?;
    let count = u32::from_be_bytes(count.try_into().ok()?);
    plain = rest;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut plain)?;
        let value = text(&mut plain)?;
        headers.extend(value.split('\0').map(|value| (name.clone(), value.to_owned())));
    }
    plain.is_empty().then_some(headers)
}

/// Writes the blocks of one direction.
pub(super) struct HeaderWriter {
    zlib: Compress,
}

impl HeaderWriter {
    pub(super) fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&dictionary()).expect("a fresh compressor takes a dictionary");
        Self { zlib }
    }

    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [*name, *value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + PIECE_BYTES);
        let before = self.zlib.total_in();
        self.zlib.compress_vec(&plain, &mut block, FlushCompress::Sync).map_err(|_| SpdyError::Headers)?;
        // What is flushed into enough room is flushed whole.
        let is_whole = self.zlib.total_in() - before == plain.len() as u64 && block.len() < block.capacity();
        if is_whole { Ok(block) } else { Err(SpdyError::Headers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_of_the_draft() {
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in dictionary() {
            low = (low + u32::from(byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        // Its Adler-32 is what zlib names it by.
        assert_eq!((high << 16) | low, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_come_back_in_order() {
        let (mut writer, mut reader) = (HeaderWriter::new(), HeaderReader::new());
        for round in 0..3 {
            let request = round.to_string();
            let sent = [("streamtype", "data"), ("port", "8080"), ("requestid", request.as_str())];
            let block = writer.write(&sent).unwrap();
            let read = reader.read(&block).unwrap();
            assert_eq!(read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), sent);
            assert_eq!(header(&read, "StreamType"), Some("data"));
        }
        assert!(reader.read(b"no zlib at all").is_err());
    }

    #[test]
    fn a_block_that_grows_without_end_is_refused() {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&dictionary()).unwrap();
        let mut block = Vec::with_capacity(1 << 20);
        zlib.compress_vec(&vec![0; 50 << 20], &mut block, FlushCompress::Sync).unwrap();
        assert!(HeaderReader::new().read(&block).is_err());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(parse(&[0, 0, 0, 0]), Some(vec![]));
        assert_eq!(parse(&[0, 0, 0, 1, 255, 255, 255, 255]), None);
        assert_eq!(parse(&[255, 255, 255, 255]), None);
        assert_eq!(parse(&[0, 0, 0, 0, 1]), None);
        assert_eq!(parse(&[0, 0]), None);
    }
}
