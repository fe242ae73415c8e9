// Command calls makes the calls of the client matrix through go-redis, rueidis and redigo:
// calls LIBRARY MODE HOST PORT KEY
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// informed says what is wrong with an INFO.
func informed(info string, err error) error {
	if err == nil && !strings.Contains(info, "redis_version:") {
		err = fmt.Errorf("no redis_version in %q", info)
	}
	return err
}

// calls are what a library can do; one that is nil is not a thing of it.
type calls struct {
	push        func(value string) error
	health      func() error
	pipeline    func(values []string) error
	transaction func(values []string) error
}

func value(call string, number int) string {
	return fmt.Sprintf("%s-%d é \"q\" \\ \r\n\x00.", call, number)
}

func values(call string, count int) []string {
	var all []string
	for number := range count {
		all = append(all, value(call, number))
	}
	return all
}

func one(reply int64, err error) error {
	if err == nil && reply != 1 {
		err = fmt.Errorf("%d instead of 1", reply)
	}
	return err
}

func throughGoRedis(mode, address, key string) (calls, error) {
	ctx := context.Background()
	var client redis.UniversalClient
	switch mode {
	case "cluster":
		client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{address}})
	case "sentinel":
		client = redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: []string{address}})
	default:
		client = redis.NewClient(&redis.Options{Addr: address})
	}
	batch := func(pipe redis.Pipeliner, values []string) error {
		for _, value := range values {
			pipe.RPush(ctx, key, value)
		}
		replies, err := pipe.Exec(ctx)
		for _, reply := range replies {
			if err == nil {
				err = one(reply.(*redis.IntCmd).Result())
			}
		}
		return err
	}
	return calls{
		push: func(value string) error { return one(client.RPush(ctx, key, value).Result()) },
		health: func() error {
			if err := client.Ping(ctx).Err(); err != nil {
				return err
			}
			return informed(client.Info(ctx).Result())
		},
		pipeline:    func(values []string) error { return batch(client.Pipeline(), values) },
		transaction: func(values []string) error { return batch(client.TxPipeline(), values) },
	}, nil
}

func throughRueidis(mode, address, key string) (calls, error) {
	ctx := context.Background()
	option := rueidis.ClientOption{InitAddress: []string{address}}
	switch mode {
	case "sentinel":
		option.Sentinel = rueidis.SentinelOption{MasterSet: "mymaster"}
	case "plain":
		option.ForceSingleClient = true
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return calls{}, err
	}
	push := func(value string) rueidis.Completed {
		return client.B().Rpush().Key(key).Element(value).Build()
	}
	return calls{
		push: func(value string) error { return one(client.Do(ctx, push(value)).AsInt64()) },
		health: func() error {
			if err := client.Do(ctx, client.B().Ping().Build()).Error(); err != nil {
				return err
			}
			return informed(client.Do(ctx, client.B().Info().Build()).ToString())
		},
		pipeline: func(values []string) error {
			var all rueidis.Commands
			for _, value := range values {
				all = append(all, push(value))
			}
			for _, reply := range client.DoMulti(ctx, all...) {
				if err := one(reply.AsInt64()); err != nil {
					return err
				}
			}
			return nil
		},
		transaction: func(values []string) error {
			return client.Dedicated(func(one rueidis.DedicatedClient) error {
				all := rueidis.Commands{one.B().Multi().Build()}
				for _, value := range values {
					all = append(all, one.B().Rpush().Key(key).Element(value).Build())
				}
				all = append(all, one.B().Exec().Build())
				replies := one.DoMulti(ctx, all...)
				got, err := replies[len(replies)-1].AsIntSlice()
				if err == nil && len(got) != len(values) {
					err = fmt.Errorf("%d replies", len(got))
				}
				return err
			})
		},
	}, nil
}

func throughRedigo(_, address, key string) (calls, error) {
	pool := &redigo.Pool{
		Dial:         func() (redigo.Conn, error) { return redigo.Dial("tcp", address) },
		TestOnBorrow: func(c redigo.Conn, _ time.Time) error { _, err := c.Do("PING"); return err },
	}
	return calls{
		push: func(value string) error {
			c := pool.Get()
			defer c.Close()
			return one(redigo.Int64(c.Do("RPUSH", key, value)))
		},
		health: func() error {
			c := pool.Get()
			defer c.Close()
			if _, err := redigo.String(c.Do("PING")); err != nil {
				return err
			}
			return informed(redigo.String(c.Do("INFO")))
		},
		pipeline: func(values []string) error {
			c := pool.Get()
			defer c.Close()
			for _, value := range values {
				if err := c.Send("RPUSH", key, value); err != nil {
					return err
				}
			}
			if err := c.Flush(); err != nil {
				return err
			}
			for range values {
				if err := one(redigo.Int64(c.Receive())); err != nil {
					return err
				}
			}
			return nil
		},
		transaction: func(values []string) error {
			c := pool.Get()
			defer c.Close()
			if err := c.Send("MULTI"); err != nil {
				return err
			}
			for _, value := range values {
				if err := c.Send("RPUSH", key, value); err != nil {
					return err
				}
			}
			replies, err := redigo.Int64s(c.Do("EXEC"))
			if err == nil && len(replies) != len(values) {
				err = fmt.Errorf("%d replies", len(replies))
			}
			return err
		},
	}, nil
}

func report(call string, err error) {
	if err != nil {
		fmt.Printf("%s error: %s\n", call, strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	fmt.Println(call, "ok")
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return strings.TrimPrefix(dependency.Version, "v")
		}
	}
	return "?"
}

func main() {
	library, mode, address, key := os.Args[1], os.Args[2], net.JoinHostPort(os.Args[3], os.Args[4]), os.Args[5]
	make := map[string]func(mode, address, key string) (calls, error){
		"go-redis": throughGoRedis, "rueidis": throughRueidis, "redigo": throughRedigo,
	}[library]
	modules := map[string]string{
		"go-redis": "github.com/redis/go-redis/v9", "rueidis": "github.com/redis/rueidis", "redigo": "github.com/gomodule/redigo",
	}
	fmt.Println("version", version(modules[library]))
	client, err := make(mode, address, key)
	if err != nil {
		report("start", err)
		os.Exit(1)
	}
	report("ordinary", client.push(value("ordinary", 0)))
	report("health", client.health())
	report("pipeline", client.pipeline(values("pipeline", 10)))
	report("transaction", client.transaction(values("transaction", 5)))
	fmt.Println("restart")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for tried := 0; ; tried++ {
		err = client.push(value("reconnect", 0))
		if err == nil || tried == 60 {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	report("reconnect", err)
}
