//! tokio-postgres, which pipelines whatever is polled at the same time.

use crate::{Error, Outcome, RAISES, Scenario, Smoke, scenarios};
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt, pin_mut, stream};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{AsyncMessage, Client, IsolationLevel, NoTls};

pub fn all() -> Vec<(&'static str, Scenario)> {
    scenarios![
        connect, types, prepared, ddl, transaction, cursor, copy, cancel, timeout, notices, pipeline, settings, concurrent
    ]
}

async fn open(dsn: &str) -> Result<Client, tokio_postgres::Error> {
    // apps: connect
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    tokio::spawn(connection);
    // apps: end
    Ok(client)
}

fn failure(error: &tokio_postgres::Error) -> Value {
    match error.as_db_error() {
        Some(e) => json!({"sqlstate": e.code().code(), "message": e.message(), "severity": e.severity()}),
        None => json!({"error": error.to_string()}),
    }
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The first column of the rows, which is text, or the error.
async fn texts<C: tokio_postgres::GenericClient>(client: &C, sql: &str, parameters: Parameters<'_>) -> Value {
    match client.query(sql, parameters).await {
        Ok(rows) => rows.iter().map(|row| json!(row.get::<_, Option<String>>(0))).collect(),
        Err(error) => failure(&error),
    }
}

async fn done<C: tokio_postgres::GenericClient>(client: &C, sql: &str, parameters: Parameters<'_>) -> Value {
    match client.execute(sql, parameters).await {
        Ok(n) => json!(n),
        Err(error) => failure(&error),
    }
}

fn ended(result: Result<(), tokio_postgres::Error>) -> Value {
    result.map_or_else(|error| failure(&error), |()| json!("ok"))
}

async fn connect(s: Arc<Smoke>) -> Outcome {
    let ours = open(&s.with(&[("TimeZone", "Asia/Tokyo"), ("statement_timeout", "12345"), ("search_path", &s.schema)])).await?;
    let plain = open(&format!("{}&application_name=smoke", s.dsn)).await?;
    let mut shown = vec![];
    for _ in 0..4 {
        for client in [&ours, &plain] {
            for name in ["application_name", "TimeZone", "statement_timeout", "search_path"] {
                shown.push(texts(client, "SELECT current_setting($1)", &[&name]).await);
            }
        }
    }
    let mut config: tokio_postgres::Config = s.dsn.parse()?;
    config.password("not the password");
    let wrong = config.connect(NoTls).await.err().map(|e| failure(&e));
    config.user("nobody_of_that_name");
    let unknown = config.connect(NoTls).await.err().map(|e| failure(&e));
    let bad = open(&s.with(&[("TimeZone", "Nowhere")])).await.err().map(|e| failure(&e));
    Ok(json!([shown, wrong, unknown, bad]))
}

async fn types(s: Arc<Smoke>) -> Outcome {
    let client = open(&s.dsn).await?;
    let mut result = vec![];
    let row = client
        .query_one(
            "SELECT $1::int2, $2::int8, $3::float8, $4::bool, $5::text, $6::bytea, $7::jsonb, $8::int4[], $9::text[], $10::text",
            &[
                &-32768i16, &i64::MIN, &1e-300f64, &true, &"Größe 舵 ⚓ O'ring \\ $1", &vec![0u8, 1, 254, 255],
                &Json(json!({"a": [1, null]})), &vec![1i32, 2], &vec![Some("a"), None, Some("q\"")], &None::<String>,
            ],
        )
        .await?;
    result.push(json!([
        row.get::<_, i16>(0), row.get::<_, i64>(1), row.get::<_, f64>(2), row.get::<_, bool>(3), row.get::<_, String>(4),
        row.get::<_, Vec<u8>>(5), row.get::<_, Json<Value>>(6).0, row.get::<_, Vec<i32>>(7),
        row.get::<_, Vec<Option<String>>>(8), row.get::<_, Option<String>>(9)
    ]));
    // An enum and a composite: the crate asks for them by queries of its own, in the midst of a prepare.
    for (name, value) in [("mood", "stormy"), ("position", "(54.3,10.1)")] {
        let statement = client.prepare(&format!("SELECT NULL::{0}.{name}, '{value}'::{0}.{name}::text", s.schema)).await?;
        let row = client.query_one(&statement, &[]).await?;
        result.push(json!([statement.columns()[0].type_().name(), row.get::<_, String>(1)]));
    }
    result.push(texts(&client, "SELECT ($1::text)::int4::text", &[&"not a number"]).await);
    Ok(json!(result))
}

async fn prepared(s: Arc<Smoke>) -> Outcome {
    // The crate numbers its statements over all connections of a process, so another process has the same names.
    let sides = [open(&s.dsn).await?, open(&s.dsn).await?];
    let (mut wrong, mut answers) = (vec![], 0);
    let mut statements = vec![];
    for (side, client) in sides.iter().enumerate() {
        let texts: Vec<String> = (0..s.statements).map(|i| format!("SELECT $1::int4 + {i}, '{side}_{i}', pg_backend_pid()")).collect();
        statements.push(try_join_all(texts.iter().map(|text| client.prepare(text))).await?);
    }
    for turn in 0..2i32 {
        for i in 0..s.statements {
            if i % 7 == 0 {
                sides[0].simple_query("SELECT 1").await?; // clients that take turns in step would meet the same server each time
            }
            for (side, client) in sides.iter().enumerate() {
                let row = client.query_one(&statements[side][i], &[&turn]).await?;
                s.saw(side, row.get(2));
                answers += 1;
                if row.get::<_, i32>(0) != turn + i as i32 || row.get::<_, &str>(1) != format!("{side}_{i}") {
                    wrong.push(json!([side, i, turn]));
                }
            }
        }
    }
    let bad = sides[0].prepare("SELECT nothing_like_this").await.err().map(|e| failure(&e));
    statements.clear(); // closes them all, in the background
    Ok(json!({"answers": answers, "wrong": wrong, "bad": bad, "good": texts(&sides[0], "SELECT 'good'", &[]).await}))
}

async fn ddl(s: Arc<Smoke>) -> Outcome {
    let (changes, mut reads) = (open(&s.dsn).await?, open(&s.dsn).await?);
    let table = format!("{}.changed", s.schema);
    changes.batch_execute(&format!("CREATE TABLE {table} (a text); INSERT INTO {table} VALUES ('1')")).await?;
    let statement = reads.prepare(&format!("SELECT * FROM {table}")).await?;
    let before = reads.query(&statement, &[]).await?.len();
    changes.batch_execute(&format!("ALTER TABLE {table} ADD COLUMN b int DEFAULT 2")).await?;
    let mut after = vec![];
    for _ in 0..2 {
        after.push(reads.query(&statement, &[]).await.map_or_else(|e| failure(&e), |rows| json!(rows[0].len())));
    }
    let fresh = texts(&reads, &format!("SELECT * FROM {table}"), &[]).await;
    let block = reads.transaction().await?;
    let inside = block.query(&statement, &[]).await.map_or_else(|e| failure(&e), |rows| json!(rows[0].len()));
    drop(block);
    changes.batch_execute(&format!("DROP TABLE {table}")).await?;
    let dropped = reads.query(&statement, &[]).await.map_or_else(|e| failure(&e), |rows| json!(rows.len()));
    Ok(json!([before, after, fresh, inside, dropped]))
}

async fn transaction(s: Arc<Smoke>) -> Outcome {
    let (mut one, other) = (open(&s.dsn).await?, open(&s.dsn).await?);
    let insert = format!("INSERT INTO {}.items VALUES ($1, $2, $3)", s.schema);
    let all = format!("SELECT items::text FROM {}.items ORDER BY id", s.schema);
    let mut result = vec![];
    let mut block = one.transaction().await?;
    result.push(done(&block, &insert, &[&1, &"one", &None::<i32>]).await);
    {
        let savepoint = block.savepoint("a").await?;
        result.push(done(&savepoint, &insert, &[&2, &"one", &None::<i32>]).await);
        result.push(texts(&savepoint, "SELECT 'x'", &[]).await);
        // Dropped without commit: the rollback goes out with the next message.
    }
    let savepoint = block.savepoint("b").await?;
    result.push(done(&savepoint, &insert, &[&3, &"three", &Some(1)]).await);
    savepoint.commit().await?;
    result.push(json!([texts(&block, &all, &[]).await, texts(&other, &all, &[]).await]));
    block.commit().await?;
    let block = one.transaction().await?;
    result.push(done(&block, &insert, &[&4, &"four", &None::<i32>]).await);
    result.push(texts(&block, "SELECT (1 / 0)::text", &[]).await);
    result.push(ended(block.commit().await));
    let block = one.transaction().await?;
    done(&block, &insert, &[&5, &"five", &Some(999)]).await;
    result.push(ended(block.commit().await));
    let block = one.build_transaction().isolation_level(IsolationLevel::Serializable).read_only(true).start().await?;
    result.push(texts(&block, "SELECT current_setting('transaction_isolation')", &[]).await);
    result.push(done(&block, &insert, &[&6, &"six", &None::<i32>]).await);
    drop(block);
    result.push(texts(&one, "SELECT current_setting('transaction_isolation')", &[]).await);
    result.push(ended(one.batch_execute("SELECT 1; SELECT 1/0; SELECT 3").await));
    result.push(texts(&other, &all, &[]).await);
    Ok(json!(result))
}

async fn cursor(s: Arc<Smoke>) -> Outcome {
    let mut client = open(&s.dsn).await?;
    let mut result = vec![];
    let block = client.transaction().await?;
    let one = block.bind("SELECT n FROM generate_series(1, $1::int4) AS n", &[&5000]).await?;
    let two = block.bind("SELECT n FROM generate_series(1, $1::int4) AS n", &[&20]).await?;
    let (mut count, mut sum) = (0, 0i64);
    loop {
        let part = block.query_portal(&one, 100).await?;
        if part.is_empty() {
            break;
        }
        count += part.len();
        sum += part.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum::<i64>();
        if count % 1000 == 0 {
            result.push(json!(block.query_portal(&two, 3).await?.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()));
        }
    }
    result.push(json!([count, sum]));
    let failing = block.bind("SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n", &[]).await?;
    result.push(json!(block.query_portal(&failing, 10).await?.len()));
    result.push(block.query_portal(&failing, 20).await.map_or_else(|e| failure(&e), |rows| json!(rows.len())));
    drop(block);
    {
        // Rows that are left early are read to their end behind the scenes.
        let none: [i32; 0] = [];
        let rows = client.query_raw("SELECT repeat('x', 1000) FROM generate_series(1, 20000)", none).await?;
        pin_mut!(rows);
        rows.try_next().await?;
    }
    result.push(texts(&client, "SELECT 'afterwards'", &[]).await);
    Ok(json!(result))
}

async fn copy(s: Arc<Smoke>) -> Outcome {
    let client = open(&s.dsn).await?;
    let digest = format!("SELECT concat_ws(',', count(*), sum(id), count(note), md5(string_agg(note, '' ORDER BY id))) FROM {}.copied", s.schema);
    let into = format!("COPY {}.copied (id, note) FROM STDIN", s.schema);
    let mut result = vec![];
    let lines: Vec<_> = (0..20000).map(|i| Ok::<_, tokio_postgres::Error>(format!("{i}\tnote {i}\n").into_bytes().into())).collect();
    let sink = client.copy_in::<_, bytes::Bytes>(&into).await?;
    pin_mut!(sink);
    sink.send_all(&mut stream::iter(lines)).await?;
    result.push(json!(sink.finish().await?));
    result.push(texts(&client, &digest, &[]).await);
    let out: Vec<bytes::Bytes> = client.copy_out(&format!("COPY (SELECT * FROM {}.copied ORDER BY id) TO STDOUT", s.schema)).await?.try_collect().await?;
    result.push(json!(out.iter().map(|chunk| chunk.len()).sum::<usize>()));
    let sink = client.copy_in::<_, bytes::Bytes>(&into).await?;
    pin_mut!(sink);
    sink.send("not a number\tx\n".into()).await?;
    result.push(sink.finish().await.map_or_else(|e| failure(&e), |n| json!(n)));
    {
        let sink = client.copy_in::<_, bytes::Bytes>(&into).await?; // dropped: the COPY fails
        pin_mut!(sink);
        sink.send("100001\tx\n".into()).await?;
    }
    result.push(texts(&client, &digest, &[]).await);
    Ok(json!(result))
}

async fn running(watch: &Client, marker: &str) -> Result<(), Error> {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE $1";
    while watch.query_one(sql, &[&format!("%{marker}%")]).await?.get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn cancel(s: Arc<Smoke>) -> Outcome {
    let (one, neighbour, watch) = (open(&s.dsn).await?, open(&s.dsn).await?, open(&s.dsn).await?);
    let mut result = vec![];
    for turn in 0..5 {
        let marker = format!("{} cancel {turn}", s.schema);
        let sleeps = format!("SELECT pg_sleep(600)::text /* {marker} */");
        let canceller = async {
            running(&watch, &marker).await?;
            one.cancel_token().cancel_query(NoTls).await?;
            Ok::<_, Error>(())
        };
        let (slept, beside, done) = tokio::join!(
            texts(&one, &sleeps, &[]),
            texts(&neighbour, "SELECT '7' FROM pg_sleep(0.5)", &[]),
            canceller
        );
        done?;
        result.push(json!([slept, beside, texts(&one, "SELECT 'after'", &[]).await]));
    }
    one.cancel_token().cancel_query(NoTls).await?;
    result.push(texts(&one, "SELECT 'idle cancel does nothing'", &[]).await);
    Ok(json!(result))
}

async fn timeout(s: Arc<Smoke>) -> Outcome {
    let mut client = open(&s.dsn).await?;
    let hurried = open(&s.with(&[("statement_timeout", "500")])).await?;
    let mut result = vec![];
    for _ in 0..2 {
        result.push(texts(&hurried, "SELECT pg_sleep(600)::text", &[]).await);
    }
    let block = client.transaction().await?;
    result.push(done(&block, &format!("INSERT INTO {}.ledger VALUES (-2, 1)", s.schema), &[]).await);
    block.batch_execute("SET LOCAL statement_timeout = '50ms'").await?;
    result.push(texts(&block, "SELECT pg_sleep(600)::text", &[]).await);
    block.rollback().await?;
    result.push(texts(&client, "SELECT current_setting('statement_timeout')", &[]).await);
    // A future that is dropped: the query goes on, and what is asked next waits for it.
    let gave_up = tokio::time::timeout(Duration::from_millis(50), texts(&client, "SELECT pg_sleep(0.3)::text", &[])).await.is_err();
    result.push(json!([gave_up, texts(&client, "SELECT 'next'", &[]).await]));
    result.push(texts(&client, &format!("SELECT count(*)::text FROM {}.ledger WHERE task = -2", s.schema), &[]).await);
    Ok(json!(result))
}

async fn notices(s: Arc<Smoke>) -> Outcome {
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
    let (one, mut connection) = tokio_postgres::connect(&s.dsn, NoTls).await?;
    let hears = heard.clone();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            match message {
                AsyncMessage::Notice(n) => hears.lock().unwrap().push(json!([n.severity(), n.code().code(), n.message(), n.detail(), n.hint()])),
                AsyncMessage::Notification(n) => drop(told.send(json!([n.channel(), n.payload()]))),
                _ => {}
            }
        }
    });
    let other = open(&s.dsn).await?;
    for _ in 0..3 {
        one.batch_execute(RAISES).await?;
        other.batch_execute(RAISES).await?;
    }
    let channel = format!("{}_channel", s.schema);
    one.batch_execute(&format!("LISTEN {channel}")).await?;
    let mut got = vec![];
    for turn in 0..3 {
        for client in [&one, &other] {
            client.execute("SELECT pg_notify($1, $2)", &[&channel, &format!("turn {turn}")]).await?;
            got.push(telling.recv().await);
        }
    }
    one.batch_execute("UNLISTEN *").await?;
    let heard = heard.lock().unwrap().clone();
    Ok(json!([heard, got]))
}

