//! What a careful operator would write instead: the rows of the record table by table through zstd and
//! age into a second cluster, and the objects (a) through age or (b) through an rclone crypt remote.
//! Neither keeps consent, audit, a freeze, keys apart, or evidence of erasure, nor waits for the disk
//! after its files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_tests::postgres::binary;
use domicile_tests::world::Outcome;
use tokio::time::Instant;

use crate::record::Record;
use crate::stage::{DATABASE, MOVING, Stage};
use crate::tools::{bash, ensure};

/// The database that rows are copied into.
const COPY: &str = "copied";
/// The tables that hold a record's rows.
const TABLES: [&str; 5] = ["account", "care_relationship", "access_grant", "object", "item"];

const ROWS: &str = r#"
"$1" -X -q -d "$2" -c "COPY (SELECT * FROM $4 WHERE subject_id = '$5') TO STDOUT (FORMAT binary)" \
    | zstd -q | age -r "$6" | age -d -i "$7" | zstd -d -q \
    | "$1" -X -q -d "$3" -c "SET session_replication_role = replica" -c "COPY $4 FROM STDIN (FORMAT binary)"
"#;
const AGE: &str = r#"
export to=$2 recipient=$3 identity=$4
find "$1" -type f -print0 | xargs -0 -P 4 -I {} bash -euo pipefail -c \
    'age -r "$recipient" "$1" | age -d -i "$identity" -o "$to/$(basename "$1")"' bash {}
"#;
const RCLONE: &str = r#"rclone --config "$2" copy --transfers 4 "$1" sealed:"#;
const CHECK: &str = r#"rclone --config "$2" cryptcheck --one-way "$1" sealed:"#;

/// The tools of both pipelines.
pub(crate) struct Pipelines {
    folder: tempfile::TempDir,
    recipient: String,
    psql: String,
}

/// Which pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objects {
    /// Through age, four at once.
    Age,
    /// Through an rclone crypt remote.
    Rclone,
}

impl Pipelines {
    /// Makes keys, remotes and databases.
    pub(crate) async fn prepare(stage: &Stage, within: &Path) -> Outcome<Self> {
        ensure(&["age", "zstd", "rclone"]).await?;
        let folder = tempfile::tempdir_in(within)?;
        let identity = folder.path().join("identity");
        let recipient =
            bash(r#"age-keygen -o "$1" 2>/dev/null; age-keygen -y "$1""#, &[text(&identity)?]).await?;
        let obscured = bash(r#"rclone obscure "$(head -c 24 /dev/urandom | base64)""#, &[]).await?;
        let sealed = folder.path().join("sealed");
        let remote = format!("[sealed]\ntype = crypt\nremote = {}\npassword = {obscured}\n", text(&sealed)?);
        std::fs::write(folder.path().join("rclone.conf"), remote)?;
        let pg_dump = binary("pg_dump")?.display().to_string();
        let psql = binary("psql")?.display().to_string();
        for region in MOVING {
            let cluster = stage.cluster(region)?;
            cluster.database(COPY)?;
            let script = r#""$1" -s -d "$3" | "$2" -X -q -v ON_ERROR_STOP=1 -d "$4" > /dev/null"#;
            bash(script, &[&pg_dump, &psql, &cluster.admin(DATABASE), &cluster.admin(COPY)]).await?;
        }
        Ok(Self { folder, recipient, psql })
    }

    /// Copies a record to the other region's cluster and a second store, checks it, and takes it away again;
    /// how long the copying took.
    pub(crate) async fn run(&self, stage: &Stage, record: &Record, how: Objects) -> Outcome<Duration> {
        let (from, to) = (stage.cluster(record.home)?, stage.cluster(record.other())?);
        let (source, copy) = (from.admin(DATABASE), to.admin(COPY));
        let objects = stage.world.home(record.home).join("objects/objects").join(record.subject());
        let second = self.second(how)?;
        let identity = self.folder.path().join("identity");
        let config = self.folder.path().join("rclone.conf");

        let began = Instant::now();
        for table in TABLES {
            let (subject, identity) = (record.subject(), text(&identity)?);
            let arguments = [&self.psql, &source, &copy, table, subject, &self.recipient, identity];
            bash(ROWS, &arguments).await?;
        }
        let (store, remote) = (text(&objects)?, text(&config)?);
        match how {
            Objects::Age => {
                bash(AGE, &[store, text(&second)?, &self.recipient, text(&identity)?]).await?;
            }
            Objects::Rclone => {
                bash(RCLONE, &[store, remote]).await?;
            }
        }
        let took = began.elapsed();

        match how {
            Objects::Age => bash(r#"diff -rq "$1" "$2""#, &[store, text(&second)?]).await?,
            Objects::Rclone => bash(CHECK, &[store, remote]).await?,
        };
        for table in TABLES {
            let count = |place, database| -> Outcome<String> {
                let of = format!("SELECT count(*) FROM {table} WHERE subject_id = '{}'", record.subject());
                stage.cluster(place)?.sql(database, &of)
            };
            if count(record.home, DATABASE)? != count(record.other(), COPY)? {
                return Err(format!("the pipeline lost rows of {table}").into());
            }
        }
        let all = TABLES.join(", ");
        stage.cluster(record.other())?.sql(COPY, &format!("TRUNCATE {all} CASCADE"))?;
        std::fs::remove_dir_all(second)?;
        Ok(took)
    }

    fn second(&self, how: Objects) -> Outcome<PathBuf> {
        let name = if how == Objects::Age { "second" } else { "sealed" };
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }
}

fn text(path: &Path) -> Outcome<&str> {
    path.to_str().ok_or_else(|| "a path that is no text".into())
}
