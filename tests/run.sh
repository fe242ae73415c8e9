#!/usr/bin/env bash
# Builds all suites once, then runs them: run.sh "FLAGS" "SUITES" "BESIDE". Those of BESIDE mostly wait: they run side by side with
# the rest, and their output follows when all are done. FLAGS are cargo test's.
set -uo pipefail

read -ra flags <<<"$1"
read -ra suites <<<"$2"
read -ra beside <<<"$3"
first=(--lib --bins "${suites[@]/#/--test=}")
second=("${beside[@]/#/--test=}")

cargo test --no-run "${first[@]}" "${second[@]}" || exit
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test "${flags[@]}" "${second[@]}" >"$log" 2>&1 &
other=$!
status=0
cargo test "${flags[@]}" "${first[@]}" || status=$?
wait "$other" || status=$?
cat "$log"
exit "$status"
