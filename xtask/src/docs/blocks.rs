//! The fenced blocks of a Markdown page.

/// A fenced block: ```` ```sh server ```` and what follows up to the closing fence.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// Of the opening fence, counted from 1.
    pub(super) line: usize,
    pub(super) language: String,
    /// The words behind the language.
    words: Vec<String>,
    pub(super) text: String,
}

impl Block {
    pub(super) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }

    pub(super) fn is(&self, language: &str, word: &str) -> bool {
        self.language == language && self.has(word)
    }

    /// The value of a word of the form `name:value`.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'))
    }
}

/// All blocks of a page. A block without a language or without an end is an error.
pub(super) fn parse(page: &str) -> Result<Vec<Block>, String> {
    const FENCE: &str = "```";
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in page.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        match (&mut open, line.trim_start().strip_prefix(FENCE)) {
            (Some(block), None) => {
                block.text += line;
                block.text.push('\n');
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(info)) => {
                let mut words = info.split([' ', ',']).map(str::to_owned).filter(|word| !word.is_empty());
                let language = words.next().ok_or(format!("line {number}: a block without a language"))?;
                open = Some(Block { line: number, language, words: words.collect(), text: String::new() });
            }
            (None, None) => {}
        }
    }
    match open {
        Some(block) => Err(format!("line {}: a block without an end", block.line)),
        None => Ok(blocks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_page() {
        let page = "# Title\n```sh server\na\n  b\n```\ntext\n```toml file:x.toml\n```\n";
        let blocks = parse(page).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].line, blocks[0].text.as_str()), (2, "a\n  b\n"));
        assert!(blocks[0].is("sh", "server") && !blocks[0].is("sh", "output"));
        assert_eq!(blocks[1].attribute("file"), Some("x.toml"));
        for bad in ["```\nx\n```\n", "```sh\nx\n"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
