// libpq's pipeline mode: the scenarios of test/drivers/scenarios_test.go that are
// its own. What libpq does without a pipeline is shown by the drivers that are
// made with it.
//
// See test/drivers/python/smoke.py for what a program prints.

#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *dsn, *schema;
static int tasks = 50, statements = 1000;
static double seconds = 1;

// The result that is being written, and who was answered by which backends.
static char *out;
static size_t used, room;
enum { MAXCLIENTS = 1000 };
static int firstPid[MAXCLIENTS], moved[MAXCLIENTS];

static void put(const char *format, ...) {
  for (;;) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out + used, room - used, format, args);
    va_end(args);
    if (n >= 0 && used + (size_t)n < room) {
      used += (size_t)n;
      return;
    }
    room = room * 2 + (size_t)n + 1;
    out = realloc(out, room);
    if (out == NULL) abort();
  }
}

static void text(const char *s) {
  put("\"");
  for (; *s != 0; s++) {
    if (*s == '"' || *s == '\\') put("\\%c", *s);
    else if ((unsigned char)*s < ' ') put("\\u%04x", *s);
    else put("%c", *s);
  }
  put("\"");
}

static void comma(void) {
  if (used > 0 && out[used - 1] != '[' && out[used - 1] != ':') put(",");
}

static void saw(int client, const char *pid) {
  int p = atoi(pid);
  if (firstPid[client] == 0) firstPid[client] = p;
  else if (firstPid[client] != p) moved[client] = 1;
}

static void fatal(const char *what, PGconn *c) {
  fprintf(stderr, "%s: %s\n", what, PQerrorMessage(c));
  exit(1);
}

static PGconn *open_(void) {
  PGconn *c = PQconnectdb(dsn);
  if (PQstatus(c) != CONNECTION_OK) fatal("connect", c);
  return c;
}

