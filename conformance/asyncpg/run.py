"""asyncpg: each step says `ok STEP` or `failed STEP: why`. The endpoint comes from PG* variables."""

import asyncio
import contextlib
import io
import os
import ssl
import time
import traceback

import asyncpg

STEPS = []
TLS = ssl.create_default_context(cafile=os.environ.get("PGSSLROOTCERT"))


def step(function):
    STEPS.append(function)
    return function


@contextlib.asynccontextmanager
async def connect(**more):
    c = await asyncpg.connect(ssl=TLS, timeout=20, **more)
    try:
        yield c
    finally:
        await c.close(timeout=10)


@contextlib.contextmanager
def raises(error):
    try:
        yield
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


@step
async def connect_with_tls():
    async with connect() as c:
        assert c._transport.get_extra_info("peercert")
        assert c.get_server_version().major >= 15


@step
async def simple():
    async with connect() as c:
        assert await c.execute("create temp table t (x int); insert into t values (1), (2)") == "INSERT 0 2"


@step
async def parameters():
    async with connect() as c:
        row = await c.fetchrow("select $1::int8 + 1, $2::text, $3::numeric, $4::bytea, $5::int[]", 2**40, "wörd", None, b"\0\1", [1, 2])
        assert tuple(row) == (2**40 + 1, "wörd", None, b"\0\1", [1, 2]), row


@step
async def prepared():
    async with connect() as c:
        statement = await c.prepare("select $1::int * 2")
        for n in range(50):
            assert await statement.fetchval(n) == n * 2
        assert [a.type.name for a in statement.get_attributes()] == ["int4"]


@step
async def types_of_our_own():
    async with connect() as c:
        await c.execute("drop type if exists asyncpg_mood; create type asyncpg_mood as enum ('sad', 'glad')")
        assert await c.fetchval("select $1::asyncpg_mood", "glad") == "glad"
        assert await c.fetchval("select array['sad', 'glad']::asyncpg_mood[]") == ["sad", "glad"]


@step
async def transaction():
    async with connect() as c:
        await c.execute("create temp table t (x int)")
        async with c.transaction():
            await c.execute("insert into t values (1)")
        with raises(RuntimeError):
            async with c.transaction():
                await c.execute("insert into t values ($1)", 2)
                raise RuntimeError
        async with c.transaction(isolation="serializable"):
            await c.execute("insert into t values (3)")
            with raises(asyncpg.DivisionByZeroError):
                async with c.transaction():
                    await c.execute("select 1/0")
        assert await c.fetchval("select array_agg(x order by x) from t") == [1, 3]


@step
async def error_and_on():
    async with connect() as c:
        for attempt in (c.execute("select 1/0"), c.fetchval("select 1/$1::int", 0)):
            with raises(asyncpg.DivisionByZeroError):
                await attempt
            assert await c.fetchval("select 1") == 1
        with raises(asyncpg.UndefinedColumnError):
            await c.fetch("select nothing_here")
        assert await c.fetchval("select 1") == 1


@step
async def copy_in_and_out():
    async with connect() as c:
        await c.execute("create temp table t (x int, y text)")
        assert await c.copy_records_to_table("t", records=[(n, f"row {n}") for n in range(10000)]) == "COPY 10000"
        out = io.BytesIO()
        assert await c.copy_from_query("select * from t where x < $1 order by x", 100, output=out) == "COPY 100"
        assert out.getvalue().endswith(b"99\trow 99\n")
        assert await c.copy_to_table("t", source=io.BytesIO(b"1;x\n2;y\n"), delimiter=";") == "COPY 2"
        with raises(asyncpg.BadCopyFileFormatError):
            await c.copy_to_table("t", source=io.BytesIO(b"1\n"))
        assert await c.fetchval("select count(*) from t") == 10002


@step
async def cancel():
    async with connect() as c:
        began = time.monotonic()
        with raises(asyncio.TimeoutError):
            await c.execute("select pg_sleep(30)", timeout=1)
        assert time.monotonic() - began < 10
        assert await c.fetchval("select 1") == 1
        task = asyncio.ensure_future(c.fetch("select pg_sleep($1)", 30))
        await asyncio.sleep(0.5)
        task.cancel()
        with raises(asyncio.CancelledError):
            await task
        assert await c.fetchval("select 1") == 1


@step
async def notify():
    async with connect() as c, connect() as other:
        heard = asyncio.Queue()
        await c.add_listener("n", lambda *a: heard.put_nowait(a[1:]))
        await other.execute("select pg_notify('n', 'words')")
        assert await asyncio.wait_for(heard.get(), 5) == (other.get_server_pid(), "n", "words")
        assert other.get_server_pid() == await other.fetchval("select pg_backend_pid()")


@step
async def large_result():
    async with connect() as c:
        rows = await c.fetch("select g, repeat('x', 100) from generate_series(1, 100000) g")
        assert len(rows) == 100000 and tuple(rows[-1]) == (100000, "x" * 100)


@step
async def cursor():
    async with connect() as c, c.transaction():
        total = 0
        async for row in c.cursor("select g from generate_series(1, 20000) g", prefetch=100):
            total += row[0]
        assert total == 20000 * 20001 // 2


@step
async def batch():
    async with connect() as c:
        await c.execute("create temp table t (x int, y text)")
        await c.executemany("insert into t values ($1, $2)", [(n, "z" * 100) for n in range(20000)])
        assert await c.fetchval("select count(*) from t") == 20000
        with raises(asyncpg.DivisionByZeroError):
            await c.executemany("insert into t values (1 / $1, $2)", [(n - 5000, "z") for n in range(10000)])
        assert await c.fetchval("select count(*) from t") == 20000


@step
async def pool():
    pool = await asyncpg.create_pool(ssl=TLS, min_size=4, max_size=8)
    async with pool:
        answers = await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(200)))
        assert answers == list(range(200))


@step
async def server_settings():
    async with connect(server_settings={"statement_timeout": "7s", "application_name": "conformance"}) as c:
        assert await c.fetchval("show statement_timeout") == "7s"
        assert await c.fetchval("show application_name") == "conformance"
        await c.execute("set statement_timeout = 0")
        await c.reset()
        assert await c.fetchval("show statement_timeout") == "7s"


async def main():
    for function in STEPS:
        try:
            await asyncio.wait_for(function(), 120)
            print(f"ok {function.__name__}", flush=True)
        except BaseException as e:  # noqa: BLE001 - whatever it is, the next step goes on
            where = traceback.extract_tb(e.__traceback__)
            line = next((f.lineno for f in reversed(where) if f.filename == __file__), "?")
            print(f"failed {function.__name__}: line {line}: {type(e).__name__}: {' | '.join(str(e).splitlines())}", flush=True)


asyncio.run(main())
