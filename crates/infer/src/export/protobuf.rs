//! As much of the protocol buffers' encoding as an ONNX file takes: fields of a message, one after the other
//! (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! A message is a list of pieces whose lengths are known, so that the length in front of an embedded message is there
//! before its content is written, and weights go from where they lie to the disk without a copy.

use std::io::{self, Write};

/// Field numbers and values of one message, in the order in which they are added.
#[derive(Default)]
pub(super) struct Message<'a> {
    pieces: Vec<Piece<'a>>,
    bytes: usize,
}

enum Piece<'a> {
    Encoded(Vec<u8>),
    /// Little-endian on the disk.
    Floats(&'a [f32]),
}

/// How the value behind a key is laid out.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    LengthDelimited = 2,
    FourBytes = 5,
}

impl<'a> Message<'a> {
    /// An integer, also of an enumeration.
    pub(super) fn integer(mut self, field: u32, value: i64) -> Message<'a> {
        self.key(field, WireType::Varint);
        // Negative numbers are written as the 64 bits of their two's complement.
        self.varint(value as u64);
        self
    }

    /// A `float`.
    pub(super) fn float(mut self, field: u32, value: f32) -> Message<'a> {
        self.key(field, WireType::FourBytes);
        self.encoded(&value.to_le_bytes());
        self
    }

    /// A `string`.
    pub(super) fn text(mut self, field: u32, value: &str) -> Message<'a> {
        self.key(field, WireType::LengthDelimited);
        self.varint(value.len() as u64);
        self.encoded(value.as_bytes());
        self
    }

    /// `bytes` that hold numbers.
    pub(super) fn floats(mut self, field: u32, values: &'a [f32]) -> Message<'a> {
        self.key(field, WireType::LengthDelimited);
        self.varint(size_of_val(values) as u64);
        self.bytes += size_of_val(values);
        self.pieces.push(Piece::Floats(values));
        self
    }

    /// An embedded message.
    pub(super) fn message(mut self, field: u32, message: Message<'a>) -> Message<'a> {
        self.key(field, WireType::LengthDelimited);
        self.varint(message.bytes as u64);
        self.bytes += message.bytes;
        self.pieces.extend(message.pieces);
        self
    }

    /// The length of the encoded message in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Writes the message without a length before it, as a file holds it.
    pub(super) fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Encoded(bytes) => writer.write_all(bytes)?,
                Piece::Floats(values) => {
                    let mut block = Vec::with_capacity(1 << 16);
                    for values in values.chunks(1 << 14) {
                        block.clear();
                        values.iter().for_each(|value| block.extend_from_slice(&value.to_le_bytes()));
                        writer.write_all(&block)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn key(&mut self, field: u32, wire_type: WireType) {
        self.varint(u64::from(field) << 3 | wire_type as u64);
    }

    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.encoded(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.encoded(&[value as u8]);
    }

    fn encoded(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.pieces.last_mut() {
            Some(Piece::Encoded(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Encoded(bytes.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &Message<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), message.len());
        bytes
    }

    #[test]
    fn the_examples_of_the_specification() {
        // protobuf.dev/programming-guides/encoding: a = 150; b = "testing"; c holds a = 150.
        assert_eq!(bytes(&Message::default().integer(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(bytes(&Message::default().text(2, "testing")), b"\x12\x07testing");
        let embedded = Message::default().message(3, Message::default().integer(1, 150));
        assert_eq!(bytes(&embedded), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(
            bytes(&Message::default().integer(1, -2)),
            [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
        );
    }

    #[test]
    fn weights_are_counted_by_every_message_around_them() {
        let values = [1.0f32, -2.5];
        let message = Message::default().message(16, Message::default().floats(9, &values).float(2, 0.5));
        let expected =
            [&[0x82, 0x01, 15, 0x4a, 8][..], &1f32.to_le_bytes(), &(-2.5f32).to_le_bytes(), &[0x15]].concat();
        assert_eq!(bytes(&message), [&expected[..], &0.5f32.to_le_bytes()].concat());
    }
}
