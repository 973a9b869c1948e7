//! Compressed bytes as they were before, read piece by piece: gzip, deflate and zstd, the first and the last of as many
//! parts as there are one after the other.
//!
//! Whoever reads limits how much; no more is held than a piece and, with zstd, the window of a frame.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The bytes of `source` before they were encoded; `None` for an encoding that is not known here.
pub(super) fn reader<'a>(source: impl Read + 'a, encoding: &str) -> Option<Box<dyn Read + 'a>> {
    Some(match encoding {
        "" | "identity" => Box::new(source),
        "gzip" => Box::new(MultiGzDecoder::new(source)),
        "deflate" => Box::new(ZlibDecoder::new(source)),
        "zstd" => Box::new(Zstd { source: BufReader::new(source), decoder: FrameDecoder::new() }),
        _ => return None,
    })
}

/// Frames of zstd.
struct Zstd<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
}

impl<R: Read> Zstd<R> {
    /// Begins the next frame.
    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.init(&mut self.source) {
            Ok(()) => Ok(()),
            // A frame of something else than data, which its writer may put in between.
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                if skipped < length.into() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
            }
            Err(e) => Err(io::Error::other(e)),
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(out);
            }
            if !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(io::Error::other)?;
            } else if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            } else {
                self.begin()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn read(encoding: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        reader(bytes, encoding).unwrap().read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn frames_of_zstd_follow_each_other() {
        let frame = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
        let much = b"0123456789".repeat(100_000);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let body = [frame(b"ab"), skipped.clone(), frame(b""), frame(&much), skipped.clone()].concat();
        assert_eq!(read("zstd", &body).unwrap(), [b"ab", &much[..]].concat());
        assert!(read("zstd", &body[..body.len() - 1]).is_err());
        assert!(read("zstd", &[frame(b"ab"), b"garbage".to_vec()].concat()).is_err());
        assert_eq!(read("zstd", b"").unwrap(), b"");
        assert!(reader(&b""[..], "br").is_none());
    }
}
