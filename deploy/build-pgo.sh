#!/usr/bin/env bash
# Builds Optgate for this machine's kind with what it really does as the guide (profile-guided optimisation):
# once with counters in it, then a load on loopback, then again, with profile `dist`. Works from any folder.
#   deploy/build-pgo.sh            the binary is target/dist/optgate
#   SECONDS_EACH=10 deploy/build-pgo.sh     a longer load for each scenario
# Needs an llvm-profdata that reads rustc's profiles (`rustup component add llvm-tools`, or Debian's llvm-19), nginx as
# the origin and wrk as the client.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

target=${CARGO_TARGET_DIR:-$PWD/target}
seconds=${SECONDS_EACH:-5}
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

for tool in cargo nginx wrk curl; do
  command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing: install it and run this again"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/optgate-pgo.XXXXXX")
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# rustc's own LLVM reads what it writes, and an older one does while the format is the same: a trial tells, before the
# long builds.
find_profdata() {
  local tool tools
  mapfile -t tools < <(
    printf '%s\n' "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "llvm-profdata-$llvm"
    find /usr/lib -maxdepth 1 -name 'llvm-*' | sort -rV | sed 's:$:/bin/llvm-profdata:'
    printf 'llvm-profdata\n'
  )
  printf 'fn main() {}\n' >"$work/trial.rs"
  rustc -Cprofile-generate="$work/trial" -o "$work/trial.bin" "$work/trial.rs" && "$work/trial.bin"
  for tool in "${tools[@]}"; do
    "$tool" merge -o "$work/trial.profdata" "$work"/trial/*.profraw 2>/dev/null && { printf '%s' "$tool"; return; }
  done
  fail "no llvm-profdata here reads the profiles of LLVM $llvm: rustup component add llvm-tools, or install llvm-19 or newer"
}
profdata=$(find_profdata)
say "profiles are read with $profdata"

# A build of its own: flags like these make every object another one. With the target named, build scripts and
# macros go without them.
say "building with counters in it"
RUSTFLAGS="-Cprofile-generate=$work/raw" \
  cargo build --profile dist --bin optgate --target "$host" --target-dir "$target/pgo-counting"
counting="$target/pgo-counting/$host/dist/optgate"

origin=127.0.0.1:19471 front=127.0.0.1:19472
mkdir -p "$work/www"
head -c 1024 /dev/zero | tr '\0' x >"$work/www/small.txt"
head -c 16384 /dev/zero | tr '\0' x >"$work/www/medium.txt"
head -c 1048576 /dev/zero | tr '\0' x >"$work/www/large.txt"
# Pages of the tests' own fixtures, in one: headings, lists, scripts, frames, trackers, broken markup.
{
  printf '<!DOCTYPE html><html><head><meta charset="utf-8"><title>t</title></head><body>\n'
  for _ in 1 2 3 4; do find tests/fixtures -name '*.html' -print0 | sort -z | xargs -0 cat; done
  printf '<footer></footer></body></html>\n'
} >"$work/www/page.html"
cat >"$work/nginx.conf" <<CONF
daemon off; master_process off; worker_processes 1; pid $work/nginx.pid; error_log $work/nginx.err;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; default_type text/plain;
  types { text/html html; text/plain txt; }
  client_body_temp_path $work/n1; proxy_temp_path $work/n2; fastcgi_temp_path $work/n3;
  uwsgi_temp_path $work/n4; scgi_temp_path $work/n5;
  server {
    listen $origin; root $work/www; 
    location /gz/ { alias $work/www/; gzip on; gzip_proxied any; }
    # Every answer another page.
    location /cold/ { alias $work/www/; sub_filter '</head>' '<meta name="r" content="\$request_id"></head>'; }
  }
}
CONF
nginx -c "$work/nginx.conf" &
pids+=($!)
"$counting" run --listen "$front" --admin 127.0.0.1:0 --upstream "http://$origin" --log-level error \
  --data-dir "$work/data" >"$work/optgate.log" 2>&1 &
server=$!
pids+=("$server")
for _ in $(seq 100); do
  curl -sf -o /dev/null "http://$front/small.txt" && break
  kill -0 "$server" 2>/dev/null || fail "it does not start: $(cat "$work/optgate.log")"
  sleep 0.1
done

browser=(-H 'Accept: text/html,application/xhtml+xml' -H 'Sec-Fetch-Dest: document' -H 'Cookie: a=1; theme=dark'
  -H 'Accept-Language: en-US,en;q=0.5' -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0')
picture=(-H 'Accept: image/avif,image/webp,*/*' -H 'Sec-Fetch-Dest: image' -H 'Sec-GPC: 1' -H 'Cookie: a=1')
load() {
  local path=$1
  shift
  say "load: $path $*"
  # With counters in it, and on a busy machine, a page may take its time.
  wrk -t1 -c8 --timeout 30s -d"${seconds}s" "$@" "http://$front$path" >"$work/wrk.log" || fail "wrk: $(cat "$work/wrk.log")"
  ! grep -E 'Non-2xx|Socket errors' "$work/wrk.log" || fail "the load met errors: no profile is made of them"
}
load /small.txt
load /small.txt "${picture[@]}"
load /medium.txt
load /large.txt
load /page.html "${browser[@]}"
load /page.html "${browser[@]}" -H 'Sec-GPC: 1'
load /cold/page.html "${browser[@]}"
load /cold/page.html "${browser[@]}" -H 'Sec-GPC: 1'
load /gz/page.html "${browser[@]}" -H 'Sec-GPC: 1' -H 'Accept-Encoding: gzip, br, zstd'

# The counters are written when it ends in order.
kill -TERM "$server"
wait "$server" || fail "it did not stop in order: $(cat "$work/optgate.log")"
find "$work/raw" -name '*.profraw' -size +0 | grep -q . || fail "no counters were written"
"$profdata" merge -o "$work/optgate.profdata" "$work"/raw/*.profraw

say "building with the profile"
RUSTFLAGS="-Cprofile-use=$work/optgate.profdata" \
  cargo build --profile dist --bin optgate --target "$host" --target-dir "$target/pgo-used"
mkdir -p "$target/dist"
cp "$target/pgo-used/$host/dist/optgate" "$target/dist/optgate"
say "done: $target/dist/optgate"
