//! The methods of types: where they are written, and which of their own type they call.

use super::is_name;

/// An `impl` block of a file.
#[derive(Debug)]
pub(crate) struct Impl<'a> {
    /// The last name of the type's path, without its parameters.
    pub(crate) of: &'a str,
    /// Not one of a trait.
    pub(crate) inherent: bool,
    body: &'a str,
}

impl<'a> Impl<'a> {
    /// The names of its functions, in their order.
    pub(crate) fn methods(&self) -> Vec<&'a str> {
        let mut depth = 0;
        let mut names = Vec::new();
        for (at, c) in self.body.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                'f' if depth == 0 && is_word_at(self.body, at, "fn") => {
                    names.push(name_at(self.body[at + "fn".len()..].trim_start()));
                }
                _ => {}
            }
        }
        names
    }

    /// The names that are called as `self.name(…)` or `Self::name(…)`.
    pub(crate) fn own_calls(&self) -> Vec<&'a str> {
        let mut names = Vec::new();
        for (word, joint) in [("self", "."), ("Self", "::")] {
            for (at, _) in self.body.match_indices(word) {
                let behind = self.body[at + word.len()..].trim_start().strip_prefix(joint).map(str::trim_start);
                if let Some(behind) = behind.filter(|_| is_word_at(self.body, at, word)) {
                    let name = name_at(behind);
                    if behind[name.len()..].starts_with(['(', ':']) {
                        names.push(name);
                    }
                }
            }
        }
        names
    }
}

/// The `impl` blocks in `code`, which has no comments and literals.
pub(crate) fn impls(code: &str) -> Vec<Impl<'_>> {
    let items = code.match_indices("impl").filter(|&(at, word)| {
        let before = code[..at].trim_end().chars().next_back();
        is_word_at(code, at, word) && matches!(before, None | Some('}' | ';' | ']' | '{'))
    });
    let blocks = items.filter_map(|(at, word)| {
        let item = &code[at + word.len()..];
        let (head, body) = item.split_at(item.find('{')?);
        let head = behind_parameters(head.trim_start());
        let head = head.split(" where ").next()?.split("\nwhere").next()?;
        let (inherent, of) = match head.rsplit_once(" for ") {
            Some((_, of)) => (false, of),
            None => (true, head),
        };
        let path = of.trim().trim_start_matches(['&', '(']).trim_start_matches("dyn ").split('<').next()?;
        let of = path.rsplit("::").next()?.trim();
        Some(Impl { of, inherent, body: block(body) })
    });
    blocks.collect()
}

/// What is within the braces that a text begins with.
fn block(text: &str) -> &str {
    let mut depth = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        (depth == 0).then_some(at)
    });
    &text[1..end.unwrap_or(text.len())]
}

/// What comes after the `<…>` that a text may begin with.
fn behind_parameters(text: &str) -> &str {
    let mut depth = 0;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if at == 0 { text } else { &text[at + 1..] };
        }
        before = c;
    }
    text
}

fn is_word_at(code: &str, at: usize, word: &str) -> bool {
    code[at..].starts_with(word)
        && !code[..at].chars().next_back().is_some_and(is_name)
        && !code[at + word.len()..].chars().next().is_some_and(is_name)
}

fn name_at(code: &str) -> &str {
    code.split(|c| !is_name(c)).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_name_their_type() {
        for (code, expected) in [
            ("impl Shard { }", vec![("Shard", true)]),
            ("impl super::Shard {} impl Drop for Shard {}", vec![("Shard", true), ("Shard", false)]),
            ("impl<'a, F: Fn(A) -> B> Turn<'a, F> where F: Send {}", vec![("Turn", true)]),
            ("impl<T> From<Box<T>> for crate::error::Error<T>\nwhere T: X {}", vec![("Error", false)]),
            ("fn f(x: impl Fn(u8)) -> impl Iterator { x }", vec![]),
            ("mod inner { impl Shard {} }", vec![("Shard", true)]),
        ] {
            let found: Vec<_> = impls(code).iter().map(|block| (block.of, block.inherent)).collect();
            assert_eq!(found, expected, "{code}");
        }
    }

    #[test]
    fn methods_are_those_of_the_block() {
        let code =
            "impl A { const fn a() {} pub(crate) fn b<T>(&self) { fn inner() {} } } fn c() {} impl B { fn d() {} }";
        let methods: Vec<_> = impls(code).iter().map(Impl::methods).collect();
        assert_eq!(methods, [vec!["a", "b"], vec!["d"]]);
    }

    #[test]
    fn own_calls_are_calls() {
        for (body, expected) in [
            ("self.a(); self.b.c(); self\n    .d(1)", vec!["a", "d"]),
            ("self.a::<T>(); self.field = 1; myself.b()", vec!["a"]),
            ("Self::new(); Self { x }; Self::X", vec!["new"]),
        ] {
            let code = format!("impl A {{ fn f(&self) {{ {body} }} }}");
            assert_eq!(impls(&code)[0].own_calls(), expected, "{body}");
        }
    }
}
