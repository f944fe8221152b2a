//! YAML as a tree that knows where everything stands.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use crate::error::PolicyError;

/// Longest policy file, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 1024 * 1024;
/// How deep a policy file may be nested.
const DEPTH_MAX: usize = 16;

/// A place in the file; lines and columns begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// `plain` means unquoted, so that it may be a number, a boolean or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Node {
    /// For messages: `a mapping`, `the list`, ….
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar { text, plain: true } if text.is_empty() || text == "~" || text == "null" => {
                "nothing".to_owned()
            }
            Kind::Scalar { text, .. } => format!("`{text}`"),
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads one document. An empty one is an empty mapping.
pub(crate) fn parse(text: &str, file: &str) -> Result<Node, PolicyError> {
    let reader = Reader { file };
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes", text.len());
        let expected = format!("at most {FILE_BYTES_MAX} bytes");
        return Err(reader.error(Place { line: 1, column: 1 }, message, Some(expected), None));
    }
    let mut events = Events { parser: Parser::new_from_str(text), reader: &reader };
    let mut document = None;
    loop {
        let (event, place) = events.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => break,
            _ if document.is_some() => {
                return Err(reader.error(
                    place,
                    "a second document begins".to_owned(),
                    Some("one document".to_owned()),
                    None,
                ));
            }
            event => document = Some(events.node(event, place, 0)?),
        }
    }
    Ok(document.unwrap_or(Node { place: Place { line: 1, column: 1 }, kind: Kind::Mapping(Vec::new()) }))
}

struct Reader<'f> {
    file: &'f str,
}

impl Reader<'_> {
    fn error(&self, place: Place, message: String, expected: Option<String>, hint: Option<String>) -> PolicyError {
        PolicyError { file: self.file.to_owned(), line: place.line, column: place.column, message, expected, hint }
    }
}

struct Events<'t, 'r> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    reader: &'r Reader<'r>,
}

fn place_of(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

impl<'t> Events<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Place), PolicyError> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, .. }))) => Ok((event, place_of(&start))),
            Some(Err(error)) => {
                let hint = "check the indentation, and put values with special characters into quotes".to_owned();
                let message = format!("this is not YAML: {}", error.info());
                Err(self.reader.error(place_of(error.marker()), message, None, Some(hint)))
            }
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, PolicyError> {
        if depth > DEPTH_MAX {
            return Err(self.reader.error(place, format!("this is nested more than {DEPTH_MAX} deep"), None, None));
        }
        let kind = match event {
            Event::Scalar(text, style, _, _) => {
                Kind::Scalar { text: Cow::into_owned(text), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => Kind::Sequence(self.sequence(depth)?),
            Event::MappingStart(..) => Kind::Mapping(self.mapping(depth)?),
            _ => {
                let hint = "write the value out".to_owned();
                return Err(self.reader.error(
                    place,
                    "anchors and aliases are not supported".to_owned(),
                    None,
                    Some(hint),
                ));
            }
        };
        Ok(Node { place, kind })
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, PolicyError> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, place, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, PolicyError> {
        let mut members: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(members);
            }
            let Node { kind: Kind::Scalar { text, .. }, .. } = self.node(event, place, depth + 1)? else {
                return Err(self.reader.error(
                    place,
                    "a key is not a word".to_owned(),
                    Some("a word".to_owned()),
                    None,
                ));
            };
            if let Some((earlier, _)) = members.iter().find(|(key, _)| key.text == text) {
                let message = format!("`{text}` stands here a second time");
                let hint = format!("it stands in line {} already", earlier.place.line);
                return Err(self.reader.error(place, message, None, Some(hint)));
            }
            let (event, value_place) = self.next()?;
            let value = self.node(event, value_place, depth + 1)?;
            members.push((Key { place, text }, value));
        }
    }
}
