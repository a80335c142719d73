"""asyncpg through the gate. The case is the first argument."""

import asyncio
import datetime
import decimal
import os
import ssl
import sys

import asyncpg


def where():
    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    return dict(
        host="localhost", port=int(os.environ["PGPORT"]), user="alice", password=os.environ["PGPASSWORD"], database="shop",
        ssl=context, timeout=20,
    )


async def connect():
    return await asyncpg.connect(**where())


async def queries():
    conn = await connect()
    assert await conn.fetchval("SELECT count(*) FROM orders") == 800
    row = await conn.fetchrow(
        "SELECT $1::int, $2::text, $3::numeric, $4::timestamptz, $5::bytea, $6::int[], $7::bool",
        7, "sieben", decimal.Decimal("7.70"), datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc), b"\x07\x00", [7, 8], None,
    )
    assert tuple(row)[:3] == (7, "sieben", decimal.Decimal("7.70")) and row[5] == [7, 8] and row[6] is None, row
    rows = await conn.fetch("SELECT id, name FROM products WHERE price > $1 ORDER BY id", decimal.Decimal(50))
    assert len(rows) > 10 and rows[0]["name"]
    assert await conn.execute("CREATE TEMP TABLE q (n int); INSERT INTO q VALUES (1), (2)") == "INSERT 0 2"
    await conn.executemany("INSERT INTO q VALUES ($1)", [(n,) for n in range(100)])
    assert await conn.fetchval("SELECT count(*) FROM q") == 102
    await conn.close()


async def prepared():
    conn = await connect()
    statement = await conn.prepare("SELECT name FROM products WHERE id = $1")
    assert [p.name for p in statement.get_parameters()] == ["int4"]
    for n in range(1, 41):
        assert (await statement.fetchval(n)).endswith(f"no. {n}")
    await conn.close()


async def copy():
    conn = await connect()
    await conn.execute("CREATE TEMP TABLE c (n int, t text)")
    records = [(n, f"row {n}") for n in range(5000)]
    assert await conn.copy_records_to_table("c", records=records) == "COPY 5000"
    out = bytearray()

    async def sink(data):
        out.extend(data)

    assert await conn.copy_from_query("SELECT n, t FROM c ORDER BY n", output=sink, format="csv") == "COPY 5000"
    assert out.decode().splitlines()[4999] == "4999,row 4999"
    await conn.close()


async def transactions():
    conn = await connect()
    await conn.execute("CREATE TEMP TABLE t (n int)")
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (1)")
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO t VALUES (2)")
                await conn.fetch("SELECT 1/0")
        except asyncpg.DivisionByZeroError:
            pass
    assert [r["n"] for r in await conn.fetch("SELECT n FROM t")] == [1]
    await conn.close()


async def errors():
    conn = await connect()
    try:
        await conn.fetch("SELECT nothing FROM products")
    except asyncpg.UndefinedColumnError as error:
        assert error.position == "8", error.position
    else:
        raise AssertionError("no error")
    try:
        await conn.fetch("SELEC 1")
    except asyncpg.PostgresSyntaxError:
        pass
    else:
        raise AssertionError("no error")
    assert await conn.fetchval("SELECT 1") == 1
    await conn.close()


async def cancel():
    conn = await connect()
    try:
        await conn.fetch("SELECT pg_sleep(30)", timeout=0.7)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("not cancelled")
    assert await asyncio.wait_for(conn.fetchval("SELECT 1"), 15) == 1
    await conn.close()


async def pool():
    async with asyncpg.create_pool(min_size=2, max_size=4, **where()) as pool:
        async def one(n):
            async with pool.acquire() as conn:
                return await conn.fetchval("SELECT $1::int * 2", n)

        assert await asyncio.gather(*(one(n) for n in range(40))) == [n * 2 for n in range(40)]


async def cursor():
    conn = await connect()
    async with conn.transaction():
        got = [row["id"] async for row in conn.cursor("SELECT id FROM orders ORDER BY id", prefetch=50)]
    assert got == list(range(1, 801))
    await conn.close()


asyncio.run(globals()[sys.argv[1]]())
print("ok")
