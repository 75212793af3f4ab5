//! Values that go into a statement and come out of a row, in this project's own types.

use domicile_types::{
    AccountId, Code, ConsentId, Error, EventId, GrantId, ItemId, ObjectId, OccasionId, PageId, PracticeId,
    RegionId, RequestId, Result, Role, SubjectId, Timestamp, TransferId, Visibility,
};
use sea_orm::{QueryResult, TryGetable, Value};
use uuid::Uuid;

/// One value to bind to a placeholder. Made by [`values!`](crate::values), or by [`Bind::bind`].
#[derive(Clone)]
pub struct Bound(pub(crate) Value);

/// Values as the driver takes them, for both databases.
pub(crate) fn arguments(values: Vec<Bound>) -> sea_query_sqlx::SqlxValues {
    sea_query_sqlx::SqlxValues(sea_orm::Values(values.into_iter().map(|value| value.0).collect()))
}

/// What can be bound to a placeholder.
pub trait Bind {
    /// The bound value.
    fn bind(self) -> Bound;
    /// A NULL of this type: PostgreSQL types its NULLs.
    fn null() -> Bound;
}

/// What can be read from a column.
pub trait Column: Sized {
    /// The value of the column, `None` for NULL.
    ///
    /// # Errors
    /// [`Code::Internal`] naming the column when its content does not fit the type.
    fn read(row: &Row, name: &str) -> Result<Option<Self>>;
}

/// A row that came back. Columns are read by name.
pub struct Row(pub(crate) QueryResult);

impl Row {
    /// Rows as the driver gives them.
    pub(crate) fn all<R: Into<QueryResult>>(rows: Vec<R>) -> Vec<Self> {
        rows.into_iter().map(|row| Self(row.into())).collect()
    }

    /// The value of a column that is never NULL.
    ///
    /// # Errors
    /// [`Code::Internal`] naming the column when it is missing, NULL or does not fit the type.
    pub fn get<T: Column>(&self, name: &str) -> Result<T> {
        self.maybe(name)?.ok_or_else(|| misfit(name))
    }

    /// The value of a column that may be NULL.
    ///
    /// # Errors
    /// As [`Row::get`], but NULL is `None`.
    pub fn maybe<T: Column>(&self, name: &str) -> Result<Option<T>> {
        T::read(self, name)
    }

    fn raw<T>(&self, name: &str) -> Result<Option<T>>
    where
        Option<T>: TryGetable,
    {
        self.0.try_get::<Option<T>>("", name).map_err(|error| {
            tracing::error!(column = name, "a column could not be read");
            misfit(name).because(crate::failure::StoreFailure::from_db(&error))
        })
    }
}

/// A struct made from a row.
pub trait FromRow: Sized {
    /// Reads the columns by name.
    ///
    /// # Errors
    /// [`Code::Internal`] when a column does not fit.
    fn from_row(row: &Row) -> Result<Self>;
}

fn misfit(name: &str) -> Error {
    Error::new(Code::Internal).at(format!("column {name}"))
}

/// The values of a statement, in the order of its placeholders: `values![subject, 3_u64, Some("x")]`.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { ::std::vec![$($crate::Bind::bind($value)),*] };
}

impl<T: Bind> Bind for Option<T> {
    fn bind(self) -> Bound {
        self.map_or_else(T::null, Bind::bind)
    }
    fn null() -> Bound {
        T::null()
    }
}

impl<T: Bind + Clone> Bind for &T {
    fn bind(self) -> Bound {
        self.clone().bind()
    }
    fn null() -> Bound {
        T::null()
    }
}

macro_rules! plain {
    ($($type:ty => $null:expr, |$value:ident| $make:expr;)*) => {$(
        impl Bind for $type {
            fn bind(self) -> Bound {
                let $value = self;
                Bound($make)
            }
            fn null() -> Bound {
                Bound($null)
            }
        }
    )*};
}

