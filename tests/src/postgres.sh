#!/bin/sh
# Runs the throw-away PostgreSQL cluster of the tests: makes it, keeps it while a test process holds a
# shared lock on "users", stops and deletes it when none has for a while.
# $1 its folder · $2 folder of PostgreSQL's programs · $3 port · $4 fsync, on or off
# Holds an exclusive lock on "supervisor" as long as it looks after the cluster.
set -u
home=$1 bin=$2 port=$3 fsync=$4
exec 8>> "$home/supervisor"
flock --nonblock --exclusive 8 || exit 1
rm -rf "$home/data" "$home/failed" "$home/url"

# The server refuses to run as root.
as=""
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=postgres --regid=postgres --init-groups"
    mkdir -m 700 "$home/data" && chown postgres "$home/data" || exit 1
else
    mkdir -m 700 "$home/data" || exit 1
fi

fail() { echo "$1" > "$home/failed"; exit 1; }

# initdb reads the password as the server's user.
( umask 077; cp "$home/password" "$home/initial" )
[ -z "$as" ] || chown postgres "$home/initial"
$as "$bin/initdb" -D "$home/data" -U postgres -A scram-sha-256 --pwfile="$home/initial" -E UTF8 --locale=C -N \
    || fail "initdb failed"
rm -f "$home/initial"
for file in server.crt server.key; do
    cp "$home/$file" "$home/data/$file" && chmod 600 "$home/data/$file" || fail "no certificate"
    [ -z "$as" ] || chown postgres "$home/data/$file"
done
$as "$bin/postgres" -D "$home/data" -p "$port" -k "" \
    -c listen_addresses=127.0.0.1 -c ssl=on -c fsync="$fsync" -c max_connections=400 -c shared_buffers=64MB 8>&- &
server=$!

idle=0
while sleep 1; do
    kill -0 $server 2>/dev/null || fail "the server ended"
    if flock --nonblock --exclusive "$home/users" true; then idle=$((idle + 1)); else idle=0; fi
    [ $idle -ge 10 ] || continue
    exec 9>> "$home/users"
    flock --nonblock --exclusive 9 || { idle=0; continue; }
    # Nobody can join while the lock is held, and nobody is here.
    kill -INT $server
    wait $server
    rm -rf "$home/data" "$home/url" "$home/password" "$home/server.key"
    exit 0
done
