//! tokio-postgres and sqlx: the scenarios of test/drivers/scenarios_test.go.
//!
//! See test/drivers/python/smoke.py for what a program prints.

mod over_sqlx;
mod over_tokio_postgres;

use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Outcome = Result<Value, Error>;

/// One run of a scenario.
pub struct Smoke {
    pub dsn: String,
    pub schema: String,
    pub tasks: usize,
    pub statements: usize,
    pub seconds: f64,
    backends: Mutex<HashMap<usize, HashSet<i32>>>,
}

impl Smoke {
    /// Notes the backend that answered this client.
    pub fn saw(&self, client: usize, pid: i32) {
        self.backends.lock().unwrap().entry(client).or_default().insert(pid);
    }

    /// The DSN with startup parameters, as both crates read them.
    pub fn with(&self, settings: &[(&str, &str)]) -> String {
        let options: Vec<String> = settings.iter().map(|(name, value)| format!("-c%20{name}%3D{value}")).collect();
        format!("{}&options={}", self.dsn, options.join("%20"))
    }

    pub fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs_f64(self.seconds)
    }
}

pub type Scenario = fn(Arc<Smoke>) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Makes a Scenario of an async function.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        vec![$((stringify!($name), (|s| Box::pin($name(s))) as $crate::Scenario)),*]
    };
}

pub const RAISES: &str = "DO $$ BEGIN RAISE NOTICE 'a notice';
    RAISE WARNING 'a warning' USING DETAIL = 'detail', HINT = 'hint', ERRCODE = '01P99'; END $$";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments: HashMap<String, String> = HashMap::new();
    let mut given = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (given.next(), given.next()) {
        arguments.insert(name.trim_start_matches("--").to_string(), value);
    }
    let number = |name: &str, otherwise: f64| arguments.get(name).map_or(otherwise, |v| v.parse().expect(name));
    let all = match arguments["driver"].as_str() {
        "sqlx" => over_sqlx::all(),
        _ => over_tokio_postgres::all(),
    };
    for (name, run) in all {
        if arguments.get("only").is_some_and(|only| only != name) {
            continue;
        }
        let smoke = Arc::new(Smoke {
            dsn: arguments["dsn"].clone(),
            schema: arguments["schema"].clone(),
            tasks: number("tasks", 50.0) as usize,
            statements: number("statements", 1000.0) as usize,
            seconds: number("seconds", 1.0),
            backends: Mutex::default(),
        });
        let limit = Duration::from_secs_f64(number("limit", 60.0));
        let result = match tokio::time::timeout(limit, run(smoke.clone())).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => json!({"exception": "Error", "message": error.to_string()}),
            Err(_) => json!({"exception": "Timeout", "message": "hangs"}),
        };
        if result.get("exception").is_some() {
            eprintln!("{name}: {result}");
        }
        let backends = smoke.backends.lock().unwrap();
        let moved = backends.values().filter(|pids| pids.len() > 1).count();
        println!("{}", json!({"scenario": name, "result": result, "clients": backends.len(), "moved": moved}));
    }
}
