//! Many rows in one statement.

use domicile_types::{Code, Error, Result};
use sea_orm::Value;
use sea_orm::sea_query::ArrayType;

use crate::value::Bound;

/// PostgreSQL: one row as VALUES, which costs half of what UNNEST does; several as UNNEST.
pub(crate) fn insert(
    table: &str,
    columns: &[&str],
    mut rows: Vec<Vec<Bound>>,
    end: &str,
) -> Result<(String, Vec<Bound>)> {
    match rows.pop() {
        Some(row) if rows.is_empty() => {
            let places: Vec<_> = (1..=columns.len()).map(|place| format!("${place}")).collect();
            let columns = columns.join(", ");
            Ok((format!("INSERT INTO {table} ({columns}) VALUES ({}){end}", places.join(", ")), row))
        }
        last => {
            rows.extend(last);
            unnest(table, columns, rows, end)
        }
    }
}

/// `INSERT … SELECT … FROM UNNEST`: one array per column, twice as fast as multi-row VALUES.
fn unnest(table: &str, columns: &[&str], rows: Vec<Vec<Bound>>, end: &str) -> Result<(String, Vec<Bound>)> {
    let mut arrays: Vec<Vec<Value>> = columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        for (array, value) in arrays.iter_mut().zip(row) {
            array.push(value.0);
        }
    }
    let mut parts = Parts::default();
    for array in arrays {
        parts.column(array)?;
    }
    let Parts { selects, unnested, names, values } = parts;
    let sql = format!(
        "INSERT INTO {table} ({}) SELECT {} FROM UNNEST({}) AS r({}){end}",
        columns.join(", "),
        selects.join(", "),
        unnested.join(", "),
        names.join(", "),
    );
    Ok((sql, values))
}

/// One array per column, for statements that join `UNNEST` themselves. No value may be NULL.
pub(crate) fn arrays<const N: usize>(rows: Vec<[Bound; N]>) -> Result<Vec<Bound>> {
    let mut arrays: [Vec<Value>; N] = std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    for row in rows {
        for (array, value) in arrays.iter_mut().zip(row) {
            array.push(value.0);
        }
    }
    let array = |values: Vec<Value>| {
        let kind = values.first().and_then(Of::value).ok_or_else(misfit)?;
        let fits = values.iter().all(|value| Of::value(value) == Some(kind) && !is_null(value));
        if fits { Ok(Bound(Value::Array(kind.array(), Some(Box::new(values))))) } else { Err(misfit()) }
    };
    arrays.into_iter().map(array).collect()
}

#[derive(Default)]
struct Parts {
    selects: Vec<String>,
    unnested: Vec<String>,
    names: Vec<String>,
    values: Vec<Bound>,
}

impl Parts {
    /// One column: its array; NULLs, which arrays of the driver cannot hold, as a second array of flags.
    fn column(&mut self, array: Vec<Value>) -> Result<()> {
        let kind = array.first().and_then(Of::value).ok_or_else(misfit)?;
        let present: Vec<bool> = array.iter().map(|value| !is_null(value)).collect();
        let filled: Vec<Value> =
            array.into_iter().map(|value| if is_null(&value) { kind.filler() } else { value }).collect();
        if filled.iter().any(|value| Of::value(value) != Some(kind)) {
            return Err(misfit());
        }
        let name = self.push(kind, filled);
        if present.iter().all(|present| *present) {
            self.selects.push(name);
        } else {
            let flags = present.into_iter().map(|present| Value::Bool(Some(present))).collect();
            let flag = self.push(Of::Bool, flags);
            self.selects.push(format!("CASE WHEN {flag} THEN {name} END"));
        }
        Ok(())
    }

    fn push(&mut self, kind: Of, array: Vec<Value>) -> String {
        self.values.push(Bound(Value::Array(kind.array(), Some(Box::new(array)))));
        let number = self.values.len();
        self.unnested.push(format!("${number}::{}[]", kind.sql()));
        let name = format!("c{number}");
        self.names.push(name.clone());
        name
    }
}

/// The type of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Bool,
    BigInt,
    Text,
    Bytes,
    Uuid,
}

impl Of {
    const fn value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(_) => Some(Self::Bool),
            Value::BigInt(_) => Some(Self::BigInt),
            Value::String(_) => Some(Self::Text),
            Value::Bytes(_) => Some(Self::Bytes),
            Value::Uuid(_) => Some(Self::Uuid),
            _ => None,
        }
    }

    const fn array(self) -> ArrayType {
        match self {
            Self::Bool => ArrayType::Bool,
            Self::BigInt => ArrayType::BigInt,
            Self::Text => ArrayType::String,
            Self::Bytes => ArrayType::Bytes,
            Self::Uuid => ArrayType::Uuid,
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::BigInt => "bigint",
            Self::Text => "text",
            Self::Bytes => "bytea",
            Self::Uuid => "uuid",
        }
    }

    const fn filler(self) -> Value {
        match self {
            Self::Bool => Value::Bool(Some(false)),
            Self::BigInt => Value::BigInt(Some(0)),
            Self::Text => Value::String(Some(String::new())),
            Self::Bytes => Value::Bytes(Some(Vec::new())),
            Self::Uuid => Value::Uuid(Some(uuid::Uuid::nil())),
        }
    }
}

const fn is_null(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(None)
            | Value::BigInt(None)
            | Value::String(None)
            | Value::Bytes(None)
            | Value::Uuid(None)
    )
}

fn misfit() -> Error {
    Error::new(Code::Internal).at("values of a bulk insert")
}

/// `INSERT … VALUES (…), (…)`, with `?` alone: SQLite looks named placeholders up one after another.
pub(crate) fn multi_row(
    table: &str,
    columns: &[&str],
    rows: Vec<Vec<Bound>>,
    end: &str,
) -> (String, Vec<Bound>) {
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    let values = vec![row.as_str(); rows.len()].join(", ");
    let sql = format!("INSERT INTO {table} ({}) VALUES {values}{end}", columns.join(", "));
    (sql, rows.into_iter().flatten().collect())
}
