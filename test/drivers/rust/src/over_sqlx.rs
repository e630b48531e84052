//! sqlx, which prepares every query and keeps a hundred of them on each
//! connection.

use crate::{Error, Outcome, RAISES, Scenario, Smoke, scenarios};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use sqlx::postgres::{PgListener, PgPoolCopyExt, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Row};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub fn all() -> Vec<(&'static str, Scenario)> {
    scenarios![connect, types, prepared, ddl, transaction, cursor, copy, timeout, notices, settings, concurrent]
}

fn failure(error: &sqlx::Error) -> Value {
    match error.as_database_error() {
        Some(e) => json!({"sqlstate": e.code(), "message": e.message()}),
        None => json!({"error": error.to_string()}),
    }
}

/// The first column of the rows, which is text, or the error.
async fn texts(c: &mut PgConnection, sql: &str) -> Value {
    match sqlx::query(AssertSqlSafe(sql)).fetch_all(c).await {
        Ok(rows) => rows.iter().map(|row| json!(row.get::<Option<String>, _>(0))).collect(),
        Err(error) => failure(&error),
    }
}

async fn done(c: &mut PgConnection, sql: &str) -> Value {
    match sqlx::query(AssertSqlSafe(sql)).execute(c).await {
        Ok(result) => json!(result.rows_affected()),
        Err(error) => failure(&error),
    }
}

async fn connect(s: Arc<Smoke>) -> Outcome {
    let mut ours = PgConnection::connect(&s.with(&[("TimeZone", "Asia/Tokyo"), ("statement_timeout", "12345"), ("search_path", &s.schema)])).await?;
    let mut plain = PgConnection::connect(&format!("{}&application_name=smoke", s.dsn)).await?;
    let mut shown = vec![];
    for _ in 0..4 {
        for client in [&mut ours, &mut plain] {
            for name in ["application_name", "TimeZone", "statement_timeout", "search_path", "extra_float_digits"] {
                shown.push(texts(client, &format!("SELECT current_setting('{name}')")).await);
            }
        }
    }
    let bad = PgConnection::connect(&s.with(&[("IntervalStyle", "nowhere")])).await.err().map(|e| failure(&e));
    ours.close().await?;
    plain.close().await?;
    Ok(json!([shown, bad]))
}

async fn types(s: Arc<Smoke>) -> Outcome {
    let mut c = PgConnection::connect(&s.dsn).await?;
    let row = sqlx::query("SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9")
        .bind(-32768i16)
        .bind(i64::MIN)
        .bind(1e-300f64)
        .bind(true)
        .bind("Größe 舵 ⚓ O'ring \\ $1")
        .bind(vec![0u8, 1, 254, 255])
        .bind(json!({"a": [1, null]}))
        .bind(vec![1i32, 2])
        .bind(None::<String>)
        .fetch_one(&mut c)
        .await?;
    let mut result = vec![json!([
        row.get::<i16, _>(0), row.get::<i64, _>(1), row.get::<f64, _>(2), row.get::<bool, _>(3), row.get::<String, _>(4),
        row.get::<Vec<u8>, _>(5), row.get::<Value, _>(6), row.get::<Vec<i32>, _>(7), row.get::<Option<String>, _>(8)
    ])];
    // An enum: sqlx asks for its type by a query of its own, in the midst of a prepare.
    for (name, value) in [("mood", "stormy"), ("position", "(54.3,10.1)")] {
        let row = sqlx::query(AssertSqlSafe(format!("SELECT NULL::{0}.{name}, '{value}'::{0}.{name}::text", s.schema))).fetch_one(&mut c).await?;
        result.push(json!(row.get::<String, _>(1)));
    }
    result.push(texts(&mut c, "SELECT 'not a number'::text::int4::text").await);
    Ok(json!(result))
}