async fn pipeline(s: Arc<Smoke>) -> Outcome {
    let client = open(&s.dsn).await?;
    let double = client.prepare("SELECT $1::int4 * 2").await?;
    let numbers: Vec<i32> = (0..500).collect();
    let asked = numbers.iter().map(|n| async { client.query_one(&double, &[n]).await.map(|row| row.get::<_, i32>(0)) });
    let sum: i32 = try_join_all(asked).await?.iter().sum();
    // Each with its own prepare, all of them at once.
    let each = join_all(["SELECT 'a'", "SELECT (1 / 0)::text", "SELECT nothing_like_this", "SELECT 'b'"].map(|text| texts(&client, text, &[]))).await;
    let insert = client.prepare(&format!("INSERT INTO {}.ledger VALUES (-3, $1)", s.schema)).await?;
    try_join_all(numbers.iter().map(|n| async { client.execute(&insert, &[n]).await })).await?;
    // BEGIN, work and COMMIT without waiting for any of them.
    let (begun, a, b, ended) = tokio::join!(
        client.batch_execute("BEGIN"), client.execute(&insert, &[&1000]), client.execute(&insert, &[&1001]), client.batch_execute("COMMIT")
    );
    let block = (begun.is_ok(), a.is_ok(), b.is_ok(), ended.is_ok());
    let count = texts(&client, &format!("SELECT concat_ws(',', count(*), sum(number)) FROM {}.ledger WHERE task = -3", s.schema), &[]).await;
    Ok(json!([sum, each, [block.0, block.1, block.2, block.3], count]))
}

