#!/usr/bin/env bash
# Real Apache Kafka (KRaft) on loopback, from Maven's jars alone. The Rust side (tests/bed/kafka.rs) writes each
# broker's configuration, starts it through `run` and ends it; here is what needs a JVM or openssl.
#
#   kafka.sh install HOME                     jars, certificates, data templates and class archive into HOME
#   kafka.sh format HOME DIR CLUSTER ARG...   formats the data directory of DIR/server.properties
#   kafka.sh run HOME DIR                     becomes the broker of DIR/server.properties (same process id)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
users=(alice:alice-secret admin:admin-secret)
die() { echo "kafka.sh: $*" >&2; exit 1; }

# Test brokers live for seconds: the C1 compiler alone and a serial collector start fastest, and the class archive
# halves what is left. -Xshare:auto goes on without the archive if this JVM does not accept it.
java_args() { # home dir
  local jars; jars=("$1"/lib/*.jar) # the archive demands the same class path in the same order: the glob sorts
  jvm=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xshare:auto -Djava.net.preferIPv4Stack=true
    -Djava.awt.headless=true -Djava.io.tmpdir="$2/tmp" -Dlog4j2.configurationFile="$1/log4j2.properties"
    -Dlog4j2.disableJmx=true -Dkafka.log.file="$2/broker.log" -cp "$(IFS=:; echo "${jars[*]}")")
  if [ -s "$1/classes.jsa" ]; then jvm+=(-XX:SharedArchiveFile="$1/classes.jsa"); fi
}

format() { # home dir cluster-id argument...
  local home=$1 dir=$2 cluster=$3; shift 3
  local scram=() user bits
  if grep -q '^sasl.enabled.mechanisms=' "$dir/server.properties"; then
    for user in "${users[@]}"; do for bits in 256 512; do
      scram+=(--add-scram "SCRAM-SHA-$bits=[name=${user%%:*},password=${user#*:}]")
    done; done
  fi
  mkdir -p "$dir/tmp"
  java_args "$home" "$dir"
  java -Xmx128m "${jvm[@]}" -Dkafka.log.file="$dir/format.log" kafka.tools.StorageTool format -t "$cluster" \
    -c "$dir/server.properties" "$@" ${scram[@]+"${scram[@]}"} >"$dir/format-out.log" 2>&1 ||
    { cat "$dir/format-out.log" >&2; die "cannot format $dir"; }
}

run() { # home dir
  mkdir -p "$2/tmp"
  cd "$2"
  java_args "$1" "$2"
  exec java -Xms128m -Xmx512m ${KAFKA_TRAIN:+"$KAFKA_TRAIN"} "${jvm[@]}" kafka.Kafka "$2/server.properties"
}

minimal_conf() { # dir port controller-port [line...]
  local dir=$1 port=$2 controller=$3; shift 3
  mkdir -p "$dir/tmp"
  printf '%s\n' process.roles=broker,controller node.id=1 \
    "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller" \
    listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT controller.listener.names=CONTROLLER \
    "controller.quorum.bootstrap.servers=127.0.0.1:$controller" "log.dirs=$dir/data" \
    offsets.topic.replication.factor=1 "$@" >"$dir/server.properties"
}

# A freshly formatted directory of a lone node holds no port (the voter registers its address anew), so formatting
# once and copying saves a JVM at each start.
templates() { # home
  local home=$1 dir
  for kind in plain sasl; do
    dir=$home/format-$kind
    minimal_conf "$dir" 19999 19998
    if [ $kind = sasl ]; then echo sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512 >>"$dir/server.properties"; fi
    format "$home" "$dir" "AAAAAAAAAAAAAAAAAAAAAA" --standalone
    mv "$dir/data" "$home/template-$kind"
    rm -rf "$dir"
  done
}

certificates() { # home: one authority and one certificate for every broker
  local t=$1/tls
  mkdir -p "$t"
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Tidegate test authority" \
    -keyout "$t/ca.key" -out "$t/ca.crt"
  openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$t/server.key" -out "$t/server.csr"
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >"$t/extensions"
  openssl x509 -req -in "$t/server.csr" -CA "$t/ca.crt" -CAkey "$t/ca.key" -CAcreateserial -days 3650 \
    -extfile "$t/extensions" -out "$t/server.crt"
  cat "$t/server.key" "$t/server.crt" "$t/ca.crt" >"$t/server.pem"
}

# One real boot and a clean end, at which the JVM writes the classes it has loaded to an archive.
train() { # home
  local home=$1 dir=$1/train port pid i
  port=$("$here/../ports.sh" 2)
  minimal_conf "$dir" "$port" $((port + 1))
  cp -r "$home/template-plain" "$dir/data"
  KAFKA_TRAIN=-XX:ArchiveClassesAtExit=$home/classes.jsa run "$home" "$dir" >"$dir/out.log" 2>&1 &
  pid=$!
  trap 'kill -KILL $pid 2>/dev/null || true' EXIT
  for ((i = 0; i < 600; i++)); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    kill -0 "$pid" 2>/dev/null || { cat "$dir"/*.log >&2; die "the first broker died while it started"; }
    sleep 0.1
  done
  kill -TERM "$pid"
  wait "$pid" || true # 143: it ended on the signal
  trap - EXIT
  [ -s "$home/classes.jsa" ] || { cat "$dir"/*.log >&2; die "the first broker left no class archive"; }
  rm -rf "$dir"
}

install() { # home
  mkdir -p "$1/lib"
  mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/lib"
  compgen -G "$1/lib/kafka_2.13-*.jar" >/dev/null || die "no broker jar arrived"
  cp "$here/log4j2.properties" "$1/"
  certificates "$1"
  templates "$1"
  train "$1"
}

command=${1:-}
shift || true
case $command in
  install | format | run) "$command" "$@" ;;
  *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
