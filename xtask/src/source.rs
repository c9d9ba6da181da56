//! Reading Rust sources well enough for rules about them: what is code, what is a test, which paths a file names.
//!
//! This is no parser. It knows comments, literals and `use` trees, and trusts rustc for the rest. [`impls`] knows methods.

pub(crate) mod impls;

/// The code of a file: comments, literals' contents and test-only items are blanked, lines stay where they are.
pub(crate) fn code(text: &str) -> String {
    without_tests(without_comments_and_literals(text))
}

/// Whether `word` occurs in `code` as a whole identifier or path, with nothing of a name before or behind it.
pub(crate) fn mentions(code: &str, word: &str) -> bool {
    first_mention(code, word).is_some()
}

/// Where `word` first occurs in `code` as a whole identifier or path.
pub(crate) fn first_mention(code: &str, word: &str) -> Option<usize> {
    let apart = |c: Option<char>| !c.is_some_and(is_name);
    code.match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| apart(code[..at].chars().next_back()) && apart(code[at + word.len()..].chars().next()))
}

/// The line, counted from 1, of a position in a text.
pub(crate) fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The modules that a file declares for its tests alone.
pub(crate) fn test_modules(text: &str) -> impl Iterator<Item = &str> {
    let conditions = text.match_indices("#[cfg(").filter_map(|(at, _)| text[at..].split_once(")]\n"));
    conditions.filter(|(condition, _)| mentions(condition, "test")).filter_map(|(_, item)| {
        let (declaration, _) = item.lines().next()?.split_once(';')?;
        let (visibility, name) = declaration.trim().rsplit_once("mod ")?;
        (visibility.is_empty() || visibility.starts_with("pub")).then_some(name)
    })
}

/// A path that a file names, from the root of its crate, and where it names it.
#[derive(Debug, PartialEq)]
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// All paths in `code` that begin with `crate`, `self` or `super`, taken apart into single ones.
/// `module` is the path of the file's own module.
pub(crate) fn crate_paths(code: &str, module: &[&str]) -> Vec<Mention> {
    let mut mentions = Vec::new();
    let mut at = 0;
    while let Some((start, root)) = next_root(code, at) {
        let mut prefix: Vec<String> = match root {
            "crate" => Vec::new(),
            "self" => module.iter().map(|&m| m.to_owned()).collect(),
            _ => module[..module.len().saturating_sub(1)].iter().map(|&m| m.to_owned()).collect(),
        };
        let mut rest = &code[start + root.len()..];
        while let Some(further) = rest.strip_prefix("::super") {
            prefix.pop();
            rest = further;
        }
        let line = line_at(code, start);
        let rest = match rest.strip_prefix("::") {
            Some(tree) => expand(tree, prefix, &mut |path| mentions.push(Mention { path, line })),
            None => rest,
        };
        at = code.len() - rest.len();
    }
    mentions
}

/// What a crate's root file hands on under another name: `(name, module it comes from)` for each `pub use module::…::name`.
pub(crate) fn reexports(code: &str) -> Vec<(String, String)> {
    let mut exports = Vec::new();
    for (at, marker) in code.match_indices("pub use ") {
        expand(&code[at + marker.len()..], Vec::new(), &mut |path| {
            let path: Vec<String> = path.into_iter().filter(|s| s != "crate" && s != "self").collect();
            if let [module, .., name] = path.as_slice() {
                exports.push((name.clone(), module.clone()));
            }
        });
    }
    exports
}

/// Reads one tree of paths and gives what stands behind it.
fn expand<'a>(mut tree: &'a str, mut path: Vec<String>, emit: &mut dyn FnMut(Vec<String>)) -> &'a str {
    loop {
        tree = tree.trim_start();
        if let Some(mut group) = tree.strip_prefix('{') {
            loop {
                group = group.trim_start();
                if let Some(rest) = group.strip_prefix('}') {
                    return rest;
                }
                let rest = expand(group, path.clone(), emit);
                let rest = rest.trim_start();
                group = rest.strip_prefix(',').unwrap_or(rest);
                if group.len() == rest.len() && !group.starts_with('}') {
                    return group; // not a tree that Rust would accept; rustc says so better
                }
            }
        }
        let name: &str = tree.split(|c| !is_name(c)).next().unwrap_or_default();
        tree = &tree[name.len()..];
        if !name.is_empty() && name != "self" {
            path.push(name.to_owned());
        }
        match tree.strip_prefix("::") {
            Some(rest) if !name.is_empty() => tree = rest,
            _ => break,
        }
    }
    let mut rest = tree.strip_prefix('*').unwrap_or(tree);
    if let Some(alias) = rest.trim_start().strip_prefix("as ") {
        let alias = alias.trim_start();
        let name: &str = alias.split(|c| !is_name(c)).next().unwrap_or_default();
        rest = &alias[name.len()..];
    }
    emit(path);
    rest
}

