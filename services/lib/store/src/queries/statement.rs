//! Signed statements of both lanes, as each region holds them.

use domicile_evidence::statement::{SignedStatement, Statement};
use domicile_types::{Code, Error, RegionId, Result, TransferId};

use crate::{FromRow, Row, Tx, values};

impl FromRow for SignedStatement {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            statement: row.get("statement")?,
            body: row.get("body")?,
            signature: row.get("signature")?,
        })
    }
}

/// Keeps a statement.
///
/// # Errors
/// [`Code::Conflict`] when its place in the lane is taken, else as [`Tx::execute`].
pub async fn insert(tx: &Tx, statement: &Statement, signed: &SignedStatement) -> Result<()> {
    let sql = "INSERT INTO statement (transfer_id, origin, sequence, attempt, step, statement, body, signature, \
               digest, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
    let values = values![
        statement.transfer,
        &statement.origin,
        statement.sequence,
        statement.attempt,
        statement.step.name(),
        signed.statement.clone(),
        signed.body.clone(),
        signed.signature,
        statement.digest(),
        statement.at,
    ];
    match tx.execute(sql, values).await? {
        1 => Ok(()),
        _ => Err(Error::new(Code::Conflict).at("statement")),
    }
}

/// Statements of one lane past a sequence number, in order.
///
/// # Errors
/// As [`Tx::all`].
pub async fn lane(
    tx: &Tx,
    transfer: TransferId,
    origin: &RegionId,
    after: u64,
) -> Result<Vec<SignedStatement>> {
    let sql = "SELECT statement, body, signature FROM statement \
               WHERE transfer_id = $1 AND origin = $2 AND sequence > $3 ORDER BY sequence";
    tx.all(sql, values![transfer, origin, after]).await
}
