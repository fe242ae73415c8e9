// Command driver pushes records through go-redis.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/redis/go-redis/v9"
)

func record(key string, seq int) []byte {
	value := fmt.Appendf(nil, `{"app":"%s","seq":%d,"msg":"line é \"q\" \\ end"}`, key, seq)
	if seq%7 == 3 {
		value = append(value, "\r\n\x00"...)
	}
	return value
}

func check(reply int64, pushed int) error {
	if reply < int64(pushed) {
		return fmt.Errorf("reply %d after %d values", reply, pushed)
	}
	return nil
}

// batch sends the records first..last-1 as one pipeline or one transaction.
func batch(ctx context.Context, pipe redis.Pipeliner, key string, first, last int) error {
	for seq := first; seq < last; seq++ {
		pipe.LPush(ctx, key, record(key, seq))
	}
	replies, err := pipe.Exec(ctx)
	if err != nil {
		return err
	}
	if len(replies) != last-first {
		return fmt.Errorf("%d replies to %d commands", len(replies), last-first)
	}
	for _, reply := range replies {
		length, ok := reply.(*redis.IntCmd)
		if !ok {
			return fmt.Errorf("not an integer: %v", reply)
		}
		if err := check(length.Val(), 1); err != nil {
			return err
		}
	}
	return nil
}

func run(client *redis.Client, key string, count int, mode string) error {
	ctx := context.Background()
	size := map[string]int{"single": 1, "pipeline": 100, "variadic": 10, "multi": 5}[mode]
	for first := 0; first < count; first += size {
		last := min(first+size, count)
		var err error
		switch mode {
		case "pipeline":
			err = batch(ctx, client.Pipeline(), key, first, last)
		case "multi":
			err = batch(ctx, client.TxPipeline(), key, first, last)
		default:
			values := make([]any, 0, size)
			for seq := first; seq < last; seq++ {
				values = append(values, record(key, seq))
			}
			var reply int64
			if reply, err = client.LPush(ctx, key, values...).Result(); err == nil {
				err = check(reply, len(values))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	args := os.Args[1:]
	usage := func() {
		fmt.Fprintln(os.Stderr, "usage: driver HOST PORT KEY COUNT single|pipeline|variadic|multi [USER PASSWORD]")
		os.Exit(2)
	}
	if len(args) != 5 && len(args) != 7 {
		usage()
	}
	count, err := strconv.Atoi(args[3])
	if err != nil {
		usage()
	}
	switch args[4] {
	case "single", "pipeline", "variadic", "multi":
	default:
		usage()
	}
	options := &redis.Options{Addr: args[0] + ":" + args[1]}
	if len(args) == 7 {
		options.Username, options.Password = args[5], args[6]
	}
	client := redis.NewClient(options)
	defer client.Close()
	if err := run(client, args[2], count, args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "go-redis:", err)
		os.Exit(1)
	}
	fmt.Println("ok", count)
}