// step reads one result of the pipeline and writes it down. A NULL that ends a
// query's results is "end".
static ExecStatusType step(PGconn *c) {
  PGresult *r = PQgetResult(c);
  comma();
  if (r == NULL) {
    put("\"end\"");
    return PGRES_EMPTY_QUERY;
  }
  ExecStatusType status = PQresultStatus(r);
  put("[");
  text(PQresStatus(status));
  if (status == PGRES_FATAL_ERROR) {
    put(",");
    text(PQresultErrorField(r, PG_DIAG_SQLSTATE) ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : "");
    put(",");
    text(PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : PQresultErrorMessage(r));
  } else if (status == PGRES_TUPLES_OK || status == PGRES_SINGLE_TUPLE) {
    put(",%d,", PQntuples(r));
    text(PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
  } else if (status == PGRES_COMMAND_OK) {
    put(",");
    text(PQcmdStatus(r));
  }
  put("]");
  PQclear(r);
  return status;
}

// steps reads up to and with the n-th sync.
static void steps(PGconn *c, int syncs) {
  while (syncs > 0)
    if (step(c) == PGRES_PIPELINE_SYNC) syncs--;
}

static void query(PGconn *c, const char *sql) {
  if (!PQsendQueryParams(c, sql, 0, NULL, NULL, NULL, NULL, 0)) fatal(sql, c);
}

static void number(PGconn *c, const char *statement, int n, int named) {
  char buffer[20];
  snprintf(buffer, sizeof buffer, "%d", n);
  const char *values[] = {buffer};
  int sent = named ? PQsendQueryPrepared(c, statement, 1, values, NULL, NULL, 0)
                   : PQsendQueryParams(c, statement, 1, NULL, values, NULL, NULL, 0);
  if (!sent) fatal(statement, c);
}

static void prepared(void) {
  // All of them prepared in one pipeline, twice as many as a server keeps; used in another, in the order in which they
  // would have been thrown away. A Close that a pooler sends in the midst of a client's batch loses the one that is next.
  PGconn *side[2] = {open_(), open_()};
  for (int s = 0; s < 2; s++) {
    PQenterPipelineMode(side[s]);
    for (int i = 0; i < statements; i++) {
      char name[20], sql[100];
      snprintf(name, sizeof name, "s%d", i);
      snprintf(sql, sizeof sql, "SELECT $1::int + %d, '%d_%d', pg_backend_pid()", i, s, i);
      if (!PQsendPrepare(side[s], name, sql, 0, NULL)) fatal("prepare", side[s]);
    }
    PQpipelineSync(side[s]);
    for (int i = 0; i < statements; i++) {
      PQclear(PQgetResult(side[s]));
      PGresult *end = PQgetResult(side[s]);
      if (end != NULL) fatal("prepare", side[s]);
    }
    PQclear(PQgetResult(side[s]));
  }
  int wrong = 0, answers = 0;
  for (int turn = 0; turn < 4; turn++) {
    for (int s = 0; s < 2; s++) {
      int every = turn == 0 ? statements : 7 * turn; // statements before a sync
      for (int i = 0; i < statements; i++) {
        char name[20];
        snprintf(name, sizeof name, "s%d", i);
        number(side[s], name, turn, 1);
        if ((i + 1) % every == 0 || i == statements - 1) PQpipelineSync(side[s]);
      }
    }
    for (int s = 0; s < 2; s++) {
      for (int i = 0; i < statements;) {
        PGresult *r = PQgetResult(side[s]);
        if (r == NULL) continue;
        if (PQresultStatus(r) == PGRES_TUPLES_OK) {
          char want[30];
          snprintf(want, sizeof want, "%d_%d", s, i);
          if (atoi(PQgetvalue(r, 0, 0)) != turn + i || strcmp(PQgetvalue(r, 0, 1), want) != 0) wrong++;
          saw(s, PQgetvalue(r, 0, 2));
          answers++;
          i++;
        } else if (PQresultStatus(r) != PGRES_PIPELINE_SYNC) {
          fprintf(stderr, "%s\n", PQresultErrorMessage(r));
          wrong++;
          i++;
        }
        PQclear(r);
      }
      PGresult *r;
      do {
        r = PQgetResult(side[s]);
      } while (r == NULL);
      PQclear(r);
    }
  }
  put("[%d,%d", answers, wrong);
  number(side[0], "s1", 1, 1);
  query(side[0], "DEALLOCATE ALL");
  PQpipelineSync(side[0]);
  number(side[0], "s1", 1, 1);
  PQpipelineSync(side[0]);
  steps(side[0], 2);
  PQsendPrepare(side[0], "s1", "SELECT 'made again'", 0, NULL);
  PQsendQueryPrepared(side[0], "s1", 0, NULL, NULL, NULL, 0);
  PQpipelineSync(side[0]);
  steps(side[0], 1);
  number(side[1], "s1", 1, 1);
  PQpipelineSync(side[1]);
  steps(side[1], 1);
  put("]");
  for (int s = 0; s < 2; s++) PQfinish(side[s]);
}

static void transaction(void) {
  PGconn *c = open_();
  char insert[200], count[200];
  snprintf(insert, sizeof insert, "INSERT INTO %s.items VALUES ($1::int, 'note ' || $1::int)", schema);
  snprintf(count, sizeof count, "SELECT count(*) FROM %s.items", schema);
  PQenterPipelineMode(c);
  put("[");
  // Without BEGIN everything up to a sync is one transaction.
  number(c, insert, 1, 0);
  number(c, insert, 2, 0);
  PQpipelineSync(c);
  number(c, insert, 3, 0);
  number(c, insert, 1, 0);
  number(c, insert, 4, 0);
  PQpipelineSync(c);
  query(c, count);
  PQpipelineSync(c);
  steps(c, 3);
  // A block that spans syncs, and fails in the midst.
  query(c, "BEGIN");
  PQpipelineSync(c);
  number(c, insert, 5, 0);
  query(c, "SAVEPOINT a");
  PQpipelineSync(c);
  number(c, insert, 5, 0);
  number(c, insert, 6, 0);
  PQpipelineSync(c);
  query(c, "SELECT 1");
  PQpipelineSync(c);
  query(c, "ROLLBACK TO a");
  number(c, insert, 7, 0);
  query(c, "COMMIT");
  PQpipelineSync(c);
  query(c, count);
  PQpipelineSync(c);
  steps(c, 6);
  put("]");
  PQfinish(c);
}

static void cursor(void) {
  // One row at a time, with others on their way.
  PGconn *c = open_();
  PQenterPipelineMode(c);
  number(c, "SELECT n, repeat('x', 1000) FROM generate_series(1, $1::int) AS n", 2000, 0);
  number(c, "SELECT 10 / (20 - n) FROM generate_series(1, $1::int) AS n", 30, 0);
  PQpipelineSync(c);
  query(c, "SELECT 'afterwards'");
  PQpipelineSync(c);
  long sum = 0;
  int single = 0;
  PQsetSingleRowMode(c);
  for (PGresult *r; (r = PQgetResult(c)) != NULL; PQclear(r)) {
    if (PQresultStatus(r) != PGRES_SINGLE_TUPLE) continue;
    single++;
    sum += atoi(PQgetvalue(r, 0, 0));
  }
  put("[%d,%ld", single, sum);
  PQsetSingleRowMode(c);
  steps(c, 2);
  put("]");
  PQfinish(c);
}

static void cancel(void) {
  PGconn *c = open_(), *watch = open_();
  put("[");
  for (int turn = 0; turn < 3; turn++) {
    char sleeps[200], looks[400];
    snprintf(sleeps, sizeof sleeps, "SELECT pg_sleep(600) /* %s cancel %d */", schema, turn);
    snprintf(looks, sizeof looks,
             "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE '%%%s cancel %d *%%'",
             schema, turn);
    PQenterPipelineMode(c);
    query(c, "SELECT 'before'");
    PQpipelineSync(c);
    query(c, sleeps);
    query(c, "SELECT 'skipped'");
    PQpipelineSync(c);
    query(c, "SELECT 'behind'");
    PQpipelineSync(c);
    PQflush(c);
    for (int running = 0; !running;) {
      PGresult *r = PQexec(watch, looks);
      running = atoi(PQgetvalue(r, 0, 0));
      PQclear(r);
      if (!running) usleep(10000);
    }
    PGcancel *request = PQgetCancel(c);
    char error[256];
    if (!PQcancel(request, error, sizeof error)) fatal(error, c);
    PQfreeCancel(request);
    steps(c, 3);
    PQexitPipelineMode(c);
  }
  put("]");
  PQfinish(c);
  PQfinish(watch);
}

static void pipeline(void) {
  PGconn *c = open_();
  PQenterPipelineMode(c);
  put("[");
  // A flush in place of a sync: the server stays, and answers.
  // apps: prepare
  PQsendPrepare(c, "one", "SELECT $1::int * 2", 0, NULL);
  PQsendDescribePrepared(c, "one");
  PQsendFlushRequest(c);
  PQflush(c);
  // apps: end
  step(c);
  step(c);
  step(c);
  step(c);
  // The same statement again, known by now: its answer must come without the server saying anything.
  number(c, "one", 21, 1);
  PQsendFlushRequest(c);
  PQflush(c);
  step(c);
  step(c);
  query(c, "SELECT nothing_like_this");
  number(c, "one", 1, 1);
  PQpipelineSync(c);
  steps(c, 1);
  // Large rows between small ones: nobody gets another's.
  for (int i = 0; i < 20; i++) {
    number(c, "one", i, 1);
    if (i % 5 == 0) number(c, "SELECT md5(repeat('x', 3000000 + $1::int)) || repeat('y', 300000)", i, 0);
    if (i % 3 == 0) PQpipelineSync(c);
  }
  PQpipelineSync(c);
  int syncs = 8;
  while (syncs > 0) {
    PGresult *r = PQgetResult(c);
    if (r == NULL) continue;
    comma();
    if (PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
      put("\"sync\"");
      syncs--;
    } else {
      put("[\"%.40s\",%d]", PQgetvalue(r, 0, 0), PQgetlength(r, 0, 0));
    }
    PQclear(r);
  }
  // Syncs alone, and a thousand of them.
  for (int i = 0; i < 1000; i++) PQpipelineSync(c);
  for (int i = 0; i < 1000; i++) PQclear(PQgetResult(c));
  query(c, "SELECT 'the end'");
  PQpipelineSync(c);
  steps(c, 1);
  put("]");
  PQfinish(c);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void concurrent(void) {
  // Every connection has its pipeline on the way before the first is read.
  int n = tasks < MAXCLIENTS ? tasks : MAXCLIENTS, wrong = 0;
  PGconn **all = calloc((size_t)n, sizeof *all);
  for (int i = 0; i < n; i++) {
    all[i] = open_();
    PQenterPipelineMode(all[i]);
    PQsendPrepare(all[i], "mine", i % 2 ? "SELECT $1::int * 3, pg_backend_pid()" : "SELECT $1::int * 2, pg_backend_pid()", 0, NULL);
    PQpipelineSync(all[i]);
  }
  for (int i = 0; i < n; i++) {
    PQclear(PQgetResult(all[i]));
    PQgetResult(all[i]);
    PQclear(PQgetResult(all[i]));
  }
  double end = now() + seconds;
  for (int turn = 0; turn < 5 || now() < end; turn++) {
    for (int i = 0; i < n; i++) {
      for (int k = 0; k < 10; k++) {
        number(all[i], "mine", turn + k, 1);
        if (k % 4 == 3) query(all[i], "SELECT 1 / 0");
        if (k % 2) PQpipelineSync(all[i]);
      }
      PQflush(all[i]);
    }
    for (int i = 0; i < n; i++) {
      int k = 0;
      for (int syncs = 0; syncs < 5;) {
        PGresult *r = PQgetResult(all[i]);
        if (r == NULL) continue;
        ExecStatusType status = PQresultStatus(r);
        if (status == PGRES_PIPELINE_SYNC) syncs++;
        else if (status == PGRES_TUPLES_OK) {
          if (atoi(PQgetvalue(r, 0, 0)) != (turn + k) * (i % 2 ? 3 : 2)) wrong++;
          saw(i, PQgetvalue(r, 0, 1));
          k++;
        } else if (strcmp(PQresultErrorField(r, PG_DIAG_SQLSTATE), "22012") != 0) wrong++;
        PQclear(r);
      }
      if (k != 10) wrong++;
    }
  }
  put("{\"tasks\":%d,\"wrong\":[", n);
  if (wrong > 0) put("%d", wrong);
  put("]}");
  for (int i = 0; i < n; i++) PQfinish(all[i]);
  free(all);
}

int main(int argc, char **argv) {
  const char *only = NULL;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--dsn") == 0) dsn = argv[i + 1];
    else if (strcmp(argv[i], "--schema") == 0) schema = argv[i + 1];
    else if (strcmp(argv[i], "--tasks") == 0) tasks = atoi(argv[i + 1]);
    else if (strcmp(argv[i], "--statements") == 0) statements = atoi(argv[i + 1]);
    else if (strcmp(argv[i], "--seconds") == 0) seconds = atof(argv[i + 1]);
    else if (strcmp(argv[i], "--limit") == 0) alarm(6 * (unsigned)atoi(argv[i + 1])); // ends the program that hangs
    else if (strcmp(argv[i], "--only") == 0) only = argv[i + 1];
  }
  const struct {
    const char *name;
    void (*run)(void);
  } scenarios[] = {{"prepared", prepared}, {"transaction", transaction}, {"cursor", cursor},
                   {"cancel", cancel},     {"pipeline", pipeline},       {"concurrent", concurrent}};
  for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
    if (only != NULL && strcmp(only, scenarios[i].name) != 0) continue;
    memset(firstPid, 0, sizeof firstPid);
    memset(moved, 0, sizeof moved);
    used = 0;
    scenarios[i].run();
    int clients = 0, changed = 0;
    for (int c = 0; c < MAXCLIENTS; c++) {
      clients += firstPid[c] != 0;
      changed += moved[c];
    }
    printf("{\"scenario\":\"%s\",\"result\":%s,\"clients\":%d,\"moved\":%d}\n", scenarios[i].name, out, clients, changed);
    fflush(stdout);
  }
  return 0;
}
