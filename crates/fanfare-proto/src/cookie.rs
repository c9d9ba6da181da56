//! The cookies of a request.
//!
//! Source: RFC 6265, section 4.2; read as section 5.4 of RFC 6265bis has servers read them. Values are not percent-decoded, which is an
//! agreement between those who write and read them.

/// The names and values of a `cookie` header, in the order of the header. A pair of quotation marks around a value is no part of it;
/// what has no `=` is skipped.
pub fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        (!name.is_empty()).then_some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        #[track_caller]
        fn check(header: &str, expected: &[(&str, &str)]) {
            assert_eq!(pairs(header).collect::<Vec<_>>(), expected, "{header}");
        }
        check("a=1", &[("a", "1")]);
        check("a=1; b=2;c=3 ;", &[("a", "1"), ("b", "2"), ("c", "3")]);
        check("a=x=y==", &[("a", "x=y==")]);
        check("a=\"quoted\"; b=\"", &[("a", "quoted"), ("b", "\"")]);
        check("a=; =1; b; a=2", &[("a", ""), ("a", "2")]);
        check("a=%20", &[("a", "%20")]);
        check("", &[]);
    }
}
