//! The blocks of a Markdown page that are made here, between `<!-- made by compare: NAME -->` and `<!-- end -->`.

const END: &str = "<!-- end -->";

/// The page with the text of one block replaced.
pub(crate) fn replace(page: &str, name: &str, text: &str) -> Result<String, String> {
    let begin = format!("<!-- made by compare: {name} -->\n");
    let missing = |what: &str| format!("the page has no `{what}` for the block {name}");
    let (before, behind) = page.split_once(&begin).ok_or_else(|| missing(begin.trim()))?;
    let (_, after) = behind.split_once(END).ok_or_else(|| missing(END))?;
    Ok(format!("{before}{begin}{}\n{END}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_replaced() {
        let page =
            "a\n<!-- made by compare: x -->\nold\nolder\n<!-- end -->\nb\n<!-- made by compare: y -->\n<!-- end -->\n";
        let once = replace(page, "x", "new\n").unwrap();
        assert_eq!(once, page.replace("old\nolder\n", "new\n"));
        assert_eq!(replace(&once, "x", "new").unwrap(), once);
        assert!(replace(page, "y", "z").unwrap().contains("compare: y -->\nz\n<!-- end -->"));
        assert!(replace(page, "z", "").is_err());
        assert!(replace("<!-- made by compare: x -->\n", "x", "").is_err());
    }
}
