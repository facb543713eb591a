//! The fenced blocks of README, and who runs them.

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Line of its fence, for messages.
    pub line: usize,
    /// Word behind the fence.
    pub kind: String,
    /// What a comment `<!-- as … -->` above it says; empty: a superuser.
    pub role: String,
    /// What stands in it, without the indentation of a list.
    pub text: String,
}

impl Block {
    /// Whether it has a piece of text.
    pub fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

/// All of them, in order. Statements between backticks in a sentence count as blocks too.
pub fn of(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(Block, usize)> = None;
    let mut role = String::new();
    for (number, line) in document.lines().enumerate() {
        let text = line.trim_start();
        let fence = text.strip_prefix("```");
        match (&mut open, fence) {
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
            (Some((block, indent)), None) => {
                block.text.push_str(line.get(*indent..).unwrap_or(text));
                block.text.push('\n');
            }
            (None, Some(kind)) => {
                let block = Block {
                    line: number + 1,
                    kind: kind.to_owned(),
                    role: std::mem::take(&mut role),
                    text: String::new(),
                };
                open = Some((block, line.len() - text.len()));
            }
            (None, None) => {
                if let Some(who) = text.strip_prefix("<!-- as ") {
                    role = who.trim_end_matches("-->").trim().to_owned();
                }
                blocks.extend(statements(line).map(|text| Block {
                    line: number + 1,
                    kind: "sql".to_owned(),
                    role: String::new(),
                    text: text.to_owned(),
                }));
            }
        }
    }
    assert!(open.is_none(), "README ends inside a block");
    blocks
}

/// Whole statements between backticks.
fn statements(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter(|span| span.starts_with("SELECT ") && span.ends_with(';'))
}
