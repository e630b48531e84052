// pgjdbc with HikariCP: the scenarios of test/drivers/scenarios_test.go.

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.LocalDate;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;

public class Smoke {
  static final Map<String, String> arguments = new LinkedHashMap<>();
  static final Map<Object, Set<Integer>> backends = new ConcurrentHashMap<>();
  static final ExecutorService threads = Executors.newCachedThreadPool(r -> {
    Thread t = new Thread(r);
    t.setDaemon(true);
    return t;
  });
  static String url, user, password, schema;

  // What the program prints, as test/drivers/python/smoke.py says.
  public static void main(String[] args) throws Exception {
    for (int i = 0; i < args.length; i += 2) arguments.put(args[i].substring(2), args[i + 1]);
    URI dsn = URI.create(arguments.get("dsn"));
    String[] credentials = dsn.getUserInfo().split(":", 2);
    url = "jdbc:postgresql://" + dsn.getAuthority().substring(dsn.getAuthority().indexOf('@') + 1) + dsn.getPath();
    user = credentials[0];
    password = credentials[1];
    schema = arguments.get("schema");
    Map<String, Callable<Object>> scenarios = new LinkedHashMap<>();
    scenarios.put("connect", Smoke::connect);
    scenarios.put("types", Smoke::types);
    scenarios.put("prepared", Smoke::prepared);
    scenarios.put("ddl", Smoke::ddl);
    scenarios.put("transaction", Smoke::transaction);
    scenarios.put("cursor", Smoke::cursor);
    scenarios.put("copy", Smoke::copy);
    scenarios.put("cancel", Smoke::cancel);
    scenarios.put("timeout", Smoke::timeout);
    scenarios.put("notices", Smoke::notices);
    scenarios.put("pipeline", Smoke::pipeline);
    scenarios.put("settings", Smoke::settings);
    scenarios.put("concurrent", Smoke::concurrent);
    for (Map.Entry<String, Callable<Object>> scenario : scenarios.entrySet()) {
      if (arguments.containsKey("only") && !scenario.getKey().equals(arguments.get("only"))) continue;
      backends.clear();
      Object result;
      Future<Object> running = threads.submit(scenario.getValue());
      try {
        result = running.get((long) Double.parseDouble(arguments.get("limit")), TimeUnit.SECONDS);
      } catch (Exception e) {
        Throwable cause = e.getCause() == null ? e : e.getCause();
        cause.printStackTrace();
        result = map("exception", cause.getClass().getSimpleName(), "message", String.valueOf(cause.getMessage()));
      }
      long moved = backends.values().stream().filter(pids -> pids.size() > 1).count();
      System.out.println(json(map("scenario", scenario.getKey(), "result", result, "clients", backends.size(), "moved", moved)));
      System.out.flush();
    }
    System.exit(0);
  }

  static void saw(Object client, int pid) {
    backends.computeIfAbsent(client, k -> Collections.synchronizedSet(new HashSet<>())).add(pid);
  }

  static Map<String, Object> map(Object... pairs) {
    Map<String, Object> m = new LinkedHashMap<>();
    for (int i = 0; i < pairs.length; i += 2) m.put((String) pairs[i], pairs[i + 1]);
    return m;
  }

  static List<Object> list(Object... values) {
    return new ArrayList<>(Arrays.asList(values));
  }

  static String json(Object value) {
    if (value == null || value instanceof Number || value instanceof Boolean) return String.valueOf(value);
    StringBuilder b = new StringBuilder();
    if (value instanceof Map<?, ?> m) {
      for (Map.Entry<?, ?> e : m.entrySet()) b.append(b.length() == 0 ? "" : ",").append(json(e.getKey())).append(":").append(json(e.getValue()));
      return "{" + b + "}";
    }
    if (value instanceof List<?> l) {
      for (Object o : l) b.append(b.length() == 0 ? "" : ",").append(json(o));
      return "[" + b + "]";
    }
    for (char c : value.toString().toCharArray()) {
      if (c == '"' || c == '\\') b.append('\\').append(c);
      else if (c < ' ' || c > '~') b.append(String.format("\\u%04x", (int) c));
      else b.append(c);
    }
    return "\"" + b + "\"";
  }

  static Connection open(String... settings) throws SQLException {
    Properties p = new Properties();
    p.setProperty("user", user);
    p.setProperty("password", password);
    for (int i = 0; i < settings.length; i += 2) p.setProperty(settings[i], settings[i + 1]);
    return DriverManager.getConnection(url, p);
  }

