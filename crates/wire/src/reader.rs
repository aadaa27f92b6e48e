use bitcoin::hashes::Hash;

use crate::limits::{MAX_COMPACT_SIZE, MAX_PREALLOCATION_BYTES};

/// Why a payload is not the message its header names. The texts are those of the exceptions
/// Core throws, which its log shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload ends inside a field.
    #[error("DataStream::read(): end of data: iostream error")]
    EndOfData,
    /// A length prefix is not in its shortest form.
    #[error("non-canonical ReadCompactSize(): iostream error")]
    NonCanonical,
    /// A length prefix exceeds [`MAX_COMPACT_SIZE`].
    #[error("ReadCompactSize(): size too large: iostream error")]
    SizeTooLarge,
    /// The user agent or a feature's field is longer than allowed.
    #[error("String length limit exceeded: iostream error")]
    StringTooLong,
    /// An `addrv2` address exceeds 512 bytes.
    #[error("Address too long: {0} > 512: iostream error")]
    AddressTooLong(u64),
    /// An `addrv2` address of a known network has another network's length.
    #[error("BIP155 {network} address with length {length} (should be {expected}): iostream error")]
    AddressLength {
        /// The network's name in Core's log.
        network: &'static str,
        /// The length received.
        length: u64,
        /// The network's length.
        expected: u64,
    },
    /// A transaction carries the witness flag without a witness.
    #[error("Superfluous witness record: iostream error")]
    SuperfluousWitness,
    /// A transaction carries an unknown flag.
    #[error("Unknown transaction optional data: iostream error")]
    UnknownTxData,
    /// The indexes of a `getblocktxn` run past their type.
    #[error("differential value overflow: iostream error")]
    IndexOverflow,
    /// A compact block stands for more than 65,535 transactions.
    #[error("indexes overflowed 16 bits: iostream error")]
    TooManyTxs,
    /// A `headers` message announces more than 2,000; Core punishes this one with the text here.
    #[error("headers message size = {0}")]
    TooManyHeaders(u64),
    /// A `feature` breaks BIP434; Core disconnects.
    #[error("invalid feature payload")]
    InvalidFeature,
    /// A `merkleblock` whose tree contradicts itself.
    #[error("invalid partial merkle tree")]
    InvalidMerkleTree,
}

/// Takes values off the front of a payload. Never reserves memory for what has not arrived.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub const fn bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.0.split_at_checked(n) {
            Some((head, rest)) => {
                self.0 = rest;
                Ok(head)
            }
            None => Err(DecodeError::EndOfData),
        }
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// If there are fewer.
    pub const fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.0.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.0 = rest;
                Ok(*head)
            }
            None => Err(DecodeError::EndOfData),
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// If there is none.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian 16-bit number.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// A little-endian 32-bit number.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian signed 32-bit number.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    /// A little-endian 64-bit number.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A little-endian signed 64-bit number.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A big-endian 16-bit number: ports.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn port(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A 32-byte hash.
    ///
    /// # Errors
    /// If the bytes end.
    pub fn hash<H: Hash<Bytes = [u8; 32]>>(&mut self) -> Result<H, DecodeError> {
        self.array().map(H::from_byte_array)
    }

    /// A number in Core's `CompactSize` form that is no length, so of any size.
    ///
    /// # Errors
    /// If the bytes end or a shorter form exists.
    pub fn compact_number(&mut self) -> Result<u64, DecodeError> {
        let (value, least) = match self.u8()? {
            0xff => (self.u64()?, 0x1_0000_0000),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xfd => (u64::from(self.u16()?), 0xfd),
            short => (u64::from(short), 0),
        };
        if value < least { Err(DecodeError::NonCanonical) } else { Ok(value) }
    }

    /// A length prefix.
    ///
    /// # Errors
    /// As [`Reader::compact_number`], and above [`MAX_COMPACT_SIZE`].
    pub fn compact_size(&mut self) -> Result<u64, DecodeError> {
        let size = self.compact_number()?;
        if size > MAX_COMPACT_SIZE { Err(DecodeError::SizeTooLarge) } else { Ok(size) }
    }

    /// Bytes behind a length prefix.
    ///
    /// # Errors
    /// If the prefix is bad or the bytes end.
    pub fn var_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.compact_size()?;
        self.bytes(usize::try_from(len).map_err(|_| DecodeError::SizeTooLarge)?)
    }

    /// Bytes behind a length prefix of at most `max`.
    ///
    /// # Errors
    /// As [`Reader::var_bytes`], and if there are more than `max`.
    pub fn limited_bytes(&mut self, max: u64) -> Result<&'a [u8], DecodeError> {
        let len = self.compact_size()?;
        if len > max {
            return Err(DecodeError::StringTooLong);
        }
        self.bytes(usize::try_from(len).map_err(|_| DecodeError::SizeTooLarge)?)
    }

    /// A list behind a length prefix, each element read by `read`.
    ///
    /// # Errors
    /// If the prefix is bad or an element fails.
    pub fn list<T>(
        &mut self,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.compact_size()?;
        self.repeat(len, read)
    }

    /// `count` elements, each read by `read` from at least one byte.
    ///
    /// # Errors
    /// If an element fails.
    pub fn repeat<T>(
        &mut self,
        count: u64,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(count).map_err(|_| DecodeError::SizeTooLarge)?;
        // No element is shorter than a byte, so a longer list cannot be complete.
        if count > self.0.len() {
            return Err(DecodeError::EndOfData);
        }
        let affordable = MAX_PREALLOCATION_BYTES.checked_div(size_of::<T>()).unwrap_or(count);
        let mut list = Vec::with_capacity(count.min(affordable));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }
}
