package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// counts is who answered, by its name, and with which status.
type counts struct {
	Instances map[string]int64 `json:"instances"`
	Statuses  map[string]int64 `json:"statuses"`
	Errors    map[string]int64 `json:"errors"`
	Seconds   float64          `json:"seconds"`
	// Assigned is who answered each number, where -assign asks for it.
	Assigned map[int]string `json:"assigned,omitempty"`
}

func count(arguments []string) error {
	flags := flag.NewFlagSet("count", flag.ExitOnError)
	target := flags.String("url", "", "what to ask for; {} becomes the request's number")
	requests := flags.Int("n", 1000, "how many requests")
	connections := flags.Int("connections", 8, "on how many connections")
	var headers list
	flags.Var(&headers, "header", "NAME: VALUE; {} becomes the request's number (repeatable)")
	host := flags.String("host", "", "the Host header")
	assign := flags.Bool("assign", false, "tell who answered each number")
	rate := flags.Float64("rate", 0, "requests a second of all connections; 0: as fast as they are answered")
	_ = flags.Parse(arguments)

	it := counts{Instances: map[string]int64{}, Statuses: map[string]int64{}, Errors: map[string]int64{}}
	if *assign {
		it.Assigned = map[int]string{}
	}
	client := &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: *connections, MaxConnsPerHost: *connections, DisableCompression: true},
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var next atomic.Int64
	var mutex sync.Mutex
	var group sync.WaitGroup
	start := time.Now()
	for range *connections {
		group.Go(func() {
			for {
				number := int(next.Add(1) - 1)
				if number >= *requests {
					return
				}
				if *rate > 0 {
					time.Sleep(time.Until(start.Add(time.Duration(float64(number) / *rate * float64(time.Second)))))
				}
				instance, status, err := one(client, *target, *host, headers, number)
				mutex.Lock()
				if err != nil {
					it.Errors[err.Error()]++
				} else {
					it.Statuses[status]++
					it.Instances[instance]++
					if *assign {
						it.Assigned[number] = instance
					}
				}
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	it.Seconds = time.Since(start).Seconds()
	return report(it)
}

func one(client *http.Client, target, host string, headers []string, number int) (string, string, error) {
	numbered := func(text string) string { return strings.ReplaceAll(text, "{}", fmt.Sprint(number)) }
	request, err := http.NewRequest(http.MethodGet, numbered(target), nil)
	if err != nil {
		return "", "", err
	}
	if host != "" {
		request.Host = host
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ":")
		request.Header.Set(name, strings.TrimSpace(numbered(value)))
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return "", "", err
	}
	return answer.Header.Get("X-Instance"), fmt.Sprint(answer.StatusCode), nil
}

// list is a flag that may be given again and again.
type list []string

func (l *list) String() string { return strings.Join(*l, ", ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
