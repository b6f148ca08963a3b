//! Kinds of values: their form, and how they are read and written.

use std::{
    path::{Path as FilePath, PathBuf},
    time::Duration,
};

use super::shape::{self, Shape, TextShape as Form};

pub use super::shape::PATH as FILE;
use crate::config::{
    diagnostic::Problem,
    paths,
    print::{path, quote, word},
    read::{Value, integer},
    units::{show_duration, show_size},
};

/// Kind of values, by form. Values of a kind without [`Reads`] are read by the code of the table, where reading needs
/// more than the value.
pub trait Kind {
    /// The form of its values.
    fn shape(&self) -> Shape;
}

/// Kind with a reader and a writer for its values.
pub trait Reads: Kind {
    /// The type of a value that was read.
    type Value;

    /// Reads a value, or notes what is wrong with it.
    fn read(&self, value: Value<'_>) -> Option<Self::Value>;

    /// Writes the value in TOML that reads the same.
    fn show(&self, value: &Self::Value) -> String;
}

/// Form without a reader: the code of the table reads and writes the value.
pub struct Shaped(pub fn() -> Shape);

impl Kind for Shaped {
    fn shape(&self) -> Shape {
        self.0()
    }
}

/// Kind given by three functions.
pub struct Of<T> {
    /// The form.
    pub shape: fn() -> Shape,
    /// See [`Reads::read`].
    pub read: fn(Value<'_>) -> Option<T>,
    /// See [`Reads::show`].
    pub show: fn(&T) -> String,
}

impl<T> Kind for Of<T> {
    fn shape(&self) -> Shape {
        (self.shape)()
    }
}

impl<T> Reads for Of<T> {
    type Value = T;

    fn read(&self, value: Value<'_>) -> Option<T> {
        (self.read)(value)
    }

    fn show(&self, value: &T) -> String {
        (self.show)(value)
    }
}

/// Kind of strings that are parsed into `T`.
pub struct Text<T> {
    /// The form of the string.
    pub form: Form,
    /// Reads the string.
    pub parse: fn(&str) -> Result<T, Problem>,
    /// Writes the string, without quotes.
    pub show: fn(&T) -> String,
}

impl<T> Kind for Text<T> {
    fn shape(&self) -> Shape {
        Shape::Text(self.form)
    }
}

impl<T> Reads for Text<T> {
    type Value = T;

    fn read(&self, value: Value<'_>) -> Option<T> {
        value.parse(value.string()?, self.parse)
    }

    fn show(&self, value: &T) -> String {
        quote(&(self.show)(value))
    }
}

/// Kind of words, each with its value.
pub struct Words<T: 'static>(pub &'static [(&'static str, T)]);

impl<T> Kind for Words<T> {
    fn shape(&self) -> Shape {
        Shape::Words(self.0.iter().map(|(word, _)| *word).collect())
    }
}

impl<T: Clone + PartialEq> Reads for Words<T> {
    type Value = T;

    fn read(&self, value: Value<'_>) -> Option<T> {
        value.choice(self.0, &[])
    }

    fn show(&self, value: &T) -> String {
        word(self.0, value)
    }
}

/// Kind of absolute paths.
pub struct Path {
    /// Directory that is suggested for a relative path.
    pub home: &'static str,
    /// Checks the path on the machine and notes what is missing.
    pub check: fn(Value<'_>, &FilePath),
}

impl Kind for Path {
    fn shape(&self) -> Shape {
        Shape::Text(shape::PATH)
    }
}

impl Reads for Path {
    type Value = PathBuf;

    fn read(&self, value: Value<'_>) -> Option<PathBuf> {
        let text = value.string()?;
        let path = value.parse(text, |text| paths::absolute(text, self.home))?;
        (self.check)(value, &path);
        Some(path)
    }

    fn show(&self, value: &PathBuf) -> String {
        path(value)
    }
}

/// `true` or `false`.
pub const BOOLEAN: Of<bool> =
    Of { shape: || Shape::Boolean, read: |value| value.boolean(), show: |flag| flag.to_string() };

/// Any string.
pub const STRING: Of<String> = Of {
    shape: || Shape::Text(shape::STRING),
    read: |value| value.string().map(str::to_owned),
    show: |text| quote(text),
};

/// A duration that may be zero to disable something.
pub const DURATION: Of<Duration> = Of {
    shape: || Shape::Text(shape::DURATION),
    read: |value| value.duration(),
    show: |time| quote(&show_duration(*time)),
};

/// A duration of more than zero.
pub const TIME: Of<Duration> = Of { read: |value| value.time(), ..DURATION };

/// A size in bytes; `None` is no limit.
pub const SIZE: Of<Option<u64>> = Of {
    shape: || Shape::Text(shape::SIZE),
    read: |value| value.size(),
    show: |size| quote(&show_size(*size)),
};

/// A share in percent.
pub const SHARE: Of<u32> = Of {
    shape: || Shape::Text(shape::SHARE),
    read: |value| value.share(),
    show: |share| quote(&format!("{share}%")),
};

/// An integer within bounds, both included.
pub struct Integer(pub u32, pub u32);

impl Kind for Integer {
    fn shape(&self) -> Shape {
        Shape::Integer(self.0, self.1)
    }
}

impl Reads for Integer {
    type Value = u32;

    fn read(&self, value: Value<'_>) -> Option<u32> {
        integer(self.0..=self.1)(value)
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }
}

/// A size in bytes within bounds, both included.
pub struct Bytes(pub u32, pub u32);

impl Kind for Bytes {
    fn shape(&self) -> Shape {
        Shape::Text(shape::BYTES)
    }
}

impl Reads for Bytes {
    type Value = u32;

    fn read(&self, value: Value<'_>) -> Option<u32> {
        let size = value.size()?;
        let range = self.0..=self.1;
        let fits = size.and_then(|size| u32::try_from(size).ok()).filter(|size| range.contains(size));
        if fits.is_none() {
            let [least, most] = [self.0, self.1].map(|bound| show_size(Some(bound.into())));
            value.error(Problem::new(
                format!("`{}` is out of bounds", value.name),
                format!("from {least} to {most}"),
            ));
        }
        fits
    }

    fn show(&self, value: &u32) -> String {
        quote(&show_size(Some((*value).into())))
    }
}