  static List<Object> rows(Connection c, String sql, Object... values) throws SQLException {
    try (PreparedStatement s = c.prepareStatement(sql)) {
      return rows(s, values);
    }
  }

  static List<Object> rows(PreparedStatement s, Object... values) throws SQLException {
    for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
    List<Object> found = new ArrayList<>();
    if (!s.execute()) return list(s.getUpdateCount());
    try (ResultSet r = s.getResultSet()) {
      int columns = r.getMetaData().getColumnCount();
      while (r.next()) {
        List<Object> row = new ArrayList<>();
        for (int i = 1; i <= columns; i++) {
          Object o = r.getObject(i);
          row.add(o instanceof byte[] b ? md5(b) : o instanceof Number || o instanceof Boolean || o == null ? o : r.getString(i));
        }
        found.add(row);
      }
    }
    return found;
  }

  static Object value(Connection c, String sql, Object... values) throws SQLException {
    return ((List<?>) rows(c, sql, values).get(0)).get(0);
  }

  static int pid(Connection c) throws SQLException {
    return ((Number) value(c, "SELECT pg_backend_pid()")).intValue();
  }

  interface Work {
    Object run() throws Exception;
  }

  static Object outcome(Work work) throws Exception {
    try {
      return work.run();
    } catch (SQLException e) {
      return failure(e);
    }
  }

  static Object failure(SQLException e) {
    if (e instanceof BatchUpdateException b && b.getNextException() != null) {
      int done = 0;
      for (int n : b.getUpdateCounts()) done += n == Statement.EXECUTE_FAILED ? 0 : 1;
      return map("batch", done, "failure", failure(b.getNextException()));
    }
    if (e instanceof PSQLException p && p.getServerErrorMessage() != null) {
      return map("sqlstate", e.getSQLState(), "message", p.getServerErrorMessage().getMessage(), "severity", p.getServerErrorMessage().getSeverity());
    }
    return map("sqlstate", e.getSQLState(), "error", e.getClass().getSimpleName());
  }

  static Object connect() throws Exception {
    Map<String, Object> result = map();
    List<Object> shown = list();
    // pgjdbc sends TimeZone, DateStyle, extra_float_digits and client_encoding with every login.
    try (Connection ours = open("ApplicationName", "smoke jdbc", "currentSchema", schema, "options", "-c statement_timeout=12345 -c work_mem=3MB", "readOnly", "true");
        Connection plain = open()) {
      for (int turn = 0; turn < 4; turn++) {
        for (Connection c : List.of(ours, plain)) {
          for (String name : List.of("application_name", "search_path", "statement_timeout", "work_mem", "TimeZone", "DateStyle", "extra_float_digits", "client_encoding")) {
            shown.add(value(c, "SHOW " + name));
          }
        }
      }
      result.put("reported", new LinkedHashMap<String, Object>(ours.unwrap(PGConnection.class).getParameterStatuses()));
      result.put("meta", list(ours.getMetaData().getDatabaseProductVersion(), ours.getMetaData().getUserName(), ours.getCatalog(), ours.getSchema(), plain.getSchema()));
      List<Object> tables = list();
      try (ResultSet r = plain.getMetaData().getTables(null, schema, "%", new String[] {"TABLE"})) {
        while (r.next()) tables.add(r.getString(3));
      }
      result.put("tables", tables);
      result.put("valid", list(ours.isValid(10), plain.isValid(10)));
    }
    result.put("shown", shown);
    result.put("wrong password", outcome(() -> open("password", "not the password").getCatalog()));
    result.put("unknown user", outcome(() -> open("user", "nobody_of_that_name").getCatalog()));
    result.put("unknown database", outcome(() -> DriverManager.getConnection(url + "_no", user, password).getCatalog()) instanceof Map<?, ?> m ? m.get("sqlstate") : "connected");
    result.put("bad setting", outcome(() -> open("options", "-c IntervalStyle=nowhere").getCatalog()));
    return result;
  }

