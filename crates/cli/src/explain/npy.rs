//! Raw maps in NumPy's file format, version 1.0 (numpy.lib.format): `numpy.load` reads them.

use std::io::Write;

/// Writes `[height, width]` of f32.
pub fn write(out: &mut impl Write, height: usize, width: usize, values: &[f32]) -> std::io::Result<()> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}), }}");
    // Magic, version and length take 10 bytes; the header ends in a newline, and all of it in a multiple of 64.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', length - 1 - header.len()));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    // A header of two numbers is far below 65536 bytes.
    out.write_all(&(length as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_is_what_numpy_writes() {
        let mut found = Vec::new();
        super::write(&mut found, 1, 2, &[1.0, -2.5]).unwrap();
        // numpy.save of numpy.array([[1, -2.5]], "<f4") with NumPy 2.4.6.
        let mut expected =
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }".to_vec();
        expected.resize(127, b' ');
        expected.extend(b"\n\x00\x00\x80\x3f\x00\x00\x20\xc0");
        assert_eq!(found, expected);
    }
}
