package ctxlock

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// Client-side caching is what brings events: with CLIENT TRACKING in OPTOUT mode, a server remembers which keys a connection
// has read and tells it once when one of them changes. A read registers a key and a write does not, so every command of the
// store that writes a key reads its TTL after that, in the same pipeline. Everything about a key goes over the one
// connection to its node, since another one would not be told.

// tracker prepares a client for tracking and finds out whether it really tracks.
type tracker struct {
	noLoop  bool
	notify  func([]valkey.ValkeyMessage) // the user's own callback, or nil
	lost    func()                       // called when a connection was lost
	life    context.Context              // ends with the store
	end     context.CancelFunc
	dials   atomic.Int64                      // attempts to connect
	words   atomic.Int64                      // of the client, that a connection was lost or a server emptied
	breaks  atomic.Int64                      // connections that broke, of each of which the client gives its word, soon after
	closing atomic.Bool                       // the store is being closed
	events  atomic.Pointer[func(store.Event)] // nil until somebody subscribes
	probing atomic.Pointer[func(store.Event)] // is told as well; nil unless tracks runs

	mu     sync.Mutex
	closed bool                     // no more connections
	open   map[*connection]struct{} // those that there are
	dialed chan struct{}            // closed, and replaced, when a connection is made
}

// keepAlive is the Dialer.KeepAlive of clients for which none is set.
const keepAlive = 2 * time.Second

// prepare sets on a copy of option what the locker needs.
func (t *tracker) prepare(option valkey.ClientOption) valkey.ClientOption {
	option.InitAddress = slices.Clone(option.InitAddress) // the client may shuffle it
	option.PipelineMultiplex = -1                         // one connection for each node
	option.BlockingPipeline = -1                          // and large batches take no other
	option.DisableAutoPipelining = false
	if option.RingScaleEachConn > 0 {
		option.RingScaleEachConn = max(option.RingScaleEachConn, leastRingScale)
	}
	// The client sends a PING when it has heard nothing for a KeepAlive, of 1s by default. With that a waiter that has nothing to do
	// costs the server more than one command a second.
	if option.Dialer.KeepAlive == 0 {
		option.Dialer.KeepAlive = keepAlive
		if option.ConnWriteTimeout == 0 {
			option.ConnWriteTimeout = 10 * valkey.DefaultTCPKeepAlive // as it would be without that
		}
	}
	// The engine asks again by itself, and knows when to give up; the client would go on until its context ends, and hide why.
	option.DisableRetry = true
	// Without pipelining the client closes a connection when a call's context ends, and the answers on it are lost.
	option.AlwaysPipelining = true
	if option.SendToReplicas != nil {
		option.SendToReplicas = func(valkey.Completed) bool { return false }
	}
	option.DialCtxFn = t.dialer(option)
	if option.DisableCache {
		return option
	}
	option.ClientTrackingOptions = []string{"OPTOUT"}
	if t.noLoop {
		option.ClientTrackingOptions = []string{"OPTOUT", "NOLOOP"}
	}
	t.notify = option.OnInvalidations
	option.OnInvalidations = t.onInvalidations
	return option
}

// connection is one of the client's.
type connection struct {
	net.Conn
	tracker *tracker
	broken  sync.Once
}

// Read is net.Conn's. A connection that fails is told of here for clients without tracking, which do not tell, and sooner for others.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.broken.Do(func() { c.tracker.breaks.Add(1) })
		c.tracker.lost()
	}
	return n, err
}

// Close is net.Conn's. What was written to a connection that is given up is not to arrive after what comes on the next one: an old extension
// would cut the life of the key that a new one has prolonged. So unless the store is being closed, the system drops it.
func (c *connection) Close() error {
	if tcp := c.tcp(); tcp != nil && !c.tracker.closing.Load() {
		_ = tcp.SetLinger(0)
	}
	c.tracker.mu.Lock()
	delete(c.tracker.open, c)
	c.tracker.mu.Unlock()
	return c.Conn.Close()
}

// tcp is the connection beneath; nil if that is of another kind.
func (c *connection) tcp() *net.TCPConn {
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// dialer connects as the client would by itself, and more: what it could not connect was certainly not sent, and a client
// that is closed while it connects (valkey-go v1.0.79) keeps the connection for ever unless somebody else closes it.
func (t *tracker) dialer(option valkey.ClientOption) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	byContext, plain := option.DialCtxFn, option.DialFn
	return func(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (conn net.Conn, err error) {
		t.dials.Add(1)
		t.lost() // calls that come while the client connects would wait for that
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(t.life, cancel)()
		switch {
		case byContext != nil:
			conn, err = byContext(ctx, address, dialer, config)
		case plain != nil:
			conn, err = plain(address, dialer, config)
		case config != nil:
			conn, err = (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", address)
		default:
			conn, err = dialer.DialContext(ctx, "tcp", address)
		}
		if err != nil {
			return nil, unsent{err}
		}
		if tcp, ok := conn.(*net.TCPConn); ok && option.DisableTCPNoDelay {
			_ = tcp.SetNoDelay(false) // the client can do this only to a connection that it knows
		}
		own := &connection{Conn: conn, tracker: t}
		if !t.note(own) {
			own.Close()
			return nil, unsent{valkey.ErrClosing}
		}
		return own, nil
	}
}

// pause waits before something that failed is tried again: for a time, or until another request has connected. It reports
// false if the store is closed.
func (t *tracker) pause(d time.Duration) bool {
	t.mu.Lock()
	dialed := t.dialed
	t.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-dialed:
		return true
	case <-t.life.Done():
		return false
	}
}

// note books a new connection. It reports false once the tracker is closed.
func (t *tracker) note(conn *connection) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.open == nil {
		t.open = make(map[*connection]struct{})
	}
	t.open[conn] = struct{}{}
	close(t.dialed)
	t.dialed = make(chan struct{})
	return true
}

