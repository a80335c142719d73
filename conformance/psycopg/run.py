"""psycopg 3 (its wheel brings a libpq of its own): each step says `ok STEP` or `failed STEP: why`.

The endpoint comes from PG* variables.
"""

import threading
import time
import traceback

import psycopg
from psycopg.rows import tuple_row

STEPS = []


def step(function):
    STEPS.append(function)
    return function


def connect(**more):
    return psycopg.connect("", autocommit=True, row_factory=tuple_row, **more)


@step
def connect_with_tls():
    with connect() as c:
        assert c.pgconn.ssl_in_use
        assert c.info.server_version >= 150000
        assert c.info.parameter_status("server_encoding") == "UTF8"


@step
def simple():
    with connect() as c:
        # Without parameters psycopg sends a simple query, with several statements if need be.
        cursor = c.execute("select 1; select 2")
        assert cursor.fetchone() == (1,)
        assert cursor.nextset()
        assert cursor.fetchone() == (2,)


@step
def parameters():
    with connect() as c:
        row = c.execute("select %s::int + 1, %s::text, %s::numeric", (41, "wörd", None)).fetchone()
        assert row == (42, "wörd", None), row


@step
def parameters_in_binary():
    with connect() as c:
        row = c.execute("select %b::int8, %b::bytea", (2**40, b"\0\1\2"), binary=True).fetchone()
        assert row == (2**40, b"\0\1\2"), row


@step
def prepared():
    with connect() as c:
        for n in range(20):
            assert c.execute("select %s::int * 2", (n,), prepare=True).fetchone() == (n * 2,)
        assert c.execute("select count(*) from pg_prepared_statements").fetchone()[0] == 1
        c.execute("deallocate all")
        assert c.execute("select %s::int * 2", (4,), prepare=True).fetchone() == (8,)


@step
def transaction():
    with connect() as c:
        c.execute("create temp table t (x int)")
        with c.transaction():
            c.execute("insert into t values (1)")
        try:
            with c.transaction():
                c.execute("insert into t values (%s)", (2,))
                raise RuntimeError("undo")
        except RuntimeError:
            pass
        with c.transaction():
            c.execute("insert into t values (3)")
            try:
                with c.transaction():
                    c.execute("select 1/0")
            except psycopg.errors.DivisionByZero:
                pass
        assert c.execute("select array_agg(x order by x) from t").fetchone() == ([1, 3],)


@step
def error_and_on():
    with connect() as c:
        for sql, arguments in (("select 1/0", None), ("select 1/%s::int", (0,))):
            try:
                c.execute(sql, arguments)
                raise AssertionError("no error")
            except psycopg.errors.DivisionByZero as e:
                assert e.diag.sqlstate == "22012" and e.diag.message_primary == "division by zero"
            assert c.execute("select 1").fetchone() == (1,)
        try:
            c.execute("select nothing_here")
        except psycopg.errors.UndefinedColumn as e:
            assert e.diag.statement_position == "8", e.diag.statement_position


@step
def notices():
    with connect() as c:
        heard = []
        c.add_notice_handler(lambda d: heard.append((d.severity, d.message_primary)))
        c.execute("drop table if exists there_is_no_such_table")
        assert heard == [("NOTICE", 'table "there_is_no_such_table" does not exist, skipping')], heard


@step
def copy_in_and_out():
    with connect() as c:
        c.execute("create temp table t (x int, y text)")
        with c.cursor() as cursor:
            with cursor.copy("copy t from stdin") as copy:
                for n in range(10000):
                    copy.write_row((n, f"row {n}"))
            with cursor.copy("copy t to stdout") as copy:
                rows = [tuple(row) for row in copy.rows()]
            assert len(rows) == 10000 and rows[9999] == ("9999", "row 9999")
            with cursor.copy("copy t (x) to stdout (format binary)") as copy:
                assert len(b"".join(copy)) > 10000 * 8
            try:
                with cursor.copy("copy t from stdin") as copy:
                    copy.write("wrong\tx\n")
                raise AssertionError("no error")
            except psycopg.errors.InvalidTextRepresentation:
                pass
            try:
                with cursor.copy("copy t from stdin") as copy:
                    copy.write("1\tx\n")
                    raise RuntimeError("gives up")
            except RuntimeError:
                pass
            assert cursor.execute("select count(*) from t").fetchone() == (10000,)


