//! RE2 syntax, in which users write, put in the words of `regex-syntax`.
//!
//! Where the two differ: `\d`, `\s`, `\w`, `\b` are ASCII in RE2; a brace that is no repetition is a literal there; its
//! classes have no `&&`, `--`, `~~` and no nested `[`; it has `\Q…\E`, octal escapes and `\C`; any escaped punctuation
//! stands for itself.
//!
//! A leaf: whoever checks a pattern and whoever prepares it must read it in the same way.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\x0C\r ";

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

/// As deep as a pattern may be nested.
const NEST_LIMIT: u32 = 128;

/// What a pattern means; else, in a line, why it means nothing.
pub(crate) fn parse(text: &str) -> Result<Hir, String> {
    let translated = to_rust(text)?;
    let mut parser = ParserBuilder::new().utf8(false).nest_limit(NEST_LIMIT).build();
    parser.parse(&translated).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
    })
}

/// The same pattern for `regex-syntax`. Errors are left to its parser, except those that translation would hide.
fn to_rust(text: &str) -> Result<String, String> {
    let mut translator = Translator { rest: text.chars().peekable(), out: String::with_capacity(text.len() + 8) };
    while let Some(char) = translator.rest.next() {
        match char {
            '\\' => translator.escape()?,
            '[' => translator.class()?,
            '{' => translator.brace(),
            '}' => translator.out.push_str(r"\}"),
            other => translator.out.push(other),
        }
    }
    Ok(translator.out)
}

impl Translator<'_> {
    fn literal(&mut self, char: char) {
        if char.is_alphanumeric() || char == '_' || !char.is_ascii() {
            self.out.push(char);
        } else {
            let _ = write!(self.out, r"\x{{{:X}}}", u32::from(char));
        }
    }

    /// Behind a backslash, outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        let Some(char) = self.rest.next() else { return Err("a lone \\ at the end".to_owned()) };
        match char {
            'Q' => self.quoted(),
            'd' => self.set("", DIGIT),
            'D' => self.set("^", DIGIT),
            'w' => self.set("", WORD),
            'W' => self.set("^", WORD),
            's' => self.set("", SPACE),
            'S' => self.set("^", SPACE),
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' => self.out.push_str(r"(?-u:\B)"),
            'C' => self.out.push_str("(?s-u:.)"),
            other => return self.simple_escape(other),
        }
        Ok(())
    }

    fn set(&mut self, negation: &str, members: &str) {
        let _ = write!(self.out, "[{negation}{members}]");
    }

    /// An escape that means one character, or something both dialects share.
    fn simple_escape(&mut self, char: char) -> Result<(), String> {
        match char {
            '0'..='7' => {
                let first = char.to_digit(8).unwrap_or(0);
                let mut value = first;
                let mut digits = 1;
                while digits < 3 {
                    let Some(digit) = self.rest.peek().and_then(|next| next.to_digit(8)) else { break };
                    value = value * 8 + digit;
                    digits += 1;
                    self.rest.next();
                }
                if digits == 1 && first != 0 {
                    return Err("backreferences are not supported".to_owned());
                }
                let _ = write!(self.out, r"\x{{{value:X}}}");
            }
            '8' | '9' => return Err("backreferences are not supported".to_owned()),
            'A' | 'z' | 'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'x' | 'p' | 'P' => {
                self.out.push('\\');
                self.out.push(char);
                self.braced();
            }
            other if other.is_ascii_alphabetic() => return Err(format!(r"\{other} is no escape")),
            other => self.literal(other),
        }
        Ok(())
    }

    /// `{…}` of `\x{10FFFF}` or `\p{Greek}`, as it stands.
    fn braced(&mut self) {
        if self.rest.peek() != Some(&'{') {
            return;
        }
        for char in self.rest.by_ref() {
            self.out.push(char);
            if char == '}' {
                return;
            }
        }
    }

    /// `\Q…\E`
    fn quoted(&mut self) {
        while let Some(char) = self.rest.next() {
            if char == '\\' && self.rest.peek() == Some(&'E') {
                self.rest.next();
                return;
            }
            self.literal(char);
        }
    }

    /// `{2}`, `{2,}`, `{2,3}` repeat; any other brace is a literal.
    fn brace(&mut self) {
        let ahead: String = self.rest.clone().take_while(|char| *char != '}').take(16).collect();
        let closed = self.rest.clone().nth(ahead.chars().count()) == Some('}');
        let (low, high) = ahead.split_once(',').unwrap_or((&ahead, "0"));
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if closed && !low.is_empty() && number(low) && number(high) {
            let _ = write!(self.out, "{{{ahead}}}");
            for _ in 0..=ahead.chars().count() {
                self.rest.next();
            }
        } else {
            self.out.push_str(r"\{");
        }
    }

    /// Behind the opening bracket of a class.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(char) = self.rest.next() else { return Err("a class is not closed".to_owned()) };
            match char {
                ']' if !first => break,
                '[' if self.rest.peek() == Some(&':') => self.named_class(),
                '\\' => self.class_escape()?,
                other => self.literal(other),
            }
            first = false;
            self.range()?;
        }
        self.out.push(']');
        Ok(())
    }

    /// `-z` behind the member of a class. A minus before the closing bracket is a literal, which `class` sees next.
    fn range(&mut self) -> Result<(), String> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), Some(']') | None) {
            return Ok(());
        }
        self.rest.next();
        self.out.push('-');
        match self.rest.next() {
            Some('\\') => self.class_escape(),
            Some(other) => {
                self.literal(other);
                Ok(())
            }
            None => Err("a class is not closed".to_owned()),
        }
    }

    /// `[:alpha:]`; its opening bracket is read already.
    fn named_class(&mut self) {
        let ahead: String = self.rest.clone().take_while(|char| *char != ']').collect();
        let name = ahead.strip_prefix(':').and_then(|inner| inner.strip_suffix(':'));
        if name.is_some_and(|name| !name.is_empty()) {
            let _ = write!(self.out, "[{ahead}]");
            for _ in 0..=ahead.chars().count() {
                self.rest.next();
            }
        } else {
            self.out.push_str(r"\[");
        }
    }

    fn class_escape(&mut self) -> Result<(), String> {
        let Some(char) = self.rest.next() else { return Err("a class is not closed".to_owned()) };
        match char {
            'd' => self.out.push_str(DIGIT),
            'w' => self.out.push_str(WORD),
            's' => self.out.push_str(SPACE),
            'D' => self.set("^", DIGIT),
            'W' => self.set("^", WORD),
            'S' => self.set("^", SPACE),
            'Q' => self.quoted(),
            other => return self.simple_escape(other),
        }
        Ok(())
    }
}
