#!/usr/bin/env bash
# Builds Optgate for this machine's kind with what it really does as the guide (profile-guided optimisation):
# once with counters in it, then a load on loopback, then again, with profile `dist`. Works from any folder.
#   deploy/build-pgo.sh            the binary is target/dist/optgate
#   SECONDS_EACH=10 deploy/build-pgo.sh     a longer load for each scenario
#   LOAD_ONLY=target/release/optgate deploy/build-pgo.sh     builds nothing, and only puts a program under the load
# Needs an llvm-profdata that reads rustc's profiles (`rustup component add llvm-tools`, or Debian's llvm-19), nginx as
# the origin, wrk as the client over HTTP/1.1 in clear and TLS, h2load (Debian's nghttp2-client) over HTTP/2, and openssl
# for a certificate.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

target=${CARGO_TARGET_DIR:-$PWD/target}
seconds=${SECONDS_EACH:-5}
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

for tool in cargo nginx wrk h2load openssl curl; do
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
if [ -n "${LOAD_ONLY:-}" ]; then
  counting=$LOAD_ONLY
else
  profdata=$(find_profdata)
  say "profiles are read with $profdata"
  # A build of its own: flags like these make every object another one. With the target named, build scripts and
  # macros go without them.
  say "building with counters in it"
  RUSTFLAGS="-Cprofile-generate=$work/raw" \
    cargo build --profile dist --bin optgate --target "$host" --target-dir "$target/pgo-counting"
  counting="$target/pgo-counting/$host/dist/optgate"
fi

origin=127.0.0.1:19471 front=127.0.0.1:19472 tls=127.0.0.1:19473
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
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
  -addext subjectAltName=IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/chain.pem" 2>/dev/null
printf '[tls]\nlisten = ["%s"]\n[[tls.certificates]]\nchain = "%s"\nkey = "%s"\n' \
  "$tls" "$work/chain.pem" "$work/key.pem" >"$work/optgate.toml"
"$counting" run --config "$work/optgate.toml" --listen "$front" --admin 127.0.0.1:0 --upstream "http://$origin" \
  --log-level error --data-dir "$work/data" >"$work/optgate.log" 2>&1 &
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
  local url=$1
  shift
  say "load: $url $*"
  # With counters in it, and on a busy machine, a page may take its time.
  wrk -t1 -c8 --timeout 30s -d"${seconds}s" "$@" "$url" >"$work/wrk.log" || fail "wrk: $(cat "$work/wrk.log")"
  ! grep -E 'Non-2xx|Socket errors' "$work/wrk.log" || fail "the load met errors: no profile is made of them"
}
# The same over HTTP/2, eight streams on each connection.
load_http2() {
  local url=$1
  shift
  say "load over HTTP/2: $url $*"
  h2load -t1 -c4 -m8 -D"$seconds" "$@" "$url" >"$work/h2load.log" || fail "h2load: $(cat "$work/h2load.log")"
  grep -Eq '^requests: .* [1-9][0-9]* succeeded, 0 failed, 0 errored, 0 timeout' "$work/h2load.log" &&
    grep -Eq '^status codes: .* 0 3xx, 0 4xx, 0 5xx' "$work/h2load.log" ||
    fail "the load met errors: no profile is made of them: $(cat "$work/h2load.log")"
}
load "http://$front/small.txt"
load "http://$front/small.txt" "${picture[@]}"
load "http://$front/medium.txt"
load "http://$front/large.txt"
load "http://$front/page.html" "${browser[@]}"
load "http://$front/page.html" "${browser[@]}" -H 'Sec-GPC: 1'
load "http://$front/cold/page.html" "${browser[@]}"
load "http://$front/cold/page.html" "${browser[@]}" -H 'Sec-GPC: 1'
load "http://$front/gz/page.html" "${browser[@]}" -H 'Sec-GPC: 1' -H 'Accept-Encoding: gzip, br, zstd'
for speak in load load_http2; do
  "$speak" "https://$tls/small.txt"
  "$speak" "https://$tls/medium.txt" "${picture[@]}"
  "$speak" "https://$tls/page.html" "${browser[@]}" -H 'Sec-GPC: 1'
done
# A handshake for each request, as the first one of a visit has.
load "https://$tls/small.txt" -H 'Connection: close'

# The counters are written when it ends in order.
kill -TERM "$server"
wait "$server" || fail "it did not stop in order: $(cat "$work/optgate.log")"
if [ -n "${LOAD_ONLY:-}" ]; then
  say "done: the load met no error"
  exit
fi
find "$work/raw" -name '*.profraw' -size +0 | grep -q . || fail "no counters were written"
"$profdata" merge -o "$work/optgate.profdata" "$work"/raw/*.profraw

say "building with the profile"
RUSTFLAGS="-Cprofile-use=$work/optgate.profdata" \
  cargo build --profile dist --bin optgate --target "$host" --target-dir "$target/pgo-used"
mkdir -p "$target/dist"
cp "$target/pgo-used/$host/dist/optgate" "$target/dist/optgate"
say "done: $target/dist/optgate"
