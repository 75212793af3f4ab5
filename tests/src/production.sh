#!/bin/sh
# Runs one PostgreSQL cluster as in production for as long as standard input stays open, then stops it and
# deletes its folder.
# $1 its folder, which holds password, server.crt, server.key, settings and pg_hba.conf · $2 folder of
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
    -E UTF8 --locale=C -N --wal-segsize=1 || fail "initdb failed"
cat "$home/settings" >> "$home/data/postgresql.conf" && cat "$home/pg_hba.conf" > "$home/data/pg_hba.conf" \
    || fail "no settings"
$as "$bin/postgres" -D "$home/data" -p "$port" -k "" &
server=$!
cat > /dev/null
kill -INT $server 2> /dev/null
wait $server
rm -rf "$home"
