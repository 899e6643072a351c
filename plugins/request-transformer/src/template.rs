//! Values with `$(expressions)` in them. Learnt from `kong/plugins/request-transformer/access.lua` and Penlight's `pl.template`.

use std::borrow::Cow;

use silverback_plugin::PluginError;

use crate::environment::Scope;
use crate::expression::{Expression, Value};
use crate::parser;

/// A value, parsed once.
#[derive(Debug)]
pub(crate) enum Template {
    /// Without expressions.
    Fixed(Box<[u8]>),
    /// Pieces, one after the other.
    Pieces(Box<[Piece]>),
}

/// A piece of a template.
#[derive(Debug)]
pub(crate) enum Piece {
    Text(Box<[u8]>),
    Expression(Expression),
}

impl Template {
    /// The template of a text. The error says what is wrong with one of its expressions.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut fixed = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("$(") {
            let Some(end) = closing(&rest[at + 1..]) else {
                // Never closed, not here at least: text like any other.
                fixed.push_str(&rest[..at + 2]);
                rest = &rest[at + 2..];
                continue;
            };
            fixed.push_str(&rest[..at]);
            if !fixed.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut fixed).into_bytes().into()));
            }
            let inner = &rest[at + 2..at + 1 + end];
            pieces.push(Piece::Expression(parser::parse(inner)?));
            rest = &rest[at + 2 + end..];
        }
        fixed.push_str(rest);
        if pieces.is_empty() {
            return Ok(Template::Fixed(fixed.into_bytes().into()));
        }
        if !fixed.is_empty() {
            pieces.push(Piece::Text(fixed.into_bytes().into()));
        }
        Ok(Template::Pieces(pieces.into()))
    }

    /// The text that it is, if it has no expressions.
    pub(crate) fn fixed(&self) -> Option<&[u8]> {
        match self {
            Template::Fixed(text) => Some(text),
            Template::Pieces(_) => None,
        }
    }

    /// The text that it begins with, whatever its expressions come to; `None` when it begins with one.
    pub(crate) fn begins_with(&self) -> Option<&[u8]> {
        match self {
            Template::Fixed(text) => Some(text),
            Template::Pieces(pieces) => match pieces.first() {
                Some(Piece::Text(text)) => Some(text),
                _ => None,
            },
        }
    }

    /// The value for a request. What is `nil` or `false` is no text at all.
    pub(crate) fn render(&self, scope: Scope<'_>) -> Result<Cow<'_, [u8]>, PluginError> {
        let pieces = match self {
            Template::Fixed(text) => return Ok(Cow::Borrowed(text)),
            Template::Pieces(pieces) => pieces,
        };
        let mut out = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Expression(expression) => expression.evaluate(scope)?.show(&mut out)?,
            }
        }
        Ok(Cow::Owned(out))
    }
}

impl Value<'_> {
    /// Appends the value as it is shown. Of several values, which Kong shows as the address of a table, all, with commas.
    fn show(&self, out: &mut Vec<u8>) -> Result<(), PluginError> {
        match self {
            Value::Nil | Value::Boolean(false) => {}
            Value::Boolean(true) => out.extend_from_slice(b"true"),
            Value::Number(n) => out.extend_from_slice(crate::number::text(*n).as_bytes()),
            Value::Text(text) => out.extend_from_slice(text),
            Value::List(all) => {
                for (n, one) in all.iter().enumerate() {
                    if n > 0 {
                        out.extend_from_slice(b", ");
                    }
                    one.show(out)?;
                }
            }
            Value::Table(table) => {
                let name = table.name();
                return Err(PluginError::new(format!(
                    "template: '{name}' is a table, not a text"
                )));
            }
        }
        Ok(())
    }
}

/// Where the parenthesis closes that the text begins with. As in Lua, those in strings count.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'(' => open += 1,
            b')' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}
