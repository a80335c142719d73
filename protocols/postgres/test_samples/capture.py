#!/usr/bin/env python3
"""Makes the captures in this folder: real clients against a real PostgreSQL 15, through a proxy that writes down both ways.

    python3 capture.py HOST PORT

The server must let user `captured` with password `captured-password` into database `captured` by the method `password`, without TLS.
Needs psql and pgbench in PATH and psycopg 3 with libpq 18. Each NAME becomes NAME.client.bin and NAME.target.bin.
"""
import os
import socket
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = (sys.argv[1], int(sys.argv[2]))
PASSWORD = "captured-password"


def pump(source, sink, into):
    try:
        while data := source.recv(65536):
            into.extend(data)
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def capture(name, run):
    """The longest of the connections that `run(port)` makes: pgbench opens one to look around first."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    connections, threads = [], []

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            target = socket.create_connection(TARGET)
            ways = (bytearray(), bytearray())
            connections.append(ways)
            for pair in ((client, target, ways[0]), (target, client, ways[1])):
                threads.append(threading.Thread(target=pump, args=pair))
                threads[-1].start()

    threading.Thread(target=serve, daemon=True).start()
    run(port)
    for thread in threads:
        thread.join(timeout=20)
    listener.close()
    for side, way in zip(("client", "target"), max(connections, key=lambda ways: len(ways[0]))):
        with open(os.path.join(HERE, f"{name}.{side}.bin"), "wb") as file:
            file.write(way)
        print(name, side, len(way))


def tool(*command):
    def run(port):
        env = dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(port), PGUSER="captured", PGDATABASE="captured",
                   PGPASSWORD=PASSWORD, PGSSLMODE="prefer", PGGSSENCMODE="disable", PGCONNECT_TIMEOUT="5")
        subprocess.run(command, env=env, check=False, timeout=20, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run


def psycopg_session(work, **more):
    import psycopg

    def run(port):
        with psycopg.connect(host="127.0.0.1", port=port, user="captured", dbname="captured", password=PASSWORD,
                             sslmode="disable", gssencmode="disable", **more) as connection:
            work(connection)
    return run


def parameters(connection):
    connection.prepare_threshold = 1
    with connection.cursor(binary=True) as cursor:
        for value in (1, None, 2**40):
            cursor.execute("select %s::int8, %s::text, now() is null", (value, "ü – 雪"))
            cursor.fetchall()
    connection.execute("listen c")
    connection.execute("notify c, 'payload'")
    connection.commit()
    try:
        connection.execute("select 1/%s", (0,))
    except Exception:
        connection.rollback()


def pipeline(connection):
    connection.execute("create temp table t (id int primary key, name text)")
    try:
        with connection.pipeline():
            for i in (1, 2, 2, 3):
                connection.execute("insert into t values (%s, %s)", (i, f"row {i}"))
    except Exception:
        connection.rollback()
    connection.execute("do $$ begin raise notice 'a notice' using detail = 'with detail', hint = 'and hint'; end $$")


def copy(connection):
    connection.execute("create temp table c (id int, name text)")
    with connection.cursor() as cursor:
        with cursor.copy("copy c from stdin") as into:
            for i in range(5):
                into.write_row((i, f"row {i}"))
        try:
            with cursor.copy("copy nosuch from stdin") as into:
                into.write_row((1,))
        except Exception:
            connection.rollback()
        with cursor.copy("copy (select generate_series(1, 4)) to stdout (format binary)") as out:
            for _ in out:
                pass
    with connection.cursor(name="portal") as cursor:
        cursor.itersize = 2
        cursor.execute("select generate_series(1, 5)")
        cursor.fetchall()


capture("psql_describe", tool("psql", "-X", "-c", r"\d pg_am", "-c", "select 1; select 2", "-c", "", "-c", "selec"))
capture("pgbench_prepared", tool("pgbench", "-n", "-M", "prepared", "-t", "3", "-f", os.path.join(HERE, "select.sql")))
capture("psycopg_parameters", psycopg_session(parameters, max_protocol_version="latest", options="-c statement_timeout=5s"))
capture("psycopg_pipeline", psycopg_session(pipeline))
capture("psycopg_copy", psycopg_session(copy))
