// Command backend is what stands behind a gateway under test, and the load before it.
//
//	backend serve   one instance: HTTP/1.1 and h2c on one port, gRPC on another, an admin port to make it misbehave
//	backend mix     connections of mixed traffic (GET, POST, streams, gRPC, WebSocket), each answer verified
//	backend count   many requests, and who answered them
//
// Results are JSON on standard output, one document; what goes wrong is on standard error.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("name serve, mix or count"))
	}
	commands := map[string]func([]string) error{"serve": serve, "mix": mix, "count": count}
	command, known := commands[os.Args[1]]
	if !known {
		fail(fmt.Errorf("there is no command %q: name serve, mix or count", os.Args[1]))
	}
	if err := command(os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "backend:", err)
	os.Exit(1)
}

// report writes the result of a command.
func report(result any) error {
	return json.NewEncoder(os.Stdout).Encode(result)
}
