//! A region's databases, asked in SQL from outside the product.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::postgres::psql;
use crate::world::Outcome;

/// Asks SQLite: the harness has no driver of its own. Answers as `psql -A -t` does.
const PYTHON: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
db.execute("ATTACH ? AS domicile_keys", (sys.argv[2],))
for row in db.execute(sys.stdin.read()):
    print("|".join("" if v is None else v.hex() if isinstance(v, bytes) else str(v) for v in row))
"#;

/// How to ask a region's databases.
#[derive(Clone, Debug)]
pub enum Database {
    /// As the superuser, who passes by row-level security.
    Postgres {
        /// The superuser's URL of the database.
        url: String,
    },
    /// Two files.
    Sqlite {
        /// The data.
        data: PathBuf,
        /// The keys.
        keys: PathBuf,
    },
}

impl Database {
    /// Asks; one text a row, columns separated by `|`. In the question `@uuid@` around an id makes it a value
    /// of the database's own, and bytes are answered as hexadecimal text. Tables of the key store are named
    /// `domicile_keys.…`.
    ///
    /// # Errors
    /// With what the database said.
    pub async fn ask(&self, question: &str) -> Outcome<Vec<String>> {
        let answer = match self {
            Self::Postgres { url } => psql(url, &dialect(question, true))?,
            Self::Sqlite { data, keys } => {
                let mut command = Command::new("python3");
                command.args(["-c", PYTHON]).arg(data).arg(keys);
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = command.spawn()?;
                let mut input = child.stdin.take().ok_or("no pipe")?;
                input.write_all(dialect(question, false).as_bytes()).await?;
                drop(input);
                let output = child.wait_with_output().await?;
                if !output.status.success() {
                    return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
                }
                String::from_utf8(output.stdout)?
            }
        };
        Ok(answer.lines().map(str::to_owned).collect())
    }

    /// Tables that have a column of this name, in data and keys, as [`Database::ask`] wants them named.
    ///
    /// # Errors
    /// With what the database said.
    pub async fn tables_with(&self, column: &str) -> Outcome<Vec<String>> {
        let sql = match self {
            Self::Postgres { .. } => format!(
                "SELECT table_schema || '.' || table_name FROM information_schema.columns \
                 WHERE column_name = '{column}' AND table_schema IN ('public', 'domicile_keys') ORDER BY 1"
            ),
            Self::Sqlite { .. } => format!(
                "SELECT 'main.' || m.name FROM main.sqlite_master m, pragma_table_info(m.name, 'main') c \
                 WHERE m.type = 'table' AND c.name = '{column}' UNION ALL \
                 SELECT 'domicile_keys.' || m.name FROM domicile_keys.sqlite_master m, \
                 pragma_table_info(m.name, 'domicile_keys') c WHERE m.type = 'table' AND c.name = '{column}'"
            ),
        };
        self.ask(&sql).await
    }
}

/// A question in the words of one database.
fn dialect(question: &str, postgres: bool) -> String {
    let mut out = String::with_capacity(question.len());
    for (index, part) in question.split('@').enumerate() {
        match (index % 2 == 1, postgres) {
            (false, _) => out.push_str(part),
            (true, true) => out.push_str(&format!("'{part}'::uuid")),
            (true, false) => out.push_str(&format!("x'{}'", part.replace('-', ""))),
        }
    }
    out
}