async fn settings(s: Arc<Smoke>) -> Outcome {
    let mut clients = vec![];
    for (n, zone) in ["Asia/Tokyo", "Europe/Berlin", "America/New_York"].into_iter().enumerate() {
        let client = open(&s.dsn).await?;
        client.batch_execute(&format!("SET TimeZone = '{zone}'; SET work_mem = '{}MB'", n + 1)).await?;
        clients.push(client);
    }
    let mut result = vec![];
    for turn in 0..5 {
        for (n, client) in clients.iter().enumerate() {
            if turn == n {
                client.simple_query("SELECT 1").await?; // out of step, as above
            }
            let row = client.query_one("SELECT timestamptz '2024-07-01 12:00:00+00'::text, current_setting('work_mem'), pg_backend_pid()", &[]).await?;
            s.saw(n, row.get(2));
            result.push(json!([row.get::<_, String>(0), row.get::<_, String>(1)]));
        }
    }
    for client in &clients {
        client.batch_execute("RESET ALL").await?;
        result.push(texts(client, "SELECT current_setting('TimeZone')", &[]).await);
    }
    Ok(json!(result))
}

async fn concurrent(s: Arc<Smoke>) -> Outcome {
    let deadline = s.deadline();
    let running: Vec<_> = (0..s.tasks).map(|number| tokio::spawn(task(s.clone(), number, deadline))).collect();
    let mut wrong = vec![];
    for one in running {
        if let Err(error) = one.await? {
            wrong.push(error.to_string());
        }
    }
    wrong.truncate(10);
    Ok(json!({"tasks": s.tasks, "wrong": wrong}))
}