plain! {
    bool => Value::Bool(None), |value| Value::Bool(Some(value));
    i64 => Value::BigInt(None), |value| Value::BigInt(Some(value));
    u8 => Value::BigInt(None), |value| Value::BigInt(Some(i64::from(value)));
    u16 => Value::BigInt(None), |value| Value::BigInt(Some(i64::from(value)));
    u32 => Value::BigInt(None), |value| Value::BigInt(Some(i64::from(value)));
    // Counters never come near 2^63; what a peer claims beyond it is kept as 2^63 - 1 and equals nothing.
    u64 => Value::BigInt(None), |value| Value::BigInt(Some(i64::try_from(value).unwrap_or(i64::MAX)));
    usize => Value::BigInt(None), |value| Value::BigInt(Some(i64::try_from(value).unwrap_or(i64::MAX)));
    Timestamp => Value::BigInt(None), |value| Value::BigInt(Some(value.micros()));
    String => Value::String(None), |value| Value::String(Some(value));
    &str => Value::String(None), |value| Value::String(Some(value.to_owned()));
    RegionId => Value::String(None), |value| Value::String(Some(value.into()));
    Role => Value::String(None), |value| Value::String(Some(value.as_str().to_owned()));
    Visibility => Value::String(None), |value| Value::String(Some(value.as_str().to_owned()));
    Vec<u8> => Value::Bytes(None), |value| Value::Bytes(Some(value));
    &[u8] => Value::Bytes(None), |value| Value::Bytes(Some(value.to_vec()));
    Uuid => Value::Uuid(None), |value| Value::Uuid(Some(value));
}

impl<const N: usize> Bind for [u8; N] {
    fn bind(self) -> Bound {
        Bound(Value::Bytes(Some(self.to_vec())))
    }
    fn null() -> Bound {
        Bound(Value::Bytes(None))
    }
}

macro_rules! columns {
    ($($type:ty: $raw:ty, |$value:ident| $make:expr;)*) => {$(
        impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Option<Self>> {
                let Some($value) = row.raw::<$raw>(name)? else { return Ok(None) };
                let made: Option<Self> = $make;
                made.map(Some).ok_or_else(|| misfit(name))
            }
        }
    )*};
}

columns! {
    bool: bool, |value| Some(value);
    i64: i64, |value| Some(value);
    u8: i64, |value| Self::try_from(value).ok();
    u16: i64, |value| Self::try_from(value).ok();
    u32: i64, |value| Self::try_from(value).ok();
    u64: i64, |value| Self::try_from(value).ok();
    Timestamp: i64, |value| Some(Self::from_micros(value));
    String: String, |value| Some(value);
    RegionId: String, |value| Self::new(&value).ok();
    Role: String, |value| Self::parse(&value);
    Visibility: String, |value| Self::parse(&value);
    Vec<u8>: Vec<u8>, |value| Some(value);
    Uuid: Uuid, |value| Some(value);
}

impl<const N: usize> Column for [u8; N] {
    fn read(row: &Row, name: &str) -> Result<Option<Self>> {
        let Some(bytes) = row.raw::<Vec<u8>>(name)? else { return Ok(None) };
        Self::try_from(bytes).map(Some).map_err(|_| misfit(name))
    }
}

macro_rules! ids {
    ($($id:ty),*) => {$(
        impl Bind for $id {
            fn bind(self) -> Bound {
                Bound(Value::Uuid(Some(self.uuid())))
            }
            fn null() -> Bound {
                Bound(Value::Uuid(None))
            }
        }
        impl Column for $id {
            fn read(row: &Row, name: &str) -> Result<Option<Self>> {
                Ok(row.raw::<Uuid>(name)?.map(Self::from_uuid))
            }
        }
    )*};
}

ids!(
    SubjectId, PracticeId, AccountId, ItemId, OccasionId, ObjectId, TransferId, ConsentId, GrantId, PageId,
    EventId, RequestId
);
