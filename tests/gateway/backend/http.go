package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// echo is what arrived; the answer to any path that has no meaning of its own.
type echo struct {
	Instance   string      `json:"instance"`
	Method     string      `json:"method"`
	Target     string      `json:"target"`
	Host       string      `json:"host"`
	Protocol   string      `json:"protocol"`
	Headers    http.Header `json:"headers"`
	Length     int64       `json:"content_length"`
	Bytes      int64       `json:"body_bytes"`
	SHA256     string      `json:"body_sha256"`
	Trailers   http.Header `json:"trailers"`
	Connection string      `json:"connection"`
}

func (it *instance) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code := number(r.PathValue("code"))
		if code != http.StatusNoContent && code != http.StatusNotModified {
			w.Header().Set("Content-Type", "text/plain")
		}
		w.WriteHeader(code)
	})
	mux.HandleFunc("/delay/{millis}", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(time.Duration(number(r.PathValue("millis"))) * time.Millisecond):
			it.echo(w, r)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/bytes/{count}", func(w http.ResponseWriter, r *http.Request) {
		count := number(r.PathValue("count"))
		w.Header().Set("Content-Length", strconv.Itoa(count))
		_, _ = io.CopyN(w, repeating{}, int64(count))
	})
	mux.HandleFunc("/stream", stream)
	mux.HandleFunc("/duplex", duplex)
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "a body before its trailers")
		w.Header().Set("X-Sum", "26")
	})
	mux.HandleFunc("/cookies", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2; Path=/")
	})
	mux.HandleFunc("/hop", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "for the next hop alone")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("X-Public", "for all")
	})
	// Answers at once and reads nothing.
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) { reset(w) })
	// Promises a hundred bytes and ends after fifty.
	mux.HandleFunc("/half", func(w http.ResponseWriter, _ *http.Request) {
		raw(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"+strings.Repeat("x", 50))
	})
	mux.HandleFunc("/garbage", func(w http.ResponseWriter, _ *http.Request) {
		raw(w, "this is no HTTP\r\n\r\n")
	})
	mux.HandleFunc("/ambiguous", func(w http.ResponseWriter, _ *http.Request) {
		raw(w, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello")
	})
	mux.HandleFunc("/interim", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		it.echo(w, r)
	})
	mux.HandleFunc("/upgrade", upgrade)
	mux.HandleFunc("/ws", webSocket)
	mux.HandleFunc("/", it.echo)
	return mux
}

func (it *instance) echo(w http.ResponseWriter, r *http.Request) {
	digest := sha256.New()
	bytes, err := io.Copy(digest, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", "1234")
		return
	}
	_ = json.NewEncoder(w).Encode(echo{
		Instance: it.name, Method: r.Method, Target: r.RequestURI, Host: r.Host, Protocol: r.Proto, Headers: r.Header,
		Length: r.ContentLength, Bytes: bytes, SHA256: hex.EncodeToString(digest.Sum(nil)), Trailers: r.Trailer,
		Connection: r.RemoteAddr,
	})
}

// stream sends as many numbered lines as asked for, each at once.
func stream(w http.ResponseWriter, r *http.Request) {
	chunks, millis := number(r.FormValue("chunks")), number(r.FormValue("interval_ms"))
	control := http.NewResponseController(w)
	for chunk := range chunks {
		if chunk > 0 {
			select {
			case <-time.After(time.Duration(millis) * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
		if _, err := io.WriteString(w, strconv.Itoa(chunk)+"\n"); err != nil || control.Flush() != nil {
			return
		}
	}
}

// duplex gives back what comes as it comes.
func duplex(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	_ = control.Flush()
	buffer := make([]byte, 32<<10)
	for {
		count, err := r.Body.Read(buffer)
		if count > 0 {
			if _, failed := w.Write(buffer[:count]); failed != nil || control.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// upgrade switches to a protocol of its own, in which every byte comes back.
func upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "echo" {
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusUpgradeRequired)
		return
	}
	connection, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer connection.Close()
	_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(connection, buffered)
}

func webSocket(w http.ResponseWriter, r *http.Request) {
	connection, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"echo"}})
	if err != nil {
		return
	}
	defer connection.CloseNow()
	connection.SetReadLimit(1 << 20)
	for {
		kind, message, err := connection.Read(r.Context())
		if err != nil {
			return
		}
		if connection.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

// reset ends the connection as a killed process does.
func reset(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		// HTTP/2: the stream alone.
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = connection.Close()
}

// raw writes these bytes instead of an answer, and ends the connection.
func raw(w http.ResponseWriter, bytes string) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer connection.Close()
	_, _ = io.WriteString(connection, bytes)
}

func number(text string) int {
	value, _ := strconv.Atoi(text)
	return value
}

// repeating is an endless body.
type repeating struct{}

func (repeating) Read(buffer []byte) (int, error) {
	for at := range buffer {
		buffer[at] = 'a' + byte(at%26)
	}
	return len(buffer), nil
}
