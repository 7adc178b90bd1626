package lab

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// ReplyError is an error that a server answered, as in "WRONGTYPE Operation against …".
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// client is a minimal RESP2 client: one connection, one command at a time. Its zero value with an address is ready.
type client struct {
	addr     string
	password string
	tls      *tls.Config // nil: plain
	timeout  time.Duration

	mu   sync.Mutex
	conn net.Conn // nil until needed, and again after any failure
	r    *bufio.Reader
}

// do sends one command. Whatever goes wrong short of an error reply costs the connection; the next command makes a new one.
// A command is never sent twice.
func (c *client) do(args ...string) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		if err := c.connect(); err != nil {
			return nil, err
		}
	}
	return c.exchange(args)
}

func (c *client) connect() error {
	d := &net.Dialer{Timeout: c.timeout}
	var err error
	if c.tls != nil {
		c.conn, err = tls.DialWithDialer(d, "tcp", c.addr, c.tls)
	} else {
		c.conn, err = d.Dial("tcp", c.addr)
	}
	if err != nil {
		c.conn = nil // tls.DialWithDialer returns a typed nil
		return fmt.Errorf("lab: %w", err)
	}
	c.r = bufio.NewReader(c.conn)
	if c.password != "" {
		if _, err := c.exchange([]string{"AUTH", c.password}); err != nil {
			c.drop()
			return err
		}
	}
	return nil
}

// exchange needs c.mu and a connection.
func (c *client) exchange(args []string) (any, error) {
	_ = c.conn.SetDeadline(time.Now().Add(c.timeout))
	_, err := c.conn.Write(appendCommand(nil, args))
	var reply any
	if err == nil {
		reply, err = readReply(c.r)
	}
	if err != nil {
		c.drop()
		return nil, fmt.Errorf("lab: %s %s: %w", c.addr, args[0], err)
	}
	if e, ok := reply.(ReplyError); ok {
		return nil, e
	}
	return reply, nil
}

func (c *client) drop() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

func appendCommand(b []byte, args []string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

var errProtocol = errors.New("not a RESP2 reply")

func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, errProtocol
	}
	kind, line := line[0], line[1:len(line)-2]
	switch kind {
	case '+':
		return line, nil
	case '-':
		return ReplyError(line), nil
	}
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return nil, errProtocol
	}
	switch {
	case kind == ':':
		return n, nil
	case kind != '$' && kind != '*':
		return nil, errProtocol
	case n < 0:
		return nil, nil
	case kind == '$':
		bulk := make([]byte, n+2)
		if _, err := io.ReadFull(r, bulk); err != nil {
			return nil, err
		}
		return string(bulk[:n]), nil
	}
	array := make([]any, n)
	for i := range array {
		if array[i], err = readReply(r); err != nil {
			return nil, err
		}
	}
	return array, nil
}
