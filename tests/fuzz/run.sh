#!/usr/bin/env bash
# Fuzzes one target: run.sh [TARGET [SECONDS [libFuzzer options]]]. Fails on a crash, and says where the input is. Targets:
# decoder, of the RESP protocol; spool, its recovery and replay; http, where a request of HTTP/1.1 ends; all, side by side.
#
# Needs a C++ compiler for libFuzzer, and no nightly Rust: the coverage counters that libFuzzer reads are a pass of LLVM's,
# which stable rustc runs by name. What it learns is kept from run to run, outside the checkout.
set -euo pipefail

name=${1:-decoder}
seconds=${2:-${FUZZ_SECONDS:-60}}
if [ "$name" = all ]; then
  running=()
  for each in decoder spool http; do
    "${BASH_SOURCE[0]}" "$each" "$seconds" "${@:3}" &
    running+=($!)
  done
  status=0
  for each in "${running[@]}"; do wait "$each" || status=1; done
  exit "$status"
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
kept=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate-testbed/fuzz
case $name in
decoder)
  program=tidegate-fuzz
  seeds=$here/corpus
  options=(-max_len=4096 -dict="$here/resp.dict")
  ;;
spool)
  program=tidegate-fuzz-spool
  seeds=$here/corpus-spool
  kept=$kept/spool
  options=(-max_len=256)
  ;;
http)
  program=tidegate-fuzz-http
  seeds=$here/corpus-http
  kept=$kept/http
  options=(-max_len=2048 -dict="$here/http.dict")
  ;;
*)
  echo "fuzz: there is no target $name: choose decoder, spool, http or all" >&2
  exit 2
  ;;
esac
mkdir -p "$kept/corpus" "$kept/crashes"

host=$(rustc -vV | sed -n 's/^host: //p')
echo "fuzz: building the target $name with coverage counters" >&2
# With --target the flags stay off build scripts. One codegen unit: the counters' tables are one section each.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" \
  cargo build --quiet --release --locked --target "$host" --target-dir "$target" --manifest-path "$here/Cargo.toml" \
  --bin "$program"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "fuzz: $seconds seconds" >&2
status=0
"$target/$host/release/$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 "${options[@]}" \
  -artifact_prefix="$kept/crashes/" -print_final_stats=1 "${@:3}" "$kept/corpus" "$seeds" >"$log" 2>&1 || status=$?
if [ "$status" -eq 72 ]; then
  echo "fuzz: interrupted; nothing was found so far" >&2
  exit 130
fi
if [ "$status" -ne 0 ]; then
  grep -vE "^(#[0-9]+|INFO:|stat::)" "$log" | tail -n 60 >&2
  echo "fuzz: the target $name failed; the input is in $kept/crashes" >&2
  exit 1
fi
stat() { sed -n "s/^stat::$1: *//p" "$log"; }
echo "fuzz: $name: $(stat number_of_executed_units) executions, $(stat average_exec_per_sec) a second, no crash; $(
  find "$kept/corpus" -type f | wc -l) inputs in $kept/corpus"
