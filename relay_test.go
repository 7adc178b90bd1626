package ctxlock_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// relay stands in front of a real server and answers some commands itself: how servers look to a locker that are loading,
// older than they were a moment ago, or mad.
type relay struct {
	net.Listener
	target string
	says   atomic.Pointer[func(command []string) string]
	work   sync.WaitGroup
	mu     sync.Mutex
	conns  []net.Conn
}

// newRelay starts a relay that passes everything on.
func newRelay(to *lab.Server) *relay {
	GinkgoHelper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	r := &relay{Listener: ln, target: to.Addr()}
	r.passOn()
	r.work.Go(r.accept)
	DeferCleanup(r.stop)
	return r
}

// say makes the relay give the answer that f returns, raw RESP, in place of the server's, which does not see the command.
// An empty answer passes the command on.
func (r *relay) say(f func(command []string) string) { r.says.Store(&f) }

// passOn lets the server speak for itself again.
func (r *relay) passOn() { r.say(func([]string) string { return "" }) }

// address is where clients connect.
func (r *relay) address() string { return r.Listener.Addr().String() }

func (r *relay) stop() {
	r.Listener.Close()
	r.mu.Lock()
	for _, conn := range r.conns {
		conn.Close()
	}
	r.conns = append(r.conns, nil)[:0:0]
	r.mu.Unlock()
	r.work.Wait()
}

func (r *relay) accept() {
	for {
		client, err := r.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.target)
		if err != nil {
			client.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, client, server)
		r.mu.Unlock()
		r.work.Go(func() { r.serve(client, server) })
	}
}

// subscribed begins the push that is the answer to SUBSCRIBE.
var subscribed = []byte(">3\r\n$9\r\nsubscribe\r\n")

// serve carries one command at a time, so that answers of its own cannot overtake the server's. Pushes pass as they come.
func (r *relay) serve(client, server net.Conn) {
	defer client.Close()
	var down sync.Mutex // guards writing to client
	answers := make(chan []byte)
	over := make(chan struct{})
	r.work.Go(func() {
		defer close(answers)
		defer client.Close()
		from := bufio.NewReader(server)
		for {
			value, err := rawValue(from)
			switch {
			case err != nil:
				return
			case value[0] == '>' && !bytes.HasPrefix(value, subscribed):
				down.Lock()
				client.Write(value)
				down.Unlock()
			default:
				select {
				case answers <- value:
				case <-over:
					return
				}
			}
		}
	})
	defer server.Close()
	defer close(over)
	from := bufio.NewReader(client)
	for {
		raw, err := rawValue(from)
		if err != nil {
			return
		}
		answer := []byte((*r.says.Load())(commandOf(raw)))
		if len(answer) == 0 {
			if _, err := server.Write(raw); err != nil {
				return
			}
			var ok bool
			if answer, ok = <-answers; !ok {
				return
			}
		}
		down.Lock()
		client.Write(answer)
		down.Unlock()
	}
}

// rawValue reads one RESP value as it is.
func rawValue(from *bufio.Reader) ([]byte, error) {
	line, err := from.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	n, _ := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	switch line[0] {
	case '$', '=', '!':
		if n < 0 {
			return line, nil
		}
		body := make([]byte, n+2)
		_, err := io.ReadFull(from, body)
		return append(line, body...), err
	case '%', '|':
		n *= 2
	case '*', '~', '>':
	default:
		return line, nil
	}
	for range n {
		part, err := rawValue(from)
		if err != nil {
			return nil, err
		}
		line = append(line, part...)
	}
	return line, nil
}

// commandOf gives the parts of a command.
func commandOf(raw []byte) (parts []string) {
	from := bufio.NewReader(bytes.NewReader(raw))
	from.ReadBytes('\n')
	for {
		value, err := rawValue(from)
		if err != nil {
			return parts
		}
		_, body, _ := strings.Cut(string(value), "\r\n")
		parts = append(parts, strings.TrimSuffix(body, "\r\n"))
	}
}
