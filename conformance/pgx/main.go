// pgx: each step says `ok STEP` or `failed STEP: why`. The endpoint comes from PG* variables.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type step struct {
	name string
	run  func(ctx context.Context, c *pgx.Conn) error
}

func connect(ctx context.Context, change func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("")
	if err != nil {
		return nil, err
	}
	if config.TLSConfig == nil || config.TLSConfig.InsecureSkipVerify || len(config.Fallbacks) > 1 {
		return nil, errors.New("not with TLS and a check of the certificate")
	}
	if change != nil {
		change(config)
	}
	return pgx.ConnectConfig(ctx, config)
}

func code(err error, wanted string) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == wanted {
		return nil
	}
	return fmt.Errorf("wanted SQLSTATE %s, got %v", wanted, err)
}

func same(got, wanted any) error {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		return fmt.Errorf("wanted %v, got %v", wanted, got)
	}
	return nil
}

func number(ctx context.Context, c *pgx.Conn, sql string, arguments ...any) (n int64, err error) {
	err = c.QueryRow(ctx, sql, arguments...).Scan(&n)
	return
}

func wantNumber(ctx context.Context, c *pgx.Conn, wanted int64, sql string, arguments ...any) error {
	n, err := number(ctx, c, sql, arguments...)
	if err != nil {
		return err
	}
	return same(n, wanted)
}

