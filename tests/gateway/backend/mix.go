package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// outcomes of one kind of traffic.
type outcomes struct {
	Ok       int64            `json:"ok"`
	Failed   int64            `json:"failed"`
	Failures map[string]int64 `json:"failures"`
	// Slowest success, in milliseconds.
	Slowest float64 `json:"slowest_ms"`
}

// tally collects outcomes by kind.
type tally struct {
	mutex sync.Mutex
	kinds map[string]*outcomes
}

func (t *tally) add(kind string, took time.Duration, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	it, known := t.kinds[kind]
	if !known {
		it = &outcomes{Failures: map[string]int64{}}
		t.kinds[kind] = it
	}
	if err == nil {
		it.Ok++
		it.Slowest = max(it.Slowest, float64(took.Microseconds())/1000)
		return
	}
	it.Failed++
	what := err.Error()
	// Ports of this client make each failure different.
	if at := strings.Index(what, "127.0.0.1:"); at >= 0 && strings.Contains(what, "->") {
		what = what[strings.LastIndex(what, ": ")+2:]
	}
	if len(it.Failures) < 50 || it.Failures[what] > 0 {
		it.Failures[what]++
	}
}

// worker repeats one kind of act on a connection of its own until the context ends.
type worker struct {
	target  *url.URL
	address string
	pause   time.Duration
	client  *http.Client
	remote  testpb.TestServiceClient
	body    []byte
	sum     string
}

// Each act fails by itself after this long.
const patience = 15 * time.Second

func mix(arguments []string) error {
	flags := flag.NewFlagSet("mix", flag.ExitOnError)
	target := flags.String("url", "", "the gateway, as http://ADDRESS")
	remote := flags.String("grpc", "", "the gateway's address for gRPC")
	connections := flags.Int("connections", 200, "how many, dealt out to the kinds in turn")
	seconds := flags.Float64("seconds", 10, "for how long; SIGTERM ends it sooner")
	kinds := flags.String("kinds", "get,post,stream,grpc,grpc-stream,ws", "which kinds of traffic")
	pause := flags.Duration("pause", 5*time.Millisecond, "between two acts of a connection")
	_ = flags.Parse(arguments)
	at, err := url.Parse(*target)
	if err != nil {
		return err
	}
	acts := map[string]func(*worker, context.Context) error{
		"get": (*worker).get, "post": (*worker).post, "stream": (*worker).stream, "grpc": (*worker).unary,
		"grpc-stream": (*worker).pingPong, "ws": (*worker).webSocket,
	}
	names := strings.Split(*kinds, ",")
	over, cancel := context.WithTimeout(context.Background(), time.Duration(*seconds*float64(time.Second)))
	defer cancel()
	over, stop := signal.NotifyContext(over, syscall.SIGTERM)
	defer stop()

	tally := tally{kinds: map[string]*outcomes{}}
	var group sync.WaitGroup
	for number := range *connections {
		kind := names[number%len(names)]
		act, known := acts[kind]
		if !known {
			return fmt.Errorf("there is no kind %q", kind)
		}
		worker, err := newWorker(at, *remote, *pause, number)
		if err != nil {
			return err
		}
		group.Go(func() {
			for over.Err() == nil {
				// What has begun is finished, so that the end of the load is no failure.
				ctx, done := context.WithTimeout(context.Background(), patience)
				start := time.Now()
				err := act(worker, ctx)
				done()
				tally.add(kind, time.Since(start), err)
				time.Sleep(worker.pause)
			}
		})
	}
	fmt.Fprintln(os.Stderr, "running")
	group.Wait()
	return report(tally.kinds)
}

func newWorker(target *url.URL, remote string, pause time.Duration, number int) (*worker, error) {
	body := bytes.Repeat([]byte(fmt.Sprintf("%07d\n", number)), 2048)
	sum := sha256.Sum256(body)
	it := &worker{
		target: target, address: remote, pause: pause, body: body, sum: hex.EncodeToString(sum[:]),
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1, DisableCompression: true,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		}},
	}
	if remote != "" {
		connection, err := grpc.NewClient("passthrough:///"+remote, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		it.remote = testpb.NewTestServiceClient(connection)
	}
	return it, nil
}

