"""Cancels, as libpq 18 asks for them, many at once. The case is the first argument; how long they took is said, not judged."""

import os
import socket
import struct
import sys
import threading
import time

import psycopg

SESSIONS = 40


def sleepers(count):
    conns = [psycopg.connect(autocommit=True) for _ in range(count)]
    ended = {}

    def sleep(n):
        try:
            conns[n].execute("SELECT pg_sleep(100)")
            ended[n] = "not cancelled"
        except psycopg.errors.QueryCanceled:
            ended[n] = time.monotonic()
        except psycopg.Error as error:
            ended[n] = repr(error)

    threads = [threading.Thread(target=sleep, args=[n]) for n in range(count)]
    for thread in threads:
        thread.start()
    pids = [conn.info.backend_pid for conn in conns]
    with psycopg.connect(autocommit=True) as watch:
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s) AND state = 'active' AND wait_event = 'PgSleep'"
        while watch.execute(asleep, [pids]).fetchone()[0] < count:
            time.sleep(0.05)
    return conns, threads, ended


def cancelled(count, cancel):
    conns, threads, ended = sleepers(count)
    began = time.monotonic()
    askers = [threading.Thread(target=cancel, args=[conn]) for conn in conns]
    for asker in askers:
        asker.start()
    for thread in askers + threads:
        thread.join()
    wrong = [end for end in ended.values() if not isinstance(end, float)]
    assert not wrong, wrong
    took = sorted((end - began) * 1000 for end in ended.values())
    for conn in conns:
        assert conn.execute("SELECT 1").fetchone() == (1,)
        conn.close()
    print(f"{count} cancels: first {took[0]:.1f} ms, last {took[-1]:.1f} ms")


def together():
    cancelled(SESSIONS, lambda conn: conn.cancel_safe(timeout=60))


def in_clear():
    """As libpq before 17 asks: without TLS, whatever the session has."""
    cancelled(SESSIONS, lambda conn: conn.cancel())


def alone():
    for _ in range(5):
        cancelled(1, lambda conn: conn.cancel_safe(timeout=60))


def unknown():
    """Nobody has these keys: each connection ends without a word, and the session whose process id they name works on."""
    with psycopg.connect(autocommit=True) as conn:
        slowest = 0.0
        for n in range(1000):
            with socket.create_connection((os.environ["PGHOST"], int(os.environ["PGPORT"])), timeout=60) as stream:
                began = time.monotonic()
                stream.sendall(struct.pack("!iiii", 16, 80877102, conn.info.backend_pid, n))
                assert stream.recv(100) == b""
                slowest = max(slowest, time.monotonic() - began)
        assert conn.execute("SELECT 1").fetchone() == (1,)
        print(f"1000 unknown cancels: the slowest took {slowest * 1000:.1f} ms")


globals()[sys.argv[1]]()
print("ok")
