#!/bin/sh
# Runs one PostgreSQL cluster that a test kills. Reads words from standard input and answers each with a line:
# kill: every process of the server ends by SIGKILL · start: it starts again, its files as they are
# At the end of the input the server stops and its folder is deleted.
# $1 its folder, which holds password and settings · $2 folder of PostgreSQL's programs · $3 port
set -u
home=$1 bin=$2 port=$3
trap '' HUP INT TERM

# The server refuses to run as root.
as=""
mkdir -m 700 "$home/data" || exit 1
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=postgres --regid=postgres --init-groups"
    chown postgres "$home/data" "$home/password" || exit 1
fi
fail() { echo "$1" > "$home/failed"; exit 1; }
server=""
start() {
    $as "$bin/postgres" -D "$home/data" -p "$port" -k "" 3>&- >> "$home/log" 2>&1 &
    server=$!
}
# Its children first look up, so that none is left that would keep the files.
end() {
    children=$(ps -o pid= --ppid "$server")
    kill -9 "$server" $children
    wait "$server"
    for child in $children; do
        while kill -0 "$child" 2> /dev/null; do sleep 0.01; done
    done
}

$as "$bin/initdb" -D "$home/data" -U postgres -A scram-sha-256 --pwfile="$home/password" \
    -E UTF8 --locale=C -N > "$home/log" 2>&1 || fail "initdb failed"
cat "$home/settings" >> "$home/data/postgresql.conf" || fail "no settings"
start
while read -r word; do
    case $word in
        kill) end 2> /dev/null ;;
        start) start ;;
    esac
    echo "$word"
done
kill -INT "$server" 2> /dev/null
wait "$server"
rm -rf "$home"
