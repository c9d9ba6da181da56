//! Erlang's external term format, as far as the tokens of `Phoenix.Token` use it: numbers, atoms, binaries, tuples, lists
//! and maps. Functions, processes, references and compressed terms are refused. What a token means is decided elsewhere.
//!
//! Source: <https://www.erlang.org/doc/apps/erts/erl_ext_dist>.

pub mod json;

use std::fmt;

/// Terms may be nested so deep.
pub const DEPTH_MAX: usize = 32;

/// The first byte of every term.
const VERSION: u8 = 131;

mod tag {
    pub(super) const FLOAT: u8 = 70;
    pub(super) const SMALL_INTEGER: u8 = 97;
    pub(super) const INTEGER: u8 = 98;
    pub(super) const ATOM_LATIN1: u8 = 100;
    pub(super) const SMALL_TUPLE: u8 = 104;
    pub(super) const LARGE_TUPLE: u8 = 105;
    pub(super) const NIL: u8 = 106;
    pub(super) const BYTE_LIST: u8 = 107;
    pub(super) const LIST: u8 = 108;
    pub(super) const BINARY: u8 = 109;
    pub(super) const SMALL_BIG: u8 = 110;
    pub(super) const SMALL_ATOM_LATIN1: u8 = 115;
    pub(super) const MAP: u8 = 116;
    pub(super) const ATOM: u8 = 118;
    pub(super) const SMALL_ATOM: u8 = 119;
}

/// A term. The `Debug` form shows kinds only, since terms stand in tokens.
#[derive(Clone, PartialEq)]
pub enum Term {
    /// A whole number; larger ones are refused.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// The name of an atom, which is text and nothing more here.
    Atom(String),
    /// A binary: Elixir's strings are such.
    Binary(Vec<u8>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A proper list.
    List(Vec<Term>),
    /// A map, in the order of the encoding.
    Map(Vec<(Term, Term)>),
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer(_) => "Integer",
            Self::Float(_) => "Float",
            Self::Atom(_) => "Atom",
            Self::Binary(_) => "Binary",
            Self::Tuple(_) => "Tuple",
            Self::List(_) => "List",
            Self::Map(_) => "Map",
        })
    }
}

/// Why bytes are no term that is understood here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermError {
    /// They end too early, or go on behind the term.
    Length,
    /// They do not begin with the version of the format.
    Version,
    /// They hold a kind of term that tokens have no use for.
    Kind(u8),
    /// They are nested deeper than [`DEPTH_MAX`].
    Depth,
    /// They hold a number beyond 64 bits, or one that is not finite.
    Number,
    /// They hold an atom that is not text.
    Atom,
    /// They hold a list that does not end as lists do.
    List,
}

impl fmt::Display for TermError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("the term ends too early, or something follows it"),
            Self::Version => f.write_str("the bytes are no term of Erlang"),
            Self::Kind(tag) => write!(f, "the term holds something of the kind {tag}, which is not supported"),
            Self::Depth => write!(f, "the term is nested deeper than {DEPTH_MAX}"),
            Self::Number => f.write_str("the term holds a number beyond 64 bits"),
            Self::Atom => f.write_str("the term holds an atom that is not text"),
            Self::List => f.write_str("the term holds an improper list"),
        }
    }
}

impl std::error::Error for TermError {}

/// Reads a term.
///
/// What it allocates is bounded by the length of the input, whatever lengths the input declares.
///
/// # Errors
/// See [`TermError`].
pub fn decode(bytes: &[u8]) -> Result<Term, TermError> {
    let mut input = Input(bytes);
    if input.byte()? != VERSION {
        return Err(TermError::Version);
    }
    let term = input.term(DEPTH_MAX)?;
    if input.0.is_empty() { Ok(term) } else { Err(TermError::Length) }
}

