#!/bin/sh
# psql, as people use it: each step says `ok STEP` or `failed STEP: why`. The endpoint comes from PG* variables.
set -u
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
say() { # step, wanted, got
    if [ "$2" = "$3" ]; then echo "ok $1"; else echo "failed $1: $(printf '%s' "$3" | head -c 400 | tr '\n' '|')"; fi
}
ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@" 2>&1; }

say connect "1" "$(ask -c '\conninfo' | grep -c 'SSL connection')"
say simple "1" "$(ask -c "select 1")"
say several "1|2|" "$(ask -c "select 1; select 2;" | tr '\n' '|')"
say describe "id" "$(ask -c "drop table if exists psql_t" -c "create table psql_t (id int primary key)" -c '\d psql_t' | grep '^id|' | cut -d'|' -f1)"
say list "postgres" "$(ask -c '\du postgres' | cut -d'|' -f1 | head -1)"
say parameters "43" "$(printf '\\set n 42\nselect :n + 1;\n' | ask)"
say prepared "3|5|" "$(printf 'prepare p(int) as select $1 + 1;\nexecute p(2);\nexecute p(4);\n' | ask | tr '\n' '|')"
say transaction "1|0|" "$(printf 'begin;\ncreate temp table a (x int);\ninsert into a values (1);\ncommit;\nselect count(*) from a;\nbegin;\ndelete from a;\nrollback;\nselect 1 - count(*) from a;\n' | ask | tr '\n' '|')"
say error "22012|7|" "$(printf '\\set VERBOSITY sqlstate\nselect 1/0;\nselect 7;\n' | psql -X -q -A -t 2>&1 | sed 's/.*ERROR: *//' | tr '\n' '|')"
say failed-transaction "22012|25P02|8|" "$(printf '\\set VERBOSITY sqlstate\nbegin;\nselect 1/0;\nselect 7;\nrollback;\nselect 8;\n' | psql -X -q -A -t 2>&1 | sed 's/.*ERROR: *//' | tr '\n' '|')"
say savepoint "22012|9|" "$(printf '\\set VERBOSITY sqlstate\nbegin;\nsavepoint s;\nselect 1/0;\nrollback to s;\nselect 9;\ncommit;\n' | psql -X -q -A -t 2>&1 | sed 's/.*ERROR: *//' | tr '\n' '|')"

seq 1 1000 | sed 's/$/\tword/' >"$here/in"
ask -c "drop table if exists psql_copy" -c "create table psql_copy (id int, word text)" >/dev/null
say copy-in "1000" "$(ask -c "\\copy psql_copy from '$here/in'" -c "select count(*) from psql_copy")"
ask -c "\\copy (select * from psql_copy order by id) to '$here/out'" >/dev/null
say copy-out "same" "$(cmp "$here/in" "$here/out" 2>&1 && echo same)"
say copy-error "22P02|2|" "$(printf '\\set VERBOSITY sqlstate\ncopy psql_copy from stdin;\nnot a number\tx\n\\.\nselect 2;\n' | psql -X -q -A -t 2>&1 | sed 's/.*ERROR: *//' | grep -v '^CONTEXT' | tr '\n' '|')"

printf '\\set VERBOSITY sqlstate\nselect pg_sleep(30);\nselect 5;\n' | psql -X -q -A -t >"$here/cancelled" 2>&1 &
sleeping=$!
sleep 2
began=$(date +%s)
kill -INT "$sleeping"
wait "$sleeping"
took=$(($(date +%s) - began))
# An interrupted psql that reads from a pipe ends after the error.
say cancel "57014" "$(sed 's/.*ERROR: *//' "$here/cancelled" | grep -o 57014 | head -1)"
if [ "$took" -lt 10 ]; then echo "ok cancel-at-once"; else echo "failed cancel-at-once: $took s"; fi

say notify 'Asynchronous notification "n" with payload "p" received' "$(printf 'listen n;\nnotify n, $$p$$;\n' | sed "s/[$][$]p[$][$]/'p'/" | ask | sed 's/ from server.*//')"
say large "100000" "$(ask -c "select g, repeat('x', 100) from generate_series(1, 100000) g" | wc -l | tr -d ' ')"
say cursor "100000" "$(ask -v FETCH_COUNT=1000 -c "select g from generate_series(1, 100000) g" | wc -l | tr -d ' ')"
say gset "12" "$(printf "select 12 as v \\\\gset\nselect :v;\n" | ask)"
say startup-options "7" "$(PGOPTIONS='-c extra_float_digits=2 -c statement_timeout=7000' ask -c "select setting::int / 1000 from pg_settings where name = 'statement_timeout'")"
say reset "7s" "$(printf 'set statement_timeout = 0;\nreset statement_timeout;\nshow statement_timeout;\n' | PGOPTIONS='-c statement_timeout=7000' ask)"
say encoding "LATIN1" "$(PGCLIENTENCODING=LATIN1 ask -c "show client_encoding")"
# The process id of a notification is the one that the session has of itself.
said=$(printf 'listen me;\nselect pg_backend_pid() as p \\gset\nnotify me;\n\\echo :p\n' | ask | tr '\n' ' ')
say pid "t" "$(echo "$said" | awk '{ print (index($0, "PID " $NF) > 0) ? "t" : $0 }')"
