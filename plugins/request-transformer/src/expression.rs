//! The expressions of templates: a part of Lua's, without statements, tables and functions of one's own.

use std::borrow::Cow;

use http::header::HeaderName;
use silverback_plugin::PluginError;

use crate::environment::Scope;
use crate::number;

/// An expression, parsed.
#[derive(Debug, PartialEq)]
pub(crate) enum Expression {
    Nil,
    Boolean(bool),
    Number(f64),
    Text(Box<[u8]>),
    /// One of the tables that a template can look at.
    Table(Table),
    /// `headers.name`, by the names it may go by.
    Header(Box<[HeaderName]>),
    /// `query_params.name`.
    Argument(Box<[u8]>),
    /// `uri_captures.name`.
    NamedCapture(Box<[u8]>),
    /// `uri_captures[1]`.
    NumberedCapture(usize),
    Index(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Negated(Box<Expression>),
    Length(Box<Expression>),
    Joined(Vec<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
}

/// What a template can look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Table {
    Headers,
    Query,
    Captures,
    /// What plugins tell each other in Kong; here nobody writes into it.
    Shared,
}

/// An operator whose sides are both looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A function: `type`, and what texts have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Function {
    Type,
    Len,
    Lower,
    Sub,
    Upper,
}

/// A value of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Nil,
    Boolean(bool),
    Number(f64),
    Text(Cow<'a, [u8]>),
    /// Several values of one name.
    List(Vec<Value<'a>>),
    Table(Table),
}

impl Expression {
    /// `base[key]`, as directly as can be.
    pub(crate) fn index(base: Expression, key: Expression) -> Expression {
        match (base, key) {
            (Expression::Table(Table::Headers), Expression::Text(name)) => {
                Expression::Header(spellings(&name).into())
            }
            (Expression::Table(Table::Query), Expression::Text(name)) => Expression::Argument(name),
            (Expression::Table(Table::Captures), Expression::Text(name)) => {
                Expression::NamedCapture(name)
            }
            (Expression::Table(Table::Captures), Expression::Number(n)) => {
                whole(n).map_or(Expression::Nil, Expression::NumberedCapture)
            }
            (base, key) => Expression::Index(base.into(), key.into()),
        }
    }

    /// The value for a request.
    pub(crate) fn evaluate<'s>(&'s self, scope: Scope<'s>) -> Result<Value<'s>, PluginError> {
        Ok(match self {
            Expression::Nil => Value::Nil,
            Expression::Boolean(b) => Value::Boolean(*b),
            Expression::Number(n) => Value::Number(*n),
            Expression::Text(text) => Value::text(text),
            Expression::Table(table) => Value::Table(*table),
            Expression::Header(names) => scope.header(names),
            Expression::Argument(name) => scope.argument(name),
            Expression::NamedCapture(name) => scope.named_capture(name),
            Expression::NumberedCapture(number) => scope.numbered_capture(*number),
            Expression::Index(base, key) => {
                let base = base.evaluate(scope)?;
                let key = key.evaluate(scope)?;
                base.get(&key, scope)?
            }
            Expression::Or(a, b) => match a.evaluate(scope)? {
                value if value.holds() => value,
                _ => b.evaluate(scope)?,
            },
            Expression::And(a, b) => match a.evaluate(scope)? {
                value if value.holds() => b.evaluate(scope)?,
                value => value,
            },
            Expression::Not(a) => Value::Boolean(!a.evaluate(scope)?.holds()),
            Expression::Negated(a) => Value::Number(-a.evaluate(scope)?.number()?),
            Expression::Length(a) => match a.evaluate(scope)? {
                Value::Text(text) => Value::Number(text.len() as f64),
                Value::List(all) => Value::Number(all.len() as f64),
                other => return Err(attempt("get length of", &other)),
            },
            Expression::Joined(all) => {
                let mut out = Vec::new();
                for one in all {
                    match one.evaluate(scope)? {
                        Value::Text(text) => out.extend_from_slice(&text),
                        Value::Number(n) => out.extend_from_slice(number::text(n).as_bytes()),
                        other => return Err(attempt("concatenate", &other)),
                    }
                }
                Value::Text(Cow::Owned(out))
            }
            Expression::Binary(operator, a, b) => {
                operator.apply(&a.evaluate(scope)?, &b.evaluate(scope)?)?
            }
            Expression::Call(function, arguments) => {
                let arguments = arguments.iter().map(|a| a.evaluate(scope));
                function.call(&arguments.collect::<Result<Vec<_>, _>>()?)?
            }
        })
    }
}

impl Operator {
    fn apply(self, a: &Value<'_>, b: &Value<'_>) -> Result<Value<'static>, PluginError> {
        let numbers = || Ok((a.number()?, b.number()?));
        Ok(match self {
            Operator::Equal => Value::Boolean(a == b),
            Operator::Unequal => Value::Boolean(a != b),
            Operator::Less => Value::Boolean(less(a, b)?),
            Operator::Greater => Value::Boolean(less(b, a)?),
            Operator::LessOrEqual => Value::Boolean(less_or_equal(a, b)?),
            Operator::GreaterOrEqual => Value::Boolean(less_or_equal(b, a)?),
            arithmetic => {
                let (x, y) = numbers()?;
                Value::Number(match arithmetic {
                    Operator::Add => x + y,
                    Operator::Subtract => x - y,
                    Operator::Multiply => x * y,
                    Operator::Divide => x / y,
                    Operator::Modulo => x - (x / y).floor() * y,
                    _ => x.powf(y),
                })
            }
        })
    }
}

