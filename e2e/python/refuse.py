"""Statements that do not wait for approval (`on_hold = "refuse"`), seen by psycopg. The case is the first argument."""

import re
import sys
import threading

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus


def refused(call):
    """The number of the question that the error names."""
    try:
        call()
    except psycopg.Error as error:
        assert error.sqlstate == "HG005", (error.sqlstate, str(error))
        diag = error.diag
        assert "was not run" in diag.message_primary or "not run" in diag.message_primary, diag.message_primary
        assert "/questions/" in diag.message_detail and "identical statement" in diag.message_hint, str(error)
        return re.search(r"HG-\d+", diag.message_primary)[0]
    raise AssertionError("HG005 was expected")


def delete(test):
    return f"DELETE FROM things WHERE test = '{test}'"


def number():
    """Refused once: prints the number."""
    test = sys.argv[2]
    with psycopg.connect(autocommit=True) as conn:
        said = refused(lambda: conn.execute("DELETE FROM things WHERE test = %s", [test], prepare=True))
        assert conn.execute("SELECT 1").fetchone() == (1,)
        again = refused(lambda: conn.execute("DELETE FROM things WHERE test = %s", [test], prepare=True))
        assert said == again, (said, again)
        print(said)


def runs():
    """In a session of its own, with the parameter as before: it runs, and another value asks anew."""
    test = sys.argv[2]
    with psycopg.connect(autocommit=True) as conn:
        other = refused(lambda: conn.execute("DELETE FROM things WHERE test = %s", [test + "!"], prepare=True))
        cursor = conn.execute("DELETE FROM things WHERE test = %s", [test], prepare=True)
        assert cursor.rowcount == 1, cursor.rowcount
        third = refused(lambda: conn.execute("DELETE FROM things WHERE test = %s", [test], prepare=True))
        assert third != other, (third, other)


def race():
    """Eight sessions, at the same moment: one runs it."""
    test = sys.argv[2]
    connections = [psycopg.connect(autocommit=True) for _ in range(8)]
    start = threading.Barrier(len(connections))
    ran, numbers = [], []

    def one(conn):
        start.wait()
        try:
            ran.append(conn.execute(delete(test)).rowcount)
        except psycopg.Error as error:
            assert error.sqlstate == "HG005", (error.sqlstate, str(error))
            numbers.append(re.search(r"HG-\d+", str(error))[0])

    threads = [threading.Thread(target=one, args=[conn]) for conn in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == [1], ran
    assert len(numbers) == 7 and len(set(numbers)) == 1, numbers
    for conn in connections:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        conn.close()


def transaction():
    test = sys.argv[2]
    with psycopg.connect() as conn:
        conn.execute("SELECT 1")
        said = refused(lambda: conn.execute(delete(test)))
        assert conn.info.transaction_status == TransactionStatus.INERROR, conn.info.transaction_status
        try:
            conn.execute("SELECT 2")
        except errors.InFailedSqlTransaction:
            pass
        else:
            raise AssertionError("25P02 was expected")
        conn.rollback()
        assert conn.execute("SELECT 3").fetchone() == (3,)
        print(said)


def pipeline():
    """In its place in the order of replies: what came before it has its answer, what follows up to Sync is skipped."""
    test = sys.argv[2]
    with psycopg.connect(autocommit=True) as conn:
        try:
            with conn.pipeline() as p:
                first = conn.execute("SELECT %s::int", [1])
                p.sync()
                conn.execute(delete(test))
                skipped = conn.execute("SELECT %s::int", [2])
                p.sync()
                last = conn.execute("SELECT %s::int", [3])
                p.sync()
                assert first.fetchone() == (1,)
                p.sync()
        except psycopg.Error as error:
            assert error.sqlstate == "HG005", (error.sqlstate, str(error))
        else:
            raise AssertionError("HG005 was expected")
        assert conn.execute("SELECT 4").fetchone() == (4,)


globals()[sys.argv[1].replace("-", "_")]()
print("ok")