async fn prepared(s: Arc<Smoke>) -> Outcome {
    // sqlx numbers its statements on each connection: any two connections have the same names.
    let mut sides = [PgConnection::connect(&s.dsn).await?, PgConnection::connect(&s.dsn).await?];
    let (mut wrong, mut answers) = (vec![], 0);
    for turn in 0..2i32 {
        for i in 0..s.statements {
            if i % 7 == 0 {
                texts(&mut sides[0], "SELECT 'x'").await; // clients that take turns in step would meet the same server each time
            }
            for (side, client) in sides.iter_mut().enumerate() {
                let text = format!("SELECT $1 + {i}, '{side}_{i}', pg_backend_pid()");
                let row = sqlx::query(AssertSqlSafe(text)).bind(turn).fetch_one(client).await?;
                s.saw(side, row.get(2));
                answers += 1;
                if row.get::<i32, _>(0) != turn + i as i32 || row.get::<&str, _>(1) != format!("{side}_{i}") {
                    wrong.push(json!([side, i, turn]));
                }
            }
        }
    }
    let bad = texts(&mut sides[0], "SELECT nothing_like_this").await;
    sides[0].clear_cached_statements().await?;
    Ok(json!({"answers": answers, "wrong": wrong, "bad": bad, "good": texts(&mut sides[0], "SELECT 'good'").await}))
}

async fn ddl(s: Arc<Smoke>) -> Outcome {
    let (mut changes, mut reads) = (PgConnection::connect(&s.dsn).await?, PgConnection::connect(&s.dsn).await?);
    let table = format!("{}.changed", s.schema);
    let read = format!("SELECT * FROM {table}");
    let mut result = vec![done(&mut changes, &format!("CREATE TABLE {table} (a text)")).await];
    result.push(done(&mut changes, &format!("INSERT INTO {table} VALUES ('1')")).await);
    result.push(texts(&mut reads, &read).await);
    result.push(done(&mut changes, &format!("ALTER TABLE {table} ADD COLUMN b int DEFAULT 2")).await);
    for _ in 0..2 {
        result.push(texts(&mut reads, &read).await);
    }
    reads.clear_cached_statements().await?;
    result.push(texts(&mut reads, &read).await);
    result.push(done(&mut changes, &format!("DROP TABLE {table}")).await);
    result.push(texts(&mut reads, &read).await);
    Ok(json!(result))
}

async fn transaction(s: Arc<Smoke>) -> Outcome {
    let (mut one, mut other) = (PgConnection::connect(&s.dsn).await?, PgConnection::connect(&s.dsn).await?);
    let insert = |id: i32, note: &str, parent: &str| format!("INSERT INTO {}.items VALUES ({id}, '{note}', {parent})", s.schema);
    let all = format!("SELECT items::text FROM {}.items ORDER BY id", s.schema);
    let mut result = vec![];
    let mut block = one.begin().await?;
    result.push(done(&mut block, &insert(1, "one", "NULL")).await);
    {
        let mut savepoint = block.begin().await?;
        result.push(done(&mut savepoint, &insert(2, "one", "NULL")).await);
        result.push(texts(&mut savepoint, "SELECT 'x'").await);
        // Dropped without commit: the rollback goes out with the next message.
    }
    let mut savepoint = block.begin().await?;
    result.push(done(&mut savepoint, &insert(3, "three", "1")).await);
    savepoint.commit().await?;
    result.push(json!([texts(&mut block, &all).await, texts(&mut other, &all).await]));
    block.commit().await?;
    let mut block = one.begin().await?;
    done(&mut block, &insert(4, "four", "NULL")).await;
    result.push(texts(&mut block, "SELECT (1 / 0)::text").await);
    result.push(block.commit().await.map_or_else(|e| failure(&e), |()| json!("ok")));
    let mut block = one.begin().await?;
    done(&mut block, &insert(5, "five", "999")).await;
    result.push(block.commit().await.map_or_else(|e| failure(&e), |()| json!("ok")));
    let mut block = one.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY").await?;
    result.push(texts(&mut block, "SELECT current_setting('transaction_isolation')").await);
    result.push(done(&mut block, &insert(6, "six", "NULL")).await);
    block.rollback().await?;
    result.push(texts(&mut one, "SELECT current_setting('transaction_isolation')").await);
    let several = sqlx::raw_sql("SELECT 1; SELECT 1/0; SELECT 3").execute(&mut one).await;
    result.push(several.map_or_else(|e| failure(&e), |_| json!("ok")));
    result.push(texts(&mut other, &all).await);
    Ok(json!(result))
}