  static Object types() throws Exception {
    List<Object> result = list();
    OffsetDateTime moment = OffsetDateTime.of(2024, 2, 29, 23, 59, 59, 123456000, ZoneOffset.UTC);
    Object[][] sent = {
      {"int2", (short) -32768}, {"int4", Integer.MAX_VALUE}, {"int8", Long.MIN_VALUE},
      {"numeric", new BigDecimal("123456789012345678901234567890.123456789")}, {"float4", 1.5f}, {"float8", Double.POSITIVE_INFINITY},
      {"float8", 1e-300}, {"bool", true}, {"text", "Größe 舵 ⚓ O'ring \\ ?"}, {"text", "x".repeat(100_000)}, {"text", ""}, {"text", null},
      {"bytea", new byte[] {0, 1, -2, -1}}, {"uuid", new UUID(0, 7)}, {"date", LocalDate.of(1, 1, 1)}, {"time", LocalTime.of(12, 30)},
      {"timestamptz", moment}, {"timestamp", moment.toLocalDateTime()}, {"interval", "3 days 00:00:04"}, {"json", "{\"a\": [1, null]}"},
      {"jsonb", "{\"a\": [1, null]}"}, {"int4[]", "{{1,2},{3,4}}"}, {"text[]", "{a,NULL,\"q\\\"\"}"}, {"point", "(1,2)"}, {"int4range", "[1,10)"},
      {schema + ".mood", "stormy"}, {schema + ".position", "(54.3,10.1)"},
    };
    try (Connection c = open()) {
      // More often than prepareThreshold: text at first, a named statement with binary results from then on.
      for (int turn = 0; turn < 7; turn++) {
        for (Object[] s : sent) {
          String cast = s[1] instanceof String && !s[0].equals("text") ? "CAST(CAST(? AS text) AS " + s[0] + ")" : "CAST(? AS " + s[0] + ")";
          String back = String.valueOf(value(c, "SELECT " + cast, s[1]));
          result.add(list(s[0], back.length(), back.substring(0, Math.min(back.length(), 100))));
        }
      }
      result.add(outcome(() -> rows(c, "SELECT CAST(CAST(? AS text) AS int4)", "not a number")));
      try (PreparedStatement s = c.prepareStatement("SELECT ?::int AS a, array[1,2]::int[] AS b")) {
        result.add(list(s.getParameterMetaData().getParameterTypeName(1), s.getMetaData().getColumnTypeName(2)));
      }
      result.add(rows(c, "SELECT ? = ANY (?)", 2, c.createArrayOf("int4", new Integer[] {1, 2, 3})));
    }
    return result;
  }

