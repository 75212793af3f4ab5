#!/bin/sh
# Runs one PostgreSQL cluster for as long as standard input stays open, then stops it and deletes its folder.
# $1 its folder, which holds password, server.crt, server.key and settings · $2 folder of PostgreSQL's programs
# $3 port
set -u
home=$1 bin=$2 port=$3
# A signal to the whole group ends the benchmark, and with it the pipe.
trap '' HUP INT TERM

# The server refuses to run as root.
as=""
mkdir -m 700 "$home/data" || exit 1
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=postgres --regid=postgres --init-groups"
    chown postgres "$home/data" "$home/password" "$home/server.key" || exit 1
fi
fail() { echo "$1" > "$home/failed"; exit 1; }

$as "$bin/initdb" -D "$home/data" -U postgres -A scram-sha-256 --pwfile="$home/password" \
    -E UTF8 --locale=C -N || fail "initdb failed"
cat "$home/settings" >> "$home/data/postgresql.conf" || fail "no settings"
$as "$bin/postgres" -D "$home/data" -p "$port" -k "" \
    -c listen_addresses=127.0.0.1 -c ssl=on -c ssl_min_protocol_version=TLSv1.3 \
    -c ssl_cert_file="$home/server.crt" -c ssl_key_file="$home/server.key" &
server=$!
cat > /dev/null
kill -INT $server 2> /dev/null
wait $server
rm -rf "$home"