async fn cursor(s: Arc<Smoke>) -> Outcome {
    // sqlx streams rows; one that is left early is read to its end behind the scenes.
    let mut c = PgConnection::connect(&s.dsn).await?;
    let (mut count, mut sum) = (0, 0i64);
    {
        let mut rows = sqlx::query("SELECT n::int8 FROM generate_series(1, $1) AS n").bind(20000).fetch(&mut c);
        while let Some(row) = rows.try_next().await? {
            count += 1;
            sum += row.get::<i64, _>(0);
            if count == 15000 {
                break;
            }
        }
    }
    let after = texts(&mut c, "SELECT 'afterwards'").await;
    let mut before = 0;
    let failed = {
        let mut rows = sqlx::query("SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n").fetch(&mut c);
        loop {
            match rows.try_next().await {
                Ok(Some(_)) => before += 1,
                Ok(None) => break json!("none"),
                Err(error) => break failure(&error),
            }
        }
    };
    let mut block = c.begin().await?;
    block.execute("DECLARE c CURSOR FOR SELECT n::text FROM generate_series(1, 100) AS n").await?;
    let fetched = [texts(&mut block, "FETCH 3 FROM c").await, texts(&mut block, "FETCH 3 FROM c").await];
    block.commit().await?;
    Ok(json!([count, sum, after, before, failed, fetched, texts(&mut c, "FETCH 1 FROM c").await]))
}

async fn copy(s: Arc<Smoke>) -> Outcome {
    let pool = PgPoolOptions::new().max_connections(1).connect(&s.dsn).await?;
    let digest = format!("SELECT concat_ws(',', count(*), sum(id), count(note), md5(string_agg(note, '' ORDER BY id))) FROM {}.copied", s.schema);
    let into = format!("COPY {}.copied (id, note) FROM STDIN", s.schema);
    let mut result = vec![];
    let mut copy = pool.copy_in_raw(&into).await?;
    for i in 0..20000 {
        copy.send(format!("{i}\tnote {i}\n").into_bytes()).await?;
    }
    result.push(json!(copy.finish().await?));
    result.push(texts(&mut *pool.acquire().await?, &digest).await);
    let out = pool.copy_out_raw(&format!("COPY (SELECT * FROM {}.copied ORDER BY id) TO STDOUT", s.schema)).await?;
    result.push(json!(out.try_fold(0, |n, chunk| async move { Ok(n + chunk.len()) }).await?));
    let mut copy = pool.copy_in_raw(&into).await?;
    copy.send("not a number\tx\n".as_bytes()).await?;
    result.push(copy.finish().await.map_or_else(|e| failure(&e), |n| json!(n)));
    let mut copy = pool.copy_in_raw(&into).await?;
    copy.send("100001\tx\n".as_bytes()).await?;
    copy.abort("no more").await?;
    result.push(texts(&mut *pool.acquire().await?, &digest).await);
    pool.close().await;
    Ok(json!(result))
}

async fn timeout(s: Arc<Smoke>) -> Outcome {
    let mut c = PgConnection::connect(&s.dsn).await?;
    let mut hurried = PgConnection::connect(&s.with(&[("statement_timeout", "500")])).await?;
    let mut result = vec![];
    for _ in 0..2 {
        result.push(texts(&mut hurried, "SELECT pg_sleep(600)::text").await);
    }
    let mut block = c.begin().await?;
    block.execute("SET LOCAL statement_timeout = '50ms'").await?;
    result.push(texts(&mut block, "SELECT pg_sleep(600)::text").await);
    block.rollback().await?;
    result.push(texts(&mut c, "SELECT current_setting('statement_timeout')").await);
    // A future that is dropped: the query goes on, and what is asked next waits for it.
    let gave_up = tokio::time::timeout(Duration::from_millis(50), texts(&mut c, "SELECT pg_sleep(0.3)::text")).await.is_err();
    result.push(json!([gave_up, texts(&mut c, "SELECT 'next'").await]));
    Ok(json!(result))
}

