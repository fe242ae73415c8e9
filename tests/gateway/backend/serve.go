package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
)

// behaviour is what an instance does instead of serving; the admin port sets it.
type behaviour struct {
	// Status answers every request, but for health checks, with this status.
	Status int `json:"status"`
	// Health answers health checks with this status.
	Health int `json:"health"`
	// DelayMillis is slept before each answer.
	DelayMillis int `json:"delay_ms"`
	// Reset ends every connection that a request comes on.
	Reset bool `json:"reset"`
}

// instance is one back end: its name is in the header X-Instance of all that it answers.
type instance struct {
	name      string
	behaviour atomic.Pointer[behaviour]

	requests, health, inFlight, connections atomic.Int64

	mutex    sync.Mutex
	greatest int64
	byPath   map[string]int64
}

// statistics is what the admin port tells.
type statistics struct {
	Requests         int64            `json:"requests"`
	Health           int64            `json:"health"`
	InFlight         int64            `json:"in_flight"`
	GreatestInFlight int64            `json:"greatest_in_flight"`
	Connections      int64            `json:"connections"`
	ByPath           map[string]int64 `json:"by_path"`
}

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	name := flags.String("name", "backend", "what it calls itself")
	http1 := flags.String("http", "", "address for HTTP/1.1 and h2c")
	grpcAt := flags.String("grpc", "", "address for gRPC")
	admin := flags.String("admin", "", "address for POST /behave and GET /stats")
	certificate := flags.String("cert", "", "serve HTTP over TLS with this certificate, in PEM")
	key := flags.String("key", "", "its key")
	// A pod that ends finishes what it has; one that hangs is killed by its kubelet.
	grace := flags.Duration("grace", 10*time.Second, "how long requests in flight may go on after SIGTERM")
	_ = flags.Parse(arguments)

	it := &instance{name: *name, byPath: map[string]int64{}}
	it.behaviour.Store(&behaviour{})

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           it.counted(it.handler()),
		Protocols:         &protocols,
		ReadHeaderTimeout: time.Minute,
		MaxHeaderBytes:    1 << 20,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				it.connections.Add(1)
			case http.StateClosed, http.StateHijacked:
				it.connections.Add(-1)
			}
		},
	}
	errs := make(chan error, 3)
	if *http1 != "" {
		listener, err := net.Listen("tcp", *http1)
		if err != nil {
			return err
		}
		go func() {
			if *certificate != "" {
				errs <- server.ServeTLS(listener, *certificate, *key)
			} else {
				errs <- server.Serve(listener)
			}
		}()
	}
	var remote *grpc.Server
	if *grpcAt != "" {
		listener, err := net.Listen("tcp", *grpcAt)
		if err != nil {
			return err
		}
		remote = it.grpc()
		go func() { errs <- remote.Serve(listener) }()
	}
	if *admin != "" {
		listener, err := net.Listen("tcp", *admin)
		if err != nil {
			return err
		}
		go func() { errs <- http.Serve(listener, it.admin()) }()
	}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-errs:
		return err
	case <-signals:
	}
	over, cancel := context.WithTimeout(context.Background(), *grace)
	defer cancel()
	if remote != nil {
		stopped := make(chan struct{})
		go func() { remote.GracefulStop(); close(stopped) }()
		defer func() {
			select {
			case <-stopped:
			case <-over.Done():
				remote.Stop()
			}
		}()
	}
	if err := server.Shutdown(over); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// The server forgets connections that speak another protocol by now; an application does not.
	for it.inFlight.Load() > 0 && over.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// counted counts, misbehaves if told so, and names the instance.
func (it *instance) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told := it.behaviour.Load()
		w.Header().Set("X-Instance", it.name)
		if r.URL.Path == "/healthz" {
			it.health.Add(1)
			if told.Health != 0 {
				w.WriteHeader(told.Health)
			}
			return
		}
		it.requests.Add(1)
		now := it.inFlight.Add(1)
		defer it.inFlight.Add(-1)
		it.mutex.Lock()
		it.greatest = max(it.greatest, now)
		if _, known := it.byPath[r.URL.Path]; known || len(it.byPath) < 1000 {
			it.byPath[r.URL.Path]++
		}
		it.mutex.Unlock()
		if told.Reset {
			reset(w)
			return
		}
		if told.DelayMillis > 0 {
			select {
			case <-time.After(time.Duration(told.DelayMillis) * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		if told.Status != 0 {
			http.Error(w, fmt.Sprintf("told to answer %d", told.Status), told.Status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (it *instance) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /behave", func(w http.ResponseWriter, r *http.Request) {
		var told behaviour
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		it.behaviour.Store(&told)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		it.mutex.Lock()
		defer it.mutex.Unlock()
		_ = json.NewEncoder(w).Encode(statistics{
			Requests:         it.requests.Load(),
			Health:           it.health.Load(),
			InFlight:         it.inFlight.Load(),
			GreatestInFlight: it.greatest,
			Connections:      it.connections.Load(),
			ByPath:           it.byPath,
		})
	})
	return mux
}

// grpc is gRPC's own interoperability service with health and reflection; the instance is in the header x-instance.
func (it *instance) grpc() *grpc.Server {
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if info.FullMethod != healthpb.Health_Check_FullMethodName {
				it.requests.Add(1)
			} else {
				it.health.Add(1)
			}
			_ = grpc.SetHeader(ctx, metadata.Pairs("x-instance", it.name))
			return handler(ctx, request)
		}),
		grpc.StreamInterceptor(func(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			it.requests.Add(1)
			_ = stream.SetHeader(metadata.Pairs("x-instance", it.name))
			return handler(service, stream)
		}),
	)
	testpb.RegisterTestServiceServer(server, interop.NewTestServer())
	healthpb.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	return server
}