/// Writes a term, as Erlang's `term_to_binary` would.
pub fn encode(term: &Term) -> Vec<u8> {
    let mut output = vec![VERSION];
    write(term, &mut output);
    output
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn term(&mut self, depth: usize) -> Result<Term, TermError> {
        let inner = depth.checked_sub(1).ok_or(TermError::Depth)?;
        Ok(match self.byte()? {
            tag::SMALL_INTEGER => Term::Integer(self.byte()?.into()),
            tag::INTEGER => Term::Integer(i32::from_be_bytes(self.array()?).into()),
            tag::SMALL_BIG => Term::Integer(self.big()?),
            tag::FLOAT => {
                let number = f64::from_be_bytes(self.array()?);
                Term::Float(Some(number).filter(|number| number.is_finite()).ok_or(TermError::Number)?)
            }
            tag::ATOM | tag::ATOM_LATIN1 => {
                let length = self.short()?;
                self.atom(length)?
            }
            tag::SMALL_ATOM | tag::SMALL_ATOM_LATIN1 => {
                let length = self.byte()?.into();
                self.atom(length)?
            }
            tag::BINARY => {
                let length = self.long()?;
                Term::Binary(self.take(length)?.to_vec())
            }
            tag::SMALL_TUPLE => {
                let arity = self.byte()?.into();
                Term::Tuple(self.terms(arity, inner)?)
            }
            tag::LARGE_TUPLE => {
                let arity = self.long()?;
                Term::Tuple(self.terms(arity, inner)?)
            }
            tag::NIL => Term::List(Vec::new()),
            tag::BYTE_LIST => {
                let length = self.short()?;
                Term::List(self.take(length)?.iter().map(|byte| Term::Integer((*byte).into())).collect())
            }
            tag::LIST => {
                let length = self.long()?;
                let items = self.terms(length, inner)?;
                if self.byte()? != tag::NIL {
                    return Err(TermError::List);
                }
                Term::List(items)
            }
            tag::MAP => {
                let arity = self.long()?;
                let pairs = (0..arity).map(|_| Ok((self.term(inner)?, self.term(inner)?)));
                Term::Map(pairs.collect::<Result<_, _>>()?)
            }
            other => return Err(TermError::Kind(other)),
        })
    }

    /// As many terms as were declared. A `Result` as the target of `collect` reserves nothing in advance.
    fn terms(&mut self, count: usize, depth: usize) -> Result<Vec<Term>, TermError> {
        (0..count).map(|_| self.term(depth)).collect()
    }

    fn big(&mut self) -> Result<i64, TermError> {
        let (length, sign) = (usize::from(self.byte()?), self.byte()?);
        let digits = self.take(length)?;
        if length > 8 {
            return Err(TermError::Number);
        }
        let size = digits.iter().rev().fold(0_i128, |number, digit| number << 8 | i128::from(*digit));
        i64::try_from(if sign == 0 { size } else { -size }).map_err(|_| TermError::Number)
    }

    /// Old atoms are Latin-1, which ASCII is part of; what is beyond it is not worth a table.
    fn atom(&mut self, length: usize) -> Result<Term, TermError> {
        let name = std::str::from_utf8(self.take(length)?).map_err(|_| TermError::Atom)?;
        Ok(Term::Atom(name.to_owned()))
    }

    fn byte(&mut self) -> Result<u8, TermError> {
        Ok(self.array::<1>()?[0])
    }

    fn short(&mut self) -> Result<usize, TermError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn long(&mut self) -> Result<usize, TermError> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| TermError::Length)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TermError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(TermError::Length)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], TermError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TermError::Length)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn write(term: &Term, output: &mut Vec<u8>) {
    match term {
        Term::Integer(number) => write_integer(*number, output),
        Term::Float(number) => {
            output.push(tag::FLOAT);
            output.extend(number.to_be_bytes());
        }
        Term::Atom(name) => {
            output.push(tag::ATOM);
            output.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
            output.extend(name.as_bytes());
        }
        Term::Binary(bytes) => {
            write_count(tag::BINARY, bytes.len(), output);
            output.extend(bytes);
        }
        Term::Tuple(items) => {
            match u8::try_from(items.len()) {
                Ok(arity) => output.extend([tag::SMALL_TUPLE, arity]),
                Err(_) => write_count(tag::LARGE_TUPLE, items.len(), output),
            }
            items.iter().for_each(|item| write(item, output));
        }
        Term::List(items) => {
            if !items.is_empty() {
                write_count(tag::LIST, items.len(), output);
                items.iter().for_each(|item| write(item, output));
            }
            output.push(tag::NIL);
        }
        Term::Map(pairs) => {
            write_count(tag::MAP, pairs.len(), output);
            for (key, value) in pairs {
                write(key, output);
                write(value, output);
            }
        }
    }
}

fn write_integer(number: i64, output: &mut Vec<u8>) {
    if let Ok(byte) = u8::try_from(number) {
        output.extend([tag::SMALL_INTEGER, byte]);
    } else if let Ok(small) = i32::try_from(number) {
        output.push(tag::INTEGER);
        output.extend(small.to_be_bytes());
    } else {
        let digits = number.unsigned_abs().to_le_bytes();
        let length = 8 - digits.iter().rev().take_while(|digit| **digit == 0).count();
        output.extend([tag::SMALL_BIG, length as u8, u8::from(number < 0)]);
        output.extend(&digits[..length]);
    }
}