fn next_root(code: &str, from: usize) -> Option<(usize, &'static str)> {
    ["crate", "self", "super"]
        .iter()
        .filter_map(|root| {
            let found = code[from..].match_indices(root).map(|(at, _)| from + at).find(|&at| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|c| is_name(c) || c == ':' || c == '$') && code[at + root.len()..].starts_with("::")
            });
            found.map(|at| (at, *root))
        })
        .min()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' if !is_name(before) || matches!(before, 'b' | 'c') => raw_string(rest).unwrap_or(0),
            '"' => quoted(rest, '"'),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(c);
            before = c;
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if c != '/' {
            out.push('"'); // a literal is code, its contents are not
        }
        out.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
        before = '"';
        rest = &rest[skipped..];
    }
    out
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|&b| b == b'#').count();
    let opening = 1 + hashes;
    if text.as_bytes().get(opening) != Some(&b'"') {
        return None;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let body = &text[opening + 1..];
    Some(body.find(&closing).map_or(text.len(), |at| opening + 1 + at + closing.len()))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal, 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => quoted(text, '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

/// Blanks every item behind `#[cfg(test)]`: up to its closing brace, or to a semicolon that comes first.
fn without_tests(code: String) -> String {
    const MARKER: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code.as_str();
    while let Some(at) = rest.find(MARKER) {
        out += &rest[..at];
        let item = &rest[at..];
        let mut depth = 0;
        let end = item.char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0 && matches!(c, '}' | ';')).then_some(at + 1)
        });
        let end = end.unwrap_or(item.len());
        out.extend(item[..end].chars().filter(|&c| c == '\n'));
        rest = &item[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_leaves_out_comments_literals_and_tests() {
        for (text, expected) in [
            ("a // unsafe\nb", "a \nb"),
            ("a /* x /* y */ z */ b", "a  b"),
            (r#"f("// \" {", 'x', '\'', b"y")"#, r#"f(", ", ", b")"#),
            ("f(r#\"a \" b\"#, r\"c\")", "f(\", \")"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("a\n#[cfg(test)]\nmod tests {\n  { }\n}\nb", "a\n\n\n\n\nb"),
            ("#[cfg(test)]\nmod tests;\nb", "\n\nb"),
            ("\"two\nlines\" x", "\"\n x"),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn mentions_are_whole_words() {
        for (code, word, found) in [
            ("use rand::rng;", "rand", true),
            ("fn operand()", "rand", false),
            ("random()", "rand", false),
            ("x: std::net::IpAddr", "std::net", true),
            ("x: std::network", "std::net", false),
        ] {
            assert_eq!(mentions(code, word), found, "{word} in {code}");
        }
    }

    #[test]
    fn crate_paths_are_taken_apart() {
        for (code, expected) in [
            ("use crate::hub::Hub;", vec!["hub::Hub"]),
            ("use crate::{hub::{Hub, self}, outbox, Error as E};", vec!["hub::Hub", "hub", "outbox", "Error"]),
            ("use super::frame::*;", vec!["transport::frame"]),
            ("use super::super::join::Join;", vec!["join::Join"]),
            ("let x: crate::event::Event = self::y::z();", vec!["event::Event", "transport::websocket::y::z"]),
            ("pub(crate) fn f(&self) { $crate::x(); othercrate::y() }", vec![]),
        ] {
            let paths: Vec<String> =
                crate_paths(code, &["transport", "websocket"]).iter().map(|m| m.path.join("::")).collect();
            assert_eq!(paths, expected, "{code}");
        }
    }

    #[test]
    fn reexports_name_their_module() {
        let exports = reexports("pub use crate::error::Error;\npub use channel::{Channel, reply::Reply};\nuse x::Y;");
        let exports: Vec<String> = exports.iter().map(|(name, module)| format!("{module}/{name}")).collect();
        assert_eq!(exports, ["error/Error", "channel/Channel", "channel/Reply"]);
    }
}
