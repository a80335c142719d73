// pgjdbc: each step says `ok STEP` or `failed STEP: why`. The endpoint comes from PG* variables.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class Driver {
    interface Step {
        void run(Connection c) throws Exception;
    }

    static Connection connect(String... more) throws SQLException {
        Map<String, String> env = System.getenv();
        String url = "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE");
        Properties p = new Properties();
        p.setProperty("user", env.get("PGUSER"));
        p.setProperty("password", env.getOrDefault("PGPASSWORD", ""));
        p.setProperty("sslmode", "verify-full");
        p.setProperty("sslrootcert", env.get("PGSSLROOTCERT"));
        p.setProperty("connectTimeout", "20");
        p.setProperty("socketTimeout", "60");
        for (int i = 0; i + 1 < more.length; i += 2) p.setProperty(more[i], more[i + 1]);
        return DriverManager.getConnection(url, p);
    }

    static void same(Object wanted, Object got) {
        if (!Objects.equals(wanted, got)) throw new AssertionError("wanted " + wanted + ", got " + got);
    }

    static void fails(String state, Step step, Connection c) throws Exception {
        try {
            step.run(c);
        } catch (SQLException e) {
            same(state, e.getSQLState());
            return;
        }
        throw new AssertionError("no error, wanted " + state);
    }

    static Object one(Connection c, String sql, Object... arguments) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int i = 0; i < arguments.length; i++) s.setObject(i + 1, arguments[i]);
            try (ResultSet r = s.executeQuery()) {
                r.next();
                return r.getObject(1);
            }
        }
    }

    static void run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute(sql);
        }
    }

    static void prepared(Connection c) throws SQLException {
        try (PreparedStatement s = c.prepareStatement("select ? * 2")) {
            for (int n = 0; n < 50; n++) {
                s.setInt(1, n);
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    same(n * 2, r.getInt(1));
                }
            }
        }
    }

    static void transaction(Connection c) throws Exception {
        run(c, "create temp table t (x int)");
        c.setAutoCommit(false);
        run(c, "insert into t values (1)");
        c.commit();
        run(c, "insert into t values (2)");
        c.rollback();
        run(c, "insert into t values (3)");
        Savepoint s = c.setSavepoint();
        fails("22012", x -> run(x, "select 1/0"), c);
        fails("25P02", x -> run(x, "select 1"), c);
        c.rollback(s);
        c.commit();
        c.setAutoCommit(true);
        same(4L, one(c, "select sum(x) from t"));
    }

    static void copy(Connection c) throws Exception {
        run(c, "create temp table t (x int, y text)");
        CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder in = new StringBuilder();
        for (int n = 0; n < 10000; n++) in.append(n).append("\trow ").append(n).append('\n');
        same(10000L, copy.copyIn("copy t from stdin", new StringReader(in.toString())));
        StringWriter out = new StringWriter();
        copy.copyOut("copy (select * from t order by x) to stdout", out);
        same(in.toString(), out.toString());
        fails("22P02", x -> copy.copyIn("copy t from stdin", new StringReader("wrong\tx\n")), c);
        same(10000L, one(c, "select count(*) from t"));
    }

    static void cancel(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            Thread t = new Thread(() -> {
                try {
                    Thread.sleep(1000);
                    s.cancel();
                } catch (Exception e) {
                    throw new RuntimeException(e);
                }
            });
            t.start();
            long began = System.nanoTime();
            fails("57014", x -> s.execute("select pg_sleep(30)"), c);
            t.join();
            if (System.nanoTime() - began > 10_000_000_000L) throw new AssertionError("late");
            s.setQueryTimeout(1);
            fails("57014", x -> s.execute("select pg_sleep(30)"), c);
        }
        same(1, one(c, "select 1"));
    }

    static void listen(Connection c) throws Exception {
        try (Connection other = connect()) {
            run(c, "listen n");
            run(other, "notify n, 'words'");
            var heard = c.unwrap(PGConnection.class).getNotifications(5000);
            same(1, heard.length);
            same("n words", heard[0].getName() + " " + heard[0].getParameter());
            int pid = other.unwrap(PGConnection.class).getBackendPID();
            same(pid, heard[0].getPID());
            same(pid, one(other, "select pg_backend_pid()"));
        }
    }

    static void large(Connection c) throws Exception {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("select g, repeat('x', 100) from generate_series(1, 100000) g")) {
            int n = 0;
            while (r.next()) n++;
            same(100000, n);
        }
    }

    static void fetchSize(Connection c) throws Exception {
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.setFetchSize(100);
            long sum = 0;
            try (ResultSet r = s.executeQuery("select g from generate_series(1, 20000) g")) {
                while (r.next()) sum += r.getLong(1);
            }
            same(20000L * 20001 / 2, sum);
        }
        c.commit();
    }

    static void batch(Connection c) throws Exception {
        run(c, "create temp table t (x int, y text)");
        try (PreparedStatement s = c.prepareStatement("insert into t values (?, ?)")) {
            for (int n = 0; n < 5000; n++) {
                s.setInt(1, n);
                s.setString(2, "y" + n);
                s.addBatch();
            }
            same(5000, s.executeBatch().length);
        }
        same(5000L, one(c, "select count(*) from t"));
        try (PreparedStatement s = c.prepareStatement("insert into t values (10 / ?, 'z')")) {
            for (int n = 5; n > -5; n--) {
                s.setInt(1, n);
                s.addBatch();
            }
            s.executeBatch();
            throw new AssertionError("no error");
        } catch (BatchUpdateException e) {
            same("22012", e.getSQLState());
        }
        same(5000L, one(c, "select count(*) from t where y <> 'z'"));
    }

    static void returning(Connection c) throws Exception {
        run(c, "create temp table t (id int generated always as identity, x text)");
        try (PreparedStatement s = c.prepareStatement("insert into t (x) values (?)", Statement.RETURN_GENERATED_KEYS)) {
            s.setString(1, "x");
            s.executeUpdate();
            try (ResultSet r = s.getGeneratedKeys()) {
                r.next();
                same(1, r.getInt(1));
            }
        }
    }

    static void metadata(Connection c) throws Exception {
        run(c, "drop table if exists jdbc_meta");
        run(c, "create table jdbc_meta (id int primary key, name text not null)");
        StringBuilder names = new StringBuilder();
        try (ResultSet r = c.getMetaData().getColumns(null, "public", "jdbc_meta", "%")) {
            while (r.next()) names.append(r.getString("COLUMN_NAME")).append(r.getInt("NULLABLE")).append(' ');
        }
        same("id0 name0 ", names.toString());
        try (ResultSet r = c.getMetaData().getPrimaryKeys(null, "public", "jdbc_meta")) {
            r.next();
            same("id", r.getString("COLUMN_NAME"));
        }
    }

    public static void main(String[] none) {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("connect", c -> same(true, c.isValid(5)));
        steps.put("simple", c -> {
            try (Connection s = connect("preferQueryMode", "simple"); Statement t = s.createStatement()) {
                same(true, t.execute("select 1; select 2"));
                same(true, t.getMoreResults());
                t.getResultSet().next();
                same(42, one(s, "select ?::int + 1", 41));
            }
        });
        steps.put("several", c -> {
            try (Statement t = c.createStatement()) {
                same(true, t.execute("select 1; select 2"));
                same(true, t.getMoreResults());
            }
        });
        steps.put("parameters", c -> {
            same(42L, one(c, "select ?::bigint + 1", 41L));
            same("wörd", one(c, "select ?::text", "wörd"));
            same("{1,2}", one(c, "select ?::int[]", c.createArrayOf("int4", new Integer[] {1, 2})).toString());
        });
        steps.put("prepared", Driver::prepared);
        steps.put("transaction", Driver::transaction);
        steps.put("error_and_on", c -> {
            fails("22012", x -> run(x, "select 1/0"), c);
            fails("22012", x -> one(x, "select 1/?::int", 0), c);
            fails("42703", x -> run(x, "select nothing_here"), c);
            same(1, one(c, "select 1"));
        });
        steps.put("copy", Driver::copy);
        steps.put("cancel", Driver::cancel);
        steps.put("notify", Driver::listen);
        steps.put("large_result", Driver::large);
        steps.put("fetch_size", Driver::fetchSize);
        steps.put("batch", Driver::batch);
        steps.put("returning", Driver::returning);
        steps.put("metadata", Driver::metadata);
        steps.put("startup_parameters", c -> {
            try (Connection s = connect("options", "-c statement_timeout=7s", "ApplicationName", "conformance", "assumeMinServerVersion", "15")) {
                same("7s", one(s, "show statement_timeout"));
                same("conformance", one(s, "show application_name"));
            }
        });
        for (var step : steps.entrySet()) {
            try (Connection c = connect()) {
                step.getValue().run(c);
                System.out.println("ok " + step.getKey());
            } catch (Throwable e) {
                System.out.println("failed " + step.getKey() + ": " + String.valueOf(e).replace('\n', '|'));
            }
        }
        System.exit(0);
    }
}