func (w *worker) ask(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, w.target.String()+path, body)
	if err != nil {
		return nil, err
	}
	answer, err := w.client.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		_ = answer.Body.Close()
		return nil, fmt.Errorf("status %d: %s", answer.StatusCode, strings.TrimSpace(string(text)))
	}
	return answer, nil
}

// echoed verifies what arrived.
func (w *worker) echoed(answer *http.Response, sum string) error {
	defer answer.Body.Close()
	var arrived echo
	if err := json.NewDecoder(answer.Body).Decode(&arrived); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if arrived.SHA256 != sum {
		return fmt.Errorf("another body arrived than was sent")
	}
	// To its end, so that the connection is used again.
	_, err := io.Copy(io.Discard, answer.Body)
	return err
}

func (w *worker) get(ctx context.Context) error {
	answer, err := w.ask(ctx, http.MethodGet, "/mix", nil)
	if err != nil {
		return err
	}
	nothing := sha256.Sum256(nil)
	return w.echoed(answer, hex.EncodeToString(nothing[:]))
}

func (w *worker) post(ctx context.Context) error {
	answer, err := w.ask(ctx, http.MethodPost, "/mix", bytes.NewReader(w.body))
	if err != nil {
		return err
	}
	return w.echoed(answer, w.sum)
}

func (w *worker) stream(ctx context.Context) error {
	const lines = 20
	answer, err := w.ask(ctx, http.MethodGet, fmt.Sprintf("/stream?chunks=%d&interval_ms=10", lines), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	scanner := bufio.NewScanner(answer.Body)
	line := 0
	for scanner.Scan() {
		if scanner.Text() != fmt.Sprint(line) {
			return fmt.Errorf("line %d is %q", line, scanner.Text())
		}
		line++
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	if line != lines {
		return fmt.Errorf("the stream ended too early, as if it were whole")
	}
	return nil
}

func (w *worker) unary(ctx context.Context) error {
	answer, err := w.remote.UnaryCall(ctx, &testpb.SimpleRequest{
		ResponseSize: 1000, Payload: &testpb.Payload{Body: w.body[:2000]},
	})
	if err != nil {
		return grpcFailure(err)
	}
	if len(answer.GetPayload().GetBody()) != 1000 {
		return fmt.Errorf("a payload of %d bytes", len(answer.GetPayload().GetBody()))
	}
	return nil
}

func (w *worker) pingPong(ctx context.Context) error {
	stream, err := w.remote.FullDuplexCall(ctx)
	if err != nil {
		return grpcFailure(err)
	}
	for range 10 {
		request := &testpb.StreamingOutputCallRequest{
			ResponseParameters: []*testpb.ResponseParameters{{Size: 100}}, Payload: &testpb.Payload{Body: w.body[:100]},
		}
		if err := stream.Send(request); err != nil && err != io.EOF {
			return grpcFailure(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			return grpcFailure(err)
		}
		if len(answer.GetPayload().GetBody()) != 100 {
			return fmt.Errorf("a payload of %d bytes", len(answer.GetPayload().GetBody()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := stream.CloseSend(); err != nil {
		return grpcFailure(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("the end of the stream: %w", err)
	}
	return nil
}

func grpcFailure(err error) error {
	it := status.Convert(err)
	if it.Code() == codes.OK {
		return err
	}
	return fmt.Errorf("grpc %s: %s", it.Code(), it.Message())
}

func (w *worker) webSocket(ctx context.Context) error {
	connection, _, err := websocket.Dial(ctx, strings.Replace(w.target.String(), "http", "ws", 1)+"/ws", nil)
	if err != nil {
		return err
	}
	defer connection.CloseNow()
	for number := range 20 {
		message := fmt.Sprintf("message %d", number)
		if err := connection.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		_, back, err := connection.Read(ctx)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if string(back) != message {
			return fmt.Errorf("%q came back as %q", message, back)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return connection.Close(websocket.StatusNormalClosure, "")
}