@step
def cancel():
    with connect() as c:
        threading.Timer(1, c.cancel_safe).start()
        began = time.monotonic()
        try:
            c.execute("select pg_sleep(30)")
            raise AssertionError("not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        assert time.monotonic() - began < 10
        assert c.execute("select 1").fetchone() == (1,)


@step
def cancel_the_old_way():
    with connect() as c:
        threading.Timer(1, c.cancel).start()
        try:
            c.execute("select pg_sleep(30)")
            raise AssertionError("not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        assert c.execute("select 1").fetchone() == (1,)


@step
def late_cancel_hurts_nobody():
    with connect() as c:
        c.execute("select 1")
        c.cancel_safe()
        time.sleep(0.2)
        assert c.execute("select 1").fetchone() == (1,)


@step
def notify():
    with connect() as c, connect() as other:
        c.execute("listen n")
        pid = other.execute("select pg_backend_pid()").fetchone()[0]
        assert other.info.backend_pid == pid
        other.execute("select pg_notify('n', 'words')")
        heard = next(c.notifies(timeout=5, stop_after=1))
        assert (heard.channel, heard.payload, heard.pid) == ("n", "words", pid)


@step
def large_result():
    with connect() as c:
        rows = c.execute("select g, repeat('x', 100) from generate_series(1, 100000) g").fetchall()
        assert len(rows) == 100000 and rows[-1] == (100000, "x" * 100)


@step
def large_value():
    with connect() as c:
        assert c.execute("select length(%s::text)", ("é" * 4_000_000,)).fetchone() == (4_000_000,)
        assert len(c.execute("select repeat('y', 20000000)").fetchone()[0]) == 20_000_000


@step
def server_side_cursor():
    with connect() as c, c.transaction(), c.cursor(name="there") as cursor:
        cursor.itersize = 1000
        cursor.execute("select g from generate_series(1, 20000) g")
        assert sum(row[0] for row in cursor) == 20000 * 20001 // 2


@step
def stream_row_by_row():
    with connect() as c, c.cursor() as cursor:
        assert sum(row[0] for row in cursor.stream("select g from generate_series(1, 5000) g")) == 5000 * 5001 // 2


@step
def pipeline():
    with connect() as c:
        c.execute("create temp table t (x int)")
        with c.pipeline() as p:
            cursors = [c.execute("insert into t values (%s) returning x", (n,)) for n in range(500)]
            p.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(500))
        bad = skipped = None
        try:
            with c.pipeline() as p:
                good = c.execute("select 1")
                bad = c.execute("select 1/%s::int", (0,))
                skipped = c.execute("select 2")
                p.sync()
            raise AssertionError("no error")
        except psycopg.errors.DivisionByZero:
            pass
        assert good.fetchone() == (1,)
        for cursor in (bad, skipped):
            try:
                cursor.fetchone()
            except psycopg.Error:
                continue
            raise AssertionError("has a row")
        assert c.execute("select 3").fetchone() == (3,)


@step
def executemany():
    with connect() as c, c.cursor() as cursor:
        cursor.execute("create temp table t (x int, y text)")
        cursor.executemany("insert into t values (%s, %s)", [(n, str(n)) for n in range(5000)])
        assert cursor.execute("select count(*) from t").fetchone() == (5000,)


@step
def startup_parameters():
    with connect(options="-c statement_timeout=7s -c search_path=pg_temp,public", application_name="conformance") as c:
        assert c.execute("show statement_timeout").fetchone() == ("7s",)
        assert c.execute("show search_path").fetchone() == ("pg_temp,public",)
        assert c.execute("show application_name").fetchone() == ("conformance",)
        c.execute("set statement_timeout = 0")
        c.execute("reset statement_timeout")
        assert c.execute("show statement_timeout").fetchone() == ("7s",)


@step
def ended_by_the_server():
    with connect() as c, connect() as other:
        pid = c.info.backend_pid
        other.execute("select pg_terminate_backend(%s)", (pid,))
        time.sleep(0.3)
        try:
            c.execute("select 1")
            raise AssertionError("still alive")
        except psycopg.errors.AdminShutdown:
            pass


for function in STEPS:
    try:
        function()
        print(f"ok {function.__name__}", flush=True)
    except BaseException as e:  # noqa: BLE001 - whatever it is, the next step goes on
        where = traceback.extract_tb(e.__traceback__)
        line = next((f.lineno for f in reversed(where) if f.filename == __file__), "?")
        print(f"failed {function.__name__}: line {line}: {type(e).__name__}: {' | '.join(str(e).splitlines())}", flush=True)
