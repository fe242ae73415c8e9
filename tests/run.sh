#!/usr/bin/env bash
# Builds all suites once, then runs them: run.sh "FLAGS" "LEFT" "RIGHT" "ALONE". LEFT, with the unit tests, and RIGHT mostly wait for
# others: they run side by side, and RIGHT's output follows LEFT's. ALONE then have the machine to themselves: they measure
# times, or load it themselves. FLAGS are cargo test's.
set -uo pipefail

read -ra flags <<<"$1"
read -ra left <<<"$2"
read -ra right <<<"$3"
read -ra alone <<<"$4"
left=(--lib --bins "${left[@]/#/--test=}")
right=("${right[@]/#/--test=}")
alone=("${alone[@]/#/--test=}")

cargo test --no-run "${left[@]}" "${right[@]}" "${alone[@]}" || exit
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test "${flags[@]}" "${right[@]}" >"$log" 2>&1 &
beside=$!
cargo test "${flags[@]}" "${left[@]}" || status=$?
wait "$beside" || status=$?
cat "$log"
cargo test "${flags[@]}" "${alone[@]}" || status=$?
exit "$status"
