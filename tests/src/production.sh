#!/bin/sh
# Runs one PostgreSQL cluster as in production for as long as standard input stays open, then stops it and
# deletes its folder.
# $1 its folder, which holds password, ca.crt, server.crt, server.key, settings and pg_hba.conf · $2 folder of
# PostgreSQL's programs · $3 port
set -u
home=$1 bin=$2 port=$3
trap '' INT

# The server refuses to run as root.
as=""
mkdir -m 700 "$home/data" "$home/archive" || exit 1
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=postgres --regid=postgres --init-groups"
    chown postgres "$home/data" "$home/archive" "$home/password" "$home/server.key" || exit 1
fi
fail() { echo "$1" > "$home/failed"; exit 1; }

$as "$bin/initdb" -D "$home/data" -U postgres -A scram-sha-256 --pwfile="$home/password" \
    -E UTF8 --locale=C -N || fail "initdb failed"
cat "$home/settings" >> "$home/data/postgresql.conf" && cat "$home/pg_hba.conf" > "$home/data/pg_hba.conf" \
    || fail "no settings"
$as "$bin/postgres" -D "$home/data" -p "$port" -k "" &
server=$!
# The backup that an arrived record waits for: a copy of the log, written as it comes.
(
    until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do sleep 0.2; done
    PGPASSWORD=$(cat "$home/password") PGSSLMODE=verify-full PGSSLROOTCERT="$home/ca.crt"
    export PGPASSWORD PGSSLMODE PGSSLROOTCERT
    exec "$bin/pg_receivewal" -D "$home/archive" --synchronous -h 127.0.0.1 -p "$port" -U postgres -w
) &
receiver=$!
cat > /dev/null
kill $receiver 2> /dev/null
wait $receiver
kill -INT $server 2> /dev/null
wait $server
rm -rf "$home"
