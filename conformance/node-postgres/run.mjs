// node-postgres: each step says `ok STEP` or `failed STEP: why`. The endpoint comes from PG* variables.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { pipeline as flow } from "node:stream/promises";
import { Readable } from "node:stream";
import pg from "pg";
import copy from "pg-copy-streams";
import Cursor from "pg-cursor";

// Given as an option, not by PGSSLMODE: so the certificate is checked whatever the driver's defaults are.
delete process.env.PGSSLMODE;
const ssl = { ca: readFileSync(process.env.PGSSLROOTCERT), rejectUnauthorized: true, servername: process.env.PGHOST };

async function withClient(work, more = {}) {
  const client = new pg.Client({ ssl, connectionTimeoutMillis: 20000, ...more });
  client.on("error", () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const code = (wanted) => (error) => error.code === wanted;

const steps = {
  connect: () => withClient(async (c) => {
    assert.equal(c.connection.stream.encrypted, true);
    assert.equal(c.connection.stream.authorized, true);
  }),
  simple: () => withClient(async (c) => {
    const several = await c.query("select 1 as a; select 2 as b");
    assert.deepEqual(several.map((r) => r.rows), [[{ a: 1 }], [{ b: 2 }]]);
    assert.deepEqual((await c.query("")).rows, []);
  }),
  parameters: () => withClient(async (c) => {
    const { rows } = await c.query("select $1::int + 1 as n, $2::text as t, $3::jsonb as j, $4::bytea as b", [41, "wörd", { a: 1 }, Buffer.from([0, 1])]);
    assert.deepEqual(rows, [{ n: 42, t: "wörd", j: { a: 1 }, b: Buffer.from([0, 1]) }]);
    const binary = await c.query({ text: "select $1::int4 as n", values: [7], binary: true });
    assert.deepEqual(binary.rows, [{ n: 7 }]);
  }),
  prepared: () => withClient(async (c) => {
    for (let n = 0; n < 50; n++) {
      const { rows } = await c.query({ name: "twice", text: "select $1::int * 2 as n", values: [n] });
      assert.equal(rows[0].n, n * 2);
    }
    const { rows } = await c.query("select name from pg_prepared_statements");
    assert.deepEqual(rows, [{ name: "twice" }]);
  }),
  transaction: () => withClient(async (c) => {
    await c.query("create temp table t (x int)");
    await c.query("begin");
    await c.query("insert into t values (1)");
    await c.query("commit");
    await c.query("begin");
    await c.query("insert into t values ($1)", [2]);
    await assert.rejects(c.query("select 1/0"), code("22012"));
    await assert.rejects(c.query("select 1"), code("25P02"));
    await c.query("rollback");
    assert.deepEqual((await c.query("select x from t")).rows, [{ x: 1 }]);
  }),
  error_and_on: () => withClient(async (c) => {
    await assert.rejects(c.query("select 1/0"), code("22012"));
    await assert.rejects(c.query("select 1/$1::int", [0]), code("22012"));
    await assert.rejects(c.query("select nothing_here"), (e) => e.code === "42703" && e.position === "8");
    assert.equal((await c.query("select 1 as n")).rows[0].n, 1);
  }),
  several_at_once: () => withClient(async (c) => {
    // Queued by the driver, answered in order; one in the middle fails.
    const all = await Promise.allSettled([...Array(200).keys()].map((n) => c.query("select 10 / ($1::int - 100) as n, $1::int as m", [n])));
    assert.equal(all.filter((r) => r.status === "fulfilled").length, 199);
    assert.equal(all[100].reason.code, "22012");
    assert.equal(all[199].value.rows[0].m, 199);
  }),
  pipeline: () => withClient(async (c) => {
    // All messages are written before any answer is read.
    const all = await Promise.allSettled([...Array(200).keys()].map((n) => c.query("select 10 / ($1::int - 100) as n, $1::int as m", [n])));
    assert.equal(all.filter((r) => r.status === "fulfilled").length, 199);
    assert.equal(all[100].reason.code, "22012");
    assert.equal(all[199].value.rows[0].m, 199);
  }, { pipeline: true }),
  copy: () => withClient(async (c) => {
    await c.query("create temp table t (x int, y text)");
    const lines = [...Array(10000).keys()].map((n) => `${n}\trow ${n}\n`);
    await flow(Readable.from(lines), c.query(copy.from("copy t from stdin")));
    let out = "";
    for await (const piece of c.query(copy.to("copy (select * from t order by x) to stdout"))) out += piece;
    assert.equal(out, lines.join(""));
    await assert.rejects(flow(Readable.from(["wrong\tx\n"]), c.query(copy.from("copy t from stdin"))), code("22P02"));
    assert.equal((await c.query("select count(*)::int as n from t")).rows[0].n, 10000);
  }),
  cancel: () => withClient(async (c) => {
    const sleeping = assert.rejects(c.query("select pg_sleep(30)"), code("57014"));
    await new Promise((done) => setTimeout(done, 1000));
    const began = Date.now();
    await withClient(async (other) => other.query("select pg_cancel_backend($1)", [c.processID]));
    await sleeping;
    assert.ok(Date.now() - began < 10000);
    assert.equal((await c.query("select 1 as n")).rows[0].n, 1);
  }),
  notify: () => withClient(async (c) => withClient(async (other) => {
    const heard = new Promise((resolve) => c.once("notification", resolve));
    await c.query("listen n");
    await other.query("select pg_notify('n', 'words')");
    const { channel, payload, processId } = await heard;
    assert.deepEqual({ channel, payload, processId }, { channel: "n", payload: "words", processId: other.processID });
    assert.equal((await other.query("select pg_backend_pid() as pid")).rows[0].pid, other.processID);
  })),
  large_result: () => withClient(async (c) => {
    const { rows } = await c.query("select g, repeat('x', 100) as x from generate_series(1, 100000) g");
    assert.equal(rows.length, 100000);
    assert.deepEqual(rows[99999], { g: 100000, x: "x".repeat(100) });
  }),
  cursor: () => withClient(async (c) => {
    const cursor = c.query(new Cursor("select g from generate_series(1, $1::int) g", [5000]));
    let sum = 0;
    for (let rows = await cursor.read(100); rows.length > 0; rows = await cursor.read(100)) for (const row of rows) sum += row.g;
    assert.equal(sum, (5000 * 5001) / 2);
    const early = c.query(new Cursor("select g from generate_series(1, 5000) g"));
    assert.equal((await early.read(10)).length, 10);
    await early.close();
    assert.equal((await c.query("select 1 as n")).rows[0].n, 1);
  }),
  pool: async () => {
    const pool = new pg.Pool({ ssl, max: 8 });
    const answers = await Promise.all([...Array(200).keys()].map((n) => pool.query("select $1::int as n", [n])));
    assert.deepEqual(answers.map((a) => a.rows[0].n), [...Array(200).keys()]);
    await pool.end();
  },
  startup_parameters: () => withClient(async (c) => {
    assert.equal((await c.query("show statement_timeout")).rows[0].statement_timeout, "7s");
    assert.equal((await c.query("show application_name")).rows[0].application_name, "conformance");
    assert.equal((await c.query("show search_path")).rows[0].search_path, "pg_catalog");
  }, { statement_timeout: 7000, application_name: "conformance", options: "-c search_path=pg_catalog" }),
};

for (const [name, run] of Object.entries(steps)) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("no end within 60 s")), 60000); });
  try {
    await Promise.race([run(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`failed ${name}: ${String(error.stack ?? error).split("\n").slice(0, 4).join(" | ")}`);
  } finally {
    clearTimeout(timer);
  }
}
process.exit(0);