var steps = []step{
	{"connect", func(ctx context.Context, c *pgx.Conn) error { return c.Ping(ctx) }},
	{"simple", func(ctx context.Context, c *pgx.Conn) error {
		results, err := c.PgConn().Exec(ctx, "select 1; select 2").ReadAll()
		if err != nil {
			return err
		}
		if err := same(len(results), 2); err != nil {
			return err
		}
		return same(string(results[1].Rows[0][0]), "2")
	}},
	{"simple_protocol_parameters", func(ctx context.Context, c *pgx.Conn) error {
		return wantNumber(ctx, c, 42, "select $1::int8 + 1", pgx.QueryExecModeSimpleProtocol, int64(41))
	}},
	{"parameters", func(ctx context.Context, c *pgx.Conn) error {
		var text *string
		var raw []byte
		var list []int32
		err := c.QueryRow(ctx, "select $1::text, $2::bytea, $3::int[]", nil, []byte{0, 1}, []int32{1, 2}).Scan(&text, &raw, &list)
		if err != nil {
			return err
		}
		return same([]any{text == nil, raw, list}, []any{true, []byte{0, 1}, []int32{1, 2}})
	}},
	{"prepared", func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Prepare(ctx, "twice", "select $1::int8 * 2"); err != nil {
			return err
		}
		for n := int64(0); n < 50; n++ {
			if err := wantNumber(ctx, c, n*2, "twice", n); err != nil {
				return err
			}
		}
		if err := c.Deallocate(ctx, "twice"); err != nil {
			return err
		}
		_, err := c.Prepare(ctx, "twice", "select $1::int8 * 3")
		if err != nil {
			return err
		}
		return wantNumber(ctx, c, 6, "twice", int64(2))
	}},
	{"other_modes", func(ctx context.Context, c *pgx.Conn) error {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec} {
			for n := int64(0); n < 3; n++ {
				if err := wantNumber(ctx, c, n+1, "select $1::int8 + 1", mode, n); err != nil {
					return fmt.Errorf("%v: %w", mode, err)
				}
			}
		}
		return nil
	}},
	{"transaction", func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, "create temp table t (x int)"); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "insert into t values ($1)", 1); err != nil {
				return err
			}
			inner := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "select 1/0")
				return err
			})
			return code(inner, "22012")
		})
		if err != nil {
			return err
		}
		undo := errors.New("undo")
		err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into t values ($1)", 2)
			if err != nil {
				return err
			}
			return undo
		})
		if !errors.Is(err, undo) {
			return err
		}
		return wantNumber(ctx, c, 1, "select sum(x) from t")
	}},
	{"error_and_on", func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "select 1/0")
		if err := code(err, "22012"); err != nil {
			return err
		}
		_, err = number(ctx, c, "select 1/$1::int8", 0)
		if err := code(err, "22012"); err != nil {
			return err
		}
		_, err = number(ctx, c, "select nothing_here")
		if err := code(err, "42703"); err != nil {
			return err
		}
		return wantNumber(ctx, c, 1, "select 1")
	}},
	{"copy", func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, "create temp table t (x int, y text)"); err != nil {
			return err
		}
		n, err := c.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"x", "y"}, pgx.CopyFromSlice(10000, func(i int) ([]any, error) {
			return []any{i, fmt.Sprint("row ", i)}, nil
		}))
		if err != nil {
			return err
		}
		if err := same(n, 10000); err != nil {
			return err
		}
		var out bytes.Buffer
		if _, err := c.PgConn().CopyTo(ctx, &out, "copy (select * from t order by x) to stdout"); err != nil {
			return err
		}
		if !strings.HasSuffix(out.String(), "9999\trow 9999\n") {
			return errors.New("another end of the copy")
		}
		_, err = c.PgConn().CopyFrom(ctx, strings.NewReader("wrong\tx\n"), "copy t from stdin")
		if err := code(err, "22P02"); err != nil {
			return err
		}
		return wantNumber(ctx, c, 10000, "select count(*) from t")
	}},
	{"cancel", func(ctx context.Context, c *pgx.Conn) error {
		time.AfterFunc(time.Second, func() { _ = c.PgConn().CancelRequest(ctx) })
		began := time.Now()
		_, err := c.Exec(ctx, "select pg_sleep(30)")
		if err := code(err, "57014"); err != nil {
			return err
		}
		if time.Since(began) > 10*time.Second {
			return errors.New("late")
		}
		return wantNumber(ctx, c, 1, "select 1")
	}},
	{"context_ends", func(ctx context.Context, c *pgx.Conn) error {
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		if _, err := c.Exec(short, "select pg_sleep(30)"); err == nil {
			return errors.New("no error")
		}
		// pgx closes such a connection.
		if !c.IsClosed() {
			return errors.New("not closed")
		}
		return nil
	}},
	{"notify", func(ctx context.Context, c *pgx.Conn) error {
		other, err := connect(ctx, nil)
		if err != nil {
			return err
		}
		defer other.Close(ctx)
		if _, err := c.Exec(ctx, "listen n"); err != nil {
			return err
		}
		if _, err := other.Exec(ctx, "select pg_notify('n', 'words')"); err != nil {
			return err
		}
		soon, stop := context.WithTimeout(ctx, 5*time.Second)
		defer stop()
		heard, err := c.WaitForNotification(soon)
		if err != nil {
			return err
		}
		if err := wantNumber(ctx, other, int64(other.PgConn().PID()), "select pg_backend_pid()"); err != nil {
			return err
		}
		return same(fmt.Sprint(heard.Channel, heard.Payload, heard.PID), fmt.Sprint("n", "words", other.PgConn().PID()))
	}},
	{"large_result", func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, "select g, repeat('x', 100) from generate_series(1, 100000) g")
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			n++
		}
		if rows.Err() != nil {
			return rows.Err()
		}
		return same(n, 100000)
	}},
	{"batch", func(ctx context.Context, c *pgx.Conn) error {
		batch := &pgx.Batch{}
		for n := int64(0); n < 500; n++ {
			batch.Queue("select $1::int8 + 1", n)
		}
		results := c.SendBatch(ctx, batch)
		for n := int64(0); n < 500; n++ {
			var got int64
			if err := results.QueryRow().Scan(&got); err != nil {
				return err
			}
			if err := same(got, n+1); err != nil {
				return err
			}
		}
		if err := results.Close(); err != nil {
			return err
		}
		failing := &pgx.Batch{}
		failing.Queue("select 1")
		failing.Queue("select 1/$1::int8", 0)
		failing.Queue("select 3")
		if err := code(c.SendBatch(ctx, failing).Close(), "22012"); err != nil {
			return err
		}
		return wantNumber(ctx, c, 1, "select 1")
	}},
	{"pipeline", func(ctx context.Context, c *pgx.Conn) error {
		p := c.PgConn().StartPipeline(ctx)
		p.SendPrepare("a", "select $1::text", nil)
		if err := p.Sync(); err != nil {
			return err
		}
		p.SendQueryPrepared("a", [][]byte{[]byte("one")}, nil, nil)
		p.SendQueryParams("select 1/0", nil, nil, nil, nil)
		p.SendQueryPrepared("a", [][]byte{[]byte("two")}, nil, nil)
		if err := p.Sync(); err != nil {
			return err
		}
		p.SendQueryPrepared("a", [][]byte{[]byte("three")}, nil, nil)
		if err := p.Sync(); err != nil {
			return err
		}
		var heard []string
		for {
			result, err := p.GetResults()
			if err != nil {
				if e := code(err, "22012"); e != nil {
					return e
				}
				heard = append(heard, "22012")
				continue
			}
			if result == nil {
				break
			}
			switch r := result.(type) {
			case *pgconn.StatementDescription:
				heard = append(heard, "prepared")
			case *pgconn.ResultReader:
				read := r.Read()
				if read.Err != nil {
					if e := code(read.Err, "22012"); e != nil {
						return e
					}
					heard = append(heard, "22012")
				} else {
					heard = append(heard, string(read.Rows[0][0]))
				}
			case *pgconn.PipelineSync:
				heard = append(heard, "sync")
			}
		}
		if err := p.Close(); err != nil {
			return err
		}
		return same(heard, []string{"prepared", "sync", "one", "22012", "sync", "three", "sync"})
	}},
	{"pool", func(ctx context.Context, _ *pgx.Conn) error {
		pool, err := pgxpool.New(ctx, "")
		if err != nil {
			return err
		}
		defer pool.Close()
		wrong := make(chan error, 200)
		for n := 0; n < 200; n++ {
			go func(n int) {
				var got int
				err := pool.QueryRow(ctx, "select $1::int", n).Scan(&got)
				if err == nil {
					err = same(got, n)
				}
				wrong <- err
			}(n)
		}
		for n := 0; n < 200; n++ {
			if err := <-wrong; err != nil {
				return err
			}
		}
		return nil
	}},
	{"runtime_parameters", func(ctx context.Context, _ *pgx.Conn) error {
		c, err := connect(ctx, func(config *pgx.ConnConfig) {
			config.RuntimeParams["statement_timeout"] = "7000"
			config.RuntimeParams["application_name"] = "conformance"
		})
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		var got string
		if err := c.QueryRow(ctx, "select current_setting('statement_timeout') || current_setting('application_name')").Scan(&got); err != nil {
			return err
		}
		return same(got, "7sconformance")
	}},
}

func run(s step) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	c, err := connect(ctx, nil)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return s.run(ctx, c)
}

func main() {
	for _, s := range steps {
		if err := run(s); err != nil {
			fmt.Printf("failed %s: %s\n", s.name, strings.ReplaceAll(err.Error(), "\n", " | "))
		} else {
			fmt.Println("ok", s.name)
		}
	}
}