  static Object prepared() throws Exception {
    Map<String, Object> result = map();
    List<Object> wrong = list();
    int answers = 0;
    // pgjdbc names its statements S_1, S_2, ... on every connection; each becomes one at its fifth execution.
    // preparedStatementCacheQueries holds 256: with a thousand texts statements are closed and prepared again, while
    // those that stay open keep theirs.
    String[] sides = {"left", "right"};
    try (Connection left = open(); Connection right = open()) {
      Connection[] connections = {left, right};
      int count = Integer.parseInt(arguments.get("statements"));
      PreparedStatement[][] statements = new PreparedStatement[2][count];
      for (int side = 0; side < 2; side++) {
        for (int i = 0; i < count; i++) {
          statements[side][i] = connections[side].prepareStatement("SELECT ?::int + " + i + ", '" + sides[side] + i + "', pg_backend_pid()");
          statements[side][i].unwrap(org.postgresql.PGStatement.class).setPrepareThreshold(i % 3 == 0 ? 1 : 5);
        }
      }
      for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < count; i++) {
          if (i % 7 == 0) rows(left, "SELECT 1"); // clients that take turns in step would meet the same server each time
          for (int side = 0; side < 2; side++) {
            connections[side].setAutoCommit(turn != 1);
            List<?> row = (List<?>) rows(statements[side][i], turn).get(0);
            if (turn == 1) connections[side].commit();
            saw(side, ((Number) row.get(2)).intValue());
            answers++;
            if (((Number) row.get(0)).intValue() != turn + i || !row.get(1).equals(sides[side] + i)) wrong.add(list(sides[side], i, turn, row));
          }
        }
      }
      for (PreparedStatement[] all : statements) for (PreparedStatement s : all) s.close();
      result.put("reused", list());
      int sum = 0;
      for (int i = 0; i < 50; i++) sum += ((Number) value(left, "SELECT ?::int * 2", i)).intValue();
      result.put("sum", sum);
      left.setAutoCommit(true);
      result.put("bad", list(outcome(() -> rows(left, "SELECT nothing_like_this")), rows(left, "SELECT 5")));
      // DISCARD ALL and DEALLOCATE ALL take the driver's statements away under it; it knows them by their tags.
      try (PreparedStatement s = left.prepareStatement("SELECT ?::int + 1")) {
        List<Object> after = list();
        for (String clear : List.of("DEALLOCATE ALL", "DISCARD ALL")) {
          for (int i = 0; i < 7; i++) after.add(rows(s, i));
          try (Statement q = left.createStatement()) {
            q.execute(clear);
          }
          after.add(outcome(() -> rows(s, 100)));
        }
        result.put("after", after);
      }
    }
    result.put("answers", answers);
    result.put("wrong", wrong.subList(0, Math.min(5, wrong.size())));
    return result;
  }

  static Object ddl() throws Exception {
    Map<String, Object> result = map();
    String table = schema + ".changed";
    try (Connection changes = open(); Connection reads = open();
        PreparedStatement all = reads.prepareStatement("SELECT * FROM " + table)) {
      rows(changes, "CREATE TABLE " + table + " (a int)");
      rows(changes, "INSERT INTO " + table + " VALUES (1)");
      List<Object> before = list();
      for (int i = 0; i < 7; i++) before.add(rows(all));
      rows(changes, "ALTER TABLE " + table + " ADD COLUMN b int DEFAULT 2");
      // autosave=never, the default: outside of a transaction the driver prepares anew by itself.
      result.put("after", list(outcome(() -> rows(all)), outcome(() -> rows(all))));
      rows(changes, "ALTER TABLE " + table + " ALTER a TYPE text");
      reads.setAutoCommit(false);
      result.put("inside", outcome(() -> rows(all)));
      reads.rollback();
      result.put("once more", outcome(() -> rows(all)));
      reads.rollback();
      rows(changes, "DROP TABLE " + table);
      result.put("dropped", outcome(() -> rows(all)));
      result.put("before", before);
    }
    return result;
  }

  static Object transaction() throws Exception {
    Map<String, Object> result = map();
    String items = schema + ".items", insert = "INSERT INTO " + items + " VALUES (?, ?, ?)", count = "SELECT count(*) FROM " + items;
    try (Connection one = open(); Connection other = open()) {
      one.setAutoCommit(false);
      rows(one, insert, 1, "one", null);
      Savepoint a = one.setSavepoint("a");
      result.put("duplicate", outcome(() -> rows(one, insert, 2, "one", null)));
      result.put("failed", outcome(() -> rows(one, "SELECT 1")));
      one.rollback(a);
      Savepoint b = one.setSavepoint();
      rows(one, insert, 3, "three", 1);
      one.releaseSavepoint(b);
      result.put("seen", list(value(one, count), value(other, count)));
      one.commit();
      result.put("after commit", rows(other, "SELECT * FROM " + items + " ORDER BY id"));
      rows(one, insert, 4, "four", null);
      result.put("division", outcome(() -> rows(one, "SELECT 1 / 0")));
      result.put("commit of a failed one", outcome(() -> {
        one.commit();
        return "committed";
      }));
      one.rollback();
      rows(one, insert, 5, "five", 999);
      result.put("deferred constraint", outcome(() -> {
        one.commit();
        return "committed";
      }));
      one.rollback();
      one.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
      one.setReadOnly(true);
      result.put("isolation", value(one, "SHOW transaction_isolation"));
      result.put("read only", outcome(() -> rows(one, insert, 6, "six", null)));
      one.rollback();
      result.put("isolation elsewhere", value(other, "SHOW transaction_isolation"));
      one.setReadOnly(false);
      result.put("still", list(one.getTransactionIsolation(), value(one, "SHOW default_transaction_isolation")));
      one.rollback();
      result.put("many statements", outcome(() -> rows(other, "INSERT INTO " + items + " VALUES (7, 'seven', NULL); SELECT 1/0; SELECT 3")));
      try (Statement s = other.createStatement()) {
        List<Object> several = list();
        boolean more = s.execute("SELECT 1; SELECT 2, 3; UPDATE " + items + " SET note = note; SELECT 4");
        for (; more || s.getUpdateCount() != -1; more = s.getMoreResults()) several.add(more ? "rows" : (Object) s.getUpdateCount());
        result.put("several", several);
      }
      try (PreparedStatement s = other.prepareStatement("INSERT INTO " + items + " VALUES (8, 'eight', NULL)", Statement.RETURN_GENERATED_KEYS)) {
        s.executeUpdate();
        try (ResultSet keys = s.getGeneratedKeys()) {
          keys.next();
          result.put("key", keys.getInt(1));
        }
      }
      result.put("end", rows(other, "SELECT * FROM " + items + " ORDER BY id"));
    }
    return result;
  }

  static Object cursor() throws Exception {
    Map<String, Object> result = map();
    String text = "SELECT n, repeat('x', n % 50) FROM generate_series(1, ?) AS n";
    try (Connection c = open()) {
      c.setAutoCommit(false);
      try (PreparedStatement one = c.prepareStatement(text); PreparedStatement two = c.prepareStatement(text)) {
        one.setFetchSize(100);
        two.setFetchSize(7);
        for (int turn = 0; turn < 7; turn++) { // from a portal of the unnamed statement to those of a named one
          one.setInt(1, 5000);
          two.setInt(1, 50);
          long n = 0, sum = 0;
          List<Object> between = list();
          try (ResultSet r = one.executeQuery(); ResultSet s = two.executeQuery()) {
            while (r.next()) {
              n++;
              sum += r.getInt(1);
              if (s.next()) between.add(s.getInt(1));
            }
          }
          result.put("iterated " + turn, list(n, sum, between.size()));
        }
        one.setInt(1, 5000);
        try (ResultSet r = one.executeQuery()) {
          r.next();
          result.put("left early", list(r.getInt(1), value(c, "SELECT 25")));
        }
        c.commit();
        // A portal ends with its transaction.
        one.setInt(1, 5000);
        ResultSet r = one.executeQuery();
        r.next();
        c.commit();
        result.put("after commit", outcome(() -> {
          int n = 0;
          while (r.next()) n++;
          return n;
        }));
        c.rollback();
      }
      try (PreparedStatement s = c.prepareStatement("SELECT 10 / (200 - n) FROM generate_series(1, 300) AS n")) {
        s.setFetchSize(10);
        int[] before = {0};
        result.put("error inside", outcome(() -> {
          try (ResultSet r = s.executeQuery()) {
            while (r.next()) before[0]++;
          }
          return "none";
        }));
        result.put("before the error", before[0]);
      }
      c.rollback();
      try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
        s.setFetchSize(10);
        try (ResultSet r = s.executeQuery("SELECT n FROM generate_series(1, 100) AS n")) {
          r.absolute(50);
          c.commit();
          int at = r.getInt(1);
          r.last();
          result.put("scrolled", list(at, r.getInt(1)));
        }
      }
      result.put("afterwards", value(c, "SELECT 1"));
    }
    return result;
  }

  static Object copy() throws Exception {
    Map<String, Object> result = map();
    String table = schema + ".copied", digest = "SELECT count(*), sum(id), sum(amount), count(note), md5(string_agg(note, '' ORDER BY id)) FROM " + table;
    try (Connection c = open()) {
      CopyManager manager = c.unwrap(PGConnection.class).getCopyAPI();
      String into = "COPY " + table + " FROM STDIN";
      StringBuilder lines = new StringBuilder();
      for (int i = 0; i < 20_000; i++) {
        lines.append(i).append('\t').append(i % 10 == 0 ? "\\N" : "note " + i + " \\\\").append('\t').append(i / 4.0).append("\t2024-01-01 00:00:00+00\n");
      }
      result.put("in", list(manager.copyIn(into, new StringReader(lines.toString())), rows(c, digest)));
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      result.put("out", list(manager.copyOut("COPY (SELECT * FROM " + table + " ORDER BY id) TO STDOUT", out), out.size(), md5(out.toByteArray())));
      ByteArrayOutputStream binary = new ByteArrayOutputStream();
      manager.copyOut("COPY (SELECT * FROM " + table + " ORDER BY id) TO STDOUT (FORMAT binary)", binary);
      rows(c, "TRUNCATE " + table);
      result.put("binary", list(manager.copyIn(into + " (FORMAT binary)", new ByteArrayInputStream(binary.toByteArray())), rows(c, digest)));
      result.put("bad line", outcome(() -> manager.copyIn(into, new StringReader("100002\tx\tnot a number\t2024-01-01\n" + "100003\tx\t1\t2024-01-01\n".repeat(2000)))));
      InputStream failing = new InputStream() {
        public int read() throws IOException {
          throw new IOException("no more");
        }
      };
      try {
        manager.copyIn(into, failing);
      } catch (IOException e) {
        result.put("source fails", list(e.getMessage(), value(c, "SELECT 1")));
      }
      result.put("out fails", outcome(() -> manager.copyOut("COPY (SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n) TO STDOUT", new ByteArrayOutputStream())));
      c.setAutoCommit(false);
      manager.copyIn(into, new StringReader("100004\tin transaction\t1\t2024-01-01\n"));
      result.put("inside", value(c, "SELECT note FROM " + table + " WHERE id = 100004"));
      c.rollback();
      result.put("end", rows(c, digest));
    }
    return result;
  }

  static String md5(byte[] bytes) {
    try {
      StringBuilder b = new StringBuilder();
      for (byte x : MessageDigest.getInstance("MD5").digest(bytes)) b.append(String.format("%02x", x));
      return b.toString();
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  static void running(Connection watch, String marker) throws Exception {
    String text = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE ?";
    while (((Number) value(watch, text, "%" + marker + "%")).intValue() == 0) Thread.sleep(10);
  }

  static Object cancel() throws Exception {
    List<Object> result = list();
    try (Connection one = open(); Connection neighbour = open(); Connection watch = open()) {
      for (int turn = 0; turn < 5; turn++) {
        String marker = schema + " cancel " + turn;
        try (Statement s = one.createStatement()) {
          Future<Object> beside = threads.submit(() -> value(neighbour, "SELECT 7 FROM pg_sleep(0.5)"));
          Future<Object> query = threads.submit(() -> outcome(() -> s.execute("SELECT pg_sleep(600) /* " + marker + " */")));
          running(watch, marker);
          s.cancel();
          result.add(list(query.get(), beside.get(), value(one, "SELECT 1")));
        }
      }
      one.setAutoCommit(false);
      rows(one, "INSERT INTO " + schema + ".ledger VALUES (-1, 1)");
      String marker = schema + " cancel inside";
      try (Statement s = one.createStatement()) {
        Future<Object> query = threads.submit(() -> outcome(() -> s.execute("SELECT pg_sleep(600) /* " + marker + " */")));
        running(watch, marker);
        s.cancel();
        result.add(list(query.get(), outcome(() -> value(one, "SELECT 1"))));
      }
      one.rollback();
      result.add(value(watch, "SELECT count(*) FROM " + schema + ".ledger WHERE task = -1"));
      try (Statement s = one.createStatement()) {
        s.cancel();
      }
      result.add(value(one, "SELECT 'idle cancel does nothing'"));
    }
    return result;
  }

  static Object timeout() throws Exception {
    Map<String, Object> result = map();
    String ledger = schema + ".ledger";
    try (Connection c = open("options", "-c statement_timeout=5s"); Connection hurried = open("options", "-c statement_timeout=500")) {
      result.put("configured", list(outcome(() -> rows(hurried, "SELECT pg_sleep(600)")), outcome(() -> rows(hurried, "SELECT pg_sleep(600)"))));
      c.setAutoCommit(false);
      rows(c, "INSERT INTO " + ledger + " VALUES (-2, 1)");
      rows(c, "SET LOCAL statement_timeout = '50ms'");
      result.put("statement_timeout", outcome(() -> rows(c, "SELECT pg_sleep(600)")));
      c.rollback();
      result.put("setting afterwards", value(c, "SHOW statement_timeout"));
      c.commit();
      // The driver's own: it sends a cancel request.
      try (Statement s = c.createStatement()) {
        s.setQueryTimeout(1);
        result.put("query timeout", outcome(() -> s.execute("SELECT pg_sleep(600)")));
      }
      c.rollback();
      result.put("committed", value(c, "SELECT count(*) FROM " + ledger + " WHERE task = -2"));
      Connection given = open("socketTimeout", "1");
      result.put("socket timeout", list(outcome(() -> rows(given, "SELECT pg_sleep(2)")), given.isClosed()));
    }
    return result;
  }

  static Object notices() throws Exception {
    Map<String, Object> result = map();
    try (Connection one = open(); Connection other = open()) {
      rows(other, "SET client_min_messages = warning");
      List<Object> heard = list();
      for (int turn = 0; turn < 5; turn++) {
        for (Connection c : List.of(one, other)) {
          try (Statement s = c.createStatement()) {
            s.execute("DO $$ BEGIN RAISE NOTICE 'first " + turn + "'; RAISE WARNING 'second " + turn
                + "' USING DETAIL = 'detail', HINT = 'hint', ERRCODE = '01P99'; END $$");
            for (SQLWarning w = s.getWarnings(); w != null; w = w.getNextWarning()) heard.add(list(c == one, w.getSQLState(), w.getMessage()));
          }
        }
      }
      result.put("heard", heard);
      String channel = schema + "_channel";
      rows(one, "LISTEN " + channel);
      List<Object> told = list();
      for (int turn = 0; turn < 3; turn++) {
        for (Connection c : List.of(one, other)) {
          rows(c, "SELECT pg_notify(?, ?)", channel, "turn " + turn);
          PGNotification[] got = one.unwrap(PGConnection.class).getNotifications(10_000);
          for (PGNotification n : got) told.add(list(n.getName(), n.getParameter(), n.getPID() == one.unwrap(PGConnection.class).getBackendPID()));
        }
      }
      result.put("told", told);
      rows(one, "UNLISTEN *");
      rows(other, "NOTIFY " + channel + ", 'nobody hears'");
      PGNotification[] late = one.unwrap(PGConnection.class).getNotifications();
      result.put("afterwards", list(value(one, "SELECT 1"), late == null ? 0 : late.length));
    }
    return result;
  }

  static Object pipeline() throws Exception {
    // A batch: any number of statements before one Sync, which the driver sends early when it fears for its buffers.
    Map<String, Object> result = map();
    String insert = "INSERT INTO " + schema + ".ledger VALUES (-3, ?)", count = "SELECT count(*), sum(number) FROM " + schema + ".ledger WHERE task = -3";
    for (String rewrite : List.of("false", "true")) {
      int from = rewrite.equals("true") ? 10_000 : 0;
      try (Connection c = open("reWriteBatchedInserts", rewrite)) {
        try (PreparedStatement s = c.prepareStatement(insert)) {
          for (int turn = 0; turn < 7; turn++) { // from the unnamed statement to a named one
            for (int n = 0; n < 300; n++) {
              s.setInt(1, from + turn * 1000 + n);
              s.addBatch();
            }
            int done = 0;
            for (int one : s.executeBatch()) done += one == 1 || one == Statement.SUCCESS_NO_INFO ? 1 : 0;
            result.put("batch " + rewrite + turn, done);
          }
          c.setAutoCommit(false);
          for (int n = 900; n > 200; n--) {
            s.setInt(1, from + n);
            s.addBatch();
          }
          result.put("failing " + rewrite, outcome(s::executeBatch));
          c.rollback();
          c.setAutoCommit(true);
        }
        try (Statement s = c.createStatement()) {
          s.addBatch("INSERT INTO " + schema + ".ledger VALUES (-3, " + (from + 8000) + ")");
          s.addBatch("UPDATE " + schema + ".ledger SET number = number + 1 WHERE task = -3 AND number = " + (from + 8000));
          s.addBatch("SELECT 1 / 0");
          result.put("mixed " + rewrite, outcome(s::executeBatch));
        }
        result.put("end " + rewrite, rows(c, count));
      }
    }
    return result;
  }

  static Object settings() throws Exception {
    List<Object> result = list();
    String[] zones = {"Asia/Tokyo", "Europe/Berlin", "America/New_York"};
    Connection[] all = {open(), open(), open()};
    for (int n = 0; n < all.length; n++) {
      rows(all[n], "SET TimeZone = '" + zones[n] + "'");
      rows(all[n], "SET work_mem = '" + (n + 1) + "MB'");
      rows(all[n], "SELECT set_config('app.tenant', ?, false)", "tenant " + n);
      all[n].setSchema(schema);
      all[n].setClientInfo("ApplicationName", "smoke " + n);
    }
    String text = "SELECT CAST(timestamptz '2024-07-01 12:00:00+00' AS text), current_setting('work_mem'), current_setting('app.tenant'), "
        + "to_regclass('items')::text, current_setting('application_name'), pg_backend_pid()";
    for (int turn = 0; turn < 5; turn++) {
      for (int n = 0; n < all.length; n++) {
        if (turn == n) rows(all[n], "SELECT 1"); // out of step, as above
        List<?> row = (List<?>) rows(all[n], text).get(0);
        saw(n, ((Number) row.get(5)).intValue());
        result.add(new ArrayList<>(row.subList(0, 5)));
      }
    }
    all[0].setAutoCommit(false);
    rows(all[0], "SET TimeZone = 'Asia/Kolkata'");
    all[0].rollback();
    result.add(value(all[0], "SHOW TimeZone"));
    rows(all[0], "SET LOCAL TimeZone = 'Asia/Kolkata'");
    all[0].commit();
    result.add(value(all[0], "SHOW TimeZone"));
    all[0].commit();
    for (Connection c : all) {
      c.setAutoCommit(true);
      rows(c, "RESET ALL");
      result.add(list(value(c, "SHOW TimeZone"), value(c, "SHOW work_mem")));
      c.close();
    }
    return result;
  }

  static Object concurrent() throws Exception {
    int tasks = Integer.parseInt(arguments.get("tasks"));
    long deadline = System.nanoTime() + (long) (Double.parseDouble(arguments.get("seconds")) * 1e9);
    // apps: pool
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(url);
    config.setUsername(user);
    config.setPassword(password);
    config.setMaximumPoolSize(tasks);
    config.setConnectionTimeout(30_000);
    HikariDataSource pool = new HikariDataSource(config);
    // apps: end
    while (pool.getHikariPoolMXBean().getTotalConnections() < tasks) Thread.sleep(5); // it fills in the background
    List<Object> wrong = Collections.synchronizedList(list());
    List<Future<?>> running = new ArrayList<>();
    for (int task = 0; task < tasks; task++) {
      int number = task;
      running.add(threads.submit(() -> {
        try {
          task(pool, number, deadline, wrong);
        } catch (Throwable e) {
          e.printStackTrace();
          wrong.add(list(number, e.toString()));
        }
      }));
    }
    for (Future<?> f : running) f.get();
    pool.close();
    return map("tasks", tasks, "wrong", wrong.subList(0, Math.min(10, wrong.size())));
  }

  static void task(HikariDataSource pool, int number, long deadline, List<Object> wrong) throws Exception {
    String ledger = schema + ".ledger", insert = "INSERT INTO " + ledger + " VALUES (?, ?)", count = "SELECT count(*) FROM " + ledger + " WHERE task = ?";
    long committed = 0;
    for (int turn = 1; turn <= 30 || System.nanoTime() < deadline; turn++) {
      try (Connection c = pool.getConnection()) {
        Object got, want;
        switch ((turn + number) % 6) {
          case 0:
            List<?> row = null;
            for (int again = 0; again < 3; again++) {
              row = (List<?>) rows(c, "SELECT ?::int * 2, ?::text, pg_backend_pid()", number, "t" + turn).get(0);
              saw(c.unwrap(PGConnection.class), ((Number) row.get(2)).intValue());
            }
            got = row.get(0) + " " + row.get(1);
            want = number * 2 + " t" + turn;
            break;
          case 1:
            c.setAutoCommit(false);
            rows(c, insert, number, turn);
            committed++;
            got = value(c, count, number);
            want = committed;
            c.commit();
            break;
          case 2:
            c.setAutoCommit(false);
            rows(c, insert, number, turn);
            got = value(c, count, number);
            want = committed + 1;
            c.rollback();
            break;
          case 3:
            got = ((Map<?, ?>) outcome(() -> rows(c, "SELECT 1 / (?::int - ?::int)", number, number))).get("sqlstate");
            want = "22012";
            break;
          case 4:
            c.setReadOnly(true); // HikariCP takes it back when the connection is closed
            c.setAutoCommit(false);
            got = value(c, "SHOW transaction_read_only");
            want = "on";
            c.commit();
            break;
          default:
            List<Object> series = rows(c, "SELECT n * ?::int FROM generate_series(1, 200) AS n", number);
            long sum = 0;
            for (Object one : series) sum += ((Number) ((List<?>) one).get(0)).longValue();
            got = sum;
            want = number * 20100L;
        }
        if (!got.toString().equals(want.toString())) wrong.add(list((turn + number) % 6, number, got.toString(), want.toString()));
      }
    }
    try (Connection c = pool.getConnection()) {
      Object got = value(c, count, number);
      if (!got.toString().equals(String.valueOf(committed))) wrong.add(list("at the end", number, got, committed));
    }
  }
}
