//! What a request asks of PostgreSQL, counted by the server itself.

use domicile_tests::world::Outcome;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Statements that open and close transactions; everything else is counted as a query.
const FRAME: &str = "query ~* '^\\s*(begin|start transaction|commit|rollback)'";

/// What was counted between two moments.
pub(crate) struct Counted {
    /// Statements but for those that open or close a transaction.
    pub(crate) queries: f64,
    /// Transactions that were opened by BEGIN and committed.
    pub(crate) commits: f64,
    /// The statements that took the server longest, planning included, with calls and mean milliseconds.
    pub(crate) top: Vec<(String, f64, f64)>,
}

/// Begins to count in a database.
pub(crate) fn begin(cluster: &Cluster) -> Outcome<()> {
    track(cluster, "all")?;
    cluster.sql("postgres", "SELECT pg_stat_statements_reset()")?;
    Ok(())
}

/// Ends counting.
pub(crate) fn end(cluster: &Cluster, database: &str) -> Outcome<Counted> {
    track(cluster, "none")?;
    let of = format!(
        "FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE datname = '{database}'"
    );
    let sum = |condition: &str| -> Outcome<f64> {
        let sql = format!("SELECT coalesce(sum(calls), 0) {of} AND {condition}");
        Ok(cluster.sql("postgres", &sql)?.parse()?)
    };
    let queries = sum(&format!("NOT ({FRAME})"))?;
    let commits = sum("query ~* '^\\s*commit'")?;
    let sql = format!(
        "SELECT json_agg(t) FROM (SELECT regexp_replace(left(query, 160), '\\s+', ' ', 'g') AS query, \
         calls, (total_plan_time + total_exec_time) / calls AS mean {of} AND calls > 0 \
         ORDER BY total_plan_time + total_exec_time DESC LIMIT 40) t"
    );
    let rows: Value = serde_json::from_str(&cluster.sql("postgres", &sql)?)?;
    let row = |row: &Value| {
        Some((row["query"].as_str()?.to_owned(), row["calls"].as_f64()?, row["mean"].as_f64()?))
    };
    let top = rows.as_array().into_iter().flatten().filter_map(row).collect();
    Ok(Counted { queries, commits, top })
}

fn track(cluster: &Cluster, what: &str) -> Outcome<()> {
    cluster.sql("postgres", &format!("ALTER SYSTEM SET pg_stat_statements.track = '{what}'"))?;
    cluster.sql("postgres", "SELECT pg_reload_conf()")?;
    Ok(())
}

impl Counted {
    /// The figures for each of so many requests.
    #[expect(clippy::cast_precision_loss, reason = "requests of seconds")]
    pub(crate) fn json(&self, requests: usize) -> Value {
        let each = |figure: f64| (figure / requests as f64 * 100.0).round() / 100.0;
        let top: Vec<_> = self
            .top
            .iter()
            .map(|(query, calls, mean)| json!({ "query": query, "calls": each(*calls), "mean_ms": mean }))
            .collect();
        json!({ "queries": each(self.queries), "transactions": each(self.commits), "top": top })
    }
}
