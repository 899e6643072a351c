//! From the text of an expression to its tree.

use crate::expression::{Expression, Function, Operator, Table};
use crate::number;

/// How many operands, operators and parentheses an expression may have: it is walked recursively.
const LARGEST: usize = 200;

/// Parses an expression; the error says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Expression, String> {
    let mut parser = Parser {
        tokens: Tokens { rest: text },
        next: Token::End,
        size: 0,
    };
    parser.advance()?;
    let expression = parser.expression(0)?;
    match parser.next {
        Token::End => Ok(expression),
        other => Err(format!("unexpected {}", other.shown())),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    End,
    Name(&'a str),
    Number(f64),
    Text(Vec<u8>),
    Sign(&'static str),
}

impl Token<'_> {
    fn shown(&self) -> String {
        match self {
            Token::End => "end".to_owned(),
            Token::Name(name) => format!("'{name}'"),
            Token::Number(n) => format!("'{}'", number::text(*n)),
            Token::Text(text) => format!("text '{}'", String::from_utf8_lossy(text)),
            Token::Sign(sign) => format!("'{sign}'"),
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

/// The longer ones first.
const SIGNS: [&str; 22] = [
    "...", "==", "~=", "<=", ">=", "..", "(", ")", "[", "]", ".", ":", ",", "#", "+", "-", "*",
    "/", "%", "^", "<", ">",
];

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Result<Token<'a>, String> {
        self.rest = self.rest.trim_ascii_start();
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        if first.is_ascii_alphabetic() || first == '_' {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            return Ok(Token::Name(self.take_while(word)));
        }
        let second = self.rest[first.len_utf8()..].chars().next();
        if first.is_ascii_digit() || first == '.' && second.is_some_and(|c| c.is_ascii_digit()) {
            return self.number();
        }
        if matches!(first, '"' | '\'') {
            return self.text(first);
        }
        if self.rest.starts_with("--") {
            return Err("comments are not supported".to_owned());
        }
        match SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.rest = &self.rest[sign.len()..];
                Ok(Token::Sign(sign))
            }
            None => Err(format!("unexpected '{first}'")),
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn number(&mut self) -> Result<Token<'a>, String> {
        let start = self.rest;
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        let mut length = start.len() - self.rest.len();
        let hex = start.get(..2).is_some_and(|s| s.eq_ignore_ascii_case("0x"));
        let exponent = start[..length].ends_with(['e', 'E']) && !hex;
        if exponent && self.rest.starts_with(['+', '-']) {
            self.rest = &self.rest[1..];
            self.take_while(|c| c.is_ascii_digit());
            length = start.len() - self.rest.len();
        }
        let text = &start[..length];
        match number::parse(text.as_bytes()) {
            Some(n) => Ok(Token::Number(n)),
            None => Err(format!("malformed number '{text}'")),
        }
    }

    /// A text between quotes.
    fn text(&mut self, quote: char) -> Result<Token<'a>, String> {
        let mut out = Vec::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Ok(Token::Text(out));
                }
                '\n' => break,
                '\\' => {
                    let Some((_, escaped)) = chars.next() else {
                        break;
                    };
                    match escaped {
                        'a' => out.push(7),
                        'b' => out.push(8),
                        'f' => out.push(12),
                        'n' | '\n' => out.push(b'\n'),
                        'r' => out.push(b'\r'),
                        't' => out.push(b'\t'),
                        'v' => out.push(11),
                        '\\' | '"' | '\'' => out.push(escaped as u8),
                        'x' => {
                            let mut digit = || chars.next().and_then(|(_, c)| c.to_digit(16));
                            let (Some(high), Some(low)) = (digit(), digit()) else {
                                return Err("invalid escape sequence '\\x'".to_owned());
                            };
                            // Two digits of 16 are a byte.
                            out.push((high * 16 + low) as u8);
                        }
                        '0'..='9' => {
                            let mut value = u32::from(escaped as u8 - b'0');
                            for _ in 0..2 {
                                let mut ahead = chars.clone();
                                let digit = ahead.next().and_then(|(_, c)| c.to_digit(10));
                                let Some(digit) = digit else { break };
                                value = value * 10 + digit;
                                chars = ahead;
                            }
                            let byte = u8::try_from(value);
                            out.push(
                                byte.map_err(|_| format!("invalid escape sequence '\\{value}'"))?,
                            );
                        }
                        other => return Err(format!("invalid escape sequence '\\{other}'")),
                    }
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Err("unfinished string".to_owned())
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    next: Token<'a>,
    size: usize,
}

/// A binary operator.
#[derive(Clone, Copy)]
enum Between {
    Or,
    And,
    Join,
    Other(Operator),
}

/// How strongly signs in front of an operand bind.
const UNARY: u8 = 8;

impl<'a> Parser<'a> {
    fn advance(&mut self) -> Result<Token<'a>, String> {
        let next = self.tokens.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// Whether that sign comes next; it is then taken.
    fn takes(&mut self, sign: &str) -> Result<bool, String> {
        let found = matches!(self.next, Token::Sign(s) if s == sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign)? {
            return Ok(());
        }
        Err(format!("'{sign}' expected near {}", self.next.shown()))
    }

    fn grow(&mut self) -> Result<(), String> {
        self.size += 1;
        if self.size > LARGEST {
            return Err("the expression is too long".to_owned());
        }
        Ok(())
    }

    /// An expression of operators that bind more strongly than `least`.
    fn expression(&mut self, least: u8) -> Result<Expression, String> {
        self.grow()?;
        let mut left = match self.next {
            Token::Name("not") => {
                self.advance()?;
                Expression::Not(self.expression(UNARY)?.into())
            }
            Token::Sign("-") => {
                self.advance()?;
                Expression::Negated(self.expression(UNARY)?.into())
            }
            Token::Sign("#") => {
                self.advance()?;
                Expression::Length(self.expression(UNARY)?.into())
            }
            _ => self.operand()?,
        };
        while let Some((operator, left_power, right_power)) = self.operator()
            && left_power > least
        {
            self.advance()?;
            let right = self.expression(right_power)?;
            left = match operator {
                Between::Or => Expression::Or(left.into(), right.into()),
                Between::And => Expression::And(left.into(), right.into()),
                Between::Join => match right {
                    Expression::Joined(mut all) => {
                        all.insert(0, left);
                        Expression::Joined(all)
                    }
                    right => Expression::Joined(vec![left, right]),
                },
                Between::Other(o) => Expression::Binary(o, left.into(), right.into()),
            };
        }
        Ok(left)
    }

    /// The operator that comes next, and how strongly it binds to its left and right.
    fn operator(&self) -> Option<(Between, u8, u8)> {
        use Operator as O;
        let other = |o, power| Some((Between::Other(o), power, power));
        match self.next {
            Token::Name("or") => Some((Between::Or, 1, 1)),
            Token::Name("and") => Some((Between::And, 2, 2)),
            Token::Sign("==") => other(O::Equal, 3),
            Token::Sign("~=") => other(O::Unequal, 3),
            Token::Sign("<") => other(O::Less, 3),
            Token::Sign("<=") => other(O::LessOrEqual, 3),
            Token::Sign(">") => other(O::Greater, 3),
            Token::Sign(">=") => other(O::GreaterOrEqual, 3),
            Token::Sign("..") => Some((Between::Join, 5, 4)),
            Token::Sign("+") => other(O::Add, 6),
            Token::Sign("-") => other(O::Subtract, 6),
            Token::Sign("*") => other(O::Multiply, 7),
            Token::Sign("/") => other(O::Divide, 7),
            Token::Sign("%") => other(O::Modulo, 7),
            Token::Sign("^") => Some((Between::Other(O::Power), 10, 9)),
            _ => None,
        }
    }

    fn operand(&mut self) -> Result<Expression, String> {
        match self.advance()? {
            Token::Number(n) => Ok(Expression::Number(n)),
            Token::Text(text) => Ok(Expression::Text(text.into())),
            Token::Name("nil") => Ok(Expression::Nil),
            Token::Name("true") => Ok(Expression::Boolean(true)),
            Token::Name("false") => Ok(Expression::Boolean(false)),
            Token::Name(name) => {
                let first = self.named(name)?;
                self.suffixes(first)
            }
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                self.suffixes(inner)
            }
            other => Err(format!("unexpected {}", other.shown())),
        }
    }

    /// What a name stands for.
    fn named(&mut self, name: &str) -> Result<Expression, String> {
        match name {
            "headers" => Ok(Expression::Table(Table::Headers)),
            "query_params" => Ok(Expression::Table(Table::Query)),
            "uri_captures" => Ok(Expression::Table(Table::Captures)),
            "shared" => Ok(Expression::Table(Table::Shared)),
            "type" => {
                let arguments = self.arguments()?;
                self.call(name, Function::Type, arguments)
            }
            "string" => {
                self.expect(".")?;
                let (name, function) = self.function()?;
                let arguments = self.arguments()?;
                self.call(name, function, arguments)
            }
            _ => Err(format!(
                "unknown name '{name}': there are headers, query_params, uri_captures, shared, type and string"
            )),
        }
    }

    /// Indices and calls after an operand.
    fn suffixes(&mut self, mut operand: Expression) -> Result<Expression, String> {
        loop {
            if self.takes(".")? {
                self.grow()?;
                let Token::Name(name) = self.advance()? else {
                    return Err("a name expected after '.'".to_owned());
                };
                operand = Expression::index(operand, Expression::Text(name.as_bytes().into()));
            } else if self.takes("[")? {
                let key = self.expression(0)?;
                self.expect("]")?;
                operand = Expression::index(operand, key);
            } else if self.takes(":")? {
                self.grow()?;
                let (name, function) = self.function()?;
                let mut arguments = self.arguments()?;
                arguments.insert(0, operand);
                operand = self.call(name, function, arguments)?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// The name of a function that texts have.
    fn function(&mut self) -> Result<(&'a str, Function), String> {
        let Token::Name(name) = self.advance()? else {
            return Err("the name of a function expected".to_owned());
        };
        match Function::of_text(name) {
            Some(function) => Ok((name, function)),
            None => Err(format!(
                "unknown function '{name}': there are len, lower, sub and upper"
            )),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expression>, String> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        if self.takes(")")? {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression(0)?);
            if !self.takes(",")? {
                break;
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }

    fn call(
        &self,
        name: &str,
        function: Function,
        arguments: Vec<Expression>,
    ) -> Result<Expression, String> {
        if !function.takes(arguments.len()) {
            return Err(format!("wrong number of arguments to '{name}'"));
        }
        Ok(Expression::Call(function, arguments))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tree(text: &str) -> String {
        format!("{:?}", parse(text).unwrap())
    }

    #[test]
    fn operators_bind_as_in_lua() {
        for (text, parenthesised) in [
            ("1 or 2 and 3", "1 or (2 and 3)"),
            ("1 and 2 or 3", "(1 and 2) or 3"),
            ("1 .. 2 == 3", "(1 .. 2) == 3"),
            ("1 + 2 .. 3 * 4", "(1 + 2) .. (3 * 4)"),
            ("1 - 2 - 3", "(1 - 2) - 3"),
            ("2 ^ 3 ^ 2", "2 ^ (3 ^ 2)"),
            ("-2 ^ 2", "-(2 ^ 2)"),
            ("not 1 == 2", "(not 1) == 2"),
            ("#'a' + 1", "(#'a') + 1"),
            ("1 or 2 or 3", "(1 or 2) or 3"),
            ("(headers).a", "headers.a"),
            ("headers['a']", "headers . a"),
            ("string.sub(shared.a, 2)", "shared.a:sub(2)"),
        ] {
            assert_eq!(tree(text), tree(parenthesised), "{text}");
        }
    }

    #[test]
    fn texts_and_numbers_are_those_of_lua() {
        let text = |text: &str| match parse(text).unwrap() {
            Expression::Text(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(r#""a'\"\n\65\0665\x41""#), b"a'\"\nAB5A");
        assert_eq!(text("'ä\"'"), "ä\"".as_bytes());
        for (written, n) in [("0x10", 16.0), ("1e+2", 100.0), (".5", 0.5), ("3", 3.0)] {
            assert_eq!(parse(written), Ok(Expression::Number(n)));
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        for (text, why) in [
            ("", "unexpected end"),
            ("uri_captures user2", "unexpected 'user2'"),
            ("shared.written = true", "unexpected '='"),
            (
                "a(",
                "unknown name 'a': there are headers, query_params, uri_captures, shared, type and string",
            ),
            (
                "headers.x:gsub('a', 'b')",
                "unknown function 'gsub': there are len, lower, sub and upper",
            ),
            ("headers.x:lower(1)", "wrong number of arguments to 'lower'"),
            ("headers.x:sub()", "wrong number of arguments to 'sub'"),
            ("type", "'(' expected near end"),
            ("(1", "')' expected near end"),
            ("headers[1", "']' expected near end"),
            ("headers.", "a name expected after '.'"),
            ("headers()", "unexpected '('"),
            ("'a", "unfinished string"),
            (r"'\q'", r"invalid escape sequence '\q'"),
            (r"'\300'", r"invalid escape sequence '\300'"),
            ("1x", "malformed number '1x'"),
            ("1 -- 2", "comments are not supported"),
            ("...", "unexpected '...'"),
            ("{}", "unexpected '{'"),
            ("1 +", "unexpected end"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
        let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(parse(&deep).unwrap_err(), "the expression is too long");
        let long = format!("1{}", "+1".repeat(100_000));
        assert_eq!(parse(&long).unwrap_err(), "the expression is too long");
    }
}
