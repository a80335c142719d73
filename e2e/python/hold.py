"""One held statement each, seen by psycopg. The case is the first argument; the test answers the question meanwhile."""

import sys
import threading

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus


def delete(test):
    return f"DELETE FROM things WHERE test = '{test}'"


def raises(code, call):
    try:
        call()
    except psycopg.Error as error:
        assert error.sqlstate == code, (error.sqlstate, str(error))
        return error
    raise AssertionError(f"{code} was expected")


def parameters():
    with psycopg.connect(autocommit=True) as conn:
        cursor = conn.execute("DELETE FROM things WHERE test = %s", ["parameters"], prepare=True)
        assert cursor.rowcount == 1, cursor.rowcount
        assert conn.execute("SELECT 1").fetchone() == (1,)


def pipeline():
    with psycopg.connect(autocommit=True) as conn:
        with conn.pipeline() as p:
            first = conn.execute("SELECT %s::int", [1])
            held = conn.execute(delete("pipeline"))
            last = conn.execute("SELECT %s::int", [3])
            p.sync()
            assert first.fetchone() == (1,)
            assert held.rowcount == 1, held.rowcount
            assert last.fetchone() == (3,)


def pipeline_denied():
    with psycopg.connect(autocommit=True) as conn:
        # In the pipeline's own transaction, which the denial fails: the statement after it is skipped.
        try:
            with conn.pipeline():
                conn.execute("SELECT %s::int", [1])
                conn.execute(delete("pipeline-denied"))
                conn.execute("CREATE TABLE must_not_be_there (n int)")
        except psycopg.Error as error:
            assert error.sqlstate == "HG001", (error.sqlstate, str(error))
        else:
            raise AssertionError("HG001 was expected")
        assert conn.execute("SELECT to_regclass('must_not_be_there')").fetchone() == (None,)


def transaction():
    with psycopg.connect() as conn:
        conn.execute("SELECT 1")
        raises("HG001", lambda: conn.execute(delete("transaction")))
        assert conn.info.transaction_status == TransactionStatus.INERROR, conn.info.transaction_status
        raises("25P02", lambda: conn.execute("SELECT 2"))
        conn.rollback()
        assert conn.info.transaction_status == TransactionStatus.IDLE
        assert conn.execute("SELECT 3").fetchone() == (3,)


def rollback():
    with psycopg.connect() as conn:
        assert conn.execute(delete("rollback")).rowcount == 1
        assert conn.info.transaction_status == TransactionStatus.INTRANS
        conn.rollback()


def driver_cancel():
    with psycopg.connect(autocommit=True) as conn:
        threading.Timer(1, conn.cancel_safe).start()
        raises("57014", lambda: conn.execute(delete("driver-cancel")))
        assert conn.execute("SELECT 3").fetchone() == (3,)


globals()[sys.argv[1].replace("-", "_")]()
print("ok")