// close ends all connections, those that are being made as well.
func (t *tracker) close() {
	t.end()
	t.mu.Lock()
	t.closed = true
	open := slices.Collect(maps.Keys(t.open))
	t.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close()
	}
}

// unsent is an error of connecting: nothing was sent.
type unsent struct{ error }

func (u unsent) Unwrap() []error { return []error{u.error, errUnsent} }

// onInvalidations is called by the client, on the goroutine that reads a connection; nil means that the connection was lost,
// and with it what its server remembered; or that the server was emptied.
func (t *tracker) onInvalidations(messages []valkey.ValkeyMessage) {
	if messages == nil {
		t.words.Add(1)
		t.lost()
		t.send(store.Event{All: true})
	}
	for i := range messages {
		if key, err := messages[i].ToString(); err == nil {
			t.send(store.Event{Key: key})
		}
	}
	if t.notify != nil {
		t.notify(messages)
	}
}

func (t *tracker) send(event store.Event) {
	if probing := t.probing.Load(); probing != nil {
		(*probing)(event)
	}
	if events := t.events.Load(); events != nil {
		(*events)(event)
	}
}

var (
	errCacheDisabled = errors.New("there is no client-side caching: ClientOption.DisableCache is set")
	errNotPrepared   = errors.New("there is no client-side caching: ClientBuilder has built a client from " +
		"another ClientOption than it was given, so the Locker is not told of changes")
)

// tracks finds out whether the client brings events. One that was not built from the prepared options does not: it has
// tracking off, or in another mode, or calls somebody else. probe is a key that nobody uses. Its error is why not, or why
// that is not known.
func (t *tracker) tracks(ctx context.Context, client valkey.Client, probe string) error {
	info := client.Do(ctx, client.B().ClientTrackinginfo().Build())
	if err := info.Error(); !isAnswer(err) {
		return err
	}
	if fields, err := info.AsMap(); err == nil {
		flags := fields["flags"]
		modes, err := flags.AsStrSlice()
		if err == nil && (!slices.Contains(modes, "on") || !slices.Contains(modes, "optout")) {
			return store.Permanent(errNotPrepared)
		}
	}
	// CLIENT TRACKINGINFO is not to be had everywhere (6.2, and a permission), and does not tell whom the client calls.
	heard, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	listen := func(event store.Event) {
		word := heard
		switch {
		case event.All:
			word = gone
		case event.Key != probe:
			return
		}
		select {
		case word <- struct{}{}:
		default:
		}
	}
	t.probing.Store(&listen)
	defer t.probing.Store(nil)
	if t.noLoop {
		return hears(ctx, client, probe, heard, gone)
	}
	return echoes(ctx, client, probe, heard)
}

// hearingTime is how long word of a change may take after the answer to the command that follows it: a connection brings
// both in order, but not on one goroutine.
const hearingTime = 100 * time.Millisecond

// echoes changes a key and finds out whether word of that comes back.
func echoes(ctx context.Context, client valkey.Client, probe string, heard <-chan struct{}) error {
	err := firstError(client.DoMulti(ctx,
		client.B().Pttl().Key(probe).Build(),
		client.B().Set().Key(probe).Value("1").PxMilliseconds(probeTime.Milliseconds()).Build(),
		client.B().Del().Key(probe).Build()))
	if err != nil {
		return err
	}
	if !within(hearingTime, heard) {
		return store.Permanent(errNotPrepared)
	}
	return nil
}

// hears changes a key on another connection, since with NOLOOP the one that makes a change is not told of it, and finds out
// whether word of that arrives. It returns when word of the end of that connection has arrived, too, lest that be taken for another's.
func hears(ctx context.Context, client valkey.Client, probe string, heard, gone <-chan struct{}) error {
	look := func() error { return client.Do(ctx, client.B().Pttl().Key(probe).Build()).Error() }
	if err := look(); err != nil {
		return err
	}
	other, giveBack := client.Dedicate()
	defer giveBack()
	err := firstError(other.DoMulti(ctx,
		other.B().Set().Key(probe).Value("1").PxMilliseconds(probeTime.Milliseconds()).Build(),
		other.B().Del().Key(probe).Build()))
	if err == nil {
		err = look() // the word of the change came before its answer
	}
	if err != nil {
		return err
	}
	if !within(hearingTime, heard) {
		return store.Permanent(errNotPrepared)
	}
	other.Close() // it would be kept for later
	within(hearingTime, gone)
	return nil
}

// firstError is the first of some results that is an error.
func firstError(results []valkey.ValkeyResult) error {
	for i := range results {
		if err := results[i].Error(); err != nil && !valkey.IsValkeyNil(err) {
			return err
		}
	}
	return nil
}

// within waits for word for a time.
func within(d time.Duration, heard <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-heard:
		return true
	case <-timer.C:
		return false
	}
}
