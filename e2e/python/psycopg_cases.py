"""psycopg 3 through the gate. The case is the first argument."""

import datetime
import decimal
import os
import sys
import threading
import time
import uuid

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb


def connect(**more):
    return psycopg.connect(autocommit=True, **more)


def types():
    values = [
        1, 2**40, "text with ünïcode and 'quotes'", decimal.Decimal("12.340"), 1.5, True, None, b"\x00\xff",
        datetime.date(2026, 11, 21), datetime.datetime(2026, 11, 21, 7, 0, tzinfo=datetime.timezone.utc),
        uuid.UUID(int=7), [1, 2, 3], ["a", "b"],
    ]
    with connect() as conn:
        for binary in (False, True):
            with conn.cursor(binary=binary) as cursor:
                for value in values:
                    if value is None:
                        cursor.execute("SELECT NULL::int")
                    elif value == ["a", "b"]:
                        # psycopg leaves the type of texts to the server.
                        cursor.execute("SELECT %s::text[]", [value])
                    else:
                        cursor.execute("SELECT %s", [value])
                    got = cursor.fetchone()[0]
                    assert got == value, (binary, value, got)
                cursor.execute("SELECT %s", [Jsonb({"a": [1, None]})])
                assert cursor.fetchone()[0] == {"a": [1, None]}
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (800,)
        assert conn.info.server_version >= 100000
        assert conn.info.parameter_status("client_encoding") == "UTF8"


def prepared():
    with connect() as conn:
        for n in range(1, 41):
            row = conn.execute("SELECT name FROM products WHERE id = %s", [n], prepare=True).fetchone()
            assert row[0].endswith(f"no. {n}"), row
        names = conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0]
        assert names >= 1, names
        conn.execute("DEALLOCATE ALL")
        assert conn.execute("SELECT 1").fetchone() == (1,)


def pipeline():
    with connect() as conn:
        conn.execute("CREATE TEMP TABLE p (n int)")
        with conn.pipeline():
            cursors = [conn.execute("INSERT INTO p VALUES (%s) RETURNING n * 2", [n]) for n in range(100)]
            assert [c.fetchone()[0] for c in cursors] == [n * 2 for n in range(100)]
        assert conn.execute("SELECT count(*), sum(n) FROM p").fetchone() == (100, 4950)


def pipeline_error():
    with connect() as conn:
        conn.execute("CREATE TEMP TABLE p (n int PRIMARY KEY)")
        with conn.pipeline() as p:
            conn.execute("INSERT INTO p VALUES (1)")
            p.sync()
            conn.execute("INSERT INTO p VALUES (2)")
            wrong = conn.execute("INSERT INTO p VALUES (2)")
            skipped = conn.execute("INSERT INTO p VALUES (3)")
            try:
                p.sync()
            except errors.UniqueViolation:
                pass
            else:
                raise AssertionError("no error")
            conn.execute("INSERT INTO p VALUES (4)")
            p.sync()
        # 2 was undone with its part of the pipeline; 3 was skipped.
        got = conn.execute("SELECT array_agg(n ORDER BY n) FROM p").fetchone()[0]
        assert got == [1, 4], got


def copy():
    with connect() as conn:
        conn.execute("CREATE TEMP TABLE c (n int, t text, b bytea)")
        rows = [(n, f"row {n} \t\\", bytes([n % 256])) for n in range(5000)]
        with conn.cursor().copy("COPY c FROM STDIN") as c:
            for row in rows:
                c.write_row(row)
        with conn.cursor().copy("COPY c FROM STDIN (FORMAT binary)") as c:
            c.set_types(["int4", "text", "bytea"])
            for row in rows:
                c.write_row(row)
        assert conn.execute("SELECT count(*) FROM c").fetchone() == (10000,)
        for options in ("", "(FORMAT binary)"):
            with conn.cursor().copy(f"COPY (SELECT * FROM c ORDER BY n) TO STDOUT {options}") as c:
                c.set_types(["int4", "text", "bytea"])
                got = list(c.rows())
            assert len(got) == 10000 and got[0] == rows[0] and got[-1] == rows[-1], got[:2]
        try:
            with conn.cursor().copy("COPY c FROM STDIN") as c:
                c.write("1\tx\t\\\\x00\n")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert conn.execute("SELECT count(*) FROM c").fetchone() == (10000,)


