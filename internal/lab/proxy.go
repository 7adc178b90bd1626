package lab

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Direction is a way through a proxy: up from client to server, or down.
type Direction int

const (
	Up Direction = 1 << iota
	Down
	Both = Up | Down
)

// Action is what shall become of one command; see [Proxy.OnCommand].
type Action int

const (
	// Pass forwards the command.
	Pass Action = iota
	// CutBefore cuts the connection before the server has seen the command. What went before it has been sent to the server;
	// replies to that may be lost.
	CutBefore
	// CutAfter forwards the command and cuts the connection when its reply arrives, in place of that reply: the command was
	// executed and the client cannot know. Earlier replies are delivered, later commands of the connection never sent.
	CutAfter
	// StallAfter forwards the command and holds what comes down this connection, from the reply on, until Heal. The command is
	// executed at once.
	StallAfter
)

// Proxy stands between clients and one TCP server, on a loopback port of its own, and is a network that fails on demand.
// Everything can be changed at any moment and holds for the connections that exist and for those to come. Its methods are
// safe for concurrent use. Close ends it.
//
// Commands are recognised in plain RESP2 and RESP3. A connection that speaks something else (TLS) passes through like any
// other; only OnCommand does not see it.
type Proxy struct {
	target string
	ln     net.Listener
	wg     sync.WaitGroup // the goroutines of accept and of all links

	hookMu sync.Mutex // held while a hook runs, so that hooks need no locks among themselves

	// forge gives the command that is sent in a command's place, nil for the command itself; see Liar. It runs under hookMu.
	// Nil in an honest proxy.
	forge func(args []string) []string

	// Writers hold mu for reading while they write, so that Stall and Cut take effect before they return: afterwards not one
	// byte more is on its way. A write may block, hence writeSlice.
	mu       sync.RWMutex
	stalled  Direction
	delay    time.Duration
	refuse   bool
	hook     func(args []string) Action
	heals    int           // how often Heal was called
	changed  chan struct{} // closed, and replaced, when stalled or heals change
	links    map[*link]struct{}
	accepted int
	closed   bool
}

// writeSlice is how long a writer may keep mu: what Stall has to wait for at most when a server is frozen and its socket full.
const writeSlice = 10 * time.Millisecond

// NewProxy returns a proxy that passes everything on to target. The target need not run yet: it is dialled for each
// connection that is accepted.
func NewProxy(target string) (*Proxy, error) { return newProxy(target, nil) }

func newProxy(target string, forge func(args []string) []string) (*Proxy, error) {
	ln, err := listen()
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, ln: ln, forge: forge, changed: make(chan struct{}), links: make(map[*link]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// listen listens on a free port. One that was free a moment ago may be taken: others look for ports, too.
func listen() (ln net.Listener, err error) {
	for range 20 {
		var port int
		if port, err = freePort(); err != nil {
			return nil, err
		}
		if ln, err = net.Listen("tcp", loopback(port)); err == nil {
			return ln, nil
		}
	}
	return nil, err
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Accepted is the number of connections so far, those that were refused not counted.
func (p *Proxy) Accepted() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.accepted
}

// Open is the number of connections now.
func (p *Proxy) Open() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.links)
}

// Stall holds all bytes that go in d. None is lost: they flow after Heal, in order. Connections are still accepted, and a
// sender is slowed down only once it is maxHeld ahead. Ends of connections are held like bytes.
func (p *Proxy) Stall(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled |= d
	p.announce()
}

// Heal ends every stall, those of [StallAfter] too.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = 0
	p.heals++
	p.announce()
}

// announce needs p.mu.
func (p *Proxy) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Delay makes every byte take d longer each way, as on a longer line: any number can be under way at once. Bytes already
// under way are not affected.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Refuse makes the proxy close new connections at once, or accept them again.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// OnCommand sets what decides about each command that arrives from now on; nil passes all. It is called in the order of
// arrival within a connection, before any delay or stall, for one command at a time over all connections. It may call the
// proxy's other methods but not Close.
//
// Replies are told from each other by counting them. The count holds for requests with one reply, for pushes and for
// subscriptions in RESP3; it does not on a connection that subscribes in RESP2, monitors, or turns replies off.
func (p *Proxy) OnCommand(hook func(args []string) Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// Cut resets all connections. Bytes under way are lost. New connections are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// Close cuts all connections and stops listening. When it returns, no goroutine of the proxy is left. Further calls do
// nothing.
func (p *Proxy) Close() {
	_ = p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.cut()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// accept ends when the listener is closed.
func (p *Proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, say: that passes
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if l := p.admit(conn.(*net.TCPConn)); l != nil {
			p.wg.Go(l.run)
		}
	}
}

// admit makes a link of a new connection, or closes it and returns nil.
func (p *Proxy) admit(conn *net.TCPConn) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		reset(conn)
		return nil
	}
	p.accepted++
	l := newLink(p, conn)
	p.links[l] = struct{}{}
	return l
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// decide asks the hook about a command. heals is the number of Heal calls before it was asked: a stall that it wants does
// not outlive a later one.
func (p *Proxy) decide(args []string) (a Action, heals int) {
	p.hookMu.Lock()
	defer p.hookMu.Unlock()
	p.mu.RLock()
	hook, heals := p.hook, p.heals
	p.mu.RUnlock()
	if hook == nil {
		return Pass, heals
	}
	return hook(args), heals
}

// forged is the command to send in a command's place, or nil.
func (p *Proxy) forged(args []string) []byte {
	if p.forge == nil {
		return nil
	}
	p.hookMu.Lock()
	defer p.hookMu.Unlock()
	other := p.forge(args)
	if other == nil {
		return nil
	}
	return appendCommand(nil, other)
}

func (p *Proxy) hooked() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.hook != nil
}

// due is when a byte that arrives now may leave.
func (p *Proxy) due() time.Time {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return time.Now().Add(p.delay)
}

// reset closes a connection so that the other end notices a failure, not an orderly end.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