async fn task(s: Arc<Smoke>, number: usize, deadline: Instant) -> Result<(), Error> {
    let zone = format!("Etc/GMT%2B{}", number % 12);
    let mut client = open(&s.with(&[("TimeZone", &zone)])).await?;
    let (me, mut committed) = (number as i32, 0i64);
    let count = format!("SELECT count(*) FROM {}.ledger WHERE task = $1", s.schema);
    let insert = format!("INSERT INTO {}.ledger VALUES ($1, $2)", s.schema);
    let mut turn = 0;
    while turn < 30 || Instant::now() < deadline {
        turn += 1;
        let (got, want) = match (turn as usize + number) % 6 {
            0 => {
                let row = client.query_one("SELECT $1::int4 * 2, pg_backend_pid()", &[&me]).await?;
                s.saw(number, row.get(1));
                (json!(row.get::<_, i32>(0)), json!(me * 2))
            }
            kind @ (1 | 2) => {
                let block = client.transaction().await?;
                block.execute(&insert, &[&me, &turn]).await?;
                let got = block.query_one(&count, &[&me]).await?.get::<_, i64>(0);
                let want = committed + 1;
                if kind == 1 {
                    committed += 1;
                    block.commit().await?;
                }
                (json!(got), json!(want))
            }
            3 => (texts(&client, "SELECT (1 / ($1::int4 - $1::int4))::text", &[&me]).await["sqlstate"].clone(), json!("22012")),
            4 => (texts(&client, "SELECT current_setting('TimeZone')", &[]).await, json!([zone.replace("%2B", "+")])),
            _ => (json!(client.query_one(&count, &[&me]).await?.get::<_, i64>(0)), json!(committed)),
        };
        if got != want {
            return Err(format!("task {number}: got {got}, want {want}").into());
        }
    }
    Ok(())
}