def transactions():
    with psycopg.connect() as conn:
        conn.execute("CREATE TEMP TABLE t (n int)")
        conn.commit()
        with conn.transaction():
            conn.execute("INSERT INTO t VALUES (1)")
            try:
                with conn.transaction():
                    conn.execute("INSERT INTO t VALUES (2)")
                    conn.execute("SELECT 1/0")
            except errors.DivisionByZero:
                pass
            conn.execute("INSERT INTO t VALUES (3)")
        conn.execute("INSERT INTO t VALUES (4)")
        conn.rollback()
        assert conn.execute("SELECT array_agg(n) FROM t").fetchone()[0] == [1, 3]


def errors_():
    with connect() as conn:
        conn.execute("CREATE TEMP TABLE e (n int CONSTRAINT positive CHECK (n > 0))")
        try:
            conn.execute("INSERT INTO e VALUES (-1)")
        except errors.CheckViolation as error:
            assert error.diag.constraint_name == "positive"
            assert error.diag.table_name == "e"
            assert error.diag.severity == "ERROR"
        else:
            raise AssertionError("no error")
        try:
            conn.execute("SELECT nothing FROM e")
        except errors.UndefinedColumn as error:
            assert error.diag.statement_position == "8", error.diag.statement_position
        else:
            raise AssertionError("no error")
        try:
            conn.execute("SELEC")
        except errors.SyntaxError:
            pass
        else:
            raise AssertionError("no error")
        assert conn.execute("SELECT 1").fetchone() == (1,)


def cancel():
    with connect() as conn:
        threading.Timer(0.5, conn.cancel_safe).start()
        began = time.monotonic()
        try:
            conn.execute("SELECT pg_sleep(30)")
        except errors.QueryCanceled:
            pass
        else:
            raise AssertionError("not cancelled")
        assert time.monotonic() - began < 15
        assert conn.execute("SELECT 1").fetchone() == (1,)


def cursors():
    with psycopg.connect() as conn:
        with conn.cursor(name="walk") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT id FROM orders ORDER BY id")
            assert [row[0] for row in cursor] == list(range(1, 801))
        with conn.cursor(name="scroll", scrollable=True) as cursor:
            cursor.execute("SELECT id FROM orders ORDER BY id")
            cursor.scroll(700)
            assert cursor.fetchone() == (701,)
            cursor.scroll(-700)
            assert cursor.fetchmany(2) == [(2,), (3,)]


def notify():
    with connect() as conn:
        conn.execute("LISTEN bell")
        conn.execute("NOTIFY bell, 'ding'")
        got = next(conn.notifies(timeout=10, stop_after=1))
        assert (got.channel, got.payload) == ("bell", "ding"), got
        assert got.pid == conn.info.backend_pid, (got.pid, conn.info.backend_pid)
        assert conn.execute("SELECT pg_backend_pid()").fetchone() == (got.pid,)


def protocol_3_2():
    assert psycopg.pq.version() >= 180000, psycopg.pq.version()
    # An allow-all gate before a server of any age: the gate itself speaks 3.2.
    with connect(min_protocol_version="3.2", max_protocol_version="3.2") as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        threading.Timer(0.5, conn.cancel_safe).start()
        try:
            conn.execute("SELECT pg_sleep(30)")
        except errors.QueryCanceled:
            pass
        else:
            raise AssertionError("not cancelled")
        assert conn.execute("SELECT 2").fetchone() == (2,)


def direct_tls():
    assert psycopg.pq.version() >= 170000, psycopg.pq.version()
    with connect(sslnegotiation="direct") as conn:
        assert conn.execute("SELECT count(*) FROM products").fetchone() == (40,)


case = sys.argv[1]
{"errors": errors_}.get(case, globals()[case])()
print("ok")