fn write_count(tag: u8, count: usize, output: &mut Vec<u8>) {
    output.push(tag);
    output.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Term {
        Term::Binary(text.into())
    }

    fn atom(name: &str) -> Term {
        Term::Atom(name.into())
    }

    #[test]
    fn terms_of_erlang() {
        #[track_caller]
        fn check(bytes: &[u8], expected: Result<Term, TermError>) {
            assert!(decode(bytes) == expected, "{bytes:?}");
        }
        check(b"\x83a\x2a", Ok(Term::Integer(42)));
        check(b"\x83b\xff\xff\xff\xff", Ok(Term::Integer(-1)));
        check(b"\x83n\x06\x00\x00\x68\xe5\xcf\x8b\x01", Ok(Term::Integer(1_700_000_000_000)));
        check(b"\x83n\x01\x01\x05", Ok(Term::Integer(-5)));
        check(b"\x83n\x00\x00", Ok(Term::Integer(0)));
        check(b"\x83n\x08\x01\x00\x00\x00\x00\x00\x00\x00\x80", Ok(Term::Integer(i64::MIN)));
        check(b"\x83n\x08\x00\x00\x00\x00\x00\x00\x00\x00\x80", Err(TermError::Number));
        check(b"\x83n\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", Err(TermError::Number));
        check(b"\x83F\x40\x04\x00\x00\x00\x00\x00\x00", Ok(Term::Float(2.5)));
        check(b"\x83F\x7f\xf0\x00\x00\x00\x00\x00\x00", Err(TermError::Number));
        check(b"\x83m\x00\x00\x00\x05alice", Ok(text("alice")));
        check(b"\x83d\x00\x03nil", Ok(atom("nil")));
        check(b"\x83w\x04true", Ok(atom("true")));
        check(b"\x83s\x01\xe9", Err(TermError::Atom));
        check(b"\x83h\x02d\x00\x04usera\x01", Ok(Term::Tuple(vec![atom("user"), Term::Integer(1)])));
        check(b"\x83i\x00\x00\x00\x01a\x01", Ok(Term::Tuple(vec![Term::Integer(1)])));
        check(b"\x83j", Ok(Term::List(vec![])));
        check(b"\x83k\x00\x02\x01\x02", Ok(Term::List(vec![Term::Integer(1), Term::Integer(2)])));
        check(b"\x83l\x00\x00\x00\x01a\x01j", Ok(Term::List(vec![Term::Integer(1)])));
        check(b"\x83l\x00\x00\x00\x01a\x01a\x02", Err(TermError::List));
        check(b"\x83t\x00\x00\x00\x01m\x00\x00\x00\x02ida\x07", Ok(Term::Map(vec![(text("id"), Term::Integer(7))])));
        // No term at all.
        check(b"", Err(TermError::Length));
        check(b"\x82a\x01", Err(TermError::Version));
        check(b"\x83", Err(TermError::Length));
        check(b"\x83a\x01\x00", Err(TermError::Length));
        check(b"\x83m\x00\x00\x00\x06alice", Err(TermError::Length));
        // Lengths that promise more than there is.
        check(b"\x83m\xff\xff\xff\xff", Err(TermError::Length));
        check(b"\x83l\xff\xff\xff\xffj", Err(TermError::Length));
        check(b"\x83i\xff\xff\xff\xffj", Err(TermError::Length));
        check(b"\x83t\xff\xff\xff\xffj", Err(TermError::Length));
        // Compressed, function, process, reference, port, bit string, old float.
        for tag in [80, 112, 103, 114, 102, 77, 99] {
            check(&[VERSION, tag, 0, 0, 0, 0, 0, 0], Err(TermError::Kind(tag)));
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let mut bytes = vec![VERSION];
            for _ in 1..depth {
                bytes.extend([tag::SMALL_TUPLE, 1]);
            }
            bytes.extend([tag::SMALL_INTEGER, 1]);
            decode(&bytes)
        };
        assert!(nested(DEPTH_MAX).is_ok());
        assert_eq!(nested(DEPTH_MAX + 1).err(), Some(TermError::Depth));
        assert_eq!(nested(1_000_000).err(), Some(TermError::Depth));
    }

    #[test]
    fn debug_hides_what_a_term_says() {
        assert_eq!(format!("{:?}", Term::Map(vec![(text("secret"), text("secret"))])), "Map");
    }

    fn any_term() -> impl Strategy<Value = Term> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Term::Integer),
            (-1e9..1e9).prop_map(Term::Float),
            "[a-z]{0,9}".prop_map(Term::Atom),
            any::<Vec<u8>>().prop_map(Term::Binary),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            let many = || proptest::collection::vec(inner.clone(), 0..8);
            prop_oneof![
                many().prop_map(Term::Tuple),
                many().prop_map(Term::List),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..8).prop_map(Term::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(term in any_term()) {
            prop_assert!(decode(&encode(&term)) == Ok(term));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&[&[VERSION][..], &bytes].concat());
        }

        #[test]
        fn a_cut_term_is_refused(term in any_term(), cut: usize) {
            let bytes = encode(&term);
            prop_assert!(decode(&bytes[..cut % bytes.len()]).is_err());
        }
    }
}