impl Function {
    /// The function of a text with that name.
    pub(crate) fn of_text(name: &str) -> Option<Function> {
        Some(match name {
            "len" => Function::Len,
            "lower" => Function::Lower,
            "sub" => Function::Sub,
            "upper" => Function::Upper,
            _ => return None,
        })
    }

    /// How many arguments it takes.
    pub(crate) fn takes(self, arguments: usize) -> bool {
        match self {
            Function::Sub => (2..=3).contains(&arguments),
            _ => arguments == 1,
        }
    }

    fn call(self, arguments: &[Value<'_>]) -> Result<Value<'static>, PluginError> {
        let first = arguments.first().unwrap_or(&Value::Nil);
        if self == Function::Type {
            return Ok(Value::text(first.kind().as_bytes()));
        }
        let text = match first {
            Value::Text(text) => text.clone(),
            Value::Number(n) => Cow::Owned(number::text(*n).into_bytes()),
            other => return Err(attempt("index", other)),
        };
        Ok(match self {
            Function::Len => Value::Number(text.len() as f64),
            Function::Lower => Value::Text(text.to_ascii_lowercase().into()),
            Function::Upper => Value::Text(text.to_ascii_uppercase().into()),
            Function::Type | Function::Sub => {
                let place = |n: usize, otherwise: f64| match arguments.get(n) {
                    None | Some(Value::Nil) => Ok(otherwise),
                    Some(value) => value.number(),
                };
                let from = place(1, 1.0)?;
                let to = place(2, -1.0)?;
                Value::Text(piece(&text, from, to).to_vec().into())
            }
        })
    }
}

impl Table {
    /// Its name in templates.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Headers => "headers",
            Table::Query => "query_params",
            Table::Captures => "uri_captures",
            Table::Shared => "shared",
        }
    }
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: &'a [u8]) -> Self {
        Value::Text(Cow::Borrowed(text))
    }

    /// Whether it counts as true.
    fn holds(&self) -> bool {
        !matches!(self, Value::Nil | Value::Boolean(false))
    }

    fn number(&self) -> Result<f64, PluginError> {
        let number = match self {
            Value::Number(n) => Some(*n),
            Value::Text(text) => number::parse(text),
            _ => None,
        };
        number.ok_or_else(|| attempt("perform arithmetic on", self))
    }

    fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Boolean(_) => "boolean",
            Value::Number(_) => "number",
            Value::Text(_) => "string",
            Value::List(_) | Value::Table(_) => "table",
        }
    }

    fn get(&self, key: &Value<'_>, scope: Scope<'a>) -> Result<Value<'a>, PluginError> {
        Ok(match (self, key) {
            (Value::Table(Table::Headers), Value::Text(name)) => scope.header(&spellings(name)),
            (Value::Table(Table::Query), Value::Text(name)) => scope.argument(name),
            (Value::Table(Table::Captures), Value::Text(name)) => scope.named_capture(name),
            (Value::Table(Table::Captures), Value::Number(n)) => {
                whole(*n).map_or(Value::Nil, |n| scope.numbered_capture(n))
            }
            (Value::List(all), Value::Number(n)) => whole(*n)
                .and_then(|n| all.get(n.checked_sub(1)?))
                .cloned()
                .unwrap_or(Value::Nil),
            (Value::Table(_) | Value::List(_), _) => Value::Nil,
            // A text has functions, and nothing else.
            (Value::Text(_), _) => Value::Nil,
            (other, _) => return Err(attempt("index", other)),
        })
    }
}

/// The names that a header may go by: Kong also takes `x-key` for `x_key`.
pub(crate) fn spellings(name: &[u8]) -> Vec<HeaderName> {
    let dashed: Vec<u8> = name
        .iter()
        .map(|b| if *b == b'_' { b'-' } else { *b })
        .collect();
    let mut names: Vec<_> = HeaderName::from_bytes(name).into_iter().collect();
    if dashed != name {
        names.extend(HeaderName::from_bytes(&dashed));
    }
    names
}

fn less(a: &Value<'_>, b: &Value<'_>) -> Result<bool, PluginError> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => Ok(x < y),
        (Value::Text(x), Value::Text(y)) => Ok(x < y),
        _ => Err(incomparable(a, b)),
    }
}

fn less_or_equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, PluginError> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => Ok(x <= y),
        (Value::Text(x), Value::Text(y)) => Ok(x <= y),
        _ => Err(incomparable(a, b)),
    }
}

fn incomparable(a: &Value<'_>, b: &Value<'_>) -> PluginError {
    PluginError::new(format!(
        "template: attempt to compare {} with {}",
        a.kind(),
        b.kind()
    ))
}

fn attempt(what: &str, value: &Value<'_>) -> PluginError {
    PluginError::new(format!(
        "template: attempt to {what} a {} value",
        value.kind()
    ))
}

/// A number as an index.
fn whole(n: f64) -> Option<usize> {
    // What is beyond the range is the range's end, and no index.
    (n >= 0.0 && n.fract() == 0.0).then_some(n as usize)
}

/// `string.sub`: places count from 1, negative ones from the end.
fn piece(text: &[u8], from: f64, to: f64) -> &[u8] {
    let length = text.len() as f64;
    let place = |n: f64| if n < 0.0 { length + n + 1.0 } else { n.trunc() };
    let from = place(from).max(1.0);
    let to = place(to).min(length);
    if from > to {
        return &[];
    }
    // Both are between 1 and the length; a place that is no number at all is the begin.
    text.get(from as usize - 1..to as usize).unwrap_or_default()
}