async fn notices(s: Arc<Smoke>) -> Outcome {
    // sqlx writes notices to its log; what a program can see of them is that they are in nobody's way.
    let pool = PgPoolOptions::new().max_connections(2).connect(&s.dsn).await?;
    let channel = format!("{}_channel", s.schema);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel).await?;
    let mut told = vec![];
    for turn in 0..3 {
        pool.execute(RAISES).await?;
        sqlx::query("SELECT pg_notify($1, $2)").bind(&channel).bind(format!("turn {turn}")).execute(&pool).await?;
        let got = listener.recv().await?;
        told.push(json!([got.channel(), got.payload()]));
    }
    listener.unlisten_all().await?;
    drop(listener);
    let after = texts(&mut *pool.acquire().await?, "SELECT 'after'").await;
    pool.close().await;
    Ok(json!([told, after]))
}

async fn settings(s: Arc<Smoke>) -> Outcome {
    let mut clients = vec![];
    for (n, zone) in ["Asia/Tokyo", "Europe/Berlin", "America/New_York"].into_iter().enumerate() {
        let mut client = PgConnection::connect(&s.dsn).await?;
        done(&mut client, &format!("SET TimeZone = '{zone}'")).await;
        done(&mut client, &format!("SET work_mem = '{}MB'", n + 1)).await;
        clients.push(client);
    }
    let mut result = vec![];
    for turn in 0..5 {
        for (n, client) in clients.iter_mut().enumerate() {
            if turn == n {
                texts(client, "SELECT 'x'").await; // out of step, as above
            }
            let row = sqlx::query("SELECT timestamptz '2024-07-01 12:00:00+00'::text, current_setting('work_mem'), pg_backend_pid()").fetch_one(&mut *client).await?;
            s.saw(n, row.get(2));
            result.push(json!([row.get::<String, _>(0), row.get::<String, _>(1)]));
        }
    }
    for client in &mut clients {
        done(client, "RESET ALL").await;
        result.push(texts(client, "SELECT current_setting('TimeZone')").await);
    }
    Ok(json!(result))
}

async fn concurrent(s: Arc<Smoke>) -> Outcome {
    let deadline = s.deadline();
    let max = s.tasks as u32;
    // apps: pool
    let pool = PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(Duration::from_secs(30))
        .connect(&s.dsn)
        .await?;
    // apps: end
    let running: Vec<_> = (0..s.tasks).map(|number| tokio::spawn(task(s.clone(), pool.clone(), number, deadline))).collect();
    let mut wrong = vec![];
    for one in running {
        if let Err(error) = one.await? {
            wrong.push(error.to_string());
        }
    }
    wrong.truncate(10);
    pool.close().await;
    Ok(json!({"tasks": s.tasks, "wrong": wrong}))
}

async fn task(s: Arc<Smoke>, pool: PgPool, number: usize, deadline: Instant) -> Result<(), Error> {
    let mut c = pool.acquire().await?;
    let (me, mut committed) = (number as i32, 0i64);
    let count = format!("SELECT count(*) FROM {}.ledger WHERE task = {me}", s.schema);
    let mut turn = 0;
    while turn < 30 || Instant::now() < deadline {
        turn += 1;
        let (got, want) = match (turn as usize + number) % 6 {
            0 => {
                let row = sqlx::query("SELECT $1 * 2, pg_backend_pid()").bind(me).fetch_one(&mut *c).await?;
                s.saw(number, row.get(1));
                (json!(row.get::<i32, _>(0)), json!(me * 2))
            }
            kind @ (1 | 2) => {
                let mut block = c.begin().await?;
                let insert = format!("INSERT INTO {}.ledger VALUES ($1, $2)", s.schema);
                sqlx::query(AssertSqlSafe(insert)).bind(me).bind(turn).execute(&mut *block).await?;
                let got: i64 = sqlx::query(AssertSqlSafe(count.as_str())).fetch_one(&mut *block).await?.get(0);
                let want = committed + 1;
                if kind == 1 {
                    committed += 1;
                    block.commit().await?;
                }
                (json!(got), json!(want))
            }
            3 => (texts(&mut c, "SELECT (1 / (n - n))::text FROM (VALUES (1)) AS one (n)").await["sqlstate"].clone(), json!("22012")),
            4 => (texts(&mut c, "SELECT current_setting('transaction_isolation')").await, json!(["read committed"])),
            _ => (json!(sqlx::query(AssertSqlSafe(count.as_str())).fetch_one(&mut *c).await?.get::<i64, _>(0)), json!(committed)),
        };
        if got != want {
            return Err(format!("task {number}: got {got}, want {want}").into());
        }
    }
    Ok(())
}
