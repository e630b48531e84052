package drivers

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgpoold/test/drivers/toolchain"
)

// pgx5 is pgx with a query exec mode.
func pgx5(name, title string, mode pgx.QueryExecMode) driver {
	return driver{
		name: name, title: title, manifest: goManifest, packages: []string{"github.com/jackc/pgx/v5"}, scenarios: scenarios,
		run: func(ctx context.Context, _ *testing.T, _ *lane, args programArgs) ([]line, error) {
			return runPgx(ctx, mode, args)
		},
	}
}

// python is a driver whose program is in the folder of that name.
func python(name, title, program string, packages ...string) driver {
	return driver{
		name: name, title: title, manifest: pythonManifest, packages: packages, scenarios: scenarios,
		run: func(ctx context.Context, t *testing.T, _ *lane, args programArgs) ([]line, error) {
			return runProgram(ctx, t, "python", args, toolchain.Python(t), program)
		},
	}
}

func node(name, title, program string, packages ...string) driver {
	return driver{
		name: name, title: title, manifest: nodeManifest, packages: packages, scenarios: scenarios,
		run: func(ctx context.Context, t *testing.T, _ *lane, args programArgs) ([]line, error) {
			return runProgram(ctx, t, "node", args, toolchain.Node(t), program)
		},
	}
}

func compiled(name, title, manifest string, command func(testing.TB) []string, packages ...string) driver {
	return driver{
		name: name, title: title, manifest: manifest, packages: packages, scenarios: scenarios,
		run: func(ctx context.Context, t *testing.T, _ *lane, args programArgs) ([]line, error) {
			return runProgram(ctx, t, ".", args, command(t)...)
		},
	}
}

// alone is a program that needs no interpreter.
func alone(program func(testing.TB) string) func(testing.TB) []string {
	return func(tb testing.TB) []string { return []string{program(tb)} }
}

// without says which scenarios a driver lacks, and why.
func (d driver) without(lacks map[string]string) driver {
	d.lacks = lacks
	return d
}

// orm is what an object mapper leaves to the driver under it.
func orm(name string) map[string]string {
	lacks := make(map[string]string)
	for _, scenario := range []string{"cursor", "copy", "cancel", "notices"} {
		lacks[scenario] = name + " has nothing of the kind: a program asks the driver under it, which has a row of its own"
	}
	return lacks
}

// libpq is what the C program leaves to the drivers that are made with libpq.
var libpq = func() map[string]string {
	lacks := make(map[string]string)
	for _, scenario := range []string{"connect", "types", "ddl", "copy", "timeout", "notices", "settings"} {
		lacks[scenario] = "the same with a pipeline and without: psycopg and psycopg2 are made with libpq and show it"
	}
	return lacks
}()

// drivers are the rows of the table. Those that take longest begin.
var drivers = []driver{
	python("asyncpg", "asyncpg", "smoke_asyncpg.py", "asyncpg"),
	python("psycopg", "psycopg 3", "smoke_psycopg.py", "psycopg"),
	python("psycopg2", "psycopg2", "smoke_psycopg2.py", "psycopg2-binary").without(map[string]string{
		"pipeline": "psycopg2 sends one query and waits for its answer; it has nothing to pipeline with",
	}),
	python("sqlalchemy-asyncpg", "SQLAlchemy over asyncpg", "smoke_sqlalchemy.py", "SQLAlchemy", "asyncpg"),
	python("sqlalchemy-psycopg", "SQLAlchemy over psycopg 3", "smoke_sqlalchemy.py", "SQLAlchemy", "psycopg"),
	python("django", "Django over psycopg 3", "smoke_django.py", "Django", "psycopg"),
	node("node-postgres", "node-postgres", "smoke_pg.js", "pg"),
	node("postgres.js", "postgres.js", "smoke_postgres.js", "postgres"),
	node("drizzle-postgres.js", "Drizzle over postgres.js", "smoke_drizzle.js", "drizzle-orm", "postgres").without(orm("Drizzle")),
	node("drizzle-node-postgres", "Drizzle over node-postgres", "smoke_drizzle.js", "drizzle-orm", "pg").without(orm("Drizzle")),
	node("prisma", "Prisma over its adapter for node-postgres", "smoke_prisma.js", "prisma", "@prisma/adapter-pg").without(orm("Prisma")),
	pgx5("pgx", "pgx, cache statement (its default)", pgx.QueryExecModeCacheStatement),
	pgx5("pgx-cache-describe", "pgx, cache describe", pgx.QueryExecModeCacheDescribe),
	pgx5("pgx-describe-exec", "pgx, describe exec", pgx.QueryExecModeDescribeExec),
	pgx5("pgx-exec", "pgx, exec", pgx.QueryExecModeExec),
	pgx5("pgx-simple-protocol", "pgx, simple protocol", pgx.QueryExecModeSimpleProtocol),
	compiled("libpq-pipeline", "libpq's pipeline mode (C)", machinesManifest, alone(toolchain.C)).without(libpq),
	compiled("lib-pq", "lib/pq", goOtherManifest, alone(toolchain.Go), "github.com/lib/pq").without(map[string]string{
		"pipeline": "lib/pq sends one query and waits for its answer; it has nothing to pipeline with",
	}),
	compiled("gorm", "GORM over pgx", goOtherManifest, alone(toolchain.Go), "gorm.io/gorm", "github.com/jackc/pgx/v5").without(map[string]string{
		"copy":    orm("GORM")["copy"],
		"notices": orm("GORM")["notices"],
	}),
	compiled("pgjdbc", "pgjdbc with HikariCP", javaManifest, toolchain.Java, "postgresql", "HikariCP"),
	compiled("tokio-postgres", "tokio-postgres", rustManifest, alone(toolchain.Rust), "tokio-postgres"),
	compiled("sqlx", "sqlx", rustManifest, alone(toolchain.Rust), "sqlx").without(map[string]string{
		"cancel":   "sqlx has no cancel: a query that nobody waits for any more goes on, and what is asked next waits for it",
		"pipeline": "sqlx sends one query and waits for its answer; it has nothing to pipeline with",
	}),
	{name: "psql", title: "psql", scenarios: psqlScenarios, run: runPsql},
	{name: "pgbench", title: "pgbench", scenarios: pgbenchScenarios, run: runPgbench},
}
